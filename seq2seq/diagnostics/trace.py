"""What every cell of a model did at every step of one batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.cells import Cell, CellState, Gates, StepMasks
from seq2seq.data import Batch
from seq2seq.model import Seq2Seq
from seq2seq.recurrence import Layer, Recurrence, unroll

Traceable = Seq2Seq | Recurrence | Cell


class Call(NamedTuple):
    """One step of one cell: what it was given, and what it made of it. Rows as in `Trace`."""

    projected: Float[Tensor, "rows gates"]
    before: CellState
    after: CellState
    gates: Gates


@dataclass
class Trace:
    """Every step of one cell, in the order it took them (a backward direction begins at the rows' ends).

    Attributes:
        layer: what a reader calls it, as "encoder layer 2 backward".
        cell: the cell.
        backward: whether it reads backwards.
        calls: of which each holds the rows that take part; rows that end early stand behind the others.
        lengths: the steps of each row that count, `None`: all; a decoder also steps behind the end of a target.
    """

    layer: str
    cell: Cell
    backward: bool = False
    calls: list[Call] = field(default_factory=list)
    lengths: Tensor | None = None

    def ends(self) -> Tensor:
        """The number of the last call of each row that counts, `[rows]`."""
        rows = torch.tensor([len(call.projected) for call in self.calls])
        if self.backward:
            return torch.full((int(rows.max()),), len(rows) - 1)
        last = (rows.unsqueeze(1) > torch.arange(int(rows.max()))).sum(dim=0) - 1
        return last if self.lengths is None else torch.minimum(last, self.lengths.cpu() - 1)


def named_cells(model: Traceable) -> list[Trace]:
    """An empty trace for every cell, bottom first."""
    if isinstance(model, Seq2Seq):
        decoder = model.decoder
        stacks = [decoder.stack] if model.config.input_feeding else [decoder.bottom, decoder.upper]
        layers = [layer for stack in stacks for layer in stack.layers]
        return [*name_layers("encoder layer", model.encoder.recurrence.layers), *name_layers("decoder layer", layers)]
    if isinstance(model, Recurrence):
        return name_layers("layer", model.layers)
    return [Trace("cell", model)]


def name_layers(name: str, layers: list[Layer]) -> list[Trace]:
    """Traces of layers that are numbered from 1."""
    traces = []
    for number, layer in enumerate(layers, 1):
        for backward, cell in enumerate(layer.cells):
            direction = (" backward" if backward else " forward") if len(layer.cells) == 2 else ""
            traces.append(Trace(f"{name} {number}{direction}", cell, bool(backward)))
    return traces


def trace(model: Traceable, batch: Batch | Float[Tensor, "batch steps features"]) -> tuple[list[Trace], Tensor]:
    """Run a batch through the readable path, without dropout, and keep every step.

    Args:
        model: a whole model, a stack, or a cell.
        batch: for a model pairs as the data module gives them; otherwise inputs of the stack or cell.

    Returns:
        The traces, bottom layer first, encoder first; and L_T, the loss at each row's last step, summed over rows: for
        a model the cross-entropy of `<E>` (nats), otherwise half the square of the last hidden state's length.
    """
    module = cast(nn.Module, model)
    modes = [(part, part.training) for part in module.modules()]
    frozen = [weight for weight in module.parameters() if not weight.requires_grad]
    module.eval()
    # Gradients are followed through every cell, also through those that are not trained.
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        with recording(model) as traces:
            loss = last_loss(model, batch)
    finally:
        for part, training in modes:
            part.training = training
        for weight in frozen:
            weight.requires_grad_(False)
    if isinstance(batch, Batch):
        for found in traces:
            if found.layer.startswith("decoder"):
                found.lengths = batch.target_lengths
    return traces, loss


@contextmanager
def recording(model: Traceable) -> Iterator[list[Trace]]:
    """While it lasts, the model runs unrolled and every call of a cell is kept."""
    layers = [module for module in cast(nn.Module, model).modules() if isinstance(module, Layer)]
    paths = [(layer.fused, layer.compiled) for layer in layers]
    traces = named_cells(model)

    def keep(found: Trace) -> Any:
        def hook(_: nn.Module, given: tuple[Any, ...], made: tuple[CellState, Gates]) -> None:
            found.calls.append(Call(given[0], given[1], *made))

        return cast(nn.Module, found.cell).register_forward_hook(hook)

    hooks = [keep(found) for found in traces]
    for layer in layers:
        layer.fused = layer.compiled = False
    try:
        yield traces
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (fused, compiled) in zip(layers, paths, strict=True):
            layer.fused, layer.compiled = fused, compiled


def last_loss(model: Traceable, batch: Batch | Tensor) -> Tensor:
    """L_T of `trace`."""
    if isinstance(model, Seq2Seq):
        assert isinstance(batch, Batch)
        rows = torch.arange(len(batch.target), device=batch.target.device)
        last = batch.target_lengths - 1
        features = model.features(batch.source, batch.source_lengths, batch.target)
        return F.cross_entropy(model.classify(features[rows, last]), batch.target[rows, last], reduction="sum")
    assert isinstance(batch, Tensor)
    if isinstance(model, Recurrence):
        top: Tensor = model(batch).state[-1][0]
        return top.square().sum() / 2
    start = tuple(batch.new_zeros(len(batch), model.hidden_size) for _ in range(model.state_parts))
    _, (hidden, *_) = unroll([model], batch.transpose(0, 1), None, start, [StepMasks()])
    return hidden.square().sum() / 2
