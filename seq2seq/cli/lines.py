"""Lines in, lines out, for any input: only `\\n` ends a line, and what is ready is passed on."""

from __future__ import annotations

import codecs
import io
import math
import os
import select
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seq2seq.errors import ConfigError, CorpusError, Seq2SeqError

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
    raw = raw.removesuffix(b"\r")
    if number == 1:
        raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        line = raw.decode()
    except UnicodeDecodeError as error:
        from seq2seq.corpus.files import why_not_utf8

        raise CorpusError(f"{name}:{number}: {why_not_utf8(raw, error, number)}") from None
    if "\0" in line:
        raise CorpusError(f"{name}:{number}: holds NUL, so it is no text; remove it or give another file")
    return line


def _is_ready(descriptor: int) -> bool:
    """Whether reading would not wait. Where the system cannot tell, large batches matter more."""
    try:
        return bool(select.select([descriptor], [], [], 0)[0])
    except (OSError, ValueError):
        return True


class Output:
    """A file, or standard output. Every write is out at once: nothing is left in a buffer that fails at the end.

    What the file held is lost with the first write, or with an end without an error, and not before; if there was none,
    an error before the first write leaves none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.name = str(path) if path else "standard output"
        self.descriptor = 1
        self.is_old = path is not None
        self.made: Path | None = None
        if path:
            try:
                try:
                    self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                    self.made = path
                except FileExistsError:
                    self.descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            except OSError as error:
                raise self._fault(error) from None

    def write(self, text: str) -> None:
        """Write all of `text`. A reader that has gone ends the program, quietly."""
        self.write_bytes(text.encode("utf-8", errors="replace"))

    def write_bytes(self, text: bytes) -> None:
        """The same for text that is encoded."""
        content = memoryview(text)
        try:
            if content:
                self._empty()
            while content:
                try:
                    content = content[os.write(self.descriptor, content) :]
                except BlockingIOError:
                    select.select([], [self.descriptor], [])
        except BrokenPipeError:
            # As a shell reports a program that SIGPIPE ended.
            raise SystemExit(141) from None
        except OSError as error:
            raise self._fault(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.descriptor == 1:
            return
        try:
            if kind is None:
                self._empty()
            elif self.made and self.is_old:
                self.made.unlink(missing_ok=True)
        except OSError as fault:
            raise self._fault(fault) from None
        finally:
            os.close(self.descriptor)

    def _empty(self) -> None:
        """Forget what the file held; devices and pipes hold nothing."""
        if self.is_old and stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            os.ftruncate(self.descriptor, 0)
        self.is_old = False

    def _fault(self, error: OSError) -> Seq2SeqError:
        return Seq2SeqError(f"{self.name}: cannot be written ({error.strerror}); choose another place")


class Printed(io.RawIOBase):
    """Where `print` writes to: standard output, as `Output` does.

    Attributes:
        fault: how that ended, if it did; from then on nothing is written, and what prints goes on with its work.
    """

    name = "<stdout>"

    def __init__(self) -> None:
        self.output = Output()
        self.fault: Seq2SeqError | SystemExit | None = None

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.output.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.output.descriptor)

    def write(self, content: Any) -> int:
        if self.fault is None:
            try:
                self.output.write_bytes(content)
            except (Seq2SeqError, SystemExit) as fault:
                self.fault = fault
        return len(content)


@contextmanager
def printing() -> Iterator[None]:
    """Within it `print` can write any text, and nothing is left in a buffer; what goes wrong is raised at the end.

    Raises:
        Seq2SeqError: if standard output could not be written.
        SystemExit: if its reader has gone.
    """
    if sys.stdout is None:  # It is closed, and what is printed goes nowhere.
        yield
        return
    printed = Printed()
    encoding = sys.stdout.encoding
    with redirect_stdout(io.TextIOWrapper(printed, encoding=encoding, errors="replace", write_through=True)):
        yield
    if printed.fault:
        raise printed.fault


class LineCounter:
    """How far the work is, on standard error, if somebody watches and nothing else is shown there."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown and os.isatty(2)
        self.started = time.perf_counter()
        self.lines = 0

    def add(self, lines: int) -> None:
        self.lines += lines
        if self.shown:
            rate = self.lines / (time.perf_counter() - self.started)
            print(f"\r{self.lines:,} lines, {rate:,.0f} lines/s", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def end(self) -> None:
        """End the line that counts."""
        if self.shown and self.lines:
            print(file=sys.stderr)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


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


def print_out(text: str) -> None:
    """A line on standard output."""
    Output().write(f"{text}\n")


def finite(value: float) -> float | None:
    """JSON has no word for infinity."""
    return value if math.isfinite(value) else None
