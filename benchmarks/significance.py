"""Do the statistics keep their promises? False-positive rates, power, coverage and thresholds on simulated test images.

Run: python benchmarks/significance.py PART... --seed N, with parts of rows, pixels, categories, intervals, promise. The parts
rows and pixels can be cut with --rows and --settings; each cut draws from the start of the seed's numbers.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product

import numpy as np
from scipy.stats import friedmanchisquare, norm

from adbench.metrics import Regions, components
from adbench.models.thresholds import set_threshold
from adbench.statistics.bootstrap import ENLARGED, Draws, curves_metrics, draw_replicates, image_histograms, pixel_histograms
from adbench.statistics.influence import Influence, influence_values
from adbench.statistics.paired import compare_with_best
from adbench.statistics.ranks import all_pairs, friedman, holm, wilcoxon

GOOD, BAD = 20, 60
ALPHA = 0.05
LABELS = np.arange(GOOD + BAD) >= GOOD
SHARED = 0.5  # of the variance of an image's score: common to all rows
IMAGE, PIXEL = ("image AUROC", "image AP", "image F1-max"), ("pixel AUROC", "pixel AP", "pixel F1-max", "AU-PRO")
SIDE = 12
SETTINGS = ("equal", "one worse", "one better")
REPLICATES = 200


def shift(auroc: float) -> float:
    """Return how far apart two normal distributions are for an AUROC."""
    return float(np.sqrt(2) * norm.ppf(auroc))


def image_scores(rng: np.random.Generator, aurocs: Sequence[float]) -> np.ndarray:
    """Return the scores (k, N) of rows with these true AUROC."""
    own = rng.normal(size=(len(aurocs), LABELS.size))
    common = rng.normal(size=LABELS.size)
    return np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * own + np.array([shift(a) for a in aurocs])[:, None] * LABELS


def image_metrics(scores: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the image metrics (k, 3, R) of rows where image i counts times[r, i] times."""
    return np.stack([curves_metrics(image_histograms(row, LABELS), times, 0.3)[:3] for row in scores])


def pixel_maps(rng: np.random.Generator, strengths: Sequence[float]) -> tuple[list[np.ndarray], np.ndarray, Regions]:
    """Return the maps (N, SIDE, SIDE) of each row, the masks and their regions; defects differ in how well they are seen."""
    masks = np.zeros((LABELS.size, SIDE, SIDE), bool)
    for mask in masks[GOOD:]:
        y, x = rng.integers(0, SIDE - 4, 2)
        mask[y : y + rng.integers(2, 5), x : x + rng.integers(2, 5)] = True
    visible, noise = rng.gamma(2, 0.5, (LABELS.size, 1, 1)), rng.normal(size=masks.shape)
    rows = []
    for strength in strengths:
        height = strength * visible * rng.gamma(4, 0.25, (LABELS.size, 1, 1)) * masks
        rows.append(
            (noise + rng.normal(size=masks.shape) + 0.3 * rng.normal(size=(LABELS.size, 1, 1)) + height).astype(np.float32)
        )
    return rows, masks, components(masks)


def pixel_metrics(rows: Sequence[np.ndarray], masks: np.ndarray, regions: Regions, times: np.ndarray) -> np.ndarray:
    """Return the pixel metrics (k, 4, R)."""
    return np.stack([curves_metrics(pixel_histograms(maps, masks, regions.weights), times, 0.3) for maps in rows])


def plain_max_t(best: int, estimates: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Return p-values of all-pairs max T with fixed standard errors from a bootstrap: the test of earlier versions."""
    largest = np.zeros(replicates.shape[1])
    for i in range(len(estimates) - 1):
        rest = replicates[i + 1 :] - replicates[i]
        spread = np.maximum(rest.std(axis=1, keepdims=True), 1e-9)
        largest = np.maximum(largest, (np.abs(rest - rest.mean(axis=1, keepdims=True)) / spread).max(axis=0))
    errors = np.maximum((replicates - replicates[best]).std(axis=1), 1e-9)
    sizes = np.abs(estimates - estimates[best]) / errors
    return ((largest >= sizes[:, None] - 1e-12).sum(axis=1) + 1) / (largest.size + 1)


def uncorrected(best: int, estimates: np.ndarray, replicates: np.ndarray) -> np.ndarray:
    """Return p-values of the best against each other row as if it had been named before looking."""
    differences = replicates - replicates[best]
    return 2 * np.minimum((differences <= 0).mean(axis=1), (differences >= 0).mean(axis=1)).clip(1e-9, 0.5)


TESTS = {
    "best named in advance, bootstrap": lambda replicates, _, estimates, best: uncorrected(best, estimates, replicates),
    "all pairs, plain bootstrap max T": lambda replicates, _, estimates, best: plain_max_t(best, estimates, replicates),
    "all pairs, sign flips": lambda _, influence, estimates, best: compare_with_best(best, estimates, influence).p,
}
Measured = Callable[[np.random.Generator, Sequence[float], np.ndarray], np.ndarray]


def measured_images(rng: np.random.Generator, aurocs: Sequence[float], times: np.ndarray) -> np.ndarray:
    return image_metrics(image_scores(rng, aurocs), times)


def measured_pixels(rng: np.random.Generator, strengths: Sequence[float], times: np.ndarray) -> np.ndarray:
    return pixel_metrics(*pixel_maps(rng, strengths), times)


def rejections(
    rng: np.random.Generator, trials: int, values: Sequence[float], measured: Measured, names: Sequence[str]
) -> dict[tuple[str, str], list[float]]:
    """Return {(metric, test): [share of trials with a false positive among the equal rows, share of true differences found]}.

    The most frequent of `values` are the equal rows. A false positive is any significant difference between the best of these
    and another of them.
    """
    usual = max(set(values), key=list(values).count)
    equal = np.array([value == usual for value in values])
    draws: Draws = draw_replicates(f"simulation {rng.integers(1 << 30)}", LABELS)
    times = np.concatenate([np.ones((1, LABELS.size)), draws.times[:REPLICATES], draws.units.kept])
    counts: dict[tuple[str, str], np.ndarray] = defaultdict(lambda: np.zeros(2))
    for _ in range(trials):
        found = measured(rng, values, times)
        for m, name in enumerate(names):
            estimates, replicates, left_out = np.split(found[:, m], [1, 1 + REPLICATES], axis=1)
            influence = Influence(influence_values(left_out, draws.units.strata), draws.units.strata)
            for test, p_values in TESTS.items():
                counts[name, test] += _outcome(estimates[:, 0], equal, partial(p_values, replicates, influence))
    return {key: (count / trials).tolist() for key, count in counts.items()}


def _outcome(estimates: np.ndarray, equal: np.ndarray, test: Callable[[np.ndarray, int], np.ndarray]) -> list[float]:
    """Return whether there is a false positive, and the share of the true differences to the observed best that are found."""
    best_equal, best = int(np.where(equal, estimates, -np.inf).argmax()), int(estimates.argmax())
    p, true = test(estimates, best), equal != equal[best]
    among_equal = p if best == best_equal else test(estimates, best_equal)
    return [float((among_equal[equal] < ALPHA).any()), float((p[true] < ALPHA).mean()) if true.any() else 0.0]


def print_rows(
    rng: np.random.Generator, options: argparse.Namespace, measured: Measured, names: Sequence[str], levels: Sequence[float]
) -> None:
    """Print the false-positive rates and the power of so many rows: equal ones, with one worse, with one better.

    levels: of the equal rows, the worse and the better one.
    """
    print(f"{'rows':>4} {'setting':12} {'metric':12} {'test':34} {'false':>6} {'found':>6}")
    for rows, setting in product(options.rows, options.settings):
        values = [levels[0]] * (rows - 1) + [levels[SETTINGS.index(setting)]]
        for (metric, test), (false, true) in rejections(rng, options.trials, values, measured, names).items():
            power = "" if setting == "equal" else f"{true:6.2f}"
            print(f"{rows:4} {setting:12} {metric:12} {test:34} {false:6.3f} {power:>6}", flush=True)


def print_categories(rng: np.random.Generator, trials: int) -> None:
    """Print the false-positive rates of rank tests over categories: Wilcoxon against the best, of all pairs, Friedman."""
    print(f"{'categories':>10} {'rows':>4} {'against the best, Holm':>22} {'all pairs':>8} {'chi2':>8} {'F':>8}")
    for n, k in ((8, 4), (15, 4), (15, 6), (30, 16)):
        counts = np.zeros(4)
        for _ in range(trials):
            values = rng.normal(size=(n, 1)) + rng.normal(size=(n, k))
            best = int(values.mean(axis=0).argmax())
            against = holm(np.array([wilcoxon(values[:, best], values[:, j]) for j in range(k) if j != best]))
            chances = [against.min(), all_pairs(values, best).min(), friedmanchisquare(*values.T).pvalue, friedman(values)]
            counts += np.array(chances) < ALPHA
        print(f"{n:10} {k:4} {counts[0] / trials:22.3f}", *(f"{count / trials:8.3f}" for count in counts[1:]), flush=True)


def covered(names: Sequence[str], truth: np.ndarray, samples: Iterator[np.ndarray], draws: Draws, replicates: int) -> np.ndarray:
    """Return per metric the coverage and mean width of the intervals, then of the percentile bootstrap: (m, 4)."""
    rows = []
    for found in samples:  # (m, 1 + replicates + units)
        enlarged = np.array([[ENLARGED.get(name.replace(" ", "_").lower(), 1.0)] for name in names])
        values = enlarged * influence_values(found[:, 1 + replicates :], draws.units.strata)
        influence = Influence(values, draws.units.strata)
        ends = np.array(influence.intervals(found[:, 0]))
        old = np.quantile(found[:, 1 : 1 + replicates], [0.025, 0.975], axis=1).T
        parts = [((e[:, 0] <= truth) & (truth <= e[:, 1]), e[:, 1] - e[:, 0]) for e in (ends, old)]
        rows.append(np.stack([column for part in parts for column in part], axis=1))
    return np.mean(rows, axis=0)


def print_intervals(rng: np.random.Generator, trials: int) -> None:
    """Print the coverage of 95 % intervals of each metric with 20 good and 60 anomalous images."""
    print(
        f"{'level':>8} {'metric':12} {'truth':>6} {'logit jackknife':>15} {'width':>6} {'percentile bootstrap':>20} {'width':>6}"
    )
    draws, count = draw_replicates("simulation", LABELS), REPLICATES
    times = np.concatenate([np.ones((1, LABELS.size)), draws.times[:count], draws.units.kept])
    once = np.ones((1, LABELS.size))
    for auroc in (0.85, 0.95, 0.99):
        many = np.tile(LABELS, 400)
        wide = rng.normal(size=many.size) + shift(auroc) * many
        truth = curves_metrics(image_histograms_of_many(wide, many), np.ones((1, 2)), 0.3)[:3, 0]
        samples = (image_metrics(image_scores(rng, [auroc]), times)[0] for _ in range(trials))
        show(f"{auroc}", IMAGE, truth, covered(IMAGE, truth, samples, draws, count))
    for strength in (4.0, 8.0):
        truth = np.mean([pixel_metrics(*pixel_maps(rng, [strength]), once)[0, :, 0] for _ in range(200)], axis=0)
        samples = (pixel_metrics(*pixel_maps(rng, [strength]), times)[0] for _ in range(trials // 4))
        show(f"maps {strength:g}", PIXEL, truth, covered(PIXEL, truth, samples, draws, count))


def image_histograms_of_many(scores: np.ndarray, anomalous: np.ndarray) -> object:
    """Return the histograms of many images, one item of 2,000 equally filled bins each, added up to two images."""
    from adbench.statistics.bootstrap import Histograms

    home = np.searchsorted(np.quantile(-scores, np.linspace(0, 1, 2001)[1:-1]), -scores)
    good, bad = (np.bincount(home[anomalous == kind], minlength=2000).astype(float) for kind in (False, True))
    nothing = np.zeros(2000)
    return Histograms(np.stack([good, nothing]), np.stack([nothing, bad]), np.stack([nothing, bad]))


def show(level: str, names: Sequence[str], truth: np.ndarray, found: np.ndarray) -> None:
    for name, value, (new, width, old, old_width) in zip(names, truth, found, strict=True):
        print(f"{level:>8} {name:12} {value:6.3f} {new:15.3f} {width:6.3f} {old:20.3f} {old_width:6.3f}", flush=True)


def print_promise(rng: np.random.Generator, trials: int) -> None:
    """Print the false-positive rate of thresholds after a choice among 50 candidates by image AUROC: its mean over all trials."""
    print(f"{'good images':>11} {'promised':>8} {'the images of the choice':>24} {'a third split':>13}")
    for held in (8, 20, 99):
        rates = np.zeros(2)
        for _ in range(trials):
            common = rng.normal(size=(2, held))
            good = np.sqrt(SHARED) * common[:, None] + np.sqrt(1 - SHARED) * rng.normal(size=(2, 50, held))
            bad = np.sqrt(SHARED) * rng.normal(size=60) + np.sqrt(1 - SHARED) * rng.normal(size=(50, 60)) + shift(0.9)
            chosen = int((bad[:, :, None] > good[0][:, None]).mean(axis=(1, 2)).argmax())
            for i in range(2):
                threshold = set_threshold(good[i, chosen].tolist(), good[i, chosen].tolist(), 0.0, 1 / (held + 1))
                rates[i] += norm.sf(threshold.image)
        print(f"{held:11} {1 / (held + 1):8.3f} {rates[0] / trials:24.3f} {rates[1] / trials:13.3f}")


def main() -> None:
    """Print the parts that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["rows", "pixels", "categories", "intervals", "promise"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--rows", type=int, nargs="+", default=[4, 16], metavar="N", help="numbers of rows that are compared")
    parser.add_argument("--settings", nargs="+", default=SETTINGS, choices=SETTINGS)
    options = parser.parse_args()
    for part in options.parts:
        rng = np.random.default_rng([options.seed, len(part)])
        print(f"{part}, seed {options.seed}, {options.trials} trials, {GOOD} good and {BAD} anomalous images")
        if part == "rows":
            print_rows(rng, options, measured_images, IMAGE, (0.85, 0.7, 0.97))
        elif part == "pixels":
            print_rows(rng, options, measured_pixels, PIXEL, (4.0, 2.0, 7.0))
        elif part == "categories":
            print_categories(rng, options.trials)
        elif part == "intervals":
            print_intervals(rng, options.trials)
        else:
            print_promise(rng, options.trials)


if __name__ == "__main__":
    main()
