"""Sampling: its frequencies are the distribution's, and the batch does not matter."""

import math
from collections import Counter

import oracles_search as oracles
import pytest
import torch
from oracles_search import Sentence, ToyNetwork, ToyState
from searches import run

from seq2seq.config import SearchConfig
from seq2seq.search import search
from seq2seq.search.sampling import chances, scramble

OPTIONS = [
    {},
    {"temperature": 0.5},
    {"temperature": 3.0, "top_k": 2},
    {"top_p": 0.7},
    {"top_k": 3, "top_p": 0.8, "temperature": 2.0},
    {"top_p": 1.0, "min_length": 1, "forbid_unk": True},
    {"no_repeat_ngram": 1},
]


def draw(network: ToyNetwork, numbers: list[int], seeds: list[int], config: SearchConfig) -> list[list[list[int]]]:
    state, lengths = network.start(torch.tensor(numbers)), torch.full((len(numbers),), 4)
    found = search(network.step, state, lengths, config, seeds=seeds)
    return [[one.tokens for one in each] for each in found]


def assert_frequencies(counts: Counter, probabilities: dict, total: int) -> None:
    """Pearson's chi-square, rare outcomes in one class; beyond five standard deviations is no accident."""
    assert set(counts) <= set(probabilities)
    common = [outcome for outcome, probability in probabilities.items() if probability * total >= 10]
    observed = [counts[outcome] for outcome in common]
    expected = [probabilities[outcome] * total for outcome in common]
    observed, expected = [*observed, total - sum(observed)], [*expected, total - math.fsum(expected)]
    classes = [(seen, wanted) for seen, wanted in zip(observed, expected, strict=True) if wanted > 1e-6]
    statistic = math.fsum((seen - wanted) ** 2 / wanted for seen, wanted in classes)
    freedom = len(classes) - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom) + 10


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("prefix", [(), (5,)])
def test_outputs_come_as_often_as_they_are_probable(options: dict[str, object], prefix: tuple[int, ...]) -> None:
    network, sentence = ToyNetwork(vocabulary_size=7, seed=3, peakedness=2.0), Sentence(4, 4, prefix)
    config = SearchConfig(samples=2500, max_length=3, **options)
    (found,) = run(network, [sentence], config)
    counts = Counter(tuple(one.tokens) for one in found)
    assert_frequencies(counts, oracles.distribution(network, sentence, config), len(found))


@pytest.mark.parametrize("size", [60, 64, 200])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_p": 1.0}, {"top_k": 100}])
def test_tokens_of_a_large_vocabulary_come_as_often_as_they_are_probable(size: int, options: dict[str, object]) -> None:
    """More tokens than a block has, and more of them needed than are looked at first."""
    network, sentence = ToyNetwork(vocabulary_size=size, seed=1, peakedness=0.7), Sentence(4, 4)
    config = SearchConfig(samples=4000, max_length=1, min_length=1, **options)
    (found,) = run(network, [sentence], config)
    counts = Counter(tuple(one.tokens) for one in found)
    assert_frequencies(counts, oracles.distribution(network, sentence, config), len(found))


@pytest.mark.parametrize("options", OPTIONS)
def test_scores_are_the_models_own(options: dict[str, object]) -> None:
    network, sentence = ToyNetwork(vocabulary_size=7, seed=3), Sentence(4, 4)
    config = SearchConfig(samples=5, max_length=6, word_reward=0.1, **options)
    for one in run(network, [sentence], config)[0]:
        tokens = tuple(one.tokens)
        true = tuple(
            network.after(4, tokens[:length])[0][token] for length, token in enumerate((*tokens, oracles.EOS_ID))
        )
        assert one.token_log_probs == pytest.approx(true, abs=1e-5)
        output = oracles.finish(network, sentence, tokens, true, config)
        assert one.score == pytest.approx(output.score, abs=1e-4)


@pytest.mark.parametrize("options", OPTIONS)
def test_a_sentence_and_its_seed_give_the_same_samples_in_any_batch(options: dict[str, object]) -> None:
    network = ToyNetwork(vocabulary_size=150, seed=3)
    config = SearchConfig(samples=4, max_length=9, seed=5, **options)
    numbers, seeds = [3, 1, 4, 1, 5, 9, 2, 6], [10, 20, 30, 20, 50, 60, -70, 2**80]
    together = draw(network, numbers, seeds, config)
    assert together[1] == together[3]
    for number, seed, found in zip(numbers, seeds, together, strict=True):
        assert draw(network, [number], [seed], config) == [found]
    assert draw(network, numbers[::-1], seeds[::-1], config) == together[::-1]
    # A sample is the same however many follow it.
    fewer = draw(network, numbers, seeds, config.model_copy(update={"samples": 2}))
    assert fewer == [found[:2] for found in together]


def test_other_seeds_and_other_samples_are_other_chances() -> None:
    network = ToyNetwork(vocabulary_size=150, seed=3, peakedness=0.5)
    config = SearchConfig(samples=8, min_length=5, max_length=9)
    one, two, same = draw(network, [3, 3, 3], [1, 2, 1], config)
    (other,) = draw(network, [3], [1], config.model_copy(update={"seed": 1}))
    assert one == same
    everything = [tuple(tokens) for found in (one, two, other) for tokens in found]
    assert len(set(everything)) == len(everything)
    (default,) = run(network, [Sentence(3, 4)], config)
    assert [one.tokens for one in default] == draw(network, [3], [0], config)[0]


def test_low_temperature_is_greedy() -> None:
    network = ToyNetwork(vocabulary_size=30, seed=3)
    sentences = [Sentence(number, 5) for number in range(9)]
    greedy = run(network, sentences, SearchConfig(beam_size=1, max_length=8))
    for options in ({"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-9}, {"top_p": 1e-46}):
        drawn = run(network, sentences, SearchConfig(samples=2, max_length=8, **options))
        for found, (best,) in zip(drawn, greedy, strict=True):
            assert [one.tokens for one in found] == [best.tokens] * 2


def test_finished_samples_leave_the_batch() -> None:
    network = ToyNetwork(vocabulary_size=12, seed=3)
    found = run(network, [Sentence(number, 5) for number in range(6)], SearchConfig(samples=5, max_length=30))
    assert network.rows_stepped == sum(len(one.tokens) + 1 for each in found for one in each)


def test_the_hash_is_splitmix64() -> None:
    numbers = [0, 1, -1, 2**62 + 12345, -(2**63), 0x1234567890ABCDEF]
    for number, found in zip(numbers, scramble(torch.tensor(numbers)).tolist(), strict=True):
        z = (number + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        assert found % 2**64 == z ^ (z >> 31)


def test_chances_are_even_and_unrelated() -> None:
    keys, tokens = scramble(torch.arange(400)), torch.arange(500).expand(400, -1)
    found = chances(keys, tokens)
    assert 0 < found.min() < 1e-4
    assert 1 - 1e-4 < found.max() < 1
    assert len(found.unique()) == found.numel()
    counts = Counter((found * 50).long().flatten().tolist())
    assert_frequencies(counts, dict.fromkeys(range(50), 1 / 50), found.numel())
    for one, other in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1])):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 5 / math.sqrt(found.numel())


def test_certain_models_are_followed() -> None:
    """A token that is left out of the distribution is never drawn, be its number as lucky as can be."""
    log_probs = torch.full((100,), -torch.inf)
    log_probs[[70, 3]] = math.log(0.5)
    found = search(
        lambda tokens, state: (log_probs.expand(len(tokens), -1), state),
        ToyState(torch.zeros(1, 1)),
        torch.tensor([3]),
        SearchConfig(samples=500, max_length=20),
    )
    assert {token for one in found[0] for token in one.tokens} == {70}
