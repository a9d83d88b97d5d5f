"""What the configurations share: every field is explained where it stands, and what cannot be is told in a line."""

import ast
import inspect
from itertools import pairwise

import pytest

from seq2seq.config import Config, ModelConfig, SearchConfig, TrainingConfig
from seq2seq.errors import ConfigError


def explained_fields(kind: type[Config]) -> set[str]:
    """The fields with a docstring right below, of the class and of those that it extends."""
    classes = [base for base in kind.__mro__ if issubclass(base, Config)]
    statements = [ast.parse(inspect.getsource(one)).body[0] for one in classes]
    return {
        field.target.id
        for statement in statements
        if isinstance(statement, ast.ClassDef)
        for field, below in pairwise(statement.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


@pytest.mark.parametrize("kind", [ModelConfig, SearchConfig, TrainingConfig])
def test_every_field_is_explained(kind: type[Config]) -> None:
    assert set(kind.model_fields) - explained_fields(kind) == set()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_length_ratio": 1e308}, "SearchConfig.max_length_ratio must be less than or equal to 1000000, got 1e"),
        (
            {"min_length_ratio": 1e308, "max_length_ratio": None},
            "min_length_ratio must be less than or equal to 1000000",
        ),
        ({"max_length": 1 << 31}, "max_length must be less than 2147483648"),
        ({"forbidden_tokens": (1 << 63,)}, "forbidden_tokens.0 must be less than 2147483648"),
        ({"samples": 1, "temperature": 1e-39}, "temperature must be greater than or equal to 0.000001"),
        ({"coverage_penalty": 1e39}, "coverage_penalty must be less than or equal to 1000000"),
        ({"length_penalty": "gnmt", "alpha": 600.0}, "alpha must be less than or equal to 10"),
        ({"min_length": 300}, "min_length must be at most max_length, got 300 and 256; raise max_length"),
        (
            {"min_length_ratio": 3.0, "max_length_ratio": 2.0},
            "min_length_ratio must be at most max_length_ratio, got 3.0 and 2.0; raise max_length_ratio",
        ),
    ],
)
def test_values_beyond_what_can_be_computed_are_refused(values: dict[str, object], message: str) -> None:
    for make in (lambda: SearchConfig(**values), lambda: SearchConfig.model_validate(values)):
        with pytest.raises(ConfigError, match=message):
            make()


def test_residual_needs_a_second_layer() -> None:
    sizes = {"source_vocabulary_size": 9, "target_vocabulary_size": 9, "residual": True, "encoder_layers": 1}
    with pytest.raises(ConfigError, match="residual adds a layer's input to its output from layer 2 on, got one layer"):
        ModelConfig(**sizes, decoder_layers=1)
    assert ModelConfig(**sizes, decoder_layers=2).residual_from == 1


def test_what_is_no_configuration_is_one_line() -> None:
    for text, message in (("{", "ModelConfig Invalid JSON"), ("[]", r"ModelConfig must be an object, got \[\]")):
        with pytest.raises(ConfigError, match=message) as caught:
            ModelConfig.model_validate_json(text)
        assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="ModelConfig must be"):
        ModelConfig.model_validate(3)
    assert SearchConfig.model_validate_json('{"beam_size": 3}') == SearchConfig(beam_size=3)
