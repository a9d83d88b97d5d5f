"""Text to token ids and back, through SentencePiece.

Every text is first put into one canonical form, so that what a model can say is exactly what it was shown:

    Unicode NFC ("e" + combining accent is "é");
    tabs and everything that some program takes for the end of a line become a space, so a translation is one line;
    runs of spaces become one space, and none is left at the ends;
    what is no text (NUL, half of a surrogate pair, the noncharacters used below) becomes U+FFFD.

Nothing else is touched: no compatibility folding (NFKC turns "½" into "1⁄2" and "…" into "..."), no lower-casing.
`decode(encode([text]))` is the canonical form wherever the vocabulary knows the characters.

SentencePiece writes spaces as "▁", keeps "▅" for itself, and cuts the names of its special tokens out of what it
learns from. So "▁", "▅" and "<" go through it as Unicode noncharacters, which no text holds, and come back as
themselves: "<S>" in a text is text, in training and ever after.

Reference:
    Kudo and Richardson (2018), arXiv:1808.06226; Kudo (2018), arXiv:1804.10959 (unigram);
    Sennrich et al. (2016), arXiv:1508.07909 (bpe).
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, get_args

import sentencepiece

from seq2seq.config import BOS_ID, EOS_ID, FIRST_FREE_ID, PAD_ID, UNK_ID
from seq2seq.errors import ConfigError, VocabularyError

Kind = Literal["unigram", "bpe", "char", "word"]

PAD, UNK, BOS, EOS = "<pad>", "<unk>", "<S>", "<E>"

_LINE_BREAKS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
_STAND_INS = {"▁": "\ufdd1", "▅": "\ufdd2", "<": "\ufdd3"}
_NO_TEXT = ["\0", *_STAND_INS.values(), *map(chr, range(0xD800, 0xE000))]
_TO_MODEL = str.maketrans(dict.fromkeys(_NO_TEXT, "\ufffd") | dict.fromkeys("\t" + _LINE_BREAKS, " ") | _STAND_INS)
# A model with byte fallback can spell any character, line breaks too.
_FROM_MODEL = str.maketrans(
    {stand_in: character for character, stand_in in _STAND_INS.items()} | dict.fromkeys("\0\t" + _LINE_BREAKS, " ")
)

_STRETCH = re.compile(r"[^ ].{0,998}[^ ](?![^ ])|[^ ]{1,1000}")
"""A line is learned from in stretches of at most 1000 characters: SentencePiece leaves out lines over 4192 bytes, and
its time grows with the square of the repetition in a line. Stretches end between words, which no piece spans anyway."""

_THREADS_PAY = 500
"""Texts: with fewer, starting threads costs more than it gains."""


class Vocabulary:
    """The tokens of one language, or of several jointly.

    Make one with `train`, `load` or `from_bytes`. It is immutable and may be pickled.

    Attributes:
        fingerprint: SHA-256 of the model, in hexadecimal: two vocabularies are equal if these are.
    """

    def __init__(self, model: bytes) -> None:
        self._model = model
        self._processor = _processor(model)
        self._size: int = self._processor.get_piece_size()
        self.fingerprint = hashlib.sha256(model).hexdigest()

    @classmethod
    def train(
        cls,
        lines: Iterable[str],
        size: int,
        *,
        kind: Kind = "unigram",
        byte_fallback: bool = False,
        character_coverage: float = 1.0,
        hard: bool = False,
    ) -> Vocabulary:
        """Learn a vocabulary from text; the same lines give the same vocabulary.

        Args:
            lines: text of one side, or of both chained together for a joint vocabulary.
            size: tokens, the four special ones included.
            kind: how text is divided. `char` takes the characters there are, at most `size`.
            byte_fallback: spell unknown characters as UTF-8 bytes (256 tokens) instead of `<unk>`.
            character_coverage: share of the running characters that must be in the vocabulary.
            hard: raise, instead of warn, where the text is too small for `size`.

        Raises:
            ConfigError: if an option cannot be.
            VocabularyError: if there is no text, or `size` is less than the characters need.

        Warns:
            UserWarning: if the text is too small for `size`; the vocabulary is then the largest that it gives.
        """
        _check_options(size, kind, byte_fallback, character_coverage)
        texts = (text for line in lines for text in _STRETCH.findall(_canonical(line)))
        if (first := next(texts, None)) is None:
            raise VocabularyError("a vocabulary needs text, got none or blank lines alone; give it a corpus")
        reader = _Reader(chain([first], texts))
        try:
            model = _train(reader, size, kind, byte_fallback, character_coverage)
        except RuntimeError as error:
            raise reader.fault or _explain(error, size) from None
        if reader.fault:
            raise reader.fault
        vocabulary = cls(model)
        if len(vocabulary) < size and (hard or kind != "char"):
            rule = f"this text gives at most {len(vocabulary)} {kind} tokens, got size={size}"
            if hard:
                raise VocabularyError(f"{rule}; use size={len(vocabulary)} or more text")
            warnings.warn(f"{rule}; the vocabulary has {len(vocabulary)}", UserWarning, stacklevel=2)
        return vocabulary

    @classmethod
    def from_bytes(cls, model: bytes) -> Vocabulary:
        """The vocabulary that `to_bytes` gave.

        Raises:
            VocabularyError: if they are not a whole SentencePiece model of this library.
        """
        return cls(model)

    def to_bytes(self) -> bytes:
        """The content of a SentencePiece `.model` file."""
        return self._model

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocabulary:
        """Read a `.model` file.

        Raises:
            VocabularyError: if it is missing, truncated or was not made by this library.
        """
        try:
            return cls(Path(path).read_bytes())
        except OSError as error:
            raise VocabularyError(f"{path}: cannot be read ({error.strerror}); give a .model file") from None
        except VocabularyError as error:
            raise VocabularyError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.model` file: after a crash there is the old one or the new one.

        Raises:
            VocabularyError: if it cannot be written.
        """
        path = Path(path)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(self._model)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise VocabularyError(f"{path}: cannot be written ({error.strerror}); choose another place") from None

    def encode(self, texts: Sequence[str], *, threads: int | None = None) -> list[list[int]]:
        """Ids of each text, without `<S>` and `<E>`; a blank text has none.

        Args:
            texts: any strings.
            threads: at most so many; `None`: all cores where that pays.
        """
        if threads is None:
            threads = -1 if len(texts) >= _THREADS_PAY else 1
        ids: list[list[int]] = self._processor.encode([_canonical(text) for text in texts], num_threads=threads)
        return ids

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, whatever they are: special tokens and ids out of range are left out."""
        end = self._size
        kept = [[int(i) for i in row if FIRST_FREE_ID <= i < end or i == UNK_ID] for row in rows]
        return [_readable(text) for text in self._processor.decode(kept)] if kept else []

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The pieces for display, "▁" where a word begins; ids out of range show as `<unk>`."""
        pieces = [self._processor.id_to_piece(int(i) if 0 <= i < self._size else UNK_ID) for i in ids]
        return [piece.translate(_FROM_MODEL) for piece in pieces]

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"Vocabulary({self._size} tokens, {self.fingerprint[:8]})"

    def __reduce__(self) -> tuple[type[Vocabulary], tuple[bytes]]:
        return Vocabulary, (self._model,)


class _Reader(Iterator[str]):
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


def _canonical(text: str) -> str:
    return unicodedata.normalize("NFC", text).translate(_TO_MODEL)


def _readable(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(filter(None, text.translate(_FROM_MODEL).split(" "))))


def _check_options(size: int, kind: str, byte_fallback: bool, character_coverage: float) -> None:
    taken = FIRST_FREE_ID + (256 if byte_fallback else 0)
    if size <= taken:
        tokens = "special tokens and bytes" if byte_fallback else "special tokens"
        raise ConfigError(f"size must be above the {taken} {tokens}, got {size}; 8000 is usual")
    if kind not in get_args(Kind):
        raise ConfigError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}")
    if not 0 < character_coverage <= 1:
        raise ConfigError(f"character_coverage must be above 0 and at most 1, got {character_coverage}; 1 keeps all")


def _train(texts: Iterator[str], size: int, kind: str, byte_fallback: bool, character_coverage: float) -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts,
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        byte_fallback=byte_fallback,
        character_coverage=character_coverage,
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


def _explain(error: RuntimeError, size: int) -> VocabularyError:
    too_small = re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error))
    if too_small:
        return VocabularyError(
            f"size must hold every character of the text, at least {too_small[1]}, got {size}; "
            "raise it or lower character_coverage"
        )
    return VocabularyError(f"SentencePiece cannot train on this text with size={size}: {error}")


def _processor(model: bytes) -> sentencepiece.SentencePieceProcessor:
    broken = VocabularyError("is not a whole SentencePiece model; copy it again or train a new one")
    if not model:
        raise broken
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id()
        names = [processor.id_to_piece(i) for i in range(FIRST_FREE_ID)]
    except (RuntimeError, IndexError):
        raise broken from None
    # The names come first in the file and the ids last: one that was cut between the two has other ids.
    if names != [PAD, UNK, BOS, EOS] or ids != (PAD_ID, UNK_ID, BOS_ID, EOS_ID):
        raise VocabularyError(
            f"{PAD} {UNK} {BOS} {EOS} must be ids 0 to 3, got {' '.join(names)} and {ids}; "
            "copy the file again or train one with Vocabulary.train"
        )
    return processor
