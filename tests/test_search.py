"""Laws of the search, against the slow truths of `oracles`."""

import math
from random import Random

import oracles
import pytest
import torch

from seq2seq.config import BOS_ID, PAD_ID, SearchConfig
from seq2seq.search import Hypothesis, beam_search, greedy_search, search

PENALTIES = [("none", 1.0), ("average", 1.0), ("average", 0.6), ("gnmt", 0.6), ("gnmt", 2.0), ("average", 0.0)]


def run(network: oracles.ToyNetwork, sentences: list[int], lengths: list[int], config: SearchConfig, how=beam_search):
    state = network.start(torch.tensor(sentences))
    return how(network.step, state, torch.tensor(lengths, dtype=torch.long), config)


def same(found: Hypothesis, true: oracles.Output) -> None:
    assert tuple(found.tokens) == true.tokens
    assert found.score == pytest.approx(true.score, abs=1e-4)
    assert found.log_prob == pytest.approx(true.log_prob, abs=1e-4)
    assert found.token_log_probs == pytest.approx(true.token_log_probs, abs=1e-4)


def random_config(random: Random, beam_size: int, longest: int) -> SearchConfig:
    """Any limits and any penalty, with lengths that can be enumerated."""
    penalty, alpha = random.choice(PENALTIES)
    max_length = random.randint(1, longest)
    return SearchConfig(
        beam_size=beam_size,
        n_best=random.randint(1, beam_size),
        length_penalty=penalty,
        alpha=alpha,
        max_length=max_length,
        min_length=random.choice([0, 0, random.randint(0, max_length)]),
        max_length_ratio=random.choice([None, None, 0.5, 1.0, 1.1]),
        min_length_ratio=random.choice([0.0, 0.0, 0.3, 0.5]),
        max_length_margin=random.randint(0, 2),
    )


@pytest.mark.parametrize("seed", range(40))
def test_a_beam_as_wide_as_the_space_is_exhaustive(seed: int) -> None:
    random = Random(seed)
    network = oracles.ToyNetwork(vocabulary_size=6, seed=seed)  # three tokens of text
    config, source_length = random_config(random, beam_size=130, longest=4), random.randint(0, 4)
    truth = oracles.exhaustive(network, seed, source_length, config)
    (found,) = run(network, [seed], [source_length], config)
    assert len(found) == min(config.n_best, len(truth))
    for one, true in zip(found, truth, strict=False):
        same(one, true)


@pytest.mark.parametrize("seed", range(200))
def test_a_beam_that_stops_early_finds_what_the_patient_one_finds(seed: int) -> None:
    random = Random(seed)
    network = oracles.ToyNetwork(vocabulary_size=7, seed=seed, peakedness=random.choice([0.5, 2.0, 6.0]))
    config, source_length = random_config(random, random.randint(1, 6), longest=8), random.randint(0, 9)
    truth = oracles.patient_beam(network, seed, source_length, config)
    (found,) = run(network, [seed], [source_length], config)
    assert len(found) == len(truth)
    for one, true in zip(found, truth, strict=True):
        same(one, true)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("seed", range(20))
def test_a_beam_of_one_is_greedy(seed: int, penalty: tuple[str, float]) -> None:
    random = Random(seed)
    network = oracles.ToyNetwork(vocabulary_size=9, seed=seed)
    config, source_length = random_config(random, beam_size=1, longest=16), random.randint(0, 9)
    config = config.model_copy(update={"length_penalty": penalty[0], "alpha": penalty[1]})
    truth = oracles.greedy(network, seed, source_length, config)
    (greedy,) = run(network, [seed], [source_length], config, greedy_search)
    ((beam,),) = run(network, [seed], [source_length], config, beam_search)
    ((dispatched,),) = run(network, [seed], [source_length], config, search)
    same(greedy, truth)
    same(beam, truth)
    assert dispatched == greedy


@pytest.mark.parametrize("seed", range(40))
def test_a_batch_is_its_sentences_one_by_one(seed: int) -> None:
    random = Random(seed)
    network = oracles.ToyNetwork(vocabulary_size=12, seed=seed)
    config = random_config(random, random.randint(1, 5), longest=10)
    ids = [random.randint(0, 50) for _ in range(9)]
    lengths = [random.randint(0, 9) for _ in ids]
    together = run(network, ids, lengths, config, search)
    for sentence, length, found in zip(ids, lengths, together, strict=True):
        (alone,) = run(network, [sentence], [length], config, search)
        assert [one.tokens for one in found] == [one.tokens for one in alone]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone], abs=1e-5)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_found_is_possible_ordered_and_unrepeated(seed: int) -> None:
    random = Random(seed)
    network = oracles.ToyNetwork(vocabulary_size=10, seed=seed, peakedness=0.5)
    config = random_config(random, random.randint(2, 8), longest=12)
    for length, found in zip([0, 3, 9], run(network, [1, 2, 3], [0, 3, 9], config), strict=True):
        shortest, longest = oracles.length_limits(length, config)
        assert 1 <= len(found) <= config.n_best
        assert len({tuple(one.tokens) for one in found}) == len(found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            assert shortest <= len(one.tokens) <= longest
            assert not {PAD_ID, BOS_ID} & set(one.tokens)
            assert len(one.token_log_probs) == len(one.tokens) + 1
            assert one.log_prob == pytest.approx(math.fsum(one.token_log_probs), abs=1e-5)


def test_finished_sentences_leave_the_batch() -> None:
    network = oracles.ToyNetwork(vocabulary_size=12, seed=3)
    config = SearchConfig(beam_size=1, max_length=40, max_length_ratio=None)
    sentences = list(range(30))
    found = run(network, sentences, [5] * 30, config, greedy_search)
    lengths = [len(hypothesis.tokens) + 1 for hypothesis in found]
    assert len(set(lengths)) > 3
    assert network.rows_stepped == sum(lengths)


def test_stopping_early_saves_work() -> None:
    network = oracles.ToyNetwork(vocabulary_size=12, seed=3, peakedness=6.0)
    config = SearchConfig(beam_size=4, max_length=200, max_length_ratio=None, length_penalty="none")
    run(network, list(range(10)), [5] * 10, config)
    assert network.rows_stepped < 10 * 4 * 50


def test_no_sentences_is_no_result() -> None:
    network = oracles.ToyNetwork(vocabulary_size=6, seed=0)
    assert run(network, [], [], SearchConfig(beam_size=3)) == []
    assert run(network, [], [], SearchConfig(beam_size=1), greedy_search) == []


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_model_without_probabilities_gives_an_empty_hypothesis(beam_size: int, value: float) -> None:
    network = oracles.ToyNetwork(vocabulary_size=8, seed=0)

    def step(tokens: torch.Tensor, state: oracles.ToyState) -> tuple[torch.Tensor, oracles.ToyState]:
        return torch.full((len(tokens), 8), value), state

    state = network.start(torch.tensor([0, 1]))
    for (found,) in search(step, state, torch.tensor([2, 3]), SearchConfig(beam_size=beam_size)):
        assert found.tokens == []
        assert found.log_prob == -math.inf


def test_a_step_function_may_keep_what_it_returned() -> None:
    """The search does not write into the step function's tensors."""
    table = torch.log_softmax(torch.randn(9, generator=torch.Generator().manual_seed(1)), dim=-1)
    before = table.clone()
    state = oracles.ToyState(torch.zeros(2, 1))
    for beam_size in (1, 3):
        config = SearchConfig(beam_size=beam_size, min_length=2, max_length=5)
        search(lambda tokens, state: (table.expand(len(tokens), -1), state), state, torch.tensor([3, 3]), config)
    assert torch.equal(table, before)
