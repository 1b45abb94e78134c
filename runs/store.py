"""The list of runs, their queue and the commands sent to them.

::

    page, command, supervisor, coordinator        any process, short transactions
            │ create, update, send_command, …
            ▼
    regatta.db (rollback journal)  ── the list, the order of the queue, commands on their way
    runs/<id>/run.json             ── the truth about a run; replaced as a whole

A change takes the database's write lock, replaces ``run.json`` and then commits the row, so that
changes to one run come one after the other. A row remembers which ``run.json`` it was made
from; where they differ (a process died in between, or a coordinator noted its progress, which
touches the file alone) the file wins. So the list can always be made again from the directories,
and is, when the database is missing or garbage.

No one opens the database's file but SQLite: closing a descriptor of it would take away the locks
that another thread of the process holds there.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from regatta.configuration import TrainingConfig
from regatta.runs.directory import (
    RUN_ID,
    LockHeld,
    RunDirectory,
    check_run_id,
    new_run_id,
    no_such_run,
    runs_root,
    take_lock,
)
from regatta.runs.states import LIVE, IllegalTransition, RunState, check_transition
from regatta.runs.tuning import COMMAND as SET
from regatta.runs.tuning import Tuning
from regatta.utils import RegattaError, UserError, fsync_directory, read_json, write_json

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 3
BUSY_SECONDS = 5.0
COMMANDS = ("pause", "resume", "stop", "scale", SET, "kill")
MOVES = ("first", "last", "up", "down")
# Fields of a record that only grow. What deleted runs had is kept, so that their sums do too.
COUNTS = ("rows_trained", "restarts", "worker_deaths", "checkpoints")

# A foreground run is queued for an instant before its coordinator takes the lock.
# If it stays so, the process died in between.
FOREGROUND_GRACE = 15.0

_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    detached INTEGER NOT NULL,
    position INTEGER,
    resume_at REAL,
    stamp TEXT NOT NULL,
    record TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_state ON runs (state, position);
CREATE TABLE commands (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    command TEXT NOT NULL,
    sent REAL NOT NULL
);
CREATE INDEX commands_by_run ON commands (run_id, id);
CREATE TABLE deleted (name TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE changes (count INTEGER NOT NULL);
INSERT INTO changes VALUES (0);
"""

_LIVE = tuple(str(state) for state in LIVE)
_WAITING = f"state = '{RunState.QUEUED}' AND detached"
_GARBAGE = {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FORMAT}

T = TypeVar("T")
# The method `RunStore.list` hides the type's name inside the class.
Commands = list[str]


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What is known about a run: the content of ``run.json``.

    Times are seconds since the epoch; ``progress`` goes from 0 to 1; ``attempts`` counts the
    times the supervisor resumed the run by itself, and ``resume_at`` is when it will do so next;
    ``position`` orders the queue. ``epochs`` and ``total_steps`` are those at most; ``None`` where
    the run ends by itself, mostly long before. The `COUNTS` are of all attempts together, with what
    was lost and done again: ``rows_trained``, ``restarts`` (attempts after the first),
    ``worker_deaths`` and ``checkpoints``. ``learning_rate`` (of the next step) and ``batch_size``
    are those in force, where mini-batches are taken; ``tuned`` counts how often they were set.
    """

    run_id: str
    name: str = ""
    state: RunState = RunState.QUEUED
    model: str = ""
    solver: str = ""
    dataset: str = ""
    target: str = ""
    detached: bool = False
    created: float = 0.0
    started: float | None = None
    ended: float | None = None
    epochs: float | None = None
    step: int | None = None
    total_steps: int | None = None
    progress: float = 0.0
    message: str = ""
    hint: str = ""
    validation_r2: float | None = None
    train_r2: float | None = None
    rows_per_second: float | None = None
    workers: int | None = None
    rows_train: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    tuned: int = 0
    attempts: int = 0
    resume_at: float | None = None
    position: int | None = None
    rows_trained: int = 0
    restarts: int = 0
    worker_deaths: int = 0
    checkpoints: int = 0

    @property
    def title(self) -> str:
        """Its name, or what it does where it has none."""
        return self.name or f"{self.dataset}: {self.target}"

    @property
    def stands(self) -> str:
        """Changes whenever the run follows a command: its state, the number of its workers, and how
        often its settings were changed."""
        return f"{self.state.value} {self.workers} {self.tuned}"

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunRecord:
        """The record that `to_json` wrote; fields of another version are left out."""
        known = {key: item for key, item in value.items() if key in _FIELDS}
        return cls(**{**known, "state": RunState(known["state"])})


Records = list[RunRecord]
_FIELDS = {each.name for each in fields(RunRecord)}
_CHANGEABLE = _FIELDS - {"run_id", "state", "created"}


class RunStore:
    """The runs under one home. Safe to use from any number of processes and threads.

    Parameters
    ----------
    home : Path
        Regatta's home; `regatta.utils.home` unless a test has its own.

    Raises
    ------
    RegattaError
        From any method: the database stayed locked, or the disk is full.
    """

    def __init__(self, home: Path) -> None:
        self.home = Path(home)
        self.path = self.home / "regatta.db"
        self.root = runs_root(self.home)

    def directory(self, run_id: str) -> RunDirectory:
        """The directory of a run. A `UserError` if ``run_id`` is not shaped like one."""
        return RunDirectory(self.root / check_run_id(run_id))

    # Reading

    def get(self, run_id: str) -> RunRecord:
        """The run's record as it is now. A `UserError` if there is no such run."""
        directory = self.directory(run_id)
        return _effective(_read_record(directory), directory)

    def config(self, run_id: str) -> TrainingConfig:
        """The configuration the run was made with."""
        directory = self.directory(run_id)
        if not directory.exists():
            raise no_such_run(run_id)
        return TrainingConfig.from_json(read_json(directory.config))

    def list(self) -> Records:
        """All runs, newest first."""
        rows = self._with_database(_rows)
        records, changed = [], set(rows)
        for run_id, stamp in self._stamps():
            state, known, text = rows.get(run_id, ("", "", ""))
            if known == stamp:
                record: RunRecord | None = _parsed(text)
            else:
                record = self._record_or_none(run_id)
            if record is None:
                continue
            if known == stamp or record.state == state:  # the same, or only its progress moved
                changed.discard(run_id)
            else:
                changed.add(run_id)
            if (
                record.state.is_live or record.state is RunState.QUEUED
            ):  # most are neither, for long
                record = _effective(record, self.directory(run_id))
            records.append(record)
        if changed:
            with contextlib.suppress(RegattaError):  # the next look mends them
                self._refresh(changed)
        return sorted(records, key=lambda each: (each.created, each.run_id), reverse=True)

    def live(self) -> Records:
        """The runs whose written state is live, as it was written: a free lock is not looked at.

        With `RunDirectory.is_locked` this tells the supervisor who died.
        """
        found = self._select(f"state IN ({_marks(_LIVE)})", _LIVE)
        ended = [each.run_id for each in found if not each.state.is_live]
        if ended:
            self._refresh(ended)  # written to a database that was replaced meanwhile
        return [each for each in found if each.state.is_live]

    def next_queued(self) -> RunRecord | None:
        """The detached run that has waited longest, if one waits."""
        condition = f"{_WAITING} ORDER BY position, run_id LIMIT 1"
        while found := self._select(condition, []):
            if found[0].state is RunState.QUEUED:
                return found[0]
            self._refresh({found[0].run_id})  # its file was written, its row was not
        return None

    def to_resume(self) -> Records:
        """The interrupted runs that the supervisor has promised to resume by itself."""
        found = self._select("resume_at IS NOT NULL ORDER BY position", [])
        return [each for each in found if each.resume_at is not None]

    def counts(self, records: Iterable[RunRecord]) -> dict[str, int]:
        """The `COUNTS` of ``records`` and of all runs that were deleted, added up."""

        def look(database: sqlite3.Connection) -> dict[str, int]:
            return dict(database.execute("SELECT name, count FROM deleted").fetchall())

        found, runs = self._with_database(look), list(records)
        return {
            name: found.get(name, 0) + sum(getattr(each, name) for each in runs) for name in COUNTS
        }

    def check_writable(self) -> None:
        """Raise a `RegattaError` unless the list of runs can be written now. Changes nothing."""

        def try_to_write(database: sqlite3.Connection) -> None:
            database.execute("BEGIN IMMEDIATE")
            # The page that would change goes into the journal, so a full disk is noticed too.
            database.execute("UPDATE changes SET count = count + 1")
            database.execute("ROLLBACK")

        self._with_database(try_to_write)

    def data_version(self) -> tuple[Any, ...]:
        """A value that changes when a run is made, deleted, dies, or its record is written.

        Costs a fraction of a millisecond, however many runs there are.
        """

        def look(database: sqlite3.Connection) -> tuple[int, Commands]:
            (count,) = database.execute("SELECT count FROM changes").fetchone()
            return count, _run_ids(database, f"state IN ({_marks(_LIVE)})", _LIVE)

        count, run_ids = self._with_database(look)
        live = tuple(
            (run_id, _stamp_or_none(directory.record), directory.is_locked())
            for run_id in run_ids
            for directory in (self.directory(run_id),)
        )
        # A list that was made again counts from the beginning, in another file.
        return self.path.stat().st_ino, count, live

    # Writing

    def create(
        self, config: TrainingConfig, state: RunState = RunState.QUEUED, detached: bool = False
    ) -> RunRecord:
        """Make the directory and the record of a new run.

        Parameters
        ----------
        config : TrainingConfig
            Kept as the run's ``config.json``.
        state : RunState
            QUEUED, unless the caller holds the lock of the run already.
        detached : bool
            Whether the supervisor shall take it from the queue. Else the caller runs it.
        """

        made: Records = []

        def insert(database: sqlite3.Connection) -> RunRecord:
            now = time.time()
            record = RunRecord(
                run_id=self._free_id(now),
                name=config.name,
                state=state,
                model=config.model,
                solver=config.solver,
                dataset=Path(config.path).name,
                target=config.target,
                detached=detached,
                created=now,
                workers=config.workers,
                position=_next_position(database),
            )
            self._make_directory(record, config)
            made.append(record)
            self._write_row(database, record)
            return record

        record: RunRecord | None = None
        try:
            record = self._with_database(insert, write=True)
        finally:
            for each in made:  # what was made before something went wrong
                if each is not record:
                    shutil.rmtree(self.directory(each.run_id).path, ignore_errors=True)
        return record

    def update_state(self, run_id: str, state: RunState, **changes: Any) -> RunRecord:
        """Let a run enter ``state`` and change other fields of its record with it.

        ``started`` and ``ended`` are set by the way. Raises
        `regatta.runs.states.IllegalTransition` if the present state does not lead there.
        """
        _check_changes(changes)
        done: Records = []

        def change(database: sqlite3.Connection) -> RunRecord:
            if done:  # the file is written; the database was garbage and has been mended
                self._write_row(database, done[0])
                return done[0]
            before = self._before(run_id, state)
            check_transition(run_id, before.state, state, _history(before))
            done.append(self._changed(database, before, state, changes))
            self._write(database, done[0])
            return done[0]

        return self._with_database(change, write=True)

    def update(self, run_id: str, **changes: Any) -> RunRecord:
        """Change fields of a record, not its state."""
        _check_changes(changes)

        def change(database: sqlite3.Connection) -> RunRecord:
            record = replace(_read_record(self.directory(run_id)), **changes)
            self._write(database, record)
            return record

        return self._with_database(change, write=True)

    def note_progress(self, run_id: str, **changes: Any) -> None:
        """Change fields of a live run's record, cheaply and often: no database, no sync to disk.

        For the coordinator alone: while a run is live no one else writes its record.
        """
        _check_changes(changes)
        directory = self.directory(run_id)
        record = replace(_read_record(directory), **changes)
        write_json(directory.record, record.to_json(), durable=False)

    def requeue(self, run_id: str, *, detached: bool, attempts: int = 0) -> RunRecord:
        """Put a stopped, failed or interrupted run into the queue again.

        An automatic resume (``attempts`` above 0) keeps its old place, at the head.
        """
        changes: dict[str, Any] = {"detached": detached, "attempts": attempts}
        if attempts == 0:
            changes["position"] = None  # the end of the queue
        return self.update_state(run_id, RunState.QUEUED, **changes)

    def move(self, run_id: str, where: str) -> RunRecord:
        """Give a waiting run another place in the queue: ``first``, ``last``, one ``up`` or
        ``down``. A `UserError` if it does not wait there.

        Where it is at that end already, nothing changes.
        """
        if where not in MOVES:
            raise UserError(f"There is no place {where!r}.", f"Known: {', '.join(MOVES)}.")
        done: Records = []

        def change(database: sqlite3.Connection) -> RunRecord:
            if not done:
                done.extend(self._moved(database, run_id, where))
            for each in done:
                self._write(database, each)
            return next(each for each in done if each.run_id == run_id)

        return self._with_database(change, write=True)

    def delete(self, run_id: str) -> None:
        """Delete a run and its directory. A `UserError` while it is live."""

        def remove(database: sqlite3.Connection) -> Path:
            directory = self.directory(run_id)
            record = _read_record(directory)
            try:
                descriptor = directory.acquire()
            except LockHeld as held:
                raise UserError(
                    f"Run {run_id} is being worked on by process {held.pid} and is not deleted.",
                    f"Stop it first: `regatta runs stop {run_id}`.",
                ) from None
            try:
                aside = self.root / f".deleted-{run_id}"
                os.rename(directory.path, aside)
                database.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
                database.execute("DELETE FROM commands WHERE run_id = ?", (run_id,))
                database.executemany(
                    "INSERT INTO deleted VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET count = count + excluded.count",
                    [(name, getattr(record, name)) for name in COUNTS],
                )
            finally:
                os.close(descriptor)
            return aside

        shutil.rmtree(self._with_database(remove, write=True), ignore_errors=True)

    # Commands

    def send_command(self, run_id: str, command: str) -> RunRecord:
        """Tell a run to pause, resume or stop, to ``scale N``, to ``kill RANK INCARNATION``, or to
        ``set`` what a `Tuning` says. A run that no one works on is stopped at once.

        Returns
        -------
        RunRecord
            The record after that; a live coordinator takes the command a moment later.
        """
        word = command.partition(" ")[0]
        if not _is_command(command):
            raise UserError(f"There is no command {command!r}.", f"Known: {', '.join(COMMANDS)}.")

        def send(database: sqlite3.Connection) -> RunRecord:
            directory = self.directory(run_id)
            record = _effective(_read_record(directory), directory)
            if record.state.is_live:
                database.execute(
                    "INSERT INTO commands (run_id, command, sent) VALUES (?, ?, ?)",
                    (run_id, command, time.time()),
                )
                return record
            if word == "stop" and record.state in (RunState.QUEUED, RunState.INTERRUPTED):
                stopped = self._changed(
                    database, record, RunState.STOPPED, {"message": "Stopped.", "hint": ""}
                )
                self._write(database, stopped)
                return stopped
            raise UserError(
                f"Run {run_id} is {record.state}: there is nothing to {word}.",
                f"`regatta runs resume {run_id}` takes it up again."
                if record.state.is_resumable
                else "",
            )

        return self._with_database(send, write=True)

    def take_commands(self, run_id: str) -> Commands:
        """The commands sent to a run since the last call, oldest first. Each is given once."""

        def look(database: sqlite3.Connection) -> Commands:
            query = "SELECT command FROM commands WHERE run_id = ? ORDER BY id"
            return [command for (command,) in database.execute(query, (run_id,))]

        def take(database: sqlite3.Connection) -> Commands:
            found = look(database)
            database.execute("DELETE FROM commands WHERE run_id = ?", (run_id,))
            return found

        if not self._with_database(look):
            return []  # nearly always: asking often takes no lock

        return self._with_database(take, write=True)

    # The supervisor's own

    def if_idle(self, leave: Callable[[], None]) -> bool:
        """Call ``leave`` if no detached run waits or is live, with new runs held back meanwhile.

        Returns
        -------
        bool
            Whether it was called. A run queued a moment later finds the caller gone.
        """

        def look(database: sqlite3.Connection) -> bool:
            states = [*_LIVE, str(RunState.QUEUED)]
            condition = f"detached AND (state IN ({_marks(states)}) OR resume_at IS NOT NULL)"
            busy = database.execute(
                f"SELECT 1 FROM runs WHERE {condition} LIMIT 1", states
            ).fetchone()
            if busy is None:
                leave()
            return busy is None

        return self._with_database(look, write=True)

    def rebuild(self) -> int:
        """Make the list again from the run directories. Returns how many runs there are."""
        return self._with_database(self._rebuild, write=True)

    # Rows and files

    def _before(self, run_id: str, state: RunState) -> RunRecord:
        """The record that is about to enter ``state``, seen with the eyes of who asks for it."""
        directory = self.directory(run_id)
        written = _read_record(directory)
        if state is RunState.QUEUED:
            return _effective(written, directory)
        if state is RunState.STARTING and written.state.is_live and written.state is not state:
            # Who asks holds the lock, so whoever wrote that state is dead.
            return _interrupted(written)
        if state is RunState.INTERRUPTED and directory.is_locked():
            raise IllegalTransition(
                f"Run {run_id} is {written.state} and process {directory.holder()} works on it: "
                "it is not interrupted."
            )
        return written

    def _changed(
        self,
        database: sqlite3.Connection,
        before: RunRecord,
        state: RunState,
        changes: Mapping[str, Any],
    ) -> RunRecord:
        """``before`` in its new state, and stale commands removed."""
        values: dict[str, Any] = {"state": state}
        entered = state is not before.state
        if entered and state is not RunState.INTERRUPTED:
            values["resume_at"] = None
        if entered and state in (RunState.QUEUED, RunState.STARTING):
            values |= {"ended": None, "message": "", "hint": ""}
        if entered and state is RunState.STARTING:
            values["started"] = before.started or time.time()
            values["restarts"] = before.restarts + (before.started is not None)
        if state.is_terminal:
            values["ended"] = time.time()
        record = replace(before, **{**values, **changes})
        if state is RunState.QUEUED and record.position is None:
            record = replace(record, position=_next_position(database))
        if entered and not before.state.is_live:
            # What was sent to an earlier life of the run is not meant for this one.
            database.execute("DELETE FROM commands WHERE run_id = ?", (record.run_id,))
        return record

    def _moved(self, database: sqlite3.Connection, run_id: str, where: str) -> Records:
        """The records that a move changes, the run's own among them."""
        record = self.get(run_id)
        if record.state is not RunState.QUEUED or not record.detached:
            raise UserError(
                f"Run {run_id} is {record.state} and has no place in the queue.",
                "Runs that wait for the supervisor have one.",
            )
        places = dict(_waiting(database))
        places.setdefault(run_id, record.position)  # its row may lag behind its file
        order = list(places)
        at, last = order.index(run_id), len(order) - 1
        to = {"first": 0, "last": last, "up": max(at - 1, 0), "down": min(at + 1, last)}[where]
        if to == at:
            return [record]
        if where in ("first", "last"):
            beyond = _first_position(database) if where == "first" else _next_position(database)
            return [replace(record, position=beyond)]
        order.insert(to, order.pop(at))
        return [
            replace(_read_record(self.directory(each)), position=position)
            for each, position in zip(order, _apart(places.values()), strict=True)
            if each == run_id or position != places[each]
        ]

    def _write(self, database: sqlite3.Connection, record: RunRecord) -> None:
        write_json(self.directory(record.run_id).record, record.to_json())
        self._write_row(database, record)

    def _write_row(self, database: sqlite3.Connection, record: RunRecord) -> None:
        database.execute(
            "INSERT OR REPLACE INTO runs "
            "(run_id, state, detached, position, resume_at, stamp, record) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                record.run_id,
                str(record.state),
                record.detached,
                record.position,
                record.resume_at,
                _stamp(self.directory(record.run_id).record),
                json.dumps(record.to_json()),
            ),
        )

    def _make_directory(self, record: RunRecord, config: TrainingConfig) -> None:
        """Filled aside and renamed: there is no half-made run directory."""
        directory = self.directory(record.run_id)
        aside = self.root / f".new-{record.run_id}"
        aside.mkdir(mode=0o700)
        try:
            write_json(aside / directory.config.name, config.to_json())
            write_json(aside / directory.record.name, record.to_json())
            os.rename(aside, directory.path)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        fsync_directory(self.root)

    def _free_id(self, now: float) -> str:
        while True:
            run_id = new_run_id(now)
            if not (self.root / run_id).exists():
                return run_id

    def _stamps(self) -> Iterator[tuple[str, str]]:
        with os.scandir(self.root) as entries:
            names = [each.name for each in entries if RUN_ID.fullmatch(each.name)]
        for name in names:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                yield name, _stamp(f"{self.root}/{name}/run.json")

    def _record_or_none(self, run_id: str) -> RunRecord | None:
        try:
            return _read_record(self.directory(run_id))
        except RegattaError as error:
            logger.debug("Run %s is left out: %s", run_id, error)
            return None

    def _select(self, condition: str, values: Sequence[str]) -> Records:
        """The records, read from their files, of the rows that meet ``condition``."""

        run_ids = self._with_database(lambda database: _run_ids(database, condition, values))
        found = {run_id: self._record_or_none(run_id) for run_id in run_ids}
        gone = [run_id for run_id, record in found.items() if record is None]
        if gone:
            self._refresh(gone)
        return [record for record in found.values() if record is not None]

    def _refresh(self, run_ids: Iterable[str]) -> None:
        """Make rows again from the files of their runs, or remove them with their runs."""

        def refresh(database: sqlite3.Connection) -> None:
            for run_id in run_ids:
                record = self._record_or_none(run_id)
                if record is None:
                    database.execute("DELETE FROM runs WHERE run_id = ?", (run_id,))
                else:
                    self._write_row(database, record)

        self._with_database(refresh, write=True)

    def _rebuild(self, database: sqlite3.Connection) -> int:
        database.execute("DELETE FROM runs")
        found = [self._record_or_none(run_id) for run_id, _ in self._stamps()]
        records = [each for each in found if each is not None]
        for record in records:
            self._write_row(database, record)
        for rest in (*self.root.glob(".deleted-*"), *self.root.glob(".new-*")):
            shutil.rmtree(rest, ignore_errors=True)
        return len(records)

    # The database

    def _with_database(
        self, action: Callable[[sqlite3.Connection], T], *, write: bool = False
    ) -> T:
        """Run ``action`` in a transaction; where the database is garbage, mend it and try again."""
        for last in (False, True):
            try:
                with contextlib.closing(self._connect()) as database, database:
                    if not write:
                        return action(database)
                    database.execute("BEGIN IMMEDIATE")
                    before = database.total_changes
                    result = action(database)
                    if database.total_changes > before:
                        database.execute("UPDATE changes SET count = count + 1")
                    return result
            except sqlite3.DatabaseError as error:
                if last or not _is_garbage(error):
                    raise _explain(error, self.path) from error
                self._move_aside()
        raise AssertionError("unreachable")

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = FULL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version < SCHEMA_VERSION:
                self._initialise(database)
            elif version > SCHEMA_VERSION:
                raise RegattaError(
                    f"{self.path} was written by a newer Regatta.", "Use that version, or newer."
                )
        except BaseException:
            database.close()
            raise
        return database

    def _initialise(self, database: sqlite3.Connection) -> None:
        """Make the tables, and the list from the directories; so too where they are outdated."""
        with database:
            database.execute("BEGIN IMMEDIATE")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == SCHEMA_VERSION:
                return  # another process was faster
            query = (
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
            )
            tables = [name for (name,) in database.execute(query)]
            if tables and version == 0:
                raise _NotOurs("file is a database, but not one of ours")
            for name in tables:
                database.execute(f'DROP TABLE "{name}"')
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            self._rebuild(database)
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        os.chmod(self.path, 0o600)

    def _move_aside(self) -> None:
        guard = take_lock(self.home / "regatta.db.lock", patience=BUSY_SECONDS)
        try:
            if not self._is_still_garbage():
                return  # another process mended it
            aside = self.path.with_name(time.strftime("regatta.db.broken-%Y%m%d-%H%M%S"))
            number = 1
            while aside.exists():
                number += 1
                aside = aside.with_name(f"{re.sub('[.]n[0-9]+$', '', aside.name)}.n{number}")
            self.path.rename(aside)
            # A journal left beside it would be rolled back into the new database.
            self.path.with_name("regatta.db-journal").unlink(missing_ok=True)
            logger.warning(
                "%s could not be read and was moved to %s; the list of runs is made again.",
                self.path,
                aside.name,
            )
        finally:
            if guard is not None:
                os.close(guard)

    def _is_still_garbage(self) -> bool:
        try:
            with contextlib.closing(self._connect()) as database:
                (answer,) = database.execute("PRAGMA quick_check(1)").fetchone()
                return bool(answer != "ok")
        except sqlite3.DatabaseError as error:
            return _is_garbage(error)


class _NotOurs(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_NOTADB


def _is_command(command: str) -> bool:
    word, *numbers = command.split(" ")
    if word == SET:
        try:
            Tuning.from_command(command)
        except ValueError:
            return False
        return True
    counts = {"scale": 1, "kill": 2}
    whole = all(number.isdecimal() for number in numbers)
    return word in COMMANDS and whole and len(numbers) == counts.get(word, 0)


@functools.lru_cache(maxsize=2048)
def _parsed(text: str) -> RunRecord:
    """A row's record. Who lists runs again and again finds most of them as they were."""
    return RunRecord.from_json(json.loads(text))


def _rows(database: sqlite3.Connection) -> dict[str, tuple[str, str, str]]:
    found = database.execute("SELECT run_id, state, stamp, record FROM runs").fetchall()
    return {run_id: (state, stamp, record) for run_id, state, stamp, record in found}


def _run_ids(database: sqlite3.Connection, condition: str, values: Sequence[str]) -> Commands:
    query = f"SELECT run_id FROM runs WHERE {condition}"
    return [run_id for (run_id,) in database.execute(query, values)]


def waiting(records: Iterable[RunRecord]) -> Records:
    """Those of ``records`` that wait for the supervisor, in the order in which it takes them."""
    found = [each for each in records if each.state is RunState.QUEUED and each.detached]
    return sorted(found, key=lambda each: (each.position or 0, each.run_id))


def _waiting(database: sqlite3.Connection) -> list[tuple[str, int | None]]:
    query = f"SELECT run_id, position FROM runs WHERE {_WAITING} ORDER BY position, run_id"
    return database.execute(query).fetchall()


def _apart(positions: Iterable[int | None]) -> list[int]:
    """``positions`` in order, each above the one before: two may be the same if a process died
    while it exchanged them."""
    found: list[int] = []
    for each in sorted(each or 0 for each in positions):
        found.append(max(each, found[-1] + 1) if found else each)
    return found


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _next_position(database: sqlite3.Connection) -> int:
    (last,) = database.execute("SELECT max(position) FROM runs").fetchone()
    return (last or 0) + 1


def _first_position(database: sqlite3.Connection) -> int:
    (first,) = database.execute("SELECT min(position) FROM runs").fetchone()
    return (first or 0) - 1


def _stamp(path: Path | str) -> str:
    """What tells one content of ``run.json`` from the next: it is replaced, never changed."""
    status = os.stat(path)
    return f"{status.st_mtime_ns}-{status.st_ino}-{status.st_size}"


def _stamp_or_none(path: Path) -> str | None:
    try:
        return _stamp(path)
    except FileNotFoundError:
        return None


def _read_record(directory: RunDirectory) -> RunRecord:
    try:
        value = read_json(directory.record)
        return RunRecord.from_json({**value, "run_id": directory.run_id})
    except (FileNotFoundError, NotADirectoryError):
        raise no_such_run(directory.run_id) from None
    except (ValueError, TypeError, KeyError) as error:
        raise RegattaError(
            f"{directory.record} is damaged ({error}).",
            f"Delete the folder {directory.path} if the run is not needed.",
        ) from error


def _effective(record: RunRecord, directory: RunDirectory) -> RunRecord:
    """``record`` as it is to be shown: a live state without a lock is INTERRUPTED."""
    if record.state.is_live and not directory.is_locked():
        # Its last words may have been written between the two looks.
        record = _read_record(directory)
        if record.state.is_live and not directory.is_locked():
            return _interrupted(record)
    elif record.state is RunState.QUEUED and not record.detached:
        late = time.time() - record.created > FOREGROUND_GRACE
        if late and not directory.is_locked():
            return _interrupted(record)
    return record


def _interrupted(record: RunRecord) -> RunRecord:
    return replace(
        record,
        state=RunState.INTERRUPTED,
        message="Its process ended without a last word.",
        hint=f"`regatta runs resume {record.run_id}` takes it up again.",
    )


def _history(record: RunRecord) -> str:
    when = record.ended or record.started or record.created
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    return f"since {since}: {record.message}" if record.message else f"since {since}"


def _check_changes(changes: Mapping[str, Any]) -> None:
    unknown = sorted(set(changes) - _CHANGEABLE)
    if unknown:
        raise TypeError(f"a run's record has no field {unknown[0]!r} that can be changed")


def _is_garbage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _GARBAGE


def _explain(error: sqlite3.DatabaseError, path: Path) -> RegattaError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return RegattaError(
            f"{path} stayed locked by another process for {BUSY_SECONDS:.0f} s.", "Try again."
        )
    if code == sqlite3.SQLITE_FULL:
        return RegattaError(f"The disk of {path} is full.", "Make room and try again.")
    return RegattaError(f"{path} cannot be used: {error}.", "Check its folder's permissions.")
