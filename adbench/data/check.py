"""Check every file of a dataset before any work: report all problems at once and return a digest of every file."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError
from adbench.core.memo import Memo
from adbench.data.images import read_image, read_mask, unreadable
from adbench.types import Category, OnStep, Sample, digest, ignore_step

_SHOWN = 10  # problems named in a message


class FileFacts(NamedTuple):
    """An image or mask file: the SHA-256 of its bytes, its upright size in pixels."""

    sha256: str
    height: int
    width: int


Facts = dict[Path, FileFacts]
Keep = Callable[[Path, NDArray[np.uint8]], None]


def check_files(
    categories: Sequence[Category],
    memo_file: Path | None = None,
    on_step: OnStep = ignore_step,
    keep: Keep = lambda path, image: None,
) -> Facts:
    """Decode and hash every image and mask, compare the masks' sizes with their images', and return the files' facts.

    memo_file: JSON with the facts by path, size and modification time, so that a second call decodes nothing.
    keep: called with each image that is decoded, (H, W, 3), in one of several threads.
    Raises one DataError with the number of problems and the first ten.
    """
    samples = [sample for category in categories for sample in (*category.train, *category.test)]
    files = {path: "mask" if path != s.path else "image" for s in samples for path in (s.path, *(s.masks or ()))}
    memo = Memo(memo_file, "size, modification time, SHA-256, height, width")
    facts: Facts = {}
    problems = []
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        found = pool.map(partial(_facts, memo=memo, keep=keep), files, files.values())
        for done, (path, result) in enumerate(zip(files, found, strict=True), 1):
            on_step(done, len(files), "checking files")
            if isinstance(result, FileFacts):
                facts[path] = result
            else:
                problems.append(result)
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for the other files
    memo.write()
    problems += [text for category in categories for sample in category.test for text in _mask_problems(sample, facts)]
    if len(problems) > 1:
        more = f" | and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise DataError(f"{len(problems)} problems in the data: {' | '.join(problems[:_SHOWN])}{more}")
    if problems:
        raise DataError(problems[0])
    return facts


def split_fingerprint(samples: Sequence[Sample], facts: Mapping[Path, FileFacts]) -> str:
    """Return the digest of the names and contents of the images, in order; the folder does not matter."""
    return digest([[sample.name, facts[sample.path].sha256] for sample in samples])


def category_fingerprint(category: Category, facts: Mapping[Path, FileFacts]) -> str:
    """Return the digest of everything that decides a score: training images, test images, defect labels and masks."""
    truth = [
        [sample.defect, None if sample.masks is None else [facts[mask].sha256 for mask in sample.masks]]
        for sample in category.test
    ]
    return digest([split_fingerprint(category.train, facts), split_fingerprint(category.test, facts), truth])


def _mask_problems(sample: Sample, facts: Facts) -> Iterator[str]:
    if sample.anomalous and sample.masks == ():
        yield f"no mask for image {sample.path}; add it to the ground truth or remove the image"
    for mask in sample.masks or ():
        image_facts, mask_facts = facts.get(sample.path), facts.get(mask)
        if image_facts and mask_facts and image_facts[1:] != mask_facts[1:]:  # height, width
            yield (f"mask {mask} has {mask_facts.width} x {mask_facts.height} pixels, its image {sample.path} has "
                   f"{image_facts.width} x {image_facts.height}; make them the same")  # fmt: skip


def _facts(path: Path, kind: str, *, memo: Memo, keep: Keep) -> FileFacts | str:
    """Return the facts of one file, or the message about its problem. Runs in threads.

    The memo's facts are valid while the file's size and modification time stay.
    """
    key = os.path.abspath(path)  # noqa: PTH100  resolve() would ask the disk for every part of the path
    try:
        status = path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        known = memo.get(key)
        if known and known[:2] == stamp:
            return FileFacts(*known[2:])
        data = path.read_bytes()  # once, for the digest and the decoder
        pixels: NDArray[Any] = read_mask(path, data) if kind == "mask" else read_image(path, data)
    except OSError as error:
        return str(unreadable(path, kind, error.strerror or str(error)))
    except DataError as error:
        return str(error)
    if kind == "image":
        keep(path, pixels)
    facts = FileFacts(hashlib.sha256(data).hexdigest(), *pixels.shape[:2])
    memo.put(key, [*stamp, *facts])
    return facts
