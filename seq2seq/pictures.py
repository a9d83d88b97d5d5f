"""Pictures, by matplotlib where it is there: an extra, and slow to import."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from seq2seq.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a path that does not say what kind of picture it is: matplotlib would write to another one.

    Raises:
        ConfigError: without matplotlib, or if it knows no such ending.
    """
    kinds = new_figure(1, 1).canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".").lower() not in kinds:
        raise ConfigError(f"{path}: is no kind of picture ({', '.join(sorted(kinds))}); end it in .png")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, which needs no screen.

    Raises:
        ConfigError: without matplotlib.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib, which is not there; pip install matplotlib") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_picture(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure; its kind is that of the path's ending (.png, .svg, .pdf, ...).

    Raises:
        ConfigError: if there is no such kind, or the file cannot be written.
    """
    check_picture(path)
    part = Path(f"{path}.part")
    try:
        figure.savefig(part, format=Path(path).suffix.removeprefix(".").lower())
        part.replace(path)
    except (ValueError, RuntimeError) as error:  # what writes some kinds is not there
        raise ConfigError(
            f"{path}: cannot be this kind of picture ({str(error).splitlines()[0]}); end it in .png"
        ) from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None
    finally:
        with suppress(OSError):
            part.unlink()
