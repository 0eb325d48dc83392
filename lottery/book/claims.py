"""The claims, the rules that judge them, and what comes out: scale, outcome, and the ledger of all claims.

The rules stand in ``claims.yml`` beside this file, written before the runs that they judge. A rule has checks, each a
quantity with bounds. A check *holds* if the quantity's 95 % interval lies on the right side of every bound, *fails* if
it lies on the wrong side of one, and is *open* otherwise; a quantity without an interval decides nothing. One check of
a rule is central, and a claim

- *agrees* if all checks hold,
- *disagrees* if the central one fails,
- *agrees in part* if the central one holds and another fails,
- is *open* otherwise.

The scale of a study is the paper's if it meets the rule's needs for that, else reduced if it meets those (the work's
own data and network, less of something), else a stand-in: a demonstration, whose numbers test no claim.
"""

import datetime
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .. import LotteryError, stats
from ..stats import Summary
from . import entries, text

FILE = entries.CLAIMS

Scale = Literal["paper", "reduced", "stand-in"]
Outcome = Literal["agrees", "agrees in part", "open", "disagrees"]
Kind = Literal["claim", "reconstruction", "probe"]
SCALES: tuple[Scale, ...] = get_args(Scale)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
PAPER, REDUCED, STAND_IN = SCALES
NOT_MEASURED = "not measured"
AGREES, IN_PART, OPEN, DISAGREES = OUTCOMES
FULL = 3
"""Replicates that a full verdict takes at reduced scale."""

SCHEMA = "claims.schema.json"
"""What says what the ledger means; it lies beside it."""

NEEDS = {
    "altered_levels": "sizes at which signs and magnitudes are exchanged",
    "criteria_levels": "sizes at which criteria are compared",
    "criteria_replicates": "replicates of the comparison of criteria",
    "rounds": "masks by criteria pruned",
    "supermask_rounds": "supermasks pruned",
    "late_share": "share of training before the late rewind point",
    "late_steps": "steps after the late rewind point",
    "random_replicates": "replicates with random masks",
    "random_draws": "random masks a ticket",
    "reinit_draws": "new initialisations a ticket",
    "transfer_replicates": "replicates whose last signs are given to new starts",
    "noise_left": "per cent of the weights left under noise",
    "noise_replicates": "replicates with noise",
    "noise_sizes": "sizes with noise",
    "one_shot_sizes": "sizes pruned in one step",
    "optimiser_replicates": "replicates of moving between optimisers",
    "continued_levels": "rounds of pruning with training on",
    "continued_replicates": "replicates with training on",
    "continued_sizes": "sizes with training on",
    "continued_steps": "steps of each training, with training on",
    "lanczos_steps": "Lanczos steps",
    "pairs": "pairs of halves",
    "kinds": "kinds of networks",
    "narrowest": "units in the narrowest network",
    "widest": "units in the widest network",
    "source": "source data",
    "target": "target data",
    "resnet": "ResNet",
    "vgg": "VGG",
    "vgg_levels": "rounds of pruning VGG-19",
    "vgg_steps": "steps of VGG-19",
    "vgg_replicates": "replicates of VGG-19",
    "score_protocol": "protocol of learning masks",
    "score_steps": "steps of learning a mask",
    "cheap_protocol": "protocol of cheap masks",
    "cheap_levels": "rounds of pruning beside cheap masks",
    "cheap_replicates": "replicates with cheap masks",
    "cheap_steps": "steps of a training with cheap masks",
    "conv": "convolutional network",
    "conv_data": "data of Conv-2",
    "conv_protocol": "protocol of Conv-2",
    "conv_replicates": "replicates of Conv-2",
    "conv_steps": "steps of Conv-2",
    "conv_widths": "widths of Conv-2",
    "conv_2": "Conv-2",
    "conv_4": "Conv-4",
    "conv_6": "Conv-6",
}
"""Words for what rules need, where the name of it, without underscores, is none."""

_NEEDED = {"iterative": "in rounds", "one": "in one round"}

_SIGNS = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<"}
Number = Annotated[float, Field(allow_inf_nan=False)]
Need = bool | int | float | str | list[str]


class ClaimError(LotteryError, ValueError):
    """Rules or measurements that cannot be judged; the message says what to mend."""


# Rules.


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SAME = re.compile(r"(\([bm]\) )?the same( |,|$)")  # as the quantity before it in the file


class Quantity(_Entry):
    """What a chapter measures: its definition, and how it is shown."""

    says: str
    unit: str = ""
    scale: Number = 1
    digits: Annotated[int, Field(ge=0, le=6)] = 2
    exact: bool = False
    """Whether it is counted, so that equal replicates are no chance."""

    nothing: Number | None = None
    """What it is where there is no effect: of ratios 1 and of differences in points 0; of others only if said."""

    before: str = Field("", exclude=True)
    """The definition before it in the file where its own says "the same"; it is no part of the file."""

    @property
    def no_effect(self) -> float | None:
        """`nothing`, or what its unit says of it."""
        return {"times": 1.0, "pp": 0.0}.get(self.unit) if self.nothing is None else self.nothing


class CheckRule(_Entry):
    """A quantity with bounds, or equal to `around` within a margin: an equivalence test."""

    quantity: str
    says: str
    central: bool = False
    paper: str = ""
    stated: Number | None = None
    """The paper's value as a number in the unit that bounds have; it decides nothing."""
    at_least: Number | None = None
    above: Number | None = None
    at_most: Number | None = None
    below: Number | None = None
    within: Annotated[Number, Field(gt=0)] | None = None
    around: Number = 0

    @property
    def bounds(self) -> tuple[tuple[str, float], ...]:
        """(kind, value) pairs; all must hold."""
        if self.within is not None:
            return ("at_least", self.around - self.within), ("at_most", self.around + self.within)
        return tuple((kind, getattr(self, kind)) for kind in _SIGNS if getattr(self, kind) is not None)

    @property
    def range(self) -> tuple[float, float]:
        """The interval that the bounds leave."""
        lower = [value for kind, value in self.bounds if kind in ("at_least", "above")]
        upper = [value for kind, value in self.bounds if kind in ("at_most", "below")]
        return max(lower, default=-math.inf), min(upper, default=math.inf)

    @model_validator(mode="after")
    def _bounded(self):
        if not self.bounds:
            raise ValueError(f"{self.quantity} needs a bound: within, {', '.join(_SIGNS)}")
        if self.within is not None and any(getattr(self, kind) is not None for kind in _SIGNS):
            raise ValueError(f"{self.quantity} has a margin and a bound: give one")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"no value of {self.quantity} lies between its bounds")
        return self


class Needs(_Entry):
    """What a study must be for a scale: numbers at least, texts equal, lists one of."""

    paper: dict[str, Need] = {}
    reduced: dict[str, Need] = {}


class Revised(_Entry):
    """A change of a rule."""

    date: datetime.date
    old: str
    reason: str
    known: bool
    """Whether a number of ours was known when the rule was changed."""
    gave: str = ""
    """How the claim had come out before."""


class Work(_Entry):
    """Whose claims they are."""

    name: str
    cite: str = ""
    read: str = ""
    trained: str = ""
    """Whose training is taken where a rule says "the paper's", because the work's own is not known."""


class Rule(_Entry):
    """A claim and how it is judged."""

    id: str
    work: str
    kind: Kind = "claim"
    chapter: str
    title: str
    claim: str
    source: str
    rests_on: list[str] = []
    needs: Needs
    note: str = ""
    """What a reader of the verdict should know beside it; {name} is a value that the chapter glues."""

    decides: str = ""
    """What would decide the claim where it is open and more replicates would not."""

    checks: Annotated[list[CheckRule], Field(min_length=1)]
    revised: list[Revised] = []
    quantities: dict[str, Quantity] = {}
    """Those of the checks."""

    trained: str = ""
    """`Work.trained` of its work."""

    @property
    def central(self) -> CheckRule:
        """The check that a claim stands or falls with."""
        return next(check for check in self.checks if check.central)

    def smallest(self, check: "Check") -> str:
        """`Check.detectable` in the unit of its quantity, with two digits at least; "" where nothing was to be seen."""
        if not check.detectable > 0:
            return ""
        quantity = self.quantities[check.quantity]
        digits = max(quantity.digits, 1 - math.floor(math.log10(check.detectable * quantity.scale)))
        return text.format_interval(check.detectable, quantity.scale, quantity.unit, digits)

    def earlier(self, label: str) -> list[str]:
        """How the claim came out by earlier rules or in earlier studies, where that is not what it is now."""
        return list(dict.fromkeys(change.gave for change in self.revised if change.gave not in ("", label)))

    def told(self, words: str) -> str:
        """Words of what the rule asks for, with the name of the paper whose training is meant where it is another's."""
        return words.replace("the paper's", self.trained or "the paper's")

    def noted(self, values: Mapping[str, object]) -> str:
        """`note` with the values of its chapter; "" where one is missing."""
        return text.filled(self.note, values) if set(text.names(self.note)) <= set(values) else ""

    @property
    def hash(self) -> str:
        """SHA-256 of what decides: needs, bounds and the definitions of the quantities."""
        decides = {
            "kind": self.kind,
            "needs": self.needs.model_dump(),
            "checks": [check.model_dump(exclude={"says", "paper", "stated"}) for check in self.checks],
            "quantities": {name: quantity.says for name, quantity in self.quantities.items()},
        }
        if exact := sorted(name for name, quantity in self.quantities.items() if quantity.exact):
            decides["exact"] = exact
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    @model_validator(mode="after")
    def _sound(self):
        if sum(check.central for check in self.checks) != 1:
            raise ValueError("exactly one check is central")
        names = [check.quantity for check in self.checks]
        if len(set(names)) < len(names):
            raise ValueError("a quantity is checked twice")
        return self


def load(path: str | os.PathLike | None = None) -> dict[str, Rule]:
    """The rules by the names of their claims.

    Args:
        path: a file in the form of `lottery/book/claims.yml`, which is the default.

    Raises:
        ClaimError: naming everything in the file that makes no sense.
    """
    path = Path(path or FILE)
    try:
        text = entries.table(path)
        if set(text) != {"works", "quantities", "claims"} or not all(isinstance(one, dict) for one in text.values()):
            raise ClaimError(f"{path} must have the keys works, quantities and claims, each with entries")
    except entries.EntryError as error:
        raise ClaimError(str(error)) from None
    known, problems = entries.checked(Work, text["works"], "works")
    quantities, wrong = entries.checked(Quantity, text["quantities"], "quantities")
    problems += wrong
    quantities = _explained(quantities)
    rules = {}
    for name, entry in text["claims"].items():
        asked = _asked(entry)
        problems += [f"claims.{name}: quantity {one!r} is not defined" for one in asked if one not in quantities]
        defined = {one: quantities[one] for one in asked if one in quantities}
        given = {**entry, "id": name, "quantities": defined} if isinstance(entry, dict) else entry
        sound, wrong = entries.checked(Rule, {name: given}, "claims")
        rules |= {
            key: one.model_copy(update={"trained": known[one.work].trained}) if one.work in known else one
            for key, one in sound.items()
        }
        problems += wrong
    for name, rule in rules.items():
        if rule.work not in text["works"]:
            problems.append(f"claims.{name}: work {rule.work!r} is not among works")
        problems += [f"claims.{name}: rests on unknown {other!r}" for other in rule.rests_on if other not in rules]
    used = {check.quantity for rule in rules.values() for check in rule.checks}
    problems += [f"quantities.{name}: no check uses it" for name in sorted(set(quantities) - used)]
    if problems:
        raise ClaimError(entries.listed(path, problems))
    return rules


def _explained(quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """Quantities with what "the same" stands for in their definitions."""
    full, last = {}, ""
    for name, quantity in quantities.items():
        if SAME.match(quantity.says):
            quantity = quantity.model_copy(update={"before": last})
        else:
            last = quantity.says
        full[name] = quantity
    return full


def _asked(entry: Any) -> list[str]:
    """The quantities that the entry of a claim checks, as far as it is one."""
    checks = entry.get("checks") if isinstance(entry, dict) else None
    asked = [one.get("quantity") for one in checks if isinstance(one, dict)] if isinstance(checks, list) else []
    return [one for one in asked if isinstance(one, str)]


def works(path: str | os.PathLike | None = None) -> dict[str, Work]:
    """The works by their short names; the file must be sound (:func:`load`)."""
    return entries.checked(Work, entries.read(Path(path or FILE))["works"])[0]


# Verdicts.


@dataclass(frozen=True)
class Check:
    """One check of a rule, with what was measured.

    Attributes:
        quantity, says, central, paper: as in the rule.
        measured: the estimate compared; NaN if there is none.
        interval: its 95 % interval, or None if it has none.
        bounds: (kind, value) pairs, e.g. ``(("at_least", 0.2),)``; all must hold.
        outcome: "holds", "fails" or "open".
        text: what was measured, for display; the bounds too in ``bound``.
        p: of the test that the interval stands for, two-sided, for the side of the bounds on which the estimate lies:
            below 0.05 where the check holds or fails; NaN without an interval.
        n: replicates; 0 if nothing was measured.
        holm: p as if this had been the only check of its work; NaN until :func:`ledger` knows them all.
        again: of a check that is decided, the probability that as many new replicates decide it in the same way, if
            mean and spread are as measured; NaN of others.
        covers: whether the interval has the paper's value in it, at the digits shown; None without either.
        shown: whether an open check has an effect in the claimed direction, whose size alone is undecided.
        detectable: the smallest distance from the bound that n replicates would have seen in four of five studies.
        needed: replicates that would decide an open check in four of five studies if mean and spread stay, more than
            n; None if it is not open, no thousand would, or its rule says what else would decide.
    """

    quantity: str
    says: str
    measured: float
    interval: tuple[float, float] | None
    bounds: tuple[tuple[str, float], ...]
    outcome: Literal["holds", "fails", "open"]
    central: bool
    paper: str
    text: str
    bound: str
    p: float
    n: int = 0
    shown: bool = False
    holm: float = math.nan
    detectable: float = math.nan
    needed: int | None = None
    again: float = math.nan
    covers: bool | None = None

    @property
    def state(self) -> str:
        """The outcome, or "not measured" where there is no value."""
        return NOT_MEASURED if math.isnan(self.measured) else self.outcome


@dataclass(frozen=True)
class Verdict:
    """What a study says about a claim.

    Attributes:
        scale: "paper", "reduced" or "stand-in".
        outcome: one of `OUTCOMES`; of a stand-in always "open".
        checks: with what was measured.
        unmet: what keeps the study from the next scale above, one line each.
        protocol: what the study was, for the card: "reduced: 3,000 of 62,400 steps".
        kind: "claim", "reconstruction" or "probe", as in the rule.
    """

    scale: Scale
    outcome: Outcome
    checks: tuple[Check, ...]
    unmet: tuple[str, ...] = ()
    protocol: str = ""
    kind: Kind = "claim"

    @property
    def central(self) -> Check:
        """The check that the claim stands or falls with."""
        return next(check for check in self.checks if check.central)

    @property
    def telling(self) -> Check:
        """The check that the outcome follows from: the central one, or where that holds and another does not, that."""
        others = [one for one in self.checks if one.outcome == ("fails" if self.outcome == IN_PART else OPEN)]
        return others[0] if self.central.outcome == "holds" and others else self.central

    @property
    def label(self) -> str:
        """The outcome as a badge says it: a reconstruction has no work to agree with, and a stand-in no verdict.

        "not measured" where the central check has no value: it was not run, or there was nothing to measure it on.
        """
        if math.isnan(self.central.measured):
            return NOT_MEASURED
        if self.scale == STAND_IN:
            return STAND_IN
        if self.kind == "claim" or self.outcome == OPEN:
            return self.outcome
        words = {"reconstruction": "reconstructed", "probe": "supported"}
        return {
            AGREES: words[self.kind],
            IN_PART: f"{words[self.kind]} in part",
            DISAGREES: f"not {words[self.kind]}",
        }[self.outcome]

    @property
    def study(self) -> str:
        """What the study was, in words; where no work says what it should be, it can only be as planned."""
        return self.protocol or ("the paper's scale" if self.kind == "claim" else "as planned")

    @property
    def again(self) -> float:
        """Of a claim that is decided, `Check.again` of the check that decides it and is the least sure.

        NaN of others, and where one of these checks has none.
        """
        ways = {"fails"} if self.outcome == DISAGREES else {"holds", "fails"} if self.outcome != OPEN else set()
        asked = [check for check in self.checks if check.central or self.outcome != DISAGREES]
        found = [check.again for check in asked if check.outcome in ways]
        return min(found) if found and not any(map(math.isnan, found)) else math.nan

    @property
    def failing(self) -> int:
        """How many checks fail: a claim of which one does cannot agree any more, though it may be open."""
        return sum(check.outcome == "fails" for check in self.checks)

    @property
    def against(self) -> str:
        """What the means of what is open would be against, should they stay: "the claim", "a part of it" or nothing."""
        asked = [check for check in self.checks if check.outcome == "open" and not math.isnan(check.measured)]
        sides = {
            one.central
            for one in asked
            for kind, bound in one.bounds
            if _side(kind, bound, one.measured, one.measured) == "fails"
        }
        return "the claim" if True in sides else "a part of it" if sides else ""

    @property
    def needed(self) -> int | None:
        """Replicates that decide what is open; None if nothing is, no number of them would, or it is a stand-in."""
        if self.scale == STAND_IN:
            return None
        asked = [check.needed for check in self.checks if check.outcome == "open"]
        known = [needed for needed in asked if needed is not None]
        return max(known) if known and len(known) == len(asked) else None

    def json(self) -> dict:
        """Plain values, NaN as null."""
        return _plain(asdict(self) | {"label": self.label, "needed": self.needed})


def judge(rule: Rule, measured: Mapping[str, Summary | float], context: Mapping[str, Any]) -> Verdict:
    """Judges a claim by its rule.

    Args:
        rule: of :func:`load`.
        measured: quantity -> summary over replicates, or a number (which decides nothing). A quantity that is not there
            or NaN leaves its check open.
        context: what the study is, by the names of the rule's `needs`; what it does not say is not met.
    """
    scale, unmet, protocol = _scale(rule, context)
    unmet, protocol = tuple(map(rule.told, unmet)), rule.told(protocol)
    checks = tuple(_check(check, rule.quantities[check.quantity], measured) for check in rule.checks)
    if rule.decides:
        checks = tuple(replace(check, needed=None) for check in checks)
    outcome = OPEN if scale == STAND_IN else _outcome(checks)
    if outcome == AGREES and scale == REDUCED and min(check.n for check in checks) < FULL:
        outcome = IN_PART
    return Verdict(scale, outcome, checks, unmet, protocol, rule.kind)


def outcome(rule: Rule, measured: Mapping[str, Summary | float]) -> Outcome:
    """What the checks of a rule give, whatever the study is: for what stands beside the study that is judged.

    Args:
        rule, measured: of :func:`judge`.
    """
    return _outcome([_check(check, rule.quantities[check.quantity], measured) for check in rule.checks])


def _outcome(checks: Sequence[Check]) -> Outcome:
    central = next(check.outcome for check in checks if check.central)
    others = {check.outcome for check in checks}
    if others == {"holds"}:
        return AGREES
    if central == "fails":
        return DISAGREES
    return IN_PART if central == "holds" and "fails" in others else OPEN


def _scale(rule: Rule, context: Mapping[str, Any]) -> tuple[Scale, tuple[str, ...], str]:
    """The highest scale whose needs are met, what keeps from the one above, and the study in words."""
    whole = _unmet(rule.needs.paper, context) if rule.needs.paper else {"": "the rule knows no study at this scale"}
    if not whole:
        return PAPER, (), ""
    less = _unmet(rule.needs.reduced, context) if rule.needs.reduced else whole
    if less:
        return STAND_IN, tuple(less.values()), "a stand-in (reduced scale asks for more): " + "; ".join(less.values())
    shown = []
    for key, need in rule.needs.paper.items():
        if key in whole:
            have = context.get(key)
            name = needed(key)
            if key.endswith("protocol"):
                told = context.get(key.removesuffix("protocol") + "shorter")
                whose = f"{need} protocol" if key == "protocol" else name
                shown.append(f"{whose}, shortened" + (f" ({told})" if told else ""))
            elif _is_number(need):
                shown.append(f"{have:,} of {need:,} {name}" if _is_number(have) else f"{have} instead of {need} {name}")
            else:
                shown.append(f"{name} {asked(have)} instead of {asked(need)}")
    return REDUCED, tuple(whole.values()), "reduced: " + ", ".join(shown)


def _unmet(needs: Mapping[str, Need], context: Mapping[str, Any]) -> dict[str, str]:
    out = {}
    for key, need in needs.items():
        have, name = context.get(key), needed(key)
        if have is None:
            out[key] = f"the study does not say its {name}"
        elif _is_number(need):
            if not (_is_number(have) and have >= need):
                out[key] = f"{name}: {have:,} of {need:,}" if _is_number(have) else f"{name}: {have}"
        elif have not in need if isinstance(need, list) else have != need:
            ours = asked(have).replace("as planned", "our own")
            told = f"another {name} than {asked(need)}" if have == "changed" else f"{name}: {ours}, not {asked(need)}"
            out[key] = f"{name} was not run" if need is True else told
    return out


def needed(key: str) -> str:
    """What a rule's need is called in words."""
    return NEEDS.get(key, key.replace("_", " "))


def asked(need: Need | None) -> str:
    """What a rule asks for, in words; "the paper's" and "the paper's, shortened" as one.

    Args:
        need: one of a rule's `needs`.
    """
    if not isinstance(need, list):
        return _NEEDED.get(str(need), str(need))
    words, less = [asked(one) for one in need], ", shortened"
    both = {one for one in words if one + less in words}
    kept = [
        f"{one}, in full or shortened" if one in both else one
        for one in words
        if one.removesuffix(less) not in both - {one}
    ]
    return " or ".join(kept)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check(rule: CheckRule, quantity: Quantity, measured: Mapping[str, Summary | float]) -> Check:
    found = measured.get(rule.quantity, math.nan)
    value = found if isinstance(found, Summary) else Summary(0, float(found), *4 * [math.nan])
    low, high = rule.range
    check = Check(
        rule.quantity,
        rule.says,
        value.mean,
        (value.ci_low, value.ci_high) if value.bounded else None,
        rule.bounds,
        "open",
        rule.central,
        rule.paper,
        "not measured",
        _bound(rule, quantity),
        stats.p_value(value, low, high),
        value.n,
    )
    if math.isnan(value.mean):
        return check
    seen = stats.detectable(value, (bound for _, bound in rule.bounds))
    check = replace(check, text=_shown(found, rule, quantity), detectable=seen, covers=_covers(rule, quantity, value))
    if check.interval is None:
        return check
    alike = value.ci_low == value.ci_high
    if alike and value.n < stats.ALIKE and not quantity.exact:
        return replace(check, needed=stats.ALIKE)  # so few replicates agree by chance
    sides = {kind: _side(kind, bound, *check.interval) for kind, bound in rule.bounds}
    outcome = "fails" if "fails" in sides.values() else "open" if "open" in sides.values() else "holds"
    tests = _tests(rule, value)
    if outcome != "open":
        return replace(check, outcome=outcome, again=math.nan if alike else stats.joint_power(tests, value.n))
    return replace(
        check, needed=stats.replicates_needed(*tests), shown=_directed(rule, quantity.no_effect, *check.interval)
    )


def _covers(rule: CheckRule, quantity: Quantity, value: Summary) -> bool | None:
    """Whether an interval has the paper's value in it, at the digits that are shown: that value is rounded, too."""
    if rule.stated is None or not value.bounded or value.ci_low == value.ci_high:
        return None
    ends = value.ci_low, rule.stated, value.ci_high
    low, stated, high = (round(one * quantity.scale, quantity.digits) for one in ends)
    return bool(low <= stated <= high)


def _tests(rule: CheckRule, value: Summary) -> list[tuple[float, float]]:
    """Effect and deviation of the tests that show on which side of its bounds a mean lies: of the one that it is
    beyond, else of all.
    """
    beyond = [bound for kind, bound in rule.bounds if _side(kind, bound, value.mean, value.mean) == "fails"]
    asked = beyond or [bound for _, bound in rule.bounds]
    return [(abs(value.mean - one), stats.deviation(value, one)) for one in asked]


def _directed(rule: CheckRule, nothing: float | None, low: float, high: float) -> bool:
    """Whether an interval shows the effect of which a check asks for a size; not where nothing says what none is."""
    if rule.within is not None or nothing is None:
        return False
    least, most = (end if math.isfinite(end) else nothing for end in rule.range)
    return bool(nothing < least and low > nothing) or bool(most < nothing and high < nothing)


def _side(kind: str, bound: float, low: float, high: float) -> str:
    """Whether an interval lies on the right side of a bound, on the wrong one, or on both."""
    if kind in ("at_most", "below"):
        low, high, bound = -high, -low, -bound
    if low > bound or (low == bound and kind in ("at_least", "at_most")):
        return "holds"
    return "fails" if high < bound or (high == bound and kind in ("above", "below")) else "open"


def _bound(rule: CheckRule, quantity: Quantity) -> str:
    form = quantity.scale, quantity.unit, quantity.digits
    if rule.within is not None:
        margin = text.format_interval(rule.within, *form)
        return f"{text.number(rule.around, quantity.scale, quantity.digits)} ± {margin}"
    return " and ".join(f"{_SIGNS[kind]} {text.format_interval(value, *form)}" for kind, value in rule.bounds)


def _shown(value: Summary | float, rule: CheckRule, quantity: Quantity) -> str:
    """What was measured, with decimals enough not to read like a bound that it is not."""
    digits, mean = quantity.digits, value.mean if isinstance(value, Summary) else float(value)
    shown = [mean, value.ci_low, value.ci_high] if isinstance(value, Summary) and value.bounded else [mean]
    pairs = [(one, bound) for one in shown for _, bound in rule.bounds]
    near = [pair for pair in pairs if not math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-12)]

    def alike(one: float, bound: float) -> bool:
        return text.number(one, quantity.scale, digits) == text.number(bound, quantity.scale, digits)

    while digits < quantity.digits + 3 and any(alike(*pair) for pair in near):
        digits += 1
    return text.format_interval(value, quantity.scale, quantity.unit, digits)


# The ledger of all claims.


@dataclass(frozen=True)
class Judged:
    """A verdict with the records that it rests on."""

    verdict: Verdict
    keys: tuple[str, ...] = field(default=())


def collect(chapters: Iterable[Mapping[str, Any]]) -> dict[str, Judged]:
    """The verdicts of executed chapters, with the keys of the records that they rest on.

    Args:
        chapters: what `Chapter.finish` left in each notebook's metadata, with "verdicts" and "keys".

    Raises:
        ClaimError: if two chapters judge one claim.
    """
    out: dict[str, Judged] = {}
    for made in chapters:
        if twice := sorted(set(out) & set(made["verdicts"])):
            raise ClaimError(f"judged by two chapters: {', '.join(twice)}")
        out |= {name: Judged(read(verdict), tuple(made["keys"])) for name, verdict in made["verdicts"].items()}
    return out


def ledger(judged: Mapping[str, Verdict | Judged], rules: Mapping[str, Rule] | None = None) -> dict:
    """All claims as plain values for `book/claims.json`; `book/claims.schema.json` says what they mean.

    Holm's correction is over the checks of a work that were tested at the paper's or at reduced scale, or over those of
    all probes, whichever work they are after.

    Args:
        judged: claim -> its verdict, with the keys of its records where they are known; claims that no chapter has
            judged may be missing.
        rules: of :func:`load`.

    Raises:
        ClaimError: if a verdict is of no claim.
    """
    rules = load() if rules is None else rules
    if unknown := sorted(set(judged) - set(rules)):
        raise ClaimError(f"no rule for {', '.join(unknown)} in {FILE.name}")
    entries = {name: one if isinstance(one, Judged) else Judged(one) for name, one in judged.items()}
    adjusted = _adjusted({name: one.verdict for name, one in entries.items()}, rules)
    out: dict[str, Any] = {"$schema": SCHEMA, "version": 1, "claims": {}, "counts": {}}
    for name, rule in rules.items():
        verdict, one = adjusted.get(name), entries.get(name)
        out["claims"][name] = {
            "work": rule.work,
            "kind": rule.kind,
            "chapter": rule.chapter,
            "title": rule.title,
            "rule": rule.hash,
            "revised": [{"date": str(r.date), "known": r.known, "gave": r.gave} for r in rule.revised],
            "rests_on": list(rule.rests_on),
            "verdict": verdict.json() if verdict else None,
            "records": list(one.keys) if one else [],
        }
        if rule.kind != "probe":  # no claim of a work, and counted apart
            state = NOT_MEASURED if verdict is None else f"{verdict.scale}: {verdict.label}"
            state = verdict.label if verdict and verdict.label in (STAND_IN, NOT_MEASURED) else state
            count = out["counts"].setdefault(rule.work, {})
            count[state] = count.get(state, 0) + 1
    return out


def _adjusted(verdicts: Mapping[str, Verdict], rules: Mapping[str, Rule]) -> dict[str, Verdict]:
    """The verdicts with Holm's p over the checks of each work, and over those of all probes."""
    families: dict[str, list[tuple[str, int]]] = {}
    for name, verdict in verdicts.items():
        if verdict.scale != STAND_IN:
            family = "probe" if rules[name].kind == "probe" else rules[name].work
            families.setdefault(family, []).extend((name, i) for i in range(len(verdict.checks)))
    out = dict(verdicts)
    for places in families.values():
        raised = stats.holm([verdicts[name].checks[i].p for name, i in places])
        for (name, i), p in zip(places, raised, strict=True):
            checks = list(out[name].checks)
            checks[i] = replace(checks[i], holm=float(p))
            out[name] = replace(out[name], checks=tuple(checks))
    return out


def read(value: Mapping[str, Any]) -> Verdict:
    """The verdict that :meth:`Verdict.json` wrote, null as NaN again."""

    def check(entry: Mapping[str, Any]) -> Check:
        entry = {key: math.nan if one is None and key in _NANS else one for key, one in entry.items()}
        entry["bounds"] = tuple((kind, bound) for kind, bound in entry["bounds"])
        entry["interval"] = tuple(entry["interval"]) if entry["interval"] else None
        return Check(**entry)

    known = {key: one for key, one in value.items() if key in Verdict.__dataclass_fields__}
    return Verdict(**known | {"checks": tuple(map(check, value["checks"])), "unmet": tuple(value["unmet"])})


_NANS = {"measured", "p", "holm", "detectable", "again"}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
