"""AU-sPRO: area under the saturated per-region overlap curve of MVTec LOCO AD, up to a false-positive rate of 0.05 (Bergmann
et al., IJCV 2022, "Beyond Dents and Scratches").

sPRO(t) = mean over annotated defects of min(found pixels / saturation area, 1): a logical defect counts as found as soon as a
part of it as large as its saturation area is. Each mask file of an image is one defect, whatever its connected components, and
`defects_config.json` has its saturation area. The rate is that of all good pixels of the good images and of the kind's own ones.
Logical and structural defects are measured apart, and the metric is the mean of the two.

Deviations: exact, one point per distinct score, where the published code interpolates between some 50 thresholds. At an
evaluation grid other than `native`, a saturation area in pixels shrinks as the image does.
"""

from statistics import fmean

from adbench.metrics import STRICT_LIMIT, Case, needs, register
from adbench.metrics.aupro import area


@register("au_spro")
@needs("a defects_config.json with saturation areas, as MVTec LOCO AD has")
def au_spro(case: Case) -> float | None:
    """Return the mean over kinds of defect of AU-sPRO up to a false-positive rate of 0.05."""
    return fmean(area(curves, STRICT_LIMIT) for curves in case.saturated.values()) if case.saturated else None
