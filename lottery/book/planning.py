"""What a chapter will compute, known before anything is computed: its cells up to the tag `study`, executed as code.

They form recipes and compute nothing. So parameters that are allowed one by one and cannot be together are refused
before a kernel starts, and `lottery study` needs neither kernels nor papermill.

What takes seconds to import is imported where recipes are formed, so that a mistyped name is refused at once.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from nbformat.reader import NotJSONError

from .. import LotteryError
from ..engine import settings
from ..engine.stopping import OutOfTime
from . import entries, parameters
from .parameters import ChapterError, ParameterError

if TYPE_CHECKING:
    from ..engine.store import Store
    from ..recipes import Recipe

_OPENS = re.compile(r"""\bChapter\(\s*["']([^"']*)["']""")
PROFILES = ("quick", "standard", "paper")
PLACE = Path(__file__).with_name("profiles")
"""Where their files lie."""


def book() -> Path:
    """The folder of the book.

    Raises:
        ChapterError: if there is none.
    """
    found = settings.project()
    if found is None:
        raise ChapterError("chapters lie in a clone of the repository: work in one, or set LOTTERY_ROOT to its folder")
    if not (found / "notebooks").is_dir():
        raise ChapterError(f"LOTTERY_ROOT names {found}, which holds no notebooks/")
    return found


def names() -> list[str]:
    """All chapters, in order."""
    return [path.stem for path in visible(book() / "notebooks", "*.ipynb")]


def named(given: str) -> str:
    """The chapter that is called so, has this number, or alone begins so: `7`, `07` and `07_how` are the same.

    Raises:
        ChapterError: if there is none, or more than one.
    """
    known = names()
    numbered = f"{int(given):02}_" if given.isdecimal() and len(given) < 4 else given
    found = [given] if given in known else [name for name in known if name.startswith(numbered or "?")]
    if len(found) > 1:
        raise ChapterError(f"several chapters begin with {given!r}: {', '.join(found)}")
    if not found:
        raise _unknown(given)
    return found[0]


def _unknown(name: str) -> ChapterError:
    known = names()
    there = f"chapters: {known[0]} to {known[-1]}, the number is enough" if known else "there are no chapters"
    return ChapterError(f"no chapter {name[:60]!r}{parameters.meant(name, known)}; {there}")


def source(name: str) -> nbformat.NotebookNode:
    """The source notebook of a chapter.

    Raises:
        ChapterError: if there is none, naming one that may be meant.
    """
    if name not in names():
        raise _unknown(name)
    return read(book() / "notebooks" / f"{name}.ipynb")


def declared(name: str) -> dict[str, parameters.Parameter]:
    """The parameters of a chapter.

    Raises:
        ChapterError: naming the notebook, if there is none or it says of no cell, or in no plain values, what they are.
    """
    notebook = source(name)
    try:
        return parameters.parameters_of(notebook)
    except ChapterError as error:
        raise ChapterError(f"notebooks/{name}.ipynb: {error}") from None


def read(path: Path) -> nbformat.NotebookNode:
    """A notebook.

    Raises:
        ChapterError: if the file is no notebook, or not a whole one.
    """
    try:
        return nbformat.read(path, as_version=4)
    except (NotJSONError, nbformat.ValidationError, UnicodeError, AttributeError, KeyError) as error:
        said = str(error).strip().partition("\n")[0][:100]
        raise ChapterError(f"{path} is no whole notebook ({said}): restore it, say by `git checkout`") from None


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that a pattern fits, but those that systems hide there: `._01.ipynb` and the like."""
    return sorted(path for path in folder.glob(pattern) if not path.name.startswith("."))


def published() -> dict[str, Path]:
    """The published chapters."""
    return {path.stem: path for path in visible(book() / "book" / "chapters", "*.ipynb")}


def check_profile(profile: str) -> None:
    """Refuses what is none of `PROFILES`.

    Raises:
        ChapterError: naming them, and the one that may be meant.
    """
    if profile not in PROFILES:
        said = f"no profile {profile[:60]!r}{parameters.meant(profile, PROFILES)}"
        raise ChapterError(f"{said}; profiles: {', '.join(PROFILES)}")


def profile_parameters(name: str, profile: str, notebook: nbformat.NotebookNode | None = None) -> dict[str, object]:
    """What a profile sets for a chapter: the entries of `common` that the chapter has, then its own.

    Args:
        name: of the chapter.
        profile: one of `PROFILES`.
        notebook: whose parameters count, by default the chapter's source.

    Raises:
        ChapterError: if there is no such profile.
        EntryError: if its file cannot be read.
    """
    check_profile(profile)
    path = PLACE / f"{profile}.yml"
    table = entries.table(path)
    common, own = table.get("common") or {}, table.get(name) or {}
    for where, entry in (("common", common), (name, own)):
        if not isinstance(entry, dict):
            raise entries.EntryError(f"{path}, {where}: must have parameters and values, `levels: 5`")
    known = parameters.parameters_of(notebook) if notebook else declared(name)
    return {k: v for k, v in common.items() if k in known} | own


@dataclass(frozen=True)
class Part:
    """A chapter at a profile, and parameters that differ from it."""

    chapter: str
    profile: str = "standard"
    given: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def parameters(self) -> dict[str, object]:
        """The values that differ from the chapter's defaults.

        Raises:
            LotteryError: if there is no such chapter, profile or parameter, or a value is not allowed.
        """
        known = declared(self.chapter)
        profile = profile_parameters(self.chapter, self.profile)
        try:
            parameters.check_parameters(known, {k: v for k, v in profile.items() if k not in self.given})
        except ParameterError as error:
            raise entries.EntryError(f"{PLACE / self.profile}.yml, {self.chapter}: {error}") from None
        try:
            return parameters.check_parameters(known, profile | dict(self.given))
        except ParameterError as error:
            raise ParameterError(f"{self.chapter}: {error}") from None

    @cached_property
    def recipes(self) -> "list[Recipe]":
        """The recipes of its study.

        Raises:
            ParameterError: if the parameters cannot be together.
            ChapterError: if the notebook has no study, or its cells fail otherwise.
        """
        from . import tidy

        return list(tidy.leaves(study_of(self.chapter, self.parameters)))

    @property
    def keys(self) -> list[str]:
        """The keys of all records that it needs, what is read before its readers."""
        from ..recipes import closure

        return [recipe.key for recipe in closure(self.recipes) if recipe.stored]

    @property
    def command(self) -> str:
        """What executes it, for a shell."""
        given = [word for name, value in self.given.items() for word in ("-p", name, str(value))]
        return shlex.join(["python", "-m", "lottery", "run", self.chapter, "--profile", self.profile, *given])

    def check(self, store: "Store", by: settings.Settings | None = None) -> None:
        """Refuses what can be seen to fail, if the store lacks any of it.

        Args:
            store: what is in it is not computed.
            by: by whom the rest is to be; by default, by this process.

        Raises:
            LotteryError: saying what is wrong.
        """
        from ..engine.execute import check, choose, plan
        from ..masks import Unfitting
        from ..models import ModelError

        tasks = plan(self.recipes, store)
        try:
            if tasks:
                by = by or settings.made()
                choose(by.executor, by.jobs, by.device, by.scheduler, by.stack)
                check([task.recipe for task in tasks.values()], by.device)
        except OutOfTime:
            raise
        except (Unfitting, ModelError) as error:
            raise ParameterError(f"{self.chapter}: {error}{self._networks()}") from error
        except LotteryError as error:
            raise ParameterError(f"{self.chapter}: {error}") from error

    def _networks(self) -> str:
        """Which networks the chapter takes, if another one was given."""
        known = declared(self.chapter)
        given = [name for name in self.given if name.endswith("model")]
        return "".join(
            f"\n{name} = {self.given[name]!r}, where this chapter takes: {known[name].help}" for name in given
        )


def check_name(name: str) -> None:
    """Refuses a chapter whose notebook opens another one, as a copy does.

    Raises:
        ChapterError: naming both.
    """
    code = "\n".join(cell.source for cell in source(name).cells if cell.cell_type == "code")
    for other in _OPENS.findall(code):
        if other != name:
            raise ChapterError(f'notebooks/{name}.ipynb opens Chapter("{other}"): write Chapter("{name}") there')


def _say_nothing(*_, **__) -> None:
    """What `print` is to cells that are planned: stdout is the whole process's, also of threads beside this one."""


def study_of(name: str, values: Mapping[str, object]):
    """The value of `study` when a chapter's cells up to that with the tag `study` are executed; nothing is drawn.

    Cells with the tag `aside` are left out: they compute or show what the study does not need.

    Args:
        name: of the chapter.
        values: parameters that differ from the defaults, checked.

    Raises:
        ParameterError: if the chapter refuses the parameters.
        ChapterError: if there is no such cell, or a cell fails otherwise.
    """
    from ..recipes import Recipe
    from . import tidy

    cells = [cell for cell in source(name).cells if cell.cell_type == "code"]
    cells = [cell for cell in cells if "aside" not in cell.metadata.get("tags", ())]
    check_name(name)
    tagged = [number for number, cell in enumerate(cells) if "study" in cell.metadata.get("tags", ())]
    if len(tagged) != 1:
        raise ChapterError(f"{name} has exactly one cell with the tag `study`, not {len(tagged)}")
    sources = []
    for cell in cells[: tagged[0] + 1]:
        sources.append(cell.source)
        if "parameters" in cell.metadata.get("tags", ()):
            sources.append(parameters.injected(values))
    namespace: dict[str, object] = {"__name__": "__main__", "In": [], "print": _say_nothing}
    for number, text in enumerate(sources):
        namespace["In"] = sources[: number + 1]
        try:
            exec(compile(text, f"{name}, cell {number}", "exec"), namespace)
        except OutOfTime:
            raise
        except LotteryError as error:
            raise ParameterError(f"{name}: {error}") from error
        except Exception as error:
            raise ChapterError(f"{name} cannot plan its study: {type(error).__name__}: {error}") from error
    if "study" not in namespace or not all(isinstance(leaf, Recipe) for leaf in tidy.leaves(namespace["study"])):
        raise ChapterError(f"the cell with the tag `study` of {name} must set `study` to nested recipes")
    return namespace["study"]
