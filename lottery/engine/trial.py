"""A trial before the work: what would fail after hours fails here, and says which network, which layer and what to do.

On a few examples a network is built twice, copied, evaluated, differentiated, pruned, trained for two steps, saved,
restored and read back.
"""

import contextlib
import copy
import functools
import math
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import CellType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import LotteryError, masks, models, seeds
from ..data import Dataset
from ..models import State
from ..recipes import Training
from . import products, sources
from .errors import TrainingError, in_a_line
from .network import Start, draws, sample, seed
from .train import Course

SEEDS = 3  # of initial weights that are tried; one that gives finite outputs is enough
PASSES = 20  # in which a network that draws uses every layer, and what one changes shows in what it computes


class NotPruned(UserWarning):
    """Weights of a network that no mask covers; density counts the others."""


class Doubtful(UserWarning):
    """A network that trains, though hardly as it was meant."""


def trial(training: Training, dataset: Dataset) -> None:
    """Does once, on a few examples, all that a study does with a network.

    Args:
        training: whose network is tried.
        dataset: where the examples are from; on the device where training is to happen.

    Raises:
        TrainingError: if something fails; the message names the network, the layer where that is known, and a remedy.
        ModelError: if the network cannot be built, or not in the same way twice.
    """
    small = replace(dataset, **{part: _few(*getattr(dataset, part)) for part in ("train", "validation", "test")})
    device = dataset.train[0].device
    with seeds.apart(device):
        seed(0, device)
        if training.model in models.registered():
            _alone(training.model, small)
        state, module = _built(training, small)
        overlapping = models.overlapping(module)  # a copy on a GPU has none
        module = module.to(device)
        if not models.ours(module):
            _evaluates(training.model, small, module)
            _held(training.model, small, state, module)
            _differentiates(training.model, small, module)
            _says_what_is_not_pruned(training, module)
            _parametrised(training, module)
            _multiplies(training, small, module)
            _reads(training, small, module)
        _trains(training, small, state, models.prunable(module))
        if not models.ours(module):
            _repeats(training.model, copy.deepcopy(module), *small.train, overlapping)
    dataset.intact(training.model)


def _few(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    index = sample(x)
    return x[index], y[index]


def _built(training: Training, dataset: Dataset) -> tuple[models.State, nn.Module]:
    """Initial weights with finite outputs, and the network with them."""
    name, (x, _) = training.model, dataset.train
    for number in range(SEEDS):
        with _named(name, "while it is built"):
            module = models.build(name, dataset.shape, dataset.classes, number)
        state = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
        if number == 0 and not models.ours(module):
            _same(name, state, models.initial_weights(name, dataset.shape, dataset.classes, number))
            if models.same_object(name, dataset.shape, dataset.classes):
                raise models.ModelError(
                    f"network {name!r}: its factory returns the same module each time, so all replicates would start "
                    f"from the same weights: build a new one in it"
                )
        if not models.prunable(module):
            raise TrainingError(
                f"network {name!r} has no trainable weights to prune: only biases, scales or frozen ones"
            )
        with _named(
            name,
            "when it is copied (the old weight_norm and prune of torch.nn.utils keep it from that)",
        ):
            tried = models.evaluating(copy.deepcopy(module).to(x.device))
        with _named(name, f"when it evaluates inputs of shape {list(x.shape)} ({x.dtype})"), torch.no_grad():
            outputs = tried(x)
        _logits(name, outputs, dataset, len(x))
        if torch.isfinite(outputs).all():
            return state, module
    raise TrainingError(f"network {name!r} gives outputs that are not finite at its initial weights, on {dataset.name}")


def _same(name: str, state: models.State, again: models.State) -> None:
    odd = [key for key in state if key not in again or not _equal(state[key], again[key])]
    if odd or len(state) != len(again):
        raise models.ModelError(
            f"network {name!r}: its factory, called twice under one seed, gave other weights ({', '.join(odd[:3])}): "
            f"let it draw them with torch's default generator alone, not with NumPy's, Python's or one of its own"
        )


def _held(name: str, dataset: Dataset, state: models.State, module: nn.Module) -> None:
    """Under another seed, too, a network with the same state computes the same: nothing that it drew is left out."""
    x, _ = dataset.train
    other = models.build(name, dataset.shape, dataset.classes, SEEDS).to(x.device)
    drawn = other.state_dict()
    if all(_equal(state[key], drawn[key]) for key in models.prunable(module)):
        _doubt(
            f"the factory of network {name!r} gives the same weights under every seed: all replicates, and all random "
            f"reinitialisations, start from these; draw them with torch's default generator, and do not seed it there"
        )
    models.load(other, state)
    with _named(name, "when it is built under another seed"), torch.no_grad():
        here, there = (models.evaluating(tried)(x) for tried in (copy.deepcopy(module), other))
    if here.shape != there.shape or not torch.allclose(here, there, 1e-3, 1e-5, equal_nan=True):
        raise TrainingError(
            f"network {name!r} draws something that its state dict does not hold, which would not be trained, pruned "
            f"or saved: register layers as attributes or in an nn.ModuleList, tensors with register_buffer; keep no "
            f"function that holds the network itself (a lambda or a hook with self in it), for copies share it"
        )


def _alone(name: str, dataset: Dataset) -> None:
    """A copy computes with its own tensors: no function that it holds reads those of what it was copied from."""
    x = dataset.train[0].cpu()
    torch.manual_seed(0)
    with torch.no_grad():
        try:
            original = models.registered()[name](dataset.shape, dataset.classes)
            copied = models.evaluating(copy.deepcopy(original))
            models.evaluating(original)(x.clone())
        except Exception:  # is said better where it is looked for
            return
        tensors = [*original.parameters(), *original.buffers()]
        tensors = [tensor for tensor in tensors if tensor.is_floating_point() and tensor.layout == torch.strided]
        kept, outputs = [tensor.data for tensor in tensors], []
        try:
            outputs += [copied(x.clone()) for _ in range(2)]
            for tensor in tensors:
                tensor.data = tensor.data + 1
            outputs.append(copied(x.clone()))
        except Exception:  # as what a hook has put into a dict of the original is not in that of the copy
            outputs = []
        for tensor, data in zip(tensors, kept, strict=True):
            tensor.data = data
    if not all(isinstance(output, torch.Tensor) for output in outputs):
        return
    if not outputs or (_equal(*outputs[:2]) and not _equal(*outputs[1:])):
        raise TrainingError(
            f"network {name!r}: keep no function that holds the network itself (a lambda or a hook with self in it), "
            f"for copies share it, and would compute with tensors that are never trained: write a method, or hand the "
            f"function what it reads"
        )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _logits(name: str, outputs, dataset: Dataset, count: int) -> None:
    if not isinstance(outputs, torch.Tensor):
        raise TrainingError(f"network {name!r} returns {type(outputs).__name__}: it must return logits, one tensor")
    if outputs.shape != (count, dataset.classes):
        raise TrainingError(
            f"network {name!r} gives outputs of shape {list(outputs.shape)} for a batch of {count}: {dataset.name} has "
            f"{dataset.classes} classes, a number that the factory is given, and logits are [N, {dataset.classes}]"
        )


def _evaluates(name: str, dataset: Dataset, module: nn.Module) -> None:
    """In evaluation an example's logits depend on itself alone: not on chance, on what came before, or on its batch."""
    x, _ = dataset.train
    tried = copy.deepcopy(module)
    with _named(name, "in evaluation"):
        before = {key: tensor.detach().clone() for key, tensor in models.tensors(tried).items()}
        drew = draws(tried, x, training=False)
        after = models.tensors(tried)
        if odd := [key for key in after if key not in before]:
            raise TrainingError(f"network {name!r} makes {', '.join(odd[:3])} in forward: make all tensors in __init__")
        if odd := [key for key, tensor in after.items() if not _equal(before[key], tensor.detach())]:
            raise TrainingError(
                f"network {name!r} changes {', '.join(odd[:3])} when it is evaluated, so test examples would have a "
                f"part in what it learns: change it only where self.training is true (of an nn.Embedding, leave out "
                f"max_norm)"
            )
        if drew:
            raise TrainingError(
                f"network {name!r} draws random numbers in evaluation too, so its losses would depend on chance: pass "
                f"training=self.training to torch.nn.functional.dropout, or draw only where self.training is true"
            )
        with torch.no_grad():
            whole = tried(x)
            halves = [tried(part) for part in x.split(-(-len(x) // 2))]
    for part, half in zip(x.split(len(halves[0])), halves, strict=True):
        _logits(name, half, dataset, len(part))
    if not torch.allclose(whole, torch.cat(halves), 1e-3, 1e-3 * whole.nan_to_num().abs().max().item(), equal_nan=True):
        raise TrainingError(
            f"network {name!r} evaluates an example otherwise in another batch, so its losses would depend on how the "
            f"data are cut into batches: let normalisation keep its running statistics (track_running_stats=True), or "
            f"use one within examples (nn.GroupNorm, nn.LayerNorm)"
        )
    with _named(name, "when it evaluates a single example"), torch.no_grad():
        _logits(name, tried(x[:1]), dataset, 1)
    if whole.min() >= 0 and torch.allclose(whole.sum(1), torch.ones(len(x), device=x.device, dtype=whole.dtype), 1e-4):
        _doubt(
            f"network {name!r} ends in a softmax, and cross-entropy takes the softmax of its outputs once more: losses "
            f"stay far from 0, and gradients are small; let it return logits, without a softmax"
        )


def _differentiates(name: str, dataset: Dataset, module: nn.Module) -> None:
    """It has gradients that an optimiser can take; weights that have none are named."""
    x, y = dataset.train
    kinds, order, called, unused = models.prunable(module), [], [], []
    known = {key: entry.kind for key, entry in models.table(module).items() if entry.kind} | kinds  # frozen ones, too
    tried = copy.deepcopy(module)
    with _named(name, "in training"):
        drew = [draws(tried, x) for _ in range(SEEDS)]
        for one, key in models.first_names(tried).items():  # layers that share weights each call them
            if key in known:
                owner, *_ = models.place(tried, one)
                tried.get_submodule(owner).register_forward_hook(lambda *_, key=key: order.append(key))
        for _ in range(PASSES if any(drew) else 1):
            loss = cross_entropy(tried(x).float(), y)
            called = list(order)  # what is computed again in the backward pass comes after
            if loss.requires_grad:
                loss.backward()
            unused = [key for key in kinds if tried.get_parameter(key).grad is None]
            if not unused:
                break
    gradients = {key: parameter.grad for key, parameter in tried.named_parameters() if parameter.grad is not None}
    if odd := [key for key, gradient in gradients.items() if gradient.is_sparse]:
        raise TrainingError(
            f"network {name!r}: {', '.join(odd)} has sparse gradients, which cannot be masked: sparse=False"
        )
    if len(unused) == len(kinds):
        raise TrainingError(f"network {name!r}: its outputs depend on none of the weights that could be pruned")
    if unused:
        sizes = {key: tried.get_parameter(key).numel() for key in kinds}
        _doubt(
            f"{sum(sizes[key] for key in unused) / sum(sizes.values()):.1%} of the weights of {name!r} have no part in "
            f"its outputs, and are counted and pruned with the others: {_some(unused)}; leave these layers out"
        )
    _output(name, kinds, known, [key for key in called if key not in unused], unused)


def _repeats(name: str, module: nn.Module, x: torch.Tensor, y: torch.Tensor, pairs: Sequence[tuple[str, str]]) -> None:
    """Passes under one seed and with tensors as they were give the same: no state is elsewhere that a pass reads."""
    before: State = {}
    changed: set[str] = set()  # tensors, in training
    stay: list[str] = []  # of these, what is left as it is after a pass

    def evaluated() -> State:
        seed(0, x.device)
        with _named(name, "in evaluation"), torch.no_grad():
            return {"": models.evaluating(module)(x.clone())}

    def trained() -> State:
        seed(0, x.device)
        with _named(name, "in training"):
            logits = module(x.clone())
            loss = cross_entropy(logits.float(), y)
            module.zero_grad(set_to_none=True)
            if loss.requires_grad:
                loss.backward()
        found = {"": logits.detach()}
        found |= {key: p.grad.clone() for key, p in module.named_parameters() if p.grad is not None}
        known = {key: tensor for key, tensor in models.tensors(module).items() if key in before}
        changed.update(key for key, tensor in known.items() if not _equal(before[key], tensor))
        with torch.no_grad():
            for key in known.keys() - set(stay):
                known[key].copy_(before[key])
        if odd := next((pair for pair in pairs if changed & {*pair}), None):
            raise TrainingError(
                f"network {name!r}: the buffers {odd[0]} and {odd[1]} are in the same memory and change in training, "
                f"which copies on a GPU or in a stack do apart: register one and read it in forward, or clone it"
            )
        return found

    judged, _ = _twice(name, "evaluated", module, evaluated)
    module.train()  # once, for it may put weights back that evaluation has merged
    before |= {key: tensor.detach().clone() for key, tensor in models.tensors(module).items()}
    usual, again = _twice(name, "trained", module, trained)
    if not _as_before(usual, again):
        raise TrainingError(
            f"network {name!r} computes otherwise when it is asked again in training: it keeps something between "
            f"steps that is no parameter or buffer, or draws from a generator of its own, and a training that is "
            f"broken off would go on with another network. Keep it as a buffer, and draw with torch's own generator"
        )
    entries = models.table(module)
    if stay := [key for key in changed if not entries[key].persistent]:
        with torch.no_grad():
            for key in stay:
                known = models.tensors(module)[key]
                known.copy_(_another(known))
        if not (_as_before(usual, trained()) and _as_before(judged, evaluated())):
            raise TrainingError(
                f"network {name!r} changes {_some(sorted(stay))} in training and computes with it, and its state dict "
                f"does not hold it, so what starts from trained weights would begin with another value: register it "
                f"persistent (leave out persistent=False)"
            )


def _twice(name: str, when: str, module: nn.Module, passed: Callable[[], State]) -> tuple[State, State]:
    """What two passes give, between which nothing changes that a pass reads and is no tensor of the network's."""
    first, one = passed(), _kept(module)
    second, other = passed(), _kept(module)
    changed = [key for key, (_, _, value) in other.items() if key not in one or not _alike(one[key][2], value)]
    if odd := [key for key in changed if _read(*other[key], passed, second)]:
        raise TrainingError(
            f"network {name!r} changes {_some(odd)} each time it is {when}, computes with it, and it is no "
            f"parameter or buffer: it would not be saved, so a training that is broken off, and all that is "
            f"measured of trained weights, would compute with another value. Keep it as a buffer "
            f"(self.register_buffer('count', torch.zeros(())))"
        )
    return first, second


def _as_before(one: State, other: State) -> bool:
    """Whether outputs and gradients are the same but for a thousandth."""
    return one.keys() == other.keys() and all(_nearly(tensor, other[key], 1e-3) for key, tensor in one.items())


def _nearly(one: torch.Tensor, other: torch.Tensor, rtol: float) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    one, other = (tensor.to(torch.complex128 if tensor.is_complex() else torch.float64) for tensor in (one, other))
    most = float(one.nan_to_num(0, 0, 0).abs().max()) if one.numel() else 0.0
    return torch.allclose(one, other, rtol, rtol / 10 * most, equal_nan=True)


# What a network keeps outside of its tensors.

DEEP = 4  # how far into what attributes hold
_Place = tuple[Any, Any, Any]  # what holds a value, under which name or index, a copy of the value


@dataclass(frozen=True)
class _Position:
    """Where an iterator stands: what it gives next cannot be asked without moving it."""

    text: str

    @classmethod
    def of(cls, value: Iterator) -> "_Position":
        try:
            return cls(f"{value!r} {value.__reduce__()!r}")
        except (TypeError, AttributeError):
            return cls(repr(value))


def _kept(module: nn.Module) -> dict[str, _Place]:
    """The numbers, lists, arrays, tensors and iterators that layers or their classes hold, or these read from outside,
    and PyTorch knows nothing of."""
    usual, known, found = set(vars(nn.Module())), set(map(id, models.tensors(module).values())), {}

    def look(holder, inside: Mapping, prefix: str, depth: int) -> None:
        for key, value in inside.items():
            path = f"{prefix}.{key}" if prefix else str(key)
            if isinstance(value, torch.Tensor) and id(value) not in known and value.layout == torch.strided:
                found[path] = holder, key, value.detach().clone()
            elif isinstance(value, bool | int | float | np.generic | np.ndarray | list | tuple | deque):
                found[path] = holder, key, copy.copy(value)
            elif isinstance(value, Iterator):
                found[path] = holder, key, _Position.of(value)
            elif depth and isinstance(value, dict):
                look(value, value, path, depth - 1)
            elif depth and hasattr(value, "__dict__") and not isinstance(value, nn.Module | type | ModuleType):
                if type(value).__module__.partition(".")[0] != "torch" and not callable(value):
                    look(value, vars(value), path, depth - 1)

    for place, layer in module.named_modules():
        look(layer, {key: value for key, value in vars(layer).items() if key not in usual}, place, DEEP)
        for kind in _own_kinds(layer):
            look(kind, {key: value for key, value in vars(kind).items() if not key.startswith("__")}, kind.__name__, 1)
            for name, value, holder in sources.read_outside(kind):
                look(holder, {name: value}, "", 1)
    return found


def _own_kinds(layer: nn.Module) -> list[type]:
    """The classes that a layer is made of, without PyTorch's."""
    return [kind for kind in type(layer).__mro__ if not kind.__module__.startswith("torch.")]


def _alike(one, other) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return _nearly(one.detach(), other.detach(), 1e-7)
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple | deque) and isinstance(other, list | tuple | deque):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        numbers = one.dtype.kind in "fc" and other.dtype.kind in "fc"  # of which some may be missing
        return bool(np.array_equal(one, other, equal_nan=numbers))
    return type(one) is type(other) and bool(one == other)


def _another(value):
    """Quite another value: numbers far off, truth values turned round, text and times empty; a longer list."""
    if isinstance(value, list):
        return [_moved(one) for one in value] * max(2, 1000 // len(value)) if value else [0] * 1000
    if isinstance(value, tuple):
        return tuple(map(_moved, value))
    if isinstance(value, deque):
        return deque(map(_moved, value), value.maxlen)
    if getattr(getattr(value, "dtype", None), "kind", "f") not in "biufcO":  # of NumPy's; torch's have none
        return np.zeros_like(value)
    if isinstance(value, bool):
        return not value
    return ~value if isinstance(value, torch.Tensor) and value.dtype == torch.bool else value * 2 + 1000


def _moved(value):
    """Quite another number; what is none stays as it is."""
    plain = isinstance(value, int | float | np.number | torch.Tensor) and not isinstance(value, bool)
    return _another(value) if plain and getattr(value, "dtype", None) != torch.bool else value


def _read(holder, key, value, passed: Callable[[], State], usual: State) -> bool:
    """Whether a pass computes otherwise when a value is quite another one; what it only counts or notes is not read."""
    if isinstance(value, _Position):
        return True
    put = holder.__setitem__ if isinstance(holder, dict) else functools.partial(setattr, holder)
    key = "cell_contents" if isinstance(holder, CellType) else key
    try:
        put(key, _another(value))
        return not _as_before(usual, passed())
    except Exception:  # whatever a network of the user's makes of it
        return True
    finally:
        put(key, value)


def _output(name: str, kinds: dict[str, str], known: dict[str, str], called: list[str], unused: list[str]) -> None:
    """The layer of kind "output" is the last one called, or one that other layers' code reads; none if the last one has
    the weights of an embedding, or is frozen."""
    taken = next((key for key, kind in kinds.items() if kind == "output"), None)
    gives = next((key for key in reversed(called) if known[key] in ("conv", "fc", "output", "embedding")), taken)
    doubtful = taken in called + unused if taken else gives in kinds
    if gives is not None and gives != taken and known[gives] == "fc" and doubtful:
        _doubt(
            f"of network {name!r}, {taken or 'no layer'} is taken for the output layer, which is pruned at a rate of "
            f"its own, but {gives} is called last: define that one last"
        )


def _doubt(said: str) -> None:
    warnings.warn(said, Doubtful, stacklevel=2)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + ", …" * (len(names) > 5)


def _says_what_is_not_pruned(training: Training, module: nn.Module) -> None:
    left_out = models.unpruned(module)
    if not left_out:
        return
    share = sum(left_out.values()) / sum([*left_out.values(), *models.sizes(module).values()])
    warnings.warn(
        f"{share:.1%} of the weights of {training.model!r} are not pruned, for they are frozen or called biases: "
        f"{_some(list(left_out))}; density counts the others",
        NotPruned,
        stacklevel=4,
    )


def _parametrised(training: Training, module: nn.Module) -> None:
    """Where a layer's weight is computed from another tensor, it must be zero where that is, whatever else is learned:
    a shift and LoRA start at zero."""
    kinds = models.prunable(module)
    tried = models.evaluating(copy.deepcopy(module))
    for name, entry in models.table(tried).items():
        if not (entry.parametrised and name in kinds):
            continue
        owner, tensor, _ = models.place(tried, name)
        layer = tried.get_submodule(owner)
        steps = [*layer.get_submodule(f"parametrizations.{tensor}").children()]
        how = ", ".join(type(step).__name__ for step in steps)
        with torch.no_grad():
            for own in (own for step in steps for own in step.parameters() if own.requires_grad):
                own.uniform_(0.1, 1)
            original = tried.get_parameter(name)
            kept = original.abs() > original.abs().median()
            original.mul_(kept)
            weight = getattr(layer, tensor)
            original[0] = 0
            without = getattr(layer, tensor)
        if weight.shape != kept.shape or weight[~kept].any():
            raise TrainingError(
                f"network {training.model!r}: {owner}.{tensor} is computed ({how}) so that it is not zero where its "
                f"parameter {name} is, and cannot be pruned: leave the parametrisation out, or freeze this layer"
            )
        if not torch.isfinite(without).all():
            _doubt(
                f"network {training.model!r}: {owner}.{tensor} is computed ({how}) so that a unit without weights "
                f"is not a number, and a training that comes so far ends: prune less, or leave the parametrisation out"
            )


def _multiplies(training: Training, dataset: Dataset, module: nn.Module) -> None:
    """What a network multiplies its inputs by is zero where a weight is, as binarised and standardised weights are
    not."""
    with _named(training.model, "in evaluation"):
        name = products.acting(module, dataset.train[0])
    if name is not None:
        owner, *_ = models.place(module, name)
        raise TrainingError(
            f"network {training.model!r}: {owner or 'it'} multiplies by what it computes from {name}, and that is not "
            f"zero where the weight is, so that it cannot be pruned: let it multiply by the weight itself, or freeze it"
        )


def _reads(training: Training, dataset: Dataset, module: nn.Module) -> None:
    """Floats in which token ids were meant are all 0 where a network makes integers of them again."""
    x, tried = dataset.train[0], models.evaluating(copy.deepcopy(module))
    if not x.is_floating_point():
        return
    with _named(training.model, "in evaluation"), torch.no_grad():
        for tensor in (*tried.parameters(), *tried.buffers()):
            if tensor.is_floating_point() and not tensor.any():
                tensor.add_(0.01 * torch.randn_like(tensor))  # what starts at zero hides what is before
        same = torch.equal(tried(x.clone()), tried(torch.zeros_like(x)))
    if same:
        raise TrainingError(
            f"network {training.model!r} gives what it gives for zeros, whatever its inputs: under scaling="
            f"{training.scaling!r} these are floats between {x.min():.3g} and {x.max():.3g}. Token ids or categories: "
            f'scaling="none" keeps them integers'
        )


def _trains(training: Training, dataset: Dataset, state: models.State, kinds: dict[str, str]) -> None:
    """Two steps under a mask of half the weights; a second training goes on after the first step of the first one."""
    name, count = training.model, len(dataset.train[1])
    short = replace(
        training,
        steps=2,
        batch=min(training.batch, count),
        lr=min(training.lr, 1e-3),
        milestones=(),
        warmup=0,
        evaluate=((2, 2),),
    )
    dense = masks.dense(state, kinds)
    pruned = masks.prune(dense, masks.magnitude_scores(state, dense), dict.fromkeys(kinds, 0.5))
    start = Start(state, pruned)
    with _named(name, "in training"):
        whole = Course(short, dataset, [start], [])
        whole.begin(None)
        whole.advance()
        saved = {key: tensor.clone() for key, tensor in whole.tensors().items()}
        whole.advance()
        [outcome] = whole.outcomes()
    with _named(name, "when it goes on after an interruption"):
        resumed = Course(short, dataset, [start], [])
        resumed.begin(saved)
        resumed.advance()
    if resumed.step != 2 or not _close(resumed.network.snapshot(0), outcome.states[2]):
        raise TrainingError(
            f"network {name!r}, interrupted and resumed, does not end where it would have ended: it keeps something "
            f"between steps that is no parameter or buffer; register it with register_buffer, and let it draw with "
            f"torch's default generator"
        )


def _close(one: models.State, other: models.State) -> bool:
    return all(torch.allclose(tensor, other[key], 1e-3, 1e-5, equal_nan=True) for key, tensor in one.items())


@contextlib.contextmanager
def _named(name: str, when: str):
    """Puts the network's name, and that of the layer whose code raised, before what is said."""
    try:
        yield
    except (LotteryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        layers: dict[int, str] = {}
        where = ""
        for frame, _ in traceback.walk_tb(error.__traceback__):
            layer = frame.f_locals.get("self")
            if isinstance(layer, nn.Module):
                layers = layers or {id(inside): place for place, inside in layer.named_modules()}
                place = layers.get(id(layer))
                where = f", in layer {place!r}" if place else where
        raise TrainingError(f"network {name!r} fails {when}{where}: {in_a_line(error)}") from error
