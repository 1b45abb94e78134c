"""The folder of data sets: entries that appear and vanish whole, a cap on their size.

    datasets/parsed/<key>/     layer 1: typed columns of a file
    datasets/prepared/<key>/   layer 2: prepared shards
    datasets/index/<path>.json which file, by its identity, has which parsed entry
    datasets/building/<name>/  entries being made; each locked by the process that makes it

An entry is built aside and renamed. Whoever uses one holds a shared lock on it; only an entry
that nobody holds is removed, the one unused for the longest time first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from regatta.utils import RegattaError, UserError, home, number_from

CACHE_VARIABLE = "REGATTA_CACHE_GB"
DEFAULT_CACHE_GB = 20.0
# An entry that was just made or used is left alone, held or not.
GRACE_SECONDS = 600.0
LAYERS = ("parsed", "prepared")
LOCK_NAME = "lock"


def datasets_folder(*parts: str) -> Path:
    """A folder below ``datasets``, made if it is not there."""
    path = home()
    for part in ("datasets", *parts):  # parents that `mkdir` makes itself get the umask's mode
        path /= part
        path.mkdir(exist_ok=True, mode=0o700)
    return path


@contextlib.contextmanager
def building(layer: str) -> Iterator[Path]:
    """A folder to build an entry in; what is left of it at the end is removed."""
    parent = datasets_folder("building")
    _sweep(parent)
    path = parent / f"{layer}-{uuid.uuid4().hex[:12]}"
    # Not to be swept by another process before it is locked.
    unlocked = path.with_name(f".{path.name}")
    unlocked.mkdir(mode=0o700)
    with _locked(unlocked / LOCK_NAME, fcntl.LOCK_EX):
        unlocked.rename(path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def publish(built: Path, layer: str, key: str) -> Path:
    """Give a built entry its name. If another process was first, its entry stands."""
    target = datasets_folder(layer) / key
    try:
        os.rename(built, target)
    except OSError:
        if not target.is_dir():
            raise
    make_room()
    return target


def entry(layer: str, key: str) -> Path | None:
    """The folder of an entry, marked as used now; ``None`` if there is none."""
    path = datasets_folder(layer) / key
    try:
        os.utime(path)
    except OSError:
        return None
    return path


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Keep an entry from being removed while the block runs."""
    with _locked(path / LOCK_NAME, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def one_at_a_time(name: str, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
    """Wait until no other process is making what ``name`` stands for."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    path = datasets_folder("index") / f"{digest}.lock"
    with path.open("a") as file:
        while not _try_lock(file, fcntl.LOCK_EX):
            if cancelled is not None and cancelled():
                raise UserError("Cancelled.", "")
            time.sleep(0.05)
        yield


def entries() -> list[tuple[str, Path]]:
    """All entries, as (layer, folder), the one unused for the longest time first."""
    found = [
        (layer, path)
        for layer in LAYERS
        for path in datasets_folder(layer).iterdir()
        if path.is_dir()
    ]
    return sorted(found, key=lambda each: last_used(each[1]))


def last_used(path: Path) -> float:
    """Unix time of the last use of an entry."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def size_of(path: Path) -> int:
    """Bytes of an entry on disk."""
    total = 0
    with contextlib.suppress(OSError):
        for each in path.iterdir():
            with contextlib.suppress(OSError):
                total += each.stat().st_blocks * 512
    return total


def remove(path: Path) -> bool:
    """Remove an entry unless it is held; whether it is gone."""
    try:
        with (path / LOCK_NAME).open("a") as file:
            if not _try_lock(file, fcntl.LOCK_EX):
                return False
            aside = datasets_folder("building") / f"removed-{uuid.uuid4().hex[:12]}"
            os.rename(path, aside)
            shutil.rmtree(aside, ignore_errors=True)
    except FileNotFoundError:
        pass
    return True


def make_room() -> None:
    """Remove entries, the one unused for the longest time first, until the cap holds."""
    cap = number_from(CACHE_VARIABLE, DEFAULT_CACHE_GB) * 1e9
    sized = [(path, size_of(path)) for _, path in entries()]
    total = sum(size for _, size in sized)
    for path, size in sized:
        if total <= cap:
            return
        if time.time() - last_used(path) > GRACE_SECONDS and remove(path):
            total -= size


def _sweep(parent: Path) -> None:
    """Remove what processes that are gone left behind."""
    for path in parent.iterdir():
        if path.name.startswith(".") and time.time() - last_used(path) <= GRACE_SECONDS:
            continue  # about to be locked
        try:
            with (path / LOCK_NAME).open("a") as file:
                if _try_lock(file, fcntl.LOCK_EX):
                    shutil.rmtree(path, ignore_errors=True)
        except FileNotFoundError:
            # Being made or removed at this moment, unless it has been there for long.
            if time.time() - last_used(path) > GRACE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    try:
        file = path.open("a")
    except FileNotFoundError:
        raise RegattaError("The data set was removed meanwhile.", "Try again.") from None
    with file:
        fcntl.flock(file, how)
        yield


def _try_lock(file: IO[str], how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
