"""Tickets of deeper networks: what chapter 11 says of each.

Accuracies and densities are kind → setting → [R, L + 1] shares, the dense network first; a plan is a chapter's
parameters as they are for one network, with the words of its settings under "said".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import stats
from . import figures, text

Runs = Mapping[str, Mapping[str, np.ndarray]]


def sparsest(accuracy: Runs, density: Runs, labels: Mapping[str, tuple[str, str]]) -> str:
    """The mean accuracies of some runs at the last level, as a sentence.

    Args:
        accuracy, density: of one network.
        labels: words → kind and setting.
    """
    ends = {words: text.number(accuracy[kind][s][:, -1].mean(), 100, 1) for words, (kind, s) in labels.items()}
    said = ", ".join(f"{words} {end} %" for words, end in ends.items())
    return f"With {figures.percent(density['ticket']['high'][0, -1])} % of the weights: {said}."


def told(plan: Mapping[str, Any], accuracy: Runs, reinitialised: Sequence[int]) -> dict[str, str]:
    """What was run of one network, what rewinding gives at the last level, and how accurate the dense network is.

    Args:
        plan: of the network.
        accuracy: its.
        reinitialised: at which levels it was.
    """
    high, part = accuracy["ticket"]["high"], plan["rewind_step"] / plan["steps"]
    return {
        "training": f"{plan['steps']:,} iterations, batches of {plan['batch']}, {', '.join(plan['said'].values())}",
        "pruning": text.count(plan["levels"], "round"),
        "reinit_at": text.listed("level", reinitialised),
        "rewind_at": f"step {plan['rewind_step']:,} ({100 * part:.3g} % of training)",
        "rates": f"{plan['high_rate']:g} high, {plan['low_rate']:g} low, {plan['warm_rate']:g} with warm-up",
        "rewinding": text.of_two(stats.summary((accuracy["rewound"]["high"] - high)[:, -1]), 100, "pp"),
        "dense": f"{100 * high[:, 0].mean():.1f} %",
    }
