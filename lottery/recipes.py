"""What a run is, as frozen values that know how they come about.

A recipe says completely how a result comes about. Recipes refer to recipes, so iterative magnitude pruning is a chain
of values and every ablation is one more small recipe. A recipe's key is the hash of its canonical JSON, in which the
runs it refers to stand as their keys: a changed parameter recomputes only what hangs on it.
"""

import contextlib
import copy
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, wraps
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_type_hints,
)

import numpy as np
import torch
from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from torch import nn
from torch.nn.functional import cross_entropy

from . import LotteryError, masks, models, seeds
from .data import Dataset, Pair
from .masks import Fraction
from .models import State

T = TypeVar("T")
Result = tuple[dict, dict[str, np.ndarray]]  # the values and the arrays of a record


@dataclass_transform(frozen_default=True, field_specifiers=(Field,))
def frozen(recipe: type[T]) -> type[T]:
    """Makes a class a frozen value whose fields are checked when one is made: a `RecipeError` says what is wrong.

    Raises:
        RecipeError: if a class of another module has its name: names are hashed into keys, so the two would share them.
    """
    for kind in defined():
        made_before = kind.__name__ == recipe.__name__ and "__dataclass_fields__" in vars(kind)
        if made_before and not _of_one_module(kind, recipe):
            raise RecipeError(
                f"two recipe classes are named {recipe.__name__}, of {kind.__module__} and {recipe.__module__}, and "
                "would share keys: give yours another name (in a notebook, restart the kernel then)"
            )
    made: Any = dataclass(frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))(recipe)
    checked = made.__init__

    @wraps(checked)
    def init(self, *args, **given) -> None:
        try:
            checked(self, *map(_whole, args), **{name: _whole(value) for name, value in given.items()})
        except ValidationError as error:
            raise RecipeError(_in_words(type(self), error)) from None

    made.__init__ = init
    if issubclass(made, Recipe):  # what fields hold is compared by keys: recipes that share parts would be walked anew
        made.__hash__, made.__eq__ = Recipe.__hash__, Recipe.__eq__
    return cast(type[T], made)


def _whole(value):
    """A value with NumPy's integers as Python's, also in tuples: pydantic takes the largest for no integers."""
    if type(value) is tuple:
        return tuple(map(_whole, value))
    return int(value) if isinstance(value, np.integer) else value


def _of_one_module(one: type, other: type) -> bool:
    """Whether two classes come from one file or notebook, which may be imported under several names."""
    files = {
        os.path.realpath(getattr(sys.modules.get(kind.__module__), "__file__", None) or "") for kind in (one, other)
    }
    return one.__module__ == other.__module__ or (len(files) == 1 and all(map(os.path.isfile, files)))


class RecipeError(LotteryError, ValueError):
    """A recipe that makes no sense; a ValueError as well, since a value is wrong."""


def _in_words(recipe: type, error: ValidationError) -> str:
    """In one line: each field, what is allowed there, and what was given."""
    names, said = [field.name for field in fields(recipe)], []
    for wrong in error.errors():
        place = ".".join(map(str, wrong["loc"]))
        if wrong["loc"] and isinstance(number := wrong["loc"][0], int) and number < len(names):
            place = ".".join(map(str, (names[number], *wrong["loc"][1:])))  # given by place
        given = f", not {str(wrong['input'])[:60]!r}" if place and wrong["type"] != "missing" else ""
        said.append(f"{place}: {wrong['msg']}{given}" if place else wrong["msg"].removeprefix("Value error, "))
    return f"this {recipe.__name__} cannot be: {'; '.join(said)}"


def canonical(value) -> bytes:
    """The one way to write a value as JSON; the hash of a recipe's is its key."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Recipe:
    """Base of all recipes.

    A field that a later version adds must have a default that changes nothing: defaults are left out of the canonical
    JSON, so old keys stay. A change that alters results raises `version`.
    """

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # every recipe has them, by `frozen`

    version: ClassVar[int] = 1
    stored: ClassVar[bool] = False  # has a record of its own in the store
    light: ClassVar[bool] = False  # takes milliseconds: computed by whoever coordinates, not sent to a worker
    trains: ClassVar[bool] = False  # takes steps of its `training`, which can then be refused beforehand

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits: the SHA-256 of the canonical JSON."""
        for part in reversed(inside([self], lambda part: "key" in vars(part))):
            _ = part.key  # the deepest first: a chain may have more levels than Python has frames
        return hashlib.sha256(canonical(self.json())).hexdigest()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is type(other) and self.key == cast(Recipe, other).key)

    def json(self) -> dict:
        """The recipe as plain values: fields at their default left out, stored recipes as their keys.

        Raises:
            RecipeError: if a field holds what has no place in JSON.
        """
        values: dict = {"type": type(self).__name__, "version": self.version}
        for field in fields(self):
            value = getattr(self, field.name)
            if _differs(value, field.default):
                try:
                    values[field.name] = _plain(value, _hint(type(self), field.name))
                except TypeError as error:
                    raise RecipeError(f"the field {field.name} of {type(self).__name__} holds {error}") from None
        return values

    def compute(self, world: "World") -> Result:
        """The values (numbers, short texts) and small arrays of the record of a stored recipe that is no training run.

        Args:
            world: all that `reads` names is there.
        """
        raise NotImplementedError(f"{type(self).__name__} has no record of its own")

    @property
    def products(self) -> str:
        """The precision in which `compute` multiplies: to the full 24 bits, but for recipes that train something."""
        return "float32"

    def reads(self) -> list[tuple["Recipe", int | None]]:
        """What computing this recipe reads from the store: records (step None) and dense weights of a run at a step.

        A recipe that is not stored reads what resolving it needs.
        """
        return [read for part in self.parts() for read in part.needed()]

    def parts(self) -> list["Recipe"]:
        """The recipes among the fields of this one, and in tuples, dicts and dataclasses there."""
        return [part for field in fields(self) for part in _recipes(getattr(self, field.name))]

    @property
    def own_training(self) -> "Training | None":
        """The training whose network this is of; None: of the one that it is asked for."""
        own = getattr(self, "training", None) or getattr(getattr(self, "run", None), "training", None)
        return own if isinstance(own, Training) else None

    def fitting(self) -> list[tuple["Weights | Mask", bool]]:
        """The parts whose tensors must have the shapes of this recipe's network, each with whether all of them must, or
        prunable weights alone. A recipe of your own that makes tensors of other shapes fit leaves out where they are
        from."""
        return [(part, True) for part in self.parts() if isinstance(part, Weights | Mask)]

    def check(self, world: "World", training: "Training | None" = None) -> None:
        """Refuses, before anything is computed, what cannot be; asks those of its parts that have no record, too.

        Args:
            world: offers data and networks, but no records.
            training: of which network a part is, where it does not say so itself.

        Raises:
            LotteryError: saying what to do.
        """
        training = getattr(self, "training", training)
        for part in self.parts():
            if not part.stored:
                part.check(world, training)

    def needed(self) -> list[tuple["Recipe", int | None]]:
        """What a recipe that refers to this one reads for it."""
        return [(self, None)] if self.stored else self.reads()


def _recipes(value) -> Iterator[Recipe]:
    if isinstance(value, Recipe):
        yield value
    elif isinstance(value, Mapping):
        yield from (part for one in value.values() for part in _recipes(one))
    elif isinstance(value, tuple | list | set | frozenset):
        yield from (part for one in value for part in _recipes(one))
    elif is_dataclass(value) and not isinstance(value, type):
        yield from (part for field in fields(value) for part in _recipes(getattr(value, field.name)))


def inside(recipes: Iterable[Recipe], known: Callable[[Recipe], bool] = lambda part: False) -> list[Recipe]:
    """What recipes are made of, each object once, what is nearer to them first.

    Args:
        recipes: they themselves are left out.
        known: what is left out, with what only it is made of.
    """
    found: dict[int, Recipe] = {}
    left = list(recipes)
    while left:
        new = [part for part in left.pop().parts() if id(part) not in found and not known(part)]
        found |= {id(part): part for part in new}
        left += new
    return list(found.values())


def defined() -> Iterator[type[Recipe]]:
    """All recipe classes that are imported here; of a class that was defined again, the last comes first."""
    left: list[type[Recipe]] = [Recipe]
    while left:
        yield (kind := left.pop())
        left += kind.__subclasses__()


def _differs(value, default) -> bool:
    try:
        return bool(value != default) or _marks(value) != _marks(default)
    except (TypeError, ValueError, RuntimeError):  # arrays and tensors of several elements
        return True


def _marks(value):
    """What tells values apart that Python calls equal: truth values from numbers, and zero from negative zero."""
    if isinstance(value, tuple | list):
        return [_marks(item) for item in value]
    if isinstance(value, dict):
        return {key: _marks(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return [_marks(getattr(value, field.name)) for field in fields(value)]
    return isinstance(value, bool), isinstance(value, float) and str(value) == "-0.0"


def _plain(value, hint=None):
    """A value as JSON has it.

    Args:
        value: of a field, or in one.
        hint: its annotation; where that allows one dataclass alone, as most do, its name is left out.

    Raises:
        TypeError: saying what is no such value.
    """
    if isinstance(value, Recipe):
        return value.key if value.stored else value.json()
    if is_dataclass(value):
        kind = type(value)
        named = {} if _dataclasses(hint) == {kind} else {"class": kind.__name__}
        those = [f for f in fields(value) if _differs(getattr(value, f.name), f.default)]
        return named | {f.name: _plain(getattr(value, f.name), _hint(kind, f.name)) for f in those}
    if isinstance(value, tuple | list):
        return [_plain(item, hint) for item in value]
    if isinstance(value, dict):
        if other := [key for key in value if not isinstance(key, str)]:
            raise TypeError(f"a dict with the key {other[0]!r}: keys must be texts, for 1 and '1' are written alike")
        return {key: _plain(item, hint) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    allowed = "recipes, numbers, texts, truth values, None, and dataclasses, tuples and dicts of them"
    raise TypeError(f"a {type(value).__name__}, which cannot be written into a key; allowed are {allowed}")


@cache
def _hint(kind: type, name: str):
    """The annotation of a field of a dataclass; None where it cannot be resolved."""
    try:
        return get_type_hints(kind)[name]
    except (NameError, TypeError, KeyError):
        known = getattr(kind, "__pydantic_fields__", {})
        return known[name].annotation if name in known else None


def _dataclasses(hint) -> set[type]:
    """The dataclasses that stand in an annotation."""
    inside = set().union(*map(_dataclasses, get_args(hint)))
    return inside | ({hint} if isinstance(hint, type) and is_dataclass(hint) else set())


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Scaling = Literal["standardise", "unit", "unit-norm", "none"]


@frozen
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
        adam_epsilon: of Adam, added to the root of the mean square of a gradient.
        cut_start: starting weights of prunable layers are none beyond so many times the layer's root mean square, as
            TensorFlow's truncated normal distribution has it with 2; 0: as the network draws them.
    """

    data: str
    model: str
    steps: Annotated[int, Field(ge=1)]
    batch: Annotated[int, Field(ge=1)]
    optimiser: Literal["adam", "sgd"]
    lr: Positive
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: NotNegative = 0.0
    milestones: tuple[int, ...] = ()
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    warmup: Annotated[int, Field(ge=0)] = 0
    augment: bool = False
    validation: Annotated[int, Field(ge=1)] = 5000
    scaling: Scaling = "standardise"
    evaluate: tuple[tuple[int, int], ...] = ()
    part: tuple[int, int] = (0, 1)
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    layout: Literal["channels_first", "channels_last"] = "channels_first"
    seed: Annotated[int, Field(ge=0)] = 0
    adam_epsilon: Positive = 1e-8
    cut_start: Annotated[float, Field(ge=0)] = 0.0

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
        if self.optimiser == "sgd" and self.adam_epsilon != 1e-8:
            raise ValueError("adam_epsilon is a setting of Adam")
        if 0 < self.cut_start < 1:
            raise ValueError(f"cut_start must be 0 or at least 1, not {self.cut_start}")
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


class Stored(Protocol):
    """A record as recipes see it."""

    @property
    def values(self) -> dict: ...

    @property
    def arrays(self) -> dict[str, np.ndarray]: ...


class World(Protocol):
    """What recipes are computed in: what the data and the store offer. `lottery.engine.execute` has the real one.

    Attributes:
        device: "cpu" or "cuda"; where data lie and networks are measured.
    """

    device: str

    def dataset(self, training: Training) -> Dataset:
        """The data of a training on the device: its part of the training examples."""
        ...

    def network(self, training: Training) -> nn.Module:
        """A fresh network of its own, on the CPU."""
        ...

    def record(self, recipe: Recipe) -> Stored:
        """The record of a stored recipe; an error if there is none."""
        ...

    def state(self, run: "Run", step: int) -> State:
        """The dense weights of a run at a step, on the CPU; an error if they are not kept."""
        ...


def on_device(tensors: Mapping[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    """Named tensors on a device."""
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def trained(world: World, run: "Run", device: str = "cpu") -> tuple[State, masks.Mask]:
    """The final weights of a run and its mask, on a device."""
    state, mask = run.end.tensors(world, run.training), run.mask.tensors(world, run.training)
    return on_device(state, device), on_device(mask, device)


def first(pair: Pair, examples: int) -> Pair:
    """The first examples of a set; 0: all of it."""
    return (pair[0][:examples], pair[1][:examples]) if examples else pair


_rehearsed: set[tuple] = set()


def rehearsed_again() -> None:
    """Lets `rehearse` try again what this process has tried."""
    _rehearsed.clear()


def rehearse(
    what: str, world: "World", training: Training, work: Callable[[nn.Module, State, Pair], object], *how: str
) -> None:
    """Does on two examples, with a network's initial weights, what would else fail once it has been trained.

    Args:
        what: in words; done once a process for each network and way.
        world: offers data and networks.
        training: of which network; those of the papers are known to work.
        work: takes the module, in evaluation, its state dict and the examples.
        how: the way, such as a precision.

    Raises:
        RecipeError: if it fails, naming the network.
    """
    key = (what, *how, training.model, models.registered().get(training.model), training.data, training.scaling)
    if key in _rehearsed or models.ours(module := world.network(training)):
        return
    state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    try:
        work(models.evaluating(module), state, first(world.dataset(training).train, 2))
    except Exception as error:
        said = str(error) if isinstance(error, LotteryError) else f"{type(error).__name__}: {error}"
        raise RecipeError(f"{what} of network {training.model!r} fails: {said.strip().splitlines()[0]}") from error
    _rehearsed.add(key)


def check_still(module: nn.Module, state: State, examples: Pair) -> None:
    """Refuses networks of which no gradient can be measured in evaluation (`models.still`).

    Args:
        module, state, examples: as `rehearse` hands them on.

    Raises:
        RecipeError: if with the flags of evaluation alone it computes something else than after `eval()`, or something
            else each time, or if it has gradients in training alone.
    """
    few, labels = examples[0][:2].cpu(), examples[1][:2].cpu()
    with seeds.apart(), torch.no_grad():
        models.load(module, state)
        wanted = models.evaluating(copy.deepcopy(module))(few.clone())
        found = [models.still(copy.deepcopy(module))(few.clone()) for _ in range(2)]
    if not all(torch.allclose(one, wanted, 1e-3, 1e-5 * float(wanted.abs().max())) for one in found):
        raise RecipeError(
            "its layers computed otherwise than after eval(), though each had training = False: let them look at "
            "self.training, not at a flag of their own that train() sets"
        )

    def moved(module: nn.Module) -> set[str]:
        weights = dict(module.named_parameters())
        loss = cross_entropy(module(few.clone()), labels)
        if loss.requires_grad:
            loss.backward()
        return {name for name in models.prunable(module) if weights[name].grad is not None}

    training, lost = copy.deepcopy(module), set[str]()
    training.train()
    # A pass in training may need more than two examples: then nothing is said here.
    with seeds.apart(), torch.enable_grad(), contextlib.suppress(Exception):
        lost = moved(training) - moved(models.still(copy.deepcopy(module)))
        lost = {name for name in lost if _acts_in_evaluation(module, name, few)}
    if lost:
        raise RecipeError(
            f"{min(lost)} has a gradient in training alone, and none in evaluation, where it is measured: let the "
            "network not switch gradients off (set_grad_enabled), or freeze that weight"
        )


def _acts_in_evaluation(module: nn.Module, name: str, x: torch.Tensor) -> bool:
    """Whether a weight has a part in what a network computes in evaluation, which those of noise have not."""
    still = models.still(copy.deepcopy(module))
    with torch.no_grad():
        before = still(x.clone())
        weight = still.get_parameter(name)
        weight.add_(torch.randn_like(weight))
        return not torch.equal(before, still(x.clone()))


class Weights(Recipe):
    """Where a network starts."""

    def tensors(self, world: "World", training: Training) -> State:
        """The full state dict, on the CPU.

        Args:
            world: what data and store offer.
            training: of which data, network and seed.
        """
        raise NotImplementedError

    @property
    def start(self) -> int:
        """The step at which a run from here takes up schedule and data order."""
        return 0


class Altered(Weights):
    """Weights that are made from others, `weights`, and take up schedule and data order where those do."""

    weights: Weights

    @property
    def start(self) -> int:
        return self.weights.start


class Mask(Recipe):
    """What is cut."""

    @property
    def counted_as(self) -> "Mask | None":
        """The mask of which this one has the counts, layer by layer; None if they are its own."""
        return None

    @property
    def pruned_from(self) -> "Mask | None":
        """The mask of which a round with the fractions of `table` leaves this one; None if it is no such round."""
        return None

    def room(self, layer: str, kept: int, whole: int) -> None:
        """Refuses counts that cannot be, before anything is computed.

        Args:
            layer: the name of its weights, or of one of several that are ranked together.
            kept, whole: how many of them are left, and are there, in all of these layers.
        """

    def tensors(self, world: "World", training: Training) -> masks.Mask:
        """The mask, on the CPU: by default what the record of a stored mask holds (`masks.to_record`).

        Args:
            world: what data and store offer.
            training: of which data, network and seed.
        """
        return masks.from_record(world.record(self))


@frozen
class Initial(Weights):
    """A draw from the network's initial distribution.

    Attributes:
        replicate: which replicate's stream.
        draw: 0 is the replicate's own start; 1, 2, … are its random reinitialisations.
    """

    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def tensors(self, world: "World", training: "Training") -> State:
        dataset = world.dataset(training)
        seed = seeds.integer(training.seed, seeds.INITIAL, self.replicate, self.draw)
        state = models.initial_weights(training.model, dataset.shape, dataset.classes, seed)
        if training.cut_start:
            generator = seeds.generator(training.seed, seeds.CUT, self.replicate, self.draw)
            for name in models.prunable(world.network(training)):
                state[name] = _within(state[name], training.cut_start, generator)
        return state


def _within(tensor: torch.Tensor, reach: float, generator: np.random.Generator) -> torch.Tensor:
    """Values beyond `reach` root mean squares drawn anew from the Gaussian of that width until none is left."""
    scale = float(tensor.square().mean().sqrt())
    values = tensor.numpy().copy()
    while (far := np.abs(values) > reach * scale).any():
        values[far] = generator.normal(0, scale, int(far.sum()))
    return torch.from_numpy(values)


@frozen
class Dense(Mask):
    """Nothing is cut."""

    def tensors(self, world: "World", training: "Training") -> masks.Mask:
        module = world.network(training)
        return masks.dense(module.state_dict(), models.prunable(module))


@frozen
class Run(Recipe):
    """A training run.

    Attributes:
        training: the hyperparameters.
        weights: where the network starts.
        mask: what is cut.
        order: the indices of the stream that batches are drawn from, usually (replicate,).
    """

    stored: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    training: Training
    weights: Weights
    mask: Mask
    order: tuple[Annotated[int, Field(ge=0)], ...] = (0,)

    @model_validator(mode="after")
    def _inside(self):
        if self.start > self.training.steps:
            raise ValueError(f"weights of step {self.start} cannot start a training of {self.training.steps} steps")
        return self

    @property
    def start(self) -> int:
        """The step that training starts from: rewinding to step k goes on in schedule and data order at k."""
        return self.weights.start

    @property
    def end(self) -> "Rewound":
        """The final weights."""
        return Rewound(self, self.training.steps)


def reached(run: Run, step: int) -> None:
    """Refuses a step that a run does not come to, as a `ValueError` for the validators of recipes."""
    if not run.start <= step <= run.training.steps:
        raise ValueError(f"a run from step {run.start} to {run.training.steps} has no weights at step {step}")


@frozen
class Rewound(Weights):
    """The weights that a run had after `step` steps, biases and normalisation included."""

    run: Run
    step: Annotated[int, Field(ge=0)] = 0

    @property
    def start(self) -> int:
        return self.step

    def fitting(self) -> list[tuple[Weights | Mask, bool]]:
        return self.run.fitting() if self.step == self.run.start else []

    def reads(self) -> list[tuple[Recipe, int | None]]:
        if self.step == self.run.start:
            return [*self.run.weights.reads(), *self.run.mask.needed()]
        return [(self.run, self.step)]

    @model_validator(mode="after")
    def _inside(self):
        reached(self.run, self.step)
        return self

    def tensors(self, world: "World", training: "Training") -> State:
        if self.step == self.run.start:
            state, mask = (p.tensors(world, self.run.training) for p in (self.run.weights, self.run.mask))
            return masks.apply(state, mask)
        return world.state(self.run, self.step)


@frozen
class Continued(Weights):
    """The final weights of a run, with schedule and data order taken up again at `step` (Renda et al. 2020).

    With the run's own training this is learning-rate rewinding; see `retrained`. The optimiser starts anew.
    """

    run: Run
    step: Annotated[int, Field(ge=0)] = 0

    @property
    def start(self) -> int:
        return self.step

    def fitting(self) -> list[tuple[Weights | Mask, bool]]:
        return self.run.end.fitting()

    def reads(self) -> list[tuple[Recipe, int | None]]:
        return self.run.end.reads()

    @model_validator(mode="after")
    def _inside(self):
        if self.step > self.run.training.steps:
            raise ValueError(f"step {self.step} is beyond the {self.run.training.steps} steps of the run")
        return self

    def tensors(self, world: "World", training: "Training") -> State:
        return self.run.end.tensors(world, training)


@frozen
class Masked(Altered):
    """Weights with those that a mask cuts at zero: the end of a pruning projection, or a pruned rewind point."""

    weights: Weights
    mask: Mask

    def tensors(self, world: "World", training: "Training") -> State:
        return masks.apply(self.weights.tensors(world, training), self.mask.tensors(world, training))


@frozen
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

    @property
    def start(self) -> int:
        return self.magnitudes.start

    def fitting(self) -> list[tuple[Weights | Mask, bool]]:
        return [(self.magnitudes, True), (self.signs, self.along == "normalisation")]

    def tensors(self, world: "World", training: "Training") -> State:
        state, signs = (part.tensors(world, training) for part in (self.magnitudes, self.signs))
        module = world.network(training)
        names = models.prunable(module)
        along = models.normalisation(module) if self.along == "normalisation" else []
        masks.check_shapes([*names, *along], module.state_dict(), state, signs)
        if along:
            state = {**state, **{name: signs[name] for name in along}}
        return {name: t.abs() * signs[name].sign() if name in names else t for name, t in state.items()}


@frozen
class Constant(Altered):
    """One magnitude a layer: the standard deviation of these weights, with their signs, on every prunable weight.

    The signed constant of Zhou et al. (2019), Section 3; biases and the rest are kept.
    """

    weights: Weights

    def tensors(self, world: "World", training: "Training") -> State:
        state, names = self.weights.tensors(world, training), models.prunable(world.network(training))
        return {name: t.sign() * spread(t) if name in names else t for name, t in state.items()}


@frozen
class Reshuffled(Altered):
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

    def tensors(self, world: "World", training: "Training") -> State:
        stream = seeds.generator(training.seed, seeds.VALUES, self.replicate, self.draw)
        mask = unpadded(world.network(training), self.mask.tensors(world, training))
        return masks.permute(self.weights.tensors(world, training), mask, stream)


def unpadded(module: nn.Module, mask: masks.Mask) -> masks.Mask:
    """A mask without the rows of embeddings that are for padding, which stay zero."""
    mask = dict(mask)
    for name, row in models.padding(module).items():
        if name in mask:
            mask[name] = mask[name].clone()
            mask[name][row] = False
    return mask


def beside_padding(module: nn.Module, mask: masks.Mask, draw: Callable[[masks.Mask], masks.Mask]) -> masks.Mask:
    """A random mask that has the rows of embeddings for padding as another has them: survivors there cannot act.

    Args:
        module: with the embeddings.
        mask: the other.
        draw: takes its layers without these rows, and makes the rest.
    """
    padding = {name: row for name, row in models.padding(module).items() if name in mask}
    acting = {name: torch.cat([mask[name][:row], mask[name][row + 1 :]]) for name, row in padding.items()}
    drawn = draw({**mask, **acting})
    rows = {name: [drawn[name][:row], mask[name][row][None], drawn[name][row:]] for name, row in padding.items()}
    return {**drawn, **{name: torch.cat(parts) for name, parts in rows.items()}}


def padding_first(module: nn.Module, scores: State) -> State:
    """Scores by which the rows of embeddings for padding are pruned before all else, as they are by magnitude."""
    padding = {name: row for name, row in models.padding(module).items() if name in scores}
    if not padding:
        return scores
    least = min(float(score.min()) for score in scores.values() if score.numel())
    scores = {name: score.clone() if name in padding else score for name, score in scores.items()}
    for name, row in padding.items():
        scores[name][row] = least - abs(least) - 1
    return scores


@frozen
class Noisy(Altered):
    """Weights with independent Gaussian noise on every prunable weight (Frankle & Carbin 2019, Appendix F, Figure 25).

    Biases and the rest are kept; a run's mask cuts the noise with the weights.

    Attributes:
        weights: what the noise is added to, before pruning.
        scale: standard deviation of the noise, relative to that of the layer's weights; a stream is the same noise at
            every scale.
        replicate, draw: the stream.
    """

    weights: Weights
    scale: Positive
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def tensors(self, world: "World", training: "Training") -> State:
        state = dict(self.weights.tensors(world, training))
        stream = seeds.generator(training.seed, seeds.NOISE, self.replicate, self.draw)
        module = world.network(training)
        padding = models.padding(module)
        for name in models.prunable(module):
            noise = torch.from_numpy(stream.standard_normal(state[name].shape, dtype=np.float32))
            if name in padding:
                noise[padding[name]] = 0
            state[name] = state[name] + self.scale * spread(state[name]) * noise
        return state


def spread(weights: torch.Tensor) -> torch.Tensor:
    """The standard deviation of a layer's weights; of a single one its size."""
    return weights.std() if weights.numel() > 1 else weights.abs().max()


INITIAL = ("large_init", "small_init")  # criteria that look at the start alone
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


Rates = float | tuple[tuple[str, float], ...]  # a fraction as a recipe holds it, hashable
Scope = Literal["layer", "global"]


class Round(Mask):
    """What is left by one round of pruning that removes a part of the survivors, `fraction`, by `scope`."""

    fraction: Rates
    scope: Scope

    @property
    def table(self) -> Fraction:
        """The fraction in the form that `lottery.masks.rates` takes."""
        return dict(self.fraction) if isinstance(self.fraction, tuple) else float(self.fraction)

    def rates(self, world: World, training: Training) -> dict[str, float]:
        """The fraction of each layer's survivors that goes, as `lottery.masks.prune` takes it."""
        return masks.rates(self.table, models.prunable(world.network(training)))


@frozen
class Pruned(Round):
    """A run's mask after one more round of pruning, by the magnitude of its final weights or another criterion.

    Attributes:
        run: the trained run.
        fraction: the part of the survivors that goes; see `lottery.masks.rates`.
        scope: "layer" or "global"; see `lottery.masks.prune`.
        criterion: what the survivors have most of; see `lottery.masks.scores`. By any, an embedding's row for padding
            goes first.
        draw: which random scores the criterion "random" draws, from a stream of the run's order.
    """

    stored: ClassVar[bool] = True
    light: ClassVar[bool] = True

    run: Run
    fraction: Rates
    scope: Scope = "layer"
    criterion: Criterion = "magnitude"
    draw: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        start = [] if self.criterion == "magnitude" else self.run.weights.needed()
        return [(self.run, self.run.training.steps), *self.run.mask.needed(), *start]

    @property
    def pruned_from(self) -> Mask:
        return self.run.mask

    def check(self, world: "World", training: Training | None = None) -> None:
        super().check(world, training)
        rounds, part = list[Pruned](), self
        while isinstance(part, Pruned) and part.criterion in INITIAL and isinstance(part.run.weights, Initial):
            rounds.append(part)
            part = part.run.mask
        if rounds and self.scope == "global" and isinstance(part, Dense):  # known before anything is trained
            of = self.run.training
            mask = part.tensors(world, of)
            for one in reversed(rounds):
                start = one.run.weights.tensors(world, of)
                scores = padding_first(world.network(of), masks.scores(one.criterion, start, start, mask))
                mask = masks.prune(mask, scores, one.rates(world, of), one.scope)

    def compute(self, world: "World") -> Result:
        training = self.run.training
        state, mask = world.state(self.run, training.steps), self.run.mask.tensors(world, training)
        scores = self._scores(world, state, mask)
        return masks.to_record(masks.prune(mask, scores, self.rates(world, training), self.scope))

    def _scores(self, world: "World", state: State, mask: masks.Mask) -> State:
        training = self.run.training
        if self.criterion == "magnitude":
            return masks.magnitude_scores(state, mask)
        if self.criterion == "random":
            stream = seeds.generator(training.seed, seeds.SCORES, self.draw, *self.run.order)
            scores = masks.random_scores(mask, stream)
        else:
            scores = masks.scores(self.criterion, self.run.weights.tensors(world, training), state, mask)
        return padding_first(world.network(training), scores)


class Counted(Mask):
    """A random mask that has the counts of another, `mask`, layer by layer."""

    mask: Mask

    @property
    def counted_as(self) -> Mask:
        return self.mask


@frozen
class Shuffled(Counted):
    """A random mask with the same count in each layer as another; an embedding's row for padding is as there.

    Attributes:
        mask: the mask whose counts are kept.
        replicate, draw: the stream.
    """

    mask: Mask
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def tensors(self, world: "World", training: "Training") -> masks.Mask:
        stream = seeds.generator(training.seed, seeds.MASK, self.replicate, self.draw)
        mask = self.mask.tensors(world, training)
        return beside_padding(world.network(training), mask, lambda acting: masks.shuffle(acting, stream))


@frozen
class Thinned(Round):
    """A random mask nested in another: one round of random pruning, in which an embedding's row for padding goes first.

    Attributes:
        mask: what is left before.
        fraction, scope: as of `Pruned`.
        replicate, draw: the stream.
    """

    mask: Mask
    fraction: Rates
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0
    scope: Scope = "layer"

    @property
    def pruned_from(self) -> Mask:
        return self.mask

    def tensors(self, world: "World", training: "Training") -> masks.Mask:
        stream = seeds.generator(training.seed, seeds.THIN, self.replicate, self.draw)
        before = self.mask.tensors(world, training)
        scores = padding_first(world.network(training), masks.random_scores(before, stream))
        return masks.prune(before, scores, self.rates(world, training), self.scope)


def closure(
    recipes: Iterable[Recipe], wanted: Callable[[Recipe, int | None], bool] = lambda recipe, step: True
) -> list[Recipe]:
    """The stored recipes among these and all that they rest on, each once, what is read before its readers.

    Args:
        recipes: the first.
        wanted: of a recipe and the step of it that is read (None: its record): where it is false, this is left out,
            with what only it rests on.
    """
    found: dict[str, Recipe] = {}
    left: list[tuple[Recipe, int | None, bool]] = [(recipe, None, False) for recipe in reversed(list(recipes))]
    while left:
        recipe, step, done = left.pop()
        if done:
            found.setdefault(recipe.key, recipe)
        elif recipe.key not in found and wanted(recipe, step):
            left.append((recipe, step, True))
            left += [(*read, False) for read in reversed(recipe.reads())]
    return list(found.values())


def training(**values) -> Training:
    """A `Training` of values that are read from somewhere.

    Raises:
        RecipeError: naming the field, the value and what is allowed.
    """
    return Training(**values)
