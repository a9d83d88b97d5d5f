"""The tests themselves check the shapes that signatures tell."""

import pytest
import torch
from jaxtyping import TypeCheckError, config

from seq2seq.attention import AdditiveAttention


def test_a_wrong_shape_is_seen() -> None:
    attention = AdditiveAttention(3, 4)
    assert config.jaxtyping_disable, "users of the modules are not slowed down"
    config.update("jaxtyping_disable", False)
    with pytest.raises(TypeCheckError):
        attention.remember(torch.ones(2, 5, 4), torch.ones(2, 6, dtype=torch.bool))
