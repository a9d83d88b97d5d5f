"""Lexical constraints and diverse groups, against the slow truths of `oracles_search`."""

from random import Random

import oracles_search as oracles
import pytest
import torch
from oracles_search import Sentence, ToyNetwork
from searches import all_same, random_config, random_phrase, random_sentence, run, seeds, together_or_alone

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.constraints import Constraints

FREE = {"no_repeat_ngram": 0, "forbidden_tokens": ()}
"""Constraints may not ask for what these forbid."""


def constrained(random: Random, vocabulary_size: int, longest_source: int, most: int) -> Sentence:
    """A sentence with up to `most` phrases of up to three tokens, which often overlap, and perhaps a prefix."""
    plain = random_sentence(random, vocabulary_size, longest_source, prefix=2)
    phrases = [random_phrase(random, vocabulary_size, random.randint(0, 3)) for _ in range(random.randint(0, most))]
    return Sentence(plain.number, plain.source_length, plain.prefix, tuple(phrases))


@pytest.mark.parametrize("seed", seeds(15, 40))
def test_a_beam_as_wide_as_the_space_finds_all_that_meets_the_constraints(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=6, seed=seed)  # three tokens of text
    sentence = Sentence(seed, random.randint(0, 4), (), (random_phrase(random, 6, 2), random_phrase(random, 6, 1)))
    config = random_config(random, 130, longest=4, **FREE)
    (found,) = run(network, [sentence], config)
    all_same(found, oracles.exhaustive(network, sentence, config)[: config.n_best])


@pytest.mark.parametrize("seed", seeds(50, 150))
def test_places_are_dealt_as_defined(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=7, seed=seed, peakedness=random.choice([0.5, 2.0, 6.0]))
    sentence = constrained(random, 7, 9, most=3)
    config = random_config(random, random.randint(1, 6), longest=8, **FREE)
    (found,) = run(network, [sentence], config)
    all_same(found, oracles.patient_beam(network, sentence, config))


@pytest.mark.parametrize("seed", seeds(6, 40))
@pytest.mark.parametrize("beam_size", [1, 2, 5])
def test_every_constraint_is_met(seed: int, beam_size: int) -> None:
    """However narrow the beam, however unlikely the phrases, and however tight the limit."""
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=70, seed=seed, peakedness=8.0)
    sentences = [constrained(random, 70, 9, most=4) for _ in range(5)]
    config = SearchConfig(beam_size=beam_size, n_best=beam_size, max_length=random.choice([1, 8, 20]))
    for sentence, found in zip(sentences, run(network, sentences, config), strict=True):
        for one in found:
            assert one.score > -torch.inf
            assert all(oracles.contains(tuple(one.tokens), phrase) for phrase in sentence.constraints)
            assert tuple(one.tokens[: len(sentence.prefix)]) == sentence.prefix


@pytest.mark.parametrize("seed", seeds(5, 20))
def test_constrained_sentences_do_not_disturb_one_another(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=12, seed=seed)
    config = random_config(random, random.randint(1, 5), longest=10, **FREE, forbid_unk=False)
    together_or_alone(network, [constrained(random, 12, 9, most=2) for _ in range(9)], config)


@pytest.mark.parametrize("seed", seeds(12, 50))
def test_progress_is_the_longest_beginning_at_the_end(seed: int) -> None:
    random = Random(seed)
    phrases = [tuple(random.randint(4, 5) for _ in range(random.randint(1, 5))) for _ in range(3)]
    constraints = Constraints.of(SearchConfig(), [phrases], torch.device("cpu"))
    distinct, tokens, progress = list(dict.fromkeys(phrases)), (), constraints.start()
    for _ in range(12):
        tokens = (*tokens, random.randint(4, 5))
        progress = constraints.advance(progress, torch.tensor([[tokens[-1]]]))
        expected = [
            len(phrase)
            if oracles.contains(tokens, phrase)
            else max(size for size in range(len(phrase)) if tokens[len(tokens) - size :] == phrase[:size])
            for phrase in distinct
        ]
        assert progress.flatten().tolist() == expected
        assert constraints.tokens_met(progress).item() == oracles.tokens_met(tokens, tuple(phrases))
        assert constraints.is_met(progress).item() == all(oracles.contains(tokens, phrase) for phrase in phrases)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"no_repeat_ngram": 2}, "what no_repeat_ngram forbids, got both and no_repeat_ngram=2; set it to 0"),
        ({"forbidden_tokens": (5,)}, "no forbidden token, got id 5"),
        ({"samples": 2}, "constraints need a beam, got them and samples=2"),
        ({"beam_size": 4, "beam_groups": 2}, "both divide the beam, got both and beam_groups=2; set it to 1"),
    ],
)
def test_what_does_not_go_with_constraints_is_refused(options: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        run(ToyNetwork(vocabulary_size=9, seed=0), [Sentence(1, 3, (), ((4, 5),))], SearchConfig(**options))


@pytest.mark.parametrize("seed", seeds(25, 100))
def test_groups_steer_away_from_those_before_them_as_defined(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=7, seed=seed, peakedness=random.choice([0.5, 2.0, 6.0]))
    groups, size = random.randint(2, 3), random.randint(1, 3)
    fixed = {"beam_groups": groups, "diversity": random.choice([0.0, 0.3, 2.0, 50.0])}
    config, sentence = random_config(random, groups * size, 6, **fixed), random_sentence(random, 7, 9, prefix=3)
    (found,) = run(network, [sentence], config)
    all_same(found, oracles.diverse_beam(network, sentence, config))


def test_groups_do_differ() -> None:
    network = ToyNetwork(vocabulary_size=30, seed=1)
    plain = SearchConfig(beam_size=6, n_best=6, max_length=8)
    alike, diverse = (
        {tuple(one.tokens[:1]) for one in run(network, [Sentence(1, 5)], config)[0]}
        for config in (plain, plain.model_copy(update={"beam_groups": 6, "diversity": 20.0}))
    )
    assert len(alike) < len(diverse) == 6


@pytest.mark.parametrize("seed", seeds(4, 15))
def test_groups_of_a_batch_are_those_of_its_sentences(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=12, seed=seed)
    config = random_config(random, 4, longest=10, beam_groups=2, diversity=0.7)
    together_or_alone(network, [random_sentence(random, 12, 9, prefix=2) for _ in range(9)], config)
