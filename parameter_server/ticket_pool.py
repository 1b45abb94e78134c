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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regatta.models import Penalty
from regatta.parameter_server import worker_pool
from regatta.parameter_server.batches import Stretch
from regatta.parameter_server.consistency import Ticket
from regatta.parameter_server.data_source import DataSource
from regatta.parameter_server.protocol import (
    ANSWERED,
    ASLEEP,
    BATCH_SIZE,
    BATCHES,
    FIRST_BATCH,
    L1,
    L2,
    RATE,
    SHIFT,
    STRIDE,
    TICKET,
    Op,
)
from regatta.parameter_server.step_kernel import StepKernel, StepPlan
from regatta.parameter_server.worker_pool import (
    InProcessPool,
    Pool,
    WorkerPool,
    _Member,
)

Vector = NDArray[np.float64]
# Of a rank: its incarnation where it came, None where it went.
News = tuple[int, int | None]


class TicketPool(Pool, Protocol):
    """A pool that computes tickets, and rounds between them."""

    def take_news(self) -> list[News]:
        """Who came and who went since the last call, in order."""

    def give(
        self, ticket: Ticket, start: Vector, rate: float, penalty: Penalty, stretch: Stretch
    ) -> None:
        """Let a worker compute a ticket, whose batches lie in ``stretch``, from ``start``."""

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
        self._given: tuple[Ticket, Vector, float, Penalty, Stretch] | None = None

    def take_news(self) -> list[News]:
        news, self._news = self._news, []
        return news

    def give(
        self, ticket: Ticket, start: Vector, rate: float, penalty: Penalty, stretch: Stretch
    ) -> None:
        self._given = ticket, start, rate, penalty, stretch

    def has_answered(self, ticket: Ticket) -> bool:
        return self._given is None

    def answer(self, ticket: Ticket) -> Vector:
        return self._answer

    def wait(self, tickets: Sequence[Ticket]) -> None:
        # Here and not where it is given: what is saved, or ends, within it is between two updates.
        if self._given is not None:
            ticket, start, rate, penalty, stretch = self._given
            task = ticket.task
            self._steps.run(
                task.first,
                task.stride,
                task.count,
                start,
                self._answer,
                rate,
                penalty,
                stretch.plan.batch_size,
                stretch.shift,
            )
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
        self._told_at = -1  # how many changes there had been then
        super().__init__(source, model, arithmetic, n_workers, logs=logs, steps=steps, **settings)

    def take_news(self) -> list[News]:
        if self._told_at == self._changes:
            return []
        self._told_at = self._changes
        told, here = self._told, {rank: self._members[rank] for rank in self._here()}
        went = [rank for rank, member in told.items() if here.get(rank) is not member]
        came = [rank for rank, member in here.items() if told.get(rank) is not member]
        self._told = here
        return [(rank, None) for rank in went] + [(rank, here[rank].incarnation) for rank in came]

    def give(
        self, ticket: Ticket, start: Vector, rate: float, penalty: Penalty, stretch: Stretch
    ) -> None:
        rank, task = ticket.rank, ticket.task
        if not self._serving:
            self._serve(Op.TICKETS)
        self._board.inputs[rank] = start
        order, numbers = self._board.orders[rank], self._board.order_numbers[rank]
        order[FIRST_BATCH], order[STRIDE], order[BATCHES] = task.first, task.stride, task.count
        order[BATCH_SIZE], order[SHIFT] = stretch.plan.batch_size, stretch.shift
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
            self._serve(Op.TICKETS)
        if self._told_at == self._changes:
            self._wait_for_any([(self._counts[each.rank], each.number) for each in tickets])

    def watch(self) -> None:
        super().watch()
        if self._serving:
            self._feel_pulses()

    def _balance(self) -> None:
        pass  # who is fast takes more tickets


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
