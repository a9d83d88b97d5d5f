"""How far back a gradient reaches through every cell, before and after training: a table and a figure.

The task cannot be solved without memory: the first symbol of a sequence of noise is asked for after its last. Run
`python recipes/gradient_flow.py`; it takes a few minutes and needs the extra `plot` for the figure.
"""

import csv
import math
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn

from seq2seq.cells import CELLS
from seq2seq.cli.running import make_folder, run_recipe, writing
from seq2seq.config import RecurrenceConfig
from seq2seq.diagnostics import Flow, gradient_flow
from seq2seq.recurrence import Recurrence

SYMBOLS, UNITS, ROWS = 8, 32, 32
FORGET_BIASES = (0.0, 1.0, 2.0)


class Run(NamedTuple):
    """A cell's flow before and after training, and how often it then names the first symbol."""

    name: str
    before: Flow
    after: Flow
    accuracy: float


def variants() -> dict[str, RecurrenceConfig]:
    """Every cell as it usually starts, and the LSTM with each of the usual forget biases."""
    configs = {name: RecurrenceConfig(cell=name) for name in CELLS if name != "lstm"}
    configs |= {f"lstm, forget bias {bias:g}": RecurrenceConfig(forget_bias=bias) for bias in FORGET_BIASES}
    configs["rnn_relu, identity"] = RecurrenceConfig(cell="rnn_relu", initialisation="identity")
    return dict(sorted(configs.items()))


def draw(steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences `[rows, steps, symbols + 1]`, a symbol first and noise behind it, and the symbols."""
    symbols = torch.randint(SYMBOLS, (ROWS,), generator=generator)
    inputs = torch.zeros(ROWS, steps, SYMBOLS + 1)
    inputs[torch.arange(ROWS), 0, symbols] = 1.0
    inputs[:, 1:, SYMBOLS] = torch.randn(ROWS, steps - 1, generator=generator)
    return inputs, symbols


def measure(name: str, config: RecurrenceConfig, steps: int, updates: int, seed: int) -> Run:
    """The flow of one cell, trained on the task in between."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layer, readout = Recurrence(SYMBOLS + 1, UNITS, config=config), nn.Linear(UNITS, SYMBOLS)
    sample, _ = draw(steps, generator)
    (before,) = gradient_flow(layer, sample)
    weights = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(weights, lr=5e-3)
    right: list[float] = []
    for _ in range(updates):
        inputs, symbols = draw(steps, generator)
        logits = readout(layer(inputs).outputs[:, -1])
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, symbols).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        right.append(float((logits.argmax(dim=-1) == symbols).float().mean()))
    (after,) = gradient_flow(layer, sample)
    return Run(name, before, after, sum(right[-20:]) / len(right[-20:]))


def longest(flow: Flow) -> list[float]:
    """The gradient by distance, of the memory where there is one, as a share of that at distance 0."""
    norms = flow.hidden if flow.memory is None else flow.memory
    return (norms / norms[0]).tolist()


def steps_of(half_life: float) -> str:
    if math.isnan(half_life):
        return "no gradient"
    return "never" if math.isinf(half_life) else f"{half_life:.1f}"


def write_table(runs: list[Run], out: Path) -> None:
    """Half-lives as text; every distance as CSV."""
    table = Table(title="Steps after which half of the gradient is left, and accuracy after training")
    for heading in ("cell", "half-life before", "after", "sigma per step before", "bound per step", "accuracy"):
        table.add_column(heading, justify="left" if heading == "cell" else "right")
    for run in runs:
        bound = run.before.bound
        table.add_row(
            run.name,
            steps_of(run.before.half_life),
            steps_of(run.after.half_life),
            f"{run.before.jacobian.mean():.2f}",
            "" if bound is None else f"{bound[1]:.2f}",
            f"{run.accuracy:.0%}",
        )
    Console(width=110).print(table)
    with writing(out / "table.txt"), (out / "table.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=110).print(table)
    with writing(out / "flow.csv"), (out / "flow.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["cell", "when", "distance", "hidden", "memory", "sigma", "bound"])
        for run in runs:
            for when, flow in (("before", run.before), ("after", run.after)):
                columns = (flow.hidden, flow.memory, flow.jacobian, flow.bound)
                for distance in range(len(flow.hidden)):
                    values = ["" if c is None or distance >= len(c) else f"{c[distance]:.6g}" for c in columns]
                    writer.writerow([run.name, when, distance, *values])


def draw_figure(runs: list[Run], path: Path) -> None:
    """Gradient norm against distance, before and after training, on one logarithmic axis."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    families = {"rnn": "tab:red", "lstm": "tab:blue", "gru": "tab:green", "linear": "tab:gray", "memory": "tab:purple"}
    dashes = ["solid", "dashed", "dashdot", "dotted", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)), (0, (1, 3))]
    figure, axes = plt.subplots(1, 2, figsize=(14, 6.5), sharey=True)
    for axis, title in zip(axes, ("before training", "after training"), strict=True):
        used = dict.fromkeys(families, 0)
        for run in runs:
            family = next(name for name in families if run.name.startswith(name))
            curve = longest(run.before if axis is axes[0] else run.after)
            style = dashes[used[family] % len(dashes)]
            used[family] += 1
            (line,) = axis.plot(curve, color=families[family], linestyle=style, label=run.name)
            if run.name.startswith("lstm, "):  # the three that show what the forget bias does
                line.set_linewidth(2.5)
        for base in (1.1, 0.9):
            axis.plot([base**k for k in range(len(curve))], color="black", linewidth=0.8, alpha=0.6)
            at = min(len(curve) - 1, int(abs(math.log(1e3 if base > 1 else 1e-4) / math.log(base))))
            axis.annotate(f"${base}^k$", (at, base**at), xytext=(4, 0), textcoords="offset points")
        axis.set(title=title, xlabel="k: steps before the last one", yscale="log", ylim=(1e-8, 1e4))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("length of the gradient there, as a share of that at the last step")
    axes[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, handlelength=4)
    figure.suptitle(
        "What is left of a gradient k steps back in time: of the memory c where a cell has one, otherwise of h"
    )
    figure.tight_layout()
    with writing(path):
        figure.savefig(path, dpi=120)


def main(
    out: Annotated[Path, typer.Option(help="Folder for table.txt, flow.csv and flow.png.")] = Path(
        "runs/gradient_flow"
    ),
    steps: Annotated[int, typer.Option(min=2, help="Steps between the symbol and the question.")] = 50,
    updates: Annotated[int, typer.Option(min=1, help="Training steps of each cell.")] = 600,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the start weights and of what is learnt from.")
    ] = 1,
    smoke: Annotated[bool, typer.Option(help="Two updates each, to see that it works.")] = False,
) -> None:
    """Measure the gradient flow of every cell before and after training."""
    make_folder(out)
    runs = [
        measure(name, config, steps, 2 if smoke else updates, seed)
        for name, config in track(variants().items(), "cells", console=Console(stderr=True))
    ]
    write_table(runs, out)
    print(f"{out / 'table.txt'} and {out / 'flow.csv'} are written")
    try:
        draw_figure(runs, out / "flow.png")
    except ModuleNotFoundError:
        print("for the figure: pip install matplotlib")
    else:
        print(f"{out / 'flow.png'} shows the curves")


if __name__ == "__main__":
    run_recipe(main)
