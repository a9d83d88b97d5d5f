"""A whole run: what it writes, that it learns, and that a resumed run is the uninterrupted one."""

import csv
import json
from pathlib import Path

import pytest
import torch

from seq2seq import package
from seq2seq.config import ModelConfig, TrainingConfig
from seq2seq.corpus import from_pairs
from seq2seq.data import ParallelDataModule
from seq2seq.errors import ConfigError, TrainingError
from seq2seq.training import train
from seq2seq.vocabulary import Vocabulary

WORDS = ["ab", "ba", "abc", "cab", "bac", "acb", "cba", "bca", "aab", "bba"]
PAIRS = [(word, word[::-1]) for word in WORDS]


def run(
    out: Path,
    cache: Path,
    epochs: int,
    resume: bool = False,
    device: str = "cpu",
    smoke: bool = False,
    **changes: object,
) -> Path:
    """Learn to reverse ten words."""
    vocabulary = Vocabulary.train(WORDS, 20, kind="char", hard=False)
    model = ModelConfig(
        source_vocabulary_size=len(vocabulary),
        target_vocabulary_size=len(vocabulary),
        embedding_size=8,
        encoder_hidden_size=8,
        decoder_hidden_size=16,
        hidden_dropout=0.1,
    )
    settings = {"batch_tokens": None, "batch_sentences": 5, "learning_rate": 0.02, "monitor": "loss", **changes}
    training = TrainingConfig(max_epochs=3, **settings)
    data = ParallelDataModule(
        from_pairs(PAIRS), from_pairs(PAIRS), vocabulary, vocabulary, batch_sentences=5, seed=1, cache=cache
    )
    return train(model, training, data, out, device=device, epochs=epochs, resume=resume, smoke=smoke)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(package.load(folder).model.state_dict())


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
@pytest.mark.parametrize("schedule", ["plateau", "cosine"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, schedule: str) -> None:
    whole = run(tmp_path / "whole", tmp_path / "cache", epochs=4, schedule=schedule, warmup_steps=3)
    # The cosine's length is that of the whole run, so the first part is told of it and stopped by hand.
    parts = tmp_path / "parts"
    run(parts, tmp_path / "cache", epochs=2 if schedule == "plateau" else 4, schedule=schedule, warmup_steps=3)
    checkpoint = parts / "checkpoints" / "last.ckpt"
    assert checkpoint.is_file()
    if schedule == "plateau":
        run(parts, tmp_path / "cache", epochs=4, resume=True, schedule=schedule, warmup_steps=3)
    first, second = (torch.load(out / "checkpoints" / "last.ckpt", weights_only=True) for out in (whole, parts))
    for key, weight in first["state_dict"].items():
        assert torch.equal(weight, second["state_dict"][key]), key
    for key, weight in weights(whole).items():
        assert torch.equal(weight, weights(parts)[key]), key


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_a_run_leaves_a_model_a_log_and_a_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = run(tmp_path / "run", tmp_path / "cache", epochs=2)
    summary = json.loads((out / "config.json").read_text())["training"]
    assert summary["epochs"] in (1, 2)
    assert summary["validation"]["bleu"].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    with (out / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["validation_loss"]]) == 2
    error = capfd.readouterr().err
    assert "epoch 2/2" in error
    assert ", validation loss " in error.splitlines()[-1]
    assert "tokens/s" in error
    assert "reference:" in error


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_faults_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device must be one of"):
        run(tmp_path / "a", tmp_path / "cache", epochs=1, device="tpu")
    with pytest.raises(TrainingError, match=r"last\.ckpt, and there is none"):
        run(tmp_path / "b", tmp_path / "cache", epochs=1, resume=True)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_a_gradient_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="gradient must be finite"):
        run(tmp_path / "run", tmp_path / "cache", epochs=3, learning_rate=1e30, optimizer="sgd")
