"""What every cell offers, and what all of them share: parameters at the start, input products, masks."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CellState = tuple[Tensor, ...]
"""What a cell carries from step to step, each part `[rows, hidden]`; the first one, h, is also its output. `(h,)`, or
`(h, c)` for cells with a memory of their own."""

Gates = dict[str, Tensor]
"""The gates of one step by their names, each `[rows, hidden]` between 0 and 1; none for cells that have none. They are
for `diagnostics`: training and translating throw them away."""


class CellStart(NamedTuple):
    """How a cell's parameters start.

    Attributes:
        forget_bias: bias of the gate that keeps the memory; sigmoid(forget_bias) of it is kept at each step at first.
            A gate g that keeps the share 1 - g starts with the opposite bias.
        initialisation: of the recurrent weights. `orthogonal`, gate by gate: they neither stretch nor shrink what
            passes through (Saxe et al. 2014, arXiv:1312.6120), and the others are uniform by fan-in and fan-out
            (Glorot & Bengio 2010). `uniform`: all weights in [-init_range, init_range]. `identity`, for cells without
            gates: the others normal with a deviation of 0.001 (Le, Jaitly & Hinton 2015, arXiv:1504.00941).
            Other biases start at 0, gains at 1.
        init_range: used by `uniform` alone.
        chrono: instead of `forget_bias`, the longest dependency to expect, in steps: every unit starts with a time
            scale of its own between 2 and that, and writes as seldom as it forgets (Tallec & Ollivier 2018,
            arXiv:1804.11188).
    """

    forget_bias: float = 1.0
    initialisation: Literal["orthogonal", "uniform", "identity"] = "orthogonal"
    init_range: float = 0.1
    chrono: int | None = None

    def draw_keep_bias(self, hidden_size: int) -> Float[Tensor, "hidden"]:
        """A bias for the gate that keeps the memory: `forget_bias`; or with `chrono` T, log(u), where u is drawn
        uniformly from [1, T - 1] for each unit."""
        if self.chrono is None:
            return torch.full((hidden_size,), self.forget_bias)
        return torch.empty(hidden_size).uniform_(1, self.chrono - 1).log()


class StepMasks(NamedTuple):
    """Dropout inside the recurrence: masks `[rows, hidden]` of 0 and 1 / keep share, the same at all steps.

    Attributes:
        hidden: on h where it enters the recurrent products (Gal & Ghahramani 2016, arXiv:1512.05287).
        update: on what is added to the memory (Semeniuta, Severyn & Barth 2016, arXiv:1603.05118).
    """

    hidden: Tensor | None = None
    update: Tensor | None = None


@runtime_checkable
class Cell(Protocol):
    """One step of a recurrent layer in one direction: a module whose call is the step.

    What is multiplied by the inputs needs no state, so it is computed by `project`, for all steps at once; the call
    does the rest, a step at a time.

    The letters of the cells' equations, and the parameters that they stand for:

        x, h, c          input and state;   h', c'  the state after the step;   *  element by element
        W                weight_input
        U                weight_hidden
        b                bias; in `LayerNormLSTMCell` bias_gates
        d                bias_reset                                           of `GRUCell`
        p_i, p_f, p_o    peephole_input, peephole_forget, peephole_output     of `PeepholeLSTMCell`
        a_x, a_h, a_c    gain_input, gain_hidden, gain_cell                   of `LayerNormLSTMCell`
        b_c              bias_cell                                            of `LayerNormLSTMCell`

    W_i, U_i and b_i are the rows of W, U and b that belong to gate i.

    Attributes:
        state_parts: how many parts its state has.
        input_size: features per input vector.
        hidden_size: units in each part of the state.
        weight_input: `[gates * hidden, input]`, the rows of one gate after those of another; a candidate (g, n) counts
            as a gate here. Each module says in which order.
        weight_hidden: `[gates * hidden, hidden]`, in the same order. Not declared below, since `LinearCell` has none.
        bias: `[gates * hidden]`, in the same order, added by `project`; `None` if that adds none.
    """

    state_parts: ClassVar[int]
    input_size: int
    hidden_size: int
    weight_input: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, start: CellStart = CellStart()
    ) -> None: ...

    def project(self, inputs: Float[Tensor, "*rows features"], first_feature: int = 0) -> Float[Tensor, "*rows gates"]:
        """What needs no state, for any number of steps at once: W x + b.

        `LinearCell` and `MemoryCell`: W tanh(x). `LayerNormLSTMCell`: W x.

        If x = [a; b] and a has k features, project(x) = project(a) + project(b, first_feature=k). Only the part that
        begins at feature 0 carries the bias.

        Args:
            inputs: all features of x, or those from `first_feature` on as far as they are given.
            first_feature: the place in x, counted from 0, of the first one that is given.
        """
        ...

    def __call__(
        self, projected: Float[Tensor, "rows gates"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[CellState, Gates]:
        """One time step from projected inputs: the next state, and the gates that made it."""
        ...


def new_parameters(
    gates: int, input_size: int, hidden_size: int, bias: bool, start: CellStart
) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter | None]:
    """Input weights, recurrent weights and bias of a cell with this many gates; their rows lie one gate after the
    other."""
    weight_input = nn.Parameter(torch.empty(gates * hidden_size, input_size))
    weight_hidden = nn.Parameter(torch.empty(gates * hidden_size, hidden_size))
    with torch.no_grad():
        for rows_input, rows_hidden in zip(weight_input.chunk(gates), weight_hidden.chunk(gates), strict=True):
            if start.initialisation == "uniform":
                nn.init.uniform_(rows_input, -start.init_range, start.init_range)
                nn.init.uniform_(rows_hidden, -start.init_range, start.init_range)
            elif start.initialisation == "identity":
                nn.init.normal_(rows_input, std=0.001)
                nn.init.eye_(rows_hidden)
            else:
                nn.init.xavier_uniform_(rows_input)
                nn.init.orthogonal_(rows_hidden)
    return weight_input, weight_hidden, nn.Parameter(torch.zeros(gates * hidden_size)) if bias else None


def set_bias(bias: Tensor | None, gate: int, values: Float[Tensor, "hidden"]) -> None:
    """Start the bias of one gate, counted from 0, at these values; does nothing without a bias."""
    if bias is not None:
        with torch.no_grad():
            bias[gate * len(values) : (gate + 1) * len(values)] = values


def input_products(
    inputs: Float[Tensor, "*rows features"], weight_input: Tensor, bias: Tensor | None, first_feature: int
) -> Float[Tensor, "*rows gates"]:
    """`Cell.project` for W x + b."""
    columns = weight_input[:, first_feature : first_feature + inputs.shape[-1]]
    return F.linear(inputs, columns, None if first_feature else bias)


def masked(values: Float[Tensor, "rows hidden"], mask: Tensor | None) -> Float[Tensor, "rows hidden"]:
    """Dropout by a mask that was drawn before, if there is one."""
    return values if mask is None else values * mask.to(values.dtype)
