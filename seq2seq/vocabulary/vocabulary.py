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
import os
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path
from uuid import uuid4

import sentencepiece

from seq2seq.config import BOS_ID, EOS_ID, FIRST_FREE_ID, PAD_ID, UNK_ID
from seq2seq.errors import VocabularyError
from seq2seq.vocabulary.canonical import FROM_MODEL, STRETCH, canonical, readable
from seq2seq.vocabulary.pieces import user_defined
from seq2seq.vocabulary.sampling import SubwordSampler
from seq2seq.vocabulary.training import BOS, EOS, PAD, UNK, Kind, Reader, check_options, explain, train_model

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
        symbols: Sequence[str] = (),
        hard: bool = False,
    ) -> Vocabulary:
        """Learn a vocabulary from text; the same lines give the same vocabulary.

        Args:
            lines: text of one side, or of both chained together for a joint vocabulary.
            size: tokens, the four special ones, bytes and symbols included.
            kind: how text is divided. `char` takes the characters there are, at most `size`.
            byte_fallback: spell unknown characters as UTF-8 bytes (256 tokens) instead of `<unk>`.
            character_coverage: share of the running characters that must be in the vocabulary.
            symbols: pieces of text that are one token wherever they stand, as `<2de>` in front of what is to become
                German.
            hard: raise, instead of warn, where the text is too small for `size`.

        Raises:
            ConfigError: if an option cannot be.
            VocabularyError: if there is no text, or `size` is less than the characters need.

        Warns:
            UserWarning: if the text is too small for `size`; the vocabulary is then the largest that it gives. If it
                holds none of a symbol.
        """
        check_options(size, kind, byte_fallback, character_coverage, symbols)
        unseen = {canonical(symbol): symbol for symbol in symbols}

        def stretches(line: str) -> list[str]:
            text = canonical(line)
            for symbol in [symbol for symbol in unseen if symbol in text]:
                del unseen[symbol]
            return STRETCH.findall(text)

        texts = (text for line in lines for text in stretches(line))
        if (first := next(texts, None)) is None:
            raise VocabularyError("a vocabulary needs text, got none or blank lines alone; give it a corpus")
        reader = Reader(chain([first], texts))
        try:
            model = train_model(reader, size, kind, byte_fallback, character_coverage, symbols)
        except RuntimeError as error:
            raise reader.fault or explain(error, size) from None
        if reader.fault:
            raise reader.fault
        vocabulary = cls(model)
        if unseen:
            told = ", ".join(unseen.values())
            warnings.warn(f"symbols should occur in the text, and these do not: {told}", UserWarning, stacklevel=2)
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
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(self._model)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            with suppress(OSError):
                part.unlink()
            raise VocabularyError(f"{path}: cannot be written ({error.strerror}); choose another place") from None

    def encode(self, texts: Sequence[str], *, threads: int | None = None) -> list[list[int]]:
        """Ids of each text, without `<S>` and `<E>`; a blank text has none.

        Args:
            texts: any strings.
            threads: at most this many work at once; `None`: all cores where that pays.
        """
        threads = _threads(len(texts)) if threads is None else threads
        ids: list[list[int]] = self._processor.encode([canonical(text) for text in texts], num_threads=threads)
        return ids

    def sampler(self, alpha: float) -> SubwordSampler:
        """Divides texts into tokens at random: subword regularisation.

        Raises:
            ConfigError: if `alpha` cannot be, or the vocabulary knows one division of a text alone.
        """
        return SubwordSampler(self._processor, alpha, user_defined(self._model))

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The text of each row of ids, whatever they are: special tokens and ids out of range are left out."""
        end = self._size
        kept = [[int(i) for i in row if FIRST_FREE_ID <= i < end or i == UNK_ID] for row in rows]
        texts = self._processor.decode(kept, num_threads=_threads(len(kept))) if kept else []
        return [readable(text) for text in texts]

    def normalise(self, text: str) -> str:
        """The canonical form of a text: what `decode` makes of its ids where the vocabulary knows all characters."""
        return readable(canonical(text))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The pieces for display, "▁" where a word begins; ids out of range show as `<unk>`."""
        pieces = [self._processor.id_to_piece(int(i) if 0 <= i < self._size else UNK_ID) for i in ids]
        return [piece.translate(FROM_MODEL) for piece in pieces]

    def find(self, token: str) -> int | None:
        """The id of a token as `tokens` shows it; `None`: there is none."""
        return self._ids.get(token)

    def split(self, text: str) -> list[str]:
        """The words of a text in its canonical form: what spaces divide."""
        return [word.translate(FROM_MODEL) for word in canonical(text).split(" ") if word]

    def words(self, text: str) -> list[range]:
        """The words of the text, numbered from 0, that each token of `encode([text])` is in; spaces divide them.

        Only an `<unk>` can have more than one: neighbours that are unknown are one token.
        """
        pieces: list[str] = self._processor.encode(canonical(text), out_type=str)
        begun = list(accumulate((piece.count("▁") for piece in pieces), initial=0))
        # A piece that begins with "▁" begins a word, which is its first.
        firsts = [max(0, before - (not piece.startswith("▁"))) for before, piece in zip(begun, pieces, strict=False)]
        return [range(first, max(first + 1, after)) for first, after in zip(firsts, begun[1:], strict=True)]

    def decoded_words(self, ids: Sequence[int]) -> list[int]:
        """The word of the text `decode([ids])`, numbered from 0, that each of the ids belongs to."""
        beginnings = self.decode([ids[:end] for end in range(len(ids) + 1)])
        numbers = list[int]()
        for before, text in reversed(list(pairwise(beginnings))):
            # What shows nothing yet, a space, goes with the word after it.
            numbers.append(numbers[-1] if text == before and numbers else text.count(" "))
        return numbers[::-1]

    @cached_property
    def _ids(self) -> dict[str, int]:
        # Backwards, so that of tokens that look alike the first wins.
        return {token: i for i, token in reversed(list(enumerate(self.tokens(range(self._size)))))}

    @cached_property
    def holds_whole_words(self) -> bool:
        """Whether every token is a word, as in a vocabulary of the kind `word`."""
        return all(self._processor.id_to_piece(i).startswith("▁") for i in range(FIRST_FREE_ID, self._size))

    @cached_property
    def byte_ids(self) -> list[int]:
        """The ids of tokens that are a byte of a character each; none without byte fallback."""
        return [i for i in range(FIRST_FREE_ID, self._size) if self._processor.is_byte(i)]

    @cached_property
    def spellings(self) -> list[bytes]:
        """What each token adds to the text, in UTF-8, with "▁" for a space; empty for the special ones."""
        processor, text = self._processor, range(FIRST_FREE_ID, self._size)
        return [b""] * FIRST_FREE_ID + [
            bytes([int(piece[3:5], 16)]) if processor.is_byte(i) else piece.encode()
            for i, piece in ((i, processor.id_to_piece(i)) for i in text)
        ]

    def spell(self, text: str) -> bytes:
        """A text as the `spellings` of its tokens one after the other would be, if the vocabulary knows it."""
        words = [word for word in canonical(text).split(" ") if word]
        return "".join(f"▁{word}" for word in words).encode()

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"Vocabulary({self._size} tokens, {self.fingerprint[:8]})"

    def __reduce__(self) -> tuple[type[Vocabulary], tuple[bytes]]:
        return Vocabulary, (self._model,)


def _threads(texts: int) -> int:
    """SentencePiece's number of threads, -1 for all cores."""
    return -1 if texts >= _THREADS_PAY else 1


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
