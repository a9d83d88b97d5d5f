"""Which texts are translated together: those of like length, as many as memory and speed allow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from seq2seq.config import ModelConfig
from seq2seq.resources import available_memory

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


BEYOND = 4
"""So many times the memory that is free, or a gibibyte, are too much, whatever the estimates are off by."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one of several processes does: every so many batches one, of those that a single process would make.

    Attributes:
        rank: of the process, counted from 0.
        ranks: processes.
        memory: bytes that are free, the same in all processes, for all must make the same batches; `None`: as it is.
    """

    rank: int = 0
    ranks: int = 1
    memory: int | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """What a batch may cost.

    Attributes:
        width: hypotheses of each sentence.
        rows: hypotheses of all sentences.
        tokens: source tokens of all sentences, padding included.
        memory: bytes that are free.
        numbers: floating point numbers held at once.
        numbers_of_a_row: those that each hypothesis needs.
        numbers_of_a_token: those that each source token needs.
        numbers_of_a_weight: those that a token of a hypothesis needs for each source token that it attends to.
        given: whether hypotheses are given, so that all their tokens attend at once; they count in `longest` then.
    """

    width: int
    rows: int
    tokens: int
    memory: int
    numbers: int
    numbers_of_a_row: int
    numbers_of_a_token: int
    numbers_of_a_weight: int
    given: bool = False

    @classmethod
    def of(
        cls,
        models: Sequence[ModelConfig],
        width: int,
        device: torch.device,
        memory: int | None = None,
        *,
        given: bool = False,
    ) -> Budget:
        """The budget of models on a device for `width` hypotheses per sentence.

        A wider beam has fewer sentences in a batch; so have a larger vocabulary and less free memory (`memory`, in
        bytes; `None`: what is free now).
        """
        memory = available_memory(device) if memory is None else memory
        rows = ROWS if device.type == "cpu" else ROWS_OF_A_GPU
        return cls(
            width=width,
            rows=rows,
            tokens=BATCH_TOKENS * max(1, rows // ROWS),
            memory=memory,
            numbers=int(memory * MEMORY_SHARE) // 4,
            numbers_of_a_row=sum(VOCABULARY_COPIES * model.target_vocabulary_size for model in models),
            # What each token leaves behind: an embedding, gates and an output of every layer, an annotation and a key.
            numbers_of_a_token=sum(
                (model.encoder_layers * 5 + 2) * model.annotation_size + model.decoder_hidden_size for model in models
            ),
            numbers_of_a_weight=sum(_numbers_of_a_weight(model) for model in models),
            given=given,
        )

    def check_row(self) -> None:
        """Refuse what can never be, before the system has ended others for it.

        Raises:
            MemoryError: if the hypotheses of one text would take several times what is free.
        """
        needed = 4 * self.width * self.numbers_of_a_row
        if needed > BEYOND * max(self.memory, 1 << 30):
            raise MemoryError(
                f"{self.width:,} hypotheses take about {needed / (1 << 30):,.1f} GiB, "
                f"and {self.memory / (1 << 30):,.1f} are free"
            )

    def allows(self, sentences: int, longest: int) -> bool:
        """Whether so many sentences with so many source tokens, at most, may be a batch."""
        rows, tokens = sentences * self.width, sentences * longest
        # Every hypothesis attends to every token of its source.
        weights = rows * longest * (longest if self.given else 1)
        numbers = rows * self.numbers_of_a_row + weights * self.numbers_of_a_weight + tokens * self.numbers_of_a_token
        return rows <= self.rows and tokens <= self.tokens and numbers <= self.numbers


def _numbers_of_a_weight(model: ModelConfig) -> int:
    """Additive attention has a hidden layer for every weight: its sums, and their tanh."""
    match model.attention:
        case "none":
            return 0
        case "additive" | "multi_head_additive":
            return 2 * model.decoder_hidden_size
        case "multi_head":
            return 2 * model.attention_heads
        case _:
            return 2


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
