"""Pictures of anomaly maps: the image, its defect, the map laid over it, and the place where the map is highest, enlarged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from adbench.data.image_lists import sample_names
from adbench.data.images import White, read_image
from adbench.data.pixels import middle
from adbench.data.writing import check_no_image_is_replaced, save_picture
from adbench.features.anomaly_maps import Smoothing, resize_maps
from adbench.metrics.support.labels import read_union
from adbench.pictures.frames import INK, PAPER, ColorBar, Size, framed, heat_colors
from adbench.types import OnStep, Sample, Scores, ignore_step

_SIDE = 320  # px of a panel's longer side
_ZOOM = 5  # of the highest place
_NEAR = 0.03  # of a panel's side: so near to a defect the highest place still belongs to it, as maps are smooth
_OPACITY = 0.8
_DIMMED = 0.35  # of the brightness of a background
_OUTLINE = (255, 32, 160)


def draw_heatmaps(
    folder: Path,
    samples: Sequence[Sample],
    scores: Scores,
    smoothing: float | Smoothing,
    on_step: OnStep = ignore_step,
    crop: float = 1.0,
    white: White = 1.0,
) -> list[Path]:
    """Write one PNG per image as FOLDER/KIND/NAME.png and return their paths; `panels` says what they show.

    A name that is taken is numbered.
    """
    targets = heatmap_files(folder, samples)
    drawn = panels(samples, scores, smoothing, crop, white)
    for index, target in enumerate(targets):
        save_picture(drawn(index), target, "PNG")
        on_step(index + 1, len(samples), "drawing heatmaps")
    return targets


def heatmap_files(folder: Path, samples: Sequence[Sample]) -> list[Path]:
    """Return where the picture of each image belongs; raise UsageError if that is the place of an image itself."""
    targets = [folder / name for name in sample_names(samples, ".png")]
    check_no_image_is_replaced(targets, (sample.path for sample in samples), f"--heatmaps {folder}")
    return targets


def panels(
    samples: Sequence[Sample], scores: Scores, smoothing: float | Smoothing, crop: float = 1.0, white: White = 1.0
) -> Callable[[int], Image.Image]:
    """Return what draws one image by its index, or its middle square (see `data.pixels.middle`).

    Colors run from the median of all smoothed maps to the maximum of the image's own, so that the highest places of every
    image are seen. The color bar runs to the maximum of all maps: a good image fills little of it. It also marks the
    maximum of the good images. Where the detector knows the background, the map shows it dimmed.
    """
    maps = np.asarray(scores.maps)
    grid = Smoothing.of(smoothing).grid(maps.shape[1:])
    maps = resize_maps(maps, (max(_SIDE, grid[0]), max(_SIDE, grid[1])), smoothing)
    highest = maps.max(axis=(1, 2))
    low, end = float(np.median(maps)), float(highest.max())
    good = [float(value) for value, sample in zip(highest, samples, strict=True) if not sample.anomalous]
    shared = [("typical", low), *[("highest of good images", max(good))][: len(good)], ("highest of all", end)]

    def draw(index: int) -> Image.Image:
        own = float(highest[index])
        bar = ColorBar(low, own, end, [*shared, ("highest here", own)])
        part = None if scores.foreground is None else scores.foreground[index]
        return _draw(samples[index], maps[index], float(scores.image[index]), bar, crop, white, part)

    return draw


def _draw(
    sample: Sample, values: NDArray[np.float32], score: float, bar: ColorBar, crop: float, white: White,
    part: NDArray[np.bool_] | None = None,
) -> Image.Image:  # fmt: skip
    full = read_image(sample.path, white)
    within = middle(full.shape, crop)
    mask, full = read_union(sample, full.shape[:2])[within], full[within]
    size = scaled(full.shape, _SIDE / max(full.shape[:2]))
    image, small = _resized(full, size), resized_mask(mask, size)
    heat = np.clip((values - bar.low) / max(bar.high - bar.low, 1e-12), 0, 1)
    peak = np.unravel_index(int(values.argmax()), values.shape)
    center = (peak[0] + 0.5) / values.shape[0], (peak[1] + 0.5) / values.shape[1]
    under = image if part is None else dimmed(image, part)
    shown = [
        ("image", image),
        (_defect(sample, mask), outlined(image, small)),
        (_map_name(part), _ringed(outlined(laid_over(under, heat), small, width=1), center)),
        (f"highest, {_ZOOM}x{_where(sample, small, center)}", _enlarged(full, mask, center, size)),
    ]
    return framed([sample.name, f"anomaly score {score:.4g}"], shown, 2, bar)


def _map_name(part: NDArray[np.bool_] | None) -> str:
    if part is None or part.all():
        return "anomaly map"
    return f"anomaly map, {100 * (1 - part.mean()):.0f}% background"


def dimmed(image: NDArray[np.uint8], part: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) with all that is not in the cells `part` (h, w) dark and gray."""
    cells = Image.fromarray(part).resize((image.shape[1], image.shape[0]), Image.Resampling.NEAREST)
    gray = image.mean(axis=2, keepdims=True) * _DIMMED
    return np.where(np.asarray(cells)[..., None], image, gray).astype(np.uint8)


def _defect(sample: Sample, mask: NDArray[np.bool_]) -> str:
    if not sample.anomalous:
        return "good: no defect"
    return f"{sample.defect}: {100 * mask.mean():.2g}% of the image" if mask.any() else f"{sample.defect}: no mask"


def _where(sample: Sample, mask: NDArray[np.bool_], center: tuple[float, float]) -> str:
    """Return whether the highest place belongs to the defect, if the image has one with a mask."""
    if not sample.anomalous or not mask.any():
        return ""
    reach = int(_NEAR * max(mask.shape)) + 1
    row, column = (int(part * length) for part, length in zip(center, mask.shape, strict=True))
    near = mask[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    return ": the defect" if near.any() else ": not the defect"


def _enlarged(full: NDArray[np.uint8], mask: NDArray[np.bool_], center: tuple[float, float], size: Size) -> NDArray[np.uint8]:
    """Return the surroundings of a place of the image, enlarged to `size`, with the outline of the defect in them."""
    spans = []
    for part, length in zip(center, mask.shape, strict=True):
        span = max(length // _ZOOM, 1)
        start = int(np.clip(part * length - span / 2, 0, length - span))
        spans.append(slice(start, start + span))
    window = tuple(spans)
    return outlined(_resized(full[window], size), resized_mask(mask[window], size))


def _ringed(image: NDArray[np.uint8], center: tuple[float, float]) -> NDArray[np.uint8]:
    """Return the image with a ring around a place, which is given in fractions of its height and width."""
    drawn = Image.fromarray(image)
    row, column = center[0] * drawn.height, center[1] * drawn.width
    for radius, color in ((_SIDE / 20 + 1.5, PAPER), (_SIDE / 20, INK)):  # dark around light: seen on any image
        ImageDraw.Draw(drawn).ellipse((column - radius, row - radius, column + radius, row + radius), outline=color, width=2)
    return np.asarray(drawn)


def _resized(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


def resized_mask(mask: NDArray[np.bool_], size: Size) -> NDArray[np.bool_]:
    """Return a mask (H, W) at a size (width, height); nothing of it is too thin to be seen there."""
    share = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(share) > 0


def scaled(shape: Sequence[int], scale: float) -> Size:
    """Return the size (width, height), at least 1 x 1, of a picture of shape (H, W, ...) drawn at `scale`."""
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def laid_over(image: NDArray[np.uint8], heat: NDArray[np.float32], opacity: float = _OPACITY) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) under the colors of `heat` (h, w) in [0, 1], as opaque as they are hot."""
    level = Image.fromarray((heat * 255).round().astype(np.uint8))
    level = level.resize((image.shape[1], image.shape[0]), Image.Resampling.BILINEAR)
    share = level.point([round(opacity * step) for step in range(256)])
    level.putpalette(heat_colors().tobytes())
    return np.asarray(Image.composite(level.convert("RGB"), Image.fromarray(image), share))


def outlined(image: NDArray[np.uint8], mask: NDArray[np.bool_], width: int = 2) -> NDArray[np.uint8]:
    """Return `image` (H, W, 3) with a line of `width` pixels around the regions of `mask` (H, W)."""
    result = image.copy()
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return result
    near = tuple(slice(max(int(found[0]) - width, 0), int(found[-1]) + width + 1) for found in (rows, columns))
    inner = grown = mask[near]
    for _ in range(width):  # scipy's dilation takes ten times as long
        before, grown = grown, grown.copy()
        grown[1:] |= before[:-1]
        grown[:-1] |= before[1:]
        grown[:, 1:] |= before[:, :-1]
        grown[:, :-1] |= before[:, 1:]
    result[near][grown & ~inner] = _OUTLINE
    return result
