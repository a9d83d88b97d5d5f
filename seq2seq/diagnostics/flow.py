"""How gradients flow back through time: what is left of an error some steps before the place where it was made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.cells import Cell, CellState, LinearCell, ReluRNNCell, TanhRNNCell
from seq2seq.data import Batch
from seq2seq.diagnostics.trace import Call, Trace, Traceable, trace
from seq2seq.errors import ConfigError


@dataclass(frozen=True)
class Flow:
    """The flow through one cell, by distance T - t in steps: entry 0 is the last step itself.

    Attributes:
        layer: as "decoder layer 1".
        hidden: ||dL_T / dh_t||, the mean over rows, `[distances]`.
        memory: ||dL_T / dc_t|| for cells with a memory of their own, else `None`.
        jacobian: largest singular value of one step's Jacobian, of all the state by all the state before it, the mean
            over the rows looked at: entry k is of the step from distance k + 1 to k. `[distances - 1]`; empty if it
            was not asked for.
        bound: (gamma_u gamma_f)^k, over which a plain network's gradient can never rise as a share of its entry 0,
            `[distances]`; `None` for all cells but `TanhRNNCell`, `ReluRNNCell` and `LinearCell` (neither gates nor
            `MemoryCell` have such a bound) and where there are other cells, through which gradient comes too.
            gamma_u is the largest singular value of the recurrent weights (1 in `LinearCell`), gamma_f the steepest
            slope of the activation (1).

    Reference:
        Bengio, Simard & Frasconi (1994); Pascanu, Mikolov & Bengio (2013), arXiv:1211.5063.
    """

    layer: str
    hidden: Float[Tensor, "distances"]
    memory: Float[Tensor, "distances"] | None
    jacobian: Float[Tensor, "steps"]
    bound: Float[Tensor, "distances"] | None

    @property
    def half_life(self) -> float:
        """The distance in steps at which half of the gradient of the longest-lived part is left: of c where there is
        one, else of h. Infinite if it never gets so small, NaN if there is no gradient, or one that is not finite."""
        return half_life(self.hidden if self.memory is None else self.memory)


def gradient_flow(
    model: Traceable, batch: Batch | Float[Tensor, "batch steps features"], *, jacobian_rows: int = 1
) -> list[Flow]:
    """Measure how the gradient of the loss at the last step fades or grows on its way back.

    Of every row, the loss at its own last step is followed back, through the cell's recurrence and whatever else joins
    its steps (upper layers, attention). Dropout is off, gradients of the parameters are left as they are.

    Args:
        model: a model, or a stack or cell of `recurrence` and `cells`.
        batch: pairs for a model; else inputs.
        jacobian_rows: rows of which Jacobians are computed, at a cost of (state size)^3 per step; 0: none.

    Raises:
        ConfigError: in `torch.inference_mode`.
    """
    if torch.is_inference_mode_enabled():
        raise ConfigError("gradients need tensors that keep track of them, got torch.inference_mode; leave it first")
    with torch.enable_grad():
        traces, loss = trace(model, batch)
        states = [part for found in traces for call in found.calls for part in call.after]
        gradients = iter(torch.autograd.grad(loss, states, allow_unused=True))
    flows = []
    for found in traces:
        norms = [[row_norms(next(gradients), part) for part in call.after] for call in found.calls]
        hidden, *memory = (by_distance([step[part] for step in norms], found.ends()) for part in range(len(norms[0])))
        flows.append(
            Flow(
                found.layer,
                hidden,
                memory[0] if memory else None,
                jacobians(found, jacobian_rows),
                product_bound(found.cell, len(hidden)) if len(traces) == 1 else None,
            )
        )
    return flows


def row_norms(gradient: Tensor | None, part: Float[Tensor, "rows hidden"]) -> Float[Tensor, "rows"]:
    """Length of every row; 0 where the loss does not depend on it."""
    return part.new_zeros(len(part)) if gradient is None else gradient.norm(dim=-1)


def by_distance(norms: Iterable[Tensor], ends: Int[Tensor, "rows"]) -> Float[Tensor, "distances"]:
    """The mean over rows of norms given step by step, by the distance from each row's last step, `ends`."""
    sums, counts = torch.zeros(int(ends.max()) + 1), torch.zeros(int(ends.max()) + 1)
    for number, step in enumerate(norms):
        distance = ends[: len(step)] - number
        counts_here = distance >= 0
        sums.index_add_(0, distance[counts_here], step.detach().cpu().float()[counts_here])
        counts.index_add_(0, distance[counts_here], torch.ones(int(counts_here.sum())))
    return sums / counts


def jacobians(found: Trace, rows: int) -> Float[Tensor, "steps"]:
    """Largest singular values of the steps of the first rows, the last step first; their mean over rows."""
    if rows == 0:
        return torch.zeros(0)
    ends = found.ends()[:rows]
    # A row's first step has no step before it; backwards, rows join in until the last call.
    values = (
        torch.linalg.matrix_norm(step_jacobian(found.cell, call, min(rows, len(before.projected))), ord=2)
        for before, call in pairwise(found.calls[: int(ends.max()) + 1])
    )
    return by_distance(chain([torch.zeros(0)], values), ends)[:-1]


def step_jacobian(cell: Cell, call: Call, rows: int) -> Float[Tensor, "rows state state"]:
    """The derivative of the state after a step by the state before it, for the first rows."""
    size = cell.hidden_size

    def advance(state: Tensor, projected: Tensor) -> Tensor:
        """One row's step, its state in one vector."""
        parts: CellState = tuple(part.unsqueeze(0) for part in state.split(size))
        after, _ = cell(projected.unsqueeze(0), parts)
        return torch.cat(after, dim=-1)[0]

    before = torch.cat(call.before, dim=-1).detach()[:rows]
    found: Tensor = torch.func.vmap(torch.func.jacrev(advance))(before, call.projected.detach()[: len(before)])
    return found.detach()


def product_bound(cell: Cell, distances: int) -> Float[Tensor, "distances"] | None:
    """`Flow.bound` of a cell."""
    if isinstance(cell, LinearCell):
        gamma = 1.0
    elif isinstance(cell, TanhRNNCell | ReluRNNCell):
        gamma = float(torch.linalg.matrix_norm(cell.weight_hidden.detach().float(), ord=2))
    else:
        return None
    return gamma ** torch.arange(distances, dtype=torch.float32)


def half_life(norms: Float[Tensor, "distances"]) -> float:
    """The first distance at which a curve is at half its start, between steps by its logarithm; infinite if never, NaN
    if it starts with nothing or is not finite."""
    values = norms.tolist()
    if values[0] == 0 or not all(map(math.isfinite, values)):
        return math.nan
    for distance, (above, below) in enumerate(pairwise(values)):
        if below <= values[0] / 2:
            if below <= 0:
                return float(distance + 1)
            return distance + math.log(above / (values[0] / 2)) / math.log(above / below)
    return math.inf
