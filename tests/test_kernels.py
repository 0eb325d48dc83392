"""Kernel patterns: numbers, symmetries, exact nulls and false discoveries, on cases with known answers."""

import itertools

import numpy as np
import pytest
import torch

from lottery import kernels
from lottery.kernels import NULLS, PATTERNS
from lottery.signs import SignsError

EDGE = [[1, 0, -1]] * 3
ROW = [[0, 0, 0], [1, 1, 1], [0, 0, 0]]


def layer(*kernels_):
    return torch.tensor(kernels_, dtype=torch.int8)[None]


def noise(slices, shares=(0.2, 0.5, 0.3), seed=0):
    """Places drawn independently: shares of −1, 0 and 1."""
    drawn = np.random.default_rng(seed).choice([-1, 0, 1], (slices, 1, 3, 3), p=shares)
    return torch.from_numpy(drawn.astype(np.int8))


def number(kernel):
    return int(np.flatnonzero((kernels.patterns() == np.array(kernel)).all((1, 2)))[0])


def test_all_patterns_are_there_once_and_have_their_own_number():
    assert kernels.patterns().shape == (PATTERNS, 3, 3) == (19683, 3, 3)
    assert len(np.unique(kernels.patterns().reshape(PATTERNS, 9), axis=0)) == PATTERNS
    assert kernels.pattern_counts(torch.from_numpy(kernels.patterns().copy())[None]).tolist() == [1] * PATTERNS


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (1, 1, 3, 3), (32, 16, 3, 3)])
def test_counts_sum_to_the_number_of_slices(shape):
    signs = torch.from_numpy(np.random.default_rng(0).integers(-1, 2, shape).astype(np.int8))
    counts = kernels.pattern_counts(signs)
    assert counts.sum() == shape[0] * shape[1] and counts.shape == (PATTERNS,)


def test_a_pattern_is_counted_under_its_number():
    counts = kernels.pattern_counts(layer(EDGE, ROW, EDGE))
    assert (counts[number(EDGE)], counts[number(ROW)], counts.sum()) == (2, 1, 3)


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (10, 100), (4, 3, 1, 1)])
def test_layers_without_3_by_3_kernels_are_refused(shape):
    with pytest.raises(SignsError, match="patterns are of layers"):
        kernels.pattern_counts(torch.zeros(shape, dtype=torch.int8))


def test_orbits_are_closed_under_turns_reflections_and_the_global_flip():
    table, orbits = kernels.patterns(), kernels.orbits()
    index = {kernel.tobytes(): i for i, kernel in enumerate(table)}
    for change in (lambda k: np.rot90(k), lambda k: k[:, ::-1], lambda k: k.T, lambda k: -k):
        moved = [index[np.ascontiguousarray(change(kernel)).tobytes()] for kernel in table]
        assert np.array_equal(orbits[moved], orbits)
    sizes = np.bincount(orbits)
    assert (orbits <= np.arange(PATTERNS)).all() and (orbits[orbits] == orbits).all()
    assert set(16 % sizes[sizes > 0]) == {0} and sizes.max() == 16


def test_the_number_of_orbits_is_burnsides():
    """The mean number of patterns that each of the 16 symmetries leaves as they are."""
    fixed = 0
    for turns, mirror, sign in itertools.product(range(4), (1, -1), (1, -1)):
        moved = sign * np.rot90(kernels.patterns()[:, :, ::mirror], turns, (1, 2))
        fixed += int((moved == kernels.patterns()).all((1, 2)).sum())
    assert len(np.unique(kernels.orbits())) == fixed / 16


# The three nulls.


@pytest.mark.parametrize("null", NULLS)
def test_expected_counts_sum_to_the_slices_and_keep_the_shares_of_signs(null):
    counts = kernels.pattern_counts(noise(500))
    expected = kernels.expected_counts(counts, null)
    flat = kernels.patterns().reshape(PATTERNS, 9)
    assert expected.sum() == pytest.approx(500)
    for sign in (-1, 0, 1):
        per_slice = (flat == sign).sum(1)
        assert expected @ per_slice == pytest.approx(counts @ per_slice)


def test_what_each_null_keeps():
    counts = kernels.pattern_counts(noise(300))
    kept = kernels.patterns().reshape(PATTERNS, 9) != 0
    number_kept, support = kept.sum(1), kept @ 2 ** np.arange(9)
    by_count, by_support, by_balance = (kernels.expected_counts(counts, null) for null in NULLS[1:])
    balance = 10 * support + (kernels.patterns().reshape(PATTERNS, 9) > 0).sum(1)
    np.testing.assert_allclose(np.bincount(balance, by_balance), np.bincount(balance, counts), atol=1e-9)
    np.testing.assert_allclose(np.bincount(number_kept, by_count), np.bincount(number_kept, counts))
    np.testing.assert_allclose(np.bincount(support, by_support), np.bincount(support, counts), atol=1e-9)


@pytest.mark.parametrize(
    "null, drawn", [("layer", 1 / 27**3), ("count", 1 / 84 / 8), ("support", 1 / 8), ("balance", 1 / 2)]
)
def test_a_null_by_hand(null, drawn):
    """Slices with three kept weights, equally many of each sign: 1/3 of the places kept."""
    counts = kernels.pattern_counts(layer(ROW, (-np.array(ROW)).tolist()))
    shares = {"layer": (1 / 6) ** 3 * (2 / 3) ** 6}
    assert kernels.expected_counts(counts, null)[number(ROW)] == pytest.approx(2 * shares.get(null, drawn))


@pytest.mark.parametrize("null", NULLS)
def test_expected_counts_are_those_of_simulated_draws(null):
    counts = kernels.pattern_counts(noise(400, seed=1))
    flat, generator = kernels.patterns().reshape(PATTERNS, 9), np.random.default_rng(0)
    slices, total = np.repeat(flat, counts, 0), np.zeros(PATTERNS)
    shares = np.array([(slices == sign).mean() for sign in (-1, 0, 1)])
    for _ in range(200):
        if null == "layer":
            drawn = generator.choice([-1, 0, 1], slices.shape, p=shares)
        elif null == "balance":  # every slice gives its signs to its places in another order
            drawn = slices.copy()
            keys = np.where(slices != 0, generator.random(slices.shape), 2)
            where = np.sort(np.where(slices != 0, np.arange(9), 9), axis=1)
            row, place = np.nonzero(where < 9)
            drawn[row, where[row, place]] = np.take_along_axis(slices, np.argsort(keys, axis=1), 1)[row, place]
        else:
            kept = slices != 0 if null == "support" else generator.permuted(slices != 0, axis=1)
            drawn = kept * generator.choice([-1, 1], slices.shape, p=shares[[0, 2]] / shares[[0, 2]].sum())
        total += kernels.pattern_counts(torch.from_numpy(drawn.astype(np.int8)).view(-1, 1, 3, 3))
    expected = 200 * kernels.expected_counts(counts, null)
    often = expected > 20
    assert often.sum() > 100
    assert np.abs((total - expected)[often] / np.sqrt(expected[often])).max() < 5


@pytest.mark.parametrize("function", [kernels.expected_counts, kernels.enrichment])
def test_what_has_no_null_is_refused(function):
    with pytest.raises(SignsError, match="no null 'uniform'"):
        function(kernels.pattern_counts(noise(5)), "uniform")
    with pytest.raises(SignsError, match="all slices are empty"):
        function(kernels.pattern_counts(torch.zeros(2, 2, 3, 3, dtype=torch.int8)), "count")


# Enrichment.


@pytest.mark.parametrize("null", NULLS)
def test_noise_shows_no_pattern_beyond_the_false_discovery_rate(null):
    """Where every null holds, a study finds anything at all in at most 5 % of cases: of 40, hardly 6."""
    found = [kernels.enrichment(kernels.pattern_counts(noise(2000, seed=seed)), null) for seed in range(40)]
    assert sum(bool((each.q <= 0.05).any()) for each in found) <= 6
    z = np.concatenate([each.z[each.expected > 5] for each in found])
    assert len(z) > 1000 and abs(z.mean()) < 0.1 and z.std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("null", NULLS)
def test_a_planted_pattern_is_found_first(null):
    planted = torch.tensor(EDGE, dtype=torch.int8).expand(60, 1, 3, 3)
    counts = kernels.pattern_counts(torch.cat([noise(3000), planted]))
    found = kernels.enrichment(counts, null)
    assert found.pattern[0] == kernels.orbits()[number(EDGE)] and found.q[0] < 1e-6 and found.z[0] == found.z.max()
    assert found.count.sum() == pytest.approx(found.expected.sum())
    assert found.count.sum() == counts.sum() or null != "layer"  # the others leave empty slices empty


def test_kernels_of_one_sign_are_enriched_until_their_balance_is_kept():
    """Whole kernels flipped at random: their signs are alike, where they lie is chance."""
    signed = noise(4000, (0.0, 0.6, 0.4)) * torch.from_numpy(np.random.default_rng(1).choice([-1, 1], (4000, 1, 1, 1)))
    counts = kernels.pattern_counts(signed.to(torch.int8))
    assert len(kernels.enriched(counts, ["count", "support"])) > 20
    assert len(kernels.enriched(counts, ["balance"])) == 0


def test_enriched_are_those_that_every_null_finds():
    planted = torch.tensor(EDGE, dtype=torch.int8).expand(60, 1, 3, 3)
    counts = kernels.pattern_counts(torch.cat([noise(3000), planted]))
    assert kernels.enriched(counts, NULLS, 1e-4).tolist() == [kernels.orbits()[number(EDGE)]]


def test_the_first_of_an_enrichment_are_those_beyond_chance():
    values = np.array([9.0, 5.0, 7.0, 1.0])
    found = kernels.Enrichment(np.arange(4), *[values] * 4, np.array([0.5, 0.01, 0.02, 0.9]))
    assert found.top(3).pattern.tolist() == [2, 1, 0] and found.top(3).q.tolist() == [0.02, 0.01, 0.5]


def test_grouped_counts_are_those_of_all_forms():
    turned = [np.rot90(EDGE, turns).tolist() for turns in range(4)]
    found = kernels.enrichment(kernels.pattern_counts(layer(*turned, ROW)), "count")
    at = list(found.pattern).index(kernels.orbits()[number(EDGE)])
    assert found.count[at] == 4


# Plain statistics.


def test_shares_by_hand():
    found = kernels.pattern_shares(kernels.pattern_counts(layer(EDGE, ROW)))
    # Side by side: 4 pairs down the columns of EDGE and 2 along ROW, all of equal sign.
    assert found == {"neighbour agreement": 1.0, "single-sign": 0.5, "edge-like": 0.5}
    checked = [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    found = kernels.pattern_shares(kernels.pattern_counts(layer(checked)))
    assert found == {"neighbour agreement": 0.0, "single-sign": 0.0, "edge-like": 0.0}


@pytest.mark.parametrize(
    "kernel, edge",
    [
        ([[1, 1, 1], [0, 0, 0], [-1, -1, -1]], True),
        ([[0, -1, -1], [1, 0, -1], [1, 1, 0]], True),
        ([[1, 0, 0], [-1, 1, 0], [0, 0, -1]], True),
        ([[1, 0, -1], [0, 0, 0], [-1, 0, 1]], False),
        (ROW, False),
        ([[1, 0, 0], [0, 0, 0], [0, 0, 1]], False),
    ],
)
def test_edges(kernel, edge):
    assert kernels.pattern_shares(kernels.pattern_counts(layer(kernel)))["edge-like"] == edge


def test_shares_of_nothing_are_not_numbers():
    one = [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert all(np.isnan(value) for value in kernels.pattern_shares(kernels.pattern_counts(layer(one))).values())


def test_shares_of_the_null_are_what_chance_gives():
    counts = kernels.pattern_counts(noise(20_000, (0.25, 0.5, 0.25)))
    chance = kernels.pattern_shares(kernels.expected_counts(counts, "layer"))
    assert kernels.pattern_shares(counts) == pytest.approx(chance, abs=0.02)
    assert chance["neighbour agreement"] == pytest.approx(0.5, abs=0.001)


def test_rank_correlation_of_unrelated_networks_is_density_alone():
    one, other = (kernels.pattern_counts(noise(5000, (0.15, 0.7, 0.15), seed)) for seed in (1, 2))
    rho, within, p = kernels.rank_correlation(one, other, np.random.default_rng(0), draws=99)
    assert rho > 0.15 and abs(within) < 0.03 and p > 0.01


def test_rank_correlation_finds_shared_patterns():
    generator = np.random.default_rng(3)
    liked = generator.choice(PATTERNS, 600, replace=False)
    one, other = (np.bincount(generator.choice(liked, 5000), minlength=PATTERNS) for _ in range(2))
    assert kernels.rank_correlation(one, one, generator, draws=1)[:2] == (pytest.approx(1), pytest.approx(1))
    _, within, p = kernels.rank_correlation(one, other, generator, draws=99)
    assert within > 0.3 and p == 0.01


def test_rank_correlation_is_not_fooled_by_a_sign_that_both_prefer():
    one, other = (kernels.pattern_counts(noise(5000, (0.05, 0.7, 0.25), seed)) for seed in (1, 2))
    rho, within, p = kernels.rank_correlation(one, other, np.random.default_rng(0), draws=99)
    assert rho > 0.15 and abs(within) < 0.03 and p > 0.01


def test_likeness_is_with_the_dense_networks_of_other_replicates():
    generator = np.random.default_rng(3)
    liked = generator.choice(PATTERNS, 600, replace=False)
    shared = [np.bincount(generator.choice(liked, 5000), minlength=PATTERNS) for _ in range(3)]
    alone = kernels.pattern_counts(noise(5000, (0.15, 0.7, 0.15), 1))
    found = kernels.likeness(np.array([*shared[:2], alone]), np.array([*shared[:2], alone]), seed=0, draws=9)
    assert found.shape == (3, 3) and found[:2, 1].min() > 0.2 > 0.05 > abs(found[2, 1])
    others = shared[1] + alone
    assert found[0].tolist() == list(kernels.rank_correlation(shared[0], others, np.random.default_rng(0), 9))


def test_agreement_of_neighbours_a_network():
    checked = [[1, -1, 1], [-1, 1, -1], [1, -1, 1]]
    counts = [kernels.pattern_counts(layer(EDGE, ROW)), kernels.pattern_counts(layer(checked))]
    assert kernels.neighbour_agreement(np.array(counts)).tolist() == [1, 0]


def leaning(seed, channels=40):
    """A layer whose input channels lean to one sign or the other, and which has no pattern beyond that."""
    draw = np.random.default_rng(seed)
    share = 0.5 + 0.35 * draw.choice([-1, 1], channels)
    kept, plus = draw.random((50, channels, 3, 3)) < 0.4, draw.random((50, channels, 3, 3)) < share[:, None, None]
    return kernels.pattern_counts(torch.from_numpy((kept * (2 * plus - 1)).astype(np.int8)))


def test_channels_that_lean_to_one_sign_are_patterns_to_all_nulls_but_balance():
    found = {null: (kernels.enrichment(leaning(0), null).q <= 0.05).sum() for null in ("count", "support", "balance")}
    assert found["balance"] <= 2 and min(found["count"], found["support"]) > 10


def chance_counts(counts, null, generator, draws):
    """[draws, patterns] counts that chance shows: every slice has its signs permuted among its non-zeros."""
    probability, group = kernels._null(counts, null)[1], kernels._groups()[null]
    found = np.zeros((draws, PATTERNS), np.int64)
    for one in np.unique(group[np.flatnonzero(counts)]):
        members = np.flatnonzero(group == one)
        chances = probability[members] / probability[members].sum()
        found[:, members] = generator.multinomial(int(counts[members].sum()), chances, draws)
    return found


def test_drawn_counts_keep_what_the_null_keeps_and_have_its_mean():
    counts, group = leaning(1), kernels._groups()["balance"]
    drawn = chance_counts(counts, "balance", np.random.default_rng(0), 200)
    kept = np.array([np.bincount(group, one) for one in (counts, *drawn)])
    assert drawn.shape == (200, PATTERNS) and (kept == kept[0]).all()
    expected = kernels.expected_counts(counts, "balance")
    error = (drawn.mean(0) - expected)[expected > 5] / np.sqrt(expected[expected > 5] / 200)
    assert abs(error).max() < 5


def edges(counts):
    return kernels.pattern_shares(counts)["edge-like"]


def chance(counts, statistic, generator, draws=99):
    """How often chance gives a statistic as high as that of the counts, or higher."""
    drawn = chance_counts(counts, "balance", generator, draws)
    return (1 + sum(statistic(some) >= statistic(counts) for some in drawn)) / (1 + draws)


def test_a_permutation_finds_edges_and_not_the_lean_of_channels():
    generator = np.random.default_rng(0)
    p = [chance(leaning(seed), edges, generator) for seed in range(8)]
    assert min(p) > 0.01 and np.mean(p) > 0.25
    planted = leaning(0)
    planted[number(EDGE)] += 150
    assert chance(planted, edges, generator) == 0.01


def test_arranged_patterns_are_counted_by_network_and_layer():
    planted = leaning(0)
    planted[number(EDGE)] += 150
    found = kernels.arranged(np.array([[leaning(0), planted], [leaning(1), leaning(1)]]))
    assert found.shape == (2, 2) and found[0, 1] > found[0, 0] and (found[1] == found[1, 0]).all()
    assert found[0, 1] == len(kernels.enriched(planted, ["balance"]))


def test_patterns_are_spelt_row_by_row():
    assert kernels.spelt(number(np.array([[1, 0, -1], [0, 0, 0], [-1, 1, 0]]))) == "+0−/000/−+0"
