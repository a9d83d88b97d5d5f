"""A hypothesis as a user sees it: text, and what is wanted about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import torch
from torch import Tensor

from seq2seq.config import UNK_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.lexicon import CANDIDATES
from seq2seq.search import Hypothesis
from seq2seq.translator.alignment import Alignment, align, most_attended_word, over_source_words
from seq2seq.translator.ensemble import Ensemble
from seq2seq.translator.texts import Translation

UTILITY_NAMES = ("chrf", "bleu")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to tell about translations, and how to choose among them; see `Options`."""

    attention: bool = False
    alignments: bool = False
    replace_unk: bool = False
    utility: str | None = None

    @property
    def attends(self) -> bool:
        """Whether attention must be computed."""
        return self.attention or self.alignments or self.replace_unk

    def check(self, ensemble: Ensemble, search: SearchConfig) -> None:
        """Refuse what cannot be combined.

        Raises:
            ConfigError: with the reason.
        """
        for name in ("attention", "alignments", "replace_unk"):
            if getattr(self, name) and not ensemble.attending:
                raise ConfigError(f"{name} needs a model with attention, got attention='none'; leave it out")
        for package in ensemble.packages:
            if search.shortlist is not None and package.lexicon_fault:
                raise ConfigError(
                    f"shortlist needs a whole lexicon, got shortlist={search.shortlist} and "
                    f"{package.lexicon_fault}; make it again with seq2seq lexicon"
                )
        if search.shortlist is not None and not ensemble.lexicons:
            raise ConfigError(
                f"shortlist needs a model folder with a lexicon, got shortlist={search.shortlist} and none; "
                "make one with seq2seq lexicon"
            )
        if search.shortlist is not None and search.shortlist > CANDIDATES:
            raise ConfigError(
                f"shortlist must be at most {CANDIDATES}, what a lexicon keeps, got {search.shortlist}; lower it"
            )
        sources = {package.source_vocabulary.fingerprint for package in ensemble.attending}
        if search.coverage_penalty and len(ensemble.models) > 1:
            others = len(ensemble.attending) < len(ensemble.models)
            turned = {model.config.reverse_source for model in ensemble.models}
            if others or len(sources) > 1 or len(turned) > 1:
                raise ConfigError(
                    "coverage_penalty needs members of an ensemble that all attend to the same source tokens in the "
                    f"same order, got {search.coverage_penalty}; set it to 0"
                )
        if self.attention and len(sources) > 1:
            raise ConfigError(
                "attention is over the tokens of one source vocabulary, "
                f"got an ensemble with {len(sources)}; ask for alignments"
            )
        if self.replace_unk and not ensemble.target_vocabulary.holds_whole_words:
            raise ConfigError(
                "replace_unk needs a target vocabulary of whole words, got one of smaller tokens; leave it out"
            )
        if self.replace_unk and UNK_ID in search.forbidden:
            raise ConfigError("replace_unk has nothing to replace, got a search without <unk>; leave one of them out")
        if self.utility is not None and self.utility not in UTILITY_NAMES:
            raise ConfigError(f"utility must be one of {', '.join(UTILITY_NAMES)}, got {self.utility!r}")
        if self.utility is not None and max(search.samples, search.n_best) < 2:
            name = "samples" if search.samples else "n_best"
            raise ConfigError(
                f"minimum Bayes risk chooses among several translations, got {name}=1; give more samples or n_best"
            )


def display(
    found: Hypothesis, text: str, source: str, attention: Sequence[Tensor], ensemble: Ensemble, wanted: Wanted
) -> Translation:
    """A hypothesis with all that is wanted about it.

    Args:
        found: the hypothesis.
        text: its text.
        source: what it translates.
        attention: of each model that has one, `[target tokens, source tokens]`, both with `<E>`; empty if not wanted.
        ensemble: the models.
        wanted: what to tell.
    """
    alignment = weights = source_tokens = None
    vocabulary = ensemble.target_vocabulary
    if attention and (wanted.alignments or wanted.replace_unk):
        spans = [package.source_vocabulary.words(source) for package in ensemble.attending]
        words = sum(over_source_words(one, of) for one, of in zip(attention, spans, strict=True)) / len(spans)
        assert isinstance(words, Tensor)
        if wanted.alignments:
            alignment = align(words, vocabulary.decoded_words(found.tokens))
        if wanted.replace_unk and UNK_ID in found.tokens:
            copies = copied_spans(found.tokens, spans[0], words)
            text = copy_unknown(
                vocabulary.decode([[token] for token in found.tokens]), vocabulary.split(source), copies
            )
            alignment = None if alignment is None else align_copies(alignment, copies)
    if attention and wanted.attention:
        weights = torch.stack(list(attention)).mean(dim=0).tolist()
        of_source = ensemble.attending[0].source_vocabulary
        source_tokens = of_source.tokens(of_source.encode([source])[0])
    tokens = vocabulary.tokens(found.tokens)
    return Translation(
        text,
        tokens,
        found.score,
        found.token_log_probs,
        weights,
        alignment,
        source_tokens=source_tokens,
        at_limit=found.at_limit,
    )


def copied_spans(tokens: Sequence[int], spans: Sequence[range], attention: Tensor) -> list[range | None]:
    """The source words that take the place of each `<unk>`; `None` for any other token.

    Args:
        tokens: of the translation.
        spans: the source words that each source token is in.
        attention: of each token to the source's words, and last its end.
    """
    copies: list[range | None] = []
    for token, weights in zip(tokens, attention, strict=False):  # the attention of `<E>` is left over
        most = most_attended_word(weights) if token == UNK_ID else None
        # Neighbours that are unknown are one token, in the source as in the translation.
        copies.append(None if most is None else next(span for span in spans if most in span))
    return copies


def copy_unknown(words: Sequence[str], given: Sequence[str], copies: Sequence[range | None]) -> str:
    """The text of a translation of whole words, some of them replaced.

    Args:
        words: one for each token.
        given: the words of the source.
        copies: those that replace each word; see `copied_spans`.
    """
    parts = (
        [word] if copy is None else given[copy.start : copy.stop] for word, copy in zip(words, copies, strict=True)
    )
    return " ".join(chain.from_iterable(parts))


def align_copies(alignment: Alignment, copies: Sequence[range | None]) -> Alignment:
    """An alignment of a translation's words after `copy_unknown`: a copied word is aligned with what it was copied
    from."""
    sources = {target: source for source, target in alignment}
    result: Alignment = []
    position = 0
    for number, copy in enumerate(copies):
        own = ([sources[number]] if number in sources else []) if copy is None else copy
        result += zip(own, count(position), strict=False)
        position += 1 if copy is None else len(copy)
    return result
