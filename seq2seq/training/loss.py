"""Cross-entropy of a large vocabulary without ever holding all logits.

The output layer and its loss are one operation that goes through the rows in blocks: logits, softmax and the three
products of a block stay in the processor's cache, and the gradient is finished in the forward pass. Beside the plain
`cross_entropy(linear(...))`, its slow twin in the tests, this saves the memory for logits, log-softmax and their
gradients (three arrays of tokens x vocabulary) and the time to move them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_NUMBERS = 1 << 21
"""Logits per block: 8 MiB in float32, which stay in a processor's cache."""

BLOCK_NUMBERS_OF_A_GPU = 1 << 26
"""There it is memory alone that limits them, and every block is some thirty calls."""


class Losses(NamedTuple):
    """Sums over the rows, in nats: `smoothed` is trained on (and has the gradient), `plain` is reported."""

    smoothed: Tensor
    plain: Tensor


class LinearCrossEntropy(torch.autograd.Function):
    """Sums of smoothed and plain cross-entropy of `features @ weight.T + bias`; only the first is differentiable.

    For a row of logits l with target y, a vocabulary of V tokens and label smoothing s:

        p = softmax(l)                        plain = -log p[y] = log sum exp(l) - l[y]
        t = (1 - s) onehot(y) + s / V         smoothed = -sum t log p = log sum exp(l) - (1 - s) l[y] - s mean(l)
                                              gradient of smoothed by l: p - t

    With R-Drop rows come in pairs, p and q, and smoothed grows by alpha / 2 (KL(p || q) + KL(q || p)) for each: see
    `symmetric_divergence_`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Float[Tensor, "rows features"],
        weight: Float[Tensor, "vocabulary features"],
        bias: Float[Tensor, "vocabulary"],
        targets: Int[Tensor, "rows"],
        smoothing: float,
        alpha: float,
        learns: bool,
    ) -> tuple[Tensor, Tensor]:
        rows, vocabulary, device = features.shape[0], weight.shape[0], features.device.type
        # Of the factors in products (autocast's, if it is on), of what is returned, and of the sums over the blocks.
        product_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        loss_dtype = torch.promote_types(weight.dtype, torch.float32)
        sum_dtype = torch.float32 if device == "mps" else torch.float64  # Apple's GPUs have no float64.
        of_features, of_weight, of_bias = (
            torch.zeros_like(part) if learns and needed else None
            for part, needed in zip((features, weight, bias), ctx.needs_input_grad, strict=False)
        )
        block = block_rows(vocabulary, device)
        smoothed, plain = features.new_zeros((), dtype=sum_dtype), features.new_zeros((), dtype=sum_dtype)
        cast_features, cast_weight = features.to(product_dtype), weight.to(product_dtype)
        with torch.autocast(device, enabled=False):
            for start in range(0, rows, block):
                part = slice(start, start + block)
                logits = bias.repeat(len(cast_features[part]), 1)
                add_product(logits, cast_features[part], cast_weight.t())
                losses, logits_gradient = block_losses(logits, targets[part], smoothing, alpha)
                smoothed += losses.smoothed
                plain += losses.plain
                cast_gradient = logits_gradient.to(product_dtype)
                if of_features is not None:
                    add_product(of_features[part], cast_gradient, cast_weight)
                if of_weight is not None:
                    add_product(of_weight, cast_gradient.t(), cast_features[part])
                if of_bias is not None:
                    of_bias += logits_gradient.sum(dim=0)
        ctx.save_for_backward(of_features, of_weight, of_bias)
        plain = plain.to(loss_dtype)
        ctx.mark_non_differentiable(plain)
        return smoothed.to(loss_dtype), plain

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        of_smoothed, _ = outer
        gradients = [part if part is None else part * of_smoothed for part in ctx.saved_tensors]
        return *gradients, None, None, None, None


def block_rows(vocabulary: int, device: str) -> int:
    """Rows of a block, an even number."""
    numbers = BLOCK_NUMBERS if device == "cpu" else BLOCK_NUMBERS_OF_A_GPU
    return 2 * max(1, numbers // (2 * vocabulary))


def add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, whose precision may be higher than that of the factors."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += torch.mm(left, right)


def block_losses(
    logits: Float[Tensor, "rows vocabulary"], targets: Int[Tensor, "rows"], smoothing: float, alpha: float
) -> tuple[Losses, Float[Tensor, "rows vocabulary"]]:
    """Loss sums of a block, and the gradient of the smoothed one by the logits, written over them: the equations of
    `LinearCrossEntropy`."""
    vocabulary = logits.shape[1]
    rows = torch.arange(len(targets), device=logits.device)
    chosen = logits[rows, targets]
    mean = logits.mean(dim=1) if smoothing else chosen
    difference = logits[0::2] - logits[1::2] if alpha else None
    # One exponential per logit serves both the normaliser and the softmax.
    largest = logits.amax(dim=1, keepdim=True)
    exponentials = logits.sub_(largest).exp_()
    total = exponentials.sum(dim=1, keepdim=True)
    normaliser = (largest + total.log()).squeeze(1)
    plain = (normaliser - chosen).sum()
    smoothed = (1 - smoothing) * plain + smoothing * (normaliser - mean).sum()
    # Of the probabilities, over which it is written: p, R-Drop's term, - t.
    gradient = exponentials.div_(total)
    if difference is not None:
        smoothed += alpha * symmetric_divergence_(gradient, difference, alpha)
    if smoothing:
        gradient -= smoothing / vocabulary
    gradient[rows, targets] -= 1 - smoothing
    return Losses(smoothed, plain), gradient


def symmetric_divergence_(
    probabilities: Float[Tensor, "rows vocabulary"], difference: Float[Tensor, "pairs vocabulary"], alpha: float
) -> Tensor:
    """Half the sum of the divergences KL(p || q) and KL(q || p) of rows 0 and 1, 2 and 3, ...; both arguments are
    overwritten.

        KL(p || q) + KL(q || p) = sum (p - q) d        d = log p - log q
        its gradient by the logits of p: p (d - sum p d) + p - q        by those of q: q (sum q d - d) + q - p

    What d has in common for all tokens cancels out in each, so that a difference of logits will do.

    Args:
        probabilities: p and q in turn; alpha times the gradient of what is returned is added.
        difference: the logits of p less those of q; used up.
        alpha: of R-Drop.
    """
    p, q = probabilities[0::2], probabilities[1::2]
    p_terms = p * difference
    mean_p = p_terms.sum(dim=1, keepdim=True)
    q_terms = difference.mul_(q)
    mean_q = q_terms.sum(dim=1, keepdim=True)
    p_terms -= q
    q_terms += p
    # p + alpha / 2 [p (d - mean_p) + p - q] and q + alpha / 2 [q (mean_q - d) + q - p], in place.
    p.mul_(1 + alpha / 2 * (1 - mean_p)).add_(p_terms, alpha=alpha / 2)
    q.mul_(1 + alpha / 2 * (1 + mean_q)).sub_(q_terms, alpha=alpha / 2)
    return (mean_p - mean_q).sum() / 2


def linear_cross_entropy(
    features: Float[Tensor, "rows features"],
    weight: Float[Tensor, "vocabulary features"],
    bias: Float[Tensor, "vocabulary"],
    targets: Int[Tensor, "rows"],
    smoothing: float = 0.0,
    alpha: float = 0.0,
) -> Losses:
    """Cross-entropy summed over the rows, with label smoothing (Szegedy et al. 2016, arXiv:1512.00567) and R-Drop (Wu
    et al. 2021, arXiv:2106.14448).

    Args:
        smoothing: share of the probability that the training target spreads over the whole vocabulary.
        alpha: of R-Drop. Unless it is 0, rows 2i and 2i + 1 are one token under two dropouts, p and q: their smoothed
            losses grow by alpha / 2 times KL(p || q) + KL(q || p).
    """
    # Within the operation gradients are always off.
    learns = torch.is_grad_enabled()
    smoothed, plain = LinearCrossEntropy.apply(features, weight, bias, targets, smoothing, alpha, learns)  # type: ignore[no-untyped-call]  # torch's is
    return Losses(smoothed, plain)
