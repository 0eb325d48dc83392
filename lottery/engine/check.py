"""Whether recipes can be computed, before anything is."""

import functools
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, cast

import torch

from .. import data, masks, models
from ..landscape import LandscapeError, Path, Plane
from ..recipes import Continued, Dense, Mask, Pruned, Recipe, Rewound, Run, Thinned, Training, closure
from . import identity
from .precision import check_precision
from .trial import trial
from .world import ExecutionError, StoreWorld, dataset_of, network_of


def check(recipes: Iterable[Recipe], device: str = "cpu") -> None:
    """Refuses what can be seen to fail before anything is computed: unknown names, data that cannot be had, a batch
    larger than the data, augmentation of what is no image, a network without layers that can be pruned, a precision
    that the device lacks, weights and masks of a network of other shapes, wherever in a recipe they are, pruned
    fractions that do not fit the network or leave a layer empty, complements of more than half of a layer, paths beyond
    their mask, and whatever recipes refuse themselves.

    Raises:
        LotteryError: saying what is wrong and what to do.
    """
    recipes = list(recipes)
    trainings = {cast(Any, recipe).training for recipe in recipes if recipe.trains}
    trainings |= {training for recipe in recipes if (training := _measured(recipe))}
    for training in sorted(trainings, key=lambda t: (t.data, t.scaling, t.validation, repr(t))):
        _check_training(training, device)
    fits = _Fits()
    for recipe in recipes:
        if isinstance(recipe, Mask | Run):
            fits.check(recipe)
    for recipe in recipes:
        recipe.check(StoreWorld(None))
        fits.check(recipe)


def _measured(recipe: Recipe) -> Training | None:
    """The training whose network a recipe computes with, if it is the user's and no run has to be tried before."""
    training = getattr(recipe, "training", None) if recipe.stored else None
    return training if isinstance(training, Training) and training.model in models.registered() else None


# Weights and masks.


class _Fits:
    """Whether all that recipes are made of is of their networks."""

    def __init__(self):
        self.counts = _Counts()
        self.seen: set[tuple[Recipe, Training | None, bool]] = set()

    def check(self, recipe: Recipe) -> None:
        """Refuses weights and masks from a network of other shapes, and masks that cannot be, however deep inside; the
        parts of parts that have records are left to these.

        Raises:
            ExecutionError: naming both networks and a tensor in which they differ.
            LotteryError: about the numbers of weights that masks keep.
        """
        kept: list[tuple[Mask, Training]] = []
        left: list[tuple[Recipe, Training | None, bool]] = [(recipe, None, True)]
        while left:
            part, asked, whole = found = left.pop()
            if found in self.seen:
                continue
            self.seen.add(found)
            own = part.own_training
            if asked and own:
                self._alike(part, own, asked, whole)
            if isinstance(part, Mask) and (of := asked or own):
                kept.append((part, of))
            if part is recipe or not part.stored:
                left += [(inner, own or asked, whole and every) for inner, every in reversed(part.fitting())]
        for mask, training in kept:
            self.counts.of(mask, training)
        if isinstance(recipe, Path | Plane):
            self._inside(recipe)

    def _alike(self, part: Recipe, source: Training, own: Training, whole: bool) -> None:
        if (source.model, source.data) == (own.model, own.data):
            return
        kind, does = ("mask", "does") if isinstance(part, Mask) else ("weights", "do")
        networks = (self.counts.network(training.model, training.data) for training in (own, source))
        one, other = (of.weights if whole and kind == "weights" else of.mask for of in networks)
        if differ := [name for name in {**one, **other} if one.get(name) != other.get(name)]:
            here, there = (str(list(of[differ[0]])) if differ[0] in of else "absent" for of in (one, other))
            raise ExecutionError(
                f"the {kind} of {source.model} on {source.data} {does} not fit {own.model} on {own.data}: {differ[0]} "
                f"is {there} there and {here} here. Networks must have the same shapes: take data of the same size and "
                f"number of classes, or {'another mask' if kind == 'mask' else 'other weights'}"
            )

    def _inside(self, recipe: Path | Plane) -> None:
        """Refuses points that have more weights than the mask keeps, which after training are not zero."""
        whole = self.counts.of(recipe.mask, recipe.training)
        for number, point in enumerate(recipe.points, 1):
            if not isinstance(point, Rewound | Continued):
                continue
            step = point.step if isinstance(point, Rewound) else point.run.training.steps
            own = self.counts.of(point.run.mask, point.run.training) if step > point.run.start else None
            if whole and own and sum(own.values()) > sum(whole.values()):
                raise LandscapeError(
                    f"a {type(recipe).__name__.lower()} has a mask that keeps {sum(whole.values())} weights, and its "
                    f"point {number} has {sum(own.values())}, whose mask is not nested in the path's: name the mask of "
                    f"the network with the most weights (`landscape.path(dense, sparse)` takes that of the first)"
                )
            if step > point.run.start and _apart(point.run.mask, recipe.mask, bool(own) and own == whole):
                raise LandscapeError(
                    f"the mask of a {type(recipe).__name__.lower()} is none that the mask of its point {number} was "
                    f"pruned from, so that point has weights which the path would cut: name a mask that keeps those of "
                    f"all points, such as mask=recipes.Dense()"
                )


def _apart(mask: Mask, wider: Mask, as_many: bool) -> bool:
    """Whether a mask cannot lie within one that is meant to be as wide: it is no earlier round of it, both were found
    apart from each other, or they have as many weights and are two.

    Args:
        mask, wider: which.
        as_many: whether both are known to keep as many weights of each layer.
    """
    if isinstance(wider, Dense) or wider in list(_rounds(mask)):
        return False
    if mask.pruned_from and wider.pruned_from:
        return True
    found = wider in set(closure([mask]))
    return as_many if found else type(mask) is not type(wider)


def _rounds(mask: Mask) -> Iterator[Mask]:
    """A mask and those that it was pruned from; nothing if it is no round of pruning."""
    left: Mask | None = mask
    while left is not None:
        yield left
        left = left.pruned_from


Counts = dict[tuple[str, ...], int]
"""Layers → weights that they have left together: of one layer, or of several that are ranked together."""


class _Network:
    """What weights and masks of a network must be like.

    Args:
        model, dataset: names of the network and of its data.

    Attributes:
        weights, mask: the shapes of what they have.
        kinds, counts: of the weights that may be pruned.
        acting: the counts without embeddings' rows for padding.
    """

    def __init__(self, model: str, dataset: str):
        module = models.build(model, *data.describe(dataset))
        self.weights = {name: tensor.shape for name, tensor in module.state_dict().items()}
        self.kinds = models.prunable(module)
        self.mask = {name: self.weights[name] for name in self.kinds}
        self.counts: Counts = {(name,): shape.numel() for name, shape in self.mask.items()}
        padding = {name: self.mask[name][1:].numel() for name in models.padding(module) if name in self.mask}
        self.acting: Counts = {key: count - padding.get(key[0], 0) for key, count in self.counts.items()}


LEAST = 10
"""Weights that pruning layers together leaves a layer, in the mean: with fewer, some layer is soon left empty."""


class _Counts:
    """How many weights masks leave, where numbers alone decide."""

    def __init__(self):
        self.network = functools.cache(_Network)
        self.known: dict[tuple[str, Training], Counts | None] = {}

    def of(self, mask: Mask, training: Training) -> Counts | None:
        """What a mask leaves; None where it depends on values.

        Raises:
            MaskError: if fractions do not fit the network.
            ExecutionError: if a layer would be left empty, or nothing would go.
        """
        network, left = self.network(training.model, training.data), [mask]
        while (left[-1].key, training) not in self.known and (before := left[-1].pruned_from or left[-1].counted_as):
            left.append(before)
        first = left.pop()
        counts = self.known.setdefault((first.key, training), network.counts if isinstance(first, Dense) else None)
        for outer in reversed(left):
            counts = self.known[outer.key, training] = self._after(outer, counts, training, network)
        return counts

    def _after(self, mask: Mask, before: Counts | None, training: Training, network: _Network) -> Counts | None:
        """What a mask leaves of that which decides, with its own fractions if it has any, how many weights it keeps."""
        if mask.pruned_from is None:
            whole = network.acting
            for names, count in (before or {}).items():
                mask.room(names[0], count, sum(whole[name,] for name in names))
            return before
        turn = cast(Any, mask)  # a round has a table of fractions, and a scope
        rates = masks.rates(turn.table, network.kinds)
        if turn.scope == "global":
            if len({rate for rate in rates.values() if rate > 0}) > 1:
                raise ExecutionError(
                    "global pruning ranks all layers together: give one fraction (0 leaves a layer out), "
                    f"not {turn.fraction}"
                )
            together = tuple(name for name, rate in rates.items() if rate > 0)
            before = _merged(before, together)
        if before is None or any(len({rates[name] for name in names}) > 1 for names in before):
            return None
        if turn.scope == "layer" and any(len(names) > 1 for names in before):
            return None
        left = {names: count - round(rates[names[0]] * count) for names, count in before.items()}
        for names, count in left.items():
            rate = rates[names[0]]
            least = LEAST if isinstance(mask, Pruned | Thinned) else 1  # others are tried however little they leave
            if count < (least * len(names) if len(names) > 1 else 1):
                layer = names[0] if len(names) == 1 else f"the {len(names)} layers"
                raise ExecutionError(
                    f"pruning {rate:.0%} of the {before[names]} weights that {layer} of {training.model} "
                    f"{'has' if len(names) == 1 else 'have together'} left would leave "
                    f"{'the' if len(names) == 1 else 'some'} layer empty: prune fewer rounds, less, or leave it out"
                )
        if left == before and isinstance(mask, Pruned | Thinned):
            raise ExecutionError(
                f"a round that prunes {', '.join(f'{rate:.3g}' for rate in sorted(set(rates.values())))} of the "
                f"{sum(before.values())} weights that {training.model} has left removes none: prune more or stop before"
            )
        return left


def _merged(counts: Counts | None, together: tuple[str, ...]) -> Counts | None:
    """The counts with layers that are ranked together as one; None where values decide how many some of them have."""
    if counts is None or not together:
        return counts
    inside = [names for names in counts if set(names) <= set(together)]
    if sum(map(len, inside)) < len(together):
        return None
    rest = {names: count for names, count in counts.items() if names not in inside}
    return {together: sum(counts[names] for names in inside), **rest}


# Trainings: their networks, data and devices.

LARGEST = 2**28
"""Weights of the largest fully connected network that is made: a gigabyte, and as much for each of its copies."""


def _check_size(training: Training) -> None:
    """Refuses the name of a network that no machine holds, before it is made."""
    kind, *numbers = training.model.split("-")
    if training.model in models.registered():
        return
    sizes = [int(number) if number.isascii() and len(number) < 9 else LARGEST for number in numbers if number.isdigit()]
    if kind == "lenet":
        shape, classes = data.describe(training.data)
        weights = sum(a * b for a, b in itertools.pairwise([math.prod(shape), *sizes, classes]))
    else:
        weights = LARGEST * (max(sizes, default=0) > 1202)  # layers of the deepest residual network of its authors
    if weights >= LARGEST:
        raise ExecutionError(f"the network {training.model[:60]} is too large: make it narrower or less deep")


def has(device: str) -> bool:
    """Whether this machine has a device.

    Raises:
        ExecutionError: if there is no such kind of device.
    """
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        raise ExecutionError(f"no device {device[:60]!r}: take cpu, cuda or, of several, cuda:1")
    kind, _, number = device.partition(":")
    return kind == "cpu" or int(number or 0) < torch.cuda.device_count()


def _check_training(training: Training, device: str) -> None:
    _check_size(training)
    models.factory_of(training.model)
    here = has(device)  # else other machines' GPUs are meant
    if here:
        check_precision(training.precision, device)
    dataset = dataset_of(training)
    if training.batch > len(dataset.train[1]):
        raise ExecutionError(
            f"a batch of {training.batch} is larger than the {len(dataset.train[1])} training "
            f"examples of {training.data}"
        )
    if training.augment and len(dataset.shape) != 3:
        raise ExecutionError(
            f"inputs of shape {dataset.shape} are no images [C, H, W]: {training.data} cannot be augmented"
        )
    if not models.prunable(network_of(training)):
        raise ExecutionError(
            f"the network {training.model} has no layer that can be pruned: linear and convolutional layers can"
        )
    alike = replace(training, steps=1, milestones=(), warmup=0, evaluate=(), lr=1e-3, gamma=0.1, seed=0)
    if not here:
        alike, device = replace(alike, precision="float32"), "cpu"
    _tried(alike, device, models.registered().get(training.model), data.registered().get(training.data))
    if training.model in models.registered():
        identity.network(training)  # refuses what could not be told from others


def forget() -> None:
    """Lets networks be tried again that this process has tried."""
    _tried.cache_clear()


@functools.lru_cache(maxsize=256)
def _tried(training: Training, device: str, network, examples) -> None:
    """A trial, once a process for all trainings that differ in what it does not depend on."""
    trial(training, dataset_of(training, device))
