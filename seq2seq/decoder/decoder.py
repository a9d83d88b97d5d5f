"""The decoder: a recurrent language model of the target that reads the source through attention.

The default runs a whole target in a few large calls: the bottom layer over all steps, one batched attention with its
outputs as queries, then the upper layers, each over all steps with the contexts joined to its input. No step of the
bottom layer waits for a context, which is what makes this parallel over time. Input feeding, the published alternative,
has to go step by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from seq2seq.attention import Attention, build_attention
from seq2seq.cells import Cell
from seq2seq.config import ModelConfig
from seq2seq.decoder.state import DecoderState
from seq2seq.encoder import Encoded, ScaledEmbedding
from seq2seq.recurrence import LayerMasks, Recurrence, StackState, drop, drop_features


class Decoded(NamedTuple):
    """features `[batch, steps, feature]` for the output layer, and the weights of attention `[batch, steps,
    source_steps]` (`None` without attention)."""

    features: Tensor
    attention: Tensor | None


class Decoder(nn.Module):
    """Embedding, bottom layer, attention, upper layers; or, with `input_feeding`, one stack run step by step.

    `forward` computes a whole target, `step` a single token; they agree.

    Args:
        config: that of the model.

    Reference:
        Contexts to the upper layers: Wu et al. (2016), arXiv:1609.08144; Chen et al. (2018), arXiv:1804.09849.
        Attention after the only layer, input feeding: Luong et al. (2015), arXiv:1508.04025.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_size = config.decoder_hidden_size
        context_size = 0 if config.attention == "none" else config.annotation_size
        self.config = config
        # `[vocabulary, gates]`, by `tabulate_tokens`. A buffer, so that it moves with the weights; never saved.
        self.token_gates: Tensor | None
        self.register_buffer("token_gates", None, persistent=False)
        self.register_load_state_dict_post_hook(forget_table)  # type: ignore[no-untyped-call]
        self.embedding = ScaledEmbedding(
            config.target_vocabulary_size, config.embedding_size, config.target_word_dropout
        )
        self.attentions = nn.ModuleList(
            build_attention(config.attention, hidden_size, config.annotation_size, config.attention_heads)
            for _ in range((config.attention != "none") + config.output_attention)
        )
        if config.input_feeding:
            self.stack = Recurrence(
                config.embedding_size + hidden_size,
                hidden_size,
                config.decoder_layers,
                dropout=config.hidden_dropout,
                config=config,
                residual_from=config.residual_from,
            )
            self.combine = nn.Linear(hidden_size + context_size, hidden_size, bias=False)
            self.feature_size = hidden_size
            return
        self.bottom = Recurrence(config.embedding_size, hidden_size, config=config)
        self.upper = Recurrence(
            hidden_size,
            hidden_size,
            config.decoder_layers - 1,
            dropout=config.hidden_dropout,
            config=config,
            context_size=context_size,
            residual_from=0 if config.residual else None,
            dropout_from=0,
        )
        self.feature_size = hidden_size + context_size * len(self.attentions)

    def start(self, encoded: Encoded, recurrent: StackState) -> DecoderState:
        """The state before the first token, one row per sentence.

        Args:
            encoded: the source.
            recurrent: what the bridge made of the encoder's final state, for each layer parts of `[batch, hidden]`.
        """
        if torch.is_grad_enabled():  # What learns changes the weights that the table was made of.
            self.token_gates = None
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
            return self.forward_feeding(embedded, state)
        bottom, _ = self.bottom(embedded, state.recurrent[:1])
        context, attention = self.attend(0, bottom, state)
        # With one decoder layer the upper ones are none, and hand their input through.
        top, _ = self.upper(bottom, state.recurrent[1:], context)
        features = join(top, context)
        if config.output_attention:
            context, attention = self.attend(1, top, state)
            features = join(features, context)
        return Decoded(features, attention)

    def forward_feeding(self, embedded: Float[Tensor, "batch steps embedding"], state: DecoderState) -> Decoded:
        """Luong's input feeding: step by step, since every step needs the attentional vector of the one before."""
        masks = self.first_stack.draw_masks(embedded)
        # The embeddings' share of the bottom layer's gates does not wait for anything.
        gates = self.bottom_cell.project(embedded)
        features, attention = [], []
        for time in range(embedded.shape[1]):
            vector, state = self.step_feeding(gates[:, time], state, masks)
            assert state.attention is not None, "ModelConfig asks for attention where there is input feeding"
            features.append(vector)
            attention.append(state.attention)
        return Decoded(torch.stack(features, dim=1), torch.stack(attention, dim=1))

    def step(self, tokens: Int[Tensor, "rows"], state: DecoderState) -> tuple[Float[Tensor, "rows f"], DecoderState]:
        """One step from one token per row: features for the output layer, and the next state."""
        config = self.config
        if self.token_gates is None or self.training or torch.is_grad_enabled():
            gates = self.bottom_cell.project(drop(self.embedding(tokens), config.embedding_dropout, self.training))
        else:
            gates = self.token_gates[tokens]
        masks = self.first_stack.draw_masks(gates)
        if config.input_feeding:
            return self.step_feeding(gates, state, masks)
        bottom, bottom_state = self.step_first(gates, state, masks)
        context, attention = self.attend_rows(0, bottom, state)
        top, upper_state = self.upper.step(bottom, state.recurrent[1:], context)
        features = join(top, context)
        if config.output_attention:
            context, attention = self.attend_rows(1, top, state)
            features = join(features, context)
        return features, replace(state, recurrent=bottom_state + upper_state, attention=attention)

    def step_feeding(
        self, gates: Float[Tensor, "rows gates"], state: DecoderState, masks: Sequence[LayerMasks]
    ) -> tuple[Float[Tensor, "rows hidden"], DecoderState]:
        """One step with input feeding: Luong's attentional vector, tanh(W [h; context]), and the next state.

        Args:
            gates, state, masks: as in `step_first`.
        """
        top, recurrent = self.step_first(gates, state, masks)
        context, attention = self.attend_rows(0, top, state)
        vector = self.combine(join(top, context)).tanh()
        return vector, replace(state, recurrent=recurrent, feed=vector, attention=attention)

    def step_first(
        self, gates: Float[Tensor, "rows gates"], state: DecoderState, masks: Sequence[LayerMasks]
    ) -> tuple[Float[Tensor, "rows hidden"], StackState]:
        """One step of the layers before attention: the output of the last of them, and their states.

        Args:
            gates: the embeddings' share of the bottom layer's gates.
            state: before the step.
            masks: the layers' dropout.
        """
        cell, stack = self.bottom_cell, self.first_stack
        if state.feed is not None:
            gates = gates + cell.project(state.feed, first_feature=self.config.embedding_size)
        first, _ = cell(gates, state.recurrent[0], masks[0].steps[0])
        output, others = stack.step_from(1, first[0], state.recurrent[1 : len(stack.layers)], masks[1:])
        return output, (first, *others)

    def tabulate_tokens(self) -> None:
        """Compute every token's share of the bottom layer's gates now, for all steps to come.

        `step` then looks it up where neither dropout nor gradients are wanted, until something is started with
        gradients or `load_state_dict` brings other weights.

        Reference:
            Devlin et al. (2014), "Fast and robust neural network joint models for statistical machine translation".
        """
        assert not self.training, "dropout would be drawn once for all"
        with torch.no_grad():
            tokens = torch.arange(self.config.target_vocabulary_size, device=self.embedding.weight.device)
            self.token_gates = self.bottom_cell.project(self.embedding(tokens))

    @property
    def table_size(self) -> int:
        """Numbers in the table of `tabulate_tokens`."""
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
    ) -> tuple[Tensor | None, Tensor | None]:
        """The contexts `[sentences, queries, context]` and weights of one attention; `None` without attention."""
        if not self.attentions:
            return None, None
        contexts, weights = self.attentions[index](queries, state.memories[index])
        return contexts, weights

    def attend_rows(
        self, index: int, queries: Float[Tensor, "rows hidden"], state: DecoderState
    ) -> tuple[Tensor | None, Tensor | None]:
        """The same for one query per row: the rows of a sentence are its queries."""
        if not self.attentions:
            return None, None
        memory = state.memories[index]
        contexts, weights = self.attentions[index](state.slots.spread(queries, len(memory.is_token)), memory)
        return state.slots.gather(contexts), state.slots.gather(weights)


def forget_table(decoder: Decoder, _: object) -> None:
    """What was computed of weights that are no longer there."""
    decoder.token_gates = None


def join(outputs: Float[Tensor, "*rows hidden"], context: Tensor | None) -> Float[Tensor, "*rows features"]:
    """Outputs with their contexts behind them, if there are any."""
    return outputs if context is None else torch.cat([outputs, context], dim=-1)
