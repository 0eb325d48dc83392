"""How far kept weights moved beside the rest, as figure and table of a chapter."""

from collections.abc import Mapping, Sequence

import numpy as np

from .. import models, stats
from ..engine.world import network_of
from ..recipes import Training
from . import figures, quantities, text
from .chapter import Chapter


def check_rates(chapter: Chapter, training: Training, rates: Mapping[str, float]) -> None:
    """Refuses rates of pruning under which some layer would have nothing to compare its ticket with.

    Args:
        chapter: where.
        training: of which network.
        rates: kind of layer → share of its survivors that a round removes.

    Raises:
        ParameterError: naming the layer.
    """
    network = network_of(training)
    for name, kind in models.prunable(network).items():
        size, rate = network.get_parameter(name).numel(), rates[kind]
        said = f"a round would remove none of the {size:,} weights of {name}, and every layer is compared"
        chapter.require(round(rate * size), f"{said}: raise the rate of its layer to more than {0.5 / size:.2g}")


def show_distances(chapter: Chapter, further: Mapping[str, np.ndarray], places: Sequence[str]) -> np.ndarray:
    """Shows how many times as far as the rest kept weights move, by layer: the headline of a chapter, and a table.

    Args:
        chapter: where.
        further: what was kept, in words → [R, layer] ratios; "pruned once" and "movements dealt out" are two of them.
        places: what the layers are called.

    Returns:
        [R, layer] what the first of the two has beyond the second, as a ratio.
    """
    rows = [(f"{p}, {way}", stats.summary(further[way][:, i]), None) for i, p in enumerate(places) for way in further]
    chapter.figure(
        figures.ordering(rows, "distance moved, kept / cut (times)", line=1),
        "Distance moved, kept / cut: " + ", ".join(f"{name} {value.mean:.2f}" for name, value, _ in rows),
        "How many times as far as the rest kept weights move, in the dense network's training: those of the ticket, "
        "those that pruning once keeps, and the same after movements were dealt out at random. At the line, 1, as far "
        "as the rest; the paper has tickets above it. Of a layer, compare the last two, which were both pruned once; a "
        "ticket comes of many rounds, for which nothing was dealt out. Thick bars are 95 % intervals, thin ones go "
        "from the smallest to the largest replicate.",
        headline=True,
    )
    beyond = further["pruned once"] / further["movements dealt out"]
    columns = [[text.interval(row, 1, "", 2) for row in ratios.T] for ratios in further.values()]
    columns += [[text.interval(one, 1, "", 4) for one in beyond.T]]
    words = (
        f"Distance moved, kept weights over the rest, by layer; {text.count(len(beyond), 'replicate')}, 95 % intervals."
    )
    table = [list(row) for row in zip(places, *columns, strict=True)]
    chapter.show_table(["layer", *further, "pruned once / dealt out"], table, words)
    return beyond


def masks_in_words(
    density: np.ndarray, stop: Mapping[str, np.ndarray], early: Mapping[str, np.ndarray], end: Mapping[str, np.ndarray]
) -> dict[str, str]:
    """What resetting gives beyond training on, size by size and at the end of training, to glue.

    Args:
        density: [L] share of weights left.
        stop, early, end: "resetting" and "training on" → [R, L] early-stopping iteration, test accuracy there, and at
            the end.

    Returns:
        ``resetting_sizes``, the difference at each size; ``resetting_end`` and ``resetting_even_end``, difference and
        ratio of break-evens that the rule asks for, from the accuracy at the end.
    """
    one, other = early["resetting"], early["training on"]
    apart = {f"{figures.percent(share)} %": one[:, i] - other[:, i] for i, share in enumerate(density) if share < 1}
    told = {size: text.interval(rows, 100, "pp") for size, rows in apart.items() if not np.isnan(rows).any()}
    late = quantities.continued_quantities(density, *(part[by] for by in end for part in (stop, end)))
    asked = {
        "resetting_end": ("resetting_minus_continued_pp", "pp"),
        "resetting_even_end": ("resetting_break_even_ratio", "times"),
    }
    found = {
        name: text.format_interval(late[quantity], 1, unit) if quantity in late else "not measured"
        for name, (quantity, unit) in asked.items()
    }
    return {"resetting_sizes": text.each(told) or "not run", **found}
