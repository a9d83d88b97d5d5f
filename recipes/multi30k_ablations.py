"""What each measure of `multi30k.py` is worth: its model with one thing changed at a time, and older models beside it.

Run `python recipes/multi30k_ablations.py --source en --target de --tokenised`. A run for each variant and seed; those
that are finished are not made again and one that was stopped goes on, so that it can be called again at any time. A
choice is made by the validation column; the test column is for comparing with what others have published.
"""

import csv
import json
import re
import statistics
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

import typer
from multi30k import SEARCH, SUBWORDS, configure, judges, read
from rich.console import Console
from rich.table import Table

from seq2seq import package
from seq2seq.cli.flags import Device, Precision, Restart, Smoke
from seq2seq.cli.running import run_recipe, writing
from seq2seq.config import ModelConfig, TrainingConfig
from seq2seq.corpus import ParallelText
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError
from seq2seq.metrics import score
from seq2seq.training import train
from seq2seq.translator import Translator, is_reported, report
from seq2seq.vocabulary import Vocabulary

Fields = dict[str, Any]
AS_IT_IS: Mapping[str, Any] = MappingProxyType({})
NO_RECURRENT_DROPOUT = {"recurrent_dropout": 0.0, "recurrent_dropout_on": "hidden"}
NO_DROPOUT = {"embedding_dropout": 0.0, "hidden_dropout": 0.0, "output_dropout": 0.0, **NO_RECURRENT_DROPOUT}
WIDER = {"decoder_hidden_size": 384, "embedding_dropout": 0.3, "hidden_dropout": 0.4, "output_dropout": 0.4}
STACKS = {
    **NO_RECURRENT_DROPOUT,
    "cell": "lstm",
    "bidirectional": False,
    "encoder_layers": 2,
    "encoder_hidden_size": 384,
    "decoder_hidden_size": 384,
}
ONE_ATTENTION = {"output_attention": False}
FEEDING = {"input_feeding": True, **ONE_ATTENTION}
ONE_LAYER = {**NO_RECURRENT_DROPOUT, "attention": "additive", "decoder_layers": 1}
FIXED_VECTOR = {**STACKS, "attention": "none", **ONE_ATTENTION}
HALF_THE_RATE = {"learning_rate": 2e-3}  # what was found for cells without layer normalisation


class Variant(NamedTuple):
    """Fields of the model and of its training that differ from `multi30k.py`."""

    model: Mapping[str, Any] = AS_IT_IS
    training: Mapping[str, Any] = AS_IT_IS
    subwords: int = SUBWORDS
    seeds: int = 1


VARIANTS = {
    "full": Variant(seeds=3),
    # One measure fewer.
    "without R-Drop": Variant(training={"r_drop": 0.0}),
    "without late dropout": Variant(training={"dropout_start": 0}),
    "without dropout": Variant(NO_DROPOUT, {"r_drop": 0.0, "dropout_start": 0}),
    "without recurrent dropout": Variant(NO_RECURRENT_DROPOUT),
    "without tied embeddings": Variant({"tied_embeddings": "none", "bottleneck_size": 256}),
    "without layer normalisation": Variant({"cell": "lstm"}, HALF_THE_RATE),
    "without label smoothing": Variant(training={"label_smoothing": 0.0}),
    "without a falling rate": Variant(training={"schedule": "constant"}),
    "without moving average": Variant(training={"ema_decay": None}),
    "half the rate": Variant(training=HALF_THE_RATE),
    "twice the subwords": Variant(subwords=2 * SUBWORDS),
    # What is counted in steps is a fourth of what it was.
    "batches four times as large": Variant(
        training={"batch_tokens": 6000, "dropout_start": 196, "warmup_steps": 50, "ema_decay": 0.98}
    ),
    "without the second attention": Variant(ONE_ATTENTION, seeds=3),
    "general attention": Variant({"attention": "general"}),
    "encoder in one direction": Variant({"bidirectional": False, "encoder_hidden_size": 512}),
    # One measure more.
    "R-Drop": Variant(training={"r_drop": 3.0}),
    "a second encoder layer": Variant({"encoder_layers": 2}),
    "decoder of 384 and more dropout": Variant(WIDER),
    "word dropout": Variant({"source_word_dropout": 0.1, "target_word_dropout": 0.1}),
    "variational dropout": Variant({"variational_dropout": True}),
    "average of the best 3": Variant(training={"average_models": 3}),
    "subword sampling": Variant(training={"subword_sampling": 0.2}),
    "multi-head additive attention": Variant({"attention": "multi_head_additive"}),
    # In place of the second attention.
    "a third decoder layer": Variant({"decoder_layers": 3, **ONE_ATTENTION}),
    "input feeding": Variant(FEEDING, seeds=3),
    # Older models.
    "Luong et al. 2015": Variant({**STACKS, "attention": "general", **FEEDING}, HALF_THE_RATE),
    # The context reaches the next step by Luong's way, joined to its input.
    "Bahdanau et al. 2015": Variant({"cell": "gru_reset_before", **ONE_LAYER, **FEEDING}, HALF_THE_RATE),
    "Bahdanau et al. 2015 without input feeding, usual GRU": Variant(
        {"cell": "gru", **ONE_LAYER, **ONE_ATTENTION}, HALF_THE_RATE
    ),
    "Sutskever et al. 2014": Variant(FIXED_VECTOR, HALF_THE_RATE),
    "Sutskever et al. 2014, source reversed": Variant({**FIXED_VECTOR, "reverse_source": True}, HALF_THE_RATE),
}


class Plan(NamedTuple):
    """What is the same for all runs."""

    tokenised: bool
    r_drop: bool
    epochs: int | None
    precision: str
    device: str
    restart: bool
    smoke: bool


def settings(variant: Variant, seed: int, subwords: int, plan: Plan) -> tuple[ModelConfig, TrainingConfig]:
    """What one training is made with."""
    model, training = configure(subwords, seed)
    same = {"precision": plan.precision, "max_epochs": training.max_epochs if plan.epochs is None else plan.epochs}
    without = {} if plan.r_drop else {"r_drop": 0.0}
    return (
        model.model_copy(update=variant.model),
        training.model_copy(update={**same, **without, **variant.training}),
    )


def run(
    variant: Variant,
    seed: int,
    texts: list[ParallelText],
    vocabulary: Vocabulary,
    languages: tuple[str, str],
    out: Path,
    plan: Plan,
) -> None:
    """Train one variant with one seed and translate the test set, as far as that was not done already."""
    pairs, validation, test = texts
    model, training = settings(variant, seed, len(vocabulary), plan)
    corpus = ParallelDataModule(
        pairs,
        validation,
        vocabulary,
        vocabulary,
        batch_tokens=training.batch_tokens,
        batch_sentences=training.batch_sentences,
        seed=training.seed,
        cache=out.parent / f"cache-{variant.subwords}",
    )
    train(
        model,
        training,
        corpus,
        out,
        device=plan.device,
        restart=plan.restart,
        languages=languages,
        smoke=plan.smoke,
    )
    if not is_reported(out, SEARCH):
        report(
            out,
            list(test.sources()),
            [list(test.targets())],
            search=SEARCH,
            metrics=judges(plan.tokenised),
            samples=0,
            device=plan.device,
            smoke=plan.smoke,
        )


def folders_of(name: str, out: Path) -> list[Path]:
    """Where the seeds of a variant lie."""
    stem = re.sub(r"\W+", "-", name.lower())
    return [out / f"{stem}-{seed}" for seed in range(1, VARIANTS[name].seeds + 1)]


def made_before(name: str, languages: tuple[str, str], out: Path, plan: Plan) -> bool:
    """Whether an earlier call has made all of a variant, with the settings of this one."""
    folders = folders_of(name, out)
    if not all(is_reported(folder, SEARCH) for folder in folders):
        return False
    for seed, folder in enumerate(folders, start=1):
        about = package.load(folder).metadata
        _, training = settings(VARIANTS[name], seed, VARIANTS[name].subwords, plan)
        if about.languages != languages or about.training.get("settings") != training.model_dump(mode="json"):
            print(f"{folder} is left out of the table: it was trained with other settings or languages")
            return False
    return True


def figures(folders: list[Path]) -> Fields:
    """Means over the seeds of one variant."""
    results = [json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["scores"] for folder in folders]
    summaries = [package.load(folder).metadata.training for folder in folders]
    weights = package.load(folders[0]).model.parameters()
    return {
        "seeds": len(folders),
        "parameters": sum(weight.numel() for weight in weights),
        # Of the whole training; a trial has no more than the time of its best model.
        "minutes": statistics.mean(summary.get("total", summary)["minutes"] for summary in summaries),
        "validation": statistics.mean(summary["monitored"] for summary in summaries),
        "test": statistics.mean(result["bleu"]["value"] for result in results),
        "spread": max(result["bleu"]["value"] for result in results) - min(r["bleu"]["value"] for r in results),
        "validation signature": summaries[0]["validation"]["bleu"].split(" = ")[0],
        "test signature": f"{results[0]['bleu']['name']}|{results[0]['bleu']['signature']}",
    }


def ensemble(folders: list[Path], texts: list[ParallelText], plan: Plan) -> Fields:
    """The seeds of the full model together; scored on the validation set with greedy search, as training does."""
    translator = Translator.load(folders, plan.device)
    judge, *_ = judges(plan.tokenised)
    _, validation, test = texts
    greedy = SEARCH.model_copy(update={"beam_size": 1})
    found = [
        score(metric, translator.translate(list(part.sources()), search), [references])
        for metric, part, references, search in (
            ("bleu", validation, list(map(translator.vocabulary.normalise, validation.targets())), greedy),
            (judge, test, list(test.targets()), SEARCH),
        )
    ]
    return {"seeds": len(folders), "validation": found[0].value, "test": found[1].value}


def show(rows: dict[str, Fields], out: Path) -> None:
    """The table on the screen and in `table.txt`, the figures in `table.csv`."""
    table = Table("variant", "seeds", "parameters", "minutes", "validation, greedy", "test, beam 5", "highest - lowest")
    for name, row in rows.items():
        cells = [f"{row[key]:,}" if key in row else "" for key in ("seeds", "parameters")]
        cells += [f"{row[key]:.1f}" if key in row else "" for key in ("minutes", "validation", "test", "spread")]
        table.add_row(name, *cells)
    lines = [f"{name}: {rows['full'][f'{name} signature']}" for name in ("validation", "test")]
    Console(width=120).print(table, *lines, sep="\n", markup=False)
    with writing(out / "table.txt"), (out / "table.txt").open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(table, *lines, sep="\n", markup=False)
    with writing(out / "table.csv"), (out / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["variant", *rows["full"]])
        writer.writeheader()
        writer.writerows({"variant": name, **row} for name, row in rows.items())


def main(
    data: Annotated[Path, typer.Option(help="The Multi30k folder.")] = Path(__file__).parent.parent
    / "data"
    / "multi30k",
    source: Annotated[str, typer.Option(help="The language to translate from.")] = "en",
    target: Annotated[str, typer.Option(help="The language to translate into.")] = "de",
    tokenised: Annotated[bool, typer.Option("--tokenised", help="Lower-cased, tokenised files.")] = False,
    variant: Annotated[
        list[str], typer.Option(help="One to train beside `full`, in place of all; give it again for more.")
    ] = [],  # noqa: B006  # typer hands over a copy
    r_drop: Annotated[
        bool, typer.Option(help="--no-r-drop: `full` too has no R-Drop, and takes half the time.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Folder for a model folder each, and the tables.")] = Path("runs/ablations"),
    epochs: Annotated[
        int | None, typer.Option(help="Train each for so many, the rate falling to 0 within them.")
    ] = None,
    precision: Precision = "float32",
    device: Device = "auto",
    restart: Restart = False,
    smoke: Smoke = False,
) -> None:
    """Train the full model with three seeds and every variant with its own, and compare."""
    if wrong := [one for one in variant if one not in VARIANTS]:
        raise ConfigError(f"--variant must be one of {', '.join(VARIANTS)}; got {', '.join(wrong)}")
    same = "R-Drop" if r_drop else "without R-Drop"
    if same in variant:
        other = "--no-r-drop" if r_drop else "--r-drop"
        raise ConfigError(f"--variant must be another than `full`, got {same}; leave it out, or say {other}")
    texts = read(data, source, target, tokenised)
    plan = Plan(tokenised, r_drop, epochs, precision, device, restart, smoke)
    names = dict.fromkeys(["full", *(variant or (name for name in VARIANTS if name != same))])
    lines = list(chain(texts[0].sources(), texts[0].targets()))
    vocabularies = {
        size: Vocabulary.train(lines, size, kind="unigram") for size in {VARIANTS[name].subwords for name in names}
    }
    rows: dict[str, Fields] = {}
    now = set[str]()
    for name in names:
        for seed, folder in enumerate(folders_of(name, out), start=1):
            print(f"\n{name}, seed {seed}")
            vocabulary = vocabularies[VARIANTS[name].subwords]
            # Of `full`, which is always there, nothing is lost that nobody named.
            own = plan._replace(restart=restart and (not variant or name in variant))
            run(VARIANTS[name], seed, texts, vocabulary, (source, target), folder, own)
        if name == "full":
            full = folders_of(name, out)
            rows = {name: figures(full), f"ensemble of {len(full)}": ensemble(full, texts, plan)}
        # Those of earlier calls belong to the table too.
        now.add(name)
        for other in (other for other in VARIANTS if other != "full"):
            if other in now or made_before(other, (source, target), out, plan):
                rows[other] = figures(folders_of(other, out))
        show(rows, out)


if __name__ == "__main__":
    run_recipe(main)
