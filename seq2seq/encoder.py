"""The encoder: source tokens to annotations and a final state."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.config import PAD_ID, ModelConfig
from seq2seq.recurrence import Recurrence, StackState, drop_features


class Encoded(NamedTuple):
    """A batch of source sentences, read.

    Attributes:
        annotations: `[batch, steps, annotation]`, 0 at padding.
        is_token: `[batch, steps]`, False at padding.
        state: the final state of every layer, each part `[batch, annotation]`.
    """

    annotations: Tensor
    is_token: Tensor
    state: StackState


class ScaledEmbedding(nn.Embedding):
    """Embeddings times the square root of their size: as inputs they then have the variance that gates want, as rows
    of a tied output layer that of a linear map (Vaswani et al. 2017, arXiv:1706.03762, section 3.4).

    Args:
        words: how many embeddings.
        size: features of each.
        word_dropout: probability of zeroing a whole embedding in training; the others are scaled up in return.

    Reference:
        Word dropout: Gal & Ghahramani (2016), arXiv:1512.05287; each place on its own and not each word type, as in
        Sennrich, Haddow & Birch (2016), arXiv:1606.02891, and Sennrich & Zhang (2019), arXiv:1905.11901.
    """

    def __init__(self, words: int, size: int, word_dropout: float = 0.0) -> None:
        super().__init__(words, size, padding_idx=PAD_ID)
        self.word_dropout = word_dropout

    def forward(self, tokens: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows embedding"]:
        embedded = super().forward(tokens) * math.sqrt(self.embedding_dim)
        if not self.training or self.word_dropout == 0.0:
            return embedded
        return embedded * F.dropout(embedded.new_ones(*tokens.shape, 1), self.word_dropout)


class Encoder(nn.Module):
    """Embedding and a multilayer, uni- or bidirectional recurrence.

    Args:
        config: that of the model.

    Reference:
        Two directions: Schuster & Paliwal (1997), "Bidirectional recurrent neural networks"; as annotations: Bahdanau,
        Cho & Bengio (2015), arXiv:1409.0473.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embedding = ScaledEmbedding(
            config.source_vocabulary_size, config.embedding_size, config.source_word_dropout
        )
        self.recurrence = Recurrence(
            config.embedding_size,
            config.encoder_hidden_size,
            config.encoder_layers,
            dropout=config.hidden_dropout,
            bidirectional=config.bidirectional,
            config=config,
            residual_from=config.residual_from,
        )
        self.config = config

    def forward(self, source: Int[Tensor, "batch steps"], lengths: Int[Tensor, "batch"]) -> Encoded:
        """Read the source.

        Args:
            source: token ids; each row ends with `<E>` and is filled up with `<pad>`.
            lengths: tokens of each row, `<E>` included.
        """
        if self.config.reverse_source:
            source = reverse_rows(source, lengths)
        one_mask = self.config.variational_dropout
        embedded = drop_features(self.embedding(source), self.config.embedding_dropout, self.training, one_mask)
        annotations, state = self.recurrence.forward_lengths(embedded, lengths)
        annotations = drop_features(annotations, self.config.hidden_dropout, self.training, one_mask)
        steps = torch.arange(source.shape[1], device=source.device)
        return Encoded(annotations, steps < lengths.unsqueeze(1), state)


def reversed_positions(lengths: Int[Tensor, "batch"], steps: int) -> Int[Tensor, "batch steps"]:
    """Where each step of a reversed row comes from; the last token (`<E>`) and the padding stay in place."""
    position = torch.arange(steps, device=lengths.device).expand(len(lengths), steps)
    mirrored = lengths.unsqueeze(1) - 2 - position
    return torch.where(mirrored >= 0, mirrored, position)


def reverse_rows(source: Int[Tensor, "batch steps"], lengths: Int[Tensor, "batch"]) -> Int[Tensor, "batch steps"]:
    """Each row's tokens backwards (Sutskever et al. 2014, arXiv:1409.3215), `<E>` last as before."""
    return source.gather(1, reversed_positions(lengths, source.shape[1]))
