"""What a run is, as frozen values, and the papers' experiments as functions that return recipes.

A recipe says completely how a result comes about. Recipes refer to recipes, so iterative magnitude pruning is a chain
of values and every ablation is one more small recipe. A recipe's key is the hash of its canonical JSON, in which the
runs it refers to stand as their keys: a changed parameter recomputes only what hangs on it.
"""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from . import LotteryError
from .masks import Fraction

_frozen = dataclass(frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))


class RecipeError(LotteryError):
    """A recipe that makes no sense."""


class Recipe:
    """Base of all recipes.

    A field that a later version adds must have a default that changes nothing: defaults are left out of the canonical
    JSON, so old keys stay. A change that alters results raises `version`.
    """

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = False  # has a record of its own in the store
    light: ClassVar[bool] = False  # takes milliseconds: computed by whoever coordinates, not sent to a worker

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits: the SHA-256 of the canonical JSON."""
        return hashlib.sha256(json.dumps(self.json(), sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def json(self) -> dict:
        """The recipe as plain values: fields at their default left out, stored recipes as their keys."""
        values = {"type": type(self).__name__, "version": self.version}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                values[field.name] = _plain(value)
        return values

    def reads(self) -> list[tuple["Recipe", int | None]]:
        """What computing this recipe reads from the store: records (step None) and dense weights of a run at a step.

        A recipe that is not stored reads what resolving it needs.
        """
        values = (getattr(self, field.name) for field in fields(self))
        parts = (part for value in values for part in (value if isinstance(value, tuple) else (value,)))
        return [read for part in parts if isinstance(part, Recipe) for read in part.needed()]

    def needed(self) -> list[tuple["Recipe", int | None]]:
        """What a recipe that refers to this one reads for it."""
        return [(self, None)] if self.stored else self.reads()


def _plain(value):
    if isinstance(value, Recipe):
        return value.key if value.stored else value.json()
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value) if getattr(value, f.name) != f.default}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@_frozen
class Training(Recipe):
    """A row of a paper's table of hyperparameters.

    Attributes:
        data, model: names known to `lottery.data` and `lottery.models`.
        steps: optimiser steps (the papers' "iterations") from step 0 to the end.
        batch: examples a step; examples are reshuffled every epoch and an incomplete last batch is left out.
        optimiser, lr, momentum, weight_decay: "adam" or "sgd" and its settings.
        milestones, gamma: the learning rate is multiplied by gamma after each of these steps.
        warmup: steps over which the learning rate rises linearly from 0.
        augment: random horizontal flip and crop after padding by 4 pixels.
        validation: training examples split off as the validation set.
        scaling: see `lottery.data.load`.
        evaluate: when test and validation sets are evaluated: pairs (until, every); () means 100 times in all.
        part: (i, n) trains on every n-th training example only, from the i-th on; (0, 2) and (1, 2) share none.
        precision: of products in training: "float32"; "tf32", on GPUs that have it, multiplies with 11 of the 24 bits;
            "bf16" does matrix products and convolutions in bfloat16. Weights, optimiser, losses and all that is
            recorded are float32 in any case.
        layout: how images and filters lie in memory where networks train one by one: "channels_last" is faster for
            convolutional networks on a CPU, and rounds otherwise.
        seed: base of all random streams.
    """

    data: str
    model: str
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    optimiser: Literal["adam", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    milestones: tuple[int, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup: Annotated[int, Field(ge=0)] = 0
    augment: bool = False
    validation: Annotated[int, Field(ge=1)] = 5000
    scaling: Literal["standardise", "unit", "unit-norm"] = "standardise"
    evaluate: tuple[tuple[int, int], ...] = ()
    part: tuple[int, int] = (0, 1)
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    layout: Literal["channels_first", "channels_last"] = "channels_first"
    seed: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _consistent(self):
        if list(self.milestones) != sorted(set(self.milestones)) or any(not 0 < m for m in self.milestones):
            raise ValueError(f"milestones must be rising positive steps, not {self.milestones}")
        untils = [until for until, _ in self.evaluate]
        if untils != sorted(set(untils)) or any(every < 1 for _, every in self.evaluate):
            raise ValueError(f"evaluate must be pairs (until, every) with rising 'until', not {self.evaluate}")
        if not 0 <= self.part[0] < self.part[1]:
            raise ValueError(f"part must be (i, n) with 0 ≤ i < n, not {self.part}")
        if self.optimiser == "adam" and self.momentum:
            raise ValueError("momentum is a setting of SGD")
        return self

    def grid(self, start: int = 0) -> list[int]:
        """The steps at which test and validation sets are evaluated; the first and the last step always are."""
        steps, at = {start, self.steps}, 0
        for until, every in self.evaluate or ((self.steps, max(1, self.steps // 100)),):
            until = min(until, self.steps)
            steps.update(range(at + every, until + 1, every))
            at = max(at, until)
        return sorted(step for step in steps if start <= step <= self.steps)

    def learning_rate(self, step: int) -> float:
        """The learning rate of the step that leads from `step` to `step + 1`."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return self.lr * warm * self.gamma ** sum(step >= milestone for milestone in self.milestones)


class Weights(Recipe):
    """Where a network starts."""

    @property
    def start(self) -> int:
        """The step at which a run from here takes up schedule and data order."""
        return 0


class Mask(Recipe):
    """What is cut."""


@_frozen
class Initial(Weights):
    """A draw from the network's initial distribution.

    Attributes:
        replicate: which replicate's stream.
        draw: 0 is the replicate's own start; 1, 2, … are its random reinitialisations.
    """

    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0


@_frozen
class Dense(Mask):
    """Nothing is cut."""


@_frozen
class Run(Recipe):
    """A training run.

    Attributes:
        training: the hyperparameters.
        weights: where the network starts.
        mask: what is cut.
        order: the indices of the stream that batches are drawn from, usually (replicate,).
    """

    stored: ClassVar[bool] = True

    training: Training
    weights: Weights
    mask: Mask
    order: tuple[int, ...] = (0,)

    @property
    def start(self) -> int:
        """The step that training starts from: rewinding to step k goes on in schedule and data order at k."""
        return self.weights.start

    @property
    def end(self) -> "Rewound":
        """The final weights."""
        return Rewound(self, self.training.steps)


@_frozen
class Rewound(Weights):
    """The weights that a run had after `step` steps, biases and normalisation included."""

    run: Run
    step: Annotated[int, Field(ge=0)] = 0

    @property
    def start(self) -> int:
        return self.step

    def reads(self):
        return self.run.weights.reads() if self.step == self.run.start else [(self.run, self.step)]

    @model_validator(mode="after")
    def _inside(self):
        if not self.run.start <= self.step <= self.run.training.steps:
            raise ValueError(
                f"cannot rewind to step {self.step} of a run from {self.run.start} to {self.run.training.steps}"
            )
        return self


@_frozen
class Continued(Weights):
    """The final weights of a run, with schedule and data order taken up again at `step` (Renda et al. 2020).

    With the run's own training this is learning-rate rewinding; see `retrained`. The optimiser starts anew.
    """

    run: Run
    step: Annotated[int, Field(ge=0)] = 0

    @property
    def start(self) -> int:
        return self.step

    def reads(self):
        return self.run.end.reads()

    @model_validator(mode="after")
    def _inside(self):
        if self.step > self.run.training.steps:
            raise ValueError(f"step {self.step} is beyond the {self.run.training.steps} steps of the run")
        return self


@_frozen
class Masked(Weights):
    """Weights with those that a mask cuts at zero: the end of a pruning projection, or a pruned rewind point."""

    weights: Weights
    mask: Mask

    @property
    def start(self) -> int:
        return self.weights.start


@_frozen
class Signed(Weights):
    """Magnitudes, biases and the rest of one start with the signs of another, on every prunable weight.

    `Signed(Initial(r, draw=1), Initial(r))` is the sign-preserving reinitialisation of Zhou et al. (2019).

    Attributes:
        magnitudes: where sizes, biases and the rest come from.
        signs: where the signs of the prunable weights come from; a weight that is 0 there is 0.
        along: "normalisation" takes the scale, shift and statistics of normalisation layers from `signs` too
            (Oh et al. 2025).
    """

    magnitudes: Weights
    signs: Weights
    along: Literal["nothing", "normalisation"] = "nothing"


@_frozen
class Constant(Weights):
    """One magnitude a layer: the standard deviation of these weights, with their signs, on every prunable weight.

    The signed constant of Zhou et al. (2019), Section 3; biases and the rest are kept.
    """

    weights: Weights

    @property
    def start(self) -> int:
        return self.weights.start


@_frozen
class Reshuffled(Weights):
    """Weights whose values are permuted within each layer among the survivors of a mask.

    The random reshuffle of Zhou et al. (2019), Section 3; biases and the rest are kept.

    Attributes:
        weights: whose values.
        mask: among whose survivors.
        replicate, draw: the stream.
    """

    weights: Weights
    mask: Mask
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    @property
    def start(self) -> int:
        return self.weights.start


@_frozen
class Noisy(Weights):
    """Weights with independent Gaussian noise on every prunable weight (Frankle & Carbin 2019, Appendix F, Figure 25).

    Biases and the rest are kept; a run's mask cuts the noise with the weights.

    Attributes:
        weights: what the noise is added to, before pruning.
        scale: standard deviation of the noise, relative to that of the layer's weights; a stream is the same noise at
            every scale.
        replicate, draw: the stream.
    """

    weights: Weights
    scale: Annotated[float, Field(gt=0)]
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    @property
    def start(self) -> int:
        return self.weights.start


Criterion = Literal[
    "magnitude",
    "small_final",
    "large_init",
    "small_init",
    "magnitude_increase",
    "movement",
    "large_final_same_sign",
    "large_final_diff_sign",
    "random",
]


@_frozen
class Pruned(Mask):
    """A run's mask after one more round of pruning, by the magnitude of its final weights or another criterion.

    Attributes:
        run: the trained run.
        fraction: the part of the survivors that goes; see `lottery.masks.rates`.
        scope: "layer" or "global"; see `lottery.masks.prune`.
        criterion: what the survivors have most of; see `lottery.masks.scores`.
        draw: which random scores the criterion "random" draws, from a stream of the run's order.
    """

    stored: ClassVar[bool] = True
    light: ClassVar[bool] = True

    run: Run
    fraction: float | tuple[tuple[str, float], ...]
    scope: Literal["layer", "global"] = "layer"
    criterion: Criterion = "magnitude"
    draw: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        start = [] if self.criterion == "magnitude" else self.run.weights.needed()
        return [(self.run, self.run.training.steps), *self.run.mask.needed(), *start]

    @property
    def table(self) -> Fraction:
        """The fraction in the form that `lottery.masks.rates` takes."""
        return self.fraction if isinstance(self.fraction, float) else dict(self.fraction)


@_frozen
class Shuffled(Mask):
    """A random mask with the same count in each layer as another.

    Attributes:
        mask: the mask whose counts are kept.
        replicate, draw: the stream.
    """

    mask: Mask
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0


@_frozen
class Thinned(Mask):
    """A random mask nested in another: one round of random pruning.

    Attributes:
        mask: what is left before.
        fraction, scope: as of `Pruned`.
        replicate, draw: the stream.
    """

    mask: Mask
    fraction: float | tuple[tuple[str, float], ...]
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0
    scope: Literal["layer", "global"] = "layer"

    @property
    def table(self) -> Fraction:
        """The fraction in the form that `lottery.masks.rates` takes."""
        return self.fraction if isinstance(self.fraction, float) else dict(self.fraction)


def closure(recipes: Iterable[Recipe]) -> list[Recipe]:
    """The stored recipes among these and all that they rest on, each once, what is read before its readers."""
    found: dict[str, Recipe] = {}

    def visit(recipe: Recipe) -> None:
        if recipe.key not in found:
            for read, _ in recipe.reads():
                visit(read)
            found[recipe.key] = recipe

    for recipe in recipes:
        visit(recipe)
    return list(found.values())


def training(**values) -> Training:
    """A `Training`, with errors in one line.

    Raises:
        RecipeError: naming the field, the value and what is allowed.
    """
    try:
        return Training(**values)
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'training'}: {e['msg']}" for e in error.errors())
        raise RecipeError(f"this training cannot be: {said}") from None


def _fraction(fraction: Fraction):
    return float(fraction) if isinstance(fraction, int | float) else tuple(sorted(fraction.items()))


def _criterion(name: str) -> str:
    return "magnitude" if name == "large_final" else name  # Zhou et al.'s name for what has another one here


def early_grid(steps: int) -> tuple[tuple[int, int], ...]:
    """When to evaluate, densely early: of 50,000 steps every 100 to 10,000, every 200 to 20,000, then every 1,000.

    Frankle & Carbin (2019) evaluate every 100 of 50,000 throughout; early stopping falls into the dense part.
    """
    until, every = (steps // 5, 2 * steps // 5, steps), (steps // 500, steps // 250, steps // 50)
    return tuple((u, max(1, e)) for u, e in zip(until, every, strict=True) if u > 0)


def every_nth(levels: int, n: int) -> list[int]:
    """Every n-th level from 1 to `levels`, so that more often contains less often: 8 → 7, 15; 4 → 3, 7, 11, …"""
    return list(range(max(n - 1, 1), levels + 1, n))


def beside(chains: list[list[Run]], make: Callable[[Run, int, int], Run], every: int, draws: int = 1) -> list:
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
    ratio = (matching / early) ** (1 / (between + 1))
    points = [
        0,
        *(round(early * ratio**i) for i in range(between + 1)),
        matching,
        *([late] if late else []),
        training.steps,
    ]
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
    scope: str = "layer",
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
    for level in range(1, levels + 1):
        mask = Pruned(runs[-1], _fraction(fraction), scope, _criterion(criterion))
        runs.append(Run(training, Rewound(runs[0], rewind_step), mask, (order, level) if fresh_order else (order,)))
    return runs


RETRAINING = ("weights", "learning rate", "fine-tuning", "none")


def retrained(
    training: Training,
    replicate: int,
    levels: int,
    fraction: Fraction,
    kind: str,
    *,
    scope: str = "layer",
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
    runs = imp(
        training,
        replicate,
        levels if kind == "weights" else 0,
        fraction,
        scope=scope,
        rewind_step=step,
        fresh_order=fresh_order,
    )
    if kind == "fine-tuning":
        training = replace(training, lr=training.learning_rate(training.steps - 1), milestones=(), warmup=0)
    step = training.steps if kind == "none" else step
    for level in range(len(runs), levels + 1):
        mask = Pruned(runs[-1], _fraction(fraction), scope)
        runs.append(Run(training, Continued(runs[-1], step), mask, (replicate, level) if fresh_order else (replicate,)))
    return runs


def transplanted(chain: list[Run], rewind_step: int) -> list[Run]:
    """The masks of a chain, however they were found, on the weights that its dense run had at `rewind_step`."""
    return [Run(chain[0].training, Rewound(chain[0], rewind_step), run.mask, run.order) for run in chain[1:]]


def one_shot(
    training: Training,
    replicate: int,
    level: int,
    fraction: Fraction,
    *,
    scope: str = "layer",
    rewind_step: int = 0,
    fresh_order: bool = False,
    criterion: str = "magnitude",
) -> Run:
    """Pruning the dense run once to the density that `level` rounds reach, then training again from `rewind_step`.

    The arguments are those of `imp`; at level 1 the two are the same run.
    """

    def at_once(rate: float) -> float:
        return round(1 - (1 - rate) ** level, 12)

    once = at_once(fraction) if isinstance(fraction, int | float) else {n: at_once(r) for n, r in fraction.items()}
    start = dense(training, replicate)
    order = (replicate, level) if fresh_order else (replicate,)
    mask = Pruned(start, _fraction(once), scope, _criterion(criterion))
    return Run(training, Rewound(start, rewind_step), mask, order)


def reinitialised(run: Run, replicate: int, draw: int = 1) -> Run:
    """The run's mask on a random reinitialisation (Frankle & Carbin 2019, Section 2)."""
    return Run(run.training, Initial(replicate, draw), run.mask, run.order)


def random_sparse(run: Run, replicate: int, draw: int = 1) -> Run:
    """A random mask with the run's counts per layer on random initial weights (ibid., Figures 1 and 14)."""
    return Run(run.training, Initial(replicate, draw), Shuffled(run.mask, replicate, draw), run.order)


def shuffled(run: Run, replicate: int, draw: int = 1) -> Run:
    """The run's own starting weights under its mask shuffled within each layer."""
    return Run(run.training, run.weights, Shuffled(run.mask, replicate, draw), run.order)


def altered(run: Run, replicate: int, values: str, signs: str = "original", draw: int = 1) -> Run:
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
