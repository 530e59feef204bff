"""Every mistake of a user: one line that says what, where, which value and what to do, and the documented exit code."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Run, loaded_by, one_line

from adbench import __version__
from adbench.cli.app import COMMANDS, app

LAYER = "blocks.2.1.add"


SMALL = ("--image-size", 64)


def extract(*more: Any, backbone: str = "efficientnet_lite0", layer: str = LAYER) -> tuple[Any, ...]:
    return ("extract", backbone, layer, *SMALL, *more)


def train(*more: Any, detector: str = "patchcore") -> tuple[Any, ...]:
    return ("train", detector, "efficientnet_lite0", LAYER, *SMALL, "--model", "m.safetensors", *more)


NAMES = {
    "backbone": (extract("--data", "DATA", backbone="resnet5O"), "unknown backbone 'resnet5O'; did you mean 'resnet50'?"),
    "layer": (
        extract("--data", "DATA", layer="blocks.2.1.ad"),
        "unknown layer 'blocks.2.1.ad' of efficientnet_lite0; did you mean 'blocks.2.1.add'?",
    ),
    "weights": (
        extract("--data", "DATA", "--weights", "imagenett"),
        "efficientnet_lite0 has no weights 'imagenett'; choose from: imagenet, random, or a checkpoint's path",
    ),
    "dtype": (extract("--data", "DATA", "--dtype", "float23"), "unknown dtype 'float23'; did you mean 'float32'?"),
    "category": (extract("--data", "DATA", "--category", "alfa"), "unknown category 'alfa' in DATA; did you mean 'alpha'?"),
    "device": (extract("--data", "DATA", "--device", "cuda:7"), "device 'cuda:7' is not on this machine; choose from: auto, cpu"),
    "detector": (
        train("--data", "DATA", "--category", "alpha", detector="patchcor"),
        "unknown detector 'patchcor'; did you mean 'patchcore'?",
    ),
    "parameter": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_fractoin=1"),
        "unknown parameter 'coreset_fractoin' of patchcore; did you mean 'coreset_fraction'?",
    ),
    "value": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_fraction=lots"),
        "patchcore: coreset_fraction=lots must be a number, like its default 0.1",
    ),
    "not finite": (
        train("--data", "DATA", "--category", "alpha", "--param", "learning_rate=nan", detector="fastflow"),
        "fastflow: learning_rate=nan must be finite, like its default 0.001",
    ),
    "range": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_fraction=0"),
        "patchcore: coreset_fraction=0 must be above 0 and at most 1",
    ),
    "no value": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_fraction"),
        "--param 'coreset_fraction': write name=value, e.g. --param coreset_fraction=0.01",
    ),
    "value twice": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_max=1", "--param", "coreset_max=2"),
        "--param 'coreset_max=2': coreset_max is given twice; keep one",
    ),
    "one category": (train("--data", "DATA"), "--category is missing: 'DATA' has alpha, beta"),
    "eval size": (
        train("--data", "DATA", "--category", "alpha", "--eval-size", "big"),
        "--eval-size 'big': write pixels from 32 to 4096, or 'native'",
    ),
    "preset": (("sweep", "--preset", "quikstart"), "unknown preset 'quikstart'; did you mean 'quickstart'?"),
    "no study": (("sweep",), "sweep: give either --preset NAME or --spec FILE; 'adbench list presets' shows the names"),
    "key": (
        ("sweep", "--preset", "quickstart", "--set", "layer=x"),
        "unknown key 'layer' in preset 'quickstart'; did you mean 'layers'?",
    ),
    "executor": (
        ("sweep", "--preset", "quickstart", "--data", "DATA", "--executor", "locl"),
        "unknown executor 'locl'; did you mean 'local'?",
    ),
    "list": (("list", "backbone"), "unknown list 'backbone'; did you mean 'backbones'?"),
    "size": (
        ("cache", "prune", "--max-size", "many"),
        "--max-size 'many': write a size, e.g. 50GB or 500MB, or a number of bytes",
    ),
    "command": (("swep",), "No such command 'swep'. Did you mean 'sweep'? See 'adbench --help'."),
}


@pytest.mark.parametrize("mistake", NAMES)
def test_wrong_usage(mistake: str, run: Run, parts: Path) -> None:
    arguments, message = NAMES[mistake]
    given = [str(parts) if argument == "DATA" else argument for argument in arguments]
    assert one_line(run(*given), 2) == message.replace("DATA", str(parts))


@pytest.mark.parametrize(
    ("arguments", "start"),
    [(("sweep", "--pre", "x"), "No such option: --pre"), (("sweep", "--jobs", "0"), "Invalid value for '--jobs': "),
     (("train", "patchcore"), "Missing "), (("extract",), "Missing argument 'BACKBONE'")],
)  # fmt: skip
def test_what_the_parser_refuses(arguments: tuple[str, ...], start: str, run: Run) -> None:
    message = one_line(run(*arguments), 2)
    assert message.startswith(start)
    assert message.endswith(f". See 'adbench {arguments[0]} --help'.")


def test_data_and_results_come_from_the_environment(run: Run, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADBENCH_DATA", str(parts))
    monkeypatch.setenv("ADBENCH_RESULTS", "mine")
    Path("s.yaml").write_text(f"layers: [{LAYER}]\nimage_sizes: [64]\ncategories: [alpha]\n")
    assert run("sweep", "--spec", "s.yaml", "--json").json["out"] == "mine"
    assert len(run("report", "--json").json) == 1


@pytest.mark.parametrize("where", ["before", "behind"])
def test_quiet_may_stand_on_either_side(where: str, run: Run, parts: Path) -> None:
    command = extract("--data", parts)
    answer = run("--quiet", *command) if where == "before" else run(*command, "--quiet")
    assert (answer.code, answer.err) == (0, "")


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"adbench {__version__}\n", "")


def test_help_lists_every_command_and_exit_code(run: Run) -> None:
    text = run("--help").out
    assert all(f"\n  {path.split()[0]} " in text for path in COMMANDS)
    assert re.findall(r"^    (\d+)  ", text, re.MULTILINE) == ["0", "1", "2", "3", "4", "130", "143"]


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_argument_and_option_has_help(path: str) -> None:
    command: Any = typer.main.get_command(app)
    for name in path.split():
        command = command.commands[name]
    assert command.help
    assert [p.name for p in command.params if not p.help] == []


def test_starting_imports_only_what_is_needed() -> None:
    heavy = {"torch", "matplotlib", "timm", "sklearn", "numba", "scipy", "rich.progress"}
    assert not (heavy | {"numpy"}) & loaded_by(["--help"])
    assert not heavy & loaded_by(["list", "presets"])


def test_a_worker_process_imports_no_command() -> None:
    code = "import sys, adbench.cli.worker; print(*(name for name in sys.modules if name.startswith(('adbench.cli.', 'typer'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"adbench.cli.worker", "adbench.cli.console"}


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_a_tilde_is_the_home_folder(option: str, run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("synth", "--data", parts, "--category", "alpha", "--out", "made", "--count", 1, f"{option}=~/own").code == 0
    assert (tmp_path / "home" / "own").is_dir()


def test_common_options_are_described() -> None:
    assert all(p.help for p in typer.main.get_command(app).params)
