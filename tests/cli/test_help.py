"""The front door: help without arguments, in panels, within 80 columns, with examples that parse."""

import re
import shlex
from typing import Any

import pytest
import typer
from conftest import Run, one_line
from test_docs import assert_parses

from adbench.cli.app import COMMANDS, GROUPS, PANELS, app
from adbench.cli.help import summary
from adbench.cli.report import _SHOW, _STUDY
from adbench.core.registry import table


@pytest.fixture(autouse=True)
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize("words", [(), ("list",), *((name,) for name in GROUPS)], ids=str)
def test_without_arguments_there_is_help(words: tuple[str, ...], run: Run) -> None:
    answer = run(*words)
    assert (answer.code, answer.err) == (0, "")
    assert answer == run(*words, "--help") == run(*words, "-h") == run("help", *words)
    assert run(*words, "--quiet") == answer


def test_commands_stand_in_panels_in_the_order_of_a_project(run: Run) -> None:
    text = run("help").out
    headings = [f"\n{panel}:\n" for panel in PANELS]
    assert [text.index(heading) for heading in headings] == sorted(text.index(heading) for heading in headings)
    assert text.index("\n  sweep ") < text.index("\n  select ") < text.index("\n  train ") < text.index("\n  list ")
    assert re.findall(r"^    (\d+)  ", text, re.MULTILINE) == ["0", "1", "2", "3", "4", "130", "143"]


@pytest.mark.parametrize("path", COMMANDS)
def test_the_help_of_a_command_fits_and_ends_in_examples(path: str, run: Run) -> None:
    answer = run("help", *path.split())
    assert answer == run(*path.split(), "-h")
    assert answer.code == 0
    assert [line for line in answer.out.splitlines() if len(line) > 80] == []
    _, _, examples = answer.out.partition("\nExamples:\n")
    lines = examples.replace("\\\n", " ").splitlines()
    assert lines
    assert all(line.startswith(f"  adbench {path} ") or line == f"  adbench {path}" for line in lines)


@pytest.mark.parametrize("line", ["adbench sweep --preset quickstart", "adbench help sweep"])
def test_the_examples_of_the_program_parse(line: str, run: Run) -> None:
    assert f"\n  {line}\n" in run("help").out + "\n"
    assert_parses(line)


@pytest.mark.parametrize("path", COMMANDS)
def test_the_line_about_a_command_is_one_line(path: str, run: Run) -> None:
    command: Any = typer.main.get_command(app)
    for name in path.split():
        command = command.commands[name]
    sentence = summary(command.help)
    assert sentence.endswith(".")
    assert re.search(rf"^  {name} +{re.escape(sentence)}$", run("help", *path.split()[:-1]).out, re.MULTILINE)


def test_the_options_of_a_sweep_are_in_panels(run: Run) -> None:
    parts = re.split(r"^([A-Z][a-z ]+):$", run("help", "sweep").out, flags=re.MULTILINE)
    names = {
        heading: re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE) for heading, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert names["Grid of jobs"] == ["--preset", "--spec", "--set"]
    assert "--dry-run" in names["Run"]
    assert "--partition" in names["Executor"]
    assert max(map(len, names.values())) <= 10


@pytest.mark.parametrize(("kind", "text"), [("analyses", _SHOW), ("studies", _STUDY)])
def test_the_values_of_an_option_are_explained(kind: str, text: str) -> None:
    own = [name for name, item in table(kind).items().items() if getattr(item, "section", item).__module__.startswith("adbench.")]
    assert [name for name in own if name not in text] == []


def test_the_help_of_an_unknown_command(run: Run) -> None:
    assert one_line(run("help", "swep"), 2) == "No such command 'swep'. Did you mean 'sweep'? See 'adbench --help'."
    assert (
        one_line(run("help", "cache", "prun"), 2) == "No such command 'prun'. Did you mean 'prune'? See 'adbench cache --help'."
    )


def test_an_example_is_split_off_its_docstring() -> None:
    assert shlex.split(COMMANDS["train"].__doc__.partition("Examples:\n")[2])[:2] == ["adbench", "train"]
