"""Replacing files of a folder, all or none, one process after the other.

The new files are written to a hidden folder inside of the folder, which is renamed to `.saved` when all of them are on
the disk; from then on they count, and are moved to their places one by one. Whoever reads takes a file from `.saved` if
it is still there. Who replaces files holds a lock meanwhile: the next one finds no half-moved files, and what it still
finds in hidden folders was left by a process that was killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EISDIR
from pathlib import Path

try:
    import fcntl
except ImportError:  # not every system has it
    fcntl = None  # type: ignore[assignment]

SAVED = ".saved"
UNFINISHED = ".saving"
LOCK = ".lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time, from what it reads to what it replaces; where there are no locks, each for itself."""
    path = folder / LOCK
    descriptor = open_locked(path, lambda descriptor: fcntl.flock(descriptor, fcntl.LOCK_EX))
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()
            # Closing alone would not do while a child that was forked meanwhile has it open.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def open_locked(path: Path, lock: Callable[[int], None]) -> int | None:
    """A lock file, opened and locked; `None` where the system or the disk knows no locks.

    Args:
        path: the file; who has locked it removes it before unlocking.
        lock: locks a descriptor; an `OSError` says that it knows no locks, anything else is raised.
    """
    if fcntl is None:
        return None
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            lock(descriptor)
        except BaseException as error:
            os.close(descriptor)
            if not isinstance(error, OSError):
                raise
            path.unlink(missing_ok=True)
            return None
        # Who had the lock before has removed the file, and others may have made and locked a new one.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def replace_files(folder: Path, contents: Mapping[str, bytes], without: Collection[str] = ()) -> None:
    """Put these files into the folder, all or none.

    Args:
        folder: it must be there, and locked by `alone_in`.
        contents: of the files, by their names.
        without: names of files that go when the new ones are there; no reader may miss them.

    Raises:
        OSError: if a file cannot be written, or has a folder in its place.
    """
    _finish(folder)
    for path in (folder / name for name in (*contents, *without)):
        if path.is_dir():
            raise IsADirectoryError(EISDIR, f"{path.name}: {os.strerror(EISDIR)}")
    unfinished = folder / UNFINISHED
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        for name, content in contents.items():
            with (unfinished / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        _sync(unfinished)
        unfinished.rename(folder / SAVED)  # From here on the new files count.
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)  # On a full disk a part of a model would keep the room it lacks.
        raise
    _sync(folder)
    _finish(folder)
    for name in without:
        (folder / name).unlink(missing_ok=True)


def _finish(folder: Path) -> None:
    """Move what was left in `.saved` to its place, as an interrupted process did not."""
    saved = folder / SAVED
    if saved.is_dir():
        for path in saved.iterdir():
            path.replace(folder / path.name)
        _sync(folder)
        saved.rmdir()


def _sync(folder: Path) -> None:
    """Make renames inside of a folder outlast a power cut; not every system can open a folder for it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
