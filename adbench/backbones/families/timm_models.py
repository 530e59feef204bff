"""Every network of timm, by timm's name; `timm/resnet50` where torchvision has the same name."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from functools import lru_cache, partial
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adbench.backbones.families import IMAGENET_MEAN, IMAGENET_STD, Family, Normalization, Size, WeightsFile, register
from adbench.core.errors import UsageError, WeightsError
from adbench.core.registry import match

if TYPE_CHECKING:
    from torch import Tensor, nn

HASH = re.compile(r"-([0-9a-f]{8,})\.")  # the start of its SHA-256 in a file's name
_FORMATS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
_NOTES = {"openai": "OpenAI's model card puts deployed use out of scope"}
_OPEN = ("lvd142m", "mae", "dino")  # tags whose publishers ask for no account; of others it is unknown


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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's remarks on the code of the filters of BEiT and others
            return key_filter(module)(dict(state), module)

    def convert(self, module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Apply timm's own filter to what belongs to the image encoder; refuse what it would bend to fit in silence."""
        _check_values(module, state)
        if any(key.startswith("decoder_") for key in state):  # MAE with its decoder, which has DINOv2's mask token
            state = {key: value for key, value in state.items() if not key.startswith(("decoder_", "mask_token"))}
        if any(key.startswith("visual.") for key in state):  # CLIP with its text encoder
            state = {key: value for key, value in state.items() if key.startswith("visual.")}
        try:
            with redirect_stdout(StringIO()), warnings.catch_warnings():  # a filter prints
                warnings.simplefilter("ignore", UserWarning)
                return key_filter(module)(dict(state), module)
        except KeyError as error:
            raise WeightsError(f"timm cannot convert the tensor {error}; choose the checkpoint of this network") from error
        except (RuntimeError, IndexError, AttributeError, TypeError, ValueError, AssertionError):
            return state  # of another network: the comparison of keys says so

    def head(self, module: nn.Module) -> tuple[str, ...]:
        """Return the prefixes of the classifier and of what is between it and the last feature map."""
        names = vars(module).get("pretrained_cfg", {}).get("classifier") or ()
        tops = {name.partition(".")[0] for name in ((names,) if isinstance(names, str) else names)}
        return tuple(f"{name}." for name in sorted(tops | {"head", "fc_norm", "attn_pool"}))

    def normalization(self, name: str, keys: Iterable[str]) -> Normalization:
        """Return that of the training which a checkpoint's keys show, else that of timm's default weights.

        The layout of OpenAI's CLIP has CLIP's. A checkpoint without a classifier has that of timm's tags `dino` and `mae`,
        if the network has them: its default weights are supervised.
        """
        from timm.data.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
        from timm.models import get_pretrained_cfg

        keys = [f".{key}" for key in keys]
        if any(key.endswith(".visual.class_embedding") for key in keys):
            return OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
        config: Any = get_pretrained_cfg(name)
        if config is None:
            return IMAGENET_MEAN, IMAGENET_STD
        own = [tag for tag in ("dino", "mae") if tag in self.labels(name)]
        if own and not any(key.endswith(f".{config.classifier}.weight") for key in keys):
            config = get_pretrained_cfg(f"{name}.{own[0]}")
        return tuple(config.mean), tuple(config.std)

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
        from timm.models import get_pretrained_cfg

        tag = label.removeprefix(f"{name}.")
        tag = "" if label in ("imagenet", "DEFAULT") else match("weights", tag, self.labels(name), where=f" of {name}")
        config: Any = get_pretrained_cfg(f"{name}.{tag}" if tag else name)
        if config is None or not (config.hf_hub_id or config.url):
            raise UsageError(f"timm publishes no weights of {name}; use 'random' or a checkpoint's path")
        files = _hub_files(config) if config.hf_hub_id else _url_files(config.url)
        (path, url), *others = sorted(files, key=lambda file: not file[0].is_file())  # a present one first
        source = f"{_endpoint()}/{config.hf_hub_id.partition('@')[0]}" if config.hf_hub_id else config.origin_url or ""
        found = HASH.search(path.name) if not config.hf_hub_id else None
        return WeightsFile(
            path, url, tuple(config.mean), tuple(config.std), found[1] if found else "", others=tuple(others),
            license=None if config.license == "unknown" else config.license,
            gated=False if not config.hf_hub_id or config.tag in _OPEN else None,
            source=source, note=_NOTES.get(config.tag, ""), refusal=_needs_quickgelu(name, config),
        )  # fmt: skip

    def labels(self, name: str) -> list[str]:
        from timm.models import list_pretrained

        return [model.partition(".")[2] for model in list_pretrained(f"{name}.*")]


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
    if found and "adapt_layer_scale" in signature(found).parameters:  # DeiT III
        return partial(found, adapt_layer_scale=True)
    return found or (lambda state, module: state)


def _check_values(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Raise WeightsError for a checkpoint that timm's filter would make fit although it belongs to another network."""
    name = str(vars(module).get("pretrained_cfg", {}).get("architecture", ""))
    kernel = module.state_dict().get("patch_embed.proj.weight")
    patches = [value for key, value in state.items() if _PATCHES.search(key) and value.ndim == 4]
    if kernel is not None and kernel.ndim == 4 and patches and patches[0].shape[2:] != kernel.shape[2:]:
        given, own = (" x ".join(map(str, dict.fromkeys(weight.shape[2:]))) for weight in (patches[0], kernel))
        raise WeightsError(f"its patches have {given} px, those of the network {own} px; choose the network with that patch size")
    if any(".embeddings." in f".{key}" for key in state):
        raise WeightsError("its keys are those of the package transformers; get the publisher's own file, or timm's")
    is_openai = {"visual.class_embedding", "input_resolution", "context_length", "vocab_size"} <= state.keys()
    if is_openai and not any(type(part).__name__ == "QuickGELU" for part in module.modules()):
        raise WeightsError(f"OpenAI's CLIP was trained with QuickGELU; choose {_quick(name)}")
    if "storage_tokens" in state and "blocks.0.attn.q_bias" not in module.state_dict():
        parts = [part for key, value in state.items() if key.endswith("qkv.bias") for part in value.chunk(3)[::2]]  # k is masked
        if any(part.any() for part in parts):
            raise WeightsError(f"its qkv biases are not zero, and this network has none; choose {name}_qkvb")


_PATCHES = re.compile(r"(patch_embed\.proj(ection)?|visual\.conv1)\.weight$")


def _quick(name: str) -> str:
    return name.replace("_clip_", "_clip_quickgelu_") if "_clip_" in name else "a network with 'clip_quickgelu' in its name"


def _needs_quickgelu(name: str, config: Any) -> str:
    """Return why weights that were trained with QuickGELU are refused for a network with GELU, as timm's notes say."""
    if "quickgelu" in name or not any("QuickGELU" in note for note in config.notes or ()):
        return ""
    return f"they were trained with QuickGELU, and this network has GELU; use {_quick(name)} with the weights '{config.tag}'"


def _hugging_face() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(os.environ.get("HF_HOME") or caches / "huggingface").expanduser()


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hub_files(config: Any) -> list[tuple[Path, str]]:
    """Return path and address of a repository's weights in each format: in the hub's cache if there, else in adbench's folder."""
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = config.hf_hub_id.partition("@")
    cache = Path(os.environ.get("HF_HUB_CACHE") or _hugging_face() / "hub").expanduser()
    files = []
    for file in dict.fromkeys([*([config.hf_hub_filename] if config.hf_hub_filename else []), *_FORMATS]):
        cached = try_to_load_from_cache(repository, file, cache_dir=cache, revision=revision or None)
        own = _hugging_face() / "adbench" / f"{repository.replace('/', '--')}{Path(file).suffix}"
        url = f"{_endpoint()}/{repository}/resolve/{revision or 'main'}/{file}"
        files.append((Path(cached) if isinstance(cached, str) else own, url))
    return files


def _url_files(url: str | tuple[str, str]) -> list[tuple[Path, str]]:
    """Return path and address of weights that are in no repository: where timm puts its downloads."""
    import torch

    address, name = (url, url.rpartition("/")[2]) if isinstance(url, str) else url
    return [(Path(torch.hub.get_dir()) / "checkpoints" / name, address)]


register("timm")(TimmModels())
