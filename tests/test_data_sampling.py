"""Subword regularisation: every draw is a division of its text, and a pure function of seed, epoch and pair."""

import math
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from reversing import reverse

from seq2seq.config import EOS_ID
from seq2seq.corpus import Limits, from_pairs, read_tsv
from seq2seq.data import Batches, ParallelDataModule, sampling
from seq2seq.data import tokens as tokens_module
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.vocabulary import Vocabulary

WORDS = ["banana", "bandana", "cabana", "savanna", "anagram", "manga", "ananas", "nab", "ban", "can", "scan", "span"]
PAIRS = [(" ".join(WORDS[n % 12 :][: n % 5 + 1]), " ".join(WORDS[n % 7 :][: n % 4 + 1])) for n in range(60)]
PAIRS[7] = ("", "ban")
SIZES = {"unigram": 40, "bpe": 40, "char": 40, "word": 40}


def make(kind: str) -> Vocabulary:
    return Vocabulary.train(
        [source for source, _ in PAIRS] + [target for _, target in PAIRS], SIZES[kind], kind=kind, hard=False
    )


@pytest.fixture(scope="module")
def vocabularies() -> dict[str, Vocabulary]:
    with pytest.warns(UserWarning, match="tokens, got size"):
        return {kind: make(kind) for kind in SIZES}


def data(vocabulary: Vocabulary, cache: Path, alpha: float | None = 0.3, **options: object) -> ParallelDataModule:
    settings = {"batch_tokens": 60, "limits": Limits(max_length=30, max_ratio=None), **options}
    module = ParallelDataModule(from_pairs(PAIRS), from_pairs(PAIRS), vocabulary, vocabulary, cache=cache, **settings)
    module.subword_sampling = alpha
    return module


def epoch_of(batches: Batches, epoch: int) -> dict[int, tuple[list[int], list[int]]]:
    """What each pair is in an epoch, by its number."""
    batches.set_epoch(epoch)
    found = {}
    for batch in batches:
        rows = zip(batch.indices, batch.source, batch.source_lengths, batch.target, batch.target_lengths, strict=True)
        for index, source, length, target, other in rows:
            found[int(index)] = source[:length].tolist(), target[:other].tolist()
    return found


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_draw_is_another_division_of_the_same_text(kind: str, vocabularies: dict[str, Vocabulary]) -> None:
    vocabulary, text = vocabularies[kind], "banana bandana savanna"
    sampler = vocabulary.sampler(0.2)
    drawn = [sampler.sample(text, seed) for seed in range(50)]
    assert vocabulary.decode(drawn) == [text] * 50
    assert len({tuple(ids) for ids in drawn}) > 5
    assert vocabulary.sampler(0.2).sample(text, 17) == drawn[17], "a draw depends on nothing but text and seed"


ODD = [
    "banana canXXscan λόγος λ",
    "",
    "▁ <S> scan",
    "nabncanananasmanga" * 9,
    "  ban   X \t Y X",
    "Straße 猫",
    "a\u0301",
]


@pytest.mark.parametrize("symbols", [(), ("an", "scan", "<S", "▁")])
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.filterwarnings("ignore:this text gives:UserWarning", "ignore:symbols should occur:UserWarning")
def test_the_surest_draw_is_what_sentencepiece_says(kind: str, fallback: bool, symbols: tuple[str, ...]) -> None:
    """Without merges left out, or at an alpha so high that the most likely division always wins."""
    options = {"byte_fallback": fallback, "symbols": symbols}
    size = SIZES[kind] + (256 if fallback else 0)
    vocabulary = Vocabulary.train([text for pair in PAIRS for text in pair], size, kind=kind, **options)
    texts = [text for pair in PAIRS for text in pair] + ODD
    surest = vocabulary.sampler(1e4 if kind == "unigram" else 0.0)
    for text, ids in zip(texts, vocabulary.encode(texts), strict=True):
        assert surest.sample(text, 0) == ids, text
    for alpha in (math.nan, -0.1, *([] if kind == "unigram" else [1.1])):
        with pytest.raises(ConfigError, match=f"alpha must be .*, got {alpha}"):
            vocabulary.sampler(alpha)
    wild = vocabulary.sampler(0.1)
    for text in texts:
        assert vocabulary.decode([wild.sample(text, 1)]) == vocabulary.decode(vocabulary.encode([text]))


def divisions(word: str, scores: dict[str, float]) -> dict[tuple[str, ...], float]:
    """Every division of a word into known tokens, with its log-probability."""
    if not word:
        return {(): 0.0}
    return {
        (word[:end], *rest): scores[word[:end]] + score
        for end in range(1, len(word) + 1)
        if word[:end] in scores
        for rest, score in divisions(word[end:], scores).items()
    }


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_unigram_divisions_are_drawn_by_their_probabilities(alpha: float, vocabularies: dict[str, Vocabulary]) -> None:
    vocabulary = vocabularies["unigram"]
    sampler = vocabulary.sampler(alpha)
    every = divisions("▁banana", sampler.scores)
    total = sum(math.exp(alpha * score) for score in every.values())
    expected = {parts: math.exp(alpha * score) / total for parts, score in every.items()}
    drawn = Counter(tuple(vocabulary.tokens(sampler.sample("banana", seed))) for seed in range(4000))
    assert set(drawn) <= set(expected)
    assert all(drawn[parts] / 4000 == pytest.approx(share, abs=0.03) for parts, share in expected.items())


def test_bpe_dropout_leaves_out_merges(vocabularies: dict[str, Vocabulary]) -> None:
    vocabulary = vocabularies["bpe"]
    lengths = [
        np.mean([len(vocabulary.sampler(share).sample("banana bandana savanna", seed)) for seed in range(100)])
        for share in (0.0, 0.1, 0.5, 1.0)
    ]
    assert lengths == sorted(lengths)
    assert lengths[-1] == len("▁banana▁bandana▁savanna"), "with every merge left out there are characters"


def test_a_draw_is_the_same_in_every_process(vocabularies: dict[str, Vocabulary], tmp_path: Path) -> None:
    for kind in ("unigram", "bpe"):
        vocabularies[kind].save(tmp_path / f"{kind}.model")
    code = """
import sys
from seq2seq.vocabulary import Vocabulary
print([Vocabulary.load(path).sampler(0.3).sample("banana bandana savanna", 5) for path in sys.argv[1:]])
"""
    words = [sys.executable, "-c", code, *(str(tmp_path / f"{kind}.model") for kind in ("unigram", "bpe"))]
    here = [vocabularies[kind].sampler(0.3).sample("banana bandana savanna", 5) for kind in ("unigram", "bpe")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == str(here)


@pytest.mark.parametrize("kind", ["char", "word"])
def test_vocabularies_that_know_one_division_are_refused(
    kind: str, vocabularies: dict[str, Vocabulary], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs a unigram or bpe vocabulary, got one of characters or words"):
        data(vocabularies[kind], tmp_path).train_dataloader()


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_epochs_differ_and_come_again(kind: str, vocabularies: dict[str, Vocabulary], tmp_path: Path) -> None:
    vocabulary = vocabularies[kind]
    batches = data(vocabulary, tmp_path / "a").train_dataloader()
    epochs = [epoch_of(batches, epoch) for epoch in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    plain = epoch_of(data(vocabulary, tmp_path / "a", alpha=None).train_dataloader(), 0)
    for epoch in epochs:
        assert epoch.keys() == plain.keys()
        for index, sides in epoch.items():
            assert all(ids[-1] == EOS_ID for ids in sides)
            assert vocabulary.decode([ids[:-1] for ids in sides]) == list(PAIRS[index])
    # Another process, that begins in the middle, in another thread, with another block size.
    again: list[dict] = []
    later = data(vocabulary, tmp_path / "b").train_dataloader()
    thread = threading.Thread(target=lambda: again.append(epoch_of(later, 2)))
    thread.start()
    thread.join()
    assert again == [epochs[2]]
    assert epoch_of(data(vocabulary, tmp_path / "c", seed=2).train_dataloader(), 2) != epochs[2]


def test_a_draw_does_not_depend_on_the_blocks(
    vocabularies: dict[str, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = epoch_of(data(vocabularies["bpe"], tmp_path / "a").train_dataloader(), 1)
    monkeypatch.setattr(tokens_module, "_BLOCK", 7)
    assert epoch_of(data(vocabularies["bpe"], tmp_path / "b").train_dataloader(), 1) == whole


def test_batches_keep_to_the_budget_and_to_their_number(vocabularies: dict[str, Vocabulary], tmp_path: Path) -> None:
    for ranks in (1, 2):
        module = data(vocabularies["bpe"], tmp_path, alpha=0.5)
        module._rank = lambda ranks=ranks: (0, ranks)
        batches = module.train_dataloader()
        for epoch in range(6):
            batches.set_epoch(epoch)
            sizes = [(len(batch.source), max(batch.source.shape[1], batch.target.shape[1])) for batch in batches]
            assert len(sizes) == len(batches)
            assert all(rows == 1 or rows * steps <= 60 for rows, steps in sizes)


def test_an_epoch_that_would_not_fit_is_divided_as_ever(
    vocabularies: dict[str, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = data(vocabularies["bpe"], tmp_path).train_dataloader()
    plain = epoch_of(data(vocabularies["bpe"], tmp_path, alpha=None).train_dataloader(), 1)
    monkeypatch.setattr(sampling, "fewest_batches", lambda *_: len(batches) + 1)
    assert epoch_of(batches, 1) == plain


def test_the_cache_holds_one_epoch(vocabularies: dict[str, Vocabulary], tmp_path: Path) -> None:
    batches = data(vocabularies["bpe"], tmp_path).train_dataloader()
    for epoch in range(3):
        epoch_of(batches, epoch)
        assert len(list(tmp_path.iterdir())) == 2  # The best division, and that of this epoch.


def test_a_run_that_goes_on_draws_its_own_epoch_alone(
    vocabularies: dict[str, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = data(vocabularies["bpe"], tmp_path).train_dataloader()
    drawn, write = [], sampling.SampledEpochs.write

    def watched(self: sampling.SampledEpochs, part: Path, epoch: int) -> None:
        drawn.append(epoch)
        write(self, part, epoch)

    monkeypatch.setattr(sampling.SampledEpochs, "write", watched)
    again = data(vocabularies["bpe"], tmp_path).train_dataloader()
    assert epoch_of(again, 3) == epoch_of(first, 3)
    assert len(again) == len(first)
    assert drawn == [3]
    # Another alpha or seed has another count.
    _ = data(vocabularies["bpe"], tmp_path, alpha=0.4).train_dataloader()
    _ = data(vocabularies["bpe"], tmp_path, seed=2).train_dataloader()
    assert drawn == [3, 0, 0]


def test_a_finished_training_leaves_none_of_its_draws(tmp_path: Path) -> None:
    reverse(tmp_path / "run", subword_sampling=0.3, max_epochs=2)
    plain = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    reverse(tmp_path / "other", subword_sampling=0.3, max_epochs=2, seed=5)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == plain


def test_a_text_that_changes_between_epochs_is_refused(vocabularies: dict[str, Vocabulary], tmp_path: Path) -> None:
    path, tokens = tmp_path / "pairs.tsv", vocabularies["bpe"]
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))
    settings = {"batch_tokens": 60, "limits": Limits(max_length=30, max_ratio=None), "cache": tmp_path / "cache"}
    module = ParallelDataModule(read_tsv(path), from_pairs(PAIRS), tokens, tokens, **settings)
    module.subword_sampling = 0.3
    batches = module.train_dataloader()
    epoch_of(batches, 1)
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS[: len(PAIRS) // 2]))
    with pytest.raises(CorpusError, match="must stay as it is while it is trained on, and has changed; put it back"):
        epoch_of(batches, 2)


def test_of_several_processes_one_draws(
    vocabularies: dict[str, Vocabulary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the others, here threads, use what it drew."""
    every = [data(vocabularies["bpe"], tmp_path).train_dataloader() for _ in range(3)]
    write, drawn = sampling.SampledEpochs.write, []

    def slow(self: sampling.SampledEpochs, part: Path, epoch: int) -> None:
        drawn.append(epoch)
        time.sleep(0.3)
        write(self, part, epoch)

    monkeypatch.setattr(sampling.SampledEpochs, "write", slow)
    found: list[dict] = []
    threads = [threading.Thread(target=lambda one=one: found.append(epoch_of(one, 1))) for one in every]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] == found[2]
    assert drawn == [1]


def test_seeds_are_as_different_as_random_numbers() -> None:
    def seeds(seed: int, epoch: int, side: int) -> list[int]:
        return sampling.pair_seeds(seed, epoch, side, np.arange(1000)).tolist()

    one = seeds(1, 0, 0)
    assert len(set(one)) == 1000
    assert np.mean(one) == pytest.approx(2**31, rel=0.1)
    for other in (seeds(2, 0, 0), seeds(1, 1, 0), seeds(1, 0, 1)):
        assert not set(one) & set(other)
