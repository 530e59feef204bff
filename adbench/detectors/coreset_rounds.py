"""What the greedy coreset does on any processor: rounds, each of which picks among the points that reach a level."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from adbench.types import OnStep

SAMPLE = 8192  # points that tell a level


class Rounds(ABC):
    """The picks so far, and how many points a round means to hold.

    held: fewest, first and most of them; the number is doubled or halved where a round's picks are outside of `wanted`.
    """

    def __init__(
        self, points: Tensor, num_picks: int, start: int, held: tuple[int, int, int], wanted: tuple[int, int]
    ) -> None:
        self.picks = torch.full((num_picks,), start, dtype=torch.int64, device=points.device)
        self.num_picks, self.done, self.held = num_picks, 1, held[1]
        self._fewest, _, self._most = held
        self._wanted = wanted

    def run(self, on_step: OnStep) -> Tensor:
        """Return the picks (num_picks,) in order."""
        while self.done < self.num_picks:
            before = self.done
            self._round()
            picked = self.done - before
            if picked < self._wanted[0]:
                self.held = min(2 * self.held, self._most)
            elif picked > self._wanted[1]:
                self.held = max(self.held // 2, self._fewest)
            on_step(self.done, self.num_picks, "coreset")
        return self.picks

    @abstractmethod
    def _round(self) -> None:
        """Pick as long as no point outside of those held can be the farthest, if any."""

    def _level(self, bound: Tensor) -> float:
        """Return about the `held`-th largest bound; any level gives the same picks, so a sample will do for it."""
        stride = max(1, len(bound) // SAMPLE) if 2 * self.done < len(bound) else 1
        wanted = min(-(-self.held // stride), (len(bound) - self.done) // stride)
        return float(bound[::stride].topk(max(1, wanted)).values[-1])
