"""The strict runner around papermill, provenance, and publishing.

`run` refuses wrong parameters before a kernel starts, and puts an executed notebook in its place only if every cell ran
to the end.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import yaml

from ..engine import progress
from ..engine.store import Store
from . import chapters
from .chapters import ChapterError

PROFILES = ("quick", "standard", "paper")
SCHEMA = 1


def names() -> list[str]:
    """All chapters, in order."""
    return sorted(path.stem for path in (chapters.ROOT / "notebooks").glob("*.ipynb"))


def source(name: str):
    """The source notebook of a chapter.

    Raises:
        ChapterError: if there is none, naming those that are.
    """
    path = chapters.ROOT / "notebooks" / f"{name}.ipynb"
    if not path.exists():
        raise ChapterError(f"no chapter {name!r}; chapters: {', '.join(names())}")
    return nbformat.read(path, as_version=4)


def code_hash(notebook) -> str:
    """SHA-256 over the code cells of a notebook; what papermill injects is left out."""
    cells = [
        c.source
        for c in notebook.cells
        if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", ())
    ]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def profile_parameters(name: str, profile: str) -> dict[str, object]:
    """What a profile sets for a chapter: the entries of `common` that the chapter has, then its own.

    Raises:
        ChapterError: if there is no such profile.
    """
    path = chapters.ROOT / "notebooks" / "profiles" / f"{profile}.yml"
    if not path.exists():
        raise ChapterError(f"no profile {profile!r}; profiles: {', '.join(PROFILES)}")
    table = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    declared = chapters.parameters_of(source(name))
    return {k: v for k, v in table.get("common", {}).items() if k in declared} | (table.get(name) or {})


def output_folder(profile: str, publish: bool = False) -> Path:
    """Where executed chapters go: the published ones into `book/chapters`, others under `_build`."""
    return chapters.ROOT / "book" / "chapters" if publish else chapters.ROOT / "_build" / profile / "chapters"


def run(
    name: str,
    profile: str = "quick",
    given: Mapping[str, object] | None = None,
    *,
    folder: Path | None = None,
    settings: Mapping[str, str] | None = None,
    show: bool = True,
) -> Path:
    """Executes a chapter with papermill.

    Args:
        name: of the chapter.
        profile: "quick", "standard" or "paper": the values of its parameters.
        given: parameters that differ from the profile; texts are read in the parameter's type.
        folder: where the executed notebook goes; by default `output_folder(profile)`.
        settings: environment of the kernel, e.g. {"LOTTERY_JOBS": "2"}.
        show: a progress bar in the terminal.

    Returns:
        Path of the executed notebook.

    Raises:
        ParameterError: before a kernel starts, if a parameter is unknown, mistyped or out of range.
        ChapterError: if a cell failed or did not run. What was executed so far is kept under `_build/failed`; what
            was in the notebook's place stays.
    """
    notebook = source(name)
    declared = chapters.parameters_of(notebook)
    values = chapters.check_parameters(declared, profile_parameters(name, profile) | dict(given or {}))
    folder = Path(folder or output_folder(profile))
    folder.mkdir(parents=True, exist_ok=True)
    began, started = time.perf_counter(), datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / f"{name}.ipynb"
        failure = _papermill(name, values, target, Path(scratch) / "progress.json", settings or {}, show)
        problems = [failure] if failure else []
        if target.exists():
            executed = nbformat.read(target, as_version=4)
            problems += [p for p in incomplete(executed) if not failure]
            if problems:
                failed = chapters.ROOT / "_build" / "failed" / f"{name}.ipynb"
                failed.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(target, failed)
                problems.append(f"what was executed is in {failed.relative_to(chapters.ROOT)}")
        if problems:
            raise ChapterError(f"{name} did not run to its end: " + "; ".join(problems))
        _tidy(executed)
        executed.metadata["lottery"] = {
            "schema": SCHEMA,
            "chapter": name,
            "profile": profile,
            "source_sha256": code_hash(notebook),
            "git": _git_state(),
            "versions": chapters.versions(),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 1),
            **ending(executed),
        }
        place = folder / f"{name}.ipynb"
        temporary = place.with_name(f".{place.name}.new")
        nbformat.write(executed, temporary)
        os.replace(temporary, place)
    return place


def _papermill(name, values, target, state, settings, show) -> str | None:
    """Executes; returns what went wrong, if anything did."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from traitlets import Unicode

    connection = target.with_name("kernel.json")
    short = len(os.fsencode(connection)) < 90  # a system allows the name of a socket about 100 bytes

    class LocalKernel(AsyncKernelManager):
        """A kernel behind files that only this user can read, instead of open ports of the machine.

        They lie in the scratch folder: jupyter_client's own place for them is the current directory, where two
        chapters that are executed at a time would talk to one kernel.
        """

        transport = Unicode("ipc" if os.name == "posix" and short else "tcp")
        connection_file = Unicode(str(connection))

    environment = {progress.VARIABLE: str(state), "LOTTERY_ROOT": str(chapters.ROOT), **settings}
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(name, state, stop, show), daemon=True)
    watcher.start()
    try:
        papermill.execute_notebook(
            os.path.relpath(chapters.ROOT / "notebooks" / f"{name}.ipynb"),
            target,
            parameters=values,
            cwd=chapters.ROOT,
            kernel_name="python3",
            progress_bar=False,
            kernel_manager_class=LocalKernel,
        )
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (DeadKernelError, CellTimeoutError) as error:
        return f"the kernel died ({error}): was there enough memory?"
    finally:
        stop.set()
        watcher.join()
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    return None


def _watch(name: str, state: Path, stop: threading.Event, show: bool) -> None:
    """Draws in this terminal the bar of the study that runs in the kernel."""
    if not show or not sys.stderr.isatty():
        return
    bar = None
    while not stop.wait(0.5):
        try:
            now = json.loads(state.read_text())
        except (OSError, ValueError):
            continue
        if bar is None or (bar.total, bar.unit) != (now["total"], now["unit"]):
            if bar is not None:
                bar.close()
            bar = progress.started(now["total"], now["unit"])
        bar.set_description_str(f"{name}: {now['said']}", refresh=False)
        bar.n = now["at"]
        bar.refresh()
    if bar is not None:
        bar.close()


def _tidy(notebook) -> None:
    """Removes what differs from run to run without meaning: error streams, papermill's times and paths."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]


def _git_state() -> dict:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(chapters.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": git("rev-parse", "HEAD"), "changed": changed}
    except (OSError, subprocess.CalledProcessError):
        return {}


def incomplete(notebook) -> list[str]:
    """What shows that a notebook did not run to its end; papermill's own metadata does not tell.

    A dead kernel and a timeout leave cells that never ran but are called completed there.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"cells did not run once each in order (execution counts {counts})")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        found.append("a cell ended with an error")
    if any("papermill-error-cell-tag" in cell.metadata.get("tags", ()) for cell in notebook.cells):
        found.append("papermill marked an error")
    if not ending(notebook):
        found.append("its last cell did not reach Chapter.finish()")
    return found


def ending(notebook) -> dict:
    """What `Chapter.finish` left (keys of the records, glued values, verdicts, parameters); empty if not reached."""
    for cell in reversed(notebook.cells):
        if cell.cell_type == "code":
            for output in cell.outputs:
                if "lottery" in output.get("metadata", {}):
                    return dict(output.metadata["lottery"])
            return {}
    return {}


# Publishing.


def published() -> dict[str, Path]:
    """The published chapters."""
    return {path.stem: path for path in sorted((chapters.ROOT / "book" / "chapters").glob("*.ipynb"))}


def results_folder() -> Path:
    """Where the committed records behind the published chapters lie."""
    return chapters.ROOT / "book" / "results"


def results_files() -> list[Path]:
    """The committed records."""
    return sorted(results_folder().glob("*.lotx"))


def publish_records(name: str, store: Store) -> list[Path]:
    """Writes the records that a published chapter rests on and no other one has into `book/results`."""
    folder = results_folder()
    for old in folder.glob(f"{name}*.lotx"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        others = set(Store(scratch).import_(results_files()))
    keys = nbformat.read(published()[name], as_version=4).metadata["lottery"]["keys"]
    return store.export([key for key in keys if key not in others], folder / f"{name}.lotx")


def run_published(folder: Path, show: bool = True) -> list[str]:
    """Executes the published chapters again from the committed records: no training, no data set, no GPU.

    Returns:
        What differs from the published numbers, one line each; empty if nothing does.
    """
    differences = []
    with tempfile.TemporaryDirectory() as scratch:
        Store(scratch).import_(results_files())
        settings = {"LOTTERY_STORE": scratch, "LOTTERY_READ_ONLY": "1"}
        for name, path in published().items():
            old = nbformat.read(path, as_version=4).metadata["lottery"]
            new = run(name, old["profile"], old["parameters"], folder=folder, settings=settings, show=show)
            again = nbformat.read(new, as_version=4).metadata["lottery"]
            for part in ("values", "verdicts"):
                for key in sorted(set(old[part]) | set(again[part])):
                    if old[part].get(key) != again[part].get(key):
                        differences.append(f"{name}: {key} was {old[part].get(key)!r}, is {again[part].get(key)!r}")
    return differences
