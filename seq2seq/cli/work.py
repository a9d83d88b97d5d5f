"""What `seq2seq translate` makes of a block of lines: what is asked for, and what is shown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

from seq2seq.cli.lines import finite
from seq2seq.cli.options import CHOOSING, option
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
        speechless: the numbers of those of which nothing can be said under the rules of the search.
        before: lines of the block that stand before the faulty one; without a fault, all.
        fault: of the first line that cannot be asked for.
    """

    lines: dict[int, str]
    speechless: list[int]
    before: int
    fault: Seq2SeqError | None


class Speechless:
    """Tells, at the end, of which lines nothing could be said.

    Args:
        name: of the input.
    """

    MOST = 10

    def __init__(self, name: str) -> None:
        self.name = name
        self.first: list[int] = []
        self.more = 0

    def add(self, lines: Iterable[int]) -> None:
        for line in lines:
            if len(self.first) < self.MOST:
                self.first.append(line)
            else:
                self.more += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self.first or isinstance(error, SystemExit):  # a reader that has gone ends it quietly
            return
        places = f"{', '.join(map(str, self.first))}{f' and {self.more:,} more' if self.more else ''}"
        word = "line" if len(self.first) == 1 else "lines"
        tell(
            f"warning: {self.name}: nothing can be said of {word} {places} under these rules; "
            "lower --min-length, raise --no-repeat-ngram or forbid less"
        )


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
        requests, fault = self._requests(block, before, translator)
        with explained_memory(*memory_of(config)):
            found = translator.generate_share(requests, config, share, **self.show.options)
        lines = {
            number: _show(before + number + 1, requests[number].text, translations, config, self.show)
            for number, translations in sorted(found.items())
        }
        speechless = [number for number in lines if not all(math.isfinite(one.score) for one in found[number])]
        return Shown(lines, speechless, len(requests), fault)

    def _requests(
        self, block: Sequence[str], before: int, translator: Translator
    ) -> tuple[list[Request], Seq2SeqError | None]:
        """The lines with what their translations must have, up to the first that is faulty; and its fault."""
        from seq2seq.translator import Request

        if not self.json_lines:
            return [Request(line, self.demands.prefix, tuple(self.demands.constraints)) for line in block], None
        requests: list[Request] = []
        for number, line in enumerate(block, start=before + 1):
            try:
                requests.append(_request(line, f"{self.name}:{number}", translator))
            except Seq2SeqError as fault:
                return requests, fault
        return requests, None


def _request(line: str, place: str, translator: Translator) -> Request:
    """What a line of JSON asks for.

    Raises:
        CorpusError: if it is not what `--json-lines` takes.
        ConfigError: if it asks for what cannot be said.
    """
    from seq2seq.translator import Request

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
        translator.demands.of(request)
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
    if show.alignments:
        yield "alignment", one.alignment or []
    if show.attention:
        yield "source_tokens", one.source_tokens or []
        yield "attention", [[finite(weight) for weight in weights] for weights in one.attention or []]
    if show.mbr:
        yield "utility", one.utility
