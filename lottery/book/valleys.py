"""Whether networks lie in one valley: what chapters 6 and 7 show and say of barriers on straight lines between them.

Barriers are statistics of `landscape.STATISTICS` → array of test errors, shares; T is the number of rewind points, R of
replicates, L of levels after the dense network.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np

from ..tickets import halvings
from . import explorers, figures, protocols, quantities, text, tidy
from .chapter import Chapter

Barriers = Mapping[str, np.ndarray]


def show_barriers(
    chapter: Chapter, excess: np.ndarray, barriers: Barriers, names: Sequence[str], matching: int, epsilon: float
) -> None:
    """Shows barriers between successive levels against their excess error, as the headline of a chapter.

    Args:
        chapter: where.
        excess: [T, R, L] test error of each level above the dense network's.
        barriers: statistics → [T, R, L], from the level before.
        names: [T] of the rewind points.
        matching: the last of them that the claim is about, from the third level on.
        epsilon: up to which excess a ticket matches, a share.
    """
    levels = np.arange(excess.shape[-1])
    panels = {
        f"{way} statistics": {name: (excess[t], of[t]) for t, name in enumerate(names)} for way, of in barriers.items()
    }
    about = {name: (t <= matching) & (0 * excess[t] + levels >= 3) for t, name in enumerate(names)}
    figure = figures.barriers(panels, epsilon, judged=about)
    chapter.figure(
        figures.paper_line(figure, 75, "precursor, step 0: about 75"),
        caption="Marks are pairs of successive levels, by step rewound to. The claim allows coloured ones in the "
        f"shade only: left of ε = {100 * epsilon:.2f} points (dashed) a barrier below 2 ε, right of it one above. "
        "Grey: pairs that it is not about, before the third level or rewound late; the highest are the first rounds "
        "from step 0. Barriers are on a linear axis within one point of zero.",
        headline=True,
    )


def between_levels(
    successive: Sequence, dense: Sequence, names: Sequence[str], left: Sequence[str], replicates: int
) -> widgets.Widget:
    """An explorer of the paths from each level to the next, and from the dense network to the sparsest.

    Args:
        successive, dense: [T][R][L] records of paths from the level before, and from the dense network.
        names: [T] of the rewind points.
        left: [L + 1] weights left in per cent, the dense network first.
        replicates: how many of the R have whole paths.
    """
    shares = ["dense", *(f"{share} %" for share in left[1:])]
    pairs = {f"{a} – {b}": ((a, b), successive, level) for level, (a, b) in enumerate(itertools.pairwise(shares))}
    pairs[f"dense – {shares[-1]}"] = ("dense", shares[-1]), dense, len(shares) - 2
    walked = {
        (name, pair): [row[level] for row in paths[t][:replicates]]
        for t, name in enumerate(names)
        for pair, (_, paths, level) in pairs.items()
    }
    caption = "Test error on the straight line from the denser to the sparser network: a barrier is a hill in the "
    caption += "middle."
    controls = [("rewound to", names), ("path", list(pairs))]
    return explorers.paths(walked, controls, lambda key: pairs[key[1]][0], caption, start=next(iter(walked)))


def to_twins(
    moved: Sequence, names: Sequence[str], kinds: Sequence[str], lengths: Sequence[float], replicates: int
) -> widgets.Widget:
    """An explorer of the paths from a ticket to its twin from a start that was moved; length 1 is one of the lengths.

    Args:
        moved: [T][kind][length][R] records of paths.
        names, kinds, lengths: of the first three axes.
        replicates: how many of the R have whole paths.
    """
    sizes = [f"{length:g}" for length in lengths]
    walked = {
        (name, kind, size): moved[t][k][m][:replicates]
        for (t, name), (k, kind), (m, size) in itertools.product(*map(enumerate, (names, kinds, sizes)))
    }
    controls = [("rewound to", names), ("moved", list(kinds)), ("length", sizes)]
    caption = "Test error on the straight line from the ticket to its displaced twin: a hill separates two valleys."
    return explorers.paths(
        walked, controls, lambda _key: ("the ticket", "its twin"), caption, (names[0], kinds[0], "1")
    )


def other_order(barriers: Barriers, replicates: int, fresh: bool) -> str:
    """A sentence of what comes of it if the order of examples at each level is handled the other way.

    Args:
        barriers: statistics → [T, R, L]; the first rewind point is told of.
        replicates: R; if 0, it was not run.
        fresh: whether the chapter itself has a new order at every level.
    """
    variant = f"the variant in which every level sees {'the same batches' if fresh else 'batches in a new order'}"
    if not replicates:
        return f"We did not run {variant}."
    both = " and ".join(f"{text.points(of[0].mean(axis=-1))} pp {way}" for way, of in barriers.items())
    return f"In {variant}, the barrier from step 0 is {both}, over {text.count(replicates, 'replicate')}."


def in_words(given: Mapping[str, Any]) -> dict[str, object]:
    """How finely paths are walked, and where the matching rewind point lies, from a chapter's parameters; to glue.

    "early_share" is the last step up to 5 % of training at which dense twins part.
    """
    step, steps = given["matching_step"], given["steps"]
    early = [at for at in halvings(step, given["search"]) if at <= 0.05 * steps]
    return {
        "early_share": f"{100 * max(early) / steps:.2g} % of training" if early else "no early step",
        "alphas": 2 * given["path_half"] + 1,
        "matching_step": f"{step:,}",
        "matching_share": f"{100 * step / steps:.3g} %",
    }


def show_transplants(chapter: Chapter, between: Sequence, sizes: Sequence[float]) -> None:
    """Shows networks found by fine-tuning, the same masks on the rewind point, and those halfway, on the same images.

    Args:
        chapter: where.
        between: [R][L] records of the paths from the former to the latter.
        sizes: [L] shares of weights left.
    """
    first, middle, last = (tidy.at_point(between, place) for place in (0, 0.5, 1))
    errors = {"found by tuning": first["averaged"], "on rewind point": last["averaged"]}
    errors |= {"halfway, averaged": middle["averaged"], "halfway, re-est.": middle["re-estimated"]}
    chapter.figure(
        figures.against_density(
            {name: (sizes, 1 - values) for name, values in errors.items()}, "test accuracy (%)", dense_line=False
        ),
        caption="Masks found by tuning, and the same on the rewind point, trained again, on "
        f"{protocols.test_sample(chapter.parameters)}. Where the networks halfway, averaged, lie above the worse of "
        "the two, there is no hill by the rule, even if they lie below the better.",
    )


def twins_in_words(dense: Barriers, tickets: Barriers, watched: Sequence[int], level: int) -> dict[str, str]:
    """Barriers between twins, to glue: dense ones that part at step 0, tickets' from the first two rewind points.

    Args:
        dense: statistics → [S, R], by the step at which they part.
        tickets: statistics → [T, R, L], of the levels whose twins were trained.
        watched: [L] these levels.
        level: that of them which is told of, "twins_…_moved", beside the first, "twins_…_first".
    """
    at = {"first": 0, "moved": list(watched).index(level)}
    told = {f"twins_{t}_{n}": text.points(tickets["averaged"][t, :, i]) for t in (0, 1) for n, i in at.items()}
    told["dense_zero"] = text.points(dense["averaged"][0])
    return told | {"dense_zero_reestimated": text.points(dense["re-estimated"][0])}


def reestimated_in_words(
    steps: Sequence[int],
    dense: Barriers,
    rewound: Sequence[int],
    tickets: Barriers,
    excess: np.ndarray,
    error: np.ndarray,
    length: int,
) -> dict[str, str]:
    """What the checks of stability would say with re-estimated statistics, to glue.

    Args:
        steps, dense: [K] steps and statistics → [K, R] barriers between dense twins that part there.
        rewound, tickets: [T] rewind points and statistics → [T, R, L] barriers between twins of tickets.
        excess: [T, R, L] of the tickets' test error over the dense network's.
        error: [R] test error of the dense network.
        length: steps of training.

    Returns:
        ``dense_early_reestimated``, how many times the bound the barrier is of dense twins that part at 3 to 5 % of
        training; ``share_reestimated``, by how much earlier tickets are stable, replicate by replicate;
        ``stable_bound``, in points; ``parted_at`` and ``rewound_to``, the shares of training that were tried, of the
        dense network and of tickets.
    """
    way = "re-estimated"
    found = quantities.stability_quantities(steps, dense[way], rewound, tickets[way], excess, error, length)
    limit = quantities.stable_below(error)
    whole = quantities.stable_from(steps, dense[way] < limit, length)
    sparse = quantities.stable_from(rewound, tickets[way].max(axis=2) < limit, length)
    apart = [text.number(one - other, 100, 0) for one, other in zip(sparse, whole, strict=False)]
    shares = {"parted_at": steps, "rewound_to": rewound}
    early = found.get("dense_early_barrier")
    return {
        "dense_early_reestimated": text.format_interval(early, 1, "times") if early else "not measured",
        "share_reestimated": text.enumerated(apart),
        "stable_bound": text.number(limit, 100, 1),
        **{name: text.enumerated([f"{100 * at / length:.3g}" for at in of]) for name, of in shares.items()},
    }


def moved_in_words(apart: np.ndarray, at_one: int, whole: int) -> dict[str, str]:
    """Averaged barriers to displaced starts, to glue: each one through another mask, the highest of whole paths.

    Args:
        apart: [T, kind, multiple, R].
        at_one: which multiple is the distance to the next level's start.
        whole: how many of the R have whole paths.
    """
    walked = apart[..., :whole]
    return {
        "zero_mask": ", ".join(text.number(barrier, 100, 1) for barrier in apart[0, 1, at_one]),
        "path_replicates": text.count(walked.shape[-1], "replicate"),
        "whole_highest": text.number(walked.max(), 100, 1),
    }


def accuracies_in_words(tickets: np.ndarray, level: int, tuned: Mapping[str, np.ndarray]) -> dict[str, str]:
    """Test accuracies to glue: those of masks found without rewinding, and how far tickets lead.

    Args:
        tickets: [T, R, L + 1] of the chains, the dense network first, the matching rewind point last.
        level: of the ticket whose start is moved.
        tuned: "found", "start" and "again" → [R, K] of the networks that the masks were found with, and of those on
            the matching rewind point, before and after training.

    Returns:
        "…_accuracy" for each of `tuned` at its last level; "again_leads", by how much "again" is ahead of
        "found", level by level; "found_short", what "found" lacks of the dense network at the last;
        "mask_lead" of the ticket with as many weights over "again"; "zero_lead" of tickets from the first rewind point
        over those from the last.
    """
    again, dense = tuned["again"], tickets[0][:, 0]

    def means(rows: np.ndarray) -> str:
        return ", ".join(text.number(value, 100, 1) for value in rows.mean(axis=0))

    rival = tickets[-1][:, again.shape[1]] if again.shape[1] < tickets.shape[-1] else np.full(len(again), np.nan)
    return {
        **{f"{name}_accuracy": text.points(rows[:, -1]) for name, rows in tuned.items()},
        "found_short": text.number((dense - tuned["found"][:, -1]).mean(), 100, 1),
        "again_leads": means(again - tuned["found"]),
        "mask_lead": text.interval(rival - again[:, -1], 100, "pp"),
        "zero_lead": text.interval((tickets[0] - tickets[-1])[:, level], 100, "pp"),
    }
