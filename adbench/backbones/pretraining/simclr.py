"""SimCLR v1, ResNet-50 1x (Chen et al., ICML 2020), converted from TensorFlow by tonylins/simclr-converter.

Container: {state_dict}. Keys: torchvision's own names; `fc` (the linear classifier) is dropped.
Preprocessing: RGB in [0, 1], no mean and no standard deviation.
Deviation: TensorFlow's max pool pads only at the bottom and right, torchvision's on all sides. The layers here are
torchvision's, so features are shifted by 2 px against the original.
"""

from adbench.backbones.pretraining import Pretraining, register

register("simclr")(
    Pretraining(
        name="simclr",
        file="resnet50-1x.pth",
        url=None,
        source="https://github.com/tonylins/simclr-converter",
        license="Apache-2.0",
        megabytes=102,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    )
)
