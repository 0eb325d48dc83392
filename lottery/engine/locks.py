"""Locks between processes: files under a `flock`, which the system frees when its holder dies, however that happened.

A lock file names its holders, a line each ("PID HOST SINCE"), so that whoever waits can say for whom.
"""

import contextlib
import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .disk import HOST, StoreError, alive, explained

PATIENCE = 3.0  # seconds that are waited in silence


class Busy(StoreError):
    """Somebody else holds a lock."""


@contextlib.contextmanager
def hold(path: Path, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Holds a lock, alone or with others that share it; says on stderr what is waited for.

    Raises:
        Busy: if it is held and `wait` is false.
        StoreError: if the file system has no locks.
    """
    began, said = time.monotonic(), ""
    with explained(f"the store {path.parent.parent} (its lock {path.name}{_reads(path)})"):
        while (descriptor := _try(path, shared)) is None:
            who = ", ".join(holders(path)) or "an unknown process"
            if not wait:
                raise Busy(f"{path.parent.parent} is in use by {who}: run this again when that is done")
            if time.monotonic() - began > PATIENCE and who != said:
                print(f"waiting for the lock {path}, held by {who}", file=sys.stderr, flush=True)
                said = who
            time.sleep(0.05 if time.monotonic() - began < 1 else 0.5)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the last one out wipes the names away; closing frees in any case
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _try(path: Path, shared: bool) -> int | None:
    """A descriptor that holds the lock; None if somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if not path.exists() or not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise BlockingIOError(errno.EAGAIN, "somebody deleted the file: the next one counts")
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            me = f"{os.getpid()} {HOST} "
            if not shared:
                os.ftruncate(descriptor, 0)
            if me.encode() not in os.pread(descriptor, 2**20, 0):
                os.write(descriptor, f"{me}{datetime.now().astimezone().isoformat(timespec='seconds')}\n".encode())
        return descriptor
    except BaseException as error:  # Ctrl-C too: an open descriptor would hold the lock to the end of the process
        os.close(descriptor)
        if isinstance(error, OSError) and error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise


def _reads(path: Path) -> str:
    """What the file says, for errors."""
    with contextlib.suppress(OSError):
        if text := " on ".join(path.read_text(errors="replace").split()[:2]):
            return f", last held by process {text}"
    return ""


def holders(path: Path) -> list[str]:
    """Who holds a lock, in words; processes of this machine that are dead are left out."""
    with contextlib.suppress(OSError):
        lines = [line.split() for line in path.read_text(errors="replace").splitlines()]
        named = [line for line in lines if len(line) == 3 and line[0].isdecimal()]
        return [
            f"process {pid} on {host} since {since}"
            + ("" if host == HOST else f" (should {host} be gone for good, delete {path})")
            for pid, host, since in named
            if host != HOST or alive(int(pid))
        ]
    return []
