"""Whether networks lie in one valley: what chapters 6 and 7 show and say of barriers on straight lines between them.

Barriers are statistics of `landscape.STATISTICS` → array of test errors, shares; T is the number of rewind points, R of
replicates, L of levels after the dense network.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np

from . import explorers, figures, text
from .chapter import Chapter

Barriers = Mapping[str, np.ndarray]


def show_barriers(
    chapter: Chapter, excess: np.ndarray, barriers: Barriers, names: Sequence[str], matching: int, epsilon: float
) -> None:
    """Shows barriers between successive levels against their excess error, as the headline of a chapter.

    Args:
        chapter: where.
        excess: [T, R, L] test error of each level above the dense network's.
        barriers: statistics → [T, R, L], from the level before.
        names: [T] of the rewind points.
        matching: the last of them that the claim is about, from the third level on.
        epsilon: up to which excess a ticket matches, a share.
    """
    levels = np.arange(excess.shape[-1])
    panels = {
        f"{way} statistics": {name: (excess[t], of[t]) for t, name in enumerate(names)} for way, of in barriers.items()
    }
    about = {name: (t <= matching) & (0 * excess[t] + levels >= 3) for t, name in enumerate(names)}
    figure = figures.barriers(panels, epsilon, judged=about)
    chapter.figure(
        figures.paper_line(figure, 75, "precursor, step 0: about 75"),
        caption="A mark is a pair of successive levels, by step rewound to. By the claim, colours are in the shade: up "
        f"to ε = {100 * epsilon:.2f} points (dashed) without a barrier, beyond it with one. Grey: pairs that it is not "
        "about, before the third level or rewound late. Barriers are on a linear axis within one point of zero.",
        headline=True,
    )


def between_levels(
    successive: Sequence, dense: Sequence, names: Sequence[str], left: Sequence[str], replicates: int
) -> widgets.Widget:
    """An explorer of the paths from each level to the next, and from the dense network to the sparsest.

    Args:
        successive, dense: [T][R][L] records of paths from the level before, and from the dense network.
        names: [T] of the rewind points.
        left: [L + 1] weights left in per cent, the dense network first.
        replicates: how many of the R have whole paths.
    """
    shares = ["dense", *(f"{share} %" for share in left[1:])]
    pairs = {f"{a} – {b}": ((a, b), successive, level) for level, (a, b) in enumerate(itertools.pairwise(shares))}
    pairs[f"dense – {shares[-1]}"] = ("dense", shares[-1]), dense, len(shares) - 2
    walked = {
        (name, pair): [row[level] for row in paths[t][:replicates]]
        for t, name in enumerate(names)
        for pair, (_, paths, level) in pairs.items()
    }
    caption = "Test error on the straight line from the denser to the sparser network: a barrier is a hill in the "
    caption += "middle."
    controls = [("rewound to", names), ("path", list(pairs))]
    return explorers.paths(walked, controls, lambda key: pairs[key[1]][0], caption, start=next(iter(walked)))


def to_twins(
    moved: Sequence, names: Sequence[str], kinds: Sequence[str], lengths: Sequence[float], replicates: int
) -> widgets.Widget:
    """An explorer of the paths from a ticket to its twin from a start that was moved; length 1 is one of the lengths.

    Args:
        moved: [T][kind][length][R] records of paths.
        names, kinds, lengths: of the first three axes.
        replicates: how many of the R have whole paths.
    """
    sizes = [f"{length:g}" for length in lengths]
    walked = {
        (name, kind, size): moved[t][k][m][:replicates]
        for (t, name), (k, kind), (m, size) in itertools.product(*map(enumerate, (names, kinds, sizes)))
    }
    controls = [("rewound to", names), ("moved", list(kinds)), ("length", sizes)]
    caption = "Test error on the straight line from the ticket to its displaced twin: a hill separates two valleys."
    return explorers.paths(
        walked, controls, lambda _key: ("the ticket", "its twin"), caption, (names[0], kinds[0], "1")
    )


def other_order(barriers: Barriers, replicates: int, fresh: bool) -> str:
    """A sentence of what comes of it if the order of examples at each level is handled the other way.

    Args:
        barriers: statistics → [T, R, L]; the first rewind point is told of.
        replicates: R; if 0, it was not run.
        fresh: whether the chapter itself has a new order at every level.
    """
    variant = f"the variant in which every level sees {'the same batches' if fresh else 'batches in a new order'}"
    if not replicates:
        return f"We did not run {variant}."
    both = " and ".join(f"{text.points(of[0].mean(axis=-1))} pp {way}" for way, of in barriers.items())
    return f"In {variant}, the barrier from step 0 is {both}, over {text.count(replicates, 'replicate')}."


def in_words(given: Mapping[str, Any]) -> dict[str, object]:
    """How finely paths are walked, and where the matching rewind point lies, from a chapter's parameters; to glue."""
    step, steps = given["matching_step"], given["steps"]
    return {
        "alphas": 2 * given["path_half"] + 1,
        "matching_step": f"{step:,}",
        "matching_share": f"{100 * step / steps:.3g} %",
    }
