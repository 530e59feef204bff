"""The command line: each command parses, calls one core function, and prints. No torch before a command needs it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from adbench import __version__
from adbench.cli import console
from adbench.cli import options as o
from adbench.cli import predict as cli_predict
from adbench.cli import rf as cli_rf
from adbench.cli import select as cli_select
from adbench.cli import sweep as cli_sweep
from adbench.cli import synth as cli_synth
from adbench.cli import tools as cli_tools
from adbench.cli.stopping import stoppable
from adbench.core.errors import AdbenchError

# typer's parser is click, its own copy in newer releases: the base of its errors is found through one that typer exports
ParserError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
app = typer.Typer(
    name="adbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Which pretrained backbone, layer, input size, pretraining and detector to use for visual anomaly detection.",
    epilog="Exit codes: 0 done; 1 some jobs failed or were skipped; 2 wrong usage; 3 data or weights missing or unreadable.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.answer(f"adbench {__version__}")
        raise typer.Exit


@app.callback()
def common(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print answers, warnings and errors only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also print what went on inside a failed job.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options for every command; they may stand before or behind its name."""
    console.set_up(quiet, verbose)


@app.command()
def extract(
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE")],
    layers: Annotated[list[str], typer.Argument(metavar="LAYER...")],
    data: o.Data = None,
    category: o.Categories = None,
    weights: o.WeightsName = "imagenet",
    image_size: o.ImageSize = 256,
    dtype: o.Dtype = "float16",
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Extract layers of all images into the cache, in one forward pass per image."""
    from adbench.sweep.pipeline import extract_layers

    with console.progress() as (on_step, _):
        workspace = o.workspace(o.data_folder(data), cache, category, device, offline, on_step)
        found = extract_layers(workspace, backbone, layers, weights, image_size, o.feature_dtype(dtype))
    if json:
        return console.answer_json(found)
    rows = [
        [e["category"], e["split"], e["layer"], "x".join(map(str, e["shape"])), e["dtype"], "cached" if e["cached"] else "new"]
        for e in found["entries"]
    ]
    console.answer(console.table(["category", "split", "layer", "shape", "dtype", ""], rows))
    if found["images_per_second"]:
        console.say(f"{found['images_per_second']:.1f} images per second")


@app.command()
def train(
    detector: Annotated[str, typer.Argument(metavar="DETECTOR")],
    backbone: Annotated[str, typer.Argument(metavar="BACKBONE")],
    layer: Annotated[str, typer.Argument(metavar="LAYER[+LAYER]")],
    model: Annotated[Path, typer.Option("--model", metavar="FILE.safetensors", help="Where the fitted detector goes.")],
    data: o.Data = None,
    category: o.Categories = None,
    weights: o.WeightsName = "imagenet",
    image_size: o.ImageSize = 256,
    eval_size: o.EvalSize = "256",
    param: o.Param = None,
    fpr: Annotated[
        float | None, typer.Option("--fpr", metavar="F", help="Hold out good images, set a threshold for this rate.")
    ] = None,
    holdout: Annotated[
        float | None, typer.Option("--holdout", metavar="SHARE", help="Share of good images held out [0.25].")
    ] = None,
    seed: o.Seed = 0,
    dtype: o.Dtype = "float16",
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Fit a detector to a category's good images and save it."""
    from adbench.models.calibration import HoldOut
    from adbench.models.training import Choices, train_model

    with console.progress() as (on_step, _):
        workspace = o.workspace(o.data_folder(data), cache, category, device, offline, on_step)
        choices = Choices(
            detector, backbone, layer, weights, image_size, o.evaluation_size(eval_size), o.feature_dtype(dtype), seed=seed
        )
        trained = train_model(workspace, choices, o.parameters(param), model, HoldOut.wanted(fpr, holdout))
    if json:
        return console.answer_json(trained)
    facts = ", ".join(f"{name} {value}" for name, value in trained["details"].items() if isinstance(value, (int, float, str)))
    console.answer(f"{model}: {facts}; fitted in {trained['cost']['fit_s']:.1f} s, {trained['cost']['state_mb']:.1f} MB")
    if trained["threshold"]:
        console.answer(f"{model}: {cli_predict.told(trained['threshold'])}")


@app.command("eval")
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="File written by 'adbench train'.")],
    data: o.Data = None,
    category: o.Categories = None,
    heatmaps: Annotated[
        Path | None, typer.Option("--heatmaps", metavar="DIR", help="Draw image, mask and map of each image here.")
    ] = None,
    pro_limit: Annotated[
        float | None, typer.Option("--pro-limit", metavar="F", help="AU-PRO up to this false-positive rate [0.3].")
    ] = None,
    cache: o.Cache = None,
    device: o.Device = "auto",
    offline: o.Offline = False,
    json: o.Json = False,
) -> None:
    """Measure a saved detector on a category's test images."""
    from adbench.models.training import evaluate_model

    with console.progress() as (on_step, _):
        workspace = o.workspace(o.data_folder(data), cache, category, device, offline, on_step)
        result = evaluate_model(workspace, model, heatmaps, pro_limit)
    if json:
        return console.answer_json(result.record())
    rows = [[name, "-" if value is None else f"{value:.4f}"] for name, value in result.metrics.items()]
    console.answer(console.table([result.job.category, ""], rows))
    if result.reason:
        console.say(f"note: {result.reason}")


cli_predict.add_to(app)


cli_sweep.add_to(app)


cli_select.add_to(app)


cli_rf.add_to(app)


cli_synth.add_to(app)


cli_tools.add_to(app)


def _front(arguments: list[str]) -> list[str]:
    """Return the arguments with the options for every command in front, where the parser wants them."""
    common_options = ("--quiet", "-q", "--verbose", "-v")
    front = [argument for argument in arguments if argument in common_options]
    return front + [argument for argument in arguments if argument not in common_options]


def _with_help(error: Any) -> str:
    """Return what the parser refuses, with the command whose help tells more."""
    message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    return f"{message}{'' if message.endswith('?') else '.'} See '{context.command_path if context else 'adbench'} --help'."


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every mistake of a user ends in one line and the documented exit code."""
    # read when torch is imported: threads that wait by spinning make a busy machine up to ten times slower
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console.set_up()
    given = sys.argv[1:] if arguments is None else arguments
    run: Callable[..., Any] = typer.main.get_command(app)
    try:
        typed = shlex.join(["adbench", *given])  # for results, which tell how to make them again
        with stoppable(typed):
            code = run(args=_front(given), prog_name="adbench", standalone_mode=False, obj=typed)
    except AdbenchError as error:
        console.error(str(error))
        code = error.exit_code
    except ParserError as error:
        console.error(_with_help(error))
        code = 2
    raise SystemExit(code or 0)
