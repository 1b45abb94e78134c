"""The list of runs: what it keeps, what it refuses, and that it can always be made again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from regatta.configuration import TrainingConfig
from regatta.runs import store as store_module
from regatta.runs.directory import LockHeld
from regatta.runs.states import TRANSITIONS, IllegalTransition, RunState
from regatta.runs.store import RunRecord, RunStore, waiting
from regatta.utils import RegattaError, UserError, read_json

CONFIG = TrainingConfig(path="/data/housing.csv", target="price", name="first try")


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path)


@pytest.fixture
def running(store: RunStore) -> Iterator[RunRecord]:
    """A run that this process works on."""
    run = store.create(CONFIG)
    with store.directory(run.run_id).lock():
        store.update_state(run.run_id, RunState.STARTING)
        yield store.update_state(run.run_id, RunState.RUNNING)


def states(store: RunStore) -> dict[str, RunState]:
    return {run.run_id: run.state for run in store.list()}


def test_a_new_run_has_a_private_directory_with_configuration_and_record(store: RunStore) -> None:
    run = store.create(CONFIG, detached=True)
    directory = store.directory(run.run_id)
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert store.config(run.run_id) == CONFIG
    assert store.get(run.run_id) == run == store.list()[0]
    assert (run.dataset, run.target, run.name) == ("housing.csv", "price", "first try")


def test_a_record_survives_json_and_fields_of_another_version(store: RunStore) -> None:
    run = store.create(CONFIG)
    value = read_json(store.directory(run.run_id).record)
    assert RunRecord.from_json({**value, "new_in_version_9": 1}) == run


def test_a_run_that_fails_to_be_made_leaves_nothing(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(RunStore, "_write_row", fail)
    with pytest.raises(OSError, match="no room"):
        store.create(CONFIG)
    assert os.listdir(store.root) == []


def test_live_without_a_lock_is_interrupted(store: RunStore, running: RunRecord) -> None:
    assert store.get(running.run_id).state is RunState.RUNNING
    other = store.create(CONFIG)
    descriptor = store.directory(other.run_id).acquire()
    store.update_state(other.run_id, RunState.STARTING)
    os.close(descriptor)
    assert store.get(other.run_id).state is RunState.INTERRUPTED
    assert states(store) == {
        running.run_id: RunState.RUNNING,
        other.run_id: RunState.INTERRUPTED,
    }
    assert other.run_id in {run.run_id for run in store.live()}, "the supervisor sees it died"


def test_a_foreground_run_that_never_began_does_not_wait_for_ever(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, queued = store.create(CONFIG), store.create(CONFIG, detached=True)
    assert store.get(run.run_id).state is RunState.QUEUED
    monkeypatch.setattr(store_module, "FOREGROUND_GRACE", -1.0)
    assert store.get(run.run_id).state is RunState.INTERRUPTED
    assert store.get(queued.run_id).state is RunState.QUEUED
    assert store.requeue(run.run_id, detached=True).state is RunState.QUEUED


def test_times_and_messages_follow_the_state(store: RunStore, running: RunRecord) -> None:
    assert running.started is not None and running.ended is None
    failed = store.update_state(running.run_id, RunState.FAILED, message="No memory.", hint="Buy.")
    assert failed.ended is not None
    again = store.update_state(running.run_id, RunState.STARTING)
    assert (again.ended, again.message, again.hint) == (None, "", "")
    assert again.started == running.started


def test_an_illegal_step_changes_nothing(store: RunStore) -> None:
    run = store.create(CONFIG)
    content = store.directory(run.run_id).record.read_bytes()
    with pytest.raises(IllegalTransition, match=r"queued .*cannot become finished"):
        store.update_state(run.run_id, RunState.FINISHED)
    assert store.directory(run.run_id).record.read_bytes() == content


def test_a_run_with_a_holder_is_not_declared_interrupted(
    store: RunStore, running: RunRecord
) -> None:
    with pytest.raises(IllegalTransition, match=f"process {os.getpid()} works on it"):
        store.update_state(running.run_id, RunState.INTERRUPTED)


@pytest.mark.parametrize("name", ["nonsense", "state", "run_id", "created"])
def test_unknown_and_fixed_fields_are_not_changed(store: RunStore, name: str) -> None:
    run = store.create(CONFIG)
    with pytest.raises(TypeError, match=name):
        store.update(run.run_id, **{name: 1})


def test_progress_is_seen_without_a_transaction(store: RunStore, running: RunRecord) -> None:
    before, database = store.data_version(), store.path.read_bytes()
    assert before == store.data_version()
    store.note_progress(running.run_id, progress=0.5, step=7)
    assert store.path.read_bytes() == database
    assert store.data_version() != before
    assert store.list()[0].step == store.get(running.run_id).step == 7


def test_data_version_changes_with_every_kind_of_change(store: RunStore) -> None:
    seen = [store.data_version()]

    def changed(what: str) -> None:
        assert store.data_version() != seen[-1], what
        seen.append(store.data_version())
        assert store.data_version() == seen[-1], "nothing happened"

    run = store.create(CONFIG)
    changed("created")
    with store.directory(run.run_id).lock():
        store.update_state(run.run_id, RunState.STARTING)
        changed("started")
        store.note_progress(run.run_id, progress=0.1)
        changed("progress")
    changed("died")
    store.send_command(run.run_id, "stop")
    changed("stopped")
    store.delete(run.run_id)
    changed("deleted")


# The queue


def test_the_queue_is_first_come_first_served_and_has_detached_runs_only(store: RunStore) -> None:
    store.create(CONFIG)
    runs = [store.create(CONFIG, detached=True) for _ in range(3)]
    for run in runs:
        first = store.next_queued()
        assert first is not None and first.run_id == run.run_id
        store.send_command(run.run_id, "stop")
    assert store.next_queued() is None


def test_a_resumed_run_goes_to_the_end_and_a_crashed_one_to_its_old_place(store: RunStore) -> None:
    first, second = (store.create(CONFIG, detached=True) for _ in range(2))
    store.send_command(first.run_id, "stop")
    assert store.requeue(first.run_id, detached=True).position == 3
    assert store.next_queued() == store.get(second.run_id)
    store.send_command(first.run_id, "stop")
    store.update(first.run_id, position=1)
    assert store.requeue(first.run_id, detached=True, attempts=1).position == 1
    assert store.next_queued() == store.get(first.run_id)


def test_the_queue_survives_the_loss_of_the_database(store: RunStore) -> None:
    runs = [store.create(CONFIG, detached=True) for _ in range(5)]
    store.path.unlink()
    order = []
    while (run := store.next_queued()) is not None:
        order.append(run.run_id)
        store.send_command(run.run_id, "stop")
    assert order == [run.run_id for run in runs]


def queue(store: RunStore) -> list[str]:
    return [run.run_id for run in waiting(store.list())]


def test_a_waiting_run_is_moved_in_the_queue_and_taken_in_its_new_turn(store: RunStore) -> None:
    store.create(CONFIG)  # a foreground run waits for no one
    one, two, three = (store.create(CONFIG, detached=True).run_id for _ in range(3))
    for run_id, where, order in [
        (three, "first", [three, one, two]),
        (three, "up", [three, one, two]),
        (three, "down", [one, three, two]),
        (two, "up", [one, two, three]),
        (one, "last", [two, three, one]),
        (one, "down", [two, three, one]),
    ]:
        assert store.move(run_id, where).run_id == run_id
        assert queue(store) == order, (run_id, where)
        first = store.next_queued()
        assert first is not None and first.run_id == order[0]
    store.path.unlink()  # the files have the order too
    assert queue(store) == [two, three, one]


def test_runs_that_do_not_wait_have_no_place_in_the_queue(
    store: RunStore, running: RunRecord
) -> None:
    foreground, waits = store.create(CONFIG), store.create(CONFIG, detached=True)
    for run in (running, foreground):
        with pytest.raises(UserError, match="has no place in the queue"):
            store.move(run.run_id, "first")
    with pytest.raises(UserError, match="no place 'middle'"):
        store.move(waits.run_id, "middle")


def test_two_runs_at_one_place_are_set_apart_by_a_move(store: RunStore) -> None:
    runs = sorted(store.create(CONFIG, detached=True).run_id for _ in range(3))
    for run_id in runs:
        store.update(run_id, position=5)
    store.move(runs[2], "up")
    assert queue(store) == [runs[0], runs[2], runs[1]]
    assert len({run.position for run in store.list()}) == 3


# What is counted


def test_counts_outlive_their_runs(store: RunStore, running: RunRecord) -> None:
    store.note_progress(running.run_id, rows_trained=100, worker_deaths=2, checkpoints=3)
    other = store.create(CONFIG)
    store.update(other.run_id, rows_trained=10)
    counted = {"rows_trained": 110, "restarts": 0, "worker_deaths": 2, "checkpoints": 3}
    assert store.counts(store.list()) == counted
    store.delete(other.run_id)
    third = store.create(CONFIG).run_id
    store.update(third, rows_trained=1)
    store.delete(third)
    assert store.counts(store.list()) == {**counted, "rows_trained": 111}


def test_each_attempt_after_the_first_is_a_restart(store: RunStore) -> None:
    run_id = store.create(CONFIG).run_id
    for attempt in range(3):
        with store.directory(run_id).lock():
            assert store.update_state(run_id, RunState.STARTING).restarts == attempt
            # The supervisor writes it, and then its coordinator.
            assert store.update_state(run_id, RunState.STARTING).restarts == attempt
            store.update_state(run_id, RunState.RUNNING)


def test_a_look_whether_the_list_can_be_written_changes_nothing(store: RunStore) -> None:
    store.create(CONFIG)
    before = store.data_version()
    store.check_writable()
    assert store.data_version() == before


def test_a_list_that_cannot_be_written_is_told(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_SECONDS", 0.05)
    store.create(CONFIG)
    with contextlib.closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegattaError, match="stayed locked"):
            store.check_writable()


@pytest.mark.slow
def test_a_thousand_queued_runs_are_listed_and_cancelled_at_once(store: RunStore) -> None:
    runs = [store.create(CONFIG, detached=True) for _ in range(1000)]
    began = time.monotonic()
    assert len(store.list()) == 1000
    listed = time.monotonic()
    store.send_command(runs[500].run_id, "stop")
    assert store.next_queued() == runs[0]
    cancelled = time.monotonic()
    print(f"1,000 runs listed in {listed - began:.3f} s, one cancelled in {cancelled - listed:.3f}")
    assert listed - began < 10 and cancelled - listed < 10


# Commands


def test_commands_reach_a_live_run_in_order_and_once(store: RunStore, running: RunRecord) -> None:
    for word in ("pause", "resume", "stop"):
        store.send_command(running.run_id, word)
    assert store.take_commands(running.run_id) == ["pause", "resume", "stop"]
    assert store.take_commands(running.run_id) == []


def test_a_command_for_an_earlier_life_is_not_obeyed(store: RunStore, running: RunRecord) -> None:
    store.send_command(running.run_id, "stop")
    store.update_state(running.run_id, RunState.STOPPED)
    store.update_state(running.run_id, RunState.STARTING)
    assert store.take_commands(running.run_id) == []


def test_a_command_sent_while_starting_is_kept(store: RunStore) -> None:
    run = store.create(CONFIG, detached=True)
    with store.directory(run.run_id).lock():
        store.update_state(run.run_id, RunState.STARTING)  # the supervisor, for the coordinator
        store.send_command(run.run_id, "stop")
        store.update_state(run.run_id, RunState.STARTING)  # the coordinator itself
        assert store.take_commands(run.run_id) == ["stop"]


def test_stop_ends_a_waiting_or_interrupted_run_at_once(store: RunStore) -> None:
    waiting, crashed = store.create(CONFIG, detached=True), store.create(CONFIG, detached=True)
    with store.directory(crashed.run_id).lock():
        store.update_state(crashed.run_id, RunState.STARTING)
    store.update_state(crashed.run_id, RunState.INTERRUPTED, resume_at=1.0)
    assert store.to_resume() == [store.get(crashed.run_id)]
    for run in (waiting, crashed):
        assert store.send_command(run.run_id, "stop").state is RunState.STOPPED
    assert store.next_queued() is None
    assert store.to_resume() == []


def test_a_command_to_a_run_at_rest_is_refused_with_a_way_on(store: RunStore) -> None:
    run = store.create(CONFIG)
    store.send_command(run.run_id, "stop")
    with pytest.raises(UserError, match=r"nothing to pause.*runs resume"):
        store.send_command(run.run_id, "pause")
    with pytest.raises(UserError, match="no command 'explode'"):
        store.send_command(run.run_id, "explode")


# Deleting


def test_a_live_run_is_not_deleted(store: RunStore, running: RunRecord) -> None:
    with pytest.raises(UserError, match=f"process {os.getpid()}.*runs stop"):
        store.delete(running.run_id)
    assert store.directory(running.run_id).exists()


def test_a_deleted_run_is_gone_from_disk_and_list(store: RunStore) -> None:
    run, other = store.create(CONFIG), store.create(CONFIG)
    store.delete(run.run_id)
    assert os.listdir(store.root) == [other.run_id]
    assert list(states(store)) == [other.run_id]
    for act in (store.get, store.delete, store.config):
        with pytest.raises(UserError, match="no run"):
            act(run.run_id)
    with pytest.raises(UserError, match="no run"):
        store.send_command(run.run_id, "stop")


def test_delete_and_start_at_the_same_moment_never_both_win(store: RunStore) -> None:
    for _ in range(20):
        run = store.create(CONFIG, detached=True)
        outcome: list[str] = []
        barrier = threading.Barrier(2)

        def start(run_id: str, outcome: list[str], barrier: threading.Barrier) -> None:
            barrier.wait()
            try:
                with store.directory(run_id).lock():
                    store.update_state(run_id, RunState.STARTING)
                    outcome.append("started")
                    store.update_state(run_id, RunState.STOPPED)
            except (LockHeld, UserError):
                outcome.append("not started")

        thread = threading.Thread(target=start, args=(run.run_id, outcome, barrier))
        thread.start()
        barrier.wait()
        deleted = True
        try:
            store.delete(run.run_id)
        except UserError:
            deleted = False
        thread.join()
        # Deleted after the start had ended is fine; a directory that is half there is not.
        assert store.directory(run.run_id).exists() is not deleted
        assert deleted or outcome == ["started"]


# Garbage, loss, other processes


@pytest.mark.parametrize(
    "content",
    [b"garbage" * 1000, b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 5000],
    ids=["text", "zeros", "false header"],
)
def test_a_garbage_database_is_moved_aside_and_made_again(store: RunStore, content: bytes) -> None:
    run = store.create(CONFIG, detached=True)
    store.path.write_bytes(content)
    assert states(store) == {run.run_id: RunState.QUEUED}
    assert [path.read_bytes() for path in store.home.glob("regatta.db.broken-*")] == [content]
    assert store.next_queued() == run


def test_each_garbage_database_is_kept(store: RunStore) -> None:
    store.create(CONFIG)
    for number in range(3):
        store.path.write_bytes(b"garbage %d" % number * 100)
        assert len(store.list()) == 1
    assert len(list(store.home.glob("regatta.db.broken-*"))) == 3


def test_damage_found_in_the_middle_of_a_change_does_not_undo_it(store: RunStore) -> None:
    runs = [store.create(CONFIG, detached=True) for _ in range(60)]
    content = bytearray(store.path.read_bytes())
    content[4096:] = os.urandom(len(content) - 4096)  # every page but the first
    store.path.write_bytes(content)
    assert store.send_command(runs[0].run_id, "stop").state is RunState.STOPPED
    assert list(store.home.glob("regatta.db.broken-*"))
    assert states(store)[runs[0].run_id] is RunState.STOPPED
    assert len(store.list()) == 60


def test_a_missing_database_is_made_again(store: RunStore) -> None:
    run = store.create(CONFIG)
    store.path.unlink()
    assert store.list() == [run]


def test_a_database_of_something_else_is_moved_aside(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "regatta.db")
    other.execute("CREATE TABLE runs (id)")
    other.commit()
    other.close()
    assert RunStore(tmp_path).list() == []
    assert list(tmp_path.glob("regatta.db.broken-*"))


def test_a_database_of_a_newer_version_is_left_alone(store: RunStore) -> None:
    store.create(CONFIG)
    database = sqlite3.connect(store.path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    content = store.path.read_bytes()
    with pytest.raises(RegattaError, match="newer"):
        store.list()
    assert store.path.read_bytes() == content


def test_a_list_of_an_older_version_is_made_again(store: RunStore) -> None:
    run = store.create(CONFIG, detached=True)
    with contextlib.closing(sqlite3.connect(store.path, isolation_level=None)) as database:
        database.execute("DROP TABLE changes")
        database.execute("ALTER TABLE runs DROP COLUMN resume_at")
        database.execute("PRAGMA user_version = 1")
    assert store.list() == [run] and store.next_queued() == run
    store.send_command(run.run_id, "stop")
    assert not list(store.home.glob("regatta.db.broken-*"))


def test_looking_for_changes_leaves_the_locks_of_other_threads_alone(store: RunStore) -> None:
    """POSIX takes a process's locks away when it closes any descriptor of the file."""
    store.create(CONFIG)
    write = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)"
    command = [sys.executable, "-c", f"{write}; d.execute('BEGIN IMMEDIATE')", str(store.path)]

    def look(_: sqlite3.Connection) -> tuple[bool, str]:
        thread = threading.Thread(target=lambda: [store.data_version(), store.list()])
        thread.start()
        thread.join()
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return done.returncode == 0, done.stderr

    entered, error = store._with_database(look, write=True)
    assert not entered and "locked" in error
    assert subprocess.run(command, timeout=30).returncode == 0


def test_a_directory_removed_by_hand_leaves_the_list(store: RunStore) -> None:
    run, other = store.create(CONFIG, detached=True), store.create(CONFIG, detached=True)
    shutil.rmtree(store.directory(run.run_id).path)
    assert store.next_queued() is None or store.next_queued() == other
    assert list(states(store)) == [other.run_id]


def test_a_damaged_record_does_not_hide_the_other_runs(store: RunStore) -> None:
    run, other = store.create(CONFIG), store.create(CONFIG)
    store.directory(run.run_id).record.write_text('{"state": "sailing"}')
    assert list(states(store)) == [other.run_id]
    with pytest.raises(RegattaError, match="damaged"):
        store.get(run.run_id)


def test_a_row_older_than_its_file_is_mended(store: RunStore) -> None:
    """As after a kill between the two writes of a change."""
    run = store.create(CONFIG, detached=True)
    with sqlite3.connect(store.path) as database:
        row = database.execute("SELECT * FROM runs").fetchone()
    store.send_command(run.run_id, "stop")
    with sqlite3.connect(store.path) as database:
        marks = ", ".join("?" * len(row))
        database.execute(f"INSERT OR REPLACE INTO runs VALUES ({marks})", row)
    assert store.next_queued() is None
    assert states(store) == {run.run_id: RunState.STOPPED}


def test_the_database_has_a_rollback_journal(store: RunStore) -> None:
    store.create(CONFIG)
    with sqlite3.connect(store.path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


CREATE = """
import sys
from pathlib import Path
from regatta.configuration import TrainingConfig
from regatta.runs.store import RunStore
store = RunStore(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    store.create(TrainingConfig(path="/x/a.csv", target="y"), detached=True)
"""


def test_processes_that_start_together_lose_no_run(tmp_path: Path) -> None:
    """Together they make the database, and each its runs."""
    command = [sys.executable, "-P", "-c", CREATE, str(tmp_path), "10"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    runs = RunStore(tmp_path).list()
    assert len(runs) == 30
    assert sorted(run.position or 0 for run in runs) == list(range(1, 31))


def test_a_killed_writer_leaves_whole_runs_only(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-c", CREATE, str(tmp_path), "100000"]
    store = RunStore(tmp_path)
    for _ in range(5):
        before = len(store.list())
        writer = subprocess.Popen(command)
        while len(store.list()) < before + 3 and writer.poll() is None:
            pass
        assert writer.poll() is None, "it was to be killed while it writes"
        writer.kill()
        writer.wait()
        listed = states(store)
        on_disk = {name for name in os.listdir(store.root) if not name.startswith(".")}
        assert set(listed) == on_disk
        positions = [run.position for run in store.list()]
        assert len(set(positions)) == len(positions)
    store.rebuild()
    assert not list(store.root.glob(".*")), "half-made directories are cleared"


# Any order of events


class StoreMachine(RuleBasedStateMachine):
    """One run, told anything in any order, against the table of transitions."""

    home: Path

    def __init__(self) -> None:
        super().__init__()
        self.store = RunStore(self.home)
        self.run_id = self.store.create(CONFIG, detached=True).run_id
        self.written = RunState.QUEUED
        self.lock: int | None = None

    @property
    def shown(self) -> RunState:
        dead = self.written.is_live and self.lock is None
        return RunState.INTERRUPTED if dead else self.written

    @rule()
    def coordinator_starts(self) -> None:
        if self.lock is None and RunState.STARTING in TRANSITIONS[self.shown]:
            self.lock = self.store.directory(self.run_id).acquire()
            self.store.update_state(self.run_id, RunState.STARTING)
            self.written = RunState.STARTING

    @rule(state=st.sampled_from(list(RunState)))
    def coordinator_says(self, state: RunState) -> None:
        if self.lock is None or state in (RunState.QUEUED, RunState.STARTING):
            return
        legal = state in TRANSITIONS[self.written] or (state is self.written and state.is_live)
        try:
            self.store.update_state(self.run_id, state)
        except IllegalTransition:
            assert not legal or state is RunState.INTERRUPTED
        else:
            assert legal and state is not RunState.INTERRUPTED
            self.written = state

    @rule()
    def coordinator_dies(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    @rule()
    def someone_resumes(self) -> None:
        try:
            self.store.requeue(self.run_id, detached=True)
        except IllegalTransition:
            assert not self.shown.is_resumable
        else:
            assert self.shown.is_resumable
            self.written = RunState.QUEUED

    @rule()
    def someone_stops(self) -> None:
        shown = self.shown
        try:
            self.store.send_command(self.run_id, "stop")
        except UserError:
            assert shown.is_terminal and shown is not RunState.INTERRUPTED
        else:
            if not shown.is_live:
                self.written = RunState.STOPPED

    @rule()
    def database_is_lost(self) -> None:
        self.store.path.unlink(missing_ok=True)

    @rule()
    def database_turns_to_garbage(self) -> None:
        self.store.path.write_bytes(b"not a database at all" * 300)

    @invariant()
    def list_file_and_model_agree(self) -> None:
        (listed,) = self.store.list()
        assert listed == self.store.get(self.run_id)
        assert listed.state is self.shown
        assert not (listed.state.is_live and not self.store.directory(self.run_id).is_locked())

    def teardown(self) -> None:
        self.coordinator_dies()
        self.store.delete(self.run_id)


def test_any_order_of_events_keeps_list_and_directory_in_step(tmp_path: Path) -> None:
    StoreMachine.home = tmp_path
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
