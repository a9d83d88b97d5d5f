"""How a model is trained."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seq2seq.config.base import Config, Probability, Size


class TrainingConfig(Config):
    """How a model is trained. Batches and steps are counted in optimiser steps; learning rates are per step."""

    seed: Annotated[int, Field(ge=0)] = 1
    max_epochs: Size = 10
    batch_tokens: Size | None = 4000
    """Target tokens of a batch, padding included (the longer side counts)."""
    batch_sentences: Size | None = None
    """Instead of `batch_tokens`: pairs of a batch."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Probability, Probability] = (0.9, 0.98)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "inverse_sqrt", "cosine", "plateau"] = "constant"
    """After the warm-up: as it is; falling with 1 / sqrt(step); half a cosine down to `min_learning_rate` at the last
    step; or lowered whenever validation stops improving."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the rate rises linearly from 0; works with every schedule."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: Annotated[int, Field(ge=0)] = 1
    """Validations without a better score before the learning rate is multiplied by `plateau_factor`."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """`plateau` and `cosine` never lower the rate below this."""
    label_smoothing: Probability = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    clip_value: Annotated[float, Field(gt=0)] | None = None
    monitor: Literal["bleu", "loss", "exact_match"] = "bleu"
    """What chooses the best model, moves the plateau and stops early."""
    early_stopping: Size | None = None
    """Validations without a better score before training ends; `None`: never."""

    @model_validator(mode="after")
    def check(self) -> Self:
        if (self.batch_tokens is None) == (self.batch_sentences is None):
            raise ValueError(
                "give either batch_tokens or batch_sentences, "
                f"got {self.batch_tokens} and {self.batch_sentences}; set the other to None"
            )
        if self.schedule == "inverse_sqrt" and self.warmup_steps == 0:
            raise ValueError("schedule='inverse_sqrt' needs warmup_steps of at least 1, got 0; 4000 is usual")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(
                "min_learning_rate must be at most learning_rate, "
                f"got {self.min_learning_rate} and {self.learning_rate}"
            )
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError(
                f"clip by norm or by value, got clip_norm={self.clip_norm} and clip_value={self.clip_value}; "
                "set one of them to None"
            )
        return self
