"""`adbench sweep`: what it skips, what fails, and folders that cannot be written."""

from pathlib import Path

import pytest
from conftest import Run, one_line

LAYER = "blocks.2.1.add"


def test_weights_of_a_backbone_stand_in_for_those_of_the_sweep(run: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "backbones: [{name: resnet18, layers: [layer1], weights: [random]},"
        " {name: efficientnet_lite0, layers: [blocks.1.1.add]}]\n"
        "weights: [imagenet, random]\nimage_sizes: [64]\n"
    )
    planned = run("sweep", "--spec", "spec.yaml", "--data", parts, "--dry-run", "--json").json
    assert (planned["planned"], planned["groups"], planned["skipped"]) == (6, 6, 0)


def test_missing_weights_skip_their_jobs_and_the_others_run(
    run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "s.yaml").write_text("backbones: [resnet18]\nlayers: [layer1]\nweights: [random, imagenet]\nimage_sizes: [64]\n")
    done = run("sweep", "--spec", "s.yaml", "--data", parts, "--category", "alpha", "--offline", "--json")
    reason = "1 job (weights imagenet) {}: weights 'imagenet' of resnet18: "
    dry = run("sweep", "--spec", "s.yaml", "--data", parts, "--category", "alpha", "--offline", "--dry-run")
    assert (dry.code, dry.out.count(reason.format("cannot run"))) == (0, 1)
    assert (done.err.count("weights 'imagenet' of resnet18"), done.err.count(reason.format("skipped"))) == (1, 1)
    counts = {"planned": 2, "done": 1, "cached": 0, "skipped": 1, "failed": 0, "out": "results"}
    assert (done.code, done.json) == (1, counts)
    assert "skipped: weights 'imagenet' of resnet18" in done.err
    report = run("report", "--format", "markdown")
    assert (report.code, "resnet18-f37072fd.pth is not there" in report.out) == (0, True)


def test_a_training_that_diverges_is_a_failed_job_with_its_reason(run: Run, parts: Path) -> None:
    wild = "{name: fastflow, params: {epochs: 1, learning_rate: 1.0e+6}}"
    Path("s.yaml").write_text(f"layers: [{LAYER}]\nimage_sizes: [64]\ncategories: [alpha]\ndetectors: [{wild}, mahalanobis]\n")
    done = run("sweep", "--spec", "s.yaml", "--data", parts, "--json")
    assert (done.code, done.json["done"], done.json["failed"]) == (1, 1, 1)
    record = next(r for r in run("report", "--json").json if r["detector"] == "fastflow")
    assert record["status"] == "failed"
    assert record["reason"].startswith("training diverged in epoch 1: loss ")
    assert record["reason"].endswith("at the start; lower learning_rate=1e+06")


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_a_folder_that_cannot_be_written(option: str, run: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("sweep", "--preset", "quickstart", "--data", parts, option, tmp_path / "file")
    assert str(tmp_path / "file") in one_line(done, 3)


def test_equal_failures_are_printed_once_and_counted_at_the_end(run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*arguments: object, **options: object) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr("adbench.detectors.mahalanobis.Mahalanobis.fit", fit)
    Path("s.yaml").write_text(f"layers: [{LAYER}]\nimage_sizes: [64]\ndetectors: [mahalanobis]\nseeds: [0, 1]\n")
    done = run("sweep", "--spec", "s.yaml", "--data", parts)
    lines = [line for line in done.err.splitlines() if "no luck" in line]
    assert done.code == 1
    assert len(lines) == 2, done.err
    assert lines[0].startswith("[1/4] alpha ")
    assert lines[1] == "4 jobs failed: RuntimeError: no luck"
