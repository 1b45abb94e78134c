"""The type of each column: provisional from a sample, then judged over the whole file.

    sample cells ──infer──▶ ColumnType ──(parse the whole file)──▶ Tally ──judge──▶ Verdict
                                ▲                                                   │
                                └──────────── read again with another type ◀────────┘

Decides purely. A column is never forced into a type: what does not fit is counted with its row
and is either few and named, or the column gets another type, or it is refused where it is used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace

from regatta.ingest.column_type import (
    MAX_BAD_WORDS,
    MAX_LEVEL_LENGTH,
    MAX_LEVELS_KEPT,
    MAX_LEVELS_TOGETHER,
    ColumnType,
)
from regatta.ingest.dates import ISO, matching_date_formats, parse_date, swapped_format
from regatta.ingest.dialect import second_table
from regatta.ingest.overrides import AS_IT_IS, BY_YOU, ColumnRule
from regatta.ingest.values import (
    BOOLEAN_PAIRS,
    COMMA,
    CURRENCIES,
    PLAIN,
    NumberStyle,
    is_infinite,
    is_missing,
    unit_of,
)
from regatta.utils import counted

# A column may hold this share of cells that do not fit; they count as missing and are named.
TINY_SHARE = 0.01
# Above it and up to here the column is refused where it is used; beyond, it is one of texts.
MIXED_SHARE = 0.10
# So few different words beside numbers (``unknown``, ``trace``) stand for "no value".
FEW_WORDS = 3
FEW_NUMBERS = 20


@dataclass
class Tally:
    """What the whole column turned out to hold. Chunks are added in the order of the file."""

    rows: int = 0
    missing: int = 0
    bad: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)  # (line, text)
    words: Counter[str] = field(default_factory=Counter)
    words_overflow: bool = False
    swapped_bad: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    first: float = float("nan")
    last: float = float("nan")
    counting: bool = True
    # How far a column of dates goes up and down in the file, and would with day and month swapped.
    travel: float = 0.0
    swapped_travel: float = 0.0
    levels: dict[str, int] = field(default_factory=dict)
    counts: list[int] = field(default_factory=list)
    overflow: bool = False  # too many levels to keep, or too long ones
    long_texts: bool = False
    crowded: int = 0  # levels that it held when those of all columns were too many

    @property
    def present(self) -> int:
        """Cells that say something, good or bad."""
        return self.rows - self.missing

    def add_words(self, words: Iterable[tuple[str, int]]) -> None:
        for word, count in words:
            if word in self.words or len(self.words) < MAX_BAD_WORDS:
                self.words[word] += count
            else:
                self.words_overflow = True


@dataclass(frozen=True)
class Verdict:
    """A column's final type, or the one to read it with again.

    ``refused`` says why the column may not be used.
    """

    type: ColumnType
    again: bool = False
    role: str = "feature"
    kind: str = ""
    reason: str = ""
    refused: str = ""
    repairs: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


# -- from a sample --------------------------------------------------------------------------------


def infer(
    cells: Sequence[str], *, decimal_comma: bool = False, rule: ColumnRule = AS_IT_IS
) -> ColumnType:
    """The type that the cells of a sample suggest, as far as it is not given."""
    counts = Counter(cell.strip() for cell in cells)
    present = Counter({c: n for c, n in counts.items() if not (is_missing(c) or c in rule.missing)})
    if rule.kind:
        found = _given_type(present, decimal_comma, rule)
    else:
        found = _inferred(present, decimal_comma, rule)
    return replace(found, missing=rule.missing)


def _given_type(present: Counter[str], decimal_comma: bool, rule: ColumnRule) -> ColumnType:
    """How the cells of a sample are written, where their kind is given."""
    if rule.kind == "number":
        style, _ = best_style(present, decimal_comma=decimal_comma, rule=rule)
        return ColumnType("number", style, evidence=BY_YOU)
    if rule.kind == "date":
        return ColumnType("date", format=rule.format or usual_format(present), evidence=BY_YOU)
    # The two words of a boolean are looked for in the whole file.
    return ColumnType("category", evidence=BY_YOU)


def usual_format(counts: Counter[str]) -> str:
    """The format that most cells are written in."""
    votes = Counter[str]()
    for cell, count in counts.most_common(50):
        votes.update(dict.fromkeys(date_formats([cell]), count))
    all_alike = date_formats(list(counts))
    return all_alike[0] if all_alike else max(votes, key=votes.__getitem__, default=ISO)


def _inferred(present: Counter[str], decimal_comma: bool, rule: ColumnRule) -> ColumnType:
    total = sum(present.values())
    if not total:
        return ColumnType("number", evidence="blank in the sample")
    style, share = best_style(present, decimal_comma=decimal_comma, rule=rule)
    words = {c: n for c, n in present.items() if not style.matches(c) and not is_infinite(c)}
    if _long_integers(present):
        return ColumnType("category", evidence="whole numbers beyond 2^53: no float64 holds them")
    if share == 1.0:
        evidence = f"all {total} sampled cells are numbers"
        return ColumnType("number", style, evidence=evidence, leading_zeros=_zeros_lead(present))
    if share >= 1 - MIXED_SHARE or _numbers_and_gaps(present, words, share):
        return ColumnType("number", style, evidence=f"{share:.1%} of {total} sampled cells numbers")
    pair = boolean_pair(present)
    if pair:
        return ColumnType("boolean", false=pair[0], true=pair[1], evidence=" / ".join(pair))
    dated = {c: n for c, n in present.items() if any(ch.isdigit() for ch in c)}
    share = sum(dated.values()) / total
    gaps = len(dated) == len(present) or _numbers_and_gaps(
        present, set(present) - set(dated), share
    )
    formats = date_formats(list(dated)) if gaps else []
    if formats:
        evidence = f"{share:.1%} of {total} sampled cells are dates"
        return ColumnType("date", format=formats[0], evidence=evidence)
    return ColumnType(
        "category",
        evidence=f"{counted(len(present), 'different text')} in {counted(total, 'cell')}",
    )


def best_style(
    counts: Counter[str], *, decimal_comma: bool = False, rule: ColumnRule = AS_IT_IS
) -> tuple[NumberStyle, float]:
    """The way of writing numbers that fits the most cells, and the share it fits."""
    total = sum(counts.values())
    infinite = sum(n for c, n in counts.items() if is_infinite(c))
    styles = _given_styles(_ordered_styles(counts, decimal_comma), rule)
    best, most = styles[0], -1
    for style in styles:
        fits = sum(n for c, n in counts.items() if style.matches(c))
        if fits > most:
            best, most = style, fits
    return best, (most + infinite) / max(total, 1)


def _ordered_styles(counts: Counter[str], decimal_comma: bool) -> list[NumberStyle]:
    styles = [PLAIN]
    together = "\n".join(counts)  # which no mark is: nothing is found across two cells
    if "," in together:
        grouped = NumberStyle(".", ",")
        styles += [grouped, COMMA] if is_thousands(counts, decimal_comma) else [COMMA, grouped]
        styles.append(NumberStyle(",", "."))
    for mark in (" ", "'"):
        if re.search(rf"\d{mark}\d{{3}}", together) or "\u00a0" in together:
            styles += [NumberStyle(".", mark), NumberStyle(",", mark)]
    if re.search(r"\d\.\d{3}\.\d{3}", together):
        styles.append(NumberStyle(",", "."))
    signs = {ch for ch in CURRENCIES + "%" if ch in together}
    bare = [text.strip("()") for text in counts]
    signs |= {unit for unit in map(unit_of, bare) if unit}
    styles += [replace(each, affix=sign) for sign in sorted(signs) for each in styles]
    if _parentheses_negate(counts):
        styles += [replace(each, parentheses=True) for each in styles]
    return styles


def _parentheses_negate(texts: Iterable[str]) -> bool:
    """Whether numbers in parentheses may be negative ones: they stand beside others, or are
    amounts, and not the numbers of a list as (1), (2) and (3) are."""
    found = {bool(re.fullmatch(r"\(\d+\)", text)) for text in texts}
    return any("(" in text for text in texts) and False in found


def _given_styles(styles: list[NumberStyle], rule: ColumnRule) -> list[NumberStyle]:
    """The styles with the marks that were given, those without a thousands mark first."""
    if not rule.decimal and rule.thousands is None:
        return styles
    if rule.decimal:
        styles = [replace(each, decimal=rule.decimal) for each in [*styles, PLAIN]]
    if rule.thousands is not None:
        plain = [replace(each, thousands="") for each in [*styles, PLAIN, COMMA]]
        styles = plain + [replace(each, thousands=rule.thousands) for each in plain]
    allowed = {each for each in styles if each.decimal not in (each.thousands, rule.thousands)}
    return [each for each in dict.fromkeys(styles) if each in allowed]


def is_thousands(texts: Iterable[str], decimal_comma: bool = False) -> bool:
    """Whether commas in numbers group thousands: always three digits after each, and either
    two groups, a decimal point, or no bare number of four digits and no 0 before a comma."""
    cells = [c.strip(CURRENCIES + "% +-()") for c in texts]
    with_comma = [c for c in cells if re.fullmatch(r"[\d.,]+", c) and "," in c]
    grouped = [c for c in with_comma if re.fullmatch(r"[1-9]\d{0,2}(,\d{3})+(\.\d*)?", c)]
    if not with_comma or len(grouped) < len(with_comma):
        return False
    if any(c.count(",") > 1 or "." in c for c in grouped):
        return True
    long_bare = any(re.fullmatch(r"\d{4,}", c) for c in cells)
    return not long_bare and not decimal_comma


def boolean_pair(words: Iterable[str]) -> tuple[str, str] | None:
    """The two words of a column that says true or false, as they are written."""
    found = sorted(set(words))
    folded = {word.lower() for word in found}
    for pair in BOOLEAN_PAIRS:
        if folded == set(pair):
            by_fold = {word.lower(): word for word in found}
            return by_fold[pair[0]], by_fold[pair[1]]
    return None


def date_formats(texts: list[str]) -> list[str]:
    """Formats that all texts are written in; ISO where each is, in whatever variant."""
    few = texts[:: max(1, len(texts) // 200)]
    if not all(any(ch.isdigit() for ch in text) and len(text) >= 6 for text in few[:20]):
        return []
    formats = matching_date_formats(few)
    if formats:
        return formats
    iso = re.compile(r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?$")
    if all(iso.match(text) and parse_date(text, ISO) == parse_date(text, ISO) for text in few):
        return [ISO]
    return []


def _long_integers(counts: Counter[str]) -> bool:
    """Whether most cells are whole numbers that float64 cannot hold: identifiers."""
    long = sum(n for c, n in counts.items() if c.isdigit() and len(c) > 15 and int(c) > 2**53)
    return long > 0.5 * sum(counts.values())


def _zeros_lead(counts: Counter[str]) -> str:
    """How many whole numbers are padded with zeros, as codes are; blank if none is."""
    padded = {cell: n for cell, n in counts.items() if re.fullmatch(r"0\d+", cell)}
    if not padded:
        return ""
    count, total = sum(padded.values()), sum(counts.values())
    return f"{count} of {total} sampled cells, such as {min(padded)!r}"


def _numbers_and_gaps(counts: Counter[str], words: Collection[str], share: float) -> bool:
    """Whether a few different words beside numbers stand for "no value".

    Beside few different numbers (1, 2, 3, R) a common word is rather one more category.
    """
    many = len(counts) - len(words) > FEW_NUMBERS
    return _few_words(words) and (share >= 0.5 if many else share >= 1 - MIXED_SHARE)


def _few_words(words: Iterable[str]) -> bool:
    found = list(words)
    return len(found) <= FEW_WORDS and not any(ch.isdigit() for word in found for ch in word)


# -- over the whole file --------------------------------------------------------------------------


def judge(name: str, column: ColumnType, tally: Tally, rule: ColumnRule = AS_IT_IS) -> Verdict:
    """A column's final type after the whole file was read with a provisional one."""
    if column.kind == "category":
        if rule.kind:
            return _judge_given_texts(name, column, tally, rule)
        return _judge_texts(name, column, tally, rule)
    if column.kind == "date" and not rule.format:
        swapped = swapped_format(column.format)
        if swapped and not tally.swapped_bad:
            # One reading fits all cells where the other does not, or puts them far more in order.
            more_orderly = tally.swapped_travel < 0.5 * tally.travel
            if tally.bad or more_orderly:
                return Verdict(replace(column, format=swapped), again=True)
    if not tally.bad:
        return _judge_good(name, column, tally, rule)
    if column.kind == "boolean" and not rule.kind and rule.odd_cells in ("auto", "category"):
        again = ColumnType("category", evidence="more than two words", missing=rule.missing)
        return Verdict(again, again=True)
    return _judge_bad(name, column, tally, rule)


def _judge_good(name: str, column: ColumnType, tally: Tally, rule: ColumnRule) -> Verdict:
    if column.kind == "number" and tally.present == 0:
        return Verdict(column, kind="number", role="ignored", reason="all missing",
                       warnings=(f"Column {name!r} is blank in all rows.",))  # fmt: skip
    repairs, warnings = [], []
    style = column.style
    if column.kind == "number" and style != PLAIN and tally.present:
        repairs.append(f"column {name!r}: {describe_style(style)}")
    if column.leading_zeros:
        warnings.append(
            f"Column {name!r} has leading zeros in {column.leading_zeros}: a code? It was read as "
            "a number."
        )
    if column.kind == "date" and not rule.format:
        swapped = swapped_format(column.format)
        if swapped and not tally.swapped_bad and tally.present:
            orderly = tally.travel < 0.5 * tally.swapped_travel
            why = (
                "so the dates of rows that follow on each other lie closer together"
                if orderly
                else "nothing in the file tells which"
            )
            warnings.append(
                f"Column {name!r} could be read as {human_format(column.format)} or "
                f"{human_format(swapped)}; the first was taken: {why}."
            )
    return Verdict(column, repairs=tuple(repairs), warnings=tuple(warnings))


KINDS_IN_WORDS = {"number": "numbers", "date": "dates", "boolean": "one of its two words"}


_TRAINED_ON_IF = (
    "It can be trained on once these cells are mended, or taken as missing (--odd-cells missing; "
    "on the page: Cells that do not fit)."
)


def _judge_bad(name: str, column: ColumnType, tally: Tally, rule: ColumnRule) -> Verdict:
    """A column of numbers, dates or two words in which some cells are none."""
    what = KINDS_IN_WORDS[column.kind]
    other = _wider_style(column, tally, rule)
    if other:
        return Verdict(replace(column, style=other), again=True)
    share = tally.bad / tally.present
    rows = ", ".join(str(line) for line, _ in tally.examples[:5])
    shown = ", ".join(repr(word[:30]) for word, _ in tally.words.most_common(3))
    told = (f"{tally.bad} of {counted(tally.present, 'cell')} of column {name!r} are not {what} "
            f"({shown}): line {rows}{', …' if tally.bad > 5 else ''}")  # fmt: skip
    fate = rule.odd_cells
    if fate == "auto":
        fate = _usual_fate(column, tally, share, rule)
    elif fate != "category" and share > MIXED_SHARE and not rule.kind:
        fate = "category"  # the sample has misled: that is not the kind of the column
    if fate == "missing":
        kept = replace(column, missing=tuple(sorted({*column.missing, *tally.words})))
        good = _judge_good(name, kept, tally, rule)
        return replace(good, repairs=(*good.repairs, f"{told}; taken as missing"))
    if fate == "refuse":
        return Verdict(column, refused=told, warnings=(f"{told}. {_TRAINED_ON_IF}",))
    again = ColumnType("category", evidence=told, missing=rule.missing)
    return Verdict(again, again=True)


def _usual_fate(column: ColumnType, tally: Tally, share: float, rule: ColumnRule) -> str:
    """What becomes of odd cells where nothing is said of them."""
    few = (share <= 0.5 and _few_words(tally.words)) or share <= TINY_SHARE
    if few and not tally.words_overflow and column.kind != "boolean":
        return "missing"
    refused = rule.kind or (share <= MIXED_SHARE and column.kind == "number")
    return "refuse" if refused else "category"


def _wider_style(column: ColumnType, tally: Tally, rule: ColumnRule) -> NumberStyle | None:
    """A style that fits the odd cells as well as the others, such as one with thousands."""
    if column.kind != "number" or tally.words_overflow:
        return None
    old = column.style
    marks = (",", ".", " ", "'") if rule.thousands is None else (rule.thousands,)
    options = [replace(old, thousands=mark) for mark in marks if mark not in ("", old.decimal)]
    options = [] if old.thousands else options
    if not old.parentheses and _parentheses_negate(tally.words):
        options += [replace(each, parentheses=True) for each in [old, *options]]
    for style in options:
        if all(map(style.matches, tally.words)):
            new = style.thousands != old.thousands
            grouped = style.thousands != "," or rule.thousands or is_thousands(tally.words)
            return style if grouped or not new else None
    if rule.decimal or rule.thousands == ",":
        return None
    if old == PLAIN and all(map(COMMA.matches, tally.words)) and tally.bad > 0.5 * tally.present:
        return COMMA
    return None


def refuse_second_header(
    names: Sequence[str], types: Sequence[ColumnType], tallies: Sequence[Tally]
) -> None:
    """Refuse a file with a second table: its header comes again, or a line holds different words
    in most of the columns of numbers and dates.

    Raises
    ------
    DataError
        With the line of the second header.
    """
    if len(tallies) < 2:
        return
    again, lines = 0, []
    for name, tally in zip(names, tallies, strict=bool(names)):
        again += name in tally.words or name in tally.levels
        lines += [line for line, text in tally.examples if text.strip() == name]
    if lines and again > 0.5 * len(tallies):
        raise second_table(min(lines), "repeats the header")
    measured = [tally for column, tally in zip(types, tallies, strict=True) if column.numeric]
    words: dict[int, list[str]] = {}
    for tally in measured:
        for line, text in tally.examples:
            if not any(ch.isdigit() for ch in text):
                words.setdefault(line, []).append(text.strip())
    for line, found in sorted(words.items()):
        if len(set(found)) == len(found) > max(1, len(measured) // 2):
            raise second_table(line, f"holds {found[0]!r}, {found[1]!r} where numbers stand")


def _judge_given_texts(name: str, column: ColumnType, tally: Tally, rule: ColumnRule) -> Verdict:
    """A column that was read as texts and whose kind is given."""
    if rule.kind == "ignore":
        kind = "text" if tally.overflow else "category"
        return Verdict(column, kind=kind, role="ignored", reason="ignored by you")
    if tally.overflow and rule.kind != "boolean":
        return _free_text(name, column, tally)
    if rule.kind == "boolean":
        return _judge_given_boolean(name, column, tally, rule)
    if rule.kind == "category":
        return Verdict(column)
    return Verdict(column, repairs=(f"{column.evidence}; read as categories",))


def _judge_given_boolean(name: str, column: ColumnType, tally: Tally, rule: ColumnRule) -> Verdict:
    """The two commonest words of a column of two words, in any case."""
    words = Counter[str]()
    for level, count in zip(tally.levels, tally.counts, strict=True):
        words[level.lower()] += count
    spelled = {level.lower(): level for level in reversed(tally.levels)}
    odd = sum(count for _, count in words.most_common()[2:])
    if tally.overflow or (odd and rule.odd_cells == "category"):
        told = f"column {name!r} holds more than two words"
        return Verdict(column, repairs=(f"{told}; read as categories",))
    pair = [spelled[word] for word, _ in words.most_common(2)]
    if len(pair) < 2:
        pair = ["", *pair] if pair else ["", ""]
    false, true = boolean_pair(pair) or sorted(pair)
    again = ColumnType("boolean", false=false, true=true, evidence=BY_YOU, missing=rule.missing)
    return Verdict(again, again=True)


def _free_text(name: str, column: ColumnType, tally: Tally) -> Verdict:
    what = f"more than {MAX_LEVELS_KEPT:,} different texts"
    if tally.long_texts:
        what = f"texts of more than {MAX_LEVEL_LENGTH:,} letters"
    elif tally.crowded:
        what = (
            f"{tally.crowded:,} different texts or more, and all columns together "
            f"more than {MAX_LEVELS_TOGETHER:,}"
        )
    told = f"Column {name!r} holds {what}: left out."
    return Verdict(column, kind="text", role="ignored", reason="free text", warnings=(told,))


def _judge_texts(name: str, column: ColumnType, tally: Tally, rule: ColumnRule) -> Verdict:
    if tally.overflow:
        return _free_text(name, column, tally)
    counts = Counter(dict(zip(tally.levels, tally.counts, strict=True)))
    total = sum(counts.values())
    if not total:
        again = ColumnType("number", evidence="blank", missing=rule.missing)
        return Verdict(again, again=True)
    style, share = best_style(counts, rule=rule)
    words = [level for level in counts if not style.matches(level) and not is_infinite(level)]
    present = [word for word in words if not is_missing(word)]
    numeric = share >= 1 - TINY_SHARE or _numbers_and_gaps(counts, present, share)
    if present and rule.odd_cells == "category":
        numeric = False
    if numeric and not _long_integers(counts):
        again = ColumnType("number", style, evidence=f"{share:.1%} numbers", missing=rule.missing)
        return Verdict(again, again=True)
    pair = boolean_pair(counts)
    if pair:
        again = ColumnType("boolean", false=pair[0], true=pair[1], evidence=" / ".join(pair),
                           missing=rule.missing)  # fmt: skip
        return Verdict(again, again=True)
    distinct = len(counts)
    if total >= 20 and distinct > 0.5 * total:
        reason = "identifier" if distinct == total else "free text"
        told = f"Column {name!r} holds {distinct} different texts in {total} cells: left out."
        return Verdict(column, kind="text", role="ignored", reason=reason, warnings=(told,))
    return Verdict(column)


def describe_style(style: NumberStyle) -> str:
    """A style in words: "decimal comma, thousands '.'"."""
    words = []
    if style.decimal == ",":
        words.append("decimal comma")
    if style.thousands:
        words.append(f"thousands mark {style.thousands!r}")
    if style.affix:
        words.append(f"{style.affix!r} taken off")
    if style.parentheses:
        words.append("numbers in parentheses are negative")
    return ", ".join(words)


def human_format(date_format: str) -> str:
    """``%d/%m/%Y`` as ``day/month/year``."""
    words = {"%d": "day", "%m": "month", "%Y": "year", "%y": "year", "%H": "hour", "%M": "minute",
             "%S": "second", "%b": "month", "%B": "month", "%I": "hour", "%p": "am/pm"}  # fmt: skip
    return re.sub(r"%[A-Za-z]", lambda found: words.get(found[0], found[0]), date_format)
