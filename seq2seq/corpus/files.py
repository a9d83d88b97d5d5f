"""The lines of one file, plain or packed, with every fault named."""

from __future__ import annotations

import codecs
import gzip
import lzma
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from seq2seq.errors import CorpusError

StrPath = str | os.PathLike[str]

PACKINGS = (".gz", ".xz", ".zip")
"""Endings of files that are unpacked."""

_PACKED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ": ".xz", b"PK\x03\x04": ".zip"}
"""How packed files begin."""

_UNREAD = {b"BZh": ("bzip2", "bunzip2"), b"\x28\xb5\x2f\xfd": ("zstd", "unzstd")}
"""How those begin that nothing here unpacks, by what they are packed, and what unpacks them."""


def read_text(path: StrPath) -> Iterator[str]:
    """The lines of one file, without their ends.

    Args:
        path: a file; `archive.zip/member` chooses from an archive by the end of a name.

    Raises:
        CorpusError: if it is missing, empty, truncated, not UTF-8, or holds NUL.
    """
    number = 0
    with faults_of_reading(path), open_bytes(Path(path)) as file:
        for number, raw in enumerate(file, start=1):
            start = len(codecs.BOM_UTF8) if number == 1 and raw.startswith(codecs.BOM_UTF8) else 0
            yield decode(raw[start:].removesuffix(b"\r\n").removesuffix(b"\n"), number, path)
    if number == 0:
        raise CorpusError(f"{path}: is empty; give a file with at least one line")


def one_line(error: BaseException) -> str:
    """Its message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__


def shorten(text: str) -> str:
    """As much of a text as an error message bears."""
    return text if len(text) <= 60 else text[:57] + "..."


def archive_of(path: Path) -> Path | None:
    """The archive that a path leads into, as `texts.zip` of `texts.zip/train.de`."""
    return next((parent for parent in path.parents if parent.suffix == ".zip" and os.path.isfile(parent)), None)


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """A file, or what is in a packed one (`.gz`, `.xz`, `.zip`), or one file of an archive (`texts.zip/train.de`)."""
    archive = archive_of(path)
    packed = archive or path
    if packed.suffix in PACKINGS and packed.is_file() and not packed.stat().st_size:
        yield BytesIO()  # It is as empty as a plain file, whatever the packing would say to it.
    elif packed.suffix == ".zip":
        wanted = str(path.relative_to(archive)) if archive else ""
        with zipfile.ZipFile(packed) as members, members.open(_member(members, wanted, path)) as file:
            yield file
    else:
        opener: Any = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
        with opener(path, "rb") as file:
            yield file


def _member(archive: zipfile.ZipFile, wanted: str, path: Path) -> str:
    """The one file of an archive whose name ends as wanted; those that begin with `_` or `.` are asides."""
    files = [name for name in archive.namelist() if not name.endswith("/")]
    if wanted in files:
        return wanted
    texts = [name for name in files if not any(part.startswith(("_", ".")) for part in name.split("/"))]
    chosen = [name for name in files if name.endswith(wanted)] if wanted else texts
    if len(chosen) != 1:
        holds = ", ".join(files) or "nothing"
        raise CorpusError(
            f"{path}: must mean one file of {archive.filename}, which holds {holds}; add /NAME to the path"
        )
    return chosen[0]


@contextmanager
def faults_of_reading(path: StrPath) -> Iterator[None]:
    """Turn what can go wrong with a file into a `CorpusError`."""
    broken = (zlib.error, lzma.LZMAError, zipfile.BadZipFile, gzip.BadGzipFile, NotImplementedError, RuntimeError)
    try:
        yield
    except EOFError:
        raise CorpusError(f"{path}: is truncated, its compressed data has no end; fetch it again") from None
    except broken as error:
        raise CorpusError(f"{path}: cannot be unpacked ({one_line(error)}); fetch it again") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror or error}); check the path") from None


def decode(line: bytes, number: int, name: StrPath) -> str:
    """The text of a line, which has this number in its file.

    Raises:
        CorpusError: if it is not UTF-8, or holds NUL.
    """
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        found = f"0x{line[error.start]:02x}"
        why = f"is not UTF-8 ({found} at byte {error.start + 1} of the line); convert the file with iconv"
    else:
        if "\0" not in text:
            return text
        why = "holds NUL, so it is no text; remove it or give another file"
    # The first bytes of what is packed can be UTF-8 too, up to a newline.
    raise CorpusError(f"{name}:{number}: {(_what_else(line) if number == 1 else None) or why}")


def _what_else(line: bytes) -> str | None:
    """What a file seems to be by its first line, and the remedy."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "is UTF-16, must be UTF-8; convert it with iconv -f UTF-16 -t UTF-8"
    for magic, suffix in _PACKED.items():
        if line.startswith(magic):
            return f"is packed data, must be text; give the file a name that ends in {suffix}"
    for magic, (packer, way) in _UNREAD.items():
        if line.startswith(magic):
            return f"is packed by {packer}, must be text; unpack it with {way}"
    return None
