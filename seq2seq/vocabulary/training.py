"""Learning a SentencePiece model from text."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

import sentencepiece

from seq2seq.config import BOS_ID, EOS_ID, FIRST_FREE_ID, PAD_ID, UNK_ID
from seq2seq.errors import ConfigError, VocabularyError
from seq2seq.vocabulary.canonical import canonical

Kind = Literal["unigram", "bpe", "char", "word"]

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<S>", "<E>"


def check_options(
    size: int, kind: Kind, byte_fallback: bool, character_coverage: float, symbols: Sequence[str]
) -> None:
    """Refuse what no text could give."""
    taken = FIRST_FREE_ID + (256 if byte_fallback else 0) + len(symbols)
    if size <= taken:
        tokens = "special tokens" + (" and bytes" if byte_fallback else "") + (" and symbols" if symbols else "")
        raise ConfigError(f"size must be above the {taken} {tokens}, got {size}; 8000 is usual")
    if size >= 1 << 31:
        raise ConfigError(f"size must be below {1 << 31}, got {size}; 8000 is usual")
    if kind not in get_args(Kind):
        raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if kind == "word" and byte_fallback:
        raise ConfigError(
            "a vocabulary of words cannot spell others by bytes: it would take their ▁ for a letter; "
            "use kind='unigram' or byte_fallback=False"
        )
    check_symbols(symbols, kind)
    if not 0 < character_coverage <= 1:
        raise ConfigError(f"character_coverage must be above 0 and at most 1, got {character_coverage}; 1 keeps all")


def check_symbols(symbols: Sequence[str], kind: Kind = "unigram") -> None:
    """Refuse what could not be one token wherever it stands.

    Raises:
        ConfigError: with the reason.
    """
    if isinstance(symbols, str):
        raise ConfigError(f"symbols must be a list of texts, got {symbols!r}; write [{symbols!r}]")
    if symbols and kind == "word":
        raise ConfigError(f"kind='word' divides no words, got symbols {', '.join(symbols)}; use kind='unigram'")
    for symbol in symbols:
        if not symbol or " " in canonical(symbol):
            raise ConfigError(f"a symbol must be a text without spaces, got {symbol!r}; join its words by _")
        if symbol in (PAD, UNK, BOS, EOS):
            raise ConfigError(f"a symbol must not be named as a special token is, got {symbol!r}; choose another name")
    if len({canonical(symbol) for symbol in symbols}) < len(symbols):
        raise ConfigError(f"symbols must differ from each other, got {', '.join(symbols)}; leave one out")


def train_model(
    texts: Iterator[str],
    size: int,
    kind: str,
    byte_fallback: bool,
    character_coverage: float,
    symbols: Sequence[str],
) -> bytes:
    """The content of a `.model` file, learnt from these texts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        byte_fallback=byte_fallback,
        character_coverage=character_coverage,
        user_defined_symbols=[canonical(symbol) for symbol in symbols],
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        max_sentence_length=4 * 1000,  # Bytes of a stretch.
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        pad_piece=PAD,
        unk_piece=UNK,
        bos_piece=BOS,
        eos_piece=EOS,
        minloglevel=3,  # Its errors come as exceptions.
    )
    return model.getvalue()


def explain(error: RuntimeError, size: int) -> VocabularyError:
    """What SentencePiece's error means for the user."""
    too_small = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if too_small:
        return VocabularyError(
            f"size must hold every character of the text, at least {too_small[1]}, got {size}; "
            "raise it or lower character_coverage"
        )
    return VocabularyError(f"SentencePiece cannot train on this text with size={size}: {error}")


class Reader(Iterator[str]):
    """Hands texts to SentencePiece, which must not meet an error in reading them: some versions crash.

    Attributes:
        fault: the error that ended the reading early.
    """

    def __init__(self, texts: Iterator[str]) -> None:
        self.texts = texts
        self.fault: BaseException | None = None

    def __next__(self) -> str:
        try:
            return next(self.texts)
        except StopIteration:
            raise
        except BaseException as error:
            self.fault = error
            raise StopIteration from None
