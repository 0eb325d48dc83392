"""Signs of masked networks: distances between two, the matching of their hidden units, and what chance gives.

The signed distance is our reconstruction of an idea ("Signs in the Lottery", an anonymous submission of 2022 whose
formula we could not read), built on the unsigned NNSTD of Liu et al. (2020, "Topological insights into sparse neural
networks"). A network is a dict of ternary tensors, one a layer, in the order in which data flows: each layer reads the
one before and no other, fully connected or convolutional, with a flattening in between where shapes say so.

Matching lowers the distance of unrelated networks too: a distance means something only beside that of `null_pairs`.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment
from torch import nn

from . import LotteryError, masks, models, recipes, seeds
from .association import auc as auc  # asked for as signs.auc, too
from .masks import Mask
from .models import State
from .recipes import Altered, Recipe, Result, Run, Training, Weights, World, frozen

Signs = dict[str, torch.Tensor]  # int8, −1, 0 or 1, of the shape of the weights
Order = dict[str, np.ndarray]  # layer → which unit of the second network stands for each unit of the first
SWEEPS = 100  # rounds over all layers, at most, in which units are matched by both sides


class SignsError(LotteryError):
    """Networks that cannot be compared."""


def ternary(weights: Mapping[str, torch.Tensor], mask: Mask) -> Signs:
    """The sign of each surviving weight, 0 for one that is pruned.

    Raises:
        MaskError: if a layer has another shape than its mask.
    """
    masks.check_shapes(mask, mask, weights)
    return {name: (weights[name].sign() * kept).to(torch.int8) for name, kept in mask.items()}


def decode(arrays: Mapping[str, np.ndarray], mask: Mask, which: str = "signs") -> Signs:
    """The signs that the record of a run holds.

    Args:
        arrays: of the record; `which/layer` has one bit a survivor, set where the weight is positive; "zeros/layer",
            which is there if any is zero at the end of training, has those set.
        mask: of the run.
        which: "signs" at the end of training, or "start_signs" (of rewound runs; others start from their recipe's), of
            which a record does not say what is zero: such weights come back as −1. `ternary` of the run's starting
            weights knows them.
    """
    signs = {}
    for name, kept in mask.items():
        positive = np.unpackbits(arrays[f"{which}/{name}"], count=int(kept.sum()))
        signs[name] = torch.zeros(kept.shape, dtype=torch.int8)
        found = 2 * positive.astype(np.int8) - 1
        if which == "signs" and f"zeros/{name}" in arrays:
            found[np.unpackbits(arrays[f"zeros/{name}"], count=len(found)).astype(bool)] = 0
        signs[name][kept] = torch.from_numpy(found)
    return signs


# Distances. A unit is an output of its layer: a row of the weights, flattened to [units, connections].


def _check(a: Signs, b: Signs) -> None:
    if [(name, layer.shape) for name, layer in a.items()] != [(name, layer.shape) for name, layer in b.items()]:
        raise SignsError("the two networks differ in layers or shapes: only like networks can be compared")
    for name in a:
        if not all(_ternary(of[name]) for of in (a, b)):
            raise SignsError(f"layer {name} has other values than −1, 0 and 1: give signs, ternary(weights, mask)")
        if not (a[name].any() and b[name].any()):
            raise SignsError(f"layer {name} has no connection left: nothing to compare")


def _ternary(layer: torch.Tensor) -> bool:
    return torch.equal(layer, layer.sign())


def _rows(layer: torch.Tensor, signed: bool) -> torch.Tensor:
    rows = layer.flatten(1).float()
    return rows if signed else rows.abs()


def _shared(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Elements that row j of a and row k of b have in common: [J, K] counts, exact in float32 up to 2^24.

    The product of signs adds one for each agreement and takes one for each disagreement, that of magnitudes counts
    both; half of their sum are the agreements.
    """
    if (a >= 0).all() and (b >= 0).all():
        return a @ b.T
    return (a @ b.T + a.abs() @ b.abs().T) / 2


def _edit(shared: torch.Tensor, size_a: torch.Tensor, size_b: torch.Tensor) -> torch.Tensor:
    """The normalised edit distance of sets: elements in one only over elements in either; 0 for two empty sets."""
    union = size_a + size_b - shared
    return torch.where(union > 0, 1 - shared / union.clamp(min=1), 0.0)


def distances(a: Signs, b: Signs, signed: bool = True) -> dict[str, float]:
    """The distance of each layer with the units in the order they are in.

    A unit is the set of its incoming connections, with their signs or without. Two units are as far apart as the
    share of their connections, taken together, that only one has; a layer is the mean over its units. A connection
    whose sign differs counts as two. For matched distances bring b into order first: `rearranged(b, match(a, b))`.

    Returns:
        Layer → distance in [0, 1].

    Raises:
        SignsError: if shapes differ or a layer is empty.
    """
    _check(a, b)
    result = {}
    for name in a:
        one, other = _rows(a[name], signed), _rows(b[name], signed)
        shared = ((one == other) & (one != 0)).sum(1)
        result[name] = float(_edit(shared, one.abs().sum(1), other.abs().sum(1)).mean())
    return result


def _inputs(layer: torch.Tensor, units: int, name: str) -> torch.Tensor:
    """The layer as [outputs, units of the layer before, connections to each]."""
    if layer.shape[1] % units:
        raise SignsError(f"the {layer.shape[1]} inputs of {name} are not those of the {units} units before it")
    return layer.reshape(len(layer), units, -1)


def _reorder_inputs(layer: torch.Tensor, order: np.ndarray, name: str) -> torch.Tensor:
    return _inputs(layer, len(order), name)[:, torch.from_numpy(order)].reshape(layer.shape)


def rearranged(signs: Signs, order: Order) -> Signs:
    """The same network with its hidden units in another order: unit j of a layer is what was unit `order[layer][j]`.

    Inputs of the following layer move along; after a flattening each channel is a block of height · width inputs. The
    function that the network computes stays the same. Weights and masks can be brought into order as well.

    Raises:
        SignsError: if a layer's inputs are not the units of the layer before.
    """
    result, before = {}, None
    for name, layer in signs.items():
        if before is not None:
            layer = _reorder_inputs(layer, before, name)
        before = order.get(name)
        result[name] = layer if before is None else layer[torch.from_numpy(before)]
    return result


def _assign(gain: torch.Tensor) -> np.ndarray:
    return linear_sum_assignment(gain.double().numpy(), maximize=True)[1]


def match(a: Signs, b: Signs, signed: bool = True) -> Order:
    """Matches hidden units layer by layer, from the input on, by their incoming connections (Liu et al. 2020).

    Each layer's assignment has the least sum of unit distances, given that of the layer before. Input and output
    units stay fixed (Liu et al.'s code moves the outputs too). Where units tie, as dead ones do, the choice is
    arbitrary, and later layers depend on it.

    Returns:
        An order for `rearranged`, of all layers but the last.

    Raises:
        SignsError: if shapes differ, a layer is empty, or layers do not follow one another.
    """
    _check(a, b)
    order: Order = {}
    before = None
    for name in list(a)[:-1]:
        other = b[name] if before is None else _reorder_inputs(b[name], before, name)
        one, other = _rows(a[name], signed), _rows(other, signed)
        sizes = one.abs().sum(1)[:, None], other.abs().sum(1)[None]
        before = order[name] = _assign(-_edit(_shared(one, other), *sizes))
    return order


def match_both(a: Signs, b: Signs, signed: bool = True) -> Order:
    """Matches hidden units by incoming and outgoing connections together.

    Coordinate descent in the manner of Ainsworth et al. (2023, "Git Re-Basin"): starting from `match`, one layer
    after another gets the assignment with the most shared connections given the others, until nothing is gained.
    Arguments, returns and errors are those of `match`.
    """
    order, names = match(a, b, signed), list(a)
    total = shared_connections(a, rearranged(b, order), signed)
    for _ in range(SWEEPS):
        for i, name in enumerate(names[:-1]):
            after = names[i + 1]
            units = len(a[name])
            partly = rearranged(b, {**order, name: np.arange(units)})
            outgoing = [_inputs(net[after], units, after).transpose(0, 1) for net in (a, partly)]
            gain = _shared(_rows(a[name], signed), _rows(partly[name], signed))
            order[name] = _assign(gain + _shared(*(_rows(layer, signed) for layer in outgoing)))
        found = shared_connections(a, rearranged(b, order), signed)
        if found <= total:
            break
        total = found
    return order


def match_weights(a: State, b: State) -> Order:
    """Matches hidden units by their incoming and outgoing weights: the scalar products of a's and b's, at most.

    The weight matching of Ainsworth et al. (2023, "Git Re-Basin", Section 3.2), which lowers the distance of two
    networks as much as an order of units can, as far as coordinate descent finds it: layers are taken in order, again
    and again, until nothing is gained. Biases and normalisation are not looked at.

    Args:
        a, b: the weights of each layer, in the order in which data flow.

    Raises:
        SignsError: if shapes differ or layers do not follow one another.
    """
    if [(name, layer.shape) for name, layer in a.items()] != [(name, layer.shape) for name, layer in b.items()]:
        raise SignsError("the two networks differ in layers or shapes: only like networks can be matched")
    names = list(a)
    order = {name: np.arange(len(a[name])) for name in names[:-1]}
    total = None
    for _ in range(SWEEPS):
        for name, after in itertools.pairwise(names):
            units = len(a[name])
            partly = rearranged(b, {**order, name: np.arange(units)})
            gain = a[name].flatten(1).double() @ partly[name].flatten(1).double().T
            into, other = (_inputs(net[after], units, after).transpose(0, 1).flatten(1).double() for net in (a, partly))
            order[name] = _assign(gain + into @ other.T)
        now = rearranged(b, order)
        found = sum(float((a[name].double() * now[name].double()).sum()) for name in names)
        if total is not None and found - total <= 1e-12 * abs(total):
            break
        total = found
    return order


@dataclass(frozen=True)
class Chain:
    """A network whose layers follow one another, so that its hidden units may stand in any order.

    Attributes:
        layers: the weights in the order in which data flow.
        along: layer → the other tensors with one entry a unit: its bias, and the normalisation after it.
    """

    layers: tuple[str, ...]
    along: dict[str, tuple[str, ...]]

    def of(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The layers alone, in order."""
        return {name: tensors[name] for name in self.layers}

    def rearranged(self, state: State, order: Order) -> State:
        """The whole state with hidden units in another order; the network computes the same function.

        Args:
            state: a full state dict.
            order: as of `rearranged`.
        """
        result = {**state, **rearranged(self.of(state), order)}
        for name, units in order.items():
            result |= {other: state[other][torch.from_numpy(units)] for other in self.along[name]}
        return result


def chain(module: nn.Module, inputs: torch.Tensor) -> Chain:
    """The layers of a network that is a chain, in the order in which data flow, verified by its outputs.

    The order is that of a forward pass. Then hidden units are put into a random order, in all layers at once, and moved
    on by one, which must leave the outputs as they are, at weights far from any symmetry.

    Args:
        module: the network; only read.
        inputs: a few, [N, ...].

    Raises:
        SignsError: naming the layer, if the network is no chain: its hidden units have no order of their own (residual
            connections, attention, recurrence), or not that of one layer after another.
    """
    module = models.evaluating(models.own_copy(module).cpu().double())
    inputs = inputs[:4].cpu()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    kinds, called = models.prunable(module), []
    owners = {name.rpartition(".")[0]: name for name in kinds}
    for name, entry in models.table(module).items():
        kind = kinds.get(name)
        layer = module.get_submodule(name.rpartition(".")[0])
        turned = isinstance(layer, models.TRANSPOSED)  # their units are columns, those of the others rows
        plain = isinstance(layer, (nn.Linear, *models.CONVOLUTIONS)) and name.endswith("weight")
        if kind and (entry.aliases or entry.parametrised or turned or not plain):
            why = "is that of a transposed convolution" if turned else f"is no layer of a chain ({kind})"
            why = f"is shared with {entry.aliases[0]}" if entry.aliases else why
            raise SignsError(f"hidden units cannot be matched: {name} {why}")
    for name, layer in module.named_modules():
        if [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]:
            layer.register_forward_hook(lambda *_, name=name: called.append(name))
    with seeds.apart(), torch.no_grad(), models.Double():
        torch.manual_seed(0)
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():  # of any sign; what must be positive, such as variances, stays so
                tensor.add_(torch.rand_like(tensor) * 0.3 * tensor.abs().nan_to_num(posinf=0).mean().clamp(0.1, 1))
        before = module(inputs)
        used, layers = [name for name in called if name in owners], []
        if odd := [name for name in owners if used.count(name) != 1]:
            times = used.count(odd[0])
            raise SignsError(
                f"hidden units cannot be matched: {owners[odd[0]]} is used {times} times in a pass, not once"
            )
        state, along = {key: tensor.clone() for key, tensor in module.state_dict().items()}, {}
        for name in called:
            if name in owners:
                layers.append(owners[name])
                along[layers[-1]] = []
            if layers:
                units = len(state[layers[-1]])
                own = (f"{name}.{key}" if name else key for key in module.get_submodule(name).state_dict())
                same = [key for key in own if key != layers[-1] and state[key].shape[:1] == (units,)]
                along[layers[-1]] += [key for key in same if key not in along[layers[-1]]]
        found = Chain(tuple(layers), {name: tuple(keys) for name, keys in along.items()})
        for shuffled in (lambda units: torch.randperm(units).numpy(), lambda units: np.roll(np.arange(units), 1)):
            orders = {name: shuffled(len(state[name])) for name in layers[:-1]}
            if _unchanged(module, found, state, orders, inputs, before):
                continue
            alone = ({name: order} for name, order in orders.items())
            odd = [next(iter(one)) for one in alone if not _unchanged(module, found, state, one, inputs, before)]
            raise SignsError(
                f"hidden units cannot be matched: another order of those of {(odd or layers)[0]} changes the outputs; "
                f"the network is no chain of layers, each reading the one before alone"
            )
    return found


def _unchanged(module, chain: Chain, state: State, order: Order, inputs, before) -> bool:
    try:
        models.load(module, chain.rearranged(state, order))
    except SignsError:
        return False
    return torch.allclose(module(inputs), before, rtol=1e-8, atol=1e-8 * float(before.abs().max()))


def shared_connections(a: Signs, b: Signs, signed: bool = True) -> int:
    """How many connections both networks have, with the same sign if `signed`."""
    return sum(int((((a[n] == b[n]) if signed else (b[n] != 0)) & (a[n] != 0)).sum()) for n in a)


def overlap(a: Mask | Signs, b: Mask | Signs) -> dict[str, float]:
    """The mask overlap of each layer: connections in both over connections in either (Jaccard).

    Raises:
        SignsError: if shapes differ or a layer is empty.
    """
    _check(a, b)
    return {n: float(((a[n] != 0) & (b[n] != 0)).sum() / ((a[n] != 0) | (b[n] != 0)).sum()) for n in a}


def agreement(a: Signs, b: Signs) -> dict[str, float]:
    """The share of each layer's shared connections that have the same sign; NaN where none is shared.

    One half for unrelated networks that are not matched; matching alone lifts it.

    Raises:
        SignsError: if shapes differ or a layer is empty.
    """
    _check(a, b)
    both = {name: (a[name] != 0) & (b[name] != 0) for name in a}
    return {n: float((a[n] == b[n])[kept].double().mean()) if kept.any() else float("nan") for n, kept in both.items()}


def flips(before: Signs, after: Signs) -> dict[str, float]:
    """The share of each layer's connections whose sign changed, e.g. from the start of a run to its end."""
    return {name: 1 - share for name, share in agreement(before, after).items()}


@dataclass(frozen=True)
class Comparison:
    """Two networks beside each other, layer by layer.

    Attributes:
        distance: signed, or unsigned, distance of each layer.
        overlap, agreement: see the functions of these names.
    """

    distance: dict[str, float]
    overlap: dict[str, float]
    agreement: dict[str, float]

    @property
    def network(self) -> float:
        """The distance of the networks: the mean over layers."""
        return float(np.mean(list(self.distance.values())))


MATCHINGS = {"layers": match, "both": match_both}


def compare(a: Signs, b: Signs, signed: bool = True, matching: str | None = "layers") -> Comparison:
    """Distance, mask overlap and sign agreement of two networks.

    Args:
        a, b: networks of one architecture.
        signed: whether distance and matching look at signs.
        matching: "layers" for `match`, "both" for `match_both`, None for the units as they are.

    Raises:
        SignsError: if they cannot be compared or there is no such matching.
    """
    if matching not in (None, *MATCHINGS):
        raise SignsError(f"no matching {matching!r}; known: {', '.join(MATCHINGS)}, None")
    if matching is not None:
        b = rearranged(b, MATCHINGS[matching](a, b, signed))
    return Comparison(distances(a, b, signed), overlap(a, b), agreement(a, b))


# What chance gives. Independent masks of the same counts: `lottery.masks.shuffle`.


def scattered(signs: Signs, mask: Mask, generator: np.random.Generator) -> Signs:
    """The signs of each layer in random order on the connections of a mask, e.g. of the network itself.

    Raises:
        SignsError: if a layer of the mask has another number of connections.
    """
    result = {}
    for name, layer in signs.items():
        values, places = layer[layer != 0], mask[name] != 0
        if len(values) != int(places.sum()):
            raise SignsError(f"{len(values)} signs do not fit the {int(places.sum())} connections of {name}")
        result[name] = torch.zeros_like(layer)
        result[name][places] = values[torch.from_numpy(generator.permutation(len(values)))]
    return result


def _trade(one: np.ndarray, other: np.ndarray, generator: np.random.Generator) -> None:
    """Pairs of rows swap connections at random, in place; rows and columns keep how many they have of each value.

    Where a pair of rows holds one value and another, which row has which is drawn anew with the numbers kept.
    """
    width = one.shape[1]
    keys = generator.integers(0, 2**62, one.shape) // width * width + np.arange(width)  # no two equal
    values = np.unique(np.concatenate([one, other]))
    for low, high in itertools.combinations(values, 2):
        open_ = ((one == low) & (other == high)) | ((one == high) & (other == low))
        ranked = np.where(open_, keys, np.iinfo(np.int64).max)
        count = (open_ & (one == high)).sum(1)
        limit = np.take_along_axis(np.sort(ranked, 1), np.maximum(count - 1, 0)[:, None], 1)
        chosen = open_ & (ranked <= limit) & (count > 0)[:, None]
        one[open_], other[open_] = low, high
        one[chosen], other[chosen] = high, low


def degree_preserving(mask: Mask | Signs, generator: np.random.Generator, rounds: int = 30) -> Mask | Signs:
    """Random masks in which each unit keeps its number of incoming and outgoing connections.

    In each round the rows of a layer, flattened to [outputs, inputs · positions], are paired at random and each pair
    trades connections: as many edge swaps as can be, at once (global curveball trades, Carstens et al. 2018). Every
    row and column count stays exactly. Ternary signs are taken too; then positive and negative connections keep their
    counts separately. That `rounds` are enough to forget the start is for `mixing` to show.

    Args:
        mask: boolean or ternary layers; only read.
        generator: of all draws.
        rounds: of trades.
    """
    result = {}
    for name, layer in mask.items():
        rows = layer.flatten(1).cpu().numpy().copy()
        for _ in range(rounds):
            _trade_all(rows, generator)
        result[name] = torch.from_numpy(rows).view(layer.shape)
    return result


def _trade_all(rows: np.ndarray, generator: np.random.Generator) -> None:
    pairs = generator.permutation(len(rows))[: len(rows) // 2 * 2].reshape(2, -1)
    one, other = rows[pairs[0]], rows[pairs[1]]
    _trade(one, other, generator)
    rows[pairs[0]], rows[pairs[1]] = one, other


def mixing(layer: torch.Tensor, generator: np.random.Generator, rounds: int = 30) -> np.ndarray:
    """How fast `degree_preserving` forgets: the share of connections still as they were after each round.

    Returns:
        [rounds + 1] from 1 down to the plateau that the degrees leave to chance.
    """
    start = layer.flatten(1).cpu().numpy()
    rows, held = start.copy(), [1.0]
    for _ in range(rounds):
        _trade_all(rows, generator)
        held.append(float((rows == start)[start != 0].mean()))
    return np.array(held)


def null_pairs(
    a: Signs, b: Signs, generator: np.random.Generator, draws: int = 10, degrees: bool = True
) -> Iterator[tuple[Signs, Signs]]:
    """Pairs of networks with the numbers of signs of a and b in each layer, and nothing else in common.

    Args:
        a, b: networks of one architecture.
        generator: of all draws.
        draws: how many pairs.
        degrees: each unit keeps its number of incoming and outgoing connections, but not which they are; otherwise
            masks stay as they are and only signs are scattered.
    """
    for _ in range(draws):
        first, second = (_scattered_anew(net, generator, degrees) for net in (a, b))
        yield first, second


def _scattered_anew(net: Signs, generator: np.random.Generator, degrees: bool) -> Signs:
    mask = {name: layer != 0 for name, layer in net.items()}
    return scattered(net, degree_preserving(mask, generator) if degrees else mask, generator)


# The recipes that name these measurements.

SIGNED = (True, False)
MATCHED = (None, "layers", "both")
MEASURES = ("distance", "overlap", "agreement")


def signs_of(world: World, run: Run) -> Signs:
    """The signs that a run ended with, from its record and that of its mask."""
    return decode(world.record(run).arrays, run.mask.tensors(world, run.training))


_chains: dict[tuple, Chain] = {}  # what this process has verified


def layers_of(world: World, training: Training) -> Chain:
    """The layers of a training's network.

    Raises:
        SignsError: if it is no chain; see `chain`.
    """
    dataset = world.dataset(training)
    key = (training.model, models.registered().get(training.model), dataset.shape, dataset.classes)
    if key not in _chains:
        try:
            _chains[key] = chain(world.network(training), dataset.train[0][:4])
        except LotteryError:
            raise
        except Exception as error:  # as of a network that cannot compute in float64
            said = str(error).strip().partition("\n")[0]
            raise SignsError(f"hidden units cannot be matched: {type(error).__name__}: {said}") from error
    return _chains[key]


@frozen
class Compared(Recipe):
    """How alike the signs of two trained networks are, beside what chance gives; see `lottery.signs`.

    The networks are chains (`chain`): of others hidden units cannot be matched.

    The record's arrays have the axes signed or not (`SIGNED`), matching (`MATCHED`), measure (`MEASURES`), layer:
    "pair" for the two, and with a leading axis of draws "degrees" and "signs" for the nulls of `null_pairs`.

    Attributes:
        a, b: runs of one architecture; their signs are those of their final weights.
        draws: of each null; 0 for none.
        both: match by outgoing connections too, the third of `MATCHED`; takes ten times as long.
    """

    stored: ClassVar[bool] = True

    a: Run
    b: Run
    draws: Annotated[int, Field(ge=0)] = 1
    both: bool = False

    @property
    def own_training(self) -> Training:
        return self.a.training

    def fitting(self) -> list[tuple[Weights | recipes.Mask, bool]]:
        return [(self.b.end, False)]

    def reads(self):
        return [read for run in (self.a, self.b) for read in ((run, None), *run.mask.needed())]

    def check(self, world: World, training: Training | None = None) -> None:
        if self.a.training.model != self.b.training.model:
            raise SignsError(
                f"only like networks can be compared, not {self.a.training.model} with {self.b.training.model}"
            )
        layers_of(world, self.a.training)

    def compute(self, world: World) -> Result:
        layers = layers_of(world, self.a.training)
        a, b = (layers.of(signs_of(world, run)) for run in (self.a, self.b))
        stream = seeds.generator(self.a.training.seed, seeds.NULL, int(self.key[:12], 16))

        def measured(pair: tuple[Signs, Signs]) -> list:
            matchings = MATCHED if self.both else MATCHED[:2]
            found = [[compare(*pair, signed, matching) for matching in matchings] for signed in SIGNED]
            return [[[list(getattr(one, name).values()) for name in MEASURES] for one in row] for row in found]

        arrays = {"pair": np.array(measured((a, b)))}
        for null in ("degrees", "signs") if self.draws else ():
            arrays[null] = np.array([measured(p) for p in null_pairs(a, b, stream, self.draws, null == "degrees")])
        return {"layers": list(a)}, arrays


def between(runs: Sequence[Run], draws: int = 1, both: bool = False) -> list[Compared]:
    """All pairs of these runs compared, in the order of `itertools.combinations`; `draws` and `both` of `Compared`."""
    return [Compared(a, b, draws, both) for a, b in itertools.combinations(runs, 2)]


@frozen
class Flipped(Recipe):
    """Which of a run's surviving weights end with another sign than they have in a start; see `flips`.

    Layers that start at zero, as those that residual blocks may end with, had no sign to lose, and are left out.

    Attributes:
        run: the trained network.
        since: the start, usually the initial weights of its chain.
    """

    stored: ClassVar[bool] = True

    run: Run
    since: Weights

    def fitting(self) -> list[tuple[Weights | recipes.Mask, bool]]:
        return [(self.since, False)]

    def reads(self):
        return [(self.run, None), *self.run.mask.needed(), *self.since.needed()]

    def compute(self, world: World) -> Result:
        after = signs_of(world, self.run)
        before = ternary(self.since.tensors(world, self.run.training), {n: layer != 0 for n, layer in after.items()})
        signed = [name for name, layer in before.items() if layer.any()]
        if not signed:
            raise SignsError("all weights that survive are 0 in the start, so none can have changed its sign")
        shares = flips({name: before[name] for name in signed}, {name: after[name] for name in signed})
        sizes = [int(((before[name] != 0) & (after[name] != 0)).sum()) for name in signed]
        return {"flipped": float(np.average(list(shares.values()), weights=sizes)), "layers": shares}, {}


# Starts and solutions with signs or units of others.


@frozen
class FlippedSigns(Altered):
    """Weights of which a share of the survivors has its sign flipped, in each layer, drawn at random.

    The sets of one draw are nested: a larger share flips what a smaller one does and more. Biases and the rest stay.

    Attributes:
        weights: whose signs are flipped.
        mask: among whose survivors; those that are 0 stay so.
        share: of each layer's survivors, of which round(share · n) are flipped.
        replicate, draw: the stream.
    """

    weights: Weights
    mask: recipes.Mask
    share: Annotated[float, Field(ge=0, le=1)]
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def tensors(self, world: World, training: Training) -> State:
        stream = seeds.generator(training.seed, seeds.FLIP, 0, self.replicate, self.draw)
        state, mask = dict(self.weights.tensors(world, training)), self.mask.tensors(world, training)
        masks.check_shapes(mask, mask, state)
        for name, kept in mask.items():
            places = kept.flatten().nonzero().flatten()
            chosen = places[torch.from_numpy(stream.permutation(len(places))[: round(self.share * len(places))])]
            state[name] = state[name].clone(memory_format=torch.contiguous_format)
            state[name].view(-1)[chosen] *= -1
        return state


@frozen
class Hybrid(Altered):
    """One network with another's values on some of the prunable weights, for example where their signs differ.

    Layer by layer; a weight that is 0 in one of the two has no other sign. Biases and the rest are those of the first.
    The controls move as far towards the other network (in the Euclidean distance of each layer, to within one weight)
    on weights that are drawn at random: what the treatment does beyond its controls is due to signs.

    Attributes:
        weights: the network that is changed.
        other: where the values come from.
        where: "signs differ" is the treatment. Controls: "signs agree" draws among the weights that have the same sign
            in both, and takes all of them if together they do not reach as far; "anywhere" draws among all weights.
        replicate, draw: the stream of a control.
    """

    weights: Weights
    other: Weights
    where: Literal["signs differ", "signs agree", "anywhere"] = "signs differ"
    replicate: Annotated[int, Field(ge=0)] = 0
    draw: Annotated[int, Field(ge=0)] = 0

    def fitting(self) -> list[tuple[Weights | recipes.Mask, bool]]:
        return [(self.weights, True), (self.other, False)]

    def tensors(self, world: World, training: Training) -> State:
        stream = seeds.generator(training.seed, seeds.FLIP, 1, self.replicate, self.draw)
        one, other = (part.tensors(world, training) for part in (self.weights, self.other))
        module = world.network(training)
        masks.check_shapes(models.prunable(module), module.state_dict(), one, other)
        moved = {
            name: torch.where(replaced(one[name], other[name], self.where, stream), other[name], one[name])
            for name in models.prunable(module)
        }
        return {**one, **moved}


def replaced(one: torch.Tensor, other: torch.Tensor, where: str, generator: np.random.Generator) -> torch.Tensor:
    """Where `Hybrid` takes the values of the other: boolean, of the shape of the layer."""
    differ, agree = one * other < 0, one * other > 0
    if where == "signs differ":
        return differ
    squares = (one - other).double().square().flatten()
    places = (agree if where == "signs agree" else one != other).flatten().nonzero().flatten()
    order = places[torch.from_numpy(generator.permutation(len(places)))]
    far = torch.cat([torch.zeros(1, dtype=torch.float64), squares[order].cumsum(0)])
    count = int((far - squares[differ.flatten()].sum()).abs().argmin())
    chosen = torch.zeros(one.numel(), dtype=torch.bool)
    chosen[order[:count]] = True
    return chosen.view(one.shape)


@frozen
class Aligned(Altered):
    """A network with its hidden units in the order in which they are most like another's; the function is the same.

    Of chains only (`chain`). Its pruned weights move with the units, so that a path to it wants the mask `Dense()`.

    Attributes:
        weights: whose units are put into order.
        to: the network that stays as it is.
        by: "weights" matches by `match_weights`, "signs" by `match_both` of the signs of all weights that are not 0.
    """

    weights: Weights
    to: Weights
    by: Literal["weights", "signs"] = "weights"

    def fitting(self) -> list[tuple[Weights | recipes.Mask, bool]]:
        return [(self.weights, True), (self.to, False)]

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, training)
        if training is not None:
            layers_of(world, training)

    def tensors(self, world: World, training: Training) -> State:
        layers = layers_of(world, training)
        to, state = (part.tensors(world, training) for part in (self.to, self.weights))
        a, b = layers.of(to), layers.of(state)
        if self.by == "weights":
            return layers.rearranged(state, match_weights(a, b))
        ours, theirs = ({name: tensor.sign().to(torch.int8) for name, tensor in net.items()} for net in (a, b))
        return layers.rearranged(state, match_both(ours, theirs))
