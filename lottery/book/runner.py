"""The strict runner around papermill, provenance, and publishing.

`run` refuses wrong parameters before a kernel starts, and puts an executed notebook in its place only if every cell ran
to the end.
"""

import contextlib
import functools
import hashlib
import io
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import nbformat

from .. import LotteryError
from ..engine import archive, disk, progress, stopping
from ..engine.disk import StoreError
from ..engine.execute import choose
from ..engine.settings import VARIABLE, Settings, current
from ..engine.store import Store
from .chapter import git_state, versions
from .parameters import ChapterError
from .planning import Part, book, published, read, source, visible
from .text import count

SCHEMA = 1
_T = TypeVar("_T")


def code_hash(notebook) -> str:
    """SHA-256 over the code cells of a notebook; what papermill injects is left out."""
    cells = [
        c.source
        for c in notebook.cells
        if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", ())
    ]
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def output_folder(profile: str, publish: bool = False) -> Path:
    """Where executed chapters go: the published ones into `book/chapters`, others under `_build`."""
    return book() / "book" / "chapters" if publish else book() / "_build" / profile / "chapters"


def check_writable(*folders: Path) -> None:
    """Refuses folders in which nothing can be kept, before the work whose results they are for.

    Raises:
        ChapterError: naming the folder, and why.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(2**20))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ChapterError(f"nothing can be written to {folder}: {error.strerror}") from None


def run(
    name: str,
    profile: str = "quick",
    given: Mapping[str, object] | None = None,
    *,
    folder: Path | None = None,
    settings: Settings | None = None,
    show: bool = True,
) -> Path:
    """Executes a chapter with papermill.

    Args:
        name: of the chapter.
        profile: "quick", "standard" or "paper": the values of its parameters.
        given: parameters that differ from the profile; texts are read in the parameter's type.
        folder: where the executed notebook goes; by default `output_folder(profile)`.
        settings: where results are kept, by whom they are computed.
        show: a progress bar in the terminal.

    Returns:
        Path of the executed notebook.

    Raises:
        ParameterError: before a kernel starts, if a parameter is unknown, mistyped or out of range, or if they cannot
            be together.
        ChapterError: if a cell failed or did not run. What was executed so far is kept under `_build/failed`; what
            was in the notebook's place stays.
        OutOfTime: if a signal asked to stop; what was computed is in the store, trainings are saved.
    """
    part, settings = Part(name, profile, given or {}), settings or current()
    folder = Path(folder or output_folder(profile))
    part.check(Store(settings.store), settings)
    check_writable(folder, Path(tempfile.gettempdir()))
    notebook = source(name)
    began, started = time.perf_counter(), datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / f"{name}.ipynb"
        settings = settings.but(progress=Path(scratch) / "progress.json")
        failure = _papermill(name, part.parameters, target, settings, show)
        problems = [failure] if failure else []
        executed = read(target) if target.exists() else None
        if executed is None:
            problems = problems or ["papermill wrote no notebook"]
        else:
            problems += [p for p in incomplete(executed) if not failure]
            if problems:
                problems.append(_keep_failed(target))
        if executed is None or problems:
            raise ChapterError(f"{name} did not run to its end: " + "; ".join(problems))
        _tidy(executed)
        executed.metadata["lottery"] = {
            "schema": SCHEMA,
            "chapter": name,
            "profile": profile,
            "source_sha256": code_hash(notebook),
            "git": git_state(),
            "versions": versions(),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 1),
            **ending(executed),
            "outputs_sha256": outputs_hash(executed),
        }
        return _put(executed, folder / f"{name}.ipynb")


def attempt(name: str, profile: str, given: Mapping[str, object], show: bool, **more) -> Path | LotteryError:
    """As `run`, but an error is returned, so that other chapters are still executed; being stopped is raised."""
    try:
        return run(name, profile, given, show=show, **more)
    except stopping.OutOfTime:
        raise
    except LotteryError as error:
        return error


def outputs_hash(notebook) -> str:
    """SHA-256 of what a notebook's cells show."""
    shown = [cell.get("outputs", []) for cell in notebook.cells]
    return hashlib.sha256(json.dumps(shown, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _put(notebook, place: Path) -> Path:
    """Writes beside the place and switches then; what a killed run left there an hour ago is removed."""
    with disk.explained(f"the executed chapter {place}"):
        return _switched(notebook, place)


def _switched(notebook, place: Path) -> Path:
    for left in place.parent.glob(".*.ipynb.new"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 3600:
                left.unlink()
    temporary = place.with_name(f".{place.stem}.{uuid.uuid4().hex}.ipynb.new")
    try:
        nbformat.write(notebook, temporary)
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)
    return place


def _keep_failed(target: Path) -> str:
    failed = book() / "_build" / "failed" / target.name
    try:
        failed.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(target, failed)
    except OSError as error:
        return f"what was executed could not be kept in {failed.parent}: {error.strerror or error}"
    return f"what was executed is in {failed.relative_to(book())}"


def _papermill(name: str, values: Mapping, target: Path, settings: Settings, show: bool) -> str | None:
    """Executes; returns what went wrong, if anything did."""
    import papermill
    from jupyter_client.manager import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from traitlets import Unicode

    from . import forked

    connection = target.with_name("kernel.json")
    short = len(os.fsencode(connection)) < 90  # a system allows the name of a socket about 100 bytes

    class LocalKernel(AsyncKernelManager):
        """A kernel behind files that only this user can read, instead of open ports of the machine.

        They lie in the scratch folder: jupyter_client's own place for them is the current directory, where two
        chapters that are executed at a time would talk to one kernel.
        """

        transport = Unicode("ipc" if os.name == "posix" and short else "tcp")
        connection_file = Unicode(str(connection))

        async def start_kernel(self, **more):
            if forked.POSSIBLE:
                self.provisioner = forked.Forking(parent=self, kernel_id=name, kernel_spec=self.kernel_spec)
            # Not papermill's `cwd`: that is the directory of the whole process, also of chapters executed beside this.
            own = {"env": {**os.environ, **forked.QUIET, VARIABLE: settings.model_dump_json()}, "cwd": str(book())}
            await super().start_kernel(**more, **own)
            _kernels.append(self.provisioner)
            if stopping.asked():
                _hand_on()

    try:
        with stopping.in_order(tell=_hand_on), _watched(name, settings.progress, show):
            try:
                papermill.execute_notebook(
                    os.path.relpath(book() / "notebooks" / f"{name}.ipynb"),
                    target,
                    parameters=dict(values),
                    kernel_name="python3",
                    progress_bar=False,
                    kernel_manager_class=LocalKernel,
                )
            finally:
                if stopping.asked():
                    raise stopping.error(f"{name} is not at its end, what was begun is saved") from None
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (DeadKernelError, CellTimeoutError) as error:
        return f"the kernel died ({error}): was there enough memory?"
    return None


_kernels: list = []  # provisioners of all that this process has started


def _hand_on() -> None:
    """Kernels stop in good order, and with each the cell that it executes, and so papermill."""
    for kernel in list(_kernels):
        if kernel.has_process:
            os.kill(kernel.pid, signal.SIGINT)


def run_beside(tasks: Sequence[Callable[[bool], _T]], settings: Settings) -> Iterator[_T]:
    """Does what each task does, as many at a time as there are cores; a kernel that starts or draws needs one.

    Args:
        tasks: each executes a chapter by `run`; told whether to show its progress, which it may if it is alone.
        settings: by which chapters are executed.

    Yields:
        What the tasks return, in their order; what the first one raises that fails ends them all.
    """
    executor, jobs = choose(settings.executor, settings.jobs, settings.device, settings.scheduler, settings.stack)
    if executor == "inline" or jobs == 1 or len(tasks) == 1:
        for task in tasks:
            yield task(True)
        return
    with stopping.in_order(tell=_hand_on), ThreadPoolExecutor(jobs) as pool:
        try:
            for future in [pool.submit(task, False) for task in tasks]:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def told(
    keys: Mapping[str, Sequence[str]], store: Store, say: Callable[[str], None], quiet: float = 60.0
) -> Iterator[None]:
    """Meanwhile says, a line each, which chapters have all their recipes, and how many there are.

    Args:
        keys: chapter → those of all records that it needs.
        store: into which they are computed.
        say: is told the lines, by another thread.
        quiet: seconds after which one recipe more is said; by then or not, each tenth is.
    """
    lacking = {name: left for name, own in keys.items() if (left := [key for key in own if key not in store])}
    if not lacking:
        yield
        return
    stop = threading.Event()
    teller = threading.Thread(target=_tell, args=(lacking, len(keys), store, say, quiet, stop), daemon=True)
    teller.start()
    try:
        yield
    finally:
        stop.set()
        teller.join()


def _tell(
    lacking: Mapping[str, Sequence[str]],
    chapters: int,
    store: Store,
    say: Callable[[str], None],
    quiet: float,
    stop: threading.Event,
) -> None:
    left, lacking, before, last = set().union(*lacking.values()), dict(lacking), 0, time.monotonic()
    total = len(left)
    say(f"computing {count(total, 'recipe')}")
    while lacking:
        stopped = stop.wait(1)
        left = {key for key in left if key not in store}
        for name in [name for name, own in lacking.items() if left.isdisjoint(own)]:
            del lacking[name]
            say(f"{name}: computed, {chapters - len(lacking)} of {count(chapters, 'chapter')}")
        done = total - len(left)
        if 10 * done // total > 10 * before // total or (done > before and time.monotonic() > last + quiet):
            before, last = done, time.monotonic()
            say(f"{done} of {count(total, 'recipe')} computed")
        if stopped:
            return


@contextlib.contextmanager
def _watched(name: str, state: Path | None, show: bool) -> Iterator[None]:
    """Draws in this terminal the bar of the study that runs in the kernel."""
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(name, state, stop), daemon=True)
    if show and state is not None and sys.stderr.isatty():
        watcher.start()
    try:
        yield
    finally:
        stop.set()
        if watcher.ident is not None:
            watcher.join()


def _watch(name: str, state: Path, stop: threading.Event) -> None:
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
        if "injected-parameters" in cell.metadata.get("tags", ()):
            cell.metadata["tags"].append("hide-input")  # folded like all code
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]


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


def results_folder() -> Path:
    """Where the committed records behind the published chapters lie."""
    return book() / "book" / "results"


def results_files() -> list[Path]:
    """The committed records."""
    return visible(results_folder(), "*.lotx")


def take_committed(names: Collection[str], keys: Iterable[str], store: Store) -> None:
    """Takes committed records into the store that more than these chapters rest on, so that none is computed again.

    Another processor would give them other numbers, and chapters would not fit together.

    Args:
        names: the chapters to publish; what only they rest on may be computed anew.
        keys: of the records that these chapters rest on.
        store: where they are computed.

    Raises:
        StoreError: if the store has some of them from another training, or a committed file is damaged.
    """
    chapters, wanted, differ = published(), set(keys), []
    for path in results_files():  # of chapters, or of runs under way: all are read when records are published
        archive.Archive(path).file.close()
    elsewhere = {key for name, path in chapters.items() if name not in names for key in rests_on(path)}
    for name in chapters:
        files = archive.parts(results_folder() / f"{name}.lotx")
        held = {key for path in files for key in archive.held(path)}
        shared = held & (elsewhere if name in names else wanted)
        if any(store.read(key) is None for key in shared):
            store.import_(files, shared)
        for path in files if shared else ():
            differ += [f"{key} ({path.name})" for key in archive.differing(path, shared, store.read)]
    if differ:
        raise StoreError(
            f"{count(len(differ), 'record')} that other chapters rest on, too, came out otherwise in {store.root} than "
            f"in book/results: {', '.join(differ[:3])}{' …' * (len(differ) > 3)}\n"
            "Publish from a new store (`--store DIR`), which takes in what is committed, or publish all these chapters "
            "together."
        )


def publish_records(name: str, store: Store) -> list[Path]:
    """Writes the records that a published chapter rests on and no other one has into `book/results`.

    What other chapters rest on and only its file had stays in that file; it is taken into the store for that. A file
    whose contents stay the same keeps its bytes: another zlib compresses otherwise, and git would keep both.

    Raises:
        StoreError: if the store lacks any of them; what was committed stays as it was.
    """
    target, chapters = results_folder() / f"{name}.lotx", published()
    own = archive.parts(target)
    others = {key for path in results_files() if path not in own for key in archive.keys(path)}
    needed = {key for other, path in chapters.items() if other != name for key in rests_on(path)}
    shared = {key for path in own for key in archive.keys(path)} & needed - others
    keys = [key for key in rests_on(chapters[name]) if key not in others]
    if shared and all(key in store for key in keys):
        store.import_(own)
    before = {path: path.read_bytes() for path in own}
    written = store.export([*dict.fromkeys([*keys, *sorted(shared)])], target)
    for path in written:
        if path in before and archive.contents(io.BytesIO(before[path])) == archive.contents(path):
            path.write_bytes(before[path])
    return written


def rests_on(path: Path) -> list[str]:
    """The keys of the records that an executed chapter rests on."""
    return read(path).metadata.get("lottery", {}).get("keys", [])


def same(one: Any, other: Any) -> bool:
    """Whether two values of executed chapters are equal, numbers to nine digits: processors add up in other orders."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if one == other:
        return True
    with contextlib.suppress(ValueError):  # glued numbers are texts
        return math.isclose(*(float(str(value)) for value in (one, other)), rel_tol=1e-9, abs_tol=1e-12)
    return False


def run_published(
    folder: Path, settings: Settings | None = None, say: Callable[[str], None] = lambda line: None
) -> tuple[list[str], dict[str, LotteryError]]:
    """Executes the published chapters again from the committed records: no training, no data set, no GPU, no pictures.

    Args:
        folder: where the executed notebooks go.
        settings: by whom chapters are executed.
        say: is told how far it is, a line a chapter.

    Returns:
        What differs from the published numbers, one line each, nothing if it is rounding; chapter → error of those that
        failed.
    """
    differences: list[str] = []
    failed: dict[str, LotteryError] = {}
    with tempfile.TemporaryDirectory() as scratch:
        say(f"taking in the records of {count(len(published()), 'published chapter')}")
        Store(scratch).import_(results_files())
        settings = (settings or current()).but(store=Path(scratch), read_only=True, draw=False)
        said = {name: read(path).metadata.get("lottery") for name, path in published().items()}
        before = {name: made for name, made in said.items() if made}
        failed |= {
            name: ChapterError(f"{name}: the page does not say how it was made: it is not published")
            for name in said.keys() - before.keys()
        }
        tasks = [
            functools.partial(attempt, name, old["profile"], old["parameters"], folder=folder, settings=settings)
            for name, old in before.items()
        ]
        for at, (name, new) in enumerate(zip(before, run_beside(tasks, settings), strict=True), 1):
            if isinstance(new, LotteryError):
                failed[name], outcome = new, "failed"
            else:
                differ = _differences(before[name], read(new).metadata["lottery"])
                differences += [f"{name}: {line}" for line in differ]
                outcome = f"executed, {count(len(differ), 'number')} not as published"
            say(f"{name} ({at} of {len(before)}): {outcome}")
    return differences, failed


def _differences(old: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} was {old[part].get(key)!r}, is {again[part].get(key)!r}"
        for part in ("values", "verdicts")
        for key in sorted(set(old[part]) | set(again[part]))
        if not same(old[part].get(key), again[part].get(key))
    ]
