"""Lines in, for any input: only `\\n` ends a line, and what is there already is passed on at once."""

from __future__ import annotations

import codecs
import os
import select
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from seq2seq.errors import ConfigError, CorpusError

CHUNK = 1 << 16
"""Bytes asked for at a time: what a pipe holds."""


def read_blocks(descriptor: int, name: str, size: int) -> Generator[list[str]]:
    """The lines of an open file, in blocks of at most `size`; fewer where no more are there yet.

    So a slow writer is answered line by line, and a fast one in large batches.

    Raises:
        CorpusError: at a line that is not UTF-8 or holds NUL, after the lines before it.
    """
    chunks = iter(lambda: _read(descriptor, name), b"")
    yield from _blocks(chunks, lambda: _is_ready(descriptor), name, size)


def _blocks(chunks: Iterator[bytes], is_ready: Callable[[], bool], name: str, size: int) -> Generator[list[str]]:
    """The lines that chunks of bytes make up; a chunk for which one would have to wait is not waited for."""
    number, lines, rest = 0, list[str](), bytearray()
    fault = None
    try:
        for chunk in chunks:
            rest += chunk
            if b"\n" in chunk:
                *complete, rest = rest.split(b"\n")
                for raw in complete:
                    number += 1
                    lines.append(_decode(bytes(raw), number, name))
            while len(lines) >= size or (lines and not is_ready()):
                yield lines[:size]
                lines = lines[size:]
        if rest:
            lines.append(_decode(bytes(rest), number + 1, name))
    except CorpusError as error:
        fault = error
    for start in range(0, len(lines), size):
        yield lines[start : start + size]
    if fault:
        raise fault


def _read(descriptor: int, name: str) -> bytes:
    """What is there, waiting if nothing is; nothing at the end."""
    try:
        while True:
            try:
                return os.read(descriptor, CHUNK)
            except BlockingIOError:  # A pipe that does not wait, as some programs give to those they start.
                select.select([descriptor], [], [])
    except OSError as error:
        raise CorpusError(f"{name}: cannot be read ({error.strerror}); give a file or a pipe") from None


def _decode(raw: bytes, number: int, name: str) -> str:
    from seq2seq.corpus.files import decode

    raw = raw.removesuffix(b"\r")
    if number == 1:
        raw = raw.removeprefix(codecs.BOM_UTF8)
    return decode(raw, number, name)


def _is_ready(descriptor: int) -> bool:
    """Whether reading would not wait. Where the system cannot tell, large batches matter more."""
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def refuse_overwriting(inputs: Sequence[Path | None], output: Path | None) -> None:
    """Refuse to write over what is still to be read, or to read for ever what is written behind it; `None` is standard
    input, and standard output."""
    from seq2seq.corpus.files import archive_of

    with suppress(OSError):  # What cannot be read or written is told by who does it.
        target = os.fstat(1) if output is None else output.stat()
        if not stat.S_ISREG(target.st_mode):
            return
        name = "standard output" if output is None else "--output"
        for path in inputs:
            with suppress(OSError):
                read = os.fstat(0) if path is None else (archive_of(path) or path).stat()
                if os.path.samestat(target, read):
                    both = output or path or "one file"
                    raise ConfigError(f"{name} must be another file than what is read, got {both} for both")


def open_blocks(path: Path | None, size: int) -> Generator[list[str]]:
    """Standard input or a file, packed or not, in blocks of lines."""
    from seq2seq.corpus.files import PACKINGS, archive_of

    if path is None:
        yield from read_blocks(0, "standard input", size)
    elif path.suffix in PACKINGS or archive_of(path):
        yield from _blocks(_unpacked(path), lambda: True, str(path), size)
    else:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        try:
            yield from read_blocks(descriptor, str(path), size)
        finally:
            os.close(descriptor)


def _unpacked(path: Path) -> Iterator[bytes]:
    """What is in a packed file, in chunks."""
    from seq2seq.corpus.files import faults_of_reading, open_bytes

    with faults_of_reading(path), open_bytes(path) as file:
        content: Any = file
        # All that can be unpacked before a fault is given; read would lose it.
        yield from iter(lambda: content.read1(CHUNK), b"")


def read_aligned(paths: Sequence[Path]) -> list[list[str]]:
    """The lines of each file; all must have as many."""
    from seq2seq.corpus import read_text

    texts = [list(read_text(path)) for path in paths]
    for path, lines in zip(paths, texts, strict=True):
        if len(lines) != len(texts[0]):
            raise CorpusError(
                f"all files must have as many lines, got {len(texts[0])} in {paths[0]} and {len(lines)} in {path}; "
                "align them"
            )
    return texts
