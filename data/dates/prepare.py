"""Dates as people write them in thirteen languages -> ISO 8601, a pair a line: `lördag 4 juli 2026<tab>2026-07-04`.

Made with Babel from Unicode's CLDR, the tables that operating systems write dates with. Run it again to get the same
files: everything is drawn with one seed. No date of the validation or test set appears in training, in any spelling.
"""

import argparse
import gzip
import random
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

from babel.dates import format_date, format_skeleton

from seq2seq.cli.output import printing
from seq2seq.cli.running import writing
from seq2seq.errors import one_line_errors

SEED = 1
TRAIN, VALIDATION, TEST = 20_000, 500, 1_000

# The 100 years that two digits name under POSIX (69 is 1969, 68 is 2068), so that "21.11.26" has one reading.
FIRST_DAY, DAYS = date(1969, 1, 1), 36_525

# American short dates (11/21/26) are left out: 03/04/05 would have two readings.
FORMATS = ("short", "medium", "long", "full", "yMMMEd")
STYLES = [
    (locale, form)
    for locale in ("de", "en_GB", "en_US", "es", "fr", "hu", "it", "ja", "lt", "nl", "pl", "pt", "ru", "sv")
    for form in FORMATS
    if (locale, form) != ("en_US", "short")
]


def spell(day: date, locale: str, form: str) -> str:
    """`day` in words and digits, with the plain spaces of a keyboard in the place of CLDR's no-break spaces."""
    text = format_date(day, form, locale) if form in FORMATS[:4] else format_skeleton(form, day, locale=locale)
    return text.replace("\u00a0", " ").replace("\u202f", " ")


def pairs(days: Iterable[date], draw: random.Random) -> list[tuple[str, str]]:
    """Each day once, in a language and format drawn at random; one in five all in lower case."""
    result = []
    for day in days:
        text = spell(day, *draw.choice(STYLES))
        result.append((text.lower() if draw.random() < 0.2 else text, day.isoformat()))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the three files")
    out: Path = parser.parse_args().out

    draw = random.Random(SEED)
    days = [FIRST_DAY + timedelta(days=number) for number in range(DAYS)]
    draw.shuffle(days)
    test, validation, train = days[:TEST], days[TEST : TEST + VALIDATION], days[TEST + VALIDATION :][:TRAIN]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, part in (("train", train), ("validation", validation), ("test", test)):
            lines = "".join(f"{source}\t{target}\n" for source, target in pairs(part, draw))
            (out / f"{name}.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    with one_line_errors(), printing():
        main()
