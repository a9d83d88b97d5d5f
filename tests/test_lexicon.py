"""Lexicons: Model 1 as it is defined, whatever the text is cut into."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from threading import Thread

import oracles_lexicon as oracles
import pytest
import torch
from lightning.pytorch import Callback
from tiny import PAIRS, data_module, model_config, training_config, vocabulary
from translators import packaged

from seq2seq import lexicon as module
from seq2seq import package
from seq2seq.config import EOS_ID, UNK_ID, SearchConfig
from seq2seq.errors import ConfigError, CorpusError, PackageError
from seq2seq.lexicon import CANDIDATES, ROUNDS, Lexicon
from seq2seq.package import adding
from seq2seq.package import folder as folder_module
from seq2seq.training import train
from seq2seq.translator import Translator
from seq2seq.vocabulary import Vocabulary

SOURCE = Vocabulary.train(["ein hund und eine katze schlafen im haus 7"], 13, kind="word")
TARGET = Vocabulary.train(["a dog and cat sleep in the house 7"], 13, kind="word")
BYTES = Vocabulary.train(["abc abd"], 266, byte_fallback=True)
PHRASES = {"ein hund": "a dog", "eine katze": "a cat", "im haus": "in the house", "schlafen": "sleep", "und": "and"}


def corpus(seed: int, pairs: int) -> list[tuple[str, str]]:
    random = Random(seed)
    chosen = [random.choices(list(PHRASES), k=random.randint(0, 4)) for _ in range(pairs)]
    return [(" ".join(phrases), " ".join(PHRASES[phrase] for phrase in phrases)) for phrases in chosen]


@pytest.mark.parametrize("crossings", [1, 50, 1 << 20])
def test_candidates_are_those_of_model_1(monkeypatch, crossings: int) -> None:
    monkeypatch.setattr(module, "CROSSINGS", crossings)
    monkeypatch.setattr(module, "LINES", 7)
    text = corpus(1, 60)
    ids = zip(SOURCE.encode([one for one, _ in text]), TARGET.encode([other for _, other in text]), strict=True)
    truth = oracles.model_1([pair for pair in ids if all(pair)], ROUNDS)
    found = Lexicon.learn(text, SOURCE, TARGET, frequent=2)
    always = set(found.always.tolist())
    for source, own in truth.items():
        if source != oracles.NOTHING:
            best = sorted(set(own) - always, key=lambda target: -own[target])
            ours = [target for target in found.candidates[source].tolist() if target >= 0]
            assert set(ours) == set(best)
            chances = [own[target] for target in ours]
            assert chances == pytest.approx(sorted(chances, reverse=True), abs=1e-9)


def test_words_find_their_translations() -> None:
    found = Lexicon.learn(corpus(2, 300), SOURCE, TARGET, frequent=0)
    for source, target in [("hund", "dog"), ("katze", "cat"), ("schlafen", "sleep"), ("und", "and")]:
        best = int(found.candidates[SOURCE.find(f"▁{source}")][0])
        assert TARGET.tokens([best]) == [f"▁{target}"]


def test_what_is_copied_comes_first_and_what_is_frequent_is_always_there() -> None:
    text = [("7 katze", "cat 7"), ("7 katze", "cat 7"), ("hund", "dog")]
    found = Lexicon.learn(text, SOURCE, TARGET, frequent=1)
    frequent = TARGET.find("▁7") if TARGET.find("▁7") < TARGET.find("▁cat") else TARGET.find("▁cat")
    assert found.always.tolist() == sorted([UNK_ID, EOS_ID, frequent])
    found = Lexicon.learn(text, SOURCE, TARGET, frequent=0)
    assert int(found.candidates[SOURCE.find("▁7")][0]) == TARGET.find("▁7")
    found = Lexicon.learn(text, SOURCE, TARGET, frequent=len(TARGET))
    assert not set(found.candidates.flatten().tolist()) & set(found.always.tolist()), "copies take no place either"
    by_bytes = Lexicon.learn([("abc", "abd")], BYTES, BYTES, frequent=0)
    assert set(BYTES.byte_ids) < set(by_bytes.always.tolist())
    assert len(BYTES.byte_ids) == 256


def test_a_sentence_may_say_what_its_tokens_may() -> None:
    lexicon = Lexicon(
        torch.tensor([[4, 5], [6, -1], [7, 5]], dtype=torch.int32), torch.tensor([1, 3], dtype=torch.int32)
    )
    allowed = lexicon.allowed([[0], [], [1, 2]], 1, 9)
    assert [row.nonzero().flatten().tolist() for row in allowed] == [[1, 3, 4], [1, 3], [1, 3, 6, 7]]
    allowed = lexicon.allowed([[0, 1]], 2, 9)
    assert allowed[0].nonzero().flatten().tolist() == [1, 3, 4, 5, 6]


def test_of_too_many_links_the_likeliest_are_kept(monkeypatch) -> None:
    whole = Lexicon.learn(corpus(3, 400), SOURCE, TARGET, frequent=0)
    monkeypatch.setattr(module, "LINKS", 40)
    monkeypatch.setattr(module, "CROSSINGS", 100)
    found = Lexicon.learn(corpus(3, 400), SOURCE, TARGET, frequent=0)
    assert (found.candidates >= 0).sum() < (whole.candidates >= 0).sum()
    assert torch.equal(found.candidates[4:, 0], whole.candidates[4:, 0])


def test_what_cannot_be_learnt_from_is_named() -> None:
    for text in ([], [("", "dog"), ("hund", " ")], [("hund " * 999, "dog")]):
        with pytest.raises(CorpusError, match="a lexicon needs pairs of sentences"):
            Lexicon.learn(text, SOURCE, TARGET)
    with pytest.raises(ConfigError, match="frequent must be at least 0, got -1"):
        Lexicon.learn(corpus(1, 3), SOURCE, TARGET, frequent=-1)
    with pytest.raises(ConfigError, match="read 5 times, got an iterator; give a list or a corpus"):
        Lexicon.learn(iter(corpus(1, 30)), SOURCE, TARGET)


def test_a_folder_keeps_its_lexicon_until_its_model_is_replaced(tmp_path: Path) -> None:
    found = packaged(source=SOURCE, target=TARGET)
    folder = tmp_path / "model"
    package.save(folder, found.model, SOURCE, TARGET, training={"epochs": 3}, card="a card")
    before = package.load(folder)
    assert before.lexicon is None
    lexicon = package.add_lexicon(folder, corpus(1, 50), frequent=1)
    after = package.load(folder)
    assert after.lexicon is not None
    assert torch.equal(after.lexicon.candidates, lexicon.candidates)
    assert torch.equal(after.lexicon.always, lexicon.always)
    assert after.metadata.training == {"epochs": 3}
    assert (folder / "README.md").read_text() == "a card"
    for name, weight in after.model.state_dict().items():
        assert torch.equal(weight, before.model.state_dict()[name])
    package.save(folder, found.model, SOURCE, TARGET)
    assert package.load(folder).lexicon is None
    assert not (folder / "lexicon.safetensors").exists()


def test_a_model_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    found, newer = (packaged(source=SOURCE, target=TARGET, seed=seed) for seed in (1, 2))
    package.save(tmp_path, found.model, SOURCE, TARGET)

    def learning(other: Vocabulary):
        package.save(tmp_path, newer.model, SOURCE, other, training={"epochs": 2})
        return corpus(1, 50)

    package.add_lexicon(tmp_path, Meanwhile(lambda: learning(TARGET)))
    after = package.load(tmp_path)
    assert after.lexicon is not None
    assert after.metadata.training == {"epochs": 2}
    for name, weight in after.model.state_dict().items():
        assert torch.equal(weight, newer.model.state_dict()[name])
    other = Vocabulary.train(["a dog and cat sleep in the house 8"], 13, kind="word")
    assert len(other) == len(TARGET)
    with pytest.raises(PackageError, match="got other vocabularies while a lexicon for it was learnt"):
        package.add_lexicon(tmp_path, Meanwhile(lambda: learning(other)))


def test_a_better_model_that_comes_in_the_last_moment_is_kept(tmp_path: Path, monkeypatch) -> None:
    found, newer = (packaged(source=SOURCE, target=TARGET, seed=seed) for seed in (1, 2))
    package.save(tmp_path, found.model, SOURCE, TARGET)
    replace_files = adding.replace_files

    def slow(folder: Path, contents: dict[str, bytes]) -> None:
        training.start()
        training.join(0.3)
        replace_files(folder, contents)

    training = Thread(target=package.save, args=(tmp_path, newer.model, SOURCE, TARGET), kwargs={"keep_lexicon": True})
    monkeypatch.setattr(adding, "replace_files", slow)
    lexicon = package.add_lexicon(tmp_path, corpus(1, 50))
    training.join()
    after = package.load(tmp_path)
    assert after.lexicon is not None
    assert torch.equal(after.lexicon.candidates, lexicon.candidates)
    for name, weight in after.model.state_dict().items():
        assert torch.equal(weight, newer.model.state_dict()[name])


class AddLexicon(Callback):
    """`seq2seq lexicon`, after the first epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_start(self, trainer, pl_module) -> None:  # noqa: ARG002  # Lightning's
        if trainer.current_epoch == 1:
            package.add_lexicon(self.folder, PAIRS)


def test_a_lexicon_that_is_added_while_training_stays(tmp_path: Path) -> None:
    config, out = training_config(max_epochs=3), tmp_path / "out"
    train(
        model_config(), config, data_module(tmp_path / "cache", config), out, device="cpu", callbacks=[AddLexicon(out)]
    )
    after = package.load(out)
    assert after.metadata.training["epochs"] > 1, "a better model came after the lexicon"
    assert after.metadata.training["total"]["epochs"] == 3
    assert after.lexicon is not None
    assert torch.equal(after.lexicon.candidates, Lexicon.learn(PAIRS, vocabulary(), vocabulary()).candidates)


def test_a_lexicon_is_kept_for_its_own_vocabularies_alone(tmp_path: Path) -> None:
    found = packaged(source=SOURCE, target=TARGET)
    other = Vocabulary.train(["a dog and cat sleep in the house 8"], 13, kind="word")
    package.save(tmp_path, found.model, SOURCE, TARGET, keep_lexicon=True)
    assert package.load(tmp_path).lexicon is None
    for source, target, stays in [(SOURCE, TARGET, True), (SOURCE, other, False), (SOURCE, SOURCE, False)]:
        package.save(tmp_path, found.model, SOURCE, TARGET)
        package.add_lexicon(tmp_path, corpus(1, 50))
        package.save(tmp_path, found.model, source, target, keep_lexicon=True)
        assert (package.load(tmp_path).lexicon is not None) == stays
        assert (tmp_path / "lexicon.safetensors").exists() == stays
    package.save(tmp_path, found.model, SOURCE, TARGET)
    package.add_lexicon(tmp_path, corpus(1, 50))
    (tmp_path / "lexicon.safetensors").write_bytes(b"broken")
    package.save(tmp_path, found.model, SOURCE, TARGET, keep_lexicon=True)
    assert package.load(tmp_path).lexicon is None


def test_a_lexicon_leaves_the_card_as_it_is(tmp_path: Path) -> None:
    package.save(tmp_path, packaged(source=SOURCE, target=TARGET).model, SOURCE, TARGET)
    card = tmp_path / "README.md"
    card.write_bytes(b"gr\xfcn\r\n")
    package.add_lexicon(tmp_path, corpus(1, 50))
    assert card.read_bytes() == b"gr\xfcn\r\n"
    card.unlink()
    package.add_lexicon(tmp_path, corpus(1, 50))
    assert not card.exists()
    card.mkdir()
    package.add_lexicon(tmp_path, corpus(1, 50))
    assert card.is_dir()


def test_a_lexicon_that_cannot_be_written_is_told_before_the_learning(tmp_path: Path, monkeypatch) -> None:
    package.save(tmp_path, packaged(source=SOURCE, target=TARGET).model, SOURCE, TARGET)
    text = Meanwhile(lambda: pytest.fail("it was learnt"))
    (tmp_path / "lexicon.safetensors").mkdir()
    with pytest.raises(PackageError, match=r"lexicon.safetensors: cannot be written \(Is a directory\)"):
        package.add_lexicon(tmp_path, text)
    (tmp_path / "lexicon.safetensors").rmdir()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PackageError, match=r"cannot be written \(Permission denied\)"):
        package.add_lexicon(tmp_path, text)


class Meanwhile:
    """Pairs, before which something happens each time that they are read."""

    def __init__(self, happens: Callable[[], list[tuple[str, str]]]) -> None:
        self.happens = happens

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.happens())


def test_a_broken_lexicon_stops_short_lists_alone_and_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    found = packaged(source=SOURCE, target=TARGET)
    package.save(folder, found.model, SOURCE, TARGET)
    lexicon, path = package.add_lexicon(folder, corpus(1, 50)), folder / "lexicon.safetensors"
    whole, plain = path.read_bytes(), Translator(found).translate("ein hund")

    def check(fault: str) -> None:
        loaded = package.load(folder)
        assert loaded.lexicon is None
        assert re.search(rf"lexicon\.safetensors: {fault}", loaded.lexicon_fault)
        translator = Translator.load(folder)
        assert translator.translate("ein hund") == plain
        told = rf"needs a whole lexicon, got shortlist=2 and .*{fault}.*; make it again with seq2seq lexicon$"
        for one in (translator, Translator(replace(loaded, lexicon=lexicon, lexicon_fault=""), loaded)):
            with pytest.raises(ConfigError, match=told):
                one.translate("ein hund", SearchConfig(shortlist=2))

    path.write_bytes(whole[:-1])
    check("is truncated")
    path.write_bytes(whole[:-1] + b"x")
    check("is not the file that was saved with config.json")
    path.unlink()
    check("is missing")
    package.add_lexicon(folder, corpus(1, 50))
    assert path.read_bytes() == whole
    Translator.load(folder).translate("ein hund", SearchConfig(shortlist=2))
    wrong = [
        (Lexicon(lexicon.candidates[1:], lexicon.always), "must be a lexicon of 13 source tokens and 13 target tokens"),
        (Lexicon(lexicon.candidates + 9, lexicon.always), "must be a lexicon of 13"),
        (Lexicon(lexicon.candidates, lexicon.always - 9), "must be a lexicon of 13"),
        (Lexicon(lexicon.candidates.float(), lexicon.always), "must be a lexicon of 13"),
    ]
    for one, fault in wrong:
        package.save(folder, found.model, SOURCE, TARGET, lexicon=one)
        check(fault)
    with pytest.raises(PackageError, match="is no lexicon"):
        Lexicon.from_bytes(b"nonsense", 13, 13)


def test_a_lexicon_that_goes_while_loading_is_no_fault(tmp_path: Path, monkeypatch) -> None:
    found = packaged(source=SOURCE, target=TARGET)
    package.save(tmp_path, found.model, SOURCE, TARGET)
    package.add_lexicon(tmp_path, corpus(1, 50))
    read = folder_module._read

    def interrupted(folder: Path, name: str) -> bytes:
        if name == "lexicon.safetensors":
            package.save(tmp_path, found.model, SOURCE, TARGET)
        return read(folder, name)

    monkeypatch.setattr(folder_module, "_read", interrupted)
    loaded = package.load(tmp_path)
    assert loaded.lexicon is None
    assert loaded.lexicon_fault == ""


def test_a_lexicon_keeps_so_many_candidates() -> None:
    letters = Vocabulary.train([" ".join(f"w{number}" for number in range(200))], 204, kind="word")
    text = [("w0", " ".join(f"w{number}" for number in range(200)))]
    found = Lexicon.learn(text, letters, letters, frequent=0)
    assert found.candidates.shape == (204, CANDIDATES)
