"""One of the processes of `seq2seq translate --devices N`: Lightning's predict loop over blocks of lines."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from seq2seq.errors import Seq2SeqError

if TYPE_CHECKING:
    from seq2seq.cli.together import Job


def work(job: Job, rank: int, faults: Connection) -> None:
    """Translate this process's share of every block.

    Args:
        job: what to do.
        rank: of this process.
        faults: takes a user's mistake, with the number of the block that holds it.
    """
    end_with_parent()
    address = {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": job.port}
    os.environ.update({name: str(value) for name, value in address.items()})
    # Processes of one machine meet on its loopback, whatever its name leads to.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    from seq2seq.cli.predicting import predict

    predict(job, Faults(faults, job.folder, rank))


def end_with_parent() -> None:
    """No process is left behind, however the first one ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Faults:
    """Tells the first process of a user's mistake, and the others not to go beyond the block that holds it.

    Args:
        pipe: to the first process.
        folder: of the job, where all processes see each other's notes.
        rank: of this process.
    """

    def __init__(self, pipe: Connection, folder: Path, rank: int) -> None:
        self.pipe = pipe
        self.folder = folder
        self.rank = rank

    @property
    def last(self) -> int:
        """The last block of interest."""
        notes = (path.name for path in self.folder.glob("fault-*"))
        return min((int(name.rpartition("at")[2]) for name in notes), default=sys.maxsize)

    def tell(self, error: Seq2SeqError, block: int, before: int = 0) -> None:
        """A mistake in a block, or -1 for all of them; `before` lines of the block are shown nevertheless."""
        from seq2seq.cli.together import Fault

        with suppress(OSError):  # Without room for it the others only work in vain.
            (self.folder / f"fault-{self.rank}-at{block}").touch()
        self.pipe.send(Fault(block, before, type(error).__name__, str(error)))
