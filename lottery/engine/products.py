"""Whether pruned weights act: what a network multiplies its inputs by must be zero where a weight is.

Binarised, standardised and exponentiated weights are not. What stands between a weight and the products that it is in
is found in the graph of a forward pass, and tried with half of the weight at zero.
"""

import contextlib
import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .. import models, seeds

WEIGHED = {"linear", "embedding", *(f"conv{kind}{n}d" for n in (1, 2, 3) for kind in ("", "_transpose"))}
MULTIPLY = {"matmul", "__matmul__", "__rmatmul__", "mm", "addmm", "bmm", "baddbmm", "einsum"}
MIXING = ("mm", "mv", "dot", "conv", "linear", "embedding", "attention", "rnn")  # in the names of a backward pass
SHAPING = (
    "view",
    "transpose",
    "permute",
    "tbackward",
    "expand",
    "squeeze",
    "slice",
    "select",
    "alias",
    "copy",
    "clone",
)
SHAPING += ("split", "unbind", "accumulategrad", "contiguous", "reshape")
FEWER = 5  # examples of the second pass; what is as large in both is no activation


@dataclass(frozen=True)
class Call:
    """A product: what is multiplied, and which of it may be a weight."""

    name: str
    operands: list[torch.Tensor]
    weights: list[int]


class _Products(TorchFunctionMode):
    """Notes the products that are computed."""

    def __init__(self):
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if name in WEIGHED | MULTIPLY:
            given = [one for value in (*args, *kwargs.values()) for one in _several(value)]
            operands = [one for one in given if isinstance(one, torch.Tensor)]
            weights = [1] if name in WEIGHED else list(range(len(operands)))
            self.calls.append(Call(name, operands, weights))
        return func(*args, **kwargs)


def _several(value) -> Sequence:
    return value if isinstance(value, list | tuple) else (value,)


def weights_of(module: nn.Module, x: torch.Tensor, training: bool) -> dict[str, list[tuple[int, int]]]:
    """Name of a weight that may be pruned -> the places, call and operand, at which products are given what is computed
    from it, entry by entry or by sums, and not only reshaped; where the other operand hangs on the inputs."""
    parameters = {name: module.get_parameter(name) for name in models.prunable(module)}
    many, few = (_calls(module, part, training) for part in (x, x[:FEWER]))
    found: dict[str, list[tuple[int, int]]] = {}
    if [call.name for call in many] != [call.name for call in few]:
        return found  # which experts are asked, say, hangs on the examples
    for number, (call, other) in enumerate(zip(many, few, strict=True)):
        same = [one.shape == two.shape for one, two in zip(call.operands, other.operands, strict=True)]
        for place in call.weights if not all(same) else ():
            if place < len(same) and same[place]:
                changed = _changed(call.operands[place])
                for name in (name for name, parameter in parameters.items() if parameter in changed):
                    found.setdefault(name, []).append((number, place))
    return found


def _calls(module: nn.Module, x: torch.Tensor, training: bool) -> list[Call]:
    module.train(training)  # which may return nothing
    tried = module if training else models.evaluating(module)
    with seeds.apart(x.device), _Products() as products:
        torch.manual_seed(0)
        tried(x.clone())
    return products.calls


def _changed(tensor: torch.Tensor) -> set[torch.Tensor]:
    """The parameters that a tensor is computed from by more than their shape, with no product in between."""
    found, nodes = set(), [(tensor.grad_fn, False)]
    seen = set(nodes)
    for node, changed in nodes:
        said = type(node).__name__.lower()
        if (leaf := getattr(node, "variable", None)) is not None:
            found |= {leaf} if changed else set()
        elif node is not None and not any(mixing in said for mixing in MIXING):
            more = changed or not any(shaping in said for shaping in SHAPING)
            for before, _ in node.next_functions:
                if (before, more) not in seen:
                    seen.add((before, more))
                    nodes.append((before, more))
    return found


def acting(module: nn.Module, x: torch.Tensor) -> str | None:
    """The name of a weight that may be pruned, and whose zeros are no zeros in the products that it has a part in.

    Args:
        module: left as it is.
        x: some examples.
    """
    for training in (False, True):
        tried = copy.deepcopy(module)
        for name, places in weights_of(tried, x, training).items():
            if any(map(functools.partial(_acts, tried, x, name, training), places)):
                return name
    return None


def _acts(module: nn.Module, x: torch.Tensor, name: str, training: bool, place: tuple[int, int]) -> bool:
    """Whether what is multiplied by changes with the other weights where a weight is zero or, in evaluation, is not
    zero there while all other parameters are; of layers of PyTorch's kinds, while theirs are anything."""
    owner, own, _ = models.place(module, name)
    layer = module.get_submodule(owner)
    found = _multiplied(module, x, name, training, place, {})
    if found is None or found.shape[1] < module.get_parameter(name).numel():
        return False  # a sum over the weight, which its zeros leave out
    if (found == found[0]).all(0).float().mean() < 0.25:
        return True
    others = {other: torch.zeros_like(p) for other, p in module.named_parameters() if p.is_floating_point()}
    settings = [] if training else [others]  # noise in training acts where a weight is zero, and is meant to
    if own == "weight" and isinstance(layer, (nn.Linear, *models.CONVOLUTIONS)):
        mine = {f"{owner}.{other}" if owner else other: p for other, p in layer.named_parameters() if p.requires_grad}
        settings.append({other: torch.empty_like(p).uniform_(0.1, 1) for other, p in mine.items()})
    for setting in settings:
        found = _multiplied(module, x, name, training, place, setting)
        if found is not None and found[:, (found == found[0]).all(0)].any():
            return True
    return False


def _multiplied(module, x, name, training, place, others) -> torch.Tensor | None:
    """What is multiplied by, [3, entries], with half of a weight at zero and the rest as it is, turned and smaller, and
    shuffled: at its own scale, since loops may end for no other. None if a pass fails."""
    number, operand = place
    stream, found = torch.Generator().manual_seed(0), []
    weight = module.get_parameter(name).detach()
    kept = (torch.rand(weight.shape, generator=stream) > 0.5).to(weight.device)
    values = weight[kept] if weight.any() else 0.1 * torch.randn(int(kept.sum()), generator=stream).to(weight)
    for left in (values, -0.7 * values, values[torch.randperm(len(values), generator=stream).to(weight.device)]):
        tried = copy.deepcopy(module)
        with torch.no_grad(), contextlib.suppress(Exception):
            for other, value in others.items():
                tried.get_parameter(other).copy_(value)
            tried.get_parameter(name).zero_()[kept] = left
            found.append(_calls(tried, x, training)[number].operands[operand].detach().nan_to_num().flatten())
    alike = len(found) == 3 and len({one.shape for one in found}) == 1
    return torch.stack(found) if alike else None
