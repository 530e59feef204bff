"""Supervised classification of ImageNet: torchvision's `ResNet50_Weights.IMAGENET1K_V2`.

Container: a flat state dict. Keys: torchvision's own; `fc` (the classifier) is dropped.
Preprocessing: ImageNet mean and standard deviation.
"""

from adbench.backbones.pretraining import Pretraining, register

register("supervised")(
    Pretraining(
        name="supervised",
        file="resnet50-11ad3fa6.pth",
        url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
        source="https://github.com/pytorch/vision",
        license="BSD-3-Clause",
        megabytes=103,
        sha256_prefix="11ad3fa6",
    )
)
