"""From a CSV file to shuffled, standardised, memory-mapped rows; nothing is ever read twice.

    file.csv ──import_csv──▶ layer 1: typed columns           (home/datasets/parsed/<key>)
                                │ prepare(target, drop, seed, …)
                                ▼
                             layer 2: training and validation (home/datasets/prepared/<key>)
                             rows, cut into shards

Layer 1 depends on the file alone. Layer 2 is imputed, encoded and standardised with statistics of
the training rows only, so the score on the held-out rows is an honest one.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from regatta.configuration import AS_FOUND, ReadingOptions
from regatta.ingest import cache, cleaning, leaks, rejecting, scatter
from regatta.ingest.child import Child, ChildPool, ready
from regatta.ingest.dates import has_time
from regatta.ingest.importer import Cancelled, ImportProgress, import_table
from regatta.ingest.overrides import with_options
from regatta.ingest.rereading import PredictionBatch, read_batches
from regatta.ingest.scatter import PARTS, Block, Moments, Plan, blocks_of
from regatta.ingest.schema import SchemaCheck
from regatta.ingest.split import Split, split_rows
from regatta.ingest.table import Finding, ParsedColumn, ParsedTable, load_table
from regatta.ingest.writing import check_output
from regatta.parameter_server.batches import shard_offsets
from regatta.preprocessing import (
    DATE_PARTS,
    MAX_RARE_LEVELS,
    MISSING_LEVEL,
    OTHER_LEVEL,
    BooleanEncoding,
    CategoryEncoding,
    ColumnEncoding,
    DateEncoding,
    DroppedColumn,
    Feature,
    NumberEncoding,
    Preprocessing,
    choose_levels,
)
from regatta.utils import (
    DataError,
    UserError,
    atomic_path,
    available_cores,
    counted,
    fingerprint,
    read_json,
    write_json,
)

PREPARED_NAME = "prepared.json"
FORMAT = 5
MEDIAN_BYTES = 32 << 20
# Fewer cells are prepared in this process: starting others would take longer.
SMALL_CELLS = 4_000_000
MAX_PROCESSES = 6
# More features than this are written as rows in any case: made column by column out of a few
# hundred rows at a time, they would cost more than they save.
COLUMNS_FEATURES = 256
# Of fewer rows held out it is told that scores on them say little.
FEW_HELD_OUT = 10

ProgressCallback = Callable[[ImportProgress], None]


def import_csv(
    path: Path | str,
    options: ReadingOptions = AS_FOUND,
    *,
    processes: int | None = None,
    progress: ProgressCallback | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ParsedTable:
    """Read a CSV file into typed columns on disk, or find them if it was read before.

    Parameters
    ----------
    path : Path
        A CSV file, plain or packed with gzip, bzip2, xz or zip.
    options : ReadingOptions
        How it is to be read, where that is not to be found in it. With other options it is
        another table.
    processes : int, optional
        Parsing processes; 0 parses in this one. Default: one a core, none for a small file.
    progress : callable, optional
        Called a few times a second with an `ImportProgress`.
    cancelled : callable, optional
        Asked now and then; the import ends with `Cancelled` once it returns true.

    Raises
    ------
    DataError
        If the file cannot be read for certain: says in which row and column, and what to do.
    """
    return import_table(
        Path(path), options, processes=processes, progress=progress, cancelled=cancelled
    )


@dataclass(frozen=True)
class PreparedData:
    """Layer 2: rows ready for training, on disk.

    ``train.bin`` (rows_train, features + 2) and ``validation.bin``, in C order and ``dtype``: a
    row is its standardised features, a one, and (y - target_mean) / target_scale, side by side
    (docs/decisions/0003). Where not ``on_disk``, rows are made from the parsed columns when they
    are asked for, in the order of the file, and only the shard of each is written down.
    Shard ``s`` holds the rows from ``train_offsets[s]`` to ``train_offsets[s + 1]``.
    """

    directory: Path
    key: str
    dtype: str
    rows: int
    rows_train: int
    rows_validation: int
    features: int
    feature_names: list[str]
    shards: int
    train_offsets: list[int]
    validation_offsets: list[int]
    target_mean: float
    target_scale: float
    max_row_norm2: float  # 0 where not on disk: only steps need it
    preprocessing: Preprocessing
    dataset: dict[str, Any]
    warnings: list[str]
    on_disk: bool
    threshold: int
    seed: int

    def open(self, name: str) -> npt.NDArray[Any]:
        """``X_train``, ``y_train``, ``X_validation`` or ``y_validation``, mapped read-only."""
        kind, part = name.split("_")
        count = self.rows_train if part == "train" else self.rows_validation
        shape = (count, self.features + 2)
        rows = np.memmap(self.directory / f"{part}.bin", self.dtype, "r", shape=shape)
        return rows[:, :-2] if kind == "X" else rows[:, -1]

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the files from being removed while the block runs."""
        with cache.hold(self.directory), cache.hold(self._table_directory):
            yield

    @property
    def _table_directory(self) -> Path:
        key: str = self.dataset["key"]
        return self.directory if self.on_disk else cache.datasets_folder("parsed") / key

    @property
    def columns(self) -> Plan | None:
        """How rows are made from the parsed columns; ``None`` where they lie on disk."""
        if self.on_disk:
            return None
        table = load_table(self._table_directory)
        target = table.column(self.preprocessing.target)
        split = Split(self.seed, target, self.threshold, self.rows_train, self.rows_validation)
        return Plan(table.directory, split, self.preprocessing, self.dtype, self.target_mean,
                    self.target_scale, self.directory)  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        value = {key: item for key, item in self.__dict__.items() if key != "directory"}
        return {**value, "preprocessing": self.preprocessing.to_json()}

    @classmethod
    def load(cls, directory: Path) -> PreparedData:
        """What lies in a folder of prepared data."""
        value = read_json(directory / PREPARED_NAME)
        value["preprocessing"] = Preprocessing.from_json(value["preprocessing"])
        return cls(directory=directory, **value)


def prepare(
    table: ParsedTable,
    *,
    target: str,
    drop: Sequence[str] = (),
    seed: int = 0,
    validation: float = 0.2,
    shards: int = 16,
    precision: str = "float32",
    on_disk: bool = True,
    processes: int | None = None,
    progress: ProgressCallback | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> PreparedData:
    """Split, impute, encode, standardise and shuffle the rows of a table, or find the result.

    Parameters
    ----------
    target : str
        The column to predict: a number. Rows without it are left out.
    drop : sequence of str
        Columns to leave out.
    validation : float
        Share of the rows that is held out, by a seeded hash of their content.
    on_disk : bool
        Whether rows are written, shuffled, for who passes over them often. Otherwise they are
        made when they are asked for, unless there are more than `COLUMNS_FEATURES` features.

    Raises
    ------
    DataError
        If the target or the columns cannot be used, with the column's name.
    """
    chosen, left_out = check_columns(table, target, drop)
    settings = [FORMAT, table.key, chosen.name, sorted(set(left_out)), seed, validation, shards,
                precision, on_disk]  # fmt: skip
    key = fingerprint(settings)
    found = _found(key, table)
    if found:
        return found
    with cache.one_at_a_time(f"prepared {key}", cancelled), table.hold():
        found = _found(key, table)
        if found:
            return found
        with cache.building("prepared") as folder:
            job = _Preparation(table, chosen, left_out, folder, processes, progress, cancelled)
            prepared = job.run(key, seed, validation, shards, precision, on_disk)
            write_json(folder / PREPARED_NAME, prepared.to_json(), durable=False)
            return PreparedData.load(cache.publish(folder, "prepared", key))


def check_columns(
    table: ParsedTable, target: str, drop: Sequence[str] = ()
) -> tuple[ParsedColumn, list[str]]:
    """The target and the names of the columns to leave out, if the table has them and the target
    can be predicted; else a `DataError`."""
    chosen = _target(table, target)
    left_out = [table.column(name).name for name in drop]
    if chosen.name in left_out:
        raise DataError(f"{chosen.name!r} is the target and cannot be dropped.", "Keep it.",
                        column=chosen.name)  # fmt: skip
    return chosen, left_out


def _found(key: str, table: ParsedTable) -> PreparedData | None:
    directory = cache.entry("prepared", key)
    if directory is None:
        return None
    prepared = PreparedData.load(directory)
    prepared.dataset.update(path=table.path, name=table.name)
    return prepared


def _target(table: ParsedTable, name: str) -> ParsedColumn:
    """The column to predict, if it can be predicted."""
    column = table.column(name)
    try:
        _check_target(table, column)
    except DataError as error:
        raise with_options(error, table.options, column.name) from None
    return column


def _check_target(table: ParsedTable, column: ParsedColumn) -> None:
    name = column.name
    if column.missing == table.rows:
        raise DataError(f"The target {name!r} is blank in all rows.", "Choose another column.",
                        column=name)  # fmt: skip
    if column.refused:
        raise DataError(f"{column.refused}.", "Mend these cells: they are the target.",
                        row=column.refused_line, column=name)  # fmt: skip
    if column.kind == "boolean":
        raise DataError(
            f"The target {name!r} holds words ({column.type.false} / {column.type.true}), not "
            "numbers.", "Write it as 0 and 1 to predict it as a number.", column=name)  # fmt: skip
    if column.kind != "number":
        what = {"date": "dates"}.get(column.kind, "text")
        if column.reason == "identifier" and column.type.numeric:
            what = "whole numbers too large to be exact"
        raise DataError(f"The target {name!r} holds {what}, not numbers.",
                        "Choose a numeric column.", column=name)  # fmt: skip


# -- the page, the command --------------------------------------------------------------------


def inspect_csv(
    path: Path | str, options: ReadingOptions = AS_FOUND, *, target: str | None = None
) -> dict[str, Any]:
    """The import report of a file: dialect, rows, columns, repairs, warnings, rejected rows.

    With a target, its skew and the columns that give it away are warned of, too.
    """
    table = import_csv(path, options)
    report = table.report()
    if target is not None:
        found = about_target(table, target)
        report["warnings"] += [each.message for each in found]
        report["findings"] += [each.to_json() for each in found]
    return report


def about_target(table: ParsedTable, target: str) -> list[Finding]:
    """What is worth knowing of a target: its skew, and the columns that give it away."""
    return leaks.about_target(table, _target(table, target))


def write_clean(
    path: Path | str,
    out: Path,
    options: ReadingOptions = AS_FOUND,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write a file anew as it was read; what was written. See `ingest.cleaning`."""
    written = cleaning.write_clean(import_csv(path, options), out, progress)
    return {"output": str(out.absolute()), "rows": written.rows, "apostrophes": written.defused}


def write_rejected(
    path: Path | str, out: Path, options: ReadingOptions = AS_FOUND
) -> dict[str, Any]:
    """Write the rows of a file that were set aside: line, reason and text of each."""
    table = import_csv(path, options)
    check_output(out, Path(table.path))
    with table.hold(), atomic_path(out) as aside:
        rejecting.copy_rejected(table.directory, aside)
    return {"output": str(out.absolute()), "rows": table.rejected_rows}


def preview(
    table: ParsedTable | Path | str, rows: int = 50, options: ReadingOptions = AS_FOUND
) -> list[dict[str, Any]]:
    """The first rows of a file as they were understood: numbers, texts, dates in ISO format."""
    if not isinstance(table, ParsedTable):
        table = import_csv(table, options)
    count = min(rows, table.rows)
    words = _first_words(table, count)
    found: list[dict[str, Any]] = []
    for group in table.groups:
        start, stop = len(found), min(count, len(found) + table.group_rows[group])
        cells = {
            column.name: _shown(table, group, column, words[column.index][start:stop])
            for column in table.columns
        }
        found += [
            {name: values[row] for name, values in cells.items()} for row in range(stop - start)
        ]
        if stop == count:
            break
    return found


def _first_words(table: ParsedTable, rows: int) -> dict[int, list[str | None]]:
    """For every column what the first cells say beyond what its parsed column holds."""
    nothing: dict[int, list[str | None]] = {c.index: [None] * rows for c in table.columns}
    try:
        return nothing | cleaning.first_words(table, rows)
    except (DataError, OSError):  # the file is not what it was
        unknown = [column.index for column in table.columns if cleaning.is_reread(table, column)]
        return nothing | {index: ["…"] * rows for index in unknown}


def _shown(
    table: ParsedTable, group: int, column: ParsedColumn, words: list[str | None]
) -> list[Any]:
    """The first cells of a group, as many as ``words``, which stand where it has no value."""
    kept = _kept(table, group, column, len(words))
    return [word if value is None else value for value, word in zip(kept, words, strict=True)]


def _kept(table: ParsedTable, group: int, column: ParsedColumn, rows: int) -> list[Any]:
    if column.type.kind == "category":
        return list(table.texts(group, column)[:rows]) if column.levels else [None] * rows
    values: list[Any] = [
        None if value != value else value for value in table.numbers(group, column)[:rows].tolist()
    ]
    if column.kind == "boolean":
        words = {0.0: column.type.false, 1.0: column.type.true}
        return [words.get(value) for value in values]
    if column.kind == "date":
        timed = has_time(column.type.format)
        return [value if value is None else _iso(value, timed) for value in values]
    return values


def _iso(seconds: float, timed: bool) -> str:
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC).replace(tzinfo=None)
    return moment.isoformat(sep=" ") if timed else moment.date().isoformat()


def list_datasets() -> list[dict[str, Any]]:
    """What is kept of files: parsed columns and prepared rows, the last used first."""
    found = []
    for layer, directory in reversed(cache.entries()):
        try:
            found.append(_described(layer, directory))
        except (OSError, ValueError, KeyError):
            continue
    return found


def _described(layer: str, directory: Path) -> dict[str, Any]:
    common = {
        "key": directory.name,
        "layer": layer,
        "bytes": cache.size_of(directory),
        "last_used": cache.last_used(directory),
    }
    if layer == "parsed":
        value = read_json(directory / "table.json")
        return common | {"name": value["name"], "path": value["path"], "rows": value["rows"],
                         "columns": len(value["columns"])}  # fmt: skip
    value = read_json(directory / PREPARED_NAME)
    return common | {
        "name": value["dataset"]["name"],
        "path": value["dataset"]["path"],
        "rows": value["rows"],
        "columns": value["features"],
        "target": value["preprocessing"]["target"],
        "parsed_key": value["dataset"]["key"],
    }


def delete_dataset(key: str) -> int:
    """Remove what is kept under a key, and what was prepared from it; the bytes set free.

    Raises
    ------
    UserError
        If there is nothing under that key, or a run uses it.
    """
    chosen = [each for each in list_datasets() if key in (each["key"], each.get("parsed_key"))]
    if not chosen:
        raise UserError(f"There is no data set {key!r}.", "See `regatta datasets list`.")
    freed = 0
    for each in chosen:
        if not cache.remove(cache.datasets_folder(each["layer"]) / each["key"]):
            raise UserError(f"The data set {each['key']!r} is in use.", "Stop its run first.")
        freed += each["bytes"]
    return freed


def read_for_prediction(
    path: Path | str,
    preprocessing: Preprocessing,
    check: SchemaCheck | None = None,
    options: ReadingOptions = AS_FOUND,
) -> Iterator[PredictionBatch]:
    """Read a file as a stream against a fitted preprocessing; see `ingest.rereading`."""
    return read_batches(Path(path), preprocessing, check or SchemaCheck(), options)


def _warnings(table: ParsedTable, target: ParsedColumn, drop: Sequence[str]) -> list[str]:
    """What is to be known about the columns that are used."""
    left_out = tuple(f"Column {name!r} " for name in drop)
    settled = set()
    for finding in table.findings:
        # A column that repeats the target is told of as one that gives it away.
        unused = {*drop, target.name} if finding.needs > 1 else drop
        if not finding.matters_without(unused):
            settled.add(finding.message)
    told = [each for each in table.warnings if not each.startswith(left_out)]
    about_target = leaks.about_target(table, target, drop)
    return [each for each in told if each not in settled] + [x.message for x in about_target]


class _Preparation:
    """One making of layer 2."""

    def __init__(
        self,
        table: ParsedTable,
        target: ParsedColumn,
        drop: list[str],
        folder: Path,
        processes: int | None,
        progress: ProgressCallback | None,
        cancelled: Callable[[], bool] | None,
    ) -> None:
        self.table = table
        self.target = target
        self.drop = drop
        self.folder = folder
        self.processes = processes
        self.progress = progress
        self.cancelled = cancelled
        self.dropped: list[DroppedColumn] = []
        self.warnings = _warnings(table, target, drop)
        self.done = self.total = 0

    def run(
        self,
        key: str,
        seed: int,
        validation: float,
        shards: int,
        precision: str,
        on_disk: bool,
    ) -> PreparedData:
        with _Crew(self._process_count(), self._tell) as crew:  # they start while rows are split
            split = split_rows(self.table, self.target, seed, validation)
            plan = Plan(self.table.directory, split, self._provisional([]), precision,
                        folder=self.folder)  # fmt: skip
            self.total = 4 * len(blocks_of(self.table, len(self.table.columns)))
            crew.open(plan)
            columns = self._fitted_columns(split, crew)
            plan = replace(plan, preprocessing=self._provisional(columns))
            blocks = blocks_of(self.table, len(plan.preprocessing.features))
            self.total = self.done + 3 * len(blocks)
            crew.open(plan)
            moments = _merged(crew.map("moments_of", [(block,) for block in blocks]))
            plan = self._scaled(plan, moments)
            target_range = float(moments.low[-1]), float(moments.high[-1])
            offsets = shard_offsets(split.rows_train, shards)
            on_disk = on_disk or len(plan.preprocessing.features) > COLUMNS_FEATURES
            norm = 0.0
            if on_disk:
                norm = self._write(crew, plan, blocks)
            else:
                self._mark(crew, plan, blocks, offsets)
        if split.rows_validation < FEW_HELD_OUT:
            self.warnings.append(_few_held_out(split.rows_validation, validation))
        rows = split.rows_train + split.rows_validation
        if rows < self.table.rows:
            missing = self.table.rows - rows
            without = f"{counted(missing, 'row')} without {self.target.name!r}"
            self.warnings.append(f"{without} {'was' if missing == 1 else 'were'} left out.")
        return PreparedData(
            directory=self.folder,
            key=key,
            dtype=precision,
            rows=rows,
            rows_train=split.rows_train,
            rows_validation=split.rows_validation,
            features=len(plan.preprocessing.features),
            feature_names=plan.preprocessing.feature_names,
            shards=shards,
            train_offsets=list(offsets),
            validation_offsets=list(shard_offsets(split.rows_validation, shards)),
            target_mean=plan.target_mean,
            target_scale=plan.target_scale,
            max_row_norm2=norm,
            preprocessing=plan.preprocessing,
            dataset={
                "path": self.table.path,
                "name": self.table.name,
                "content_hash": self.table.content_hash,
                "key": self.table.key,
                "rows": self.table.rows,
                "target_low": target_range[0],
                "target_high": target_range[1],
            },
            warnings=self.warnings,
            on_disk=on_disk,
            threshold=split.threshold,
            seed=seed,
        )

    def _tell(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        self.done += 1
        if self.progress is not None and self.done % 8 == 0:
            self.progress(ImportProgress("prepare", self.done, self.total, self.table.rows, 0.0))

    def _process_count(self) -> int:
        if self.processes is not None:
            return self.processes
        if self.table.rows * len(self.table.columns) < SMALL_CELLS:
            return 0
        return max(1, min(available_cores(), MAX_PROCESSES))

    # -- fitting --

    def _fitted_columns(self, split: Split, crew: _Crew) -> list[ColumnEncoding]:
        """Encodings fitted on training rows, features not yet scaled."""
        usable = []
        for column in self.table.columns:
            if column.index == self.target.index:
                continue
            if column.name in self.drop:
                self.dropped.append(DroppedColumn(column.name, "dropped by you"))
            elif column.role != "feature":
                self.dropped.append(DroppedColumn(column.name, column.reason))
            elif column.refused:
                raise DataError(f"{column.refused}.",
                                "Mend these cells, or leave the column out.",
                                row=column.refused_line, column=column.name)  # fmt: skip
            else:
                usable.append(column)
        fitted = []
        for column, statistic in zip(usable, self._statistics(split, crew, usable), strict=True):
            encoding = _encoding(column, statistic)
            if encoding is None:
                self._leave_out(column.name, _says_nothing(column, statistic))
            else:
                fitted.append(encoding)
        self._need(fitted)
        return fitted

    def _statistics(
        self, split: Split, crew: _Crew, columns: Sequence[ParsedColumn]
    ) -> Iterator[Any]:
        """What `scatter.column_statistics` says of each column, a few columns at once."""
        rows = min(split.rows_train, scatter.MEDIAN_ROWS)
        most = max(1, MEDIAN_BYTES // (8 * rows))
        names = [column.name for column in columns]
        batches = [(names[start : start + most],) for start in range(0, len(names), most)]
        return itertools.chain.from_iterable(crew.map("column_statistics", batches))

    def _leave_out(self, name: str, reason: str) -> None:
        self.dropped.append(DroppedColumn(name, reason))
        self.warnings.append(f"Column {name!r} was left out: {reason} in the training rows.")

    def _need(self, columns: Sequence[ColumnEncoding]) -> None:
        if not columns:
            reasons = "; ".join(f"{each.name!r}: {each.reason}" for each in self.dropped[:5])
            raise DataError("No column is left to learn from.",
                            reasons or "Add a column beside the target.")  # fmt: skip

    def _provisional(self, columns: list[ColumnEncoding]) -> Preprocessing:
        return Preprocessing(tuple(columns), self.target.name)

    def _check_sizes(self, plan: Plan, scales: npt.NDArray[np.float64]) -> None:
        columns = [each.name for each in plan.preprocessing.columns for _ in each.features]
        for name, scale in zip([*columns, self.target.name], scales, strict=True):
            if not np.isfinite(scale):
                raise DataError(
                    f"The values of {name!r} are too large to be squared.",
                    "Write the column in a larger unit, or as its logarithm.",
                    column=name,
                )

    def _scaled(self, plan: Plan, moments: Moments) -> Plan:
        """The plan with means and scales; constant features are dropped."""
        means, scales = moments.mean, moments.scale
        self._check_sizes(plan, scales)
        constant = (moments.low == moments.high) | (scales == 0)
        columns: list[Any] = []
        start = 0
        for column in plan.preprocessing.columns:
            features = []
            for place, feature in enumerate(column.features, start):
                if not constant[place]:
                    features.append(
                        replace(
                            feature,
                            mean=float(means[place]),
                            scale=float(scales[place]),
                            low=float(moments.low[place]),
                            high=float(moments.high[place]),
                        )
                    )
            start += len(column.features)
            if not features:
                self._leave_out(column.name, "constant")
            elif len(features) == len(column.features) or column.kind == "date":
                columns.append(replace(column, features=tuple(features)))  # type: ignore[type-var]
            else:
                raise AssertionError(f"one level of {column.name!r} cannot be constant alone")
        self._need(columns)
        scale = 1.0 if constant[-1] else float(scales[-1])
        if constant[-1]:
            self.warnings.append(
                f"The target {self.target.name!r} is the same in all training rows."
            )
        encoded = Preprocessing(tuple(columns), self.target.name, tuple(self.dropped))
        rows, width = plan.split.rows_train, len(encoded.features)
        bits = scatter.bucket_bits(rows, width, np.dtype(plan.dtype).itemsize)
        return Plan(plan.table_directory, plan.split, encoded, plan.dtype, float(means[-1]), scale,
                    self.folder, bits)  # fmt: skip

    # -- writing --

    def _write(self, crew: _Crew, plan: Plan, blocks: list[Block]) -> float:
        """Scatter all rows to buckets and sort each; the largest squared norm."""
        for part in PARTS:
            for kind in ("rows", "keys"):
                _reserve(plan.path(kind, part), plan.size(kind, part))
        crew.open(plan)
        counts = crew.map("count_buckets", [(block,) for block in blocks])
        places, edges = _places(counts)
        arguments = [(block, {part: places[part][i] for part in PARTS})
                     for i, block in enumerate(blocks)]  # fmt: skip
        norm = max(crew.map("scatter_block", arguments), default=0.0)
        crew.map(
            "sort_bucket",
            [
                (part, int(start), int(stop))
                for part in PARTS
                for start, stop in zip(edges[part][:-1], edges[part][1:], strict=True)
                if stop > start
            ],
        )
        for part in PARTS:
            plan.path("keys", part).unlink()
        return norm

    def _mark(self, crew: _Crew, plan: Plan, blocks: list[Block], offsets: Sequence[int]) -> None:
        """Write down which shard each row would be shuffled into."""
        _reserve(plan.folder / scatter.MARKS_NAME, 2 * self.table.rows)
        crew.open(plan)
        each = [(block,) for block in blocks]
        below = np.concatenate([[0], np.cumsum(np.sum(crew.map("key_histogram", each), axis=0))])
        # The first key of a shard is found among those of its bin.
        ranks = np.minimum(offsets[1:-1], offsets[-1] - 1)
        bins = np.unique(np.searchsorted(below, ranks, side="right") - 1)
        found = crew.map("keys_within", [(block, bins) for block in blocks])
        keys = np.sort(np.concatenate(found))
        inside = [np.empty(0, np.int64), *(np.arange(below[b], below[b + 1]) for b in bins)]
        bounds = keys[np.searchsorted(np.concatenate(inside), ranks)]
        crew.map("mark_block", [(block, bounds) for block in blocks])


class _Crew:
    """Runs the calls of `scatter` in this process or in children; results in order."""

    def __init__(self, processes: int, tell: Callable[[], None]) -> None:
        self.tell = tell
        self.pool = ChildPool(processes, _SCATTER)
        self.state: dict[str, Any] = {}

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.close()

    def open(self, plan: Plan) -> None:
        while not self.pool.started(1.0):
            pass
        for child in self.pool.children:
            child.call(f"{_SCATTER}:open_plan", plan)
        for child in self.pool.children:
            child.result()
        scatter.open_plan(self.state, plan)

    def map(self, function: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        if not self.pool.children:
            results = []
            for each in arguments:
                results.append(getattr(scatter, function)(self.state, *each))
                self.tell()
            return results
        return self._map_children(function, arguments)

    def _map_children(self, function: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        results: list[Any] = [None] * len(arguments)
        upcoming = iter(range(len(arguments)))
        busy: dict[Child, int] = {}

        def start(child: Child) -> None:
            index = next(upcoming, None)
            if index is not None:
                busy[child] = index
                child.call(f"{_SCATTER}:{function}", *arguments[index])

        for child in self.pool.children:
            start(child)
        while busy:
            for child in ready(list(busy)):
                results[busy.pop(child)] = child.result()
                self.tell()
                start(child)
        return results


_SCATTER = "regatta.ingest.scatter"


def _merged(parts: Sequence[Moments]) -> Moments:
    total = parts[0]
    for part in parts[1:]:
        total = total.merged(part)
    return total


def _reserve(path: Path, size: int) -> None:
    """Make a file of the full size, so that a full disk is an error now and not a signal later."""
    with path.open("wb") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except AttributeError:
            file.truncate(size)
        except OSError as error:
            raise UserError(
                f"There is no room for the prepared rows ({size / 1e9:.1f} GB): {error.strerror}.",
                "Free some space, or set REGATTA_HOME to another disk.",
            ) from None


def _places(
    counts: Sequence[dict[str, npt.NDArray[np.int64]]],
) -> tuple[dict[str, list[npt.NDArray[np.int64]]], dict[str, npt.NDArray[np.int64]]]:
    """For each block where its rows of each bucket go, and where the buckets begin and end."""
    places: dict[str, list[npt.NDArray[np.int64]]] = {}
    edges: dict[str, npt.NDArray[np.int64]] = {}
    for part in PARTS:
        total = np.sum([each[part] for each in counts], axis=0)
        edges[part] = np.concatenate([[0], np.cumsum(total)])
        upcoming = edges[part][:-1].copy()
        places[part] = []
        for each in counts:
            places[part].append(upcoming.copy())
            upcoming += each[part]
    return places, edges


def _few_held_out(rows: int, share: float) -> str:
    held_out = f"{counted(rows, 'row')} {'is' if rows == 1 else 'are'} held out"
    return (
        f"Only {held_out}: scores on so few say little. Add rows, or hold out a larger share than "
        f"{share:g} (--validation)."
    )


# -- encodings ------------------------------------------------------------------------------------


def _encoding(column: ParsedColumn, statistic: Any) -> ColumnEncoding | None:
    """The encoding of a column, features not yet scaled; ``None`` if it says nothing."""
    if statistic is None:
        return None
    if column.kind == "category":
        return _category(column, statistic)
    if column.kind == "boolean":
        impute = 1.0 if statistic > 0.5 else 0.0
        features = (Feature(column.name, 0.0, 1.0),)
        words = column.type
        return BooleanEncoding(
            column.name, impute, features, words.false, words.true, words.missing
        )
    if column.kind == "date":
        return _date(column, statistic)
    return NumberEncoding(
        column.name,
        statistic,
        (Feature(column.name, 0.0, 1.0),),
        column.type.missing,
        column.type.style.decimal,
        column.type.style.thousands,
        column.type.style.affix,
        column.type.style.parentheses,
    )


def _says_nothing(column: ParsedColumn, statistic: Any) -> str:
    """Why a column has no encoding."""
    if column.kind != "category":
        return "all missing"
    return "no text comes up often enough" if len(statistic or ()) > 1 else "constant"


def _category(column: ParsedColumn, counts: dict[str | None, int]) -> CategoryEncoding | None:
    levels, other = choose_levels(counts)
    if len(levels) + other < 2:
        return None
    name = column.name
    features = [Feature(f"{name}={level}", 0.0, 1.0, level=level) for level in levels]
    if other:
        features.append(Feature(f"{name}={OTHER_LEVEL}", 0.0, 1.0))
    rare = [MISSING_LEVEL if level is None else level for level, n in counts.items() if n]
    rare = [level for level in rare if level not in set(levels)]
    kept = tuple(rare) if len(rare) <= MAX_RARE_LEVELS else ()
    return CategoryEncoding(name, levels, other, tuple(features), kept, column.type.missing)


def _date(column: ParsedColumn, median: float) -> DateEncoding:
    timed = has_time(column.type.format)
    parts = [part for part in DATE_PARTS if timed or not part.startswith("day")]
    features = tuple(Feature(f"{column.name}:{part}", 0.0, 1.0, part=part) for part in parts)
    return DateEncoding(column.name, median, features, column.type.format, column.type.missing)
