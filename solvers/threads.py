"""Parts of the rows summed or fitted at once, on threads.

What takes long runs in C and lets other threads run. Each part is computed as it would be alone,
and results come in the order of the parts, so threads change no byte.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import ThreadpoolController

from regatta.utils import available_cores

Part = TypeVar("Part")
Result = TypeVar("Result")

# With fewer features a fit spends its time in Python, where only one thread can be.
FIT_FEATURES = 200
# A fit holds its statistics, what they are about the mean, and what it descends on; so many bytes
# are held by all threads together, or by one.
MATRICES = 3
FIT_BYTES = 1 << 30


def for_fits(count: int, n_features: int) -> int:
    """Threads for ``count`` fits on matrices of moments."""
    if n_features < FIT_FEATURES:
        return 1
    room = FIT_BYTES // (MATRICES * 8 * n_features**2)
    return max(1, min(count, available_cores(), room))


@contextlib.contextmanager
def mapping(
    threads: int,
) -> Iterator[Callable[[Callable[[Part], Result], Iterable[Part]], Iterator[Result]]]:
    """``map``, on so many threads. BLAS has one for each of them meanwhile: several would wait for
    each other after every product."""
    if threads <= 1:
        yield map
        return
    with _blas().limit(limits=1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        yield pool.map


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
