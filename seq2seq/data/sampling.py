"""Subword regularisation: in every epoch each text is divided into tokens anew, at random.

A draw is a pure function of (seed, epoch, pair, side): a run that goes on draws what the uninterrupted one would, in
however many processes. The corpus is tokenised once per epoch, into a file like that of its best division, so that
batches are planned with the true lengths and keep to their budget.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seq2seq.corpus import ParallelText
from seq2seq.data.plan import Budget, Indices, batch_count, batch_plan, fewest_batches
from seq2seq.data.tokens import Block, Tokens, cache_folder, keep_tokens, numbered_blocks, write_blocks
from seq2seq.errors import CorpusError
from seq2seq.vocabulary import Vocabulary


class SampledEpochs:
    """The tokens and batches of every epoch.

    All epochs have equally many batches, as training wants it. Should the lengths that an epoch draws take more, which
    only a tiny corpus can make them, that epoch gets the best division of every text.

    Args:
        text: the corpus.
        vocabularies: of source and target.
        alpha: see `SubwordSampler`.
        plain: the corpus in its best division; its pairs are those that are drawn.
        cache: a folder for the tokens of the current epoch.
        budget, seed, batches_per_step: as `batch_plan` takes them.

    Raises:
        ConfigError: if a vocabulary knows one division of a text alone.
        CorpusError: in any epoch, if the text's files are no longer what they were.
    """

    def __init__(
        self,
        text: ParallelText,
        vocabularies: tuple[Vocabulary, Vocabulary],
        alpha: float,
        plain: Tokens,
        cache: Path,
        budget: Budget,
        seed: int,
        batches_per_step: int,
    ) -> None:
        self.samplers = [vocabulary.sampler(alpha) for vocabulary in vocabularies]
        self.text = text
        self.fingerprint = text.fingerprint
        self.vocabularies = vocabularies
        self.alpha = alpha
        self.plain = plain
        self.cache = Path(cache)
        self.budget = budget
        self.seed = seed
        self.batches_per_step = batches_per_step
        self.folder: Path | None = None
        # Kept, so that a run which goes on need not draw the first epoch again.
        name = f"sampled-batches-{alpha}-{seed}-{budget.tokens}-{budget.sentences}-{batches_per_step}"
        self.count = plain.fact(name, self.most_batches)

    def most_batches(self) -> int:
        """Batches of the best division or of the first epoch's, whichever needs more."""
        both = (self.plain.lengths, self.draw(0).lengths)
        return max(batch_count(lengths, self.budget, self.batches_per_step) for lengths in both)

    def epoch(self, number: int) -> tuple[Tokens, list[Indices]]:
        """The tokens of an epoch, counted from 0, and its batches."""
        tokens = self.draw(number)
        if fewest_batches(tokens.lengths, self.budget) > self.count:
            tokens = self.plain
        plan = batch_plan(tokens.lengths, self.budget, self.seed, number, self.batches_per_step, self.count)
        return tokens, plan

    def draw(self, epoch: int) -> Tokens:
        """The tokens of an epoch; those of the one before are removed."""
        if self.text.fingerprint != self.fingerprint:
            raise CorpusError(
                f"{self.text.name}: must stay as it is while it is trained on, and has changed; put it back"
            )
        prints = [vocabulary.fingerprint for vocabulary in self.vocabularies]
        key = ["sampled", self.fingerprint, *prints, self.alpha, self.seed, epoch, self.plain.dropped]
        folder = cache_folder(self.cache, key)
        # Of the processes that share a disk one draws; the others wait for it.
        with alone_in(self.cache):
            tokens = keep_tokens(folder, lambda part: self.write(part, epoch))
        if self.folder != folder:
            self.remove()
        self.folder = folder
        return tokens

    def remove(self) -> None:
        """Remove the tokens of the current epoch; for a process that still reads them they stay mapped."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, part: Path, epoch: int) -> None:
        """Draw all pairs of an epoch."""
        write_blocks(part, self.blocks(epoch), Counter(self.plain.dropped))

    def blocks(self, epoch: int) -> Iterator[Block]:
        kept = self.plain.indices
        for start, pairs in numbered_blocks(self.text):
            first, last = np.searchsorted(kept, [start, start + len(pairs)])
            indices = kept[first:last]
            sides = []
            for side, sampler in enumerate(self.samplers):
                texts = [pairs[index - start][side] for index in indices]
                seeds = pair_seeds(self.seed, epoch, side, indices).tolist()
                sides.append([sampler.sample(text, seed) for text, seed in zip(texts, seeds, strict=True)])
            yield indices, sides


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """One process at a time; where a file system knows no locks, each for itself."""
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def pair_seeds(seed: int, epoch: int, side: int, indices: Indices) -> NDArray[np.uint32]:
    """For each pair a number that looks random, a pure function of all four.

    Reference:
        The mixing is that of SplitMix64: Steele, Lea & Flood (2014), "Fast splittable pseudorandom number generators".
    """
    start = np.random.default_rng((seed, epoch, side)).integers(2**63, dtype=np.uint64)
    mixed = start + indices.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed >> np.uint64(32)).astype(np.uint32)
