"""Phrases that an output must contain, and how far a hypothesis has come with each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.rules import Phrase, check_text


def has_phrases(constraints: Sequence[Sequence[Phrase]] | None) -> TypeGuard[Sequence[Sequence[Phrase]]]:
    """Whether there is anything that an output has to contain."""
    return constraints is not None and any(len(phrase) for each in constraints for phrase in each)


def check_constrained(config: SearchConfig) -> None:
    """Refuse a search that cannot be made to contain phrases.

    Raises:
        ConfigError: with the reason.
    """
    if config.samples:
        raise ConfigError(
            f"constraints need a beam, got them and samples={config.samples}; set samples to 0 or leave them out"
        )
    if config.no_repeat_ngram:
        raise ConfigError(
            "constraints may ask for what no_repeat_ngram forbids, "
            f"got both and no_repeat_ngram={config.no_repeat_ngram}; set it to 0"
        )
    if config.beam_groups > 1:
        raise ConfigError(
            f"constraints and groups both divide the beam, got both and beam_groups={config.beam_groups}; set it to 1"
        )


@dataclass(frozen=True, slots=True)
class Constraints:
    """The phrases of every sentence. An output has to contain each one somewhere; phrases may overlap.

    Progress with a phrase is the length of its longest beginning that the hypothesis ends with, and stays at the whole
    length once the phrase is there: the state of the automaton of Knuth, Morris & Pratt (1977).

    Attributes:
        phrases: padded with -1, in length and in number.
        lengths: of the phrases, in tokens; 0 where there is none.
        restarts: whether the phrase's first `beginning` tokens are also the last of its first `progress` ones, so that
            a hypothesis which does not go on with the phrase has perhaps begun it anew.
    """

    phrases: Int[Tensor, "sentences phrases longest"]
    lengths: Int[Tensor, "sentences phrases"]
    restarts: Bool[Tensor, "sentences phrases progress beginning"]

    @classmethod
    def of(cls, config: SearchConfig, constraints: Sequence[Sequence[Phrase]], device: torch.device) -> Constraints:
        """The phrases of every sentence, each once, at least one in all; empty ones are left out.

        Raises:
            ConfigError: if a phrase has what is not text, or what the configuration forbids; see `check_constrained`.
        """
        check_constrained(config)
        distinct = [list(dict.fromkeys(tuple(phrase) for phrase in each if len(phrase))) for each in constraints]
        for phrase in (phrase for each in distinct for phrase in each):
            check_text(phrase, "a constraint")
            for token in config.forbidden.intersection(phrase):
                raise ConfigError(
                    f"a constraint must have no forbidden token, got id {token}; allow it or leave it out"
                )
        number = max(map(len, distinct))
        longest = max(len(phrase) for each in distinct for phrase in each)
        phrases = torch.full((len(distinct), number, longest), -1)
        restarts = torch.zeros(len(distinct), number, longest + 1, longest, dtype=torch.bool)
        for sentence, each in enumerate(distinct):
            for column, phrase in enumerate(each):
                phrases[sentence, column, : len(phrase)] = torch.tensor(phrase)
                for progress in range(len(phrase)):
                    for beginning in range(progress + 1):
                        is_end = phrase[:beginning] == phrase[progress - beginning : progress]
                        restarts[sentence, column, progress, beginning] = is_end
        return cls(phrases.to(device), (phrases >= 0).sum(dim=2).to(device), restarts.to(device))

    def select(self, sentences: Int[Tensor, "selected"]) -> Constraints:
        """The constraints of these sentences."""
        return Constraints(self.phrases[sentences], self.lengths[sentences], self.restarts[sentences])

    def start(self) -> Int[Tensor, "sentences 1 phrases"]:
        """The progress of an empty hypothesis."""
        return torch.zeros_like(self.lengths)[:, None]

    def advance(
        self, progress: Int[Tensor, "sentences width phrases"], tokens: Int[Tensor, "sentences width"]
    ) -> Int[Tensor, "sentences width phrases"]:
        """The progress of hypotheses after one token more."""
        goes_on = self.possible(progress) & (self.phrases[:, None] == tokens[:, :, None, None])
        beginnings = torch.arange(1, self.phrases.shape[2] + 1, device=tokens.device)
        return progress.where(progress == self.lengths[:, None], (goes_on * beginnings).amax(dim=-1))

    def possible(
        self, progress: Int[Tensor, "sentences width phrases"]
    ) -> Bool[Tensor, "sentences width phrases beginning"]:
        """The beginnings that each hypothesis ends with: their next tokens lead on."""
        sentences, _, number = progress.shape
        sentence = torch.arange(sentences, device=progress.device)[:, None, None]
        phrase = torch.arange(number, device=progress.device)
        return self.restarts[sentence, phrase, progress] & (progress < self.lengths[:, None])[..., None]

    def is_met(self, progress: Int[Tensor, "sentences width phrases"]) -> Bool[Tensor, "sentences width"]:
        """Whether a hypothesis has every phrase."""
        return (progress == self.lengths[:, None]).all(dim=-1)

    def tokens_met(self, progress: Int[Tensor, "sentences width phrases"]) -> Int[Tensor, "sentences width"]:
        """How many tokens of the constraints a hypothesis has: those of the phrases that are there, and of the one
        that it is in, the furthest if there are several. So the right token always brings it one further."""
        is_there = progress == self.lengths[:, None]
        return progress.where(is_there, 0).sum(dim=-1) + progress.where(~is_there, 0).amax(dim=-1)
