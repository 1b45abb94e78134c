"""How a file is written: separator, quote, header, lines before the table; and the evidence.

The start of the text is cut into records under every separator that might be meant. A separator
scores by how alike the widths of its records are and by the share of cells that make sense
(after van den Burg, Nazábal and Sutton, "Wrangling messy CSV files by detecting row and type
patterns", 2019). Decides purely: text in, `Dialect` out.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from regatta.ingest.dates import matching_date_formats
from regatta.ingest.dialect import SEPARATORS, Dialect, read_records, second_table, unescape
from regatta.ingest.overrides import BY_YOU, NOTHING, GivenDialect
from regatta.ingest.values import BOOLEAN_PAIRS, CURRENCIES, is_missing, looks_numeric
from regatta.utils import DataError, counted

# A separator that often stands inside cells must do better than the usual ones.
HANDICAP = {" ": 0.9, "^": 0.8, "~": 0.8}
COMMENTS = ("#", "%", "//")
SAMPLE_RECORDS = 400
SAMPLE_TEXT = 1 << 17
SAMPLE_COLUMNS = 200
MOST_FRONT_LINES = 500
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar", " ": "blank"}


@dataclass
class Sniffed:
    """A dialect, why it was chosen, and the records of the sample (without the header) with the
    line that each begins in."""

    dialect: Dialect
    records: list[list[str]]
    lines: list[int]
    evidence: dict[str, str] = field(default_factory=dict)
    repairs: list[str] = field(default_factory=list)
    fault: DataError | None = None  # of a row that is no title and does not fit the table


@dataclass(frozen=True)
class _Reading:
    """The sample under one separator and quote."""

    delimiter: str
    quote: str
    escape: str
    runs: bool
    records: list[list[str]]
    lines: list[int]  # of each record: the index of its first line
    score: float
    width: int
    settled: bool = False  # nearly all records alike, and nearly all cells make sense

    @property
    def alike(self) -> bool:
        """Whether all records have the same number of cells, more than one."""
        return self.width > 1 and all(len(record) == self.width for record in self.records)


def sniff(
    text: str,
    encoding: str,
    *,
    complete: bool,
    name: str = "file",
    expected: Sequence[str] = (),
    given: GivenDialect = NOTHING,
) -> Sniffed:
    """Find the dialect of a text.

    Parameters
    ----------
    text : str
        The start of the file.
    complete : bool
        Whether that is all of it. If not, the last record is left aside.
    expected : sequence of str
        Names that the columns should have, where they are known: tells a header from data.
    given : GivenDialect
        What is not to be found, because it is known.

    Raises
    ------
    DataError
        If there is no table in it.
    """
    lines = list(io.StringIO(text, newline=""))
    if not complete and len(lines) > 1:
        lines = lines[:-1]
    evidence: dict[str, str] = {}
    repairs: list[str] = []
    start, wanted = _preface(lines, repairs) if given.skip_rows is None else (given.skip_rows, "")
    comment, start = _comments(lines, start, given.comment)
    body = _sample(lines, start)
    if not any(line.strip() for line in body) and given.skip_rows:
        raise DataError(
            f"{name!r} holds no table below line {given.skip_rows}.", "Give a smaller --skip-rows."
        )
    if not any(line.strip() for line in body):
        raise DataError(f"{name!r} holds no table.", "A CSV needs a header and some rows.")
    best = _best_reading(body, comment, wanted, given)
    width = best.width
    best = _resumed(best, body)
    _trim_header(best, body, repairs)
    first, fault = _table_start(best, start) if given.skip_rows is None else (0, None)
    records, record_lines = best.records[first:], best.lines[first:]
    if first:
        repairs.append(f"{counted(record_lines[0], 'line')} before the table skipped")
    said = _known_header(records[0], expected, given)
    names, header, why = _names(records, width, comment, lines, start, repairs, said)
    header_rows = 0
    if header == "row":
        header_rows = _header_rows(records)
        if header_rows > 1:
            names = _merged_names(records[:header_rows], width, repairs)
    data = records[header_rows:]
    width = max(width, len(names))
    if header == "row" and not data and not complete:
        raise DataError(f"The first row of {name!r} is too long.", "Check the end of its lines.")
    first_line = start + record_lines[header_rows] if data else len(lines)
    seen = Counter(len(record) for record in data)
    if width > 1 or given.delimiter is not None:
        evidence["delimiter"] = (
            f"{NAMES.get(best.delimiter, best.delimiter)!r} on "
            f"{counted(len(best.records), 'sampled row')}, "
            f"{counted(width, 'column')} in {seen.get(width, 0)} of {len(data)}"
        )
    evidence["header"] = why
    if given.delimiter is not None:
        evidence["delimiter"] += f"; {BY_YOU}"
    dialect = Dialect(
        encoding=encoding,
        delimiter=best.delimiter,
        quote=best.quote,
        escape=best.escape,
        header=header != "none",
        skip_rows=start + record_lines[0],
        comment=comment,
        runs=best.runs,
        padded=_padded(body, best),
        literal=given.quote == "",
        newline=_newline(text),
        offset=sum(len(line.encode()) for line in lines[:first_line]),
        first_line=first_line + 1,
        names=names,
    )
    if comment:
        evidence["comment"] = f"lines that start with {comment!r}"
        repairs.append(f"lines that start with {comment!r} left out as comments")
    if not dialect.quote:
        why = "as you say" if given.quote == "" else "no cell begins with one"
        repairs.append(f'quotes (") are taken as text: {why}')
    if given.header is False:
        repairs.append("no header, as you say: columns named column_0, column_1, …")
    elif not dialect.header:
        repairs.append("no header found: columns named column_0, column_1, …")
    data_lines = [start + line + 1 for line in record_lines[header_rows:]]
    return Sniffed(dialect, data, data_lines, evidence, repairs, fault)


def _preface(lines: list[str], repairs: list[str]) -> tuple[int, str]:
    """The first line that is neither ``sep=`` nor front matter between two lines of ``---``, and
    the separator that ``sep=`` names."""
    if lines and lines[0].strip() == "---":
        for number, line in enumerate(lines[1:MOST_FRONT_LINES], 1):
            if line.strip() == "---":
                repairs.append(f"{number + 1} lines of front matter left out")
                return number + 1, ""
    if lines:
        found = re.fullmatch(r'"?sep=(.)"?\s*', lines[0], re.IGNORECASE)
        if found:
            repairs.append("'sep=' line left out")
            return 1, found[1]
    return 0, ""


def _comments(lines: list[str], start: int, given: str | None) -> tuple[str, int]:
    """The mark of comment lines at the start, if there are any, and the line after them."""
    for mark in COMMENTS if given is None else filter(None, [given]):
        at = start
        while at < len(lines) and (lines[at].startswith(mark) or not lines[at].strip()):
            at += 1
        commented = any(line.startswith(mark) for line in lines[start:at])
        if commented and at == len(lines):
            raise DataError("The file holds comment lines alone.", "Add a header and some rows.")
        if commented:
            return mark, at
    return given or "", start


def _sample(lines: list[str], start: int) -> list[str]:
    size, stop = 0, start
    while stop < len(lines) and stop - start < SAMPLE_RECORDS * 2:
        size += len(lines[stop])
        stop += 1
        if size > SAMPLE_TEXT and stop - start >= 30:
            break
    return lines[start:stop]


def _best_reading(body: list[str], comment: str, wanted: str, given: GivenDialect) -> _Reading:
    if comment:
        body = ["\n" if line.startswith(comment) else line for line in body]
    text = "".join(body)
    wanted = given.delimiter or wanted
    taken = (given.quote, given.escape)
    candidates = (wanted,) if wanted else [each for each in SEPARATORS if each not in taken]
    readings = [
        _reading(body, delimiter, quote, escape, runs)
        for delimiter in candidates
        if delimiter in text or (delimiter == " " and "\t" in text) or wanted
        for quote, escape in _given_quotings(text, delimiter, given)
        for runs in ((True, False) if delimiter == " " else (False,))
        if given.runs in (None, runs)
    ]
    if given.delimiter is None and "," not in taken:
        quote = '"' if given.quote is None else given.quote
        escape = (given.escape or "") if given.escape != quote else ""
        readings.append(_reading(body, ",", quote, escape, False))
    if any(each.delimiter == " " and not each.runs and each.alike for each in readings):
        readings = [each for each in readings if each.alike or not each.runs]
    if any(each.settled for each in readings if each.delimiter != " "):
        # Blanks stand inside texts everywhere: they separate only where nothing else does.
        readings = [each for each in readings if each.delimiter != " "]
    return max(readings, key=lambda each: each.score)


def _given_quotings(text: str, delimiter: str, given: GivenDialect) -> list[tuple[str, str]]:
    """Quote and escape characters worth trying, as far as they are not known."""
    found = _quotings(text, delimiter)
    if given.quote is not None:
        found = [(given.quote, "")]
        if given.quote and "\\" + given.quote in text:
            found.append((given.quote, "\\"))
    if given.escape is not None:
        # That quotes are doubled is always understood.
        found = [(quote, "" if given.escape == quote else given.escape) for quote, _ in found]
    return list(dict.fromkeys(found))


def _quotings(text: str, delimiter: str) -> list[tuple[str, str]]:
    """Quote and escape characters worth trying. Quotes in pairs that no cell begins with are
    text."""
    edges = r"\s" if delimiter == " " else rf"{re.escape(delimiter)}\r\n"
    encloses = re.search(rf'(?:^|[{edges}]) *"', text)
    paired = all(line.count('"') % 2 == 0 for line in text.splitlines())
    found = [("" if '"' in text and paired and not encloses else '"', "")]
    if '\\"' in text:
        found.append(('"', "\\"))
    structural = "'" in text and _all_structural(text, delimiter, "'")
    needed = rf"(?<![^{edges}])'[^'\r\n]*{re.escape(delimiter)}[^'\r\n]*'(?![^{edges}])"
    if structural and '"' not in text:
        found.insert(0, ("'", ""))
    elif encloses:
        if structural and re.search(needed, text):
            found.append(("'", ""))
    elif structural or _mostly_enclose(text, edges, "'"):
        found.append(("'", ""))
    return found


def _mostly_enclose(text: str, edges: str, quote: str) -> bool:
    """Whether most cells that begin with a quote end with one, too."""
    begin = len(re.findall(rf"(?:^|[{edges}]) *{quote}", text))
    both = re.findall(rf"(?<![^{edges}]) *{quote}[^{edges}]*{quote} *(?![^{edges}])", text)
    return begin > 3 and len(both) > 0.5 * begin


def _all_structural(text: str, delimiter: str, quote: str) -> bool:
    """Whether every quote opens or closes a cell, or is doubled inside one."""
    edge = rf"[{re.escape(delimiter)}\r\n]"
    quoted = rf"(?:(?<={edge})|^) *{quote}(?:[^{quote}]|{quote}{quote})*{quote} *(?={edge}|$)"
    return quote not in re.sub(quoted, "", text)


def _reading(body: list[str], delimiter: str, quote: str, escape: str, runs: bool) -> _Reading:
    records, lines = read_records(body, delimiter, quote, escape, runs)
    records, lines = records[:SAMPLE_RECORDS], lines[:SAMPLE_RECORDS]
    if not records:
        return _Reading(delimiter, quote, escape, runs, [[""]], [0], 0.0, 1)
    widths = Counter(len(record) for record in records)
    total = len(records)
    shape = sum((n / total) ** 2 * ((w - 1) / w if w > 1 else 0.02) for w, n in widths.items())
    width = max(widths, key=lambda w: (widths[w], w))
    sense = _sense(records, delimiter)
    # Runs of blanks are the rule; one blank a separator only where that alone gives equal rows.
    score = shape * sense * HANDICAP.get(delimiter, 1.0) * (0.99 if escape else 1.0)
    score *= 0.7 if delimiter == " " and not runs else 1.0
    settled = width > 1 and widths[width] >= 0.95 * total and sense >= 0.8
    return _Reading(delimiter, quote, escape, runs, records, lines, score, width, settled)


_WORDS = re.compile(r"^[\w\s.,'’()/&%$€£#@!?:;+*=<>\[\]{}\"°-]*$")


_SEVERAL_NUMBERS = re.compile(r"[+-]?\d[\d.,]*(?:\s+[+-]?\d[\d.,]*)+")


def _sense(records: list[list[str]], delimiter: str) -> float:
    """The share of cells that look like a value."""
    cells = Counter(cell.strip() for record in records[:100] for cell in record[:200])
    total = sum(cells.values())
    return sum(n * _cell_sense(cell, delimiter) for cell, n in cells.items()) / max(total, 1)


def _cell_sense(cell: str, delimiter: str) -> float:
    if is_missing(cell) or looks_numeric(cell.strip(CURRENCIES + "% ")):
        return 1.0
    if any(edge in "\"'" and cell.count(edge) % 2 for edge in (cell[0], cell[-1])):
        return 0.05
    if _SEVERAL_NUMBERS.fullmatch(cell):
        return 0.05
    inside = {mark for mark in (",", ";", "\t", "|") if mark in cell and mark != delimiter}
    if inside and not re.search(r"[,;] ", cell):
        parts = re.split(r"[,;\t|]", cell)
        plain = len(parts) > 1 and re.fullmatch(r"[+-]?[\d.,' ]+[%€$£]?", cell)
        return 0.8 if plain and inside == {","} else 0.2
    if re.fullmatch(r"\w+(?:[ .'/_:-]\w+)*", cell):
        return 1.0
    return 0.8 if _WORDS.match(cell) else 0.4


def _resumed(reading: _Reading, body: list[str]) -> _Reading:
    """A reading in which no stray quote swallows the lines that follow: where a record of another
    width ends in no clean way, it is its first line alone, and the next line begins another."""
    records, lines = list(reading.records), list(reading.lines)
    place = 0
    while place < len(records) and reading.quote and len(lines) < 2 * SAMPLE_RECORDS:
        start = lines[place]
        stop = lines[place + 1] if place + 1 < len(lines) else len(body)
        broken = stop - start > 1 and len(records[place]) != reading.width
        if broken and not _is_clean(body[start:stop], reading):
            rest, starts = read_records(
                body[start + 1 :], reading.delimiter, reading.quote, reading.escape, reading.runs
            )
            records[place:] = [body[start].rstrip("\r\n").split(reading.delimiter), *rest]
            lines[place:] = [start, *(start + 1 + each for each in starts)]
        place += 1
    return replace(reading, records=records[:SAMPLE_RECORDS], lines=lines[:SAMPLE_RECORDS])


def _is_clean(lines: list[str], reading: _Reading) -> bool:
    """Whether the quotes of a record open and close cells."""
    if reading.escape:
        lines = [unescape(line, reading.escape, reading.quote) for line in lines]
    try:
        list(csv.reader(lines, delimiter=reading.delimiter, quotechar=reading.quote, strict=True))
    except csv.Error:
        return False
    return True


def _trim_header(reading: _Reading, body: list[str], repairs: list[str]) -> None:
    """Cut the header to the width of the rows, where it surely has no name for one of their
    columns twice: it ends with a separator, or with names that are in quotes as all others are.
    """
    records, width = reading.records, reading.width
    beyond = records[0][width:]
    if width < 2 or not beyond or any(len(record) != width for record in records[1:]):
        return
    quote, delimiter = reading.quote, reading.delimiter
    line = body[reading.lines[0]].strip()
    quoted = quote and line.count(quote + delimiter + quote) == len(records[0]) - 1
    if len(beyond) == 1 and not beyond[0].strip():
        repairs.append("the header ends with a separator that the rows do not have")
    elif quoted:
        shown = ", ".join(map(repr, beyond[:5]))
        repairs.append(f"the rows end before the header: its last names are left out ({shown})")
    else:
        return
    records[0] = records[0][:width]


def _table_start(reading: _Reading, offset: int) -> tuple[int, DataError | None]:
    """The first record that belongs to the table: before it stand titles and notes. And the fault
    of a record before the table that is as full as one of it: a row of another width, no title.
    """
    records, width = reading.records, reading.width
    if width < 2:
        return 0, None
    first = 0
    while first < len(records) - 1 and len(records[first]) not in (width, width - 1):
        first += 1
    if len(records[first]) < width and _stands_above(*_head(records, first + 1)):
        first += 1
    while first < len(records) - 2 and _is_title(records, first, width):
        first += 1
    if first <= 10 and _stands_above(*_head(records, first)):
        return first, None
    for record, line in zip(records[:first], reading.lines, strict=False):
        if _filled(record) > 1 and (len(record) > width or _filled(record) >= width):
            return first, DataError(
                f"Line {offset + line + 1} has {counted(len(record), 'field')} where {width} "
                "are expected.",
                "Mend or remove that line; check its separators and quotes.",
                row=offset + line + 1,
            )
    return first, None


def _head(records: list[list[str]], at: int) -> tuple[list[str], list[list[str]]]:
    return (records[at], records[at + 1 :]) if at < len(records) else ([], [])


def _filled(record: list[str]) -> int:
    return sum(1 for cell in record if cell.strip())


def _is_title(records: list[list[str]], at: int, width: int) -> bool:
    """Whether a record holds one cell alone, and what follows is fuller or is a header."""
    if _filled(records[at]) > 1:
        return False
    filled = sorted(_filled(record) for record in records[at:])
    usual = filled[len(filled) // 2]
    after = next((i for i in range(at + 1, len(records)) if _filled(records[i])), at + 1)
    following = records[after]
    header_follows = _filled(following) == width and bool(_stands_above(*_head(records, after)))
    more = _filled(following) > 2 and not any(looks_numeric(c.strip()) for c in following)
    return (width > 2 and (usual > 2 or more)) or header_follows


def _names(
    records: list[list[str]],
    width: int,
    comment: str,
    lines: list[str],
    start: int,
    repairs: list[str],
    said: tuple[bool, str] | None,
) -> tuple[tuple[str, ...], str, str]:
    """Names of the columns; where they came from (row, comment, none); and why."""
    first, body = records[0], records[1:]
    found, why = has_header(first, body) if said is None else said
    if found:
        cells = _fit_header(first, body, width, repairs)
        return tuple(_repaired(cells, repairs)), "row", why
    if comment and why != BY_YOU:
        above = [line for line in lines[:start] if line.startswith(comment)]
        commented = _comment_names(above[-1] if above else "", comment, width)
        if commented:
            repairs.append("names taken from the last comment line")
            return tuple(_repaired(commented, repairs)), "comment", "the last comment line"
    return tuple(f"column_{index}" for index in range(width)), "none", why


def _known_header(
    first: list[str], expected: Sequence[str], given: GivenDialect
) -> tuple[bool, str] | None:
    """Whether the first record is a header and why, as far as that is given or the expected names
    tell."""
    if given.header is not None:
        return given.header, BY_YOU
    why = "the names that are expected"
    if expected and set(expected) <= {cell.strip() for cell in first}:
        return True, why
    numbered = all(re.fullmatch(r"column_\d+", each) for each in expected)
    return (False, why) if expected and numbered else None


def _header_rows(records: list[list[str]]) -> int:
    """How many rows the header has: rows of words above columns of numbers or dates."""
    for rows in (3, 2):
        below = records[rows:]
        if len(below) < 3:
            continue
        upper = records[1:rows]
        columns = [_column(below, index) for index in range(len(records[0]))]
        kinds = [
            index
            for index, column in enumerate(columns)
            if column and (all(map(_numberish, column)) or all(map(_is_date, column[:20])))
        ]
        if len(kinds) > 1 and all(_names_columns(row, kinds) for row in upper):
            return rows
    return 1


def refuse_faulty(sniffed: Sniffed) -> None:
    """Refuse a sample with a row of another width before the table, or one in which a row holds
    different words in most columns of numbers.

    Raises
    ------
    DataError
        With the line of that row.
    """
    if sniffed.fault:
        raise sniffed.fault
    width = len(sniffed.dialect.names)
    data = [record if len(record) == width else [] for record in sniffed.records]
    measured, words = 0, Counter[int]()
    for index in range(min(width, SAMPLE_COLUMNS)):
        filled = {
            number: record[index].strip()
            for number, record in enumerate(data)
            if index < len(record) and not is_missing(record[index])
        }
        odd = [number for number, cell in filled.items() if _is_word(cell)]
        if len(filled) - len(odd) > max(1, len(odd)):
            measured += 1
            words.update(odd)
    for number, count in sorted(words.items()):
        cells = [cell.strip() for cell in data[number] if _is_word(cell.strip())]
        if count > max(1, measured // 2) and len(set(cells)) == len(cells):
            again = [cell in sniffed.dialect.names for cell in cells]
            what = (
                "repeats the header"
                if all(again)
                else f"holds {cells[0]!r}, {cells[1]!r} where numbers stand"
            )
            raise second_table(sniffed.lines[number], what)


def _names_columns(row: list[str], places: list[int]) -> bool:
    """Whether a row holds words and no numbers where numbers stand below."""
    cells = [row[place].strip() for place in places if place < len(row)]
    words = sum(map(_is_word, cells))
    filled = sum(not is_missing(cell) for cell in cells)
    return words == filled and words >= max(2, 0.3 * len(places))


def _merged_names(rows: list[list[str]], width: int, repairs: list[str]) -> tuple[str, ...]:
    """Names from a header of several rows; a name above blanks spans them."""
    repairs.append(f"the header has {len(rows)} rows: names put together")
    parts: list[list[str]] = [[] for _ in range(width)]
    for number, row in enumerate(rows):
        last = ""
        for index in range(width):
            cell = row[index].strip() if index < len(row) else ""
            last = cell or (last if number < len(rows) - 1 else "")
            if last:
                parts[index].append(last)
    return tuple(_repaired([" ".join(each) for each in parts], repairs))


def _is_word(cell: str) -> bool:
    """Neither missing nor a number nor a date."""
    return not (is_missing(cell) or _numberish(cell) or _is_date(cell))


def _numberish(cell: str) -> bool:
    """A number in any style, with a currency or percent sign, too."""
    return looks_numeric(cell) or bool(re.fullmatch(r"[+-]?[$€£]? ?\d[\d.,' ]*[%€$£]?", cell))


def _comment_names(line: str, comment: str, width: int) -> list[str] | None:
    text = line[len(comment) :].strip()
    for cut in (",", ";", "\t", "|", None):
        cells = [cell.strip().strip('"') for cell in text.split(cut)]
        if len(cells) == width > 1 and not any(looks_numeric(cell) for cell in cells):
            return cells
    return None


def _fit_header(
    first: list[str], body: list[list[str]], width: int, repairs: list[str]
) -> list[str]:
    """The header's cells, as many as the rows have."""
    rows = [record for record in body if len(record) == width]
    if len(first) == width - 1 and rows:
        if all(not record[-1].strip() for record in rows):
            repairs.append("rows end with a separator that the header does not have")
            return [*first, ""]
        repairs.append("the header has one name less than the rows: the first column is unnamed")
        return ["", *first]
    return first


def has_header(first: list[str], body: list[list[str]]) -> tuple[bool, str]:
    """Whether the first record is a header, and why.

    Names are words: a first row with a number in it is data, unless its numbers count up
    (0, 1, 2 or years) as those of the rows below do not.
    """
    if not body:
        return not any(looks_numeric(cell.strip()) for cell in first), "only one row"
    cells = [cell.strip() for cell in first]
    numbers = [cell for cell in cells if _numberish(cell)]
    if numbers:
        if len(numbers) < len(cells) and _are_years(cells, body):
            return True, "the numbers of the first row are years"
        if _counts_up(numbers) and not any(
            _counts_up([c.strip() for c in row if looks_numeric(c.strip())]) for row in body[:5]
        ):
            return True, "the numbers of the first row count up"
        return False, f"the first row holds the number {numbers[0]}"
    if "?" in cells:
        return False, "the first row holds a missing value"
    above = _stands_above(first, body)
    if above:
        return True, above
    if any(_is_date(cell) for cell in cells):
        return False, "the first row holds a date"
    columns = [_column(body, index) for index in range(len(cells))]
    filled = [(cell, column) for cell, column in zip(cells, columns, strict=True) if column]
    again = sum(cell in column for cell, column in filled)
    if again >= max(1, 0.3 * len(filled)):
        return False, "the words of the first row come again below"
    words = {word for pair in BOOLEAN_PAIRS for word in pair}
    if any(cell.lower() in words and len(cell) > 1 for cell in cells):
        return False, "the first row holds a word for true or false"
    return True, "the first row holds words that do not come again"


def _stands_above(first: list[str], body: list[list[str]]) -> str:
    """Why a row of words is a header: one of them stands above numbers or dates. Blank if not."""
    cells = [cell.strip() for cell in first]
    if any(map(_numberish, cells)):
        return ""
    for index, cell in enumerate(cells):
        column = _column(body, index) if cell and not is_missing(cell) else []
        if column and sum(map(_numberish, column)) > 0.5 * len(column):
            return f"{cell!r} stands above numbers"
        if column and _is_date(column[0]) and not _is_date(cell):
            return f"{cell!r} stands above dates"
    return ""


def _are_years(cells: list[str], body: list[list[str]]) -> bool:
    """Whether the numbers of a row are different years, above other numbers."""
    places = [index for index, cell in enumerate(cells) if _numberish(cell)]
    year = re.compile(r"(?:19|20)\d\d")
    if len({cells[place] for place in places}) < max(2, len(places)):
        return False
    if not all(year.fullmatch(cells[place]) for place in places):
        return False
    below = [cell for place in places for cell in _column(body, place)]
    return sum(bool(year.fullmatch(cell)) for cell in below) < 0.2 * max(len(below), 1)


def _column(body: list[list[str]], index: int) -> list[str]:
    found = (record[index].strip() for record in body[:200] if index < len(record))
    return [cell for cell in found if not is_missing(cell)]


def _counts_up(numbers: list[str]) -> bool:
    """Whole numbers, three or more, each one more (or one less) than the one before."""
    if len(numbers) < 3 or not all(re.fullmatch(r"\d{1,4}", each) for each in numbers):
        return False
    values = [int(each) for each in numbers]
    steps = {b - a for a, b in itertools.pairwise(values)}
    return steps in ({1}, {-1})


def _is_date(cell: str) -> bool:
    return any(ch.isdigit() for ch in cell) and bool(matching_date_formats([cell]))


def _repaired(cells: list[str], repairs: list[str]) -> list[str]:
    """Names without surrounding blanks, none blank, none twice."""
    names: list[str] = []
    taken = {cell.strip() for cell in cells}
    used: set[str] = set()
    for index, cell in enumerate(cells):
        name = " ".join(cell.split()) if "\n" in cell or "\r" in cell else cell.strip()
        if not name:
            name = free_name(f"column_{index}", taken | used)
            repairs.append(f"column {index + 1} has no name: called {name!r}")
        elif name in used:
            again, name = name, free_name(f"{name}_2", taken | used)
            repairs.append(f"the name {again!r} comes twice: the later one is called {name!r}")
        used.add(name)
        names.append(name)
    return names


def free_name(name: str, used: Collection[str]) -> str:
    """``name``, or ``name_2``, ``name_3``, … where that is used."""
    stem, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name, re.DOTALL).groups()  # type: ignore[union-attr]
    while name in used:
        number = int(number or 1) + 1
        name = f"{stem}_{number}"
    return name


def _padded(body: list[str], reading: _Reading) -> bool:
    """Whether a quoted cell has blanks between it and a separator."""
    if reading.runs or not reading.quote or reading.delimiter == " ":
        return False
    d, q = re.escape(reading.delimiter), re.escape(reading.quote)
    return any(re.search(rf"(?:^|{d}) +{q}|{q} +(?:{d}|$)", line) for line in body)


def _newline(text: str) -> str:
    both = text.count("\r\n")
    if text.count("\r") - both > text.count("\n"):
        return "\r"
    return "\r\n" if both else "\n"
