"""Lightning's trainer, with what a run needs of devices and callbacks."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.lsf import LSFEnvironment
from lightning.fabric.plugins.environments.mpi import MPIEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import Logger

from seq2seq.config import TrainingConfig
from seq2seq.errors import ConfigError
from seq2seq.training.averaging import MODELS, KeepModels, MovingAverage
from seq2seq.training.batch_size import FindBatchTokens
from seq2seq.training.callbacks import GiveBack, KeepBest, ProgressBar, TellUnreached, ValidationLine
from seq2seq.training.keeping import KeepState
from seq2seq.training.validating import EarlyStopping, ValidateBySteps

DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")

LAUNCHERS = (SLURMEnvironment, LSFEnvironment, MPIEnvironment)
"""Those that say where the first machine is in other ways than by MASTER_ADDR."""


def build_trainer(
    engine: dict[str, Any], config: TrainingConfig, callbacks: list[Callback], loggers: list[Logger], smoke: bool
) -> Trainer:
    """A trainer that does as the configuration says, on the devices of `choose_engine`."""
    return Trainer(
        **engine,
        max_epochs=1 if smoke else config.max_epochs,
        accumulate_grad_batches=config.accumulate,
        precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
        limit_train_batches=2 if smoke else None,
        limit_val_batches=1 if smoke else None,
        callbacks=callbacks,
        logger=loggers,
        num_sanity_val_steps=0,
        log_every_n_steps=1 if smoke else 10,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=shows_progress(),
    )


def choose_engine(device: str, devices: int, nodes: int) -> dict[str, Any]:
    """Lightning's arguments for devices and machines."""
    if device not in DEVICES:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    if device in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} needs a GPU that torch sees, and there is none; use --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' needs Apple's Metal, and there is none; use --device cpu")
    if min(devices, nodes) < 1:
        raise ConfigError(f"devices and nodes must be at least 1, got {devices} and {nodes}")
    there = torch.cuda.device_count()
    if devices > max(1, there) and (device in ("gpu", "cuda") or (device == "auto" and there)):
        raise ConfigError(f"devices must be at most the GPUs of this machine, {there}, got {devices}")
    started = os.environ.get("WORLD_SIZE") if "TORCHELASTIC_RUN_ID" in os.environ else None
    if started is not None and int(started) != devices * nodes:
        raise ConfigError(
            f"torchrun started {started} processes, and --devices {devices} times --nodes {nodes} must be as many"
        )
    if nodes > 1 and "MASTER_ADDR" not in os.environ and not any(found.detect() for found in LAUNCHERS):
        raise ConfigError(
            f"several machines find each other by torchrun or srun, got --nodes {nodes} without either; "
            "start the same command with one of them on every machine, or leave --nodes out"
        )
    options = {"accelerator": device, "devices": devices, "num_nodes": nodes}
    if devices * nodes > 1:
        options["strategy"] = "ddp"
    if SLURMEnvironment.detect():
        # After a requeue the same command goes on by itself; Lightning's way would save in the middle of a step.
        options["plugins"] = [SLURMEnvironment(auto_requeue=False)]
    return options


def build_callbacks(config: TrainingConfig, out: Path, best: KeepBest, state: KeepState | None) -> list[Callback]:
    """What runs around the steps; the state is saved first, before the others do anything for the step to come."""
    # Without a state to keep it is a trial of two steps.
    callbacks: list[Callback] = [state, TellUnreached()] if state else []
    if config.batch_tokens == "auto":
        callbacks.append(FindBatchTokens())
    if config.validate_every_steps is not None:
        callbacks.append(ValidateBySteps(config))
    callbacks += [ValidationLine(), best, GiveBack()]
    if shows_progress():
        callbacks.append(ProgressBar())
    if config.early_stopping is not None:
        callbacks.append(EarlyStopping(config))
    if config.average_models is not None:
        callbacks.append(KeepModels(out / MODELS, config, best))
    if config.ema_decay is not None:
        # Behind KeepBest and KeepModels, which save the average while it is in the place of the weights.
        callbacks.append(MovingAverage(config.ema_decay))
    return callbacks


def shows_progress() -> bool:
    """Whether somebody watches: a bar is for terminals."""
    return sys.stderr.isatty()


def quieten() -> None:
    """Lightning's advertisements and its advice on settings that are chosen here on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in (
        ".*isinstance.treespec, LeafSpec.*",  # Lightning calling torch
        ".*does not have many workers.*",  # a batch is a slice of mapped memory: a worker would only copy it
        ".*GPU available but not used.*",
        ".*smaller than the logging interval.*",  # small corpora
        ".*not part of single contiguous chunk.*",  # a cell's weights are parameters of their own
        ".*sync_dist=True.*",  # what is logged is the same in all processes
    ):
        warnings.filterwarnings("ignore", message)
