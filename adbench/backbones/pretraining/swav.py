"""SwAV, 800 epochs, batch 4096, crops 2x224 + 6x96 (Caron et al., NeurIPS 2020).

Container: a flat state dict. Keys: `module.*` is kept without the prefix, but `projection_head` and `prototypes` are
dropped. The authors pad in a separate layer instead of `conv1`, which gives the same numbers as torchvision's ResNet-50.
Preprocessing: ImageNet mean, but standard deviation 0.228 (not 0.229) of red.
"""

from adbench.backbones.pretraining import Pretraining, layout, register

SWAV_STD = (0.228, 0.224, 0.225)
SWAV_LAYOUT = layout("module.", ("module.projection_head.", "module.prototypes."))


register("swav")(
    Pretraining(
        name="swav",
        file="swav_800ep_pretrain.pth.tar",
        url="https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
        source="https://github.com/facebookresearch/swav",
        license="CC-BY-NC-4.0",
        megabytes=114,
        convert=SWAV_LAYOUT,
        std=SWAV_STD,
    )
)
