"""Rules and verdicts: what makes a rule, a scale, an outcome; the ledger; and the rules of the book."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as some

from lottery import stats
from lottery.book import claims, protocols
from lottery.book.chapter import as_written, templates

ROOT = Path(__file__).parents[1]
RULES = claims.load()
WIDE = stats.summary([0.5, 1.0, 1.6])
SURE = stats.summary([1.50, 1.51, 1.52])
LESS = stats.summary([-1.0, -1.01, -1.02])
BOUNDS = ({"at_least": 0}, {"above": 1}, {"at_most": 2}, {"below": 0}, {"within": 1}, {"within": 0.5, "around": 1})

TEXT = """
works: {w2020: {name: A Work}}
quantities:
  a: {says: how much, unit: pp}
  b: {says: how many, scale: 100, unit: "%", digits: 0}
claims:
  W-C1:
    work: w2020
    chapter: 01_chapter
    title: More
    claim: It is more.
    source: page 1
    needs:
      paper: {data: mnist, steps: 1000, replicates: 5}
      reduced: {data: [mnist, digits], steps: 100, replicates: 2}
    checks:
      - {quantity: a, at_least: 1, central: true, paper: "1.5 pp", says: "At least one point"}
      - {quantity: b, below: 0, says: "Fewer"}
"""
FULL = {"data": "mnist", "steps": 1000, "replicates": 5}
SHORT = {"data": "mnist", "steps": 500, "replicates": 3}


def loaded(tmp_path, text=TEXT):
    path = tmp_path / "claims.yml"
    path.write_text(text, encoding="utf-8")
    return claims.load(path)


@pytest.fixture
def rule(tmp_path):
    return loaded(tmp_path)["W-C1"]


# Outcomes.


@pytest.mark.parametrize(
    "a, b, outcome",
    [
        (SURE, LESS, "agrees"),
        (SURE, SURE, "agrees in part"),
        (SURE, WIDE, "agrees in part"),
        (SURE, stats.summary([-2.0, 0.1, 1.0]), "open"),
        (WIDE, LESS, "open"),
        (WIDE, SURE, "open"),
        (LESS, LESS, "disagrees"),
        (LESS, WIDE, "disagrees"),
    ],
)
def test_outcomes(rule, a, b, outcome):
    if b is WIDE:
        b = stats.summary([0.5, 0.6, 0.7])
    assert claims.judge(rule, {"a": a, "b": b}, FULL).outcome == outcome


def test_an_interval_decides_and_a_bare_number_does_not(rule):
    got = claims.judge(rule, {"a": 2.0, "b": stats.summary([-1.0])}, FULL)
    assert [check.outcome for check in got.checks] == ["open", "open"] and got.outcome == "open"
    assert got.checks[0].text == "2.00 pp" and got.checks[1].text == "−100 %, n = 1"
    missing = claims.judge(rule, {"a": math.nan}, FULL)
    assert [check.text for check in missing.checks] == ["not measured"] * 2 and missing.outcome == "open"


@given(some.floats(-5, 5), some.floats(0.001, 3), some.floats(-5, 5))
def test_a_check_holds_or_fails_only_if_all_of_its_interval_does(mean, half, bound):
    value = stats.Summary(5, mean, math.nan, math.nan, mean - half, mean + half)
    for kind, right in (("at_least", lambda x: x >= bound), ("below", lambda x: x < bound)):
        check = claims.CheckRule(quantity="a", says="", central=True, **{kind: bound})
        got = claims._check(check, claims.Quantity(says=""), {"a": value}).outcome
        ends = [right(mean - half), right(mean + half)]
        assert got == ("holds" if all(ends) else "open" if any(ends) else "fails")


def test_p_is_small_exactly_where_a_check_is_decided(rule):
    for value in (WIDE, SURE, LESS):
        check = claims.judge(rule, {"a": value}, FULL).checks[0]
        assert (check.p < 0.05) == (check.outcome != "open")


def test_an_outcome_is_told_by_the_central_check_or_by_the_one_that_keeps_it_from_agreeing(rule):
    unsure = stats.summary([-2.0, 0.1, 1.0])
    for a, b, told in (
        (SURE, SURE, "b"),
        (SURE, unsure, "b"),
        (SURE, LESS, "a"),
        (WIDE, LESS, "a"),
        (LESS, unsure, "a"),
    ):
        assert claims.judge(rule, {"a": a, "b": b}, FULL).telling.quantity == told


def test_a_decided_claim_says_how_often_an_equal_study_decides_it_so(rule):
    got = {"a": stats.summary([1.4, 1.5, 1.7]), "b": LESS}
    verdict = claims.judge(rule, got, FULL)
    first = verdict.checks[0]
    assert verdict.outcome == "agrees" and verdict.again == min(check.again for check in verdict.checks)
    assert first.again == pytest.approx(stats.power(first.measured - 1, np.std([1.4, 1.5, 1.7], ddof=1), 3))
    below = claims.judge(rule, got | {"a": stats.summary([0.3, 0.4, 0.6])}, FULL)
    assert below.outcome == "disagrees" and below.again == below.central.again > 0.5
    unsure = claims.judge(rule, {"a": WIDE}, FULL)
    assert math.isnan(unsure.again) and math.isnan(unsure.checks[0].again)
    assert math.isnan(claims.judge(rule, {"a": stats.summary([2.0] * 6)}, FULL).checks[0].again)  # no spread to go by


def test_the_interval_has_the_papers_value_or_not(tmp_path):
    rule = loaded(tmp_path, TEXT.replace("at_least: 1,", "at_least: 1, stated: 1.5,"))["W-C1"]
    assert rule.hash == loaded(tmp_path, TEXT)["W-C1"].hash
    close = [1.494, 1.495, 1.4955]  # up to 1.4966: 1.50, as it is shown
    for values, covers in (([1.4, 1.5, 1.7], True), ([2.4, 2.5, 2.6], False), (close, True), ([1.5] * 6, None)):
        check = claims.judge(rule, {"a": stats.summary(values)}, FULL).checks[0]
        assert check.covers is covers
        page = templates.get_template("measured.html").module.papers(check)
        assert ("outside of our interval" in page, "within our interval" in page) == (covers is False, covers is True)


def test_equivalence_has_two_sides(tmp_path):
    rule = loaded(tmp_path, TEXT.replace("at_least: 1,", "within: 0.5, around: 1,"))["W-C1"]
    for values, outcome in (
        ([0.9, 1.0, 1.1], "holds"),
        ([1.9, 2.0, 2.1], "fails"),
        ([-0.1, 0.0, 0.1], "fails"),
        ([0.5, 1.0, 1.5], "open"),
    ):
        assert claims.judge(rule, {"a": stats.summary(values)}, FULL).checks[0].outcome == outcome
    assert claims.judge(rule, {}, FULL).checks[0].bound == "1.00 ± 0.50 pp"


# Scales.


def test_scales(rule):
    measured = {"a": SURE, "b": LESS}
    assert claims.judge(rule, measured, FULL).scale == "paper"
    less = claims.judge(rule, measured, SHORT)
    assert (less.scale, less.outcome) == ("reduced", "agrees")
    assert less.protocol == "reduced: 500 of 1,000 steps, 3 of 5 replicates" and len(less.unmet) == 2
    for other in ({"data": "cifar10"}, {"steps": 50}, {"replicates": 1}):
        stand_in = claims.judge(rule, measured, SHORT | other)
        assert (stand_in.scale, stand_in.outcome) == ("stand-in", "open") and len(stand_in.unmet) == 1
        assert stand_in.label == "stand-in"


def test_what_a_rule_asks_for_is_said_once():
    needs = {"protocol": ["the paper's", "the paper's, shortened"], "model": ["conv-2", "conv-4"], "data": "mnist"}
    assert claims._unmet(needs, {"protocol": "changed", "model": "conv-6", "data": "digits"}) == {
        "protocol": "another protocol than the paper's, in full or shortened",
        "model": "model: conv-6, not conv-2 or conv-4",
        "data": "data: digits, not mnist",
    }
    assert claims._unmet({"conv_4": True}, {"conv_4": False}) == {"conv_4": "Conv-4 was not run"}


def test_what_the_same_stands_for_is_said():
    known = {name: quantity for rule in claims.load().values() for name, quantity in rule.quantities.items()}
    assert known["rate_minus_weights_pp"].before == known["weights_minus_tuning_pp"].says
    assert known["exact_error"].before == known["width_error"].says and not known["width_error"].before
    assert known["ticket_minus_dense_stable_share"].before.startswith("share of training from which on")
    same = {name for name, quantity in known.items() if quantity.says.split(") ")[-1].startswith("the same")}
    assert same == {name for name, quantity in known.items() if quantity.before}


def test_what_rules_need_is_said_in_words_and_not_by_names_of_parameters():
    needs = {"conv_4": True, "late_steps": 7800, "supermask_rounds": ["iterative", "one"]}
    assert claims._unmet(needs, {"conv_4": False, "late_steps": 780, "supermask_rounds": "two"}) == {
        "conv_4": "Conv-4 was not run",
        "late_steps": "steps after the late rewind point: 780 of 7,800",
        "supermask_rounds": "supermasks pruned: two, not in rounds or in one round",
    }
    asked = {key for rule in RULES.values() for tier in (rule.needs.paper, rule.needs.reduced) for key in tier}
    assert set(claims.NEEDS) <= asked
    assert {key for key in asked - set(claims.NEEDS) if "_" in key} == {"random_masks"}


@pytest.mark.parametrize(("mean", "against"), [(1.1, ""), (0.9, "the claim")])
def test_what_more_replicates_would_decide_is_said_with_its_side(rule, mean, against):
    one = claims.judge(rule, {"a": stats.summary([mean - 1, mean, mean + 1]), "b": LESS}, FULL)
    assert (one.label, one.failing, one.against) == ("open", 0, against)
    more = claims.judge(rule, {"a": stats.summary([mean - 1, mean, mean + 1]), "b": SURE}, FULL)
    assert (more.label, more.failing) == ("open", 1)


def test_a_claim_without_a_value_of_its_central_check_is_not_measured(rule):
    one = claims.judge(rule, {"b": LESS}, FULL)
    assert (one.scale, one.outcome, one.label) == ("paper", "open", "not measured")
    assert claims.ledger({"W-C1": one}, {"W-C1": rule})["counts"] == {"w2020": {"not measured": 1}}


def test_a_reduced_study_says_in_what_it_is_less(tmp_path):
    text = TEXT.replace("{data: mnist, steps", "{protocol: the paper's, data: mnist, steps")
    text = text.replace("{data: [mnist, digits]", "{protocol: [the paper's, \"the paper's, shortened\"], data: mnist")
    rule, given = loaded(tmp_path, text)["W-C1"], {"fraction": 0.36, "precision": "bf16", "batch": 128}
    wanted = {"fraction": 0.2, "batch": 128}
    study = SHORT | {"protocol": protocols.named("the paper's", given, wanted)}
    less = claims.judge(rule, {"a": SURE, "b": LESS}, study | {"shorter": protocols.shorter(given, wanted)})
    said = "reduced: the paper's protocol, shortened (share pruned a round 0.36 for 0.2, bfloat16), 500 of 1,000 steps"
    assert less.protocol.startswith(said)
    conv = loaded(tmp_path, text.replace("{protocol:", "{conv_protocol:"))["W-C1"]
    shorter = {"conv_shorter": protocols.conv_shorter({"conv_precision": "bf16", "conv_together": 3})}
    less = claims.judge(conv, {"a": SURE, "b": LESS}, study | {"conv_protocol": study["protocol"]} | shorter)
    assert less.protocol.startswith(
        "reduced: protocol of Conv-2, shortened (3 rounds of pruning at once, bfloat16), 500 of"
    )
    assert protocols.conv_shorter({"conv_precision": "float32", "conv_together": 1}) == ""
    assert protocols.conv_shorter({}) == ""


def test_how_far_conv_2_beside_another_network_follows_the_plan():
    planned = {
        "batch": 60,
        "conv_precision": "float32",
        "conv_rate": 0.0002,
        "conv_together": 1,
        "conv_data": "cifar10",
    }
    said = {
        "as planned": {},
        "as planned, shortened": {"conv_precision": "tf32", "conv_together": 4},
        "changed": {"conv_data": "digits"},
    }
    for name, other in said.items():
        assert protocols.conv_named(planned | other, conv_data="cifar10", conv_together=1) == name
    assert protocols.conv_named(planned | {"conv_rate": 0.002}) == "changed"  # of learning, not of pruning


def test_rounds_of_conv_2_at_once():
    assert protocols.conv_rates() == {"conv": 0.1, "fc": 0.2, "output": 0.1}  # to the last bit: they are in keys
    assert protocols.conv_rates(2) == {"conv": 0.19, "fc": 0.36, "output": 0.19}


def test_two_replicates_agree_in_part_at_best_at_reduced_scale(rule):
    two = {"a": stats.summary([1.50, 1.5001]), "b": stats.summary([-1.0, -1.0001])}
    assert claims.judge(rule, two, SHORT | {"replicates": 2}).outcome == "agrees in part"
    assert claims.judge(rule, two | {"a": LESS}, SHORT | {"replicates": 2}).outcome == "disagrees"


def test_equal_replicates_decide_from_six_on_unless_they_are_counted(tmp_path, rule):
    got = claims.judge(rule, {"a": stats.summary([1.5] * 6), "b": stats.summary([-1.0] * 5)}, FULL)
    assert [(check.outcome, check.needed) for check in got.checks] == [("holds", None), ("open", 6)]
    assert got.checks[0].p < 0.05 < got.checks[1].p
    exact = loaded(tmp_path, TEXT.replace("unit: pp}", "unit: pp, exact: true}"))["W-C1"]
    assert claims.judge(exact, {"a": stats.summary([1.5, 1.5])}, FULL).checks[0].outcome == "holds"


def test_an_open_check_may_show_the_direction(rule):
    for values, shown in (([0.9, 1.4, 1.6], True), ([-0.9, 1.4, 1.6], False), ([1.4, 1.5, 1.6], False)):
        assert claims.judge(rule, {"a": stats.summary(values)}, FULL).checks[0].shown is shown


def test_an_area_under_the_curve_has_no_direction_unless_it_is_said_where_chance_lies():
    check, value = claims.CheckRule(quantity="a", says="", central=True, at_least=0.8), stats.summary([0.5, 0.75, 1.0])
    for nothing, shown in ((None, False), (0.5, False), (0.1, True)):
        assert claims._check(check, claims.Quantity(says="", nothing=nothing), {"a": value}).shown is shown


def test_what_a_study_does_not_say_it_does_not_meet(rule):
    got = claims.judge(rule, {"a": SURE, "b": LESS}, {"data": "mnist", "replicates": 5})
    assert got.scale == "stand-in" and got.unmet == ("the study does not say its steps",)


def test_a_reconstruction_is_never_said_to_agree(tmp_path):
    text = TEXT.replace("chapter: 01_chapter", "chapter: 01_chapter\n    kind: reconstruction")
    rule = loaded(tmp_path, text)["W-C1"]
    labels = {claims.judge(rule, {"a": a, "b": b}, FULL).label for a in (SURE, LESS, WIDE) for b in (SURE, LESS)}
    assert labels == {"reconstructed", "reconstructed in part", "not reconstructed", "open"}


# Words.


@pytest.mark.parametrize("mean, text", [(1.004, "1.004 pp"), (1.0, "1.00 pp"), (0.996, "0.996 pp"), (1.5, "1.50 pp")])
def test_a_measurement_does_not_read_like_a_bound_that_it_is_not(rule, mean, text):
    assert claims.judge(rule, {"a": mean}, FULL).checks[0].text == text


def test_the_smallest_distance_seen_is_in_the_unit_of_the_bound(rule):
    first, second = claims.judge(rule, {"a": SURE, "b": LESS}, FULL).checks
    cases = {0.234: ("0.23 pp", "23 %"), 0.0123: ("0.012 pp", "1.2 %"), 0: ("", ""), math.nan: ("", "")}
    for value, shown in cases.items():
        assert tuple(rule.smallest(replace(check, detectable=value)) for check in (first, second)) == shown


def test_cards_show_of_open_checks_alone_what_so_many_replicates_see(rule):
    measured, said = (
        {"a": stats.summary([0.9, 1.4, 1.6]), "b": LESS},
        "(with n = 3, usually decided only where the true value is ",
    )
    for context, times in ((FULL, 1), ({}, 0)):  # of a stand-in nothing is said
        verdict = claims.judge(rule, measured, context)
        shown = {"rules": {"W-C1": rule}, "verdicts": {"W-C1": verdict}, "stand_in": claims.STAND_IN, "cost": "1 run"}
        for name in ("cards", "checks"):
            page = as_written(templates.get_template(f"{name}.html").render(**shown))
            whole = f"{said}{rule.smallest(verdict.checks[0])} or more from the bound)"
            assert page.count(said) == times == page.count(whole), name


def test_the_table_of_checks_has_holms_p_and_the_smallest_distance(rule):
    verdict = claims.judge(rule, {"a": stats.summary([0.9, 1.4, 1.6])}, FULL)
    entry = claims.ledger({"W-C1": verdict}, {"W-C1": rule})["claims"]["W-C1"]
    rows = [(rule, check) for check in claims.read(entry["verdict"]).checks]
    page = as_written(templates.get_template("pages/checks.html").render(rows=rows))
    cells = [re.findall("<td>(.*?)</td>", row) for row in page.split("<tr>")[2:]]
    p = f"{verdict.checks[0].p:.2g}"
    assert cells[0][3:] == [verdict.checks[0].text, "open", p, p, rule.smallest(verdict.checks[0])]
    assert cells[1][3:] == ["not measured", "not measured", "–", "–", "–"] and 'href="rules.html#W-C1"' in cells[0][0]


# What would decide.


def test_an_open_check_names_the_replicates_that_would_decide_it(rule):
    verdict = claims.judge(rule, {"a": stats.summary([0.9, 1.4, 1.6]), "b": LESS}, FULL)
    check = verdict.checks[0]
    spread = np.std([0.9, 1.4, 1.6], ddof=1)
    assert stats.power(0.3, spread, check.needed) >= 0.8 > stats.power(0.3, spread, check.needed - 1)
    assert verdict.needed == check.needed
    assert stats.power(check.detectable, spread, 3) == pytest.approx(0.8)


@given(some.integers(2, 12), some.floats(-3, 3), some.floats(0.01, 5), some.floats(0.01, 5), some.sampled_from(BOUNDS))
def test_an_open_check_needs_more_replicates_than_it_has(n, mean, below, above, bounds):
    """Also where the interval is longer on one side, or cut: what would be seen so often would have been decided."""
    value = stats.Summary(n, mean, math.nan, math.nan, mean - below, mean + above)
    checked = claims.CheckRule.model_validate({"quantity": "a", "says": "So", **bounds})
    value = stats.cut(value, -2, 2) if below > 1 else value
    found = claims._check(checked, claims.Quantity(says="how much"), {"a": value})
    assert found.outcome != "open" or found.needed is None or found.needed > n


def test_an_interval_that_is_longer_towards_its_bound_needs_more_replicates():
    """As chapter 13's ratio of break-evens did, 1.3 [1.0, 2.6] of at most 2.5, with six: six would have decided."""
    value = stats.Summary(6, 1.336, math.nan, math.nan, 1.0, 2.642)
    checked = claims.CheckRule.model_validate({"quantity": "a", "says": "So", "at_most": 2.5})
    assert claims._check(checked, claims.Quantity(says="how much"), {"a": value}).needed == 12


def test_a_mean_beyond_one_bound_needs_no_replicates_for_the_other():
    value = stats.Summary(4, 1.2, math.nan, math.nan, 0.9, 1.5)
    asked = {"quantity": "a", "says": "So"}
    one, both = (claims.CheckRule.model_validate(asked | more) for more in ({"at_most": 1}, {"within": 1}))
    one, both = (claims._check(rule, claims.Quantity(says="how much"), {"a": value}) for rule in (one, both))
    assert one.needed == both.needed > 4


def test_what_no_number_of_replicates_decides(rule):
    on_it = stats.Summary(3, 1.0, 0.5, 1.5, 0.2, 1.8)
    assert claims.judge(rule, {"a": on_it, "b": LESS}, FULL).needed is None
    assert claims.judge(rule, {"a": WIDE}, FULL).needed is None  # b was not measured
    assert claims.judge(rule, {"a": SURE, "b": LESS}, FULL).needed is None


# Errors.


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("at_least: 1,", "at_least: .nan,", "claims.W-C1.checks.0.at_least"),
        ("at_least: 1,", "at_lest: 1,", "claims.W-C1.checks.0.at_lest"),
        ("at_least: 1,", "", "a needs a bound"),
        ("at_least: 1,", "at_least: 1, below: 1,", "no value of a"),
        ("at_least: 1,", "at_least: 1, within: 1,", "a margin and a bound"),
        ("central: true,", "", "exactly one check is central"),
        ("quantity: b", "quantity: a", "checked twice"),
        ("quantity: b", "quantity: c", "quantity 'c' is not defined"),
        ("work: w2020", "work: w2021", "work 'w2021' is not among works"),
        ("title: More", "rests_on: [W-C9]\n    title: More", "rests on unknown 'W-C9'"),
        ("title: More", "kind: guess\n    title: More", "claims.W-C1.kind"),
        ("title: More", "", "claims.W-C1.title"),
        ("works: {w2020: {name: A Work}}", "", "must have the keys"),
        ("works: {", "works: {{", "cannot be read"),
        ("works: {w2020: {name: A Work}}", "works: [w2020]", "each with entries"),
        ("works: {w2020: {name: A Work}}", "works: {w2020: A Work}", "works.w2020"),
        ("  W-C1:\n", "  W-C0: nothing\n  W-C1:\n", "claims.W-C0"),
        ("    checks:\n", "    check: []\n    checks:\n", "claims.W-C1.check"),
    ],
)
def test_rules_that_make_no_sense(tmp_path, old, new, said):
    assert old in TEXT
    with pytest.raises(claims.ClaimError, match=re.escape(said)):
        loaded(tmp_path, TEXT.replace(old, new, 1))


def test_a_definition_that_no_check_uses(tmp_path):
    with pytest.raises(claims.ClaimError, match=r"quantities\.z: no check uses it"):
        loaded(tmp_path, TEXT.replace("quantities:\n", "quantities:\n  z: {says: nothing}\n"))


# The ledger.


def test_the_ledger_is_what_its_schema_says(rule):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "book" / "claims.schema.json").read_text(encoding="utf-8"))
    verdict = claims.judge(rule, {"a": SURE, "b": WIDE}, SHORT)
    other = claims.judge(rule, {"a": math.inf}, {})
    rules = {"W-C1": rule, "W-C2": replace_id(rule, "W-C2", rests_on=["W-C1"]), "W-C3": replace_id(rule, "W-C3")}
    got = claims.ledger({"W-C1": claims.Judged(verdict, ("a" * 64,)), "W-C2": other}, rules)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(got, schema)
    json.dumps(got, allow_nan=False)
    assert got["claims"]["W-C1"]["records"] == ["a" * 64] and got["claims"]["W-C3"]["verdict"] is None
    assert got["claims"]["W-C2"]["rests_on"] == ["W-C1"]
    assert got["counts"] == {"w2020": {f"reduced: {verdict.outcome}": 1, "stand-in": 1, "not measured": 1}}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(got | {"claims": {"W-C1": {}}}, schema)
    jsonschema.validate(claims.ledger({}), schema)  # all claims of the book


def replace_id(rule, name, **more):
    return rule.model_copy(update={"id": name, **more})


def test_a_verdict_comes_back_from_the_ledger(rule):
    verdict = claims.judge(rule, {"a": stats.summary([0.9, 1.4, 1.6]), "b": stats.summary([1.0])}, SHORT)
    entry = json.loads(json.dumps(claims.ledger({"W-C1": verdict}, {"W-C1": rule})))["claims"]["W-C1"]
    back = claims.read(entry["verdict"])
    assert back.outcome == verdict.outcome and back.needed == verdict.needed
    assert back.checks[0].interval == verdict.checks[0].interval and math.isnan(back.checks[1].p)


def test_verdicts_are_collected_from_chapters(rule):
    verdict = claims.judge(rule, {"a": SURE, "b": LESS}, SHORT)
    made = {"verdicts": {"W-C1": verdict.json() | {"rule": rule.hash}}, "keys": ["b" * 64]}
    got = claims.collect([made, {"verdicts": {}, "keys": []}])
    assert claims.ledger(got, {"W-C1": rule}) == claims.ledger(
        {"W-C1": claims.Judged(verdict, ("b" * 64,))}, {"W-C1": rule}
    )
    with pytest.raises(claims.ClaimError, match="two chapters: W-C1"):
        claims.collect([made, made])


def test_holm_is_over_the_checks_of_a_work_or_over_all_questions(rule):
    rules = {name: replace_id(rule, name) for name in ("W-C1", "W-C2", "W-C3", "Q1-P1")}
    rules["Q1-P1"] = rules["Q1-P1"].model_copy(update={"kind": "probe"})
    verdict = claims.judge(rule, {"a": SURE, "b": LESS}, FULL)
    stand_in = claims.judge(rule, {"a": SURE, "b": LESS}, {})
    got = claims.ledger(dict(zip(rules, (verdict, verdict, stand_in, verdict), strict=True)), rules)["claims"]
    ps = [check.p for check in verdict.checks] * 2
    raised = [check["holm"] for name in ("W-C1", "W-C2") for check in got[name]["verdict"]["checks"]]
    assert raised == pytest.approx(list(stats.holm(ps)))
    assert got["W-C3"]["verdict"]["checks"][0]["holm"] is None
    asked = [check["holm"] for check in got["Q1-P1"]["verdict"]["checks"]]
    assert asked == pytest.approx(list(stats.holm(ps[: len(asked)])))


def test_a_verdict_of_no_claim(rule):
    with pytest.raises(claims.ClaimError, match="no rule for W-C7"):
        claims.ledger({"W-C7": claims.judge(rule, {}, {})}, {"W-C1": rule})


def test_the_hash_changes_with_what_decides(rule, tmp_path):
    def of(old, new):
        return loaded(tmp_path, TEXT.replace(old, new))["W-C1"].hash

    assert of("at_least: 1,", "at_least: 2,") != rule.hash != of("says: how much", "says: how little")
    assert of("steps: 1000", "steps: 999") != rule.hash
    assert of("title: More", "title: Much more") == rule.hash == of("At least one point", "One point at least")


# The rules of the book.


@pytest.mark.parametrize("name", RULES)
def test_a_study_at_the_floor_of_a_scale_has_it(name):
    rule = RULES[name]
    for scale, needs in (("paper", rule.needs.paper), ("reduced", rule.needs.reduced)):
        context = {key: need[0] if isinstance(need, list) else need for key, need in needs.items()}
        assert needs and claims.judge(rule, {}, context).scale in (scale, "paper")


@pytest.mark.parametrize("name", RULES)
def test_reduced_asks_for_nothing_that_the_paper_does_not(name):
    """A study of the paper's scale would also pass as reduced."""
    paper, reduced = RULES[name].needs.paper, RULES[name].needs.reduced
    context = {key: need[0] if isinstance(need, list) else need for key, need in paper.items()}
    assert set(reduced) <= set(paper) and not claims._unmet(reduced, context)


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_say_what_their_claims_need(path):
    """As a parameter or where they judge; else a claim would stay a stand-in for ever."""
    sources = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    said = "\n".join(source for source in sources if "chapter.judge(" in source or re.match(r"\w+: \w+ = .*# ", source))
    said = said.replace("protocols.conv_context(", "conv conv_protocol(")  # which says both
    asked = {key for rule in RULES.values() if rule.chapter == path.stem for key in rule.needs.paper}
    assert [key for key in sorted(asked) if not re.search(rf"\b{key}\b", said)] == []


def test_what_is_ours_is_a_probe_and_signs_are_reconstructed():
    after = {"oh2025", "gadhikar2024"}  # works on other networks: what is asked of LeNet is ours
    assert {rule.work for rule in RULES.values() if rule.kind == "probe"} == {"ours", *after}
    assert {rule.kind for rule in RULES.values() if rule.work == "signs2022"} == {"reconstruction"}
    assert all(rule.kind != "claim" for rule in RULES.values() if rule.work == "ours")


def test_edges_make_no_circle():
    def below(name, above=()):
        assert name not in above, f"{name} rests on itself"
        for other in RULES[name].rests_on:
            below(other, (*above, name))

    for name in RULES:
        below(name)


def test_a_study_names_the_paper_whose_training_it_takes():
    """Where a work's own training is not known, "the paper's" would be read as that work's."""
    for name, whose in (("A-C1b", "Frankle and Carbin's"), ("C-C6", "the paper's")):
        rule = RULES[name]
        run = rule.needs.reduced | {"protocol": "the paper's, shortened"}
        run = {key: need[0] if isinstance(need, list) and key != "protocol" else need for key, need in run.items()}
        found = claims.judge(rule, {}, run)
        assert found.scale == "reduced" and f"{whose} protocol, shortened" in found.protocol


def test_works_are_cited():
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf-8")))
    cited = {work.cite for work in claims.works().values() if work.cite}
    assert cited and cited <= known


def test_a_changed_rule_says_what_it_was_and_why():
    changes = [change for rule in RULES.values() for change in rule.revised]
    words = ("supported", "reconstructed")
    outcomes = {"agrees", "agrees in part", "disagrees", "open", *words, *(f"{word} in part" for word in words)}
    outcomes |= {f"not {word}" for word in words}
    assert {change.gave for change in changes if change.gave} <= outcomes
    assert RULES["C-C5"].earlier("agrees") == ["open"] and RULES["C-C5"].earlier("open") == ["agrees"]
    assert changes and all(len(change.old) > 10 and len(change.reason) > 10 for change in changes)


def test_what_would_decide_a_claim_stands_in_place_of_replicates(rule):
    some_more = {"a": stats.summary([0.9, 1.6, 1.4]), "b": LESS}
    verdict = claims.judge(rule, some_more, FULL)
    assert verdict.label == "open" and verdict.needed
    told = rule.model_copy(update={"decides": "Another network would.", "note": "Seen: {seen:no n}."})
    assert claims.judge(told, some_more, FULL).needed is None
    assert told.hash == rule.hash
    assert told.noted({"seen": "3 pp [1, 5], n = 3"}) == "Seen: 3 pp [1, 5]." and told.noted({}) == ""
    values = {"rules": {"W-C1": told}, "stand_in": "stand-in", "cost": "An hour", "notes": {"W-C1": "Seen."}}
    for label, context in (("open", FULL), ("stand-in", {})):
        verdict = claims.judge(told, some_more, context)
        card = templates.get_template("cards.html").render(verdicts={"W-C1": verdict}, **values)
        assert verdict.label == label and "replicates would" not in card
        assert ("Another network would." in card and ">Seen.<" in card) == (label == "open")


def test_the_file_reads_as_yaml_alone():
    """Anything that reads YAML can read the rules: no tags, no code."""
    text = claims.FILE.read_text(encoding="utf-8")
    assert set(yaml.safe_load(text)["claims"]) == set(RULES) and "!!" not in text
    assert replace(claims.judge(RULES["C-C1"], {}, {}), unmet=()).scale == "stand-in"
