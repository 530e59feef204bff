"""The feature cache: one array file and one JSON sidecar per entry.

An entry appears whole or not at all (files are written beside and renamed, the sidecar last). Its checksum is verified before its
first use. The key holds everything that decides the features; the sidecar also records the names of the images, the split, the
seconds of the pass, and what may differ between machines: device kind and library versions.
"""

import json
import logging
import math
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from adbench.core.environment import CACHE_SETTINGS
from adbench.core.errors import DataError
from adbench.core.files import replacing, stamp, write_text
from adbench.features.view import View
from adbench.types import digest

log = logging.getLogger("adbench")
EXTRACTION_REVISION = 3  # of the extraction: grows when the same inputs give other features
_BLOCK = 1 << 24  # numbers of one step of a checksum
_STALE_S = 3600  # seconds: a temporary file untouched for longer belongs to no running process


class ArrayFile:
    """Appends batches (B, C, h, w) to one array file. A layer whose values float16 cannot represent becomes float32."""

    def __init__(self, file: IO[bytes], count: int, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = (count, *shape), np.dtype("float16" if dtype == "bfloat16" else dtype)
        self.rows, self.crc, self.file = 0, 0, file
        self._write_header()

    def append(self, batch: NDArray[np.floating]) -> None:
        """Add the features of the next images: float32, or float16 whose values are known to fit.

        Raise DataError if they are not finite.
        """
        if batch.dtype == np.float16:
            return self._write(np.ascontiguousarray(batch, self.dtype))
        import torch  # casts four times as fast as numpy; looking entries up needs none

        values = torch.from_numpy(batch).contiguous()
        least, most = (float(bound) for bound in values.aminmax())  # NaN if any value is
        if not (math.isfinite(least) and math.isfinite(most)):
            raise DataError("features are not finite; choose other weights or another layer")
        if self.dtype == np.float16 and max(-least, most) > float(np.finfo(np.float16).max):
            self._widen()
        return self._write((values.half() if self.dtype == np.float16 else values).numpy())

    def _write_header(self) -> None:
        self.file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self.file, header)

    def _write(self, batch: NDArray[np.floating]) -> None:
        self.file.write(batch.data)
        self.crc, self.rows = zlib.crc32(batch.data, self.crc), self.rows + len(batch)

    def _widen(self) -> None:
        start = self.file.seek(0, os.SEEK_END) - self.rows * math.prod(self.shape[1:]) * 2
        self.file.seek(start)
        written = np.frombuffer(self.file.read(), np.float16).reshape(self.rows, *self.shape[1:])
        self.dtype, self.rows, self.crc = np.dtype(np.float32), 0, 0
        self._write_header()
        self._write(written.astype(np.float32))


@dataclass(frozen=True)
class CacheKey:
    """Everything that decides the features of one layer over one split."""

    images: str  # fingerprint of the split's images
    backbone: str
    weights_sha256: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    view: View
    layer: str
    dtype: str
    revision: int = EXTRACTION_REVISION

    @property
    def name(self) -> str:
        return digest(self.record())

    def record(self) -> dict[str, Any]:
        """Return the fields by name, those of the view among them."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "view"}
        return values | self.view.record()


@dataclass(frozen=True)
class CacheEntry:
    """Features on disk. array: (N, C, h, w) memory map; sidecar: what the entry was made from and at what cost."""

    path: Path
    array: NDArray[np.floating]
    sidecar: dict[str, Any]


class FeatureCache:
    """Entries in one folder. Processes may share it: an entry that exists is never overwritten."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._verified: set[tuple[str | int, ...]] = set()

    def path(self, key: CacheKey) -> Path:
        """Return the path of the array of `key`, whether it exists or not."""
        return self.folder / f"{key.name}.npy"

    def sidecar(self, key: CacheKey) -> Path:
        """Return the path of the sidecar of `key`. It is written last: if it exists, so does the entry."""
        return self.path(key).with_suffix(".json")

    def read(self, key: CacheKey) -> CacheEntry | None:
        """Return the entry, or None on a cache miss. A damaged entry is reported and deleted, and counts as a miss."""
        path, side = self.path(key), self.sidecar(key)
        if not side.is_file():
            return None
        try:
            sidecar = json.loads(side.read_text(encoding="utf-8"))
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if digest(sidecar["key"]) != key.name or list(array.shape) != sidecar["shape"]:
                raise ValueError("made from something else")
            state = _stamp(path)
            if state not in self._verified and _checksum(array) != sidecar["crc32"]:
                raise ValueError("checksum differs")
            self._verified.add(state)
        except Exception as error:  # a damaged header makes numpy raise errors of any kind
            log.warning("cache entry %s is damaged (%s); it is deleted and made again", path.name, error)
            self._delete(side)
            return None
        with suppress(OSError):  # another user's, or pruned just now
            os.utime(side)  # the time of last use, for prune
        return CacheEntry(path, array, sidecar)

    @contextmanager
    def writing(self, keys: dict[str, CacheKey], count: int, facts: dict[str, Any]) -> Iterator["CacheWriters"]:
        """Yield writers for several layers of one pass; each entry appears, whole, at the end of the block."""
        with ExitStack() as stack:
            writers = CacheWriters(stack, self, keys, count)
            started = time.perf_counter()
            yield writers
            seconds = time.perf_counter() - started
            writers.finish()
        facts = facts | {"seconds": seconds, "layers_in_pass": len(keys)}
        for layer, key in keys.items():
            writer = writers.by_layer[layer]
            made = {"key": key.record(), "shape": list(writer.shape), "dtype": writer.dtype.name, "crc32": writer.crc}
            if not self.sidecar(key).is_file():
                write_text(self.sidecar(key), json.dumps(made | facts, indent=1))
                self._verified.add(_stamp(self.path(key)))

    def entries(self) -> list[tuple[Path, int, float]]:
        """Return (sidecar, bytes of both files, time of last use) of every entry, the least recently used first."""
        pairs = [(side, side.with_suffix(".npy")) for side in self.folder.glob("*.json")]
        found = [(s, s.stat().st_size + array.stat().st_size, s.stat().st_mtime) for s, array in pairs if array.is_file()]
        return sorted(found, key=lambda entry: (entry[2], entry[0].name))

    def describe(self) -> list[dict[str, Any]]:
        """Return a description of each entry, the least recently used first."""
        found = []
        for side, size, _ in self.entries():
            sidecar = json.loads(side.read_text(encoding="utf-8"))
            key = {name: sidecar["key"][name] for name in ("backbone", "weights_sha256", "layer", "image_size")}
            rest = {name: sidecar[name] for name in ("split", "shape", "dtype")}
            found.append({"path": str(side.with_suffix(".npy")), "bytes": size, **key, **rest})
        return found

    def prune(self, max_bytes: int) -> tuple[int, int]:
        """Delete leftovers of killed runs, then the least recently used entries until the rest fits `max_bytes`.

        Return how many files or entries, and bytes, were deleted.
        """
        orphans = [path for path in self.folder.glob("*.npy") if not path.with_suffix(".json").is_file()]
        # a running process may be writing a younger file
        remains = [path for path in (*self.folder.glob(".*.tmp"), *orphans) if time.time() - path.stat().st_mtime > _STALE_S]
        count, freed = len(remains), sum(path.stat().st_size for path in remains)
        for path in remains:
            path.unlink(missing_ok=True)
        entries = self.entries()
        excess = sum(size for _, size, _ in entries) - max_bytes
        for side, size, _ in entries:
            if excess <= 0:
                break
            self._delete(side)
            count, freed, excess = count + 1, freed + size, excess - size
        return count, freed

    def evict(self, keys: Iterable[CacheKey], max_bytes: int) -> None:
        """Delete the entries of `keys`, one by one, while the whole cache is larger than `max_bytes`.

        Open readers keep their memory map; later lookups miss and extract again.
        """
        excess = sum(size for _, size, _ in self.entries()) - max_bytes
        for key in keys:
            if excess > 0 and self.path(key).is_file():
                excess -= self.path(key).stat().st_size
                self._delete(self.sidecar(key))

    @staticmethod
    def _delete(side: Path) -> None:
        """Delete an entry, its sidecar first: an array without one is no entry."""
        side.unlink(missing_ok=True)
        side.with_suffix(".npy").unlink(missing_ok=True)


class CacheWriters:
    """The open array files of one pass, made when the first batch comes with the shapes."""

    def __init__(self, stack: ExitStack, cache: FeatureCache, keys: dict[str, CacheKey], count: int) -> None:
        self._stack, self._cache, self._keys, self._count = stack, cache, keys, count
        self.by_layer: dict[str, ArrayFile] = {}
        self._pool = stack.enter_context(ThreadPoolExecutor(len(keys)))

    def append(self, batch: Mapping[str, NDArray[np.floating]]) -> None:
        """Add the features (B, C, h, w) of the next images, by layer, each layer in a thread of its own."""
        for layer, maps in batch.items():
            if layer not in self.by_layer:
                self.by_layer[layer] = self._open(self._keys[layer], maps.shape[1:])
        appended = [self._pool.submit(self._append, layer, maps) for layer, maps in batch.items()]
        wait(appended)  # for all, even if one fails: only then may the files be closed
        for outcome in appended:
            outcome.result()

    def _open(self, key: CacheKey, shape: tuple[int, ...]) -> ArrayFile:
        exists = self._cache.sidecar(key).is_file
        # no fsync: after a power cut the checksum finds what is lost, and it is extracted again
        temporary = self._stack.enter_context(replacing(self._cache.path(key), unless=exists, durable=False, by=CACHE_SETTINGS))
        return ArrayFile(self._stack.enter_context(temporary.open("wb+")), self._count, shape, key.dtype)

    def _append(self, layer: str, batch: NDArray[np.floating]) -> None:
        try:
            self.by_layer[layer].append(batch)
        except DataError as error:
            raise DataError(f"layer '{layer}' of {self._keys[layer].backbone}: {error}") from error

    def finish(self) -> None:
        """Flush all files and check that every image has its features."""
        for layer, writer in self.by_layer.items():
            if writer.rows != self._count:
                raise ValueError(f"layer '{layer}': {writer.rows} of {self._count} images written")
            writer.file.flush()


def _stamp(path: Path) -> tuple[str | int, ...]:
    return path.name, *stamp(path)


def _checksum(array: NDArray[np.floating]) -> int:
    flat, crc = array.reshape(-1), 0
    for start in range(0, flat.size, _BLOCK):
        crc = zlib.crc32(flat[start : start + _BLOCK].tobytes(), crc)
    return crc
