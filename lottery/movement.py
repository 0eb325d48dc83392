"""What training does to the magnitudes of weights: how far they move, and whether new small ones come about.

Frankle & Carbin (2019), Appendix F; Paul et al. (2023), Section 3.3.
"""

from typing import Annotated, ClassVar, cast

import numpy as np
import torch
from pydantic import Field, model_validator

from . import LotteryError, masks, seeds
from .models import State
from .recipes import Mask, Pruned, Recipe, Result, Run, Training, Weights, World, frozen, trained

MOVERS = ("ticket alone", "ticket", "rest")  # the ticket's weights in its own training and in the dense one, the others
STARTS = ("positive", "dip")
MOVES = ("distance", "grown", *STARTS)
START_EDGES = np.linspace(-4, 4, 65)
MOVE_EDGES = np.geomspace(0.01, 100, 65)
GROWTH_EDGES = np.linspace(-4, 20, 97)


def moves(start: torch.Tensor, end: torch.Tensor) -> list[float]:
    """What weights that start and end here (in standard deviations of the start) have of each of `MOVES`.

    The mean distance, the share that ends larger in magnitude than it started, and `starts`; NaN for no weights.
    """
    distance, grown = (end - start).abs().double().mean(), (end.abs() > start.abs()).double().mean()
    return [float(distance), float(grown), *starts(start)]


def starts(start: torch.Tensor) -> list[float]:
    """What weights that start here (in standard deviations of the layer's starts) have of each of `STARTS`.

    The share that starts positive, and the density of starts within 1/2 of zero over that between 1/2 and 3/2; NaN for
    no weights.
    """
    size = start.abs()
    near, around, positive = (g.double().mean() for g in (size < 0.5, (size >= 0.5) & (size < 1.5), start > 0))
    return [float(positive), float(2 * near / around)]


@frozen
class Survivors(Recipe):
    """What retraining did to the magnitudes of a run's surviving weights: are there small ones to prune again?

    Attributes:
        run: a run whose mask was cut from another run's final weights (`Pruned`).
        bins: of the histograms of magnitudes.
    """

    stored: ClassVar[bool] = True

    run: Run
    bins: Annotated[int, Field(ge=2)] = 80

    @property
    def _cut(self) -> Pruned:
        return cast(Pruned, self.run.mask)  # `_pruned` has made sure

    def reads(self):
        before = self._cut.run
        return [*self.run.end.reads(), *before.end.reads(), *self.run.mask.needed(), *before.mask.needed()]

    @model_validator(mode="after")
    def _pruned(self):
        if not isinstance(self.run.mask, Pruned) or self.run.mask.criterion != "magnitude":
            raise ValueError("the run's mask must be cut by magnitude from another run")
        return self

    def compute(self, world: World) -> Result:
        before = self._cut.run
        old, wider = trained(world, before)
        new, mask = trained(world, self.run)
        rates = self._cut.rates(world, self.run.training)
        ranked = [name for name in mask if rates[name] > 0]
        groups = [ranked] if self._cut.scope == "global" else [[name] for name in ranked]
        below, thresholds = 0, dict.fromkeys(mask, 0.0)
        for names in groups:  # the threshold is the largest magnitude that was cut, of all layers or of each
            gone = torch.cat([old[name][wider[name] & ~mask[name]].abs() for name in names])
            threshold = float(gone.max()) if len(gone) else 0.0
            thresholds |= dict.fromkeys(names, threshold)
            below += sum(int((new[name][mask[name]].abs() <= threshold).sum()) for name in names)
        left, after = (torch.cat([state[n][kept].abs() for n, kept in mask.items()]).numpy() for state in (old, new))
        edges = np.linspace(0, max(left.max(), after.max()), self.bins + 1, dtype=np.float64)
        values = {"below": below / len(after), "threshold": thresholds, "weights_left": len(after)}
        counts = {"pruned": np.histogram(left, edges)[0], "retrained": np.histogram(after, edges)[0]}
        return values, {"edges": edges} | {f"histogram/{name}": c.astype(np.int32) for name, c in counts.items()}


def _units(start: State, mask: masks.Mask) -> dict[str, torch.Tensor]:
    """The standard deviations of the starting weights of the layers that have one.

    Raises:
        LotteryError: if no layer has.
    """
    units = {name: start[name].std() for name in mask if start[name].amin() < start[name].amax()}  # not by rounding
    if found := {name: unit for name, unit in units.items() if unit > 0}:
        return found
    raise LotteryError("the weights of each layer start equal, and have no standard deviation to measure lengths in")


@frozen
class Moved(Recipe):
    """How far the weights of a ticket move in training, beside those that it leaves out.

    Frankle & Carbin (2019), Appendix F. Lengths are in standard deviations of the starting weights of the whole layer;
    layers whose weights start equal, such as at zero, have none and are left out of the record and its "layers".
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

    @property
    def own_training(self) -> Training:
        return self.dense.training

    def fitting(self) -> list[tuple[Weights | Mask, bool]]:
        return [(self.ticket.end, False)]

    def reads(self):
        runs = (self.ticket, self.dense)
        return [read for run in runs for read in (*run.end.reads(), *run.weights.needed(), *run.mask.needed())]

    def compute(self, world: World) -> Result:
        training = self.dense.training
        (alone, mask), (end, whole) = (trained(world, run) for run in (self.ticket, self.dense))
        begun, start = (run.weights.tensors(world, run.training) for run in (self.ticket, self.dense))
        stream = seeds.generator(training.seed, seeds.NULL, int(self.key[:12], 16))
        summary, chance, arrays = [], [], {}
        units = _units(start, mask)
        for name, unit in units.items():
            kept, rest = mask[name], whole[name] & ~mask[name]
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
        values = {"layers": list(units), "density": masks.density(mask), "weights_left": masks.count(mask)}
        return values, {"summary": np.array(summary), "chance": np.array(chance)} | arrays


@frozen
class Started(Recipe):
    """Where the survivors of a ticket started, which needs its mask and no trained weights of it.

    Lengths and layers are as in `Moved`. The record's array "summary" has the axes layer, measure (`STARTS`).

    Attributes:
        run: the ticket: its mask and starting weights; it need not have been trained.
    """

    stored: ClassVar[bool] = True

    run: Run

    def reads(self):
        return [*self.run.weights.needed(), *self.run.mask.needed()]

    def compute(self, world: World) -> Result:
        start, mask = (part.tensors(world, self.run.training) for part in (self.run.weights, self.run.mask))
        units = _units(start, mask)
        summary = [starts(start[name][mask[name]] / unit) for name, unit in units.items()]
        return {"layers": list(units), "density": masks.density(mask)}, {"summary": np.array(summary)}
