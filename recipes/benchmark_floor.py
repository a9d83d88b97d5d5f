"""What bounds the speed of a model on this machine: the arithmetic it must do, and the weights it must read.

Not run by itself; `benchmark.py` and `benchmark_decoding.py` compare what they measure with it.
"""

import resource
import sys
import time

import numpy as np
import torch

from seq2seq.config import EOS_ID, FIRST_FREE_ID, PAD_ID
from seq2seq.model import Seq2Seq


def multiplications(model: Seq2Seq, source: int, target: int, pairs: int) -> tuple[int, int]:
    """Multiply-adds of reading the source (encoder and keys), and of writing the target, one way.

    Args:
        model: a token needs each of its matrices once.
        source, target: tokens in all, without padding; pairs: (source token, target token) pairs that attention joins.
    """
    read, write = matrices(model.encoder.recurrence), matrices(model.output)
    for name, part in model.decoder.named_children():
        write += matrices(part) if name not in ("embedding", "attentions") else 0
    write += matrices(model.bottleneck) if model.bottleneck is not None else 0
    for attention in model.decoder.attentions:
        for name, part in attention.named_children():
            read += matrices(part) if name in ("key", "value") else 0
            write += matrices(part) if name == "query" else 0
    joined = len(model.decoder.attentions) * (model.config.decoder_hidden_size + model.config.annotation_size)
    return source * read, target * write + pairs * joined


def matrices(part: torch.nn.Module) -> int:
    """Numbers in the matrices of a part of a model."""
    return sum(weight.numel() for weight in part.parameters() if weight.dim() == 2)


def fill(lengths: np.ndarray, random: np.random.Generator, vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of random ids that end in `<E>`, padded, and their lengths."""
    ids = torch.from_numpy(random.integers(FIRST_FREE_ID, vocabulary, (len(lengths), int(lengths.max()))))
    ends = torch.from_numpy(lengths).long()
    steps = torch.arange(ids.shape[1])
    ids[steps == ends.unsqueeze(1) - 1] = EOS_ID
    return ids.masked_fill(steps >= ends.unsqueeze(1), PAD_ID), ends


def matrix_rate(precision: str, seconds: float = 0.2) -> float:
    """Multiply-adds per second of products like the model's, [1000, 512] x [512, 2048], in float32 or bfloat16."""
    dtype = getattr(torch, precision)
    left, right = torch.randn(1000, 512).to(dtype), torch.randn(512, 2048).to(dtype)
    torch.mm(left, right)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        torch.mm(left, right)
        count += 1
    return count * 1000 * 512 * 2048 / (time.perf_counter() - started)


def bytes_read(model: Seq2Seq) -> tuple[int, int]:
    """Bytes of weights that reading a source needs, and that every step of the decoder needs again (without input
    feeding, and with a table of every token's products with the bottom layer's input weights)."""
    output = [model.output, *([model.bottleneck] if model.bottleneck is not None else [])]
    step = {id(weight): weight for part in (model.decoder, *output) for weight in part.parameters()}
    if model.output.weight is not model.decoder.embedding.weight:
        # Of an embedding that is no output layer, a step reads a row.
        step.pop(id(model.decoder.embedding.weight))
    step.pop(id(model.decoder.bottom_cell.weight_input))
    start = [weight for part in (model.encoder.recurrence, model.bridge) for weight in part.parameters()]
    return sum(map(size_of, start)), sum(map(size_of, step.values()))


def size_of(weight: torch.Tensor) -> int:
    """Bytes."""
    return weight.numel() * weight.element_size()


def bandwidth(seconds: float = 0.3) -> float:
    """Bytes per second that this machine reads from memory, at its best moment; takes 256 MiB."""
    numbers = torch.ones(64 << 20)  # more than caches hold
    best, ends = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < ends:
        started = time.perf_counter()
        numbers.sum()
        best = max(best, size_of(numbers) / (time.perf_counter() - started))
    return best


def peak_memory() -> float:
    """The most that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
