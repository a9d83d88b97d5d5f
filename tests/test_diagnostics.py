"""Gradient flow against a backpropagation written by hand, and the callback against a training it watches."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from configurations import SMALL
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from oracles import backpropagate_through_time
from torch import Tensor, nn
from torch.utils.data import DataLoader

from seq2seq.cells import CELLS, Cell, CellStart, LSTMCell, ReluRNNCell, TanhRNNCell
from seq2seq.config import EOS_ID, FUSED_CELLS, GATELESS_CELLS, PAD_ID, RecurrenceConfig
from seq2seq.data import Batch
from seq2seq.diagnostics import GradientFlow, draw_attention, gate_statistics, gradient_flow, half_life
from seq2seq.errors import ConfigError
from seq2seq.model import Seq2Seq
from seq2seq.recurrence import Recurrence

every_cell = pytest.mark.parametrize("name", CELLS)


def make(name: str, **start: Any) -> Cell:
    torch.manual_seed(0)
    cell = CELLS[name](3, 5, start=CellStart(**start))
    assert isinstance(cell, nn.Module)
    return cell.double()


def pairs(source_lengths: list[int], target_lengths: list[int]) -> Batch:
    """Random pairs of these lengths, `<E>` included."""
    generator = torch.Generator().manual_seed(0)
    sides = []
    for lengths in (source_lengths, target_lengths):
        ids = torch.full((len(lengths), max(lengths)), PAD_ID)
        for row, length in zip(ids, lengths, strict=True):
            row[: length - 1] = torch.randint(4, 11, (length - 1,), generator=generator)
            row[length - 1] = EOS_ID
        sides += [ids, torch.tensor(lengths)]
    return Batch(*sides, torch.arange(len(source_lengths)))


@pytest.mark.parametrize(
    ("kind", "derivative"),
    [(TanhRNNCell, lambda h: 1 - h**2), (ReluRNNCell, lambda h: (h > 0).to(h.dtype))],
    ids=["tanh", "relu"],
)
def test_the_flow_is_that_of_backpropagation_by_hand(kind: Any, derivative: Any) -> None:
    torch.manual_seed(0)
    cell = kind(3, 5, start=CellStart(initialisation="uniform", init_range=0.8)).double()
    inputs = torch.randn(4, 12, 3, dtype=torch.float64)
    expected = []
    for row in inputs:
        h, states = torch.zeros(5, dtype=torch.float64), []
        for x in row:
            z = cell.weight_input @ x + cell.weight_hidden @ h + cell.bias
            h = z.tanh() if kind is TanhRNNCell else z.relu()
            states.append(h.detach())
        # The loss is half the square of the last state, so its gradient there is the state itself.
        gradients = backpropagate_through_time(cell.weight_hidden.detach(), torch.stack(states), states[-1], derivative)
        expected.append(gradients.norm(dim=-1).flip(0))
    (flow,) = gradient_flow(cell, inputs)
    torch.testing.assert_close(flow.hidden, torch.stack(expected).mean(dim=0).float())


@every_cell
def test_jacobians_are_those_of_finite_differences(name: str) -> None:
    cell = make(name, initialisation="uniform", init_range=0.8)
    inputs = torch.randn(1, 4, 3, dtype=torch.float64)
    (flow,) = gradient_flow(cell, inputs)
    assert len(flow.jacobian) == 3
    state = tuple(torch.zeros(1, 5, dtype=torch.float64) for _ in range(cell.state_parts))
    singular = []
    for time in range(4):
        before, projected = torch.cat(state, dim=-1)[0], cell.project(inputs[:, time])
        columns = []
        for unit in range(len(before)):
            shift = torch.zeros_like(before)
            shift[unit] = 1e-6
            ends = [
                torch.cat(cell(projected, tuple((before + side).unsqueeze(0).split(5, dim=-1)))[0], dim=-1)[0]
                for side in (shift, -shift)
            ]
            columns.append((ends[0] - ends[1]) / 2e-6)
        if time:
            singular.append(torch.linalg.svdvals(torch.stack(columns, dim=1))[0])
        state, _ = cell(projected, state)
    torch.testing.assert_close(flow.jacobian, torch.stack(singular[::-1]).float(), atol=1e-5, rtol=1e-4)


def test_jacobians_of_several_rows_are_those_of_each_by_distance() -> None:
    torch.manual_seed(0)
    model = Seq2Seq(SMALL).double()
    batch = pairs([5, 3, 4], [2, 6, 4])
    together = gradient_flow(model, batch, jacobian_rows=3)
    alone = [
        gradient_flow(
            model,
            Batch(
                batch.source[[row], : batch.source_lengths[row]],
                batch.source_lengths[[row]],
                batch.target[[row], : batch.target_lengths[row]],
                batch.target_lengths[[row]],
                torch.tensor([row]),
            ),
        )
        for row in range(3)
    ]
    for ours, *each in zip(together, *alone, strict=True):
        means = [
            torch.stack([one.jacobian[distance] for one in each if distance < len(one.jacobian)]).mean()
            for distance in range(max(len(one.jacobian) for one in each))
        ]
        torch.testing.assert_close(ours.jacobian, torch.stack(means))


def test_the_flow_through_frozen_parts_is_measured_too() -> None:
    torch.manual_seed(0)
    model, batch = Seq2Seq(SMALL), pairs([5, 3], [2, 6])
    free = gradient_flow(model, batch)
    model.encoder.requires_grad_(False)
    for ours, theirs in zip(gradient_flow(model, batch), free, strict=True):
        torch.testing.assert_close(ours.hidden, theirs.hidden)
    assert not any(weight.requires_grad for weight in model.encoder.parameters())
    assert all(weight.requires_grad for name, weight in model.named_parameters() if not name.startswith("encoder."))


def test_a_plain_networks_gradient_stays_under_its_bound() -> None:
    for name in ("rnn_tanh", "rnn_relu", "linear"):
        cell = make(name, initialisation="uniform", init_range=0.5)
        (flow,) = gradient_flow(cell, torch.randn(6, 30, 3, dtype=torch.float64))
        assert flow.bound is not None
        assert (flow.hidden / flow.hidden[0] <= flow.bound * 1.0001).all()
        if name != "linear":
            gamma = torch.linalg.svdvals(dict(cell.named_parameters())["weight_hidden"])[0].item()  # type: ignore[attr-defined]
            assert flow.bound[3].item() == pytest.approx(gamma**3, rel=1e-5)
            # The steps themselves obey it too.
            assert (flow.jacobian <= gamma * 1.0001).all()
    assert gradient_flow(make("lstm"), torch.randn(1, 3, 3, dtype=torch.float64))[0].bound is None
    # From an upper layer, or through attention, gradient comes to the middle of a row.
    stack = Recurrence(3, 5, 2, config=RecurrenceConfig(cell="rnn_tanh"))
    model = Seq2Seq(SMALL.model_copy(update={"cell": "rnn_tanh"}))
    flows = [*gradient_flow(stack, torch.randn(2, 9, 3)), *gradient_flow(model, pairs([5, 3], [2, 6]))]
    assert all(flow.bound is None for flow in flows)
    (alone,) = gradient_flow(Recurrence(3, 5, config=RecurrenceConfig(cell="rnn_tanh")), torch.randn(2, 9, 3))
    assert alone.bound is not None


def test_looking_leaves_every_part_in_its_mode() -> None:
    model = Seq2Seq(SMALL).train()
    model.encoder.eval()
    gate_statistics(model, pairs([5, 3], [2, 6]))
    assert (model.training, model.encoder.training, model.decoder.training) == (True, False, True)
    assert not any(part.training for part in model.encoder.modules())


def test_what_cannot_be_looked_at_is_said() -> None:
    with torch.inference_mode(), pytest.raises(ConfigError, match=r"got torch.inference_mode; leave it first"):
        gradient_flow(Seq2Seq(SMALL), pairs([5, 3], [2, 6]))
    with pytest.raises(ConfigError, match="every must be at least 1, got 0"):
        GradientFlow(every=0)
    with pytest.raises(ConfigError, match="rows must be at least 1, got 0"):
        GradientFlow(rows=0)


def test_the_carousel_keeps_all_of_the_gradient() -> None:
    (flow,) = gradient_flow(make("linear"), torch.randn(2, 40, 3, dtype=torch.float64))
    torch.testing.assert_close(flow.hidden, flow.hidden[:1].expand(40))
    torch.testing.assert_close(flow.jacobian, torch.ones(39))
    assert flow.half_life == math.inf


def test_an_lstm_remembers_longer_with_a_larger_forget_bias() -> None:
    lives = []
    for bias in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        cell = LSTMCell(3, 32, start=CellStart(forget_bias=bias))
        (flow,) = gradient_flow(cell, torch.randn(8, 100, 3), jacobian_rows=0)
        assert flow.memory is not None
        assert len(flow.jacobian) == 0
        lives.append(flow.half_life)
    assert lives[0] < lives[1] < lives[2]


def test_half_lives() -> None:
    assert half_life(0.9 ** torch.arange(30)) == pytest.approx(math.log(0.5) / math.log(0.9), rel=1e-5)
    assert half_life(torch.ones(9)) == math.inf
    assert half_life(torch.tensor([1.0, 0.0])) == 1.0
    assert math.isnan(half_life(torch.zeros(5)))
    assert math.isnan(half_life(torch.tensor([1.0, math.nan, 0.1])))


@every_cell
def test_a_model_has_a_flow_for_every_layer_and_its_rows_do_not_mix(name: str) -> None:
    config = SMALL.model_copy(update={"cell": name, "encoder_layers": 2, "hidden_dropout": 0.5})
    torch.manual_seed(0)
    model = Seq2Seq(config).double()
    together = gradient_flow(model, pairs([5, 3, 7], [4, 6, 2]))
    assert [flow.layer for flow in together] == [
        "encoder layer 1 forward",
        "encoder layer 1 backward",
        "encoder layer 2 forward",
        "encoder layer 2 backward",
        "decoder layer 1",
        "decoder layer 2",
    ]
    for number, flow in enumerate(together):
        distances = 7 if number < 4 else 6
        assert len(flow.hidden) == distances
        assert len(flow.jacobian) == (6 if number < 4 else 3)
        assert (flow.memory is not None) == (CELLS[name].state_parts == 2)
        assert flow.hidden.isfinite().all()
    alone = [gradient_flow(model, batch) for batch in singles(pairs([5, 3, 7], [4, 6, 2]))]
    for number, flow in enumerate(together):
        lengths = [5, 3, 7] if number < 4 else [4, 6, 2]
        for distance in range(max(lengths)):
            own = [
                one[number].hidden[distance] for one, length in zip(alone, lengths, strict=True) if distance < length
            ]
            torch.testing.assert_close(flow.hidden[distance], torch.stack(own).mean())
    # The model is left as it was: in training, fused, and without gradients.
    assert model.training
    assert model.encoder.recurrence.layers[0].fused == (name in FUSED_CELLS)
    assert all(weight.grad is None for weight in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def singles(batch: Batch) -> list[Batch]:
    """Every pair in a batch of its own, without padding."""
    return [
        Batch(
            batch.source[row : row + 1, : batch.source_lengths[row]],
            batch.source_lengths[row : row + 1],
            batch.target[row : row + 1, : batch.target_lengths[row]],
            batch.target_lengths[row : row + 1],
            batch.indices[row : row + 1],
        )
        for row in range(len(batch.source))
    ]


def test_input_feeding_and_stacks_are_followed_too() -> None:
    model = Seq2Seq(SMALL.model_copy(update={"input_feeding": True, "bidirectional": False}))
    names = [flow.layer for flow in gradient_flow(model, pairs([3, 4], [5, 2]))]
    assert names == ["encoder layer 1", "encoder layer 2", "decoder layer 1", "decoder layer 2"]
    stack = Recurrence(3, 5, 2, bidirectional=True, config=RecurrenceConfig(cell="gru"))
    flows = gradient_flow(stack, torch.randn(2, 6, 3))
    assert [flow.layer for flow in flows][1] == "layer 1 backward"


@every_cell
def test_gates_are_counted(name: str) -> None:
    torch.manual_seed(0)
    model = Seq2Seq(SMALL.model_copy(update={"cell": name}))
    statistics = gate_statistics(model, pairs([5, 3], [4, 6]))
    if name in GATELESS_CELLS:
        assert statistics == []
        return
    layers = {one.layer for one in statistics}
    assert len(layers) == 6
    for one in statistics:
        rows = [2, 2, 2, 1, 1] if one.layer.startswith("encoder") else [2, 2, 2, 2, 1, 1]
        assert one.rows.tolist() == rows
        assert ((one.mean > 0) & (one.mean < 1)).all()
        assert 0 <= one.saturation <= 1


def test_gates_that_are_stuck_are_seen() -> None:
    cell = LSTMCell(3, 4)
    with torch.no_grad():
        assert cell.bias is not None
        cell.bias[:] = torch.tensor([-9.0, 9.0, 0.0, 0.0]).repeat_interleave(4)
    inputs = torch.zeros(2, 6, 3)
    found = {one.gate: one for one in gate_statistics(cell, inputs)}
    assert (found["input"].closed == 1).all()
    assert (found["forget"].open == 1).all()
    assert found["forget"].saturation == 1.0
    assert found["output"].saturation == 0.0
    assert found["output"].overall_mean == pytest.approx(0.5, abs=0.01)


class Watched(LightningModule):
    """A model trained by plain SGD on pairs, clipped by Lightning."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = Seq2Seq(SMALL)
        self.scale = 1.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:  # noqa: ARG002  # Lightning's signature
        logits = self.model(batch.source, batch.source_lengths, batch.target)
        return self.scale * nn.functional.cross_entropy(logits.flatten(0, 1), batch.target.flatten())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Rows(CSVLogger):
    """Keeps what is logged."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.found: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.found.append({**metrics, "step": step or 0})


def watch(callback: GradientFlow, tmp_path: Path, scale: float = 1.0, **trainer: Any) -> list[dict[str, float]]:
    module, rows = Watched(), Rows(tmp_path)
    module.scale = scale
    Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=4,
        callbacks=[callback],
        logger=rows,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    ).fit(module, DataLoader([pairs([3, 4], [5, 2])] * 8, batch_size=None))
    return rows.found


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")
def test_the_callback_shows_what_clipping_does(tmp_path: Path) -> None:
    by_norm = watch(GradientFlow(every=2), tmp_path, gradient_clip_val=0.05, gradient_clip_algorithm="norm")
    assert [figures["step"] for figures in by_norm] == [1, 3]
    for figures in by_norm:
        assert figures["gradient_norm_after/all"] == pytest.approx(0.05, rel=1e-4)
        assert figures["gradient_norm_before/all"] > 0.05
        assert figures["clipping/cosine"] == pytest.approx(1.0, abs=1e-5)
        assert figures["clipping/length"] == pytest.approx(0.05 / figures["gradient_norm_before/all"], rel=1e-3)
        assert figures["clipping/share"] == 1.0
        assert figures["gradient_not_finite"] == 0.0
        squares = sum(
            figure**2
            for key, figure in figures.items()
            if key.startswith("gradient_norm_before/") and not key.endswith("/all")
        )
        assert math.sqrt(squares) == pytest.approx(figures["gradient_norm_before/all"], rel=1e-4)
        assert 0 <= figures["gate_saturation/decoder layer 1 forget"] <= 1
    by_value = watch(GradientFlow(every=4), tmp_path, gradient_clip_val=0.001, gradient_clip_algorithm="value")
    assert len(by_value) == 1
    assert by_value[0]["clipping/cosine"] < 0.99
    free = watch(GradientFlow(every=2), tmp_path)
    assert [figures["clipping/share"] for figures in free] == [0.0, 0.0]
    assert [figures["clipping/length"] for figures in free] == pytest.approx([1.0, 1.0])
    accumulated = watch(GradientFlow(every=2), tmp_path, accumulate_grad_batches=2)
    assert len(accumulated) == 2


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval.*")
def test_the_callback_names_the_first_parameter_that_is_not_finite(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"NaN or infinity in \d+ parameters, first in encoder.embedding.weight"):
        found = watch(GradientFlow(every=1), tmp_path, scale=math.inf)
    assert found[0]["gradient_not_finite"] > 0


def test_attention_is_drawn_with_its_tokens(tmp_path: Path) -> None:
    weights, source, target = [[0.7, 0.2, 0.1], [0.0, 0.1, 0.9]], ["▁a", "$b$"], ["▁c"]
    draw_attention(weights, source, target, tmp_path / "a.svg")
    drawn = (tmp_path / "a.svg").read_text()
    assert [text for text in re.findall("<!-- (.*) -->", drawn) if text not in ("source", "translation")] == [
        "▁a",
        "$b$",
        "&lt;E&gt;",
        "▁c",
        "&lt;E&gt;",
    ]
    draw_attention(weights, source, target, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for wrong, message in (
        ((None, None, [], "a.png"), "there is no attention to draw, got None; generate with attention=True"),
        ((weights, source, [], "a.png"), "must be 1 rows of 3 weights, .* got 2 of 3; give those of one translation"),
        ((weights, source[1:], target, "a.png"), "must be 2 rows of 2 weights"),
        ((weights, source, target, "a"), "is no kind of picture"),
        ((weights, source, target, "nowhere/a.png"), "nowhere/a.png: cannot be written"),
    ):
        with pytest.raises(ConfigError, match=message):
            draw_attention(*wrong[:3], tmp_path / wrong[3])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "a.svg"]
