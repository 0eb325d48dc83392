"""Iterative magnitude pruning and every ablation of the three works, each a few lines that build recipes.

A function here computes nothing: it returns runs, which `lottery.engine.execute` computes. A chain is the list of runs
of one replicate, the dense run first, then one a level.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import cast

from .curvature import Adaptive
from .landscape import Perturbed
from .masks import Fraction, checked
from .recipes import (
    Constant,
    Continued,
    Criterion,
    Dense,
    Initial,
    Mask,
    Masked,
    Noisy,
    Pruned,
    Rates,
    RecipeError,
    Reshuffled,
    Rewound,
    Run,
    Scope,
    Shuffled,
    Signed,
    Training,
)


def _fraction(fraction: Fraction) -> Rates:
    given = checked(fraction)
    return tuple(sorted(given.items())) if isinstance(given, dict) else given


def _criterion(name: str) -> Criterion:
    """A criterion by its name here; "large_final" is Zhou et al.'s for magnitude."""
    return cast(Criterion, "magnitude" if name == "large_final" else name)


def _order(index: int, level: int, fresh: bool) -> tuple[int, ...]:
    """The indices of a level's data order: the same at every level, or a fresh one."""
    return (index, level) if fresh else (index,)


def _whole(what: str, number: int, least: int = 0) -> int:
    """A number of rounds or steps; refuses what is none."""
    if not isinstance(number, Integral) or number < least:
        raise RecipeError(f"{what} must be a whole number of at least {least}, not {number!r}")
    return int(number)


def early_grid(steps: int) -> tuple[tuple[int, int], ...]:
    """When to evaluate, densely early: of 50,000 steps every 100 to 10,000, every 200 to 20,000, then every 1,000.

    Frankle & Carbin (2019) evaluate every 100 of 50,000 throughout; early stopping falls into the dense part. Of fewer
    steps no larger share is evaluated: rounding makes the grid coarser, never finer.
    """
    until, parts = (steps // 5, 2 * steps // 5, steps), (500, 250, 50)
    return tuple((u, -(-steps // part)) for u, part in zip(until, parts, strict=True) if u > 0)


def every_nth(levels: int, n: int) -> list[int]:
    """Every n-th level from 1 to `levels`, so that more often contains less often: 8 → 7, 15; 4 → 3, 7, 11, …

    Raises:
        RecipeError: if n is not at least 1, or one of the two is no whole number.
    """
    return list(range(max(_whole("n", n, 1) - 1, 1), _whole("levels", levels) + 1, n))


def controls(chains: list[list[Run]], make: Callable[[Run, int, int], Run], every: int, draws: int = 1) -> list:
    """One control beside the tickets of every n-th level.

    Args:
        chains: one a replicate, the dense run first.
        make: `make(ticket, replicate, draw)`, such as `reinitialised`.
        every: beside every n-th level; see `every_nth`.
        draws: of each control.

    Returns:
        Nested lists [replicates][draws][levels + 1] of runs; None where there is none.
    """
    at = set(every_nth(max(map(len, chains), default=1) - 1, every))
    return [
        [
            [make(run, r, draw) if level in at else None for level, run in enumerate(chain)]
            for draw in range(1, draws + 1)
        ]
        for r, chain in enumerate(chains)
    ]


def rewind_points(training: Training, early: int, matching: int, late: int = 0, between: int = 0) -> list[int]:
    """Step 0, an early step, some at equal ratios between it and a matching one, that, and a late one (0: none).

    Raises:
        RecipeError: if they are not rising steps before the end of training.
    """
    ratio = (_whole("matching", matching, 1) / _whole("early", early, 1)) ** (1 / (_whole("between", between) + 1))
    rising = [round(early * ratio**i) for i in range(between + 1)]
    points = [0, *rising, matching, *([late] if late else []), training.steps]
    if points != sorted(set(points)):
        raise RecipeError(
            f"rewind points must rise from 0 to less than the {training.steps} steps of training; here "
            f"they are {', '.join(map(str, points[:-1]))}"
        )
    return points[:-1]


def halvings(step: int, count: int) -> list[int]:
    """The step halved `count` times, from the smallest up to the step itself; at least 1, each once."""
    return sorted({max(1, round(step / 2**i)) for i in range(count + 1)})


def dense(training: Training, replicate: int) -> Run:
    """The dense run of a replicate: its own initial weights, its own order of batches."""
    return Run(training, Initial(replicate), Dense(), order=(replicate,))


def imp(
    training: Training,
    replicate: int,
    levels: int,
    fraction: Fraction,
    *,
    scope: Scope = "layer",
    rewind_step: int = 0,
    fresh_order: bool = False,
    criterion: str = "magnitude",
    order: int | None = None,
) -> list[Run]:
    """The runs of iterative magnitude pruning: dense first, then one run a level.

    Frankle & Carbin (2019), Section 1, with `rewind_step=0`; Frankle et al. (2020) with a later one.

    Args:
        training: the hyperparameters, the same at every level.
        replicate: index of initial weights and data order.
        levels: rounds of pruning.
        fraction: the part of the survivors that goes in one round; see `lottery.masks.rates`.
        scope: "layer" or "global".
        rewind_step: survivors go back to the weights that the dense run had at this step.
        fresh_order: draw a new order of batches at each level (a hidden variable of the literature).
        criterion: what the survivors have most of; see `lottery.masks.scores`. "large_final" is another name for
            "magnitude".
        order: index of the data order, if it is to be another than the replicate's: the same start, another chance.
    """
    order = replicate if order is None else order
    runs = [replace(dense(training, replicate), order=(order,))]
    for level in range(1, _whole("levels", levels) + 1):
        mask = Pruned(runs[-1], _fraction(fraction), scope, _criterion(criterion))
        runs.append(Run(training, Rewound(runs[0], rewind_step), mask, _order(order, level, fresh_order)))
    return runs


RETRAINING = ("weights", "learning rate", "fine-tuning", "none")


def retrained(
    training: Training,
    replicate: int,
    levels: int,
    fraction: Fraction,
    kind: str,
    *,
    scope: Scope = "layer",
    step: int = 0,
    fresh_order: bool = False,
) -> list[Run]:
    """Iterative magnitude pruning with one of the ways of retraining that Renda et al. (2020) compare, or with none.

    All three retrain for the same steps, from `step` to the end, on the same batches.

    Args:
        training, replicate, levels, fraction, scope, fresh_order: as of `imp`.
        kind: "weights" rewinds the survivors to `step`, which is `imp`; "learning rate" keeps the trained values and
            rewinds the schedule only; "fine-tuning" keeps them and goes on at the schedule's last learning rate;
            "none" keeps them and does not train: its runs have no step.
        step: where the schedule is taken up.

    Raises:
        RecipeError: if there is no such kind.
    """
    if kind not in RETRAINING:
        raise RecipeError(f"no retraining {kind!r}; known: {', '.join(RETRAINING)}")
    rewound = levels if kind == "weights" else 0
    runs = imp(training, replicate, rewound, fraction, scope=scope, rewind_step=step, fresh_order=fresh_order)
    if kind == "fine-tuning":
        training = replace(training, lr=training.learning_rate(training.steps - 1), milestones=(), warmup=0)
    step = training.steps if kind == "none" else step
    for level in range(len(runs), _whole("levels", levels) + 1):
        mask = Pruned(runs[-1], _fraction(fraction), scope)
        runs.append(Run(training, Continued(runs[-1], step), mask, _order(replicate, level, fresh_order)))
    return runs


def transplanted(chain: list[Run], rewind_step: int) -> list[Run]:
    """The masks of a chain, however they were found, on the weights that its dense run had at `rewind_step`."""
    return [Run(chain[0].training, Rewound(chain[0], rewind_step), run.mask, run.order) for run in chain[1:]]


def strategies(
    training: Training, replicate: int, levels: int, fraction: Fraction, *, fresh_order: bool = False
) -> dict[str, list[Run]]:
    """Masks found in the two ways of Frankle & Carbin (2019), Appendix B, all trained from the initial weights.

    Args:
        training, replicate, levels, fraction, fresh_order: as of `imp`.

    Returns:
        "resetting": the runs of `imp`; "training on": the dense run, then one run a level, whose mask was found without
        giving the survivors their initial weights back in between.
    """
    shared = {"training": training, "replicate": replicate, "levels": levels, "fraction": fraction}
    on = retrained(**shared, kind="learning rate", fresh_order=fresh_order)
    return {"resetting": imp(**shared, fresh_order=fresh_order), "training on": [on[0], *transplanted(on, 0)]}


def one_shot(
    training: Training,
    replicate: int,
    level: int,
    fraction: Fraction,
    *,
    scope: Scope = "layer",
    rewind_step: int = 0,
    fresh_order: bool = False,
    criterion: str = "magnitude",
) -> Run:
    """Pruning the dense run once to the density that `level` rounds reach, then training again from `rewind_step`.

    The arguments are those of `imp`; at level 1 the two are the same run.

    Raises:
        RecipeError: if the level is no whole number, or so many rounds leave nothing.
    """
    level = _whole("level", level)

    def at_once(rate: float) -> float:
        whole = round(1 - (1 - rate) ** level, 12)
        if whole == 1 and rate < 1:
            raise RecipeError(f"{level} rounds that remove {rate:g} each leave nothing: prune fewer rounds, or less")
        return whole

    given = checked(fraction)
    once = {name: at_once(rate) for name, rate in given.items()} if isinstance(given, dict) else at_once(given)
    start = dense(training, replicate)
    mask = Pruned(start, _fraction(once), scope, _criterion(criterion))
    return Run(training, Rewound(start, rewind_step), mask, _order(replicate, level, fresh_order))


def reinitialised(run: Run, replicate: int, draw: int = 1) -> Run:
    """The run's mask on a random reinitialisation (Frankle & Carbin 2019, Section 2)."""
    return Run(run.training, Initial(replicate, draw), run.mask, run.order)


def random_sparse(run: Run, replicate: int, draw: int = 1) -> Run:
    """A random mask with the run's counts per layer on random initial weights (ibid., Figures 1 and 14)."""
    return Run(run.training, Initial(replicate, draw), Shuffled(run.mask, replicate, draw), run.order)


def shuffled(run: Run, replicate: int, draw: int = 1) -> Run:
    """The run's own starting weights under its mask shuffled within each layer."""
    return Run(run.training, run.weights, Shuffled(run.mask, replicate, draw), run.order)


def sign_ablation(run: Run, replicate: int, values: str, signs: str = "original", draw: int = 1) -> Run:
    """The run's mask on starting weights that keep the ticket's signs, or do not (Zhou et al. 2019, Section 3).

    Args:
        run: a ticket that starts from step 0.
        replicate, draw: the stream of what is drawn anew.
        values: "new" (another draw of the initial distribution), "reshuffled" (the survivors' values permuted within
            each layer) or "constant" (each layer's standard deviation).
        signs: "original", those of the ticket's start, or "random".

    Raises:
        RecipeError: if there is no such alteration, or the run starts at a later step: then its schedule would.
    """
    drawn = Initial(replicate, draw)
    starts = {
        ("new", "original"): Signed(drawn, run.weights),
        ("new", "random"): drawn,
        ("reshuffled", "original"): Signed(Reshuffled(run.weights, run.mask, replicate, draw), run.weights),
        ("reshuffled", "random"): Reshuffled(run.weights, run.mask, replicate, draw),
        ("constant", "original"): Constant(run.weights),
        ("constant", "random"): Signed(Constant(run.weights), drawn),
    }
    if run.start or (values, signs) not in starts:
        raise RecipeError(
            f"cannot alter values to {values!r} and signs to {signs!r} of a run from step {run.start}; "
            f"from step 0: {', '.join(map(' with '.join, starts))} signs"
        )
    return Run(run.training, starts[values, signs], run.mask, run.order)


def noisy(run: Run, replicate: int, scale: float, draw: int = 1) -> Run:
    """The run with Gaussian noise of `scale` times the layer's standard deviation on its starting weights."""
    return replace(run, weights=Noisy(run.weights, scale, replicate, draw))


def noised(chains: list[list[Run]], level: int, scales: Sequence[float]) -> dict[str | float, list[Run]]:
    """Tickets of a level, the same with noise on their starting weights or with new ones, and the dense runs.

    Frankle & Carbin (2019), Appendix F.

    Args:
        chains: one a replicate, the dense run first.
        level: of the tickets.
        scales: of the noise, in standard deviations of a layer's initial weights.

    Returns:
        "ticket", each scale, "reinitialised", "dense" -> one run a replicate.
    """
    runs = {"ticket": [chain[level] for chain in chains]}
    noise = {scale: [noisy(run, r, scale) for r, run in enumerate(runs["ticket"])] for scale in scales}
    fresh = [reinitialised(run, r) for r, run in enumerate(runs["ticket"])]
    return {**runs, **noise, "reinitialised": fresh, "dense": [chain[0] for chain in chains]}


def sign_transferred(run: Run, replicate: int, draw: int = 1, *, normalisation: bool = False) -> Run:
    """The run's mask on a new start that takes over the signs the run ended with (Oh et al. 2025).

    The start is the magnitude of `Initial(replicate, draw)` times the sign of the trained weights; the mask alone on
    the same start is `reinitialised(run, replicate, draw)`.

    Args:
        run: the trained ticket.
        replicate, draw: of the new start.
        normalisation: whether the trained parameters of normalisation layers come along.
    """
    along = "normalisation" if normalisation else "nothing"
    start = Signed(Initial(replicate, draw), run.end, along)
    return Run(run.training, start, run.mask, run.order)


def untrained(run: Run) -> Run:
    """The run cut to its first step: the first entry of its history is the accuracy before any training.

    On a mask of the criterion "large_final_same_sign" that is the supermask of Zhou et al. (2019), Section 5.
    """
    return replace(run, training=replace(run.training, steps=run.start + 1, evaluate=()))


def siblings(run: Run, step: int | None = None, count: int = 2) -> list[Run]:
    """Trainings from the same weights with other data orders: instability analysis (Frankle et al. 2020).

    Args:
        run: the weights are its own start, or
        step: those that it had at this step.
        count: how many.
    """
    weights = run.weights if step is None else Rewound(run, step)
    return [replace(run, weights=weights, order=(*run.order, 0, i)) for i in range(count)]


def from_perturbed_start(
    chain: list[Run], level: int, replicate: int, multiple: float = 1.0, through: Mask | None = None, draw: int = 0
) -> Run:
    """The run of a level from a start as far from its own as the next level's, or a multiple of it.

    Its path to `chain[level]` tests whether any two networks that far apart train to one mode (Paul et al. 2023,
    Section 3.2). Its data order is that of the next level.

    Args:
        chain: of `imp`, rewound, at least up to level + 1.
        level: which.
        replicate, draw: the stream of the direction.
        multiple: of the distance between the pruned rewind points of this level and the next.
        through: move towards the start under this mask instead of in a random direction; see `Thinned`.

    Raises:
        RecipeError: if the chain has no such level, or none after it.
    """
    if _whole("level", level) > len(chain) - 2:
        raise RecipeError(f"no level after {level} in a chain whose last is {len(chain) - 1}: it must have one more")
    here, after = chain[level], chain[level + 1]
    start = after.weights
    along = None if through is None else Masked(start, through)
    moved = Perturbed(start, here.mask, Masked(start, after.mask), replicate, draw, multiple, along)
    return Run(here.training, moved, here.mask, after.order)


def adaptive_imp(
    training: Training,
    replicate: int,
    levels: int,
    epsilon: float,
    rewind_step: int = 0,
    fresh_order: bool = False,
    examples: int = 0,
) -> list[Run]:
    """Iterative magnitude pruning that at each level prunes as much as the loss allows without retraining."""
    runs = [dense(training, replicate)]
    for level in range(1, _whole("levels", levels) + 1):
        mask = Adaptive(runs[-1], epsilon, examples)
        runs.append(Run(training, Rewound(runs[0], rewind_step), mask, _order(replicate, level, fresh_order)))
    return runs
