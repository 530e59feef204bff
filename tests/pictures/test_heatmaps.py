"""Pictures of anomaly maps: where the highest place is, outlines at the border, one range of colors per image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adbench.pictures import heatmaps
from adbench.pictures.heatmaps import laid_over, outlined, panels
from adbench.types import Sample, Scores

GRAY = np.full((64, 64, 3), 100, np.uint8)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """A good image and one with a defect in its upper left corner."""
    Image.fromarray(GRAY).save(tmp_path / "a.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[:16, :16] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    good = Sample(tmp_path / "a.png", "test/good/a.png", "good", ())
    return [good, Sample(tmp_path / "a.png", "test/cut/a.png", "cut", (tmp_path / "mask.png",))]


def captions(samples: list[Sample], peak: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The captions of the defective image's panels if its map is highest at `peak` of 8 x 8."""
    maps, seen = np.zeros((2, 8, 8), np.float32), list[str]()
    maps[1][peak] = 1
    monkeypatch.setattr(heatmaps, "framed", lambda title, shown, *_: seen.extend([*title, *(text for text, _ in shown)]))
    panels(samples, Scores(np.array([0.25, 0.75], np.float32), maps), 0.0)(1)
    return seen


def test_captions_name_image_score_and_defect(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    found = captions(samples, (1, 1), monkeypatch)
    assert found[:4] == ["test/cut/a.png", "anomaly score 0.75", "image", "cut: 6.2% of the image"]


@pytest.mark.parametrize(("peak", "where"), [((1, 1), ": the defect"), ((6, 6), ": not the defect")])
def test_the_highest_place_is_the_defect_or_misled(
    samples: list[Sample], peak: tuple[int, int], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert captions(samples, peak, monkeypatch)[-1] == f"highest, 5x{where}"


def test_each_image_has_all_colors_and_the_bar_compares(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    maps, bars = np.zeros((2, 8, 8), np.float32), []
    maps[0, 2, 2], maps[1, 2, 2] = 1, 4
    monkeypatch.setattr(heatmaps, "framed", lambda title, shown, columns, bar: bars.append((bar, shown[2][1])))
    draw = panels(samples, Scores(np.zeros(2, np.float32), maps), 0.0)
    draw(0), draw(1)
    (good, shown), (bad, other) = bars
    assert (shown[200:] == other[200:]).all()  # no outline there
    assert good.high < bad.high == good.end == bad.end
    assert dict(good.marks)["highest of good images"] == good.high and dict(bad.marks)["highest here"] == bad.high


def test_outlines_stay_inside_the_picture_and_off_the_mask() -> None:
    mask = np.zeros((64, 64), bool)
    mask[:2, 60:], mask[30, 30] = True, True
    drawn = (outlined(GRAY, mask, 1) != GRAY).any(axis=2)
    assert not (drawn & mask).any() and set(map(tuple, np.argwhere(drawn[20:40, 20:40]))) == {
        (9, 10),
        (11, 10),
        (10, 9),
        (10, 11),
    }
    assert drawn.sum() == 4 + 4 + 2 and (outlined(GRAY, np.zeros((64, 64), bool)) == GRAY).all()


def test_no_heat_leaves_the_image_and_full_heat_the_hottest_color() -> None:
    assert (laid_over(GRAY, np.zeros((8, 8), np.float32)) == GRAY).all()
    assert (laid_over(GRAY, np.ones((8, 8), np.float32), 1.0) == heatmaps.heat_colors()[255]).all()


def test_the_background_is_dimmed_in_the_map_alone(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    part, seen = np.ones((2, 8, 8), bool), dict[str, np.ndarray]()
    part[0, :, :2] = False
    monkeypatch.setattr(heatmaps, "framed", lambda title, shown, *_: seen.update(shown))
    panels(samples, Scores(np.zeros(2, np.float32), np.zeros((2, 8, 8), np.float32), part), 0.0)(0)
    dark = (seen["anomaly map, 25% background"] == 35).all(axis=2)  # of 100
    assert dark[:, :80].mean() > 0.95 and not dark[:, 80:].any() and (seen["image"] == 100).all()
    panels(samples, Scores(np.zeros(2, np.float32), np.zeros((2, 8, 8), np.float32), part), 0.0)(1)
    assert "anomaly map" in seen
