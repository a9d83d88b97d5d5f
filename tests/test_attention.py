"""Attention by its definitions, a head and a query at a time."""

import math

import pytest
import torch
from torch import Tensor

from seq2seq.attention import (
    AdditiveAttention,
    DotAttention,
    GeneralAttention,
    MultiHeadAdditiveAttention,
    MultiHeadAttention,
)

SENTENCES, QUERIES, STEPS, QUERY, ANNOTATION, HEADS = 3, 2, 5, 8, 6, 2
IS_TOKEN = torch.arange(STEPS) < torch.tensor([5, 1, 3]).unsqueeze(1)


def draw() -> tuple[Tensor, Tensor]:
    """Queries and annotations."""
    torch.manual_seed(0)
    return torch.randn(SENTENCES, QUERIES, QUERY), torch.randn(SENTENCES, STEPS, ANNOTATION)


def score(
    attention: MultiHeadAttention | MultiHeadAdditiveAttention, query: Tensor, key: Tensor, part: slice
) -> Tensor:
    """Of one head, one query and one annotation, both already projected."""
    if isinstance(attention, MultiHeadAttention):
        return query[part] @ key[part] / math.sqrt(len(query[part]))
    return attention.score.weight[0, part] @ (query[part] + key[part]).tanh()


@pytest.mark.parametrize("kind", [MultiHeadAttention, MultiHeadAdditiveAttention])
def test_heads_side_by_side_are_each_head_on_its_own(
    kind: type[MultiHeadAttention] | type[MultiHeadAdditiveAttention],
) -> None:
    queries, annotations = draw()
    attention = kind(QUERY, ANNOTATION, HEADS)
    contexts, weights = attention(queries, attention.remember(annotations, IS_TOKEN))
    for sentence in range(SENTENCES):
        read = annotations[sentence, IS_TOKEN[sentence]]
        keys, values = attention.key(read), attention.value(read)
        for number, query in enumerate(attention.query(queries[sentence])):
            parts, shares = [], []
            for head in range(HEADS):
                part = slice(head * QUERY // HEADS, (head + 1) * QUERY // HEADS)
                own = slice(head * ANNOTATION // HEADS, (head + 1) * ANNOTATION // HEADS)
                share = torch.stack([score(attention, query, key, part) for key in keys]).softmax(0)
                shares.append(share)
                parts.append(share @ values[:, own])
            torch.testing.assert_close(contexts[sentence, number], torch.cat(parts))
            torch.testing.assert_close(weights[sentence, number, : len(read)], torch.stack(shares).mean(0))
            assert (weights[sentence, number, len(read) :] == 0).all()


def test_products_of_queries_and_annotations_are_the_scores() -> None:
    torch.manual_seed(0)
    queries, annotations = torch.randn(SENTENCES, QUERIES, QUERY), torch.randn(SENTENCES, STEPS, QUERY)
    dot, general = DotAttention(QUERY, QUERY), GeneralAttention(QUERY, QUERY)
    for attention, keys in ((dot, annotations), (general, annotations @ general.key.weight.T)):
        contexts, weights = attention(queries, attention.remember(annotations, IS_TOKEN))
        for sentence in range(SENTENCES):
            read = IS_TOKEN[sentence]
            for number, query in enumerate(queries[sentence]):
                share = torch.stack([query @ key for key in keys[sentence, read]]).softmax(0)
                torch.testing.assert_close(weights[sentence, number, read], share)
                torch.testing.assert_close(contexts[sentence, number], share @ annotations[sentence, read])


def test_one_additive_head_is_additive_attention_of_projected_values() -> None:
    queries, annotations = draw()
    several, single = MultiHeadAdditiveAttention(QUERY, ANNOTATION, 1), AdditiveAttention(QUERY, ANNOTATION)
    single.load_state_dict({key: weight for key, weight in several.state_dict().items() if key != "value.weight"})
    contexts, weights = several(queries, several.remember(annotations, IS_TOKEN))
    expected, same = single(queries, single.remember(annotations, IS_TOKEN))
    torch.testing.assert_close(weights, same)
    torch.testing.assert_close(contexts, several.value(expected))
