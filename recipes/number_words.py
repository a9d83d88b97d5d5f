"""Number words, English -> French, with a small word model.

Run `python recipes/number_words.py`; a model stands in `runs/number_words` minutes later.
"""

from pathlib import Path

from seq2seq.cli.flags import Data, Device, Devices, Epochs, Nodes, Out, Restart, Seed, Smoke, Start, Wandb
from seq2seq.cli.running import run_recipe
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.corpus import read_tsv
from seq2seq.data import ParallelDataModule
from seq2seq.training import train
from seq2seq.translator import report
from seq2seq.vocabulary import Vocabulary


def main(
    out: Out = Path("runs/number_words"),
    data: Data = Path(__file__).parent.parent / "data" / "numbers",
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
    """Train on numbers, then translate numbers that were held out."""
    pairs, validation, test = (read_tsv(data / f"{part}.tsv.gz").check() for part in ("train", "validation", "test"))

    # One token a word, "quatre-vingt-dix-sept" is one: all 104 of English and all 99 of French.
    source_vocabulary = Vocabulary.train(pairs.sources(), 4 + 104, kind="word")
    target_vocabulary = Vocabulary.train(pairs.targets(), 4 + 99, kind="word")

    model = ModelConfig(
        source_vocabulary_size=len(source_vocabulary),
        target_vocabulary_size=len(target_vocabulary),
        embedding_size=32,
        encoder_layers=1,
        encoder_hidden_size=64,
        bidirectional=True,  # an agreement ("quatre-vingts", "deux cents") hangs on the word that follows
        decoder_layers=2,
        decoder_hidden_size=128,
        residual=True,
        attention="dot",
        tied_embeddings="none",
        hidden_dropout=0.1,
    )
    training = TrainingConfig(
        seed=seed,
        max_epochs=3,
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
    languages = ("en", "fr")
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
        languages=languages,
        smoke=smoke,
    )
    report(
        out,
        list(test.sources()),
        [list(test.targets())],
        search=SearchConfig(beam_size=1),
        metrics=("exact_match",),
        samples=5,
        commands=[f'echo "four hundred and ninety-seven" | seq2seq translate {out}'],
        device=device,
        smoke=smoke,
    )


if __name__ == "__main__":
    run_recipe(main)
