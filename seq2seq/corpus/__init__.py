"""Reading and checking parallel text; every fault names its file and line.

A file is UTF-8, with or without a byte-order mark, plain or compressed (`.gz`, `.xz`, `.zip`). Only `\\n` ends a
line, and the `\\r` of a `\\r\\n` goes with it: other characters that some programs take for line ends (form feed,
U+0085, U+2028) stay inside, because they would put two sides out of step.

    text = read_lines("train.de.gz", "train.en.gz")
    for source, target in text: ...

Read `pairs` (`ParallelText`) and `readers` (what makes one from files and data sets) first; under them is `files` (the
lines of one file), beside them `places` (text by the name of where it is), `split` (parts held out) and `check`
(looking for faults before a training does).
"""

from seq2seq.corpus.files import read_text
from seq2seq.corpus.pairs import Limits, Pair, ParallelText, from_pairs
from seq2seq.corpus.places import check_fields, read_places
from seq2seq.corpus.readers import read_hub, read_jsonl, read_lines, read_tsv
from seq2seq.corpus.split import hold_out

__all__ = [
    "Limits",
    "Pair",
    "ParallelText",
    "check_fields",
    "from_pairs",
    "hold_out",
    "read_hub",
    "read_jsonl",
    "read_lines",
    "read_places",
    "read_text",
    "read_tsv",
]
