import re
from operator import mul
from pathlib import Path

import pytest

from adbench.backbones.families import find
from adbench.backbones.weights import resolve
from adbench.core.errors import DataError, UsageError, WeightsError
from adbench.data.layouts.demo import EACH, GOOD, TRAIN
from adbench.features.view import SIZES
from adbench.sweep.spec import Choice, Spec, parse, preset_names, preset_text, read_spec


def test_an_empty_text_is_the_default_sweep() -> None:
    assert parse("") == Spec()


def test_every_key_is_read() -> None:
    spec = parse("""
data: parts
categories: [a, b]
backbones: [resnet18, {name: resnet50, layers: [layer1, layer2+layer3]}]
weights: [imagenet, random]
layers: layer2
image_sizes: [128, 256]
eval_size: native
detectors: [patchcore, {name: patchcore, params: {coreset_fraction: 0.01}}]
seeds: [0, 1]
shots: [4, all]
rotations: 8
dtype: float32
pro_limit: 0.05
""")
    assert spec.backbones == (Choice("resnet18"), Choice("resnet50", layers=("layer1", "layer2+layer3")))
    assert spec.detectors[1] == Choice("patchcore", params={"coreset_fraction": 0.01})
    assert (spec.data, spec.categories, spec.layers) == ("parts", ("a", "b"), ("layer2",))
    assert (spec.image_sizes, spec.eval_size, spec.seeds) == ((128, 256), "native", (0, 1))
    assert (spec.weights, spec.dtype, spec.pro_limit) == (("imagenet", "random"), "float32", 0.05)
    assert spec.rotations == (8,) and spec.shots == (4, "all") and parse("shots: 2").shots == (2,)


def test_overrides_win_and_take_comma_lists() -> None:
    spec = parse("image_sizes: [64]", ["image_sizes=128,256", "backbones=[{name: vgg16, layers: [features.4]}]"])
    assert spec.image_sizes == (128, 256)
    assert spec.backbones == (Choice("vgg16", layers=("features.4",)),)


def test_a_backbone_can_have_weights_of_its_own() -> None:
    spec = parse("backbones: [resnet50, {name: efficientnet_lite0, weights: imagenet}]\nweights: [random, moco]")
    assert [choice.weights for choice in spec.backbones] == [(), ("imagenet",)]


MISTAKES = {
    "backbones: [{name: x, image_sizes: [7]}]": f"spec: backbones: image_sizes: expected {SIZES}, not the number 7",
    "backbones: [{layers: [a]}]": (
        "spec: backbones: expected a name, or {name: ..., layers: ..., weights: ..., image_sizes: ..., detectors: ...},"
        " not the mapping {'layers': ['a']}"
    ),
    "backbones: [{name: x, weights: [null]}]": (
        "spec: backbones: weights: expected a name, not null; write a value, or delete the entry"
    ),
    "backbone: x": "unknown key 'backbone' in spec; did you mean 'backbones'?",
    "image_sizes: [8]": f"spec: image_sizes: expected {SIZES}, not the number 8",
    "image_sizes: []": "spec: image_sizes is empty; name at least one",
    "eval_size: big": "spec: eval_size: expected pixels from 32 to 4096 or 'native', not the text 'big'",
    "seeds: [-1]": "spec: seeds: expected a whole number from 0 to 2147483647, not the number -1",
    "seeds: [true]": "spec: seeds: expected a whole number from 0 to 2147483647, not true",
    "shots: [1, 0]": "spec: shots: expected a number of good images from 1 on, or 'all', not the number 0",
    "rotations: -1": "spec: rotations: expected a number of turned copies up to 360, or 0 for none, not the number -1",
    "shots: few": "spec: shots: expected a number of good images from 1 on, or 'all', not the text 'few'",
    "pro_limit: 2": "spec: pro_limit: expected a number above 0 and at most 1, not the number 2",
    "thresholds: median": "threshold rule 'median': write conformal:0.01, sigma:3 or quantile:0.95*1.421",
    "thresholds: [3]": (
        "spec: thresholds: expected a rule such as conformal:0.01, sigma:3 or quantile:0.95*1.421, not the number 3"
    ),
    "shifts: blurr": "unknown shift 'blurr'; did you mean 'blur'?",
    "shifts: [blur:4]": "shift 'blur:4': the strength is 1, 2 or 3, e.g. blur:2",
    "smoothing: -1": "spec: smoothing: expected pixels from 0 to 64, not the number -1",
    "value_range: 4095": "spec: value_range: expected the values of black and white such as [0, 4095], not the list [4095]",
    "crop: 0": "spec: crop: expected a number above 0 and at most 1, not the number 0",
    "dtype: float1": "unknown dtype 'float1' in spec; did you mean 'float16'?",
    "layers: [[3]]": "spec: layers: expected a name, not the list ['3']",
    "seeds: [0]\nlayers: [a]\nseeds: [1]": "spec line 3: key 'seeds' is given twice, first in line 1; keep one",
    "detectors: [{name: x, params: {k: 1,\n k: 2}}]": "spec line 2: key 'k' is given twice, first in line 1; keep one",
    "image_sizes: 64\nimage-sizes: 96": "spec: key 'image_sizes' is given twice, once as 'image-sizes'; keep one",
    "layers: [null]": "spec: layers: expected a name, not null; write a value, or delete the entry",
    "image_sizes: [0x256]": f"spec: image_sizes: expected {SIZES}, not the text '0x256'",
    "image_sizes: native/0.5": f"spec: image_sizes: expected {SIZES}, not the text 'native/0.5'",
    "tile: 16": "spec: tile: expected pixels from 32 to 4096, or 0 for no tiles, not the number 16",
    "overlap: 1": "spec: overlap: expected a share of a tile from 0 to below 1, not the number 1",
    f"seeds: [1{'0' * 50}]": (f"spec: seeds: expected a whole number from 0 to 2147483647, not the number '1{'0' * 39}...'"),
    "detectors: [{nam: x}]": "spec: detectors: expected a name, or {name: ..., params: ...}, not the mapping {'nam': 'x'}",
    "detectors: [{name: x, param: {}}]": "unknown key 'param' in detectors of spec; did you mean 'params'?",
    "detectors: [{name: x, params: 3}]": "spec: detectors: params of x: expected a mapping of names to values, not the number 3",
    "- a": "spec: must be a mapping of keys such as 'backbones' and 'layers', not the list ['a']",
    "a: &x [1]\nb: *x": "spec: YAML anchors and aliases are not accepted; write the values out",
    "layers: [a": "spec line 1: no valid YAML (expected ',' or ']', but got '<stream end>')",
    "data: !!python/object/apply:os.system [id]": (
        "spec line 1: no valid YAML (could not determine a constructor for the tag"
        " 'tag:yaml.org,2002:python/object/apply:os.system')"
    ),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(text)
    assert str(error.value) == MISTAKES[text]


def test_names_that_look_like_numbers_stay_as_they_are_written() -> None:
    spec = parse("data: 2024-05-01\ncategories: [01, 02, 010, 1e3, on, 1_0]\nlayers: 3\nbackbones: [{name: 7, weights: 1.50}]")
    assert (spec.data, spec.layers) == ("2024-05-01", ("3",))
    assert spec.categories == ("01", "02", "010", "1e3", "on", "1_0")
    assert spec.backbones == (Choice("7", weights=("1.50",)),)
    assert parse("", ["categories=01,02"]).categories == ("01", "02")
    assert parse("", ["categories=[03]"]).categories == ("03",)


def test_other_values_are_still_numbers() -> None:
    spec = parse("seeds: [01]\ndetectors: [{name: x, params: {name: 3, layers: 2, weights: true}}]")
    assert spec.seeds == (1,)
    assert spec.detectors[0].params == {"name": 3, "layers": 2, "weights": True}


@pytest.mark.parametrize("text", ["", "\n \n", "# only a comment\n", "---\n# nothing\n...\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        read_spec(path)
    assert str(error.value) == (
        f"spec {path} is empty; write keys such as 'backbones: [resnet18]' into it, or name a preset with --preset"
    )


def test_an_override_needs_a_value() -> None:
    with pytest.raises(UsageError) as error:
        parse("", ["seeds"])
    assert str(error.value) == "--set 'seeds': write key=value, e.g. --set image_sizes=256,320"


def test_an_override_that_is_no_yaml() -> None:
    with pytest.raises(UsageError) as error:
        parse("", ["seeds=[1"])
    assert str(error.value) == "--set 'seeds=[1': the value cannot be read; write e.g. --set image_sizes=256,320"


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(UsageError, match="no valid YAML"):
        parse("data: " + "[" * 100_000)


def head(name: str) -> str:
    """The comment that a preset begins with, as one line of text."""
    return " ".join(line.lstrip("# ") for line in preset_text(name).splitlines() if line.startswith("#"))


def count(spec: Spec) -> tuple[int, int]:
    """Jobs of one category, and forward passes per image."""
    networks = [choice for choice in spec.backbones for _ in choice.weights or spec.weights]
    sizes = [len(choice.image_sizes or spec.image_sizes) for choice in networks]
    cells = [len(choice.layers or spec.layers) * len(choice.detectors or spec.detectors) for choice in networks]
    return sum(map(mul, cells, sizes)) * len(spec.seeds) * len(spec.shots), sum(sizes)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_says_what_it_costs_and_what_was_chosen(name: str) -> None:
    assert parse(preset_text(name)).backbones
    assert re.search(r"Cost\b.*\bjobs\b.*\bforward passes\b.*Chosen\b", head(name))


OF_TIMM = ["layers-vit", "pretraining-vit", "convnext", "few-shot"]
DEMO_IMAGES = TRAIN + GOOD + 4 * EACH  # of each category
MVTEC_AD = (15, 5354)  # categories, images


@pytest.mark.parametrize("name", ["layers", "image-size", "pretraining-resnet50", "seeds", "patchcore-official", *OF_TIMM])
def test_the_cost_in_the_head_of_a_preset_is_that_of_its_grid(name: str) -> None:
    jobs, passes = count(parse(preset_text(name)))
    assert f"{jobs * MVTEC_AD[0]} jobs, {passes * MVTEC_AD[1]:,} forward passes" in head(name)


def test_the_cost_of_turned_training_images_is_in_the_head_of_a_preset() -> None:
    train, test = 3629, 1725
    spec = parse(preset_text("anomalydino"))
    assert (train + test, spec.rotations) == (MVTEC_AD[1], (8,))
    assert f"{count(spec)[0] * 15} jobs, {8 * train + test:,} forward passes" in head("anomalydino")


@pytest.mark.parametrize(
    "name",
    [
        "layers-small",
        "layers-vit-small",
        "image-size-small",
        "pretraining-resnet50-small",
        "seeds-small",
        "few-shot-small",
        "asymst-small",
    ],
)
def test_the_cost_of_a_small_preset_is_that_of_its_grid_on_the_demo(name: str) -> None:
    spec = parse(preset_text(name))
    jobs, passes = count(spec)
    assert spec.data == "demo"
    assert f"{jobs * 4} jobs, {passes * 4 * DEMO_IMAGES} forward passes" in head(name)


def test_the_cost_of_shifts_is_that_of_the_test_images_alone() -> None:
    spec = parse(preset_text("robustness-small"))
    fits, passes = count(spec)
    shifts, tests = 1 + len(spec.shifts), GOOD + 4 * EACH
    assert f"{fits * shifts * 4} jobs, {passes * 4 * (TRAIN + tests * shifts)} forward passes" in head("robustness-small")
    assert f"{fits * 4} fits" in head("robustness-small")


@pytest.mark.parametrize("name", OF_TIMM)
def test_timm_publishes_the_weights_of_a_preset(name: str) -> None:
    spec = parse(preset_text(name))
    for choice in (choice for choice in spec.backbones if choice.name != "wide_resnet50_2"):  # torchvision's
        family, bare = find(choice.name)
        bare = bare.rpartition("/")[2]
        assert family.prefix == "timm" and set(choice.weights or spec.weights) <= set(family.labels(bare)), bare


def test_a_library_may_have_weights_of_the_name_of_a_pretraining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"weights 'dino' of vit_base_patch16_224: .*vit_base_patch16_224\.dino"):
        resolve("vit_base_patch16_224", "dino", offline=True)


def test_the_vit_presets_share_their_features_and_have_equal_grids() -> None:
    layers, pretraining = (parse(preset_text(name)) for name in ("layers-vit", "pretraining-vit"))
    assert layers.layers == pretraining.layers and layers.image_sizes == pretraining.image_sizes
    patches = {c.name: int(re.findall(r"patch(\d+)", c.name)[0]) for c in layers.backbones}
    assert {(c.image_sizes or layers.image_sizes)[0] / patches[c.name] for c in layers.backbones} == {24}


def test_the_layers_of_the_presets_are_those_of_table_2() -> None:
    choices = {choice.name: choice.layers for choice in parse(preset_text("layers")).backbones}
    assert list(choices) == ["resnet50", "wide_resnet50_2", "densenet201", "efficientnet_b5"]
    assert all(find(name)[0].stage_layers[name] == layers for name, layers in choices.items())
    assert {c.name: c.layers for c in parse(preset_text("image-size")).backbones}.items() <= choices.items()
    assert parse(preset_text("pretraining-resnet50")).layers == choices["resnet50"]
    assert parse(preset_text("seeds")).layers == choices["wide_resnet50_2"]


def test_a_spec_that_is_missing_or_binary(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        read_spec(tmp_path / "none.yaml")
    assert (
        str(error.value)
        == f"spec {tmp_path}/none.yaml: cannot be read (No such file or directory); name a YAML file with the keys of a sweep"
    )
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="no UTF-8 text"):
        read_spec(tmp_path / "binary")
