"""What may be said next, whatever its probability: forbidden tokens, no repetition, a prefix that is given."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, SearchConfig
from seq2seq.errors import ConfigError

Phrase = Sequence[int]
"""Token ids."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for a batch of sentences.

    Attributes:
        forbidden: ids that are never chosen.
        no_repeat: length of the sequences that may not occur twice; 0: all may.
        prefixes: what each sentence's translation begins with, padded with -1; `None`: nothing at all.
    """

    forbidden: Int[Tensor, "tokens"] | None
    no_repeat: int
    prefixes: Int[Tensor, "sentences prefix"] | None

    @classmethod
    def of(cls, config: SearchConfig, prefixes: Sequence[Phrase] | None, device: torch.device) -> "Rules":
        """The rules that are switched on.

        Raises:
            ConfigError: if a prefix has a token that is not text.
        """
        return cls(
            torch.tensor(sorted(config.forbidden), device=device) if config.forbidden else None,
            config.no_repeat_ngram,
            pad_prefixes(prefixes, device) if prefixes is not None and any(prefixes) else None,
        )

    def select(self, sentences: Int[Tensor, "selected"]) -> "Rules":
        """The rules for these sentences."""
        return self if self.prefixes is None else replace(self, prefixes=self.prefixes[sentences])

    def apply(
        self,
        next_log_probs: Float[Tensor, "rows vocabulary"],
        history: Int[Tensor, "*rows length"] | None,
        length: int,
        sentences: int,
    ) -> Float[Tensor, "rows vocabulary"]:
        """The same with -inf where a token may not follow: a copy, or itself where no rule has a say.

        Args:
            next_log_probs: of the next token; the rows are sentences times any width.
            history: the tokens of each row so far; `no_repeat` needs it.
            length: how many there are.
            sentences: how many.
        """
        repeats = bool(self.no_repeat) and length >= self.no_repeat
        begins = self.prefixes is not None and length < self.prefixes.shape[1]
        if self.forbidden is None and not repeats and not begins:
            return next_log_probs
        if length == 0:
            check_vocabulary(self.forbidden, next_log_probs.shape[1], "forbidden_tokens")
            check_vocabulary(self.prefixes, next_log_probs.shape[1], "prefixes")
        allowed = next_log_probs.to(torch.float32, copy=True)
        if self.forbidden is not None:
            allowed[:, self.forbidden] = -torch.inf
        if repeats and history is not None:
            forbid_repetition(allowed, history.reshape(len(allowed), -1), self.no_repeat)
        if self.prefixes is not None and begins:
            given = self.prefixes[:, length].repeat_interleave(len(allowed) // sentences)
            (rows,) = (given >= 0).nonzero(as_tuple=True)
            allowed[rows] = -torch.inf
            allowed[rows, given[rows]] = next_log_probs[rows, given[rows]].float()
        return allowed


def forbid_repetition(
    log_probs: Float[Tensor, "rows vocabulary"], history: Int[Tensor, "rows steps"], size: int
) -> None:
    """Write -inf where a token would end a sequence of `size` tokens that the history already has."""
    if history.shape[1] < size:
        return
    windows = history.unfold(1, size, 1)  # [rows, positions, size]
    start = history[:, history.shape[1] - size + 1 :]
    repeats = (windows[:, :, :-1] == start[:, None]).all(dim=-1)
    rows, positions = repeats.nonzero(as_tuple=True)
    log_probs[rows, windows[rows, positions, -1]] = -torch.inf


def pad_prefixes(prefixes: Sequence[Phrase], device: torch.device) -> Int[Tensor, "sentences prefix"]:
    """Prefixes as rows, filled up with -1."""
    for prefix in prefixes:
        check_text(prefix, "a prefix")
    longest = max(map(len, prefixes))
    return torch.tensor([[*prefix, *[-1] * (longest - len(prefix))] for prefix in prefixes], device=device)


def check_text(tokens: Phrase, what: str) -> None:
    """Raise where a token is not text."""
    for token in tokens:
        if token < 0 or token in (PAD_ID, BOS_ID, EOS_ID):
            raise ConfigError(f"{what} must have tokens of text alone, got id {token}; leave it out")


def check_vocabulary(tokens: Int[Tensor, "*shape"] | None, size: int, what: str) -> None:
    """Raise where an id is beyond the vocabulary."""
    if tokens is not None and tokens.numel() and int(tokens.max()) >= size:
        raise ConfigError(f"{what} must be below the vocabulary's {size} tokens, got id {int(tokens.max())}")
