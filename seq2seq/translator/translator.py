"""Text in, text out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import overload

import torch
from torch import Tensor

from seq2seq import package
from seq2seq.config import EOS_ID, PAD_ID, SearchConfig
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.package import Package
from seq2seq.search import Hypothesis, search

BATCH_TOKENS = 4000
"""Source tokens of a batch, padding included; one longer sentence is a batch of its own."""

BATCH_SENTENCES = 64
"""Sentences of a batch, however short: every hypothesis of every one needs a row as wide as the vocabulary."""

BLOCK = 16 * BATCH_SENTENCES
"""Lines of a stream that are sorted by length together."""

Batch = list[int]
"""The numbers of the texts that are translated together."""


@dataclass(frozen=True, slots=True)
class Translation:
    """One translation of one text.

    Attributes:
        text: one line, never with special tokens.
        tokens: the pieces it was made of, for display.
        score: log-probability (nats) divided by the length penalty; higher is better.
        token_scores: log-probability of every token, and last of the end.
        attention: where each token, and last the end, looked: weights over the source tokens, and last its end.
    """

    text: str
    tokens: list[str]
    score: float
    token_scores: list[float]
    attention: list[list[float]] | None = None


class Translator:
    """A model with its vocabularies.

    Example:
        >>> translator = Translator.load("runs/dates")
        >>> translator.translate("21 November 2026")
        '2026-11-21'

    Attributes:
        package: what the model folder held.
    """

    def __init__(self, package: Package) -> None:
        self.package = package
        self.model = package.model.eval()

    @classmethod
    def load(cls, folder: str | os.PathLike[str], device: str = "cpu") -> Translator:
        """Read a model folder.

        Args:
            folder: written by a training.
            device: as torch names it, or `auto`: a GPU where there is one.

        Raises:
            PackageError: if it is no model folder, or not a whole one.
            ConfigError: if there is no such device.
        """
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError):
            raise ConfigError(f"device must be one that this machine has, got {device!r}; use cpu") from None
        return cls(package.load(folder, device))

    @overload
    def translate(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too; it is meant here
        self, texts: str, search: SearchConfig | None = None
    ) -> str: ...

    @overload
    def translate(self, texts: Iterable[str], search: SearchConfig | None = None) -> list[str]: ...

    def translate(self, texts: str | Iterable[str], search: SearchConfig | None = None) -> str | list[str]:
        """The best translation of a text, or of each of many: same length, same order, "" stays "".

        Args:
            texts: any strings; each is translated alone, whatever the others are.
            search: `None`: the defaults of `SearchConfig`.
        """
        if isinstance(texts, str):
            return self.generate([texts], search)[0][0].text
        return [best.text for best, *_ in self.generate(texts, search)]

    def generate(
        self, texts: Iterable[str], search: SearchConfig | None = None, *, attention: bool = False
    ) -> list[list[Translation]]:
        """The `n_best` translations of each text, best first; a blank text has one, which is "".

        Args:
            texts: any strings.
            search: `None`: the defaults of `SearchConfig`.
            attention: whether to compute what each token looked at.
        """
        texts = list(texts)
        sources = self.package.source_vocabulary.encode(texts)
        asked = [number for number, text in enumerate(texts) if text.strip() and sources[number]]
        # A blank text has one translation, and no model is asked.
        results = [[Translation(text="", tokens=[], score=0.0, token_scores=[])] for _ in texts]
        lengths = [len(source) + 1 for source in sources]
        with torch.inference_mode():
            for batch in batches(asked, lengths):
                found = self._translate([sources[number] for number in batch], search or SearchConfig(), attention)
                for number, translations in zip(batch, found, strict=True):
                    results[number] = translations
        return results

    def translate_stream(
        self, lines: Iterable[str], search: SearchConfig | None = None, *, block: int = BLOCK
    ) -> Iterator[list[Translation]]:
        """What `generate` gives, of any number of lines, without holding more than a block of them."""
        rest = iter(lines)
        while part := list(islice(rest, block)):
            yield from self.generate(part, search)

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[float]:
        """The log-probability (nats, summed over the tokens and the end) of each given translation.

        Raises:
            CorpusError: if there are not as many targets as sources.
        """
        if len(sources) != len(targets):
            raise CorpusError(
                f"there must be as many targets as sources, got {len(targets)} and {len(sources)}; align them"
            )
        source_ids = self.package.source_vocabulary.encode(list(sources))
        target_ids = self.package.target_vocabulary.encode(list(targets))
        lengths = [max(len(source), len(target)) + 1 for source, target in zip(source_ids, target_ids, strict=True)]
        results = [0.0] * len(sources)
        with torch.inference_mode():
            for batch in batches(range(len(sources)), lengths):
                found = self._score([source_ids[number] for number in batch], [target_ids[number] for number in batch])
                for number, log_prob in zip(batch, found, strict=True):
                    results[number] = log_prob
        return results

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.model.parameters()).device

    def _translate(self, sources: list[list[int]], config: SearchConfig, attention: bool) -> list[list[Translation]]:
        source, lengths = self._pad(sources)
        state = self.model.start(self.model.encode(source, lengths))
        found = search(self.model.step, state, lengths - 1, config)
        weights = iter(self._attend(source, lengths, found) if attention else ())
        vocabulary = self.package.target_vocabulary
        texts = iter(vocabulary.decode([one.tokens for hypotheses in found for one in hypotheses]))
        return [
            [
                Translation(
                    next(texts), vocabulary.tokens(one.tokens), one.score, one.token_log_probs, next(weights, None)
                )
                for one in hypotheses
            ]
            for hypotheses in found
        ]

    def _attend(self, source: Tensor, lengths: Tensor, found: list[list[Hypothesis]]) -> Iterator[list[list[float]]]:
        """The attention of each hypothesis: it is fed to the decoder again, as if it were the truth."""
        owners = torch.tensor([row for row, hypotheses in enumerate(found) for _ in hypotheses], device=source.device)
        target, target_lengths = self._pad([one.tokens for hypotheses in found for one in hypotheses])
        weights = self.model.attend(source[owners], lengths[owners], target)
        if weights is not None:
            for row, steps, source_steps in zip(weights, target_lengths, lengths[owners], strict=True):
                yield row[:steps, :source_steps].tolist()

    def _score(self, sources: list[list[int]], targets: list[list[int]]) -> list[float]:
        source, source_lengths = self._pad(sources)
        target, _ = self._pad(targets)
        log_probs = self.model(source, source_lengths, target).log_softmax(dim=-1)
        chosen = log_probs.gather(2, target[:, :, None]).squeeze(2)
        totals: list[float] = chosen.where(target != PAD_ID, 0.0).double().sum(dim=1).tolist()
        return totals

    def _pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Rows of ids with `<E>` at their ends, padded, [batch, steps], and their lengths with it, [batch]."""
        lengths = [len(row) + 1 for row in rows]
        padded = [
            [*row, EOS_ID, *[PAD_ID] * (max(lengths) - length)] for row, length in zip(rows, lengths, strict=True)
        ]
        return torch.tensor(padded, device=self.device), torch.tensor(lengths, device=self.device)


def batches(numbers: Iterable[int], lengths: Sequence[int]) -> Iterator[Batch]:
    """Texts of like length together, as many as the budgets allow.

    Args:
        numbers: of the texts.
        lengths: of text 0, 1, ..., in tokens.
    """
    batch: Batch = []
    for number in sorted(numbers, key=lambda number: lengths[number]):
        # Sorted, so this one is the longest of the batch.
        if batch and (len(batch) == BATCH_SENTENCES or lengths[number] * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
