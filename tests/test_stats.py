"""Spread, intervals and verdicts: closed-form cases, properties, and the rules in book/claims.yml."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lottery import stats

CLAIMS = yaml.safe_load((Path(__file__).parents[1] / "book" / "claims.yml").read_text(encoding="utf-8"))
calm = settings(deadline=None)  # a busy machine is no failure
finite = st.floats(-1e6, 1e6)


def test_interval_has_its_closed_form():
    # n = 2, 4, 6: mean 4, s = 2, t(0.975, 2) = 4.302653, so the half width is 4.302653 * 2 / sqrt(3) = 4.968276
    got = stats.summary([2, 4, 6])
    assert (got.n, got.mean, got.low, got.high) == (3, 4, 2, 6)
    assert got.ci_high - got.mean == pytest.approx(4.968276, abs=1e-5)
    assert got.mean - got.ci_low == pytest.approx(4.968276, abs=1e-5)
    # n = 2 has the quantile tan(0.475 pi) of Cauchy's distribution; s = |a - b| / sqrt(2)
    assert stats.summary([0, 1]).ci_high == pytest.approx(0.5 + math.tan(0.475 * math.pi) / 2)


def test_one_replicate_has_no_interval():
    got = stats.summary([0.5])
    assert (got.n, got.mean, got.low, got.high) == (1, 0.5, 0.5, 0.5)
    assert math.isnan(got.ci_low) and math.isnan(got.ci_high)


@pytest.mark.parametrize("values", [[], [1, math.nan], [math.inf], [[1, 2]], 3.0])
def test_what_cannot_be_summarised_is_an_error(values):
    with pytest.raises(ValueError):
        stats.summary(values)


@calm
@given(st.lists(finite, min_size=2, max_size=20), st.randoms())
def test_summary_holds_its_mean_and_ignores_order(values, random):
    got = stats.summary(values)
    assert got.low <= got.mean <= got.high and got.ci_low <= got.mean <= got.ci_high
    shuffled = random.sample(values, len(values))
    assert stats.summary(shuffled).mean == pytest.approx(got.mean, abs=1e-6)


def test_interval_covers_the_mean_in_95_of_100_cases():
    draws = np.random.default_rng(0).normal(3, 2, (4000, 5))
    covered = np.mean([s.ci_low < 3 < s.ci_high for s in map(stats.summary, draws)])
    assert covered == pytest.approx(0.95, abs=0.015)


@calm
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=9))
def test_paired_difference_is_antisymmetric(pairs):
    a, b = np.array(pairs).T
    there, back = stats.paired_difference(a, b), stats.paired_difference(b, a)
    assert there.mean == pytest.approx(-back.mean, abs=1e-6) and there.low == -back.high


def test_pairing_removes_what_replicates_share():
    shared = np.array([0.0, 10, 20, 30])
    got = stats.paired_difference(shared + 1, shared)
    assert (got.mean, got.ci_low, got.ci_high) == (1, 1, 1)
    with pytest.raises(ValueError, match="same length"):
        stats.paired_difference([1, 2], [1])


def test_relative_change_and_ratio_are_those_of_the_means():
    ticket, dense = np.array([50.0, 70]), np.array([100.0, 140])
    assert stats.relative_change(ticket, dense).mean == pytest.approx(-0.5)
    assert stats.ratio(dense, ticket).mean == pytest.approx(2)
    with pytest.raises(ValueError, match="positive base"):
        stats.relative_change(ticket, -dense)


def test_levels_are_found_on_the_logarithmic_axis():
    density = 0.8 ** np.arange(20)
    assert stats.at_density(density, 0.211) == 7
    with pytest.raises(ValueError, match=r"no level near 21\.1 %"):
        stats.at_density(density[:5], 0.211)


def test_trend():
    assert stats.trend([5, 4, 3, 1]) == -1 and stats.trend([1, 2, 9]) == 1
    assert math.isnan(stats.trend([1, 2])) and math.isnan(stats.trend([2, 2, 2]))
    with pytest.raises(ValueError):
        stats.trend([1, math.nan, 2])


def test_break_even_is_where_the_gain_is_lost_for_good():
    density = np.array([1, 0.5, 0.25, 0.125])
    assert stats.break_even(density, [0, 1, 1, -1]) == pytest.approx(math.sqrt(0.25 * 0.125))  # half way in log
    assert stats.break_even(density, [0, -1, 1, 1]) == 0.125  # a dip before does not count
    assert stats.break_even(density, [-1, -1, -1, -1]) == 1
    with pytest.raises(ValueError, match="falling"):
        stats.break_even(density[::-1], [0, 1, 1, -1])


def test_formatted_interval():
    accuracy = stats.summary([0.977, 0.978, 0.979])
    assert stats.format_interval(accuracy, 100, "%", 2) == "97.80 % [97.55, 98.05], n = 3"
    assert stats.format_interval(stats.summary([-0.31]), 100, "%", 0) == "−31 %, n = 1"
    assert stats.format_interval(-0.0001, 1, "pp", 2) == "0.00 pp"
    assert stats.format_interval(12345.6, digits=0) == "12,346"


def test_formatted_extremes():
    assert stats.extremes([0.9, 0.95], 100, "%", 1) == "92.5 % (90.0 to 95.0)"
    assert stats.extremes([-1.0]) == stats.extremes(-1.0) == "−1.00"


def test_numbers_with_their_nouns():
    assert [stats.count(n, "replicate") for n in (0, 1, 2000)] == ["0 replicates", "1 replicate", "2,000 replicates"]
    assert [stats.listed("level", at) for at in ([], [9], [1, 3])] == ["no level", "level 9", "levels 1, 3"]


RULE = {
    "needs": {"data": "mnist", "steps": 100},
    "paper": {"a": "1.5"},
    "checks": [{"quantity": "a", "at_least": 1, "says": "a is large"}, {"quantity": "b", "below": 0}],
}
CONTEXT = {"data": "mnist", "steps": 200, "host": "laptop"}


@pytest.mark.parametrize(
    ("a", "b", "label"), [(1, -1, "reproduced"), (1, 0, "in part"), (0.9, -1, "in part"), (0, 0, "not reproduced")]
)
def test_labels(a, b, label):
    assert stats.verdict(RULE, {"a": a, "b": b}, CONTEXT).label == label


@pytest.mark.parametrize("context", [{"data": "digits", "steps": 200}, {"data": "mnist", "steps": 99}])
def test_a_smaller_study_is_not_tested_but_its_checks_are_shown(context):
    got = stats.verdict(RULE, {"a": 2}, context)
    assert got.label == "not tested at this scale"
    assert [check.holds for check in got.checks] == [True, None]
    assert len(got.unmet) == 1 and "the claim needs" in got.unmet[0]


@pytest.mark.parametrize("measured", [{"a": 1}, {"a": 1, "b": math.nan}])
def test_a_missing_quantity_is_an_error(measured):
    with pytest.raises(ValueError, match="missing or NaN: b"):
        stats.verdict(RULE, measured, CONTEXT)


def test_a_context_that_says_too_little_is_an_error():
    with pytest.raises(ValueError, match="does not say: steps"):
        stats.verdict(RULE, {"a": 1, "b": 0}, {"data": "mnist"})


def test_a_check_keeps_what_it_compared():
    wide, sure = stats.summary([0.5, 1.0, 1.6]), stats.summary([1.50, 1.51, 1.52])
    got = stats.verdict(RULE, {"a": wide, "b": stats.summary([-1.0])}, CONTEXT)
    first, second = got.checks
    assert first.holds and first.borderline and first.interval == (wide.ci_low, wide.ci_high)
    assert first.thresholds == (("at_least", 1.0),) and first.paper == "1.5" and first.bound == "≥ 1.00"
    assert second.interval is None and second.borderline is None
    assert got.label == stats.verdict(RULE, {"a": sure, "b": -1}, CONTEXT).label  # borderline changes nothing
    assert not stats.verdict(RULE, {"a": sure, "b": -1}, CONTEXT).checks[0].borderline
    assert stats.rows(got)[0]["holds"] == "yes, borderline" and stats.rows(got)[0]["paper"] == "1.5"


@pytest.mark.parametrize(
    ("a", "text"), [(0.997, "0.997"), (0.99996, "0.99996"), (1.0, "1.00"), (1.2, "1.20"), (1 - 1e-14, "1.00")]
)
def test_a_measurement_is_not_shown_as_a_bound_that_it_is_not(a, text):
    assert stats.verdict(RULE, {"a": a, "b": -1}, CONTEXT).checks[0].text == text


def test_a_pending_check_caps_the_label_until_it_is_measured():
    rule = {"checks": [{"quantity": "a", "above": 0}, {"quantity": "later", "at_most": 1, "pending": "chapter 3"}]}
    got = stats.verdict(rule, {"a": 1}, {})
    assert got.label == "in part" and got.checks[1].holds is None and "chapter 3" in got.checks[1].text
    assert stats.verdict(rule, {"a": 1, "later": 0}, {}).label == "reproduced"
    assert stats.verdict(rule, {"a": -1}, {}).label == "not reproduced"
    with pytest.raises(ValueError, match="later"):
        stats.verdict(rule, {"a": 1, "later": math.nan}, {})


@pytest.mark.parametrize(
    "rule",
    [
        {"checks": []},
        {"checks": [{"quantity": "a"}]},
        {"checks": [{"at_least": 1}]},
        {"checks": [{"quantity": "a", "at_lest": 1}]},
        {"checks": [{"quantity": "a", "at_least": "1"}]},
        {"checks": [{"quantity": "a", "at_least": 1}], "paper": {"b": "2"}},
        {"checks": [{"quantity": "a", "at_least": 1}], "neads": {}},
    ],
)
def test_a_malformed_rule_is_an_error(rule):
    with pytest.raises(ValueError, match="malformed rule"):
        stats.verdict(rule, {"a": 1}, {})


@calm
@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=6))
def test_the_label_counts_the_checks_that_hold(pairs):
    rule = {"checks": [{"quantity": f"q{i}", "at_least": bound} for i, (_, bound) in enumerate(pairs)]}
    got = stats.verdict(rule, {f"q{i}": value for i, (value, _) in enumerate(pairs)}, {})
    held = sum(value >= bound for value, bound in pairs)
    assert got.label == ("reproduced" if held == len(pairs) else "in part" if held else "not reproduced")


@calm
@given(finite, finite, st.floats(0, 1e6))
def test_a_better_value_never_gives_a_worse_verdict(bound, value, more):
    rule = {"checks": [{"quantity": "a", "at_least": bound}]}
    order = [stats.NOT_REPRODUCED, stats.REPRODUCED]
    worse, better = (order.index(stats.verdict(rule, {"a": x}, {}).label) for x in (value, value + more))
    assert better >= worse


PAPER = {  # a study that found exactly what the paper says
    "early_stop_change_21": -0.38,
    "early_stop_trend_to_21": -1,
    "early_stop_change_4": 0,
    "gain_max_pp": 0.3,
    "gain_min_pp": 0,
    "gain_max_pp_end": 0.35,
    "gain_min_pp_end": 0,
    "reinit_slowdown_21": 2.51,
    "reinit_loss_pp_21": 0.5,
    "reinit_slowdown_min": 1.1,
    "ticket_minus_reinit_pp": 0.6,
    "reinit_minus_random_pp": 0.5,
    "ordering_share": 1,
    "conv_reinit_minus_random_pp": 0,
    "break_even_ratio": 1.4,
    "iterative_minus_oneshot_pp": 0.2,
    "speedup_conv_2": 3.5,
    "speedup_conv_4": 3.5,
    "speedup_conv_6": 2.5,
    "gain_conv_2_pp": 3.4,
    "gain_conv_4_pp": 3.5,
    "gain_conv_6_pp": 3.3,
    "gain_conv_min_pp": 0,
    "conv_ticket_minus_reinit_pp": 3,
    "gap_high_pp": 0,
    "gap_low_pp": 1,
    "gap_warm_pp": 1,
    "low_shortfall_pp": 1,
    "warm_shortfall_pp": 0,
    "vgg_gap_high_pp": 0,
    "vgg_gap_low_pp": 1,
    "vgg_gap_warm_pp": 1,
    "global_break_even": 0.015,
    "scope_ratio": 4.6,
    "global_minus_layer_pp": 1,
}


def just(check, holds):
    """A value on the side of a check's bounds that is asked for."""
    low, high = check.get("at_least", check.get("above")), check.get("at_most", check.get("below"))
    if low is not None and high is not None:
        return (low + high) / 2 if holds else high + 1
    return low + (1 if holds else -1) if high is None else high - (1 if holds else -1)


@pytest.mark.parametrize("claim", CLAIMS)
def test_the_rules_of_the_book(claim):
    rule = CLAIMS[claim]
    assert {"title", "claim", "source", "needs", "checks"} <= set(rule)
    assert all(check["says"] for check in rule["checks"])
    every, none = ({check["quantity"]: just(check, holds) for check in rule["checks"]} for holds in (True, False))
    assert stats.verdict(rule, every, rule["needs"]).label == "reproduced"
    assert stats.verdict(rule, none, rule["needs"]).label == "not reproduced"
    for name in rule["needs"]:
        changed = {**rule["needs"], name: -1 if isinstance(rule["needs"][name], int) else "other"}
        assert stats.verdict(rule, every, changed).label == "not tested at this scale"


@pytest.mark.parametrize(
    "claim", [claim for claim, rule in CLAIMS.items() if {check["quantity"] for check in rule["checks"]} <= set(PAPER)]
)
def test_what_the_first_paper_reports_is_reproduced_and_nothing_is_not(claim):
    needs = CLAIMS[claim]["needs"]
    assert stats.verdict(CLAIMS[claim], PAPER, needs).label == "reproduced"
    no_tickets = {
        "reinit_slowdown_21": 1,
        "reinit_slowdown_min": 1,
        "gain_min_pp": -1,
        "gain_min_pp_end": -1,
        "early_stop_change_4": -0.5,
        "break_even_ratio": 1,
        "conv_reinit_minus_random_pp": 2,
        "gain_conv_min_pp": -1,
        "gap_high_pp": 1,
        "vgg_gap_high_pp": 1,
        "warm_shortfall_pp": 1,
        "global_break_even": 0.1,
    }
    nothing = dict.fromkeys(PAPER, 0) | no_tickets
    assert stats.verdict(CLAIMS[claim], nothing, needs).label == "not reproduced"


def test_the_lenet_chapters_can_reproduce_c4_only_in_part():
    lenet_only = {name: value for name, value in PAPER.items() if not name.startswith("conv")}
    assert stats.verdict(CLAIMS["C-C4"], lenet_only, CLAIMS["C-C4"]["needs"]).label == "in part"


def test_every_quantity_of_the_rules_is_defined_in_the_comment_above_them():
    text = (Path(__file__).parents[1] / "book" / "claims.yml").read_text(encoding="utf-8")
    defined = set(re.findall(r"\w+", "\n".join(line for line in text.splitlines() if line.startswith("#"))))
    assert {check["quantity"] for rule in CLAIMS.values() for check in rule["checks"]} <= defined
