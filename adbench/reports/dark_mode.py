"""Figures for pages: an SVG whose colors follow the reader's color scheme, light or dark."""

from __future__ import annotations

import re

PAPER = "#0d1117"  # of the page in the dark scheme
LEAST_CONTRAST = 3.0  # of graphics against the paper (WCAG 2.2, 1.4.11)
_COLOR = re.compile(r"(?<=: )#([0-9a-f]{6})\b")  # in style attributes; ids are no hexadecimal numbers
_ATTRIBUTE = re.compile(r'\bfill="(#[0-9a-f]{6})"')  # below hatches
_STEPS = 20
Color = tuple[float, float, float]  # red, green, blue in [0, 1]


def follow_scheme(svg: str) -> str:
    """Return an SVG of matplotlib's, drawn for white paper, with its colors as variables that differ by color scheme."""
    svg = _ATTRIBUTE.sub(r'style="fill: \1"', svg)
    colors = sorted({"000000", *_COLOR.findall(svg)})
    light, dark = (";".join(f"--c{c}:{of(f'#{c}')}" for c in colors) for of in (str, on_dark))
    rules = f":root{{{light};fill:var(--c000000)}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}"
    head, tag, rest = svg.partition("<defs>")  # the first child that may hold a style
    return f"{head}<style>{rules}</style>{tag}{_COLOR.sub(lambda found: f'var(--c{found[1]})', rest)}"


def on_dark(color: str) -> str:
    """Return the color (#rrggbb) that stands for a color on white when the paper is dark.

    Grays are mirrored: white becomes the paper. Other colors are mixed with white until they can be told from the paper.
    """
    red, green, blue = rgb = _parsed(color)
    if max(rgb) - min(rgb) < 0.02:
        return _mixed(_parsed(PAPER), 1 - green)
    steps = (_mixed((red, green, blue), step / _STEPS) for step in range(_STEPS + 1))
    return next(mixed for mixed in steps if contrast(mixed, PAPER) >= LEAST_CONTRAST)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors (#rrggbb), 1 to 21 (WCAG 2.2)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in _parsed(color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _parsed(color: str) -> Color:
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red, green, blue


def _mixed(color: Color, white: float) -> str:
    """Return a color with a share of white in it."""
    return "#" + "".join(f"{round(255 * (c + (1 - c) * white)):02x}" for c in color)
