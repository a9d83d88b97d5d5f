"""From requests to the hypotheses that meet them.

The search walks over a step function made of several, each of which wraps the one before it and its state:

    `Decoder.step`                      one model: features
    `choice.step_among`, `_among_all`   log-probabilities of the tokens that may be said
    `search.ensemble_step`              the mean over the models
    `guiding.guide`                     only what spells the prefix
    `guiding.close_phrases`             nothing that lengthens the last word of a phrase
    `search.search`                     limits, rules and ranking
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial

import torch

from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search import Hypothesis, search
from seq2seq.search.constraints import check_constrained
from seq2seq.translator.demands import Demands
from seq2seq.translator.ensemble import Ensemble, Sources
from seq2seq.translator.guiding import close_phrases, guide
from seq2seq.translator.texts import Request, Translation


def find_hypotheses(
    ensemble: Ensemble, demands: Demands, requests: Sequence[Request], sources: Sources, config: SearchConfig
) -> list[list[Hypothesis]]:
    """The hypotheses of each request, which have what it demands; impossible ones where the search has no room for it.

    Args:
        ensemble: the models.
        demands: for their target vocabulary.
        requests: what is asked for.
        sources: the ids of each request's text.
        config: how to search.
    """
    prefixes, phrases = zip(*(demands.of(request) for request in requests), strict=True)
    demanded = [prefix.spelling.union(*own) for prefix, own in zip(prefixes, phrases, strict=True)]
    choice = ensemble.choose(sources, config.shortlist, demanded)
    # From here on tokens have local ids.
    constraints = [[choice.to_local(phrase) for phrase in own] for own in phrases]
    ask = partial(
        search,
        # Models with different vocabularies need not agree; the limits are those of the longest.
        source_lengths=torch.tensor([max(map(len, ids)) for ids in sources], device=ensemble.device),
        config=choice.to_local_config(config),
        prefixes=[choice.to_local(prefix.tokens) for prefix in prefixes],
        room=[prefix.unspelled for prefix in prefixes],
        # Of the text alone, so that it has the same samples in any company.
        seeds=[seed_of(request.text) for request in requests] if config.samples else None,
    )
    step, state = guide(*ensemble.begin(sources, choice), [prefix.start for prefix in prefixes], choice)
    if any(phrases):
        lengthens = demands.lengthens.to(ensemble.device)[choice.ids]
        found = ask(*close_phrases(step, state, constraints, lengthens), constraints=constraints)
    else:
        found = ask(step, state)
    return choice.to_vocabulary(found)


def check_request(demands: Demands, request: Request, config: SearchConfig) -> None:
    """Refuse what can be seen to be impossible, before there is a search.

    Raises:
        ConfigError: if the vocabulary cannot spell what is demanded, or the configuration forbids it.
    """
    _, phrases = demands.of(request)
    if phrases:
        check_constrained(config)
    for text, phrase in zip(request.constraints, phrases, strict=True):
        if forbidden := config.forbidden.intersection(phrase):
            raise ConfigError(
                f"a constraint must have no forbidden token, got {text!r} and id {min(forbidden)}; "
                "allow it or leave it out"
            )


def check_met(request: Request, found: Sequence[Translation], config: SearchConfig) -> None:
    """Refuse translations that have not what was demanded.

    Raises:
        ConfigError: if the search had no room for it.
    """
    # Of a beam the best one tells; samples are all returned.
    told = found if config.samples else found[:1]
    if (request.prefix or request.constraints) and not all(math.isfinite(one.score) for one in told):
        things = "tokens and repetitions (no_repeat_ngram)" if config.no_repeat_ngram else "tokens"
        raise ConfigError(
            "what a translation must have needs room in the search, got "
            f"prefix {request.prefix!r} and constraints {list(request.constraints)} for {request.text!r}; "
            f"raise max_length or beam_size, forbid fewer {things}, or ask for less"
        )


def seed_of(text: str) -> int:
    """A number of the text, below 2^63."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest()) >> 1
