"""Laws of the model, over every configuration."""

from unittest.mock import Mock

import pytest
import torch
from configurations import SMALL, configurations, name

from seq2seq.cells import CELLS
from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, ModelConfig
from seq2seq.errors import ConfigError
from seq2seq.model import Seq2Seq
from seq2seq.recurrence import drop_features, layer
from seq2seq.recurrence.time import KERNELS

every_configuration = pytest.mark.parametrize("config", configurations(), ids=name)
SOURCE_LENGTHS = torch.tensor([5, 1, 7, 3])
TARGET_LENGTHS = torch.tensor([4, 6, 1, 3])


def rows(lengths: torch.Tensor, seed: int, padding: int = 0) -> torch.Tensor:
    """Random rows of text ids that end with `<E>`, padded."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.full((len(lengths), int(lengths.max()) + padding), PAD_ID)
    for row, length in zip(ids, lengths.tolist(), strict=True):
        row[: length - 1] = torch.randint(4, 11, (length - 1,), generator=generator)
        row[length - 1] = EOS_ID
    return ids


def build(config: ModelConfig) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(config).double().eval()


SOURCE, TARGET = rows(SOURCE_LENGTHS, 1), rows(TARGET_LENGTHS, 2)


@every_configuration
def test_forward_is_step_by_step(config: ModelConfig) -> None:
    model = build(config)
    expected = model(SOURCE, SOURCE_LENGTHS, TARGET).log_softmax(-1)
    state = model.start(model.encode(SOURCE, SOURCE_LENGTHS))
    tokens = torch.full((len(TARGET),), BOS_ID)
    for time in range(TARGET.shape[1]):
        log_probs, state = model.step(tokens, state)
        torch.testing.assert_close(log_probs, expected[:, time])
        tokens = TARGET[:, time]


@every_configuration
def test_a_row_does_not_see_the_others_or_its_padding(config: ModelConfig) -> None:
    model = build(config)
    together = model(rows(SOURCE_LENGTHS, 1, padding=3), SOURCE_LENGTHS, rows(TARGET_LENGTHS, 2, padding=2))
    for row, (source_length, target_length) in enumerate(zip(SOURCE_LENGTHS, TARGET_LENGTHS, strict=True)):
        source, target = SOURCE[row : row + 1, :source_length], TARGET[row : row + 1, :target_length]
        alone = model(source, source_length.reshape(1), target)
        torch.testing.assert_close(together[row, :target_length], alone[0])


@pytest.mark.parametrize("config", [one for one in configurations() if CELLS[one.cell] in KERNELS], ids=name)
def test_fused_is_unrolled(config: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every kernel that there is runs: in the encoder always, in the decoder unless each step waits for the one before.
    monkeypatch.setattr(layer, "kernel_is_slow", Mock(return_value=False))
    kernel = Mock(side_effect=layer.run_kernel)
    monkeypatch.setattr(layer, "run_kernel", kernel)
    fused, unrolled = build(config), build(config.model_copy(update={"fused": False}))
    for model in (fused, unrolled):
        model(SOURCE, SOURCE_LENGTHS, TARGET).square().sum().backward()
    assert kernel.call_count == config.encoder_layers + (0 if config.input_feeding else config.decoder_layers)
    torch.testing.assert_close(fused(SOURCE, SOURCE_LENGTHS, TARGET), unrolled(SOURCE, SOURCE_LENGTHS, TARGET))
    for (key, expected), (_, given) in zip(unrolled.named_parameters(), fused.named_parameters(), strict=True):
        torch.testing.assert_close(given.grad, expected.grad, msg=lambda text, key=key: f"{key}: {text}")


@every_configuration
def test_selected_rows_go_on_as_they_would_have(config: ModelConfig) -> None:
    model = build(config)
    state = model.start(model.encode(SOURCE, SOURCE_LENGTHS))
    tokens = torch.tensor([4, 5, 6, 7])
    for selection in ([0, 1, 2, 3], [0, 0, 1, 1, 2, 2, 3, 3], [3, 3, 1, 1], [2, 0], [1, 1, 1, 0, 2], [3]):
        chosen = torch.tensor(selection)
        expected, _ = model.step(tokens[chosen], state.select(chosen))
        plain, _ = model.step(tokens, state)
        torch.testing.assert_close(expected, plain[chosen])
    # A beam of two reorders within sentences, then one sentence leaves.
    beam = state.select(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]))
    _, beam = model.step(torch.tensor([4, 5, 6, 7, 8, 9, 10, 4]), beam)
    second, _ = model.step(torch.tensor([5, 6, 7, 8]), beam.select(torch.tensor([1, 0, 7, 6])))
    whole, _ = model.step(torch.tensor([6, 5, 4, 4, 4, 4, 8, 7]), beam)
    torch.testing.assert_close(second, whole[torch.tensor([1, 0, 7, 6])])
    # Samples end one by one, and no source is copied for those that are left.
    uneven = beam
    for left, kept in ([[0, 2, 3, 5, 6, 7], [0, 2, 3, 5, 6, 7]], [[0, 1, 2, 5], [0, 2, 3, 7]], [[1, 3], [2, 7]]):
        uneven = uneven.select(torch.tensor(left))
        third, _ = model.step(torch.tensor([6, 5, 4, 4, 4, 4, 8, 7])[kept], uneven)
        torch.testing.assert_close(third, whole[kept])
        assert all(len(memory.is_token) == len({row // 2 for row in kept}) for memory in uneven.memories)


@every_configuration
def test_a_table_of_products_changes_nothing(config: ModelConfig) -> None:
    model = build(config).eval()
    with torch.no_grad():
        state = model.start(model.encode(SOURCE, SOURCE_LENGTHS)).select(torch.tensor([0, 0, 1, 3, 3]))
        _, state = model.step(torch.tensor([4, 5, 6, 7, 8]), state)
        tokens = torch.tensor([9, 4, 10, 5, 5])
        expected, after = model.step(tokens, state)
        model.decoder.tabulate_tokens()
        model.decoder.embedding.requires_grad_(False).weight.zero_()  # it is not looked at any more
        given, same = model.step(tokens, state)
    if config.tied_embeddings == "none":
        torch.testing.assert_close(given, expected)
    torch.testing.assert_close(same.recurrent, after.recurrent)


def test_a_table_of_products_takes_no_part_in_learning_and_dropout() -> None:
    model = build(SMALL.model_copy(update={"embedding_dropout": 0.5}))
    with torch.no_grad():
        state = model.start(model.encode(SOURCE, SOURCE_LENGTHS))
        model.decoder.tabulate_tokens()
        model.train()
        first, second = (model.step(TARGET[:, 0], state)[0] for _ in range(2))
    assert not torch.equal(first, second)
    log_probs, _ = model.eval().step(TARGET[:, 0], state)
    log_probs[:, 5].sum().backward()
    assert all(weight.grad is not None for weight in model.decoder.bottom.layers[0].parameters())


@every_configuration
def test_every_parameter_learns(config: ModelConfig) -> None:
    model = build(config)
    model(SOURCE, SOURCE_LENGTHS, TARGET).log_softmax(-1)[..., 5].sum().backward()
    for key, weight in model.named_parameters():
        assert weight.grad is not None, key
        if key != "encoder.embedding.weight" or config.tied_embeddings != "all":
            assert weight.grad.abs().sum() > 0, key


def test_attention_weights_are_a_distribution_over_the_true_source() -> None:
    for config in configurations():
        weights = build(config).attend(SOURCE, SOURCE_LENGTHS, TARGET)
        if config.attention == "none":
            assert weights is None
            continue
        assert weights is not None
        is_token = torch.arange(SOURCE.shape[1]) < SOURCE_LENGTHS.unsqueeze(1)
        assert (weights[~is_token.unsqueeze(1).expand_as(weights)] == 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_reversed_source_reads_the_reversed_sentence() -> None:
    plain, reverse = build(SMALL), build(SMALL.model_copy(update={"reverse_source": True}))
    source = torch.tensor([[4, 5, 6, EOS_ID, PAD_ID], [7, 8, 9, 10, EOS_ID]])
    turned = torch.tensor([[6, 5, 4, EOS_ID, PAD_ID], [10, 9, 8, 7, EOS_ID]])
    lengths, target = torch.tensor([4, 5]), TARGET[:2]
    torch.testing.assert_close(reverse(source, lengths, target), plain(turned, lengths, target))
    expected, given = plain.attend(turned, lengths, target), reverse.attend(source, lengths, target)
    assert expected is not None
    assert given is not None
    torch.testing.assert_close(given[0, :, :4], expected[0][:, [2, 1, 0, 3]])


def test_the_forget_gate_starts_where_asked() -> None:
    for bias in (0.0, 1.0, 2.0):
        model = Seq2Seq(SMALL.model_copy(update={"forget_bias": bias}))
        cell = model.encoder.recurrence.layers[0].cells[0]
        assert (cell.bias[4:8] == bias).all()
        assert (cell.bias[:4] == 0).all()


def test_initialisation_follows_its_rule() -> None:
    torch.manual_seed(0)
    uniform = Seq2Seq(SMALL.model_copy(update={"init_range": 0.3}))
    for key, weight in uniform.named_parameters():
        assert weight.abs().max() <= 0.3 or "bias" in key, key
    orthogonal = Seq2Seq(SMALL.model_copy(update={"initialisation": "orthogonal", "init_range": 0.1}))
    for gate in orthogonal.decoder.bottom.layers[0].cells[0].weight_hidden.chunk(4):
        torch.testing.assert_close(gate @ gate.t(), torch.eye(8), atol=1e-5, rtol=0.0)
    large = Seq2Seq(ModelConfig(source_vocabulary_size=500, target_vocabulary_size=500))
    embedded = large.encoder.embedding(torch.arange(500))
    assert embedded.std().item() == pytest.approx(1.0, abs=0.02)
    assert (embedded[PAD_ID] == 0).all()


@pytest.mark.parametrize("feeding", [True, False])
def test_hidden_dropout_is_between_layers_alone(feeding: bool) -> None:
    """A decoder of one layer has none, in either form; `output_dropout` acts on what it gives."""
    model = build(SMALL.model_copy(update={"decoder_layers": 1, "input_feeding": feeding, "hidden_dropout": 0.5}))
    state = model.start(model.encode(SOURCE, SOURCE_LENGTHS))
    trained, used = (model.decoder.train(mode)(TARGET, state).features for mode in (True, False))
    assert torch.equal(trained, used)


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    changes: list[dict[str, object]] = [
        {"embedding_dropout": 0.5},
        {"hidden_dropout": 0.5},
        {"output_dropout": 0.5},
        {"recurrent_dropout": 0.5},
        {"recurrent_dropout": 0.5, "recurrent_dropout_on": "update", "input_feeding": True},
        {"embedding_dropout": 0.5, "variational_dropout": True},
        {"hidden_dropout": 0.5, "variational_dropout": True, "input_feeding": True},
    ]
    for field in changes:
        model = Seq2Seq(SMALL.model_copy(update=field))
        first, second = (model(SOURCE, SOURCE_LENGTHS, TARGET) for _ in range(2))
        assert not torch.equal(first, second), field
        model.eval()
        first, second = (model(SOURCE, SOURCE_LENGTHS, TARGET) for _ in range(2))
        assert torch.equal(first, second), field


def test_variational_dropout_zeroes_the_same_features_of_all_that_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the embeddings on both sides, and of the annotations."""
    torch.manual_seed(0)
    fields = {"embedding_dropout": 0.5, "hidden_dropout": 0.5, "variational_dropout": True}
    model, read = Seq2Seq(SMALL.model_copy(update=fields)), []
    for recurrence in (model.encoder.recurrence, model.decoder.bottom):
        name = "forward_lengths" if recurrence is model.encoder.recurrence else "forward"
        run = getattr(recurrence, name)
        keep = lambda inputs, *rest, run=run: read.append(inputs) or run(inputs, *rest)  # noqa: E731
        monkeypatch.setattr(recurrence, name, keep)
    lengths = torch.full((len(SOURCE),), SOURCE.shape[1])
    read.append(model.encode(SOURCE.clamp(min=4), lengths).annotations)
    model(SOURCE.clamp(min=4), lengths, TARGET.clamp(min=4))
    assert len(read) == 4
    for features in read:
        dropped = features == 0
        assert dropped.any()
        assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))


def test_input_feeding_has_one_mask_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {"input_feeding": True, "recurrent_dropout": 0.5}
    model, drawn = Seq2Seq(SMALL.model_copy(update=fields)), []
    state = model.start(model.encode(SOURCE, SOURCE_LENGTHS))
    draw = model.decoder.stack.draw_masks
    monkeypatch.setattr(model.decoder.stack, "draw_masks", lambda rows: drawn.append(rows) or draw(rows))
    model.decoder(TARGET, state)
    assert len(drawn) == 1


@pytest.mark.parametrize(
    ("field", "encoder", "decoder"),
    [
        ({"embedding_dropout": 0.5}, True, True),
        ({"embedding_dropout": 0.5, "variational_dropout": True}, True, True),
        ({"embedding_dropout": 0.5, "input_feeding": True}, True, True),
        ({"hidden_dropout": 0.5, "encoder_layers": 1, "decoder_layers": 1}, True, False),
        ({"hidden_dropout": 0.5, "encoder_layers": 2, "decoder_layers": 2}, True, True),
        ({"hidden_dropout": 0.5, "decoder_layers": 2, "input_feeding": True}, True, True),
        ({"recurrent_dropout": 0.5}, True, True),
        ({"recurrent_dropout": 0.5, "input_feeding": True}, True, True),
        ({"output_dropout": 0.5}, False, False),
    ],
)
def test_dropout_acts_in_encoder_and_decoder_each(field: dict[str, object], encoder: bool, decoder: bool) -> None:
    model = Seq2Seq(SMALL.model_copy(update=field)).eval()
    model.encoder.train()
    first, second = (model.encode(SOURCE, SOURCE_LENGTHS).annotations for _ in range(2))
    assert torch.equal(first, second) != encoder
    model.eval()
    state = model.start(model.encode(SOURCE, SOURCE_LENGTHS))
    model.decoder.train()
    first, second = (model.decoder(TARGET, state).features for _ in range(2))
    assert torch.equal(first, second) != decoder


def test_variational_dropout_drops_the_same_features_at_all_steps() -> None:
    torch.manual_seed(0)
    dropped = drop_features(torch.ones(4, 6, 20), 0.5, True, True) == 0
    assert (dropped == dropped[:, :1]).all()
    assert not (dropped == dropped[:1]).all()
    assert not torch.equal(*(drop_features(torch.ones(4, 6, 20), 0.5, True, False)[:, step] for step in (0, 1)))


@pytest.mark.parametrize("feeding", [False, True])
def test_residual_connections_add_what_a_layer_was_given(feeding: bool) -> None:
    """A last layer whose weights are zero adds nothing: what it was given comes out, or without them nothing."""
    layers = {"encoder_layers": 3, "decoder_layers": 3, "input_feeding": feeding, "attention": "general"}
    for residual in (False, True):
        model = build(SMALL.model_copy(update={**layers, "residual": residual}))
        upper = model.decoder.stack if feeding else model.decoder.upper
        for stack in (model.encoder.recurrence, upper):
            for weight in stack.layers[-1].parameters():
                weight.data.zero_()
        encoded = model.encode(SOURCE, SOURCE_LENGTHS)
        assert bool((encoded.annotations[encoded.is_token] != 0).all()) == residual
        features = model.decoder(TARGET, model.start(encoded)).features
        if not feeding:  # The features begin with what the last layer gives.
            assert bool((features[..., :8] != 0).all()) == residual


def test_tied_embeddings_are_one_matrix() -> None:
    tied = Seq2Seq(SMALL.model_copy(update={"tied_embeddings": "all"}))
    assert tied.encoder.embedding.weight is tied.decoder.embedding.weight is tied.output.weight
    tied = Seq2Seq(SMALL.model_copy(update={"tied_embeddings": "decoder"}))
    assert tied.decoder.embedding.weight is tied.output.weight
    assert tied.encoder.embedding.weight is not tied.output.weight


def test_parts_count_shared_parameters_once() -> None:
    for tied in ("none", "decoder", "all"):
        model = Seq2Seq(SMALL.model_copy(update={"tied_embeddings": tied}))
        assert sum(count for _, count in model.parts()) == sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attention": "dot", "encoder_hidden_size": 3}, "as wide as the decoder"),
        ({"attention_heads": 2}, "attention_heads does something only with a multi_head attention, got"),
        ({"initialisation": "orthogonal"}, "init_range does something only with initialisation='uniform', got"),
        ({"recurrent_dropout_on": "update"}, "recurrent_dropout_on does something only with recurrent_dropout above 0"),
        ({"attention": "multi_head", "attention_heads": 3}, "must divide"),
        ({"attention": "multi_head_additive", "attention_heads": 4, "encoder_hidden_size": 3}, "must divide"),
        ({"attention": "none", "input_feeding": True}, "need an attention"),
        ({"attention": "none", "bridge": "zero"}, "must see the source"),
        ({"input_feeding": True, "output_attention": True}, "choose one"),
        ({"tied_embeddings": "all", "source_vocabulary_size": 12}, "joint vocabulary"),
        ({"tied_embeddings": "all", "bottleneck_size": 5}, "bottleneck_size"),
        ({"bridge": "copy", "encoder_hidden_size": 3}, "as wide as the decoder"),
        ({"hidden_size": 3}, "no field 'hidden_size'"),
        ({"embedding_dropout": 1.0}, "less than 1"),
        ({"variational_dropout": True}, "needs embedding_dropout or hidden_dropout"),
        (
            {"hidden_dropout": 0.3, "attention": "none", "encoder_layers": 1, "decoder_layers": 1},
            "use output_dropout",
        ),
    ],
)
def test_a_model_that_cannot_be_is_refused_in_one_line(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        SMALL.model_copy(update=change)
    assert "\n" not in str(caught.value)
