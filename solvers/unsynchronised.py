"""Mini-batch SGD in which workers do not wait for each other at every batch.

    asynchronous   a worker's gradient is applied when it comes, at most S updates after the weights
                   that it was computed at (S: --staleness)
    local          each worker steps along K batches alone (K: --sync-every), then their weights,
                   and what the update rule remembers, are averaged

Which batches there are is as in a synchronous run; who takes them, and in which order they are
applied, depends on the workers and on chance.

Sources: Ho et al., More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server
(2013); Stich, Local SGD Converges Fast and Communicates Little (2019).
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from regatta.parameter_server.consistency import Protocol, Ticket, Update
from regatta.parameter_server.step_kernel import StepPlan, pack, unpack
from regatta.parameter_server.ticket_pool import TicketPool
from regatta.solvers.base import Vector
from regatta.solvers.problem import Problem
from regatta.solvers.sgd import MiniBatchSGD

AppliedCallback = Callable[[Update], None]


class UnsynchronisedSGD(MiniBatchSGD):
    """What the two have in common: a protocol that decides, and a pool that does.

    Parameters
    ----------
    problem : Problem
        Its pool hands out tickets.
    steps : StepPlan
    epochs : int
    rate, tol : float
        As for `MiniBatchSGD`.
    staleness, sync_every : int, optional
        As for `Protocol`.
    delay_of : callable, optional
        From workers to the mean delay that ``rate`` is to be safe for: with more workers than at
        the start the rate is lower.

    Attributes
    ----------
    on_applied : callable or None
        Told of every update, right after it.
    """

    def __init__(
        self,
        problem: Problem,
        steps: StepPlan,
        *,
        epochs: int,
        rate: float,
        tol: float,
        staleness: int | None = None,
        sync_every: int | None = None,
        delay_of: Callable[[int], float] | None = None,
    ) -> None:
        super().__init__(
            problem,
            steps.batches,
            epochs=epochs,
            rate=rate,
            schedule=steps.schedule,
            optimizer=steps.optimizer,
            momentum=steps.momentum,
            tol=tol,
        )
        self._pool: TicketPool = problem.pool  # type: ignore[assignment]
        self._limits = {"staleness": staleness, "sync_every": sync_every}
        self._protocol = self._new_protocol()
        self._first_rate = rate
        self._delay_of = delay_of
        self._first_delay = delay_of(self._pool.n_workers) if delay_of is not None else 0.0
        self.on_applied: AppliedCallback | None = None
        self._widths = steps.widths(problem.n_features)
        self._given = self._answered = 0  # tickets

    @property
    def bytes_published(self) -> int:
        """Bytes written for the workers to start from."""
        return 8 * self._widths[0] * self._given

    @property
    def bytes_gathered(self) -> int:
        """Bytes of the answers that were applied."""
        return 8 * self._widths[1] * self._answered

    @property
    def rounds(self) -> int:
        return self._protocol.version

    def scale(self, n_workers: int) -> None:
        """Give work to ``n_workers`` workers from now on."""
        self._protocol.scale(n_workers)
        self._adapt_rate(n_workers)

    def _adapt_rate(self, n_workers: int) -> None:
        if self._delay_of is None:
            return
        memory = self._optimizer.memory
        before, now = (
            1.0 + 2.0 * delay * memory for delay in (self._first_delay, self._delay_of(n_workers))
        )
        self._base_rate = self._first_rate * min(1.0, before / now)

    def set_rate(self, rate: float) -> None:
        super().set_rate(rate)
        self._delay_of = None  # a rate that was given is kept

    def set_first_rate(self, rate: float) -> None:
        super().set_first_rate(rate)
        self._first_rate = rate
        if self._delay_of is not None:
            self._first_delay = self._delay_of(self._pool.n_workers)

    def set_batch_size(self, rows: int) -> None:
        super().set_batch_size(rows)
        self._protocol.stretch(self.total_steps)

    @property
    def _next_batch(self) -> int:
        return self._protocol.given_out

    def step(self) -> bool:
        """One update: of a batch, or of all batches of a round."""
        while True:
            self._hear()
            update = self._protocol.next_update()
            if update is not None:
                break
            self._give_out()
            self._pool.wait(self._protocol.outstanding)
        self._apply(update)
        self._answered += len(update.tickets)
        if self.on_applied is not None:
            self.on_applied(update)
        self._give_out()
        self.step_count += update.batches
        ended = self._stretch_of(self.step_count).place(self.step_count)[0] - self.epoch
        if ended:
            self._end_epoch()
            self.epoch += ended - 1  # a round may be longer than an epoch
        return bool(ended)

    @abstractmethod
    def _apply(self, update: Update) -> None:
        """Move the parameters. Sets the problem's ``loss`` and ``rows``."""

    @abstractmethod
    def _start_of(self, ticket: Ticket) -> Vector:
        """What a worker is to start from."""

    def _hear(self) -> None:
        protocol, pool = self._protocol, self._pool
        for rank, incarnation in pool.take_news():
            if incarnation is None:
                protocol.gone(rank)
            else:
                protocol.joined(rank, incarnation)
        for ticket in protocol.outstanding:
            if pool.has_answered(ticket):
                protocol.answered(ticket.rank, ticket.number)

    def _give_out(self) -> None:
        penalty = self.problem.penalty
        for ticket in self._protocol.issues():
            stretch = self._stretch_of(ticket.task.first)
            self._pool.give(ticket, self._start_of(ticket), self._base_rate, penalty, stretch)
            self._given += 1

    def _new_protocol(self, saved: dict[str, Any] | None = None) -> Protocol:
        n_workers = max(1, self._pool.n_workers)
        return Protocol(self.total_steps, **self._limits, n_workers=n_workers, saved=saved)

    def state(self) -> dict[str, Any]:
        tickets = [self._given, self._answered]
        return {
            **super().state(),
            "protocol": self._protocol.state(),
            "tickets": tickets,
            "delay": self._first_delay,
            "first_rate": self._first_rate,
            "adapts": self._delay_of is not None,
        }

    def restore(self, state: dict[str, Any], arrays: dict[str, Vector]) -> None:
        super().restore(state, arrays)
        self._protocol = self._new_protocol(state["protocol"])
        self._given, self._answered = state["tickets"]
        self._first_delay, self._first_rate = state["delay"], state["first_rate"]
        if not state["adapts"]:
            self._delay_of = None
        self._adapt_rate(self._pool.n_workers)


class AsynchronousSGD(UnsynchronisedSGD):
    """Gradients are applied as they come, none older than the bound.

    Attributes
    ----------
    staleness : Counter
        How many gradients were applied that many updates after their parameters.
    """

    def __init__(self, problem: Problem, steps: StepPlan, **settings: Any) -> None:
        super().__init__(problem, steps, **settings)
        self.staleness: Counter[int] = Counter()

    @property
    def bound(self) -> int | None:
        """The bound of the staleness."""
        return self._limits["staleness"]

    def _start_of(self, ticket: Ticket) -> Vector:
        return self.parameters

    def _apply(self, update: Update) -> None:
        problem = self.problem
        (ticket,) = update.tickets
        problem.take_gradient(self.parameters, self._pool.answer(ticket))
        if self.measure:
            self.gradient_norm = float(np.linalg.norm(problem.gradient))
        self.rate = self._base_rate * self._factor_at(self.step_count)
        self._loss_sum += problem.loss * problem.rows
        self._rows += problem.rows
        if problem.rows:
            self._optimizer.update(self.parameters, problem.gradient, self.rate, problem.penalty)
        self.staleness[update.staleness] += 1

    def state(self) -> dict[str, Any]:
        return {**super().state(), "staleness": sorted(self.staleness.items())}

    def restore(self, state: dict[str, Any], arrays: dict[str, Vector]) -> None:
        super().restore(state, arrays)
        self.staleness = Counter(dict(state["staleness"]))


class LocalSGD(UnsynchronisedSGD):
    """Workers step alone; weights and the update rule's memory are averaged between."""

    def __init__(self, problem: Problem, steps: StepPlan, **settings: Any) -> None:
        super().__init__(problem, steps, **settings)
        self._packed = np.zeros(steps.widths(problem.n_features)[0])

    def _start_of(self, ticket: Ticket) -> Vector:
        size, packed = len(self.parameters), self._packed
        packed[:size] = self.parameters
        pack(self._optimizer, packed[size:])
        return packed

    def _apply(self, update: Update) -> None:
        size, problem = len(self.parameters), self.problem
        answers = [self._pool.answer(ticket) for ticket in update.tickets]
        # Nearly always as many batches in each: the average is over batches, in their order.
        shares = [ticket.task.count / update.batches for ticket in update.tickets]
        mean = np.zeros_like(self._packed)
        for share, answer in zip(shares, answers, strict=True):
            mean += share * answer[:-2]
        if self.measure:
            self.gradient_norm = float("nan")  # there is none: many were taken
        np.copyto(self.parameters, mean[:size])
        unpack(self._optimizer, mean[size:])
        loss, rows = sum(answer[-2] for answer in answers), sum(answer[-1] for answer in answers)
        problem.loss = float(loss / rows) if rows else float("nan")
        problem.rows = int(rows)
        self._loss_sum += float(loss)
        self._rows += int(rows)
        self.rate = self._base_rate * self._factor_at(self.step_count + update.batches - 1)
