"""Processes that parse: each takes calls through a pipe and answers them, until the pipe closes.

    importing process ──(function, arguments)──▶ child
           │          ◀──("done", result, bytes) or ("failed", error, bytes)──
           └──── starts and ends ───▶ mother ──── forks ───▶ each child

The mother is started as ``python -P -m regatta.ingest.child PIPES MODULES``, not as a fork or a
spawn of the caller: the caller's main module (a page, a notebook) is not run again, and no thread
is inherited. She imports what the children need, once, and they share that memory with her.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import importlib
import os
import resource
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
    """A parsing process, seen from the importing one. Calls are answered in their order.

    ``held`` is the most memory that it has taken for itself by its last answer, in bytes.
    """

    def __init__(self, pool: ChildPool, pipe: Connection, index: int) -> None:
        self.pool, self.pipe, self.index = pool, pipe, index
        self.held = 0

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
            word, value, self.held = self.pipe.recv()
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
        told = "" if code is None else f" (exit code {code})"
        return RegattaError(
            f"A process that reads the file ended early{told}.",
            "The machine may be short of memory; try again.",
        )


class ChildPool:
    """Parsing processes that are started, and end, together.

    ``modules`` are those that their calls will need: they are imported while nobody waits yet.
    """

    def __init__(self, count: int, *modules: str) -> None:
        pipes = [_pipe() for _ in range(count)]
        self.children = [Child(self, pipe, index) for index, (pipe, _) in enumerate(pipes)]
        self._mother: subprocess.Popen[bytes] | None = None
        self._codes: dict[int, int] = {}  # of processes that have ended
        if not count:
            return
        self._orders, theirs = _pipe()
        pipes.append((self._orders, theirs))
        descriptors = [pipe.fileno() for _, pipe in pipes]
        words = [",".join(map(str, descriptors)), *modules]
        self._mother = subprocess.Popen(
            [sys.executable, "-P", "-m", "regatta.ingest.child", *words],
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=os.environ | ENVIRONMENT,
        )
        for _, pipe in pipes:
            pipe.close()

    @functools.cached_property
    def pids(self) -> list[int]:
        """Of all processes that could be started; none if their mother died before."""
        try:
            found: list[int] = self._orders.recv()
        except (EOFError, OSError):
            return []
        return found

    def started(self, timeout: float) -> bool:
        """Wait until the processes are there; if some could not be started, go on with the
        others."""
        if self.children and "pids" not in self.__dict__:
            if not self._orders.poll(timeout):
                return False
            self.keep(max(1, len(self.pids)))  # of none, the first call tells why
        return True

    def exit_code(self, index: int) -> int | None:
        """How a process ended, or, where they could not be told apart, their mother."""
        if index >= len(self.pids):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._mother.wait(PATIENCE) if self._mother else None
            return None
        pid = self.pids[index]
        with contextlib.suppress(EOFError, OSError):
            while pid not in self._codes and self._orders.poll(PATIENCE):
                self._codes.update([self._orders.recv()])
        return self._codes.get(pid)

    def keep(self, count: int) -> None:
        """Have all but ``count`` end, when they have done what they were called for."""
        self.children, others = self.children[:count], self.children[count:]
        for child in others:
            child.pipe.close()

    def stop(self) -> None:
        """Have all end, whatever they do, without waiting for it."""
        self.keep(0)
        if self._mother and not self._orders.closed:
            if not ("pids" in self.__dict__ or self._orders.poll()):
                self.pids = []  # not told yet: those that are forked from now on end by themselves
            _ = self.pids  # nobody can be asked for them any more
            self._orders.close()

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
        self._mother = None


def _pipe() -> tuple[Connection, Connection]:
    """Two ends, the second beyond the standard streams, which a process may start without."""
    ours, theirs = Pipe()
    if theirs.fileno() > 2:
        return ours, theirs
    beyond = Connection(fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))
    theirs.close()
    return ours, beyond


def ready(children: Sequence[Child], timeout: float | None = None) -> list[Child]:
    """The children that have answered, or ended."""
    by_pipe = {child.pipe: child for child in children}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe), timeout)]  # type: ignore[index]


# -- in the mother --------------------------------------------------------------------------------


def fork_for(pipes: Sequence[int], orders: Connection) -> None:
    """Fork a child for each pipe, tell which they are and how they end, until all have; kill those
    that are left when the other end of ``orders`` is closed."""
    gc.freeze()  # or the collector would write to what is shared
    children: list[int] = []
    with contextlib.suppress(OSError):  # as many as there may be
        for pipe in pipes:
            children.append(_forked(pipe, [*pipes, orders.fileno()]))
    for pipe in pipes:
        os.close(pipe)
    living = set(children)
    threading.Thread(target=_kill_at_the_end, args=(living, orders), daemon=True).start()
    with contextlib.suppress(OSError):
        orders.send(children)
    while living:
        pid, status = os.wait()
        living.discard(pid)
        with contextlib.suppress(OSError):
            orders.send((pid, os.waitstatus_to_exitcode(status)))
    os._exit(0)  # nothing is left to be tidied up


def _kill_at_the_end(living: set[int], orders: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        orders.recv()
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
    shared = _peak_bytes()
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
            pipe.send((*answer, _peak_bytes() - shared))
        except OSError:
            return


def _peak_bytes() -> int:
    """The most memory that this process has held so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most << 10


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
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # or nobody could be waited for
    sys.meta_path.insert(0, _WithoutPandas())
    for module in sys.argv[2:]:
        with contextlib.suppress(Exception):  # who calls it is told
            importlib.import_module(module)
    *for_children, for_orders = map(int, sys.argv[1].split(","))
    fork_for(for_children, Connection(for_orders))
