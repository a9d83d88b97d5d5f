"""What one step of the decoder leaves for the next, and whose rows are whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.attention import Memory
from seq2seq.recurrence import StackState


class Slots(NamedTuple):
    """Which rows of a state belong to which sentence.

    A state has a row per hypothesis; attention wants `[sentences, width, features]`, where width is the most rows that
    any sentence has. With three rows of sentence a and one of sentence b:

        rows         a0 a1 a2 b0
        slots        a0 a1 a2 b0 -- --
        positions     0  1  2  3

    Attributes:
        width: slots of a sentence.
        positions: `[rows]`, the slot of each row: sentence times width plus place in the sentence; `None` if every slot
            has its row.
    """

    width: int = 1
    positions: Tensor | None = None

    def spread(
        self, rows: Float[Tensor, "rows features"], sentences: int
    ) -> Float[Tensor, "{sentences} {self.width} features"]:
        """The rows of every sentence side by side; 0 where there is none."""
        if self.positions is not None:
            rows = rows.new_zeros(sentences * self.width, rows.shape[1]).index_copy(0, self.positions, rows)
        spread: Tensor = rows.unflatten(0, (sentences, self.width))
        return spread

    def gather(self, values: Float[Tensor, "sentences {self.width} features"]) -> Float[Tensor, "rows features"]:
        """The rows again."""
        rows = values.flatten(0, 1)
        return rows if self.positions is None else rows.index_select(0, self.positions)

    def select(self, rows: Int[Tensor, "selected"]) -> tuple[Int[Tensor, "kept"], Slots]:
        """The sentences of these rows, and the slots that the rows have then.

        Every run of neighbouring rows of one sentence becomes a sentence: a0, b0, a1 are rows of a, b and a again.
        """
        positions = rows if self.positions is None else self.positions[rows]
        sentences, run, run_sizes = torch.unique_consecutive(
            positions // self.width, return_inverse=True, return_counts=True
        )
        if len(run_sizes) == 0:
            return sentences, ONE_EACH
        width = int(run_sizes.max())
        if width * len(run_sizes) == len(rows):
            return sentences, Slots(width)
        run_starts = run_sizes.cumsum(0) - run_sizes
        place = torch.arange(len(rows), device=rows.device) - run_starts[run]
        return sentences, Slots(width, run * width + place)


ONE_EACH = Slots()
"""Every sentence has one row."""


@dataclass(frozen=True)
class DecoderState:
    """What one step of the decoder leaves for the next.

    The memories have a row per sentence, so that a beam does not copy its source. All else has a row per hypothesis,
    those of a sentence one after the other; `slots` says whose rows are whose.

    Attributes:
        recurrent: the state of each layer, a tuple of `[rows, hidden]`.
        memories: what each attention needs of the source; none without attention.
        feed: `[rows, hidden]`, the last attentional vector; `None` without input feeding.
        slots: the sentence of every row.
        attention: `[rows, source_steps]`, the weights of the step that led here; `None` before the first step, after
            `select` and in a model without attention.
    """

    recurrent: StackState
    memories: tuple[Memory, ...]
    feed: Tensor | None
    slots: Slots = ONE_EACH
    attention: Tensor | None = None

    def select(self, rows: Int[Tensor, "selected"]) -> DecoderState:
        """The state of the given rows, which may repeat, leave out and reorder."""
        memories, slots = self.memories, ONE_EACH
        if memories:
            sentences, slots = self.slots.select(rows)
            # While no sentence is done the memories stay where they are, without a copy.
            if not torch.equal(sentences, torch.arange(len(memories[0].is_token), device=rows.device)):
                memories = tuple(memory.select(sentences) for memory in memories)
        return DecoderState(
            tuple(tuple(part.index_select(0, rows) for part in layer) for layer in self.recurrent),
            memories,
            None if self.feed is None else self.feed.index_select(0, rows),
            slots,
        )
