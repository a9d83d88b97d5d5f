"""Scheduled sampling against its formulas and its twin; word dropout zeroes words."""

import math
from pathlib import Path

import pytest
import torch
from tiny import PAIRS, fit, model_config, module_of, training_config, vocabulary

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID
from seq2seq.data import Batch
from seq2seq.encoder import ScaledEmbedding
from seq2seq.errors import ConfigError
from seq2seq.model import Seq2Seq, shift_right
from seq2seq.training import sampling
from seq2seq.training.sampling import (
    choose_places,
    draw_tokens,
    parallel_features,
    stepwise_features,
    teacher_forcing_ratio,
)

FORMS = {"parallel": parallel_features, "loop": stepwise_features}


def batch() -> Batch:
    """All words."""
    sides = []
    for texts in zip(*PAIRS, strict=True):
        rows = [torch.tensor([*ids, EOS_ID]) for ids in vocabulary().encode(texts)]
        lengths = torch.tensor([len(row) for row in rows])
        sides += [torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD_ID), lengths]
    return Batch(*sides, torch.arange(len(PAIRS)))


@pytest.mark.parametrize("decay", ["linear", "exponential", "inverse_sigmoid"])
@pytest.mark.parametrize("half", [1, 10, 4000])
def test_the_ratio_falls_to_one_half_where_it_should(decay: str, half: int) -> None:
    config = training_config(teacher_forcing=decay, teacher_forcing_half=half)
    ratios = [teacher_forcing_ratio(config, step) for step in range(3 * half + 1)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[half] == pytest.approx(0.5)
    assert all(0 <= ratio <= 1 for ratio in ratios)
    floored = config.model_copy(update={"teacher_forcing_floor": 0.6})
    assert teacher_forcing_ratio(floored, 10**9) == 0.6


def test_the_decays_are_the_published_ones() -> None:
    def ratio(decay: str, step: int) -> float:
        return teacher_forcing_ratio(training_config(teacher_forcing=decay, teacher_forcing_half=100), step)

    k = next(k / 1000 for k in range(1000, 10**6) if k / 1000 * math.log(k / 1000) >= 100)
    for step in (0, 30, 170):
        assert ratio("linear", step) == pytest.approx(1 - step / 200)
        assert ratio("exponential", step) == pytest.approx((0.5**0.01) ** step)
        assert ratio("inverse_sigmoid", step) == pytest.approx(k / (k + math.exp(step / k)), rel=1e-3)
    assert teacher_forcing_ratio(training_config(), 10**6) == 1.0


def test_tokens_are_drawn_as_likely_as_the_model_says() -> None:
    torch.manual_seed(0)
    model = Seq2Seq(model_config())
    features = torch.randn(1, model.decoder.feature_size) * 3
    expected = model.classify(features)[0]
    expected[[PAD_ID, BOS_ID]] = -math.inf
    drawn = draw_tokens(model, features.expand(20_000, -1)).bincount(minlength=len(expected))
    torch.testing.assert_close(drawn / 20_000, expected.softmax(0), atol=0.015, rtol=0)
    assert drawn[PAD_ID] == drawn[BOS_ID] == 0


def test_places_are_chosen_at_the_ratio_and_never_the_start_or_padding() -> None:
    torch.manual_seed(0)
    inputs = torch.tensor([[BOS_ID, 5, 6, 7, EOS_ID, PAD_ID]]).repeat(5000, 1)
    share = choose_places(inputs, 0.3).float().mean(dim=0)
    torch.testing.assert_close(share, torch.tensor([0, 0.7, 0.7, 0.7, 0.7, 0]), atol=0.03, rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("ratio", [1.0, 0.0])
def test_both_forms_read_what_was_drawn(
    form: str, feeding: bool, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model that draws the true tokens, or with none drawn, it is teacher forcing."""
    torch.manual_seed(0)
    model, rows = Seq2Seq(model_config(input_feeding=feeding)), batch()
    inputs = shift_right(rows.target)
    true = inputs[(inputs != PAD_ID) & (inputs != BOS_ID)]
    by_step = torch.cat([column[(column != PAD_ID) & (column != BOS_ID)] for column in inputs.unbind(1)])
    answers = list(true if form == "parallel" else by_step)

    def oracle(_: Seq2Seq, features: torch.Tensor) -> torch.Tensor:
        return torch.stack([answers.pop(0) for _ in features])

    monkeypatch.setattr(sampling, "draw_tokens", oracle)
    found = FORMS[form](model, rows, ratio)
    torch.testing.assert_close(found, model.features(rows.source, rows.source_lengths, rows.target))
    assert len(answers) == (0 if ratio == 0.0 else len(true))


def test_a_drawn_token_is_what_the_model_says_after_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pass draws at each place from the features of the place before; greedily here, against the logits."""
    torch.manual_seed(0)
    model, rows = Seq2Seq(model_config()), batch()
    monkeypatch.setattr(sampling, "draw_tokens", lambda model, features: model.classify(features).argmax(-1))
    found = parallel_features(model, rows, 0.0)
    inputs = shift_right(rows.target)
    said = model(rows.source, rows.source_lengths, rows.target).argmax(-1)
    mixed = torch.where((inputs == PAD_ID) | (inputs == BOS_ID), inputs, said.roll(1, dims=1))
    state = model.start(model.encode(rows.source, rows.source_lengths))
    torch.testing.assert_close(found, model.decoder(mixed, state).features)
    assert not torch.equal(mixed, inputs)
    # In the loop a drawn token is the prefix of the next one: greedy decoding, as long as the target is.
    found = stepwise_features(model, rows, 0.0)
    tokens, state = inputs[:, 0], model.start(model.encode(rows.source, rows.source_lengths))
    for time in range(inputs.shape[1]):
        here = torch.where((inputs[:, time] == PAD_ID) | (inputs[:, time] == BOS_ID), inputs[:, time], tokens)
        log_probs, state = model.step(here, state)
        torch.testing.assert_close(model.classify(found[:, time]).log_softmax(-1), log_probs)
        tokens = log_probs.argmax(-1)


@pytest.mark.parametrize("form", FORMS)
def test_a_ratio_of_one_is_ordinary_training_to_the_bit(form: str, tmp_path: Path) -> None:
    model = model_config(hidden_dropout=0.2)
    options = {"teacher_forcing": "linear", "teacher_forcing_half": 1, "sampled_inputs": form}
    ordinary = fit(tmp_path, training_config(), model)
    never = fit(tmp_path, training_config(**options, teacher_forcing_floor=1.0), model)
    sometimes = fit(tmp_path, training_config(**options), model)
    same = [torch.equal(one, other) for one, other in zip(ordinary.parameters(), never.parameters(), strict=True)]
    assert all(same)
    same = [torch.equal(one, other) for one, other in zip(ordinary.parameters(), sometimes.parameters(), strict=True)]
    assert not any(same)


@pytest.mark.parametrize("dropout", ["variational_dropout", "recurrent_dropout"])
def test_the_loop_refuses_dropout_that_a_step_does_not_know(dropout: str) -> None:
    model = model_config(hidden_dropout=0.1, **{dropout: True if dropout == "variational_dropout" else 0.1})
    options = {"teacher_forcing": "linear"}
    module_of(training_config(**options), model)
    with pytest.raises(ConfigError, match="use sampled_inputs='parallel'"):
        module_of(training_config(**options, sampled_inputs="loop"), model)


def test_word_dropout_zeroes_whole_words_in_training_alone() -> None:
    torch.manual_seed(0)
    embedding = ScaledEmbedding(9, 4, word_dropout=0.25)
    tokens = torch.randint(4, 9, (2000, 3))
    plain = embedding.eval()(tokens)
    dropped = embedding.train()(tokens)
    is_zero = (dropped == 0).all(dim=-1)
    assert is_zero.float().mean() == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(dropped[~is_zero], plain[~is_zero] / 0.75)
    assert (is_zero.any(dim=1) & ~is_zero.all(dim=1)).any(), "places are dropped, not rows"


@pytest.mark.parametrize("side", ["source", "target"])
def test_word_dropout_is_of_the_side_it_names(side: str) -> None:
    model = Seq2Seq(model_config(**{f"{side}_word_dropout": 0.9}))
    torch.manual_seed(0)
    rows = batch()
    embeddings = {"source": model.encoder.embedding, "target": model.decoder.embedding}
    assert {name: one.word_dropout for name, one in embeddings.items()} == {"source": 0.0, "target": 0.0, side: 0.9}
    first, second = (model.features(rows.source, rows.source_lengths, rows.target) for _ in range(2))
    assert not torch.equal(first, second)
    model.eval()
    first, second = (model.features(rows.source, rows.source_lengths, rows.target) for _ in range(2))
    assert torch.equal(first, second)
