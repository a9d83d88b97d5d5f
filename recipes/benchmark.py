"""How fast this machine trains and decodes the default model, beside its floor.

The floor is the time that the model's multiplications need at the rate of matrix products of the same precision,
measured between the steps of the same run; padding, gates, softmax, optimiser and Python are not in it. Ratios can be
compared between machines, seconds cannot. Run `python recipes/benchmark.py` on a machine that does nothing else.
"""

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from benchmark_decoding import HEADINGS, MODEL, VOCABULARY, measure_decoding
from benchmark_floor import fill, matrix_rate, multiplications, peak_memory
from rich.console import Console
from rich.table import Table

from seq2seq.cli.running import run_recipe
from seq2seq.config import PAD_ID, TrainingConfig
from seq2seq.data import Budget, batch_plan, planned_padding
from seq2seq.model import Seq2Seq
from seq2seq.training import build_optimizer, linear_cross_entropy

TRAINING = TrainingConfig(batch_tokens=4000, label_smoothing=0.1)
Row = tuple[str, ...]
Sides = list[tuple[torch.Tensor, torch.Tensor]]


def make_batches(seed: int = 1, sentences: int = 29_000) -> tuple[list[Sides], float]:
    """Batches of random ids, and their share of padding.

    As many pairs as Multi30k has, with lengths like its own (German to English, 8,000 joint subwords): mean and
    deviation of the logarithms of the source's length and of the ratio of the two. The fewer, the more padding.
    """
    random = np.random.default_rng(seed)
    source = np.clip(random.lognormal(2.73, 0.335, sentences).round(), 4, 60)
    target = np.clip((source * random.lognormal(-0.023, 0.184, sentences)).round(), 4, 60)
    lengths = np.stack([source, target], axis=1).astype(np.int32)
    plan = batch_plan(lengths, Budget(tokens=TRAINING.batch_tokens), seed, epoch=0)
    batches = [[fill(lengths[rows, side], random, VOCABULARY) for side in (0, 1)] for rows in plan]
    return batches, planned_padding(lengths, plan)


def shares(work: Callable[[int], tuple[int, int, int]], runs: int, precision: str) -> tuple[float, float, float, float]:
    """Median tokens/s, sentences/s, share of the floor and rate; each run stands between two looks at the rate."""
    found = []
    work(0)
    before = matrix_rate(precision)
    for run in range(runs):
        started = time.perf_counter()
        arithmetic, tokens, sentences = work(run)
        seconds = time.perf_counter() - started
        after = matrix_rate(precision)
        rate = (before + after) / 2
        found.append((tokens / seconds, sentences / seconds, arithmetic / rate / seconds, rate))
        before = after
    tokens_rate, sentence_rate, share, rate = (statistics.median(column) for column in zip(*found, strict=True))
    return tokens_rate, sentence_rate, share, rate


def counted(batch: Sides) -> tuple[int, int, int]:
    """Source tokens, target tokens and pairs of them."""
    source, target = batch[0][1], batch[1][1]
    return int(source.sum()), int(target.sum()), int((source * target).sum())


def train_steps(model: Seq2Seq, batches: list[Sides], precision: str) -> Callable[[int], tuple[int, int, int]]:
    """One optimiser step per call, as training does it: in bfloat16 the weights stay in float32."""
    optimizer = build_optimizer(model.parameters(), TRAINING)
    order = np.random.default_rng(0).permutation(len(batches))

    def step(run: int) -> tuple[int, int, int]:
        batch = batches[order[run % len(batches)]]
        (source, source_lengths), (target, _) = batch
        is_token = target != PAD_ID
        output, wanted = model.output, target[is_token]
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            features = model.output_features(model.features(source, source_lengths, target)[is_token])
            losses = linear_cross_entropy(features, output.weight, output.bias, wanted, TRAINING.label_smoothing)
        (losses.smoothed / len(features)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # Backward costs twice the products of forward.
        return 3 * sum(multiplications(model, *counted(batch))), int(is_token.sum()), len(source)

    return step


def measure(precision: str, runs: int) -> Row:
    """The row of one precision; made in a process of its own, so that the peak of memory is its own."""
    torch.manual_seed(0)
    batches, padding = make_batches()
    steps = train_steps(Seq2Seq(MODEL), batches, precision)
    tokens, sentences, share, rate = shares(steps, runs, precision)
    figures = (f"{tokens:,.0f}", f"{sentences:,.1f}", f"{share:.0%}", f"{padding:.1%}")
    return ("train, 4,000 tokens", precision, *figures, f"{peak_memory():,.0f} MiB", f"{2 * rate / 1e9:,.0f}")


def main(
    runs: Annotated[int, typer.Option(min=1, help="Measured steps or batches per row; the median is shown.")] = 15,
    bfloat16_runs: Annotated[int, typer.Option(min=0, help="The same in bfloat16, slow where a CPU lacks it.")] = 2,
    smoke: Annotated[bool, typer.Option(help="One run each, to see that it works.")] = False,
) -> None:
    """Print the tables of training and decoding speed."""
    precisions = [("float32", 1 if smoke else runs), ("bfloat16", 0 if smoke else bfloat16_runs)]
    headings = ("what", "precision", "tokens/s", "sentences/s", "of the floor", "padding", "peak memory", "GFLOP/s")
    for title, job, names in (("training", measure, headings), ("decoding", measure_decoding, HEADINGS)):
        table = Table(title=f"{title}, {torch.get_num_threads()} threads, torch {torch.__version__}")
        for name in names:
            table.add_column(name, justify="left" if name in ("what", "precision") else "right")
        for precision, count in precisions:
            if count:
                print(f"measuring {title} in {precision} ...", file=sys.stderr)
                with multiprocessing.get_context("spawn").Pool(1) as pool:
                    rows = pool.apply(job, (precision, count))
                for row in [rows] if job is measure else rows:
                    table.add_row(*row)
        Console(width=140).print(table)


if __name__ == "__main__":
    run_recipe(main)
