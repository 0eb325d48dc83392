"""What is measured of trained networks, as recipes: paths, planes, spectra, prunable ratios, perturbed starts.

They are cached, resumed and spread over workers like trainings (`engine.execute`), and need dense weights only while
they are computed: what is kept is a small record. Everything is measured without augmentation; "re-estimated"
statistics are of the training examples.
"""

import itertools
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from . import curvature, data, kernels, landscape, masks, models, seeds, signs
from .engine import execute
from .engine.store import Store
from .recipes import Mask, Masked, Pruned, Recipe, Rewound, Run, Training, Weights, _frozen, dense

# Recipes.


@_frozen
class Perturbed(Weights):
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
    mask: Mask
    to: Weights
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0
    multiple: Annotated[float, Field(gt=0)] = 1.0
    along: Weights | None = None

    @property
    def start(self) -> int:
        return self.weights.start


@_frozen
class Adaptive(Mask):
    """A run's mask after the largest round of global pruning that needs no retraining.

    Attributes:
        run: the trained run.
        epsilon: by how much the training loss may rise, in nats.
        examples: training examples that it is measured on; 0: all.
    """

    stored: ClassVar[bool] = True

    run: Run
    epsilon: Annotated[float, Field(gt=0)]
    examples: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        return [*self.run.end.reads(), *self.run.mask.needed()]


@_frozen
class Path(Recipe):
    """Errors and losses along the path through two or more networks, with both kinds of statistics.

    Attributes:
        training: data and model.
        points: the networks in order.
        mask: which weights exist on the path; all points must lie within it.
        alphas: points of each segment, both ends included.
    """

    stored: ClassVar[bool] = True

    training: Training
    points: tuple[Weights, ...]
    mask: Mask
    alphas: Annotated[int, Field(ge=2)] = 11

    @model_validator(mode="after")
    def _two(self):
        if len(self.points) < 2:
            raise ValueError("a path needs at least two points")
        return self


@_frozen
class Plane(Recipe):
    """Errors and losses on the plane through three networks, with both kinds of statistics.

    Attributes:
        training, mask: as of `Path`.
        points: the three networks.
        resolution: points of the grid along each axis.
        margin: how far the grid reaches beyond the networks, relative to their extent.
    """

    stored: ClassVar[bool] = True

    training: Training
    points: tuple[Weights, Weights, Weights]
    mask: Mask
    resolution: Annotated[int, Field(ge=2)] = 15
    margin: Annotated[float, Field(ge=0)] = 0.2


@_frozen
class Spectrum(Recipe):
    """The Hessian's spectrum in a run's surviving weights, the ratio it predicts, curvatures along directions.

    Attributes:
        run: its final weights are where the Hessian is taken, within its mask.
        steps, probes: of stochastic Lanczos quadrature.
        top: largest eigenvalues wanted.
        epsilons: rises of the training loss, in nats, for which the largest prunable ratio is predicted.
        towards: the curvature is measured along the lines from the run's final weights to these.
        examples: training examples used, the first ones; 0: all.
        chunk: examples differentiated together; the gradient graphs of several chunks are not kept.
    """

    stored: ClassVar[bool] = True

    run: Run
    steps: Annotated[int, Field(ge=2)] = 80
    probes: Annotated[int, Field(ge=1)] = 2
    top: Annotated[int, Field(ge=1)] = 10
    epsilons: tuple[float, ...] = ()
    towards: tuple[Weights, ...] = ()
    examples: Annotated[int, Field(ge=0)] = 0
    chunk: Annotated[int, Field(ge=1)] = 10000

    def reads(self):
        return [*self.run.end.reads(), *self.run.mask.needed(), *(r for w in self.towards for r in w.needed())]


@_frozen
class Prunable(Recipe):
    """The largest ratio of a run's survivors that can go at once with the training loss at most ε higher, measured.

    Attributes:
        run: the trained run.
        epsilon: ε, in nats.
        order: what goes first over all layers, the smallest weights or any.
        steps, lr: of the search for a low loss inside the pruned subspace, see `lottery.curvature.lowest_loss`. What is
            found is a lower bound: a longer search can only find more.
        examples: training examples used, the first ones; 0: all.
        replicate, draw: the stream of a random order.
    """

    stored: ClassVar[bool] = True

    run: Run
    epsilon: Annotated[float, Field(gt=0)]
    order: Literal["magnitude", "random"] = "magnitude"
    steps: Annotated[int, Field(ge=0)] = 400
    lr: Annotated[float, Field(gt=0)] = 3e-3
    examples: Annotated[int, Field(ge=0)] = 0
    replicate: Annotated[int, Field(ge=0)] = 0
    draw: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        return [*self.run.end.reads(), *self.run.mask.needed()]


@_frozen
class Survivors(Recipe):
    """What retraining did to the magnitudes of a run's surviving weights: are there small ones to prune again?

    Attributes:
        run: a run whose mask was cut from another run's final weights (`Pruned`).
        bins: of the histograms of magnitudes.
    """

    stored: ClassVar[bool] = True

    run: Run
    bins: Annotated[int, Field(ge=2)] = 80

    def reads(self):
        before = self.run.mask.run
        return [*self.run.end.reads(), *before.end.reads(), *self.run.mask.needed(), *before.mask.needed()]

    @model_validator(mode="after")
    def _pruned(self):
        if not isinstance(self.run.mask, Pruned):
            raise ValueError("the run's mask must be cut by magnitude from another run")
        return self


@_frozen
class Moved(Recipe):
    """How far the weights of a ticket move in training, beside those that it leaves out.

    Frankle & Carbin (2019), Appendix F. Lengths are in standard deviations of the starting weights of the whole layer.
    The record's arrays: "summary", with the axes layer, group (`MOVERS`), measure (`MOVES`); "chance", the same for the
    last two groups if in each layer the movements were dealt out at random and the largest weights kept; for each
    layer, by group, counts of starts over `START_EDGES` ("starts/…"), of distances over `MOVE_EDGES` ("moves/…") and of
    the growth of magnitudes over `GROWTH_EDGES` ("growth/…"). What lies beyond the edges is in the outermost bins.

    Attributes:
        ticket: a trained ticket.
        dense: the run whose training is looked at for the ticket's weights and the rest.
    """

    stored: ClassVar[bool] = True

    ticket: Run
    dense: Run

    def reads(self):
        runs = (self.ticket, self.dense)
        return [read for run in runs for read in (*run.end.reads(), *run.weights.needed(), *run.mask.needed())]


MOVERS = ("ticket alone", "ticket", "rest")  # the ticket's weights in its own training and in the dense one, the others
MOVES = ("distance", "grown", "positive", "dip")
START_EDGES = np.linspace(-4, 4, 65)
MOVE_EDGES = np.geomspace(0.01, 100, 65)
GROWTH_EDGES = np.linspace(-4, 20, 97)


@_frozen
class Compared(Recipe):
    """How alike the signs of two trained networks are, beside what chance gives; see `lottery.signs`.

    The record's arrays have the axes signed or not (`SIGNED`), matching (`MATCHED`), measure (`MEASURES`), layer:
    "pair" for the two, and with a leading axis of draws "degrees" and "signs" for the nulls of `signs.null_pairs`.

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


@_frozen
class Flipped(Recipe):
    """Which of a run's surviving weights end with another sign than they have in a start; see `lottery.signs.flips`.

    Attributes:
        run: the trained network.
        since: the start, usually the initial weights of its chain.
    """

    stored: ClassVar[bool] = True

    run: Run
    since: Weights

    def reads(self):
        return [(self.run, None), *self.run.mask.needed(), *self.since.needed()]


SIGNED = (True, False)
MATCHED = (None, "layers", "both")
MEASURES = ("distance", "overlap", "agreement")


@_frozen
class Patterns(Recipe):
    """How often each pattern of signs occurs in the 3×3 kernels of a network; see `lottery.kernels`.

    The record's arrays "end/layer" and "start/layer" are `kernels.pattern_counts` of the trained weights and of those
    that training started from, of all layers with 3×3 kernels in order; they are all that a chapter needs.

    Attributes:
        run: the network.
        mask: which of its weights are looked at, all of them within its own mask; by default that.
    """

    stored: ClassVar[bool] = True

    run: Run
    mask: Mask | None = None

    def reads(self):
        return [
            (self.run, None),
            *self.run.weights.needed(),
            *self.run.mask.needed(),
            *(self.mask.needed() if self.mask else ()),
        ]


# Experiments.


def path(*runs: Run, alphas: int = 11, mask: Mask | None = None) -> Path:
    """The path through the solutions of runs, under the mask of the first (the denser one between levels)."""
    return Path(runs[0].training, tuple(run.end for run in runs), mask or runs[0].mask, alphas)


def projection(run: Run, mask: Mask, alphas: int = 11) -> Path:
    """From a solution to what is left of it under a mask, with no retraining: the pruning projection."""
    return Path(run.training, (run.end, Masked(run.end, mask)), run.mask, alphas)


def siblings(run: Run, step: int | None = None, count: int = 2) -> list[Run]:
    """Trainings from the same weights with other data orders: instability analysis (Frankle et al. 2020).

    Args:
        run: the weights are its own start, or
        step: those that it had at this step.
        count: how many.
    """
    weights = run.weights if step is None else Rewound(run, step)
    return [replace(run, weights=weights, order=(*run.order, 0, i)) for i in range(count)]


def disturbed(
    chain: list[Run], level: int, replicate: int, multiple: float = 1.0, through: Mask | None = None, draw: int = 0
) -> Run:
    """The run of a level from a start as far from its own as the next level's, or a multiple of it.

    Its path to `chain[level]` tests whether any two networks that far apart train to one mode (Paul et al. 2023,
    Section 3.2). Its data order is that of the next level.

    Args:
        chain: of `lottery.recipes.imp`, rewound, at least up to level + 1.
        level: which.
        replicate, draw: the stream of the direction.
        multiple: of the distance between the pruned rewind points of this level and the next.
        through: move towards the start under this mask instead of in a random direction; see `Thinned`.
    """
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
    for level in range(1, levels + 1):
        order = (replicate, level) if fresh_order else (replicate,)
        runs.append(Run(training, Rewound(runs[0], rewind_step), Adaptive(runs[-1], epsilon, examples), order))
    return runs


# Their computation.


def _scene(training: Training, device: str):
    """The module and the data set, on the device."""
    dataset = execute.dataset_of(training, device)
    return models.build(training.model, dataset.shape, dataset.classes).to(device), dataset


def _on(tensors: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _solution(run: Run, store: Store, device: str):
    """The final weights of a run, and its mask."""
    state, mask = execute.weights_of(run.end, run.training, store), execute.mask_of(run.mask, run.training, store)
    return _on(state, device), _on(mask, device)


def _first(pair: data.Pair, examples: int) -> data.Pair:
    return (pair[0][:examples], pair[1][:examples]) if examples else pair


@execute.weights_of.register(Perturbed)
def _perturbed(weights: Perturbed, training: Training, store: Store) -> models.State:
    state, to = (execute.weights_of(part, training, store) for part in (weights.weights, weights.to))
    mask = execute.mask_of(weights.mask, training, store)
    length = weights.multiple * landscape.distance(state, to, mask)
    if weights.along is None:
        stream = seeds.generator(training.seed, seeds.PERTURB, weights.replicate, weights.draw)
        return landscape.perturb(state, mask, length, stream)
    along = execute.weights_of(weights.along, training, store)
    return landscape.shift(state, {name: (along[name] - state[name]) * kept for name, kept in mask.items()}, length)


@execute.result_of.register(Adaptive)
def _adaptive(recipe: Adaptive, store: Store, device: str) -> tuple[dict, dict]:
    module, dataset = _scene(recipe.run.training, device)
    state, mask = _solution(recipe.run, store, device)
    scores = masks.magnitude_scores(state, mask)
    ratio = curvature.measured_ratio(
        module, state, mask, scores, _first(dataset.train, recipe.examples), recipe.epsilon
    )
    values, arrays = execute.mask_record(masks.prune(mask, scores, dict.fromkeys(mask, ratio), "global"))
    return values | {"ratio": ratio}, arrays


@execute.result_of.register(Path)
def _path(recipe: Path, store: Store, device: str) -> tuple[dict, dict]:
    module, dataset = _scene(recipe.training, device)
    points = [_on(execute.weights_of(point, recipe.training, store), device) for point in recipe.points]
    mask = _on(execute.mask_of(recipe.mask, recipe.training, store), device)
    arrays = landscape.error_along_path(module, points, dataset.train, dataset.test, mask=mask, alphas=recipe.alphas)
    distances = [landscape.distance(a, b, mask) for a, b in itertools.pairwise(points)]
    values = {"distance": distances, "density": masks.density(mask)}
    for name in [name for name in arrays if name != "position"]:
        values[f"barrier/{name}"] = landscape.error_barrier(arrays[name], recipe.alphas).tolist()
        values[f"ends/{name}"] = arrays[name][:: recipe.alphas - 1].tolist()
    return values, arrays


@execute.result_of.register(Plane)
def _plane(recipe: Plane, store: Store, device: str) -> tuple[dict, dict]:
    module, dataset = _scene(recipe.training, device)
    points = [_on(execute.weights_of(point, recipe.training, store), device) for point in recipe.points]
    mask = _on(execute.mask_of(recipe.mask, recipe.training, store), device)
    coordinates = landscape.plane(points, list(mask))
    low, high = coordinates.min(0), coordinates.max(0)
    reach = recipe.margin * (high - low)
    x, y = np.linspace(low - reach, high + reach, recipe.resolution).T
    surface = landscape.error_on_plane(module, points, list(mask), x, y, dataset.train, dataset.test, mask=mask)
    return {}, {"points": coordinates, "x": x.copy(), "y": y.copy()} | surface


@execute.result_of.register(Spectrum)
def _spectrum(recipe: Spectrum, store: Store, device: str) -> tuple[dict, dict]:
    training = recipe.run.training
    module, dataset = _scene(training, device)
    state, mask = _solution(recipe.run, store, device)
    examples = _first(dataset.train, recipe.examples)
    single = len(examples[1]) <= recipe.chunk
    product = curvature.Hessian(module, state, mask, examples, recipe.chunk, keep=single)
    stream = seeds.generator(training.seed, seeds.PROBE, *recipe.run.order)
    signs = stream.integers(0, 2, (recipe.probes, product.size), dtype=np.int8) * 2.0 - 1
    starts = torch.from_numpy(signs).to(device, product.dtype)
    top, _ = curvature.top_eigenvalues(product, starts[0], min(recipe.top, product.size))
    nodes, weights = curvature.spectral_measure(product, starts, recipe.steps)
    squares = product.compact(state).double().square().cpu().numpy()
    values = {
        "size": product.size,
        "loss": product.loss,
        "gradient": float(product.gradient().norm()),
        "trace": float(product.size * (nodes * weights).sum() / len(nodes)),
        "norm": float(np.sqrt(squares.sum())),
        "predicted": {
            f"{law}/{order}": [
                curvature.predicted_ratio(nodes, weights, squares, epsilon, order, law) for epsilon in recipe.epsilons
            ]
            for law in ("exact", "width")
            for order in ("magnitude", "random")
        },
    }
    values["curvature"], values["distance"] = [], []
    for target in recipe.towards:
        there = _on(execute.weights_of(target, training, store), device)
        direction = product.compact({name: there[name] - state[name] for name in mask})
        values["curvature"].append(curvature.curvature(product, direction))
        values["distance"].append(float(direction.norm()))
    return values, {"top": top, "nodes": nodes, "weights": weights}


@execute.result_of.register(Prunable)
def _prunable(recipe: Prunable, store: Store, device: str) -> tuple[dict, dict]:
    training = recipe.run.training
    module, dataset = _scene(training, device)
    state, mask = _solution(recipe.run, store, device)
    stream = seeds.generator(training.seed, seeds.THIN, recipe.replicate, recipe.draw)
    random = recipe.order == "random"
    scores = masks.random_scores(mask, stream) if random else masks.magnitude_scores(state, mask)
    given = (module, state, mask, scores, _first(dataset.train, recipe.examples), recipe.epsilon)
    reached = curvature.measured_ratio(*given, steps=recipe.steps, lr=recipe.lr)
    return {"ratio": reached, "zero_shot_ratio": curvature.measured_ratio(*given)}, {}


@execute.result_of.register(Survivors)
def _survivors(recipe: Survivors, store: Store, device: str) -> tuple[dict, dict]:
    before = recipe.run.mask.run
    old, wider = _solution(before, store, "cpu")
    new, mask = _solution(recipe.run, store, "cpu")
    groups = [list(mask)] if recipe.run.mask.scope == "global" else [[name] for name in mask]
    below, thresholds = 0, {}
    for names in groups:  # the threshold is the largest magnitude that was cut, of all layers or of each
        gone = torch.cat([old[name][wider[name] & ~mask[name]].abs() for name in names])
        threshold = float(gone.max()) if len(gone) else 0.0
        thresholds |= dict.fromkeys(names, threshold)
        below += sum(int((new[name][mask[name]].abs() <= threshold).sum()) for name in names)
    left, trained = (torch.cat([state[n][kept].abs() for n, kept in mask.items()]).numpy() for state in (old, new))
    edges = np.linspace(0, max(left.max(), trained.max()), recipe.bins + 1, dtype=np.float64)
    values = {"below": below / len(trained), "threshold": thresholds, "weights_left": len(trained)}
    counts = {"pruned": np.histogram(left, edges)[0], "retrained": np.histogram(trained, edges)[0]}
    return values, {"edges": edges} | {f"histogram/{name}": c.astype(np.int32) for name, c in counts.items()}


def moves(start: torch.Tensor, end: torch.Tensor) -> list[float]:
    """What weights that start and end here (in standard deviations of the start) have of each of `MOVES`.

    The mean distance, the share that ends larger in magnitude than it started, the share that starts positive, and the
    density of starts within 1/2 of zero over that between 1/2 and 3/2; NaN for no weights.
    """
    size = start.abs()
    near, around = (part.double().mean() for part in (size < 0.5, (size >= 0.5) & (size < 1.5)))
    shares = (part.double().mean() for part in (end.abs() > size, start > 0))
    return [float(x) for x in ((end - start).abs().double().mean(), *shares, 2 * near / around)]


@execute.result_of.register(Moved)
def _moved(recipe: Moved, store: Store, device: str) -> tuple[dict, dict]:
    training = recipe.dense.training
    (alone, mask), (end, whole) = (_solution(run, store, "cpu") for run in (recipe.ticket, recipe.dense))
    begun, start = (execute.weights_of(run.weights, training, store) for run in (recipe.ticket, recipe.dense))
    stream = seeds.generator(training.seed, seeds.NULL, int(recipe.key[:12], 16))
    summary, chance, arrays = [], [], {}
    for name, kept in mask.items():
        unit, rest = start[name].std(), whole[name] & ~kept
        groups = [(begun[name][kept], alone[name][kept]), *((start[name][g], end[name][g]) for g in (kept, rest))]
        groups = [(a / unit, b / unit) for a, b in groups]
        summary.append([moves(*group) for group in groups])
        a, b = (torch.cat(parts) for parts in zip(*groups[1:], strict=True))
        b = a + (b - a)[torch.from_numpy(stream.permutation(len(a)))]
        order = b.abs().argsort(descending=True)
        chance.append([moves(a[part], b[part]) for part in (order[: kept.sum()], order[kept.sum() :])])
        for label, edges, measure in (
            ("starts", START_EDGES, lambda a, b: a),
            ("moves", MOVE_EDGES, lambda a, b: (b - a).abs()),
            ("growth", GROWTH_EDGES, lambda a, b: b.abs() - a.abs()),
        ):
            counts = [np.histogram(measure(*g).numpy().clip(edges[0], edges[-1]), edges)[0] for g in groups]
            arrays[f"{label}/{name}"] = np.stack(counts).astype(np.int32)
    values = {"layers": list(mask), "density": masks.density(mask), "weights_left": masks.count(mask)}
    return values, {"summary": np.array(summary), "chance": np.array(chance)} | arrays


def signs_of(run: Run, store: Store) -> signs.Signs:
    """The signs that a run ended with, from its record and that of its mask."""
    return signs.decode(store.read(run.key).arrays, execute.mask_of(run.mask, run.training, store))


@execute.result_of.register(Compared)
def _compared(recipe: Compared, store: Store, device: str) -> tuple[dict, dict]:
    nets = [signs_of(run, store) for run in (recipe.a, recipe.b)]
    stream = seeds.generator(recipe.a.training.seed, seeds.NULL, int(recipe.key[:12], 16))

    def measured(pair):
        matchings = MATCHED if recipe.both else MATCHED[:2]
        found = [[signs.compare(*pair, signed, matching) for matching in matchings] for signed in SIGNED]
        return [[[list(getattr(one, name).values()) for name in MEASURES] for one in row] for row in found]

    arrays = {"pair": np.array(measured(nets))}
    for null in ("degrees", "signs") if recipe.draws else ():
        arrays[null] = np.array([measured(p) for p in signs.null_pairs(*nets, stream, recipe.draws, null == "degrees")])
    return {"layers": list(nets[0])}, arrays


@execute.result_of.register(Flipped)
def _flipped(recipe: Flipped, store: Store, device: str) -> tuple[dict, dict]:
    after = signs_of(recipe.run, store)
    mask = {name: layer != 0 for name, layer in after.items()}
    before = signs.ternary(execute.weights_of(recipe.since, recipe.run.training, store), mask)
    shares = signs.flips(before, after)
    sizes = [int(kept.sum()) for kept in mask.values()]
    return {"flipped": float(np.average(list(shares.values()), weights=sizes)), "layers": shares}, {}


@execute.result_of.register(Patterns)
def _patterns(recipe: Patterns, store: Store, device: str) -> tuple[dict, dict]:
    run = recipe.run
    mask = execute.mask_of(recipe.mask or run.mask, run.training, store)
    end = {name: layer * mask[name] for name, layer in signs_of(run, store).items()}
    start = signs.ternary(execute.weights_of(run.weights, run.training, store), mask)
    layers = [name for name, layer in end.items() if layer.ndim == 4 and layer.shape[2:] == (3, 3)]
    if not layers:
        raise signs.SignsError(f"{run.training.model} has no layer with 3×3 kernels")
    arrays = {
        f"{which}/{name}": kernels.pattern_counts(net[name]).astype(np.int32)
        for which, net in (("end", end), ("start", start))
        for name in layers
    }
    return {"layers": layers, "density": masks.density(mask)}, arrays
