"""The computing of a batch, in whichever process does it: under its locks, from its checkpoints, into the store.

What does not fit into memory together is halved; a run that diverges is taken out, and the others go on. Nothing is
raised for a recipe that fails: a report says in text what became of each, and no network outlives its batch.
"""

import contextlib
import functools
import gc
import json
import math
import platform
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from .. import LotteryError, __version__, models, seeds
from ..curvature import free_memory
from ..models import FewerAtOnce, State
from ..recipes import Recipe, Run, Training
from . import identity, settings, stopping
from . import train as engine
from .digest import digest
from .errors import Diverged, TrainingError, empty_frames
from .locks import Busy
from .precision import check_precision, exact, multiplying, undisturbed
from .stopping import OutOfTime
from .store import Checkpoint, Store
from .world import dataset_of, network_of, world


class MadeElsewhere(UserWarning):
    """The weights of runs are trained again, whose records were made elsewhere: they may not come out the same."""


@dataclass(frozen=True)
class Failure:
    """Why a recipe could not be computed, as text: exceptions would keep their networks alive.

    Attributes:
        what: the recipe.
        why: the error, with its type.
        trace: the traceback.
    """

    what: str
    why: str
    trace: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


@dataclass
class Report:
    """What became of a batch.

    Attributes:
        failed: key → why, of those that failed.
        left: keys of those that time was up for.
        busy: whether somebody else holds one of the locks and nothing was done.
    """

    failed: dict[str, Failure] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    busy: bool = False


def named(recipe: Recipe) -> str:
    """A recipe in words: type, key, network, data, steps."""
    training = recipe.own_training
    of = f" ({training.model} on {training.data}, {training.steps} steps)" if training is not None else ""
    return f"{type(recipe).__name__} {recipe.key[:12]}{of}"


def failure(recipe: Recipe, error: BaseException) -> Failure:
    """An error as text. Its frames, which hold networks, are cleared."""
    why = f"{type(error).__name__}: {error}"
    if not isinstance(error, LotteryError | torch.OutOfMemoryError) and error.__traceback__ is not None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        why += f" (in {frame.name}, {Path(frame.filename).name}, line {frame.lineno})"
    trace = "".join(traceback.format_exception(error))
    empty_frames(error)
    return Failure(named(recipe), why, trace)


class Steps:
    """Tells the coordinating process how far a batch is: directly, or by a small file at most once a second."""

    def __init__(self, store: Store, key: str, report: Callable[[int], None] | None):
        self.path, self.report = store.steps(key), report
        self.done, self.told = 0, time.monotonic()

    def add(self, steps: int) -> None:
        """Counts steps, of all networks together."""
        self.done += steps
        if self.report:
            self.report(self.done)
        elif time.monotonic() - self.told > 1:
            self.told = time.monotonic()
            with contextlib.suppress(OSError):
                self.path.write_text(str(self.done))

    def close(self) -> None:
        """Removes the file."""
        with contextlib.suppress(OSError):  # it only feeds a bar
            self.path.unlink()


def steps_done(store: Store, key: str) -> int:
    """How many steps of a batch are done, as far as a file tells; `key` is of its first recipe."""
    with contextlib.suppress(OSError, ValueError):
        return int(store.steps(key).read_text())
    return 0


@contextlib.contextmanager
def _one_thread(device: str) -> Iterator[None]:
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
    *,
    report: Callable[[int], None] | None = None,
    deadline: float | None = None,
    stack: int | None = None,
    wait: bool = True,
    networks: identity.Given = (),
) -> Report:
    """Computes recipes of one kind together, under their locks; what somebody else finished meanwhile is left alone.

    Threads of one process compute one after the other: torch has one global generator, seeded for each.

    Args:
        recipes: one recipe, or several runs that can be stacked.
        keeps: for each the steps whose dense weights are kept.
        store: where inputs are read and the records written.
        device: "cpu" or "cuda".
        report: called with the steps done so far, of all networks together.
        deadline: as of `train.train`.
        stack: how many runs are trained as one; None finds out, on a GPU, what fits its memory and whether it pays.
        wait: for a lock that somebody else holds.
        networks: that are to be computed with, if this is another process than theirs.
    """
    with contextlib.ExitStack() as locks:
        while not seeds.alone.acquire(timeout=1.0):  # another thread computes, and its time is its own
            if stopping.due(deadline):
                return Report(left={recipe.key for recipe in recipes})
        locks.callback(seeds.alone.release)
        locks.enter_context(undisturbed())
        try:
            for key in sorted(recipe.key for recipe in recipes):
                locks.enter_context(store.lock(key, wait))
        except Busy:
            return Report(busy=True)
        locks.enter_context(_one_thread(device))
        left, failed = _left(dict(zip(recipes, keeps, strict=True)), store, networks)
        if runs := {recipe: keep for recipe, keep in left.items() if isinstance(recipe, Run)}:
            outcome = _Together(runs, store, device, report, deadline).compute(stack)
        else:
            outcome = _results(list(left), store, device)
        outcome.failed.update(failed)
        return outcome


def _left(
    keeps: dict[Recipe, set[int]], store: Store, networks: identity.Given
) -> tuple[dict[Recipe, set[int]], dict[str, Failure]]:
    """What is still to be computed, and what cannot be had, as no check before the study could see: this process has
    another network of the same name, or somebody else has computed it with another one, or another recipe class."""
    left, failed = {}, {}
    for recipe, keep in keeps.items():
        try:
            identity.same_as_given(networks)
            identity.check_record(recipe, store)
            if store.read(recipe.key) is None or not keep <= store.states(recipe.key):
                left[recipe] = keep
        except LotteryError as error:
            failed[recipe.key] = failure(recipe, error)
    return left, failed


def _results(recipes: Sequence[Recipe], store: Store, device: str) -> Report:
    """Computes recipes that are no runs, one by one."""
    outcome = Report()
    for recipe in recipes:
        began = time.perf_counter()
        try:
            check_precision(recipe.products, device)
            with exact(device), multiplying(recipe.products, torch.device(device)):
                values, arrays = recipe.compute(world(store, device))
            store.save(recipe.key, recipe.json(), values, arrays, _made(recipe, device, time.perf_counter() - began, 1))
        except OutOfTime:
            outcome.left.add(recipe.key)
        except Exception as error:
            outcome.failed[recipe.key] = failure(recipe, error)
    return outcome


_limits: dict[tuple[Training, int, str], int] = {}  # how many runs of a kind fitted, once a batch did not


class _Together:
    """Runs that can be trained as one batch.

    Args:
        keeps: run → steps whose dense weights are kept.
        store, device, report, deadline: as of `compute`.
    """

    def __init__(self, keeps: dict[Run, set[int]], store: Store, device: str, report, deadline: float | None):
        self.keeps, self.store, self.device, self.deadline = keeps, store, device, deadline
        first = next(iter(keeps))
        self.training, self.kind = first.training, (first.training, first.start, device)
        self.steps = Steps(store, first.key, report)
        self.outcome = Report()

    def compute(self, stack: int | None) -> Report:
        """Trains them, as many at once as can be."""
        pending = list(self.keeps)
        try:
            limit = self._limit(len(pending), stack)
        except Exception as error:
            return Report({run.key: failure(run, error) for run in pending})
        alone: set[str] = set()
        while pending:
            size = 1 if pending[0].key in alone else min(limit, _until(pending, alone))
            group = pending[:size]
            try:
                self._train(group)
                gone = {run.key for run in group}
            except OutOfTime:
                self.outcome.left.update(run.key for run in pending)
                break
            except Exception as error:
                failed = self._failed(group, error)
                if failed is None:
                    limit = _limits[self.kind] = len(group) // 2
                elif not failed:
                    alone.update(run.key for run in group)
                self.outcome.failed.update(failed or {})
                gone = set(failed or ())
                self._free(error)
            pending = [run for run in pending if run.key not in gone]
        self.steps.close()
        return self.outcome

    def _limit(self, count: int, stack: int | None) -> int:
        known = _limits.get(self.kind)
        if stack is None and self.device.startswith("cuda") and count > 1:
            stack = min(count, known or fitting(self.training, free_memory(torch.device(self.device))))
            stack = stack if stack > 1 and pays(self.training, self.device, stack) else 1
        return min(known or count, stack or 1)

    def _failed(self, group: list[Run], error: Exception) -> dict[str, Failure] | None:
        """What an error in training a group means: which runs failed by it, {} if each is to be tried alone, None if
        fewer are to be tried at once."""
        if len(group) == 1:
            return {group[0].key: failure(group[0], error)}
        if _too_large(error):
            warnings.warn(
                f"{len(group)} runs of {self.training.model} with batches of {self.training.batch} do not fit into "
                f"the memory of {self.device} together: going on with {len(group) // 2} at a time",
                FewerAtOnce,
                stacklevel=2,
            )
            return None
        if isinstance(error, Diverged):
            return {group[place].key: failure(group[place], error) for place in error.places}
        if isinstance(error, TrainingError | RuntimeError):  # which may be the stack's alone
            return {}
        return {run.key: failure(run, error) for run in group}

    def _free(self, error: Exception) -> None:
        empty_frames(error)  # frames hold the tensors that took the memory
        gc.collect()
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _train(self, runs: Sequence[Run]) -> None:
        began, training, here = time.perf_counter(), self.training, world(self.store)
        dataset, names = dataset_of(training, self.device), models.prunable(network_of(training))
        identity.network(training)  # remembered; what cannot be told apart from others fails now, not at the end
        starts = [
            engine.Start(run.weights.tensors(here, training), run.mask.tensors(here, training), run.order, run.start)
            for run in runs
        ]
        if not all(start.mask for start in starts):
            raise TrainingError(f"the mask of {training.model} has no layers: all True where nothing is cut")
        checkpoint = _Session(self.store.checkpoint(*(run.key for run in runs)), training, began)
        try:
            outcomes = engine.train(
                training,
                dataset,
                starts,
                set().union(*(self.keeps[run] for run in runs)),
                checkpoint,
                checkpoint_seconds=settings.current().checkpoint_seconds,
                progress=lambda steps: self.steps.add(steps * len(runs)),
                deadline=self.deadline,
            )
        except (TrainingError, torch.OutOfMemoryError):
            if len(runs) > 1:
                checkpoint.drop()  # of no use to what is tried next
            raise
        dataset.intact(training.model)
        seconds = checkpoint.seconds() / len(runs)
        for run, start, outcome in zip(runs, starts, outcomes, strict=True):
            values, arrays = digest(run, start, outcome, names)
            states = {step: outcome.states[step] for step in self.keeps[run] | {training.steps}}
            made = _made(run, self.device, seconds, len(runs))
            self.store.save(run.key, run.json(), values, arrays, made, states)
        checkpoint.drop()


def _until(pending: list[Run], alone: set[str]) -> int:
    """How many at the beginning are not to be trained alone."""
    return next((place for place, run in enumerate(pending) if run.key in alone), len(pending))


class _Session:
    """The checkpoint of runs in this session; it knows the seconds of earlier ones and whose network it holds."""

    def __init__(self, checkpoint: Checkpoint, training: Training, began: float):
        self.checkpoint, self.training, self.began, self.before = checkpoint, training, began, 0.0

    def seconds(self) -> float:
        """Of all sessions."""
        return self.before + time.perf_counter() - self.began

    def load(self) -> State | None:
        tensors = self.checkpoint.load()
        if tensors is not None:
            known = bytes(tensors.pop("network", torch.zeros(0, dtype=torch.uint8)).tolist())
            what = f"the checkpoint {self.checkpoint.path}"
            identity.same_network(self.training, json.loads(known) if known else None, what)
            self.before = float(tensors.pop("seconds", 0.0))
        return tensors

    def save(self, tensors: State) -> None:
        known = json.dumps(identity.network(self.training)).encode()
        more = {"network": torch.tensor(list(known), dtype=torch.uint8), "seconds": torch.tensor(self.seconds())}
        self.checkpoint.save(tensors | more)

    def drop(self) -> None:
        self.checkpoint.drop()


def _too_large(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "STATUS_ALLOC_FAILED" in str(error)


# How many at once.


def fitting(training: Training, free: int) -> int:
    """How many runs of a training fit as one batch into `free` bytes of a device's memory, by `train.memory`.

    A power of two, so that a study which is interrupted and goes on forms the same batches again, with somewhat other
    memory free, and finds their checkpoints.
    """
    a_run, _ = engine.memory(training, dataset_of(training))
    return 2 ** int(math.log2(max(1.0, (0.8 * free - engine.TOGETHER) / a_run)))


def pays(training: Training, device: str, count: int) -> bool:
    """Whether runs of a training go faster as one batch of `count` than one by one here: measured with so many.

    Linear layers gain from it everywhere; convolutions become grouped convolutions, which can be slower than their
    parts. Two short trainings of each are timed, whose difference is 40 steps without what comes before the first; once
    for each kind of network in a process.
    """
    plain = replace(training, steps=60, lr=1e-4, milestones=(), warmup=0, evaluate=((60, 60),), seed=0)
    return _faster(plain, device, count)


@functools.lru_cache
def _faster(training: Training, device: str, count: int) -> bool:
    dataset = dataset_of(training, device)
    few = {part: tuple(tensor[:100] for tensor in getattr(dataset, part)) for part in ("validation", "test")}
    weights = models.initial_weights(training.model, dataset.shape, dataset.classes, 0)
    dataset = replace(dataset, **few)

    def seconds(together: int, steps: int) -> float:
        starts = [engine.Start(weights, {}, (i,)) for i in range(together)]
        short = replace(training, steps=steps, evaluate=((steps, steps),))
        began = time.perf_counter()
        engine.train(short, dataset, starts)
        return time.perf_counter() - began

    def of_a_step(together: int) -> float:
        seconds(together, 20)  # libraries choose their ways
        return seconds(together, 60) - seconds(together, 20)

    try:
        return of_a_step(count) < count * of_a_step(1)
    except (RuntimeError, TrainingError):  # out of memory, or whatever a stack of such layers meets on this device
        return False


# How a record came about.


def _made(recipe: Recipe, device: str, seconds: float, stacked: int) -> dict:
    made = {
        "lottery": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        **_here(device),
        "stacked": stacked,
        "seconds": round(seconds, 1),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code": identity.code(recipe.json()),
    }
    training = getattr(recipe, "training", None)
    if isinstance(training, Training) and (isinstance(recipe, Run) or training.model in models.registered()):
        made["network"] = identity.network(training)
    own, parts = identity.own_code(recipe.json()), identity.own_parts(recipe.json())
    return made | ({"own": own} if own else {}) | ({"own_parts": parts} if parts else {})


def _here(device: str) -> dict[str, str]:
    own = torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor()
    return {"torch": torch.__version__, "device": own}


def warn_elsewhere(recipes: Iterable[Recipe], store: Store, device: str) -> None:
    """Warns of runs among what is to be computed that have records, made with another torch or on another device.

    Only their weights were dropped; where these do not come out as those of the record, `Store.save` refuses them.
    """
    here = _here(device)
    made = [record.made for one in recipes if isinstance(one, Run) and (record := store.read(one.key))]
    other = [{key: one.get(key, "unknown") for key in here} for one in made]
    if other := [one for one in other if one != here]:
        then, now = (f"torch {one['torch']} on {one['device']}" for one in (other[0], here))
        runs = f"{len(other)} run" + "s" * (len(other) > 1)
        warnings.warn(
            f"the weights of {runs} are needed and trained again, but their records were made elsewhere ({then}; here: "
            f"{now}): where they do not come out the same, these runs fail at their end, and what rests on them is not "
            "computed. Go on where they were made, or in a store of its own",
            MadeElsewhere,
            stacklevel=3,
        )


@functools.cache
def _processor() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, 1 thread"
    return f"{platform.processor() or platform.machine()}, 1 thread"
