"""What the tests of the search share: random tasks, and a search for several sentences at once."""

from random import Random

import pytest
import torch
from oracles_search import Output, Sentence, ToyNetwork

from seq2seq.config import SearchConfig
from seq2seq.search import Hypothesis, search

USUAL = SearchConfig().alpha
PENALTIES = [("none", USUAL), ("average", 1.0), ("average", 0.6), ("gnmt", 0.6), ("gnmt", 2.0), ("average", 0.0)]


def seeds(few: int, many: int) -> list:
    """`few` seeds for the fast suite; the others, up to `many`, are slow."""
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many))]


def run(network: ToyNetwork, sentences: list[Sentence], config: SearchConfig, how=search) -> list:
    """What `how` finds for each sentence."""
    state = network.start(torch.tensor([one.number for one in sentences], dtype=torch.long))
    lengths = torch.tensor([one.source_length for one in sentences], dtype=torch.long)
    demands = {}
    if any(one.prefix for one in sentences):
        demands["prefixes"] = [one.prefix for one in sentences]
    if any(one.constraints for one in sentences):
        demands["constraints"] = [one.constraints for one in sentences]
    return how(network.step, state, lengths, config, **demands)


def same(found: Hypothesis, true: Output) -> None:
    assert tuple(found.tokens) == true.tokens
    assert found.score == pytest.approx(true.score, abs=1e-4)
    assert found.log_prob == pytest.approx(true.log_prob, abs=1e-4)
    assert found.token_log_probs == pytest.approx(true.token_log_probs, abs=1e-4)


def all_same(found: list[Hypothesis], truth: list[Output]) -> None:
    if not truth:
        (found,) = found
        assert found.tokens == []
        assert found.score == -torch.inf
        return
    assert len(found) == len(truth)
    for one, true in zip(found, truth, strict=True):
        same(one, true)


def random_config(random: Random, beam_size: int, longest: int, **more: object) -> SearchConfig:
    """Any limits, any penalties and any rules, with lengths that can be enumerated."""
    penalty, alpha = random.choice(PENALTIES)
    max_length = random.randint(1, longest)
    ratio = random.choice([None, None, 0.5, 1.0, 1.1])
    margin = {} if ratio is None else {"max_length_margin": random.randint(0, 2)}
    return SearchConfig(
        **{
            "beam_size": beam_size,
            "n_best": random.randint(1, beam_size),
            "length_penalty": penalty,
            "alpha": alpha,
            "word_reward": random.choice([0.0, 0.0, 0.1, 1.0]),
            "coverage_penalty": random.choice([0.0, 0.0, 0.2, 1.0]),
            "max_length": max_length,
            "min_length": random.choice([0, 0, random.randint(0, max_length)]),
            "max_length_ratio": ratio,
            "min_length_ratio": random.choice([0.0, 0.0, 0.3, 0.5]),
            "no_repeat_ngram": random.choice([0, 0, 0, 1, 2, 3]),
            "forbidden_tokens": random.choice([(), (), (4,), (5, 1)]),
            "forbid_unk": random.choice([False, False, True]),
        }
        | margin
        | more
    )


def random_sentence(random: Random, vocabulary_size: int, longest_source: int, prefix: int = 0) -> Sentence:
    """Any number and length; half of them with a prefix of at most so many tokens."""
    return Sentence(
        random.randint(0, 50),
        random.randint(0, longest_source),
        random_phrase(random, vocabulary_size, random.choice([0, random.randint(0, prefix)])),
    )


def random_phrase(random: Random, vocabulary_size: int, length: int) -> tuple[int, ...]:
    return tuple(random.randrange(4, vocabulary_size) for _ in range(length))


def together_or_alone(network: ToyNetwork, sentences: list[Sentence], config: SearchConfig, how=search) -> None:
    """A batch is its sentences one by one."""
    for sentence, found in zip(sentences, run(network, sentences, config, how), strict=True):
        (alone,) = run(network, [sentence], config, how)
        assert [one.tokens for one in found] == [one.tokens for one in alone]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone], abs=1e-5)
