"""SCAN: commands -> actions, one pair per line: `jump twice and look<tab>I_JUMP I_JUMP I_LOOK`.

All 20,910 commands of the grammar in Lake & Baroni (2018), arXiv:1711.00350, with the meaning given there. One file
holds them all, in the grammar's order; `recipes/scan.py` splits it.
"""

import argparse
import gzip
from pathlib import Path

from seq2seq.cli.output import printing
from seq2seq.cli.running import writing
from seq2seq.errors import one_line_errors

ACTION = {"walk": "I_WALK", "look": "I_LOOK", "run": "I_RUN", "jump": "I_JUMP"}
TURN = {"left": "I_TURN_LEFT", "right": "I_TURN_RIGHT"}


def phrases() -> dict[str, list[str]]:
    """The 34 verb phrases (V, D and U of the paper) and the actions each means."""
    meaning = {verb: [action] for verb, action in ACTION.items()}
    for side, turn in TURN.items():
        # "turn" is a verb without an action of its own.
        for verb, action in [("turn", []), *((verb, [action]) for verb, action in ACTION.items())]:
            meaning[f"{verb} {side}"] = [turn, *action]
            meaning[f"{verb} opposite {side}"] = [turn, turn, *action]
            meaning[f"{verb} around {side}"] = [turn, *action] * 4
    return meaning


def commands() -> dict[str, list[str]]:
    """Every command (S and C of the paper): repetitions of a phrase, then pairs of those."""
    repeated = {
        phrase + word: actions * times
        for phrase, actions in phrases().items()
        for word, times in (("", 1), (" twice", 2), (" thrice", 3))
    }
    meaning = dict(repeated)
    for first, first_actions in repeated.items():
        for second, second_actions in repeated.items():
            meaning[f"{first} and {second}"] = first_actions + second_actions
            meaning[f"{first} after {second}"] = second_actions + first_actions
    return meaning


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder for the file")
    out: Path = parser.parse_args().out

    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        lines = "".join(f"{command}\t{' '.join(actions)}\n" for command, actions in commands().items())
        (out / "commands.tsv.gz").write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    with one_line_errors(), printing():
        main()
