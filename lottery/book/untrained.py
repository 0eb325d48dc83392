"""Networks that were never trained: masks that were chosen, by the share of weights that they keep, in a chapter."""

import itertools
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
import numpy as np

from ..engine.store import Record
from . import explorers, figures, text, tidy
from .chapter import Chapter

Accuracy = Mapping[str, np.ndarray]
"""Kind of mask or weights → [R, S] test accuracy before the first step, a share; NaN where a kind was not run."""


def lines(left: float, ticket: np.ndarray, data: str) -> dict[str, float]:
    """What is drawn across, as :func:`show` takes it: the trained ticket and, on MNIST, what was published.

    Args:
        left: share of weights that the ticket keeps.
        ticket: [R] its test accuracy.
        data: which data.
    """
    published = {"Zhou et al.: 95.3 %": 0.953} if data == "mnist" else {}
    return {f"trained ticket, {figures.percent(left)} %": float(ticket.mean())} | published


def show(chapter: Chapter, accuracy: Accuracy, shares: Sequence[float], lines: Mapping[str, float]) -> None:
    """Shows accuracy without training against weights left, as the headline of a chapter.

    Args:
        chapter: where.
        accuracy: of all kinds; those that ran at one share of several are told and not drawn.
        shares: [S] of each layer's weights that masks keep; 0.5 is among them.
        lines: what is drawn across → its test accuracy, a share; the trained ticket's is the first.
    """
    half, replicates = list(shares).index(0.5), len(next(iter(accuracy.values())))
    ticket, *others = lines
    ran = {name: np.isfinite(rows).any(axis=0).sum() for name, rows in accuracy.items()}
    series = {name: (shares, rows) for name, rows in accuracy.items() if ran[name] > 1 or len(shares) == 1}
    learned = "constants; normal weights" if "normal" in series else "constants"
    means = ", ".join(f"{name} {100 * rows[:, half].mean():.1f} %" for name, rows in accuracy.items())
    chapter.figure(
        figures.against_density(series, "test accuracy (%)", dense_line=False, lines=lines, ylim=(0, 105), every=True),
        f"Test accuracy without training against weights left. With half of them: {means}; {ticket}: "
        f"{100 * lines[ticket]:.1f} %.",
        "Networks that were never trained: how far a line lies below the trained ticket, which has one size and is "
        f"dashed across all, is what choosing lacks against training. Masks were learned ({learned}), "
        "cut by criterion (same sign, largest), or shuffled (random). Mean of "
        f"{text.count(replicates, 'replicate')}, smallest to largest as a band."
        + " The second dashed line is the learned masks of Zhou et al., as later works report them."
        * len(others),
        headline=True,
    )


def best(records: Sequence, names: Sequence[str]) -> str:
    """Test accuracy, and the share that is kept, where the mean validation accuracy is best, in words.

    Args:
        records: [R][S], before the first step.
        names: [S] shares that masks keep, as texts.
    """
    place = int(tidy.at_first(records, "validation_accuracy").mean(axis=0).argmax())
    return f"{text.interval(tidy.at_first(records)[:, place], 100, '%')} with {names[place]}"


def offer_tickets(chapter: Chapter, before: Sequence, after: Sequence) -> None:
    """Offers accuracies of tickets before and after training.

    Args:
        chapter: where.
        before, after: [R][L] records of runs, of which the former took no step.
    """
    columns = {"weights_left": tidy.column(after, "density")}
    columns |= {f"{value}_before": tidy.at_first(before, value) for value in ("test_accuracy", "validation_accuracy")}
    columns["test_accuracy_early_stop"] = tidy.column(after, "early_stop_test_accuracy")
    chapter.offer_csv("untrained_tickets.csv", tidy.frame(("replicate", "level"), columns))


def offer_conv(
    chapter: Chapter, accuracy: Accuracy, shares: Sequence[float], narrower: Mapping[str, np.ndarray]
) -> None:
    """Offers accuracies of masks learned in Conv-2 and in narrower networks, as a table.

    Args:
        chapter: where.
        accuracy: kind of weights → [R, S] of Conv-2, NaN where it was not run.
        shares: [S] that masks keep.
        narrower: network → [R] of constants, half of them kept.
    """
    tables = {}
    for kind, rows in accuracy.items():
        tables["Conv-2", kind] = tidy.frame(("replicate", "share_kept"), {"test_accuracy": rows}, share_kept=shares)
    for name, row in narrower.items():
        half = {"test_accuracy": row[:, None]}
        tables[name, "constants"] = tidy.frame(("replicate", "share_kept"), half, share_kept=[0.5])
    if tables:
        chapter.offer_csv("untrained_networks.csv", tidy.stacked(tables, "network", "kind"))


def pictures(
    found: Mapping[str, Sequence[Record]], accuracy: Accuracy, names: Sequence[str], data: str
) -> widgets.Widget:
    """How many connections each pixel keeps to the first layer, of masks of one replicate.

    Args:
        found: kind → [S] records of masks.
        accuracy: of :func:`show`; the first replicate's are shown.
        names: [S] shares that masks keep, as texts; "50 %" is among them.
        data: their name.
    """
    shown = {}
    for (i, name), (kind, records) in itertools.product(enumerate(names), found.items()):
        right = text.number(float(accuracy[kind][0, i]), 100, 1)
        shown.setdefault(name, {})[kind] = records[i], f"{kind}, {name} kept;\nuntrained, on {data} {right} % right"
    return explorers.first_layers(shown, "weights kept", "Masks of one replicate.", ("50 %", "constants"))


def show_kinds(chapter: Chapter, accuracy: Accuracy, percents: Sequence[int], caption: str) -> None:
    """Shows a table of accuracies without training in per cent, a row a kind, with intervals.

    Args:
        chapter, accuracy: of :func:`show`.
        percents: [S] shares that masks keep, in per cent.
        caption: of the table.
    """
    rows = [[name, *(text.interval(one, 100, "", 1, (0, 100)) for one in of.T)] for name, of in accuracy.items()]
    chapter.show_table(["mask, weights", *(f"{share} %" for share in percents)], rows, caption)
