"""Which tokens the translations of a batch are chosen from: all, or short lists of likely ones.

Every sentence has a list of its own, which depends on nothing but the sentence: the candidates of its tokens, what may
always be said, and what is demanded of it. A batch multiplies by the output weights of all tokens on any of its lists,
gathered once; what is not on a sentence's own list gets a bias of minus infinity. So a sentence is translated alike
alone and in any company.

Probabilities stay those of the whole vocabulary as nearly as can be told without it. Normalised over a list alone, a
hypothesis would be rewarded for wanting to go on with what is not on the list; see `Tail`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seq2seq.config import FIRST_FREE_ID, PAD_ID, SearchConfig
from seq2seq.decoder import DecoderState
from seq2seq.model import Seq2Seq, log_softmax
from seq2seq.search import Hypothesis, Step
from seq2seq.search.rules import check_vocabulary


@dataclass(frozen=True)
class Choice:
    """The tokens that a batch may say. A search over them numbers them 0, 1, 2, ...: these are their local ids.

    Attributes:
        ids: of the tokens, ascending; the special ones are always there, so that they keep their ids.
        allowed: which of them each sentence's translation may have; `None`: all, and local ids are ids.
        vocabulary_size: how many tokens there are to choose from.
    """

    ids: Int[Tensor, "choice"]
    allowed: Bool[Tensor, "sentences choice"] | None
    vocabulary_size: int

    @classmethod
    def of_all(cls, vocabulary_size: int, device: torch.device) -> Choice:
        """The whole vocabulary, by its ids."""
        return cls(torch.arange(vocabulary_size, device=device), None, vocabulary_size)

    @classmethod
    def of(cls, allowed: Bool[Tensor, "sentences vocabulary"], device: torch.device) -> Choice:
        """What each sentence's list has."""
        allowed = allowed.index_fill(1, torch.tensor([PAD_ID]), False)
        is_there = allowed.any(dim=0)
        is_there[:FIRST_FREE_ID] = True
        (ids,) = is_there.nonzero(as_tuple=True)
        return cls(ids.to(device), allowed[:, ids].to(device), allowed.shape[1])

    @cached_property
    def local_ids(self) -> Int[Tensor, "vocabulary"]:
        """The local id of each token of the vocabulary; -1: it has none."""
        local_ids = self.ids.new_full((self.vocabulary_size,), -1)
        local_ids[self.ids] = torch.arange(len(self.ids), device=self.ids.device)
        return local_ids

    def to_local(self, ids: Iterable[int]) -> tuple[int, ...]:
        """The local ids of these tokens; those without one are left out."""
        if self.allowed is None:
            return tuple(ids)
        local_ids = self.local_ids[torch.tensor(list(ids), dtype=torch.long, device=self.ids.device)]
        return tuple(local_ids[local_ids >= 0].tolist())

    def to_local_config(self, config: SearchConfig) -> SearchConfig:
        """The configuration of a search over the local ids.

        Raises:
            ConfigError: if it forbids what is no token.
        """
        if self.allowed is None:
            return config
        check_vocabulary(torch.tensor(config.forbidden_tokens).long(), self.vocabulary_size, "forbidden_tokens")
        forbidden = self.to_local(config.forbidden_tokens)
        return config.model_copy(update={"shortlist": None, "forbidden_tokens": forbidden})

    def to_vocabulary(self, found: Sequence[Sequence[Hypothesis]]) -> list[list[Hypothesis]]:
        """What a search has found, with ids for local ids."""
        if self.allowed is None:
            return [list(one) for one in found]
        ids = self.ids.tolist()
        return [[replace(one, tokens=[ids[local] for local in one.tokens]) for one in each] for each in found]


@dataclass(frozen=True, slots=True)
class OwnedState:
    """A decoder's state, and the sentence that each of its rows belongs to."""

    inner: DecoderState
    owners: Int[Tensor, "rows"]

    @property
    def attention(self) -> Tensor | None:
        """That of the decoder; see `State`."""
        return self.inner.attention

    def select(self, rows: Int[Tensor, "selected"]) -> OwnedState:
        return OwnedState(self.inner.select(rows), self.owners[rows])


class Tail(NamedTuple):
    """An estimate of log(sum of exp(logit)) over the tokens that are on no list, without computing their logits.

    A logit is w . features + b. Over many tokens and for the same features it is nearly normally distributed, and its
    mean and variance follow from the mean and the covariance of the tokens' (w, b). For N tokens the sum's logarithm is

        mean + log N + variance / 2        if variance < 2 log N: the sum is near its expectation
        mean + sqrt(2 variance log N)      beyond: the largest term rules it

    Attributes:
        mean: `[features + 1]`, of (w, b).
        covariance: `[features + 1, features + 1]`, of (w, b).

    Reference:
        Derrida (1981), "Random-energy model", Physical Review B 24.
    """

    mean: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, output: nn.Linear, is_rare: Bool[Tensor, "vocabulary"]) -> Tail:
        """That of an output layer for some of its tokens, at least one."""
        weights = torch.cat([output.weight, output.bias[:, None]], dim=1)[is_rare].float()
        mean = weights.mean(dim=0)
        centred = weights - mean
        return cls(mean, centred.t() @ centred / len(weights))

    def log_sum(
        self, features: Float[Tensor, "rows features"], log_count: Float[Tensor, "rows"]
    ) -> Float[Tensor, "rows"]:
        """The logarithm of the sum of exp(logit) over `exp(log_count)` of the tokens; -inf for none."""
        features = features.float()
        size = features.shape[1]
        mean = torch.addmv(self.mean[size], features, self.mean[:size])
        # The features end with a 1 for the bias.
        products = torch.addmm(2 * self.covariance[size, :size], features, self.covariance[:size, :size])
        variance = (products * features).sum(dim=1).add_(self.covariance[size, size]).clamp_(min=0)
        rule = (2 * log_count * variance).sqrt()
        return mean + torch.where(variance < 2 * log_count, log_count + variance / 2, rule).where(
            log_count > -torch.inf, -torch.inf
        )


def step_among_all(model: Seq2Seq, columns: Float[Tensor, "features vocabulary"]) -> Step[DecoderState]:
    """What `model.step` does.

    Args:
        model: the model.
        columns: the weights of its output layer.
    """

    def step(tokens: Int[Tensor, "rows"], state: DecoderState) -> tuple[Float[Tensor, "rows vocabulary"], DecoderState]:
        features, state = model.decoder.step(tokens, state)
        return log_softmax(torch.addmm(model.output.bias, model.output_features(features), columns)), state

    return step


def step_among(
    model: Seq2Seq, columns: Float[Tensor, "features vocabulary"], tail: Tail, choice: Choice
) -> Step[OwnedState]:
    """One step of a model over the local ids of a choice.

    Args:
        model: the model.
        columns: the weights of its output layer.
        tail: of the output layer.
        choice: the tokens, with a list for every sentence.
    """
    assert choice.allowed is not None
    weight = columns[:, choice.ids]
    biases = model.output.bias[choice.ids].where(choice.allowed, -torch.inf)  # [sentences, choice]
    log_counts = (choice.vocabulary_size - 1 - choice.allowed.sum(dim=1)).log()  # of what is not listed, but for <pad>

    def step(local_ids: Int[Tensor, "rows"], state: OwnedState) -> tuple[Float[Tensor, "rows choice"], OwnedState]:
        decoded, inner = model.decoder.step(choice.ids[local_ids], state.inner)
        features = model.output_features(decoded)
        logits = torch.addmm(biases.index_select(0, state.owners), features, weight).float()
        # `<pad>`, which is never said, stands for all that is on no list.
        logits[:, PAD_ID] = tail.log_sum(features, log_counts[state.owners])
        return log_softmax(logits), OwnedState(inner, state.owners)

    return step
