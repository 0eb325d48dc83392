"""Pages over all chapters: the ledger that they are made from, the front page's figure and findings."""

import dataclasses
import importlib.util
import json
import math
import re
from collections import Counter

import pytest
from conftest import ROOT
from ipywidgets import Widget
from PIL import Image

from lottery import stats
from lottery.book import claims, explorers, pages

INTRO = (ROOT / "book" / "intro.md").read_text(encoding="utf-8")


def test_the_overview_shows_the_committed_records():
    spec = importlib.util.spec_from_file_location("draw_overview", ROOT / "book" / "draw_overview.py")
    overview = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(overview)
    with Image.open(overview.TARGET) as picture:
        drawn, size = json.loads(picture.text["numbers"]), picture.size
    assert drawn == overview.rounded(overview.numbers()), "draw it again: python book/draw_overview.py"
    assert INTRO.count(f"at {drawn['whole']:.1f} times the dense network's iterations") == 2  # its caption and its alt
    assert size[0] >= 1400 and math.isclose(size[0] / size[1], 1200 / 630, rel_tol=0.01)  # as link previews want it
    assert overview.TARGET.stat().st_size < 80_000


def test_findings_glue_their_numbers():
    body = re.search(r"```\{findings\} [0-9a-f]{12}\n(.*?)```\n", INTRO, re.S)[1]
    findings = re.split(r"^\d\. ", body, flags=re.M)[1:]
    assert len(findings) == 5
    for finding in findings:
        assert re.search(r"\{glue:text\}`chapters/\d\d_\w+\.ipynb::[\w-]+:s`", finding), finding


def made(value, verdicts=()):
    return {"values": {"a": value, "b": "other"}, "verdicts": dict(verdicts), "keys": [], "title": "T"}


def test_the_hash_of_findings_follows_the_values_that_they_name():
    text = "x {glue:text}`chapters/01_one.ipynb::a:s` y"
    before = pages.values_hash(text, {"01_one": made("1")})
    assert before == pages.values_hash("other words, " + text, {"01_one": made("1") | {"title": "U"}})
    assert before != pages.values_hash(text, {"01_one": made("2")})
    assert before != pages.values_hash(text.replace("::a:", "::b:"), {"01_one": made("1")})
    with pytest.raises(KeyError):
        pages.values_hash(text, {})


def test_findings_of_other_numbers_are_named():
    body = "x {glue:text}`chapters/01_one.ipynb::a:s` y\n"
    hash_ = pages.values_hash(body, {"01_one": made("1")})
    page = f"# T\n\n```{{findings}} {hash_}\n{body}```\n"
    assert pages.stale(page, {"01_one": made("1")}) == []
    assert "other numbers" in pages.stale(page, {"01_one": made("2")})[0]
    assert "01_one" in pages.stale(page, {})[0]


def test_every_claim_and_question_is_counted_once_and_questions_apart():
    rules = claims.load()
    probes = sum(rule.kind == "probe" for rule in rules.values())
    rule = rules["C-C1"]
    context = rule.needs.paper
    verdict = claims.judge(rule, {"early_stop_change_21": -0.5}, context).json()
    book = pages.ledger({"01_one": made("1", {"C-C1": verdict, "C-C2": "reproduced"})})
    rows = pages.tally(book)
    assert list(rows) == list(pages.PLACES)
    assert rows["paper"] == {"open": 1} and rows["question"] == {"not measured": probes}
    # what an older scheme has judged is not taken over
    assert rows["not measured"] == {"not measured": len(rules) - probes - 1}


def test_filters_and_rows_of_the_scoreboard_agree_with_the_tally():
    """Every place and badge that is counted can be asked for, and a row has those that it is counted under."""
    rules = claims.load()
    verdicts = {name: claims.judge(rule, {}, {}) for name, rule in rules.items()}
    for rule in rules.values():
        holds = {check.quantity: _inside(check) for check in rule.checks}
        verdicts[rule.id] = claims.judge(rule, holds, rule.needs.paper)
    rows = pages.tally(pages.ledger({"01_one": made("1", {name: one.json() for name, one in verdicts.items()})}))
    counted = Counter(pages.place(rule.kind, verdicts[name]) for name, rule in rules.items())
    assert counted == {(where, badge): number for where, row in rows.items() for badge, number in row.items()}
    assert {badge for _, badge in counted} <= {*pages.BADGES} and ("question", "supported") in counted


def test_reconstructions_agree_with_nobody_and_what_was_not_measured_was_not_run():
    rules = claims.load()
    rule = rules["A-C1"]
    assert rule.kind == "reconstruction"
    holds = {check.quantity: _inside(check) for check in rule.checks}
    reconstructed = claims.judge(rule, holds, rule.needs.paper)
    stand_in, not_run = (claims.judge(rules["C-C1"], measured, {}) for measured in ({"early_stop_change_21": -0.5}, {}))
    assert (stand_in.label, not_run.label) == ("stand-in", "not measured")
    judged = {"A-C1": reconstructed, "C-C1": stand_in, "C-C2": not_run}
    rows = pages.tally(pages.ledger({"01_one": made("1", {name: one.json() for name, one in judged.items()})}))
    assert rows["reconstruction"] == {"reconstructed": 1} and rows["stand-in"] == {"stand-in": 1}
    assert not any(rows["paper"].values()) and not any(rows["reduced"].values())


def test_claims_that_a_correction_leaves_decided_are_counted():
    rules = claims.load()
    judged = {}
    rule = rules["C-C11b"]
    central, other = (next(check for check in rule.checks if check.central == told) for told in (True, False))
    [(_, bound)], [(_, least)] = central.bounds, other.bounds
    spread = {central.quantity: [bound - 1, bound, bound + 1], other.quantity: [least - 3, least - 3.01, least - 3.02]}
    found = claims.judge(rule, {name: stats.summary(one) for name, one in spread.items()}, rule.needs.paper)
    assert found.outcome == "open" and found.scale == "paper"
    judged["C-C11b"] = found.json()
    for name, off in (("C-C9", 1000.0), ("C-C5", 0.0135), ("C-C3", -1000.0)):
        rule, measured = rules[name], {}
        for check in rule.checks:
            [(_, bound)] = check.bounds
            measured[check.quantity] = stats.summary([bound + off + one for one in (-0.01, 0.01, 0, 0, 0.02, -0.015)])
        judged[name] = claims.judge(rule, measured, rule.needs.paper).json()
    judged["Q4-P4"] = claims.judge(rules["Q4-P4"], {"sign_barrier_partial": stats.summary([0.1, 0.2, 0.3])}, {}).json()
    book = pages.ledger({"01_one": made("1", judged)})
    assert judged["Q4-P4"]["label"] == "stand-in" and pages.weighed(book)["question"].open == 0
    assert book["claims"]["C-C5"]["verdict"]["label"] == "agrees"
    assert dataclasses.asdict(pages.weighed(book)["paper"]) == {
        "agree": 2,
        "corrected": ["C-C9"],
        "together": ["C-C9"],
        "disagree": 1,
        "refuted": ["C-C3"],
        "borderline": ["C-C5"],
        "open": 1,
        "against": 1,
        "cannot": 1,
        "stated": 2,
        "within": 0,
    }


def test_an_explorer_has_a_still_of_the_frame_that_is_shown_first():
    frames = {("a", n): f'<img alt="a {n}">' for n in "12"} | {("b", n): f'<img alt="b {n}">' for n in "12"}
    explorer = explorers.frames(frames, [("letter", ["a", "b"]), ("number", ["1", "2"])], "Words.", ("b", "2"))
    state = Widget.get_manager_state()["state"]
    assert pages.still(state, str(explorer.model_id)) == '<img alt="b 2">'
    assert pages.still(state, "another") == ""


def _inside(check):
    """A measurement that a check's bounds allow, with its interval."""
    [(kind, bound), *more] = check.bounds
    value = 0.0 if more else bound + (1 if kind in ("at_least", "above") else -1)
    return stats.Summary(3, value, value - 0.1, value + 0.1, value - 0.1, value + 0.1)
