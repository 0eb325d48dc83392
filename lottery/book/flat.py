"""How flat the loss is along pruning: spectra and projections of chapter 8, as explorer and numbers to glue."""

from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from ..engine.store import Record
from . import explorers, figures, tidy


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
