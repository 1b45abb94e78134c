"""The directory of one run: where its files are, and the lock that says it is alive.

The coordinator of a run holds a ``flock`` on ``lock`` from before the run is STARTING until its
last state is written. The kernel frees it however the process ends, so a live state with a free
lock is a run whose coordinator died. The supervisor takes the lock for the coordinator it starts
and hands the open descriptor over (`INHERITED_LOCK`), so that no moment lies between.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from regatta.utils import RegattaError, UserError

RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4,8}", re.ASCII)
INHERITED_LOCK = "REGATTA_LOCK_DESCRIPTOR"

# Looking whether a lock is free takes it for some microseconds, so who really wants
# it tries again for a while before it believes that someone else holds it.
LOCK_PATIENCE = 0.4
_LOCK_PAUSE = 0.005


class LockHeld(RegattaError):
    """Another process holds the lock."""

    def __init__(self, message: str, hint: str = "", *, pid: int | None = None) -> None:
        super().__init__(message, hint)
        self.pid = pid

    def __reduce__(self) -> tuple[object, ...]:
        return LockHeld, (self.message, self.hint), {"pid": self.pid}


def new_run_id(now: float) -> str:
    """A run id: local date and time of ``now`` (seconds since the epoch) and four random digits."""
    return time.strftime("%Y%m%d-%H%M%S-", time.localtime(now)) + secrets.token_hex(2)


def check_run_id(run_id: str) -> str:
    """``run_id`` if it looks like one, or a `UserError`: no other text ever becomes a path."""
    if not RUN_ID.fullmatch(run_id):
        raise UserError(f"{run_id!r} is not the id of a run.", "`regatta runs` lists them.")
    return run_id


def no_such_run(run_id: str) -> UserError:
    return UserError(f"There is no run {run_id}.", "`regatta runs` lists them.")


def runs_root(home: Path) -> Path:
    """The folder of all run directories, made if it is not there."""
    root = home / "runs"
    root.mkdir(mode=0o700, exist_ok=True)
    return root


class RunDirectory:
    """Paths and lock of one run.

    Parameters
    ----------
    path : Path
        ``<home>/runs/<run id>``. The last part must be a run id, and no link.
    """

    def __init__(self, path: Path) -> None:
        check_run_id(path.name)
        if path.is_symlink():
            raise UserError(f"{path} is a link, not the directory of a run.", "Remove the link.")
        self.path = path

    @classmethod
    def of(cls, home: Path, run_id: str) -> RunDirectory:
        """The directory of ``run_id`` under ``home``, whether or not it exists."""
        return cls(home / "runs" / check_run_id(run_id))

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def record(self) -> Path:
        """``run.json``: the truth about the run's state."""
        return self.path / "run.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def model(self) -> Path:
        return self.path / "model.json"

    @property
    def path_file(self) -> Path:
        """Regularisation path and cross-validation, where alpha was chosen."""
        return self.path / "path.json"

    @property
    def updates(self) -> Path:
        """Every update of the weights, where that was asked for."""
        return self.path / "updates.log"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.db"

    @property
    def log(self) -> Path:
        return self.path / "run.log"

    @property
    def output(self) -> Path:
        """What a coordinator started by the supervisor prints outside its log."""
        return self.path / "coordinator.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def sums(self) -> Path:
        """What a run summed over all rows before its first step, where that took long."""
        return self.path / "sums"

    @property
    def room(self) -> Path:
        """Room that a live run holds back: see `regatta.runs.room`."""
        return self.path / "room"

    @property
    def lock_path(self) -> Path:
        return self.path / "lock"

    def worker_log(self, rank: int) -> Path:
        return self.path / f"worker-{rank}.log"

    def exists(self) -> bool:
        return self.record.is_file()

    @contextlib.contextmanager
    def lock(self, *, patience: float = LOCK_PATIENCE) -> Iterator[int]:
        """Hold the run's lock; yields the descriptor, which is closed at the end.

        Takes over the lock that the supervisor handed down, if it did.

        Raises
        ------
        LockHeld
            Another process holds it; the message names its pid.
        """
        descriptor = self._inherited()
        if descriptor is None:
            descriptor = self.acquire(patience=patience)
        try:
            write_holder(descriptor, os.getpid())
            yield descriptor
        finally:
            os.close(descriptor)

    def acquire(self, *, patience: float = LOCK_PATIENCE) -> int:
        """Take the lock and return its open descriptor (not inheritable)."""
        try:
            descriptor = take_lock(self.lock_path, patience=patience)
        except FileNotFoundError:
            raise no_such_run(self.run_id) from None
        if descriptor is None:
            pid = read_holder(self.lock_path)
            raise LockHeld(
                f"Run {self.run_id} is being worked on by process {pid or 'unknown'}.",
                "Wait until it ends, or stop it.",
                pid=pid,
            )
        return descriptor

    def is_locked(self) -> bool:
        """Whether a process holds the lock now."""
        return is_locked(self.lock_path)

    def holder(self) -> int | None:
        """The pid that the holder of the lock wrote down, or ``None`` if the lock is free."""
        return read_holder(self.lock_path) if self.is_locked() else None

    def _inherited(self) -> int | None:
        text = os.environ.get(INHERITED_LOCK, "")
        if not text.isdecimal():
            return None
        descriptor = int(text)
        try:
            if not _is_file_at(descriptor, self.lock_path):
                return None
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held already: confirms it
        except OSError:
            return None
        del os.environ[INHERITED_LOCK]
        os.set_inheritable(descriptor, False)  # a worker must not keep it alive
        return descriptor


def take_lock(path: Path, *, patience: float = LOCK_PATIENCE) -> int | None:
    """Lock the file at ``path`` and return its descriptor; ``None`` if another process has it."""
    deadline = time.monotonic() + patience
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise
        else:
            if _is_file_at(descriptor, path):
                return descriptor
            os.close(descriptor)  # moved or deleted while it was being locked
        if time.monotonic() >= deadline:
            return None
        time.sleep(_LOCK_PAUSE)


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock at ``path``."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that any number of readers can look at the same moment.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            return True
        raise
    finally:
        os.close(descriptor)
    return False


def write_holder(descriptor: int, pid: int) -> None:
    """Write down who holds the lock. For messages only: the lock itself is the truth."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{pid}\n".encode(), 0)


def read_holder(path: Path) -> int | None:
    """The pid in the lock file at ``path``, if there is one."""
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    return int(text) if text.isdecimal() else None


def _is_file_at(descriptor: int, path: Path) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
