"""Translating with short lists of tokens: each sentence by its own list, whatever stands beside it."""

from dataclasses import replace

import pytest
import torch
from configurations import SMALL
from oracles_lexicon import ListedState, listed_step
from test_demands import WORDS
from translators import TEXTS, VOCABULARY, agree, build, packaged

from seq2seq.config import BOS_ID, FIRST_FREE_ID, PAD_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.lexicon import Lexicon
from seq2seq.package import Package
from seq2seq.search import search
from seq2seq.translator import Request, Translator
from seq2seq.translator.choice import Tail

SHORT = SearchConfig(beam_size=3, n_best=2, max_length=6, shortlist=2)
SIZE = len(VOCABULARY)


def with_lexicon(found: Package, seed: int = 1, always: int = 4) -> Package:
    """A lexicon of chances."""
    random = torch.Generator().manual_seed(seed)
    rows = len(found.source_vocabulary)
    candidates = torch.randint(FIRST_FREE_ID, SIZE, (rows, 3), generator=random)
    frequent = torch.cat([torch.tensor([1, 3]), torch.randint(FIRST_FREE_ID, SIZE, (always,), generator=random)])
    return replace(found, lexicon=Lexicon(candidates.int(), frequent.unique().int()))


@pytest.fixture(scope="module")
def translator() -> Translator:
    return Translator(with_lexicon(packaged()))


def listed(translator: Translator, text: str, count: int = 2) -> tuple[set[int], set[int]]:
    """What a translation of the text may have, and the rare tokens, read from the lexicon."""
    lexicon = translator.package.lexicon
    always = set(lexicon.always.tolist())
    (ids,) = translator.package.source_vocabulary.encode([text])
    own = {token for source in ids for token in lexicon.candidates[source, :count].tolist()}
    return always | own, set(range(SIZE)) - always


@pytest.mark.parametrize(
    "options",
    [
        {"beam_size": 1},
        {"beam_size": 4, "n_best": 4, "length_penalty": "gnmt"},
        {"beam_size": 3, "coverage_penalty": 0.3, "forbidden_tokens": (5, 6, 7), "forbid_unk": True},
        {"beam_size": 4, "beam_groups": 2, "no_repeat_ngram": 2, "min_length": 3},
    ],
)
def test_a_search_over_numbers_is_one_over_the_vocabulary_with_the_rest_guessed(translator, options) -> None:
    config = SearchConfig(max_length=6, **options)
    (model,) = translator.ensemble.models
    for text in ("a fox", "lazy", "the quick brown fox jumps"):
        own, rare = listed(translator, text)
        source, lengths = translator.ensemble.pad(VOCABULARY.encode([text]))
        with torch.no_grad():
            state = ListedState(model.start(model.encode(source, lengths)))
            (truth,) = search(listed_step(model, own, rare), state, lengths - 1, config)
        (found,) = translator.generate([text], config.model_copy(update={"shortlist": 2}))
        assert [one.tokens for one in found] == [VOCABULARY.tokens(one.tokens) for one in truth]
        for one, true in zip(found, truth, strict=True):
            assert one.score == pytest.approx(true.score, abs=1e-4)
            assert one.token_scores == pytest.approx(true.token_log_probs, abs=1e-4)


def test_a_text_is_translated_as_if_it_were_alone(translator) -> None:
    together = translator.generate(TEXTS, SHORT)
    agree(together, [translator.generate([text], SHORT)[0] for text in TEXTS])
    agree(together[::-1], translator.generate(TEXTS[::-1], SHORT))
    free = translator.generate(TEXTS, SHORT.model_copy(update={"shortlist": None}))
    assert [one.text for found in together for one in found] != [one.text for found in free for one in found]


@pytest.mark.parametrize("mean", ["probabilities", "log_probabilities"])
def test_models_of_an_ensemble_choose_from_the_lists_of_all(mean: str) -> None:
    second = packaged(SMALL.model_copy(update={"attention": "additive", "decoder_layers": 1}), seed=6)
    both = Translator(with_lexicon(packaged(), 1), with_lexicon(second, 2), mean=mean)
    together = both.generate(TEXTS, SHORT)
    agree(together, [both.generate([text], SHORT)[0] for text in TEXTS])
    lists = [Translator(package) for package in both.ensemble.packages]
    for text, found in zip(TEXTS, together, strict=True):
        own = set.union(*(listed(one, text)[0] for one in lists))
        assert {VOCABULARY.find(token) for one in found for token in one.tokens} <= own
    # One that has a lexicon is enough.
    first, twice = Translator(with_lexicon(packaged())), Translator(with_lexicon(packaged()), packaged(), mean=mean)
    if mean == "probabilities":
        agree(twice.generate(TEXTS, SHORT), first.generate(TEXTS, SHORT))


def test_a_list_of_everything_changes_nothing() -> None:
    everything = Lexicon(torch.full((SIZE, 1), -1, dtype=torch.int32), torch.arange(SIZE, dtype=torch.int32))
    found = packaged()
    with torch.no_grad():
        found.model.output.bias[PAD_ID] = -99.0  # A model learns that it is never said.
    whole = Translator(replace(found, lexicon=everything))
    agree(whole.generate(TEXTS, SHORT), whole.generate(TEXTS, SHORT.model_copy(update={"shortlist": None})))


def test_what_is_demanded_is_on_the_list(translator) -> None:
    search = SearchConfig(beam_size=6, max_length=20, max_length_ratio=None, shortlist=1)
    requests = [
        Request("a", "the qu"),
        Request("dog", constraints=("lazy", "fox")),
        Request("fox"),
        Request("a", "jumps ", ("brown",)),
    ]
    found = translator.translate(requests, search)
    assert found[0].startswith("the qu")
    assert " lazy " in f" {found[1]} "
    assert " fox " in f" {found[1]} "
    assert found[3].startswith("jumps")
    assert " brown" in found[3]
    assert found == [translator.translate(request, search) for request in requests]
    own, _ = listed(translator, "fox", 1)
    (best,) = translator.generate(["fox"], search)[0]
    assert {VOCABULARY.find(token) for token in best.tokens} <= own
    forbidden = search.model_copy(update={"forbidden_tokens": (VOCABULARY.find("q"),)})
    assert translator.translate(Request("a", "the quick "), forbidden).startswith("the quick")
    attended = translator.generate(["a fox"], search, attention=True, alignments=True)[0][0]
    assert len(attended.attention) == len(attended.tokens) + 1


def test_unknown_words_are_replaced_too() -> None:
    found = packaged(source=WORDS, target=WORDS)
    with torch.no_grad():
        found.model.output.bias[1] += 99
    only = Lexicon(torch.full((len(WORDS), 1), -1, dtype=torch.int32), torch.tensor([1, 3], dtype=torch.int32))
    search = SearchConfig(max_length=2, min_length=2, shortlist=1)
    texts = Translator(replace(found, lexicon=only)).translate(["lazy", "Lancelot"], search, replace_unk=True)
    assert texts == ["lazy lazy", "Lancelot Lancelot"]


@pytest.mark.parametrize("deviation", [0.3, 1.0, 6.0])
def test_the_tail_is_the_sum_of_many_logits(deviation: float) -> None:
    torch.manual_seed(0)
    output = torch.nn.Linear(16, 4000)
    torch.nn.init.normal_(output.weight, std=deviation / 4)
    torch.nn.init.normal_(output.bias, std=0.2)
    is_rare = torch.arange(4000) % 4 > 0
    features = torch.randn(200, 16)
    with torch.no_grad():
        truth = output(features)[:, is_rare].logsumexp(dim=1)
        found = Tail.of(output, is_rare).log_sum(features, torch.full((200,), 3000.0).log())
        spread = float(output(features)[:, is_rare].std(dim=1).mean())
    # Where the largest rule, chance has more to say.
    assert float((found - truth).abs().mean()) < (0.2 if spread < 2 else spread / 2)


def test_shortlists_that_cannot_be_are_refused(translator) -> None:
    with pytest.raises(ConfigError, match=r"shortlist needs a model folder with a lexicon, got shortlist=2 and none"):
        build().translate("a fox", SHORT)
    with pytest.raises(ConfigError, match="shortlist must be at most 100, what a lexicon keeps, got 101; lower it"):
        translator.translate("a fox", SearchConfig(shortlist=101))
    with pytest.raises(ConfigError, match="drawn from the whole vocabulary"):
        SearchConfig(shortlist=2, samples=3)
    with pytest.raises(ConfigError, match="forbidden_tokens must be below the vocabulary's"):
        translator.translate("a fox", SearchConfig(shortlist=2, forbidden_tokens=(999,)))
    (model,) = translator.ensemble.models
    state = model.start(model.encode(torch.tensor([[5, 3]]), torch.tensor([2])))
    with pytest.raises(ConfigError, match="a shortlist is for a Translator"):
        search(model.step, state, torch.tensor([1]), SHORT)
    assert BOS_ID not in translator.package.lexicon.always
