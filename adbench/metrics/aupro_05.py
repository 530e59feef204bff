"""AU-PRO up to a false-positive rate of 0.05, as MVTec AD 2 and MVTec LOCO AD report it (Heckler-Kram et al., 2025).

The same curve as `aupro`, integrated from 0 to 0.05 and divided by 0.05, whatever `pro_limit` is.
"""

from adbench.metrics import STRICT_LIMIT, Case, needs, register
from adbench.metrics.aupro import area


@register("aupro_05")
@needs("masks")
def aupro_05(case: Case) -> float | None:
    """Return AU-PRO up to a false-positive rate of 0.05, over all good pixels of all images."""
    return area(case.pixel, STRICT_LIMIT) if case.pixel else None
