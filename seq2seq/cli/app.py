"""The commands: each parses, calls the library, prints.

What is slow to import is imported inside of the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seq2seq.cli.average import average
from seq2seq.cli.lines import Counter, Output, read_blocks
from seq2seq.errors import ConfigError, CorpusError, one_line_errors

if TYPE_CHECKING:
    from seq2seq.config import SearchConfig
    from seq2seq.metrics import Judge, Score
    from seq2seq.translator import Translation

# typer carries its own copy of click or uses click itself, as the version goes.
UsageFault: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="seq2seq",
    help="Translate with a trained recurrent model, and measure translations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Model = Annotated[Path, typer.Argument(help="The model folder, as a recipe leaves it.", show_default=False)]
References = Annotated[
    list[Path], typer.Option("--reference", "-r", help="A true translation; give it again for each.")
]
Metrics = Annotated[list[str], typer.Option("--metric", "-m", help="bleu, chrf, ter or exact; repeatable.")]
Lowercase = Annotated[
    bool | None, typer.Option("--lowercase/--no-lowercase", "-lc", help="Compare in lower case, as sacrebleu does.")
]
Tokenize = Annotated[str | None, typer.Option(help="sacrebleu's tokenizer for BLEU [default: 13a].")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
BeamSize = Annotated[int, typer.Option(help="Hypotheses kept at every step; 1 is greedy.")]
LengthPenalty = Annotated[str, typer.Option(help="none, average or gnmt.")]
Alpha = Annotated[float, typer.Option(help="Exponent of the length penalty.")]
MaxLength = Annotated[int, typer.Option(help="Tokens that a translation has at most.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, ... or auto.")]


def run(arguments: Sequence[str]) -> None:
    """Run one command line; a user's mistake is one line on standard error and exit code 2."""
    with one_line_errors():
        try:
            code = app(args=list(arguments), prog_name="seq2seq", standalone_mode=False)
        except UsageFault as fault:
            message = fault.format_message()  # type: ignore[attr-defined]  # every click exception has it
            if not arguments:  # typer's answer to no arguments is the help
                print(message)
                raise SystemExit(2) from None
            raise ConfigError(f"{message.rstrip('.')}; see seq2seq --help") from None
    sys.exit(code)


@app.command()
def translate(
    model: Model,
    input_path: Annotated[Path | None, typer.Option("--input", "-i", help="Instead of standard input.")] = None,
    output_path: Annotated[Path | None, typer.Option("--output", "-o", help="Instead of standard output.")] = None,
    beam_size: BeamSize = 5,
    n_best: Annotated[
        int, typer.Option(help="Translations per line; above 1, each as LINE, SCORE and TEXT with tabs between.")
    ] = 1,
    length_penalty: LengthPenalty = "average",
    alpha: Alpha = 1.0,
    max_length: MaxLength = 256,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line, with scores and tokens.")] = False,
    device: Device = "cpu",
) -> None:
    """Translate standard input, line by line, to standard output."""
    search = _search(beam_size, length_penalty, alpha, max_length, n_best)
    _keep([input_path] if input_path else [], output_path)
    from seq2seq.translator import Translator
    from seq2seq.translator.translator import BLOCK

    translator = Translator.load(model, device)
    number = 0
    with (
        closing(_blocks(input_path, BLOCK)) as blocks,
        Output(output_path) as output,
        Counter(shown=output_path is not None or not os.isatty(1)) as counter,
    ):
        for block in blocks:
            shown = []
            for line, found in zip(block, translator.generate(block, search), strict=True):
                number += 1
                shown.append(_show(number, line, found, n_best, as_json))
            output.write("".join(shown))
            counter.add(len(block))


@app.command()
def evaluate(
    model: Model,
    source: Annotated[Path, typer.Option("--source", "-s", help="What to translate.", show_default=False)],
    reference: References,
    metric: Metrics = ["bleu"],  # noqa: B006  # typer reads it and hands over a copy
    output_path: Annotated[Path | None, typer.Option("--output", "-o", help="Keep the translations here.")] = None,
    lowercase: Lowercase = None,
    tokenize: Tokenize = None,
    beam_size: BeamSize = 5,
    length_penalty: LengthPenalty = "average",
    alpha: Alpha = 1.0,
    max_length: MaxLength = 256,
    as_json: AsJson = False,
    device: Device = "cpu",
) -> None:
    """Translate a test set and score the translations."""
    from seq2seq import metrics

    search = _search(beam_size, length_penalty, alpha, max_length)
    _keep([source, *reference], output_path)
    sources, *references = _read_aligned([source, *reference])
    judges = _judges(metric, lowercase, tokenize)  # A mistake in them is told before the translating.
    from seq2seq.translator import Translator

    translator = Translator.load(model, device)
    translations = []
    with Output(output_path) if output_path else nullcontext() as output, Counter(shown=True) as counter:
        for best, *_ in translator.translate_stream(sources, search):
            translations.append(best.text)
            counter.add(1)
            if output:
                output.write(f"{best.text}\n")
    _print_scores([metrics.score(judge, translations, references) for judge in judges], as_json)


@app.command()
def score(
    hypotheses: Annotated[list[Path], typer.Argument(help="One system's output, or two to compare.")],
    reference: References,
    metric: Metrics = ["bleu"],  # noqa: B006  # typer reads it and hands over a copy
    lowercase: Lowercase = None,
    tokenize: Tokenize = None,
    samples: Annotated[int, typer.Option(min=1, help="Resampled test sets of the bootstrap test.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Score any system's output; compare two by a paired bootstrap test, the first being the baseline."""
    if len(hypotheses) > 2:
        raise ConfigError(f"score takes one system or two, got {len(hypotheses)}; compare two at a time")
    from seq2seq import metrics

    judges = _judges(metric, lowercase, tokenize)
    first, *others = _read_aligned([*hypotheses, *reference])
    if len(hypotheses) == 1:
        _print_scores([metrics.score(judge, first, others) for judge in judges], as_json)
        return
    second, *references = others
    for judge in judges:
        found = metrics.paired_bootstrap(judge, first, second, references, samples=samples)
        if as_json:
            _print(json.dumps(asdict(found), ensure_ascii=False))
            continue
        sides = ((found.baseline, found.baseline_interval), (found.system, found.system_interval))
        for path, (result, (mean, half)) in zip(hypotheses, sides, strict=True):
            _print(f"{result} ({mean:.1f} ± {half:.1f})  {path}")
        _print(f"p = {found.p_value:.4f}: {_verdict(found.p_value)}")


@app.command()
def info(model: Model, as_json: AsJson = False) -> None:
    """Say what a model folder holds."""
    from seq2seq import package

    found = package.load(model)
    metadata = found.metadata.model_dump()
    if as_json:
        _print(json.dumps(metadata, ensure_ascii=False))
        return
    sizes = f"{len(found.source_vocabulary):,} source, {len(found.target_vocabulary):,} target"
    rows = {
        "languages": " → ".join(language or "?" for language in metadata["languages"]),
        "written by": metadata["library"],
        "parameters": f"{sum(part.numel() for part in found.model.parameters()):,}",
        "vocabulary": f"{len(found.source_vocabulary):,} joint" if metadata["joint"] else sizes,
        **_flat({"model": metadata["model"], "training": metadata["training"]}),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        _print(f"{name:<{width}}  {value}")


app.command()(average)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values in one dictionary, by names with dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= (
            {f"{name}.{key}": item for key, item in _flat(value).items()} if isinstance(value, dict) else {name: value}
        )
    return flat


def _keep(inputs: Sequence[Path], output: Path | None) -> None:
    """Refuse to write over what is still to be read."""
    for path in inputs:
        if output and output.exists() and path.exists() and output.samefile(path):
            raise ConfigError(f"--output must be another file than what is read, got {output} for both")


def _search(beam_size: int, length_penalty: str, alpha: float, max_length: int, n_best: int = 1) -> SearchConfig:
    from seq2seq.config import SearchConfig

    return SearchConfig(**{name: value for name, value in locals().items() if name != "SearchConfig"})


def _blocks(path: Path | None, size: int) -> Generator[list[str]]:
    """Standard input or a file, compressed or not, in blocks of lines."""
    if path is None:
        yield from read_blocks(0, "standard input", size)
    elif path.suffix in (".gz", ".xz", ".zip"):
        from seq2seq.corpus import read_text

        lines = read_text(path)
        while block := list(islice(lines, size)):
            yield block
    else:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise CorpusError(f"{path}: cannot be read ({error.strerror}); check the path") from None
        try:
            yield from read_blocks(descriptor, str(path), size)
        finally:
            os.close(descriptor)


def _read_aligned(paths: Sequence[Path]) -> list[list[str]]:
    """The lines of each file; all must have as many."""
    from seq2seq.corpus import read_text

    texts = [list(read_text(path)) for path in paths]
    for path, lines in zip(paths, texts, strict=True):
        if len(lines) != len(texts[0]):
            raise CorpusError(
                f"all files must have as many lines, got {len(texts[0])} in {paths[0]} and {len(lines)} in {path}; "
                "align them"
            )
    return texts


def _judges(names: Sequence[str], lowercase: bool | None, tokenize: str | None) -> list[Judge]:
    """The metrics asked for; `tokenize` is for BLEU alone, if that is among them."""
    from seq2seq.metrics import Judge

    metrics = ["exact_match" if name == "exact" else name for name in names]
    return [
        Judge(metric, lowercase, tokenize if metric == "bleu" or "bleu" not in metrics else None) for metric in metrics
    ]


def _show(number: int, line: str, found: Sequence[Translation], n_best: int, as_json: bool) -> str:
    """One input line's part of the output."""
    if as_json:
        translations = [
            {"text": one.text, "score": one.score, "tokens": one.tokens, "token_scores": one.token_scores}
            for one in found
        ]
        return json.dumps({"source": line, "translations": translations}, ensure_ascii=False) + "\n"
    if n_best == 1:
        return f"{found[0].text}\n"
    return "".join(f"{number}\t{one.score:.4f}\t{one.text}\n" for one in found)


def _print_scores(scores: Sequence[Score], as_json: bool) -> None:
    if as_json:
        _print(json.dumps([asdict(score) for score in scores], ensure_ascii=False))
    else:
        for score in scores:
            _print(str(score))


def _print(text: str) -> None:
    Output().write(f"{text}\n")


def _verdict(p_value: float) -> str:
    if p_value < 0.05:
        return "a difference this large comes about by chance less often than once in twenty times"
    return "chance explains a difference this large"
