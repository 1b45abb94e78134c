"""Damaged files of all dialects: each becomes a table or a sentence, soon.

``REGATTA_FUZZ_SEED`` makes other files than those of the last time; a failure names the seed and
the number of the file that failed, and keeps the file in the test's own folder.
"""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from regatta.ingest.importer import import_table
from regatta.utils import DataError, home

pytestmark = pytest.mark.usefixtures("regatta_home")

SEED = int(os.environ.get("REGATTA_FUZZ_SEED", "1"))
SECONDS = 2.0  # of processor time: what else the machine does is no fault of a file
WORDS = (
    *("Oslo", "São Paulo", "a b", "NA", "", "-", "yes", "no", "true", "x,y", 'say "hi"', "Ω"),
    *("=1+1", "2021-03-04", "04/03/2021 10:11", "31.12.1999", "null", "?", "'", "\\", "#1"),
    *("a;b", "\t"),
)
ODD_BYTES = (
    *(b"\0", b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b'"', b"'", b"\\", b","),
    *(b";", b"\t", b"|", b" ", b"\x1a", b"\xc3", b"\xe2\x80\xa8", b"1e400", b"inf", b"NaN", b"#"),
    *(b"sep=;\n", b"---\n", b"\n\n", b",,,,", b"\x85", b"\xa0", b"0x1F", b"1_000"),
)
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-32")


def number(rng: random.Random, decimal: str) -> str:
    kind = rng.randrange(6)
    if kind == 0:
        return str(rng.randrange(-5, 2000))
    if kind == 1:
        return f"{rng.gauss(0, 10 ** rng.randrange(-3, 7)):.{rng.randrange(8)}e}"
    if kind == 2:
        return f"{rng.randrange(10**7):,}".replace(",", rng.choice(["", ".", " ", "'"]))
    if kind == 3:
        return f"{rng.choice('$€')}{rng.randrange(10**4)}"
    return f"{rng.gauss(0, 100):.{rng.randrange(1, 6)}f}".replace(".", decimal)


def table(rng: random.Random) -> str:
    """A text that looks like a table, in some dialect, not always a consistent one."""
    separator = rng.choice([",", ",", ",", ";", "\t", "|", " ", "  ", "^"])
    quote = rng.choice(['"', '"', '"', "'", ""])
    decimal, end = rng.choice(".,"), rng.choice(["\n", "\n", "\r\n", "\r"])
    width = rng.choice([1, 2, 3, 3, 4, 8, 40])
    numeric = [rng.random() < 0.6 for _ in range(width)]

    def cell(column: int) -> str:
        text = number(rng, decimal) if numeric[column] else rng.choice(WORDS)
        if rng.random() < 0.03:
            text = rng.choice(WORDS)
        if quote and (separator in text or quote in text or rng.random() < 0.1):
            text = quote + text.replace(quote, quote * 2) + quote
        return text

    lines = [separator.join(cell(c) for c in range(width)) for _ in range(rng.randrange(40))]
    if rng.random() < 0.7:
        lines.insert(0, separator.join(f"{quote}n {c}{quote}" for c in range(width)))
    for _ in range(rng.choice([0, 0, 0, 1, 2])):
        above = rng.choice(["# a remark", "Title", "", separator * width, "sep=;"])
        lines.insert(rng.randrange(len(lines) + 1), above)
    return end.join(lines) + rng.choice([end, "", end + end])


def damaged(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice([0, 1, 1, 2, 5, 20])):
        place = rng.randrange(len(data) + 1)
        length = rng.choice([0, 0, 1, 3, 50])
        piece = rng.choice(
            [b"", data[place : place + 200], rng.randbytes(3), rng.choice(ODD_BYTES)]
        )
        data = data[:place] + piece + data[place + length :]
    return data


def made(number_of_file: int) -> bytes:
    """The file of that number: the same for the same seed."""
    rng = random.Random(f"{SEED} {number_of_file}")
    text = table(rng).encode(rng.choice(ENCODINGS), "replace")
    return damaged(rng, text) if rng.random() < 0.98 else rng.randbytes(rng.randrange(500))


def read_all(folder: Path, numbers: range) -> dict[str, int]:
    """How many of the files became a table, and how many a sentence; prints it, and how long the
    slowest took."""
    counts = {"read": 0, "refused": 0}
    slowest = 0.0, 0
    for each in numbers:
        if each % 500 == 0:  # each file that is read leaves a table
            shutil.rmtree(home() / "datasets", ignore_errors=True)
        path = folder / f"{each}.csv"
        path.write_bytes(made(each))
        began = time.process_time()
        # No signal would end a regular expression that tries every way.
        faulthandler.dump_traceback_later(60, exit=True, file=2)
        try:
            found = import_table(path, processes=0, chunk_bytes=1 << 12)
            assert found.rows > 0 and found.columns
            counts["read"] += 1
        except DataError as error:
            assert str(error).endswith((".", "?", "…", "!")) or error.hint, str(error)
            counts["refused"] += 1
        except Exception as error:
            pytest.fail(f"seed {SEED}, file {each} ({path}): {type(error).__name__}: {error}")
        finally:
            faulthandler.cancel_dump_traceback_later()
        seconds = time.process_time() - began
        assert seconds < SECONDS, f"seed {SEED}, file {each} ({path}) took {seconds:.1f} s"
        slowest = max(slowest, (seconds, each))
        path.unlink()
    print(f"seed {SEED}: {counts}; the slowest, file {slowest[1]}, took {slowest[0]:.2f} s")
    return counts


def test_damaged_files_become_a_table_or_a_sentence(tmp_path: Path) -> None:
    counts = read_all(tmp_path, range(600))
    assert min(counts.values()) > 60, "both happen often"


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_a_hundred_thousand_damaged_files_become_a_table_or_a_sentence(tmp_path: Path) -> None:
    read_all(tmp_path, range(600, 100_600))
