"""Pictures of new images: their size, their colors, the outline above the threshold, the frame."""

import numpy as np
import pytest

from adbench.features.anomaly_maps import searched
from adbench.models.thresholds import Threshold
from adbench.pictures.heatmaps import laid_over
from adbench.pictures.overlays import at_own_size, draw_overlay, laid_map

LIMIT = Threshold(image=5.0, pixel=3.0, typical=1.0, fpr=0.1, count=9, above=1)
GRAY = np.full((256, 256, 3), 100, np.uint8)
OUTLINE = (255, 32, 160)


def spot(height: float) -> np.ndarray:
    """A map at the typical value with a spot of 40 x 40."""
    values = np.full((256, 256), LIMIT.typical, np.float32)
    values[100:140, 60:100] = height
    return values


def panel(values: np.ndarray, limit: Threshold | None = LIMIT) -> np.ndarray:
    return laid_map(GRAY, values, (limit.typical, limit.pixel) if limit else None)


@pytest.mark.parametrize(
    ("size", "drawn"), [((64, 32), (256, 128)), ((300, 400), (300, 400)), ((1000, 2000), (1000, 2000)), ((8192, 2), (4096, 1))]
)
def test_a_picture_has_the_size_of_its_image(size: tuple[int, int], drawn: tuple[int, int]) -> None:
    assert at_own_size(np.zeros((*size, 3), np.uint8)).shape == (*drawn, 3)


def test_the_frame_shows_the_picture_as_it_is_between_title_and_color_bar() -> None:
    framed = np.asarray(draw_overlay(GRAY, spot(5.0), ["part.png", "anomalous"], (LIMIT.typical, LIMIT.pixel)))
    windows = np.lib.stride_tricks.sliding_window_view(framed[..., 0], (256, 256))
    (place,) = np.argwhere((windows == panel(spot(5.0))[..., 0]).all(axis=(2, 3)))
    assert place[0] > 2 * 13 and framed.shape[0] - 256 - place[0] > 13  # two lines above; a bar and its values below


def test_a_typical_place_shows_the_image_and_nothing_else() -> None:
    assert (panel(spot(LIMIT.typical)) == GRAY).all()


def test_only_what_is_above_the_threshold_is_outlined() -> None:
    assert not (panel(spot(LIMIT.pixel)) == OUTLINE).all(axis=2).any()
    rows, columns = np.nonzero((panel(spot(3.1)) == OUTLINE).all(axis=2))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (98, 141, 58, 101)


def test_colors_reach_their_end_at_twice_the_threshold() -> None:
    hot = laid_over(GRAY, np.ones((256, 256), np.float32), 0.5)[0, 0]
    assert (panel(spot(5.0))[120, 80] == hot).all()
    assert (panel(spot(50.0))[120, 80] == hot).all()
    assert not (panel(spot(4.5))[120, 80] == hot).all()


def test_without_a_threshold_the_map_is_its_own_scale() -> None:
    assert (panel(spot(4.5), None) == panel(spot(50.0), None)).all()
    assert (panel(np.ones((256, 256), np.float32), None) == GRAY).all()


def test_a_map_does_not_depend_on_the_others() -> None:
    maps = np.random.default_rng(0).random((7, 32, 32), np.float32)
    assert (searched(maps, 4.0)[3] == searched(maps[3:4], 4.0)[0]).all()
