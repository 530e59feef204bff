"""Check every file of a dataset before any work: report all problems at once and return a digest of every file."""

import hashlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from adbench.core.errors import DataError, UsageError
from adbench.core.files import stamp
from adbench.core.memo import Memo
from adbench.data.images import Range, decode_image, decode_mask, unfit, unreadable, white_of
from adbench.types import Category, OnStep, Sample, digest, ignore_step

log = logging.getLogger("adbench")
_SHOWN = 10  # problems named in a message
REMARKS = {
    "pages": "have several pages; only the first is read",
    "frames": "have several frames; only the first is read",
    "channels": "have more channels than colors; only the colors are read",
    "soft": "have soft edges or lossy compression: values above half of the mask's maximum count as defective",
    "alpha": "are drawn in alpha: visible pixels count as defective",
    "levels": "have 3 to 16 gray levels: any value above 0 counts as defective; if these are soft edges, save black and white",
}
_CLIPPED = "have values outside of the stated range, {:g} to {:g}: they are read as black or white"
_OTHER_PIXELS = ("soft", "alpha")  # older versions read other pixels from such masks
_said: set[tuple[str, Path]] = set()  # by this process: what was said, and of which first file


class FileFacts(NamedTuple):
    """An image or mask file: the SHA-256 of its bytes, its upright size in pixels, how it was read (see `images.Decoded`)."""

    sha256: str
    height: int
    width: int
    remark: str = ""
    deep: tuple[float, float, float] | None = None

    @property
    def brightest(self) -> float | None:
        """The highest value of an image of more than 8 bits per channel, as a share of white."""
        return self.deep[1] / self.deep[2] if self.deep else None

    @property
    def identity(self) -> str:
        """What decides the pixels: the digest, and how they are read if that has changed."""
        deep = "" if self.deep is None else "-levels"  # older versions rounded to 8 bits
        return f"{self.sha256}-{self.remark}{deep}" if self.remark in _OTHER_PIXELS else f"{self.sha256}{deep}"


Facts = dict[Path, FileFacts]
Keep = Callable[[Path, NDArray[np.uint8]], None]


def check_files(
    categories: Sequence[Category],
    memo_file: Path | None = None,
    on_step: OnStep = ignore_step,
    keep: Keep = lambda path, image: None,
    verify: bool = False,
) -> Facts:
    """Decode and hash every image and mask, compare the masks' sizes with their images', and return the files' facts.

    memo_file: JSON with the facts by path and stamp, so that a second call decodes nothing, unless it is to `verify` them.
    keep: called with each image that is decoded, (H, W, 3), in one of several threads.
    Raises one DataError with the number of problems and the first ten.
    """
    samples = [sample for c in categories for sample in (*c.train, *c.validation, *c.test)]
    files = {path: "mask" if path != s.path else "image" for s in samples for path in (s.path, *(s.masks or ()))}
    memo = Memo(memo_file, "stamp, SHA-256, height, width, remark, values of deep images")
    facts: Facts = {}
    problems = []
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        found = pool.map(partial(_facts, memo=memo, keep=keep, verify=verify), files, files.values())
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
        [sample.defect, None if sample.masks is None else [facts[mask].identity for mask in sample.masks]]
        for sample in category.test
    ]
    return digest([split_fingerprint(category.train, facts), split_fingerprint(category.test, facts), truth])


def _mask_problems(sample: Sample, facts: Facts) -> Iterator[str]:
    if sample.anomalous and sample.masks == ():
        yield f"no mask for image {sample.path}; add it to the ground truth or remove the image"
    for mask in sample.masks or ():
        image_facts, mask_facts = facts.get(sample.path), facts.get(mask)
        if image_facts and mask_facts and image_facts[1:3] != mask_facts[1:3]:  # height, width
            yield (f"mask {mask} has {mask_facts.width} x {mask_facts.height} pixels, its image {sample.path} has "
                   f"{image_facts.width} x {image_facts.height}; make them the same")  # fmt: skip


def check_values(categories: Sequence[Category], facts: Facts, stated: Range | None) -> None:
    """Raise DataError for images whose values fit no range that is known, UsageError for a stated range that fits no image."""
    samples = (sample for c in categories for sample in (*c.train, *c.validation, *c.test))
    deep = {sample.path: values for sample in samples if (values := facts[sample.path].deep)}
    if stated:
        low, high = stated
        if not deep:
            raise UsageError(f"value_range {low:g}, {high:g}: no image has more than 8 bits per channel; leave it out")
        if all(highest <= low or lowest >= high for lowest, highest, _ in deep.values()):
            ends = min(values[0] for values in deep.values()), max(values[1] for values in deep.values())
            raise UsageError(
                "value_range {:g}, {:g}: all images would be black or white; their values are from {:g} to {:g}".format(
                    *stated, *ends
                )
            )
        return
    problems = [str(unreadable(path, "image", why)) for path, values in deep.items() if (why := unfit(*values))]
    if problems:
        raise DataError(problems[0] + f" | and {len(problems) - 1} more such images" * (len(problems) > 1))


def warn_of_remarks(category: Category, facts: Facts, stated: Range | None = None) -> None:
    """Log a warning for each thing that a user should know of how the category's files were read, once in a process.

    stated: the values of black and white in images of more than 8 bits, if the user has said them.
    """
    samples = (*category.train, *category.validation, *category.test)
    files = {
        "images": list(dict.fromkeys(sample.path for sample in samples)),
        "masks": list(dict.fromkeys(mask for sample in samples for mask in sample.masks or ())),
    }
    where = f"category '{category.name}': " if category.name else ""
    for kind, paths in files.items():
        texts = {text: [path for path in paths if facts[path].remark == remark] for remark, text in REMARKS.items()}
        deep = [path for path in paths if facts[path].brightest is not None]
        if stated and kind == "images":
            texts[_CLIPPED.format(*stated)] = [path for path in deep if _beyond(facts[path], stated)]
        elif kind == "images":
            texts[_range([facts[path].brightest or 0 for path in deep])] = deep
        for text, found in texts.items():
            if found and text and (text, found[0]) not in _said:
                _said.add((text, found[0]))
                log.warning("%s%d of %d %s %s; e.g. %s", where, len(found), len(paths), kind, text, found[0])


def _beyond(facts: FileFacts, stated: Range) -> bool:
    return facts.deep is not None and (facts.deep[0] < stated[0] or facts.deep[1] > stated[1])


def _range(brightest: Sequence[float]) -> str:
    """Return what to say of images with these highest values, as shares of white; "" if they use their range."""
    share = white_of(brightest)
    if not brightest or share == 1:
        return ""
    return (f"have more than 8 bits per channel but use only {100 * max(brightest):.2g} % of the range: {100 * share:.2g} % "
            "of it is read as white")  # fmt: skip


def _facts(path: Path, kind: str, *, memo: Memo, keep: Keep, verify: bool) -> FileFacts | str:
    """Return the facts of one file, or the message about its problem. Runs in threads.

    The memo's facts are valid while the file's stamp stays. An image is read in another way than a mask.
    """
    key = os.path.abspath(path)  # noqa: PTH100  resolve() would ask the disk for every part of the path
    try:
        state = [kind, *stamp(path)]
        known = None if verify else memo.get(key)
        if known and known[0] == state:
            return FileFacts(*known[1:])
        data = path.read_bytes()  # once, for the digest and the decoder
        found = decode_mask(path, data) if kind == "mask" else decode_image(path, data)
    except OSError as error:
        return str(unreadable(path, kind, error.strerror or str(error)))
    except DataError as error:
        return str(error)
    if kind == "image" and found.deep is None:
        keep(path, found.pixels)
    height, width = found.pixels.shape[:2]
    facts = FileFacts(hashlib.sha256(data).hexdigest(), height, width, found.remark, found.deep)
    memo.put(key, [state, *facts])
    return facts
