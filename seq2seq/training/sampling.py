"""Scheduled sampling: a decoder in training reads some tokens of its own instead of the true ones.

A translating model reads what it wrote, mistakes included; one that has only ever read true prefixes has not learnt to
go on from them. In the step loop each token is drawn from what the model says after the tokens it has read so far,
drawn ones included. The parallel form runs the whole target twice: once without gradients, to draw tokens after true
prefixes, and once with a mixture of true and drawn tokens. It keeps the path that has no loop over time.

Reference:
    Bengio, Vinyals, Jaitly & Shazeer (2015), arXiv:1506.03099; two passes: Mihaylova & Martins (2019),
    arXiv:1906.07651; Duckworth et al. (2019), arXiv:1906.04331.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seq2seq.config import BOS_ID, PAD_ID, ModelConfig, TrainingConfig
from seq2seq.data import Batch
from seq2seq.errors import ConfigError
from seq2seq.model import Seq2Seq, shift_right
from seq2seq.training.loss import block_rows


def check_sampling(model: ModelConfig, training: TrainingConfig) -> None:
    """Refuse what cannot be combined.

    Raises:
        ConfigError: for dropout that is the same at all steps, of which a single step knows nothing, in the loop.
    """
    if training.sampled_inputs == "loop" and (model.variational_dropout or model.recurrent_dropout):
        raise ConfigError(
            "sampled_inputs='loop' draws dropout anew at each step, got variational_dropout or recurrent_dropout, "
            "which keep it; use sampled_inputs='parallel'"
        )


def teacher_forcing_ratio(config: TrainingConfig, step: int) -> float:
    """The share of true tokens among what the decoder reads at an optimiser step (counted from 0).

        linear            1 - c * step
        exponential       k ** step                       k < 1
        inverse_sigmoid   k / (k + exp(step / k))         k > 1

    c and k are such that the ratio is 1/2 at step `config.teacher_forcing_half`; no ratio is below the floor.
    """
    half = config.teacher_forcing_half
    if config.teacher_forcing == "linear":
        ratio = 1 - step / (2 * half)
    elif config.teacher_forcing == "exponential":
        ratio = 0.5 ** (step / half)
    elif config.teacher_forcing == "inverse_sigmoid":
        k = sigmoid_constant(half)
        ratio = k / (k + math.exp(min(step / k, 700.0)))
    else:
        return 1.0
    return max(config.teacher_forcing_floor, ratio)


def sigmoid_constant(half: int) -> float:
    """The k above 1 of the inverse sigmoid that is 1/2 at step `half`: k ln k = half, by Newton's method."""
    k = half / math.log(half + 1) + 1
    for _ in range(50):
        k -= (k * math.log(k) - half) / (math.log(k) + 1)
    return k


def choose_places(inputs: Int[Tensor, "batch steps"], true_share: float) -> Bool[Tensor, "batch steps"]:
    """Where the decoder reads a token of its own: each place with probability 1 - true_share, but never instead of
    `<S>` or padding."""
    drawn = torch.rand(inputs.shape, device=inputs.device) >= true_share
    return drawn & (inputs != PAD_ID) & (inputs != BOS_ID)


@torch.no_grad()
def draw_tokens(model: Seq2Seq, features: Float[Tensor, "rows features"]) -> Int[Tensor, "rows"]:
    """For each row a token from the model's distribution, by a single random number; `<pad>` and `<S>` never."""
    size = model.config.target_vocabulary_size
    drawn = [features.new_empty(0, dtype=torch.long)]
    for block in features.split(block_rows(size, features.device.type)):
        logits = model.classify(block).float()
        logits[:, [PAD_ID, BOS_ID]] = -math.inf
        sums = logits.softmax(dim=-1).cumsum(dim=-1)
        places = torch.rand(len(block), 1, device=sums.device) * sums[:, -1:]
        drawn.append(torch.searchsorted(sums, places, right=True).squeeze(1).clamp_(max=size - 1))
    # Older versions of torch would use the copies of weights that autocast made here where gradients are needed.
    torch.clear_autocast_cache()
    return torch.cat(drawn)


def parallel_features(model: Seq2Seq, batch: Batch, true_share: float) -> Float[Tensor, "batch steps features"]:
    """Features as of `Seq2Seq.features`, in two passes over the target; the source is read once."""
    state = model.start(model.encode(batch.source, batch.source_lengths))
    inputs = shift_right(batch.target)
    is_drawn = choose_places(inputs, true_share)
    if is_drawn.any():
        with torch.no_grad():
            features = model.decoder(inputs, state).features
        # What the model says at a place is read at the next one.
        drawn = draw_tokens(model, features[:, :-1][is_drawn[:, 1:]])
        inputs = inputs.masked_scatter(is_drawn, drawn)
    mixed: Tensor = model.decoder(inputs, state).features
    return mixed


def stepwise_features(model: Seq2Seq, batch: Batch, true_share: float) -> Float[Tensor, "batch steps features"]:
    """Features as of `Seq2Seq.features`, step by step: what was drawn is the prefix of what is drawn next."""
    state = model.start(model.encode(batch.source, batch.source_lengths))
    inputs = shift_right(batch.target)
    is_drawn = choose_places(inputs, true_share)
    features: list[Tensor] = []
    for tokens, drawn_here in zip(inputs.unbind(1), is_drawn.unbind(1), strict=True):
        if drawn_here.any():
            tokens = tokens.masked_scatter(drawn_here, draw_tokens(model, features[-1][drawn_here]))
        feature, state = model.decoder.step(tokens, state)
        features.append(feature)
    return torch.stack(features, dim=1)
