"""Long short-term memory and its variants: a memory c that gates write, keep and read.

The rows of weights and biases lie in torch's order of gates: i, f, g, o; those of `CoupledLSTMCell` are i, g, o.
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


class LSTMCell(nn.Module):
    """One step of a long short-term memory with forget gate.

        i = sigmoid(W_i x + U_i h + b_i)      f = sigmoid(W_f x + U_f h + b_f)
        g = tanh(W_g x + U_g h + b_g)         o = sigmoid(W_o x + U_o h + b_o)
        c' = f * c + i * g                    h' = o * tanh(c')

    Args:
        input_size: features per input vector.
        hidden_size: units in h and c.
        bias: whether there is b.
        start: how the parameters start; b_f by `CellStart.draw_keep_bias`, and with `chrono` b_i = -b_f.

    Note:
        torch's two bias vectors, of which only the sum matters, are one here.

    Reference:
        Hochreiter & Schmidhuber (1997); forget gate: Gers, Schmidhuber & Cummins (2000).
    """

    state_parts: ClassVar[int] = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(4, input_size, hidden_size, bias, start)
        start_gates(self.bias, hidden_size, start)

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        hidden, cell = state
        i, f, g, o = torch.addmm(projected, masked(hidden, masks.hidden), self.weight_hidden.t()).chunk(4, dim=-1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cell = f * cell + i * masked(g, masks.update)
        hidden = o * cell.tanh()
        return (hidden, cell), {"input": i, "forget": f, "output": o}


class PeepholeLSTMCell(nn.Module):
    """One step of an LSTM whose gates see the memory cell.

        i = sigmoid(W_i x + U_i h + p_i * c + b_i)      f = sigmoid(W_f x + U_f h + p_f * c + b_f)
        g = tanh(W_g x + U_g h + b_g)                   c' = f * c + i * g
        o = sigmoid(W_o x + U_o h + p_o * c' + b_o)     h' = o * tanh(c')

    Args:
        input_size, hidden_size, bias, start: as in `LSTMCell`; the peepholes p start at 0.

    Reference:
        Gers & Schmidhuber (2000), "Recurrent nets that time and count".
    """

    state_parts: ClassVar[int] = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(4, input_size, hidden_size, bias, start)
        start_gates(self.bias, hidden_size, start)
        self.peephole_input = nn.Parameter(torch.zeros(hidden_size))
        self.peephole_forget = nn.Parameter(torch.zeros(hidden_size))
        self.peephole_output = nn.Parameter(torch.zeros(hidden_size))

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        hidden, cell = state
        i, f, g, o = torch.addmm(projected, masked(hidden, masks.hidden), self.weight_hidden.t()).chunk(4, dim=-1)
        i = torch.addcmul(i, self.peephole_input, cell).sigmoid()
        f = torch.addcmul(f, self.peephole_forget, cell).sigmoid()
        cell = f * cell + i * masked(g.tanh(), masks.update)
        o = torch.addcmul(o, self.peephole_output, cell).sigmoid()
        hidden = o * cell.tanh()
        return (hidden, cell), {"input": i, "forget": f, "output": o}


class CoupledLSTMCell(nn.Module):
    """One step of an LSTM whose forget gate is coupled to its input gate: it forgets as much as it writes.

        i = sigmoid(W_i x + U_i h + b_i)      f = 1 - i
        g = tanh(W_g x + U_g h + b_g)         o = sigmoid(W_o x + U_o h + b_o)
        c' = f * c + i * g                    h' = o * tanh(c')

    Args:
        input_size, hidden_size, bias: as in `LSTMCell`.
        start: how the parameters start; b_i at minus `CellStart.draw_keep_bias`, since 1 - i keeps.

    Reference:
        Greff et al. (2017), "LSTM: A search space odyssey", arXiv:1503.04069 (there: CIFG).
    """

    state_parts: ClassVar[int] = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, self.bias = new_parameters(3, input_size, hidden_size, bias, start)
        set_bias(self.bias, 0, -start.draw_keep_bias(hidden_size))

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, self.bias, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        hidden, cell = state
        i, g, o = torch.addmm(projected, masked(hidden, masks.hidden), self.weight_hidden.t()).chunk(3, dim=-1)
        i, g, o = i.sigmoid(), g.tanh(), o.sigmoid()
        f = 1 - i
        cell = f * cell + i * masked(g, masks.update)
        hidden = o * cell.tanh()
        return (hidden, cell), {"input": i, "forget": f, "output": o}


class LayerNormLSTMCell(nn.Module):
    """One step of an LSTM whose gates and memory are layer-normalised.

        (i, f, g, o) = LN(U h) * a_h + LN(W x) * a_x + b
        i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)      g = tanh(g)
        c' = f * c + i * g                                h' = o * tanh(LN(c') * a_c + b_c)

    LN takes the mean from a row and divides by its deviation; it is taken over all four gates at once.

    Args:
        input_size, hidden_size, start: as in `LSTMCell`.
        bias: whether there are b and b_c.

    Note:
        The paper's two biases inside the first two normalisations would only add to b, and are left out.

    Reference:
        Ba, Kiros & Hinton (2016), arXiv:1607.06450, equations 20 to 22.
    """

    state_parts: ClassVar[int] = 2

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_input, self.weight_hidden, bias_gates = new_parameters(4, input_size, hidden_size, bias, start)
        start_gates(bias_gates, hidden_size, start)
        # The input products are normalised before any bias joins them.
        self.bias: nn.Parameter | None = None
        self.bias_gates = bias_gates
        self.bias_cell = nn.Parameter(torch.zeros(hidden_size)) if bias else None
        self.gain_input = nn.Parameter(torch.ones(4 * hidden_size))
        self.gain_hidden = nn.Parameter(torch.ones(4 * hidden_size))
        self.gain_cell = nn.Parameter(torch.ones(hidden_size))

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        return input_products(inputs, self.weight_input, None, first_feature)

    def forward(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        hidden, cell = state
        recurrent = F.linear(masked(hidden, masks.hidden), self.weight_hidden)
        gates = F.layer_norm(recurrent, recurrent.shape[-1:], self.gain_hidden, self.bias_gates)
        gates = gates + F.layer_norm(projected, projected.shape[-1:], self.gain_input)
        i, f, g, o = gates.chunk(4, dim=-1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        cell = f * cell + i * masked(g, masks.update)
        hidden = o * F.layer_norm(cell, cell.shape[-1:], self.gain_cell, self.bias_cell).tanh()
        return (hidden, cell), {"input": i, "forget": f, "output": o}


def start_gates(bias: Tensor | None, hidden_size: int, start: CellStart) -> None:
    """b_f by `CellStart.draw_keep_bias`, and with chrono initialisation b_i = -b_f."""
    keep_bias = start.draw_keep_bias(hidden_size)
    set_bias(bias, 1, keep_bias)
    if start.chrono is not None:
        set_bias(bias, 0, -keep_bias)
