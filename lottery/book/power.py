"""Replicates that would decide what a published verdict leaves open, and the study that has so many.

Each check is to be decided in four of five studies if its mean and its spread stay as they are. A mean that lies on its
bound cannot be told from it by any number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import claims, planning

FURTHER = "further_replicates"  # what chapter 1 calls replicates of fewer levels


@dataclass(frozen=True)
class Power:
    """What would decide the open checks of a claim.

    Attributes:
        checks: a line for each open check: what was measured, what is asked, and what would decide it.
        decided: what those say that `part` would decide.
        part: the published study with more replicates, as many as the chapter takes; None if none would help.
    """

    checks: tuple[str, ...]
    decided: tuple[str, ...] = ()
    part: planning.Part | None = None


def power(rule: claims.Rule, made: Mapping[str, Any]) -> Power:
    """Replicates that an open claim needs, from the spread so far, and the study that has them.

    Args:
        rule: of the claim.
        made: what the executed chapter says of itself (`lottery.book.runner.run`); it judges the claim.
    """
    verdict = claims.read(made["verdicts"][rule.id])
    if verdict.scale == claims.STAND_IN:
        lacking = "; ".join(verdict.unmet)
        return Power(
            (f"{rule.id}: a stand-in, whose spread says nothing of the claim's own study. It lacks: {lacking}",)
        )
    declared = planning.declared(rule.chapter)
    raised, lines, within = replicates_of(rule), [], []
    most = min(math.inf if (high := declared[name].high) is None else high for name in raised)
    usual = made["parameters"].get("replicates", 0)
    for check in verdict.checks:
        if check.outcome != "open":
            continue
        if rule.decides:
            said = rule.decides
        elif check.needed is None:
            said = "there is no spread to go by" if check.interval is None else "no thousand replicates would decide"
        else:
            said = f"{check.needed} replicates would decide"
            if FURTHER in declared and check.n > usual:  # these rest on further ones, too, which the study leaves out
                said += f"; `-p {FURTHER}` adds to the {usual} that it has, {declared[FURTHER].high:g} at most"
            elif check.needed > most:
                said += f", more than the {most:g} that the chapter takes"
            else:
                within.append((check.says, check.needed))
        lines.append(f"“{check.says}”: {check.text}, asked {check.bound}: {said}")
    number = max((needed for _, needed in within), default=None)
    part = None if number is None else _study(rule.chapter, made, raised, number, declared)
    return Power(tuple(lines), tuple(says for says, _ in within), part)


def replicates_of(rule: claims.Rule) -> list[str]:
    """What the chapter calls the numbers of replicates that a rule's checks rest on."""
    named = [key for tier in (rule.needs.reduced, rule.needs.paper) for key in tier if key.endswith("replicates")]
    return list(dict.fromkeys(named)) or ["replicates"]


def _study(chapter: str, made: Mapping[str, Any], raised: list[str], number: int, declared) -> planning.Part:
    """The published study with a number of replicates."""
    usual = {name: one.default for name, one in declared.items()}
    usual |= planning.profile_parameters(chapter, made["profile"])
    old = {name: value for name, value in made["parameters"].items() if name in usual and value != usual[name]}

    def study(names: list[str], number: int) -> planning.Part:
        return planning.Part(chapter, made["profile"], old | dict.fromkeys(names, number))

    part = study(raised, number)
    if "replicates" not in raised and part.keys == study(raised, number - 1).keys:  # parts of all replicates
        part = study(["replicates", *raised], number)
    return part
