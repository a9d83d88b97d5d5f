"""Which texts are translated together: those of like length, as many as memory and speed allow."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from seq2seq.config import ModelConfig

Batch = list[int]
"""The numbers of the texts that are translated together."""

ROWS = 320
"""Hypotheses stepped at once on a CPU: by then its matrix products are as fast as they get."""

ROWS_OF_A_GPU = 4096
"""The same on an accelerator."""

BATCH_TOKENS = 4000
"""Source tokens of a batch at a beam of 1, padding included; one longer sentence is a batch of its own."""

VOCABULARY_COPIES = 6
"""Numbers held for each word of the vocabulary by each hypothesis of a step: logits, log-probabilities, candidates."""

MEMORY_SHARE = 0.25
"""Of the memory that is free, what a batch may take."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a batch may cost.

    Attributes:
        width: hypotheses of each sentence.
        rows: hypotheses of all sentences.
        tokens: source tokens of all sentences, padding included.
        numbers: floating point numbers held at once.
        numbers_of_a_row: those that each hypothesis needs.
        numbers_of_a_token: those that each source token needs.
    """

    width: int
    rows: int
    tokens: int
    numbers: int
    numbers_of_a_row: int
    numbers_of_a_token: int

    @classmethod
    def of(cls, models: Sequence[ModelConfig], width: int, device: torch.device) -> Budget:
        """The budget of models on a device for `width` hypotheses per sentence.

        A wider beam has fewer sentences in a batch; so have a larger vocabulary and less free memory.
        """
        rows = ROWS if device.type == "cpu" else ROWS_OF_A_GPU
        return cls(
            width=width,
            rows=rows,
            tokens=BATCH_TOKENS * max(1, rows // ROWS),
            numbers=int(available_memory(device) * MEMORY_SHARE) // 4,
            numbers_of_a_row=sum(VOCABULARY_COPIES * model.target_vocabulary_size for model in models),
            # What each token leaves behind: an embedding, gates and an output of every layer, an annotation and a key.
            numbers_of_a_token=sum(
                (model.encoder_layers * 5 + 2) * model.annotation_size + model.decoder_hidden_size for model in models
            ),
        )

    def allows(self, sentences: int, longest: int) -> bool:
        """Whether so many sentences with so many source tokens, at most, may be a batch."""
        rows, tokens = sentences * self.width, sentences * longest
        # Every hypothesis attends to every token of its source.
        numbers = rows * (self.numbers_of_a_row + longest) + tokens * self.numbers_of_a_token
        return rows <= self.rows and tokens <= self.tokens and numbers <= self.numbers


def batches(numbers: Iterable[int], lengths: Sequence[int], budget: Budget) -> Iterator[Batch]:
    """Texts of like length together, as many as the budget allows, and always one.

    Args:
        numbers: of the texts.
        lengths: of text 0, 1, ..., in tokens.
        budget: what a batch may cost.
    """
    batch: Batch = []
    for number in sorted(numbers, key=lambda number: lengths[number]):
        # Sorted, so this one is the longest of the batch.
        if batch and not budget.allows(len(batch) + 1, lengths[number]):
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def available_memory(device: torch.device) -> int:
    """Bytes that could still be used; two gibibytes where nobody can tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [_meminfo(), _container()]
    return min((size for size in found if size is not None), default=2 << 30)


def _meminfo() -> int | None:
    """What Linux thinks can be used without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)


def _container(group: str | os.PathLike[str] = "/sys/fs/cgroup") -> int | None:
    """What the limit of a container leaves."""
    try:
        limit, used = ((Path(group) / f"memory.{name}").read_text(encoding="ascii") for name in ("max", "current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # "max" is no limit
        return None
