"""How translations are searched for."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from seq2seq.config.base import BOS_ID, EOS_ID, PAD_ID, UNK_ID, Config, Count, Size, Weight, refuse_idle


class SearchConfig(Config):
    """How translations are searched for. Lengths are in tokens and do not count `<E>`; scores are in nats.

    A hypothesis' score, by which `n_best` are chosen, is its log-probability divided by the length penalty, plus
    `word_reward` for every token, plus `coverage_penalty` times a coverage term that is at most 0.
    """

    beam_size: Size = 5
    """Hypotheses kept at every step; 1 is greedy. Sampling keeps its `samples` instead and takes no other than the
    default."""
    n_best: Size = 1
    """Translations that a beam returns for a sentence, best first; fewer where it finds fewer."""
    length_penalty: Literal["none", "average", "gnmt"] = "average"
    """What divides a hypothesis' log-probability: 1, length^alpha, or ((5 + length) / 6)^alpha (Wu et al. 2016)."""
    alpha: Annotated[float, Field(ge=0, le=10)] = 0.6
    """The exponent of `length_penalty`: a larger one favours longer translations; 1 with `average` is the mean."""
    word_reward: Weight = 0.0
    """Added to the score for every token; usual with length_penalty='none' (He et al. 2016)."""
    coverage_penalty: Weight = 0.0
    """Weight of the coverage term: the sum over the source tokens, without `<E>`, of log(min(attention received, 1))
    (Wu et al. 2016). 0: none. Needs a model with attention."""
    patience: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """A sentence is done once `patience` times `beam_size` hypotheses have finished (Kasai et al. 2022); `None`: once
    no other one could win, which is exact. Needs a beam of at least 2."""
    min_length: Count = 0
    """The fewest tokens of a translation."""
    max_length: Size = 256
    """The most tokens of a translation. It rules over all other limits; only what a translation must have, by a prefix
    or constraints, always fits, and a prefix's last word in as many tokens as it may take."""
    min_length_ratio: Weight = 0.0
    """The fewest tokens as a multiple of the source's, rounded up; rules over `max_length_ratio`, as `min_length`
    does."""
    max_length_ratio: Annotated[float, Field(gt=0, le=1e6)] | None = 3.0
    """The most tokens as a multiple of the source's, rounded up, plus `max_length_margin`; `None`: no such limit."""
    max_length_margin: Count = 10
    """Tokens that `max_length_ratio` allows besides, for short sources."""
    no_repeat_ngram: Count = 0
    """No sequence of this many tokens occurs twice in a translation; the complete words of a prefix are exempt. 0: no
    such rule."""
    forbidden_tokens: tuple[Count, ...] = ()
    """Ids that are never chosen; the complete words of a prefix may still have them."""
    forbid_unk: bool = False
    """`<unk>` is never chosen, as if it were among the `forbidden_tokens`."""
    beam_groups: Size = 1
    """Divide the beam into this many groups, each steered away from the tokens that those before it choose; `n_best`
    are taken evenly from all of them, and are fewer where several groups say the same (Vijayakumar et al. 2018)."""
    diversity: Weight = 0.5
    """With several `beam_groups`: subtracted, in ranking, from a token's log-probability for each hypothesis of an
    earlier group that chose it at this step."""
    shortlist: Size | None = None
    """Choose among few tokens: for every source token this many candidates of the model folder's lexicon, and its
    always-allowed tokens. `None`: among the whole vocabulary."""
    samples: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Translations drawn from the model's distribution for every sentence, all of which are returned, in the order
    drawn; 0: search for the best ones."""
    temperature: Annotated[float, Field(ge=1e-6, le=1e6)] = 1.0
    """Sampling divides log-probabilities by it: below 1 the probable tokens are drawn more often, above 1 less."""
    top_k: Size | None = None
    """Sampling draws from this many most probable tokens alone; `None`: from all."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sampling draws from the fewest most probable tokens alone that have this probability together, after
    `temperature` and `top_k` (Holtzman et al. 2020); `None`: from all."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """The same seed and sentence give the same samples in any batch."""

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.min_length > self.max_length:
            raise ValueError(
                f"min_length must be at most max_length, got {self.min_length} and {self.max_length}; raise max_length"
            )
        if self.max_length_ratio is not None and self.min_length_ratio > self.max_length_ratio:
            raise ValueError(
                "min_length_ratio must be at most max_length_ratio, "
                f"got {self.min_length_ratio} and {self.max_length_ratio}; raise max_length_ratio"
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

    @property
    def forbidden(self) -> frozenset[int]:
        """The ids that are never chosen: `forbidden_tokens`, and that of `<unk>` with `forbid_unk`."""
        return frozenset(self.forbidden_tokens) | ({UNK_ID} if self.forbid_unk else set())

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
        if self.patience is not None and self.beam_size == 1:
            raise ValueError(
                "a beam of 1 ends with the first hypothesis that has finished, "
                f"got patience={self.patience} and beam_size=1; widen the beam, or leave patience out"
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
            "beam_size": self.beam_size != type(self).model_fields["beam_size"].default,
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
