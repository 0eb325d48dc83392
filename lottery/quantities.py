"""The quantities that the claims of Frankle & Carbin (2019) are judged by; ``book/claims.yml`` says them in words.

Arrays are [R, L]: one row a replicate, one column a level, NaN where nothing was run. Levels go from dense to sparse,
the dense network first. Accuracies are shares, differences of them percentage points. A quantity whose levels were not
run is left out of the result: :func:`lottery.stats.verdict` says so if the claim needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lottery.stats import Summary, at_density, break_even, paired_difference, ratio, relative_change, summary, trend

Quantities = dict[str, Summary | float]


def ticket_quantities(density: Any, stop: Any, accuracy: Any, accuracy_end: Any) -> Quantities:
    """Tickets against the dense network: the quantities of C-C1 and C-C2.

    Args:
        density: [L] share of weights left; density[0] is 1.
        stop: [R, L] early-stopping iteration.
        accuracy, accuracy_end: [R, L] test accuracy at early stopping and at the end of training.
    """
    density, stop = np.asarray(density), np.asarray(stop, dtype=np.float64)
    out: Quantities = {}
    if (level := _level(density, 0.211, stop)) is not None:
        out["early_stop_change_21"] = relative_change(stop[:, level], stop[:, 0])
        out["early_stop_trend_to_21"] = trend(stop[:, : level + 1].mean(axis=0))
    if (level := _level(density, 0.036, stop)) is not None:
        out["early_stop_change_4"] = relative_change(stop[:, level], stop[:, 0])
    for ending, values in (("", np.asarray(accuracy)), ("_end", np.asarray(accuracy_end))):
        gain = 100 * (values - values[:, :1]).mean(axis=0)
        middle = _run(values) & (density >= 0.08) & (density <= 0.30)
        if middle.any():
            out["gain_max_pp" + ending] = float(gain[middle].max())
        if _level(density, 0.045, values) is not None:  # the study goes down to about 4 %
            out["gain_min_pp" + ending] = float(gain[_run(values) & (density >= 0.04) & (density < 1)].min())
    return out


def reinit_quantities(density: Any, stop: Any, accuracy: Any, reinit_stop: Any, reinit_accuracy: Any) -> Quantities:
    """Tickets against their masks with fresh weights: the quantities of C-C3.

    Args:
        density, stop, accuracy: [L], [R, L], [R, L] of the tickets, as in :func:`ticket_quantities`.
        reinit_stop, reinit_accuracy: [R, D, L] with D draws a ticket, averaged first; or [R, L].
    """
    density, stop, accuracy = np.asarray(density), np.asarray(stop, dtype=np.float64), np.asarray(accuracy)
    reinit_stop, reinit_accuracy = _over_draws(reinit_stop), _over_draws(reinit_accuracy)
    out: Quantities = {}
    if (level := _level(density, 0.211, stop, reinit_stop)) is not None:
        out["reinit_slowdown_21"] = ratio(reinit_stop[:, level], stop[:, level])
        out["reinit_loss_pp_21"] = paired_difference(100 * accuracy[:, level], 100 * reinit_accuracy[:, level])
    below = _run(stop, reinit_stop) & (density < 0.6)
    if below.any():
        out["reinit_slowdown_min"] = float((reinit_stop[:, below].mean(axis=0) / stop[:, below].mean(axis=0)).min())
    return out


def structure_quantities(density: Any, accuracy: Any, reinit_accuracy: Any, random_accuracy: Any) -> Quantities:
    """Ticket, fresh weights in its mask, random mask: the quantities of C-C4 for LeNet.

    Args:
        density, accuracy: [L], [R, L] of the tickets, at early stopping.
        reinit_accuracy, random_accuracy: [R, D, L] with D draws a ticket, averaged first; or [R, L].
    """
    ticket, reinit, random = np.asarray(accuracy), _over_draws(reinit_accuracy), _over_draws(random_accuracy)
    below = _run(ticket, reinit, random) & (np.asarray(density) < 0.2)
    if not below.any():
        return {}
    ticket, reinit, random = (100 * values[:, below] for values in (ticket, reinit, random))
    a, b, c = (values.mean(axis=0) for values in (ticket, reinit, random))
    return {
        "ticket_minus_reinit_pp": summary((ticket - reinit).mean(axis=1)),
        "reinit_minus_random_pp": summary((reinit - random).mean(axis=1)),
        "ordering_share": float(((a > b) & (b > c)).mean()),
    }


def oneshot_quantities(density: Any, accuracy: Any, oneshot_accuracy: Any) -> Quantities:
    """Iterative against one-shot pruning at the same densities: the quantities of C-C5.

    Args:
        density: [L] share of weights left; density[0] is 1.
        accuracy, oneshot_accuracy: [R, L] test accuracy at early stopping; the dense network is taken from the first.
    """
    density, accuracy, oneshot = np.asarray(density), np.asarray(accuracy), np.array(oneshot_accuracy, dtype=np.float64)
    oneshot[:, 0] = accuracy[:, 0]
    out: Quantities = {}
    if _run(oneshot)[1:].any() and _run(accuracy)[1:].any():
        lost = [
            break_even(density[_run(values)], (values - accuracy[:, :1])[:, _run(values)].mean(axis=0))
            for values in (oneshot, accuracy)
        ]
        out["break_even_ratio"] = lost[0] / lost[1]
    below = _run(accuracy, oneshot) & (density < 0.052)
    if below.any():
        out["iterative_minus_oneshot_pp"] = summary(100 * (accuracy - oneshot)[:, below].mean(axis=1))
    return out


def _over_draws(values: Any) -> np.ndarray:
    """[R, D, L] -> [R, L]: the mean of the draws that were run, NaN where none was; [R, L] stays."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 2:
        return values
    count = (~np.isnan(values)).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _run(*values: np.ndarray) -> np.ndarray:
    """[L] whether every replicate ran a level in all of these [R, L]."""
    return np.all([~np.isnan(v).any(axis=0) for v in values], axis=0)


def _level(density: np.ndarray, target: float, *values: np.ndarray) -> int | None:
    """The level at a density, or None if there is none or not every replicate ran it."""
    try:
        level = at_density(density, target)
    except ValueError:
        return None
    return level if _run(*values)[level] else None
