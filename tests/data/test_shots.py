"""Few good images are drawn by the seed and the names alone."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from adbench.core.errors import UsageError
from adbench.data.shots import draw, drawn
from adbench.types import Category, Sample

NUT = Category("parts", "nut", tuple(Sample(Path(f"{n:03}.png"), f"train/good/{n:03}.png") for n in range(20)), ())


def names(category: Category, shots: int, seed: int) -> set[str]:
    return {sample.name for sample in drawn(category, shots, seed)}


def test_fewer_shots_are_among_more() -> None:
    for seed in range(3):
        draws = [set(draw(NUT, shots, seed)) for shots in range(1, 21)]
        assert [len(found) for found in draws] == list(range(1, 21))
        assert all(fewer < more for fewer, more in pairwise(draws))
    assert draw(NUT, "all", 0) == draw(NUT, 20, 0) == list(range(20))


def test_seeds_and_categories_draw_differently_and_every_image_has_its_turn() -> None:
    assert len({tuple(draw(NUT, 4, seed)) for seed in range(10)}) == 10
    assert draw(NUT, 4, 0) != draw(replace(NUT, name="bolt"), 4, 0)
    counts = [sum(number in draw(NUT, 5, seed) for seed in range(400)) for number in range(20)]
    assert min(counts) > 60 and max(counts) < 140  # 100 each is expected


def test_neither_the_order_nor_the_folder_of_the_images_matters() -> None:
    elsewhere = replace(NUT, dataset="other", train=tuple(replace(s, path=Path("x") / s.path) for s in reversed(NUT.train)))
    assert names(elsewhere, 6, 1) == names(NUT, 6, 1)


def test_more_shots_than_images_are_refused() -> None:
    with pytest.raises(UsageError) as error:
        draw(NUT, 21, 0)
    assert str(error.value) == "shots 21: category 'nut' has 20 training images; take at most 20, or add good images"
