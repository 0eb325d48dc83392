"""Who computes: this process, processes of its own, or a Dask cluster.

Each is a context manager that gives a pool: `places` says how many batches it takes at a time, `submit` takes one and
returns a future of its report, `stop` asks all to save and end.
"""

import contextlib
import functools
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from os import _exit
from pathlib import Path
from typing import Protocol, cast

from .. import data, models
from ..recipes import Recipe, inside
from . import stopping
from .compute import Report, compute
from .identity import Given
from .store import Store
from .world import ExecutionError

Registered = tuple[dict, dict]  # data sets and networks of the user's, by name


class WorkerDied(Exception):
    """A process ended in the middle of a batch; the text says how.

    Attributes:
        deaths: how many workers in a row did.
    """

    def __init__(self, how: str, deaths: int = 1):
        super().__init__(how)
        self.deaths = deaths


@dataclass(frozen=True)
class Work:
    """A batch as it travels.

    Attributes:
        recipes, keeps, device, stack, wait, networks: as of `compute.compute`.
        store: the folder.
        seconds: until trainings are to be saved and stopped; None: no limit.
        sent: `time.time()` at which that was so: time in a queue counts.
    """

    recipes: Sequence[Recipe]
    keeps: Sequence[set[int]]
    store: Path
    device: str
    stack: int | None = None
    wait: bool = True
    seconds: float | None = None
    networks: Given = ()
    sent: float = field(default_factory=time.time)

    def compute(self, report: Callable[[int], None] | None = None) -> Report:
        """Computes it here."""
        deadline = None
        if self.seconds is not None:  # a clock that was set back does not prolong it
            deadline = time.monotonic() + self.seconds - max(0.0, time.time() - self.sent)
        return compute(
            self.recipes,
            self.keeps,
            Store(self.store),
            self.device,
            report=report,
            deadline=deadline,
            stack=self.stack,
            wait=self.wait,
            networks=self.networks,
        )


def packed(work: Work) -> bytes:
    """A batch for another process; innermost parts go first, for a chain may have more levels than pickle enters."""
    return pickle.dumps((inside(work.recipes)[::-1], work))


def _answer(registered: bytes, message: bytes) -> Report:
    _adopt(registered)
    _, work = pickle.loads(message)
    return work.compute()


@functools.lru_cache(maxsize=1)
def _adopt(registered: bytes) -> None:
    """Takes over the registered data sets and networks of the process that asks, once."""
    sets, networks = pickle.loads(registered)
    data.adopt(sets)
    models.adopt(networks)


class Pool(Protocol):
    """Who computes."""

    @property
    def places(self) -> int:
        """How many batches can be computed at once."""
        ...

    def submit(self, work: Work) -> "Future[Report]":
        """Begins a batch, or queues it."""
        ...

    def stop(self, by: signal.Signals) -> None:
        """Asks all to save and to end what they are at; called when this process was asked by a signal."""
        ...

    def watch(self) -> None:
        """Sees, now and then, that there still is who computes.

        Raises:
            PoolGone: if nobody is there any more.
        """
        ...


class PoolGone(ExecutionError):
    """Nobody computes any more; what was saved is in the store."""


class NoWorkers(UserWarning):
    """A cluster has no worker: a study waits for one."""


# This process.


class Inline:
    """Computes where it is called.

    Args:
        report: called with the steps done of the batch at work, of all networks together.
    """

    places = 1

    def __init__(self, report: Callable[[int], None]):
        self.report = report

    def submit(self, work: Work) -> "Future[Report]":
        future: Future[Report] = Future()
        try:
            future.set_result(work.compute(self.report))
        except Exception as error:
            future.set_exception(error)
        return future

    def stop(self, by: signal.Signals) -> None:
        """Nothing to do: whoever computes here has seen the signal."""

    def watch(self) -> None:
        """Nothing to see: it is this process."""


# Processes.

# Not `multiprocessing`: its processes run the user's script once more, and a dead one takes a whole pool along without
# a word on who died of what.
_PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # before imports that take seconds
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.path[:] = sys.argv[2:]
from lottery.engine import workers
workers.serve(int(sys.argv[1]))
"""


class _Process:
    """A process that computes one batch after the other, and ends with this one."""

    def __init__(self, registered: Registered):
        self.connection, theirs = Pipe()
        with theirs:
            arguments = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *sys.path]
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._send(pickle.dumps(registered))

    def _send(self, message: bytes) -> None:
        try:
            self.connection.send_bytes(message)
        except OSError:
            raise WorkerDied(self._cause()) from None

    def compute(self, work: Work) -> Report:
        self._send(packed(work))
        try:
            answer = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            raise WorkerDied(self._cause()) from None
        if isinstance(answer, str):
            raise ExecutionError(answer)
        return answer

    def _cause(self) -> str:
        status = self.process.wait()
        if status >= 0:
            return f"it ended with status {status}"
        with contextlib.suppress(ValueError):
            hint = ", as a system does that is out of memory" if -status == signal.SIGKILL else ""
            return f"it was ended by {signal.Signals(-status).name}{hint}"
        return f"it was ended by signal {-status}"

    def end(self) -> None:
        """Ends the process; what it computes is lost since its checkpoint."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


class Processes:
    """Processes of one thread each, begun when needed and again when one has died."""

    def __init__(self, jobs: int, registered: Registered):
        self.places, self.registered = jobs, registered
        self.threads = ThreadPoolExecutor(jobs)  # each waits for one process
        self.idle: deque[_Process] = deque()
        self.all: set[_Process] = set()

    def submit(self, work: Work) -> "Future[Report]":
        return self.threads.submit(self._compute, work)

    def _compute(self, work: Work) -> Report:
        try:
            process = self.idle.pop()
        except IndexError:
            process = _Process(self.registered)
            self.all.add(process)
        try:
            report = process.compute(work)
        except WorkerDied:
            self.all.discard(process)
            raise
        self.idle.append(process)
        return report

    def stop(self, by: signal.Signals) -> None:
        for process in list(self.all):
            process.process.terminate()

    def watch(self) -> None:
        """Nothing to see: who waits for a process is told that it died."""

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error) -> None:
        for process in list(self.all):
            process.end()
        self.threads.shutdown(cancel_futures=True)


def serve(descriptor: int) -> None:
    """What a worker process does: it answers batches with reports until whoever asks is gone, however that went."""
    stopping.in_worker()
    connection, asked, given = Connection(descriptor), threading.Semaphore(0), deque()

    def listen():
        while True:
            try:
                given.append(connection.recv_bytes())
            except (EOFError, OSError):
                _exit(1)  # the runs go on from their checkpoints
            asked.release()

    threading.Thread(target=listen, daemon=True).start()
    asked.acquire()
    registered = given.popleft()
    while True:
        asked.acquire()
        try:
            answer: Report | str = _answer(registered, given.popleft())
        except Exception as error:
            answer = f"a worker process cannot read what it is sent: {type(error).__name__}: {error}"
        connection.send_bytes(pickle.dumps(answer))


# Dask.

ANSWER_SECONDS = 10  # how long the scheduler of a running cluster may take to answer
PATIENCE = 10.0  # seconds without a worker until a study says that it waits
GONE = 60.0  # seconds without a worker of an own cluster, which starts them anew, until it is given up


class Dask:
    """A Dask cluster: one of its own on this machine, or a running one.

    One of its own talks TLS under a certificate made for it, so that nobody else on the machine can have code run as
    this user. Who can reach a running cluster is up to whoever runs it.

    Args:
        jobs: workers of an own cluster.
        address: of the scheduler of a running one; its workers must see the store under the same path.
        registered: what workers are handed.
    """

    def __init__(self, jobs: int, address: str | None, registered: Registered):
        self.jobs, self.address, self.registered = jobs, address, pickle.dumps(registered)
        self.counted, self.workers, self.worked, self.told = -1.0, jobs, time.monotonic(), False

    def __enter__(self) -> "Dask":
        try:
            import dask.config
            import distributed
            from distributed.scheduler import KilledWorker
        except ImportError as error:
            raise ExecutionError("the dask executor needs the extra: pip install '.[cluster]'") from error
        self.died = KilledWorker
        self.failures = 1 + dask.config.get("distributed.scheduler.allowed-failures")
        with contextlib.ExitStack() as stack:
            where = self.address
            if where is None:
                stack.enter_context(main_hidden())  # to the end: a worker that dies is started anew
                # It answers HTTP in the clear even without a dashboard: with no routes, until the server is stopped.
                stack.enter_context(
                    dask.config.set({f"distributed.{who}.http.routes": [] for who in ("scheduler", "worker")})
                )
                where = stack.enter_context(_local_cluster(distributed, self.jobs))
                client = distributed.Client(where, set_as_default=False)
            else:
                client = _client_of(distributed, where)
            self.client = stack.enter_context(client)
            if self.address is None:
                self.client.run_on_scheduler(_stop_http)
            # The scheduler itself begins a batch again whose worker died; one that raised would only raise again.
            self.executor = self.client.get_executor(pure=False)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self.stack.__exit__(*error)

    @property
    def places(self) -> int:
        """Workers, counted anew every second. Each computes one batch at a time, whatever threads it has: more would
        wait, and the time given would not."""
        if time.monotonic() - self.counted > 1:
            try:
                threads = self.client.nthreads()  # declared as a coroutine, which it is for asynchronous clients alone
            except (OSError, TimeoutError, RuntimeError) as error:
                raise self._gone(error) from error
            self.counted, self.workers = time.monotonic(), len(cast(dict, threads))
        return max(1, self.workers)

    def watch(self) -> None:
        if self.places and self.workers:
            self.worked, self.told = time.monotonic(), False
        without = time.monotonic() - self.worked
        if self.address is None and without > GONE:
            raise PoolGone(
                "all workers of the Dask cluster have died and none comes back: what was saved is in the store, and "
                "the same command goes on; if they die again, take less memory (fewer jobs) or the executor 'processes'"
            )
        if without > PATIENCE and not self.told:
            self.told = True
            where = f" at {self.address}" if self.address else ""
            warnings.warn(f"the Dask cluster{where} has no worker: the study waits for one", NoWorkers, stacklevel=3)

    def _gone(self, why: object) -> PoolGone:
        where = f" at {self.address}" if self.address else ""
        return PoolGone(
            f"the Dask scheduler{where} is gone ({type(why).__name__}): what was saved is in the store; start it "
            "again, and the same command goes on"
        )

    def submit(self, work: Work) -> "Future[Report]":
        ours: Future[Report] = Future()

        def settle(theirs: Future) -> None:
            if theirs.cancelled() and not stopping.due():
                ours.set_exception(self._gone(CancelledError()))
            elif theirs.cancelled():
                ours.set_result(Report(left={recipe.key for recipe in work.recipes}))
            elif isinstance(error := theirs.exception(), self.died):
                ours.set_exception(WorkerDied(f"a worker at {error.last_worker.address}", self.failures))
            elif error is not None:
                ours.set_exception(error)
            else:
                ours.set_result(theirs.result())

        self.executor.submit(_answer, self.registered, packed(work)).add_done_callback(settle)
        return ours

    def stop(self, by: signal.Signals) -> None:
        if self.address is None:
            self.client.run(stopping.ask, by)
        else:  # a flag there would stop other people's studies: what was computed since the last checkpoints is lost
            self.executor.shutdown(wait=False)


def _client_of(distributed, address: str):
    """A client of a running cluster; one that is handed an address of a wrong form would never be closed.

    Raises:
        ExecutionError: if nobody answers there.
    """
    try:
        distributed.comm.resolve_address(address)
        return distributed.Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # the last of TLS without certificates
        raise ExecutionError(f"no Dask scheduler answers at {address[:100]}: {error}") from error


def _local_cluster(distributed, jobs: int):
    try:
        security = distributed.security.Security.temporary()
    except ImportError as error:
        raise ExecutionError(
            "a Dask cluster on this machine needs the package cryptography, without which everybody with an account "
            "here could have code run as you: pip install '.[cluster]', or take the executor processes"
        ) from error
    return distributed.LocalCluster(
        n_workers=jobs,
        threads_per_worker=1,
        host="127.0.0.1",
        protocol="tls://",
        security=security,
        dashboard_address=None,
        silence_logs="CRITICAL",  # what fails is raised; a heartbeat under way at the close is an error too
        preload=__name__,
    )


def _stop_http(dask_scheduler) -> None:
    dask_scheduler.http_server.stop()


def dask_setup(worker) -> None:
    """Called by Dask at the start of each worker of a cluster of our own, which asks for it as `preload`."""
    stopping.in_worker()


@contextlib.contextmanager
def main_hidden() -> Iterator[None]:
    """Keeps the processes of a Dask cluster from running the user's script again.

    They are made by `multiprocessing`, which gives a new process `__main__` anew from its file or module: a script
    without the `if __name__` guard would start the study once more. It looks them up as `__main__.__spec__` and
    `__main__.__file__` and has no switch; workers need nothing from there.
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
