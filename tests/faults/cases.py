"""What a fault is: how a workplace is damaged, which command meets it, and how that must end."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LAYER = "blocks.2.1.add"
Damage = Callable[[Path], None]
USAGE, DATA, SOME_FAILED, FINE = 2, 3, 1, 0


@dataclass(frozen=True)
class Case:
    """A damaged workplace and a command run in it.

    The workplace is a folder with `parts` (a dataset of the category alpha), `m.safetensors` (a model of it), `results`
    (of the finished sweep of `study.yaml`), `cache`, and `maps` (of another program).
    code: the exit code that is right. says: a pattern that the one line of an error, or stderr, must contain. answers: a pattern
    that stdout must contain.
    recovers: the metrics of the sweep's results must be the same bytes afterward.
    """

    name: str
    damage: Damage
    command: tuple[str, ...]
    code: int
    says: str = ""
    answers: str = ""
    recovers: bool = False

    def problem(self, code: int, out: str, err: str) -> str | None:
        """Return what is wrong with how the command ended, or None."""
        errors = [line for line in err.splitlines() if line.startswith("adbench: error: ")]
        if "Traceback" in err or "Traceback" in out:
            return f"a traceback: {err.strip().splitlines()[-1]}"
        if code != self.code:
            return f"exit code {code}, not {self.code}: {err.strip()[-300:]}"
        if code in (USAGE, DATA) and len(errors) != 1:
            return f"{len(errors)} lines of error: {err.strip()[-300:]}"
        if code in (USAGE, DATA) and out:
            return f"an answer beside an error: {out[:100]}"
        if not re.search(self.answers, out):
            return f"no '{self.answers}' in the answer: {out.strip()[-300:]}"
        return None if re.search(self.says, err) else f"no '{self.says}' in: {err.strip()[-300:]}"


def nothing(workplace: Path) -> None:
    """Leave the workplace as it is."""


def write(relative: str, content: bytes) -> Damage:
    """Put a file there."""

    def damage(workplace: Path) -> None:
        target = workplace / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    return damage


def cut(pattern: str, share: float) -> Damage:
    """Keep the first `share` of every file that `pattern` finds."""
    return _changed(pattern, lambda content: content[: int(len(content) * share)])


def flip(pattern: str, workplace: float) -> Damage:
    """Flip the lowest bit of the byte at `place` (a share of the length): a digit stays a digit."""

    def flipped(content: bytes) -> bytes:
        at = min(int(len(content) * workplace), len(content) - 1)
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return _changed(pattern, flipped)


def _changed(pattern: str, change: Callable[[bytes], bytes]) -> Damage:
    def damage(workplace: Path) -> None:
        found = sorted(workplace.glob(pattern))
        if not found:
            raise FileNotFoundError(f"the case finds no {pattern}")
        for path in found:
            path.write_bytes(change(path.read_bytes()))

    return damage


def named(prefix: str, cases: Sequence[tuple[str, Damage, tuple[str, ...], int, str]]) -> Iterator[Case]:
    """Yield the cases of a list, their names behind `prefix`."""
    for name, damage, command, code, says in cases:
        yield Case(f"{prefix}: {name}", damage, command, code, says)


EXTRACT = ("extract", "efficientnet_lite0", LAYER, "--image-size", "64", "--data", "parts")
EVAL = ("eval", "m.safetensors", "--data", "parts")
SWEEP = ("sweep", "--spec", "study.yaml", "--data", "parts", "--out", "results")
STUDY = f"""backbones: [efficientnet_lite0]
layers: [{LAYER}, blocks.4.2.add]
image_sizes: [64]
eval_size: 64
detectors: [{{name: patchcore, params: {{coreset_max: 64}}}}]
"""
