"""The options that several commands share, in groups; what is slow to import is not imported here.

A command takes a group as one argument. `with_options` shows its fields to typer as options of their own:

    @with_options
    def translate(models: Models, search: SearchOptions): ...
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from seq2seq.config import SearchConfig
    from seq2seq.translator import Translator

Models = Annotated[
    list[Path],
    typer.Argument(
        metavar="MODEL...",
        help="The model folder, as a recipe leaves it. Several translate together, as an ensemble; "
        "they need the same target vocabulary.",
        show_default=False,
    ),
]
Model = Annotated[Path, typer.Argument(help="The model folder, as a recipe leaves it.", show_default=False)]
References = Annotated[
    list[Path], typer.Option("--reference", "-r", help="A true translation; give it again for each.")
]
Metrics = Annotated[list[str], typer.Option("--metric", "-m", help="bleu, chrf, ter or exact; repeatable.")]
Lowercase = Annotated[
    bool | None, typer.Option("--lowercase/--no-lowercase", "-lc", help="Compare in lower case, as sacrebleu does.")
]
Tokenize = Annotated[str | None, typer.Option(help="sacrebleu's tokenizer for BLEU.", show_default="13a")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

BEAM = "Search with a beam"
LENGTHS = "Lengths"
RULES = "What may be said"
SAMPLING = "Sampling"
CHOOSING = "Choosing among several"
MACHINE = "Machine"


def option(panel: str, text: str, *names: str, **settings: Any) -> Any:
    """An option in a panel of the help."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **settings)


@dataclass(frozen=True)
class SearchOptions:
    """The fields of `SearchConfig`, as far as they can be typed; the defaults are its own."""

    beam_size: Annotated[int, option(BEAM, "Hypotheses kept at every step; 1 is greedy.")] = 5
    n_best: Annotated[
        int, option(BEAM, "Translations per line; above 1, each is shown as LINE, SCORE and TEXT with tabs between.")
    ] = 1
    length_penalty: Annotated[
        str, option(BEAM, "none, average or gnmt: what a log-probability is divided by, so that length costs less.")
    ] = "average"
    alpha: Annotated[float, option(BEAM, "Exponent of the length penalty: a larger one is for longer texts.")] = 0.6
    word_reward: Annotated[float, option(BEAM, "Added to the score for every token.")] = 0.0
    coverage_penalty: Annotated[
        float,
        option(BEAM, "What it costs to attend to too little of the source; 0.2, say, with --length-penalty gnmt."),
    ] = 0.0
    patience: Annotated[
        float | None,
        option(
            BEAM,
            "Stop a line after PATIENCE times beam-size finished hypotheses.",
            show_default="when no other could win",
        ),
    ] = None
    beam_groups: Annotated[
        int,
        option(BEAM, "Divide the beam into so many groups that avoid each other's words: other --n-best, each once."),
    ] = 1
    diversity: Annotated[float, option(BEAM, "How much groups avoid each other.")] = 0.5
    max_length: Annotated[int, option(LENGTHS, "Tokens that a translation has at most.")] = 256
    min_length: Annotated[int, option(LENGTHS, "Tokens that it has at least.")] = 0
    max_length_ratio: Annotated[
        float, option(LENGTHS, "At most so many times the source's tokens, plus the margin; 0 for no such limit.")
    ] = 3.0
    max_length_margin: Annotated[int, option(LENGTHS, "Tokens that it may have beyond the ratio.")] = 10
    min_length_ratio: Annotated[float, option(LENGTHS, "At least so many times the source's tokens.")] = 0.0
    no_repeat_ngram: Annotated[int, option(RULES, "No so many tokens twice in a translation; 0: they may.")] = 0
    forbidden_tokens: Annotated[
        list[str],
        option(RULES, "A token that is never said, as --json shows it (▁ begins a word); repeatable.", "--forbid"),
    ] = ()  # type: ignore[assignment]  # frozen, where typer wants a list
    forbid_unk: Annotated[bool, option(RULES, "Never say <unk>.", "--forbid-unk")] = False
    shortlist: Annotated[
        int | None,
        option(
            RULES,
            "Say so many likely translations of each token and what is frequent alone, which is faster; 10, say. "
            "Needs seq2seq lexicon once.",
            show_default="the whole vocabulary",
        ),
    ] = None
    samples: Annotated[
        int, option(SAMPLING, "Draw so many translations from the model's distribution; 0: search for the best.")
    ] = 0
    temperature: Annotated[float, option(SAMPLING, "Above 1 more diverse, below 1 more like the best.")] = 1.0
    top_k: Annotated[int | None, option(SAMPLING, "Draw from so many most probable tokens.", show_default="all")] = None
    top_p: Annotated[
        float | None, option(SAMPLING, "Draw from the fewest tokens that have this probability.", show_default="all")
    ] = None
    seed: Annotated[int, option(SAMPLING, "The same seed and line give the same samples.")] = 0

    def config(self, translator: Translator | None = None) -> SearchConfig:
        """The configuration they stand for; without a translator, to see early whether there is one, tokens are left
        out.

        Raises:
            ConfigError: if there is none.
        """
        from seq2seq.config import SearchConfig

        if self.max_length_ratio < 0:  # 0 is a word of the command line alone
            raise ConfigError(
                f"max_length_ratio must be at least 0, got {self.max_length_ratio}; 0 is for no such limit"
            )
        values = {**asdict(self), "max_length_ratio": self.max_length_ratio or None, "forbidden_tokens": ()}
        if translator is not None:
            values["forbidden_tokens"] = tuple(translator.find_token(token) for token in self.forbidden_tokens)
        return SearchConfig(**values)


@dataclass(frozen=True)
class MachineOptions:
    """Where and how it is computed."""

    device: Annotated[str, option(MACHINE, "cpu, gpu (or cuda, cuda:1), mps, or auto: a GPU where there is one.")] = (
        "cpu"
    )
    precision: Annotated[
        str,
        option(
            MACHINE,
            "float32, or bfloat16: half the memory, and faster where the hardware has it; a few translations then "
            "change with what they are batched with.",
        ),
    ] = "float32"
    threads: Annotated[
        int | None, option(MACHINE, "Cores to use on a CPU, of several processes each.", show_default="all, shared")
    ] = None
    mean: Annotated[str, option(MACHINE, "What an ensemble takes the mean of: probabilities or log_probabilities.")] = (
        "probabilities"
    )

    def check(self, models: Sequence[Path]) -> None:
        """Refuse what cannot be, before anything is read.

        Raises:
            ConfigError: with the reason.
        """
        cores = os.cpu_count() or 1
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads must be at least 1, got {self.threads}; leave it out to use all cores")
        if self.threads is not None and self.threads > cores:
            raise ConfigError(
                f"threads must be at most the cores of this machine, {cores}, got {self.threads}; "
                "leave it out to use all of them"
            )
        if self.mean != "probabilities" and len(models) == 1:
            raise ConfigError(f"mean is of several models, got {self.mean} and one model; leave it out")

    def load(self, models: Sequence[Path]) -> Translator:
        """The translator, on this machine."""
        self.check(models)
        import torch

        from seq2seq.translator import Translator

        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return Translator.load(models, self.device, precision=self.precision, mean=self.mean)  # type: ignore[arg-type]  # load checks them


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of its groups of options in their place."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name in groups:
            members = get_type_hints(groups[name], include_extras=True)
            parameters += [
                inspect.Parameter(
                    field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=members[field.name]
                )
                for field in fields(groups[name])
            ]
        else:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))

    def run(**values: Any) -> None:
        grouped = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})  # type: ignore[operator]  # a dataclass
            for name, kind in groups.items()
        }
        command(**values, **grouped)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer looks at
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
