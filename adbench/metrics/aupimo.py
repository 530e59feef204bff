"""AUPIMO: area under the per-image overlap curve (Bertoldo et al., BMVC 2024, "AUPIMO: Redefining Visual Anomaly Detection
Benchmarks with High Speed and Low Tolerance").

For an image with a defect, the share of its defective pixels with a score >= t is integrated over the logarithm of the
false-positive rate at t, from 1e-5 to 1e-4, and divided by ln 10: a fraction of 1; chance is 3.9e-5. The rate is the mean over
good test images of the share of their pixels with a score >= t: pixels of images with a defect never count. The metric is the
mean over images with a defect. Deviation: one threshold per distinct score and interpolation at 1e-5 and 1e-4 instead of 300,000
equidistant thresholds and the nearest rates reached; the published value tends to this one as its thresholds get denser, if no
good pixel ties with a defective one.
"""

import numpy as np

from adbench.metrics import Case, needs, register


@register("aupimo")
@needs("masks, and good test images with 100,000 pixels or more at the evaluation grid")
def aupimo(case: Case) -> float | None:
    """Return the mean AUPIMO of the images with a defect."""
    if case.pimo is None or np.isnan(case.pimo).all():
        return None
    return float(np.nanmean(case.pimo))
