"""Character sequences -> the same reversed: the smallest task that needs all of an encoder and a decoder.

Run `python recipes/reverse.py`; a model stands in `runs/reverse` minutes later.
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
    out: Out = Path("runs/reverse"),
    data: Data = Path(__file__).parent.parent / "data" / "reverse",
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
    """Train on random letters, then reverse sequences that were held out."""
    pairs, validation, test = (read_tsv(data / f"{part}.tsv.gz").check() for part in ("train", "validation", "test"))

    # One token a letter, the same on both sides.
    vocabulary = Vocabulary.train(pairs.sources(), 31, kind="char")

    model = ModelConfig(
        source_vocabulary_size=len(vocabulary),
        target_vocabulary_size=len(vocabulary),
        embedding_size=32,
        encoder_layers=1,
        encoder_hidden_size=64,
        bidirectional=True,  # a letter is found by its distance from the end as well as from the start
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
        vocabulary,
        vocabulary,
        batch_tokens=training.batch_tokens,
        batch_sentences=training.batch_sentences,
        seed=training.seed,
        cache=out / "cache",
    )
    languages = ("text", "reversed")
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
        commands=[f'echo "translator" | seq2seq translate {out}'],
        device=device,
        smoke=smoke,
    )


if __name__ == "__main__":
    run_recipe(main)
