"""One layer over time: the readable loop, and its fast twin, a fused kernel of torch that reads the same parameters.

Sequences come time first, as torch's kernels want them: `[steps, rows, features]` where all rows are equally long, or
packed `[tokens, features]` with the number of rows of every step, which falls as rows end (the longest come first).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from seq2seq.cells import Cell, CellState, GRUCell, LSTMCell, ReluRNNCell, StepMasks, TanhRNNCell
from seq2seq.errors import ConfigError

FusedCell = TanhRNNCell | ReluRNNCell | GRUCell | LSTMCell

KERNELS: dict[type, Callable[..., Any]] = {
    TanhRNNCell: torch.rnn_tanh,
    ReluRNNCell: torch.rnn_relu,
    GRUCell: torch.gru,
    LSTMCell: torch.lstm,
}
"""The cells that torch runs over time in one call."""


def run_kernel(
    cells: Sequence[FusedCell], inputs: Tensor, batch_sizes: Tensor | None, state: CellState, training: bool
) -> tuple[Tensor, CellState]:
    """One layer on torch's kernel.

    Args:
        cells: of the forward direction, and of the backward one if there is one.
        inputs: `[steps, rows, features]`, or packed `[tokens, features]`.
        batch_sizes: rows of every step if packed, `[steps]` on the CPU.
        state: before the first step, each part `[rows, directions * hidden]`.
        training: whether gradients will be asked for.
    """
    kernel = KERNELS[type(cells[0])]
    weights = [weight for cell in cells for weight in kernel_weights(cell)]
    device = inputs.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs.dtype
    inputs, weights = inputs.to(precision), [weight.to(precision) for weight in weights]
    # [rows, directions * hidden] -> [directions, rows, hidden]
    starts = [torch.stack(part.chunk(len(cells), dim=-1)).to(precision) for part in state]
    start = starts if len(starts) == 2 else starts[0]
    biased, backward = cells[0].bias is not None, len(cells) == 2
    # autocast passes over some of the kernels, and what it does to the others differs between devices.
    with torch.autocast(device, enabled=False):
        # One layer, no dropout.
        if batch_sizes is None:
            outputs, *ends = kernel(inputs, start, weights, biased, 1, 0.0, training, backward, False)
        else:
            outputs, *ends = kernel(inputs, batch_sizes, start, weights, biased, 1, 0.0, training, backward)
    # [directions, rows, hidden] -> [rows, directions * hidden]
    return outputs, tuple(torch.cat(part.unbind(0), dim=-1) for part in ends)


def kernel_weights(cell: FusedCell) -> list[Tensor]:
    """A cell's parameters in the kernels' order. They add two biases, of which only the sum matters, except that a
    GRU resets one of them."""
    weights: list[Tensor] = [cell.weight_input, cell.weight_hidden]
    if cell.bias is None:
        return weights
    second = torch.zeros_like(cell.bias)
    if isinstance(cell, GRUCell) and cell.bias_reset is not None:
        second = torch.cat([second[: 2 * cell.hidden_size], cell.bias_reset])
    return [*weights, cell.bias, second]


def unroll(
    cells: Sequence[Cell],
    inputs: Tensor,
    batch_sizes: Tensor | None,
    state: CellState,
    masks: Sequence[StepMasks],
    compiled: bool = False,
) -> tuple[Tensor, CellState]:
    """What `run_kernel` computes, for any cell, one step after the other.

    Args:
        cells, inputs, batch_sizes, state: as in `run_kernel`.
        masks: dropout inside the recurrence, for each direction.
        compiled: let torch.compile merge what a step does besides its product.
    """
    starts = zip(*(part.chunk(len(cells), dim=-1) for part in state), strict=True)
    outputs, ends = [], []
    for direction, (cell, start, mask) in enumerate(zip(cells, starts, masks, strict=True)):
        run = unroll_forwards if direction == 0 else unroll_backwards
        projected = cell.project(inputs)
        # Under autocast the products are of lower precision than what came in.
        start = tuple(part.to(projected.dtype) for part in start)
        steps = projected.unbind(0) if batch_sizes is None else projected.split(batch_sizes.tolist())
        with many_graphs() if compiled else nullcontext():
            step_outputs, end = run(compiled_step(cell) if compiled else cell, steps, start, mask)
        outputs.append(torch.stack(step_outputs) if batch_sizes is None else torch.cat(step_outputs))
        ends.append(end)
    return torch.cat(outputs, dim=-1), tuple(torch.cat(part, dim=-1) for part in zip(*ends, strict=True))


def unroll_forwards(
    step: Callable[..., Any], steps: Sequence[Tensor], state: CellState, masks: StepMasks
) -> tuple[list[Tensor], CellState]:
    """Outputs of every step and the final state; the state of a row that ends waits as it is."""
    outputs, ended = [], list[CellState]()
    for projected in steps:
        rows = len(projected)
        if rows < len(state[0]):
            ended.append(tuple(part[rows:] for part in state))
            state, masks = tuple(part[:rows] for part in state), first_rows(masks, rows)
        state, _ = step(projected, state, masks)
        outputs.append(state[0])
    # The rows that ended last stand first.
    return outputs, tuple(torch.cat(part) for part in zip(state, *reversed(ended), strict=True))


def unroll_backwards(
    step: Callable[..., Any], steps: Sequence[Tensor], state: CellState, masks: StepMasks
) -> tuple[list[Tensor], CellState]:
    """The same from the last step to the first; a row joins where it ends."""
    outputs: list[Tensor] = []
    start = state
    state = tuple(part[: len(steps[-1])] for part in start)
    for projected in reversed(steps):
        rows = len(projected)
        if rows > len(state[0]):
            state = tuple(torch.cat([part, new[len(part) : rows]]) for part, new in zip(state, start, strict=True))
        state, _ = step(projected, state, first_rows(masks, rows))
        outputs.append(state[0])
    return outputs[::-1], state


def first_rows(masks: StepMasks, rows: int) -> StepMasks:
    """The masks of the rows that have not ended."""
    return StepMasks(*(mask if mask is None else mask[:rows] for mask in masks))


NO_COMPILER = ("InvalidCxxCompiler", "TritonMissing", "Failed to find C compiler")
"""What torch says where it cannot compile."""


def many_graphs() -> AbstractContextManager[Any]:
    """Lets torch compile a step anew for other sizes and layouts more often than the 8 times after which it gives up;
    an encoder, a decoder and their first steps take about 13."""
    patched: AbstractContextManager[Any] = torch._dynamo.config.patch(cache_size_limit=64)
    return patched


def compiled_step(cell: Cell) -> Callable[..., Any]:
    """The cell's step, compiled for all cells of its kind and any number of rows together."""
    return partial(compile_step(type(cell)), cell)


@cache
def compile_step(kind: type[Any]) -> Callable[..., Any]:
    """For cells of this kind: the function that a call of one of them runs.

    Raises:
        ConfigError: from its first call, if there is nothing to compile with.
    """
    compiled: Callable[..., Any] = torch.compile(kind.forward, dynamic=True)

    def step(*arguments: Any) -> Any:
        try:
            return compiled(*arguments)
        except RuntimeError as error:
            if not any(name in str(error) for name in NO_COMPILER):
                raise
            raise ConfigError(
                f"compiled=True needs a C++ compiler, and torch finds none ({str(error).splitlines()[0]}); "
                "install g++, set CXX to one, or set compiled=False"
            ) from None

    return step
