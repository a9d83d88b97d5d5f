"""Cells run over time: layers, directions, lengths.

Two paths over the same parameters: a fused kernel of torch where one exists, and the readable unrolled loop, its slow
twin. Both see sequences batch first; rows may end early (`lengths`), and what lies behind a row's end never matters.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seq2seq.cells import CELLS, CellState, LSTMCell

StackState = tuple[CellState, ...]
"""The state of every layer, bottom first; each part `[rows, directions * hidden]`."""


class Layer(nn.Module):
    """One recurrent layer in one or two directions.

    Args:
        cell: a key of `cells.CELLS`.
        input_size, hidden_size: features of an input vector; units per direction.
        bidirectional: a second cell reads each row backwards; outputs and states are joined forward first.
        fused: use torch's kernel; otherwise the cell's own equations, step by step.
        forget_bias, init_range: how the cells start.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bidirectional: bool = False,
        fused: bool = True,
        forget_bias: float = 1.0,
        init_range: float | None = None,
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        self.directions = nn.ModuleList(
            CELLS[cell](input_size, hidden_size, forget_bias, init_range) for _ in range(directions)
        )
        self.state_parts = CELLS[cell].state_parts
        self.hidden_size = hidden_size
        self.fused = fused

    @property
    def cells(self) -> list[LSTMCell]:
        """The cell of each direction."""
        return cast(list[LSTMCell], list(self.directions))

    def zero_state(self, inputs: Float[Tensor, "rows *any"]) -> CellState:
        """The state before the first step, on the device and in the precision of the inputs."""
        size = self.hidden_size * len(self.cells)
        return tuple(inputs.new_zeros(inputs.shape[0], size) for _ in range(self.state_parts))

    def forward(
        self, inputs: Float[Tensor, "batch steps features"], state: CellState
    ) -> tuple[Float[Tensor, "batch steps hidden"], CellState]:
        """All steps of rows that are equally long."""
        if self.fused:
            outputs, state = self.run_kernel(inputs.transpose(0, 1), None, state)
            return outputs.transpose(0, 1), state
        lengths = inputs.new_full((inputs.shape[0],), inputs.shape[1], dtype=torch.long)
        return self.unroll(inputs, lengths, state)

    def run_packed(self, inputs: PackedSequence, state: CellState) -> tuple[PackedSequence, CellState]:
        """All steps of rows of many lengths, on the fused kernel; the state is in packed (sorted) order."""
        outputs, state = self.run_kernel(inputs.data, inputs.batch_sizes, state)
        return inputs._replace(data=outputs), state

    def run_kernel(self, inputs: Tensor, batch_sizes: Tensor | None, state: CellState) -> tuple[Tensor, CellState]:
        """torch's fused LSTM: `[steps, batch, features]`, or packed data `[tokens, features]` with batch sizes."""
        weights: list[Tensor] = []
        for cell in self.cells:
            # The kernel adds two biases; ours is one.
            weights += [cell.weight_input, cell.weight_hidden, cell.bias, torch.zeros_like(cell.bias)]
        # [rows, directions * hidden] <-> [directions, rows, hidden]
        states = [torch.stack(part.chunk(len(self.cells), dim=-1)) for part in state]
        both = len(self.cells) == 2
        # Biases, one layer, no dropout.
        if batch_sizes is None:
            outputs, *states = torch.lstm(inputs, states, weights, True, 1, 0.0, self.training, both, False)
        else:
            outputs, *states = torch.lstm(inputs, batch_sizes, states, weights, True, 1, 0.0, self.training, both)
        return outputs, tuple(torch.cat(part.unbind(0), dim=-1) for part in states)

    def unroll(
        self, inputs: Float[Tensor, "batch steps features"], lengths: Int[Tensor, "batch"], state: CellState
    ) -> tuple[Float[Tensor, "batch steps hidden"], CellState]:
        """The readable path: every direction's cell, one step after the other."""
        count = len(self.cells)
        starts = zip(*(part.chunk(count, dim=-1) for part in state), strict=True)
        outputs, ends = [], []
        for backward, (cell, start) in enumerate(zip(self.cells, starts, strict=True)):
            direction, end = unroll_cell(cell, inputs, lengths, start, backward=bool(backward))
            outputs.append(direction)
            ends.append(end)
        return torch.cat(outputs, dim=-1), tuple(torch.cat(part, dim=-1) for part in zip(*ends, strict=True))

    def step(
        self, inputs: Float[Tensor, "rows features"], state: CellState
    ) -> tuple[Float[Tensor, "rows hidden"], CellState]:
        """One step of a layer with one direction."""
        (cell,) = self.cells
        output, state = cell.step(cell.project(inputs), state)
        return output, state


def unroll_cell(
    cell: LSTMCell,
    inputs: Float[Tensor, "batch steps features"],
    lengths: Int[Tensor, "batch"],
    state: CellState,
    backward: bool,
) -> tuple[Float[Tensor, "batch steps hidden"], CellState]:
    """One cell over time, forwards or backwards; outputs behind a row's end are 0 and its state waits there."""
    projected = cell.project(inputs)
    steps = inputs.shape[1]
    outputs = []
    for time in reversed(range(steps)) if backward else range(steps):
        is_token = (time < lengths).unsqueeze(-1)
        output, following = cell.step(projected[:, time], state)
        state = tuple(torch.where(is_token, new, old) for new, old in zip(following, state, strict=True))
        outputs.append(output.masked_fill(~is_token, 0.0))
    if backward:
        outputs.reverse()
    return torch.stack(outputs, dim=1), state


class RecurrenceOutput(NamedTuple):
    """Outputs of the top layer `[batch, steps, hidden]`, and the final state of every layer."""

    outputs: Tensor
    state: StackState


class Recurrence(nn.Module):
    """A stack of layers with dropout between them and, if asked, residual connections.

    Args:
        cell, hidden_size, bidirectional, fused, forget_bias, init_range: as in `Layer`.
        input_size: features of the first layer's inputs.
        layers: how many.
        context_size: features of a context that joins the input of every layer (0: none).
        dropout: probability of zeroing a feature between layers.
        residual_from: the first layer (counted from 0) whose input is added to its output; `None`: no layer.

    Reference:
        Residual connections and contexts for the upper layers: Wu et al. (2016), arXiv:1609.08144.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        layers: int,
        context_size: int = 0,
        bidirectional: bool = False,
        dropout: float = 0.0,
        residual_from: int | None = None,
        fused: bool = True,
        forget_bias: float = 1.0,
        init_range: float | None = None,
    ) -> None:
        super().__init__()
        width = hidden_size * (2 if bidirectional else 1)
        sizes = ([input_size + context_size] + [width + context_size] * layers)[:layers]
        self.stack = nn.ModuleList(
            Layer(cell, size, hidden_size, bidirectional, fused, forget_bias, init_range) for size in sizes
        )
        self.dropout = dropout
        self.residual_from = layers if residual_from is None else residual_from
        self.fused = fused

    @property
    def layers(self) -> list[Layer]:
        """The layers, bottom first."""
        return cast(list[Layer], list(self.stack))

    def zero_state(self, inputs: Float[Tensor, "rows *any"]) -> StackState:
        """The state of every layer before the first step."""
        return tuple(layer.zero_state(inputs) for layer in self.layers)

    def forward(
        self,
        inputs: Float[Tensor, "batch steps features"],
        state: StackState,
        context: Float[Tensor, "batch steps context"] | None = None,
    ) -> RecurrenceOutput:
        """All steps at once, of rows whose ends do not matter (a decoder's)."""
        final: list[CellState] = []
        for index, (layer, start) in enumerate(zip(self.layers, state, strict=True)):
            outputs, end = layer(self.join(inputs, context, index), start)
            inputs = outputs + inputs if index >= self.residual_from else outputs
            final.append(end)
        return RecurrenceOutput(inputs, tuple(final))

    def forward_lengths(
        self, inputs: Float[Tensor, "batch steps features"], lengths: Int[Tensor, "batch"]
    ) -> RecurrenceOutput:
        """All steps at once, from zero, of rows that end at their lengths (an encoder's); outputs behind them are 0."""
        if not self.fused:
            return self.unroll_lengths(inputs, lengths)
        steps = inputs.shape[1]
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        order = packed.unsorted_indices
        assert order is not None
        final: list[CellState] = []
        for index, layer in enumerate(self.layers):
            dropped = packed._replace(data=self.join(packed.data, None, index))
            outputs, end = layer.run_packed(dropped, layer.zero_state(inputs))
            data = outputs.data + packed.data if index >= self.residual_from else outputs.data
            packed = packed._replace(data=data)
            final.append(tuple(part.index_select(0, order) for part in end))
        padded, _ = pad_packed_sequence(packed, batch_first=True, total_length=steps)
        return RecurrenceOutput(padded, tuple(final))

    def unroll_lengths(
        self, inputs: Float[Tensor, "batch steps features"], lengths: Int[Tensor, "batch"]
    ) -> RecurrenceOutput:
        """The slow twin of `forward_lengths`."""
        final: list[CellState] = []
        for index, layer in enumerate(self.layers):
            outputs, end = layer.unroll(self.join(inputs, None, index), lengths, layer.zero_state(inputs))
            inputs = outputs + inputs if index >= self.residual_from else outputs
            final.append(end)
        return RecurrenceOutput(inputs, tuple(final))

    def step(
        self,
        inputs: Float[Tensor, "rows features"],
        state: StackState,
        context: Float[Tensor, "rows context"] | None = None,
    ) -> tuple[Float[Tensor, "rows hidden"], StackState]:
        """One step of every layer."""
        return self.step_from(0, inputs, state, context)

    def step_from(
        self, first: int, inputs: Float[Tensor, "rows features"], state: StackState, context: Tensor | None = None
    ) -> tuple[Float[Tensor, "rows hidden"], StackState]:
        """One step of the layers from `first` on; `inputs` are what the layer below it gave, `state` is theirs."""
        following: list[CellState] = []
        for index, start in enumerate(state, first):
            output, end = self.layers[index].step(self.join(inputs, context, index), start)
            inputs = output + inputs if index >= self.residual_from else output
            following.append(end)
        return inputs, tuple(following)

    def join(self, inputs: Tensor, context: Tensor | None, index: int) -> Tensor:
        """A layer's input: the layer below after dropout, and the context."""
        if index:
            inputs = F.dropout(inputs, self.dropout, self.training)
        return inputs if context is None else torch.cat([inputs, context], dim=-1)
