"""The quantities of the claims, on studies whose answers are known."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lottery import kernels, masks, stats
from lottery.book import claims, quantities, tidy
from lottery.worth import Ledger

LEVELS = np.arange(20)
DENSITY = (265200 * 0.8**LEVELS + 1000 * 0.9**LEVELS) / 266200
RULES = claims.load()
REPLICATES = np.array([-0.001, 0.0, 0.001])[:, None]  # added to accuracies: cancels in differences


def outcomes(names, got):
    """The outcomes of claims, of a study at the floor of the paper's scale, with replicates enough to be equal."""
    got = {name: replace(value, n=max(value.n, stats.ALIKE)) for name, value in got.items()}
    out = {}
    for name in names.split():
        needs = RULES[name].needs.paper.items()
        context = {key: need[0] if isinstance(need, list) else need for key, need in needs}
        out[name] = claims.judge(RULES[name], got, context).outcome
    return out


def asked(names):
    return {check.quantity for name in names.split() for check in RULES[name].checks}


def per_level(function):
    return np.array([function(d) for d in DENSITY]) + np.zeros((3, 1))


def paper():
    """A study with the paper's numbers: stop falls to -38 % at level 7, is back at level 15; +0.35 pp at level 9."""
    stop = np.interp(LEVELS, [0, 7, 15, 19], [10000, 6200, 10000, 14000]) + np.zeros((3, 1))
    gain = np.interp(LEVELS, [0, 9, 15, 19], [0, 0.0035, 0.0, -0.01])
    return stop, 0.98 + gain + REPLICATES


def test_tickets_of_the_paper():
    stop, accuracy = paper()
    got = quantities.ticket_quantities(DENSITY, stop, accuracy, accuracy + 0.001, accuracy, accuracy)
    assert got["early_stop_change_21"].mean == pytest.approx(-0.38)
    assert got["early_stop_change_4"].mean == pytest.approx(0)
    trend = got["early_stop_trend_to_21"]
    assert trend.mean == trend.ci_low == trend.ci_high == -1
    assert got["gain_max_pp"].mean == pytest.approx(0.35) == got["gain_max_pp_end"].mean
    assert got["gain_min_pp"].mean == pytest.approx(0) == got["gain_min_pp_end"].mean  # with 3.6 %


def test_replicates_that_end_early_count_where_they_were_run():
    stop, accuracy = paper()
    further = np.where(LEVELS <= 7, np.interp(LEVELS, [0, 7], [8000, 7200]), np.nan) + np.zeros((3, 1))
    got = quantities.ticket_quantities(DENSITY, np.vstack([stop, further]), accuracy, accuracy, accuracy, accuracy)
    assert got["early_stop_change_21"].mean == pytest.approx((6200 + 7200) / (10000 + 8000) - 1)
    assert (got["early_stop_change_21"].n, got["early_stop_trend_to_21"].n, got["early_stop_change_4"].n) == (6, 6, 3)
    assert got["early_stop_change_4"].mean == pytest.approx(0)
    changes = tidy.changes(np.vstack([stop, further]))[:, [0, 7, 15]]
    assert changes[0] == pytest.approx([10000 / 9000 - 1, 6200 / 9000 - 1, 0])  # against those that reach the level
    assert np.isnan(changes[3]).tolist() == [False, False, True]


def test_levels_that_no_replicate_reaches_have_no_change():
    changes = tidy.changes([[100, 80, np.nan], [120, np.nan, np.nan]])
    assert changes[0, 1] == pytest.approx(-0.2) and np.isnan(changes[:, 2]).all()


def test_the_test_set_picks_no_level():
    stop, accuracy = paper()
    lucky = accuracy.copy()
    lucky[:, 8] += 0.02  # on the test set alone
    got = quantities.ticket_quantities(DENSITY, stop, lucky, lucky, accuracy, accuracy)
    assert got["gain_max_pp"].mean == pytest.approx(0.35)
    assert "gain_max_pp" not in quantities.ticket_quantities(DENSITY, stop, lucky, lucky)  # nothing to pick by


def test_reinitialised_networks_of_the_paper():
    stop, accuracy = paper()
    draws = np.array([-1000.0, 0, 1000])[None, :, None]
    reinit_stop = 2.51 * stop[:, None] + draws
    reinit_stop[:, :, 1::2] = np.where(LEVELS[1::2] == 7, reinit_stop[:, :, 1::2], np.nan)
    reinit_stop[:, :2, 4] = np.nan  # one draw is enough
    got = quantities.reinit_quantities(DENSITY, stop, accuracy, reinit_stop, accuracy[:, None] - 0.005)
    assert got["reinit_slowdown_21"].mean == pytest.approx(2.51) and got["reinit_slowdown_21"].n == 3
    assert got["reinit_loss_pp_21"].mean == pytest.approx(0.5)
    assert got["reinit_slowdown_min"].mean == pytest.approx(2.51)


def test_the_order_of_structures():
    _, accuracy = paper()
    got = quantities.structure_quantities(DENSITY, accuracy, accuracy - 0.002, accuracy[:, None] - [[[0.003]]])
    assert got["ticket_minus_reinit_pp"].mean == pytest.approx(0.2)
    assert got["reinit_minus_random_pp"].mean == pytest.approx(0.1) and got["ordering_share"].mean == 1
    assert quantities.structure_quantities(DENSITY, accuracy, accuracy, accuracy - 1)["ordering_share"].mean == 0


def test_what_a_mask_is_worth_beyond_its_live_pixels():
    _, accuracy = paper()
    live = np.where((DENSITY < 0.2) & (DENSITY > 0.1), accuracy - 0.004, np.nan)
    got = quantities.live_quantities(DENSITY, accuracy - 0.002, live)
    assert got["reinit_minus_live_pp"].mean == pytest.approx(0.2) and got["reinit_minus_live_pp"].n == len(accuracy)
    assert quantities.live_quantities(DENSITY, accuracy, np.full_like(accuracy, np.nan)) == {}
    assert quantities.live_quantities(DENSITY, accuracy, np.where(DENSITY > 0.2, accuracy, np.nan)) == {}


def test_one_shot_loses_earlier():
    iterative = 0.98 + per_level(lambda d: 0.01 * np.log(d / 0.035) * (d < 0.9)) + REPLICATES
    oneshot = 0.98 + per_level(lambda d: 0.01 * np.log(d / 0.050) * (d < 0.9)) + REPLICATES
    oneshot[:, [0, 2, 4]] = np.nan
    got = quantities.oneshot_quantities(DENSITY, iterative, oneshot)
    assert got["break_even_ratio"].mean == pytest.approx(0.050 / 0.035)  # exact: gains are linear in log density
    assert got["iterative_minus_oneshot_pp"].mean == pytest.approx(np.log(0.050 / 0.035))


def test_all_quantities_of_the_rules_are_computed_and_judged():
    stop, accuracy = paper()
    got = (
        quantities.ticket_quantities(DENSITY, stop, accuracy, accuracy, accuracy, accuracy)
        | quantities.reinit_quantities(DENSITY, stop, accuracy, 2.51 * stop, accuracy - 0.005)
        | quantities.structure_quantities(DENSITY, accuracy, accuracy - 0.005, accuracy - 0.006)
        | quantities.oneshot_quantities(DENSITY, accuracy, accuracy - per_level(lambda d: 0.001 * (d < 1)))
    )
    names = "C-C1 C-C1b C-C2 C-C2b C-C2c C-C2d C-C3 C-C3b C-C4 C-C5"
    assert asked(names) == set(got)
    assert outcomes(names, got) == dict.fromkeys(names.split(), "agrees")


def anatomy(dip=0.6, away=0.7):
    """[R, L, layer, group, measure] at two levels, the second with 21 % of the weights; all else is not looked at."""
    moves = np.full((3, 2, 3, 3, 4), np.nan)
    moves[:, :, 0, 0, 0] = 1
    moves[:, 1, :, 1:, 0] = [[6, 2], [4, 2], [3, 2]]
    moves[:, 1, :, 1, 1] = [0.9, away, 0.8]
    moves[:, 1, :, 1, 2] = [0.5, 0.54, 0.4]
    moves[:, 1, :, 1, 3] = [1.6, 0.3, dip]
    return moves


ONCE, DEALT = np.array([[3.0, 2, 4]] * 3), np.array([[2.0, 2.5, 3]] * 3)  # [R, layer] kept over cut


def test_anatomy_is_read_off_the_layer_that_shows_it_least():
    got = quantities.anatomy_quantities([0.5, 0.21], anatomy(), ONCE, DEALT)
    assert {name: value.mean for name, value in got.items()} == pytest.approx(
        {
            "moved_ratio": 1.5,
            "away_share": 0.7,
            "moved_beyond_selection": 0.8,
            "positive_second_pp": 4,
            "positive_output_pp": -10,
            "dip_first": 1.6,
            "dip_upper": 0.6,
        }
    )
    assert quantities.anatomy_quantities([0.5], anatomy()[:, :1]) == {}
    assert set(got) - set(quantities.anatomy_quantities([0.5, 0.21], anatomy())) == {"moved_beyond_selection"}


def capacity(even=(9000, 12000, 15000), better=0.001):
    """Weights and accuracies of networks of three sizes that break even where it is said, exactly between levels."""
    weights = [total * 0.8 ** np.arange(24.0) for total in (20_000, 266_000, 1_100_000)]
    gain = [0.01 * np.log(counts / at) / np.log(4) for counts, at in zip(weights, even, strict=True)]
    lines = [
        0.97 + np.where(counts < total, change, 0)
        for counts, change, total in zip(weights, gain, (20_000, 266_000, 1_100_000), strict=True)
    ]
    return weights, [np.stack([line, line + 0.001, line]) + better * i for i, line in enumerate(lines)]


def test_break_even_counts_weights_whatever_the_width():
    got = quantities.capacity_quantities(*capacity())
    even = [got[f"break_even_{name}"].mean for name in ("least", "most", "spread")]
    assert even == pytest.approx([9000, 15000, 15 / 9]) and got["widths_matched"].mean == 1
    gap = 100 * (0.002 - 0.01 * np.log(15 / 9) / np.log(4))  # at equal weights both fall alike
    weights, accuracy = capacity()
    inside = [row[:, :-1] for row in accuracy]
    assert quantities.capacity_quantities([w[:-1] for w in weights], inside, 5000)["wide_minus_narrow_pp"].mean < 0
    assert got["wide_minus_narrow_pp"].mean == pytest.approx(gap, abs=0.1)
    assert "wide_minus_narrow_pp" not in quantities.capacity_quantities(weights, accuracy, 50_000)


def test_a_width_without_a_ticket_has_no_break_even():
    weights, accuracy = capacity()
    accuracy[0] = accuracy[0] - 0.1 * (weights[0] < 20_000)
    got = quantities.capacity_quantities(weights, accuracy)
    assert got["break_even_spread"].mean == pytest.approx(15 / 12) and got["widths_matched"].mean == pytest.approx(
        2 / 3
    )
    none = quantities.capacity_quantities(weights[:1] * 2, accuracy[:1] * 2)
    assert math.isnan(none["break_even_least"].mean) and none["widths_matched"].mean == 0


def test_noise_is_held_against_the_ticket_and_its_reinitialisation():
    stop = {"ticket": [100, 120], "reinitialised": [300, 360], 0.5: [110, 132], 3.0: [200, 240]}
    accuracy = {"ticket": [0.98, 0.97], "reinitialised": [0.96, 0.95], 0.5: [0.979, 0.971], 3.0: [0.97, 0.95]}
    got = quantities.noise_quantities(stop, accuracy)
    assert [
        got[name].mean
        for name in ("noise_half_loss_pp", "noise_half_slowdown", "noise_three_gain_pp", "noise_three_lead")
    ] == pytest.approx([0, 1.1, 0.5, 1.5])
    assert quantities.noise_quantities({"ticket": [1]}, {"ticket": [1]}) == {}


def test_masks_found_by_training_on_are_worse_by_what_was_planted():
    density = np.array([1, 0.5, 0.2, 0.1, 0.05])
    resetting = np.array([[0.97, 0.98, 0.98, 0.975, 0.965]] * 2)
    other = resetting - [0, 0, 0.005, 0.01, 0.02]
    stop = np.array([[100, 90, 80, 80, 120]] * 2)
    other[:, 0] = np.nan  # the dense network need not be run twice
    got = quantities.continued_quantities(density, stop, resetting, 2 * stop, other)
    assert got["resetting_minus_continued_pp"].mean == pytest.approx(1.5) and got["continued_slowdown"].mean == 2
    assert got["resetting_break_even_ratio"].mean == pytest.approx(
        2
    )  # gains cross zero midway: 0.2 to 0.1, 0.1 to 0.05
    nothing = np.full_like(other, np.nan)
    assert quantities.continued_quantities(density, stop, resetting, nothing, nothing) == {}


def test_the_deepest_dip_is_one_run_at_one_evaluation():
    steps, flat = np.array([0, 10, 20, 30, 40]), np.full(5, 0.9)
    start, late = np.array([0.9, 0.0, 0.9, 0.9, 0.9]), np.array([0.9, 0.9, 0.9, 0.7, 0.8])
    label, step, values = tidy.deepest_dip(
        {"a": (steps, np.array([start, flat])), "b": (steps, np.array([flat, late]))}
    )
    assert (label, step, values.tolist()) == ("b", 30, [0.9, 0.7, 0.8])  # the first half does not count


def test_the_claims_on_anatomy_agree_with_numbers_that_fit_them():
    stop = {
        "ticket": [100.0, 101, 102],
        "reinitialised": [300.0, 301, 302],
        0.5: [105.0, 106, 107],
        3.0: [200.0, 199, 202],
    }
    near = np.array([0, 1e-5, 2e-5])
    accuracy = {"ticket": 0.98 + near, "reinitialised": 0.96 + near, 0.5: 0.98 - near, 3.0: 0.97 + near}
    density, line = np.array([1, 0.5, 0.1]), np.array([[0.97, 0.98, 0.96]]) + SPREAD
    got = quantities.anatomy_quantities([0.5, 0.21], anatomy(), ONCE, DEALT / 2)
    got |= quantities.noise_quantities(stop, accuracy)
    speed = np.array([[9, 8, 7]] * 3)
    got |= quantities.continued_quantities(density, speed, line, speed + 2, line - [[0, 0.001, 0.002]])
    got |= quantities.capacity_quantities(*capacity(better=0.01))
    names = "C-C9 C-C9b C-C9p C-C10 C-C10b C-C11 C-C11b C-C12"
    assert asked(names) == set(got)
    assert outcomes(names, got) == dict.fromkeys(names.split(), "agrees")


def test_a_study_with_few_levels_leaves_out_what_it_cannot_say():
    stop, accuracy = (values[:, :4] for values in paper())
    density = DENSITY[:4]
    assert quantities.ticket_quantities(density, stop, accuracy, accuracy, accuracy, accuracy) == {}
    assert set(quantities.reinit_quantities(density, stop, accuracy, stop, accuracy)) == {"reinit_slowdown_min"}
    assert quantities.structure_quantities(density, accuracy, accuracy, accuracy) == {}
    assert set(quantities.oneshot_quantities(density, accuracy, accuracy)) == {"break_even_ratio"}
    nothing = np.full_like(accuracy, np.nan)
    assert quantities.oneshot_quantities(density, accuracy, nothing) == {}
    assert quantities.reinit_quantities(density, stop, accuracy, nothing, nothing) == {}


# Of Paul et al. (2023) and Renda et al. (2020), on a chain that prunes a fifth a level.

CHAIN = 0.8 ** np.arange(13)
SPREAD = np.array([[-0.01], [0.0], [0.01]])


def flatness(error, resolved=True):
    """Measured ratios that fall from 0.8 to 0.4; the laws are off by `error` at every level and by 0 at every one."""
    measured = np.linspace(0.8, 0.4, 5) + SPREAD
    laws = {"width": {"random": measured + error}, "exact": {"random": measured}}
    return quantities.flatness_quantities(
        laws,
        {"random": measured, "magnitude": measured + 0.05 + SPREAD},
        {"random": np.full((3, 5), 0.2), "magnitude": np.full((3, 5), 0.05)},
        resolved,
    )


def test_flatness_predicts_within_a_tenth():
    got = flatness(0.09)
    assert got["width_error"].mean == pytest.approx(0.09) and got["exact_error"].mean == pytest.approx(0)
    assert [got["measured_trend"].mean, got["predicted_trend"].mean] == pytest.approx([-1, -1])
    assert got["magnitude_minus_random"].mean == pytest.approx(0.05)
    assert got["curvature_ratio"].mean == pytest.approx(0.25)
    assert outcomes("B-C4 B-C4p", got) == {"B-C4": "agrees", "B-C4p": "agrees"}
    assert outcomes("B-C4", flatness(0.11))["B-C4"] == "disagrees"
    assert set(got) - set(flatness(0.09, resolved=False)) == {"width_error", "exact_error", "predicted_trend"}


def test_one_shot_is_judged_where_iterative_pruning_matches():
    error = np.where(CHAIN > 0.09, 0.08, 0.10) + SPREAD / 10
    once = np.full((3, 13), np.nan)
    once[:, 9:12:2] = 0.095 + SPREAD / 10
    got = quantities.at_once_quantities(CHAIN, error, once, error)
    assert {name: value.mean for name, value in got.items()} == pytest.approx(
        {"oneshot_excess": 3, "iterative_excess": 0}, abs=1e-9
    )
    assert outcomes("B-C6", got)["B-C6"] == "agrees"
    never = quantities.at_once_quantities(CHAIN, error, once, error + 0.02 * (CHAIN < 1))
    assert never == got  # the densest level then, which here is the same one
    error[:, 9] += 0.02
    assert outcomes("B-C6", quantities.at_once_quantities(CHAIN, error, once, error))["B-C6"] == "agrees in part"
    assert quantities.at_once_quantities(CHAIN, error, once) == {}
    assert quantities.at_once_quantities(CHAIN[:5], error[:, :5], once[:, :5], error[:, :5]) == {}


def test_matching_is_relative_to_the_dense_error():
    assert quantities.tolerance([0.0835, 0.0835]) == pytest.approx(0.00501) and quantities.tolerance([0.01]) == 0.005
    assert quantities.tolerance([0.2, 0.3]) == pytest.approx(0.015) and quantities.tolerance() == 0.005


def test_what_is_recovered_is_the_share_of_a_lead():
    base = np.array([0.80, 0.81, 0.79])
    assert quantities.recovered(base + 0.03, base + 0.04, base).mean == pytest.approx(0.75)
    assert math.isnan(quantities.recovered(base, base - 0.01, base))
    unsure = base + np.linspace(-0.02, 0.03, len(base))  # a lead that cannot be told from none
    assert math.isnan(quantities.recovered(base + 0.01, unsure, base))


def test_an_adaptive_schedule_is_compared_at_the_density_that_it_reaches():
    accuracy = 0.9 - 0.01 * np.arange(13) + SPREAD
    reached = 0.8 ** np.array([0, 5, 9.5, 20]) + np.zeros((3, 1))
    got = quantities.adaptive_quantities(CHAIN, accuracy, reached, np.array([0.9, 0.86, 0.82, 0.5]) + SPREAD)
    assert got["adaptive_levels_saved"].mean == pytest.approx(7.5)
    assert got["adaptive_minus_fixed"].mean == pytest.approx((0.82 - 0.805) / 0.006)


def test_retraining_is_compared_with_fine_tuning():
    below = {"weights": 0.08, "learning rate": 0.06, "fine-tuning": 0.01}
    ends = {"weights": 0.91, "learning rate": 0.92, "fine-tuning": 0.90, "none": 0.1}
    got = quantities.retraining_quantities(
        CHAIN[1:],
        {kind: value + np.zeros((3, 12)) for kind, value in below.items()},
        {kind: np.where(CHAIN[1:] < 0.2, value, 0.95) + SPREAD for kind, value in ends.items()},
        np.full((3, 12), 0.05),
    )
    assert got["small_weights_ratio"].mean == pytest.approx(8) and got["small_rate_ratio"].mean == pytest.approx(6)
    assert got["weights_minus_tuning_pp"].mean == pytest.approx(1) == got["rate_minus_weights_pp"].mean
    assert got["rate_minus_tuning_pp"].mean == pytest.approx(2)
    assert got["small_weights_made_pp"].mean == pytest.approx(3)
    names = "B-C4 B-C4p B-C5 B-C7 D6-C1"
    assert outcomes(names, got | flatness(0)) == dict.fromkeys(names.split(), "agrees")
    few = quantities.retraining_quantities(
        CHAIN[1:3],
        {kind: np.zeros((3, 2)) for kind in below},
        {kind: np.ones((3, 2)) for kind in ends},
        np.full((3, 2), 0.1),
    )
    assert list(few) == ["small_weights_made_pp"] and few["small_weights_made_pp"].mean == pytest.approx(-10)


def comparisons(signed, agreement):
    """[pairs, signed or not, matching, measure, layer] of two layers, distances given as means over them."""
    found = np.full((len(signed), 2, 2, 3, 2), np.nan)
    found[:, 0, 1, 0] = np.array(signed)[:, None] + [-0.05, 0.05]
    found[:, 0, 1, 2] = np.array(agreement)[:, None]
    return found


def test_likeness_is_held_against_the_null_at_one_level():
    near = [comparisons([0.1] * 3, [1] * 3), comparisons([0.5, 0.6, 0.7], [0.9, 0.8, 0.85])]
    far = [comparisons([0.9] * 6, [0] * 6), comparisons([0.9, 0.65] * 3, [0.6, 0.6] * 3)]
    got = quantities.likeness_quantities([0.5, 0.21], near, far)
    assert got["null_auc"].mean == pytest.approx(15 / 18) and got["null_auc"].n == 3  # replicates, not pairs
    assert got["agreement_excess_pp"].mean == pytest.approx(20)
    assert quantities.likeness_quantities([0.5], near[:1], far[:1]) == {}
    apart = quantities.likeness_quantities([0.21], [near[1][:2]], [far[1][:4]])
    assert apart["null_auc"].n == 2 and not apart["null_auc"].bounded  # two pairs that share no network


def test_kinds_are_told_apart_by_the_hardest_of_them():
    ticket = np.array([[0.5, 0.5], [0.51, 0.51], [0.52, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    kinds = {"ticket": ticket, "one-shot": ticket + [0.1, -0.1], "reinitialised": ticket + 0.3, "random": ticket + 0.4}
    got = quantities.kinds_quantities(kinds)
    assert got["kinds_auc"].mean == 1 and got["kinds_auc"].n == 4 and got["kinds_auc_sign_gain"].mean == 1
    null = quantities.likeness_quantities(
        [0.21], [comparisons([0.5] * 6, [0.9] * 6)], [comparisons([0.9] * 6, [0.6] * 6)]
    )
    assert outcomes("A-C1 A-C2", got | null) == {"A-C1": "agrees", "A-C2": "agrees"}
    same_masks = kinds | {"one-shot": ticket + 0.1, "reinitialised": ticket + [0.3, 0]}  # without signs as far apart
    assert quantities.kinds_quantities(same_masks)["kinds_auc_sign_gain"].mean == pytest.approx(0, abs=1e-6)
    only = quantities.kinds_quantities({"ticket": ticket, "reinitialised": ticket + [0.3, 0]})
    assert only["kinds_auc"].mean == 1 and "kinds_auc_sign_gain" not in only
    kinds["one-shot"] = ticket - [0.1, 0.2]
    assert outcomes("A-C1 A-C2", quantities.kinds_quantities(kinds) | null)["A-C1"] == "disagrees"
    assert quantities.kinds_quantities({"ticket": ticket}) == {}
    level = {kind: np.stack([ticket, values, ticket]) for kind, values in kinds.items()}
    level["tickets"] = level.pop("ticket")
    assert outcomes("A-C1b", quantities.kinds_conv_quantities([0.5, 0.21, 0.1], level)) == {"A-C1b": "disagrees"}
    level["one-shot"] = level["one-shot"] + 0.3
    assert outcomes("A-C1b", quantities.kinds_conv_quantities([0.5, 0.21, 0.1], level)) == {"A-C1b": "agrees"}
    assert quantities.kinds_conv_quantities([0.5, 0.3, 0.1], level) == {}  # no level near enough


def test_halves_keep_what_brings_pairs_below_their_null():
    halves = 0.7 + np.array([0, 0.01, 0.02, 0, 0.01])
    got = quantities.halves_quantities(halves, halves[:, None] + [0.19, 0.21], np.full(10, 0.7), np.full((10, 2), 0.92))
    assert got["halves_kept"].mean == pytest.approx(0.2 / 0.22) and got["halves_null_auc"].mean == 1
    assert outcomes("A-C5", got)["A-C5"] == "agrees"


def test_signs_are_what_is_lost():
    density, ticket = [1, 0.4, 0.134, 0.05], np.array([0.98, 0.982, 0.98, 0.97]) + SPREAD
    lost = {
        ("new", "original"): 0.001,
        ("reshuffled", "original"): 0.0015,
        ("constant", "original"): 0.0005,
        ("new", "random"): 0.006,
        ("reshuffled", "random"): 0.009,
        ("constant", "random"): 0.007,
    }
    altered = {how: ticket - loss * np.array([np.nan, 0.5, 1, 9]) for how, loss in lost.items()}
    got = quantities.sign_quantities(density, ticket, altered, ticket - 0.001)
    means = {name: getattr(value, "mean", value) for name, value in got.items()}
    assert means == pytest.approx(
        {
            "kept_loss_pp": 0.1,
            "redrawn_loss_pp": 0.6,
            "signed_loss_max_pp": 0.15,
            "unsigned_loss_min_pp": 0.6,
            "transfer_loss_pp": 0.1,
            "transfer_gain_pp": 0.5,
        }
    )
    assert set(outcomes("A-C4 D2-C1 D5-C1", got).values()) == {"agrees"}
    assert asked("A-C4 D2-C1 D5-C1") == set(got)
    coarse = {how: values[:, :2] for how, values in altered.items()}
    assert quantities.sign_quantities(density[:2], ticket[:, :2], coarse, ticket[:, :2]) == {}


def test_each_losing_mask_is_held_against_a_random_one():
    row = np.array([0.97, 0.971, 0.969])
    shift = {"magnitude": 0.01, "magnitude_increase": 0.012, "random": 0, "small_init": -0.01, "small_final": -0.3}
    got = quantities.criteria_quantities({name: row + by for name, by in shift.items()})
    assert {name: value.mean for name, value in got.items()} == pytest.approx(
        {"increase_gain_pp": 0.2, "final_gain_pp": 1.0, "small_init_loss_pp": 1.0, "small_final_loss_pp": 30.0}
    )
    assert outcomes("D2-C2 D2-C4", got) == {"D2-C2": "agrees", "D2-C4": "agrees"}
    assert quantities.criteria_quantities({}) == {}


def test_a_supermask_is_judged_at_the_level_that_validation_picks():
    same = np.array([np.nan, 0.9, 0.8, 0.5]) + SPREAD
    random = np.array([np.nan, 0.1, 0.2, 0.1]) + SPREAD
    got = quantities.supermask_quantities(same, random, np.array([np.nan, 0.7, 0.8, 0.5]) + SPREAD)
    assert got["supermask_accuracy"].mean == pytest.approx(0.8) and got["supermask_gain_pp"].mean == pytest.approx(60)
    assert outcomes("D2-C3", got)["D2-C3"] == "agrees"
    assert quantities.supermask_quantities(same, random) == {}
    assert quantities.supermask_quantities(same * np.nan, same, same) == {}


def test_how_much_of_a_ticket_is_there_before_training():
    before, after = np.array([0.1, 0.4, 0.7]) + SPREAD, np.array([0.9, 0.9, 0.8]) + SPREAD
    got = quantities.untrained_quantities(before, after, np.array([0.1, 0.5, 0.4]) + SPREAD)
    assert got["untrained_share"].mean == pytest.approx(0.3 / 0.8)  # the level that validation picks
    assert quantities.untrained_quantities(before, after) == {}
    nothing = quantities.untrained_quantities(before, 0 * after, np.array([0.1, 0.5, 0.4]) + SPREAD)["untrained_share"]
    assert math.isnan(nothing.mean) and math.isnan(nothing.ci_low)  # what learns less than guessing has no share of it


def test_learned_masks_are_compared_at_half_of_the_weights():
    constants, normal = np.array([0.8, 0.9, 0.7]) + SPREAD, np.array([0.95, 0.85, 0.95]) + SPREAD
    row = np.full(3, 0.89)
    got = quantities.popup_quantities(
        [10, 50, 90], constants, normal, np.array([0.9, 0.8, 0.7]) + SPREAD, row, row - 0.2
    )
    means = {name: value.mean for name, value in got.items()}
    assert means == pytest.approx(
        {
            "learned_mask_accuracy": 0.8,
            "popup_constant_gain_pp": 5,
            "popup_middle_minus_few_pp": 10,
            "popup_middle_minus_many_pp": 20,
            "popup_wide_gain_pp": 21,
            "popup_minus_ticket_pp": -9,  # at the share that validation picks
        }
    )
    assert set(got) == asked("D2-C3b D3-C1 D3-C2 D3-C3 Q3-P2")
    assert quantities.popup_quantities([10], constants[:, :1], normal[:, :1]) == {}
    of_other = quantities.popup_quantities([50], constants[:, :1], normal[:, :1])
    known = {name for name, value in (got | of_other).items() if not math.isnan(getattr(value, "mean", value))}
    assert known == asked("D2-C3b D3-C1 Q3-P2")  # what a network lacks is not taken from the one before


def test_flips_are_compared_below_a_fifth_of_the_weights():
    density = [0.5, 0.16, 0.05]
    rewound, kept = np.array([0.9, 0.1, 0.2]) + SPREAD, np.array([0.2, 0.25, 0.3]) + SPREAD
    got = quantities.flip_quantities(density, {"weights": rewound, "learning rate": kept, "fine-tuning": rewound})
    assert got["flip_excess_pp"].mean == pytest.approx(12.5)
    for gain, outcome in ((1, "agrees"), (-1, "agrees in part")):
        found = got | {"rate_minus_weights_pp": quantities.paired_difference([gain, gain + 0.1, gain - 0.1], [0] * 3)}
        assert outcomes("D5-C2", found)["D5-C2"] == outcome
    assert quantities.flip_quantities([0.5, 0.2], {"weights": rewound[:, :2], "learning rate": kept[:, :2]}) == {}


def test_patterns_are_judged_at_one_level_over_all_layers():
    arranged = [[[9] * 3] * 2, [[2, 3, 2], [0, 0, 0]]]
    rho, p = (
        np.array([[[value] * 3] * 2, [[value] * 3, values]])
        for value, values in ((0.9, [0.3, 0.4, 0.5]), (0.001, [0.001, 0.02, 0.001]))
    )
    found = quantities.pattern_quantities([0.5, 0.21], arranged, rho, p)
    assert found["arranged_orbits"].mean == pytest.approx(7 / 3) and found["pattern_share"].mean == pytest.approx(2 / 3)
    assert found["pattern_rho_within"].mean == pytest.approx(0.65) and found["pattern_rho_within"].n == 3
    sure = quantities.pattern_quantities([0.5, 0.21], arranged, rho, np.full(p.shape, 0.005))
    assert sure["pattern_share"].mean == 1
    wide = {name: claims.Summary(3, 2.0, 2, 2, 1.5, 2.5) for name in ("arranged_orbits", "pattern_rho_within")}
    assert outcomes("A-C3", sure | wide)["A-C3"] == "agrees"
    assert quantities.pattern_quantities([0.5], arranged[:1], rho[:1], p[:1]) == {}


def test_patterns_are_told_level_by_level():
    dense, sparse = np.zeros((2, 2, 3**9), dtype=int), np.ones((2, 2, 3**9), dtype=int)
    counts = {"tickets": {1: dense, 2: sparse}, "random mask": {2: sparse[:, ::-1]}}
    density = {1: 0.5, 2: 0.25}
    found = tidy.by_level(counts, density, lambda part: part[:, 0, 0] + [0, 1])
    assert found["tickets"][0].tolist() == [0.5, 0.25] and found["tickets"][1].tolist() == [[0, 1], [1, 2]]
    assert np.isnan(found["random mask"][1][:, 0]).all() and found["random mask"][1][:, 1].tolist() == [1, 2]
    table = tidy.top_patterns({2: sparse}, density, ["conv1", "conv2"], most=4)
    assert len(table) == 2 * (len(kernels.NULLS) - 1) * 4 and set(table["weights_left"]) == {0.25}
    assert list(table.columns[:5]) == ["weights_left", "level", "layer", "null", "rank"]


def test_what_rules_judge_at_21_percent_is_near_it():
    assert quantities.near(0.2123) and quantities.near(0.22) and not quantities.near(0.036) and not quantities.near(0.5)


def test_patterns_mark_matching_networks_within_a_density():
    dense, levels = [0.70, 0.70, 0.70], [1, 2]
    right = {"a": [0.70, 0.72], "b": [0.69, 0.6], "c": [0.5, 0.5]}  # 6 % of the dense error are 1.8 points
    right = {kind: np.array([row] * 3) for kind, row in right.items()}
    more = {"a": [[9, 7], [9, 9], [4, 6]], "b": [[8, 1], [4, 5], [4, 1]], "c": [[2, 0]] * 3}

    def area(more, right=right):
        return quantities.matching_quantities(more, right, dense, levels)["matching_pattern_auc"].mean

    assert area(more) == 1 and area({kind: -np.array(rows) for kind, rows in more.items()}) == 0
    assert area({kind: rows * np.array([1, 0]) for kind, rows in more.items()}) == pytest.approx(0.75)  # ties
    found = quantities.matching_quantities(more, right, dense, levels)
    assert "kind_pattern_auc" not in found  # of each kind and level all match, or none does
    mixed = right | {
        "b": np.array([[0.69, 0.6], [0.69, 0.7], [0.69, 0.6]]),
        "c": np.array([[0.7, 0.5], [0.5, 0.5], [0.5, 0.5]]),
    }
    within = quantities.matching_quantities(more, mixed, dense, levels)["kind_pattern_auc"].mean
    assert within == 1  # "b": 5 patterns against 1; all of "c" have equally many
    assert quantities.matching_quantities(more, {kind: rows + 0.3 for kind, rows in right.items()}, dense, levels) == {}
    assert quantities.matching_quantities(*({kind: rows[:, :0] for kind, rows in right.items()},) * 2, dense, []) == {}


# Barriers of Paul et al. (2023) and stability of Frankle et al. (2020): rewound to 0, to a matching point, and beyond.

LEVEL = np.arange(1, 13)
DENSE = np.full(3, 0.08)
EXCESS = np.stack([0.03 + 0 * LEVEL, np.where(LEVEL < 10, 0.0, 0.03)])[:, None] + np.zeros((2, 3, 12))


def test_barriers_tell_which_levels_match():
    barrier = np.where(EXCESS > 0.01, 0.4, 0.0)
    both = {"averaged": barrier, "re-estimated": barrier / 100}
    got = quantities.barrier_quantities(EXCESS, both, [0, 1000], DENSE)
    assert {name: value.mean for name, value in got.items()} == pytest.approx(
        {
            "connected_share": 1,
            "barred_share": 1,
            "barrier_auc": 1,
            "barrier_auc_reestimated": 1,
            "zero_barrier": 0.4 / (0.9 - 0.08 - 0.03),
        }
    )
    barrier[:, :, :3] = 1 - barrier[:, :, :3]  # before the first level that is looked at nothing counts
    assert quantities.barrier_quantities(EXCESS, both, [0, 1000], DENSE) == got
    assert quantities.barrier_quantities(EXCESS[..., :3], both, [0, 1000], DENSE) == {}
    few = quantities.barrier_quantities(EXCESS[1:, :, :8], {kind: v[1:, :, :8] for kind, v in both.items()}, [1000])
    assert set(few) == {"connected_share"}  # nothing but matching levels: nothing to tell apart


def test_barriers_are_judged_by_the_error_of_the_dense_network():
    """A barrier of 2 points is one beside an error of 8 %, and none beside one of 30 %."""
    barrier = {kind: np.full((1, 3, 12), 0.02) for kind in ("averaged", "re-estimated")}
    shares = [
        quantities.barrier_quantities(np.zeros((1, 3, 12)), barrier, [9], [error])["connected_share"].mean
        for error in (0.08, 0.3)
    ]
    assert shares == [0, 1]


def chained(whole, mended):
    successive = np.where(LEVEL < 10, 0.001, 0.1) + np.zeros((3, 1))
    error = np.concatenate([np.full((3, 1), 0.08), 0.08 + EXCESS[1]], axis=1)
    return quantities.chaining_quantities(
        EXCESS[1],
        {"averaged": successive, "re-estimated": successive},
        {"averaged": whole, "re-estimated": mended},
        DENSE,
        error,
    )


def test_levels_are_chained_while_the_way_to_dense_rises():
    whole = 0.002 * LEVEL + np.zeros((3, 1))
    got = chained(whole, whole / 4)
    assert got["successive_max"].mean == pytest.approx(0.2)
    assert got["dense_minus_successive_pp"].mean == pytest.approx(1.7)  # at level 9, the last that matches
    assert got["dense_barrier_trend"].mean == pytest.approx(1)
    assert got["dense_barrier_reestimated"].mean == pytest.approx(0.9)
    assert outcomes("B-C2 B-C2b", got) == {"B-C2": "agrees", "B-C2b": "agrees"}
    assert outcomes("B-C2b", chained(whole, whole))["B-C2b"] == "disagrees"


def test_ranges_of_sparsity():
    error = np.where(CHAIN > 0.1, 0.08, 0.1) + SPREAD / 10
    random = 0.08 + 0.05 * (1 - CHAIN) ** 4 + SPREAD / 10
    got = quantities.range_quantities(CHAIN, error, random)
    assert got["ticket_least_density"].mean == pytest.approx(CHAIN[10])
    assert got["random_dense_excess"].mean == pytest.approx(0.016, abs=1e-3)
    assert got["random_sparse_excess"].mean == pytest.approx(10 * (1 - CHAIN[7]) ** 4)
    assert outcomes("D1-C3", got)["D1-C3"] == "agrees" and asked("D1-C3") == set(got)


def test_rewinding_late_is_compared_at_a_ninth_of_the_weights():
    late = np.where(np.arange(13) == 10, 0.88, 0.5) + SPREAD
    assert quantities.late_quantities(CHAIN, 0.91 + 0 * late + SPREAD, late)["late_loss_pp"].mean == pytest.approx(3)
    assert quantities.late_quantities(CHAIN[:5], late[:, :5], late[:, :5]) == {}


def stability(tickets, excess=(0.01, 0.001, 0.0), length=10_000):
    excess = np.array(excess)[:, None, None] + np.zeros((3, 3, 2))
    return quantities.stability_quantities(
        [0, 500, 1000, 2000],
        np.array([0.5, 0.01, 0.03, 0.01])[:, None] + np.zeros((4, 3)),
        [0, 250, 2000],
        np.array(tickets)[:, None, None] + np.zeros((3, 3, 2)),
        excess,
        DENSE,
        length,
    )


def test_a_network_is_stable_from_the_step_after_the_last_barrier():
    got = {name: value.mean for name, value in stability([0.4, 0.0, 0.0]).items()}
    assert got == pytest.approx(
        {
            "dense_stable_share": 0.2,
            "ticket_minus_dense_stable_share": 0.025 - 0.2,
            "stable_agreement": 1,
            "dense_zero_barrier": 25,
            "dense_early_barrier": 0.5,  # at 500 of 10,000 steps
        }
    )
    assert "dense_early_barrier" not in stability([0.4, 0.0, 0.0], length=100_000)
    never = stability([0.4, 0.0, 0.4])
    assert never["ticket_minus_dense_stable_share"].mean == pytest.approx(0.8)  # 1: never
    assert never["stable_agreement"].mean == pytest.approx(2 / 3)
    assert stability([0, 0, 0], (0, 0, 0))["ticket_minus_dense_stable_share"].mean == pytest.approx(-0.2)
    assert "dense_stable_share" not in stability([0, 0, 0], length=None)


def test_what_stable_and_matching_would_share_by_chance():
    barriers, excess = np.array([[0.0, 0.0, 0.0, 0.5]]), np.array([[0.0, 0.0, 0.1, 0.1]])
    assert quantities.chance_agreement(barriers, excess, DENSE) == pytest.approx((0.75, 0.5, 0.5))
    assert quantities.chance_agreement(barriers, 0 * excess, DENSE) == pytest.approx((0.75, 1, 0.75))


def test_a_network_just_epsilon_worse_matches_wherever_it_is_asked():
    barriers, excess = np.zeros((1, 1, 1)), np.full((1, 1, 1), 0.025 - 0.02)  # by rounding more than 0.005
    assert quantities.chance_agreement(barriers, excess, [0.02]) == (1, 1, 1)
    agreement = quantities.stability_quantities([500], [[0.0]], [0], barriers, excess, [0.02])["stable_agreement"]
    assert agreement.mean == 1
    least = quantities.range_quantities([1, 0.5], [[0.02, 0.025]], [[0.02, 0.025]])["ticket_least_density"]
    assert least.mean == 0.5


def test_masks_without_rewinding_are_judged_by_their_worst_level():
    found, rewound = np.array([0.92, 0.91]) + SPREAD, np.array([0.93, 0.907]) + SPREAD
    got = quantities.transplant_quantities(found, rewound, np.array([-0.005, 0.001]) + SPREAD, DENSE)
    assert {name: value.mean for name, value in got.items()} == pytest.approx(
        {"transplant_loss": 0.6, "transplant_midpoint": -0.2}
    )


def test_the_claims_on_barriers_agree_with_numbers_that_fit_them():
    barrier = np.where(EXCESS > 0.01, 0.4, 0.0)
    both, rising = {"averaged": barrier, "re-estimated": barrier}, 0.002 * LEVEL + np.zeros((3, 1))
    got = quantities.barrier_quantities(EXCESS, both, [0, 1000], DENSE) | chained(rising, rising / 4)
    got |= quantities.late_quantities(CHAIN, np.full((3, 13), 0.91) + SPREAD, np.full((3, 13), 0.88) + SPREAD)
    none, high = {"random": [0, 0, 0], "mask": [0, 0, 0]}, {"random": [0.3, 0.31, 0.32], "mask": [0.2, 0.21, 0.22]}
    got |= quantities.robustness_quantities(high, none, DENSE)
    got |= stability([0.4, 0.0, 0.0], length=15_000)
    got |= quantities.transplant_quantities(*[np.full((3, 1), 0.9)] * 2, np.zeros((3, 1)), DENSE)
    names = "B-C1 B-C1p B-C2 B-C2b B-C3 B-C8 B-C10 D1-C1 D1-C1b D1-C1c D1-C2"
    assert asked(names) == set(got)
    assert outcomes(names, got) == dict.fromkeys(names.split(), "agrees")


# Convolutional and deeper networks.


def convolution(speed, gain, lost=0.0):
    """A network whose level 12 is `speed` times as fast and `gain` more accurate, and whose last loses `lost`."""
    stop, accuracy = np.full((3, 20), 7000.0), np.full((3, 20), 0.7) + SPREAD
    stop[:, 12] /= speed
    accuracy[:, 12] += gain
    accuracy[:, -1] -= lost
    return DENSITY, stop, accuracy, accuracy


def test_convolutional_tickets_of_the_paper():
    paper = {"Conv-2": convolution(3.5, 0.034), "Conv-4": convolution(3.5, 0.035), "Conv-6": convolution(2.5, 0.033)}
    got = quantities.convolution_quantities(paper)
    assert got["speedup_conv_4"].mean == pytest.approx(3.5) and got["gain_conv_6_pp"].mean == pytest.approx(3.3)
    assert got["gain_conv_2_min_pp"].mean == pytest.approx(0)
    names = "C-C6 C-C6b C-C6c C-C6d C-C6e C-C6f"
    assert asked(names) == set(got) and outcomes(names, got) == dict.fromkeys(names.split(), "agrees")
    losing = {"Conv-6": convolution(1.0, 0.0, lost=0.02)}
    assert quantities.convolution_quantities(losing, least=0.015)["gain_conv_6_min_pp"].mean == pytest.approx(0)
    assert quantities.convolution_quantities(losing, least=0.014)["gain_conv_6_min_pp"].mean == pytest.approx(-2)
    shallow = {name: tuple(part[..., :8] for part in parts) for name, parts in paper.items()}
    assert "gain_conv_2_min_pp" not in quantities.convolution_quantities(shallow)
    assert quantities.convolution_quantities({}) == {}


def test_a_network_at_chance_is_not_fast():
    density, stop, accuracy, _ = convolution(3.5, 0.034)
    stop[:, -1], accuracy[:, -1] = 1, 0.1
    got = quantities.convolution_quantities({"Conv-2": (density, stop, accuracy, accuracy)})
    assert got["speedup_conv_2"].mean == pytest.approx(3.5)
    worse = accuracy - 0.5 * (density < 1)
    none = quantities.convolution_quantities({"Conv-2": (density, stop, worse, worse)})
    assert none["speedup_conv_2"].mean == 1
    assert quantities.fastest_level(density, stop, worse, worse) == 0
    level = quantities.fastest_level(density, stop, accuracy, accuracy)
    assert 0 < level == stop[:, :-1].mean(axis=0).argmin()


def test_levels_that_no_replicate_reaches_are_not_the_fastest():
    density, *values = convolution(3.5, 0.034)
    for rows in values[:2]:
        rows[:, 15:] = np.nan
    got = quantities.convolution_quantities({"Conv-2": (density, *values)})
    assert got["speedup_conv_2"].mean == pytest.approx(3.5) and got["gain_conv_2_pp"].mean == pytest.approx(3.4)


def test_masks_of_convolutions_are_compared_with_random_ones_below_a_fifth():
    accuracy = np.full((3, 20), 0.7) + SPREAD
    reinit, random = accuracy[:, None] - 0.05, accuracy[:, None] - np.where(DENSITY < 0.2, 0.052, 0.3)
    reinit[..., ::2] = np.nan
    got = quantities.convolution_structure_quantities(
        {"Conv-2": (DENSITY, accuracy, reinit, random), "Conv-4": (DENSITY, accuracy, reinit - 0.02, random - 0.02)}
    )
    assert got["conv_ticket_minus_reinit_pp"].mean == pytest.approx(6)
    assert got["conv_reinit_minus_random_pp"].mean == pytest.approx(0.2)
    assert asked("C-C4b") == set(got) and outcomes("C-C4b", got)["C-C4b"] == "agrees"
    nothing = np.full((3, 1, 20), np.nan)
    assert quantities.convolution_structure_quantities({"Conv-2": (DENSITY, accuracy, nothing, random)}) == {}


def test_masks_of_convolutions_that_were_found_by_training_on_are_worse_by_what_was_planted():
    accuracy, stop = np.full((3, 20), 0.7) + SPREAD, np.full((3, 20), 1000.0) * [[1], [1.1], [0.9]]
    other, later = accuracy - np.where(DENSITY < 0.2, 0.02, 0.3), 2 * stop
    other[:, ::2] = np.nan  # judged at some levels only
    networks = {
        "Conv-2": (DENSITY, stop, accuracy, later, other),
        "Conv-4": (DENSITY, stop, accuracy, later, other - 0.02),
    }
    got = quantities.convolution_continued_quantities(networks)
    assert got["conv_resetting_minus_continued_pp"].mean == pytest.approx(3)
    assert got["conv_continued_slowdown"].mean == pytest.approx(2)
    assert asked("C-C12b") == set(got) and outcomes("C-C12b", got)["C-C12b"] == "agrees"
    nothing = np.full((3, 20), np.nan)
    assert quantities.convolution_continued_quantities({"Conv-2": (DENSITY, stop, accuracy, later, nothing)}) == {}
    assert quantities.convolution_continued_quantities({}) == {}


def test_deeper_networks_need_a_low_rate_or_warm_up():
    base = {"high": 0.905, "low": 0.89, "warm": 0.90}
    gap, gain = {"high": 0.0, "low": 0.01, "warm": 0.012}, {"high": 0.0, "low": 0.005, "warm": 0.005}
    tickets = {name: value + gain[name] * (DENSITY < 0.3) + SPREAD for name, value in base.items()}
    reinit = {name: tickets[name][:, None] - gap[name] - (DENSITY < 0.1) for name in base}
    got = quantities.warmup_quantities(DENSITY, tickets, reinit, 0.11, tickets)
    assert got["gap_low_pp"].mean == pytest.approx(1) and got["low_shortfall_pp"].mean == pytest.approx(1)
    assert got["warm_shortfall_pp"].mean == pytest.approx(0, abs=1e-9)
    assert got["gap_high_pp"].mean == pytest.approx(0) and got["gap_low_minus_high_pp"].mean == pytest.approx(1)
    vgg = {f"vgg_{name}": value for name, value in got.items() if name.startswith("gap")}
    names = "C-C7 C-C7b C-C7c"
    assert asked(names) == set(got | vgg)
    assert outcomes(names, got | vgg) == dict.fromkeys(names.split(), "agrees")
    assert "low_shortfall_pp" not in quantities.warmup_quantities(DENSITY, tickets, reinit, 0.11)
    dense = {name: values[:, :1] for name, values in tickets.items()}
    assert quantities.warmup_quantities(DENSITY[:1], dense, dense, 0.11) == {}


def test_global_pruning_reaches_smaller_tickets():
    together, apart = (
        0.9 + per_level(lambda d, end=end: 0.01 * np.log(d / end) * (d < 0.9)) + SPREAD for end in (0.015, 0.069)
    )
    got = quantities.scope_quantities(DENSITY, together, DENSITY, apart)
    assert got["global_break_even"].mean == pytest.approx(0.015) and got["scope_ratio"].mean == pytest.approx(4.6)
    assert got["global_minus_layer_pp"].mean == pytest.approx(np.log(4.6))
    assert asked("C-C8") == set(got) and outcomes("C-C8", got)["C-C8"] == "agrees"
    kept = np.repeat(together[:, :1], len(DENSITY), axis=1)  # where nothing is lost there is no break-even
    assert set(quantities.scope_quantities(DENSITY, kept, DENSITY, kept)) == {"global_minus_layer_pp"}


def test_each_replicate_is_left_out_in_turn():
    values = np.array([[1.0, 2], [3, 5], [8, 9]])
    found = quantities.left_out(lambda a, b: {"sum": stats.summary((a + b).mean(axis=1))}, values, 2 * values)
    np.testing.assert_allclose(found["sum"], [3 * 6.25, 3 * 5, 3 * 2.75])
    assert quantities.left_out(lambda a: {"sum": 0.0}, values[:1]) == {}


def test_levels_and_readings_of_learning_speed():
    assert tidy.nearest([1, 0.8, 0.64, 0.51], 0.5, 0.88, 0.82, 1) == [3, 1, 0]
    history = {
        "validation_loss": [9, 1.0, 3, 3, 1.9, 2, 2.1, 4],
        "test_accuracy": [0, 0.3, 0.6, 0.5, 0.7, 0.7, 0.7, 0.8],
    }
    arrays = {f"history/{name}": np.array(values) for name, values in history.items()}
    record = SimpleNamespace(arrays=arrays | {"history/step": np.arange(0, 800, 100)})
    assert tidy.smoothed_stop(record, 3) == 500 and tidy.smoothed_stop(record, 1) == 100
    assert tidy.first_at(record, 0.6) == 200 and tidy.first_at(record, 0.9) == 700
    assert tidy.seldom_stop(record, 1) == 100 and tidy.seldom_stop(record, 300) == 600
    ways = tidy.speeds(0.6, 300)
    assert [tidy.column([[record]], way).item() for way in list(ways.values())[2:]] == [200, 600]
    assert list(ways)[-1] == "smallest validation loss, looked at every 300 iterations"
    assert tidy.column([[record, None]], tidy.at_step(240)).tolist()[0][0] == 0.6
    assert tidy.at_step(0, "validation_loss")(record) == 9


def test_the_dense_networks_loss_is_reached_or_not_in_the_same_replicate():
    def run(*losses):
        return SimpleNamespace(
            arrays={"history/validation_loss": np.array(losses), "history/step": np.array([0, 10, 20])}
        )

    chains = [[run(9, 3, 4), run(9, 4, 3), run(9, 5, 4)], [run(9, 2, 1), run(9, 1, 2), run(9, 2, 1.1)]]
    np.testing.assert_array_equal(tidy.same_loss(chains), [[10, 20, np.nan], [20, 10, np.nan]])


def test_masks_of_a_row_are_compared_with_each_other():
    def record(*kept):
        values, arrays = masks.to_record({"w": torch.tensor(kept)})
        return SimpleNamespace(values=values, arrays=arrays)

    rows = [[record(True, False, True, False), record(True, True, False, False), record(True, False, True, False)]]
    assert tidy.mask_distances(rows).tolist() == [[[0, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0]]]


def run_record(accuracy, step=400):
    values = {"density": 0.5, "early_stop_step": step, "layers": {"fc1": [accuracy]}}
    values |= dict.fromkeys(("early_stop_test_accuracy", "test_accuracy_end", "train_accuracy_end"), accuracy)
    return SimpleNamespace(values=values)


def test_values_are_found_by_their_way_and_draws_are_averaged():
    rows = [[[run_record(0.9), run_record(0.8)], [run_record(0.7), None]]]  # a replicate, two draws, two levels
    assert tidy.column(rows, ("layers", "fc1", 0))[0, 0].tolist() == [0.9, 0.8]
    found = tidy.over_draws({"Conv-2": {"ticket": rows}}, "test_accuracy_end")["Conv-2"]["ticket"]
    np.testing.assert_allclose(found, [[0.8, np.nan]])
    table = tidy.runs({"Conv-2": {"ticket": rows}}, "network", "label")
    assert list(table.columns) == ["network", "label", "replicate", "level", *tidy.RUN_COLUMNS]
    assert table[["network", "label", "level"]].to_numpy().tolist() == [["Conv-2", "ticket", 0]]


def test_errors_at_the_ends_and_the_middle_of_paths():
    arrays = {f"{way}/test_error": np.array([0.1, 0.3, 0.2]) for way in ("averaged", "re-estimated")}
    path = SimpleNamespace(arrays=arrays | {"position": np.array([0, 0.5, 1])})
    for place, error in {0: 0.1, 0.5: 0.3, 1: 0.2}.items():
        for errors in tidy.at_point([[path, None]], place).values():
            np.testing.assert_array_equal(errors, [[error, np.nan]])
    finer = np.linspace(0, 1, 99)  # whose middle is not quite a half
    arrays = {f"{way}/test_error": finer for way in ("averaged", "re-estimated")} | {"position": finer}
    for errors in tidy.at_point([SimpleNamespace(arrays=arrays)], 0.5).values():
        np.testing.assert_array_equal(errors, finer[49:50])


def test_how_much_higher_a_path_rises_than_at_its_middle_and_than_its_worse_end():
    """Ends that differ make no rise, nor does a path of three points."""
    falls, hill = np.array([0.5, 0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.2, 0.3, 0.5, 0.1])
    whole = [
        SimpleNamespace(
            key=key,
            arrays=dict.fromkeys(("averaged/test_error", "re-estimated/test_error"), errors)
            | {"position": np.linspace(0, 1, len(errors))},
        )
        for key, errors in {"falls": falls, "hill": hill, "three": np.array([0.1, 0.9, 0.1])}.items()
    ]
    twice = [whole, whole[:2]]
    for gaps, over in zip(tidy.above_middle(twice).values(), tidy.over_worse_end([whole]).values(), strict=True):
        np.testing.assert_allclose(gaps, [0, 0.2], atol=1e-12)
        np.testing.assert_allclose(over, [[-0.2, 0.2, 0.8]])


def test_how_many_survivors_were_small_is_counted_from_histograms():
    """To the share in the bins of a threshold. Of two layers one has none: no weight of it is small."""
    weights = np.concatenate([np.linspace(-1, -0.5, 300), np.linspace(0.5, 1, 300), np.linspace(-0.2, 0.2, 400)])
    counts = np.histogram(weights, np.linspace(-1, 1, 82))[0]
    arrays = {f"histogram/{name}.weight": np.stack([counts, 0 * counts + 5]) for name in ("fc1", "fc2")}
    run = SimpleNamespace(arrays=arrays | {f"reach/{name}.weight": np.array(1.0) for name in ("fc1", "fc2")})
    for cut in (0.1, 0.15, 0.2, 0.7):
        exact = (np.abs(weights) <= cut).mean() / 2
        assert tidy.small_at_start(run, {"fc1.weight": cut}) == pytest.approx(exact, abs=0.01)
    assert tidy.small_at_start(run, {"fc1.weight": 0.0}) == 0
    assert tidy.small_at_start(run, {"fc1.weight": 1.0, "fc2.weight": 1.0}) == 1


def test_smallness_of_weights_that_were_put_back_is_told_from_their_scale():
    """Half as long as at the end, but of the same shape: to scale, training makes none small."""
    weights = np.concatenate([np.linspace(-1, -0.5, 300), np.linspace(0.5, 1, 300), np.linspace(-0.2, 0.2, 400)])
    counts = [np.histogram(values, np.linspace(-1, 1, 82))[0] for values in (weights / 2, weights)]
    run = SimpleNamespace(arrays={"histogram/fc1.weight": np.stack(counts), "reach/fc1.weight": np.array(1.0)})
    counted = SimpleNamespace(values={"threshold": {"fc1.weight": 0.3}})
    small, to_scale, scale = tidy.put_back([[None, run]], [[counted]])
    assert small == pytest.approx((np.abs(weights) <= 0.6).mean(), abs=0.02) and small.shape == (1, 1)
    assert to_scale == pytest.approx((np.abs(weights) <= 0.3).mean(), abs=0.02)
    assert scale == pytest.approx(0.5, abs=0.01)


def test_patterns_are_read_layer_by_layer():
    arrays = {f"{which}/{name}": np.arange(3) + n for n, name in enumerate("ab") for which in ("end", "start")}
    record = SimpleNamespace(values={"layers": ["a", "b"]}, arrays=arrays)
    assert tidy.patterns([record, record]).tolist() == 2 * [[[0, 1, 2], [1, 2, 3]]]


def test_movements_of_a_layer_are_added_up_over_replicates():
    counts = np.arange(3 * 64).reshape(3, 64)
    rows = [[None, SimpleNamespace(arrays={"moves/fc1.weight": factor * counts})] for factor in (1, 2)]
    found = tidy.movements(rows, 1, "fc1.weight", "moves", "rest", "ticket alone")
    assert list(found) == ["rest", "ticket alone"]
    np.testing.assert_array_equal(found["rest"][1], 3 * counts[2])
    np.testing.assert_array_equal(found["ticket alone"][1], 3 * counts[0])
    assert len(found["rest"][0]) == 65


def test_how_far_kept_weights_moved_beside_the_rest():
    summary = np.arange(1.0, 25).reshape(2, 3, 4)  # layer, group, measure
    record = SimpleNamespace(arrays={"summary": summary, "chance": summary[:, 1:] * [[2], [1]]})
    np.testing.assert_allclose(tidy.moved_ratios([record] * 3), [[5 / 9, 17 / 21]] * 3)
    np.testing.assert_allclose(tidy.moved_ratios([record], "chance"), [[10 / 9, 34 / 21]])


# The open questions.

FIVE = np.array([-0.002, -0.001, 0.0, 0.001, 0.002])  # replicates at one level: cancels in differences
SKEW = np.array([0.0, 0.0004, -0.0004, 0.0002, -0.0002])  # and what does not


def test_a_transfer_is_the_share_of_the_native_lead():
    leads = {"native": 0.03, "moved": 0.027, "degrees": 0.012, "upper layers": 0.03, "first layer": 0.01, "random": 0}
    fresh = {"mask alone": 0.015, "random, fresh": 0.01}
    there = {kind: 0.85 + lead + (FIVE + lead * SKEW)[:, None] for kind, lead in (leads | fresh).items()}
    back = {kind: there[kind] for kind in ("native", "moved", "random")}
    adam = back | {"moved": there["native"]}
    got = quantities.transfer_quantities([0.2], there, back, {"recovered_to_sgd": back, "recovered_to_adam": adam})
    assert got["recovered_to_fashion"].mean == pytest.approx(0.9) == got["recovered_to_mnist"].mean
    assert got["recovered_to_sgd"].mean == pytest.approx(0.9) and got["recovered_to_adam"].mean == pytest.approx(1)
    assert got["degrees_recovered"].mean == pytest.approx(12 / 27) and got[
        "first_layer_recovered"
    ].mean == pytest.approx(1 / 3)
    assert got["transfer_beyond_degrees_pp"].mean == pytest.approx(1.5)
    assert got["mask_alone_pp"].mean == pytest.approx(0.5)
    names = "Q1-P1 Q1-P2 Q1-P3 Q1-P4 Q1-P5"
    assert asked(names) == set(got) and set(outcomes(names, got).values()) == {"agrees"}
    got = quantities.transfer_quantities([0.2], there | {"native": there["random"]}, back, {})
    assert math.isnan(got["recovered_to_fashion"])  # no lead, no share of it


def test_of_several_levels_a_transfer_is_judged_at_21_per_cent_alone():
    rng = np.random.default_rng(0)
    kinds = "native, moved, degrees, random, first layer, upper layers, mask alone".split(", ")
    there = {kind: rng.uniform(0.94, 0.97, (5, 3)) for kind in [*kinds, "random, fresh"]}
    there |= {kind: rng.uniform(low, low + 0.01, (5, 3)) for kind, low in (("random", 0.9), ("native", 0.98))}
    every = quantities.transfer_quantities([0.51, 0.21, 0.04], there, there, {"recovered_to_sgd": there})
    at = {kind: values[:, 1:2] for kind, values in there.items()}
    assert every == quantities.transfer_quantities([0.21], at, at, {"recovered_to_sgd": at})
    assert quantities.transfer_quantities([0.51, 0.09], at, at, {}) == {}  # neither is near


def test_the_smallest_weights_of_conv_2_lose_where_a_random_mask_is_more_accurate():
    accuracy = {"small at the end": 0.6 + FIVE, "another random": 0.7 + FIVE}
    accuracy |= {"small at the end, rescaled": 0.64 + FIVE + SKEW, "small at the start": 0.71 + FIVE + SKEW}
    got = quantities.losing_conv_quantities(accuracy)
    assert got["conv_small_final_loss_pp"].mean == pytest.approx(10) and asked("Q2-P6 Q2-P7 Q2-P8") == set(got)
    assert got["conv_rescaled_recovered"].mean == pytest.approx(0.4)
    assert outcomes("Q2-P6 Q2-P7 Q2-P8", got) == {"Q2-P6": "agrees", "Q2-P7": "disagrees", "Q2-P8": "disagrees"}


def test_losing_tickets_are_worse_than_random_ones():
    accuracy = {
        "random": 0.97 + FIVE,
        "complement": 0.96 + FIVE + SKEW,
        "small final": 0.93 + FIVE,
        "rescaled": 0.96 + FIVE + SKEW,
    }
    got = quantities.losing_quantities(accuracy)
    assert got["complement_loss_pp"].mean == pytest.approx(1) and got[
        "losing_rescaled_recovered"
    ].mean == pytest.approx(0.75)
    assert asked("Q2-P1 Q2-P3") == set(got)
    assert outcomes("Q2-P1 Q2-P3", got) == {"Q2-P1": "agrees", "Q2-P3": "agrees"}


def test_signs_turned_against_a_ticket():
    flipped = {share: 0.98 - 0.02 * share + FIVE + share * SKEW for share in (0, 0.1, 0.25, 0.5, 1)}
    got = quantities.flipped_start_quantities(flipped, 0.965 + FIVE, 0.955 + FIVE + SKEW)
    assert got["flipped_loss_pp"].mean == pytest.approx(0.5) and got["flipped_trend"].mean == pytest.approx(-1)
    assert got["adversarial_start_loss_pp"].mean == pytest.approx(1)
    assert asked("Q2-P2 Q2-P5") == set(got)
    assert outcomes("Q2-P2 Q2-P5", got) == {"Q2-P2": "agrees", "Q2-P5": "agrees"}


def test_the_worst_mask_is_picked_by_validation_and_judged_by_another_training():
    validation = np.array([[[0.9, 0.8, 0.95], [0.7, 0.9, 0.9]], [[0.9, 0.95, 0.8], [0.9, 0.9, 0.7]]])
    first, again = [[0.90, 0.92, 0.85], [0.80, 0.80, 0.84]], [[0.90, 0.89, 0.92], [0.88, 0.90, 0.90]]
    got = quantities.worst_mask_quantities(validation, [first, again])["worst_mask_loss_pp"]  # (2 + 6) / 2, (2 − 4) / 2
    assert (got.low, got.high) == (pytest.approx(-1), pytest.approx(4)) and asked("Q2-P4") == {"worst_mask_loss_pp"}


def test_a_search_is_paid_back_by_what_its_ticket_saves():
    stop = np.interp(LEVELS, [0, 7, 19], [10000, 8000, 8000]) + 1e5 * FIVE[:, None] + np.zeros((5, 20))
    got = quantities.cost_quantities(DENSITY, 50000, stop)
    saved = 10000 - DENSITY[7] * 8000
    assert got["reuse_break_even_run"].mean == pytest.approx(50000 * DENSITY[:8].sum() / saved)
    assert got["reuse_break_even"].mean == pytest.approx((DENSITY[:8] * stop[:, :8].mean(axis=0)).sum() / saved)
    assert asked("Q5-P1") == set(got) and outcomes("Q5-P1", got)["Q5-P1"] == "agrees in part"
    late = quantities.cost_quantities(DENSITY, 50000, np.where((LEVELS > 0) & (LEVELS < 7), 5 * stop, stop))
    assert outcomes("Q5-P1", late)["Q5-P1"] == "agrees"
    slow = np.where(LEVELS == 7, 6 * stop, stop)  # a ticket that saves nothing
    assert quantities.cost_quantities(DENSITY, 50000, slow) == {}
    assert quantities.cost_quantities(DENSITY[:3], 50000, stop[:, :3]) == {}
    unknown = np.where((LEVELS == 7) & (FIVE[:, None] == 0), np.nan, stop)
    assert quantities.payback(Ledger(DENSITY, unknown, 50000)) is None


def test_seconds_are_looked_up_at_their_densities():
    at = [3, 7, 15]
    seconds = np.array([[2.0, 4.0], [2.0, 2.0], [2.0, 1.0]]) + 10 * SKEW[:, None, None] * [1, 0]
    got = quantities.use_quantities(DENSITY[at], seconds)
    assert (got["csr_speedup_4"].mean, got["csr_speedup_50"].mean) == (pytest.approx(2), pytest.approx(0.5))
    assert asked("Q5-P3") == set(got) and outcomes("Q5-P3", got) == {"Q5-P3": "agrees"}
    assert set(quantities.use_quantities(DENSITY[at[:2]], seconds[:, :2])) == {"csr_speedup_50"}


def test_cheaper_masks_lie_between_ticket_and_random():
    accuracy = {"ticket": 0.98, "early": 0.979, "SNIP": 0.975, "SynFlow": 0.972, "random": 0.97}
    got = quantities.cheap_quantities({name: value + FIVE + value * SKEW for name, value in accuracy.items()})
    assert got["early_bird_loss_pp"].mean == pytest.approx(0.1, abs=1e-4)
    assert got["init_mask_loss_pp"].mean == pytest.approx(0.5, abs=1e-3)
    assert got["init_mask_gain_pp"].mean == pytest.approx(0.2, abs=1e-3)
    assert asked("Q5-P4 Q5-P5") == set(got)
    assert outcomes("Q5-P4 Q5-P5", got) == {"Q5-P4": "agrees", "Q5-P5": "agrees"}


def test_of_conv_2_the_early_mask_is_asked_for_a_share_of_the_tickets_lead():
    accuracy = {"ticket": 0.68, "early": 0.67, "SNIP": 0.66, "SynFlow": 0.65, "random": 0.64}
    found = {name: value + FIVE + value * SKEW for name, value in accuracy.items()}
    got = quantities.cheap_conv_quantities(found, 0.0708, 0.0708)
    assert got["conv_early_recovered"].mean == pytest.approx(0.75, abs=1e-3)
    assert got["conv_init_mask_loss_pp"].mean == pytest.approx(2, abs=0.02)
    assert got["conv_init_mask_gain_pp"].mean == pytest.approx(1, abs=0.02)
    assert asked("Q5-P6 Q5-P7") == set(got)
    assert outcomes("Q5-P6 Q5-P7", got) == {"Q5-P6": "agrees", "Q5-P7": "agrees"}
    worse = {name: np.full(3, 1 - value) + FIVE[:3] for name, value in accuracy.items()}
    worse = quantities.cheap_conv_quantities(worse, 0.0708, 0.0708)
    assert np.isnan(worse["conv_early_recovered"])  # a ticket without a lead has no share to give
    assert quantities.cheap_conv_quantities(None, 0.088, 0.088) == {}
    assert (
        quantities.cheap_conv_quantities(found, 0.17, 0.17)
        == quantities.cheap_conv_quantities(found, 0.046, 0.046)
        == {}
    )
    assert set(quantities.cheap_conv_quantities(found, 0.0708, 0.2)) == {"conv_early_recovered"}
    del found["early"]
    start = quantities.cheap_conv_quantities(found, 0.0708, 0.0708)
    assert start == {name: value for name, value in got.items() if name != "conv_early_recovered"}


def test_comparisons_are_read_by_measure_and_draws_follow_each_other():
    pair, null = np.arange(36).reshape(2, 2, 3, 3), np.arange(180).reshape(5, 2, 2, 3, 3)
    records = [SimpleNamespace(arrays={"pair": pair, "degrees": null}), SimpleNamespace(arrays={"pair": pair + 1})]
    assert (
        tidy.comparisons(records).shape == (2, 2, 2, 3, 3) and tidy.comparisons(records, "degrees").shape == null.shape
    )
    found = tidy.compared(records, "agreement", signed=False, matching=None)
    assert found.tolist() == [pair[1, 0, 2].tolist(), (pair[1, 0, 2] + 1).tolist()]
    assert tidy.compared(records, "distance", "degrees").tolist() == null[:, 0, 1, 0].tolist()
