"""The part and its background, told apart by the first principal component of an image's patches.

After AnomalyDINO (Damm et al., "AnomalyDINO: Boosting Patch-based Few-shot Anomaly Detection with DINOv2", WACV 2025): a part
in front of an even background differs from it in the direction in which the patches vary most. Deviations: of the two signs of
the component the one counts that keeps more of the central part (official: the library's sign, unless that keeps too
little); where neither keeps enough, the image has no mask (official: the other sign is taken in any case).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CENTER = (0.2, 0.8)  # of height and width: where a part is expected
LEAST = 0.35  # of the center's cells that a mask keeps


@torch.inference_mode()
def foreground(maps: Tensor, threshold: float) -> Tensor:
    """Return which cells (B, h, w) of maps (B, C, h, w) show the part; all cells of an image in which it cannot be told.

    threshold: the least value of the component, in units of the features; 10 suits the normed tokens of DINOv2 ViT-S.
    """
    return torch.stack([_of_one(one, threshold) for one in maps])


def _of_one(maps: Tensor, threshold: float) -> Tensor:
    height, width = maps.shape[1:]
    component = first_component(maps.flatten(1).T).view(height, width)
    rows, columns = (slice(int(CENTER[0] * side), max(1, int(CENTER[1] * side))) for side in (height, width))
    kept = [component > threshold, -component > threshold]
    shares = [float(mask[rows, columns].float().mean()) for mask in kept]
    best = kept[shares[1] > shares[0]]
    return _closed(best) if max(shares) > LEAST else torch.ones_like(best)


def first_component(points: Tensor) -> Tensor:
    """Return the first principal component (n,) of points (n, d); its sign is arbitrary."""
    centered: Tensor = (points - points.mean(0)).double()
    wide = centered.shape[1] > centered.shape[0]
    _, vectors = torch.linalg.eigh(centered @ centered.T if wide else centered.T @ centered)
    direction = centered.T @ vectors[:, -1] if wide else vectors[:, -1]
    component: Tensor = centered @ (direction / direction.norm().clamp_min(torch.finfo(torch.float64).tiny))
    return component


def _closed(mask: Tensor) -> Tensor:
    """Return the mask (h, w) dilated, then closed, by 3 x 3; cells beyond the border count for neither."""
    grown = _dilated(_dilated(mask.float()[None]))
    return (-_dilated(-grown))[0] > 0.5


def _dilated(values: Tensor) -> Tensor:
    return F.max_pool2d(values, 3, 1, 1)
