"""SeLa v2, 400 epochs, crops 2x160 + 4x96 (Asano et al., ICLR 2020; this version by Caron et al., NeurIPS 2020).

Published beside SwAV's and by the same code: flat state dict, `module.*`, `projection_head` and `prototypes` (here
several, `prototypes.prototypes0` and on) dropped, standard deviation 0.228 of red. That the layout is SwAV's was read
from that code, not from the file. Not to be confused with `selav2_400ep_2x224_pretrain.pth.tar`.
"""

from adbench.backbones.pretraining import Pretraining, register
from adbench.backbones.pretraining.swav import SWAV_LAYOUT, SWAV_STD

register("sela")(
    Pretraining(
        name="sela",
        file="selav2_400ep_pretrain.pth.tar",
        url="https://dl.fbaipublicfiles.com/deepcluster/selav2_400ep_pretrain.pth.tar",
        source="https://github.com/facebookresearch/swav",
        license="CC-BY-NC-4.0",
        megabytes=118,
        convert=SWAV_LAYOUT,
        std=SWAV_STD,
    )
)
