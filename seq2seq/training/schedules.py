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
    """The share of the peak learning rate at a step (counted from 0).

    Reference:
        Inverse square root: Vaswani et al. (2017), arXiv:1706.03762; cosine: Loshchilov & Hutter (2017),
        arXiv:1608.03983.
    """
    warmup, floor = config.warmup_steps, config.min_learning_rate / config.learning_rate

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if config.schedule == "inverse_sqrt":
            return math.sqrt(warmup / (step + 1))
        if config.schedule == "cosine":
            share = min(1.0, (step - warmup) / max(1, total_steps - warmup))
            return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * share))
        return 1.0

    return factor


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
        {"scheduler": plateau, "interval": "epoch", "monitor": f"validation_{config.monitor}"}
    ]
    if config.warmup_steps > 1:
        # It multiplies what the plateau left, so the two go together.
        warmup = LinearLR(optimizer, 1 / config.warmup_steps, total_iters=config.warmup_steps - 1)
        schedulers.insert(0, {"scheduler": warmup, "interval": "step"})
    return schedulers
