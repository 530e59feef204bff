"""Barlow Twins, 1000 epochs, batch 2048 (Zbontar et al., ICML 2021); not in Table 1 of the supplement.

Container: a flat state dict of the backbone alone. Keys: torchvision's own, without `fc`.
Several publishers call their file `resnet50.pth`, so it is renamed here.
Preprocessing: ImageNet mean and standard deviation.
"""

from adbench.backbones.pretraining import Pretraining, register

register("barlowtwins")(
    Pretraining(
        name="barlowtwins",
        file="barlowtwins_resnet50.pth",
        url="https://dl.fbaipublicfiles.com/barlowtwins/ljng/resnet50.pth",
        source="https://github.com/facebookresearch/barlowtwins",
        license="MIT",
        megabytes=94,
    )
)
