"""`seq2seq translate`: lines in, lines out."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Annotated

from seq2seq.cli.lines import open_blocks, refuse_overwriting
from seq2seq.cli.options import MACHINE, MachineOptions, Models, SearchOptions, option, with_options
from seq2seq.cli.output import LineCounter, Output
from seq2seq.cli.work import IN_AND_OUT, DemandOptions, Remarks, ShowOptions, Work
from seq2seq.errors import ConfigError


@with_options
def translate(
    models: Models,
    *,
    input_path: Annotated[
        Path | None, option(IN_AND_OUT, "Instead of standard input.", "--input", "-i", metavar="FILE")
    ] = None,
    output_path: Annotated[
        Path | None, option(IN_AND_OUT, "Instead of standard output.", "--output", "-o", metavar="FILE")
    ] = None,
    json_lines: Annotated[
        bool,
        option(
            IN_AND_OUT,
            'Each input line is a JSON object: {"source": TEXT, "prefix": TEXT, "constraints": [TEXT, ...]}.',
            "--json-lines",
        ),
    ] = False,
    show: ShowOptions,
    demands: DemandOptions,
    search: SearchOptions,
    machine: MachineOptions,
    devices: Annotated[
        int,
        option(
            MACHINE,
            "Divide the lines among this many processes, a GPU each or a part of the CPU's cores; all are read first.",
        ),
    ] = 1,
) -> None:
    """Translate standard input, line by line, to standard output."""
    search.config()  # A mistake in it is told before the models are read.
    _check(demands, show, json_lines)
    refuse_overwriting([input_path], output_path)
    work = Work(str(input_path or "standard input"), json_lines, show, demands)
    if devices != 1:
        from seq2seq.cli.together import translate_together

        translate_together(work, models, search, machine, devices, input_path, output_path)
        return
    translator = machine.load(models)
    config = search.config(translator)
    translator.check(config, **show.options)
    from seq2seq.translator import BLOCK, Share

    number = 0
    with (
        Remarks(work.name) as remarks,
        closing(open_blocks(input_path, BLOCK)) as blocks,
        Output(output_path) as output,
        LineCounter(shown=output_path is not None or not os.isatty(1)) as counter,
    ):
        for block in blocks:
            shown = work.of(block, number, translator, config, Share())
            remarks.add(shown.remarks, number)
            output.write("".join(shown.lines.values()))
            if shown.fault:
                raise shown.fault
            number += len(block)
            counter.add(len(block))


def _check(demands: DemandOptions, show: ShowOptions, json_lines: bool) -> None:
    """Refuse options that cannot be combined, before anything is read."""
    if show.attention and not show.as_json:
        raise ConfigError("--attention is shown in JSON alone, got it without --json; add --json")
    if json_lines and (demands.prefix or demands.constraints):
        raise ConfigError(
            "--json-lines gives each line a prefix and constraints of its own, "
            "got --prefix or --constraint too; leave one of them out"
        )
