"""Noise, outlines and strokes: the elements of synthetic defects.

A cover (H, W) is the fraction of each pixel that a shape covers, from 0 to 1, with a soft edge.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from adbench.data.demo.drawing import step
from adbench.data.synthetic.kinds import Canvas, Field, Picture, Rng


def another_piece(canvas: Canvas, rng: Rng) -> Picture:
    """Return a piece of a good image in the canvas's shape, under its light, randomly rotated and mirrored."""
    turns = int(rng.integers(4))
    shape = canvas.shape if turns % 2 == 0 else canvas.shape[::-1]
    piece = np.rot90(canvas.texture(rng, shape), turns)
    return relit(piece[:, ::-1] if rng.random() < 0.5 else piece, canvas, rng.uniform(0.5, 1))


Points = NDArray[np.float64]  # (K, 2), rows and columns
WARM = np.array([1.0, 0.1, -1.0], np.float32)  # RGB direction of rust, burns and oil


def noise(rng: Rng, shape: tuple[int, int], scale: float) -> Field:
    """Return smooth noise of about unit variance whose bumps are about `scale` px wide."""
    scale = max(scale, 1.0)
    height, width = (int(np.ceil(side / scale)) + 3 for side in shape)
    coarse = Image.fromarray(rng.standard_normal((height, width), np.float32))
    top, left = rng.uniform(0.5, 1.5, 2)
    box = (left, top, left + shape[1] / scale, top + shape[0] / scale)
    return 1.4 * np.asarray(coarse.resize(shape[::-1], Image.Resampling.BICUBIC, box), dtype=np.float32)


def fractal(rng: Rng, shape: tuple[int, int], scale: float, octaves: int = 4) -> Field:
    """Return noise of about unit variance, summed over octaves from `scale` px down (Perlin, SIGGRAPH 1985)."""
    layers = [noise(rng, shape, scale / 2**k) / 2**k for k in range(octaves)]
    return np.asarray(sum(layers) / np.sqrt(sum(0.25**k for k in range(octaves))), dtype=np.float32)


def offsets(canvas: Canvas) -> tuple[Field, Field]:
    """Return each pixel's distance from the center in rows and in columns, both (H, W)."""
    rows, columns = np.ogrid[: canvas.shape[0], : canvas.shape[1]]
    grid = np.broadcast_arrays(rows - canvas.center[0], columns - canvas.center[1])
    return grid[0].astype(np.float32), grid[1].astype(np.float32)


def rotated(canvas: Canvas, angle: float) -> tuple[Field, Field]:
    """Return each pixel's coordinates along a direction and across it, in px from the center."""
    down, right = offsets(canvas)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return cos * right + sin * down, cos * down - sin * right


def nearest(canvas: Canvas, distance: Field, softness: float = 1.0) -> Field:
    """Return the cover of the `canvas.area` foreground pixels that have the smallest `distance` (H, W, in px)."""
    values = distance[canvas.foreground]
    rank = min(max(int(canvas.area), 1), len(values)) - 1
    level = np.partition(values, rank)[rank]
    return step(level - distance, softness)


def blob(canvas: Canvas, rng: Rng, ragged: float = 0.3, softness: float = 1.0, longest: float = 2.0) -> Field:
    """Return the cover of an irregular spot, up to `longest` times as long as wide."""
    along, across = rotated(canvas, rng.uniform(0, np.pi))
    stretch = np.sqrt(rng.uniform(1, longest))
    bumps = noise(rng, canvas.shape, 0.7 * canvas.size) + 0.4 * noise(rng, canvas.shape, 0.25 * canvas.size)
    distance = np.hypot(along / stretch, across * stretch) + 0.5 * ragged * canvas.size * bumps
    return nearest(canvas, distance.astype(np.float32), softness)


def curve(canvas: Canvas, rng: Rng, length: float, angle: float, bend: float) -> Points:
    """Return points (K, 2) of (row, column), at most 1 px apart, of a line of `length` px through the center.

    angle: main direction; bend: deviation from it, both in radians.
    """
    count = max(int(np.ceil(length)), 2)
    steps = rng.standard_normal(6)
    turning = np.interp(np.linspace(0, 5, count), np.arange(6), np.cumsum(steps) / np.sqrt(6))
    heading = angle + bend * turning
    points = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], 1), 0) * (length / count)
    return np.asarray(points - points[count // 2] + np.asarray(canvas.center), dtype=np.float64)


def stroke(canvas: Canvas, points: Points, widths: NDArray[np.float64]) -> Field:
    """Return the cover of a line through `points` (K, 2) that is `widths` (K,) px wide."""
    margin = float(widths.max()) / 2 + 1
    low = np.clip(np.floor(points.min(0) - margin), 0, canvas.shape).astype(int)
    high = np.clip(np.ceil(points.max(0) + margin) + 1, low, canvas.shape).astype(int)
    pixels = np.moveaxis(np.mgrid[low[0] : high[0], low[1] : high[1]], 0, -1)
    distance, index = cKDTree(points).query(pixels, distance_upper_bound=margin)
    width = np.append(widths, 0.0)[index]  # pixels beyond the bound have the last index
    cover = np.zeros(canvas.shape, np.float32)
    cover[low[0] : high[0], low[1] : high[1]] = np.clip(width / 2 - distance + 0.5, 0, 1)
    return cover


def blend(image: Picture, other: Picture, cover: Field) -> Picture:
    """Return `image` with `other` over it, with the opacity `cover`."""
    return np.asarray(image + (other - image) * cover[..., None], dtype=np.float32)


def smoothed(image: Picture, sigma: float) -> Picture:
    """Return the image with each channel smoothed by a Gaussian; a wide `sigma` (px) is applied on a coarser grid."""
    step = max(1, int(sigma / 3))
    small = resized(image, (max(1, image.shape[0] // step), max(1, image.shape[1] // step)))
    soft = gaussian_filter(small, (sigma / step, sigma / step, 0), truncate=3, mode="nearest")
    return resized(soft, image.shape[:2])


def resized(image: Picture, shape: tuple[int, ...]) -> Picture:
    """Return the image at another size (H, W): bilinear and, where it shrinks, antialiased."""
    if image.shape[:2] == tuple(shape):
        return image
    size = (shape[1], shape[0])
    planes = [Image.fromarray(image[..., k]).resize(size, Image.Resampling.BILINEAR) for k in range(3)]
    return np.stack([np.asarray(plane) for plane in planes], axis=-1)


def bar(canvas: Canvas, rng: Rng, shortest: float, longest: float, softness: float) -> Field:
    """Return the cover of a rotated rectangle with an uneven outline, `shortest` to `longest` times as long as wide."""
    along, across = rotated(canvas, rng.uniform(0, np.pi))
    stretch = np.sqrt(rng.uniform(shortest, longest))
    uneven = 0.04 * canvas.size / stretch * noise(rng, canvas.shape, 0.5 * canvas.size)
    distance = (np.abs(along / stretch**2) ** 6 + np.abs(across) ** 6) ** (1 / 6) + uneven
    return nearest(canvas, distance.astype(np.float32), softness)


def relit(piece: Picture, canvas: Canvas, share: float) -> Picture:
    """Return `piece` (H, W, 3) under the canvas's light: `share` of the difference between their shadings is removed."""
    sigma = 0.6 * canvas.size + 1
    return np.asarray(piece + share * (smoothed(canvas.image, sigma) - smoothed(piece, sigma)), dtype=np.float32)


def filled(image: Picture, known: NDArray[np.bool_]) -> Picture:
    """Return `image` with the pixels that are not `known` filled in smoothly from the known ones.

    It goes up and down a pyramid of means of known pixels (pull-push, Gortler et al., SIGGRAPH 1996).
    """
    if known.all() or not known.any():
        return image
    odd = [(0, side % 2) for side in known.shape]
    even = np.pad(image * known[..., None], [*odd, (0, 0)]), np.pad(known.astype(np.float32), odd)
    total, weight = (a[::2, ::2] + a[1::2, ::2] + a[::2, 1::2] + a[1::2, 1::2] for a in even)
    coarse = filled(total / np.maximum(weight, 1)[..., None], np.asarray(weight > 0))
    fine = resized(coarse, even[1].shape)[: known.shape[0], : known.shape[1]]
    return np.where(known[..., None], image, smoothed(fine, 0.7))
