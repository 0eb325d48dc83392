"""Spread, intervals and tests: closed-form cases, properties, and the coverage of every interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import stats as reference

from lottery import stats

FINITE = some.floats(-1e6, 1e6)


def test_summary_is_the_t_interval():
    got = stats.summary([2, 4, 6])
    assert (got.n, got.mean, got.low, got.high) == (3, 4, 2, 6)
    half = reference.t.ppf(0.975, 2) * 2 / math.sqrt(3)
    assert got.ci_high - got.mean == pytest.approx(half) == got.mean - got.ci_low
    # With two values the t-distribution is Cauchy's, whose quantile is a tangent.
    assert stats.summary([0, 1]).ci_high == pytest.approx(0.5 + math.tan(0.475 * math.pi) / 2)


def test_one_replicate_has_no_interval():
    got = stats.summary([0.5])
    assert (got.n, got.mean, got.low, got.high) == (1, 0.5, 0.5, 0.5) and not got.bounded


@pytest.mark.parametrize("values", [[], [[1, 2]], [1, math.nan], [1, math.inf]])
def test_no_summary_of_nothing_or_of_what_is_not_finite(values):
    with pytest.raises(stats.StatsError):
        stats.summary(values)


@given(some.lists(FINITE, min_size=2, max_size=20), some.randoms())
def test_summary_keeps_its_order_and_forgets_that_of_the_replicates(values, random):
    got = stats.summary(values)
    assert got.ci_low <= got.low <= got.mean <= got.high or got.ci_low <= got.mean <= got.ci_high
    shuffled = random.sample(values, len(values))
    assert stats.summary(shuffled).mean == pytest.approx(got.mean, abs=1e-6)


@given(some.lists(some.tuples(FINITE, FINITE), min_size=2, max_size=20))
def test_differences_are_antisymmetric(pairs):
    a, b = np.array(pairs).T
    there, back = stats.paired_difference(a, b), stats.paired_difference(b, a)
    assert there.mean == -back.mean and there.ci_low == -back.ci_high and there.low == -back.high


def test_what_replicates_share_cancels():
    shared = np.array([1.0, 5.0, 9.0])
    got = stats.paired_difference(shared + 1, shared)
    assert got.mean == 1 and got.ci_low == got.ci_high == 1
    with pytest.raises(stats.StatsError):
        stats.paired_difference([1, 2], [1])


def test_ratios_are_of_means():
    dense, ticket = np.array([100.0, 110.0, 120.0]), np.array([50.0, 55.0, 60.0])
    assert stats.relative_change(ticket, dense).mean == pytest.approx(-0.5)
    exact = stats.ratio(dense, ticket)
    assert exact.mean == pytest.approx(2) == exact.ci_low == exact.ci_high == exact.low
    with pytest.raises(stats.StatsError):
        stats.relative_change(ticket, -dense)
    assert math.isnan(stats.relative_change(ticket, 0 * dense).mean)  # nothing to compare with


def test_a_ratio_holds_what_a_paired_test_does_not_tell_apart():
    a, b = np.array([2.1, 2.9, 2.5, 3.1]), np.array([1.0, 1.3, 1.2, 1.1])
    got = stats.ratio(a, b)
    for end in (got.ci_low, got.ci_high):
        assert reference.ttest_1samp(a - end * b, 0).pvalue == pytest.approx(0.05)
    assert got.low == pytest.approx(2.5 / 1.2) and got.high == pytest.approx(3.1 / 1.1)


def test_a_ratio_has_no_interval_where_the_base_may_be_zero():
    got = stats.ratio([1.0, 2.0, 3.0], [0.1, 2.0, 4.0])
    assert got.mean == pytest.approx(6 / 6.1) and not got.bounded
    assert math.isnan(stats.ratio([1.0, 1.0], [-0.5, 1.0]).low)


def coverage(interval, truth, draws):
    """Share of draws whose interval holds the truth; one that is not bounded holds everything."""
    found = [interval(draw) for draw in draws]
    return np.mean([not one.bounded or one.ci_low <= truth <= one.ci_high for one in found])


RATIOS = [
    (n, times, spreads, shared, shape)
    for n in (3, 5)
    for times in (1.2, 2.4, 5.0)
    for spreads, shared in (((0.1, 0.1), 0.0), ((0.1, 0.1), 0.8), ((0.2, 0.2), 0.8), ((0.0, 0.2), 0.0))
    for shape in ("normal", "lognormal")
]


@pytest.mark.parametrize("n, times, spreads, shared, shape", RATIOS)
def test_ratios_cover_95_per_cent(n, times, spreads, shared, shape):
    """With 2,000 draws the standard error is half a point: 93 % is four of them below."""
    draws = np.random.default_rng(0).standard_normal((2000, 2, n))
    draws[:, 1] = shared * draws[:, 0] + math.sqrt(1 - shared**2) * draws[:, 1]
    wide = np.array(spreads)[:, None]
    if shape == "normal":
        factors = 1 + wide * draws
    else:
        log = np.sqrt(np.log1p(wide**2))
        factors = np.exp(log * draws - log**2 / 2)
    assert coverage(lambda pair: stats.ratio(times * pair[0], pair[1]), times, factors) >= 0.93


@pytest.mark.parametrize("n", [3, 5])
def test_means_cover_95_per_cent(n):
    draws = np.random.default_rng(1).normal(3, 2, (4000, n))
    assert coverage(stats.summary, 3, draws) == pytest.approx(0.95, abs=0.015)


# The bootstrap.


def test_the_bootstrap_of_a_mean_is_the_t_interval():
    for n in (3, 5, 7):
        values = np.random.default_rng(n).normal(size=n)
        got, wanted = stats.bootstrap(np.mean, values), stats.summary(values)
        assert (got.ci_low, got.ci_high) == pytest.approx((wanted.ci_low, wanted.ci_high))
    values = np.random.default_rng(0).normal(size=20)  # here draws are random
    got, wanted = stats.bootstrap(np.mean, values, seed=1), stats.summary(values)
    assert got.ci_high == pytest.approx(wanted.ci_high, abs=0.05) and got == stats.bootstrap(np.mean, values, seed=1)


def test_the_bootstrap_draws_rows_together():
    a = np.arange(5.0)
    got = stats.bootstrap(lambda x, y: (x - y).mean(), a, a + 1)
    assert got.mean == got.ci_low == got.ci_high == -1 and math.isnan(got.low)


def test_the_bootstrap_needs_three_replicates_and_answers():
    assert not stats.bootstrap(np.mean, [1.0, 2.0]).bounded
    assert not stats.bootstrap(lambda x: math.nan if x.max() < 3 else 1.0, np.array([1.0, 2, 3])).bounded
    assert stats.bootstrap(lambda x: math.nan if x.max() < 2 else 1.0, np.array([1.0, 2, 3])).bounded
    with pytest.raises(stats.StatsError):
        stats.bootstrap(lambda x, y: 0.0, [1, 2], [1])
    assert stats.bootstrap(np.mean, [0.9, 1.0, 1.0], within=(0, 1)).ci_high == 1


def test_a_bootstrapped_ratio_may_be_symmetric_in_its_logarithm():
    values = np.array([0.1, 1.0, 4.0])
    got, turned = (stats.bootstrap(lambda x, p=p: x.mean() ** p, values, log=True) for p in (1, -1))
    assert 0 < got.ci_low < got.mean < got.ci_high
    assert (turned.ci_low, turned.ci_high) == pytest.approx((1 / got.ci_high, 1 / got.ci_low))
    assert not stats.bootstrap(np.mean, -values, log=True).bounded


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_bootstrap_covers_what_is_smooth(n):
    """A ratio of means, a difference of logarithms, break-even: 95 %, with what a few hundred draws tell of it."""
    rng = np.random.default_rng(2)
    draws = 1 + 0.1 * rng.standard_normal((300, 2, n))
    found = coverage(lambda pair: stats.bootstrap(lambda a, b: a.mean() / b.mean(), *pair, n=200), 1, draws)
    assert found >= 0.92
    density = 0.8 ** np.arange(8)
    gains = np.linspace(1, -1, 8) + 0.1 * rng.standard_normal((200, n, 8))
    truth = stats.break_even(density, np.linspace(1, -1, 8))
    lost = coverage(lambda g: stats.bootstrap(lambda a: stats.break_even(density, a.mean(0)), g, n=200), truth, gains)
    assert lost >= 0.91


@pytest.mark.parametrize("apart", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("n", [3, 5])
def test_the_smallest_mean_covers_at_least_95_per_cent(n, apart):
    """Also where several means are the smallest, and picking one is the lucky one."""
    means = apart * np.arange(6)
    draws = means + np.random.default_rng(3).standard_normal((800, n, 6))

    def interval(rows):
        return stats.smallest(lambda which, confidence: stats.summary(rows[:, which], confidence), 6)

    assert coverage(interval, 0, draws) >= 0.935
    flipped = stats.largest(lambda which, confidence: stats.summary(-draws[0][:, which], confidence), 6)
    assert flipped == stats.negated(interval(draws[0]))


def test_the_smallest_of_none_is_an_error():
    with pytest.raises(stats.StatsError):
        stats.smallest(lambda which, confidence: stats.summary([1, 2]), 0)


# Tests and power.


def test_p_is_that_of_the_t_test():
    values = np.array([0.3, 0.9, 0.4, 0.8])
    assert stats.p_value(stats.summary(values), least=0.1) == pytest.approx(reference.ttest_1samp(values, 0.1).pvalue)
    other = stats.p_value(stats.summary(values), most=0.1)  # on the wrong side it is evidence for that
    assert other == stats.p_value(stats.summary(values), least=0.1)
    assert math.isnan(stats.p_value(stats.summary([1.0]), least=0))


@given(
    some.lists(some.integers(-1000, 1000).map(lambda x: x / 1000), min_size=2, max_size=8, unique=True),
    some.floats(0.1, 1),
)
def test_equivalence_is_shown_where_the_interval_lies_within_the_margin(values, margin):
    got = stats.summary(values)
    p = stats.p_value(got, -margin, margin)
    if min(abs(abs(end) - margin) for end in (got.ci_low, got.ci_high)) > 1e-6:
        within, beyond = -margin < got.ci_low and got.ci_high < margin, got.ci_low > margin or got.ci_high < -margin
        assert (p < 0.05) == (within or beyond)


def test_replicates_that_all_agree_count_as_signs():
    same = stats.bootstrap(lambda x: 1.0, np.arange(5.0))
    assert stats.p_value(same, least=0.9) == stats.p_value(same, least=1.1) == pytest.approx(2 / 2**5)


def test_holm_on_a_worked_example():
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, math.nan, 0.9])[0] == 1 and math.isnan(stats.holm([0.5, math.nan])[1])
    assert stats.holm([]).size == 0


@given(some.lists(some.floats(0, 1), min_size=1, max_size=12))
def test_holm_raises_and_keeps_the_order(values):
    raised = stats.holm(values)
    assert (raised >= np.array(values)).all() and (raised <= 1).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(raised[order]) >= 0).all()


def test_power_is_what_simulation_finds():
    rng = np.random.default_rng(4)
    draws = rng.normal(0.8, 1, (4000, 6))
    seen = np.mean([stats.summary(draw).ci_low > 0 for draw in draws])
    assert stats.power(0.8, 1, 6) == pytest.approx(seen, abs=0.03)
    assert stats.power(1, 0, 2) == 1 and stats.power(1, 1, 1) == 0


def test_replicates_needed_are_the_fewest_that_suffice():
    n = stats.replicates_needed((0.5, 1))
    assert stats.power(0.5, 1, n) >= 0.8 > stats.power(0.5, 1, n - 1) and n == 34  # the textbook's
    assert stats.replicates_needed((0, 1)) is None and stats.replicates_needed((1e-9, 1)) is None
    assert stats.replicates_needed((10, 0.1)) == 2


def test_replicates_that_equivalence_needs_are_those_for_both_sides():
    """With the mean in the middle of a margin, as simulated: either side alone would be seen more often."""
    n = stats.replicates_needed((1, 1), (1, 1))
    draws = np.random.default_rng(5).normal(0, 1, (4000, n))
    means, halves = draws.mean(axis=1), stats._t(n) * draws.std(axis=1, ddof=1) / math.sqrt(n)
    assert np.mean(np.abs(means) + halves < 1) == pytest.approx(0.82, abs=0.04) and n > stats.replicates_needed((1, 1))
    assert stats.replicates_needed((1, 1), (3, 1)) == stats.replicates_needed((1, 1))  # the far side costs nothing
    assert stats.replicates_needed((1, 1), (0, 1)) is None


def test_the_spread_towards_a_bound_is_that_of_the_half_that_faces_it():
    lopsided = stats.Summary(4, 1.0, 0.5, 3.0, 0.5, 3.0)
    low, high, both = (stats.deviation(lopsided, towards) for towards in (0.6, 2.5, None))
    assert (low / both, high / both) == pytest.approx((0.5 / 1.25, 2 / 1.25))
    assert stats.deviation(lopsided, 0.5) == stats.deviation(lopsided, 3.0) == high  # cut there, the wider half says it
    near, far = stats.detectable(lopsided, [0.6]), stats.detectable(lopsided, [2.5])
    assert far / near == pytest.approx(4) and far == stats.detectable(lopsided, [0.6, 2.5])
    even = stats.summary([0.0, 1.0, 2.0])
    assert stats.deviation(even, 0.3) == pytest.approx(stats.deviation(even)) == pytest.approx(1)


def test_what_could_have_been_seen():
    got = stats.summary([0.0, 1.0, 2.0, 3.0, 4.0])
    effect = stats.detectable(got)
    assert stats.power(effect, stats.deviation(got), 5) == pytest.approx(0.8)
    assert stats.deviation(got) == pytest.approx(np.std([0, 1, 2, 3, 4], ddof=1))
    assert all(math.isnan(stats.detectable(stats.summary(values))) for values in ([1.0], [1.0, 1.0]))


# Levels.


def test_levels_are_found_by_their_density():
    density = 0.8 ** np.arange(20)
    assert stats.at_density(density, 0.211) == 7
    with pytest.raises(stats.StatsError, match=r"nearest is 41\.0 %"):
        stats.at_density(density[:5], 0.211)


def test_just_epsilon_worse_matches_whatever_rounding_does_and_no_more():
    right = np.arange(7000, 10_000)
    assert stats.matching((1 - (right - 50) / 10_000) - (1 - right / 10_000), 0.005).all()
    assert not stats.matching((1 - (right - 51) / 10_000) - (1 - right / 10_000), 0.005).any()
    assert not stats.matching(math.nan, 0.005)


def test_trends():
    assert stats.trend([5, 4, 3, 1]) == -1 and stats.trend([1, 2, 9]) == 1
    assert math.isnan(stats.trend([1, 2])) and math.isnan(stats.trend([2, 2, 2]))
    with pytest.raises(stats.StatsError):
        stats.trend([1, math.nan, 2])


def test_break_even():
    density = [1, 0.5, 0.25, 0.125]
    assert stats.break_even(density, [0, 1, 1, -1]) == pytest.approx(math.sqrt(0.25 * 0.125))  # half way in log
    assert stats.break_even(density, [0, -1, 1, 1]) == 0.125  # a dip before does not count
    with pytest.raises(stats.StatsError):
        stats.break_even(density[::-1], [0, 1, 1, -1])


def test_a_network_without_a_ticket_has_no_break_even():
    assert math.isnan(stats.break_even([1, 0.5, 0.25], [0, -1, -1]))  # the dense network's own gain is 0 by definition


def test_the_spread_of_values_that_are_not_independent_has_no_interval():
    found = stats.spread([1.0, 2.0, 6.0])
    assert (found.n, found.mean, found.low, found.high) == (3, 3, 1, 6) and not found.bounded


def test_differences_that_only_rounding_tells_apart_are_equal():
    for a, b in (([0.941, 0.978, 0.954], [0.931, 0.968, 0.944]), ([0.983, 0.972, 0.991], [0.973, 0.962, 0.981])):
        found = stats.paired_difference(a, b)
        assert found.ci_low == found.ci_high == pytest.approx(0.01) and stats.p_value(found, least=0.0) == 0.25
        assert stats.summary(100 * (np.array(a) - b)).ci_low == pytest.approx(1)
    assert stats.paired_difference([0.1, 0.2, 0.3], [0.1, 0.2, 0.3 + 1e-16]).mean == 0


def test_small_numbers_have_intervals_like_others():
    values = np.arange(1.0, 7)
    for scale in (1, 1e-8, 1e-14):
        one = stats.bootstrap(lambda drawn: float(drawn.mean()), scale * values)
        assert one.ci_low == pytest.approx(stats.summary(scale * values).ci_low)
    for scale in (1e-14, 1e-100):
        found = stats.summary(scale * values)
        assert found.mean == pytest.approx(scale * 3.5, rel=1e-9, abs=0) and found.ci_low < found.mean < found.ci_high
        assert stats.summary(np.full(3, scale)).mean == scale


def test_rounding_at_the_scale_of_what_values_are_differences_of_is_no_difference():
    left = np.array([3e-17, 2e-17, 5e-17])
    assert stats.summary(left).mean > 0
    assert stats.summary(left, scale=stats.SHARES).ci_high == 0
    assert stats.paired_difference(0.5 + 4 * left, np.full(3, 0.5)).ci_high == 0


def test_an_interval_is_cut_at_what_is_possible():
    found = stats.summary([0.0, 0.0, 3.0])
    assert found.ci_low < 0 and found.ci_high > 2
    assert (stats.cut(found, 0, 2).ci_low, stats.cut(found, 0, 2).ci_high) == (0, 2) and stats.cut(found) == found
    beyond = stats.cut(stats.summary([2.0, 3.0, 4.0]), 0, 1)
    assert beyond.ci_low < beyond.ci_high == beyond.mean == 3  # an interval holds its mean, wherever that is
    single = stats.summary([5.0])
    assert stats.cut(single, 0, 1) == single or not stats.cut(single, 0, 1).bounded


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_tests_know_the_confidence_of_their_interval(confidence):
    values = np.array([0.3, 0.5, 0.9, 1.4, 0.2])
    found = stats.summary(values, confidence)
    assert stats.p_value(found, least=0) == pytest.approx(reference.ttest_1samp(values, 0).pvalue)
    assert stats.deviation(found) == pytest.approx(values.std(ddof=1))
    assert stats.detectable(found) == pytest.approx(stats.detectable(stats.summary(values)))
    for turned in (stats.negated(found), stats.ratio(values, values + 1, confidence)):
        assert turned.confidence == stats.relative_change(values, values + 1, confidence).confidence == confidence


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda: stats.summary([1.0, 2.0], 95), "a share between 0 and 1, such as 0.95, not 95"),
        (lambda: stats.p_value(stats.summary([1.0, 2.0])), "a p-value needs a bound"),
        (lambda: stats.holm([[0.1, 0.2]]), r"\[N\], got an array of shape \(1, 2\)"),
        (lambda: stats.bootstrap(np.mean, np.arange(9.0), n=0), "draws at least once, not 0 times"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_words(wrong, words):
    with pytest.raises(stats.StatsError, match=words):
        wrong()


def test_values_that_only_rounding_tells_apart_are_tied_and_others_stay_as_they_are():
    found = stats.tied([0.1 + 0.2, math.nan, 0.3, math.inf, -5e-17, 0.0, -math.inf, math.inf, 0.3 + 1e-9])
    np.testing.assert_array_equal(found, [0.3, math.nan, 0.3, math.inf, 0, 0, -math.inf, math.inf, 0.3 + 1e-9])
    values = np.random.default_rng(0).normal(size=(5, 8))
    np.testing.assert_array_equal(stats.tied(values), values)
    assert stats.tied([]).size == 0 and not stats.tied([1e-17, -1e-17], scale=stats.SHARES).any()


def test_rounding_is_no_loss_no_trend_and_no_nearer_level():
    dense, ticket = np.array([0.1, 0.2, 0.3]), np.array([0.3, 0.2, 0.1])
    gain = ticket.mean() - dense.mean()
    assert gain < 0 and stats.break_even([1, 0.5, 0.25], [0, -0.05, gain]) == 0.25
    assert stats.break_even([1, 0.5, 0.25], [0, gain, gain]) == 0.25
    assert stats.break_even([1, 0.5, 0.25], [0, gain, -0.05]) == 0.5
    assert math.isnan(stats.trend([0.1 + 0.2, 0.3, 0.3, 0.3]))
    assert stats.trend([0.3, 0.1 + 0.2, 1]) == stats.trend([0.3, 0.3, 1]) < 1
    level = 0.5 * np.exp(np.array([1, -1]) * 0.05)  # both as far away
    assert stats.at_density(level, 0.5) == stats.at_density(level[::-1], 0.5) == 0
    assert stats.at_density([1, 0.01 * 1.1], 0.01) == 1  # the whole tolerance


def test_replicates_of_one_ratio_count_as_signs_however_it_is_rounded():
    base = np.array([100.0, 110, 123])
    found = stats.ratio(0.7 * base, base)
    assert found.ci_low == found.ci_high == found.mean == pytest.approx(0.7) and stats.p_value(found, most=1) == 0.25


def test_the_first_of_equal_means_is_the_smallest_however_they_are_rounded():
    rows = [[0.1 + 0.2, 0.1 + 0.2], [0.1, 0.5], [0.5, 0.5]]
    assert stats.summary(rows[0]).mean > stats.summary(rows[1]).mean
    assert stats.smallest(lambda which, confidence: stats.summary(rows[which], confidence), 3).low == 0.1 + 0.2
    unknown = stats.summary([1, 2]), stats.ratio([1, 2], [0, 0])
    assert math.isnan(stats.smallest(lambda which, confidence: unknown[which], 2).mean)
