"""Small translators with random weights."""

from pathlib import Path

import torch
from configurations import SMALL

from seq2seq import package
from seq2seq.config import ModelConfig, SearchConfig
from seq2seq.lexicon import Lexicon
from seq2seq.model import Seq2Seq
from seq2seq.translator import Translator
from seq2seq.vocabulary import Vocabulary

VOCABULARY = Vocabulary.train(["the quick brown fox jumps over a lazy dog"], 40, kind="char")
TEXTS = [
    "a fox",
    "",
    "the quick brown fox jumps over a lazy dog",
    " \t ",
    "dog",
    "a",
    "fox jumps over",
    "lazy lazy lazy",
]
SEARCH = SearchConfig(beam_size=3, n_best=2, max_length=6)


def packaged(
    config: ModelConfig = SMALL, source: Vocabulary = VOCABULARY, target: Vocabulary = VOCABULARY, seed: int = 5
) -> package.Package:
    """What a model folder would hold."""
    torch.manual_seed(seed)
    sizes = {"source_vocabulary_size": len(source), "target_vocabulary_size": len(target)}
    model = Seq2Seq(config.model_copy(update=sizes))
    metadata = package.Metadata(
        library="", languages=("", ""), joint=source is target, model=model.config, training={}, files={}
    )
    return package.Package(model, source, target, metadata)


def build(config: ModelConfig = SMALL) -> Translator:
    return Translator(packaged(config))


def save_often(folder: Path, lexicon: Lexicon | None) -> None:
    """One of several processes that save the same model."""
    found = packaged()
    for _ in range(30):
        package.save(folder, found.model, VOCABULARY, VOCABULARY, lexicon=lexicon)


def agree(found: list, truth: list) -> None:
    """The same translations, up to rounding."""
    for ours, theirs in zip(found, truth, strict=True):
        assert [one.text for one in ours] == [one.text for one in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.tokens == other.tokens
            assert abs(one.score - other.score) < 1e-5
            assert all(abs(a - b) < 1e-5 for a, b in zip(one.token_scores, other.token_scores, strict=True))
