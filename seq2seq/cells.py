"""Recurrent cells: one time step each, written as its equations.

A cell owns its parameters; `recurrence` runs it over time, step by step or through a fused kernel of torch that reads
the same parameters.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CellState = tuple[Tensor, ...]
"""What a cell carries from step to step, each part `[rows, hidden]`: `(hidden, cell)` for the LSTM."""


class LSTMCell(nn.Module):
    """One step of a long short-term memory with forget gate.

        i = sigmoid(W_i x + U_i h + b_i)      f = sigmoid(W_f x + U_f h + b_f)
        g = tanh(W_g x + U_g h + b_g)         o = sigmoid(W_o x + U_o h + b_o)
        c' = f * c + i * g                    h' = o * tanh(c')

    Args:
        input_size: features per input vector.
        hidden_size: units in h and c.
        forget_bias: b_f at initialisation; 1 lets the memory remember before it has learnt what to forget.
        init_range: the weights start uniform in [-init_range, init_range]; `None`: recurrent ones orthogonal, so that
            they neither stretch nor shrink what passes through (Saxe et al. 2014, arXiv:1312.6120), the others
            uniform by fan-in and fan-out (Glorot & Bengio 2010), gate by gate. The other biases start at 0.

    Note:
        The four gates lie in torch's order (i, f, g, o). torch's two bias vectors, of which only the sum matters, are
        one here.

    Reference:
        Hochreiter & Schmidhuber (1997); forget gate: Gers, Schmidhuber & Cummins (2000).
    """

    state_parts = 2

    def __init__(
        self, input_size: int, hidden_size: int, forget_bias: float = 1.0, init_range: float | None = None
    ) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.weight_input = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hidden = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        with torch.no_grad():
            initialise(self.weight_input, self.weight_hidden, init_range, gates=4)
            self.bias[hidden_size : 2 * hidden_size] = forget_bias

    def project(self, inputs: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows gates"]:
        """The part of the gates that needs no recurrence, W x + b, for any number of steps in one call."""
        return F.linear(inputs, self.weight_input, self.bias)

    def step(
        self, projected: Float[Tensor, "rows gates"], state: CellState
    ) -> tuple[Float[Tensor, "rows hidden"], CellState]:
        """One time step from projected inputs: the output h' and the next state (h', c')."""
        hidden, cell = state
        i, f, g, o = torch.addmm(projected, hidden, self.weight_hidden.t()).chunk(4, dim=-1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        hidden = o.sigmoid() * cell.tanh()
        return hidden, (hidden, cell)


def initialise(weight_input: Tensor, weight_hidden: Tensor, init_range: float | None, gates: int) -> None:
    """Set a cell's weights, whose rows are those of its gates one after the other; see `LSTMCell`."""
    if init_range is not None:
        nn.init.uniform_(weight_input, -init_range, init_range)
        nn.init.uniform_(weight_hidden, -init_range, init_range)
        return
    for gate_input, gate_hidden in zip(weight_input.chunk(gates), weight_hidden.chunk(gates), strict=True):
        nn.init.xavier_uniform_(gate_input)
        nn.init.orthogonal_(gate_hidden)


CELLS = {"lstm": LSTMCell}
"""Every cell by its name in `ModelConfig.cell`."""
