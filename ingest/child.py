"""A process that parses: takes calls through a pipe and answers them, until the pipe closes.

    importing process ──(function, arguments)──▶ child
                      ◀──("done", result) or ("failed", error)──

Started as ``python -P -m regatta.ingest.child FD MODULES``, not as a fork or a spawn of the
caller: the caller's main module (a page, a notebook) is not run again, and no thread is inherited.
"""

from __future__ import annotations

import contextlib
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


class Child:
    """A parsing process, seen from the importing one. Calls are answered in their order.

    ``modules`` are those that its calls will need: it imports them while nobody waits for it yet.
    """

    def __init__(self, *modules: str) -> None:
        ours, theirs = Pipe()
        environment = os.environ | dict.fromkeys(BLAS_THREAD_VARIABLES, "1")
        # The buffers of one chunk serve the next: giving pages back to the system and touching
        # new ones for every chunk took as long as parsing. One arena keeps the whole flat.
        environment |= {
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_TRIM_THRESHOLD_": str(1 << 28),
            "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "regatta.ingest.child", str(theirs.fileno()), *modules],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()
        self.pipe = ours

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

    def stop(self) -> None:
        """Have the process end."""
        self.pipe.close()
        self.process.terminate()

    def close(self) -> None:
        """End the process and wait for it."""
        self.stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()

    def _died(self) -> RegattaError:
        code = self.process.wait()
        return RegattaError(
            f"A process that reads the file ended early (exit code {code}).",
            "The machine may be short of memory; try again.",
        )


def ready(children: Sequence[Child], timeout: float | None = None) -> list[Child]:
    """The children that have answered, or ended."""
    by_pipe = {child.pipe: child for child in children}
    return [by_pipe[pipe] for pipe in wait(list(by_pipe), timeout)]  # type: ignore[index]


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


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas where it can, to know its objects when it meets them. Here it meets
    none, and the import would take as long as parsing 25 MB."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not in this process", name=name)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.meta_path.insert(0, _WithoutPandas())
    for module in sys.argv[2:]:
        with contextlib.suppress(Exception):  # who calls it is told
            importlib.import_module(module)
    serve(Connection(int(sys.argv[1])))
