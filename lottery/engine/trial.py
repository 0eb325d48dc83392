"""A trial before the work: what would fail after hours fails here, and says which network, which layer and what to do.

On a few examples a network is built twice, copied, evaluated, differentiated, pruned, trained for two steps, saved,
restored and read back.
"""

import contextlib
import copy
import traceback
import warnings
from dataclasses import replace

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import LotteryError, masks, models
from ..data import Dataset
from ..recipes import Training
from .errors import TrainingError
from .network import EXAMPLES, Start, draws, seed, stackable
from .train import Course

SEEDS = 3  # of initial weights that are tried; one that gives finite outputs is enough


class NotPruned(UserWarning):
    """Weights of a network that no mask covers; density counts the others."""


def trial(training: Training, dataset: Dataset, stack: bool = False) -> None:
    """Does once, on a few examples, all that a study does with a network.

    Args:
        training: whose network is tried.
        dataset: where the examples are from; on the device where training is to happen.
        stack: whether networks are to be trained as one batch.

    Raises:
        TrainingError: if something fails; the message names the network, the layer where that is known, and a remedy.
        ModelError: if the network cannot be built, or not in the same way twice.
    """
    small = replace(
        dataset,
        **{
            part: tuple(tensor[:EXAMPLES] for tensor in getattr(dataset, part))
            for part in ("train", "validation", "test")
        },
    )
    device = dataset.train[0].device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        state, module = _built(training, small)
        module = module.to(device)
        if not models.ours(module):
            _behaves(training, small, module)
            _held(training.model, small, state, module)
            _says_what_is_not_pruned(training, module)
            _parametrised(training, module)
        _trains(training, small, state, module)
        if stack:
            stackable(training, small)
    dataset.intact(training.model)


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
        with _named(name, "when it is copied (torch.nn.utils.parametrizations.weight_norm can be, weight_norm cannot)"):
            tried = copy.deepcopy(module).to(x.device).eval()
        with _named(name, f"when it evaluates inputs of shape {list(x.shape)} ({x.dtype})", tried), torch.no_grad():
            outputs = tried(x)
        _logits(name, outputs, dataset)
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
    models.load(other, state)
    with _named(name, "when it is built under another seed", other), torch.no_grad():
        here, there = (tried(x) for tried in (copy.deepcopy(module).eval(), other.eval()))
    if here.shape != there.shape or not torch.allclose(here, there, 1e-3, 1e-5, equal_nan=True):
        raise TrainingError(
            f"network {name!r} draws something that its state dict does not hold, which would not be trained, pruned "
            f"or saved: register layers as attributes or in an nn.ModuleList, tensors with register_buffer"
        )


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.nan_to_num(), other.nan_to_num())


def _tensors(module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


def _logits(name: str, outputs, dataset: Dataset) -> None:
    count = len(dataset.train[0])
    if not isinstance(outputs, torch.Tensor):
        raise TrainingError(f"network {name!r} returns {type(outputs).__name__}: it must return logits, one tensor")
    if outputs.shape != (count, dataset.classes):
        raise TrainingError(
            f"network {name!r} gives outputs of shape {list(outputs.shape)} for {count} inputs: {dataset.name} has "
            f"{dataset.classes} classes, a number that the factory is given, and logits are [N, {dataset.classes}]"
        )


def _behaves(training: Training, dataset: Dataset, module: nn.Module) -> None:
    """Draws where a recipe can seed it, and not in evaluation; has gradients that an optimiser can take."""
    name, (x, y) = training.model, dataset.train
    with _named(name, "in evaluation", tried := copy.deepcopy(module)):
        before = {key: tensor.detach().clone() for key, tensor in _tensors(tried)}
        drew = draws(tried, x, training=False)
        if odd := [key for key, tensor in _tensors(tried) if not _equal(before[key], tensor.detach())]:
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
    with _named(name, "in training", tried := copy.deepcopy(module).train()):
        for _ in range(SEEDS):
            draws(tried, x)
        cross_entropy(tried(x).float(), y).backward()
    odd = [
        key for key, parameter in tried.named_parameters() if parameter.grad is not None and parameter.grad.is_sparse
    ]
    if odd:
        raise TrainingError(
            f"network {name!r}: {', '.join(odd)} has sparse gradients, which cannot be masked: sparse=False"
        )


def _says_what_is_not_pruned(training: Training, module: nn.Module) -> None:
    frozen = models.unpruned(module)
    if not frozen:
        return
    counts = dict(module.named_parameters())
    covered = sum(counts[name].numel() for name in models.prunable(module))
    share = sum(frozen.values()) / (covered + sum(frozen.values()))
    shown = ", ".join(list(frozen)[:5]) + (", …" if len(frozen) > 5 else "")
    warnings.warn(
        f"{share:.1%} of the weights of {training.model!r} are not pruned, for they are frozen: {shown}; density "
        f"counts the others",
        NotPruned,
        stacklevel=4,
    )


def _parametrised(training: Training, module: nn.Module) -> None:
    """Where a layer's weight is computed from another tensor, it must be zero where that is."""
    kinds = models.prunable(module)
    tried = copy.deepcopy(module).eval()
    for name, entry in models.table(tried).items():
        if not (entry.parametrised and name in kinds):
            continue
        owner, _, tensor = name.rpartition(".")[0].rpartition(".parametrizations.")
        layer = tried.get_submodule(owner)
        with torch.no_grad():
            original = tried.get_parameter(name)
            kept = original.abs() > original.abs().median()
            original.mul_(kept)
            weight = getattr(layer, tensor)
        if weight.shape != kept.shape or weight[~kept].any():
            how = ", ".join(
                type(step).__name__ for step in layer.get_submodule(f"parametrizations.{tensor}").children()
            )
            raise TrainingError(
                f"network {training.model!r}: {owner}.{tensor} is computed ({how}) so that it is not zero where its "
                f"parameter {name} is, and cannot be pruned: leave the parametrisation out, or freeze this layer"
            )


def _trains(training: Training, dataset: Dataset, state: models.State, module: nn.Module) -> None:
    """Two steps under a mask of half the weights; a second training goes on after the first step of the first one."""
    name, count = training.model, len(dataset.train[1])
    short = replace(
        training, steps=2, batch=count, lr=min(training.lr, 1e-3), milestones=(), warmup=0, evaluate=((2, 2),)
    )
    kinds = models.prunable(module)
    dense = masks.dense(state, kinds)
    pruned = masks.prune(dense, masks.magnitude_scores(state, dense), dict.fromkeys(kinds, 0.5))
    start = Start(state, pruned)
    with _named(name, "in training", module):
        whole = Course(short, dataset, [start], [])
        whole.begin(None)
        whole.advance()
        saved = {key: tensor.clone() for key, tensor in whole.tensors().items()}
        whole.advance()
        [outcome] = whole.outcomes()
    if grown := [key for key, kept in pruned.items() if outcome.states[2][key][~kept.cpu()].any()]:
        raise TrainingError(
            f"network {name!r} writes into {', '.join(grown[:3])} when it is trained, so that pruned weights do not "
            f"stay zero: leave the change of weights to the optimiser"
        )
    with _named(name, "when it goes on after an interruption", module):
        resumed = Course(short, dataset, [start], [])
        resumed.begin(saved)
        resumed.advance()
    if resumed.step != 2 or not _close(resumed.network.snapshot(0), outcome.states[2]):
        raise TrainingError(
            f"network {name!r}, interrupted and resumed, does not end where it would have ended: it keeps something "
            f"between steps that is no parameter or buffer; register it with register_buffer"
        )
    with _named(name, "when its weights are read back", module):
        models.load(module, outcome.states[2])
        module.eval()
        seed(0, dataset.train[0].device)
        with torch.no_grad():
            loss = cross_entropy(module(dataset.test[0]).double(), dataset.test[1]).item()
    if abs(loss - outcome.history["test_loss"][-1]) > 1e-3 * max(1.0, abs(loss)):
        raise TrainingError(
            f"network {name!r} computes with something that its state dict does not hold, so its saved weights are not "
            f"what was trained: register it with register_buffer(…, persistent=True)"
        )


def _close(one: models.State, other: models.State) -> bool:
    return all(torch.allclose(tensor, other[key], 1e-3, 1e-5, equal_nan=True) for key, tensor in one.items())


@contextlib.contextmanager
def _named(name: str, when: str, module: nn.Module | None = None):
    """Puts the network's name, and that of the layer whose code raised, before what is said."""
    try:
        yield
    except (LotteryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        layers = {id(layer): place for place, layer in module.named_modules()} if module else {}
        where = ""
        for frame, _ in traceback.walk_tb(error.__traceback__):
            place = layers.get(id(frame.f_locals.get("self")))
            where = f", in layer {place!r}" if place else where
        said = str(error).strip().partition("\n")[0]
        raise TrainingError(f"network {name!r} fails {when}{where}: {type(error).__name__}: {said}") from error
