"""Of two trainings in one folder the second is refused, until the first one ends or is killed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from reversing import reverse

from seq2seq.errors import TrainingError
from seq2seq.package.replacing import LOCK
from seq2seq.training import alone
from seq2seq.training.alone import alone_in

HOLDER = """
import sys
from pathlib import Path
from seq2seq.training.alone import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds a folder until its input ends."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    return holder


@pytest.mark.parametrize("ends", ["by itself", "killed"])
def test_a_second_training_in_a_folder_is_refused(ends: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with hold(out / "checkpoints") as holder:
        for changes in ({}, {"restart": True}, {"smoke": True}):
            with pytest.raises(TrainingError, match=r"a training is running in .*run; wait for it, end it, or give"):
                reverse(out, **changes)  # type: ignore[arg-type]
        assert [path.name for path in out.rglob("*")] == ["checkpoints", LOCK]
        if ends == "killed":
            holder.send_signal(signal.SIGKILL)
        else:
            holder.communicate("")
    assert (out / "checkpoints" / LOCK).exists() == (ends == "killed")
    reverse(out)
    assert not (out / "checkpoints" / LOCK).exists()


def test_who_trains_holds_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, seen = tmp_path / "run", []
    hold_folder = alone._take

    def take_and_try(descriptor: int, folder: Path) -> None:
        hold_folder(descriptor, folder)
        program = "import sys; from pathlib import Path; from seq2seq.training.alone import alone_in\n"
        program += "with alone_in(Path(sys.argv[1])): pass"
        command = [sys.executable, "-c", program, str(folder)]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        seen.append(tried.stderr.splitlines()[-1])

    monkeypatch.setattr(alone, "_take", take_and_try)
    reverse(out)
    (told,) = seen
    assert "TrainingError: a training is running in" in told


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
