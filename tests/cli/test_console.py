"""What a terminal shows while work goes on."""

import io
import json
import logging
import re

import pytest

from adbench.cli import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def last_frame(monkeypatch: pytest.MonkeyPatch, *steps: tuple[int, int, str]) -> str:
    """Return the last line that a terminal shows after these steps."""
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with console.progress() as on_step:
        for step in steps:
            on_step(*step)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    return [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()][-1]


def test_a_note_that_tells_the_loss_does_not_restart_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = last_frame(monkeypatch, *((done, 40, f"loss {1 / done:.4g}") for done in range(1, 5)))
    assert re.search(r"^loss 0\.25 .* 4/40 0:00:\d\d 0:00:\d\d$", frame)


def test_another_activity_starts_the_time_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = last_frame(monkeypatch, (7, 8, "first"), (8, 8, "first"), (2, 8, "second"))
    assert re.search(r"^second .* 2/8 0:00:\d\d -:--:--$", frame)


def test_a_warning_stands_above_the_bar_in_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    console.set_up()
    with console.progress() as on_step:
        on_step(1, 4, "working")
        logging.getLogger("adbench").warning("too few images")
        on_step(2, 4, "working")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert [line.strip() for line in re.split(r"[\r\n]+", text) if "warning" in line] == ["adbench: warning: too few images"]


def test_all_jobs_have_a_bar_with_the_forecast_of_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setattr(console, "_quiet", False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with console.job_progress(4, 500.0, 2, "candidates") as (_, advance):
        advance()
        advance(4, 5, 72.5)
    frames = re.findall(r"candidates .* (\d/\d) \S+ (\d+ \w+ left)", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()))
    assert frames[-1] == ("4/5", "72 s left")


def test_an_activity_without_a_known_end_does_not_take_over_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"^metrics .* 0/\? ", last_frame(monkeypatch, (8, 8, "scoring"), (0, 0, "metrics")))


def test_color_needs_a_terminal_and_no_veto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert console.has_color(Terminal())
    assert not console.has_color(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not console.has_color(Terminal())


def test_no_bar_is_drawn_when_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    monkeypatch.setattr(console, "_quiet", True)
    with console.progress() as on_step:
        on_step(1, 2, "working")
    assert terminal.getvalue() == ""


def test_json_has_null_for_values_that_are_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    console.answer_json({1: [float("nan"), (float("inf"), 0.5)]})
    assert json.loads(capsys.readouterr().out) == {"1": [None, [None, 0.5]]}
