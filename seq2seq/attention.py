"""Attention: which annotations of the source a decoder step reads.

    weights = softmax(score(query, keys));   context = weights @ values

The kinds differ in `score` alone. What depends on the source only (the keys) is computed once per sentence and passed
back in as a `Memory`; nothing is stored on a module. Queries come many per sentence: all steps of a target in training,
all hypotheses of a beam in search.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Memory(NamedTuple):
    """What an attention reads: one row per sentence.

    Shapes: keys `[sentences, steps, key]`, values `[sentences, steps, value]`, is_token `[sentences, steps]` (False at
    padding).
    """

    keys: Tensor
    values: Tensor
    is_token: Tensor

    def select(self, sentences: Tensor) -> Memory:
        """The memory of the given rows, which may repeat."""
        return Memory(*(part.index_select(0, sentences) for part in self))


Attended = tuple[Float[Tensor, "sentences queries value"], Float[Tensor, "sentences queries steps"]]
"""Contexts and attention weights."""


def weigh(
    scores: Float[Tensor, "sentences *queries steps"], is_token: Bool[Tensor, "sentences steps"]
) -> Float[Tensor, "sentences *queries steps"]:
    """Softmax over the source steps that are tokens; padding gets exactly 0."""
    mask = is_token.reshape(len(is_token), *[1] * (scores.dim() - 2), is_token.shape[-1])
    return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


class DotAttention(nn.Module):
    """Attention by the product of query and annotation.

        score(q, a) = q . a

    Args:
        query_size: features of a query, a decoder output.
        annotation_size: features of an annotation; the same number.

    Reference:
        Luong, Pham & Manning (2015), arXiv:1508.04025.
    """

    def __init__(self, query_size: int, annotation_size: int) -> None:
        super().__init__()
        assert query_size == annotation_size, "ModelConfig checks this"

    def remember(self, annotations: Float[Tensor, "b s value"], is_token: Bool[Tensor, "b s"]) -> Memory:
        return Memory(annotations, annotations, is_token)

    def forward(self, queries: Float[Tensor, "sentences queries query"], memory: Memory) -> Attended:
        weights = weigh(queries @ memory.keys.transpose(1, 2), memory.is_token)
        return weights @ memory.values, weights


class GeneralAttention(nn.Module):
    """Attention by the product of query and annotation, with weights in between.

        score(q, a) = q . W a

    Args:
        query_size: features of a query, a decoder output.
        annotation_size: features of an annotation.

    Reference:
        Luong, Pham & Manning (2015), arXiv:1508.04025.
    """

    def __init__(self, query_size: int, annotation_size: int) -> None:
        super().__init__()
        self.key = nn.Linear(annotation_size, query_size, bias=False)

    def remember(self, annotations: Float[Tensor, "b s value"], is_token: Bool[Tensor, "b s"]) -> Memory:
        return Memory(self.key(annotations), annotations, is_token)

    def forward(self, queries: Float[Tensor, "sentences queries query"], memory: Memory) -> Attended:
        weights = weigh(queries @ memory.keys.transpose(1, 2), memory.is_token)
        return weights @ memory.values, weights


class AdditiveAttention(nn.Module):
    """Attention by a network with one hidden layer.

        score(q, a) = v . tanh(W q + U a + b)

    Args:
        query_size: features of a query, a decoder output; the hidden layer has as many.
        annotation_size: features of an annotation.

    Reference:
        Bahdanau, Cho & Bengio (2015), arXiv:1409.0473.

    Note:
        The query is the decoder's newest output (the paper's is the state before it), and b is added.
        Takes memory for queries x steps x query_size numbers, where the others take queries x steps.
    """

    def __init__(self, query_size: int, annotation_size: int) -> None:
        super().__init__()
        self.query = nn.Linear(query_size, query_size, bias=False)
        self.key = nn.Linear(annotation_size, query_size)
        self.score = nn.Linear(query_size, 1, bias=False)

    def remember(self, annotations: Float[Tensor, "b s value"], is_token: Bool[Tensor, "b s"]) -> Memory:
        return Memory(self.key(annotations), annotations, is_token)

    def forward(self, queries: Float[Tensor, "sentences queries query"], memory: Memory) -> Attended:
        # [sentences, queries, steps, query]
        energies = (self.query(queries).unsqueeze(2) + memory.keys.unsqueeze(1)).tanh()
        weights = weigh(self.score(energies).squeeze(-1), memory.is_token)
        return weights @ memory.values, weights


class MultiHeadAttention(nn.Module):
    """Several scaled dot-product attentions side by side, each over its own projection; weights are their mean.

        score(q, a) = W q . U a / sqrt(size of a part), with a part of W q and U a for each head

    Args:
        query_size: features of a query, a decoder output.
        annotation_size: features of an annotation.
        heads: how many attentions; must divide both sizes.

    Reference:
        Vaswani et al. (2017), arXiv:1706.03762; in a recurrent decoder: Chen et al. (2018), arXiv:1804.09849.

    Note:
        Vaswani et al.'s projection of the joined heads is left out: what reads the contexts has weights of its own for
        them.
    """

    def __init__(self, query_size: int, annotation_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(query_size, query_size, bias=False)
        self.key = nn.Linear(annotation_size, query_size, bias=False)
        self.value = nn.Linear(annotation_size, annotation_size, bias=False)

    def remember(self, annotations: Float[Tensor, "b s value"], is_token: Bool[Tensor, "b s"]) -> Memory:
        return Memory(self.key(annotations), self.value(annotations), is_token)

    def forward(self, queries: Float[Tensor, "sentences queries query"], memory: Memory) -> Attended:
        # [sentences, heads, queries, query / heads]
        query = split_heads(self.query(queries), self.heads)
        # [sentences, heads, steps, query / heads] and [sentences, heads, steps, value / heads]
        key, value = split_heads(memory.keys, self.heads), split_heads(memory.values, self.heads)
        # [sentences, heads, queries, steps]
        weights = weigh(query @ key.transpose(2, 3) / math.sqrt(query.shape[-1]), memory.is_token)
        # [sentences, heads, queries, value / heads] -> [sentences, queries, value]
        contexts = (weights @ value).transpose(1, 2).flatten(2)
        return contexts, weights.mean(dim=1)


class MultiHeadAdditiveAttention(nn.Module):
    """Several additive attentions side by side, each over its own projection; weights are their mean.

        score(q, a) = v . tanh(W q + U a + b), with a part of v and of the hidden layer for each head

    Args:
        query_size: features of a query, a decoder output; the hidden layer has as many.
        annotation_size: features of an annotation.
        heads: how many attentions; must divide both sizes.

    Reference:
        Chen et al. (2018), arXiv:1804.09849: what RNMT+ reads its source with.

    Note:
        Takes memory for queries x steps x query_size numbers, as `AdditiveAttention` does.
    """

    def __init__(self, query_size: int, annotation_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(query_size, query_size, bias=False)
        self.key = nn.Linear(annotation_size, query_size)
        self.value = nn.Linear(annotation_size, annotation_size, bias=False)
        self.score = nn.Linear(query_size, 1, bias=False)

    def remember(self, annotations: Float[Tensor, "b s value"], is_token: Bool[Tensor, "b s"]) -> Memory:
        return Memory(self.key(annotations), self.value(annotations), is_token)

    def forward(self, queries: Float[Tensor, "sentences queries query"], memory: Memory) -> Attended:
        # [sentences, queries, steps, query]
        energies = (self.query(queries).unsqueeze(2) + memory.keys.unsqueeze(1)).tanh()
        # One product for all heads: in column h of [query, heads] stand the weights of head h's part, and zeros.
        columns = torch.block_diag(*self.score.weight.view(self.heads, -1).split(1)).T
        # [sentences, queries, steps, heads] -> [sentences, heads, queries, steps]
        weights = weigh((energies @ columns).permute(0, 3, 1, 2), memory.is_token)
        # [sentences, heads, queries, value / heads] -> [sentences, queries, value]
        contexts = (weights @ split_heads(memory.values, self.heads)).transpose(1, 2).flatten(2)
        return contexts, weights.mean(dim=1)


def split_heads(
    features: Float[Tensor, "sentences rows size"], heads: int
) -> Float[Tensor, "sentences {heads} rows part"]:
    """Deal the features out to the heads."""
    parts: Tensor = features.unflatten(-1, (heads, -1))
    return parts.transpose(1, 2)


Attention = DotAttention | GeneralAttention | AdditiveAttention | MultiHeadAttention | MultiHeadAdditiveAttention


def build_attention(kind: str, query_size: int, annotation_size: int, heads: int) -> Attention:
    """The attention that `ModelConfig.attention` names.

    Args:
        kind: that name; any but `none`.
        query_size: features of a decoder output.
        annotation_size: features of an annotation.
        heads: used by the two `multi_head` kinds alone.
    """
    if kind == "multi_head":
        return MultiHeadAttention(query_size, annotation_size, heads)
    if kind == "multi_head_additive":
        return MultiHeadAdditiveAttention(query_size, annotation_size, heads)
    kinds: dict[str, Callable[[int, int], Attention]] = {
        "dot": DotAttention,
        "general": GeneralAttention,
        "additive": AdditiveAttention,
    }
    return kinds[kind](query_size, annotation_size)
