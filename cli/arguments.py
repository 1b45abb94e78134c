"""What may be typed after ``regatta``: commands, options and their help.

The options of ``train`` are made from `regatta.configuration.TrainingConfig`, whose checks and
sentences they share. Every mistake in a command line is a `UserError`, so that ``--json`` tells it
like any other. Actions are imported when they are called: ``regatta --help`` needs none.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from typing import Any, NoReturn

from regatta import __version__
from regatta.configuration import (
    STEP_OPTIONS,
    ReadingOptions,
    TrainingConfig,
    allowed,
    choices,
    flag,
    is_repeatable,
    number_type,
)
from regatta.utils import UserError

Action = Callable[[argparse.Namespace], int]


def whole(least: int = 0, most: int | None = None) -> Callable[[str], int]:
    """What reads a whole number within bounds, for options that are not a run's."""
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least or (most is not None and int(text) > most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
        return int(text)

    return read


PORT = whole(0, 65535)

GROUPS = ("data", "reading", "model", "training", "run")
# As `regatta.runs.store.MOVES` has them; a parser imports no store.
MOVES = ("first", "last", "up", "down")
# The first is the default.
EXPORT_FORMATS = ("pipeline", "json", "onnx", "onnx-float32", "snippet", "card", "report")


class Parser(argparse.ArgumentParser):
    """A parser that raises a `UserError` where argparse would print and exit."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", Formatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        sentence = message[:1].upper() + message[1:]
        raise UserError(f"{sentence.rstrip('.')}.", f"See `{self.prog} --help`.")


class Formatter(argparse.HelpFormatter):
    """Help with a wider first column, so that most options take one line."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)


def make_parser() -> Parser:
    """The parser of the whole command. Each command puts its ``action`` into the result."""
    parser = Parser(
        prog="regatta",
        description="Train regression models on CSV files, and watch it live.",
        epilog="`regatta COMMAND --help` tells more about each.",
    )
    parser.set_defaults(action=lambda _: _show_help(parser))
    parser.add_argument("--version", action="version", version=f"regatta {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    add_serve(commands)
    add_train(commands)
    add_path(commands)
    add_inspect(commands)
    add_predict(commands)
    add_runs(commands)
    add_datasets(commands)
    add_export(commands)
    add_explain(commands)
    add_baseline(commands)
    add_bench(commands)
    add_doctor(commands)
    return parser


def add_serve(commands: Any) -> None:
    parser = command(commands, "serve", "tools:serve", "open the page in the browser")
    parser.add_argument(
        "--port", type=PORT, default=5000, metavar="N", help="port of the page (default: 5000)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: 127.0.0.1, this machine alone)",
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open a browser")
    parser.add_argument(
        "--behind-proxy",
        action="store_true",
        help="a proxy signs people in: another --host than this machine's own is allowed",
    )
    parser.add_argument(
        "--data-root",
        action="append",
        default=[],
        metavar="DIR",
        help="folder whose CSV files the page may read where they lie; may be given again "
        "(default: none)",
    )


def add_train(commands: Any) -> None:
    parser = command(
        commands,
        "train",
        "train:train",
        "train a model on a CSV file",
        description="Train a model on a CSV file, here and now. Ctrl-C stops it so that "
        "`regatta runs resume` can go on.",
    )
    parser.add_argument("path", metavar="FILE", help=_field("path").metadata["help"])
    groups = add_options(parser)
    groups["run"].add_argument(
        "--detach", action="store_true", help="queue it and return; it runs in the background"
    )
    add_json(groups["run"])


def add_path(commands: Any) -> None:
    parser = command(
        commands,
        "path",
        "path:path",
        "the regularisation path, with cross-validation",
        description="Fit a lasso (or --model ridge, elasticnet) for 100 values of alpha from one "
        "pass over the rows, cross-validate each, and tell which is best.",
    )
    parser.add_argument("path", metavar="FILE", help=_field("path").metadata["help"])
    groups = add_options(parser, leave_out=("alpha", "solver", *STEP_OPTIONS))
    groups["run"].add_argument("--plot", metavar="OUT.html", help="write a chart to look at")
    add_json(groups["run"])


def add_options(
    parser: Any,
    leave_out: Sequence[str] = (),
    options: type[ReadingOptions] = TrainingConfig,
) -> dict[str, Any]:
    """The options of a run, or of the reading alone, in their groups."""
    shown = [each for each in fields(options) if each.name not in ("path", *leave_out)]
    groups: dict[str, Any] = {}
    for group in GROUPS:
        of_group = [each for each in shown if each.metadata["group"] == group]
        if of_group:
            groups[group] = parser.add_argument_group(group)
        for each in of_group:
            add_option(groups[group], each)
    return groups


def add_option(group: Any, each: Field[Any]) -> None:
    """The option of one field. Its text is read later, by the field's own rules."""
    words = f"{each.metadata['help']} ({_default(each)})".replace("%", "%%")
    group.add_argument(
        flag(each.name),
        dest=each.name,
        action="append" if is_repeatable(each) else "store",
        metavar=_metavar(each),
        default=argparse.SUPPRESS,
        help=words,
    )


def add_inspect(commands: Any) -> None:
    parser = command(commands, "inspect", "files:inspect", "tell how a CSV file is read")
    parser.add_argument("path", metavar="FILE", help="CSV file")
    parser.add_argument(
        "--target", metavar="COLUMN", help="tell of its skew and of columns that give it away, too"
    )
    parser.add_argument(
        "--write-clean",
        metavar="OUT.csv",
        help="write what was read: UTF-8, commas, decimal points, ISO dates",
    )
    parser.add_argument(
        "--write-rejected",
        metavar="OUT.csv",
        help="write the rows that --on-bad-rows skip set aside",
    )
    add_json(parser)
    add_options(parser, options=ReadingOptions)


def add_predict(commands: Any) -> None:
    parser = command(
        commands,
        "predict",
        "files:predict",
        "predict a new CSV file with a run's model",
        description="Write the columns of a CSV file and a last one, `prediction`: "
        "`prediction_2` where the file has such a column.",
    )
    add_run(parser)
    parser.add_argument("path", metavar="FILE", help="CSV file with the columns of the training")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="CSV file to write")
    parser.add_argument(
        "--on-bad-cells",
        default="refuse",
        metavar="refuse|missing",
        help="cells that are no number, date or word as in the training (default: refuse)",
    )
    parser.add_argument(
        "--on-new-levels",
        default="other",
        metavar="other|refuse",
        help="texts that the training has not seen (default: other)",
    )
    add_json(parser)
    # The kinds of the columns are those of the training.
    add_options(parser, leave_out=("column_types", "odd_cells"), options=ReadingOptions)


def add_export(commands: Any) -> None:
    parser = command(
        commands,
        "export",
        "files:export",
        "write a run's model for use without Regatta, its card or its report",
        description="Write a run's model for use without Regatta, once what was written is known "
        "to predict the same; or the model's card, or a report of the run.",
    )
    add_run(parser)
    parser.add_argument(
        "--format",
        default=EXPORT_FORMATS[0],
        metavar="|".join(EXPORT_FORMATS),
        help="pipeline: of scikit-learn (skops); json: all numbers, to score by hand; onnx, "
        "onnx-float32: a graph (needs the extra onnx); snippet: a Python script; card: a page of "
        "Markdown; report: one HTML file with charts (default: pipeline)",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="file to write (default: the run's id, here)"
    )
    add_json(parser)


def add_baseline(commands: Any) -> None:
    parser = command(
        commands,
        "baseline",
        "baseline:baseline",
        "compare a run with plain scikit-learn",
        description="Fit scikit-learn's Ridge, Lasso and SGDRegressor, and the mean, to the rows "
        "of a finished run, as strongly regularised, and score them on the rows that it held out.",
    )
    add_run(parser)
    parser.add_argument(
        "--again", action="store_true", help="fit them anew, though that was done before"
    )
    add_json(parser)


def add_explain(commands: Any) -> None:
    parser = command(
        commands,
        "explain",
        "explain:explain",
        "tell what a run's model has learned and how far off it is",
        description="Errors on the held-out rows, the coefficients, and the rows with the largest "
        "errors; or one row's prediction taken apart.",
    )
    add_run(parser)
    parser.add_argument(
        "--row", type=whole(1), metavar="N", help="take the prediction of the file's N-th row apart"
    )
    add_json(parser)


def add_runs(commands: Any) -> None:
    parser = command(
        commands, "runs", "runs:list_runs", "list runs, and pause, resume, scale, move or stop one"
    )
    parser.set_defaults(limit=20)
    add_json(parser)
    inner = parser.add_subparsers(metavar="COMMAND", dest="runs_command")
    listing = command(inner, "list", "runs:list_runs", "list runs, newest first")
    listing.add_argument(
        "-n",
        "--limit",
        type=whole(),
        default=20,
        metavar="N",
        help="at most N; 0: all (default: 20)",
    )
    show = command(inner, "show", "runs:show", "tell all about a run")
    pause = command(inner, "pause", "runs:pause", "let a run stand still")
    resume = command(
        inner, "resume", "runs:resume", "let a run go on from its last checkpoint, here and now"
    )
    stop = command(inner, "stop", "runs:stop", "stop a run so that it can be resumed")
    scale = command(inner, "scale", "runs:scale", "let a run go on with another number of workers")
    tune = command(
        inner, "set", "runs:tune", "change the learning rate or batch size of a run that goes on"
    )
    move = command(inner, "move", "runs:move", "change the place of a waiting run in the queue")
    delete = command(inner, "delete", "runs:delete", "delete runs and their models")
    for each in (show, pause, resume, stop, scale, tune, move):
        add_run(each)
    scale.add_argument("workers", type=whole(1), metavar="N", help="worker processes, at least 1")
    tune.add_argument(
        "--learning-rate",
        type=tuning_value("learning_rate_of"),
        metavar="X",
        help="of the next step; the schedule goes on from there",
    )
    tune.add_argument(
        "--batch-size", type=tuning_value("batch_size_of"), metavar="N", help="rows a step"
    )
    tune.add_argument(
        "--at-step",
        type=whole(),
        metavar="N",
        help="make the change once N steps are taken (default: after the present one)",
    )
    move.add_argument("where", choices=MOVES, help="its place, or one up or down")
    delete.add_argument("runs", nargs="+", metavar="RUN", help=RUN_HELP)
    resume.add_argument(
        "--detach", action="store_true", help="queue it and return; it runs in the background"
    )
    for each in (listing, show, pause, resume, stop, scale, tune, move, delete):
        # Given to `regatta runs --json list`, it must not be forgotten here.
        add_json(each, default=argparse.SUPPRESS)


def tuning_value(name: str) -> Callable[[str], Any]:
    """What reads a value of ``regatta runs set``, and refuses a wrong one in its own words."""

    def read(text: str) -> Any:
        return getattr(importlib.import_module("regatta.runs.tuning"), name)(text)

    return read


def add_datasets(commands: Any) -> None:
    parser = command(
        commands, "datasets", "files:list_datasets", "list or delete prepared copies of CSV files"
    )
    add_json(parser)
    inner = parser.add_subparsers(metavar="COMMAND", dest="datasets_command")
    listing = command(inner, "list", "files:list_datasets", "list prepared copies")
    delete = command(
        inner, "delete", "files:delete_datasets", "delete prepared copies (never your CSV files)"
    )
    delete.add_argument("keys", nargs="*", metavar="KEY", help="as `regatta datasets` lists them")
    delete.add_argument("--all", action="store_true", help="delete all of them")
    for each in (listing, delete):
        add_json(each, default=argparse.SUPPRESS)


def add_bench(commands: Any) -> None:
    parser = command(
        commands, "bench", "tools:bench", "compare speed with scikit-learn and PyTorch"
    )
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="...", help="name of a benchmark, its options"
    )


def add_doctor(commands: Any) -> None:
    parser = command(commands, "doctor", "doctor:doctor", "look for what could go wrong here")
    parser.add_argument(
        "--port", type=PORT, default=5000, metavar="N", help="port to try (default: 5000)"
    )
    add_json(parser)


RUN_HELP = "id of a run, the start of one, a name, or `last`"


def add_run(parser: Any) -> None:
    parser.add_argument("run", metavar="RUN", help=RUN_HELP)


def add_json(parser: Any, *, default: Any = False) -> None:
    parser.add_argument(
        "--json", action="store_true", default=default, help="print one JSON object"
    )


def command(
    commands: Any, name: str, action: str, words: str, *, description: str = ""
) -> argparse.ArgumentParser:
    """Add a command whose ``action`` is ``module:function`` of this package."""
    sentence = description or f"{words[0].upper()}{words[1:]}."
    parser: argparse.ArgumentParser = commands.add_parser(name, help=words, description=sentence)
    parser.set_defaults(action=_lazy(action))
    return parser


def _show_help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return UserError.exit_code


def _lazy(action: str) -> Action:
    module, function = action.split(":")

    def act(chosen: argparse.Namespace) -> int:
        found = getattr(importlib.import_module(f"regatta.cli.{module}"), function)
        return int(found(chosen))

    return act


def _field(name: str) -> Field[Any]:
    return next(each for each in fields(TrainingConfig) if each.name == name)


def _metavar(each: Field[Any]) -> str:
    if each.metadata["metavar"]:
        return str(each.metadata["metavar"])
    words = list(choices(each))
    if number_type(each) is not None:
        words.insert(0, "N")
    elif not words:
        words.append("COLUMN" if each.name == "target" else "TEXT")
    return "|".join(words)


def _default(each: Field[Any]) -> str:
    rule = allowed(each)
    default = each.default
    if default is None:
        return f"{rule.removesuffix(' or auto')}; default: auto" if rule != "auto" else "auto"
    if default in ("", ()):
        return "required" if each.name == "target" else "default: none"
    shown = f"default: {default:g}" if isinstance(default, float) else f"default: {default}"
    return shown if choices(each) else f"{rule}; {shown}"
