"""What one cell says: the rule for one text and the rule for whole arrays agree."""

from __future__ import annotations

import datetime as dt
import math
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from regatta.ingest.columns import best_style, boolean_pair, infer, is_thousands
from regatta.ingest.dates import (
    DATE_FORMATS,
    ISO,
    matching_date_formats,
    parse_date,
    parse_dates,
    swapped_format,
)
from regatta.ingest.values import (
    COMMA,
    PLAIN,
    NumberStyle,
    is_infinite,
    is_missing,
    missing_spellings,
    parse_numbers,
    text_level,
    text_levels,
)

# What may stand in the fields of a date, right or not.
FIELDS = {
    "%Y": st.integers(0, 9999).map("{:04}".format) | st.sampled_from(["2020", "1900", "99"]),
    "%y": st.integers(0, 99).map("{:02}".format),
    "%m": st.integers(0, 13).map(str) | st.integers(1, 12).map("{:02}".format),
    "%d": st.integers(0, 32).map(str) | st.integers(1, 31).map("{:02}".format),
    "%b": st.sampled_from(["Jan", "FEB", "sep", "dez"]),
    "%B": st.sampled_from(["January", "may", "SEPTEMBER", "Feb"]),
    "%H": st.integers(0, 24).map(str) | st.integers(0, 23).map("{:02}".format),
    "%I": st.integers(0, 13).map(str) | st.integers(1, 12).map("{:02}".format),
    "%M": st.integers(0, 60).map("{:02}".format),
    "%S": st.integers(0, 61).map("{:02}".format),
    "%f": st.integers(0, 10**6).map(str) | st.sampled_from(["5", "000001"]),
    "%p": st.sampled_from(["AM", "pm", "Pm", "xm"]),
    "%z": st.sampled_from(["Z", "z", "+0100", "-11:30", "+24:00", "+01:60", "+1:00"]),
}

NO_VALUE = ["-999", "later"]

STYLES = [
    PLAIN,
    COMMA,
    NumberStyle(".", ","),
    NumberStyle(",", "."),
    NumberStyle(".", " "),
    NumberStyle(".", "'"),
    NumberStyle(".", "", "$"),
    NumberStyle(",", ".", "€"),
    NumberStyle(".", "", "%"),
    NumberStyle(".", ",", "EUR"),
    NumberStyle(parentheses=True),
    NumberStyle(".", ",", "$", parentheses=True),
    NumberStyle(",", ".", "€", parentheses=True),
    NumberStyle(",", " ", "EUR", parentheses=True),
]


def written(value: float, style: NumberStyle) -> str:
    """A number in a style, with two decimals."""
    if style.parentheses and value < 0:
        return f"({written(-value, style)})"
    text = f"{value:,.2f}" if style.thousands else f"{value:.2f}"
    swap = {".": style.decimal, ",": style.thousands}
    text = "".join(swap.get(ch, ch) for ch in text)
    return style.affix + text if style.affix in ("$", "€") else text + style.affix


@pytest.mark.parametrize("style", STYLES)
@given(value=st.floats(-1e9, 1e9))
@settings(max_examples=40, deadline=None)
def test_a_number_reads_back_in_its_style(style: NumberStyle, value: float) -> None:
    text = written(value, style)
    assert style.matches(text)
    assert style.parse(text) == pytest.approx(round(value, 2), abs=0.006)
    values, bad = parse_numbers(pa.array([text, f" {text} "]), style)
    assert not bad.any()
    assert values.tolist() == [style.parse(text)] * 2


@given(st.lists(st.text(alphabet="0123456789.,-+eEUR $%N/A?naif'x ()", max_size=8), min_size=1))
@example(cells=["--0", "$-1", "($1)", "$(1)", "(-1)", "(1", "((1))", "-(1)"])
@settings(max_examples=200, deadline=None)
def test_arrays_and_single_cells_agree(cells: list[str]) -> None:
    for style in STYLES:
        values, bad = parse_numbers(pa.array(cells), style)
        for cell, value, wrong in zip(cells, values, bad, strict=True):
            trimmed = cell.strip()
            if is_infinite(trimmed):
                assert np.isinf(value)
            elif style.matches(trimmed):
                assert value == style.parse(trimmed)
                assert not wrong
            else:
                assert math.isnan(value)
                assert wrong != is_missing(cell)


@pytest.mark.parametrize(
    ("text", "value"),
    [("-$5", -5.0), ("$-5", -5.0), ("$ 5", 5.0), ("-5 $", -5.0), ("+$ 3.", 3.0), ("7", 7.0),
     ("--5", None), ("-$-5", None), ("$5$", None), ("$", None)],
)  # fmt: skip
def test_signs_around_numbers(text: str, value: float | None) -> None:
    style = NumberStyle(affix="$")
    values, bad = parse_numbers(pa.array([text]), style)
    assert bad[0] == (value is None)
    assert value is None or values[0] == value == style.parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("(12.50)", -12.5), ("($1,071.51)", -1071.51), ("$(1,071.51)", -1071.51), ("$ (5)", -5.0),
     ("(5 $)", -5.0), ("(5) $", -5.0), ("$7", 7.0), ("-7", -7.0), ("(0)", 0.0),
     ("(-5)", None), ("-(5)", None), ("((5))", None), ("(5", None), ("5)", None),
     ("($5$)", None), ("$($5)", None), ("()", None), ("($)", None)],
)  # fmt: skip
def test_numbers_in_parentheses_are_negative(text: str, value: float | None) -> None:
    style = NumberStyle(".", ",", "$", parentheses=True)
    values, bad = parse_numbers(pa.array([text]), style)
    assert bad[0] == (value is None)
    assert value is None or values[0] == value == style.parse(text)
    assert not NumberStyle(".", ",", "$").matches("(5)")


@pytest.mark.parametrize(
    ("cells", "negative"),
    [(["1", "(2)", "3"], True), (["(1.5)", "(2.5)"], True), (["($1,071.51)", "$3"], True),
     (["(12 kg)", "3 kg"], True), (["(1)", "(2)", "(3)"], False), (["1", "2"], False)],
)  # fmt: skip
def test_when_parentheses_mean_negative(cells: list[str], negative: bool) -> None:
    found = infer(cells)
    assert found.style.parentheses == negative
    assert found.kind == ("category" if "(1)" in cells else "number")


@pytest.mark.parametrize("text", ["1_000", "0x10", "1d5", "1 2", "--5", "1,2", "١٢", "5f", "e5"])
def test_what_is_no_number(text: str) -> None:
    assert not PLAIN.matches(text)
    assert parse_numbers(pa.array([text]), PLAIN)[1].all()


def test_numbers_that_stand_for_no_value_are_missing() -> None:
    values, bad = parse_numbers(pa.array(["-999", " -999 ", "5", "later", "x"]), PLAIN, NO_VALUE)
    np.testing.assert_array_equal(values, [math.nan, math.nan, 5, math.nan, math.nan])
    assert bad.tolist() == [False, False, False, False, True]


@given(st.lists(st.text("aB \u00a0\t\x1fnN/A-?–é9", max_size=4), min_size=1, unique=True))
@example(["", "a"])
@example(["a", "b"])
@example([" a", "a", "NONE", "none", "-999", " -999 ", "#dıv/0!", "n/a"])
def test_levels_of_arrays_are_those_of_their_texts(texts: list[str]) -> None:
    levels, codes = text_levels(pa.array([None, *texts])[1:], NO_VALUE)
    known = [*levels.to_pylist(), None]
    assert [known[code] for code in codes] == [text_level(text, NO_VALUE) for text in texts]
    assert len(set(known)) == len(known)


def test_too_large_a_number_is_infinite() -> None:
    values, bad = parse_numbers(pa.array(["1e400", "-inf", "3"]), PLAIN)
    assert values.tolist() == [math.inf, math.inf, 3.0]
    assert not bad.any()


def test_every_missing_word_is_known_to_the_fast_reader() -> None:
    spelled = set(missing_spellings())
    for word in ("", "NA", "n/a", "NULL", "null", "NaN", "nan", "?", "-", " ", " NA", "None"):
        assert word in spelled
        assert is_missing(word)
    assert all(map(is_missing, spelled))


@pytest.mark.parametrize(
    ("cells", "thousands"),
    [
        (["1,234", "12,345"], True),
        (["1,234,567"], True),
        (["1,234.50", "999"], True),
        (["0,998", "0,991"], False),  # nothing groups behind a zero
        (["1,5", "2,25"], False),
        (["1,234", "1234"], False),
        (["12", "13"], False),
    ],
)
def test_commas_that_group_thousands(cells: list[str], thousands: bool) -> None:
    assert is_thousands(cells) == thousands


def test_decimal_commas_win_where_another_column_shows_them() -> None:
    cells = ["1,234", "5,678"]
    assert infer(cells).style == NumberStyle(".", ",")
    assert infer(cells, decimal_comma=True).style == COMMA


@given(
    st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2099, 12, 31)), st.sampled_from(DATE_FORMATS)
)
@settings(max_examples=150, deadline=None)
def test_dates_read_back(moment: dt.datetime, date_format: str) -> None:
    if "%y" in date_format and not 1970 <= moment.year <= 2068:
        return
    moment = moment.replace(microsecond=0, tzinfo=dt.UTC)
    text = moment.strftime(date_format)
    expected = dt.datetime.strptime(text, date_format).replace(tzinfo=dt.UTC).timestamp()
    values, bad = parse_dates(pa.array([text, "", None]), date_format)
    assert values[0] == expected == parse_date(text, date_format)
    assert not bad.any()
    assert date_format in matching_date_formats([text])


@pytest.mark.parametrize(
    ("text", "date_format"),
    [
        ("2020-02-30", "%Y-%m-%d"),
        ("30/02/2020", "%d/%m/%Y"),
        ("1/2/20", "%d/%m/%Y"),
        ("2020-13-01", ISO),
        ("yesterday", "%Y-%m-%d"),
    ],
)
def test_no_such_date(text: str, date_format: str) -> None:
    values, bad = parse_dates(pa.array([text, "2020-01-01"]), date_format)
    assert bad[0] and math.isnan(values[0])


@given(st.sampled_from(DATE_FORMATS), st.data())
@settings(max_examples=400, deadline=None)
def test_whole_arrays_of_dates_are_read_as_each_text_is(
    date_format: str, data: st.DataObject
) -> None:
    """Right dates, near misses and words, in widths of all kinds."""
    parts = [part for part in re.split(r"(%[A-Za-z])", date_format) if part]
    written = st.tuples(*(FIELDS.get(part, st.just(part)) for part in parts)).map("".join)
    other = st.sampled_from(["", "NA", "later", "2020-01-05", "\u0661/1/2020", "1/2/20 ", " "])
    texts = data.draw(st.lists(written | other, min_size=1, max_size=8))
    spoilt = data.draw(st.integers(0, 30))
    texts.append(texts[0][:spoilt] + data.draw(st.sampled_from("/x. 9-")) + texts[0][spoilt:])
    column = pa.array([None, *texts])[1:]  # what is in memory does not start at zero
    values, bad = parse_dates(column, date_format, ["later"])
    expected = np.array([parse_date(text.strip(), date_format) for text in texts])
    gone = np.array([is_missing(text) or text.strip() == "later" for text in texts])
    np.testing.assert_allclose(values, expected, rtol=4e-16)
    np.testing.assert_array_equal(bad, np.isnan(expected) & ~gone)


@pytest.mark.parametrize("date_format", ["%Y-%m-%d", ISO])
def test_a_date_that_stands_for_no_value_is_missing(date_format: str) -> None:
    texts = ["1900-01-01", " 1900-01-01 ", "2020-01-05", "", "9999-12-31"]
    values, bad = parse_dates(pa.array(texts), date_format, ["1900-01-01", "9999-12-31"])
    assert np.isnan(values).tolist() == [True, True, False, True, True]
    assert not bad.any()


@given(
    st.lists(
        st.sampled_from(
            ["2020-01-05", "20200105", "2020-01-05T10:20", "2020-01-05 10:20:30+01:00", " ", "NA",
             " 2020-01-05", "0000-05-01", "0001-01-01", "2020-02-30", "soon", "2020-W01-1", "?"]
        ),
        min_size=1,
        max_size=6,
    )
)  # fmt: skip
def test_any_iso_date_is_the_same_beside_any_others(texts: list[str]) -> None:
    values, bad = parse_dates(pa.array(texts), ISO)
    np.testing.assert_array_equal(values, [parse_date(text.strip(), ISO) for text in texts])
    assert bad.tolist() == [
        math.isnan(value) and not is_missing(text)
        for text, value in zip(texts, values, strict=True)
    ]


def test_day_and_month_that_can_be_exchanged() -> None:
    assert swapped_format("%d/%m/%Y %H:%M") == "%m/%d/%Y %H:%M"
    assert swapped_format("%Y-%m-%d") is None


def test_words_for_true_and_false() -> None:
    assert boolean_pair(["Yes", "No"]) == ("No", "Yes")
    assert boolean_pair(["yes", "no", "maybe"]) is None
    assert boolean_pair(["yes"]) is None


def test_whole_numbers_too_long_for_floats_stay_texts() -> None:
    cells = [str(2**60 + n) for n in range(20)]
    assert infer(cells).kind == "category"


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([*map(str, range(60)), *["unknown"] * 20], "number"),
        (["1", "2", "3", "R"] * 10, "category"),
        ([*["1", "2", "3"] * 20, "R"], "number"),
        ([f"{i}a" for i in range(9)], "category"),
        ([*map(str, range(60)), *(f"w{i}" for i in range(20))], "category"),
        (["NA", "", "?"], "number"),
    ],
)
def test_words_beside_numbers(cells: list[str], kind: str) -> None:
    assert infer(cells).kind == kind


def test_the_best_style_counts_cells() -> None:
    from collections import Counter

    style, share = best_style(Counter(["1,5", "2,25", "x"]))
    assert style == COMMA
    assert share == pytest.approx(2 / 3)
