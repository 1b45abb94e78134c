"""Work that the page starts and does not wait for, each piece in a process of its own.

    page ── start ──▶ python -P -m regatta.dashboard.jobs <id> ── writes ──▶ jobs/<id>/status.json
         ◀─ status ── reads ───────────────────────────────────────────────┘

Reading a large CSV, writing the large sample, exporting and predicting would block the page and
keep its memory; a file that crashes its reader would take the page along. The process holds a lock
on its folder: a status that says "running" under a free lock means that it died.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regatta.runs.directory import is_locked, take_lock, write_holder
from regatta.utils import RegattaError, UserError, fingerprint, home, read_json, write_json

# What a job does: a function (arguments, folder, report) -> result, by module and name. It is
# imported in the job's process alone.
KINDS: Mapping[str, tuple[str, str]] = {
    "inspect": ("regatta.dashboard.inspection", "inspect"),
    "target": ("regatta.dashboard.inspection", "about_target"),
    "clean": ("regatta.dashboard.inspection", "clean_copy"),
    "sample": ("regatta.dashboard.samples", "write_large"),
    "predict": ("regatta.dashboard.outputs", "predict"),
    "export": ("regatta.dashboard.outputs", "export"),
    "share": ("regatta.dashboard.outputs", "share"),
    "baseline": ("regatta.dashboard.baselining", "baseline"),
    "explain": ("regatta.dashboard.outputs", "explain"),
}
ID_PATTERN = re.compile(r"[a-z]+-[0-9a-f]{16}")
KEPT_SECONDS = 7 * 24 * 3600.0
START_SECONDS = 15.0
REPORT_SECONDS = 0.25
SETTLED_NS = 1_000_000_000

CANCEL_NAME = "cancel"

Report = Callable[[float, str], None]


class Cancelled(UserError):
    """Someone asked for the end of the job."""

    def __init__(self) -> None:
        super().__init__("It was cancelled.", "Start it again at any time.")


@dataclass(frozen=True)
class Status:
    """Where a job stands."""

    state: str  # "none", "running", "done", "failed" or "cancelled"
    fraction: float = 0.0
    message: str = ""
    hint: str = ""
    row: int | None = None
    column: str | None = None
    result: Any = None
    rejected: Sequence[Mapping[str, Any]] = ()  # rows of a file that are at fault

    @property
    def is_running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True)
class Job:
    """One piece of work, named by what it does to what."""

    job_id: str

    @property
    def folder(self) -> Path:
        return _jobs_folder() / self.job_id

    def status(self) -> Status:
        """Where it stands now."""
        try:
            written = _read_status(self.folder / "status.json")
        except (FileNotFoundError, NotADirectoryError):
            return Status("none")
        except (TypeError, ValueError):
            return Status("failed", message="Its status cannot be read.", hint="Start it again.")
        if written.is_running and not self._is_alive():
            again = _read_status(self.folder / "status.json")
            if not again.is_running:
                return again
            return Status("failed", message="It ended unexpectedly.", hint=self._last_words())
        return written

    def progress(self) -> dict[str, Any]:
        """What a browser that waits for it is told."""
        status = self.status()
        return {
            "state": status.state,
            "fraction": status.fraction,
            "message": status.message,
            "cancelled": self.is_cancelled,
        }

    def result_file(self, name: str = "") -> Path | None:
        """The file it made, or the one of that name among those that it made, if it is there."""
        status = self.status()
        result = status.result if isinstance(status.result, dict) else {}
        made = [result.get("file"), *(each.get("file") for each in result.get("files", ()))]
        chosen = name or made[0]
        if status.state != "done" or chosen not in made or not isinstance(chosen, str):
            return None
        path = self.folder / chosen
        if path.name != chosen or path.is_symlink() or not path.is_file():
            return None
        return path

    def cancel(self) -> None:
        """Ask it to end. It does so where it reports how far it is."""
        if self.status().is_running:
            (self.folder / CANCEL_NAME).touch()

    @property
    def is_cancelled(self) -> bool:
        """Whether it was asked to end."""
        return (self.folder / CANCEL_NAME).exists()

    def forget(self) -> None:
        """Remove its folder, so that it can be started anew. Not while it runs."""
        if not self.status().is_running:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _is_alive(self) -> bool:
        lock = self.folder / "lock"
        if is_locked(lock):
            return True
        # Between the start of the process and its taking the lock lies the interpreter's start.
        with contextlib.suppress(FileNotFoundError):
            return time.time() - (self.folder / "spec.json").stat().st_mtime < START_SECONDS and (
                not lock.exists()
            )
        return False

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            text = (self.folder / "job.log").read_text(encoding="utf-8", errors="replace").strip()
            if text:
                return text.splitlines()[-1][:300]
        return "The machine may have run out of memory."


def job_of(kind: str, **arguments: Any) -> Job:
    """The job that does ``kind`` with ``arguments``, whether or not it was started."""
    return Job(f"{kind}-{fingerprint([kind, arguments])[:16]}")


def start(kind: str, **arguments: Any) -> Job:
    """Start a job, once: one that runs, is done or has failed is left as it is (`Job.forget`)."""
    job = job_of(kind, **arguments)
    if job.status().state != "none":
        return job
    _forget_old()
    shutil.rmtree(job.folder, ignore_errors=True)
    job.folder.mkdir(mode=0o700)
    write_json(job.folder / "spec.json", {"kind": kind, "arguments": arguments}, durable=False)
    write_json(job.folder / "status.json", vars(Status("running")), durable=False)
    with (job.folder / "job.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "regatta.dashboard.jobs", job.job_id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # or it stays a zombie
    return job


def find(job_id: str) -> Job:
    """The job of that id, or a `UserError`."""
    if not ID_PATTERN.fullmatch(job_id) or not (_jobs_folder() / job_id).is_dir():
        raise UserError("There is no such job.", "Start it again on the page.")
    return Job(job_id)


def forget_all_of(path: Path) -> None:
    """Remove what jobs have made of a file that is given up: parts of it, or all."""
    for folder in _jobs_folder().iterdir():
        with contextlib.suppress(OSError, ValueError, KeyError):
            if read_json(folder / "spec.json")["arguments"].get("path") == str(path):
                Job(folder.name).cancel()
                Job(folder.name).forget()


def run(job_id: str) -> int:
    """Do the job, in this process. Returns the exit status."""
    job = find(job_id)
    lock = take_lock(job.folder / "lock", patience=0)
    if lock is None:
        return 0  # someone else does it
    write_holder(lock, os.getpid())
    status_file = job.folder / "status.json"
    reported = [0.0]

    def report(fraction: float, message: str) -> None:
        now = time.monotonic()
        if job.is_cancelled:
            raise Cancelled
        if now - reported[0] >= REPORT_SECONDS:
            reported[0] = now
            status = Status("running", fraction=min(max(fraction, 0.0), 1.0), message=message)
            write_json(status_file, vars(status), durable=False)

    try:
        spec = read_json(job.folder / "spec.json")
        module, function = KINDS[spec["kind"]]
        work = getattr(importlib.import_module(module), function)
        done = Status("done", fraction=1.0, result=work(spec["arguments"], job.folder, report))
    except RegattaError as error:
        done = Status(
            "cancelled" if job.is_cancelled else "failed",
            message=error.message,
            hint=error.hint,
            row=error.row,
            column=error.column,
            rejected=getattr(error, "rejected", ()),
        )
    except Exception as error:
        logging.exception("job %s failed", job_id)
        done = Status("failed", message=f"{type(error).__name__}: {error}", hint="")
    write_json(status_file, vars(done), durable=False)
    return 0 if done.state == "done" else 1


def _read_status(path: Path) -> Status:
    """The status in a file. The report on a wide table is long, and asked for at every click: one
    that has not changed is not read again. Whoever gets it leaves it as it is."""
    stat = path.stat()
    if time.time_ns() - stat.st_mtime_ns < SETTLED_NS:  # the next one may bear the same time
        return Status(**read_json(path))
    return _parsed_status(path, stat.st_ino, stat.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _parsed_status(path: Path, inode: int, mtime_ns: int) -> Status:
    return Status(**read_json(path))


def _jobs_folder() -> Path:
    folder = home() / "jobs"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _forget_old() -> None:
    for folder in _jobs_folder().iterdir():
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    from regatta.utils import limit_blas_threads

    limit_blas_threads()
    sys.exit(run(sys.argv[1]))
