"""Options that several commands share. Each is declared and parsed here once.

A command takes options either one by one, as parameters of the annotated types below, or several as one parameter whose type is
a frozen dataclass with an option per field; `expanded` turns the latter into options that typer understands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, fields, is_dataclass
from functools import partial, wraps
from inspect import Parameter, Signature, signature
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

import typer
from typer.models import ParameterInfo

from adbench.cli import completion, console
from adbench.core.environment import CACHE_SETTINGS, cache_folder, check_device
from adbench.core.errors import UsageError
from adbench.core.files import unwritable

if TYPE_CHECKING:
    from adbench.features.view import View
    from adbench.sweep.spec import Spec
    from adbench.sweep.workspace import Workspace
    from adbench.types import Shots, Size

_LARGE = 10**6  # a limit that nobody meets by accident


def path(text: str) -> Path:
    """Return the path that a user wrote, with `~` expanded."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"path '{text}': there is no such user; write the home folder out") from None


def option(
    metavar: str, text: str, *names: str, low: float | None = None, high: float | None = None, panel: str | None = None,
    complete: completion.Completer | None = None,
) -> object:  # fmt: skip
    """Declare an option with a value, between `low` and `high` if it is a number. Default name: the parameter's.

    panel: heading in the help; `complete` completes the value in a shell. The help names a range that is worth knowing.
    """
    if low is not None and high is not None and high < _LARGE:
        text += f" From {low:g} to {high:g}."
    return typer.Option(
        *names, metavar=metavar, help=text, min=low, max=high, rich_help_panel=panel, autocompletion=complete
    )  # fmt: skip


def path_option(metavar: str, text: str, panel: str | None = None) -> object:
    """Declare an option whose value is a path; shells complete it by themselves."""
    return typer.Option(metavar=metavar, help=text, parser=path, rich_help_panel=panel)


def flag(name: str, text: str, panel: str | None = None) -> object:
    """Declare an option without a value."""
    return typer.Option(name, help=text, rich_help_panel=panel)


def argument(
    metavar: str, text: str, parser: Callable[[str], object] | None = None, complete: completion.Completer | None = None
) -> object:
    """Declare an argument; `complete` completes it in a shell."""
    return typer.Argument(metavar=metavar, help=text, parser=parser, autocompletion=complete)


_VERIFY_DATA = "Decode and hash all images and masks, also those that look unchanged since the last check."
path_argument = partial(argument, parser=path)
DEFAULT_DATA = "data"  # without --data and ADBENCH_DATA
_BACKBONE = "Network that extracts features, e.g. resnet50; see 'adbench list backbones'."
Backbone = Annotated[str, argument("BACKBONE", _BACKBONE, complete=completion.backbone)]
Model = Annotated[Path, path_argument("MODEL", "File written by 'adbench train'.", complete=completion.models)]
Cache = Annotated[Path | None, path_option("DIR", "Cache of features. Default: $ADBENCH_CACHE, else the platform's folder.")]
RESULTS = "Results folder. Default: $ADBENCH_RESULTS, else ./results."
Out = Annotated[Path | None, path_option("DIR", RESULTS)]
Offline = Annotated[bool, flag("--offline", "Do not download weights.")]
Json = Annotated[bool, flag("--json", "Print one JSON document instead of text.")]
_WEIGHTS = "imagenet, random, a name from 'adbench list weights BACKBONE', or the path of a checkpoint."
Weights = Annotated[str, option("W", _WEIGHTS, complete=completion.weight)]
IMAGE_SIZE = "Side of the square input in pixels, height x width (512x1240), 'native', or a part of it (native/2)."
ImageSize = Annotated[str, option("N", IMAGE_SIZE, complete=completion.fixed("native", "native/2"))]
_TILE = "Side of the overlapping tiles that the resized image is cut into, from 32 to 4096 pixels; 0 = no tiles."
Tile = Annotated[int, option("N", _TILE)]
_OVERLAP = "Share of a tile that its neighbor also covers, 0 or more and below 1. Default: 0.25."
Overlap = Annotated[float | None, option("F", _OVERLAP)]
_VALUE_RANGE = "Values of black and white in images of more than 8 bits, e.g. 0,4095. Default: as the training images have them."
ValueRange = Annotated[str | None, option("LOW,HIGH", _VALUE_RANGE)]
_EVAL_SIZE = "Side in pixels at which maps are scored, or 'native': the size of each image."
EvalSize = Annotated[str, option("N", _EVAL_SIZE, complete=completion.fixed("native"))]
_DTYPE = "Type of the stored features: float16, float32, or bfloat16 (faster, less precise)."
Dtype = Annotated[str, option("T", _DTYPE, complete=completion.fixed("float16", "float32", "bfloat16"))]
_SHOWN = 40  # characters of a wrong value in its message
MOST_SEED = (1 << 31) - 1
Seed = Annotated[int, option("N", "Random seed.", low=0, high=MOST_SEED)]
Format = Annotated[
    str, option("F", "table, markdown, latex, csv, json or html.", "--format", complete=completion.table("formats"))
]
_KINDS = "Kinds of defects to paint, from 'adbench list defects'; may be repeated. Default: all."
Kinds = Annotated[list[str] | None, option("K,..", _KINDS, complete=completion.table("defects", separators=","))]
Like = Annotated[Path | None, path_option("MASKS", "Folder of masks of known defects; the synthetic defects get their sizes.")]


@dataclass(frozen=True)
class DataOptions:
    """The images to work on."""

    panel: ClassVar[str] = "Images"
    data: Annotated[
        str | None, option("DIR", "Folder of images, or 'demo' (generated parts). Default: $ADBENCH_DATA, else ./data.")
    ] = None
    category: Annotated[
        list[str] | None,
        option("C", "Category, a subfolder of the data; may be repeated. Default: all.", complete=completion.category),
    ] = None
    verify_data: Annotated[bool, flag("--verify-data", _VERIFY_DATA)] = False


_ONE = "Category, a subfolder of the data. Needed if the data has several."


@dataclass(frozen=True)
class OneCategoryOptions(DataOptions):
    """The images of one category."""

    category: Annotated[list[str] | None, option("C", _ONE, complete=completion.category)] = None


@dataclass(frozen=True)
class RuntimeOptions:
    """The cache and the device to compute on."""

    panel: ClassVar[str] = "Machine"
    cache: Cache = None
    device: Annotated[
        str,
        option("D", "cpu, cuda, cuda:N, mps, or auto: a GPU if there is one.", complete=completion.fixed(*completion.DEVICES)),
    ] = "auto"
    offline: Offline = False

    @contextmanager
    def open(self, images: DataOptions | None = None, study: Spec | None = None, memo_only: bool = False) -> Iterator[Workspace]:
        """Yield the workspace, whose steps are shown as a bar; what `images` does not name is taken from `study`.

        The data are not looked for yet. The cache folder is made for the features of `images`; with `memo_only`, only if the
        user named it, since a memo can be done without.
        """
        from adbench.sweep.workspace import Workspace

        check_device(self.device)
        data, categories, cache = study and study.data, (study and study.categories) or (), cache_folder(self.cache)
        if images:
            data, categories = images.data or data or os.environ.get("ADBENCH_DATA"), tuple(images.category or categories)
            if self.cache or not memo_only:  # fail before any work
                try:
                    cache.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise unwritable(cache, error, CACHE_SETTINGS) from error
        with console.progress() as on_step:
            verify = bool(images and images.verify_data)
            yield Workspace(data or DEFAULT_DATA, cache, categories, self.device, self.offline, on_step, verify)


@dataclass(frozen=True)
class SpecOptions:
    """The specification of a sweep: a preset or a file, with keys overridden."""

    panel: ClassVar[str] = "Grid of jobs"
    preset: Annotated[
        str | None, option("NAME", "Grid that comes with adbench; see 'adbench list presets'.", complete=completion.preset)
    ] = None
    spec: Annotated[Path | None, path_option("FILE.yaml", "Your own grid; its keys are those of a preset.")] = None
    set_: Annotated[
        list[str] | None,
        option(
            "KEY=VALUE",
            "Replace a key of the grid, e.g. image_sizes=128,256; may be repeated.",
            "--set",
            complete=completion.keys,
        ),
    ] = None

    def parsed(self, command: str, overrides: Sequence[str] = ()) -> Spec:
        """Return the specification (empty if none is named) with `overrides` and those of --set."""
        from adbench.sweep.spec import parse, preset_text, read_spec

        if self.preset is not None and self.spec is not None:
            raise UsageError(f"{command}: give --preset or --spec, not both")
        text, source = "", command
        if self.preset is not None:
            text, source = preset_text(self.preset), f"preset '{self.preset}'"
        elif self.spec is not None:
            text, source = read_spec(self.spec), f"spec {self.spec}"
        return parse(text, [*overrides, *(self.set_ or ())], source)


@dataclass(frozen=True)
class CostLimits:
    """The most that a candidate or a row of a table may cost."""

    panel: ClassVar[str] = "Limits"
    max_latency: Annotated[float | None, option("MS", "Skip all that are slower than MS milliseconds per image.", low=0)] = None
    max_memory: Annotated[str | None, option("MB", "Skip all that need more memory: megabytes, or a size such as 2GB.")] = None

    @property
    def memory_mb(self) -> float | None:
        """The limit on memory in MB (10^6 bytes)."""
        return None if self.max_memory is None else megabytes("--max-memory", self.max_memory)


def expanded(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with each parameter that is a dataclass of options replaced by one parameter per field.

    The fields are shown below the dataclass's `panel`, unless they name one themselves.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if isinstance(hint, type) and is_dataclass(hint)}
    options: list[tuple[str, object, object]] = []  # name, default, type
    for name, parameter in signature(command).parameters.items():
        if group := groups.get(name):
            types = get_type_hints(group, include_extras=True)
            options += [(f.name, f.default, _in_panel(types[f.name], getattr(group, "panel", None))) for f in fields(group)]
        else:
            options.append((name, parameter.default, hints[name]))
    for _, _, hint in options:
        _parse_numbers(hint)
    parameters = [Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint) for name, default, hint in options]

    @wraps(command)
    def call(**values: object) -> None:
        made = {name: group(**{f.name: values.pop(f.name) for f in fields(group)}) for name, group in groups.items()}
        command(**values, **made)

    call.__dict__["__signature__"] = Signature(parameters)  # what typer reads, together with the annotations
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _in_panel(hint: Any, panel: str | None) -> object:
    """Return the annotated type of an option with its heading in the help set, unless it has one."""
    kind, declared = get_args(hint)
    shown = copy(declared)
    shown.rich_help_panel = declared.rich_help_panel or panel
    return Annotated[kind, shown]


def _parse_numbers(hint: object) -> None:
    """Let an option or argument that takes numbers read them by `number`; the parser's own messages omit the value."""
    kind, declared = get_args(hint)[:2] if get_origin(hint) is Annotated else (hint, None)
    kinds = {kind, *get_args(kind), *(inner for outer in get_args(kind) for inner in get_args(outer))} & {int, float}
    if kinds and isinstance(declared, ParameterInfo) and declared.parser is None:
        whole, low, high = int in kinds, declared.min, declared.max
        declared.parser = lambda text: number(text, whole, low, high)
        declared.min = declared.max = None


def number(text: str, whole: bool, low: float | None = None, high: float | None = None) -> float:
    """Return the number that a user wrote; raise BadParameter, which names the option, for one that is none or out of range."""
    try:
        value = int(text) if whole else float(text)
        if isfinite(value) and (low is None or value >= low) and (high is None or value <= high):
            return value
    except (ValueError, OverflowError):
        pass
    span = "" if low is None else f" from {low:.10g} on" if high is None else f" from {low:.10g} to {high:.10g}"
    raise typer.BadParameter(f"'{text[:_SHOWN]}' is not a {'whole ' * whole}number{span}")


def results_folder(value: Path | None) -> Path:
    """Return the results folder: the option, else ADBENCH_RESULTS, else ./results."""
    return value or path(os.environ.get("ADBENCH_RESULTS") or "results")


def split(texts: Sequence[str] | None) -> list[str]:
    """Return the items of an option that takes comma-separated lists and may be repeated."""
    return [item.strip() for text in texts or () for item in text.split(",") if item.strip()]


def parameters(texts: Sequence[str] | None) -> dict[str, object]:
    """Return {name: value} of `name=value` texts; values are read as YAML scalars."""
    import yaml

    found: dict[str, object] = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param '{text}': write name=value, e.g. --param coreset_fraction=0.01")
        if name in found:
            raise UsageError(f"--param '{text}': {name} is given twice; keep one")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UsageError(f"--param '{text}': the value cannot be read; write a number, true, false or a word") from None
    return found


def gpu_numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in `0,1`."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() for part in parts) or len(set(parts)) < len(parts):
        raise UsageError(f"--gpus '{text}': write each GPU's number once, e.g. --gpus 0,1")
    return tuple(map(int, parts))


def minutes(text: str) -> int:
    """Return the minutes, rounded up, of a time as Slurm writes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise UsageError(f"--time '{text}': write minutes, H:MM:SS or D-HH:MM:SS, e.g. --time 2:30:00")
    days, *rest = found.groups()
    numbers = [int(number or 0) for number in rest]
    if days is None and rest[2] is None:
        numbers = [0, *numbers[:2]]  # M or M:S
    seconds = int(days or 0) * 86400 + numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    return max(1, -(-seconds // 60))


def seconds(option: str, text: str) -> float:
    """Return the seconds of a time such as 90s, 10m or 1.5h; raise UsageError if it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h)", text.strip())
    if not found or not float(found[1]):
        raise UsageError(f"{option} '{text}': write a time with its unit, e.g. 90s, 10m or 1.5h")
    return float(found[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[found[2]]


def evaluation_size(text: str) -> Size:
    """Return `native` or a number of pixels."""
    if text == "native":
        return "native"
    if not text.isdigit() or not 32 <= int(text) <= 4096:
        raise UsageError(f"--eval-size '{text}': write pixels from 32 to 4096, or 'native'")
    return int(text)


def view(
    image_size: str, tile: int, overlap: float | None, crop: float = 1.0, rotations: int = 0, value_range: str | None = None
) -> View:
    """Return how a network sees images; raise UsageError for values that no image can have."""
    from adbench.features.view import LEAST, MOST, SIZES, View, parse_image_size

    try:
        size = parse_image_size(image_size)
    except ValueError:
        raise UsageError(f"--image-size '{image_size[:_SHOWN]}': write {SIZES}") from None
    if tile and not LEAST <= tile <= MOST:
        raise UsageError(f"--tile {tile}: write pixels from {LEAST} to {MOST}, or 0 for no tiles")
    if overlap is not None and not tile:
        raise UsageError(f"--overlap {overlap:g} needs tiles; add e.g. --tile 256")
    if overlap is not None and not 0 <= overlap < 1:
        raise UsageError(f"--overlap {overlap:g}: the share of a tile that overlaps must be 0 or more and below 1, e.g. 0.25")
    overlap = View.overlap if overlap is None else overlap
    return View(size, tile, overlap, rotations, crop=crop, value_range=_range(value_range)).simplest()


def _range(text: str | None) -> tuple[float, float] | None:
    """Return the two numbers of LOW,HIGH."""
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--value-range '{text[:_SHOWN]}': write the values of black and white, e.g. 0,4095") from None
    return low, high


def shot_count(text: str) -> Shots:
    """Return `all` or a number of images."""
    if text == "all":
        return "all"
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--shots '{text[:_SHOWN]}': write a number of good images from 1 on, or 'all'")
    return int(text)


def feature_dtype(text: str) -> str:
    """Return the canonical name of a feature type; raise UsageError for an unknown one."""
    from adbench.core.registry import match
    from adbench.types import DTYPES

    return match("dtype", text, DTYPES)


def megabytes(option: str, text: str) -> float:
    """Return a size in MB (10^6 bytes): a bare number is in MB already, otherwise as `parse_size` reads it."""
    try:
        bare = text.strip().replace(".", "", 1).isdecimal()
        return float(text) if bare else parse_size(option, text) / 1e6
    except UsageError:
        raise UsageError(f"{option} '{text}': write megabytes, e.g. 500, or a size, e.g. 2GB") from None


def parse_size(option: str, text: str) -> int:
    """Return the bytes that a size such as `50GB`, `500 MB` or `1024` stands for; UsageError that names the option if none."""
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
    digits = text.strip().rstrip("kKmMgGtTbB ")
    unit = text.strip()[len(digits) :].strip().lower()
    try:
        size = float(digits) * units[unit]
        if 0 <= size < 1 << 63:
            return int(size)
    except (ValueError, KeyError):
        pass
    raise UsageError(f"{option} '{text}': write a size, e.g. 50GB or 500MB, or a number of bytes")
