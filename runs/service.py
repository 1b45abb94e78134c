"""What the command and the page do to runs: queue, resume, command, delete, look one up."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from regatta.configuration import TrainingConfig
from regatta.runs.directory import RUN_ID, is_locked, read_holder
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.runs.supervisor import lock_path, wants_spare
from regatta.runs.tuning import Tuning
from regatta.utils import HOME_VARIABLE, RegattaError, UserError, home

SUPERVISOR_COMMAND = (sys.executable, "-P", "-m", "regatta.runs.supervisor", "--detach")

# Starting takes 0.2 s; a machine under load may take its time.
_START_TIMEOUT = 30.0
_LOG_LIMIT = 1_000_000
_making_ready = threading.Lock()


def submit(
    config: TrainingConfig, *, store: RunStore | None = None, supervise: bool = True
) -> RunRecord:
    """Queue a new run and see to it that a supervisor takes it.

    Parameters
    ----------
    config : TrainingConfig
        Its ``path`` is made absolute: the supervisor works in another folder.
    store : RunStore, optional
        The runs of Regatta's home by default.
    supervise : bool
        Whether to start a supervisor where there is none.

    Raises
    ------
    UserError
        The file is not there, or no target was named. Nothing is left behind.
    """
    store = store or RunStore(home())
    record = store.create(check_config(config), RunState.QUEUED, detached=True)
    if supervise:
        ensure_supervisor(store)
    return record


def check_config(config: TrainingConfig) -> TrainingConfig:
    """``config`` with an absolute path, or a `UserError` that can be told without reading."""
    from regatta.solvers import choose  # imports NumPy, which most that is done to runs does not

    if not config.path:
        raise UserError("No CSV file was named.", "Name the file to train on.")
    path = Path(config.path).expanduser().absolute()
    if not path.exists():
        raise UserError(f"There is no file {config.path}.", "Check the path.")
    if path.is_dir():
        raise UserError(f"{config.path} is a folder, not a CSV file.", "Name a file in it.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{config.path} may not be read.", "Check its permissions.")
    if not config.target.strip():
        raise UserError("No target was named.", "Name the column to predict: --target NAME.")
    choose.check(config)
    return TrainingConfig.from_json({**config.to_json(), "path": str(path)})


def resume(run_id: str, *, store: RunStore | None = None, supervise: bool = True) -> RunRecord:
    """Let a run go on: a paused one at once, a stopped, failed or interrupted one by the queue.

    A run that waits or works already is left alone, so that a double click does no harm.
    """
    store = store or RunStore(home())
    record = store.get(run_id)
    if record.state is RunState.PAUSED:
        return store.send_command(run_id, "resume")
    if record.state.is_resumable:
        record = store.requeue(run_id, detached=True)
    elif record.state.is_terminal:
        raise not_resumable(record)
    if supervise and record.detached:
        ensure_supervisor(store)
    return record


def not_resumable(record: RunRecord) -> UserError:
    """The refusal to resume a run that has come to its end."""
    hint = "Train again"
    if record.state is RunState.DIVERGED:
        hint += " with a smaller --learning-rate"
    return UserError(f"Run {record.run_id} is {record.state}: nothing is left to do.", f"{hint}.")


def command(run_id: str, word: str, *, store: RunStore | None = None) -> RunRecord:
    """Tell a run to ``pause``, ``resume`` or ``stop``."""
    store = store or RunStore(home())
    return resume(run_id, store=store) if word == "resume" else store.send_command(run_id, word)


def scale(run_id: str, n_workers: int, *, store: RunStore | None = None) -> tuple[RunRecord, int]:
    """Ask a live run for ``n_workers`` workers; its record, and how many it will have.

    That is never more than it has shards.

    Raises
    ------
    UserError
        It has no workers to add to, or no one works on it.
    """
    store = store or RunStore(home())
    record = store.get(run_id)
    if n_workers < 1:
        raise UserError(
            f"A run cannot go on with {n_workers} workers.",
            f"`regatta runs pause {run_id}` lets it stand still.",
        )
    if record.state.is_live and record.workers == 0:
        raise UserError(
            f"Run {run_id} trains inside its own process: it has no workers to add to.",
            "Start it with --workers 1 or more.",
        )
    if record.state.is_live and record.solver == "exact":
        raise UserError(
            f"Run {run_id} keeps its workers: the exact solver's one pass is soon over.",
        )
    wanted = min(n_workers, store.config(run_id).shards)
    return store.send_command(run_id, f"scale {wanted}"), wanted


def tune(run_id: str, tuning: Tuning, *, store: RunStore | None = None) -> RunRecord:
    """Ask a run that goes on, or is paused, for another learning rate or batch size.

    Raises
    ------
    UserError
        No one works on it, it takes no mini-batches, the batch is larger than its rows, or the
        step is past.
    """
    store = store or RunStore(home())
    record = store.get(run_id)
    what = "its learning rate and batch size"
    if not record.state.is_live:
        raise UserError(
            f"Run {run_id} is {record.state}: {what} can be changed only while it goes on.",
            f"`regatta runs resume {run_id}` takes it up again."
            if record.state.is_resumable
            else "",
        )
    if record.state is RunState.STARTING:
        raise UserError(
            f"Run {run_id} is still starting: {what} can be changed once it trains.",
            "Try again in a moment.",
        )
    if record.batch_size is None:
        why = (
            "the exact solver takes no steps"
            if record.solver == "exact"
            else "each of its steps takes all rows"
        )
        raise UserError(f"Run {run_id} has no learning rate and batch size to change: {why}.")
    tuning.check_rows(record.rows_train)
    if tuning.at_step is not None:
        taken = _steps_taken(record, store)
        if tuning.at_step < taken:
            raise UserError(
                f"Run {run_id} has taken {taken:,} steps already; --at-step is {tuning.at_step:,}.",
                "Leave --at-step out to change it now.",
            )
    return store.send_command(run_id, tuning.to_command())


def _steps_taken(record: RunRecord, store: RunStore) -> int:
    """By a live run: its figures are newer than its record, but may not be readable."""
    try:
        point = MetricsReader(store.directory(record.run_id).metrics).latest("points")
    except sqlite3.Error:
        point = None
    return max(record.step or 0, point["step"] if point else 0)


def kill_worker(
    run_id: str, rank: int, incarnation: int, *, store: RunStore | None = None
) -> RunRecord:
    """Let the coordinator of a live run kill one of its workers; another one takes its place.

    ``incarnation`` tells which of the workers that have had this rank is meant: one that has died
    meanwhile is not killed again in its successor.

    Raises
    ------
    UserError
        No one works on the run, or it has no such worker.
    """
    store = store or RunStore(home())
    record = store.get(run_id)
    if record.state.is_live and not 0 <= rank < (record.workers or 0):
        raise UserError(f"Run {run_id} has no worker {rank}.")
    return store.send_command(run_id, f"kill {rank} {incarnation}")


def move(run_id: str, where: str, *, store: RunStore | None = None) -> RunRecord:
    """Give a waiting run another place in the queue: one of `regatta.runs.store.MOVES`."""
    return (store or RunStore(home())).move(run_id, where)


def delete(run_id: str, *, store: RunStore | None = None) -> None:
    """Delete a run that no one works on."""
    (store or RunStore(home())).delete(run_id)


def find(word: str, *, store: RunStore | None = None) -> RunRecord:
    """The run that ``word`` means: an id, the start of one id, a name, or ``last``.

    Raises
    ------
    UserError
        It means none, or several.
    """
    store = store or RunStore(home())
    if RUN_ID.fullmatch(word):
        return store.get(word)
    runs = store.list()
    if word == "last":
        if not runs:
            raise UserError("There is no run yet.", "`regatta train FILE --target NAME` makes one.")
        return runs[0]
    found = [run for run in runs if run.name == word]
    found = found or [run for run in runs if word and run.run_id.startswith(word)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UserError(f"There is no run {word!r}.", "`regatta runs` lists them.")
    some = ", ".join(run.run_id for run in found[:5])
    raise UserError(f"{word!r} means {len(found)} runs.", f"Name one of them: {some}.")


def supervisor_pid(store: RunStore | None = None) -> int | None:
    """The process id of the living supervisor, or ``None`` if there is none."""
    path = lock_path((store or RunStore(home())).home)
    return read_holder(path) if is_locked(path) else None


def ensure_supervisor(
    store: RunStore | None = None, *, command: Sequence[str] = SUPERVISOR_COMMAND
) -> bool:
    """Start a supervisor unless one lives. Cheap where one does: it may be called at every tick.

    Returns
    -------
    bool
        Whether one was started.

    Raises
    ------
    RegattaError
        It could not be started.
    """
    store = store or RunStore(home())
    if is_locked(lock_path(store.home)):
        return False
    log = store.home / "supervisor.log"
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    with open(log, "ab", opener=_private) as output:
        starter = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=store.home,
            env={**os.environ, HOME_VARIABLE: str(store.home)},
            start_new_session=True,
        )
    try:
        status = starter.wait(_START_TIMEOUT)  # it hands over to a child of init and ends
    except subprocess.TimeoutExpired:
        status = None
    if status != 0:
        raise RegattaError("The supervisor did not start.", f"Its log is {log}.")
    return True


def make_ready(store: RunStore | None = None) -> None:
    """See to it that a supervisor, and its spare coordinator, wait for a run that someone is about
    to start. Does not wait for them; nothing where no spare is wanted (``REGATTA_SPARE=0``)."""
    store = store or RunStore(home())
    if is_locked(lock_path(store.home)) or not wants_spare():
        return

    def start() -> None:
        try:
            ensure_supervisor(store)
        except (RegattaError, OSError):
            pass  # who submits a run is told
        finally:
            _making_ready.release()

    if _making_ready.acquire(blocking=False):
        threading.Thread(target=start, name="regatta-make-ready", daemon=True).start()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def nudge(store: RunStore | None = None) -> None:
    """Start a supervisor if runs wait for one: for instance after it was killed."""
    store = store or RunStore(home())
    if supervisor_pid(store) is not None:
        return
    if store.next_queued() is not None or store.to_resume() or _has_unseen_crash(store):
        ensure_supervisor(store)


def _has_unseen_crash(store: RunStore) -> bool:
    """Whether a run died that no supervisor has seen, which would have promised to resume it."""
    return any(run.detached and not store.directory(run.run_id).is_locked() for run in store.live())
