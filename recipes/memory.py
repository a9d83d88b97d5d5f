"""Which cells learn to remember over which distance: the adding problem and the copy memory task.

- adding (Hochreiter & Schmidhuber 1997): of a row of random numbers two are marked, one in each half; at the end their
  sum is asked for. Always answering 1 has a mean squared error of 0.167; under 0.01 it counts as solved.
- copy (Arjovsky, Shah & Bengio 2016, arXiv:1511.06464): ten symbols come first and have to be written down after so
  many blank steps. Guessing has a cross-entropy of 10 ln 8 / (lag + 20) nats a step; under a tenth of it is solved.

Run `python recipes/memory.py`. A run for each task, cell and lag; those that are finished are not made again, so that
it can be stopped at any time and called again.
"""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

from seq2seq.cells import CELLS
from seq2seq.cli.running import make_folder, run_recipe, writing
from seq2seq.config import GATELESS_CELLS, RecurrenceConfig
from seq2seq.corpus.facts import write_whole
from seq2seq.errors import ConfigError
from seq2seq.recurrence import Recurrence

LAGS = [50, 100, 200, 400]
UNITS, ROWS = 64, 64
SYMBOLS, COPIED = 8, 10


class Task(NamedTuple):
    """How sequences are drawn, how an answer is judged, and what is reached without any memory."""

    inputs: int
    outputs: int
    draw: Callable[[int, torch.Generator], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    baseline: Callable[[int], float]
    solved: Callable[[int], float]


def draw_adding(lag: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers and marks `[rows, lag, 2]`, and the sums `[rows]`."""
    numbers = torch.rand(ROWS, lag, generator=generator)
    marks = torch.zeros(ROWS, lag)
    for first, last in ((0, lag // 2), (lag // 2, lag)):
        marks[torch.arange(ROWS), torch.randint(first, last, (ROWS,), generator=generator)] = 1.0
    return torch.stack([numbers, marks], dim=-1), (numbers * marks).sum(dim=1)


def draw_copy(lag: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One-hot symbols, blanks and a delimiter `[rows, lag + 20, 10]`, and what is to be written, `[rows, lag + 20]`."""
    symbols = torch.randint(SYMBOLS, (ROWS, COPIED), generator=generator)
    blank, delimiter = SYMBOLS, SYMBOLS + 1
    source = torch.full((ROWS, lag + 2 * COPIED), blank)
    target = source.clone()
    source[:, :COPIED] = symbols
    source[:, lag + COPIED - 1] = delimiter
    target[:, lag + COPIED :] = symbols
    return F.one_hot(source, SYMBOLS + 2).float(), target


TASKS = {
    "adding": Task(
        inputs=2,
        outputs=1,
        draw=draw_adding,
        loss=lambda outputs, sums: F.mse_loss(outputs[:, -1, 0], sums),
        baseline=lambda _: 1 / 6,
        solved=lambda _: 0.01,
    ),
    "copy": Task(
        inputs=SYMBOLS + 2,
        outputs=SYMBOLS + 1,
        draw=draw_copy,
        loss=lambda outputs, target: F.cross_entropy(outputs.flatten(0, 1), target.flatten()),
        baseline=lambda lag: COPIED * math.log(SYMBOLS) / (lag + 2 * COPIED),
        solved=lambda lag: COPIED * math.log(SYMBOLS) / (lag + 2 * COPIED) / 10,
    ),
}

ALL_CELLS, ALL_TASKS = list(CELLS), list(TASKS)


def start(cell: str, lag: int) -> RecurrenceConfig:
    """How each cell is given its best chance."""
    if cell == "rnn_relu":
        return RecurrenceConfig(cell="rnn_relu", initialisation="identity")
    if cell in GATELESS_CELLS:
        return RecurrenceConfig(cell=cell)
    return RecurrenceConfig(cell=cell, chrono=lag)


def learn(
    task: Task, cell: str, lag: int, updates: int, seed: int, progress: Callable[[float], None]
) -> dict[str, Any]:
    """Train until the task is solved or the updates are used up; the loss of the last hundred counts."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    layer = Recurrence(task.inputs, UNITS, config=start(cell, lag))
    readout = nn.Linear(UNITS, task.outputs)
    weights = [*layer.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(weights, lr=5e-3)
    started = time.perf_counter()
    losses: list[float] = []
    while len(losses) < updates:
        inputs, expected = task.draw(lag, generator)
        loss = task.loss(readout(layer(inputs).outputs), expected)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        recent = sum(losses[-100:]) / len(losses[-100:])
        progress(recent)
        if len(losses) >= 100 and recent < task.solved(lag):
            break
    solved = len(losses) >= 100 and recent < task.solved(lag)
    return {"loss": recent, "solved": solved, "updates": len(losses), "seconds": round(time.perf_counter() - started)}


def show(found: dict[tuple[str, str, int], dict[str, Any]], cells: list[str], lags: list[int], out: Path) -> None:
    """A table for each task: updates needed, or the loss that was reached."""
    for task in dict.fromkeys(task for task, _, _ in found):
        table = Table(title=f"{task}: updates until solved, or the loss reached")
        table.add_column("cell")
        for lag in lags:
            table.add_column(f"lag {lag} ({TASKS[task].baseline(lag):.3f} without memory)", justify="right")
        for cell in cells:
            runs = [found.get((task, cell, lag)) for lag in lags]
            shown = [
                "" if run is None else f"{run['updates']:,}" if run["solved"] else f"not: {run['loss']:.3g}"
                for run in runs
            ]
            table.add_row(cell, *shown)
        Console(width=130).print(table)
        with writing(out / f"{task}.txt"), (out / f"{task}.txt").open("w", encoding="utf-8") as file:
            Console(file=file, width=130).print(table)


def draw_figure(
    found: dict[tuple[str, str, int], dict[str, Any]], cells: list[str], lags: list[int], out: Path
) -> None:
    """A square for every cell and lag: dark is solved, pale as good as without memory."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(task for task, _, _ in found))
    size = 5.5 * len(tasks), 0.45 * len(cells) + 1.8
    figure, (axes,) = plt.subplots(1, len(tasks), figsize=size, sharey=True, squeeze=False)
    for axis, name in zip(axes, tasks, strict=True):
        task = TASKS[name]
        shares = torch.full((len(cells), len(lags)), math.nan)
        for row, cell in enumerate(cells):
            for column, lag in enumerate(lags):
                if run := found.get((name, cell, lag)):
                    shares[row, column] = 0.0 if run["solved"] else min(run["loss"] / task.baseline(lag), 1.0)
                    text = f"{run['updates']:,}" if run["solved"] else "no"
                    axis.text(column, row, text, ha="center", va="center", color="white" if run["solved"] else "black")
        image = axis.imshow(shares.numpy(), cmap="Blues_r", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(lags)), [str(lag) for lag in lags])
        axis.set_yticks(range(len(cells)), cells)
        axis.set(title=f"{name}: updates until solved", xlabel="lag in steps")
    figure.colorbar(image, ax=axes, label="loss, as a share of that without memory (0: solved)")
    with writing(out / "memory.png"):
        figure.savefig(out / "memory.png", dpi=120, bbox_inches="tight")


def main(
    out: Annotated[Path, typer.Option(help="Folder for the runs, tables and memory.png.")] = Path("runs/memory"),
    cell: Annotated[list[str], typer.Option(help="A cell to try; give it again for more.")] = ALL_CELLS,
    task: Annotated[list[str], typer.Option(help="adding or copy; give it again for both.")] = ALL_TASKS,
    lag: Annotated[list[int], typer.Option(min=3, help="Steps to remember over; give it again for more.")] = LAGS,
    updates: Annotated[int, typer.Option(min=1, help="Training steps of a run that does not solve its task.")] = 2000,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Of the start weights and of what is learnt from.")
    ] = 1,
    smoke: Annotated[bool, typer.Option(help="Two updates a run, to see that it works.")] = False,
) -> None:
    """Train every cell on both tasks at every lag."""
    for name, given, known in (("cell", cell, CELLS), ("task", task, TASKS)):
        if wrong := [one for one in given if one not in known]:
            raise ConfigError(f"--{name} must be one of {', '.join(known)}, got {', '.join(wrong)}")
    make_folder(out)
    updates = 2 if smoke else updates
    found = {}
    with Progress(console=Console(stderr=True)) as progress:
        for one_task, one_lag, one_cell in ((t, n, c) for t in task for n in lag for c in cell):
            path = out / f"{one_task}-{one_cell}-{one_lag}-{updates}-{seed}.json"
            if not path.exists():
                name = f"{one_task} {one_lag} {one_cell}"
                bar = progress.add_task(name, total=updates)

                def advance(loss: float, bar: Any = bar, name: str = name) -> None:
                    progress.update(bar, advance=1, description=f"{name}: {loss:.4f}")

                result = learn(TASKS[one_task], one_cell, one_lag, updates, seed, advance)
                with writing(path):
                    write_whole(path, (json.dumps(result) + "\n").encode())
                progress.update(bar, visible=False)
            found[one_task, one_cell, one_lag] = json.loads(path.read_text(encoding="utf-8"))
    show(found, cell, lag, out)
    try:
        draw_figure(found, cell, lag, out)
    except ModuleNotFoundError:
        print("for the figure: pip install matplotlib")
    else:
        print(f"{out / 'memory.png'} shows the same")


if __name__ == "__main__":
    run_recipe(main)
