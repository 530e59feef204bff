"""VICReg, 1000 epochs, batch 2048 (Bardes et al., ICLR 2022); not in Table 1 of the supplement.

Container: a flat state dict of the backbone alone. Keys: torchvision's own, without `fc`.
Several publishers call their file `resnet50.pth`, so it is renamed here.
Preprocessing: ImageNet mean and standard deviation.
"""

from adbench.backbones.pretraining import Pretraining, register

register("vicreg")(
    Pretraining(
        name="vicreg",
        file="vicreg_resnet50.pth",
        url="https://dl.fbaipublicfiles.com/vicreg/resnet50.pth",
        source="https://github.com/facebookresearch/vicreg",
        license="CC-BY-NC-4.0",
        megabytes=94,
    )
)
