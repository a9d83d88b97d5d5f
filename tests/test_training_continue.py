"""A training that was stopped anywhere goes on as if it had not been: bit for bit, batches, dropout and log."""

import errno
import os
import random
import select
import shutil
import signal
import sys
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from reversing import assert_same, content, reverse, reverse_on, reverse_until, rows
from started import PROCESSES
from tiny import data_module, model_config, training_config

from seq2seq import package
from seq2seq.config import SearchConfig
from seq2seq.corpus import Limits
from seq2seq.errors import ConfigError, CorpusError, PackageError, TrainingError
from seq2seq.training import TranslationModule, train
from seq2seq.training.checkpoints import OURS, Checkpoints
from seq2seq.training.keeping import KeepState
from seq2seq.training.processes import say
from seq2seq.training.signals import Stopped, StopSignals

CHANGES = [
    {"schedule": "plateau", "plateau_patience": 0, "warmup_steps": 3},
    {"schedule": "cosine", "accumulate": 2, "ema_decay": 0.9, "early_stopping": 3},
    {"average_models": 2, "average_of": "best", "subword_sampling": 0.3, "ema_decay": 0.8},
    {"validate_every_steps": 4, "schedule": "plateau", "plateau_patience": 0, "ema_decay": 0.9},
    {"validate_every_steps": 3, "accumulate": 4, "average_models": 2},
]


def stop_at(monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    """As if a signal had come during the batch before."""
    start = KeepState.on_train_batch_start

    def on_train_batch_start(self, trainer, module, data, index):
        if (trainer.current_epoch, index) == (epoch, batch):
            self.signals.received = signal.SIGTERM
        start(self, trainer, module, data, index)

    monkeypatch.setattr(KeepState, "on_train_batch_start", on_train_batch_start)


@pytest.mark.parametrize(
    "changes", CHANGES, ids=["plateau", "cosine", "averaged and sampled", "every 4 steps", "every 3 long steps"]
)
def test_a_run_stopped_at_any_step_is_the_uninterrupted_one(changes, tmp_path, monkeypatch):
    whole = reverse(tmp_path / "whole", **changes)
    parts = tmp_path / "parts"
    for epoch, batch in [(0, 0), (0, 2), (1, 0), (1, 4), (2, 2)]:
        with monkeypatch.context() as patch:
            stop_at(patch, epoch, batch)
            with pytest.raises(SystemExit) as caught:
                reverse(parts, **changes)
            assert caught.value.code == 128 + signal.SIGTERM
    reverse(parts, **changes)
    assert_same(content(whole), content(parts))
    assert rows(whole) == rows(parts)
    for one in [Path("."), *(path.relative_to(whole) for path in whole.glob("models/*"))]:
        assert_same(package.load(whole / one).model.state_dict(), package.load(parts / one).model.state_dict())
    assert len(list(parts.glob("models/*"))) == changes.get("average_models", 0)


# ---- killed ----


def hit(out: Path, number: int, seconds: float, changes: dict[str, object]) -> int | None:
    """The exit code of a run that a signal hits so many seconds after its first step began."""
    child = PROCESSES.Process(target=reverse_until, args=(out, number, seconds, changes))
    child.start()
    child.join(timeout=300)
    return child.exitcode


def until_finished(out: Path, number: int, hits: int, seconds: float, **changes: object) -> list[int | None]:
    """The exit codes of a run that is hit so many times, at random moments, and then left alone."""
    moments = random.Random(hits)
    # A longer run than it can get through between so many hits.
    changes = {"save_every_steps": 3, "max_epochs": 6 if hits < 20 else 60, **changes}
    codes = [hit(out, number, moments.uniform(0, seconds), changes) for _ in range(hits)]
    return [*codes, hit(out, 0, 0, changes)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing hit."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert until_finished(out, 0, 0, 0) == [0]
    return out


@pytest.mark.parametrize("hits", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_run_ends_as_the_uninterrupted_one(hits, whole, tmp_path):
    parts = tmp_path / "parts"
    codes = until_finished(parts, signal.SIGKILL, hits, seconds=0.3)
    if hits == 20:
        assert codes == [-signal.SIGKILL] * hits + [0]
        whole = tmp_path / "whole"
        until_finished(whole, 0, 0, 0, max_epochs=60)
    assert -signal.SIGKILL in codes
    assert codes[-1] == 0
    assert_same(content(whole), content(parts))
    assert rows(whole) == rows(parts)
    assert_same(package.load(whole).model.state_dict(), package.load(parts).model.state_dict())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("hits", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_a_signal_finishes_the_step_and_the_run_goes_on(hits, number, code, whole, tmp_path):
    parts = tmp_path / "parts"
    codes = until_finished(parts, number, hits, seconds=0.1)
    if hits == 20:
        assert codes == [code] * hits + [0]
        whole = tmp_path / "whole"
        until_finished(whole, 0, 0, 0, max_epochs=60)
    assert set(codes) == {code, 0}
    told = (tmp_path / "parts.err").read_text()
    assert "Traceback" not in told
    assert "finishing this step; once more ends at once" in told
    assert "the same command goes on from there" in told
    assert_same(content(whole), content(parts))
    assert rows(whole) == rows(parts)


def test_a_second_signal_ends_at_once() -> None:
    signals = StopSignals()
    signals._note(signal.SIGINT, None)
    assert signals.received == signal.SIGINT
    with pytest.raises(Stopped):
        signals._note(signal.SIGINT, None)


def test_a_closed_terminal_is_a_reason_to_stop_and_says_so_twice() -> None:
    signals = StopSignals()
    for _ in range(2):
        signals._note(signal.SIGHUP, None)
    assert signals.received == signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        signals.install()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "as nohup wants it"
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell of a terminal that has gone in other ways")
def test_a_training_outlives_the_terminal_that_shows_its_bar(tmp_path):
    terminal, inside = os.openpty()
    process = PROCESSES.Process(target=reverse_on, args=(tmp_path / "run", os.ttyname(inside)))
    process.start()
    shown = b""
    while b"Epoch" not in shown:
        assert select.select([terminal], [], [], 60)[0], shown
        shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    os.close(inside)
    process.join(60)
    # The exit code is Python's own, which tells of what could not be written.
    assert (tmp_path / "run" / "checkpoints" / "finished").exists()
    assert_same(content(tmp_path / "run"), content(reverse(tmp_path / "whole", max_epochs=60)))


def test_a_terminal_that_has_gone_ends_nothing(monkeypatch):
    def write(_: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    descriptor = os.open("/dev/full", os.O_WRONLY)
    gone = SimpleNamespace(write=write, flush=lambda: None, fileno=lambda: descriptor)
    monkeypatch.setattr(sys, "stderr", gone)
    monkeypatch.setattr(sys, "__stderr__", gone)
    say("an epoch")
    signals = StopSignals()
    signals._note(signal.SIGTERM, None)
    os.close(descriptor)
    assert signals.received == signal.SIGTERM


@pytest.mark.parametrize(("changes", "step"), [({}, 5), ({"validate_every_steps": 4}, 3)])
def test_a_signal_while_validating_does_not_wait_for_its_end(changes, step, tmp_path, monkeypatch):
    def validation_step(self, *_):
        state = next(callback for callback in self.trainer.callbacks if isinstance(callback, KeepState))
        assert not state.signals.received, "no batch follows"
        state.signals.received = signal.SIGINT

    whole = reverse(tmp_path / "whole", **changes)
    with monkeypatch.context() as patch:
        patch.setattr(TranslationModule, "validation_step", validation_step)
        with pytest.raises(KeyboardInterrupt):
            reverse(tmp_path / "parts", **changes)
    assert content(tmp_path / "parts")["global_step"] == step, "the last step is repeated, for its validation"
    assert_same(content(whole), content(reverse(tmp_path / "parts", **changes)))


def test_a_run_that_stopped_early_does_not_train_further(tmp_path, monkeypatch):
    """A signal comes when early stopping has ended the last epoch, and nothing but scoring is left."""
    changes = {"monitor": "exact_match", "early_stopping": 1, "max_epochs": 8}
    whole = reverse(tmp_path / "whole", **changes)
    end = KeepState.on_train_end

    def on_train_end(self, trainer, module):
        self.signals.received = signal.SIGTERM
        end(self, trainer, module)

    with monkeypatch.context() as patch:
        patch.setattr(KeepState, "on_train_end", on_train_end)
        with pytest.raises(SystemExit):
            reverse(tmp_path / "parts", **changes)
    assert_same(content(whole), content(reverse(tmp_path / "parts", **changes)))
    assert rows(whole) == rows(tmp_path / "parts")
    assert content(whole)["global_step"] < 8 * 6


# ---- what is in the folder ----


def states(out: Path) -> list[Path]:
    return sorted((out / "checkpoints").glob("step-*.ckpt"))


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """A run that was stopped in its second epoch."""
    with monkeypatch.context() as patch:
        stop_at(patch, 1, 3)
        with pytest.raises(SystemExit):
            reverse(tmp_path / "run")
    assert [path.name for path in states(tmp_path / "run")] == ["step-000000006.ckpt", "step-000000009.ckpt"]
    return tmp_path / "run"


def damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    contents = {"empty": b"", "half": whole[: len(whole) // 2], "foreign": b"a picture", "flipped": whole}
    path.write_bytes(contents.get(how, b""))
    if how == "pickle":
        torch.save({"seq2seq": os.system}, path)
    if how == "other":
        torch.save({"state_dict": {}}, path)


@pytest.mark.parametrize("how", ["empty", "half", "foreign", "pickle", "other"])
def test_a_state_that_cannot_be_read_is_named_and_the_one_before_is_used(how, unfinished, capfd):
    damage(states(unfinished)[1], how)
    reverse(unfinished)
    error = capfd.readouterr().err
    assert "step-000000009.ckpt is " in error
    assert "going on from step 6" in error
    assert_same(content(reverse(unfinished.parent / "whole")), content(unfinished))


def test_without_a_state_that_can_be_read_nothing_is_lost_or_begun(unfinished):
    for path in states(unfinished):
        damage(path, "half")
    sizes = [path.stat().st_size for path in states(unfinished)]
    with pytest.raises(TrainingError, match=r"no state of this training can be used: .*step-000000006.*--restart"):
        reverse(unfinished)
    assert [path.stat().st_size for path in states(unfinished)] == sizes


def test_other_settings_are_refused_with_what_differs(unfinished):
    message = (
        r"holds an unfinished training with other settings \(model.hidden_dropout: 0.2, now 0.1; "
        r"training.learning_rate: 0.02, now 0.01\); give it those, --restart to start over, or another --out"
    )
    with pytest.raises(TrainingError, match=message):
        reverse(unfinished, learning_rate=0.01, model={"hidden_dropout": 0.1})
    with pytest.raises(TrainingError, match=r"training.monitor: loss, now bleu"):
        reverse(unfinished, monitor="bleu")
    reverse(unfinished, save_every_steps=1, save_every_minutes=None)  # These change nothing.


def test_a_trial_does_not_take_the_place_of_a_training(unfinished):
    before = content(unfinished), rows(unfinished)
    for restart in (False, True):
        with pytest.raises(TrainingError, match="--smoke would put a trial's model; leave it out, or give another"):
            reverse(unfinished, smoke=True, restart=restart)
    assert_same(content(unfinished), before[0])
    assert rows(unfinished) == before[1]


def test_a_copy_of_a_state_leaves_the_others(unfinished, tmp_path):
    (tmp_path / "copies").mkdir()
    for place in (tmp_path / "copies" / "a.ckpt", tmp_path / "copies" / "z.ckpt", Path("zz")):
        checkpoints, there = Checkpoints(unfinished / "checkpoints"), states(unfinished)
        with chdir(tmp_path):
            checkpoints.save_checkpoint({}, place)
        assert not checkpoints.fault
        assert states(unfinished) == there


def test_a_run_of_an_older_version_goes_on(unfinished, capfd):
    """It did not have some fields yet, and did what they do by default."""
    for path in states(unfinished):
        state = torch.load(path, weights_only=True)
        settings = state[OURS]["settings"]
        for part, name in [
            ("model", "residual"),
            ("training", "r_drop"),
            ("training", "freeze"),
            ("validation", "seed"),
        ]:
            del settings[part][name]
        # Told by it, and of no meaning to greedy search.
        settings["validation"] |= {"length_penalty": "average", "alpha": 1.0}
        torch.save(state, path)
    with pytest.raises(TrainingError, match=r"settings \(training.r_drop: 0.0, now 1.0\)"):
        reverse(unfinished, r_drop=1.0)
    reverse(unfinished)
    assert "going on from step 9" in capfd.readouterr().err
    assert_same(content(reverse(unfinished.parent / "whole")), content(unfinished))


def test_validation_by_a_beam_with_another_length_penalty_is_refused(tmp_path):
    def trained(alpha: float) -> Path:
        config, search = training_config(max_epochs=1), SearchConfig(beam_size=2, alpha=alpha)
        data = data_module(tmp_path / "cache", config)
        return train(model_config(), config, data, tmp_path / "out", device="cpu", search=search)

    trained(0.6)
    trained(0.6)
    with pytest.raises(TrainingError, match=r"settings \(validation.alpha: 0.6, now 1.0\)"):
        trained(1.0)


def test_other_data_is_refused(unfinished, monkeypatch):
    monkeypatch.setattr("tiny.PAIRS", [("ab", "ba"), ("ba", "ab")] * 3)
    with pytest.raises(TrainingError, match=r"data.training text: \w+, now \w+; data.validation text"):
        reverse(unfinished)


def test_restart_starts_over(unfinished):
    (unfinished / "models" / "step_9").mkdir(parents=True)
    (unfinished / "models" / "mine").mkdir()
    reverse(unfinished, restart=True, seed=7, max_epochs=1)
    assert [path.name for path in (unfinished / "models").iterdir()] == ["mine"]
    whole = reverse(unfinished.parent / "whole", seed=7, max_epochs=1)
    assert_same(content(whole), content(unfinished))
    assert rows(whole) == rows(unfinished)


def test_a_restart_that_is_refused_loses_nothing(unfinished):
    before = content(unfinished), rows(unfinished)
    kept = unfinished / "models" / "step_9"
    kept.mkdir(parents=True)
    for refused in ({"start": kept}, {"search": SearchConfig(samples=3)}):
        with pytest.raises((PackageError, ConfigError)):
            reverse(unfinished, restart=True, **refused)
    training = training_config(batch_sentences=2)
    nothing = data_module(unfinished.parent / "other", training, limits=Limits(max_length=1))
    with pytest.raises(CorpusError, match="no pair is left"):
        train(model_config(), training, nothing, unfinished, restart=True, device="cpu")
    assert kept.exists()
    assert_same(content(unfinished), before[0])
    assert rows(unfinished) == before[1]
    shutil.rmtree(kept)


def test_what_no_training_has_made_is_not_touched(tmp_path):
    names = ["README.md", "log/my.log", "checkpoints/best.ckpt", "models/mine/x"]
    for name in names:
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text("mine")
    for options in ({}, {"smoke": True}, {"restart": True}):
        with pytest.raises(TrainingError, match=r"got .*out, whose README.md is of something else; choose another"):
            reverse(tmp_path / "out", **options)
    (tmp_path / "out" / "README.md").unlink()
    reverse(tmp_path / "out", max_epochs=1)
    reverse(tmp_path / "out", max_epochs=1, restart=True)
    assert [(tmp_path / "out" / name).read_text() for name in names[1:]] == ["mine"] * 3


def test_a_model_whose_states_are_gone_is_not_replaced_by_chance(tmp_path):
    out = reverse(tmp_path / "run", max_epochs=1, smoke=True)
    reverse(out, max_epochs=1)
    shutil.rmtree(out / "checkpoints")
    weights = (out / "model.safetensors").read_bytes()
    with pytest.raises(TrainingError, match="run holds a model and no state of its training; --restart"):
        reverse(out, max_epochs=1, seed=3)
    with pytest.raises(TrainingError, match="run holds a model and no state of its training; give another --out"):
        reverse(out, max_epochs=1, smoke=True, restart=True)
    assert (out / "model.safetensors").read_bytes() == weights
    reverse(out, max_epochs=1, seed=3, restart=True)
    assert (out / "model.safetensors").read_bytes() != weights


def test_a_finished_run_is_not_trained_again(tmp_path, capfd, monkeypatch):
    out = reverse(tmp_path / "run", max_epochs=1)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    capfd.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(TranslationModule, "__init__", lambda *_: pytest.fail("a model was made"))
        assert reverse(out, max_epochs=1) == out
    assert "is finished; --restart or another --out trains anew" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before
    for changes, message in (
        ({"max_epochs": 2, "learning_rate": 0.1}, "learning_rate: 0.02, now 0.1"),
        ({"max_epochs": 2, "schedule": "cosine"}, "schedule: constant, now cosine"),
    ):
        with pytest.raises(TrainingError, match=rf"holds a finished training .*\({'training.' + message}\)"):
            reverse(out, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "constant", "ema_decay": 0.9, "early_stopping": 9},
        {"schedule": "plateau", "warmup_steps": 3, "accumulate": 2},
        {"schedule": "inverse_sqrt", "warmup_steps": 3},
        {"schedule": "halving", "halving_start": 1.0, "subword_sampling": 0.3},
    ],
    ids=lambda changes: changes["schedule"],
)
def test_a_longer_training_is_the_longer_training(changes, tmp_path, capfd):
    out = tmp_path / "run"
    for epochs in (2, 4):
        reverse(out, max_epochs=epochs, **changes)
    assert "going on from step" in capfd.readouterr().err
    whole = reverse(tmp_path / "whole", max_epochs=4, **changes)
    assert_same(content(whole), content(out))
    assert rows(whole) == rows(out)
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert Checkpoints(out / "checkpoints").finished


def test_a_training_is_not_made_longer_where_that_is_another_one(tmp_path, capfd):
    for changes in ({"schedule": "cosine"}, {"average_models": 2}):
        out = reverse(tmp_path / "_".join(changes), max_epochs=1, **changes)
        with pytest.raises(TrainingError, match=r"holds a finished training .*\(training.max_epochs: 1, now 2\)"):
            reverse(out, max_epochs=2, **changes)
    out = reverse(tmp_path / "two", max_epochs=2)
    with pytest.raises(TrainingError, match=r"\(training.max_epochs: 2, now 1\)"):
        reverse(out, max_epochs=1)
    stops = {"monitor": "exact_match", "early_stopping": 1}
    out = reverse(tmp_path / "early", max_epochs=8, **stops)
    before = content(out)
    last = before["epoch"]
    assert last < 8
    capfd.readouterr()
    reverse(out, max_epochs=9, **stops)
    assert "is finished" in capfd.readouterr().err
    (out / "checkpoints" / "finished").unlink()  # The power failed right before it was written.
    reverse(out, max_epochs=9, **stops)
    assert content(out)["global_step"] == before["global_step"]
    out = reverse(tmp_path / "at the end", max_epochs=last, **stops)  # It stops early in the last epoch.
    reverse(out, max_epochs=8, **stops)
    assert content(out)["global_step"] == before["global_step"]


def test_a_longer_training_that_is_stopped_at_once_goes_on(tmp_path, monkeypatch):
    out = reverse(tmp_path / "run", max_epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(KeepState, "on_train_batch_start", lambda *_: (_ for _ in ()).throw(Stopped(signal.SIGTERM)))
        with pytest.raises(SystemExit):
            reverse(out, max_epochs=2)
    assert not Checkpoints(out / "checkpoints").finished
    with pytest.raises(TrainingError, match="an unfinished training with other settings"):
        reverse(out, max_epochs=2, seed=9)
    reverse(out, max_epochs=2)
    assert_same(content(reverse(tmp_path / "whole", max_epochs=2)), content(out))


@pytest.mark.parametrize(("option", "value"), [("save_every_steps", 2), ("save_every_minutes", 1e-9)])
def test_saves_come_as_often_as_asked_for(option, value, tmp_path, monkeypatch):
    saved = []
    save = KeepState.save
    monkeypatch.setattr(
        KeepState, "save", lambda self, trainer: (saved.append(trainer.global_step), save(self, trainer))
    )
    reverse(tmp_path / "run", **{"max_epochs": 2, "save_every_minutes": None, option: value})
    everywhere = list(range(13))
    assert saved == (everywhere if option == "save_every_minutes" else [0, 2, 4, 5, 6, 8, 10, 11, 12])
