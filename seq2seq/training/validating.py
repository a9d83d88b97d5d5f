"""When a training validates (at the end of every epoch, or every so many steps and at its own end), and what counts."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import early_stopping

from seq2seq.config import TrainingConfig


def is_validated(trainer: Trainer, config: TrainingConfig, batch_idx: int) -> bool:
    """Whether the step that comes next, of which this batch is one, is followed by a validation."""
    last = batch_idx + config.accumulate - batch_idx % config.accumulate >= int(trainer.num_training_batches)
    if config.validate_every_steps is None:
        return last
    is_end = last and trainer.current_epoch + 1 == trainer.max_epochs
    return is_end or (trainer.global_step + 1) % config.validate_every_steps == 0


def is_counted(trainer: Trainer, config: TrainingConfig) -> bool:
    """Whether this validation counts for the plateau and for early stopping.

    Not in the warm-up, where scores may stand still because the rate is low; nor where none was due and the training
    ends, for a longer training would not have this one.
    """
    steps = config.validate_every_steps
    return trainer.global_step >= config.warmup_steps and (steps is None or trainer.global_step % steps == 0)


class EarlyStopping(early_stopping.EarlyStopping):
    """Ends the training when validations have not brought a better score for a while.

    Args:
        config: says how many validations, and by which score.
    """

    def __init__(self, config: TrainingConfig) -> None:
        assert config.early_stopping is not None
        mode = "min" if config.monitor == "loss" else "max"
        # Lightning's would count epochs, and end at the first score that is not finite.
        when = {"check_on_train_epoch_end": False, "check_finite": False}
        super().__init__(f"validation_{config.monitor}", patience=config.early_stopping, mode=mode, **when)
        self.config = config

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_counted(trainer, self.config):
            super().on_validation_end(trainer, pl_module)


class ValidateBySteps(Callback):
    """Lets Lightning validate after steps, which it would count in batches, anew in every epoch."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        batches = batch_idx + 1
        ends = batches % self.config.accumulate == 0 or batches == int(trainer.num_training_batches)
        # It validates where the number of the epoch's batches is a multiple of this.
        trainer.val_check_batch = batches if ends and is_validated(trainer, self.config, batch_idx) else batches + 1
