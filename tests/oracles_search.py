"""Slow truths that the tests compare the search with. Nothing here uses the code under test."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, UNK_ID, SearchConfig


@dataclass(frozen=True)
class ToyState:
    """The hidden vectors of a toy network, [rows, hidden], and what it attended to, [rows, SOURCE_STEPS]."""

    hidden: Tensor
    attention: Tensor | None = None

    def select(self, rows: Tensor) -> "ToyState":
        return ToyState(self.hidden[rows])


SOURCE_STEPS = 12


class ToyNetwork:
    """A random recurrent network as a step function. `peakedness` is how sure of itself it is."""

    def __init__(self, vocabulary_size: int, seed: int, peakedness: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.vocabulary_size = vocabulary_size
        self.embedding = torch.randn(vocabulary_size, 6, generator=generator)
        self.recurrent = torch.randn(6, 6, generator=generator)
        self.output = torch.randn(6, vocabulary_size, generator=generator) * peakedness / 2
        self.look = torch.randn(6, SOURCE_STEPS, generator=generator) * 2
        self.rows_stepped = 0
        self.known: dict[tuple[int, tuple[int, ...]], tuple[list[float], list[float], ToyState]] = {}

    def start(self, sentences: Tensor) -> ToyState:
        """One row per number in `sentences`; equal numbers are equal sentences."""
        features = torch.arange(1, 7)
        return ToyState(torch.sin(sentences[:, None].float() * features * 1.7))

    def step(self, tokens: Tensor, state: ToyState) -> tuple[Tensor, ToyState]:
        self.rows_stepped += len(tokens)
        hidden = torch.tanh(state.hidden @ self.recurrent + self.embedding[tokens])
        attention = torch.softmax(hidden @ self.look, dim=-1)
        return torch.log_softmax(hidden @ self.output, dim=-1), ToyState(hidden, attention)

    def after(self, sentence: int, tokens: tuple[int, ...]) -> tuple[list[float], list[float]]:
        """The log-probabilities of what follows `tokens`, and the attention of all steps up to there, added up."""
        if (sentence, tokens) not in self.known:
            if tokens:
                self.after(sentence, tokens[:-1])
                _, coverage, state = self.known[sentence, tokens[:-1]]
            else:
                coverage, state = [0.0] * SOURCE_STEPS, self.start(torch.tensor([sentence]))
            log_probs, state = self.step(torch.tensor([(BOS_ID, *tokens)[-1]]), state)
            coverage = [old + new for old, new in zip(coverage, state.attention[0].tolist(), strict=True)]
            self.known[sentence, tokens] = log_probs[0].tolist(), coverage, state
        return self.known[sentence, tokens][:2]


@dataclass(frozen=True)
class Output:
    """A finished output: its tokens without `<E>`, its score and one log-probability per token and for `<E>`."""

    tokens: tuple[int, ...]
    score: float
    token_log_probs: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        return math.fsum(self.token_log_probs)


@dataclass(frozen=True)
class Sentence:
    """What is to be translated, and what the translation has to be like."""

    number: int
    source_length: int
    prefix: tuple[int, ...] = ()
    constraints: tuple[tuple[int, ...], ...] = ()


def length_limits(sentence: Sentence, config: SearchConfig) -> tuple[int, int]:
    """The fewest and the most tokens, in exact arithmetic on what the user wrote."""
    longest = config.max_length
    if config.max_length_ratio is not None:
        ratio = Fraction(str(config.max_length_ratio))
        longest = min(longest, math.ceil(ratio * sentence.source_length) + config.max_length_margin)
    shortest = max(config.min_length, math.ceil(Fraction(str(config.min_length_ratio)) * sentence.source_length))
    shortest = min(shortest, config.max_length)
    return shortest, max(longest, shortest, len(sentence.prefix) + sum(map(len, sentence.constraints)))


def score(network: ToyNetwork, sentence: Sentence, output: "Output", config: SearchConfig) -> float:
    """The published penalties, one number at a time."""
    length = len(output.tokens)
    penalties = {
        "none": 1.0,
        "average": max(length, 1) ** config.alpha,
        "gnmt": ((5 + length) / 6) ** config.alpha,
    }
    _, attention = network.after(sentence.number, output.tokens)
    coverage = [math.log(min(one, 1.0)) for one in attention[: sentence.source_length]]
    return (
        output.log_prob / penalties[config.length_penalty]
        + config.word_reward * length
        + config.coverage_penalty * math.fsum(coverage)
    )


def contains(tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    return any(tokens[start : start + len(phrase)] == phrase for start in range(len(tokens) + 1))


def is_repetition(tokens: tuple[int, ...], size: int) -> bool:
    """Whether the last `size` tokens stand somewhere before."""
    earlier = [tokens[start : start + size] for start in range(len(tokens) - size)]
    return len(tokens) >= size > 0 and tokens[-size:] in earlier


def continuations(
    network: ToyNetwork, sentence: Sentence, tokens: tuple[int, ...], config: SearchConfig
) -> dict[int, float]:
    """Every token that may follow, with its log-probability, from the first step on."""
    shortest, longest = length_limits(sentence, config)
    log_probs, _ = network.after(sentence.number, tokens)
    if len(tokens) < len(sentence.prefix):
        given = sentence.prefix[len(tokens)]
        return {given: log_probs[given]}
    allowed = {}
    for token, log_prob in enumerate(log_probs):
        if token in (PAD_ID, BOS_ID, *config.forbidden_tokens) or (token == UNK_ID and config.forbid_unk):
            continue
        if token == EOS_ID and not all(contains(tokens, phrase) for phrase in sentence.constraints):
            continue
        if token == EOS_ID and len(tokens) < shortest:
            continue
        if token != EOS_ID and (len(tokens) >= longest or is_repetition((*tokens, token), config.no_repeat_ngram)):
            continue
        allowed[token] = log_prob
    return allowed


def exhaustive(network: ToyNetwork, sentence: Sentence, config: SearchConfig) -> list["Output"]:
    """Every output there is, best first."""

    def walk(tokens: tuple[int, ...], log_probs: tuple[float, ...]) -> Iterator[Output]:
        for token, log_prob in continuations(network, sentence, tokens, config).items():
            so_far = (*log_probs, log_prob)
            if token == EOS_ID:
                yield finish(network, sentence, tokens, so_far, config)
            else:
                yield from walk((*tokens, token), so_far)

    return sorted(walk((), ()), key=lambda output: -output.score)


def finish(
    network: ToyNetwork,
    sentence: Sentence,
    tokens: tuple[int, ...],
    log_probs: tuple[float, ...],
    config: SearchConfig,
) -> "Output":
    unscored = Output(tokens, math.nan, log_probs)
    return replace(unscored, score=score(network, sentence, unscored, config))


def greedy(network: ToyNetwork, sentence: Sentence, config: SearchConfig) -> "Output | None":
    """The most probable token until `<E>`; nothing where the rules leave none."""
    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    while True:
        allowed = continuations(network, sentence, tokens, config)
        if not allowed:
            return None
        token = max(allowed, key=lambda token: allowed[token])
        log_probs = (*log_probs, allowed[token])
        if token == EOS_ID:
            return finish(network, sentence, tokens, log_probs, config)
        tokens = (*tokens, token)


Candidate = tuple[tuple[int, ...], tuple[float, ...]]
"""Tokens, the last one perhaps `<E>`, and their log-probabilities."""


def extend(network: ToyNetwork, sentence: Sentence, live: list[Candidate], config: SearchConfig) -> list[Candidate]:
    """Every continuation, the most probable first."""
    candidates = [
        ((*tokens, token), (*log_probs, log_prob))
        for tokens, log_probs in live
        for token, log_prob in continuations(network, sentence, tokens, config).items()
    ]
    return sorted(candidates, key=lambda candidate: -math.fsum(candidate[1]))


def keep(candidates: list[Candidate], beam_size: int) -> tuple[list[Candidate], list[Candidate]]:
    """Those that finish and those that live on."""
    done = [candidate for candidate in candidates[:beam_size] if candidate[0][-1] == EOS_ID]
    live = [candidate for candidate in candidates[: 2 * beam_size - 1] if candidate[0][-1] != EOS_ID]
    return done, live[:beam_size]


def tokens_met(tokens: tuple[int, ...], constraints: tuple[tuple[int, ...], ...]) -> int:
    """The tokens of the phrases that are there, and of the longest beginning of another one at the end."""
    whole, begun = 0, [0]
    for phrase in set(constraints):
        if contains(tokens, phrase):
            whole += len(phrase)
        else:
            begun += [size for size in range(len(phrase)) if tokens[len(tokens) - size :] == phrase[:size]]
    return whole + max(begun)


def deal(candidates: list[Candidate], constraints: tuple[tuple[int, ...], ...]) -> list[Candidate]:
    """The first one of every bank, those with most tokens of the constraints first, then the second ones, and so on."""
    banks: dict[int, list[Candidate]] = {}
    for tokens, log_probs in candidates:
        text = tokens[:-1] if tokens[-1] == EOS_ID else tokens
        banks.setdefault(tokens_met(text, constraints), []).append((tokens, log_probs))
    rounds = itertools.zip_longest(*(banks[met] for met in sorted(banks, reverse=True)))
    return [candidate for places in rounds for candidate in places if candidate is not None]


def patient_beam(network: ToyNetwork, sentence: Sentence, config: SearchConfig) -> list["Output"]:
    """Beam search as its definition says, one hypothesis at a time, that goes on until nothing is alive (or, if that is
    asked for, until enough are finished)."""
    live: list[Candidate] = [((), ())]
    finished: list[Output] = []
    enough = math.inf if config.patience is None else config.patience * config.beam_size
    while live and len(finished) < enough:
        candidates = extend(network, sentence, live, config)
        if sentence.constraints:
            candidates = deal(candidates, sentence.constraints)
        done, live = keep(candidates, config.beam_size)
        finished += [finish(network, sentence, tokens[:-1], log_probs, config) for tokens, log_probs in done]
    return sorted(finished, key=lambda output: -output.score)[: config.n_best]


def diverse_beam(network: ToyNetwork, sentence: Sentence, config: SearchConfig) -> list["Output"]:
    """The same for groups that look at what those before them choose."""
    size = config.beam_size // config.beam_groups
    live: list[list[Candidate]] = [[((), ())] for _ in range(config.beam_groups)]
    finished: list[list[Output]] = [[] for _ in live]
    while any(live):
        said: list[int] = []
        for number, group in enumerate(live):
            candidates = extend(network, sentence, group, config)
            worth = {
                candidate: math.fsum(candidate[1]) - config.diversity * said.count(candidate[0][-1])
                for candidate in candidates
            }
            done, live[number] = keep(sorted(candidates, key=lambda candidate: -worth[candidate]), size)
            said += [tokens[-1] for tokens, _ in live[number]]
            finished[number] += [finish(network, sentence, tokens[:-1], logs, config) for tokens, logs in done]
    share = math.ceil(config.n_best / config.beam_groups)
    best = {one for group in finished for one in sorted(group, key=lambda output: -output.score)[:share]}
    return sorted(best, key=lambda output: -output.score)[: config.n_best]


def distribution(network: ToyNetwork, sentence: Sentence, config: SearchConfig) -> dict[tuple[int, ...], float]:
    """The probability of every output that sampling may give."""

    def walk(tokens: tuple[int, ...], probability: float) -> Iterator[tuple[tuple[int, ...], float]]:
        for token, share in chances(continuations(network, sentence, tokens, config), config).items():
            if token == EOS_ID:
                yield tokens, probability * share
            else:
                yield from walk((*tokens, token), probability * share)

    return dict(walk((), 1.0))


def chances(log_probs: dict[int, float], config: SearchConfig) -> dict[int, float]:
    """What each token is drawn with: temperature, then `top_k`, then `top_p`."""
    weights = {token: math.exp(log_prob / config.temperature) for token, log_prob in log_probs.items()}
    best = sorted(weights, key=lambda token: -weights[token])[: config.top_k]
    enough = (config.top_p or math.inf) * math.fsum(weights[token] for token in best)
    kept: list[int] = []
    while best and math.fsum(weights[token] for token in kept) < enough:
        kept.append(best.pop(0))
    total = math.fsum(weights[token] for token in kept)
    return {token: weights[token] / total for token in kept}
