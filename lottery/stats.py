"""Spread over replicates: intervals, tests, and how many replicates a question needs.

Everything here takes plain numpy arrays with one row or entry a replicate. Intervals are two-sided and cover 95 %
unless asked otherwise; ``low`` and ``high`` are the smallest and the largest replicate, the error bars of Frankle &
Carbin (2019).
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import special
from scipy import stats as distributions

from . import LotteryError

CONFIDENCE = 0.95
POWER = 0.8
ALIKE = 6  # replicates that must agree for p < 0.05, each counted as a sign: 2 · ½⁶


class StatsError(LotteryError, ValueError):
    """Numbers that cannot be summarised; the message says which and why."""


@dataclass(frozen=True)
class Summary:
    """What n replicates say about a quantity, in the quantity's own unit.

    Attributes:
        n: number of replicates.
        mean: the estimate: their mean, or a function of them all.
        low, high: the smallest and the largest of them; NaN where a quantity has no value for one replicate.
        ci_low, ci_high: two-sided interval of the mean; NaN where the replicates bound none.
        confidence: of that interval.
    """

    n: int
    mean: float
    low: float
    high: float
    ci_low: float
    ci_high: float
    confidence: float = CONFIDENCE

    @property
    def bounded(self) -> bool:
        """Whether there is an interval."""
        return math.isfinite(self.ci_low) and math.isfinite(self.ci_high)


SHARES = 0.1
"""A scale of shares, and of points, as `summary` takes it."""

ROUNDING = 1e-12
"""What rounding may leave of the size of numbers where they are equal."""


def summary(values: ArrayLike, confidence: float = CONFIDENCE, scale: float = 0.0) -> Summary:
    """Summarises replicates: their mean with a t-interval, which one replicate does not have.

    Args:
        values: [R] one finite number a replicate.
        confidence: share of repetitions in which the interval holds the mean.
        scale: size of the numbers that these are differences of, if they are: what rounding leaves of it is no
            difference. Rounding at the size of the values themselves never is one.

    Raises:
        StatsError: if there is no value, the array is not one-dimensional, a value is NaN or infinite, or the
            confidence is no share between 0 and 1.
    """
    values = _row(values)
    values = _alike(values, max(np.abs(values).max(), scale))
    mean = min(max(float(values.mean()), values.min()), values.max())  # equal values: a rounding error may leave them
    half = _t(values.size, confidence) * _error(values)
    return Summary(values.size, mean, float(values.min()), float(values.max()), mean - half, mean + half, confidence)


def cut(value: Summary, low: float = -math.inf, high: float = math.inf) -> Summary:
    """A summary whose interval does not leave what is possible, such as counts below zero, nor its mean behind.

    One without an interval stays without.
    """
    if not value.bounded:
        return value
    low, high = max(value.ci_low, low), min(value.ci_high, high)
    return replace(value, ci_low=min(low, value.mean), ci_high=max(high, value.mean))


def spread(values: ArrayLike) -> Summary:
    """Mean, smallest and largest of values that are not independent, such as pairs that share members: no interval.

    Raises:
        StatsError: as `summary`.
    """
    return replace(summary(values), ci_low=math.nan, ci_high=math.nan)


def _alike(values: np.ndarray, scale: float) -> np.ndarray:
    """Values as they are; where they differ by no more than rounding leaves at a scale, their mean each."""
    if not values.size or not np.isfinite(values).all() or np.ptp(values) > ROUNDING * scale:
        return values
    mean = float(values.mean())
    return np.full_like(values, mean if abs(mean) > ROUNDING * scale else 0.0)


def tied(values: ArrayLike, scale: float = 0.0) -> np.ndarray:
    """Values of which those that only rounding tells apart are equal: to 0, or to the smallest of them.

    For what compares them one by one, such as ranks. Others stay as they are, bit by bit; so do NaN and infinite ones.

    Args:
        values: of any shape; rounding is measured by the largest finite one.
        scale: as of :func:`summary`.
    """
    values = np.asarray(values, dtype=np.float64)
    most = ROUNDING * max(np.abs(values[np.isfinite(values)]).max(initial=0), scale)
    order = np.argsort(values, axis=None, kind="stable")
    rising = np.where(np.abs(values) <= most, 0.0, values).flat[order]
    with np.errstate(invalid="ignore"):  # between infinite ones
        new = ~(np.diff(rising, prepend=np.nan) <= most)
    result = np.empty_like(rising)
    result[order] = rising[new][np.cumsum(new) - 1]
    return result.reshape(values.shape)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE) -> Summary:
    """Summarises a - b, replicate by replicate: what replicates share (data order, first weights) cancels.

    Args:
        a, b: [R] the same quantity under two treatments, in the same order of replicates.
        confidence: as of :func:`summary`.

    Raises:
        StatsError: if the shapes differ, or as :func:`summary`.
    """
    a, b = _pair(a, b)
    return summary(a - b, confidence, max(np.abs(a).max(initial=0), np.abs(b).max(initial=0)))


def ratio(a: ArrayLike, base: ArrayLike, confidence: float = CONFIDENCE) -> Summary:
    """How many times base a is: mean(a) / mean(base), with Fieller's interval.

    The interval holds every R for which a paired t-test does not tell mean(a) from R · mean(base) (Fieller 1954). It is
    exact for normal numbers, correlated or not. There is none where the base may be zero. All is NaN
    where its mean is zero, as is the step of the smallest loss of networks that learn nothing.

    Args:
        a, base: [R] the same quantity under two treatments, in the same order of replicates.
        confidence: as of :func:`summary`.

    Raises:
        StatsError: if the shapes differ or mean(base) is negative, or as :func:`summary`.
    """
    a, base = _pair(a, base)
    over, under = _row(a).mean(), _row(base).mean()
    if under < 0:
        raise StatsError(f"a ratio needs a positive base, its mean is {under}")
    if under == 0:
        return Summary(a.size, *5 * [math.nan])
    low = high = math.nan
    if a.size > 1:
        spread = np.cov(a, base) * _t(a.size, confidence) ** 2 / a.size
        square, mixed, rest = under**2 - spread[1, 1], over * under - spread[0, 1], over**2 - spread[0, 0]
        if square > 0 and np.ptp(_alike(a - over / under * base, np.abs(a).max())) == 0:
            low = high = float(over / under)  # one ratio but for rounding, whose root would not be small
        elif square > 0:
            root = math.sqrt(max(mixed**2 - square * rest, 0.0))
            low, high = (mixed - root) / square, (mixed + root) / square
    each = a / base if (base > 0).all() else np.full(1, np.nan)
    return Summary(a.size, float(over / under), float(each.min()), float(each.max()), low, high, confidence)


def relative_change(a: ArrayLike, base: ArrayLike, confidence: float = CONFIDENCE) -> Summary:
    """By which share of base a differs from it: :func:`ratio` − 1, as papers state a change of means."""
    times = ratio(a, base, confidence)
    ends = (times.mean, times.low, times.high, times.ci_low, times.ci_high)
    return Summary(times.n, *(value - 1 for value in ends), confidence=confidence)


def bootstrap(
    function: Callable[..., float],
    *arrays: ArrayLike,
    n: int = 2000,
    seed: int = 0,
    within: tuple[float, float] = (-math.inf, math.inf),
    log: bool = False,
) -> Summary:
    """An interval for a function of all replicates that is no mean: replicates are drawn again, with replacement.

    The half-width is that of a t-interval with the standard error which the draws show, enlarged by √(R / (R − 1)): the
    variance of R drawn replicates is that much too small. For a mean this is the t-interval, so that three replicates
    are not taken for many; percentiles of the draws would cover 75 % there. Up to seven replicates all possible draws
    are weighed by their probability, and nothing is random.

    Args:
        function: takes the arrays, [R, ...] each, and gives a number; NaN where it has no answer.
        arrays: one row a replicate, drawn together.
        n: random draws, of more than seven replicates.
        seed: of these.
        within: the range of the quantity; the interval does not leave it.
        log: the interval is symmetric in the quantity's logarithm: for positive ones that are multiplied, such as a
            ratio of densities. No ratio is negative, and how many times is the same question both ways round.

    Returns:
        A summary without smallest and largest replicate. It has no interval for fewer than three replicates, or where
        one in five draws or more has no answer.

    Raises:
        StatsError: if arrays have no or different numbers of rows, or nothing is to be drawn.
    """
    if n < 1:
        raise StatsError(f"a bootstrap draws at least once, not {n} times")
    rows = [np.asarray(values) for values in arrays]
    if not rows or len({len(values) for values in rows}) != 1 or not len(rows[0]):
        raise StatsError("a bootstrap needs arrays with one row a replicate, all of the same length")
    count, estimate = len(rows[0]), float(function(*rows))
    none = Summary(count, estimate, math.nan, math.nan, math.nan, math.nan)
    if count < 3 or not math.isfinite(estimate) or (log and estimate <= 0):
        return none
    if count <= 7:
        draws = np.array(list(itertools.combinations_with_replacement(range(count), count)))
        times = np.stack([(draws == replicate).sum(axis=1) for replicate in range(count)], axis=1)
        weight = np.exp(special.gammaln(count + 1) - special.gammaln(times + 1).sum(axis=1) - count * math.log(count))
    else:
        draws = np.random.default_rng(seed).integers(count, size=(n, count))
        weight = np.full(n, 1 / n)
    found = np.array([function(*(values[draw] for values in rows)) for draw in draws], dtype=np.float64)
    if log:
        found, estimate = np.log(np.where(found > 0, found, np.nan)), math.log(estimate)
    answers = np.isfinite(found)
    if weight[answers].sum() <= 0.8:
        return none
    found, weight = found[answers], weight[answers] / weight[answers].sum()
    error = math.sqrt(weight @ (found - weight @ found) ** 2)
    half = _t(count) * math.sqrt(count / (count - 1)) * error
    least = max(1.0, abs(estimate)) if log else max(1e-5, np.abs(found).max())
    if half < 1e-9 * least:  # equal draws: what rounding leaves is no spread
        half = 0.0
    low, high = (math.exp(end) if log else end for end in (estimate - half, estimate + half))
    return replace(none, ci_low=max(low, within[0]), ci_high=min(high, within[1]))


def smallest(summarise: Callable[[int, float], Summary], count: int) -> Summary:
    """The smallest of several means, with an interval that allows for its having been picked.

    That all means lie above a bound is shown where each interval does, at the usual confidence; that one lies below
    takes an interval which allows for having looked at all (Bonferroni). So the smallest mean lies in the interval with
    95 % at least, however the means depend on each other. NaN if one of the means is.

    Args:
        summarise: (which of them, confidence) -> summary.
        count: how many there are.

    Raises:
        StatsError: if there are none.
    """
    if count < 1:
        raise StatsError("the smallest of no means is not defined")
    usual = [summarise(which, CONFIDENCE) for which in range(count)]
    wary = [summarise(which, 1 - (1 - CONFIDENCE) / count) for which in range(count)]
    means = [-math.inf if math.isnan(one.mean) else one.mean for one in usual]
    least = usual[[math.isclose(mean, min(means), rel_tol=ROUNDING) for mean in means].index(True)]
    ends = min(one.ci_low for one in usual), min(one.ci_high for one in wary)
    if not all(one.bounded for one in (*usual, *wary)):
        ends = math.nan, math.nan
    return replace(least, ci_low=ends[0], ci_high=ends[1])


def largest(summarise: Callable[[int, float], Summary], count: int) -> Summary:
    """The largest of several means; as :func:`smallest`."""
    return negated(smallest(lambda which, confidence: negated(summarise(which, confidence)), count))


def negated(value: Summary) -> Summary:
    """The summary of the same numbers with the other sign."""
    ends = -value.ci_high, -value.ci_low
    return Summary(value.n, -value.mean, -value.high, -value.low, *ends, confidence=value.confidence)


# Tests, read off an interval so that both always say the same.


def p_value(value: Summary, least: float = -math.inf, most: float = math.inf) -> float:
    """How likely evidence as strong as this, for the side on which the mean lies, is if the true value is the bound.

    Two-sided. One bound: a t-test against it. Between two bounds: equivalence, the larger of the tests against each
    (TOST); beyond one: the test against that. It is below 0.05 where the whole interval lies between the bounds, or
    beyond one. The standard error is read off the half of the interval that faces the bound: exact for means and
    differences, and for ratios at p = 0.05. Where all draws of a bootstrap agree, replicates count as signs: 2 · ½ⁿ.

    Returns:
        NaN where there is no interval.

    Raises:
        StatsError: without a bound.
    """
    if math.isinf(least) and math.isinf(most):
        raise StatsError("a p-value needs a bound: give least, most or both")
    if not value.bounded:
        return math.nan
    below, above = value.mean - value.ci_low, value.ci_high - value.mean
    if value.mean < least:
        return _p(least - value.mean, above, value)
    if value.mean > most:
        return _p(value.mean - most, below, value)
    sides = [(value.mean - least, below), (most - value.mean, above)]
    return max(_p(distance, half, value) for distance, half in sides if math.isfinite(distance))


def _p(distance: float, half: float, value: Summary) -> float:
    if half == 0:
        return min(1.0, 2 * 0.5**value.n)
    return min(1.0, 2 * float(distributions.t.sf(distance / half * _t(value.n, value.confidence), value.n - 1)))


def holm(values: ArrayLike) -> np.ndarray:
    """p-values [N] of several tests, each as if it had been the only one (Holm 1979); NaN stays and does not count.

    Raises:
        StatsError: if the array is not one-dimensional.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1:
        raise StatsError(f"expected one p-value a test, [N], got an array of shape {values.shape}")
    out = np.full(values.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    raised = values[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(raised), 1) if len(order) else []
    return out


def deviation(value: Summary, towards: float | None = None) -> float:
    """The standard deviation between replicates that an interval implies; NaN without one.

    Args:
        value: with an interval.
        towards: a bound: the half of the interval that faces it is taken, by which it is decided on which side the mean
            lies; the wider one if the interval ends at the bound, as one does that is cut there. By default, both.
    """
    if not value.bounded:
        return math.nan
    below, above = value.mean - value.ci_low, value.ci_high - value.mean
    half = (below + above) / 2
    if towards is not None:
        cut_there = towards in (value.ci_low, value.ci_high)
        half = max(below, above) if cut_there else below if towards < value.mean else above
    return half / _t(value.n, value.confidence) * math.sqrt(value.n)


def power(effect: float, deviation: float, n: int) -> float:
    """The probability that a two-sided 5 % t-test on n replicates sees an effect in its direction.

    Args:
        effect: distance of the true mean from the bound.
        deviation: standard deviation between replicates.
        n: replicates.
    """
    if n < 2:
        return 0.0
    if deviation == 0:
        return 1.0 if effect else 0.0
    return float(distributions.nct.sf(_t(n), n - 1, abs(effect) / deviation * math.sqrt(n)))


def detectable(value: Summary, bounds: Iterable[float] = (), wanted: float = POWER) -> float:
    """The smallest distance from a bound that as many replicates with this spread see in four of five studies.

    Args:
        value: with an interval.
        bounds: those that count. An interval may be wider towards one of them (:func:`deviation`): the widest is taken.
        wanted: the share of studies.

    Returns:
        NaN where there is no interval, or no spread to go by.
    """
    spread = max((deviation(value, bound) for bound in bounds), default=deviation(value))
    if not math.isfinite(spread) or spread == 0:
        return math.nan
    low, high = 0.0, spread
    while power(high, spread, value.n) < wanted:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, spread, value.n) < wanted else (low, middle)
    return high


def joint_power(tests: Iterable[tuple[float, float]], n: int) -> float:
    """The probability, at least, that all of several tests see their effects: one minus the sum of what each misses.

    Args:
        tests: effect and deviation of each, as for :func:`power`; two for equivalence.
        n: replicates.
    """
    return max(0.0, 1 - sum(1 - power(effect, spread, n) for effect, spread in tests))


def replicates_needed(*tests: tuple[float, float], wanted: float = POWER, most: int = 1000) -> int | None:
    """Replicates for which :func:`joint_power` is as wanted; None if that takes more than `most`.

    Args:
        tests: effect and deviation of each test that must see its effect.
        wanted: the probability that all see theirs.
        most: replicates that are thought of.
    """
    if not np.isfinite(tests).all() or joint_power(tests, most) < wanted:
        return None
    low, high = 1, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if joint_power(tests, middle) >= wanted else (middle, high)
    return high


# Levels of pruning.


def matching(excess: ArrayLike, epsilon: ArrayLike) -> np.ndarray:
    """Which excess errors over the dense network are at most ε.

    An excess of just ε counts, whatever rounding does: shares of 10,000 images are not exact in binary.

    Args:
        excess: of any shape, shares; NaN does not match.
        epsilon: a share, or one for each excess.
    """
    return np.asarray(excess) <= np.asarray(epsilon) + 1e-9


def at_density(density: Sequence[float] | np.ndarray, target: float, tolerance: float = 0.1) -> int:
    """The index of the level whose density is nearest to a target, on the logarithmic axis that figures use.

    Args:
        density: [L] share of weights left, in (0, 1].
        target: the share looked for.
        tolerance: largest relative distance that still counts as "at" the target.

    Raises:
        StatsError: if no level is that near.
    """
    distance = tied(np.abs(np.log(np.asarray(density, dtype=np.float64) / target)))
    index = int(distance.argmin())
    if distance[index] > math.log1p(tolerance) * (1 + ROUNDING):
        raise StatsError(f"no level near {100 * target:.1f} % of weights; the nearest is {100 * density[index]:.1f} %")
    return index


def trend(values: ArrayLike) -> float:
    """Spearman's rank correlation of [L] values with their place in the row: -1 falls, 1 rises at every step.

    NaN where a trend is undefined: fewer than three values, or all of them equal but for rounding.

    Raises:
        StatsError: if a value is not finite or the array is not one-dimensional.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise StatsError("a trend needs a row of finite values")
    values = tied(values)
    if values.size < 3 or np.ptp(values) == 0:
        return math.nan
    return float(np.corrcoef(np.arange(values.size), distributions.rankdata(values))[0, 1])


def break_even(density: ArrayLike, gain: ArrayLike) -> float:
    """The density at which a gain over the dense network is lost for good.

    Going from dense to sparse, it is where the gain crosses zero for the last time, interpolated linearly in the
    logarithm of density between the two levels around the crossing.

    Args:
        density: [L] share of weights left, falling; the first is the dense network's.
        gain: [L] gain over the dense network at each level (mean over replicates), in shares or points: what rounding
            leaves of these is no loss.

    Returns:
        The density of break-even. The smallest density if the gain is not negative there (then it is an upper bound).
        NaN if no pruned level has a gain of zero or more: there is no ticket that could be lost.

    Raises:
        StatsError: if shapes differ, density does not fall, or a value is not finite.
    """
    density, gain = _pair(density, gain)
    if not (np.isfinite(gain).all() and (density > 0).all() and (np.diff(density) < 0).all()):
        raise StatsError("break-even needs falling densities and finite gains")
    gain = tied(gain, SHARES)
    kept = np.flatnonzero(gain[1:] >= 0) + 1
    if kept.size == 0:
        return math.nan
    last = int(kept[-1])
    if last == density.size - 1:
        return float(density[last])
    share = gain[last] / (gain[last] - gain[last + 1])
    return float(density[last] * (density[last + 1] / density[last]) ** share)


def _row(values: ArrayLike) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise StatsError(f"expected one value a replicate, got an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise StatsError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} replicates are NaN or infinite")
    return values


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise StatsError(f"expected two rows of the same length, got shapes {a.shape} and {b.shape}")
    return a, b


@functools.cache
def _t(n: int, confidence: float = CONFIDENCE) -> float:
    if not 0 < confidence < 1:
        raise StatsError(f"a confidence is a share between 0 and 1, such as 0.95, not {confidence}")
    return float(distributions.t.ppf((1 + confidence) / 2, n - 1)) if n > 1 else math.nan


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(values.size) if values.size > 1 else math.nan
