"""Every recurrent cell as encoder and decoder on the same translation task, in one table.

Run `python recipes/compare_cells.py` for dates, or `python recipes/compare_cells.py --data data/multi30k` for image
captions from German to English. A run for each cell; those that are finished are not made again.
"""

import csv
import json
import statistics
from itertools import chain
from pathlib import Path
from typing import Annotated, NamedTuple

import multi30k
import typer
from rich.console import Console
from rich.table import Table

from seq2seq import package
from seq2seq.cells import CELLS
from seq2seq.cli.flags import Device, Restart, Smoke
from seq2seq.cli.running import run_recipe, writing
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.corpus import ParallelText, read_tsv
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError
from seq2seq.training import train
from seq2seq.translator import is_reported, report
from seq2seq.vocabulary import Vocabulary

DATES = Path(__file__).parent.parent / "data" / "dates"
ALL_CELLS = list(CELLS)


class Task(NamedTuple):
    """What all cells learn, and how."""

    pairs: ParallelText
    validation: ParallelText
    test: ParallelText
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    model: ModelConfig
    training: TrainingConfig
    search: SearchConfig
    metric: str


def dates() -> Task:
    """As in `dates.py`."""
    pairs, validation, test = (read_tsv(DATES / f"{part}.tsv.gz").check() for part in ("train", "validation", "test"))
    source, target = (Vocabulary.train(side, 200, kind="char") for side in (pairs.sources(), pairs.targets()))
    model = ModelConfig(
        source_vocabulary_size=len(source),
        target_vocabulary_size=len(target),
        embedding_size=32,
        encoder_layers=1,
        encoder_hidden_size=64,
        decoder_layers=2,
        decoder_hidden_size=128,
        residual=True,
        attention="dot",
        tied_embeddings="none",
        hidden_dropout=0.1,
    )
    training = TrainingConfig(
        max_epochs=3,
        batch_tokens=None,
        batch_sentences=32,
        learning_rate=5e-3,
        schedule="cosine",
        warmup_steps=200,
        monitor="loss",
    )
    return Task(pairs, validation, test, source, target, model, training, SearchConfig(beam_size=1), "exact_match")


def captions(data: Path) -> Task:
    """As in `multi30k.py`, from German to English."""
    pairs, validation, test = multi30k.read(data, "de", "en", tokenised=False)
    vocabulary = Vocabulary.train(chain(pairs.sources(), pairs.targets()), multi30k.SUBWORDS, kind="unigram")
    model, training = multi30k.configure(len(vocabulary))
    return Task(pairs, validation, test, vocabulary, vocabulary, model, training, multi30k.SEARCH, "bleu")


def run(task: Task, cell: str, out: Path, device: str, restart: bool, smoke: bool) -> None:
    """Train and test with one cell, as far as that was not done already."""
    corpus = ParallelDataModule(
        task.pairs,
        task.validation,
        task.source_vocabulary,
        task.target_vocabulary,
        batch_tokens=task.training.batch_tokens,
        batch_sentences=task.training.batch_sentences,
        seed=task.training.seed,
        cache=out.parent / "cache",
    )
    model = task.model.model_copy(update={"cell": cell})
    train(model, task.training, corpus, out, device=device, restart=restart, smoke=smoke)
    if not is_reported(out, task.search):
        report(
            out,
            list(task.test.sources()),
            [list(task.test.targets())],
            search=task.search,
            metrics=(task.metric,),
            samples=0,
            device=device,
            smoke=smoke,
        )


def figures(out: Path, metric: str) -> tuple[float, str, int, float]:
    """Score and its name, parameters, and target tokens a second in training (the median of the logged steps)."""
    score = json.loads((out / "metrics.json").read_text(encoding="utf-8"))["scores"][metric]
    parameters = sum(weight.numel() for weight in package.load(out).model.parameters())
    with (out / "log" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rates = [float(row["tokens_per_second"]) for row in csv.DictReader(file) if row["tokens_per_second"]]
    return score["value"], f"{score['name']}|{score['signature']}", parameters, statistics.median(rates)


def main(
    out: Annotated[Path, typer.Option(help="Folder for a model folder each, table.txt and table.csv.")] = Path(
        "runs/compare_cells"
    ),
    data: Annotated[Path | None, typer.Option(help="The Multi30k folder; without it, dates.")] = None,
    cell: Annotated[list[str], typer.Option(help="A cell to try; give it again for more.")] = ALL_CELLS,
    device: Device = "auto",
    restart: Restart = False,
    smoke: Smoke = False,
) -> None:
    """Train the same model with every cell, and compare score, size and speed."""
    if wrong := [one for one in cell if one not in CELLS]:
        raise ConfigError(f"--cell must be one of {', '.join(CELLS)}, got {', '.join(wrong)}")
    task = dates() if data is None else captions(data)
    out = out / ("dates" if data is None else "multi30k")
    for one in cell:
        print(f"\n{one}")
        run(task, one, out / one, device, restart, smoke)
    rows = []
    # Those of earlier calls belong to the table too.
    for one in (known for known in CELLS if known in cell or is_reported(out / known, task.search)):
        score, name, parameters, rate = figures(out / one, task.metric)
        rows.append([one, score, parameters, rate])
    table = Table("cell", name, "parameters", "target tokens/s in training", title=f"every cell on {out.name}")
    for one, score, parameters, rate in rows:
        table.add_row(one, f"{score:.1f}", f"{parameters:,}", f"{rate:,.0f}")
    Console(width=120).print(table)
    with writing(out / "table.txt"), (out / "table.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(table)
    with writing(out / "table.csv"), (out / "table.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["cell", name, "parameters", "tokens_per_second"], *rows])


if __name__ == "__main__":
    run_recipe(main)
