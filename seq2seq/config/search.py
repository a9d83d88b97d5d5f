"""How translations are searched for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seq2seq.config.base import Config, Size


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
