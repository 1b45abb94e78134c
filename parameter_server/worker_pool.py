"""Where rounds are computed: in worker processes that live for the whole run, or in this process.

    run(op, parameters, first, ranges)
        write parameters, ranges and order ─▶ raise the version ─▶ wake who sleeps
        wait for `done` of every rank that owns a shard of the round ─▶ slots, in shard order

While it waits the pool watches: a worker that died (its sentinel fires) or whose heart stopped for
five seconds (it is killed) is replaced aside. The others compute what it had in hand, share its
shards, and give them back once the new one is ready. A rank is given three replacements, and one
where memory ran out; then the run fails and names the rank, and the signal or the memory.

    moments(ranges, take)
        give each worker a shard ─▶ wait for any ─▶ take its moments ─▶ give it the next shard

Between rounds the pool looks how fast each worker has been, and gives a slow one fewer shards.

While it waits the pool also calls `idle`, about twenty times a second. What that raises ends the
round, and the pool with it: workers leave what they compute at the next block of rows.

Another number of workers takes effect between two rounds. New ones start aside; once they are ready
all gather, those above the new number leave, and the shards are shared out anew.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.context import SpawnProcess
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
import psutil
from numpy.typing import NDArray

from regatta import models
from regatta.metrics import own_memory
from regatta.parameter_server.balance import Paces, better_shares, share_out, slow_ranks
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.kernel import Kernel
from regatta.parameter_server.protocol import (
    ANSWERED,
    ASLEEP,
    COMMUNICATE_SECONDS,
    COMPUTE_SECONDS,
    COORDINATOR_ASLEEP,
    COUNT,
    DONE,
    FAILED,
    FIRST,
    HEARTBEAT,
    INCARNATION,
    MARK,
    MILESTONES,
    MILESTONES_KEPT,
    OP,
    ORDER,
    READY,
    ROWS,
    SPINNING_IS_SAFE,
    START,
    STATE,
    STOP,
    TICKET,
    VERSION,
    WAIT_SECONDS,
    WAKE,
    Board,
    Layout,
    Op,
    WorkerSetup,
    WorkerState,
)
from regatta.parameter_server.shared_memory import SharedMemory, aligned_empty
from regatta.parameter_server.step_kernel import StepPlan
from regatta.utils import RegattaError
from regatta.worker import run_worker

SPIN_SECONDS = 1e-3 if SPINNING_IS_SAFE else 0.0
# How often the caller's `idle` is called while a round lasts, and a lost wake-up's price.
SLEEP_SECONDS = 0.05
LEASE_SECONDS = 5.0
MAX_RESPAWNS = 3
MAX_OUT_OF_MEMORY = 1  # replacements of a rank whose memory ran out: it rarely gets better
MEMORY_HINT = (
    "Take fewer --workers, leave columns out with --drop, or free memory, and resume the run."
)
START_SECONDS = 60.0
# A run has room for as many workers as it has shards, though it begins with fewer; where workers
# get tickets, for fewer if the rows of all of them took more than this.
TICKET_BYTES = 64_000_000
EXIT_SECONDS = 2.0


# Takes the moments of the k-th range; False where it cannot yet.
Take = Callable[[int, NDArray[np.float64]], bool]
NOBODY = -1  # owns a shard that a round is not to compute again


@dataclass(frozen=True)
class WorkerSample:
    """What one worker has done so far. Seconds add up to its time since it was ready."""

    rank: int
    pid: int
    incarnation: int
    state: str
    rows: int
    compute: float
    wait: float
    communicate: float
    shards: int


@dataclass(frozen=True)
class PoolEvent:
    """Something that happened to a worker, or (no ``rank``) to all: ``kind`` is worker_started,
    worker_died, worker_slow or balanced."""

    kind: str
    rank: int | None
    message: str


class Pool(Protocol):
    """Computes rounds. The slots that `run` returns are valid until the next round."""

    n_workers: int
    idle: Callable[[], None]

    @property
    def capacity(self) -> int:
        """Workers that there is room for."""

    @property
    def is_changing(self) -> bool:
        """Whether another number of workers was asked for and is not there yet."""

    def resize(self, n_workers: int) -> None:
        """Ask for another number of workers, up to `capacity`. `watch` brings it about."""

    def run(
        self, op: Op, parameters: NDArray[np.float64], first: int, ranges: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Compute ``op`` at ``parameters`` on shards ``first``, ``first + 1``, … over ``ranges``
        (n, 2). Returns their slots, (n, slot width), in shard order."""

    def moments(self, ranges: NDArray[np.int64], take: Take) -> None:
        """Second moments of (x, 1, y) over the training rows of each range (n, 2).

        ``take(k, matrices)`` is given those of the k-th range: a matrix for each fold that its
        rows may belong to (`DataSource.n_folds`), valid while the call lasts. Ranges are begun in
        order, and may be done in any. Where it returns False it cannot take them yet and is asked
        again once it has taken others: those of the ranges before, at the latest.
        """

    def milestones(self) -> list[tuple[float, int]]:
        """When (``time.perf_counter``) the present, or last, call of `moments` had taken in how
        many rows: what has not been asked for yet."""

    def samples(self) -> list[WorkerSample]:
        """What each worker has done so far."""

    def kill(self, rank: int, incarnation: int) -> bool:
        """Kill a worker, if it is still that incarnation of its rank, as if it had died by itself;
        whether it was. It does not count among the replacements that a rank is given."""

    def watch(self) -> None:
        """Replace workers that died, take in new ones, let go those that are too many. For times
        when no round is waited for."""

    def close(self) -> None:
        """End every worker and give the memory back."""


class InProcessPool:
    """The same arithmetic without processes: for small data, tests and ``--workers 0``."""

    n_workers = 0

    def __init__(
        self,
        source: DataSource,
        model: str,
        arithmetic: str,
        idle: Callable[[], None] = lambda: None,
    ) -> None:
        self.idle = idle
        self._next_idle = 0.0
        self._rows_taken_in = 0
        self._milestones: list[tuple[float, int]] = []
        layout = Layout(source.n_features, source.n_shards, 0)
        self.capacity = 0
        self.is_changing = False
        self._slots = aligned_empty((source.n_shards, layout.slot_width), np.float64)
        self._width = source.n_features + 2
        self._matrix: NDArray[np.float64] | None = None
        self._folds = source.n_folds
        self._kernel = Kernel(
            source.open("train"), source.open("validation"), models.get(model), arithmetic
        )

    def run(
        self, op: Op, parameters: NDArray[np.float64], first: int, ranges: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        self._kernel.set_parameters(parameters)
        for shard, (start, stop) in enumerate(ranges.tolist(), first):
            self._kernel.run(op, start, stop, self._slots[shard], self._beat)
        return self._slots[first : first + len(ranges)]

    def moments(self, ranges: NDArray[np.int64], take: Take) -> None:
        if self._matrix is None:
            self._matrix = np.empty((self._folds, self._width, self._width))
        self._rows_taken_in = 0
        self._milestones = []
        for number, (start, stop) in enumerate(ranges.tolist()):
            self._kernel.moments(start, stop, self._matrix, self._beat, self._count_rows)
            take(number, self._matrix)

    def milestones(self) -> list[tuple[float, int]]:
        new, self._milestones = self._milestones, []
        return new

    def resize(self, n_workers: int) -> None:
        pass  # there is no worker to add to

    def samples(self) -> list[WorkerSample]:
        return []

    def kill(self, rank: int, incarnation: int) -> bool:
        return False

    def watch(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._next_idle:
            self._next_idle = now + SLEEP_SECONDS
            self.idle()

    def _count_rows(self, rows: int) -> None:
        self._rows_taken_in += rows
        self._milestones.append((time.perf_counter(), self._rows_taken_in))


@dataclass
class _Begun:
    """A range of rows in the hands of a worker, for their moments.

    ``ticket`` is the number that it answers with, ``before`` its count of rows before, ``read`` how
    many of its milestones were read, ``taken_in`` the rows taken in by the last of these.
    """

    number: int
    rows: int
    member: _Member
    ticket: int
    before: int
    read: int
    taken_in: int = 0


class WorkerPool:
    """N worker processes and the shared block between them and this one.

    Must be made in the main thread: workers die with the thread that started them.

    Parameters
    ----------
    source : DataSource
    model : str
        Name of the objective.
    arithmetic : {"float32", "float64"}
    n_workers : int
    logs : Path
        Folder for ``worker-<rank>.log``.
    with_statistics : bool
        Whether `moments` will be asked for.
    on_event : callable
        Told of every worker that starts or dies.
    idle : callable
        Called about twenty times a second while a round lasts longer than that. What it raises
        ends the round; the pool can then only be closed.
    steps : StepPlan, optional
        The steps that workers will be given tickets for.
    """

    def __init__(
        self,
        source: DataSource,
        model: str,
        arithmetic: str,
        n_workers: int,
        *,
        logs: Path,
        with_statistics: bool = False,
        on_event: Callable[[PoolEvent], None] = lambda event: None,
        idle: Callable[[], None] = lambda: None,
        steps: StepPlan | None = None,
    ) -> None:
        self.n_workers = self._wanted = n_workers
        self._steps = steps
        self._source = source
        self._model = model
        self._arithmetic = arithmetic
        self._logs = logs
        self._on_event = on_event
        self.idle = idle
        widths = steps.widths(source.n_features) if steps is not None else (0, 0)
        room = TICKET_BYTES // (8 * sum(widths)) if steps is not None else source.n_shards
        self.capacity = max(n_workers, min(room, source.n_shards))
        self._layout = Layout(
            source.n_features,
            source.n_shards,
            self.capacity,
            n_workers if with_statistics else 0,
            source.n_folds,
            *widths,
        )
        self._memory = SharedMemory(self._layout.size)
        self._board = Board(self._memory, self._layout)
        self._counts = self._board.counts
        self._version = 0
        self._waiting_for: dict[tuple[int, int], tuple[int, ...]] = {}
        self._begun: dict[int, _Begun] = {}  # by rank
        self._rows_taken_in = self._rows_told = 0
        self._milestones: list[tuple[float, int]] = []
        self._out_of_memory = [0] * self.capacity
        self._asked_to_die = [0] * self.capacity
        self._share_out([shard % n_workers for shard in range(source.n_shards)])
        self._context = get_context("spawn")
        self._members: list[_Member] = []
        self._starting: dict[int, _Member] = {}  # aside, by rank
        self._changes = 0  # how often a worker came or went
        self._shared_at = 0  # of these, those that the sharing-out of the shards knows of
        self._lost: set[int] = set()  # ranks that died within the present round
        self._serving = False  # whether workers look for tickets
        self._hearts_of_tickets: dict[int, tuple[int, float]] = {}
        self._parts = source.n_shards  # shards of a round
        self._paces = Paces()
        # Who is waited for while `idle` is called, which may bring about a `watch`: ranks, version.
        self._awaited: tuple[Sequence[int], int] = ((), 0)
        try:
            self._members = [self._spawn(rank, 0) for rank in range(n_workers)]
            self._starting = dict(enumerate(self._members))
            self._await_who_starts()
            self._shared_at = self._changes
        except BaseException:
            self.close()
            raise

    def run(
        self, op: Op, parameters: NDArray[np.float64], first: int, ranges: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        count = len(ranges)
        if self._shared_at != self._changes:
            self._share_out_among_those_here()
        ranks = self._ranks(first, count)
        self._wait(ranks, self._begin_round(op, parameters, first, ranges, ranks))
        if self._lost:
            self._make_up(op, parameters, first, ranges)
        if op == Op.GRADIENT:
            self._parts = count
        return self._board.slots[first : first + count]

    def _begin_round(
        self,
        op: Op,
        parameters: NDArray[np.float64],
        first: int,
        ranges: NDArray[np.int64],
        ranks: Sequence[int],
    ) -> int:
        board, count, buffer = self._board, len(ranges), (self._version + 1) & 1
        np.copyto(board.parameters[buffer], parameters)
        board.ranges[buffer, first : first + count] = ranges
        self._serving = False
        return self._publish(op, first, count, ranks)

    def _make_up(
        self, op: Op, parameters: NDArray[np.float64], first: int, ranges: NDArray[np.int64]
    ) -> None:
        """Let others compute what workers of this round had in hand when they died."""
        owners, shards = self._board.owners, range(first, first + len(ranges))
        undone = {shard for shard in shards if owners[shard] in self._lost}
        while undone:
            self._share_out_among_those_here()
            for shard in set(shards) - undone:
                owners[shard] = NOBODY
            ranks = sorted({owners[shard] for shard in undone})
            self._wait(ranks, self._begin_round(op, parameters, first, ranges, ranks))
            undone = {shard for shard in undone if owners[shard] in self._lost}
            self._shared_at = -1  # it was for these shards alone

    def _publish(self, op: Op, first: int, count: int, ranks: Sequence[int]) -> int:
        """Begin a round, and wake those of ``ranks`` that sleep; its version."""
        version = self._version = self._version + 1
        control, order = self._board.control, ORDER[version & 1]
        control[order + OP], control[order + FIRST], control[order + COUNT] = op, first, count
        control[VERSION] = version
        for rank in ranks:
            if self._counts[rank][ASLEEP]:
                self._wake(rank)
        return version

    def moments(self, ranges: NDArray[np.int64], take: Take) -> None:
        todo = list(range(len(ranges)))  # a heap: what a dead worker had comes next
        begun = self._begun = {}
        refused: set[int] = set()  # ranks whose moments cannot be taken yet
        self._rows_taken_in, self._rows_told, self._milestones = 0, 0, []
        while todo or begun:
            if not self._serving:  # at first, and after another number of workers was gathered
                self._serve(Op.MOMENTS)
            for rank in self._here():
                if todo and rank < self._layout.n_matrices and rank not in begun:
                    number = heapq.heappop(todo)
                    begun[rank] = self._begin(rank, number, *ranges[number].tolist())
            # One look: whoever answers after it is waited for, and found to have answered.
            late = {rank: each.ticket for rank, each in begun.items()
                    if self._counts[rank][ANSWERED] != each.ticket}  # fmt: skip
            if begun.keys() - late.keys() <= refused:
                self._wait_for_any([(self._counts[rank], ticket) for rank, ticket in late.items()])
            for rank, part in sorted(begun.items(), key=lambda item: item[1].number):
                if self._counts[rank][ANSWERED] == part.ticket:
                    if take(part.number, self._board.matrices[rank]):
                        self._read_milestones()
                        self._rows_taken_in += begun.pop(rank).rows
                        refused.clear()
                    else:
                        refused.add(rank)
                elif rank not in self._here() or self._members[rank] is not part.member:
                    heapq.heappush(todo, begun.pop(rank).number)
        self._serving = False

    def _begin(self, rank: int, number: int, start: int, stop: int) -> _Begun:
        """Let a worker compute the moments of a range."""
        counts, order = self._counts[rank], self._board.orders[rank]
        ticket = min(order[TICKET], 0) - 1  # those of steps are counted upwards
        begun = _Begun(number, stop - start, self._members[rank], ticket, counts[ROWS],
                       counts[MILESTONES])  # fmt: skip
        order[START], order[STOP] = start, stop
        order[TICKET] = ticket
        if counts[ASLEEP]:
            self._wake(rank)
        return begun

    def milestones(self) -> list[tuple[float, int]]:
        self._read_milestones()
        new, self._milestones = self._milestones, []
        return new

    def _read_milestones(self) -> None:
        new = []
        for rank, part in self._begun.items():
            ring, noted = self._board.milestones[rank], self._counts[rank][MILESTONES]
            for number in range(max(part.read, noted - MILESTONES_KEPT), noted):
                at = 2 * (number % MILESTONES_KEPT)
                new.append((ring[at], int(ring[at + 1]), part))
            part.read = noted
        for when, counted, part in sorted(new, key=itemgetter(0)):
            part.taken_in = max(part.taken_in, min(counted - part.before, part.rows))
            rows = self._rows_taken_in + sum(each.taken_in for each in self._begun.values())
            if rows > self._rows_told:  # what a dead worker had done is done again
                self._milestones.append((when, rows))
                self._rows_told = rows

    def samples(self) -> list[WorkerSample]:
        return [self._sample(member) for member in self._members]

    def kill(self, rank: int, incarnation: int) -> bool:
        member = next((each for each in self._members if each.rank == rank), None)
        if member is None or member.incarnation != incarnation or rank in self._starting:
            return False
        if not member.note:
            self._asked_to_die[rank] += 1
            member.note = "it was killed, as it was asked for"
        member.process.kill()
        return True

    def watch(self) -> None:
        self._look_for_dead()
        self._take_in_who_is_ready()
        if self._in_round:
            return
        if (
            self._wanted != self.n_workers
            or len(self._here()) + len(self._starting) > self.n_workers
        ):
            self._adapt()
        elif not self._starting:
            self._balance()

    @property
    def is_changing(self) -> bool:
        return self._wanted != self.n_workers

    def resize(self, n_workers: int) -> None:
        self._wanted = max(1, min(n_workers, self.capacity))

    def close(self) -> None:
        """Ask every worker to leave, kill those that do not, and give the memory back."""
        self._publish(Op.EXIT, 0, 0, ())
        everyone = list({*self._members, *self._starting.values()})
        for member in everyone:
            _wake(member)
        _part_with(everyone)
        self._members, self._starting = [], {}
        self._memory.close()

    # Another number of workers

    def _adapt(self) -> None:
        """Bring the number of workers to what is wanted, as far as nobody has to wait for it."""
        if any(rank < self.n_workers for rank in self._starting):
            return  # one is being replaced: soon
        for rank in [rank for rank in self._starting if rank >= self._wanted]:
            member = self._starting.pop(rank)
            member.process.kill()
            _part_with([member])
        for rank in range(self.n_workers, self._wanted):
            if rank not in self._starting:
                self._starting[rank] = self._spawn(rank, 0)
        ready = [self._has_started(member) for member in list(self._starting.values())]
        if all(ready) and self._wanted != self.n_workers:
            self._gather()

    def _has_started(self, member: _Member) -> bool:
        """Whether a worker that starts aside is ready; one that died there is replaced."""
        self._drain(member)
        age = time.monotonic() - member.born
        stopped = not member.ready and age > LEASE_SECONDS and member.is_stopped
        if stopped or (not member.ready and age > START_SECONDS):
            what = "it was stopped" if stopped else f"it was not ready after {START_SECONDS:.0f} s"
            member.note = f"{what} while it started, so it was killed"
            member.process.kill()
            member.process.join()
        if not member.ready and not member.process.is_alive():
            member.process.join()
            self._drain(member)
            self._starting[member.rank] = self._successor(member)
        return member.ready

    def _gather(self) -> None:
        """Take in everyone who started, let go who is too many, and share the shards out anew."""
        wanted = self._wanted  # it may change while all are waited for
        for rank in sorted(self._starting):
            member = self._starting.pop(rank)
            self._members.append(member)
            self._tell_started(member)
        self._muster(range(len(self._members)), wanted)
        leaving, self._members = self._members[wanted:], self._members[:wanted]
        _part_with(leaving)
        self.n_workers = len(self._members)
        self._changes += 1
        if len(self._here()) == self.n_workers:
            self._share_out_fairly(self._here())

    def _muster(self, ranks: Sequence[int], staying: int) -> None:
        """Let all say that they are here, and ranks from ``staying`` on leave.

        Before shards change hands: a worker that was late with an earlier round would otherwise
        read the owners of a later one with it.
        """
        self._serving = False
        self._wait(ranks, self._publish(Op.GATHER, 0, staying, ranks))

    def _here(self) -> tuple[int, ...]:
        """The ranks that no one is on the way to replace."""
        return tuple(rank for rank in range(self.n_workers) if rank not in self._starting)

    def _share_out_among_those_here(self) -> None:
        while True:
            if not self._here():
                self._await_who_starts()
            changes, here = self._changes, self._here()
            self._muster(here, self.n_workers)
            if changes == self._changes:  # nobody died meanwhile
                break
        self._lost.clear()
        self._share_out_fairly(here)

    def _share_out_fairly(self, ranks: Sequence[int]) -> None:
        """Give each shard to one of ``ranks``, who wait, by how fast they are."""
        speeds = self._paces.speeds(ranks)
        self._share_out(share_out(self._source.n_shards, self._parts, speeds))
        self._shared_at = self._changes

    def _share_out(self, owners: Sequence[int]) -> None:
        """Give each shard to its owner."""
        self._owned = [owners.count(rank) for rank in range(self.capacity)]
        for shard, rank in enumerate(owners):
            self._board.owners[shard] = rank
        self._waiting_for.clear()

    def _balance(self) -> None:
        """Share the shards out anew where one worker has become slower, or fast again."""
        here = self._here()
        work = {rank: (self._counts[rank][ROWS], self._board.times[rank][COMPUTE_SECONDS])
                for rank in here}  # fmt: skip
        if len(here) < 2 or self._shared_at != self._changes or not self._paces.measure(work):
            return
        speeds = self._paces.speeds(here)
        owners = better_shares(list(self._board.owners), self._parts, speeds)
        if owners is None:
            return
        changes = self._changes
        self._muster(here, self.n_workers)
        if changes == self._changes:
            self._share_out(owners)
            self._tell_shares(speeds)

    def _tell_shares(self, speeds: Mapping[int, float]) -> None:
        slow = slow_ranks(speeds)
        for rank, times in slow.items():
            spent = self._board.times[rank]
            limits = spent[COMPUTE_SECONDS] > spent[WAIT_SECONDS]  # else it waits itself
            text = (
                f"Worker {rank} is {times:.1f} times slower than the others"
                f"{', and limits this run' if limits else ''}: it computes "
                f"{self._owned[rank]} of {self._source.n_shards} shards from now on."
            )
            self._on_event(PoolEvent("worker_slow", rank, text))
        if not slow:
            text = "The workers are about equally fast: the shards are shared out anew."
            self._on_event(PoolEvent("balanced", None, text))

    # Waiting

    def _ranks(self, first: int, count: int) -> tuple[int, ...]:
        key = (first, count)
        if key not in self._waiting_for:
            owners = self._board.owners
            self._waiting_for[key] = tuple(sorted({owners[s] for s in range(first, first + count)}))
        return self._waiting_for[key]

    def _wait(self, ranks: Sequence[int], version: int) -> None:
        counts, give_way = self._counts, _yield
        deadline = time.perf_counter() + SPIN_SECONDS
        for rank in ranks:
            mine = counts[rank]
            while mine[DONE] < version:
                if time.perf_counter() >= deadline:
                    self._wait_asleep(ranks, version)
                    return
                give_way()

    def _wait_asleep(self, ranks: Sequence[int], version: int) -> None:
        control, counts = self._board.control, self._counts
        hearts = self._hearts(ranks)
        control[COORDINATOR_ASLEEP] = 1
        try:
            while late := [
                rank
                for rank in ranks
                if counts[rank][DONE] < version and rank not in self._starting
            ]:
                self._sleep([self._members[rank] for rank in late])
                before = time.monotonic()
                self._attend_to_others(ranks, version)
                if time.monotonic() - before > SLEEP_SECONDS:  # the run was paused in there
                    hearts = self._hearts(ranks)
                for rank in late:
                    if counts[rank][DONE] < version and rank not in self._starting:
                        self._feel_pulse(rank, hearts)
        finally:
            control[COORDINATOR_ASLEEP] = 0

    def _serve(self, op: Op) -> None:
        """From now on workers look for tickets, of steps or of moments."""
        self._publish(op, 0, 0, range(self.n_workers))
        self._serving = True

    def _wait_for_any(self, waited: Sequence[tuple[memoryview[int], int]]) -> None:
        """Until one of some tickets (a rank's counts, the number) is answered, or a worker comes
        or goes."""
        changes, give_way = self._changes, _yield
        deadline = time.perf_counter() + SPIN_SECONDS
        while self._changes == changes:
            for counts, number in waited:
                if counts[ANSWERED] == number:
                    return
            if time.perf_counter() >= deadline:
                break
            give_way()
        control = self._board.control
        control[COORDINATOR_ASLEEP] = 1
        try:
            while self._changes == changes and not any(
                counts[ANSWERED] == number for counts, number in waited
            ):
                self._sleep_and_attend()
        finally:
            control[COORDINATOR_ASLEEP] = 0

    def _sleep_and_attend(self) -> None:
        """Asleep for a moment; then see to workers that do not compute a round, and call `idle`."""
        alive = [member for member in self._members if member.rank not in self._starting]
        self._sleep([*alive, *self._starting.values()])
        before = time.monotonic()
        self.idle()
        if time.monotonic() - before > SLEEP_SECONDS:  # the run was paused in there
            self._hearts_of_tickets.clear()
        self._look_for_dead()
        self._take_in_who_is_ready()
        self._feel_pulses()

    def _feel_pulses(self) -> None:
        for rank in self._here():
            self._hearts_of_tickets.setdefault(rank, (-1, 0.0))
            self._feel_pulse(rank, self._hearts_of_tickets)

    def _attend_to_others(self, ranks: Sequence[int], version: int) -> None:
        """Call `idle` while ``ranks`` are waited for."""
        before, self._awaited = self._awaited, (ranks, version)
        try:
            self.idle()
        finally:
            self._awaited = before

    @property
    def _in_round(self) -> bool:
        """Whether a round is computed. One that is over, in which the run was paused, is not."""
        ranks, version = self._awaited
        return any(self._counts[rank][DONE] < version for rank in ranks)

    def _hearts(self, ranks: Sequence[int]) -> dict[int, tuple[int, float]]:
        """The beats of each rank so far, and since when they are so many."""
        return {rank: (self._counts[rank][HEARTBEAT], time.monotonic()) for rank in ranks}

    def _sleep(self, members: Sequence[_Member]) -> None:
        """Until one of ``members`` says something or dies, or a twentieth of a second."""
        waitable = [m.process.sentinel for m in members] + [m.pipe for m in members]
        ready = connection.wait(waitable, SLEEP_SECONDS)
        for member in members:
            if member.pipe in ready:
                self._drain(member)
        if any(member.process.sentinel in ready for member in members):
            self._look_for_dead()

    def _look_for_dead(self) -> None:
        for member in list(self._members):
            gone = member.rank not in self._starting and not member.process.is_alive()
            if gone and not self._left(member):
                self._replace(member)

    def _left(self, member: _Member) -> bool:
        """Whether a worker ended because it was told to."""
        return self._counts[member.rank][STATE] == WorkerState.LEFT

    def _drain(self, member: _Member) -> None:
        """Read what a worker sent: bytes that only woke us, or why it failed."""
        try:
            while member.pipe.poll():
                message = member.pipe.recv_bytes()
                if message == READY:
                    member.ready = True
                if message[:1] == FAILED:
                    member.failure = message[1:].decode()
        except (EOFError, OSError):
            pass  # its sentinel tells the rest

    def _feel_pulse(self, rank: int, hearts: dict[int, tuple[int, float]]) -> None:
        beat, now = self._counts[rank][HEARTBEAT], time.monotonic()
        last, since = hearts[rank]
        if beat != last:
            hearts[rank] = (beat, now)
        elif now - since > LEASE_SECONDS:
            member = self._members[rank]
            member.note = f"its heart stopped for {LEASE_SECONDS:.0f} s, so it was killed"
            member.process.kill()
            self._replace(member)

    def _wake(self, rank: int) -> None:
        _wake(self._members[rank])

    # Births and deaths

    def _spawn(self, rank: int, incarnation: int) -> _Member:
        ours, theirs = self._context.Pipe()
        setup = WorkerSetup(
            rank=rank,
            incarnation=incarnation,
            layout=self._layout,
            source=self._source,
            model=self._model,
            arithmetic=self._arithmetic,
            log=str(self._logs / f"worker-{rank}.log"),
            # Tickets are for whoever comes, a round is for those who were there.
            version=self._version - 1 if self._serving else self._version,
            ticket=self._board.orders[rank][TICKET],
            steps=self._steps,
        )
        process = self._context.Process(
            target=run_worker,
            args=(setup, self._memory, theirs, os.getpid()),
            name=f"regatta-worker-{rank}",
            daemon=True,
        )
        # Ctrl-C on a terminal reaches a worker too, which ignores it only once it has imported
        # what it needs. It inherits the mask; what reaches this process meanwhile is kept for it.
        resource_tracker.ensure_running()  # or the first start would, and clear the mask
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        return _Member(rank, incarnation, process, ours)

    def _await_who_starts(self) -> None:
        """Wait for those who start in the place of a worker."""
        while missing := [rank for rank in self._starting if rank < self.n_workers]:
            self._sleep([self._starting[rank] for rank in missing])
            self._attend_to_others(missing, self._version + 1)
            self._take_in_who_is_ready()

    def _take_in_who_is_ready(self) -> None:
        """Let those who start in the place of a worker, and are ready, take it."""
        for rank, member in list(self._starting.items()):
            if rank < self.n_workers and self._has_started(member):
                self._members[rank] = self._starting.pop(rank)
                self._hearts_of_tickets.pop(rank, None)
                self._changes += 1
                self._tell_started(member)

    def _tell_started(self, member: _Member) -> None:
        member.look_at_memory()
        text = f"Worker {member.rank} started (pid {member.process.pid})."
        self._on_event(PoolEvent("worker_started", member.rank, text))

    def _replace(self, member: _Member) -> None:
        """Start another worker aside; until it is ready the others share the work."""
        member.process.join()
        self._drain(member)
        if self._counts[member.rank][DONE] < self._version:
            self._lost.add(member.rank)
        self._starting[member.rank] = self._successor(member)
        self._paces.forget(member.rank)
        self._changes += 1

    def _successor(self, member: _Member) -> _Member:
        """Start another worker in the place of ``member``, which is dead."""
        message = f"Worker {member.rank} (pid {member.process.pid}) died: {_cause(member)}"
        member.pipe.close()
        self._on_event(PoolEvent("worker_died", member.rank, message))
        self._give_up_if_hopeless(member, message)
        self._counts[member.rank][ASLEEP] = 0
        return self._spawn(member.rank, member.incarnation + 1)

    def _give_up_if_hopeless(self, member: _Member, message: str) -> None:
        """Raise where another worker in the place of the dead ``member`` would die as well."""
        if member.ran_out_of_memory:
            self._out_of_memory[member.rank] += 1
            if self._out_of_memory[member.rank] > MAX_OUT_OF_MEMORY:
                raise RegattaError(f"{message}. So did the one before it.", MEMORY_HINT)
            return
        deaths = member.incarnation - self._asked_to_die[member.rank]
        if deaths >= MAX_RESPAWNS or member.failure:
            raise RegattaError(
                f"{message}.", f"It was replaced {deaths} times. See worker-{member.rank}.log."
            )

    def _sample(self, member: _Member) -> WorkerSample:
        member.look_at_memory()
        counts, times = self._counts[member.rank], self._board.times[member.rank]
        state = WorkerState(counts[STATE])
        compute, wait = times[COMPUTE_SECONDS], times[WAIT_SECONDS]
        since = max(0.0, time.perf_counter() - times[MARK]) if times[MARK] else 0.0
        if state == WorkerState.COMPUTE:
            compute += since
        else:
            wait += since
        return WorkerSample(
            rank=member.rank,
            pid=member.process.pid or 0,
            incarnation=counts[INCARNATION],
            state=state.name.lower(),
            rows=counts[ROWS],
            compute=compute,
            wait=wait,
            communicate=times[COMMUNICATE_SECONDS],
            shards=self._owned[member.rank],
        )


class _Member:
    """One worker process as its pool sees it."""

    def __init__(
        self, rank: int, incarnation: int, process: SpawnProcess, pipe: connection.Connection
    ) -> None:
        self.rank = rank
        self.incarnation = incarnation
        self.process = process
        self.pipe = pipe
        self.ready = False
        self.born = time.monotonic()
        self.failure = ""
        self.note = ""
        self.memory = 0  # bytes, when it was last looked at
        self._kills = out_of_memory_kills()

    def look_at_memory(self) -> None:
        with contextlib.suppress(psutil.Error):
            self.memory = own_memory(self.process.pid or 0) or self.memory

    @property
    def is_stopped(self) -> bool:
        """Whether a signal (SIGSTOP) keeps it from running."""
        with contextlib.suppress(psutil.Error):
            return psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED
        return False

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it died, or was killed by the system, for want of memory."""
        if "MemoryError" in self.failure:
            return True
        killed = self.process.exitcode == -signal.SIGKILL and not self.note
        return killed and out_of_memory_kills() > self._kills


def open_pool(
    source: DataSource,
    model: str,
    arithmetic: str,
    n_workers: int,
    *,
    logs: Path,
    with_statistics: bool = False,
    on_event: Callable[[PoolEvent], None] = lambda event: None,
    idle: Callable[[], None] = lambda: None,
) -> Pool:
    """A pool of ``n_workers`` processes, or this process where that is 0."""
    if n_workers == 0:
        return InProcessPool(source, model, arithmetic, idle)
    gc.collect()
    return WorkerPool(
        source,
        model,
        arithmetic,
        n_workers,
        logs=logs,
        with_statistics=with_statistics,
        on_event=on_event,
        idle=idle,
    )


def _wake(member: _Member) -> None:
    with contextlib.suppress(OSError):  # it died; waiting for it will notice
        member.pipe.send_bytes(WAKE)


def _part_with(members: Sequence[_Member]) -> None:
    """Wait until workers that were told to leave have left; kill those that do not."""
    deadline = time.monotonic() + EXIT_SECONDS
    for member in members:
        member.process.join(max(0.0, deadline - time.monotonic()))
        if member.process.is_alive():
            member.process.kill()
            member.process.join()
        member.pipe.close()
        member.process.close()


def out_of_memory_kills() -> int:
    """How many processes this machine has killed for want of memory; 0 where it does not tell."""
    try:
        with open("/proc/vmstat", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    except (OSError, StopIteration):
        return 0


def _cause(member: _Member) -> str:
    if member.note:
        return member.note
    if member.ran_out_of_memory:
        return f"it ran out of memory; when last looked at, it held {member.memory / 1e6:,.0f} MB"
    if member.failure:
        return member.failure.strip().splitlines()[-1]
    code = member.process.exitcode
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name} (killed, perhaps for want of memory)" if name == "SIGKILL" else name
    return f"it left with exit code {code}"


_yield: Callable[[], None] = getattr(os, "sched_yield", lambda: None)
