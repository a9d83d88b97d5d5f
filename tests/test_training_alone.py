"""Of two trainings in one folder the second is refused, until the first one ends or is killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from reversing import reverse
from started import PROCESSES

from seq2seq.errors import TrainingError
from seq2seq.package.replacing import LOCK
from seq2seq.training import alone
from seq2seq.training.alone import alone_in


def hold(folder: Path, held: Any, ends: Any) -> None:
    """In another process: hold a folder for a while."""
    with alone_in(folder):
        held.set()
        ends.wait()


@contextmanager
def held_by_another(folder: Path, killed: bool) -> Iterator[None]:
    """While another process holds a folder, which ends or is killed then."""
    held, ends = PROCESSES.Event(), PROCESSES.Event()
    holder = PROCESSES.Process(target=hold, args=(folder, held, ends))
    holder.start()
    try:
        assert held.wait(60)
        yield
    finally:
        if killed:
            holder.kill()
        ends.set()
        holder.join()


def is_refused(folder: Path) -> bool:
    """Whether another process may not hold a folder now."""
    held, ends = PROCESSES.Event(), PROCESSES.Event()
    ends.set()
    tried = PROCESSES.Process(target=hold, args=(folder, held, ends))
    tried.start()
    tried.join()
    return not held.is_set()


@pytest.mark.parametrize("killed", [False, True])
def test_a_second_training_in_a_folder_is_refused(killed: bool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with held_by_another(out / "checkpoints", killed):
        for changes in ({}, {"restart": True}, {"smoke": True}):
            with pytest.raises(TrainingError, match=r"a training is running in .*run; wait for it, end it, or give"):
                reverse(out, **changes)  # type: ignore[arg-type]
        assert [path.name for path in out.rglob("*")] == ["checkpoints", LOCK]
    assert (out / "checkpoints" / LOCK).exists() == killed
    reverse(out)
    assert not (out / "checkpoints" / LOCK).exists()


def test_who_trains_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, refused = alone._take, []

    def take_and_let_another_try(descriptor: int, folder: Path) -> None:
        take(descriptor, folder)
        refused.append(is_refused(folder))

    monkeypatch.setattr(alone, "_take", take_and_let_another_try)
    out = reverse(tmp_path / "run")
    assert refused == [True]
    assert not is_refused(out / "checkpoints")


def test_where_nothing_came_of_it_nothing_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path / "new" / "run" / "checkpoints", tmp_path / "mine" / "checkpoints"):
        with alone_in(folder):
            assert folder.is_dir()
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]
    with alone_in(tmp_path / "run" / "checkpoints"):
        (tmp_path / "run" / "model").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["model"]


def test_a_disk_without_locks_is_trained_on_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(alone.fcntl, "lockf", unknown)
    assert (reverse(tmp_path / "run") / "config.json").exists()
    assert not (tmp_path / "run" / "checkpoints" / LOCK).exists()
