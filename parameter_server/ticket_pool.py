"""Pools that hand out tickets: each worker computes alone, and nobody waits for a round.

    give(ticket, …)    input and order of the rank ─▶ the ticket's number ─▶ wake it if it sleeps
    has_answered(…)    its `answered` is the ticket's number: the answer may be read
    wait(…)            until one of some tickets is answered, or there is news: who came, who went

What is given to whom is decided by `consistency.Protocol`. A worker that dies or whose heart stops
is replaced as in a `WorkerPool`, but aside: the others go on meanwhile, and share what rounds there
are.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regatta.models import Penalty
from regatta.parameter_server import worker_pool
from regatta.parameter_server.consistency import Ticket
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.protocol import (
    ANSWERED,
    ASLEEP,
    BATCHES,
    COORDINATOR_ASLEEP,
    FIRST_BATCH,
    HEARTBEAT,
    L1,
    L2,
    RATE,
    STRIDE,
    TICKET,
    Op,
)
from regatta.parameter_server.step_kernel import StepKernel, StepPlan
from regatta.parameter_server.worker_pool import (
    LEASE_SECONDS,
    SLEEP_SECONDS,
    SPIN_SECONDS,
    InProcessPool,
    Pool,
    WorkerPool,
    _Member,
    _yield,
)

Vector = NDArray[np.float64]
# Of a rank: its incarnation where it came, None where it went.
News = tuple[int, int | None]


class TicketPool(Pool, Protocol):
    """A pool that computes tickets, and rounds between them."""

    def take_news(self) -> list[News]:
        """Who came and who went since the last call, in order."""

    def give(self, ticket: Ticket, start: Vector, rate: float, penalty: Penalty) -> None:
        """Let a worker compute a ticket, from ``start``."""

    def has_answered(self, ticket: Ticket) -> bool:
        """Whether the answer to the last ticket of its rank is there."""

    def answer(self, ticket: Ticket) -> Vector:
        """The answer. Valid until the rank is given another ticket."""

    def wait(self, tickets: Sequence[Ticket]) -> None:
        """Until one of ``tickets`` is answered or there is news."""


class InProcessTicketPool(InProcessPool):
    """One worker that is this process: it computes its ticket while it is waited for."""

    def __init__(
        self,
        source: DataSource,
        model: str,
        arithmetic: str,
        idle: Callable[[], None] = lambda: None,
        *,
        steps: StepPlan,
    ) -> None:
        super().__init__(source, model, arithmetic, idle)
        self._steps = StepKernel(self._kernel, steps, source.n_features, self._beat)
        self._answer = np.zeros(steps.widths(source.n_features)[1])
        self._news: list[News] = [(0, 0)]
        self._given: tuple[Ticket, Vector, float, Penalty] | None = None

    def take_news(self) -> list[News]:
        news, self._news = self._news, []
        return news

    def give(self, ticket: Ticket, start: Vector, rate: float, penalty: Penalty) -> None:
        self._given = ticket, start, rate, penalty

    def has_answered(self, ticket: Ticket) -> bool:
        return self._given is None

    def answer(self, ticket: Ticket) -> Vector:
        return self._answer

    def wait(self, tickets: Sequence[Ticket]) -> None:
        # Here and not where it is given: what is saved, or ends, within it is between two updates.
        if self._given is not None:
            ticket, start, rate, penalty = self._given
            task = ticket.task
            self._steps.run(task.first, task.stride, task.count, start, self._answer, rate, penalty)
            self._given = None


class WorkerTicketPool(WorkerPool):
    """Worker processes that compute tickets. Made like a `WorkerPool`, with ``steps``."""

    def __init__(
        self,
        source: DataSource,
        model: str,
        arithmetic: str,
        n_workers: int,
        *,
        logs: Path,
        steps: StepPlan,
        **settings: Any,
    ) -> None:
        self._told: dict[int, _Member] = {}  # whom `take_news` told of last
        self._has_news = True
        self._serving = False
        self._hearts_of_tickets: dict[int, tuple[int, float]] = {}
        super().__init__(source, model, arithmetic, n_workers, logs=logs, steps=steps, **settings)

    def take_news(self) -> list[News]:
        if not self._has_news:
            return []
        self._has_news = False
        told, here = self._told, {rank: self._members[rank] for rank in self._here()}
        went = [rank for rank, member in told.items() if here.get(rank) is not member]
        came = [rank for rank, member in here.items() if told.get(rank) is not member]
        self._told = here
        return [(rank, None) for rank in went] + [(rank, here[rank].incarnation) for rank in came]

    def give(self, ticket: Ticket, start: Vector, rate: float, penalty: Penalty) -> None:
        rank, task = ticket.rank, ticket.task
        if not self._serving:
            self._serve()
        self._board.inputs[rank] = start
        order, numbers = self._board.orders[rank], self._board.order_numbers[rank]
        order[FIRST_BATCH], order[STRIDE], order[BATCHES] = task.first, task.stride, task.count
        numbers[RATE], numbers[L1], numbers[L2] = rate, penalty.l1, penalty.l2
        order[TICKET] = ticket.number
        if self._counts[rank][ASLEEP]:
            self._wake(rank)

    def has_answered(self, ticket: Ticket) -> bool:
        return self._counts[ticket.rank][ANSWERED] == ticket.number

    def answer(self, ticket: Ticket) -> Vector:
        answer: Vector = self._board.answers[ticket.rank]
        return answer

    def wait(self, tickets: Sequence[Ticket]) -> None:
        if not self._serving:  # there was a round, and some have yet to begin their ticket
            self._serve()
        waited = [(self._counts[ticket.rank], ticket.number) for ticket in tickets]
        give_way = _yield
        deadline = time.perf_counter() + SPIN_SECONDS
        while not self._has_news:
            for counts, number in waited:
                if counts[ANSWERED] == number:
                    return
            if time.perf_counter() >= deadline:
                self._wait_for_any(waited)
                return
            give_way()

    def run(self, op: Op, parameters: Vector, first: int, ranges: NDArray[np.int64]) -> Vector:
        self._look_for_dead()
        if not self._here():
            self._settle()
        self._serving = False
        while (here := self._here()) != self._sharing:
            # All of them say that they are here, see `_gather`, which a pause may bring about.
            self._wait(here, self._publish(Op.GATHER, 0, self.n_workers, here))
            if here == self._here():
                self._share_out(here)
        return super().run(op, parameters, first, ranges)

    def watch(self) -> None:
        """As always, but nobody waits for a new worker to start."""
        if self._in_round:
            super().watch()
            return
        self._look_for_dead()
        self._take_in_successors()
        self._feel_pulses()
        if self._wanted != self.n_workers or self._starting:
            self._adapt()

    # Between rounds

    def _serve(self) -> None:
        """From now on workers look for tickets."""
        self._publish(Op.TICKETS, 0, 0, range(self.n_workers))
        self._serving = True

    def _wait_for_any(self, waited: Sequence[tuple[memoryview[int], int]]) -> None:
        """Asleep, until a ticket is answered or there is news."""
        control = self._board.control
        control[COORDINATOR_ASLEEP] = 1
        try:
            while not self._has_news and not any(
                counts[ANSWERED] == number for counts, number in waited
            ):
                self._doze()
                before = time.monotonic()
                self.idle()
                if time.monotonic() - before > SLEEP_SECONDS:  # the run was paused in there
                    self._hearts_of_tickets.clear()
                self.watch()
        finally:
            control[COORDINATOR_ASLEEP] = 0

    def _doze(self) -> None:
        """Until a worker says something, one dies, or a twentieth of a second."""
        alive = [m for m in self._members if m.rank not in self._starting]
        alive += self._starting.values()
        waitable = [m.process.sentinel for m in alive] + [m.pipe for m in alive]
        ready = connection.wait(waitable, SLEEP_SECONDS)
        for member in alive:
            if member.pipe in ready:
                self._drain(member)

    def _feel_pulses(self) -> None:
        """Kill who has not moved for the time of its lease; the next look replaces it."""
        now = time.monotonic()
        for member in self._members:
            if member.rank in self._starting:
                continue
            beat = self._counts[member.rank][HEARTBEAT]
            last, since = self._hearts_of_tickets.get(member.rank, (-1, now))
            if beat != last:
                self._hearts_of_tickets[member.rank] = (beat, now)
            elif now - since > LEASE_SECONDS:
                member.note = f"its heart stopped for {LEASE_SECONDS:.0f} s, so it was killed"
                member.process.kill()
                del self._hearts_of_tickets[member.rank]

    def _here(self) -> tuple[int, ...]:
        """The ranks that no one is on the way to replace."""
        return tuple(rank for rank in range(self.n_workers) if rank not in self._starting)

    def _look_for_dead(self) -> None:
        for member in self._members:
            if member.rank not in self._starting and not member.process.is_alive():
                self._replace_aside(member)

    def _replace_aside(self, member: _Member) -> None:
        member.process.join()
        self._drain(member)
        self._starting[member.rank] = self._successor(member)
        self._has_news = True

    def _take_in_successors(self) -> None:
        """Let those who replace a dead worker, and are ready, take its place."""
        for rank, member in list(self._starting.items()):
            if rank < self.n_workers and self._has_started(member):
                self._take_place(self._starting.pop(rank))

    def _take_place(self, member: _Member) -> None:
        self._members[member.rank] = member
        self._tell_started(member)
        self._has_news = True
        self._hearts_of_tickets.pop(member.rank, None)

    def _settle(self) -> None:
        """Wait for those who replace a dead worker."""
        while any(rank < self.n_workers for rank in self._starting):
            self._doze()
            self.idle()
            self._take_in_successors()

    def _adapt(self) -> None:
        if any(rank < self.n_workers for rank in self._starting):
            if self._wanted >= self.n_workers:
                return  # a rank is being replaced: the others do not wait for it
            self._settle()
        super()._adapt()

    def _gather(self) -> None:
        self._serving = False
        super()._gather()
        self._has_news = True
        self._hearts_of_tickets.clear()

    def _replace(self, member: _Member) -> None:
        """Within a round, which waits for it."""
        super()._replace(member)
        self._has_news = True

    def _owes(self, rank: int, incarnation: int) -> bool:
        return self._serving or super()._owes(rank, incarnation)


def open_pool(
    source: DataSource,
    model: str,
    arithmetic: str,
    n_workers: int,
    *,
    logs: Path,
    steps: StepPlan | None = None,
    idle: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Pool:
    """A pool of ``n_workers`` processes, or this process where that is 0; with ``steps`` it is a
    `TicketPool`."""
    if steps is None:
        return worker_pool.open_pool(
            source, model, arithmetic, n_workers, logs=logs, idle=idle, **settings
        )
    if n_workers == 0:
        return InProcessTicketPool(source, model, arithmetic, idle, steps=steps)
    gc.collect()
    return WorkerTicketPool(
        source, model, arithmetic, n_workers, logs=logs, steps=steps, idle=idle, **settings
    )
