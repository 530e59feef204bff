"""Shell completion of values, by the protocol that the shells use."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(run: Run, monkeypatch: pytest.MonkeyPatch) -> Complete:
    def call(line: str) -> list[str]:
        """Return what the shell offers for the last word of a line."""
        monkeypatch.setenv("_ADBENCH_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        answer = run()
        assert (answer.code, answer.err) == (0, "")
        return answer.out.split()

    return call


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("help ca", "cache"),
        ("help cache ", "list prune"),
        ("sweep --preset quick", "quickstart"),
        ("sweep --set image", "image_sizes="),
        ("sweep --executor ", "local ray slurm"),
        ("sweep --data demo --category n", "nut"),
        ("demo --category n", "nut"),
        ("sweep --device cu", "cuda"),
        ("train patch", "patchcore"),
        ("train patchcore resnet18 --weights sw", ""),
        ("train patchcore resnet50 --weights sw", "swav"),
        ("train patchcore resnet50 layer1 --weights sw", "swav"),
        ("train patchcore wide_resnet101", "wide_resnet101_2"),
        ("train patchcore efficientnet_lite0 blocks.6.0.bn", "blocks.6.0.bn1 blocks.6.0.bn2 blocks.6.0.bn3"),
        ("train patchcore efficientnet_lite0 blocks.2.1.add+blocks.6.0.bn3", "blocks.2.1.add+blocks.6.0.bn3"),
        ("train patchcore nosuch lay", ""),
        ("select --backbones resnet18,vgg16_", "resnet18,vgg16_bn"),
        ("select --backbones efficientnet_lite0 --layers all,conv_s", "all,conv_stem"),
        ("select --detectors padim,f", "padim,fastflow"),
        ("select --kinds hole,st", "hole,stain"),
        ("report --show cost,d", "cost,defects"),
        ("report --show a", "all"),
        ("report --study no", "none"),
        ("report --metric image_au", "image_auroc"),
        ("report --rows layer,image", "layer,image_size"),
        ("report --columns cat", "category"),
        ("report --format ht", "html"),
        ("weights path mo", "moco"),
        ("list an", "analyses"),
        ("list layers vgg16_", "vgg16_bn"),
        ("list detectors pad", "padim"),
        ("rf resnet50 --image n", "noise"),
    ],
)
def test_values_are_completed(line: str, offered: str, complete: Complete) -> None:
    assert complete(f"adbench {line}") == offered.split()


def test_categories_of_the_data_are_completed(complete: Complete, parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert complete(f"adbench extract --data {parts} --category ") == ["alpha", "beta"]
    assert complete("adbench extract --data nowhere --category ") == []
    monkeypatch.setenv("ADBENCH_DATA", str(parts))
    assert complete("adbench synth --category b") == ["beta"]


def test_model_files_are_completed(complete: Complete) -> None:
    for name in ("a.safetensors", "models/b.safetensors", "models/notes.txt"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    assert complete("adbench eval ") == ["a.safetensors", "models/b.safetensors"]
    assert complete("adbench predict models/") == ["models/b.safetensors"]


def test_a_known_backbone_needs_no_torch_and_less_than_a_second(complete: Complete) -> None:
    line = "adbench train patchcore efficientnet_lite0 blocks.6.0.bn"
    complete(line)
    complete("adbench train patchcore efficientnet_lite")
    code = "import sys\ntry:\n    from adbench.cli import main\n    main([])\nfinally:\n    assert 'torch' not in sys.modules"
    for words in (line, "adbench train patchcore efficientnet_lite", "adbench sweep --preset "):
        asked = {"_ADBENCH_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
        before = os.times().children_user
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | asked)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.strip()
        assert os.times().children_user - before < 1  # of the processor: other load does not count
