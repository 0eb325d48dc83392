"""Figures in one house style: labelled directly, safe for colour-blind readers, readable on a telephone (390 px).

Functions take numpy arrays and return a new ``matplotlib.figure.Figure``; none touches pyplot's global state. Shares
(density, accuracy) are given as fractions and shown in per cent. A figure says in words what it shows, for those who do
not see it: ``figure.get_label()``, which :func:`html_image` takes where it is given no other text.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from PIL import Image

from .. import kernels
from ..engine import settings
from ..stats import Summary
from . import text

INK, GREY, PALE = "#333333", "#757575", "#d9d9d9"
STYLE: dict[Any, Any] = {
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.08,
    "font.size": 12.5,
    "axes.titlesize": 13.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e8e8e8",
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.9,
    "lines.markersize": 5.5,
}
_HOUSE = mpl.rc_context(STYLE)  # as a decorator: the function draws in the house style
# Okabe & Ito's palette without its yellow; a treatment keeps its colour in every chapter.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_ROLES = {"reinit": 1, "one-shot": 3, "random, live": 5, "random": 2, "shuffle": 4, "ticket": 0, "iterative": 0}
_MARKERS = "os^Dvp"
_DASHED: dict[str, Any] = {"color": INK, "linestyle": (0, (4, 3)), "linewidth": 1.3, "zorder": 1}
_PAPER: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 2, "markersize": 8, "zorder": 5}
_PAPER_DENSITIES = (1.0, 0.513, 0.211, 0.070, 0.036, 0.015)  # ticks of Frankle & Carbin's figures


def percent(share: float) -> str:
    """A share as the papers write it, in per cent without the sign: ``100``, ``51.3``, ``3.6``."""
    text = f"{100 * share:.1f}"
    return "100" if text == "100.0" else text


@_HOUSE
def against_density(
    series: Mapping[str, tuple[Any, Any]],
    ylabel: str,
    title: str = "",
    dense_line: bool = True,
    percent: bool = True,
    logy: bool = False,
    ylim: tuple[float, float] | None = None,
    lines: Mapping[str, float] | None = None,
    paper: Sequence[tuple[float, float]] = (),
    every: bool = False,
) -> Figure:
    """A quantity against the share of weights left (form of Frankle & Carbin 2019, Figures 4 and 5).

    Args:
        series: label -> (density [L] in (0, 1], values [R, L]): mean over replicates as a line, min to max as a band.
            Entries are NaN where nothing was run; a level that no replicate ran is left out of the line.
        ylabel: label of the value axis, with its unit.
        title: what is seen, in one line.
        dense_line: draws a dashed line at the mean of the first series at density 1, if it has that level.
        percent: values are shares, shown times 100.
        logy: logarithmic value axis.
        ylim: limits of the value axis, in the unit shown.
        lines: label -> value of a dashed line.
        paper: (density, value) of the paper's figures, drawn as diamonds.
        every: a tick at every density, where they are few.

    Raises:
        ValueError: if shapes do not fit, a density is outside (0, 1].
    """
    if not (series := _present(series)):
        return _nothing(title)
    figure, [ax] = _figure(title)
    factor, ends, everything, looks = (100 if percent else 1), [], [], _looks(series)
    for index, (label, (density, values)) in enumerate(series.items()):
        density, values = _checked(label, density, values)
        if not ((density > 0) & (density <= 1)).all():
            raise ValueError(f"{label!r}: densities are shares in (0, 1]")
        order = np.argsort(-density)
        density, values = density[order], factor * values[:, order]
        chance = label.startswith("null")
        colour, marker = (GREY, "") if chance else looks[index]
        mean = _band(ax, density, values, colour, marker=marker, linestyle="--" if chance else "-")
        ends.append((density[-1], mean[-1], label, colour))
        everything.extend(density)
        if index == 0 and dense_line and math.isclose(density[0], 1):
            ax.axhline(mean[0], **_DASHED)
            ends.append((None, mean[0], "dense", INK))
    for label, value in (lines or {}).items():
        ax.axhline(factor * value, **_DASHED)
        ends.append((None, factor * value, label, INK))
    for place, value in paper:
        ax.plot(place, factor * value, "D", color=INK, **_PAPER)
    if logy:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    if logy or not percent:
        ax.yaxis.set_major_formatter(FuncFormatter(_thousands))
    _density_axis(ax, np.unique(everything), every)
    _finish(ax, "weights left (%)", ylabel, ylim, ends)
    if paper:  # one label is enough; outside, for from there lines turn to the middle
        place, value = paper[-1]
        at = ax.transAxes.inverted().transform(ax.transData.transform((place, factor * value)))
        near = {"xytext": (3, 12) if at[1] > 0.5 else (9, -11), "textcoords": "offset points", "va": "center"}
        ax.annotate("paper", (place, factor * value), **near, zorder=5)
    return figure


@_HOUSE
def against_count(
    series: Mapping[str, tuple[Any, Any]],
    ylabel: str,
    title: str = "",
    level: float | None = None,
    highlight: str = "",
    paper: tuple[float, float] | None = None,
) -> Figure:
    """A quantity against the number of weights left, of networks of several sizes (Frankle & Carbin 2019, Figure 31).

    Args:
        series: label -> (weights left [L], values [R, L]) from small to large networks, coloured from light to dark:
            mean over replicates as a line, min to max as a band.
        ylabel: label of the value axis, with its unit.
        title: what is seen, in one line.
        level: draws a dashed line at this value.
        highlight: the label that stands out in colour; the others are grey.
        paper: from which to which number of weights the paper sees what the figure shows, drawn as a band.

    Raises:
        ValueError: if shapes do not fit or there is none of the highlighted label.
    """
    if highlight and highlight not in series:
        raise ValueError(f"no series {highlight!r} to highlight")
    if not (series := _present(series)):
        return _nothing(title)
    figure, [ax] = _figure(title)
    ends, shades = [], mpl.colormaps["viridis"](np.linspace(0.8, 0.0, max(len(series), 2)))
    for label, shade in sorted(zip(series, shades, strict=False), key=lambda pair: pair[0] == highlight):
        counts, values = _checked(label, *series[label])
        colour = shade if not highlight else PALETTE[0] if label == highlight else "#999999"
        mean = _band(ax, counts, values, colour, marker="o", markersize=4)
        ends.append((counts[-1], mean[-1], label, colour))
    if level is not None:
        ax.axhline(level, **_DASHED)
    if paper:
        ax.axvspan(*paper, color=INK, alpha=0.1, linewidth=0, zorder=0)
        middle = math.sqrt(paper[0] * paper[1])
        ax.annotate("paper", (middle, 0.02), xycoords=ax.get_xaxis_transform(), ha="center", va="bottom")
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    ax.xaxis.set_minor_formatter(NullFormatter())
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(_thousands))
    _finish(ax, "weights left", ylabel, None, ends)
    return figure


@_HOUSE
def training_curves(
    series: Mapping[str, tuple[Any, Any]],
    xlabel: str = "iteration",
    ylabel: str = "test accuracy (%)",
    title: str = "",
    percent: bool = True,
    ordered: bool = False,
    ylim: tuple[float, float] | None = None,
    symlog: bool = False,
    ax: Axes | None = None,
    dotted: Sequence[str] = (),
) -> Figure:
    """A quantity in the course of training (form of Frankle & Carbin 2019, Figure 3).

    Args:
        series: label -> (steps [S], values [R, S]): mean over replicates as a line, min to max as a band.
        xlabel, ylabel, title: texts.
        percent: values are shares, shown times 100.
        ordered: the series are steps of one scale (levels of pruning): coloured from light to dark, not by treatment.
        ylim: limits of the value axis, in the unit shown; by default the steep start is cut off.
        symlog: the value axis is linear between −1 and 1 and logarithmic beyond.
        ax: axes of another figure to draw into; that figure is returned.
        dotted: the series whose values have a dot each.

    Raises:
        ValueError: if shapes do not fit.
    """
    if not (series := _present(series)):
        return cast(Figure, ax.figure) if ax else _nothing(title)
    figure, [ax] = (ax.figure, [ax]) if ax else _figure(title)
    ends, looks = [], _looks(series)
    shades = mpl.colormaps["viridis"](np.linspace(0.8, 0.0, max(len(series), 2)))
    for index, (label, (steps, values)) in enumerate(series.items()):
        steps, values = _checked(label, steps, values)
        colour = shades[index] if ordered else INK if label.startswith("dense") else looks[index][0]
        mean = _band(ax, steps, values * (100 if percent else 1), colour, marker="o" if label in dotted else "")
        ends.append((steps[-1], mean[-1], label, colour))
    ax.xaxis.set_major_formatter(FuncFormatter(_thousands))
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.set_xlim(0, max(end[0] for end in ends) * 1.01)
    ylim = ylim or _zoom(ax)
    if symlog:
        _symlog(ax)
    _finish(ax, xlabel, ylabel, ylim, ends)
    return figure.figure


def barrier_curves(
    series: Mapping[str, tuple[Any, Any]],
    xlabel: str,
    title: str = "",
    symlog: bool = False,
    every: bool = False,
) -> Figure:
    """Barriers against a step or a length, as :func:`training_curves` draws them, on an axis with room for all.

    Args:
        series: label -> (x [S], barriers [R, S]), shares shown in percentage points.
        xlabel, title: texts.
        symlog: for barriers that fall to nothing, which a linear axis does not tell apart.
        every: a dot and a tick at every x, where they are few.
    """
    values = [np.asarray(values) for _, values in series.values()]
    low, high = min(np.nanmin(one) for one in values), max(np.nanmax(one) for one in values)
    ylim = min(-1.0, 105 * low), max(2.5, 105 * high)
    dotted = tuple(series) if every else ()
    figure = training_curves(series, xlabel, "barrier (pp)", title, ylim=ylim, symlog=symlog, dotted=dotted)
    if every:
        ax, at = figure.axes[0], np.unique(np.concatenate([x for x, _ in series.values()]))
        ax.set_xticks(at)
        ax.set_xlim(-0.015 * at[-1])  # dots at 0 are whole
    return figure


@_HOUSE
def paths(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    ylabel: str,
    title: str = "",
    ends: tuple[str, str] = ("", ""),
    ylims: Sequence[tuple[float, float]] | None = None,
) -> Figure:
    """Something along straight lines between solutions, one panel below the other, each with an axis of its own.

    Args:
        panels: title -> label -> (position [S], values [R, S]): mean as a line, min to max as a band; values are
            shares, shown times 100.
        ylabel, title: texts.
        ends: names of the two ends.
        ylims: limits of the value axis of each panel, in the unit shown; by default from 0 on.
    """
    figure, axes = _figure(title, (7, 1 + 2.3 * len(panels)), rows=len(panels))
    for i, (ax, (name, series)) in enumerate(zip(axes, panels.items(), strict=True)):
        top, looks = 0.0, _looks(series)
        for index, (label, (position, values)) in enumerate(series.items()):
            position, values = _checked(label, position, values)
            _band(ax, 100 * position, 100 * values, looks[index][0], label=label)
            top = max(top, 100 * values.max())
        ax.set_title(name, weight="normal")
        ax.set(ylabel=ylabel, xlim=(0, 100), ylim=ylims[i] if ylims else (0, 1.08 * top or 1.0))
    first, last = ends
    axes[-1].set_xlabel("share of the way (%)" + (f", from {first} to {last}" if first else ""))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, frameon=False, borderaxespad=0.3, fontsize=11)
    return figure


@_HOUSE
def barriers(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    epsilon: float = 0.005,
    judged: Mapping[str, Any] | None = None,
) -> Figure:
    """Error barriers against excess errors, a mark a pair of solutions; shaded where "no barrier if and only if
    matching" has them: up to ε with a barrier below 2 ε, beyond it with a larger one.

    Args:
        panels: title -> label -> (excess error [n], barrier [n]), shares shown in percentage points.
        epsilon: the excess error up to which a network is matching, drawn as a line.
        judged: label -> [n] whether the claim is about a pair; others are grey. By default it is about all.

    Raises:
        ValueError: if there is nothing to draw, or the arrays of a label differ in length.
    """
    if not any(panels.values()):
        raise ValueError("nothing to draw: no panels, or none with a label")
    figure, axes = _figure(size=(7, 1 + 2.8 * len(panels)), rows=len(panels))
    every = [np.ravel(excess) for series in panels.values() for excess, _ in series.values()]
    right = 100 * max(np.max(np.concatenate(every), initial=0) + epsilon / 2, 3 * epsilon)
    left = 100 * min(np.min(np.concatenate(every), initial=0) - epsilon / 2, -epsilon)
    for ax, (name, series) in zip(axes, panels.items(), strict=True):
        ends = min(-1.5, *(130 * np.min(barrier, initial=0) for _, barrier in series.values())), 130
        for index, (label, (excess, barrier)) in enumerate(series.items()):
            x, y = 100 * np.ravel(excess), 100 * np.ravel(barrier)
            about = np.ones(x.shape, bool) if judged is None else np.ravel(judged[label])
            if not x.size == y.size == about.size:
                raise ValueError(f"{label!r}: {x.size} excess errors and {y.size} barriers, {about.size} judged or not")
            look: dict[str, Any] = {"marker": _MARKERS[index % len(_MARKERS)], "linestyle": "none"}
            grey = {"color": "#b3b3b3", "zorder": 2, "label": "" if about.any() else label}
            own = {"color": PALETTE[index % len(PALETTE)], "alpha": 0.75, "zorder": 3, "label": label}
            for shown, colours in ((~about, grey), (about, own)):
                if shown.any():
                    ax.plot(x[shown], y[shown], **look, **colours)
        edge, cut = 100 * epsilon, 200 * epsilon
        ax.axvline(edge, color=INK, linestyle=(0, (4, 3)), linewidth=1.3)
        for (x0, x1), (y0, y1) in (((left, edge), (ends[0], cut)), ((edge, right), (cut, ends[1]))):
            ax.fill_between([x0, x1], y0, y1, color=PALETTE[5], alpha=0.16, linewidth=0, zorder=0)
        gap, words = 0.01 * (right - left), {"fontsize": 11, "va": "bottom", "zorder": 4}
        ax.text(edge - gap, 0.97 * ends[0], "claim: matching, no barrier", ha="right", **words)
        ax.text(edge + gap, 1.1 * cut, "claim: not matching, barrier", ha="left", **words)
        ax.set_title(name, weight="normal")
        ax.set(ylabel="barrier (pp)", xlim=(left, right))
        _symlog(ax)
        ax.set_ylim(ends)
    axes[-1].xaxis.set_major_locator(MaxNLocator(7, integer=True))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(_thousands))
    axes[-1].set_xlabel("test error minus that of the dense network (pp)")
    _legend_above(figure, *axes[0].get_legend_handles_labels())
    means = (
        f"{name}: {', '.join(f'{label} {_short(100 * np.mean(height))}' for label, (_, height) in series.items())}"
        for name, series in panels.items()
    )
    figure.set_label(f"Barrier against excess test error; mean barriers in percentage points: {'; '.join(means)}.")
    return figure


@_HOUSE
def subspaces() -> Figure:
    """A drawing: the good networks around a solution as an ellipse, cut by one subspace of pruning, missed by another.

    There are two weights. Pruning one of them leaves the networks on an axis: the vertical one, where the first weight
    is zero, passes through the ellipse, though not at the point to which pruning leads; the horizontal one misses it.
    """
    figure, [ax] = _figure(size=(7, 3.4))
    solution, meets = (2.2, 1.5), (0.0, 2.12)
    ax.add_patch(Ellipse(solution, 5.4, 1.1, angle=-16, facecolor=PALETTE[5], alpha=0.35))
    ax.axvline(0, color=PALETTE[2], linewidth=2.4)
    ax.axhline(0, color=PALETTE[1], linewidth=2.4)
    places = {"solution": (solution, "o", INK), "pruned": ((0, solution[1]), "s", "white"), "meets": (meets, "*", INK)}
    for (x, y), marker, fill in places.values():
        ax.plot(x, y, marker, color=INK, markerfacecolor=fill, markersize=11 if marker == "*" else 8, zorder=4)
    ax.annotate("", (0.08, solution[1]), solution, arrowprops={"arrowstyle": "->", "linestyle": "--", "color": INK})
    for (x, y), words, side in (
        ((2.35, 1.5), "solution", "left"),
        ((-0.12, 1.5), "pruned", "right"),
        ((-0.12, 2.16), "found by retraining", "right"),
        ((3.75, 1.02), "low loss", "left"),
    ):
        ax.text(x, y, words, ha=side, va="center")
    ax.text(0.1, 3.05, "first weight zero: cuts, retraining can succeed", color=_dark(PALETTE[2]), va="center")
    ax.text(0.1, 0.22, "second weight zero: misses, retraining cannot", color=_dark(PALETTE[1]), va="center")
    ax.set(xlim=(-2.6, 6.2), ylim=(-0.25, 3.3), xlabel="first weight", ylabel="second weight", xticks=[0], yticks=[0])
    ax.set_aspect("equal")
    ax.grid(visible=False)
    figure.set_label(
        "Drawing: an ellipse of good networks around a solution, long where the loss is flat. The line on which the "
        "first weight is zero cuts it, above the point to which pruning leads; the line of the second misses it."
    )
    return figure


@_HOUSE
def scattered(
    series: Mapping[str, tuple[Any, Any]], xlabel: str, ylabel: str, title: str = "", size: tuple[float, float] = (7, 4)
) -> Figure:
    """One measurement against another, a dot each.

    Args:
        series: label -> (x [n], y [n]) of one kind of thing.
        xlabel, ylabel: labels of the axes, with their units.
        title: what is seen, in one line.
        size: of the figure in inches.

    Raises:
        ValueError: if the two of a label differ in length.
    """
    figure, [ax] = _figure(title, size)
    for (label, (x, y)), (colour, marker) in zip(series.items(), _looks(series), strict=True):
        if np.size(x) != np.size(y):
            raise ValueError(f"{label!r}: {np.size(x)} and {np.size(y)} values")
        ax.plot(np.ravel(x), np.ravel(y), marker, color=colour, alpha=0.75, markeredgecolor="white", label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(_thousands))
        axis.set_major_locator(MaxNLocator(5))
    _legend_above(figure, *ax.get_legend_handles_labels())
    return figure


@_HOUSE
def input_mask_image(
    mask: Any, shape: Sequence[int], title: str = "", ax: Axes | None = None, chance: bool = False
) -> Figure:
    """How many connections of every input pixel survive in the first layer.

    Args:
        mask: [units, inputs] boolean, true where a weight is left.
        shape: (H, W), or (C, H, W) whose channels are added up; the product is the number of inputs.
        title: what is seen, in one line.
        ax: as in :func:`training_curves`.
        chance: counts are divided by that of a random mask as large, the mean over pixels, on one scale for all masks.

    Raises:
        ValueError: if the mask does not fit the shape.
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or mask.shape[1] != math.prod(shape) or len(shape) not in (2, 3):
        raise ValueError(f"a mask of shape {mask.shape} does not fit inputs of shape {tuple(shape)}")
    figure, [ax] = (ax.figure, [ax]) if ax else _figure(title, (5, 4))
    counts = mask.astype(bool).sum(axis=0).reshape(-1, *shape[-2:]).sum(axis=0)
    # few shades, which survive the small palette of an HTML frame
    if chance:
        most, label, extend = 2, "connections, chance = 1", "max"
        counts, shades = counts / max(counts.mean(), 1e-9), mpl.colormaps["RdBu_r"].resampled(13)
    else:
        most, label, extend = max(int(counts.max()), 1), "connections left", "neither"
        shades = mpl.colormaps["YlGnBu"].resampled(12)
    image = ax.imshow(counts, cmap=shades, vmin=0, vmax=most, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    beside = ax.inset_axes((1.05, 0, 0.06, 1))
    bar = figure.colorbar(image, cax=beside, label=label, ticks=MaxNLocator(4, integer=True), extend=extend)
    bar.outline.set_visible(False)
    return figure.figure


@_HOUSE
def sign_matrices(one: Any, other: Any) -> Figure:
    """The signs of a layer of two networks, and where both have a connection, whether they agree.

    Args:
        one, other: [units, inputs] of −1, 0 (pruned) and 1, in matched order.

    Raises:
        ValueError: if shapes differ.
    """
    one, other = np.asarray(one), np.asarray(other)
    if one.ndim != 2 or one.shape != other.shape:
        raise ValueError(f"expected two matrices of one shape, got {one.shape} and {other.shape}")
    figure, axes = _figure(size=(7, 0.6 + 3 * max(0.7, 6.4 * one.shape[0] / one.shape[1])), rows=3)
    signs, shared = ListedColormap([PALETTE[0], "white", PALETTE[1]]), ListedColormap([PALETTE[3], "white", PALETTE[2]])
    panels = (("one", one, signs), ("the other", other, signs), ("equal signs", np.sign(one) * np.sign(other), shared))
    for ax, (title, matrix, colours) in zip(axes, panels, strict=True):
        ax.imshow(matrix, cmap=colours, vmin=-1, vmax=1, interpolation="nearest", aspect="auto")
        ax.set_title(title, weight="normal", size=11)
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
        ax.spines[:].set_visible(True)
        ax.spines[:].set_color(PALE)
    both = (one * other)[(one != 0) & (other != 0)]
    equal = f", {100 * (both > 0).mean():.0f} % of them with equal signs" if both.size else ""
    figure.set_label(f"Signs of a layer of two networks, which share {both.size:,} connections{equal}.")
    return figure


@_HOUSE
def sign_tiles(rows: Mapping[str, tuple[Any, Sequence[str]]]) -> Figure:
    """Patterns of signs in kernels as tiles, in labelled rows.

    Args:
        rows: label -> (patterns [n, h, w] of −1, 0 (pruned) and 1, their n captions); rows may differ in length.

    Raises:
        ValueError: if there is no pattern, or a row has not one caption a pattern.
    """
    drawn = {label: (np.asarray(tiles), list(captions)) for label, (tiles, captions) in rows.items()}
    if not drawn or any(len(tiles) != len(captions) for tiles, captions in drawn.values()):
        raise ValueError("expected rows of patterns with one caption each")
    most = max(len(tiles) for tiles, _ in drawn.values())
    if not most:
        raise ValueError("no pattern to draw")
    h, w = next(tiles.shape[1:] for tiles, _ in drawn.values() if len(tiles))
    unit = min(6.8 / (most * (w + 1)), 0.36)
    figure, axes = _figure(size=(7, 0.3 + len(drawn) * (0.75 + unit * h)), rows=len(drawn))
    colours = ListedColormap([PALETTE[0], "white", PALETTE[1]])
    look: dict[str, Any] = {"color": "white", "size": 11, "weight": "bold", "ha": "center", "va": "center"}
    for ax, (label, (tiles, captions)) in zip(axes, drawn.items(), strict=True):
        for i, (tile, caption) in enumerate(zip(tiles, captions, strict=True)):
            left = i * (w + 1)
            ax.imshow(tile, cmap=colours, vmin=-1, vmax=1, extent=(left, left + w, h, 0), interpolation="nearest")
            ax.hlines(range(h + 1), left, left + w, color=INK, linewidth=0.8)
            ax.vlines(range(left, left + w + 1), 0, h, color=INK, linewidth=0.8)
            for (row, column), sign in np.ndenumerate(tile):
                if sign:
                    ax.text(left + column + 0.5, row + 0.5, "+" if sign > 0 else "−", **look)
            ax.text(left + w / 2, h + 0.2, caption, ha="center", va="top", size=11)
        ax.set(xlim=(-0.1, most * (w + 1) - 0.9), ylim=(h + 1.1, -0.1), anchor="W")
        ax.set_title(label, weight="normal", size=12)
        ax.axis("off")
    return figure


@_HOUSE
def densities(panels: Mapping[str, Mapping[str, tuple[Any, Any]]], xlabel: str, logx: bool = False) -> Figure:
    """Distributions as histograms of one area, so that few weights are compared with many; one panel below the other.

    Args:
        panels: title -> label -> (edges [B + 1], counts [B]); the first label is drawn as a grey area, the others as
            lines.
        xlabel: label of the axis, with its unit.
        logx: logarithmic axis; areas are then those over the logarithm.

    Raises:
        ValueError: if edges and counts do not fit, or a label has no counts in a panel.
    """
    figure, axes = _figure(size=(7, 3.7 if len(panels) == 1 else 1.2 + 1.7 * len(panels)), rows=len(panels))
    low, high = [], []
    for ax, (name, series) in zip(axes, panels.items(), strict=True):
        for index, (label, (edges, counts)) in enumerate(series.items()):
            edges, counts = np.asarray(edges, dtype=np.float64), np.asarray(counts, dtype=np.float64)
            if edges.size != counts.size + 1 or not counts.sum() > 0:
                raise ValueError(f"{label!r} in {name!r}: {counts.size} counts, {edges.size} edges, or nothing counted")
            height = counts / counts.sum() / np.diff(np.log(edges) if logx else edges)
            look: dict[str, Any] = (
                {"fill": True, "color": PALE} if index == 0 else {"color": PALETTE[(index - 1) % len(PALETTE)]}
            )
            ax.stairs(height, edges, label=label, linewidth=1.8, **look)
            share = np.cumsum(counts) / counts.sum()
            low.append(edges[np.searchsorted(share, 0.002)])
            high.append(edges[1 + np.searchsorted(share, 0.998)])
        ax.set_title(name, weight="normal")
        ax.set(ylabel="density", xlabel=xlabel if ax is axes[-1] else "", xscale="log" if logx else "linear")
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_locator(MaxNLocator(3))
    axes[-1].set_xlim(min(low), max(high))
    axes[-1].xaxis.set_major_formatter(FuncFormatter(_thousands))
    _legend_above(figure, *axes[0].get_legend_handles_labels())
    return figure


@_HOUSE
def sorted_spectrum(
    series: Mapping[str, tuple[Any, Any]],
    marks: Mapping[str, float] | None = None,
    ylim: tuple[float, float] | None = None,
) -> Figure:
    """Eigenvalues of a Hessian from the flattest direction to the sharpest, with ratios that can be pruned.

    Args:
        series: label -> (eigenvalues [n], weights [n]) as quadrature gives them; from light to dark if there are
            several. The axis begins before the first positive one, or the smallest mark. A series without a
            positive eigenvalue, as of a network that learnt nothing, is left out.
        marks: label -> share of the survivors that can go, a dot below the spectrum: as many directions, by the laws,
            must be flat.
        ylim: limits of the eigenvalues; by default the largest and a millionth of it.
    """
    series = {label: pair for label, pair in series.items() if np.max(pair[0]) > 0}
    if not series:
        return _nothing()
    marks = marks or {}
    rows = {"rows": 2, "heights": (3, 1)} if marks else {}
    figure, [ax, *strip] = _figure(size=(7, 4.6 if marks else 4), **rows)
    shades = mpl.colormaps["viridis"](np.linspace(0.0, 0.8, max(len(series), 2)))
    highest, first = 0.0, [100 * share for share in marks.values()]
    for colour, (label, (values, weights)) in zip(shades, series.items(), strict=False):
        values, weights = np.ravel(values), np.ravel(weights)
        order = np.argsort(values)
        values, share = values[order], 100 * np.cumsum(weights[order]) / weights.sum()
        highest = max(highest, values[-1])
        first.append(share[values <= 0].max(initial=0))
        ax.step(share[values > 0], values[values > 0], where="pre", color=colour, label=label)
    start = min(first)
    ax.set(yscale="log", xlim=(start - 0.06 * (101 - start), 101), ylabel="eigenvalue")
    ax.set_xlabel("directions, from flat to sharp (%)")
    ax.tick_params(labelbottom=True)
    ax.set_ylim(ylim or (1e-6 * highest, 3 * highest))
    if len(series) > 1:
        ax.legend(frameon=False, loc="upper left", fontsize=11)
    for below in strip:
        middle = sum(ax.get_xlim()) / 2
        for y, (colour, (label, share)) in enumerate(zip(PALETTE[1:], marks.items(), strict=False)):
            x, look = 100 * share, {"color": _dark(colour), "va": "center", "textcoords": "offset points"}
            side, gap = ("left", 9) if x < middle else ("right", -9)
            below.plot(x, y, "o", color=colour, markersize=8)
            below.annotate(f"{label}: {percent(share)} %", (x, y), (gap, 0), ha=side, **look)
        below.set(ylim=(len(marks) - 0.4, -0.6), yticks=[], xlabel="survivors that one round can remove (%)")
        below.spines["left"].set_visible(False)
    shares = "".join(f"; {label} {percent(share)} %" for label, share in marks.items())
    figure.set_label(f"Eigenvalues from the flattest direction to the sharpest, {_short(highest)}{shares}.")
    return figure


@_HOUSE
def magnitudes(panels: Mapping[str, tuple[Any, Any, Any, float]]) -> Figure:
    """Magnitudes of the survivors right after pruning and after retraining, one panel below the other.

    Args:
        panels: label -> (edges [B + 1], counts right after pruning [B], counts after retraining [B], threshold), as the
            record of a `lottery.movement.Survivors` has them.
    """
    figure, axes = _figure(size=(7, 3.7 if len(panels) == 1 else 1.2 + 1.55 * len(panels)), rows=len(panels))
    limit = 0.0
    for ax, (label, (edges, pruned, retrained, threshold)) in zip(axes, panels.items(), strict=True):
        edges, pruned, retrained = map(np.asarray, (edges, pruned, retrained))
        ax.stairs(pruned, edges, fill=True, color=PALE, label="right after pruning")
        ax.stairs(retrained, edges, color=PALETTE[0], linewidth=1.8, label="after retraining")
        ax.axvline(threshold, color=PALETTE[1], linestyle="--", label="largest weight cut")
        ax.set_ylim(0, 1.08 * max(pruned.max(), retrained.max(), 1))
        ax.set_title(label, weight="normal")
        ax.set(ylabel="weights", xlabel="magnitude" if ax is axes[-1] else "")
        ax.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        ax.yaxis.set_major_formatter(FuncFormatter(_thousands))
        most = max(np.searchsorted(np.cumsum(counts), 0.995 * counts.sum()) for counts in (pruned, retrained))
        limit = max(limit, edges[min(most + 1, len(edges) - 1)])
    axes[-1].set_xlim(0, limit)
    _legend_above(figure, *axes[0].get_legend_handles_labels())
    return figure


@_HOUSE
def ordering(
    entries: Sequence[tuple[str, Summary, float | None]], xlabel: str, title: str = "", line: float = 0
) -> Figure:
    """Dots and intervals: our means with 95 % intervals and min-max, of two replicates both, beside the paper's values.

    Args:
        entries: (label, summary, the paper's value or None), drawn from top to bottom; all in the unit of the axis.
        xlabel: label of the axis, with its unit.
        title: what is seen, in one line.
        line: the value of no effect, marked, and named above the axes; a zero only where the axis reaches it.

    Intervals of an accuracy end at 0 and 100 %.

    Raises:
        ValueError: if there is no entry.
    """
    if not entries:
        raise ValueError("nothing to draw")
    figure, [ax] = _figure(title, (7, 1.7 + 0.5 * len(entries)))
    inside = (0, 100) if xlabel.endswith("accuracy (%)") else (-math.inf, math.inf)  # where the quantity can be
    for y, (_label, ours, paper) in enumerate(entries):
        look = {"color": PALETTE[0], "linewidth": 1.4, "alpha": 0.5, "solid_capstyle": "butt"}
        if ours.n == 2:  # a line between two values would look like a narrow interval
            look |= {"linewidth": 0, "marker": "o", "markersize": 5, "alpha": 1, "zorder": 5}
            look |= {"markerfacecolor": "white"}
        ax.plot([ours.low, ours.high], [y, y], **look)
        if not math.isnan(ours.ci_low):
            ends = np.clip([ours.ci_low, ours.ci_high], *inside)
            ax.plot(ends, [y, y], color=PALETTE[0], linewidth=4.5, solid_capstyle="butt")
        ax.plot(ours.mean, y, "o", color=PALETTE[0], markersize=10, markeredgecolor="white", zorder=4, label="ours")
        if paper is not None:
            ax.plot(paper, y, "D", color=PALETTE[1], label="paper", **_PAPER)
    ax.set(yticks=range(len(entries)), yticklabels=[label for label, *_ in entries], xlabel=xlabel)
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))  # long labels leave little room for numbers
    ax.set_ylim(len(entries) - 0.4, -0.6)
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    if line or ax.get_xlim()[0] < 0 < ax.get_xlim()[1]:
        ax.axvline(line, color=INK, linewidth=1, zorder=1)
    if line:
        ax.text(line, 1, f"{line:g}", transform=ax.get_xaxis_transform(), ha="center", va="bottom", fontsize=11)
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))  # one a label
    if len(handles) > 1:
        _legend_above(figure, handles.values(), handles)
    papers = ["" if paper is None else f" (paper {_short(paper)})" for *_, paper in entries]
    said = [f"{label} {_short(ours.mean)}{beside}" for (label, ours, _), beside in zip(entries, papers, strict=True)]
    figure.set_label(f"{title + ': ' if title else ''}{xlabel}: {'; '.join(said)}.")
    return figure


@_HOUSE
def matrix(
    panels: Mapping[str, Sequence[Sequence[Summary]]], names: Sequence[str], ylabel: str, xlabel: str, title: str = ""
) -> Figure:
    """Means of a quantity for every two of the same things, with their 95 % intervals, written in cells.

    Darker is more, in print too; shades are the same in all panels. Cells of the diagonal are framed.

    Args:
        panels: title -> [rows][columns] summaries, in the unit written; two panels stand side by side.
        names: of the rows, and of the columns.
        ylabel, xlabel: what the rows are, and what the columns are.
        title: what is seen, in one line.

    Raises:
        ValueError: if there is nothing to draw, or a panel is not as large as the names say.
    """
    many = len(names)
    if not many or not panels:
        raise ValueError("nothing to draw: no panels, or no names")
    if any(len(rows) != many or any(len(row) != many for row in rows) for rows in panels.values()):
        raise ValueError(f"expected {many} rows of {many} summaries a panel")
    means = {name: np.array([[cell.mean for cell in row] for row in rows]) for name, rows in panels.items()}
    low, high = min(0.0, *(m.min() for m in means.values())), max(m.max() for m in means.values())
    across = min(2, len(panels))
    down = math.ceil(len(panels) / across)
    figure = _empty(title, (7, 0.5 + (0.7 + 0.7 * many) * down))
    axes = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    said = []
    for ax, (name, rows) in zip(axes, panels.items(), strict=False):
        shades = mpl.colormaps["YlGnBu"]((means[name] - low) / ((high - low) or 1.0))
        ax.imshow(shades, aspect="auto", interpolation="nearest")
        for (y, x), mean in np.ndenumerate(means[name]):
            ends = f"\n[{text.number(rows[y][x].ci_low)}, {text.number(rows[y][x].ci_high)}]" * rows[y][x].bounded
            words = f"{text.number(float(mean))}{ends}"
            colour = "black" if _luminance(shades[y, x, :3]) > 0.18 else "white"  # either way at least 4.5 to 1
            ax.text(x, y, words, color=colour, size=11.5, ha="center", va="center", linespacing=1.4)
            said.append(f"{name}, {names[y]} → {names[x]}: {words}".replace("\n", " "))
            if x == y:
                frame = {"fill": False, "edgecolor": colour, "linewidth": 2, "zorder": 3}
                ax.add_patch(Rectangle((x - 0.47, y - 0.44), 0.94, 0.88, **frame))
        ax.set_title(name, weight="normal", size=12.5)
        ax.set(xticks=range(many), xticklabels=names, yticks=range(many))
        ax.set_yticklabels([textwrap.fill(name, 9) for name in names])
        ax.tick_params(length=0, labelsize=11)
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    figure.supylabel(ylabel, size=12.5)
    figure.supxlabel(xlabel, size=12.5)
    figure.set_label(f"{title + ': ' if title else ''}{ylabel} → {xlabel}. {'; '.join(said)}.")
    return figure


def paper_line(figure: Figure, value: float, label: str = "paper", panel: int = 0) -> Figure:
    """The same figure with a dotted line at a paper's value, in the unit of the axis, labelled below the axes.

    The line has no colour of a series, and no series crosses its label.

    Args:
        figure: of a function above.
        value: the paper's.
        label: what it is.
        panel: which of the figure's axes, from the top.
    """
    line = figure.axes[panel].axhline(value, color=INK, linestyle=":", linewidth=2, zorder=1)
    figure.legend([line], [label], loc="outside lower right", frameon=False, borderaxespad=0.3, fontsize=11)
    figure.set_label(f"{figure.get_label()} Line at {value:g}: {label}.".strip())
    return figure


def enriched_tiles(counts: np.ndarray, shown: int = 5) -> Figure:
    """The patterns of a layer's kernels that exceed chance the most, a row a null.

    Args:
        counts: [19683], of `kernels.pattern_counts`.
        shown: patterns a row.
    """
    labels = {
        "count": "places and signs by chance",
        "support": "signs by chance",
        "balance": "which are positive by chance",
    }
    rows, said = {}, []
    for null, words in labels.items():
        top = kernels.enrichment(counts, null).top(shown)
        times = [f"{n / expected:.1f}×" for n, expected in zip(top.count, top.expected, strict=True)]
        captions = [time if q <= 0.05 else f"{time}, chance" for time, q in zip(times, top.q, strict=True)]
        rows[f"{null}: {words}"] = kernels.patterns()[top.pattern], captions
        found = zip(top.pattern, captions, strict=True)
        said.append(f"{null} " + ", ".join(f"{kernels.spelt(number)} {time}" for number, time in found))
    figure = sign_tiles(rows)
    figure.set_label(f"Most enriched patterns, observed over expected counts, against {'; '.join(said)}.")
    return figure


def html_image(
    figure: Figure, alt: str = "", width: int | None = None, dpi: int = 100, colours: int = 64, sharp: int = 1
) -> str:
    """A figure as an ``<img>`` that carries its PNG and its alternative text; it never grows wider than its column.

    Args:
        figure: what to draw.
        alt: what it shows, for readers who do not see it; by default what it says of itself.
        width: width on the page in CSS pixels; by default that of the figure at this dpi.
        dpi: CSS pixels an inch.
        colours: size of the picture's palette (2 to 256), which makes it two to three times smaller; with fewer than
            48, bands are lost in the ground.
        sharp: pixels of the picture for one of the page, along each side; 2 for screens with fine pixels.

    Raises:
        ValueError: if there is no alternative text.
    """
    if not (alt := alt.strip() or str(figure.get_label())):
        raise ValueError("an image needs alternative text")
    if not settings.current().draw:
        return f'<img alt="{html.escape(alt)}">'
    # `savefig` draws twice where there is a layout, once for the layout alone; the pixels are the same.
    canvas, small = FigureCanvasAgg(figure), io.BytesIO()
    figure.dpi = sharp * dpi
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    # Others of Pillow's methods mix lines with the bands around them: then a label has another colour than its line.
    picture = picture.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    # The last of zlib's levels takes twice the time for one byte in a hundred.
    picture.save(small, format="png", compress_level=8)
    data = base64.b64encode(small.getvalue()).decode()
    w = width or round(picture.width / sharp)
    return (
        f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}" width="{w}" '
        f'height="{round(w * picture.height / picture.width)}" style="max-width:100%;height:auto">'
    )


def _figure(
    title: str = "", size: tuple[float, float] = (7, 4), rows: int = 1, heights: Sequence[float] | None = None
) -> tuple[Figure, list[Axes]]:
    """An empty figure and the list of its axes, one below the other, of these relative heights."""
    figure = _empty(title, size)
    return figure, figure.subplots(rows, squeeze=False, sharex=True, height_ratios=heights)[:, 0].tolist()


def _empty(title: str, size: tuple[float, float]) -> Figure:
    figure = Figure(figsize=size, layout="constrained")
    if title:
        figure.suptitle(title, x=0.012, ha="left", weight="bold", size=STYLE["axes.titlesize"])
    return figure


def _legend_above(figure: Figure, handles: Iterable, labels: Iterable[str]) -> None:
    figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, borderaxespad=0.3, fontsize=11)


def _thousands(value: float, _position: int = 0) -> str:
    mantissa, small, exponent = f"{value:,.10g}".replace("-", "−").partition("e−")
    return f"{mantissa}·$10^{{-{int(exponent)}}}$".removeprefix("1·") if small else mantissa


def _short(value: float) -> str:
    """A number in four digits, or all before its point."""
    return f"{value:,.0f}".replace("-", "−") if abs(value) >= 1000 else f"{value:.4g}".replace("-", "−")


def _present(series: Mapping[str, tuple[Any, Any]]) -> dict[str, tuple[Any, Any]]:
    """The series that have a value at all; one that could not be measured anywhere is not drawn."""
    return {label: pair for label, pair in series.items() if not np.isnan(np.asarray(pair[1], dtype=float)).all()}


def _nothing(title: str = "") -> Figure:
    """What is drawn where no series has a value."""
    figure, [ax] = _figure(title)
    ax.text(0.5, 0.5, "not measured", ha="center", va="center", transform=ax.transAxes)
    ax.set(xticks=[], yticks=[])
    figure.set_label(f"{title}: not measured." if title else "Not measured.")
    return figure


def _checked(label: str, x: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """A series as float arrays, without the columns that no replicate ran."""
    x, values = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or values.ndim != 2 or values.shape[1] != x.size:
        raise ValueError(f"{label!r}: expected x [L] and values [R, L], got {x.shape} and {values.shape}")
    run = ~np.isnan(values).all(axis=0)
    return x[run], values[:, run]


def _looks(labels: Iterable[str]) -> list[tuple[str, str]]:
    """Colour and marker of each: by treatment where a label names one, else by place or, where that is taken, free."""
    named = [next((n for word, n in _ROLES.items() if word in label.lower()), None) for label in labels]
    taken, numbers = set(named), []
    for place, number in enumerate(named):
        if number is None:
            own = place % len(PALETTE)
            free = [n for n in (*range(own, len(PALETTE)), *range(own)) if n not in taken]
            number = (free or [own])[0]
            taken.add(number)
        numbers.append(number)
    return [(PALETTE[number], _MARKERS[number]) for number in numbers]


def _luminance(rgb: np.ndarray) -> float:
    """How light a colour is, as contrasts are reckoned: from 0, black, to 1, white."""
    return float(np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def _dark(colour: Any) -> tuple[float, ...]:
    """A line's colour made dark enough for text on white (contrast of at least 4.5 to 1)."""
    rgb = np.array(to_rgb(colour))
    linear = _luminance(rgb)
    return tuple(rgb * min(1.0, (0.15 / linear) ** (1 / 2.4) if linear else 1.0))


def _band(ax: Axes, x: np.ndarray, values: np.ndarray, colour: Any, **line: Any) -> np.ndarray:
    mean = np.nanmean(values, axis=0)
    if values.shape[0] > 1:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        ax.fill_between(x, low, high, color=colour, alpha=0.17, linewidth=0)
        if len(x) == 1:  # a band without a width is not seen
            ax.vlines(x, low, high, color=colour, alpha=0.5, linewidth=2)
    ax.plot(x, mean, color=colour, markeredgecolor="white", markeredgewidth=0.8, zorder=3, **line)
    return mean


def _zoom(ax: Axes) -> tuple[float, float]:
    """Limits that leave out the steep start: from the lowest mean after a tenth of training on."""
    lines = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in ax.get_lines()]
    late = [y[x >= 0.1 * x.max()] for x, y in lines]
    low, high = min(y.min() for y in late), max(y.max() for y in late)
    margin = 0.08 * (high - low) or 1.0
    return low - margin, high + margin


def _density_axis(ax: Axes, density: np.ndarray, every: bool = False) -> None:
    """Logarithmic, from dense on the left to sparse on the right, with ticks at levels that were run."""
    ax.set_xscale("log")
    near = [min(density, key=lambda d: abs(math.log(d / p))) for p in _PAPER_DENSITIES]
    near = [d for d, p in zip(near, _PAPER_DENSITIES, strict=True) if abs(math.log(d / p)) < 0.05]
    span = math.log(density.max() / density.min())
    ticks: list[float] = []
    for d in [density.max(), density.min(), *near, *density[::-1]]:
        if d not in ticks and (every or all(abs(math.log(d / t)) > span / 8 for t in ticks)):
            ticks.append(float(d))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(ticks, [percent(t) for t in ticks])
    pad = 1.04 * (density.max() / density.min()) ** 0.01
    ax.set_xlim(density.max() * pad, density.min() / pad)


def _symlog(ax: Axes) -> None:
    """A value axis that is linear between −1 and 1 and logarithmic beyond."""
    ax.set_yscale("symlog", linthresh=1)
    ax.set_yticks([-10, -1, 0, 1, 10, 100])
    ax.yaxis.set(major_formatter=FuncFormatter(_thousands), minor_locator=NullLocator())


def _finish(ax: Axes, xlabel: str, ylabel: str, ylim: tuple[float, float] | None, ends: list[tuple]) -> None:
    """Labels axes, and every line at its right end: in its colour, moved apart where they would overlap."""
    ax.set(xlabel=xlabel, ylabel=ylabel)
    across = ax.transData.transform  # a line may end before the right end
    stops = [math.inf if x is None else across((x, y))[0] for x, y, _, _ in ends]
    last = max((stop for stop in stops if stop < math.inf), default=math.inf)
    early = [stop < last - 1 for stop in stops]
    where = [
        f" (it ends at {_short(100 * x if 'left (%)' in xlabel else x)})" if before else ""
        for (x, *_), before in zip(ends, early, strict=True)
    ]
    said = ", ".join(f"{label} {_short(y)}{more}" for (_, y, label, _), more in zip(ends, where, strict=True))
    title = ax.figure.get_suptitle()
    ax.figure.set_label(f"{title + ': ' if title else ''}{ylabel} against {xlabel}; at the right end {said}.")
    ax.set_ylim(ylim or ax.get_ylim())
    place = ax.transScale.transform  # the share of the axis' height at which a value lies
    bottom, top = (place((1, y))[1] for y in ax.get_ylim())
    heights = [(place((1, y))[1] - bottom) / (top - bottom) for _, y, _, _ in ends]
    right = ax.get_xlim()[1]
    line = {"arrowstyle": "-", "linewidth": 0.8, "shrinkA": 1, "shrinkB": 3, "alpha": 0.7}
    line["relpos"] = (0, 0.5)  # from the label's left edge, not through it
    look: dict[str, Any] = {"textcoords": "axes fraction", "va": "center", "annotation_clip": False}
    for (x, y, label, colour), height, before in zip(ends, _spread(heights, 0.075), early, strict=True):
        if not label:  # one line alone, which the axis names
            continue
        style = ":" if before else "-"  # a long way to the label is no part of the line
        look |= {"color": _dark(colour), "arrowprops": {**line, "color": colour, "linestyle": style}}
        ax.annotate(label, (right if x is None else x, y), (1.04, height), **look)


def _spread(heights: Sequence[float], gap: float) -> list[float]:
    """Moves heights in [0, 1] apart to at least a gap, keeping their order and staying within [0, 1] if they fit."""
    order = np.argsort(heights, kind="stable")
    placed = np.clip(np.asarray(heights, dtype=np.float64)[order], 0, 1)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    if len(placed):
        placed[-1] = min(placed[-1], max(1.0, gap * (len(placed) - 1)))
    for i in range(len(placed) - 2, -1, -1):
        placed[i] = min(placed[i], placed[i + 1] - gap)
    out = np.empty(len(placed))
    out[order] = placed
    return out.tolist()


def weight_limit(*weights: Any) -> float:
    """Half the width of an axis for these weights: 99.5 % of every array lie within."""
    return 1.1 * max((float(np.quantile(np.abs(w), 0.995)) for w in weights if np.size(w)), default=0) or 1.0


def draw_histogram(ax: Axes, initial: Any, final: Any, limit: float) -> None:
    """Draws a layer's surviving weights before and after training (form of Frankle & Carbin 2019, Figure 15).

    Weights beyond the limit are counted in the outermost bins.
    """
    initial, final = np.ravel(initial), np.ravel(final)
    if initial.size != final.size:
        raise ValueError(f"{initial.size} weights before training, {final.size} after")
    edges = np.linspace(-limit, limit, 61).tolist()
    ax.hist(np.clip(initial, -limit, limit), edges, color=PALE, label="before training")
    look: dict[str, Any] = {"histtype": "step", "color": PALETTE[0], "linewidth": 1.8}
    ax.hist(np.clip(final, -limit, limit), edges, label="after training", **look)
    ax.set(xlabel="weight", xlim=(-limit, limit))
    ax.grid(visible=False, axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(5, symmetric=True))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_formatter(FuncFormatter(_thousands))
