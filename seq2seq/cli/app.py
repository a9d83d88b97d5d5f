"""The commands: each parses, calls the library, prints.

What is slow to import is imported inside of the commands, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer

from seq2seq.cli.average import average
from seq2seq.cli.check_data import check_data
from seq2seq.cli.info import info
from seq2seq.cli.lexicon import lexicon
from seq2seq.cli.output import print_out
from seq2seq.cli.running import run_app
from seq2seq.cli.score import evaluate, score
from seq2seq.cli.score_pairs import score_pairs
from seq2seq.cli.translate import translate

app = typer.Typer(
    name="seq2seq",
    help="Translate with a trained recurrent model, and measure translations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print_out(f"seq2seq {version('seq2seq-lightning')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version, for a citation or a report.", is_eager=True, callback=_show_version
        ),
    ] = False,
) -> None:
    pass


for command in (translate, evaluate, score, score_pairs, info, lexicon, average, check_data):
    app.command()(command)


def run(arguments: Sequence[str]) -> None:
    """Run one command line; a user's mistake is one line on standard error and exit code 2."""
    run_app(app, arguments, "seq2seq")
