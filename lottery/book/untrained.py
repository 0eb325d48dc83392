"""Networks that were never trained: masks that were chosen, by the share of weights that they keep, in a chapter."""

import itertools
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from ..engine.store import Record
from . import explorers, figures, text
from .chapter import Chapter

Accuracy = Mapping[str, np.ndarray]
"""Kind of mask or weights → [R, S] test accuracy before the first step, a share; NaN where a kind was not run."""


def show(chapter: Chapter, accuracy: Accuracy, shares: Sequence[float], lines: Mapping[str, float]) -> None:
    """Shows accuracy without training against weights left, as the headline of a chapter.

    Args:
        chapter: where.
        accuracy: of all kinds; those that ran at one share of several are told and not drawn.
        shares: [S] of each layer's weights that masks keep; 0.5 is among them.
        lines: what is drawn across → its test accuracy, a share; the trained ticket's among them.
    """
    half, replicates = list(shares).index(0.5), len(next(iter(accuracy.values())))
    ran = {name: np.isfinite(rows).any(axis=0).sum() for name, rows in accuracy.items()}
    series = {name: (shares, rows) for name, rows in accuracy.items() if ran[name] > 1 or len(shares) == 1}
    means = ", ".join(f"{name} {100 * rows[:, half].mean():.1f} %" for name, rows in accuracy.items())
    chapter.figure(
        figures.against_density(series, "test accuracy (%)", dense_line=False, lines=lines, ylim=(0, 105)),
        f"Test accuracy without training against weights left. With half of them: {means}; trained ticket "
        f"{100 * lines['trained ticket']:.1f} %.",
        "Networks that were never trained: how far a line lies below the trained ticket (dashed) is what choosing "
        "lacks against training. Masks were learned (constants; normal weights where they ran at more than one share), "
        "cut by criterion (same sign, largest), or shuffled (random). Mean of "
        f"{text.count(replicates, 'replicate')}, smallest to largest as a band. On MNIST a second dashed line has the "
        "learned masks of Zhou et al., as later works report them.",
        headline=True,
    )


def pictures(
    found: Mapping[str, Sequence[Record]], accuracy: Accuracy, names: Sequence[str], data: str
) -> widgets.Widget:
    """How many connections each pixel keeps to the first layer, of masks of one replicate.

    Args:
        found: kind → [S] records of masks.
        accuracy: of :func:`show`; the first replicate's are shown.
        names: [S] shares that masks keep, as texts; "50 %" is among them.
        data: their name.
    """
    shown = {}
    for (i, name), (kind, records) in itertools.product(enumerate(names), found.items()):
        right = text.number(float(accuracy[kind][0, i]), 100, 1)
        shown.setdefault(name, {})[kind] = records[i], f"{kind}, {name} kept;\nuntrained, on {data} {right} % right"
    return explorers.first_layers(shown, "weights kept", "Masks of one replicate.", ("50 %", "constants"))


def show_kinds(chapter: Chapter, accuracy: Accuracy, percents: Sequence[int], caption: str) -> None:
    """Shows a table of accuracies without training in per cent, a row a kind, with intervals.

    Args:
        chapter, accuracy: of :func:`show`.
        percents: [S] shares that masks keep, in per cent.
        caption: of the table.
    """
    rows = [[name, *(text.interval(one, 100, "", 1, (0, 100)) for one in of.T)] for name, of in accuracy.items()]
    chapter.show_table(["mask, weights", *(f"{share} %" for share in percents)], rows, caption)
