"""A training that can be started in another process, killed, and compared: reversing words."""

import csv
import errno
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tiny import data_module, model_config, training_config

from seq2seq.config import SearchConfig
from seq2seq.errors import PackageError, one_line_errors
from seq2seq.training import averaging, train
from seq2seq.training.keeping import KeepState
from seq2seq.training.metrics_file import MetricsFile
from seq2seq.training.module import GREEDY


def reverse(
    out: Path,
    *,
    device: str = "cpu",
    devices: int = 1,
    restart: bool = False,
    smoke: bool = False,
    start: Path | None = None,
    search: SearchConfig = GREEDY,
    model: dict[str, Any] | None = None,
    **changes: Any,
) -> Path:
    """Learn to reverse a dozen words in batches of two, with dropout."""
    training = training_config(**{"batch_sentences": 2, "max_epochs": 3, **changes})
    kind = "bpe" if training.subword_sampling else "char"
    config = model_config(kind, **{"hidden_dropout": 0.2, **(model or {})})
    data = data_module(out.parent / "cache", training, kind)
    options = {"device": device, "devices": devices, "restart": restart, "smoke": smoke, "start": start}
    return train(config, training, data, out, search=search, **options)


def reverse_until(out: Path, number: int, seconds: float, changes: dict[str, Any]) -> None:
    """The same, hit by a signal so many seconds after its first step began; the exit code is that of a recipe.

    What it says is added to a file beside `out`.
    """
    with out.with_suffix(".err").open("ab") as file:
        os.dup2(file.fileno(), 2)
    start = KeepState.on_train_start

    def on_train_start(self: KeepState, *arguments: Any) -> None:
        start(self, *arguments)
        timer = threading.Timer(seconds, os.kill, (os.getpid(), number))
        timer.daemon = True
        if number:
            timer.start()

    KeepState.on_train_start = on_train_start
    torch.set_num_threads(1)
    with one_line_errors():
        reverse(out, **changes)
    # What is still to come may be hit too, and the process is gone before it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def reverse_on(out: Path, terminal: str) -> None:
    """The same for many epochs, shown on a terminal."""
    os.dup2(os.open(terminal, os.O_RDWR | os.O_NOCTTY), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    reverse(out, max_epochs=60)


def content(out: Path) -> dict[str, Any]:
    """The newest state of a run."""
    return torch.load(max((out / "checkpoints").glob("step-*.ckpt")), weights_only=True)


def rows(out: Path) -> list[dict[str, str]]:
    """What a run logged, without the times."""
    with (out / "log" / "metrics.csv").open(newline="") as file:
        times = {"tokens_per_second", "minutes"}
        return [{name: value for name, value in row.items() if name not in times} for row in csv.DictReader(file)]


def assert_same(one: Any, other: Any, place: str = "") -> None:
    """Bit for bit the same, without the times."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key, value in one.items():
            if key not in ("minutes", "seconds", "trained_seconds"):
                assert_same(value, other[key], f"{place}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), place
        for number, value in enumerate(one):
            assert_same(value, other[number], f"{place}/{number}")
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, place


def reverse_together(out: Path, rank: int, port: int, number: int, seconds: float, changes: dict[str, Any]) -> None:
    """One of two processes that train together, as torchrun would start them."""
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    names["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"  # Not by way of the machine's name.
    os.environ.update({name: str(value) for name, value in names.items()})
    rank_zero_only.rank = rank  # Lightning looks when it is imported, which these processes have done before.
    spoil(changes.pop("spoilt", ""), rank)
    reverse_until(out, number, seconds, {"devices": 2, **changes})


def spoil(what: str, rank: int) -> None:
    """Let something fail in one of two processes: `models` and `log` in the first, `memory` in the second."""

    def fail(error: Exception) -> Any:
        def failing(*_: Any, **__: Any) -> None:
            raise error

        return failing

    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")
    if (what, rank) == ("models", 0):
        # What averages are made of; the best model has gone another way.
        averaging.package = SimpleNamespace(save=fail(PackageError("a model cannot be written")))
    if (what, rank) == ("log", 0):
        MetricsFile._add = fail(full)
    if (what, rank) == ("memory", 1):
        torch.Tensor.backward = fail(torch.OutOfMemoryError("CUDA out of memory"))
