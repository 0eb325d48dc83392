"""Tickets of deeper networks: what chapter 11 says of each.

Accuracies and densities are kind → setting → [R, L + 1] shares, the dense network first; a plan is a chapter's
parameters as they are for one network, with the words of its settings under "said".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .. import stats
from . import claims, figures, quantities, text

Runs = Mapping[str, Mapping[str, np.ndarray]]


def last_of_all(values: Sequence[np.ndarray]) -> int:
    """The last level at which none of some arrays [replicates, levels + 1] lacks a value."""
    return int(np.flatnonzero(np.logical_and.reduce([np.isfinite(rows).all(axis=0) for rows in values]))[-1])


def leads(name: str, ahead: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """How far tickets are ahead of reinitialised ones, by setting: against the weights left, or at the only size.

    Args:
        name: of the network.
        ahead: words of a setting → density [L + 1] and differences [R, L + 1] in points, NaN where nothing was run.
    """
    label, sizes = "ticket − reinitialised (pp)", {int(np.isfinite(gap).any(axis=0).sum()) for _, gap in ahead.values()}
    if sizes != {1}:
        figure = figures.against_density(ahead, label, name, dense_line=False, percent=False)
        return figures.paper_line(figure, 0, "paper, high rate: about 0")
    rows = {words: gap[:, np.isfinite(gap).any(axis=0)][:, 0] for words, (_, gap) in ahead.items()}
    paper = dict.fromkeys([*rows][:1], 0.0)  # the high rate comes first
    entries = [(words, stats.spread(values), paper.get(words)) for words, values in rows.items()]
    return figures.ordering(entries, label, name)


def sparsest(accuracy: Runs, density: Runs, labels: Mapping[str, tuple[str, str]]) -> str:
    """The mean accuracies of some runs at the last level that all of them have, as a sentence.

    Args:
        accuracy, density: of one network.
        labels: words → kind and setting.
    """
    rows = {words: accuracy[kind][s] for words, (kind, s) in labels.items()}
    last = last_of_all(list(rows.values()))
    ends = {words: text.number(values[:, last].mean(), 100, 1) for words, values in rows.items()}
    said = "; ".join(f"{words}: {end} %" for words, end in ends.items())
    return f"With {figures.percent(density['ticket']['high'][0, last])} % of the weights, {said}."


def told(plan: Mapping[str, Any], accuracy: Runs, density: Runs, reinitialised: Sequence[int]) -> dict[str, str]:
    """What was run of one network, what its rewinding gives at the last level, and what its original weights are worth.

    Args:
        plan: of the network.
        accuracy, density: its.
        reinitialised: at which levels it was.
    """
    high, rewind_at, rewinding = accuracy["ticket"]["high"], "not run", "not run"
    if "rewound" in accuracy:
        rewind_at = f"step {plan['rewind_step']:,} ({100 * plan['rewind_step'] / plan['steps']:.3g} % of training)"
        gain = stats.summary((accuracy["rewound"]["high"] - high)[:, -1], scale=stats.SHARES)
        rewinding = text.of_two(gain, 100, "pp")
    worth, left = (high - accuracy["reinitialised"]["high"]).mean(axis=0), density["ticket"]["high"][0]
    gaps = ", ".join(f"{text.number(worth[n], 100, 1)} ({figures.percent(left[n])} %)" for n in reinitialised)
    meant = [figures.percent(left[n]) for n in reinitialised if plan["least"] <= left[n] <= quantities.DENSEST]
    return {
        "training": f"{plan['steps']:,} iterations, batches of {plan['batch']}, {', '.join(plan['said'].values())}",
        "pruning": text.count(plan["levels"], "round"),
        "reinit_at": text.listed("level", reinitialised),
        "rewind_at": rewind_at,
        "rates": f"{plan['high_rate']:g} high, {plan['low_rate']:g} low, {plan['warm_rate']:g} with warm-up",
        "rewinding": rewinding,
        "gaps": gaps,
        "mean_of": text.enumerated(meant, " %") or "no size",
        "replicates": str(plan["replicates"]),
        "dense": f"{100 * high[:, 0].mean():.1f} %",
    }


def together(networks: Mapping[str, Mapping[str, str]], fraction: float, draws: int) -> dict[str, str]:
    """What :func:`told` says of several networks, as texts to glue.

    Args:
        networks: name → what is told of it.
        fraction: of the survivors that a round removes.
        draws: reinitialisations of a ticket.
    """
    keys = next(iter(networks.values()))
    each = {key: text.each({name: words[key] for name, words in networks.items()}) for key in keys}
    rounds, levels = f"{100 * fraction:g} %; {each['pruning']}", f"{draws} a ticket; {each['reinit_at']}"
    return each | {"pruning": rounds, "reinit_at": levels}


def differences(rules: Mapping[str, claims.Rule], judged: quantities.Quantities) -> dict[str, str]:
    """The differences in points that rules ask for, as `text.of_two` says them, to glue as "…_told".

    Args:
        rules: claim → its rule.
        judged: what was measured.
    """
    asked = {check.quantity for rule in rules.values() for check in rule.checks if check.quantity.endswith("_pp")}
    return {f"{n}_told": text.of_two(judged[n], unit="pp") if n in judged else "not measured" for n in sorted(asked)}
