"""Who computes which batches next, and which answers are applied: decided here, done elsewhere.

    joined, gone, answered, scale ──▶ ┌──────────┐ ──▶ issues: tickets to give to idle workers
             (events)                 │ Protocol │ ──▶ next_update: answers to apply now, or none
                                      └──────────┘
    absent ──joined──▶ idle ──issued──▶ working ──answered──▶ answered ──applied──▶ idle
       ▲─────────gone───┴──────gone──────┴────────gone──────────┘

A *ticket* asks one incarnation of one worker for some batches, at the version of the parameters
that it is issued at; a version is the number of updates so far. Two ways share the table:

- *async*: a ticket is one batch, and an update is one answer. Its staleness, updates between its
  version and it, stays within a bound: at most bound + 1 tickets are out, and an answer waits
  while applying it would make another one too old. The oldest answer can always be applied.
- *local*: a ticket is K batches that a worker steps along alone, and an update is the average of
  all answers of a round. A new round begins when the last one is applied.

What was out with a worker that is gone is issued again, so each batch is applied once, and late
answers of earlier incarnations are dropped. No I/O, no clock, no arrays in here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class RankState(IntEnum):
    """What the protocol knows of one worker."""

    ABSENT = 0
    IDLE = 1
    WORKING = 2
    ANSWERED = 3


class Event(IntEnum):
    """What can happen to one worker."""

    JOINED = 0
    GONE = 1
    ISSUED = 2
    ANSWERED = 3
    APPLIED = 4


TRANSITIONS: Mapping[tuple[RankState, Event], RankState] = {
    (RankState.ABSENT, Event.JOINED): RankState.IDLE,
    (RankState.IDLE, Event.ISSUED): RankState.WORKING,
    (RankState.WORKING, Event.ANSWERED): RankState.ANSWERED,
    (RankState.ANSWERED, Event.APPLIED): RankState.IDLE,
    (RankState.IDLE, Event.GONE): RankState.ABSENT,
    (RankState.WORKING, Event.GONE): RankState.ABSENT,
    (RankState.ANSWERED, Event.GONE): RankState.ABSENT,
}


class ProtocolError(Exception):
    """An event that cannot be, or a promise that would be broken: a mistake in the program."""


@dataclass(frozen=True, slots=True)
class Task:
    """Batches ``first``, ``first + stride``, …: ``count`` of them, to be taken in this order."""

    first: int
    stride: int
    count: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A task for one incarnation of a worker, at the parameters of ``version``."""

    number: int
    rank: int
    incarnation: int
    task: Task
    version: int


@dataclass(frozen=True, slots=True)
class Update:
    """Answers to apply together. ``version`` is that of the parameters before."""

    tickets: tuple[Ticket, ...]
    version: int

    @property
    def staleness(self) -> int:
        """Updates since the parameters that the oldest answer was computed at."""
        return self.version - min(ticket.version for ticket in self.tickets)

    @property
    def batches(self) -> int:
        """Batches in the answers."""
        return sum(ticket.task.count for ticket in self.tickets)


class Protocol:
    """The state of the work on ``total`` batches.

    Parameters
    ----------
    total : int
    staleness : int or None
        The bound of async; None: none.
    sync_every : int or None
        Batches a worker takes between two averages: then it is local.
    n_workers : int
        Ranks below this one get work.
    saved : dict, optional
        What `state` gave.
    """

    def __init__(
        self,
        total: int,
        *,
        staleness: int | None = None,
        sync_every: int | None = None,
        n_workers: int = 1,
        saved: Mapping[str, Any] | None = None,
    ) -> None:
        self._total = total
        self._bound = staleness
        self._sync_every = sync_every
        self._wanted = n_workers
        self._states: dict[int, RankState] = {}
        self._incarnations: dict[int, int] = {}
        self._out: dict[int, Ticket] = {}  # working or answered, by rank
        self._number = 0
        saved = saved or {}
        self.version: int = saved.get("version", 0)
        self.applied: int = saved.get("applied", 0)
        self._next: int = saved.get("next", 0)
        self._again = deque(Task(*task) for task in saved.get("again", ()))

    # Events

    def joined(self, rank: int, incarnation: int) -> None:
        """A worker is ready."""
        self._move(rank, Event.JOINED)
        self._incarnations[rank] = incarnation

    def gone(self, rank: int) -> None:
        """A worker died, or was let go. What it had is done again."""
        self._move(rank, Event.GONE)
        ticket = self._out.pop(rank, None)
        if ticket is not None:
            self._again.append(ticket.task)

    def answered(self, rank: int, number: int) -> bool:
        """The answer to ticket ``number`` has come; whether it is one that is waited for."""
        ticket = self._out.get(rank)
        if ticket is None or ticket.number != number:
            return False
        if self._states[rank] is RankState.ANSWERED:
            return False
        self._move(rank, Event.ANSWERED)
        return True

    def scale(self, n_workers: int) -> None:
        """From now on ranks below ``n_workers`` get work."""
        self._wanted = n_workers

    def stretch(self, total: int) -> None:
        """From now on there are ``total`` batches in all."""
        self._total = total

    # Instructions

    def issues(self) -> list[Ticket]:
        """Tickets to give out now."""
        if self._sync_every is not None and not self._out and not self._again:
            self._begin_round(self._idle())
        found = []
        for rank in self._idle():
            if not self._may_issue():
                break
            self._number += 1
            task = self._again.popleft() if self._again else self._next_batch()
            ticket = Ticket(self._number, rank, self._incarnations[rank], task, self.version)
            self._move(rank, Event.ISSUED)
            self._out[rank] = ticket
            found.append(ticket)
        return found

    def next_update(self) -> Update | None:
        """Answers to apply now; None: none may be, yet. What it returns counts as applied."""
        tickets = self._ready()
        if not tickets:
            return None
        for ticket in tickets:
            self._move(ticket.rank, Event.APPLIED)
            del self._out[ticket.rank]
        update = Update(tickets, self.version)
        if self._bound is not None and update.staleness > self._bound:
            raise ProtocolError(f"{tickets} at version {self.version}: beyond {self._bound}")
        self.version += 1
        self.applied += update.batches
        return update

    # State

    @property
    def given_out(self) -> int:
        """Batches that were given out so far: the number of the next one."""
        return self._next

    @property
    def finished(self) -> bool:
        """Whether every batch is applied."""
        return self.applied >= self._total

    @property
    def outstanding(self) -> list[Ticket]:
        """Tickets that no answer has come to."""
        states = self._states
        return [t for rank, t in self._out.items() if states[rank] is RankState.WORKING]

    def state_of(self, rank: int) -> RankState:
        """What a worker is doing."""
        return self._states.get(rank, RankState.ABSENT)

    def state(self) -> dict[str, Any]:
        """JSON values from which the work goes on: what is out is to be issued again."""
        tasks = [ticket.task for ticket in self._out.values()]
        again = sorted((*tasks, *self._again), key=lambda task: task.first)
        return {
            "version": self.version,
            "applied": self.applied,
            "next": self._next,
            "again": [[task.first, task.stride, task.count] for task in again],
        }

    def check(self) -> None:
        """Raise a `ProtocolError` unless everything that always holds does."""
        for rank, state in self._states.items():
            if (state in (RankState.WORKING, RankState.ANSWERED)) != (rank in self._out):
                raise ProtocolError(f"rank {rank} is {state.name}; out: {self._out}")
        waiting = sum(task.count for task in self._tasks())
        if self.applied + waiting != self._next:
            raise ProtocolError(f"{self._next} given out, {self.applied} applied, {waiting} out")
        if self._bound is not None and not self._within_bound(self._versions(), self.version):
            raise ProtocolError(f"{self._out} cannot all be applied from {self.version} on")

    def _tasks(self) -> Iterable[Task]:
        yield from self._again
        for ticket in self._out.values():
            yield ticket.task

    def _move(self, rank: int, event: Event) -> None:
        state = self._states.get(rank, RankState.ABSENT)
        following = TRANSITIONS.get((state, event))
        if following is None:
            raise ProtocolError(f"rank {rank} is {state.name}: it cannot be {event.name}")
        self._states[rank] = following

    def _idle(self) -> list[int]:
        idle, wanted = RankState.IDLE, self._wanted
        return sorted(r for r, state in self._states.items() if state is idle and r < wanted)

    def _may_issue(self) -> bool:
        if self._again:
            return self._bound is None or len(self._out) <= self._bound
        if self._sync_every is not None or self._next >= self._total:
            return False
        return self._bound is None or len(self._out) <= self._bound

    def _next_batch(self) -> Task:
        task = Task(self._next, 1, 1)
        self._next += 1
        return task

    def _begin_round(self, ranks: list[int]) -> None:
        """Lay out the tasks of a local round, as many batches for each of ``ranks``."""
        assert self._sync_every is not None
        left = self._total - self._next
        replicas = min(len(ranks), left)
        if not replicas:
            return
        count = min(self._sync_every, left // replicas)
        self._again.extend(Task(self._next + k, replicas, count) for k in range(replicas))
        self._next += replicas * count

    def _ready(self) -> tuple[Ticket, ...]:
        if self._sync_every is not None:
            return self._round_if_whole()
        states = self._states
        came = [t for rank, t in self._out.items() if states[rank] is RankState.ANSWERED]
        if not came:
            return ()
        oldest = min(came, key=lambda ticket: ticket.number)
        if self._bound is not None:
            others = [t.version for t in self._out.values() if t is not oldest]
            if not self._within_bound(others, self.version + 1):
                return ()
        return (oldest,)

    def _versions(self) -> list[int]:
        return [ticket.version for ticket in self._out.values()]

    def _within_bound(self, versions: list[int], now: int) -> bool:
        """Whether tickets of ``versions`` can be applied one by one from version ``now`` on."""
        if not versions:
            return True
        assert self._bound is not None
        if now + len(versions) - 1 - min(versions) <= self._bound:
            return True
        return all(
            now + place - version <= self._bound for place, version in enumerate(sorted(versions))
        )

    def _round_if_whole(self) -> tuple[Ticket, ...]:
        states = self._states
        if not self._out or any(states[rank] is RankState.WORKING for rank in self._out):
            return ()
        if self._again and self._someone_is_idle():
            return ()  # a part was lost with its worker, and is about to be computed again
        return tuple(sorted(self._out.values(), key=lambda ticket: ticket.task.first))

    def _someone_is_idle(self) -> bool:
        """Whether a worker takes what was lost; one that starts is not waited for, since that takes
        longer than a round of what was lost alone."""
        return any(self.state_of(rank) is RankState.IDLE for rank in range(self._wanted))
