"""When a training validates, and what counts validations."""

import math
import re
from pathlib import Path

import pytest
import torch
from reversing import assert_same, content, reverse
from tiny import PAIRS, fit, training_config, vocabulary

from seq2seq.encoder import Encoded
from seq2seq.model import Seq2Seq
from seq2seq.training import TranslationModule
from seq2seq.training.callbacks import ValidationLine

NEVER_BETTER = {"monitor": "exact_match", "learning_rate": 1e-6}


def steps(told: str) -> list[int]:
    """After which a line told of a validation."""
    return [int(step) for step in re.findall(r"^epoch \d+/\d+ · step (\d+) ", told, re.MULTILINE)]


def test_validation_reads_each_source_once(tmp_path, monkeypatch) -> None:
    encode, read = Seq2Seq.encode, []

    def watched(model: Seq2Seq, *source: torch.Tensor) -> Encoded:
        read.append(model.training)
        return encode(model, *source)

    monkeypatch.setattr(Seq2Seq, "encode", watched)
    fit(tmp_path, training_config(max_epochs=1))
    assert (read.count(True), read.count(False)) == (2, 2)  # Batches of training and of validation.


@pytest.mark.parametrize(
    ("every", "accumulate", "found"),
    [
        (None, 1, [6, 12, 18]),
        (4, 1, [4, 8, 12, 16, 18]),
        (6, 1, [6, 12, 18]),
        (7, 1, [7, 14, 18]),
        # Two steps an epoch, of four batches and of two.
        (3, 4, [3, 6]),
        (100, 4, [6]),
    ],
)
def test_a_training_validates_after_so_many_steps_and_at_its_end(every, accumulate, found, tmp_path, capfd) -> None:
    reverse(tmp_path / "run", validate_every_steps=every, accumulate=accumulate)
    told = capfd.readouterr().err
    assert steps(told) == found
    assert ("warning: validate_every_steps=100 is not reached in 6 steps" in told) == (every == 100)
    best = re.search(r"best: epoch (\d+)(?:, step (\d+))?, validation loss", told)
    assert best
    assert (best[2] is None) == (every is None)
    assert every is None or int(best[2]) in found


@pytest.mark.parametrize("every", [None, 4, 7])
def test_each_line_tells_of_the_steps_since_the_last_one(every: int | None, tmp_path: Path, monkeypatch) -> None:
    seen = []
    tell = ValidationLine.on_validation_end

    def on_validation_end(self, trainer, module):
        seen.append(module.seen_tokens)
        tell(self, trainer, module)

    monkeypatch.setattr(ValidationLine, "on_validation_end", on_validation_end)
    reverse(tmp_path / "run", validate_every_steps=every)
    assert sum(seen) == 3 * sum(len(ids) + 1 for ids in vocabulary().encode([target for _, target in PAIRS]))


def test_the_plateau_counts_validations_behind_the_warm_up(tmp_path: Path) -> None:
    changes = {**NEVER_BETTER, "schedule": "plateau", "plateau_patience": 0}
    for every, warmup, halvings in ((None, 0, 2), (4, 0, 3), (4, 7, 2), (4, 8, 2), (4, 9, 1)):
        out = reverse(tmp_path / f"{every}-{warmup}", validate_every_steps=every, warmup_steps=warmup, **changes)
        rate = content(out)["optimizer_states"][0]["param_groups"][0]["lr"]
        assert rate == pytest.approx(1e-6 * 0.5**halvings)


def test_early_stopping_counts_validations_and_ends_in_the_middle_of_an_epoch(tmp_path: Path, capfd) -> None:
    changes = {**NEVER_BETTER, "early_stopping": 2, "validate_every_steps": 5, "max_epochs": 9}
    out = reverse(tmp_path / "run", **changes)
    assert steps(capfd.readouterr().err) == [5, 10, 15]
    assert content(out)["global_step"] == 15
    reverse(out, **changes)
    assert "is finished" in capfd.readouterr().err


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_counts_as_not_better(value: float, tmp_path: Path, monkeypatch, capfd) -> None:
    log, seen = TranslationModule.log, []

    def log_it(self, name, number, **options):
        if name == "validation_loss":
            seen.append(name)
            number = number + value if len(seen) in (2, 4, 5) else number
        log(self, name, number, **options)

    monkeypatch.setattr(TranslationModule, "log", log_it)
    reverse(tmp_path / "run", early_stopping=2, max_epochs=9)
    assert steps(capfd.readouterr().err) == [6, 12, 18, 24, 30], "two in a row"


def test_early_stopping_waits_for_the_end_of_the_warm_up(tmp_path: Path, capfd) -> None:
    changes = {**NEVER_BETTER, "early_stopping": 2, "validate_every_steps": 5, "max_epochs": 9, "warmup_steps": 11}
    reverse(tmp_path / "run", **changes)
    assert steps(capfd.readouterr().err) == [5, 10, 15, 20, 25]


def test_the_validation_at_the_end_does_not_count_in_a_longer_training(tmp_path: Path, capfd) -> None:
    changes = {**NEVER_BETTER, "schedule": "plateau", "plateau_patience": 0, "early_stopping": 3}
    for epochs in (1, 9):
        out = reverse(tmp_path / "run", validate_every_steps=4, max_epochs=epochs, **changes)
    assert steps(capfd.readouterr().err) == [4, 6, 8, 12, 16]
    whole = reverse(tmp_path / "whole", validate_every_steps=4, max_epochs=9, **changes)
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same({"": content(whole)[part]}, {"": content(out)[part]})


def test_a_trial_validates_once(tmp_path: Path, capfd) -> None:
    reverse(tmp_path / "run", smoke=True, validate_every_steps=7)
    assert steps(capfd.readouterr().err) == [2]
