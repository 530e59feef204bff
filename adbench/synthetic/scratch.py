"""Scratches: one or a few fine grooves with a bright or dark burr along one side."""

import numpy as np

from adbench.synthetic import Canvas, Picture, Rng, register
from adbench.synthetic.shapes import curve, stroke


@register("scratch")
def scratch(canvas: Canvas, rng: Rng) -> Picture:
    """Draw a groove that tapers off at both ends and fades here and there."""
    width = rng.uniform(1.3, 2.2) + 0.03 * canvas.size
    points = curve(canvas, rng, min(canvas.area / width, 5.5 * canvas.size + 4), rng.uniform(0.1, 0.9))
    middle = canvas.image[canvas.foreground].mean()
    sign = rng.choice([-1.0, 1.0]) if 60 < middle < 190 else np.sign(120 - middle)
    position = np.linspace(0, 1, len(points))
    taper = np.minimum(1, 6 * np.minimum(position, 1 - position) + 0.35)
    pressure = 1 + 0.35 * np.interp(position, np.linspace(0, 1, 9), rng.standard_normal(9))
    groove = stroke(canvas, points, width * taper * np.clip(pressure, 0.5, 1.5))
    burr = stroke(canvas, points + rng.choice([-1, 1]) * 0.8 * width, 0.6 * width * taper)
    tone = 1.3 * canvas.contrast * (groove - 0.45 * burr * (1 - groove))
    return np.asarray(canvas.image + sign * tone[..., None], dtype=np.float32)
