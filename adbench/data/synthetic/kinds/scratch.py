"""Scratches: fine grooves with a burr along one side; the larger the defect, the more of them, side by side."""

import numpy as np

from adbench.data.synthetic.kinds import Canvas, Field, Picture, Rng, register
from adbench.data.synthetic.shapes import Points, curve, stroke


@register("scratch")
def scratch(canvas: Canvas, rng: Rng) -> Picture:
    """Draw grooves that taper off and fade here and there; bright on dark material, dark on bright."""
    width = rng.uniform(1.2, 2.0) + 0.012 * canvas.size
    longest = min(rng.uniform(2.5, 5) * canvas.size + 6, 1.1 * min(canvas.shape))
    length = min(canvas.area / width, longest)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.8)
    tone = np.zeros(canvas.shape, np.float32)
    for number in range(max(1, round(canvas.area / (width * length)))):
        beside = 0.3 * canvas.size * rng.standard_normal(2) if number else np.zeros(2)
        points = curve(canvas, rng, length * rng.uniform(0.6, 1) if number else length, angle, bend) + beside
        groove = _groove(canvas, rng, points, width)
        tone = np.where(np.abs(groove) > np.abs(tone), groove, tone)
        angle += rng.normal(0, 0.12)
    middle = float(canvas.image[canvas.foreground].mean())
    sign = rng.choice([-1.0, 1.0]) if 60 < middle < 190 else np.sign(120 - middle)
    return np.asarray(canvas.image + 1.3 * sign * canvas.contrast * tone[..., None], dtype=np.float32)


def _groove(canvas: Canvas, rng: Rng, points: Points, width: float) -> Field:
    """Return the tone of one groove: 1 in it, a little below 0 on the burr."""
    position = np.linspace(0, 1, len(points))
    taper = np.minimum(1, 6 * np.minimum(position, 1 - position) + 0.35)
    pressure = 1 + 0.35 * np.interp(position, np.linspace(0, 1, 9), rng.standard_normal(9))
    groove = stroke(canvas, points, width * taper * np.clip(pressure, 0.5, 1.5))
    burr = stroke(canvas, points + rng.choice([-1, 1]) * 0.8 * width, 0.6 * width * taper)
    return groove - 0.45 * burr * (1 - groove)
