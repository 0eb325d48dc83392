"""Patterns of signs in kernels as tables and explorer of a chapter; see `lottery.kernels`."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from .. import kernels, signs
from . import explorers, figures, text
from .chapter import Chapter


def show_kinds(chapter: Chapter, beyond: Mapping[str, np.ndarray], alike: Mapping[str, np.ndarray], words: str) -> None:
    """Shows how many patterns of each kind of network are beyond chance, and whether the same are frequent in others.

    Args:
        chapter: where.
        beyond: kind → [R] numbers of patterns.
        alike: kind → [R, 3], as of `kernels.likeness`; these kinds are shown.
        words: the table's caption.
    """
    rows = []
    for kind, values in alike.items():
        many = text.interval(beyond[kind], digits=1, within=(0, np.inf))
        rows.append([kind, many, text.interval(values[:, 1]), f"{values[:, 2].max():.3f}"])
    chapter.show_table(["network", "patterns beyond chance", "ρ within equal numbers", "largest p"], rows, words)


def show_apart(chapter: Chapter, apart: Mapping[str, np.ndarray], left: str) -> None:
    """Shows how far two networks of a kind are from each other, and how often two tickets are nearer.

    Args:
        chapter: where.
        apart: kind → [pairs, 2] matched distances with and without signs; "tickets" is one.
        left: the share of weights left, in words.
    """
    near = apart["tickets"][:, 0]
    rows = [
        [kind, *(text.extremes(row, digits=3) for row in both.T), f"{signs.auc(near, both[:, 0]):.2f}"]
        for kind, both in apart.items()
    ]
    words = f"{left} left, {text.count(len(near), 'pair')}: mean (smallest to largest). AUC: how often two tickets are "
    words += "nearer than two of the kind; 0.5 is chance."
    chapter.show_table(["pairs of", "signed distance", "without signs", "AUC, signed"], rows, words)


def explorer(
    counts: Mapping[int, np.ndarray], layers: Sequence[str], left: Sequence[str], caption: str, start: tuple[int, int]
) -> widgets.Widget:
    """The patterns that exceed chance the most in each layer, at the five sparsest levels.

    Args:
        counts: level → [R, layers, patterns] of `tidy.patterns`.
        layers: their names.
        left: of each of these levels, the share of weights left as a text.
        caption: as of `explorers.frames`.
        start: which layer and which of the levels is shown first; the last one if that is none of the five.
    """
    shown = list(zip(left, counts.values(), strict=True))[-5:]
    tiles = {
        (layer, name): figures.enriched_tiles(part[:, k].sum(axis=0))
        for k, layer in enumerate(layers)
        for name, part in shown
    }
    at = left[start[1]] if start[1] >= len(left) - len(shown) else left[-1]
    names = [name for name, _ in shown]
    return explorers.drawn(tiles, [("layer", layers), ("weights left", names)], caption, (layers[start[0]], at))


def by_null(total: np.ndarray, layers: int) -> str:
    """How many patterns each null alone leaves beyond chance, as a text.

    Args:
        total: [patterns] counts of one layer.
        layers: how many there are: each has its part of 5 %.
    """
    found = {null: len(kernels.enriched(total, [null], 0.05 / layers)) for null in kernels.NULLS[1:]}
    return ", ".join(f"{null} {number}" for null, number in found.items())


def told(beyond: Mapping[str, tuple], agree: Mapping[str, tuple], level: int) -> dict[str, object]:
    """How many patterns are beyond chance, and how often neighbours have equal signs, to glue under a kind's name.

    Args:
        beyond, agree: kind → (densities [L], [R, L]), as of `tidy.by_level`.
        level: which of the L.

    Returns:
        ``…_beyond``, ``…_last``, that of the last level, and ``…_agree``, in per cent.
    """
    short = {kind: kind.split(",")[0].replace(" ", "_") for kind in agree}
    found: dict[str, object] = {}
    for kind, (_, rows) in beyond.items():
        for name, at in (("beyond", level), ("last", -1)):
            found[f"{short[kind]}_{name}"] = text.extremes(rows[:, at], digits=1)
    return found | {f"{short[kind]}_agree": 100 * float(rows[:, level].mean()) for kind, (_, rows) in agree.items()}
