"""Channels brought to mean 0 and deviation 1 over the training set, for detectors that train."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adbench.core.errors import DetectorError
from adbench.features.feature_maps import FeatureMaps, join

_BATCH = 16  # images whose moments are taken at once
_DEAD = 1e-4  # share of the average channel's deviation below which a channel counts as constant


@dataclass(frozen=True)
class Standardization:
    """mean, deviation: (C,) of each channel; a dead channel, which does not vary in training, has the deviation 0."""

    mean: Tensor
    deviation: Tensor

    @staticmethod
    def of(features: FeatureMaps) -> "Standardization":
        """Return the moments of the joined channels over all cells of all images; DetectorError if fewer than two vary."""
        mean = _mean(features, lambda x: x)
        deviation = _mean(features, lambda x: (x - mean[:, None, None]).square()).sqrt()
        deviation[deviation <= _DEAD * deviation.mean()] = 0
        made = Standardization(mean.float(), deviation.float())
        if made.alive < 2:
            raise DetectorError(f"{made.alive} of {len(mean)} channels vary, 2 are needed; take another layer")
        return made

    @property
    def alive(self) -> int:
        """How many channels vary."""
        return int(self.deviation.count_nonzero())

    def apply(self, x: Tensor) -> Tensor:
        """Return (x - mean) / deviation of the channels that vary: (B, C, h, w) to (B, alive, h, w)."""
        chosen = self.deviation.nonzero()[:, 0]
        mean, deviation = (moment[chosen, None, None].to(x.device) for moment in (self.mean, self.deviation))
        if len(chosen) < len(self.mean):
            x = x.index_select(1, chosen.to(x.device))
        return (x - mean) / deviation


def _mean(features: FeatureMaps, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the mean (C,) of a function of the joined maps over all cells of all images, in float64."""
    total = torch.zeros(features.joined_shape[0], dtype=torch.float64)
    for _, layers in features.batches(_BATCH, torch.device("cpu")):
        total += of(join(layers).double()).mean(dim=(2, 3)).sum(dim=0)
    return total / len(features)
