"""Beam search over a whole batch at once."""

import itertools
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, SearchConfig
from seq2seq.search.hypothesis import Hypothesis, StateT, Step, impossible
from seq2seq.search.lengths import Limits, length_limits, length_penalty


@torch.no_grad()
def beam_search(
    step: Step[StateT], state: StateT, source_lengths: Int[Tensor, "batch"], config: SearchConfig
) -> list[list[Hypothesis]]:
    """The `n_best` best hypotheses found for every sentence, best first; fewer where fewer exist.

    At every step the continuations of a sentence's live hypotheses, `<E>` among them, are ranked by log-probability.
    Of the first `beam_size`, those that end with `<E>` are finished; the first `beam_size` that do not end live on.
    A sentence is done when no live hypothesis, if every token to come were certain, could beat its `n_best`-th
    finished one under the length penalty: stopping early never changes the result.

    Args:
        step: see `Step`.
        state: one row per sentence; it is widened here.
        source_lengths: in tokens, not counting `<E>`.
        config: every field is used.

    Reference:
        Huang, Zhao, Ma (2017), "When to Finish? Optimal Beam Search for Neural Text Generation", arXiv:1809.00069,
        for the idea of the stopping rule.
    """
    batch, device = len(source_lengths), source_lengths.device
    if batch == 0:
        return []
    limits = length_limits(source_lengths, config)
    sentences = torch.arange(batch, device=device)  # those not yet done
    tokens = torch.full((batch, 1), BOS_ID, device=device)
    # Live hypotheses: [sentences, width]. The width grows from 1 to beam_size, so that no two are ever copies.
    log_probs = torch.zeros(batch, 1, device=device)
    finished = Finished.none(batch, config.n_best, device)
    trail = Trail([], [], [])
    for length in itertools.count():
        next_log_probs, state = step(tokens.flatten(), state)
        ranked = _rank(next_log_probs, log_probs, length, limits, config.beam_size)
        finished.add(sentences, ranked, length, config)
        live = ranked.select(*_best_unended(ranked, config.beam_size))
        trail.append(live, sentences, batch)
        best_possible = live.log_probs[:, 0] / length_penalty(limits.longest, config)
        (going_on,) = (best_possible > finished.scores[sentences, -1]).nonzero(as_tuple=True)
        if len(going_on) == 0:
            break
        state = state.select((going_on[:, None] * log_probs.shape[1] + live.parents[going_on]).flatten())
        sentences, limits = sentences[going_on], limits.select(going_on)
        tokens, log_probs = live.tokens[going_on], live.log_probs[going_on]
    return finished.hypotheses(trail)


@dataclass(frozen=True, slots=True)
class Continuations:
    """Live hypotheses with one token more, best first."""

    parents: Int[Tensor, "sentences candidates"]
    """Which live hypothesis is continued: its column."""
    tokens: Int[Tensor, "sentences candidates"]
    token_log_probs: Float[Tensor, "sentences candidates"]
    log_probs: Float[Tensor, "sentences candidates"]
    """-inf where there is no candidate."""

    def select(
        self, log_probs: Float[Tensor, "sentences chosen"], columns: Int[Tensor, "sentences chosen"]
    ) -> "Continuations":
        """These `columns`, with other `log_probs`."""
        parents, tokens, token_log_probs = (
            field.gather(1, columns) for field in (self.parents, self.tokens, self.token_log_probs)
        )
        return Continuations(parents, tokens, token_log_probs, log_probs)


def _rank(
    next_log_probs: Float[Tensor, "rows vocabulary"],
    log_probs: Float[Tensor, "sentences width"],
    length: int,
    limits: Limits,
    beam_size: int,
) -> Continuations:
    """The best allowed continuations of live hypotheses of `length` tokens; rows are sentences times width."""
    sentences, width = log_probs.shape
    # At most beam_size of 2 * beam_size candidates can be <E>, so the beam would always stay full. One candidate
    # less makes a beam of 1 that meets <E> stop, as greedy search does; a wider one loses at most its last place,
    # and only where every live hypothesis would rather end.
    needed = 2 * beam_size - 1
    # Three more, because <pad>, <S> and <E> may be among the first; <E> is treated apart.
    top, tokens = next_log_probs.topk(min(needed + 3, next_log_probs.shape[-1]), dim=-1)
    is_text = (tokens != PAD_ID) & (tokens != BOS_ID) & (tokens != EOS_ID)
    top = top.float().where(is_text, -torch.inf).view(sentences, width, -1)
    top = top.where((length < limits.longest)[:, None, None], -torch.inf)
    end = next_log_probs[:, EOS_ID].float().view(sentences, width, 1)
    end = end.where((length >= limits.shortest)[:, None, None], -torch.inf)

    token_log_probs = torch.cat([end, top], dim=-1)
    token_log_probs = token_log_probs.where(token_log_probs.isnan().logical_not(), -torch.inf)
    tokens = torch.cat([tokens.new_full((sentences, width, 1), EOS_ID), tokens.view(sentences, width, -1)], dim=-1)
    candidates = (log_probs[:, :, None] + token_log_probs).flatten(1)
    best, columns = candidates.topk(min(needed, candidates.shape[1]), dim=-1)
    return Continuations(
        parents=columns // token_log_probs.shape[-1],
        tokens=tokens.flatten(1).gather(1, columns),
        token_log_probs=token_log_probs.flatten(1).gather(1, columns),
        log_probs=best,
    )


def _best_unended(
    ranked: Continuations, beam_size: int
) -> tuple[Float[Tensor, "sentences chosen"], Int[Tensor, "sentences chosen"]]:
    """Log-probabilities and columns of the best `beam_size` candidates that do not end."""
    unended = ranked.log_probs.where(ranked.tokens != EOS_ID, -torch.inf)
    best, columns = unended.topk(min(beam_size, unended.shape[1]), dim=1)
    return best, columns


@dataclass(frozen=True, slots=True)
class Trail:
    """Every step's live hypotheses, each [batch, width]; what the finished ones are read back from."""

    parents: list[Tensor]
    tokens: list[Tensor]
    token_log_probs: list[Tensor]

    def append(self, live: Continuations, sentences: Int[Tensor, "sentences"], batch: int) -> None:
        """Remember the live hypotheses of those sentences of the batch that are not done."""
        for column, field in (
            (self.parents, live.parents),
            (self.tokens, live.tokens),
            (self.token_log_probs, live.token_log_probs),
        ):
            column.append(field.new_zeros(batch, field.shape[1]).index_copy(0, sentences, field))

    def read_back(
        self, columns: Int[Tensor, "batch n_best"], lengths: Int[Tensor, "batch n_best"]
    ) -> tuple[Int[Tensor, "batch n_best steps"], Float[Tensor, "batch n_best steps"]]:
        """Tokens and their log-probabilities of the hypotheses that stood in these `columns` when they had these
        `lengths`. What is beyond the length means nothing."""
        tokens, token_log_probs = [], []
        for length in range(len(self.tokens), 0, -1):
            # A shorter hypothesis waits in its column until the walk has come down to its length.
            is_part = lengths >= length
            column = columns.where(is_part, 0)
            tokens.append(self.tokens[length - 1].gather(1, column))
            token_log_probs.append(self.token_log_probs[length - 1].gather(1, column))
            columns = self.parents[length - 1].gather(1, column).where(is_part, columns)
        return torch.stack(tokens[::-1], dim=-1), torch.stack(token_log_probs[::-1], dim=-1)


@dataclass(slots=True)
class Finished:
    """The best finished hypotheses so far, best first."""

    scores: Float[Tensor, "batch n_best"]
    """-inf where there is none yet."""
    log_probs: Float[Tensor, "batch n_best"]
    end_log_probs: Float[Tensor, "batch n_best"]
    """The log-probability of `<E>` alone."""
    columns: Int[Tensor, "batch n_best"]
    """Where the hypothesis stood before `<E>`, when it had `lengths` tokens."""
    lengths: Int[Tensor, "batch n_best"]

    @classmethod
    def none(cls, batch: int, n_best: int, device: torch.device) -> "Finished":
        """Before the first step."""
        nothing = torch.full((batch, n_best), -torch.inf, device=device)
        nowhere = torch.zeros((batch, n_best), dtype=torch.long, device=device)
        return cls(nothing, nothing.clone(), nothing.clone(), nowhere, nowhere.clone())

    def add(
        self, sentences: Int[Tensor, "sentences"], ranked: Continuations, length: int, config: SearchConfig
    ) -> None:
        """Let in the candidates of these `sentences` that end within the beam, if they are good enough."""
        ends = ranked.tokens[:, : config.beam_size] == EOS_ID
        if not ends.any():
            return
        log_probs = ranked.log_probs[:, : config.beam_size].where(ends, -torch.inf)
        lengths = torch.full_like(log_probs, length, dtype=torch.long)
        scores = log_probs / length_penalty(lengths, config)
        n_best = self.scores.shape[1]
        # Stable, so that of equals the one found first stays in front.
        scores, order = torch.cat([self.scores[sentences], scores], dim=1).sort(dim=1, descending=True, stable=True)
        self.scores[sentences] = scores[:, :n_best]
        for field, new in (
            (self.log_probs, log_probs),
            (self.end_log_probs, ranked.token_log_probs[:, : config.beam_size]),
            (self.columns, ranked.parents[:, : config.beam_size]),
            (self.lengths, lengths),
        ):
            field[sentences] = torch.cat([field[sentences], new], dim=1).gather(1, order[:, :n_best])

    def hypotheses(self, trail: Trail) -> list[list[Hypothesis]]:
        """What was found for every sentence of the batch."""
        tokens, token_log_probs = trail.read_back(self.columns, self.lengths)
        fields = (self.scores, self.log_probs, self.end_log_probs, self.lengths, tokens, token_log_probs)
        results = []
        for sentence in zip(*(field.tolist() for field in fields), strict=True):
            results.append(
                [
                    Hypothesis(ids[:length], score, log_prob, [*log_probs[:length], end])
                    for score, log_prob, end, length, ids, log_probs in zip(*sentence, strict=True)
                    if score > -torch.inf
                ]
                or [impossible()]
            )
        return results
