"""How translations are searched for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seq2seq.config.base import BOS_ID, EOS_ID, PAD_ID, Config, Size, refuse_idle


class SearchConfig(Config):
    """How translations are searched for. Lengths are in target tokens and do not count `<E>`; scores are in nats.

    A hypothesis' score, by which `n_best` are chosen, is its log-probability divided by the length penalty, plus
    `word_reward` for every token, plus the coverage penalty, which is at most 0.
    """

    beam_size: Size = 5
    """Hypotheses kept at every step; 1 is greedy. Sampling keeps its `samples` instead."""
    n_best: Size = 1
    length_penalty: Literal["none", "average", "gnmt"] = "average"
    """Divides a hypothesis' log-probability by: 1, length^alpha, or ((5 + length) / 6)^alpha (Wu et al. 2016)."""
    alpha: Annotated[float, Field(ge=0)] = 1.0
    word_reward: Annotated[float, Field(ge=0)] = 0.0
    """Added to the score for every token; usual with length_penalty='none' (He et al. 2016)."""
    coverage_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Times the sum over the source tokens of log(min(attention it has had, 1)); 0: none (Wu et al. 2016). The model
    needs attention."""
    patience: Annotated[float, Field(gt=0)] | None = None
    """A sentence is done once `patience` times `beam_size` hypotheses have finished (Kasai et al. 2022); `None`: once
    no other one could win, which is exact."""
    min_length: Annotated[int, Field(ge=0)] = 0
    max_length: Size = 256
    min_length_ratio: Annotated[float, Field(ge=0)] = 0.0
    max_length_ratio: Annotated[float, Field(gt=0)] | None = 3.0
    """Limits as multiples of the source length, plus `max_length_margin` for the upper one; `None`: no such limit.
    Where they contradict, the lower limits rule over the upper ratio, and `max_length` over all."""
    max_length_margin: Annotated[int, Field(ge=0)] = 10
    no_repeat_ngram: Annotated[int, Field(ge=0)] = 0
    """No sequence of so many tokens occurs twice in a translation, but for the complete words of a prefix; 0: they
    may."""
    forbidden_tokens: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Ids that are never chosen; the complete words of a prefix may still have them."""
    forbid_unk: bool = False
    """The same for `<unk>`."""
    beam_groups: Size = 1
    """Divide the beam into so many groups, each steered away from the tokens that those before it choose; `n_best` are
    taken evenly from all of them, and are fewer where several groups say the same (Vijayakumar et al. 2018)."""
    diversity: Annotated[float, Field(ge=0)] = 0.5
    """Of several `beam_groups`: what a token loses in the ranking for each time that an earlier group chose it."""
    shortlist: Size | None = None
    """Translate with few tokens: so many likely ones for each source token, and those that may always be said, by the
    lexicon of the model folder. `None`: with the whole vocabulary."""
    samples: Annotated[int, Field(ge=0)] = 0
    """Translations drawn from the model's distribution for every sentence, all of which are returned, in the order
    drawn; 0: search for the best ones."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of sampling: log-probabilities are divided by it."""
    top_k: Size | None = None
    """Of sampling: only so many most probable tokens are drawn from."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of sampling: only the fewest most probable tokens that have this probability together, after `temperature` and
    `top_k`, are drawn from (Holtzman et al. 2020)."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of sampling: the same seed and sentence give the same samples in any batch."""

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.min_length > self.max_length:
            raise ValueError(f"min_length must be at most max_length, got {self.min_length} and {self.max_length}")
        if self.max_length_ratio is not None and self.min_length_ratio > self.max_length_ratio:
            raise ValueError(
                "min_length_ratio must be at most max_length_ratio, "
                f"got {self.min_length_ratio} and {self.max_length_ratio}"
            )
        for token in self.forbidden_tokens:
            if token in (PAD_ID, BOS_ID, EOS_ID):
                raise ValueError(
                    f"forbidden_tokens must be tokens of text, got {token}; <pad> and <S> never appear, <E> must"
                )
        idle = {
            "alpha": (self.length_penalty == "none", "length_penalty 'average' or 'gnmt'"),
            "diversity": (self.beam_groups == 1, "beam_groups of at least 2"),
            "seed": (self.samples == 0, "samples"),
            "max_length_margin": (self.max_length_ratio is None, "max_length_ratio"),
        }
        refuse_idle(self, idle)
        if self.samples:
            self._check_sampling()
        else:
            self._check_beam()
        return self

    def _check_beam(self) -> None:
        if self.n_best > self.beam_size:
            raise ValueError(
                f"n_best must be at most beam_size, got {self.n_best} and {self.beam_size}; widen the beam"
            )
        if self.beam_size % self.beam_groups:
            raise ValueError(
                f"beam_groups must divide beam_size, got {self.beam_groups} and {self.beam_size}; "
                f"use beam_size={self.beam_size + -self.beam_size % self.beam_groups}"
            )
        if self.patience is not None and self.beam_groups > 1:
            raise ValueError(
                "a group that lost its patience would no longer steer the others, "
                f"got patience={self.patience} and beam_groups={self.beam_groups}; leave one out"
            )
        if self.patience is not None and self.patience * self.beam_size < self.n_best:
            raise ValueError(
                "patience times beam_size must be at least n_best, "
                f"got {self.patience} times {self.beam_size} and {self.n_best}; raise patience"
            )
        of_sampling = {"temperature": self.temperature != 1, "top_k": self.top_k, "top_p": self.top_p}
        for name, is_set in of_sampling.items():
            if is_set:
                raise ValueError(
                    f"{name} is for sampling, got {name}={getattr(self, name)} and samples=0; "
                    "give samples, or leave it out"
                )

    def _check_sampling(self) -> None:
        of_beam = {
            "n_best": self.n_best > 1,
            "patience": self.patience is not None,
            "coverage_penalty": self.coverage_penalty,
            "beam_groups": self.beam_groups > 1,
        }
        if self.shortlist is not None:
            raise ValueError(
                "samples are drawn from the whole vocabulary, as the model has learnt it, "
                f"got shortlist={self.shortlist} and samples={self.samples}; leave one out, or use top_k"
            )
        for name, is_set in of_beam.items():
            if is_set:
                raise ValueError(
                    f"{name} chooses among a beam's hypotheses and samples are all returned, "
                    f"got {name}={getattr(self, name)} and samples={self.samples}; leave one out"
                )
