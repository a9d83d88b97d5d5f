"""Tokenising a corpus of any size: in shards, by several processes, taken up again after a kill."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import compress, islice
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track

from seq2seq.corpus import Limits, Pair, ParallelText
from seq2seq.corpus.facts import write_whole
from seq2seq.data.tokens import (
    Block,
    Tokens,
    cache_folder,
    keep_tokens,
    numbered_blocks,
    write_file,
    write_summary,
)
from seq2seq.errors import CorpusError
from seq2seq.vocabulary import Vocabulary

_SHARD = 100_000
"""Pairs of one file, which one process tokenises."""


def tokenise(
    text: ParallelText,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    cache: Path,
    limits: Limits | None = None,
    workers: int | None = None,
) -> Tokens:
    """Tokenise a corpus, or open what an earlier call with the same text, vocabularies and limits wrote.

    A large corpus is tokenised by several processes, in shards; those that are finished outlast a kill, and the next
    call goes on with the others.

    Args:
        text: the corpus.
        source_vocabulary: of its source side.
        target_vocabulary: of its target side.
        cache: a folder for the results of this function.
        limits: drop blank pairs and pairs beyond these; `None`: drop nothing.
        workers: processes that tokenise; `None`: one per core.

    Raises:
        CorpusError: at a fault in the text, if no pair is left, or if the text changes meanwhile.
    """
    stamp = text.stamp()
    text.with_facts(cache)
    vocabularies = source_vocabulary, target_vocabulary
    key = [text.fingerprint, *(vocabulary.fingerprint for vocabulary in vocabularies), limits and asdict(limits)]

    def write(part: Path) -> None:
        _write_shards(part, text, vocabularies, limits, workers or cores())
        if text.stamp() != stamp:
            shutil.rmtree(part)
            raise text.changed("tokenised")
        _summarise(part, text)

    folder = cache_folder(cache, key)
    tokens = keep_tokens(folder, write, goes_on=True)
    with suppress(OSError):  # A cache that others own may be read alone.
        for unfinished in folder.glob("shard-*.*.arrow"):  # Left by processes that were killed, or came too late.
            unfinished.unlink(missing_ok=True)
    return tokens


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write_shards(
    part: Path, text: ParallelText, vocabularies: Sequence[Vocabulary], limits: Limits | None, workers: int
) -> None:
    """Write the shards that are missing: helpers take turns with this process, which makes good what they leave."""
    missing = [number for number in range(-(-len(text) // _SHARD)) if not _shard(part, number, ".json").exists()]
    workers = min(workers, len(missing))
    shares = [set(missing[worker::workers]) for worker in range(workers)]
    work = partial(_write_some, part, text, vocabularies, limits)
    helpers = []
    # Where processes cannot be forked, their start would cost more than they bring, and run the user's script again.
    if "fork" in multiprocessing.get_all_start_methods() and sys.platform == "linux":
        context = multiprocessing.get_context("fork")
        help_out = partial(_help, os.getpid(), work)
        helpers = [context.Process(target=help_out, args=(share,), daemon=True) for share in shares[1:]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork.*", DeprecationWarning)
        for helper in helpers:
            helper.start()
    try:
        if shares:
            work(shares[0], shows_progress=sys.stderr.isatty())
        for helper in helpers:
            helper.join()
    finally:
        for helper in helpers:
            helper.terminate()
        for helper in helpers:
            helper.join()
    work({number for number in missing if not _shard(part, number, ".json").exists()})


def _help(parent: int, work: Callable[..., None], numbers: set[int]) -> None:
    """Do a share of the work while the parent lives, unless it ends this; what fails is done and told by the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with suppress(Exception):  # Of any kind: a signal in the middle of a library's `close` makes it raise its own.
        work(numbers, goes_on=lambda: os.getppid() == parent)


def _write_some(
    part: Path,
    text: ParallelText,
    vocabularies: Sequence[Vocabulary],
    limits: Limits | None,
    numbers: set[int],
    shows_progress: bool = False,
    goes_on: Callable[[], bool] = lambda: True,
) -> None:
    """Write some shards of a corpus, by their numbers, as long as it goes on."""
    pairs = iter(text)
    shards = range(max(numbers, default=-1) + 1)
    if shows_progress:
        shards = track(shards, escape(f"Tokenising {text.name}"), console=Console(stderr=True), transient=True)  # type: ignore[assignment]  # both are iterables of numbers
    for number in shards:
        if not goes_on():
            break
        stretch = islice(pairs, _SHARD)
        if number in numbers:
            _write_shard(part, number, stretch, vocabularies, limits)
        else:
            deque(stretch, maxlen=0)  # Read on.


def _write_shard(
    part: Path, number: int, pairs: Iterator[Pair], vocabularies: Sequence[Vocabulary], limits: Limits | None
) -> None:
    """Write one shard: the tokens, and then how many there are, by which it is known to be whole."""
    dropped: Counter[str] = Counter()

    def encoded() -> Iterator[Block]:
        for start, block in numbered_blocks(pairs, number * _SHARD):
            sides = [
                vocabulary.encode(side, threads=1)
                for vocabulary, side in zip(vocabularies, zip(*block, strict=True), strict=True)
            ]
            is_kept = _kept(sides, limits, dropped)
            yield start + np.flatnonzero(is_kept), [list(compress(side, is_kept)) for side in sides]

    path = _shard(part, number, f".{uuid4().hex}.arrow")
    try:
        kept = write_file(path, encoded())
        path.replace(_shard(part, number, ".arrow"))
    except BaseException:
        path.unlink(missing_ok=True)  # On a full disk it would keep the room that it lacks.
        raise
    facts = {"kept": kept, "dropped": dict(+dropped)}
    write_whole(_shard(part, number, ".json"), json.dumps(facts).encode())


def _summarise(part: Path, text: ParallelText) -> None:
    """Join what is known of the shards.

    Raises:
        CorpusError: if no pair is left.
    """
    names, kept, dropped = [], 0, Counter[str]()
    for path in sorted(part.glob("shard-*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        kept += facts["kept"]
        dropped.update(facts["dropped"])
        if facts["kept"]:
            names.append(path.with_suffix(".arrow").name)
    if kept == 0:
        shutil.rmtree(part)
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise CorpusError(f"{text.name}: no pair is left ({reasons}); check the text or raise the limits")
    write_summary(part, kept, dropped, names)


def _shard(part: Path, number: int, suffix: str) -> Path:
    return part / f"shard-{number:05d}{suffix}"


def _kept(sides: Sequence[list[list[int]]], limits: Limits | None, dropped: Counter[str]) -> NDArray[np.bool_]:
    """[pairs] which pairs are of use; counts the others by the first reason that holds."""
    lengths = np.array([[len(row) for row in side] for side in sides])
    if limits is None:
        return np.ones(lengths.shape[1], bool)
    shorter, longer = lengths.min(axis=0), lengths.max(axis=0)
    reasons = {"blank": shorter == 0}
    if limits.max_length is not None:
        reasons[f"longer than {limits.max_length} tokens"] = longer > limits.max_length
    if limits.max_ratio is not None:
        reasons[f"beyond a ratio of {limits.max_ratio:g}"] = longer > limits.max_ratio * shorter
    is_kept = np.ones(lengths.shape[1], bool)
    for reason, holds in reasons.items():
        dropped.update({reason: int((is_kept & holds).sum())})
        is_kept &= ~holds
    return is_kept
