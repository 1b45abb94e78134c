"""What a queued run may take of the machine, and who has taken more.

The supervisor looks once a second. It stands outside the run, so that a run which hangs or fills
the memory cannot keep it from looking. A run in the foreground is the terminal's own affair.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regatta.runs.directory import RunDirectory
from regatta.utils import number_from

MEMORY_SHARE = 0.9  # of what the machine, or the container, has
_CONTAINER_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


@dataclass(frozen=True)
class Excess:
    """What a run has too much of, in words."""

    message: str
    hint: str
    at_once: bool  # it cannot wait for the run to end by itself


@dataclass(frozen=True, kw_only=True)
class RunLimits:
    """What one run may take; 0: any amount.

    ``hours`` from the start of its coordinator, pauses too; ``memory`` of all its processes,
    without mapped files, and ``disk`` of its directory, in bytes.
    """

    hours: float = 168.0
    memory: float = 0.0
    disk: float = 20e9

    @classmethod
    def from_environment(cls) -> RunLimits:
        """``REGATTA_RUN_HOURS``, ``REGATTA_RUN_MEMORY_MB`` and ``REGATTA_RUN_DISK_MB``."""
        return cls(
            hours=number_from("REGATTA_RUN_HOURS", cls.hours),
            memory=1e6 * number_from("REGATTA_RUN_MEMORY_MB", MEMORY_SHARE * _memory_here() / 1e6),
            disk=1e6 * number_from("REGATTA_RUN_DISK_MB", cls.disk / 1e6),
        )

    def excess(self, directory: RunDirectory, pid: int) -> Excess | None:
        """What the run whose coordinator is ``pid`` has too much of, if anything."""
        import psutil  # the supervisor starts without it

        with contextlib.suppress(psutil.Error, OSError):
            coordinator = psutil.Process(pid)
            used = sum(map(_own_memory, [coordinator, *coordinator.children(recursive=True)]))
            if 0 < self.memory < used:
                return Excess(
                    f"It used {used / 1e6:,.0f} MB of memory; "
                    f"a run may use {self.memory / 1e6:,.0f} MB here.",
                    "Fewer workers need less; REGATTA_RUN_MEMORY_MB is the limit.",
                    at_once=True,
                )
            # Its lock was written down for it then; a spare may have been there for long before.
            hours = (time.time() - directory.lock_path.stat().st_mtime) / 3600
            if 0 < self.hours < hours:
                return Excess(
                    f"It worked for {hours:.3g} hours; a run may work for {self.hours:.3g} here.",
                    "Resume goes on from there; REGATTA_RUN_HOURS is the limit.",
                    at_once=False,
                )
            size = sum(_sizes(directory.path))
            if 0 < self.disk < size:
                return Excess(
                    f"Its directory holds {size / 1e6:,.0f} MB; "
                    f"a run may write {self.disk / 1e6:,.0f} MB here.",
                    "REGATTA_RUN_DISK_MB is the limit.",
                    at_once=False,
                )
        return None


def _memory_here() -> float:
    import psutil

    limits = [float(psutil.virtual_memory().total)]
    for path in _CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max" where there is none
            limits.append(float(path.read_text()))
    return min(limits)


def _own_memory(process: object) -> int:
    """Memory that ends with the process: neither mapped files nor what is shared."""
    import psutil

    assert isinstance(process, psutil.Process)
    try:
        memory = process.memory_info()
    except psutil.Error:  # it ended between the two looks
        return 0
    return int(memory.rss) - int(getattr(memory, "shared", 0))


def _sizes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield entry.stat(follow_symlinks=False).st_size
