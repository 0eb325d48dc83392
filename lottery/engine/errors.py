"""What can go wrong while something is computed."""

from .. import LotteryError


class TrainingError(LotteryError):
    """A training that cannot be done or that diverged."""


class NotStacked(TrainingError):
    """Networks that cannot be trained as one batch; one by one they can."""


class OutOfTime(LotteryError):
    """The time given is up; what was begun is saved and goes on when it is asked for again."""


class Slower(UserWarning):
    """A training goes on without one of its faster ways; its results are the same to rounding."""
