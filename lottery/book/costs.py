"""What tickets cost and save, as tables and a figure of a chapter: a table is its header, its rows and its caption."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from .. import stats, worth
from ..engine.store import Record
from ..worth import Ledger
from . import figures, leads, quantities, text, tidy

Table = tuple[list[str], list[list[str]], str]
Memory = Mapping[bool, Sequence[Mapping[str, int]]]
Masks = Mapping[str, Mapping[str, np.ndarray]]
"""Network → kind of mask, as of `lottery.controls.cheaper` → [R]."""


def reached(values: ArrayLike, scale: float = 1, unit: str = "", digits: int = 0) -> str:
    """Mean, smallest and largest of [R] values, NaN where something did not come about.

    Such as ``3,380 (3,200 to 3,500)``, ``7,550 (7,400 to 7,700), in 2 of 5``, or ``never``.
    """
    values = np.asarray(values, dtype=np.float64)
    found = values[~np.isnan(values)]
    if not found.size:
        return "never"
    words = text.extremes(found if np.ptp(found) else found[:1], scale, unit, digits)
    return words if found.size == values.size else f"{words}, in {found.size} of {values.size}"


def repaid(ledger: Ledger, none: str) -> str:
    """The reuses that repay a search, with their interval; other words where there is no such number."""
    reuses = quantities.payback(ledger)
    return text.format_interval(reuses, 1, "reuses", 1) if reuses else none


def in_steps(ledger: Ledger, none: str) -> dict[str, str]:
    """The search where a sparse step costs as much as a dense one, as values to glue.

    Args:
        ledger: of the search.
        none: words where a ticket saves no steps.

    Returns:
        "search_trainings", how many dense trainings it takes; "repaid_steps", what that means for reuses that
        end early, as a clause.
    """
    trainings, saved = ledger.level + 1, ledger.stop[:, 0] - ledger.stop[:, ledger.level]
    search = np.full(len(saved), trainings * ledger.steps)
    reuses = stats.ratio(search, saved) if saved.mean() > 0 else None
    repaid = f"it is repaid after {text.format_interval(reuses, 1, 'reuses', 0)}" if reuses else none
    if reuses and not reuses.bounded:  # the steps saved may be none
        fewer = text.interval(saved, 1, f"of {ledger.steps:,} steps", 0)
        repaid = f"no saving is shown: a ticket saves {fewer}"
    return {"search_trainings": f"{trainings}", "repaid_steps": repaid}


def footprints(runs: Sequence[Record], shapes: Mapping[str, Sequence[int]], batch: int) -> Memory:
    """In CSR or not → what a step of each of these runs [L] holds and moves: `worth.footprint`."""
    left = [run.values["weights_left"] for run in runs]
    return {sparse: [worth.footprint(shapes, one, batch, sparse) for one in left] for sparse in (False, True)}


def spent(ledger: Ledger, same: np.ndarray, hours: np.ndarray, memory: Memory) -> Table:
    """The ledger: operations, hours, bytes moved by dense products and by CSR.

    Args:
        ledger: in 10¹² operations.
        same: [R, L] of `tidy.same_loss`.
        hours: [R, L] that each training took.
        memory: of :func:`footprints`.
    """
    dense, sparse = (np.array([step["moved"] for step in memory[one]]) / 1e12 for one in (False, True))
    per_step = (ledger.unit * ledger.density, 2), (hours / ledger.steps, 4), (dense, 3), (sparse, 3)
    columns = [(ledger.spent(step, same), digits) for step, digits in per_step]

    def cell(values: np.ndarray, digits: int) -> str:
        if missed := np.isnan(values).sum():
            return "not reached" if missed == len(values) else f"reached in {len(values) - missed} of {len(values)}"
        equal = np.ptp(values) <= 1e-9 * values.max()
        return text.number(values.mean(), 1, digits) if equal else text.interval(values, 1, "", digits, (0, np.inf))

    rows = [[name, *(cell(values[name], digits) for values, digits in columns)] for name in columns[0][0]]
    for row in rows:
        row[2] = "not run" if row[0] in worth.UNRUN else row[2]
    caption = (
        "95 % intervals. Times of the records, on machines that did other things, too, so that they do not compare "
        "networks; to early stop in proportion. "
        "Terabytes are arithmetic: nothing was trained in CSR."
    )
    header = ["training", "operations (10¹²)", "hours of one core", "terabytes moved, dense products"]
    return [*header, "the same in CSR"], rows, caption


def saved(ledger: Ledger, same: np.ndarray, at: Sequence[int]) -> Table:
    """What the tickets of some levels save; arguments as of :func:`spent`."""
    rows = []
    for level in at:
        row = [f"{figures.percent(ledger.density[level])} %"]
        row += [reached(iterations[:, level]) for iterations in (ledger.stop, same)]
        for iterations in (ledger.stop, same) if level else ():
            words = repaid(replace(ledger, stop=iterations, target=ledger.density[level]), "–")
            row.append(words.replace(" reuses", "").partition(", n")[0])
        rows.append(row + [""] * (5 - len(row)))
    count = text.count(len(same), "replicate")
    caption = (
        f"Iterations: mean, smallest to largest of {count}. The dense network's loss is its smallest on validation "
        "data, in the same replicate. Reuses repay the search down to that level; 95 % intervals."
    )
    header = ["weights left", "to early stop", "to the dense network's loss", "reuses to repay", "by that loss"]
    return header, rows, caption


def kept(density: Sequence[float], sizes: Mapping[str, np.ndarray]) -> Table:
    """Bytes to keep tickets.

    Args:
        density: [L] share of weights left.
        sizes: part → [R, L] bytes: the values of `worth.Packed`.
    """
    share, rows = sizes["kept"] / sizes["dense"], []
    for level, left in enumerate(density):
        parts = (f"{sizes[name][:, level].mean():,.0f}" for name in ("mask", "signs", "kept"))
        rows.append([f"{figures.percent(left)} %", *parts, text.interval(share[:, level], 100, "%")])
    count = text.count(len(share), "replicate")
    caption = f"Bytes after xz, mean of {count}; dense: {sizes['dense'][0, 0]:,.0f} bytes."
    return ["weights left", "mask", "signs", "mask, signs and seed", "of the dense network's bytes"], rows, caption


def in_training(density: np.ndarray, memory: Memory, at: Sequence[int], batch: int) -> Table:
    """Bytes that a step of some levels holds and moves in CSR.

    Args:
        density: [L] share of weights left.
        memory: of :func:`footprints`.
        at: which levels.
        batch: examples a step.
    """
    rows, dense = [], memory[False][0]
    for level in at:
        one = memory[True][level]
        parts = (f"{one[part] / 1000:,.0f}" for part in ("values", "indices", "activations"))
        shares = (f"{figures.percent(one[part] / dense[part])} %" for part in ("held", "moved"))
        rows.append([f"{figures.percent(density[level])} %", *parts, *shares])
    caption = (
        f"A training step in batches of {batch}, in CSR, by arithmetic; with dense products it holds "
        f"{dense['held'] / 1000:,.0f} kB and moves {dense['moved'] / 1000:,.0f} kB. Values: weights, gradients, Adam's "
        "two moments."
    )
    header = ["weights left", "values (kB)", "indices (kB)", "activations (kB)", "held, of dense", "moved, of dense"]
    return header, rows, caption


def crossing(share: np.ndarray, times: np.ndarray) -> str:
    """Below which share of weights left sparse products are faster, as :func:`reached` has it.

    Args:
        share: [L] of weights left, falling.
        times: [R, L] times as fast as dense products.
    """
    return reached([worth.sparse_from(share, one) for one in times], 100, "%", 1)


def faster(share: np.ndarray, times: Mapping[int, np.ndarray]) -> Table:
    """How fast sparse products are, and from which density on they win.

    Args:
        share: [L] of weights left, falling.
        times: batch → [R, L] times as fast as dense.
    """
    rows = [
        [f"{batch:,}", *(text.extremes(one[:, level], 1, "times", 2) for level in (0, -1)), crossing(share, one)]
        for batch, one in times.items()
    ]
    count = text.count(len(next(iter(times.values()))), "replicate")
    caption = (
        f"Mean, smallest to largest of the masks of {count}. Between two levels that were measured, the share at which "
        "both products take the same time is interpolated, in logarithms. Cards have the ratio of mean times."
    )
    most, least = (f"with {figures.percent(share[level])} %" for level in (0, -1))
    return ["images at once", most, least, "CSR is faster below"], rows, caption


def trainings(accuracy: Masks, rounds: Mapping[str, int]) -> dict[str, dict[str, np.ndarray]]:
    """How many trainings it takes until a mask is known: network → kind → [R].

    Args:
        accuracy: of the masks.
        rounds: network → rounds of pruning that find its ticket.
    """
    found = {net: {"one-shot": 1, "early": 0.1, "ticket": rounds[net]} for net in accuracy}
    return {
        net: {kind: np.full(len(values), found[net].get(kind, 0)) for kind, values in kinds.items()}
        for net, kinds in accuracy.items()
    }


def learned(found: Mapping[str, Mapping[str, Sequence]]) -> dict[str, str]:
    """How far training went, to glue as `leads.learned` has it: LeNet's ticket and random mask, and all of Conv-2's.

    Args:
        found: network → kind → records of runs; Conv-2's kinds have ``conv_`` before their names, and are "not run" if
            they were not.
    """
    runs = {kind: found["LeNet"][kind] for kind in ("ticket", "random")}
    runs |= {f"conv_{kind}": rows for kind, rows in found.get("Conv-2", {}).items()}
    kinds = itertools.product(("ticket", "one-shot", "early", "SNIP", "SynFlow", "random"), ("stop", "fitted"))
    return {f"conv_{kind}_{what}": "not run" for kind, what in kinds} | leads.learned(runs)


def paid(values: Mapping[str, Any]) -> Table:
    """After how many reuses a search is repaid, by how far search and reuses go.

    Args:
        values: what the chapter has glued: "repaid-whole", "repaid" and "sooner".
    """
    rows = [
        ["to last steps, as it was run", f"{values['repaid-whole']} reuses", values["repaid"]],
        ["to early stops (not run)", "–", values["sooner"]],
    ]
    caption = "After how many reuses the search is repaid, in operations, with 95 % intervals over replicates."
    return ["search", "reuses to their last step", "reuses to their early stop"], rows, caption


def rivals(accuracy: Masks, ends: Masks) -> dict[str, str]:
    """Masks of one training or none beside the ticket, to glue.

    Args:
        accuracy, ends: at early stopping, and at the end of training.

    Returns:
        "early_loss_end", what LeNet's early mask loses against the ticket at the end of training; "one_shot_loss_pp",
        what its one-shot mask loses at early stopping, and with ``conv_`` Conv-2's; "early_minus_snip" and
        "conv_synflow_minus_early", by how much one cheap mask is more accurate than another;
        "conv_…_recovered", which share of the ticket's lead over random masks Conv-2's one-shot and SynFlow have.
    """
    conv = accuracy.get("Conv-2", {})
    loss = {"": accuracy["LeNet"], "conv_": conv}
    shares = "conv_one_shot_loss_pp", "conv_one_shot_recovered", "conv_SynFlow_recovered"
    told: dict[str, str] = dict.fromkeys((*shares, "early_loss_end"), "not run")
    beside = {
        "early_minus_snip": ("LeNet", "early", "SNIP"),
        "conv_synflow_minus_early": ("Conv-2", "SynFlow", "early"),
    }
    for name, (net, one, other) in beside.items():
        both = {one, other} <= set(of := accuracy.get(net, {}))
        told[name] = text.interval(of[one] - of[other], 100, "pp") if both else "not run"
    if "early" in ends["LeNet"]:
        told["early_loss_end"] = text.interval(ends["LeNet"]["ticket"] - ends["LeNet"]["early"], 100, "pp")
    for net, of in loss.items():
        if "one-shot" in of:
            told[f"{net}one_shot_loss_pp"] = text.interval(of["ticket"] - of["one-shot"], 100, "pp")
    for kind in {"one-shot", "SynFlow"} & set(conv):
        share = quantities.recovered(conv[kind], conv["ticket"], conv["random"])
        told[f"conv_{kind.replace('-', '_')}_recovered"] = text.format_interval(share, 100, "%", 0)
    return told


def cheaper(accuracy: Masks, ends: Masks, before: Masks) -> Table:
    """What masks are worth beside random ones, and how many trainings each takes before it is known.

    Args:
        accuracy, ends: at early stopping, and at the end of training; LeNet's kinds are named without their network.
        before: of :func:`trainings`.
    """
    rows = []
    for net, kinds in accuracy.items():
        shown = (before[net], 1, "", 1), (kinds, 100, "%", 2), (ends[net], 100, "%", 2)
        new = leads.rows(leads.leads(kinds), *shown)
        rows += [[kind if net == "LeNet" else f"{net}, {kind}", *row] for kind, *row in new]
    caption = (
        "At early stopping unless the end is named, with 95 % intervals; one random mask a replicate. SNIP and SynFlow "
        "rank all layers together: layers keep other shares. On cards, an interval of the better or the worse of the "
        "two allows for that choice."
    )
    return ["mask", "trainings before it is known", "test accuracy", "at the end", "minus random"], rows, caption


def cheaper_frame(accuracy: Masks, before: Masks) -> pd.DataFrame:
    """The numbers behind :func:`cheaper` as a tidy table, one row a network, mask and replicate."""
    frames = {}
    for net, kinds in accuracy.items():
        for kind, values in kinds.items():
            parts = {"trainings_before": before[net][kind], "test_accuracy_early_stop": values}
            frames[net, kind] = tidy.frame(("replicate",), parts)
    return tidy.stacked(frames, "network", "mask")


def settles(steps: Sequence[int], apart: np.ndarray, masks: int = 5) -> str:
    """When masks settle, in words; arguments as of :func:`settling` and `worth.settled`."""
    if len(steps) < masks:
        return "no iteration, for too few masks were drawn"
    found = [worth.settled(steps, one, masks) for one in apart]
    return "no iteration" if np.isnan(found).all() else f"iteration {reached(found)}"


def settled(steps: Sequence[int], apart: np.ndarray) -> dict[str, str]:
    """When masks settle, to glue; arguments as of :func:`settling`.

    Returns:
        "mask_settled"; "mask_near", the same by the mask before alone; "mask_apart", weights in which those of one-shot
        pruning and of the ticket differ.
    """
    told = {"mask_settled": settles(steps, apart), "mask_near": settles(steps, apart, 2)}
    return told | {"mask_apart": text.extremes(apart[:, -2, -1], 100, "%", 1)}


def settling(steps: Sequence[int], apart: np.ndarray, density: float) -> tuple[Figure, str]:
    """How far masks drawn in training are from each other and from two others, as a figure and its caption.

    Args:
        steps: [S] when they were drawn, at equal distances.
        apart: [R, S + 2, S + 2] distances between these, one-shot pruning's and the ticket's.
        density: share of weights that all of them keep.

    Raises:
        WorthError: if there are fewer than two, of which nothing settles.
    """
    count = len(steps)
    if count < 2:
        raise worth.WorthError("masks must be drawn at least twice in training to be compared")
    lines = {
        "mask before": (steps[1:], np.diagonal(apart[:, :count, :count], 1, 1, 2)),
        "one-shot": (steps, apart[:, :count, count]),
        "ticket": (steps, apart[:, :count, count + 1]),
        "You et al.": ([0, steps[-1]], np.full((1, 2), worth.SETTLED)),
    }
    top = 105 * max(values.max() for _, values in lines.values())
    figure = figures.training_curves(lines, ylabel="weights that differ (%)", ylim=(0, top))
    caption = (
        f"Masks of the dense network every {text.count(steps[0], 'iteration')}, {figures.percent(density)} % of the "
        "weights: in which share of all weights each differs from the mask before, from one-shot pruning's and from "
        "the ticket's; the line is the tenth that You et al. allow. Random ones would in "
        f"{figures.percent(2 * density * (1 - density))} %. Mean of {text.count(len(apart), 'replicate')}, smallest to "
        "largest as a band."
    )
    return figure, caption
