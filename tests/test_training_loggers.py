"""Weights & Biases gets what `metrics.csv` gets, and a run that goes on is one run there too."""

import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tiny import data_module, model_config, training_config

from seq2seq.errors import ConfigError, TrainingError
from seq2seq.training import loggers, train

STEP = "trainer/global_step"


class Run:
    """What `wandb.init` gives."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.rows: list[dict[str, float]] = []
        self.settings: dict[str, Any] = {}
        self.config = self
        self.finished = False

    def update(self, settings: dict[str, Any], **_: Any) -> None:
        self.settings |= settings

    def define_metric(self, *_: Any, **__: Any) -> None:
        """The axis is Lightning's affair."""

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """A library called wandb, and the runs it began."""
    begun: list[Run] = []

    def init(**arguments: Any) -> Run:
        begun.append(Run(**arguments))
        return begun[-1]

    names = ["wandb", "wandb.sdk", "wandb.sdk.lib", "wandb.wandb_run"]
    modules = {name: ModuleType(name) for name in names}
    modules["wandb"].__dict__.update(init=init, run=None, require=lambda *_: None, Artifact=None)
    modules["wandb.sdk.lib"].__dict__.update(RunDisabled=type("RunDisabled", (), {}))
    modules["wandb.wandb_run"].__dict__.update(Run=Run)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(loggers, "find_spec", lambda name: name if name == "wandb" else None)
    # Lightning looks for the distribution.
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    return begun


def run(out: Path, **options: Any) -> Path:
    config = training_config(max_epochs=1)
    data = data_module(out.parent / "cache", config)
    return train(model_config(), config, data, out, device="cpu", **options)


def test_what_is_logged_is_what_metrics_csv_holds(runs, tmp_path: Path) -> None:
    out = run(tmp_path / "dates", wandb="translation")
    (only,) = runs
    assert only.arguments["project"] == "translation"
    assert only.arguments["name"] == "dates"
    assert only.settings["training"]["batch_sentences"] == 6
    with (out / "log" / "metrics.csv").open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    told = [{("step" if key == STEP else key): float(value) for key, value in row.items()} for row in only.rows]
    assert told == rows
    assert len(told) >= 1
    assert only.finished, "or the next training would log to it"


def test_a_run_that_goes_on_is_the_same_run_and_another_is_not(runs, tmp_path: Path) -> None:
    out = run(tmp_path / "run", wandb="p")
    (out / "checkpoints" / "finished").unlink()
    run(out, wandb="p")
    run(out, wandb="p", restart=True)
    first, second, third = (one.arguments["id"] for one in runs)
    assert first == second != third
    assert all(one.arguments["resume"] == "allow" for one in runs)


def test_without_the_flag_nothing_goes_there(runs, tmp_path: Path) -> None:
    run(tmp_path / "run", smoke=True)
    assert not runs


@pytest.mark.usefixtures("runs")
def test_a_restart_that_cannot_log_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = run(tmp_path / "run", wandb="p")
    names = ["checkpoints/*", "log/metrics.csv", "log/wandb-id"]
    files = {path: path.read_bytes() for name in names for path in out.glob(name)}
    assert len(files) >= 4

    def init(**_: Any) -> None:
        raise RuntimeError("api_key not configured")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    with pytest.raises(TrainingError, match="api_key not configured"):
        run(out, wandb="p", restart=True)
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.usefixtures("runs")
def test_a_library_that_is_missing_or_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("api_key not configured (no-tty).\ncall wandb login")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    with pytest.raises(TrainingError, match=r"^Weights & Biases cannot be used \(api_key not .*\); type"):
        run(tmp_path / "run", wandb="p")
    with pytest.raises(ConfigError, match="name of a project"):
        run(tmp_path / "run", wandb=" ")
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="needs the library wandb, which is not installed; pip install wandb"):
        run(tmp_path / "other", wandb="p")
    assert not (tmp_path / "other").exists()
