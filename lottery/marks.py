"""What marks a ticket: measurements of sparse networks, and how well each tells those that match their dense network.

Networks are compared within a replicate, where all but those from a new draw share the dense network's start. Values
are arrays [R, N] of R replicates and N networks each; a network is *matching* or not.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from torch import nn

from . import LotteryError, controls, masks, models, stats, tickets
from .association import auc, partial_spearman
from .curvature import Spectrum
from .data import Pair
from .landscape import Path, midpoint_barrier
from .models import State
from .recipes import (
    Dense,
    Mask,
    Recipe,
    Result,
    Run,
    Stored,
    Training,
    Weights,
    World,
    check_still,
    first,
    frozen,
    rehearse,
)
from .signs import Aligned, Compared, Hybrid
from .stats import Summary

LESS, MORE = -1, 1
LEAST = 4  # networks of a replicate on a level within which marks are compared: elsewhere tickets stand alone
MARKS = {
    "signed distance": LESS,
    "unsigned distance": LESS,
    "signed distance, aligned": LESS,
    "sign agreement": MORE,
    "error barrier": LESS,
    "error barrier, aligned": LESS,
    "largest curvature": LESS,
    "mean curvature": LESS,
    "size at the start": MORE,
    "gradient at the start": MORE,
}
"""Mark → whether a ticket has less of it or more, as far as the works say."""


@frozen
class Beginning(Recipe):
    """What a sparse network is like before its first step.

    The record's values: "gradient", the Euclidean norm of the gradient of the training loss in the surviving weights
    (nats); "size", the root mean square of the survivors over that of all starting weights, mean over layers but those
    that start at zero, as those that residual blocks may end with: they have no size.

    Attributes:
        training: of which data and network.
        weights, mask: the start.
        examples: training examples of the gradient, the first ones; 0: all.
    """

    stored: ClassVar[bool] = True

    training: Training
    weights: Weights
    mask: Mask
    examples: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        return [*self.weights.needed(), *self.mask.needed()]

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, self.training)

        def tried(module: nn.Module, state: State, examples: Pair) -> None:
            check_still(module, state, examples)
            _gradients(module, state, examples)

        rehearse("first gradient", world, self.training, tried)

    def compute(self, world: World) -> Result:
        module, dataset = world.network(self.training), world.dataset(self.training)
        inputs, labels = first(dataset.train, self.examples)
        state, mask = (part.tensors(world, self.training) for part in (self.weights, self.mask))
        gradients = _gradients(module, masks.apply(state, mask), (inputs.cpu(), labels.cpu()))
        square = sum(float((gradients[name][kept].double() ** 2).sum()) for name, kept in mask.items())
        squares = {name: state[name].double() ** 2 for name in mask}
        sizes = [float(s[mask[name]].mean() / s.mean()) for name, s in squares.items() if s.any()]
        if not sizes:
            raise LotteryError("all prunable weights start at 0, and have no size to compare those of survivors with")
        return {"gradient": square**0.5, "size": float(np.sqrt(sizes).mean())}, {}


def _gradients(module: nn.Module, state: State, examples: Pair) -> State:
    """Gradients of the loss in the prunable weights; zero where the outputs do not hang on them."""
    return models.gradients(module, state, {name: state[name] for name in models.prunable(module)}, *examples)


def measurements(run: Run, dense: Run, curved: int, examples: int = 0, test_examples: int = 0) -> dict[str, Recipe]:
    """The recipes of which the marks of a trained sparse network are read; see `marks_of`.

    Args:
        run: the network.
        dense: of its replicate.
        examples, test_examples: of training and test set, for paths and the first gradient; 0: all.
        curved: training examples of curvatures.
    """
    ends = run.end, Aligned(run.end, dense.end)
    paths = [_line(run.training, dense.end, end, examples, test_examples) for end in ends]
    return {
        "signs": Compared(run, dense, 0),
        "path": paths[0],
        "matched": paths[1],
        "curvature": Spectrum(run, 10, 1, 1, examples=curved),
        "beginning": Beginning(run.training, run.weights, run.mask, examples),
    }


def marks_of(records: Mapping[str, Stored]) -> dict[str, float]:
    """Each of `MARKS` from the records of `measurements`: distances and barriers are those to the dense network.

    Distances are means over layers, in the units' own order or aligned, matched by incoming connections. Barriers are
    those of test error at the middle; without normalisation there is one kind of statistics. Curvatures are those of
    the training loss in the surviving weights.
    """
    pair = records["signs"].arrays["pair"].mean(axis=-1).astype(float)  # signed or not, matching, measure
    pair = pair.round(6)  # they were summed in float32: equal ones differ beyond
    curved, start = records["curvature"], records["beginning"].values
    return {
        "signed distance": pair[0, 0, 0],
        "unsigned distance": pair[1, 0, 0],
        "signed distance, aligned": pair[0, 1, 0],
        "sign agreement": pair[0, 0, 2],
        "error barrier": barrier(records["path"]),
        "error barrier, aligned": barrier(records["matched"]),
        "largest curvature": float(curved.arrays["top"][0]),
        "mean curvature": curved.values["trace"] / curved.values["size"],
        "size at the start": start["size"],
        "gradient at the start": start["gradient"],
    }


def between(a: Run, b: Run, examples: int = 0, test_examples: int = 0) -> dict[str, Recipe]:
    """Signs of two networks beside each other, and the path between them; examples are as of `measurements`."""
    return {"signs": Compared(a, b, 0), "path": _line(a.training, a.end, b.end, examples, test_examples)}


def exchanged(a: Run, b: Run, replicate: int, examples: int = 0, test_examples: int = 0) -> dict[str, Recipe]:
    """Paths from a network to another, and to the other with this one's values on some weights.

    Returns:
        "whole", to the other as it is; "signs differ", with this one's values where their signs differ; "anywhere",
        with as many in Euclidean distance at random.
    """
    ends: dict[str, Weights] = {
        "whole": b.end,
        "signs differ": Hybrid(b.end, a.end),
        "anywhere": Hybrid(b.end, a.end, "anywhere", replicate),
    }
    return {name: _line(a.training, a.end, end, examples, test_examples) for name, end in ends.items()}


def _line(training: Training, one: Weights, other: Weights, examples: int, test_examples: int) -> Path:
    return Path(training, (one, other), Dense(), 3, examples, test_examples)


def test_errors(path: Stored) -> np.ndarray:
    """[3] test errors at the ends and the middle of a path, shares, with re-estimated statistics."""
    return path.arrays["re-estimated/test_error"]


def barrier(path: Stored) -> float:
    """The barrier of test error at the middle of a path, re-estimated statistics."""
    return midpoint_barrier(test_errors(path))


def apart(records: Mapping[str, Stored]) -> list[float]:
    """Signed distance, Euclidean distance and barrier of two networks, from the records of `between`."""
    signed = records["signs"].arrays["pair"][0, 0, 0]
    return [float(signed.mean()), records["path"].values["distance"][0], barrier(records["path"])]


def signs_apart(records: Mapping[str, Stored]) -> float:
    """Share of the connections that two networks have in common whose signs differ, from the records of `between`."""
    return 1 - float(records["signs"].arrays["pair"][0, 0, 2].mean())


def masks_apart(records: Mapping[str, Stored]) -> float:
    """The unsigned distance of two networks: how few connections their masks have in common."""
    return float(records["signs"].arrays["pair"][1, 0, 0].mean())


def all_apart(found: Sequence[Mapping], part: str) -> np.ndarray:
    """[R, P, 3] `apart` of all of a part of the records in the nesting of `of_replicate`, one a replicate."""
    return np.array([[apart(one) for one in row[part].values()] for row in found]).reshape(len(found), -1, 3)


def of_replicate(
    training: Training,
    replicate: int,
    levels: int,
    fraction: masks.Fraction,
    shares: Sequence[float],
    curved: int,
    *,
    fresh_order: bool = False,
    examples: int = 0,
    test_examples: int = 0,
) -> dict:
    """Tickets of every level, others beside the last one, and all that is measured of them.

    Args:
        training, replicate, levels, fraction, fresh_order: as of `controls.losing`.
        shares: of a ticket's starting signs that are flipped before it is trained again.
        curved, examples, test_examples: as of `measurements`.

    Returns:
        "dense", the run; "networks", name -> run; "marks", name -> `measurements`; "pairs", two names -> `between`
        networks of the last level; "turned", share -> run, and 0.0 -> the ticket trained again without a flip, on
        another order of examples; "from the ticket", share -> `between` the ticket and that
        run; "exchanged", of the ticket and the reinitialised network.
    """
    chain = tickets.imp(training, replicate, levels, fraction, fresh_order=fresh_order)
    last = controls.beside(training, replicate, levels, fraction, fresh_order=fresh_order)
    networks = {f"ticket {level}": chain[level] for level in range(1, levels)} | last
    turned = controls.turned(chain[-1], replicate, shares)
    turned.pop("opposed")
    if turned:
        turned = {0.0: tickets.siblings(chain[-1], count=1)[0]} | turned
    sample = examples, test_examples
    return {
        "dense": chain[0],
        "networks": networks,
        "marks": {name: measurements(run, chain[0], curved, *sample) for name, run in networks.items()},
        "pairs": {(a, b): between(last[a], last[b], *sample) for a, b in itertools.combinations(last, 2)},
        "turned": turned,
        "from the ticket": {share: between(chain[-1], run, *sample) for share, run in turned.items()},
        "exchanged": exchanged(last["ticket"], last["reinitialised"], replicate, *sample),
    }


@dataclass(frozen=True)
class Networks:
    """Networks with their marks, as arrays [R, N].

    Attributes:
        names: [N].
        level: [N] rounds of pruning, from 1 on.
        accuracy: test accuracy, by default at early stop.
        dense: [R, 1] that of the dense network.
        marks: mark → values; "density", too.
    """

    names: list[str]
    level: np.ndarray
    accuracy: np.ndarray
    dense: np.ndarray
    marks: dict[str, np.ndarray]

    @classmethod
    def read(cls, found: Sequence[Mapping], levels: int, accuracy: str = "early_stop_test_accuracy") -> "Networks":
        """From records in the nesting of `of_replicate`, one a replicate; `accuracy` is which of their values."""
        names = list(found[0]["networks"])
        level = np.array([int(name.split()[1]) if name.startswith("ticket ") else levels for name in names])
        rows = [[marks_of(one) for one in row["marks"].values()] for row in found]
        values = {mark: np.array([[one[mark] for one in row] for row in rows]) for mark in MARKS}
        runs = [[record.values for record in (row["dense"], *row["networks"].values())] for row in found]
        right, density = (np.array([[one[value] for one in row] for row in runs]) for value in (accuracy, "density"))
        return cls(names, level, right[:, 1:], right[:, :1], {**values, "density": density[:, 1:]})

    @property
    def cut(self) -> np.ndarray:
        """[N] which were cut by the size of trained weights: tickets, and networks pruned once."""
        return np.array([name.startswith("ticket") or name == "one-shot" for name in self.names])

    def others(self) -> "Networks":
        """The networks that are not `cut`."""
        some = ~self.cut
        names = [name for name, own in zip(self.names, some, strict=True) if own]
        values = {mark: rows[:, some] for mark, rows in self.marks.items()}
        return Networks(names, self.level[some], self.accuracy[:, some], self.dense, values)

    def matching(self, epsilon: float) -> np.ndarray:
        """[R, N] which are at most so much less accurate than the dense network, a share."""
        return stats.matching(self.dense - self.accuracy, epsilon)

    def better(self, mark: str) -> np.ndarray:
        """[R, N] a mark with the sign with which a ticket has less of it."""
        return -MARKS.get(mark, MORE) * self.marks[mark]

    def area(self, mark: str, epsilon: float, within: bool = True) -> Summary:
        """How often a matching network has the better mark: an area under the curve.

        Args:
            mark: its name.
            epsilon: as of `matching`.
            within: levels that have other networks than tickets; or over all networks.
        """
        group, least = (self.level, LEAST) if within else (None, 1)
        matching, found = self.matching(epsilon), self.better(mark)
        return stats.bootstrap(lambda one, kind: separation(one, kind, group, least), found, matching, within=(0, 1))

    def area_of_kind(self, epsilon: float, within: bool = True) -> Summary:
        """`area` of knowing no more than whether a network is `cut`: what a mark has to beat."""
        kind = np.broadcast_to(self.cut.astype(float), self.accuracy.shape)
        return replace(self, marks={"kind": kind}).area("kind", epsilon, within)

    def areas_apart(self, mark: str, epsilon: float) -> float:
        """`area` within a level, of each replicate by itself, as the mean over those that have both sorts."""
        matching, better = self.matching(epsilon), self.better(mark)
        each = separations(better, matching, self.level, LEAST)
        return float(np.nanmean(each)) if np.isfinite(each).any() else float("nan")

    def rank(self, mark: str, within: bool = True) -> float:
        """Spearman's ρ of a mark with accuracy, within levels that have other networks than tickets, or over all."""
        return rank_correlation(self.marks[mark], self.accuracy, self.level if within else None)


# How well a mark tells matching networks from others.


def separation(mark: ArrayLike, matching: ArrayLike, group: ArrayLike | None = None, least: int = 1) -> float:
    """How often a matching network has less of a mark than another one, ties counted half: the area under the curve.

    Args:
        mark: [R, N].
        matching: [R, N] of which networks match.
        group: [N] labels, such as levels: networks are compared within a group, and the mean is over groups that have
            both kinds. By default all are one group.
        least: networks of a replicate that a group has at least, to count.

    Returns:
        The area; NaN where no group has both kinds.
    """
    mark, matching = np.asarray(mark, dtype=np.float64), np.asarray(matching, dtype=bool)
    parts = [(mark[:, inside], matching[:, inside]) for inside in _groups(mark.shape[1], group, least)]
    found = [auc(values[kind], values[~kind]) for values, kind in parts if kind.any() and not kind.all()]
    return float(np.mean(found)) if found else float("nan")


def separations(mark: ArrayLike, matching: ArrayLike, group: ArrayLike | None = None, least: int = 1) -> np.ndarray:
    """[R] `separation` of the networks of each replicate by themselves; arguments are its."""
    mark, matching = np.asarray(mark), np.asarray(matching)
    return np.array([separation(mark[[r]], matching[[r]], group, least) for r in range(len(mark))])


def rank_correlation(mark: ArrayLike, accuracy: ArrayLike, group: ArrayLike | None = None, least: int = LEAST) -> float:
    """Spearman's ρ of a mark with accuracy, over all networks or as the mean within groups.

    Args:
        mark, accuracy: [R, N].
        group: as of `separation`.
        least: as of `separation`.
    """
    mark, accuracy = (np.asarray(values, dtype=np.float64) for values in (mark, accuracy))
    groups = _groups(mark.shape[1], group, least)
    found = [partial_spearman(mark[:, inside].ravel(), accuracy[:, inside].ravel()) for inside in groups]
    return float(np.mean(found)) if found else float("nan")


def _groups(networks: int, group: ArrayLike | None, least: int) -> list[np.ndarray]:
    """[N] of each group with so many networks at least, which of them are its; arguments as of `separation`."""
    label = np.zeros(networks, dtype=int) if group is None else np.asarray(group)
    return [label == one for one in np.unique(label) if (label == one).sum() >= least]


def predicted(features: ArrayLike, matching: ArrayLike) -> np.ndarray:
    """How sure a logistic regression is that a network matches, having seen the other replicates alone.

    Args:
        features: [F, R, N], each brought to mean 0 and variance 1 over the replicates that are seen.
        matching: [R, N].

    Returns:
        [R, N] log-odds; NaN for a replicate beside which all networks are of one kind. Every replicate has a model of
        its own, whose intercept is the lower, the more of the replicate's networks match: compare odds within a
        replicate (`separations`), for over all, weak features come out too weak.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import, and few need it
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, matching = np.asarray(features, dtype=np.float64), np.asarray(matching, dtype=bool)
    odds = np.zeros(matching.shape)
    for own in range(len(matching)):
        seen = np.arange(len(matching)) != own
        kinds = matching[seen].ravel()
        if not kinds.any() or kinds.all():
            odds[own] = np.nan
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(features[:, seen].reshape(len(features), -1).T, kinds)
        odds[own] = model.decision_function(features[:, own].T)
    return odds


def matched_differences(one: ArrayLike, other: ArrayLike, distance: ArrayLike, within: float = 0.05) -> np.ndarray:
    """[R] `matched_difference` of the pairs of each replicate by themselves; arguments are its, [R, P]."""
    rows = zip(np.asarray(one), np.asarray(other), np.asarray(distance), strict=True)
    return np.array([matched_difference(*row, within) for row in rows])


def matched_difference(one: ArrayLike, other: ArrayLike, distance: ArrayLike, within: float = 0.05) -> float:
    """By how much a second measurement of pairs is larger where a first lies above its median, at equal distances.

    Args:
        one, other, distance: [P] of P pairs of networks.
        within: pairs are compared whose distances differ by this share at most.

    Returns:
        The mean over all couples of a pair above the median and one at or below it; NaN where there are none.
    """
    one, other, distance = (np.asarray(values, dtype=np.float64) for values in (one, other, distance))
    high = one > np.median(one)
    near = np.abs(np.log(distance[high][:, None] / distance[~high])) <= np.log1p(within)
    difference = other[high][:, None] - other[~high]
    return float(difference[near].mean()) if near.any() else float("nan")
