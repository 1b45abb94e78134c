"""Fixtures that every test may use, and the check that a test leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# Before NumPy is imported: the tests sum as the processes of a run do, with one thread.
from regatta.utils import HOME_VARIABLE, limit_blas_threads

limit_blas_threads()

import hypothesis  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402

from regatta.runs.store import RunStore  # noqa: E402

# No example is too slow: the machine may have other things to do.
hypothesis.settings.register_profile("untimed", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent
SHARED_MEMORY = Path("/dev/shm")
# What Python's multiprocessing leaves there if nobody unlinks it.
NAMED_SEGMENTS = ("psm_", "sem.mp-", "regatta")
GONE_WITHIN = 5.0  # seconds; the promise is one


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real files: REGATTA_TEST_DATA, or ../shared/data. Skips where it is absent."""
    path = Path(os.environ.get("REGATTA_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()
    if not path.is_dir():
        pytest.skip(f"no test data in {path}: set REGATTA_TEST_DATA")
    return path


@pytest.fixture
def regatta_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home of its own for runs and data. Fails if a process of it outlives the test."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    monkeypatch.setenv("REGATTA_SPARE", "0")  # a second of work for each supervisor
    yield home
    left = processes_of(home)
    for process in left:
        if is_supervisor(process):  # it leaves by itself, after a minute without work
            send(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(left, timeout=GONE_WITHIN)
    names = [describe(process) for process in alive]
    for process in alive:
        send(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=GONE_WITHIN)
    assert not names, f"processes outlived the test: {names}"


@pytest.fixture
def store(regatta_home: Path) -> RunStore:
    """The runs of ``regatta_home``."""
    return RunStore(regatta_home)


@pytest.fixture
def regatta(regatta_home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command ``regatta`` in ``regatta_home``: ``regatta("train", path, "--json")``."""

    def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "regatta", *map(str, args)]
        settings = {"capture_output": True, "text": True, "timeout": 120, **options}
        return subprocess.run(command, **settings)  # type: ignore[call-overload, no-any-return]

    return run


@pytest.fixture(autouse=True)
def no_leftovers() -> Iterator[None]:
    """Fail a test that leaves worker processes or named shared memory behind."""
    workers_before, segments_before = worker_processes(), named_segments()
    yield
    left = [process for process in worker_processes() if process not in workers_before]
    _, alive = psutil.wait_procs(left, timeout=GONE_WITHIN)
    names = [describe(process) for process in alive]
    for process in alive:
        send(process, signal.SIGKILL)
    assert not names, f"worker processes outlived the test: {names}"
    deadline = time.monotonic() + GONE_WITHIN  # tests beside this one have theirs for a moment
    while (segments := named_segments() - segments_before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not segments, f"left in {SHARED_MEMORY}: {sorted(segments)}"


@pytest.fixture(autouse=True)
def same_main_module() -> Iterator[None]:
    """A page under test becomes the main module, which spawned workers of later tests would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process that was started with ``home`` as its REGATTA_HOME."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(HOME_VARIABLE) == str(home):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if not is_ours(process)]


def worker_processes() -> list[psutil.Process]:
    """Descendants of this process that multiprocessing spawned."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def named_segments() -> set[str]:
    """Shared memory that has a name, as Python's multiprocessing gives it."""
    if not SHARED_MEMORY.is_dir():
        return set()
    return {name for name in os.listdir(SHARED_MEMORY) if name.startswith(NAMED_SEGMENTS)}


def is_ours(process: psutil.Process) -> bool:
    """This process, or the tracker that multiprocessing keeps as long as it lives."""
    return process.pid == os.getpid() or "resource_tracker" in describe(process)


def is_supervisor(process: psutil.Process) -> bool:
    return "regatta.runs.supervisor" in describe(process)


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return str(process.pid)


def send(process: psutil.Process, what: signal.Signals) -> None:
    try:
        process.send_signal(what)
    except psutil.Error:
        return


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of that content, ``file.csv`` unless named."""

    def write(content: str | bytes, name: str = "file.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write
