"""A whole training: from configurations and data to a model folder."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError
from seq2seq.training.averaging import KeepModels, MovingAverage, validate_average
from seq2seq.training.callbacks import EpochLine, KeepBest, ProgressBar
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.continuing import State, comparable, look_for_state
from seq2seq.training.endings import explained
from seq2seq.training.keeping import KeepState
from seq2seq.training.metrics_file import MetricsFile
from seq2seq.training.module import GREEDY, TranslationModule
from seq2seq.training.processes import in_first_process, say
from seq2seq.training.start import start_from

DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")


def train(
    model: ModelConfig,
    training: TrainingConfig,
    data: ParallelDataModule,
    out: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    epochs: int | None = None,
    restart: bool = False,
    start: Path | None = None,
    search: SearchConfig = GREEDY,
    callbacks: Sequence[Callback] = (),
    languages: tuple[str, str] = ("", ""),
    smoke: bool = False,
) -> Path:
    """Train a model and keep the one that validates best as a model folder.

    Called again with the same arguments it goes on with an unfinished training from its last saved state, in the middle
    of an epoch too, and does nothing for a finished one.

    Args:
        model, training: what is trained, and how.
        data: training and validation pairs.
        out: the model folder; `log/metrics.csv` and the saved states (`checkpoints`) lie in it too.
        device: auto, cpu, gpu (or cuda), mps.
        devices, nodes: processes of each machine, and machines, that train together (DDP).
        epochs: instead of `training.max_epochs`.
        restart: forget what was saved and start over.
        start: a model folder of the same configuration and vocabularies whose weights to begin with.
        search: how validation translates.
        callbacks: what else watches, as `diagnostics.GradientFlow`.
        languages: names of source and target language, for the folder's metadata.
        smoke: two batches and one validation batch only, to see that everything works; nothing to go on from is saved.

    Raises:
        ConfigError: if the device does not exist.
        TrainingError: if `out` holds a training with other settings, steps fail, or memory or disk are too small.
    """
    engine = choose_engine(device, devices, nodes)
    config = training if epochs is None else training.model_copy(update={"max_epochs": epochs})
    data.subword_sampling = config.subword_sampling
    run = {"processes": devices * nodes, "start": start and str(start), "smoke": smoke}
    settings = comparable(model, config, data, search, run)
    checkpoints = Checkpoints(out / "checkpoints")
    found = look_for_state(out, checkpoints, settings, restart)
    if found and found.finished:
        say(f"the training in {out} is finished; --restart trains anew")
        return out
    quieten()
    seed_everything(config.seed, verbose=False)
    references = [target for _, target in data.validation_pairs]
    module = TranslationModule(model, config, data.source_vocabulary, data.target_vocabulary, references, search)
    if start is not None and found is None:
        start_from(module.model, start, data.source_vocabulary, data.target_vocabulary)
    best, log = KeepBest(out, languages), MetricsFile(out / "log" / "metrics.csv")
    state = KeepState(checkpoints, config, settings, log)
    callbacks = [*build_callbacks(config, out, best, None if smoke else state), *callbacks]
    trainer = Trainer(
        **engine,
        max_epochs=1 if smoke else config.max_epochs,
        accumulate_grad_batches=config.accumulate,
        precision="bf16-mixed" if config.precision == "bfloat16" else "32-true",
        limit_train_batches=2 if smoke else None,
        limit_val_batches=1 if smoke else None,
        callbacks=callbacks,
        logger=build_loggers(out, log, found),
        num_sanity_val_steps=0,
        log_every_n_steps=1 if smoke else 10,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        enable_progress_bar=shows_progress(),
    )
    trainer.strategy.checkpoint_io = checkpoints
    parts = ", ".join(f"{name} {count:,}" for name, count in module.model.parts())
    say(f"{sum(weight.numel() for weight in module.parameters()):,} parameters ({parts})")
    with explained(out, module, state):
        log.keep(found.log_rows if found else 0)
        trainer.fit(module, datamodule=data, ckpt_path=found.path if found else None, weights_only=True)
        for callback in callbacks:
            if isinstance(callback, KeepModels):
                validate_average(trainer, module, data, callback)
        if not smoke:
            in_first_process(trainer, checkpoints.finish)
    if best.best:
        value = best.best["validation"][config.monitor]
        score = f"validation loss {value:.4g}" if config.monitor == "loss" else value
        say(f"best: epoch {best.best['epochs']}, {score}, in {out}")
    return out


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
    options = {"accelerator": device, "devices": devices, "num_nodes": nodes}
    if devices * nodes > 1:
        options["strategy"] = "ddp"
    if SLURMEnvironment.detect():
        # After a requeue the same command goes on by itself; Lightning's way would save in the middle of a step.
        options["plugins"] = [SLURMEnvironment(auto_requeue=False)]
    return options


def build_callbacks(config: TrainingConfig, out: Path, best: KeepBest, state: KeepState | None) -> list[Callback]:
    """What runs around the steps; the state is saved first, before the others do anything for the step to come."""
    callbacks: list[Callback] = [state] if state else []
    callbacks += [EpochLine(), best]
    if shows_progress():
        callbacks.append(ProgressBar())
    if config.early_stopping is not None:
        mode = "min" if config.monitor == "loss" else "max"
        callbacks.append(EarlyStopping(f"validation_{config.monitor}", patience=config.early_stopping, mode=mode))
    if config.average_models is not None:
        callbacks.append(KeepModels(out / "models", config, best))
    if config.ema_decay is not None:
        # Behind those that save what was validated.
        callbacks.append(MovingAverage(config.ema_decay))
    return callbacks


def build_loggers(out: Path, log: MetricsFile, found: State | None) -> list[Logger]:
    """`metrics.csv` always, TensorBoard's events where it is installed."""
    loggers: list[Logger] = [log]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(out, name="", version="log", purge_step=found.step if found else None))
    return loggers


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
        ".*sync_dist=True.*",  # what is logged is the same in all processes
    ):
        warnings.filterwarnings("ignore", message)
