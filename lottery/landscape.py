"""The loss landscape between solutions and around them: paths, barriers, planes, perturbations.

Pure functions on state dicts and tensors, for any module. A *state* is a full state dict, a *mask* a dict of boolean
tensors (`lottery.masks`), *data* a pair (inputs [N, ...], labels [N]) on the device of the module. Modules that are
passed in are only read. Losses are mean cross-entropies in nats, errors fractions.

Two things that the literature does in different ways are explicit. *Statistics*: what the normalisation layers of a
network between two others use, the average of the ends' running statistics ("averaged", Paul et al. 2023 as far as
their public code shows) or new ones from training data ("re-estimated", as Jordan et al. 2023 and Adnan et al. 2025
do). *Mask*: which weights exist on the path; every solution must lie within it.
"""

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn
from torch.nn.functional import cross_entropy

from . import LotteryError, masks, models, recipes, seeds
from .data import Dataset, Pair
from .masks import Mask
from .models import State, evaluate
from .recipes import Altered, Masked, Recipe, Result, Run, Training, Weights, World, first, frozen, on_device, rehearse

STATISTICS = ("averaged", "re-estimated")
FEW = 16  # examples that a network of the user's is tried on
MEASURES = ("test_error", "test_loss", "train_loss")


class LandscapeError(LotteryError):
    """Solutions between which nothing can be measured."""


# Between solutions.


def check_finite(state: State, module: nn.Module | None = None) -> None:
    """Refuses the weights of a run that diverged: a NaN anywhere, or an infinite parameter.

    Infinite buffers are meant so, such as the −∞ of attention masks. Without the module only a tensor of 0 and −∞ alone
    is taken for one.

    Raises:
        LandscapeError: naming the first tensor that is not finite.
    """
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)} if module else set()
    for name, tensor in state.items():
        meant = name in buffers if module else ((tensor == 0) | (tensor == -torch.inf)).all()
        if tensor.isnan().any() or (tensor.isinf().any() and not meant):
            unset = ", nor a buffer that nothing fills" if module and name in buffers else ""
            raise LandscapeError(f"{name} is not finite: a diverged run has no place in the landscape{unset}")


def combine(states: Sequence[State], coefficients: Sequence[float]) -> State:
    """The affine combination of states, buffers included; PyTorch's counts of batches are the first's.

    Args:
        states: of one architecture.
        coefficients: one for each, summing to 1; with 1 and zeros the result equals that state exactly. A tensor with
            infinite entries that is the same in all states, such as an attention mask, stays as it is.

    Raises:
        LandscapeError: if names or shapes differ, another tensor is not finite (a diverged run), or, between states,
            integers or masks differ: nothing lies between two permutations.
    """
    if not math.isclose(sum(coefficients), 1, abs_tol=1e-9):
        raise LandscapeError(f"coefficients must sum to 1, not {sum(coefficients)}")
    shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in states]
    if any(other != shapes[0] for other in shapes):
        raise LandscapeError("these solutions are of different architectures: names or shapes of tensors differ")
    constant = {
        name
        for name, tensor in states[0].items()
        if tensor.isinf().any() and all(torch.equal(tensor, state[name]) for state in states)
    }
    for state in states:
        check_finite({name: tensor for name, tensor in state.items() if name not in constant})
    result = {}
    for name, tensor in states[0].items():
        used = [(c, state[name]) for c, state in zip(coefficients, states, strict=True) if c]
        if name in constant or not (tensor.is_floating_point() or tensor.is_complex()):
            result[name] = used[0][1].clone()
            counted = name.endswith("num_batches_tracked")
            if not counted and any(not torch.equal(other, used[0][1]) for _, other in used):
                raise LandscapeError(
                    f"these solutions differ in {name}, between whose values ({tensor.dtype}) nothing lies: draw it "
                    "the same for all of them"
                )
            continue
        result[name] = sum(c * tensor for c, tensor in used)
        if name.endswith("running_var") and all((state[name] >= 0).all() for state in states):
            result[name] = result[name].clamp(min=0)  # outside the simplex an average can be negative
    return result


def _normalisations(module: nn.Module) -> list[nn.modules.batchnorm._NormBase]:
    """Batch and instance normalisation whose running statistics training moves: the network's own `train` may hold
    others in evaluation."""
    kinds, training = nn.modules.batchnorm._NormBase, module.training
    module.train()
    layers = [layer for layer in module.modules() if isinstance(layer, kinds) and layer.track_running_stats]
    moving = [layer for layer in layers if layer.training]
    module.train(training)
    return moving


def check_statistics(module: nn.Module, inputs: torch.Tensor) -> None:
    """Refuses networks whose running statistics could not be re-estimated, or averaged, by what is done here.

    Args:
        module: the architecture; its buffers change.
        inputs: two examples or more.

    Raises:
        LandscapeError: if a layer updates its statistics at a rate of its own, or has others that change in training.
    """
    layers = _normalisations(module)
    known = {id(tensor) for layer in layers for tensor in layer.buffers()}
    with torch.no_grad(), seeds.apart():
        module.train()  # which may return nothing
        if other := _followed(module, inputs, known):
            raise LandscapeError(
                f"{other[0]} changes in training, and is no running statistic of PyTorch's normalisation: nobody knows "
                "what it would be between two networks. Normalise with nn.BatchNorm or without buffers (nn.GroupNorm)"
            )
        module.eval()
        found = []
        for start in (0.0, 1.0):
            for layer in layers:
                for tensor in (layer.running_mean, layer.running_var):
                    if tensor is not None:
                        tensor.fill_(start)
            torch.manual_seed(0)  # a network may draw whenever it is asked
            _estimate(module, module, inputs, len(inputs), reset=False)
            found.append([t.clone() for layer in layers for t in layer.buffers() if t.is_floating_point()])
    if not all(torch.allclose(one, again, equal_nan=True) for one, again in zip(*found, strict=True)):
        raise LandscapeError(
            "a normalisation layer updates its running statistics at a rate of its own: let its forward pass "
            "self.momentum on, or call that of nn.BatchNorm"
        )


def _followed(module: nn.Module, inputs: torch.Tensor, known: set[int]) -> list[str]:
    """Names of buffers, but for those known by identity, that a pass in training goes on from: it changes them or,
    where they had come to rest (a power iteration that has converged), would have changed other values."""

    def others():
        return {n: t for n, t in module.named_buffers() if id(t) not in known and t.is_floating_point()}

    before = {name: (tensor, tensor._version, tensor.clone()) for name, tensor in module.named_buffers()}

    def changed(name, tensor):
        return not torch.equal(tensor.nan_to_num(), before[name][2].nan_to_num())

    module(inputs.clone())
    found = [name for name, tensor in others().items() if changed(name, tensor)]
    written = {n: t for n, t in others().items() if t is not before[n][0] or t._version > before[n][1]}
    if found or not written:
        return found
    other = {name: torch.rand_like(tensor) for name, tensor in written.items()}
    torch.func.functional_call(module, other, (inputs.clone(),))  # which tells in `other` what they are then
    return [name for name, tensor in other.items() if changed(name, tensor)]


def _check_few(module: nn.Module, inputs: torch.Tensor) -> None:
    """`check_statistics` of a copy on a few examples; of the papers' networks all is known."""
    if len(inputs) > 1 and not models.ours(module):
        check_statistics(models.own_copy(module), inputs[:FEW])


def _check_alone(module: nn.Module, inputs: torch.Tensor) -> None:
    """Refuses one example where a channel has a single value in it, whose variance nothing can be estimated from."""
    try:
        reestimated(module, module.state_dict(), inputs)
    except ValueError as error:  # of nn.BatchNorm
        raise LandscapeError(
            "normalisation has no statistics to re-estimate from one training example: give examples=2 or more"
        ) from error


def reestimated(module: nn.Module, state: State, inputs: torch.Tensor, batch: int = 500) -> State:
    """The state with the running statistics of its normalisation layers estimated anew.

    Mean and (unbiased) variance are averages over all full batches, with these batches' own statistics in use below;
    everything else, dropout included, is in evaluation mode. Without normalisation it is the state as it was.

    Args:
        module: the architecture.
        state: the weights.
        inputs: training inputs without augmentation.
        batch: examples at a time; a last incomplete batch is left out, unless it is the only one.

    Raises:
        LandscapeError: as `check_statistics`.
    """
    _check_few(module, inputs)
    module = models.evaluating(models.own_copy(module))
    if not _normalisations(module):
        return dict(state)
    with torch.no_grad():
        models.load(module, state)
        _estimate(module, module, inputs, batch)
    counts = {name for name, tensor in state.items() if not tensor.is_floating_point()}
    return {name: state[name] if name in counts else t.detach().clone() for name, t in module.state_dict().items()}


def _estimate(
    module: nn.Module, forward: Callable, inputs: torch.Tensor, batch: int, reset: bool = True
) -> torch.Tensor | None:
    """Gives the normalisation layers of a module the statistics of these inputs.

    Returns:
        The logits of the last batch; None if a layer did not use the statistics that it has been given: another kind
        than batch normalisation, or one that is called several times.
    """
    layers = _normalisations(module)
    momenta = [layer.momentum for layer in layers]
    held, calls = {layer: id(layer.running_mean) for layer in layers}, Counter[int]()

    def count(layer, _inputs):  # a layer that is used twice, or two that share statistics, average over both
        calls[held[layer]] += 1
        layer.momentum = 1 / calls[held[layer]]

    counting = [layer.register_forward_pre_hook(count) for layer in layers]
    for layer in layers:
        if reset:
            layer.reset_running_stats()
        layer.train()
    logits, number = inputs[:0], 0
    whole = inputs[: max(len(inputs) // batch * batch, min(len(inputs), batch))]
    with seeds.apart(inputs.device):
        torch.manual_seed(0)  # a layer may draw in training
        for number, x in enumerate(whole.split(batch), 1):
            for layer in layers:
                layer.momentum = 1 / number  # which makes a cumulative average; of a layer that is called, `count` does
            logits = forward(x)
    for layer, momentum, hook in zip(layers, momenta, counting, strict=True):
        layer.momentum = momentum
        layer.eval()
        hook.remove()
    usual = all(type(layer).forward is nn.modules.batchnorm._BatchNorm.forward for layer in layers)
    return logits if usual and set(calls.values()) <= {number} else None


class Evaluator:
    """Test error, test loss and training loss of one state after another, in evaluation mode, on one copy of a network.

    Args:
        module: the architecture.
        train, test: data.
        statistics: which of `STATISTICS`.
        batch: examples at a time.
        single: "re-estimated" statistics are those of all training examples in one batch, and the same pass gives the
            training loss where all normalisation is `nn.BatchNorm` and called once. (In it the variance is divided by
            the number of values, in `reestimated` by one less.)
        precision: "bf16" does matrix products and convolutions in bfloat16; losses are computed in float32.
        layout: "channels_last" keeps images and filters so, which is faster on a CPU and rounds otherwise.

    Raises:
        LandscapeError: if there are no such statistics, or they cannot be re-estimated (`check_statistics`).
    """

    def __init__(
        self,
        module: nn.Module,
        train: Pair,
        test: Pair,
        statistics: Sequence[str] = STATISTICS,
        batch: int = 500,
        *,
        single: bool = False,
        precision: str = "float32",
        layout: str = "channels_first",
    ):
        if unknown := [kind for kind in statistics if kind not in STATISTICS]:
            raise LandscapeError(f"no statistics {unknown[0]!r}; known: {', '.join(STATISTICS)}")
        if "re-estimated" in statistics:
            _check_few(module, train[0])
        self.layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.module = models.evaluating(models.own_copy(module))
        self.module.to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]  # torch declares it for tensors alone
        self.train, self.test, self.statistics, self.batch, self.single = train, test, statistics, batch, single
        self.casts = precision == "bf16"

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.contiguous(memory_format=self.layout) if x.ndim == 4 else x
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.casts):
            logits = self.module(x)
        return models.wide(logits)

    @torch.no_grad()
    @models.one_function()
    def __call__(self, state: State) -> dict[str, float]:
        """ "STATISTICS/MEASURE" → number, for the statistics asked for and each of `MEASURES`."""
        result: dict[str, float] = {}
        for kind in self.statistics:
            if result and not _normalisations(self.module):  # both kinds are the same
                result |= {f"{kind}/{measure}": result[f"{self.statistics[0]}/{measure}"] for measure in MEASURES}
                continue
            models.load(self.module, state)
            train_loss, estimates = None, kind == "re-estimated" and bool(_normalisations(self.module))
            if estimates and self.single:
                inputs, labels = self.train
                if (logits := _estimate(self.module, self._forward, inputs, len(labels))) is not None:
                    train_loss = float(cross_entropy(logits, labels))
            elif estimates:
                _estimate(self.module, self._forward, self.train[0], self.batch)
            test_loss, right = (values[0] for values in evaluate(self._forward, *self.test, self.batch))
            if train_loss is None:
                train_loss = evaluate(self._forward, *self.train, self.batch)[0][0]
            values = (math.nan if math.isnan(test_loss) else 1 - right, test_loss, train_loss)
            result |= {f"{kind}/{measure}": float(value) for measure, value in zip(MEASURES, values, strict=True)}
        return result


def _on_mask(points: Sequence[State], mask: Mask | None) -> None:
    masks.check_shapes(mask or {}, mask or {}, *points)
    for name, kept in (mask or {}).items():
        if any((point[name][~kept] != 0).any() for point in points):
            raise LandscapeError(
                f"a solution has weights in {name} that the mask of the path cuts: its mask is not nested in the path's"
            )


def error_along_path(
    module: nn.Module,
    points: Sequence[State],
    train: Pair,
    test: Pair,
    *,
    mask: Mask | None = None,
    alphas: int = 11,
    statistics: Sequence[str] = STATISTICS,
    batch: int = 500,
) -> dict[str, np.ndarray]:
    """Errors and losses along the piecewise linear path through two or more solutions.

    Args:
        module: their architecture.
        points: the solutions, in order.
        train, test: data.
        mask: which weights exist on the path; every solution must lie within it. None cuts nothing, which between
            solutions with nested masks is the denser one.
        alphas: points of each segment, both ends included; 3 gives the midpoint.
        statistics, batch: as of `Evaluator`.

    Returns:
        "position" (0 at the first solution, 1 at the second, …) and one array of the same length for each number that
        `Evaluator` gives.

    Raises:
        LandscapeError: if the solutions do not fit each other or the mask, or are not finite; or as `check_statistics`.
    """
    _check_few(module, train[0])
    return along_path(Evaluator(module, train, test, statistics, batch), points, mask, alphas)


def along_path(
    measure: Callable[[State], dict[str, float]], points: Sequence[State], mask: Mask | None = None, alphas: int = 11
) -> dict[str, np.ndarray]:
    """`error_along_path` with a measurement of one's own; `Evaluator` is the usual one."""
    if len(points) < 2 or alphas < 2:
        raise LandscapeError("a path needs at least two solutions and two values of α")
    _on_mask(points, mask)
    position = np.linspace(0, len(points) - 1, (len(points) - 1) * (alphas - 1) + 1)
    rows = []
    for at in position:
        weights = np.clip(1 - np.abs(at - np.arange(len(points))), 0, None)
        rows.append(measure(combine(points, (weights / weights.sum()).tolist())))
    return {"position": position} | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def error_barrier(values: np.ndarray, alphas: int | None = None) -> np.ndarray:
    """The barrier of each segment of a path: the maximum over it minus the mean of its ends (Frankle et al. 2020).

    It is never negative, as the ends belong to the segment.

    Args:
        values: an error or loss along the path, as `error_along_path` gives it.
        alphas: points of each segment; by default all are one segment.

    Returns:
        One number for each segment, in the unit of the values.

    Raises:
        LandscapeError: if the values are no whole segments.
    """
    values = _along_path(values)
    step = (len(values) if alphas is None else alphas) - 1
    if step < 1 or len(values) < 2 or (len(values) - 1) % step:
        raise LandscapeError(
            f"{len(values)} values along a path are no segments of {step + 1} points, both ends included, of which "
            f"neighbours share one: give its `alphas`"
        )
    segments = [values[i : i + step + 1] for i in range(0, len(values) - 1, step)]
    return np.array([segment.max() - (segment[0] + segment[-1]) / 2 for segment in segments])


def _along_path(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise LandscapeError(f"expected one number a point of a path, [S], got an array of shape {values.shape}")
    return values


def midpoint_barrier(values: np.ndarray) -> float:
    """An error or loss at the middle of a path of one segment minus the mean of its ends (Paul et al.'s code).

    Unlike `error_barrier` it can be negative: halfway between two solutions may be better than both.

    Raises:
        LandscapeError: if the path has no middle, that is an even number of points, or more axes than one.
    """
    values = _along_path(values)
    if len(values) < 3 or len(values) % 2 == 0:
        raise LandscapeError(f"a path of {len(values)} points has no midpoint: take an odd number, at least 3")
    return float(values[len(values) // 2] - (values[0] + values[-1]) / 2)


def above_chord(values: np.ndarray, position: np.ndarray) -> np.ndarray:
    """How far each inner point of a path lies above the straight line between the values of its two ends.

    At the middle this is `midpoint_barrier`. Unlike `error_barrier` it asks whether a path rises, not how far its
    ends differ.

    Args:
        values: [S] an error or loss along the path.
        position: [S] shares of the way, from 0 to 1.

    Returns:
        [S − 2], in the unit of the values; negative below the line.

    Raises:
        LandscapeError: if the shapes differ, or the position does not go from 0 to 1, as along several segments.
    """
    values, position = _along_path(values), _along_path(position)
    if len(values) != len(position) or not len(position) or (position[0], position[-1]) != (0, 1):
        raise LandscapeError("a path of one segment has as many positions as values, from 0 to 1: give segments alone")
    return (values - (1 - position) * values[0] - position * values[-1])[1:-1]


def flat(state: State, names) -> torch.Tensor:
    """The named tensors as one float64 vector."""
    return torch.cat([state[name].double().flatten() for name in names])


def plane(points: Sequence[State], names) -> np.ndarray:
    """Coordinates of three solutions in the plane through them, in the Euclidean distance of the named tensors.

    Returns:
        Array [3, 2]: the first at the origin, the second on the positive first axis, the third above it.

    Raises:
        LandscapeError: if the three lie on one line.
    """
    first, second, third = (flat(point, names) for point in points)
    u, v = second - first, third - first
    along = float(u @ v / u.norm().clamp(min=1e-300))
    above = float((v - u * (along / u.norm().clamp(min=1e-300))).norm())
    exact = all(points[0][name].dtype == torch.float64 for name in names)
    if not u.norm() > 0 or above <= (1e-9 if exact else 1e-6) * float(torch.maximum(u.norm(), v.norm())):
        raise LandscapeError("three solutions on one line span no plane")
    return np.array([[0, 0], [float(u.norm()), 0], [along, above]])


def plane_coefficients(coordinates: np.ndarray, x: float, y: float) -> list[float]:
    """The coefficients for `combine` that give the point (x, y) of the plane of `plane`."""
    b, c = np.linalg.solve((coordinates[1:] - coordinates[0]).T, np.array([x, y]) - coordinates[0])
    return [float(1 - b - c), float(b), float(c)]


def on_plane(
    measure: Callable[[State], dict[str, float]],
    points: Sequence[State],
    names,
    x: Sequence[float],
    y: Sequence[float],
    mask: Mask | None = None,
) -> dict[str, np.ndarray]:
    """Errors and losses on a grid of the plane through three solutions.

    Args:
        measure: of a state; `Evaluator` is the usual one.
        points: the solutions.
        names: of the tensors that make the distance; see `plane`.
        x, y: the grid's coordinates along both axes.
        mask: as of `error_along_path`.

    Returns:
        One array [len(y), len(x)] for each number that `measure` gives.
    """
    _on_mask(points, mask)
    coordinates = plane(points, names)
    rows = [measure(combine(points, plane_coefficients(coordinates, b, a))) for a in y for b in x]
    return {name: np.array([row[name] for row in rows]).reshape(len(y), len(x)) for name in rows[0]}


# Away from a solution.


def distance(a: State, b: State, mask: Mask) -> float:
    """Euclidean distance in the weights that the mask keeps.

    Raises:
        MaskError: if the three are of networks of other shapes.
    """
    masks.check_shapes(mask, mask, a, b)
    return math.sqrt(sum(float(((a[n] - b[n]).double() * kept).square().sum()) for n, kept in mask.items()))


def random_direction(mask: Mask, generator: np.random.Generator) -> State:
    """A direction drawn uniformly from the sphere in the unmasked coordinates, of length 1, zero where masked."""
    draw = {
        name: torch.from_numpy(generator.standard_normal(tuple(kept.shape))) * kept.cpu() for name, kept in mask.items()
    }
    length = math.sqrt(sum(float(part.square().sum()) for part in draw.values()))
    return {name: part / length for name, part in draw.items()}


def shift(state: State, direction: State, length: float) -> State:
    """The state moved by a length along a direction (of any non-zero length) in the tensors that the direction has."""
    norm = math.sqrt(sum(float(part.double().square().sum()) for part in direction.values()))
    if not norm > 0:
        raise LandscapeError("a direction of length 0 leads nowhere")
    moved = {name: state[name] + (part * (length / norm)).to(state[name]) for name, part in direction.items()}
    return {**state, **moved}


def perturb(state: State, mask: Mask, length: float, generator: np.random.Generator) -> State:
    """The state moved by a length in a random direction of the unmasked coordinates."""
    return shift(state, random_direction(mask, generator), length)


# The recipes that name these measurements.


def scene(world: World, training: Training) -> tuple[nn.Module, Dataset]:
    """The network and the data set, on the device."""
    return world.network(training).to(world.device), world.dataset(training)


SINGLE = 2000  # examples whose statistics a sampled path or plane takes in one batch; beyond, in batches of 500
_measured: dict[tuple, dict[str, float]] = {}  # what this process has measured: paths share their ends


def forget() -> None:
    """Drops what this process has measured."""
    _measured.clear()


def _sampled(recipe: "Path | Plane") -> tuple[bool, str]:
    """Whether a path or plane is measured on a sample, or in another precision, and in which layout."""
    sampled = bool(recipe.examples or recipe.test_examples) or recipe.precision != "float32"
    return sampled, recipe.training.layout if sampled else "channels_first"


def evaluator(world: World, recipe: "Path | Plane") -> Callable[[State], dict[str, float]]:
    """The measurement of a path or plane; a state that this process has measured already is not measured again.

    A recipe that names no sample, test sample or precision is measured on all examples, in batches of 500 and in
    channels-first layout; any other in the layout of its training.
    """
    training = recipe.training
    module, dataset = scene(world, training)
    train, test = first(dataset.train, recipe.examples), first(dataset.test, recipe.test_examples)
    sampled, layout = _sampled(recipe)
    single = sampled and len(train[1]) <= SINGLE
    measure = Evaluator(module, train, test, single=single, precision=recipe.precision, layout=layout)
    data = (training.data, training.validation, training.scaling, training.part)
    network = (training.model, models.registered().get(training.model))  # a name may be registered anew
    where = (*data, *network, len(train[1]), len(test[1]), single, recipe.precision, layout, world.device)

    def once(state: State) -> dict[str, float]:
        digest = hashlib.blake2b(digest_size=16)
        for name, tensor in sorted(state.items()):
            digest.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).cpu().numpy().tobytes())
        key = (*where, digest.digest())
        if key not in _measured:
            if len(_measured) >= 10_000:
                _measured.clear()
            _measured[key] = measure(state)
        return _measured[key]

    return once


@frozen
class Perturbed(Altered):
    """Weights moved within a mask by a multiple of their distance to others.

    Attributes:
        weights: what is moved.
        mask: the coordinates that move.
        to: the length is `multiple` times the distance from `weights` to these, within the mask.
        replicate, draw: the stream of a random direction.
        multiple: of the distance.
        along: move towards these instead of in a random direction.
    """

    weights: Weights
    mask: recipes.Mask
    to: Weights
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0
    multiple: recipes.Positive = 1.0
    along: Weights | None = None

    def fitting(self) -> list[tuple[Weights | recipes.Mask, bool]]:
        beside = [(part, False) for part in (self.to, self.along) if part is not None]
        return [(self.weights, True), (self.mask, True), *beside]

    def tensors(self, world: World, training: Training) -> State:
        state, to = (part.tensors(world, training) for part in (self.weights, self.to))
        mask = recipes.unpadded(world.network(training), self.mask.tensors(world, training))
        length = self.multiple * distance(state, to, mask)
        if self.along is None:
            stream = seeds.generator(training.seed, seeds.PERTURB, self.replicate, self.draw)
            return perturb(state, mask, length, stream)
        along = self.along.tensors(world, training)
        masks.check_shapes(mask, mask, along)
        direction = {name: (along[name] - state[name]) * kept for name, kept in mask.items()}
        return shift(state, direction, length)


@frozen
class Path(Recipe):
    """Errors and losses along the path through two or more networks, with both kinds of statistics.

    Attributes:
        training: data and model.
        points: the networks in order.
        mask: which weights exist on the path; all points must lie within it.
        alphas: points of each segment, both ends included.
        examples, test_examples: of the training and the test set, the first ones; 0: all.
        precision: of products in evaluation; see `Evaluator`.
    """

    stored: ClassVar[bool] = True

    training: Training
    points: tuple[Weights, ...]
    mask: recipes.Mask
    alphas: Annotated[int, Field(ge=2)] = 11
    examples: Annotated[int, Field(ge=0)] = 0
    test_examples: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float32", "bf16"] = "float32"

    @model_validator(mode="after")
    def _two(self):
        if len(self.points) < 2:
            raise ValueError("a path needs at least two points")
        return self

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, self.training)
        _check_points(world, self)

    def compute(self, world: World) -> Result:
        points = [on_device(point.tensors(world, self.training), world.device) for point in self.points]
        mask = on_device(self.mask.tensors(world, self.training), world.device)
        arrays = along_path(evaluator(world, self), points, mask, self.alphas)
        distances = [distance(a, b, mask) for a, b in itertools.pairwise(points)]
        values = {"distance": distances, "density": masks.density(mask)}
        for name in [name for name in arrays if name != "position"]:
            values[f"barrier/{name}"] = error_barrier(arrays[name], self.alphas).tolist()
            values[f"ends/{name}"] = arrays[name][:: self.alphas - 1].tolist()
        return values, arrays


@frozen
class Plane(Recipe):
    """Errors and losses on the plane through three networks, with both kinds of statistics.

    Attributes:
        training, mask, examples, test_examples, precision: as of `Path`.
        points: the three networks.
        resolution: points of the grid along each axis.
        margin: how far the grid reaches beyond the networks, relative to their extent.
    """

    stored: ClassVar[bool] = True

    training: Training
    points: tuple[Weights, Weights, Weights]
    mask: recipes.Mask
    resolution: Annotated[int, Field(ge=2)] = 15
    margin: recipes.NotNegative = 0.2
    examples: Annotated[int, Field(ge=0)] = 0
    test_examples: Annotated[int, Field(ge=0)] = 0
    precision: Literal["float32", "bf16"] = "float32"

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, self.training)
        _check_points(world, self)

    def compute(self, world: World) -> Result:
        points = [on_device(point.tensors(world, self.training), world.device) for point in self.points]
        mask = on_device(self.mask.tensors(world, self.training), world.device)
        coordinates = plane(points, list(mask))
        low, high = coordinates.min(0), coordinates.max(0)
        reach = self.margin * (high - low)
        x, y = np.linspace(low - reach, high + reach, self.resolution).T
        surface = on_plane(evaluator(world, self), points, list(mask), x, y, mask)
        return {}, {"points": coordinates, "x": x.copy(), "y": y.copy()} | surface


def _check_points(world: World, recipe: "Path | Plane") -> None:
    """Refuses what would be measured as something else than it is.

    Raises:
        LandscapeError: if a point is of another network, or was trained on data of another name or scaling, the points
            will have other integers (`_check_integers`), or one example is not enough (`_check_alone`).
        RecipeError: if the network has statistics of its own (`check_statistics`), or cannot be evaluated in this
            precision and layout.
    """
    training = recipe.training
    runs = [run for point in recipe.points for run, _ in point.needed() if isinstance(run, Run)]
    for run, field in itertools.product(runs, ("model", "data", "scaling")):
        own, others = getattr(training, field), getattr(run.training, field)
        if own != others:
            raise LandscapeError(
                f"a network of {field} {others!r} would be measured as one of {own!r}: measure between networks of one "
                "kind, on the data that they were trained on"
            )
    how = recipe.precision, _sampled(recipe)[1]

    def tried(module: nn.Module, state: State, examples: Pair) -> None:
        few = examples[0].cpu(), examples[1].cpu()
        _check_few(module, few[0])
        check_finite(state, module)
        Evaluator(module, few, few, precision=how[0], layout=how[1])(state)

    rehearse("a path", world, training, tried, *how)
    if recipe.examples == 1:
        _check_alone(world.network(training), world.dataset(training).train[0][:1].cpu())
    if not models.ours(module := world.network(training)):
        _check_integers(world, recipe, module)


def _check_integers(world: World, recipe: "Path | Plane", module: nn.Module) -> None:
    """Refuses points whose networks will differ in integers: nothing lies between two permutations or counts.

    Raises:
        LandscapeError: if the network draws such a buffer and the points start from different draws, or counts its
            steps and the points are of different ones.
    """
    own = [name for name, t in module.named_buffers() if not t.is_floating_point() and not t.is_complex()]
    own = [name for name in own if not name.endswith("num_batches_tracked")]
    if not own or getattr(recipe, "alphas", 3) == 2:  # the ends alone
        return
    training, drawn, left = recipe.training, {}, list[Recipe](recipe.points)
    while left:
        part = left.pop()
        if isinstance(part, recipes.Initial) and part.key not in drawn:
            drawn[part.key] = part.tensors(world, training)
        left += part.parts()
    starts = list(drawn.values())
    if other := [name for name in own if any(not start[name].equal(starts[0][name]) for start in starts)]:
        raise LandscapeError(
            f"{other[0]} holds integers that the network draws, and these points start from different draws: nothing "
            "lies between them. Measure between networks of one replicate, or let the network draw it under a seed of "
            "its own"
        )
    x, found = world.dataset(training).train[0], []
    for few in (x[:FEW], x[-FEW:]):
        moving = models.own_copy(module)
        with torch.no_grad(), seeds.apart():
            moving.train()
            moving(few.cpu())
        found.append({name: tensor for name, tensor in moving.named_buffers() if name in own})
    counts = [name for name, tensor in module.named_buffers() if name in own and not tensor.equal(found[0][name])]
    noted = [name for name in own if not found[0][name].equal(found[1][name])]
    different = {run.key for point in recipe.points for run, _ in point.needed()}
    if (counts and len({_taken(point) for point in recipe.points}) > 1) or (noted and len(different) > 1):
        raise LandscapeError(
            f"{(noted or counts)[0]} holds integers that change in training, and these points are of different steps "
            "or were trained otherwise: nothing lies between them. Make it a plain attribute, or measure between ends "
            "of training"
        )


def _taken(weights: Recipe) -> int:
    """How many steps of training are behind some weights."""
    if isinstance(weights, recipes.Rewound):
        return _taken(weights.run.weights) + weights.step - weights.run.start
    if isinstance(weights, recipes.Continued):
        return _taken(weights.run.end)
    return max(map(_taken, (part for part in weights.parts() if isinstance(part, recipes.Weights))), default=0)


def path(*runs: Run, alphas: int = 11, mask: recipes.Mask | None = None, **sample) -> Path:
    """The path through the solutions of runs, under the mask of the first (the denser one between levels).

    Training losses and re-estimated statistics are those of the first run's training examples.

    `sample` may have `examples`, `test_examples` and `precision`.
    """
    return Path(runs[0].training, tuple(run.end for run in runs), mask or runs[0].mask, alphas, **sample)


def level_paths(chain: Sequence[Run], since_dense: bool = False, alphas: int = 3, **sample) -> list[Path]:
    """The paths to each level of a chain from the level before it, or from the dense network.

    Args:
        chain: of `lottery.tickets.imp`, the dense run first.
        since_dense: from the dense network.
        alphas: points of a path between successive levels and of that to the last level; others have their middle only.
        sample: as of `path`.
    """
    last = len(chain) - 1
    ends = [(0 if since_dense else level - 1, level) for level in range(1, last + 1)]
    counts = [alphas if b == a + 1 or b == last else 3 for a, b in ends]
    return [path(chain[a], chain[b], alphas=n, **sample) for (a, b), n in zip(ends, counts, strict=True)]


def projection(run: Run, mask: recipes.Mask, alphas: int = 11, **sample) -> Path:
    """From a solution to what is left of it under a mask, with no retraining: the pruning projection."""
    return Path(run.training, (run.end, Masked(run.end, mask)), run.mask, alphas, **sample)
