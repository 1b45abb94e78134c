"""A full disk: how it is recognised, and a little room kept back for saying so.

A run that meets one stands still, says what is the matter, and goes on once there is room. To say
it takes a record and a row in the list of runs, for which there would be no room either: so each
run holds some in a file of its own, which it gives up first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from regatta.utils import RegattaError

RESERVE_BYTES = 256 * 1024

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# A write that the system refuses for another reason than ENOSPC: EFBIG and EDQUOT among them.
_REFUSED = {
    sqlite3.SQLITE_IOERR_WRITE,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_SHMOPEN,
    sqlite3.SQLITE_IOERR_FSYNC,
}


def lacks_room(error: BaseException | None) -> bool:
    """Whether ``error``, or what it came from, is that a disk, quota or file can take no more."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        code = getattr(error, "sqlite_errorcode", 0) if isinstance(error, sqlite3.Error) else 0
        if code & 0xFF == sqlite3.SQLITE_FULL or code in _REFUSED:
            return True
        error = error.__cause__
    return False


def finds_room(action: Callable[[], object]) -> bool:
    """Do it; whether there was room for it."""
    try:
        action()
    except (OSError, sqlite3.Error, RegattaError) as error:
        if not lacks_room(error):
            raise
        return False
    return True


class Reserve:
    """Room on the disk that a run holds back.

    Parameters
    ----------
    path : Path
        The file that takes the room.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> None:
        """Hold it. An ``OSError`` where the disk has not so much; nothing is held then."""
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            self.give_up()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Else it cannot be held here at all, and a run does without.

    def give_up(self) -> None:
        """Let others, the run itself among them, have it."""
        with contextlib.suppress(OSError):
            self._path.unlink()
