"""Any accepted file as a stream of UTF-8 bytes: unpacked, decoded, without byte order mark.

    file ──(gzip, bzip2, xz, zip of one file)──▶ bytes ──(encoding)──▶ UTF-8 bytes

A plain UTF-8 file is passed through, so that other processes can read ranges of it themselves.
Files that are no text at all are refused here with a sentence.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import os
import re
import zipfile
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from regatta.utils import DataError, number_from

HEAD_BYTES = 1 << 20
MAX_UNPACKED_VARIABLE = "REGATTA_MAX_UNPACKED_GB"
DEFAULT_MAX_UNPACKED_GB = 100.0
# A packed file may not grow more than this: text seldom packs better than 1:50.
MAX_RATIO = 1000

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"PK\x03\x04": "zip"}

# (encoding, byte order mark); UTF-32 first, since its mark starts like that of UTF-16.
MARKS = (
    ("utf-32", codecs.BOM_UTF32_LE),
    ("utf-32", codecs.BOM_UTF32_BE),
    ("utf-8-sig", codecs.BOM_UTF8),
    ("utf-16", codecs.BOM_UTF16_LE),
    ("utf-16", codecs.BOM_UTF16_BE),
)

NOT_TEXT = (
    (b"%PDF", "a PDF document", "Export the table from it as CSV."),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Office file", "Save the sheet as CSV."),
    (b"PAR1", "a Parquet file", "Convert it to CSV first."),
    (b"ARROW1", "an Arrow file", "Convert it to CSV first."),
    (b"SQLite format 3", "an SQLite database", "Export the table from it as CSV."),
    (b"\x89PNG", "a picture", "Choose a CSV file."),
    (b"\xff\xd8\xff", "a picture", "Choose a CSV file."),
    (b"GIF8", "a picture", "Choose a CSV file."),
    (b"\x7fELF", "a program", "Choose a CSV file."),
    (b"\x89HDF", "an HDF5 file", "Convert it to CSV first."),
    (b"{\\rtf", "an RTF document", "Save it as CSV."),
    (b"\x80\x02", "a Python pickle", "Regatta never loads one; write the table as CSV."),
    (b"\x80\x03", "a Python pickle", "Regatta never loads one; write the table as CSV."),
    (b"\x80\x04", "a Python pickle", "Regatta never loads one; write the table as CSV."),
    (b"\x80\x05", "a Python pickle", "Regatta never loads one; write the table as CSV."),
)
# What text is taken for that is not UTF-8: a superset of Latin-1's printable characters.
LEGACY = "cp1252"
CYRILLIC = "cp1251"
# So many may stand in a text: the rows with them are told.
FEW_NULS = 20
# An object, a list of objects or a list of lists; no table begins so.
JSON_START = re.compile(rb'(?:\[\s*)?\{\s*"(?:[^"\\]|\\.)*"\s*:|\[\s*\[\s*["\d-]')
HTML_STARTS = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<table")


@dataclass(frozen=True)
class FileIdentity:
    """What stands for a file's content once the content has been hashed."""

    path: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileIdentity:
        """The identity of a regular file that can be read, or a `DataError`."""
        try:
            resolved = path.expanduser().resolve(strict=True)
            status = resolved.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise DataError(f"There is no file {str(path)!r}.", "Check the path.") from None
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"{str(path)!r} cannot be opened: {error}.", "Check the path."
            ) from None
        if resolved.is_dir():
            raise DataError(f"{str(path)!r} is a folder.", "Name a CSV file in it.")
        if not resolved.is_file():
            raise DataError(
                f"{str(path)!r} is not a regular file.", "Save the data to a file first."
            )
        if not os.access(resolved, os.R_OK):
            raise DataError(f"{str(path)!r} may not be read.", "Check its permissions.")
        if status.st_size == 0:
            raise DataError(f"{path.name!r} is empty.", "A CSV needs a header and some rows.")
        return cls(
            str(resolved), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
        )


@dataclass(frozen=True)
class Patch:
    """Other bytes for some of the text (as UTF-8, without mark)."""

    offset: int
    length: int
    text: bytes


@dataclass(frozen=True)
class Source:
    """A file, how it is packed and encoded, and where its text starts.

    ``patches``, in the order of the text, are applied where it is streamed.
    """

    path: Path
    packing: str
    encoding: str
    mark: int
    repairs: tuple[str, ...] = ()
    patches: tuple[Patch, ...] = ()
    controls: bool = False  # U+0080 to U+009F stand for what these bytes are in cp1252

    @property
    def direct(self) -> bool:
        """Whether the bytes on disk are the UTF-8 text itself, from ``mark`` on."""
        plain = not self.packing and self.encoding in ("utf-8", "utf-8-sig")
        return plain and not self.patches and not self.controls


def open_source(path: Path, encoding: str | None = None) -> tuple[Source, bytes]:
    """Look at the first bytes of a file: how it is packed and encoded, and the start of its text.

    Parameters
    ----------
    encoding : str, optional
        The encoding to use where there is no byte order mark, instead of finding it.

    Returns
    -------
    source, head
        ``head`` is the first megabyte of the text as UTF-8, possibly cut in mid-row.

    Raises
    ------
    DataError
        If the file is not text.
    """
    with path.open("rb") as file:
        start = file.read(8)
    packing = next((name for mark, name in PACKED.items() if start.startswith(mark)), "")
    _refuse_known(start, path)
    with unpacked(path, packing) as stream:
        raw = _read_up_to(stream, HEAD_BYTES)
    if not raw.strip():
        raise DataError(f"{path.name!r} is empty.", "A CSV needs a header and some rows.")
    _refuse_known(raw, path)
    repairs = [f"unpacked ({packing})"] if packing else []
    found, mark, said = _find_encoding(raw, encoding, path)
    controls = found in ("utf-8", "utf-8-sig") and _CONTROLS.search(raw) is not None
    if controls:
        said.append("control characters U+0080 to U+009F read as the signs of cp1252 (’ “ € …)")
    source = Source(path, packing, found, mark, tuple(repairs + said), controls=controls)
    head = b"".join(_decoded(iter([raw]), source, final=len(raw) < HEAD_BYTES))
    _refuse_binary(head, path)
    return source, head


def stream_text(source: Source, block: int) -> Iterator[tuple[bytes, int]]:
    """The text of a file as UTF-8 in blocks, and for each how many bytes of the file were read."""
    with source.path.open("rb") as file, unpacked(source.path, source.packing, file) as stream:
        limit = unpacked_limit(source)
        total = 0

        def blocks() -> Iterator[bytes]:
            nonlocal total
            while data := _read_block(stream, block, source.path):
                total += len(data)
                if total > limit:
                    raise DataError(
                        f"{source.path.name!r} unpacks to more than {limit / 1e9:.1f} GB.",
                        f"Unpack it yourself, or raise {MAX_UNPACKED_VARIABLE}.",
                    )
                yield data

        for text in _patched(_decoded(blocks(), source, final=True), source.patches):
            yield text, file.tell()


def _patched(blocks: Iterator[bytes], patches: tuple[Patch, ...]) -> Iterator[bytes]:
    """Blocks of text with the patches in them."""
    left = deque(patches)
    start, carry = 0, b""  # of the text that is not yet given out
    for block in blocks:
        carry += block
        parts, done = [], 0
        while left and left[0].offset + left[0].length <= start + len(carry):
            patch = left.popleft()
            parts += [carry[done : patch.offset - start], patch.text]
            done = patch.offset + patch.length - start
        if not left or left[0].offset >= start + len(carry):
            parts.append(carry[done:])
            done = len(carry)
        if parts:
            yield b"".join(parts)
        start, carry = start + done, carry[done:]
    if carry:
        yield carry


def unpacked_limit(source: Source) -> float:
    """Bytes that a file may unpack to: a cap, and a ratio that only a bomb exceeds."""
    if not source.packing:
        return float("inf")
    cap = number_from(MAX_UNPACKED_VARIABLE, DEFAULT_MAX_UNPACKED_GB) * 1e9
    return min(cap, max(1e8, MAX_RATIO * source.path.stat().st_size))


@contextmanager
def unpacked(path: Path, packing: str, file: IO[bytes] | None = None) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file."""
    if packing == "gzip":
        with gzip.open(file or path) as stream:
            yield stream  # type: ignore[misc]
    elif packing == "bzip2":
        with bz2.open(file or path) as stream:
            yield stream
    elif packing == "xz":
        with lzma.open(file or path) as stream:
            yield stream
    elif packing == "zip":
        with _only_member(path, file) as stream:
            yield stream
    elif file is not None:
        yield file
    else:
        with path.open("rb") as stream:
            yield stream


@contextmanager
def _only_member(path: Path, file: IO[bytes] | None) -> Iterator[IO[bytes]]:
    try:
        archive = zipfile.ZipFile(file or path)
    except zipfile.BadZipFile:
        raise DataError(f"{path.name!r} is a broken zip archive.", "Pack it again.") from None
    with archive:
        names = [each.filename for each in archive.infolist() if not each.is_dir()]
        if any(name.startswith(("xl/", "word/", "ppt/")) for name in names):
            raise DataError(f"{path.name!r} is an Excel or Office file.", "Save the sheet as CSV.")
        names = [name for name in names if not name.startswith("__MACOSX/")]
        if len(names) != 1:
            raise DataError(
                f"{path.name!r} is a zip archive of {len(names)} files.", "Pack one CSV alone."
            )
        try:
            member = archive.open(names[0])
        except RuntimeError:
            raise DataError(
                f"{path.name!r} is encrypted or packed in a way that cannot be read.",
                "Unpack it yourself.",
            ) from None
        with member as stream:
            yield stream


def _read_block(stream: IO[bytes], size: int, path: Path) -> bytes:
    try:
        return stream.read(size)
    except (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path.name!r} cannot be unpacked: {error}.", "It is cut short or damaged."
        ) from None


def _read_up_to(stream: IO[bytes], size: int) -> bytes:
    parts, left = [], size
    while left > 0:
        part = _read_block(stream, left, Path(getattr(stream, "name", "") or "file"))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _find_encoding(raw: bytes, wanted: str | None, path: Path) -> tuple[str, int, list[str]]:
    """Encoding, length of the mark, and what was repaired."""
    for encoding, mark in MARKS:
        if raw.startswith(mark):
            if encoding == "utf-8-sig":
                return encoding, len(mark), ["byte order mark taken off"]
            return encoding, 0, [f"decoded from {encoding.upper()} (byte order mark)"]
    if wanted:
        family = codecs.lookup(wanted).name
        if family in ("utf-16", "utf-32"):
            raise DataError(
                f"{path.name!r} begins with no byte order mark: --encoding {wanted} needs one.",
                f"Say {family}-le or {family}-be, or leave --encoding out.",
            )
        return wanted, 0, []
    unmarked = _utf16_without_mark(raw)
    if unmarked:
        return unmarked, 0, [f"decoded from {unmarked.upper()} (no byte order mark; guessed)"]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(raw, final=len(raw) < HEAD_BYTES)
        return "utf-8", 0, []
    except UnicodeDecodeError:
        pass
    if raw.count(0):
        _refuse_binary(raw, path)
    legacy = CYRILLIC if _is_cyrillic(raw) else LEGACY
    return legacy, 0, [guessed_encoding(legacy)]


def _is_cyrillic(raw: bytes) -> bool:
    """Whether the bytes beyond ASCII make whole words of letters, small ones for the most part, in
    cp1251. In western languages few letters of a word are accented."""
    words = re.findall(rb"[\xc0-\xff]+|[A-Za-z]+[\xc0-\xff]+|[\xc0-\xff]+[A-Za-z]+", raw)
    letters = b"".join(words)
    small = sum(letter >= 0xE0 for letter in letters)
    whole = sum(len(word) for word in words if len(word) > 2 and word[0] >= 0xC0 <= word[-1])
    return whole > 0.7 * len(letters) and small > 0.5 * len(letters) > 2


def guessed_encoding(encoding: str) -> str:
    """The repair that tells of a guess."""
    return f"not UTF-8: read as {encoding} (a guess: check accented letters)"


def _utf16_without_mark(raw: bytes) -> str | None:
    """Latin text in UTF-16 has a zero in every second byte."""
    sample = raw[: 1 << 14]
    half = len(sample) // 2
    if half < 4:
        return None
    even, odd = sample[0 : 2 * half : 2].count(0), sample[1 : 2 * half : 2].count(0)
    if odd > 0.7 * half and even < 0.1 * half:
        return "utf-16-le"
    if even > 0.7 * half and odd < 0.1 * half:
        return "utf-16-be"
    return None


def _decoded(blocks: Iterator[bytes], source: Source, *, final: bool) -> Iterator[bytes]:
    """Blocks of bytes as blocks of UTF-8, without the mark."""
    if source.encoding in ("utf-8", "utf-8-sig"):
        skip, carry = source.mark, b""
        for block in blocks:
            if source.controls:
                block = carry + block
                carry = b"\xc2" if block.endswith(b"\xc2") else b""
                block = _CONTROLS.sub(_sign, block.removesuffix(carry))
            yield block[skip:]
            skip = 0
        yield carry
        return
    errors = "c1" if source.encoding in (LEGACY, CYRILLIC) else "unreadable"
    decoder = codecs.getincrementaldecoder(source.encoding)(errors)
    done = 0
    try:
        for block in blocks:
            yield decoder.decode(block).encode("utf-8", "surrogatepass")
            done += len(block)
        yield decoder.decode(b"", final=final).encode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{source.path.name!r} is not valid {source.encoding.upper()} near byte "
            f"{done + error.start}.",
            "Save it as UTF-8.",
        ) from None


_CONTROLS = re.compile(rb"\xc2[\x80-\x9f]")


def _sign(found: re.Match[bytes]) -> bytes:
    """What a control character stands for: text of cp1252 was taken for Latin-1."""
    return found[0][1:].decode(LEGACY, "c1").encode()


def _as_control(error: UnicodeError) -> tuple[str, int]:
    """The five bytes that cp1252 leaves open become control characters, as browsers do it."""
    assert isinstance(error, UnicodeDecodeError)
    return chr(error.object[error.start]), error.start + 1


def _as_surrogate(error: UnicodeError) -> tuple[str, int]:
    """Half a surrogate: no text in UTF-8 holds one, so the row is told as one that is no text."""
    assert isinstance(error, UnicodeDecodeError)
    return "\udcff", error.end


codecs.register_error("c1", _as_control)
codecs.register_error("unreadable", _as_surrogate)


def _refuse_known(raw: bytes, path: Path) -> None:
    for mark, what, hint in NOT_TEXT:
        if raw.startswith(mark):
            raise DataError(f"{path.name!r} is {what}, not a CSV.", hint)
    start = raw[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if JSON_START.match(start):
        raise DataError(
            f"{path.name!r} is JSON, not a CSV.",
            "Export the table as CSV; in Python: pandas.read_json(PATH).to_csv(OUT, index=False), "
            "with lines=True where each line is an object.",
        )
    if start.lower().startswith(HTML_STARTS):
        raise DataError(
            f"{path.name!r} is a web page (HTML or XML), not a CSV.",
            "Download the data itself; often a login page was saved instead.",
        )


def _refuse_binary(head: bytes, path: Path) -> None:
    """Refuse what holds more than a few NUL bytes or control characters."""
    position = head.find(b"\0")
    if head.count(0) > max(0.01 * len(head), FEW_NULS):
        row = head.count(b"\n", 0, position) + 1
        raise DataError(
            f"{path.name!r} holds a NUL byte in line {row}: it is not a plain text file.",
            "Export it again as CSV in UTF-8.",
            row=row,
        )
    allowed = bytes(range(32, 256)) + b"\t\n\r\f\v"
    odd = len(head.translate(None, allowed + b"\0"))
    if odd > 0.01 * len(head):
        raise DataError(
            f"{path.name!r} looks like binary data, not like text.",
            "Export it again as CSV in UTF-8.",
        )


def text_of(head: bytes) -> str:
    """UTF-8 that may be cut in the middle of a character, as text."""
    return codecs.getincrementaldecoder("utf-8")("replace").decode(head)


def is_complete(head: bytes) -> bool:
    """Whether a head is the whole text."""
    return len(head) < HEAD_BYTES - 4
