"""README, the command reference and --help in step. `python tests/test_docs.py` writes docs/commands.md anew."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from adbench.cli import app
from adbench.sweep.spec import parse, preset_names, preset_text

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "docs" / "commands.md"


def commands(command: Any = None, path: str = "adbench") -> Iterator[tuple[str, Any]]:
    """Yield (`adbench sub`, its parsed command) for every command."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


def usage(command: Any) -> str:
    arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
    return " ".join([*arguments, "[OPTIONS]"])


def row(option: Any) -> str:
    name = ", ".join(option.opts) + (f" {option.metavar}" if option.metavar else "")
    default = "" if option.default in (None, False, ()) or callable(option.default) else f" Default: {option.default}."
    return f"| `{name}` | {(option.help or '') + ('' if 'Default' in (option.help or '') else default)} |".replace("||", "|")


def reference() -> str:
    """Return docs/commands.md as the command line describes itself."""
    lines = ["# Commands", "", "Written from `--help` by `make docs`; a test keeps it in step.", ""]
    for path, command in commands():
        lines += [f"## `{path} {usage(command)}`", "", command.help or "", "", "| option | meaning |", "| --- | --- |"]
        lines += [row(p) for p in command.params if p.param_type_name == "option" and p.name != "help"] + [""]
    return "\n".join(lines)


NAMES = [path for path, _ in commands()]


def test_the_reference_is_what_help_says() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run 'make docs'"


@pytest.mark.parametrize("path", NAMES)
def test_every_command_and_option_explains_itself(path: str) -> None:
    command = dict(commands())[path]
    assert command.help
    assert all(p.help for p in command.params if p.param_type_name == "option")


@pytest.mark.parametrize("path", NAMES)
def test_every_command_has_an_example_in_the_readme(path: str) -> None:
    assert any(line.startswith(path + " ") or line == path for line in README_COMMANDS), path


README_COMMANDS = [
    line.removeprefix("$ ").strip()
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", " ").split("\n")
    if line.removeprefix("$ ").startswith("adbench ")
]


@pytest.mark.parametrize("line", README_COMMANDS)
def test_commands_in_the_readme_parse(line: str) -> None:
    words = shlex.split(line.split(" > ")[0], comments=True)  # without what a shell redirects
    command: Any = typer.main.get_command(app)
    name, rest = words[0], words[1:]
    while hasattr(command, "commands"):
        if rest and rest[0] in ("--version", "--help"):
            return
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
    command.make_context(name, [word for word in rest if word not in ("-q", "--quiet", "-v", "--verbose")])


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_environment_variables_are_in_the_table() -> None:
    used = {
        v
        for p in (ROOT / "adbench").rglob("*.py")
        for v in re.findall(r"ADBENCH_[A-Z]+|TORCH_HOME|HF_HOME|NO_COLOR", p.read_text())
    }
    assert {v for v in used if f"| `{v}` |" not in README} == set()


def test_exit_codes_are_in_the_table() -> None:
    assert all(f"| {code} |" in README for code in (0, 1, 2, 3, 130, 143))


def test_presets_are_named() -> None:
    assert all(f"`{name}`" in README for name in preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_the_table_of_presets_counts_their_jobs(name: str) -> None:
    """Full presets on the 15 categories of MVTec AD, the others on the 4 of the generated parts."""
    study = parse(preset_text(name))
    layers = sum(len(b.layers or study.layers) * len(b.weights or study.weights) for b in study.backbones)
    categories = 4 if study.data == "demo" else 15
    count = layers * len(study.image_sizes) * len(study.detectors) * len(study.seeds) * categories
    (row,) = re.findall(rf"^\| `{name}` \|.*$", README, re.MULTILINE)
    assert re.search(rf"\b{count}\b", row), f"{count} jobs"
    assert re.search(rf"\b{count} jobs", preset_text(name)) or name == "quickstart"


def test_the_changelog_is_dated_and_says_what_moves_numbers() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert releases
    assert all(re.search(r"\d{4}-\d{2}-\d{2}$", release) for release in releases)
    assert "### Numbers" in text


if __name__ == "__main__":
    REFERENCE.parent.mkdir(exist_ok=True)
    REFERENCE.write_text(reference(), encoding="utf-8")
