"""`seq2seq score-pairs`: how probable given translations are to a model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Annotated

import typer

from seq2seq.cli.lines import refuse_overwriting
from seq2seq.cli.options import MachineOptions, Models, with_options
from seq2seq.cli.output import LineCounter, Output, finite
from seq2seq.cli.running import explained_memory
from seq2seq.errors import CorpusError, tell

Pair = tuple[str, str]


@with_options
def score_pairs(
    models: Models,
    source: Annotated[Path, typer.Option("--source", "-s", help="One text per line.", show_default=False)],
    target: Annotated[Path, typer.Option("--target", "-t", help="Its translation, line by line.", show_default=False)],
    machine: MachineOptions,
    output_path: Annotated[Path | None, typer.Option("--output", "-o", help="Instead of standard output.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with every token's log-probability.")
    ] = False,
) -> None:
    """Say how probable given translations are: per line LOG-PROBABILITY and PERPLEXITY, with a tab between.

    Log-probabilities are natural, and count the end of the translation as a token. The total is told on standard error.
    """
    refuse_overwriting([source, target], output_path)
    pairs = _pairs(source, target)
    first = next(pairs, None)
    if first is None:
        raise CorpusError(f"{source}: is empty; give it pairs to score")
    translator = machine.load(models)
    from seq2seq.translator import BLOCK, perplexity

    total, tokens, lines = 0.0, 0, 0
    with Output(output_path) as output, LineCounter(shown=output_path is not None) as counter:
        block = [first, *islice(pairs, BLOCK - 1)]
        while block:
            shown = []
            with explained_memory("in scoring", "divide long lines"):
                found = translator.score([pair[0] for pair in block], [pair[1] for pair in block])
            for pair, one in zip(block, found, strict=True):
                total, tokens, lines = total + one.score, tokens + len(one.token_scores), lines + 1
                if as_json:
                    facts = {
                        "source": pair[0],
                        "target": pair[1],
                        "log_prob": finite(one.score),
                        "perplexity": finite(one.perplexity),
                        "tokens": one.tokens,
                        "token_scores": [finite(score) for score in one.token_scores],
                    }
                    shown.append(json.dumps(facts, ensure_ascii=False) + "\n")
                else:
                    shown.append(f"{one.score:.4f}\t{one.perplexity:.4f}\n")
            output.write("".join(shown))
            counter.add(len(block))
            block = list(islice(pairs, BLOCK))
    tell(f"{lines:,} pairs, {tokens:,} tokens: log-probability {total:.2f}, perplexity {perplexity(total, tokens):.4f}")


def _pairs(source: Path, target: Path) -> Iterator[Pair]:
    """The lines of two files, side by side.

    Raises:
        CorpusError: where one ends before the other.
    """
    from seq2seq.corpus import read_text

    for number, (one, other) in enumerate(zip_longest(read_text(source), read_text(target)), start=1):
        if one is None or other is None:
            short, long = (source, target) if one is None else (target, source)
            raise CorpusError(
                f"both files must have as many lines, got {number - 1} in {short} and more in {long}; align them"
            )
        yield one, other
