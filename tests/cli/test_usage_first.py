"""Wrong values of options are found before any data is looked for: here there is none."""

from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run, one_line

from adbench.models.files import load_model, save_model

NETWORK = "efficientnet_lite0 blocks.1.1.add"
WRONG = {
    f"extract {NETWORK} --dtype float23": "unknown dtype 'float23'; did you mean 'float32'?",
    f"extract {NETWORK} --device cuda:7": "device 'cuda:7' is not on this machine; choose from: auto, cpu",
    f"extract {NETWORK} --weights imagenett": "efficientnet_lite0 has no weights 'imagenett'; ",
    "extract efficientnet_lite0 blocks.99": "unknown layer 'blocks.99' of efficientnet_lite0; the "
    "first is 'blocks.0', the last 'blocks.6'",
    "extract efficientnet_lite0 blocks.2.9.add": "unknown layer 'blocks.2.9.add' of efficientnet_lite0; did you mean 'blocks.2.1",
    f"extract {NETWORK} --image-size 224x": "--image-size '224x': write pixels from 32 to 4096, height x width such as 512x1240",
    f"extract {NETWORK} --image-size 5000x5000": "--image-size '5000x5000': write pixels from 32 to 4096",
    f"extract {NETWORK} --cache ~nosuchuser/x": "path '~nosuchuser/x': there is no such user; write the home folder out",
    f"train patchcor {NETWORK} --model m.safetensors": "unknown detector 'patchcor'; did you mean 'patchcore'?",
    f"train patchcore {NETWORK} --model m.safetensors --param coreset_max=1.5": (
        "patchcore: coreset_max=1.5 must be a whole number, like its default 0"
    ),
    f"train patchcore {NETWORK} --model m.safetensors --param coreset_max=null": (
        "patchcore: coreset_max=null must be a whole number, like its default 0"
    ),
    f"train patchcore {NETWORK} --model m.safetensors --eval-size big": "--eval-size 'big': write pixels",
    f"train patchcore {NETWORK} --model m.safetensors --shots 0": (
        "--shots '0': write a number of good images from 1 on, or 'all'"
    ),
    f"train patchcore {NETWORK} --model m.safetensors --rotations -1": (
        "Invalid value for '--rotations': '-1' is not a whole number from 0 to 360. See 'adbench train --help'."
    ),
    "select --shots 0": "select: shots: expected a number of good images from 1 on, or 'all', not the number 0",
    f"train patchcore {NETWORK} --model m.safetensors --holdout 2": "--holdout needs a false-positive rate",
    f"train patchcore {NETWORK} --model m.safetensors --seed 1{'0' * 60}": (
        f"Invalid value for '--seed': '1{'0' * 39}' is not a whole number from 0 to 2147483647. See 'adbench train --help'."
    ),
    f"train patchcore {NETWORK} --model m.pt": (
        "--model m.pt: models are written as safetensors; write --model m.safetensors"
    ),
    "eval none.safetensors --pro-limit 7": "pro_limit 7.0 is outside (0, 1]; the usual value is 0.3",
    "threshold none.safetensors nowhere --fpr 2": "--fpr 2: the false-positive rate",
    "predict none.safetensors nowhere --out o --overlays al": "unknown overlays 'al'; did you mean 'all'?",
    "predict none.safetensors nowhere --out o --device tpu": "device 'tpu' is not on this machine",
    "sweep --preset quickstart --set layers=nosuch": "unknown layer 'nosuch' of efficientnet_lite0; ",
    "sweep --preset quickstart --set detectors=patchcor": "unknown detector 'patchcor'; did you mean 'patchcore'?",
    "sweep --preset quickstart --cache-limit x": "--cache-limit 'x': write a size, e.g. 50GB or 500MB, or a number of bytes",
    "report empty --format markdwn": "unknown format 'markdwn'; did you mean 'markdown'?",
    "report empty --metric auroc": "unknown metric 'auroc'; did you mean 'image_auroc' or 'pixel_auroc'?",
    "report empty empty --compare --metric auroc": "unknown metric 'auroc'; did you mean 'image_auroc' or 'pixel_auroc'?",
    "report empty --study colors": "unknown study 'colors'; choose from: ",
    "report empty --show costs": "unknown analysis 'costs'; did you mean 'cost'?",
    "report empty --rows lair": "unknown row key 'lair'; did you mean 'layer'?",
    "report empty --columns lair": "unknown column key 'lair'; did you mean 'layer'?",
    "report empty --max-latency -5": "Invalid value for '--max-latency': '-5' is not a number from 0 on. See 'adbench report --h",
    "report empty --max-latency nan": "Invalid value for '--max-latency': 'nan' is not a number from 0 on. See 'adbench",
    "report empty --max-memory -5": "--max-memory '-5': write megabytes, e.g. 500, or a size, e.g. 2GB",
    "select --detectors patchcor": "unknown detector 'patchcor'; did you mean 'patchcore'?",
    "select --kinds strain --layers blocks.1.1.add": "unknown defect 'strain'; did you mean 'stain'?",
    "select --holdout 2 --layers blocks.1.1.add": "--holdout 2: the share of good images held out",
    "select --format markdwn": "unknown format 'markdwn'; did you mean 'markdown'?",
    "synth --out o --sizes 0.5,0.1": "--sizes '0.5,0.1': the first number must not be above the second; write --sizes 0.1,0.5",
    "synth --out o --contrasts 0.5,0.1": "--contrasts '0.5,0.1': the first number must not be above the second; ",
    "synth --out o --kinds strain": "unknown defect 'strain'; did you mean 'stain'?",
    "synth --out o --holdout 2": "--holdout 2: the share of good images held out",
    "synth --out o --min-size-px nan": "Invalid value for '--min-size-px': 'nan' is not a number. See 'adbench synth --help'.",
    "eval-maps --maps nowhere --eval-size big": "--eval-size 'big': write pixels",
    "eval-maps --maps nowhere --pro-limit 7": "pro_limit 7.0 is outside (0, 1]; the usual value is 0.3",
    "weights import nosuch nowhere": "unknown pretraining 'nosuch'; choose from: ",
    "cache prune --max-size x": "--max-size 'x': write a size, e.g. 50GB or 500MB, or a number of bytes",
}  # fmt: skip


@pytest.mark.parametrize("command", WRONG)
def test_wrong_usage_comes_first(command: str, run: Run) -> None:
    Path("empty").mkdir()
    assert one_line(run(*command.split()), 2).startswith(WRONG[command])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("eval none.safetensors", "model none.safetensors: no such file; make it with 'adbench train'"),
        ("predict none.safetensors nowhere --out o", "model none.safetensors: no such file; make it with 'adbench train'"),
        ("eval folder", "model folder: a folder, not a file; name a model file, or train it again"),
        (f"train patchcore {NETWORK} --model FILE/m.safetensors", "--model FILE: FILE is a file; name a folder"),
        ("report empty --figures FILE", "--figures FILE: FILE is a file; name a folder"),
        ("synth --out o --contact-sheet FILE/a.png", "--contact-sheet FILE: FILE is a file; name a folder"),
        (f"extract {NETWORK} --weights ~/own.pth", "weights 'HOME/own.pth': no such file; "),
    ],
)
def test_then_come_files(command: str, message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("FILE").touch()
    for folder in ("folder", "empty"):
        Path(folder).mkdir()
    assert one_line(run(*command.split()), 3).startswith(message.replace("HOME", str(tmp_path / "home")))


def test_heat_maps_go_into_a_folder(run: Run, model: Path, parts: Path) -> None:
    Path("FILE").touch()
    command = ("eval", model, "--data", parts, "--category", "alpha", "--heatmaps", "FILE")
    assert one_line(run(*command), 3) == "--heatmaps FILE: FILE is a file; name a folder"


def test_a_tilde_in_a_specification_is_the_home_folder(
    run: Run, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(parts.parent))
    Path("s.yaml").write_text(
        f"data: ~/{parts.name}\ncategories: [alpha]\nlayers: [blocks.1.1.add]\nimage_sizes: [64]\n"
        "weights: [~/own.pth, imagenet]\n"
    )
    done = run("sweep", "--spec", "s.yaml", "--out", "~/none", "--dry-run", "--json")
    assert (done.json["planned"], done.json["skipped"]) == (2, 1)
    done = run("sweep", "--spec", "s.yaml", "--out", "out", "--set", "detectors=mahalanobis")
    assert f"{parts.parent}/own.pth px" not in done.err
    assert f"weights '{parts.parent}/own.pth': no such file" in done.err


def test_a_model_of_a_detector_that_is_not_installed_says_so(run: Run, model: Path, parts: Path) -> None:
    known = load_model(model)
    save_model(Path("other.safetensors"), replace(known, job=replace(known.job, detector="glowworm")))
    message = one_line(run("eval", "other.safetensors", "--data", parts), 3)
    assert message.startswith(
        "model other.safetensors: made with a detector that is not installed here (unknown detector 'glowworm'; "
    )
    assert message.endswith("); install its plug-in, or train again")
