"""``regatta train``: make a run and work on it here, or queue it."""

from __future__ import annotations

import argparse
import contextlib
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from regatta.cli import output
from regatta.cli.progress import ProgressBar
from regatta.configuration import (
    ReadingOptions,
    TrainingConfig,
    is_repeatable,
    parse_value,
    resolve,
    resolve_reading,
)
from regatta.ingest import cache
from regatta.runs import service
from regatta.runs.states import RunState
from regatta.runs.store import RunStore
from regatta.runs.tuning import Change
from regatta.utils import UserError, available_cores, counted, home, read_json

LARGEST_EFFECTS = 8
MOST_WARNINGS = 5
SOON_BYTES = 16_000_000  # a file of this size is read in about a second


def train(chosen: argparse.Namespace) -> int:
    """``regatta train FILE --target NAME``."""
    config = service.check_config(configuration(chosen))
    warn_of_many_workers(config)
    warn_of_unused(config)
    store = RunStore(home())
    if chosen.detach:
        with nothing_left_of_mistakes():
            check_columns(config)
        return queued(service.submit(config, store=store).run_id, as_json=chosen.json)
    with fresh_run(config, store) as run_id:
        return work_on(run_id, store, as_json=chosen.json)


@contextlib.contextmanager
def fresh_run(config: TrainingConfig, store: RunStore) -> Iterator[str]:
    """A new run; a user's mistake leaves neither it nor what was made of the file for it."""
    import regatta.coordinator  # noqa: F401 -- slow: an impatient Ctrl-C meets no run yet

    run_id = store.create(config, RunState.QUEUED, detached=False).run_id
    with nothing_left_of_mistakes():
        try:
            yield run_id
        except UserError:
            store.delete(run_id)
            raise


@contextlib.contextmanager
def nothing_left_of_mistakes() -> Iterator[None]:
    """A user's mistake in the block leaves no prepared copy of a file that was not there before."""
    copies = prepared_copies()
    try:
        yield
    except UserError:
        for copy in prepared_copies() - copies:
            cache.remove(copy)
        raise


def check_columns(config: TrainingConfig) -> None:
    """Refuse a target or a column that the file cannot give, where that is known soon: the file was
    read before, or it is small, and then what is read now is there for the run."""
    from regatta import data_pipeline
    from regatta.ingest.importer import known_table

    path = Path(config.path)
    table = known_table(path, config.reading)
    if table is None and path.stat().st_size <= SOON_BYTES:
        table = data_pipeline.import_csv(path, config.reading)
    if table is not None:
        data_pipeline.check_columns(table, config.target, config.drop)


def work_quietly(config: TrainingConfig, store: RunStore) -> dict[str, Any]:
    """Be the coordinator of a new run and return its result; stopped runs end the command."""
    from regatta.coordinator import run_training

    with fresh_run(config, store) as run_id, ProgressBar() as bar:
        result = run_training(run_id, store, progress=bar)
    if result["state"] != str(RunState.FINISHED):
        raise KeyboardInterrupt
    return result


def configuration(
    chosen: argparse.Namespace, defaults: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """The run's settings from the flags, the environment, the file of settings, the defaults."""
    given = _given(chosen, TrainingConfig)
    return resolve(given, config_file=home() / "config.toml", defaults=defaults)


def reading_options(chosen: argparse.Namespace) -> ReadingOptions:
    """How the file is to be read, from where `configuration` takes it."""
    return resolve_reading(_given(chosen, ReadingOptions), config_file=home() / "config.toml")


def _given(chosen: argparse.Namespace, options: type[ReadingOptions]) -> dict[str, Any]:
    """The values of the flags."""
    given: dict[str, Any] = {}
    for each in fields(options):
        if hasattr(chosen, each.name):
            value = getattr(chosen, each.name)
            # A column's name may hold a comma, so what may be given again is taken as it is.
            given[each.name] = tuple(value) if is_repeatable(each) else parse_value(each, value)
    return given


def warn_of_many_workers(config: TrainingConfig) -> None:
    """Say so if more workers are asked for than can be of use."""
    asked, cores = config.workers or 0, available_cores()
    if asked > config.shards:
        shards = counted(config.shards, "shard")
        output.say_aside(f"{asked:,} workers for {shards}: {config.shards:,} will work.")
    elif asked > cores:
        shared = counted(cores, "core")
        output.say_aside(f"{asked:,} workers share {shared}: fewer would be faster.")


def warn_of_unused(config: TrainingConfig) -> None:
    """Name the options that will have no effect, where they alone tell it."""
    from regatta.solvers import choose

    for note in choose.without_effect(config):
        output.say_aside(note)


def prepared_copies() -> set[Path]:
    """The prepared copies of CSV files that there are now."""
    return {path for _, path in cache.entries()}


def queued(run_id: str, *, as_json: bool) -> int:
    """Say that a run waits for the supervisor."""
    if as_json:
        output.print_json({"run_id": run_id, "state": str(RunState.QUEUED)})
    else:
        print(run_id)
        output.say_aside(f"queued; `regatta runs show {run_id}` tells how it goes.")
    return 0


def work_on(run_id: str, store: RunStore, *, as_json: bool) -> int:
    """Be the coordinator of a run, with a progress bar, and tell the result."""
    from regatta.coordinator import run_training

    try:
        with ProgressBar() as bar:
            result = run_training(run_id, store, progress=bar)
    except KeyboardInterrupt:  # a second Ctrl-C while the first was being obeyed
        output.say_aside(f"killed; `regatta runs resume {run_id}` takes the run up again.")
        return 128 + signal.SIGINT
    return tell(result, as_json=as_json)


def tell(result: Mapping[str, Any], *, as_json: bool) -> int:
    """Print a result; the exit code follows the signal that stopped the run, if one did."""
    stopped = result.get("state") != str(RunState.FINISHED)
    if as_json:
        output.print_json({key: value for key, value in result.items() if key != "signal"})
    elif stopped:
        run_id = result["run_id"]
        output.say_aside(
            f"{result.get('state')} at step {result.get('step') or 0:,}; "
            f"`regatta runs resume {run_id}` goes on from there."
        )
    else:
        print(summary(result))
    number = result.get("signal")
    return 128 + int(number) if number else 0


def summary(result: Mapping[str, Any]) -> str:
    """A finished run in plain text: scores, speed, what matters most, what to do next."""
    run_id, seconds = result["run_id"], result["seconds"]
    workers = result["workers"]
    crew = {0: "inside the process", 1: "by 1 worker"}.get(workers, f"by {workers} workers")
    penalty = "" if result["model"] == "linear" else f", alpha {result['alpha']:g}"
    if result["solver"] == "exact":
        how = f"solved exactly {crew}, in one pass over the rows"
    else:
        how = f"trained {crew} for {result['epochs']:,} epochs{_end(result)}"
    return "\n".join(
        [
            f"Run {run_id}: {result['model']}{penalty}, {how}.",
            *_gap(result),
            *_consistency(result),
            *_changes(result),
            "",
            _scores(result["metrics"]),
            "",
            f"{result['rows_train']:,} of {counted(result['rows'], 'row')} and "
            f"{counted(result['features'], 'feature')}; "
            f"{output.duration(seconds['total'])} in all, "
            f"{output.duration(seconds['train'])} of it training "
            f"({output.rate(result['rows_per_second'])} rows/s).",
            *_effects(result),
            *_warnings(result),
            "",
            f"Model    {result['model_path']}",
            f"Predict  regatta predict {run_id} NEW.csv -o OUT.csv",
            f"Export   regatta export {run_id} --format pipeline -o MODEL.skops",
        ]
    )


def _gap(result: Mapping[str, Any]) -> list[str]:
    """How far from the exact optimum the steps ended, where that is known."""
    gap = result.get("optimum_gap")
    if gap is None:
        return []
    if result["optimum_gap_of"] == "variance":
        return [f"A perfect fit is possible; what is left is {gap:.1g} of the target's variance."]
    return [f"The objective is above that of the exact optimum by {gap:.1g} of its value."]


def _consistency(result: Mapping[str, Any]) -> list[str]:
    """How workers agreed on the weights, where they did not at every batch."""
    if "staleness" in result:
        late = result["staleness"]
        bound = (
            "nothing bounded it" if late["bound"] is None else f"the bound was {late['bound']:,}"
        )
        return [
            f"Gradients were applied {late['mean']:.1f} updates late in the mean and "
            f"{late['max']:,} at most ({bound})."
        ]
    if "sync_every" in result:
        return [
            f"Workers stepped alone; their weights were averaged {result['updates']:,} times, "
            f"every {result['sync_every']:,} steps."
        ]
    return []


def _changes(result: Mapping[str, Any]) -> list[str]:
    """What was set anew while the run went on."""
    return [Change.from_json(each).message for each in result.get("changes", [])]


def _end(result: Mapping[str, Any]) -> str:
    """Why a run took no more steps, where there is something to say of it."""
    if result["converged"]:
        return ""
    if result.get("stopped_early"):
        return ", until the validation loss fell no more"
    return " without converging: more --epochs may help"


def _scores(metrics: Mapping[str, Mapping[str, float | None]]) -> str:
    held_out, training = metrics.get("validation") or {}, metrics["train"]
    rows = [["", "held out", "training"]]
    for name, key in (("R²", "r2"), ("RMSE", "rmse"), ("MAE", "mae")):
        rows.append([name, *(output.number(part.get(key)) for part in (held_out, training))])
    return output.table(rows, right=(1, 2))


def _warnings(result: Mapping[str, Any]) -> list[str]:
    """What is to be known about the file and the solution."""
    found = [*result.get("warnings", []), *result.get("solver_warnings", [])]
    lines = [f"Note     {each}" for each in found[:MOST_WARNINGS]]
    if len(found) > MOST_WARNINGS:
        lines.append(f"         ({len(found) - MOST_WARNINGS:,} more notes stand in --json)")
    return ["", *lines, *_how_to_leave_out(found)] if lines else []


def _how_to_leave_out(notes: Sequence[Any]) -> list[str]:
    advised = any("eave it out" in str(note) for note in notes)
    return ["         --drop NAME leaves a column out."] if advised else []


def _effects(result: Mapping[str, Any]) -> list[str]:
    """The features whose change by one standard deviation moves the prediction most."""
    from regatta.fitted_model import FittedModel

    coefficients: Mapping[str, float] = result["coefficients"]
    if not coefficients:
        return []
    model = FittedModel.load(Path(result["model_path"]))
    effects = dict(zip(model.feature_names, model.weights.tolist(), strict=True))
    largest = sorted(effects, key=lambda name: -abs(effects[name]))[:LARGEST_EFFECTS]
    rows = [["Feature", "coefficient", "one std. deviation more"]]
    for name in largest:
        rows.append(
            [
                output.shortened(name, 40),
                output.number(coefficients.get(name)),
                f"{'+' if effects[name] > 0 else ''}{output.number(effects[name])}",
            ]
        )
    zeros = sum(value == 0 for value in coefficients.values())
    rest = [f"{len(coefficients) - len(largest):,} more"] if len(coefficients) > 8 else []
    rest += [f"{zeros:,} are exactly zero"] if zeros else []
    lines = ["", output.table(rows, right=(1, 2))]
    return [*lines, f"({'; '.join(rest)})"] if rest else lines


def result_of(run_id: str, store: RunStore) -> dict[str, Any] | None:
    """The result that a finished run wrote down."""
    path = store.directory(run_id).result
    found: dict[str, Any] | None = read_json(path) if path.exists() else None
    return found
