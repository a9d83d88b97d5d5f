"""Cells without gates: plain recurrent networks, and the two memories that lead from them to the LSTM."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.cells.contract import (
    CellStart,
    CellState,
    Gates,
    StepMasks,
    input_products,
    masked,
    new_parameters,
)


class TanhRNNCell(nn.Module):
    """One step of a plain recurrent network. What it remembers passes through U and tanh at every step, and fades.

        h' = tanh(W x + U h + b)

    Args:
        input_size: features per input vector.
        hidden_size: units in h.
        bias: whether there is b.
        start: how the parameters start.

    Reference:
        Elman (1990), "Finding structure in time".
    """

    state_parts: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(1, input_size, hidden_size, bias, start)

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        (hidden,) = state
        hidden = torch.addmm(projected, masked(hidden, masks.hidden), self.weight_hidden.t()).tanh()
        return (hidden,), {}


class ReluRNNCell(nn.Module):
    """One step of a plain recurrent network of rectified units.

        h' = max(0, W x + U h + b)

    Args:
        input_size, hidden_size, bias: as in `TanhRNNCell`.
        start: how the parameters start; `identity` makes it remember at first (Le et al.).

    Reference:
        Le, Jaitly & Hinton (2015), arXiv:1504.00941.
    """

    state_parts: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(1, input_size, hidden_size, bias, start)

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        (hidden,) = state
        hidden = torch.addmm(projected, masked(hidden, masks.hidden), self.weight_hidden.t()).relu()
        return (hidden,), {}


class LinearCell(nn.Module):
    """One step of the constant error carousel alone: a sum of all that came in, with recurrent weight 1.

        h' = h + W tanh(x)

    Errors flow back through any number of steps as they are. Nothing can be forgotten, and W sees no context: the
    order of the inputs is lost.

    Args:
        input_size: features per input vector.
        hidden_size: units in h.
        bias: taken for the other cells' sake; a bias would make h grow with time, so there is none.
        start: how W starts.

    Reference:
        Hochreiter & Schmidhuber (1997), section 3.2.
    """

    state_parts: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:  # noqa: ARG002  # `bias`: all cells are made alike
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, _, self.bias = new_parameters(1, input_size, hidden_size, False, start)

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs.tanh(), self.weight_input, None, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        (hidden,) = state
        return (hidden + masked(projected, masks.update),), {}


class MemoryCell(nn.Module):
    """One step of a memory without gates: everything is added to it, and its output saturates.

        c' = c + W tanh(x) + U tanh(h)      h' = tanh(c')

    Args:
        input_size: features per input vector.
        hidden_size: units in h and c.
        bias: taken for the other cells' sake; a bias would make c grow with time, so there is none.
        start: how W and U start.

    Reference:
        Hochreiter & Schmidhuber (1997), section 3.2, on why the carousel needs gates.
    """

    state_parts: ClassVar[int] = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:  # noqa: ARG002  # `bias`: all cells are made alike
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(1, input_size, hidden_size, False, start)

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs.tanh(), self.weight_input, None, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        hidden, cell = state
        update = torch.addmm(projected, masked(hidden.tanh(), masks.hidden), self.weight_hidden.t())
        cell = cell + masked(update, masks.update)
        return (cell.tanh(), cell), {}
