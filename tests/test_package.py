"""A model folder gives back what was saved, and says what is wrong with it."""

import errno
import json
import math
import os
import shutil
from pathlib import Path
from threading import Thread

import pytest
import torch
from configurations import SMALL, configurations, name
from reversing import assert_same
from started import PROCESSES
from translators import VOCABULARY, packaged, save_often

from seq2seq import package
from seq2seq.config import ModelConfig
from seq2seq.errors import PackageError
from seq2seq.lexicon import Lexicon
from seq2seq.model import Seq2Seq
from seq2seq.package import folder as folder_module
from seq2seq.package import replacing
from seq2seq.vocabulary import Vocabulary

SOURCE = Vocabulary.train(["ab ba abba", "cab"], 40, kind="char")
TARGET = Vocabulary.train(["xyz zyx", "y x zz w"], 40, kind="char")
SIZES = {"source_vocabulary_size": len(SOURCE), "target_vocabulary_size": len(TARGET)}


def logits(model: Seq2Seq) -> torch.Tensor:
    source = torch.tensor([[4, 5, 6, 3], [5, 3, 0, 0]])
    target = torch.tensor([[6, 5, 3], [4, 3, 0]])
    with torch.no_grad():
        return model.eval()(source, torch.tensor([4, 2]), target)


def build(config: ModelConfig = SMALL, seed: int = 0) -> Seq2Seq:
    torch.manual_seed(seed)
    return Seq2Seq(config.model_copy(update=SIZES))


def save(folder: Path, seed: int = 0, **options) -> Seq2Seq:
    model = build(seed=seed)
    package.save(folder, model, SOURCE, TARGET, **options)
    return model


@pytest.mark.parametrize("config", configurations(), ids=name)
def test_what_is_loaded_is_what_was_saved(config: ModelConfig, tmp_path: Path) -> None:
    source = SOURCE
    if config.tied_embeddings == "all":
        source = TARGET
    torch.manual_seed(0)
    model = Seq2Seq(config.model_copy(update=SIZES | {"source_vocabulary_size": len(source)}))
    package.save(tmp_path, model, source, TARGET)
    loaded = package.load(tmp_path)
    assert loaded.config == model.config
    assert torch.equal(logits(loaded.model), logits(model))
    shared = len(list(model.parameters()))
    assert len(list(loaded.model.parameters())) == shared
    assert (loaded.source_vocabulary is loaded.target_vocabulary) == (source is TARGET)
    assert (tmp_path / "target.model").exists() == (source is not TARGET)
    assert loaded.source_vocabulary.fingerprint == source.fingerprint
    assert loaded.target_vocabulary.fingerprint == TARGET.fingerprint


def test_a_table_for_translating_is_not_saved(tmp_path: Path) -> None:
    model = build().eval()
    model.decoder.tabulate_tokens()
    package.save(tmp_path, model, SOURCE, TARGET)
    loaded = package.load(tmp_path).model
    assert loaded.decoder.token_gates is None
    assert torch.equal(logits(loaded), logits(model))


def test_loading_draws_no_random_numbers_and_is_ready_to_translate(tmp_path: Path) -> None:
    save(tmp_path)
    before = torch.get_rng_state()
    assert not package.load(tmp_path).model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_the_metadata_is_kept(tmp_path: Path) -> None:
    training = {"epochs": 3, "monitored": -float("inf"), "validation": {"bleu": "BLEU|x = 1.0"}}
    save(tmp_path, languages=("de", "en"), training=training)
    metadata = package.load(tmp_path).metadata
    assert metadata.languages == ("de", "en")
    assert metadata.training == training | {"monitored": None}
    assert metadata.library.startswith("seq2seq-lightning ")
    json.loads((tmp_path / "config.json").read_text(), parse_constant=lambda constant: pytest.fail(constant))
    card = (tmp_path / "README.md").read_text()
    assert "de → en" in card
    assert "BLEU|x = 1.0" in card
    assert "attention: general)" in card
    package.save(tmp_path, build(SMALL.model_copy(update={"output_attention": True})), SOURCE, TARGET)
    assert "attention: general, twice)" in (tmp_path / "README.md").read_text()
    save(tmp_path, card="my card")
    assert (tmp_path / "README.md").read_text() == "my card"


def test_names_of_files_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"gr\xfcn")
    save(tmp_path, training={"command": [name]}, languages=(name, "en"))
    found = package.load(tmp_path)
    assert found.metadata.training == {"command": [name]}
    assert "gr?n" in (tmp_path / "README.md").read_text()
    save(tmp_path, training=found.metadata.training)
    assert package.load(tmp_path).metadata.training == {"command": [name]}


def test_a_save_replaces_the_model_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_text("mine")
    (tmp_path / "metrics.csv").write_text("mine too")
    save(tmp_path, seed=1)
    second = save(tmp_path, seed=2)
    assert torch.equal(logits(package.load(tmp_path).model), logits(second))
    assert (tmp_path / "checkpoints" / "last.ckpt").read_text() == "mine"
    assert (tmp_path / "metrics.csv").read_text() == "mine too"
    files = {"config.json", "model.safetensors", "source.model", "target.model", "README.md"}
    assert {path.name for path in tmp_path.iterdir()} == files | {"checkpoints", "metrics.csv"}


class CrashError(Exception):
    """The machine stops here."""


def test_a_crash_at_any_moment_leaves_the_old_model_or_the_new_one(tmp_path: Path, monkeypatch) -> None:
    """Every call that changes the disk is, in turn, the last one; then the folder is loaded, and saved to again."""
    old, new = build(seed=1), build(seed=2)
    calls_left = 0

    def dying(function):
        def call(*arguments, **options):
            nonlocal calls_left
            calls_left -= 1
            if calls_left < 0:
                raise CrashError
            return function(*arguments, **options)

        return call

    outcomes = []
    for moment in range(100):
        folder = tmp_path / str(moment)
        package.save(folder, old, SOURCE, TARGET)
        with monkeypatch.context() as patch:
            calls_left = moment
            for owner, function in [(os, "fsync"), (Path, "replace"), (Path, "rename"), (Path, "rmdir")]:
                patch.setattr(owner, function, dying(getattr(owner, function)))
            try:
                package.save(folder, new, SOURCE, TARGET)
            except CrashError:
                done = False
            else:
                done = True
        loaded = logits(package.load(folder).model)
        is_old, is_new = torch.equal(loaded, logits(old)), torch.equal(loaded, logits(new))
        assert is_old != is_new
        outcomes.append(is_new)
        package.save(folder, old, SOURCE, TARGET)
        assert torch.equal(logits(package.load(folder).model), logits(old))
        assert not [path for path in folder.iterdir() if path.name.startswith(".")]
        if done:
            break
    assert done
    assert outcomes == sorted(outcomes)
    assert True in outcomes[:-1]
    assert False in outcomes


def test_a_crash_of_the_first_save_leaves_no_model(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(PackageError, match=r"cannot be written \(No space left on device\)"):
        save(tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())  # No part of it keeps the room that others need.
    with pytest.raises(PackageError, match=r"is not a model folder, it has no config\.json"):
        package.load(tmp_path / "model")


def test_a_save_while_loading_is_no_fault(tmp_path: Path, monkeypatch) -> None:
    save(tmp_path, seed=1)
    read, new = folder_module._read, []

    def interrupted(folder: Path, name: str) -> bytes:
        if name == "model.safetensors" and not new:
            new.append(save(tmp_path, seed=2))
        return read(folder, name)

    monkeypatch.setattr(folder_module, "_read", interrupted)
    assert torch.equal(logits(package.load(tmp_path).model), logits(new[0]))


def test_two_processes_that_save_at_once_leave_a_whole_folder(tmp_path: Path) -> None:
    lexicon = Lexicon(torch.zeros(len(VOCABULARY), 1, dtype=torch.int32), torch.tensor([1, 3], dtype=torch.int32))
    savers = [PROCESSES.Process(target=save_often, args=(tmp_path, one)) for one in (lexicon, None)]
    for saver in savers:
        saver.start()
    for saver in savers:
        saver.join()
    assert [saver.exitcode for saver in savers] == [0, 0]
    found = package.load(tmp_path)
    assert found.lexicon_fault == ""
    assert_same(found.model.state_dict(), packaged().model.state_dict())
    assert (found.lexicon is not None) == (tmp_path / "lexicon.safetensors").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_save_waits_for_another_and_a_load_does_not(tmp_path: Path) -> None:
    old = save(tmp_path, seed=1)
    with replacing.alone_in(tmp_path):
        other = Thread(target=save, args=(tmp_path, 2))
        other.start()
        other.join(0.3)
        assert other.is_alive()
        assert torch.equal(logits(package.load(tmp_path).model), logits(old))
    other.join()
    assert torch.equal(logits(package.load(tmp_path).model), logits(build(seed=2)))


@pytest.mark.parametrize("known", [True, False])
def test_where_there_are_no_locks_a_save_works(tmp_path: Path, monkeypatch, known: bool) -> None:
    def flock(*_) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    if known:
        monkeypatch.setattr(replacing.fcntl, "flock", flock)
    else:
        monkeypatch.setattr(replacing, "fcntl", None)
    for seed in (1, 2):
        model = save(tmp_path, seed=seed)
        assert torch.equal(logits(package.load(tmp_path).model), logits(model))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path: Path) -> None:
    save(tmp_path, seed=1)
    (tmp_path / ".lock").write_bytes(b"")
    (tmp_path / ".saving").mkdir()
    (tmp_path / ".saving" / "model.safetensors").write_bytes(b"half")
    save(tmp_path, seed=2)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_folder_in_the_place_of_a_file_is_named_and_the_old_model_stays(tmp_path: Path) -> None:
    old = save(tmp_path, seed=1)
    (tmp_path / "README.md").unlink()
    (tmp_path / "README.md").mkdir()
    with pytest.raises(PackageError, match=r"cannot be written \(README.md: Is a directory\); choose another place"):
        save(tmp_path, seed=2)
    assert torch.equal(logits(package.load(tmp_path).model), logits(old))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package") / "good"
    save(folder)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "model")


def edit(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("missing", ["model.safetensors", "source.model", "target.model"])
def test_a_missing_file_is_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(PackageError, match=rf"{missing}: is missing; copy"):
        package.load(folder)


@pytest.mark.parametrize("cut", ["model.safetensors", "source.model", "target.model"])
def test_a_truncated_file_is_named(folder: Path, cut: str) -> None:
    (folder / cut).write_bytes((folder / cut).read_bytes()[:-1])
    with pytest.raises(PackageError, match=rf"{cut}: is truncated, it must have \d+ bytes and has \d+; copy"):
        package.load(folder)


@pytest.mark.parametrize("foreign", ["model.safetensors", "source.model", "target.model"])
def test_a_file_of_another_model_is_named(folder: Path, foreign: str, tmp_path: Path) -> None:
    other = build(seed=9)
    package.save(tmp_path / "other", other, SOURCE, TARGET)
    (folder / foreign).write_bytes((tmp_path / "other" / foreign).read_bytes() + b"x")
    with pytest.raises(PackageError, match=f"{foreign}: is not the file that was saved with config.json"):
        package.load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not whole"),
        (b'{"format": "seq2seq"', "is not whole"),
        (b"\xff\xfe", "is not whole"),
        (b"[" * 100_000, "is not whole"),
        (b"[]", "was not written by seq2seq"),
        (b'{"model_type": "bert"}', "was not written by seq2seq"),
        (b'{"format": "seq2seq", "format_version": 99}', "format version must be 1, got 99; install the version"),
        (b'{"format": "seq2seq", "format_version": 1}', "cannot be used"),
    ],
)
def test_a_foreign_config_is_named(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(PackageError, match=rf"config\.json: {message}"):
        package.load(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    model = json.loads((folder / "config.json").read_text())["model"]
    edit(folder, model=model | {"encoder_layers": 1})
    with pytest.raises(PackageError, match=r"does not belong to the model that config\.json describes"):
        package.load(folder)
    edit(folder, model=model | {"attention": "telepathy"})
    with pytest.raises(PackageError, match=r"ModelConfig\.attention must be"):
        package.load(folder)


def test_no_folder_no_model(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("nowhere", "file", "."):
        with pytest.raises(PackageError, match="is not a model folder"):
            package.load(tmp_path / place)


def test_vocabularies_must_fit_the_model(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="the vocabularies must have the sizes of the model's configuration"):
        package.save(tmp_path, build(), TARGET, TARGET)
    assert folder_module.CONFIG not in os.listdir(tmp_path)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, wrong: float) -> None:
    model = build()
    with torch.no_grad():
        model.output.bias[5] = wrong
    package.save(tmp_path, model, SOURCE, TARGET)
    with pytest.raises(PackageError, match=r"must hold finite numbers, output\.bias does not; train the model again"):
        package.load(tmp_path)


@pytest.mark.parametrize("field", ["embedding_size", "encoder_hidden_size", "encoder_layers"])
@pytest.mark.parametrize("size", [999, 1 << 20, (1 << 31) - 1, 10**30])
def test_sizes_beyond_the_weights_are_refused_before_they_take_memory(
    tmp_path: Path, field: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    package.save(tmp_path, build(), SOURCE, TARGET)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"][field] = size
    (tmp_path / "config.json").write_text(json.dumps(config))

    def only_described(config: ModelConfig) -> Seq2Seq:
        assert torch.get_default_device().type == "meta", "a model was built"
        return Seq2Seq(config)

    monkeypatch.setattr(folder_module, "Seq2Seq", only_described)
    with pytest.raises(PackageError, match=r"does not belong to the model|describes no model|must be less") as caught:
        package.load(tmp_path)
    assert "\n" not in str(caught.value)
