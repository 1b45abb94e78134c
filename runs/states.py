"""The states of a run and the steps between them, in one table.

::

             ┌────────────────────────────── resume ─────────────────────────────┐
             ▼                                                                   │
    new → QUEUED → STARTING → RUNNING ⇄ PAUSED ──→ STOPPED, FAILED, INTERRUPTED ─┘
                                 └───────────────→ FINISHED, DIVERGED

A run is *waiting* (queued), *live* (a coordinator holds its lock) or *terminal* (nothing is
under way), and never two of these. INTERRUPTED is never written by the coordinator it happened
to: a live state whose lock is free means it.
"""

from __future__ import annotations

from enum import StrEnum

from regatta.utils import RegattaError


class RunState(StrEnum):
    """Where a run stands. The value is the word that files, the command and the page use."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    DIVERGED = "diverged"
    INTERRUPTED = "interrupted"

    @property
    def is_live(self) -> bool:
        """A coordinator works on it, and holds its lock."""
        return self in LIVE

    @property
    def is_terminal(self) -> bool:
        """Nothing is under way and nothing is waited for."""
        return self in TERMINAL

    @property
    def is_resumable(self) -> bool:
        """It can be taken up again from its last checkpoint."""
        return self in RESUMABLE


LIVE = frozenset({RunState.STARTING, RunState.RUNNING, RunState.PAUSED})
RESUMABLE = frozenset({RunState.STOPPED, RunState.FAILED, RunState.INTERRUPTED})
# A diverged run is not resumable: the same learning rate would diverge again.
TERMINAL = RESUMABLE | {RunState.FINISHED, RunState.DIVERGED}

_ENDS = frozenset({RunState.STOPPED, RunState.FAILED, RunState.INTERRUPTED})
_RESUME = frozenset({RunState.QUEUED, RunState.STARTING})

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.STARTING, RunState.STOPPED, RunState.FAILED}),
    RunState.STARTING: frozenset({RunState.RUNNING, RunState.DIVERGED}) | _ENDS,
    RunState.RUNNING: frozenset({RunState.PAUSED, RunState.FINISHED, RunState.DIVERGED}) | _ENDS,
    RunState.PAUSED: frozenset({RunState.RUNNING}) | _ENDS,
    RunState.STOPPED: _RESUME,
    RunState.FAILED: _RESUME,
    # Stopping an interrupted run means that it shall not be resumed by itself.
    RunState.INTERRUPTED: _RESUME | {RunState.STOPPED},
    RunState.FINISHED: frozenset(),
    RunState.DIVERGED: frozenset(),
}


class IllegalTransition(RegattaError):
    """A run was told to enter a state that its present one does not lead to."""


def check_transition(run_id: str, before: RunState, after: RunState, history: str = "") -> None:
    """Raise `IllegalTransition` unless ``before`` leads to ``after`` or is the same live state.

    Parameters
    ----------
    run_id : str
        Named in the error.
    before, after : RunState
        Present state and wanted state. A live state may be set again: it changes nothing.
    history : str
        What is known about how the run came to ``before``; becomes part of the error.
    """
    if after in TRANSITIONS[before] or (before is after and before.is_live):
        return
    ways = ", ".join(sorted(TRANSITIONS[before])) or "no other state"
    story = f" ({history})" if history else ""
    raise IllegalTransition(
        f"Run {run_id} is {before}{story} and cannot become {after}.",
        f"From here it can become: {ways}.",
    )
