"""The quantities that the claims are judged by; ``lottery/book/claims.yml`` says them in words.

Arrays are [R, L]: one row a replicate, one column a level, NaN where nothing was run. Levels go from dense to sparse,
the dense network first. Accuracies are shares, differences of them percentage points. A quantity whose levels were not
run is left out of the result, and leaves the check that asks for it open. Levels are picked on the validation set.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from .. import association, marks, stats
from ..stats import Summary, at_density, break_even
from ..worth import Ledger

Quantities = dict[str, Summary | float]


def _where_measured(statistic: Callable[..., Summary]) -> Callable[..., Summary]:
    """The statistic, NaN where a replicate has no finite value or a ratio's base, as an accuracy beyond guessing, is
    negative on average: that leaves the check open that asks for it."""
    relative = statistic in (stats.ratio, stats.relative_change)

    @functools.wraps(statistic)
    def found(*rows: ArrayLike) -> Summary:
        finite = all(np.isfinite(np.asarray(row, dtype=np.float64)).all() for row in rows)
        if finite and not (relative and np.mean(np.asarray(rows[1], dtype=np.float64)) < 0):
            return statistic(*rows)
        return Summary(len(np.atleast_1d(rows[0])), *5 * [math.nan])

    return found


_summary = functools.partial(stats.summary, scale=stats.SHARES)
summary, ratio, relative_change, paired_difference = map(
    _where_measured, (_summary, stats.ratio, stats.relative_change, stats.paired_difference)
)


def points_above(a: ArrayLike, b: ArrayLike) -> Summary:
    """By how many percentage points [R] shares are larger than others, replicate by replicate."""
    a, b = _floats(a, b)
    return paired_difference(100 * a, 100 * b)


GUESSING = 0.9
"""Test error of guessing one of ten classes."""

SPARSE = 0.2
"""Ways of retraining are compared with less than this share of the weights."""


DENSEST = 0.43
"""What original weights are worth in deeper networks is compared with at most this share of the weights."""


def tolerance(dense_error: ArrayLike | None = None) -> float:
    """ε: the excess test error up to which a network is matching, as a share.

    The larger of 0.5 percentage points and 6 % of the dense network's error: the precursor's 0.5 points at its error of
    8.35 %, and as much in proportion where training was shorter.

    Args:
        dense_error: [R] test errors of the dense network, shares; without them, the precursor's 0.5 points.
    """
    return 0.005 if dense_error is None else max(0.005, 0.06 * float(np.asarray(dense_error).mean()))


def recovered(a: ArrayLike, native: ArrayLike, random: ArrayLike) -> Summary | float:
    """How much of the lead of native networks over random ones others have: (a − random) / (native − random), of means.

    Args:
        a, native, random: [R] accuracies.

    Returns:
        The ratio; NaN where native networks have no lead, or none that three replicates or more can tell from zero.
    """
    a, native, random = _floats(a, native, random)
    found = ratio(a - random, native - random) if (native - random).mean() > 0 else None
    return found if found and (found.bounded or found.n < 3) else math.nan


def left_out(function: Callable[..., Quantities], *values: ArrayLike) -> dict[str, list[float]]:
    """Every quantity that a function of [R, L] arrays gives, with each of the R replicates left out in turn.

    Returns:
        name -> R means; empty if there is one replicate only.
    """
    arrays = [np.asarray(one) for one in values]
    count = len(arrays[0]) if len(arrays[0]) > 1 else 0
    parts = [function(*(np.delete(array, r, axis=0) for array in arrays)) for r in range(count)]
    return {name: [_mean(part[name]) for part in parts] for name in (parts[0] if parts else ())}


def ticket_quantities(
    density: ArrayLike,
    stop: ArrayLike,
    accuracy: ArrayLike,
    accuracy_end: ArrayLike,
    validation: ArrayLike | None = None,
    validation_end: ArrayLike | None = None,
) -> Quantities:
    """Tickets against the dense network: the quantities of C-C1, C-C2 and C-C2b.

    Args:
        density: [L] share of weights left; density[0] is 1.
        stop: [R, L] early-stopping iteration; a replicate that ends at an earlier level has NaN from there on, and
            counts in what asks for no later one.
        accuracy, accuracy_end: [R, L] test accuracy at early stopping and at the end of training; the R may differ.
        validation, validation_end: [R, L] validation accuracy there: picks the level that is compared.
    """
    density, stop = _floats(density, stop)
    out: Quantities = {}
    if len(rows := _down_to(density, 0.211, stop)):
        out["early_stop_change_21"] = relative_change(rows[:, -1], rows[:, 0])
        out["early_stop_trend_to_21"] = _trend(rows)
    if len(rows := _down_to(density, 0.036, stop)):
        out["early_stop_change_4"] = relative_change(rows[:, -1], rows[:, 0])
    for ending, values, chooses in (("", accuracy, validation), ("_end", accuracy_end, validation_end)):
        gain = _gain(values)
        if (level := _picked(chooses, _run(gain) & (density >= 0.08) & (density <= 0.30))) is not None:
            out["gain_max_pp" + ending] = summary(gain[:, level])
        if _level(density, 0.045, gain) is not None:  # the study goes down to about 4 %
            out["gain_min_pp" + ending] = smallest_mean(gain[:, _run(gain) & (density >= 0.035) & (density < 1)])
    return out


def reinit_quantities(
    density: ArrayLike, stop: ArrayLike, accuracy: ArrayLike, reinit_stop: ArrayLike, reinit_accuracy: ArrayLike
) -> Quantities:
    """Tickets against their masks with fresh weights: the quantities of C-C3.

    Args:
        density, stop, accuracy: [L], [R, L], [R, L] of the tickets, as in :func:`ticket_quantities`.
        reinit_stop, reinit_accuracy: [R, D, L] with D draws a ticket, averaged first; or [R, L].
    """
    density, stop, accuracy = _floats(density, stop, accuracy)
    reinit_stop, reinit_accuracy = _over_draws(reinit_stop), _over_draws(reinit_accuracy)
    out: Quantities = {}
    if (level := _level(density, 0.211, stop, reinit_stop)) is not None:
        out["reinit_slowdown_21"] = ratio(reinit_stop[:, level], stop[:, level])
        out["reinit_loss_pp_21"] = points_above(accuracy[:, level], reinit_accuracy[:, level])
    below = _run(stop, reinit_stop) & (density < 0.6)
    if below.any():
        slow, fast = reinit_stop[:, below], stop[:, below]
        out["reinit_slowdown_min"] = stats.smallest(
            lambda which, confidence: ratio(slow[:, which], fast[:, which], confidence), slow.shape[1]
        )
    return out


def structure_quantities(
    density: ArrayLike, accuracy: ArrayLike, reinit_accuracy: ArrayLike, random_accuracy: ArrayLike
) -> Quantities:
    """Ticket, fresh weights in its mask, random mask: the quantities of C-C4 for LeNet.

    Args:
        density, accuracy: [L], [R, L] of the tickets, at early stopping.
        reinit_accuracy, random_accuracy: [R, D, L] with D draws a ticket, averaged first; or [R, L].
    """
    density, ticket = _floats(density, accuracy)
    reinit, random = _over_draws(reinit_accuracy), _over_draws(random_accuracy)
    below = _run(ticket, reinit, random) & (density < 0.2) & (density >= 0.035)
    if not below.any():
        return {}
    ticket, reinit, random = (100 * values[:, below] for values in (ticket, reinit, random))

    def ordered(*kinds):
        a, b, c = (values.mean(axis=0) for values in kinds)
        return float(((a > b) & (b > c)).mean())

    return {
        "ticket_minus_reinit_pp": summary((ticket - reinit).mean(axis=1)),
        "reinit_minus_random_pp": summary((reinit - random).mean(axis=1)),
        "ordering_share": stats.bootstrap(ordered, ticket, reinit, random, within=(0, 1)),
    }


def live_quantities(density: ArrayLike, reinit_accuracy: ArrayLike, live_accuracy: ArrayLike) -> Quantities:
    """A ticket's mask on fresh weights beside random masks with its count on lit inputs: the quantity of C-C4p.

    Args:
        density: [L] of the tickets.
        reinit_accuracy, live_accuracy: [R, L] at early stopping; NaN at levels that were not run.
    """
    density, reinit, live = _floats(density, reinit_accuracy, live_accuracy)
    below = _run(reinit, live) & (density < 0.2) & (density >= 0.035)
    return {"reinit_minus_live_pp": summary(100 * (reinit - live)[:, below].mean(axis=1))} if below.any() else {}


def oneshot_quantities(density: ArrayLike, accuracy: ArrayLike, oneshot_accuracy: ArrayLike) -> Quantities:
    """Iterative against one-shot pruning at the same densities: the quantities of C-C5.

    Args:
        density: [L] share of weights left; density[0] is 1.
        accuracy, oneshot_accuracy: [R, L] test accuracy at early stopping; the dense network is taken from the first.
    """
    density, accuracy = _floats(density, accuracy)
    oneshot = _with_dense(oneshot_accuracy, accuracy)
    out: Quantities = {}
    if _run(oneshot)[1:].any() and _run(accuracy)[1:].any():
        out["break_even_ratio"] = _break_even_ratio(density, oneshot, accuracy)
    below = _run(accuracy, oneshot) & (density < 0.052)
    if below.any():
        out["iterative_minus_oneshot_pp"] = summary(100 * (accuracy - oneshot)[:, below].mean(axis=1))
    return out


def convolution_quantities(
    networks: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]], least: float = 0.02
) -> Quantities:
    """Tickets of several networks, each against its own dense network: the quantities of C-C6, C-C6b and C-C6c.

    Args:
        networks: name ("Conv-2") -> (density [L], early stop [R, L], test accuracy there [R, L], validation accuracy
            there [R, L]); the last picks levels.
        least: the smallest density that is asked not to lose; left out if a network was not pruned that far.
    """
    out: Quantities = {}
    for name, (density, stop, accuracy, validation) in networks.items():
        fastest = fastest_level(density, stop, accuracy, validation)
        density, stop, gain = np.asarray(density), np.maximum(np.asarray(stop, dtype=np.float64), 1), _gain(accuracy)
        key = name.lower().replace("-", "_")
        out[f"speedup_{key}"] = ratio(stop[:, 0], stop[:, fastest])
        if (level := _picked(validation, _run(gain) & (density < 1))) is not None:
            out[f"gain_{key}_pp"] = summary(gain[:, level])
        down = _run(gain) & (density < 1) & (density >= least)
        if density[-1] <= 1.25 * least and down.any():
            out[f"gain_{key}_min_pp"] = smallest_mean(gain[:, down])
    return out


def fastest_level(density: ArrayLike, stop: ArrayLike, accuracy: ArrayLike, validation: ArrayLike) -> int:
    """The level whose tickets learn fastest in the mean, of those that validation finds no less accurate than dense.

    A network at chance stops early, too, and does not count as fast.

    Args:
        density, stop, accuracy, validation: of one network, as in :func:`convolution_quantities`.

    Returns:
        The level; 0, the dense network, if no ticket is as accurate.
    """
    density, stop, validation = _floats(density, stop, validation)
    good, times = validation.mean(axis=0), np.maximum(stop, 1).mean(axis=0)
    able = _run(accuracy) & (density < 1) & (good >= good[0])
    return int(np.where(able, times, np.inf).argmin()) if able.any() else 0


def convolution_structure_quantities(
    networks: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
) -> Quantities:
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


def convolution_continued_quantities(networks: Mapping[str, Sequence[ArrayLike]]) -> Quantities:
    """Masks found by resetting against masks found by training on, in the mean of several networks: C-C12b.

    Args:
        networks: name -> the arguments of :func:`continued_quantities`.
    """
    found = []
    for density, *values in networks.values():
        stop, accuracy, continued_stop, continued = _floats(*values)
        below = _run(accuracy, continued) & (np.asarray(density) < 0.2)
        if not below.any():
            return {}
        found.append([part[:, below].mean(axis=1) for part in (stop, accuracy, continued_stop, continued)])
    if not found:
        return {}
    stop, accuracy, continued_stop, continued = np.mean(found, axis=0)
    return {
        "conv_resetting_minus_continued_pp": points_above(accuracy, continued),
        "conv_continued_slowdown": ratio(continued_stop, stop),
    }


def warmup_quantities(
    density: ArrayLike,
    accuracy: Mapping[str, ArrayLike],
    reinit: Mapping[str, ArrayLike],
    least: float,
    validation: Mapping[str, ArrayLike] | None = None,
) -> Quantities:
    """Ticket minus reinitialised ticket at several settings of the learning rate: the gaps of C-C7 and C-C7b.

    Args:
        density: [L] share of weights left; density[0] is 1.
        accuracy: setting ("high", "low", "warm") -> [R, L] test accuracy at the end of training, of tickets.
        reinit: the same of reinitialised tickets, [R, D, L] with D draws, averaged first; or [R, L].
        least: the smallest density that is looked at; the largest is 43 %.
        validation: setting -> [R, L] validation accuracy at the end, of tickets: picks the level of a shortfall.

    Returns:
        ``gap_…_pp`` of each setting, and, with "high" among them, how far the picked ticket of each other setting falls
        short of the dense network there: ``…_shortfall_pp``; with "low", too, ``gap_low_minus_high_pp``.
    """
    density, out, gaps = np.asarray(density), {}, {}
    within = (density >= least) & (density <= DENSEST)
    for name, values in accuracy.items():
        ticket, fresh = 100 * np.asarray(values, dtype=np.float64), 100 * _over_draws(reinit[name])
        if (both := within & _run(ticket, fresh)).any():
            gaps[name] = (ticket - fresh)[:, both].mean(axis=1)
            out[f"gap_{name}_pp"] = summary(gaps[name])
        if name != "high" and "high" in accuracy:
            if (level := _picked((validation or {}).get(name), within & _run(ticket))) is not None:
                usual = 100 * np.asarray(accuracy["high"])[:, 0]
                out[f"{name}_shortfall_pp"] = paired_difference(usual, ticket[:, level])
    if {"low", "high"} <= set(gaps):
        out["gap_low_minus_high_pp"] = paired_difference(gaps["low"], gaps["high"])
    return out


def scope_quantities(
    density: ArrayLike, accuracy: ArrayLike, layer_density: ArrayLike, layer_accuracy: ArrayLike
) -> Quantities:
    """Pruning the smallest weights of all layers together against layer by layer: the quantities of C-C8.

    Args:
        density, accuracy: [L], [R, L] of global pruning, test accuracy at the end of training; the first is dense.
        layer_density, layer_accuracy: the same of layer-wise pruning, level by level at the same density.

    Returns:
        No break-even where neither way of pruning has lost its tickets at the last level.
    """
    density, layer_density, together, apart = _floats(density, layer_density, accuracy, layer_accuracy)
    out: Quantities = {}
    if _lost(density, together) > density[-1] or _lost(layer_density, apart) > layer_density[-1]:
        out["global_break_even"] = stats.bootstrap(lambda rows: _lost(density, rows), together, log=True)
        out["scope_ratio"] = stats.bootstrap(
            lambda rows, single: _lost(layer_density, single) / _lost(density, rows), together, apart, log=True
        )
    if (sparse := density < 0.07).any():
        out["global_minus_layer_pp"] = summary(100 * (together - apart)[:, sparse].mean(axis=1))
    return out


def anatomy_quantities(
    density: ArrayLike, moves: ArrayLike, once: ArrayLike | None = None, dealt: ArrayLike | None = None
) -> Quantities:
    """How a ticket's weights start and move, beside the rest of the dense network: C-C9, C-C9b and C-C9p.

    Args:
        density: [L] share of weights left.
        moves: [R, L, layer, group, measure], the summaries of :class:`lottery.movement.Moved`; the last layer is the
            output layer, the one before it the second hidden one.
        once: [R, layer] distance moved, kept weights over the rest, of the dense network pruned once.
        dealt: the same if its movements had been dealt out at random before.
    """
    moves = np.asarray(moves, dtype=np.float64)
    if (level := _level(density, 0.211, moves[:, :, 0, 0, 0])) is None:
        return {}
    distance, grown, positive, dip = np.moveaxis(moves[:, level], -1, 0)  # each [R, layer, group]
    out: Quantities = {
        "moved_ratio": smallest_mean(distance[..., 1] / distance[..., 2]),
        "away_share": smallest_mean(grown[..., 1]),
        **start_quantities(positive[..., 1], dip[..., 1]),
    }
    if once is not None:
        out["moved_beyond_selection"] = smallest_mean(np.asarray(once, dtype=np.float64) / np.asarray(dealt))
    return out


def start_quantities(positive: ArrayLike, dip: ArrayLike) -> Quantities:
    """Where the weights of tickets with 21 % of them started: C-C9b.

    Args:
        positive: [R, layer] the share of survivors that started positive; layers as in `anatomy_quantities`.
        dip: [R, layer] the density of their starts at zero over that around one standard deviation.
    """
    positive, dip = np.asarray(positive, dtype=np.float64), np.asarray(dip, dtype=np.float64)
    return {
        "positive_second_pp": summary(100 * (positive[:, -2] - 0.5)),
        "positive_output_pp": summary(100 * (positive[:, -1] - 0.5)),
        "dip_first": summary(dip[:, 0]),
        "dip_upper": largest_mean(dip[:, 1:]),
    }


def capacity_quantities(weights: Sequence[ArrayLike], accuracy: Sequence[ArrayLike], least: int = 2000) -> Quantities:
    """Tickets of networks of several widths, each against its own dense network: the quantities of C-C10.

    Args:
        weights: from the narrowest to the widest network, each [L] weights left, the dense network first; their
            numbers of levels may differ.
        accuracy: for each [R, L] test accuracy at early stopping.
        least: number of weights from which on the widest and the narrowest are compared.
    """
    counts, rows = [*_floats(*weights)], [100 * values for values in _floats(*accuracy)]

    def even(value, least=1, **interval):
        """A value of the weights at break-even of the widths that have one, which must be so many at least."""

        def of(*values):
            found = np.array([_lost(left / left[0], one) * left[0] for left, one in zip(counts, values, strict=True)])
            found = found[~np.isnan(found)]
            return float(value(found)) if found.size >= least else math.nan

        return stats.bootstrap(of, *rows, **interval)

    out: Quantities = {
        "break_even_spread": even(lambda found: found.max() / found.min(), 2, within=(1, math.inf), log=True),
        "break_even_least": even(np.min, log=True),
        "break_even_most": even(np.max, log=True),
        "widths_matched": even(lambda found: found.size / len(rows), 0, within=(0, 1)),
    }
    (narrow, a), (wide, b) = ((np.log(counts[i][::-1]), rows[i][:, ::-1]) for i in (0, -1))
    low, high = max(narrow[0], wide[0], np.log(least)), min(narrow[-1], wide[-1])
    if low < high:
        at = np.linspace(low, high, 100)
        out["wide_minus_narrow_pp"] = summary(
            [(np.interp(at, wide, y) - np.interp(at, narrow, x)).mean() for x, y in zip(a, b, strict=True)]
        )
    return out


def noise_quantities(stop: Mapping[str | float, ArrayLike], accuracy: Mapping[str | float, ArrayLike]) -> Quantities:
    """Tickets with noise on their starting weights, beside the ticket and its reinitialisation: C-C11.

    Args:
        stop, accuracy: [R] early-stopping iteration and test accuracy there, by name: "ticket", "reinitialised", and
            the scale of the noise as a number; quantities whose scale is not there are left out.
    """
    out: Quantities = {}
    if 0.5 in stop:
        out["noise_half_loss_pp"] = points_above(accuracy["ticket"], accuracy[0.5])
        out["noise_half_slowdown"] = ratio(stop[0.5], stop["ticket"])
    if 3.0 in stop:
        out["noise_three_gain_pp"] = points_above(accuracy[3.0], accuracy["reinitialised"])
        out["noise_three_lead"] = ratio(stop["reinitialised"], stop[3.0])
    return out


def continued_quantities(
    density: ArrayLike, stop: ArrayLike, accuracy: ArrayLike, continued_stop: ArrayLike, continued_accuracy: ArrayLike
) -> Quantities:
    """Masks found by resetting against masks found by training on, both from the start: C-C12.

    Args:
        density: [L] share of weights left; density[0] is 1.
        stop, accuracy: [R, L] early-stopping iteration and test accuracy there, of iterative pruning with resetting.
        continued_stop, continued_accuracy: [R, L] the same with the other masks; the dense network is taken from the
            first.
    """
    density, stop, continued_stop, accuracy = _floats(density, stop, continued_stop, accuracy)
    if not density.size:
        return {}
    continued = _with_dense(continued_accuracy, accuracy)
    out: Quantities = {}
    if (run := _run(accuracy, continued))[1:].any():
        out["resetting_break_even_ratio"] = _break_even_ratio(density[run], continued[:, run], accuracy[:, run])
    if (below := run & (density < 0.2)).any():
        out["resetting_minus_continued_pp"] = summary(100 * (accuracy - continued)[:, below].mean(axis=1))
        out["continued_slowdown"] = ratio(*(steps[:, below].mean(axis=1) for steps in (continued_stop, stop)))
    return out


def flatness_quantities(
    predicted: Mapping[str, Mapping[str, ArrayLike]],
    measured: Mapping[str, ArrayLike],
    curvature: Mapping[str, ArrayLike],
    resolved: bool = True,
) -> Quantities:
    """Ratios that can go at once, predicted and measured: the quantities of B-C4, B-C4p and B-C5.

    Args:
        predicted: law -> order -> [R, L] predicted ratio, laws "width" and "exact", orders "random" and "magnitude".
        measured: order -> [R, L] measured ratio.
        curvature: order -> [R, L] of the loss along the pruning projection.
        resolved: whether spectra of enough Lanczos steps show the small curvatures that predictions hang on; if not,
            nothing is said of predictions.
    """
    random, magnitude = _floats(measured["random"], measured["magnitude"])
    bent = {order: np.asarray(values, dtype=np.float64).mean(axis=1) for order, values in curvature.items()}

    def missed(law, measured):
        return float(abs(law.mean(axis=0) - measured.mean(axis=0)).mean())

    out: Quantities = {}
    if resolved:
        for law, orders in predicted.items():
            out[f"{law}_error"] = stats.bootstrap(missed, *_floats(orders["random"], random), within=(0, 1))
        out["predicted_trend"] = _trend(predicted["width"]["random"])
    out["measured_trend"] = _trend(random)
    out["magnitude_minus_random"] = summary((magnitude - random).mean(axis=1))
    if bent["random"].mean() > 0:
        out["curvature_ratio"] = ratio(bent["magnitude"], bent["random"])
    return out


def at_once_quantities(
    density: ArrayLike, error: ArrayLike, oneshot_error: ArrayLike, validation_error: ArrayLike | None = None
) -> Quantities:
    """One-shot pruning where iterative pruning matches the dense network: the quantities of B-C6.

    Args:
        density: [L] share of weights left; density[0] is 1.
        error, oneshot_error: [R, L] test errors at the end of training; the dense network is the first of the first.
        validation_error: [R, L] of iterative pruning: picks the level.
    """
    density, error, oneshot = _floats(density, error, oneshot_error)
    if (level := at_once_level(density, error, oneshot, validation_error)) is None:
        return {}
    epsilon = tolerance(error[:, 0])
    return {
        "oneshot_excess": paired_difference(oneshot[:, level] / epsilon, error[:, 0] / epsilon),
        "iterative_excess": paired_difference(error[:, level] / epsilon, error[:, 0] / epsilon),
    }


def at_once_level(
    density: ArrayLike, error: ArrayLike, oneshot_error: ArrayLike, validation_error: ArrayLike | None
) -> int | None:
    """The level at which `at_once_quantities` compares, of at most a fifth of the weights: the sparsest at which rounds
    match on validation data, else the densest; None without a level or validation errors. The arguments are its."""
    density, error, oneshot = _floats(density, error, oneshot_error)
    both = np.flatnonzero(_run(error, oneshot) & (density <= 0.2))
    if validation_error is None or not both.size:
        return None
    matches = _matching(validation_error)[both]
    return int(both[matches][-1] if matches.any() else both[0])


def adaptive_quantities(
    density: ArrayLike, accuracy: ArrayLike, adaptive_density: ArrayLike, adaptive_accuracy: ArrayLike
) -> Quantities:
    """An adaptive schedule against a fixed ratio, at the sparsest level that lies within the fixed chain: B-C9.

    Args:
        density, accuracy: [L], [R, L] of the fixed chain.
        adaptive_density, adaptive_accuracy: [R, A] of the adaptive one; level 0 is the dense network in both.
    """
    density, accuracy, adaptive_density, adaptive = _floats(density, accuracy, adaptive_density, adaptive_accuracy)
    place, epsilon = -np.log(density), tolerance(1 - accuracy[:, 0])
    saved, gain = [], []
    for row, there, reached in zip(accuracy, -np.log(adaptive_density), adaptive, strict=True):
        level = int(np.flatnonzero(there <= place[-1] + 1e-9)[-1])
        saved.append(float(np.interp(there[level], place, np.arange(len(place)))) - level)
        gain.append((reached[level] - np.interp(there[level], place, row)) / epsilon)
    return {"adaptive_levels_saved": summary(saved), "adaptive_minus_fixed": summary(gain)}


def retraining_quantities(
    density: ArrayLike, below: Mapping[str, ArrayLike], accuracy: Mapping[str, ArrayLike], start: ArrayLike
) -> Quantities:
    """What each kind of retraining does to small weights and to accuracy: the quantities of B-C7 and D6-C1.

    Args:
        density: [L] share of weights left, of the pruned levels.
        below: kind -> [R, L] share of survivors no larger than the largest weight that was cut.
        accuracy: kind -> [R, L] test accuracy at the end of training.
        start: [R, L] the same share of the rewound weights, before they train again.
    """
    small = {kind: np.asarray(values, dtype=np.float64).mean(axis=1) for kind, values in below.items()}
    out: Quantities = {}
    if small["fine-tuning"].mean() > 0:
        out["small_weights_ratio"] = ratio(small["weights"], small["fine-tuning"])
        out["small_rate_ratio"] = ratio(small["learning rate"], small["fine-tuning"])
    out["small_weights_made_pp"] = points_above(small["weights"], np.asarray(start).mean(axis=1))
    if end := _where_sparse(density, accuracy):
        out["weights_minus_tuning_pp"] = points_above(end["weights"], end["fine-tuning"])
        out["rate_minus_tuning_pp"] = points_above(end["learning rate"], end["fine-tuning"])
        out["rate_minus_weights_pp"] = points_above(end["learning rate"], end["weights"])
    return out


def flip_quantities(density: ArrayLike, flipped: Mapping[str, ArrayLike]) -> Quantities:
    """Whether more signs flip where only the learning rate is rewound: the quantity of D5-C2.

    Args:
        density: [L] share of weights left, of the pruned levels; judged are those below 20 %, as for accuracy.
        flipped: kind -> [R, L] share of survivors that end with another sign than the network started with.
    """
    share = _where_sparse(density, flipped)
    return {"flip_excess_pp": points_above(share["learning rate"], share["weights"])} if share else {}


def likeness_quantities(density: ArrayLike, pairs: Sequence[ArrayLike], nulls: Sequence[ArrayLike]) -> Quantities:
    """Pairs of tickets against pairs that chance makes: the quantities of A-C1 and A-C2 that ask for the null.

    Pairs share networks, so replicates are drawn anew, not pairs.

    Args:
        density: [L] share of weights left.
        pairs: for each level the "pair" arrays of :class:`lottery.signs.Compared`, [P, signed or not, matching,
            measure, layer], of all pairs of replicates in the order of `itertools.combinations`; or of P pairs that
            share none.
        nulls: for each level the "degrees" arrays of the same comparisons, the draws of each pair side by side.
    """
    if (level := _level(density, 0.211)) is None:
        return {}
    found, null = _floats(pairs[level], nulls[level])
    null = null.reshape(len(found), -1, *null.shape[1:])
    near, far = (values[..., 0, 1, 0, :].mean(axis=-1) for values in (found, null))
    agreement, chance = (np.nanmean(values[..., 0, 1, 2, :], axis=-1) for values in (found, null))
    members, drawn_pairs = _members(len(found))

    def told(drawn):
        at = drawn_pairs(drawn)
        return _auc(near[at], far[at])

    def excess(drawn):
        at = drawn_pairs(drawn)
        return 100 * float(agreement[at].min() - np.quantile(chance[at], 0.99)) if len(at) else math.nan

    return {
        "null_auc": stats.bootstrap(told, members, within=(0, 1)),
        "agreement_excess_pp": stats.bootstrap(excess, members),
    }


def kinds_quantities(distances: Mapping[str, ArrayLike]) -> Quantities:
    """Pairs of tickets against pairs of other trained sparse networks at one level: A-C1, A-C1b and A-C2.

    Args:
        distances: kind -> [P, signed or not] matched distances between networks of one kind, of all pairs of replicates
            in the order of `itertools.combinations`; "ticket" and the kinds that it is told from. What signs add is
            asked of those with masks of their own: without signs others are exactly as far apart as the tickets.
    """
    grids = {kind: np.asarray(values, dtype=np.float64) for kind, values in distances.items()}
    ticket = grids.pop("ticket")
    if not grids:
        return {}
    members, drawn_pairs = _members(len(ticket))

    def least(drawn, which, kinds):
        at = drawn_pairs(drawn)
        return min(_auc(ticket[at, which], values[at, which]) for values in kinds)

    every = list(grids.values())
    own = [values for values in every if not np.allclose(values[:, 1], ticket[:, 1], atol=1e-6)]
    out: Quantities = {"kinds_auc": stats.bootstrap(lambda drawn: least(drawn, 0, every), members, within=(0, 1))}
    if own:
        out["kinds_auc_sign_gain"] = stats.bootstrap(
            lambda drawn: least(drawn, 0, own) - least(drawn, 1, own), members, within=(-1, 1)
        )
    return out


def kinds_conv_quantities(density: ArrayLike, distances: Mapping[str, ArrayLike]) -> Quantities:
    """The same in a convolutional network, at the level with 21 % of the weights: A-C1b.

    Args:
        density: [L] share of weights left.
        distances: kind -> [L, P, signed or not]; "tickets" and the kinds that they are told from, as in
            `kinds_quantities`.
    """
    if (level := _level(density, 0.211)) is None:
        return {}
    told = {kind: np.asarray(values)[level] for kind, values in distances.items()}
    found = kinds_quantities({"ticket": told.pop("tickets"), **told})
    return {"kinds_auc_conv": found["kinds_auc"]} if found else {}


def halves_quantities(halves: ArrayLike, halves_null: ArrayLike, pairs: ArrayLike, pairs_null: ArrayLike) -> Quantities:
    """Pairs of tickets from disjoint halves of the training set, beside pairs that share it: A-C5.

    Args:
        halves, halves_null: [P] and [P, D] signed distances of pairs from halves and of their null pairs, or [P · D].
        pairs, pairs_null: [Q] and [Q, D] of pairs of ordinary tickets; their mean lead over the null is taken as known.
    """
    halves, halves_null, pairs, pairs_null = _floats(halves, halves_null, pairs, pairs_null)
    halves_null, pairs_null = halves_null.reshape(len(halves), -1), pairs_null.reshape(len(pairs), -1)
    lead = float((pairs_null.mean(axis=1) - pairs).mean())
    out: Quantities = {"halves_null_auc": stats.bootstrap(association.auc, halves, halves_null, within=(0, 1))}
    if lead > 0:
        out["halves_kept"] = summary((halves_null.mean(axis=1) - halves) / lead)
    return out


def sign_quantities(
    density: ArrayLike, ticket: ArrayLike, altered: Mapping[tuple[str, str], ArrayLike], transferred: ArrayLike
) -> Quantities:
    """Tickets whose starts keep their signs or do not: the quantities of A-C4, D2-C1 and D5-C1.

    Args:
        density: [L] share of weights left; density[0] is 1.
        ticket: [R, L] test accuracy.
        altered: (values, signs) as of :func:`tickets.sign_ablation` -> [R, L]; all six.
        transferred: [R, L] of the masks on new starts with the signs that the tickets ended with.
    """
    density, ticket = _floats(density, ticket)
    kinds = {
        signs: [100 * (ticket - np.asarray(values)) for (_, which), values in altered.items() if which == signs]
        for signs in ("original", "random")
    }
    out: Quantities = {}
    if (level := _level(density, 0.134, *kinds["original"], *kinds["random"])) is not None:
        for name, which in (("kept_loss_pp", "original"), ("redrawn_loss_pp", "random")):
            out[name] = points_above(ticket[:, level], np.asarray(altered["new", which])[:, level])
        run = _run(*kinds["original"]) & (density >= 0.1) & (density < 1)
        out["signed_loss_max_pp"] = largest_mean(np.concatenate([loss[:, run] for loss in kinds["original"]], axis=1))
        out["unsigned_loss_min_pp"] = smallest_mean(np.stack([loss[:, level] for loss in kinds["random"]], axis=1))
    return out | signs_given_quantities(density, ticket, transferred, altered["new", "random"])


def signs_given_quantities(
    density: ArrayLike, ticket: ArrayLike, transferred: ArrayLike, fresh: ArrayLike, prefix: str = ""
) -> Quantities:
    """New starts that take over the signs tickets ended with: the quantities of D5-C1 or, with a prefix, of D5-C1b.

    Args:
        density: [L] share of weights left; density[0] is 1.
        ticket: [R, L] test accuracy.
        transferred: [R, L] of the masks on new starts with the signs that the tickets ended with.
        fresh: [R, L] of the masks on new starts with random signs.
        prefix: of the names; "conv" and a low line for D5-C1b.
    """
    ticket, moved, drawn = _floats(ticket, transferred, fresh)
    if (level := _level(density, 0.134, ticket, moved, drawn)) is None:
        return {}
    return {
        f"{prefix}transfer_loss_pp": points_above(ticket[:, level], moved[:, level]),
        f"{prefix}transfer_gain_pp": points_above(moved[:, level], drawn[:, level]),
    }


def criteria_quantities(accuracy: Mapping[str, ArrayLike]) -> Quantities:
    """Masks by other criteria than the final magnitude: the quantities of D2-C2 and D2-C4.

    Args:
        accuracy: criterion -> [R] test accuracy at one density; a criterion that was not run is left out.
    """
    compared = {
        "increase_gain_pp": ("magnitude_increase", "magnitude"),
        "final_gain_pp": ("magnitude", "random"),
        "small_final_loss_pp": ("random", "small_final"),
        "small_init_loss_pp": ("random", "small_init"),
    }
    return {
        name: points_above(accuracy[one], accuracy[other])
        for name, (one, other) in compared.items()
        if {one, other} <= set(accuracy)
    }


def supermask_quantities(same_sign: ArrayLike, random: ArrayLike, validation: ArrayLike | None = None) -> Quantities:
    """Networks of signed constants that are masked and not trained: the quantities of D2-C3.

    Args:
        same_sign, random: [R, L] test accuracy by level, for masks of weights that end large with the sign that they
            started with, and for random masks of the same counts.
        validation: [R, L] validation accuracy of the first: picks the level.
    """
    same_sign, random = _floats(same_sign, random)
    if (level := _picked(validation, _run(same_sign, random))) is None:
        return {}
    return {
        "supermask_accuracy": summary(same_sign[:, level]),
        "supermask_gain_pp": points_above(same_sign[:, level], random[:, level]),
    }


def pattern_quantities(density: ArrayLike, arranged: ArrayLike, rho: ArrayLike, p: ArrayLike) -> Quantities:
    """Patterns of signs in tickets at 21 % of the weights: the quantities of A-C3.

    Args:
        density: [L] share of weights left.
        arranged: [L, K, R] number of orbits that are enriched in a ticket's layer against the null "balance".
        rho, p: [L, K, R] of K layers: the last two numbers of :func:`lottery.kernels.rank_correlation`, of a ticket's
            counts with those of dense networks from other starts.
    """
    if (level := _level(density, 0.211)) is None:
        return {}
    orbits, within, chance = (values[level].T for values in _floats(arranged, rho, p))
    return {
        "arranged_orbits": summary(orbits.sum(axis=1)),
        "pattern_rho_within": summary(within.mean(axis=1)),
        "pattern_share": stats.bootstrap(lambda rows: float((rows.max(axis=1) < 0.01).mean()), chance, within=(0, 1)),
    }


def matching_quantities(
    enriched: Mapping[str, ArrayLike], accuracy: Mapping[str, ArrayLike], dense: ArrayLike, levels: Sequence[int]
) -> Quantities:
    """Whether networks that match their dense network have more enriched patterns than others as sparse: Q4-P6.

    Where all networks of some kinds match and none of others does, patterns may mark the kind alone; so they are also
    compared within a kind.

    Args:
        enriched: kind of network -> [R, L] patterns beyond chance.
        accuracy: kind -> [R, L] test accuracy at early stop, a share.
        dense: [R] that of the dense network.
        levels: [L] rounds of pruning; networks are compared within a level.
    """
    many, right = (
        np.concatenate([np.asarray(values[kind], dtype=np.float64) for kind in accuracy], axis=1)
        for values in (enriched, accuracy)
    )
    error = 1 - np.asarray(dense, dtype=np.float64)
    matching = stats.matching(1 - right - error[:, None], tolerance(error))

    def area(group: np.ndarray, of: np.ndarray) -> Summary:
        def within(mark, kind):
            return marks.separation(-mark, kind, group[of])

        return stats.bootstrap(within, many[:, of], matching[:, of], within=(0, 1))

    level, kind = np.tile(levels, len(accuracy)), np.arange(many.shape[1])
    return _known(
        {
            "matching_pattern_auc": area(level, np.full(len(kind), True)),
            "kind_pattern_auc": area(kind, (many != many[:1]).any(axis=0)),
        }
    )


def barrier_quantities(
    excess: ArrayLike,
    barrier: Mapping[str, ArrayLike],
    steps: ArrayLike,
    dense_error: ArrayLike | None = None,
    first: int = 3,
) -> Quantities:
    """Barriers between successive levels against the excess error of the sparser one: B-C1 and B-C1p.

    Args:
        excess: [T, R, L] test error of levels 1 to L minus that of the dense network, T rewind points: those that the
            claim is about.
        barrier: statistics -> [T, R, L] barrier between level l − 1 and level l, for "averaged" and "re-estimated".
        steps: [T] the rewind points.
        dense_error: [R] test error of the dense network.
        first: the denser level of a pair is at least this one.
    """
    excess, averaged, again = _floats(excess, barrier["averaged"], barrier["re-estimated"])
    # Replicates first: they are drawn anew.
    over, averaged, again = (np.moveaxis(values, 1, 0)[..., first:] for values in (excess, averaged, again))
    if over.size == 0:
        return {}
    epsilon = tolerance(dense_error)

    def told(over, height):  # an excess of just ε is one, as its claims have it
        return _auc(height[over < epsilon], height[over >= epsilon])

    def share(which, passes):
        return lambda over, height: float(passes(height[which(over)]).mean()) if which(over).any() else math.nan

    out: Quantities = {
        "barrier_auc": stats.bootstrap(told, over, averaged, within=(0, 1)),
        "barrier_auc_reestimated": stats.bootstrap(told, over, again, within=(0, 1)),
        "connected_share": stats.bootstrap(
            share(lambda over: over < epsilon / 2, lambda height: height < 2 * epsilon), over, averaged, within=(0, 1)
        ),
        "barred_share": stats.bootstrap(
            share(lambda over: over > 5 * epsilon, lambda height: height > 2 * epsilon), over, averaged, within=(0, 1)
        ),
    }
    zero = np.asarray(steps) == 0
    if zero.any() and dense_error is not None:
        dense = np.asarray(dense_error, dtype=np.float64)
        start = int(np.flatnonzero(zero)[0])
        ends = dense[:, None] + (excess[start][:, first:] + excess[start][:, first - 1 : -1]) / 2
        out["zero_barrier"] = smallest_mean(averaged[:, start] / (GUESSING - ends))
    return _known(out)


def chaining_quantities(
    excess: ArrayLike,
    barrier: Mapping[str, ArrayLike],
    dense_barrier: Mapping[str, ArrayLike],
    dense_error: ArrayLike | None = None,
    validation_error: ArrayLike | None = None,
) -> Quantities:
    """Barriers between successive levels and from the dense network to each, at one rewind point: B-C2 and B-C2b.

    Args:
        excess: [R, L] as in :func:`barrier_quantities`.
        barrier, dense_barrier: statistics -> [R, L] barriers from level l − 1 and from the dense network to level l.
        dense_error: [R] test error of the dense network.
        validation_error: [R, L + 1] of the dense network and all levels: says which levels match.
    """
    epsilon = tolerance(dense_error)
    whole, mended = _floats(dense_barrier["averaged"], dense_barrier["re-estimated"])
    successive = np.asarray(barrier["averaged"], dtype=np.float64)
    out: Quantities = {"dense_barrier_trend": _trend(whole[:, 1:])}
    if validation_error is None:
        return out
    match = np.flatnonzero(_matching(validation_error)[1 : np.asarray(excess).shape[1] + 1])
    if match.size:
        out["successive_max"] = largest_mean(successive[:, match] / epsilon)
        out["dense_barrier_reestimated"] = largest_mean(mended[:, match] / epsilon)
        out["dense_minus_successive_pp"] = points_above(whole[:, match[-1]], successive[:, match[-1]])
    return out


def range_quantities(density: ArrayLike, error: ArrayLike, random_error: ArrayLike) -> Quantities:
    """Which sparse networks match at which density: the quantities of D1-C3.

    Args:
        density: [L] share of weights left; density[0] is 1.
        error, random_error: [R, L] test errors at the end, of tickets of a stable rewind point and of random masks
            on the same weights.
    """
    density, error, random = _floats(density, error, random_error)
    epsilon = tolerance(error[:, 0])

    def least(rows):
        lost = np.flatnonzero(~_matching(rows))
        return float(density[lost[0] - 1] if lost.size else density[-1])

    out: Quantities = {"ticket_least_density": stats.bootstrap(least, error, within=(0, 1))}
    for name, target in (("random_dense_excess", 0.8), ("random_sparse_excess", 0.2)):
        if (level := _level(density, target, error, random, tolerance=0.25)) is not None:
            out[name] = paired_difference(random[:, level] / epsilon, error[:, 0] / epsilon)
    return out


def late_quantities(density: ArrayLike, accuracy: ArrayLike, late_accuracy: ArrayLike) -> Quantities:
    """Rewinding late against rewinding to a matching point, at 11 % of the weights: the quantity of B-C10.

    Args:
        density: [L] share of weights left.
        accuracy, late_accuracy: [R, L] test accuracy at the end of training.
    """
    accuracy, late = _floats(accuracy, late_accuracy)
    level = _level(density, 0.107, accuracy, late)
    return {} if level is None else {"late_loss_pp": points_above(accuracy[:, level], late[:, level])}


def robustness_quantities(
    zero: Mapping[str, ArrayLike], matching: Mapping[str, ArrayLike], dense_error: ArrayLike | None = None
) -> Quantities:
    """Barriers between a ticket and its twin from a start as far off as the next level's: the quantities of B-C3.

    Args:
        zero, matching: "random" (direction) and "mask" (through another mask) -> [R] barriers with averaged
            statistics, rewound to 0 and to a matching rewind point.
        dense_error: [R] test error of the dense network.
    """
    return {
        f"{kind}_{name}": summary(np.asarray(barriers[kind]) / tolerance(dense_error))
        for name, barriers in (("zero", zero), ("matching", matching))
        for kind in ("random", "mask")
    }


def stability_quantities(
    dense_steps: ArrayLike,
    dense: ArrayLike,
    steps: ArrayLike,
    tickets: ArrayLike,
    excess: ArrayLike,
    dense_error: ArrayLike | None = None,
    length: int | None = None,
) -> Quantities:
    """Instability of the dense network and of tickets by the step that twins part at: D1-C1, D1-C1b and D1-C2.

    Args:
        dense_steps, dense: [K] steps and [K, R] barriers between dense twins that part there.
        steps: [T] rewind points of the tickets.
        tickets, excess: [T, R, L] barriers between twins of a ticket, and the ticket's excess test error over dense.
        dense_error: [R] test error of the dense network.
        length: steps of training; without it nothing is said of shares of it.
    """
    dense, tickets, excess = _floats(dense, tickets, excess)
    epsilon, limit = tolerance(dense_error), stable_below(dense_error)

    def agree(barriers, over):
        return float(((barriers < limit) == stats.matching(over, epsilon)).mean())

    out: Quantities = {
        "stable_agreement": stats.bootstrap(agree, np.moveaxis(tickets, 1, 0), np.moveaxis(excess, 1, 0), within=(0, 1))
    }
    if length is not None:
        whole = stable_from(dense_steps, dense < limit, length)
        sparse = stable_from(steps, tickets.max(axis=2) < limit, length)
        both = min(whole.size, sparse.size)
        out["dense_stable_share"] = summary(whole)
        out["ticket_minus_dense_stable_share"] = paired_difference(sparse[:both], whole[:both])
        share = np.asarray(dense_steps) / length
        if (early := np.flatnonzero((share > 0.03 - 1e-9) & (share < 0.05 + 1e-9))).size:
            out["dense_early_barrier"] = summary(dense[early[share[early].argmax()]] / limit)
    zero = np.asarray(dense_steps) == 0
    if zero.any():
        out["dense_zero_barrier"] = summary(dense[zero][0] / limit)
    return out


def stable_below(dense_error: ArrayLike | None = None) -> float:
    """The barrier below which twins are stable, as a share: Frankle et al.'s (2020) 2 points, or 2 ε if that is more.

    Args:
        dense_error: as of :func:`tolerance`.
    """
    return max(0.02, 2 * tolerance(dense_error))


def chance_agreement(
    tickets: ArrayLike, excess: ArrayLike, dense_error: ArrayLike | None = None
) -> tuple[float, float, float]:
    """How often tickets would be both stable and matching, or neither, if one had nothing to do with the other.

    Args:
        tickets, excess, dense_error: as of :func:`stability_quantities`.

    Returns:
        The share of tickets that are stable, the share that match, and what independence makes of the two.
    """
    stable = float((np.asarray(tickets) < stable_below(dense_error)).mean())
    match = float(stats.matching(excess, tolerance(dense_error)).mean())
    return stable, match, stable * match + (1 - stable) * (1 - match)


def stable_from(steps: ArrayLike, stable: np.ndarray, length: int) -> np.ndarray:
    """[R] the shares of training from which on all are stable; 1 if they never are.

    Args:
        steps: [K] at which networks part.
        stable: [K, R] whether they are stable from there on.
        length: steps of training.
    """
    order = np.argsort(steps)
    at = np.append(np.asarray(steps, dtype=np.float64)[order] / length, 1.0)
    unstable = ~stable[order]
    first = np.where(unstable.any(axis=0), len(order) - unstable[::-1].argmax(axis=0), 0)
    return at[first]


def transplant_quantities(
    found: ArrayLike, rewound: ArrayLike, over_worse: ArrayLike, dense_error: ArrayLike | None = None
) -> Quantities:
    """Masks found without rewinding, on the rewind point and trained: the quantities of B-C8.

    Args:
        found, rewound: [R, L] accuracy of the networks that the masks were found with, and of the rewound ones.
        over_worse: [R, L] error halfway between the two above that of the worse, on the same images.
        dense_error: [R] test error of the dense network.
    """
    epsilon = tolerance(dense_error)
    found, rewound, over = (values / epsilon for values in _floats(found, rewound, over_worse))
    return {
        "transplant_loss": largest_mean(found - rewound),
        "transplant_midpoint": smallest_mean(-over),
    }


# The open questions.


def transfer_quantities(
    density: ArrayLike,
    there: Mapping[str, ArrayLike],
    back: Mapping[str, ArrayLike],
    others: Mapping[str, Mapping[str, ArrayLike]],
) -> Quantities:
    """Tickets moved to other data, or to another optimiser: the quantities of Q1-P1 to Q1-P5.

    They are judged at the level nearest to 21 %; without it there are none.

    Args:
        density: [L] share of weights left at the levels whose tickets were moved.
        there: by the names of :func:`lottery.controls.transfers`, [R, L] accuracies at early stopping on the second
            data set.
        back: "native", "moved" and "random" on the first.
        others: name of a quantity -> the same three where what a moved ticket recovers is that quantity.
    """
    if (level := _level(density, 0.211)) is None:
        return {}

    def at_level(one: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        return {name: np.asarray(rows, dtype=np.float64)[:, level] for name, rows in one.items()}

    here = at_level(there)
    native, random = here["native"], here["random"]
    ways = {"recovered_to_fashion": there, "recovered_to_mnist": back, **others}
    moved = {name: at_level(way) for name, way in ways.items()}
    return {name: recovered(way["moved"], way["native"], way["random"]) for name, way in moved.items()} | {
        "transfer_beyond_degrees_pp": points_above(here["moved"], here["degrees"]),
        "degrees_recovered": recovered(here["degrees"], here["moved"], random),
        "mask_alone_pp": points_above(here["mask alone"], here["random, fresh"]),
        "first_layer_recovered": recovered(here["first layer"], native, random),
        "upper_layers_recovered": recovered(here["upper layers"], native, random),
    }


def losing_quantities(accuracy: Mapping[str, ArrayLike]) -> Quantities:
    """Sub-networks that may be worse than random ones: the quantities of Q2-P1 and Q2-P3.

    Args:
        accuracy: [R] at early stopping, by name: "random" masks on the ticket's start; the ticket's "complement";
            "small final", the weights that end smallest, and "rescaled", these with the ticket's norm in each layer.
    """
    return {
        "complement_loss_pp": points_above(accuracy["random"], accuracy["complement"]),
        "losing_rescaled_recovered": recovered(accuracy["rescaled"], accuracy["random"], accuracy["small final"]),
    }


def losing_conv_quantities(accuracy: Mapping[str, ArrayLike]) -> Quantities:
    """The weights of Conv-2 that end or start smallest against a random mask: the quantities of Q2-P6 to Q2-P8.

    Args:
        accuracy: [R] at early stopping, by name as of `lottery.controls.losing_without_ticket`.
    """
    names = ("another random", "small at the end", "small at the end, rescaled", "small at the start")
    random, small, rescaled, start = (accuracy[name] for name in names)
    return {
        "conv_small_final_loss_pp": points_above(random, small),
        "conv_small_init_loss_pp": points_above(random, start),
        "conv_rescaled_recovered": recovered(rescaled, random, small),
    }


def flipped_start_quantities(flipped: Mapping[float, ArrayLike], reinit: ArrayLike, opposed: ArrayLike) -> Quantities:
    """Tickets whose starting signs are turned against them: the quantities of Q2-P2 and Q2-P5.

    Args:
        flipped: share of flipped signs, 0 for the ticket itself and 1 among them -> [R] accuracy at early stopping.
        reinit: [R] of the ticket reinitialised.
        opposed: [R] of its mask on starting signs that oppose those that it ended with.
    """
    rows = np.stack([flipped[share] for share in sorted(flipped)], axis=1)
    return {
        "flipped_loss_pp": points_above(reinit, rows[:, -1]),
        "flipped_trend": _trend(rows),
        "adversarial_start_loss_pp": points_above(reinit, opposed),
    }


def worst_mask_quantities(validation: ArrayLike, accuracy: ArrayLike) -> Quantities:
    """The worst of several random masks, trained again with other batches: the quantity of Q2-P4.

    Args:
        validation: [2, R, N] validation accuracy at early stopping of N masks in two trainings. Each picks the worst
            for the other to judge, and the two losses of a replicate are averaged.
        accuracy: [2, R, N] their test accuracy at early stopping.
    """
    accuracy, worst = 100 * np.asarray(accuracy, dtype=np.float64)[::-1], np.asarray(validation).argmin(axis=2)
    its = np.take_along_axis(accuracy, worst[..., None], axis=2)[..., 0]
    others = (accuracy.sum(axis=2) - its) / (accuracy.shape[2] - 1)
    return {"worst_mask_loss_pp": paired_difference(others.mean(axis=0), its.mean(axis=0))}


def payback(ledger: Ledger, alike: bool = False) -> Summary | None:
    """Reuses after which what a ticket saves has paid for its search; None if it saves nothing, or one is not known.

    Args:
        ledger: of the search; reuses are trained to their early stop.
        alike: so are the trainings of the search; otherwise each goes to its last step.
    """
    if not (np.isfinite(ledger.saved).all() and ledger.saved.mean() > 0):
        return None
    return ratio(ledger.short if alike else np.full(len(ledger.stop), ledger.search), ledger.saved)


def cost_quantities(density: ArrayLike, steps: int, stop: ArrayLike) -> Quantities:
    """What a search costs and what its ticket saves: the quantities of Q5-P1.

    Args:
        density: [L] share of weights left; density[0] is 1.
        steps: of each training of the search.
        stop: [R, L] early-stopping iteration.
    """
    density, stop = _floats(density, stop)
    if _level(density, 0.211, stop) is None:
        return {}
    ledger = Ledger(density, stop, steps)
    repaid = {"reuse_break_even_run": payback(ledger), "reuse_break_even": payback(ledger, alike=True)}
    return {name: value for name, value in repaid.items() if value}


def use_quantities(density: ArrayLike, seconds: ArrayLike) -> Quantities:
    """Seconds to use a ticket: the quantities of Q5-P3.

    Args:
        density: [L] share of weights left.
        seconds: [R, L, 2] of inference, dense and in CSR, at batches of 60.
    """
    seconds, out = np.asarray(seconds, dtype=np.float64), {}
    for name, target in (("4", 0.036), ("50", 0.513)):
        if (level := _level(density, target, seconds[..., 0])) is not None:
            out[f"csr_speedup_{name}"] = ratio(seconds[:, level, 0], seconds[:, level, 1])
    return out


def cheap_quantities(accuracy: Mapping[str, ArrayLike]) -> Quantities:
    """Masks that cost less than a ticket: the quantities of Q5-P4 and Q5-P5.

    Args:
        accuracy: [R] at early stopping, by name: "ticket", "random", "early", "SNIP", "SynFlow"; all on one start.
            Without "early" its quantity is left out.
    """
    ticket, random, *start = (100 * np.asarray(accuracy[name]) for name in ("ticket", "random", "SNIP", "SynFlow"))
    start = np.stack(start, axis=1)
    early: Quantities = {}
    if "early" in accuracy:
        early["early_bird_loss_pp"] = points_above(accuracy["ticket"], accuracy["early"])
    return early | {
        "init_mask_loss_pp": smallest_mean(ticket[:, None] - start),
        "init_mask_gain_pp": smallest_mean(start - random[:, None]),
    }


def cheap_conv_quantities(accuracy: Mapping[str, ArrayLike] | None, density: float, keep: float) -> Quantities:
    """The same for Conv-2: the quantities of Q5-P6 and Q5-P7.

    Args:
        accuracy: [R] as of :func:`cheap_quantities`; None if it was not run.
        density: share of the weights that the ticket keeps; rules judge from 7 to 11 %.
        keep: the same of masks at the start, compared if it is within a tenth of the ticket's.
    """
    if not accuracy or not sparse_conv(density):
        return {}
    found = cheap_quantities(accuracy)
    start = {f"conv_{name}": found[name] for name in ("init_mask_loss_pp", "init_mask_gain_pp")}
    early: Quantities = {}
    if "early" in accuracy:
        early["conv_early_recovered"] = recovered(accuracy["early"], accuracy["ticket"], accuracy["random"])
    return early | (start if near(density, keep) else {})


def sparse_conv(density: float) -> bool:
    """Whether Conv-2 has the share of weights at which rules judge it: from 7 to 11 %."""
    return 0.07 <= density < 0.115


def untrained_quantities(before: ArrayLike, after: ArrayLike, validation: ArrayLike | None = None) -> Quantities:
    """How much of a ticket's accuracy over guessing is there before training: the quantity of Q3-P1.

    Args:
        before: [R, L] test accuracy of tickets with their own starting weights, before training.
        after: [R, L] the same at early stop.
        validation: [R, L] validation accuracy before training: picks the level.
    """
    before, after = _floats(before, after)
    if (level := _picked(validation, _run(before, after))) is None:
        return {}
    guessing = 1 - GUESSING
    return {"untrained_share": ratio(before[:, level] - guessing, after[:, level] - guessing)}


def popup_quantities(
    shares: Sequence[int],
    constants: ArrayLike,
    normal: ArrayLike,
    validation: ArrayLike | None = None,
    ticket: ArrayLike | None = None,
    narrow: ArrayLike | None = None,
) -> Quantities:
    """Masks by learned scores on weights that are never trained: the quantities of D2-C3b, D3-C1 to C3 and Q3-P2.

    Args:
        shares: of the weights of each layer that are kept, in per cent.
        constants, normal: [R, S] test accuracy, signed constants and normal weights.
        validation: [R, S] validation accuracy of constants: picks the share for D2-C3b and Q3-P2.
        ticket: [R] test accuracy of trained tickets.
        narrow: [R] test accuracy of constants at 50 % in the narrowest network.

    Returns:
        Where 50 % were run, all that are compared with these, NaN what was not run: of another network it may be known.
    """
    constants, normal = _floats(constants, normal)
    kept = dict(zip(shares, constants.T, strict=True))
    out: Quantities = {}
    if (place := _picked(validation, _run(constants))) is not None:
        out["learned_mask_accuracy"] = summary(constants[:, place])
        if ticket is not None:
            out["popup_minus_ticket_pp"] = points_above(constants[:, place], ticket)
    if (half := kept.get(50)) is None:
        return out
    others = {
        "popup_constant_gain_pp": normal[:, list(shares).index(50)],
        "popup_middle_minus_few_pp": kept.get(10),
        "popup_middle_minus_many_pp": kept.get(90),
        "popup_wide_gain_pp": narrow,
    }
    return out | {name: math.nan if other is None else points_above(half, other) for name, other in others.items()}


def mark_quantities(networks: marks.Networks, epsilon: float) -> Quantities:
    """How well marks tell networks that match: the quantities of Q4-P1 to P3, and one without the first gradient.

    Args:
        networks: of one or more levels, with all their marks.
        epsilon: how much less accurate than its dense network a matching one may be, a share.
    """
    matching = networks.matching(epsilon)
    signed, unsigned = (networks.better(name) for name in ("signed distance", "unsigned distance"))
    density = networks.marks["density"]
    kind, some = np.broadcast_to(networks.cut.astype(float), density.shape), dict(networks.marks)
    some.pop("gradient at the start")
    features = {
        "all": [*networks.marks.values()],
        "some": [*some.values()],
        "density": [density],
        "kind": [density, kind],
    }
    told = {name: marks.separations(-marks.predicted(values, matching), matching) for name, values in features.items()}

    within = functools.partial(marks.separation, group=networks.level, least=marks.LEAST)

    def gain(one: np.ndarray, other: np.ndarray, kind: np.ndarray) -> float:
        return within(one, kind) - within(other, kind)

    def more(one: str, other: str) -> Summary:
        return stats.cut(summary(told[one] - told[other]), -1, 1)

    return {
        "mark_signed_auc": networks.area("signed distance", epsilon),
        "mark_sign_gain_auc": stats.bootstrap(gain, signed, unsigned, matching, within=(-1, 1)),
        "mark_barrier_auc": networks.area("error barrier", epsilon),
        "marks_gain_auc": more("all", "density"),
        "marks_over_kind_auc": more("all", "kind"),
        "marks_without_gradient_auc": more("some", "density"),
    }


def basin_quantities(
    signed: ArrayLike, barrier: ArrayLike, distance: ArrayLike, swapped: ArrayLike, anywhere: ArrayLike
) -> Quantities:
    """Whether signs go with the error barrier: the quantities of Q4-P4 and P5.

    Args:
        signed, barrier, distance: [R, P] signed distance, barrier and Euclidean distance of P pairs of networks of one
            density in each replicate.
        swapped, anywhere: [R] barriers that are left after one network took the other's values where signs differ, or
            at random places until it had moved as far.
    """
    signed, barrier, distance = _floats(signed, barrier, distance)
    return {
        "sign_barrier_partial": stats.bootstrap(_partial, signed, barrier, distance, within=(-1, 1)),
        "sign_barrier_matched_pp": summary(marks.matched_differences(signed, 100 * barrier, distance)),
        "sign_swap_excess_pp": points_above(anywhere, swapped),
    }


def beyond_masks(signed: ArrayLike, barrier: ArrayLike, distance: ArrayLike, overlap: ArrayLike) -> Summary:
    """Partial rank correlation of signed distance and barrier, given Euclidean distance and how masks overlap.

    Args:
        signed, barrier, distance: as of :func:`basin_quantities`.
        overlap: [R, P] unsigned distance of the masks, or another measure of it.
    """
    return stats.bootstrap(_partial, *_floats(signed, barrier, distance, overlap), within=(-1, 1))


def _partial(*rows: np.ndarray) -> float:
    return association.partial_spearman(*(row.ravel() for row in rows))


def _floats(*values: ArrayLike) -> Iterator[np.ndarray]:
    """The same as arrays of float64."""
    return (np.asarray(one, dtype=np.float64) for one in values)


def _over_draws(values: ArrayLike) -> np.ndarray:
    """[R, D, L] -> [R, L]: the mean of the draws that were run, NaN where none was; [R, L] stays."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim == 2:
        return values
    count = (~np.isnan(values)).sum(axis=1)
    return np.where(count > 0, np.nansum(values, axis=1) / np.maximum(count, 1), np.nan)


def _gain(accuracy: ArrayLike) -> np.ndarray:
    """[R, L] points by which accuracies are above the first, the dense network's."""
    accuracy = np.asarray(accuracy)
    return 100 * (accuracy - accuracy[:, :1])


def _with_dense(accuracy: ArrayLike, of: np.ndarray) -> np.ndarray:
    """[R, L] with the dense network of another [R, L], from which it was pruned."""
    return np.concatenate([of[:, :1], np.asarray(accuracy, dtype=np.float64)[:, 1:]], axis=1)


def _where_sparse(density: ArrayLike, kinds: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Kind -> [R] mean of its [R, L] over the levels with less than `SPARSE`; empty if there is none."""
    if not (sparse := np.asarray(density) < SPARSE).any():
        return {}
    return {kind: np.asarray(values, dtype=np.float64)[:, sparse].mean(axis=1) for kind, values in kinds.items()}


def _run(*values: ArrayLike) -> np.ndarray:
    """[L] whether every replicate ran a level in all of these [R, L]."""
    return np.all([~np.isnan(v).any(axis=0) for v in values], axis=0)


def near(density: float, target: float = 0.211) -> bool:
    """Whether this share of weights left is near enough to another: 21 %, where most rules judge, if none is given."""
    return _level([density], target) is not None


def _level(density: ArrayLike, target: float, *values: ArrayLike, tolerance: float = 0.1) -> int | None:
    """The level at a density, or None if there is none or not every replicate ran it."""
    try:
        level = at_density(np.asarray(density), target, tolerance)
    except ValueError:
        return None
    return level if not values or _run(*values)[level] else None


def _down_to(density: np.ndarray, target: float, values: np.ndarray) -> np.ndarray:
    """The replicates [R, L] that reach the level at a density, cut there; no row if there is no such level."""
    level = _level(density, target)
    rows = values[:, : level + 1] if level is not None else values[:0]
    return rows[~np.isnan(rows).any(axis=1)]


def smallest_mean(values: np.ndarray) -> Summary:
    """The smallest mean of [R, K] rows of replicates."""
    return stats.smallest(lambda which, confidence: summary(values[:, which], confidence), values.shape[1])


def largest_mean(values: np.ndarray) -> Summary:
    """The largest mean of [R, K] rows of replicates."""
    return stats.largest(lambda which, confidence: summary(values[:, which], confidence), values.shape[1])


def _picked(validation: ArrayLike | None, among: np.ndarray) -> int | None:
    """The level with the best mean validation accuracy among some; None if there is none, or nothing to pick by."""
    if validation is None or not among.any():
        return None
    return int(np.where(among, np.asarray(validation, dtype=np.float64).mean(axis=0), -np.inf).argmax())


def _matching(error: ArrayLike) -> np.ndarray:
    """[L] which levels match the first in mean error, [R, L]."""
    error = np.asarray(error, dtype=np.float64)
    return stats.matching((error - error[:, :1]).mean(axis=0), tolerance(error[:, 0]))


def _lost(density: np.ndarray, accuracy: np.ndarray) -> float:
    """The density at which [R, L] accuracies fall below the first for good, in the mean."""
    return break_even(density, (accuracy - accuracy[:, :1]).mean(axis=0))


def _break_even_ratio(density: np.ndarray, early: np.ndarray, late: np.ndarray) -> Summary:
    """How much earlier [R, L] accuracies are lost than others: the first of the second is the dense network."""
    runs = [_run(values) for values in (early, late)]

    def times(early, late):
        even = [_lost(density[run], values[:, run]) for run, values in zip(runs, (early, late), strict=True)]
        return even[0] / even[1]

    return stats.bootstrap(times, early, late, log=True)


def _auc(near: np.ndarray, far: np.ndarray) -> float:
    """The probability that a number of the first kind is below one of the second; NaN if one kind has none."""
    return association.auc(near, far) if near.size and far.size else math.nan


def _members(pairs: int) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Replicates to draw from, and the pairs that a draw of them has.

    Args:
        pairs: their number: R (R − 1) / 2 of all pairs of R replicates, in the order of `itertools.combinations`; any
            other number is of pairs that share no replicate.
    """
    count = round((1 + math.sqrt(1 + 8 * pairs)) / 2)
    if count * (count - 1) // 2 != pairs or count < 3:
        return np.arange(pairs), lambda drawn: drawn
    place = np.full((count, count), -1)
    place[np.triu_indices(count, 1)] = np.arange(pairs)
    place = np.maximum(place, place.T)
    first, second = np.triu_indices(count, 1)

    def drawn_pairs(drawn):
        at = place[drawn[first], drawn[second]]
        return at[at >= 0]  # a replicate that was drawn twice is no pair with itself

    return np.arange(count), drawn_pairs


def _trend(rows: ArrayLike) -> Summary:
    """Whether the mean of [R, L] values falls or rises, as :func:`stats.trend` has it; NaN where one is missing."""

    def of_mean(drawn):
        values = drawn.mean(axis=0)
        return stats.trend(values) if np.isfinite(values).all() else math.nan

    return stats.bootstrap(of_mean, np.asarray(rows, dtype=np.float64), within=(-1, 1))


def _known(found: Quantities) -> Quantities:
    """Those that have a value."""
    return {name: value for name, value in found.items() if not math.isnan(_mean(value))}


def _mean(value: Summary | float) -> float:
    return value.mean if isinstance(value, Summary) else value
