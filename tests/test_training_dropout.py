"""R-Drop against its formula and a training that reads once; late dropout against a training without."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tiny import data_module, fit, model_config, module_of, training_config
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector

from seq2seq.data import Batch
from seq2seq.errors import ConfigError
from seq2seq.training import linear_cross_entropy, loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_the_loss_is_cross_entropy_and_both_divergences(
    smoothing: float, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss, "BLOCK_NUMBERS", block)
    generator = torch.Generator().manual_seed(0)
    features, weight, bias = parts = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in [(14, 5), (7, 5), (7,)]
    ]
    targets = torch.randint(7, (7,), generator=generator).repeat_interleave(2)
    logits = F.linear(features, weight, bias)
    p, q = logits.log_softmax(dim=1).unflatten(0, (7, 2)).unbind(1)
    divergences = sum(F.kl_div(one, other, log_target=True, reduction="sum") for one, other in [(p, q), (q, p)])
    slow = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing) + 5 / 2 * divergences

    fast = linear_cross_entropy(features, weight, bias, targets, smoothing, alpha=5.0)

    torch.testing.assert_close(fast.smoothed, slow)
    torch.testing.assert_close(fast.plain, F.cross_entropy(logits, targets, reduction="sum"))
    torch.testing.assert_close(torch.autograd.grad(fast.smoothed / 3, parts), torch.autograd.grad(slow / 3, parts))


def first_batch(cache: Path) -> Batch:
    """Six words."""
    data = data_module(cache, training_config())
    data.setup("fit")
    batch: Batch = next(iter(data.train_dataloader()))
    return batch


def test_where_nothing_is_dropped_reading_twice_is_reading_once(tmp_path: Path) -> None:
    module = module_of(training_config()).double().eval()
    batch = first_batch(tmp_path)
    weights = list(module.parameters())
    found = []
    for alpha in (0.0, 5.0):
        losses, tokens = module.losses(batch, label_smoothing=0.1, r_drop=alpha)
        found.append((*losses, tokens, *torch.autograd.grad(losses.smoothed, weights)))
    torch.testing.assert_close(found[0], found[1])


def test_the_two_readings_differ_by_dropout(tmp_path: Path) -> None:
    module = module_of(training_config(), model_config(hidden_dropout=0.3)).train()
    batch = first_batch(tmp_path)
    found = []
    for alpha in (1e-9, 1.0, 2.0):
        torch.manual_seed(0)
        found.append(module.losses(batch, label_smoothing=0.1, r_drop=alpha)[0])
    assert found[0].plain == found[1].plain
    divergence = found[1].smoothed - found[0].smoothed
    assert divergence > 0.01
    torch.testing.assert_close(found[2].smoothed - found[1].smoothed, divergence, rtol=1e-3, atol=0)


def test_a_training_with_it_learns(tmp_path: Path) -> None:
    losses = []
    for epochs in (1, 20):
        module = fit(tmp_path, training_config(max_epochs=epochs, r_drop=1.0), model_config(embedding_dropout=0.1))
        losses.append(float(module.trainer.callback_metrics["validation_loss"]))
    assert losses[1] < 0.8 * losses[0]


class Weights(Callback):
    """All weights after every step."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any) -> None:  # noqa: ARG002
        self.seen.append(parameters_to_vector(pl_module.parameters()).detach().clone())


@pytest.mark.parametrize("r_drop", [0.0, 5.0])
def test_before_late_dropout_sets_in_there_is_none(tmp_path: Path, r_drop: float) -> None:
    without, late = Weights(), Weights()
    fit(tmp_path, training_config(), callbacks=[without])
    dropped = model_config(embedding_dropout=0.3, recurrent_dropout=0.3, source_word_dropout=0.3, output_dropout=0.3)
    fit(tmp_path, training_config(dropout_start=2, r_drop=r_drop), dropped, callbacks=[late])
    assert [bool(torch.equal(*pair)) for pair in zip(without.seen, late.seen, strict=True)] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("field", ["r_drop", "dropout_start"])
def test_they_are_refused_without_dropout(field: str) -> None:
    training = training_config(**{field: 5})
    with pytest.raises(ConfigError, match="r_drop and dropout_start need a model with dropout"):
        module_of(training)
    module_of(training, model_config(recurrent_dropout=0.1))


def test_readings_of_other_tokens_are_refused() -> None:
    with pytest.raises(ConfigError, match="two readings of the same tokens, got teacher_forcing='linear'"):
        module_of(training_config(r_drop=5.0, teacher_forcing="linear"), model_config(hidden_dropout=0.1))
