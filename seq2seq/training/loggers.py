"""Where a training's curves go: `metrics.csv` always, TensorBoard's events where it is installed, Weights & Biases if
asked for."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from seq2seq.errors import ConfigError, TrainingError
from seq2seq.training.checkpoints import reason
from seq2seq.training.continuing import WANDB_ID, SavedState
from seq2seq.training.metrics_file import MetricsFile
from seq2seq.training.processes import is_first_process


def check_wandb(project: str | None) -> None:
    """Refuse a project without the library that would log to it, before anything is read.

    Raises:
        ConfigError: if wandb is not installed.
    """
    if project is not None and find_spec("wandb") is None:
        raise ConfigError("--wandb needs the library wandb, which is not installed; pip install wandb, or leave it out")
    if project is not None and not project.strip():
        raise ConfigError("--wandb needs the name of a project, got a blank one")


def build_loggers(
    out: Path, log: MetricsFile, found: SavedState | None, project: str | None, settings: Mapping[str, Any]
) -> list[Logger]:
    """The loggers of a run.

    Args:
        out: the run's folder.
        log: `metrics.csv`.
        found: the state that the run goes on from.
        project: of Weights & Biases; `None`: nothing goes there.
        settings: told to Weights & Biases as the run's configuration.

    Raises:
        TrainingError: if Weights & Biases cannot be used.
    """
    loggers: list[Logger] = [log]
    if project is not None:
        loggers.append(log_to_wandb(out, project, goes_on=found is not None, settings=settings))
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(out, name="", version="log", purge_step=found.step if found else None))
    return loggers


def log_to_wandb(out: Path, project: str, *, goes_on: bool, settings: Mapping[str, Any]) -> WandbLogger:
    """A run of Weights & Biases, the same one for a training that goes on; its name is that of the folder."""
    name = out.resolve().name
    if not is_first_process():
        return WandbLogger(name=name, project=project)
    path = out / "log" / WANDB_ID
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_known = goes_on and path.is_file()
        own_id = path.read_text(encoding="ascii") if is_known else uuid.uuid4().hex[:12]
        logger = WandbLogger(name=name, project=project, save_dir=path.parent, id=own_id)
        logger.log_hyperparams(dict(settings))
        path.write_text(own_id, encoding="ascii")
    except Exception as error:  # Dozens of kinds, from no login to no network.
        raise TrainingError(
            f"Weights & Biases cannot be used ({reason(error)}); "
            "type wandb login, set WANDB_MODE=offline, or leave out --wandb"
        ) from None
    return logger


def close(loggers: Sequence[Logger]) -> None:
    """End the run of Weights & Biases, or the next training of this process would log to it."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and is_first_process():
            logger.experiment.finish()
