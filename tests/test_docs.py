"""The README, the pages of docs/ and --help agree. `python tests/test_docs.py` writes docs/commands.md."""

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import adbench
from adbench.cli.app import app
from adbench.cli.help import meaning, panels, title, usage
from adbench.sweep.spec import parse, preset_names, preset_text

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "commands.md"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))
}
README, GUIDE = PAGES["README.md"], PAGES["docs/guide.md"]


# ---- what the command line says of itself --------------------------------------------------------------------------


def commands(command: Any = None, path: str = "adbench") -> Iterator[tuple[str, Any]]:
    """Yield (`adbench sub`, its parsed command) for every command."""
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, f"{path} {name}")


COMMANDS = dict(commands())


def parameters(command: Any, kind: str) -> list[Any]:
    """Return the arguments or the options of a command, without --help."""
    return [p for p in command.params if p.param_type_name == kind and p.name != "help"]


def table(heads: tuple[str, str], shown: list[Any]) -> list[str]:
    """Return a Markdown table of parameters, nothing if there are none."""
    if not shown:
        return []
    rows = [(f"`{title(p)}`", meaning(p)) for p in shown]
    cells = [heads, ("---", "---"), *((a.replace("|", r"\|"), b.replace("|", r"\|")) for a, b in rows)]
    return [*(f"| {a} | {b} |" for a, b in cells), ""]


def section(path: str, command: Any) -> list[str]:
    """Return one command's part of docs/commands.md."""
    shown = [p for p in command.params if p.name != "help" and p.help]
    lines = [f"## {path}", "", "```", f"{path} {usage(shown)}", "```", "", command.help or "", ""]
    for panel, found in panels(shown).items():
        head = {"Arguments": "argument", "Options": "option"}.get(panel, panel.lower())
        lines += table((head, "meaning"), found)
    examples = [line.removeprefix("  ") for line in command.epilog.splitlines()[1:]]
    return [*lines, "```sh", *examples, "```", ""]


def reference() -> str:
    """Return docs/commands.md as the command line describes itself."""
    intro = "Written from `--help` by `make docs`; a test keeps both in step. Examples: [guide.md](guide.md)."
    group = typer.main.get_command(app)
    common = [p for p in parameters(group, "option") if "completion" not in p.name]
    lines = ["# Commands", "", intro, "", "## Options of every command", "", *table(("option", "meaning"), common)]
    for path, command in COMMANDS.items():
        lines += section(path, command)
    return "\n".join(lines)


def test_the_reference_is_what_help_says() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == reference(), "run 'make docs'"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_explains_itself(path: str) -> None:
    assert COMMANDS[path].help
    assert [p.name for p in parameters(COMMANDS[path], "option") if not p.help] == []


def test_every_argument_explains_itself() -> None:
    silent = {p: [a.name for a in parameters(c, "argument") if not a.help] for p, c in COMMANDS.items()}
    assert {path: names for path, names in silent.items() if names} == {}


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_in_the_reference(path: str) -> None:
    (part,) = re.findall(rf"^## {path}\n(.*?)(?=^## |\Z)", PAGES["docs/commands.md"], re.MULTILINE | re.DOTALL)
    names = [name for p in parameters(COMMANDS[path], "option") for name in p.opts]
    assert [name for name in names if not re.search(rf"^\| `[^`]*{name}\b", part, re.MULTILINE)] == []


# ---- examples --------------------------------------------------------------------------------------------------------


def blocks(text: str, *languages: str) -> list[str]:
    """Return the contents of a page's fenced blocks in one of `languages`."""
    return re.findall(rf"^```(?:{'|'.join(languages)})\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """Return the `adbench ...` lines of a page's fenced blocks."""
    lines = [
        line.removeprefix("$ ").strip()
        for block in blocks(text, "sh", "console")
        for line in block.replace("\\\n", " ").split("\n")
    ]
    return [line for line in lines if line.startswith("adbench ")]


EXAMPLES = [(page, line) for page, text in PAGES.items() for line in command_lines(text)]


@pytest.mark.parametrize(("page", "line"), EXAMPLES)
def test_commands_in_the_docs_parse(page: str, line: str) -> None:
    assert_parses(line, page)


def assert_parses(line: str, page: str = "") -> None:
    words = shlex.split(line.split(" > ")[0], comments=True)  # without what a shell redirects
    command: Any = typer.main.get_command(app)
    name, rest = words[0], words[1:]
    while hasattr(command, "commands"):
        if rest and rest[0] in ("--version", "--help", "--install-completion"):
            return
        assert rest[0] in command.commands, f"{page}: unknown command {rest[0]}"
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
    command.make_context(name, [word for word in rest if word not in ("-q", "--quiet", "-v", "--verbose")])


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_an_example_in_the_guide(path: str) -> None:
    assert any(line.startswith(path + " ") or line == path for line in command_lines(GUIDE)), path


@pytest.mark.parametrize("page", PAGES)
def test_python_in_the_docs_compiles(page: str) -> None:
    for block in blocks(PAGES[page], "python"):
        ast.parse(block)


def test_specifications_in_the_docs_are_accepted() -> None:
    found = [block for text in PAGES.values() for block in blocks(text, "yaml")]
    assert found
    assert all(parse(block).backbones for block in found)


@pytest.mark.skipif(not hasattr(adbench, "run_sweep"), reason="adbench has no run_sweep yet")
def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / demo.name).symlink_to(demo)  # drawing its 272 images takes ten seconds
    (example,) = blocks(PAGES["docs/python.md"], "python")
    exec(compile(example, "docs/python.md", "exec"), {})


def test_the_plug_ins_of_the_docs_keep_their_contracts(tmp_path: Path) -> None:
    examples = [block for block in blocks(PAGES["docs/extending.md"], "python") if block.startswith("# adbench/")]
    files = [tmp_path / Path(example.split()[1]).name for example in examples]
    for file, example in zip(files, examples, strict=True):
        file.write_text(example.split("\n", 1)[1])
    done = subprocess.run([sys.executable, "-m", "adbench.testing", *map(str, files)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert len(files) >= 6
    variables = os.environ | {"ADBENCH_PLUGINS": os.pathsep.join(map(str, files))}
    listed = subprocess.run([sys.executable, "-m", "adbench", "list", "metrics"], capture_output=True, text=True, env=variables)
    assert "image_top1" in listed.stdout, listed.stderr


# ---- pages -----------------------------------------------------------------------------------------------------------


def prose(text: str) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def tables(text: str) -> list[list[str]]:
    """Return the rows of each table of a page."""
    return [match.strip().split("\n") for match in re.findall(r"(?:^\|.*(?:\n|\Z))+", prose(text), re.MULTILINE)]


def cells(row: str) -> int:
    """Return the number of cells of a row. A pipe counts unless it is escaped, also within backticks."""
    return len(re.findall(r"(?<!\\)\|", row)) - 1


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def broken(page: str, link: str) -> bool:
    """Return whether a relative link of a page leads nowhere."""
    target, _, anchor = link.partition("#")
    path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
    if not path.exists():
        return True
    return bool(anchor) and anchor not in anchors(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_rows_of_a_table_have_the_same_number_of_cells(page: str) -> None:
    for head, rule, *rows in tables(PAGES[page]):
        assert re.fullmatch(r"\|( ?:?-+:? ?\|)+", rule), f"no line of dashes below {head}"
        assert [row for row in (rule, *rows) if cells(row) != cells(head)] == []


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", prose(PAGES[page]))
    assert [link for link in links if not link.startswith("https://") and broken(page, link)] == []


def test_every_page_is_linked_from_the_readme() -> None:
    assert [page for page in PAGES if page != "README.md" and f"]({page}" not in README] == []


def test_the_readme_is_one_screen() -> None:
    lines = README.split("\n")
    assert len(lines) <= 170
    beginning = "\n".join(lines[:60])
    places = [beginning.index(text) for text in ("pip install", "adbench sweep --preset", "--data DIR")]
    assert places == sorted(places)


def test_environment_variables_are_in_the_table() -> None:
    used = {
        v
        for p in (ROOT / "adbench").rglob("*.py")
        for v in re.findall(r"ADBENCH_[A-Z]+|TORCH_HOME|HF_HOME|NO_COLOR", p.read_text())
    }
    assert {v for v in used if f"| `{v}` |" not in GUIDE} == set()


def test_exit_codes_are_in_the_table() -> None:
    assert all(f"| {code} |" in GUIDE for code in (0, 1, 2, 3, 4, 130, 143))


@pytest.mark.parametrize("name", preset_names())
def test_the_table_of_presets_counts_their_jobs(name: str) -> None:
    """Full presets on the 15 categories of MVTec AD, the others on the 4 of the generated parts."""
    study = parse(preset_text(name))
    layers = sum(
        len(b.layers or study.layers) * len(b.weights or study.weights) * len(b.detectors or study.detectors)
        for b in study.backbones
    )
    categories = 8 if name == "mvtec-ad-2" else 4 if study.data == "demo" else 15
    count = layers * len(study.image_sizes) * len(study.seeds) * len(study.shots) * (1 + len(study.shifts)) * categories
    rows = re.findall(rf"^\| `{name}` \|.*$", README + GUIDE, re.MULTILINE)
    assert any(re.search(rf"\b{count}\b", row) for row in rows), f"{count} jobs"
    assert re.search(rf"\b{count} jobs", preset_text(name)) or name == "quickstart"


def test_releases_are_dated_newest_first_with_each_heading_once() -> None:
    dates = []
    for release in PAGES["CHANGELOG.md"].split("\n## ")[1:]:
        name, _, text = release.partition("\n")
        headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
        assert "Numbers" in headings, name
        assert len(headings) == len(set(headings)), name
        dates += re.findall(r"^\d+\.\d+\.\d+ - (\d{4}-\d{2}-\d{2})$", name) or [f"{name} has no version and date"]
    assert dates == sorted(dates, reverse=True)
    assert all(date.startswith("20") for date in dates), dates


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
