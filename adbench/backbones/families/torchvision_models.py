"""Every torchvision classification network, by torchvision's own name; layers by its graph node names, or blocks and stages."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.families import Family, Size, WeightsFile, register
from adbench.core.registry import match

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torchvision.models import SwinTransformer, VisionTransformer

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

    def build(self, name: str, size: Size | None = None) -> nn.Module:
        from torchvision import models

        extra: dict[str, Any] = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        if size and name.startswith("vit"):
            if size[0] != size[1]:
                raise ValueError("torchvision's vision transformers take square images")
            extra["image_size"] = size[0]
        if size and name.startswith("maxvit"):
            extra["input_size"] = size
        return cast("nn.Module", models.get_model(name, weights=None, **extra))

    def fixed_size(self, module: nn.Module) -> Size | None:
        from torchvision.models import MaxVit, VisionTransformer

        if isinstance(module, VisionTransformer):
            return module.image_size, module.image_size
        if isinstance(module, MaxVit):  # the grid of the last block times its stride
            return 32 * module.blocks[-1].grid_size[0], 32 * module.blocks[-1].grid_size[1]
        return None

    def resized(self, state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
        """Interpolate the position embedding as torchvision does: bicubic, corners aligned, not antialiased."""
        from torchvision.models import VisionTransformer
        from torchvision.models.vision_transformer import interpolate_embeddings

        if not isinstance(module, VisionTransformer):
            return state
        return dict(interpolate_embeddings(module.image_size, module.patch_size, OrderedDict(state)))

    def node_names(self, module: nn.Module) -> list[str]:
        from torchvision.models.feature_extraction import get_graph_node_names

        return list(get_graph_node_names(module, suppress_diff_warning=True)[1])

    def cut(self, module: nn.Module, layers: dict[str, str]) -> nn.Module:
        from torchvision.models.feature_extraction import create_feature_extractor

        return cast("nn.Module", create_feature_extractor(module.eval(), layers, suppress_diff_warning=True))

    def stages(self, module: nn.Module) -> dict[str, str]:
        from torchvision.models import SwinTransformer, VisionTransformer

        if isinstance(module, VisionTransformer):
            layers = "encoder.layers"
            return {f"blocks.{i}": f"{layers}.{name}" for i, name in enumerate(dict(module.encoder.layers.named_children()))}
        names = [f"features.{i}" for i in (1, 3, 5, 7)]  # the others are the patch embedding and mergers
        return {name: name for name in names} if isinstance(module, SwinTransformer) else {}

    def stage_maps(self, module: nn.Module, images: Tensor, indices: list[int]) -> list[Tensor]:
        from torchvision.models import VisionTransformer

        return _blocks(module, images, indices) if isinstance(module, VisionTransformer) else _swin(module, images, indices)

    def final_norm(self, module: nn.Module) -> nn.Module | None:
        from torchvision.models import VisionTransformer

        return module.encoder.ln if isinstance(module, VisionTransformer) else None

    def weights_file(self, name: str, label: str) -> WeightsFile:
        import torch
        from torchvision import models

        choices = models.get_model_weights(name)
        default = label in ("imagenet", "DEFAULT")
        found = choices["DEFAULT" if default else match("weights", label, self.labels(name), where=f" of {name}")]
        preset: Any = found.transforms()
        file = found.url.rsplit("/", 1)[1]
        digits = file.removesuffix(".pth").rpartition("-")[2]
        folder, megabytes = Path(torch.hub.get_dir()) / "checkpoints", found.meta.get("_file_size")
        return WeightsFile(
            folder / file, found.url, tuple(preset.mean), tuple(preset.std), digits,
            license=found.meta.get("license"), gated=False, megabytes=megabytes, source=found.meta.get("recipe", ""),
        )  # fmt: skip

    def head(self, module: nn.Module) -> tuple[str, ...]:
        """Return the prefixes of the classifier, unless it is convolutional, and of the branches that only training uses."""
        import torch

        heads = [f"{name}." for name in ("classifier", "fc", "head", "heads") if hasattr(module, name)
                 and not any(isinstance(part, torch.nn.Conv2d) for part in getattr(module, name).modules())]  # fmt: skip
        return (*heads, "aux1.", "aux2.", "AuxLogits.")

    def labels(self, name: str) -> list[str]:
        from torchvision import models

        return [weights.name for weights in models.get_model_weights(name)]


def _blocks(module: VisionTransformer, images: Tensor, indices: list[int]) -> list[Tensor]:
    """Return the patch tokens behind some blocks of a vision transformer as maps."""
    import torch

    tokens = module._process_input(images)
    grid = images.shape[2] // module.patch_size, images.shape[3] // module.patch_size
    tokens = torch.cat([module.class_token.expand(len(images), -1, -1), tokens], dim=1)
    tokens, maps = module.encoder.dropout(tokens + module.encoder.pos_embedding), []
    for index, block in enumerate(list(module.encoder.layers)[: indices[-1] + 1]):
        tokens = block(tokens)
        if index in indices:
            maps.append(tokens[:, 1:].reshape(len(images), *grid, -1).permute(0, 3, 1, 2).contiguous())
    return maps


def _swin(module: SwinTransformer, images: Tensor, indices: list[int]) -> list[Tensor]:
    """Return the maps behind some stages of a Swin transformer, whose channels are last."""
    maps = []
    for index, part in enumerate(list(module.features)[: 2 * indices[-1] + 2]):
        images = part(images)
        if index in (2 * i + 1 for i in indices):
            maps.append(images.permute(0, 3, 1, 2).contiguous())
    return maps


register("torchvision")(TorchvisionModels())
