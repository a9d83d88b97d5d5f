"""One of the processes of `seq2seq translate --devices N`: Lightning's predict loop over blocks of lines."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from seq2seq.errors import Seq2SeqError

if TYPE_CHECKING:
    from seq2seq.cli.together import Job


def work(job: Job, rank: int, faults: Connection, last: Any) -> None:
    """Translate this process's share of every block.

    Args:
        job: what to do.
        rank: of this process.
        faults: takes a user's mistake, with the number of the block that holds it.
        last: the number of the last block that is of interest, shared by all processes.
    """
    end_with_parent()
    address = {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": job.port}
    os.environ.update({name: str(value) for name, value in address.items()})
    # Processes of one machine meet on its loopback, whatever its name leads to.
    os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
    from seq2seq.cli.predicting import predict

    predict(job, Faults(faults, last))


def end_with_parent() -> None:
    """No process is left behind, however the first one ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Faults:
    """Tells the first process of a user's mistake, and the others not to go beyond the block that holds it."""

    def __init__(self, pipe: Connection, last: Any) -> None:
        self.pipe = pipe
        self.shared = last

    @property
    def last(self) -> int:
        """The last block of interest."""
        return int(self.shared.value)

    def tell(self, error: Seq2SeqError, block: int) -> None:
        """A mistake in a block, or -1 for all of them."""
        from seq2seq.cli.together import Fault

        with self.shared.get_lock():
            self.shared.value = min(self.shared.value, block)
        self.pipe.send(Fault(block, type(error).__name__, str(error)))
