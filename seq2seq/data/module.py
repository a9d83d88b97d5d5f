"""From parallel text to the batches of every epoch and rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning import LightningDataModule
from torch import Tensor

from seq2seq.corpus import Limits, Pair, ParallelText
from seq2seq.data.plan import Budget, Indices, batch_count, batch_plan, planned_padding, sorted_plan
from seq2seq.data.sampling import SampledEpochs
from seq2seq.data.tokenising import tokenise
from seq2seq.data.tokens import Tokens
from seq2seq.errors import ConfigError
from seq2seq.vocabulary import Vocabulary


class Batch(NamedTuple):
    """Pairs of token ids. Each row ends in `<E>` and is filled up with `<pad>`; none begins with `<S>`.

    Attributes:
        source: [batch, source_steps] ids.
        source_lengths: [batch] tokens, `<E>` included.
        target: [batch, target_steps] ids.
        target_lengths: [batch] tokens, `<E>` included.
        indices: [batch] numbers of the pairs in the corpus, counted from 0.
    """

    source: Tensor
    source_lengths: Tensor
    target: Tensor
    target_lengths: Tensor
    indices: Tensor

    def repeat(self, times: int) -> Batch:
        """Every pair so many times, side by side."""
        return self if times == 1 else Batch(*(part.repeat_interleave(times, dim=0) for part in self))


class Batches:
    """The batches of one rank, epoch after epoch; iterate over it once per epoch.

    It stands where a `DataLoader` would. Cutting rows out of mapped memory is so quick that worker processes only cost.

    Args:
        tokens: the corpus.
        plan: from an epoch to its batches, of all ranks.
        count: batches of this rank in every epoch.
        rank: takes batches rank, rank + ranks, ...
        ranks: processes that work together.
        epoch: says which epoch it is, counted from 0; `set_epoch` replaces it.
        sampled: gives every epoch tokens and a plan of its own, instead of `tokens` and `plan`.
    """

    def __init__(
        self,
        tokens: Tokens,
        plan: Callable[[int], list[Indices]],
        count: int,
        rank: int = 0,
        ranks: int = 1,
        epoch: Callable[[], int] = lambda: 0,
        sampled: SampledEpochs | None = None,
    ) -> None:
        self.tokens = tokens
        self.plan = plan
        self.count = count
        self.rank = rank
        self.ranks = ranks
        self.epoch = epoch
        self.sampled = sampled
        self.first = 0
        self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches come next: for use without a trainer."""
        self.epoch = lambda: epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Batch]:
        first, self.first = self.first, 0
        if self.sampled is None:
            plan = self.plan(self.epoch())
        else:
            self.tokens, plan = self.sampled.epoch(self.epoch())
        mine = plan[self.rank :: self.ranks]
        for number in range(first, len(mine)):
            self.done = number
            yield self._batch(mine[number])

    def state_dict(self) -> dict[str, int]:
        """How many batches of the epoch are behind the one that was given out last."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next epoch, and only that, after so many batches."""
        self.first = state["done"]

    def _batch(self, rows: Indices) -> Batch:
        lengths = torch.from_numpy(self.tokens.lengths[rows]).long()
        source, target = (torch.from_numpy(self.tokens.padded(side, rows)) for side in (0, 1))
        return Batch(source, lengths[:, 0], target, lengths[:, 1], torch.from_numpy(self.tokens.numbers(rows)))


class ParallelDataModule(LightningDataModule):
    """Training and validation batches of a parallel corpus.

    Training drops blank pairs and pairs beyond the limits, and is shuffled anew each epoch as a pure function of
    (seed, epoch, rank). Validation drops nothing and comes sorted by length; `Batch.indices` restores its order.

    Args:
        train: pairs to learn from.
        validation: pairs to judge by.
        source_vocabulary: of the source side.
        target_vocabulary: of the target side; may be the same object.
        batch_tokens: tokens of a batch's longer side, padding included, or `auto`: `train` finds how many fit; or
        batch_sentences: pairs of a batch.
        seed: of the order.
        cache: folder for tokenised corpora; a second run starts from it.
        limits: which training pairs are of use.
        workers: processes that tokenise; `None`: one per core.

    Attributes:
        subword_sampling: divide the training texts into tokens anew in every epoch, with this alpha of
            `SubwordSampler`; `None`: always the best way. `train` sets it as its configuration says.

    Raises:
        ConfigError: unless one budget is given.
        CorpusError: from `prepare_data`, at a fault in the text or if no pair is left.
    """

    def __init__(
        self,
        train: ParallelText,
        validation: ParallelText,
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        batch_tokens: int | Literal["auto"] | None = None,
        batch_sentences: int | None = None,
        seed: int = 1,
        cache: Path,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        workers: int | None = None,
    ) -> None:
        super().__init__()
        self.train = train
        self.validation = validation
        self.source_vocabulary = source_vocabulary
        self.target_vocabulary = target_vocabulary
        self.batch_tokens = batch_tokens
        self.batch_sentences = batch_sentences
        self._budget = None if batch_tokens == "auto" else Budget(batch_tokens, batch_sentences)
        if self._budget is None and batch_sentences is not None:
            raise ConfigError(f"give either batch_tokens or batch_sentences, got 'auto' and {batch_sentences}")
        self.seed = seed
        self.cache = Path(cache)
        self.limits = limits
        self.workers = workers
        self.subword_sampling: float | None = None
        self.sampled: SampledEpochs | None = None

    @cached_property
    def validation_pairs(self) -> list[Pair]:
        """The raw text that translations are judged by."""
        return self.validation.kept_pairs(self.cache)

    @cached_property
    def train_tokens(self) -> Tokens:
        """The training pairs that are of use, tokenised."""
        return self._tokens(self.train, self.limits)

    @cached_property
    def validation_tokens(self) -> Tokens:
        """All validation pairs, tokenised."""
        return self._tokens(self.validation, None)

    @property
    def budget(self) -> Budget:
        """How much a batch may hold.

        Raises:
            ConfigError: as long as `batch_tokens="auto"` has not become a number.
        """
        if self._budget is None:
            raise ConfigError("batch_tokens='auto' is found when a training begins; give a number to see batches now")
        return self._budget

    @budget.setter
    def budget(self, budget: Budget) -> None:
        self._budget = budget

    def forget_tokens(self) -> None:
        """Take the texts as they are now, for another training: what was made of them may be of older ones."""
        for made in ("train_tokens", "validation_tokens", "validation_pairs"):
            self.__dict__.pop(made, None)

    def fingerprint(self) -> dict[str, Any]:
        """All that the batches depend on: equal for equal data."""
        for text in (self.train, self.validation):
            text.with_facts(self.cache)
        return {
            "training text": self.train.fingerprint,
            "validation text": self.validation.fingerprint,
            "source vocabulary": self.source_vocabulary.fingerprint,
            "target vocabulary": self.target_vocabulary.fingerprint,
            "batch_tokens": self.batch_tokens,
            "batch_sentences": self.batch_sentences,
            "seed": self.seed,
            "limits": asdict(self.limits),
        }

    def prepare_data(self) -> None:
        """Tokenise what the cache does not hold; Lightning calls it in one process of each machine."""
        _ = self.train_tokens, self.validation_tokens

    def train_dataloader(self) -> Batches:
        """The batches of this rank, which follow the trainer's epochs."""
        rank, ranks = self._rank()
        per_step = ranks * (self.trainer.accumulate_grad_batches if self.trainer else 1)
        tokens, budget = self.train_tokens, self.budget
        self.sampled = sampled = self._sampled(per_step)
        name = f"batches-{budget.tokens}-{budget.sentences}-{per_step}"
        count = sampled.count if sampled else tokens.fact(name, lambda: batch_count(tokens.lengths, budget, per_step))
        plan = partial(batch_plan, tokens.lengths, budget, self.seed, batches_per_step=per_step, count=count)
        return Batches(tokens, plan, count // ranks, rank, ranks, self._epoch, sampled)

    def remove_samples(self) -> None:
        """Remove what subword sampling drew for the last epoch, once the training is finished."""
        if self.sampled is not None:
            self.sampled.remove()

    def val_dataloader(self) -> Batches:
        """The batches of this rank, the same every time."""
        rank, ranks = self._rank()
        plan = sorted_plan(self.validation_tokens.lengths, self.budget, ranks)
        return Batches(self.validation_tokens, lambda _: plan, len(plan) // ranks, rank, ranks)

    def describe(self) -> str:
        """What is trained and validated on, a line each."""
        train, validation = self.train_tokens, self.validation_tokens
        plans = {
            "training": (train, batch_plan(train.lengths, self.budget, self.seed, 0)),
            "validation": (validation, sorted_plan(validation.lengths, self.budget)),
        }
        return "\n".join(f"{name}: {_describe(*figures)}" for name, figures in plans.items())

    def _tokens(self, text: ParallelText, limits: Limits | None) -> Tokens:
        return tokenise(text, self.source_vocabulary, self.target_vocabulary, self.cache, limits, self.workers)

    def _sampled(self, batches_per_step: int) -> SampledEpochs | None:
        if self.subword_sampling is None:
            return None
        return SampledEpochs(
            self.train,
            (self.source_vocabulary, self.target_vocabulary),
            self.subword_sampling,
            self.train_tokens,
            self.cache,
            self.budget,
            self.seed,
            batches_per_step,
        )

    def _rank(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0


def padding_share(batches: Iterable[Batch]) -> float:
    """Share of the positions, of both sides together, that hold no token: 0 is none."""
    tokens, positions = 0, 0
    for batch in batches:
        tokens += int(batch.source_lengths.sum() + batch.target_lengths.sum())
        positions += batch.source.numel() + batch.target.numel()
    return 1 - tokens / positions


def _describe(tokens: Tokens, plan: list[Indices]) -> str:
    pairs, (source, target) = len(tokens), tokens.lengths.sum(axis=0)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in tokens.dropped.items())
    return (
        f"{pairs:,} pairs ({dropped or 'none'} dropped), {source:,} + {target:,} tokens, "
        f"{len(plan):,} batches, {planned_padding(tokens.lengths, plan):.1%} padding"
    )
