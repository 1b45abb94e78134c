"""A large made-up CSV, written about as fast as the disk takes it.

Cells have a fixed width, so a block of rows is one table look-up: no number is formatted twice.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from regatta.utils import atomic_path

BLOCK_ROWS = 50_000
NOISE = 0.5
TARGET = "y"


def generate_demo(
    path: Path,
    rows: int = 5_000_000,
    features: int = 30,
    progress: Callable[[float], None] | None = None,
    *,
    seed: int = 0,
) -> Path:
    """Write a CSV with a linear target ``y`` of known difficulty (R² about 0.9).

    Parameters
    ----------
    progress : callable, optional
        Called with the share that is written, after every block of rows.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=features)
    weights *= np.sqrt(9 * NOISE**2 / (weights @ weights))
    with atomic_path(path, durable=False) as aside, aside.open("wb") as file:
        names = [f"x{index:02d}" for index in range(1, features + 1)]
        file.write((",".join([*names, TARGET]) + "\n").encode())
        for start in range(0, rows, BLOCK_ROWS):
            count = min(BLOCK_ROWS, rows - start)
            file.write(_block(rng, count, weights))
            if progress is not None:
                progress((start + count) / rows)
    return path


def _block(rng: np.random.Generator, rows: int, weights: npt.NDArray[np.float64]) -> bytes:
    features = len(weights)
    x = rng.standard_normal((rows, features), dtype=np.float32)
    codes = np.clip(x * 1500 + 5000, 0, 9999).astype(np.int32)  # thousandths, 5 ± 1.5
    y = (codes / 1000 - 5) / 1.5 @ weights + rng.normal(scale=NOISE, size=rows)
    target = np.clip(y * 1000 + 50_000, 0, 99_999).astype(np.int32)
    out = np.empty((rows, 6 * features + 7), np.uint8)
    out[:, : 6 * features] = _CELLS[codes].view(np.uint8).reshape(rows, -1)
    out[:, 6 * features :] = _TARGETS[target].view(np.uint8).reshape(rows, -1)
    return out.tobytes()


_CELLS = np.array([b"%d.%03d," % divmod(code, 1000) for code in range(10_000)], dtype="V6")
_TARGETS = np.array([b"%02d.%03d\n" % divmod(code, 1000) for code in range(100_000)], dtype="V7")
