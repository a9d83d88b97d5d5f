"""The canonical form of text, and how it is spelled for SentencePiece; see `vocabulary`."""

import re
import unicodedata

_LINE_BREAKS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
_STAND_INS = {"▁": "\ufdd1", "▅": "\ufdd2", "<": "\ufdd3"}
_NO_TEXT = ["\0", *_STAND_INS.values(), *map(chr, range(0xD800, 0xE000))]
_TO_MODEL = str.maketrans(dict.fromkeys(_NO_TEXT, "\ufffd") | dict.fromkeys("\t" + _LINE_BREAKS, " ") | _STAND_INS)
# A model with byte fallback can spell any character, line breaks too.
FROM_MODEL = str.maketrans(
    {stand_in: character for character, stand_in in _STAND_INS.items()} | dict.fromkeys("\0\t" + _LINE_BREAKS, " ")
)

STRETCH = re.compile(r"[^ ].{0,998}[^ ](?![^ ])|[^ ]{1,1000}")
"""A line is learned from in stretches of at most 1000 characters: SentencePiece leaves out lines over 4192 bytes, and
its time grows with the square of the repetition in a line. Stretches end between words, which no piece spans anyway."""


def canonical(text: str) -> str:
    """What SentencePiece is given for a text; it joins the spaces itself."""
    return unicodedata.normalize("NFC", text).translate(_TO_MODEL)


def readable(text: str) -> str:
    """What a user is shown for what SentencePiece gave: one line."""
    return unicodedata.normalize("NFC", " ".join(filter(None, text.translate(FROM_MODEL).split(" "))))
