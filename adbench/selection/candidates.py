"""The candidates of a selection: a specification with its layers by name, and an identity that is the same on any data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from adbench.backbones.layers import block_ends, describe, parse_layers
from adbench.detectors import make_detector
from adbench.sweep.spec import Choice, Spec
from adbench.types import Job


class Candidate(NamedTuple):
    """The part of a job that a user chooses, the same for jobs on other data. `params` is JSON."""

    backbone: str
    weights: str
    layer: str
    image_size: int
    detector: str
    params: str

    @staticmethod
    def of(job: Job) -> Candidate:
        """Return the candidate that a job measures."""
        params = json.dumps(job.params, sort_keys=True)
        return Candidate(job.backbone, job.weights, job.layer, job.image_size, job.detector, params)

    def record(self) -> dict[str, Any]:
        """Return the JSON form."""
        return self._asdict() | {"params": json.loads(self.params)}


def spelt_out(spec: Spec, memo: Path | None, pairs: bool = False, seed: int | None = None) -> Spec:
    """Return `spec` with the layers of each backbone by name, and a single seed (default: the spec's first).

    "all" stands for the last layer of every block from stride 4 on. Without layers, those of the main stages are taken.
    `pairs` adds each single layer joined with the next deeper one. Raise UsageError for an unknown name.
    """
    for choice in spec.detectors:  # first, because looking at a network takes seconds
        make_detector(choice.name, choice.params, seed=0)
    backbones = tuple(_with_layers(choice, spec.layers, memo, pairs) for choice in spec.backbones)
    return replace(spec, backbones=backbones, layers=(), seeds=(spec.seeds[0] if seed is None else seed,))


def _with_layers(choice: Choice, layers: Sequence[str], memo: Path | None, pairs: bool) -> Choice:
    description = describe(choice.name, memo)
    joins = []
    for text in choice.layers or layers or description.stages:
        names = block_ends(description.layers) if text == "all" else [text]
        joins += [parse_layers(name, description) for name in names]
    if pairs:
        single = [layer.name for layer in description.layers if (layer.name,) in joins]
        joins += pairwise(single)
    return replace(choice, layers=tuple(dict.fromkeys("+".join(join) for join in joins)))
