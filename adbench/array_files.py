"""One array on disk that grows batch by batch, in numpy's file format, with its checksum."""

import math
import os
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray

from adbench.errors import DataError


class ArrayFile:
    """Appends batches (B, C, h, w) to one array file; a layer that float16 cannot hold is widened to float32."""

    def __init__(self, file: IO[bytes], count: int, shape: tuple[int, int, int], dtype: str) -> None:
        self.shape, self.dtype = (count, *shape), np.dtype("float16" if dtype == "bfloat16" else dtype)
        self.rows, self.crc, self._file = 0, 0, file
        self._write_header()

    def append(self, batch: NDArray[np.floating]) -> None:
        """Add the features of the next images, float32, or float16 that has been found to hold them.

        Raise DataError if they are not finite.
        """
        if batch.dtype == np.float16:
            return self._write(np.ascontiguousarray(batch, self.dtype))
        import torch  # casts four times as fast as numpy; what only looks entries up needs none

        values = torch.from_numpy(batch).contiguous()
        least, most = (float(bound) for bound in values.aminmax())  # not a number if any value is none
        if not (math.isfinite(least) and math.isfinite(most)):
            raise DataError("features are not finite; choose other weights or another layer")
        if self.dtype == np.float16 and max(-least, most) > float(np.finfo(np.float16).max):
            self._widen()
        return self._write((values.half() if self.dtype == np.float16 else values).numpy())

    def _write_header(self) -> None:
        self._file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def _write(self, batch: NDArray[np.floating]) -> None:
        self._file.write(batch.data)
        self.crc, self.rows = zlib.crc32(batch.data, self.crc), self.rows + len(batch)

    def _widen(self) -> None:
        self._file.flush()
        start = self._file.seek(0, os.SEEK_END) - self.rows * int(np.prod(self.shape[1:])) * 2
        self._file.seek(start)
        written = np.frombuffer(self._file.read(), np.float16).reshape(self.rows, *self.shape[1:])
        self.dtype, self.rows, self.crc = np.dtype(np.float32), 0, 0
        self._write_header()
        self._write(written.astype(np.float32))
