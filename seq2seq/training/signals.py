"""Ctrl-C, SIGTERM and a terminal that is closed: the step is finished first, and a second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType

NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Training was asked to stop.

    Attributes:
        number: of the signal; by custom a process that it ends has the exit code 128 + `number`.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """Notes a signal instead of dying from it.

    Attributes:
        received: its number; 0 if there was none.
    """

    def __init__(self) -> None:
        self.received = 0

    def install(self) -> None:
        """Handle the signals from now on; Lightning gives back the earlier handlers when its loop ends."""
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else.
            for number in NUMBERS:
                # Who was started with nohup does not listen to the terminal.
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGHUP:  # Of a terminal that is closed there come two.
            return
        if self.received:
            raise Stopped(number)
        self.received = number
        # Not print: a handler may interrupt another print. Nor may it fail where the terminal has gone.
        with suppress(OSError, ValueError):
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nfinishing this step; once more ends at once\n"
            )
