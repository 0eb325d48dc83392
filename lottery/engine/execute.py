"""Runs a graph of recipes: what is in the store is read, the rest is computed, here, in processes or on a cluster.

The graph, the keys and the records are the same whoever computes. Every run is computed under its lock, checkpointed,
and written to the store by whoever computed it; only recipes and keys travel.
"""

import contextlib
import functools
import gc
import math
import os
import pickle
import platform
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from multiprocessing import get_context, parent_process

import numpy as np
import torch

from .. import LotteryError, __version__, data, masks, models
from ..recipes import Pruned, Recipe, Run, Training, World, closure
from . import train as engine
from .network import stackable
from .precision import exact
from .progress import Bar
from .store import Record, Store

EXECUTORS = ("inline", "processes", "dask")
ATTEMPTS = 3  # how often a task is begun before the death of its worker counts as its own fault; last time alone


class ExecutionError(LotteryError):
    """Some recipes could not be computed; those that could are in the store."""


class FewerAtOnce(UserWarning):
    """Runs that did not fit into memory together go on as smaller batches."""


# From recipes to tensors.


def dataset_of(training: Training, device: str = "cpu") -> data.Dataset:
    """The data that a training is given: the whole of it, or its part of the training examples."""
    dataset = data.load(training.data, training.validation, training.scaling, device)
    first, every = training.part
    return replace(dataset, train=tuple(tensor[first::every] for tensor in dataset.train)) if every > 1 else dataset


def _module(training: Training) -> torch.nn.Module:
    dataset = dataset_of(training)
    return models.build(training.model, dataset.shape, dataset.classes)


class _World:
    """What recipes are computed in: `lottery.recipes.World` over a store."""

    def __init__(self, store: Store, device: str = "cpu"):
        self.store, self.device = store, device

    def dataset(self, training: Training) -> data.Dataset:
        return dataset_of(training, self.device)

    def network(self, training: Training) -> torch.nn.Module:
        return _module(training)

    def record(self, recipe: Recipe) -> Record:
        record = self.store.read(recipe.key)
        if record is None:
            raise ExecutionError(f"the {type(recipe).__name__} {recipe.key[:12]} is not in the store")
        return record

    def state(self, run: Run, step: int) -> models.State:
        state = self.store.state(run.key, step)
        if state is None:
            raise ExecutionError(f"the weights of run {run.key[:12]} at step {step} are not kept")
        return state


def world(store: Store, device: str = "cpu") -> World:
    """What recipes are computed in, over a store."""
    return _World(store, device)


# Planning.


@dataclass
class Task:
    """One recipe to be computed.

    Attributes:
        recipe: what.
        keep: steps whose dense weights others need.
        after: keys of the tasks that come first.
        ahead: steps to train on the longest way from here to the end of the study.
    """

    recipe: Recipe
    keep: set[int] = field(default_factory=set)
    after: set[str] = field(default_factory=set)
    ahead: int = 0

    @property
    def steps(self) -> int:
        return self.recipe.training.steps - self.recipe.start if isinstance(self.recipe, Run) else 0


def plan(recipes: Iterable[Recipe], store: Store) -> dict[str, Task]:
    """What has to be computed so that each recipe has a record: key → task, what comes first before its readers.

    A run that has a record is computed again only if a recipe without one needs dense weights that were dropped. What
    was set aside as damaged is computed again, asked for or only rested on.
    """
    recipes = list(recipes)
    tasks: dict[str, Task] = {}
    present: dict[tuple[str, int | None], bool] = {}

    def there(recipe: Recipe, step: int | None) -> bool:
        if (recipe.key, step) not in present:
            found = store.read(recipe.key) is not None
            present[recipe.key, step] = found and (step is None or store.state(recipe.key, step) is not None)
        return present[recipe.key, step]

    def want(recipe: Recipe, step: int | None = None) -> set[str]:
        if there(recipe, step):
            return set()
        if recipe.key not in tasks:
            after = set().union(*(want(*read) for read in recipe.reads()))
            tasks[recipe.key] = Task(recipe, after=after)
        if step is not None:
            tasks[recipe.key].keep.add(step)
        return {recipe.key}

    whole = closure(recipes)
    for recipe in whole:
        there(recipe, None)  # reading sets aside what is damaged
    lost = store.lost()
    for recipe in [*recipes, *(recipe for recipe in whole if recipe.key in lost)]:
        want(recipe)
    for task in reversed(tasks.values()):
        for key in task.after:
            tasks[key].ahead = max(tasks[key].ahead, task.ahead + task.steps)
    return tasks


def check(recipes: Iterable[Recipe], device: str = "cpu") -> None:
    """Refuses what can be seen to fail before anything is computed: unknown names, data that cannot be had, a batch
    larger than the data, augmentation of what is no image, a precision that the device lacks, pruned fractions that do
    not fit the network.

    Raises:
        LotteryError: saying what is wrong and what is known.
    """
    recipes = list(recipes)
    for training in {recipe.training for recipe in recipes if isinstance(recipe, Run)}:
        models.check(training.model)
        engine.check_precision(training.precision, device)
        dataset = dataset_of(training)
        if training.batch > len(dataset.train[1]):
            raise ExecutionError(
                f"a batch of {training.batch} is larger than the {len(dataset.train[1])} training "
                f"examples of {training.data}"
            )
        if training.augment and len(dataset.shape) != 3:
            raise ExecutionError(
                f"inputs of shape {dataset.shape} are no images [C, H, W]: {training.data} cannot be augmented"
            )
        models.build(training.model, dataset.shape, dataset.classes)
    pruned = (recipe for recipe in recipes if isinstance(recipe, Pruned))
    for recipe in {(recipe.run.training, recipe.fraction): recipe for recipe in pruned}.values():
        masks.rates(recipe.table, models.prunable(_module(recipe.run.training)))


# Computing. What follows runs in whichever process does the work.


def _made(device: str, seconds: float, stacked: int) -> dict:
    return {
        "lottery": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        "stacked": stacked,
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, 1 thread"
    return f"{platform.processor() or platform.machine()}, 1 thread"


def _compute_result(recipe: Recipe, store: Store, device: str) -> None:
    began = time.perf_counter()
    with exact(device):
        values, arrays = recipe.compute(world(store, device))
    store.save(recipe.key, recipe.json(), values, arrays, _made(device, time.perf_counter() - began, 1))


class _Steps:
    """Tells the coordinating process how far a run is, through a small file at most once a second."""

    def __init__(self, store: Store, key: str, report: Callable[[int], None] | None):
        self.path, self.report = _steps_file(store, key), report
        self.done, self.told = 0, time.monotonic()

    def __call__(self, steps: int) -> None:
        self.done += steps
        if self.report:
            self.report(self.done)
        elif time.monotonic() - self.told > 1:
            self.told = time.monotonic()
            with contextlib.suppress(OSError):
                self.path.write_text(str(self.done))


def _steps_file(store: Store, key: str):
    return store.root / "partial" / f"{key}.steps"


def _compute_runs(
    runs: Sequence[Run],
    keeps: Sequence[set[int]],
    store: Store,
    device: str,
    report: Callable[[int], None] | None,
    deadline: float | None,
) -> None:
    training = runs[0].training
    dataset = dataset_of(training, device)
    names = models.prunable(_module(training))
    began = time.perf_counter()
    here = world(store)
    given = [run.mask.tensors(here, training) for run in runs]
    starts = [
        engine.Start(run.weights.tensors(here, training), mask, run.order, run.start)
        for run, mask in zip(runs, given, strict=True)
    ]
    checkpoint = store.checkpoint(*(run.key for run in runs))
    keep = set().union(*keeps)
    outcomes = engine.train(
        training,
        dataset,
        starts,
        keep,
        checkpoint,
        checkpoint_seconds=float(os.environ.get("LOTTERY_CHECKPOINT_SECONDS", 60)),
        progress=_Steps(store, runs[0].key, report),
        deadline=deadline,
    )
    seconds = (time.perf_counter() - began) / len(runs)
    for run, start, outcome, kept in zip(runs, starts, outcomes, keeps, strict=True):
        values, arrays = _digest(run, start, outcome, names)
        states = {step: outcome.states[step] for step in kept | {training.steps}}
        store.save(run.key, run.json(), values, arrays, _made(device, seconds, len(runs)), states)
    checkpoint.drop()
    _steps_file(store, runs[0].key).unlink(missing_ok=True)


def _digest(run: Run, start: engine.Start, outcome: engine.Outcome, names) -> tuple[dict, dict]:
    """The values and small arrays of a run's record."""
    history = outcome.history
    best = int(np.argmin(history["validation_loss"]))
    values = {
        "density": masks.density(start.mask),
        "weights_left": masks.count(start.mask),
        # The iteration of minimum validation loss, found afterwards (Frankle & Carbin 2019, Section 2).
        "early_stop_step": int(history["step"][best]),
        "early_stop_test_accuracy": float(history["test_accuracy"][best]),
        "train_accuracy_end": outcome.train_accuracy,
        "train_loss_end": outcome.train_loss,
    }
    for column in ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy"):
        values[f"{column}_end"] = float(history[column][-1])
    arrays = {f"history/{column}": array for column, array in history.items()}
    final = outcome.states[run.training.steps]
    for name in names:
        before, after = (state[name][start.mask[name]].numpy() for state in (start.weights, final))
        arrays[f"signs/{name}"] = np.packbits(after > 0)
        if run.start:
            arrays[f"start_signs/{name}"] = np.packbits(before > 0)
        reach = max(np.abs(before).max(), np.abs(after).max())
        edges = np.linspace(-reach, reach, 82, dtype=np.float64)
        arrays[f"histogram/{name}"] = np.stack([np.histogram(w, edges)[0] for w in (before, after)]).astype(np.int32)
        arrays[f"reach/{name}"] = np.array(reach, dtype=np.float64)
    return values, arrays


@contextlib.contextmanager
def _one_thread(device: str):
    """CPU results are bit for bit the same only with the same number of threads: always one a run."""
    before = torch.get_num_threads()
    if not device.startswith("cuda"):
        engine.tune_process(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def compute(
    recipes: Sequence[Recipe],
    keeps: Sequence[set[int]],
    store: Store,
    device: str = "cpu",
    report: Callable[[int], None] | None = None,
    deadline: float | None = None,
) -> None:
    """Computes recipes of one kind together, under their locks; what somebody else finished meanwhile is left alone.

    Args:
        recipes: one recipe, or several runs that can be stacked.
        keeps: for each the steps whose dense weights are kept.
        store: where inputs are read and the records written.
        device: "cpu" or "cuda".
        report: called with the steps done so far.
        deadline: as of `train.train`.
    """
    with contextlib.ExitStack() as stack:
        for key in sorted(recipe.key for recipe in recipes):
            stack.enter_context(store.lock(key))
        stack.enter_context(_one_thread(device))
        left = [
            (recipe, keep)
            for recipe, keep in zip(recipes, keeps, strict=True)
            if store.read(recipe.key) is None or not keep <= store.states(recipe.key)
        ]
        if not left:
            return
        if isinstance(left[0][0], Run):
            _compute_runs(*zip(*left, strict=True), store, device, report, deadline)
        else:
            for recipe, _ in left:
                _compute_result(recipe, store, device)


def _work(payload: bytes) -> None:
    """The whole of what a worker does for one task."""
    recipes, keeps, root, device, deadline, sets, networks = pickle.loads(payload)
    data.adopt(sets)
    models.adopt(networks)
    compute(recipes, keeps, Store(root), device, deadline=deadline)


# Who computes. Each is a context manager that gives an object with `submit(function, argument) -> Future`.


class _Inline:
    def submit(self, function, argument):
        future = Future()
        try:
            future.set_result(function(argument))
        except Exception as error:
            future.set_exception(error)
        return future


def _die_with_parent() -> None:
    """Ends this worker when the coordinating process is gone, however it went; its run goes on from its checkpoint."""

    def watch():
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Processes:
    """A pool of processes that survives the death of its workers, and does not survive its owner."""

    def __init__(self, jobs: int):
        self.jobs, self.pool = jobs, None

    def _start(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.jobs, get_context("spawn"), initializer=_die_with_parent)

    def submit(self, function, argument):
        with _main_hidden():
            if self.pool is None:
                self.pool = self._start()
            try:
                return self.pool.submit(function, argument)
            except BrokenProcessPool:
                self.pool.shutdown(wait=False)
                self.pool = self._start()
                return self.pool.submit(function, argument)

    def close(self):
        if self.pool is not None:
            for process in list((self.pool._processes or {}).values()):
                if sys.exc_info()[0] is not None:
                    process.terminate()
            self.pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _main_hidden():
    """Keeps new processes from running the user's script again.

    A spawned process imports `__main__` from its file, which in a script without the `if __name__` guard would start
    the study once more. Workers need nothing from there.
    """
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), main.__dict__.pop("__file__", None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if file is not None:
            main.__file__ = file


@contextlib.contextmanager
def _workers(executor: str, jobs: int, scheduler: str | None):
    if executor == "inline":
        yield _Inline()
    elif executor == "processes":
        pool = _Processes(jobs)
        try:
            yield pool
        finally:
            pool.close()
    else:
        try:
            from distributed import Client, LocalCluster
        except ImportError as error:
            raise ExecutionError("the dask executor needs the extra: pip install '.[cluster]'") from error
        with contextlib.ExitStack() as stack:
            if scheduler is None:
                stack.enter_context(_main_hidden())  # to the end: a worker that dies is started anew
                cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
                scheduler = stack.enter_context(cluster)
            client = stack.enter_context(Client(scheduler, set_as_default=False))
            # The scheduler itself begins a task again whose worker died; one that raised would only raise again.
            yield client.get_executor(pure=False)


def _registered(recipes: Iterable[Recipe]) -> tuple[dict, dict]:
    """The user's own data sets and networks that the recipes use: what workers have to be handed."""
    trainings = {recipe.training for recipe in closure(recipes) if isinstance(recipe, Run)}
    sets, networks = data.registered(), models.registered()
    return (
        {name: sets[name] for name in sorted({training.data for training in trainings} & set(sets))},
        {name: networks[name] for name in sorted({training.model for training in trainings} & set(networks))},
    )


def _portable(networks: dict) -> bool:
    """Whether other processes can be handed these networks."""
    try:
        pickle.dumps(networks)
    except Exception:
        return False
    return all(getattr(factory, "__module__", None) != "__main__" for factory in networks.values())


def _choose(
    executor: str | None, jobs: int | None, device: str, scheduler: str | None, stack: int | None, networks: dict
) -> tuple[str, int]:
    if jobs is None:
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs < 1:
        raise ExecutionError(f"jobs must be at least 1, not {jobs}")
    if stack is not None and stack < 1:
        raise ExecutionError(f"stack must be at least 1, not {stack}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ExecutionError("device 'cuda' was asked for, but torch finds no GPU here: use --device cpu")
    if scheduler is not None and executor not in (None, "dask"):
        raise ExecutionError(f"a scheduler's address goes with executor 'dask', not {executor!r}")
    if executor is None:
        alone = jobs == 1 or device.startswith("cuda") or not _portable(networks)
        executor = "dask" if scheduler else "inline" if alone else "processes"
    if executor not in EXECUTORS:
        raise ExecutionError(f"no executor {executor!r}; known: {', '.join(EXECUTORS)}")
    if executor != "inline" and not _portable(networks):
        raise ExecutionError(
            "a registered network cannot be sent to other processes: define its factory in a module "
            "that they can import, or use executor 'inline'"
        )
    return executor, jobs


def fitting(training: Training, free: int) -> int:
    """How many runs of a training fit as one batch into `free` bytes of a device's memory, by `train.memory`.

    A power of two, so that a study which is interrupted and goes on forms the same batches again, with somewhat other
    memory free, and finds their checkpoints.
    """
    dataset = dataset_of(training)
    a_run, _ = engine.memory(training, dataset)
    return 2 ** int(math.log2(max(1.0, (0.8 * free - engine.TOGETHER) / a_run)))


def pays(training: Training, device: str) -> bool:
    """Whether runs of a training go faster as one batch than one by one on this GPU: measured, four against one.

    Linear layers gain from it everywhere; convolutions become grouped convolutions, which can be slower than their
    parts. A hundred steps each are timed, once for each kind of network in a process.
    """
    plain = Training(
        training.data,
        training.model,
        300,
        training.batch,
        training.optimiser,
        1e-4,
        augment=training.augment,
        validation=training.validation,
        scaling=training.scaling,
        evaluate=((300, 300),),
        part=training.part,
        precision=training.precision,
        layout=training.layout,
    )
    return _measured(plain, device)


@functools.lru_cache
def _measured(training: Training, device: str) -> bool:
    dataset = dataset_of(training, device)
    small = {
        part: tuple(tensor[: max(200, training.batch)] for tensor in getattr(dataset, part))
        for part in ("train", "validation", "test")
    }
    dataset = replace(dataset, **small)
    weights = models.initial_weights(training.model, dataset.shape, dataset.classes, 0)

    def seconds(count):
        times = []

        def tell(steps):
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.perf_counter())

        starts = [engine.Start(weights, {}, (i,)) for i in range(count)]
        engine.train(training, dataset, starts, progress=tell)
        return (times[1] - times[0]) / count

    try:
        return seconds(4) < seconds(1)
    except (torch.OutOfMemoryError, engine.TrainingError):
        return False


def _free(device: str) -> int:
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


class _Stacks:
    """How many runs of a kind are trained as one batch.

    Args:
        stack: as of `execute`.
        device: "cpu" or "cuda".
    """

    def __init__(self, stack: int | None, device: str):
        self.stack, self.device = stack if device.startswith("cuda") else stack or 1, device
        self.limits: dict[tuple, int] = {}
        self.alone: set[str] = set()  # runs that failed in a batch: one that diverges must not take the others with it

    def limit(self, run: Run) -> int:
        kind = run.training, run.start
        if kind not in self.limits:
            one = not stackable(run.training, dataset_of(run.training)) or not (
                self.stack or pays(run.training, self.device)
            )
            self.limits[kind] = 1 if one else self.stack or fitting(run.training, _free(self.device))
        return self.limits[kind]

    def halve(self, group: list[Task]) -> None:
        run, count = group[0].recipe, len(group) // 2
        self.limits[run.training, run.start] = count
        warnings.warn(
            f"{len(group)} runs of {run.training.model} with batches of {run.training.batch} do not fit into "
            f"the memory of {self.device} together: going on with {count} at a time",
            FewerAtOnce,
            stacklevel=2,
        )

    def batches(self, ready: list[Task]) -> list[list[Task]]:
        """Groups of runs that differ only in weights, mask and seeds."""
        if self.stack == 1:
            return [[task] for task in ready]
        groups: dict[tuple | str, list[Task]] = {}
        for task in ready:
            run = task.recipe
            together = isinstance(run, Run) and run.key not in self.alone
            groups.setdefault((run.training, run.start) if together else run.key, []).append(task)
        limits = [self.limit(group[0].recipe) if len(group) > 1 else 1 for group in groups.values()]
        return [
            group[i : i + limit]
            for group, limit in zip(groups.values(), limits, strict=True)
            for i in range(0, len(group), limit)
        ]


def _too_large(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in str(error)


def execute(
    recipes: Sequence[Recipe],
    store: Store,
    *,
    executor: str | None = None,
    jobs: int | None = None,
    device: str = "cpu",
    scheduler: str | None = None,
    stack: int | None = None,
    deadline: float | None = None,
    show: bool = True,
) -> list[Record]:
    """Returns the records of the recipes, computing what the store lacks.

    Args:
        recipes: runs and masks, e.g. from `lottery.recipes.imp`.
        store: read first, and written by whoever computes.
        executor: "inline", "processes" (one a run, one thread each) or "dask"; by default processes on a CPU with
            several cores, inline on a GPU.
        jobs: processes, or workers of a local Dask cluster; by default one a core.
        device: "cpu" or "cuda".
        scheduler: address of a running Dask cluster; its workers must see the store under the same path.
        stack: how many runs are trained as one batch; by default, on a GPU, as many as its free memory should hold
            (`fitting`) where that is faster than one by one (`pays`), and 1 on a CPU. A batch that does not fit after
            all is halved, with a `FewerAtOnce` warning.
        deadline: the time (`time.time()`) from which nothing is begun any more and trainings are saved and stopped.
        show: a progress bar.

    Returns:
        One record for each recipe, in order.

    Raises:
        OutOfTime: if the deadline came before the end.
        LotteryError: before anything is computed, for recipes that cannot be; `ExecutionError` at the end if some
            failed (the others are in the store).
    """
    recipes = list(recipes)
    if tasks := plan(recipes, store):
        registered = _registered(recipes)
        executor, jobs = _choose(executor, jobs, device, scheduler, stack, registered[1])
        check((task.recipe for task in tasks.values()), device)
        stacks = _Stacks(stack, device)
        with store.in_use():  # keeps `store gc` out
            tasks = plan(recipes, store)  # again, for weights that it dropped until now
            _execute(tasks, store, registered, executor, jobs, device, scheduler, stacks, deadline, show)
    records = [store.read(recipe.key) for recipe in recipes]
    if None in records:
        raise ExecutionError("records were damaged meanwhile and set aside: run again, and they are computed again")
    return records


def _execute(tasks, store, registered, executor, jobs, device, scheduler, stacks, deadline, show) -> None:
    total = sum(task.steps for task in tasks.values())
    runs = sum(isinstance(task.recipe, Run) for task in tasks.values())
    scans = sum(not (isinstance(task.recipe, Run) or task.recipe.light) for task in tasks.values())
    waiting, failed, done_runs, done_steps, done_scans = dict(tasks), {}, 0, 0, 0
    running: dict[Future, list[Task]] = {}
    attempts: dict[str, int] = {}
    late = 0  # recipes that the deadline left undone
    places = 1 if executor == "inline" else math.inf if scheduler else jobs
    bar = Bar(runs, total, show, scans)

    def finish(group: list[Task]) -> None:
        nonlocal done_runs, done_steps, done_scans
        for task in group:
            done_runs += isinstance(task.recipe, Run)
            done_scans += not (isinstance(task.recipe, Run) or task.recipe.light)
            done_steps += task.steps
            for other in waiting.values():
                other.after.discard(task.recipe.key)
        bar.update(done_runs, done_steps, done_scans)

    def fail(group: list[Task], error: BaseException) -> None:
        gone = [task.recipe.key for task in group]
        failed.update(dict.fromkeys(gone, error))
        while gone:  # and with them all that rests on them
            lost = [key for key, task in waiting.items() if task.after & set(gone)]
            for key in lost:
                failed[key] = error
                del waiting[key]
            gone = lost

    def over() -> bool:
        return deadline is not None and time.time() >= deadline

    def suspect(group: list[Task]) -> bool:
        """One worker's death ends the tasks of a whole pool: the last attempt has no neighbours to take along."""
        return any(attempts.get(task.recipe.key, 0) == ATTEMPTS - 1 for task in group)

    with _workers(executor, jobs, scheduler) as pool, contextlib.closing(bar):
        while waiting or running:
            if over():
                late += len(waiting)
                waiting.clear()
            ready = [task for task in waiting.values() if not task.after]
            for task in [task for task in ready if task.recipe.light]:
                if over():
                    break
                del waiting[task.recipe.key]
                try:
                    compute([task.recipe], [task.keep], store)
                    finish([task])
                except engine.OutOfTime:
                    late += 1
                except Exception as error:
                    fail([task], error)
            ready = [task for task in waiting.values() if not task.after and not task.recipe.light]
            ready.sort(key=lambda task: -task.ahead)  # the longest chain first keeps all workers busy to the end
            for group in stacks.batches(ready):
                if over() or len(running) >= places or any(map(suspect, running.values())):
                    break
                if running and suspect(group):
                    continue
                for task in group:
                    del waiting[task.recipe.key]
                work = ([task.recipe for task in group], [task.keep for task in group])
                if executor == "inline":

                    def here(work, base=done_steps):
                        n = len(work[0])
                        compute(
                            *work,
                            store,
                            device,
                            lambda steps: bar.update(done_runs, base + n * steps, done_scans),
                            deadline,
                        )

                    future = pool.submit(here, work)
                else:
                    given = *work, store.root.absolute(), device, deadline, *registered
                    future = pool.submit(_work, pickle.dumps(given))
                running[future] = group
            if not running:
                continue
            finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                group = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    for task in group:
                        key = task.recipe.key
                        attempts[key] = attempts.get(key, 0) + 1
                    if attempts[group[0].recipe.key] < ATTEMPTS:
                        waiting.update({task.recipe.key: task for task in group})  # goes on from its checkpoint
                        continue
                if error is None:
                    finish(group)
                elif isinstance(error, engine.OutOfTime):
                    late += len(group)
                elif len(group) > 1 and isinstance(error, engine.TrainingError):
                    stacks.alone.update(task.recipe.key for task in group)
                    waiting.update({task.recipe.key: task for task in group})
                elif len(group) > 1 and _too_large(error):
                    stacks.halve(group)
                    store.checkpoint(*(task.recipe.key for task in group)).drop()
                    traceback.clear_frames(error.__traceback__)  # they hold the tensors that took the memory
                    gc.collect()
                    if device.startswith("cuda"):
                        torch.cuda.empty_cache()
                    waiting.update({task.recipe.key: task for task in group})
                else:
                    fail(group, error)
            if executor != "inline":
                now = done_steps + sum(_steps_done(store, group) for group in running.values())
                bar.update(done_runs, now, done_scans)
    if late:
        raise engine.OutOfTime(f"time is up: {late} of {len(tasks)} recipes are left, and those begun are saved")
    if failed:
        first = next(iter(failed.values()))
        raise ExecutionError(
            f"{len(failed)} of {len(tasks)} recipes could not be computed (the others are in the store); "
            f"the first: {type(first).__name__}: {first}"
        ) from first


def _steps_done(store: Store, group: list[Task]) -> int:
    with contextlib.suppress(OSError, ValueError):
        return int(_steps_file(store, group[0].recipe.key).read_text()) * len(group)
    return 0
