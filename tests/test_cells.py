"""Laws of the cells, of each alone and of all of them over time."""

import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from seq2seq.cells import (
    CELLS,
    Cell,
    CellStart,
    CoupledLSTMCell,
    GRUCell,
    LayerNormLSTMCell,
    LinearCell,
    LSTMCell,
    MinimalGRUCell,
    PeepholeLSTMCell,
    ResetBeforeGRUCell,
    StepMasks,
    TanhRNNCell,
)
from seq2seq.config import FUSED_CELLS, GATELESS_CELLS, RecurrenceConfig
from seq2seq.errors import ConfigError
from seq2seq.recurrence import Recurrence, drop
from seq2seq.recurrence.time import KERNELS, unroll

every_cell = pytest.mark.parametrize("name", CELLS)
INPUT, HIDDEN, ROWS = 3, 4, 2


def make(name: str, bias: bool = True, seed: int = 0) -> Cell:
    """A cell in float64 of which no parameter is 0 or 1."""
    torch.manual_seed(seed)
    cell = CELLS[name](INPUT, HIDDEN, bias, CellStart(initialisation="uniform", init_range=0.8))
    assert isinstance(cell, nn.Module)
    for weight in cell.parameters():
        nn.init.uniform_(weight, -0.8, 0.8)
    return cell.double()


def random_state(cell: Cell) -> tuple[Tensor, ...]:
    return tuple(torch.randn(ROWS, HIDDEN, dtype=torch.float64) for _ in range(cell.state_parts))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_finite_differences(name: str, bias: bool) -> None:
    cell = make(name, bias)
    assert isinstance(cell, nn.Module)
    inputs = torch.randn(ROWS, INPUT, dtype=torch.float64)
    weights = list(cell.parameters())

    def two_steps(*values: Tensor) -> tuple[Tensor, ...]:
        """Two steps, as a function of the inputs, the state and the parameters."""
        named = dict(zip((key for key, _ in cell.named_parameters()), values[-len(weights) :], strict=True))
        state = tuple(values[1 : 1 + cell.state_parts])
        for _ in range(2):
            projected = torch.func.functional_call(Projecting(cell), prefixed(named), (values[0],))
            state = torch.func.functional_call(Stepping(cell), prefixed(named), (projected, state))
        return state

    values = [inputs, *random_state(cell), *(weight.detach() for weight in weights)]
    # A rectified unit has no derivative at 0; with these numbers none is near it.
    assert torch.autograd.gradcheck(two_steps, [value.requires_grad_() for value in values])


class Projecting(nn.Module):
    """`project` as a module's call, so that its parameters can be given from outside."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: Tensor) -> Tensor:
        return self.cell.project(inputs)


class Stepping(Projecting):
    """The same for `step`."""

    def forward(self, projected: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return self.cell(projected, state)[0]


def prefixed(named: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"cell.{key}": value for key, value in named.items()}


def test_a_single_step_has_one_direction() -> None:
    stack = Recurrence(INPUT, HIDDEN, bidirectional=True)
    inputs = torch.zeros(ROWS, INPUT)
    with pytest.raises(ConfigError, match="one direction, got bidirectional=True; use bidirectional=False"):
        stack.step(inputs, stack.zero_state(inputs))


@every_cell
def test_shares_of_the_input_products_add_up(name: str) -> None:
    cell = make(name)
    inputs = torch.randn(ROWS, INPUT, dtype=torch.float64)
    whole = cell.project(inputs)
    torch.testing.assert_close(cell.project(inputs[:, :2]) + cell.project(inputs[:, 2:], first_feature=2), whole)


@every_cell
def test_gates_are_between_zero_and_one_and_start_where_asked(name: str) -> None:
    for bias in (0.0, 1.0, 2.0):
        cell = CELLS[name](INPUT, HIDDEN, start=CellStart(forget_bias=bias))
        zeros = tuple(torch.zeros(1, HIDDEN) for _ in range(cell.state_parts))
        _, gates = cell(cell.project(torch.zeros(1, INPUT)), zeros)
        assert bool(gates) == (name not in GATELESS_CELLS)
        # What of the memory is kept: the forget gate of an LSTM, the update gate of a GRU; a minimal GRU's only gate
        # says what is overwritten.
        for key, gate in gates.items():
            kept = {"forget": sigmoid(-bias if name == "gru_minimal" else bias), "update": sigmoid(bias)}
            if name == "lstm_coupled":
                kept["input"] = sigmoid(-bias)
            torch.testing.assert_close(gate, torch.full_like(gate, kept.get(key, 0.5)))
    cell = make(name)
    _, gates = cell(cell.project(torch.randn(ROWS, INPUT, dtype=torch.float64) * 9), random_state(cell))
    assert all(((gate >= 0) & (gate <= 1)).all() for gate in gates.values())


def test_an_lstm_is_its_equations() -> None:
    cell = make("lstm")
    assert isinstance(cell, LSTMCell)
    assert cell.bias is not None
    x, (h, c) = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(cell)
    gates = x @ cell.weight_input.T + h @ cell.weight_hidden.T + cell.bias
    i, f, g, o = (gates[:, start : start + HIDDEN] for start in range(0, 4 * HIDDEN, HIDDEN))
    memory = 1 / (1 + (-f).exp()) * c + 1 / (1 + (-i).exp()) * g.tanh()
    (hidden, kept), _ = cell(cell.project(x), (h, c))
    torch.testing.assert_close(kept, memory)
    torch.testing.assert_close(hidden, 1 / (1 + (-o).exp()) * memory.tanh())


def test_without_peepholes_it_is_an_lstm_and_with_them_it_is_not() -> None:
    plain, peeping = make("lstm"), make("lstm_peephole")
    assert isinstance(plain, LSTMCell)
    assert isinstance(peeping, PeepholeLSTMCell)
    x, state = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(plain)
    peepholes = ("peephole_input", "peephole_forget", "peephole_output")
    for open_one in (None, *peepholes):
        weights = {key: torch.zeros(HIDDEN) for key in peepholes} | plain.state_dict()
        if open_one:
            weights[open_one] = torch.full((HIDDEN,), 0.5)
        peeping.load_state_dict(weights)
        expected, _ = plain(plain.project(x), state)
        given, _ = peeping(peeping.project(x), state)
        assert torch.allclose(given[0], expected[0]) == (open_one is None), open_one


def test_the_output_peephole_sees_the_new_memory() -> None:
    cell = make("lstm_peephole")
    assert isinstance(cell, PeepholeLSTMCell)
    nn.init.zeros_(cell.weight_input)
    nn.init.zeros_(cell.weight_hidden)
    assert cell.bias is not None
    nn.init.zeros_(cell.bias)
    x, state = torch.zeros(ROWS, INPUT, dtype=torch.float64), random_state(cell)
    (_, memory), gates = cell(cell.project(x), state)
    torch.testing.assert_close(gates["output"], (cell.peephole_output * memory).sigmoid())
    torch.testing.assert_close(gates["input"], (cell.peephole_input * state[1]).sigmoid())


def test_coupled_gates_sum_to_one() -> None:
    cell = make("lstm_coupled")
    assert isinstance(cell, CoupledLSTMCell)
    state = random_state(cell)
    x = torch.randn(ROWS, INPUT, dtype=torch.float64)
    (_, memory), gates = cell(cell.project(x), state)
    torch.testing.assert_close(gates["input"] + gates["forget"], torch.ones(ROWS, HIDDEN, dtype=torch.float64))
    # Between what was kept and what could have been written, unit by unit.
    assert (memory.abs() <= torch.maximum(state[1].abs(), torch.ones_like(memory))).all()


def test_layer_normalisation_takes_scale_and_shift_out() -> None:
    cell = make("lstm_layer_norm")
    assert isinstance(cell, LayerNormLSTMCell)
    x, state = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(cell)
    expected, _ = cell(cell.project(x), state)
    with torch.no_grad():
        cell.weight_input *= 30
        cell.weight_hidden *= 50
    given, _ = cell(cell.project(x), state)
    torch.testing.assert_close(given, expected, atol=1e-4, rtol=1e-3)
    shifted, _ = cell(cell.project(x) + 7.0, state)
    torch.testing.assert_close(shifted, given)


def test_a_layer_normalised_lstm_is_its_equations() -> None:
    cell = make("lstm_layer_norm")
    assert isinstance(cell, LayerNormLSTMCell)
    x, (h, c) = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(cell)

    def normal(values: Tensor) -> Tensor:
        centred = values - values.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()

    assert cell.bias_gates is not None
    assert cell.bias_cell is not None
    gates = normal(h @ cell.weight_hidden.T) * cell.gain_hidden + normal(x @ cell.weight_input.T) * cell.gain_input
    i, f, g, o = (gates + cell.bias_gates).chunk(4, dim=-1)
    memory = f.sigmoid() * c + i.sigmoid() * g.tanh()
    (hidden, kept), _ = cell(cell.project(x), (h, c))
    torch.testing.assert_close(kept, memory)
    torch.testing.assert_close(hidden, o.sigmoid() * (normal(memory) * cell.gain_cell + cell.bias_cell).tanh())


def test_the_two_places_of_the_reset_gate() -> None:
    after, before = make("gru"), make("gru_reset_before")
    assert isinstance(after, GRUCell)
    assert isinstance(before, ResetBeforeGRUCell)
    assert after.bias_reset is not None
    after.load_state_dict(before.state_dict() | {"bias_reset": torch.zeros(HIDDEN)})
    x, (h,) = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(after)
    _, gates = before(before.project(x), (h,))
    torch.testing.assert_close(after(after.project(x), (h,))[1], gates)
    gates_of_n = slice(2 * HIDDEN, 3 * HIDDEN)
    weight, from_input = after.weight_hidden[gates_of_n], after.project(x)[:, gates_of_n]
    for cell, n in (
        (after, (from_input + gates["reset"] * (h @ weight.T)).tanh()),
        (before, (from_input + (gates["reset"] * h) @ weight.T).tanh()),
    ):
        (hidden,), _ = cell(cell.project(x), (h,))
        torch.testing.assert_close(hidden, (1 - gates["update"]) * n + gates["update"] * h)


def test_a_minimal_gru_has_one_gate_that_writes_and_resets() -> None:
    cell = make("gru_minimal")
    assert isinstance(cell, MinimalGRUCell)
    x, (h,) = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(cell)
    (hidden,), gates = cell(cell.project(x), (h,))
    f = gates["forget"]
    n = (cell.project(x)[:, HIDDEN:] + (f * h) @ cell.weight_hidden[HIDDEN:].T).tanh()
    torch.testing.assert_close(hidden, (1 - f) * h + f * n)


def test_the_carousel_sums_and_its_gradient_is_exactly_one() -> None:
    cell = make("linear")
    assert isinstance(cell, LinearCell)
    inputs = torch.randn(50, ROWS, INPUT, dtype=torch.float64)
    start = random_state(cell)[0].requires_grad_()
    state: tuple[Tensor, ...] = (start,)
    for projected in cell.project(inputs):
        state, _ = cell(projected, state)
    torch.testing.assert_close(state[0], start + (inputs.tanh() @ cell.weight_input.T).sum(dim=0))
    (gradient,) = torch.autograd.grad(state[0].sum(), start)
    assert (gradient == 1).all()


def test_a_memory_without_gates_keeps_everything_and_saturates() -> None:
    cell = make("memory")
    assert isinstance(cell, nn.Module)
    x, (h, c) = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(cell)
    (hidden, memory), _ = cell(cell.project(x), (h, c))
    expected = c + x.tanh() @ cell.weight_input.T + h.tanh() @ cell.weight_hidden.T
    torch.testing.assert_close(memory, expected)
    torch.testing.assert_close(hidden, expected.tanh())


def test_a_linear_network_forgets_by_a_power_of_its_weight() -> None:
    """A plain network so close to 0 that tanh is the identity: the gradient over k steps is w^k."""
    for weight in (0.9, 1.0, 1.1):
        cell = TanhRNNCell(1, 1).double()
        with torch.no_grad():
            cell.weight_hidden.fill_(weight)
        start = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        state: tuple[Tensor, ...] = (start,)
        for steps in range(1, 60):
            state, _ = cell(cell.project(torch.zeros(1, 1, dtype=torch.float64)), state)
            (gradient,) = torch.autograd.grad(state[0].sum(), start, retain_graph=True)
            assert gradient.item() == pytest.approx(weight**steps, rel=1e-12)


def test_initialisation_follows_its_rule() -> None:
    for name, cell_class in CELLS.items():
        torch.manual_seed(0)
        cell = cell_class(16, 16, start=CellStart(initialisation="uniform", init_range=0.3))
        assert isinstance(cell, nn.Module)
        assert cell.weight_input.abs().max() <= 0.3
        assert cell.weight_input.abs().max() > 0.25
        orthogonal = cell_class(16, 16)
        for key, weight in orthogonal.state_dict().items():
            if key == "weight_hidden":
                for gate in weight.chunk(len(weight) // 16):
                    torch.testing.assert_close(gate @ gate.t(), torch.eye(16), atol=1e-5, rtol=0.0)
        if name in ("rnn_tanh", "rnn_relu"):
            identity = cell_class(16, 16, start=CellStart(initialisation="identity"))
            assert torch.equal(identity.state_dict()["weight_hidden"], torch.eye(16))
            assert identity.weight_input.std().item() == pytest.approx(0.001, rel=0.2)


@pytest.mark.parametrize("name", [name for name in CELLS if name not in GATELESS_CELLS])
def test_chrono_initialisation_gives_every_unit_a_time_scale(name: str) -> None:
    """A gate that keeps f of the memory at each step keeps it for 1 / (1 - f) steps, here 2 to 100."""
    torch.manual_seed(0)
    cell = CELLS[name](3, 400, start=CellStart(chrono=100))
    _, gates = cell(cell.project(torch.zeros(1, 3)), tuple(torch.zeros(1, 400) for _ in range(cell.state_parts)))
    overwritten = gates["forget"] if name == "gru_minimal" else 1 - gates["forget" if "forget" in gates else "update"]
    scales = 1 / overwritten
    assert 2 <= scales.min() < 4
    assert 90 < scales.max() <= 100
    assert scales.mean().item() == pytest.approx(51, abs=5)
    if "input" in gates:
        torch.testing.assert_close(gates["input"], overwritten)


def test_the_configuration_knows_the_cells() -> None:
    assert set(RecurrenceConfig.model_fields["cell"].annotation.__args__) == set(CELLS)
    assert {CELLS[name] for name in FUSED_CELLS} == set(KERNELS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "rnn_tanh", "forget_bias": 2.0}, "needs a cell with gates"),
        ({"cell": "rnn_tanh", "chrono": 20}, "biases of gates"),
        ({"cell": "lstm", "chrono": 20, "forget_bias": 2.0}, "leave one of them out"),
        ({"cell": "lstm", "chrono": 2}, "greater than or equal to 3"),
        ({"cell": "lstm", "initialisation": "identity"}, "is for rnn_relu"),
        ({"cell": "linear", "recurrent_dropout": 0.1}, "recurrent products"),
        ({"cell": "rnn_relu", "recurrent_dropout": 0.1, "recurrent_dropout_on": "update"}, "memory to add to"),
        ({"cell": "gru", "compiled": True}, "set fused=False"),
        ({"cell": "transformer"}, "must be 'rnn_tanh'"),
    ],
)
def test_what_a_cell_cannot_do_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RecurrenceConfig(**change)


# Over time.

LENGTHS = torch.tensor([3, 6, 1, 6, 4])


def stacks(name: str) -> list[Recurrence]:
    """A cell in one and two directions, stacked, with and without residual connections, in float64."""
    torch.manual_seed(1)
    config = RecurrenceConfig(cell=name, initialisation="uniform", init_range=0.7)
    made = [
        Recurrence(INPUT, HIDDEN, 2, bidirectional=both, residual_from=residual, config=config).double()
        for both, residual in product((False, True), (None, 1))
    ]
    for stack in made:
        for weight in stack.parameters():
            nn.init.uniform_(weight, -0.7, 0.7)
    return made


@every_cell
def test_padding_and_company_change_nothing(name: str) -> None:
    inputs = torch.randn(len(LENGTHS), 8, INPUT, dtype=torch.float64)
    for stack in stacks(name):
        outputs, state = stack.forward_lengths(inputs, LENGTHS)
        for row, length in enumerate(LENGTHS.tolist()):
            alone, end = stack.forward_lengths(inputs[row : row + 1, :length], LENGTHS[row : row + 1])
            torch.testing.assert_close(outputs[row, :length], alone[0])
            assert (outputs[row, length:] == 0).all()
            for together, own in zip(state, end, strict=True):
                for part, own_part in zip(together, own, strict=True):
                    torch.testing.assert_close(part[row], own_part[0])


@every_cell
def test_the_backward_direction_is_the_forward_one_on_the_reversed_row(name: str) -> None:
    torch.manual_seed(1)
    config = RecurrenceConfig(cell=name)
    both = Recurrence(INPUT, HIDDEN, bidirectional=True, config=config).double()
    one = Recurrence(INPUT, HIDDEN, config=config).double()
    one.layers[0].directions[0].load_state_dict(both.layers[0].directions[1].state_dict())
    inputs = torch.randn(len(LENGTHS), 6, INPUT, dtype=torch.float64)
    outputs, state = both.forward_lengths(inputs, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        backwards, end = one(inputs[row : row + 1, :length].flip(1))
        torch.testing.assert_close(outputs[row, :length, HIDDEN:], backwards[0].flip(0))
        for part, own in zip(state[0], end[0], strict=True):
            torch.testing.assert_close(part[row, HIDDEN:], own[0])


@every_cell
def test_all_steps_at_once_are_one_step_after_the_other(name: str) -> None:
    inputs = torch.randn(ROWS, 5, INPUT, dtype=torch.float64)
    context = torch.randn(ROWS, 5, 2, dtype=torch.float64)
    torch.manual_seed(1)
    config = RecurrenceConfig(cell=name)
    stack = Recurrence(INPUT, HIDDEN, 2, context_size=2, residual_from=1, config=config).double()
    outputs, final = stack(inputs, None, context)
    state = stack.zero_state(inputs)
    for time in range(5):
        output, state = stack.step(inputs[:, time], state, context[:, time])
        torch.testing.assert_close(output, outputs[:, time])
    torch.testing.assert_close(state, final)


@pytest.mark.parametrize("name", FUSED_CELLS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_fused_is_unrolled_in_values_and_gradients(name: str, bias: bool, both: bool) -> None:
    inputs = torch.randn(len(LENGTHS), 6, INPUT, dtype=torch.float64)
    found = []
    for fused in (True, False):
        torch.manual_seed(3)
        config = RecurrenceConfig(cell=name, initialisation="uniform", init_range=0.7, fused=fused)
        stack = Recurrence(INPUT, HIDDEN, 2, bias, bidirectional=both, config=config).double()
        for weight in stack.parameters():
            nn.init.uniform_(weight, -0.7, 0.7)
        outputs, state = stack.forward_lengths(inputs, LENGTHS)
        even, even_state = stack(inputs)
        parts = [outputs, even, *(part for layer in (*state, *even_state) for part in layer)]
        sum((part * part.detach().cos()).sum() for part in parts).backward()
        with torch.inference_mode():  # with gradients, packed rows take the loop on a CPU
            packed, packed_state = stack.forward_lengths(inputs, LENGTHS)
        parts += [packed, *(part for layer in packed_state for part in layer)]
        found.append((parts, [weight.grad for weight in stack.parameters()]))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_torchs_seven_arguments_mean_what_they_mean_to_torch(
    layers: int, both: bool, batch_first: bool, bias: bool
) -> None:
    arguments = (INPUT, HIDDEN, layers, bias, batch_first, 0.0, both)
    ours, theirs = Recurrence(*arguments).double(), nn.LSTM(*arguments).double()
    with torch.no_grad():
        for index, layer in enumerate(ours.layers):
            for cell, suffix in zip(layer.cells, ("", "_reverse"), strict=False):
                assert isinstance(cell, LSTMCell)
                getattr(theirs, f"weight_ih_l{index}{suffix}").copy_(cell.weight_input)
                getattr(theirs, f"weight_hh_l{index}{suffix}").copy_(cell.weight_hidden)
                if cell.bias is not None:
                    getattr(theirs, f"bias_ih_l{index}{suffix}").copy_(cell.bias)
                    getattr(theirs, f"bias_hh_l{index}{suffix}").zero_()
    inputs = torch.randn(5, 6, INPUT, dtype=torch.float64)
    expected, (hidden, memory) = theirs(inputs)
    outputs, state = ours(inputs)
    torch.testing.assert_close(outputs, expected)
    for part, end in enumerate((hidden, memory)):
        # torch: [layers * directions, rows, hidden].
        given = torch.stack([half for layer in state for half in layer[part].chunk(2 if both else 1, dim=-1)])
        torch.testing.assert_close(given, end)
    lengths = torch.tensor([6, 2, 5, 1, 3] if batch_first else [5, 2, 4, 1, 3, 3])
    rows = nn.utils.rnn.pack_padded_sequence(inputs, lengths, batch_first, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(rows)[0], batch_first)
    torch.testing.assert_close(ours.forward_lengths(inputs, lengths).outputs, expected)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("turned", [True, False])
def test_dropout_zeroes_its_share_and_keeps_the_mean(share: float, turned: bool) -> None:
    torch.manual_seed(0)
    values = torch.ones(301, 7, 333, requires_grad=True)
    found = drop(values.transpose(0, 1) if turned else values, share, training=True)
    assert found.unique().tolist() == pytest.approx([0, 1 / (1 - share)])
    zeros = found == 0
    spread = 5 * math.sqrt(share * (1 - share) / zeros.numel())
    assert zeros.float().mean().item() == pytest.approx(share, abs=spread)
    # Neighbours, in memory and across, are no more alike than chance.
    for step in (1, 2, 3, 4, 333):
        both = (zeros.flatten()[step:] & zeros.flatten()[:-step]).float().mean().item()
        assert both == pytest.approx(share**2, abs=2 * spread)
    found.sum().backward()
    assert torch.equal(values.grad == 0, zeros.transpose(0, 1) if turned else zeros)
    assert drop(values, share, training=False) is values
    assert drop(torch.ones(3, 0), share, training=True).shape == (3, 0)


def test_dropout_of_nearly_everything_keeps_hardly_anything() -> None:
    assert (drop(torch.ones(1000), 0.999995, training=True) == 0).sum() > 990


@pytest.mark.parametrize("variational", [True, False])
def test_a_stack_on_top_of_a_layer_drops_its_input_but_adds_it_whole(variational: bool) -> None:
    torch.manual_seed(0)
    config = RecurrenceConfig(variational_dropout=variational)
    stack = Recurrence(400, 400, 1, dropout=0.25, config=config, residual_from=0, dropout_from=0)
    inputs = torch.randn(ROWS, 5, 400)
    seen = []
    stack.layers[0].run = lambda inputs, *_: (seen.append(inputs), (inputs * 0, ()))[1]  # type: ignore[method-assign]
    outputs, _ = stack(inputs)
    assert torch.equal(outputs, inputs)
    assert (seen[0] != 0).float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_dropout_between_layers_has_torchs_probability() -> None:
    torch.manual_seed(0)
    stack = Recurrence(INPUT, 400, 2, dropout=0.25)
    inputs = torch.randn(ROWS, 5, INPUT)
    seen = []
    stack.layers[1].run = lambda inputs, *_: (seen.append(inputs), (inputs, ()))[1]  # type: ignore[method-assign]
    stack(inputs)
    kept = (seen[0] != 0).float().mean().item()
    assert kept == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (name, place)
        for name, place in product(CELLS, ["hidden", "update"])
        if (name, place) not in {("linear", "hidden"), ("rnn_tanh", "update"), ("rnn_relu", "update")}
    ],
)
def test_dropout_inside_the_recurrence_is_one_mask_for_all_steps(name: str, place: str) -> None:
    config = RecurrenceConfig(cell=name, recurrent_dropout=0.5, recurrent_dropout_on=place)  # type: ignore[arg-type]
    torch.manual_seed(2)
    stack = Recurrence(INPUT, 6, config=config).double()
    inputs = torch.randn(ROWS, 4, INPUT, dtype=torch.float64)
    torch.manual_seed(5)
    outputs, _ = stack(inputs)
    torch.manual_seed(5)
    ((mask,),) = (masks.steps for masks in stack.draw_masks(inputs))
    drawn = getattr(mask, place)
    assert set(drawn.unique().tolist()) == {0.0, 2.0}
    assert mask == StepMasks(**{place: drawn})
    state = stack.zero_state(inputs)[0]
    for time in range(4):
        output, state = stack.layers[0].step(inputs[:, time], state, mask)
        torch.testing.assert_close(output, outputs[:, time])
    torch.manual_seed(5)
    shorter, _ = stack.forward_lengths(inputs, torch.tensor([4, 2]))
    torch.testing.assert_close(shorter[0], outputs[0])
    torch.testing.assert_close(shorter[1, :2], outputs[1, :2])
    stack.eval()
    assert torch.equal(stack(inputs).outputs, stack(inputs).outputs)
    assert not torch.allclose(stack(inputs).outputs, outputs)


@every_cell
def test_a_mask_of_the_state_masks_the_recurrent_products_and_no_memory(name: str) -> None:
    """As if the weights of the masked units were 0, or the larger, for one row (Gal & Ghahramani 2016, equation 7)."""
    if name == "linear":
        pytest.skip("it has no recurrent products")
    cell = make(name)
    assert isinstance(cell, nn.Module)
    inputs, state = torch.randn(1, INPUT, dtype=torch.float64), tuple(part[:1] for part in random_state(cell))
    mask = torch.tensor([[0.0, 2.0, 0.0, 2.0]], dtype=torch.float64)
    masked, _ = cell(cell.project(inputs), state, StepMasks(hidden=mask))
    with torch.no_grad():
        dict(cell.named_parameters())["weight_hidden"].mul_(mask)
    torch.testing.assert_close(masked, cell(cell.project(inputs), state)[0])


@every_cell
def test_a_mask_of_what_is_added_lets_the_memory_fade_as_ever(name: str) -> None:
    """Semeniuta et al. (2016), section 3: dropping the memory itself would forget it."""
    if name in ("rnn_tanh", "rnn_relu"):
        pytest.skip("it has no memory to add to")
    cell = make(name)
    inputs, state = torch.randn(ROWS, INPUT, dtype=torch.float64), random_state(cell)
    after, gates = cell(cell.project(inputs), state, StepMasks(update=torch.zeros(ROWS, HIDDEN, dtype=torch.float64)))
    kept = 1 - gates["forget"] if name == "gru_minimal" else gates.get("update", gates.get("forget", torch.ones(1)))
    torch.testing.assert_close(after[-1], kept * state[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1.0"),
        ({"dropout": -0.5}, "dropout must be at least 0 and below 1, got -0.5"),
        ({"residual_from": 0}, "residual_from=0 needs inputs as wide as the outputs, got 3 and 4"),
        ({"bias": False, "config": RecurrenceConfig(chrono=9)}, "chrono and forget_bias set biases, got chrono=9"),
    ],
)
def test_a_stack_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Recurrence(INPUT, HIDDEN, 2, **options)


@pytest.mark.parametrize("variational", [True, False])
def test_variational_dropout_zeroes_the_same_features_at_all_steps(variational: bool) -> None:
    torch.manual_seed(0)
    config = RecurrenceConfig(variational_dropout=variational)
    stack = Recurrence(INPUT, 20, 2, dropout=0.5, config=config)
    seen = []
    stack.layers[1].run = lambda inputs, *_: (seen.append(inputs), (inputs, ()))[1]  # type: ignore[method-assign]
    stack(torch.randn(ROWS, 5, INPUT))
    # [steps, rows, features]
    dropped = seen[0] == 0
    assert dropped.any()
    assert bool((dropped == dropped[:1]).all()) == variational
    # Of a packed batch, row by row: the longest first.
    stack.forward_lengths(torch.randn(3, 4, INPUT), torch.tensor([4, 2, 4]))
    dropped = seen[1] == 0
    same = [bool((dropped[row] == dropped[3 + row]).all()) for row in range(3)]
    assert same == [variational] * 3


COMPILED = """
import torch
from seq2seq.config import RecurrenceConfig
from seq2seq.recurrence import Recurrence

lengths, found = [torch.tensor([3, 6, 1, 6, 4]), torch.tensor([2, 5]), torch.tensor([7, 7, 2, 1])], []
for compiled in (False, True):
    torch.manual_seed(3)
    config = RecurrenceConfig(cell="lstm_coupled", compiled=compiled)
    encoder, decoder = Recurrence(3, 4, 2, bidirectional=True, config=config), Recurrence(8, 6, 2, config=config)
    for ends in lengths:
        read = encoder.forward_lengths(torch.randn(len(ends), int(ends.max()), 3), ends).outputs
        written = decoder(read).outputs
        written.square().sum().backward()
        found.append((written, [weight.grad.clone() for weight in encoder.parameters()]))
torch.testing.assert_close(found[:3], found[3:])
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 8
assert not any("limit" in reason for reason in torch._dynamo.utils.counters["unimplemented"])
"""


@pytest.mark.slow
def test_compiled_is_unrolled() -> None:
    """In a process of its own: the check of shapes, which is on in tests, does not go with torch.compile."""
    subprocess.run([sys.executable, "-c", COMPILED], check=True)


def test_who_only_reads_needs_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def uncompiled(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        return unroll(*arguments[:-1])

    monkeypatch.setattr("seq2seq.recurrence.layer.unroll", uncompiled)
    stack = Recurrence(3, 4, config=RecurrenceConfig(cell="lstm_coupled", compiled=True))
    with torch.no_grad():
        stack(torch.randn(2, 5, 3))
    stack(torch.randn(2, 5, 3))
    assert asked == [False, True]


ALONE = f"""
from seq2seq.errors import one_line_errors
with one_line_errors():
    exec({COMPILED!r})
"""


@pytest.mark.slow
def test_compiling_without_a_compiler_is_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "CXX": "nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: compiled=True needs a C++ compiler, and torch finds none (")
    assert result.stderr.endswith("(None, 'nowhere')); install g++, set CXX to one, or set compiled=False\n")
    assert result.stderr.count("\n") == 1
