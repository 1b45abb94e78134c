"""Runs beside each other: what is known of each, and the table of what differs.

    ids ── read ──▶ Courses ── table ──▶ rows of text
                       │
                       └── verdicts.py ──▶ sentences

Times to a gap are those of the recorded evaluations: the first that found the training objective
within it. Between that look and the one before the run may have been there already.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from regatta import baselines
from regatta.configuration import STEP_OPTIONS, ReadingOptions, TrainingConfig
from regatta.dashboard import fields as options
from regatta.dashboard import words
from regatta.explain import residuals
from regatta.runs.directory import RunDirectory
from regatta.runs.metrics_store import MetricsReader
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.runs.tuning import KINDS
from regatta.solvers.unused import STEP_LENGTH
from regatta.utils import RegattaError, read_json

GAPS = (1e-3, 1e-4)
GAP_WORDS = {1e-3: "1e-3", 1e-4: "1e-4"}
# As many as there are colours that can be told apart.
MOST_RUNS = 6
LETTERS = "ABCDEF"
# What decides the optimum and the rows that scores are told of; the others decide how it is found.
ROWS = (
    "path", "target", "drop", "validation", "seed", *(each.name for each in fields(ReadingOptions))
)  # fmt: skip
PROBLEM = (*ROWS, "model", "alpha", "l1_ratio")
# The options that say how workers agree.
WAY = ("consistency", "staleness", "sync_every")
# Optima of the same problem differ by rounding; beyond this share, the file has changed.
SAME_OPTIMUM = 1e-4
WAYS = {
    "sync": "synchronous",
    "async": "asynchronous",
    "local": "local",
    "full": "all rows a step",
    "exact": "exact",
}

Row = dict[str, Any]


@dataclass(frozen=True)
class Reach:
    """When a run was first seen within a gap; ``after`` is the last look that saw it above."""

    seconds: float
    after: float
    step: int

    @property
    def pace(self) -> float:
        """Steps a second until then."""
        return self.step / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class CrossValidated:
    """The error at the chosen alpha on rows left out of the fit, in the target's units: mean over
    the folds and its standard error."""

    rmse: float
    error: float
    folds: int


@dataclass(frozen=True)
class Course:
    """What is known of one run, under way or ended.

    ``optimum`` is its objective's lowest value, in the target's units squared, and ``unit`` what
    gaps are a share of; None where they are not known. ``staleness`` counts gradients by how many
    updates late they were; ``times`` are the last figures of each worker. How far its score could
    be off: ``held_out_error`` is the standard error of its R² over the held-out rows, ``seeds``
    are the R² of all runs that differ from it in the seed alone, its own among them.
    ``baselines`` is what `regatta.baselines` has kept of it.
    """

    letter: str
    record: RunRecord
    config: TrainingConfig
    evaluations: Sequence[Row] = ()
    seconds: float = 0.0
    step: int = 0
    result: Mapping[str, Any] | None = None
    optimum: float | None = None
    unit: float | None = None
    staleness: Mapping[int, int] | None = None
    times: Sequence[Row] = ()
    scaled: bool = False
    changes: Sequence[str] = ()
    held_out_error: float | None = None
    cross_validated: CrossValidated | None = None
    seeds: Sequence[float] = ()
    baselines: Mapping[str, Any] | None = None

    @property
    def is_disturbed(self) -> bool:
        """Whether it was changed on its way, so that its settings do not tell all of it."""
        return self.scaled or bool(self.changes)

    @property
    def way(self) -> str:
        """How its workers agree: sync, async or local; or full, or exact."""
        if self.record.solver == "exact":
            return "exact"
        if self.record.solver == "fista":
            return "full"
        # Async that bounds the staleness by 0 is sync, and is run as that.
        return "sync" if self.config.staleness == 0 else self.config.consistency

    @property
    def workers(self) -> int | None:
        """Worker processes; None before it is known."""
        known = self.record.workers
        return self.config.workers if known is None else known

    @property
    def ended(self) -> bool:
        """Whether its figures are final."""
        return self.record.state.is_terminal

    @property
    def gaps(self) -> list[float | None]:
        """The gap to the optimum at each evaluation, as a share."""
        if self.optimum is None or not self.unit:
            return [None] * len(self.evaluations)
        return [_gap(each, self.optimum, self.unit) for each in self.evaluations]

    @property
    def gap(self) -> float | None:
        """The last one."""
        return next((each for each in reversed(self.gaps) if each is not None), None)

    def reach(self, aim: float) -> Reach | None:
        """When it was first within a gap of ``aim``; None where it was not."""
        # The exact solver has nothing before its end.
        after = self.seconds if self.way == "exact" else 0.0
        for row, gap in zip(self.evaluations, self.gaps, strict=True):
            if gap is not None and gap <= aim:
                return Reach(row["seconds"], min(after, row["seconds"]), row["step"])
            after = max(after, row["seconds"])
        return None

    @property
    def mean_staleness(self) -> float | None:
        """Updates that gradients were late, in the mean."""
        counts = self.staleness or {}
        total = sum(counts.values())
        return sum(late * count for late, count in counts.items()) / total if total else None

    def of_result(self, name: str) -> Any:
        """A figure of its result; None while there is none."""
        return (self.result or {}).get(name)

    def score(self, name: str) -> float | None:
        """The last score of that name."""
        return self.evaluations[-1][name] if self.evaluations else None


def read(store: RunStore, run_ids: Sequence[str]) -> list[Course]:
    """What is known of the runs, in that order; those that are not there are left out."""
    courses: list[Course] = []
    records = store.list()
    for run_id in run_ids[:MOST_RUNS]:
        try:
            record, config = store.get(run_id), store.config(run_id)
        except (RegattaError, OSError, ValueError):
            continue
        course = _read_one(store, record, config, LETTERS[len(courses)])
        if record.state is RunState.FINISHED:
            course = _with_spread(store, course, records)
        courses.append(course)
    return with_shared_optimum(courses)


def _read_one(store: RunStore, record: RunRecord, config: TrainingConfig, letter: str) -> Course:
    directory = store.directory(record.run_id)
    reader = MetricsReader(directory.metrics)
    point, facts = reader.latest("points"), reader.facts()
    result = None
    if record.state is RunState.FINISHED:
        try:
            result = read_json(directory.result)
        except (OSError, ValueError):
            result = None
    counts = {row["staleness"]: row["gradients"] for row in reader.read("staleness")}
    events = reader.read("events")
    return Course(
        letter=letter,
        record=record,
        config=config,
        evaluations=reader.read("evaluations"),
        seconds=float(point["seconds"]) if point else 0.0,
        step=int(point["step"]) if point else 0,
        result=result,
        optimum=facts.get("optimal_objective"),
        unit=facts.get("gap_unit"),
        staleness=counts or None,
        times=reader.latest_workers(),
        scaled=any(each["kind"] == "scaled" for each in events),
        changes=[str(each["message"]) for each in events if each["kind"] in KINDS.values()],
    )


def _with_spread(store: RunStore, course: Course, records: Sequence[RunRecord]) -> Course:
    """What is kept beside a finished run of how far its score could be off, and of baselines."""
    directory = store.directory(course.record.run_id)
    made = baselines.kept(directory)
    errors = made["run"] if made else residuals.kept_summary(directory)
    return replace(
        course,
        baselines=made,
        held_out_error=((errors or {}).get("spread") or {}).get("r2"),
        cross_validated=_cross_validated(directory),
        seeds=_seeds(store, course, records),
    )


def _cross_validated(directory: RunDirectory) -> CrossValidated | None:
    """At the alpha that was chosen, where one was."""
    try:
        path = read_json(directory.path_file)
        at = path["index"]
        rmse = math.sqrt(path["mean_error"][at])
        error = path["standard_error"][at] / (2 * rmse) if rmse else 0.0
        return CrossValidated(rmse, error, len(path["errors"]))
    except (OSError, ValueError, LookupError):
        return None


def _seeds(store: RunStore, course: Course, records: Sequence[RunRecord]) -> tuple[float, ...]:
    """R² of the finished runs whose settings are this one's but for seed, name and workers, which
    do not change a synchronous run's weights. One a seed."""
    own = course.record
    found: dict[int, float] = {}
    for each in records:
        alike = (each.model, each.dataset, each.target) == (own.model, own.dataset, own.target)
        if not alike or each.state is not RunState.FINISHED or each.tuned:
            continue
        if each.validation_r2 is None:
            continue
        config = _config_of(store.home, each.run_id, each.created)
        if config is not None and _but_for_seed(config) == _but_for_seed(course.config):
            found.setdefault(config.seed, each.validation_r2)
    return tuple(found.values())


def _but_for_seed(config: TrainingConfig) -> TrainingConfig:
    return replace(config, seed=0, name="", workers=None)


@functools.lru_cache(maxsize=2048)
def _config_of(home: Path, run_id: str, created: float) -> TrainingConfig | None:
    """Never written again, so read once."""
    try:
        return RunStore(home).config(run_id)
    except (RegattaError, OSError, ValueError):
        return None


def with_shared_optimum(courses: Sequence[Course]) -> list[Course]:
    """An optimum that one run knows holds for all of its problem: for the exact solver's, too."""
    found = []
    for course in courses:
        if course.optimum is None:
            alike = (each for each in courses if not config_differences([course, each], PROBLEM))
            known = next((each for each in alike if each.optimum is not None), None)
            if known is not None:
                course = replace(course, optimum=known.optimum, unit=known.unit)
        found.append(course)
    return found


def config_differences(courses: Sequence[Course], names: Sequence[str] | None = None) -> list[str]:
    """The options, of ``names`` or of all but the name, that are not the same in all runs."""
    every = names or [each.name for each in fields(TrainingConfig) if each.name != "name"]
    return [name for name in every if len({_comparable(each, name) for each in courses}) > 1]


def _comparable(course: Course, name: str) -> Any:
    if name == "workers":  # what "auto" became is as good as the same number
        return course.workers
    value = getattr(course.config, name)
    return frozenset(value) if isinstance(value, tuple) else value


def optima_differ(courses: Sequence[Course]) -> bool:
    """Whether the optimum of one is not that of another: then the rows are not the same."""
    known = [(each.optimum, each.unit) for each in courses if each.optimum is not None]
    return any(
        abs((optimum or 0) - (known[0][0] or 0)) > SAME_OPTIMUM * (unit or 1)
        for optimum, unit in known
    )


def caption(course: Course, courses: Sequence[Course]) -> str:
    """How a run is called beside the others: ``A · async, 2 workers``."""
    differing = config_differences(courses)
    parts = [words.MODEL_NAMES.get(course.config.model, course.config.model)]
    parts = parts if "model" in differing else []
    parts.append({"full": "all rows a step"}.get(course.way, course.way))
    parts.append(crew(course.workers))
    return f"{course.letter} · {', '.join(each for each in parts if each)}"


def crew(workers: int | None) -> str:
    """``2 workers``."""
    if workers is None:
        return ""
    return {0: "in one process", 1: "1 worker"}.get(workers, f"{workers} workers")


def tail(record: RunRecord) -> str:
    """The end of a run's id: enough to tell it from others of its name."""
    return record.run_id.rsplit("-", 1)[-1]


# The table

Line = tuple[str, list[str]]


def table(courses: Sequence[Course]) -> list[Line]:
    """What differs and what came of it: the label of a row, and a cell a run. The best cell of a
    row that has one is bold."""
    names = [f"{words.plain(each.record.title)} {tail(each.record)}" for each in courses]
    lines: list[Line] = [("Run", names)]
    lines += [_setting_line(courses, name) for name in config_differences(courses)]
    if not any(label == options.label("workers") for label, _ in lines):
        lines.append((options.label("workers"), [_whole(each.workers) for each in courses]))
    if any(each.changes for each in courses):
        told = [" ".join(each.changes) or "nothing" for each in courses]
        lines.append(("Changed on the way", told))
    lines += _state_lines(courses)
    lines += _gap_lines(courses)
    for aim in GAPS if any(each.optimum is not None for each in courses) else ():
        lines += _reach_lines(courses, aim)
    lines += _effort_lines(courses)
    return lines


def _setting_line(courses: Sequence[Course], name: str) -> Line:
    return options.label(name), [_setting(each, name) for each in courses]


def _setting(course: Course, name: str) -> str:
    """A setting in words; what "auto" became behind it, where that is known."""
    if name == "workers":
        return _whole(course.workers)
    if name == "solver" and course.way == "full":  # what "sgd" becomes where a step takes all rows
        return f"{course.record.solver}, all rows a step"
    if name == "path":
        return words.plain("/".join(course.config.path.rsplit("/", 2)[-2:]))
    value = getattr(course.config, name)
    if _means_nothing(course, name):
        return "–"
    if value is None or value == "auto":
        return f"auto{_became(course, name)}"
    if isinstance(value, tuple):
        return words.plain(", ".join(map(str, value))) or "none"
    if isinstance(value, str):
        return words.plain(value)
    unit = options.DECLARED[name].metadata["unit"]
    text = f"{value:g}" if isinstance(value, float) else f"{value:,}"
    return f"{text} {unit}".strip()


def _means_nothing(course: Course, name: str) -> bool:
    if course.way == "exact" and name in STEP_OPTIONS:
        return True
    if course.way == "full" and name in STEP_LENGTH:
        return True
    return {"staleness": "async", "sync_every": "local"}.get(name, course.way) != course.way


def _became(course: Course, name: str) -> str:
    found = course.of_result(name)
    if name == "staleness":
        found = (found or {}).get("bound")
    if isinstance(found, str):
        return f": {words.plain(found)}"
    return "" if found is None else f": {words.number(found)}"


def _state_lines(courses: Sequence[Course]) -> list[Line]:
    if all(each.record.state is RunState.FINISHED for each in courses):
        return []
    return [("State", [_state(each) for each in courses])]


def _state(course: Course) -> str:
    record = course.record
    if not record.state.is_live or not record.total_steps:
        return str(record.state)
    return f"{record.state}, {100 * (record.progress or 0):.0f} %"


def _gap_lines(courses: Sequence[Course]) -> list[Line]:
    if all(each.optimum is None for each in courses):
        return []
    gaps = [each.gap for each in courses]
    return [("Gap to the optimum, at the end", with_best(gaps, gap_text, None))]


def _reach_lines(courses: Sequence[Course], aim: float) -> list[Line]:
    found = [each.reach(aim) for each in courses]
    marked = not config_differences(courses, PROBLEM)
    times = with_best(
        [each.seconds if each else None for each in found], seconds_text, min if marked else None
    )
    missing = [_not_there(each) for each in courses]
    shown = [text if reach else no for text, reach, no in zip(times, found, missing, strict=True)]
    steps = [
        f"{reach.step:,}" if reach and course.way != "exact" else "–"
        for course, reach in zip(courses, found, strict=True)
    ]
    gap = GAP_WORDS[aim]
    return [(f"Time to a gap of {gap}", shown), (f"Steps to a gap of {gap}", steps)]


def _not_there(course: Course) -> str:
    if course.optimum is None:
        return "–"
    return "not reached" if course.ended else "not yet"


def _effort_lines(courses: Sequence[Course]) -> list[Line]:
    lines: list[Line] = [
        ("Time in training", [seconds_text(each.seconds) for each in courses]),
        ("Steps in all", [_steps(each) for each in courses]),
        ("Rounds: updates of the weights", [_updates(each) for each in courses]),
    ]
    rates = [each.of_result("learning_rate") for each in courses]
    if len({rate for rate in rates if rate is not None}) > 1:
        lines.append(("Learning rate at the start", [words.number(rate, 3) for rate in rates]))
    if any(each.way in ("async", "local") for each in courses):
        lines.append(("Staleness, mean (largest)", [staleness_text(each) for each in courses]))
    return lines


def _steps(course: Course) -> str:
    """Of an exact run `step` counts the rows of its one pass."""
    return "none: one pass over the rows" if course.way == "exact" else f"{course.step:,}"


def _updates(course: Course) -> str:
    """Averages of local workers, else steps."""
    if course.way == "exact":
        return "–"
    count = course.of_result("updates") if course.way == "local" else course.step
    return "–" if count is None else f"{count:,}"


def staleness_text(course: Course) -> str:
    """How late gradients were; in words where they cannot be."""
    if course.way == "local":
        every = course.of_result("sync_every") or course.config.sync_every
        return f"averaged every {every:,} steps" if every else "averaged now and then"
    if course.way != "async":
        return "none"
    mean = course.mean_staleness
    if mean is None:
        return "–"
    return f"{mean:.1f} ({max(course.staleness or {0: 0}):,}) updates"


def with_best(values: Sequence[float | None], show: Callable[[float], str], best: Any) -> list[str]:
    """The values as text, the best of them in bold: unless all read the same."""
    texts = ["–" if value is None else show(value) for value in values]
    known = [value for value in values if value is not None]
    if best is None or len(known) < 2 or len(set(texts)) == 1:
        return texts
    winner = show(best(known))
    return [f"**{text}**" if text == winner else text for text in texts]


def seconds_text(value: float | None) -> str:
    """Seconds, with two decimals where they are few: 0.48 s."""
    if value is None:
        return "–"
    if value < 0.01:
        return f"{1000 * value:.1f} ms"
    return f"{value:.2f} s" if value < 10 else words.duration(value)


def gap_text(value: float | None) -> str:
    """A gap as a power: 3.1e-5."""
    if value is None:
        return "–"
    if value < 1e-9:
        return "below 1e-9"
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def _whole(value: int | None) -> str:
    return "–" if value is None else "0, in one process" if value == 0 else f"{value:,}"


def _gap(row: Row, optimum: float, unit: float) -> float | None:
    value = row["train_objective"]
    return None if value is None else max(0.0, (value - optimum) / unit)
