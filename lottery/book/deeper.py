"""Tickets of deeper networks: what chapter 11 says of each.

Accuracies and densities are kind → setting → [R, L + 1] shares, the dense network first; a plan is a chapter's
parameters as they are for one network, with the words of its settings under "said".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .. import stats
from . import claims, figures, quantities, text, tidy
from .chapter import Chapter

Runs = Mapping[str, Mapping[str, np.ndarray]]


def last_of_all(values: Sequence[np.ndarray]) -> int:
    """The last level at which none of some arrays [replicates, levels + 1] lacks a value."""
    return int(np.flatnonzero(np.logical_and.reduce([np.isfinite(rows).all(axis=0) for rows in values]))[-1])


def leads(name: str, ahead: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[Figure, str]:
    """How far tickets are ahead of reinitialised ones, by setting: against the weights left, or at the only size; and
    what the figure shows, in words.

    Args:
        name: of the network.
        ahead: words of a setting → density [L + 1] and differences [R, L + 1] in points, NaN where nothing was run.
    """
    gaps = [gap for _, gap in ahead.values()]
    last = last_of_all(gaps)
    spread = "both values" if len(gaps[0]) == 2 else "the range"
    ends = "; ".join(f"{words}: {text.number(gap[:, last].mean(), 1, 1)} pp" for words, (_, gap) in ahead.items())
    left = figures.percent(next(iter(ahead.values()))[0][last])
    said = f"{name}: are original weights worth more at a lower rate, or with warm-up? Means and {spread}; with {left} "
    said += f"% of the weights, {ends}. The paper says of the high rate that tickets are no better, drawn as 0."
    label, sizes = "ticket − reinitialised (pp)", {int(np.isfinite(gap).any(axis=0).sum()) for _, gap in ahead.values()}
    if sizes != {1}:
        figure = figures.against_density(ahead, label, name, dense_line=False, percent=False)
        return figures.paper_line(figure, 0, "paper, high rate: no better"), said
    rows = {words: gap[:, np.isfinite(gap).any(axis=0)][:, 0] for words, (_, gap) in ahead.items()}
    paper = dict.fromkeys([*rows][:1], 0.0)  # the high rate comes first
    entries = [(words, stats.spread(values), paper.get(words)) for words, values in rows.items()]
    return figures.ordering(entries, label, name), said


def show_unfinished(chapter: Chapter, name: str, records: Mapping[str, Mapping], plan: Mapping[str, Any]) -> None:
    """Shows how far training went at each setting: what is to be held against differences between settings.

    Args:
        chapter: where.
        name: of the network.
        records: kind → setting → [R][draws][L + 1] records; "ticket" and "reinitialised".
        plan: of the network.
    """
    pair = {kind: records[kind] for kind in ("ticket", "reinitialised")}
    end, early, learned = (
        tidy.over_draws(pair, value)
        for value in ("test_accuracy_end", tidy.at_step(2 / 3 * plan["steps"]), "train_accuracy_end")
    )
    settings = plan["said"]
    last = last_of_all([end["reinitialised"][setting] for setting in settings])
    rows = []
    for setting, words in settings.items():
        ticket, dense = end["ticket"][setting], end["ticket"][setting][:, :1]
        gaps = ((one["ticket"][setting] - one["reinitialised"][setting])[:, last].mean() for one in (early, end))
        fitted = (f"{100 * learned[kind][setting][:, last].mean():.1f} %" for kind in pair)
        ahead = f"{(ticket[:, 1:] > dense).sum()} of {ticket[:, 1:].size}"
        leads = (f"{text.number(gap, 100, 1)} pp" for gap in gaps)
        rows.append([words, f"{100 * dense.mean():.1f} %", ahead, *fitted, *leads])
    header = ["", "dense network", "tickets ahead of it", "learned: ticket", "learned: fresh weights"]
    header += ["ticket − fresh, two thirds", "ticket − fresh, the end"]
    left = figures.percent(tidy.over_draws(pair, "density")["ticket"]["high"][0, last])
    caption = f"{name}, means: test accuracy of the dense network; tickets of all sizes and replicates that end above "
    caption += f"theirs; and with {left} % of the weights, the share of training images that are right at the end, and "
    caption += "the lead in test accuracy after two thirds of the iterations and at the end."
    chapter.show_table(header, rows, caption)


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
    runs, left = accuracy["ticket"], density["ticket"]["high"][0]
    high, rewind_at, rewinding, scope = runs["high"], "not run", "not run", "not run"
    dense = (f"{100 * runs[setting][:, 0].mean():.1f} % ({words})" for setting, words in plan["said"].items())
    if "layer-wise" in accuracy:
        ahead = (runs["warm"] - accuracy["layer-wise"]["warm"]).T[1:]
        ways = (text.of_two(stats.summary(one, scale=stats.SHARES), 100, "pp") for one in ahead)
        scope = "; ".join(f"{way} with {figures.percent(share)} %" for way, share in zip(ways, left[1:], strict=True))
    if "rewound" in accuracy:
        rewind_at = f"step {plan['rewind_step']:,} ({100 * plan['rewind_step'] / plan['steps']:.3g} % of training)"
        gain = stats.summary((accuracy["rewound"]["high"] - high)[:, -1], scale=stats.SHARES)
        rewinding = f"{text.of_two(gain, 100, 'pp')} with {figures.percent(left[-1])} % of the weights"
    worth = (high - accuracy["reinitialised"]["high"]).mean(axis=0)
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
        "scope": scope,
        "dense": ", ".join(dense),
    }


def together(networks: Mapping[str, Mapping[str, str]], fraction: float, draws: int) -> dict[str, str]:
    """What :func:`told` says of several networks, as texts to glue; ``first_…`` is of the first alone.

    Args:
        networks: name → what is told of it.
        fraction: of the survivors that a round removes.
        draws: reinitialisations of a ticket.
    """
    keys = next(iter(networks.values()))
    each = {key: text.each({name: words[key] for name, words in networks.items()}) for key in keys}
    rounds, levels = f"{100 * fraction:g} %; {each['pruning']}", f"{draws} a ticket; {each['reinit_at']}"
    name, first = next(iter(networks.items()))
    own = {f"first_{key}": text.each({name: first[key]}) for key in ("dense", "mean_of")}
    own["draws"] = text.count(draws, "reinitialisation")
    return each | {"pruning": rounds, "reinit_at": levels} | own


def differences(rules: Mapping[str, claims.Rule], judged: quantities.Quantities) -> dict[str, str]:
    """The differences in points that rules ask for, as `text.of_two` says them, to glue as "…_told".

    Args:
        rules: claim → its rule.
        judged: what was measured.
    """
    asked = {check.quantity for rule in rules.values() for check in rule.checks if check.quantity.endswith("_pp")}
    return {f"{n}_told": text.of_two(judged[n], unit="pp") if n in judged else "not measured" for n in sorted(asked)}
