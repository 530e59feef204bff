"""Shell completion of values."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from adbench.cli import names
from adbench.core.environment import cache_folder
from adbench.core.errors import AdbenchError

Context = Any  # the parser's; newer releases of typer bring their own copy of click
Completer = Callable[[Context, str], list[str]]
DEVICES = ("auto", "cpu", "cuda", "mps")


def values(find: Callable[[Context], Iterable[str]], separators: str = "") -> Completer:
    """Return the completer of an option that takes one of the names that `find` returns.

    separators: characters between the names of a list; the last name is completed.
    """

    def complete(ctx: Context, incomplete: str) -> list[str]:
        head = re.match(f"(.*[{separators}])?", incomplete)[0] if separators else ""  # type: ignore[index]
        try:
            return [head + name for name in find(ctx) if name.startswith(incomplete[len(head) :])]
        except AdbenchError:  # a shell that waits for completions has no place for a message; the command itself will say it
            return []

    return complete


def fixed(*words: str) -> Completer:
    """Return the completer of these words."""
    return values(lambda ctx: words)


def table(kind: str, *more: str, separators: str = "") -> Completer:
    """Return the completer of the names in a plug-in table, and `more`."""
    return values(lambda ctx: [*more, *names.about(kind, _cache(ctx))], separators)


def _backbones(ctx: Context) -> list[str]:
    return names.backbones(_cache(ctx))


def _layers(ctx: Context) -> list[str]:
    from adbench.backbones.layers import describe

    return [layer.name for name in _typed_backbones(ctx) for layer in describe(name, _cache(ctx) / "backbones").layers]


def _weights(ctx: Context) -> list[str]:
    found = [label for name in _typed_backbones(ctx) for label in names.weights(name, _cache(ctx))]
    return list(dict.fromkeys(["imagenet", "random", *found]))


def _categories(ctx: Context) -> list[str]:
    from adbench.data.datasets import category_names

    return category_names(ctx.params.get("data") or os.environ.get("ADBENCH_DATA") or "data")


def _generated(ctx: Context) -> list[str]:
    from adbench.data.datasets import category_names

    return category_names("demo")


def _typed_backbones(ctx: Context) -> list[str]:
    """Return the backbones before the cursor: the argument of most commands, the list of `select`."""
    arguments = [p.name for p in ctx.command.params if p.param_type_name == "argument"]
    given = ctx.params | dict(zip(arguments, ctx.args, strict=False))  # args: not parsed yet if an option lacks its value
    found = next((given[name] for name in ("backbone", "backbones") if given.get(name)), "")
    return [name for name in found.split(",") if name]


def _cache(ctx: Context) -> Path:
    return cache_folder(ctx.params.get("cache"))


def models(ctx: Context, incomplete: str) -> list[str]:
    """Complete the path of a model file: those in the folder typed so far, and one folder further down."""
    folder = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
    root = Path(folder or ".").expanduser()
    found = sorted([*root.glob("*.safetensors"), *root.glob("*/*.safetensors")])
    return [name for file in found if (name := folder + file.relative_to(root).as_posix()).startswith(incomplete)]


def commands(ctx: Context, incomplete: str) -> list[str]:
    """Complete the name of a command, or of one in the group typed before."""
    group = ctx.find_root().command
    for name in ctx.params.get("command") or ():
        group = getattr(group, "commands", {}).get(name)
    return [name for name in getattr(group, "commands", {}) if name.startswith(incomplete)]


def keys(ctx: Context, incomplete: str) -> list[str]:
    """Complete the key of `--set KEY=VALUE`."""
    from dataclasses import fields

    from adbench.sweep.spec import Spec

    return [f"{field.name}=" for field in fields(Spec) if field.name.startswith(incomplete)]


def _table_keys(ctx: Context) -> list[str]:
    return names.table_keys(_cache(ctx))


def _listed(ctx: Context) -> list[str]:
    """Return the names for `list KIND [NAME]`."""
    kind = ctx.params.get("kind")
    if kind in ("layers", "weights", "backbones"):
        return _backbones(ctx)
    return [] if kind is None else list(names.about(kind, _cache(ctx)))


backbone, backbones = values(_backbones), values(_backbones, ",")
layer, layers = values(_layers, "+"), values(_layers, ",+")
weight, weights = values(_weights), values(_weights, ",")
category, generated, listed = values(_categories), values(_generated), values(_listed)
preset, kind = table("presets"), fixed(*names.KINDS)
table_key, table_keys = values(_table_keys), values(_table_keys, ",")
