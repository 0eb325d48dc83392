"""The quantities that the claims are judged by; ``book/claims.yml`` says them in words.

Arrays are [R, L]: one row a replicate, one column a level, NaN where nothing was run. Levels go from dense to sparse,
the dense network first. Accuracies are shares, differences of them percentage points. A quantity whose levels were not
run is left out of the result: :func:`lottery.stats.verdict` says so if the claim needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lottery.signs import auc
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


def flatness_quantities(predicted: Any, measured: Any, curvature: Any) -> Quantities:
    """Ratios that can go at once, predicted and measured: the quantities of B-C4 and B-C5.

    Args:
        predicted: law -> order -> [R, L] predicted ratio, laws "width" and "exact", orders "random" and "magnitude".
        measured: order -> [R, L] measured ratio.
        curvature: order -> [R, L] of the loss along the pruning projection.
    """
    measured = {order: np.asarray(values, dtype=np.float64) for order, values in measured.items()}
    found = measured["random"].mean(axis=0)
    out: Quantities = {"measured_trend": trend(found)}
    for law, orders in predicted.items():
        said = np.asarray(orders["random"]).mean(axis=0)
        out[f"{law}_within_10"] = float((abs(said - found) <= 0.1).mean())
    out["predicted_trend"] = trend(np.asarray(predicted["width"]["random"]).mean(axis=0))
    out["magnitude_minus_random"] = summary((measured["magnitude"] - measured["random"]).mean(axis=1))
    relative = np.asarray(curvature["magnitude"]) / np.asarray(curvature["random"])
    out["curvature_ratio"] = summary(relative.mean(axis=1))
    return out


def at_once_quantities(density: Any, error: Any, oneshot_error: Any, epsilon: float = 0.005) -> Quantities:
    """One-shot pruning where iterative pruning matches the dense network: the quantities of B-C6.

    Args:
        density: [L] share of weights left; density[0] is 1.
        error, oneshot_error: [R, L] test errors at the end of training; the dense network is the first of the first.
        epsilon: excess error up to which a network is matching.
    """
    density, error = np.asarray(density), np.asarray(error, dtype=np.float64)
    excess, oneshot = ((np.asarray(values) - error[:, :1]).mean(axis=0) for values in (error, oneshot_error))
    both = _run(error, np.asarray(oneshot_error)) & (density <= 0.2)
    if not both.any():
        return {}
    matches = both & (excess <= epsilon)
    return {
        "iterative_matching_levels": float(matches.sum()),
        "oneshot_excess_pp": 100 * float(oneshot[matches].max()) if matches.any() else 0.0,
    }


def adaptive_quantities(density: Any, accuracy: Any, adaptive_density: Any, adaptive_accuracy: Any) -> Quantities:
    """An adaptive schedule against a fixed ratio, at the sparsest level that lies within the fixed chain: B-C9.

    Args:
        density, accuracy: [L], [R, L] of the fixed chain.
        adaptive_density, adaptive_accuracy: [R, A] of the adaptive one; level 0 is the dense network in both.
    """
    place = -np.log(np.asarray(density, dtype=np.float64))
    accuracy, adaptive = np.asarray(accuracy, dtype=np.float64), -np.log(np.asarray(adaptive_density, dtype=np.float64))
    saved, gain = [], []
    for row, there, reached in zip(accuracy, adaptive, np.asarray(adaptive_accuracy), strict=True):
        level = int(np.flatnonzero(there <= place[-1] + 1e-9)[-1])
        saved.append(float(np.interp(there[level], place, np.arange(len(place)))) - level)
        gain.append(100 * (reached[level] - np.interp(there[level], place, row)))
    return {"adaptive_levels_saved": summary(saved), "adaptive_minus_fixed_pp": summary(gain)}


def retraining_quantities(density: Any, below: Any, accuracy: Any) -> Quantities:
    """What each kind of retraining does to small weights and to accuracy: the quantities of B-C7 and D6-C1.

    Args:
        density: [L] share of weights left, of the pruned levels.
        below: kind -> [R, L] share of survivors no larger than the largest weight that was cut.
        accuracy: kind -> [R, L] test accuracy at the end of training.
    """
    small = {kind: np.asarray(values, dtype=np.float64).mean(axis=1) for kind, values in below.items()}
    out: Quantities = {}
    if small["fine-tuning"].mean() > 0:
        out["small_weights_ratio"] = ratio(small["weights"], small["fine-tuning"])
        out["small_rate_ratio"] = ratio(small["learning rate"], small["fine-tuning"])
    sparse = np.asarray(density) < 0.2
    if sparse.any():
        end = {kind: 100 * np.asarray(values, dtype=np.float64)[:, sparse].mean(axis=1)
               for kind, values in accuracy.items()}  # fmt: skip
        out["weights_minus_tuning_pp"] = paired_difference(end["weights"], end["fine-tuning"])
        out["rate_minus_tuning_pp"] = paired_difference(end["learning rate"], end["fine-tuning"])
        out["rate_minus_weights_pp"] = paired_difference(end["learning rate"], end["weights"])
    return out


def likeness_quantities(density: Any, pairs: Any, nulls: Any) -> Quantities:
    """Pairs of tickets against pairs that chance makes: the quantities of A-C1, A-C2 and A-C5.

    Args:
        density: [L] share of weights left.
        pairs: for each level the "pair" arrays of :class:`lottery.scans.Compared`, [P, signed or not, matching,
            measure, layer].
        nulls: for each level the "degrees" arrays of the same comparisons, all draws in one axis.
    """
    sparse = [level for level, share in enumerate(density) if share <= 0.215]
    if not sparse:
        return {}
    signed, unsigned = ([[np.asarray(kind[level])[:, which, 1, 0].mean(axis=1) for kind in (pairs, nulls)]
                         for level in sparse] for which in (0, 1))  # fmt: skip
    best = int(np.argmax([auc(*at) for at in signed]))
    agreement, chance = (np.nanmean(np.asarray(kind[sparse[0]])[:, 0, 1, 2], axis=1) for kind in (pairs, nulls))
    return {
        "sign_auc": auc(*signed[best]),
        "sign_auc_loss": auc(*signed[best]) - auc(*unsigned[best]),
        "sign_agreement_excess_pp": 100 * float(agreement.min() - np.quantile(chance, 0.99)),
    }


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
