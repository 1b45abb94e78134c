"""``regatta doctor``: look for what could go wrong on this machine, before it does."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from regatta.cli import output
from regatta.utils import BLAS_THREAD_VARIABLES, HOME_VARIABLE, available_cores, home

SHARED_MEMORY = Path("/dev/shm")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GIGABYTE = 1e9

# SQLite before this version can lose a page of a WAL database that several processes write.
# Regatta's have one writer each, so an older one is fine, and said so.
SAFE_SQLITE = (3, 51, 3)


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``level`` is ok, warn or fail."""

    name: str
    level: str
    message: str
    hint: str = ""


def doctor(chosen: argparse.Namespace) -> int:
    """``regatta doctor``: 1 if something fails, else 0."""
    findings = examine(chosen.port)
    failed = any(each.level == "fail" for each in findings)
    if chosen.json:
        output.print_json({"ok": not failed, "checks": [asdict(each) for each in findings]})
        return int(failed)
    rows = [[each.level, each.name, each.message] for each in findings]
    for each, line in zip(findings, output.table(rows).splitlines(), strict=True):
        print(line)
        if each.hint:
            print(f"      {each.hint}")
    return int(failed)


def examine(port: int) -> list[Finding]:
    """All findings. A check that breaks is itself a finding."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        check_python,
        check_packages,
        check_compiled,
        check_cores,
        check_memory,
        check_home,
        check_shared_memory,
        check_blas,
        check_sqlite,
        lambda: check_port(port),
        check_browser,
        check_runs,
        check_leftovers,
    ]
    found: list[Finding] = []
    for check in checks:
        try:
            found.extend(check())
        except Exception as error:
            found.append(Finding("check", "fail", f"{type(error).__name__}: {error}"))
    return found


def check_python() -> Iterator[Finding]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 14)
    yield Finding(
        "Python",
        "ok" if fits else "fail",
        f"{version} on {platform.system()} {platform.machine()}",
        "" if fits else "Regatta is made for Python 3.11 to 3.13.",
    )
    if sys.platform != "linux":
        yield Finding("platform", "warn", "Regatta is tested on Linux only.")


def check_packages() -> Iterator[Finding]:
    """Every declared dependency, and whether its version fits."""
    from packaging.requirements import Requirement

    missing, present = [], []
    for text in importlib.metadata.requires("regatta") or []:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{requirement.name} is not installed")
            continue
        present.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            missing.append(f"{requirement.name} is {version}, not {requirement.specifier}")
    hint = "Install Regatta again: `make venv`, or pip install." if missing else ""
    yield Finding(
        "packages", "fail" if missing else "ok", "; ".join(missing) or ", ".join(present), hint
    )


def check_compiled() -> Iterator[Finding]:
    from regatta.ingest import cells

    if cells.is_built():
        yield Finding("compiled part", "ok", "files are cut into cells by it")
        return
    message = f"{cells.LIBRARY.name} is not there: files are read at half the speed"
    hint = "Install a C compiler or let pip fetch Zig's, then install Regatta again."
    yield Finding("compiled part", "warn", message, hint)


def check_cores() -> Iterator[Finding]:
    cores, load = available_cores(), os.getloadavg()[0]
    busy = load > 0.5 * cores
    yield Finding(
        "cores",
        "warn" if busy else "ok",
        f"{cores} usable, load {load:.1f}",
        "Other programs use them: training is slower meanwhile." if busy else "",
    )


def check_memory() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    low = memory.available < GIGABYTE
    yield Finding(
        "memory",
        "warn" if low else "ok",
        f"{output.size(memory.available)} free of {output.size(memory.total)}",
        "An import takes up to 0.5 GB." if low else "",
    )


def check_home() -> Iterator[Finding]:
    path = home()
    free = shutil.disk_usage(path).free
    yield Finding(
        "disk",
        "fail" if free < 0.1 * GIGABYTE else "warn" if free < 5 * GIGABYTE else "ok",
        f"{output.size(free)} free for {path}",
        f"Set {HOME_VARIABLE} to a folder with more room." if free < 5 * GIGABYTE else "",
    )
    if not os.access(path, os.W_OK | os.X_OK):
        yield Finding("home", "fail", f"{path} cannot be written to", "Check its permissions.")
    elif path.stat().st_mode & 0o077:
        yield Finding("home", "warn", f"{path} can be read by others", f"Run: chmod 700 {path}")


def check_shared_memory() -> Iterator[Finding]:
    if hasattr(os, "memfd_create"):
        yield Finding("shared memory", "ok", "anonymous (memfd): nothing can be left behind")
    elif SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        level = "ok" if free > 0.1 * GIGABYTE else "warn"
        yield Finding("shared memory", level, f"{output.size(free)} free in {SHARED_MEMORY}")
    else:
        yield Finding("shared memory", "warn", "unlinked temporary files stand in for it")


def check_blas() -> Iterator[Finding]:
    """Weights are byte-identical only if every process sums with one thread."""
    import numpy as np

    others = [name for name in BLAS_THREAD_VARIABLES if os.environ.get(name) != "1"]
    build = np.show_config(mode="dicts")
    blas = build.get("Build Dependencies", {}).get("blas", {}) if isinstance(build, dict) else {}
    name = f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
    yield Finding(
        "BLAS", "warn" if others else "ok", f"{name}, one thread a process (NumPy {np.__version__})"
    )


def check_sqlite() -> Iterator[Finding]:
    safe = sqlite3.sqlite_version_info >= SAFE_SQLITE
    note = "" if safe else ": one writer for each database with a write-ahead log, so it is safe"
    yield Finding("SQLite", "ok", f"{sqlite3.sqlite_version}{note}")


def check_port(port: int) -> Iterator[Finding]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            yield Finding(
                "port",
                "warn",
                f"{port} cannot be used ({error.strerror})",
                f"The page may be open already; else: regatta serve --port {port + 1}",
            )
        else:
            yield Finding("port", "ok", f"{port} is free")


def check_browser() -> Iterator[Finding]:
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found:
        yield Finding("browser", "ok", f"{found} (for the tests of the page)")
    else:
        yield Finding(
            "browser",
            "warn",
            "no chromium: the tests of the page cannot run",
            "On Debian: apt-get install chromium. Training and the page itself do not need it.",
        )


def check_runs() -> Iterator[Finding]:
    """The list of runs, the supervisor, and runs that died."""
    from regatta.runs import service
    from regatta.runs.states import RunState
    from regatta.runs.store import RunStore

    store = RunStore(home())
    runs = store.list()
    by_state = {state: sum(run.state is state for run in runs) for state in RunState}
    counts = ", ".join(f"{count} {state}" for state, count in by_state.items() if count)
    yield Finding("runs", "ok", counts or "none yet")
    pid = service.supervisor_pid(store)
    waiting = store.next_queued() is not None
    yield Finding(
        "supervisor",
        "warn" if waiting and pid is None else "ok",
        f"process {pid}" if pid else "none; it starts when a run is queued",
        "A run waits: `regatta runs list` starts it." if waiting and pid is None else "",
    )
    if by_state[RunState.INTERRUPTED]:
        yield Finding(
            "interrupted",
            "warn",
            f"{by_state[RunState.INTERRUPTED]} runs ended without a last word",
            "`regatta runs resume RUN` takes one up again.",
        )
    broken = sorted(store.home.glob("regatta.db.broken-*"))
    if broken:
        yield Finding(
            "database",
            "warn",
            f"{len(broken)} unreadable lists of runs were moved aside in {store.home}",
            "They are kept for curiosity; the list was made again from the runs.",
        )
    damaged = [
        path.name
        for path in sorted(store.root.iterdir())
        if not path.name.startswith(".") and path.name not in {run.run_id for run in runs}
    ]
    if damaged:
        yield Finding(
            "damaged", "warn", f"no readable run in {', '.join(damaged[:5])}", f"See {store.root}."
        )


def check_leftovers() -> Iterator[Finding]:
    """Worker processes whose coordinator is gone."""
    import psutil

    mark, orphans = str(home()), []
    for process in psutil.process_iter():
        try:
            if "spawn_main" not in " ".join(process.cmdline()):
                continue
            if process.environ().get(HOME_VARIABLE) == mark and process.ppid() == 1:
                orphans.append(process.pid)
        except psutil.Error:
            continue
    if orphans:
        pids = " ".join(map(str, orphans))
        yield Finding(
            "leftovers", "warn", f"workers without a coordinator: {pids}", f"End them: kill {pids}"
        )
    else:
        yield Finding("leftovers", "ok", "no worker without its coordinator")
