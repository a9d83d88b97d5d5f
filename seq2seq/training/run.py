"""A whole training: from configurations and data to a model folder."""

from __future__ import annotations

import logging
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger

from seq2seq.config import ModelConfig, TrainingConfig
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError, TrainingError
from seq2seq.training.averaging import KeepModels, MovingAverage, validate_average
from seq2seq.training.callbacks import EpochLine, KeepBest, ProgressBar, say
from seq2seq.training.module import TranslationModule
from seq2seq.training.start import start_from

DEVICES = ("auto", "cpu", "gpu", "cuda", "mps")


def train(
    model: ModelConfig,
    training: TrainingConfig,
    data: ParallelDataModule,
    out: Path,
    *,
    device: str = "auto",
    epochs: int | None = None,
    resume: bool = False,
    start: Path | None = None,
    languages: tuple[str, str] = ("", ""),
    smoke: bool = False,
) -> Path:
    """Train a model and keep the one that validates best as a model folder.

    Args:
        model, training: what is trained, and how.
        data: training and validation pairs.
        out: the model folder; `metrics.csv` and the checkpoint for `resume` lie in it too.
        device: auto, cpu, gpu (or cuda), mps.
        epochs: instead of `training.max_epochs`.
        resume: go on after the last finished epoch of an earlier call.
        start: a model folder of the same configuration and vocabularies whose weights to begin with.
        languages: names of source and target language, for the folder's metadata.
        smoke: two batches and one validation batch only, to see that everything works.

    Raises:
        ConfigError: if the device does not exist.
        TrainingError: if there is nothing to resume, or a gradient is not finite.
    """
    trainer_options = choose_device(device)
    checkpoint = find_checkpoint(out) if resume else None
    config = training if epochs is None else training.model_copy(update={"max_epochs": epochs})
    out.mkdir(parents=True, exist_ok=True)
    quieten()
    seed_everything(config.seed, verbose=False)
    references = [target for _, target in data.validation_pairs]
    module = TranslationModule(model, config, data.source_vocabulary, data.target_vocabulary, references)
    if start is not None:
        start_from(module.model, start, data.source_vocabulary, data.target_vocabulary)
    keep = KeepBest(out, languages)
    callbacks = build_callbacks(config, out, keep)
    trainer = Trainer(
        **trainer_options,
        max_epochs=1 if smoke else config.max_epochs,
        accumulate_grad_batches=config.accumulate,
        limit_train_batches=2 if smoke else None,
        limit_val_batches=1 if smoke else None,
        callbacks=callbacks,
        logger=build_loggers(out),
        num_sanity_val_steps=0,
        log_every_n_steps=1 if smoke else 10,
        use_distributed_sampler=False,
        enable_model_summary=False,
        enable_progress_bar=shows_progress(),
    )
    parts = ", ".join(f"{name} {count:,}" for name, count in module.model.parts())
    say(f"{sum(weight.numel() for weight in module.parameters()):,} parameters ({parts})")
    try:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    except SystemExit:
        # Lightning ends the process with 1 after Ctrl-C; by custom it is 130.
        say(f"stopped at epoch {trainer.current_epoch + 1}; run the same command with --resume to go on")
        raise KeyboardInterrupt from None
    for callback in callbacks:
        if isinstance(callback, KeepModels):
            validate_average(trainer, module, data, callback)
    if keep.best:
        found = keep.best["validation"][config.monitor]
        score = f"validation loss {found:.4g}" if config.monitor == "loss" else found
        say(f"best: epoch {keep.best['epochs']}, {score}, in {out}")
    return out


def choose_device(device: str) -> dict[str, Any]:
    """Lightning's arguments for a device."""
    if device not in DEVICES:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    if device in ("gpu", "cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} needs a GPU that torch sees, and there is none; use --device cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' needs Apple's Metal, and there is none; use --device cpu")
    return {"accelerator": device, "devices": 1}


def find_checkpoint(out: Path) -> str:
    """The checkpoint of the last finished epoch."""
    path = out / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise TrainingError(f"resuming needs {path}, and there is none; leave --resume out to start anew")
    return str(path)


def build_callbacks(config: TrainingConfig, out: Path, keep: KeepBest) -> list[Callback]:
    """What runs around the epochs; the checkpoint comes last, so that it holds what the others decided."""
    callbacks: list[Callback] = [EpochLine(), keep]
    if shows_progress():
        callbacks.append(ProgressBar())
    if config.early_stopping is not None:
        mode = "min" if config.monitor == "loss" else "max"
        callbacks.append(EarlyStopping(f"validation_{config.monitor}", patience=config.early_stopping, mode=mode))
    if config.average_models is not None:
        callbacks.append(KeepModels(out / "models", config, keep))
    if config.ema_decay is not None:
        # Behind those that save what was validated.
        callbacks.append(MovingAverage(config.ema_decay))
    callbacks.append(ModelCheckpoint(out / "checkpoints", filename="last", enable_version_counter=False))
    return callbacks


def build_loggers(out: Path) -> list[Logger]:
    """`metrics.csv` always, TensorBoard's events where it is installed."""
    loggers: list[Logger] = [CSVLogger(out, name="", version="log")]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(out, name="", version="log"))
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
        ".*Checkpoint directory .* exists and is not empty.*",  # that is what --resume is for
        ".*GPU available but not used.*",
        ".*smaller than the logging interval.*",  # small corpora
        ".*Experiment logs directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", message)
