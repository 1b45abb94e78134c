"""The protocol of asynchronous and local steps, driven by random events. No process, no time."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from regatta.parameter_server.consistency import (
    TRANSITIONS,
    Event,
    Protocol,
    ProtocolError,
    RankState,
    Ticket,
    Update,
)

MOST_WORKERS = 6


class Crew(RuleBasedStateMachine):
    """Workers of all kinds of luck around one protocol, and what came of it."""

    @initialize(
        total=st.integers(1, 60),
        bound=st.none() | st.integers(0, 8),
        sync_every=st.none() | st.integers(1, 7),
        n_workers=st.integers(1, MOST_WORKERS),
    )
    def begin(self, total: int, bound: int | None, sync_every: int | None, n_workers: int) -> None:
        self.total, self.bound, self.sync_every = total, bound, sync_every
        if sync_every is not None:
            self.bound = None
        self.protocol = Protocol(
            total, staleness=self.bound, sync_every=sync_every, n_workers=n_workers
        )
        self.wanted = n_workers
        self.incarnations = [0] * MOST_WORKERS
        self.working: dict[int, Ticket] = {}
        self.late: list[Ticket] = []  # of workers that are gone
        self.applied: list[int] = []
        self.numbers: set[int] = set()
        for rank in range(n_workers):
            self.protocol.joined(rank, 0)

    def present(self) -> list[int]:
        states = {rank: self.protocol.state_of(rank) for rank in range(MOST_WORKERS)}
        return [rank for rank, state in states.items() if state is not RankState.ABSENT]

    def take(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            assert ticket.rank < self.wanted
            assert ticket.incarnation == self.incarnations[ticket.rank]
            assert ticket.version == self.protocol.version
            assert ticket.number not in self.numbers
            self.numbers.add(ticket.number)
            self.working[ticket.rank] = ticket

    def apply(self, update: Update) -> None:
        assert update.staleness >= 0
        if self.bound is not None:
            assert update.staleness <= self.bound
        if self.sync_every is not None:
            assert update.staleness == 0
        for ticket in update.tickets:
            task = ticket.task
            self.applied.extend(task.first + k * task.stride for k in range(task.count))

    @rule()
    def issue(self) -> None:
        self.take(self.protocol.issues())

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        rank = data.draw(st.sampled_from(sorted(self.working)))
        ticket = self.working.pop(rank)
        assert self.protocol.answered(rank, ticket.number)
        assert not self.protocol.answered(rank, ticket.number)  # told twice
        self.late.append(ticket)

    @rule()
    def update(self) -> None:
        update = self.protocol.next_update()
        if update is not None:
            self.apply(update)

    @precondition(lambda self: self.present())
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        self.lose(data.draw(st.sampled_from(self.present())))

    def lose(self, rank: int) -> None:
        if rank in self.working:
            self.late.append(self.working.pop(rank))
        self.protocol.gone(rank)

    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        absent = [rank for rank in range(self.wanted) if rank not in self.present()]
        if absent:
            self.revive(data.draw(st.sampled_from(absent)))

    def revive(self, rank: int) -> None:
        self.incarnations[rank] += 1
        self.protocol.joined(rank, self.incarnations[rank])

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_answer(self, data: st.DataObject) -> None:
        """Of an incarnation that is gone, or one that is applied already: it must be dropped."""
        ticket = data.draw(st.sampled_from(self.late))
        assert not self.protocol.answered(ticket.rank, ticket.number)

    @rule(n_workers=st.integers(1, MOST_WORKERS), at_once=st.booleans())
    def scale(self, n_workers: int, at_once: bool) -> None:
        self.wanted = n_workers
        self.protocol.scale(n_workers)
        if at_once:
            for rank in [rank for rank in self.present() if rank >= n_workers]:
                self.lose(rank)

    @rule()
    def resume(self) -> None:
        """The coordinator dies and goes on from a checkpoint: nothing that was out is lost."""
        self.protocol = Protocol(
            self.total,
            staleness=self.bound,
            sync_every=self.sync_every,
            n_workers=self.wanted,
            saved=self.protocol.state(),
        )
        self.working.clear()
        self.late.clear()
        self.numbers.clear()
        for rank in range(self.wanted):
            self.incarnations[rank] = 0
            self.protocol.joined(rank, 0)

    @invariant()
    def holds(self) -> None:
        self.protocol.check()
        assert len(self.applied) == len(set(self.applied)) == self.protocol.applied
        assert set(self.applied) <= set(range(self.total))

    def teardown(self) -> None:
        """From wherever it is, with every expected worker back, it comes to its end."""
        if not hasattr(self, "protocol"):
            return
        for _ in range(20 * self.total + 100):
            if self.protocol.finished:
                break
            for rank in range(self.wanted):
                if rank not in self.present():
                    self.revive(rank)
            before = (self.protocol.version, len(self.working))
            self.take(self.protocol.issues())
            for rank in sorted(self.working):
                self.protocol.answered(rank, self.working.pop(rank).number)
            while (update := self.protocol.next_update()) is not None:
                self.apply(update)
            assert (self.protocol.version, len(self.working)) != before, "it waits for ever"
            self.protocol.check()
        assert sorted(self.applied) == list(range(self.total))


Crew.TestCase.settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
TestCrew = Crew.TestCase


def test_every_event_in_every_state_is_legal_or_refused():
    for state in RankState:
        for event in Event:
            protocol = Protocol(3)
            protocol._states[0] = state
            if (state, event) in TRANSITIONS:
                protocol._move(0, event)
                assert protocol.state_of(0) is TRANSITIONS[state, event]
            else:
                with pytest.raises(ProtocolError):
                    protocol._move(0, event)


def test_one_slow_worker_holds_the_others_only_at_the_bound():
    protocol = Protocol(100, staleness=3, n_workers=2)
    protocol.joined(0, 0)
    protocol.joined(1, 0)
    slow, fast = protocol.issues()
    for _ in range(3):
        assert protocol.answered(1, fast.number)
        assert protocol.next_update() is not None
        (fast,) = protocol.issues()
    assert protocol.answered(1, fast.number)
    assert protocol.next_update() is None  # the slow one's would be four updates old
    assert protocol.answered(0, slow.number)
    update = protocol.next_update()
    assert update is not None and update.tickets == (slow,) and update.staleness == 3


def test_a_bound_of_nothing_lets_one_batch_be_out():
    protocol = Protocol(5, staleness=0, n_workers=3)
    for rank in range(3):
        protocol.joined(rank, 0)
    order = []
    while not protocol.finished:
        (ticket,) = protocol.issues()
        assert protocol.issues() == []
        protocol.answered(ticket.rank, ticket.number)
        update = protocol.next_update()
        assert update is not None and update.staleness == 0
        order.append(ticket.task.first)
    assert order == [0, 1, 2, 3, 4]


def test_a_local_round_shares_out_what_is_left():
    protocol = Protocol(23, sync_every=5, n_workers=3)
    for rank in range(3):
        protocol.joined(rank, 0)
    sizes = []
    while not protocol.finished:
        tickets = protocol.issues()
        assert protocol.next_update() is None
        for ticket in tickets:
            protocol.answered(ticket.rank, ticket.number)
        update = protocol.next_update()
        assert update is not None
        sizes.append([ticket.task.count for ticket in update.tickets])
    assert sizes == [[5, 5, 5], [2, 2, 2], [1, 1]]


def test_a_part_that_was_lost_with_a_worker_that_was_let_go_holds_nobody():
    protocol = Protocol(20, sync_every=5, n_workers=2)
    protocol.joined(0, 0)
    protocol.joined(1, 0)
    first, _ = protocol.issues()
    protocol.gone(1)
    protocol.scale(1)
    protocol.answered(0, first.number)
    assert protocol.next_update() is not None
    (ticket,) = protocol.issues()
    assert ticket.task.first == 1


def test_a_part_that_was_lost_with_its_worker_does_not_wait_for_the_next_to_start():
    protocol = Protocol(20, sync_every=5, n_workers=2)
    protocol.joined(0, 0)
    protocol.joined(1, 0)
    first, lost = protocol.issues()
    protocol.gone(1)
    protocol.answered(0, first.number)
    update = protocol.next_update()
    assert update is not None and update.tickets == (first,)
    (again,) = protocol.issues()
    assert again.task == lost.task
    protocol.joined(1, 1)
    protocol.answered(0, again.number)
    update = protocol.next_update()
    assert update is not None and update.tickets == (again,)
    assert {ticket.rank for ticket in protocol.issues()} == {0, 1}
