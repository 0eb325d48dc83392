"""What can go wrong while something is computed."""

import traceback
from collections.abc import Iterable

from .. import LotteryError


class TrainingError(LotteryError):
    """A training that cannot be done or that diverged."""


class Diverged(TrainingError):
    """The loss of some networks is not finite.

    Attributes:
        places: which of those that train together.
    """

    def __init__(self, message: str, places: Iterable[int] = (0,)):
        super().__init__(message)
        self.places = tuple(places)


class NotStacked(TrainingError):
    """Networks that cannot be trained as one batch; one by one they can."""


class Drawing(NotStacked):
    """Networks that draw random numbers in training, each from the stream of its own run."""


class Slower(UserWarning):
    """A training goes on without one of its faster ways; its results are the same to rounding."""


def empty_frames(error: BaseException | None) -> None:
    """A kept exception keeps the frames that it passed through, and they a network: empties those that are over, also
    of the errors that led to it."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def in_a_line(error: Exception) -> str:
    """An error's type and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
