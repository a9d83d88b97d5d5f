"""Laws of batching: every pair once, within the budget, the same for the same seed; the cache is whole or not there."""

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from unicodedata import normalize

import datasets
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning import LightningModule, Trainer

from seq2seq.config import EOS_ID, PAD_ID
from seq2seq.corpus import Limits, ParallelText, from_pairs, hold_out, read_lines, read_tsv, split
from seq2seq.data import (
    Batch,
    Budget,
    ParallelDataModule,
    batch_plan,
    joint_vocabulary,
    padding_share,
    planned_padding,
    sorted_plan,
    tokenise,
    tokenising,
)
from seq2seq.data import plan as plan_module
from seq2seq.data import tokens as tokens_module
from seq2seq.errors import ConfigError, CorpusError
from seq2seq.vocabulary import Vocabulary

few = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

PAIRS = [("b" * (n % 7 + 1), " ".join("ac" * (n % 5 + 1))) for n in range(200)]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.train(["abc" * 9, "a b c"], 100, kind="char")


@pytest.fixture
def text():
    return from_pairs(PAIRS)


def expected(vocabulary, text):
    (ids,) = vocabulary.encode([text])
    return [*ids, EOS_ID]


# ---- the plan ----

lengths_of_pairs = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=120).map(
    lambda rows: np.array(rows, np.int32)
)
budgets = st.builds(Budget, tokens=st.integers(1, 400)) | st.builds(Budget, sentences=st.integers(1, 50))


def within(budget, lengths, batch):
    if budget.sentences is not None:
        return len(batch) <= budget.sentences
    return len(batch) == 1 or len(batch) * lengths[batch].max() <= budget.tokens


@given(lengths_of_pairs, budgets, st.integers(0, 2**40), st.integers(0, 50), st.integers(1, 4))
@few
def test_a_plan_holds_each_pair_once_within_the_budget(lengths, budget, seed, epoch, batches_per_step):
    plan = batch_plan(lengths, budget, seed, epoch, batches_per_step)
    assert all(len(batch) and within(budget, lengths, batch) for batch in plan)
    assert len(plan) % batches_per_step == 0
    assert len(plan) == len(batch_plan(lengths, budget, seed + 1, epoch + 1, batches_per_step)), (
        "all epochs are equally long"
    )
    rows = np.concatenate(plan)
    assert set(rows) == set(range(len(lengths)))
    assert len(rows) == max(len(lengths), len(plan)), "repeats only where there are more batches than pairs"


@given(lengths_of_pairs, budgets, st.integers(1, 4))
@few
def test_a_sorted_plan_holds_each_pair_once_within_the_budget(lengths, budget, ranks):
    plan = sorted_plan(lengths, budget, ranks)
    assert all(len(batch) and within(budget, lengths, batch) for batch in plan)
    assert len(plan) % ranks == 0
    assert set(np.concatenate(plan)) == set(range(len(lengths)))
    sources = lengths[np.concatenate(plan)][: len(lengths), 0]
    assert (np.diff(sources) <= 0).all()


def captions(pairs=20_000):
    """Lengths that are spread, and agree, as those of translated captions do."""
    random = np.random.default_rng(0)
    source = random.gamma(8, 2, pairs) + 2
    target = source * random.normal(0.97, 0.2, pairs)
    return np.clip(np.stack([source, target], 1), 3, 60).astype(np.int32)


def test_padding_stays_under_a_tenth():
    lengths = captions()
    for epoch in range(3):
        plan = batch_plan(lengths, Budget(4000), 1, epoch)
        assert planned_padding(lengths, plan) < 0.10
        fewest = lengths.max(axis=1).sum() / 4000
        assert len(plan) < 1.2 * fewest, "batches are nearly full"


def test_plans_are_functions_of_seed_and_epoch_alone():
    lengths, budget = captions(3_000), Budget(1000)
    plans = {(seed, epoch): batch_plan(lengths, budget, seed, epoch) for seed in (1, 2) for epoch in (0, 1)}
    np.random.seed(5)
    for (seed, epoch), plan in plans.items():
        again = batch_plan(lengths, budget, seed, epoch)
        assert all(np.array_equal(*both) for both in zip(plan, again, strict=True))
    for one, other in combinations(plans.values(), 2):
        assert not all(np.array_equal(*both) for both in zip(one, other, strict=True))


def test_pairs_meet_other_pairs_in_every_epoch():
    lengths, budget = captions(), Budget(4000)
    first, second = (batch_plan(lengths, budget, 1, epoch) for epoch in (0, 1))
    place = np.empty((2, len(lengths)), int)
    for row, plan in zip(place, (first, second), strict=True):
        for number, batch in enumerate(plan):
            row[batch] = number
    meet_again = sum(np.square(np.bincount(place[1, batch])).sum() for batch in first)
    assert meet_again / sum(len(batch) ** 2 for batch in first) < 0.3
    assert np.corrcoef(place)[0, 1] < 0.3, "the order of batches is shuffled"


@few
@given(st.lists(st.integers(0, 5), min_size=1, max_size=50))
def test_sorting_values_with_their_places_is_stable(values):
    expected = np.argsort(values, kind="stable")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan_module, "_PART", 7)
        assert plan_module._argsort(np.array(values)).tolist() == expected.tolist()


def test_the_batches_of_a_step_are_of_like_shape():
    lengths = captions()
    plan = batch_plan(lengths, Budget(4000), 1, 0, batches_per_step=4)
    one = batch_plan(lengths, Budget(4000), 1, 0)
    steps = np.array([lengths[batch].max() for batch in plan]).reshape(-1, 4)
    at_random = np.array([lengths[batch].max() for batch in one[: len(one) // 4 * 4]]).reshape(-1, 4)
    assert np.ptp(steps, axis=1).mean() < 0.3 * np.ptp(at_random, axis=1).mean()


@pytest.mark.parametrize("sizes", [(None, None), (4000, 64), (0, None), (None, -1)])
def test_budgets_that_cannot_be(sizes):
    with pytest.raises(ConfigError):
        Budget(*sizes)


# ---- tokens ----


def test_tokens_are_the_pairs(vocabulary, text, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "_BLOCK", 30)  # several chunks
    tokens = tokenise(text, vocabulary, vocabulary, tmp_path)
    rows = np.random.default_rng(0).permutation(len(PAIRS))
    for side in (0, 1):
        padded = tokens.padded(side, rows)
        for row, ids in zip(rows, padded, strict=True):
            want = expected(vocabulary, PAIRS[row][side])
            assert tokens.lengths[row, side] == len(want)
            assert ids.tolist() == want + [PAD_ID] * (len(ids) - len(want))


def test_the_file_is_one_that_datasets_opens(vocabulary, text, tmp_path):
    tokenise(text, vocabulary, vocabulary, tmp_path)
    rows = datasets.Dataset.from_file(str(next(tmp_path.glob("*/shard-00000.arrow"))))
    assert rows[7] == {
        "source": expected(vocabulary, PAIRS[7][0]),
        "target": expected(vocabulary, PAIRS[7][1]),
        "index": 7,
    }


def test_limits_drop_and_count_in_order(vocabulary, tmp_path):
    pairs = [("a", "b"), ("", "b"), ("a", "  "), ("a" * 9, ""), ("a" * 9, "b"), ("a" * 5, "b"), ("a" * 7, "b" * 7)]
    text = from_pairs(pairs)
    tokens = tokenise(text, vocabulary, vocabulary, tmp_path, Limits(max_length=8, max_ratio=2.5))
    assert tokens.indices.tolist() == [0, 6]
    assert tokens.dropped == {"blank": 3, "longer than 8 tokens": 1, "beyond a ratio of 2.5": 1}
    everything = tokenise(text, vocabulary, vocabulary, tmp_path)
    assert everything.indices.tolist() == list(range(7))
    assert everything.lengths[3].tolist() == [11, 1]
    assert len(tokenise(text, vocabulary, vocabulary, tmp_path, Limits(None, None))) == 4
    with pytest.raises(CorpusError, match="no pair is left \\(2 blank\\)"):
        tokenise(from_pairs([("", "b"), ("", "")]), vocabulary, vocabulary, tmp_path, Limits())


def test_the_cache_is_keyed_by_all_that_matters(vocabulary, text, tmp_path):
    other = Vocabulary.train(["a b c d"], 100, kind="char")
    for arguments in (
        (text, vocabulary, vocabulary, tmp_path, None),
        (text, vocabulary, other, tmp_path, None),
        (text, other, vocabulary, tmp_path, None),
        (text, vocabulary, vocabulary, tmp_path, Limits()),
        (text, vocabulary, vocabulary, tmp_path, Limits(max_length=11)),
        (from_pairs(PAIRS[1:]), vocabulary, vocabulary, tmp_path, None),
    ):
        before = len(list(tmp_path.iterdir()))
        tokenise(*arguments)
        assert len(list(tmp_path.iterdir())) == before + 1
        tokenise(*arguments)
        assert len(list(tmp_path.iterdir())) == before + 1


def test_a_second_run_does_not_tokenise(vocabulary, text, tmp_path, monkeypatch):
    first = tokenise(text, vocabulary, vocabulary, tmp_path)
    monkeypatch.setattr(Vocabulary, "encode", lambda *_, **__: pytest.fail("tokenised again"))
    second = tokenise(from_pairs(PAIRS), vocabulary, vocabulary, tmp_path)
    assert np.array_equal(first.lengths, second.lengths)


@pytest.fixture
def shards(monkeypatch):
    """A corpus of 200 pairs is seven shards, of two blocks each."""
    monkeypatch.setattr(tokenising, "_SHARD", 30)
    monkeypatch.setattr(tokens_module, "_BLOCK", 20)


def shard_names(cache):
    return sorted(path.name for path in cache.glob("*/shard-*.arrow") if path.with_suffix(".json").exists())


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_write_what_one_would(workers, vocabulary, text, tmp_path):
    tokens = tokenise(text, vocabulary, vocabulary, tmp_path, Limits(max_length=6), workers)
    assert len(shard_names(tmp_path)) == 7
    kept = [n for n, pair in enumerate(PAIRS) if max(map(len, vocabulary.encode(pair))) <= 6]
    assert tokens.indices.tolist() == kept
    assert tokens.dropped == {"longer than 6 tokens": 200 - len(kept)}
    for side in (0, 1):
        rows = tokens.padded(side, np.arange(len(kept)))
        for row, index in zip(rows, kept, strict=True):
            assert row[: tokens.lengths[kept.index(index), side]].tolist() == expected(vocabulary, PAIRS[index][side])


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("killed", [True, False])
def test_what_helpers_leave_undone_is_made_good(killed, vocabulary, text, tmp_path, monkeypatch, capfd):
    parent, write = os.getpid(), tokenising._write_shard

    def write_or_die(*arguments):
        if os.getpid() != parent:
            if killed:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("I/O operation on closed file")
        write(*arguments)

    monkeypatch.setattr(tokenising, "_write_shard", write_or_die)
    assert len(tokenise(text, vocabulary, vocabulary, tmp_path, workers=2)) == len(PAIRS)
    assert not capfd.readouterr().err, "helpers leave the telling to their parent"


@pytest.mark.usefixtures("shards")
def test_a_helper_ends_with_its_parent(vocabulary, text, tmp_path):
    work = partial(tokenising._write_some, tmp_path, text, (vocabulary, vocabulary), None)
    for parent, shards in ((os.getppid(), 0), (os.getpid(), 3)):
        helper = get_context("fork").Process(target=tokenising._help, args=(parent, work, {0, 1, 2}))
        helper.start()
        helper.join()
        assert helper.exitcode == 0
        assert len(list(tmp_path.glob("*.arrow"))) == shards


@pytest.mark.usefixtures("shards")
def test_a_full_disk_leaves_no_part_of_a_file(vocabulary, text, tmp_path, monkeypatch, capfd):
    replace = Path.replace

    def fail(path, target):
        if path.suffix in (".arrow", ".part"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    cache = tmp_path / "cache"
    for _ in range(2):
        with pytest.raises(CorpusError, match=r"\(No space left on device\); make room, or choose another cache"):
            tokenise(text, vocabulary, vocabulary, cache, workers=3)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert not capfd.readouterr().err, "helpers leave the telling to their parent"


def test_a_text_that_changes_while_a_vocabulary_is_learnt_is_refused(tmp_path, monkeypatch):
    path, learn = tmp_path / "text.tsv", Vocabulary.train
    path.write_text("ab\tba\n" * 9)

    def learn_while_it_changes(*arguments, **options):
        learnt = learn(*arguments, **options)
        path.write_text("cd\tdc\n" * 9)
        return learnt

    monkeypatch.setattr(Vocabulary, "train", learn_while_it_changes)
    with pytest.raises(CorpusError, match="must stay as it is while it is learnt from, and has changed; start again"):
        joint_vocabulary(read_tsv(path), 7, cache=tmp_path, kind="char")
    assert not list(tmp_path.glob("*.model"))


@pytest.mark.usefixtures("shards")
def test_a_text_that_changes_while_it_is_tokenised_is_refused(vocabulary, tmp_path, monkeypatch):
    path, write = tmp_path / "text.tsv", tokenising._write_shards
    path.write_text("".join(f"{source}\t{target}\n" for source, target in PAIRS))

    def write_while_it_changes(*arguments):
        write(*arguments)
        path.write_text("ab\tba\n")

    monkeypatch.setattr(tokenising, "_write_shards", write_while_it_changes)
    with pytest.raises(CorpusError, match="must stay as it is while it is tokenised, and has changed; start again"):
        tokenise(read_tsv(path), vocabulary, vocabulary, tmp_path / "cache", workers=1)
    monkeypatch.setattr(tokenising, "_write_shards", write)
    assert len(tokenise(read_tsv(path), vocabulary, vocabulary, tmp_path / "cache", workers=1)) == 1


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("fault", [KeyboardInterrupt, CorpusError])
def test_finished_shards_outlast_a_fault(fault, vocabulary, tmp_path, monkeypatch):
    readings = 0

    def read():
        nonlocal readings
        readings += 1
        for number, pair in enumerate(PAIRS):
            if readings == 2 and number == 100:  # The first reading is the check.
                raise fault
            yield pair

    with pytest.raises(fault):
        tokenise(ParallelText("text", read), vocabulary, vocabulary, tmp_path, workers=1)
    assert shard_names(tmp_path) == [f"shard-{n:05d}.arrow" for n in range(3)]
    encode, encoded = Vocabulary.encode, []
    monkeypatch.setattr(
        Vocabulary, "encode", lambda self, texts, **options: (encoded.extend(texts), encode(self, texts, **options))[1]
    )
    tokens = tokenise(from_pairs(PAIRS), vocabulary, vocabulary, tmp_path, workers=1)
    assert len(tokens) == len(PAIRS)
    assert len(encoded) == 2 * 110, "the other shards alone"


@pytest.mark.usefixtures("shards")
def test_finished_shards_outlast_a_kill(vocabulary, tmp_path):
    vocabulary.save(tmp_path / "v.model")
    program = f"""
import os, signal
from pathlib import Path
from seq2seq.corpus import ParallelText
from seq2seq.data import tokenising, tokens
from seq2seq.vocabulary import Vocabulary
tokenising._SHARD, tokens._BLOCK = 30, 20
readings = []
def read():
    readings.append(1)
    for n in range(200):
        if n == 100 and len(readings) > 1:
            os.kill(os.getpid(), signal.SIGKILL)
        yield "b" * (n % 7 + 1), " ".join("ac" * (n % 5 + 1))
v = Vocabulary.load({str(tmp_path / "v.model")!r})
tokenising.tokenise(ParallelText("text", read), v, v, Path({str(tmp_path / "cache")!r}), workers=1)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    assert len(shard_names(tmp_path / "cache")) == 3
    tokens = tokenise(from_pairs(PAIRS), vocabulary, vocabulary, tmp_path / "cache")
    assert np.array_equal(tokens.indices, np.arange(len(PAIRS)))
    assert len(list((tmp_path / "cache").rglob("*.arrow"))) == 7, "nothing unfinished is left"


def test_a_second_start_does_not_read_files_that_are_as_they_were(vocabulary, tmp_path, monkeypatch):
    sides = [tmp_path / name for name in ("a", "b")]
    for side, path in enumerate(sides):
        path.write_text("".join(f"{pair[side]}\n" for pair in PAIRS))
    first = tokenise(read_lines(*sides), vocabulary, vocabulary, tmp_path / "cache")
    text = read_lines(*sides)
    monkeypatch.setattr(text, "_read", lambda: pytest.fail("read again"))
    second = tokenise(text, vocabulary, vocabulary, tmp_path / "cache")
    assert np.array_equal(first.lengths, second.lengths)
    assert first.folder == second.folder
    sides[1].write_text(sides[1].read_text().replace("a", "b"))  # As long as before.
    assert tokenise(read_lines(*sides), vocabulary, vocabulary, tmp_path / "cache").folder != first.folder
    swapped = tokenise(read_lines(*reversed(sides)), vocabulary, vocabulary, tmp_path / "cache")
    assert swapped.folder != first.folder


def test_a_second_start_does_not_count_the_batches(vocabulary, tmp_path, monkeypatch):
    first = len(module(vocabulary, tmp_path).train_dataloader())
    monkeypatch.setattr("seq2seq.data.module.batch_count", lambda *_: pytest.fail("counted again"))
    assert len(module(vocabulary, tmp_path).train_dataloader()) == first
    monkeypatch.undo()
    other = module(vocabulary, tmp_path, batch_tokens=30).train_dataloader()
    assert len(other) == len(list(other)) > first


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize("name", ["shard-00003.arrow", "summary.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_a_truncated_cache_is_made_again(vocabulary, text, tmp_path, name, share):
    whole = tokenise(text, vocabulary, vocabulary, tmp_path)
    want = whole.padded(0, np.arange(len(PAIRS)))
    del whole
    path = next(tmp_path.glob(f"*/{name}"))
    os.truncate(path, int(path.stat().st_size * share))
    again = tokenise(text, vocabulary, vocabulary, tmp_path)
    assert np.array_equal(again.padded(0, np.arange(len(PAIRS))), want)


@pytest.mark.usefixtures("shards")
def test_more_files_than_may_be_open_are_no_reason_to_write_them_again(vocabulary, text, tmp_path, monkeypatch):
    tokenise(text, vocabulary, vocabulary, tmp_path)
    files = sorted(tmp_path.glob("*/*"))

    def full(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr("seq2seq.data.tokens.os.open", full)
        with pytest.raises(CorpusError, match=r"cannot open all its files .*; allow more with ulimit"):
            tokenise(text, vocabulary, vocabulary, tmp_path)
    assert sorted(tmp_path.glob("*/*")) == files


def test_a_second_start_of_a_recipe_neither_reads_nor_learns(tmp_path, monkeypatch):
    """Parts that are held out, their texts, and the vocabulary: all is as it was, or made anew of another text."""
    sides, cache = [tmp_path / name for name in ("a", "b")], tmp_path / "cache"
    for side, path in enumerate(sides):
        path.write_text("".join(f"{pair[side]} {n}\n" for n, pair in enumerate(PAIRS * 9)))

    def start(size=30):
        pairs, held_out, test = hold_out(read_lines(*sides), cache=cache)
        joint = joint_vocabulary(pairs, size, cache=cache, kind="char")
        data = ParallelDataModule(pairs, held_out, joint, joint, batch_sentences=8, cache=cache)
        return joint.fingerprint, data.fingerprint(), data.validation_pairs, len(test)

    first = start()
    with monkeypatch.context() as patch:
        patch.setattr("seq2seq.corpus.readers.read_text", lambda *_: pytest.fail("read again"))
        patch.setattr(Vocabulary, "train", lambda *_, **__: pytest.fail("learnt again"))
        assert start() == first
    assert start(size=12)[0] != first[0], "other options"
    (kept,) = {path for path in cache.glob("vocabulary-*") if Vocabulary.load(path).fingerprint == first[0]}
    kept.write_bytes(kept.read_bytes()[:100])
    assert start() == first, "a file that is not whole is made again"
    sides[0].write_text(sides[0].read_text().replace("1", "!!"))
    assert all(now != before for now, before in zip(start()[:2], first, strict=False)), "another text"


def test_of_a_huge_corpus_every_so_many_pair_is_learnt_from(tmp_path, monkeypatch):
    seen = []
    train = Vocabulary.train
    monkeypatch.setattr("seq2seq.data.vocabularies.MOST_PAIRS", 10)
    monkeypatch.setattr(Vocabulary, "train", lambda lines, *a, **o: train(seen.extend(lines) or seen, *a, **o))
    text = from_pairs([(f"source {n}", f"target {n}") for n in range(35)])
    joint_vocabulary(text, 30, cache=tmp_path, kind="char")
    assert seen == [f"{side} {n}" for n in range(0, 35, 4) for side in ("source", "target")]


def test_two_processes_may_tokenise_the_same(vocabulary, tmp_path):
    folder = []

    def read():
        yield from PAIRS
        if folder:  # The other process ends while this one reads.
            folder.clear()
            tokenise(from_pairs(PAIRS), vocabulary, vocabulary, tmp_path)

    text = ParallelText("text", read).check()
    folder.append("second reading")
    assert len(tokenise(text, vocabulary, vocabulary, tmp_path)) == len(PAIRS)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_process_that_comes_too_late_takes_what_the_other_has_written(vocabulary, tmp_path, monkeypatch):
    """The other moves the folder away while this one is about to give a shard its name."""
    write, others = tokenising.write_file, [1]

    def write_file(path, blocks):
        kept = write(path, blocks)
        if others:
            others.clear()
            tokenise(from_pairs(PAIRS), vocabulary, vocabulary, tmp_path)
        return kept

    monkeypatch.setattr(tokenising, "write_file", write_file)
    assert len(tokenise(from_pairs(PAIRS), vocabulary, vocabulary, tmp_path)) == len(PAIRS)
    (folder,) = tmp_path.iterdir()
    assert {path.suffix for path in folder.iterdir()} == {".arrow", ".json"}
    assert not list(folder.glob("shard-*.*.arrow"))


def test_a_file_that_looks_the_same_is_read_again(tmp_path):
    path = tmp_path / "a"
    path.write_text("one\n" * 40)
    before, times = read_lines(path, path).with_facts(tmp_path / "cache").fingerprint, path.stat()
    (tmp_path / "b").write_text("two\n" * 40)
    (tmp_path / "b").replace(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read_lines(path, path).with_facts(tmp_path / "cache").fingerprint != before


def test_a_file_that_was_changed_is_read_again(tmp_path):
    """By the same object too; and nothing is kept of it under a wrong name."""
    path, cache = tmp_path / "a", tmp_path / "cache"
    path.write_text("one\n" * 40)
    text = read_lines(path, path).with_facts(cache)
    before = text.fingerprint
    path.write_text("two\n" * 50)
    text.save_facts(cache)
    assert (len(text), text.fingerprint != before) == (50, True)
    fresh = read_lines(path, path).with_facts(cache)
    assert (len(fresh), fresh.fingerprint) == (50, text.fingerprint)


def test_parts_of_a_file_that_is_changed_while_it_is_divided_are_not_kept(tmp_path, monkeypatch):
    path, cache = tmp_path / "a", tmp_path / "cache"
    path.write_text("".join(f"one {number}\n" for number in range(600)))
    watched = split.watched

    def changing(pairs, *about):
        yield from watched(pairs, *about)
        path.write_text("".join(f"two {number}\n" for number in range(700)))

    monkeypatch.setattr(split, "watched", changing)
    hold_out(read_lines(path, path), cache=cache)
    monkeypatch.setattr(split, "watched", watched)
    parts = hold_out(read_lines(path, path), cache=cache)
    assert sum(map(len, parts)) == 700
    for part in parts:
        assert part.fingerprint == from_pairs(list(part)).fingerprint


def test_what_is_held_out_is_not_blank_and_not_in_the_training_by_another_spelling():
    texts = [f"satz é {number}" for number in range(600)]
    spellings = [lambda text: text, lambda text: f" {text} ", lambda text: text.replace(" ", "  ")]
    spellings.append(lambda text: normalize("NFD", text))
    pairs = [(spell(text), "x") for text in texts for spell in spellings]
    blanks = [("", "x"), (" ", "x"), *((text, " ") for text in texts)]
    training, *others = hold_out(from_pairs(pairs + blanks))
    assert set(blanks) <= set(training)

    def plain(text):
        return {" ".join(normalize("NFC", source).split()) for source, target in text if target.strip()}

    for held_out in others:
        assert plain(held_out)
        assert not plain(held_out) & plain(training)
        assert all(source.strip() and target.strip() for source, target in held_out)


def test_a_cache_that_cannot_be_written(vocabulary, text, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CorpusError, match=r"file: cannot keep tokens .*; make room, or choose another cache"):
        tokenise(text, vocabulary, vocabulary, tmp_path / "file")


def resident(kind: str) -> int:
    """Bytes of this process in memory: `RssFile` are those of mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system in Linux's way")
def test_tokens_stay_on_disk_however_many_are_read(vocabulary, tmp_path):
    text = from_pairs([("abc" * 300, "cab" * 300)] * 5_000)
    tokenise(text, vocabulary, vocabulary, tmp_path)
    before = resident("VmRSS")
    tokens = tokenise(text, vocabulary, vocabulary, tmp_path)
    size, most = 4 * tokens.lengths.sum(), 0
    for start in range(0, 5_000, 50):
        rows = np.arange(start, start + 50)
        assert (tokens.padded(1, rows)[:, -1] == EOS_ID).all()
        most = max(most, resident("VmRSS") - before)
    assert most < 0.3 * size, "what was read is not kept"


def test_a_fault_in_the_text_is_told_before_anything_is_written(vocabulary, tmp_path):
    (tmp_path / "de").write_bytes(b"a\nb\xff\n")
    (tmp_path / "en").write_bytes(b"a\nb\n")
    with pytest.raises(CorpusError, match="de:2: is not UTF-8"):
        tokenise(read_lines(tmp_path / "de", tmp_path / "en"), vocabulary, vocabulary, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


# ---- the data module ----


def module(vocabulary, cache, pairs=PAIRS, **options):
    options = {"batch_tokens": 60, "seed": 3} | options
    return ParallelDataModule(from_pairs(pairs), from_pairs(pairs[:50]), vocabulary, vocabulary, cache=cache, **options)


def test_batches_hold_the_pairs_they_name(vocabulary, tmp_path):
    data = module(vocabulary, tmp_path)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batches = list(loader)
        assert len(batches) == len(loader)
        for batch in batches:
            assert all(part.dtype == torch.int64 for part in batch)
            for row, index in enumerate(batch.indices.tolist()):
                for text, ids, length in zip(PAIRS[index], batch[0::2], batch[1::2], strict=False):
                    want = expected(vocabulary, text)
                    assert length[row] == len(want)
                    assert ids[row].tolist() == want + [PAD_ID] * (ids.shape[1] - len(want))
            assert batch.source.shape[1] == batch.source_lengths.max()
            assert batch.target.shape[1] == batch.target_lengths.max()


def test_padding_share_counts_pads(vocabulary, tmp_path):
    data = module(vocabulary, tmp_path)
    batches = list(data.train_dataloader())
    pads = sum(int((side == PAD_ID).sum()) for batch in batches for side in (batch.source, batch.target))
    everything = sum(batch.source.numel() + batch.target.numel() for batch in batches)
    assert padding_share(batches) == pytest.approx(pads / everything)
    plan = batch_plan(data.train_tokens.lengths, data.budget, data.seed, 0)
    assert planned_padding(data.train_tokens.lengths, plan) == pytest.approx(pads / everything)
    assert f"{pads / everything:.1%} padding" in data.describe()


def test_validation_drops_nothing_and_its_order_can_be_restored(vocabulary, tmp_path):
    data = ParallelDataModule(
        from_pairs(PAIRS),
        from_pairs([("a", "b"), ("", ""), ("a" * 300, "b"), ("", "b")]),
        vocabulary,
        vocabulary,
        batch_tokens=20,
        cache=tmp_path,
    )
    batches = list(data.val_dataloader())
    indices = torch.cat([batch.indices for batch in batches])
    assert sorted(indices.tolist()) == [0, 1, 2, 3]
    assert batches[0].source_lengths.tolist() == [302], "longest first; above the budget and alone"
    assert data.validation_pairs[1] == ("", "")


def test_epochs_differ_and_come_back(vocabulary, tmp_path):
    def orders(epoch, **options):
        loader = module(vocabulary, tmp_path, **options).train_dataloader()
        loader.set_epoch(epoch)
        return [batch.indices.tolist() for batch in loader]

    assert orders(0) == orders(0)
    assert orders(0) != orders(1)
    assert orders(0) != orders(0, seed=4)
    assert len(orders(0)) == len(orders(1))


class Recorder(LightningModule):
    """Learns nothing and remembers its batches."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.validated = [], []

    def training_step(self, batch):
        assert isinstance(batch, Batch)
        self.seen.append((self.current_epoch, batch.indices.tolist()))
        return self.weight * 0

    def validation_step(self, batch):
        self.validated.append((self.current_epoch, batch.indices.tolist()))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_runs_it_without_a_warning(vocabulary, tmp_path):
    recorder = Recorder()
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
    )
    data = module(vocabulary, tmp_path)
    trainer.fit(recorder, datamodule=data)
    loader = module(vocabulary, tmp_path).train_dataloader()
    want = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        want += [(epoch, batch.indices.tolist()) for batch in loader]
    assert recorder.seen == want
    for epoch in range(3):
        rows = [row for seen, batch in recorder.validated if seen == epoch for row in batch]
        assert sorted(rows) == list(range(50))


# ---- a real corpus ----


@pytest.fixture(scope="module")
def captions_module(tmp_path_factory):
    folder = os.environ.get("SEQ2SEQ_MULTI30K")
    if not folder:
        pytest.skip("SEQ2SEQ_MULTI30K does not name a folder with Multi30k")
    train, validation = (
        read_lines(Path(folder, f"{part}.de.gz"), Path(folder, f"{part}.en.gz")) for part in ("train", "val")
    )
    vocabulary = Vocabulary.train([*train.sources(), *train.targets()], 8000)
    cache = tmp_path_factory.mktemp("cache")
    return ParallelDataModule(train, validation, vocabulary, vocabulary, batch_tokens=4000, cache=cache)


def test_padding_of_multi30k(captions_module):
    loader = captions_module.train_dataloader()
    for epoch in range(3):
        loader.set_epoch(epoch)
        assert padding_share(loader) < 0.10


def test_multi30k_survives_its_vocabulary(captions_module):
    sides = [text for pair in captions_module.validation_pairs for text in pair]
    vocabulary = captions_module.source_vocabulary
    canonical = [" ".join(text.split(" ")) for text in sides]
    same = [
        decoded == text for decoded, text in zip(vocabulary.decode(vocabulary.encode(sides)), canonical, strict=True)
    ]
    assert np.mean(same) > 0.99


def test_pairs_of_more_than_256_tokens_or_nine_to_one_are_left_out(tmp_path):
    """What a model is trained with unless something else is said."""
    characters = Vocabulary.train(["ab ba"], 7, kind="char")
    lengths = [(256, 256), (257, 256), (256, 257), (18, 2), (19, 2), (2, 18), (2, 19)]  # "▁" is one of them.
    pairs = [("a" * (source - 1), "b" * (target - 1)) for source, target in lengths]
    text = from_pairs(pairs)
    data = ParallelDataModule(text, text, characters, characters, batch_tokens=5000, cache=tmp_path)
    assert data.train_tokens.indices.tolist() == [0, 3, 5]
