"""Every network of timm, by timm's name; `timm/resnet50` where torchvision has the same name."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.families import Family, Size, WeightsFile, register
from adbench.core.errors import UsageError
from adbench.core.registry import match

if TYPE_CHECKING:
    from torch import Tensor, nn


class TimmModels(Family):
    """timm. A weights label is a tag of timm (`a1_in1k`), "imagenet" its default tag; files are in the Hugging Face cache."""

    prefix = "timm"
    packages = ("torch", "timm")

    def names(self) -> list[str]:
        import timm

        return list(timm.list_models())

    def build(self, name: str, size: Size | None = None) -> nn.Module:
        """Return timm's network; a position embedding is interpolated in each pass where timm can do that (dynamic_img_size)."""
        import timm

        extra: dict[str, Any] = {"img_size": size} if size else {"dynamic_img_size": True} if _is_dynamic(name) else {}
        return timm.create_model(name, pretrained=False, **extra)

    def fixed_size(self, module: nn.Module) -> Size | None:
        config: Any = module.pretrained_cfg
        if not config.get("fixed_input_size") or getattr(module, "dynamic_img_size", False):
            return None
        return _input_size(module)

    def usual_size(self, module: nn.Module) -> Size:
        return _input_size(module)

    def resized(self, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Interpolate position tables with the filter that timm applies to checkpoints."""
        return key_filter(module)(dict(state), module)

    def node_names(self, module: nn.Module) -> list[str]:
        from timm.models._features_fx import get_graph_node_names

        return list(get_graph_node_names(module)[1])

    def cut(self, module: nn.Module, layers: dict[str, str]) -> nn.Module:
        from timm.models._features_fx import create_feature_extractor

        return cast("nn.Module", create_feature_extractor(module.eval(), layers))

    def stages(self, module: nn.Module) -> dict[str, str]:
        if not hasattr(module, "forward_intermediates"):
            return {}
        info: Any = module.feature_info
        names = [str(stage["module"]) for stage in getattr(info, "info", info)]
        if all(name.endswith(f"blocks.{i}") for i, name in enumerate(names)):
            return {f"blocks.{i}": name for i, name in enumerate(names)}
        seen = Counter(names)  # branches side by side have one name
        return {f"{name}.{names[:i].count(name)}" if seen[name] > 1 else name: name for i, name in enumerate(names)}

    def stage_maps(self, module: nn.Module, images: Tensor, indices: list[int]) -> list[Tensor]:
        run: Any = module.forward_intermediates
        maps: list[Tensor] = run(images, indices=indices, output_fmt="NCHW", intermediates_only=True, stop_early=True)
        return maps

    def final_norm(self, module: nn.Module) -> nn.Module | None:
        """Return the norm of a plain transformer; those that pool in front of it (BEiT, EVA-02) have an identity there."""
        import torch

        norm = getattr(module, "norm", None)
        real = isinstance(norm, torch.nn.Module) and not isinstance(norm, torch.nn.Identity)
        plain = [f"blocks.{i}" for i in range(len(self.stages(module)))]
        return norm if real and list(self.stages(module)) == plain else None

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


def _input_size(module: nn.Module) -> Size:
    """Return height and width of the images that a network was made for."""
    given = getattr(getattr(module, "patch_embed", None), "img_size", None)
    config: Any = module.pretrained_cfg
    height, width = given or config["input_size"][1:]
    return int(height), int(width)


@lru_cache(maxsize=64)
def _is_dynamic(name: str) -> bool:
    """Return whether the network interpolates its position embedding to each input's size if asked to."""
    import timm
    import torch

    with torch.device("meta"):
        try:
            timm.create_model(name, pretrained=False, dynamic_img_size=True)
        except TypeError:  # no such parameter
            return False
        except (NotImplementedError, RuntimeError):  # it exists, but the network cannot be built on this device
            return True
    return True


def key_filter(module: nn.Module) -> Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]:
    """Return the function by which timm turns a publisher's state dict into its own keys and a network's position tables."""
    found = vars(sys.modules[type(module).__module__]).get("checkpoint_filter_fn")
    return found or (lambda state, module: state)


register("timm")(TimmModels())
