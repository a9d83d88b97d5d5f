"""Slow truths that the tests compare the library with. Nothing here uses the code under test."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, SearchConfig


@dataclass(frozen=True)
class ToyState:
    """The hidden vectors of a toy network, [rows, hidden]."""

    hidden: Tensor

    def select(self, rows: Tensor) -> "ToyState":
        return ToyState(self.hidden[rows])


class ToyNetwork:
    """A random recurrent network as a step function. `peakedness` is how sure of itself it is."""

    def __init__(self, vocabulary_size: int, seed: int, peakedness: float = 3.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.vocabulary_size = vocabulary_size
        self.embedding = torch.randn(vocabulary_size, 6, generator=generator)
        self.recurrent = torch.randn(6, 6, generator=generator)
        self.output = torch.randn(6, vocabulary_size, generator=generator) * peakedness / 2
        self.rows_stepped = 0

    def start(self, sentences: Tensor) -> ToyState:
        """One row per number in `sentences`; equal numbers are equal sentences."""
        features = torch.arange(1, 7)
        return ToyState(torch.sin(sentences[:, None].float() * features * 1.7))

    def step(self, tokens: Tensor, state: ToyState) -> tuple[Tensor, ToyState]:
        self.rows_stepped += len(tokens)
        hidden = torch.tanh(state.hidden @ self.recurrent + self.embedding[tokens])
        return torch.log_softmax(hidden @ self.output, dim=-1), ToyState(hidden)


@dataclass(frozen=True)
class Output:
    """A finished output: its tokens without `<E>`, its score and one log-probability per token and for `<E>`."""

    tokens: tuple[int, ...]
    score: float
    token_log_probs: tuple[float, ...]

    @property
    def log_prob(self) -> float:
        return math.fsum(self.token_log_probs)


def length_limits(source_length: int, config: SearchConfig) -> tuple[int, int]:
    """The fewest and the most tokens, in exact arithmetic on what the user wrote."""
    longest = config.max_length
    if config.max_length_ratio is not None:
        ratio = Fraction(str(config.max_length_ratio))
        longest = min(longest, math.ceil(ratio * source_length) + config.max_length_margin)
    shortest = max(config.min_length, math.ceil(Fraction(str(config.min_length_ratio)) * source_length))
    return min(shortest, longest), longest


def score(log_prob: float, length: int, config: SearchConfig) -> float:
    """The published length penalties, one number at a time."""
    penalties = {
        "none": 1.0,
        "average": max(length, 1) ** config.alpha,
        "gnmt": ((5 + length) / 6) ** config.alpha,
    }
    return log_prob / penalties[config.length_penalty]


def continuations(
    network: ToyNetwork, sentence: int, tokens: tuple[int, ...], source_length: int, config: SearchConfig
) -> dict[int, float]:
    """Every token that may follow, with its log-probability, from the first step on."""
    shortest, longest = length_limits(source_length, config)
    state = network.start(torch.tensor([sentence]))
    for token in (BOS_ID, *tokens):
        log_probs, state = network.step(torch.tensor([token]), state)
    allowed = {}
    for token, log_prob in enumerate(log_probs[0].tolist()):
        if token in (PAD_ID, BOS_ID):
            continue
        if token == EOS_ID and len(tokens) < shortest:
            continue
        if token != EOS_ID and len(tokens) >= longest:
            continue
        allowed[token] = log_prob
    return allowed


def exhaustive(network: ToyNetwork, sentence: int, source_length: int, config: SearchConfig) -> list[Output]:
    """Every output there is, best first."""

    def walk(tokens: tuple[int, ...], log_probs: tuple[float, ...]) -> Iterator[Output]:
        for token, log_prob in continuations(network, sentence, tokens, source_length, config).items():
            so_far = (*log_probs, log_prob)
            if token == EOS_ID:
                yield Output(tokens, score(math.fsum(so_far), len(tokens), config), so_far)
            else:
                yield from walk((*tokens, token), so_far)

    return sorted(walk((), ()), key=lambda output: -output.score)


def greedy(network: ToyNetwork, sentence: int, source_length: int, config: SearchConfig) -> Output:
    """The most probable token until `<E>`."""
    tokens: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    while True:
        allowed = continuations(network, sentence, tokens, source_length, config)
        token = max(allowed, key=lambda token: allowed[token])
        log_probs = (*log_probs, allowed[token])
        if token == EOS_ID:
            return Output(tokens, score(math.fsum(log_probs), len(tokens), config), log_probs)
        tokens = (*tokens, token)


def patient_beam(network: ToyNetwork, sentence: int, source_length: int, config: SearchConfig) -> list[Output]:
    """Beam search as its definition says, one hypothesis at a time, that goes on until nothing is alive."""
    live: list[tuple[tuple[int, ...], tuple[float, ...]]] = [((), ())]
    finished: list[Output] = []
    for _ in itertools.count():
        candidates = [
            ((*tokens, token), (*log_probs, log_prob))
            for tokens, log_probs in live
            for token, log_prob in continuations(network, sentence, tokens, source_length, config).items()
        ]
        candidates.sort(key=lambda candidate: -math.fsum(candidate[1]))
        for tokens, log_probs in candidates[: config.beam_size]:
            if tokens[-1] == EOS_ID:
                value = score(math.fsum(log_probs), len(tokens) - 1, config)
                finished.append(Output(tokens[:-1], value, log_probs))
        considered = candidates[: 2 * config.beam_size - 1]
        live = [candidate for candidate in considered if candidate[0][-1] != EOS_ID][: config.beam_size]
        if not live:
            break
    return sorted(finished, key=lambda output: -output.score)[: config.n_best]


def backpropagate_through_time(
    weight_hidden: Tensor, states: Tensor, error: Tensor, derivative_of_output: Callable[[Tensor], Tensor]
) -> Tensor:
    """dL_T / dh_t of a plain recurrent network at every step t, by the textbook's recursion.

    With z_t = W x_t + U h_(t-1) + b and h_t = f(z_t), one row at a time: delta_T = diag(f'(z_T)) dL/dh_T, then
    delta_k = diag(f'(z_k)) U^T delta_(k+1), and dL/dh_k = U^T delta_(k+1).

    Args:
        weight_hidden: U, [hidden, hidden].
        states: h_1 ... h_T, [steps, hidden].
        error: dL_T / dh_T, [hidden].
        derivative_of_output: f'(z) written as a function of h = f(z), as 1 - h^2 for tanh.
    """
    gradients = [error]
    delta = torch.diag(derivative_of_output(states[-1])) @ error
    for state in reversed(states[:-1]):
        gradients.append(weight_hidden.T @ delta)
        delta = torch.diag(derivative_of_output(state)) @ weight_hidden.T @ delta
    return torch.stack(gradients[::-1])
