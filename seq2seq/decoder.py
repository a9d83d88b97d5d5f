"""The decoder: a recurrent language model of the target that reads the source through attention.

The default runs a whole target in a few large calls: the bottom layer over all steps, one batched attention with its
outputs as queries, then the upper layers, each over all steps with the contexts joined to its input. No step of the
bottom layer waits for a context, which is what makes this parallel over time. Input feeding, the published alternative,
has to go step by step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.attention import Attention, Memory, build_attention
from seq2seq.cells import Cell
from seq2seq.config import ModelConfig
from seq2seq.encoder import Encoded, ScaledEmbedding
from seq2seq.recurrence import Recurrence, StackState, drop, drop_features


class Slots(NamedTuple):
    """Where the rows of a state stand: each sentence has as many slots as the one with the most rows has rows.

    Attributes:
        width: slots of a sentence.
        numbers: `[rows]`, sentence times width plus slot; `None` where every slot has its row.
    """

    width: int = 1
    numbers: Tensor | None = None

    def spread(
        self, rows: Float[Tensor, "rows features"], sentences: int
    ) -> Float[Tensor, "{sentences} {self.width} features"]:
        """The rows of every sentence side by side; 0 where there is none."""
        if self.numbers is not None:
            rows = rows.new_zeros(sentences * self.width, rows.shape[1]).index_copy(0, self.numbers, rows)
        spread: Tensor = rows.unflatten(0, (sentences, self.width))
        return spread

    def gather(self, values: Float[Tensor, "sentences {self.width} features"]) -> Float[Tensor, "rows features"]:
        """The rows again."""
        rows = values.flatten(0, 1)
        return rows if self.numbers is None else rows.index_select(0, self.numbers)

    def select(self, rows: Int[Tensor, "selected"]) -> tuple[Int[Tensor, "kept"], Slots]:
        """The sentences that these rows belong to, and their slots then.

        Rows of a sentence that do not follow one another make it a sentence of its own for each run of them.
        """
        numbers = rows if self.numbers is None else self.numbers[rows]
        sentences, own, sizes = torch.unique_consecutive(numbers // self.width, return_inverse=True, return_counts=True)
        if len(sizes) == 0:
            return sentences, ONE_EACH
        width = int(sizes.max())
        if width * len(sizes) == len(rows):
            return sentences, Slots(width)
        before = sizes.cumsum(0) - sizes
        return sentences, Slots(width, own * width + torch.arange(len(rows), device=rows.device) - before[own])


ONE_EACH = Slots()
"""Every sentence has one row."""


@dataclass(frozen=True)
class DecoderState:
    """What one step of the decoder leaves for the next.

    `recurrent` and `feed` have a row per hypothesis, those of a sentence one after the other. The memories have a row
    per sentence, so that a beam does not copy its source; `slots` says whose rows are whose. `attention` has the
    weights of the step that led here, `[rows, source_steps]`: `None` before the first step, after `select` and in a
    model without attention.
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
            if not torch.equal(sentences, torch.arange(len(memories[0].is_token), device=rows.device)):
                memories = tuple(memory.select(sentences) for memory in memories)
        return DecoderState(
            tuple(tuple(part.index_select(0, rows) for part in layer) for layer in self.recurrent),
            memories,
            None if self.feed is None else self.feed.index_select(0, rows),
            slots,
        )


class Decoded(NamedTuple):
    """features `[batch, steps, feature]` for the output layer, and attention weights `[batch, steps, source_steps]`
    (`None` without attention)."""

    features: Tensor
    weights: Tensor | None


class Decoder(nn.Module):
    """Embedding, bottom layer, attention, upper layers; or, with `input_feeding`, one stack run step by step.

    Reference:
        Contexts to the upper layers: Wu et al. (2016), arXiv:1609.08144; Chen et al. (2018), arXiv:1804.09849.
        Attention after the only layer, input feeding: Luong et al. (2015), arXiv:1508.04025.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden, context = config.decoder_hidden_size, config.annotation_size if config.attention != "none" else 0
        self.config = config
        self.products: Tensor | None
        self.register_buffer("products", None, persistent=False)
        self.embedding = ScaledEmbedding(
            config.target_vocabulary_size, config.embedding_size, config.target_word_dropout
        )
        self.attentions = nn.ModuleList(
            build_attention(config.attention, hidden, config.annotation_size, config.attention_heads)
            for _ in range((1 if context else 0) + config.output_attention)
        )
        if config.input_feeding:
            self.stack = Recurrence(
                config.embedding_size + hidden,
                hidden,
                config.decoder_layers,
                dropout=config.hidden_dropout,
                config=config,
                residual_from=config.residual_from,
            )
            self.combine = nn.Linear(hidden + context, hidden, bias=False)
            self.feature_size = hidden
            return
        self.bottom = Recurrence(config.embedding_size, hidden, config=config)
        self.upper = Recurrence(
            hidden,
            hidden,
            config.decoder_layers - 1,
            dropout=config.hidden_dropout,
            config=config,
            context_size=context,
            residual_from=0 if config.residual else None,
            dropout_from=0,
        )
        self.feature_size = hidden + context * len(self.attentions)

    def start(self, encoded: Encoded, recurrent: StackState) -> DecoderState:
        """The state before the first token, from what the bridge made of the encoder's final state."""
        attentions = cast(list[Attention], list(self.attentions))
        memories = tuple(attention.remember(encoded.annotations, encoded.is_token) for attention in attentions)
        hidden = recurrent[0][0]
        return DecoderState(recurrent, memories, torch.zeros_like(hidden) if self.config.input_feeding else None)

    def forward(self, tokens: Int[Tensor, "batch steps"], state: DecoderState) -> Decoded:
        """All steps of a known target (teacher forced); `tokens` start with `<S>`."""
        config = self.config
        embedded = self.embedding(tokens)
        embedded = drop_features(embedded, config.embedding_dropout, self.training, config.variational_dropout)
        if config.input_feeding:
            return self.feed_steps(embedded, state)
        outputs, _ = self.bottom(embedded, state.recurrent[:1])
        contexts, weights = self.attend(0, outputs, state)
        joined = contexts[0] if contexts else None
        outputs, _ = self.upper(outputs, state.recurrent[1:], joined)
        if config.output_attention:
            more, weights = self.attend(1, outputs, state)
            contexts += more
        return Decoded(torch.cat([outputs, *contexts], dim=-1), weights)

    def feed_steps(self, embedded: Float[Tensor, "batch steps embedding"], state: DecoderState) -> Decoded:
        """Luong's input feeding: step by step, since every step needs the attentional vector of the one before."""
        (cell,) = self.stack.layers[0].cells
        masks = self.stack.draw_masks(embedded)
        # The embeddings' share of the bottom layer's gates does not wait for anything.
        projected = cell.project(embedded)
        features, weights = [], []
        for time in range(embedded.shape[1]):
            assert state.feed is not None
            gates = projected[:, time] + cell.project(state.feed, first=self.config.embedding_size)
            below, _ = cell(gates, state.recurrent[0], masks[0].steps[0])
            outputs, above = self.stack.step_from(1, below[0], state.recurrent[1:], masks[1:])
            combined, weight = self.combine_context(outputs, state)
            state = DecoderState((below, *above), state.memories, combined, state.slots)
            features.append(combined)
            weights.append(weight)
        return Decoded(torch.stack(features, dim=1), torch.stack(weights, dim=1))

    def step(self, tokens: Int[Tensor, "rows"], state: DecoderState) -> tuple[Float[Tensor, "rows f"], DecoderState]:
        """One step from one token per row: features for the output layer, and the next state."""
        outputs, below = self.step_first(tokens, state)
        if state.feed is not None:
            combined, weights = self.combine_context(outputs, state)
            return combined, DecoderState(below, state.memories, combined, state.slots, weights)
        contexts, attention = self.attend_rows(0, outputs, state)
        joined = contexts[0] if contexts else None
        outputs, above = self.upper.step(outputs, state.recurrent[1:], joined)
        if self.config.output_attention:
            more, attention = self.attend_rows(1, outputs, state)
            contexts += more
        return torch.cat([outputs, *contexts], dim=-1), DecoderState(
            below + above, state.memories, None, state.slots, attention
        )

    def step_first(
        self, tokens: Int[Tensor, "rows"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows hidden"], StackState]:
        """One step of the layers before attention."""
        stack = self.first_stack
        recurrent = state.recurrent[: len(stack.layers)]
        if self.products is None:
            embedded = drop(self.embedding(tokens), self.config.embedding_dropout, self.training)
            inputs = embedded if state.feed is None else torch.cat([embedded, state.feed], dim=-1)
            return stack.step(inputs, recurrent)
        gates = self.products[tokens]
        if state.feed is not None:
            gates = gates + self.bottom_cell.project(state.feed, first=self.config.embedding_size)
        bottom, _ = self.bottom_cell(gates, recurrent[0])
        outputs, above = stack.step_from(1, bottom[0], recurrent[1:], stack.draw_masks(bottom[0])[1:])
        return outputs, (bottom, *above)

    def tabulate(self) -> None:
        """Multiply the embedding of every token by the bottom layer's input weights now, for all steps to come.

        `step` then looks the products up. The decoder is not for training after that, and its weights have to stay.

        Reference:
            Devlin et al. (2014), "Fast and robust neural network joint models for statistical machine translation".
        """
        assert not self.training, "dropout would be drawn once for all"
        with torch.no_grad():
            tokens = torch.arange(self.config.target_vocabulary_size, device=self.embedding.weight.device)
            self.products = self.bottom_cell.project(self.embedding(tokens))

    @property
    def table_size(self) -> int:
        """Numbers in the table of `tabulate`."""
        return self.config.target_vocabulary_size * len(self.bottom_cell.weight_input)

    @property
    def first_stack(self) -> Recurrence:
        """The layers before attention: the bottom one, or with input feeding all."""
        return self.stack if self.config.input_feeding else self.bottom

    @property
    def bottom_cell(self) -> Cell:
        """That of the layer which reads the embeddings."""
        (cell,) = self.first_stack.layers[0].cells
        return cell

    def attend(
        self, index: int, queries: Float[Tensor, "sentences queries hidden"], state: DecoderState
    ) -> tuple[list[Tensor], Tensor | None]:
        """The contexts of one attention as a list, empty without attention, and its weights."""
        if not self.attentions:
            return [], None
        contexts, weights = self.attentions[index](queries, state.memories[index])
        return [contexts], weights

    def attend_rows(
        self, index: int, queries: Float[Tensor, "rows hidden"], state: DecoderState
    ) -> tuple[list[Tensor], Tensor | None]:
        """The same for one query per row: the rows of a sentence are its queries."""
        if not self.attentions:
            return [], None
        memory = state.memories[index]
        contexts, weights = self.attentions[index](state.slots.spread(queries, len(memory.is_token)), memory)
        return [state.slots.gather(contexts)], state.slots.gather(weights)

    def combine_context(
        self, outputs: Float[Tensor, "rows hidden"], state: DecoderState
    ) -> tuple[Float[Tensor, "rows hidden"], Tensor]:
        """Luong's attentional vector tanh(W [h; context]), and the weights `[rows, source_steps]`."""
        contexts, weights = self.attend_rows(0, outputs, state)
        assert weights is not None, "ModelConfig asks for attention where there is input feeding"
        return self.combine(torch.cat([outputs, *contexts], dim=-1)).tanh(), weights
