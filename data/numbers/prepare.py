"""Number words, English -> French, one pair per line: `seventy-one<tab>soixante et onze`.

Made with num2words for numbers below a million. Run it again to get the same files: everything is drawn with one seed.
No number of the validation or test set appears in training; those below 100 are all in training, for every longer
number is made of them.
"""

import argparse
import gzip
import random
from pathlib import Path

from num2words import num2words

from seq2seq.cli.output import printing
from seq2seq.cli.running import writing
from seq2seq.errors import one_line_errors

SEED = 1
VALIDATION, TEST = 500, 1_000
# How many numbers of each number of digits: all the short ones, a sample of the long ones.
DRAWN = {3: 900, 4: 4_000, 5: 7_000, 6: 8_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the three files")
    out: Path = parser.parse_args().out

    draw = random.Random(SEED)
    numbers = [
        number
        for digits, count in DRAWN.items()
        for number in draw.sample(range(10 ** (digits - 1), 10**digits), count)
    ]
    draw.shuffle(numbers)
    test, validation, train = numbers[:TEST], numbers[TEST : TEST + VALIDATION], numbers[TEST + VALIDATION :]
    train += range(100)
    draw.shuffle(train)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, part in (("train", train), ("validation", validation), ("test", test)):
            lines = "".join(f"{num2words(number, lang='en')}\t{num2words(number, lang='fr')}\n" for number in part)
            (out / f"{name}.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    with one_line_errors(), printing():
        main()
