"""Chapters' recipes computed within a time budget, in order of value: for a machine that is lent for some minutes.

A notebook is executed as plain code, without a kernel and without drawing, up to the last recipes that it asks for; so
the machine needs neither papermill nor Jupyter's kernels. When time is up the runs in progress are saved, and the same
command goes on from there. What is carried home are the records; at home the chapters find every recipe in the store.
"""

import ast
import contextlib
import os
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from .. import LotteryError, recipes
from ..engine.stopping import OutOfTime
from ..engine.store import Store
from . import chapters, runner

FILES = 8  # of at most 15 MiB each: `store.PART_BYTES`


@dataclass(frozen=True)
class Part:
    """A chapter at a profile, and parameters that differ from it."""

    chapter: str
    profile: str = "standard"
    given: Mapping[str, object] = field(default_factory=dict)

    def parameters(self) -> dict[str, object]:
        """The values of the chapter's parameters.

        Raises:
            LotteryError: if there is no such chapter, profile or parameter, or a value is not allowed.
        """
        declared = chapters.parameters_of(runner.source(self.chapter))
        profile = runner.profile_parameters(self.chapter, self.profile)
        return chapters.check_parameters(declared, profile | dict(self.given))


def read_plan(path: Path | None = None) -> list[Part]:
    """The parts of a study in order of value, all of them checked.

    Args:
        path: a YAML list of `{chapter: …, profile: …, given: {…}}`; by default `notebooks/study.yml`, after which come
            the chapters that it does not name.

    Raises:
        LotteryError: naming what is not a chapter, a profile or a parameter.
    """
    try:
        text = (path or chapters.ROOT / "notebooks" / "study.yml").read_text(encoding="utf-8")
        parts = [Part(**entry) for entry in yaml.safe_load(text) or []]
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise LotteryError(f"a plan is a list of {{chapter: …, profile: …, given: {{…}}}}: {error}") from None
    if path is None:
        parts += [Part(name) for name in runner.names() if name not in {part.chapter for part in parts}]
    for part in parts:
        part.parameters()
    return parts


class _Computing(chapters.Chapter):
    """A chapter that computes what its notebook asks for, and draws nothing."""

    def __init__(self, name: str):
        self.name, self.used, self.keys = name, {}, []

    def execute(self, wanted):
        self.keys += [recipe.key for recipe in recipes.closure(chapters._leaves(wanted)) if recipe.stored]
        return super().execute(wanted)

    def check(self, *given, **values) -> None:
        pass

    figure = glue = judge = rows = table = check


def compute(part: Part, keys: list[str]) -> None:
    """Computes all recipes that a chapter asks for; by whom and where is set as for `chapters.Chapter.execute`.

    Args:
        part: which chapter.
        keys: those of its recipes are added, before they are computed.
    """
    cells = [cell for cell in runner.source(part.chapter).cells if cell.cell_type == "code"]
    last = max(number for number, cell in enumerate(cells) if "chapter.execute(" in cell.source)
    chapter = _Computing(part.chapter)
    chapter.keys = keys
    namespace = {"__name__": part.chapter, "chapter": chapter}
    for number, cell in enumerate(cells[: last + 1]):
        code = ast.parse(cell.source)
        code.body = [line for line in code.body if not _opens_chapter(line)]
        exec(compile(code, f"{part.chapter}, cell {number}", "exec"), namespace)
        if "parameters" in cell.metadata.get("tags", ()):
            namespace |= part.parameters()


def _opens_chapter(line: ast.stmt) -> bool:
    return isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "chapter"


@contextlib.contextmanager
def _alarm(at: float) -> Iterator[None]:
    """Raises `OutOfTime` from this time on, whatever is going on: what is in the store stays whole."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*given):
        raise OutOfTime("time is up")

    before = signal.signal(signal.SIGALRM, ring)
    # Again and again, since libraries swallow exceptions here and there.
    signal.setitimer(signal.ITIMER_REAL, max(0.001, at - time.time()), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def run(
    parts: Sequence[Part], minutes: float, settings: Mapping[str, str], export: Path, say: Callable[[str], None] = print
) -> bool:
    """Computes the parts of a study in order until they are done or the time is up, and exports the records.

    At nine tenths of the time, but at most two minutes before its end, no recipe is begun any more and trainings are
    saved where they are; halfway from there to the end whatever still computes is broken off. A part that fails is
    reported, and the next one begins.

    Args:
        parts: in order of value.
        minutes: for everything, the export included.
        settings: environment of `chapters.Chapter.execute`; names the store.
        export: folder for study.lotx, or study-00.lotx to at most study-07.lotx; records in the order of the parts, and
            what does not fit is left out, and said.
        say: is told what happens, a line at a time.

    Returns:
        Whether everything is computed.
    """
    end = time.time() + 60 * minutes
    reserve = min(120.0, 6 * minutes)
    deadline, keys, done = end - reserve, [], 0
    store = Store(settings["LOTTERY_STORE"])
    with _environment({**settings, "LOTTERY_DEADLINE": str(deadline)}):
        for part in parts:
            began, known = time.time(), len(store.keys())
            try:
                if began >= deadline:
                    raise OutOfTime("time is up")
                with _alarm(end - reserve / 2):
                    compute(part, keys)
                done, outcome = done + 1, "complete"
            except OutOfTime as error:
                outcome = str(error)
            except Exception as error:
                outcome = f"failed: {type(error).__name__}: {error}"
            new = len(store.keys()) - known
            say(f"{part.chapter}, {part.profile}: {new} new records in {time.time() - began:.0f} s; {outcome}")
            if time.time() >= deadline:
                break
    say(f"{done} of {len(parts)} parts are complete" + ("" if done == len(parts) else "; the same command goes on"))
    there = [key for key in dict.fromkeys(keys) if key in store]
    for old in export.glob("study*.lotx"):
        old.unlink()
    packed = 0
    for path in store.export(there, export / "study.lotx", FILES) if there else []:
        with zipfile.ZipFile(path) as archive:
            packed += len(archive.namelist()) // 2
        say(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
    if packed < len(there):
        say(
            f"{len(there) - packed} records, the last of the plan, do not fit into {FILES} files: "
            "`python -m lottery store export` packs them all"
        )
    return done == len(parts)
