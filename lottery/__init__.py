"""Lottery tickets, reproduced: iterative magnitude pruning and what is measured of its tickets.

Each module can be read alone; `recipes` says what a run is, `execute` computes it, `store` keeps it.
"""

__version__ = "0.2.0"


class LotteryError(Exception):
    """An error whose message tells the user what to do; the command line prints it without a traceback."""
