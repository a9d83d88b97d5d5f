"""Which target tokens translate a source token, learnt from parallel text by IBM Model 1.

    p(target | source) = prod over the target tokens t of 1 / (S + 1) * sum over s of p(t | s)

where s is one of the S source tokens, or none. A search that looks at the likely t alone has less to do at every step:
see `SearchConfig.shortlist`.

Reference:
    Brown et al. (1993), "The Mathematics of Statistical Machine Translation", J93-2003, section 4.1; for short lists
    of words: Jean et al. (2015), arXiv:1412.2007, L'Hostis, Grangier & Auli (2016), arXiv:1610.00072.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from seq2seq.config import EOS_ID, FIRST_FREE_ID, UNK_ID
from seq2seq.errors import ConfigError, CorpusError, PackageError
from seq2seq.vocabulary import Vocabulary

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

ROUNDS = 5
"""Readings of the text, each a round of expectation maximisation; more of them change little."""

CANDIDATES = 100
"""Target tokens kept for each source token."""

FREQUENT = 400
"""So many most frequent target tokens may be said whatever the source is."""

LONGEST = 250
"""Tokens of a sentence that is learnt from; longer ones tell little, and cost their square."""

LINES = 10_000
"""Pairs of sentences that are tokenised together."""

CROSSINGS = 1 << 20
"""Crossings of a source with a target token that are counted together."""

LINKS = 1 << 25
"""Distinct ones that are held at once, at 16 bytes each. Beyond, the less likely half of them is forgotten."""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """The target tokens that may translate each source token.

    Attributes:
        candidates: ids for each source token, the likeliest first, filled up with -1; without those of `always`.
        always: ids that may be said whatever the source is, ascending: `<unk>`, `<E>`, bytes, what is frequent.
    """

    candidates: Int[Tensor, "source candidates"]
    always: Int[Tensor, "always"]

    @classmethod
    def learn(
        cls,
        text: Iterable[tuple[str, str]],
        source_vocabulary: Vocabulary,
        target_vocabulary: Vocabulary,
        *,
        frequent: int = FREQUENT,
    ) -> Lexicon:
        """Learn from pairs of sentences.

        A source token that the target vocabulary has too may always become itself, for what is copied.

        Args:
            text: is read `ROUNDS` times, and never held as a whole; pairs with a side of more than `LONGEST` tokens
                are left out.
            frequent: how many target tokens may always be said.

        Raises:
            ConfigError: if `frequent` is below 0, or `text` can be read only once.
            CorpusError: if there is no pair with text on both sides.
        """
        if frequent < 0:
            raise ConfigError(f"frequent must be at least 0, got {frequent}")
        if isinstance(text, Iterator):
            raise ConfigError(f"text must be what can be read {ROUNDS} times, got an iterator; give a list or a corpus")
        sizes = len(source_vocabulary), len(target_vocabulary)
        links, counts, occurrences = _first_round(_blocks(text, source_vocabulary, target_vocabulary), sizes[1])
        if not len(links):
            raise CorpusError(
                f"a lexicon needs pairs of sentences of at most {LONGEST} tokens, got none, blank or longer ones; "
                "give it the training corpus"
            )
        for _ in range(ROUNDS - 1):
            blocks = _blocks(text, source_vocabulary, target_vocabulary)
            counts = _round(blocks, links, _probabilities(links, counts, sizes))
        copies = [
            copy if source >= FIRST_FREE_ID and (copy := target_vocabulary.find(token)) is not None else -1
            for source, token in enumerate(source_vocabulary.tokens(range(sizes[0])))
        ]
        most = (-occurrences).argsort(kind="stable")[:frequent]
        always = {UNK_ID, EOS_ID, *target_vocabulary.byte_ids, *most[occurrences[most] > 0].tolist()}
        # What may always be said takes no other's place.
        is_needed = ~np.isin(links % sizes[1], list(always))
        needed_copies = np.where(np.isin(copies, list(always)), -1, copies)
        best = _best(links[is_needed], counts[is_needed], sizes, needed_copies)
        return cls(best, torch.tensor(sorted(always), dtype=torch.int32))

    def allowed(
        self, sources: Sequence[Sequence[int]], count: int, vocabulary_size: int
    ) -> Bool[Tensor, "sentences vocabulary"]:
        """Which target tokens a translation of each source may have.

        Args:
            sources: the ids of each sentence.
            count: candidates of each of its tokens.
            vocabulary_size: of the target.
        """
        ids = torch.tensor(list(chain.from_iterable(sources)), dtype=torch.long)
        lengths = torch.tensor([len(source) for source in sources])
        sentences = torch.arange(len(sources)).repeat_interleave(lengths)
        # One column more than the vocabulary has: -1 means that one.
        allowed = torch.zeros(len(sources), vocabulary_size + 1, dtype=torch.bool)
        allowed[:, self.always.long()] = True
        allowed[sentences[:, None], self.candidates[ids, :count].long()] = True
        return allowed[:, :-1]

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        return safetensors.torch.save({"candidates": self.candidates, "always": self.always})

    @classmethod
    def from_bytes(cls, content: bytes, source_size: int, target_size: int) -> Lexicon:
        """The lexicon that `to_bytes` gave.

        Raises:
            PackageError: if it is none, or one of vocabularies of other sizes.
        """
        try:
            tensors = safetensors.torch.load(content)
            found = cls(tensors["candidates"], tensors["always"])
        except (SafetensorError, KeyError):
            raise PackageError("is no lexicon; make it again with seq2seq lexicon") from None
        is_whole = found.candidates.dim() == 2 and found.always.dim() == 1
        if (
            not is_whole
            or len(found.candidates) != source_size
            or any(
                ids.dtype != torch.int32 or (ids.numel() and (int(ids.max()) >= target_size or int(ids.min()) < -1))
                for ids in (found.candidates, found.always)
            )
        ):
            raise PackageError(
                f"must be a lexicon of {source_size} source tokens and {target_size} target tokens; "
                "make it again with seq2seq lexicon"
            )
        return found


class _Block(NamedTuple):
    """Pairs of sentences, every target token crossed with every source token and with none, which comes last.

    Attributes:
        links: [links] what is crossed, each once, ascending: the source token times the size of the target vocabulary,
            plus the target token.
        which: [crossings] the place of each crossing among them.
        target: [crossings] the target token, counted through the block, that it explains.
        first: [targets] its first crossing; the others follow.
        targets: [targets] their ids.
    """

    links: Integers
    which: Integers
    target: Integers
    first: Integers
    targets: Integers


def _blocks(text: Iterable[tuple[str, str]], source: Vocabulary, target: Vocabulary) -> Iterator[_Block]:
    """The text, tokenised, in blocks that fit into memory."""
    sizes, pairs, crossings = (len(source), len(target)), list[tuple[list[int], list[int]]](), 0
    rest = iter(text)
    while lines := list(islice(rest, LINES)):
        sides = source.encode([one for one, _ in lines]), target.encode([other for _, other in lines])
        for pair in zip(*sides, strict=True):
            if 0 < len(pair[0]) <= LONGEST and 0 < len(pair[1]) <= LONGEST:
                pairs.append(pair)
                crossings += (len(pair[0]) + 1) * len(pair[1])
            if crossings >= CROSSINGS:
                yield _cross(pairs, *sizes)
                pairs, crossings = [], 0
    if pairs:
        yield _cross(pairs, *sizes)


def _cross(pairs: Sequence[tuple[list[int], list[int]]], none: int, target_size: int) -> _Block:
    """Each target token crossed with the source tokens of its sentence, and with `none`."""
    sources = np.fromiter(chain.from_iterable((*source, none) for source, _ in pairs), np.int64)
    targets = np.fromiter(chain.from_iterable(target for _, target in pairs), np.int64)
    source_lengths = np.array([len(source) + 1 for source, _ in pairs])
    target_lengths = [len(target) for _, target in pairs]
    # Of every target token: how many source tokens it is crossed with, where these begin, where its crossings begin.
    lengths = source_lengths.repeat(target_lengths)
    starts = (source_lengths.cumsum() - source_lengths).repeat(target_lengths)
    first = lengths.cumsum() - lengths
    target = np.arange(len(targets)).repeat(lengths)
    crossed = sources[np.arange(len(target)) + (starts - first)[target]] * target_size + targets[target]
    links, which = np.unique(crossed, return_inverse=True)
    return _Block(links, which, target, first, targets)


def _expected(block: _Block, probabilities: Floats) -> Floats:
    """How often each link of the block is expected to be the one that explains a target token."""
    shares = probabilities[block.which]
    totals = np.add.reduceat(shares, block.first)
    shares /= np.maximum(totals, np.finfo(np.float64).tiny)[block.target]
    return _sums(block.which, shares, len(block.links))


def _first_round(blocks: Iterable[_Block], target_size: int) -> tuple[Integers, Floats, Integers]:
    """The links of a text and their expected counts if all are equally likely; how often each target token occurs."""
    links, counts = np.empty(0, np.int64), np.empty(0)
    occurrences = np.zeros(target_size, np.int64)
    waiting: list[tuple[Integers, Floats]] = []
    for block in blocks:
        waiting.append((block.links, _expected(block, np.ones(len(block.links)))))
        occurrences += np.bincount(block.targets, minlength=target_size)
        # Merged seldom: each time costs as much as there is.
        if sum(len(some) for some, _ in waiting) > max(len(links), 4 * CROSSINGS):
            links, counts = _merge([(links, counts), *waiting])
            waiting = []
    links, counts = _merge([(links, counts), *waiting])
    return links, counts, occurrences


def _merge(parts: Sequence[tuple[Integers, Floats]]) -> tuple[Integers, Floats]:
    """The links of all parts, each once, and the sums of their counts."""
    links, which = np.unique(np.concatenate([some for some, _ in parts]), return_inverse=True)
    counts = _sums(which, np.concatenate([some for _, some in parts]), len(links))
    if len(links) > LINKS:
        kept = np.sort(counts.argpartition(len(links) // 2)[len(links) // 2 :])
        links, counts = links[kept], counts[kept]
    return links, counts


def _round(blocks: Iterable[_Block], links: Integers, probabilities: Floats) -> Floats:
    """The expected counts of the links."""
    counts = np.zeros(len(links))
    for block in blocks:
        places = np.minimum(links.searchsorted(block.links), len(links) - 1)
        is_known = links[places] == block.links
        expected = _expected(block, probabilities[places] * is_known)
        counts[places[is_known]] += expected[is_known]
    return counts


def _probabilities(links: Integers, counts: Floats, sizes: tuple[int, int]) -> Floats:
    """p(t | s) of every link."""
    sources = links // sizes[1]
    totals = _sums(sources, counts, sizes[0] + 1)
    return counts / np.maximum(totals, np.finfo(np.float64).tiny)[sources]


def _sums(places: Integers, values: Floats, size: int) -> Floats:
    """What there is for each of so many places."""
    return np.asarray(np.bincount(places, weights=values, minlength=size), np.float64)


def _best(
    links: Integers, counts: Floats, sizes: tuple[int, int], copies: Integers
) -> Int[Tensor, "source candidates"]:
    """The likeliest target tokens of every source token; its copy comes first."""
    is_text = links < sizes[0] * sizes[1]  # beyond are the links of no source token
    links, counts = links[is_text], counts[is_text]
    owners = np.flatnonzero(copies >= 0)
    links = np.concatenate([owners * sizes[1] + copies[owners], links])
    counts = np.concatenate([np.full(len(owners), np.inf), counts])
    links, first = np.unique(links, return_index=True)  # the copies stand before their links
    sources, targets = np.divmod(links, sizes[1])
    order = np.lexsort((-counts[first], sources))
    rank = np.arange(len(order)) - sources.searchsorted(np.arange(sizes[0]))[sources]
    kept = order[rank < CANDIDATES]
    best = np.full((sizes[0], CANDIDATES), -1, np.int32)
    best[sources[kept], rank[rank < CANDIDATES]] = targets[kept]
    width = max(1, int((best >= 0).sum(axis=1).max()))
    return torch.from_numpy(best[:, :width].copy())
