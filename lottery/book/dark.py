"""How much of a mask lies on inputs that are always, or nearly always, zero: weights that hardly learn anything."""

from collections.abc import Mapping, Sequence

import numpy as np

from .. import controls, masks
from ..engine.store import Record
from ..recipes import Run, Training
from . import text
from .chapter import Chapter

NAMES = "unlit", "seldom"
"""What values to glue are called: of inputs that are always zero, and of those that seldom are anything else."""


SELDOM = 0.001
"""An input that is not zero in less than this share of the examples seldom is."""


def counts(training: Training) -> list[controls.Unlit]:
    """What counts such inputs in the training examples, in the order of `NAMES`."""
    return [controls.Unlit(training), controls.Unlit(training, SELDOM)]


def shares(unlit: Record, found: Sequence[Sequence[Record]]) -> np.ndarray:
    """[R, L] which share of a mask's weights in the first layer lies on inputs that count as unlit.

    Args:
        unlit: record of `controls.Unlit`.
        found: [R][L] records of masks whose first layer has a weight for each unit and input.
    """
    dark = unlit.arrays["unlit"].astype(bool)
    first = [[masks.first_layer(record) for record in row] for row in found]
    return np.array([[layer[:, dark].sum() / layer.sum() for layer in row] for row in first])


def told(
    unlit: Sequence[Record], chains: Sequence[Sequence[Run]], used: Mapping[str, Record], sizes: Mapping[str, int]
) -> dict[str, str]:
    """What is said of these shares, to glue.

    Args:
        unlit: records of :func:`counts`; none if it was not counted.
        chains: [R][levels + 1] tickets.
        used: key → record, with those of their masks.
        sizes: the share of weights left, in words → level.

    Returns:
        For each of `NAMES` ``…``, how many inputs; ``…_random``, the share that a random mask has there in the mean;
        ``…_ticket``, that of tickets of the first size.
    """
    words = {f"{name}{part}": "not counted" for name in NAMES for part in ("", "_random", "_ticket")}
    for name, record in zip(NAMES, unlit, strict=False):
        values = record.values
        words[name] = f"{values['unlit']} of {values['inputs']}"
        words[f"{name}_random"] = f"{text.number(values['unlit'] / values['inputs'], 100, 1)} %"
        words[f"{name}_ticket"] = _by_size(record, chains, used, sizes)[0]
    return words


def show(
    chapter: Chapter, unlit: Sequence[Record], chains: Sequence[Sequence[Run]], sizes: Mapping[str, int]
) -> dict[str, str]:
    """Shows a table of these shares by size, a random mask's last, if they were counted; returns what `told` does.

    Args:
        chapter: where.
        unlit, chains, sizes: of :func:`told`.
    """
    words = told(unlit, chains, chapter.used, sizes)
    if unlit:
        columns = [_by_size(record, chains, chapter.used, sizes) for record in unlit]
        rows = [[f"ticket, {size}", *row] for size, *row in zip(sizes, *columns, strict=True)]
        rows.append(["random mask, any size", *(words[f"{name}_random"] for name in NAMES)])
        header = ["mask, weights left", f"never lit ({words['unlit']})", f"seldom lit ({words['seldom']})"]
        caption = "Share of the first layer's weights on pixels that are lit in no training image, or in less "
        chapter.show_table(
            header, rows, caption + "than one of a thousand: means with 95 % intervals, a random mask's mean."
        )
    return words


def random_masks(chain: Sequence[Run], replicate: int, at: Sequence[int]) -> list[list[Run | None]]:
    """[1][levels + 1] runs of `controls.random_lit` beside the tickets of these levels."""
    return [[controls.random_lit(run, replicate) if level in at else None for level, run in enumerate(chain)]]


def unfinished(
    accuracy: Mapping[str, np.ndarray],
    stop: Mapping[str, np.ndarray],
    left: Sequence[str],
    sizes: Mapping[int, int],
    at_once: Sequence[int],
) -> dict[str, str]:
    """Where controls may not have learned all they can, to glue.

    Args:
        accuracy, stop: kind → [R, levels + 1] at early stopping.
        left: [levels + 1] weights left in per cent.
        sizes: what a size is called → its level.
        at_once: sparse levels of one-shot tickets.

    Returns:
        ``random_stop_6`` and the like, when random masks stop, and ``live_stop_6`` of those on live pixels;
        ``beyond_live_14``, what the ticket's mask is worth beyond the latter; ``once_lead``, by how much tickets lead
        one-shot tickets, and when these stop.
    """
    told = {
        f"{name}_stop_{size}": text.number(stop[kind][:, level].mean(), 1, 0)
        for name, kind in (("random", "random mask"), ("live", "random, live"))
        for size, level in sizes.items()
    }
    beyond, ahead = (accuracy[a] - accuracy[b] for a, b in (("reinitialised", "random, live"), ("ticket", "one-shot")))
    told |= {f"beyond_live_{size}": text.interval(beyond[:, level], 100, "pp") for size, level in sizes.items()}
    once = {}
    for i in at_once:
        last = f"one-shot tickets at step {stop['one-shot'][:, i].mean():,.0f}"
        once[f"{left[i]} %"] = f"{text.interval(ahead[:, i], 100, 'pp')} ({last})"
    return told | {"once_lead": text.each(once)}


def of_live(accuracy: Mapping[str, np.ndarray], at: Sequence[int], left: Sequence[str]) -> dict[str, str]:
    """What a mask is worth beyond the pixels that it leaves out, to glue.

    Args:
        accuracy: kind → [R, levels + 1] shares, "reinitialised", "random mask" and "random, live" among them.
        at: levels at which the latter was run.
        left: [levels + 1] weights left in per cent.

    Returns:
        ``live_at``, the sizes; ``beyond_live``, the ticket's mask on fresh weights minus the random mask that has its
        live pixels, by size; ``live_gain``, what the latter has over any random mask, by size.
    """
    names = ("live_at", "beyond_live", "live_gain")
    if not at:
        return dict.fromkeys(names, "not run")
    sides = ("reinitialised", "random, live"), ("random, live", "random mask")
    gaps = (text.by_size([left[i] for i in at], (accuracy[a] - accuracy[b])[:, list(at)]) for a, b in sides)
    return dict(zip(names, (f"{', '.join(left[i] for i in at)} % left", *gaps), strict=True))


def _by_size(
    unlit: Record, chains: Sequence[Sequence[Run]], used: Mapping[str, Record], sizes: Mapping[str, int]
) -> list[str]:
    """The share that tickets have there, a text for each size."""
    found = [[used[chain[level].mask.key] for level in sizes.values()] for chain in chains]
    return [text.interval(row, 100, "%") for row in shares(unlit, found).T]
