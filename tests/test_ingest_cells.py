"""The compiled reader of cells: the same columns as `pyarrow` and Python read, or none."""

from __future__ import annotations

import csv
import ctypes
import datetime as dt
import io
import math
import os
import random
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regatta.ingest import cells, importer
from regatta.ingest.cells import CellReader, Codes, Wanted, layouts_of
from regatta.ingest.dates import DATE_FORMATS, ISO, parse_date, parse_dates
from regatta.ingest.importer import import_table
from regatta.ingest.values import MISSING_WORDS, PLAIN, parse_numbers
from regatta.utils import DataError

NUMBERS = (
    st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.integers(-(2**63), 2**64 - 1).map(str)
    | st.from_regex(r"[-+]?[0-9]{1,25}\.[0-9]{0,30}([eE][+-]?[0-9]{1,3})?", fullmatch=True)
    | st.from_regex(r"[-+]?\.[0-9]{1,20}", fullmatch=True)
)
SEPARATORS = st.sampled_from([",", ";", "\t", "|"])
ENDS = st.sampled_from(["\n", "\r\n"])


def test_it_is_built() -> None:
    assert cells.is_built(), (
        "`make distclean test` builds it; a C compiler, or the network, is needed"
    )


def read(
    text: str | bytes, kinds: str, decimal: str = ".", layouts: Any = None
) -> list[Any] | None:
    """Columns of a chunk: n for numbers, d for dates, t for texts, c for codes."""
    reader = CellReader(len(kinds))
    data = text if isinstance(text, bytes) else text.encode()
    if not reader.cut(data, ",", '"') or not reader.rows:
        return None
    names = {"n": "numbers", "d": "dates", "t": "texts", "c": "codes"}
    wanted = [
        Wanted(i, names[kind], decimal, layouts if kind == "d" else None)
        for i, kind in enumerate(kinds)
    ]
    types = {"n": np.float64, "d": np.float64, "c": np.int32}
    into = [np.empty(reader.rows, types[kind]) if kind in types else None for kind in kinds]
    found = reader.read(wanted, into)
    return [into[i] if column is None else column for i, column in enumerate(found)]


# -- numbers --------------------------------------------------------------------------------------


@given(st.lists(NUMBERS, min_size=1, max_size=40), ENDS, st.booleans())
@settings(deadline=None)
def test_numbers_are_rounded_as_python_does(numbers: list[str], end: str, last: bool) -> None:
    expected = [float(number) for number in numbers]
    found = read(end.join(numbers) + end * last, "n")
    assert found is not None
    if isinstance(found[0], pa.StringArray):  # some are beyond what it tells for certain
        assert found[0].to_pylist() == numbers
        for number, value in zip(numbers, expected, strict=True):
            one = read(number + "\n", "n")
            assert one is not None
            if not isinstance(one[0], pa.StringArray):
                assert one[0].tobytes() == np.array([value]).tobytes()
    else:
        assert found[0].tobytes() == np.array(expected).tobytes()


@pytest.mark.parametrize(
    "number",
    ["9007199254740993", "9007199254740992.5", "0.1", "123456.789012345678", "-0", "-0.0", "0e999",
     "2.2250738585072014e-308", "1.7976931348623157e308", "8.98846567431158e307", "5e-324", "1e23",
     "0.00000000000000000000000000012345678901234567", "00000000000000000000012.5", "9.5e22", "+7",
     ".5", "5.",
     "6.02214076e23", "4503599627370497.5", "18446744073709551615", "18446744073709551616",
     "1234567890123456", "12345678.87654321", "1.234567812345678"],
)  # fmt: skip
def test_numbers_at_the_edges(number: str) -> None:
    # Before the short way may be taken, a cell must stand far enough from the first byte.
    for before in ("", "123456789012345678,"):
        found = read(f"{before}{number}\n", "n" * (2 if before else 1))
        assert found is not None
        value = found[-1]
        if isinstance(value, pa.StringArray):
            assert abs(float(number)) < 2.3e-308 or float(number) > 1e308
        else:
            assert value.tobytes() == np.array([float(number)]).tobytes()


@pytest.mark.parametrize(
    "cell",
    ["1e400", "1e", "e5", ".", "+", "-", "--1", "+-1", "1.2.3", "1 2", "1_000", "0x1", "inf",
     "Infinity", "1,5", "12a", "1e5.5", "1e+", "\u0662", "1\u00a0", "five", "1-", "1/2", "1:2",
     "12345678901234567890.5.", "1.5e5e5", "'1'", "0." + "0" * 100_000 + "1e1000000",
     "1" + "0" * 100_000 + "e-1000000"],
)  # fmt: skip
def test_what_is_no_plain_number_stays_text(cell: str) -> None:
    quoted = f'"{cell}"' if "," in cell else cell
    found = read(f"1,1\n2,{quoted}\n", "nn")
    assert found is not None
    assert found[0].tolist() == [1, 2]
    if cell in MISSING_WORDS:
        assert math.isnan(found[1][1])
    else:
        assert found[1].to_pylist() == ["1", cell]


@pytest.mark.parametrize("word", sorted(MISSING_WORDS))
def test_words_for_no_value(word: str) -> None:
    for spelled in (word, word.lower(), f" {word}\t", f'"{word}"'):
        found = read(f"x,1\ny,{spelled}\n", "tn")
        assert found is not None
        assert found[1].tobytes() == np.array([1, np.nan]).tobytes()


def test_a_decimal_comma() -> None:
    found = read('"1,5","-0,25"\n7,"1234567,875"\n', "nn", ",")
    assert found is not None
    assert found[0].tolist() == [1.5, 7]
    assert found[1].tolist() == [-0.25, 1234567.875]
    found = read("1.5\n", "n", ",")
    assert found is not None
    assert found[0].to_pylist() == ["1.5"]


@given(st.lists(NUMBERS | st.sampled_from(["", "NA", "x", "1 ", "inf"]), min_size=1))
@settings(deadline=None)
def test_texts_of_numbers_say_the_same(texts: list[str]) -> None:
    """What it takes for numbers, the rules for texts take for the same."""
    found = read("".join(f"1,{text}\n" for text in texts), "nn")
    assert found is not None
    if not isinstance(found[1], pa.StringArray):
        values, bad = parse_numbers(pa.array(texts), PLAIN)
        assert not bad.any()
        assert found[1].tobytes() == values.tobytes()


# -- dates ----------------------------------------------------------------------------------------


def known_formats() -> list[str]:
    return [each for each in DATE_FORMATS if layouts_of(each) is not None]


def test_formats_with_names_zones_and_half_days_are_not_known() -> None:
    known = known_formats()
    assert len(known) > 80
    assert not [each for each in known if re.search("%[bBpIz]", each)]
    assert layouts_of(ISO) is None


# Where no sign stands between two parts, a text may fit several layouts.
WITHOUT_SIGNS = ["%Y%m%d", "%d%m%Y", "%y%m%d", "%Y%m%d%H%M%S", "%Y-%m-%d%H", "%d3%m3%Y"]


@given(st.data())
@settings(deadline=None)
def test_dates_as_numpy_reads_them(data: st.DataObject) -> None:
    date_format = data.draw(st.sampled_from([*known_formats(), *WITHOUT_SIGNS, "%Y年%m月%d日"]))
    moments = st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31))
    drawn = data.draw(st.lists(moments, min_size=1, max_size=20))
    texts = [each.strftime(date_format).replace("-0", "-").zfill(4) if data.draw(st.booleans())
             else f"{each:{date_format}}" for each in drawn]  # fmt: skip
    place = data.draw(st.integers(0, len(texts[0]) - 1))
    texts += [
        data.draw(st.sampled_from(["", " ", "NA", texts[0] + " ", texts[0] + "0"])),
        texts[0][:place] + data.draw(st.sampled_from("0123456789 :-/T.9")) + texts[0][place + 1 :],
    ]
    expected, bad = parse_dates(pa.array(texts), date_format)
    for text, value, wrong in zip(texts, expected, bad, strict=True):
        quoted = f'"{text}"' if "," in text else text
        found = read(f"{quoted},1\n", "dn", layouts=layouts_of(date_format))
        assert found is not None
        if isinstance(found[0], pa.StringArray):
            assert wrong, text
        else:
            assert not wrong, text
            assert found[0].tobytes() == np.array([value]).tobytes(), text


@pytest.mark.parametrize("date_format", WITHOUT_SIGNS)
def test_of_several_layouts_the_first_counts(date_format: str) -> None:
    random.seed(3)
    texts = ["".join(random.choices("0123", k=random.randint(5, 9))) for _ in range(300)]
    together = parse_dates(pa.array(texts), date_format)
    for i, text in enumerate(texts):
        alone = parse_date(text, date_format)
        assert np.array_equal(parse_dates(pa.array([text]), date_format)[0], [alone], True), text
        assert np.array_equal(together[0][i], alone, equal_nan=True), text
        found = read(f"{text},1\n", "dn", layouts=layouts_of(date_format))
        assert found is not None
        assert isinstance(found[0], pa.StringArray) == math.isnan(alone)
        assert isinstance(found[0], pa.StringArray) or found[0].tolist() == [alone]


def test_no_date_is_in_quotes_within_quotes() -> None:
    found = read('"01""02""2024",1\n', "dn", layouts=layouts_of('%d""%m""%Y'))
    assert found is not None
    assert found[0].to_pylist() == ['01"02"2024']


@pytest.mark.parametrize(
    ("text", "right"),
    [("2024-02-29", True), ("2023-02-29", False), ("1900-02-29", False), ("2000-02-29", True),
     ("2024-04-31", False), ("2024-13-01", False), ("2024-00-10", False), ("2024-01-00", False),
     ("0001-01-01", True), ("0000-01-01", False), ("9999-12-31", True), ("1969-12-31", True)],
)  # fmt: skip
def test_days_of_the_calendar(text: str, right: bool) -> None:
    found = read(f"{text},1\n", "dn", layouts=layouts_of("%Y-%m-%d"))
    assert found is not None
    assert isinstance(found[0], pa.StringArray) != right
    if right:
        moment = dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)
        assert found[0].tolist() == [moment.timestamp()]


# -- texts and cutting ----------------------------------------------------------------------------

CELLS = st.text(st.sampled_from('ab1 ,"\n\r;é\t'), max_size=9) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=70
)


def quoted(cell: str) -> str:
    if set(cell) & set(',"\r\n') or len(cell) % 2:
        return '"' + cell.replace('"', '""') + '"'
    return cell


@given(st.data(), st.integers(1, 4), ENDS)
@settings(deadline=None)
def test_cells_as_the_csv_module_cuts_them(data: st.DataObject, width: int, end: str) -> None:
    row = st.lists(CELLS, min_size=width, max_size=width)
    # A row of one blank cell would be a blank line.
    rows = data.draw(st.lists(row, min_size=1, max_size=90).filter(lambda r: [""] not in r))
    text = "".join(",".join(map(quoted, row)) + end for row in rows)
    assert [*csv.reader(io.StringIO(text, newline=""))] == rows
    if data.draw(st.booleans()):
        text = text.removesuffix(end)
    texts, codes = read(text, "t" * width), read(text, "c" * width)
    assert texts is not None
    assert codes is not None
    for i in range(width):
        expected = [each[i] for each in rows]
        assert texts[i].to_pylist() == expected
        texts[i].validate(full=True)
        assert isinstance(codes[i], Codes)
        assert codes[i].whole().to_pylist() == expected
        assert codes[i].texts.to_pylist() == list(dict.fromkeys(expected))
        assert codes[i].counts.tolist() == [expected.count(t) for t in dict.fromkeys(expected)]


def test_many_different_texts() -> None:
    """More than any table of them began with; long ones that begin alike; and then a few again."""
    reader = CellReader(1)
    for texts in ([f"{'x' * (n % 40)}{n}" for n in range(20_000)], ["a", "b", "a"]):
        assert reader.cut("\n".join(texts).encode(), ",", "")
        (found,) = reader.read([Wanted(0, "codes")], [np.empty(reader.rows, np.int32)])
        assert found.whole().to_pylist() == texts
        assert len(found.texts) == len(set(texts))


@pytest.mark.parametrize(
    "text",
    ["1,2\n3\n", "1,2\n3,4,5\n", "1\n2,3,4\n", "1,2,3\n", "1,2\n3,4\n5\n", "1,2\r3,4\n", "1\r2\r",
     'a,"b\n', 'a,b"c"\n', 'a,"b"c\n', 'a,"b" \n', 'a, "b"\n', 'a,"b""\n', '"a"b,c\n', 'a"",b\n',
     "\n", "", "\n\n\r\n", "1,2\n \n"],
)  # fmt: skip
def test_what_cannot_be_cut(text: str) -> None:
    for before in ("", "1,2\n" * 30):  # within the first 64 bytes and later
        if before and not text.strip():
            continue
        assert read(before + text, "tt") is None


def test_blank_lines_are_no_rows() -> None:
    found = read("\n1,2\n\n\r\n3,4\r\n\n", "nn")
    assert found is not None
    assert [column.tolist() for column in found] == [[1, 3], [2, 4]]


@pytest.mark.parametrize("length", [*range(1, 20), *range(60, 70), *range(124, 132), 64 * 5])
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
def test_ends_anywhere_in_a_block(length: int, end: str) -> None:
    text = '"' + "y\n" * length + '"'
    for cell in ("x" * length, text):
        reader = CellReader(1)
        assert reader.cut((cell + end).encode(), ",", '"')
        assert reader.rows == 1
        assert reader.lines == (cell + end).count("\n")
        (found,) = reader.read([Wanted(0, "texts")], [None])
        assert found.to_pylist() == [cell.strip('"')]


def test_what_it_tells_of_the_bytes() -> None:
    reader = CellReader(1)
    told = [
        (b"a\nb", True, False),
        ("é\n".encode(), False, False),
        (b"x" * 70 + b"\0\n", True, True),
        (b"\0", True, True),
    ]
    for data, is_ascii, nul in told:
        assert reader.cut(data, ",", "")
        assert (reader.ascii, reader.nul) == (is_ascii, nul)
        assert reader.lines == data.count(b"\n")


def test_what_was_read_stays_when_more_is_read() -> None:
    reader = CellReader(2)
    wanted = [Wanted(0, "codes"), Wanted(1, "texts")]
    found = []
    for text in (b"a,b\nc,d\n", b"e,f\ng,h\n"):
        assert reader.cut(text, ",", "")
        found.append(reader.read(wanted, [np.empty(2, np.int32), None]))
    assert found[0][0].whole().to_pylist() == ["a", "c"]
    assert found[0][1].to_pylist() == ["b", "d"]


# Reads random chunks of what cells hold, whole and damaged, as random kinds.
RANDOM_CHUNKS = """
import random
import numpy as np
from regatta.ingest.cells import CellReader, Wanted, layouts_of

CELLS = [b"1", b"-2.5", b"2024-01-02", b"1.1.24", b"", b"x" * 30, b'"a""b"', b"1e5", b" NA ",
         b"123456789.12345678", b"1234567890123456789012345", b'"a,\\nb"', b"\\xff", b"-", b"."]
ODD = [b'"', b"\\n", b"\\r", b"1,2", b'"a"b']
FORMATS = ["%Y-%m-%d", "%d.%m.%y", "%Y-%m-%d %H:%M:%S.%f"]
TYPES = {"numbers": np.float64, "dates": np.float64, "codes": np.int32}


def chunk():
    width = random.randint(1, 4)
    cells = CELLS + random.choice([[], [], ODD])
    rows = [b",".join(random.choices(cells, k=width)) for _ in range(random.randint(1, 30))]
    text = bytearray(b"\\n".join(rows) + random.choice([b"", b"\\n", b"\\r\\n"]))
    for _ in range(random.choice([0, 0, 0, 1, 3]) if text else 0):
        text[random.randrange(len(text))] = random.choice(b',"\\n\\r1x')
    return width, bytes(text)


def read(reader):
    wanted = []
    for i in range(reader.width):
        kind = random.choice(["numbers", "dates", "texts", "codes"])
        layouts = layouts_of(random.choice(FORMATS)) if kind == "dates" else None
        wanted.append(Wanted(i, kind, random.choice(".,"), layouts))
    reader.read(wanted, [
        np.empty(reader.rows, TYPES[each.kind]) if each.kind in TYPES else None for each in wanted
    ])
"""


def run(code: str, **environment: str) -> None:
    """Run code that ends with the word "whole"."""
    command = [sys.executable, "-P", "-c", RANDOM_CHUNKS + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.stdout.strip() == "whole", done.stderr


def test_nothing_is_read_beyond_the_bytes() -> None:
    """In a process of its own, as pages that may not be touched surround them."""
    run("""
        import ctypes, mmap
        page = mmap.PAGESIZE
        memory = mmap.mmap(-1, 3 * page)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for guard in (address, address + 2 * page):
            assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), page, 0) == 0
        random.seed(1)
        cut = 0
        for turn in range(6000):
            width, text = chunk()
            start = random.choice([address + page, address + 2 * page - len(text)])
            ctypes.memmove(start, text, len(text))
            reader = CellReader(width)
            at = ctypes.c_char_p(start)
            reader.rows = reader.library.cells_cut(reader.handle, at, len(text), 44, 34)
            if reader.rows > 0:
                cut += 1
                read(reader)
        assert cut > 1000
        print("whole")
    """)


@pytest.mark.slow
def test_a_sanitizer_finds_nothing(root: Path, tmp_path: Path) -> None:
    library = tmp_path / "cells.so"
    options = "-std=c11 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fPIC -shared"
    source = str(root / "ingest" / "cells.c")
    built = subprocess.run(["gcc", *options.split(), "-o", str(library), source], check=False) \
        if shutil.which("gcc") else None  # fmt: skip
    if built is None or built.returncode:
        pytest.skip("gcc with its sanitizers is not installed: apt-get install gcc libc6-dev")
    first = [
        subprocess.run(["gcc", f"-print-file-name=lib{name}.so"], capture_output=True, text=True)
        for name in ("asan", "ubsan")
    ]
    code = f"""
        from pathlib import Path
        from regatta.ingest import cells
        cells.LIBRARY = Path({str(library)!r})
        assert cells.is_built()
        random.seed(2)
        for turn in range(60_000):
            width, text = chunk()
            reader = CellReader(width)
            for _ in range(2):
                if reader.cut(text, ",", '"') and reader.rows:
                    read(reader)
        print("whole")
    """
    run(
        code,
        LD_PRELOAD=" ".join(each.stdout.strip() for each in first),
        ASAN_OPTIONS="detect_leaks=0",
        PYTHONMALLOC="malloc",  # so that it sees Python's own blocks, too
    )


# -- whole files ----------------------------------------------------------------------------------


@pytest.fixture
def chunks_cut(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each chunk, whether it could be cut into cells."""
    seen: list[bool] = []
    cut = CellReader.cut

    def noted(self: CellReader, data: bytes, delimiter: str, quote: str) -> bool:
        seen.append(cut(self, data, delimiter, quote))
        return seen[-1]

    monkeypatch.setattr(CellReader, "cut", noted)
    return seen


def table_of(path: Path, lines: list[str]) -> Path:
    path.write_text("when,what,much,sure\n" + "".join(line + "\n" for line in lines))
    return path


def trips(count: int) -> list[str]:
    random.seed(1)
    return [
        f"2024-0{random.randint(1, 9)}-11 0{random.randint(0, 9)}:00,{random.choice('abc')},"
        f"{random.gauss(0, 1)!r},{random.choice(['yes', 'no'])}"
        for _ in range(count)
    ]


@pytest.mark.usefixtures("regatta_home")
def test_a_file_is_the_same_table_without_it(
    tmp_path: Path, chunks_cut: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = trips(3000)
    lines[1500] = ",,,"
    lines[1501] = '2024-01-01 00:00,"d ""e""\nf",-0.0,no'
    lines[1700] = "2024-02-02 02:02, a ,NA,?"
    path = table_of(tmp_path / "rows.csv", lines)
    fast = import_table(path, processes=0, chunk_bytes=4096)
    assert any(chunks_cut)
    content = [contents(fast, group) for group in fast.groups]
    before = len(chunks_cut)
    monkeypatch.setattr(cells, "is_built", lambda: False)
    monkeypatch.setattr(importer, "_indexed", lambda *_: None)
    monkeypatch.setenv("REGATTA_HOME", str(tmp_path / "other home"))
    slow = import_table(path, processes=0, chunk_bytes=4096)
    assert len(chunks_cut) == before
    assert slow.columns == fast.columns
    assert [contents(slow, group) for group in slow.groups] == content
    assert not np.signbit(fast.values(fast.column("much"))).all()


@pytest.mark.usefixtures("regatta_home")
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("chunk", [120, 4096])
def test_what_arrow_would_pass_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool, chunk: int
) -> None:
    """A mark of the byte order where a chunk begins, a NaN with something in it, a lone tab."""
    if not compiled:
        monkeypatch.setattr(cells, "is_built", lambda: False)
    lines = ["x,1"] * 90
    lines[::3] = ["\ufeffx,2"] * 30
    lines[70] = "x,nan(abc)"
    lines[40] = "\t"
    (path := tmp_path / "rows.csv").write_text("name,much\n" + "\n".join(lines) + "\n")
    table = import_table(path, processes=0, chunk_bytes=chunk)
    assert table.column("name").levels == ("\ufeffx", "x")
    assert table.column("name").counts == (30, 59)
    assert table.column("much").odd == ((72, "nan(abc)"),)


def test_a_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    load: Any = cells._library
    library = ctypes.CDLL(str(cells.LIBRARY))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert load.__wrapped__() is library
    monkeypatch.setattr(library, "cells_sizes", lambda: 1)
    assert load.__wrapped__() is None
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())  # without what is looked for
    assert load.__wrapped__() is None


def contents(table: Any, group: int) -> tuple[bytes, ...]:
    codes = table.codes(group, table.column("what"))
    return table.hashes(group).tobytes(), table.measured(group).tobytes(), codes.tobytes()


@pytest.mark.usefixtures("regatta_home")
def test_a_broken_row_is_named_all_the_same(tmp_path: Path, chunks_cut: list[bool]) -> None:
    lines = trips(3000)
    lines[2500] = "1,2,3"
    lines[2501] = "4"
    with pytest.raises(DataError, match="Line 2502 has 3 fields where 4 are expected"):
        import_table(table_of(tmp_path / "rows.csv", lines), processes=0, chunk_bytes=4096)
    assert set(chunks_cut) == {True, False}
