"""The loss against its slow twin, the schedules against their formulas, and a run against itself."""

import math
from pathlib import Path

import pytest
import torch
from reversing import reverse
from tiny import fit, model_config, module_of, training_config
from torch.nn import functional as F

from seq2seq.config import TrainingConfig
from seq2seq.errors import ConfigError
from seq2seq.training import (
    TranslationModule,
    build_optimizer,
    build_schedulers,
    linear_cross_entropy,
    loss,
    rate_factor,
)
from seq2seq.training.schedules import unreached


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_blockwise_loss_is_cross_entropy(smoothing: float, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "BLOCK_NUMBERS", block)
    generator = torch.Generator().manual_seed(0)
    shapes = [(13, 5), (7, 5), (7,)]
    features, weight, bias = (
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes
    )
    targets = torch.randint(7, (13,), generator=generator)
    logits = F.linear(features, weight, bias)
    slow = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    fast = linear_cross_entropy(features, weight, bias, targets, smoothing)
    torch.testing.assert_close(fast.smoothed, slow)
    torch.testing.assert_close(fast.plain, F.cross_entropy(logits, targets, reduction="sum"))
    parts = (features, weight, bias)
    for given, expected in zip(
        torch.autograd.grad(fast.smoothed / 3, parts), torch.autograd.grad(slow / 3, parts), strict=True
    ):
        torch.testing.assert_close(given, expected)


def test_no_gradient_is_computed_where_none_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    products = []
    monkeypatch.setattr(loss, "add_product", lambda *factors: products.append(factors))
    features, weight, bias = (torch.ones(shape, requires_grad=True) for shape in [(3, 5), (7, 5), (7,)])
    for mode, count in ((torch.enable_grad, 3), (torch.no_grad, 1), (torch.inference_mode, 1)):
        products.clear()
        with mode():
            linear_cross_entropy(features, weight, bias, torch.tensor([1, 2, 3]))
        assert len(products) == count


@pytest.mark.parametrize("learn", [(True, False, False), (False, True, True), (True, False, True)])
def test_the_loss_of_a_frozen_output_layer(learn: tuple[bool, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts that learn get their gradients, and for the others no product is made."""
    products, add_product = [], loss.add_product
    monkeypatch.setattr(loss, "add_product", lambda *factors: products.append(add_product(*factors)))
    torch.manual_seed(0)
    shapes = [(3, 5), (7, 5), (7,)]
    parts = [torch.randn(shape, requires_grad=needed) for shape, needed in zip(shapes, learn, strict=True)]
    learning, targets = [part for part in parts if part.requires_grad], torch.tensor([1, 2, 3])
    found = torch.autograd.grad(linear_cross_entropy(*parts, targets).smoothed, learning)
    slow = torch.autograd.grad(F.cross_entropy(F.linear(*parts), targets, reduction="sum"), learning)
    torch.testing.assert_close(found, slow)
    assert len(products) == 1 + sum(learn[:2])


def rates(config: TrainingConfig, steps: int) -> list[float]:
    """The learning rate at each step."""
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], config)
    (entry,) = build_schedulers(optimizer, config, steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        entry["scheduler"].step()
    return found


def test_schedules_follow_their_formulas() -> None:
    constant = rates(TrainingConfig(learning_rate=2.0, warmup_steps=4), 8)
    assert constant == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0])
    root = rates(TrainingConfig(learning_rate=2.0, warmup_steps=4, schedule="inverse_sqrt"), 16)
    assert root[3] == pytest.approx(2.0)
    assert root[15] == pytest.approx(1.0)
    cosine = rates(TrainingConfig(learning_rate=2.0, schedule="cosine", min_learning_rate=1.0), 9)
    assert cosine == pytest.approx([1.5 + 0.5 * math.cos(math.pi * step / 9) for step in range(9)])
    warm = rates(TrainingConfig(learning_rate=2.0, schedule="cosine", warmup_steps=2), 6)
    assert warm == pytest.approx([1.0, 2.0, *(1 + math.cos(math.pi * step / 4) for step in range(4))])
    assert rate_factor(TrainingConfig(schedule="cosine"), 10)(10) == pytest.approx(0.0)


def test_the_rate_is_halved_by_epochs_or_steps() -> None:
    epochs = {"schedule": "halving", "learning_rate": 4.0, "max_epochs": 4, "halving_start": 1.5, "halving_interval": 1}
    halved = [4.0] * 11 + [2.0] * 7
    assert rates(TrainingConfig(**epochs), 28) == pytest.approx([*halved, *[1.0] * 7, *[0.5] * 3])
    assert rates(TrainingConfig(**epochs, min_learning_rate=1.5), 28) == pytest.approx([*halved, *[1.5] * 10])
    steps = {"schedule": "halving", "learning_rate": 4.0, "halving_unit": "steps", "halving_start": 3}
    assert rates(TrainingConfig(**steps, halving_interval=2), 9) == pytest.approx([4, 4, 4, 2, 2, 1, 1, 0.5, 0.5])
    assert rates(TrainingConfig(**steps, halving_interval=1, warmup_steps=2), 5) == pytest.approx([2, 4, 4, 2, 1])


def test_accumulated_batches_are_one_batch(tmp_path: Path) -> None:
    """The words are of many lengths: a mean of the batches' means would not be the mean over all tokens."""
    whole = fit(tmp_path, training_config(batch_sentences=12, max_epochs=3, optimizer="sgd", label_smoothing=0.1))
    parts = fit(
        tmp_path,
        training_config(batch_sentences=4, accumulate=3, max_epochs=3, optimizer="sgd", label_smoothing=0.1),
    )
    assert parts.global_step == whole.global_step == 3
    for (name, one), other in zip(whole.named_parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6, msg=name)


def test_a_plateau_lowers_the_rate_that_the_warm_up_reached() -> None:
    config = TrainingConfig(
        learning_rate=1.0, warmup_steps=4, schedule="plateau", plateau_patience=0, min_learning_rate=0.4
    )
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], config)
    warmup, plateau = (entry["scheduler"] for entry in build_schedulers(optimizer, config, 100))
    seen = []
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        warmup.step()
    assert seen == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    for score, expected in [(20.0, 1.0), (21.0, 1.0), (21.0, 0.5), (22.0, 0.5), (1.0, 0.4), (0.0, 0.4)]:
        plateau.step(score)
        warmup.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_what_a_short_training_never_comes_to_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = TrainingConfig(warmup_steps=30, dropout_start=784)
    assert len(unreached(config, 30)) == 2
    assert unreached(config, 784) == ["dropout_start=784 is not reached in 784 steps: this training has no dropout"]
    assert unreached(config, 785) == []
    halving = TrainingConfig(schedule="halving", max_epochs=5)
    (told,) = unreached(halving, 500)
    assert "halving_start=5.0 epochs is not reached in 500 steps" in told
    assert unreached(halving.model_copy(update={"max_epochs": 6}), 600) == []
    reverse(tmp_path / "run", max_epochs=1, dropout_start=6)
    assert capfd.readouterr().err.count("warning: dropout_start=6 is not reached in 6 steps") == 1
    reverse(tmp_path / "other", max_epochs=1, dropout_start=5)
    assert "warning" not in capfd.readouterr().err


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimisers_learn_with_fused_kernels(name: str) -> None:
    rate, decay, (first, second) = 0.1, 0.3, (0.5, 0.75)
    settings = {"learning_rate": rate, "weight_decay": decay, "betas": (first, second)}
    if name == "sgd":
        settings.pop("betas")
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    expected, mean, square = weight.detach().clone(), torch.zeros(3), torch.zeros(3)
    optimizer = build_optimizer([weight], TrainingConfig(optimizer=name, **settings))
    assert optimizer.defaults["fused"]
    for step in range(1, 4):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()
        gradient = 2 * expected
        if name == "adamw":
            expected = expected * (1 - rate * decay)
        else:
            gradient = gradient + decay * expected
        mean, square = first * mean + (1 - first) * gradient, second * square + (1 - second) * gradient**2
        adam = mean / (1 - first**step) / ((square / (1 - second**step)).sqrt() + 1e-8)
        expected = expected - rate * (gradient if name == "sgd" else adam)
        torch.testing.assert_close(weight.detach(), expected)


@pytest.mark.parametrize("clipped", ["clip_norm", "clip_value"])
def test_a_clipped_gradient_is_what_changes_the_weights(clipped: str, tmp_path: Path) -> None:
    """Two steps of gradient descent at a rate of 1 move by the gradient itself."""
    none = {"clip_norm": None} if clipped == "clip_value" else {}
    config = training_config(optimizer="sgd", learning_rate=1.0, max_epochs=1, **{**none, clipped: 1e-3})
    start = dict(module_of(config).named_parameters())
    change = torch.cat([(weight - start[key]).flatten() for key, weight in fit(tmp_path, config).named_parameters()])
    size = change.norm() if clipped == "clip_norm" else change.abs().max()
    assert 1.5e-3 < size < 2.001e-3


def test_a_step_learns_from_what_the_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, asked = TranslationModule.losses, []

    def watched(self: TranslationModule, batch: object, *settings: float, **named: float) -> object:
        asked.append(settings or named)
        return losses(self, batch, *settings, **named)

    monkeypatch.setattr(TranslationModule, "losses", watched)
    config = training_config(label_smoothing=0.2, r_drop=3.0, dropout_start=1, max_epochs=1)
    fit(tmp_path, config, model_config(embedding_dropout=0.1))
    assert asked[:2] == [(0.2, 1.0, 0.0), (0.2, 1.0, 3.0)]
    assert all(one == {"label_smoothing": 0.0} for one in asked[2:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_sentences": 8}, "either batch_tokens or batch_sentences"),
        ({"batch_tokens": None}, "either batch_tokens or batch_sentences"),
        ({"schedule": "inverse_sqrt"}, "needs warmup_steps"),
        ({"clip_value": 1.0}, "by norm or by value"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"schedule": "cosine", "min_learning_rate": 1.0}, "at most learning_rate"),
        ({"min_learning_rate": 1e-5}, "min_learning_rate does something only with schedule"),
        ({"optimizer": "sgd", "betas": (0.9, 0.999)}, "betas does something only with optimizer 'adam' or"),
        ({"plateau_patience": 3}, "only with schedule='plateau'"),
        ({"schedule": "cosine", "halving_unit": "steps"}, "only with schedule='halving'"),
        ({"teacher_forcing_floor": 0.5}, "only with a teacher_forcing other than 'always'"),
        ({"sampled_inputs": "loop"}, "only with a teacher_forcing other than 'always'"),
        ({"average_of": "last"}, "only with average_models"),
        (
            {"schedule": "halving", "halving_interval": 1e-320},
            "halving_interval must be greater than or equal to 0.000001",
        ),
        ({"warmup_steps": 10**400}, "warmup_steps must be less than 2147483648"),
        ({"schedule": "plateau", "early_stopping": 2}, "got early_stopping=2 and plateau_patience=1; use .*=3 or more"),
    ],
)
def test_a_training_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**change)
