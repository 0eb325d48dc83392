"""Convolutional tickets beside their controls: what chapter 10 shows and says of several networks.

Records of a network are label → [replicates][draws][levels + 1], None at a level without a control; the labels are
"ticket", "reinitialised", "random mask" and what else was run, and what is left at these levels is [levels + 1] texts.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .. import models
from ..engine.store import Record
from . import figures, quantities, text
from .chapter import Chapter

Records = Mapping[str, Sequence[Sequence[Sequence[Record | None]]]]


def with_controls(records: Mapping[str, Records], label: str, levels: Sequence[int]) -> list[int]:
    """Those of some levels at which all networks have this control."""
    return [level for level in levels if all(runs[label][0][0][level] for runs in records.values())]


def show_runs(chapter: Chapter, records: Mapping[str, Records], left: Mapping[str, Sequence[str]], level: int) -> None:
    """Shows a table a network of how fast its dense runs learned, and those of a level, and how accurate they became.

    Args:
        chapter: where.
        records, left: network → records and what is left.
        level: which; all labels have records there.
    """
    for name, runs in records.items():
        shown = {f"{name}, dense": [[row[0][0]] for row in runs["ticket"]]}
        for label, rows in runs.items():
            shown[f"{label}, {left[name][level]} %"] = [[draw[level] for draw in row] for row in rows]
        chapter.show_runs("weights left", shown)


def curves(
    records: Mapping[str, Records], left: Mapping[str, Sequence[str]], levels: Sequence[int]
) -> dict[str, dict[str, list[Record]]]:
    """What `explorers.learning_curves` shows of some levels: network and what is left → label → records of all draws.

    Args:
        records, left: of :func:`show_runs`.
        levels: which.
    """
    options = {}
    for name, runs in records.items():
        for level in levels:
            shown = {"dense": [row[0][0] for row in runs["ticket"]]}
            for label, rows in runs.items():
                shown[label] = [record for row in rows for draw in row if (record := draw[level])]
            options[f"{name}, {left[name][level]} %"] = shown
    return options


def beside_controls(
    density: Mapping[str, np.ndarray],
    stop: Mapping[str, Mapping[str, np.ndarray]],
    accuracy: Mapping[str, Mapping[str, np.ndarray]],
) -> quantities.Quantities:
    """The quantities of C-C4b, D5-C1b and C-C12b: tickets beside what was run of other starts and other masks.

    Args:
        density: network → share left [L].
        stop, accuracy: network → label → early-stopping iteration and test accuracy there [R, L]; a control that
            was not run with all replicates was run with the first ones.
    """

    def rows(label: str, *others: str) -> dict[str, list[np.ndarray]]:
        """Network → density, then iterations and accuracies of several labels, with the replicates of the first."""
        return {
            name: [
                density[name],
                *(part[name][of][: len(values[label])] for of in (*others, label) for part in (stop, accuracy)),
            ]
            for name, values in accuracy.items()
            if label in values
        }

    measured = quantities.convolution_structure_quantities(
        {
            name: (density[name], values["ticket"], values["reinitialised"], values["random mask"])
            for name, values in accuracy.items()
        }
    )
    given = rows("signs transferred", "ticket", "reinitialised")
    if first := next(iter(given.values()), None):
        shares, _, ticket, _, fresh, _, moved = first
        measured |= quantities.signs_given_quantities(shares, ticket, moved, fresh, "conv_")
    return measured | quantities.convolution_continued_quantities(rows("mask by training on", "ticket"))


def speed(stop: np.ndarray, fast: int, grid: int) -> dict[str, str]:
    """How many times as fast as the dense network a ticket learns, as texts to glue.

    Args:
        stop: [R, L + 1] early-stopping iterations.
        fast: level of the ticket.
        grid: steps between evaluations.

    Returns:
        "speed" of the means, "grid", and "speed_most": the most that it can be in any replicate, if each smallest loss
        lies between the neighbours of the evaluation that saw it.
    """
    dense, ticket = stop[:, 0], stop[:, fast]
    most = ((dense + grid) / np.maximum(ticket - grid, 1)).max()
    said = {"speed": dense.mean() / ticket.mean(), "speed_most": most}
    return {"grid": f"{grid:,}"} | {name: text.format_interval(value, 1, "times") for name, value in said.items()}


def conv_6() -> dict[str, str]:
    """Which size the paper's Conv-6 has, and what 7, 10 and 12 rounds of its pruning leave, as texts to glue.

    Returns:
        ``conv_6_size``; ``as_drawn``, what is left of the network that the paper draws, and ``as_said``, what would be
        left if it had the 1.7 million weights that the paper gives it, the missing ones fully connected.
    """
    drawn, kept = models.sizes(models.build("conv-6", (3, 32, 32), 10)), {"conv": 0.85, "fc": 0.8, "output": 0.9}
    told = {"conv_6_size": f"{sum(drawn.values()) / 1e6:.2f} million, {drawn['conv'] / 1e6:.1f} million of them in "}
    told["conv_6_size"] += "convolutions"
    said = drawn | {"fc": 1_700_000 - drawn["conv"] - drawn["output"]}
    for name, of in (("as_drawn", drawn), ("as_said", said)):
        parts = (sum(n * kept[kind] ** level for kind, n in of.items()) / sum(of.values()) for level in (7, 10, 12))
        told[name] = ", ".join(map(figures.percent, parts)) + " %"
    return told


def left_out(name: str, *of: np.ndarray) -> str:
    """A sentence of the gain of a network's best ticket when each replicate is left out in turn; "" for one replicate.

    Args:
        name: of the network.
        of: density [L], and three [R, L], as of `quantities.convolution_quantities`.
    """
    density, *values = of
    found = quantities.left_out(lambda *v: quantities.convolution_quantities({"": (density, *v)}), *values)
    spread = text.extremes(found.get("gain__pp", [float("nan")]), 1, "pp")
    return f"With each replicate left out in turn the gain of {name} is {spread}." if found else ""


def swiftest(stop: np.ndarray, fast: int, left: Sequence[str], picks: np.ndarray, grid: int) -> str:
    """A sentence on the ticket that learns fastest of all, which a rule leaves out where it is less accurate.

    Args:
        stop: [R, L] steps at early stop, the dense network's first.
        fast: the level of the fastest ticket that the rule allows; see `quantities.fastest_level`.
        left: [L] texts.
        picks: [R, L] validation accuracies there.
        grid: steps between evaluations.
    """
    mean = stop.mean(axis=0)
    if mean[(level := 1 + int(mean[1:].argmin()))] >= mean[fast]:
        return "No ticket is faster."
    less = text.interval(picks[:, 0] - picks[:, level], 100, "pp")
    words = f"The ticket with {left[level]} % of the weights is faster still, at step {mean[level]:,.0f}, but less "
    words += (
        f"accurate on validation data in the mean ({less}), so the rule leaves it out; with it the grid would allow "
    )
    return words + f"{speed(stop, level, grid)['speed_most']}."


def sparse(early: np.ndarray, end: np.ndarray, left: Sequence[str]) -> dict[str, str]:
    """Of `sparse_gains` those at early stopping, ``sparse_gains``, and at the end of training, ``sparse_ends``."""
    return {"sparse_gains": sparse_gains(early, left), "sparse_ends": sparse_gains(end, left)}


def sparse_gains(accuracy: np.ndarray, left: Sequence[str]) -> str:
    """What tickets of the second half of the levels gain over the dense network, with intervals, as a text.

    Args:
        accuracy: [R, L] shares, the dense network first.
        left: [L] texts.
    """
    gains = accuracy - accuracy[:, :1]
    half = range((len(left) - 1) // 2 + 1, len(left))
    return ", ".join(f"{text.interval(gains[:, level], 100, 'pp')} with {left[level]} %" for level in half)
