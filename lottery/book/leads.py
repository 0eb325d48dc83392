"""Kinds of sub-networks of one size beside random ones: their leads, as figure and table of a chapter."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .. import stats
from . import figures, text, tidy
from .chapter import Chapter

Accuracy = Mapping[str, ArrayLike]
Leads = Mapping[str, np.ndarray]


def leads(accuracy: Accuracy, others: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """How far each kind is ahead of another in percentage points: kind → the shape of its accuracies.

    Args:
        accuracy: kind → shares.
        others: kind → which it is compared with, where that is not "random"; those have no lead themselves.
    """
    rows = {kind: 100 * np.asarray(values, dtype=np.float64) for kind, values in accuracy.items()}
    others = others or {}
    none = {"random", *others.values()}
    return {kind: values - rows[others.get(kind, "random")] for kind, values in rows.items() if kind not in none}


def of_loss(loss: stats.Summary | float) -> stats.Summary | float:
    """The lead that a loss is, with its interval: what was subtracted from what is the other way round."""
    return stats.negated(loss) if isinstance(loss, stats.Summary) else -loss


def learned(runs: Mapping[str, Sequence]) -> dict[str, str]:
    """How far training went, to glue: ``ticket_stop``, the iteration of early stopping, and ``ticket_fitted``, the
    accuracy on training images at the end; means over records.

    Args:
        runs: kind → nested records of runs.
    """
    told = {}
    for kind, records in runs.items():
        told[f"{kind}_stop"] = f"{tidy.column(records, 'early_stop_step').mean():,.0f}"
        told[f"{kind}_fitted"] = f"{100 * tidy.column(records, 'train_accuracy_end').mean():.2f} %"
    return told


def words(ahead: Leads) -> str:
    """Mean leads as alternative text."""
    means = ", ".join(f"{kind} {text.number(float(np.mean(rows)))}" for kind, rows in ahead.items())
    return f"Lead in test accuracy over a random mask in points: {means}."


def drawn(ahead: Leads, title: str = "") -> figures.Figure:
    """Leads as dots with intervals: kind → [R]."""
    entries = [(kind, stats.summary(rows, scale=stats.SHARES), None) for kind, rows in ahead.items()]
    return figures.ordering(entries, "test accuracy minus random (pp)", title)


def show(chapter: Chapter, ahead: Leads, left: str, title: str = "", headline: bool = False) -> None:
    """Shows leads as a figure of a chapter.

    Args:
        chapter: where.
        ahead: kind → [R].
        left: the share of weights left, in words.
        title: what is seen.
        headline: as of `Chapter.figure`.
    """
    count = text.count(len(next(iter(ahead.values()))), "replicate")
    caption = (
        f"Test accuracy at early stopping minus that of a random mask with as many weights, {left}; mean of {count}, "
        "95 % interval as a thick bar, smallest and largest replicate as a thin one."
    )
    alt = f"{title}{': ' if title else ''}{left}. {words(ahead)}"
    chapter.figure(drawn(ahead, title), alt, caption, headline=headline)


def rows(ahead: Leads, *columns: tuple[Accuracy, float, str, int]) -> list[list[str]]:
    """Rows of a table: kind, means with intervals of these columns, lead.

    Args:
        ahead: kind → [R] lead, in the order of the table; what has none comes after.
        columns: kind → [R], scale, unit and digits of each.
    """
    kinds: Sequence[str] = [*ahead, *(kind for kind in columns[0][0] if kind not in ahead)]
    return [
        [
            kind,
            *(text.interval(values[kind], scale, unit, digits) for values, scale, unit, digits in columns),
            text.interval(ahead[kind], 1, "pp") if kind in ahead else "",
        ]
        for kind in kinds
    ]
