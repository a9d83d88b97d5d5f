"""What a finished run folder tells: curves, what was trained, on what, for how long, and how to repeat it."""

import json
import sys
from pathlib import Path

import pytest
from tiny import WORDS, data_module, model_config, training_config

from seq2seq.training import train
from seq2seq.training.about import command, text_facts
from seq2seq.training.curves import draw_curves, read_curves


def test_a_finished_run_folder_speaks_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["recipes/mine.py", "--out", "a folder"])
    config = training_config(max_epochs=3)
    out = train(model_config(), config, data_module(tmp_path / "cache", config), tmp_path / "out", device="cpu")
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    training = json.loads((out / "config.json").read_text())["training"]
    assert training["total"]["epochs"] == 3
    assert training["total"]["steps"] == 6
    assert training["total"]["minutes"] >= training["minutes"]
    assert training["data"]["training"]["pairs"] == 12
    # "▁" and "<E>" besides the characters.
    tokens = sum(len(word) + 2 for word in WORDS)
    card = (out / "README.md").read_text()
    for told in (
        "- BLEU|nrefs:1|case:mixed",
        f"- training: pairs, 12 pairs, {tokens} + {tokens} tokens",
        f"Trained for {training['steps']} steps, the last in epoch {training['epochs']} (",
        "6 steps, the last in epoch 3 (",
        "on CPU (",
        "    python recipes/mine.py --out 'a folder'\n",
        "![How the training went](curves.png)",
    ):
        assert told in card, card


def test_a_folder_of_this_machine_is_not_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = training_config()
    data = data_module(tmp_path / "cache", config)
    name = f"{tmp_path}/data/a | /mnt{tmp_path}/b"
    assert text_facts(name, data.train_tokens)["text"] == f"data/a | /mnt{tmp_path}/b"


def test_the_command_is_that_of_a_script() -> None:
    assert command(["recipes/dates.py", "--epochs", "3"]) == "python recipes/dates.py --epochs 3"
    assert command(["-c"]) is command([""]) is command([]) is command(["/bin/pytest"]) is None


def test_curves_are_those_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, picture = tmp_path / "metrics.csv", tmp_path / "curves.png"
    log.write_text("step,loss,validation_loss\n0,2.5,\n1,,3.0\n2,1.5,\n")
    assert read_curves(log) == {"loss": ([0, 2], [2.5, 1.5]), "validation_loss": ([1], [3.0])}
    assert draw_curves(log, picture)
    assert picture.exists()
    assert not draw_curves(tmp_path / "nowhere", picture)
    log.write_text("step,other\n")
    assert not draw_curves(log, picture)
    monkeypatch.setattr("seq2seq.training.curves.find_spec", lambda _: None)
    assert not draw_curves(log, picture)
