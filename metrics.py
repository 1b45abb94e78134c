"""Figures: scores of a fit, throughput, and what psutil says of workers and machine."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

T = TypeVar("T")

# Sums of squares of float32 numbers differ by this share from rounding alone.
ROUNDING = 1e-6

_log = logging.getLogger("regatta.metrics")


@dataclass(frozen=True)
class Scores:
    """Sums over rows of one part of the data, residuals in units of the target's deviation."""

    rows: int
    loss_sum: float
    residual_sum: float
    squared_sum: float
    absolute_sum: float

    @property
    def loss(self) -> float:
        """Mean loss."""
        return self.loss_sum / self.rows

    @property
    def residual_variation(self) -> float:
        """Σ(r − r̄)² over the residuals r. At parameters of zero, the target's total squares.

        0 where the difference is rounding: the residuals are all the same, or there is one.
        """
        variation = self.squared_sum - self.residual_sum**2 / self.rows if self.rows else 0.0
        return variation if variation > ROUNDING * self.squared_sum else 0.0

    def in_units(self, target_scale: float, total_squares: float) -> dict[str, float | None]:
        """R², RMSE and MAE in the target's own units.

        Parameters
        ----------
        target_scale : float
            What the target was divided by.
        total_squares : float
            Σ(y − ȳ)² over the same rows, in divided units. R² is None where it is 0.
        """
        return {
            "r2": 1.0 - self.squared_sum / total_squares if total_squares > 0 else None,
            "rmse": target_scale * (self.squared_sum / self.rows) ** 0.5,
            "mae": target_scale * self.absolute_sum / self.rows,
        }


class Throughput:
    """Rows a second over about the last second, from a cumulative count."""

    WINDOW_SECONDS = 1.0

    def __init__(self, rows: int = 0, seconds: float = 0.0) -> None:
        self._marks = [(seconds, rows)]
        self.rows_per_second = 0.0

    def update(self, seconds: float, rows: int) -> float:
        """Take in that ``rows`` were done after ``seconds``; the rate over the window."""
        self._marks.append((seconds, rows))
        while len(self._marks) > 2 and seconds - self._marks[1][0] >= self.WINDOW_SECONDS:
            self._marks.pop(0)
        start, before = self._marks[0]
        if seconds > start:
            self.rows_per_second = (rows - before) / (seconds - start)
        return self.rows_per_second


class ProcessSampler:
    """CPU and memory of processes, between one look and the next."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def sample(self, pid: int) -> tuple[float, int]:
        """CPU since the last look (percent of one core), and memory of its own (bytes).

        The memory is anonymous and shared pages; mapped files do not count. (0, 0) once it is
        gone.
        """
        try:
            process = self._known.get(pid)
            if process is None:
                process = self._known[pid] = psutil.Process(pid)
            return process.cpu_percent(), own_memory(pid)
        except psutil.Error:
            self._known.pop(pid, None)
            return 0.0, 0


class MachineSampler:
    """CPU, memory, network and, where there is one, GPU of the machine."""

    def __init__(self) -> None:
        psutil.cpu_percent()
        self._gpu = _Gpu.find()

    def sample(self) -> dict[str, Any]:
        """A row of the table ``machine``, without its time."""
        memory, net = psutil.virtual_memory(), psutil.net_io_counters()
        gpu_percent, gpu_memory = self._gpu.sample() if self._gpu else (None, None)
        return {
            "cpu_percent": psutil.cpu_percent(),
            "memory_used": memory.total - memory.available,
            "memory_total": memory.total,
            "net_sent": net.bytes_sent if net else None,
            "net_received": net.bytes_recv if net else None,
            "gpu_percent": gpu_percent,
            "gpu_memory": gpu_memory,
        }


class _Gpu:
    """The first GPU, through the optional package nvidia-ml-py."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.nvmlInit()
        self._handle = library.nvmlDeviceGetHandleByIndex(0)

    @classmethod
    def find(cls) -> _Gpu | None:
        try:
            return cls(importlib.import_module("pynvml"))
        except ImportError:
            return None
        except Exception as error:  # the library's own errors: no driver, no device
            _log.info("There is no GPU to watch: %s.", error)
            return None

    def sample(self) -> tuple[float | None, int | None]:
        """Percent busy and bytes in use; ``None`` for what this GPU does not tell."""
        library, handle = self._library, self._handle
        busy = self._ask(lambda: float(library.nvmlDeviceGetUtilizationRates(handle).gpu))
        used = self._ask(lambda: int(library.nvmlDeviceGetMemoryInfo(handle).used))
        return busy, used

    def _ask(self, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except self._library.NVMLError:  # a part of a GPU, a virtual one, one that went away
            return None


def own_memory(pid: int) -> int:
    """Bytes of anonymous and shared memory of a process: RssAnon + RssShmem on Linux, elsewhere
    its resident set."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            kilobytes = [
                int(line.split()[1]) for line in file if line.startswith(("RssAnon:", "RssShmem:"))
            ]
        return 1024 * sum(kilobytes)
    except OSError:
        return int(psutil.Process(pid).memory_info().rss)


def bytes_from_disk(pid: int) -> int | None:
    """Bytes that a process has had read from disk, by mapped pages too; ``None`` where the system
    does not tell."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("read_bytes:"))
    except (OSError, StopIteration):
        return None


class Clock:
    """Seconds of training so far: goes on from ``before``, stands still while paused."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._since: float | None = None

    @property
    def is_running(self) -> bool:
        return self._since is not None

    def start(self) -> None:
        """Let it run."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Let it stand."""
        self._before = self.seconds
        self._since = None

    @property
    def seconds(self) -> float:
        return self.at(time.perf_counter())

    def at(self, moment: float) -> float:
        """What it showed at a moment (``time.perf_counter``) since it runs."""
        return self._before + (0.0 if self._since is None else max(0.0, moment - self._since))
