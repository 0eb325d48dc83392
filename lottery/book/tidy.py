"""Nested records as arrays and tables: what figures, tables and quantities of a chapter are made from."""

import functools
import itertools
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from .. import kernels, landscape, masks, movement, signs
from ..engine.store import Record
from .parameters import ChapterError

RUN_COLUMNS = {
    "weights_left": "density",
    "early_stop_iteration": "early_stop_step",
    "test_accuracy_early_stop": "early_stop_test_accuracy",
    "test_accuracy_end": "test_accuracy_end",
    "train_accuracy_end": "train_accuracy_end",
}
"""Columns of :func:`runs` → values of the records."""


def leaves(nested) -> Iterator:
    """All that lies in nested lists, tuples and dicts, in order; None is nothing."""
    if isinstance(nested, Mapping):
        nested = list(nested.values())
    if isinstance(nested, list | tuple):
        for part in nested:
            yield from leaves(part)
    elif nested is not None:
        yield nested


def mapped(nested, function: Callable):
    """The same nesting with `function(leaf)` for each leaf; tuples become lists."""
    if isinstance(nested, Mapping):
        return {name: mapped(part, function) for name, part in nested.items()}
    if isinstance(nested, list | tuple):
        return [mapped(part, function) for part in nested]
    return None if nested is None else function(nested)


def column(records, value: str | tuple | Callable[[Record], float]) -> np.ndarray:
    """A value of nested records as an array of the same shape; NaN where there is none.

    Args:
        records: nested lists of records or None.
        value: name of a value, the keys and places that lead to it, or a function of a record.
    """
    way = value if isinstance(value, tuple) else (value,)
    read = value if callable(value) else lambda record: functools.reduce(operator.getitem, way, record.values)

    def filled(part):
        return [filled(one) for one in part] if isinstance(part, list) else np.nan if part is None else read(part)

    return np.array(filled(records), dtype=np.float64)


def changes(values: ArrayLike) -> np.ndarray:
    """[R, L] values as changes against the dense network: each over its mean in the replicates that reach the level.

    Args:
        values: [R, L], the dense network's first; NaN where a replicate was not run.
    """
    values = np.asarray(values, dtype=np.float64)
    dense = np.where(np.isnan(values), np.nan, values[:, :1])
    with np.errstate(invalid="ignore"):  # NaN where no replicate reaches the level
        return values / (np.nansum(dense, axis=0) / (~np.isnan(dense)).sum(axis=0)) - 1


def over_draws(records, value: str | tuple | Callable[[Record], float]):
    """A value of nested records [replicates][draws][levels] as [replicates, levels]: mean of the draws, NaN if one is.

    Args:
        records: such records, or a mapping to them, or a mapping to mappings; the result is nested alike.
        value: of :func:`column`.
    """
    if isinstance(records, Mapping):
        return {name: over_draws(part, value) for name, part in records.items()}
    return column(records, value).mean(axis=1)


def runs(records, *names: str) -> pd.DataFrame:
    """How fast nested records of runs learned and how accurate they became, as a tidy table.

    Args:
        records: of :func:`over_draws`.
        names: of the columns for the keys of the mappings, from the outer to the inner one.
    """
    if names:
        return stacked({key: runs(part, *names[1:]) for key, part in records.items()}, names[0])
    columns = {name: over_draws(records, value) for name, value in RUN_COLUMNS.items()}
    return frame(("replicate", "level"), columns)


def barriers(paths) -> dict[str, np.ndarray]:
    """Barriers of test error at the middle of nested records of paths: statistics → array of the same shape.

    Args:
        paths: nested lists of records of `lottery.landscape.Path`.
    """

    def middle(way: str) -> np.ndarray:
        return column(paths, lambda path: landscape.midpoint_barrier(path.arrays[f"{way}/test_error"]))

    return {way: middle(way) for way in landscape.STATISTICS}


def at_point(paths, place: float) -> dict[str, np.ndarray]:
    """Test error at one point of nested records of paths: statistics → array of the same shape.

    Args:
        paths: as of :func:`barriers`.
        place: 0 for the first end, 0.5 for the middle, 1 for the other end.
    """

    def error(way: str) -> np.ndarray:
        return column(
            paths, lambda path: (errors := path.arrays[f"{way}/test_error"])[round(place * (len(errors) - 1))]
        )

    return {way: error(way) for way in landscape.STATISTICS}


def above_middle(paths) -> dict[str, np.ndarray]:
    """How much higher each whole path rises than it does at its middle, which is its barrier: statistics → [paths].

    A rise is that above the straight line between the errors of the two ends; the ends themselves do not count.

    Args:
        paths: as of :func:`barriers`; those of three points are left out, and one that comes twice counts once.
    """
    whole = list({path.key: path for path in leaves(paths) if len(path.arrays["position"]) > 3}.values())

    def gap(path: Record, way: str) -> float:
        errors = path.arrays[f"{way}/test_error"]
        return landscape.above_chord(errors, path.arrays["position"]).max() - landscape.midpoint_barrier(errors)

    return {way: np.array([gap(path, way) for path in whole]) for way in landscape.STATISTICS}


def over_worse_end(paths) -> dict[str, np.ndarray]:
    """Test error at the middle of nested records of paths minus that of the worse end: statistics → array.

    Below zero, nothing gets worse on the way from the worse end to the better one, as far as the middle tells.

    Args:
        paths: as of :func:`barriers`.
    """
    first, middle, last = (at_point(paths, place) for place in (0, 0.5, 1))
    return {way: middle[way] - np.maximum(first[way], last[way]) for way in landscape.STATISTICS}


def small_at_start(run: Record, thresholds: Mapping[str, float], to_scale: bool = False) -> float:
    """The share of a run's survivors that were no larger than a threshold before it trained, estimated.

    A record keeps histograms of 81 bins: within the bin that holds a threshold, weights count as spread evenly. That
    can be wrong by the share of the survivors which lie in these bins.

    Args:
        run: its record.
        thresholds: layer → threshold, as `lottery.movement.Survivors` has them.
        to_scale: with the weights of each layer scaled to the root mean square that they end with.
    """
    cut = {name.removesuffix(".weight"): threshold for name, threshold in thresholds.items()}
    before, after = surviving_weights(run)
    if to_scale:
        before = {layer: weights * (_rms(after[layer]) / (_rms(weights) or 1.0)) for layer, weights in before.items()}
    small = sum(int((np.abs(weights) <= cut.get(layer, 0.0)).sum()) for layer, weights in before.items())
    return small / sum(map(len, before.values()))


def _rms(weights: np.ndarray) -> float:
    return float(np.sqrt((weights**2).mean())) if len(weights) else 0.0


def put_back(runs, survivors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is small of weights that were put back, before they train again.

    Args:
        runs: [R] chains [L + 1] of records, the dense network first.
        survivors: [R][L] records of `lottery.movement.Survivors`.

    Returns:
        Three [R, L]: :func:`small_at_start`; the same to scale; the root mean square of all survivors before training,
        over that after it.
    """
    pairs = [list(zip(chain[1:], counted, strict=True)) for chain, counted in zip(runs, survivors, strict=True)]

    def scale(run: Record) -> float:
        before, after = (_rms(np.concatenate(list(side.values()))) for side in surviving_weights(run))
        return before / after

    small, to_scale = (
        np.array([[small_at_start(run, one.values["threshold"], scaled) for run, one in row] for row in pairs])
        for scaled in (False, True)
    )
    return small, to_scale, np.array([[scale(run) for run, _ in row] for row in pairs])


def early_validation(records) -> np.ndarray:
    """Validation accuracy of nested records at early stop, as an array of the same shape; NaN where there is none."""

    def at_stop(record: Record) -> float:
        return record.arrays["history/validation_accuracy"][record.arrays["history/validation_loss"].argmin()]

    return column(records, at_stop)


def at_first(records, value: str = "test_accuracy") -> np.ndarray:
    """A column of the histories of nested records before the first step, as an array of the same shape."""
    return column(records, lambda record: record.arrays[f"history/{value}"][0])


def smoothed_stop(record: Record, width: int = 5) -> float:
    """Iteration of the smallest moving average of validation loss over `width` evaluations."""
    loss, steps = record.arrays["history/validation_loss"][1:], record.arrays["history/step"][1:]
    width = min(width, len(loss))
    return float(steps[np.convolve(loss, np.ones(width) / width, "valid").argmin() + width // 2])


def seldom_stop(record: Record, every: int) -> float:
    """Iteration of the smallest validation loss if only multiples of `every` and the last iteration are looked at."""
    steps, loss = record.arrays["history/step"], record.arrays["history/validation_loss"]
    at = np.flatnonzero((steps % every == 0) | (steps == steps[-1]))
    return float(steps[at[loss[at].argmin()]])


def first_at(record: Record, accuracy: float) -> float:
    """First iteration with this test accuracy, a share; the last one if there is none."""
    reached = np.flatnonzero(record.arrays["history/test_accuracy"] >= accuracy)
    return float(record.arrays["history/step"][reached[0] if len(reached) else -1])


def speeds(accuracy: float, *every: int) -> dict[str, str | Callable[[Record], float]]:
    """Ways to read off how fast a run learns, as an iteration: in words → what :func:`column` takes; the paper's first.

    Args:
        accuracy: on the test set, a share, whose first time counts.
        every: at which multiples the validation loss is looked at, for each of some ways.
    """
    ways: dict[str, str | Callable[[Record], float]] = {
        "smallest validation loss (the paper's)": "early_stop_step",
        "smallest moving average of five validation losses": smoothed_stop,
        f"first time at {100 * accuracy:.1f} % test accuracy": functools.partial(first_at, accuracy=accuracy),
    }
    words = "smallest validation loss, looked at every {:,} iterations"
    return ways | {words.format(n): functools.partial(seldom_stop, every=n) for n in every}


def same_loss(chains) -> np.ndarray:
    """Iterations until each run's validation loss is at most the smallest of the first run of its chain.

    Args:
        chains: [R][L] records of runs, the dense one first.

    Returns:
        [R, L] first evaluated steps; NaN where the loss never comes so low.
    """

    def first(record: Record, loss: float) -> float:
        reached = np.flatnonzero(record.arrays["history/validation_loss"] <= loss)
        return float(record.arrays["history/step"][reached[0]]) if len(reached) else np.nan

    wanted = [chain[0].arrays["history/validation_loss"].min() for chain in chains]
    return np.array([[first(run, loss) for run in chain] for chain, loss in zip(chains, wanted, strict=True)])


def at_step(step: float, name: str = "test_accuracy") -> Callable[[Record], float]:
    """What reads a run's history, by default its test accuracy, where it was evaluated next to a step."""

    def read(record: Record) -> float:
        return record.arrays[f"history/{name}"][np.abs(record.arrays["history/step"] - step).argmin()]

    return read


def nearest(density: Sequence[float] | np.ndarray, *wanted: float) -> list[int]:
    """The levels whose densities are nearest to those wanted, by ratio; each once."""
    return list(dict.fromkeys(int(np.abs(np.log(np.asarray(density) / share)).argmin()) for share in wanted))


def curves(records: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of the histories of several runs: steps [S] and values [R, S]; all share one grid."""
    return records[0].arrays["history/step"], np.stack([record.arrays[f"history/{name}"] for record in records])


def deepest_dip(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, int, np.ndarray]:
    """Where, in the second half of training, one run lies furthest below itself just before and just after.

    Args:
        curves: label → (steps [S], values [R, S]) of :func:`curves`, S at least 3.

    Returns:
        Label, step, and the run's three values: before, there, after.
    """
    found = []
    for label, (steps, values) in curves.items():
        there = np.arange(1, len(steps) - 1)[2 * steps[1:-1] >= steps[-1]]
        depth = np.minimum(values[:, there - 1], values[:, there + 1]) - values[:, there]
        run, at = np.unravel_index(depth.argmax(), depth.shape)
        at = there[at]
        found.append((depth.max(), label, int(steps[at]), values[run, at - 1 : at + 2]))
    return max(found, key=lambda one: one[0])[1:]


def frame(names: Sequence[str], columns: Mapping[str, object], **labels: Iterable) -> pd.DataFrame:
    """Arrays of one shape as a tidy table: one row an entry, its place in the first columns, its values in the others.

    Args:
        names: of the arrays' axes, e.g. ("replicate", "level").
        columns: name → array [one axis a name], or a mapping to such arrays, which is one more axis in front. Axes that
            an array lacks in front are filled up with copies.
        labels: for an axis by name: what stands in the table instead of 0, 1, 2, …

    Returns:
        The table; rows in which every column that has all axes is NaN are left out.

    Raises:
        ChapterError: if the shapes do not fit together, or labels do not fit their axis.
    """
    arrays = {
        name: np.stack(list(array.values())) if isinstance(array, Mapping) else np.asarray(array)
        for name, array in columns.items()
    }
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays.values()))
    except ValueError as error:
        raise ChapterError(f"these columns make no table: {error}") from None
    places = {name: list(labels.get(name, range(length))) for name, length in zip(names, shape, strict=False)}
    if len(names) != len(shape) or [len(part) for part in places.values()] != list(shape) or set(labels) - set(names):
        raise ChapterError(f"axes {', '.join(names)} with {', '.join(labels)} do not fit arrays of shape {shape}")
    index = pd.MultiIndex.from_product(list(places.values()), names=names)
    table = pd.DataFrame({name: np.broadcast_to(one, shape).ravel() for name, one in arrays.items()}, index=index)
    whole = [name for name, array in arrays.items() if array.ndim == len(names)]
    return table.dropna(how="all", subset=whole).reset_index()


def stacked(frames: Mapping[Hashable, pd.DataFrame], *names: str) -> pd.DataFrame:
    """Tables one below the other, with the keys of the mapping in further columns in front.

    Args:
        frames: key → table; keys are tuples if there are several names.
        names: of the columns for the keys.
    """
    return pd.concat(frames, names=[*names, None]).reset_index(level=list(range(len(names)))).reset_index(drop=True)


def moved_ratios(records: Sequence[Record], array: str = "summary") -> np.ndarray:
    """[R, layer] how many times as far as the rest a ticket's weights moved in the dense network's training.

    Args:
        records: of `lottery.movement.Moved`, one a replicate.
        array: "chance" if movements had been dealt out at random.
    """
    kept, rest = np.moveaxis(np.array([record.arrays[array][:, -2:, 0] for record in records]), -1, 0)
    return kept / rest


def movements(rows: Sequence[Sequence[Record]], level: int, layer: str, kind: str, *groups: str) -> dict:
    """Counts that records of `lottery.movement.Moved` keep of a layer, all replicates together.

    Args:
        rows: one row a replicate, one record a level.
        level, layer: of which.
        kind: "starts", "moves" or "growth".
        groups: some of `movement.MOVERS`.

    Returns:
        group → (edges, counts), in the order of the groups.
    """
    edges = {"starts": movement.START_EDGES, "moves": movement.MOVE_EDGES, "growth": movement.GROWTH_EDGES}[kind]
    counts = np.sum([row[level].arrays[f"{kind}/{layer}"] for row in rows], axis=0)
    return {group: (edges, counts[movement.MOVERS.index(group)]) for group in groups}


def mask_distances(rows: Sequence[Sequence[Record]]) -> np.ndarray:
    """[R, M, M] `masks.distance` between all masks of a row, from their records [R][M]."""
    kept = [[masks.from_record(record) for record in row] for row in rows]
    return np.array([[[masks.distance(one, other) for other in row] for one in row] for row in kept])


def by_level(counts: Mapping[str, Mapping[int, np.ndarray]], density: Mapping[int, float], value: Callable) -> dict:
    """A value of counts of patterns against the share of weights left, as `figures.against_density` takes it.

    Args:
        counts: kind of network → level → [R, layers, patterns] of :func:`patterns`, the same R replicates everywhere.
        density: level → share of weights left.
        value: of such an array, [R].

    Returns:
        kind → (density [L], [R, L]), NaN at a level for which there are no counts of the kind.
    """
    nothing = np.full(len(next(part for parts in counts.values() for part in parts.values())), np.nan)
    rows = {kind: [value(parts[n]) if n in parts else nothing for n in density] for kind, parts in counts.items()}
    return {kind: (np.array([*density.values()]), np.stack(row, axis=1)) for kind, row in rows.items()}


def top_patterns(
    counts: Mapping[int, np.ndarray], density: Mapping[int, float], layers: Sequence[str], most: int = 50
) -> pd.DataFrame:
    """The patterns that exceed each null the most, in all replicates together, as a tidy table.

    Args:
        counts, density: level → as of :func:`by_level`, of one kind.
        layers: their names.
        most: patterns of each level, layer and null.
    """
    columns, tops = ("pattern", "count", "expected", "z", "q"), {}
    for (level, part), (k, layer), null in itertools.product(counts.items(), enumerate(layers), kernels.NULLS[1:]):
        top = kernels.enrichment(part[:, k].sum(0), null).top(most)
        tops[density[level], level, layer, null] = frame(("rank",), {name: getattr(top, name) for name in columns})
    return stacked(tops, "weights_left", "level", "layer", "null")


def patterns(records: Sequence[Record], which: str = "end") -> np.ndarray:
    """[records, layers, patterns] counts of records of `lottery.kernels.Patterns`, by "end" or "start" signs."""
    return np.array([[one.arrays[f"{which}/{layer}"] for layer in one.values["layers"]] for one in records])


def comparisons(records: Sequence[Record], which: str = "pair") -> np.ndarray:
    """Arrays of records of `lottery.signs.Compared`, those of all pairs side by side.

    Args:
        records: one a pair.
        which: "pair", or "degrees" or "signs" for a null, whose draws follow each other.

    Returns:
        [comparisons, signed or not, matching, measure, layer].

    Raises:
        ChapterError: if there are none.
    """
    arrays = [record.arrays[which] for record in records if which in record.arrays]
    if not arrays:
        raise ChapterError(f"there are no comparisons of kind {which!r} in these {len(records)} records")
    return np.stack(arrays) if which == "pair" else np.concatenate(arrays)


def compared(
    records: Sequence[Record],
    measure: str,
    which: str = "pair",
    signed: bool = True,
    matching: str | None = "layers",
) -> np.ndarray:
    """One measure of these: [comparisons, layers]; arguments as `comparisons` and `signs.compare` have them."""
    place = signs.SIGNED.index(signed), signs.MATCHED.index(matching), signs.MEASURES.index(measure)
    return comparisons(records, which)[(slice(None), *place)]


def apart(records: Sequence[Record]) -> np.ndarray:
    """Matched distances of `lottery.signs.Compared`, means over layers: [pairs, with and without signs]."""
    return np.stack([compared(records, "distance", signed=signed).mean(axis=-1) for signed in signs.SIGNED], axis=1)


def surviving_weights(record: Record) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Surviving weights of each layer before and after training, from the histograms that a run's record keeps.

    Returns:
        Two dicts layer → [n]; each weight lies in its right bin of 81, spread evenly within it.
    """
    sides = ({}, {})
    for name, counts in record.arrays.items():
        if name.startswith("histogram/"):
            layer = name.removeprefix("histogram/").removesuffix(".weight")
            reach = record.arrays["reach/" + name.removeprefix("histogram/")].item()
            width = 2 * reach / counts.shape[1]
            for side, row in zip(sides, counts, strict=True):
                left = np.repeat(-reach + width * np.arange(len(row)), row)
                within = np.concatenate([(np.arange(n) + 0.5) / n for n in row if n])
                side[layer] = left + width * within
    return sides
