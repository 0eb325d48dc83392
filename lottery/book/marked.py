"""Marks of tickets as figure, table and explorer of a chapter; see `lottery.marks`."""

import itertools
from collections.abc import Sequence

import ipywidgets as widgets
import numpy as np

from .. import marks
from ..stats import Summary
from . import explorers, figures, text, tidy
from .chapter import Chapter


def areas(networks: marks.Networks, epsilon: float) -> dict[str, Summary]:
    """Mark → area under the curve within a level, the largest first; arguments are those of `Networks.area`."""
    found = {mark: networks.area(mark, epsilon) for mark in networks.marks if mark in marks.MARKS}
    return dict(sorted(found.items(), key=lambda one: -np.nan_to_num(one[1].mean)))


def show(chapter: Chapter, networks: marks.Networks, epsilon: float) -> None:
    """Shows how well marks tell matching networks: the headline figure, a table of all, the numbers as CSV.

    Args:
        chapter: where.
        networks, epsilon: of `areas`.
    """
    found, replicates = areas(networks, epsilon), text.count(len(networks.accuracy), "replicate")
    chapter.figure(
        figures.ordering([(mark, area, None) for mark, area in found.items()], "area under the curve", line=0.5),
        "Area under the curve within a density: " + ", ".join(f"{m} {area.mean:.2f}" for m, area in found.items()),
        "How often a matching network has the better mark than another one of as many weights; chance is a half. 95 % "
        f"intervals over {replicates}.",
        headline=True,
    )
    rows = []
    for mark in (*found, "density"):
        across = networks.area(mark, epsilon, within=False).mean, networks.rank(mark, within=False)
        within = (
            text.format_interval(networks.area(mark, epsilon)).partition(", n")[0],
            text.number(networks.rank(mark)),
        )
        more = marks.MARKS.get(mark, marks.MORE) == marks.MORE
        rows.append([mark, "more" if more else "less", *map(text.number, across), *within])
    chapter.show_table(
        ["mark", "a ticket has", "area across densities", "correlation", "area within a density", "correlation"],
        rows,
        "Area under the curve for matching or not, in the direction of the second column, with 95 % intervals; "
        "Spearman's correlation of the mark with accuracy at early stop.",
    )
    axes = {"replicate": range(len(networks.accuracy)), "network": networks.names}
    told = {"accuracy": networks.accuracy, "matching": networks.matching(epsilon).astype(float)}
    chapter.offer_csv("marks.csv", tidy.frame(tuple(axes), {**networks.marks, **told}, **axes))


def explorer(networks: marks.Networks, epsilon: float, chosen: Sequence[str]) -> widgets.Widget:
    """Mark against mark, or against accuracy, of all networks: those that match and others.

    Args:
        networks, epsilon: of `areas`.
        chosen: marks, the one shown first in front.
    """
    matching, accuracy = networks.matching(epsilon), "test accuracy (%)"
    shown = {accuracy: 100 * networks.accuracy} | {mark: networks.marks[mark] for mark in chosen}
    drawn = {}
    for x, y in itertools.product(chosen, shown):
        dots = {"matching": matching, "not matching": ~matching}
        said = f"{y} against {x} of all networks, rank correlation {marks.rank_correlation(shown[x], shown[y]):.2f}"
        parts = {kind: (shown[x][inside], shown[y][inside]) for kind, inside in dots.items()}
        drawn[x, y] = figures.scattered(parts, x, y, size=(6, 3.6)), said
    controls = [("across", list(chosen)), ("up", list(shown))]
    return explorers.drawn(drawn, controls, "Every dot is a network.", (chosen[0], accuracy))
