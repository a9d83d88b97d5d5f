"""What of a run can be refused before its data is read."""

from __future__ import annotations

from pathlib import Path

from seq2seq.config import TrainingConfig
from seq2seq.metrics import Judge
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.continuing import check_folder
from seq2seq.training.engine import choose_engine
from seq2seq.training.loggers import check_wandb


def check_run(
    training: TrainingConfig,
    out: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    epochs: int | None = None,
    restart: bool = False,
    wandb: str | None = None,
    smoke: bool = False,
) -> None:
    """Refuse what `train` would refuse of these, for a script that has much to read before it can call it.

    Args:
        training: how it will be trained.
        out, device, devices, nodes, epochs, restart, wandb, smoke: those of `train`.

    Raises:
        ConfigError: if the devices do not exist, there is no epoch to train, wandb is not installed, or sacrebleu
            cannot tokenize as asked for.
        TrainingError: if `out` holds something else, or a model without a state to go on from.
    """
    Judge("bleu", tokenize=training.bleu_tokenize)
    choose_engine(device, devices, nodes)
    check_wandb(wandb)
    if epochs is not None:
        training.model_copy(update={"max_epochs": epochs})
    check_folder(out, Checkpoints(out / "checkpoints"), restart, smoke)
