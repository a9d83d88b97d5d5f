"""Writing and reading a model folder.

    config.json         versions, `ModelConfig`, languages, training summary; size and SHA-256 of the next four
    model.safetensors   the weights, shared ones once
    source.model        SentencePiece; for both sides when joint
    target.model        SentencePiece
    lexicon.safetensors which target tokens translate a source token; not in every folder
    README.md           a model card

Saving never leaves a mixture, whatever crashes and whoever saves at the same time (see `replacing`). Other files in the
folder are not touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from seq2seq.config import ModelConfig
from seq2seq.errors import PackageError, VocabularyError
from seq2seq.lexicon import Lexicon
from seq2seq.model import Seq2Seq
from seq2seq.package.metadata import FileFacts, Metadata, model_card
from seq2seq.package.replacing import SAVED, alone_in, replace_files
from seq2seq.vocabulary import Vocabulary

CONFIG, WEIGHTS, SOURCE, TARGET, CARD = "config.json", "model.safetensors", "source.model", "target.model", "README.md"
LEXICON = "lexicon.safetensors"

StrPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Package:
    """What a model folder holds. The vocabularies are one object when joint.

    Attributes:
        lexicon_fault: why there is no lexicon although the folder should have one; it can be made again.
    """

    model: Seq2Seq
    source_vocabulary: Vocabulary
    target_vocabulary: Vocabulary
    metadata: Metadata
    lexicon: Lexicon | None = None
    lexicon_fault: str = ""

    @property
    def config(self) -> ModelConfig:
        return self.model.config


def save(
    folder: StrPath,
    model: Seq2Seq,
    source_vocabulary: Vocabulary,
    target_vocabulary: Vocabulary,
    *,
    languages: tuple[str, str] = ("", ""),
    training: Mapping[str, Any] | None = None,
    card: str | None = None,
    lexicon: Lexicon | None = None,
    keep_lexicon: bool = False,
) -> None:
    """Write a model folder; after a crash there is the old model or the new one.

    Args:
        folder: made if it does not exist; a model in it is replaced, other files stay.
        model: its weights are written as they are.
        source_vocabulary: of its source side.
        target_vocabulary: of its target side.
        languages: names of source and target.
        training: a summary, of values that JSON knows.
        card: the README; `None`: one made from the rest.
        lexicon: of these vocabularies; `None`: the folder has none.
        keep_lexicon: instead of none, the folder keeps the one it has, if that is of these vocabularies.

    Raises:
        PackageError: if the vocabularies do not fit the model, or the folder cannot be written.
    """
    _check_sizes(model.config, source_vocabulary, target_vocabulary, str(folder))
    joint = source_vocabulary.fingerprint == target_vocabulary.fingerprint
    contents = {
        WEIGHTS: safetensors.torch.save({name: tensor.contiguous() for name, tensor in _weights(model).items()}),
        SOURCE: source_vocabulary.to_bytes(),
    }
    if not joint:
        contents[TARGET] = target_vocabulary.to_bytes()
    if lexicon is not None:
        contents[LEXICON] = lexicon.to_bytes()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            if lexicon is None and keep_lexicon:
                contents |= _kept_lexicon(folder, contents)
            metadata = Metadata(
                library=f"seq2seq-lightning {version('seq2seq-lightning')}",
                languages=languages,
                joint=joint,
                model=model.config,
                training=dict(training or {}),
                files={name: FileFacts.of(content) for name, content in contents.items()},
            )
            contents[CONFIG] = metadata.to_bytes()
            contents[CARD] = (model_card(metadata, parameters) if card is None else card).encode(errors="replace")
            replace_files(folder, contents, without={TARGET, LEXICON} - contents.keys())
    except OSError as error:
        raise cannot_be_written(folder, error) from None


def cannot_be_written(folder: StrPath, error: OSError) -> PackageError:
    return PackageError(f"{folder}: cannot be written ({error.strerror or error}); choose another place")


def _kept_lexicon(folder: Path, contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """The lexicon of the folder, if it has a whole one, and the vocabularies that come are those it was made for."""
    try:
        metadata = read_metadata(folder)
        facts = {name: FileFacts.of(contents[name]) for name in (SOURCE, TARGET) if name in contents}
        if facts == vocabulary_facts(metadata) and LEXICON in metadata.files:
            return {LEXICON: _read_checked(folder, LEXICON, metadata)}
    except PackageError:
        pass  # no model to keep anything of, or a lexicon that is broken
    return {}


def load(folder: StrPath, device: str | torch.device = "cpu") -> Package:
    """Read a model folder, ready to translate. Nothing is unpickled and no random numbers are drawn.

    A lexicon that is missing or broken is no error, but told by `Package.lexicon_fault`.

    Raises:
        PackageError: if a file is missing, truncated, of another model or of another program.
    """
    folder = Path(folder)
    while True:
        config = _read(folder, CONFIG)
        try:
            found = _load(folder, config, device)
        except PackageError:
            # A training that saved meanwhile is no fault of the folder.
            if _read(folder, CONFIG) == config:
                raise
        else:
            if not found.lexicon_fault or _read(folder, CONFIG) == config:
                return found


def read_metadata(folder: StrPath) -> Metadata:
    """What `config.json` says.

    Raises:
        PackageError: if there is none, or none of a model.
    """
    folder = Path(folder)
    return Metadata.from_json(_read(folder, CONFIG), str(folder / CONFIG))


def vocabulary_facts(metadata: Metadata) -> dict[str, FileFacts]:
    """Of the folder's vocabularies; a lexicon in it is made for them."""
    return {name: metadata.files[name] for name in (SOURCE, TARGET) if name in metadata.files}


def _load(folder: Path, config: bytes, device: str | torch.device) -> Package:
    metadata = Metadata.from_json(config, str(folder / CONFIG))
    source = _read_vocabulary(folder, SOURCE, metadata)
    target = source if metadata.joint else _read_vocabulary(folder, TARGET, metadata)
    _check_sizes(metadata.model, source, target, str(folder))
    tensors = _read_weights(metadata.model, _read_checked(folder, WEIGHTS, metadata), str(folder / WEIGHTS))
    with torch.random.fork_rng(devices=[]):
        model = Seq2Seq(metadata.model)
    weights = _weights(model)
    for name, tensor in tensors.items():
        weights[name].copy_(tensor)
    found = Package(model.to(device).eval(), source, target, metadata)
    try:
        return replace(found, lexicon=_read_lexicon(folder, metadata))
    except PackageError as error:
        # It is needed by short lists alone, and what its error says last, to copy it again, is not the only remedy.
        return replace(found, lexicon_fault=str(error).rpartition("; ")[0])


def _weights(model: Seq2Seq) -> dict[str, Tensor]:
    """Every tensor that makes the model, each under one name, shared ones too."""
    lasting = model.state_dict().keys()
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach() for name, tensor in tensors if name in lasting}


def _read_weights(config: ModelConfig, content: bytes, place: str) -> dict[str, Tensor]:
    """The tensors of a model of this configuration, before it takes any memory."""
    try:
        tensors = safetensors.torch.load(content)
    except SafetensorError as error:
        raise PackageError(f"{place}: is not a whole safetensors file ({error}); copy it again") from None
    try:
        with torch.device("meta"):
            weights = _weights(Seq2Seq(config))
    except (RuntimeError, OverflowError, TypeError) as error:  # sizes beyond what can be counted
        raise PackageError(
            f"{place}: {CONFIG} describes no model that can be ({next(iter(str(error).splitlines()), '')})"
        ) from None
    wrong = sorted(
        {name for name in weights.keys() & tensors.keys() if weights[name].shape != tensors[name].shape}
        | (weights.keys() ^ tensors.keys())
    )
    if wrong:
        raise PackageError(
            f"{place}: does not belong to the model that {CONFIG} describes ({', '.join(wrong[:3])}); copy both again"
        )
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise PackageError(f"{place}: must hold finite numbers, {name} does not; train the model again")
    return tensors


def _read_vocabulary(folder: Path, name: str, metadata: Metadata) -> Vocabulary:
    content = _read_checked(folder, name, metadata)
    try:
        return Vocabulary.from_bytes(content)
    except VocabularyError as error:
        raise PackageError(f"{folder / name}: {error}") from None


def _read_lexicon(folder: Path, metadata: Metadata) -> Lexicon | None:
    if LEXICON not in metadata.files:
        return None
    content, config = _read_checked(folder, LEXICON, metadata), metadata.model
    try:
        return Lexicon.from_bytes(content, config.source_vocabulary_size, config.target_vocabulary_size)
    except PackageError as error:
        raise PackageError(f"{folder / LEXICON}: {error}") from None


def _check_sizes(config: ModelConfig, source: Vocabulary, target: Vocabulary, place: str) -> None:
    sizes = config.source_vocabulary_size, config.target_vocabulary_size
    if (len(source), len(target)) != sizes:
        raise PackageError(
            f"{place}: the vocabularies must have the sizes of the model's configuration, "
            f"got {len(source)} and {len(target)} for {sizes[0]} and {sizes[1]}; use those it was trained with"
        )


def _read_checked(folder: Path, name: str, metadata: Metadata) -> bytes:
    """A file that `config.json` knows, byte for byte."""
    content, facts = _read(folder, name), metadata.files.get(name)
    if facts is None:
        raise PackageError(f"{folder / CONFIG}: says nothing of {name}; copy the model folder again")
    if len(content) < facts.size:
        raise PackageError(
            f"{folder / name}: is truncated, it must have {facts.size} bytes and has {len(content)}; copy it again"
        )
    if FileFacts.of(content) != facts:
        raise PackageError(
            f"{folder / name}: is not the file that was saved with {CONFIG} (another SHA-256); copy both again"
        )
    return content


def _read(folder: Path, name: str) -> bytes:
    """A file's content, from `.saved` where a save was interrupted before it was moved."""
    try:
        try:
            return (folder / SAVED / name).read_bytes()
        except FileNotFoundError:
            return (folder / name).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if name == CONFIG:
            raise PackageError(
                f"{folder}: is not a model folder, it has no {CONFIG}; give a folder that a recipe made"
            ) from None
        raise PackageError(f"{folder / name}: is missing; copy the model folder again") from None
    except OSError as error:
        raise PackageError(f"{folder / name}: cannot be read ({error.strerror}); check its permissions") from None
