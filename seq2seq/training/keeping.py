"""Never lose work: when a training state is saved, what is in it, and how a run goes on from it.

A state is always taken between two optimiser steps, right before the first batch of the next one. Lightning has by then
counted that batch, and at the start of an epoch that epoch, as begun; in the state they are not.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.random import SeedSequence

from seq2seq.config import TrainingConfig
from seq2seq.data import Batches
from seq2seq.training.checkpoints import FORMAT, OURS, Checkpoints, stopped_early
from seq2seq.training.metrics_file import MetricsFile
from seq2seq.training.module import TranslationModule
from seq2seq.training.processes import SharedError, agree, gather
from seq2seq.training.signals import Stopped, StopSignals
from seq2seq.training.validating import is_validated

BROKEN_LOG = 1 << 16
"""A reason to stop, as the numbers of signals are; larger than these, for it is more urgent."""


class KeepState(Callback):
    """Saves the state of a run, and stops it after a signal.

    Saved are the first and the last step of every epoch, those around a validation (it may be long), and the end,
    whatever `save_every_steps` and `save_every_minutes` ask for.

    Args:
        checkpoints: where to.
        config: how often.
        settings: what a run that goes on must have in common with this one.
        metrics_file: `metrics.csv`, which goes back to where it was.
    """

    def __init__(
        self, checkpoints: Checkpoints, config: TrainingConfig, settings: dict[str, Any], metrics_file: MetricsFile
    ) -> None:
        self.checkpoints = checkpoints
        self.config = config
        self.settings = settings
        self.metrics_file = metrics_file
        self.signals = StopSignals()
        self.random_states: list[dict[str, Any]] = []
        self.saved_step = -1
        self.saved_at = 0.0
        self.in_epoch = True
        self.batches_done = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Lightning has put its own handlers before; they would end an epoch's validation, or wait for other processes.
        self.signals.install()
        self.saved_at = time.monotonic()
        if self.random_states:
            set_random_state(self.random_states[trainer.global_rank])
        elif trainer.global_rank:
            # All processes have begun with the same numbers; what they drop shall differ.
            torch.manual_seed(int(SeedSequence((self.config.seed, trainer.global_rank)).generate_state(1)[0]))
        # Lightning would too, had it not looked up the loader's length before it read the state.
        loader = trainer.train_dataloader
        assert isinstance(loader, Batches)
        loader.load_state_dict({"done": self.batches_done})

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        window = trainer.accumulate_grad_batches
        if batch_idx % window:
            return  # Gradients are pending.
        elapsed = (time.monotonic() - self.saved_at) / 60
        late = self.config.save_every_minutes is not None and elapsed >= self.config.save_every_minutes
        stop_reason, late = agree(trainer, self.stop_reason, late)
        check_log(stop_reason, self.metrics_file)
        at_edge = batch_idx == 0 or batch_idx + window >= int(trainer.num_training_batches)
        edges = (self.config.save_every_steps, self.config.validate_every_steps)
        by_steps = any(steps is not None and trainer.global_step % steps == 0 for steps in edges)
        is_due = stop_reason or late or at_edge or by_steps or is_validated(trainer, self.config, batch_idx)
        if is_due and trainer.global_step != self.saved_step:
            self.batches_done = batch_idx
            self.save(trainer)
        if stop_reason:
            raise Stopped(stop_reason)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # The state before the last step is saved; to wait for the end could take too long.
        self.stop_if_asked(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.in_epoch, self.batches_done = False, 0
        self.save(trainer)
        self.stop_if_asked(trainer)

    @property
    def stop_reason(self) -> int:
        """Why this process must stop: a signal's number, `BROKEN_LOG`, or 0: it need not."""
        return BROKEN_LOG if self.metrics_file.fault else self.signals.received

    def stop_if_asked(self, trainer: Trainer) -> None:
        """Stop all processes, without saving, if one of them must.

        Raises:
            SharedError: if the first process cannot write its log.
            Stopped: after a signal.
        """
        stop_reason, _ = agree(trainer, self.stop_reason, False)
        check_log(stop_reason, self.metrics_file)
        if stop_reason:
            raise Stopped(stop_reason)

    def save(self, trainer: Trainer) -> None:
        """Save the state of all processes."""
        self.random_states = gather(trainer, random_state(trainer.strategy.root_device.type))
        trainer.save_checkpoint(self.checkpoints.path(trainer.global_step))
        fault = trainer.strategy.broadcast(self.checkpoints.fault)
        if fault:
            raise SharedError(fault)
        self.saved_step, self.saved_at = trainer.global_step, time.monotonic()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.in_epoch:
            rewind(checkpoint["loops"]["fit_loop"])
        assert isinstance(pl_module, TranslationModule)
        found = pl_module.training_config.batch_tokens if self.config.batch_tokens == "auto" else None
        checkpoint[OURS] = {
            "format": FORMAT,
            "settings": self.settings,
            "random_states": self.random_states,
            "batches_done": self.batches_done,
            "log_rows": self.metrics_file.rows,
            "batch_tokens": found,
            "has_ended": not self.in_epoch,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.random_states = checkpoint[OURS]["random_states"]
        self.batches_done = checkpoint[OURS]["batches_done"]
        self.saved_step = checkpoint["global_step"]
        # Early stopping does not remember that it has stopped, and the last scoring may be all that is left.
        trainer.should_stop = checkpoint[OURS].get("has_ended", False) and stopped_early(checkpoint)


def check_log(stop_reason: int, log: MetricsFile) -> None:
    """Stop all processes where the first one cannot write its log.

    Raises:
        SharedError: with what the first process found.
    """
    if stop_reason == BROKEN_LOG:
        raise SharedError(log.fault or "the first process cannot write its log")


def rewind(fit_loop: dict[str, Any]) -> None:
    """Let Lightning's counters say that the batch which is about to run, and its epoch if it is the first, is not."""
    batches = fit_loop["epoch_loop.batch_progress"]
    is_first = batches["current"]["completed"] == 0
    batches["is_last_batch"] = False
    for part in ("current", "total"):
        batches[part]["ready"] -= 1
        if is_first:
            fit_loop["epoch_progress"][part]["ready"] -= 1
            fit_loop["epoch_progress"][part]["started"] -= 1


def random_state(device: str) -> dict[str, Any]:
    """Of this process: what dropout draws from. To ask a GPU that is not used would start it."""
    state: dict[str, Any] = {"cpu": torch.get_rng_state(), "cuda": None}
    if device == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    elif device == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Go on with the numbers where `random_state` was called."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    if state.get("mps") is not None and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["mps"])
