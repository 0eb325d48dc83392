"""How flat the loss is along pruning: spectra and projections of chapter 8, as explorer and numbers to glue."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from ..engine.store import Record
from . import explorers, figures, quantities, text, tidy


def spectra(
    rows: Sequence[Sequence[Record]], marks: Mapping[str, np.ndarray], left: Sequence[str], start: int
) -> widgets.Widget:
    """An explorer of the spectra of the first replicate, on one axis, with shares that can go below each.

    Args:
        rows: [R][L] records of `lottery.curvature.Spectrum`.
        marks: what is marked below → [L] shares of the survivors.
        left: [L] weights left in per cent.
        start: which of the L is shown first.
    """
    top, names = max(found.arrays["top"][0] for row in rows for found in row), [f"{share} %" for share in left]
    frames = {}
    for k, (name, found) in enumerate(zip(names, rows[0], strict=True)):
        values = {"eigenvalues": (found.arrays["nodes"], found.arrays["weights"])}
        below = {label: shares[k] for label, shares in marks.items()}
        frames[(name,)] = figures.sorted_spectrum(values, below, (1e-6 * top, 3 * top))
    caption = "Spectrum of the first replicate, and below it what one round can remove at random: do the two move "
    caption += "together?"
    return explorers.drawn(frames, [("weights left", names)], caption, start=(names[start],))


def along(
    paths: Mapping[str, Sequence], curved: Mapping[str, np.ndarray], length: Mapping[str, np.ndarray], level: int
) -> dict[str, str]:
    """How far the training loss rises along a round of pruning, and how far a parabola would, as texts to glue.

    Args:
        paths: order of pruning → [R][L] records of paths to the pruned network.
        curved, length: order → [R, L] curvature in that direction, and how far it is.
        level: which of the L.

    Returns:
        ``rise_…`` and ``parabola_…`` of every order, in nats.
    """
    told = {}
    for order, rows in paths.items():
        rise = tidy.column(rows, lambda path: np.subtract(*path.arrays["averaged/train_loss"][[-1, 0]]))
        losses = {"rise": rise, "parabola": curved[order] * length[order] ** 2 / 2}
        told |= {f"{name}_{order}": f"{values[:, level].mean():.3g}" for name, values in losses.items()}
    return told


def at_once(
    density: np.ndarray, accuracy: np.ndarray, once: np.ndarray, validated: np.ndarray, adaptive: float
) -> dict[str, str]:
    """How far networks that are pruned at once fall behind rounds, as texts to glue.

    Args:
        density: [L] share of weights left; density[0] is 1.
        accuracy, once, validated: [R, L] test accuracy of rounds and of pruning at once, validation accuracy of rounds.
        adaptive: share of weights that the adaptive schedule leaves.

    Returns:
        ``once_left``, the level that B-C6 compares at; ``once_behind``, by how much rounds lead there; ``once_denser``,
        the same of all denser ones that were run; ``once_near_left``, that nearest to the adaptive schedule's last, and
        ``once_near_excess``, the excess error of pruning at once there, in ε.
    """
    ahead, run = accuracy - once, np.flatnonzero(~np.isnan(once).any(axis=0) & (density < 1))
    level = quantities.at_once_level(density, 1 - accuracy, 1 - once, 1 - validated)
    if level is None:
        return dict.fromkeys(
            ("once_left", "once_behind", "once_denser", "once_near_left", "once_near_excess"), "not run"
        )
    near = min(run, key=lambda i: abs(np.log(density[i] / adaptive)))
    excess = (accuracy[:, 0] - once[:, near]) / quantities.tolerance(1 - accuracy[:, 0])
    denser = {f"{figures.percent(density[i])} %": text.interval(ahead[:, i], 100, "pp") for i in run if i < level}
    return {
        "once_left": f"{figures.percent(density[level])} %",
        "once_behind": text.interval(ahead[:, level], 100, "pp"),
        "once_denser": text.each(denser) or "not run",
        "once_near_left": f"{figures.percent(density[near])} %",
        "once_near_excess": text.interval(excess, 1, "ε"),
    }
