"""Transformers in sweeps: sizes that do not fit, and the same bytes in every way to run them."""

from pathlib import Path

import pytest
from conftest import Run, one_line

SPEC = """
backbones:
  - {name: test_vit, image_sizes: [48, 50], layers: [blocks.1, blocks.5.norm]}
  - {name: efficientnet_lite0, image_sizes: [64], layers: [blocks.2.1.add]}
weights: [random]
categories: [alpha]
detectors: [mahalanobis]
"""
MISFIT = "image size 50 does not fit test_vit; take 48 or 64"


def write(text: str) -> None:
    Path("spec.yaml").write_text(text)


def metrics(run: Run, folder: str) -> dict[tuple[str, ...], str]:
    """Return the metrics of each result as text."""
    return {(r["backbone"], r["layer"], r["detector"]): str(r["metrics"]) for r in run("report", folder, "--json").json}


def test_a_size_that_does_not_fit_is_skipped_with_the_two_nearest(run: Run, parts: Path) -> None:
    write(SPEC)
    done = run("sweep", "--spec", "spec.yaml", "--data", parts, "--json")
    assert (done.code, done.json["done"], done.json["skipped"]) == (1, 3, 2)
    assert {r["reason"] for r in run("report", "--json").json if r["image_size"] == 50} == {MISFIT}


def test_no_size_that_fits_is_wrong_usage(run: Run, parts: Path) -> None:
    write("backbones: [test_vit]\nweights: [random]\nimage_sizes: [50]\n")
    assert one_line(run("sweep", "--spec", "spec.yaml", "--data", parts), 2) == MISFIT


@pytest.mark.parametrize("command", [["extract", "test_vit", "blocks.1"], ["train", "padim", "test_vit", "blocks.1"]])
def test_other_commands_answer_the_size_before_any_work(command: list[str], run: Run, parts: Path) -> None:
    more = ["--model", "m.safetensors"] if command[0] == "train" else []
    done = run(*command, "--data", parts, "--category", "alpha", "--weights", "random", "--image-size", "50", *more)
    assert one_line(done, 2) == MISFIT


def test_the_same_metrics_from_two_workers_and_from_a_cold_cache(
    run: Run, parts: Path, tmp_path: Path, workers_here: None
) -> None:
    write(SPEC.replace(", 50", ""))
    first = run("sweep", "--spec", "spec.yaml", "--data", parts, "--out", "one", "--json")
    assert (first.code, first.json["done"]) == (0, 3)
    run("sweep", "--spec", "spec.yaml", "--data", parts, "--out", "two", "--jobs", "2", "--cache", tmp_path / "cold")
    run("sweep", "--spec", "spec.yaml", "--data", parts, "--out", "three")
    assert metrics(run, "one") == metrics(run, "two") == metrics(run, "three") and len(metrics(run, "one")) == 3


def test_a_block_that_is_not_there(run: Run, parts: Path) -> None:
    message = one_line(run("extract", "test_vit", "blocks.9", "--data", parts, "--weights", "random"), 2)
    assert message.startswith("unknown layer 'blocks.9' of test_vit")
    message = one_line(run("extract", "resnet18", "blocks.3", "--data", parts, "--weights", "random"), 2)
    assert message.startswith("unknown layer 'blocks.3' of resnet18")
