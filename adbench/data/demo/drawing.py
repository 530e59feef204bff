"""Strokes, blobs, noise and light: what the generated parts and their defects are drawn with.

Fields are (SIZE, SIZE) float32, images (SIZE, SIZE, 3) float32 with values around [0, 1].
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

SIZE = 256
Field = NDArray[np.floating[Any]]
Rng = np.random.Generator
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - (SIZE - 1) / 2  # pixels from the centre


def posed(rng: Rng, shift: float, degrees: float) -> tuple[Field, Field]:
    """Return x and y in the frame of a part that lies up to `shift` pixels and `degrees` off its place."""
    dx, dy = rng.uniform(-shift, shift, 2)
    angle = np.deg2rad(rng.uniform(-degrees, degrees))
    x, y, c, s = COLUMNS - dx, ROWS - dy, np.cos(angle), np.sin(angle)
    return (c * x + s * y).astype(np.float32), (c * y - s * x).astype(np.float32)


def step(field: Field, softness: float = 0.7) -> Field:
    """Return 1 where `field` (a signed distance in pixels) is above 0, 0 below, a ramp of 2 `softness` pixels between."""
    return np.asarray(np.clip(field / (2 * softness) + 0.5, 0, 1), dtype=np.float32)


def smooth_noise(rng: Rng, cells: int) -> Field:
    """Return noise of unit variance, smooth over about SIZE / cells pixels."""
    coarse = Image.fromarray(rng.normal(size=(cells + 1, cells + 1)).astype(np.float32))
    field = np.array(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))
    field -= field.mean()
    field /= field.std()
    return field


def stroke(points: NDArray[np.floating], width: float) -> Field:
    """Return the coverage in [0, 1] of a line through `points` (K, 2) of (column, row), `width` pixels wide."""
    scale = 4
    canvas = Image.new("L", (SIZE * scale, SIZE * scale))
    flat = [float(v) for v in (points * scale + scale / 2).ravel()]
    ImageDraw.Draw(canvas).line(flat, fill=255, width=max(1, round(width * scale)), joint="curve")
    return np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX), dtype=np.float32) / 255


def curve(rng: Rng, centre: tuple[float, float], length: float, bend: float, angle: float | None = None) -> Field:
    """Return (24, 2) points of a quadratic Bezier curve through about `centre`, of random direction if none is given."""
    angle = rng.uniform(0, np.pi) if angle is None else angle
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-along[1], along[0]]) * bend * rng.uniform(-1, 1)
    t = np.linspace(0, 1, 24)[:, None]
    middle = np.asarray(centre)
    return ((1 - t) ** 2 * (middle - along) + 2 * t * (1 - t) * (middle + across) + t**2 * (middle + along)).astype(np.float32)


def distance_from(centre: tuple[float, float]) -> Field:
    """Return the distance in pixels from a (column, row)."""
    middle = (SIZE - 1) / 2
    return np.asarray(np.hypot(COLUMNS + middle - centre[0], ROWS + middle - centre[1]), dtype=np.float32)


def blob(rng: Rng, centre: tuple[float, float], radius: float, ragged: float = 0.3, softness: float = 2.0) -> Field:
    """Return the coverage in [0, 1] of an irregular spot."""
    edge = radius * (1 + ragged * smooth_noise(rng, max(2, round(SIZE / (1.3 * radius)))))
    return step(edge - distance_from(centre), softness)


def blend(image: Field, colour: Field | tuple[float, float, float], cover: Field) -> Field:
    """Return `image` with `colour` (one, or an image) laid over it where `cover` says."""
    return np.asarray(image + (np.asarray(colour, dtype=np.float32) - image) * cover[..., None], dtype=np.float32)


def relief(height: Field, strength: float) -> Field:
    """Return how much brighter a surface of this height is under light from the upper left."""
    down, right = np.gradient(height)
    return np.asarray(strength * (down + right), dtype=np.float32)


def light(rng: Rng, uneven: float = 0.06) -> Field:
    """Return the brightness over the image: overall exposure and a gradient of random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = (COLUMNS * np.cos(angle) + ROWS * np.sin(angle)) / SIZE
    return np.asarray(rng.uniform(0.92, 1.06) * (1 + rng.uniform(0, 2 * uneven) * slope), dtype=np.float32)


def photograph(image: Field, brightness: Field, noise: Field) -> NDArray[np.uint8]:
    """Return what a camera makes of `image` (H, W, 3): lit, slightly out of focus, noisy, 8 bit."""
    blurred = gaussian_filter(image * brightness[..., None], (0.6, 0.6, 0), truncate=3)
    return np.asarray(np.clip(blurred + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
