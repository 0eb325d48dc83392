"""Files that are whole or not there: what all writing of the store is made of, and what a disk's errors mean.

What was moved into place is on the disk when the call returns: the file is flushed before its name appears, and the
folder that holds the name after it.
"""

import contextlib
import errno
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from .. import LotteryError

HOST = re.sub(r"[~/\s]", "-", socket.gethostname())
HOUR = 3600  # seconds; nobody writes longer on one file
TEMPORARY = re.compile(r"\.(?P<name>.+)(~(?P<host>[^~]*)~(?P<pid>\d{1,9})~[0-9a-f]{8}|\.[0-9a-f]{32})", re.DOTALL)


class StoreError(LotteryError):
    """The store could not do what was asked; what it held before is still valid."""


FOLDER = '(in Python Store("FOLDER"), on the command line --store FOLDER)'
"""How the folder of a store is named, for messages that a script and a command may both show."""

_MEANINGS = [
    (
        ("ENOSPC", "EDQUOT", "EFBIG"),
        "no space left for {what}: free some (`python -m lottery store gc`) and run again; finished runs are kept",
    ),
    (
        ("EACCES", "EPERM", "EROFS"),
        "{what} cannot be written: {why}; take a folder of your own, or ask its owner",
    ),
    (
        ("ENOLCK", "ENOSYS", "EOPNOTSUPP"),
        f"the file system of {{what}} has no locks ({{why}}): keep the store on one that has {FOLDER} and "
        "carry records over with `python -m lottery store export` and `import`; Lustre has locks if it is mounted with "
        "-o flock",
    ),
    (("ENAMETOOLONG",), "{what}: {why}: choose a shorter name or folder"),
    (
        ("ESTALE", "ENOTCONN", "ENODEV", "ENXIO", "EHOSTDOWN", "ETIMEDOUT", "ENOENT", "EIO"),
        "{what} cannot be reached: {why}; see that its disk or share is there, and run again; finished runs are kept",
    ),
]


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns an error of the file system into one line that says what it means for `what`, and what to do."""
    try:
        yield
    except OSError as error:
        why = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        known = (text for names, text in _MEANINGS if error.errno in (getattr(errno, name, 0) for name in names))
        says = next(known, "{what}: {why}; mend that and run again")
        raise StoreError(says.format(what=what, why=why)) from error


def alive(pid: int) -> bool:
    """Whether this machine has a process of this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def temporary(path: Path) -> Path:
    """A hidden name beside `path` that says who writes there."""
    return path.with_name(f".{path.name[:100]}~{HOST}~{os.getpid()}~{uuid.uuid4().hex[:8]}")


def abandoned(path: Path) -> bool:
    """Whether this is a temporary of ours whose writer is dead, or so old that he must be."""
    mark = TEMPORARY.fullmatch(path.name)
    if mark is None:
        return False
    dead = mark["host"] == HOST and not alive(int(mark["pid"]))
    return dead or time.time() - path.lstat().st_mtime > HOUR


def sync(folder: Path) -> None:
    """Flushes the names in a folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):  # some network file systems cannot, and need not
            raise
    finally:
        os.close(descriptor)


def make(folder: Path) -> None:
    """Makes a folder, and those above it, durably."""
    if not folder.is_dir():
        make(folder.parent)
        try:
            os.mkdir(folder)
        except FileExistsError:  # which another process has made, or no folder
            if not folder.is_dir():
                raise
        sync(folder.parent)


def write(path: Path, data: bytes, flush: bool = True) -> None:
    """Writes a new file; an incomplete one is removed."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if flush:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        remove(path)
        raise


def move(source: Path, target: Path) -> None:
    """Renames, also over a file that is there, durably."""
    os.rename(source, target)
    for folder in dict.fromkeys((target.parent, source.parent)):
        sync(folder)


def replace(path: Path, data: bytes) -> None:
    """Puts a file with this content at `path`: a kill at any moment leaves the old or the new one whole."""
    new = temporary(path)
    write(new, data)
    try:
        move(new, path)
    except BaseException:
        remove(new)
        raise


def remove(path: Path) -> None:
    """Removes a file, or a folder of files; what cannot be removed stays, and is swept another time."""
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            for inside in path.iterdir():
                os.unlink(inside)
            os.rmdir(path)
        else:
            os.unlink(path)
