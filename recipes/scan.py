"""SCAN (Lake & Baroni 2018, arXiv:1711.00350): commands -> actions.

`python recipes/scan.py` holds out a random fifth; `--split length` every command of more than 22 actions;
`--split add_prim_jump` every command with "jump" but the word alone, which makes a tenth of the training (and so
`--split add_prim_turn_left`).
"""

import random
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.flags import Data, Device, Devices, Epochs, Nodes, Restart, Seed, Smoke, Start, Wandb
from seq2seq.cli.running import run_recipe
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.corpus import from_pairs, read_tsv
from seq2seq.data import ParallelDataModule
from seq2seq.training import train
from seq2seq.translator import report
from seq2seq.vocabulary import Vocabulary

Pairs = list[tuple[str, str]]


class Split(StrEnum):
    simple = "simple"
    length = "length"
    add_prim_jump = "add_prim_jump"
    add_prim_turn_left = "add_prim_turn_left"


def divide(pairs: Pairs, split: Split) -> tuple[Pairs, Pairs, Pairs]:
    """Training, validation and test pairs; the 500 of validation are always like those of training."""
    pairs = random.Random(1).sample(pairs, len(pairs))
    if split == Split.simple:
        cut = len(pairs) * 4 // 5
        return pairs[500:cut], pairs[:500], pairs[cut:]
    if split == Split.length:
        train = [(command, actions) for command, actions in pairs if len(actions.split()) <= 22]
        test = [(command, actions) for command, actions in pairs if len(actions.split()) > 22]
        return train[500:], train[:500], test
    primitive = split.removeprefix("add_prim_").replace("_", " ")
    train = [pair for pair in pairs if primitive not in pair[0]]
    alone = [pair for pair in pairs if pair[0] == primitive]
    test = [pair for pair in pairs if primitive in pair[0] and pair[0] != primitive]
    # So many copies that the primitive alone is a tenth of the training, as in the data set's own files.
    return train[500:] + alone * (len(train) // 9), train[:500], test


def main(
    split: Annotated[Split, typer.Option(help="What is held out.")] = Split.simple,
    out: Annotated[Path | None, typer.Option(help="In place of runs/scan-SPLIT.")] = None,
    data: Data = Path(__file__).parent.parent / "data" / "scan",
    seed: Seed = 1,
    epochs: Epochs = None,
    device: Device = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    restart: Restart = False,
    wandb: Wandb = None,
    start: Start = None,
    smoke: Smoke = False,
) -> None:
    """Train on one split of SCAN, then carry out the commands that were held out."""
    out = out or Path(f"runs/scan-{split}")
    parts = divide(list(read_tsv(data / "commands.tsv.gz")), split)
    pairs, validation, test = (from_pairs(part, f"SCAN {split}") for part in parts)

    # One token a word: 13 words make all the commands, 6 all the actions.
    source_vocabulary = Vocabulary.train(pairs.sources(), 4 + 13, kind="word")
    target_vocabulary = Vocabulary.train(pairs.targets(), 4 + 6, kind="word")

    model = ModelConfig(
        source_vocabulary_size=len(source_vocabulary),
        target_vocabulary_size=len(target_vocabulary),
        embedding_size=32,
        encoder_layers=1,
        encoder_hidden_size=64,
        bidirectional=True,
        decoder_layers=2,
        decoder_hidden_size=128,
        residual=True,
        attention="dot",
        tied_embeddings="none",
        hidden_dropout=0.1,
    )
    training = TrainingConfig(
        seed=seed,
        max_epochs=6,
        batch_tokens=None,
        batch_sentences=32,
        learning_rate=5e-3,
        schedule="cosine",
        warmup_steps=200,
        clip_norm=1.0,
        monitor="loss",  # where every translation is right, the loss still tells models apart
    )

    corpus = ParallelDataModule(
        pairs,
        validation,
        source_vocabulary,
        target_vocabulary,
        batch_tokens=training.batch_tokens,
        batch_sentences=training.batch_sentences,
        seed=training.seed,
        cache=out / "cache",
    )
    search = SearchConfig(beam_size=1, max_length=60, max_length_ratio=None)  # one word can be 16 actions
    languages = ("command", "actions")
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
        search=search,
        languages=languages,
        smoke=smoke,
    )
    report(
        out,
        list(test.sources()),
        [list(test.targets())],
        search=search,
        metrics=("exact_match",),
        samples=5,
        commands=[f'echo "jump around left twice" | seq2seq translate {out} --max-length-ratio 0'],
        device=device,
        smoke=smoke,
    )


if __name__ == "__main__":
    run_recipe(main)
