"""A whole run: what it writes, and what it refuses."""

import csv
import io
import json
import math
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from tiny import data_module, model_config, training_config, vocabulary

from seq2seq import metrics, package
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.corpus import from_pairs, read_tsv
from seq2seq.data import ParallelDataModule
from seq2seq.diagnostics import GradientFlow
from seq2seq.errors import ConfigError, TrainingError
from seq2seq.training import callbacks as callbacks_module
from seq2seq.training import checkpoints, train
from seq2seq.training.callbacks import KeepBest, quality
from seq2seq.translator import Translator
from seq2seq.vocabulary import Vocabulary

WORDS = ["ab", "ba", "abc", "cab", "bac", "acb", "cba", "bca", "aab", "bba"]
PAIRS = [(word, word[::-1]) for word in WORDS]


def run(
    out: Path,
    cache: Path,
    epochs: int,
    device: str = "cpu",
    smoke: bool = False,
    callbacks: Sequence[Callback] = (),
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
    return train(model, training, data, out, device=device, epochs=epochs, smoke=smoke, callbacks=callbacks)


def test_a_data_module_that_is_used_again_takes_its_text_as_it_is_now(tmp_path: Path) -> None:
    text, training = tmp_path / "text.tsv", training_config(max_epochs=1)
    text.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    tokens = vocabulary()
    data = ParallelDataModule(
        read_tsv(text), read_tsv(text), tokens, tokens, batch_sentences=6, seed=1, cache=tmp_path / "cache"
    )
    for count in (10, 4):
        text.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS[:count]))
        train(model_config(), training, data, tmp_path / "run", restart=True)
        assert len(data.train_tokens) == len(data.validation_tokens) == len(data.validation_pairs) == count


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_a_run_leaves_a_model_a_log_and_a_summary(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = run(tmp_path / "run", tmp_path / "cache", epochs=2)
    summary = json.loads((out / "config.json").read_text())["training"]
    assert summary["monitored"] == summary["validation"]["loss"] > 0
    assert summary["epochs"] in (1, 2)
    assert summary["validation"]["bleu"].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    with (out / "log" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    validations = [row for row in rows if row["validation_loss"]]
    assert len(validations) == 2
    assert 0 <= float(validations[0]["minutes"]) <= float(validations[1]["minutes"]) <= summary["minutes"] + 1
    error = capfd.readouterr().err
    assert "epoch 2/2" in error
    assert ", validation loss " in error.splitlines()[-1]
    assert "tokens/s" in error
    assert "reference:" in error


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_minutes_are_of_training_and_not_of_what_comes_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited = []
    clock = SimpleNamespace(perf_counter=lambda: time.perf_counter() + sum(waited))
    prepare = ParallelDataModule.prepare_data

    def prepare_for_an_hour(self: ParallelDataModule) -> None:
        prepare(self)
        waited.append(3600)

    monkeypatch.setattr(callbacks_module, "time", clock)
    monkeypatch.setattr(ParallelDataModule, "prepare_data", prepare_for_an_hour)
    for epochs in (1, 2):  # The second goes on from the first.
        out = run(tmp_path / "run", tmp_path / "cache", epochs=epochs)
    assert len(waited) == 2
    assert json.loads((out / "config.json").read_text())["training"]["total"]["minutes"] < 30


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_a_state_that_could_not_be_read_again_ends_the_training_at_once(tmp_path: Path) -> None:
    class Keeper(Callback):
        def state_dict(self) -> dict[str, object]:
            return {"best": Path("models")}

    with pytest.raises(
        TrainingError, match=r"numbers, texts, lists, dictionaries and tensors, got pathlib\S*\.PosixPath; "
    ):
        run(tmp_path / "run", tmp_path / "cache", epochs=1, callbacks=[Keeper()])
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_a_state_on_a_file_system_that_maps_no_files_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: object, **__: object) -> None:
        raise RuntimeError("unable to mmap 9 bytes from file: No such device (19)")

    monkeypatch.setattr(checkpoints.torch, "load", load)
    kept = checkpoints.Checkpoints(tmp_path)
    kept.save_checkpoint({"a": 1}, kept.path(3))
    assert (kept.fault, kept.paths()) == ("", [kept.path(3)])


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_a_callback_sees_the_gradient_that_is_clipped(tmp_path: Path) -> None:
    """The mean over the tokens, as the column `gradient_norm` has it, and not the sum."""
    out = run(tmp_path / "run", tmp_path / "cache", epochs=2, callbacks=[GradientFlow(every=1)], clip_norm=0.2)
    with (out / "log" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["clipping/length"]]
    assert len(rows) == 4
    for row in rows:
        after = float(row["gradient_norm_after/all"])
        assert after == pytest.approx(min(0.2, float(row["gradient_norm_before/all"])), rel=1e-3)
        assert 0 < float(row["gradient_norm_before/all"]) < 20
        assert float(row["clipping/cosine"]) == pytest.approx(1.0, abs=1e-4)
        assert row["clipping/share"] in ("0.0", "1.0")
        assert row["gate_saturation/encoder layer 1 forward forget"]


@pytest.mark.filterwarnings("ignore:the corpus:UserWarning")
def test_memory_that_is_free_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(callbacks_module, "GIVE_BACK_STEPS", 2)
    monkeypatch.setattr(callbacks_module, "give_back", lambda: given.append(True))
    run(tmp_path / "run", tmp_path / "cache", epochs=2)
    assert len(given) == 2  # An epoch has two batches.


def test_faults_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device must be one of"):
        run(tmp_path / "a", tmp_path / "cache", epochs=1, device="tpu")
    assert not (tmp_path / "a").exists()


def test_the_better_model_is_the_one_with_less_loss_or_more_score() -> None:
    def value(monitor: str, monitored: float) -> float:
        return quality({"monitored": monitored, "settings": {"monitor": monitor}})

    assert value("loss", 1.0) > value("loss", 2.0) > value("loss", float("nan"))
    assert value("bleu", 30.0) > value("bleu", 20.0) > value("bleu", float("nan"))


def test_a_terminal_shows_epochs_from_1_and_metrics_that_can_be_read(tmp_path: Path, monkeypatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", shown := Terminal())
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    run(tmp_path / "run", tmp_path / "cache", epochs=2, learning_rate=3e-5)
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.getvalue()).replace("\r", "\n").splitlines()
    bars = [line for line in lines if line.startswith("Epoch")]
    assert {line.split()[1] for line in bars} == {"1/2", "2/2"}
    assert re.search(r" loss: \d\.\d{3} tokens/s: [\d,]+ rate: 3e-05 gradient: \d+\.\d\d", bars[-1])


def test_validation_translates_as_it_is_asked_to_and_scores_that(tmp_path: Path) -> None:
    """A search that never says more than two characters, so that the scores are others than those of greedy search."""
    config = training_config(max_epochs=40, monitor="exact_match", bleu_tokenize="char")
    search = SearchConfig(beam_size=2, max_length=3)
    data = data_module(tmp_path / "cache", config)
    out = train(model_config(), config, data, tmp_path / "out", device="cpu", search=search)
    told = json.loads((out / "config.json").read_text())["training"]["validation"]
    sources, targets = zip(*data.validation_pairs, strict=True)
    translator = Translator.load(out)
    found = translator.translate(list(sources), search)
    assert told["bleu"] == str(metrics.bleu(found, [list(targets)], tokenize="char"))
    assert told["exact_match"] == str(metrics.exact_match(found, [list(targets)]))
    greedy = metrics.exact_match(translator.translate(list(sources), SearchConfig(beam_size=1)), [list(targets)])
    assert 0 < metrics.exact_match(found, [list(targets)]).value < greedy.value


def test_validation_compares_texts_in_one_form(tmp_path: Path) -> None:
    words = ["e\u0301a", "ae\u0301", "e\u0301e\u0301"]
    vocabulary = Vocabulary.train(words, 20, kind="char", hard=False)
    text = from_pairs([(word, f" {word}") for word in words])
    config = training_config()
    data = ParallelDataModule(text, text, vocabulary, vocabulary, batch_sentences=6, seed=1, cache=tmp_path / "cache")
    seen: list[str] = []

    class Look(Callback):
        def on_fit_start(self, trainer, pl_module) -> None:  # noqa: ARG002  # Lightning's
            seen.extend(pl_module.references)

    model = model_config(source_vocabulary_size=len(vocabulary), target_vocabulary_size=len(vocabulary))
    train(model, config, data, tmp_path / "out", device="cpu", callbacks=[Look()])
    assert seen == ["éa", "aé", "éé"]


def test_subword_sampling_reaches_the_data(tmp_path: Path) -> None:
    config = training_config(max_epochs=1, subword_sampling=0.3)
    data = data_module(tmp_path / "cache", config, "bpe")
    train(model_config("bpe"), config, data, tmp_path / "out", device="cpu")
    assert data.subword_sampling == 0.3


def test_a_model_that_is_no_numbers_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """The weights break in the second epoch; the model of the first stays."""
    end = KeepBest.on_validation_end

    def on_validation_end(self, trainer, pl_module) -> None:
        if trainer.current_epoch == 1:
            with torch.no_grad():
                pl_module.model.output.bias[4] = math.nan
        end(self, trainer, pl_module)

    monkeypatch.setattr(KeepBest, "on_validation_end", on_validation_end)
    config = training_config(max_epochs=2, average_models=2, monitor="exact_match")
    out = train(model_config(), config, data_module(tmp_path / "cache", config), tmp_path / "out", device="cpu")
    assert "no finite numbers any more: this model is not kept" in capfd.readouterr().err
    assert package.load(out).metadata.training["epochs"] == 1
    assert (out / "checkpoints" / "finished").exists()
