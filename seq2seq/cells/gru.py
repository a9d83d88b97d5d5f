"""Gated recurrent units: one vector that is memory and output at once.

The rows of weights and biases lie in torch's order of gates: r, z, n; those of `MinimalGRUCell` are f, n.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.cells.contract import (
    CellStart,
    CellState,
    Gates,
    StepMasks,
    input_products,
    masked,
    new_parameters,
    set_bias,
)


class GRUCell(nn.Module):
    """One step of a gated recurrent unit that resets after the recurrent product.

        r = sigmoid(W_r x + U_r h + b_r)      z = sigmoid(W_z x + U_z h + b_z)
        n = tanh(W_n x + b_n + r * (U_n h + d))
        h' = (1 - z) * n + z * h

    Args:
        input_size: features per input vector.
        hidden_size: units in h.
        bias: whether there are b and d.
        start: how the parameters start; b_z by `CellStart.draw_keep_bias`, since z keeps.

    Reference:
        Cho et al. (2014), arXiv:1406.1078, version 1; the order that cuDNN and torch compute. Version 3 resets before
        the product: `ResetBeforeGRUCell`.
    """

    state_parts: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(3, input_size, hidden_size, bias, start)
        set_bias(self.bias, 1, start.draw_keep_bias(hidden_size))
        self.bias_reset = nn.Parameter(torch.zeros(hidden_size)) if bias else None

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        (hidden,) = state
        sizes = [2 * self.hidden_size, self.hidden_size]
        gates, candidate = projected.split(sizes, dim=-1)
        recurrent = F.linear(masked(hidden, masks.hidden), self.weight_hidden)
        recurrent_gates, recurrent_candidate = recurrent.split(sizes, dim=-1)
        r, z = (gates + recurrent_gates).sigmoid().chunk(2, dim=-1)
        if self.bias_reset is not None:
            recurrent_candidate = recurrent_candidate + self.bias_reset.to(recurrent.dtype)
        n = torch.addcmul(candidate, r, recurrent_candidate).tanh()
        hidden = torch.lerp(masked(n, masks.update), hidden, z)
        return (hidden,), {"reset": r, "update": z}


class ResetBeforeGRUCell(nn.Module):
    """One step of a gated recurrent unit that resets before the recurrent product.

        r = sigmoid(W_r x + U_r h + b_r)      z = sigmoid(W_z x + U_z h + b_z)
        n = tanh(W_n x + U_n (r * h) + b_n)   h' = (1 - z) * n + z * h

    Args:
        input_size, hidden_size, start: as in `GRUCell`.
        bias: whether there is b.

    Reference:
        Cho et al. (2014), arXiv:1406.1078, version 3; Chung et al. (2014), arXiv:1412.3555.
    """

    state_parts: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(3, input_size, hidden_size, bias, start)
        set_bias(self.bias, 1, start.draw_keep_bias(hidden_size))

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        (hidden,) = state
        sizes = [2 * self.hidden_size, self.hidden_size]
        gates, candidate = projected.split(sizes, dim=-1)
        weight_gates, weight_candidate = self.weight_hidden.split(sizes)
        seen = masked(hidden, masks.hidden)
        r, z = torch.addmm(gates, seen, weight_gates.t()).sigmoid().chunk(2, dim=-1)
        n = torch.addmm(candidate, r * seen, weight_candidate.t()).tanh()
        hidden = torch.lerp(masked(n, masks.update), hidden, z)
        return (hidden,), {"reset": r, "update": z}


class MinimalGRUCell(nn.Module):
    """One step of a unit with a single gate, which writes and resets at once.

        f = sigmoid(W_f x + U_f h + b_f)      n = tanh(W_n x + U_n (f * h) + b_n)
        h' = (1 - f) * h + f * n

    Args:
        input_size, hidden_size, bias: as in `ResetBeforeGRUCell`.
        start: how the parameters start; b_f at minus `CellStart.draw_keep_bias`, since f overwrites.

    Reference:
        Zhou et al. (2016), "Minimal gated unit for recurrent neural networks", arXiv:1603.09420.
    """

    state_parts: ClassVar[int] = 1

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(2, input_size, hidden_size, bias, start)
        set_bias(self.bias, 0, -start.draw_keep_bias(hidden_size))

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        (hidden,) = state
        gate, candidate = projected.chunk(2, dim=-1)
        weight_gate, weight_candidate = self.weight_hidden.chunk(2)
        seen = masked(hidden, masks.hidden)
        f = torch.addmm(gate, seen, weight_gate.t()).sigmoid()
        n = torch.addmm(candidate, f * seen, weight_candidate.t()).tanh()
        hidden = torch.lerp(hidden, masked(n, masks.update), f)
        return (hidden,), {"forget": f}
