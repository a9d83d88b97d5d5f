"""One recurrent layer in one or two directions."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seq2seq.cells import CELLS, Cell, CellStart, CellState, StepMasks
from seq2seq.config import RecurrenceConfig
from seq2seq.errors import ConfigError
from seq2seq.recurrence.dropout import draw_mask
from seq2seq.recurrence.time import KERNELS, FusedCell, run_kernel, unroll


class LayerMasks(NamedTuple):
    """A layer's dropout where it is the same at all steps of a row; masks as in `StepMasks`.

    Attributes:
        inputs: `[rows, features]`, on what comes from the layer below; `None`: drawn afresh at each step, or none.
        steps: dropout inside the recurrence, for each direction.
    """

    inputs: Tensor | None
    steps: tuple[StepMasks, ...]

    @property
    def recur(self) -> bool:
        """Whether there is dropout inside the recurrence, which no kernel has."""
        return any(mask is not None for step in self.steps for mask in step)


class Layer(nn.Module):
    """A cell for every direction, and the way through time: see `run`, and `step` for one step.

    Args:
        config: which cell and how it starts; dropout inside the recurrence.
        input_size, hidden_size: features of an input vector; units per direction.
        bias: whether the cells have biases.
        bidirectional: a second cell reads each row backwards; outputs and states are joined forward first.
    """

    def __init__(
        self,
        config: RecurrenceConfig,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        start = CellStart(config.forget_bias, config.initialisation, config.init_range, config.chrono)
        cell = CELLS[config.cell]
        self.directions = nn.ModuleList(
            cast(nn.Module, cell(input_size, hidden_size, bias, start)) for _ in range(2 if bidirectional else 1)
        )
        self.config = config
        self.fused = config.fused and cell in KERNELS
        self.compiled = config.compiled
        self.state_parts = cell.state_parts
        self.hidden_size = hidden_size

    @property
    def cells(self) -> list[Cell]:
        """The cell of each direction."""
        return cast(list[Cell], list(self.directions))

    def zero_state(self, inputs: Float[Tensor, "rows *any"]) -> CellState:
        """The state before the first step, on the device and in the precision of the inputs."""
        size = self.hidden_size * len(self.cells)
        return tuple(inputs.new_zeros(inputs.shape[0], size) for _ in range(self.state_parts))

    def draw_masks(self, inputs: Float[Tensor, "rows *any"]) -> tuple[StepMasks, ...]:
        """Dropout inside the recurrence for the rows of one batch; none unless in training."""
        share = self.config.recurrent_dropout if self.training else 0.0
        if share == 0.0:
            return (StepMasks(),) * len(self.cells)
        place = self.config.recurrent_dropout_on
        return tuple(StepMasks(**{place: draw_mask(inputs, self.hidden_size, share)}) for _ in self.cells)

    def run(
        self, inputs: Tensor, batch_sizes: Tensor | None, state: CellState, masks: LayerMasks
    ) -> tuple[Tensor, CellState]:
        """All steps, time first or packed: see `time`.

        A `fused` layer runs torch's kernel, except where there is dropout inside the recurrence, which no kernel has,
        and in training on packed rows on a CPU (an encoder's), for which the loop is faster: `kernel_is_slow`.
        """
        if not self.fused or masks.recur or (batch_sizes is not None and kernel_is_slow(inputs)):
            # Compiling pays off in training; who only translates need not have a compiler.
            compiled = self.compiled and torch.is_grad_enabled()
            return unroll(self.cells, inputs, batch_sizes, state, masks.steps, compiled)
        return run_kernel(cast(list[FusedCell], self.cells), inputs, batch_sizes, state, torch.is_grad_enabled())

    def step(
        self, inputs: Float[Tensor, "rows features"], state: CellState, masks: StepMasks = StepMasks()
    ) -> tuple[Float[Tensor, "rows hidden"], CellState]:
        """One step of a layer with one direction.

        Raises:
            ConfigError: for a layer with two: the backward one would have to begin at the end.
        """
        cell, *backward = self.cells
        if backward:
            raise ConfigError(
                "a single step needs a layer with one direction, got bidirectional=True; "
                "use bidirectional=False, or run all steps at once"
            )
        state, _ = cell(cell.project(inputs), state, masks)
        return state[0], state


def kernel_is_slow(packed: Tensor) -> bool:
    """Whether the loop is faster than torch's kernel for packed rows: on a CPU the kernel's way back fills, for every
    step, a zero tensor as large as all inputs."""
    return torch.is_grad_enabled() and packed.device.type == "cpu"
