"""The supervisor with real processes: order, limits, crashes, its own death, and its leaving.

Coordinators are stand-ins that write down when they start and work until they are told to end.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from regatta.configuration import TrainingConfig
from regatta.runs import service
from regatta.runs.directory import take_lock
from regatta.runs.limits import RunLimits
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.runs.supervisor import AUTOMATIC_RESUMES, Limits, Supervisor, lock_path
from regatta.tests.conftest import processes_of
from regatta.utils import RegattaError, UserError

DEADLINE = 30.0  # seconds; five times what a slow machine needs

COORDINATOR = """
import os, sys, time
from regatta.runs.spare import await_run
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.utils import home
run_id = sys.argv[1]
if run_id == "--wait":
    run_id = await_run(int(sys.argv[2]))
    if run_id is None:
        sys.exit()
print("works on", run_id, flush=True)
store = RunStore(home())
def note(what):
    with (store.home / "notes").open("a") as notes:
        notes.write(f"{what} {run_id} {os.getpid()}\\n")
with store.directory(run_id).lock():
    store.update_state(run_id, RunState.STARTING)
    store.update_state(run_id, RunState.RUNNING)
    note("start")
    ends = [store.home / "end-all", store.home / f"end-{run_id}"]
    state = RunState.FINISHED
    while not any(end.exists() for end in ends):
        if "stop" in store.take_commands(run_id):
            state = RunState.STOPPED
            break
        time.sleep(0.01)
    note("end")
    store.update_state(run_id, state)
"""

SUPERVISOR = """
import sys
from regatta.runs import supervisor
stub = sys.argv[1]
command = lambda run_id: [sys.executable, "-P", stub, run_id]
sys.exit(supervisor.main(command=command, spare=command("--wait")))
"""


class Harbour:
    """A home with its runs, stand-ins for coordinators, and whatever supervisors a test starts."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = RunStore(home)
        self.csv = home.parent / "data.csv"
        self.csv.write_text("x,y\n1,2\n")
        self.config = TrainingConfig(path=str(self.csv), target="y")
        self.coordinator = home.parent / "coordinator_stub.py"
        self.coordinator.write_text(COORDINATOR)
        self.script = home.parent / "regatta.runs.supervisor.py"
        self.script.write_text(SUPERVISOR)

    def queue(self, count: int = 1) -> list[RunRecord]:
        return [self.store.create(self.config, detached=True) for _ in range(count)]

    def ensure_supervisor(self) -> bool:
        command = [sys.executable, "-P", str(self.script), str(self.coordinator), "--detach"]
        return service.ensure_supervisor(self.store, command=command)

    def end(self, run: RunRecord | None = None) -> None:
        (self.home / (f"end-{run.run_id}" if run else "end-all")).touch()

    def notes(self, what: str) -> list[str]:
        """The ids of the runs that noted ``what``, in order."""
        path = self.home / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split()[1] for line in lines if line.startswith(what)]

    def state(self, run: RunRecord) -> RunState:
        return self.store.get(run.run_id).state

    def is_working(self, run: RunRecord) -> bool:
        """Running, and past the start that it notes."""
        return self.state(run) is RunState.RUNNING and run.run_id in self.notes("start")

    def command(self, run_id: str) -> list[str]:
        return [sys.executable, "-P", str(self.coordinator), run_id]

    def checkpoint(self, run: RunRecord, step: int) -> None:
        """As if the run had saved one."""
        folder = self.store.directory(run.run_id).checkpoints
        folder.mkdir(exist_ok=True)
        (folder / f"{step:012d}.checkpoint").touch()

    def holder(self, run: RunRecord) -> int:
        pid = self.store.directory(run.run_id).holder()
        assert pid is not None, f"nobody works on {run.run_id}"
        return pid


@pytest.fixture
def harbour(regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harbour]:
    for variable in ("REGATTA_MAX_RUNS", "REGATTA_SUPERVISOR_IDLE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("REGATTA_RESUME_DELAY", "0")
    made = Harbour(regatta_home)
    yield made
    pid = service.supervisor_pid(made.store)
    if pid is not None:
        psutil.Process(pid).kill()
    made.end()
    until(lambda: not any(run.state.is_live for run in made.store.list()), "runs ended")


@pytest.fixture
def inside(harbour: Harbour) -> Iterator[Callable[..., Supervisor]]:
    """Make a supervisor in this process, to be stepped by hand."""

    def make(*, spare: bool = False, **limits: object) -> Supervisor:
        lock = take_lock(lock_path(harbour.home))
        assert lock is not None
        found = Supervisor(
            harbour.store,
            lock,
            limits=Limits(**{"resume_delay": 0.0, "look": 0.05, **limits}),  # type: ignore[arg-type]
            command=harbour.command,
            spare=harbour.command("--wait") if spare else None,
        )
        made.append(found)
        return found

    made: list[Supervisor] = []
    yield make
    for supervisor in made:
        supervisor.close()


def until(condition: Callable[[], object], what: str, each: Callable[[], object] = bool) -> None:
    """Call ``each`` until ``condition`` holds; fail when it takes too long."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE:.0f} s: {what}"
        each()
        time.sleep(0.01)


# Order and limits


@pytest.mark.parametrize("at_once", [1, 3])
def test_runs_start_in_order_and_never_more_than_the_limit(
    harbour: Harbour, inside: Callable[..., Supervisor], at_once: int
) -> None:
    runs, supervisor, most = harbour.queue(6), inside(at_once=at_once), 0

    def look() -> None:
        nonlocal most
        supervisor.step()
        live = [run for run in harbour.store.list() if run.state.is_live]
        most = max(most, len(live))
        for run in live:
            if harbour.is_working(run) and len(live) in (at_once, 6 - len(harbour.notes("end"))):
                harbour.end(run)

    until(lambda: len(harbour.notes("end")) == 6 and not supervisor.step(), "all ended", look)
    assert most == at_once
    started = harbour.notes("start")
    assert sorted(started) == sorted(run.run_id for run in runs), "each once"
    if at_once == 1:
        assert started == [run.run_id for run in runs]
    assert {run.state for run in harbour.store.list()} == {RunState.FINISHED}


def test_foreground_runs_are_neither_taken_nor_counted(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    mine = harbour.store.create(harbour.config)
    (other,) = harbour.queue()
    supervisor = inside()
    with harbour.store.directory(mine.run_id).lock():
        harbour.store.update_state(mine.run_id, RunState.STARTING)
        until(lambda: harbour.is_working(other), "the detached run works", supervisor.step)
        harbour.end()
        until(lambda: harbour.state(other) is RunState.FINISHED, "it ended", supervisor.step)
        assert harbour.notes("start") == [other.run_id]
        harbour.store.update_state(mine.run_id, RunState.STOPPED)


def test_a_run_stopped_in_the_queue_is_not_started(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    first, second = harbour.queue(2)
    service.command(first.run_id, "stop", store=harbour.store)
    supervisor = inside()
    until(lambda: harbour.is_working(second), "the second works", supervisor.step)
    harbour.end()
    until(lambda: not supervisor.step(), "nothing left")
    assert harbour.notes("start") == [second.run_id]
    assert harbour.state(first) is RunState.STOPPED


def test_a_run_is_locked_from_before_it_is_starting(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    """At no moment between queue and work does it look dead, or could another take it."""
    (run,) = harbour.queue()
    supervisor = inside()
    supervisor.step()
    seen = set()

    def look() -> None:
        seen.add(harbour.state(run))
        assert harbour.store.directory(run.run_id).is_locked()

    until(lambda: harbour.is_working(run), "it works", look)
    assert seen <= {RunState.STARTING, RunState.RUNNING}
    assert harbour.holder(run) == supervisor._children[run.run_id].pid
    harbour.end()
    until(lambda: not supervisor.step(), "nothing left")


def test_coordinators_have_a_session_of_their_own_and_one_blas_thread(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    (run,) = harbour.queue()
    supervisor = inside()
    until(lambda: harbour.is_working(run), "it works", supervisor.step)
    pid = harbour.holder(run)
    assert os.getsid(pid) == pid
    assert psutil.Process(pid).environ()["OPENBLAS_NUM_THREADS"] == "1"
    harbour.end()
    until(lambda: not supervisor.step(), "nothing left")


# Crashes


def test_a_crashed_run_is_resumed_three_times_and_then_left(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    (run,) = harbour.queue()
    supervisor = inside()
    for attempt in range(AUTOMATIC_RESUMES + 1):
        begun = lambda attempt=attempt: len(harbour.notes("start")) == attempt + 1  # noqa: E731
        until(begun, f"start {attempt + 1}", supervisor.step)
        assert harbour.store.get(run.run_id).attempts == attempt
        os.kill(harbour.holder(run), signal.SIGKILL)
    until(lambda: not supervisor.step(), "nothing left")
    record = harbour.store.get(run.run_id)
    assert record.state is RunState.INTERRUPTED
    assert "SIGKILL" in record.message and "3 times" in record.message
    assert len(harbour.notes("start")) == AUTOMATIC_RESUMES + 1
    assert not harbour.notes("end")

    harbour.end()
    service.resume(run.run_id, store=harbour.store, supervise=False)
    until(lambda: harbour.state(run) is RunState.FINISHED, "resumed by hand", supervisor.step)
    until(lambda: not supervisor.step(), "nothing left")


def test_a_crashed_run_is_seen_as_interrupted_before_it_is_resumed(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    supervisor = inside(resume_delay=3600)
    run = crash_twice(harbour, supervisor)
    record = harbour.store.get(run.run_id)
    assert record.state is RunState.INTERRUPTED
    assert "in 3600 s (2 of 3)" in record.message
    assert supervisor.step(), "it stays for the resume it has promised"

    # The clock set back a day must not postpone it by a day.
    harbour.store.update(run.run_id, resume_at=time.time() + 86400)
    until(lambda: len(harbour.notes("start")) == 3, "resumed", supervisor.step)
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "it ended", supervisor.step)
    until(lambda: not supervisor.step(), "nothing left")


def crash_twice(harbour: Harbour, supervisor: Supervisor) -> RunRecord:
    """A run that waits for its second resume: the first came at once."""
    (run,) = harbour.queue()
    for starts in (1, 2):
        begun = lambda starts=starts: len(harbour.notes("start")) == starts  # noqa: E731
        until(begun, f"start {starts}", supervisor.step)
        os.kill(harbour.holder(run), signal.SIGKILL)
    until(lambda: harbour.store.to_resume(), "the second crash is noticed", supervisor.step)
    return run


def test_a_person_may_stop_a_run_that_waits_for_its_resume(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    supervisor = inside(resume_delay=3600)
    run = crash_twice(harbour, supervisor)
    service.command(run.run_id, "stop", store=harbour.store)
    until(lambda: not supervisor.step(), "nothing left")
    assert harbour.state(run) is RunState.STOPPED
    assert len(harbour.notes("start")) == 2


def test_a_coordinator_that_dies_before_it_does_anything_is_a_crash(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    (run,) = harbour.queue()
    harbour.coordinator.write_text("import sys; sys.exit('no such module')")
    supervisor = inside()
    until(lambda: not supervisor.step(), "given up")
    record = harbour.store.get(run.run_id)
    assert record.state is RunState.INTERRUPTED
    assert record.attempts == AUTOMATIC_RESUMES
    assert "exit code 1" in record.message
    output = harbour.store.directory(run.run_id).output.read_text()
    assert output.count("no such module") == AUTOMATIC_RESUMES + 1


def test_a_crashed_foreground_run_is_not_resumed(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    run = harbour.store.create(harbour.config)
    with harbour.store.directory(run.run_id).lock():
        harbour.store.update_state(run.run_id, RunState.STARTING)
    supervisor = inside()
    assert not supervisor.step()
    assert harbour.state(run) is RunState.INTERRUPTED
    assert not harbour.notes("start")


def test_a_coordinator_that_cannot_be_started_fails_its_run(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    first, second = harbour.queue(2)
    supervisor = inside()
    works = supervisor._command
    supervisor._command = lambda run_id: (
        ["/no/such/program"] if run_id == first.run_id else works(run_id)
    )
    until(lambda: harbour.is_working(second), "the next one works", supervisor.step)
    record = harbour.store.get(first.run_id)
    assert record.state is RunState.FAILED
    assert "/no/such/program" in record.message
    harbour.end()
    until(lambda: not supervisor.step(), "nothing left")


# Limits


EATER = """
import multiprocessing, os, time
def eat():
    food = bytearray(os.urandom(1) * 300_000_000)
    time.sleep(600)
if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=eat, daemon=True).start()
"""


def test_a_run_that_takes_too_much_memory_is_ended_with_its_workers(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    (run,) = harbour.queue()
    stub = COORDINATOR.replace("    while not", "    eat_with_a_worker()\n    while not")
    eater = EATER.replace('if __name__ == "__main__":', "def eat_with_a_worker():")
    main = "".join(f"    {line}\n" for line in stub.strip().splitlines())
    harbour.coordinator.write_text(f"{eater}\nif __name__ == '__main__':\n{main}")
    supervisor = inside(run=RunLimits(memory=200e6))
    until(lambda: harbour.is_working(run), "it works", supervisor.step)
    until(lambda: not supervisor.step(), "it is ended")
    record = harbour.store.get(run.run_id)
    assert record.state is RunState.INTERRUPTED and record.attempts == 0
    assert "of memory; a run may use 200 MB here" in record.message
    assert harbour.notes("start") == [run.run_id], "it is not resumed by itself"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (RunLimits(hours=1e-6), "a run may work for 1e-06 here"),
        (RunLimits(disk=100.0), "a run may write 0 MB here"),
    ],
)
def test_a_run_that_takes_too_long_or_too_much_disk_is_stopped(
    harbour: Harbour, inside: Callable[..., Supervisor], limits: RunLimits, said: str
) -> None:
    (run,) = harbour.queue()
    supervisor = inside(run=limits)
    until(lambda: not supervisor.step(), "it is stopped")
    until(lambda: said in harbour.store.get(run.run_id).message, "it is told", supervisor.step)
    record = harbour.store.get(run.run_id)
    assert record.state is RunState.STOPPED and record.hint
    assert harbour.notes("start") == harbour.notes("end") == [run.run_id]


def test_a_run_that_does_not_stop_for_its_limit_is_killed(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    (run,) = harbour.queue()
    harbour.coordinator.write_text(COORDINATOR.replace('"stop" in', "'deaf' in"))
    supervisor = inside(run=RunLimits(hours=1e-6), grace=0.5)
    until(lambda: not supervisor.step(), "it is killed")
    record = harbour.store.get(run.run_id)
    assert record.state is RunState.INTERRUPTED and record.resume_at is None
    assert "a run may work for 1e-06 here" in record.message


def test_limits_of_a_run_are_there_by_default_and_can_be_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HOURS", "MEMORY_MB", "DISK_MB"):
        monkeypatch.delenv(f"REGATTA_RUN_{name}", raising=False)
    limits = Limits.from_environment().run
    assert 0 < limits.memory < psutil.virtual_memory().total
    assert (limits.hours, limits.disk) == (168.0, 20e9)
    monkeypatch.setenv("REGATTA_RUN_MEMORY_MB", "0")
    monkeypatch.setenv("REGATTA_RUN_HOURS", "2")
    assert RunLimits.from_environment() == RunLimits(hours=2.0, memory=0.0)
    monkeypatch.setenv("REGATTA_RUN_DISK_MB", "-1")
    with pytest.raises(UserError, match="REGATTA_RUN_DISK_MB is '-1'"):
        Limits.from_environment()


# Its own life


def test_there_is_one_supervisor_a_home_and_it_is_nobodys_child(harbour: Harbour) -> None:
    (run,) = harbour.queue()
    assert harbour.ensure_supervisor()
    assert not harbour.ensure_supervisor()
    until(lambda: harbour.is_working(run), "it works")
    pid = service.supervisor_pid(harbour.store)
    assert pid is not None
    supervisor = psutil.Process(pid)
    assert supervisor.ppid() != os.getpid()
    assert "supervisor" in " ".join(supervisor.cmdline())
    assert os.getsid(pid) != os.getsid(0)
    assert supervisor.cwd() == str(harbour.home)
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/2") == str(harbour.home / "supervisor.log")
    assert lock_holders(harbour.home) == [pid]


def lock_holders(home: Path) -> list[int]:
    """Which processes have the supervisor's lock open: its coordinators must not."""
    found = []
    for process in psutil.process_iter():
        try:
            files = [os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()]
        except OSError:
            continue
        if str(lock_path(home)) in files:
            found.append(process.pid)
    return found


def test_killed_supervisor_runs_go_on_and_the_next_one_counts_them(harbour: Harbour) -> None:
    first, second = harbour.queue(2)
    harbour.ensure_supervisor()
    until(lambda: harbour.is_working(first), "the first works")
    old, coordinator = service.supervisor_pid(harbour.store), harbour.holder(first)
    assert old is not None
    os.kill(old, signal.SIGKILL)
    until(lambda: service.supervisor_pid(harbour.store) is None, "it is dead")
    assert harbour.ensure_supervisor()
    new = service.supervisor_pid(harbour.store)
    assert new not in (None, old)
    assert harbour.holder(first) == coordinator, "the first was not disturbed"

    third = harbour.queue()[0]
    harbour.end(third)
    # It has looked at the queue more than once, and still counts a run that it did not start.
    until(lambda: ticks(new or 0) >= 3, "it looked")
    assert harbour.state(second) is RunState.QUEUED
    harbour.end()
    until(lambda: harbour.state(third) is RunState.FINISHED, "all ended")
    assert harbour.notes("start") == [first.run_id, second.run_id, third.run_id]


def ticks(pid: int) -> int:
    """How often a process went to sleep of itself."""
    return psutil.Process(pid).num_ctx_switches().voluntary


def test_kills_at_random_moments_lose_no_run_and_run_none_twice(harbour: Harbour) -> None:
    runs = harbour.queue(12)
    harbour.end()  # each ends as soon as it has started
    kills = 0
    deadline = time.monotonic() + 120
    # One whose supervisor died while it started it is interrupted until the next one resumes it.
    while any(harbour.state(run) is not RunState.FINISHED for run in runs):
        assert time.monotonic() < deadline
        harbour.ensure_supervisor()
        pid = service.supervisor_pid(harbour.store)
        time.sleep(0.013 * (kills % 23))  # the moment of the kill wanders over a start
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            kills += 1
        until(lambda: service.supervisor_pid(harbour.store) is None, "it is dead")
    assert kills >= 5
    assert harbour.notes("end") == harbour.notes("start")
    ended = harbour.notes("end")
    assert sorted(set(ended)) == sorted(run.run_id for run in runs), "none lost"
    assert len(ended) == len(set(ended)), "none twice"


def test_a_run_whose_coordinator_died_unwatched_is_resumed_by_the_next(harbour: Harbour) -> None:
    (run,) = harbour.queue()
    harbour.ensure_supervisor()
    until(lambda: harbour.is_working(run), "it works")
    supervisor = service.supervisor_pid(harbour.store)
    assert supervisor is not None
    for pid in (supervisor, harbour.holder(run)):
        os.kill(pid, signal.SIGKILL)
    until(lambda: harbour.state(run) is RunState.INTERRUPTED, "it is interrupted")
    until(lambda: service.supervisor_pid(harbour.store) is None, "nobody watches")
    harbour.end()
    harbour.ensure_supervisor()
    until(lambda: harbour.state(run) is RunState.FINISHED, "it was resumed")
    assert len(harbour.notes("start")) == 2


def test_a_crash_that_no_supervisor_saw_starts_one(harbour: Harbour) -> None:
    (run,) = harbour.queue()
    harbour.ensure_supervisor()
    until(lambda: harbour.is_working(run), "it works")
    supervisor = service.supervisor_pid(harbour.store)
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    os.kill(harbour.holder(run), signal.SIGKILL)
    until(lambda: service.supervisor_pid(harbour.store) is None, "the supervisor is gone")
    until(lambda: not harbour.store.directory(run.run_id).is_locked(), "the coordinator is gone")
    service.nudge(harbour.store)
    assert service.supervisor_pid(harbour.store) is not None
    until(lambda: harbour.store.get(run.run_id).attempts == 1, "it is resumed")


def test_a_full_disk_leaves_the_queue_as_it_is(harbour: Harbour) -> None:
    """No file may grow, as if the disk were full."""
    harbour.ensure_supervisor()
    supervisor = service.supervisor_pid(harbour.store)
    assert supervisor is not None
    limits = resource.prlimit(supervisor, resource.RLIMIT_FSIZE)
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, (0, limits[1]))
    runs = harbour.queue(3)
    time.sleep(1.5)  # it looks four times a second
    assert service.supervisor_pid(harbour.store) == supervisor
    assert not harbour.notes("start") and {harbour.state(run) for run in runs} == {RunState.QUEUED}
    resource.prlimit(supervisor, resource.RLIMIT_FSIZE, limits)
    harbour.end()
    until(lambda: len(harbour.notes("end")) == 3, "all ran")
    until(lambda: {harbour.state(run) for run in runs} == {RunState.FINISHED}, "all ended")


def test_garbage_in_the_database_does_not_stop_it(harbour: Harbour) -> None:
    first, second = harbour.queue(2)
    harbour.ensure_supervisor()
    until(lambda: harbour.is_working(first), "the first works")
    garbage = harbour.home / "garbage"
    garbage.write_bytes(b"not a database" * 1000)
    with contextlib.closing(sqlite3.connect(harbour.store.path, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")  # no one is in the middle of writing over it
        garbage.replace(harbour.store.path)
    harbour.end()
    until(lambda: harbour.state(second) is RunState.FINISHED, "the queue went on")
    assert list(harbour.home.glob("regatta.db.broken-*")), "there was garbage"
    assert harbour.notes("start") == [first.run_id, second.run_id]


def test_it_leaves_when_told_and_its_runs_go_on(harbour: Harbour) -> None:
    (run,) = harbour.queue()
    harbour.ensure_supervisor()
    until(lambda: harbour.is_working(run), "it works")
    pid = service.supervisor_pid(harbour.store)
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    until(lambda: service.supervisor_pid(harbour.store) is None, "it left")
    assert harbour.is_working(run)
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "the run ended well")


def test_it_leaves_when_idle_and_a_run_queued_then_is_never_forgotten(
    harbour: Harbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no patience at all it leaves after every run: each submit may meet it at the door."""
    monkeypatch.setenv("REGATTA_SUPERVISOR_IDLE", "0")
    harbour.end()
    runs, started = [], 0
    for number in range(12):
        runs += harbour.queue()
        started += harbour.ensure_supervisor()
        if number % 3 == 2:
            until(lambda: service.supervisor_pid(harbour.store) is None, "it left")
    until(lambda: all(harbour.state(run) is RunState.FINISHED for run in runs), "all ended")
    until(lambda: service.supervisor_pid(harbour.store) is None, "it left")
    assert started >= 4, "it had left before"
    assert harbour.notes("start") == [run.run_id for run in runs]


def test_a_supervisor_that_cannot_start_is_told(harbour: Harbour) -> None:
    command = [sys.executable, "-P", "-c", "raise SystemExit('broken')"]
    with pytest.raises(RegattaError, match="did not start"):
        service.ensure_supervisor(harbour.store, command=command)
    assert "broken" in (harbour.home / "supervisor.log").read_text()


def test_a_wrong_limit_is_told_in_a_sentence(harbour: Harbour) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "regatta.runs.supervisor"],
        env={**os.environ, "REGATTA_MAX_RUNS": "many"},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    assert done.returncode == 2
    assert "REGATTA_MAX_RUNS is 'many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_crashes_again_is_given_more_time(inside: Callable[..., Supervisor]) -> None:
    supervisor = inside(resume_delay=2.0)
    assert [supervisor._delay(attempts) for attempts in range(3)] == [0.0, 2.0, 20.0]


def test_crashes_between_which_a_run_gets_on_are_not_counted(
    harbour: Harbour, inside: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regatta.runs.supervisor.STEADY_SECONDS", 0.0)
    (run,) = harbour.queue()
    supervisor = inside()
    for start in range(1, AUTOMATIC_RESUMES + 3):
        begun = lambda start=start: len(harbour.notes("start")) == start  # noqa: E731
        until(begun, f"start {start}", supervisor.step)
        harbour.checkpoint(run, start)
        os.kill(harbour.holder(run), signal.SIGKILL)
    until(lambda: len(harbour.notes("start")) == start + 1, "resumed again", supervisor.step)
    assert harbour.store.get(run.run_id).attempts == 1
    # One that saves nothing any more gets nowhere.
    for more in range(1, AUTOMATIC_RESUMES + 1):
        begun = lambda total=start + more: len(harbour.notes("start")) == total  # noqa: E731
        until(begun, f"start {start + more}", supervisor.step)
        os.kill(harbour.holder(run), signal.SIGKILL)
    until(lambda: not supervisor.step(), "given up")
    assert harbour.state(run) is RunState.INTERRUPTED


# The spare


def test_a_spare_takes_the_next_run_and_is_no_other_coordinator(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    supervisor = inside(spare=True)
    supervisor.step()
    assert supervisor._spare is not None
    spare = supervisor._spare.pid
    (run,) = harbour.queue()
    until(lambda: harbour.is_working(run), "it works", supervisor.step)
    assert harbour.holder(run) == spare == supervisor._children[run.run_id].pid
    assert os.getsid(spare) == spare
    process = psutil.Process(spare)
    assert process.environ()["OPENBLAS_NUM_THREADS"] == "1"
    assert process.cwd() == str(harbour.home)
    assert harbour.store.directory(run.run_id).output.read_text() == f"works on {run.run_id}\n"
    assert spare not in lock_holders(harbour.home), "not the supervisor's"

    until(lambda: supervisor._spare is not None, "there is another", supervisor.step)
    other = supervisor._spare.pid
    os.kill(spare, signal.SIGKILL)
    until(lambda: len(harbour.notes("start")) == 2, "it is resumed", supervisor.step)
    assert harbour.holder(run) == other
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "it ended", supervisor.step)


def test_without_its_spare_a_run_is_started_all_the_same(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    supervisor = inside(spare=True)
    supervisor.step()
    assert supervisor._spare is not None
    dead = supervisor._spare.pid
    os.kill(dead, signal.SIGKILL)
    until(lambda: psutil.Process(dead).status() == psutil.STATUS_ZOMBIE, "it is dead")
    (run,) = harbour.queue()
    until(lambda: harbour.is_working(run), "it works", supervisor.step)
    assert harbour.holder(run) != dead
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "it ended", supervisor.step)


def test_a_spare_that_dies_is_not_replaced_again_and_again(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    harbour.coordinator.write_text("raise SystemExit('broken')")
    supervisor = inside(spare=True)
    supervisor.step()
    assert supervisor._spare is not None
    pid = supervisor._spare.pid
    until(lambda: supervisor._spare is None, "its end is noticed", supervisor.step)
    assert not psutil.pid_exists(pid), "and waited for"
    supervisor.step()
    assert supervisor._spare is None


def test_a_spare_begins_anew_where_a_module_has_changed(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    module = harbour.home.parent / "module.py"
    module.touch()
    fake = f"""
import sys, types
sys.modules["regatta.fake"] = fake = types.ModuleType("regatta.fake")
fake.__file__ = {str(module)!r}
open(f"{{fake.__file__}}.seen", "a").write(str(len(sys.argv)))
"""
    harbour.coordinator.write_text(fake + COORDINATOR)
    supervisor = inside(spare=True)
    supervisor.step()
    assert supervisor._spare is not None
    spare, seen = supervisor._spare.pid, Path(f"{module}.seen")
    until(lambda: children_of(spare), "it waits")  # the tracker, after its imports
    os.utime(module, (1, 1))
    (run,) = harbour.queue()
    until(lambda: harbour.is_working(run), "it works", supervisor.step)
    assert harbour.holder(run) == spare, "the same process"
    assert psutil.Process(spare).cmdline()[-1] == run.run_id
    assert seen.read_text().startswith("32"), "which has begun twice"  # and another one since
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "it ended", supervisor.step)


def children_of(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children()


@pytest.fixture
def with_spares(regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REGATTA_SPARE")


@pytest.mark.usefixtures("with_spares")
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_a_spare_dies_with_its_supervisor(harbour: Harbour, way: signal.Signals) -> None:
    harbour.ensure_supervisor()
    spare_of(harbour)
    pid = service.supervisor_pid(harbour.store)
    assert pid is not None
    os.kill(pid, way)
    until(lambda: not processes_of(harbour.home), "nothing is left")


@pytest.mark.usefixtures("with_spares")
def test_a_run_that_a_spare_took_outlives_its_supervisor(harbour: Harbour) -> None:
    harbour.ensure_supervisor()
    spare = spare_of(harbour)
    pid = service.supervisor_pid(harbour.store)
    assert pid is not None
    (run,) = harbour.queue()
    until(lambda: harbour.is_working(run), "it works")
    assert harbour.holder(run) == spare.pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: service.supervisor_pid(harbour.store) is None, "the supervisor is dead")
    assert harbour.is_working(run)
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "the run ended well")
    until(lambda: not processes_of(harbour.home), "nothing is left")


def spare_of(harbour: Harbour) -> psutil.Process:
    """The spare of a supervisor that may just be starting."""
    found: list[psutil.Process] = []

    def look() -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            pid = service.supervisor_pid(harbour.store)
            children = [] if pid is None else children_of(pid)
            found[:] = [each for each in children if "--wait" in each.cmdline()]
        return found

    until(look, "there is a spare")
    return found[0]


@pytest.mark.usefixtures("with_spares")
def test_who_is_about_to_start_a_run_finds_a_spare(harbour: Harbour) -> None:
    for _ in range(3):
        service.make_ready(harbour.store)
    spare = spare_of(harbour)
    pid = service.supervisor_pid(harbour.store)
    assert pid is not None
    service.make_ready(harbour.store)
    assert service.supervisor_pid(harbour.store) == pid and spare.is_running()
    os.kill(pid, signal.SIGTERM)  # killed, it would be outlived by a spare that still imports
    until(lambda: not processes_of(harbour.home), "nothing is left")


def test_no_spare_is_kept_where_none_is_wanted(harbour: Harbour) -> None:
    assert os.environ["REGATTA_SPARE"] == "0"
    service.make_ready(harbour.store)
    assert service.supervisor_pid(harbour.store) is None
    harbour.ensure_supervisor()
    pid = service.supervisor_pid(harbour.store)
    assert pid is not None
    until(lambda: ticks(pid) >= 5, "it looked")
    assert not children_of(pid)


# Coordinators that hang


def test_a_coordinator_that_is_stopped_is_killed_and_its_run_resumed(
    harbour: Harbour, inside: Callable[..., Supervisor]
) -> None:
    (run,) = harbour.queue()
    supervisor = inside(hang=2.0)
    until(lambda: harbour.is_working(run), "it works", supervisor.step)
    stopped = psutil.Process(harbour.holder(run))
    stopped.suspend()
    until(lambda: stopped.status() == psutil.STATUS_STOPPED, "it is stopped")
    at = time.monotonic()
    until(lambda: len(harbour.notes("start")) == 2, "it is resumed", supervisor.step)
    took = time.monotonic() - at
    print(f"resumed {took:.2f} s after it was stopped")
    assert not stopped.is_running() and took >= 2.0
    assert harbour.store.get(run.run_id).attempts == 1
    harbour.end()
    until(lambda: harbour.state(run) is RunState.FINISHED, "it ended", supervisor.step)


def test_it_is_told_that_a_coordinator_hung(
    harbour: Harbour, inside: Callable[..., Supervisor], caplog: pytest.LogCaptureFixture
) -> None:
    """For a lock that is never given back."""
    deadlock = "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()"
    harbour.coordinator.write_text(
        COORDINATOR.replace("    while not any", f"    {deadlock}\n    while not any")
    )
    (run,) = harbour.queue()
    supervisor = inside(hang=1.0, resume_delay=3600)
    until(lambda: harbour.store.get(run.run_id).resume_at, "killed twice", supervisor.step)
    record = harbour.store.get(run.run_id)
    assert "did nothing for 1 s and was killed" in record.message
    assert record.state is RunState.INTERRUPTED
    assert "has done nothing for 1 s: it is killed" in caplog.text
