"""What can end a training, or a step: numbers that are not finite, memory, disk."""

import errno
import math
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from reversing import assert_same, content, reverse, rows

from seq2seq.errors import TrainingError
from seq2seq.package import load
from seq2seq.training import TranslationModule
from seq2seq.training.checkpoints import Checkpoints
from seq2seq.training.guard import StepGuard


def spoil(monkeypatch: pytest.MonkeyPatch, steps: range, kind: str) -> list[dict[str, torch.Tensor]]:
    """Make the loss or a gradient of some steps NaN; the weights before and after each of them are collected."""
    seen = []
    clip = TranslationModule.configure_gradient_clipping

    def configure_gradient_clipping(self, *arguments, **options):
        if self.global_step in steps:
            if kind == "loss":
                self.step_sums[0] = math.nan
            else:
                self.model.output.bias.grad[0] = math.inf if kind == "infinite" else math.nan
        seen.append({name: weight.detach().clone() for name, weight in self.named_parameters()})
        clip(self, *arguments, **options)

    monkeypatch.setattr(TranslationModule, "configure_gradient_clipping", configure_gradient_clipping)
    return seen


@pytest.mark.parametrize("kind", ["loss", "gradient", "infinite"])
def test_a_step_that_is_not_finite_is_skipped_and_counted(kind, tmp_path, monkeypatch, capfd):
    seen = spoil(monkeypatch, range(3, 5), kind)
    out = reverse(tmp_path / "run", max_epochs=2)
    assert_same(seen[3], seen[5], "skipped")
    assert any(not torch.equal(weight, seen[6][name]) for name, weight in seen[5].items()), "the next is taken"
    assert "step 4 skipped: loss or gradient not finite (2 skipped so far)" in capfd.readouterr().err
    assert content(out)["guard"]["skipped"] == 2
    assert all(weight.isfinite().all() for weight in load(out).model.state_dict().values())


def test_too_many_skipped_steps_end_the_run_with_a_diagnosis(tmp_path, monkeypatch):
    spoil(monkeypatch, range(3, 9), "gradient")
    message = (
        r"3 times in a row they were not: at step 5 the loss was \d.*, the gradient of model\.output\.bias .* not "
        r"finite, in the batch of the pairs \d+, \d+ of the corpus; lower learning_rate, .*look at these pairs"
    )
    with pytest.raises(TrainingError, match=message):
        reverse(tmp_path / "run", max_skipped_steps=3)


def test_a_spike_is_told_of_and_the_noise_of_a_training_is_not():
    noise = random.Random(0)
    guard = StepGuard(10)
    assert not any(guard.is_spike(5 * 0.99**step + noise.gauss(0, 0.1)) for step in range(500))
    assert guard.is_spike(3.0)
    quiet = StepGuard(10)
    assert not any(quiet.is_spike(abs(noise.gauss(0, 1e-4))) for _ in range(500)), "small losses vary by factors"


def test_running_out_of_memory_names_the_batch_and_the_setting(tmp_path, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.Tensor, "backward", no_memory)
    message = (
        r"^out of memory at a batch of 2 pairs of \d+ source and \d+ target tokens; "
        r"lower batch_sentences \(now 2\)$"
    )
    with pytest.raises(TrainingError, match=message):
        reverse(tmp_path / "run")


def test_other_errors_stay_as_they_are(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(TranslationModule, "training_step", broken)
    with pytest.raises(RuntimeError, match="a bug of ours"):
        reverse(tmp_path / "run")


# ---- the disk ----


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_full_disk_leaves_the_states_before(number, tmp_path, monkeypatch):
    """Whichever write fails: the temporary file is gone, what was saved is whole, and the same command goes on."""
    whole, parts = reverse(tmp_path / "whole"), tmp_path / "parts"
    calls = []

    def save(checkpoint, file):
        calls.append(file.name)
        if len(calls) == number:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(checkpoint, file)

    real = torch.save
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(TrainingError, match=r"ckpt: cannot be written \(No space left on device\); .*goes on$"):
            reverse(parts)
    assert not list(parts.rglob("*.part"))
    before = Checkpoints(parts / "checkpoints").newest()
    assert before is not None
    assert not before[2]
    assert_same(content(whole), content(reverse(parts)))
    assert rows(whole) == rows(parts)


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from reversing import reverse_until
reverse_until(Path({out!r}), 0, 0, {{"max_epochs": 1}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
# No file may grow beyond this: writing fails as on a full disk, in the real system call.
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
reverse_until(Path({out!r}), 0, 0, {{"max_epochs": 2, "restart": {restart}}})
"""


@pytest.mark.slow
def test_a_write_that_the_system_refuses_is_one_line(tmp_path):
    out = tmp_path / "run"
    program = FULL.format(tests=str(Path(__file__).parent), out=str(out), restart=True)
    result = subprocess.run([sys.executable, "-c", program], check=False)
    told = (tmp_path / "run.err").read_text()
    assert result.returncode == 2
    assert re.search(r"^error: .*cannot be written \(.*\); what was saved before is whole.*$", told, re.MULTILINE)
    assert "Traceback" not in told


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_line(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o500)
    with pytest.raises(TrainingError, match="cannot be written"):
        reverse(folder / "run")


def test_a_folder_that_cannot_be_looked_at_is_one_line(tmp_path):
    with pytest.raises(TrainingError, match=r"--out must be a folder that can be written, got .* \(File name too long"):
        reverse(tmp_path / ("x" * 300))


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(TrainingError, match=r"--out must be a folder, got .*run is a file; choose another"):
        reverse(tmp_path / "run")
    assert (tmp_path / "run").read_text() == "a file"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "log").write_text("a file")
    with pytest.raises(TrainingError, match=r"log.*: cannot be written \(.*\)"):
        reverse(tmp_path / "other")
