"""Runs beside each other: the table of what differs, the sentences, and what a click queues."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from regatta import baselines
from regatta.configuration import TrainingConfig
from regatta.dashboard import actions, comparing, comparison, jobs, scores, verdicts, ways
from regatta.dashboard.comparison import Course, CrossValidated, Reach
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunRecord, RunStore
from regatta.tests.pages import labels, open_page, texts
from regatta.utils import write_json

RUNS_PAGE = Path(actions.__file__).resolve().parent / "pages" / "runs.py"
OPTIMUM = 2.0
# The gap at each look: within 1e-3 at the third, within 1e-4 at the fourth.
COURSE_OF_GAPS = (0.5, 1e-2, 5e-4, 5e-5)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And a page under test becomes the main module, which workers of later tests would run."""
    for module in (verdicts, ways):
        monkeypatch.setattr(module, "available_cores", lambda: 2)
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


def rows(
    end: float, steps: int = 400, gaps: tuple[float, ...] = COURSE_OF_GAPS, r2: float = 0.9
) -> list[dict[str, Any]]:
    """Evaluations at equal distances, the last after ``end`` seconds and so many steps."""
    return [
        {
            "step": steps * place // len(gaps),
            "epoch": float(place),
            "seconds": end * place / len(gaps),
            "train_objective": OPTIMUM * (1 + gap),
            "validation_loss": 1.0 + gap,
            "validation_r2": r2,
            "validation_rmse": 3.0,
        }
        for place, gap in enumerate(gaps, 1)
    ]


def course(letter: str, end: float, steps: int = 400, **changes: Any) -> Course:
    """A run that was done after ``end`` seconds; ``changes`` are settings and figures."""
    figures = {"result", "staleness", "times", "scaled", "changes"} & changes.keys()
    workers, solver = changes.pop("workers", 2), changes.pop("solver", "sgd")
    state, r2 = changes.pop("state", RunState.FINISHED), changes.pop("r2", 0.9)
    gaps = changes.pop("gaps", COURSE_OF_GAPS)
    known = {name: changes.pop(name) for name in figures}
    optimum = changes.pop("optimum", OPTIMUM)
    settings = {"path": "/data/rows.csv", "target": "y", "workers": workers, **changes}
    config = TrainingConfig(**settings)
    record = RunRecord(
        run_id=f"20260101-000000-000{letter.lower()}", name="Sensors", state=state, model="ridge",
        solver=solver, workers=workers, total_steps=400, progress=0.5,
    )  # fmt: skip
    return Course(
        letter=letter, record=record, config=config,
        evaluations=rows(end, steps, gaps, r2) if gaps else (), seconds=end, step=steps,
        optimum=optimum, unit=optimum, **known,
    )  # fmt: skip


def waiting(share: float, *, compute: float = 0.1) -> list[dict[str, Any]]:
    """A worker's time, of which it waited ``share``."""
    return [{"rank": 0, "compute": compute, "wait": compute * share / (1 - share),
             "communicate": 0.0}]  # fmt: skip


def cells(lines: list[comparison.Line], label: str) -> list[str]:
    (found,) = [each for name, each in lines if name == label]
    return found


# When a gap was reached


def test_a_gap_is_reached_at_the_first_look_that_finds_it() -> None:
    found = course("A", 4.0)
    assert found.reach(1e-3) == Reach(seconds=3.0, after=2.0, step=300)
    assert found.reach(1e-4) == Reach(seconds=4.0, after=3.0, step=400)
    assert found.reach(1e-5) is None
    assert found.gap == pytest.approx(5e-5)


def test_rounding_below_the_optimum_is_no_gap() -> None:
    assert course("A", 1.0, gaps=(0.5, -1e-9)).gap == 0.0


def test_without_an_optimum_there_is_no_gap() -> None:
    found = course("A", 4.0, optimum=None)
    assert found.gap is None and found.reach(1e-3) is None


def test_what_one_run_knows_of_the_optimum_holds_for_its_problem() -> None:
    known, exact = course("A", 1.0), course("B", 0.1, optimum=None, solver="exact", gaps=(0.0,))
    other = course("C", 1.0, optimum=None, seed=1)
    shared = comparison.with_shared_optimum([known, exact, other])
    assert [each.optimum for each in shared] == [OPTIMUM, OPTIMUM, None]
    assert shared[1].reach(1e-4) == Reach(0.1, 0.1, 400)


# The table


def test_the_table_has_the_settings_that_differ_and_no_others() -> None:
    one = course("A", 4.0, consistency="sync", momentum=0.5)
    other = course(
        "B", 2.0, consistency="async", momentum=0.5, staleness={0: 30, 2: 10},
        result={"learning_rate": 0.01, "staleness": {"bound": 32}},
    )  # fmt: skip
    lines = comparison.table([one, other])
    labels = [label for label, _ in lines]
    assert cells(lines, "Consistency") == ["sync", "async"]
    assert "Momentum" not in labels and "Path" not in labels and "State" not in labels
    assert cells(lines, "Workers") == ["2", "2"]
    assert cells(lines, "Time to a gap of 1e-3") == ["3.00 s", "**1.50 s**"]
    assert cells(lines, "Time to a gap of 1e-4") == ["4.00 s", "**2.00 s**"]
    assert cells(lines, "Steps to a gap of 1e-4") == ["400", "400"]
    assert cells(lines, "Staleness, mean (largest)") == ["none", "0.5 (2) updates"]
    assert cells(lines, "Time in training") == ["4.00 s", "2.00 s"]
    assert column([one, other], scores.R2) == ["0.9000", "0.9000"]


def test_rounds_of_local_are_averages() -> None:
    local = course("B", 1.0, consistency="local", result={"updates": 25, "sync_every": 16})
    lines = comparison.table([course("A", 1.0), local])
    assert cells(lines, "Rounds: updates of the weights") == ["400", "25"]
    assert cells(lines, "Staleness, mean (largest)") == ["none", "averaged every 16 steps"]


def test_an_exact_run_has_no_steps_and_a_step_over_all_rows_names_its_solver() -> None:
    """What `step` counts of an exact run are rows."""
    exact = course("A", 1.0, steps=477, solver="exact")
    exact = replace(exact, config=replace(exact.config, solver="exact"))
    full = course("B", 2.0, solver="fista")
    config = replace(full.config, solver="sgd", epochs=30, learning_rate=0.1)
    full = replace(full, config=config)
    lines = comparison.table([exact, full])
    assert cells(lines, "Solver") == ["exact", "fista, all rows a step"]
    assert cells(lines, "Epochs") == ["–", "30"]
    assert cells(lines, "Learning rate") == ["–", "–"]
    assert cells(lines, "Steps in all") == ["none: one pass over the rows", "400"]
    assert cells(lines, "Rounds: updates of the weights") == ["–", "400"]
    assert cells(lines, "Steps to a gap of 1e-4") == ["–", "400"]


def test_what_auto_became_stands_behind_it() -> None:
    one = course("A", 1.0, learning_rate=0.5, alpha=2.0)
    other = course("B", 1.0, alpha="auto", result={"learning_rate": 0.25, "alpha": 1.5})
    lines = comparison.table([one, other])
    assert cells(lines, "Learning rate") == ["0.5", "auto: 0.25"]
    assert cells(lines, "Penalty strength (alpha)") == ["2", "auto: 1.5"]


def test_the_same_number_of_workers_is_no_difference_however_it_was_told() -> None:
    one, other = course("A", 1.0), course("B", 1.0)
    other = replace(other, config=replace(other.config, workers=None))
    assert comparison.config_differences([one, other]) == []


def test_a_run_under_way_says_so_and_has_not_failed_to_reach_a_gap() -> None:
    live = course("B", 1.0, state=RunState.RUNNING, gaps=(0.5,))
    lines = comparison.table([course("A", 1.0), live])
    assert cells(lines, "State") == ["finished", "running, 50 %"]
    assert cells(lines, "Time to a gap of 1e-4") == ["1.00 s", "not yet"]
    ended = course("B", 1.0, gaps=(0.5,))
    lines = comparison.table([course("A", 1.0), ended])
    assert cells(lines, "Time to a gap of 1e-4")[1] == "not reached"


def test_a_solver_that_was_chosen_is_told_in_words() -> None:
    chosen = course("B", 1.0, solver="exact", result={"solver": "exact"})
    chosen = replace(chosen, config=replace(chosen.config, solver="auto"))
    steps = course("A", 1.0)
    steps = replace(steps, config=replace(steps.config, solver="sgd"))
    assert cells(comparison.table([steps, chosen]), "Solver") == ["sgd", "auto: exact"]


# The scores


def column(courses: list[Course], name: str) -> list[str]:
    columns, _, rows = scores.table(courses)
    return [row[columns.index(name)] for row in rows]


def plain(name: str, r2: float, rmse: float, seconds: float = 0.25) -> dict[str, Any]:
    return {"name": name, "settings": "alpha=1", "seconds": seconds, "note": "",
            "scores": {"r2": r2, "rmse": rmse}, "spread": {"r2": 0.0125}}  # fmt: skip


BASELINES = {
    "version": "1.9", "threads": 2, "rows_train": 80, "rows_used": 80, "features": 3,
    "alpha_chosen": False, "run": {"spread": {"r2": 0.01}},
    "baselines": [plain("Mean", 0.0, 10.0), plain("Ridge", 0.9, 3.0), plain("Lasso", 0.91, 2.99)],
}  # fmt: skip


def test_scores_of_other_rows_are_not_called_better() -> None:
    same = [course("A", 1.0, r2=0.8), course("B", 1.0)]
    other = [course("A", 1.0, r2=0.8), course("B", 1.0, seed=1)]
    assert column(same, scores.R2) == ["0.8000", "**0.9000**"]
    assert column(other, scores.R2) == ["0.8000", "0.9000"]


def test_scores_have_the_spreads_that_are_known_and_no_empty_column() -> None:
    one, other = course("A", 4.0), course("B", 2.0, alpha=3.0)
    columns, names, _ = scores.table([one, other])
    assert columns == [scores.R2, scores.RMSE, scores.TIME]
    assert names == ["A · sync, 2 workers", "B · sync, 2 workers"]
    one = replace(one, held_out_error=0.0123, seeds=(0.9, 0.92))
    other = replace(other, cross_validated=CrossValidated(3.1234, 0.0417, 5), seeds=(0.9,))
    assert column([one, other], scores.ERROR) == ["±\xa00.0123", "–"]
    assert column([one, other], scores.FOLDS) == ["–", "3.123 ± 0.042, 5 folds"]
    assert column([one, other], scores.SEEDS) == ["0.9100 ± 0.0141, 2 seeds", "–"]


def test_baselines_are_rows_of_the_table_and_lines_across_the_loss() -> None:
    one, other = course("A", 4.0), course("B", 2.0, consistency="async")
    one = replace(one, baselines=BASELINES, held_out_error=0.01)
    one = replace(one, evaluations=[{**one.evaluations[0], "validation_loss": 45.0},
                                    *one.evaluations[1:]])  # fmt: skip
    _, names, _ = scores.table([one, other])
    assert names[2:] == ["scikit-learn Mean", "scikit-learn Ridge", "scikit-learn Lasso"]
    assert column([one, other], scores.R2)[2:] == ["0.0000", "0.9000", "**0.9100**"]
    assert column([one, other], scores.TIME)[2:] == ["0.25 s"] * 3
    assert column([one, other], scores.SETTINGS)[-1] == "alpha=1"
    lines = comparing.curves([one, other], "seconds", by_gap=False)[2:]
    assert [each["name"] for each in lines] == ["scikit-learn: Lasso, Ridge", "scikit-learn: Mean"]
    assert [each["y"][0] for each in lines] == pytest.approx([2.99**2 / 2, 50.0])
    assert all(each["x"] == [0, 4.0] for each in lines)
    low = replace(one, evaluations=one.evaluations[1:])
    lines = comparing.curves([low, other], "seconds", by_gap=False)[2:]
    assert not any("Mean" in each["name"] for each in lines), "it would leave no room"
    by_gap = comparing.curves([one, other], "seconds", by_gap=True)
    assert not any("scikit-learn" in str(each.get("name")) for each in by_gap)
    foreign = replace(other, config=replace(other.config, seed=1))
    assert len(comparing.curves([one, foreign], "seconds", by_gap=False)) == 2


def test_baselines_are_offered_for_the_first_run_of_each_problem() -> None:
    live = course("A", 1.0, state=RunState.RUNNING)
    one, twin, other = course("B", 1.0), course("C", 1.0, workers=1), course("D", 1.0, alpha=9.0)
    assert scores.next_for_baselines([live]) is None
    assert scores.next_for_baselines([live, one, twin, other]) == one
    one = replace(one, baselines=BASELINES)
    assert scores.next_for_baselines([live, one, twin, other]) == other
    several = [one, replace(other, baselines=BASELINES)]
    assert scores.next_for_baselines(several) is None
    assert scores.table(several)[1][2:] == [
        "scikit-learn Mean", "scikit-learn Ridge, as B", "scikit-learn Lasso, as B",
        "scikit-learn Ridge, as D", "scikit-learn Lasso, as D",
    ]  # fmt: skip


# The sentences


def told(*courses: Course) -> str:
    return " ".join(verdicts.verdicts(courses))


def test_a_way_that_is_sooner_is_told_with_its_times() -> None:
    text = told(course("A", 4.2), course("B", 3.0, consistency="async"))
    assert text.startswith(
        "With 2 workers, asynchronous (B) reached a gap of 1e-4 1.4 times sooner than "
        "synchronous (A), after 3.00 s and not 4.20 s."
    )
    assert "took more steps a second: 133 and not 95.2." in text


def test_a_way_that_is_later_is_told_as_such() -> None:
    text = told(course("A", 2.0), course("B", 5.0, consistency="local"))
    assert (
        "With 2 workers, local (B) took 2.5 times as long to a gap of 1e-4 as synchronous" in text
    )
    assert "fewer steps a second" in text


def test_fewer_steps_at_another_rate_are_the_reason_where_they_are() -> None:
    one = course("A", 4.0, steps=4000, result={"learning_rate": 0.69})
    other = course("B", 2.0, steps=2000, consistency="async", staleness={1: 10},
                   result={"learning_rate": 0.046})  # fmt: skip
    text = told(one, other)
    assert "It took fewer steps: 2,000 and not 4,000, at a learning rate of 0.046 and not 0.69" in (
        text
    )
    assert "1.0 updates late in the mean" in text


def test_more_workers_that_lose_are_told_plainly_and_why() -> None:
    one = course("A", 0.4, steps=4000, workers=1, times=waiting(0.1, compute=0.06))
    two = course("B", 0.8, steps=4000, workers=2, times=waiting(0.8),
                 result={"batch_size": 1024})  # fmt: skip
    text = told(two, one)
    assert (
        "Synchronous: 2 workers (B) lose: they took 2.0 times as long to a gap of 1e-4 as 1 (A), "
        "after 0.80 s and not 0.40 s." in text
    )
    # 0.06 s of computing in 4,000 steps; a step of two took 0.2 ms.
    assert "1,024 rows are 0.015 ms of computing, and a step took 0.2 ms: too few to share." in text
    assert "They waited 80 % of the time, since every step waits for all of them." in text


def test_workers_that_lose_are_not_told_to_share_too_little_where_computing_is_most_of_it() -> None:
    one = course("A", 0.4, steps=400, workers=1, times=waiting(0.1, compute=0.38))
    text = told(course("B", 0.8, workers=4, times=waiting(0.1)), one)
    assert "lose" in text and "too few to share" not in text and "waited" not in text
    assert "Here 2 cores have to do for all of them." in text


def test_more_workers_that_win_are_told_too() -> None:
    text = told(course("A", 4.0, workers=1), course("B", 2.0, workers=2))
    assert "2 workers (B) win: they reached a gap of 1e-4 2.0 times sooner than 1 (A)" in text


@pytest.mark.parametrize(("end", "why"), [(4.3, "noise"), (5.0, "between two looks")])
def test_times_that_one_run_each_cannot_tell_apart_are_no_verdict(end: float, why: str) -> None:
    # After 5.0 s: the look before, at 3.75 s, is from before the other was there.
    text = told(course("A", 4.0), course("B", end, consistency="async"))
    assert "no difference that one run each can show" in text, why
    assert "sooner" not in text and "as long" not in text


def test_of_several_the_first_is_told_and_each_pair_that_differs_in_one_thing() -> None:
    several = [
        course("A", 4.0), course("B", 2.0, consistency="async"),
        course("C", 1.0, consistency="local"), course("D", 8.0, workers=1),
    ]  # fmt: skip
    sentences = verdicts.verdicts(several)
    assert sentences[0] == (
        "First at a gap of 1e-4: C (local, 2 workers), after 1.00 s; "
        "next B (asynchronous, 2 workers), after 2.00 s."
    )
    assert [each[:40] for each in sentences[1:]] == [
        "With 2 workers, asynchronous (B) reached",
        "With 2 workers, local (C) reached a gap ",
        "Synchronous: 2 workers (A) win: they rea",
    ]


def test_two_that_differ_in_more_are_told_with_what_they_differ_in() -> None:
    text = told(course("A", 1.0), course("B", 4.0, workers=1, batch_size=64))
    assert "A (synchronous, 2 workers) reached a gap of 1e-4 4.0 times sooner than B" in text
    assert "They differ in workers and batch size." in text


def test_who_did_not_get_there_is_told_and_with_what() -> None:
    stuck = course("B", 1.0, consistency="async", gaps=(0.5, 2.3e-3))
    assert "B (asynchronous, 2 workers) did not reach a gap of 1e-4: it ended at 2.3e-3." in told(
        course("A", 4.0), stuck
    )
    live = replace(stuck, record=replace(stuck.record, state=RunState.RUNNING))
    assert "B (asynchronous, 2 workers) is not at a gap of 1e-4 yet" in told(course("A", 4.0), live)
    assert "None of these runs has been within a gap of 1e-3: nearest is B" in told(
        course("A", 1.0, gaps=(0.5,)), stuck
    )
    assert "None of these runs has figures yet" in told(
        *(course(letter, 0.0, gaps=(), state=RunState.QUEUED) for letter in "AB")
    )


def test_the_larger_gap_is_told_where_only_one_has_reached_the_smaller() -> None:
    early = course("B", 1.0, consistency="async", gaps=(0.5, 5e-4))
    assert "reached a gap of 1e-3" in told(course("A", 4.0), early)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"seed": 1}, "seed"), ({"model": "lasso"}, "model"), ({"path": "/data/b.csv"}, "the data"),
     ({"target": "z"}, "column to predict"), ({"alpha": 3.0}, "penalty strength (alpha)")],
)  # fmt: skip
def test_runs_of_different_problems_are_not_timed_against_each_other(
    change: Mapping[str, Any], named: str
) -> None:
    text = told(course("A", 4.0), course("B", 1.0, consistency="async", **change))
    assert f"These runs differ in {named}, so their times" in text
    assert "sooner" not in text and "as long" not in text


def test_those_of_one_problem_are_timed_although_others_are_of_another() -> None:
    text = told(course("A", 4.0), course("B", 9.0, seed=1), course("C", 2.0, consistency="async"))
    assert "These runs differ in seed" in text and "A and C do not differ in these:" in text
    assert "asynchronous (C) reached a gap of 1e-4 2.0 times sooner" in text
    assert "(B)" not in text


def test_models_on_the_same_rows_are_told_by_their_scores() -> None:
    text = told(course("A", 4.0, r2=0.8), course("B", 1.0, model="lasso"))
    assert "On the same held-out rows B · Lasso, sync, 2 workers predicts best: R² 0.9000" in text
    other = told(course("A", 4.0, r2=0.8), course("B", 1.0, seed=1))
    assert "predicts best" not in other and "not the same" in other


def test_a_file_that_changed_between_the_runs_is_noticed() -> None:
    assert "the file has changed" in told(course("A", 4.0), course("B", 1.0, optimum=2.1))


def test_a_run_whose_workers_were_changed_is_no_witness() -> None:
    text = told(course("A", 4.0), course("B", 1.0, workers=1, scaled=True))
    assert "lose" not in text and "The number of workers of B was changed meanwhile." in text


def test_a_run_whose_settings_were_changed_is_no_witness_and_says_how() -> None:
    change = "Batch size 64 → 8 rows a step after step 9."
    courses = [course("A", 4.0), course("B", 1.0, workers=1, changes=[change])]
    text = told(*courses)
    assert "lose" not in text and "Settings of B were changed on the way." in text
    assert cells(comparison.table(courses), "Changed on the way") == ["nothing", change]
    untouched = comparison.table([course("A", 4.0), course("B", 1.0)])
    assert "Changed on the way" not in [label for label, _ in untouched]


def test_without_an_optimum_scores_are_told() -> None:
    text = told(course("A", 4.0, optimum=None), course("B", 1.0, optimum=None, r2=0.95))
    assert "optimum is not known" in text and "R² 0.9500" in text


# The chart


def test_curves_have_a_colour_a_dash_and_a_letter_each() -> None:
    several = [course("A", 4.0), course("B", 2.0, consistency="async")]
    traces = comparing.curves(several, "seconds", by_gap=True)
    assert [each["name"] for each in traces[:2]] == ["A · sync, 2 workers", "B · async, 2 workers"]
    assert len({each["line"]["dash"] for each in traces[:2]}) == 2
    assert traces[1]["x"] == [0.5, 1.0, 1.5, 2.0]
    assert traces[1]["y"] == pytest.approx(COURSE_OF_GAPS)
    assert [each["y"][0] for each in traces[2:]] == [1e-3, 1e-4]  # what times are told to
    assert comparing.curves(several, "step", by_gap=False)[0]["x"] == [100, 200, 300, 400]


# What a click queues

CONFIG = TrainingConfig(path="rows.csv", target="y", name="Sensors", batch_size=64, workers=4)


def ways_of(configs: list[TrainingConfig]) -> list[tuple[str, int | None]]:
    return [(each.consistency, each.workers) for each in configs]


def test_the_twins_differ_in_one_thing() -> None:
    found = ways.twins(CONFIG, 4)
    assert ways_of(found) == [("async", 4), ("local", 4), ("sync", 2), ("sync", 1)]
    assert all(each.batch_size == 64 and each.name.startswith("Sensors, ") for each in found)
    assert ways_of(ways.twins(CONFIG, 2)) == [("async", 2), ("local", 2), ("sync", 1)]


def test_a_run_with_one_worker_is_compared_with_one_a_core() -> None:
    assert ways_of(ways.twins(CONFIG, 1)) == [("sync", 2), ("async", 2), ("local", 2)]


# The page


def finished_run(store: RunStore, tmp_path: Path, end: float, **settings: Any) -> str:
    """A run as it lies on the disk when it is done."""
    path = tmp_path / "rows.csv"
    path.write_text("a,y\n1,2\n")
    config = TrainingConfig(
        path=str(path), target="y", **{"name": "A *bold* name", "workers": 2, **settings}
    )
    run_id = store.create(config).run_id
    directory = store.directory(run_id)
    writer = MetricsWriter(directory.metrics)
    for name, value in (("optimal_objective", OPTIMUM), ("gap_unit", OPTIMUM)):
        writer.fact(name, value)
    for row in rows(end):
        writer.add("evaluations", **row)
    writer.add("points", step=400, epoch=4.0, seconds=end, rows=400)
    writer.add("staleness", staleness=1, gradients=400)
    writer.close()
    write_json(directory.result, {"batch_size": 64, "learning_rate": 0.5})
    for state in (RunState.STARTING, RunState.RUNNING, RunState.FINISHED):
        store.update_state(run_id, state, solver="sgd")
    return run_id


def test_the_address_names_the_runs_that_are_compared(store: RunStore, tmp_path: Path) -> None:
    first = finished_run(store, tmp_path, 4.2)
    second = finished_run(store, tmp_path, 3.0, consistency="async")
    page = open_page("runs", compare=[first, second])
    assert page.multiselect[0].value == [first, second]
    assert "1.4 times sooner than synchronous (A)" in texts(page)
    assert list(page.table[0].value.index) == ["A · sync, 2 workers", "B · async, 2 workers"]
    table = page.table[1].value
    assert list(table.columns) == ["A · sync, 2 workers", "B · async, 2 workers"]
    assert list(table.loc["Consistency"]) == ["sync", "async"]
    assert table.loc["Run"].iloc[0].startswith(r"A \*bold\* name")
    third = finished_run(store, tmp_path, 1.0, seed=1)
    page.multiselect[0].set_value([first, third]).run()
    assert not page.exception
    assert page.query_params["compare"] == [first, third]
    assert "differ in seed" in texts(page)


def test_runs_of_other_seeds_tell_how_far_the_score_is_chance(
    store: RunStore, tmp_path: Path
) -> None:
    run_ids = [finished_run(store, tmp_path, 4.0, seed=each) for each in range(3)]
    other = finished_run(store, tmp_path, 4.0, alpha=7.0)
    for place, run_id in enumerate(run_ids):
        store.update(run_id, validation_r2=0.8 + place / 10)
    store.update(other, validation_r2=0.1)
    found = comparison.read(store, [run_ids[0], other])
    assert sorted(found[0].seeds) == pytest.approx([0.8, 0.9, 1.0]) and found[1].seeds == (0.1,)


def button(page: AppTest, start: str) -> Any:
    (found,) = [each for each in page.button if each.label.startswith(start)]
    return found


def test_one_click_adds_baselines(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_ids = [finished_run(store, tmp_path, 4.0, alpha=each) for each in (1.0, 2.0)]
    for run_id in run_ids:
        result = {"weights_sha256": run_id}
        write_json(store.directory(run_id).result, result)
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(jobs, "start", lambda kind, **run: started.append({"kind": kind, **run}))
    page = open_page("runs", compare=run_ids)
    button(page, "Add scikit-learn baselines for A").click().run()
    wanted = {"run_id": run_ids[0], "model": run_ids[0], "beside": run_ids[1:]}
    assert started == [{"kind": "baseline", **wanted}]
    kept = {**BASELINES, "format": baselines.FORMAT, "weights_sha256": run_ids[0]}
    write_json(baselines.path_of(store.directory(run_ids[0])), kept)
    page = open_page("runs", compare=run_ids)
    assert "scikit-learn Ridge" in page.table[0].value.index
    assert "scikit-learn 1.9, 2 threads" in texts(page)
    assert button(page, "Add scikit-learn baselines for B")


def test_baselines_that_cannot_be_made_say_why(store: RunStore, tmp_path: Path) -> None:
    run_ids = [finished_run(store, tmp_path, each) for each in (4.0, 2.0)]
    job = jobs.job_of("baseline", run_id=run_ids[0], model=None, beside=run_ids[1:])
    job.folder.mkdir(parents=True)
    status = jobs.Status("failed", message="The file rows.csv has changed.", hint="Train again.")
    write_json(job.folder / "status.json", vars(status))
    page = open_page("runs", compare=run_ids)
    assert "has changed" in page.error[0].value
    assert not button(page, "Add scikit-learn baselines").disabled, "it can be tried again"


def test_less_than_two_runs_offer_the_next_step(store: RunStore, tmp_path: Path) -> None:
    run_id = finished_run(store, tmp_path, 4.0)
    page = open_page("runs", compare=[run_id, "20200101-000000-0000"])
    assert "One of these runs is not here any more." in texts(page)
    assert {"Compare the ways", "New run", "All runs"} <= labels(page)
    assert "Choose another run" in texts(page)


def test_runs_without_figures_are_compared_by_their_settings(store: RunStore) -> None:
    configs = [TrainingConfig(path="rows.csv", target="y", momentum=each) for each in (0.5, 0.8)]
    page = open_page("runs", compare=[store.create(each).run_id for each in configs])
    assert list(page.table[1].value.loc["Momentum"]) == ["0.5", "0.8"]
    assert "No curve yet" in texts(page) and "so far" in texts(page)


def test_a_click_queues_the_ways_once(
    store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regatta.runs.service.ensure_supervisor", lambda *_, **__: False)
    run_id = finished_run(store, tmp_path, 4.0)
    page = open_page("runs", compare=[run_id])
    next(each for each in page.button if each.label == "Compare the ways").click().run()
    assert len(store.list()) == 4
    again = ways.queue_twins(store, store.get(run_id), supervise=False)
    assert len(store.list()) == 4 and again[0] == run_id and len(set(again)) == 4
    found = [store.config(each) for each in again[1:]]
    assert ways_of(found) == [("async", 2), ("local", 2), ("sync", 1)]


@pytest.mark.parametrize(
    ("changes", "solver", "state"),
    [({"consistency": "async"}, "sgd", RunState.FINISHED), ({}, "exact", RunState.FINISHED),
     ({}, "fista", RunState.FINISHED), ({}, "sgd", RunState.STOPPED)],
)  # fmt: skip
def test_the_ways_are_offered_for_synchronous_steps_alone(
    changes: Mapping[str, Any], solver: str, state: RunState
) -> None:
    record = RunRecord(run_id="20260101-000000-0000", state=state, solver=solver, workers=2)
    assert not ways.is_comparable(record, TrainingConfig(**changes))
    record = replace(record, state=RunState.FINISHED, solver="sgd")
    assert ways.is_comparable(record, TrainingConfig())
    assert not ways.is_comparable(replace(record, workers=0), TrainingConfig())


def test_several_ticked_runs_can_be_compared(store: RunStore, tmp_path: Path) -> None:
    run_ids = [finished_run(store, tmp_path, 4.0 + each, seed=each) for each in range(2)]
    page = AppTest.from_file(str(RUNS_PAGE), default_timeout=30)
    page.session_state["runs-chosen"] = run_ids
    page.run()
    assert not page.exception
    next(each for each in page.button if each.label == "Compare these 2").click().run()
    assert page.query_params["compare"] == run_ids
    assert "Compare runs" in texts(page)
