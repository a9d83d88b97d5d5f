"""What a beam search leaves behind: the way that its hypotheses came, and the finished ones."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import EOS_ID, SearchConfig
from seq2seq.search.hypothesis import Hypothesis, impossible
from seq2seq.search.live import Continuations
from seq2seq.search.penalties import score


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
            is_whole = len(sentences) == batch
            column.append(field if is_whole else field.new_zeros(batch, field.shape[1]).index_copy(0, sentences, field))

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
    counts: Int[Tensor, "batch"]
    """How many have finished, whether they are still among these or not."""

    @classmethod
    def none(cls, batch: int, n_best: int, device: torch.device) -> "Finished":
        """Before the first step."""
        nothing = torch.full((batch, n_best), -torch.inf, device=device)
        nowhere = torch.zeros((batch, n_best), dtype=torch.long, device=device)
        return cls(nothing, nothing.clone(), nothing.clone(), nowhere, nowhere.clone(), nowhere[:, 0].clone())

    def add(
        self,
        sentences: Int[Tensor, "sentences"],
        ranked: Continuations,
        length: int,
        coverage_scores: Float[Tensor, "sentences width"] | None,
        config: SearchConfig,
    ) -> None:
        """Let in those continuations of hypotheses of `length` tokens that end, if they are good enough.

        Args:
            sentences: whose they are.
            ranked: those within the beam, ended or not.
            coverage_scores: added to the scores of what continues these hypotheses.
        """
        ends = ranked.tokens == EOS_ID
        if not ends.any():
            return
        log_probs = ranked.log_probs.where(ends, -torch.inf)
        self.counts[sentences] += (log_probs > -torch.inf).sum(dim=1)
        lengths = torch.full_like(log_probs, length, dtype=torch.long)
        scores = score(log_probs, lengths, config)
        if coverage_scores is not None:
            scores = scores + coverage_scores.gather(1, ranked.parents)
        n_best = self.scores.shape[1]
        # Stable, so that of equals the one found first stays in front.
        scores, order = torch.cat([self.scores[sentences], scores], dim=1).sort(dim=1, descending=True, stable=True)
        self.scores[sentences] = scores[:, :n_best]
        for field, new in (
            (self.log_probs, log_probs),
            (self.end_log_probs, ranked.token_log_probs),
            (self.columns, ranked.parents),
            (self.lengths, lengths),
        ):
            field[sentences] = torch.cat([field[sentences], new], dim=1).gather(1, order[:, :n_best])

    def hypotheses(self, trail: Trail, longest: Int[Tensor, "batch"]) -> list[list[Hypothesis]]:
        """What was found for every sentence of the batch, whose limits are `longest`."""
        tokens, token_log_probs = trail.read_back(self.columns, self.lengths)
        at_limit = self.lengths >= longest[:, None]
        fields = (self.scores, self.log_probs, self.end_log_probs, self.lengths, tokens, token_log_probs, at_limit)
        results = []
        for sentence in zip(*(field.tolist() for field in fields), strict=True):
            results.append(
                [
                    Hypothesis(ids[:length], score, log_prob, [*log_probs[:length], end], is_last)
                    for score, log_prob, end, length, ids, log_probs, is_last in zip(*sentence, strict=True)
                    if score > -torch.inf
                ]
                or [impossible()]
            )
        return results
