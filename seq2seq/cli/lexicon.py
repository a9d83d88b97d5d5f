"""`seq2seq lexicon`: what `--shortlist` needs, for a model that is trained."""

from __future__ import annotations

from typing import Annotated

import typer

from seq2seq.cli.flags import Columns, Keys, Texts
from seq2seq.cli.options import Model
from seq2seq.cli.output import print_out


def lexicon(
    model: Model,
    texts: Texts,
    frequent: Annotated[
        int | None, typer.Option(help="The most frequent target tokens that are on every list.", show_default="400")
    ] = None,
    columns: Columns = (1, 2),
    keys: Keys = ("source", "target"),
) -> None:
    """Learn from the training text which target tokens translate a source token, and keep it in the model folder: for
    --shortlist."""
    from seq2seq.corpus import check_fields, read_places
    from seq2seq.lexicon import FREQUENT
    from seq2seq.package import add_lexicon

    check_fields([texts], columns, keys)
    text = read_places(texts, columns, keys)
    found = add_lexicon(model, text, frequent=FREQUENT if frequent is None else frequent)
    candidates = (found.candidates >= 0).sum(dim=1)
    print_out(
        f"{len(candidates):,} source tokens with {float(candidates.float().mean()):.0f} candidates on average, and "
        f"{len(found.always):,} target tokens on every list, are in {model}; translate with --shortlist 10"
    )
