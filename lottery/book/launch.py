"""Chapters that run from nothing: what a reader opens with a button of a page, or downloads from it.

Such a notebook is made when the book is built, from the executed chapter. Its first cell, which no page shows, installs
the library at its release where there is none, and calls `prepare`; and it takes small values for its parameters
unless it is asked for the published ones.
"""

import copy
import os
import re
import shutil
import tempfile
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat

from .. import __version__
from ..engine import archive, settings
from ..engine.store import Store
from .parameters import ChapterError
from .text import count

BRANCH = "launch"
"""Of the repository, where a workflow puts these notebooks for Colab and Binder; both open files of a repository."""

_FIRST = """\
# Not on the page: the library at its release, and the records of this chapter.
import importlib.util

RELEASE = "{release}"
PUBLISHED = False  # False: small values, trained here in minutes. True: as on the page, from the records, no training.

if importlib.util.find_spec("lottery") is None:
    %pip install --quiet {{RELEASE}}/{wheel}
    importlib.invalidate_caches()

from lottery.book import launch

launch.prepare(RELEASE, {records!r})"""

_PARAMETERS = """\
# Instead of the values above: small ones, or those of the page (see the first cell). Change what you like.
quick = {quick!r}
published = {published!r}
globals().update(published if PUBLISHED else quick)"""


def wheel() -> str:
    """The name of the file that installs this version of the library."""
    return f"lottery-{__version__}-py3-none-any.whl"


def release(repository: str) -> str:
    """Where the files of this version's release lie.

    Args:
        repository: its address.
    """
    return f"{repository.rstrip('/')}/releases/download/v{__version__}"


def holders(keys: Iterable[str], exports: Iterable[Path]) -> list[str]:
    """The names of the exports, in order, that hold any of the records with these keys."""
    wanted, found = set(keys), []
    for path in exports:
        with archive.Archive(path) as opened:
            if wanted.intersection(opened.keys):
                found.append(path.name)
    return found


def cited(entries: Mapping[str, Any]) -> dict[str, str]:
    """Key -> authors and year, as a text names a work.

    Args:
        entries: of a bibliography that pybtex has read.
    """
    found = {}
    for key, entry in entries.items():
        names = [" ".join(one.prelast_names + one.last_names) for one in entry.persons["author"]]
        several = len(names) > 2 or names[-1] == "others"
        who = f"{names[0]} et al." if several else " & ".join(names)
        found[key] = f"{who} ({entry.fields['year']})"
    return found


_GLUED = re.compile(r"\{glue:text\}`([^`]+)`")


def unglued(notebook: nbformat.NotebookNode) -> list[str]:
    """The names of values that a chapter's texts show and that it did not glue, each once.

    Args:
        notebook: the executed chapter.
    """
    texts = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    names = dict.fromkeys(name.partition(":")[0] for name in _GLUED.findall(texts))
    glued = notebook.metadata.get("lottery", {}).get("values", {})
    return [name for name in names if name not in glued]


def plain(text: str, values: Mapping[str, object], cited: Mapping[str, str], pages: str) -> str:
    """MyST as the Markdown that every notebook program shows.

    Args:
        text: of a cell.
        values: glued by the chapter: name -> value, as `Chapter.finish` keeps them.
        cited: key -> authors and year.
        pages: address of the folder with the chapters' pages.
    """

    def glued(match: re.Match) -> str:
        name, _, form = match[1].partition(":")
        value = str(values[name]).strip("'")
        return format(float(value), form) if form not in ("", "s") else value

    text = _GLUED.sub(glued, text)
    text = re.sub(r"\{term\}`([^`<]+?)(?: *<[^`>]+>)?`", r"\1", text)
    text = re.sub(r"\{cite:t\}`([^`]+)`", lambda m: cited[m[1]], text)
    text = re.sub(
        r"\{cite:p\}`([^`]+)`", lambda m: f"({'; '.join(cited[key.strip()] for key in m[1].split(','))})", text
    )
    text = re.sub(r"\{doc\}`([^`<]+?) *<([^`>]+)>`", rf"[\1]({pages}/\2.html)", text)
    text = re.sub(r"\{ref\}`([^`<]+?) *<[^`>]+>`", r"\1", text)
    text = re.sub(r"\]\((\w+)\.ipynb\)", rf"]({pages}/\1.html)", text)
    boxes = r"^(:::+|```+)\{(?:dropdown|admonition)\} *(.*)\n(?::[\w-]+:.*\n)*((?:.*\n)*?)\1 *$"
    return re.sub(boxes, r"**\2**\n\n\3", text, flags=re.M)


def notebook(
    executed: nbformat.NotebookNode,
    release: str,
    quick: Mapping[str, object],
    records: Sequence[str],
    cited: Mapping[str, str],
    pages: str,
) -> nbformat.NotebookNode:
    """A chapter as a reader gets it: with a first cell, and with a choice of parameters in place of papermill's cell.

    Args:
        executed: the chapter, with its outputs.
        release: where the files of the release lie.
        quick: the parameters of the profile `quick` that differ from the chapter's defaults.
        records: names of the exports that the chapter's published parameters need.
        cited, pages: of `plain`; the numbers in the text are those of this execution.

    Raises:
        ChapterError: if a text shows a value that the chapter did not glue.
    """
    if lacking := unglued(executed):
        name = executed.metadata["lottery"]["chapter"]
        raise ChapterError(f"{name}: its texts show values that it does not glue: {', '.join(lacking)}")
    made = copy.deepcopy(executed)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = plain(cell.source, executed.metadata["lottery"]["values"], cited, pages)
    first = _FIRST.format(release=release, wheel=wheel(), records=list(records))
    chosen = _PARAMETERS.format(quick=dict(quick), published=dict(executed.metadata["lottery"]["parameters"]))
    made.cells = [cell for cell in made.cells if "injected-parameters" not in cell.metadata.get("tags", ())]
    [at] = [i for i, cell in enumerate(made.cells) if "parameters" in cell.metadata.get("tags", ())]
    made.cells.insert(at + 1, nbformat.v4.new_code_cell(chosen, id="chosen-parameters"))
    made.cells.insert(0, nbformat.v4.new_code_cell(first, id="from-nothing"))
    return made


def prepare(release: str, records: Sequence[str]) -> None:
    """Makes this kernel ready for a chapter: takes in its records, and computes on a GPU where there is one.

    Results are kept in the folder `results` of the current one, or in `LOTTERY_STORE`.

    Args:
        release: where the files of the release lie.
        records: names of exports among them. Without a network the chapter runs, but what they hold is computed anew.

    Raises:
        LotteryError: if what was fetched is damaged.
    """
    import torch

    chosen = settings.made(device="cuda" if torch.cuda.is_available() else "cpu")
    os.environ[settings.VARIABLE] = chosen.model_dump_json()
    store, fetched = Store(chosen.store), []
    with tempfile.TemporaryDirectory() as scratch:
        for name in records:
            place = Path(scratch) / name
            try:
                with urllib.request.urlopen(f"{release}/{name}", timeout=60) as answer, place.open("wb") as file:
                    shutil.copyfileobj(answer, file)
                fetched.append(place)
            except OSError as error:
                print(f"{name} could not be fetched from {release} ({error}): what it holds is trained here if needed.")
        new = store.import_(fetched)
    where = "a GPU" if chosen.device == "cuda" else "the CPU"
    print(f"{count(len(new), 'new record')} in {store.root}; training on {where}.")
