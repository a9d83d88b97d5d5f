"""A check's histograms as a picture."""

from __future__ import annotations

import os
from pathlib import Path

from seq2seq.corpus.check.report import CheckReport
from seq2seq.errors import ConfigError, CorpusError


def check_picture(path: str | os.PathLike[str]) -> None:
    """Refuse a path that does not say what kind of picture it is: matplotlib would write to another one.

    Raises:
        ConfigError: without matplotlib, or if it knows no such ending.
    """
    try:
        # An extra, and slow to import.
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib, which is not there; pip install matplotlib") from None
    kinds = Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".").lower() not in kinds:
        raise ConfigError(f"{path}: is no kind of picture ({', '.join(sorted(kinds))}); end it in .png")


def draw_report(report: CheckReport, path: str | os.PathLike[str]) -> None:
    """Write the histograms of a report as an image; its kind is that of the path's ending (.png, .svg, .pdf, ...).

    Raises:
        ConfigError: without matplotlib, or if it knows no such ending.
        CorpusError: if the file cannot be written.
    """
    check_picture(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(report.histograms), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{report.name}: {report.pairs:,} pairs")
    for axes, histogram in zip(figure.subplots(1, len(report.histograms)), report.histograms, strict=True):
        labels = [histogram.label(number) for number in range(len(histogram.counts))]
        axes.bar(range(len(labels)), histogram.counts, color="#4477aa")
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_title(f"{histogram.name}\nmedian {histogram.median:.4g}, largest {histogram.largest:.4g}")
        axes.set_ylabel("pairs")
    try:
        figure.savefig(path)
    except ValueError as error:
        raise ConfigError(f"{path}: is no kind of picture ({error}); end it in .png") from None
    except OSError as error:
        raise CorpusError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None
