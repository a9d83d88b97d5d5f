"""Text in, text out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TypedDict, Unpack, get_args, overload

import torch
from torch import Tensor

from seq2seq import package
from seq2seq.config import Precision, SearchConfig
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.package import Package
from seq2seq.search import Mean
from seq2seq.translator.batches import ROWS, Budget, Share, batches
from seq2seq.translator.consensus import by_consensus
from seq2seq.translator.demands import Demands
from seq2seq.translator.display import Wanted, display
from seq2seq.translator.ensemble import Ensemble
from seq2seq.translator.finding import check_met, check_request, find_hypotheses
from seq2seq.translator.texts import Request, Scored, Translation, as_requests, check_text

BLOCK = 4 * ROWS
"""Lines of a stream that are sorted by length together."""

StrPath = str | os.PathLike[str]


class Options(TypedDict, total=False):
    """What to tell about translations, and how to choose among them; all are off by default.

    Attributes:
        attention: compute `Translation.attention`, what each token looked at.
        alignments: compute `Translation.alignment`, which word was made of which.
        replace_unk: write, in place of each `<unk>`, the source word that it looked at most.
        utility: choose among what the search finds by minimum Bayes risk: `chrf` or `bleu`.
    """

    attention: bool
    alignments: bool
    replace_unk: bool
    utility: str | None


class Translator:
    """A model, or an ensemble of several, with its vocabularies.

    Example:
        >>> translator = Translator.load("runs/dates")
        >>> translator.translate("21 November 2026")
        '2026-11-21'

    Attributes:
        package: what the first model folder held.
    """

    def __init__(self, *packages: Package, mean: Mean = "probabilities") -> None:
        if not packages:
            raise ConfigError("translating needs a model, got none; give one or more, or Translator.load a folder")
        self.ensemble = Ensemble(packages, mean)
        self.package = packages[0]
        self.vocabulary = self.package.target_vocabulary
        self.demands = Demands(self.vocabulary)

    @classmethod
    def load(
        cls,
        folder: StrPath | Sequence[StrPath],
        device: str = "cpu",
        *,
        precision: Precision = "float32",
        mean: Mean = "probabilities",
    ) -> Translator:
        """Read a model folder, or several that translate together.

        Args:
            folder: written by a training. Several must have the same target vocabulary; their source vocabularies and
                architectures may differ.
            device: as torch names it, `gpu` for an NVIDIA one, or `auto`: a GPU where there is one.
            precision: what weights and states are held and computed in; bfloat16 is faster where the hardware has it,
                and rounds products that differ a little with the size of a batch: of texts translated in other
                company a few come out differently, which float32 rules out.
            mean: what an ensemble takes the mean of, `probabilities` or `log_probabilities`.

        Raises:
            PackageError: if one is no model folder, or not a whole one.
            ConfigError: if there is no such device or precision, or the models do not go together.
        """
        place = "cuda" if device == "gpu" else device
        if device == "auto":
            place = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.zeros(1, device=place).item()
        except (RuntimeError, AssertionError, ImportError):
            raise ConfigError(f"device must be one that this machine has, got {device!r}; use cpu") from None
        if precision not in get_args(Precision):
            raise ConfigError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
        folders = [folder] if isinstance(folder, str | os.PathLike) else list(folder)
        if not folders:
            raise ConfigError("translating needs a model folder, got none; give one or more")
        packages = [package.load(one, place) for one in folders]
        for loaded in packages:
            loaded.model.to(getattr(torch, precision))
        return cls(*packages, mean=mean)

    @overload
    def translate(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too; it is meant here
        self, texts: str | Request, search: SearchConfig | None = None, **options: Unpack[Options]
    ) -> str: ...

    @overload
    def translate(
        self, texts: Iterable[str | Request], search: SearchConfig | None = None, **options: Unpack[Options]
    ) -> list[str]: ...

    def translate(
        self,
        texts: str | Request | Iterable[str | Request],
        search: SearchConfig | None = None,
        **options: Unpack[Options],
    ) -> str | list[str]:
        """The best translation of a text, or of each of many: same length, same order, "" stays "". With `samples` and
        without a `utility` it is the first one drawn.

        Args:
            texts: any strings; each is translated alone, whatever the others are. A `Request` says what the
                translation must have.
            search: `None`: the defaults of `SearchConfig`.
            options: see `Options`.

        Raises:
            ConfigError: if options cannot be combined, or a request cannot be met.
            MemoryError: if the hypotheses of one text take several times the memory that is free.
        """
        if isinstance(texts, str | Request):
            return self.generate(texts, search, **options)[0][0].text
        return [best.text for best, *_ in self.generate(texts, search, **options)]

    def generate(
        self,
        texts: str | Request | Iterable[str | Request],
        search: SearchConfig | None = None,
        **options: Unpack[Options],
    ) -> list[list[Translation]]:
        """The `n_best` translations of each text, best first, or its `samples` as drawn; a blank text has one, which
        is "".

        Args:
            texts: any strings, or requests; one alone is a list of one.
            search: `None`: the defaults of `SearchConfig`.
            options: see `Options`.

        Raises:
            ConfigError: if options cannot be combined, or a request cannot be met.
            MemoryError: if the hypotheses of one text take several times the memory that is free.
        """
        requests = list(as_requests(texts))
        found = self.generate_share(requests, search, Share(), **options)
        for number, request in enumerate(requests):
            check_met(request, found[number], search or SearchConfig())
        return [found[number] for number in range(len(found))]

    def generate_share(
        self,
        texts: Iterable[str | Request],
        search: SearchConfig | None,
        share: Share,
        **options: Unpack[Options],
    ) -> dict[int, list[Translation]]:
        """What falls to one of several processes of all that `generate` gives, by the numbers of the texts. Where the
        search has no room for what a request demands, its translation is "" with a score of -inf; see `check_met`."""
        search = search or SearchConfig()
        wanted = self.check(search, **options)
        requests = list(as_requests(texts))
        sources = self.ensemble.encode([request.text for request in requests])
        asked = [number for number, request in enumerate(requests) if request.text.strip() and all(sources[number])]
        # A blank text has one translation, and no model is asked.
        blank = set(range(len(requests))).difference(asked) if share.rank == 0 else ()
        results = {number: [Translation(text="", tokens=[], score=0.0, token_scores=[])] for number in blank}
        lengths = [max(map(len, source)) + 1 for source in sources]
        width = search.samples or search.beam_size
        self.ensemble.expect(width * sum(lengths[number] for number in asked))
        budget, given = self._budget(width, share.memory), self._budget(1, share.memory, given=True)
        if asked and search.shortlist is None:
            budget.check_row()
        for number in asked:
            check_request(self.demands, requests[number], search)
        with torch.inference_mode():
            for batch in islice(batches(asked, lengths, budget), share.rank, None, share.ranks):
                group = [requests[number] for number in batch], [sources[number] for number in batch]
                found = self._translate(*group, search, wanted, given)
                results |= zip(batch, found, strict=True)
        if wanted.utility is None:
            return results
        return {
            number: by_consensus(candidates, wanted.utility, sampled=search.samples > 0)
            for number, candidates in results.items()
        }

    def check(self, search: SearchConfig, **options: Unpack[Options]) -> Wanted:
        """Refuse what these models cannot do, before there is anything to translate.

        Raises:
            ConfigError: with the reason.
        """
        if not isinstance(search, SearchConfig):
            raise ConfigError(f"search must be a SearchConfig, got {search!r}; write SearchConfig(beam_size=5)")
        if unknown := options.keys() - Options.__annotations__:
            raise ConfigError(
                f"translating knows the options {', '.join(Options.__annotations__)}, got {', '.join(sorted(unknown))};"
                " how to search is said by a SearchConfig, as SearchConfig(beam_size=5)"
            )
        wanted = Wanted(**options)
        wanted.check(self.ensemble, search)
        return wanted

    def translate_stream(
        self,
        lines: str | Request | Iterable[str | Request],
        search: SearchConfig | None = None,
        *,
        block: int = BLOCK,
        **options: Unpack[Options],
    ) -> Iterator[list[Translation]]:
        """What `generate` gives, of any number of lines, without holding more than a block of them.

        Args:
            lines: texts or requests; one alone is a stream of one.
            search: `None`: the defaults of `SearchConfig`.
            block: lines that are sorted by length and translated together.
            options: see `Options`.

        Raises:
            ConfigError: if `block` is below 1, options cannot be combined, or a request cannot be met.
            MemoryError: as of `generate`.
        """
        if not isinstance(block, int) or block < 1:
            raise ConfigError(f"block must be a whole number of at least 1, got {block}; leave it out for {BLOCK}")
        self.check(search or SearchConfig(), **options)
        rest = as_requests(lines)
        parts = iter(lambda: list(islice(rest, block)), [])
        return chain.from_iterable(self.generate(part, search, **options) for part in parts)

    def score(self, sources: Iterable[str], targets: Iterable[str]) -> list[Scored]:
        """How probable each given translation is, token by token and as a whole.

        Args:
            sources, targets: as many of the one as of the other.

        Raises:
            ConfigError: for a text where a list of them should be, or what is no text.
            CorpusError: if there are not as many targets as sources.
        """
        if isinstance(sources, str) or isinstance(targets, str):
            raise ConfigError("score takes lists of texts, got a text; write [source] and [target]")
        sources, targets = list(sources), list(targets)
        if len(sources) != len(targets):
            raise CorpusError(
                f"there must be as many targets as sources, got {len(targets)} and {len(sources)}; align them"
            )
        for name, texts in (("sources", sources), ("targets", targets)):
            for number, text in enumerate(texts):
                check_text(text, f"{name}[{number}]")
        source_ids = self.ensemble.encode(sources)
        target_ids = self.vocabulary.encode(targets)
        lengths = [
            max(len(target), *map(len, source)) + 1 for source, target in zip(source_ids, target_ids, strict=True)
        ]
        results: list[list[float]] = [[] for _ in sources]
        with torch.inference_mode():
            for batch in batches(range(len(sources)), lengths, self._budget(1, given=True)):
                found = self.ensemble.log_probs([source_ids[n] for n in batch], [target_ids[n] for n in batch])
                for number, log_probs in zip(batch, found, strict=True):
                    results[number] = log_probs
        return [
            Scored(self.vocabulary.tokens(ids), log_probs) for ids, log_probs in zip(target_ids, results, strict=True)
        ]

    def find_token(self, token: str) -> int:
        """The id of a target token as translations show it, for `SearchConfig.forbidden_tokens`.

        Raises:
            ConfigError: if there is no such token.
        """
        found = self.vocabulary.find(token)
        if found is None:
            raise ConfigError(
                f"a token must be one of the target vocabulary, got {token!r}; `tokens` in JSON output shows some"
            )
        return found

    def _budget(self, width: int, memory: int | None = None, given: bool = False) -> Budget:
        models = [model.config for model in self.ensemble.models]
        return Budget.of(models, width, self.ensemble.device, memory, given=given)

    def _translate(
        self,
        requests: list[Request],
        sources: list[tuple[list[int], ...]],
        config: SearchConfig,
        wanted: Wanted,
        budget: Budget,
    ) -> list[list[Translation]]:
        found = find_hypotheses(self.ensemble, self.demands, requests, sources, config)
        owners = [row for row, hypotheses in enumerate(found) for _ in hypotheses]
        flat = [one for hypotheses in found for one in hypotheses]
        attention: list[list[Tensor]] = [[] for _ in flat]
        if wanted.attends:
            attention = self._attend([sources[owner] for owner in owners], [one.tokens for one in flat], budget)
        texts = self.vocabulary.decode([one.tokens for one in flat])
        shown = (
            display(one, text, requests[owner].text, weights, self.ensemble, wanted)
            for one, text, owner, weights in zip(flat, texts, owners, attention, strict=True)
        )
        translations = [[next(shown) for _ in hypotheses] for hypotheses in found]
        return [without_repetition(own) for own in translations] if config.beam_groups > 1 else translations

    def _attend(
        self, sources: Sequence[tuple[list[int], ...]], targets: Sequence[list[int]], budget: Budget
    ) -> list[list[Tensor]]:
        """What `Ensemble.attend` gives, of as many targets at a time as the budget allows."""
        lengths = [max(len(target), *map(len, source)) + 1 for source, target in zip(sources, targets, strict=True)]
        found = dict[int, list[Tensor]]()
        for batch in batches(range(len(targets)), lengths, budget):
            group = [sources[number] for number in batch], [targets[number] for number in batch]
            found |= zip(batch, self.ensemble.attend(*group), strict=True)
        return [found[number] for number in range(len(targets))]


def without_repetition(translations: Sequence[Translation]) -> list[Translation]:
    """The first translation with each text: groups of a beam may spell one text by different tokens."""
    distinct: dict[str, Translation] = {}
    for one in translations:
        distinct.setdefault(one.text, one)
    return list(distinct.values())
