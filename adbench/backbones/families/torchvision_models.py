"""Every torchvision classification network, by torchvision's own name; layers by its graph node names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.families import Family, WeightsFile, register
from adbench.core.registry import match

if TYPE_CHECKING:
    from torch import nn

_RESNET_50 = ("layer1.2.relu_2", "layer2.3.relu_2", "layer3.5.relu_2", "layer4.2.relu_2")


class TorchvisionModels(Family):
    """torchvision.models. The stages of four networks are those of Heckler et al. (CVPRW 2023), supplement, Table 2."""

    stage_layers = {  # noqa: RUF012
        "resnet50": _RESNET_50,
        "wide_resnet50_2": _RESNET_50,
        "densenet201": tuple(f"features.denseblock{i}.cat" for i in (1, 2, 3, 4)),
        "efficientnet_b5": ("features.2.4.add", "features.3.4.add", "features.5.6.add", "features.6.8.add"),
    }

    def names(self) -> list[str]:
        from torchvision import models

        return list(models.list_models(module=models))

    def build(self, name: str) -> nn.Module:
        from torchvision import models

        extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        return cast("nn.Module", models.get_model(name, weights=None, **extra))

    def node_names(self, module: nn.Module) -> list[str]:
        from torchvision.models.feature_extraction import get_graph_node_names

        return list(get_graph_node_names(module, suppress_diff_warning=True)[1])

    def cut(self, module: nn.Module, layers: dict[str, str]) -> nn.Module:
        from torchvision.models.feature_extraction import create_feature_extractor

        return cast("nn.Module", create_feature_extractor(module.eval(), layers, suppress_diff_warning=True))

    def weights_file(self, name: str, label: str) -> WeightsFile:
        import torch
        from torchvision import models

        choices = models.get_model_weights(name)
        default = label in ("imagenet", "DEFAULT")
        found = choices["DEFAULT" if default else match("weights", label, self.labels(name), where=f" of {name}")]
        preset: Any = found.transforms()
        file = found.url.rsplit("/", 1)[1]
        digits = file.removesuffix(".pth").rpartition("-")[2]
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        return WeightsFile(folder / file, found.url, tuple(preset.mean), tuple(preset.std), digits)

    def labels(self, name: str) -> list[str]:
        from torchvision import models

        return [weights.name for weights in models.get_model_weights(name)]


register("torchvision")(TorchvisionModels())
