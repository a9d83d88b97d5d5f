"""Parts of a corpus that are held out."""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from seq2seq.corpus.facts import Tally
from seq2seq.corpus.files import StrPath
from seq2seq.corpus.pairs import Pair, ParallelText, as_read
from seq2seq.corpus.watching import watched
from seq2seq.errors import CorpusError


def hold_out(
    pairs: ParallelText, most: int = 2000, cache: StrPath | None = None
) -> tuple[ParallelText, ParallelText, ParallelText]:
    """Training, validation and test: each of the last two is a twentieth, or about `most` pairs if that is less.

    Source sentences are held out with all their translations, so that a paraphrase in training cannot give a test
    sentence away. A sentence's part depends on nothing but itself and how many pairs there are.

    Args:
        pairs: all.
        most: pairs of each part that is held out, about.
        cache: a folder that spares the reading of files that are as they were; see `ParallelText.with_facts`.

    Raises:
        CorpusError: if one of the three would be empty, or at a fault in the text.
    """
    if cache is not None:
        pairs.with_facts(cache)
    every = max(20, len(pairs) // most)

    def number(pair: Pair) -> int:
        """Of the part that a pair belongs to: validation, test, training, which drops what is blank."""
        source, target = map(as_read, pair)
        if not source or not target:
            return 2
        return min(2, crc32(source.encode()) % every)

    def part(name: str, wanted: int) -> ParallelText:
        def chosen() -> Iterator[Pair]:
            return (pair for pair in pairs if number(pair) == wanted)

        return ParallelText(f"{pairs.name} ({name})", chosen, pairs.files, f"{pairs.selection}, {name} of {every}")

    parts = validation, test, training = part("validation", 0), part("test", 1), part("training", 2)
    if cache is None or not all(text.load_facts(cache) for text in parts):
        # One reading finds the facts of all three.
        tallies, stamps = (Tally(), Tally(), Tally()), [text.stamp() for text in parts]
        for pair in watched(pairs, f"Dividing {pairs.name}", len(pairs)):
            tallies[number(pair)].add(pair)
        for text, tally, stamp in zip(parts, tallies, stamps, strict=True):
            text.set_facts(tally.count, tally.fingerprint, stamp)
            if cache is not None:
                text.save_facts(cache)
    if not all(map(len, parts)):
        raise CorpusError(f"{pairs.name} has too few different sentences to hold some out, {len(pairs)}; give hundreds")
    return training, validation, test
