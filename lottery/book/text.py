"""Numbers as a page shows them: means with intervals, extremes, counts, lists."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..stats import SHARES, Summary, cut, negated, relative_change, summary

RANGES = {"%": (0, 100), "pp": (-100, 100)}
"""Unit → the range of shares and of their differences in it."""

MAGNITUDES = {"new": "new magnitudes", "reshuffled": "reshuffled", "constant": "one constant"}
SIGNS = {"original": "signs kept", "random": "random signs"}
"""Values and signs of `tickets.sign_ablation` in words."""

CRITERIA = {
    "magnitude": "ends large",
    "magnitude_increase": "grew most",
    "movement": "moved furthest",
    "large_final_same_sign": "ends large, same sign",
    "large_init": "starts large",
    "random": "random",
    "small_init": "starts small",
    "small_final": "ends small",
}
"""Criteria of `masks.scores` → what their masks keep."""

ASKED = {name: CRITERIA[name] for name in ("magnitude", "magnitude_increase", "random", "small_init", "small_final")}
"""Those that the claims ask about."""


_PLACE = re.compile(r"\{([\w-]+)(?::([^{}]+))?\}")


def names(sentence: str) -> list[str]:
    """The values that a sentence names, each once, in order: `{name}`, with or without a form."""
    return list(dict.fromkeys(match[1] for match in _PLACE.finditer(sentence)))


def filled(sentence: str, values: Mapping[str, object]) -> str:
    """A sentence with its values.

    Args:
        sentence: `{name:.1f}` stands for a number, `{name:no n}` for an interval without the number of its replicates.
        values: what the chapter glued.
    """

    def value(match: re.Match) -> str:
        found, form = values[match[1]], match[2]
        if form == "no n":
            return re.sub(r", n = \d+$", "", str(found).strip("'"))
        return format(float(str(found)), form) if form else str(found).strip("'")

    return _PLACE.sub(value, sentence)


def number(value: float, scale: float = 1, digits: int = 2) -> str:
    """A number with a true minus sign and separated thousands, never "−0.00"; a dash where there is none.

    A half is rounded up, and so is one that its computation left a little below: 0.125 is 0.13 wherever it stands.
    """
    if math.isnan(value):
        return "–"
    text = f"{abs(value) * scale * (1 + 1e-12):,.{digits}f}"
    return ("−" if value < 0 and text.strip("0.,") else "") + text


def format_interval(value: Summary | float, scale: float = 1, unit: str = "", digits: int = 2) -> str:
    """Text such as ``97.81 % [97.70, 97.92], n = 5``; without an interval there are no brackets.

    Where all replicates give one value there is no interval either; the text says so.

    Args:
        value: a summary, or a plain number (then no interval and no n).
        scale: factor to the unit shown, 100 for shares shown in %.
        unit: written after the mean.
        digits: decimals.
    """
    mean, tail = (value.mean, f", n = {value.n}") if isinstance(value, Summary) else (float(value), "")
    ends = ""
    if isinstance(value, Summary) and value.bounded:
        ends = f" [{number(value.ci_low, scale, digits)}, {number(value.ci_high, scale, digits)}]"
        if value.n > 1 and math.isclose(value.ci_low, value.ci_high, rel_tol=1e-9, abs_tol=1e-12):
            ends = " (all the same)"
    return f"{number(mean, scale, digits)}{' ' + unit if unit else ''}{ends}{tail}"


def interval(
    values: ArrayLike,
    scale: float = 1,
    unit: str = "",
    digits: int = 2,
    within: tuple[float, float] | None = None,
) -> str:
    """Mean of [R] replicates and its interval as :func:`format_interval` writes them, without n: for tables.

    Where there is no value or one is NaN, since a replicate was not run, it is "not run".

    Args:
        values: [R], one a replicate.
        scale, unit, digits: of :func:`format_interval`.
        within: the range of what is shown, in the unit: the interval does not leave it. By default that of shares in %
            and of their differences in pp; there is none for other units.
    """
    if _lacking(values):
        return "not run"
    low, high = within or RANGES.get(unit, (-math.inf, math.inf))
    found = cut(summary(values, scale=SHARES), low / scale, high / scale)
    return format_interval(found, scale, unit, digits).rpartition(", n = ")[0]


def _lacking(values: ArrayLike) -> bool:
    return np.size(values) == 0 or bool(np.isnan(np.asarray(values, dtype=np.float64)).any())


def sooner(a: ArrayLike, b: ArrayLike) -> str:
    """How much sooner a was than b: the relative change of the means [R] with its sign turned, in per cent; "not run"
    where there is no value or one is NaN."""
    if _lacking(a) or _lacking(b):
        return "not run"
    return format_interval(negated(relative_change(a, b)), 100, "%", 0)


def speed(words: str, dense: ArrayLike, sparse: ArrayLike) -> list[str]:
    """A row of a table: words, iterations [R] of dense networks and of sparse ones, how much sooner the second are."""
    both = (interval(values, 1, "", 0, within=(0, math.inf)) for values in (dense, sparse))
    return [words, *both, sooner(sparse, dense)]


def of_two(value: Summary | float, scale: float = 1, unit: str = "", digits: int = 2) -> str:
    """A summary as :func:`format_interval` writes it; of two replicates, whose interval says nothing, both values."""
    if not isinstance(value, Summary) or value.n != 2:
        return format_interval(value, scale, unit, digits)
    both = " and ".join(number(one, scale, digits) for one in (value.low, value.high))
    return f"{both}{' ' + unit if unit else ''}"


def extremes(values: ArrayLike, scale: float = 1, unit: str = "", digits: int = 2) -> str:
    """Mean of [R] replicates, the smallest, the largest: ``97.81 % (97.70 to 97.92)``; for tables."""
    mean, *ends = (number(float(pick(np.asarray(values))), scale, digits) for pick in (np.mean, np.min, np.max))
    return f"{mean}{' ' + unit if unit else ''}" + (f" ({ends[0]} to {ends[1]})" if np.size(values) > 1 else "")


def points(shares: ArrayLike) -> str:
    """Mean of shares, the smallest, the largest, as percentage points of one decimal: ``9.3 (7.0 to 12.1)``."""
    return extremes(shares, scale=100, digits=1)


def above_middle(gaps: Mapping[str, np.ndarray]) -> dict[str, str]:
    """How much higher paths rise than they do at the middle, in percentage points, as texts to glue.

    Args:
        gaps: of `tidy.above_middle`.

    Returns:
        ``whole_paths``, how many there are; ``typical_…``, the mean, and ``above_…``, the largest, of both kinds of
        statistics.
    """
    found = {"whole_paths": f"{len(next(iter(gaps.values()))):,}"}
    for way, values in gaps.items():
        name = way.replace("-", "")
        found |= {
            f"typical_{name}": f"{100 * values.mean():.1f}" if values.size else "–",
            f"above_{name}": f"{100 * values.max():.1f}" if values.size else "–",
        }
    return found


def count(number: int, noun: str) -> str:
    """A number with its noun: ``1 replicate``, ``3 replicates``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def enumerated(words: Sequence[str], unit: str = "") -> str:
    """Words with "and" before the last: ``40.1, 16.2 and 6.6 %``; "" if there is none."""
    said = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    return said and said + unit


def listed(noun: str, numbers: Sequence[int]) -> str:
    """Numbers after their noun: ``level 9``, ``levels 1, 3, 5``; ``no level`` if there is none."""
    return f"{noun}{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}" if numbers else f"no {noun}"


def fully_connected(shapes: Iterable[Sequence[int]]) -> str:
    """The layers of a LeNet: ``784 inputs, hidden layers of 300 and 100 units, 10 outputs, 266,200 weights``.

    Args:
        shapes: [outputs, inputs] of its layers' weights, from the input on.
    """
    layers = [tuple(shape) for shape in shapes]
    *hidden, outputs = (units for units, _ in layers)
    within = f"{'hidden layers' if len(hidden) > 1 else 'a hidden layer'} of {enumerated([*map(str, hidden)])} units, "
    weights = sum(a * b for a, b in layers)
    return f"{layers[0][1]:,} inputs, {within if hidden else ''}{outputs} outputs, {weights:,} weights"


def each(words: Mapping[str, str]) -> str:
    """What is said of each of several: ``Conv-2: 3.1 pp; Conv-4: 2.0 pp``."""
    return "; ".join(f"{name}: {said}" for name, said in words.items())


def by_size(left: Sequence[str], values: np.ndarray) -> str:
    """Means of differences in points, with intervals, at the sizes that all replicates have.

    Args:
        left: [L] weights left in per cent.
        values: [R, L] shares; NaN where nothing was run.

    Returns:
        ``13.5 %: 0.31 pp [0.18, 0.44]; 8.7 %: …``, or "not run".
    """
    rows = [(one, row) for one, row in zip(left, values.T, strict=True) if not np.isnan(row).any()]
    return each({f"{one} %": interval(row, 100, "pp") for one, row in rows}) or "not run"
