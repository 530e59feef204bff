"""Ranking and time of `select` with a bounded memory bank, against PatchCore's default bank (a tenth of all patches).

Run: python benchmarks/bank.py [--threads N] [--data DIR]. Each category's candidates are ranked on synthetic defects with each
bound; test images are not read. Without --data, on the four categories of generated parts. Finished results are kept in the
folder `bank-results`, so a stopped run goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import arguments

OPTIONS = arguments(__doc__, threads=0)

from scipy.stats import spearmanr  # noqa: E402

from adbench.core.environment import cache_folder  # noqa: E402
from adbench.data.datasets import open_training  # noqa: E402
from adbench.selection.select import Selection, SelectionRequest, select, with_layer_names  # noqa: E402
from adbench.selection.validation import ValidationRecipe  # noqa: E402
from adbench.sweep.spec import Choice, Spec  # noqa: E402
from adbench.sweep.workspace import Workspace  # noqa: E402

BOUNDS = (0, 1024, 4096, 8192)  # rows of the bank; 0: none
FEW = ("blocks.1.0.bn3", "blocks.1.1.add", "blocks.2.0.bn3", "blocks.2.1.add", "blocks.4.2.add", "blocks.6.0.bn3")
# real data: fewer candidates, as the largest default bank would take an hour
LAYERS, SIZES = (FEW, (192, 256)) if OPTIONS.data else (("all",), (192, 256, 384))
OUT = Path("bank-results")


def selection(workspace: Workspace, bound: int) -> Selection:
    """Return the ranking of the candidates whose banks have at most so many rows."""
    detector = Choice("patchcore", params={"coreset_max": bound})
    spec = with_layer_names(Spec(layers=LAYERS, image_sizes=SIZES, detectors=(detector,)), workspace.memo)
    request = SelectionRequest(spec, ValidationRecipe(), halving=False)
    return select(workspace, request, workspace.single(training_only=True), OUT, lambda *_: None)


def compare(whole: Selection, bounded: Selection) -> list[Any]:
    """Return how far a bounded ranking is from the whole one; candidates match whatever their bound."""
    scores, others = ({one.candidate._replace(params=""): one.score for one in found.ranking} for found in (whole, bounded))
    pairs = [(scores[one], others[one]) for one in scores]
    chosen = max(others, key=others.__getitem__)
    tied = {one.candidate._replace(params="") for one in whole.ranking if one.tied}
    costs = [one.result.cost for one in bounded.ranking]
    return [
        f"{spearmanr(*zip(*pairs, strict=True)).statistic:.3f}",
        f"{max(abs(a - b) for a, b in pairs):.3f}",
        f"{max(scores.values()) - scores[chosen]:.3f}",
        "yes" if chosen in tied else "no",
        f"{sum(cost['fit_s'] + cost['score_s'] for cost in costs):.0f}",
        f"{max(cost['fit_s'] + cost['score_s'] for cost in costs):.1f}",
    ]


if __name__ == "__main__":
    data, cache = str(OPTIONS.data or "demo"), cache_folder(None)
    print("category | rows | Spearman | largest change of a score | regret | choice ties with the best | s in all | s at most")
    for category in open_training(data, cache, ()):
        name, workspace = category.name, Workspace(data, cache, (category.name,), device="cpu")
        whole = selection(workspace, BOUNDS[0])
        for bound in BOUNDS:
            found = selection(workspace, bound)
            print(name, bound or "a tenth", *compare(whole, found), sep=" | ", flush=True)
