"""Options that several commands share, each spelt, explained and checked in one place."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench.core.errors import DataError, UsageError

Data = Annotated[
    str | None, typer.Option("--data", metavar="DIR", help="Folder of images, or 'demo'. Default: $ADBENCH_DATA, else ./data.")
]
Categories = Annotated[list[str] | None, typer.Option("--category", metavar="C", help="Category; may be repeated. Default: all.")]
Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="Feature cache. Default: $ADBENCH_CACHE, else the platform's folder."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Results. Default: $ADBENCH_RESULTS, else ./results.")]
Device = Annotated[str, typer.Option("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never download weights.")]
WeightsName = Annotated[
    str,
    typer.Option("--weights", metavar="W", help="imagenet, random, a name from 'adbench list weights', or a checkpoint's path."),
]
ImageSize = Annotated[
    int, typer.Option("--image-size", metavar="N", min=32, max=4096, help="Side of the square input, in pixels.")
]
EvalSize = Annotated[str, typer.Option("--eval-size", metavar="N", help="Side of the evaluation grid in pixels, or 'native'.")]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="T", help="Features: float16, float32, or bfloat16, which is faster and coarser.")
]
ProLimit = Annotated[float, typer.Option("--pro-limit", metavar="F", help="False-positive rate up to which AU-PRO integrates.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Decides all randomness.")]
Param = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="Parameter of the detector; may be repeated.")
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", metavar="N", min=1, help="Worker processes. Default: one, or one per GPU slot.")
]
Gpus = Annotated[str | None, typer.Option("--gpus", metavar="N,..", help="GPUs of this machine to use, e.g. 0,1.")]
GpuSlots = Annotated[int | None, typer.Option("--gpu-slots", metavar="K", min=1, help="Workers per GPU. Default: 1.")]
Executor = Annotated[str, typer.Option("--executor", metavar="E", help="Where groups run: local, slurm or ray.")]
Partition = Annotated[str | None, typer.Option("--partition", metavar="P", help="Slurm: partition.")]
Time = Annotated[str | None, typer.Option("--time", metavar="T", help="Slurm: minutes, H:MM:SS or D-HH per task. Default: 240.")]
GpusPerTask = Annotated[
    float | None,
    typer.Option("--gpus-per-task", metavar="G", min=0, help="Slurm, Ray (also 0.5): GPUs per group. Default: none."),
]
MaxParallel = Annotated[
    int | None, typer.Option("--max-parallel", metavar="N", min=1, help="Slurm, Ray: groups that run at a time.")
]
RayAddress = Annotated[
    str | None, typer.Option("--ray-address", metavar="A", help="Ray: the cluster. Default: $RAY_ADDRESS, else the local one.")
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Slurm: submit, and return.")]


def data_folder(value: str | None, preset: str | None = None) -> str:
    """Return the data to work on: the option, else the specification's, else ADBENCH_DATA, else ./data."""
    chosen = value or preset or os.environ.get("ADBENCH_DATA")
    if chosen:
        return chosen
    if not Path("data").is_dir():
        raise DataError("no data: ./data is not there; give --data DIR, set ADBENCH_DATA, or try --data demo")
    return "data"


def results_folder(value: Path | None) -> Path:
    """Return the results folder: the option, else ADBENCH_RESULTS, else ./results."""
    return value or Path(os.environ.get("ADBENCH_RESULTS") or "results")


def cache_folder(value: Path | None) -> Path:
    """Return the cache folder: the option, else ADBENCH_CACHE, else the platform's."""
    from platformdirs import user_cache_path

    return value or Path(os.environ.get("ADBENCH_CACHE") or user_cache_path("adbench", appauthor=False))


def parameters(texts: list[str] | None) -> dict[str, Any]:
    """Return {name: value} of `name=value` texts; values are read as YAML scalars."""
    import yaml

    found: dict[str, Any] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param '{text}': write name=value, e.g. --param coreset_fraction=0.01")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--param '{text}': the value cannot be read; write a number, true, false or a word") from None
    return found


def gpu_numbers(text: str | None) -> tuple[int, ...] | None:
    """Return the numbers in `0,1`."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise UsageError(f"--gpus '{text}': write each GPU's number once, e.g. --gpus 0,1")
    return tuple(int(part) for part in parts)


def minutes(text: str | None) -> int | None:
    """Return the minutes, rounded up, of a time as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    if text is None:
        return None
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise UsageError(f"--time '{text}': write minutes, H:MM:SS or D-HH:MM:SS, e.g. --time 2:30:00")
    days, *rest = found.groups()
    numbers = [int(number or 0) for number in rest]
    if days is None and rest[2] is None:
        numbers = [0, *numbers[:2]]  # M or M:S
    seconds = int(days or 0) * 86400 + numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    return max(1, -(-seconds // 60))


def evaluation_size(text: str) -> Any:
    """Return `native` or a number of pixels."""
    if text == "native":
        return text
    if not text.isdigit() or not 32 <= int(text) <= 4096:
        raise UsageError(f"--eval-size '{text}': write pixels from 32 to 4096, or 'native'")
    return int(text)


def feature_dtype(text: str) -> str:
    """Return a dtype of the cache."""
    from adbench.core.registry import match
    from adbench.types import DTYPES

    return match("dtype", text, DTYPES)


def workspace(data: str, cache: Path | None, categories: list[str] | None, device: str, offline: bool, on_step: Any) -> Any:
    """Return where a command works."""
    from adbench.sweep.workspace import Workspace

    return Workspace(data, cache_folder(cache), tuple(categories or ()), device, offline, on_step)


def megabytes(option: str, text: str) -> float:
    """Return a size in MB (10^6 bytes): a bare number is one already, else as `parse_size` reads it."""
    from adbench.features.cache import parse_size

    try:
        bare = text.strip().replace(".", "", 1).isdecimal()
        return float(text) if bare else parse_size(text) / 1e6
    except UsageError:
        raise UsageError(f"{option} '{text}': write megabytes, e.g. 500, or a size, e.g. 2GB") from None
