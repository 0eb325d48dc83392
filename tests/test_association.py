"""Separation and partial rank correlation on planted cases."""

import numpy as np
import pytest
from scipy import stats

from lottery import signs
from lottery.association import AssociationError, auc, partial_spearman, ranks


def test_separation():
    assert signs.auc is auc
    assert auc([0.1, 0.2], [0.3, 0.4]) == 1 and auc([0.3, 0.4], [0.1, 0.2]) == 0
    assert auc([0.1, 0.3], [0.2, 0.3]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    for near, far in (([], [1]), ([1], []), ([float("nan")], [1])):
        with pytest.raises(AssociationError, match="1 or more distances"):
            auc(near, far)


def test_what_only_rounding_tells_apart_is_equal():
    more = 0.1 + 0.2
    assert auc([more] * 4, [0.3] * 4) == auc([0.3] * 4, [more] * 4) == 0.5
    assert ranks([more, 0.3, 1, 5e-17, 0]).tolist() == [3.5, 3.5, 5, 1.5, 1.5]
    assert partial_spearman([more, 0.3, 1, 2], [1, 2, 4, 3]) == partial_spearman([0.3, more, 1, 2], [1, 2, 4, 3])
    assert np.isnan(partial_spearman([more, 0.3, 0.3, more], [1, 2, 3, 4]))


def test_ranks_are_scipys():
    values = np.random.default_rng(0).integers(0, 9, 50)
    np.testing.assert_array_equal(ranks(values), stats.rankdata(values))


def test_partial_correlation_takes_away_what_the_others_explain():
    draw = np.random.default_rng(0)
    z, *noise = draw.standard_normal((4, 4000))
    x, y = z + noise[0], z + noise[1]
    assert partial_spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert partial_spearman(x, y) > 0.4 and abs(partial_spearman(x, y, z)) < 0.05
    assert partial_spearman(x + noise[2], y + noise[2], z) > 0.3
    assert partial_spearman(x, np.exp(y), z) == pytest.approx(partial_spearman(x, y, z))  # ranks alone count
    rho = {(i, j): stats.spearmanr(a, b).statistic for i, a in enumerate((x, y, z)) for j, b in enumerate((x, y, z))}
    formula = (rho[0, 1] - rho[0, 2] * rho[1, 2]) / np.sqrt((1 - rho[0, 2] ** 2) * (1 - rho[1, 2] ** 2))
    assert partial_spearman(x, y, z) == pytest.approx(formula)
    assert np.isnan(partial_spearman(x, y, x))
    for bad in (([1, 2], [1, 2]), ([1, 2, 3], [1, 2]), ([1, 2, np.nan], [1, 2, 3])):
        with pytest.raises(AssociationError):
            partial_spearman(*bad)
