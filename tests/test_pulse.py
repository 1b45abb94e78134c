"""What is a sign of life of a coordinator, and what is none. Real processes, real signals."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from regatta.runs import service
from regatta.runs.pulse import Pulse
from regatta.runs.states import RunState
from regatta.tests import crew

BUSY = "while True: pass"
ASLEEP = "import time; time.sleep(600)"
ASKS = "import os, time\nwhile True: os.stat('/'); time.sleep(0.001)"
WAITS = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}])"
WAITS_FOR_NOTHING = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ASLEEP!r}])"


def longest_silence(pid: int, seconds: float, pause: float = 0.1) -> float:
    pulse, longest = Pulse(pid), 0.0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        longest = max(longest, pulse.silence(longest_pause=5.0))
        time.sleep(pause)
    return longest


@pytest.fixture
def process(request: pytest.FixtureRequest) -> Iterator[psutil.Process]:
    child = subprocess.Popen([sys.executable, "-c", request.param])
    time.sleep(0.5)  # past its start
    found = psutil.Process(child.pid)
    yield found
    for each in [*found.children(recursive=True), found]:
        each.kill()
    child.wait()


@pytest.mark.parametrize("process", [BUSY, ASKS, WAITS], indirect=True)
def test_who_works_or_waits_for_work_is_alive(process: psutil.Process) -> None:
    """Who asks a thousand times a second takes some milliseconds of it, and they are counted in
    hundredths of a second."""
    assert longest_silence(process.pid, 7.0) < 6.0


@pytest.mark.parametrize("process", [ASLEEP, WAITS_FOR_NOTHING], indirect=True)
def test_who_waits_for_nothing_is_silent(process: psutil.Process) -> None:
    assert longest_silence(process.pid, 2.5) > 1.5


@pytest.mark.parametrize("process", [BUSY], indirect=True)
def test_who_is_stopped_is_silent(process: psutil.Process) -> None:
    process.suspend()
    crew.wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
    assert longest_silence(process.pid, 1.5) > 1.0


@pytest.mark.parametrize("process", [ASLEEP], indirect=True)
def test_a_watcher_that_did_not_run_itself_blames_nobody(process: psutil.Process) -> None:
    """As on a machine that slept."""
    pulse = Pulse(process.pid)
    pulse.silence(0.5)
    time.sleep(1.0)
    assert pulse.silence(0.5) == 0.0


def test_a_paused_run_is_alive(
    tmp_path: Path, regatta_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = crew.make(tmp_path, regatta_home, monkeypatch)
    run_id = runs.create(workers=1)
    with runs.started(run_id) as process:
        runs.goes_on(run_id)
        service.command(run_id, "pause", store=runs.store)
        crew.wait_for(lambda: runs.store.get(run_id).state is RunState.PAUSED)
        assert longest_silence(process.pid, 2.5) < 2.0
