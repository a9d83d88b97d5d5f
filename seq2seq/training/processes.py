"""What several processes of one training tell each other; alone, these functions cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed

from seq2seq.errors import Seq2SeqError, TrainingError, tell


class SharedError(TrainingError):
    """One that all processes of a training raise at the same moment; the first one tells of it for all."""


@rank_zero_only
def say(text: str) -> None:
    """Progress goes to standard error, at once, from one process; who trains does not need that somebody reads it."""
    tell(text)


def is_first_process() -> bool:
    """Whether this is the process that writes and speaks."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def gather(trainer: Trainer, value: Any) -> list[Any]:
    """The value of every process, in the order of their ranks."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    distributed.all_gather_object(values, value)
    return values


def agree(trainer: Trainer, stop_reason: int, late: bool) -> tuple[int, bool]:
    """The largest of all processes' reasons to stop, and whether one is late: all do the same after the same step."""
    if trainer.world_size == 1:
        return stop_reason, late
    met = torch.tensor([stop_reason, late], device=trainer.strategy.root_device)
    distributed.all_reduce(met, distributed.ReduceOp.MAX)
    stop_reason, late = met.tolist()
    return stop_reason, bool(late)


def in_first_process(trainer: Trainer, work: Callable[[], None]) -> None:
    """Do something in one process; where it fails, all of them raise, so that none waits for the others.

    Raises:
        SharedError: with what `work` raised, if it is a user's mistake or the disk's fault.
    """
    fault = ""
    if trainer.is_global_zero:
        try:
            work()
        except Seq2SeqError as error:
            fault = str(error)
        except OSError as error:
            fault = f"{error.filename or 'the run folder'}: cannot be written ({error.strerror or error}); make room"
    if fault := trainer.strategy.broadcast(fault):
        raise SharedError(fault)
