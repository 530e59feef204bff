"""Every mistake of a user: one line that says what, where, which value and what to do; the documented exit code."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Run, make_category, one_line
from PIL import Image

from adbench import __version__

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
        "patchcore: coreset_fraction=lots must be of the kind float, like its default 0.1",
    ),
    "range": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_fraction=0"),
        "patchcore: coreset_fraction=0 must be above 0 and at most 1",
    ),
    "no value": (
        train("--data", "DATA", "--category", "alpha", "--param", "coreset_fraction"),
        "--param 'coreset_fraction': write name=value, e.g. --param coreset_fraction=0.01",
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
    "size": (("cache", "prune", "--max-size", "many"), "'many' is no size; write e.g. 50GB, 500MB or a number of bytes"),
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


def test_no_data_at_all(run: Run) -> None:
    assert one_line(run(*extract()), 3) == ("no data: ./data is not there; give --data DIR, set ADBENCH_DATA, or try --data demo")


def test_a_missing_folder(run: Run) -> None:
    assert one_line(run(*extract("--data", "nowhere")), 3).startswith("no data in nowhere: no such folder; give --data")


def test_an_empty_folder(run: Run, tmp_path: Path) -> None:
    assert "has train/good" in one_line(run(*extract("--data", tmp_path)), 3)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    return make_category(tmp_path / "data" / "part", 7)


def test_all_damaged_images_are_named_before_any_work(run: Run, damaged: Path) -> None:
    broken, empty = damaged / "train" / "good" / "000.png", damaged / "test" / "spot" / "001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    empty.write_bytes(b"")
    message = one_line(run(*extract("--data", damaged.parent, "--cache", "c")), 3)
    assert message.startswith("2 problems in the data: ")
    assert str(broken) in message
    assert str(empty) in message
    assert not Path("c/features").exists()


def test_a_mask_of_another_size_is_named(run: Run, damaged: Path) -> None:
    mask = damaged / "ground_truth" / "spot" / "000_mask.png"
    Image.open(mask).resize((32, 32)).save(mask)
    assert one_line(run(*extract("--data", damaged.parent)), 3) == (
        f"mask {mask} has 32 x 32 pixels, its image {damaged}/test/spot/000.png has 64 x 64; make them the same"
    )


def test_a_model_that_is_none(run: Run, parts: Path, tmp_path: Path) -> None:
    missing = run("eval", "none.safetensors", "--data", parts)
    assert one_line(missing, 3) == "model none.safetensors: no such file; make it with 'adbench train'"
    (tmp_path / "m.safetensors").write_bytes(b"12345678" * 9)
    damaged = one_line(run("eval", "m.safetensors", "--data", parts), 3)
    assert damaged.startswith("model m.safetensors: damaged or not written by 'adbench train'")


def test_a_checkpoint_that_does_not_fit(run: Run, parts: Path, tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "w.pth")
    message = one_line(run(*extract("--data", parts, "--weights", "w.pth", backbone="resnet18", layer="layer1")), 3)
    assert message.startswith("weights w.pth do not fit resnet18: keys 102 missing (bn1.bias, bn1.running_mean, ")


def test_weights_that_cannot_be_had(run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    message = one_line(run(*extract("--data", parts, "--offline", backbone="resnet18", layer="layer1")), 3)
    assert f"{tmp_path}/home/hub/checkpoints/resnet18-f37072fd.pth is not there; get it from https://" in message


def test_weights_of_a_backbone_stand_in_for_those_of_the_sweep(run: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(
        "backbones: [{name: resnet18, layers: [layer1], weights: [random]},"
        " {name: efficientnet_lite0, layers: [blocks.1.1.add]}]\n"
        "weights: [imagenet, random]\nimage_sizes: [64]\n"
    )
    planned = run("sweep", "--spec", "spec.yaml", "--data", parts, "--dry-run", "--json").json
    assert (planned["planned"], planned["groups"], planned["skipped"]) == (6, 6, 0)


def test_missing_weights_skip_their_jobs_and_the_others_run(
    run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "s.yaml").write_text("backbones: [resnet18]\nlayers: [layer1]\nweights: [random, imagenet]\nimage_sizes: [64]\n")
    done = run("sweep", "--spec", "s.yaml", "--data", parts, "--category", "alpha", "--offline", "--json")
    counts = {"planned": 2, "done": 1, "cached": 0, "skipped": 1, "failed": 0, "out": "results"}
    assert (done.code, done.json) == (1, counts)
    assert "skipped: weights 'imagenet' of resnet18" in done.err
    report = run("report", "--format", "markdown")
    assert (report.code, "resnet18-f37072fd.pth is not there" in report.out) == (0, True)


def test_a_training_that_diverges_is_a_failed_job_with_its_reason(run: Run, parts: Path) -> None:
    wild = "{name: fastflow, params: {epochs: 1, learning_rate: 1.0e+6}}"
    Path("s.yaml").write_text(f"layers: [{LAYER}]\nimage_sizes: [64]\ncategories: [alpha]\ndetectors: [{wild}, mahalanobis]\n")
    done = run("sweep", "--spec", "s.yaml", "--data", parts, "--json")
    assert (done.code, done.json["done"], done.json["failed"]) == (1, 1, 1)
    record = next(r for r in run("report", "--json").json if r["detector"] == "fastflow")
    assert record["status"] == "failed"
    assert record["reason"].startswith("training diverged in epoch 1: loss ")
    assert record["reason"].endswith("at the start; lower learning_rate=1e+06")


@pytest.mark.parametrize("option", ["--out", "--cache"])
def test_a_folder_that_cannot_be_written(option: str, run: Run, parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("sweep", "--preset", "quickstart", "--data", parts, option, tmp_path / "file")
    assert str(tmp_path / "file") in one_line(done, 3)


def test_a_report_without_results(run: Run) -> None:
    assert "no results in" in one_line(run("report", "nothing"), 3)


def test_a_damaged_cache_entry_is_made_again(run: Run, parts: Path) -> None:
    command = extract("--data", parts, "--category", "alpha", "--cache", "own", "--json")
    path = Path(run(*command).json["entries"][0]["path"])
    os.truncate(path, 500)
    again = run(*command)
    assert (again.code, [e["cached"] for e in again.json["entries"]]) == (0, [False, True])
    assert again.err.startswith(f"adbench: warning: cache entry {path.name} is damaged (")


def test_extract_answers_with_paths_and_shapes(run: Run, parts: Path) -> None:
    found = run(*extract("--data", parts, "--category", "alpha", "--json")).json
    assert [(e["category"], e["split"], e["layer"], e["shape"], e["dtype"]) for e in found["entries"]] == [
        ("alpha", "train", LAYER, [5, 40, 8, 8], "float16"), ("alpha", "test", LAYER, [6, 40, 8, 8], "float16"),
    ]  # fmt: skip
    assert all(Path(e["path"]).is_file() for e in found["entries"])


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


def test_list_layers(run: Run) -> None:
    found = run("list", "layers", "wide_resnet50", "--json").json
    assert found["backbone"] == "wide_resnet50_2"
    assert found["layers"][2] == {"layer": "layer3.5.relu_2", "channels": 1024, "stride": 16}
    assert len(run("list", "layers", "wide_resnet50", "--all", "--json").json["layers"]) == 172


@pytest.mark.parametrize(
    ("kind", "name"),
    [("backbones", "timm/resnet50"), ("detectors", "patchcore"), ("datasets", "visa"), ("presets", "quickstart"),
     ("metrics", "aupro"), ("formats", "latex"), ("executors", "local"), ("weights", "random")],
)  # fmt: skip
def test_list_names(kind: str, name: str, run: Run) -> None:
    assert name in run("list", kind).out.split("\n")
    assert name in run("list", kind, "--json").json[kind]


def test_list_tells_a_detectors_parameters(run: Run) -> None:
    found = run("list", "detectors", "FastFlow", "--json").json
    assert found["detector"] == "fastflow"
    assert found["parameters"]["epochs"] == 500
    assert all(name in found["about"] for name in ("hidden_ratio", "min_steps"))  # its own and inherited ones
    assert run("list", "detectors", "fastflow").out.split("\n")[2].split() == ["epochs", "500"]
    unknown = run("list", "detectors", "fastflo")
    assert (unknown.code, unknown.err) == (2, "adbench: error: unknown detector 'fastflo'; did you mean 'fastflow'?\n")


def test_weights_of_a_backbone(run: Run) -> None:
    found = run("list", "weights", "resnet50").out.split()
    assert {"imagenet", "random", "IMAGENET1K_V1", "IMAGENET1K_V2", "moco", "supervised"} <= set(found)


def test_cache_list_and_prune(run: Run, parts: Path) -> None:
    run(*extract("--data", parts, "--cache", "own"))
    listed = run("cache", "list", "--cache", "own", "--json").json
    assert len(listed["entries"]) == 4
    pruned = run("cache", "prune", "--max-size", "0", "--cache", "own", "--json").json
    assert pruned == {"deleted": 4, "bytes": listed["bytes"]}
    assert run("cache", "list", "--cache", "own", "--json").json == {"entries": [], "bytes": 0}
