"""Validation data: which images train, and which are scored."""

from dataclasses import replace
from pathlib import Path

import pytest

from adbench.core.errors import DataError
from adbench.data.check import FileFacts
from adbench.metrics.support.labels import CategoryInputs
from adbench.selection.validation import Holdout, Validation, make_validation
from adbench.types import Category, Sample


def parts_of(count: int) -> CategoryInputs:
    samples = tuple(Sample(Path(f"{k}.png"), f"{k}.png") for k in range(count))
    facts = {sample.path: FileFacts(f"{k:064x}", 4, 4) for k, sample in enumerate(samples)}
    return CategoryInputs(Category("parts", "nut", samples, ()), facts)


def test_too_few_good_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^category 'nut' has 9 good training images; select needs 10 or more$"):
        make_validation(parts_of(9), Holdout(), 0, tmp_path)


def test_a_subset_has_fewer_images_to_fit_on_and_all_to_score() -> None:
    whole = Validation(parts_of(40), (0.1,), seed=3)
    subset = whole.subset(0.25)
    names = [sample.name for sample in subset.inputs.category.train]
    assert len(names) == 10
    assert set(names) < {sample.name for sample in whole.inputs.category.train}
    assert subset == whole.subset(0.25) != replace(whole, seed=4).subset(0.25)
    assert subset.inputs.category.test == whole.inputs.category.test
