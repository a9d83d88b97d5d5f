"""How fast this machine decodes, beside its floor: greedy and a beam of 5, in batches of 1 to 256.

`python recipes/benchmark.py` calls it for a model of random weights that writes as many tokens as it reads. With a
model folder and a text it measures real translations: `python recipes/benchmark_decoding.py MODEL --source FILE`.

The floor of a batch is the time that the model's multiplications need at the rate of matrix products of the same
precision, measured between the batches of the same run; those that a table spares are counted too. A step with one row
multiplies little; it has to wait for the weights: its floor is the time to read them from memory.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from benchmark_floor import bandwidth, bytes_read, fill, matrix_rate, multiplications, peak_memory
from rich.console import Console
from rich.table import Table

from seq2seq import package
from seq2seq.cli.running import run_recipe
from seq2seq.config import EOS_ID, ModelConfig, SearchConfig
from seq2seq.corpus import read_text
from seq2seq.decoder import DecoderState
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.model import Seq2Seq
from seq2seq.search import Step, search
from seq2seq.translator.choice import step_among_all
from seq2seq.translator.layout import lay_out, output_columns

VOCABULARY = 8000
MODEL = ModelConfig(source_vocabulary_size=VOCABULARY, target_vocabulary_size=VOCABULARY, tied_embeddings="all")
BATCHES = (1, 16, 64, 256)
HEADINGS = ("what", "precision", "sentences/s", "ms, median", "ms, 95%", "of the floor", "wasted rows", "peak memory")
HEADINGS += ("GFLOP/s", "GB/s", "times the weights' floor")
LIKE_THE_SOURCE = {"min_length_ratio": 1.0, "max_length_ratio": 1.0, "max_length_margin": 0}
Row = tuple[str, ...]
Source = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class CountedState:
    """A state that knows which sentence each of its rows belongs to."""

    inner: DecoderState
    sentences: torch.Tensor

    def select(self, rows: torch.Tensor) -> "CountedState":
        return CountedState(self.inner.select(rows), self.sentences[rows])

    @property
    def attention(self) -> torch.Tensor | None:
        return getattr(self.inner, "attention", None)


@dataclass(frozen=True)
class Decoded:
    """What decoding a batch came to.

    Attributes:
        seconds: of encoding and search.
        arithmetic: multiply-adds of all that was needed.
        steps: decoder steps, each with many rows.
        rows: rows in all steps.
        wasted: those of sentences that were complete; `None`: a beam whose lengths are free tells not which it needed.
    """

    seconds: float
    arithmetic: int
    steps: int
    rows: int
    wasted: int | None


def prepare(model: Seq2Seq) -> Step[DecoderState]:
    """The model's step as a translator takes it that has much to do."""
    lay_out(model)
    model.decoder.tabulate_tokens()
    return step_among_all(model, output_columns(model))


def decode(model: Seq2Seq, model_step: Step[DecoderState], batch: Source, config: SearchConfig) -> Decoded:
    """Decode a batch and count what it took."""
    source, lengths = batch
    stepped: list[torch.Tensor] = []

    def step(tokens: torch.Tensor, state: CountedState) -> tuple[torch.Tensor, CountedState]:
        stepped.append(state.sentences)
        log_probs, inner = model_step(tokens, state.inner)
        return log_probs, CountedState(inner, state.sentences)

    started = time.perf_counter()
    with torch.inference_mode():
        state = CountedState(model.start(model.encode(source, lengths)), torch.arange(len(source)))
        found = search(step, state, lengths - 1, config)
    seconds = time.perf_counter() - started
    # Greedy search, and a beam whose lengths are fixed, are done with a sentence when the best output has its <E>.
    needed = torch.tensor([len(best.tokens) + 1 for best, *_ in found])
    is_known = config.beam_size == 1 or config.min_length_ratio == config.max_length_ratio
    wasted = sum(int((needed[rows] <= time).sum()) for time, rows in enumerate(stepped)) if is_known else None
    rows = sum(map(len, stepped))
    pairs = sum(int(lengths[sentences].sum()) for sentences in stepped)
    read, write = multiplications(model, int(lengths.sum()), rows - (wasted or 0), pairs)
    return Decoded(seconds, read + write, len(stepped), rows, wasted)


def measure_batches(
    model: Seq2Seq,
    step: Step[DecoderState],
    sources: Sequence[Source],
    beam_size: int,
    precision: str,
    limits: dict[str, float],
) -> Row:
    """A row of the table: the batches one after the other, the first of them once before to warm up."""
    config = SearchConfig(beam_size=beam_size, **limits)
    decode(model, step, sources[0], config)
    size = len(sources[0][0])
    group = max(1, 16 // size)
    speed, shares, rates, results = bandwidth(), [], [matrix_rate(precision)], []
    for start in range(0, len(sources), group):
        found = [decode(model, step, batch, config) for batch in sources[start : start + group]]
        rates.append(matrix_rate(precision))
        rate = (rates[-2] + rates[-1]) / 2
        shares.append(sum(one.arithmetic for one in found) / rate / sum(one.seconds for one in found))
        results += found
    milliseconds = [1000 * one.seconds / len(batch[0]) for one, batch in zip(results, sources, strict=True)]
    reading, stepping = bytes_read(model)
    floors = [(reading + one.steps * stepping) / speed for one in results]
    times = statistics.median(one.seconds / floor for one, floor in zip(results, floors, strict=True))
    seconds, sentences = sum(one.seconds for one in results), sum(len(batch[0]) for batch in sources)
    rows = sum(one.rows for one in results)
    wasted = None if any(one.wasted is None for one in results) else sum(one.wasted or 0 for one in results)
    return (
        f"{'greedy' if beam_size == 1 else f'beam {beam_size}'}, batch {size}",
        precision,
        f"{sentences / seconds:,.1f}",
        f"{statistics.median(milliseconds):.2f}",
        f"{np.percentile(milliseconds, 95):.2f}",
        f"{statistics.median(shares):.0%}",
        "" if wasted is None else f"{wasted / rows:.1%}",
        f"{peak_memory():,.0f} MiB",
        f"{2 * statistics.median(rates) / 1e9:,.0f}",
        f"{speed / 1e9:,.1f}",
        f"{times:.2f}" if size == 1 else "",
    )


def random_sources(size: int, count: int, seed: int = 1) -> list[Source]:
    """Batches of random ids with the lengths of image captions, sorted by length as a translator sorts them."""
    random = np.random.default_rng(seed)
    lengths = np.clip(random.lognormal(2.68, 0.33, 4096).round(), 4, 60).astype(np.int32)
    blocks = np.sort(lengths.reshape(-1, 1024)).reshape(-1, size)
    order = random.permutation(len(blocks))
    return [fill(blocks[order[number % len(blocks)]], random, VOCABULARY) for number in range(count)]


def measure_decoding(precision: str, runs: int) -> list[Row]:
    """The rows of one precision with random weights; at batch 1 as many sentences as at batch 16."""
    torch.manual_seed(0)
    model = Seq2Seq(MODEL).to(getattr(torch, precision)).eval()
    rows, step = [], prepare(model)
    for size in BATCHES:
        sources = random_sources(size, 16 * runs if size == 1 else runs)
        rows += [measure_batches(model, step, sources, beam, precision, LIKE_THE_SOURCE) for beam in (1, 5)]
    return rows


def text_sources(found: package.Package, path: Path, size: int) -> Iterator[Source]:
    """The lines of a file in batches of like length."""
    ids = sorted(found.source_vocabulary.encode(list(read_text(path))), key=len)
    rest = iter([torch.tensor([*row, EOS_ID]) for row in ids if row])
    while batch := list(islice(rest, size)):
        lengths = torch.tensor([len(row) for row in batch])
        yield torch.nn.utils.rnn.pad_sequence(batch, batch_first=True), lengths


def startup(folder: Path) -> float:
    """Seconds from an imported torch to the first translation, in a new process."""
    program = (
        "import sys, time, torch; started = time.perf_counter(); from seq2seq import Translator; "
        "Translator.load(sys.argv[1]).translate('a'); print(time.perf_counter() - started)"
    )
    run = subprocess.run([sys.executable, "-c", program, folder], capture_output=True, text=True, check=True)
    return float(run.stdout)


def main(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    source: Annotated[Path, typer.Option(help="What to translate, a text per line.")],
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    runs: Annotated[int, typer.Option(min=1, help="Batches per row at most; at batch 1 sixteen times as many.")] = 60,
) -> None:
    """Print the table of decoding speed of a model on a text."""
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"--precision must be float32 or bfloat16, got {precision}")
    if not any(line.strip() for line in read_text(source)):
        raise CorpusError(f"{source}: must hold text, and has none; give another file")
    found = package.load(model)
    weights = found.model.to(getattr(torch, precision)).eval()
    step = prepare(weights)
    table = Table(*HEADINGS, title=f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in BATCHES:
        sources = list(text_sources(found, source, size))
        chosen = sources[:: -(-len(sources) // (16 * runs if size == 1 else runs))]
        for beam in (1, 5):
            table.add_row(*measure_batches(weights, step, chosen, beam, precision, {}))
    Console(width=140).print(table)
    print(f"{startup(model):.2f} s from an imported torch to the first translation")


if __name__ == "__main__":
    run_recipe(main)
