"""The supervisor: takes queued runs in order and starts one coordinator process for each.

::

    page or command ── submit ──→ regatta.db (queue)
                                      │ takes the first, at most N at once
                                  supervisor (one a home; flock on supervisor.lock)
                                      │ takes the run's lock, writes STARTING, hands the lock down
                                  coordinator (one a run, in a session of its own)

It is nobody's child: it is started detached, in a session of its own, and its coordinators
outlive it. A new supervisor counts the runs whose lock is held, whoever started them. So that a
start takes little time one spare coordinator waits for it (`regatta.runs.spare`).

A run that says it is live while its lock is free has crashed. It is resumed at once; where it
crashes again soon, after some seconds, and after three times no more. One that trained for a while
and saved what it did begins to count anew. A coordinator that does nothing for half a minute
hangs (`regatta.runs.pulse`): it is killed, and resumed like any other. A run that takes more of the
machine than a run may (`regatta.runs.limits`) is ended.

After a minute without work the supervisor leaves. It looks for work one last time
under the database's write lock and gives its own lock back there, so that a run queued at that
moment is either seen by it or starts the next one.

Started as ``python -P -m regatta.runs.supervisor`` by `regatta.runs.service.ensure_supervisor`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regatta.runs.directory import (
    INHERITED_LOCK,
    LockHeld,
    RunDirectory,
    take_lock,
    write_holder,
)
from regatta.runs.limits import Excess, RunLimits
from regatta.runs.room import lacks_room
from regatta.runs.spare import Spare
from regatta.runs.states import IllegalTransition, RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.utils import (
    BLAS_THREAD_VARIABLES,
    HOME_VARIABLE,
    RegattaError,
    UserError,
    configure_logging,
    home,
    number_from,
)

if TYPE_CHECKING:
    from regatta.runs.pulse import Pulse

# Not __name__: this module is run as the main one.
logger = logging.getLogger("regatta.runs.supervisor")

AUTOMATIC_RESUMES = 3
DELAY_GROWTH = 10.0  # of the wait before a resume, at each but the first
STEADY_SECONDS = 60.0  # an attempt that lasted so long, and saved something, was none in vain
LIST_SECONDS = 0.03  # between two looks whether the list of runs was changed
SPARE_PAUSE = 60.0  # seconds until another, where one died
# Between the end of a coordinator's lock and its exit code lie some milliseconds.
LAST_WORD_SECONDS = 2.0

Command = Callable[[str], list[str]]


def coordinator_command(run_id: str) -> list[str]:
    """The command line of a run's coordinator."""
    return [sys.executable, "-P", "-m", "regatta.runs.coordinate", run_id]


def spare_command() -> list[str]:
    """The command line of a spare, less its last argument."""
    return coordinator_command("--wait")


def wants_spare() -> bool:
    """Whether a coordinator is to be kept ready: unless ``REGATTA_SPARE`` is 0."""
    return os.environ.get("REGATTA_SPARE", "").strip() != "0"


def lock_path(root: Path) -> Path:
    """The lock that the supervisor of the home ``root`` holds while it lives."""
    return root / "supervisor.lock"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a supervisor behaves. Times in seconds.

    ``at_once`` detached runs are live at most. A run that crashed is resumed at once; one that
    crashes again waits ``resume_delay`` before that, and ten times as long before the next time, so
    that a person can see it and decide otherwise. A coordinator that does nothing for ``hang`` is
    killed (0: never). After ``idle`` without work the supervisor leaves. It looks at the queue
    every ``tick`` at least, and every ``look`` at what runs do and take. One that takes more than
    ``run`` allows is stopped, and killed if it does not stop in ``grace``. ``spare`` is whether a
    coordinator is kept ready for the next start.
    """

    at_once: int = 1
    idle: float = 60.0
    resume_delay: float = 1.0
    hang: float = 30.0
    spare: bool = True
    tick: float = 0.25
    look: float = 1.0
    grace: float = 30.0
    run: RunLimits = field(default_factory=RunLimits)

    @classmethod
    def from_environment(cls) -> Limits:
        """``REGATTA_MAX_RUNS``, ``REGATTA_SUPERVISOR_IDLE``, ``REGATTA_RESUME_DELAY``,
        ``REGATTA_HANG_SECONDS``, ``REGATTA_SPARE`` (0: none), and those of `RunLimits`."""
        return cls(
            at_once=int(number_from("REGATTA_MAX_RUNS", cls.at_once, least=1)),
            idle=number_from("REGATTA_SUPERVISOR_IDLE", cls.idle),
            resume_delay=number_from("REGATTA_RESUME_DELAY", cls.resume_delay),
            hang=number_from("REGATTA_HANG_SECONDS", cls.hang),
            spare=wants_spare(),
            run=RunLimits.from_environment(),
        )


class Supervisor:
    """Starts queued runs until there has been nothing to do for a while.

    Parameters
    ----------
    store : RunStore
        The home's runs.
    lock : int
        Open descriptor of the supervisor's lock, held.
    limits : Limits
        How many runs at once, and how long to wait for what.
    command : callable
        Gives the command line of a run's coordinator.
    spare : sequence of str, optional
        The command line of a spare, less its last argument; none is kept without.
    """

    def __init__(
        self,
        store: RunStore,
        lock: int,
        *,
        limits: Limits | None = None,
        command: Command = coordinator_command,
        spare: Sequence[str] | None = None,
    ) -> None:
        self.store = store
        self.limits = limits or Limits()
        self._lock = lock
        self._command = command
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._exits: dict[str, int] = {}
        self._too_much: dict[str, tuple[Excess, float]] = {}  # with when it is killed for it
        self._next_look = 0.0
        self._spare_command = spare if self.limits.spare else None
        self._spare: Spare | None = None
        self._next_spare = 0.0
        self._pulses: dict[str, Pulse] = {}
        self._hung: set[str] = set()  # runs whose coordinator was killed for that
        # When a run's coordinator was started, and the newest checkpoint then.
        self._started: dict[str, tuple[float, str]] = {}
        self._terminated = False
        self._looked_for_lost = False

    def serve(self) -> None:
        """Work until idle for long enough, or until SIGTERM. Coordinators are left running."""
        idle_since = time.monotonic()
        with self._woken_by_signals() as wake, contextlib.closing(self):
            while not self._terminated:
                seen = self._list_changed()
                if self._step_if_room():
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since >= self.limits.idle:
                    if self.store.if_idle(lambda: os.close(self._lock)):
                        logger.info("Nothing to do: leaving.")
                        return
                    idle_since = time.monotonic()
                self._wait(wake, seen)
        logger.info("Told to leave; %d coordinators go on.", len(self._children))

    def close(self) -> None:
        """End the spare. Coordinators go on."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    def _step_if_room(self) -> bool:
        """`step`; where the disk is full the queue stays as it is until there is room."""
        try:
            return self.step()
        except (OSError, sqlite3.Error, RegattaError) as error:
            if not lacks_room(error):
                raise
            logger.warning("The disk of %s is full: %s", self.store.home, error)
            return True

    def step(self) -> bool:
        """Look once: reap, note crashes, resume, start. Returns whether there is work."""
        if not self._looked_for_lost:
            self.store.list()  # a run that was written down, but not listed, when someone died
            self._looked_for_lost = True
        self._reap()
        live = [run for run in self.store.live() if run.detached]
        self._look_after(live)  # first: what follows may find no room on the disk
        running = [run for run in live if not self._note_if_crashed(run)]
        self._requeue_due()
        at_work = len(running)
        starts = any(run.state is RunState.STARTING for run in running)
        while at_work < self.limits.at_once and (run := self.store.next_queued()) is not None:
            if not self._start(run):
                break
            at_work += 1
            starts = True
        if not starts:  # it would take the time of whoever does
            self._keep_a_spare()
        return bool(at_work or self._children or self.store.to_resume())

    def _reap(self) -> None:
        for run_id, child in list(self._children.items()):
            status = child.poll()
            if status is not None:
                del self._children[run_id]
                self._exits[run_id] = status
                logger.info("Coordinator %d of run %s ended with %d.", child.pid, run_id, status)

    def _has_ended(self, run_id: str) -> bool:
        """Whether the coordinator of a run whose lock is free is gone; notes how it ended."""
        child = self._children.get(run_id)
        if child is not None:
            try:
                child.wait(LAST_WORD_SECONDS)
            except subprocess.TimeoutExpired:
                return False
            self._reap()
        return True

    def _note_if_crashed(self, run: RunRecord) -> bool:
        if self.store.directory(run.run_id).is_locked():
            return False
        if not self._has_ended(run.run_id):
            return False  # its files are closed before it is gone: look again for its last word
        try:
            run = self.store.get(run.run_id)
            if run.state is not RunState.INTERRUPTED:
                return not run.state.is_live  # it ended well between the two looks
            attempts = self._attempts_in_vain(run)
            message, resume_at = self._verdict(run, attempts)
            self.store.update_state(
                run.run_id,
                RunState.INTERRUPTED,
                message=message,
                resume_at=resume_at,
                attempts=attempts,
            )
        except RegattaError as error:  # deleted or taken up by someone else at this moment
            logger.info("Run %s: %s", run.run_id, error)
            return False
        logger.warning("Run %s: %s", run.run_id, message)
        return True

    def _look_after(self, running: Sequence[RunRecord]) -> None:
        """Hold runs to their limits, and end coordinators that hang."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + self.limits.look
        at_work = {run.run_id for run in running}
        self._pulses = {key: pulse for key, pulse in self._pulses.items() if key in at_work}
        for run in running:
            directory = self.store.directory(run.run_id)
            pid = directory.holder()
            if pid is not None and pid != os.getpid():
                self._hold_to_limits(run, directory, pid, now)
                self._feel_pulse(run, pid)
        self._say_why_stopped()

    def _hold_to_limits(
        self, run: RunRecord, directory: RunDirectory, pid: int, now: float
    ) -> None:
        """Stop a run that takes more than it may, and kill it if it does not stop."""
        excess, deadline = self._too_much.get(run.run_id, (None, now))
        if excess is None:
            excess = self.limits.run.excess(directory, pid)
            if excess is None:
                return
            logger.warning("Run %s: %s", run.run_id, excess.message)
            deadline = now if excess.at_once else now + self.limits.grace
            self._too_much[run.run_id] = excess, deadline
            if not excess.at_once:
                self.store.send_command(run.run_id, "stop")
        if now >= deadline:
            _kill_session(pid)

    def _feel_pulse(self, run: RunRecord, pid: int) -> None:
        """Kill a coordinator that has shown no sign of life for too long."""
        if not self.limits.hang:
            return
        import psutil

        from regatta.runs.pulse import Pulse  # imports psutil: the supervisor starts without it

        with contextlib.suppress(psutil.Error):  # it is gone: the next look tells
            pulse = self._pulses.get(run.run_id)
            if pulse is None or pulse.pid != pid:
                pulse = self._pulses[run.run_id] = Pulse(pid)
            silence = pulse.silence(longest_pause=max(5.0, 5 * self.limits.look))
            if silence >= self.limits.hang:
                logger.warning(
                    "Run %s: coordinator %d has done nothing for %.0f s: it is killed.",
                    run.run_id,
                    pid,
                    silence,
                )
                self._hung.add(run.run_id)
                _kill_session(pid)

    def _say_why_stopped(self) -> None:
        for run_id, (excess, _) in list(self._too_much.items()):
            with contextlib.suppress(RegattaError):
                state = self.store.get(run_id).state
                if state.is_live or state is RunState.INTERRUPTED:
                    continue  # the verdict on a crash says it
                if state is RunState.STOPPED:
                    self.store.update(
                        run_id, message=f"Stopped. {excess.message}", hint=excess.hint
                    )
            del self._too_much[run_id]

    def _verdict(self, run: RunRecord, attempts: int) -> tuple[str, float | None]:
        if run.run_id in self._too_much:
            excess, _ = self._too_much.pop(run.run_id)
            return f"It was ended. {excess.message} {excess.hint}", None
        what = f"Its coordinator {self._describe_end(run)}."
        if attempts >= AUTOMATIC_RESUMES:
            return f"{what} It was resumed {attempts} times already and is not again.", None
        number = f"{attempts + 1} of {AUTOMATIC_RESUMES}"
        delay = self._delay(attempts)
        when = f"in {delay:g} s" if delay else "at once"
        return f"{what} It is resumed by itself {when} ({number}).", time.time() + delay

    def _describe_end(self, run: RunRecord) -> str:
        status = self._exits.pop(run.run_id, None)
        if run.run_id in self._hung:
            self._hung.discard(run.run_id)
            return f"did nothing for {self.limits.hang:g} s and was killed"
        return _describe_exit(status)

    def _delay(self, attempts: int) -> float:
        """Seconds before a resume: what crashes again and again is given time."""
        return self.limits.resume_delay * DELAY_GROWTH ** (attempts - 1) if attempts else 0.0

    def _attempts_in_vain(self, run: RunRecord) -> int:
        """Automatic resumes of a run that crashed, less those that brought it on."""
        started, checkpoint = self._started.get(run.run_id, (math.inf, ""))
        lasted = time.monotonic() - started >= STEADY_SECONDS
        return 0 if lasted and self._newest_checkpoint(run) > checkpoint else run.attempts

    def _newest_checkpoint(self, run: RunRecord) -> str:
        folder = self.store.directory(run.run_id).checkpoints
        return max((path.name for path in folder.glob("[0-9]*")), default="")

    def _requeue_due(self) -> None:
        now = time.time()
        for run in self.store.to_resume():
            # A clock that was set back must not postpone it for a day.
            waiting = (run.resume_at or 0.0) - now
            if 0.0 < waiting <= self._delay(run.attempts):
                continue
            try:
                self.store.requeue(run.run_id, detached=True, attempts=run.attempts + 1)
            except RegattaError as error:
                logger.info("Run %s is not resumed: %s", run.run_id, error)

    def _start(self, run: RunRecord) -> bool:
        """Start the run's coordinator with the run's lock in its hands."""
        directory = self.store.directory(run.run_id)
        try:
            lock = directory.acquire()
        except LockHeld:
            return False  # someone resumes or deletes it at this moment: look again later
        except UserError:
            return True  # deleted
        try:
            write_holder(lock, os.getpid())
            self.store.update_state(run.run_id, RunState.STARTING)
            child = self._spawn(run.run_id, lock, directory.output)
            self._started[run.run_id] = time.monotonic(), self._newest_checkpoint(run)
        except IllegalTransition:
            return True  # stopped while it waited
        except OSError as error:
            if lacks_room(error):
                raise  # it waits on
            reason = f"Its coordinator could not be started: {error}."
            self.store.update_state(run.run_id, RunState.FAILED, message=reason)
            return True
        else:
            write_holder(lock, child.pid)
            self._children[run.run_id] = child
            self._exits.pop(run.run_id, None)
            logger.info("Run %s: coordinator %d started.", run.run_id, child.pid)
            return True
        finally:
            os.close(lock)  # the coordinator has its own copy

    def _spawn(self, run_id: str, lock: int, output: Path) -> subprocess.Popen[bytes]:
        spare, self._spare = self._spare, None
        with output.open("ab") as log:
            if spare is not None and (child := spare.give(run_id, lock, log.fileno())) is not None:
                return child
            return subprocess.Popen(
                self._command(run_id),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.store.home,
                env={**self._environment(), INHERITED_LOCK: str(lock)},
                pass_fds=(lock,),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            **dict.fromkeys(BLAS_THREAD_VARIABLES, "1"),
            HOME_VARIABLE: str(self.store.home),
        }

    def _keep_a_spare(self) -> None:
        """See to it that a coordinator waits for the next start."""
        if self._spare_command is None or (self._spare is not None and self._spare.is_alive):
            return
        now = time.monotonic()
        if self._spare is not None:
            logger.warning("The spare coordinator %d ended.", self._spare.pid)
            self.close()
            self._next_spare = now + SPARE_PAUSE
        if now >= self._next_spare:
            try:
                self._spare = Spare.start(self._spare_command, self.store.home, self._environment())
            except OSError as error:
                logger.warning("No spare coordinator: %s.", error)
                self._next_spare = now + SPARE_PAUSE

    def _wait(self, wake: int, seen: int) -> None:
        """Until a child ends, a signal comes, the list of runs is changed, or a tick is over."""
        deadline = time.monotonic() + self.limits.tick
        while (left := deadline - time.monotonic()) > 0 and self._list_changed() == seen:
            if select.select([wake], [], [], min(left, LIST_SECONDS))[0]:
                break
        with contextlib.suppress(BlockingIOError):
            while os.read(wake, 512):
                pass

    def _list_changed(self) -> int:
        """When the list of runs was last changed: asking the file costs next to nothing."""
        try:
            return os.stat(self.store.path).st_mtime_ns
        except OSError:
            return 0

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[int]:
        """Yield a descriptor that becomes readable when a child ends or SIGTERM arrives."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)

        def leave(*_: object) -> None:
            self._terminated = True

        handlers = {signal.SIGCHLD: lambda *_: None, signal.SIGTERM: leave, signal.SIGINT: leave}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        old = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            yield reader
        finally:
            signal.set_wakeup_fd(old)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)


def _kill_session(pid: int) -> None:
    """Kill a coordinator with its workers: it has a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _describe_exit(status: int | None) -> str:
    if status is None:
        return "ended without a last word"
    if status >= 0:
        return f"ended with exit code {status} and without a last word"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else str(-status)
    cause = ", perhaps for want of memory" if -status == signal.SIGKILL else ""
    return f"was killed by {name}{cause}"


def detach(lock: int) -> None:
    """Go on as a child of init. The process that started us sees its child end at once.

    The lock belongs to the open file, so it goes over to the child.
    """
    child = os.fork()
    if child:
        write_holder(lock, child)  # before anyone can ask who it is
        os._exit(0)


def main(*, command: Command = coordinator_command, spare: Sequence[str] | None = None) -> int:
    """Be the supervisor of Regatta's home, unless there is one."""
    store = RunStore(home())
    lock = take_lock(lock_path(store.home))
    if lock is None:
        return 0
    write_holder(lock, os.getpid())
    if "--detach" in sys.argv[1:]:
        detach(lock)
    os.chdir(store.home)
    configure_logging()
    try:
        limits = Limits.from_environment()
    except UserError as error:
        logger.error("%s", error)
        return error.exit_code
    logger.info("Supervisor %d of %s, %d at once.", os.getpid(), store.home, limits.at_once)
    Supervisor(store, lock, limits=limits, command=command, spare=spare).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(spare=spare_command()))
