"""Shifts of test images: the same bytes on every run, and only what they are called."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run

from adbench.data import shifts
from adbench.data.images import read_image
from adbench.sweep import pipeline
from adbench.sweep.workspace import Workspace
from adbench.types import Job

IMAGE = np.random.default_rng(5).integers(40, 200, (240, 320, 3)).astype(np.uint8)
SEED = shifts.seed_of("noise:1", "test/good/000.png", "ab" * 32)
GOLDEN = {"brightness:3": "8e3362d0", "noise:1": "ce8b1715", "shift:2": "45022023"}
EVERY = shifts.parse_shifts(shifts.AMOUNTS)


def test_kinds_and_strengths() -> None:
    assert len(EVERY) == 15 and EVERY[:3] == ("brightness:1", "brightness:2", "brightness:3")
    assert shifts.parse_shifts(["Blur:2", "blur", "noise:3"]) == ("blur:2", "blur:1", "blur:3", "noise:3")
    assert shifts.seed_of("noise:3", "test/good/000.png", "ab" * 32) == SEED  # strengths share their noise
    assert shifts.seed_of("blur:1", "test/good/000.png", "ab" * 32) != SEED != shifts.seed_of("noise:1", "a", "ab" * 32)


def test_the_same_bytes_on_every_run() -> None:
    found = {shift: hashlib.sha256(shifts.shifted(IMAGE, shift, SEED).tobytes()).hexdigest()[:8] for shift in EVERY}
    again = {shift: hashlib.sha256(shifts.shifted(IMAGE.copy(), shift, SEED).tobytes()).hexdigest()[:8] for shift in EVERY}
    assert found == again and len(set(found.values())) == 15
    assert {shift: found[shift] for shift in ("brightness:3", "noise:1", "shift:2")} == GOLDEN


@pytest.mark.parametrize("kind", shifts.AMOUNTS)
def test_a_higher_strength_changes_more(kind: str) -> None:
    change = [np.abs(shifts.shifted(IMAGE, f"{kind}:{n}", SEED).astype(float) - IMAGE).mean() for n in shifts.STRENGTHS]
    assert 0 < change[0] < change[1] < change[2] or kind == "shift"


def test_a_defect_and_its_mask_move_together() -> None:
    mask = np.zeros((48, 64), bool)
    mask[20:30, 30:44] = True
    image = np.repeat((mask * 200).astype(np.uint8)[..., None], 3, axis=2)
    down, right = shifts.offset("shift:3", SEED, (48, 64))
    assert 1 <= np.hypot(down, right) <= 4 and shifts.offset("noise:3", SEED, (48, 64)) == (0, 0)
    moved = shifts.moved(mask, (down, right))
    assert np.array_equal(shifts.shifted(image, "shift:3", SEED)[..., 0] > 0, moved)
    assert np.array_equal(np.argwhere(moved) - np.argwhere(mask), np.full((140, 2), (down, right)))


def test_masks_of_a_category_move_with_its_images(workspace: Workspace) -> None:
    inputs = workspace.single()
    assert inputs.labels(64, shift="noise:1") is inputs.labels(64)
    usual, moved = inputs.labels("native"), inputs.labels("native", shift="shift:3")
    seeds = inputs.seeds("shift:3")
    for sample, before, after in zip(inputs.category.test, usual.truth.masks or (), moved.truth.masks or (), strict=True):
        assert np.array_equal(shifts.moved(before, shifts.offset("shift:3", seeds[sample.path], before.shape)), after)
    read = shifts.reader("shift:3", seeds)(inputs.category.test[0].path, (64, 64), 1.0, 1.0)
    image = read_image(inputs.category.test[0].path)
    assert np.array_equal(read // 128, shifts.shifted(image, "shift:3", seeds[inputs.category.test[0].path]))


def test_one_fit_serves_all_shifts_of_a_sweep(run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = (
        "backbones: [efficientnet_lite0]\nlayers: [blocks.1.1.add]\nimage_sizes: [64]\neval_size: 64\ndetectors: [mahalanobis]\n"
        "categories: [alpha]\nthresholds: conformal:0.6\n"
    )
    fits: list[Job] = []
    fit = pipeline.fit
    monkeypatch.setattr(pipeline, "fit", lambda *given: fits.append(given[3]) or fit(*given))

    def sweep(more: str) -> dict[str, Any]:
        Path("spec.yaml").write_text(spec + more)
        return run("sweep", "--spec", "spec.yaml", "--data", parts, "--out", "both", "--json").json  # type: ignore[no-any-return]

    assert sweep("")["done"] == 1
    again = sweep("shifts: [noise:3, shift:1]\n")
    assert (again["planned"], again["done"], again["cached"], len(fits)) == (3, 2, 1, 2)  # one fit in each sweep
    both = {record.get("shift"): record for record in run("report", "both", "--json").json}
    assert set(both) == {None, "noise:3", "shift:1"} and both["noise:3"]["metrics"] != both[None]["metrics"]
    shown = run("report", "both", "--show", "robustness,thresholds", "--figures", "figures")
    assert "2 jobs on shifted test images not in this table: --show robustness compares them" in shown.out
    assert "noise:3" in shown.out and "Promised and attained rate" in shown.out and Path("figures/robustness.svg").is_file()
    apart = run("report", "both", "--rows", "shift", "--metrics", "image_fpr,image_auroc").out
    assert "left out" not in apart and "shift:1" in apart and "FPR" in apart


def test_the_group_of_a_job_is_that_without_its_shift() -> None:
    job = Job("d", "f", "c", "b", "w", "s", ("l",), 64, 64, "knn", {}, 1, 0)
    moved = replace(job, shift="blur:1", thresholds=("sigma:3",))
    assert moved.group == job.group and moved.key != job.key and moved.unshifted == replace(job, thresholds=("sigma:3",))
    assert Job.from_record(moved.record()) == moved and "shift" not in job.record()
