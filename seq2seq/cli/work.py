"""What `seq2seq translate` makes of a block of lines: what is asked for, and what is shown."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

from seq2seq.cli.options import CHOOSING, option
from seq2seq.cli.output import finite
from seq2seq.cli.running import explained_memory, memory_of
from seq2seq.errors import ConfigError, CorpusError, Seq2SeqError, tell

if TYPE_CHECKING:
    from seq2seq.config import SearchConfig
    from seq2seq.translator import Options, Request, Share, Translation, Translator

IN_AND_OUT = "Input and output"
DEMANDS = "What translations must have"
KEYS = ("source", "prefix", "constraints")
NO_TEXT = {"NUL": re.compile("\0"), "half of a surrogate pair": re.compile("[\ud800-\udfff]")}
"""What JSON can write and lines of text cannot hold."""
LIMITS = ("max_length", "max_length_ratio", "max_length_margin")
REMARKS = {
    "speechless": "nothing can be said of {} under these rules; "
    "lower --min-length, raise --no-repeat-ngram or forbid less",
    "cut": "the limits of length may have cut the translations of {}; "
    "raise --max-length-ratio, --max-length-margin or --max-length",
}
"""What is remarkable about the translations of some lines."""


@dataclass(frozen=True)
class DemandOptions:
    """What every translation must have."""

    prefix: Annotated[
        str,
        option(
            DEMANDS,
            "Every translation begins with this text. Its last word may still grow, unless a space follows it.",
            metavar="TEXT",
        ),
    ] = ""
    constraints: Annotated[
        list[str],
        option(
            DEMANDS,
            "Every translation contains this phrase, as whole words; repeatable. A wider beam finds it a better place.",
            "--constraint",
            metavar="TEXT",
        ),
    ] = ()  # type: ignore[assignment]  # frozen, where typer wants a list


@dataclass(frozen=True)
class ShowOptions:
    """What is printed about the translations."""

    as_json: Annotated[
        bool, option(IN_AND_OUT, "One JSON object per line, with scores, tokens and all that is asked for.", "--json")
    ] = False
    alignments: Annotated[
        bool,
        option(
            IN_AND_OUT,
            "Show which words were made of which, behind a tab: 0-0 2-1 is SOURCE-TARGET, words counted from 0.",
            "--alignments",
        ),
    ] = False
    attention: Annotated[
        bool, option(IN_AND_OUT, "With --json: how each token's attention was divided over the source.", "--attention")
    ] = False
    replace_unk: Annotated[
        bool,
        option(IN_AND_OUT, "Write the source word that it looked at most for each <unk> (⁇).", "--replace-unk"),
    ] = False
    mbr: Annotated[
        str | None,
        option(
            CHOOSING,
            "Choose the translation that is most like all others, by chrf or bleu: minimum Bayes risk. "
            "Needs --samples (100, say) or --n-best, which say of how many.",
            metavar="METRIC",
        ),
    ] = None

    @property
    def options(self) -> Options:
        """The same as `Translator` calls them."""
        return {
            "attention": self.attention,
            "alignments": self.alignments,
            "replace_unk": self.replace_unk,
            "utility": self.mbr,
        }


@dataclass(frozen=True)
class Shown:
    """What is shown of a block.

    Attributes:
        lines: by their numbers in the block.
        remarks: the numbers of those about which there is one; see `REMARKS`.
        before: lines of the block that stand before the faulty one; without a fault, all.
        fault: of the first line that cannot be asked for.
    """

    lines: dict[int, str]
    remarks: dict[str, list[int]]
    before: int
    fault: Seq2SeqError | None


def remarks_of(found: Sequence[Translation], config: SearchConfig) -> Iterator[str]:
    """What is remarkable about the translations of a line; a limit of length that was asked for is not."""
    if not all(math.isfinite(one.score) for one in found):
        yield "speechless"
    usual = type(config)()
    if all(getattr(config, limit) == getattr(usual, limit) for limit in LIMITS) and any(one.at_limit for one in found):
        yield "cut"


class Remarks:
    """Tells, at the end, what was remarkable about the translations of which lines.

    Args:
        name: of the input.
    """

    MOST = 10

    def __init__(self, name: str) -> None:
        self.name = name
        self.first = {remark: list[int]() for remark in REMARKS}
        self.more = dict.fromkeys(REMARKS, 0)

    def add(self, remarks: Mapping[str, Iterable[int]], before: int = 0) -> None:
        """Add some, about lines that are counted from 0 after so many others."""
        for remark, lines in remarks.items():
            for line in lines:
                if len(self.first[remark]) < self.MOST:
                    self.first[remark].append(before + line + 1)
                else:
                    self.more[remark] += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, SystemExit):  # a reader that has gone ends it quietly
            return
        for remark, text in REMARKS.items():
            if first := self.first[remark]:
                more = f" and {self.more[remark]:,} more" if self.more[remark] else ""
                lines = f"{'line' if len(first) == 1 else 'lines'} {', '.join(map(str, first))}{more}"
                tell(f"warning: {self.name}: {text.format(lines)}")


@dataclass(frozen=True)
class Work:
    """From a block of lines to what is shown of them.

    Attributes:
        name: of the input, for messages.
    """

    name: str
    json_lines: bool
    show: ShowOptions
    demands: DemandOptions

    def of(
        self, block: Sequence[str], before: int, translator: Translator, config: SearchConfig, share: Share
    ) -> Shown:
        """What is shown of the lines of a block that are this process's share, up to the first faulty one.

        Args:
            block: some lines.
            before: how many lines came before them.
        """
        from seq2seq.translator.finding import check_met

        requests, fault = self._requests(block, before, translator, config)
        with explained_memory(*memory_of(config)):
            found = translator.generate_share(requests, config, share, **self.show.options)
        lines, remarks = dict[int, str](), defaultdict[str, list[int]](list)
        for number, translations in sorted(found.items()):
            request = requests[number]
            try:
                check_met(request, translations, config)
            except ConfigError as error:
                unmet = ConfigError(f"{self._place(before + number)}: {error}")
                return Shown(lines, remarks, number, unmet)
            lines[number] = _show(before + number + 1, request.text, translations, config, self.show)
            for remark in remarks_of(translations[:1] if self.show.mbr else translations, config):
                remarks[remark].append(number)
        return Shown(lines, remarks, len(requests), fault)

    def _requests(
        self, block: Sequence[str], before: int, translator: Translator, config: SearchConfig
    ) -> tuple[list[Request], Seq2SeqError | None]:
        """The lines with what their translations must have, up to the first that is faulty; and its fault."""
        from seq2seq.translator import Request

        if not self.json_lines:
            return [Request(line, self.demands.prefix, tuple(self.demands.constraints)) for line in block], None
        requests: list[Request] = []
        for number, line in enumerate(block, start=before):
            try:
                requests.append(_request(line, self._place(number), translator, config))
            except Seq2SeqError as fault:
                return requests, fault
        return requests, None

    def _place(self, number: int) -> str:
        """Where a fault is that comes after so many lines."""
        return f"{self.name}:{number + 1}"


def _request(line: str, place: str, translator: Translator, config: SearchConfig) -> Request:
    """What a line of JSON asks for.

    Raises:
        CorpusError: if it is not what `--json-lines` takes.
        ConfigError: if it asks for what cannot be said.
    """
    from seq2seq.translator import Request
    from seq2seq.translator.finding import check_request

    if not line.strip():
        return Request("")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place}: must be a JSON object, got {line[:40]!r} ({error}); see --json-lines") from None
    if not isinstance(values, dict) or "source" not in values:
        raise CorpusError(f'{place}: must be a JSON object with a "source", got {line[:40]!r}; see --json-lines')
    for key, value in values.items():
        if key not in KEYS:
            raise CorpusError(f"{place}: may have {', '.join(KEYS)}, got {key!r}; leave it out")
        texts = value if key == "constraints" and isinstance(value, list) else [value]
        if not all(isinstance(text, str) for text in texts) or (key == "constraints" and not isinstance(value, list)):
            kind = "a list of texts" if key == "constraints" else "a text"
            raise CorpusError(f"{place}: {key!r} must be {kind}, got {json.dumps(value)[:40]}")
        for what, characters in NO_TEXT.items():
            if any(characters.search(text) for text in texts):
                raise CorpusError(f"{place}: {key!r} holds {what}, so it is no text; remove it or give another file")
    request = Request(values["source"], values.get("prefix", ""), tuple(values.get("constraints", ())))
    try:
        check_request(translator.demands, request, config)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    return request


def _show(number: int, line: str, found: Sequence[Translation], config: SearchConfig, show: ShowOptions) -> str:
    """One input line's part of the output."""
    if show.as_json:
        translations = [dict(_facts(one, show)) for one in found]
        return json.dumps({"source": line, "translations": translations}, ensure_ascii=False, allow_nan=False) + "\n"
    rows = [f"{one.text}\t{one.pharaoh}" if show.alignments else one.text for one in found]
    if show.mbr or max(config.n_best, config.samples) == 1:
        return f"{rows[0]}\n"
    return "".join(f"{number}\t{one.score:.4f}\t{row}\n" for one, row in zip(found, rows, strict=True))


def _facts(one: Translation, show: ShowOptions) -> Iterator[tuple[str, Any]]:
    """What is told of a translation in JSON."""
    yield from (("text", one.text), ("score", finite(one.score)), ("tokens", one.tokens))
    yield "token_scores", [finite(score) for score in one.token_scores]
    yield "at_limit", one.at_limit
    if show.alignments:
        yield "alignment", one.alignment or []
    if show.attention:
        yield "source_tokens", one.source_tokens or []
        yield "attention", [[finite(weight) for weight in weights] for weights in one.attention or []]
    if show.mbr:
        yield "utility", one.utility
