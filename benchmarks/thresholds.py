"""What thresholds from n good images attain on new ones, over 1,000 draws. Run: python benchmarks/thresholds.py

Scores come from three distributions, so the rate above a threshold is known exactly: normal, gamma (shape 4, skewed as distances
are) and log-normal (sigma 1, a heavy tail). Printed: what a rule promises, the mean attained rate and its 5 to 95 % range over
draws, and in how many draws the rate lies in the interval that the rule promises (95 % of them, if it keeps its word).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from adbench.reports.formats import Figure
from adbench.reports.plotting import COLUMN, images, looks, panels
from adbench.statistics.rules import GoodScores, limits_of, parse_rule

DRAWS = 1000
SCORES: dict[str, Any] = {"normal": stats.norm(), "gamma": stats.gamma(4), "log-normal": stats.lognorm(1)}
CASES = (("conformal:0.01", 99), ("conformal:0.05", 19), ("conformal:0.05", 60), ("sigma:3", 30), ("sigma:3", 99),
         ("quantile:0.95", 30), ("quantile:0.95", 99))  # fmt: skip


def attained(rule: str, count: int, scores: Any) -> tuple[np.ndarray, float | None, tuple[float, float] | None]:
    """Return the rate on new images (DRAWS,), and what the rule promises with `count` images: the rate and its interval."""
    rng, thresholds = np.random.default_rng(list(f"{rule} {count} {scores.dist.name}".encode())), []
    for _ in range(DRAWS):
        drawn = scores.rvs(size=count, random_state=rng).astype(np.float32)
        limits = limits_of(parse_rule(rule), GoodScores(drawn, drawn, drawn, drawn[:, None]))
        thresholds.append(limits.image)
    return scores.sf(np.array(thresholds, dtype=float)), limits.promised, limits.interval


def draw(found: dict[tuple[str, int, str], np.ndarray]) -> Any:
    """Draw the range of attained rates of each case, the mean as a marker, and the promised rates as lines."""
    drawing, ((panel,),) = panels((COLUMN, 0.32 * len(CASES) + 0.9))
    for look, name in zip(looks(len(SCORES)), SCORES, strict=True):
        for place, (rule, count) in enumerate(CASES):
            rates = np.maximum(found[rule, count, name], 1e-4)
            low, high = np.quantile(rates, (0.05, 0.95))
            y = place + 0.22 * (list(SCORES).index(name) - 1)
            panel.plot([low, high], [y, y], color=look.color, linewidth=1)
            panel.plot(rates.mean(), y, look.marker, color=look.color, markersize=3, label=name if not place else None)
    for place, (rule, count) in enumerate(CASES):
        if promised := attained(rule, count, SCORES["normal"])[1]:
            panel.plot([promised] * 2, [place - 0.4, place + 0.4], color="black", linewidth=0.8, linestyle=":")
    panel.set_yticks(range(len(CASES)), [f"{rule}, n = {count}" for rule, count in CASES])
    panel.invert_yaxis()
    panel.set_xscale("log", subs=[])
    panel.xaxis.set_major_formatter("{x:g}")
    panel.grid(axis="x")
    panel.set_xlabel("false-positive rate on new good images")
    drawing.legend(loc="outside upper center", ncols=3)
    return drawing


def main() -> None:
    """Print the table, and draw the figure if it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figure", type=Path, metavar="FILE.svg")
    options = parser.parse_args()
    found = {}
    print("| rule | n | scores | promised | mean attained | 5 to 95 % of draws | draws in the promised interval |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rule, count in CASES:
        for name, scores in SCORES.items():
            rates, promised, interval = attained(rule, count, scores)
            found[rule, count, name] = rates
            low, high = np.quantile(rates, (0.05, 0.95))
            inside = f"{np.mean((rates >= interval[0]) & (rates <= interval[1])):.1%}" if interval else "-"
            shown = "-" if promised is None else f"{promised:.4f}"
            print(f"| {rule} | {count} | {name} | {shown} | {rates.mean():.4f} | {low:.4f} to {high:.4f} | {inside} |")
    if options.figure:
        words = [f"{rule}, n = {count}, {name}: mean {rates.mean():.4f}" for (rule, count, name), rates in found.items()]
        caption = (
            "Attained false-positive rate of threshold rules over 1,000 draws of n good images: mean, and 5 to 95 % of draws"
        )
        figure = Figure("thresholds", caption, "; ".join(words), lambda: draw(found))
        options.figure.write_bytes(images(figure, (options.figure.suffix[1:],))[options.figure.suffix[1:]])


if __name__ == "__main__":
    main()
