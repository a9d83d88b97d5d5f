"""Frozen, validated configurations: what a model is, how it searches, how it is trained.

Unknown keys are refused, values are checked when the object is made, and `config.model_dump_json()` /
`ModelConfig.model_validate_json(text)` write and read it. A variant is `config.model_copy(update={...})`, which is
validated too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from seq2seq.errors import ConfigError

Size = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
"""Ids of `<pad>`, `<unk>`, `<S>` and `<E>`, the same in every vocabulary of the library."""

FIRST_FREE_ID = 4
"""The smallest id that stands for text."""


class Config(BaseModel):
    """What the three configurations share: frozen, unknown keys refused, faults raised as `ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(describe(error)) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002  # the signature is pydantic's
        """A validated copy with some fields changed (pydantic's own does not validate)."""
        return type(self)(**{**self.model_dump(), **(update or {})})


def describe(error: ValidationError) -> str:
    """One line that names every wrong field, its value and the rule it breaks."""
    faults = []
    for fault in error.errors():
        field = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            faults.append(f"{error.title} has no field {field!r}")
        elif fault["type"] == "value_error":
            faults.append(fault["msg"].removeprefix("Value error, "))
        else:
            rule = fault["msg"].replace("Input should be", "must be", 1)
            faults.append(f"{error.title}.{field} {rule}, got {fault['input']!r}")
    return "; ".join(faults)


class ModelConfig(Config):
    """What `Seq2Seq` is built from; stored beside its weights.

    Sizes are in units (features), dropouts are probabilities of zeroing. `encoder_hidden_size` is per direction.
    """

    source_vocabulary_size: Annotated[int, Field(gt=FIRST_FREE_ID)]
    target_vocabulary_size: Annotated[int, Field(gt=FIRST_FREE_ID)]
    embedding_size: Size = 256
    cell: Literal["lstm"] = "lstm"
    encoder_layers: Size = 2
    encoder_hidden_size: Size = 256
    bidirectional: bool = True
    decoder_layers: Size = 2
    decoder_hidden_size: Size = 512
    residual: bool = False
    """Add a layer's input to its output from layer 2 on, where both have one size."""
    bridge: Literal["copy", "linear", "zero"] = "linear"
    """How the encoder's final states start the decoder."""
    attention: Literal["none", "dot", "general", "additive", "multi_head"] = "general"
    attention_heads: Size = 4
    """Used by `multi_head` alone."""
    input_feeding: bool = False
    """Luong's step-by-step decoder: the previous attentional vector joins the next input."""
    output_attention: bool = False
    """A second attention, from the top decoder layer to the softmax."""
    tied_embeddings: Literal["none", "decoder", "all"] = "decoder"
    """`decoder`: output layer = target embedding; `all`: the source embedding too (one joint vocabulary)."""
    bottleneck_size: Size | None = None
    """Features between the decoder and the softmax; `None`: `embedding_size` if tied, otherwise no bottleneck."""
    reverse_source: bool = False
    embedding_dropout: Probability = 0.0
    hidden_dropout: Probability = 0.0
    """Between the layers of encoder and decoder, and on the encoder's annotations."""
    output_dropout: Probability = 0.0
    """Before the softmax."""
    forget_bias: float = 1.0
    """Bias of the forget gates at initialisation: 0, 1 or 2 are the usual choices."""
    initialisation: Literal["orthogonal", "uniform"] = "orthogonal"
    """Recurrent weights orthogonal, others by their fan-in and fan-out; or all uniform in [-init_range, init_range]."""
    init_range: Annotated[float, Field(gt=0)] = 0.1
    """Used by `uniform` alone."""
    fused: bool = True
    """Run torch's fused kernels; `False` runs the readable cells, with the same parameters and results."""

    @model_validator(mode="after")
    def check(self) -> Self:
        decoder, encoder = self.decoder_hidden_size, self.annotation_size
        if self.attention == "multi_head" and decoder % self.attention_heads:
            raise ValueError(
                f"attention_heads must divide decoder_hidden_size, got {self.attention_heads} and {decoder}"
            )
        if self.attention == "dot" and encoder != decoder:
            raise ValueError(
                "attention='dot' needs annotations as wide as the decoder, "
                f"got {encoder} and {decoder}; use 'general' or equal sizes"
            )
        if self.attention == "none" and (self.input_feeding or self.output_attention):
            raise ValueError(
                "input_feeding and output_attention need an attention, got attention='none'; choose 'general'"
            )
        if self.attention == "none" and self.bridge == "zero":
            raise ValueError(
                "a decoder must see the source, got attention='none' and bridge='zero'; choose bridge='linear'"
            )
        if self.input_feeding and self.output_attention:
            raise ValueError(
                "input_feeding already attends from the top layer, got output_attention=True too; choose one"
            )
        if self.tied_embeddings == "all" and self.source_vocabulary_size != self.target_vocabulary_size:
            raise ValueError(
                "tied_embeddings='all' needs one joint vocabulary, got sizes "
                f"{self.source_vocabulary_size} and {self.target_vocabulary_size}; use 'decoder' or train one jointly"
            )
        if self.tied_embeddings != "none" and self.bottleneck_size not in (None, self.embedding_size):
            raise ValueError(
                "tied embeddings need bottleneck_size = embedding_size, "
                f"got {self.bottleneck_size} and {self.embedding_size}; leave bottleneck_size out"
            )
        if self.bridge == "copy" and encoder != decoder:
            raise ValueError(
                "bridge='copy' needs an encoder (both directions) as wide as the decoder, "
                f"got {encoder} and {decoder}; use 'linear'"
            )
        return self

    @property
    def annotation_size(self) -> int:
        """Features of one annotation: both directions of the encoder's top layer."""
        return self.encoder_hidden_size * (2 if self.bidirectional else 1)

    @property
    def uniform_range(self) -> float | None:
        """`init_range` where it is used."""
        return self.init_range if self.initialisation == "uniform" else None


class SearchConfig(Config):
    """How translations are searched for. Lengths are in target tokens and do not count `<E>`."""

    beam_size: Size = 5
    n_best: Size = 1
    length_penalty: Literal["none", "average", "gnmt"] = "average"
    """Divides a hypothesis' log-probability by: 1, length^alpha, or ((5 + length) / 6)^alpha (Wu et al. 2016)."""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    min_length: Annotated[int, Field(ge=0)] = 0
    max_length: Size = 256
    min_length_ratio: Annotated[float, Field(ge=0)] = 0.0
    max_length_ratio: Annotated[float, Field(gt=0)] | None = 3.0
    """Limits as multiples of the source length, plus `max_length_margin` for the upper one; `None`: no such limit."""
    max_length_margin: Annotated[int, Field(ge=0)] = 10

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.n_best > self.beam_size:
            raise ValueError(
                f"n_best must be at most beam_size, got {self.n_best} and {self.beam_size}; widen the beam"
            )
        if self.min_length > self.max_length:
            raise ValueError(f"min_length must be at most max_length, got {self.min_length} and {self.max_length}")
        if self.max_length_ratio is not None and self.min_length_ratio > self.max_length_ratio:
            raise ValueError(
                "min_length_ratio must be at most max_length_ratio, "
                f"got {self.min_length_ratio} and {self.max_length_ratio}"
            )
        return self


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
