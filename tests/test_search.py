"""Laws of greedy and beam search, against the slow truths of `oracles_search`."""

import math
from random import Random

import oracles_search as oracles
import pytest
import torch
from oracles_search import Sentence, ToyNetwork
from searches import PENALTIES, all_same, random_config, random_sentence, run, same, seeds, together_or_alone

from seq2seq.config import BOS_ID, PAD_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search import beam_search, greedy_search, search


@pytest.mark.parametrize("seed", seeds(25, 60))
def test_a_beam_as_wide_as_the_space_is_exhaustive(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=6, seed=seed)  # three tokens of text
    config, sentence = random_config(random, 130, longest=4), random_sentence(random, 6, 4, prefix=4)
    truth = oracles.exhaustive(network, sentence, config)
    (found,) = run(network, [sentence], config, beam_search)
    all_same(found, truth[: config.n_best])


@pytest.mark.parametrize("seed", seeds(100, 250))
def test_a_beam_that_stops_early_finds_what_the_patient_one_finds(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=7, seed=seed, peakedness=random.choice([0.5, 2.0, 6.0]))
    config, sentence = random_config(random, random.randint(1, 6), longest=8), random_sentence(random, 7, 9, prefix=5)
    if config.beam_size > 1 and random.random() < 0.3:
        config = config.model_copy(update={"patience": random.choice([1.0, 1.5, 3.0])})
    (found,) = run(network, [sentence], config, beam_search)
    all_same(found, oracles.patient_beam(network, sentence, config))


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("seed", seeds(6, 20))
def test_a_beam_of_one_is_greedy(seed: int, penalty: tuple[str, float]) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=9, seed=seed)
    fixed = {"length_penalty": penalty[0], "alpha": penalty[1], "coverage_penalty": 0.0}
    config, sentence = random_config(random, 1, longest=16, **fixed), random_sentence(random, 9, 9, prefix=6)
    truth = oracles.greedy(network, sentence, config)
    (greedy,) = run(network, [sentence], config, greedy_search)
    (beam,) = run(network, [sentence], config, beam_search)
    (dispatched,) = run(network, [sentence], config, search)
    all_same([greedy], [truth] if truth else [])
    all_same(beam, [truth] if truth else [])
    assert dispatched == [greedy]


@pytest.mark.parametrize("seed", seeds(16, 60))
def test_a_batch_is_its_sentences_one_by_one(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=12, seed=seed)
    config = random_config(random, random.randint(1, 5), longest=10)
    together_or_alone(network, [random_sentence(random, 12, 9, prefix=4) for _ in range(9)], config)


@pytest.mark.parametrize("seed", seeds(16, 60))
def test_patience_does_not_look_at_the_other_sentences(seed: int) -> None:
    """A sentence that needs a wide beam keeps the beams of its batch wide, but not the counts of what has finished."""
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=7, seed=seed, peakedness=6.0)
    patience = random.choice([0.4, 0.6, 0.8])
    config = SearchConfig(beam_size=8, patience=patience, length_penalty="none", max_length=12)
    together_or_alone(network, [random_sentence(random, 7, 9) for _ in range(9)], config)


@pytest.mark.parametrize("seed", seeds(12, 40))
def test_what_is_found_is_possible_ordered_and_unrepeated(seed: int) -> None:
    random = Random(seed)
    network = ToyNetwork(vocabulary_size=10, seed=seed, peakedness=0.5)
    config = random_config(random, random.randint(2, 8), longest=12, no_repeat_ngram=0)
    sentences = [Sentence(1, 0), Sentence(2, 3, (5, 5)), Sentence(3, 9)]
    for sentence, found in zip(sentences, run(network, sentences, config), strict=True):
        shortest, longest = oracles.length_limits(sentence, config)
        assert 1 <= len(found) <= config.n_best
        assert len({tuple(one.tokens) for one in found}) == len(found)
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
        for one in found:
            assert shortest <= len(one.tokens) <= longest
            assert one.tokens[: len(sentence.prefix)] == list(sentence.prefix)
            assert not {PAD_ID, BOS_ID} & set(one.tokens)
            assert not set(config.forbidden_tokens) & set(one.tokens[len(sentence.prefix) :])
            assert len(one.token_log_probs) == len(one.tokens) + 1
            assert one.log_prob == pytest.approx(math.fsum(one.token_log_probs), abs=1e-5)


def test_finished_sentences_leave_the_batch() -> None:
    network = ToyNetwork(vocabulary_size=12, seed=3)
    config = SearchConfig(beam_size=1, max_length=40, max_length_ratio=None)
    found = run(network, [Sentence(number, 5) for number in range(30)], config, greedy_search)
    lengths = [len(hypothesis.tokens) + 1 for hypothesis in found]
    assert len(set(lengths)) > 3
    assert network.rows_stepped == sum(lengths)


def test_stopping_early_saves_work() -> None:
    network = ToyNetwork(vocabulary_size=12, seed=3, peakedness=6.0)
    config = SearchConfig(beam_size=4, max_length=200, max_length_ratio=None, length_penalty="none")
    run(network, [Sentence(number, 5) for number in range(10)], config)
    assert network.rows_stepped < 10 * 4 * 50


def test_hypotheses_that_cannot_win_leave_the_beam() -> None:
    """One token is all but certain for ten steps. The end was found at the first one, and is as good as any other."""
    rows: list[int] = []

    def step(tokens: torch.Tensor, state: oracles.ToyState) -> tuple[torch.Tensor, oracles.ToyState]:
        rows.append(len(tokens))
        log_probs = torch.full((len(tokens), 6), -30.0)
        log_probs[:, 4 if len(rows) <= 10 else 3] = -1e-6
        return log_probs, state

    config = SearchConfig(beam_size=3, length_penalty="none", max_length=50, max_length_ratio=None)
    ((found,),) = search(step, oracles.ToyState(torch.zeros(1, 1)), torch.tensor([5]), config)
    assert found.tokens == [4] * 10
    assert rows == [1] * 11


@pytest.mark.parametrize("patience", [0.4, 1.0, 2.0])
def test_patience_bounds_the_work(patience: float) -> None:
    network = ToyNetwork(vocabulary_size=12, seed=3)
    config = SearchConfig(beam_size=5, max_length=200, max_length_ratio=None, alpha=2.0)
    sentences = [Sentence(number, 5) for number in range(10)]
    run(network, sentences, config)
    exact, network.rows_stepped = network.rows_stepped, 0
    run(network, sentences, config.model_copy(update={"patience": patience}))
    assert network.rows_stepped < exact / 2


def test_no_sentences_is_no_result() -> None:
    network = ToyNetwork(vocabulary_size=6, seed=0)
    for config in (SearchConfig(beam_size=3), SearchConfig(beam_size=1), SearchConfig(samples=2)):
        assert run(network, [], config) == []


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 4}, {"samples": 2}, {"samples": 2, "top_p": 0.5}])
@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_model_without_probabilities_gives_an_empty_hypothesis(options: dict[str, object], value: float) -> None:
    def step(tokens: torch.Tensor, state: oracles.ToyState) -> tuple[torch.Tensor, oracles.ToyState]:
        return torch.full((len(tokens), 8), value), state

    state = oracles.ToyState(torch.zeros(2, 1))
    both = search(step, state, torch.tensor([2, 3]), SearchConfig(**options))
    assert len(both) == 2
    for found in both:
        assert found
        for one in found:
            assert one.tokens == []
            assert one.log_prob == -math.inf


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 3, "n_best": 2}, {"samples": 2}])
def test_a_step_function_may_be_more_precise(options: dict[str, object]) -> None:
    network, config = ToyNetwork(vocabulary_size=8, seed=0), SearchConfig(max_length=6, **options)

    def precise(tokens: torch.Tensor, state: oracles.ToyState) -> tuple[torch.Tensor, oracles.ToyState]:
        log_probs, state = network.step(tokens, state)
        return log_probs.double(), state

    start = network.start(torch.tensor([1, 2]))
    ours, theirs = (search(step, start, torch.tensor([3, 4]), config) for step in (precise, network.step))
    assert [[one.tokens for one in found] for found in ours] == [[one.tokens for one in found] for found in theirs]


def test_a_step_function_may_keep_what_it_returned() -> None:
    """The search does not write into the step function's tensors."""
    table = torch.log_softmax(torch.randn(9, generator=torch.Generator().manual_seed(1)), dim=-1)
    before = table.clone()
    state = oracles.ToyState(torch.zeros(2, 1))
    for options in (
        {"beam_size": 1},
        {"beam_size": 3},
        {"beam_size": 4, "beam_groups": 2},
        {"samples": 2},
        {"forbid_unk": True, "no_repeat_ngram": 2},
    ):
        config = SearchConfig(min_length=2, max_length=5, **options)
        search(lambda tokens, state: (table.expand(len(tokens), -1), state), state, torch.tensor([3, 3]), config)
    assert torch.equal(table, before)


@pytest.mark.parametrize(
    "options",
    [{"beam_size": 1}, {"n_best": 4}, {"beam_size": 4, "n_best": 4, "beam_groups": 2}, {"samples": 4}],
    ids=str,
)
def test_a_hypothesis_says_whether_it_is_at_its_limit(options: dict[str, int]) -> None:
    """Each sentence has its own, and those that are done earlier leave the batch."""
    random = Random(1)
    network = ToyNetwork(vocabulary_size=6, seed=1)
    config = SearchConfig(max_length=6, max_length_ratio=1.0, max_length_margin=0, **options)
    sentences = [random_sentence(random, 6, 9, prefix=2) for _ in range(12)]
    limits = [oracles.length_limits(sentence, config)[1] for sentence in sentences]
    found = [
        (one.at_limit, len(one.tokens) == limit)
        for limit, own in zip(limits, run(network, sentences, config, search), strict=True)
        for one in own
    ]
    assert set(found) == {(True, True), (False, False)}


def test_coverage_needs_attention() -> None:
    network = ToyNetwork(vocabulary_size=8, seed=0)

    def step(tokens: torch.Tensor, state: oracles.ToyState) -> tuple[torch.Tensor, oracles.ToyState]:
        log_probs, state = network.step(tokens, state)
        return log_probs, oracles.ToyState(state.hidden)

    config = SearchConfig(coverage_penalty=0.2)
    with pytest.raises(ConfigError, match=r"needs a model with attention, got 0.2 and one without; set it to 0"):
        search(step, network.start(torch.tensor([1])), torch.tensor([3]), config)
    with pytest.raises(ConfigError, match="use beam_search"):
        run(network, [Sentence(1, 3)], config, greedy_search)


def test_coverage_of_a_token_that_is_never_looked_at_is_finite() -> None:
    def step(tokens: torch.Tensor, state: oracles.ToyState) -> tuple[torch.Tensor, oracles.ToyState]:
        log_probs = torch.full((len(tokens), 6), 1 / 6).log()
        return log_probs, oracles.ToyState(state.hidden, torch.tensor([[1.0, 0.0, 0.0]]).expand(len(tokens), -1))

    config = SearchConfig(beam_size=2, coverage_penalty=1.0, max_length=2)
    ((found,),) = search(step, oracles.ToyState(torch.zeros(1, 1)), torch.tensor([2]), config)
    assert -200 < found.score < -80


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"forbidden_tokens": (9,)}, "forbidden_tokens must be below the vocabulary's 9 tokens, got id 9"),
        ({"forbidden_tokens": (3,)}, "tokens of text, got 3"),
        ({"beam_size": 4, "beam_groups": 3}, "beam_groups must divide beam_size, got 3 and 4; use beam_size=6"),
        ({"beam_groups": 5, "patience": 1.0}, "lost its patience"),
        ({"n_best": 3, "patience": 0.5}, "at least n_best"),
        ({"beam_size": 1, "patience": 2.0}, "a beam of 1 ends"),
        ({"temperature": 2.0}, "temperature is for sampling"),
        ({"top_k": 2}, "top_k is for sampling, got top_k=2 and samples=0; give samples, or leave it out"),
        ({"top_p": 0.5}, "top_p is for sampling"),
        ({"samples": 3, "beam_size": 3}, "beam_size chooses among a beam's"),
        ({"samples": 3, "n_best": 2}, "n_best chooses among a beam's"),
        ({"samples": 3, "patience": 2.0}, "patience chooses among"),
        ({"samples": 3, "coverage_penalty": 0.2}, "coverage_penalty chooses among"),
        ({"samples": 3, "beam_groups": 5}, "beam_groups chooses among"),
        ({"length_penalty": "none", "alpha": 0.7}, "alpha does something only with length_penalty 'average' or 'gnmt'"),
        ({"diversity": 0.7}, "diversity does something only with beam_groups of at least 2, got diversity=0.7"),
        ({"seed": 3}, "seed does something only with samples, got seed=3; leave it out"),
        ({"max_length_ratio": None, "max_length_margin": 5}, "max_length_margin does something only with max_length_r"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(options: dict[str, object], fault: str) -> None:
    with pytest.raises(ConfigError, match=fault):
        run(ToyNetwork(vocabulary_size=9, seed=0), [Sentence(1, 3)], SearchConfig(**options))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"prefixes": [[4]]}, "as many prefixes as sentences, got 1 and 2"),
        ({"constraints": [[]]}, "as many constraints as sentences, got 1 and 2"),
        ({"seeds": [1, 2]}, "seeds are for sampling"),
        ({"prefixes": [[4], [3]]}, "a prefix must have tokens of text alone, got id 3"),
        ({"prefixes": [[4], [-1]]}, "a prefix must have tokens of text alone, got id -1"),
        ({"prefixes": [[4], [9]]}, "prefixes must be below the vocabulary's 9 tokens, got id 9"),
        ({"constraints": [[], [[4, 3]]]}, "a constraint must have tokens of text alone, got id 3"),
        ({"constraints": [[], [[9]]]}, "constraints must be below the vocabulary's 9 tokens, got id 9"),
    ],
)
@pytest.mark.parametrize("beam_size", [1, 3])
def test_arguments_that_cannot_be_are_refused(arguments: dict[str, object], fault: str, beam_size: int) -> None:
    network = ToyNetwork(vocabulary_size=9, seed=0)
    state, lengths = network.start(torch.tensor([1, 2])), torch.tensor([3, 3])
    with pytest.raises(ConfigError, match=fault):
        search(network.step, state, lengths, SearchConfig(beam_size=beam_size), **arguments)


def test_a_prefix_may_say_what_is_forbidden_and_exceed_the_limit() -> None:
    network = ToyNetwork(vocabulary_size=9, seed=0)
    config = SearchConfig(beam_size=3, max_length=2, forbidden_tokens=(4,), forbid_unk=True, no_repeat_ngram=1)
    ((found,),) = run(network, [Sentence(1, 3, (4, 1, 4, 4))], config)
    assert found.tokens == [4, 1, 4, 4]
    same(found, oracles.patient_beam(network, Sentence(1, 3, (4, 1, 4, 4)), config)[0])
