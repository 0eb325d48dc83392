"""What hangs on settings that a paper does not state: studies with one of `protocols.UNSTATED` changed at a time.

A setting is called by its words; `HERE` are this book's settings, which all studies have. Values
to glue are called after the scaling of images, where that is what a setting changes: ``…_unit``, ``…_standardise``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from .. import recipes
from ..engine.store import Record
from . import claims, protocols, quantities, text, tidy
from .chapter import Chapter

HERE = "as in this book"
SCALED = {words: other["scaling"] for words, other in protocols.UNSTATED.items() if "scaling" in other}
"""Setting → scaling, of those that change the scaling."""
NAMES = {"here": HERE, **{scaling: words for words, scaling in SCALED.items()}}
"""What ends the names of values to glue → setting."""

T = TypeVar("T")


def varied(training: recipes.Training, count: int, make: Callable[[recipes.Training, int], T]) -> dict[str, list[T]]:
    """Setting → what is made of the training with that setting, one for each replicate; nothing for no replicates.

    Args:
        training: with the settings of this book.
        count: how many replicates.
        make: takes a training and a replicate.
    """
    changed = {words: replace(training, **other) for words, other in protocols.UNSTATED.items()}
    return {words: [make(one, r) for r in range(count)] for words, one in changed.items()} if count else {}


def show_speed(
    chapter: Chapter, here: Sequence[Sequence[Record]], varied: Mapping[str, Sequence], left: str
) -> dict[str, str]:
    """Shows by setting how much sooner a ticket is than its dense network, and how much more accurate.

    Args:
        chapter: where; nothing is shown if nothing was varied.
        here: [replicate][dense, ticket] records with the settings of this book.
        varied: other setting → the same of the same replicates.
        left: the ticket's weights, in per cent.

    Returns:
        To glue: ``as_here``, ``varied_sooner``; ``gain_…`` and ``gain_end_…``, ticket minus dense network at early
        stopping and at the end, and ``gain_more_…``, what the first has beyond that with the settings of this book.
    """
    table, gains = [], {}
    told: dict[str, str] = dict.fromkeys(("as_here", "varied_sooner"), "not run")
    for words, runs in {HERE: here[: len(next(iter(varied.values()), ()))], **varied}.items() if varied else ():
        both = (tidy.column(runs, name) for name in ("early_stop_test_accuracy", "test_accuracy_end"))
        gains[words] = [values[:, 1] - values[:, 0] for values in both]
        speed = text.speed(words, *tidy.column(runs, "early_stop_step").T)
        table.append([*speed, *(text.interval(gain, 100, "pp") for gain in gains[words])])
    for name, words in NAMES.items():
        more = gains[words][0] - gains[HERE][0] if gains else np.nan
        parts = dict(zip(("gain", "gain_end", "gain_more"), (*gains.get(words, [np.nan] * 2), more), strict=True))
        told |= {f"{part}_{name}": text.interval(np.atleast_1d(values), 100, "pp") for part, values in parts.items()}
    del told["gain_more_here"]
    if not varied:
        return told
    header = ["what is varied", "dense", f"{left} % left", "sooner by", "gain at early stopping", "gain at the end"]
    words = (
        "Iterations to the smallest validation loss, and test accuracy of the ticket minus that of its dense network; "
    )
    chapter.show_table(header, table, words + "the same replicates in every row.")
    return told | {"as_here": table[0][3], "varied_sooner": text.each({row[0]: row[3] for row in table[1:]})}


def show_starts(
    chapter: Chapter, here: np.ndarray, varied: Mapping[str, Sequence[Record]], places: Sequence[str]
) -> dict[str, str]:
    """Shows by setting where survivors started in each layer, and what the checks of C-C9b give there.

    Args:
        chapter: where; nothing is shown if nothing was varied.
        here: [R, layer, 2] of the measures of `movement.STARTS` with the settings of this book.
        varied: other setting → records of `movement.Started`, of the first of these replicates.
        places: what the layers are called.

    Returns:
        To glue, of the scalings and of this book's settings (``…_here``): ``dip_…`` of the last layer but one,
        ``first_dip_…`` of the first, ``positive_…`` of the last but one, in points, ``outcome_…`` of the checks; and
        of the settings that are no scaling ``dips_else``, the first of these, and ``outcomes_else``.
    """
    found = {words: np.array([record.arrays["summary"] for record in records]) for words, records in varied.items()}
    found = {HERE: here[: len(next(iter(found.values())))], **found} if found else {}
    parts, table = {}, []
    for words, values in found.items():
        positive, dip = np.moveaxis(values, -1, 0)
        outcome = claims.outcome(chapter.rules["C-C9b"], quantities.start_quantities(positive, dip))
        dips, uneven = (
            [text.interval(row) for row in dip.T],
            [text.interval(row - 0.5, 100, "pp", 1) for row in positive.T],
        )
        table.append([words, *dips, *uneven[1:], outcome])
        parts[words] = {"dip": dips[-2], "first_dip": dips[0], "positive": uneven[-2], "outcome": outcome}
    nothing, told = dict.fromkeys(("dip", "first_dip", "positive", "outcome"), "not run"), {}
    for name, words in NAMES.items():
        told |= {f"{part}_{name}": said for part, said in parts.get(words, nothing).items()}
    for part in ("dip", "outcome"):
        other = {words: said[part] for words, said in parts.items() if words not in (HERE, *SCALED)}
        told[f"{part}s_else"] = text.each(other) or "not run"
    if table:
        header = ["what is varied", *(f"dip, {place}" for place in places)]
        header += [*(f"positive, {place}" for place in places[1:]), "checks of C-C9b"]
        chapter.show_table(
            header,
            table,
            "Density of the survivors' starts at zero over that around one standard deviation (a Gaussian has 1.58, "
            "one cut at two deviations 1.44), the share of them that start positive minus one half, and what the "
            f"checks would give; {text.count(len(found[HERE]), 'replicate')}.",
        )
    return told
