"""Two processes that train together are one that accumulates two batches: one path, one log, one set of scores."""

import json
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reversing import assert_same, content, reverse, reverse_together, rows
from started import PROCESSES, ROOT

from seq2seq import package
from seq2seq.errors import ConfigError
from seq2seq.training.checkpoints import OURS
from seq2seq.training.engine import choose_engine

PLAIN = {"model": {"hidden_dropout": 0.0}, "max_epochs": 3, "monitor": "bleu"}


def together(out: Path, number: int = 0, seconds: float = 0.0, **changes: object) -> list[int | None]:
    """The exit codes of two processes that train together, both hit by a signal if there is one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [
        PROCESSES.Process(target=reverse_together, args=(out, rank, port, number, seconds, changes)) for rank in (0, 1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=300)
    return [child.exitcode for child in children]


def assert_same_path(one: Path, other: Path) -> None:
    """Weights and losses within float tolerance, scores to the last digit."""
    for name, weight in content(one)["state_dict"].items():
        torch.testing.assert_close(content(other)["state_dict"][name], weight, rtol=1e-4, atol=1e-5)
    assert len(rows(one)) == len(rows(other)) == 3
    for row, same in zip(rows(one), rows(other), strict=True):
        assert row.keys() == same.keys()
        for key in ("validation_bleu", "validation_exact_match", "step", "epoch"):
            assert row[key] == same[key]
        assert float(row["validation_loss"]) == pytest.approx(float(same["validation_loss"]), rel=1e-4)
    scores = [package.load(out).metadata.training["validation"] for out in (one, other)]
    assert scores[0]["bleu"] == scores[1]["bleu"]


BY_STEPS = {"validate_every_steps": 2, "early_stopping": 3, "schedule": "plateau", "max_epochs": 2}


@pytest.mark.parametrize("changes", [{}, BY_STEPS], ids=["by epochs", "by steps"])
def test_two_processes_take_the_path_of_one_that_accumulates(changes, tmp_path):
    settings = {**PLAIN, **changes}
    assert together(tmp_path / "two", **settings) == [0, 0], (tmp_path / "two.err").read_text()
    one = reverse(tmp_path / "one", accumulate=2, **settings)
    assert_same_path(one, tmp_path / "two")
    first, second = content(tmp_path / "two")[OURS]["random_states"]
    assert not torch.equal(first["cpu"], second["cpu"]), "each draws dropout of its own"
    told = (tmp_path / "two.err").read_text()
    end = settings["max_epochs"]
    assert told.count(f"epoch {end}/{end} · step {3 * end} ") == told.count("best: epoch") == 1, "one process speaks"
    assert "Warning" not in told


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("hits", [1, 20])
def test_two_processes_that_are_hit_go_on_together(number, hits, tmp_path):
    changes = {"save_every_steps": 2, "max_epochs": 6}
    assert together(tmp_path / "whole", **changes) == [0, 0]
    moments = random.Random(hits)
    code = {signal.SIGKILL: -9, signal.SIGINT: 130}[number]
    for _ in range(hits):
        codes = together(tmp_path / "parts", number, moments.uniform(0, 0.2), **changes)
        assert code in codes or codes == [0, 0]
    assert together(tmp_path / "parts", **changes) == [0, 0]
    assert_same(content(tmp_path / "whole"), content(tmp_path / "parts"))
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")


@pytest.mark.parametrize(
    ("spoilt", "codes", "told"),
    [
        ("models", [2, 0], "error: a model cannot be written"),
        pytest.param("log", [2, 0], "metrics.csv: cannot be written (No space left on device)", marks=pytest.mark.slow),
        pytest.param("memory", [2, 2], "error: out of memory at a batch of 2 pairs", marks=pytest.mark.slow),
    ],
)
def test_what_fails_in_one_process_ends_the_other(spoilt, codes, told, tmp_path):
    """None waits for one that is gone, and one of them tells why."""
    assert together(tmp_path / "run", spoilt=spoilt, max_epochs=1, average_models=2) == codes
    said = (tmp_path / "run.err").read_text()
    assert told in said
    assert said.count(told) == 1
    assert "Traceback" not in said


RECIPE = ["recipes/reverse.py", "--epochs", "1", "--devices", "2", "--device", "cpu"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "start", [[], ["-m", "torch.distributed.run", "--nproc-per-node", "2"]], ids=["own", "torchrun"]
)
def test_a_recipe_trains_in_two_processes(start, tmp_path):
    """Started by Lightning or by torchrun; one of the two writes and speaks, and a second start only reports."""
    data = tmp_path / "data"
    data.mkdir()
    for part in ("train", "validation", "test"):
        (data / f"{part}.tsv.gz").write_bytes((ROOT / "data" / "reverse" / "validation.tsv.gz").read_bytes())
    command = [sys.executable, *start, ROOT / RECIPE[0], *RECIPE[1:], "--data", data, "--out", tmp_path / "run"]
    for said in ("best: epoch 1", "is finished"):
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout.count("The model is in") == 1
        assert said in result.stderr
        assert "Traceback" not in result.stderr
    assert "EM|" in json.dumps(json.loads((tmp_path / "run" / "metrics.json").read_text()))


def test_devices_that_cannot_be_are_refused(monkeypatch):
    with pytest.raises(ConfigError, match="at least 1, got 0 and 1"):
        choose_engine("cpu", 0, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="torchrun started 4 processes, and --devices 2 times --nodes 1"):
        choose_engine("cpu", 2, 1)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="by torchrun or srun, got --nodes 2 without either"):
        choose_engine("cpu", 2, 2)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    assert choose_engine("cpu", 2, 2)["strategy"] == "ddp"
