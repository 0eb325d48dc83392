"""Patterns of signs in kernels as tables and explorer of a chapter; see `lottery.kernels`."""

import itertools
from collections.abc import Hashable, Mapping, Sequence

import ipywidgets as widgets
import numpy as np
import pandas as pd

from .. import kernels, masks, signs
from ..engine.store import Record
from . import explorers, figures, quantities, text, tidy
from .chapter import Chapter


def show_kinds(
    chapter: Chapter,
    beyond: Mapping[str, np.ndarray],
    together: Mapping[str, int],
    alike: Mapping[str, np.ndarray],
    words: str,
) -> None:
    """Shows how many patterns of each kind of network are beyond chance, and whether the same are frequent in others.

    Args:
        chapter: where.
        beyond: kind → [R] numbers of patterns, each network alone.
        together: kind → how many there are if the kernels of all its networks are counted together.
        alike: kind → [R, 3], as of `kernels.likeness`; these kinds are shown.
        words: the table's caption.
    """
    rows = []
    for kind, values in alike.items():
        many = text.interval(beyond[kind], digits=1, within=(0, np.inf))
        rows.append([kind, many, str(together[kind]), text.interval(values[:, 1]), f"{values[:, 2].max():.3f}"])
    header = ["network", "patterns beyond chance, of one", "of all together", "ρ within equal numbers", "largest p"]
    chapter.show_table(header, rows, words)


def show_apart(chapter: Chapter, apart: Mapping[str, np.ndarray], left: str) -> None:
    """Shows how far two networks of a kind are from each other, and how often two tickets are nearer.

    Args:
        chapter: where.
        apart: kind → [pairs, 2] matched distances with and without signs; "tickets" is one.
        left: the share of weights left, in words.
    """
    near, rows = apart["tickets"].T, []
    for kind, both in apart.items():
        areas = [f"{signs.auc(mine, other):.2f}" for mine, other in zip(near, both.T, strict=True)]
        rows.append([kind, *(text.extremes(row, digits=3) for row in both.T), *areas])
    words = (
        f"{left} left, {text.count(len(near[0]), 'pair')}: mean (smallest to largest). AUC: how often two tickets are "
    )
    words += "nearer than two of the kind; 0.5 is chance."
    chapter.show_table(["pairs of", "signed distance", "without signs", "AUC, signed", "AUC, without"], rows, words)


def show_layers(
    chapter: Chapter, pairs: Mapping[str, Sequence[Record]], near: str = "tickets", mask: Record | None = None
) -> dict[str, str]:
    """Shows how often two tickets are nearer than two networks of another kind, in each layer, with and without signs;
    and offers the distances.

    Args:
        chapter: where.
        pairs: kind → records of `signs.Compared`; `near` is one.
        near: what tickets are called there.
        mask: a ticket's, for means that count layers by their units and by the weights that they have left, beside the
            one in which all count alike.

    Returns:
        To glue: with signs ``one_shot_fc1`` and the like, without ``one_shot_fc1_unsigned``; and if there are weights
        ``one_shot_alike``, ``…_units`` and ``…_weights`` of the three means, again with and without signs, and
        ``kinds_auc_units`` and the like: what A-C1 and A-C2 would judge then.
    """
    layers = [name.removesuffix(".weight") for name in pairs[near][0].values["layers"]]
    shares = {} if mask is None else _shares(mask, pairs[near][0].values["layers"])
    of_weights = dict(zip(layers, shares.get("by weights", ()), strict=False))
    told = {f"share_{layer}": f"{text.number(share, 100, 1)} %" for layer, share in of_weights.items()}
    others = [kind for kind in pairs if kind != near]
    rows: dict[tuple[bool, str], list[str]] = {
        (signed, name): [] for signed, name in itertools.product(signs.SIGNED, (*layers, *shares))
    }
    for way, share in shares.items():
        means = {
            kind: np.stack([tidy.compared(some, "distance", signed=signed) @ share for signed in signs.SIGNED], 1)
            for kind, some in pairs.items()
        }
        judged = quantities.kinds_quantities({"ticket": means.pop(near), **means})
        told |= {_glued(name, way.removeprefix("by ")): text.format_interval(area) for name, area in judged.items()}
    for signed, kind in itertools.product(signs.SIGNED, others):
        both = [tidy.compared(pairs[one], "distance", signed=signed) for one in (near, kind)]  # [pairs, layers] each
        columns = {layer: [values[:, i] for values in both] for i, layer in enumerate(layers)}
        columns |= {name: [values @ share for values in both] for name, share in shares.items()}
        for name, values in columns.items():
            key, area = _glued(kind, name.removeprefix("by ")), f"{signs.auc(*values):.2f}"
            told[key if signed else f"{key}_unsigned"] = area
            rows[signed, name].append(area)
    words = "How often two tickets are nearer than two networks of the kind, in one layer; 0.5 is chance."
    if shares:
        words += " Last, of the mean over layers: all alike, by their units, by the weights that they have left."
    said = {name: f"mean, {name.replace('alike', 'layers alike')}" for name in shares}
    named = [[said.get(name, name), "with" if s else "without", *areas] for (s, name), areas in rows.items()]
    chapter.show_table(["layer", "signs", *others], named, words)
    distances: dict[Hashable, pd.DataFrame] = {
        kind: tidy.frame(
            ("signs", "pair", "layer"),
            {"distance": np.stack([tidy.compared(some, "distance", signed=signed) for signed in signs.SIGNED])},
            signs=["with" if signed else "without" for signed in signs.SIGNED],
            layer=layers,
        )
        for kind, some in pairs.items()
    }
    chapter.offer_csv("pairs_by_kind.csv", tidy.stacked(distances, "kind"))
    return told


def alike(pairs: Mapping[str, Sequence[Record]], same: Sequence[Record]) -> dict[str, str]:
    """How alike networks of other kinds are, and tickets from one start, to glue.

    Args:
        pairs: kind → records of `signs.Compared`.
        same: of tickets from one start, in other orders of examples; none if they were not run.

    Returns:
        ``agreement_one_shot`` and the like, shares of shared connections with equal signs in per cent; ``same_start``,
        matched distances.
    """
    told = {
        _glued("agreement", kind): f"{100 * np.nanmean(tidy.compared(some, 'agreement')):.1f}"
        for kind, some in pairs.items()
    }
    return told | {"same_start": text.extremes(tidy.apart(same)[:, 0], digits=3) if same else "not run"}


def _glued(kind: str, name: str) -> str:
    return f"{kind}_{name}".replace("-", "_").replace(" ", "_")


def _shares(mask: Record, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """How a mean over layers may count them: in words → [layers] shares of one."""
    kept = [masks.from_record(mask)[name] for name in layers]
    ways = {
        "alike": [1] * len(kept),
        "by units": [len(one) for one in kept],
        "by weights": [int(one.sum()) for one in kept],
    }
    return {way: np.array(row) / sum(row) for way, row in ways.items()}


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


def together(counts: np.ndarray, layers: int) -> int:
    """How many patterns are beyond the null *balance* in one layer of several networks, their kernels counted together.

    Args:
        counts: [R, patterns].
        layers: how many there are: each has its part of 5 %.
    """
    return len(kernels.enriched(counts.sum(0), ["balance"], 0.05 / layers))


def correlated(
    counts: Mapping[str, Mapping[int, np.ndarray]], seed: int, permutations: int, kind: str, level: int, layer: int
) -> np.ndarray:
    """[R, 3] of `kernels.likeness`: networks of a kind beside the dense ones of other replicates.

    Args:
        counts: kind → level → [R, layers, patterns]; "dense, pruned once" is one of them.
        seed, permutations: as of `kernels.likeness`.
        kind, level, layer: whose.
    """
    mine, dense = (counts[one][level][:, layer] for one in (kind, "dense, pruned once"))
    return kernels.likeness(mine, dense, seed, permutations)


def by_chance(counts: np.ndarray) -> np.ndarray:
    """[R] of [R, patterns]: `kernels.neighbour_agreement` that the null *balance* leaves to each network."""
    return kernels.neighbour_agreement(np.stack([kernels.expected_counts(one, "balance") for one in counts]))


def share_by_chance(counts: np.ndarray | None, layer: int) -> str:
    """The mean of `by_chance` in a layer of [R, layers, patterns], as a text."""
    return "not run" if counts is None else f"{100 * by_chance(counts[:, layer]).mean():.0f} %"


def by_null(total: np.ndarray, layers: int) -> str:
    """How many patterns each null alone leaves beyond chance, as a text.

    Args:
        total: [patterns] counts of one layer.
        layers: how many there are: each has its part of 5 %.
    """
    found = {null: len(kernels.enriched(total, [null], 0.05 / layers)) for null in kernels.NULLS[1:]}
    return ", ".join(f"{null} {number}" for null, number in found.items())


def ranked(alike: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray]) -> dict[str, object]:
    """How like patterns are ranked, to glue.

    Args:
        alike: kind → [R, 3], as of `kernels.likeness`, in one layer.
        rows: name → [layers, R, 3], the same in every layer.

    Returns:
        ``…_rho``, within equal numbers; ``ticket_p``, the largest; and of `rows` ``…_pass``, in how many replicates p
        is below 0.01 in every layer.
    """
    kinds = {"ticket": "tickets", "random_mask": "random mask", "dense": "dense, pruned once"}
    found: dict[str, object] = {
        f"{name}_rho": text.interval(alike[kind][:, 1]) if kind in alike else "not run" for name, kind in kinds.items()
    }
    found |= {f"{name}_pass": f"{(row[..., 2].max(0) < 0.01).sum()} of {row.shape[1]}" for name, row in rows.items()}
    return found | {"ticket_p": float(alike["tickets"][:, 2].max())}


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


def gains(networks: Mapping[str, Sequence[Sequence[Record]]], dense: Sequence[Record], level: int) -> dict[str, str]:
    """How accurate networks of each kind are, beside the dense network of their replicate, in points, to glue.

    Args:
        networks: kind → [R][L] records; "tickets" and "one-shot" are two of them.
        dense: [R] records.
        level: which of the L.

    Returns:
        ``tickets_gain`` and the like, kind minus dense network at early stopping, ``…_gain_end`` at the end, and
        ``one_shot_ahead``, one-shot tickets minus tickets at early stopping.
    """
    found: dict[str, str] = {}
    for name, value in (("gain", "early_stop_test_accuracy"), ("gain_end", "test_accuracy_end")):
        base = tidy.column(list(dense), value)
        rows = {kind: tidy.column([row[level] for row in some], value) - base for kind, some in networks.items()}
        found |= {_glued(kind, name): text.interval(row, 100, "pp") for kind, row in rows.items()}
        if name == "gain":
            found["one_shot_ahead"] = text.interval(rows["one-shot"] - rows["tickets"], 100, "pp")
    return found
