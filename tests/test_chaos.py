"""A minute of chaos, and whether its checker notices what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regatta.parameter_server.update_log import Applied
from regatta.tests.chaos_check import (
    PATIENCE,
    UNWRITTEN,
    Attempt,
    History,
    Point,
    recovery,
    summary,
    trained_and_down,
    violations,
)


@pytest.mark.timeout(300)
def test_a_minute_of_chaos_violates_nothing(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # A seed with faults of nearly every kind among the first ten.
    command = [sys.executable, "-P", "-m", "regatta.tests.chaos", "--seconds", "45", "--seed", "30"]
    more = ["--fault-every", "2.5", "--runs", "12", "--report", str(report)]
    done = subprocess.run([*command, *more], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    print(done.stdout)
    assert found["violations"] == {}
    assert set(found["states"]) <= {"finished", "failed"}
    assert sum(found["fired"].values()) >= 6
    assert found["fired"]["worker-kill"] and found["fired"]["coordinator-kill"]
    assert found["resumes"] and found["trained_seconds"] > 10


def points(first: int, seconds: float, count: int, wall: float) -> list[Point]:
    """A point each tenth of a second, one step each."""
    return [Point(first + k, seconds + 0.1 * k, wall + 0.1 * k) for k in range(1, count + 1)]


@pytest.fixture
def history() -> History:
    """A run of 100 steps: a checkpoint at 50, its coordinator killed at 60, and resumed at 50."""
    first = Attempt(0, 0.0, points(0, 0.0, 60, 1000.0), [50])
    second = Attempt(50, 5.0, points(50, 5.0, 50, 1008.0), [100])
    kill = {"what": "fault", "kind": "coordinator-kill", "time": 1006.0, "checkpoint": 50,
            "run": "r", "fired": True}  # fmt: skip
    sync = {"consistency": "sync", "weights_sha256": "abc", "steps": 100}
    return History(
        "r", "sync-0", solo=sync, result=dict(sync), attempts=[first, second], faults=[kill],
        left=[], state="finished", seen=[{"what": "attempt", "time": 1007.5}],
    )  # fmt: skip


@pytest.fixture
def asynchronous(history: History) -> History:
    """The same with workers that do not wait for each other."""
    updates = [Applied(k, max(0, k - 1), k, 1, 1, k % 2, 0) for k in range(100)]
    result = {"consistency": "async", "steps": 100, "optimum_gap": 1e-5,
              "staleness": {"bound": 1, "max": 1}}  # fmt: skip
    return replace(history, kind="async-0", updates=updates, result=result)


def names(history: History) -> list[str]:
    return [text.partition(":")[0] for text in violations(history)]


def test_a_run_that_lost_nothing_passes(history: History, asynchronous: History) -> None:
    assert violations(history) == [] == violations(asynchronous)


def test_a_lost_checkpoint_is_found(history: History) -> None:
    history.attempts[1].step = 0
    assert names(history) == ["G6"]
    # Of the checkpoint that lay on the disk, too, where no event told of it.
    history.attempts[0].checkpoints.clear()
    assert names(history) == ["G6"]


def test_a_death_that_nothing_tells_of_is_found(history: History) -> None:
    history.faults.append({"what": "fault", "kind": "worker-kill", "time": 1020.0, "pid": 7})
    assert names(history) == ["G1"]
    died = {"what": "event", "kind": "worker_died", "time": 1021.0, "message": "Worker 0 (pid 7)"}
    history.seen.append(died)
    assert names(history) == []
    history.seen[-1] = {**died, "time": 1046.0}
    assert names(history) == ["G1"]
    history.seen[-1] = {**died, "message": "Worker 1 (pid 77)"}
    assert names(history) == ["G1"]
    history.seen[-1] = {"what": "state", "state": "finished", "time": 1022.0}
    assert names(history) == [], "it was over before"


def test_a_dead_coordinator_that_nothing_tells_of_is_found(history: History) -> None:
    del history.seen[:]
    assert names(history) == ["G1"]


def test_a_run_that_says_that_it_trains_and_does_not_is_found(history: History) -> None:
    history.seen += [
        {"what": "state", "state": "running", "time": 1010.0},
        {"what": "points", "time": 1012.0},
        {"what": "points", "time": 1040.0},
    ]
    assert names(history) == ["G1"]
    history.seen.insert(-1, {"what": "state", "state": "paused", "time": 1013.0})
    assert names(history) == []


def test_more_lost_than_an_interval_is_found(history: History) -> None:
    history.attempts[0].points = points(0, 0.0, 120, 1000.0)
    assert names(history) == ["G4"]


def test_standing_still_is_not_lost_work(history: History) -> None:
    history.attempts[0].points[-1].seconds += 60.0
    assert violations(history) == []


def test_other_weights_are_found(history: History) -> None:
    history.result["weights_sha256"] = "abd"
    assert names(history) == ["G5"]


def test_a_run_that_missed_the_optimum_is_found(asynchronous: History) -> None:
    asynchronous.result["optimum_gap"] = 2e-3
    assert names(asynchronous) == ["G5"]
    del asynchronous.result["optimum_gap"]
    assert names(asynchronous) == ["G5"]


def test_an_update_that_was_applied_twice_is_found(asynchronous: History) -> None:
    asynchronous.updates.append(replace(asynchronous.updates[40], version=100, computed_at=99))
    assert names(asynchronous) == ["G7"]


def test_an_update_that_was_lost_is_found(asynchronous: History) -> None:
    del asynchronous.updates[-1]
    assert names(asynchronous) == ["G7"]


def test_a_gradient_that_was_too_late_is_found(asynchronous: History) -> None:
    asynchronous.updates[60] = replace(asynchronous.updates[60], computed_at=58)
    asynchronous.result["staleness"]["max"] = 2
    assert names(asynchronous) == ["G5", "G7"]


def test_what_outlives_a_run_is_found(history: History) -> None:
    history.left = ["process 7 (python)"]
    assert names(history) == ["G2"]
    history.left = None
    assert names(history) == ["G2"]


def test_a_run_that_says_it_lives_and_does_not_is_found(history: History) -> None:
    history.lies = 1
    assert names(history) == ["G3"]


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        ("failed", "Worker 1 (pid 7) died: SIGKILL (killed, perhaps for want of memory).", []),
        ("failed", "The run failed: KeyError: 3.", ["end"]),
        ("running", "", ["end"]),
        ("interrupted", "Its coordinator was killed by SIGKILL.", ["end"]),
    ],
)
def test_only_a_rank_that_died_too_often_may_fail(
    history: History, state: str, message: str, expected: list[str]
) -> None:
    history.state, history.message = state, message
    assert names(history) == expected


def test_down_time_is_what_lies_between_a_kill_and_the_next_row(history: History) -> None:
    up, down = trained_and_down(history)
    assert up == pytest.approx(5.9 + 5.0)
    # From the kill, at 1006.0, to the point at 1008.1, less the tenth that this one took.
    assert down == pytest.approx(2.0)
    assert recovery(history, history.faults[0]) == pytest.approx(2.1)


def test_down_time_is_a_gap_between_points(history: History) -> None:
    for point in history.attempts[1].points[20:]:
        point.seconds += 1.0
    _, down = trained_and_down(history)
    assert down == pytest.approx(2.0 + 1.1 - PATIENCE)


def test_standing_still_until_the_end_of_an_attempt_is_down_time(history: History) -> None:
    history.faults[0] |= {"kind": "stop", "time": 1011.0}
    history.attempts[1].points = points(50, 5.0, 50, 1018.0)
    assert trained_and_down(history)[1] == pytest.approx(5.0 - PATIENCE - UNWRITTEN)
    pause = {**history.faults[0], "kind": "pause", "time": 1006.0}
    history.faults.insert(0, pause)
    assert trained_and_down(history)[1] == 0.0


def test_a_stop_that_was_asked_for_is_no_down_time(history: History) -> None:
    history.faults[0]["kind"] = "stop"
    assert trained_and_down(history)[1] == 0.0


def test_a_fault_that_did_not_fire_is_counted_apart(history: History) -> None:
    miss: dict[str, Any] = {**history.faults[0], "fired": False}
    found = summary([history], [history.faults[0], miss])
    assert found["faults"] == {"coordinator-kill": 2} and found["fired"] == {"coordinator-kill": 1}
    assert found["lost_seconds"] == {"total": 1.0, "max": 1.0} and found["resumes"] == 1
    assert found["availability"] == pytest.approx(10.9 / 12.9)
