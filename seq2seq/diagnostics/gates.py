"""What gates do: how far they are open, and how many of them are stuck."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from seq2seq.data import Batch
from seq2seq.diagnostics.trace import Trace, Traceable, trace

CLOSED, OPEN = 0.05, 0.95
"""A gate beyond these is saturated: hardly any gradient passes through its sigmoid."""


@dataclass(frozen=True)
class GateStatistics:
    """One gate of one layer over time, each `[steps]`, from the start of the rows.

    Attributes:
        layer: as "encoder layer 1 forward".
        gate: as "forget".
        mean: over rows and units.
        closed, open: share of values under 0.05 and over 0.95.
        rows: how many rows each step has: what the overall figures are weighed by.
    """

    layer: str
    gate: str
    mean: Float[Tensor, "steps"]
    closed: Float[Tensor, "steps"]
    open: Float[Tensor, "steps"]
    rows: Float[Tensor, "steps"]

    @property
    def overall_mean(self) -> float:
        """Over all steps."""
        return float((self.mean * self.rows).sum() / self.rows.sum())

    @property
    def saturation(self) -> float:
        """Share of values that are closed or open, over all steps."""
        return float(((self.closed + self.open) * self.rows).sum() / self.rows.sum())


@torch.no_grad()
def gate_statistics(model: Traceable, batch: Batch | Float[Tensor, "batch steps features"]) -> list[GateStatistics]:
    """Mean and saturation of every gate at every step; none for cells without gates. Dropout is off.

    Args:
        model, batch: as in `gradient_flow`.
    """
    traces, _ = trace(model, batch)
    return [one for found in traces for one in of_cell(found)]


def of_cell(found: Trace) -> list[GateStatistics]:
    """The gates of one cell."""
    ends = found.ends()
    steps: dict[str, list[list[float]]] = {}
    for number, call in enumerate(found.calls):
        counts = ends[: len(call.projected)] >= number
        for name, gate in call.gates.items():
            values = gate[counts.to(gate.device)].float()
            shares = (values.mean(), (values < CLOSED).float().mean(), (values > OPEN).float().mean())
            steps.setdefault(name, []).append([*(float(share) for share in shares), len(values)])
    found_gates = []
    for name, rows in steps.items():
        in_time = torch.tensor(rows[::-1] if found.backward else rows)
        # Behind the last row's end there is nothing to average.
        mean, closed, opened, count = in_time[in_time[:, 3] > 0].unbind(dim=1)
        found_gates.append(GateStatistics(found.layer, name, mean, closed, opened, count))
    return found_gates
