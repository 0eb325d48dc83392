"""Chapters' recipes computed within a time budget, in order of value: for a machine that you have for some minutes.

All parts are planned first, so what cannot work is refused before anything is computed. When time is up, or the system
asks for it, the runs in progress are saved, and the same command goes on from there. What is carried home are the
records; at home the chapters find every recipe in the store.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .. import LotteryError
from ..engine import stopping
from ..engine.settings import Settings
from ..engine.stopping import OutOfTime
from ..engine.store import Store
from . import entries, planning
from .chapter import compute
from .planning import Part

PLAN = Path(__file__).with_name("study.yml")
"""What is computed unless another plan is given."""

GOES_ON = 75
"""Exit status of a study that ran out of time: EX_TEMPFAIL of sysexits.h, the same command goes on."""


def read_plan(path: Path | None = None) -> list[Part]:
    """The parts of a study in order of value, their parameters checked.

    Args:
        path: a YAML list of `{chapter: …, profile: …, given: {…}}`; by default `study.yml` of this package, after which
            come the chapters that it does not name.

    Raises:
        EntryError: naming the file, the entry, and what is not a chapter, a profile or a parameter.
    """
    place, parts, form = path or PLAN, [], "a plan is a list of {chapter: …, profile: …, given: {…}}"
    found = entries.read(place) or []
    if not isinstance(found, list):
        raise entries.EntryError(f"{place}: {form}")
    for number, entry in enumerate(found, 1):
        try:
            parts.append(_Entry.model_validate(entry).part)
        except ValidationError:
            raise entries.EntryError(f"{place}: {form}; entry {number} is {entry!r}") from None
        try:
            _ = parts[-1].parameters
        except LotteryError as error:
            raise entries.EntryError(f"{place}, entry {number}: {error}") from None
    if path is None:
        parts += [Part(name) for name in planning.names() if name not in {part.chapter for part in parts}]
    return parts


class _Entry(BaseModel):
    """A part as a plan has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    chapter: str
    profile: str = "standard"
    given: dict[str, Any] = {}

    @property
    def part(self) -> Part:
        return Part(self.chapter, self.profile, self.given)


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
        export: is given the store and the keys of what there is, in the order of the parts, each once; not called if
            there is nothing.
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
        for number, outcome in _outcomes(parts, settings, store, keys):
            part = parts[number]
            outcomes.append(outcome)
            say(f"{part.chapter}, {part.profile}: {outcome}")
        asked = stopping.asked()
    done, failed = (sum(outcome.startswith(word) for outcome in outcomes) for word in (COMPLETED, FAILED))
    say(f"{done} of {len(parts)} parts are complete" + ("" if done == len(parts) else "; the same command goes on"))
    with stopping.in_order(tell=lambda: None):  # what is packed is packed to the end
        if there := [key for key in dict.fromkeys([*keys, *carried]) if key in store]:
            export(store, there)
        asked = asked or stopping.asked()
    return 128 + asked if asked else 0 if done == len(parts) else 1 if failed else GOES_ON


COMPLETED, FAILED = "complete", "failed"


def _outcomes(
    parts: Sequence[Part], settings: Settings, store: Store, keys: dict[str, None]
) -> Iterator[tuple[int, str]]:
    """What became of each part that was begun: its number, and words that begin with COMPLETED or FAILED or neither."""
    planned = []
    for number, part in enumerate(parts):
        try:
            part.check(store, settings)
        except OutOfTime as error:
            yield number, str(error)
            return
        except LotteryError as error:
            yield number, f"{FAILED}, nothing of it was computed: {error}"
        else:
            planned.append(number)
            keys.update(dict.fromkeys(part.keys))
    for number in planned:
        began, known = time.monotonic(), len(store.keys())
        try:
            if stopping.due(settings.deadline):
                raise stopping.error("not begun")
            compute(parts[number].recipes, settings)
            outcome = COMPLETED
        except OutOfTime as error:
            outcome = str(error)
        except Exception as error:
            outcome = f"{FAILED}: {type(error).__name__}: {error}"
        yield number, f"{outcome}; {len(store.keys()) - known} new records in {time.monotonic() - began:.0f} s"
        if stopping.due(settings.deadline):
            return
