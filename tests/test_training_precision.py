"""bfloat16 reaches the recurrent products; weights, optimiser and loss stay in float32."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from tiny import fit, model_config, training_config
from torch import Tensor

from seq2seq.cells import CELLS
from seq2seq.config import RecurrenceConfig
from seq2seq.model import Seq2Seq
from seq2seq.recurrence import Recurrence, time
from seq2seq.training import linear_cross_entropy
from seq2seq.training.engine import build_trainer, choose_engine

FUSED = sorted(kind.__name__ for kind in time.KERNELS)


def dtypes(values: Any) -> set[torch.dtype]:
    """Of all tensors of floats in nested tuples and lists."""
    if isinstance(values, Tensor):
        return {values.dtype} if values.is_floating_point() else set()
    return set().union(*map(dtypes, values)) if isinstance(values, tuple | list) else set()


class Watcher(Callback):
    """The precisions of weights, gradients and the optimiser's state."""

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:  # noqa: ARG002  # Lightning's
        self.weights = dtypes(list(pl_module.parameters()))
        self.gradients = dtypes([weight.grad for weight in pl_module.parameters()])
        self.moments = dtypes([list(state.values()) for state in optimizer.state.values()])


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_kernels_run_in_the_precision_asked_for(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[torch.dtype]] = []
    (lstm,) = (kind for kind in time.KERNELS if kind.__name__ == "LSTMCell")
    kernel = time.KERNELS[lstm]

    def watched(*arguments: Any) -> Any:
        found = kernel(*arguments)
        seen.extend([dtypes(arguments), dtypes(found)])
        return found

    monkeypatch.setitem(time.KERNELS, lstm, watched)
    watcher = Watcher()
    fit(tmp_path, training_config(precision=precision), callbacks=[watcher], precision=lightning_name(precision))
    assert seen
    assert set().union(*seen) == {getattr(torch, precision)}
    assert watcher.weights == watcher.gradients == watcher.moments == {torch.float32}


def lightning_name(precision: str) -> str:
    """What the trainer of a whole training is given."""
    config = training_config(precision=precision)
    return build_trainer(choose_engine("cpu", 1, 1), config, [], [], smoke=False).precision


def test_a_training_is_as_precise_as_it_is_asked_to_be() -> None:
    assert [lightning_name(precision) for precision in ("float32", "bfloat16")] == ["32-true", "bf16-mixed"]


def test_training_in_bfloat16_is_nearly_that_in_float32(tmp_path: Path) -> None:
    """And validation too, which searches step by step."""
    losses = []
    for precision in ("float32", "bfloat16"):
        config = training_config(precision=precision, max_epochs=8)
        module = fit(tmp_path, config, precision=lightning_name(precision))
        losses.append(float(module.trainer.callback_metrics["validation_loss"]))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


@pytest.mark.parametrize("feeding", [False, True])
def test_a_model_runs_forwards_and_backwards_in_bfloat16(feeding: bool) -> None:
    torch.manual_seed(0)
    model = Seq2Seq(model_config(input_feeding=feeding, hidden_dropout=0.1))
    source, target = torch.tensor([[5, 6, 7, 3], [6, 3, 0, 0]]), torch.tensor([[7, 6, 3], [5, 3, 0]])
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(source, torch.tensor([4, 2]), target)
    assert logits.dtype == torch.bfloat16
    logits.float().logsumexp(-1).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("fused", [True, False])
def test_every_cell_runs_in_bfloat16(cell: str, fused: bool) -> None:
    torch.manual_seed(0)
    recurrence = Recurrence(4, 6, 2, bidirectional=True, config=RecurrenceConfig(cell=cell, fused=fused))
    inputs, lengths = torch.randn(3, 5, 4), torch.tensor([5, 2, 3])
    precise, state = recurrence.forward_lengths(inputs, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        found, found_state = recurrence.forward_lengths(inputs, lengths)
    torch.testing.assert_close(found.float(), precise, atol=0.05, rtol=0.05)
    for part, expected in zip(found_state[-1], state[-1], strict=True):
        torch.testing.assert_close(part.float(), expected, atol=0.05, rtol=0.05)
    found.float().square().sum().backward()
    assert dtypes([weight.grad for weight in recurrence.parameters()]) == {torch.float32}


@pytest.mark.parametrize("cell", sorted(CELLS))
@pytest.mark.parametrize("place", ["hidden", "update"])
def test_every_cell_drops_units_in_bfloat16(cell: str, place: str) -> None:
    torch.manual_seed(0)
    if (cell, place) in (("linear", "hidden"), ("rnn_relu", "update"), ("rnn_tanh", "update")):
        pytest.skip("the cell has nothing there")
    config = RecurrenceConfig(cell=cell, recurrent_dropout=0.3, recurrent_dropout_on=place)
    recurrence = Recurrence(4, 6, 2, config=config).train()
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = recurrence.forward_lengths(torch.randn(3, 5, 4), torch.tensor([5, 2, 3]))
    assert found.isfinite().all()
    found.float().square().sum().backward()
    assert dtypes([weight.grad for weight in recurrence.parameters()]) == {torch.float32}


@pytest.mark.parametrize("block", [1 << 21, 30])
def test_the_loss_in_bfloat16_sums_in_float32(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seq2seq.training.loss.BLOCK_NUMBERS", block)
    torch.manual_seed(0)
    features, weight, bias = (torch.randn(size, requires_grad=True) for size in ((300, 8), (10, 8), (10,)))
    targets = torch.randint(10, (300,))
    precise = linear_cross_entropy(features, weight, bias, targets, 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        low = linear_cross_entropy(features.bfloat16(), weight, bias, targets, 0.1)
    assert low.smoothed.dtype == low.plain.dtype == torch.float32
    torch.testing.assert_close(low.plain, precise.plain, rtol=2e-3, atol=0)
    expected = torch.autograd.grad(precise.smoothed, (features, weight, bias))
    found = torch.autograd.grad(low.smoothed, (features, weight, bias))
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < 0.02 * other.norm()
