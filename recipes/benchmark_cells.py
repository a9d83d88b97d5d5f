"""What a cell costs over time, forward and backward, beside torch's fused LSTM.

Every run stands between two runs of the fused LSTM, so that a ratio is what is printed; ratios can be compared between
machines, seconds cannot. Run `python recipes/benchmark_cells.py` on a machine that does nothing else.
"""

import statistics
import time
from collections.abc import Callable
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from seq2seq.cells import CELLS
from seq2seq.cli.running import run_recipe
from seq2seq.config import FUSED_CELLS, RecurrenceConfig
from seq2seq.recurrence import Recurrence


def prepare(config: RecurrenceConfig, batch: int, steps: int, units: int) -> Callable[[], float]:
    """A run over the same inputs, forward and backward, that tells its seconds."""
    torch.manual_seed(0)
    layer, inputs = Recurrence(units, units, config=config), torch.randn(batch, steps, units)

    def run() -> float:
        started = time.perf_counter()
        layer(inputs).outputs.sum().backward()
        layer.zero_grad()
        return time.perf_counter() - started

    run()
    return run


def main(
    batch: Annotated[int, typer.Option(min=1, help="Rows.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each row.")] = 30,
    units: Annotated[int, typer.Option(min=1, help="Features of inputs and hidden states.")] = 512,
    runs: Annotated[int, typer.Option(min=1, help="Runs of each; the median is shown.")] = 15,
    compiled: Annotated[bool, typer.Option(help="Try torch.compile too; needs a C++ compiler.")] = False,
    smoke: Annotated[bool, typer.Option(help="One run each, to see that it works.")] = False,
) -> None:
    """Print the time of every cell and path as a multiple of the fused LSTM's."""
    fused = prepare(RecurrenceConfig(), batch, steps, units)
    table = Table("cell", title=f"time over that of the fused LSTM, {torch.get_num_threads()} threads")
    paths = {"fused": {"fused": True}, "unrolled": {"fused": False}, "compiled": {"fused": False, "compiled": True}}
    if not compiled:
        del paths["compiled"]
    for path in paths:
        table.add_column(path, justify="right")
    for cell in track(CELLS, "cells", console=Console(stderr=True)):
        row = []
        for path, fields in paths.items():
            if path == "fused" and cell not in FUSED_CELLS:
                row.append("")
                continue
            run = prepare(RecurrenceConfig(cell=cell, **fields), batch, steps, units)
            ratios = []
            before = fused()
            for _ in range(1 if smoke else runs):
                seconds, after = run(), fused()
                ratios.append(2 * seconds / (before + after))
                before = after
            row.append(f"{statistics.median(ratios):.2f}")
        table.add_row(cell, *row)
    Console(width=80).print(table)


if __name__ == "__main__":
    run_recipe(main)
