"""Processes that parse: each takes calls through a pipe and answers them, until the pipe closes.

    importing process ──(function, arguments)──▶ child
           │          ◀──("done", result) or ("failed", error)──
           └──── starts and ends ───▶ mother ──── forks ───▶ each child

The mother is started as ``python -P -m regatta.ingest.child PIPES MODULES``, not as a fork or a
spawn of the caller: the caller's main module (a page, a notebook) is not run again, and no thread
is inherited. She imports what the children need, once, and they share that memory with her.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from multiprocessing.connection import Connection, Pipe, wait
from queue import SimpleQueue
from typing import Any

from regatta.utils import BLAS_THREAD_VARIABLES, RegattaError

ENVIRONMENT = dict.fromkeys(BLAS_THREAD_VARIABLES, "1") | {
    # The buffers of one chunk serve the next: giving pages back to the system and touching new
    # ones for every chunk took as long as parsing. One arena keeps the whole flat.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
    # An allocator that pyarrow brings starts a thread, and a process with threads must not fork.
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}


# Seconds that processes have to end when they are asked to.
PATIENCE = 5.0


class Child:
    """A parsing process, seen from the importing one. Calls are answered in their order."""

    def __init__(self, pool: ChildPool, pipe: Connection, index: int) -> None:
        self.pool, self.pipe, self.index = pool, pipe, index

    @property
    def pid(self) -> int:
        return self.pool.pids[self.index]

    def call(self, function: str, *arguments: Any) -> None:
        """Start a call: ``function`` is ``module:name``; names on one object share its state."""
        try:
            self.pipe.send((function, arguments))
        except OSError:
            raise self._died() from None

    def result(self) -> Any:
        """Wait for the first call not yet answered and return what it returned, or raise its
        error."""
        try:
            word, value = self.pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if word == "failed":
            if isinstance(value, RegattaError | OSError):
                raise value
            raise RegattaError(
                f"A process that reads the file failed: {value.strip().splitlines()[-1]}.",
                "This is a defect; the log holds the details.",
            ) from RuntimeError(value)
        return value

    def _died(self) -> RegattaError:
        code = self.pool.exit_code(self.index)
        return RegattaError(
            f"A process that reads the file ended early (exit code {code}).",
            "The machine may be short of memory; try again.",
        )


class ChildPool:
    """Parsing processes that are started, and end, together.

    ``modules`` are those that their calls will need: they are imported while nobody waits yet.
    """

    def __init__(self, count: int, *modules: str) -> None:
        pipes = [Pipe() for _ in range(count)]
        theirs = [pipe.fileno() for _, pipe in pipes]
        self.children = [Child(self, pipe, index) for index, (pipe, _) in enumerate(pipes)]
        self._mother: subprocess.Popen[str] | None = None
        if count:
            words = [",".join(map(str, theirs)), *modules]
            self._mother = subprocess.Popen(
                [sys.executable, "-P", "-m", "regatta.ingest.child", *words],
                pass_fds=theirs,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ENVIRONMENT,
            )
        for _, pipe in pipes:
            pipe.close()

    @functools.cached_property
    def pids(self) -> list[int]:
        """Of all processes that were started; none if their mother died before."""
        return [int(word) for word in self._told().split()]

    def exit_code(self, index: int) -> int | None:
        """Wait for the end of a process: its exit code, or that of the mother if she died."""
        if index < len(self.pids):
            while line := self._told():
                pid, code = map(int, line.split())
                if pid == self.pids[index]:
                    return code
        return self._mother.wait() if self._mother else None

    def keep(self, count: int) -> None:
        """Have all but ``count`` end, when they have done what they were called for."""
        self.children, others = self.children[:count], self.children[count:]
        for child in others:
            child.pipe.close()

    def stop(self) -> None:
        """Have all end, whatever they do, without waiting for it."""
        self.keep(0)
        if self._mother and self._mother.stdin:
            self._mother.stdin.close()

    def close(self) -> None:
        """End all, and wait for it."""
        self.stop()
        if not self._mother:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._mother.wait(timeout=PATIENCE)
        if self._mother.returncode != 0:  # then she did not see to it
            self._mother.kill()
            for pid in self.pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._mother.wait()
        if self._mother.stdout:
            self._mother.stdout.close()
        self._mother = None

    def _told(self) -> str:
        """A line from the mother: of the processes, then of each that ends with its exit code."""
        return self._mother.stdout.readline() if self._mother and self._mother.stdout else ""


def ready(children: Sequence[Child], timeout: float | None = None) -> list[Child]:
    """The children that have answered, or ended."""
    by_pipe = {child.pipe: child for child in children}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe), timeout)]  # type: ignore[index]


# -- in the mother --------------------------------------------------------------------------------


def fork_for(pipes: Sequence[int]) -> None:
    """Fork a child for each pipe, tell which and how they end, until all have; kill those that
    are left when standard input closes."""
    gc.freeze()  # or the collector would write to what is shared
    children = [_forked(pipe, pipes) for pipe in pipes]
    for pipe in pipes:
        os.close(pipe)
    living = set(children)
    threading.Thread(target=_kill_at_the_end, args=(living,), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):
        print(*children, flush=True)
    while living:
        pid, status = os.wait()
        living.discard(pid)
        with contextlib.suppress(BrokenPipeError):
            print(pid, os.waitstatus_to_exitcode(status), flush=True)
    os._exit(0)  # nothing is left to be tidied up


def _kill_at_the_end(living: set[int]) -> None:
    os.read(sys.stdin.fileno(), 1)
    for pid in list(living):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _forked(pipe: int, pipes: Sequence[int]) -> int:
    """The number of a new child that serves a pipe, and never returns."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        for other in set(pipes) - {pipe}:
            os.close(other)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, sys.stdin.fileno())
        os.dup2(nothing, sys.stdout.fileno())
        serve(Connection(pipe))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas where it can, to know its objects when it meets them. Here it meets
    none, and the import would take as long as parsing 25 MB."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not in this process", name=name)


# -- in a child -----------------------------------------------------------------------------------


def serve(pipe: Connection) -> None:
    """Answer calls, one after the other, until the other end of the pipe is closed.

    They are taken from the pipe at once, so that nobody has to wait to make one.
    """
    calls: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_take, args=(pipe, calls), daemon=True).start()
    state: dict[str, Any] = {}
    while call := calls.get():
        function, arguments = call
        module, name = function.split(":")
        try:
            answer = ("done", getattr(importlib.import_module(module), name)(state, *arguments))
        except (RegattaError, OSError) as error:
            answer = ("failed", error)
        except Exception:
            answer = ("failed", traceback.format_exc())
        try:
            pipe.send(answer)
        except OSError:
            return


def _take(pipe: Connection, calls: SimpleQueue[Any]) -> None:
    """Take calls from a pipe; ``None`` is the last, and ends the process."""
    try:
        while True:
            calls.put(pipe.recv())
    except (EOFError, OSError):
        pass
    finally:
        calls.put(None)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.meta_path.insert(0, _WithoutPandas())
    for module in sys.argv[2:]:
        with contextlib.suppress(Exception):  # who calls it is told
            importlib.import_module(module)
    fork_for([*map(int, sys.argv[1].split(","))])
