"""How the layers of a model recur."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seq2seq.config.base import Config, Probability, refuse_idle

CellName = Literal[
    "rnn_tanh",
    "rnn_relu",
    "linear",
    "memory",
    "lstm",
    "lstm_peephole",
    "lstm_coupled",
    "lstm_layer_norm",
    "gru",
    "gru_reset_before",
    "gru_minimal",
]

GATELESS_CELLS = ("rnn_tanh", "rnn_relu", "linear", "memory")
FUSED_CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")
"""Those that torch has a kernel for."""


class RecurrenceConfig(Config):
    """Which cell recurs, how it starts and how it is run; the same in every layer of a model."""

    cell: CellName = "lstm"
    """A key of `cells.CELLS`."""
    forget_bias: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """At the start a gate keeps sigmoid(forget_bias) of the memory at each step: 0, 1 or 2 are the usual choices."""
    chrono: Annotated[int, Field(ge=3, lt=1 << 31)] | None = None
    """Instead of `forget_bias`: the longest dependency to expect, in steps; gates start with time scales up to that
    (Tallec & Ollivier 2018)."""
    initialisation: Literal["orthogonal", "uniform", "identity"] = "orthogonal"
    """Recurrent weights orthogonal, others by their fan-in and fan-out; or all uniform in [-init_range, init_range]; or
    recurrent weights the identity (plain RNNs)."""
    init_range: Annotated[float, Field(gt=0, le=1e6)] = 0.1
    """Used by `uniform` alone."""
    variational_dropout: bool = False
    """Dropout of embeddings and between layers zeroes the same features at all steps of a sentence (Gal & Ghahramani
    2016)."""
    recurrent_dropout: Probability = 0.0
    """Inside the recurrence, the same units at all steps of a sentence; takes the unrolled path in training."""
    recurrent_dropout_on: Literal["hidden", "update"] = "hidden"
    """What `recurrent_dropout` zeroes: h in the recurrent products (Gal & Ghahramani 2016), or what is added to the
    memory (Semeniuta et al. 2016)."""
    fused: bool = True
    """Run torch's kernel over time where it has one (plain RNNs, GRU, LSTM); `False` runs the readable cells, with the
    same parameters and results. The cells run in any case where the kernel is the slower one (the encoder, training
    on a CPU) and where it cannot run (`recurrent_dropout` in training; a decoder that translates or has
    `input_feeding`, which goes step by step)."""
    compiled: bool = False
    """Let torch.compile merge what an unrolled step does besides its product. Needs a C++ compiler; the loop of
    `input_feeding` is run as it is."""

    @model_validator(mode="after")
    def check_recurrence(self) -> Self:
        if self.cell in GATELESS_CELLS and self.forget_bias != 1.0:
            raise ValueError(
                f"forget_bias needs a cell with gates, got {self.forget_bias} and cell={self.cell!r}; leave it out"
            )
        if self.chrono is not None and (self.cell in GATELESS_CELLS or self.forget_bias != 1.0):
            raise ValueError(
                f"chrono sets the biases of gates in place of forget_bias, got chrono={self.chrono}, "
                f"forget_bias={self.forget_bias} and cell={self.cell!r}; leave one of them out"
            )
        if self.initialisation == "identity" and self.cell not in ("rnn_tanh", "rnn_relu"):
            raise ValueError(
                f"initialisation='identity' is for rnn_relu and rnn_tanh, got cell={self.cell!r}; use 'orthogonal'"
            )
        if self.recurrent_dropout and self.recurrent_dropout_on == "hidden" and self.cell == "linear":
            raise ValueError("recurrent_dropout_on='hidden' needs recurrent products, got cell='linear'; use 'update'")
        if self.recurrent_dropout and self.recurrent_dropout_on == "update" and self.cell in ("rnn_tanh", "rnn_relu"):
            raise ValueError(
                f"recurrent_dropout_on='update' needs a memory to add to, got cell={self.cell!r}; use 'hidden'"
            )
        refuse_idle(
            self,
            {
                "init_range": (self.initialisation != "uniform", "initialisation='uniform'"),
                "recurrent_dropout_on": (not self.recurrent_dropout, "recurrent_dropout above 0"),
            },
        )
        if self.compiled and self.fused and self.cell in FUSED_CELLS:
            raise ValueError(
                f"compiled=True is for unrolled cells, got cell={self.cell!r}, which runs fused; set fused=False"
            )
        return self
