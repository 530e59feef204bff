"""Strokes, blobs, noise and light: the elements of the generated parts and their defects.

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
ROWS, COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) - (SIZE - 1) / 2  # pixels from the center


def posed(rng: Rng, shift: float, degrees: float) -> tuple[Field, Field]:
    """Return x and y in the frame of a part that is displaced by up to `shift` pixels and `degrees`."""
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


def curve(rng: Rng, center: tuple[float, float], length: float, bend: float, angle: float | None = None) -> Field:
    """Return (24, 2) points of a quadratic Bezier curve near `center`, in a random direction if `angle` is None."""
    angle = rng.uniform(0, np.pi) if angle is None else angle
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-along[1], along[0]]) * bend * rng.uniform(-1, 1)
    t = np.linspace(0, 1, 24)[:, None]
    middle = np.asarray(center)
    return ((1 - t) ** 2 * (middle - along) + 2 * t * (1 - t) * (middle + across) + t**2 * (middle + along)).astype(np.float32)


def distance_from(center: tuple[float, float]) -> Field:
    """Return the distance in pixels from a (column, row)."""
    middle = (SIZE - 1) / 2
    return np.asarray(np.hypot(COLUMNS + middle - center[0], ROWS + middle - center[1]), dtype=np.float32)


def blob(rng: Rng, center: tuple[float, float], radius: float, ragged: float = 0.3, softness: float = 2.0) -> Field:
    """Return the coverage in [0, 1] of an irregular spot."""
    edge = radius * (1 + ragged * smooth_noise(rng, max(2, round(SIZE / (1.3 * radius)))))
    return step(edge - distance_from(center), softness)


def blend(image: Field, color: Field | tuple[float, float, float], cover: Field) -> Field:
    """Return `image` with `color` (one color, or an image) over it, with the opacity `cover`."""
    return np.asarray(image + (np.asarray(color, dtype=np.float32) - image) * cover[..., None], dtype=np.float32)


def relief(height: Field, strength: float) -> Field:
    """Return the relative brightness of a surface of this height under light from the upper left."""
    down, right = np.gradient(height)
    return np.asarray(strength * (down + right), dtype=np.float32)


def light(rng: Rng, uneven: float = 0.06) -> Field:
    """Return the brightness of each pixel: the exposure and a gradient in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    slope = (COLUMNS * np.cos(angle) + ROWS * np.sin(angle)) / SIZE
    return np.asarray(rng.uniform(0.92, 1.06) * (1 + rng.uniform(0, 2 * uneven) * slope), dtype=np.float32)


def photograph(image: Field, brightness: Field, noise: Field) -> NDArray[np.uint8]:
    """Return a camera's picture of `image` (H, W, 3): lit, slightly out of focus, noisy, 8 bit."""
    blurred = gaussian_filter(image * brightness[..., None], (0.6, 0.6, 0), truncate=3)
    return np.asarray(np.clip(blurred + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
