"""What a training begins with: settings that fit together, weights of another model, parts that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from seq2seq import package
from seq2seq.config import ModelConfig, SearchConfig, TrainingConfig
from seq2seq.errors import ConfigError, TrainingError
from seq2seq.model import Seq2Seq
from seq2seq.vocabulary import Vocabulary

PARTS: dict[str, Callable[[Seq2Seq], list[nn.Module | None]]] = {
    "embeddings": lambda model: [model.encoder.embedding, model.decoder.embedding],
    "encoder": lambda model: [model.encoder],
    "bridge": lambda model: [model.bridge],
    "attention": lambda model: [model.decoder.attentions],
    "decoder": lambda model: [model.decoder],
    "output": lambda model: [model.bottleneck, model.output],
}
"""What each name of `TrainingConfig.freeze` means. Tied weights belong to all parts that share them."""

FREE_TO_CHANGE = ("forget_bias", "chrono", "initialisation", "init_range", "fused", "compiled")
"""Fields of `ModelConfig`, besides those that name a dropout, in which models of the same weights may differ."""


def check_vocabularies(model: ModelConfig, source: Vocabulary, target: Vocabulary) -> None:
    """Refuse a model that was made for other vocabularies.

    Raises:
        ConfigError: if a size differs, or two vocabularies shall share their embeddings.
    """
    for name, size, vocabulary in (
        ("source_vocabulary_size", model.source_vocabulary_size, source),
        ("target_vocabulary_size", model.target_vocabulary_size, target),
    ):
        if size != len(vocabulary):
            raise ConfigError(
                f"{name} must be that of the vocabulary, {len(vocabulary)}, got {size}; use len(vocabulary)"
            )
    if model.tied_embeddings == "all" and source.fingerprint != target.fingerprint:
        raise ConfigError(
            f"tied_embeddings='all' needs one joint vocabulary, got {source!r} and {target!r}; "
            "use 'decoder', or train one on both sides"
        )


def check_dropout(model: ModelConfig, training: TrainingConfig) -> None:
    """Refuse R-Drop and late dropout where there is none, and R-Drop of two readings that differ by more.

    Raises:
        ConfigError: for a model without dropout, or R-Drop with scheduled sampling.
    """
    if training.r_drop and training.teacher_forcing != "always":
        raise ConfigError(
            "r_drop compares two readings of the same tokens, got teacher_forcing="
            f"{training.teacher_forcing!r}, which draws others for each; use 'always', or r_drop=0"
        )
    names = [name for name in type(model).model_fields if name.endswith("_dropout") and name != "variational_dropout"]
    if (training.r_drop or training.dropout_start) and not any(getattr(model, name) for name in names):
        raise ConfigError(
            f"r_drop and dropout_start need a model with dropout, got {training.r_drop}, {training.dropout_start} "
            "and none; set embedding_dropout, hidden_dropout or output_dropout"
        )


def check_search(model: ModelConfig, search: SearchConfig) -> None:
    """Refuse a search that a validation cannot make, before an epoch is trained for it.

    Raises:
        ConfigError: for samples, a short list, a token beyond the vocabulary, or coverage of no attention.
    """
    if search.samples or search.shortlist is not None:
        name, value = ("samples", search.samples) if search.samples else ("shortlist", search.shortlist)
        raise ConfigError(f"validation looks for the best translation of all tokens, got {name}={value}; leave it out")
    if search.coverage_penalty and model.attention == "none":
        raise ConfigError(
            f"coverage_penalty needs a model with attention, got {search.coverage_penalty} and none; leave it out"
        )
    size = model.target_vocabulary_size
    if beyond := [token for token in search.forbidden_tokens if token >= size]:
        raise ConfigError(f"forbidden_tokens must be below the vocabulary's {size} tokens, got id {beyond[0]}")


def freeze(model: Seq2Seq, parts: Sequence[str]) -> None:
    """Take the weights of some parts out of the training.

    Raises:
        ConfigError: if a part has no weights, or nothing is left to train.
    """
    for part in parts:
        weights = [weight for module in PARTS[part](model) if module is not None for weight in module.parameters()]
        if not weights:
            raise ConfigError(f"freeze needs parts with weights, got {part!r}, which has none here; leave it out")
        for weight in weights:
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise ConfigError(f"something must be left to train, got freeze={tuple(parts)}; leave a part out")


def start_from(model: Seq2Seq, folder: Path, source_vocabulary: Vocabulary, target_vocabulary: Vocabulary) -> None:
    """Give the model the weights of a model folder.

    Raises:
        PackageError: if the folder cannot be read.
        TrainingError: if its model or its vocabularies are others.
    """
    found = package.load(folder)
    pairs = (
        ("source", found.source_vocabulary, source_vocabulary),
        ("target", found.target_vocabulary, target_vocabulary),
    )
    for side, theirs, ours in pairs:
        if theirs.fingerprint != ours.fingerprint:
            raise TrainingError(
                f"{folder}: its {side} vocabulary must be that of this training, got {theirs!r} and {ours!r}; "
                f"train with the folder's own {side}.model"
            )
    different = differences(found.config, model.config)
    if different:
        raise TrainingError(
            f"{folder}: its model must be built like that of this training, got {', '.join(different)}; "
            "change the recipe's ModelConfig"
        )
    model.load_state_dict(found.model.state_dict())


def differences(theirs: ModelConfig, ours: ModelConfig) -> list[str]:
    """The fields that make two models compute different things from the same weights, with both values."""
    there, here = theirs.model_dump(), ours.model_dump()
    return [
        f"{name} {there[name]!r} there and {here[name]!r} here"
        for name in here
        if there[name] != here[name] and "dropout" not in name and name not in FREE_TO_CHANGE
    ]
