"""The largest batches that a device holds: `batch_tokens="auto"`, found by trying.

Memory grows in a straight line with the tokens of a batch. So batches of growing size are really trained on, the next
one as large as the line through the last two allows, until the memory is used or an epoch has few steps left.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seq2seq.config import EOS_ID, FIRST_FREE_ID, TrainingConfig
from seq2seq.data import Batch, Budget, ParallelDataModule, sorted_plan
from seq2seq.errors import ConfigError
from seq2seq.resources import Peak, available_memory, give_back, is_out_of_memory
from seq2seq.search import search
from seq2seq.training.module import TranslationModule
from seq2seq.training.processes import SharedError, gather, say
from seq2seq.training.schedules import build_optimizer

FEWEST_STEPS = 100
"""Steps that an epoch keeps, whatever would fit: with fewer a model learns less from the same text."""

SHARE_OF_GPU = 0.85
SHARE_OF_CPU = 0.5
"""Of the memory that is free, what training may take: other programs and a few larger moments need the rest."""

FIRST_TRY = 1000
"""Tokens."""

CLOSE = 1.05
"""Where there is no larger step left to try, the search ends."""

Measure = Callable[[int], int | None]
"""From tokens of a batch to the bytes that training on it takes; `None`: more than there are."""


@dataclass(frozen=True, slots=True)
class Found:
    """The budget that was found.

    Attributes:
        tokens: of a batch; 0 if not even the smallest fits.
        used: bytes that training on such a batch takes.
        limit: bytes that it may take.
    """

    tokens: int
    used: int
    limit: int


class FindBatchTokens(Callback):
    """Finds the batch size before the first step, and tells it to the data; in each process the same."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        data = trainer.datamodule  # type: ignore[attr-defined]  # fit sets it
        assert isinstance(pl_module, TranslationModule)
        assert isinstance(data, ParallelDataModule)
        if stage != "fit" or pl_module.training_config.batch_tokens != "auto":
            return  # It is a number, perhaps one that an earlier run found.
        device = trainer.strategy.root_device
        if device.type not in ("cpu", "cuda"):
            raise ConfigError(f"batch_tokens='auto' measures CPUs and NVIDIA GPUs, got {device.type}; give a number")
        lengths = data.train_tokens.lengths
        batches_per_step = trainer.world_size * trainer.accumulate_grad_batches
        longest = int(lengths.max())
        ceiling = max(longest, int(lengths.max(axis=1).sum(dtype="int64")) // (batches_per_step * FEWEST_STEPS))
        # The processes of a machine share the memory of its CPU.
        share = SHARE_OF_CPU / trainer.num_devices if device.type == "cpu" else SHARE_OF_GPU
        limit = max(0, int(available_memory(device) * share) - copies(pl_module, trainer.world_size))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            found = largest(Trial(pl_module, data, device), limit, longest, ceiling)
        release(device)
        found = min(gather(trainer, found), key=lambda one: one.tokens)
        if not found.tokens:
            raise SharedError(
                f"a batch of the longest pair alone ({longest} tokens) must fit into {gibibytes(found.limit)} of "
                "memory, what is left beside the model's copies; choose a smaller model or lower the limits of pairs"
            )
        settle(pl_module, data, found.tokens)
        why = f"an epoch then keeps {FEWEST_STEPS} steps" if found.tokens == ceiling else "the largest that fits"
        used = f"{gibibytes(found.used)} of the {gibibytes(found.limit)} of memory that it may take"
        say(f"batch_tokens is {found.tokens:,}: {why}; training takes {used}")


def copies(module: TranslationModule, processes: int) -> int:
    """Bytes of what a training holds besides a trial: the moving average, and the gradients as processes exchange
    them."""
    weights = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    return weights * ((module.training_config.ema_decay is not None) + (processes > 1))


def check_batch_tokens(config: TrainingConfig, data: ParallelDataModule) -> None:
    """Refuse a configuration and data that disagree on what a batch is.

    Raises:
        ConfigError: if a field of the one is not that of the other.
    """
    for name in ("batch_tokens", "batch_sentences", "seed"):
        ours, theirs = getattr(config, name), getattr(data, name)
        if ours != theirs:
            raise ConfigError(
                f"{name} must be the same for the training and for its data, got {ours!r} and {theirs!r}; "
                f"give ParallelDataModule the {name} of the TrainingConfig"
            )


def settle(module: TranslationModule, data: ParallelDataModule, tokens: int) -> None:
    """Let a number take the place of `auto`."""
    data.budget = Budget(tokens)
    module.training_config = module.training_config.model_copy(update={"batch_tokens": tokens})


def largest(measure: Measure, limit: int, smallest: int, ceiling: int) -> Found:
    """The most tokens up to a ceiling that take no more than the limit, closely.

    Args:
        measure: what a budget takes; it grows with the budget.
        limit: in bytes.
        smallest: tokens of the smallest budget that makes sense.
        ceiling: tokens of the largest.
    """
    fit: list[tuple[int, int]] = []
    too_large = ceiling + 1
    tokens = min(max(smallest, FIRST_TRY), ceiling)
    while True:
        used = measure(tokens)
        if used is None or used > limit:
            too_large = tokens
        else:
            fit.append((tokens, used))
        if not fit:
            if too_large <= smallest:
                return Found(0, 0, limit)
            tokens = max(smallest, too_large // 4)
            continue
        best, used = fit[-1]
        tokens = min(reach(fit, limit), ceiling if too_large > ceiling else (best + too_large) // 2)
        if best == ceiling or (tokens < best * CLOSE and tokens != ceiling):
            return Found(best, used, limit)


def reach(fit: Sequence[tuple[int, int]], limit: int) -> int:
    """How far the line through the last two budgets that fit stays below the limit: at most four times the last."""
    tokens, used = fit[-1]
    if len(fit) == 1:
        return 2 * tokens
    before, used_before = fit[-2]
    slope = max(1e-9, (used - used_before) / (tokens - before))
    return min(4 * tokens, int(tokens + 0.97 * (limit - used) / slope))


class Trial:
    """Trains a copy of a model for a step on the longest batch of a size, and validates it on the broadest.

    Args:
        module: what is to be trained; it stays as it is.
        data: for the lengths of its pairs.
        device: where.
    """

    def __init__(self, module: TranslationModule, data: ParallelDataModule, device: torch.device) -> None:
        self.data = data
        self.device = device
        self.config = module.training_config
        # A validation's first two steps take as much memory as any.
        short = {"max_length": 2, "min_length": 0, "min_length_ratio": 0.0}
        vocabularies = module.source_vocabulary, module.target_vocabulary
        search_config = module.search_config.model_copy(update=short)
        release(device)
        self.peak = Peak(device)
        self.module = TranslationModule(module.model.config, self.config, *vocabularies, [], search_config).to(device)
        self.optimizer = build_optimizer([one for one in self.module.parameters() if one.requires_grad], self.config)

    def __call__(self, tokens: int) -> int | None:
        """The most bytes in use beyond those before the first trial, the model's included; `None`: more than there
        are."""
        release(self.device)
        self.peak.forget()
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
                self.train(tokens)
                self.validate(tokens)
            return self.peak.growth()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, because the error holds on to what its frames held.
        release(self.device)
        return None

    def train(self, tokens: int) -> None:
        """A step on pairs that are all as long as the longest of the corpus."""
        source, target = self.data.train_tokens.lengths.max(axis=0).tolist()
        true_share = 1.0 if self.config.teacher_forcing == "always" else self.config.teacher_forcing_floor
        batch = self.batch(max(1, tokens // max(source, target)), source, target)
        self.module.train()
        losses, _ = self.module.losses(batch, self.config.label_smoothing, true_share, self.config.r_drop)
        losses.smoothed.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def validate(self, tokens: int) -> None:
        """Two steps of the search on the batch with the most sentences: each needs room for the whole vocabulary."""
        lengths = self.data.validation_tokens.lengths
        rows = max(sorted_plan(lengths, Budget(tokens)), key=len)
        source, target = lengths[rows].max(axis=0).tolist()
        batch = self.batch(len(rows), source, target)
        self.module.eval()
        model = self.module.model
        self.module.losses(batch, label_smoothing=0.0)
        state = model.start(model.encode(batch.source, batch.source_lengths))
        # Search counts source tokens without `<E>`.
        search(model.step, state, batch.source_lengths - 1, self.module.search_config)

    def batch(self, rows: int, source: int, target: int) -> Batch:
        """Pairs of so many tokens, drawn at random."""
        config = self.module.model.config
        source_lengths, target_lengths = (torch.full((rows,), steps, device=self.device) for steps in (source, target))
        return Batch(
            self.ids(rows, source, config.source_vocabulary_size),
            source_lengths,
            self.ids(rows, target, config.target_vocabulary_size),
            target_lengths,
            torch.arange(rows, device=self.device),
        )

    def ids(self, rows: int, steps: int, vocabulary: int) -> Tensor:
        ids = torch.randint(min(FIRST_FREE_ID, vocabulary - 1), vocabulary, (rows, steps), device=self.device)
        ids[:, -1] = EOS_ID
        return ids


def release(device: torch.device) -> None:
    """Give back what is not in use any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    else:
        give_back()


def gibibytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
