"""BLEU, chrF, TER and exact match, each with the signature that says how it was made.

The figures are sacrebleu's own, so that they can be compared with published ones: on the same lines, the `sacrebleu`
command gives the same, to the last digit.

Reference:
    Post (2018), arXiv:1804.08771 (sacrebleu); Papineni et al. (2002) (BLEU); Popovic (2015) (chrF);
    Snover et al. (2006) (TER); Koehn (2004) (paired bootstrap).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, cast

import sacrebleu
from sacrebleu.metrics import base
from sacrebleu.significance import PairedTest

from seq2seq.errors import ConfigError, CorpusError

Lines = Sequence[str]


@dataclass(frozen=True, slots=True)
class Score:
    """A figure and how it was made; as text, `BLEU|nrefs:1|case:mixed|... = 38.1`."""

    name: str
    value: float
    """Per cent; for TER, edits per 100 reference words (lower is better)."""
    signature: str

    def __str__(self) -> str:
        return f"{self.name}|{self.signature} = {self.value:.1f}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two systems on the same lines.

    Attributes:
        baseline: the first system's score.
        system: the second system's.
        p_value: how often a difference as large comes about by chance.
        baseline_interval: mean and half-width of the 95 % confidence interval over the resamples.
        system_interval: the same of the second system.
    """

    baseline: Score
    system: Score
    p_value: float
    baseline_interval: tuple[float, float]
    system_interval: tuple[float, float]


class ExactMatch(base.Metric):
    """The share of lines that equal one of their references, but for white space at the end.

    It has sacrebleu's interface, so that sacrebleu's significance test takes it.
    """

    def __init__(self, lowercase: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # sacrebleu gives it no types
        self.lowercase = lowercase
        self.num_refs = 0

    def _preprocess_segment(self, sent: str) -> str:
        line = sent.rstrip()
        return line.lower() if self.lowercase else line

    def _extract_reference_info(self, refs: Lines) -> dict[str, Any]:
        return {"references": set(refs)}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[int]:
        return [int(hypothesis in ref_kwargs["references"]), 1]

    def _aggregate_and_compute(self, stats: list[list[Any]]) -> base.Score:
        return self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])

    def _compute_score_from_stats(self, stats: list[Any]) -> base.Score:
        equal, lines = stats
        return base.Score("EM", float(100 * equal / lines))

    def get_signature(self) -> base.Signature:
        signature = base.Signature({"num_refs": self.num_refs})
        signature.update("case", "lc" if self.lowercase else "mixed")
        signature.update("version", version("seq2seq-lightning"))
        return signature


class Judge:
    """A metric with its options, ready to score.

    Args:
        metric: one of `METRICS`.
        lowercase: compare in lower case; `None`: as sacrebleu does without being told, which is yes for TER alone.
        tokenize: for BLEU, the name of one of sacrebleu's tokenizers; `None`: `13a`.

    Raises:
        ConfigError: if there is no such metric or tokenizer.
    """

    def __init__(self, metric: str, lowercase: bool | None = None, tokenize: str | None = None) -> None:
        if metric not in METRICS:
            raise ConfigError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
        if tokenize is not None and metric != "bleu":
            raise ConfigError(f"tokenize is an option of bleu, got it with {metric}; leave it out")
        if tokenize is not None and tokenize not in sacrebleu.BLEU.TOKENIZERS:
            raise ConfigError(f"tokenize must be one of {', '.join(sacrebleu.BLEU.TOKENIZERS)}, got {tokenize!r}")
        self.metric = metric
        self.lowercase = lowercase
        self.tokenize = tokenize
        self.build()  # What is wrong is told now.

    def build(self) -> base.Metric:
        """sacrebleu's object; a new one for each use, since it remembers the number of references."""
        match self.metric:
            case "chrf":
                return sacrebleu.CHRF(lowercase=bool(self.lowercase))
            case "ter":
                return sacrebleu.TER(case_sensitive=self.lowercase is False)
            case "exact_match":
                return ExactMatch(lowercase=bool(self.lowercase))
        try:
            # force: no warnings about text that looks tokenised, which belongs to some data.
            return sacrebleu.BLEU(lowercase=bool(self.lowercase), tokenize=self.tokenize, force=True)
        except Exception as error:  # Some tokenizers need a download or another package, and fail in many ways.
            reason = " ".join(str(error).split())
            raise ConfigError(f"sacrebleu cannot use tokenize={self.tokenize!r}: {reason}") from None


def score(metric: str | Judge, hypotheses: Lines, references: Sequence[Lines]) -> Score:
    """Score translations.

    Args:
        metric: one of `METRICS`, or a `Judge` that has options too.
        hypotheses: one detokenised line per sentence.
        references: one or more translations of the whole, each with as many lines.

    Raises:
        ConfigError: if there is no such metric; for a text where a list of them should be.
        CorpusError: if there are no lines, or the references do not have as many.
    """
    judge = (metric if isinstance(metric, Judge) else Judge(metric)).build()
    hypotheses, references = _stripped(hypotheses), [_stripped(lines) for lines in references]
    check_lines(hypotheses, references)
    result = judge.corpus_score(hypotheses, references)
    return Score(result.name, result.score, judge.get_signature().format())


def bleu(
    hypotheses: Lines, references: Sequence[Lines], *, lowercase: bool | None = None, tokenize: str | None = None
) -> Score:
    """BLEU, exponentially smoothed. Arguments and errors as for `score` and `Judge`."""
    return score(Judge("bleu", lowercase, tokenize), hypotheses, references)


def chrf(hypotheses: Lines, references: Sequence[Lines], *, lowercase: bool | None = None) -> Score:
    """chrF2: the F-score of character n-grams up to 6, recall weighing twice as much."""
    return score(Judge("chrf", lowercase), hypotheses, references)


def ter(hypotheses: Lines, references: Sequence[Lines], *, lowercase: bool | None = None) -> Score:
    """Edits per 100 reference words, lower is better; in lower case unless `lowercase` is False."""
    return score(Judge("ter", lowercase), hypotheses, references)


def exact_match(hypotheses: Lines, references: Sequence[Lines], *, lowercase: bool | None = None) -> Score:
    """Per cent of the lines that equal a reference, but for white space at the end."""
    return score(Judge("exact_match", lowercase), hypotheses, references)


METRICS: dict[str, Callable[..., Score]] = {"bleu": bleu, "chrf": chrf, "ter": ter, "exact_match": exact_match}


def paired_bootstrap(
    metric: str | Judge, baseline: Lines, system: Lines, references: Sequence[Lines], *, samples: int = 1000
) -> Comparison:
    """Whether two systems differ by more than chance: sacrebleu's paired bootstrap test.

    Args:
        metric: as for `score`; so are the errors.
        baseline: one line per sentence.
        system: the other system's lines.
        references: one or more translations of the whole.
        samples: how many resampled test sets, at least 1.

    Note: sacrebleu counts the resamples whose difference is *larger*, and so calls two equal systems different with
        p = 1 / (samples + 1). A difference of zero has p = 1 here.
    """
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}; leave it out for 1000")
    judge = (metric if isinstance(metric, Judge) else Judge(metric)).build()
    baseline, system = _stripped(baseline), _stripped(system)
    references = [_stripped(lines) for lines in references]
    check_lines(baseline, references)
    check_lines(system, references)
    test = PairedTest([("baseline", baseline), ("system", system)], {"metric": judge}, references, "bs", samples)
    signatures, columns = test()
    ((name, signature),) = signatures.items()
    first, second = cast(list[Any], columns[name])
    return Comparison(
        baseline=Score(name, first.score, signature.format()),
        system=Score(name, second.score, signature.format()),
        p_value=1.0 if first.score == second.score else second.p_value,
        baseline_interval=(float(first.mean), float(first.ci)),
        system_interval=(float(second.mean), float(second.ci)),
    )


def _stripped(lines: Lines) -> list[str]:
    """What the `sacrebleu` command makes of lines before it scores them."""
    if isinstance(lines, str):
        raise ConfigError(f"lines must be a list of texts, got the text {lines!r}; one list of references is [lines]")
    return [line.rstrip() for line in lines]


def check_lines(lines: Lines, references: Sequence[Lines]) -> None:
    """Refuse references that are not of these lines.

    Raises:
        CorpusError: with the reason.
    """
    if not lines or not references:
        raise CorpusError(f"a score needs lines and references, got {len(lines)} and {len(references)}")
    for number, reference in enumerate(references, start=1):
        if len(reference) != len(lines):
            raise CorpusError(
                f"reference {number} must have as many lines as the hypotheses, got {len(reference)} and "
                f"{len(lines)}; align them"
            )
