"""Every option of every command changes something: the answer, the files that are written, or an error that the command finds.

A new option without a case here fails. Errors of the option parser itself do not count as a change.
"""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

import numpy as np
import pytest
import typer
from conftest import Answer, Run, make_category

from adbench.cli.app import app
from adbench.models.files import load_model, save_model
from adbench.sweep.results import ResultStore
from adbench.types import Job, Result

LAYER = "blocks.1.1.add"
NETWORK = f"efficientnet_lite0 {LAYER}"
MISSING = "is not there; get it from"  # without --offline: "is not there and cannot be downloaded"
BASE = {  # what each option is added to
    "demo": "--out try --category nut --train 1 --good 1 --defective 1 --new 1 --json",
    "extract": f"{NETWORK} --data PARTS --category alpha --image-size 64 --json",
    "train": f"mahalanobis {NETWORK} --data PARTS --category alpha --image-size 64 --model m.safetensors --json",
    "eval": "MODEL --data PARTS --json",
    "threshold": "MODEL PARTS/alpha/test/good --fpr 0.4 --json",
    "predict": "MODEL PARTS/alpha/test/good --out out --json",
    "submit": "MODEL --data PRIVATE --out sent --json",
    "sweep": "--spec spec.yaml --data PARTS --out out --json",
    "report": "RESULTS --json",
    "select": f"--data NUTS --category nut --layers {LAYER} --image-sizes 64 --detectors mahalanobis --defects 10 --json",
    "rf": f"{NETWORK} --weights random --input-size 64 --json",
    "synth": "--data PARTS --category alpha --out made --count 2 --force --json",
    "list": "layers efficientnet_lite0 --json",
    "eval-maps": "--maps maps --data PARTS --category alpha --json",
    "cache list": "--cache full --json",
    "cache prune": "--max-size 0 --cache full --json",
    "weights list": "--json",
    "weights check": "efficientnet_lite0 imagenet --json",
    "weights path": "moco --json",
    "weights import": "moco FILE --json",
}


class Case(NamedTuple):
    """What is added to the base and what then appears, in the output or as a written file; "" is any other output."""

    added: str
    appears: str = ""
    both: str = ""  # added to both runs


DATA = {
    "--data": Case("--data nowhere", "no data in nowhere: no such folder"),
    "--category": Case("--category beta", "takes one category, not 2"),
    "--cache": Case("--cache FILE", "cannot write FILE: "),
    "--device": Case("--device cuda:7", "device 'cuda:7' is not on this machine"),
}
MEMO = Case("--cache OTHER", "file other/backbones/")
OF_MODEL = {"--cache": MEMO, "--device": DATA["--device"], "--offline": Case("--offline", MISSING, "UNFETCHED")}
UNFETCHED = Case("--offline", MISSING, "--set backbones=[resnet18] --set layers=[layer1]")
LOCAL = "is not for --executor local"
CASES: dict[str, dict[str, Case]] = {
    "demo": {
        "--out": Case("--out other", "file other/parts/nut/train/good/000.png"),
        "--category": Case("--category metal --out other", "file other/parts/metal/"),
        "--train": Case("--train 2 --out other", "file other/parts/nut/train/good/001.png"),
        "--good": Case("--good 2 --out other", "file other/parts/nut/test/good/001.png"),
        "--defective": Case("--defective 2 --out other", "file other/parts/nut/test/rust/001.png"),
        "--new": Case("--new 2 --out other", "file other/new/nut/001_bent.png"),
        "--side": Case("--side 64 --out other", '"side": 64'),
    },
    "extract": DATA
    | {
        "--category": Case("--category beta", '"category": "beta"'),
        "--weights": Case("--weights nosuch", "has no weights 'nosuch'"),
        "--image-size": Case("--image-size native/2", "24, 8, 8"),
        "--tile": Case("--tile 200", "tile 200 is larger than the image, 64 x 64 px"),
        "--overlap": Case("--overlap 0.5", "--overlap 0.5 needs tiles; add e.g. --tile 256"),
        "--value-range": Case("--value-range 0,9", "value_range 0, 9: no image has more than 8 bits"),
        "--dtype": Case("--dtype float32", '"dtype": "float32"'),
        "--offline": Case("--offline", MISSING, "RESNET"),
    },
    "submit": DATA
    | OF_MODEL
    | {
        "--cache": DATA["--cache"],
        "--category": Case("--category beta", "unknown category 'beta'"),
        "--out": Case("--out other", "file other.tar.gz"),
        "--threshold": Case("--threshold sigma:9", '"rule": "sigma:9"'),
        "--metric": Case("--metric nosuch", "unknown metric 'nosuch'"),
        "--row": Case("--row layer=layer2", "--row chooses a row of a results folder"),
        "--check": Case("--check", "or --check, not both"),
    },
    "train": DATA
    | {
        "--model": Case("--model other.safetensors", "file other.safetensors"),
        "--smoothing": Case("--smoothing 2", '"smoothing": 2.0'),
        "--crop": Case("--crop 0.5", '"crop": 0.5'),
        "--value-range": Case("--value-range 9,0", "value_range 9, 0: give the values of black and of white"),
        "--weights": Case("--weights nosuch", "has no weights 'nosuch'"),
        "--image-size": Case("--image-size 64x96", '"image_size": "64x96"'),
        "--tile": Case("--tile 32 --overlap 0", '"tile": 32'),
        "--overlap": Case("--overlap 0.9", "overlap 0.9 of tiles of 32 px", "--tile 32"),
        "--eval-size": Case("--eval-size 64", '"eval_size": 64'),
        "--param": Case("--param nosuch=1", "unknown parameter 'nosuch'"),
        "--fpr": Case("--fpr 0.4", '"threshold": {'),
        "--rule": Case("--rule median", "threshold rule 'median': write conformal:0.01"),
        "--calibrate-on": Case("--calibrate-on other", "--calibrate-on needs a false-positive rate"),
        "--holdout": Case("--holdout 0.5", "--holdout needs a false-positive rate"),
        "--cross-fit": Case("--cross-fit 2", "--cross-fit needs a false-positive rate"),
        "--from-selection": Case("--from-selection s.json", "--from-selection needs a false-positive rate"),
        "--seed": Case("--seed 3", '"seed": 3'),
        "--dtype": Case("--dtype float32", '"dtype": "float32"'),
        "--shots": Case("--shots 2", '"fitted_images": 2'),
        "--rotations": Case("--rotations 4", '"rotations": 4'),
        "--offline": Case("--offline", MISSING, "RESNET"),
    },
    "eval": DATA
    | OF_MODEL
    | {
        "--category": Case("--category beta", '"category": "beta"'),
        "--heatmaps": Case("--heatmaps pictures", "file pictures/"),
        "--pro-limit": Case("--pro-limit 0.1", '"pro_limit": 0.1'),
    },
    "threshold": OF_MODEL | {"--fpr": Case("--fpr 2", "--fpr 2: ")},
    "predict": OF_MODEL
    | {
        "--out": Case("--out other", "file other/predictions.csv"),
        "--overlays": Case("--overlays nosuch", "'nosuch'"),
        "--no-overlays": Case("", "file out/overlays", "--overlays all"),  # with it they are not drawn: the other way round
        "--fail-on-anomaly": Case("--fail-on-anomaly", "has no threshold to decide by", "NOTHRESHOLD"),
    },
    "sweep": DATA
    | {
        "--preset": Case("--preset quickstart", "give --preset or --spec, not both"),
        "--spec": Case("--spec nosuch.yaml", "spec nosuch.yaml: cannot be read"),
        "--set": Case("--set seeds=[0,1]", '"planned": 4'),
        "--category": Case("--category beta", '"planned": 1'),
        "--out": Case("--out other", "file other/"),
        "--limit": Case("--limit 1 --out other", '"done": 1'),
        "--dry-run": Case("--dry-run", '"forward_passes"'),
        "--keep-maps": Case("--keep-maps 1 --out other", "file other/maps"),
        "--cache-limit": Case("--cache-limit much", "'much': write a size"),
        "--status": Case("--status", '"waiting"'),
        "--executor": Case("--executor nosuch", "unknown executor 'nosuch'"),
        "--jobs": Case("--jobs 2", "--jobs is not for --executor slurm", "--executor slurm"),
        "--gpus": Case("--gpus 0,x", "--gpus '0,x': write each GPU's number once"),
        "--gpu-slots": Case("--gpu-slots 2", "--gpu-slots is not for --executor slurm", "--executor slurm"),
        "--partition": Case("--partition p", f"--partition {LOCAL}"),
        "--time": Case("--time 5", f"--time {LOCAL}"),
        "--gpus-per-task": Case("--gpus-per-task 1", f"--gpus-per-task {LOCAL}"),
        "--max-parallel": Case("--max-parallel 1", f"--max-parallel {LOCAL}"),
        "--no-wait": Case("--no-wait", f"--no-wait {LOCAL}"),
        "--ray-address": Case("--ray-address a", f"--ray-address {LOCAL}"),
        "--offline": UNFETCHED,
    },
    "report": {
        "--format": Case("--format latex", r"\begin{tabular}", "TEXT"),
        "--rows": Case("--rows nosuch", "'nosuch'"),
        "--columns": Case("--columns nosuch", "'nosuch'"),
        "--metric": Case("--metric nosuch", "'nosuch'"),
        "--metrics": Case("--metrics nosuch", "unknown metric 'nosuch'"),
        "--sort": Case("--sort nosuch", "unknown column 'nosuch'"),
        "--top": Case("--top 1", "the first 1 of 2 rows by image_auroc", "TEXT"),
        "--mm-per-px": Case("--mm-per-px 0.5", "0.5 mm per pixel", "TEXT --show defects"),
        "--study": Case("--study nosuch", "unknown study 'nosuch'"),
        "--show": Case("--show nosuch", "'nosuch'"),
        "--max-latency": Case("--max-latency 1", "no row is left: 2 slower than 1 ms per image"),
        "--max-memory": Case("--max-memory 1", "no row is left: 2 above 1 MB at the peak"),
        "--compare": Case("--compare", "--compare takes two results folders, not 1"),
        "--figures": Case("--figures figures", "no figures: these results answer no study", "--study none"),
    },
    "select": DATA
    | {
        "--reserve": Case("--reserve 0.8", "the share of good images kept for a threshold"),
        "--budget": Case("--budget 10", "--budget '10': write a time with its unit"),
        "--dry-run": Case("--dry-run", '"candidates": ['),
        "--top": Case("--top 1 --layers blocks.2.1.add,blocks.4.2.add,blocks.6.0.bn3", "2 more candidates", "TEXT"),
        "--backbones": Case("--backbones nosuch", "unknown backbone 'nosuch'"),
        "--weights": Case("--weights nosuch", "has no weights 'nosuch'"),
        "--layers": Case("--layers nosuch", "unknown layer 'nosuch'"),
        "--image-sizes": Case("--image-sizes x", "select: image_sizes: expected pixels"),
        "--tiles": Case("--tiles 8", "select: tile: expected pixels from 32 to 4096, or 0 for no tiles, not the number 8"),
        "--overlap": Case("--overlap 1.5", "select: overlap: expected a share of a tile from 0 to below 1, not the number 1.5"),
        "--detectors": Case("--detectors nosuch", "unknown detector 'nosuch'"),
        "--shots": Case("--shots 4", "--shots 4"),  # of the command that trains the best candidate
        "--preset": Case("--preset nosuch", "unknown preset 'nosuch'"),
        "--spec": Case("--spec nosuch.yaml", "spec nosuch.yaml: cannot be read"),
        "--set": Case("--set nosuch=1", "unknown key 'nosuch'"),
        "--kinds": Case("--kinds nosuch", "unknown defect 'nosuch'"),
        "--like": Case("--like nowhere", "masks nowhere: no such folder"),
        "--holdout": Case("--holdout 2", "--holdout 2: the share of good images held out"),
        "--max-latency": Case("--max-latency 0.0001", "select: no candidate can be ranked"),
        "--max-memory": Case("--max-memory 0.001", "select: no candidate can be ranked"),
        "--seed": Case("--seed 7", "--seed 7"),  # of the command that trains the best candidate
        "--format": Case("--format nosuch", "unknown format 'nosuch'", "TEXT"),
        "--offline": Case("--offline", MISSING, "--backbones resnet18 --layers layer1"),
    },
    "rf": {
        "--image-size": Case("--image-size 64", '"64":'),
        "--input-size": Case("--input-size 192", '"input_size": 192'),
        "--threshold": Case("--threshold 0.5", '"threshold": 0.5'),
        "--objective": Case("--objective mean", '"objective": "mean"'),
        "--margin": Case("--margin 20", '"margin": 20'),
        "--normalize": Case("--normalize nosuch", "nosuch"),
        "--image": Case("--image nosuch", "nosuch"),
        "--weights": Case("--weights nosuch", "has no weights 'nosuch'"),
        "--figure": Case("--figure figure.png", "file figure.png"),
        "--cache": MEMO,
        "--offline": Case("--offline", MISSING, "RESNET --weights imagenet"),
    },
    "synth": {
        "--data": DATA["--data"],
        "--category": DATA["--category"],
        "--cache": DATA["--cache"],
        "--out": Case("--out other", "file other/alpha"),
        "--count": Case("--count 3", '"cut_paste": 1'),
        "--kinds": Case("--kinds nosuch", "unknown defect 'nosuch'"),
        "--sizes": Case("--sizes 3", "--sizes '3': write two numbers"),
        "--like": Case("--like nowhere", "masks nowhere: no such folder"),
        "--min-size-px": Case("--min-size-px 1", "--min-size-px 1: give 2 or more"),
        "--contrasts": Case("--contrasts 3", "--contrasts '3': write two numbers"),
        "--holdout": Case("--holdout 2", "--holdout 2: the share of good images held out"),
        "--contact-sheet": Case("--contact-sheet sheet.png", "file sheet.png"),
        "--seed": Case("--seed 7", ""),
    },
    "list": {"--all": Case("--all", '"layer": "conv_stem"'), "--cache": MEMO},
    "eval-maps": {
        "--data": DATA["--data"],
        "--cache": DATA["--cache"],
        "--category": Case("--category beta", "beta/test/good/000.png"),
        "--maps": Case("--maps nowhere", "nowhere"),
        "--eval-size": Case("--eval-size 32", ""),
        "--pro-limit": Case("--pro-limit 0.1", ""),
        "--out": Case("--out recorded", "file recorded/"),
        "--name": Case("--name patchcore", "choose a name", "--out recorded"),
    },
    "cache list": {"--cache": Case("--cache other", '"bytes": 0')},
    "weights check": {"--offline": Case("--offline", MISSING, "RESNET")},
    "cache prune": {
        "--max-size": Case("--max-size much", "'much': write a size"),
        "--cache": Case("--cache other", '"deleted": 0'),
    },
}
ELSEWHERE = (
    {  # the test that shows it; here it would take seconds
        ("select", name): "selection/test_select.py" for name in ("--halving", "--pairs", "--defects", "--verify", "--out")
    }
    | {
        (command, "--verify-data"): "data/test_file_check.py"
        for command in ("extract", "train", "eval", "submit", "sweep", "select", "synth", "eval-maps")
    }
    | {("synth", "--force"): "cli/test_synth.py"}
)


def options(command: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (`command`, `--option`) for every option that the program has."""
    for name, child in getattr(command, "commands", {}).items():
        yield from options(child, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield from ((path, p.opts[0]) for p in command.params if p.param_type_name == "option" and p.name != "help")


BEFORE: dict[tuple[str, str, str], tuple[Answer, str]] = {}  # what the bases gave
OPTIONS = list(options(typer.main.get_command(app)))


def test_every_option_has_a_case() -> None:
    cases = {(command, name) for command, found in CASES.items() for name in found} | set(ELSEWHERE)
    assert cases == {(command, name) for command, name in OPTIONS if name != "--json"}
    for (_, name), file in ELSEWHERE.items():
        assert name.replace("--halving", "--no-halving") in (Path(__file__).parent.parent / file).read_text()


@pytest.fixture
def folder(parts: Path, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with what the bases name, without weights of resnet18 and without a network to fetch them from."""
    Path("spec.yaml").write_text(f"layers: [{LAYER}]\nimage_sizes: [64]\neval_size: 64\ndetectors: [mahalanobis]\n")
    job = Job("parts", "f", "bolt", "resnet18", "random", "ab", ("layer1",), 256, 256, "knn", {}, 1, 0)
    cost = {"latency_ms": 10.0, "peak_memory_mb": 100.0}
    details = {"by_side": {"above 1/8": {"images": 1, "regions": 1, "aupro": 0.5}}, "image_px": 64}
    for layer in ("layer1", "layer2"):
        found = Result(replace(job, layers=(layer,)), "done", metrics={"image_auroc": 0.5}, cost=cost, details=details)
        ResultStore(tmp_path / "results").write(found)
    for image in (parts / "alpha" / "test").rglob("*.png"):
        target = tmp_path / "maps" / "alpha" / "test" / image.parent.name / f"{image.stem}.npy"
        target.parent.mkdir(parents=True, exist_ok=True)
        np.save(target, np.random.default_rng(len(image.name) + int(image.stem)).uniform(0, 1, (64, 64)))
    shutil.copy(models / "with.safetensors", "with.safetensors")
    shutil.copy(models / "without.safetensors", "without.safetensors")
    if not (parts.parent / "nuts").is_dir():
        make_category(parts.parent / "nuts" / "nut", 7, train=12)
    if not (private := parts.parent / "private" / "alpha").is_dir():
        shutil.copytree(parts / "alpha", private)
        (private / "test").rename(private / "test_public")
        (private / "ground_truth").rename(private / "test_public/ground_truth")
        for place in ("validation/good/000", "test_private/000_regular", "test_private_mixed/000_mixed"):
            (private / place).parent.mkdir(parents=True)
            shutil.copy(private / "test_public/good/000.png", private / f"{place}.png")
    Path("FILE").write_text("no checkpoint")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(URLError("no network")))
    return tmp_path


def arguments(command: str, parts: Path, *added: str) -> list[str]:
    """Return the command with its base and what is added to it."""
    text = " ".join([command, BASE[command], *added])
    if "RESNET" in text:
        text = (
            text.replace(NETWORK, "resnet18 layer1")
            .replace("efficientnet_lite0 imagenet", "resnet18 imagenet")
            .replace("RESNET", "")
        )
    if "UNFETCHED" in text:
        model = load_model(Path("with.safetensors"))
        save_model(Path("unfetched.safetensors"), replace(model, job=replace(model.job, backbone="resnet18")))
        text = text.replace("UNFETCHED", "").replace("MODEL", "unfetched.safetensors")
    if "NOTHRESHOLD" in text:
        text = text.replace("NOTHRESHOLD", "").replace("MODEL", "without.safetensors")
    if "TEXT" in text:
        text = text.replace("TEXT", "").replace("--json", "")
    return shlex.split(
        text.replace("MODEL", "with.safetensors")
        .replace("RESULTS", "results")
        .replace("PARTS", str(parts))
        .replace("OTHER", str(Path("other").absolute()))
        .replace("NUTS", str(parts.parent / "nuts"))
        .replace("PRIVATE", str(parts.parent / "private"))
    )


def outcome(answer: Answer, folder: Path) -> str:
    """Return what a run printed, on one line, and the files that now exist."""
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return " ".join([*(answer.out + answer.err).split(), *(f"file {name}" for name in files)])


@pytest.mark.parametrize(
    ("command", "name"), [pair for pair in OPTIONS if pair[1] != "--json" and pair not in ELSEWHERE], ids=str
)
def test_every_option_changes_something(command: str, name: str, run: Run, folder: Path, parts: Path) -> None:
    added, appears, both = CASES[command][name]
    if command.startswith("cache "):
        run(*arguments("extract", parts, "--cache full"))
    key = (command, both, "--no-overlays" if name == "--no-overlays" else "")
    if key not in BEFORE:
        answer = run(*arguments(command, parts, *key[1:]))
        BEFORE[key] = answer, outcome(answer, folder)
    without, before = BEFORE[key]
    changed = run(*arguments(command, parts, both, added))
    assert not re.search(r"See 'adbench .*--help'", changed.err), "an error of the option parser"
    if appears:
        assert appears not in before
        assert appears in outcome(changed, folder)
    else:
        assert (without.code, changed.code) == (0, 0)
        assert changed.out != without.out


@pytest.mark.parametrize("command", BASE)
def test_json_is_one_document_on_stdout(command: str, run: Run, folder: Path, parts: Path) -> None:
    given = arguments(command, parts)
    assert ("--json" in given, (command, "--json") in OPTIONS) == (True, True)
    answer = run(*given)
    if command == "weights import":  # needs a checkpoint of 100 MB: see tests/backbones/test_pretraining.py
        assert answer.code == 3
        return
    assert isinstance(json.loads(answer.out), dict | list)
    text = run(*(word for word in given if word != "--json")).out
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
