"""What the configurations share: frozen, validated, told in one line where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seq2seq.errors import ConfigError

Size = Annotated[int, Field(ge=1, lt=1 << 31)]
Count = Annotated[int, Field(ge=0, lt=1 << 31)]
Layers = Annotated[int, Field(ge=1, le=1000)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["float32", "bfloat16"]

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
"""Ids of `<pad>`, `<unk>`, `<S>` and `<E>`, the same in every vocabulary of the library."""

FIRST_FREE_ID = 4
"""The smallest id that stands for text."""


class Config(BaseModel):
    """What the three configurations share: frozen, unknown keys refused, faults raised as `ConfigError`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, **values: Any) -> None:
        with told_in_a_line():
            super().__init__(**values)

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """From a mapping, as pydantic does.

        Raises:
            ConfigError: if it is none, or a field cannot be.
        """
        with told_in_a_line():
            return super().model_validate(obj, **options)

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """From JSON, as pydantic does.

        Raises:
            ConfigError: if it is no JSON object, or a field cannot be.
        """
        with told_in_a_line():
            return super().model_validate_json(json_data, **options)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:  # noqa: ARG002  # the signature is pydantic's
        """A validated copy with some fields changed (pydantic's own does not validate)."""
        return type(self)(**{**self.model_dump(), **(update or {})})


@contextmanager
def told_in_a_line() -> Iterator[None]:
    """Turn pydantic's errors into a `ConfigError`."""
    try:
        yield
    except ValidationError as error:
        raise ConfigError(describe(error)) from None


def refuse_idle(config: Config, idle: Mapping[str, tuple[bool, str]]) -> None:
    """Refuse fields that would do nothing, with other values than their defaults.

    Args:
        config: where the fields are.
        idle: for each field, whether it is idle and what it needs.
    """
    for name, (is_idle, other) in idle.items():
        value = getattr(config, name)
        if is_idle and value != type(config).model_fields[name].default:
            raise ValueError(f"{name} does something only with {other}, got {name}={value}; leave it out")


def describe(error: ValidationError) -> str:
    """One line that names every wrong field, its value and the rule it breaks."""
    faults = []
    for fault in error.errors():
        field = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            faults.append(f"{error.title} has no field {field!r}")
        elif fault["type"] == "value_error":
            faults.append(fault["msg"].removeprefix("Value error, "))
        else:
            rule = fault["msg"].replace("Input should be", "must be", 1)
            faults.append(f"{'.'.join(filter(None, (error.title, field)))} {rule}, got {fault['input']!r:.200}")
    return "; ".join(faults)
