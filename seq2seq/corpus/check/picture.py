"""A check's histograms as a picture."""

from __future__ import annotations

import os

from seq2seq.corpus.check.report import CheckReport
from seq2seq.pictures import new_figure, save_picture


def draw_report(report: CheckReport, path: str | os.PathLike[str]) -> None:
    """Write the histograms of a report as an image; its kind is that of the path's ending (.png, .svg, .pdf, ...).

    Raises:
        ConfigError: without matplotlib, if it knows no such ending, or if the file cannot be written.
    """
    figure = new_figure(5 * len(report.histograms), 4)
    name = report.name.encode(errors="replace").decode()  # of a file whose name is no UTF-8
    figure.suptitle(f"{name}: {report.pairs:,} pairs", parse_math=False)
    for axes, histogram in zip(figure.subplots(1, len(report.histograms)), report.histograms, strict=True):
        labels = [histogram.label(number) for number in range(len(histogram.counts))]
        axes.bar(range(len(labels)), histogram.counts, color="#4477aa")
        axes.set_xticks(range(len(labels)), labels, rotation=90)
        axes.set_title(f"{histogram.name}\nmedian {histogram.median:.4g}, largest {histogram.largest:.4g}")
        axes.set_ylabel("pairs")
    save_picture(figure, path)
