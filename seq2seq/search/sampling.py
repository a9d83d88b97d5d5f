"""Drawing outputs from a model's distribution, the same ones whatever else is in the batch.

A token is drawn by a race: every token's log-probability plus a Gumbel-distributed number of its own, and the largest
wins, which happens with exactly the token's probability (Gumbel 1954; Maddison et al. 2014, arXiv:1411.0030). These
numbers are not taken from a stream, which would depend on who drew before; each is a hash of the seed, the sentence's
own seed, the sample, the step and the token. A race is also hard to disturb: rounding errors, which do differ from
batch to batch, change its result only where two tokens arrive within one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from seq2seq.config import BOS_ID, EOS_ID, PAD_ID, SearchConfig
from seq2seq.search.greedy import Chosen, walk
from seq2seq.search.hypothesis import Hypothesis, StateT, Step
from seq2seq.search.lengths import Limits
from seq2seq.search.live import Task
from seq2seq.search.rules import Phrase
from seq2seq.search.topk import BLOCK, as_blocks, without_nan


@torch.no_grad()
def sample(
    step: Step[StateT],
    state: StateT,
    source_lengths: Int[Tensor, "batch"],
    config: SearchConfig,
    *,
    prefixes: Sequence[Phrase] | None = None,
    room: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> list[list[Hypothesis]]:
    """`config.samples` independent outputs of every sentence, in the order drawn.

    Their log-probabilities are the model's own, before temperature, `top_k`, `top_p` and rules of what may follow.

    Args:
        step: see `Step`.
        state: one row per sentence; it is widened here.
        source_lengths: in tokens, not counting `<E>`.
        config: the fields of sampling, the limits, the rules of what may follow and the score are used.
        prefixes: token ids that each sentence's outputs begin with.
        room: see `search`.
        seeds: one per sentence, joined to `config.seed`; sentences with the same seed are drawn by the same chances.
            `None`: 0 for all.

    Raises:
        ConfigError: if a prefix has what is no text of the vocabulary.
    """
    batch, device = len(source_lengths), source_lengths.device
    owners = torch.arange(batch, device=device).repeat_interleave(config.samples)
    task = Task.of(source_lengths, config, prefixes, None, room).select(owners)
    seeds = [0] * batch if seeds is None else [seed % 2**63 for seed in seeds]
    own = torch.tensor(seeds, dtype=torch.long, device=device)[owners]
    numbers = torch.arange(config.samples, device=device).repeat(batch)
    keys = scramble(scramble(scramble(torch.full_like(own, config.seed)) + own) + numbers)

    def draw(
        log_probs: Float[Tensor, "rows vocabulary"], length: int, limits: Limits, rows: Int[Tensor, "rows"]
    ) -> Chosen:
        candidates, tokens = truncate(temper(log_probs, length, limits, config.temperature), config)
        step_keys = scramble(keys[rows] + length)
        if device.type == "mps":  # which has no 64-bit floats
            candidates, step_keys = candidates.cpu(), step_keys.cpu()
            tokens = None if tokens is None else tokens.cpu()
        chosen = race(candidates, step_keys) if tokens is None else race_few(candidates, tokens, step_keys)
        chosen = chosen.to(device)
        chosen = chosen.where(length < limits.longest, EOS_ID)
        return chosen, without_nan(log_probs.gather(1, chosen[:, None]).squeeze(1).float()).where(
            chosen != PAD_ID, -torch.inf
        )

    found = iter(walk(step, state.select(owners), task, config, draw))
    return [[next(found) for _ in range(config.samples)] for _ in range(batch)]


def temper(
    log_probs: Float[Tensor, "rows vocabulary"], length: int, limits: Limits, temperature: float
) -> Float[Tensor, "rows vocabulary"]:
    """Log-probabilities, up to a constant, of what may follow `length` tokens: flatter or steeper, and -inf for what
    may not."""
    tempered = without_nan(log_probs.float() / temperature)
    tempered[:, [PAD_ID, BOS_ID]] = -torch.inf
    tempered[:, EOS_ID] = tempered[:, EOS_ID].where(length >= limits.shortest, -torch.inf)
    return tempered


def truncate(
    log_probs: Float[Tensor, "rows vocabulary"], config: SearchConfig
) -> tuple[Float[Tensor, "rows candidates"], Int[Tensor, "rows candidates"] | None]:
    """The most probable tokens by `top_k` and `top_p`, with their ids; `None` for ids means that all are left."""
    tokens = None
    if config.top_k is not None and config.top_k < log_probs.shape[1]:
        log_probs, tokens = log_probs.topk(config.top_k, dim=1)
    if config.top_p is None:
        return log_probs, tokens
    nucleus, columns = most_probable_share(log_probs, config.top_p)
    return nucleus, columns if tokens is None else tokens.gather(1, columns)


def most_probable_share(
    log_probs: Float[Tensor, "rows tokens"], share: float
) -> tuple[Float[Tensor, "rows candidates"], Int[Tensor, "rows candidates"]]:
    """The fewest tokens whose probabilities add up to `share` of all, and their columns; -inf behind them."""
    size = log_probs.shape[1]
    total = log_probs.logsumexp(dim=1, keepdim=True)
    # They are few, as a rule: sort more only where they are not.
    count = min(128, size)
    while True:
        best, columns = log_probs.topk(count, dim=1)
        sums = (best - total).exp().cumsum(dim=1)
        if count == size or bool((sums[:, -1] >= share).all()):
            break
        count = min(4 * count, size)
    # A token is needed if those before it do not suffice; the first one always is.
    before = sums.roll(1, dims=1)
    before[:, 0] = -1.0
    return best.where(before < share, -torch.inf), columns


def race(log_probs: Float[Tensor, "rows vocabulary"], keys: Int[Tensor, "rows"]) -> Int[Tensor, "rows"]:
    """One token drawn for each row: first one of the blocks by its share of the probability, then a token of it, so
    that few random numbers are needed."""
    blocks = as_blocks(log_probs)
    numbers = torch.arange(blocks.shape[1], device=keys.device).expand(len(blocks), -1)
    block = race_few(blocks.logsumexp(dim=-1), numbers, scramble(keys + 1))
    inside = blocks[torch.arange(len(blocks), device=keys.device), block]
    tokens = block[:, None] * BLOCK + torch.arange(BLOCK, device=keys.device)
    return race_few(inside, tokens, keys)


def race_few(
    log_probs: Float[Tensor, "rows candidates"], tokens: Int[Tensor, "rows candidates"], keys: Int[Tensor, "rows"]
) -> Int[Tensor, "rows"]:
    """The winner of each row's race; `<pad>` where no candidate is possible."""
    gumbel = -(-chances(keys, tokens).log()).log()
    best, columns = (log_probs + gumbel).max(dim=1, keepdim=True)
    return tokens.gather(1, columns).where(best > -torch.inf, PAD_ID).squeeze(1)


def chances(keys: Int[Tensor, "rows"], tokens: Int[Tensor, "rows candidates"]) -> Float64[Tensor, "rows candidates"]:
    """A number between 0 and 1, both excluded, for every token of every row."""
    bits = _shift(scramble(scramble(keys)[:, None] + tokens), 11)
    # Above 2^52 there is no room for a half: the last number is 1 - 2^-53.
    return ((bits.double() + 0.5) * 2.0**-53).clamp(max=1 - 2.0**-53)


def scramble(numbers: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A hash of 64 bits: the step and finaliser of splitmix64 (Steele, Lea & Flood 2014). Products wrap around."""
    numbers = numbers - 0x61C8864680B583EB  # + 0x9E3779B97F4A7C15 modulo 2^64
    numbers = (numbers ^ _shift(numbers, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9
    numbers = (numbers ^ _shift(numbers, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return numbers ^ _shift(numbers, 31)


def _shift(numbers: Int[Tensor, "*shape"], bits: int) -> Int[Tensor, "*shape"]:
    """To the right, with zeros coming in: torch would repeat the sign."""
    shifted: Tensor = (numbers >> bits) & (2 ** (64 - bits) - 1)
    return shifted
