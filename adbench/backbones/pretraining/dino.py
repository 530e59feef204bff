"""DINO, ResNet-50, 800 epochs (Caron et al., ICCV 2021); not in Table 1 of the supplement.

Container: a flat state dict of the teacher's backbone alone. Keys: torchvision's own, without `fc`.
Preprocessing: ImageNet mean and standard deviation.
"""

from adbench.backbones.pretraining import Pretraining, register

register("dino")(
    Pretraining(
        name="dino",
        file="dino_resnet50_pretrain.pth",
        url="https://dl.fbaipublicfiles.com/dino/dino_resnet50_pretrain/dino_resnet50_pretrain.pth",
        source="https://github.com/facebookresearch/dino",
        license="Apache-2.0",
        megabytes=94,
    )
)
