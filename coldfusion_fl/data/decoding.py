"""The bytes of a file as text."""

import bz2
import codecs
import gzip
import lzma
from pathlib import Path
from typing import Any

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.errors import DataError, count

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
# The marks of UTF-32 begin with those of UTF-16, so they come first.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The first bytes of files that are no text, whatever their names say.
_OTHER_FORMATS = (
    (b"PK\x03\x04", "a ZIP or Excel file; save its table as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file; save its table as CSV in UTF-8"),
    (b"PAR1", "a parquet file; name it .parquet"),
    (b"\x1f\x8b", "compressed with gzip; name it .gz"),
    (b"BZh", "compressed with bzip2; name it .bz2"),
    (b"\xfd7zXZ", "compressed with xz; name it .xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard; decompress it"),
)
# The encoding that a message proposes for bytes that are not UTF-8.
_LIKELY = "cp1252"
_BEYOND_ASCII = bytes(range(0x80, 0x100))
# A larger part of the bytes of Western European texts is never beyond ASCII.
_MAX_BEYOND_ASCII = 0.3
_SHOWN_CHARACTERS = 60
_SAMPLE_BYTES = 4096


def read_text(path: Path, spec: TaskSpec, report: ReadReport) -> str:
    """Read a text file, which may be compressed. Line ends stay as they are.

    A byte order mark decides the encoding if the catalogue does not; without one the file must be UTF-8.

    Args:
        path: the file; the suffixes `.gz`, `.bz2` and `.xz` mean that it is compressed.
        spec: its `encoding`, and `encoding_errors`.
        report: receives notes on an encoding that the file decided, and on replaced bytes.

    Raises:
        DataError: the file is not in that encoding.
    """
    data = _read_bytes(path)
    if other := next((format for start, format in _OTHER_FORMATS if data.startswith(start)), ""):
        raise DataError(f"{path}: this is no text, but {other}.")
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "")
    encoding = spec.encoding or marked or "utf-8"
    if not spec.encoding and marked.startswith(("utf-16", "utf-32")):
        report.add_note(f"{path.name}: read as {marked.upper()}, because of its byte order mark")
    elif not spec.encoding and (unmarked := _unmarked_utf16(data)):
        raise DataError(
            f"{path}: this looks like UTF-16 without a byte order mark. Set its encoding in the catalogue: "
            f'encoding = "{unmarked}".'
        )
    try:
        text = data.decode(encoding, spec.encoding_errors)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, data, error, spec) from None
    if spec.encoding and not marked and _is_utf8_beyond_ascii(data, text):
        report.warnings.append(f'{path.name} is valid UTF-8, but the catalogue has encoding = "{spec.encoding}"')
    if spec.encoding_errors == "replace" and (replaced := text.count("\ufffd")):
        report.add_note(
            f"{path.name}: {count(replaced, 'character')} that could not be decoded became U+FFFD (encoding-errors)"
        )
    return text.removeprefix("\ufeff")


def guess_encoding(path: Path) -> str:
    """The encoding that a catalogue must name so that `read_text` reads a file; empty if the file shows it itself.

    Bytes that are not UTF-8 are taken for cp1252, the usual encoding of Western European texts, if only a few of them
    are beyond ASCII. Of other texts, most bytes are.
    """
    data = _read_bytes(path)
    if any(data.startswith(mark) for mark, _ in _BYTE_ORDER_MARKS):
        return ""
    if unmarked := _unmarked_utf16(data):
        return unmarked
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        beyond_ascii = len(data) - len(data.translate(None, _BEYOND_ASCII))
        return _LIKELY if beyond_ascii < _MAX_BEYOND_ASCII * len(data) and _is_in(data, _LIKELY) else ""
    return ""


def _is_in(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _read_bytes(path: Path) -> bytes:
    with OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
        data: bytes = file.read()
    return data


def _is_utf8_beyond_ascii(data: bytes, text: str) -> bool:
    """Whether bytes are UTF-8, and another text in UTF-8 than in the encoding that they were decoded with."""
    try:
        return not data.isascii() and data.decode("utf-8") != text
    except UnicodeDecodeError:
        return False


def _unmarked_utf16(data: bytes) -> str:
    """The encoding of bytes of which every second one is mostly 0, as in UTF-16 of Latin letters; else empty."""
    sample = data[:_SAMPLE_BYTES]
    high, low = sample[1::2], sample[::2]
    for name, zeros, letters in (("utf-16-le", high, low), ("utf-16-be", low, high)):
        if zeros and zeros.count(0) > 0.7 * len(zeros) and letters.count(0) < 0.1 * len(letters):
            return name
    return ""


def _wrong_encoding(path: Path, data: bytes, error: UnicodeDecodeError, spec: TaskSpec) -> DataError:
    where = f"{path}: byte {error.start} (0x{data[error.start]:02X}) is not {(spec.encoding or 'utf-8').upper()}."
    start = data.rfind(b"\n", 0, error.start) + 1
    line = data[start : error.start + _SHOWN_CHARACTERS].split(b"\n")[0].decode(_LIKELY, "replace").strip()
    shown = line if len(line) <= _SHOWN_CHARACTERS else f"...{line[-_SHOWN_CHARACTERS:]}"
    example = "" if spec.encoding == _LIKELY else f' With encoding = "{_LIKELY}" its line would read: {shown}.'
    return DataError(
        f"{where} Set the file's encoding in the catalogue.{example} If only some bytes are damaged, "
        'encoding-errors = "replace" reads the rest.'
    )
