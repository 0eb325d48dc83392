"""Signs that carry a ticket or not: what chapter 4 shows of other starts and other masks."""

from collections.abc import Mapping, Sequence

import numpy as np

from .. import stats
from ..engine.store import Record
from . import figures, text, tidy
from .chapter import Chapter


def at(found: Mapping[str, Sequence], level: int) -> dict[str, list[Record]]:
    """The dense networks, and the first draw of each start at a level: label → [R] records."""
    dense = {"dense": [row[0][0] for row in found["ticket"]]}
    return dense | {label: [row[0][level] for row in rows] for label, rows in found.items()}


def curves(found: Mapping[str, Sequence], level: int) -> dict[str, dict[str, list[Record]]]:
    """What `explorers.learning_curves` shows of a ticket's other starts: their kind → label → records.

    Args:
        found: label → [R][draws][levels + 1] records; "ticket", and labels that begin with a kind of `text.MAGNITUDES`
            or with "signs transferred". The first draw is shown.
        level: which.
    """
    networks = at(found, level)
    return {
        kind: {name: runs for name, runs in networks.items() if name in ("dense", "ticket") or name.startswith(kind)}
        for kind in (*text.MAGNITUDES.values(), "signs transferred")
    }


def ahead(accuracy: Mapping[str, np.ndarray], one: str, other: str, level: int) -> str:
    """How far one kind of start is ahead of another at a level, replicate by replicate, in points, to glue.

    Args:
        accuracy: label → [R, L + 1] shares.
        one, other: labels.
        level: which.
    """
    return text.interval((accuracy[one] - accuracy[other])[:, level], 100, "pp")


def show_criteria(chapter: Chapter, accuracy: Mapping[str, np.ndarray], left: str) -> None:
    """Shows how accurate a start is under masks of several criteria, the best first; nothing if there are none.

    Args:
        chapter: where.
        accuracy: what a mask keeps, in words → [R] shares.
        left: the share of weights left, in words.
    """
    entries = [(words, stats.summary(100 * row), None) for words, row in accuracy.items()]
    if entries:
        figure = figures.ordering(sorted(entries, key=lambda entry: -entry[1].mean), "test accuracy (%)")
        words = f"What a mask keeps, {left} of the weights left, and test accuracy at early stopping, best first: mean "
        words += "(dot), 95 % interval (thick), range (thin)."
        chapter.figure(figure, caption=words)


def kept(
    records: Sequence[Sequence[Record]], ticket: np.ndarray, flipped: Mapping[str, np.ndarray], level: int
) -> dict[str, str]:
    """What keeping the survivors' trained values between rounds changes at a level, to glue: how many more of them have
    flipped their sign, and the lead in accuracy over tickets, where validation loss is smallest.

    Args:
        records: [R'][L' + 1] of the search that keeps values.
        ticket: [R, L + 1] accuracies.
        flipped: "weights kept" [R', L'] and "weights rewound" [R, L], shares of the survivors, levels from 1 on.
        level: which.
    """
    if not records or level >= len(records[0]):
        return dict.fromkeys(("flip_excess", "kept_gain"), "not known: that level was not reached")
    later, some = tidy.column(records, "early_stop_test_accuracy")[:, level], len(records)
    more = flipped["weights kept"][:, level - 1] - flipped["weights rewound"][:some, level - 1]
    return {
        "flip_excess": text.interval(more, 100, "pp", 1),
        "kept_gain": text.interval(later - ticket[:some, level], 100, "pp"),
    }


def flipped(records: Sequence[Record]) -> dict[str, object]:
    """How many survivors changed their sign in training, in all and in each layer, as means to glue.

    Args:
        records: [R] of `lottery.signs.Flipped`.
    """
    layers = (tidy.column(records, ("layers", name)).mean() for name in records[0].values["layers"])
    return {
        "flipped_now": 100 * float(tidy.column(records, "flipped").mean()),
        "flipped_layers": ", ".join(f"{100 * share:.1f} %" for share in layers),
    }
