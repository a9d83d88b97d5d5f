"""What goes out: to a file, to standard output, or to who watches; nothing is left in a buffer."""

from __future__ import annotations

import io
import math
import os
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from seq2seq.errors import Seq2SeqError


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


def print_out(text: str) -> None:
    """A line on standard output."""
    Output().write(f"{text}\n")


def finite(value: float) -> float | None:
    """JSON has no word for infinity."""
    return value if math.isfinite(value) else None
