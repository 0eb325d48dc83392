"""How strongly measurements of pairs of networks go together, and how sure that is.

Pairs share networks: with n networks there are n (n − 1) / 2 pairs, but only n independent draws. Intervals here come
from drawing networks anew with replacement, not pairs (Davison & Hinkley 1997, Section 2.3; for pairs of one set this
is the bootstrap of a U-statistic). Measurements that only rounding tells apart are equal (`lottery.stats.tied`).
"""

from collections.abc import Callable

import numpy as np

from . import LotteryError
from .stats import tied


class AssociationError(LotteryError):
    """Measurements of which no association can be computed."""


def auc(near, far) -> float:
    """The probability that a distance of the first kind is below one of the second, ties counted half.

    Raises:
        AssociationError: if one kind has none, or one is not a number.
    """
    near, far = _both(near, far, 1)
    return float((near[:, None] < far[None]).mean() + (near[:, None] == far[None]).mean() / 2)


def dprime(near, far) -> float:
    """The difference of the means of both kinds in their common standard deviation, √((s₁² + s₂²) / 2).

    Where the AUC of two measures is 1, this tells them apart: it has no ceiling. Infinite if neither kind varies.

    Raises:
        AssociationError: if a kind has fewer than two, or one is not a number.
    """
    near, far = _both(near, far, 2)
    if (near == near[0]).all() and (far == far[0]).all():
        return 0.0 if near[0] == far[0] else float(np.copysign(np.inf, far[0] - near[0]))
    spread = np.sqrt((near.var(ddof=1) + far.var(ddof=1)) / 2)
    return float((far.mean() - near.mean()) / spread)


def _both(near, far, least: int) -> tuple[np.ndarray, np.ndarray]:
    near, far = np.asarray(near, float).ravel(), np.asarray(far, float).ravel()
    if min(near.size, far.size) < least or np.isnan(near).any() or np.isnan(far).any():
        raise AssociationError(f"separation needs {least} or more distances of both kinds, all of them numbers")
    both = tied(np.concatenate([near, far]))
    return both[: near.size], both[near.size :]


def contrast(
    one: np.ndarray,
    other: np.ndarray,
    generator: np.random.Generator,
    statistic: Callable[[np.ndarray, np.ndarray], float] = auc,
    draws: int = 2000,
    paired: bool = False,
) -> tuple[float, float, float]:
    """Whether networks of one kind are closer to each other than those of another kind are.

    Args:
        one, other: distances [n, n] and [m, m] among the networks of each kind, symmetric; what is on the diagonal is
            not looked at.
        generator: of the bootstrap.
        statistic: of the distances of pairs of the first and the second kind.
        draws: of the bootstrap over networks; a network that is drawn twice makes no pair with itself.
        paired: network i of both kinds belongs together, as a ticket and a control of one replicate do: both are drawn
            or neither.

    Returns:
        The statistic, and the ends of its 95 % interval.

    Raises:
        AssociationError: if a kind has fewer than three networks, matrices are not square, or paired ones differ.
    """
    one, other = np.asarray(one, float), np.asarray(other, float)
    for matrix in (one, other):
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 3:
            raise AssociationError(
                f"a contrast is of square matrices of three or more networks each, not {list(matrix.shape)}"
            )
    if paired and len(one) != len(other):
        raise AssociationError(f"{len(one)} networks cannot be paired with {len(other)}")

    def drawn(size):
        """Networks drawn with replacement, of which at least two differ."""
        while len(np.unique(chosen := generator.integers(0, size, size))) < 2:
            pass
        return chosen

    def among(matrix, chosen):
        a, b = np.triu_indices(len(chosen), 1)
        a, b = chosen[a], chosen[b]
        return matrix[a[a != b], b[a != b]]

    found = []
    for _ in range(draws):
        first = drawn(len(one))
        found.append(statistic(among(one, first), among(other, first if paired else drawn(len(other)))))
    everything = (among(matrix, np.arange(len(matrix))) for matrix in (one, other))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(statistic(*everything)), float(low), float(high)


def ranks(values) -> np.ndarray:
    """Ranks from 1 on, ties at their mean."""
    _, place, count = np.unique(tied(values), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def partial_spearman(x, y, *given) -> float:
    """Spearman's ρ of x and y, with what ranks of other measurements explain of both taken away.

    Pearson's correlation of the residuals of a least-squares fit of the ranks of x and y on those of the others; with
    none it is Spearman's ρ. NaN where nothing is left to vary.

    Args:
        x, y: [N] measurements of the same N things.
        given: any number of others, [N] each.

    Raises:
        AssociationError: if lengths differ, something is not a number, or there are too few things.
    """
    columns = [np.asarray(part, float) for part in (x, y, *given)]
    if any(column.shape != (len(columns[0]),) or np.isnan(column).any() for column in columns):
        raise AssociationError("a correlation needs as many numbers of each measurement, all of them numbers")
    if len(columns[0]) < len(columns) + 1:
        raise AssociationError(f"{len(columns[0])} things are too few for {len(columns)} measurements")
    one, other, *rest = (ranks(column) for column in columns)
    basis = np.stack([np.ones(len(one)), *rest], 1)
    left = [part - basis @ np.linalg.lstsq(basis, part, rcond=None)[0] for part in (one, other)]
    scale = np.prod([np.sqrt(part @ part) for part in left])
    tiny = 1e-12 * np.prod([np.sqrt(part @ part) for part in (one, other)])
    return float(left[0] @ left[1] / scale) if scale > tiny else float("nan")
