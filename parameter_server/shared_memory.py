"""One block of shared memory without a name, and the arrays that lie in it.

``memfd_create`` makes it and spawned children inherit the descriptor, so there is nothing in
``/dev/shm`` to leak, whoever dies. ``posix_fallocate`` reserves it, so a full machine is an error
here and not a SIGBUS at the first write. Where there is no memfd (macOS), an unlinked temporary
file does the same.
"""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from regatta.utils import RegattaError

CACHE_LINE = 64


class SharedMemory:
    """``size`` bytes shared with the processes that it is passed to when they are spawned."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._descriptor = _reserve(size)
        self._map = mmap.mmap(self._descriptor, size)

    def array(self, offset: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array that lies at ``offset``."""
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=offset).reshape(shape)

    def integers(self, offset: int, count: int) -> memoryview[int]:
        """``count`` int64 at ``offset``. Items of a view are Python numbers and cost a third of
        what indexing an array does."""
        return memoryview(self._map)[offset : offset + 8 * count].cast("q")

    def floats(self, offset: int, count: int) -> memoryview[float]:
        """``count`` float64 at ``offset``."""
        return memoryview(self._map)[offset : offset + 8 * count].cast("d")

    def __getstate__(self) -> tuple[Any, int]:
        return reduction.DupFd(self._descriptor), self.size

    def __setstate__(self, state: tuple[Any, int]) -> None:
        handle, self.size = state
        self._descriptor = handle.detach()
        self._map = mmap.mmap(self._descriptor, self.size)

    def close(self) -> None:
        """Close the descriptor. The memory goes when the last array over it does."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _reserve(size: int) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("regatta", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
    except OSError as error:
        os.close(descriptor)
        if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
            raise
        raise RegattaError(
            f"There is no room for {size / 1e6:.0f} MB of shared memory.",
            "Free some memory, or use fewer shards.",
        ) from None
    return descriptor


def aligned_empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An uninitialised array that starts on a cache line: the same sums in every process, and
    vector loads that never straddle two lines."""
    item = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * item.itemsize
    raw = np.empty(size + CACHE_LINE, dtype=np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + size].view(item).reshape(shape)
