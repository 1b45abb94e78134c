"""Whether a coordinator still does anything: a process that hangs holds its run's lock for ever.

A live coordinator is never idle for long: it looks at commands some times a second, also while
it is paused or waits for a disk. So the sign of life is the processor time that it has used, which
the kernel counts, in every phase and from outside. One that is stopped, or waits for a lock that
is never given back, uses none.
"""

from __future__ import annotations

import time

import psutil

# Below this share of a core its children only wait, for work that does not come.
BUSY_SHARE = 0.02
# Over so many seconds at least: the kernel counts hundredths, and a few fall together by chance.
BUSY_SECONDS = 5.0
# The kernel waits for a disk, or a debugger has it: neither is the coordinator's fault.
EXCUSED = {psutil.STATUS_DISK_SLEEP, psutil.STATUS_TRACING_STOP}


class Pulse:
    """When the coordinator with this process id was last seen to do anything.

    Time is that of `time.monotonic`: a machine that sleeps ages nobody.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._process = psutil.Process(pid)
        self._used = self._children_used = -1.0
        self._alive_at = self._looked_at = time.monotonic()

    def silence(self, longest_pause: float) -> float:
        """Look; seconds since the last sign of life.

        Where the last look is longer ago than ``longest_pause`` seconds the caller itself did not
        run, so nothing is said about the time between.

        Raises
        ------
        psutil.Error
            It is gone.
        """
        now = time.monotonic()
        if self._seems_alive() or now - self._looked_at > longest_pause:
            self._alive_at = now
            self._children_used = -1.0
        self._looked_at = now
        return now - self._alive_at

    def _seems_alive(self) -> bool:
        with self._process.oneshot():
            times, status = self._process.cpu_times(), self._process.status()
        used = times.user + times.system
        changed, self._used = used != self._used, used
        return changed or status in EXCUSED or self._children_work()

    def _children_work(self) -> bool:
        """Whether the children, which it may wait for, have worked since the last sign of life."""
        used = 0.0
        for child in self._process.children(recursive=True):
            try:
                if child.status() in EXCUSED:
                    return True
                times = child.cpu_times()
            except psutil.Error:
                continue
            used += times.user + times.system
        if self._children_used < 0.0:
            self._children_used = used
        share = (used - self._children_used) / max(BUSY_SECONDS, time.monotonic() - self._alive_at)
        return share > BUSY_SHARE
