"""A stack of layers, for rows that are equally long, for rows of many lengths, and step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from seq2seq.cells import CellState
from seq2seq.config import RecurrenceConfig
from seq2seq.errors import ConfigError
from seq2seq.recurrence.dropout import draw_mask, drop
from seq2seq.recurrence.layer import Layer, LayerMasks

StackState = tuple[CellState, ...]
"""The state of every layer, bottom first; each part `[rows, directions * hidden]`."""


class RecurrenceOutput(NamedTuple):
    """What a stack gives for whole sequences.

    Attributes:
        outputs: of the top layer, `[batch, steps, directions * hidden]`; `[steps, batch, directions * hidden]` with
            `batch_first=False`.
        state: the final state of every layer; rows come first in it, whatever `batch_first` says.
    """

    outputs: Tensor
    state: StackState


class Recurrence(nn.Module):
    """A stack of recurrent layers. Its first seven arguments are those of `torch.nn.LSTM`, except that `batch_first`
    defaults to True; with them alone it is an LSTM.

    Args:
        input_size: features of the first layer's inputs.
        hidden_size: units of every layer, per direction.
        num_layers: how many layers; each reads the outputs of the one below it.
        bias: whether the cells add biases.
        batch_first: sequences are `[batch, steps, features]`; otherwise `[steps, batch, features]`.
        dropout: probability of zeroing a feature between layers, in training.
        bidirectional: every layer reads both ways; its outputs are twice as wide, forward first.
        config: which cell and how it starts, dropout inside the recurrence, and the way through time.
        context_size: features of a context that joins the input of every layer (0: none).
        residual_from: the first layer (counted from 0) whose input is added to its output; `None`: no layer.
        dropout_from: the first layer whose input is dropped out: 0 for a stack on top of another layer of its width.

    Raises:
        ConfigError: if dropout would leave nothing, a residual cannot be added, or biases are set where there are none.

    Example:
        >>> outputs, state = Recurrence(8, 16, num_layers=2, config=RecurrenceConfig(cell="gru"))(inputs)

    Reference:
        Residual connections and contexts for the upper layers: Wu et al. (2016), arXiv:1609.08144. One mask for all
        steps: Gal & Ghahramani (2016), arXiv:1512.05287.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        config: RecurrenceConfig = RecurrenceConfig(),
        context_size: int = 0,
        residual_from: int | None = None,
        dropout_from: int = 1,
    ) -> None:
        super().__init__()
        width = hidden_size * (2 if bidirectional else 1)
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, got {dropout}; 0.1 to 0.5 are usual")
        if residual_from == 0 and input_size != width:
            raise ConfigError(
                f"residual_from=0 needs inputs as wide as the outputs, got {input_size} and {width}; use 1"
            )
        if not bias and (config.chrono is not None or config.forget_bias != 1.0):
            raise ConfigError(
                f"chrono and forget_bias set biases, got chrono={config.chrono}, forget_bias={config.forget_bias} and "
                "bias=False; leave them out"
            )
        sizes = ([input_size + context_size] + [width + context_size] * num_layers)[:num_layers]
        self.stack = nn.ModuleList(Layer(config, size, hidden_size, bias, bidirectional) for size in sizes)
        self.width = width
        self.batch_first = batch_first
        self.dropout = dropout
        self.variational = config.variational_dropout
        self.residual_from = num_layers if residual_from is None else residual_from
        self.dropout_from = dropout_from

    @property
    def layers(self) -> list[Layer]:
        """The layers, bottom first."""
        return cast(list[Layer], list(self.stack))

    def zero_state(self, inputs: Float[Tensor, "rows *any"]) -> StackState:
        """The state of every layer before the first step."""
        return tuple(layer.zero_state(inputs) for layer in self.layers)

    def draw_masks(self, inputs: Float[Tensor, "rows *any"]) -> tuple[LayerMasks, ...]:
        """The dropout of one batch where it is the same at all steps: for every layer, none unless in training."""
        masks = []
        for index, layer in enumerate(self.layers):
            between = index >= self.dropout_from and self.variational and self.training and self.dropout > 0
            mask = draw_mask(inputs, self.width, self.dropout) if between else None
            masks.append(LayerMasks(mask, layer.draw_masks(inputs)))
        return tuple(masks)

    def forward(
        self,
        inputs: Float[Tensor, "first second features"],
        state: StackState | None = None,
        context: Float[Tensor, "first second context"] | None = None,
    ) -> RecurrenceOutput:
        """All steps at once, of rows whose ends do not matter (a decoder's).

        Args:
            inputs: `[batch, steps, features]`, or with steps first: see `batch_first`.
            state: before the first step; `None`: zero.
            context: joins the input of every layer.
        """
        if self.batch_first:
            inputs = inputs.transpose(0, 1)
            context = None if context is None else context.transpose(0, 1)
        outputs, final = self.run(inputs, None, state or self.zero_state(inputs[0]), context)
        return RecurrenceOutput(outputs.transpose(0, 1) if self.batch_first else outputs, final)

    def forward_lengths(
        self, inputs: Float[Tensor, "first second features"], lengths: Int[Tensor, "batch"]
    ) -> RecurrenceOutput:
        """All steps at once, from zero, of rows that end at their lengths (an encoder's); outputs behind them are 0.

        A direction that reads backwards starts at each row's end, and nothing behind it is ever computed.
        """
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=self.batch_first, enforce_sorted=False)
        outputs, state = self.run(
            packed.data, packed.batch_sizes, self.zero_state(inputs if self.batch_first else inputs[0]), None
        )
        steps = inputs.shape[1 if self.batch_first else 0]
        padded, _ = pad_packed_sequence(packed._replace(data=outputs), self.batch_first, total_length=steps)
        # Packing sorted the rows by length; put the states back into the batch's order.
        order = packed.unsorted_indices
        assert order is not None
        return RecurrenceOutput(padded, tuple(tuple(part.index_select(0, order) for part in end) for end in state))

    def run(
        self, inputs: Tensor, batch_sizes: Tensor | None, state: StackState, context: Tensor | None
    ) -> tuple[Tensor, StackState]:
        """Layer by layer, time first or packed: see `time`."""
        final: list[CellState] = []
        all_masks = self.draw_masks(state[0][0]) if state else ()
        rows = None
        if batch_sizes is not None and any(masks.inputs is not None for masks in all_masks):
            # A row's place in the batch, for every packed token.
            rows = torch.cat([torch.arange(size) for size in batch_sizes.tolist()])
        for index, (layer, start, masks) in enumerate(zip(self.layers, state, all_masks, strict=True)):
            outputs, end = layer.run(self.layer_input(inputs, context, index, masks, rows), batch_sizes, start, masks)
            inputs = outputs + inputs if index >= self.residual_from else outputs
            final.append(end)
        return inputs, tuple(final)

    def step(
        self,
        inputs: Float[Tensor, "rows features"],
        state: StackState,
        context: Float[Tensor, "rows context"] | None = None,
    ) -> tuple[Float[Tensor, "rows hidden"], StackState]:
        """One step of every layer, with dropout of its own if in training.

        Raises:
            ConfigError: for a stack with two directions.
        """
        return self.step_from(0, inputs, state, self.draw_masks(inputs), context)

    def step_from(
        self,
        first: int,
        inputs: Float[Tensor, "rows features"],
        state: StackState,
        masks: Sequence[LayerMasks],
        context: Float[Tensor, "rows context"] | None = None,
    ) -> tuple[Float[Tensor, "rows hidden"], StackState]:
        """One step of the layers from `first` on, for a caller that has run those below.

        Args:
            first: the lowest layer to run, counted from 0.
            inputs: the output of the layer below it.
            state: of the layers from `first` on, before the step; what is returned is theirs after it.
            masks: their part of `draw_masks`.
            context: joins the input of every layer.

        Raises:
            ConfigError: for a stack with two directions.
        """
        following: list[CellState] = []
        for index, (start, mask) in enumerate(zip(state, masks, strict=True), first):
            joined = self.layer_input(inputs, context, index, mask, None)
            output, end = self.layers[index].step(joined, start, mask.steps[0])
            inputs = output + inputs if index >= self.residual_from else output
            following.append(end)
        return inputs, tuple(following)

    def layer_input(
        self, inputs: Tensor, context: Tensor | None, index: int, masks: LayerMasks, rows: Tensor | None
    ) -> Tensor:
        """A layer's input: the outputs of the layer below after dropout, and the context.

        Args:
            index: of the layer, counted from 0.
            rows: the place in the batch of every packed token, where the masks need it.
        """
        if masks.inputs is not None:
            inputs = inputs * (masks.inputs if rows is None else masks.inputs[rows])
        elif index >= self.dropout_from:
            inputs = drop(inputs, self.dropout, self.training)
        return inputs if context is None else torch.cat([inputs, context], dim=-1)
