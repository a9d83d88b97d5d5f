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
from seq2seq.translator.demands import Demands, GuidedState, guide
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
    wanted = Demands(FEW).prefix(prefix)
    state = GuidedState(network.start(torch.tensor([seed])), [wanted.start])
    (found,) = search(guide(network.step), state, torch.tensor([3]), config, prefixes=[wanted.tokens])
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


def test_a_prefix_longer_than_the_limit_still_fits() -> None:
    search = SearchConfig(max_length=3, beam_size=2)
    assert build().translate(Request("a fox", "the quick brown "), search) == "the quick brown"
    with pytest.raises(ConfigError, match="must leave room for what the search wants, got 'the quick' for 'a fox'"):
        build().translate(Request("a fox", "the quick"), search)


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


def test_the_end_may_follow_a_complete_prefix_at_once() -> None:
    wanted = Demands(VOCABULARY).prefix("dog ")
    place = wanted.start
    for token in [2, *VOCABULARY.encode(["dog"])[0]]:
        place = place.following[token]
    assert set(place.following) == {EOS_ID, VOCABULARY.find("▁")}
    assert Demands(VOCABULARY).prefix("  \t").start is None
