"""Every convolutional network of timm, by timm's name; `timm/resnet50` where torchvision has the same name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from adbench.backbones.families import Family, WeightsFile, register
from adbench.core.errors import UsageError
from adbench.core.registry import match

if TYPE_CHECKING:
    from torch import nn


class TimmModels(Family):
    """timm. A weights label is a tag of timm (`a1_in1k`), "imagenet" its default tag; files are in the Hugging Face cache."""

    prefix = "timm"
    packages = ("torch", "timm")

    def names(self) -> list[str]:
        import timm

        return list(timm.list_models())

    def build(self, name: str) -> nn.Module:
        import timm

        return timm.create_model(name, pretrained=False)

    def node_names(self, module: nn.Module) -> list[str]:
        from timm.models._features_fx import get_graph_node_names

        return list(get_graph_node_names(module)[1])

    def cut(self, module: nn.Module, layers: dict[str, str]) -> nn.Module:
        from timm.models._features_fx import create_feature_extractor

        return cast("nn.Module", create_feature_extractor(module.eval(), layers))

    def weights_file(self, name: str, label: str) -> WeightsFile:
        from huggingface_hub import try_to_load_from_cache
        from timm.models import get_pretrained_cfg

        tag = "" if label in ("imagenet", "DEFAULT") else match("weights", label, self.labels(name), where=f" of {name}")
        config = get_pretrained_cfg(f"{name}.{tag}" if tag else name)
        if config is None or not config.hf_hub_id:
            raise UsageError(f"timm publishes no weights of {name}; use 'random' or a checkpoint's path")
        home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
        url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        path = home / "adbench" / f"{config.hf_hub_id.replace('/', '--')}.safetensors"
        downloaded = try_to_load_from_cache(config.hf_hub_id, "model.safetensors")  # by timm or huggingface_hub
        return WeightsFile(Path(downloaded) if isinstance(downloaded, str) else path, url, tuple(config.mean), tuple(config.std))

    def labels(self, name: str) -> list[str]:
        from timm.models import list_pretrained

        return [model.partition(".")[2] for model in list_pretrained(f"{name}.*")]

    def license(self, name: str) -> str | None:
        from timm.models import get_pretrained_cfg

        found = getattr(get_pretrained_cfg(name), "license", None)
        return None if found in (None, "unknown") else str(found)


register("timm")(TimmModels())
