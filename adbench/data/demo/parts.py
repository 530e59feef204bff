"""The generated parts: two textures and two objects, each with the variation of good parts.

A part is drawn from coordinates, so that a defect can bend the coordinates or remove material.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from adbench.data.demo.drawing import SIZE, Field, Rng, blend, posed, smooth_noise, step


@dataclass(frozen=True)
class Part:
    """One part in its pose.

    x, y: coordinates of each pixel in the part's frame. paint(x, y, cut): the image from coordinates, without the material
    where `cut` is 1. body: bool, where the material is.
    """

    x: Field
    y: Field
    paint: Callable[[Field, Field, Field], Field]
    body: NDArray[np.bool_]

    @cached_property
    def image(self) -> Field:
        """The part without a defect; read only."""
        return self.paint(self.x, self.y, np.zeros_like(self.x))


def fabric(rng: Rng) -> Part:
    """Plain weave of blue-gray yarn; every thread has its own thickness and shade."""
    x, y = posed(rng, 8, 1.2)
    pitch = rng.uniform(10.8, 11.2)
    shades = rng.normal(1, 0.04, (2, 64)).astype(np.float32)
    phases = rng.uniform(0, np.pi, (2, 64)).astype(np.float32)
    wander = [0.8 * smooth_noise(rng, 6) for _ in range(2)]
    fuzz = 0.03 * rng.normal(size=(SIZE, SIZE)).astype(np.float32)
    cloud = 0.018 * smooth_noise(rng, 4)

    def paint(x: Field, y: Field, cut: Field) -> Field:
        u, v = (x + wander[0]) / pitch + 32, (y + wander[1]) / pitch + 32
        i, j = np.floor(u).astype(int) % 64, np.floor(v).astype(int) % 64
        a, b = u - np.floor(u) - 0.5, v - np.floor(v) - 0.5
        over = (i + j) % 2 == 0  # the warp (vertical) thread is on top
        across, along, shade, phase = (np.where(over, p, q) for p, q in
                                       ((a, b), (b, a), (shades[0][i], shades[1][j]), (phases[0][i], phases[1][j])))  # fmt: skip
        twist = 0.06 * np.cos(2 * np.pi * (2.0 * along + 1.3 * across) + phase)
        tone = shade * (0.35 + 0.65 * np.cos(np.pi * across * 0.92) * np.cos(np.pi * along * 0.75)) + twist + fuzz + cloud
        warp, weft = np.array([0.62, 0.70, 0.80]), np.array([0.50, 0.58, 0.70])
        cloth = tone[..., None] * np.where(over[..., None], warp, weft)
        return blend(cloth, (0.10, 0.09, 0.09), cut).astype(np.float32)

    return Part(x, y, paint, np.ones((SIZE, SIZE), bool))


def metal(rng: Rng) -> Part:
    """Brushed steel: fine lines along x and the broad soft reflection of a lamp."""
    x, y = posed(rng, 0, 3)
    lines = gaussian_filter1d(rng.normal(size=(SIZE, SIZE)), 45, axis=1, truncate=2.5)
    fine = gaussian_filter1d(rng.normal(size=(SIZE, SIZE)), 9, axis=1)
    grain = (0.055 * lines / lines.std() + 0.055 * fine / fine.std()).astype(np.float32)
    glow, width = rng.uniform(-70, 70), rng.uniform(60, 90)
    bands = 0.025 * smooth_noise(rng, 3)

    def paint(x: Field, y: Field, cut: Field) -> Field:
        rows = np.clip(y + (SIZE - 1) / 2, 0, SIZE - 1)
        columns = np.clip(x + (SIZE - 1) / 2, 0, SIZE - 1)
        texture = grain[np.rint(rows).astype(int), np.rint(columns).astype(int)]
        tone = 0.52 + 0.16 * np.exp(-(((y - glow) / width) ** 2)) + texture + bands
        steel = tone[..., None] * np.array([1.0, 1.01, 1.04])
        return blend(steel, (0.13, 0.12, 0.12), cut).astype(np.float32)

    return Part(x, y, paint, np.ones((SIZE, SIZE), bool))


def _hexagon(x: Field, y: Field, radius: float) -> Field:
    """Return the signed distance (positive inside) of a hexagon whose sides are `radius` away from its center."""
    sides = [np.abs(np.cos(a) * x + np.sin(a) * y) for a in np.arange(3) * np.pi / 3]
    return np.asarray(radius - np.max(sides, axis=0))


def nut(rng: Rng) -> Part:
    """A hexagonal nut with chamfer and thread, on a dark rubber belt."""
    x, y = posed(rng, 6, 10)
    size = rng.uniform(76, 80)
    belt = 0.15 + 0.02 * smooth_noise(rng, 60) + 0.015 * smooth_noise(rng, 8)
    wear = 0.02 * smooth_noise(rng, 40) + 0.02 * smooth_noise(rng, 10)
    glint, turn = rng.uniform(0, 2 * np.pi), rng.uniform(0, 2 * np.pi)

    def paint(x: Field, y: Field, cut: Field) -> Field:
        r, a = np.hypot(x, y), np.arctan2(y, x)
        flats = _hexagon(x, y, size)
        solid = np.minimum(flats, r - 38) - 60 * cut
        lathe = 0.018 * np.cos(r * 2.1) + 0.06 * np.cos(2 * (a - glint))
        tone = 0.60 + lathe + wear
        edge = np.minimum(flats, size + 4 - r)
        tone = tone - 0.20 * step(6 - edge, 2) * (0.6 + 0.4 * np.cos(a - 0.8))  # chamfer
        bore = step(50 - r, 1.5)
        thread = 0.36 + 0.17 * np.cos((r - 38) * 1.45 + a + turn) + 0.12 * np.cos(a + 2.3)
        tone = tone * (1 - bore) + thread * bore
        shadow = step(np.minimum(_hexagon(x - 5, y - 6, size), np.hypot(x - 5, y - 6) - 38) - 60 * cut, 6)
        ground = (belt * (1 - 0.55 * shadow))[..., None] * np.array([0.95, 1.0, 1.06])
        return blend(ground, tone[..., None] * np.array([1.0, 0.97, 0.90]), step(solid)).astype(np.float32)

    body = (np.minimum(_hexagon(x, y, size), np.hypot(x, y) - 38)) > 0
    return Part(x, y, paint, body)


Socket = tuple[float, float, float, float, str]
SOCKETS: tuple[Socket, ...] = (  # the board's components: center, half size, kind
    (-42.0, -38.0, 27.0, 27.0, "chip"), (38.0, 44.0, 34.0, 16.0, "chip"), (42.0, -58.0, 12.0, 6.0, "resistor"),
    (42.0, -36.0, 12.0, 6.0, "resistor"), (42.0, -14.0, 12.0, 6.0, "resistor"), (-66.0, 34.0, 13.0, 13.0, "can"),
    (-34.0, 52.0, 6.0, 12.0, "capacitor"), (-12.0, 52.0, 6.0, 12.0, "capacitor"), (84.0, -36.0, 7.0, 26.0, "pins"),
)  # fmt: skip


def board(rng: Rng) -> Part:
    """A populated circuit board: `cut` removes components and shows the bare pads below them."""
    x, y = posed(rng, 3, 1.2)
    green = (np.array([0.05, 0.30, 0.18]) * rng.uniform(0.93, 1.07)).astype(np.float32)
    weave = 0.010 * smooth_noise(rng, 70) + 0.008 * smooth_noise(rng, 6)
    grime = 0.015 * smooth_noise(rng, 50)
    seats = rng.normal(0, 0.5, (len(SOCKETS), 2)).astype(np.float32)
    tones = rng.normal(0, 0.015, len(SOCKETS)).astype(np.float32)

    def paint(x: Field, y: Field, cut: Field) -> Field:
        image = _bare_board(x, y, green) + weave[..., None]
        for socket, (dx, dy), tone in zip(SOCKETS, seats, tones, strict=True):
            _place(image, x - dx, y - dy, socket, tone + grime, 1 - cut)
        return image

    return Part(x, y, paint, _box(x, y, 104, 96) > 0)


def _place(image: Field, x: Field, y: Field, socket: Socket, tone: Field, kept: Field) -> None:
    """Draw one component with its shadow into `image`, in the window around it."""
    cx, cy, w, h, kind = socket
    near = _box(x - cx, y - cy, w + 9, h + 9) > 0
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if not len(rows):
        return
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    u, v, kept, below = x[window] - cx, y[window] - cy, kept[window], image[window]
    below = blend(below, below * 0.45, 0.8 * step(_box(u - 2.5, v - 3, w, h), 3) * kept)
    component = _COMPONENTS[kind](u, v, w, h) + tone[window][..., None]
    image[window] = blend(below, component, step(_box(u, v, w, h)) * kept)


def _box(x: Field, y: Field, half_width: float, half_height: float) -> Field:
    """Return the signed distance (positive inside) of an upright rectangle."""
    return np.minimum(half_width - np.abs(x), half_height - np.abs(y))


def _bare_board(x: Field, y: Field, green: Field) -> Field:
    table = np.broadcast_to(np.array([0.32, 0.31, 0.30], np.float32), (*x.shape, 3))
    image = blend(table, green, step(_box(x, y, 110, 102)))
    levels = [y + 88 - 22 * k - np.clip(x - (40 * (k % 3) - 30), 0, 14) for k in range(9)]
    traces = 1.8 - np.min(np.abs(levels), axis=0)  # horizontal, down at 45 degrees, and horizontal again
    image = blend(image, green * np.float32(1.55), step(np.minimum(traces, _box(x, y, 102, 94))))
    pads = [_box(np.abs(x - cx) - w * 0.75, y - cy, w * 0.38, h * 0.85) for cx, cy, w, h, _ in SOCKETS]
    image = blend(image, (0.74, 0.70, 0.58), step(np.max(pads, axis=0)))
    hole = np.hypot(np.abs(x) - 98, np.abs(y) - 90)
    image = blend(image, (0.72, 0.66, 0.42), step(8 - hole))
    return blend(image, (0.08, 0.08, 0.08), step(4.5 - hole))


def _chip(u: Field, v: Field, w: float, h: float) -> Field:
    legs = step(2.0 - np.abs((v + 3.5) % 7 - 3.5)) * step(np.abs(u) - (w - 6))
    black = 0.13 + 0.05 * step(_box(u, v, w - 6, h - 2)) + 0.10 * step(3.2 - np.hypot(u + w - 14, v + h - 9))
    print_ = 0.30 * step(1.3 - np.abs(np.abs(v) - 4)) * step(w * 0.45 - np.abs(u)) * (np.sin(u * 1.7) > -0.3)
    return blend((black + print_)[..., None] * np.ones(3), (0.70, 0.70, 0.68), legs)


def _resistor(u: Field, v: Field, w: float, h: float) -> Field:
    return blend(np.full((*u.shape, 3), 0.17), (0.80, 0.79, 0.76), step(np.abs(u) - (w - 4)))


def _capacitor(u: Field, v: Field, w: float, h: float) -> Field:
    return blend(np.broadcast_to([0.62, 0.47, 0.30], (*u.shape, 3)), (0.80, 0.79, 0.76), step(np.abs(v) - (h - 4)))


def _can(u: Field, v: Field, w: float, h: float) -> Field:
    r = np.hypot(u, v)
    silver = 0.68 + 0.10 * np.cos(2 * np.arctan2(v, u) + 0.6)
    silver = silver - 0.25 * step(1.5 - np.abs(r - w + 3)) - 0.45 * step(-u - 5) * step(w - 2 - r)
    return blend(np.full((*u.shape, 3), 0.12), silver[..., None] * np.array([1, 1, 1.03]), step(w - 1 - r))


def _pins(u: Field, v: Field, w: float, h: float) -> Field:
    holes = step(3.6 - np.hypot(u, (v + 6.5) % 13 - 6.5))
    return blend(np.full((*u.shape, 3), 0.16), (0.85, 0.72, 0.34), holes)


_COMPONENTS = {"chip": _chip, "resistor": _resistor, "capacitor": _capacitor, "can": _can, "pins": _pins}
