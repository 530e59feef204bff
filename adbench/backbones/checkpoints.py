"""Checkpoint files: read without running code from them, unwrapped, and turned into the state dict of a network."""

from __future__ import annotations

import argparse
import pickle
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from zipfile import is_zipfile

from adbench.backbones.families import Family
from adbench.core.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, "Tensor"]
# Where training scripts put the state dict. The averaged weights of self-distillation (DINO, iBOT) are the teacher's.
_WRAPPERS = ("state_dict", "model", "model_state_dict", "teacher", "state_dict_ema", "model_ema", "module", "network", "encoder")
# What they put in front of its keys: DataParallel, torch.compile, Lightning, and common names of the attribute.
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "encoder.", "network.", "net.", "teacher.")


@dataclass(frozen=True)
class Reading:
    """The tensors of a checkpoint by a network's keys, the keys of its unused tensors, and what does not fit."""

    state: State
    unused: tuple[str, ...]
    problems: dict[str, list[str]]

    @property
    def num_problems(self) -> int:
        return sum(map(len, self.problems.values()))

    def __str__(self) -> str:
        """Return the difference to the network, or an empty text."""
        texts = [f"{len(k)} {what} ({', '.join(k[:3])}{', ...' if len(k) > 3 else ''})" for what, k in self.problems.items() if k]
        return "; ".join(texts)


def read_checkpoint(path: Path) -> State:
    """Return the tensors of a checkpoint by key, as float32 if they are floating point.

    The file is a state dict, a dict with one under a usual name (`state_dict`, `model`, `teacher`, ...), a file of safetensors,
    or a TorchScript archive. Raises WeightsError for a damaged file and for one that would run code when loaded.
    """
    import torch

    try:
        content = _content(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"weights {path}: refused, holds more than tensors or is no checkpoint; "
                           "save its state dict alone") from error  # fmt: skip
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise WeightsError(f"weights {path}: damaged or no checkpoint ({type(error).__name__}); get it again") from error
    while isinstance(content, dict) and (found := [content[k] for k in _WRAPPERS if isinstance(content.get(k), dict)]):
        content = found[0]
    if not isinstance(content, dict) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise WeightsError(f"weights {path}: holds no state dict of tensors; save 'model.state_dict()'")
    return {str(key): value.float() if value.is_floating_point() else value for key, value in content.items()}


def _content(path: Path) -> Any:
    import torch

    from adbench.backbones import torchscript

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if torchscript.is_archive(path):
        return torchscript.read(path)
    harmless = getattr(torch.serialization, "safe_globals", lambda _: nullcontext())  # torch 2.5
    with harmless([argparse.Namespace]), warnings.catch_warnings():  # Namespace: the options of the training script
        warnings.simplefilter("ignore", UserWarning)  # the protocol of a pickle
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zipfile(path))


def fit(family: Family, module: nn.Module, given: State) -> Reading:
    """Return how a checkpoint fits a network: of all ways to strip wrappers off its keys, the one with the fewest problems.

    Keys beside those of the wrapped network are unused: losses, projections and other heads, a text tower. Raises the
    WeightsError of `Family.convert` if that refuses what is behind the last of the wrappers, and nothing else fits.
    """
    readings, refusal = [], None
    for prefix in _chains(given):
        try:
            readings.append(_reading(family, module, given, prefix))
        except WeightsError as error:
            refusal = error
    best = min(readings, key=lambda reading: reading.num_problems, default=None)
    if best is None or (refusal and best.num_problems):
        raise cast(WeightsError, refusal)
    return best


def _chains(keys: Iterable[str]) -> list[str]:
    """Return the chains of known prefixes at the start of keys, beginning with the empty one."""
    found = {""}
    for key in keys:
        chain = ""
        while token := next((prefix for prefix in _PREFIXES if key.startswith(prefix, len(chain))), ""):
            chain += token
            found.add(chain)
    return sorted(found)


def _reading(family: Family, module: nn.Module, given: State, prefix: str) -> Reading:
    inside = {key.removeprefix(prefix): value for key, value in given.items() if key.startswith(prefix)}
    converted = family.convert(module, dict(inside))
    reading = compare(converted, module.state_dict(), family.head(module))
    taken = {value.data_ptr() for value in reading.state.values()}  # a converted tensor is a view of a given one
    names = {prefix + key for key in reading.state}  # or, if it was interpolated, has its name
    unused = [key for key, value in given.items() if value.data_ptr() not in taken and key not in names and not _is_counter(key)]
    return Reading(reading.state, tuple(unused), reading.problems)


def _is_counter(key: str) -> bool:
    """Return whether a key is that of batch normalization's count of batches, which only training uses."""
    return key.endswith("num_batches_tracked")


def compare(given: State, wanted: Mapping[str, Tensor], head: tuple[str, ...]) -> Reading:
    """Return what a state dict lacks, and has beside, of that of a network; keys of the head may be missing or not fit."""
    given, wanted = ({k: v for k, v in s.items() if not _is_counter(k)} for s in (given, wanted))
    fitting = {k: v for k, v in given.items() if k in wanted and v.shape == wanted[k].shape}
    rest = {k for k in given if k not in fitting and not k.startswith(head)}
    missing = [k for k in wanted if k not in given and not k.startswith(head)]
    problems = {"missing": missing, "unexpected": rest - wanted.keys(), "of another shape": rest & wanted.keys()}
    return Reading(fitting, (), {what: sorted(keys) for what, keys in problems.items()})
