"""Where a translation looked, as a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence

from seq2seq.errors import ConfigError
from seq2seq.pictures import new_figure, save_picture

INCHES_A_TOKEN = 0.35


def draw_attention(
    attention: Sequence[Sequence[float]] | None,
    source_tokens: Sequence[str] | None,
    tokens: Sequence[str],
    path: str | os.PathLike[str],
) -> None:
    """Draw a row for each token of a translation, the darker the more it looked at the source token of that column.

    Args:
        attention: weights `[tokens + 1, source tokens + 1]`, the last of both for the end: `Translation.attention`.
        source_tokens: `Translation.source_tokens`.
        tokens: `Translation.tokens`.
        path: a picture, whose kind is that of its ending (.png, .svg, .pdf, ...).

    Raises:
        ConfigError: without matplotlib, if it knows no such ending, if the file cannot be written, if there is no
            attention, or not a row for every token and a column for every source token.

    Note:
        Characters that matplotlib's font lacks are drawn as boxes, with a warning: `matplotlib.rcParams["font.family"]`
        names another one.

    Reference:
        Bahdanau, Cho & Bengio (2015), arXiv:1409.0473, figure 3.
    """
    if attention is None or source_tokens is None:
        raise ConfigError("there is no attention to draw, got None; generate with attention=True, and no blank text")
    columns, rows = [*source_tokens, "<E>"], [*tokens, "<E>"]
    shape = {len(weights) for weights in attention}
    if len(attention) != len(rows) or shape != {len(columns)}:
        raise ConfigError(
            f"attention must be {len(rows)} rows of {len(columns)} weights, one more than there are tokens, "
            f"got {len(attention)} of {', '.join(map(str, sorted(shape)))}; give those of one translation"
        )
    figure = new_figure(2 + INCHES_A_TOKEN * len(columns), 1.5 + INCHES_A_TOKEN * len(rows))
    axes = figure.subplots()
    axes.imshow(attention, cmap="Greys", vmin=0.0, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=90, parse_math=False)
    axes.set_yticks(range(len(rows)), rows, parse_math=False)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xlabel("source")
    axes.set_ylabel("translation")
    save_picture(figure, path)
