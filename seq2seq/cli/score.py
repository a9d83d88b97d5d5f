"""`seq2seq score` and `seq2seq evaluate`: how good translations are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from seq2seq.cli.lines import read_aligned, refuse_overwriting
from seq2seq.cli.options import (
    CHOOSING,
    AsJson,
    Lowercase,
    MachineOptions,
    Metrics,
    Models,
    References,
    SearchOptions,
    Tokenize,
    option,
    with_options,
)
from seq2seq.cli.output import LineCounter, Output, print_out
from seq2seq.cli.running import explained_memory, memory_of
from seq2seq.cli.work import Remarks, remarks_of
from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from seq2seq.metrics import Judge, Score


@with_options
def evaluate(
    models: Models,
    source: Annotated[Path, typer.Option("--source", "-s", help="What to translate.", show_default=False)],
    reference: References,
    search: SearchOptions,
    machine: MachineOptions,
    metric: Metrics = ["bleu"],  # noqa: B006  # typer reads it and hands over a copy
    output_path: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the translations here.")] = None,
    lowercase: Lowercase = None,
    tokenize: Tokenize = None,
    mbr: Annotated[
        str | None,
        option(CHOOSING, "Choose by minimum Bayes risk: by chrf or bleu.", metavar="METRIC"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Translate a test set and score the translations."""
    from seq2seq import metrics

    search.config()
    for name, count in (("samples", search.samples), ("n_best", search.n_best)):
        if mbr is None and count > 1:
            raise ConfigError(
                f"one translation of each line is scored, got {name}={count}; choose one of them with --mbr chrf"
            )
    refuse_overwriting([source, *reference], output_path)
    sources, *references = read_aligned([source, *reference])
    judges = _judges(metric, lowercase, tokenize)  # A mistake in them is told before the translating.
    translator = machine.load(models)
    config = search.config(translator)
    translator.check(config, utility=mbr)
    translations = []
    with (
        Remarks(str(source)) as remarks,
        Output(output_path) if output_path else nullcontext() as output,
        LineCounter(shown=True) as counter,
        explained_memory(*memory_of(config)),
    ):
        for number, (best, *_) in enumerate(translator.translate_stream(sources, config, utility=mbr)):
            translations.append(best.text)
            remarks.add({remark: [number] for remark in remarks_of([best], config)})
            counter.add(1)
            if output:
                output.write(f"{best.text}\n")
    _print_scores([metrics.score(judge, translations, references) for judge in judges], as_json)


def score(
    hypotheses: Annotated[list[Path], typer.Argument(help="One system's output, or two to compare.")],
    reference: References,
    metric: Metrics = ["bleu"],  # noqa: B006  # typer reads it and hands over a copy
    lowercase: Lowercase = None,
    tokenize: Tokenize = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Resampled test sets of the bootstrap test.", show_default="1000")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score any system's output; compare two by a paired bootstrap test, the first being the baseline."""
    if len(hypotheses) > 2:
        raise ConfigError(f"score takes one system or two, got {len(hypotheses)}; compare two at a time")
    if samples is not None and len(hypotheses) == 1:
        raise ConfigError(f"--samples is for comparing two systems, got --samples {samples} and one; leave it out")
    from seq2seq import metrics

    judges = _judges(metric, lowercase, tokenize)
    first, *others = read_aligned([*hypotheses, *reference])
    if len(hypotheses) == 1:
        _print_scores([metrics.score(judge, first, others) for judge in judges], as_json)
        return
    second, *references = others
    comparisons = []
    for judge in judges:
        with explained_memory(f"in comparing with samples={samples or 1000}", "lower --samples"):
            found = metrics.paired_bootstrap(judge, first, second, references, samples=samples or 1000)
        if as_json:
            comparisons.append(asdict(found))
            continue
        sides = ((found.baseline, found.baseline_interval), (found.system, found.system_interval))
        for path, (result, (mean, half)) in zip(hypotheses, sides, strict=True):
            print_out(f"{result} ({mean:.1f} ± {half:.1f})  {path}")
        print_out(f"p = {found.p_value:.4f}: {_verdict(found.p_value)}")
    if as_json:
        print_out(json.dumps(comparisons, ensure_ascii=False))


def _judges(names: Sequence[str], lowercase: bool | None, tokenize: str | None) -> list[Judge]:
    """The metrics asked for; `tokenize` is for BLEU alone, if that is among them."""
    from seq2seq.metrics import Judge

    metrics = ["exact_match" if name == "exact" else name for name in names]
    return [
        Judge(metric, lowercase, tokenize if metric == "bleu" or "bleu" not in metrics else None) for metric in metrics
    ]


def _print_scores(scores: Sequence[Score], as_json: bool) -> None:
    if as_json:
        print_out(json.dumps([asdict(score) for score in scores], ensure_ascii=False))
    else:
        for score in scores:
            print_out(str(score))


def _verdict(p_value: float) -> str:
    if p_value < 0.05:
        return "a difference this large comes about by chance less often than once in twenty times"
    return "chance explains a difference this large"
