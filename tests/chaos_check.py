"""The offline checker of a chaos run: reads what was logged and what is on disk, run by run.

    log (JSON lines) + result.json + updates.log ──▶ History of each run ──▶ violations, figures

**Availability** is the share of the time in which a run was meant to be training in which rows
were being trained. A run is meant to be training from its first point to its last, less the time
that it was paused or stopped because that was asked for (the way back from a stop included). Within
an attempt the points of its curves tell: a coordinator writes one for a step whenever the one
before is 0.05 s old, stamped with the clock of the training, so a gap of more than `PATIENCE`
between two points is down time beyond `PATIENCE`. Between two attempts, where nobody asked for the
end of the first, all is down time from the signal on that ended it to the first point of the
next: noticing, waiting for the resume, starting and reading the checkpoint; and so is what lies
between the last point of an attempt and its end, beyond what may not have been written. Work that
is done twice is no down time: it is told apart, as work lost. The last moments of a killed
coordinator's training, which it had not written, count for neither.

**What is said is true** (G1) where the list of runs or the curves tell of a fault soon after it, as
the page would read it there, and where a run that says that it trains does.
"""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regatta.coordinator import CHECKPOINT_SECONDS
from regatta.parameter_server.update_log import Applied, check_updates, read_updates

PATIENCE = 0.25  # seconds between two points that are no down time
# Within these a checkpoint is due: one interval, the next look around, and the steps before it.
LOST_SECONDS = CHECKPOINT_SECONDS + 1.0
UNWRITTEN = 0.5  # seconds of training that a coordinator may not have written yet
CLEAN_SECONDS = 25.0  # five times what is promised
TRUE_SECONDS = 25.0  # again
# Before these seconds of standing still are over nobody is to be told of.
LEASES = {"worker-stop": 5.0, "coordinator-stop": 8.0}
# Faults of which something must tell, and what makes that void if it is done soon after.
DEADLY = {"coordinator-kill", "coordinator-stop"}
TOLD = {"worker-kill", "worker-stop", *DEADLY}
VOID = {*DEADLY, "stop", "scale", "full-disk"}
GAP = 1e-3
BY_DESIGN = re.compile(r"Worker \d+ .* died: ")  # the end of a run that lost a rank four times

Line = dict[str, Any]


@dataclass
class Point:
    """A point of the curve; ``wall`` is when it was read, less what came after it."""

    step: int
    seconds: float
    wall: float


@dataclass
class Attempt:
    """What one coordinator trained: where it began, its points, its checkpoints."""

    step: int
    seconds: float
    points: list[Point] = field(default_factory=list)
    checkpoints: list[int] = field(default_factory=list)

    def gaps(self) -> list[tuple[float, Point]]:
        """Seconds without a point, and the point that ended them."""
        before = [self.seconds, *(point.seconds for point in self.points)]
        return [
            (point.seconds - last, point) for last, point in zip(before, self.points, strict=False)
        ]

    def lost(self, resumed_at: int) -> float:
        """Seconds of training beyond the step at which the next attempt began."""
        return sum(min(gap, PATIENCE) for gap, point in self.gaps() if point.step > resumed_at)


@dataclass
class History:
    """All that is known about one run.

    Attributes
    ----------
    solo : dict
        The result of a run of the same settings to which nothing happened.
    faults : list of dict
        What was done to it, in order.
    lies : int
        How often it said that it lives while nobody worked on it.
    seen : list of dict
        Its states, events, attempts and points, in the order in which they were read.
    left : list of str or None
        Processes and files that outlived it; None if nobody looked.
    """

    run_id: str
    kind: str
    solo: dict[str, Any]
    attempts: list[Attempt] = field(default_factory=list)
    faults: list[Line] = field(default_factory=list)
    lies: int = 0
    seen: list[Line] = field(default_factory=list)
    left: list[str] | None = None
    state: str = ""
    message: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    updates: list[Applied] = field(default_factory=list)

    @property
    def resumes(self) -> list[tuple[Attempt, Attempt]]:
        return list(itertools.pairwise(self.attempts))

    def deadly(self, before: Attempt, after: Attempt) -> list[Line]:
        """What was done between the last point of an attempt and the first of the next, or of a
        later one, that may have ended it."""
        begin = max((p.wall for p in before.points), default=0.0) - 1.0
        end = after.points[0].wall if after.points else float("inf")
        deadly = {*DEADLY, "stop"}
        return [f for f in self.faults if f["kind"] in deadly and begin <= f["time"] <= end]


def read_lines(path: Path) -> list[Line]:
    """The whole lines of a log."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def histories(lines: Iterable[Line], runs: Path) -> list[History]:
    """What the log and the directories of the runs, in ``runs``, tell about each run."""
    solos: dict[str, dict[str, Any]] = {}
    found: dict[str, History] = {}
    for line in lines:
        if line["what"] == "solo":
            solos[line["kind"]] = line["result"]
        elif line["what"] == "submitted":
            found[line["run"]] = History(line["run"], line["kind"], solos[line["kind"]])
        elif line.get("run") in found:
            _note(found[line["run"]], line)
    for history in found.values():
        result = runs / history.run_id / "result.json"
        if history.state == "finished" and result.exists():
            history.result = json.loads(result.read_text())
        history.updates = read_updates(runs / history.run_id / "updates.log")
    return list(found.values())


def _note(history: History, line: Line) -> None:
    what = line["what"]
    if what in ("state", "event", "attempt", "points"):
        history.seen.append(line)
    if what == "attempt":
        history.attempts.append(Attempt(line["step"], line["seconds"]))
    elif what == "points" and history.attempts:
        last = line["points"][-1][1]
        history.attempts[-1].points += [
            Point(step, seconds, line["time"] - (last - seconds))
            for step, seconds in line["points"]
        ]
    elif what == "event" and line["kind"] == "checkpoint" and history.attempts:
        history.attempts[-1].checkpoints.append(line["step"])
    elif what == "fault" and line["fired"]:
        history.faults.append(line)
    elif what == "lie":
        history.lies += 1
    elif what == "left":
        history.left = line["left"]
    elif what == "state":
        history.state, history.message = line["state"], line["message"]


def violations(history: History) -> list[str]:
    """The invariants that a run does not keep, each in a sentence that begins with its name."""
    found = [*_untrue(history), *_left(history), *_resumes(history)]
    if history.lies:
        found.append(f"G3: it said {history.lies} times that it lives, and its lock was free")
    if history.state == "failed" and BY_DESIGN.search(history.message):
        return found
    if history.state != "finished":
        return [*found, f"end: it is {history.state}: {history.message}"]
    return [*found, *_weights(history), *_updates(history)]


def _untrue(history: History) -> list[str]:
    found = [
        f"G1: nothing told of {fault['kind']} within {TRUE_SECONDS:.0f} s"
        for fault in history.faults
        if fault["kind"] in TOLD and told(history, fault) is None and not _is_void(history, fault)
    ]
    state, before = "", 0.0
    for line in history.seen:
        silence = line["time"] - before
        if state == "running" and silence > TRUE_SECONDS:
            found.append(f"G1: it said for {silence:.0f} s that it trains, and nothing came of it")
        before = line["time"]
        state = line["state"] if line["what"] == "state" else state
    return found


def told(history: History, fault: Line) -> float | None:
    """Seconds from a fault until what the page reads told of it; None if it did not in time."""
    for line in history.seen:
        seconds: float = line["time"] - fault["time"]
        if 0.0 <= seconds <= _patience(fault) and _tells_of(fault, line):
            return seconds
    return None


def _patience(fault: Line) -> float:
    return TRUE_SECONDS + LEASES.get(fault["kind"], 0.0)


def _tells_of(fault: Line, line: Line) -> bool:
    if fault["kind"] in DEADLY:
        return line["what"] == "attempt" or str(line.get("state", "running")) != "running"
    if line["what"] != "event" or line["kind"] != "worker_died":
        return False
    return f"(pid {fault['pid']})" in str(line["message"])


def _is_void(history: History, fault: Line) -> bool:
    """Whether the run ended, or something else was done to it, before anyone had to tell."""
    begin, end = fault["time"], fault["time"] + _patience(fault)
    other = any(
        each is not fault and each["kind"] in VOID and begin <= each["time"] < end
        for each in history.faults
    )
    over = any(
        (line["what"] == "attempt" or line.get("state", "running") != "running")
        and begin <= line["time"] <= end
        for line in history.seen
    )
    return other or over


def _left(history: History) -> list[str]:
    if history.left is None:
        return ["G2: nobody looked what it left"]
    return [f"G2: it left {', '.join(history.left)}"] if history.left else []


def _resumes(history: History) -> list[str]:
    found = []
    exact = history.kind.startswith("exact")  # it keeps nothing of a pass
    for number, (before, after) in enumerate(history.resumes, 1):
        lost = before.lost(after.step)
        if lost > LOST_SECONDS:
            found.append(f"G4: resume {number}: {lost:.2f} s of training were lost")
        earlier = [step for attempt in history.attempts[:number] for step in attempt.checkpoints]
        seen = [fault["checkpoint"] or 0 for fault in history.deadly(before, after)]
        newest = max([0, *earlier, *seen])
        if after.step < newest and not exact:
            found.append(
                f"G6: resume {number}: from step {after.step}, and there was a checkpoint of "
                f"{newest}"
            )
    return found


def _weights(history: History) -> list[str]:
    result, solo = history.result, history.solo
    if not result:
        return ["G5: it finished without a result"]
    if result["consistency"] == "sync":
        same = result["weights_sha256"] == solo["weights_sha256"]
        return [] if same else ["G5: its weights are not those of an undisturbed run"]
    found = []
    gap = result.get("optimum_gap")
    if gap is None or not gap < GAP:
        found.append(f"G5: it is {gap} above the optimum")
    late = result.get("staleness", {"max": 0, "bound": 0})
    if late["bound"] is not None and late["max"] > late["bound"]:
        found.append(f"G5: a gradient was {late['max']} updates late, the bound is {late['bound']}")
    return found


def _updates(history: History) -> list[str]:
    result = history.result
    if not result or result["consistency"] == "sync":
        return []
    bound = result["staleness"]["bound"] if "staleness" in result else 0
    try:
        check_updates(history.updates, result["steps"], bound)
    except ValueError as error:
        return [f"G7: {error}"]
    applied = sum(each.count for each in history.updates)
    if applied != result["steps"]:
        return [f"G7: {applied} batches were applied, {result['steps']} counted"]
    return []


# Figures


def trained_and_down(history: History) -> tuple[float, float]:
    """Seconds in which the run trained, and in which it was meant to and did not."""
    up = down = 0.0
    trained = [attempt for attempt in history.attempts if attempt.points]
    for attempt in trained:
        gaps = [gap for gap, _ in attempt.gaps()]
        if attempt is trained[0]:
            gaps = gaps[1:]  # to the first point of all: it starts
        up += sum(min(gap, PATIENCE) for gap in gaps)
        down += sum(max(0.0, gap - PATIENCE) for gap in gaps)
    return up, down + sum(_outages(history, trained))


def _outages(history: History, trained: Sequence[Attempt]) -> list[float]:
    found = []
    for before, after in itertools.pairwise(trained):
        deadly = history.deadly(before, after)
        if deadly:
            found.append(_tail(history, before, deadly[0]["time"]))
        if any(fault["kind"] in DEADLY for fault in deadly[:1]) or not deadly:
            begin = deadly[0]["time"] if deadly else before.points[-1].wall
            # To the first point; its gap from the start of the training is counted already.
            found.append(max(0.0, after.points[0].wall - begin - after.gaps()[0][0]))
    return found


def _tail(history: History, attempt: Attempt, end: float) -> float:
    """Seconds that an attempt stood still at its end: no point tells of those."""
    last = attempt.points[-1].wall
    asked = {"pause", "full-disk"}
    if any(f["kind"] in asked and last - 1.0 < f["time"] < end for f in history.faults):
        return 0.0
    return max(0.0, end - last - PATIENCE - UNWRITTEN)


def recovery(history: History, fault: Line) -> float | None:
    """Seconds without training after a fault: to the first point of the next attempt or, where
    the coordinator lived on, the longest gap around it. None where nothing tells."""
    begin, kind = fault["time"], fault["kind"]
    if "back" in fault:  # what was asked for ended then
        begin = fault["back"]
    if kind in {*DEADLY, "stop"}:
        walls = [attempt.points[0].wall for attempt in history.attempts if attempt.points]
    else:
        walls = [point.wall for attempt in history.attempts for point in attempt.points]
    if kind in {*DEADLY, "stop", "pause"}:
        return min((wall for wall in walls if wall > begin), default=begin) - begin or None
    end = begin + (8.0 if kind.startswith("worker-stop") else 2.0)
    around = [
        gap
        for attempt in history.attempts
        for gap, point in attempt.gaps()
        if point.wall >= begin - 0.5 and point.wall - gap <= end
    ]
    return max(around, default=None)


def summary(found: Sequence[History], lines: Sequence[Line]) -> dict[str, Any]:
    """The figures of a chaos run."""
    faults = [line for line in lines if line["what"] == "fault"]
    fired = Counter(line["kind"] for line in faults if line["fired"])
    by_run = {history.run_id: history for history in found}
    recoveries: dict[str, list[float]] = defaultdict(list)
    for line in faults:
        seconds = line.get("recovered")
        if line["fired"] and line.get("run") in by_run and line["kind"] != "full-disk":
            seconds = recovery(by_run[line["run"]], line)
        if line["fired"] and seconds is not None:
            recoveries[line["kind"]].append(seconds)
    times = [trained_and_down(history) for history in found]
    up, down = sum(time[0] for time in times), sum(time[1] for time in times)
    lost = [a.lost(b.step) for history in found for a, b in history.resumes]
    seconds_told: dict[str, list[float]] = defaultdict(list)
    for history in found:
        for fault in history.faults:
            if fault["kind"] in TOLD and (after := told(history, fault)) is not None:
                seconds_told[fault["kind"]].append(after)
    return {
        "runs": len(found),
        "states": dict(Counter(history.state for history in found)),
        "kinds": dict(Counter(history.kind for history in found)),
        "failed_by_design": [
            f"{history.run_id}: {history.message}"
            for history in found
            if history.state == "failed" and BY_DESIGN.search(history.message)
        ],
        "faults": dict(Counter(line["kind"] for line in faults)),
        "fired": dict(fired),
        "resumes": len(lost),
        "lost_seconds": {"total": round(sum(lost), 2), "max": round(max(lost, default=0.0), 2)},
        "told_seconds": _in_short(seconds_told),
        "recovery_seconds": _in_short(recoveries),
        "trained_seconds": round(up, 1),
        "down_seconds": round(down, 2),
        "availability": up / (up + down) if up + down else None,
        "clean_seconds": max(
            (line["after"] for line in lines if line["what"] == "left"), default=0
        ),
        "violations": {
            history.run_id: wrong for history in found if (wrong := violations(history))
        },
    }


def _in_short(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    return {
        kind: {
            "median": round(statistics.median(each), 2),
            "max": round(max(each), 2),
            "n": len(each),
        }
        for kind, each in sorted(seconds.items())
    }
