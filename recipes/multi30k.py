"""Multi30k (Elliott et al. 2016): image captions from one language to another.

Run `python data/multi30k/prepare.py` once, then `python recipes/multi30k.py --source de --target en`: from raw text to
raw text. With `--tokenised` (here and for prepare.py) both sides are the data set's own lower-cased, normalised and
tokenised files, on which most published scores of Multi30k were computed.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.flags import Data, Device, Devices, Epochs, Nodes, Precision, Restart, Seed, Smoke, Start, Wandb
from seq2seq.cli.running import run_recipe
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.corpus import ParallelText, read_lines
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.metrics import Judge
from seq2seq.training import train
from seq2seq.translator import report
from seq2seq.vocabulary import Vocabulary

LANGUAGES = ("de", "en", "fr", "cs")
SUBWORDS = 5000
SEARCH = SearchConfig(beam_size=5, length_penalty="average", alpha=0.6)  # the sweep is in recipes/README.md


def read(data: Path, source: str, target: str, tokenised: bool) -> list[ParallelText]:
    """The 29,000 captions of task 1, the validation set and test_2016_flickr."""
    if wrong := {source, target}.difference(LANGUAGES):
        raise ConfigError(f"--source and --target must be of {', '.join(LANGUAGES)}, got {', '.join(sorted(wrong))}")
    if source == target:
        raise ConfigError(f"--source and --target must be two languages, got {source} for both")
    kind = ".lc.norm.tok" if tokenised else ""
    parts = ("train", "val", "test_2016_flickr")
    texts = [[data / f"{part}{kind}.{language}.gz" for language in (source, target)] for part in parts]
    for path in chain(*texts):
        if not path.exists():
            options = f"--languages {source} {target}{' --tokenised' if tokenised else ''} --out {data}"
            raise CorpusError(
                f"{path} must be there, and is not; "
                f"run python data/multi30k/prepare.py {options} once, or say --data FOLDER"
            )
    return [read_lines(*paths).check() for paths in texts]


def judges(tokenised: bool) -> list[Judge]:
    """Captions that are tokenised already are compared word by word as they stand."""
    if tokenised:
        return [Judge("bleu", lowercase=True, tokenize="none"), Judge("chrf", lowercase=True)]
    return [Judge("bleu"), Judge("chrf")]


def configure(subwords: int, seed: int = 1) -> tuple[ModelConfig, TrainingConfig]:
    """All that was decided about the model and its training, on the validation set.

    Validation BLEU (greedy, English to German, tokenised, seed 1) after epochs 1, 2, 3, ... of what was tried; dropout
    is that of embeddings, hidden layers and output; the decoder has 384 units and one attention where nothing is said:

        general attention, dropout .2/.3/.3, 10 epochs   18.9  24.1  29.3  31.0  32.1  33.0  33.7  34.2  34.2  34.2
        the same, then 5 epochs with dropout .3/.5/.5    32.5  33.2  33.0  (given up)
        the same, then with subword sampling too         28.1  27.3  (given up)
        two attentions, dropout .2/.3/.3, 10 epochs      18.6  (given up)
        two attentions of four heads, the same           22.3  29.3  (stopped)
        two attentions of four heads, dropout .3/.4/.4   19.7  (stopped: a third slower, no better after one epoch)
        decoder of 512, dropout .3/.4/.4, word dropout   13.9  17.2  22.3  (given up)
        four heads, dropout .3/.4/.4, 15 epochs          19.0  27.8  28.8  33.1  34.5  35.0  34.8  36.1  36.4  36.8
                                                         37.2  37.6  37.7  37.8  37.9
        the same with moving average, 20 epochs, seed 2  19.9  28.3  32.1  33.5  34.6  (stopped for the next)
        decoder of 256, four heads, moving average,      21.1  29.8  32.6  34.7  36.1  36.4  37.5  37.0  38.2  37.6
        dropout .2/.3/.3, 15 epochs                      37.7  37.6  37.3  37.6  37.6
        the same with dropout .3/.4/.4, 20 epochs        18.0  27.3  31.0  32.5  33.8  34.1  (stopped for the next)
        the same from the third epoch on, 15 epochs      24.6  33.1  33.0  33.9  34.7  (stopped for the next)
        without dropout for two epochs, then .2/.3/.3
            and word dropout .1, 15 epochs               24.6  33.1  33.0  34.1  34.9  (stopped)
            and R-Drop (alpha 3), 12 epochs              24.5  32.9  33.3  34.4  34.9  36.6  36.9  37.5  38.1  38.2
                                                         38.5  38.5
            the same, 15 epochs                          24.6  33.1  33.3  34.4  35.2  36.5  37.2  37.6  38.3  38.5
                                                         38.3  38.7  39.0  39.0  39.2
            the same, seed 2                             25.1  32.9  32.4  34.3  35.5  36.4  37.0  37.7  37.8  38.4
                                                         38.2  38.5  38.4  38.6  38.6
            the same, seed 3                             23.6  33.1  32.6  34.1  34.8  36.0  36.8  36.9  37.7  38.0
                                                         38.1  38.5  38.6  38.5  38.7
            the same, seed 1, and two attentions         24.7  33.2  33.3  34.4  35.5  36.1  37.3  38.2  39.1  38.8
                                                         39.5  39.4  39.6  39.6  39.5
            the same, seed 2                             25.3  34.1  32.7  34.3  35.4  36.8  37.7  38.2  38.7  39.0
                                                         38.8  39.3  39.3  39.4  39.4
            the same, seed 3                             25.5  32.9  32.8  34.3  35.7  36.6  37.7  38.0  38.7  38.9
                                                         39.1  39.3  39.5  39.5  39.4
            the same, seed 1, decoder of 384, dropout    25.6  33.2  31.3  32.7  34.2  35.0  36.0  36.7  37.7  37.8
                .3/.4/.4, in bfloat16                    38.0  38.3  38.3  37.9  38.1
            with two attentions and layer normalisation, 23.7  33.4  33.4  34.5  36.1  36.9  38.0  38.8  39.4  39.8
                in bfloat16                              39.8  39.8  40.1  39.9  40.0
            the same, seed 2                             21.9  33.3  33.4  35.1  36.4  37.2  38.0  38.8  39.0  39.8
                                                         40.1  39.7  39.9  40.2  40.2
            the same, seed 3                             24.3  32.6  33.5  35.6  36.6  37.0  37.9  38.4  39.0  39.6
                                                         39.5  39.4  39.8  39.9  39.8
            the same, seed 1, and word dropout .1        23.7  33.4  31.0  32.6  34.3  (stopped)
            layer normalisation, recurrent dropout .2    23.7  33.4  31.6  33.1  34.2  35.6  36.4  (stopped)
                of the update
            layer normalisation, the rate 3e-3           26.2  33.6  34.6  35.7  37.0  38.1  39.1  39.5  39.9  40.2
                                                         39.9  40.2  40.1  40.5  40.5
            the same, seed 2                             25.0  33.9  33.6  35.6  36.9  38.0  38.6  39.4  39.6  39.8
                                                         39.6  39.9  40.0  39.9  39.9
            the rate 5e-3, seed 1                        26.2  33.4  33.6  35.7  36.9  37.8  38.9  39.2  (stopped)
            the rate 4e-3, dropout .3/.4/.4              25.9  34.2  31.8  33.0  34.9  35.8  (stopped)
            the rate 4e-3, recurrent dropout .1          25.9  34.2  33.1  34.0  35.9  37.2  37.9  38.1  38.7  39.1
                                                         39.3  (stopped for the next)
            the same, 22 epochs: what is below           26.0  33.9  32.6  34.0  35.6  36.7  37.5  38.1  38.4  39.2
                                                         39.1  39.9  39.7  40.1  40.4  40.6  40.5  40.7  40.6  40.7
                                                         40.7  40.6
            the same, seed 2                             26.1  34.4  33.1  34.4  36.0  37.3  37.7  38.3  39.3  39.3
                                                         39.8  40.2  39.8  40.3  40.3  40.5  40.6  40.8  40.8  41.0
                                                         41.0  41.2
            the same, seed 3                             26.2  34.1  33.5  35.1  35.4  36.5  37.2  37.5  38.2  38.6
                                                         39.4  39.7  39.9  40.2  40.2  40.2  40.1  40.2  40.5  40.6
                                                         40.7  40.6
            and input feeding, 15 epochs                 24.4  32.9  (stopped: twice the time)
            and nothing else, 15 epochs                  24.6  33.1  (not finished)
        embeddings and encoder of 128, the same          16.5  27.9  30.3  30.9  (given up)
        late dropout and R-Drop with alpha 5, 15 epochs  24.6  33.1  32.0  33.3  (stopped)
        the same with seed 2                             25.1  32.9  31.1  32.7  (stopped)
        R-Drop (alpha 3) from the first step             20.4  29.7  (stopped for late dropout)

    Means of three seeds, decoder of 256, late dropout, no R-Drop, 8 epochs (test scores in recipes/README.md):

        one attention                                    24.3  32.8  33.8  34.8  35.9  36.0  36.0  36.1
        input feeding (1.25 times as long an epoch)      24.5  32.7  33.7  34.9  35.8  36.6  36.6  36.9
        two attentions (1.15 times)                      25.1  33.8  34.5  35.4  36.1  36.7  36.8  37.0

    German to English, from raw text; LSTMs with one attention where nothing is said:

        dropout .2/.3/.3 from the first step, no R-Drop  22.7  31.9  34.6  36.2  37.6  38.3  38.7  39.4  39.7  40.1
                                                         40.3  40.1  40.2  40.1  40.2
        late dropout .2/.3/.3 and R-Drop (alpha 3)       27.6  35.5  36.2  37.2  38.0  39.0  39.4  40.0  40.2  40.1
                                                         40.2  40.3  40.3  40.3  40.3
        the same with two attentions                     26.1  35.2  36.5  37.1  37.6  38.9  39.0  39.5  39.8  40.3
                                                         40.5  40.7  40.8  40.7  40.8
        and layer normalisation, in bfloat16             24.1  35.9  36.8  37.6  39.0  40.1  40.5  41.1  41.4  41.8
                                                         41.8  41.9  41.8  41.6  41.8
        and rate 4e-3, recurrent dropout .1, 22 epochs:  27.6  35.7  36.5  37.8  38.9  39.4  40.3  40.9  41.1  41.5
            what is below                                41.7  42.2  42.1  42.2  42.6  42.6  42.5  42.8  42.8  42.7
                                                         42.7  42.8
    """
    model = ModelConfig(
        source_vocabulary_size=subwords,
        target_vocabulary_size=subwords,
        cell="lstm_layer_norm",
        embedding_size=256,
        encoder_layers=1,
        encoder_hidden_size=256,
        bidirectional=True,
        decoder_layers=2,
        decoder_hidden_size=256,
        attention="multi_head",
        output_attention=True,  # as good as input feeding, and cheaper
        tied_embeddings="all",
        embedding_dropout=0.2,
        hidden_dropout=0.3,
        output_dropout=0.3,
        recurrent_dropout=0.1,
        recurrent_dropout_on="update",
    )
    training = TrainingConfig(
        seed=seed,
        max_epochs=22,  # the rate falls to 0 at the last one: 21 or 23 are other trainings, not a part of this one
        batch_tokens=1500,  # small batches: 29,000 pairs give few steps an epoch
        optimizer="adamw",
        learning_rate=4e-3,
        schedule="cosine",
        warmup_steps=200,
        label_smoothing=0.1,
        dropout_start=784,  # two epochs without, or nearly: who knows nothing yet has nothing to learn by heart
        r_drop=3.0,
        clip_norm=1.0,
        ema_decay=0.995,  # the weights of the last 200 steps or so, half an epoch
        monitor="bleu",
    )
    return model, training


def main(
    data: Data = Path(__file__).parent.parent / "data" / "multi30k",
    source: Annotated[str, typer.Option(help="The language to translate from: de, en, fr or cs.")] = "de",
    target: Annotated[str, typer.Option(help="The language to translate into.")] = "en",
    tokenised: Annotated[bool, typer.Option("--tokenised", help="Lower-cased, tokenised files.")] = False,
    out: Annotated[Path | None, typer.Option(help="In place of runs/multi30k-SOURCE-TARGET.")] = None,
    seed: Seed = 1,
    epochs: Epochs = None,
    device: Device = "auto",
    devices: Devices = 1,
    nodes: Nodes = 1,
    precision: Precision = "float32",
    restart: Restart = False,
    wandb: Wandb = None,
    start: Start = None,
    smoke: Smoke = False,
) -> None:
    """Train on the 29,000 captions of task 1, then translate test_2016_flickr."""
    out = out or Path(f"runs/multi30k-{source}-{target}{'-tokenised' if tokenised else ''}")
    pairs, validation, test = read(data, source, target, tokenised)

    # One joint vocabulary: names and numbers look alike in both languages, and one embedding can serve both.
    vocabulary = Vocabulary.train(chain(pairs.sources(), pairs.targets()), SUBWORDS, kind="unigram")
    model, training = configure(len(vocabulary), seed)
    training = training.model_copy(update={"precision": precision})

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
    languages = (source, target)
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
        search=SEARCH,
        metrics=judges(tokenised),
        samples=5,
        commands=[f"head -n 5 {out}/test/source.txt | seq2seq translate {out}"],
        device=device,
        smoke=smoke,
    )


if __name__ == "__main__":
    run_recipe(main)
