"""The quantities that the claims are judged by; ``book/claims.yml`` says them in words.

Arrays are [R, L]: one row a replicate, one column a level, NaN where nothing was run. Levels go from dense to sparse,
the dense network first. Accuracies are shares, differences of them percentage points. A quantity whose levels were not
run is left out of the result: :func:`lottery.stats.verdict` says so if the claim needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
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


def convolution_quantities(networks: Mapping[str, tuple[Any, Any, Any]], least: float = 0.02) -> Quantities:
    """Tickets of several networks, each against its own dense network: the quantities of C-C6.

    Args:
        networks: name ("Conv-2") -> (density [L], early stop [R, L], test accuracy there [R, L]).
        least: the smallest density that is asked not to lose; left out if a network was not pruned that far.
    """
    out: Quantities = {}
    worst, deep = [], True
    for name, (density, stop, accuracy) in networks.items():
        density, stop = np.asarray(density), np.asarray(stop, dtype=np.float64).mean(axis=0)
        gain = 100 * (np.asarray(accuracy) - np.asarray(accuracy)[:, :1]).mean(axis=0)
        key = name.lower().replace("-", "_")
        out[f"speedup_{key}"] = float((stop[0] / np.maximum(stop[1:], 1)).max())
        out[f"gain_{key}_pp"] = float(gain[1:].max())
        worst.append(gain[1:][density[1:] >= least])
        deep &= density[-1] <= 1.25 * least
    if networks and deep:
        out["gain_conv_min_pp"] = float(np.concatenate(worst).min())
    return out


def convolution_structure_quantities(networks: Mapping[str, tuple[Any, Any, Any, Any]]) -> Quantities:
    """Ticket, fresh weights in its mask, random mask of several networks, averaged: the quantities of C-C4b.

    Args:
        networks: name -> the arguments of :func:`structure_quantities`.
    """
    found: dict[str, list[np.ndarray]] = {"conv_ticket_minus_reinit_pp": [], "conv_reinit_minus_random_pp": []}
    for density, accuracy, *controls in networks.values():
        ticket, reinit, random = 100 * np.asarray(accuracy), *(100 * _over_draws(values) for values in controls)
        below = _run(ticket, reinit, random) & (np.asarray(density) < 0.2)
        if not below.any():
            return {}
        for rows, difference in zip(found.values(), (ticket - reinit, reinit - random), strict=True):
            rows.append(difference[:, below].mean(axis=1))
    return {name: summary(np.mean(rows, axis=0)) for name, rows in found.items() if rows}


def warmup_quantities(density: Any, accuracy: Mapping[str, Any], reinit: Mapping[str, Any], least: float) -> Quantities:
    """Ticket minus reinitialised ticket at several settings of the learning rate: the gaps of C-C7.

    Args:
        density: [L] share of weights left; density[0] is 1.
        accuracy: setting ("high", "low", "warm") -> [R, L] test accuracy at the end of training, of tickets.
        reinit: the same of reinitialised tickets, [R, D, L] with D draws, averaged first; or [R, L].
        least: the smallest density that is looked at; the largest is 43 %.

    Returns:
        ``gap_…_pp`` of each setting, and, with "high" among them, how far the best ticket of each other setting falls
        short of the dense network there: ``…_shortfall_pp``.
    """
    density, out = np.asarray(density), {}
    within = (density >= least) & (density <= 0.43)
    for name, values in accuracy.items():
        ticket, fresh = 100 * np.asarray(values, dtype=np.float64), 100 * _over_draws(reinit[name])
        if (both := within & _run(ticket, fresh)).any():
            out[f"gap_{name}_pp"] = summary((ticket - fresh)[:, both].mean(axis=1))
        if name != "high" and "high" in accuracy and within.any():
            usual = 100 * np.asarray(accuracy["high"])[:, 0].mean()
            out[f"{name}_shortfall_pp"] = float(usual - ticket[:, within].mean(axis=0).max())
    return out


def scope_quantities(density: Any, accuracy: Any, layer_density: Any, layer_accuracy: Any) -> Quantities:
    """Pruning the smallest weights of all layers together against layer by layer: the quantities of C-C8.

    Args:
        density, accuracy: [L], [R, L] of global pruning, test accuracy at the end of training; the first is dense.
        layer_density, layer_accuracy: the same of layer-wise pruning, level by level at the same density.
    """
    both = [
        (np.asarray(d), np.asarray(a, dtype=np.float64))
        for d, a in ((density, accuracy), (layer_density, layer_accuracy))
    ]
    ends = [break_even(share, (values - values[:, :1]).mean(axis=0)) for share, values in both]
    out: Quantities = {"global_break_even": ends[0], "scope_ratio": ends[1] / ends[0]}
    sparse = both[0][0] < 0.07
    if sparse.any():
        out["global_minus_layer_pp"] = summary(100 * (both[0][1] - both[1][1])[:, sparse].mean(axis=1))
    return out


def anatomy_quantities(density: Any, moves: Any) -> Quantities:
    """How a ticket's weights start and move, beside the rest of the dense network: the quantities of C-C9.

    Args:
        density: [L] share of weights left.
        moves: [R, L, layer, group, measure], the summaries of :class:`lottery.movement.Moved`; the last layer is the
            output layer, the one before it the second hidden one.
    """
    moves = np.asarray(moves, dtype=np.float64)
    if (level := _level(np.asarray(density), 0.211, moves[:, :, 0, 0, 0])) is None:
        return {}
    distance, grown, positive, dip = np.moveaxis(moves[:, level], -1, 0)  # each [R, layer, group]
    return {
        "moved_ratio": summary((distance[..., 1] / distance[..., 2]).min(axis=1)),
        "away_share": summary(grown[..., 1].min(axis=1)),
        "positive_second_pp": summary(100 * (positive[:, -2, 1] - 0.5)),
        "positive_output_pp": summary(100 * (positive[:, -1, 1] - 0.5)),
        "dip_first": summary(dip[:, 0, 1]),
        "dip_upper": summary(dip[:, 1:, 1].max(axis=1)),
    }


def capacity_quantities(weights: Any, accuracy: Any, least: int = 2000) -> Quantities:
    """Tickets of networks of several widths, each against its own dense network: the quantities of C-C10.

    Args:
        weights: from the narrowest to the widest network, each [L] weights left, the dense network first; their
            numbers of levels may differ.
        accuracy: for each [R, L] test accuracy at early stopping.
        least: number of weights from which on the widest and the narrowest are compared.
    """
    weights = [np.asarray(counts, dtype=np.float64) for counts in weights]
    accuracy = [100 * np.asarray(values, dtype=np.float64) for values in accuracy]
    even = [
        break_even(counts / counts[0], (values - values[:, :1]).mean(axis=0)) * counts[0]
        for counts, values in zip(weights, accuracy, strict=True)
    ]
    out: Quantities = {
        "break_even_spread": max(even) / min(even),
        "break_even_least": min(even),
        "break_even_most": max(even),
    }
    (narrow, a), (wide, b) = ((np.log(weights[i][::-1]), accuracy[i][:, ::-1]) for i in (0, -1))
    low, high = max(narrow[0], wide[0], np.log(least)), min(narrow[-1], wide[-1])
    if low < high:
        at = np.linspace(low, high, 100)
        out["wide_minus_narrow_pp"] = summary(
            [(np.interp(at, wide, y) - np.interp(at, narrow, x)).mean() for x, y in zip(a, b, strict=True)]
        )
    return out


def noise_quantities(stop: Any, accuracy: Any) -> Quantities:
    """Tickets with noise on their starting weights, beside the ticket and its reinitialisation: C-C11.

    Args:
        stop, accuracy: [R] early-stopping iteration and test accuracy there, by name: "ticket", "reinitialised", and
            the scale of the noise as a number; quantities whose scale is not there are left out.
    """
    stop, accuracy = ({key: np.asarray(v, dtype=np.float64) for key, v in part.items()} for part in (stop, accuracy))
    out: Quantities = {}
    if 0.5 in stop:
        out["noise_half_loss_pp"] = paired_difference(100 * accuracy["ticket"], 100 * accuracy[0.5])
        out["noise_half_slowdown"] = ratio(stop[0.5], stop["ticket"])
    if 3.0 in stop:
        out["noise_three_gain_pp"] = paired_difference(100 * accuracy[3.0], 100 * accuracy["reinitialised"])
        out["noise_three_lead"] = ratio(stop["reinitialised"], stop[3.0])
    return out


def continued_quantities(
    density: Any, stop: Any, accuracy: Any, continued_stop: Any, continued_accuracy: Any
) -> Quantities:
    """Masks found by resetting against masks found by training on, both from the start: C-C12.

    Args:
        density: [L] share of weights left; density[0] is 1.
        stop, accuracy: [R, L] early-stopping iteration and test accuracy there, of iterative pruning with resetting.
        continued_stop, continued_accuracy: [R, L] the same with the other masks; the dense network is taken from the
            first.
    """
    density, stop, accuracy = (np.asarray(values, dtype=np.float64) for values in (density, stop, accuracy))
    continued = np.array(continued_accuracy, dtype=np.float64)
    continued[:, 0] = accuracy[:, 0]
    out: Quantities = {}
    if (run := _run(accuracy, continued))[1:].any():
        lost = [
            break_even(density[run], (values - accuracy[:, :1])[:, run].mean(axis=0))
            for values in (continued, accuracy)
        ]
        out["resetting_break_even_ratio"] = lost[0] / lost[1]
    below = run & (density < 0.2)
    if below.any():
        out["resetting_minus_continued_pp"] = summary(100 * (accuracy - continued)[:, below].mean(axis=1))
        slow, fast = (np.asarray(values)[:, below].mean(axis=1) for values in (continued_stop, stop))
        out["continued_slowdown"] = ratio(slow, fast)
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
        end = {
            kind: 100 * np.asarray(values, dtype=np.float64)[:, sparse].mean(axis=1)
            for kind, values in accuracy.items()
        }
        out["weights_minus_tuning_pp"] = paired_difference(end["weights"], end["fine-tuning"])
        out["rate_minus_tuning_pp"] = paired_difference(end["learning rate"], end["fine-tuning"])
        out["rate_minus_weights_pp"] = paired_difference(end["learning rate"], end["weights"])
    return out


def likeness_quantities(density: Any, pairs: Any, nulls: Any) -> Quantities:
    """Pairs of tickets against pairs that chance makes: the quantities of A-C1, A-C2 and A-C5.

    Args:
        density: [L] share of weights left.
        pairs: for each level the "pair" arrays of :class:`lottery.signs.Compared`, [P, signed or not, matching,
            measure, layer].
        nulls: for each level the "degrees" arrays of the same comparisons, all draws in one axis.
    """
    sparse = [level for level, share in enumerate(density) if share <= 0.215]
    if not sparse:
        return {}
    signed, unsigned = (
        [[np.asarray(kind[level])[:, which, 1, 0].mean(axis=1) for kind in (pairs, nulls)] for level in sparse]
        for which in (0, 1)
    )
    best = int(np.argmax([auc(*at) for at in signed]))
    agreement, chance = (np.nanmean(np.asarray(kind[sparse[0]])[:, 0, 1, 2], axis=1) for kind in (pairs, nulls))
    return {
        "sign_auc": auc(*signed[best]),
        "sign_auc_loss": auc(*signed[best]) - auc(*unsigned[best]),
        "sign_agreement_excess_pp": 100 * float(agreement.min() - np.quantile(chance, 0.99)),
    }


def sign_quantities(density: Any, ticket: Any, altered: Any, transferred: Any) -> Quantities:
    """Tickets whose starts keep their signs or do not: the quantities of A-C4, D2-C1 and D5-C1.

    Args:
        density: [L] share of weights left; density[0] is 1.
        ticket: [R, L] test accuracy.
        altered: (values, signs) as of :func:`tickets.sign_ablation` -> [R, L]; all six.
        transferred: [R, L] of the masks on new starts with the signs that the tickets ended with.
    """
    density, ticket, transferred = np.asarray(density), np.asarray(ticket), np.asarray(transferred)
    kinds = {
        signs: [100 * (ticket - np.asarray(values)) for (_, which), values in altered.items() if which == signs]
        for signs in ("original", "random")
    }
    out: Quantities = {}
    if (level := _level(density, 0.134, *kinds["original"], *kinds["random"])) is not None:
        kept, drawn = (100 * np.asarray(altered["new", signs])[:, level] for signs in ("original", "random"))
        out["kept_loss_pp"] = paired_difference(100 * ticket[:, level], kept)
        out["redrawn_loss_pp"] = paired_difference(100 * ticket[:, level], drawn)
        run = _run(*kinds["original"]) & (density >= 0.1) & (density < 1)
        out["signed_loss_max_pp"] = float(max(loss[:, run].mean(axis=0).max() for loss in kinds["original"]))
        out["unsigned_loss_min_pp"] = float(min(loss[:, level].mean() for loss in kinds["random"]))
    if (level := _level(density, 0.134, ticket, transferred, *kinds["random"])) is not None:
        moved, drawn = (100 * np.asarray(values)[:, level] for values in (transferred, altered["new", "random"]))
        out["transfer_loss_pp"] = paired_difference(100 * ticket[:, level], moved)
        out["transfer_gain_pp"] = paired_difference(moved, drawn)
    return out


def criteria_quantities(accuracy: Any) -> Quantities:
    """Masks by other criteria than the final magnitude: the quantities of D2-C2.

    Args:
        accuracy: criterion -> [R] test accuracy at one density; a criterion that was not run is left out.
    """
    out: Quantities = {}
    percent = {name: 100 * np.asarray(values) for name, values in accuracy.items()}
    if {"magnitude", "magnitude_increase"} <= set(percent):
        out["increase_gain_pp"] = paired_difference(percent["magnitude_increase"], percent["magnitude"])
    if {"magnitude", "random"} <= set(percent):
        out["final_gain_pp"] = paired_difference(percent["magnitude"], percent["random"])
    if {"small_final", "small_init", "random"} <= set(percent):
        losses = [paired_difference(percent["random"], percent[name]) for name in ("small_final", "small_init")]
        out["losing_loss_pp"] = min(losses, key=lambda loss: loss.mean)
    return out


def supermask_quantities(same_sign: Any, random: Any) -> Quantities:
    """Networks of signed constants that are masked and not trained: the quantities of D2-C3.

    Args:
        same_sign, random: [R, L] test accuracy by level, for masks of weights that end large with the sign that they
            started with, and for random masks of the same counts.
    """
    same_sign, random = np.asarray(same_sign), np.asarray(random)
    run = np.flatnonzero(_run(same_sign, random))
    if not run.size:
        return {}
    best = run[same_sign[:, run].mean(axis=0).argmax()]
    return {
        "supermask_accuracy": summary(same_sign[:, best]),
        "supermask_gain_pp": paired_difference(100 * same_sign[:, best], 100 * random[:, best]),
    }


def flip_quantities(rewound: Any, kept: Any, rewound_accuracy: Any, kept_accuracy: Any) -> Quantities:
    """Learning-rate rewinding against weight rewinding: the quantities of D5-C2, at the last level.

    Args:
        rewound, kept: [R, L] share of the survivors that end with another sign than the network started with, weights
            rewound or kept.
        rewound_accuracy, kept_accuracy: [R, L] test accuracy.
    """
    rewound, kept = np.asarray(rewound), np.asarray(kept)
    if not kept.size or not kept.shape[1]:
        return {}
    return {
        "flip_excess_pp": paired_difference(100 * kept[:, -1], 100 * rewound[:, -1]),
        "kept_gain_pp": paired_difference(
            100 * np.asarray(kept_accuracy)[:, -1], 100 * np.asarray(rewound_accuracy)[:, -1]
        ),
    }


def pattern_quantities(density: Any, enriched: Any, arranged: Any, rho: Any, p: Any) -> Quantities:
    """Patterns of signs in tickets, at the sparse level and the layer in which most are enriched: A-C3.

    Args:
        density: [L] share of weights left.
        enriched, arranged: [L, K] number of orbits that are enriched in each of K layers, whichever of the nulls
            "count" and "support" is asked, and against the null "balance".
        rho, p: [L, K, R] of :func:`lottery.kernels.rank_correlation`: ρ and the last number that it gives, of a
            ticket's counts with those of dense networks from other starts.
    """
    enriched = np.where(np.asarray(density)[:, None] <= 0.215, enriched, -1)
    if enriched.max() < 0:
        return {}
    at = np.unravel_index(enriched.argmax(), enriched.shape)
    return {
        "enriched_orbits": float(enriched[at]),
        "arranged_orbits": float(np.asarray(arranged)[at]),
        "pattern_rho": summary(np.asarray(rho)[at]),
        "pattern_p": float(np.max(np.asarray(p)[at])),
    }


def barrier_quantities(excess: Any, barrier: Any, steps: Any, first: int = 3) -> Quantities:
    """Barriers between successive levels against the excess error of the sparser one: the quantities of B-C1.

    Args:
        excess: [T, R, L] test error of levels 1 to L minus that of the dense network, T rewind points.
        barrier: statistics -> [T, R, L] barrier between level l − 1 and level l, for "averaged" and "re-estimated".
        steps: [T] the rewind points.
        first: the denser level of a pair is at least this one.
    """
    excess = 100 * np.asarray(excess, dtype=np.float64)[..., first:]
    barriers = {kind: 100 * np.asarray(values, dtype=np.float64)[..., first:] for kind, values in barrier.items()}
    out: Quantities = {}
    if excess.size == 0:
        return out
    if (low := excess < 0.25).any():
        out["connected_share"] = float((barriers["averaged"][low] < 1).mean())
    if (high := excess > 2.5).any():
        out["barred_share"] = float((barriers["averaged"][high] > 5).mean())
    for kind, name in (("averaged", "barrier_auc"), ("re-estimated", "barrier_auc_reestimated")):
        good, bad = (barriers[kind][part] for part in (excess < 0.5, excess >= 0.5))
        if good.size and bad.size:
            out[name] = auc(good, bad)
    zero = np.asarray(steps) == 0
    if zero.any():
        out["zero_barrier_min_pp"] = float(barriers["averaged"][zero].min())
    return out


def chaining_quantities(excess: Any, barrier: Any, dense_barrier: Any, epsilon: float = 0.005) -> Quantities:
    """Barriers between successive levels and from the dense network to each, at one rewind point: B-C2.

    Args:
        excess: [R, L] as in :func:`barrier_quantities`.
        barrier, dense_barrier: statistics -> [R, L] barriers from level l − 1 and from the dense network to level l.
        epsilon: excess error up to which a network is matching; the levels up to the last that is are looked at.
    """
    match = np.flatnonzero(np.asarray(excess, dtype=np.float64).mean(axis=0) <= epsilon)
    mean = {
        kind: (100 * np.mean(barrier[kind], axis=0), 100 * np.mean(values, axis=0))
        for kind, values in dense_barrier.items()
    }
    out: Quantities = {
        "dense_barrier_trend": trend(mean["averaged"][1]),
        "dense_barrier_trend_reestimated": trend(mean["re-estimated"][1]),
    }
    if match.size:
        successive, whole = mean["averaged"]
        out["successive_max_pp"] = float(successive[match].max())
        out["dense_minus_successive_pp"] = float(whole[match[-1]] - successive[match[-1]])
    return out


def late_quantities(density: Any, accuracy: Any, late_accuracy: Any) -> Quantities:
    """Rewinding late against rewinding to a matching point, at 11 % of the weights: the quantity of B-C10.

    Args:
        density: [L] share of weights left.
        accuracy, late_accuracy: [R, L] test accuracy at the end of training.
    """
    accuracy, late = np.asarray(accuracy, dtype=np.float64), np.asarray(late_accuracy, dtype=np.float64)
    if (level := _level(np.asarray(density), 0.107, accuracy, late)) is None:
        return {}
    return {"late_loss_pp": paired_difference(100 * accuracy[:, level], 100 * late[:, level])}


def robustness_quantities(zero: Any, matching: Any) -> Quantities:
    """Barriers between a ticket and its twin from a start as far off as the next level's: the quantities of B-C3.

    Args:
        zero, matching: "random" (direction) and "mask" (through another mask) -> [R] barriers with averaged
            statistics, rewound to 0 and to a matching rewind point.
    """
    return {
        f"{kind}_{name}_pp": summary(100 * np.asarray(barriers[kind]))
        for name, barriers in (("zero", zero), ("matching", matching))
        for kind in ("random", "mask")
    }


def stability_quantities(dense_steps: Any, dense: Any, steps: Any, tickets: Any, excess: Any) -> Quantities:
    """Instability of the dense network and of tickets by the step that twins part at: D1-C1 and D1-C2.

    Args:
        dense_steps, dense: [K] steps and [K, R] barriers between dense twins that part there.
        steps: [T] rewind points of the tickets.
        tickets, excess: [T, R, L] barriers between twins of a ticket, and the ticket's excess test error over dense.
    """
    whole, sparse = 100 * np.mean(dense, axis=1), 100 * np.mean(tickets, axis=1)
    matches = 100 * np.mean(excess, axis=1) <= 0.2
    out: Quantities = {
        "dense_stable_step": _stable_from(dense_steps, whole),
        "ticket_stable_step": _stable_from(steps, sparse.max(axis=1)),
        "stable_agreement": float((matches == (sparse < 2)).mean()),
    }
    zero = np.asarray(dense_steps) == 0
    if zero.any():
        out["dense_zero_barrier_pp"] = float(whole[zero].max())
    return out


def _stable_from(steps: Any, barriers: np.ndarray) -> float:
    """The first step from which on every barrier is below 2 points (Frankle et al. 2020); infinite if there is none."""
    order = np.argsort(steps)
    unstable = np.flatnonzero(barriers[order] >= 2)
    first = unstable[-1] + 1 if unstable.size else 0
    return float(np.asarray(steps)[order][first]) if first < len(order) else float("inf")


def transplant_quantities(found: Any, rewound: Any, midpoint: Any) -> Quantities:
    """Masks found without rewinding, on the rewind point and trained: the quantities of B-C8.

    Args:
        found, rewound: [R, L] accuracy of the networks that the masks were found with, and of the rewound ones.
        midpoint: [R, L] accuracy halfway between the two.
    """
    found, rewound, midpoint = (100 * np.asarray(values, dtype=np.float64) for values in (found, rewound, midpoint))
    return {
        "transplant_loss_pp": float((found - rewound).mean(axis=0).max()),
        "transplant_midpoint_pp": float((midpoint - np.minimum(found, rewound)).mean(axis=0).min()),
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
