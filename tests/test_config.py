"""Every field of the configurations is explained where it stands."""

import ast
import inspect
from itertools import pairwise

import pytest

from seq2seq.config import Config, ModelConfig, SearchConfig, TrainingConfig


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
