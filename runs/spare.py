"""A spare coordinator: a process that has imported what it needs and waits for a run.

::

    supervisor ── Spare.start ─→ python -m regatta.runs.coordinate --wait N: imports, then sleeps
               ── Spare.give ──→ run id, the run's lock and its output, over a pair of sockets
               ── dies ────────→ its end of the pair closes, and the spare leaves

Half of the time in which a run starts, or is resumed, goes into imports. Apart from when they are
done nothing differs from a coordinator that is started for its run: it has environment, folder,
session and limits of the supervisor's child that it is.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import resource_tracker
from pathlib import Path

from regatta.runs.directory import INHERITED_LOCK

_LONGEST = 256  # bytes of a run id, and more


class Spare:
    """The supervisor's side of a process that waits for a run. Use `start`."""

    def __init__(self, process: subprocess.Popen[bytes], ours: socket.socket) -> None:
        self._process = process
        self._socket = ours

    @classmethod
    def start(cls, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Spare:
        """Start ``command``, which is told its socket's descriptor as its last argument."""
        ours, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def give(self, run_id: str, lock: int, output: int) -> subprocess.Popen[bytes] | None:
        """Let it train the run; its process, or ``None`` if it died meanwhile.

        It gets descriptors of its own for lock and output. One that still imports takes the run
        when it has.
        """
        try:
            if not self.is_alive:
                return None
            socket.send_fds(self._socket, [run_id.encode()], [lock, output])
        except OSError:
            self.close()
            return None
        else:
            return self._process
        finally:
            self._socket.close()

    def close(self) -> None:
        """End it."""
        self._socket.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()


def await_run(descriptor: int) -> str | None:
    """In the spare: sleep until there is a run for it; ``None`` if the supervisor is gone.

    Output goes where the run's does from then on, and the run's lock is inherited (`RunDirectory`).
    Does not return where a module has changed since it was imported: then the process begins anew.
    """
    resource_tracker.ensure_running()  # workers will want it
    imported = _stamps()
    with socket.socket(fileno=descriptor) as ours:
        message, descriptors, _, _ = socket.recv_fds(ours, _LONGEST, 2)
    if not message:
        return None
    run_id = message.decode()
    lock, output = descriptors
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.environ[INHERITED_LOCK] = str(lock)
    if _stamps() != imported:
        os.set_inheritable(lock, True)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:-2], run_id])
    return run_id


def _stamps() -> dict[str, int | None]:
    """When the files of Regatta's modules that are loaded were last changed."""
    files = [
        module.__file__
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "regatta" and getattr(module, "__file__", None)
    ]
    return {file: _changed(file) for file in files if file is not None}


def _changed(file: str) -> int | None:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return None
