"""Masks and starts that pruning does not find: controls, losing tickets, masks at the start, learned masks.

Beside them, which inputs of a data set say nothing (`Unlit`): a mask can know them without knowing a class.

Each is a recipe like those of `lottery.recipes`: `Run(training, weights, mask)` trains it, `tickets.untrained` looks at
it before training.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, cast

import torch
from pydantic import Field, model_validator
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from . import LotteryError, masks, models, seeds, signs, tickets
from .models import State
from .recipes import (
    Altered,
    Constant,
    Counted,
    Initial,
    Mask,
    NotNegative,
    Positive,
    Pruned,
    Rates,
    Recipe,
    Result,
    Round,
    Run,
    Scope,
    Shuffled,
    Signed,
    Training,
    Weights,
    World,
    beside_padding,
    check_still,
    first,
    frozen,
    reached,
    rehearse,
)


class ControlError(LotteryError):
    """A control that cannot be made."""


@frozen
class Complement(Counted):
    """As many weights of each layer as a mask keeps, drawn from those that it cuts.

    An embedding's row for padding is as in the mask.

    Attributes:
        mask: the mask that is avoided.
        replicate, draw: the stream.
    """

    mask: Mask
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def tensors(self, world: World, training: Training) -> masks.Mask:
        mask = self.mask.tensors(world, training)
        return beside_padding(world.network(training), mask, lambda acting: self._outside(acting, training))

    def _outside(self, mask: masks.Mask, training: Training) -> masks.Mask:
        stream = seeds.generator(training.seed, seeds.CONTROL, 0, self.replicate, self.draw)
        result = {}
        for name, kept in mask.items():
            outside, count = (~kept).flatten().nonzero().flatten(), int(kept.sum())
            self.room(name, count, kept.numel())
            result[name] = torch.zeros_like(kept, memory_format=torch.contiguous_format)
            result[name].view(-1)[outside[torch.from_numpy(stream.permutation(len(outside))[:count])]] = True
        return result

    def room(self, layer: str, kept: int, whole: int) -> None:
        if 2 * kept > whole:
            raise ControlError(
                f"{layer} keeps {kept} of {whole} weights: its complement has only {whole - kept}, so take a level at "
                "which at most half of the layer is left"
            )


@frozen
class DegreePreserving(Counted):
    """A random mask in which each unit has as many incoming and outgoing connections as in another.

    See `lottery.signs.degree_preserving`. An embedding's row for padding trades none: it is as in the mask.

    Attributes:
        mask: the mask whose degrees are kept.
        replicate, draw: the stream.
    """

    mask: Mask
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, training)
        if training is not None:
            _ungrouped(world.network(training))

    def tensors(self, world: World, training: Training) -> masks.Mask:
        stream = seeds.generator(training.seed, seeds.CONTROL, 1, self.replicate, self.draw)
        mask = self.mask.tensors(world, training)
        module = world.network(training)
        _ungrouped(module)
        return beside_padding(module, mask, lambda acting: signs.degree_preserving(acting, stream))


@frozen
class LitPreserving(Counted):
    """A random mask with the same count in each layer as another, and in the first as many on inputs that are ever lit.

    Inputs that are zero in every training example are not lit (`Unlit`); their weights get no gradient. The first layer
    must be fully connected, with a weight for each unit and input.

    Attributes:
        mask: the mask whose counts are kept.
        replicate, draw: the stream.
    """

    mask: Mask
    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, training)
        if training is not None:
            module = world.network(training)
            name = next(iter(models.prunable(module)))
            layer = module.get_submodule(models.place(module, name)[0])
            if not isinstance(layer, torch.nn.Linear):
                raise ControlError(f"{name} is of {type(layer).__name__}: only a fully connected layer has lit inputs")
            if layer.in_features != (inputs := world.dataset(training).train[0][0].numel()):
                raise ControlError(f"{name} has {layer.in_features} inputs, an example {inputs}: it does not see them")
            examples, seen = world.dataset(training).train[0][:2], []
            layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
            with torch.no_grad(), seeds.apart():
                models.evaluating(module.to(examples.device))(examples.clone())
            if not any(given.flatten(1).equal(examples.flatten(1)) for given in seen):
                raise ControlError(f"{name} does not see the inputs, but what another layer makes of them")

    def tensors(self, world: World, training: Training) -> masks.Mask:
        stream = seeds.generator(training.seed, seeds.CONTROL, 3, self.replicate, self.draw)
        mask = self.mask.tensors(world, training)
        first, lit = next(iter(mask)), _lit(world, training).cpu() > 0
        result = masks.shuffle(mask, stream)
        for inside in (lit, ~lit):
            part = masks.shuffle({first: mask[first][:, inside]}, stream)
            result[first][:, inside] = part[first]
        return result


def _lit(world: World, training: Training) -> torch.Tensor:
    """[inputs] in which share of the training examples each is not zero."""
    inputs = world.dataset(training).train[0]
    return (inputs.reshape(len(inputs), -1) != 0).double().mean(0)


def _ungrouped(module: torch.nn.Module) -> None:
    for name in models.prunable(module):
        if getattr(module.get_submodule(models.place(module, name)[0]), "groups", 1) > 1:
            raise ControlError(
                f"{name} is of a grouped convolution, whose groups cannot trade connections: a mask that keeps the "
                "degrees is not made for such networks"
            )


@frozen
class Spliced(Mask):
    """Some layers of one mask and the rest of another.

    Attributes:
        mask: where the rest comes from.
        other: where the layers come from.
        layers: names of their weights, such as "fc1.weight".
    """

    mask: Mask
    other: Mask
    layers: tuple[str, ...]

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, training)
        if training is not None and (unknown := set(self.layers) - set(models.prunable(world.network(training)))):
            raise ControlError(f"no layers {', '.join(sorted(unknown))} in {training.model}")

    def tensors(self, world: World, training: Training) -> masks.Mask:
        mask, other = (part.tensors(world, training) for part in (self.mask, self.other))
        if unknown := set(self.layers) - set(mask):
            raise ControlError(f"no layers {', '.join(sorted(unknown))} in the mask; there are {', '.join(mask)}")
        masks.check_shapes(self.layers, mask, other)
        return {name: other[name] if name in self.layers else kept for name, kept in mask.items()}


@frozen
class Early(Round):
    """A run's mask after one round of magnitude pruning in the middle of its training: an early-bird ticket.

    You et al. (2020), "Drawing early-bird tickets": the mask hardly changes any more long before training ends.

    Attributes:
        run: the run.
        step: when its weights are looked at.
        fraction, scope: as of `lottery.recipes.Pruned`.
    """

    stored: ClassVar[bool] = True
    light: ClassVar[bool] = True

    run: Run
    step: Annotated[int, Field(ge=0)]
    fraction: Rates
    scope: Scope = "layer"

    @property
    def pruned_from(self) -> Mask:
        return self.run.mask

    def reads(self):
        return [(self.run, self.step), *self.run.mask.needed()]

    @model_validator(mode="after")
    def _inside(self):
        reached(self.run, self.step)
        return self

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, training)
        self.rates(world, self.run.training)

    def compute(self, world: World) -> Result:
        training = self.run.training
        state, mask = world.state(self.run, self.step), self.run.mask.tensors(world, training)
        scores = masks.magnitude_scores(state, mask)
        return masks.to_record(masks.prune(mask, scores, self.rates(world, training), self.scope))


@frozen
class AtStart(Mask):
    """A mask chosen before training, from the starting weights and at most some examples.

    Attributes:
        training: of which data, network and seed.
        weights: the starting weights.
        keep: share of the prunable weights that stay, over all layers.
        criterion: "snip" keeps the largest `|w ∂L/∂w|` on some training examples (Lee et al. 2019, Equation 6), the
            network in evaluation; "synflow" the largest w ∂R/∂w of the network with absolute weights on an input of
            ones, in rounds (Tanaka et al. 2020, Algorithm 1); "magnitude" the largest `|w|`.
        examples: training examples of "snip", the first ones; the data are in random order.
        rounds: of "synflow"; the density falls exponentially.
    """

    stored: ClassVar[bool] = True

    training: Training
    weights: Weights
    keep: Annotated[float, Field(gt=0, lt=1)]
    criterion: Literal["snip", "synflow", "magnitude"] = "snip"
    examples: Annotated[int, Field(ge=1)] = 1000
    rounds: Annotated[int, Field(ge=1)] = 100

    def check(self, world: World, training=None) -> None:
        super().check(world, self.training)
        if self.criterion == "synflow" and not world.dataset(self.training).dtype.is_floating_point:
            raise ControlError(
                f"SynFlow scores a network by its outputs for an input of ones, which says nothing where inputs are "
                f"integers, as token ids in {self.training.data} are: take criterion 'snip' or 'magnitude'"
            )

        def tried(module, state: State, examples) -> None:
            if self.criterion != "magnitude":
                check_still(module, state, examples)
            self._scores(module, state, models.prunable(module), examples)

        rehearse(self.criterion, world, self.training, tried)

    def compute(self, world: World) -> Result:
        module, dataset = world.network(self.training), world.dataset(self.training)
        names = models.prunable(module)
        state = self.weights.tensors(world, self.training)
        mask = masks.dense(state, names)
        total = left = sum(kept.numel() for kept in mask.values())
        if not round(total * self.keep):
            raise ControlError(f"a share of {self.keep:g} of {total} weights is none: keep more (`keep`)")
        rounds = self.rounds if self.criterion == "synflow" else 1
        for number in range(1, rounds + 1):
            goal = round(total * self.keep ** (number / rounds))
            scores = self._scores(module, masks.apply(state, mask), names, first(dataset.train, self.examples))
            if not any(score.any() for score in scores.values()):
                raise ControlError(
                    f"{self.criterion} scores every weight of {self.training.model} with 0, as where a layer starts at "
                    "zero: it cannot choose between them"
                )
            gone: float = (left - goal) / left
            mask = masks.prune(mask, scores, dict.fromkeys(mask, gone), "global")
            left = sum(masks.count(mask).values())
        return masks.to_record(mask)

    def _scores(self, module, state: State, names, examples) -> State:
        if self.criterion == "magnitude":
            return {name: state[name].abs() for name in names}
        if self.criterion == "synflow":
            # a mask of −inf among the buffers stays a mask
            state = {n: t.abs() if t.is_floating_point() and t.isfinite().all() else t for n, t in state.items()}
        weights = {name: state[name].double() for name in names}
        double = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
        module, (inputs, labels) = module.double(), (part.cpu() for part in examples)
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        if self.criterion == "snip":
            with models.Double():
                found = models.gradients(module, double, weights, inputs, labels)
            return {name: (weights[name] * gradient).abs() for name, gradient in found.items()}
        free = [weight.requires_grad_() for weight in weights.values()]
        ones = torch.ones_like(inputs[:1])
        with models.Double():
            _, found = models.slopes(models.still(module), double | weights, free, lambda of: of(ones).sum())
        return {name: (w * g).detach() for (name, w), g in zip(weights.items(), found, strict=True)}


def _largest(size: torch.Tensor, count: int, near: float) -> tuple[torch.Tensor, float]:
    """Where the largest of these are, as ones among zeros, and the smallest of them.

    From step to step it hardly moves, and sorting all scores would take most of the time of a step. So only those
    around where it was are sorted; all of them, if it is no longer there or others equal it.

    Args:
        size: not negative, of any shape.
        count: how many.
        near: the smallest of them, as far as one knows.
    """
    flat = size.flatten()
    left = count - int((flat > 1.01 * near).to(size.dtype).sum())  # in float: five times as fast as counting
    around = flat[(flat - near).abs() <= 0.01 * near]
    if 0 < left <= len(around):
        least = around.topk(left).values[-1]
        kept = (flat >= least).to(size.dtype)
        if int(kept.sum()) == count:
            return kept.view_as(size), float(least)
    found = flat.topk(count)
    return torch.zeros_like(flat).index_fill_(0, found.indices, 1).view_as(size), float(found.values[-1])


class Untrained(UserWarning):
    """A network whose accuracy before training is not that of what was learned of it."""


def _called(module, state: State, examples) -> torch.Tensor:
    """Outputs under the tensors of a state."""
    return functional_call(module, models.once(module, state), examples[0])


def _cast(training: Training, device: str | torch.device) -> tuple[torch.memory_format, torch.autocast]:
    """The layout of images and the precision of products that a training asks for."""
    layout = torch.channels_last if training.layout == "channels_last" else torch.contiguous_format
    kind, bf16 = torch.device(device).type, training.precision == "bf16"
    return layout, torch.autocast(kind, torch.bfloat16, enabled=bf16, cache_enabled=False)


@frozen
class EdgePopup(Mask):
    """A mask that is learned while the weights stay as they are (Ramanujan et al. 2020, Section 3).

    Each weight has a score. The forward pass uses the weights with the largest `|score|` of each layer; the gradient
    reaches the scores as if all were used. Scores start Kaiming uniform and are trained by SGD with momentum and a
    cosine schedule.

    Attributes:
        training: of which data, network, batch, seed, precision and layout; its own optimiser is not used.
        weights: the weights, fixed.
        keep: share of each layer's weights that the network uses.
        steps, lr, momentum, weight_decay: of the training of scores.
        replicate, draw: the stream of the first scores and of batches.
    """

    stored: ClassVar[bool] = True
    trains: ClassVar[bool] = True

    training: Training
    weights: Weights
    keep: Annotated[float, Field(gt=0, lt=1)]
    steps: Annotated[int, Field(ge=1)]
    lr: Positive = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 1e-4
    replicate: Annotated[int, Field(ge=0)] = 0
    draw: Annotated[int, Field(ge=0)] = 0

    def json(self) -> dict:
        """The first version learned in float32 and channels first, whatever its training said."""
        told = self.training.precision != "float32" or self.training.layout != "channels_first"
        return super().json() | ({"version": 2} if told else {})

    def check(self, world: World, training=None) -> None:
        super().check(world, self.training)
        layout, casts = _cast(self.training, "cpu")

        def called(module, state: State, examples) -> torch.Tensor:
            images = examples[0].ndim == 4
            with casts:
                return _called(module, state, [examples[0].contiguous(memory_format=layout) if images else examples[0]])

        rehearse("edge-popup", world, self.training, called, self.training.layout, self.training.precision)
        if any("running_" in name for name in models.normalisation(world.network(self.training))):
            warnings.warn(
                f"network {self.training.model!r} keeps running statistics, which a learned mask does not train: "
                "before training it is evaluated with those that layers are made with (mean 0, variance 1), not with "
                "those that its scores were learned under; take nn.GroupNorm, or read what it has after training",
                Untrained,
                stacklevel=2,
            )

    @property
    def products(self) -> str:
        return self.training.precision

    def compute(self, world: World) -> Result:
        device = torch.device(world.device)
        with seeds.apart(device):  # what a network draws in training is drawn from the recipe's stream
            seeds.seed(seeds.integer(self.training.seed, seeds.LEARNED, self.replicate, self.draw), device)
            return self._learned(world)

    def _learned(self, world: World) -> Result:
        training, device = self.training, world.device
        module, (inputs, labels) = world.network(training).to(device), world.dataset(training).train
        module.train()
        layout, casts = _cast(training, device)
        layout = layout if inputs.ndim == 4 else torch.contiguous_format
        names = models.prunable(module)
        state = {name: tensor.to(device) for name, tensor in self.weights.tensors(world, training).items()}
        stream = seeds.generator(training.seed, seeds.LEARNED, self.replicate, self.draw)
        scores, least = {}, dict.fromkeys(names, 0.0)
        for name in names:
            bound = 1 / math.sqrt(state[name][0].numel())  # Kaiming uniform as nn.Linear and nn.Conv2d draw it
            drawn = torch.from_numpy(stream.uniform(-bound, bound, tuple(state[name].shape)))
            scores[name] = drawn.to(device, state[name].dtype)
        counts = {name: max(1, round(self.keep * score.numel())) for name, score in scores.items()}
        optimiser = torch.optim.SGD(scores.values(), self.lr, self.momentum, weight_decay=self.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        per_epoch, order, loss = len(labels) // training.batch, torch.empty(0), torch.empty(0)

        def lost(of, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            with casts:
                logits = of(x)
            return cross_entropy(logits.float(), y)

        for step in range(self.steps):
            if step % per_epoch == 0:
                order = torch.from_numpy(stream.permutation(len(labels))).to(device)
            batch = order[step % per_epoch * training.batch :][: training.batch]
            used = {}
            for name, score in scores.items():
                mask, least[name] = _largest(score.abs(), counts[name], least[name])
                used[name] = mask.mul_(state[name]).requires_grad_()
            x, y = inputs[batch].contiguous(memory_format=layout), labels[batch]
            loss, _ = models.slopes(module, state | used, [*used.values()], lambda of, x=x, y=y: lost(of, x, y))
            optimiser.zero_grad()
            for name, weight in used.items():
                if weight.grad is not None:  # as if all were used
                    scores[name].grad = weight.grad * state[name] * scores[name].sgn()
            optimiser.step()
            schedule.step()
        for what, values in {"loss": loss, **{f"scores of {name}": score for name, score in scores.items()}}.items():
            if not torch.isfinite(values).all():
                raise ControlError(
                    f"the {what} of edge-popup {'is' if what == 'loss' else 'are'} not finite: lower its learning rate "
                    f"({self.lr})"
                )
        largest = {n: _largest(s.detach().abs(), counts[n], least[n])[0] for n, s in scores.items()}
        return masks.to_record({name: mask.bool().cpu() for name, mask in largest.items()})


@frozen
class Drawn(Weights):
    """A draw of scaled Kaiming weights, trainable biases zero, the rest as of the network (Ramanujan et al. 2020,
    Section 3).

    Attributes:
        replicate, draw: the stream.
        kind: "normal", or "constant": the standard deviation with a random sign.
        keep: the standard deviation is √(2 / (fan-in · keep)), so that a mask that keeps this share keeps the scale.
    """

    replicate: Annotated[int, Field(ge=0)]
    draw: Annotated[int, Field(ge=0)] = 0
    kind: Literal["normal", "constant"] = "normal"
    keep: Annotated[float, Field(gt=0, le=1)] = 1.0

    def check(self, world: World, training: Training | None = None) -> None:
        super().check(world, training)
        if training is not None:
            self._check_plain(world.network(training))

    def _check_plain(self, module: torch.nn.Module) -> None:
        if found := [name for name in models.prunable(module) if models.table(module)[name].parametrised]:
            raise ControlError(
                f"{found[0]} is not the weight itself, which is computed from it and from other tensors, so that no "
                "draw of it has the standard deviation asked for: leave the parametrisation out"
            )

    def tensors(self, world: World, training: Training) -> State:
        module = world.network(training)
        self._check_plain(module)
        names, stream = (
            models.prunable(module),
            seeds.generator(training.seed, seeds.CONTROL, 2, self.replicate, self.draw),
        )
        state = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        entries, first_names, padding = models.table(module), models.first_names(module), models.padding(module)
        for name in state:
            if name in names:
                deviation = math.sqrt(2 / (state[name][0].numel() * self.keep))
                drawn = torch.from_numpy(stream.standard_normal(tuple(state[name].shape)))
                drawn = drawn.sign() if self.kind == "constant" else drawn
                if name in padding:
                    drawn[padding[name]] = 0
                state[name] = (deviation * drawn).to(state[name].dtype)
            elif "bias" in name.rpartition(".")[2] and entries[first_names[name]].trainable:
                state[name].zero_()
        return state


@frozen
class Rescaled(Altered):
    """Weights whose survivors have, in each layer, the Euclidean norm that another network's survivors have.

    Attributes:
        weights, mask: what is rescaled; biases and the rest stay.
        like, like_mask: whose norms.
    """

    weights: Weights
    mask: Mask
    like: Weights
    like_mask: Mask

    def fitting(self) -> list[tuple[Weights | Mask, bool]]:
        return [(self.weights, True), (self.mask, True), (self.like, False), (self.like_mask, True)]

    def tensors(self, world: World, training: Training) -> State:
        state, like = (part.tensors(world, training) for part in (self.weights, self.like))
        mask, like_mask = (part.tensors(world, training) for part in (self.mask, self.like_mask))
        masks.check_shapes(mask, mask, like_mask, state, like)
        result = dict(state)
        for name, kept in mask.items():
            norm, wanted = (state[name] * kept).double().norm(), (like[name] * like_mask[name]).double().norm()
            if not norm > 0 and wanted > 0:
                raise ControlError(f"the survivors of {name} are all zero: they cannot be rescaled")
            result[name] = state[name] * float(wanted / norm) if norm > 0 else state[name]
        return result


@frozen
class Unlit(Recipe):
    """Which inputs are zero in every training example, such as the corners of MNIST's images.

    The weights from such an input get no gradient. The record's values: the numbers of "inputs", of those that are
    "unlit", and of "examples"; its array "unlit": [inputs] of bytes, 1 where an input is.

    Attributes:
        training: whose examples, without those for validation, and as it scales them.
        seldom: inputs count, too, that are not zero in less than this share of the examples.
    """

    stored: ClassVar[bool] = True

    training: Training
    seldom: Annotated[float, Field(ge=0, lt=1)] = 0.0

    def compute(self, world: World) -> Result:
        lit, examples = _lit(world, self.training), len(world.dataset(self.training).train[0])
        unlit = ((lit == 0) | (lit < self.seldom)).to(torch.uint8).cpu().numpy()
        return {"inputs": len(unlit), "unlit": int(unlit.sum()), "examples": examples}, {"unlit": unlit}


def transferred(source: Run, training: Training) -> Run:
    """A ticket found on one data set, or with one optimiser, trained on another (Morcos et al. 2019).

    Recipes of mask and start, and the order's index, are the source's. What they read from its runs are its weights and
    masks; what they draw (`Initial`, `Shuffled`) is drawn for the target: the same only where seed and network are, so
    the start of a dense run, or of a reinitialised one, is another under another seed.
    """
    return replace(source, training=training)


def random_lit(run: Run, replicate: int) -> Run:
    """`tickets.random_sparse`, from the same start, under a mask that also keeps the ticket's count on lit inputs."""
    return Run(run.training, Initial(replicate, 1), LitPreserving(run.mask, replicate, 1), run.order)


def transfers(
    source: Training,
    target: Training,
    replicate: int,
    levels: Sequence[int],
    fraction: masks.Fraction,
    *,
    first: str = "fc1.weight",
    fresh_order: bool = False,
) -> list[dict[str, Run]]:
    """Tickets that were moved, and what tells how they can be any good, all trained on the target.

    Args:
        source, target: where tickets are found, where they are trained.
        replicate, fraction, fresh_order: as of `tickets.imp`.
        levels: whose tickets are moved.
        first: name of the first layer's weights.

    Returns:
        For each level, by name: "native", a ticket found on the target, and "moved", one found on the source; "random",
        a random mask on the native start; "mask alone", the moved mask on a new start, and "random, fresh", a random
        mask on that; "degrees", a mask in which each unit has as many connections as in the moved one; "first layer",
        the moved mask there under native upper layers; "upper layers", the reverse.
    """
    there, here = (
        tickets.imp(training, replicate, max(levels), fraction, fresh_order=fresh_order)
        for training in (source, target)
    )
    found = []
    for native, moved in ((here[level], transferred(there[level], target)) for level in levels):
        run = {"native": native, "moved": moved}
        run["degrees"] = replace(moved, mask=DegreePreserving(moved.mask, replicate))
        run["upper layers"] = replace(native, mask=Spliced(moved.mask, native.mask, (first,)))
        run["first layer"] = replace(native, mask=Spliced(native.mask, moved.mask, (first,)))
        run["random"] = tickets.shuffled(native, replicate)
        run["mask alone"] = tickets.reinitialised(moved, replicate)
        run["random, fresh"] = tickets.random_sparse(native, replicate)
        found.append(run)
    return found


def losing(
    training: Training, replicate: int, levels: int, fraction: masks.Fraction, *, fresh_order: bool = False
) -> dict[str, Run]:
    """A ticket and sub-networks of its size that may be worse than random ones.

    Args:
        training, replicate, levels, fraction, fresh_order: as of `tickets.imp`; the last level is compared.

    Returns:
        By name: "dense", "ticket", "one-shot", "reinitialised"; "random" and "another random" masks on the ticket's
        start; "complement"; "small at the end" and "small at the start", the weights that are smallest there, and
        "small at the end, rescaled" and "small at the start, rescaled", these with the ticket's norm in each layer.
    """
    chain = tickets.imp(training, replicate, levels, fraction, fresh_order=fresh_order)
    ticket = chain[-1]
    others = losing_without_ticket(training, replicate, levels, fraction, fresh_order=fresh_order)

    return {
        "dense": chain[0],
        "ticket": ticket,
        "one-shot": tickets.one_shot(training, replicate, levels, fraction, fresh_order=fresh_order),
        "reinitialised": tickets.reinitialised(ticket, replicate),
        "random": tickets.shuffled(ticket, replicate),
        "another random": others["another random"],
        "complement": replace(ticket, mask=Complement(ticket.mask, replicate)),
        **others,
        **{f"{name}, rescaled": _rescaled(others[name], ticket) for name in ("small at the end", "small at the start")},
    }


def losing_without_ticket(
    training: Training, replicate: int, levels: int, fraction: masks.Fraction, *, fresh_order: bool = False
) -> dict[str, Run]:
    """Sub-networks that may be worse than random ones, for networks of which no ticket is to be trained.

    Args:
        training, replicate, levels, fraction, fresh_order: as of `losing`.

    Returns:
        By name, as of `losing`: "small at the end", "small at the start", "another random"; and the first two
        "rescaled", here with the norm of "another random" in each layer.
    """
    small = {
        f"small at the {when}": tickets.one_shot(
            training, replicate, levels, fraction, fresh_order=fresh_order, criterion=kind
        )
        for when, kind in (("end", "small_final"), ("start", "small_init"))
    }
    end = small["small at the end"]
    random = replace(end, mask=Shuffled(end.mask, replicate))
    return {
        **small,
        **{f"{name}, rescaled": _rescaled(run, random) for name, run in small.items()},
        "another random": random,
    }


def _rescaled(run: Run, like: Run) -> Run:
    """A run whose survivors start with the norm that another's have in each layer."""
    return replace(run, weights=Rescaled(like.weights, run.mask, like.weights, like.mask))


def beside(
    training: Training, replicate: int, levels: int, fraction: masks.Fraction, *, fresh_order: bool = False
) -> dict[str, Run]:
    """A ticket and networks of its size that differ from it in one thing each.

    Args:
        training, replicate, levels, fraction, fresh_order: as of `losing`.

    Returns:
        By name, as of `losing`: "ticket", "one-shot", "reinitialised", "random", "complement", "small at the end"; and
        "degrees", the ticket's start under a random mask with as many connections a unit.
    """
    found = losing(training, replicate, levels, fraction, fresh_order=fresh_order)
    wanted = ("ticket", "one-shot", "reinitialised", "random", "complement", "small at the end")
    ticket, others = found["ticket"], {name: found[name] for name in wanted}
    return others | {"degrees": replace(ticket, mask=DegreePreserving(ticket.mask, replicate))}


def turned(
    ticket: Run, replicate: int, shares: Sequence[float] = (0.1, 0.25, 0.5, 1.0)
) -> dict[float | Literal["opposed"], Run]:
    """A ticket on starts whose signs are turned against it, magnitudes as they were.

    Args:
        ticket: trained from its own start.
        replicate: the stream of which signs are flipped.
        shares: of each layer's survivors.

    Returns:
        Share → run with as many signs flipped, more with less among them; "opposed": run from the signs opposite to
        those that the ticket ended with.
    """
    found: dict[float | Literal["opposed"], Run] = {
        share: replace(ticket, weights=signs.FlippedSigns(ticket.weights, ticket.mask, share, replicate))
        for share in shares
    }
    opposite = signs.FlippedSigns(ticket.end, ticket.mask, 1.0, replicate)
    found["opposed"] = replace(ticket, weights=Signed(ticket.weights, opposite))
    return found


def cheaper(
    training: Training,
    replicate: int,
    levels: int,
    fraction: masks.Fraction,
    keep: float,
    *,
    early: float = 0.1,
    fresh_order: bool = False,
) -> dict[str, Run]:
    """A ticket and masks of its size that cost less to find, all trained from its start.

    Args:
        training, replicate, levels, fraction, fresh_order: as of `tickets.imp`; the last level is compared.
        keep: share of the weights that masks at the start keep.
        early: share of dense training after which the early mask is taken; 0 leaves out masks that are read from dense
            weights in training, one-shot pruning's and the early one.

    Returns:
        By name: "ticket", "one-shot", "early", "SNIP", "SynFlow", "random".
    """
    chain = tickets.imp(training, replicate, levels, fraction, fresh_order=fresh_order)
    once = tickets.one_shot(training, replicate, levels, fraction, fresh_order=fresh_order)
    ticket, start = chain[-1], chain[0].weights
    drawn = Early(chain[0], round(early * training.steps), cast(Pruned, once.mask).fraction)
    return {
        "ticket": ticket,
        **({"one-shot": once, "early": replace(ticket, mask=drawn)} if early else {}),
        "SNIP": replace(ticket, mask=AtStart(training, start, keep, "snip")),
        "SynFlow": replace(ticket, mask=AtStart(training, start, keep, "synflow")),
        "random": tickets.shuffled(ticket, replicate),
    }


def drawn(masks: Mapping[str, Run], steps: Sequence[int]) -> list[Mask]:
    """The early mask as it would be at each of these steps, then the masks of one-shot pruning and of the ticket.

    Args:
        masks: of `cheaper`.
        steps: of dense training.
    """
    early = cast(Early, masks["early"].mask)
    return [*(replace(early, step=step) for step in steps), masks["one-shot"].mask, masks["ticket"].mask]


def chosen(training: Training, replicate: int, keep: float, steps: int, lr: float = 0.1) -> dict[str, Run]:
    """Networks that are not trained, under masks that keep one share of each layer: what choosing alone can do.

    Args:
        training: of which network and data; masks by criterion look at its dense run.
        replicate: of all draws.
        keep: share of each layer's weights that masks keep.
        steps, lr: of the training of scores; see `EdgePopup`.

    Returns:
        By name, before training: "constants" and "normal", masks learned for signed constants and for normal weights;
        "same sign", constants with the dense network's starting signs under the mask of the weights that end largest
        with the sign they start with (Zhou et al. 2019, Section 5); "largest", the start under the mask of the weights
        that end largest; "random", the learned mask of constants shuffled in each layer.
    """
    dense, rates = tickets.dense(training, replicate), 1 - keep
    drawn = {kind: Drawn(replicate, 0, kind, keep) for kind in ("constant", "normal")}
    learned = {
        kind: EdgePopup(training, weights, keep, steps, lr, replicate=replicate) for kind, weights in drawn.items()
    }
    pairs = {
        "constants": (drawn["constant"], learned["constant"]),
        "normal": (drawn["normal"], learned["normal"]),
        "same sign": (Constant(dense.weights), Pruned(dense, rates, "layer", "large_final_same_sign")),
        "largest": (dense.weights, Pruned(dense, rates)),
        "random": (drawn["constant"], Shuffled(learned["constant"], replicate)),
    }
    return {name: tickets.untrained(replace(dense, weights=w, mask=mask)) for name, (w, mask) in pairs.items()}
