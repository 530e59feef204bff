"""Bootstrap over test images (Efron and Tibshirani, 1993): what the metrics would be, had other images been tested.

A replicate draws as many good and as many defective images as there are, with replacement (stratified: no replicate
lacks one kind). The draws depend on the test images alone, so two detectors are measured on the same replicates, and
their differences can be compared pairwise. Images are the only source of chance here: neither seeds nor training images.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adbench.metrics import ON_REQUEST, ORDER, STRICT_LIMIT, Case, Curves, Regions, in_order, measure, reasons
from adbench.metrics.support.inputs import select
from adbench.metrics.support.saturation import kind_groups, overlap_weights
from adbench.statistics.influence import Influence, Units, influence_values, make_units
from adbench.statistics.low_rates import tail_histograms
from adbench.types import Maps, Masks, OnStep, Scores, Truth, ignore_step

Floats = NDArray[np.floating[Any]]
ImageWeights = NDArray[np.float64]
BINS = 2048  # half of them equally filled by good pixels, half by defective ones
SHIFT = 13  # mantissa bits dropped: 1024 fine bins between a height above the lowest score and its double
FINE = 1 << (31 - SHIFT)
EVERY = 7  # of the good pixels are looked at for the choice of bins; all are counted


@dataclass(frozen=True)
class Histograms:
    """Items of N images in B bins of their score, the highest first. All (N, B).

    good, anomalous: how many there are. overlap: the anomalous ones' weights (1 / size of their region, for pixels).
    """

    good: ImageWeights
    anomalous: ImageWeights
    overlap: ImageWeights


def image_histograms(scores: Floats, anomalous: NDArray[np.bool_]) -> Histograms:
    """Return the histograms of N images, one item each, scores and labels (N,): a bin per distinct score, nothing is lost."""
    values, home = np.unique(-scores, return_inverse=True)
    single = np.eye(values.size)[home]
    positive = single * anomalous[:, None]
    return Histograms(single - positive, positive, positive)


def pixel_histograms(maps: Maps, masks: Masks, weights: ImageWeights, bins: int = BINS) -> Histograms:
    """Return the histograms of the pixels of N maps (H, W) under N masks.

    `weights` is `Regions.weights` of the masks. Bins are quantiles of the pixels, at most `bins`; for 6.5 million
    pixels they cost a third of what the exact metrics cost, since a bin is found by a float's leading bits.
    """
    low = min(float(np.min(m)) for m in maps)
    table, count = _bin_table(maps, masks, low, bins)
    found = Histograms(*(np.zeros((len(maps), count)) for _ in range(3)))
    start = 0
    for i, (anomaly_map, mask) in enumerate(zip(maps, masks, strict=True)):
        home = table[_fine(anomaly_map, low)]
        inside = home[mask]
        found.anomalous[i] = np.bincount(inside, minlength=count)
        found.overlap[i] = np.bincount(inside, weights[start : start + inside.size], minlength=count)
        found.good[i] = np.bincount(home.ravel(), minlength=count) - found.anomalous[i]
        start += inside.size
    return found


def _fine(scores: Floats, low: float) -> NDArray[np.int32]:
    """Return the fine bin of each score >= `low`: the leading bits of a float >= 0 grow with it."""
    height = np.subtract(scores, low, dtype=np.float32)
    return np.right_shift(height.view(np.int32), SHIFT)


def _bin_table(maps: Maps, masks: Masks, low: float, bins: int) -> tuple[NDArray[np.int16], int]:
    """Return the bin of each fine bin (FINE,), 0 for the highest scores, and the number of bins."""
    good = _fine_counts((m[~k][::EVERY] for m, k in zip(maps, masks, strict=True)), low)
    defective = _fine_counts((m[k] for m, k in zip(maps, masks, strict=True)), low)
    used = np.flatnonzero(good + defective)[::-1]
    passed = [np.cumsum(counts[used]) for counts in (good, defective)]
    steps = sum(np.floor(p / max(p[-1], 1) * (bins // 2)) for p in passed)
    table = np.zeros(FINE, dtype=np.int16)
    below = used[np.diff(steps, prepend=0) > 0] - 1  # the bin that these scores fill ends here
    table[below[below >= 0]] = 1
    table = np.cumsum(table[::-1], dtype=np.int16)[::-1]
    return table, int(table[0]) + 1


def _fine_counts(parts: Iterable[Floats], low: float) -> NDArray[np.int64]:
    counts = np.zeros(FINE, dtype=np.int64)
    for part in parts:
        np.add.at(counts, _fine(part, low), 1)  # touches as many bins as there are pixels, not all of them
    return counts


REPLICATES = 1000
ENLARGED = {
    "image_ap": 1.1
}  # standard errors: AP hangs on few good images, and the jackknife sees too little of that (simulated)
BLOCK = 50  # replicates at a time: their curves fit a CPU's cache


@dataclass(frozen=True)
class Draws:
    """How often each of N images is in each of R replicates: (R, N), and the units that are left out in turn.

    `name` is a digest of the replicates.
    """

    times: ImageWeights
    units: Units

    @property
    def name(self) -> str:
        return hashlib.sha256(self.times.tobytes()).hexdigest()[:16]


def draw_replicates(
    fingerprint: str, anomalous: NDArray[np.bool_], count: int = REPLICATES, sources: Sequence[int] | None = None
) -> Draws:
    """Return the draws for test images with this fingerprint, which is the seed; `anomalous` (N,).

    `sources` (N,), 0 to S - 1: images made from the same original are not independent, so all of a source are drawn
    together: S sources are drawn out of S. Each source must have good and anomalous images.
    """
    random = np.random.default_rng(int(hashlib.sha256(fingerprint.encode()).hexdigest(), 16))
    if sources is not None:
        number = max(sources) + 1
        times = random.multinomial(number, np.full(number, 1 / number), size=count)[:, sources].astype(float)
        return Draws(times, make_units(anomalous, sources, random))
    times = np.zeros((count, anomalous.size))
    for kind in (False, True):
        chosen = np.flatnonzero(anomalous == kind)
        if chosen.size:
            times[:, chosen] = random.multinomial(chosen.size, np.full(chosen.size, 1 / chosen.size), size=count)
    return Draws(times, make_units(anomalous, None, random))


def resample(
    scores: Scores, truth: Truth, regions: Regions | None, pro_limit: float, draws: Draws,
    metrics: Mapping[str, float | None], on_step: OnStep = ignore_step,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
    """Return each of M metrics in each of R replicates, (M, R), and its influence values, (M + 1, U).

    Metrics are in the order of `in_order(metrics)`, NaN where undefined. The last row of the influence values is the stratum of
    each of U units.
    """
    distinct, home = _distinct(np.concatenate([draws.times, draws.units.kept]))
    found = _measured(scores, truth, regions, pro_limit, distinct, metrics, on_step)[:, home]
    replicates, left_out = found[:, : len(draws.times)], found[:, len(draws.times) :]
    influence = np.concatenate([influence_values(left_out, draws.units.strata), draws.units.strata[None]])
    return replicates.astype(np.float32), influence.astype(np.float32)


def _distinct(times: ImageWeights) -> tuple[ImageWeights, NDArray[np.int64]]:
    """Return the distinct rows of an array (R, N) in the order of their first, and the place among them of each row (R,).

    Few images have few replicates: three good and three defective ones have 100.
    """
    places: dict[bytes, int] = {}
    home = np.array([places.setdefault(row.tobytes(), len(places)) for row in times])
    return times[np.unique(home, return_index=True)[1]], home


def _measured(
    scores: Scores, truth: Truth, regions: Regions | None, pro_limit: float, times: ImageWeights,
    metrics: Mapping[str, float | None], on_step: OnStep,
) -> ImageWeights:  # fmt: skip
    """Return each of M metrics where image i counts `times`[r, i] times, (M, R); `metrics` are the exact ones of all images.

    Image metrics are exact in every replicate; pixel metrics come from histograms and are shifted by the error that those make on
    all images: `metrics` minus their value from histograms.
    """
    undefined = reasons(truth)
    image, pixel = None if "image" in undefined else image_histograms(scores.image, truth.anomalous), None
    if "pixel" not in undefined:
        assert truth.masks is not None and regions is not None  # noqa: S101  otherwise `reasons` has said so
        pixel = pixel_histograms(scores.maps, truth.masks, regions.weights)
    names, everything = in_order({*ORDER, *metrics}), np.ones((1, len(truth.anomalous)))
    rows = dict(zip(names, np.full((len(names), len(times)), np.nan), strict=True))
    if image:
        rows |= zip(ORDER[:3], curves_metrics(image, times, pro_limit), strict=False)
    if pixel:
        wanted = [name for name in ON_REQUEST if metrics.get(name) is not None]
        limits = [pro_limit, *[STRICT_LIMIT] * ("aupro_05" in wanted)]
        named = [*ORDER[3:], *["aupro_05"] * ("aupro_05" in wanted)]
        whole, drawn = curves_metrics(pixel, everything, *limits), curves_metrics(pixel, times, *limits, on_step=on_step)
        rows |= zip(named, drawn + (_exact(metrics, named) - whole), strict=True)
        for name, of in _own_replicates(scores, truth, wanted, pixel, pro_limit):
            rows[name] = of(times) + (_exact(metrics, [name])[0] - of(everything))
    if others := [name for name in names if name not in (*ORDER, *ON_REQUEST)]:
        case = Case(scores, truth, pro_limit, None, None)
        whole, drawn = (_other_metrics(case, image, pixel, weights, others) for weights in (everything, times))
        rows |= zip(others, drawn + (_exact(metrics, others) - whole), strict=True)
    return np.asarray(np.clip(np.stack(list(rows.values())), 0, 1))


def _own_replicates(
    scores: Scores, truth: Truth, wanted: Sequence[str], pixel: Histograms, pro_limit: float
) -> Iterator[tuple[str, Callable[[ImageWeights], ImageWeights]]]:
    """Yield those of the metrics on request that are `wanted`, with a function of weightings (R, N) to values (R,).

    pixel: the histograms of all pixels. `aupro_05` shares the curve of `aupro`, and is not among them.
    """
    if "aupimo" in wanted:
        yield "aupimo", tail_histograms(scores, truth).replicates
    if "au_spro" in wanted:
        yield "au_spro", saturated_areas(scores, truth)
    if "aupro_anomalous" in wanted:
        own = replace(pixel, good=pixel.good * truth.anomalous[:, None])
        yield "aupro_anomalous", lambda times: curves_metrics(own, times, pro_limit)[3]


def saturated_areas(scores: Scores, truth: Truth) -> Callable[[ImageWeights], ImageWeights]:
    """Return the function of weightings (R, N) to AU-sPRO (R,): the mean over kinds of defect, each against the good images."""
    kinds, groups = kind_groups(truth)
    weights, masks = list(overlap_weights(scores.maps, truth)), () if truth.masks is None else truth.masks
    parts = []
    for own in (np.flatnonzero((groups == 0) | (groups == number)).tolist() for number in range(1, len(kinds) + 1)):
        chosen = [weights[i] for i in own]
        if sum(map(np.sum, chosen)):
            maps = [np.asarray(scores.maps[i]) for i in own]
            parts.append((own, pixel_histograms(maps, [np.asarray(masks[i]) for i in own], np.concatenate(chosen))))
    return lambda times: np.mean([curves_metrics(part, times[:, own], STRICT_LIMIT)[3] for own, part in parts], axis=0)


def _exact(metrics: Mapping[str, float | None], names: Sequence[str]) -> ImageWeights:
    return np.array([[metrics[name]] for name in names], dtype=float)


def _other_metrics(
    case: Case, image: Histograms | None, pixel: Histograms | None, times: ImageWeights, names: Sequence[str]
) -> ImageWeights:
    """Return the metrics `names`, (len(names), R), of `case` with its images drawn again, image i `times`[r, i] times."""
    nothing = [None] * len(times)
    curves = zip(_curves(image, times) if image else nothing, _curves(pixel, times) if pixel else nothing, strict=True)
    found = []
    for drawn, (image_curves, pixel_curves) in zip(times, curves, strict=True):
        own = select(case.scores, case.truth, np.repeat(np.arange(drawn.size), drawn.astype(int)))
        found.append(list(measure(Case(*own, case.pro_limit, image_curves, pixel_curves), names).values()))
    return np.array(found, dtype=float).T


def _curves(histograms: Histograms, times: ImageWeights) -> Iterator[Curves | None]:
    """Yield the curves of each weighting of the images, (R, N), with all items of a bin as ties; None if it lacks a kind."""
    for counts in _weighted(histograms, times):
        for good, anomalous, overlap in zip(*counts, strict=True):
            at = np.flatnonzero(anomalous)
            false, true, found = np.cumsum(good).astype(np.int64), np.cumsum(anomalous).astype(np.int64), np.cumsum(overlap)
            above = false - good.astype(np.int64)
            whole = Curves(above[at], false[at], true[at], found[at] / (found[-1] or 1), int(false[-1]), int(true[-1]))
            yield whole if whole.good and whole.anomalous else None


def _weighted(histograms: Histograms, times: ImageWeights) -> Iterator[tuple[ImageWeights, ImageWeights, ImageWeights]]:
    """Yield the items in each bin, (BLOCK, B): good and anomalous ones and the latter's weights, of `BLOCK` weightings."""
    bad = histograms.anomalous.any(axis=1)
    for start in range(0, len(times), BLOCK):
        block = times[start : start + BLOCK]
        yield block @ histograms.good, block[:, bad] @ histograms.anomalous[bad], block[:, bad] @ histograms.overlap[bad]


def curves_metrics(
    histograms: Histograms, times: ImageWeights, pro_limit: float, *further: float, on_step: OnStep = ignore_step
) -> ImageWeights:
    """Return AUROC, AP, F1-max, and AU-PRO up to each limit, (4 or more, R), where image i counts `times`[r, i] times.

    As in `adbench.metrics`, with all items of a bin as ties; NaN where a weighting has no good or no anomalous item.
    """
    blocks = list[ImageWeights]()
    for good, anomalous, overlap in _weighted(histograms, times):
        false, true, found = (np.cumsum(part, axis=1) for part in (good, anomalous, overlap))
        with np.errstate(divide="ignore", invalid="ignore"):
            num_good, num_anomalous = false[:, -1:], true[:, -1:]
            auroc = (anomalous * (num_good - false + good / 2)).sum(axis=1, keepdims=True) / num_good / num_anomalous
            precision = np.where(true > 0, true / (true + false), 0)
            ap = (anomalous * precision).sum(axis=1, keepdims=True) / num_anomalous
            f1_max = (2 * true / (num_anomalous + true + false)).max(axis=1, keepdims=True)
            curve = good / num_good, false / num_good, overlap / found[:, -1:], found / found[:, -1:]
            areas = [_area(*curve, pro_limit)]
            for limit in further:
                end = int(np.count_nonzero((curve[1] <= limit).any(axis=0))) + 1  # the bins that one of the curves needs
                step, rate, rise, height = (part[:, :end] for part in curve)
                areas.append(_area(step, rate, rise, height, limit))
        blocks.append(np.concatenate((auroc, ap, f1_max, *areas), axis=1).T)
        on_step(min(len(blocks) * BLOCK, len(times)), len(times), "bootstrap")
    return np.concatenate(blocks, axis=1)


def _area(step: ImageWeights, rate: ImageWeights, rise: ImageWeights, height: ImageWeights, limit: float) -> ImageWeights:
    """Return the area below curves of (rate, height) up to `limit`, as a share of it; straight lines across each bin."""
    width = np.clip(limit - (rate - step), 0, step)
    share = np.where(step > 0, width / step, 0)
    area: ImageWeights = (width * (height - rise + rise * share / 2)).sum(axis=1, keepdims=True) / limit
    return area


def intervals(metrics: Mapping[str, float | None], influence: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return {metric: [low, high]}, 95 % intervals of the defined `metrics`, by the influence values that `resample` returns."""
    found = {}
    for name, row in zip(in_order(metrics), influence, strict=False):
        if (value := metrics.get(name)) is not None:
            (ends,) = stored_influence(ENLARGED.get(name, 1) * row[None], influence[-1]).intervals(np.array([value]))
            found[name] = [round(v, 6) for v in ends or ()]
    return found


def stored_influence(rows: NDArray[np.float32], strata: NDArray[np.float32]) -> Influence:
    """Return the influence values of some of the rows of an array that `resample` made, with its last row."""
    return Influence(rows.astype(np.float64), strata.astype(np.int64))
