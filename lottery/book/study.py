"""Chapters' recipes computed within a time budget, in order of value: for a machine that you have for some minutes.

Parts are planned first, for a tenth of the time at most, so what cannot work is refused before anything is computed;
the others are planned when their turn comes. When time is up, or the system asks for it, the runs in progress are
saved, and the same command goes on from there. What is carried home are the records; at home the chapters find every
recipe in the store.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import LotteryError, data
from ..engine import stopping
from ..engine.plan import plan
from ..engine.settings import Settings
from ..engine.stopping import OutOfTime
from ..engine.store import Store
from . import entries, planning, text
from .chapter import compute
from .planning import Part

PLAN = Path(__file__).with_name("study.yml")
"""What is computed unless another plan is given."""

GOES_ON = 75
"""Exit status of a study that ran out of time: EX_TEMPFAIL of sysexits.h, the same command goes on."""


def read_plan(path: Path | None = None) -> list[Part]:
    """The parts of a study in order of value, their parameters checked.

    Args:
        path: a YAML list of `{chapter: …, profile: …, given: {…}}`, a chapter by name or number; by default `study.yml`
            of this package, after which come the chapters that it does not name.

    Raises:
        EntryError: naming the file, the entry, and what is not a chapter, a profile or a parameter; if it is empty.
    """
    place, parts, form = path or PLAN, [], "a plan is a list of {chapter: …, profile: …, given: {…}}"
    found = entries.read(place)
    if not isinstance(found, list) or not found:
        raise entries.EntryError(f"{place}: {form}")
    for number, entry in enumerate(found, 1):
        try:
            parts.append(_Entry.model_validate(entry).part)
            _ = parts[-1].parameters
        except ValidationError:
            raise entries.EntryError(f"{place}: {form}; entry {number} is {entry!r}") from None
        except LotteryError as error:
            raise entries.EntryError(f"{place}, entry {number}: {error}") from None
    if path is None:
        parts += [Part(name) for name in planning.names() if name not in {part.chapter for part in parts}]
    return parts


class _Entry(BaseModel):
    """A part as a plan has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    chapter: str | int
    profile: str = "standard"
    given: dict[str, Any] = {}

    @property
    def part(self) -> Part:
        return Part(planning.named(str(self.chapter)), self.profile, self.given)


def run(
    parts: Sequence[Part],
    minutes: float,
    settings: Settings,
    export: Callable[[Store, list[str]], None],
    say: Callable[[str], None] = print,
    began: float | None = None,
    carried: Sequence[str] = (),
) -> int:
    """Computes the parts of a study in order until they are done or the time is up, and exports the records.

    At nine tenths of the time, but at most two minutes before its end, no recipe is begun any more and trainings are
    saved where they are; halfway from there to the end whatever still computes is broken off. A part that fails is
    reported, and the next one begins.

    Args:
        parts: in order of value.
        minutes: for everything, start-up and export included.
        settings: where results are kept, by whom they are computed.
        export: is given the store and the keys of what there is of the parts that were planned, in their order, each
            once; not called if there is nothing.
        say: is told what happens, a line at a time.
        began: when the time began, by `time.monotonic()`; by default now.
        carried: keys of further records to export, after those of the parts.

    Returns:
        An exit status: 0 if all is computed, 1 if a part failed, 128 and its number if a signal stopped the study, else
        `GOES_ON`.
    """
    end = (time.monotonic() if began is None else began) + 60 * minutes
    reserve = min(120.0, 6 * minutes)
    settings, store = settings.but(deadline=end - reserve), Store(settings.store)
    keys: dict[str, None] = {}
    outcomes = []
    with settings.active(), stopping.in_order(end - reserve / 2):
        with contextlib.suppress(OutOfTime):  # broken off between two parts
            for what, outcome, count in _outcomes(parts, settings, store, keys):
                outcomes += [outcome] * count
                say(f"{what}: {outcome}")
        asked = stopping.asked()
    done, failed = (sum(outcome.startswith(word) for outcome in outcomes) for word in (COMPLETED, FAILED))
    goes_on = "; the same command goes on" if done + failed < len(parts) else ""
    say(f"{done} of {len(parts)} parts are complete" + (f", {failed} failed" if failed else "") + goes_on)
    with stopping.in_order(tell=lambda: None):  # what is packed is packed to the end
        if there := [key for key in dict.fromkeys([*keys, *carried]) if key in store]:
            export(store, there)
        else:
            say("nothing was exported: there is no record yet")
        asked = asked or stopping.asked()
    return 128 + asked if asked else 0 if done == len(parts) else 1 if failed else GOES_ON


COMPLETED, FAILED = "complete", "failed"


def _outcomes(
    parts: Sequence[Part], settings: Settings, store: Store, keys: dict[str, None]
) -> Iterator[tuple[str, str, int]]:
    """What became of each part that was begun: of what, words that begin with COMPLETED or FAILED or neither, how many.

    One entry tells of all parts that lack the same data. The keys of what can be computed are added to `keys`.
    """
    left, planned, told, what = list(parts), [], set(), "looking for data"
    try:
        begun = time.monotonic()
        until = begun + max(0.0, (settings.deadline or begun) - begun) / 10
        for error, without in _without_data(parts, store, until):
            told.add(str(error))
            left = [part for part in left if part not in without]
            count = text.count(len(without), "part")
            yield "data", f"{FAILED}, {count} of {len(parts)} cannot do without: {error}", len(without)
        while left or planned:
            if planned and (not left or time.monotonic() >= until):
                part = planned.pop(0)
                yield _named(part, parts), _computed(part, settings, store), 1
                if stopping.due(settings.deadline):
                    return
                continue
            part = left.pop(0)
            what = f"planning {_named(part, parts)}"
            if stopping.due(settings.deadline):
                raise stopping.error("not begun")
            if refusal := _refusal(part, settings, store, told):
                yield _named(part, parts), refusal, 1
            else:
                planned.append(part)
                keys.update(dict.fromkeys(part.keys))
    except OutOfTime:
        yield what, str(stopping.error("nothing of it was computed")), 1


def _named(part: Part, parts: Sequence[Part]) -> str:
    """What a part is called; with its number, if another one is of the same chapter at the same profile."""
    alike = [n for n, one in enumerate(parts, 1) if (one.chapter, one.profile) == (part.chapter, part.profile)]
    number = next(n for n, one in enumerate(parts, 1) if one is part)
    return f"{part.chapter}, {part.profile}" + (f" (part {number})" if len(alike) > 1 else "")


def _without_data(parts: Sequence[Part], store: Store, until: float) -> Iterator[tuple[data.DataError, list[Part]]]:
    """Why data sets cannot be had, and the parts that are not complete without them; what is complete needs none.

    From `until` on no further data set is looked for: who needs it says so when its turn comes.
    """
    asked = [(part, _data(part)) for part in parts]
    for name in dict.fromkeys(name for _, name in asked if name):
        those = (part for part, its in asked if its == name)
        lacking = (part for part in those if time.monotonic() < until and _lacks(part, store))
        if (first := next(lacking, None)) is not None:
            try:
                data.describe(name)
            except data.DataError as error:
                yield error, [first, *lacking]


def _data(part: Part) -> str:
    """Which data a part is of; "" if none, or if its notebook cannot be read, which is told in its turn."""
    try:
        return str(part.parameters.get("data", ""))
    except LotteryError:
        return ""


def _lacks(part: Part, store: Store) -> bool:
    """Whether the store lacks anything of a part, as far as it can be planned."""
    try:
        return bool(plan(part.recipes, store))
    except OutOfTime:
        raise
    except LotteryError:
        return False


def _refusal(part: Part, settings: Settings, store: Store, told: set[str]) -> str:
    """Why nothing of a part can be computed; "" if it can be.

    Args:
        part, settings, store: of `run`.
        told: what has been said of data, which is not said twice.
    """
    try:
        part.check(store, settings)
    except OutOfTime:
        raise
    except LotteryError as error:
        said, cause = str(error), error.__cause__
        if isinstance(cause, data.DataError):
            said = "for want of data, as above" if str(cause) in told else said
            told.add(str(cause))
        return f"{FAILED}, nothing of it was computed: {said}"
    return ""


def _computed(part: Part, settings: Settings, store: Store) -> str:
    """Computes what the store lacks of a part; says what became of it."""
    began, known = time.monotonic(), len(store.keys())
    try:
        if stopping.due(settings.deadline):
            raise stopping.error("not begun")
        compute(part.recipes, settings)
        outcome = COMPLETED
    except OutOfTime as error:
        outcome = str(error)
    except Exception as error:
        outcome = f"{FAILED}: {type(error).__name__}: {error}"
    return f"{outcome}; {len(store.keys()) - known} new records in {time.monotonic() - began:.0f} s"
