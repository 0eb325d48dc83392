"""Separation, partial rank correlation and the bootstrap over networks on planted cases."""

import numpy as np
import pytest
from scipy import stats

from lottery import signs
from lottery.association import AssociationError, auc, contrast, dprime, partial_spearman, ranks


def test_separation():
    assert signs.auc is auc and signs.dprime is dprime
    assert auc([0.1, 0.2], [0.3, 0.4]) == 1 and auc([0.3, 0.4], [0.1, 0.2]) == 0
    assert auc([0.1, 0.3], [0.2, 0.3]) == pytest.approx((1 + 1 + 0 + 0.5) / 4)
    for near, far in (([], [1]), ([1], []), ([float("nan")], [1])):
        with pytest.raises(AssociationError, match="1 or more distances"):
            auc(near, far)


def test_dprime_tells_apart_what_saturates_the_auc():
    near = np.array([0.1, 0.2, 0.3])
    assert dprime(near, near + 1) == pytest.approx(1 / 0.1) and dprime(near, near + 2) == pytest.approx(2 / 0.1)
    assert dprime(near + 1, near) == pytest.approx(-10) and auc(near, near + 1) == auc(near, near + 2) == 1
    assert dprime([1, 1], [2, 2]) == np.inf and dprime([1, 1], [1, 1]) == 0
    with pytest.raises(AssociationError, match="2 or more"):
        dprime([0.1], [0.2, 0.3])


def test_what_only_rounding_tells_apart_is_equal():
    more = 0.1 + 0.2
    assert auc([more] * 4, [0.3] * 4) == auc([0.3] * 4, [more] * 4) == 0.5
    assert dprime([more, 0.3], [0.3, 0.3]) == 0 and dprime([more, 0.3], [0.4, 0.4]) == np.inf
    assert dprime([0.4, 0.4, 0.4], [0.1, 0.1, 0.1]) == -np.inf  # their means are rounded
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


def distances(networks, seed, shift=0.0):
    """Distances of which half the variance belongs to the networks, not to the pairs."""
    draw = np.random.default_rng(seed)
    own, pair = draw.standard_normal(networks), np.triu(draw.standard_normal((networks, networks)), 1)
    return shift + own[:, None] + own + pair + pair.T


def test_a_contrast_within_kinds_draws_networks_and_not_pairs():
    """At n = 10 a bootstrap over pairs would be too sure; these intervals hold 1/2 about as often as promised."""
    inside = 0
    for seed in range(60):
        value, low, high = contrast(
            distances(10, seed), distances(10, 1000 + seed), np.random.default_rng(seed), draws=200
        )
        assert low <= value <= high
        inside += low <= 0.5 <= high
    assert 46 <= inside <= 60
    value, low, _ = contrast(distances(10, 0), distances(10, 1, shift=8), np.random.default_rng(0), draws=200)
    assert value > 0.95 and low > 0.8


def test_paired_contrasts_draw_a_replicate_with_its_control():
    one = distances(8, 0)
    unpaired, paired = (contrast(one, one + 0.3, np.random.default_rng(0), dprime, 300, how) for how in (False, True))
    assert paired[0] == unpaired[0] and paired[2] - paired[1] < (unpaired[2] - unpaired[1]) / 2
    with pytest.raises(AssociationError, match="cannot be paired"):
        contrast(one, distances(7, 0), np.random.default_rng(0), paired=True)
    for odd in (one[:2, :2], one[:3]):
        with pytest.raises(AssociationError, match="three or more"):
            contrast(one, odd, np.random.default_rng(0))
