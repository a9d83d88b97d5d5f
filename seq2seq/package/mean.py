"""The mean of several models of one configuration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seq2seq.errors import PackageError
from seq2seq.package.folder import Package, StrPath, load


def average(folders: Sequence[StrPath]) -> Package:
    """The model whose weights are the means of the weights of these models, summed in float64.

    Training wanders around a minimum; the mean of the last or best models of one training lies nearer to it.

    Args:
        folders: model folders of one configuration and the same vocabularies.

    Raises:
        PackageError: if there are fewer than two, one cannot be read, or they do not belong together.

    Reference:
        Polyak & Juditsky (1992); as checkpoint averaging: Vaswani et al. (2017), arXiv:1706.03762, section 6.1.
    """
    if len(folders) < 2:
        raise PackageError(f"an average needs at least 2 models, got {len(folders)}; give more model folders")
    first = load(folders[0])
    weights = dict(first.model.named_parameters())
    sums = {name: weight.detach().double() for name, weight in weights.items()}
    for folder in folders[1:]:
        for name, weight in _weights_alike(first, folders[0], folder).items():
            sums[name] += weight.detach()
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(sums[name] / len(folders))
    training = {"averaged": [str(folder) for folder in folders]}
    metadata = first.metadata.model_copy(update={"training": training})
    return Package(first.model, first.source_vocabulary, first.target_vocabulary, metadata, first.lexicon)


def _weights_alike(first: Package, first_folder: StrPath, folder: StrPath) -> dict[str, Tensor]:
    """The weights of a model that can be averaged with the first."""
    other = load(folder)
    here, there = other.config.model_dump(), first.config.model_dump()
    different = [f"{name} {here[name]!r} and {there[name]!r}" for name in here if here[name] != there[name]]
    if different:
        raise PackageError(
            f"models of one configuration can be averaged, got {folder} and {first_folder} with "
            f"{', '.join(different[:3])}; leave one out"
        )
    for side in ("source", "target"):
        if getattr(other, f"{side}_vocabulary").fingerprint != getattr(first, f"{side}_vocabulary").fingerprint:
            raise PackageError(
                f"models of the same vocabularies can be averaged, got {folder} and {first_folder} with different "
                f"{side} vocabularies; leave one out"
            )
    return dict(other.model.named_parameters())
