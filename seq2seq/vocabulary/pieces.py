"""What stands in a SentencePiece model and its processor does not tell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

PIECES, TEXT, TYPE, USER_DEFINED = 1, 1, 3, 4
"""Of `sentencepiece_model.proto`: the model's field of pieces, two fields of a piece, and a type."""


def user_defined(model: bytes) -> list[str]:
    """The pieces that were asked for, as the model spells them."""
    pieces = (dict(fields(value)) for number, value in fields(model) if number == PIECES)
    return [str(piece[TEXT], "utf-8") for piece in pieces if piece.get(TYPE) == USER_DEFINED]


def fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a protocol buffer's fields, of the three kinds there are here: whole numbers, and in bytes
    what is 32 bits long or tells its length."""
    place = 0
    while place < len(message):
        key, place = varint(message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = varint(message, place)
            yield number, value
            continue
        size, place = (4, place) if wire == 5 else varint(message, place)
        yield number, message[place : place + size]
        place += size


def varint(message: bytes, place: int) -> tuple[int, int]:
    """A whole number of seven bits a byte, the lowest first, and the place behind it."""
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
