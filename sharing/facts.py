"""What is told of a finished run: read from its directory, as rows of plain text.

    run.json, config.json, result.json, model.json, path.json ──▶ RunFacts ──▶ card.py, report.py
    held-out rows (residuals.py), where they are still to be had ──┘

Texts are as they are: whoever writes them into Markdown or HTML escapes them there.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any

from regatta.configuration import TrainingConfig, flag, is_repeatable
from regatta.explain import residuals
from regatta.explain.effects import Effect, effects_of
from regatta.explain.held_out import date_in_words
from regatta.fitted_model import FittedModel
from regatta.ingest.dialect import seen_dialect
from regatta.preprocessing import (
    MISSING_LEVEL,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    range_of,
)
from regatta.runs.directory import RunDirectory
from regatta.utils import RegattaError, counted, read_json

Rows = list[tuple[str, str]]
Progress = Callable[[float, str], None]

MODEL_NAMES = {
    "linear": "least squares",
    "ridge": "ridge",
    "lasso": "lasso",
    "elasticnet": "elastic net",
}
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blanks"}
SCORES = (("R²", "r2"), ("RMSE", "rmse"), ("MAE", "mae"))
SHOWN_LEVELS = 8
SHOWN_REPAIRS = 12


@dataclass(frozen=True)
class RunFacts:
    """A finished run.

    Parameters
    ----------
    record, result : mapping
        ``run.json`` and ``result.json``.
    path : mapping, optional
        Regularisation path and cross-validation, where alpha was chosen.
    errors : mapping, optional
        `residuals.of_run`; without it ``why_no_errors`` says why.
    """

    record: Mapping[str, Any]
    config: TrainingConfig
    result: Mapping[str, Any]
    model: FittedModel
    path: Mapping[str, Any] | None = None
    errors: Mapping[str, Any] | None = None
    why_no_errors: str = ""

    @classmethod
    def gather(cls, directory: RunDirectory, progress: Progress | None = None) -> RunFacts:
        """Everything that is known of a run.

        Raises
        ------
        RegattaError
            If it has no model, or its files cannot be read.
        """
        model = FittedModel.load(directory.model)
        try:
            record, result = read_json(directory.record), residuals.read_result(directory)
            config = TrainingConfig.from_json(read_json(directory.config))
            path = read_json(directory.path_file) if directory.path_file.is_file() else None
        except (OSError, ValueError) as error:
            raise RegattaError(f"The files of the run cannot be read: {error}.") from None
        errors, why_not = None, ""
        try:
            errors = residuals.of_run(directory, config, progress)
        except RegattaError as error:
            why_not = error.message  # the hint names a folder of this machine
        return cls(record, config, result, model, path, errors, why_not)

    @property
    def title(self) -> str:
        """The name that the run was given, or what it predicts."""
        return str(self.record.get("name") or "") or f"{self.model.target} of {self.file_name}"

    @property
    def file_name(self) -> str:
        return str(self.data.get("name") or self.record.get("dataset") or self.config.path)

    @property
    def data(self) -> Mapping[str, Any]:
        """What the file was and how it was read; empty for a run of an older version."""
        return self.result.get("data") or {}

    @property
    def model_name(self) -> str:
        return MODEL_NAMES.get(self.model.model, self.model.model)

    @property
    def ended(self) -> str:
        """When it ended, to the minute."""
        moment = self.record.get("ended")
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment)) if moment else ""

    def effects(self) -> list[Effect]:
        """The coefficients, the largest first."""
        return effects_of(self.model, self.result.get("inference"))


def figure(value: float | None, sign: str = "") -> str:
    """A number as people read it: five digits, thousands separated."""
    if value is None or value != value:
        return "–"
    plain = 1e3 <= abs(value) < 1e15
    return f"{value:{sign},.0f}" if plain else f"{value:{sign}.5g}"


def in_a_sentence(facts: RunFacts) -> str:
    """What it is and how good, in one sentence."""
    columns = len(facts.model.preprocessing.columns)
    held_out = int(facts.result.get("rows_validation") or 0)
    score = score_of(facts, "validation", "r2")
    what = (
        f"A linear model ({facts.model_name}) that predicts {facts.model.target} from "
        f"{counted(columns, 'column')} of {facts.file_name}"
    )
    return f"{what}: R² {score} on {counted(held_out, 'row')} it was not trained on."


def data_rows(facts: RunFacts) -> Rows:
    """Which file, which of its rows and columns."""
    result, data = facts.result, facts.data
    rows = [("File", facts.file_name)]
    if data.get("content_hash"):
        rows.append(("BLAKE3 of its content", str(data["content_hash"])))
    if data:
        shape = f"{counted(data['rows'], 'row')}, {counted(data['columns'], 'column')}"
        rows.append(("Read from it", shape + _set_aside(data)))
    rows.append(("Trained on", counted(result.get("rows_train", 0), "row")))
    rows.append(
        (
            "Held out",
            f"{counted(result.get('rows_validation', 0), 'row')} ({facts.config.validation:.0%}, "
            f"chosen by a hash of the row's content with seed {facts.config.seed}; equal rows are "
            "on the same side)",
        )
    )
    no_target = int(data.get("rows") or 0) - int(result.get("rows") or 0)
    if data and no_target > 0:
        rows.append(("Without a target", f"{counted(no_target, 'row')}, left out"))
    if data.get("duplicate_rows"):
        rows.append(("Exact duplicates", counted(data["duplicate_rows"], "row")))
    used = facts.model.preprocessing
    features = counted(len(used.features), "feature")
    rows.append(("Learned from", f"{counted(len(used.columns), 'column')}, as {features}"))
    if used.dropped:
        rows.append(("Left out", "; ".join(f"{x.name} ({x.reason})" for x in used.dropped)))
    return rows


def reading_rows(facts: RunFacts) -> Rows:
    """How the file was read: dialect with its evidence, options, repairs."""
    data = facts.data
    dialect = seen_dialect(data) or facts.model.dialect
    if not dialect:
        return []
    evidence: Mapping[str, str] = data.get("evidence") or {}
    delimiter = str(dialect.get("delimiter", ""))
    found = {
        "encoding": str(dialect.get("encoding", "")),
        "delimiter": SEPARATORS.get(delimiter, repr(delimiter) if delimiter else ""),
        "decimal": {",": "comma", ".": "point"}.get(str(dialect.get("decimal")), ""),
        "thousands": str(dialect.get("thousands") or ""),
        "header": "first row" if dialect.get("header", True) else "none",
        "skip_rows": str(dialect.get("skip_rows") or ""),
        "comment": str(dialect.get("comment") or ""),
    }
    names = {"delimiter": "Separator", "decimal": "Decimal mark", "skip_rows": "Lines before it",
             "thousands": "Thousands mark", "header": "Names of columns",
             "comment": "Comment lines begin with"}  # fmt: skip
    rows = [
        (names.get(key, key.capitalize()), value + _because(evidence.get(key)))
        for key, value in found.items()
        if value
    ]
    options: Mapping[str, Any] = data.get("options") or {}
    if options:
        said = ", ".join(f"{flag(name)} {_plain_value(value)}" for name, value in options.items())
        rows.append(("Told by options", said))
    return rows


def repairs(facts: RunFacts) -> list[str]:
    """What was repaired in the file, some of it."""
    told = [str(each) for each in facts.data.get("repairs") or []]
    more = int(facts.data.get("repairs_count") or 0) - len(told[:SHOWN_REPAIRS])
    return told[:SHOWN_REPAIRS] + ([f"and {more:,} more"] if more > 0 else [])


def score_rows(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Score, on held-out rows with its standard error, on training rows."""
    return [
        (name, score_of(facts, "validation", key), score_of(facts, "train", key))
        for name, key in SCORES
    ]


def score_of(facts: RunFacts, part: str, key: str) -> str:
    """One score, with its standard error where that is known."""
    value = ((facts.result.get("metrics") or {}).get(part) or {}).get(key)
    if value is None:
        return "–"
    spread = ((facts.errors or {}).get("spread") or {}).get(key) if part == "validation" else None
    text = f"{value:.4f}" if key == "r2" else figure(value)
    if spread is None:
        return text
    return f"{text} ± {spread:,.0f}" if spread >= 100 else f"{text} ± {spread:.2g}"


def about_scores(facts: RunFacts) -> str:
    """What the scores are, for who does not know."""
    target = facts.model.target
    text = (
        "R² is the share of the target's variance that is explained (1 is perfect, 0 no better "
        f"than the mean); RMSE and MAE are usual errors in the unit of {target}."
    )
    if facts.errors and (facts.errors.get("spread") or {}).get("r2") is not None:
        text += " ± is one standard error: about two in three such samples lie within it."
    if facts.result.get("validation_used_to_stop"):
        text += " The held-out rows also decided when to stop, so their score is a little too good."
    return text


def model_rows(facts: RunFacts) -> Rows:
    """Model, penalty and how it was fitted."""
    result, model = facts.result, facts.model
    rows = [("Model", f"linear, {facts.model_name}")]
    if model.model != "linear":
        rows.append(("Penalty (alpha)", f"{model.alpha:.6g}{_chosen_by(facts)}"))
    if model.model == "elasticnet":
        rows.append(("Share of L1", f"{model.l1_ratio:g}"))
    rows.append(("Solver", _solver(facts)))
    if result.get("solver") != "exact":
        ended = "converged" if result.get("converged") else "stopped before it converged"
        if result.get("stopped_early"):
            ended = "stopped early, as the error on held-out rows fell no more"
        rows.append(("End", f"{ended} after {counted(result.get('steps', 0), 'step')}"))
    gap = result.get("optimum_gap")
    if gap is not None:
        rows.append(("Above the exact optimum by", f"{gap:.1g}"))
    zeros = int((model.weights == 0).sum())
    if zeros:
        rows.append(("Coefficients that are zero", f"{zeros:,} of {len(model.weights):,}"))
    rows.append(("SHA-256 of the weights", str(result.get("weights_sha256", ""))))
    return rows


def range_rows(facts: RunFacts) -> list[tuple[str, str, str]]:
    """Column, kind, what the training rows held; the columns that matter most first."""
    order = {each.column: place for place, each in reversed(list(enumerate(facts.effects())))}
    columns = sorted(
        facts.model.preprocessing.columns, key=lambda each: order.get(each.name, len(order))
    )
    return [(each.name, each.kind, valid_values(each)) for each in columns]


def valid_values(column: ColumnEncoding) -> str:
    """What the training rows held in a column."""
    if isinstance(column, BooleanEncoding):
        return f"{column.false} or {column.true}"
    if isinstance(column, CategoryEncoding):
        known = [each for each in column.levels if each != MISSING_LEVEL]
        shown = ", ".join(known[:SHOWN_LEVELS])
        more = len(known) - SHOWN_LEVELS
        text = shown + (f" and {more:,} more" if more > 0 else "")
        if column.other:
            text += "; rare ones together" if text else "rare ones together"
        return text + ("; may be missing" if MISSING_LEVEL in column.levels else "")
    span = range_of(column)
    if span is None:
        return "not recorded"
    if isinstance(column, DateEncoding):
        return " to ".join(date_in_words(each, column.format) for each in span)
    return " to ".join(map(figure, span))


def target_range(facts: RunFacts) -> str:
    """From where to where the target went in the training rows."""
    target = facts.model.data.get("target") or {}
    if target.get("low") is None:
        return ""
    return f"{figure(target['low'])} to {figure(target['high'])}, mean {figure(target['mean'])}"


def effect_rows(effects: Sequence[Effect], most: int) -> list[tuple[str, str, str, str]]:
    """Feature, coefficient, change for one standard deviation more, interval."""
    shown = [each for each in effects if not each.is_reference][:most]
    found = []
    for each in shown:
        ends = each.ends(standardised=False)
        interval = f"{figure(ends[0])} to {figure(ends[1])}" if ends else ""
        values = figure(each.coefficient), figure(each.standardised, "+")
        found.append((each.label, *values, interval))
    return found


def warnings(facts: RunFacts) -> list[str]:
    """What to know about the file, the solution and the scores."""
    result = facts.result
    told = [*result.get("warnings", []), *result.get("solver_warnings", [])]
    return list(dict.fromkeys(str(each) for each in told))


def made_rows(facts: RunFacts) -> Rows:
    """When, how long, with what."""
    result, machine = facts.result, facts.result.get("machine") or {}
    seconds = result.get("seconds") or {}
    total = max(seconds.get("total") or 0.0, seconds.get("train") or 0.0)
    rows = [("Run", str(facts.record.get("run_id", "")))]
    if facts.ended:
        rows.append(("Ended", facts.ended))
    rows.append(("Time", f"{total:.3g} s in all, {seconds.get('train') or 0:.3g} s of it training"))
    workers = int(result.get("workers") or 0)
    rows.append(("Workers", counted(workers, "process", "processes") if workers else "none"))
    versions = [
        f"{name} {machine[key]}"
        for name, key in (("Regatta", "regatta"), ("Python", "python"), ("NumPy", "numpy"),
                          ("SciPy", "scipy"))
        if machine.get(key)
    ]  # fmt: skip
    rows.append(("Versions", ", ".join(versions) or f"Regatta {facts.model.regatta_version}"))
    if machine:
        memory = f"{machine['memory'] / 1e9:.0f} GB of memory"
        where = f"{machine['system']}, {counted(machine['cores'], 'core')}, {memory}"
        rows.append(("Machine", where))
    return rows


def command(config: TrainingConfig) -> str:
    """The command that trains the same model, with the file's name in place of its path."""
    name = config.path.rsplit("/", 1)[-1]
    words = ["regatta", "train", f"./{name}" if name.startswith("-") else name]
    for each in fields(config):
        value = getattr(config, each.name)
        default = each.default if each.default is not MISSING else None
        if each.name == "path" or value == default or value is None:
            continue
        for one in value if is_repeatable(each) else [value]:
            text = _plain_value(one)
            option = flag(each.name)
            words += [f"{option}={text}"] if text.startswith("-") else [option, text]
    return shlex.join(words)


def about_command(facts: RunFacts) -> str:
    """What `command` gives."""
    if facts.result.get("consistency", "sync") == "sync":
        text = "The same weights, bit by bit with the same versions on such a machine, come with:"
    else:
        text = "A model like it (steps that do not wait for each other never repeat) comes with:"
    if facts.result.get("changes"):
        text = text.removesuffix(":") + ", and what was set while it went on:"
    return text


def _chosen_by(facts: RunFacts) -> str:
    if facts.path is None:
        return ""
    rule = {
        "min": "least error in cross-validation",
        "1se": "largest within one standard error of the least in cross-validation",
    }.get(str(facts.path.get("rule")), "cross-validation")
    return f" ({rule}, {facts.config.folds} folds)"


def _solver(facts: RunFacts) -> str:
    result, config = facts.result, facts.config
    if result.get("solver") == "exact":
        return "exact, in one pass over the rows"
    parts = [
        f"{config.optimizer}, learning rate {result.get('learning_rate', 0):.3g} "
        f"({config.schedule})",
        f"{result.get('batch_size', 0):,} rows a step",
        counted(result.get("epochs", 0), "epoch"),
        f"consistency {result.get('consistency', 'sync')}",
    ]
    return "; ".join(parts)


def _set_aside(data: Mapping[str, Any]) -> str:
    count = int(data.get("rejected_rows") or 0)
    return f"; {counted(count, 'broken row')} set aside" if count else ""


def _because(evidence: str | None) -> str:
    return f" ({evidence})" if evidence else ""


def _plain_value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
