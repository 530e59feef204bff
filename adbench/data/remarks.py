"""What reading folders passed over or had to interpret: collected while a layout lists its files, then said in a line per kind.

Layouts list files through image_lists.py, which notes here, so the contract of a layout does not speak of it.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

log = logging.getLogger("adbench.data")
_SHOWN = 3  # folders, suffixes or files named in a line


@dataclass
class Remarks:
    """Paths by what was noted about them.

    others: files that are no images. by_content: images of unknown suffixes. as_good: folders whose other names mean good.
    stray_masks: masks of no defective image. drawn: pictures that adbench drew.
    unused: images where the layout has none. unlabeled: test images whose labels are not published. held_out: by category, in
    words.
    """

    others: set[Path] = field(default_factory=set)
    by_content: set[Path] = field(default_factory=set)
    as_good: set[Path] = field(default_factory=set)
    stray_masks: set[Path] = field(default_factory=set)
    unused: set[Path] = field(default_factory=set)
    unlabeled: set[Path] = field(default_factory=set)
    drawn: set[Path] = field(default_factory=set)
    held_out: dict[str, str] = field(default_factory=dict)

    def lines(self, root: Path, reads: str = "") -> Iterator[str]:
        """Yield a line for each kind of remark; `reads` says which folders the layout reads."""
        if self.held_out:
            shares = ", ".join(f"{category} {share}" for category, share in self.held_out.items())
            yield (f"{root} has no test split: good images, chosen by their names, are held out from training and tested "
                   f"beside the bad ones: {shares}")  # fmt: skip
        if self.as_good:
            yield f"{root}: read as good images: {_few([_within(path, root) for path in sorted(self.as_good)])}"
        if self.by_content:
            files = [_within(path, root) for path in sorted(self.by_content)]
            yield f"{root}: read as images by content, as their suffixes are unknown: {_few(files)}"
        if unused := self.unused - self.drawn:
            rule = f"; adbench reads {reads}" if reads else ""
            yield f"{root}: {_count(unused, 'image', 'not used')}: {_places(unused, root)}{rule}"
        if self.unlabeled:
            places = ", ".join(sorted({path.parent.name for path in self.unlabeled}))  # the same for some and all categories
            yield f"{root}: images without published labels are not measured: {places}; 'adbench submit' makes maps of them"
        if self.stray_masks:
            masks = _count(self.stray_masks, "mask", "passed over", " without a defective image of that name")
            yield f"{root}: {masks}: {_places(self.stray_masks, root)}"
        if self.others:
            yield f"{root}: {self.count_others()}"

    def count_others(self) -> str:
        """Return how many files are no images, by suffix: `3 files ... are passed over: 2 .heic, 1 .txt`."""
        counts = Counter(path.suffix.lower() or "without suffix" for path in self.others)
        files = _count(self.others, "file", "passed over", " without readable image content")
        return f"{files}: {_few([f'{count} {suffix}' for suffix, count in _ranked(counts)])}"


_current: ContextVar[Remarks | None] = ContextVar("remarks", default=None)


@contextmanager
def collected() -> Iterator[Remarks]:
    """Yield remarks that fill with what is noted inside."""
    token = _current.set(remarks := Remarks())
    try:
        yield remarks
    finally:
        _current.reset(token)


def noted() -> Remarks:
    """Return the remarks being collected; if nobody collects, they are lost."""
    return _current.get() or Remarks()


@lru_cache(maxsize=1024)
def say_once(line: str) -> None:
    """Log a line as a warning, once in this process."""
    log.warning("%s", " ".join(line.splitlines()))  # a file name may hold line breaks


def _places(paths: Iterable[Path], root: Path) -> str:
    counts = Counter(_within(path.parent, root) for path in paths)
    return _few([f"{count} in {place}" for place, count in _ranked(counts)])


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _within(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path != root and path.is_relative_to(root) else str(path)


def _few(words: list[str]) -> str:
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _count(items: Collection[object], word: str, fate: str, kind: str = "") -> str:
    return f"1 {word}{kind} is {fate}" if len(items) == 1 else f"{len(items)} {word}s{kind} are {fate}"
