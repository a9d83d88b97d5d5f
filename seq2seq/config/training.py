"""How a model is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from seq2seq.config.base import Config, Probability, Size, refuse_idle


def tokens_or_auto(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One sentence instead of pydantic's for each of the types that it may have."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(f"batch_tokens must be a number of at least 1, or 'auto', got {value!r}") from None


class TrainingConfig(Config):
    """How a model is trained. Batches and steps are counted in optimiser steps; learning rates are per step."""

    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 1
    max_epochs: Size = 10
    batch_tokens: Annotated[Size | Literal["auto"] | None, WrapValidator(tokens_or_auto)] = 4000
    """Target tokens of a batch, padding included (the longer side counts). `auto`: the most that the device's memory
    holds, found when a training begins, as long as an epoch keeps a hundred steps."""
    batch_sentences: Size | None = None
    """Instead of `batch_tokens`: pairs of a batch."""
    accumulate: Size = 1
    """Batches of one optimiser step; the loss is the mean over all their target tokens, as if they were one batch."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the products, recurrent ones included; weights, optimiser, softmax and loss stay in float32."""
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    betas: tuple[Probability, Probability] = (0.9, 0.98)
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["constant", "inverse_sqrt", "cosine", "plateau", "halving"] = "constant"
    """After the warm-up: as it is; falling with 1 / sqrt(step); half a cosine down to `min_learning_rate` at the last
    step; lowered whenever validation stops improving; or halved at regular times."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Steps in which the rate rises linearly from 0; works with every schedule."""
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    plateau_patience: Annotated[int, Field(ge=0)] = 1
    """So many validations without a better score are let pass; the next one multiplies the learning rate by
    `plateau_factor`."""
    halving_start: Annotated[float, Field(ge=0)] = 5.0
    halving_interval: Annotated[float, Field(gt=0)] = 1.0
    """`halving`: the rate is halved at the start, and again after every interval."""
    halving_unit: Literal["epochs", "steps"] = "epochs"
    """What start and interval count; epochs may be fractions."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 0.0
    """`plateau`, `cosine` and `halving` never lower the rate below this."""
    label_smoothing: Probability = 0.0
    dropout_start: Annotated[int, Field(ge=0)] = 0
    """Late dropout: the steps before dropout of any kind, and R-Drop, set in. A model that knows nothing yet learns
    faster without, and cannot overfit."""
    r_drop: Annotated[float, Field(ge=0)] = 0.0
    """R-Drop's alpha: read every pair twice, under two dropouts, and punish that the two disagree; 5 is usual."""
    subword_sampling: Annotated[float, Field(gt=0, le=1)] | None = None
    """Divide the training texts into tokens anew in every epoch, at random: for unigram vocabularies the exponent alpha
    (0.1 to 0.5 are usual, small is wild), for bpe the probability of leaving out a merge (0.1 is usual)."""
    teacher_forcing: Literal["always", "linear", "exponential", "inverse_sigmoid"] = "always"
    """What the decoder reads in training: always the true tokens, or ever more of its own, as this decay says."""
    teacher_forcing_half: Size = 10_000
    """The step at which half of the tokens are still true ones."""
    teacher_forcing_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of true tokens never falls below this."""
    sampled_inputs: Literal["parallel", "loop"] = "parallel"
    """How the model's own tokens are drawn: in two passes over the whole target, or step by step, which is slow."""
    clip_norm: Annotated[float, Field(gt=0)] | None = 1.0
    clip_value: Annotated[float, Field(gt=0)] | None = None
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Validate and save an exponential moving average of the weights, which keeps this share of itself at each step."""
    average_models: Annotated[int, Field(ge=2)] | None = None
    """Keep so many models, and write their mean at the end if it validates better than the best one."""
    average_of: Literal["best", "last"] = "best"
    """Which models are kept for it."""
    freeze: tuple[Literal["embeddings", "encoder", "bridge", "attention", "decoder", "output"], ...] = ()
    """Parts whose weights stay as they are; `encoder` and `decoder` include embeddings, `decoder` the attention."""
    monitor: Literal["bleu", "loss", "exact_match"] = "bleu"
    """What chooses the best model, moves the plateau and stops early."""
    early_stopping: Size | None = None
    """The training ends at the last of so many validations in a row without a better score; `None`: never."""
    max_skipped_steps: Size = 10
    """Steps with a loss or gradient that is not finite are skipped; so many in a row end the training."""
    save_every_steps: Size | None = None
    """Optimiser steps between two saved states of the training; besides, every epoch's first and last step is saved."""
    save_every_minutes: Annotated[float, Field(gt=0)] | None = 10.0
    """The same in minutes; whichever comes first."""

    @model_validator(mode="after")
    def check(self) -> Self:
        if (self.batch_tokens is None) == (self.batch_sentences is None):
            raise ValueError(
                "give either batch_tokens or batch_sentences, "
                f"got {self.batch_tokens} and {self.batch_sentences}; set the other to None"
            )
        if self.schedule == "inverse_sqrt" and self.warmup_steps == 0:
            raise ValueError("schedule='inverse_sqrt' needs warmup_steps of at least 1, got 0; 4000 is usual")
        self._check_idle()
        if self.schedule == "plateau" and self.early_stopping is not None:
            fewest = self.plateau_patience + 2
            if self.early_stopping < fewest:
                raise ValueError(
                    f"a training that stops early never lowers its rate, got early_stopping={self.early_stopping} and "
                    f"plateau_patience={self.plateau_patience}; use early_stopping={fewest} or more"
                )
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

    def _check_idle(self) -> None:
        """Refuse what would silently do nothing."""
        sampled = (self.teacher_forcing == "always", "a teacher_forcing other than 'always'")
        plateau = (self.schedule != "plateau", "schedule='plateau'")
        halving = (self.schedule != "halving", "schedule='halving'")
        refuse_idle(
            self,
            {
                "betas": (self.optimizer == "sgd", "optimizer 'adam' or 'adamw'"),
                "plateau_factor": plateau,
                "plateau_patience": plateau,
                "halving_start": halving,
                "halving_interval": halving,
                "halving_unit": halving,
                "min_learning_rate": (
                    self.schedule in ("constant", "inverse_sqrt"),
                    "schedule 'plateau', 'cosine' or 'halving'",
                ),
                "teacher_forcing_half": sampled,
                "teacher_forcing_floor": sampled,
                "sampled_inputs": sampled,
                "average_of": (self.average_models is None, "average_models"),
            },
        )
