"""Pictures of anomaly maps: the image, the outline of its mask, and the map laid over it, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from adbench.core.plots import load_matplotlib
from adbench.data.image_lists import sample_names
from adbench.data.images import read_image
from adbench.data.writing import check_no_image_is_replaced, save_picture
from adbench.features.anomaly_maps import resize_maps
from adbench.metrics.support.labels import read_union
from adbench.types import OnStep, Sample, Scores, ignore_step

_SIDE, _GAP, _CAPTION = 320, 8, 26  # px of a panel's longer side, between panels, above them
_OPACITY = 0.8
_OUTLINE = (255, 32, 160)


def draw_heatmaps(
    folder: Path, samples: Sequence[Sample], scores: Scores, smoothing: float, on_step: OnStep = ignore_step
) -> list[Path]:
    """Write one PNG per image as FOLDER/KIND/NAME.png and return their paths; a name that is taken is numbered.

    All maps of a call share one color scale, from the median to the maximum of all smoothed maps, so that a good
    image looks calm beside a defective one.
    """
    targets = heatmap_files(folder, samples)
    drawn = panels(samples, scores, smoothing)
    for index, target in enumerate(targets):
        save_picture(drawn(index), target, "PNG")
        on_step(index + 1, len(samples), "drawing heatmaps")
    return targets


def heatmap_files(folder: Path, samples: Sequence[Sample]) -> list[Path]:
    """Return where the picture of each image belongs; raise UsageError if that is the place of an image itself."""
    targets = [folder / name for name in sample_names(samples, ".png")]
    check_no_image_is_replaced(targets, (sample.path for sample in samples), f"--heatmaps {folder}")
    return targets


def panels(samples: Sequence[Sample], scores: Scores, smoothing: float) -> Callable[[int], Image.Image]:
    """Return what draws one image by its index: the picture, its mask's outline, its map on the scale of all maps."""
    maps = resize_maps(np.asarray(scores.maps), (_SIDE, _SIDE), smoothing)
    low, high = float(np.median(maps)), float(maps.max())
    heat = np.clip((maps - low) / max(high - low, 1e-12), 0, 1)
    return lambda index: _panels(samples[index], heat[index], float(scores.image[index]))


def _panels(sample: Sample, heat: NDArray[np.float32], score: float) -> Image.Image:
    full = read_image(sample.path)
    mask = read_union(sample, full.shape[:2])
    caption = "good: no defect"
    if sample.anomalous:
        caption = f"{sample.defect}: {mask.mean():.1%} of the image" if mask.any() else f"{sample.defect}: no mask"
    size = scaled(full.shape, _SIDE / max(full.shape[:2]))
    image = np.asarray(Image.fromarray(full).resize(size, Image.Resampling.BILINEAR))
    marked = outlined(image, np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST)))
    overlay = laid_over(image, np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR)))
    return beside([("image", image), (caption, marked), (f"anomaly map, score {score:.3g}", overlay)], size)


def scaled(shape: Sequence[int], scale: float) -> tuple[int, int]:
    """Return the size (width, height), at least 1 x 1, of a picture of shape (H, W, ...) drawn at `scale`."""
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def laid_over(image: NDArray[np.uint8], heat: NDArray[np.float32], opacity: float = _OPACITY) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) under the colors of `heat` (H, W) in [0, 1], as opaque as they are hot."""
    kept, added = _blend(opacity)
    level = (heat * 255).round().astype(np.uint8)
    return np.asarray(image * kept.take(level, axis=0) + added.take(level, axis=0), np.uint8)


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_], width: int = 2) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) with a line of `width` pixels around the regions of `mask` (H, W)."""
    grown = mask
    for _ in range(width):  # scipy's dilation takes ten times as long
        before, grown = grown, grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    result = image.copy()
    result.reshape(-1, 3)[np.flatnonzero(grown & ~mask)] = _OUTLINE  # by mask it takes three times as long
    return result


def beside(panels: Sequence[tuple[str, NDArray[np.uint8]]], size: tuple[int, int]) -> Image.Image:
    """Return pictures (caption, pixels) of one size (width, height) in a row."""
    width, height = size
    sheet = Image.new("RGB", (len(panels) * (width + _GAP) + _GAP, height + _CAPTION + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (caption, panel) in enumerate(panels):
        left = _GAP + index * (width + _GAP)
        sheet.paste(Image.fromarray(panel), (left, _CAPTION))
        draw.text((left, 6), caption, fill="black", font=_font())
    return sheet


@lru_cache(maxsize=1)
def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(13)


@lru_cache(maxsize=4)
def _blend(opacity: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return for each level of heat the share of the image that stays and the color that is added, both (256, 3)."""
    colormaps = load_matplotlib().colormaps
    share = np.linspace(0, opacity, 256, dtype=np.float32)[:, None]
    colors = np.asarray(colormaps["inferno"](np.arange(256))[:, :3] * 255, np.float32)
    return np.repeat(1 - share, 3, axis=1), share * colors
