"""How strongly measurements of pairs of networks go together.

Measurements that only rounding tells apart are equal (`lottery.stats.tied`).
"""

import numpy as np
from scipy import stats

from . import LotteryError
from .stats import tied


class AssociationError(LotteryError):
    """Measurements of which no association can be computed."""


def auc(near, far) -> float:
    """The probability that a distance of the first kind is below one of the second, ties counted half.

    Raises:
        AssociationError: if one kind has none, or one is not a number.
    """
    near, far = np.asarray(near, float).ravel(), np.asarray(far, float).ravel()
    if not min(near.size, far.size) or np.isnan(near).any() or np.isnan(far).any():
        raise AssociationError("separation needs 1 or more distances of both kinds, all of them numbers")
    near, far = np.split(tied(np.concatenate([near, far])), [near.size])
    return float((near[:, None] < far[None]).mean() + (near[:, None] == far[None]).mean() / 2)


def ranks(values) -> np.ndarray:
    """Ranks from 1 on, ties at their mean."""
    return stats.rankdata(tied(values))


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
