"""The largest batch that fits: found by trying, the same for all processes, and never looked for twice."""

import signal
from pathlib import Path

import pytest
import torch
from reversing import assert_same, content, reverse, rows
from tiny import data_module, model_config, module_of, training_config

from seq2seq import package
from seq2seq.data import Budget
from seq2seq.errors import ConfigError, TrainingError
from seq2seq.resources import Peak
from seq2seq.training import batch_size, train
from seq2seq.training.batch_size import Trial, copies, largest
from seq2seq.training.keeping import KeepState
from seq2seq.training.processes import gather

AUTO = {"batch_tokens": "auto", "batch_sentences": None}


@pytest.mark.parametrize("limit", [10_000, 123_456, 5_000_000])
@pytest.mark.parametrize("raises", [True, False], ids=["out of memory", "over the limit"])
@pytest.mark.parametrize("bend", [0.0, 1e-3])
def test_the_largest_that_fits_is_found_by_few_trials(limit: int, raises: bool, bend: float) -> None:
    """Whether the memory used is a line or bends, and whether too much is measured or fails."""
    tried = []

    def measure(tokens: int) -> int | None:
        tried.append(tokens)
        used = int(2000 + 3 * tokens + bend * tokens**2)
        return None if raises and used > limit else used

    found = largest(measure, limit, smallest=50, ceiling=10**9)
    assert found.tokens in tried, "it was really tried"
    assert found.used <= limit
    more = 1.1 * found.tokens
    assert 2000 + 3 * more + bend * more**2 > limit
    assert len(tried) < 20


def test_no_more_than_the_ceiling_and_no_less_than_the_longest_pair() -> None:
    assert largest(lambda tokens: tokens, 10**9, 50, ceiling=7777).tokens == 7777
    assert largest(lambda tokens: tokens, 10**9, 50, ceiling=50).tokens == 50
    assert largest(lambda tokens: tokens, 60, 50, ceiling=10**9).tokens in range(54, 61)
    assert largest(lambda tokens: tokens, 49, 50, ceiling=10**9).tokens == 0
    assert largest(lambda _: None, 49, 50, ceiling=10**9).tokens == 0


def test_memory_is_seen_while_it_is_in_use_and_afterwards() -> None:
    peak = Peak(torch.device("cpu"))
    before = peak.growth()
    block = torch.ones(50 << 18)  # 50 MiB
    del block
    grown = peak.growth() - before
    assert 40 << 20 < grown < 80 << 20


def test_a_trial_takes_as_much_as_its_batch_is_large(tmp_path: Path) -> None:
    config = training_config(**AUTO)
    data = data_module(tmp_path, config)
    module = module_of(config)
    weights = {name: weight.clone() for name, weight in module.named_parameters()}
    trial = Trial(module, data, torch.device("cpu"))
    used = [trial(tokens) for tokens in (20_000, 100_000)]
    assert used[1] > 2 * used[0] > 0, "five times the tokens"
    assert_same(weights, dict(module.named_parameters()))


def test_room_is_left_for_what_a_trial_does_not_hold() -> None:
    weights = 4 * sum(weight.numel() for weight in module_of(training_config()).parameters())
    for decay, processes, expected in ((None, 1, 0), (0.9, 1, weights), (0.9, 2, 2 * weights)):
        assert copies(module_of(training_config(ema_decay=decay)), processes) == expected


def test_a_trial_that_was_too_large_is_forgotten(tmp_path: Path) -> None:
    config = training_config(**AUTO)
    trial = Trial(module_of(config), data_module(tmp_path, config), torch.device("cpu"))
    small, large, again = (trial(tokens) for tokens in (1000, 200_000, 1000))
    assert again < small + large / 10


@pytest.mark.parametrize("changes", [{"batch_sentences": 5}, {"seed": 3}])
def test_what_training_and_data_say_must_be_the_same(changes, tmp_path: Path) -> None:
    data = data_module(tmp_path / "cache", training_config())
    (name,) = changes
    with pytest.raises(ConfigError, match=rf"{name} must be the same .* got {changes[name]} and \d"):
        train(model_config(), training_config(**changes), data, tmp_path / "out", device="cpu")


def test_a_trial_reads_twice_if_the_training_will(tmp_path: Path) -> None:
    module = module_of(training_config(**AUTO, r_drop=1.0), model_config(hidden_dropout=0.1))
    trial = Trial(module, data_module(tmp_path, module.training_config), torch.device("cpu"))
    sizes = []
    trial.module.model.encoder.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    trial.train(1000)
    once = 1000 // trial.data.train_tokens.lengths.max()
    assert sizes == [2 * once]


def fixed(monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    """A machine that holds so many tokens."""
    monkeypatch.setattr(Trial, "__call__", lambda _, asked: asked if asked <= tokens else None)
    monkeypatch.setattr(batch_size, "FEWEST_STEPS", 1)
    monkeypatch.setattr(batch_size, "FIRST_TRY", 10)


@pytest.mark.slow
def test_a_run_with_the_number_that_was_found_is_the_same_run(tmp_path, capfd) -> None:
    """Looking for it draws no random numbers from those of the training."""
    auto = reverse(tmp_path / "auto", **AUTO, max_epochs=1)
    found = package.load(auto).metadata.training["settings"]["batch_tokens"]
    assert f"batch_tokens is {found}: an epoch then keeps 100 steps; training takes 0." in capfd.readouterr().err
    given = reverse(tmp_path / "given", batch_tokens=found, batch_sentences=None, max_epochs=1)
    assert rows(auto) == rows(given)
    assert_same(content(auto)["state_dict"], content(given)["state_dict"])


def test_a_run_that_goes_on_keeps_the_number_that_was_found(tmp_path, monkeypatch) -> None:
    with monkeypatch.context() as patch:
        fixed(patch, 26)
        whole = reverse(tmp_path / "whole", **AUTO, max_epochs=2)
        start = KeepState.on_train_batch_start

        def on_train_batch_start(self, trainer, module, batch, index):
            if (trainer.current_epoch, index) == (1, 1):
                self.signals.received = signal.SIGTERM
            start(self, trainer, module, batch, index)

        patch.setattr(KeepState, "on_train_batch_start", on_train_batch_start)
        with pytest.raises(SystemExit):
            reverse(tmp_path / "parts", **AUTO, max_epochs=2)
    # Another machine, which would hold more.
    monkeypatch.setattr(Trial, "__init__", lambda *_: pytest.fail("measured again"))
    assert_same(content(whole), content(reverse(tmp_path / "parts", **AUTO, max_epochs=2)))
    assert rows(whole) == rows(tmp_path / "parts")
    assert reverse(tmp_path / "parts", **AUTO, max_epochs=2), "a finished one is recognised"


def test_processes_take_the_smallest_that_one_of_them_found(tmp_path, monkeypatch) -> None:
    fixed(monkeypatch, 40)
    other = batch_size.Found(12, 12, 99)
    monkeypatch.setattr(batch_size, "gather", lambda trainer, found: [*gather(trainer, found), other])
    out = reverse(tmp_path / "run", **AUTO, smoke=True)
    assert package.load(out).metadata.training["settings"]["batch_tokens"] == 12


def test_what_does_not_fit_or_go_together_is_one_line(tmp_path, monkeypatch) -> None:
    config = training_config(**AUTO)
    with pytest.raises(ConfigError, match="is found when a training begins"):
        _ = data_module(tmp_path, config).budget
    with pytest.raises(ConfigError, match="either batch_tokens or batch_sentences"):
        training_config(batch_tokens="auto", batch_sentences=3)
    with pytest.raises(ConfigError, match="batch_tokens must be a number of at least 1, or 'auto', got 'most'"):
        training_config(batch_tokens="most", batch_sentences=None)
    fixed(monkeypatch, 3)
    with pytest.raises(TrainingError, match=r"^a batch of the longest pair alone \(10 tokens\) must fit into"):
        reverse(tmp_path / "run", **AUTO)


def test_the_data_must_be_asked_too(tmp_path) -> None:
    from tiny import model_config

    from seq2seq.training import train

    data = data_module(tmp_path, training_config())
    assert data.budget == Budget(None, 6)
    with pytest.raises(ConfigError, match=r"for the training and for its data, got 'auto' and None"):
        train(model_config(), training_config(**AUTO), data, tmp_path / "run", device="cpu")
