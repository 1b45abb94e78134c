"""Contenders as child processes, and the memory that a tree of processes holds.

    measuring process ──{"do": …} a line──▶ contender, which sleeps between its orders
                      ◀──answer, a line────

What is timed is timed by the contender itself; this side only watches memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

# Memory is looked at so often; but where time is measured, too, so rarely that looking takes no
# more than a fiftieth of it.
SAMPLE_SECONDS, SAMPLE_SHARE = 0.02, 0.02


class ContenderProcess:
    """A contender that waits for orders."""

    def __init__(self, name: str, folder: Path, module: str = "_contenders") -> None:
        self.name = name
        module = f"regatta.benchmarks.{module}"
        command = [sys.executable, "-P", "-m", module, name, str(folder)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._read()

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send an order and wait for its answer."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: reading tells how
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return self._read()

    def peak_bytes(self, **order: Any) -> int:
        """The most memory that its processes held during an order."""
        return self.ask_measured(**order)[1]

    def ask_measured(self, **order: Any) -> tuple[dict[str, Any], int]:
        """The answer to an order, and the most memory that was held meanwhile."""
        with peak_of(self._process.pid) as peak:
            answer = self.ask(**order)
        return answer, peak[0]

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The contender {self.name} ended: {self._process.wait()}.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> ContenderProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def peak_of(pid: int, *, share: float = SAMPLE_SHARE) -> Iterator[list[int]]:
    """Sample `memory_of_tree`, which may take a share of the time; the list's one number is the
    most that was seen."""
    peak, done = [memory_of_tree(pid)], threading.Event()

    def watch() -> None:
        wait = SAMPLE_SECONDS
        while not done.wait(wait):
            start = time.perf_counter()
            peak[0] = max(peak[0], memory_of_tree(pid))
            wait = max(SAMPLE_SECONDS, (time.perf_counter() - start) / share)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def memory_of_tree(pid: int) -> int:
    """Bytes of anonymous and shared memory of a process and its descendants, without mapped files.
    What several of them share counts once."""
    members = [pid, *_descendants(pid)]
    if len(members) == 1:
        return _fields(pid, "status", "RssAnon", "RssShmem")
    # Takes a millisecond for 100 MB, as the kernel looks at each page.
    return sum(_fields(each, "smaps_rollup", "Pss_Anon", "Pss_Shmem") for each in members)


def _descendants(pid: int) -> list[int]:
    """Read from the process itself: searching all processes fifty times a second would take a
    fifth of a core from those that are measured."""
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(word) for words in lists for word in words.split()]
    return children + [other for child in children for other in _descendants(child)]


def _fields(pid: int, file: str, *names: str) -> int:
    """The sum of some fields of a file of /proc, in bytes; 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return 1024 * sum(int(fields.get(name, "0").split()[0]) for name in names)


def run_measured(
    *words: str, home: Path, share: float = SAMPLE_SHARE
) -> tuple[dict[str, Any], int]:
    """Run ``python -P words``, which prints JSON; what it says, and its peak memory, `peak_of`."""
    process = subprocess.Popen(
        [sys.executable, "-P", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"REGATTA_HOME": str(home)},
    )
    with peak_of(process.pid, share=share) as peak:
        text, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"A measured process ended with {process.returncode}.")
    answer: dict[str, Any] = json.loads(text)
    return answer, peak[0]


def serve(contender: object) -> None:
    """Answer orders from standard input until it ends: ``do`` names a method."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(contender, order.pop("do"))(**order)
        print(json.dumps(answer), flush=True)
