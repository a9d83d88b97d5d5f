"""Prefixes and phrases given as text, against every output there is."""

import math

import oracles_search as oracles
import pytest
import torch
from translators import VOCABULARY, build, packaged

from seq2seq.config import EOS_ID, UNK_ID, SearchConfig
from seq2seq.errors import ConfigError
from seq2seq.search import search
from seq2seq.translator import Request, Translator
from seq2seq.translator.choice import Choice
from seq2seq.translator.demands import Demands
from seq2seq.translator.guiding import close_phrases, guide
from seq2seq.vocabulary import Vocabulary

# Few tokens, of all lengths: ▁ab, ▁a, ab, a, b, ...
FEW = Vocabulary.train(["ab abb ba", "ab bab a b", "abab ab aba"], 11, kind="bpe")
WORDS = Vocabulary.train(["the quick brown fox jumps over a lazy dog"], 13, kind="word")
BYTES = Vocabulary.train(["abc abd"], 266, byte_fallback=True)


def spelled(vocabulary: Vocabulary, tokens: tuple[int, ...]) -> bytes:
    return b"".join(vocabulary.spellings[token] for token in tokens)


def begins(vocabulary: Vocabulary, tokens: tuple[int, ...], prefix: str) -> bool:
    """Whether an output begins as asked: complete words by their tokens, the last one by its letters."""
    *complete, last = prefix.split(" ")
    (ids,) = vocabulary.encode([" ".join(complete)])
    rest = spelled(vocabulary, tokens[len(ids) :])
    if not last:
        return tokens[: len(ids)] == tuple(ids) and (not tokens[len(ids) :] or rest.startswith("▁".encode()))
    return tokens[: len(ids)] == tuple(ids) and rest.startswith(f"▁{last}".encode())


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("prefix", ["a", "ab", "abba", "b ", "ab a", "a b ", "bb"])
def test_the_best_of_all_outputs_that_begin_so_is_found(seed: int, prefix: str) -> None:
    network = oracles.ToyNetwork(len(FEW), seed)
    config = SearchConfig(beam_size=400, n_best=5, max_length=3, max_length_ratio=None, forbid_unk=True)
    everything = oracles.exhaustive(network, oracles.Sentence(seed, 3), config)
    truth = [one for one in everything if UNK_ID not in one.tokens and begins(FEW, one.tokens, prefix)][:5]
    assert truth
    wanted, choice = Demands(FEW).prefix(prefix), Choice.of_all(len(FEW), torch.device("cpu"))
    step, state = guide(network.step, network.start(torch.tensor([seed])), [wanted.start], choice)
    (found,) = search(step, state, torch.tensor([3]), config, prefixes=[wanted.tokens])
    for ours, theirs in zip(found, truth, strict=False):
        assert tuple(ours.tokens) == theirs.tokens
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-4)


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 4, "n_best": 3}, {"samples": 4}])
def test_every_translation_begins_with_its_prefix_and_others_are_as_they_were(options: dict[str, int]) -> None:
    translator, search = build(), SearchConfig(max_length=12, **options)
    prefixes = ["", "the q", "fox ", "", "a lazy", "d"]
    texts = ["a fox", "dog", "lazy dog", "fox", "the dog", " "]
    requests = [Request(text, prefix) for text, prefix in zip(texts, prefixes, strict=True)]
    found = translator.generate(requests, search)
    for prefix, translations in zip(prefixes[:-1], found, strict=False):
        for one in translations:
            assert one.text == prefix.strip() or one.text.startswith(prefix)
            assert all(math.isfinite(log_prob) for log_prob in one.token_scores)
    free = translator.generate(texts, search)
    for number in (0, 3):
        assert [one.text for one in found[number]] == [one.text for one in free[number]]
    assert [one.text for one in found[-1]] == [""]
    for request, together in zip(requests, found, strict=True):
        (alone,) = translator.generate([request], search)
        assert [one.text for one in alone] == [one.text for one in together]


def test_a_log_probability_is_that_of_the_whole_translation() -> None:
    translator = build()
    (best,) = translator.generate([Request("a fox", "the do")], SearchConfig(beam_size=1, length_penalty="none"))[0]
    (scored,) = translator.score(["a fox"], [best.text])
    if scored.tokens == best.tokens:
        assert scored.score == pytest.approx(best.score, abs=1e-4)
    assert len(best.token_scores) == len(best.tokens) + 1


@pytest.mark.parametrize("options", [{"beam_size": 1}, {"beam_size": 2}, {"samples": 5}])
@pytest.mark.parametrize("prefix", ["the quick brown ", "the quick brown fox", "fox"])
def test_a_prefix_longer_than_the_limit_still_fits(prefix: str, options: dict[str, int]) -> None:
    requests = [Request("a fox", prefix), Request("dog")]
    for config in (SearchConfig(max_length=3, **options), SearchConfig(max_length_ratio=0.5, **options)):
        demanding, free = build().generate(requests, config)
        assert all(one.text.startswith(prefix.strip()) for one in demanding)
        limit = min(config.max_length, math.ceil(0.5 * len(VOCABULARY.encode(["dog"])[0])) + config.max_length_margin)
        assert all(len(one.tokens) <= limit for one in free)


def test_a_prefix_has_room_for_its_longest_spelling() -> None:
    """One token spells it, and so do three; samples take either."""
    translator = Translator(packaged(source=FEW, target=FEW))
    assert Demands(FEW).prefix("ab").unspelled == 3
    (found,) = translator.generate([Request("ab", "ab")], SearchConfig(max_length=1, samples=100))
    assert all(one.text.startswith("ab") for one in found)
    assert max(len(one.tokens) for one in found) == 3


def test_the_time_for_a_prefix_grows_with_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """In scripts without spaces all of it is one word."""
    demands, looked_up = Demands(BYTES), []
    spelled = demands._tokens_spelled
    monkeypatch.setattr(demands, "_tokens_spelled", lambda part: looked_up.append(len(part)) or spelled(part))
    prefix = "我們今天去公園散步" * 20
    wanted = demands.prefix(prefix)
    assert wanted.unspelled == len(prefix.encode()) + 1, "byte by byte"
    longest = max(len(spelling) for spelling in BYTES.spellings)
    assert max(looked_up) == longest
    assert len(looked_up) <= longest * (len(prefix.encode()) + 1)


def test_what_cannot_be_met_is_told_before_anything_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seq2seq.translator.translator.find_hypotheses", lambda *_: pytest.fail("a search began"))
    forbidding = SearchConfig(forbidden_tokens=(VOCABULARY.find("o"),))
    for request in (Request("the quick brown fox", constraints=("Ω",)), Request("a fox", constraints=("fox",))):
        with pytest.raises(ConfigError, match=r"can spell, got 'Ω'|no forbidden token, got 'fox'"):
            build().translate(["a", request], forbidding)


def test_a_prefix_that_repeats_itself_is_told_what_forbids_it() -> None:
    with pytest.raises(ConfigError, match=r"forbid fewer tokens and repetitions \(no_repeat_ngram\), or ask"):
        build().translate(Request("a", "dogdogdog"), SearchConfig(no_repeat_ngram=3))


def test_a_constraint_with_a_forbidden_token_is_told_as_it_was_given() -> None:
    config = SearchConfig(forbidden_tokens=(VOCABULARY.find("o"),))
    with pytest.raises(ConfigError, match="no forbidden token, got 'fox' and id"):
        build().translate(Request("a", constraints=("fox",)), config)


def test_words_and_bytes_are_spelled_too() -> None:
    words = Translator(packaged(source=WORDS, target=WORDS))
    search = SearchConfig(beam_size=2, max_length=5)
    assert words.translate(Request("a dog", "the la"), search).startswith("the lazy")
    with pytest.raises(ConfigError, match="that the model's vocabulary can spell, got 'the lax'"):
        words.translate(Request("a dog", "the lax"), search)
    with pytest.raises(ConfigError, match="can spell, got 'Lancelot the'"):
        words.translate(Request("a dog", "Lancelot the"), search)
    with pytest.raises(ConfigError, match="got 'Ω'"):
        build().translate(Request("a dog", "Ω"), search)
    by_bytes = Translator(packaged(source=BYTES, target=BYTES))
    assert by_bytes.translate(Request("abc", "éa"), SearchConfig(beam_size=2, max_length=9)).startswith("éa")
    # A space is no three bytes: these would say the character that stands for it.
    shaken = SearchConfig(samples=200, temperature=100.0, max_length=4)
    for prefix in ("abd a", "a"):
        (found,) = by_bytes.generate(Request("abc", prefix), shaken)
        assert all(one.text.startswith(prefix) for one in found)
    assert by_bytes.demands.prefix("a").unspelled == 2


def test_the_end_may_follow_a_complete_prefix_at_once() -> None:
    wanted = Demands(VOCABULARY).prefix("dog ")
    place = wanted.start
    for token in [2, *VOCABULARY.encode(["dog"])[0]]:
        place = place.following[token]
    assert set(place.following) == {EOS_ID, VOCABULARY.find("▁")}
    assert Demands(VOCABULARY).prefix("  \t").start is None


def has_whole(vocabulary: Vocabulary, tokens: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    """Whether a phrase's tokens are there, and nowhere followed by more of its last word."""
    places = [at for at in range(len(tokens)) if tokens[at : at + len(phrase)] == phrase]
    behind = [spelled(vocabulary, tokens[at + len(phrase) : at + len(phrase) + 1]) for at in places]
    return bool(places) and all(not one or one.startswith("▁".encode()) for one in behind)


@pytest.mark.parametrize("phrases", [["ab"], ["b a"], ["b", "a"]])
def test_the_best_of_all_outputs_that_have_the_phrases_is_found(phrases: list[str]) -> None:
    network = oracles.ToyNetwork(len(FEW), 1)
    config = SearchConfig(beam_size=400, n_best=4, max_length=3, max_length_ratio=None, forbid_unk=True)
    demands = Demands(FEW)
    wanted = [demands.phrase(phrase) for phrase in phrases]
    everything = oracles.exhaustive(network, oracles.Sentence(1, 3), config)
    truth = [
        one
        for one in everything
        if UNK_ID not in one.tokens and all(has_whole(FEW, one.tokens, phrase) for phrase in wanted)
    ][:4]
    assert truth
    step, state = close_phrases(network.step, network.start(torch.tensor([1])), [wanted], demands.lengthens)
    (found,) = search(step, state, torch.tensor([3]), config, constraints=[wanted])
    for ours, theirs in zip(found, truth, strict=False):
        assert tuple(ours.tokens) == theirs.tokens
        assert ours.log_prob == pytest.approx(theirs.log_prob, abs=1e-4)


def test_every_translation_has_its_phrases_as_whole_words() -> None:
    translator, search = build(), SearchConfig(beam_size=6, n_best=2, max_length=30, max_length_ratio=None)
    requests = [
        Request("a fox", constraints=("lazy",)),
        Request("dog"),
        Request("the fox", "the qu", ("dog", "a fox")),
        Request("", constraints=("dog",)),
    ]
    together = translator.generate(requests, search)
    for request, found in zip(requests[:3], together, strict=False):
        for one in found:
            assert one.text.startswith(request.prefix)
            for phrase in request.constraints:
                assert f" {phrase} " in f" {one.text} "
    assert [one.text for one in together[1]] == [one.text for one in translator.generate(["dog"], search)[0]]
    assert [one.text for one in together[3]] == [""]
    for request, found in zip(requests, together, strict=True):
        assert [one.text for one in translator.generate([request], search)[0]] == [one.text for one in found]


@pytest.mark.parametrize("phrases", [("a", "a dog"), ("dog", "a dog"), ("a dog", "a")])
def test_a_phrase_may_be_some_words_of_another(phrases: tuple[str, ...]) -> None:
    found = build().translate(Request("a fox", constraints=phrases), SearchConfig(beam_size=8, max_length=20))
    for phrase in phrases:
        assert f" {phrase} " in f" {found} "


@pytest.mark.parametrize(
    ("prefix", "phrases"),
    [
        ("", ("dog", "doge")),
        ("", ("doge", "dog")),
        ("", ("dog", "a doge x")),
        ("a doge ", ("dog",)),
        ("", ("e f", "e fo")),
    ],
)
def test_a_phrase_that_is_a_part_of_a_word_of_something_else_is_refused(prefix: str, phrases: tuple[str, ...]) -> None:
    """It could be met within that word alone."""
    with pytest.raises(ConfigError, match=r"is of whole words, got '(dog|e f)', which begins a longer one in '"):
        build().translate(Request("a fox", prefix, phrases))


def test_letters_and_accents_lengthen_a_word_and_punctuation_does_not() -> None:
    vocabulary = Vocabulary.train(["a, b. c! d' (é) x\u0301 7 _"], 25, kind="char")
    lengthening = {
        token
        for token, does in zip(vocabulary.tokens(range(len(vocabulary))), Demands(vocabulary).lengthens, strict=True)
        if does
    }
    assert lengthening == {"a", "b", "c", "d", "é", "x", "\u0301", "7", "_"}
    # Half of a character is taken for one of a word.
    assert bool(Demands(BYTES).lengthens[BYTES.find("<0xC3>")])


def test_phrases_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="a constraint must be text that the model's vocabulary can spell, got 'Ω'"):
        build().translate(Request("a fox", constraints=("Ω",)))
    with pytest.raises(ConfigError, match="a constraint must be a phrase, got ' '"):
        build().translate(Request("a fox", constraints=(" ",)))
    with pytest.raises(ConfigError, match="constraints must be a tuple of phrases, got 'dog'"):
        Request("a fox", constraints="dog")
    with pytest.raises(ConfigError, match="constraints need a beam"):
        build().translate(Request("a fox", constraints=("dog",)), SearchConfig(samples=2))
