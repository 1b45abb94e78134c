"""A run's directory: ids that cannot lead out of it, and the lock that means life."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.runs.directory import (
    INHERITED_LOCK,
    RUN_ID,
    LockHeld,
    RunDirectory,
    check_run_id,
    is_locked,
    new_run_id,
    take_lock,
)
from regatta.utils import UserError

ID = "20260102-030405-ab12"

HOLD = """
import sys, time
from pathlib import Path
from regatta.runs.directory import RunDirectory
with RunDirectory(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    (tmp_path / "runs" / ID).mkdir(parents=True)
    return RunDirectory.of(tmp_path, ID)


def holder(directory: RunDirectory) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(directory.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@given(st.floats(0, 4e9))
def test_new_ids_are_ids(now: float) -> None:
    assert check_run_id(new_run_id(now))


@given(st.text())
def test_no_other_text_becomes_a_path(text: str) -> None:
    if RUN_ID.fullmatch(text) is None:
        with pytest.raises(UserError):
            RunDirectory.of(Path("home"), text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "../x", f"../{ID}", f"{ID}/..", f"{ID}\n", "/etc", "..%2f", f"{ID}\0", "٢" * 8],
)
def test_traversal_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError):
        RunDirectory.of(tmp_path, text)


def test_a_link_is_not_a_run_directory(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / ID).symlink_to(tmp_path)
    with pytest.raises(UserError, match="link"):
        RunDirectory.of(tmp_path, ID)


def test_the_second_holder_is_refused_within_a_second_and_told_the_first(
    directory: RunDirectory,
) -> None:
    first = holder(directory)
    try:
        began = time.monotonic()
        second = subprocess.run(
            [sys.executable, "-P", "-c", HOLD, str(directory.path)],
            input="",
            capture_output=True,
            text=True,
            timeout=20,
        )
        with pytest.raises(LockHeld) as caught, directory.lock():
            raise AssertionError("two holders")
        assert second.returncode != 0
        assert f"process {first.pid}" in second.stderr
        assert caught.value.pid == first.pid
        assert directory.holder() == first.pid
        assert time.monotonic() - began < 5  # two refusals and the start of an interpreter
    finally:
        first.kill()
        first.communicate()


def test_the_lock_is_free_as_soon_as_its_holder_is_killed(directory: RunDirectory) -> None:
    process = holder(directory)
    assert directory.is_locked()
    process.kill()
    process.communicate()
    assert not directory.is_locked()
    assert directory.holder() is None
    with directory.lock():
        assert directory.holder() == os.getpid()


def test_looking_at_the_lock_does_not_disturb_who_takes_it(directory: RunDirectory) -> None:
    look = f"""
import sys
from pathlib import Path
from regatta.runs.directory import is_locked
print("looking", flush=True)
while True:
    is_locked(Path({str(directory.lock_path)!r}))
"""
    with directory.lock():
        pass
    watcher = subprocess.Popen(
        [sys.executable, "-P", "-c", look], stdout=subprocess.PIPE, text=True
    )
    try:
        assert watcher.stdout is not None
        watcher.stdout.readline()
        for _ in range(50):
            with directory.lock():
                pass
        assert watcher.poll() is None
    finally:
        watcher.kill()
        watcher.communicate()


def test_spawned_workers_do_not_inherit_the_lock(directory: RunDirectory) -> None:
    with directory.lock() as descriptor:
        assert not os.get_inheritable(descriptor)
        worker = get_context("spawn").Process(target=time.sleep, args=(60,))
        worker.start()
        try:
            files = []
            for link in Path(f"/proc/{worker.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it opens and closes, too
                    files.append(os.readlink(link))
        finally:
            worker.kill()
            worker.join()
    assert any("pipe" in file for file in files), "it looked at the right process"
    assert str(directory.lock_path) not in files


def test_a_lock_handed_down_is_never_free_in_between(directory: RunDirectory) -> None:
    lock = directory.acquire()
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, str(directory.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(lock,),
        env={**os.environ, INHERITED_LOCK: str(lock)},
    )
    os.close(lock)  # before the child had the time to start
    assert directory.is_locked()
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    assert directory.holder() == child.pid
    child.communicate("")
    assert child.returncode == 0
    assert not directory.is_locked()


@pytest.mark.parametrize("text", ["", "x", "-1", "99999", "0"])
def test_a_false_inherited_lock_is_not_believed(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(INHERITED_LOCK, text)
    with directory.lock() as descriptor:
        assert os.fstat(descriptor).st_ino == directory.lock_path.stat().st_ino
        assert directory.holder() == os.getpid()


def test_a_lock_file_moved_away_is_not_taken_for_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = take_lock(path)
    path.rename(tmp_path / "elsewhere")
    second = take_lock(path)
    assert first is not None and second is not None
    assert is_locked(path)
    os.close(first)
    os.close(second)


def test_there_is_no_lock_where_there_is_no_run(tmp_path: Path) -> None:
    gone = RunDirectory.of(tmp_path, ID)
    assert not gone.is_locked()
    with pytest.raises(UserError, match="no run"), gone.lock():
        pass
    assert not gone.path.exists()
