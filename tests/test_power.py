"""The replicates that an open claim needs, and the command that computes them."""

import shlex
from dataclasses import replace

import pytest

from lottery.__main__ import main
from lottery.book import claims, planning, power

RULES = claims.load()


def made(claim, *needed, scale="paper", profile="quick", **parameters):
    """What a chapter would say of itself if the first checks of its claim were open and needed so many replicates."""
    checks = [replace(check, text="1 pp", interval=(0.0, 2.0)) for check in claims.judge(RULES[claim], {}, {}).checks]
    opened = [replace(check, needed=one) for check, one in zip(checks, needed, strict=False)]
    others = [replace(check, outcome="holds") for check in checks[len(needed) :]]
    verdict = claims.Verdict(scale, "open", (*opened, *others), ("replicates: 1 of 2",))
    values = planning.Part(RULES[claim].chapter, profile, parameters).parameters
    return {"profile": profile, "parameters": values, "verdicts": {claim: verdict.json() | {"rule": RULES[claim].hash}}}


def read(command):
    """A command as its shell and the library read it."""
    *start, chapter, _, profile = (words := shlex.split(command))[:7]
    given = words[7:]
    assert start == ["python", "-m", "lottery", "run"] and set(given[::3]) <= {"-p"}
    return planning.Part(chapter, profile, dict(zip(given[1::3], given[2::3], strict=True)))


def test_the_command_is_of_the_published_study_with_more_replicates():
    old = made("C-C10", 5, 12, 4, profile="standard", widths="25 100", steps=200, levels=3)
    found = power.power(RULES["C-C10"], old)
    assert found.decided == tuple(check.says for check in RULES["C-C10"].checks[:3])
    assert found.part.parameters == old["parameters"] | {"replicates": 12}
    again = read(found.part.command)
    assert (again.profile, again.parameters) == ("standard", found.part.parameters) and "'25 100'" in found.part.command
    usual = planning.profile_parameters("13_capacity", "standard")
    assert set(again.given) == {"widths", "steps", "levels", "replicates"} and usual["steps"] != 200


@pytest.mark.parametrize(
    "claim, raised",
    [
        ("C-C11", {"noise_replicates", "replicates"}),
        ("D5-C1b", {"transfer_replicates", "replicates"}),
        ("D1-C3", {"random_replicates", "replicates"}),
        ("Q1-P5", {"optimiser_replicates", "replicates"}),
        ("Q1-P6", {"conv_replicates"}),
        ("Q5-P5", {"cheap_replicates"}),
    ],
)
def test_replicates_that_are_some_of_all_are_raised_with_these(claim, raised):
    old = made(claim, 5)
    part = power.power(RULES[claim], old).part
    assert part.parameters == old["parameters"] | dict.fromkeys(raised, 5)
    for name in raised:  # without any of them the study is another
        fewer = planning.Part(part.chapter, part.profile, {**part.given, name: 4})
        assert len(fewer.keys) < len(part.keys), name


def test_of_checks_that_need_more_than_the_chapter_takes_the_others_are_named():
    found = power.power(RULES["C-C11"], made("C-C11", 4, 49))
    assert found.decided == (RULES["C-C11"].checks[0].says,) and found.part.given["noise_replicates"] == 4
    assert found.checks[0].endswith(": 4 replicates would decide")
    assert found.checks[0].startswith(f"“{RULES['C-C11'].checks[0].says}”: 1 pp, asked ")
    assert found.checks[1].endswith(": 49 replicates would decide, more than the 20 that the chapter takes")
    none = power.power(RULES["C-C11"], made("C-C11", 30, 49))
    assert none.part is None and none.decided == () and len(none.checks) == 2


def test_the_command_says_each_thing_once(monkeypatch, capsys):
    for needed, last in (((4, 49), "This would decide “"), ((4, 5), "This would decide what is open; ")):
        monkeypatch.setattr("lottery.__main__._published", lambda _, needed=needed: made("C-C11", *needed))
        assert main(["power", "C-C11"]) == 0
        *checks, said, command = capsys.readouterr().out.splitlines()
        assert len(checks) == 2 and said.startswith(last) and command.startswith("python -m lottery run ")
    monkeypatch.setattr("lottery.__main__._published", lambda _: made("C-C11", 30, 49))
    assert main(["power", "C-C11"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 2 == said.count("more than the 20 that the chapter takes") and "must be" not in said


def test_what_no_replicates_decide():
    [line] = power.power(RULES["C-C2b"], made("C-C2b", None)).checks
    assert line.endswith("no thousand replicates would decide")
    old = made("C-C2b", None)
    old["verdicts"]["C-C2b"]["checks"][0] |= {"interval": None, "text": "not measured"}
    [line] = power.power(RULES["C-C2b"], old).checks
    assert "not measured, asked" in line and line.endswith("there is no spread to go by")
    assert power.power(RULES["C-C2b"], made("C-C2b")) == power.Power(())


def test_the_spread_of_a_stand_in_is_not_taken_for_that_of_the_claims_study():
    found = power.power(RULES["C-C2b"], made("C-C2b", 5, scale="stand-in"))
    assert found.part is None and found.checks[0].endswith("It lacks: replicates: 1 of 2")


def test_the_parameters_that_rules_name_are_those_of_their_chapters():
    from lottery.book.parameters import parameters_of

    declared = {name: parameters_of(planning.source(name)) for name in planning.names()}
    assert not [name for name, rule in RULES.items() if set(power.replicates_of(rule)) - set(declared[rule.chapter])]


def test_where_replicates_would_not_decide_the_rule_says_what_would():
    found = power.power(RULES["B-C3"], made("B-C3", 5, 6))
    assert len(found.checks) == 2 and found.part is None and found.decided == ()
    assert all(line.endswith(RULES["B-C3"].decides) for line in found.checks)
