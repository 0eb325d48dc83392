"""Patterns of signs in 3×3 kernels: how often each of the 19,683 occurs, and how often by chance.

The procedure is ours (the submission "Signs in the Lottery" speaks of such patterns; how it counted them could not be
read). The nulls are exact: expectations and probabilities in closed form, no draws. Everything is computed from counts,
so layers and networks are pooled by adding theirs. Pattern number: the nine signs plus one, read row by row as digits
to the base 3, the first the highest.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import torch
from scipy import special, stats

from . import masks, models, recipes
from .association import ranks
from .recipes import Recipe, Result, Run, World, frozen
from .signs import SignsError, signs_of, ternary

NULLS = ("layer", "count", "support", "balance")  # the last is the one to ask for enrichment; see `expected_counts`
PATTERNS = 3**9


@functools.cache
def patterns() -> np.ndarray:
    """All patterns as int8 [19683, 3, 3]; only to be read."""
    table = np.indices((3,) * 9).reshape(9, -1).T.reshape(-1, 3, 3).astype(np.int8) - 1
    table.flags.writeable = False
    return table


def _numbers(kernels: np.ndarray) -> np.ndarray:
    return (kernels.reshape(-1, 9).astype(np.int64) + 1) @ 3 ** np.arange(8, -1, -1)


def pattern_counts(layer: torch.Tensor) -> np.ndarray:
    """How often each pattern occurs among the 3×3 slices of a layer's signs.

    Args:
        layer: signs [out, in, 3, 3].

    Returns:
        [19683] counts that sum to out · in; counts of several layers or networks may be added.

    Raises:
        SignsError: if the kernels are not 3×3.
    """
    if layer.ndim != 4 or layer.shape[2:] != (3, 3):
        raise SignsError(f"patterns are of layers [out, in, 3, 3], not {list(layer.shape)}")
    return np.bincount(_numbers(layer.cpu().numpy()), minlength=PATTERNS)


@functools.cache
def orbits() -> np.ndarray:
    """[19683] the smallest of the up to 16 patterns that turns, reflections and a flip of all signs make of each."""
    forms = [np.rot90(flip, turns, (1, 2)) for flip in (patterns(), patterns()[:, ::-1]) for turns in range(4)]
    return np.min([_numbers(sign * form) for form in forms for sign in (1, -1)], axis=0)


@functools.cache
def _groups() -> dict[str, np.ndarray]:
    flat = patterns().reshape(-1, 9)
    kept, plus = flat != 0, (flat > 0).sum(1)
    support = kept @ 2 ** np.arange(9)
    signs = np.unique(10 * kept.sum(1) + plus, return_inverse=True)[1]  # how many are negative, how many positive
    return {
        "layer": np.zeros(PATTERNS, int),
        "count": kept.sum(1),
        "support": support,
        "balance": 10 * support + plus,
        "signs": signs,
    }


def _null(counts: np.ndarray, null: str) -> tuple[np.ndarray, np.ndarray]:
    """For each pattern how many slices could show it, and with what probability each of them does."""
    if null not in NULLS:
        raise SignsError(f"no null {null!r}; known: {', '.join(NULLS)}")
    flat, group = patterns().reshape(-1, 9), _groups()[null]
    shares = np.array([counts @ (flat == sign).sum(1) for sign in (-1, 0, 1)], float)
    if not shares[::2].any():
        raise SignsError("all slices are empty: there are no patterns")
    if null != "layer":
        shares[1] = 0
    minus, zero, plus = shares / shares.sum()
    probability = minus ** (flat < 0).sum(1) * plus ** (flat > 0).sum(1)
    if null == "layer":
        probability = probability * zero ** (flat == 0).sum(1)
    elif null == "count":
        probability = probability / special.comb(9, group)
    elif null == "balance":
        probability = 1 / special.comb((flat != 0).sum(1), (flat > 0).sum(1))
    return np.bincount(group, counts)[group], probability


def expected_counts(counts: np.ndarray, null: str) -> np.ndarray:
    """How often chance would show each pattern, [19683], summing to the number of slices.

    Args:
        counts: from `pattern_counts`; the layer's shares of signs are taken from them.
        null: "layer": each place of a slice drawn by itself with the layer's shares of −1, 0 and 1; "count": each
            slice keeps its number of non-zeros, their places and signs are drawn; "support": each slice keeps its
            non-zeros' places, their signs are drawn; "balance": each slice keeps its non-zeros' places and how many
            of them are positive, which ones is drawn. Only "balance" holds where channels lean to one sign:
            the others take that for patterns, since a slice then has other shares than its layer.

    Raises:
        SignsError: if there is no such null or all slices are empty.
    """
    trials, probability = _null(np.asarray(counts), null)
    return trials * probability


@dataclass(frozen=True)
class Enrichment:
    """The patterns whose counts the null leaves to chance, the most enriched first; all arrays of one length.

    Attributes:
        pattern: numbers of the first of each orbit; `patterns()[pattern]` shows them.
        count, expected: how often, and how often by chance.
        z: their difference in standard deviations of chance.
        p, q: probability of so many or more by chance (binomial); the same adjusted by Benjamini and Hochberg, so that
            among all with q ≤ 0.05 one in twenty is expected to be chance.
    """

    pattern: np.ndarray
    count: np.ndarray
    expected: np.ndarray
    z: np.ndarray
    p: np.ndarray
    q: np.ndarray

    def top(self, number: int) -> "Enrichment":
        """The first so many with q ≤ 0.05, the highest z first; if there are fewer, others come after them."""
        best = np.lexsort((-self.z, self.q > 0.05))[:number]
        return Enrichment(*(getattr(self, field.name)[best] for field in fields(self)))


def enriched(counts: np.ndarray, nulls: Sequence[str], q: float = 0.05) -> np.ndarray:
    """The orbits that are more frequent than chance whichever of the nulls is asked, as numbers of patterns.

    Args:
        counts: from `pattern_counts`.
        nulls: as of `expected_counts`.
        q: at most; divide it by the number of layers and levels that are looked at.

    Raises:
        SignsError: as `expected_counts`.
    """
    found = [enrichment(counts, null) for null in nulls]
    return functools.reduce(np.intersect1d, [each.pattern[each.q <= q] for each in found])


def enrichment(counts: np.ndarray, null: str) -> Enrichment:
    """Which patterns are more frequent than chance; those that turns, reflections and a flip of all signs make of each
    other count as one.

    Args:
        counts: from `pattern_counts`.
        null: as of `expected_counts`.

    Raises:
        SignsError: as `expected_counts`.
    """
    counts = np.asarray(counts)
    trials, probability = _null(counts, null)
    group = orbits()
    # Slices that differ in what they keep could show different members of an orbit: they are added up.
    cells, cell = np.unique(np.stack([group, _groups()[null]]), axis=1, return_inverse=True)
    share, slices = np.bincount(cell, probability), np.zeros(cells.shape[1])
    slices[cell] = trials
    parts = slices * share, slices * share * (1 - share), slices
    expected, variance, chances = (np.bincount(cells[0], part, PATTERNS) for part in parts)
    found = np.flatnonzero(variance > 0)
    count, mean = np.bincount(group, counts, PATTERNS)[found].astype(int), expected[found]
    # One binomial for all slices of an orbit: where probabilities differ it is the wider one, so p is on the safe side.
    p = stats.binom.sf(count - 1, chances[found].astype(int), mean / chances[found])
    z = (count - mean) / np.sqrt(variance[found])
    best = np.argsort(-z, kind="stable")
    return Enrichment(*(array[best] for array in (found, count, mean, z, p, stats.false_discovery_control(p))))


@functools.cache
def _features() -> dict[str, np.ndarray]:
    table = patterns().astype(int)
    pairs = [(table[:, 1:], table[:, :-1]), (table[:, :, 1:], table[:, :, :-1])]
    products = np.concatenate([(one * other).reshape(PATTERNS, -1) for one, other in pairs], 1)
    kept, total = (table != 0).sum((1, 2)), table.sum((1, 2))
    edge = np.zeros(PATTERNS, bool)
    for side in ([0, 1, 2], [0, 3, 6], [0, 1, 3], [1, 2, 5]):  # the opposite half lies on the other side of the centre
        one, other = (table.reshape(-1, 9)[:, places] for places in (side, [8 - i for i in side]))
        for sign in (1, -1):
            one_sided = (sign * one >= 0).all(1) & (sign * other <= 0).all(1)
            edge |= one_sided & one.any(1) & other.any(1)
    return {
        "neighbours": np.abs(products).sum(1),
        "agree": (products > 0).sum(1),
        "several": kept > 1,
        "single": (kept > 1) & (np.abs(total) == kept),
        "edge": edge,
    }


def arranged(counts: np.ndarray, q: float = 0.05) -> np.ndarray:
    """How many patterns each layer of each network has beyond the null "balance", symmetric forms as one.

    Args:
        counts: [R, K, 19683] of R networks and K layers, from `pattern_counts`.
        q: as of `enriched`.

    Returns:
        [R, K] numbers.
    """
    return np.array([[len(enriched(layer, ["balance"], q)) for layer in network] for network in counts])


def spelt(number: int) -> str:
    """A pattern by its number, row by row, such as ``−−0/0+0/000``."""
    return "/".join("".join("−0+"[sign + 1] for sign in row) for row in patterns()[number])


def pattern_shares(counts: np.ndarray) -> dict[str, float]:
    """Three plain statistics of slices; of `expected_counts` they are what chance gives. NaN where nothing is to count.

    Returns:
        "neighbour agreement": the share of pairs of kept weights side by side that have the same sign; of the slices
        with two or more kept weights, "single-sign": the share with one sign only, and "edge-like": the share with
        kept weights in two opposite halves, one positive, the other negative (halves: outer rows, columns or corners
        of three; what lies between is free).
    """
    of = {name: float(np.asarray(counts) @ values) for name, values in _features().items()}
    pairs = {
        "neighbour agreement": ("agree", "neighbours"),
        "single-sign": ("single", "several"),
        "edge-like": ("edge", "several"),
    }
    return {name: of[part] / of[whole] if of[whole] else float("nan") for name, (part, whole) in pairs.items()}


def neighbour_agreement(counts: np.ndarray) -> np.ndarray:
    """[N] of N networks' counts, [N, patterns]: the share of kept weights side by side that have the same sign."""
    return np.array([pattern_shares(one)["neighbour agreement"] for one in counts])


def rank_correlation(
    a: np.ndarray, b: np.ndarray, generator: np.random.Generator, draws: int = 999
) -> tuple[float, float, float]:
    """Spearman's ρ of two networks' pattern counts, and what of it is neither density nor the balance of signs.

    Patterns with few non-zeros are frequent in any sparse network, so ρ is high by density alone; and where one sign
    is more frequent in both, patterns that have more of it are.

    Args:
        a, b: from `pattern_counts`; all 19,683 are ranked, for leaving out what neither shows would bias ρ.
        generator: of the permutations.
        draws: permutations; p is at least 1 / (draws + 1).

    Returns:
        ρ; ρ of the ranks within each number of negative and of positive weights, around 0 by chance; the probability of
        so high a second ρ when b's counts are permuted among patterns that have both numbers in common.
    """
    kept = _groups()["signs"]
    size = np.bincount(kept)
    both = [ranks(counts) for counts in (a, b)]
    rho = _correlation(*(rank - rank.mean() for rank in both))
    one, other = (rank - (np.bincount(kept, rank) / size)[kept] for rank in both)
    within = _correlation(one, other)
    groups = np.split(np.argsort(kept, kind="stable"), np.cumsum(size)[:-1])
    parts = [(one[group], other[group]) for group in groups if one[group].any() and other[group].any()]
    least = sum(a @ b for a, b in parts) - 1e-9 * np.sqrt((one @ one) * (other @ other))
    reached = sum(sum(a @ generator.permutation(b) for a, b in parts) >= least for _ in range(draws))
    return rho, within, float(1 + reached) / (draws + 1)


def likeness(networks: np.ndarray, dense: np.ndarray, seed: int, draws: int = 999) -> np.ndarray:
    """How alike each replicate's pattern counts are to those of the dense networks of all other replicates together.

    Args:
        networks, dense: [R, patterns] counts of `pattern_counts`, one row a replicate.
        seed: of the permutations, the same for each replicate.
        draws: permutations.

    Returns:
        [R, 3]: what `rank_correlation` returns.
    """
    others = dense.sum(axis=0) - dense
    pairs = zip(networks, others, strict=True)
    return np.array([rank_correlation(*pair, np.random.default_rng(seed), draws) for pair in pairs])


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    scale = np.sqrt((one @ one) * (other @ other))
    return float(one @ other / scale) if scale else float("nan")


# The recipe that names this measurement.


def _spatial(training: recipes.Training, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of the layers with 3×3 kernels."""
    layers = [name for name, layer in tensors.items() if layer.ndim == 4 and layer.shape[2:] == (3, 3)]
    if not layers:
        raise SignsError(f"{training.model} has no layer with 3×3 kernels")
    return layers


@frozen
class Patterns(Recipe):
    """How often each pattern of signs occurs in the 3×3 kernels of a network; see `lottery.kernels`.

    The record's arrays "end/layer" and "start/layer" are `pattern_counts` of the trained weights and of those
    that training started from, of all layers with 3×3 kernels in order; they are all that a chapter needs.

    Attributes:
        run: the network.
        mask: which of its weights are looked at, all of them within its own mask; by default that.
    """

    stored: ClassVar[bool] = True

    run: Run
    mask: recipes.Mask | None = None

    def reads(self):
        return [
            (self.run, None),
            *self.run.weights.needed(),
            *self.run.mask.needed(),
            *(self.mask.needed() if self.mask else ()),
        ]

    def check(self, world: World, training=None) -> None:
        super().check(world, training)
        module = world.network(self.run.training)
        _spatial(self.run.training, {name: module.get_parameter(name) for name in models.prunable(module)})

    def compute(self, world: World) -> Result:
        run = self.run
        mask = (self.mask or run.mask).tensors(world, run.training)
        end = {name: layer * mask[name] for name, layer in signs_of(world, run).items()}
        start = ternary(run.weights.tensors(world, run.training), mask)
        layers = _spatial(run.training, end)
        arrays = {
            f"{which}/{name}": pattern_counts(net[name]).astype(np.int32)
            for which, net in (("end", end), ("start", start))
            for name in layers
        }
        return {"layers": layers, "density": masks.density(mask)}, arrays
