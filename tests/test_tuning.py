"""Learning rate and batch size that are changed while a run goes on."""

from __future__ import annotations

import signal
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regatta.cli import main
from regatta.configuration import TrainingConfig
from regatta.parameter_server.batches import BatchPlan, Stretch, shard_offsets
from regatta.parameter_server.data_source import DataSource
from regatta.runs import service
from regatta.runs.metrics_store import MetricsWriter
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.runs.tuning import Change, Tuning, batch_size_of, learning_rate_of
from regatta.solvers.sgd import MiniBatchSGD
from regatta.solvers.unsynchronised import UnsynchronisedSGD
from regatta.tests import crew
from regatta.tests.crew import BATCH, LiveRuns, wait_for
from regatta.utils import UserError

WAYS: dict[str, dict[str, Any]] = {
    "sync": {},
    "async": {"consistency": "async", "staleness": 4},
    "local": {"consistency": "local", "sync_every": 4},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    return crew.rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def runs(tmp_path: Path, regatta_home: Path, monkeypatch: pytest.MonkeyPatch) -> LiveRuns:
    return crew.make(tmp_path, regatta_home, monkeypatch)


# Batches of another size


@given(
    rows=st.integers(1, 5000),
    shards=st.integers(1, 16),
    sizes=st.lists(st.integers(1, 5000), min_size=2, max_size=4),
    epochs=st.integers(1, 5),
    data=st.data(),
)
def test_a_new_batch_size_goes_on_in_the_same_epoch(rows, shards, sizes, epochs, data):
    stretch = Stretch(BatchPlan(shard_offsets(rows, shards), sizes[0], seed=0))
    batch = 0
    for size in sizes[1:]:
        total = epochs * stretch.plan.rounds - stretch.shift
        batch = data.draw(st.integers(batch, max(batch, total - 1)))
        epoch, turn = stretch.place(batch)
        following = stretch.followed_by(size, batch)
        new_epoch, new_turn = following.place(batch)
        assert new_epoch == epoch
        done, new_done = turn / stretch.plan.rounds, new_turn / following.plan.rounds
        assert done - 1 / following.plan.rounds < new_done <= done
        # The epochs that are left are whole ones.
        end = epochs * following.plan.rounds - following.shift
        assert following.place(end) == (epochs, 0)
        stretch = following


def tuned(source: DataSource, n_workers: int, logs: Path, way: str, **given: Any) -> Any:
    """Train to the end, with changes after fixed steps; the solver."""
    settings = crew.settings_of(source, batch_size=512, **WAYS[way])
    changes = {
        40: lambda solver: solver.set_batch_size(1500),
        70: lambda solver: solver.set_rate(0.003),
        80: lambda solver: solver.set_batch_size(100),
    }
    with crew.solving(source, n_workers, logs, settings, **given) as (_, solver):
        assert isinstance(solver, MiniBatchSGD)
        while not solver.finished:
            due = [step for step in changes if step <= solver.step_count]
            for step in due:
                changes.pop(step)(solver)
            solver.step()
        assert not changes
        scores = solver.problem.training_scores(solver.parameters)
        assert scores.loss < 0.1  # half the target's variance is 0.5
        return solver


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_the_bytes_do_not_depend_on_the_workers(source, tmp_path, optimizer):
    alone = tuned(source, 0, tmp_path, "sync", optimizer=optimizer)
    for n_workers in (1, 3):
        ours = tuned(source, n_workers, tmp_path, "sync", optimizer=optimizer)
        assert ours.parameters.tobytes() == alone.parameters.tobytes()
    assert alone.epoch == 20 and alone.passes == pytest.approx(20)


@pytest.mark.parametrize("way", ["async", "local"])
@pytest.mark.parametrize("n_workers", [0, 3])
def test_workers_that_do_not_wait_take_batches_of_the_new_size(source, tmp_path, way, n_workers):
    solver = tuned(source, n_workers, tmp_path, way)
    assert isinstance(solver, UnsynchronisedSGD)
    assert solver.passes == pytest.approx(20)
    assert solver.total_steps > 2 * 20 * 12  # a pass in batches of 512 rows has 12 of them
    assert solver._protocol.finished
    solver._protocol.check()


def test_local_steps_of_one_worker_are_those_of_one_process(source, tmp_path):
    alone, ours = (tuned(source, n, tmp_path, "local") for n in (0, 1))
    assert ours.parameters.tobytes() == alone.parameters.tobytes()


def test_asynchronous_steps_one_by_one_are_synchronous_ones(source, tmp_path):
    """The gradients of a stretch are the same wherever they are summed."""
    ours, expected = (tuned(source, 0, tmp_path, way) for way in ("async", "sync"))
    # One batch is out when the size changes: it is of the old one.
    np.testing.assert_allclose(ours.parameters, expected.parameters, rtol=0.05, atol=0.01)


@pytest.mark.parametrize("way", WAYS)
def test_a_changed_solver_goes_on_from_what_it_saved(source, tmp_path, way):
    settings = crew.settings_of(source, batch_size=512, **WAYS[way])
    with crew.solving(source, 0, tmp_path, settings) as (_, solver):
        assert isinstance(solver, MiniBatchSGD)
        for _ in range(30):
            solver.step()
        solver.set_batch_size(300)
        solver.set_rate(0.004)
        for _ in range(7):
            solver.step()
        state = solver.state()
        arrays = {name: value.copy() for name, value in solver.arrays().items()}
        while not solver.finished:
            solver.step()
        expected = solver.parameters.tobytes()
    with crew.solving(source, 0, tmp_path, settings) as (_, again):
        again.restore(state, arrays)
        while not again.finished:
            again.step()
        assert again.parameters.tobytes() == expected


@pytest.mark.parametrize("schedule", ["cosine", "step", "inverse-scaling", "constant"])
def test_a_rate_is_that_of_the_next_step_and_falls_on(source, tmp_path, schedule):
    settings = crew.settings_of(source, batch_size=512)
    with crew.solving(source, 0, tmp_path, settings, schedule=schedule) as (_, solver):
        assert isinstance(solver, MiniBatchSGD)
        for _ in range(50):
            solver.step()
        before, taken = solver.next_rate, []
        solver.set_rate(0.01)
        solver.set_batch_size(256)  # which the schedule does not feel
        assert solver.next_rate == pytest.approx(0.01, rel=0.02)
        while not solver.finished:
            solver.step()
            taken.append(solver.rate)
        assert taken[0] == pytest.approx(0.01, rel=0.02)
        assert taken == sorted(taken, reverse=True)
        assert (taken[-1] < 0.01) == (schedule != "constant") and before != 0.01


# What is asked for


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "Nothing was asked"),
        ({"learning_rate": 0.0}, "above 0, and 0 is none"),
        ({"learning_rate": -1.0}, "above 0"),
        ({"learning_rate": float("nan")}, "above 0, and nan is none"),
        ({"learning_rate": float("inf")}, "above 0"),
        ({"batch_size": 0}, "1 row or more"),
        ({"batch_size": 5, "at_step": -1}, "no step -1"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(wrong, told):
    with pytest.raises(UserError, match=told):
        Tuning(**wrong)


@pytest.mark.parametrize("text", ["", "fast", "1e999", "nan", "-3", "0"])
def test_wrong_words_are_refused_in_a_sentence(text):
    for read in (learning_rate_of, batch_size_of):
        with pytest.raises(UserError, match=r"learning rate|batch"):
            read(text)
    assert batch_size_of("1,024") == 1024


@given(
    rate=st.none() | st.floats(1e-12, 1e3),
    rows=st.none() | st.integers(1, 10**9),
    step=st.none() | st.integers(0, 10**9),
)
def test_a_tuning_survives_its_command(rate, rows, step):
    if rate is None and rows is None:
        return
    tuning = Tuning(rate, rows, step)
    assert Tuning.from_command(tuning.to_command()) == tuning


def test_changes_are_told_in_a_sentence():
    assert Change("batch_size", 1024, 64, 10).message == (
        "Batch size 1,024 → 64 rows a step after step 10."
    )
    derived = Change("learning_rate", 0.012345, 0.001, 10, derived=True)
    assert derived.message == (
        "Learning rate 0.01235 → 0.001 after step 10, which is safe with batches of this size."
    )
    assert Change.from_json(derived.to_json()) == derived


# A run


def in_force(runs: LiveRuns, run_id: str) -> tuple[str, int | None]:
    record = runs.store.get(run_id)
    return f"{record.learning_rate:.6g}", record.batch_size


def told(runs: LiveRuns, run_id: str) -> list[str]:
    kinds = ("batch_changed", "rate_changed")
    return [event["message"] for kind in kinds for event in runs.events(run_id, kind)]


def is_taken(runs: LiveRuns, run_id: str, tuned: int) -> bool:
    return runs.store.get(run_id).tuned > tuned


def ask(runs: LiveRuns, run_id: str, *changes: Tuning) -> None:
    for change in changes:
        before = runs.store.get(run_id).tuned
        service.tune(run_id, change, store=runs.store)
        wait_for(partial(is_taken, runs, run_id, before))


CHANGES = (
    Tuning(learning_rate=0.02, at_step=70),
    # Batches of another size are not held up by the gate: soon after, the run is over.
    Tuning(batch_size=200, at_step=110),
)


def test_a_synchronous_run_with_changes_ends_at_the_same_bytes_after_a_crash(runs):
    plain = runs.undisturbed(workers=0)
    assert plain["changes"] == []
    results = []
    for workers, crashes in ((1, False), (3, True)):
        runs.gate.touch()
        run_id = runs.create(workers=workers)
        process = runs.start(run_id)
        try:
            runs.goes_on(run_id)
            ask(runs, run_id, *CHANGES)
            if crashes:
                for step in (30, 85):  # with both to come, and between the two
                    runs.goes_on(run_id, max(1, step - runs.step(run_id)))
                    process.kill()
                    process.wait(10)
                    process = runs.start(run_id)
                    runs.goes_on(run_id)
            results.append(runs.finish(process, run_id))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait(10)
        assert len(told(runs, run_id)) == 2
    first, second = results
    assert first["weights_sha256"] == second["weights_sha256"] != plain["weights_sha256"]
    assert first["changes"] == second["changes"]
    rate, rows = first["changes"]
    assert (rate["name"], rate["step"], rate["after"]) == ("learning_rate", 70, 0.02)
    assert (rows["name"], rows["step"]) == ("batch_size", 110)
    assert (rows["before"], rows["after"]) == (BATCH, 200)
    assert first["batch_size"] == BATCH and first["learning_rate"] == plain["learning_rate"]


@pytest.mark.parametrize("way", WAYS)
def test_a_paused_run_is_changed_and_a_resumed_one_keeps_it(runs, way):
    run_id = runs.create(workers=1, schedule="constant", **WAYS[way])
    with runs.started(run_id) as process:
        runs.goes_on(run_id)
        runs.store.send_command(run_id, "pause")
        wait_for(lambda: runs.store.get(run_id).state is RunState.PAUSED)
        ask(runs, run_id, Tuning(learning_rate=0.004))
        process.kill()  # before anything else is saved
        process.wait(10)
    with runs.started(run_id) as process:
        wait_for(lambda: runs.store.get(run_id).state is RunState.RUNNING)
        runs.goes_on(run_id)
        assert in_force(runs, run_id) == ("0.004", BATCH)
        ask(runs, run_id, Tuning(batch_size=100))
        wait_for(lambda: in_force(runs, run_id) == ("0.004", 100))
        result = runs.finish(process, run_id)
    names = [(each["name"], each["after"]) for each in result["changes"]]
    assert names == [("learning_rate", pytest.approx(0.004)), ("batch_size", 100)]
    assert result["metrics"]["train"]["r2"] > 0.97
    if way != "sync":
        runs.updates(run_id)


def test_a_rate_that_nobody_gave_follows_the_batch_size(runs):
    run_id = runs.create(workers=0, schedule="constant")
    with runs.started(run_id) as process:
        runs.goes_on(run_id)
        before = runs.store.get(run_id).learning_rate
        ask(runs, run_id, Tuning(batch_size=16))
        result = runs.finish(process, run_id)
    rows, rate = result["changes"]
    assert rows["name"] == "batch_size" and rate["name"] == "learning_rate" and rate["derived"]
    assert before is not None and rate["after"] < before
    assert "safe with batches of this size" in told(runs, run_id)[1]


def test_the_command_says_what_is_in_force(runs, regatta):
    run_id = runs.create(workers=1, schedule="constant")
    with runs.started(run_id):
        runs.goes_on(run_id)
        done = regatta("runs", "set", run_id, "--learning-rate", "0.0125")
        assert done.stdout == (
            f"Run {run_id} is running, with learning rate 0.0125 and {BATCH} rows a step.\n"
        )
        later = regatta("runs", "set", run_id, "--batch-size", "1,000", "--at-step", 90_000)
        assert later.stdout == f"Run {run_id} makes the change once 90,000 steps are taken.\n"
        for arguments, told_ in (
            (["--learning-rate", "0"], "A learning rate is a number above 0, and 0 is none."),
            (["--learning-rate", "nan"], "and nan is none."),
            (["--learning-rate", "fast"], "and 'fast' is none."),
            (["--batch-size", "0"], "A batch has 1 row or more, and not 0."),
            (["--batch-size", "20000"], "too large: the run trains on 9,"),
            ([], "Nothing was asked to be changed."),
        ):
            refused = regatta("runs", "set", run_id, *arguments)
            assert refused.returncode == 2 and told_ in refused.stderr, refused.stderr
            assert len(refused.stderr.strip().splitlines()) <= 2
        runs.store.send_command(run_id, "pause")
        wait_for(lambda: runs.store.get(run_id).state is RunState.PAUSED)
        taken = runs.store.get(run_id).step
        past = regatta("runs", "set", run_id, "--learning-rate", "0.01", "--at-step", 3)
        assert past.returncode == 2
        assert f"Run {run_id} has taken {taken:,} steps already; --at-step is 3." in past.stderr
        assert "Leave --at-step out to change it now." in past.stderr
        assert runs.store.get(run_id).learning_rate == 0.0125
    over = regatta("runs", "set", run_id, "--batch-size", 3)
    assert over.returncode == 2 and "can be changed only while it goes on" in over.stderr


def test_a_step_is_past_by_the_figures_that_are_newer_than_the_record(regatta_home):
    store = RunStore(regatta_home)
    record = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED)
    directory = store.directory(record.run_id)
    with directory.lock():
        store.update_state(record.run_id, RunState.STARTING)
        store.update_state(record.run_id, RunState.RUNNING, step=10, batch_size=64)
        service.tune(record.run_id, Tuning(batch_size=4, at_step=10), store=store)
        with closing(MetricsWriter(directory.metrics)) as writer:
            writer.add("points", step=2500)
        for step in (0, 10, 2499):
            with pytest.raises(UserError, match=f"taken 2,500 steps already; .* is {step:,}."):
                service.tune(record.run_id, Tuning(batch_size=4, at_step=step), store=store)
        service.tune(record.run_id, Tuning(batch_size=4, at_step=2500), store=store)
        assert len(store.take_commands(record.run_id)) == 2


@pytest.mark.parametrize(
    "asked", [["--learning-rate", "0.02"], ["--batch-size", "128", "--learning-rate", "0.01"]]
)
def test_the_command_says_that_a_paused_run_makes_the_change_later(
    regatta_home, capsys, asked, monkeypatch
):
    """A run that is paused within a step takes a change down and makes it after that step."""
    store = RunStore(regatta_home)
    record = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED)
    run_id, send = record.run_id, RunStore.send_command

    def sent_and_taken_down(self, *arguments):
        send(self, *arguments)
        return store.update(run_id, tuned=1)

    monkeypatch.setattr(RunStore, "send_command", sent_and_taken_down)
    with store.directory(run_id).lock():
        store.update_state(run_id, RunState.STARTING)
        store.update_state(run_id, RunState.RUNNING, batch_size=64, learning_rate=0.01)
        store.update_state(run_id, RunState.PAUSED)
        assert main(["runs", "set", run_id, *asked]) == 0
        assert capsys.readouterr().out == (
            f"Run {run_id} is paused and makes the change when it goes on. "
            "Now: learning rate 0.01 and 64 rows a step.\n"
        )


def test_runs_without_mini_batches_refuse(regatta_home, tmp_path):
    store = RunStore(regatta_home)
    for solver, why in (("exact", "takes no steps"), ("fista", "takes all rows")):
        record = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED)
        with store.directory(record.run_id).lock():
            store.update_state(record.run_id, RunState.STARTING)
            with pytest.raises(UserError, match="still starting"):
                service.tune(record.run_id, Tuning(batch_size=4), store=store)
            store.update_state(record.run_id, RunState.RUNNING, solver=solver)
            with pytest.raises(UserError, match=why):
                service.tune(record.run_id, Tuning(batch_size=4), store=store)
            store.update_state(record.run_id, RunState.FINISHED)
        with pytest.raises(UserError, match="is finished"):
            service.tune(record.run_id, Tuning(batch_size=4), store=store)


@pytest.mark.parametrize(
    "wrong", ["set", "set batch_size=0", "set x=1", "set batch_size", "kill 1"]
)
def test_the_store_takes_no_other_words(regatta_home, wrong):
    store = RunStore(regatta_home)
    record = store.create(TrainingConfig(path="rows.csv", target="y"), RunState.QUEUED)
    with pytest.raises(UserError):
        store.send_command(record.run_id, wrong)
