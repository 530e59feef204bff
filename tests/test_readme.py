"""The README runs as written: its blocks in their order, in one fresh folder, give the output that it shows."""

import re
import shlex
from collections.abc import Iterator
from itertools import zip_longest

import pytest
from conftest import Run
from test_docs import README, ROOT, blocks

TIMES = {"img/s", "ms"}  # columns that depend on the machine
_SECONDS = re.compile(r"\bin \d+\.\d+ s\b")
_NUMBER = re.compile(r"[^\d-]*(-?\d+(?:\.\d+)?)[^\d]*")


def steps(block: str) -> Iterator[tuple[str, str]]:
    """Yield (command, the output that the block shows below it, "" for none) of a block of shell commands."""
    if not block.startswith("$ "):
        yield from ((line, "") for line in block.splitlines())
        return
    for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = step.partition("\n")
        yield command, output


def without_times(text: str) -> list[str]:
    """Return the words of an output without what depends on the machine: seconds, and the cells of columns in `TIMES`."""
    kept: list[str] = []
    lines = _SECONDS.sub("in some time", text).splitlines()
    spans: list[tuple[int, int]] = []
    for line, following in zip_longest(lines, lines[1:], fillvalue=""):
        if re.fullmatch(r"-+(  +-+)+", following):
            ends = [match.span() for match in re.finditer("-+", following)]
            spans = [(start, end) for start, end in ends if line[start:end].strip() in TIMES]
        for start, end in spans if line.strip() else []:
            line = line[:start] + " " * (end - start) + line[end:]
        spans = spans if line.strip() else []
        kept += [word for word in line.split() if set(word) != {"-"}]  # lines of dashes are as wide as their column
    return kept


def differences(shown: str, printed: str) -> list[tuple[str, str]]:
    """Return the words that differ; numbers may by a hundredth, for other processors round otherwise."""
    pairs = zip_longest(without_times(shown), without_times(printed), fillvalue="")
    return [(a, b) for a, b in pairs if a != b and not close(a, b)]


def close(a: str, b: str) -> bool:
    found, other = _NUMBER.fullmatch(a), _NUMBER.fullmatch(b)
    if not found or not other or a.replace(found[1], "") != b.replace(other[1], ""):
        return False
    return float(other[1]) == pytest.approx(float(found[1]), rel=0.01, abs=0.01)


def test_what_counts_as_the_same_output() -> None:
    table = "layer  AU-PRO  img/s\n-----  ------  -----\na      *0.93*   12.5\n\nfitted in 0.7 s, 1.4 MB\n"
    assert differences(table, table.replace("12.5", " 3.1").replace("0.7 s", "12.9 s").replace("*0.93* ", "*0.935*")) == []
    assert differences(table, table.replace("*0.93*", "*0.90*")) == [("*0.93*", "*0.90*")]
    assert differences(table, table.replace("*0.93*", "0.93  ")) == [("*0.93*", "0.93")]
    assert differences(table, table.replace("a ", "b ")) == [("a", "b")]
    assert differences(table, table.replace("1.4 MB", "2.4 MB")) == [("1.4", "2.4")]
    assert differences(table, table + "more\n") == [("", "more")]


def test_the_readme_runs_as_written(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    install, *others = blocks(README, "sh", "console")
    assert install.splitlines() == ["python3 -m venv .venv && . .venv/bin/activate", "pip install ."]
    ran = []
    for command, shown in (step for block in others for step in steps(block)):
        program, *arguments = shlex.split(command)
        assert program == "adbench"
        answer = run(*arguments)
        assert (answer.code, "warning" in answer.err) == (0, False), f"{command}\n{answer.err}"
        assert not shown or differences(shown, answer.out) == [], f"{command}\n{answer.out}"
        ran.append(arguments[0])
    assert sorted(set(ran)) == ["demo", "eval", "predict", "report", "select", "sweep", "train"]


def test_make_quickstart_runs_the_first_run() -> None:
    (recipe,) = re.findall(r"^quickstart:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    first = next(block for block in blocks(README, "console"))
    assert re.findall(r"\$\(BIN\)/(adbench .*)", recipe) == [command for command, _ in steps(first)]
