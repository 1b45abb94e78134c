"""Whether this server can do its work, for ``GET /api/health``: balancers and watchdogs ask it."""

from __future__ import annotations

from typing import Any

import psutil

import regatta
from regatta.runs import service
from regatta.runs.store import RunStore
from regatta.utils import RegattaError, home


def look() -> dict[str, Any]:
    """``{"status": "ok", "version", "supervisor"}``, the latter "running" or "idle".

    Where runs wait and no supervisor lives, one is started.

    Raises
    ------
    RegattaError
        Runs cannot be written down, or those that wait would never start.
    """
    try:
        store = RunStore(home())
        store.check_writable()
    except OSError as error:
        raise RegattaError(
            f"Regatta's home cannot be used: {error.strerror}.", "Check its disk and permissions."
        ) from error
    service.nudge(store)
    pid = service.supervisor_pid(store)
    if pid is not None and _stands_still(pid):
        raise RegattaError(
            f"The supervisor (process {pid}) is stopped, so waiting runs do not start.",
            f"`kill -CONT {pid}` lets it go on; if it is killed, another one starts.",
        )
    return {
        "status": "ok",
        "version": regatta.__version__,
        "supervisor": "idle" if pid is None else "running",
    }


def _stands_still(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False  # it has just left
