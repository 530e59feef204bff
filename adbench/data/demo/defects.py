"""The generated defects: each takes a part and returns its image with the defect, before light and camera.

`severity` in (0, 1] scales the size and the contrast of the defect.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import binary_erosion

from adbench.data.demo.drawing import SIZE, Field, Rng, blend, blob, curve, distance_from, relief, smooth_noise, step, stroke
from adbench.data.demo.parts import SOCKETS, Part

Defect = Callable[[Part, Rng, float], Field]


def _spot(part: Part, rng: Rng, margin: int) -> tuple[float, float]:
    """Return a (column, row) on the part, `margin` pixels from its edges and the image's."""
    inside = binary_erosion(part.body, iterations=margin)
    inside[: margin + 12], inside[-margin - 12 :], inside[:, : margin + 12], inside[:, -margin - 12 :] = (False,) * 4
    rows, columns = np.nonzero(inside if inside.any() else part.body)
    k = rng.integers(len(rows))
    return float(columns[k]), float(rows[k])


def _rim(part: Part, rng: Rng) -> tuple[float, float]:
    """Return a (column, row) on the outer edge of an object."""
    angle = rng.uniform(0, 2 * np.pi)
    rays = np.arange(0, SIZE * 0.7, 0.5)
    center = np.argwhere(part.body).mean(0)
    rows, columns = (np.clip(center[k] + rays * f(angle), 0, SIZE - 1) for k, f in ((0, np.sin), (1, np.cos)))
    last = np.nonzero(part.body[rows.astype(int), columns.astype(int)])[0][-1]
    return float(columns[last]), float(rows[last])


def scratch(part: Part, rng: Rng, severity: float) -> Field:
    """One or two fine cuts: a groove, bright or (on bright material) dark, with a rim of the opposite tone on one side."""
    image = part.image
    for _ in range(1 + int(rng.random() < 0.3)):
        points = curve(rng, _spot(part, rng, 8), rng.uniform(25, 45) + 45 * severity, 0.35)
        groove, rim = (stroke(p, w) * part.body for p, w in ((points, 1.1 + severity), (points + 1.4, 0.7 + 0.6 * severity)))
        tone = (0.06 + 0.24 * severity) * (1 if image[groove > 0.5].mean() < 0.35 else rng.choice([-1.0, 1.0]))
        image = image + (tone * (groove - 0.5 * rim))[..., None]
    return image


def stain(part: Part, rng: Rng, severity: float) -> Field:
    """A dried drop: darker, tinted, with a darker rim."""
    image = part.image
    radius = rng.uniform(10, 14) + 12 * severity
    seed = int(rng.integers(2**32))
    center = _spot(part, rng, 9)
    whole, core = (blob(np.random.default_rng(seed), center, r, 0.25, 3) for r in (radius, radius - 3))
    cover = (0.75 * whole + 0.25 * (whole - core)) * part.body
    tint = 1 - (0.10 + 0.34 * severity) * np.array(rng.choice([[0.7, 1.0, 1.3], [1.0, 1.0, 1.0], [0.6, 0.9, 1.2]]))
    return blend(image, image * tint, cover)


def rust(part: Part, rng: Rng, severity: float) -> Field:
    """Flecks of brown oxide around a spot."""
    radius = 14 + 14 * severity
    near = np.clip(1 - (distance_from(_spot(part, rng, 5)) / radius) ** 2, 0, 1)
    cover = step(near * (1 + 0.5 * smooth_noise(rng, 45)) - 0.45, 0.15) * part.body
    color = np.array([0.42, 0.24, 0.13]) * (1 + 0.15 * smooth_noise(rng, 80))[..., None]
    return blend(part.image, color, cover * (0.2 + 0.6 * severity))


def dent(part: Part, rng: Rng, severity: float) -> Field:
    """A shallow, irregular hollow that catches the light on one side."""
    radius = rng.uniform(9, 13) + 9 * severity
    far = distance_from(_spot(part, rng, 14)) * (1 + 0.12 * smooth_noise(rng, 9))
    depth = np.clip(1 - (far / radius) ** 2, 0, 1) ** 2 * radius
    return part.image * (1 - relief(depth, 0.035 + 0.16 * severity) * part.body)[..., None]


def pits(part: Part, rng: Rng, severity: float) -> Field:
    """A cluster of small dark craters."""
    column, row = _spot(part, rng, 14)
    cut = np.zeros((SIZE, SIZE), np.float32)
    for _ in range(3 + int(6 * severity)):
        center = (column + rng.normal(0, 9), row + rng.normal(0, 9))
        cut = np.maximum(cut, blob(rng, center, rng.uniform(1.5, 2.2) + 1.2 * severity, 0.2, 0.8))
    return part.paint(part.x, part.y, cut * (0.18 + 0.65 * severity) * part.body)


def hole(part: Part, rng: Rng, severity: float) -> Field:
    """A hole with a ragged edge that shows the layer below."""
    return part.paint(part.x, part.y, blob(rng, _spot(part, rng, 10), rng.uniform(4, 6) + 8 * severity, 0.35, 1.0))


def chip(part: Part, rng: Rng, severity: float) -> Field:
    """A piece has broken off the outer edge."""
    return part.paint(part.x, part.y, blob(rng, _rim(part, rng), rng.uniform(6, 9) + 10 * severity, 0.3, 0.8))


def bend(part: Part, rng: Rng, severity: float) -> Field:
    """Bent material: coordinates are distorted around a spot at the part's edge, or anywhere in a texture."""
    center = _spot(part, rng, 20) if part.body.all() else _rim(part, rng)
    radius = rng.uniform(22, 28) + 12 * severity
    push = np.clip(1 - (distance_from(center) / radius) ** 2, 0, 1) ** 2 * (4.0 + 7 * severity)
    angle = rng.uniform(0, 2 * np.pi)
    if not part.body.all():  # toward or away from the middle: along the edge, nothing would change
        angle = np.arctan2(center[1] - SIZE / 2, center[0] - SIZE / 2) + np.pi * rng.integers(2)
    x, y = part.x + push * np.cos(angle), part.y + push * np.sin(angle)
    return part.paint(x.astype(np.float32), y.astype(np.float32), np.zeros((SIZE, SIZE), np.float32))


def missing_thread(part: Part, rng: Rng, severity: float) -> Field:
    """A broken weft thread: thin and frayed, or missing so that the backing shows through."""
    half = rng.uniform(16, 24) + 32 * severity
    slope = np.arctan2(part.y[128, 50] - part.y[128, 200], 150)
    points = curve(rng, _spot(part, rng, 20), 2 * half, 0.06, slope)
    frayed = 0.75 + 0.25 * np.clip(smooth_noise(rng, 60), -1, 1)
    return part.paint(part.x, part.y, stroke(points, 5.5 + 3 * severity) * frayed * (0.5 + 0.45 * severity))


def missing_component(part: Part, rng: Rng, severity: float) -> Field:
    """A missing component, a small one at low severity."""
    order = sorted(SOCKETS, key=lambda socket: socket[2] * socket[3])
    cx, cy, w, h, _ = order[min(int(severity * len(order) * rng.uniform(0.6, 1.0)), len(order) - 1)]
    gone = step(np.minimum(w + 7 - np.abs(part.x - cx), h + 8 - np.abs(part.y - cy)))
    return part.paint(part.x, part.y, gone)


def solder(part: Part, rng: Rng, severity: float) -> Field:
    """Splashes of solder: bright domes with a highlight."""
    image = part.image
    for _ in range(1 + int(2.5 * severity)):
        center, radius = _spot(part, rng, 6), rng.uniform(1.8, 2.8) + 3.5 * severity
        cover = blob(rng, center, radius, 0.25, 0.8)
        dome = np.clip(1 - (distance_from(center) / (1.5 * radius)) ** 2, 0, 1)
        image = blend(image, (0.45 + 0.25 * dome + relief(dome * radius, 0.35))[..., None] * np.ones(3), cover)
    return image


def crooked(part: Part, rng: Rng, severity: float) -> Field:
    """A component that is rotated and displaced."""
    cx, cy, w, h, _ = SOCKETS[rng.integers(len(SOCKETS))]
    u, v = part.x - cx, part.y - cy
    far = np.hypot(np.maximum(np.abs(u) - w, 0), np.maximum(np.abs(v) - h, 0))  # outside the component
    hold = step(6 - far, 2.5)
    angle = rng.choice([-1, 1]) * np.deg2rad(5 + 12 * severity) * hold
    x = cx + np.cos(angle) * u - np.sin(angle) * v + hold * rng.choice([-1, 1]) * (1 + 3 * severity)
    y = cy + np.sin(angle) * u + np.cos(angle) * v
    return part.paint(x.astype(np.float32), y.astype(np.float32), np.zeros((SIZE, SIZE), np.float32))
