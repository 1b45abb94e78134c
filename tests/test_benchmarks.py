"""The benchmarks measure what they say (the gap, rows, memory), and their report is whole."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from regatta.benchmarks import _consistency, _exact, _faults, _report, _saved
from regatta.benchmarks._aims import aims
from regatta.benchmarks._csv_jobs import READERS
from regatta.benchmarks._data import (
    Optimum,
    Recipe,
    generate,
    open_prepared,
    write_csv,
    write_prepared,
)
from regatta.benchmarks._exact import MODULE, ONE, PEER, TWO, Agreement, ExactResults
from regatta.benchmarks._processes import ContenderProcess, memory_of_tree, run_measured
from regatta.benchmarks.compare import Results, planned
from regatta.benchmarks.compare import main as bench


def test_the_gap_is_the_loss_over_the_optimum_less_one(tmp_path: Path) -> None:
    rows = generate(tmp_path, 5000)
    optimum = Optimum(rows)
    X = np.column_stack([rows.X.astype(np.float64), np.ones(len(rows.X))])
    best, *_ = np.linalg.lstsq(X, rows.y.astype(np.float64), rcond=None)
    assert optimum.parameters == pytest.approx(best, abs=1e-9)
    assert optimum.gap(best) == pytest.approx(0.0, abs=1e-12)
    other = best + np.random.default_rng(0).normal(size=len(best))
    loss, least = (0.5 * np.mean((X @ w - rows.y) ** 2) for w in (other, best))
    assert optimum.gap(other) == pytest.approx((loss - least) / least)


def test_contenders_count_their_rows_and_reach_the_optimum(tmp_path: Path) -> None:
    generate(tmp_path, 20_000)
    for name in ("regatta-0", "regatta-1", "sklearn"):
        with ContenderProcess(name, tmp_path) as contender:
            done = contender.ask(do="run_pass", batch=1024, epochs=3)
            assert done["rows"] == 60_000
            assert done["seconds"] > 0
            reached = contender.ask(
                do="converge", batch=1024, epochs=40, rate=0.2, tolerance=1e-2
            )  # fmt: skip
            assert reached["gap"] < 1e-2
            assert reached["until"] > 0
            if name != "sklearn":  # whose slices are another run than its fit
                assert reached["until"] <= reached["seconds"]
            never = contender.ask(do="converge", batch=1024, epochs=1, rate=0.2, tolerance=0.0)
            assert never["until"] is None
            assert contender.peak_bytes(do="run_pass", batch=1024, epochs=1) > 10e6


def test_memory_counts_what_a_child_holds() -> None:
    code = (
        "import sys; held = bytearray(80_000_000); print(len(held), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 80e6 < memory_of_tree(child.pid) < 120e6
        child.communicate()


def test_the_report_has_every_part(tmp_path: Path) -> None:
    results = Results(1000, 2)
    for position, name in enumerate(_report.NAMES, start=1):
        for batch in (1024, 8192, 65_536):
            results.rates[name, batch] = [position * 1e6, position * 3e6]
            results.times[name, batch] = [position * 0.1, position * 0.3]
            results.stopped[name, batch] = [position * 0.01, position * 0.02]
            results.epochs[name, batch] = position
        results.memory[name] = 50_000_000
    results.read_speed, results.read_memory = {"Regatta": [3e8, 3e8]}, {"Regatta": 80_000_000}
    results.whole_runs[1024] = {
        "rows_per_second": 1e7, "seconds": {"import": 1.0, "train": 2.0, "total": 3.5},
        "memory": 60_000_000,
    }  # fmt: skip
    assert results.ratio("rates", ("torch", 1024), ("regatta-0", 1024)) == 5.0
    assert results.ratio("rates", ("torch", 7), ("regatta-0", 1024)) is None
    _report.write(results, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    for name in _report.NAMES.values():
        assert name in text
    assert "5.00 (5.00–5.00)" not in text
    assert "10.0 (5.00–15.0)" in text
    assert "0.200 (0.100–0.300), 1 |" in text
    aim, beside = (each for each in aims(results) if "SGDRegressor" in each.peer)
    assert aim.measured == pytest.approx(4 / 3)
    assert not aim.reached
    assert "SGDRegressor(average=True, max_iter=4).fit" in text
    assert beside.measured == pytest.approx(4 / 3)
    assert beside.bound == "none"
    assert "Regatta, 2 workers is 1.5 times Regatta, 1 worker" in text
    assert (tmp_path / "images" / "benchmarks.svg").read_text().startswith("<svg")


def test_generated_rows_are_the_same_in_memory_and_in_the_file(tmp_path: Path) -> None:
    recipe = Recipe(n_features=6)
    write_prepared(tmp_path / "prepared", recipe, 3000)
    write_csv(recipe, 3000, tmp_path / "rows.csv")
    rows = open_prepared(tmp_path / "prepared")
    assert rows.shape == (3000, 8)
    assert (rows[:, 6] == 1.0).all()
    written = np.loadtxt(tmp_path / "rows.csv", delimiter=",", skiprows=1)
    assert written.astype(np.float32) == pytest.approx(rows[:, [0, 1, 2, 3, 4, 5, 7]], abs=0)
    assert rows[:, [0, 1, 2, 3, 4, 5, 7]].std(axis=0) == pytest.approx(1.0, abs=0.1)


def test_a_longer_file_begins_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regatta.benchmarks._data.BLOCK_CELLS", 1000)
    short, long = (np.concatenate(list(Recipe(10).blocks(n))) for n in (250, 1000))
    assert len(short) == 250
    assert np.array_equal(short, long[:250])
    assert len(np.unique(long[:, 0])) == 1000


def test_exact_contenders_choose_the_same_alpha(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    write_prepared(folder, Recipe(), 5000)
    answers = []
    for name in (ONE, TWO):
        with ContenderProcess(name, folder, MODULE) as contender:
            assert contender.ask(do="start_seconds")["seconds"] > 0
            assert contender.ask(do="statistics")["seconds"] > 0
            answers.append(contender.ask(do="fit", model="lasso"))
            ridge = contender.ask(do="fit", model="ridge")
    assert answers[0]["coefficients"] == answers[1]["coefficients"]
    assert set(answers[0]["parts"]) == {"pass", "solve"}
    with ContenderProcess(PEER, folder, MODULE) as peer:
        found = _exact.agreement(answers[0], peer.ask(do="precise_lasso", tol=1e-10))
        assert found.same_alpha
        assert found.difference < 1e-8
        assert peer.ask(do="lasso")["alpha"] == pytest.approx(found.alpha, rel=0.3)
        for order in ("ridge", "ridge_leaving_one_out"):
            theirs = peer.ask(do=order, alphas=ridge["alphas"][::10])
            assert theirs["coefficients"] == pytest.approx(ridge["coefficients"], abs=0.01)


@pytest.mark.parametrize("reader", READERS)
def test_from_a_file_all_come_to_the_same_coefficients(tmp_path: Path, reader: str) -> None:
    if reader == "polars":
        pytest.importorskip("polars")
    csv, home = tmp_path / "rows.csv", tmp_path / "home"
    write_csv(Recipe(4), 3000, csv)
    module = ["-m", "regatta.benchmarks._csv_jobs"]
    theirs, peak = run_measured(*module, reader, "ridge", str(csv), "2", home=home)
    assert peak > 30e6
    assert not home.exists()
    scanned, _ = run_measured(*module, reader, "scan", str(csv), "2", home=home)
    sums = np.loadtxt(csv, delimiter=",", skiprows=1).sum(axis=0)
    assert scanned["sums"] == pytest.approx(sums, rel=1e-9)
    ours, _ = run_measured(*module, "regatta", "ridge", str(csv), "2", home=home)
    assert ours["rows"] == theirs["rows"] == 3000
    assert ours["coefficients"] == pytest.approx(theirs["coefficients"], abs=2e-3)
    assert sum(ours["parts"].values()) == pytest.approx(ours["seconds"], rel=0.2)


def measured() -> ExactResults:
    results = ExactResults(_exact.QUICK, reader="polars", csv_bytes=10**9)
    parts = {"import": 1.5, "prepare": 0.3, "pass": 0.2}
    for job in ("lasso", "ridge", "wide", "csv lasso", "csv ridge", "larger csv"):
        results.add(job, TWO, {"seconds": 2.0, "parts": parts}, 100_000_000)
        results.add(job, TWO, {"seconds": 4.0, "parts": parts}, 90_000_000)
    for job in ("lasso", "ridge", "wide"):
        results.add(job, PEER, {"seconds": 102.0}, 1_000_000_000)
    for job, seconds in (("csv lasso", 11.0), ("csv ridge", 2.0)):
        answer = {"seconds": seconds, "parts": {"read": 1.2, "fit": 0.1}}
        results.add(job, PEER, answer, 850_000_000)
    results.add("csv scan", PEER, {"seconds": 1.0}, 50_000_000)
    results.add("csv lasso", ONE, {"seconds": 3.4, "parts": parts}, 80_000_000)
    for name, seconds in ((ONE, 1.0), (TWO, 0.5)):
        results.add("statistics", name, {"seconds": seconds})
    results.start_seconds = {ONE: 0.2, TWO: 0.4}
    results.agreement = Agreement(3e-11, 0.25, 0.25)
    return results


def test_aims_are_judged_and_what_was_missed_is_explained(tmp_path: Path) -> None:
    results = Results(1000, 2, steps=False, exact=measured())
    found = {each.job: each for each in aims(results)}
    assert len(found) == 13
    lasso = found["20,000 × 30 in memory → lasso path"]
    assert (lasso.measured, lasso.reached) == (51.0, True)  # the turn that both have
    ridge = found["20,000 × 30 in memory → ridge path"]
    assert (ridge.measured, ridge.reached) == (51.0, False)
    missed = {name for name, each in found.items() if not each.reached}
    assert missed == {
        ridge.job,
        "1000 MB of CSV → ridge",
        "its time over that of polars adding up the columns",
    }
    assert found["a CSV 4 times larger: peak memory"].measured == 1.0
    assert found["the same, memory: polars + LassoCV holds"].measured == 8.5
    _report.write(results, tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    assert text.count("**missed**") == 3
    assert "3 s, most of it import (import 1.5 s, prepare 0.3 s, pass 0.2 s)" in text
    assert "polars reads the file in 1.2 s; the import, 667 MB/s" in text
    assert "no coefficient differs by more than 3e-11 of the largest" in text
    assert "0.20 s for 1, 0.40 s for 2" in text
    picture = (tmp_path / "images" / "benchmarks.svg").read_text()
    assert picture.count("<rect") == 1 + 5


def test_a_part_measured_alone_keeps_the_figures_of_the_other(tmp_path: Path) -> None:
    steps = Results(1000, 2, machines={"steps": "A small machine."})
    for key in (("regatta-2", 1024), ("sklearn", 1024), ("regatta-2", 8192)):
        steps.rates[key], steps.times[key], steps.epochs[key] = [1e6, 2e6], [0.1, 0.3], 3
    steps.whole_runs[1024] = {
        "rows_per_second": 1e7, "seconds": {"import": 1.0, "train": 2.0, "total": 3.5},
        "memory": 60_000_000,
    }  # fmt: skip
    _report.write(steps, tmp_path)
    exact = Results(7, 7, steps=False, exact=measured(), machines={"exact": "A large machine."})
    _saved.complete(exact, tmp_path / "benchmarks.json")
    _report.write(exact, tmp_path)
    assert len(aims(exact)) == len(aims(steps)) + 13
    text = (tmp_path / "benchmarks.md").read_text()
    assert "Exact: A large machine.\n\nSteps: A small machine." in text
    again = Results(1000, 2, machines={"steps": "A small machine."})
    _saved.complete(again, tmp_path / "benchmarks.json")
    assert again.exact == exact.exact
    assert not again.times  # they are to be measured
    steps.exact, steps.machines = exact.exact, exact.machines
    for name in _saved.OF_STEPS:
        assert getattr(exact, name) == getattr(steps, name), name


@pytest.mark.parametrize("only", ["exact", "steps"])
def test_one_part_is_planned_alone(only: str) -> None:
    chosen = argparse.Namespace(quick=True, rows=None, turns=None, only=only)
    results = planned(chosen)
    assert (results.exact is not None, results.steps) == (only == "exact", only == "steps")
    assert list(results.machines) == [only]


def test_another_alpha_is_no_agreement() -> None:
    exact = measured()
    exact.agreement = Agreement(3e-11, 0.25, 0.26)
    results = Results(1000, 2, steps=False, exact=exact)
    (found,) = [each for each in aims(results) if each.peer == "LassoCV(tol=1e-10)"]
    assert "another alpha" in found.job
    assert not found.reached


def test_what_could_not_be_measured_is_told(tmp_path: Path) -> None:
    results = ExactResults(_exact.QUICK, reader="polars")
    with results.surviving("Many features"):
        run_measured("-c", "import sys; sys.exit(3)", home=tmp_path)
    _report.write(Results(1000, 2, steps=False, exact=results), tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    assert "Not measured: Many features: A measured process ended with 3." in text


def test_a_contender_that_dies_costs_its_own_figures_only(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    write_prepared(folder, Recipe(), 500)
    results = ExactResults(_exact.QUICK)
    with results.surviving("In memory"), ContenderProcess(PEER, folder, MODULE) as peer:
        _exact.fit(results, "lasso", peer, do="lasso")
        psutil.Process(peer.pid).kill()
        _exact.fit(results, "lasso", peer, do="lasso")
    assert len(results.seconds["lasso", PEER]) == 1
    assert results.failures == ["In memory: The contender sklearn ended: -9."]


def test_the_fastest_reader_is_one_that_scikit_learn_can_stand_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {"pandas": 3.0, "pyarrow": 2.0, "polars": 4.0}
    monkeypatch.setattr(_exact, "done_by", lambda words, folder: ({"seconds": times[words[0]]}, 0))
    assert _exact.fastest_reader(tmp_path / "rows.csv", tmp_path) == "pyarrow"


# Consistency


@pytest.mark.parametrize("way", _consistency.WAYS)
def test_the_ways_to_agree_are_run_on_the_same_rows(tmp_path: Path, way: str) -> None:
    generate(tmp_path, 20_000)
    course = _consistency.run(tmp_path, _consistency.Case(way, 2), steps=1500)
    assert course.gap < 1e-2 and course.total > 0
    assert (course.mean_staleness > 0) == (way == "async")
    reached = [seconds for seconds in course.seconds.values() if seconds is not None]
    assert reached == sorted(reached) and all(seconds <= course.total for seconds in reached)


def test_it_is_said_plainly_when_more_workers_lose() -> None:
    times: dict[tuple[str, int], float | None] = {}
    times |= {("sync", 1): 2.0, ("sync", 2): 1.0, ("sync", 4): 3.0}
    times |= {("async", 1): 1.0, ("async", 2): 1.02, ("async", 4): None}
    times |= {("local", 1): 1.0, ("local", 2): 1.0, ("local", 4): 1.0}
    courses = {
        _consistency.Case(*key): [
            _consistency.Course({1e-3: 0.1, 1e-4: at}, {1e-3: 1, 1e-4: 2}, 0, 4)
        ]
        for key, at in times.items()
    }
    told = _consistency.markdown(courses, 1000, 1)
    assert "- sync: 2 workers win: they take 0.50 of the time" in told
    assert "- sync: 4 workers lose: they take 1.50 times as long to 1e-4 as 1." in told
    assert "- async: 2 workers are as soon at 1e-4 as 1 (1.02 of the time)." in told
    assert "- async: 4 workers: no comparison, since 4 did not reach 1e-4." in told
    assert "| async | 4 | 0.10 | 1 | never |" in told


def test_faults_are_made_up_for_while_they_are_timed(tmp_path):
    generate(tmp_path, 4000)
    times = _faults.worker_faults(tmp_path, signal.SIGKILL, 1)
    (noticed,), (longest,), (replaced,) = times.values()
    assert 0 < noticed < replaced and longest > 0
    told = _faults.markdown({"worker, SIGKILL": times}, 4000)
    assert f"| worker, SIGKILL | 1 | noticed | {noticed:.3f} | {noticed:.3f} |" in told


def test_the_import_is_measured_beside_readers(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["--only", "import", "--rows", "2000", "--turns", "1"]) == 0
    told = capsys.readouterr().out
    assert told.count("| Regatta |") == 4 and told.count("| 100% |") >= 2
    assert told.count(" GB of numbers") == told.count(" GB of trips") == 2
    assert told.count("A second import of the same file") == told.count(" as on 64 cores") == 4
