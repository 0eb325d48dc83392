"""Marks of tickets as figure, table and explorer of a chapter; see `lottery.marks`."""

import itertools
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from .. import marks
from ..stats import Summary
from . import explorers, figures, text, tidy
from .chapter import Chapter


def areas(networks: marks.Networks, epsilon: float) -> dict[str, Summary]:
    """Mark → area under the curve within a level, the largest first; arguments are those of `Networks.area`."""
    return _ranked({mark: networks.area(mark, epsilon) for mark in networks.marks if mark in marks.MARKS})


def _ranked(found: Mapping[str, Summary]) -> dict[str, Summary]:
    return dict(sorted(found.items(), key=lambda one: -np.nan_to_num(one[1].mean)))


def show(chapter: Chapter, networks: marks.Networks, epsilon: float) -> None:
    """Shows how well marks tell matching networks: the headline figure, a table of all, the numbers as CSV.

    Args:
        chapter: where.
        networks, epsilon: of `areas`.
    """
    found, replicates = areas(networks, epsilon), text.count(len(networks.accuracy), "replicate")
    kind = networks.area_of_kind(epsilon)
    entries = _ranked({**found, "(the bare kind)": kind})
    equal = {mark for mark, area in entries.items() if area.mean == 0.5 and not area.ci_high > area.ci_low}
    rows = [(f"{mark} (all equal)" if mark in equal else mark, area, None) for mark, area in entries.items()]
    chapter.figure(
        figures.ordering(rows, "area under the curve", line=0.5),
        "Area under the curve within a density: " + ", ".join(f"{m} {area.mean:.2f}" for m, area in entries.items()),
        "How often a matching network has the better mark than another one of as many weights: the farther right, the "
        "better it tells them apart. The line at 0.5 is chance; the bare kind is what a mark should beat: whether the "
        f"network is a ticket or pruned once, or not. Bars are 95 % intervals over {replicates}.",
        headline=True,
    )
    others, rows = networks.others(), []
    among = areas(others, epsilon)
    for mark in (*found, "density"):
        within = found[mark] if mark in found else networks.area(mark, epsilon)
        other = among[mark] if mark in among else others.area(mark, epsilon)
        across = networks.area(mark, epsilon, within=False).mean, networks.rank(mark, within=False)
        more = marks.MARKS.get(mark, marks.MORE) == marks.MORE
        means = map(text.number, (other.mean, networks.rank(mark), *across))
        rows.append([mark, text.format_interval(within).partition(", n")[0], *means, "more" if more else "less"])
    across = text.number(networks.area_of_kind(epsilon, within=False).mean)
    said = text.format_interval(kind).partition(", n")[0]
    rows.append(["(its kind: ticket or pruned once)", said, "–", "–", across, "–", "yes"])
    chapter.show_table(
        ["mark", "area within a density", "area among other kinds", "correlation within", "area across densities"]
        + ["correlation across", "a ticket has"],
        rows,
        "Area under the curve for matching or not, in the direction of the last column, with 95 % intervals; the third "
        "column is of networks that are neither tickets nor pruned once. Correlations are Spearman's, with accuracy at "
        "early stop.",
    )
    apart = (networks.areas_apart(mark, epsilon) for mark in ("signed distance", "error barrier"))
    kept = others.matching(epsilon)
    at = dict(zip(networks.names, 100 * networks.accuracy.T, strict=True))
    pair = [at.get(name, np.full(len(networks.accuracy), np.nan)) for name in ("small at the end", "random")]
    chapter.glue(
        small_end_lead=text.interval(pair[0] - pair[1], 1, "pp"),
        area_of_kind=text.number(kind.mean),
        areas_apart=" and ".join(map(text.number, apart)),
        others_matching=f"{kept.sum()} of {kept.size}",
        others_areas=" and ".join(text.number(among[mark].mean) for mark in ("signed distance", "error barrier")),
    )
    axes = {"replicate": range(len(networks.accuracy)), "network": networks.names}
    told = {"accuracy": networks.accuracy, "matching": networks.matching(epsilon).astype(float)}
    chapter.offer_csv("marks.csv", tidy.frame(tuple(axes), {**networks.marks, **told}, **axes))


def flipped(chapter: Chapter, found: Sequence[Mapping], shares: Sequence[int]) -> widgets.Widget | None:
    """Shows how far a ticket that was trained again with flipped signs ends from the ticket, and glues it.

    The first row is of its twin: no sign is flipped, and the examples come in another order.

    Args:
        chapter: where.
        found: records in the nesting of `marks.of_replicate`, one a replicate.
        shares: in per cent, of the signs that were flipped.

    Returns:
        Curves against the share, where there are two at least.
    """
    again = tidy.column([[*row["turned"].values()] for row in found], "early_stop_test_accuracy")
    fresh = tidy.column([row["networks"]["reinitialised"] for row in found], "early_stop_test_accuracy")
    differ = [[marks.signs_apart(one) for one in row["from the ticket"].values()] for row in found]
    parts = [np.reshape(differ, (*again.shape, 1)), marks.all_apart(found, "from the ticket"), again[..., None]]
    far = np.concatenate(parts, axis=-1) * [100, 1, 1, 100, 100]
    measures = ["signs that differ (%)", "signed distance", "Euclidean distance", "barrier (pp)", "test accuracy (%)"]
    rows = ["none, other order", *(f"{share} %" for share in shares)] if shares else []
    chapter.show_table(
        ["signs flipped", *measures],
        [[told, *map(text.interval, far[:, i].T)] for i, told in enumerate(rows)],
        "A ticket trained again from its start with these shares of signs flipped, beside the ticket; 95 % intervals.",
    )
    glued = ("turned_accuracies", "twin_signs", "twin_barrier", "turned_signs", "turned_barriers", "all_flipped_lead")
    if not shares:
        chapter.glue(**dict.fromkeys(glued, "not run"))
        return None
    ends = far[:, 1:, 4].mean(0)
    signs = [f"{float(f'{one:.2g}'):g}" for one in far[:, 1:, 0].mean(0)]
    some = sorted({0, min(1, len(shares) - 1), len(shares) // 2, len(shares) - 1})
    rises = {shares[i]: far[:, 1 + i, 3] for i in some}
    barriers = {share: text.interval(rise, 1, "", 2 if rise.mean() < 1 else 0) for share, rise in rises.items()}
    told = (
        f"from {text.number(min(ends))} to {text.number(max(ends))} %",
        text.interval(far[:, 0, 0], 1, "%", 1),
        text.interval(far[:, 0, 3], 1, "pp"),
        f"{signs[0]} to {signs[-1]} %",
        ", ".join(f"{barrier} with {share} %" for share, barrier in barriers.items()),
        text.interval(100 * (again[:, -1] - fresh), 1, "pp") if shares[-1] == 100 else "not run",
    )
    chapter.glue(**dict(zip(glued, told, strict=True)))
    if len(shares) < 2:
        return None
    axes = {"replicate": range(len(far)), "signs_flipped_percent": ["0, other order", *shares]}
    names = ("signs_differ_percent", "signed_distance", "euclidean_distance", "barrier_pp", "accuracy_percent")
    columns: dict[str, object] = dict(zip(names, np.moveaxis(far, -1, 0), strict=True))
    chapter.offer_csv("flipped.csv", tidy.frame(tuple(axes), columns, **axes))
    drawn = {}
    for name, values in zip(measures, np.moveaxis(far, -1, 0), strict=True):
        low, high = np.nanmin(values), np.nanmax(values)
        room = (high - low) / 20 or 1.0
        limits = low - room, high + room
        line = figures.training_curves(
            {"": ([0, *shares], values)}, "signs flipped (%)", name, percent=False, ylim=limits
        )
        means = ", ".join(f"{told} {text.number(mean)}" for told, mean in zip(rows, values.mean(0), strict=True))
        drawn[(name,)] = line, f"{name} against the share of signs flipped: {means}."
    words = (
        "The same against the share of signs that are flipped; at 0 % the twin. Mean, smallest to largest as a band."
    )
    return explorers.drawn(drawn, [("what", measures)], words, ("barrier (pp)",))


def matched(signed: np.ndarray, barrier: np.ndarray, distance: np.ndarray, within: float) -> str:
    """`marks.matched_differences` in points, as a mean with its interval; arguments are its."""
    return text.interval(marks.matched_differences(signed, barrier, distance, within), 100, "pp")


def exchanged(chapter: Chapter, found: Sequence[Mapping]) -> dict[str, np.ndarray]:
    """Shows what giving the reinitialised network the ticket's values does to the barrier between them, and glues it.

    Args:
        chapter, found: as of `flipped`.

    Returns:
        Which values -> [R] barrier, a share.
    """
    swapped = [marks.signs_apart(row["pairs"]["ticket", "reinitialised"]) for row in found]
    left = {name: np.array([marks.barrier(row["exchanged"][name]) for row in found]) for name in found[0]["exchanged"]}
    errors = {name: np.array([marks.test_errors(row["exchanged"][name]) for row in found]) for name in left}
    above = {name: ends[:, 1] - ends[:, 0] for name, ends in errors.items()}
    where = {"whole": "nowhere", "signs differ": "where signs differ", "anywhere": "at random places"}
    chapter.show_table(
        ["it has the ticket's values", "barrier to the ticket", "its own test error", "halfway, above the ticket's"],
        [
            [
                where[name],
                text.interval(rows, 100, "pp"),
                text.interval(errors[name][:, -1], 100, "%"),
                text.interval(above[name], 100, "pp"),
            ]
            for name, rows in left.items()
        ],
        "The reinitialised network, given the ticket's values at some places: the barrier, and the test errors that it "
        "is made of. At random places: until it has moved as far as where signs differ. 95 % intervals.",
    )
    chapter.glue(
        whole=text.interval(left["whole"], 100, "pp"),
        swap_signs=text.interval(np.array(swapped), 100, "%", 0),
        gone=text.interval(left["whole"] - left["signs differ"], 100, "pp"),
        mixture_error=text.interval(errors["signs differ"][:, -1], 100, "%"),
        halfway_above=text.interval(above["signs differ"], 100, "pp"),
    )
    return left


def explorer(networks: marks.Networks, epsilon: float, chosen: Sequence[str]) -> widgets.Widget:
    """Mark against mark, or against accuracy, of all networks: those that match and others.

    Args:
        networks, epsilon: of `areas`.
        chosen: marks, the one shown first in front.
    """
    matching, accuracy = networks.matching(epsilon), "test accuracy (%)"
    shown = {accuracy: 100 * networks.accuracy} | {mark: networks.marks[mark] for mark in chosen}
    drawn = {}
    for x, y in itertools.product(chosen, shown):
        dots = {"matching": matching, "not matching": ~matching}
        said = f"{y} against {x} of all networks, rank correlation {marks.rank_correlation(shown[x], shown[y]):.2f}"
        parts = {kind: (shown[x][inside], shown[y][inside]) for kind, inside in dots.items()}
        drawn[x, y] = figures.scattered(parts, x, y, size=(6, 3.6)), said
    controls = [("across", list(chosen)), ("up", list(shown))]
    return explorers.drawn(drawn, controls, "Every dot is a network.", (chosen[0], accuracy))
