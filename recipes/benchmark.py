"""How fast this machine trains and decodes the default model, beside its floor.

The floor is the time that the model's multiplications need at the rate of the matrix products, measured between the
steps of the same run; padding, gates, softmax, optimiser and Python are not in it. Ratios can be compared between
machines, seconds cannot. Run `python recipes/benchmark.py` on a machine that does nothing else.
"""

import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from seq2seq.config import EOS_ID, FIRST_FREE_ID, PAD_ID, ModelConfig, SearchConfig, TrainingConfig
from seq2seq.data import Budget, batch_plan, planned_padding
from seq2seq.errors import one_line_errors
from seq2seq.model import Seq2Seq
from seq2seq.search import search
from seq2seq.training import build_optimizer, linear_cross_entropy

VOCABULARY = 8000
MODEL = ModelConfig(source_vocabulary_size=VOCABULARY, target_vocabulary_size=VOCABULARY, tied_embeddings="all")
TRAINING = TrainingConfig(batch_tokens=4000, label_smoothing=0.1)
Row = tuple[str, ...]
Sides = list[tuple[torch.Tensor, torch.Tensor]]


def multiplications(config: ModelConfig, source: int, target: int, pairs: int) -> tuple[int, int]:
    """Multiply-adds of reading the source (encoder and keys), and of writing the target, one way.

    Args:
        source, target: tokens in all, without padding; pairs: (source token, target token) pairs that attention joins.
    """

    def lstm(inputs: int, hidden: int) -> int:
        return 4 * hidden * (inputs + hidden)

    embedding, hidden, annotation = config.embedding_size, config.decoder_hidden_size, config.annotation_size
    directions = annotation // config.encoder_hidden_size
    below = [embedding] + [annotation] * (config.encoder_layers - 1)
    read = sum(directions * lstm(size, config.encoder_hidden_size) for size in below) + annotation * hidden
    layers = lstm(embedding, hidden) + (config.decoder_layers - 1) * lstm(hidden + annotation, hidden)
    output = (hidden + annotation) * embedding + embedding * config.target_vocabulary_size
    return source * read, target * (layers + output) + pairs * (hidden + annotation)


def make_batches(seed: int = 1, sentences: int = 6000) -> tuple[list[Sides], float]:
    """Batches of random ids with the lengths of image captions (15.5 tokens on average), and their share of padding."""
    random = np.random.default_rng(seed)
    source = np.clip(random.lognormal(2.68, 0.33, sentences).round(), 4, 60)
    target = np.clip((source * random.lognormal(0.0, 0.18, sentences)).round(), 4, 60)
    lengths = np.stack([source, target], axis=1).astype(np.int32)
    plan = batch_plan(lengths, Budget(tokens=TRAINING.batch_tokens), seed, epoch=0)
    batches = [[fill(lengths[rows, side], random) for side in (0, 1)] for rows in plan]
    return batches, planned_padding(lengths, plan)


def fill(lengths: np.ndarray, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of random ids that end in `<E>`, padded, and their lengths."""
    ids = torch.from_numpy(random.integers(FIRST_FREE_ID, VOCABULARY, (len(lengths), int(lengths.max()))))
    ends = torch.from_numpy(lengths).long()
    steps = torch.arange(ids.shape[1])
    ids[steps == ends.unsqueeze(1) - 1] = EOS_ID
    return ids.masked_fill(steps >= ends.unsqueeze(1), PAD_ID), ends


def matrix_rate(seconds: float = 0.2) -> float:
    """Multiply-adds per second of float32 products like the model's, [4000, 512] x [512, 2048]."""
    left, right = torch.randn(4000, 512), torch.randn(512, 2048)
    torch.mm(left, right)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        torch.mm(left, right)
        count += 1
    return count * 4000 * 512 * 2048 / (time.perf_counter() - started)


def shares(work: Callable[[int], tuple[int, int, int]], runs: int) -> tuple[float, float, float, float]:
    """Median tokens/s, sentences/s, share of the floor and rate; each run stands between two looks at the rate."""
    found = []
    work(0)
    before = matrix_rate()
    for run in range(runs):
        started = time.perf_counter()
        arithmetic, tokens, sentences = work(run)
        seconds = time.perf_counter() - started
        after = matrix_rate()
        rate = (before + after) / 2
        found.append((tokens / seconds, sentences / seconds, arithmetic / rate / seconds, rate))
        before = after
    tokens_rate, sentence_rate, share, rate = (statistics.median(column) for column in zip(*found, strict=True))
    return tokens_rate, sentence_rate, share, rate


def counted(batch: Sides) -> tuple[int, int, int]:
    """Source tokens, target tokens and pairs of them."""
    source, target = batch[0][1], batch[1][1]
    return int(source.sum()), int(target.sum()), int((source * target).sum())


def train_steps(model: Seq2Seq, batches: list[Sides]) -> Callable[[int], tuple[int, int, int]]:
    """One optimiser step per call, as training does it."""
    optimizer = build_optimizer(model.parameters(), TRAINING)
    order = np.random.default_rng(0).permutation(len(batches))

    def step(run: int) -> tuple[int, int, int]:
        batch = batches[order[run % len(batches)]]
        (source, source_lengths), (target, _) = batch
        is_token = target != PAD_ID
        features = model.squeeze(model.features(source, source_lengths, target)[is_token])
        output = model.output
        losses = linear_cross_entropy(features, output.weight, output.bias, target[is_token], TRAINING.label_smoothing)
        (losses.smoothed / len(features)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        # Backward costs twice the products of forward.
        return 3 * sum(multiplications(MODEL, *counted(batch))), int(is_token.sum()), len(source)

    return step


def decode_batches(
    model: Seq2Seq, batches: list[Sides], beam_size: int, size: int
) -> Callable[[int], tuple[int, int, int]]:
    """One batch per call; every hypothesis is made as long as its source, since random weights know no end."""
    config = SearchConfig(beam_size=beam_size, min_length_ratio=1.0, max_length_ratio=1.0, max_length_margin=0)

    def decode(run: int) -> tuple[int, int, int]:
        source, lengths = (part[:size] for part in batches[run % len(batches)][0])
        with torch.inference_mode():
            search(model.step, model.start(model.encode(source, lengths)), lengths - 1, config)
        read, write = multiplications(MODEL, int(lengths.sum()), int(lengths.sum()), int((lengths**2).sum()))
        return read + beam_size * write, int(lengths.sum()), len(source)

    return decode


def measure(precision: str, runs: int) -> list[Row]:
    """The table's rows of one precision; made in a process of its own, so that the peak of memory is its own."""
    torch.manual_seed(0)
    batches, padding = make_batches()
    model = Seq2Seq(MODEL).to(getattr(torch, precision))
    rows = []
    jobs = [("train, 4,000 tokens", f"{padding:.1%}", train_steps(model, batches))]
    jobs += [
        (f"decode, beam {beam}, 64 sentences", "", decode_batches(model.eval(), batches, beam, 64)) for beam in (1, 5)
    ]
    for name, share_of_padding, work in jobs:
        model.train(name.startswith("train"))
        tokens, sentences, share, rate = shares(work, runs)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
        figures = (f"{tokens:,.0f}", f"{sentences:,.1f}", f"{share:.0%}", share_of_padding, f"{memory:,.0f} MiB")
        rows.append((name, precision, *figures, f"{2 * rate / 1e9:,.0f}"))
    return rows


@one_line_errors()
def main(
    runs: Annotated[int, typer.Option(min=1, help="Measured steps or batches per row; the median is shown.")] = 15,
    bfloat16_runs: Annotated[int, typer.Option(min=0, help="The same in bfloat16, slow where a CPU lacks it.")] = 2,
    smoke: Annotated[bool, typer.Option(help="One run each, to see that it works.")] = False,
) -> None:
    """Print the table of training and decoding speed."""
    table = Table(title=f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for heading in (
        "what",
        "precision",
        "tokens/s",
        "sentences/s",
        "of the floor",
        "padding",
        "peak memory",
        "GFLOP/s",
    ):
        table.add_column(heading, justify="left" if heading in ("what", "precision") else "right")
    for precision, count in (("float32", 1 if smoke else runs), ("bfloat16", 0 if smoke else bfloat16_runs)):
        if count:
            print(f"measuring {precision} ...", file=sys.stderr)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                for row in pool.apply(measure, (precision, count)):
                    table.add_row(*row)
    Console(width=120).print(table)


if __name__ == "__main__":
    typer.run(main)
