"""Signs of masked networks: distances between two, the matching of their hidden units, and what chance gives.

The signed distance is our reconstruction of an idea ("Signs in the Lottery", an anonymous submission of 2022 whose
formula we could not read), built on the unsigned NNSTD of Liu et al. (2020, "Topological insights into sparse neural
networks"). A network is a dict of ternary tensors, one a layer, in the order in which data flows: each layer reads the
one before and no other, fully connected or convolutional, with a flattening in between where shapes say so.

Matching lowers the distance of unrelated networks too: a distance means something only beside `null_comparisons`.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy.optimize import linear_sum_assignment

from . import LotteryError, seeds
from .masks import Mask
from .recipes import Recipe, Result, Run, Weights, World, frozen

Signs = dict[str, torch.Tensor]  # int8, −1, 0 or 1, of the shape of the weights
Order = dict[str, np.ndarray]  # layer → which unit of the second network stands for each unit of the first


class SignsError(LotteryError):
    """Networks that cannot be compared."""


def ternary(weights: Mapping[str, torch.Tensor], mask: Mask) -> Signs:
    """The sign of each surviving weight, 0 for one that is pruned."""
    return {name: (weights[name].sign() * kept).to(torch.int8) for name, kept in mask.items()}


def decode(arrays: Mapping[str, np.ndarray], mask: Mask, which: str = "signs") -> Signs:
    """The signs that the record of a run holds.

    Args:
        arrays: of the record; `which/layer` has one bit a survivor, set where the weight is positive.
        mask: of the run.
        which: "signs" at the end of training, or "start_signs" (of rewound runs; others start from their recipe's).
    """
    signs = {}
    for name, kept in mask.items():
        positive = np.unpackbits(arrays[f"{which}/{name}"], count=int(kept.sum()))
        signs[name] = torch.zeros(kept.shape, dtype=torch.int8)
        signs[name][kept] = torch.from_numpy(2 * positive.astype(np.int8) - 1)
    return signs


# Distances. A unit is an output of its layer: a row of the weights, flattened to [units, connections].


def _check(a: Signs, b: Signs) -> None:
    if {n: t.shape for n, t in a.items()} != {n: t.shape for n, t in b.items()} or list(a) != list(b):
        raise SignsError("the two networks differ in layers or shapes: only like networks can be compared")
    for name in a:
        if not (a[name].any() and b[name].any()):
            raise SignsError(f"layer {name} has no connection left: nothing to compare")


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
        before = order.get(name, np.arange(len(layer)))
        result[name] = layer[torch.from_numpy(before)]
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


def match_both(a: Signs, b: Signs, signed: bool = True, sweeps: int = 100) -> Order:
    """Matches hidden units by incoming and outgoing connections together.

    Coordinate descent in the manner of Ainsworth et al. (2023, "Git Re-Basin"): starting from `match`, one layer
    after another gets the assignment with the most shared connections given the others, until nothing is gained.
    Arguments, returns and errors are those of `match`; `sweeps` bounds the rounds over all layers.
    """
    order, names = match(a, b, signed), list(a)
    total = shared_connections(a, rearranged(b, order), signed)
    for _ in range(sweeps):
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


def expected_distance(p: float, q: float | None = None, signed: bool = True) -> float:
    """The distance of unmatched independent layers with densities p and q (by default p), signs at random.

    With signs 1 − p/(4 − p), without 1 − p/(2 − p), for p = q and units of many connections.
    """
    q = p if q is None else q
    shared = p * q / 2 if signed else p * q
    return 1 - shared / (p + q - shared)


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


def null_pairs(a: Signs, b: Signs, generator: np.random.Generator, draws: int = 10, degrees: bool = True):
    """Pairs of networks with the numbers of signs of a and b in each layer, and nothing else in common.

    Args:
        a, b: networks of one architecture.
        generator: of all draws.
        draws: how many pairs.
        degrees: each unit keeps its number of incoming and outgoing connections, but not which they are; otherwise
            masks stay as they are and only signs are scattered.
    """
    for _ in range(draws):
        pair = []
        for net in (a, b):
            mask = {name: layer != 0 for name, layer in net.items()}
            pair.append(scattered(net, degree_preserving(mask, generator) if degrees else mask, generator))
        yield pair


def null_comparisons(
    a: Signs,
    b: Signs,
    generator: np.random.Generator,
    draws: int = 10,
    signed: bool = True,
    matching: str | None = "layers",
) -> list[Comparison]:
    """What `compare` gives for `null_pairs` that keep degrees."""
    return [compare(*pair, signed, matching) for pair in null_pairs(a, b, generator, draws)]


def auc(near, far) -> float:
    """The probability that a distance of the first kind is below one of the second, ties counted half.

    Raises:
        SignsError: if one kind has none, or one is not a number.
    """
    near, far = np.asarray(near, float)[:, None], np.asarray(far, float)[None]
    if not near.size or not far.size or np.isnan(near).any() or np.isnan(far).any():
        raise SignsError("separation needs distances of both kinds, all of them numbers")
    return float((near < far).mean() + (near == far).mean() / 2)


# The recipes that name these measurements.

SIGNED = (True, False)
MATCHED = (None, "layers", "both")
MEASURES = ("distance", "overlap", "agreement")


def signs_of(world: World, run: Run) -> Signs:
    """The signs that a run ended with, from its record and that of its mask."""
    return decode(world.record(run).arrays, run.mask.tensors(world, run.training))


@frozen
class Compared(Recipe):
    """How alike the signs of two trained networks are, beside what chance gives; see `lottery.signs`.

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

    def reads(self):
        return [read for run in (self.a, self.b) for read in ((run, None), *run.mask.needed())]

    def compute(self, world: World) -> Result:
        nets = [signs_of(world, run) for run in (self.a, self.b)]
        stream = seeds.generator(self.a.training.seed, seeds.NULL, int(self.key[:12], 16))

        def measured(pair):
            matchings = MATCHED if self.both else MATCHED[:2]
            found = [[compare(*pair, signed, matching) for matching in matchings] for signed in SIGNED]
            return [[[list(getattr(one, name).values()) for name in MEASURES] for one in row] for row in found]

        arrays = {"pair": np.array(measured(nets))}
        for null in ("degrees", "signs") if self.draws else ():
            arrays[null] = np.array([measured(p) for p in null_pairs(*nets, stream, self.draws, null == "degrees")])
        return {"layers": list(nets[0])}, arrays


@frozen
class Flipped(Recipe):
    """Which of a run's surviving weights end with another sign than they have in a start; see `lottery.flips`.

    Attributes:
        run: the trained network.
        since: the start, usually the initial weights of its chain.
    """

    stored: ClassVar[bool] = True

    run: Run
    since: Weights

    def reads(self):
        return [(self.run, None), *self.run.mask.needed(), *self.since.needed()]

    def compute(self, world: World) -> Result:
        after = signs_of(world, self.run)
        mask = {name: layer != 0 for name, layer in after.items()}
        before = ternary(self.since.tensors(world, self.run.training), mask)
        shares = flips(before, after)
        sizes = [int(kept.sum()) for kept in mask.values()]
        return {"flipped": float(np.average(list(shares.values()), weights=sizes)), "layers": shares}, {}
