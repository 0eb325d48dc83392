"""Tickets that were moved between two data sets, as figures, tables and explorers of a chapter.

There are two ways, from the first data set to the second and back. Of each, accuracies and leads over a random mask are
kind → [R, L], records kind → [R][L]: R replicates, L levels of pruning whose tickets were moved; the kinds are those of
`lottery.controls.transfers`. What is left at these levels is [L] texts.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from .. import masks, stats
from ..engine.store import Record
from . import explorers, figures, leads, quantities, text, tidy
from .chapter import Chapter
from .dark import shares
from .leads import Accuracy, Leads

Records = Mapping[str, Sequence[Sequence[Record]]]

PARTS = {
    "beyond": ("moved", "degrees"),
    "counts": ("degrees", "random"),
    "layers": ("upper layers", "first layer"),
    "alone": ("first layer", "moved"),
}
"""Name, as of :func:`differences` → two kinds, of which the second is subtracted from the first."""

WIDEST = 5
"""The widest interval of a share that is told."""


def recovered(accuracy: Accuracy, level: int, kind: str = "moved", of: str = "native", base: str = "random") -> str:
    """What a kind has of another's lead over a third, in words.

    It is "no clear lead" where that lead may be zero, "a deficit" where it is below zero, and "lead too small" where
    the share may be nearly anything, in an interval of more than 500 points.

    Args:
        accuracy: kind → [R, L] shares.
        level: which of the L.
        kind, of, base: as `quantities.recovered` has them.
    """
    found, lead, third = (np.asarray(accuracy[one])[:, level] for one in (kind, of, base))
    value = quantities.recovered(found, lead, third)
    if isinstance(value, stats.Summary):
        wide = value.bounded and value.ci_high - value.ci_low > WIDEST
        return "lead too small" if wide else text.format_interval(value, 100, "%", 0)
    ahead = stats.summary(lead - third, scale=stats.SHARES)
    return "a deficit" if ahead.bounded and ahead.ci_high < 0 else "no clear lead"


def by_size(values: np.ndarray, left: Sequence[str], unit: str = "pp", digits: int = 2) -> str:
    """[R, L] shares, or differences of them, in words: mean and interval at each size.

    Args:
        values: these.
        left: [L] texts.
        unit, digits: of `text.interval`.
    """
    return text.each({size: text.interval(values[:, i], 100, unit, digits) for i, size in enumerate(left)})


def differences(
    there: Accuracy, back: Accuracy, density: Sequence[float] | np.ndarray, left: Sequence[str]
) -> dict[str, str]:
    """Differences of `PARTS` at each size, paired over replicates, as texts to glue.

    Args:
        there, back: kind → [R, L] shares of the two ways.
        density: [L] shares of weights left.
        left: the same as texts.

    Returns:
        ``beyond_there`` and the like; and ``beyond_mean``, of the way there, the mean over the sizes nearest to 21, 9,
        5 and 3.6 %, as the rule of Q1-P2 first had it.
    """
    told = {
        f"{name}_{way}": by_size(np.asarray(found[a]) - np.asarray(found[b]), left)
        for (way, found), (name, (a, b)) in itertools.product((("there", there), ("back", back)), PARTS.items())
    }
    over = np.asarray(there["moved"]) - np.asarray(there["degrees"])
    mean = over[:, tidy.nearest(density, 0.211, 0.09, 0.05, 0.036)].mean(axis=1)
    return told | {"beyond_mean": text.interval(mean, 100, "pp")}


def told(there: Records, back: Records, level: int) -> dict[str, str]:
    """What moved tickets are worth at a level and with the fewest weights, and how far training went, as texts to glue.

    Args:
        there, back: records of the two ways.
        level: which of the L.
    """
    runs, found = {}, {}
    for name, way in (("there", there), ("back", back)):
        runs |= {f"{kind}_{name}": [row[level] for row in way[kind]] for kind in ("native", "moved", "random")}
        accuracy = {kind: tidy.column(rows, "early_stop_test_accuracy") for kind, rows in way.items()}
        moved = leads.leads(accuracy)["moved"]
        ahead = stats.summary(moved[:, level], scale=stats.SHARES)
        found[f"shared_{name}"] = recovered(accuracy, level)
        found[f"degrees_{name}"] = recovered(accuracy, level, "degrees")
        found[f"lead_{name}"] = text.format_interval(ahead, 1, "pp")
        found[f"lead_{name}_fewest"] = text.interval(moved[:, -1], 1, "pp")
        found[f"behind_{name}_most"] = text.interval(accuracy["native"][:, 0] - accuracy["moved"][:, 0], 100, "pp")
    return leads.learned(runs) | found


def of_conv(way: Records) -> dict[str, str]:
    """What Conv-2's tickets are worth where they were moved, and how far training went, as texts to glue.

    Args:
        way: records of its one way, with one level; none if it was not run.
    """
    if not way:
        return dict.fromkeys(("conv_native_lead", "conv_moved_lead", "conv_fitted"), "not run")
    accuracy, fitted = (
        {kind: tidy.column(rows, value)[:, 0] for kind, rows in way.items()}
        for value in ("early_stop_test_accuracy", "train_accuracy_end")
    )
    ahead = leads.leads(accuracy)
    return {
        "conv_native_lead": text.interval(ahead["native"], 1, "pp"),
        "conv_moved_lead": text.interval(ahead["moved"], 1, "pp"),
        "conv_fitted": text.each({kind: f"{100 * values.mean():.1f} %" for kind, values in fitted.items()}),
    }


def at_sizes(there: Accuracy, back: Accuracy, left: Sequence[str]) -> dict[str, str]:
    """What moved tickets recover at each size, as texts to glue, without their n.

    Args:
        there, back: kind → [R, L] shares of the two ways.
        left: [L] texts.
    """
    return {
        f"whole_{way}": "; ".join(f"{size}: {recovered(found, i).partition(', n =')[0]}" for i, size in enumerate(left))
        for way, found in (("there", there), ("back", back))
    }


def behind(
    accuracy: Mapping[str, Accuracy], ends: Mapping[str, Accuracy], there: str, across: str, level: int
) -> dict[str, str]:
    """What moved tickets lack of native ones, to glue.

    Args:
        accuracy, ends: way → kind → [R, L] test accuracy at early stopping, and at the end of training.
        there: the way between data.
        across: the way between optimisers; it may not have been run.
        level: which of the L is judged.

    Returns:
        ``there_most_end``, the moved ticket minus the native one with the most weights, at the end of training;
        ``across``, the same between optimisers at the level judged, and ``across_end`` at the end.
    """

    def lack(of: Mapping[str, Accuracy], way: str, at: int) -> str:
        if way not in of:
            return "not run"
        moved, native = (np.asarray(of[way][kind])[:, at] for kind in ("moved", "native"))
        return text.interval(moved - native, 100, "pp")

    told = {"there_most_end": lack(ends, there, 0), "across": lack(accuracy, across, level)}
    return told | {"across_end": lack(ends, across, level)}


def rows(way: str, accuracy: Accuracy, left: Sequence[str]) -> list[list[str]]:
    """Rows of a table: way, weights left, kind, accuracy, share of the native ticket's lead over a random mask.

    Args:
        way: its name.
        accuracy: kind → [R, L] shares.
        left: [L] texts.
    """
    table = []
    for (i, name), (kind, values) in itertools.product(enumerate(left), accuracy.items()):
        other = kind in ("native", "mask alone") or kind.startswith("random")  # mask alone: on fresh weights
        share = "" if other else recovered(accuracy, i, kind)
        table.append([way, name, kind, text.interval(np.asarray(values)[:, i], 100, "%"), share])
    return table


def show_matrix(chapter: Chapter, names: Sequence[str], there: Leads, back: Leads, left: Sequence[str]) -> None:
    """Shows the leads of all tickets, wherever they were found and trained, as the headline of a chapter.

    Args:
        chapter: where.
        names: the two data sets.
        there, back: leads of the two ways, in points.
        left: [L] texts.
    """
    cells = [[back["native"], there["moved"]], [back["moved"], there["native"]]]
    panels = {
        f"{name} of the weights left": [
            [stats.summary(values[:, i], scale=stats.SHARES) for values in row] for row in cells
        ]
        for i, name in enumerate(left)
    }
    chapter.figure(
        figures.matrix(panels, names, "found on", "trained on", "Lead over a random mask (pp)"),
        caption="Test accuracy at early stopping minus that of a random mask with as many weights in each layer, in "
        f"points; framed: native tickets. Mean of {text.count(len(there['native']), 'replicate')}, 95 % intervals in "
        "brackets; darker is more.",
        headline=True,
    )


def _sizes(accuracy: Mapping[str, Accuracy], left: Sequence[str]) -> Iterator[tuple[str, Accuracy, int, str]]:
    """The rows of tables by way and size: way, its accuracies, which size, weights left as a text."""
    for (way, found), (i, name) in itertools.product(accuracy.items(), enumerate(left)):
        yield way, found, i, name


def show_degrees(chapter: Chapter, accuracy: Mapping[str, Accuracy], left: Sequence[str]) -> None:
    """Shows what numbers of connections explain: what masks with the moved ticket's degrees recover.

    Args:
        chapter: where.
        accuracy: way → kind → [R, L] shares.
        left: [L] texts.
    """
    table = []
    for way, found, i, name in _sizes(accuracy, left):
        ahead = text.interval(leads.leads(found)["moved"][:, i], 1, "pp")
        table.append([way, name, ahead, *(recovered(found, i, "degrees", of) for of in ("native", "moved"))])
    chapter.show_table(
        ["", "weights left", "lead of the moved ticket", "same degrees: of the native lead", "of the moved lead"],
        table,
        "What a random mask recovers in which each unit and each pixel has as many connections as in the moved one; "
        "95 % intervals.",
    )


def show_parts(chapter: Chapter, accuracy: Mapping[str, Accuracy], left: Sequence[str]) -> None:
    """Shows the differences of `PARTS`.

    Args:
        chapter: where.
        accuracy: way → kind → [R, L] shares.
        left: [L] texts.
    """
    table = []
    for way, found, i, name in _sizes(accuracy, left):
        pairs = ([np.asarray(found[kind])[:, i] for kind in pair] for pair in PARTS.values())
        table.append([way, name, *(text.interval(one - other, 100, "pp") for one, other in pairs)])
    chapter.show_table(
        ["", "weights left", *(f"{one} − {other}" for one, other in PARTS.values())],
        table,
        "Test accuracy at early stopping of one kind minus that of another, paired over replicates; 95 % intervals.",
    )


def counted(unlit: Mapping[str, Record]) -> str:
    """How many inputs are zero in every training example, in words.

    Args:
        unlit: data set → record of `controls.Unlit`.
    """
    found = {name: f"{one.values['unlit']} of {one.values['inputs']}" for name, one in unlit.items()}
    return text.each(found) or "not counted"


def show_unlit(
    chapter: Chapter, unlit: Mapping[str, Record], found: Mapping[str, Sequence[Sequence[Record]]], left: Sequence[str]
) -> None:
    """Shows what masks keep of the first layer's weights from inputs that are zero in every training example.

    Args:
        chapter: where.
        unlit: data set → record of `controls.Unlit`.
        found: data set → [R][L] records of the masks that were found on it.
        left: [L] texts.
    """
    layers = [[[masks.first_layer(record) for record in row] for row in of] for of in found.values()]
    table = []
    for name, record in unlit.items():
        dark = record.arrays["unlit"].astype(bool)
        for i, share in enumerate(left if dark.any() else ()):
            whole = text.number(float(np.mean([row[i].mean() for of in layers for row in of])), 100, 1)
            kept = (text.interval([row[i][:, dark].mean() for row in of], 100, "%", 1) for of in layers)
            table.append([name, f"{dark.sum()} of {dark.size}", share, f"{whole} %", *kept])
        if not dark.any():
            table.append([name, "none", *["–"] * (2 + len(layers))])
    chapter.show_table(
        ["always zero in", "pixels", "weights left", "kept in the layer", *(f"by masks from {name}" for name in found)],
        table,
        "What masks keep of the first layer's weights from pixels that are zero in all training images, and what they "
        "keep of the whole layer; 95 % intervals. A mask with the same degrees keeps as many there as the moved one.",
    )


def spent(
    unlit: Mapping[str, Record], found: Mapping[str, Sequence[Sequence[Record]]], left: Sequence[str]
) -> dict[str, str]:
    """How much of the first layer's weights lies on inputs that are zero in every training example, as texts to glue.

    Args:
        unlit, found, left: of :func:`show_unlit`.

    Returns:
        Of the first data set with such inputs, ``unlit_native``, of masks from it, ``unlit_moved``, of those from the
        other, by size; ``unlit_random``, what a random mask has there.
    """
    name = next((name for name, record in unlit.items() if record.arrays["unlit"].any()), "")
    if not name:
        return dict.fromkeys(("unlit_native", "unlit_moved", "unlit_random"), "none" if unlit else "not counted")
    everywhere = float(unlit[name].arrays["unlit"].astype(bool).mean())
    told = {"unlit_random": f"{text.number(everywhere, 100, 1)} %"}
    for source, rows in found.items():
        told["unlit_native" if source == name else "unlit_moved"] = by_size(shares(unlit[name], rows), left, "%", 1)
    return told


def pictures(
    found: Mapping[str, Sequence[Sequence[Record]]], accuracy: Accuracy, left: Sequence[str], level: int
) -> widgets.Widget:
    """How many connections each pixel keeps to the first layer, of the native and the moved mask of one replicate.

    Args:
        found: the data set that tickets are moved from, that which they are moved to → [R][L] records of masks.
        accuracy: "native" and "moved" → [R, L] shares; the first replicate's are shown.
        left: [L] texts.
        level: which of the L is shown first.
    """
    source, target = found
    shown = {}
    for (i, name), (kind, of) in itertools.product(enumerate(left), (("native", target), ("moved", source))):
        right = text.number(float(np.asarray(accuracy[kind])[0, i]), 100, 1)
        title = f"Found on {of}, {name} left;\nafter training on {target} {right} % right"
        shown.setdefault(name, {})[kind] = found[of][0][i], title
    words = f"Masks of one replicate: native, found on {target}, and moved, found on {source}."
    return explorers.first_layers(shown, "weights left", words, (left[level], "moved"))


def explorer(
    names: Sequence[str], records: Sequence[Records], ahead: Sequence[Leads], left: Sequence[str], level: int
) -> widgets.Widget:
    """Leads and training of every ticket, wherever it was found, wherever it is trained.

    Args:
        names: the two data sets.
        records, ahead: of the two ways.
        left: [L] texts.
        level: which of the L is shown first.
    """
    frames = {}
    for (source, target), (i, name) in itertools.product(itertools.product(names, names), enumerate(left)):
        way = 1 - names.index(target)  # the one that ends there
        now = {kind: rows[:, i] for kind, rows in ahead[way].items() if source != target or kind == "native"}
        kinds = ("native", "moved", "random") if source != target else ("native", "random")
        curves = {k: tidy.curves([row[i] for row in records[way][k]], "test_accuracy") for k in kinds}
        for view, figure in (("lead", leads.drawn(now)), ("training", figures.training_curves(curves))):
            alt = f"Found on {source}, trained on {target}, {name}, {view}. {leads.words(now)}"
            frames[source, target, name, view] = figures.html_image(figure, alt, 630, 80)
    controls = [("found on", names), ("trained on", names), ("weights left", left), ("what", ["lead", "training"])]
    words = "Lead over a random mask, or test accuracy in the course of training; all replicates."
    return explorers.frames(frames, controls, words, (*names, left[level], "lead"))
