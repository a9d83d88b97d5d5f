"""What a search is asked for, and what a beam search has so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.constraints import Constraints, has_phrases
from seq2seq.search.hypothesis import State, attention_of
from seq2seq.search.lengths import Limits, length_limits
from seq2seq.search.penalties import coverage_score
from seq2seq.search.rules import Phrase, Rules


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of each sentence."""

    source_lengths: Int[Tensor, "sentences"]
    limits: Limits
    rules: Rules
    constraints: Constraints | None

    @classmethod
    def of(
        cls,
        source_lengths: Int[Tensor, "sentences"],
        config: SearchConfig,
        prefixes: Sequence[Phrase] | None,
        constraints: Sequence[Sequence[Phrase]] | None,
        room: Sequence[int] | None,
    ) -> Task:
        """What the arguments of a search say.

        Raises:
            ConfigError: if a prefix or constraint has what is not text, or cannot be met for the rules.
        """
        demands = list(room or [0] * len(source_lengths))
        if prefixes is not None:
            demands = [demand + len(prefix) for demand, prefix in zip(demands, prefixes, strict=True)]
        if constraints is not None:
            demands = [demand + sum(map(len, each)) for demand, each in zip(demands, constraints, strict=True)]
        device = source_lengths.device
        return cls(
            source_lengths,
            length_limits(source_lengths, config, demands),
            Rules.of(config, prefixes, device),
            Constraints.of(config, constraints, device) if has_phrases(constraints) else None,
        )

    def select(self, sentences: Int[Tensor, "selected"]) -> Task:
        """What is asked of these sentences, which may repeat."""
        return Task(
            self.source_lengths[sentences],
            self.limits.select(sentences),
            self.rules.select(sentences),
            None if self.constraints is None else self.constraints.select(sentences),
        )


@dataclass(frozen=True, slots=True)
class Continuations:
    """Live hypotheses with one token more, in the order in which they are chosen."""

    parents: Int[Tensor, "sentences candidates"]
    """Which live hypothesis is continued: its column."""
    tokens: Int[Tensor, "sentences candidates"]
    token_log_probs: Float[Tensor, "sentences candidates"]
    log_probs: Float[Tensor, "sentences candidates"]
    """-inf where there is no candidate."""

    def first(self, count: int) -> Continuations:
        """The first `count`."""
        fields = (self.parents, self.tokens, self.token_log_probs, self.log_probs)
        return Continuations(*(field[:, :count] for field in fields))

    def select(self, sentences: Int[Tensor, "selected"]) -> Continuations:
        """Those of these sentences."""
        fields = (self.parents, self.tokens, self.token_log_probs, self.log_probs)
        return Continuations(*(field[sentences] for field in fields))

    def unended(self, count: int) -> Continuations:
        """The first `count` that do not end with `<E>`."""
        ends = self.tokens == EOS_ID
        if not ends.any():
            return self.first(count)
        columns = ends.byte().sort(dim=1, stable=True).indices[:, :count]
        fields = (self.parents, self.tokens, self.token_log_probs, self.log_probs)
        parents, tokens, token_log_probs, log_probs = (field.gather(1, columns) for field in fields)
        return Continuations(parents, tokens, token_log_probs, log_probs.where(tokens != EOS_ID, -torch.inf))


@dataclass(frozen=True, slots=True)
class Live:
    """The live hypotheses. The width starts at 1, so that no two are ever copies, grows to the beam size, and falls
    again when the last ones can no longer win.

    What only some options need is `None` without them: the tokens so far, how much attention each source token has
    had, and the progress towards each constraint.
    """

    tokens: Int[Tensor, "sentences width"]
    """The last ones."""
    log_probs: Float[Tensor, "sentences width"]
    history: Int[Tensor, "sentences width length"] | None
    coverage: Float[Tensor, "sentences width source"] | None
    progress: Int[Tensor, "sentences width phrases"] | None

    @classmethod
    def start(cls, task: Task) -> Live:
        """One empty hypothesis for each sentence."""
        shape = (len(task.source_lengths), 1)
        device = task.source_lengths.device
        return cls(
            torch.full(shape, BOS_ID, device=device),
            torch.zeros(shape, device=device),
            torch.zeros(*shape, 0, dtype=torch.long, device=device) if task.rules.no_repeat else None,
            None,
            None if task.constraints is None else task.constraints.start(),
        )

    def attending(self, state: State, config: SearchConfig) -> Live:
        """After a step that led to `state`."""
        if not config.coverage_penalty:
            return self
        attention = attention_of(state)
        if attention is None:
            raise ConfigError(
                f"coverage_penalty needs a model with attention, got {config.coverage_penalty} and one without; "
                "set it to 0"
            )
        attention = attention.float().view(*self.tokens.shape, -1)
        return replace(self, coverage=attention if self.coverage is None else self.coverage + attention)

    def coverage_scores(self, task: Task, config: SearchConfig) -> Float[Tensor, "sentences width"] | None:
        """What is added to the score of the continuations of each hypothesis, if anything is."""
        return None if self.coverage is None else coverage_score(self.coverage, task.source_lengths, config)

    def follow(self, sentences: Int[Tensor, "selected"], chosen: Continuations, task: Task) -> Live:
        """The hypotheses of these sentences, with the chosen tokens; `chosen` and `task` are of these alone."""
        history, coverage, progress = (
            None if memory is None else memory[sentences[:, None], chosen.parents]
            for memory in (self.history, self.coverage, self.progress)
        )
        if history is not None:
            history = torch.cat([history, chosen.tokens[:, :, None]], dim=-1)
        if progress is not None and task.constraints is not None:
            progress = task.constraints.advance(progress, chosen.tokens)
        return Live(chosen.tokens, chosen.log_probs, history, coverage, progress)
