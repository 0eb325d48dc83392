"""Spread over replicates, and verdicts by a rule that was written down before the numbers.

Everything here takes plain numpy arrays with one row or entry a replicate. Intervals are two-sided 95 % t-intervals
of the mean; ``low`` and ``high`` are the smallest and the largest replicate, the error bars of Frankle & Carbin (2019).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from scipy import stats as _scipy_stats

REPRODUCED, IN_PART, NOT_REPRODUCED = "reproduced", "in part", "not reproduced"
NOT_TESTED = "not tested at this scale"
LABELS = (REPRODUCED, IN_PART, NOT_REPRODUCED, NOT_TESTED)

_BOUNDS = {
    "at_least": (operator.ge, "≥"),
    "above": (operator.gt, ">"),
    "at_most": (operator.le, "≤"),
    "below": (operator.lt, "<"),
}
_CHECK_KEYS = {"quantity", "says", "unit", "scale", "digits", "pending"} | set(_BOUNDS)
_RULE_KEYS = {"title", "claim", "source", "paper", "needs", "checks"}


@dataclass(frozen=True)
class Summary:
    """What n replicates say about a quantity, in the quantity's own unit.

    Attributes:
        n: number of replicates.
        mean: their mean.
        low, high: the smallest and the largest of them.
        ci_low, ci_high: two-sided 95 % t-interval of the mean; NaN for n = 1, where no spread is known.
    """

    n: int
    mean: float
    low: float
    high: float
    ci_low: float
    ci_high: float


def summary(values: Any) -> Summary:
    """Summarises replicates.

    Args:
        values: [R] one finite number a replicate.

    Raises:
        ValueError: if there is no value, the array is not one-dimensional, or a value is NaN or infinite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"expected one value a replicate, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} replicates are NaN or infinite")
    n, low, high = values.size, float(values.min()), float(values.max())
    mean = min(max(float(values.mean()), low), high)  # the mean of equal values may leave them by a rounding error
    half = math.nan
    if n > 1:
        half = float(_scipy_stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n))
    return Summary(n, mean, low, high, mean - half, mean + half)


def paired_difference(a: Any, b: Any) -> Summary:
    """Summarises a - b, replicate by replicate: what replicates share (data order, first weights) cancels.

    Args:
        a, b: [R] the same quantity under two treatments, in the same order of replicates.

    Raises:
        ValueError: if the shapes differ, or as :func:`summary`.
    """
    return summary(np.subtract(*_same_shape(a, b)))


def relative_change(a: Any, base: Any) -> Summary:
    """Summarises (a - base) / mean(base), replicate by replicate.

    The mean is the change of the means (mean(a) / mean(base) - 1), as papers state it; the interval is a paired one.

    Args:
        a, base: [R] the same positive quantity under two treatments, in the same order of replicates.

    Raises:
        ValueError: if the shapes differ or mean(base) is not positive, or as :func:`summary`.
    """
    a, base = _same_shape(a, base)
    if not base.mean() > 0:
        raise ValueError(f"a relative change needs a positive base, its mean is {base.mean()}")
    return summary((a - base) / base.mean())


def ratio(a: Any, base: Any) -> Summary:
    """Summarises how many times base a is: 1 + :func:`relative_change`, so the mean is mean(a) / mean(base)."""
    change = relative_change(a, base)
    return Summary(change.n, *(1 + getattr(change, name) for name in ("mean", "low", "high", "ci_low", "ci_high")))


def at_density(density: Any, target: float, tolerance: float = 0.1) -> int:
    """The index of the level whose density is nearest to a target, on the logarithmic axis that figures use.

    Args:
        density: [L] share of weights left, in (0, 1].
        target: the share looked for.
        tolerance: largest relative distance that still counts as "at" the target.

    Raises:
        ValueError: if no level is that near.
    """
    distance = np.abs(np.log(np.asarray(density, dtype=np.float64) / target))
    index = int(distance.argmin())
    if distance[index] > math.log1p(tolerance):
        raise ValueError(f"no level near {100 * target:.1f} % of weights; the nearest is {100 * density[index]:.1f} %")
    return index


def trend(values: Any) -> float:
    """Spearman's rank correlation of [L] values with their place in the row: -1 falls, 1 rises at every step.

    NaN where a trend is undefined: fewer than three values, or all of them equal.

    Raises:
        ValueError: if a value is not finite or the array is not one-dimensional.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("a trend needs a row of finite values")
    if values.size < 3 or np.ptp(values) == 0:
        return math.nan
    return float(_scipy_stats.spearmanr(np.arange(values.size), values).statistic)


def break_even(density: Any, gain: Any) -> float:
    """The density at which a gain over the dense network is lost for good.

    Going from dense to sparse, it is where the gain crosses zero for the last time, interpolated linearly in the
    logarithm of density between the two levels around the crossing.

    Args:
        density: [L] share of weights left, falling.
        gain: [L] gain over the dense network at each level (mean over replicates).

    Returns:
        The density of break-even. The smallest density if the gain is not negative there (then it is an upper bound);
        the largest if it is negative everywhere.

    Raises:
        ValueError: if shapes differ, density does not fall, or a value is not finite.
    """
    density, gain = _same_shape(density, gain)
    if not (np.isfinite(gain).all() and (density > 0).all() and (np.diff(density) < 0).all()):
        raise ValueError("break-even needs falling densities and finite gains")
    kept = np.flatnonzero(gain >= 0)
    if kept.size == 0:
        return float(density[0])
    last = int(kept[-1])
    if last == density.size - 1:
        return float(density[last])
    share = gain[last] / (gain[last] - gain[last + 1])
    return float(density[last] * (density[last + 1] / density[last]) ** share)


def format_interval(value: Summary | float, scale: float = 1, unit: str = "", digits: int = 2) -> str:
    """Text such as ``97.81 % [97.70, 97.92], n = 5``; one replicate has no interval and says so by ``n = 1``.

    Args:
        value: a summary, or a plain number (then no interval and no n).
        scale: factor to the unit shown, 100 for shares shown in %.
        unit: written after the mean.
        digits: decimals.
    """

    def number(x: float) -> str:
        text = f"{abs(x) * scale:,.{digits}f}"
        return ("−" if x < 0 and text.strip("0.,") else "") + text  # no "−0.00"

    mean, tail = (value.mean, f", n = {value.n}") if isinstance(value, Summary) else (float(value), "")
    interval = ""
    if isinstance(value, Summary) and not math.isnan(value.ci_low):
        interval = f" [{number(value.ci_low)}, {number(value.ci_high)}]"
    return f"{number(mean)}{' ' + unit if unit else ''}{interval}{tail}"


def interval(values: Any, scale: float = 1, unit: str = "", digits: int = 2) -> str:
    """Mean of [R] replicates and its interval as :func:`format_interval` writes them, without n: for tables."""
    return format_interval(summary(values), scale, unit, digits).rpartition(", n = ")[0]


def extremes(values: Any, scale: float = 1, unit: str = "", digits: int = 2) -> str:
    """Mean of [R] replicates, the smallest, the largest: ``97.81 % (97.70 to 97.92)``; for tables."""
    mean, *ends = (format_interval(v, scale, digits=digits) for v in (np.mean(values), np.min(values), np.max(values)))
    return f"{mean}{' ' + unit if unit else ''}" + (f" ({ends[0]} to {ends[1]})" if np.size(values) > 1 else "")


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 replicate``, ``3 replicates``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(noun: str, numbers: Sequence[int]) -> str:
    """Numbers after their noun: ``level 9``, ``levels 1, 3, 5``; ``no level`` if there is none."""
    return f"{noun}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else f"no {noun}"


@dataclass(frozen=True)
class Check:
    """One check of a rule, with what was measured.

    Attributes:
        quantity, says: name of the quantity, and the check in words.
        measured: the value compared (a mean over replicates); NaN if there is none.
        interval: its 95 % interval, or None if it has none.
        thresholds: bounds as (name, value), e.g. ``(("at_least", 0.2),)``; all must hold.
        holds: whether they do; None if nothing was measured.
        borderline: whether the interval straddles a threshold; None without an interval. It changes no verdict.
        paper: the paper's value as text, or "".
        text: what was measured, for display; the bounds too in ``bound``.
    """

    quantity: str
    says: str
    measured: float
    interval: tuple[float, float] | None
    thresholds: tuple[tuple[str, float], ...]
    holds: bool | None
    borderline: bool | None
    paper: str
    text: str
    bound: str


@dataclass(frozen=True)
class Verdict:
    """A label out of ``LABELS``, the checks behind it, and the needs of the claim that the study did not meet."""

    label: str
    checks: tuple[Check, ...]
    unmet: tuple[str, ...] = ()


def verdict(rule: Mapping[str, Any], measured: Mapping[str, Summary | float], context: Mapping[str, Any]) -> Verdict:
    """Judges a claim by its rule.

    All checks hold: reproduced; some: in part; none: not reproduced. A context that does not meet what the claim needs
    gives "not tested at this scale" whatever the checks say; they are still evaluated as far as they were measured. A
    check marked ``pending`` (a part of the claim that another chapter tests) may lack its quantity: it then does not
    hold, so that such a claim is reproduced "in part" at best until that chapter has been run.

    Args:
        rule: an entry of ``book/claims.yml``: ``needs`` (what the study must be: numbers at least, all else equal) and
            ``checks`` (each with ``quantity`` and bounds ``at_least``, ``above``, ``at_most``, ``below``).
        measured: quantity -> summary over replicates (its mean is compared), or a number.
        context: what the study is; states every key of ``needs``.

    Raises:
        ValueError: if the rule is malformed, the context lacks a key that the claim needs, or a quantity that a check
            needs is missing or NaN although the study is of the scale that the claim needs.
    """
    _validate(rule)
    unmet = tuple(_unmet(rule.get("needs", {}), context))
    paper = rule.get("paper", {})
    checks = tuple(_check(entry, measured, str(paper.get(entry["quantity"], ""))) for entry in rule["checks"])
    if unmet:
        return Verdict(NOT_TESTED, checks, unmet)
    lacking = [
        check.quantity
        for check, entry in zip(checks, rule["checks"], strict=True)
        if check.holds is None and (not entry.get("pending") or check.quantity in measured)
    ]
    if lacking:
        raise ValueError(f"no verdict: missing or NaN: {', '.join(lacking)}")
    held = [bool(check.holds) for check in checks]
    return Verdict(REPRODUCED if all(held) else IN_PART if any(held) else NOT_REPRODUCED, checks)


def rows(judged: Verdict) -> list[dict[str, str]]:
    """A verdict's checks as rows of text: what is tested, the bound, the paper's value, ours, and whether it holds."""
    words = {True: "yes", False: "no", None: "not measured"}
    return [
        {
            "check": check.says,
            "needs": check.bound,
            "paper": check.paper or "–",
            "measured": check.text,
            "holds": words[check.holds] + (", borderline" if check.borderline else ""),
        }
        for check in judged.checks
    ]


def _same_shape(a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"expected two rows of the same length, got shapes {a.shape} and {b.shape}")
    return a, b


def _validate(rule: Mapping[str, Any]) -> None:
    problems = [f"unknown key {key!r}" for key in sorted(set(rule) - _RULE_KEYS)]
    checks = rule.get("checks") or []
    if not checks:
        problems.append("no checks")
    for entry in checks:
        name = entry.get("quantity", "a check without a quantity")
        problems += [f"{name}: unknown key {key!r}" for key in sorted(set(entry) - _CHECK_KEYS)]
        bounds = {key: entry[key] for key in _BOUNDS if key in entry}
        if "quantity" not in entry or not bounds:
            problems.append(f"{name}: needs a quantity and one of {', '.join(_BOUNDS)}")
        problems += [f"{name}: {key} is not a finite number" for key, bound in bounds.items() if not _is_number(bound)]
    unused = set(rule.get("paper", {})) - {entry.get("quantity") for entry in checks}
    problems += [f"paper has a value for {name!r}, which no check uses" for name in sorted(unused)]
    if problems:
        raise ValueError("malformed rule: " + "; ".join(problems))


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _unmet(needs: Mapping[str, Any], context: Mapping[str, Any]) -> Sequence[str]:
    if missing := sorted(set(needs) - set(context)):
        raise ValueError(f"the context does not say: {', '.join(missing)}")
    out = []
    for key, need in needs.items():
        have = context[key]
        if _is_number(need):
            if not (_is_number(have) and have >= need):
                out.append(f"{key} is {have}, the claim needs at least {need}")
        elif have != need:
            out.append(f"{key} is {have}, the claim needs {need}")
    return out


def _check(entry: Mapping[str, Any], measured: Mapping[str, Summary | float], paper: str) -> Check:
    bounds = tuple((key, float(entry[key])) for key in _BOUNDS if key in entry)
    digits = entry.get("digits", 2)

    def said(value, digits=digits):
        return format_interval(value, entry.get("scale", 1), entry.get("unit", ""), digits)

    bound = " and ".join(f"{_BOUNDS[key][1]} {said(value)}" for key, value in bounds)
    value = measured.get(entry["quantity"], math.nan)
    mean = value.mean if isinstance(value, Summary) else float(value)
    interval = None
    if isinstance(value, Summary) and not math.isnan(value.ci_low):
        interval = (value.ci_low, value.ci_high)
    says = entry.get("says", entry["quantity"])
    if math.isnan(mean):
        text = f"open: {entry['pending']}" if entry.get("pending") else "not measured"
        return Check(entry["quantity"], says, mean, None, bounds, None, None, paper, text, bound)
    holds = all(_BOUNDS[key][0](mean, threshold) for key, threshold in bounds)
    borderline = None if interval is None else any(interval[0] < t < interval[1] for _, t in bounds)
    missed = [t for _, t in bounds if not math.isclose(t, mean, rel_tol=1e-9, abs_tol=1e-12)]
    while any(said(mean, digits) == said(t, digits) for t in missed):
        digits += 1  # a measurement must not read like a bound that it is not
    return Check(entry["quantity"], says, mean, interval, bounds, holds, borderline, paper, said(value, digits), bound)
