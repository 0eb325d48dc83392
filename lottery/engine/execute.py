"""Runs a graph of recipes: what is in the store is read, the rest is computed, here, in processes or on a cluster.

The graph, the keys and the records are the same whoever computes. Every run is computed under its lock, checkpointed,
and written to the store by whoever computed it; only recipes and keys travel.
"""

import contextlib
import heapq
import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from numbers import Integral

import torch

from .. import landscape, models
from ..recipes import Recipe, Run, rehearsed_again
from . import identity, stopping
from .check import check, forget, has
from .compute import Failure, FewerAtOnce, Report, named, steps_done, warn_elsewhere
from .plan import Task, batches, plan, registered, rooted
from .precision import undisturbed
from .progress import Bar
from .settings import cores
from .store import Record, Store
from .workers import Dask, Inline, Pool, PoolGone, Processes, Registered, Work, WorkerDied
from .world import ExecutionError, dataset_of, network_of, world

__all__ = [
    "EXECUTORS",
    "ExecutionError",
    "FewerAtOnce",
    "Study",
    "Task",
    "check",
    "choose",
    "dataset_of",
    "execute",
    "network_of",
    "plan",
    "world",
]

EXECUTORS = ("inline", "processes", "dask")
ATTEMPTS = 3  # how often a worker may die in a batch without having brought it further


@torch.inference_mode(mode=False)
@torch.enable_grad()
def execute(
    recipes: Sequence[Recipe],
    store: Store | str | os.PathLike,
    *,
    executor: str | None = None,
    jobs: int | None = None,
    device: str | torch.device = "cpu",
    scheduler: str | None = None,
    stack: int | None = None,
    deadline: float | None = None,
    show: bool = True,
) -> list[Record]:
    """Returns the records of the recipes, computing what the store lacks; also where gradients are switched off,
    or under autocast: what the caller works in changes no number.

    Threads that call it at once get what one would; what is computed in this process is computed one by one.

    Args:
        recipes: those that have records: runs, measurements, masks that pruning found, e.g. of `lottery.tickets.imp`.
        store: read first, and written by whoever computes; or its folder.
        executor: "inline", "processes" (one a run, one thread each) or "dask"; by default processes on a CPU with
            several cores, inline on a GPU.
        jobs: processes, or workers of a local Dask cluster; by default one a core.
        device: "cpu" or "cuda".
        scheduler: address of a running Dask cluster; its workers must see the store under the same path. Whoever can
            reach it can have code run on it; a local one is reachable by its user alone.
        stack: how many runs are trained as one batch, at most; by default 1 on a CPU and, on a GPU, as many as its
            free memory should hold (`compute.fitting`) where that is faster than one by one (`compute.pays`). A batch
            that does not fit after all is halved, with a `FewerAtOnce` warning.
        deadline: the time (`time.monotonic()`) from which nothing is begun any more and trainings are saved and
            stopped; SIGTERM and Ctrl-C do the same, see `lottery.engine.stopping`.
        show: a progress bar, in a terminal or a notebook.

    Returns:
        One record for each recipe, in order.

    Raises:
        OutOfTime: if the deadline or a signal (`stopping.Stopped`) came before the end.
        LotteryError: before anything is computed, for recipes that cannot be; `ExecutionError` at the end if some
            failed (the others are in the store), also because somebody else has computed them meanwhile with another
            network or recipe class of the same name.
    """
    recipes, store, device = _asked(recipes), store if isinstance(store, Store) else Store(store), str(device)
    _forget()
    identity.check_networks(recipes, store)
    if tasks := plan(recipes, store):
        given = registered(recipes)
        executor, jobs = choose(executor, jobs, device, scheduler, stack, rooted(recipes, given[1]))
        with undisturbed():
            check((task.recipe for task in tasks.values()), device)
        warn_elsewhere((task.recipe for task in tasks.values()), store, device)
        stack = stack if device.startswith("cuda") else stack or 1
        with _in_order(), store.in_use(), contextlib.ExitStack() as opened:  # `store gc` keeps out
            tasks = plan(recipes, store)  # again, for weights that it dropped until now
            identity.check_networks(recipes, store)  # again, for what others have computed until now
            study = Study(tasks, store, device, stack, deadline, show)
            opened.callback(study.bar.close)
            study.run(opened.enter_context(_pool(executor, jobs, scheduler, given, study.report)))
    return _records(recipes, tasks, store)


def _records(recipes: Sequence[Recipe], tasks: dict[str, Task], store: Store) -> list[Record]:
    """The records that were asked for, of which some have been computed now."""
    for task in tasks.values():  # what others have brought into the store, or old code of a running cluster
        identity.check_record(task.recipe, store)
    records = [record for recipe in recipes if (record := store.read(recipe.key))]
    if len(records) < len(recipes):
        raise ExecutionError("records were damaged meanwhile and set aside: run again, and they are computed again")
    return records


def _asked(recipes: Sequence[Recipe]) -> list[Recipe]:
    """What `execute` was handed, as a list; refuses what is none, and what has no record."""
    if isinstance(recipes, Recipe) or not isinstance(recipes, Iterable):
        raise ExecutionError(
            f"execute takes a list of recipes, not a {type(recipes).__name__}: write execute([run], …)"
        )
    recipes = list(recipes)
    for recipe in recipes:
        if not isinstance(recipe, Recipe):
            raise ExecutionError(f"execute takes a list of recipes; a {type(recipe).__name__} in it is none")
        if not recipe.stored:
            kind = type(recipe).__name__
            raise ExecutionError(f"{kind} is no recipe with a record of its own: execute a run or a measurement of it")
    return recipes


def _forget() -> None:
    """Drops what is remembered of networks of the user's: their factories may read what has changed since."""
    identity.forget()
    if models.registered():
        forget()
        rehearsed_again()
        landscape.forget()


def choose(
    executor: str | None = None,
    jobs: int | None = None,
    device: str = "cpu",
    scheduler: str | None = None,
    stack: int | None = None,
    rooted: str | None = None,
) -> tuple[str, int]:
    """Who is to compute, and how many at once; refuses what cannot be.

    Args:
        executor, jobs, device, scheduler, stack: as of `execute`.
        rooted: what keeps other processes from computing, in words.

    Raises:
        ExecutionError: saying what cannot be.
    """
    if jobs is None:
        jobs = cores()
    for name, number in (("jobs", jobs), ("stack", 1 if stack is None else stack)):
        if not isinstance(number, Integral) or number < 1:
            raise ExecutionError(f"{name} must be at least 1, not {number!r}")
    if scheduler is not None and executor not in (None, "dask"):
        raise ExecutionError(f"a scheduler's address goes with executor 'dask', not {executor!r}")
    if not has(device) and scheduler is None:
        found = ", ".join(f"cuda:{number}" for number in range(torch.cuda.device_count())) or "no GPU"
        raise ExecutionError(f"device {device!r} was asked for, but torch finds {found} here: use another, such as cpu")
    if executor is None:
        alone = jobs == 1 or device.startswith("cuda") or rooted
        executor = "dask" if scheduler else "inline" if alone else "processes"
    if executor not in EXECUTORS:
        raise ExecutionError(f"no executor {executor!r}; known: {', '.join(EXECUTORS)}")
    if executor != "inline" and rooted:
        raise ExecutionError(
            f"{rooted} cannot be sent to other processes: define it (of a network, its factory) in a module "
            "that they can import, or use executor 'inline'"
        )
    return executor, jobs


def _in_order() -> contextlib.AbstractContextManager:
    """Signals are taken as requests to save and stop, unless somebody looks after them already."""
    main = threading.current_thread() is threading.main_thread()
    free = main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    return stopping.in_order() if free else contextlib.nullcontext()


def _pool(
    executor: str, jobs: int, scheduler: str | None, given: Registered, report: Callable[[int], None]
) -> contextlib.AbstractContextManager[Pool]:
    if executor == "inline":
        return contextlib.nullcontext(Inline(report))
    return Processes(jobs, given) if executor == "processes" else Dask(jobs, scheduler, given)


@dataclass(eq=False)
class _Batch:
    """Tasks that are computed together.

    Attributes:
        tasks: key → task; those that fail are taken out.
        number: its place in the plan.
        waiting: keys of those of its tasks that others come before.
        busy: whether somebody else was found to compute in it.
        again: `time.monotonic()` before which it is not tried again beside others.
        deaths: how many workers have died in it since it last got further.
        mark: how far it was when it was last begun.
    """

    tasks: dict[str, Task]
    number: int
    waiting: set[str] = field(default_factory=set)
    busy: bool = False
    again: float = 0.0
    deaths: int = 0
    mark: tuple = ()

    @property
    def first(self) -> Task:
        return next(iter(self.tasks.values()))

    def order(self, scans_first: bool) -> tuple:
        """What takes milliseconds first, and the longest chains, which keeps all workers busy to the end.

        Args:
            scans_first: what is measured of networks goes before training.
        """
        ahead = -max(task.ahead for task in self.tasks.values())
        return not self.first.recipe.light, self.busy, not (scans_first and _scan(self.first)), ahead, self.number


class Study:
    """A graph of tasks on its way through a pool.

    Args:
        tasks: of `plan`.
        store, device, stack, deadline, show: as of `execute`.
    """

    def __init__(
        self,
        tasks: dict[str, Task],
        store: Store,
        device: str = "cpu",
        stack: int | None = 1,
        deadline: float | None = None,
        show: bool = False,
    ):
        self.tasks, self.store, self.device, self.stack, self.deadline = tasks, store, device, stack, deadline
        self.waits = {key: len(task.after) for key, task in tasks.items()}
        self.then: dict[str, list[str]] = {key: [] for key in tasks}
        for key, task in tasks.items():
            for first in task.after:
                self.then[first].append(key)
        self.of: dict[str, _Batch] = {}
        self.ready: list[tuple[tuple, _Batch]] = []
        self.running: dict[Future[Report], _Batch] = {}
        self.finished: queue.SimpleQueue[Future[Report]] = queue.SimpleQueue()
        self.failed: dict[str, Failure] = {}
        self.done: set[str] = set()
        self.runs = self.steps = self.scans = 0  # done, of each
        self.shown = -1.0
        runs = sum(isinstance(task.recipe, Run) for task in tasks.values())
        self.bar = Bar(runs, sum(task.steps for task in tasks.values()), show, sum(map(_scan, tasks.values())))

    def run(self, pool: Pool) -> None:
        """Computes all that can be computed.

        Raises:
            OutOfTime: if the deadline or a signal came before the end.
            ExecutionError: if some failed.
        """
        self._gather(pool.places)
        stopped = False
        while self.ready or self.running:
            if stopping.due(self.deadline):
                self.ready.clear()
                if (signal_ := stopping.asked()) and not stopped:
                    stopped = True
                    pool.stop(signal_)
            self._begin(pool)
            self._collect()
            if self.running:
                pool.watch()
        left = len(self.tasks) - len(self.done) - len(self.failed)
        if left:
            raise stopping.error(f"{left} of {len(self.tasks)} recipes are left, and those begun are saved")
        if self.failed:
            raise self._error()

    def report(self, steps: int) -> None:
        """Shows how many steps are done of a batch that is computed here."""
        self.bar.update(self.runs, self.steps + steps, self.scans)

    def _gather(self, places: int) -> None:
        for number, group in enumerate(batches(self.tasks.values(), self.stack, places)):
            batch = _Batch({task.recipe.key: task for task in group}, number)
            batch.waiting = {key for key in batch.tasks if self.waits[key]}
            self.of.update(dict.fromkeys(batch.tasks, batch))
            if not batch.waiting:
                self._push(batch)

    def _push(self, batch: _Batch) -> None:
        # Before a deadline, what is measured comes as soon as it can: weights may not outlive the time, records do.
        heapq.heappush(self.ready, (batch.order(self.deadline is not None), batch))

    def _begin(self, pool: Pool) -> None:
        """Begins what is ready, as far as there is place and time."""
        while self.ready and not stopping.due(self.deadline):
            batch = self.ready[0][1]
            if len(self.running) >= (pool.places if not batch.first.recipe.light else math.inf):
                return
            if batch.busy and self.running and time.monotonic() < batch.again:
                return
            heapq.heappop(self.ready)
            work = self._work(batch)
            if batch.first.recipe.light:
                self._settle(batch, work.compute())
                continue
            batch.mark = self._mark(batch)
            future = pool.submit(work)
            self.running[future] = batch
            future.add_done_callback(self.finished.put)

    def _work(self, batch: _Batch) -> Work:
        return Work(
            [task.recipe for task in batch.tasks.values()],
            [task.keep for task in batch.tasks.values()],
            self.store.root.absolute(),
            "cpu" if batch.first.recipe.light else self.device,
            self.stack,
            batch.first.recipe.light or (batch.busy and not self.running),
            None if self.deadline is None else self.deadline - time.monotonic(),
            identity.given(task.recipe for task in batch.tasks.values()),
        )

    def _collect(self) -> None:
        """Waits for what comes next, at most a second."""
        if not self.running:
            return
        with contextlib.suppress(queue.Empty):
            future = self.finished.get(timeout=1.0)
            while True:
                self._take(future)
                future = self.finished.get_nowait()
        self._show()

    def _take(self, future: "Future[Report]") -> None:
        batch = self.running.pop(future)
        error = future.exception()
        if error is None:
            self._settle(batch, future.result())
        elif isinstance(error, WorkerDied):
            self._died(batch, error)
        elif isinstance(error, PoolGone):
            raise error
        else:
            self._lose(batch, f"{type(error).__name__}: {error}")

    def _settle(self, batch: _Batch, report: Report) -> None:
        if report.busy:
            batch.busy, batch.again = True, time.monotonic() + 1
            self._push(batch)
            return
        for key in list(batch.tasks):
            if key in report.failed:
                self._fail(key, report.failed[key])
            elif key not in report.left:
                self._finish(key)

    def _finish(self, key: str) -> None:
        task = self.tasks[key]
        self.done.add(key)
        self.runs += isinstance(task.recipe, Run)
        self.scans += _scan(task)
        self.steps += task.steps
        for other in self.then[key]:
            self.waits[other] -= 1
            if not self.waits[other]:
                self._free(other)

    def _free(self, key: str) -> None:
        """A task no longer keeps its batch waiting."""
        batch = self.of[key]
        if key in batch.waiting:
            batch.waiting.remove(key)
            if batch.tasks and not batch.waiting:
                self._push(batch)

    def _fail(self, key: str, why: Failure) -> None:
        """A task has failed, and with it all that rests on it."""
        gone = [key]
        while gone:
            key = gone.pop()
            if key not in self.failed:
                self.failed[key] = why
                self.of[key].tasks.pop(key)
                self._free(key)
                gone += self.then[key]

    def _lose(self, batch: _Batch, why: str) -> None:
        done = steps_done(self.store, batch.first.recipe.key) // len(batch.tasks)
        for key, task in list(batch.tasks.items()):
            at = f", at about step {task.recipe.start + done}" if isinstance(task.recipe, Run) else ""
            self._fail(key, Failure(f"{named(task.recipe)}{at}", why))

    def _died(self, batch: _Batch, error: WorkerDied) -> None:
        """The batch goes on from its checkpoint, unless workers die and die without getting further."""
        batch.deaths = batch.deaths + error.deaths if self._mark(batch) == batch.mark else 0
        if batch.deaths >= ATTEMPTS:
            self._lose(batch, f"its worker died {batch.deaths} times without getting further; the last time {error}")
        else:
            self._push(batch)

    def _mark(self, batch: _Batch) -> tuple:
        """How far a batch is: its checkpoints and records."""
        marks: list[object] = []
        for key in batch.tasks:
            for path in self.store.checkpoints(key):
                with contextlib.suppress(FileNotFoundError):
                    marks.append((path.name, path.stat().st_mtime_ns))
            marks.append((key in self.store, tuple(sorted(self.store.states(key)))))
        return tuple(marks)

    def _show(self) -> None:
        """Brings the bar up to date, at most once a second while something is computed elsewhere."""
        if time.monotonic() - self.shown > 1 or not self.running:
            self.shown = time.monotonic()
            now = self.steps + sum(steps_done(self.store, batch.first.recipe.key) for batch in self.running.values())
            self.bar.update(self.runs, now, self.scans)

    def _error(self) -> ExecutionError:
        first = next(iter(self.failed.values()))
        error = ExecutionError(
            f"{len(self.failed)} of {len(self.tasks)} recipes could not be computed (the others are in the store); "
            f"the first: {first}"
        )
        if first.trace:
            error.add_note(first.trace)
        return error


def _scan(task: Task) -> bool:
    return not (isinstance(task.recipe, Run) or task.recipe.light)
