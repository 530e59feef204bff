"""Sweep specifications: a YAML file, a preset, and overrides from the command line, checked key by key."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from adbench.core.errors import DataError, UsageError
from adbench.core.registry import match
from adbench.types import DTYPES, Size

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Choice:
    """A name with what belongs to it: a backbone with its layers and weights, or a detector with its parameters."""

    name: str
    layers: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Spec:
    """A grid of jobs. Empty `layers` means each backbone's main stages, empty `categories` all of the data's.

    Layers and weights that a backbone has of its own stand in for `layers` and `weights`.
    """

    data: str | None = None
    categories: tuple[str, ...] = ()
    backbones: tuple[Choice, ...] = (Choice("efficientnet_lite0"),)
    weights: tuple[str, ...] = ("imagenet",)
    layers: tuple[str, ...] = ()
    image_sizes: tuple[int, ...] = (256,)
    eval_size: Size = 256
    detectors: tuple[Choice, ...] = (Choice("patchcore"),)
    seeds: tuple[int, ...] = (0,)
    dtype: str = "float16"
    pro_limit: float = 0.3


def preset_names() -> list[str]:
    """Return the names of the presets that are shipped."""
    return sorted(p.name.removesuffix(".yaml") for p in _presets().iterdir() if p.name.endswith(".yaml"))


def preset_text(name: str) -> str:
    """Return a preset's YAML; raise UsageError with the nearest name."""
    found = match("preset", name, preset_names())
    return str((_presets() / f"{found}.yaml").read_text(encoding="utf-8"))


def _presets() -> Any:
    return files("adbench") / "presets"


def read_spec(path: Path) -> str:
    """Return the text of a specification file; raise DataError if it is missing, huge or no text."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"spec {path}: larger than 1 MB; give a YAML file with the keys of a sweep")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"spec {path}: cannot be read ({getattr(error, 'strerror', None) or 'no UTF-8 text'})") from error


def parse(text: str, overrides: Sequence[str] = (), source: str = "spec") -> Spec:
    """Return the Spec of a YAML text with `key=value` overrides laid over it; raise UsageError for what does not fit."""
    content = {} if not text.strip() else _mapping(text, source)
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals:
            raise UsageError(f"--set '{override}': write key=value, e.g. --set image_sizes=256,320")
        content[key.strip()] = _value(override, value)
    spec = Spec()
    for key, value in content.items():
        name = match("key", str(key), [f.name for f in fields(Spec)], where=f" in {source}")
        spec = replace(spec, **{name: _checked(name, value, source)})
    return spec


def _mapping(text: str, source: str) -> dict[str, Any]:
    if re.search(r"(?m)(^|[\s\[{,:-])[&*][A-Za-z0-9_]", text):  # anchors are the stuff of YAML bombs
        raise UsageError(f"{source}: YAML anchors and aliases are not accepted; write the values out")
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "nested too deeply"
        raise UsageError(f"{source}{where}: no valid YAML ({problem})") from error
    if not isinstance(content, dict):
        raise UsageError(f"{source}: must be a mapping of keys such as 'backbones' and 'layers', not {_kind(content)}")
    return content


def _value(override: str, text: str) -> Any:
    """A command line's value: YAML, where a bare comma list is a list."""
    try:
        value = yaml.safe_load(text) if text.strip() else []
        if isinstance(value, str) and "," in value:
            return [yaml.safe_load(part) for part in value.split(",") if part.strip()]
    except (yaml.YAMLError, RecursionError, ValueError):
        raise UsageError(f"--set '{override}': the value cannot be read; write e.g. --set image_sizes=256,320") from None
    return value


def _checked(key: str, value: Any, source: str) -> Any:
    listed = value if isinstance(value, list) else [value]
    if key in ("data", "dtype"):
        return _one_of(key, value, DTYPES, source) if key == "dtype" else _text(key, value, source)
    if key == "pro_limit":
        return _number(key, value, source)
    if key == "eval_size":
        return value if value == "native" else _positive(key, value, source)
    if key in ("backbones", "detectors"):
        read = _backbone if key == "backbones" else _detector
        return _filled(key, tuple(read(item, source) for item in listed), source)
    if key == "image_sizes":
        return _filled(key, tuple(_positive(key, item, source) for item in listed), source)
    if key == "seeds":
        return _filled(key, tuple(_whole(key, item, source) for item in listed), source)
    return tuple(_text(key, item, source) for item in listed)


def _backbone(item: Any, source: str) -> Choice:
    content = _choice("backbones", ("layers", "weights"), item, source)
    return Choice(content["name"], layers=_names("layers", content, source), weights=_names("weights", content, source))


def _names(part: str, content: dict[str, Any], source: str) -> tuple[str, ...]:
    value = content.get(part)
    listed = value if isinstance(value, list) else [value] if value else []
    return tuple(_text(f"backbones: {part}", item, source) for item in listed)


def _detector(item: Any, source: str) -> Choice:
    content = _choice("detectors", ("params",), item, source)
    params = content.get("params") or {}
    if not isinstance(params, dict):
        raise UsageError(
            f"{source}: detectors: params of {content['name']} must be a mapping of names to values, not {_kind(params)}"
        )
    return Choice(content["name"], params={str(key): value for key, value in params.items()})


def _choice(key: str, parts: tuple[str, ...], item: Any, source: str) -> dict[str, Any]:
    """Return a name, with what was written beside it, as a mapping."""
    if isinstance(item, str):
        return {"name": item}
    if not isinstance(item, dict) or "name" not in item:
        form = ", ".join(f"{part}: ..." for part in ("name", *parts))
        raise UsageError(f"{source}: {key}: write a name, or {{{form}}}, not {_kind(item)}")
    for extra in item:
        match("key", str(extra), ["name", *parts], where=f" in {key} of {source}")
    return item | {"name": _text(f"{key}: name", item["name"], source)}


def _filled(key: str, values: tuple[Any, ...], source: str) -> tuple[Any, ...]:
    if not values:
        raise UsageError(f"{source}: {key} is empty; name at least one")
    return values


def _text(key: str, value: Any, source: str) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{source}: {key}: expected a name, not {_kind(value)}")
    return value


def _one_of(key: str, value: Any, names: Sequence[str], source: str) -> str:
    return match(key, _text(key, value, source), names, where=f" in {source}")


def _number(key: str, value: Any, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 1:
        raise UsageError(f"{source}: {key}: expected a number above 0 and at most 1, not {_kind(value)}")
    return float(value)


def _whole(key: str, value: Any, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise UsageError(f"{source}: {key}: expected a whole number from 0 on, not {_kind(value)}")
    return value


def _positive(key: str, value: Any, source: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 32 <= value <= 4096:
        extra = " or 'native'" if key == "eval_size" else ""
        raise UsageError(f"{source}: {key}: expected pixels from 32 to 4096{extra}, not {_kind(value)}")
    return value


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
