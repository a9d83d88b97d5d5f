"""Training states on the disk: written whole or not at all, the one before kept, nothing unpickled.

A state is a file `step-000001200.ckpt`, named by the optimiser steps behind it. It is written to a sibling, forced to
the disk and renamed; then all but the newest two are removed. Whatever happens in between, the newest file that can be
read is a whole state, and a run goes on from there.
"""

from __future__ import annotations

import os
import pickle
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from seq2seq.errors import TrainingError

FORMAT = 1
"""To be raised whenever an older state cannot be gone on from."""

OURS = "seq2seq"
"""The part of a state that is this library's: format, settings, random numbers, rows of the log."""

KEPT = 2

GOES_ON = "; what was saved before is whole: make room, and the same command goes on"
"""The end of a message about a disk that is full."""


class Checkpoints(CheckpointIO):
    """The newest states of one run, in a folder of their own.

    Attributes:
        fault: why the last save failed and what to do, "" if it did not; `save_checkpoint` never raises, so that of
            several processes none waits for one that is gone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault = ""

    def path(self, step: int) -> Path:
        """Where the state after so many optimiser steps stands."""
        return self.folder / f"step-{step:09d}.ckpt"

    def paths(self) -> list[Path]:
        """The states there are, newest first."""
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)

    def newest(self) -> tuple[Path, dict[str, Any], list[str]] | None:
        """The newest whole state and its content, and what is wrong with those passed over; `None`: there are none.

        Raises:
            TrainingError: if there are some and none can be used.
        """
        faults: list[str] = []
        for path in self.paths():
            try:
                return path, read(path), faults
            except TrainingError as error:
                faults.append(str(error))
        if faults:
            raise TrainingError(f"no state of this training can be used: {'; '.join(faults)}; --restart starts over")
        return None

    @property
    def finished_note(self) -> Path:
        """The file that says so."""
        return self.folder / "finished"

    @property
    def finished(self) -> bool:
        """Whether there is nothing to go on with."""
        return self.finished_note.exists()

    def finish(self) -> None:
        """Note that the run is finished.

        Raises:
            TrainingError: if that cannot be written.
        """
        try:
            self.finished_note.touch()
            sync(self.folder)
        except OSError as error:
            raise TrainingError(f"{self.folder}: cannot be written ({reason(error)}); make room") from None

    def files(self) -> list[Path]:
        """All that may lie here of a run, the states newest first."""
        return [*self.paths(), *self.folder.glob("step-*.ckpt.part"), self.finished_note]

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a state that can be read; a failure is noted in `fault`, and leaves what was there."""
        path = Path(path)
        part = path.with_name(f"{path.name}.part")
        self.fault = ""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            self.fault = foreign_types(part)
            if not self.fault:
                part.replace(path)
                sync(self.folder)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError.
            self.fault = f"{path}: cannot be written ({reason(error)}){GOES_ON}"
        if self.fault:
            with suppress(OSError):
                part.unlink()
            return
        if path.parent != self.folder:  # A copy that somebody else asked for.
            return
        # Those of later steps were passed over by `newest`.
        later = [other for other in self.paths() if other > path]
        for other in [*later, *self.paths()[len(later) + KEPT :]]:
            other.unlink(missing_ok=True)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """What `save_checkpoint` wrote, on the CPU."""
        return read(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Lightning's own checkpoints are not used."""
        Path(path).unlink(missing_ok=True)


def foreign_types(path: Path) -> str:
    """What is wrong with a state that is just written, if it holds what `read` will not make for safety; or ""."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S+)", str(error))
        return (
            "what a callback keeps of itself (state_dict) must be made of numbers, texts, lists, dictionaries and "
            f"tensors, got {found[1] if found else reason(error)}; convert it, or leave the callback out"
        )
    except (OSError, RuntimeError):  # Not every file system maps its files into memory.
        return ""
    return ""


def read(path: Path) -> dict[str, Any]:
    """The content of a state.

    Raises:
        TrainingError: if it is missing, truncated, of another program or of another version.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Dozens of kinds, from a short file to a forbidden pickle.
        raise TrainingError(f"{path} is truncated or no training state ({reason(error)})") from None
    ours = content.get(OURS) if isinstance(content, dict) else None
    if not isinstance(ours, dict) or ours.get("format") != FORMAT:
        raise TrainingError(f"{path} is of another program or version")
    return content


def stopped_early(content: dict[str, Any]) -> bool:
    """Whether the training of a state's content was ended by early stopping."""
    stops = [state for name, state in content["callbacks"].items() if name.startswith("EarlyStopping")]
    return any(state["wait_count"] >= state["patience"] for state in stops)


def reason(error: BaseException) -> str:
    """Its first line, short enough for one of ours."""
    told = getattr(error, "strerror", None) or next(iter(str(error).splitlines()), "") or type(error).__name__
    return told if len(told) <= 80 else f"{told[:77]}..."


def sync(folder: Path) -> None:
    """Make renames inside of a folder outlast a power cut; not every system can open a folder for it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
