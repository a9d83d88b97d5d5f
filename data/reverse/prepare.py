"""Character sequences -> the same reversed, one pair per line: `qxtwo<tab>owtxq`.

Random lower-case letters, of each length equally many. Run it again to get the same files: everything is drawn with
one seed. No sequence appears twice.
"""

import argparse
import gzip
import random
from pathlib import Path
from string import ascii_lowercase

from seq2seq.cli.output import printing
from seq2seq.cli.running import writing
from seq2seq.errors import one_line_errors

SEED = 1
TRAIN, VALIDATION, TEST = 20_000, 500, 1_000
LENGTHS = range(4, 17)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the three files")
    out: Path = parser.parse_args().out

    draw = random.Random(SEED)
    sequences: dict[str, None] = {}  # a set that keeps its order
    while len(sequences) < TRAIN + VALIDATION + TEST:
        sequences["".join(draw.choices(ascii_lowercase, k=draw.choice(LENGTHS)))] = None
    rest = list(sequences)
    test, validation, train = rest[:TEST], rest[TEST : TEST + VALIDATION], rest[TEST + VALIDATION :]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, part in (("train", train), ("validation", validation), ("test", test)):
            lines = "".join(f"{sequence}\t{sequence[::-1]}\n" for sequence in part)
            (out / f"{name}.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    with one_line_errors(), printing():
        main()
