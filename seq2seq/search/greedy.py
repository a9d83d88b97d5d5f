"""Greedy search, the most probable token at every step, and the loop that it shares with sampling."""

import itertools
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search.hypothesis import Hypothesis, StateT, Step, impossible
from seq2seq.search.lengths import Limits
from seq2seq.search.live import Task
from seq2seq.search.penalties import score
from seq2seq.search.rules import Phrase
from seq2seq.search.topk import best_continuations

Chosen = tuple[Int[Tensor, "rows"], Float[Tensor, "rows"]]
"""One token for every row and its log-probability, -inf where no token is possible."""

Choose = Callable[[Float[Tensor, "rows vocabulary"], int, Limits, Int[Tensor, "rows"]], Chosen]
"""From the log-probabilities of the next token, the number of tokens so far, the limits and the numbers of the rows
that are left, to the next token."""


@torch.no_grad()
def greedy_search(
    step: Step[StateT],
    state: StateT,
    source_lengths: Int[Tensor, "batch"],
    config: SearchConfig,
    *,
    prefixes: Sequence[Phrase] | None = None,
    room: Sequence[int] | None = None,
) -> list[Hypothesis]:
    """One hypothesis for every sentence: the most probable allowed token at every step, until `<E>`.

    Equal to `beam_search` with a beam of 1. Length penalty and word reward decide nothing here, but are in the score.

    Args:
        step: see `Step`.
        state: one row per sentence.
        source_lengths: in tokens, not counting `<E>`.
        config: the limits, the rules of what may follow and the score are used.
        prefixes: token ids that each sentence's hypothesis begins with.
        room: see `search`.

    Raises:
        ConfigError: if there is a coverage penalty, which is left to beam search; if a prefix has what is no text of
            the vocabulary.
    """
    if config.coverage_penalty:
        raise ConfigError(
            f"greedy search knows no coverage, got coverage_penalty={config.coverage_penalty}; use beam_search"
        )
    return walk(step, state, Task.of(source_lengths, config, prefixes, None, room), config, most_probable)


def most_probable(
    log_probs: Float[Tensor, "rows vocabulary"],
    length: int,
    limits: Limits,
    rows: Int[Tensor, "rows"],  # noqa: ARG001  # a `Choose`
) -> Chosen:
    """The most probable token of those that may follow `length` tokens."""
    so_far = log_probs.new_zeros(len(log_probs), 1, dtype=torch.float32)
    best, _, tokens = best_continuations(log_probs, so_far, *limits.allow(length), count=1)
    return tokens[:, 0], best[:, 0]


def walk(step: Step[StateT], state: StateT, task: Task, config: SearchConfig, choose: Choose) -> list[Hypothesis]:
    """One hypothesis for every row of the state, which ends with the first `<E>` that is chosen.

    Args:
        task: of every row.
        config: for the score.
        choose: the next token of every row.
    """
    device, count = task.source_lengths.device, len(task.source_lengths)
    if count == 0:
        return []
    rows = torch.arange(count, device=device)  # those not yet at <E>
    longest = task.limits.longest
    tokens = torch.full((count,), BOS_ID, device=device)
    # One [count] column per step. A row at <E> stays there, with log-probability 0.
    token_columns: list[Tensor] = []
    log_prob_columns: list[Tensor] = []
    for length in itertools.count():
        log_probs, state = step(tokens, state)
        history = torch.stack(token_columns, dim=1)[rows] if task.rules.no_repeat and token_columns else None
        log_probs = task.rules.apply(log_probs, history, length, len(rows))
        tokens, chosen = choose(log_probs, length, task.limits, rows)
        # Where nothing is possible the row ends too.
        tokens = tokens.masked_fill(chosen == -torch.inf, EOS_ID)
        token_columns.append(tokens.new_full((count,), EOS_ID).index_copy(0, rows, tokens))
        log_prob_columns.append(chosen.new_zeros(count).index_copy(0, rows, chosen))
        (live,) = (tokens != EOS_ID).nonzero(as_tuple=True)
        if len(live) == 0:
            break
        if len(live) < len(tokens):
            rows, tokens, state, task = rows[live], tokens[live], state.select(live), task.select(live)
    return _hypotheses(torch.stack(token_columns, dim=1), torch.stack(log_prob_columns, dim=1), longest, config)


def _hypotheses(
    tokens: Int[Tensor, "rows steps"],
    token_log_probs: Float[Tensor, "rows steps"],
    longest: Int[Tensor, "rows"],
    config: SearchConfig,
) -> list[Hypothesis]:
    """Rows that are ended by their first `<E>`, as hypotheses; their limits are `longest`."""
    lengths = (tokens != EOS_ID).sum(dim=1)
    log_probs = token_log_probs.sum(dim=1)
    columns = (tokens, token_log_probs, lengths, log_probs, score(log_probs, lengths, config), lengths >= longest)
    return [
        Hypothesis(row[:length], value, log_prob, row_log_probs[: length + 1], is_last)
        if log_prob > -torch.inf
        else impossible()
        for row, row_log_probs, length, log_prob, value, is_last in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]
