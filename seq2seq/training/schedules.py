"""The optimiser and how its learning rate moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LinearLR, ReduceLROnPlateau

from seq2seq.config import TrainingConfig


def build_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> Optimizer:
    """The configured optimiser, with torch's fused kernel: one pass over all parameters."""
    options: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": True}
    if config.optimizer == "sgd":
        return SGD(parameters, **options)
    kind = AdamW if config.optimizer == "adamw" else Adam
    return kind(parameters, betas=config.betas, **options)


def rate_factor(config: TrainingConfig, total_steps: int) -> Callable[[int], float]:
    """The share of the peak learning rate at an optimiser step (counted from 0).

    The warm-up rises linearly, and its first step already has 1 / `warmup_steps` of the peak: none is taken at rate 0.

    Args:
        total_steps: of all `config.max_epochs`; `cosine` ends there, and `halving` tells from it how long an epoch is.

    Reference:
        Inverse square root: Vaswani et al. (2017), arXiv:1706.03762; cosine: Loshchilov & Hutter (2017),
        arXiv:1608.03983; halving: Sutskever et al. (2014), arXiv:1409.3215, Luong et al. (2015), arXiv:1508.04025.
    """
    warmup, floor = config.warmup_steps, config.min_learning_rate / config.learning_rate
    halving_unit = 1.0 if config.halving_unit == "steps" else max(1.0, total_steps / config.max_epochs)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "inverse_sqrt":
            return math.sqrt(warmup / (step + 1))
        if config.schedule == "cosine":
            share = min(1.0, (step - warmup) / max(1, total_steps - warmup))
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
        if config.schedule == "halving":
            intervals = (step / halving_unit - config.halving_start) / config.halving_interval
            # An epoch's length is a quotient: what should be a whole number may come out a hair too small.
            halvings = max(0, 1 + math.floor(intervals + 1e-9))
            return max(floor, 0.5 ** min(halvings, 1000))
        return 1.0

    return factor


def unreached(config: TrainingConfig, total_steps: int) -> list[str]:
    """What the configuration asks for that a training of this many steps never comes to."""
    found = []
    if 0 < total_steps <= config.dropout_start:
        found.append(
            f"dropout_start={config.dropout_start} is not reached in {total_steps} steps: this training has no dropout"
        )
    if 0 < total_steps <= config.warmup_steps:
        found.append(f"warmup_steps={config.warmup_steps} is not over in {total_steps} steps: the rate only rises")
    elif config.schedule == "halving" and total_steps > 0 and rate_factor(config, total_steps)(total_steps - 1) == 1.0:
        found.append(
            f"halving_start={config.halving_start} {config.halving_unit} is not reached in {total_steps} steps: the "
            "rate stays as it is"
        )
    if config.validate_every_steps is not None and 0 < total_steps < config.validate_every_steps:
        found.append(
            f"validate_every_steps={config.validate_every_steps} is not reached in {total_steps} steps: there is no "
            "validation but the one at the end"
        )
    return found


def build_schedulers(optimizer: Optimizer, config: TrainingConfig, total_steps: int) -> list[dict[str, Any]]:
    """Schedulers as Lightning takes them; `total_steps` is what `cosine` ends at."""
    if config.schedule != "plateau":
        return [{"scheduler": LambdaLR(optimizer, rate_factor(config, total_steps)), "interval": "step"}]
    plateau = ReduceLROnPlateau(
        optimizer,
        mode="min" if config.monitor == "loss" else "max",
        factor=config.plateau_factor,
        patience=config.plateau_patience,
        threshold=0.0,
        min_lr=config.min_learning_rate,
    )
    schedulers: list[dict[str, Any]] = [
        # It waits for validations, which are not Lightning's to count: `TranslationModule` moves it.
        {"scheduler": plateau, "interval": "epoch", "reduce_on_plateau": False}
    ]
    if config.warmup_steps > 1:
        # The plateau begins where it ends.
        warmup = LinearLR(optimizer, 1 / config.warmup_steps, total_iters=config.warmup_steps - 1)
        schedulers.insert(0, {"scheduler": warmup, "interval": "step"})
    return schedulers
