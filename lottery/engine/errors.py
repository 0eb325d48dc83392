"""What can go wrong while something is computed."""

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


class Slower(UserWarning):
    """A training goes on without one of its faster ways; its results are the same to rounding."""
