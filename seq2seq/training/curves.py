"""`curves.png`: how a training went, from its `metrics.csv`."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

from seq2seq.pictures import new_figure

PANELS = {
    "loss, nats per target token": ("loss", "validation_loss"),
    "validation": ("validation_bleu", "validation_exact_match"),
    "learning rate": ("learning_rate",),
    "gradient norm, before clipping": ("gradient_norm",),
}
"""The pictures and the columns that each shows."""

Curve = tuple[list[float], list[float]]


def read_curves(path: Path) -> dict[str, Curve]:
    """Steps and values of every column that has any."""
    curves: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if name != "step" and value:
                    steps, values = curves.setdefault(name, ([], []))
                    steps.append(float(row["step"]))
                    values.append(float(value))
    return curves


def draw_curves(metrics: Path, picture: Path) -> bool:
    """Draw the curves of a `metrics.csv`; False if matplotlib, an extra, is not there, or there is nothing to draw."""
    if find_spec("matplotlib") is None or not metrics.is_file():
        return False
    curves = read_curves(metrics)
    panels = {title: [name for name in names if name in curves] for title, names in PANELS.items()}
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        return False
    figure = new_figure(11, 7)
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, panels.items(), strict=False):
        for name in names:
            steps, values = curves[name]
            axes.plot(steps, values, label=name.replace("_", " "), marker="." if len(steps) < 30 else None)
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.grid(visible=True, alpha=0.3)
        if len(names) > 1:
            axes.legend()
    part = picture.with_name(f"{picture.name}.part")
    figure.savefig(part, format="png")
    part.replace(picture)
    return True
