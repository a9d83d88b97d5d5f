"""Your own parallel text, from any language to any other.

    Two files, line by line     python recipes/parallel.py train.de train.en
    Columns of one TSV          python recipes/parallel.py pairs.tsv --columns 2 1
    Keys of JSON lines          python recipes/parallel.py pairs.jsonl --keys de en
    A data set of the Hub       python recipes/parallel.py hub:bentrevett/multi30k --keys de en

`--validation` and `--test` name sets that you have, twice for two files. Without them some source sentences are held
out for validation and others for the test, with all their translations: a paraphrase in training cannot give a test
sentence away.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from seq2seq import package
from seq2seq.cli.flags import (
    Columns,
    Device,
    Devices,
    Epochs,
    Keys,
    Languages,
    Nodes,
    Out,
    Precision,
    Restart,
    Seed,
    Smoke,
    Start,
    Test,
    Texts,
    Validation,
    Wandb,
)
from seq2seq.cli.options import Tokenize
from seq2seq.cli.running import run_recipe
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.corpus import ParallelText, check_fields, hold_out, read_places
from seq2seq.data import ParallelDataModule, joint_vocabulary
from seq2seq.errors import ConfigError
from seq2seq.metrics import Judge
from seq2seq.training import check_run, train, vector_size
from seq2seq.translator import report
from seq2seq.vocabulary import check_symbols


class Size(NamedTuple):
    """What the presets differ in."""

    subwords: int
    embedding: int
    hidden: int
    layers: int
    dropout: float
    learning_rate: float
    batch_tokens: int
    epochs: int = 20
    embedding_dropout: float = 0.0
    word_dropout: float = 0.0
    patience: int = 4


Preset = StrEnum("Preset", ["low_resource", "tiny", "small", "base"])
PRESETS = {
    # Thousands of pairs: few subwords, so that each is seen often; much dropout, small batches, many epochs, and
    # patience with the scores of a small validation set, which sway more than they grow.
    "low_resource": Size(
        2000, 256, 384, 1, 0.4, 2e-3, 1000, epochs=40, embedding_dropout=0.2, word_dropout=0.1, patience=8
    ),
    "tiny": Size(4000, 256, 384, 1, 0.3, 2e-3, 2000),  # some ten thousand
    "small": Size(8000, 256, 512, 2, 0.3, 1e-3, 4000),  # some hundred thousand
    "base": Size(16000, 512, 1024, 3, 0.1, 5e-4, 16000),  # millions, on a GPU
}


def read(
    texts: list[str],
    validation: list[str],
    test: list[str],
    columns: tuple[int, int],
    keys: tuple[str, str],
    cache: Path,
) -> tuple[ParallelText, ParallelText, ParallelText]:
    """Training, validation and test pairs: as they are given, or parts of the first."""
    if bool(validation) != bool(test):
        given = "--validation" if validation else "--test"
        raise ConfigError(f"--validation and --test go together, got {given} alone; give both, or neither")
    check_fields([texts, validation, test], columns, keys)
    parts = [read_places(places, columns, keys).check_not_blank() for places in (texts, validation, test) if places]
    if not validation:
        return hold_out(parts[0], cache=cache)
    pairs, validation_pairs, test_pairs = [text.with_facts(cache).check() for text in parts]
    return pairs, validation_pairs, test_pairs


def main(
    texts: Texts,
    validation: Validation = [],  # noqa: B006  # typer hands over a copy
    test: Test = [],  # noqa: B006  # the same
    columns: Columns = (1, 2),
    keys: Keys = ("source", "target"),
    languages: Languages = ("source", "target"),
    preset: Annotated[
        Preset,
        typer.Option(
            help="low_resource for thousands of pairs, tiny for tens of thousands, small for hundreds of thousands, "
            "base for millions, on a GPU."
        ),
    ] = Preset.small,
    out: Out = Path("runs/parallel"),
    seed: Seed = 1,
    epochs: Epochs = None,
    batch_tokens: Annotated[str | None, typer.Option(help="Tokens of a batch, or auto: what memory holds.")] = None,
    validate_every_steps: Annotated[
        int | None,
        typer.Option(
            help="Validate after so many steps, not after each epoch, and stop early by these: for large corpora."
        ),
    ] = None,
    symbols: Annotated[
        list[str], typer.Option("--symbol", help="A token of the text's own, as <2de> in front of what becomes German.")
    ] = [],  # noqa: B006  # the same
    source_vectors: Annotated[
        Path | None, typer.Option(help="Word vectors as text (GloVe, fastText, BPEmb) for embeddings to begin with.")
    ] = None,
    target_vectors: Annotated[Path | None, typer.Option(help="For tokens that those lack: the target's.")] = None,
    tokenize: Tokenize = None,
    device: Device = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "float32",
    restart: Restart = False,
    wandb: Wandb = None,
    start: Start = None,
    smoke: Smoke = False,
) -> None:
    """Train on your own parallel text, then translate the test set: yours, or pairs that were held out."""
    size = PRESETS[preset]
    training = TrainingConfig(
        seed=seed,
        max_epochs=size.epochs,
        batch_tokens=size.batch_tokens if batch_tokens is None else batch_tokens,
        precision=precision,
        learning_rate=size.learning_rate,
        schedule="plateau",
        warmup_steps=200,
        label_smoothing=0.1,
        ema_decay=0.995,  # what 200 steps have in common; the rate stays high until the scores no longer grow
        monitor="bleu",
        bleu_tokenize=tokenize,
        validate_every_steps=validate_every_steps,
        early_stopping=size.patience,
    )

    # Told now, not when a large corpus is read and its vocabulary learnt.
    check_run(
        training,
        out,
        device=device,
        devices=devices,
        nodes=nodes,
        epochs=epochs,
        restart=restart,
        wandb=wandb,
        smoke=smoke,
    )
    check_symbols(symbols)
    vectors = [path for path in (source_vectors, target_vectors) if path is not None]
    if start is not None and (symbols or vectors):
        raise ConfigError("--from brings its vocabulary and embeddings, got --symbol or vectors too; leave them out")
    begun = None if start is None else package.load(start)
    embedding_size = vector_size(vectors) if vectors else size.embedding

    cache = out / "cache"
    pairs, validation_pairs, test_pairs = read(texts, validation, test, columns, keys, cache)

    # Joint, so that names are copied; what is not in it is spelt in bytes, so that nothing is unknown.
    if begun is None:
        options = {"byte_fallback": True, "character_coverage": 0.9995, **({"symbols": symbols} if symbols else {})}
        vocabulary = joint_vocabulary(pairs, size.subwords, cache=cache, **options)
    else:
        vocabulary, embedding_size = begun.source_vocabulary, begun.config.embedding_size

    model = ModelConfig(
        source_vocabulary_size=len(vocabulary),
        target_vocabulary_size=len(vocabulary),
        embedding_size=embedding_size,
        encoder_layers=size.layers,
        encoder_hidden_size=size.hidden // 2,
        bidirectional=True,
        decoder_layers=2,
        decoder_hidden_size=size.hidden,
        attention="multi_head",
        output_attention=True,
        tied_embeddings="all",
        source_word_dropout=size.word_dropout,
        target_word_dropout=size.word_dropout,
        embedding_dropout=size.embedding_dropout,
        hidden_dropout=size.dropout,
        output_dropout=size.dropout,
    )
    corpus = ParallelDataModule(
        pairs,
        validation_pairs,
        vocabulary,
        vocabulary,
        batch_tokens=training.batch_tokens,
        batch_sentences=training.batch_sentences,
        seed=training.seed,
        cache=cache,
    )
    train(
        model,
        training,
        corpus,
        out,
        device=device,
        devices=devices,
        nodes=nodes,
        epochs=epochs,
        restart=restart,
        wandb=wandb,
        start=start,
        source_vectors=source_vectors,
        target_vectors=target_vectors,
        languages=languages,
        smoke=smoke,
    )
    report(
        out,
        list(test_pairs.sources()),
        [list(test_pairs.targets())],
        search=SearchConfig(beam_size=5, length_penalty="average", alpha=0.6),
        metrics=(Judge("bleu", tokenize=tokenize), "chrf"),
        samples=5,
        commands=[f"head -n 5 {out}/test/source.txt | seq2seq translate {out}"],
        device=device,
        smoke=smoke,
    )


if __name__ == "__main__":
    run_recipe(main)
