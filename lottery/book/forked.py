"""Kernels that begin with the chapters' imports done: forked from one process, which did them once.

A kernel that Jupyter starts spends four seconds of a processor on imports, more than most chapters need for all else.
"""

import atexit
import contextlib
import gc
import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner

POSSIBLE = sys.platform == "linux"
"""Elsewhere a process cannot fork, or system libraries do not bear it."""

IMPORTS = (
    "ipykernel.debugger",
    "ipykernel.ipkernel",
    "ipykernel.kernelapp",
    "matplotlib_inline.backend_inline",
    "scipy.optimize",
    "scipy.stats",
    "sklearn.datasets",
    "torch._dynamo",  # torch's optimisers import it, at their first use
    "lottery.book.chapter",
    "lottery.book.explorers",
    "lottery.book.leads",
    "lottery.book.quantities",
)

QUIET = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}
"""Of a kernel's environment: its debugger, which nobody calls here, does not warn of Python's frozen modules."""

_PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)  # before imports that take seconds
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # as kernels set it before their first import
sys.path[:] = sys.argv[2:]
from lottery.book import forked
forked.serve(int(sys.argv[1]))
"""


def import_all() -> None:
    """Does the imports of all chapters."""
    os.environ |= QUIET
    for name in IMPORTS:
        importlib.import_module(name)


def serve(descriptor: int) -> None:
    """What the process does that kernels are forked from, until whoever asks is gone; in a kernel, what that does.

    It uses nothing of what it imports, so that a fork of it is sound: libraries make their idle threads anew in it.
    """
    connection = Connection(descriptor)
    import_all()
    gc.freeze()  # what is there stays shared with the kernels
    while True:
        try:
            what, given = connection.recv()
        except (EOFError, OSError):
            return  # kernels see that their parent is gone, and end
        if what == "status":
            connection.send(_status(given))
        elif child := os.fork():
            connection.send(child)
        else:
            connection.close()
            return _kernel(*given)


def _status(child: int) -> int | None:
    """Of a kernel that has ended, in the form of `subprocess`; None while it runs."""
    try:
        ended, status = os.waitpid(child, os.WNOHANG)
    except ChildProcessError:  # another has waited for it
        return -signal.SIGKILL
    return os.waitstatus_to_exitcode(status) if ended else None


def _kernel(file: str, environment: Mapping[str, str], folder: str) -> None:
    from ipykernel import kernelapp

    os.setsid()  # signals are for all processes of a kernel
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment, JPY_PARENT_PID=str(os.getppid()))
    os.chdir(folder)
    kernelapp.launch_new_instance(["-f", file], parent_handle=os.getppid())


class Source:
    """The process that kernels are forked from."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.lock = threading.Lock()
        with theirs:
            arguments = [sys.executable, "-c", _PROGRAM, str(theirs.fileno()), *sys.path]
            self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        atexit.register(self.end)

    def end(self) -> None:
        """Ends it, and with it the kernels."""
        self.connection.close()
        self.process.wait()

    def ask(self, what: str, given: Any) -> Any:
        """Its answer.

        Raises:
            OSError, EOFError: if it has ended.
        """
        with self.lock:
            self.connection.send((what, given))
            return self.connection.recv()


_begun: list[Source] = []
_beginning = threading.Lock()


def _source() -> Source:
    """The last one begun, or a new one if that has ended."""
    with _beginning:
        if not _begun or _begun[-1].process.poll() is not None:
            _begun.append(Source())
        return _begun[-1]


class Kernel:
    """A forked kernel, with what Jupyter asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, file: str, environment: Mapping[str, str], folder: str):
        self.source, self.returncode = _source(), None
        self.pid: int = self.source.ask("fork", (file, dict(environment), folder))

    def poll(self) -> int | None:
        """Its status if it has ended."""
        if self.returncode is None:
            try:
                self.returncode = self.source.ask("status", self.pid)
            except (EOFError, OSError):
                self.returncode = -signal.SIGKILL  # it ends with its source
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status, when it has ended."""
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("kernel", timeout or 0)
            time.sleep(0.02)
        return status

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Asks it to end."""
        self.send_signal(signal.SIGTERM)


class Forking(LocalProvisioner):
    """How Jupyter comes by a kernel: forked, if it is one of this interpreter; else as it always does."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """As `LocalProvisioner.launch_kernel`."""
        if cmd[0] != sys.executable or "ipykernel_launcher" not in cmd:
            return await super().launch_kernel(cmd, **kwargs)
        self.cwd = kwargs.get("cwd") or os.getcwd()
        self.process = Kernel(cmd[cmd.index("-f") + 1], kwargs["env"], os.fspath(self.cwd))
        self.pid = self.pgid = self.process.pid
        return self.connection_info
