"""Objects are found in front of plain backgrounds of any brightness; textures are not mistaken for objects."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from adbench.data.synthetic.foreground import estimate, learn_foreground
from adbench.types import Sample

SHAPE = HEIGHT, WIDTH = 160, 220
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
FAR = np.hypot(ROWS - HEIGHT / 2, COLUMNS - WIDTH / 2)
BLOTCHES = gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 3)
OBJECTS = {
    "disc": FAR < 55,
    "ring": (FAR < 65) & (FAR > 30),
    "bar from edge to edge": np.abs(COLUMNS - WIDTH / 2) < 40,
    "standing on the border": (np.abs(COLUMNS - WIDTH / 2) < 35) & (ROWS > 50),
    "nearly full": (np.abs(COLUMNS - WIDTH / 2) < 96) & (np.abs(ROWS - HEIGHT / 2) < 68),
    "pills": np.hypot(ROWS % 54 - 27, COLUMNS % 55 - 27) < 16,
}
TEXTURES = {
    "noise": np.full(SHAPE, 120.0),
    "spots": np.where(np.quantile(BLOTCHES, 0.8) < BLOTCHES, 40.0, 200.0),
    "stripes": 120 + 60 * np.sign(np.sin(COLUMNS / 9.0)),
    "vignette": 220 - 150 * FAR / FAR.max(),
    "light from one side": 60 + 140 * COLUMNS / WIDTH,
}


def photograph(light: np.ndarray, seed: int = 0, noise: float = 4) -> np.ndarray:
    colored = light[..., None] * (1, 0.95, 0.9) + np.random.default_rng(seed).normal(0, noise, (*SHAPE, 3))
    return np.clip(colored, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", OBJECTS)
@pytest.mark.parametrize(("inside", "outside"), [(60, 235), (200, 20), (130, 160 + 40 * COLUMNS / WIDTH)])
def test_an_object_is_found(name, inside, outside):
    found = estimate(photograph(np.where(OBJECTS[name], float(inside), outside)))
    assert found is not None
    assert (found & OBJECTS[name]).sum() / (found | OBJECTS[name]).sum() > 0.88


@pytest.mark.parametrize("name", TEXTURES)
def test_a_texture_has_no_object(name):
    assert estimate(photograph(TEXTURES[name])) is None


def samples(folder: Path, lights: list[np.ndarray]) -> list[Sample]:
    for number, light in enumerate(lights):
        Image.fromarray(photograph(light, number)).save(folder / f"{number}.png")
    return [Sample(path, path.name) for path in sorted(folder.iterdir())]


def test_an_atypical_image_takes_the_foreground_of_the_others(tmp_path):
    disc = np.where(OBJECTS["disc"], 60.0, 200.0)
    foreground = learn_foreground(samples(tmp_path, [disc, disc, disc, TEXTURES["noise"]]))
    common = foreground.of(photograph(TEXTURES["noise"]))
    assert foreground.object
    assert (common & OBJECTS["disc"]).sum() / (common | OBJECTS["disc"]).sum() > 0.9


def test_objects_in_a_minority_of_images_make_no_object(tmp_path):
    disc = np.where(OBJECTS["disc"], 60.0, 200.0)
    foreground = learn_foreground(samples(tmp_path, [disc, TEXTURES["noise"], TEXTURES["spots"]]))
    assert not foreground.object
    assert foreground.of(photograph(disc)).all()
