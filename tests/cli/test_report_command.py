"""`adbench report`: without results. Its tables are tested in tests/reports."""

from conftest import Run, one_line


def test_a_report_without_results(run: Run) -> None:
    assert "no results in" in one_line(run("report", "nothing"), 3)
