"""The states of a run: one table, and what it must never allow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.runs.states import TRANSITIONS, IllegalTransition, RunState, check_transition

STATES = st.sampled_from(list(RunState))


def reachable(start: RunState) -> set[RunState]:
    found, frontier = {start}, [start]
    while frontier:
        for after in TRANSITIONS[frontier.pop()] - found:
            found.add(after)
            frontier.append(after)
    return found


def test_every_state_stands_in_the_table_and_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(RunState)
    assert reachable(RunState.QUEUED) == set(RunState)


@given(STATES)
def test_a_state_is_waiting_live_or_terminal_and_never_two_of_these(state: RunState) -> None:
    assert (state is RunState.QUEUED) + state.is_live + state.is_terminal == 1


@given(STATES)
def test_resumable_means_that_it_can_run_again(state: RunState) -> None:
    if state.is_terminal:
        assert state.is_resumable == (RunState.RUNNING in reachable(state))
    else:
        assert not state.is_resumable


@given(STATES)
def test_a_live_run_can_always_be_stopped_and_can_always_die(state: RunState) -> None:
    if state.is_live:
        assert {RunState.STOPPED, RunState.FAILED, RunState.INTERRUPTED} <= TRANSITIONS[state]


@given(STATES, STATES)
def test_a_transition_passes_exactly_if_the_table_has_it(before: RunState, after: RunState) -> None:
    if after in TRANSITIONS[before] or (before is after and before.is_live):
        check_transition("r", before, after)
    else:
        with pytest.raises(IllegalTransition):
            check_transition("r", before, after)


def test_an_illegal_transition_tells_its_story() -> None:
    with pytest.raises(IllegalTransition) as caught:
        check_transition("20260102-030405-ab12", RunState.PAUSED, RunState.FINISHED, "since noon")
    text = str(caught.value)
    for word in ("20260102-030405-ab12", "paused", "finished", "since noon", "running"):
        assert word in text
