"""One training at a time in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EAGAIN
from pathlib import Path

from seq2seq.errors import TrainingError
from seq2seq.package.replacing import LOCK, open_locked

try:
    import fcntl
except ImportError:  # not every system has it
    fcntl = None  # type: ignore[assignment]


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold a folder, made if need be, until the end of a `with` block or of the process, however that ends; where the
    disk knows no locks, each for itself.

    Raises:
        TrainingError: if another process holds it.
    """
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    with suppress(OSError):  # What cannot be written is told when there is something to write.
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    descriptor = open_locked(path, lambda descriptor: _take(descriptor, folder))
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)
        with suppress(OSError):  # Where nothing came of it nothing stays.
            for empty in made:
                empty.rmdir()


def _take(descriptor: int, folder: Path) -> None:
    """Lock a file for this process alone: unlike one of `flock`, its lock is not kept by children that outlive it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (EACCES, EAGAIN):
            raise
        raise TrainingError(
            f"a training is running in {folder.parent}; wait for it, end it, or give another --out"
        ) from None
