"""Networks that were chosen to lose: what chapter 15 measures of them, as figures and tables of a chapter."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike

from .. import association, masks, stats
from ..engine.store import Record
from ..engine.world import EmptyWorld
from ..recipes import Run, World
from . import figures, leads, quantities, text, tidy
from .chapter import Chapter

SIGNAL = (
    "units without incoming weights",
    "without outgoing",
    "fewest weights in a layer",
    "size of the weights, layer by layer",
    "all layers, random = 100 %",
)
"""Columns of :func:`signal` behind the first."""


def at_stop(records: Sequence) -> np.ndarray:
    """Test accuracy at early stopping of nested records, as an array of the same shape."""
    return tidy.column(records, "early_stop_test_accuracy")


def measured(found: Mapping[str, ArrayLike], records: Mapping) -> quantities.Quantities:
    """The quantities of Q2-P1 to Q2-P8, as far as they were run.

    Args:
        found: kind, as of `lottery.controls.losing` → [R] test accuracy at early stopping; "random" is that of both.
        records: "turned", as of `lottery.controls.turned`, with lists of runs; "drawn" and "drawn again", one row of
            random masks a replicate; "conv", kind, as of
            `lottery.controls.losing_without_ticket` → runs. Empty where there are none.
    """
    small = {"small final": found["small at the end"], "rescaled": found["small at the end, rescaled"]}
    all_of = quantities.losing_quantities({**found, **small})
    if records["turned"]:
        starts = {kind: at_stop(runs) for kind, runs in records["turned"].items()}
        opposed = starts.pop("opposed")
        all_of |= quantities.flipped_start_quantities({0: found["ticket"], **starts}, found["reinitialised"], opposed)
    if any(records["drawn"]):
        twice = records["drawn"], records["drawn again"]
        validation, accuracy = (list(map(value, twice)) for value in (tidy.early_validation, at_stop))
        all_of |= quantities.worst_mask_quantities(validation, accuracy)
    if records["conv"]:
        all_of |= quantities.losing_conv_quantities({kind: at_stop(runs) for kind, runs in records["conv"].items()})
    return all_of


# Whether losing is a matter of the signal.


def signal(kinds: Mapping[str, Sequence[Run]], world: World, base: str) -> list[list[str]]:
    """Rows of a table of what may keep a signal from passing through networks before training.

    Args:
        kinds: kind → runs, one a replicate.
        world: where the records of masks are.
        base: the kind against which the size of all layers is held.

    Returns:
        For each kind its name; hidden units cut off (`lottery.masks.cut_off`), mean and range; weights left in the
        smallest layer; root mean squares of the surviving weights at the start, of all replicates together; the product
        of these over the layers as a share of the base's.
    """
    rows, total = [], {}
    for kind, runs in kinds.items():
        kept = [run.mask.tensors(world, run.training) for run in runs]
        starts = [run.weights.tensors(world, run.training) for run in runs]
        squares = ([start[name][mask[name]] ** 2 for start, mask in zip(starts, kept, strict=True)] for name in kept[0])
        sizes = [float(torch.cat(layer).double().mean().sqrt()) for layer in squares]
        units = (text.extremes(row, digits=1) for row in np.transpose([masks.cut_off(mask) for mask in kept]))
        fewest = min(min(masks.count(mask).values()) for mask in kept)
        rows.append([kind, *units, f"{fewest:,}", ", ".join(text.number(size, digits=4) for size in sizes)])
        total[kind] = math.prod(sizes)
    return [[*row, text.number(total[row[0]] / total[base], 100, 1) + " %"] for row in rows]


def show_signal(chapter: Chapter, kinds: Mapping[str, Sequence[Run]], conv: Mapping[str, Sequence[Run]]) -> list[str]:
    """Shows the table of `signal` in a chapter, of LeNet's kinds and Conv-2's.

    Args:
        chapter: where.
        kinds, conv: kind → runs, as of `lottery.controls.losing` with "random", and `losing_without_ticket` or empty.

    Returns:
        Sizes of all layers as shares of a random mask's, to glue: of LeNet's weights that are small at the end and at
        the start, and of Conv-2's that are small at the end.
    """
    world = EmptyWorld(chapter.store)
    of_conv = {f"Conv-2: {kind.removeprefix('another ')}": runs for kind, runs in conv.items()}
    rows = signal(kinds, world, "random") + signal(of_conv, world, "Conv-2: random")
    chapter.show_table(
        ["sub-network", *SIGNAL],
        rows,
        "Before training. Hidden units without weights: mean, smallest and largest replicate. Size: root mean square "
        "of the surviving weights, from the first layer to the last. All layers: the product of these sizes.",
    )
    sizes = {kind: size for kind, *_, size in rows}
    asked = ("small at the end", "small at the start", "Conv-2: small at the end")
    return [sizes.get(kind, "not run") for kind in asked]


def regained(accuracy: Mapping[str, ArrayLike], *kinds: str) -> list[list[str]]:
    """Rows of a table of what kinds of networks gain when their layers are rescaled.

    Args:
        accuracy: kind → [R] shares: these, the same rescaled, and "random", against which they lose.
        kinds: which.

    Returns:
        Kind, percentage points gained, and these as a share of the loss; "no clear loss" where that may be zero.
    """
    rows = []
    for kind in kinds:
        own, rescaled = (np.asarray(accuracy[name]) for name in (kind, f"{kind}, rescaled"))
        gain = quantities.points_above(rescaled, own)
        share = quantities.recovered(rescaled, accuracy["random"], own)
        told = text.format_interval(share, 100, "%", 0) if isinstance(share, stats.Summary) else "no clear loss"
        rows.append([kind, text.format_interval(gain, 1, "pp"), told])
    return rows


def show_regained(
    chapter: Chapter, found: Mapping[str, ArrayLike], conv: Mapping[str, Sequence[Record]]
) -> dict[str, str]:
    """Shows the table of `regained` in a chapter, of LeNet's kinds and Conv-2's.

    Args:
        chapter: where.
        found: of :func:`measured`.
        conv: its records of that name.

    Returns:
        What rescaling gave, to glue: ``gain_...`` and ``share_...``, with ``end`` and ``start`` of LeNet, ``conv_end``
        and ``conv_start`` of Conv-2, "not run" without it.
    """
    kinds = ("small at the end", "small at the start")
    rows = regained(found, *kinds)
    if conv:
        of_conv = {f"Conv-2: {kind}": at_stop(runs) for kind, runs in conv.items()}
        of_conv["random"] = of_conv["Conv-2: another random"]
        rows += regained(of_conv, *(f"Conv-2: {kind}" for kind in kinds))
    header = ["sub-network", "rescaled minus as it was", "as a share of what it loses against random"]
    chapter.show_table(header, rows, "Test accuracy at early stopping.")
    names = ("end", "start", "conv_end", "conv_start")
    told = {name: {"gain": gain, "share": share} for name, (_, gain, share) in zip(names, rows, strict=False)}
    missing = {"gain": "not run", "share": "not run"}
    return {f"{what}_{name}": value for name in names for what, value in told.get(name, missing).items()}


# Signs turned against a ticket.


def against_share(ahead: Mapping[float, np.ndarray], others: leads.Leads) -> figures.Figure:
    """Leads over random masks against the share of starting signs that is flipped, with random masks at zero.

    Args:
        ahead: share → [R].
        others: kind → [R] of what has no such share, drawn as a level line.
    """
    shares = sorted(ahead)
    flipped = np.stack([ahead[share] for share in shares], axis=1)
    rows = {kind: np.stack(len(shares) * [values], axis=1) for kind, values in others.items()}
    rows = {"signs flipped": flipped, **rows, "random": np.zeros_like(flipped)}
    low, high = min(map(np.min, rows.values())), max(map(np.max, rows.values()))
    room = 0.05 * (high - low) or 1.0
    series = {kind: (100 * np.array(shares), values) for kind, values in rows.items()}
    words = "starting signs flipped (%)", "test accuracy minus random (pp)"
    return figures.training_curves(
        series, *words, percent=False, ylim=(low - room, high + room), dotted=("signs flipped",)
    )


def show_turned(
    chapter: Chapter, found: Mapping[str, ArrayLike], ends: Mapping[str, ArrayLike], turned: Mapping, left: str
) -> dict[str, str]:
    """Shows `against_share` in a chapter, where signs were turned.

    Args:
        chapter: where.
        found: of :func:`measured`.
        ends: the same at the end of training.
        turned: its records of that name.
        left: the share of weights left, in words.

    Returns:
        Leads to glue: ``turned_half`` and ``turned_all``, of tickets with so many of their signs flipped, and
        ``turned_back``, the latter minus the former; ``half_fresh``, of half flipped over fresh weights; at the end of
        training ``turned_back_end``, and ``flipped_end`` and ``opposed_end`` over fresh weights. "not run" if signs
        were not turned.
    """
    if not turned:
        turns = ("turned_half", "turned_all", "turned_back", "turned_back_end")
        return dict.fromkeys((*turns, "half_fresh", "flipped_end", "opposed_end"), "not run")
    random = np.asarray(found["random"])
    shares = {0.0: found["ticket"]} | {key: at_stop(runs) for key, runs in turned.items() if key != "opposed"}
    ahead = {share: 100 * (np.asarray(values) - random) for share, values in shares.items()}
    others = {"reinitialised": 100 * (np.asarray(found["reinitialised"]) - random)}
    count = text.count(len(random), "replicate")
    words = (
        f"Test accuracy at early stopping minus that of a random mask, {left}; mean of {count}, smallest to largest as "
        "a band; dots stand at the shares that were run, and nothing between them was. Reinitialised: the ticket's "
        "mask with fresh weights."
    )
    chapter.figure(against_share(ahead, others), caption=words)
    end = {key: 100 * tidy.column(runs, "test_accuracy_end") for key, runs in turned.items()}
    fresh = 100 * np.asarray(ends["reinitialised"])
    told = {"turned_half": ahead[0.5], "turned_all": ahead[1.0], "turned_back": ahead[1.0] - ahead[0.5]}
    told |= {"turned_back_end": end[1.0] - end[0.5], "half_fresh": ahead[0.5] - others["reinitialised"]}
    told |= {"flipped_end": end[1.0] - fresh, "opposed_end": end["opposed"] - fresh}
    return {name: text.interval(values, 1, "pp") for name, values in told.items()}


def by_share(beside: Mapping[str, Sequence[Record]], turned: Mapping) -> dict[str, dict[str, Sequence[Record]]]:
    """What `explorers.learning_curves` shows of a ticket whose signs are turned: none, a share of them, or opposed.

    Args:
        beside: label → records of what is always there, the ticket among them.
        turned: as of :func:`show_turned`.
    """
    names = {key: key if key == "opposed" else f"{100 * key:.0f} %" for key in turned}
    return {"0 %": {**beside}} | {names[key]: {**beside, "signs flipped": runs} for key, runs in turned.items()}


def offer(chapter: Chapter, records: Mapping, shares: Mapping[str, str]) -> None:
    """Offers the accuracies behind flipped signs, masks that were trained twice, and Conv-2, where they were run.

    Args:
        chapter: where.
        records: of :func:`measured`.
        shares: a value of runs → its column in the tables.
    """
    if records["turned"]:
        _offer_kinds(chapter, "losing_signs.csv", "signs_flipped", records["turned"], shares)
    if any(records["drawn"]):
        columns = {"validation_accuracy_first": tidy.early_validation(records["drawn"])}
        for name, way in (("first", "drawn"), ("again", "drawn again")):
            columns |= {f"{label}_{name}": tidy.column(records[way], value) for value, label in shares.items()}
        chapter.offer_csv("losing_masks.csv", tidy.frame(("replicate", "mask"), columns))
    if records["conv"]:
        _offer_kinds(chapter, "losing_conv.csv", "sub_network", records["conv"], shares)


def _offer_kinds(chapter: Chapter, filename: str, name: str, kinds: Mapping, shares: Mapping[str, str]) -> None:
    columns = {label: tidy.column([*kinds.values()], value) for value, label in shares.items()}
    chapter.offer_csv(filename, tidy.frame((name, "replicate"), columns, **{name: list(kinds)}))


# Random masks that were trained twice.


def alike(first: ArrayLike, again: ArrayLike) -> stats.Summary:
    """Spearman's rank correlation of two measurements of the same masks within a replicate: mean over replicates.

    Args:
        first, again: [R, N]; NaN for fewer than three masks.
    """
    rows = list(zip(np.asarray(first), np.asarray(again), strict=True))
    found = [association.partial_spearman(*row) if len(row[0]) > 2 else math.nan for row in rows]
    return quantities.summary(found)


def twice(first: ArrayLike, again: ArrayLike) -> figures.Figure:
    """Masks that were trained twice, a dot each; the worst of each replicate's first trainings stand out.

    Args:
        first: [R, N] validation accuracies of the first training, which picks the worst.
        again: [R, N] test accuracies of the second.
    """
    x, y = (100 * (values - values.mean(axis=1, keepdims=True)) for values in map(np.asarray, (first, again)))
    worst = np.arange(x.shape[1]) == x.argmin(axis=1)[:, None]
    dots = {"others": (x[~worst], y[~worst]), "worst when trained first": (x[worst], y[worst])}
    words = "first training: validation accuracy minus mean (pp)", "second: test accuracy minus mean (pp)"
    return figures.scattered(dots, *words)


def show_twice(chapter: Chapter, drawn: Sequence, again: Sequence) -> dict[str, str]:
    """Shows `twice` in a chapter, where random masks were drawn.

    Args:
        chapter: where.
        drawn, again: records of both trainings, one row of masks a replicate.

    Returns:
        Rank correlations to glue, with the second training's test accuracy: ``alike_validation``, that of validation
        accuracy in the first, and ``alike_test``, that of test accuracy; "not run" without random masks.
    """
    if not any(drawn):
        return dict.fromkeys(("alike_validation", "alike_test"), "not run")
    validation, second = tidy.early_validation(drawn), at_stop(again)
    firsts = {"alike_validation": validation, "alike_test": at_stop(drawn)}
    told = {name: text.format_interval(alike(values, second)) for name, values in firsts.items()}
    alt = f"Second against first training of random masks, a dot each; rank correlation {told['alike_validation']}."
    words = (
        f"{len(drawn[0])} random masks of each of {text.count(len(drawn), 'replicate')}, trained twice, on other "
        "batches. Across: validation accuracy of the first training; up: test accuracy of the second; both at early "
        "stopping, minus the mean of the replicate's masks. Squares: the mask picked as the worst of its replicate."
    )
    chapter.figure(twice(validation, second), alt, words)
    return told
