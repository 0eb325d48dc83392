"""Stopping in good order: at a deadline, or when the system or a user asks for it.

SIGTERM (as batch systems send it), Ctrl-C and the end of the terminal first set a flag. Whoever computes asks `due`
between two steps, saves, and raises `OutOfTime`. What does not ask, such as a long spectrum, is broken off after
`GRACE` seconds; results reach the store whole or not at all. A second Ctrl-C ends at once.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from .. import LotteryError

GRACE = 10.0  # seconds; batch systems wait 30 before they kill


class OutOfTime(LotteryError):
    """Time is up: what was computed is saved, and the same command goes on from there."""


class Stopped(OutOfTime):
    """The process was asked to stop by a signal.

    Attributes:
        status: the exit status that shells give to such an end.
    """

    def __init__(self, signal_: signal.Signals, more: str):
        super().__init__(f"stopped by {signal_.name}: {more}")
        self.status = 128 + signal_


_asked: signal.Signals | None = None


def asked() -> signal.Signals | None:
    """The signal that asked this process to stop, if any did."""
    return _asked


def due(deadline: float | None = None) -> bool:
    """Whether to stop: a signal asked for it, or `time.monotonic()` has reached the deadline."""
    return _asked is not None or (deadline is not None and time.monotonic() >= deadline)


def error(more: str) -> OutOfTime:
    """What to raise when it is due: the reason, and more words."""
    return Stopped(_asked, more) if _asked else OutOfTime(f"time is up: {more}")


def ask(signal_: signal.Signals) -> None:
    """Asks this process to stop, as if it had got the signal."""
    global _asked
    _asked = signal_


def _break_off(number, frame) -> None:
    raise error("what was being computed is broken off")


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Python drops what is raised in a finaliser or a callback of its collector: breaking off is then tried again."""
    before = sys.unraisablehook

    def hook(dropped):
        if isinstance(dropped.exc_value, OutOfTime):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        else:
            before(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def in_order(limit: float | None = None, tell: Callable[[], None] | None = None) -> Iterator[None]:
    """Takes SIGTERM, SIGHUP and Ctrl-C as requests while the block runs; nothing changes outside of the main thread.

    Args:
        limit: `time.monotonic()` from which whatever still computes is broken off with `OutOfTime`, once.
        tell: called by the first signal, to hand it on; then nothing is broken off after `GRACE`.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number, frame):
        if _asked is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        ask(signal.Signals(number))
        if tell is not None:
            tell()
        else:
            signal.setitimer(signal.ITIMER_REAL, GRACE)

    handled = {signal.SIGINT: handler, signal.SIGTERM: handler, signal.SIGALRM: _break_off}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        handled[signal.SIGHUP] = handler  # a terminal that is closed
    before = {number: signal.signal(number, action) for number, action in handled.items()}
    if limit is not None:
        signal.setitimer(signal.ITIMER_REAL, min(1e7, max(0.001, limit - time.monotonic())))
    try:
        with _heard():
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, action in before.items():
            signal.signal(number, action)
        if before[signal.SIGTERM] is signal.SIG_DFL:  # the outermost block
            _asked = None


def in_worker() -> None:
    """Makes this worker leave Ctrl-C and hanging up to its coordinator, and stop in good order at its SIGTERM."""

    def handler(number, frame):
        if _asked is None:
            ask(signal.Signals(number))
            threading.Timer(GRACE, os._exit, (1,)).start()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, handler)
