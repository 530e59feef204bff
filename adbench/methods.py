"""What a job says of its detector: its registered name, every parameter, and the revision of its method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adbench.answers import Answers

if TYPE_CHECKING:
    from adbench.detectors import Detector


@dataclass(frozen=True)
class Method:
    """A detector but for its seed. params: all of them, defaults included."""

    detector: str
    params: dict[str, Any]
    revision: int


def method_of(detector: Detector, name: str) -> Method:
    """Return the method of a detector that a user calls `name`."""
    from adbench.detectors import DETECTORS
    from adbench.models import detector_params

    return Method(DETECTORS.canonical(name), detector_params(detector), type(detector).revision)


def find_method(name: str, params: dict[str, Any], answers: Answers) -> Method:
    """Return the method of a detector by its name and some parameters; raise UsageError as `make_detector` does.

    The detector is made, which loads torch, where the answers do not know it.
    """
    return Method(**answers.to(["method", name, repr(sorted(params.items()))], lambda: asdict(_made(name, params))))


def _made(name: str, params: dict[str, Any]) -> Method:
    from adbench.models import make_detector

    return method_of(make_detector(name, params, seed=0), name)
