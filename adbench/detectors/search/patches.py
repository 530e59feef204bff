"""Patches as the official PatchCore code makes them (amazon-science/patchcore-inspection): 1024 numbers, whatever the layer.

The k x k neighborhood of a cell (zeros around the map) is flattened channel by channel to C k^2 numbers and pooled to 1024 by
averages of equal, overlapping spans (torch's adaptive average pooling). Deeper layers are resized bilinearly to the finest grid.
The layers' numbers, one layer behind the other, are pooled to 1024 again.

With 1024 channels and k = 3 that is the plain average of the neighborhood. Fewer channels keep parts of the neighborhood apart
(below 1024 / k^2 channels they are repeated), more channels are mixed with their neighbors.

Deviation, of rounding only: layers are resized behind the first pooling, not in front of it. Both steps are linear, one over
cells, the other over numbers, so their order does not matter, and 1024 numbers are fewer than C k^2.
"""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from adbench.features.feature_maps import join

NUMBERS = 1024


def adaptive_patches(layers: Sequence[Tensor], side: int) -> Tensor:
    """Return the patches (B, 1024, h, w) of layers (B, C_l, h_l, w_l) on the finest grid; side: of the neighborhood, odd."""
    joined = join([_pooled(layer, side) for layer in layers])
    if len(layers) == 1:
        return joined
    batch, _, height, width = joined.shape
    numbers = F.adaptive_avg_pool1d(joined.permute(0, 2, 3, 1).flatten(0, 2)[:, None], NUMBERS)[:, 0]
    return numbers.view(batch, height, width, NUMBERS).permute(0, 3, 1, 2)


def _pooled(layer: Tensor, side: int) -> Tensor:
    """Return the 1024 numbers (B, 1024, h, w) of each neighborhood of a layer (B, C, h, w)."""
    batch, _, height, width = layer.shape
    around = F.unfold(layer, side, padding=side // 2)  # (B, C k^2, h w)
    numbers = F.adaptive_avg_pool1d(around.transpose(1, 2), NUMBERS)
    return numbers.transpose(1, 2).reshape(batch, NUMBERS, height, width)
