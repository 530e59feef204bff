"""Candidates: layers by name, and an identity that is the same on any data."""

from dataclasses import replace

from adbench.backbones.layers import block_ends, describe
from adbench.selection.ranking import Candidate
from adbench.selection.select import with_layer_names
from adbench.sweep.spec import Choice, Spec
from adbench.types import Job

JOB = Job("parts", "f", "nut", "efficientnet_lite0", "imagenet", "s", ("blocks.2.1.add",), 256, 256, "patchcore",
          {"coreset_fraction": 0.1}, 1, 0)  # fmt: skip


def layers_of(spec: Spec, pairs: bool = False) -> tuple[str, ...]:
    return with_layer_names(spec, None, pairs).backbones[0].layers


def test_layers_are_named() -> None:
    stages = ("blocks.1.1.add", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3")
    assert layers_of(Spec()) == stages
    assert layers_of(Spec(layers=("blocks.4.2.add", "blocks.2.1", "blocks.2.1.add")), pairs=True) == (
        "blocks.4.2.add", "blocks.2.1.add", "blocks.2.1.add+blocks.4.2.add")  # fmt: skip
    assert layers_of(Spec(layers=("all",))) == tuple(block_ends(describe("efficientnet_lite0").layers))
    assert len(layers_of(Spec(layers=("all",)))) == 15
    assert layers_of(Spec(backbones=(Choice("efficientnet_lite0", ("blocks.4.2.add+blocks.1.1.add",)),), layers=("all",))) == (
        "blocks.1.1.add+blocks.4.2.add",)  # fmt: skip


def test_a_selection_has_one_seed() -> None:
    assert with_layer_names(Spec(seeds=(3, 4)), None).seeds == (3,)
    assert with_layer_names(Spec(seeds=(3, 4)), None, seed=7).seeds == (7,)


def test_a_candidate_is_the_same_on_other_data() -> None:
    assert Candidate.of(JOB) == Candidate.of(replace(JOB, fingerprint="g", category="bolt", dataset="d"))
    assert Candidate.of(JOB) != Candidate.of(replace(JOB, params={"coreset_fraction": 0.2}))
