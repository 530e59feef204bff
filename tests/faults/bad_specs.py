"""Specifications, overrides and arguments that do not fit."""

from __future__ import annotations

from collections.abc import Iterator

from cases import DATA, EXTRACT, LAYER, SOME_FAILED, STUDY, SWEEP, USAGE, Case, named, nothing, write

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
SPECS: dict[str, tuple[bytes, int, str]] = {
    "YAML bomb": (BOMB.encode(), USAGE, "anchors"),
    "alias": (b"layers: [*x]\n", USAGE, "anchors"),
    "python object": (b"layers: !!python/object/apply:os.system ['touch hacked']\n", USAGE, "no valid YAML"),
    "python name": (b"layers: [!!python/name:os.system]\n", USAGE, "no valid YAML"),
    "deep nesting": (b"layers: " + b"[" * 20000 + b"]" * 20000, USAGE, "no valid YAML"),
    "tab": (b"layers:\n\t- x\n", USAGE, "no valid YAML"),
    "open bracket": (b"layers: [x\n", USAGE, "no valid YAML"),
    "a list": (b"- layers\n- x\n", USAGE, "must be a mapping"),
    "a number": (b"42\n", USAGE, "must be a mapping"),
    "binary": (bytes(range(256)), DATA, "no UTF-8"),
    "NUL": (b"layers: [a\0b]\n", USAGE, "no valid YAML"),
    "two megabytes": (b"# " + b"x" * 2_000_000, DATA, "larger than 1 MB"),
    "empty": (b"", USAGE, "study.yaml is empty; write keys"),
    "only comments": (b"# layers\n\n---\n", USAGE, "study.yaml is empty; write keys"),
    "repeated key": (b"layers: [a]\nseeds: [0]\nlayers: [b]\n", USAGE, "line 3: key 'layers' is given twice, first in line 1"),
    "repeated parameter": (b"detectors: [{name: x, params: {k: 1, k: 2}}]\n", USAGE, "line 1: key 'k' is given twice"),
    "repeated key in another spelling": (b"image_sizes: 64\nimage-sizes: 96\n", USAGE, "'image_sizes' is given twice"),
    "unknown key": (b"bakbones: [resnet18]\n", USAGE, "did you mean 'backbones'"),
    "key of another kind": (b"1: 2\n", USAGE, "unknown key"),
    "two documents": (b"layers: [a]\n---\nlayers: [b]\n", USAGE, "no valid YAML"),
}
VALUES: dict[str, tuple[str, str]] = {
    "image_sizes=-1": ("image_sizes=-1", "image_sizes"),
    "image_sizes=0": ("image_sizes=0", "image_sizes"),
    "image_sizes=1e9": ("image_sizes=1000000000", "image_sizes"),
    "image_sizes=1.5": ("image_sizes=1.5", "image_sizes"),
    "image_sizes=true": ("image_sizes=true", "image_sizes"),
    "image_sizes=big": ("image_sizes=big", "image_sizes"),
    "image_sizes=": ("image_sizes=", "image_sizes is empty"),
    "image_sizes of maps": ("image_sizes={a: 1}", "image_sizes"),
    "eval_size=small": ("eval_size=small", "eval_size"),
    "eval_size=nan": ("eval_size=.nan", "eval_size"),
    "eval_size=list": ("eval_size=[64, 128]", "eval_size"),
    "pro_limit=0": ("pro_limit=0", "pro_limit"),
    "pro_limit=2": ("pro_limit=2", "pro_limit"),
    "pro_limit=nan": ("pro_limit=.nan", "pro_limit"),
    "seeds=-1": ("seeds=-1", "seeds"),
    "seeds=a": ("seeds=a", "seeds"),
    "seeds=2^40": ("seeds=1099511627776", "seeds"),
    "dtype=float8": ("dtype=float8", "dtype"),
    "data=list": ("data=[a, b]", "data"),
    "seeds of 50 digits": (f"seeds=1{'0' * 50}", "0\\.\\.\\.'"),
    "pixels in quotes": ("image_sizes='256'", "remove the quotes"),
    "categories that are numbers": ("categories=[01, 02]", "unknown category '01'"),
    "layers=number": ("layers=3", "unknown layer '3'"),
    "layers=nothing": ("layers=[null]", "not null; write a value"),
    "unknown layer": ("layers=blocks.99", "unknown layer.*the last 'blocks.6'"),
    "layer with an empty part": (f"layers={LAYER}+", "unknown layer"),
    "unknown backbone": ("backbones=resnet5O", "unknown backbone"),
    "backbone path": ("backbones=../../etc/passwd", "unknown backbone"),
    "backbone without name": ("backbones={layers: [a]}", "backbones"),
    "backbone with an odd key": ("backbones={name: resnet18, size: 3}", "unknown key"),
    "unknown weights": ("weights=imagenett", "no weights"),
    "unknown detector": ("detectors=patchcor", "unknown detector"),
    "unknown parameter": ("detectors={name: patchcore, params: {k: 3}}", "unknown parameter"),
    "parameter of the wrong kind": ("detectors={name: patchcore, params: {coreset_fraction: lots}}", "coreset_fraction"),
    "parameter out of range": ("detectors={name: patchcore, params: {coreset_fraction: 7}}", "coreset_fraction"),
    "parameter not a number": ("detectors={name: patchcore, params: {coreset_fraction: .nan}}", "coreset_fraction"),
    "parameters no mapping": ("detectors={name: patchcore, params: [1]}", "params"),
    "unknown category": ("categories=alfa", "unknown category"),
    "category with a way out": ("categories=../parts", "unknown category"),
    "no equals sign": ("layers", "write key=value"),
    "override that is no YAML": ("layers=[a", "cannot be read"),
    "override with an object": ("layers=!!python/object/apply:os.system [id]", "cannot be read"),
}
TRAIN = ("train", "patchcore", "efficientnet_lite0", LAYER, "--image-size", "64", "--data", "parts", "--model", "n.safetensors")
ARGUMENTS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no command": (("nothing",), USAGE, "No such command"),
    "unknown option": ((*EXTRACT, "--speed", "9"), USAGE, "No such option"),
    "option without value": ((*EXTRACT, "--dtype"), USAGE, "dtype"),
    "no layer": (("extract", "efficientnet_lite0", "--data", "parts"), USAGE, "Missing argument"),
    "no data": (("extract", "efficientnet_lite0", LAYER, "--data", "nowhere"), DATA, "no data in nowhere"),
    "data is a file": (("extract", "efficientnet_lite0", LAYER, "--data", "study.yaml"), DATA, "study.yaml"),
    "category with a way out": ((*EXTRACT, "--category", "../../etc"), USAGE, "unknown category"),
    "empty category": ((*EXTRACT, "--category", ""), USAGE, "unknown category"),
    "size of 7": (("extract", "efficientnet_lite0", LAYER, "--data", "parts", "--image-size", "7"), USAGE, "image-size"),
    "device of old": ((*EXTRACT, "--device", "tpu"), USAGE, "device 'tpu'"),
    "results is a file": (("report", "study.yaml"), DATA, "study.yaml"),
    "results is missing": (("report", "nowhere"), DATA, "no results in 'nowhere'"),
    "unknown format": (("report", "results", "--format", "pdf"), USAGE, "unknown format"),
    "unknown metric": (("report", "results", "--metric", "auprc"), USAGE, "unknown metric"),
    "unknown row": (("report", "results", "--rows", "lair"), USAGE, "unknown row key"),
    "row and column": (("report", "results", "--rows", "layer", "--columns", "layer"), USAGE, "both a row and a column"),
    "unknown study": (("report", "results", "--study", "colours"), USAGE, "unknown study"),
    "preset and spec": (("sweep", "--preset", "quickstart", "--spec", "study.yaml"), USAGE, "not both"),
    "spec is missing": (("sweep", "--spec", "none.yaml", "--data", "parts"), DATA, "none.yaml"),
    "spec is a folder": (("sweep", "--spec", "parts", "--data", "parts"), DATA, "parts"),
    "limit 0": ((*SWEEP, "--limit", "0"), USAGE, "limit"),
    "jobs -3": ((*SWEEP, "--jobs", "-3"), USAGE, "jobs"),
    "out is a file": (("sweep", "--spec", "study.yaml", "--data", "parts", "--out", "study.yaml"), DATA, "study.yaml"),
    "cache is a file": ((*EXTRACT, "--cache", "study.yaml"), DATA, "study.yaml"),
    "model is missing": (("eval", "none.safetensors", "--data", "parts"), DATA, "none.safetensors"),
    "model is a folder": (("eval", "parts", "--data", "parts"), DATA, "parts"),
    "model is a text": (("eval", "study.yaml", "--data", "parts"), DATA, "study.yaml"),
    "unknown list": (("list", "things"), USAGE, "unknown list"),
    "weights of nothing": (("weights", "path", "nothing"), USAGE, "nothing"),
    "import of a missing file": (("weights", "import", "moco", "none.pth"), DATA, "none.pth"),
    "size of words": (("cache", "prune", "--max-size", "much"), USAGE, "write a size"),
    "negative size": (("cache", "prune", "--max-size=-5GB",), USAGE, "write a size"),
    "wrong format of no results": (("report", "nowhere", "--format", "markdwn"), USAGE, "did you mean 'markdown'"),
    "wrong study of no results": (("report", "nowhere", "--study", "colors"), USAGE, "unknown study"),
    "half a metric of no results": (("report", "nowhere", "--metric", "auroc"), USAGE, "'image_auroc' or 'pixel_auroc'"),
    "latency below 0": (("report", "results", "--max-latency", "-5"), USAGE, "'-5' is not a number from 0 on"),
    "seed of 24 digits": ((*TRAIN, "--seed", "1" + "0" * 23), USAGE, "is not a whole number from 0 to 2147483647"),
    "model of another suffix": ((*TRAIN[:-1], "m.pt"), USAGE, "write --model m.safetensors"),
    "rectangle for a side": ((*EXTRACT, "--image-size", "224x224"), USAGE, "224x224"),
    "sizes the wrong way round": (("synth", "--data", "nowhere", "--out", "o", "--sizes", "0.5,0.1"), USAGE, "--sizes 0.1,0.5"),
    "home of nobody": ((*EXTRACT, "--cache", "~nosuchuser/x"), USAGE, "no such user"),
    "usage before maps": (("eval-maps", "--maps", "nowhere", "--data", "nowhere", "--eval-size", "big"), USAGE, "--eval-size"),
    "usage before data": (("extract", "resnet18", "layer1", "--data", "nowhere", "--dtype", "float8"), USAGE, "unknown dtype"),
    "model before data": (("eval", "none.safetensors", "--data", "nowhere"), DATA, "none.safetensors: no such file"),
    "cache that is needed": ((*EXTRACT, "--cache", "/dev/null/x"), DATA, "ADBENCH_CACHE"),
    "maps are missing": (("eval-maps", "--maps", "nowhere", "--data", "parts"), DATA, "nowhere"),
    "model in no folder": (
        ("train", "patchcore", "efficientnet_lite0", LAYER, "--image-size", "64", "--data", "parts", "--category", "alpha",
         "--model", "study.yaml/m.safetensors"), DATA, "study.yaml"),
}  # fmt: skip


def cases() -> Iterator[Case]:
    """Yield every specification, override and argument."""
    for name, (content, code, says) in SPECS.items():
        yield Case(f"spec: {name}", write("study.yaml", content), SWEEP, code, says)
    for name, (override, says) in VALUES.items():
        yield Case(f"override: {name}", write("study.yaml", STUDY.encode()), (*SWEEP, "--set", override), USAGE, says)
    path = write("study.yaml", STUDY.encode())
    yield Case("override: weights that are none", path, (*SWEEP, "--set", "weights=../study.yaml"), SOME_FAILED, "failed|skipped")
    yield from named("arguments", [(n, nothing, *rest) for n, rest in ARGUMENTS.items()])
