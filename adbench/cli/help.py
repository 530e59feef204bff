"""How help looks: plain text in 80 to 100 columns, commands and options in panels, examples below. And `adbench help`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeAlias

import typer
from typer.core import TyperCommand, TyperGroup

from adbench.cli import completion
from adbench.cli import options as o

# the parser's own types have no stable name: newer releases of typer bring a copy of click
Parameter: TypeAlias = Any
Context: TypeAlias = Any
Formatter: TypeAlias = Any
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def title(parameter: Parameter) -> str:
    """Return how a parameter is written, e.g. `--data DIR` or `BACKBONE`."""
    if parameter.param_type_name == "argument":
        return str(parameter.metavar)
    names = ", ".join([*sorted(parameter.opts, key=len), *parameter.secondary_opts])
    return f"{names} {parameter.metavar}" if parameter.metavar else names


def meaning(parameter: Parameter) -> str:
    """Return a parameter's help, with its default or that it is required where the help does not say so."""
    text, default = parameter.help or "", parameter.default
    if parameter.param_type_name == "argument":
        return text
    if parameter.required:
        return f"{text} Required."
    if "Default" in text or default is None or default is False or default in ((), "") or callable(default):
        return text
    if parameter.secondary_opts:
        return f"{text} Default: {parameter.opts[0]}."
    return f"{text} Default: {default}."


def usage(parameters: Iterable[Parameter]) -> str:
    """Return what follows a command's name: its arguments, then `[OPTIONS]`."""
    return " ".join([*(title(p) for p in parameters if p.param_type_name == "argument"), "[OPTIONS]"])


def panels(parameters: Iterable[Parameter]) -> dict[str, list[Parameter]]:
    """Return the arguments and options of a command by panel, the panels in order of their first parameter."""
    found: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        kind = "Arguments" if parameter.param_type_name == "argument" else "Options"
        found.setdefault(getattr(parameter, "rich_help_panel", None) or kind, []).append(parameter)
    return found


def summary(text: str) -> str:
    """Return the first sentence of a help text."""
    return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0]


class _Plain:
    """Writes the parts of a help page."""

    def format_usage(self, context: Context, formatter: Formatter) -> None:
        commands = "COMMAND " if hasattr(self, "commands") else ""
        formatter.write_usage(context.command_path, commands + usage(self.get_params(context)))  # type: ignore[attr-defined]

    def format_options(self, context: Context, formatter: Formatter) -> None:
        by_panel: dict[str, list[tuple[str, str]]] = {}
        for name, command in getattr(self, "commands", {}).items():
            panel = command.rich_help_panel or "Commands"
            by_panel.setdefault(panel, []).append((name, summary(command.help)))
        for panel, parameters in panels(self.get_params(context)).items():  # type: ignore[attr-defined]
            by_panel[panel] = [(title(parameter), meaning(parameter)) for parameter in parameters]
        for panel, rows in by_panel.items():
            with formatter.section(panel):
                formatter.write_dl(rows)

    def format_epilog(self, context: Context, formatter: Formatter) -> None:
        if epilog := getattr(self, "epilog", None):  # verbatim: examples are copied, and tables stay tables
            formatter.write(f"\n{epilog}\n")


class Command(_Plain, TyperCommand):
    """A command whose help has panels."""


class Group(_Plain, TyperGroup):
    """A group of commands whose help has panels of commands."""


def split_examples(docstring: str) -> tuple[str, str]:
    """Return a command's help and its examples: the part of its docstring from the line `Examples:` on."""
    text, heading, examples = docstring.partition("\n\nExamples:\n")
    return text, f"Examples:\n{examples}" if heading else ""


def with_help(given: Sequence[str], incomplete: Iterable[str]) -> list[str]:
    """Return the arguments, with `--help` if there are none, or one of these incomplete commands alone."""
    words = [word for word in given if word not in ("--quiet", "-q", "--verbose", "-v")]
    return [*given, "--help"] if not words or words in ([name] for name in incomplete) else list(given)


def help_(
    context: typer.Context,
    command: Annotated[
        list[str] | None, o.argument("[COMMAND]", "Command to explain, e.g. sweep or cache prune.", complete=completion.commands)
    ] = None,
) -> None:
    """Print the help of a command.

    Examples:
      adbench help sweep
      adbench help cache prune
    """
    context.find_root().command(args=[*(command or ()), "--help"], prog_name="adbench", standalone_mode=False)
