"""Sweep specifications: a YAML file or a preset, and overrides from the command line, validated against `Spec`."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import yaml
from msgspec import Meta

from adbench.core.errors import DataError, UsageError
from adbench.core.registry import match, squeeze
from adbench.data.shifts import EXPECTED as SHIFTS
from adbench.data.shifts import parse_shifts
from adbench.features.view import LEAST, MOST, SIZES, View, parse_image_size
from adbench.statistics.rules import EXPECTED as RULES
from adbench.statistics.rules import parse_rule
from adbench.types import ALL, DTYPES, Job

_MAX_BYTES = 1 << 20
_SHOWN = 40  # characters of a wrong value in its message
_PRESETS = files("adbench") / "presets"
Name = Annotated[str, Meta(min_length=1)]
Pixels = Annotated[int, Meta(ge=32, le=4096)]
InputSize = Annotated[int, Meta(ge=LEAST)] | str
Tile = Annotated[int, Meta(ge=0, le=MOST)]
Overlap = Annotated[float, Meta(ge=0, lt=1)]
Seed = Annotated[int, Meta(ge=0, lt=1 << 31)]
Count = Annotated[int, Meta(ge=1)]
Rotations = Annotated[int, Meta(ge=0, le=360)]
_FILLED = Meta(min_length=1)


@dataclass(frozen=True)
class Choice:
    """A backbone with its own layers, weights, image sizes and detectors (by name), or a detector with its parameters."""

    name: Name
    layers: tuple[Name, ...] = ()
    weights: tuple[Name, ...] = ()
    image_sizes: tuple[InputSize, ...] = ()
    detectors: tuple[Name, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """A grid of jobs. Empty `layers` means each backbone's main stages, empty `categories` all of the data's.

    A backbone's own layers, weights and image sizes replace `layers`, `weights` and `image_sizes`; its own detectors are those
    of `detectors` that it takes part with. `smoothing`: sigma, in input
    pixels, of the Gaussian on the maps of detectors that smooth; None = each detector's own (4), 0 = none. `crop`: side of the
    middle square that the network sees, as a share of the image's shorter side. `thresholds`: rules by which held-out good images
    set thresholds (`adbench.statistics.rules`). `value_range`: the values of black and white in images of more than 8 bits,
    None = as the training images have them. `shifts`: of the test images (`adbench.data.shifts`), each in jobs of its own
    beside those on the images as they are.
    """

    data: Name | None = None
    categories: tuple[Name, ...] = ()
    backbones: Annotated[tuple[Choice, ...], _FILLED] = (Choice("efficientnet_lite0"),)
    weights: tuple[Name, ...] = ("imagenet",)
    layers: tuple[Name, ...] = ()
    image_sizes: Annotated[tuple[InputSize, ...], _FILLED] = (256,)
    eval_size: Pixels | Literal["native"] = 256
    detectors: Annotated[tuple[Choice, ...], _FILLED] = (Choice("patchcore"),)
    seeds: Annotated[tuple[Seed, ...], _FILLED] = (0,)
    shots: Annotated[tuple[Count | Literal["all"], ...], _FILLED] = (ALL,)
    dtype: Name = "float16"
    pro_limit: Annotated[float, Meta(gt=0, le=1)] = 0.3
    tile: Annotated[tuple[Tile, ...], _FILLED] = (0,)
    overlap: Annotated[tuple[Overlap, ...], _FILLED] = (Job.overlap,)
    smoothing: Annotated[float, Meta(ge=0, le=64)] | None = None
    crop: Annotated[float, Meta(gt=0, le=1)] = 1.0
    value_range: tuple[float, float] | None = None
    thresholds: tuple[Name, ...] = ()
    shifts: tuple[Name, ...] = ()
    rotations: Annotated[tuple[Rotations, ...], _FILLED] = (Job.rotations,)

    def record(self) -> dict[str, Any]:
        """Return the keys by name; one added after version 0.1.0 only where it is given, so that plans keep their names."""
        found = asdict(self)
        if self.smoothing is None:
            del found["smoothing"]
        if self.crop == Job.crop:
            del found["crop"]
        for choice in (*found["backbones"], *found["detectors"]):
            for later in ("image_sizes", "detectors"):
                if not choice[later]:
                    del choice[later]
        if self.shots == (ALL,):
            del found["shots"]
        for name, default in _ADDED.items():
            if found[name] == default:
                del found[name]
        return found

    def views(self, choice: Choice) -> list[View]:
        """Return how a backbone's network sees images, each view once: sizes x tiles x overlaps x rotations."""
        cells = product(choice.image_sizes or self.image_sizes, self.tile, self.overlap, self.rotations)
        return list(dict.fromkeys(View(*cell, crop=self.crop, value_range=self.value_range).simplest() for cell in cells))

    @property
    def all_views(self) -> list[View]:
        """The views of all backbones, each once."""
        return list(dict.fromkeys(view for choice in self.backbones for view in self.views(choice)))


_ADDED = {  # keys after version 0.1.0, with their defaults
    "tile": (0,), "overlap": (Job.overlap,), "rotations": (Job.rotations,), "thresholds": (), "shifts": (),
    "value_range": None,
}  # fmt: skip
_SINGLE = ("data", "eval_size", "dtype", "pro_limit", "smoothing", "crop")  # the values of all other keys are lists
_NAMES = ("data", "categories", "backbones", "weights", "layers", "detectors", "dtype")  # keys whose values are names
_CHOICES = {"backbones": ("name", "layers", "weights", "image_sizes", "detectors"), "detectors": ("name", "params")}
_EXPECTED = {
    "image_sizes": SIZES,
    "tile": "pixels from 32 to 4096, or 0 for no tiles",
    "overlap": "a share of a tile from 0 to below 1",
    "eval_size": "pixels from 32 to 4096 or 'native'",
    "rotations": "a number of turned copies up to 360, or 0 for none",
    "shots": "a number of good images from 1 on, or 'all'",
    "seeds": f"a whole number from 0 to {(1 << 31) - 1}",
    "pro_limit": "a number above 0 and at most 1",
    "smoothing": "pixels from 0 to 64",
    "crop": "a number above 0 and at most 1",
    "value_range": "the values of black and white such as [0, 4095]",
    "thresholds": f"a rule such as {RULES}",
    "shifts": SHIFTS,
    "params": "a mapping of names to values",
    **{key: f"a name, or {{{', '.join(f'{part}: ...' for part in parts)}}}" for key, parts in _CHOICES.items()},
}  # of all other keys: a name


def preset_names() -> list[str]:
    """Return the names of the presets that are shipped."""
    return sorted(p.name.removesuffix(".yaml") for p in _PRESETS.iterdir() if p.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """Return a preset's YAML; raise UsageError with the nearest name."""
    found = match("preset", name, preset_names())
    return (_PRESETS / f"{found}.yaml").read_text(encoding="utf-8")


def read_spec(path: Path) -> str:
    """Return the text of a specification file; raise DataError if it is missing, huge or no text, UsageError if it is empty."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"spec {path}: larger than 1 MB; give a YAML file with the keys of a sweep")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no UTF-8 text"
        raise DataError(f"spec {path}: cannot be read ({reason}); name a YAML file with the keys of a sweep") from error
    if all(line.strip() in ("", "---", "...") or line.strip().startswith("#") for line in text.splitlines()):
        raise UsageError(
            f"spec {path} is empty; write keys such as 'backbones: [resnet18]' into it, or name a preset with --preset"
        )
    return text


def parse(text: str, overrides: Sequence[str] = (), source: str = "spec") -> Spec:
    """Return the Spec of a YAML text with `key=value` overrides; raise UsageError for what does not fit."""
    given = {} if not text.strip() else _mapping(text, source)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UsageError(f"--set '{override}': write key=value, e.g. --set image_sizes=256,320")
        given[key.strip()] = _value(override, key.strip(), value)
    known = [f.name for f in fields(Spec)]
    named: dict[str, Any] = {}
    for key, value in given.items():
        name = match("key", str(key), known, where=f" in {source}")
        if name in named:
            raise UsageError(f"{source}: key '{name}' is given twice, once as '{key}'; keep one")
        named[name] = value
    content = {key: value if key in _SINGLE else _items(key, value, source) for key, value in named.items()}
    try:
        spec = _with_sizes(msgspec.convert(content, Spec), source)
    except msgspec.ValidationError as error:
        raise _mistake(str(error), content, source) from None
    rules = tuple(dict.fromkeys(parse_rule(text).text for text in spec.thresholds))
    dtype = match("dtype", spec.dtype, DTYPES, where=f" in {source}")
    return replace(spec, dtype=dtype, thresholds=rules, shifts=parse_shifts(spec.shifts))


def _with_sizes(spec: Spec, source: str) -> Spec:
    """Return the specification with image sizes in their only form, and without tiles that a network could not take."""

    def read(sizes: Sequence[int | str], owner: str = "") -> tuple[int | str, ...]:
        found = []
        for size in sizes:
            try:
                found.append(parse_image_size(size))
            except ValueError:
                raise UsageError(f"{source}: image_sizes{owner}: expected {SIZES}, not {_kind(size)}") from None
        return tuple(found)

    for tile in spec.tile:
        if 0 < tile < LEAST:
            raise UsageError(f"{source}: tile: expected {_EXPECTED['tile']}, not {_kind(tile)}")
    backbones = tuple(replace(c, image_sizes=read(c.image_sizes, f" of {c.name}")) for c in spec.backbones)
    return replace(spec, image_sizes=read(spec.image_sizes), backbones=backbones)


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A key that a mapping has twice."""


class _Loader(yaml.SafeLoader):
    """Refuses repeated keys; YAML's own readers silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in first:
                problem = f"key '{key.value}' is given twice, first in line {first[key.value]}; keep one"
                raise _RepeatedKeyError(None, None, problem, key.start_mark)
            first[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


def _int_or_text(loader: _Loader, node: yaml.ScalarNode) -> int | str:
    """Return a whole number; 0x256 stays text, since it is a wrong size and not the number 598."""
    return node.value if "x" in node.value.lower() else loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _int_or_text)


def _loaded(text: str, key: str = "") -> Any:
    """Return what a YAML text holds: a mapping, or the value of a key. Names that look like numbers stay as they are written."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        top = node.value if isinstance(node, yaml.MappingNode) else []
        for name, value in [(key, node)] if key else [(str(name.value), value) for name, value in top]:
            if squeeze(name) in _NAMES:
                _keep_as_written(value)
        return loader.construct_document(node) if node else None
    finally:
        loader.dispose()


def _keep_as_written(node: yaml.Node | None) -> None:
    """Make the scalars of a name, a list of them, or a choice text: 01 is the category "01", which YAML reads as 1."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_as_written(item)
    elif isinstance(node, yaml.MappingNode):
        for part, value in node.value:
            if part.value in ("name", "layers", "weights", "detectors"):
                _keep_as_written(value)
    elif isinstance(node, yaml.ScalarNode) and node.tag.rpartition(":")[2] in ("int", "float", "bool", "timestamp"):
        node.tag = "tag:yaml.org,2002:str"


def _mapping(text: str, source: str) -> dict[str, Any]:
    if re.search(r"(?m)(^|[\s\[{,:-])[&*][A-Za-z0-9_]", text):  # anchors are the stuff of YAML bombs
        raise UsageError(f"{source}: YAML anchors and aliases are not accepted; write the values out")
    try:
        content = _loaded(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "nested too deeply"
        fault = problem if isinstance(error, _RepeatedKeyError) else f"no valid YAML ({problem})"
        raise UsageError(f"{source}{where}: {fault}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{source}: must be a mapping of keys such as 'backbones' and 'layers', not {_kind(content)}")
    return content


def _value(override: str, key: str, text: str) -> Any:
    """A command line's value: YAML, where a bare comma list is a list."""
    try:
        value = _loaded(text, key) if text.strip() else []
        if isinstance(value, str) and "," in value:
            return [_loaded(part, key) for part in value.split(",") if part.strip()]
    except (yaml.YAMLError, RecursionError, ValueError):
        raise UsageError(f"--set '{override}': the value cannot be read; write e.g. --set image_sizes=256,320") from None
    return value


def _items(key: str, value: Any, source: str) -> list[Any]:
    """Return a key's value in its long form: a list, choices as mappings with the keys that they can have."""
    items = value if isinstance(value, list) else [value]
    return [_choice(key, item, source) for item in items] if key in _CHOICES else items


def _choice(key: str, item: Any, source: str) -> Any:
    if isinstance(item, str):
        return {"name": item}
    if not isinstance(item, dict) or "name" not in item:
        return item  # refused by `convert`
    for part in item:
        match("key", str(part), _CHOICES[key], where=f" in {key} of {source}")
    return {part: value if part == "name" else _part(part, value) for part, value in item.items()}


def _part(part: str, value: Any) -> Any:
    if part == "params":
        return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value or {}
    return value if isinstance(value, list) else [value] if value else []


def _mistake(problem: str, content: Any, source: str) -> UsageError:
    """Return the error for what `msgspec` found at a path such as `$.backbones[0].layers[1]`."""
    steps = re.findall(r"\.(\w+)|\[(\d+)\]", problem.rpartition("at `$")[2])
    value, owner = content, ""
    for name, index in steps:
        owner = f" of {value['name']}" if name != "name" and "name" in value else ""
        value = value[name] if name else value[int(index)]
    names = [name for name, _ in steps if name]
    if "of length" in problem and value == []:
        return UsageError(f"{source}: {names[-1]} is empty; name at least one")
    where, expected = ": ".join(names) + owner, _EXPECTED.get(names[-1], "a name")
    return UsageError(f"{source}: {where}: expected {expected}, not {_kind(value)}{_quotes(value, expected)}")


def _kind(value: Any) -> str:
    """Return a YAML value in words."""
    if value is None:
        return "null"
    words = {str: "the text ", int: "the number ", float: "the number ", list: "the list ", dict: "the mapping "}
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    quoted = f"'{shown[:_SHOWN]}{'...' * (len(shown) > _SHOWN)}'"
    return words.get(type(value), "") + (quoted if isinstance(value, str) or len(shown) > _SHOWN else shown)


def _quotes(value: Any, expected: str) -> str:
    """Return the remedy for a number in quotes, for a name that YAML reads as something else, and for null."""
    if value is None:
        return "; write a value, or delete the entry"
    if isinstance(value, str) and value.isdigit() and ("pixels" in expected or "number" in expected):
        return "; remove the quotes"
    return "; put it in quotes" if expected == "a name" and not isinstance(value, str | list | dict) else ""
