"""AU-PRO over the images with a defect only, as the authors of PatchCore publish it (their column `anomaly_pro`).

The same curve as `aupro`, but false positives are counted on the good pixels of anomalous images alone. Good images, on which
most detectors respond less, do not lower the false-positive rate. Published PRO values of PatchCore compare with this metric,
those of MVTec AD's evaluation with `aupro`.
"""

from adbench.metrics import Case, needs, register
from adbench.metrics.aupro import area


@register("aupro_anomalous")
@needs("masks")
def aupro_anomalous(case: Case) -> float | None:
    """Return AU-PRO up to the false-positive rate `case.pro_limit`, over the good pixels of anomalous images."""
    return area(case.anomalous, case.pro_limit) if case.anomalous else None
