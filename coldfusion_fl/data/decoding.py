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
# The encoding that a message proposes for bytes that are not UTF-8.
_LIKELY = "cp1252"
_SHOWN_CHARACTERS = 60
_SAMPLE_BYTES = 4096


def read_text(path: Path, spec: TaskSpec, report: ReadReport) -> str:
    """Read a text file, which may be compressed. Line ends stay as they are.

    A byte order mark decides the encoding if the catalogue does not; without one the file must be UTF-8.

    Args:
        path: the file; the suffixes `.gz`, `.bz2` and `.xz` mean that it is compressed.
        spec: its `encoding`, and `encoding_errors`.
        report: is told of an encoding that the file decided, and of replaced bytes.

    Raises:
        DataError: the file is not in that encoding.
    """
    with OPENERS.get(path.suffix.lower(), open)(path, "rb") as file:
        data: bytes = file.read()
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "")
    encoding = spec.encoding or marked or "utf-8"
    if not spec.encoding and marked.startswith(("utf-16", "utf-32")):
        report.add_guess(f"{path.name}: read as {marked.upper()}, because of its byte order mark")
    elif not spec.encoding and (unmarked := _unmarked_utf16(data)):
        raise DataError(
            f"{path}: this looks like UTF-16 without a byte order mark. Set its encoding in the catalogue: "
            f'encoding = "{unmarked}".'
        )
    try:
        text = data.decode(encoding, spec.encoding_errors)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path, data, error, spec) from None
    if spec.encoding_errors == "replace" and (replaced := text.count("\ufffd")):
        report.add_guess(
            f"{path.name}: {count(replaced, 'character')} that could not be decoded became U+FFFD (encoding-errors)"
        )
    return text.removeprefix("\ufeff")


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
