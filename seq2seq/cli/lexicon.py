"""`seq2seq lexicon`: what `--shortlist` needs, for a model that is trained."""

from __future__ import annotations

from typing import Annotated

import typer

from seq2seq.cli.options import Model


def lexicon(
    model: Model,
    texts: Annotated[
        list[str],
        typer.Argument(
            help="What the model was trained on: two files line by line, a TSV, JSON lines (.jsonl) or a data set "
            "(hub:NAME).",
            show_default=False,
        ),
    ],
    frequent: Annotated[
        int | None, typer.Option(help="So many most frequent target tokens are on every list.", show_default="400")
    ] = None,
    columns: Annotated[tuple[int, int], typer.Option(help="Of source and target in a TSV, counted from 1.")] = (1, 2),
    keys: Annotated[tuple[str, str], typer.Option(help="Of source and target in JSON lines and data sets.")] = (
        "source",
        "target",
    ),
) -> None:
    """Learn which target tokens translate a source token, and keep it in the model folder: for --shortlist."""
    from seq2seq.corpus import read_places
    from seq2seq.lexicon import FREQUENT
    from seq2seq.package import add_lexicon

    text = read_places(texts, columns, keys)
    found = add_lexicon(model, text, frequent=FREQUENT if frequent is None else frequent)
    candidates = (found.candidates >= 0).sum(dim=1)
    print(
        f"{len(candidates):,} source tokens with {float(candidates.float().mean()):.0f} candidates on average, and "
        f"{len(found.always):,} target tokens on every list, are in {model}; translate with --shortlist 10"
    )
