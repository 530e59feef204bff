"""What every kind of synthetic defect must keep, and how defects are placed, sized and repeated."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from adbench.core.errors import DataError, UsageError
from adbench.data.images import read_image
from adbench.data.synthetic.foreground import learn_foreground
from adbench.data.synthetic.generation import TOLERANCE, VISIBLE, Maker, Parts, Recipe, Sizes, make_defects, sizes_of_masks
from adbench.data.synthetic.kinds import KINDS
from adbench.types import Sample


def texture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A colored weave under uneven light, (height, width, 3)."""
    rows, columns = np.mgrid[:height, :width]
    weave = 120 + 35 * np.sin(rows / 2.1 + rng.uniform(0, 6)) * np.sin(columns / 2.6) + 15 * columns / width
    return weave[..., None] * (1.0, 0.9, 0.7) + rng.normal(0, 4, (height, width, 3))


def disc(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A patterned disc before a plain, noisy background."""
    rows, columns = np.mgrid[:height, :width]
    inside = np.hypot(rows - height / 2 + rng.uniform(-2, 2), columns - width / 2) < 0.36 * min(height, width)
    return np.where(inside[..., None], texture(rng, height, width) + 30, 40 + rng.normal(0, 3, (height, width, 3)))


def gray(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A dark, streaky surface without color."""
    streaks = gaussian_filter(rng.normal(60, 160, (height, width)), (9, 0.8))
    return np.repeat(streaks[..., None], 3, axis=2)


SCENES = {
    "texture": (texture, 96, 96), "object": (disc, 112, 96), "gray": (gray, 80, 128), "tiny": (texture, 32, 32),
}  # fmt: skip


def write_scene(folder: Path, name: str, count: int = 4) -> list[Sample]:
    draw, height, width = SCENES[name]
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        pixels = np.clip(draw(np.random.default_rng(k), height, width), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return [Sample(path, path.name) for path in sorted(folder.iterdir())]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Sample]]:
    root = tmp_path_factory.mktemp("scenes")
    return {name: write_scene(root / name, name) for name in SCENES}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("kind", KINDS.names())
class TestKinds:
    def test_the_mask_is_where_the_image_has_changed(self, kind, scene, scenes):
        for made in make_defects(scenes[scene], 3, 7, Recipe((kind,))):
            good = read_image(made.source.path)
            change = np.abs(made.image.astype(int) - good).max(axis=2)
            assert (made.kind, made.image.dtype, made.mask.dtype) == (kind, np.uint8, bool)
            assert made.image.shape == good.shape and made.mask.shape == good.shape[:2]
            assert not change[~made.mask].any()
            assert (change[made.mask] >= VISIBLE).mean() >= 0.5

    def test_sizes_lie_in_the_range(self, kind, scene, scenes):
        for made in make_defects(scenes[scene], 3, 8, Recipe((kind,), Sizes((0.05, 0.1)), min_size_px=5)):
            side = np.sqrt(made.mask.size)
            assert max(0.05 * side / TOLERANCE, 5) <= made.size_px <= max(0.1 * side, 5.5) * TOLERANCE

    def test_it_stays_on_the_part_and_is_gray_on_gray_images(self, kind, scene, scenes):
        foreground = learn_foreground(scenes[scene])
        assert foreground.object == (scene == "object")
        for made in make_defects(scenes[scene], 2, 9, Recipe((kind,))):
            assert not (made.mask & ~foreground.of(read_image(made.source.path))).any()
            assert scene != "gray" or np.ptp(made.image, axis=2).max() == 0

    def test_an_image_does_not_depend_on_those_made_before(self, kind, scene, scenes):
        whole = list(make_defects(scenes[scene], 3, 5, Recipe((kind,))))
        alone = Maker(Parts(scenes[scene], learn_foreground(scenes[scene])), Recipe((kind,)), 5).make(2)
        np.testing.assert_array_equal(alone.image, whole[2].image)
        np.testing.assert_array_equal(alone.mask, whole[2].mask)
        assert alone.source == whole[2].source


@pytest.mark.parametrize("kind", KINDS.names())
def test_a_defect_may_be_nearly_as_large_as_the_image(kind, scenes):
    (made,) = make_defects(scenes["texture"], 1, 3, Recipe((kind,), Sizes((0.5, 0.5))))
    assert 48 / TOLERANCE <= made.size_px <= 48 * TOLERANCE


def test_another_seed_gives_other_defects(scenes):
    first, second = (next(make_defects(scenes["texture"], 1, seed)) for seed in (0, 1))
    assert not np.array_equal(first.mask, second.mask)


def test_kinds_take_turns_and_every_image_is_used(scenes):
    made = list(make_defects(scenes["texture"], 8, 0, Recipe(("scratch", "stain"))))
    assert [m.kind for m in made] == ["scratch", "stain"] * 4
    assert sorted(m.source.name for m in made) == sorted([s.name for s in scenes["texture"]] * 2)


def test_like_follows_the_areas_of_known_defects(scenes, tmp_path):
    for number, side in enumerate((6, 6, 7, 20)):
        mask = np.zeros((96, 96), np.uint8)
        mask[5 : 5 + side, 5 : 5 + side] = 255
        mask[90, 90] = 255  # a speck, below min_size_px
        (tmp_path / "kind").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "kind" / f"{number}.png")
    sizes = sizes_of_masks(tmp_path, min_size_px=3)
    assert sizes.quantiles == pytest.approx([6 / 96, 6 / 96, 7 / 96, 20 / 96])
    made = [m.size_px for m in make_defects(scenes["texture"], 24, 0, Recipe(("stain",), sizes))]
    assert min(made) >= 6 / TOLERANCE and max(made) <= 20 * TOLERANCE
    assert 6 / TOLERANCE <= np.median(made) <= 8 * TOLERANCE


@pytest.mark.parametrize(
    ("call", "error", "line"),
    [
        (lambda: Recipe(("scrach",)), UsageError, "unknown defect 'scrach'; did you mean 'scratch'?"),
        (lambda: Recipe(contrasts=(0.5, 0.2)), UsageError, "--contrasts 0.5,0.2: give fractions above 0, up to 1"),
        (lambda: Recipe(min_size_px=1), UsageError, "--min-size-px 1: give 2 or more"),
        (lambda: Sizes((0.2, 0.9)), UsageError,
         "--sizes 0.2,0.9: give fractions of the image's side above 0, up to 0.7"),
    ],
)  # fmt: skip
def test_unknown_kinds_and_bad_ranges_are_refused(call, error, line):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == line


def test_a_defect_larger_than_the_part_is_refused(scenes):
    with pytest.raises(UsageError) as caught:
        next(make_defects(scenes["tiny"], 1, 0, Recipe(min_size_px=30)))
    path = next(iter(make_defects(scenes["tiny"], 1, 0))).source.path
    assert str(caught.value) == f"--min-size-px 30: the part in {path} has room for 22 px; give less"


def test_a_missing_folder_of_masks_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        sizes_of_masks(tmp_path / "none")
    assert str(caught.value) == f"masks {tmp_path}/none: no such folder; give one of masks, white where the defect is"


def test_masks_without_a_defect_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(DataError) as caught:
        sizes_of_masks(tmp_path, 3)
    assert str(caught.value) == (
        f"masks {tmp_path}: no defect of 3 px or more in 1 masks; give a folder of masks, white where the defect is"
    )
