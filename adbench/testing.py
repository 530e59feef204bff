"""Contract tests of plug-ins: what every detector, metric, report format ... must keep, whoever wrote it.

`python -m adbench.testing MODULE...` imports modules or Python files and tests all that they register. The project's own tests
run the same checks on everything that is registered.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adbench.core import plugins
from adbench.core.errors import AdbenchError, UsageError
from adbench.core.registry import TABLES, table

if TYPE_CHECKING:
    from adbench.detectors import Detector
    from adbench.features.feature_maps import FeatureMaps

Params = Mapping[str, Any]


class ContractError(AssertionError):
    """A plug-in that breaks its contract; the message says how."""


@dataclass(frozen=True)
class Check:
    """One rule of the contract of a kind of plug-ins. run: takes the registered name, and parameters for a detector."""

    kind: str
    rule: str
    run: Callable[[str, Params], None]


CHECKS: list[Check] = []


def _check(kind: str) -> Callable[[Callable[[str, Params], None]], Callable[[str, Params], None]]:
    """File a function under its kind; the first line of its docstring is the rule."""

    def add(run: Callable[[str, Params], None]) -> Callable[[str, Params], None]:
        CHECKS.append(Check(kind, (run.__doc__ or "").splitlines()[0].rstrip("."), run))
        return run

    return add


def _expect(condition: object, message: str) -> None:
    if not condition:
        raise ContractError(message)


def _names_its_paper(item: object) -> bool:
    return "et al." in (sys.modules[item.__module__].__doc__ or "")


# ---- detectors ---------------------------------------------------------------------------------------------------------


def example_features(count: int, seed: int, defects: bool = False) -> FeatureMaps:
    """Return features of two layers, (N, 6, 8, 8) and (N, 4, 4, 4); with `defects`, every second image has one.

    Nominal features vary about a mean of 4 and -4 in turn; in a defect, 12 is added to all channels.
    """
    from adbench.features.feature_maps import FeatureMaps

    rng = np.random.default_rng(seed)
    fine = rng.normal(size=(count, 6, 8, 8)).astype(np.float16)
    coarse = rng.normal(size=(count, 4, 4, 4)).astype(np.float16)
    for layer in (fine, coarse):
        layer += np.where(np.arange(layer.shape[1]) % 2, -4, 4)[:, None, None].astype(np.float16)
    if defects:
        fine[1::2, :, 2:4, 2:4] += 12
        coarse[1::2, :, 1:2, 1:2] += 12
    return FeatureMaps((fine, coarse))


def _fit(name: str, params: Params, seed: int) -> Detector:
    import torch

    from adbench.detectors import make_detector

    return make_detector(name, dict(params), seed).fit(example_features(12, 1), device=torch.device("cpu"))


_FITTED: dict[str, Detector] = {}  # one fit serves most checks: training takes nearly all of their time


def _fitted(name: str, params: Params) -> Detector:
    key = f"{name} {sorted(params.items())}"
    if key not in _FITTED:
        _FITTED[key] = _fit(name, params, 0)
    return _FITTED[key]


def _scores(detector: Detector, features: FeatureMaps) -> tuple[Any, Any]:
    import torch

    scores = detector.score(features, device=torch.device("cpu"))
    return np.asarray(scores.image), np.asarray(scores.maps)


def _expect_same_scores(first: Detector, second: Detector, message: str) -> None:
    features = example_features(4, 2)
    pairs = zip(_scores(first, features), _scores(second, features), strict=True)
    _expect(all(np.array_equal(one, other) for one, other in pairs), message)


@_check("detectors")
def _parameters(name: str, params: Params) -> None:
    """Its parameters are dataclass fields with defaults that are int, float, bool or str."""
    kind = table("detectors").get(name)
    _expect(is_dataclass(kind), f"{kind.__name__} is not a dataclass")
    made = kind()
    _expect(made.seed == 0, f"the default seed is {made.seed}, not 0")
    for field in (field for field in fields(kind) if field.init):
        value = getattr(made, field.name)
        _expect(isinstance(value, int | float | str), f"the default of '{field.name}' is a {type(value).__name__}")


@_check("detectors")
def _shapes_and_order(name: str, params: Params) -> None:
    """It gives float32 scores (N,) and maps (N, h, w) of the finest grid, higher for planted defects."""
    image, maps = _scores(_fitted(name, params), example_features(8, 2, defects=True))
    _expect(image.dtype == maps.dtype == np.float32, f"scores are {image.dtype} and maps {maps.dtype}, not float32")
    _expect(image.shape == (8,) and maps.shape == (8, 8, 8), f"shapes are {image.shape} and {maps.shape}, not (8,) and (8, 8, 8)")
    _expect(image[1::2].min() > image[::2].max(), "an image with a planted defect scores no higher than a good one")
    _expect(maps[1::2, 2:4, 2:4].mean() > maps[::2].mean(), "the map is no higher at a planted defect")


@_check("detectors")
def _memory(name: str, params: Params) -> None:
    """It bounds the memory of a fit from shapes alone, 0 if it does not know."""
    found = _fitted(name, params).memory_bytes(12, example_features(1, 1).shapes)
    _expect(isinstance(found, int) and found >= 0, f"memory_bytes gives {found!r}, not a whole number of bytes")


@_check("detectors")
def _repeatable(name: str, params: Params) -> None:
    """The same seed gives the same bits."""
    _expect_same_scores(_fit(name, params, 3), _fit(name, params, 3), "two fits with one seed give other scores")


@_check("detectors")
def _reloadable(name: str, params: Params) -> None:
    """A detector that is made anew from `state_dict` scores the same bits."""
    from adbench.detectors import make_detector

    fitted = _fitted(name, params)
    state = {key: value.clone() for key, value in fitted.state_dict().items()}
    _expect_same_scores(fitted, make_detector(name, dict(params), 0).load_state_dict(state), "it scores otherwise once reloaded")


@_check("detectors")
def _alone(name: str, params: Params) -> None:
    """An image scores the same alone as among others."""
    from adbench.features.feature_maps import FeatureMaps

    detector, features = _fitted(name, params), example_features(5, 2)
    whole, _ = _scores(detector, features)
    alone, _ = _scores(detector, FeatureMaps(tuple(layer[3:4] for layer in features.layers)))
    _expect(np.allclose(alone[0], whole[3], rtol=1e-5), f"it scores {alone[0]} alone and {whole[3]} among others")


@_check("detectors")
def _threads(name: str, params: Params) -> None:
    """Several threads may score at once."""
    detector, parts = _fitted(name, params), [example_features(3, seed, defects=True) for seed in range(24)]
    expected = [_scores(detector, part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda part: _scores(detector, part), parts))
    same = (np.array_equal(a, b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True))
    _expect(all(same), "scores differ when several threads ask at once")


@_check("detectors")
def _method(name: str, params: Params) -> None:
    """It has a revision, and its file names the paper ("... et al.")."""
    kind = table("detectors").get(name)
    _expect(isinstance(kind.revision, int) and kind.revision > 0, f"revision is {kind.revision!r}, not a positive number")
    _expect(_names_its_paper(kind), f"the docstring of {kind.__module__} names no paper")


# ---- metrics -----------------------------------------------------------------------------------------------------------


@_check("metrics")
def _fraction(name: str, params: Params) -> None:
    """It is a fraction of 1 where images of both kinds, masks and saturation areas are there, the same each time."""
    from adbench.metrics import evaluate
    from adbench.types import Saturated, Scores, Truth

    rng, masks = np.random.default_rng(0), np.zeros((4, 256, 256), bool)  # the good pixels that AUPIMO needs
    masks[2:, 64:128, 64:160] = True
    scores = Scores(rng.normal(size=4).astype(np.float32), (rng.normal(size=masks.shape) + 3 * masks).astype(np.float32))
    defects = [[Saturated(np.flatnonzero(mask), 6000)] if mask.any() else [] for mask in masks]
    truth = Truth(np.array([False, False, True, True]), masks, defects)
    first, second = (evaluate(scores, truth)[name] for _ in range(2))
    _expect(first is not None and 0 <= first <= 1, f"it is {first}, not between 0 and 1")
    _expect(first == second, f"it is {first} first, then {second}")


@_check("metrics")
def _undefined(name: str, params: Params) -> None:
    """It is None where no image is anomalous."""
    from adbench.metrics import evaluate
    from adbench.types import Scores, Truth

    scores = Scores(np.arange(4, dtype=np.float32), np.zeros((4, 8, 8), np.float32))
    found = evaluate(scores, Truth(np.zeros(4, bool), None))[name]
    _expect(found is None, f"it is {found} without anomalous images, not None")


# ---- data, backbones ---------------------------------------------------------------------------------------------------


@_check("datasets")
def _layout(name: str, params: Params) -> None:
    """It matches no empty folder, and knows its name."""
    kind = table("datasets").get(name)
    with tempfile.TemporaryDirectory() as folder:
        _expect(not kind(name).matches(Path(folder)), "it matches an empty folder")
    _expect(kind(name).name == name, f"its name is {kind(name).name!r}, not {name!r}")


@_check("families")
def _networks(name: str, params: Params) -> None:
    """Its names are unique, and one of its networks has layers."""
    from adbench.backbones.layers import describe

    family = table("families").get(name)
    names = family.names()
    _expect(len(set(names)) == len(names), "names() has a name twice")
    strangers = set(family.stage_layers) - set(names)
    _expect(not strangers, f"stage_layers names {', '.join(sorted(strangers))}, which names() does not")
    first = "resnet18" if "resnet18" in names else [*family.stage_layers, *names][0]  # a small one, where many are large
    layers = describe(f"{family.prefix}/{first}" if family.prefix else first).layers
    _expect(all(layer.channels > 0 and layer.stride > 0 for layer in layers), f"a layer of {first} has no channels or no stride")


@_check("pretrainings")
def _checkpoint(name: str, params: Params) -> None:
    """It names its source and a file of its own, and fits a known network."""
    every = table("pretrainings").items()
    made = every[name]
    _expect(made.name == name, f"its name is {made.name!r}, not {name!r}")
    _expect(made.source.startswith("https://"), f"its source {made.source!r} is no https address")
    _expect(made.url is None or made.url.startswith("https://"), f"its url {made.url!r} is no https address")
    _expect([other.file for other in every.values()].count(made.file) == 1, f"its file {made.file} is another one's, too")
    known = any(made.backbone in family.names() for family in table("families").items().values())
    _expect(known, f"no family has its backbone {made.backbone!r}")


@_check("defects")
def _picture(name: str, params: Params) -> None:
    """It paints something finite on a canvas that it leaves alone, the same each time."""
    from adbench.data.synthetic.kinds import Canvas

    image = np.random.default_rng(0).normal(120, 12, (64, 64, 3)).astype(np.float32)
    canvas = Canvas(image.copy(), np.ones((64, 64), bool), (32, 32), 16.0, 60.0, _texture)
    first, second = (table("defects").get(name)(canvas, np.random.default_rng(1)) for _ in range(2))
    _expect(
        first.shape == image.shape and np.isfinite(first).all(), f"it gives shape {first.shape}, or values that are not finite"
    )
    _expect(np.array_equal(canvas.image, image), "it writes to the canvas")
    _expect(np.array_equal(first, second), "one seed gives two pictures")
    _expect(np.abs(first - image).max() > 1, "it changes nothing")


def _texture(rng: np.random.Generator, shape: tuple[int, int]) -> Any:
    return rng.normal(60, 30, (*shape, 3)).astype(np.float32)


# ---- reports, executors ------------------------------------------------------------------------------------------------


@_check("formats")
def _text(name: str, params: Params) -> None:
    """It returns text for a report, also for one without results, the same each time."""
    from adbench.reports.formats import Cell, Report, Section, Table

    example = Table("caption", ("layer", "aupro"), ((Cell("block"), Cell("0.900", best=True)),), 1)
    report = Report(example, ("a note",), (Section("title", (example,), notes=("another note",)),))
    format_ = table("formats").get(name)
    _expect(isinstance(format_(report), str), "it does not return a str")
    _expect(format_(report) == format_(report), "it gives two texts for one report")


@_check("studies")
def _study(name: str, params: Params) -> None:
    """It says in a section that there is nothing to see where there are no results."""
    from adbench.reports.formats import Section

    _expect(isinstance(table("studies").get(name).section([]), Section), "it does not return a Section")


@_check("analyses")
def _analysis(name: str, params: Params) -> None:
    """It says in a section that there is nothing to see where there are no results."""
    from adbench.reports.analyses import Question
    from adbench.reports.formats import Section

    found = table("analyses").get(name)([], Question(("layer",), ("aupro",)))
    _expect(isinstance(found, Section), "it does not return a Section")


@_check("executors")
def _resources(name: str, params: Params) -> None:
    """It takes resources that exist."""
    from adbench.sweep.executors import Resources

    unknown = set(table("executors").get(name).takes) - {field.name for field in fields(Resources)}
    _expect(not unknown, f"it takes unknown resources: {', '.join(sorted(unknown))}")


# ---- the command -------------------------------------------------------------------------------------------------------


def run(source: str, params: Params) -> Iterator[tuple[str, str | None]]:
    """Import a module or a file, and yield (rule, None or what is wrong) for each check of each item that it registers.

    Raises UsageError if it cannot be imported or registers nothing.
    """
    before = {kind: set(table(kind).items()) for kind in TABLES}
    try:
        plugins.import_file(Path(source).absolute()) if source.endswith(".py") else import_module(source)
    except Exception as error:
        raise UsageError(f"{source} cannot be imported ({type(error).__name__}: {error}); name a module or a .py file") from error
    new = {kind: sorted(set(table(kind).items()) - before[kind]) for kind in TABLES}
    if not any(new.values()):
        raise UsageError(f"{source} registers nothing new; call the 'register' of its kind, e.g. of adbench.detectors")
    for check in CHECKS:
        for name in new[check.kind]:
            yield f"{check.kind} {name}: {check.rule}", _failure(check, name, params if check.kind == "detectors" else {})


def _failure(check: Check, name: str, params: Params) -> str | None:
    try:
        check.run(name, params)
    except Exception as error:  # whatever the code of somebody else raises
        return str(error) if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the outcome of each check; return 0 if all passed, 1 if some failed, 2 if a module cannot be tested."""
    from adbench.cli.options import parameters

    parser = argparse.ArgumentParser(prog="python -m adbench.testing", description="Test what a plug-in registers.")
    parser.add_argument("modules", nargs="+", metavar="MODULE", help="an importable module, or a Python file")
    parser.add_argument("--param", action="append", metavar="NAME=VALUE", help="parameter of its detectors, e.g. epochs=5")
    chosen, failed = parser.parse_args(arguments), 0
    plugins.load_none()  # or the modules to test might be imported already, and register nothing new
    try:
        outcomes = (outcome for module in chosen.modules for outcome in run(module, parameters(chosen.param)))
        for rule, wrong in outcomes:
            sys.stdout.write(f"{'FAILED' if wrong else 'ok'}  {rule}{f': {wrong}' if wrong else ''}\n")
            failed += wrong is not None
    except AdbenchError as error:
        sys.stderr.write(f"adbench: error: {error}\n")
        return error.exit_code
    return 1 if failed else 0


if __name__ == "__main__":
    from adbench import testing  # not this module, whose name is __main__: its checks must be there once

    raise SystemExit(testing.main())
