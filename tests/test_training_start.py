"""Fine-tuning begins with exactly the weights given; frozen parts stay exactly as they are."""

from pathlib import Path

import pytest
import torch
from tiny import fit, model_config, module_of, training_config, vocabulary

from seq2seq import package
from seq2seq.config import SearchConfig
from seq2seq.errors import ConfigError, PackageError, TrainingError
from seq2seq.training import TranslationModule
from seq2seq.training.start import PARTS, start_from
from seq2seq.vocabulary import Vocabulary


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_frozen_part_stays_and_the_others_learn(part: str, tmp_path: Path) -> None:
    config = training_config(freeze=(part,), max_epochs=1, weight_decay=0.1)
    model = model_config(tied_embeddings="none", bottleneck_size=5)
    before = module_of(config, model).model
    after = fit(tmp_path, config, model).model
    frozen = {
        weight.data_ptr() for module in PARTS[part](after) if module is not None for weight in module.parameters()
    }
    assert frozen
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        assert torch.equal(old, new) == (new.data_ptr() in frozen), name


def test_nothing_to_freeze_and_nothing_to_train_are_refused() -> None:
    with pytest.raises(ConfigError, match="got 'bridge', which has none here"):
        module_of(training_config(freeze=("bridge",)), model_config(bridge="copy"))
    with pytest.raises(ConfigError, match="something must be left to train"):
        module_of(training_config(freeze=("encoder", "bridge", "decoder", "output")))
    with pytest.raises(ConfigError, match=r"TrainingConfig\.freeze"):
        training_config(freeze=("heart",))


def test_weights_are_copied_whatever_dropout_says(tmp_path: Path) -> None:
    theirs = module_of(training_config(seed=7)).model
    package.save(tmp_path, theirs, vocabulary(), vocabulary())
    free = {"hidden_dropout": 0.5, "initialisation": "uniform", "chrono": 9, "fused": False, "compiled": True}
    ours = module_of(training_config(), model_config(**free)).model
    start_from(ours, tmp_path, vocabulary(), vocabulary())
    for (name, given), copied in zip(theirs.named_parameters(), ours.parameters(), strict=True):
        assert torch.equal(given, copied), name


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_model_for_other_vocabularies_is_refused(side: str, more: int) -> None:
    size = len(vocabulary())
    model = model_config(**{f"{side}_vocabulary_size": size + more})
    message = f"{side}_vocabulary_size must be that of the vocabulary, {size}, got {size + more}; use len"
    with pytest.raises(ConfigError, match=message):
        module_of(training_config(), model)


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"samples": 3}, "best translation of all tokens, got samples=3"),
        ({"shortlist": 5}, "best translation of all tokens, got shortlist=5"),
        ({"coverage_penalty": 0.2}, "coverage_penalty needs a model with attention, got 0.2"),
        ({"forbidden_tokens": (999,)}, "forbidden_tokens must be below the vocabulary's .* tokens, got id 999"),
    ],
)
def test_a_validation_that_cannot_be_is_refused_before_training(search: dict[str, object], message: str) -> None:
    model = model_config(attention="none")
    with pytest.raises(ConfigError, match=message):
        TranslationModule(model, training_config(), vocabulary(), vocabulary(), [], SearchConfig(**search))


def test_tied_embeddings_of_two_vocabularies_are_refused() -> None:
    one, other = (Vocabulary.train([text], 10, kind="char") for text in ("abcde", "vwxyz"))
    assert len(one) == len(other)
    model = model_config(source_vocabulary_size=len(one), target_vocabulary_size=len(one), tied_embeddings="all")
    TranslationModule(model, training_config(), one, one, [])
    with pytest.raises(ConfigError, match=r"tied_embeddings=.all. needs one joint vocabulary"):
        TranslationModule(model, training_config(), one, other, [])


def test_another_model_or_vocabulary_is_refused_in_one_line(tmp_path: Path) -> None:
    package.save(tmp_path / "model", module_of(training_config()).model, vocabulary(), vocabulary())
    ours = module_of(training_config(), model_config(residual=True, decoder_layers=3)).model
    with pytest.raises(TrainingError, match="decoder_layers 2 there and 3 here, residual False there and True here"):
        start_from(ours, tmp_path / "model", vocabulary(), vocabulary())
    other = Vocabulary.train(["wxyz"], 9, kind="char")
    with pytest.raises(TrainingError, match=r"target vocabulary must be that of this training.* own target\.model"):
        start_from(ours, tmp_path / "model", vocabulary(), other)
    with pytest.raises(PackageError, match="is not a model folder"):
        start_from(ours, tmp_path / "nowhere", vocabulary(), vocabulary())
