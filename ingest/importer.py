"""Reads a file once, as a stream, into a parsed table.

                        ┌─ chunk ─▶ child: parse ─┐ summaries, in the order of the file
    file ──▶ splitter ──┼─ chunk ─▶ child: parse ─┼─▶ tallies, codes of levels, place in the file
             + hash     └─ chunk ─▶ child: parse ─┘        │
                                     child: write ◀────────┘

The splitter only looks for ends of records; all parsing and writing is done by the children (in
this process for a small file). If a column turns out to be of another type than the sample
showed, the file is read again with that type.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from blake3 import blake3

from regatta.configuration import AS_FOUND, ReadingOptions
from regatta.ingest import cache, chunks, findings, parsing, rejecting
from regatta.ingest.child import Child, ChildPool, ready
from regatta.ingest.column_type import (
    MAX_BAD_EXAMPLES,
    MAX_LEVEL_LENGTH,
    MAX_LEVELS_KEPT,
    MAX_LEVELS_TOGETHER,
    ColumnType,
)
from regatta.ingest.columns import (
    Tally,
    Verdict,
    judge,
    refuse_second_header,
)
from regatta.ingest.dialect import Dialect
from regatta.ingest.mending import MOST_MENDED, Mend, mends, mends_among, told
from regatta.ingest.near_misses import near_miss
from regatta.ingest.overrides import (
    BY_YOU,
    ColumnRule,
    GivenDialect,
    check_encoding,
    column_rules,
    evidence,
    given_encoding,
    with_options,
)
from regatta.ingest.sample import CHILDREN_BYTES, MAX_PROCESSES, Plan, Sample
from regatta.ingest.sniffing import Sniffed, refuse_faulty, sniff
from regatta.ingest.source import (
    LEGACY,
    FileIdentity,
    Patch,
    Source,
    guessed_encoding,
    is_complete,
    open_source,
    stream_text,
    text_of,
)
from regatta.ingest.table import (
    FORMAT,
    VALUES_NAME,
    GroupLines,
    ParsedColumn,
    ParsedTable,
    load_table,
)
from regatta.utils import (
    DataError,
    RegattaError,
    UserError,
    available_cores,
    counted,
    fingerprint,
    home,
    read_json,
    write_json,
)

# Smaller files are parsed in the importing process: starting others would take longer.
SMALL_BYTES = 8 << 20
MAX_PASSES = 5
MAX_COLUMNS = 100_000


@dataclass(frozen=True)
class ImportProgress:
    """How far an import is. ``stage`` is read, check or prepare."""

    stage: str
    bytes_done: int
    bytes_total: int
    rows: int
    seconds: float

    @property
    def fraction(self) -> float:
        return min(1.0, self.bytes_done / self.bytes_total) if self.bytes_total else 1.0

    @property
    def rows_per_second(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0


ProgressCallback = Callable[[ImportProgress], None]
# Where a chunk goes: its first byte in the file of values, and, for each column of texts that has
# them, the file's codes of the chunk's levels.
Destination = tuple[int, dict[int, list[int]]]


class Cancelled(UserError):
    """The import was cancelled."""

    def __init__(self) -> None:
        super().__init__("The import was cancelled.", "Start it again at any time.")


class _WrongEncoding(Exception):
    """The start of the text was UTF-8, some later part is not."""


class _BadRow(DataError):
    """A row cannot be read."""


def import_table(
    path: Path,
    options: ReadingOptions = AS_FOUND,
    *,
    processes: int | None = None,
    progress: ProgressCallback | None = None,
    cancelled: Callable[[], bool] | None = None,
    chunk_bytes: int = chunks.CHUNK_BYTES,
) -> ParsedTable:
    """The parsed table of a file: from the cache if the file is unchanged, else read now."""
    options = options.reading
    identity = FileIdentity.of(path)
    known = _indexed(identity, options)
    if known:
        return known
    with cache.one_at_a_time(identity.path, cancelled):
        known = _indexed(identity, options)
        if known:
            return known
        job = _Import(Path(identity.path), options, processes, progress, cancelled, chunk_bytes)
        try:
            table = job.run()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RegattaError(
                f"The disk of {home()} is full: {path.name!r} was not imported.",
                "Make room; its columns take about as much as the file.",
            ) from error
        if FileIdentity.of(path) != identity:
            raise DataError(f"{path.name!r} was changed while it was read.", "Try again.")
        _remember(identity, options, table.key)
        return table


def known_table(path: Path, options: ReadingOptions = AS_FOUND) -> ParsedTable | None:
    """The parsed table of a file, if it was read before and has not changed since."""
    return _indexed(FileIdentity.of(path), options.reading)


def _index_path(identity: FileIdentity, options: ReadingOptions) -> Path:
    digest = hashlib.sha256(identity.path.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    given = options.in_force()
    name = f"{digest}-{fingerprint(given)[:16]}" if given else digest
    return cache.datasets_folder("index") / f"{name}.json"


def _indexed(identity: FileIdentity, options: ReadingOptions) -> ParsedTable | None:
    try:
        value = read_json(_index_path(identity, options))
    except (OSError, ValueError):
        return None
    if value.get("format") != FORMAT or value.get("identity") != asdict(identity):
        return None
    directory = cache.entry("parsed", value["key"])
    if directory is None:
        return None
    table = load_table(directory)
    return replace(table, path=identity.path, name=Path(identity.path).name)


def _remember(identity: FileIdentity, options: ReadingOptions, key: str) -> None:
    value = {"format": FORMAT, "identity": asdict(identity), "key": key}
    write_json(_index_path(identity, options), value, durable=False)


class _Import:
    """One import of one file."""

    def __init__(
        self,
        path: Path,
        options: ReadingOptions,
        processes: int | None,
        progress: ProgressCallback | None,
        cancelled: Callable[[], bool] | None,
        chunk_bytes: int,
    ) -> None:
        self.path = path
        self.options = options
        self.size = path.stat().st_size
        self.processes = processes
        self.progress = progress
        self.cancelled = cancelled
        self.chunk_bytes = chunk_bytes
        self.started = time.monotonic()
        self.told = 0.0
        self.pool = ChildPool(0)
        self.plan: Plan | None = None  # once there is a sample
        self.rules: list[ColumnRule] = []
        self.encoding: str | None = None  # where it was given
        self.rejected: list[rejecting.BadRow] = []

    def run(self) -> ParsedTable:
        try:
            return self._run(None)
        except _WrongEncoding:
            self.pool.close()
            return self._run(LEGACY)
        finally:
            self.pool.close()

    def _run(self, encoding: str | None) -> ParsedTable:
        self.encoding = given = given_encoding(self.options)
        self.rejected = []
        source, head = open_source(self.path, given or encoding)
        check_encoding(source, self.options)
        try:
            return self._read_as(source, head, guessed=bool(encoding and not given))
        except DataError as error:
            with_options(error, self.options.in_force())
            raise

    def _read_as(self, source: Source, head: bytes, *, guessed: bool) -> ParsedTable:
        """The table of an opened file; whether its encoding was ``guessed``."""
        self._start_children(source)  # while this process looks at a sample
        sniffed = sniff(
            text_of(head),
            source.encoding,
            complete=is_complete(head),
            name=self.path.name,
            given=GivenDialect.of(self.options),
        )
        sniffed.evidence |= evidence(self.options)
        self._refuse_faulty(source, sniffed)
        width = len(sniffed.dialect.names)
        if width > MAX_COLUMNS:
            raise DataError(
                f"{self.path.name!r} has {width:,} columns; the most is {MAX_COLUMNS:,}.",
                "Check its separator.",
            )
        repairs = [*source.repairs, *sniffed.repairs]
        if guessed:
            repairs.append(guessed_encoding(source.encoding))
        self.rules = column_rules(sniffed.dialect.names, self.options)
        sample = Sample.of(source, sniffed)
        types = sample.types(self.rules)
        with cache.building("parsed") as folder:
            reading = self._settle(source, sniffed, sample, types, folder)
            self.pool.stop()  # and have its memory for what follows
            self.rejected.sort(key=_line)
            table = self._table(reading, sniffed, folder, repairs)
            table = findings.examine(table)
            table.save()
            if self.rejected:
                rejecting.write_rejected(self.rejected, folder / rejecting.REJECTED_NAME)
            # Another process may have been first: what stands there is what counts.
            kept = load_table(cache.publish(folder, "parsed", table.key))
            return replace(kept, path=table.path, name=table.name)

    def _refuse_faulty(self, source: Source, sniffed: Sniffed) -> None:
        """Refuse a second table, unless its row cannot be read at all: that is told later."""
        try:
            refuse_faulty(sniffed)
        except DataError as error:
            last = error.row or 0
            scan = rejecting.Scan(source, sniffed.dialect)
            bad = itertools.takewhile(lambda row: row.line <= last, scan)
            if last not in {row.line for row in bad}:
                raise

    def _start_children(self, source: Source) -> None:
        self.pool = ChildPool(self._process_count(source), *parsing.MODULES)

    def _process_count(self, source: Source) -> int:
        if self.processes is not None:
            return self.processes
        unpacked = self.size * (8 if source.packing else 1)
        if unpacked < SMALL_BYTES:
            return 0
        return min(available_cores(), self.plan.processes if self.plan else MAX_PROCESSES)

    def _settle(
        self,
        source: Source,
        sniffed: Sniffed,
        sample: Sample,
        types: list[ColumnType],
        folder: Path,
    ) -> _Reading:
        """Read the file until every column has a type that fits all of it."""
        dialect, mended = sniffed.dialect, list[Mend]()
        for _ in range(MAX_PASSES):
            self.plan = sample.plan(types, self.chunk_bytes)
            self.pool.keep(self._process_count(source))
            reading = self._read(source, sniffed, types, folder / VALUES_NAME, mended)
            source = reading.source
            verdicts = [
                judge(name, each, tally, rule)
                for name, each, tally, rule in zip(
                    dialect.names, types, reading.tallies, self.rules, strict=True
                )
            ]
            reading.verdicts = verdicts
            refuse_second_header(dialect.names if dialect.header else (), types, reading.tallies)
            if not any(verdict.again for verdict in verdicts):
                return reading
            types = [verdict.type for verdict in verdicts]
        name = next(n for n, v in zip(dialect.names, reading.verdicts, strict=True) if v.again)
        raise DataError(f"No type fits column {name!r}.", "Mend its cells.", column=name)

    def _read(
        self,
        source: Source,
        sniffed: Sniffed,
        types: list[ColumnType],
        file: Path,
        mended: list[Mend],
    ) -> _Reading:
        """Read the file once, and again where a broken row could be mended."""
        while True:
            reading = _Reading(self, source, sniffed.dialect, types, file)
            reading.mended = mended
            try:
                reading.run()
            except (_BadRow, chunks.LongRow) as error:
                patches = self._mended(reading, sniffed, error) or self._set_aside(
                    reading, sniffed, error
                )
                together = sorted([*source.patches, *patches], key=_offset)
                source = replace(source, patches=tuple(together))
                self.pool.close()  # they are at work on the broken rows
                self._start_children(source)
            else:
                return reading

    def _mended(self, reading: _Reading, sniffed: Sniffed, error: DataError) -> list[Patch]:
        """Mends up to the first broken row that cannot be mended."""
        enough = self.options.on_bad_rows == "refuse" or len(reading.mended) > MOST_MENDED
        if enough or reading.unfit or error.row is None:
            return []
        found = mends(reading.source, sniffed.dialect, sniffed.records, error.row)
        reading.mended += found
        return [each.patch for each in found]

    def _set_aside(self, reading: _Reading, sniffed: Sniffed, error: DataError) -> list[Patch]:
        """Patches in the place of all rows that cannot be read, or the error that lists them."""
        scan = rejecting.Scan(reading.source, sniffed.dialect, reading.unfit)
        if self.options.on_bad_rows != "skip":
            raise rejecting.refusal(self._watched(scan), error, sniffed.dialect) from None
        bad = rejecting.all_of(self._watched(scan))
        if not bad:
            raise error
        most = MOST_MENDED - len(reading.mended)
        whole = {row.offset: row.text.decode("utf-8", "replace") for row in bad if not row.column}
        mended = mends_among(whole, sniffed.dialect, sniffed.records, scan.rows, most)
        reading.mended += [
            Mend(row.line, *mended[row.offset]) for row in bad if row.offset in mended
        ]
        rejected = [row for row in bad if row.offset not in mended]
        rejecting.refuse_second_header(rejected, sniffed.dialect)
        self.rejected += rejected
        rows = scan.rows + len(mended)
        rejecting.check_share(self.rejected, rows, self.options.max_bad_rows)
        return [*(patch for _, patch in mended.values()), *(row.patch for row in rejected)]

    def _watched(self, scan: rejecting.Scan) -> Iterator[rejecting.BadRow]:
        """The bad rows of a file, unless the import is to stop."""
        for row in scan:
            self.tell("read", 0, scan.rows)
            yield row

    def _table(
        self, reading: _Reading, sniffed: Sniffed, folder: Path, repairs: list[str]
    ) -> ParsedTable:
        columns = [
            _column(name, index, verdict, tally, rule, sniffed)
            for index, (name, verdict, tally, rule) in enumerate(
                zip(
                    sniffed.dialect.names,
                    reading.verdicts,
                    reading.tallies,
                    self.rules,
                    strict=True,
                )
            )
        ]
        dialect = _with_marks(sniffed.dialect, columns)
        types = [column.type.to_json() for column in columns]
        given = self.options.in_force()
        key = fingerprint([FORMAT, reading.content_hash, dialect.to_json(), types, given])
        return ParsedTable(
            directory=folder,
            key=key,
            path=str(self.path),
            name=self.path.name,
            content_hash=reading.content_hash,
            rows=reading.rows,
            dialect=dialect,
            columns=tuple(columns),
            group_rows=tuple(reading.group_rows),
            group_lines=tuple(reading.group_lines),
            duplicates=0,
            evidence=sniffed.evidence,
            repairs=(
                *repairs,
                *reading.repairs(),
                *(repair for verdict in reading.verdicts for repair in verdict.repairs),
            ),
            warnings=(
                *([rejecting.told(self.rejected, reading.rows)] if self.rejected else []),
                *(w for v in reading.verdicts for w in v.warnings),
            ),
            patches=reading.source.patches,
            options=given,
            rejected=tuple(each.to_json() for each in self.rejected[: rejecting.SHOWN]),
            rejected_rows=len(self.rejected),
        )

    def tell(self, stage: str, done: int, rows: int, *, last: bool = False) -> None:
        """Report progress, a few times a second; raise if the import is to stop."""
        if self.cancelled is not None and self.cancelled():
            raise Cancelled
        now = time.monotonic()
        if self.progress is not None and (last or now - self.told > 0.1):
            self.told = now
            seconds = now - self.started
            self.progress(ImportProgress(stage, done, self.size, rows, seconds))


class _Reading:
    """One pass over the file with given types."""

    def __init__(
        self, job: _Import, source: Source, dialect: Dialect, types: list[ColumnType], file: Path
    ) -> None:
        self.job = job
        self.source = source
        self.dialect = dialect
        self.types = types
        self.file = file
        self.layout = parsing.Layout.of(types)
        self.tallies = [Tally() for _ in types]
        self.verdicts: list[Verdict] = []
        self.group_rows: list[int] = []
        self.group_lines: list[GroupLines | None] = []
        self.mended: list[Mend] = []
        self.unfit: dict[int, tuple[str, str, str]] = {}  # line: column, reason, hint
        self.rows = self.blank_rows = self.position = 0
        self.line = dialect.first_line
        self.closed: set[int] = set()
        self.levels = 0  # of all columns of texts together
        self.content_hash = ""

    def run(self) -> None:
        self.file.write_bytes(b"")
        if self.job.pool.children:
            self._run_children(self.job.pool)
        else:
            parser = parsing.ChunkParser(str(self.source.path), self.dialect, self.types)
            for chunk in self._chunks():
                summary = parser.parse(chunk, sorted(self.closed))
                destination = self._add(summary, chunk)
                if destination:
                    parser.write(chunk.index, str(self.file), *destination)
        if self.unfit:
            self._refuse_unfit()
        if not self.rows:
            raise DataError(
                f"{self.source.path.name!r} has a header and no rows.", "Add rows of data."
            )
        self.job.tell("read", self.job.size, self.rows, last=True)

    def repairs(self) -> list[str]:
        """What was left out, in words."""
        count = self.blank_rows
        blank = [f"{counted(count, 'row')} without any value left out"]
        return [*told(self.mended), *(blank if count else [])]

    def _chunks(self) -> Iterator[chunks.Chunk]:
        assert self.job.plan
        source, digest, size = self.source, blake3(), self.job.plan.chunk_bytes
        if source.direct:
            with source.path.open("rb", buffering=0) as file:
                yield from chunks.cut(
                    file, self.dialect, size=size, start=source.mark, digest=digest
                )
        else:
            yield from chunks.split(stream_text(source, size), self.dialect, size=size)
            with source.path.open("rb", buffering=0) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        self.content_hash = digest.hexdigest()

    def _run_children(self, pool: ChildPool) -> None:
        while not pool.started(0.2):
            self.tell()
        for child in pool.children:
            child.call(_OPEN, str(self.source.path), self.dialect, self.types)
        _Schedule(self, pool).run()

    def _add(self, summary: parsing.Summary, chunk: chunks.Chunk) -> Destination | None:
        """Add a chunk's rows to those of all before it; where they go, if there are any."""
        if summary.not_utf8 and self.dialect.encoding == "utf-8" and not self.job.encoding:
            raise _WrongEncoding
        if summary.fault:
            line = self.line + summary.fault.line
            raise _BadRow(f"Line {line} {summary.fault.message}.", summary.fault.hint, row=line)
        for each in summary.unfit:
            column = self.dialect.names[each.column or 0]
            self.unfit[self.line + each.line] = (column, each.message, each.hint)
        if self.job.options.on_bad_rows != "skip" and len(self.unfit) >= rejecting.SHOWN:
            self._refuse_unfit()
        before, self.line = self.line, self.line + summary.lines
        self.blank_rows += summary.blank_rows
        destination = None
        if summary.rows:
            gaps = summary.gaps
            self.group_lines.append(None if gaps is None else GroupLines(before, tuple(gaps)))
            self._count_numbers(summary, before)
            destination = self.rows * self.layout.row_bytes, self._count_texts(summary)
            self.rows += summary.rows
            self.group_rows.append(summary.rows)
        self.position = chunk.position
        self.tell()
        return destination

    def tell(self) -> None:
        """Report how far the reading is, or stop it."""
        self.job.tell("read", self.position, self.rows)

    def _refuse_unfit(self) -> None:
        line, (column, reason, hint) = min(self.unfit.items())
        where = f"Line {line}, column {column!r},"
        raise _BadRow(f"{where} {reason}.", hint, row=line, column=column)

    def _count_numbers(self, summary: parsing.Summary, before: int) -> None:
        facts = summary.numeric
        assert facts is not None
        for place, index in enumerate(self.layout.numeric):
            tally = self.tallies[index]
            odd = summary.odd.get(index)
            tally.missing += int(facts.missing[place]) - (odd.count if odd else 0)
            tally.minimum = float(np.fmin(tally.minimum, facts.minimum[place]))
            tally.maximum = float(np.fmax(tally.maximum, facts.maximum[place]))
            first = float(facts.first[place])
            follows = tally.rows == 0 or first - tally.last == 1
            tally.counting = tally.counting and bool(facts.counting[place]) and follows
            if tally.rows == 0:
                tally.first = first
            tally.last = float(facts.last[place])
            tally.rows += summary.rows
            swapped = summary.swapped.get(index, (0, 0.0, 0.0))
            tally.swapped_bad += swapped[0]
            tally.travel += swapped[1]
            tally.swapped_travel += swapped[2]
            if odd:
                tally.bad += odd.count
                room = MAX_BAD_EXAMPLES - len(tally.examples)
                tally.examples += [(before + line, text) for line, text in odd.examples[:room]]
                tally.add_words(odd.words)

    def _count_texts(self, summary: parsing.Summary) -> dict[int, list[int]]:
        """Add up the columns of texts; for each that is not closed the file's codes of the
        chunk's levels."""
        codes = {}
        for index, (levels, counts, missing) in summary.levels.items():
            tally = self.tallies[index]
            tally.rows += summary.rows
            tally.missing += missing
            if index in summary.without_levels:
                tally.overflow = True
                tally.long_texts |= index in summary.long_texts
            if not tally.overflow:
                codes[index] = _merge_levels(tally, levels, counts)
            if tally.overflow:
                self._close(index)
        self._close_largest()
        return {index: each for index, each in codes.items() if index not in self.closed}

    def _close_largest(self) -> None:
        """Where all columns together have more levels than are kept, close those with the most
        until the others have half as many."""
        sizes = {index: len(self.tallies[index].levels) for index in self.layout.texts}
        total = self.levels = sum(sizes.values())
        if total <= MAX_LEVELS_TOGETHER:
            return
        for index in sorted(sizes, key=sizes.__getitem__, reverse=True):
            self.tallies[index].overflow = True
            self.tallies[index].crowded = sizes[index]
            self._close(index)
            total -= sizes[index]
            if total <= MAX_LEVELS_TOGETHER // 2:
                return

    def _close(self, index: int) -> None:
        """Keep no levels of a column of texts any more."""
        self.tallies[index].levels, self.tallies[index].counts = {}, []
        self.closed.add(index)


def _offset(patch: Patch) -> int:
    return patch.offset


def _line(row: rejecting.BadRow) -> int:
    return row.line


_OPEN, _PARSE, _WRITE = (
    f"{parsing.__name__}:{name}" for name in ("open_parser", "parse_chunk", "write_chunk")
)


# Chunks that a child has at once: one that it parses, one to go on with and, unless there are many
# children, one that waits for its place in the file, which chunks of other children come before.
AHEAD, AHEAD_OF_MANY, MANY = 3, 2, 5
# Children that get a chunk before it is known how much memory one takes; how many times as much it
# may take later. What this process takes for a level of a column of texts.
FIRST, GROWTH = 3, 1.25
LEVEL_BYTES = 250


class _Schedule:
    """Hands chunks to children; counts their summaries in the order of the file."""

    def __init__(self, reading: _Reading, pool: ChildPool) -> None:
        self.reading, self.pool = reading, pool
        self.source = reading._chunks()
        # What the answers that are still to come from a child are to: a chunk parsed, or other.
        self.calls: dict[Child, deque[int | None]]
        self.calls = {child: deque([None]) for child in pool.children}
        self.waiting: deque[tuple[chunks.Chunk, Child]] = deque()  # in the order of the file
        self.parsed: dict[int, parsing.Summary] = {}
        self.ahead = AHEAD if len(self.calls) < MANY else AHEAD_OF_MANY
        self.more = True

    def run(self) -> None:
        self._hand_out()
        while busy := [child for child, calls in self.calls.items() if calls]:
            for child in ready(busy, 0.5):
                answer, index = child.result(), self.calls[child].popleft()
                if index is not None:
                    self.parsed[index] = answer
            self.reading.tell()
            self._commit()
            self._hand_out()

    def _hand_out(self) -> None:
        """Give each child as many chunks as it may have, one child after the other."""
        has = Counter(child for _, child in self.waiting)
        at_work = self._fitting(has)
        for _ in range(self.ahead):
            for child in at_work:
                if not self.more or has[child] >= self.ahead:
                    continue
                self.reading.tell()
                chunk = next(self.source, None)
                if chunk is None:
                    self.more = False
                    return
                has[child] += 1
                self.waiting.append((replace(chunk, data=None), child))
                self.calls[child].append(chunk.index)
                child.call(_PARSE, chunk, sorted(self.reading.closed))

    def _fitting(self, has: Counter[Child]) -> list[Child]:
        """As many children as there is memory for; of the others end those that are done."""
        children = [*self.calls]
        if not self.reading.group_rows:  # nothing is known yet
            return children[:FIRST]
        heaviest = max(child.held for child in children)
        room = CHILDREN_BYTES - LEVEL_BYTES * self.reading.levels
        most = max(1, int(room // max(1.0, GROWTH * heaviest)))
        for child in reversed(children[most:]):
            if has[child] or self.calls[child]:
                break
            del self.calls[child]
        self.pool.keep(len(self.calls))
        return children[:most]

    def _commit(self) -> None:
        """Count and place the chunks that are parsed, as far as all before them are."""
        while self.waiting and self.waiting[0][0].index in self.parsed:
            chunk, child = self.waiting.popleft()
            summary = self.parsed.pop(chunk.index)
            destination = self.reading._add(summary, chunk)
            if destination:
                self.calls[child].append(None)
                child.call(_WRITE, chunk.index, str(self.reading.file), *destination)


def _merge_levels(tally: Tally, levels: list[str], counts: list[int]) -> list[int]:
    """Add up the levels of a chunk; the codes that they have in the file."""
    known = tally.levels
    if all(map(known.__contains__, levels)):
        codes = [*map(known.__getitem__, levels)]
    else:
        codes = [known.setdefault(level, len(known)) for level in levels]
    tally.counts += [0] * (len(known) - len(tally.counts))
    for code, count in zip(codes, counts, strict=True):
        tally.counts[code] += count
    tally.overflow = len(known) > MAX_LEVELS_KEPT
    return codes


def _column(
    name: str, index: int, verdict: Verdict, tally: Tally, rule: ColumnRule, sniffed: Sniffed
) -> ParsedColumn:
    numeric = verdict.type.numeric
    category = verdict.type.kind == "category"
    spread = numeric and tally.maximum >= tally.minimum
    why = _evidence(verdict, tally)
    if category and tally.overflow and not rule.kind:
        why += _near_miss(sniffed, index)
    return ParsedColumn(
        name=name,
        index=index,
        kind=verdict.kind or verdict.type.kind,
        type=verdict.type,
        role=verdict.role,
        missing=tally.missing + (tally.bad if numeric else 0),
        distinct=len(tally.levels) if category and not tally.overflow else None,
        evidence=why + (f"; kind {BY_YOU}" if rule.kind else ""),
        reason=verdict.reason,
        refused=verdict.refused,
        refused_line=tally.examples[0][0] if verdict.refused and tally.examples else None,
        minimum=tally.minimum if spread else None,
        maximum=tally.maximum if spread else None,
        levels=tuple(tally.levels),
        counts=tuple(tally.counts),
        odd=tuple(tally.examples),
    )


def _evidence(verdict: Verdict, tally: Tally) -> str:
    kind = verdict.type.kind
    cells, good = counted(tally.present, "cell"), tally.present - tally.bad
    if tally.present == 0:
        return f"all {tally.rows:,} cells are missing" if tally.rows > 1 else "its cell is missing"
    if kind == "category":
        if tally.long_texts:
            return f"texts of more than {MAX_LEVEL_LENGTH:,} letters in {cells}"
        distinct = counted(len(tally.levels), "different text")
        return f"{'too many different texts' if tally.overflow else distinct} in {cells}"
    words = {"number": "numbers", "date": "dates", "boolean": "one of two words"}
    one = {"number": "a number", "date": "a date", "boolean": "one of two words"}
    if good == tally.present == 1:
        return f"its only cell is {one[kind]}"
    return f"{good:,} of {cells} are {words[kind]}"


def _near_miss(sniffed: Sniffed, index: int) -> str:
    """What most cells of a column of many texts are in the first rows, where some are not."""
    width = len(sniffed.dialect.names)
    rows = zip(sniffed.records, sniffed.lines, strict=True)
    cells = [(record[index].strip(), line) for record, line in rows if len(record) == width]
    miss = near_miss(Counter(cell for cell, _ in cells))
    if miss is None:
        return ""
    line = next(line for cell, line in cells if cell == miss.example)
    return f"; in the first {counted(len(cells), 'row')} {miss.sentence(line)}"


def _with_marks(dialect: Dialect, columns: list[ParsedColumn]) -> Dialect:
    """The dialect with the decimal and thousands marks that its columns use."""
    styles = [c.type.style for c in columns if c.type.kind == "number" and c.maximum is not None]
    commas = sum(style.decimal == "," for style in styles)
    marks = [style.thousands for style in styles if style.thousands]
    return replace(dialect, decimal="," if commas else ".", thousands=marks[0] if marks else "")
