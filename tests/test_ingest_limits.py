"""What would hang or swell a reader: very many texts, columns, characters, zeros; names and links
that lead elsewhere."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from regatta.data_pipeline import import_csv, list_datasets, write_clean
from regatta.ingest import cache
from regatta.utils import DataError

pytestmark = pytest.mark.usefixtures("regatta_home")

PLAIN = "a,y\n" + "".join(f"{i % 7},{i}\n" for i in range(30))

# Reads a file by as many processes as it takes by itself; tells rows, columns, seconds, and the
# peak in MB of the largest of these processes.
IMPORT = """
import re, resource, sys, time
from pathlib import Path
from regatta.ingest.importer import import_table

if __name__ == "__main__":
    begun = time.monotonic()
    table = import_table(Path(sys.argv[1]))
    seconds = time.monotonic() - begun
    # Not its own ru_maxrss: that counts what the process which started it held.
    own = int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
    peak = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024
    print(table.rows, len(table.columns), round(seconds), peak)
"""


def cost(path: Path) -> tuple[int, int, int, int]:
    """Rows, columns, seconds, MB."""
    script = path.parent / "reads.py"
    script.write_text(IMPORT)
    done = subprocess.run(
        [sys.executable, "-P", script, path], capture_output=True, text=True, check=True,
        timeout=300,
    )  # fmt: skip
    rows, columns, seconds, peak = map(int, done.stdout.split())
    print(f"{path.name}: {seconds} s, {peak} MB")
    return rows, columns, seconds, peak


def test_a_million_different_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts.csv"
    with path.open("w") as file:
        file.write("t,y\n")
        file.writelines(f"text number {i},{i}\n" for i in range(1_000_000))
    rows, columns, seconds, peak = cost(path)
    assert (rows, columns) == (1_000_000, 2)
    assert seconds < 60 and peak < 500
    begun = time.monotonic()
    assert import_csv(path).rows == 1_000_000  # as it is known
    assert time.monotonic() - begun < 1


def test_ten_thousand_columns(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    cells = [[str(n * i % 101) for i in range(10_000)] for n in range(1, 101)]
    path.write_text("\n".join(map(",".join, [[f"c{i}" for i in range(10_000)], *cells])))
    rows, columns, seconds, peak = cost(path)
    assert (rows, columns) == (100, 10_000)
    assert seconds < 60 and peak < 500


def test_a_thousand_columns_of_texts_that_all_differ(tmp_path: Path) -> None:
    """Two million: neither are all kept, nor all looked at one by one."""
    path = tmp_path / "texts.csv"
    with path.open("w") as file:
        file.write(",".join(f"c{i}" for i in range(1_000)) + ",y\n")
        for row in range(2_000):
            file.write(",".join(f"t{row:x}{i:x}" for i in range(1_000)) + f",{row}\n")
    rows, columns, seconds, peak = cost(path)
    assert (rows, columns) == (2_000, 1_001)
    assert seconds < 60 and peak < 300
    kinds = {each.kind for each in import_csv(path).columns[:-1]}
    assert kinds == {"text"}


def test_a_line_of_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    rows = [f"{i % 13},x,{i}" for i in range(50)]
    path.write_text("\n".join(["a,t,y", *rows, f"1,{'z' * 10_000_000},2", *rows]))
    read, _, seconds, peak = cost(path)
    assert read == 101
    assert seconds < 60 and peak < 500


# -- packed files ---------------------------------------------------------------------------------


def zipped(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zip": lambda content: zipped(("rows.csv", content)),
}


def refused(path: Path) -> str:
    """What is said of a file that is not read; nothing of it is left."""
    with pytest.raises(DataError) as caught:
        import_csv(path)
    assert list_datasets() == []
    assert not list(cache.datasets_folder("building").iterdir())
    return caught.value.message


@pytest.mark.parametrize("packing", PACKERS)
def test_no_bomb_is_unpacked(tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGATTA_MAX_UNPACKED_GB", "0.001")
    path = tmp_path / "bomb"
    path.write_bytes(PACKERS[packing](b"a,y\n" + b"1,2\n" * 1_000_000))
    assert "unpacks to more than 0.0 GB" in refused(path)


def test_what_packs_better_than_any_table_is_no_table(tmp_path: Path) -> None:
    """Whatever the cap: more than a thousand times its size, and more than 100 MB."""
    path = tmp_path / "bomb.bz2"
    packer = bz2.BZ2Compressor()
    with path.open("wb") as file:
        file.write(packer.compress(b"a,y\n"))
        for _ in range(150):
            file.write(packer.compress(b"1,2\n" * 250_000))
        file.write(packer.flush())
    assert path.stat().st_size < 100_000
    assert "unpacks to more than 0.1 GB" in refused(path)


@pytest.mark.parametrize("name", ["../../out.csv", "/out.csv", "..\\out.csv", "a\0b.csv"])
def test_a_name_in_an_archive_leads_nowhere(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    path = folder / "rows.zip"
    path.write_bytes(zipped((name, PLAIN.encode())))
    assert import_csv(path).rows == 30
    assert [each for each in tmp_path.rglob("*.csv") if "out" in each.name] == []


def test_an_archive_in_an_archive_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "rows.zip"
    path.write_bytes(zipped(("rows.zip", zipped(("rows.csv", PLAIN.encode())))))
    refused(path)


def test_an_archive_of_two_files_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.zip"
    path.write_bytes(zipped(("a.csv", PLAIN.encode()), ("b.csv", PLAIN.encode())))
    assert "a zip archive of 2 files" in refused(path)


# -- links ----------------------------------------------------------------------------------------


def test_a_link_is_read_as_what_it_leads_to(tmp_path: Path) -> None:
    one, other, link = tmp_path / "one.csv", tmp_path / "other.csv", tmp_path / "link.csv"
    one.write_text(PLAIN)
    other.write_text(PLAIN + "1,1\n")
    link.symlink_to(one)
    assert import_csv(link).rows == 30
    link.unlink()
    link.symlink_to(other)
    assert import_csv(link).rows == 31


@pytest.mark.parametrize("target", ["nothing.csv", "link.csv", "/dev/zero", "."])
def test_a_link_to_no_file_is_told(tmp_path: Path, target: str) -> None:
    link = tmp_path / "link.csv"
    link.symlink_to(target)
    refused(link)


def test_what_is_written_takes_the_place_of_a_link_and_not_of_its_file(tmp_path: Path) -> None:
    path, kept, out = tmp_path / "rows.csv", tmp_path / "kept.csv", tmp_path / "out.csv"
    path.write_text(PLAIN)
    kept.write_text("kept")
    out.symlink_to(kept)
    write_clean(path, out)
    assert kept.read_text() == "kept" and out.read_text() == PLAIN
