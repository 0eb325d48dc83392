"""What a ticket is worth: operations to find it, bytes to keep it, seconds to use it."""

import copy
import lzma
import math
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from pydantic import Field, model_validator
from torch import nn

from . import LotteryError, masks, models
from .data import Pair
from .models import State
from .recipes import Mask, Recipe, Result, Training, Weights, World, frozen, rehearse

SEED_BYTES = 8
NUMBER_BYTES, INDEX_BYTES = 4, 8  # of float32, and of the indices of PyTorch's CSR
UNRUN = ("search, learning rate rewound", "search, fine-tuning")  # in a ledger, computed from the search's schedule
SETTLED = 0.1  # the distance between masks below which You et al. (2020) call them settled


class WorthError(LotteryError):
    """A network that cannot be measured in this way."""


@dataclass(frozen=True)
class Ledger:
    """What a search costs and what its ticket saves, in floating-point operations of training.

    A step takes operations in proportion to the weights left: six for each weight and example, two forward and four
    backward.

    Attributes:
        density: [L] share of weights left; the first is 1.
        stop: [R, L] early-stopping iteration.
        steps: of each training of the search.
        unit: operations of a dense step, in any unit.
        target: the density whose ticket is looked at; the nearest level is taken.
    """

    density: np.ndarray
    stop: np.ndarray
    steps: int
    unit: float = 1.0
    target: float = 0.211

    @property
    def level(self) -> int:
        """Of the ticket."""
        return int(np.abs(np.log(self.density / self.target)).argmin())

    @property
    def dense(self) -> float:
        """Of one dense training to its last step."""
        return self.unit * self.steps

    @property
    def search(self) -> float:
        """Of the dense training and all levels down to the ticket's, each to its last step."""
        return float(self.dense * self.density[: self.level + 1].sum())

    @property
    def short(self) -> np.ndarray:
        """[R] of the same if each training ended at its early stop."""
        until = slice(0, self.level + 1)
        return self.unit * (self.density[until] * self.stop[:, until]).sum(axis=1)

    @property
    def each(self) -> np.ndarray:
        """[2, R] of one training of the dense network, and of the ticket, to early stop."""
        return self.unit * np.stack([self.stop[:, 0], self.density[self.level] * self.stop[:, self.level]])

    @property
    def saved(self) -> np.ndarray:
        """[R] what one training of the ticket saves against one of the dense network."""
        return self.each[0] - self.each[1]

    def spent(self, step: ArrayLike, same: np.ndarray) -> dict[str, np.ndarray]:
        """What a network or the search for one costs, of something that a step of each level takes.

        Rewinding the learning rate instead of the weights, and fine-tuning for as long, train every level again, too,
        so both cost what the search costs; what they find is one trained network (Renda et al. 2020).

        Args:
            step: [L] or [R, L] of a step at each level, in any unit.
            same: [R, L] iterations to the dense network's smallest loss; NaN where it is never reached.

        Returns:
            What is trained → [R].
        """
        step, at = np.broadcast_to(step, self.stop.shape), self.level
        search = self.steps * step[:, : at + 1].sum(axis=1)
        return {
            "dense, to the last step": self.steps * step[:, 0],
            "search, weights rewound": search,
            **dict.fromkeys(UNRUN, search),
            "dense, to early stop": step[:, 0] * self.stop[:, 0],
            "ticket, to early stop": step[:, at] * self.stop[:, at],
            "ticket, to the dense network's loss": step[:, at] * same[:, at],
        }

    def lines(self, most: float, points: int = 41) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Cost of training up to `most` networks: name → (networks [S], operations [R, S])."""
        count = np.linspace(0, most, points)
        dense, ticket = self.each[:, :, None] * count
        return {"dense each time": (count, dense), "search, then ticket": (count, self.search + ticket)}


def footprint(
    shapes: Mapping[str, Sequence[int]], left: Mapping[str, int], batch: int, sparse: bool = False
) -> dict[str, int]:
    """Bytes that a step of training with Adam holds and moves: arithmetic, nothing is measured.

    Moved is every operand each time that it is used, as if no cache kept any. Forward, a layer reads weights and inputs
    and writes outputs. For the gradient of its weights it reads inputs and gradients of outputs; for that of its
    inputs, which the first layer does not need, weights and gradients of outputs. Adam reads weights, gradients and
    moments, and writes weights and moments. What is done number by number, the loss, and evaluation are left out.

    Args:
        shapes: [outputs, inputs] of the weights of fully connected layers with biases, in the order of the network.
        left: survivors of each.
        batch: examples a step.
        sparse: survivors alone, in CSR; gradients and moments share its indices. Otherwise every weight.

    Returns:
        "values" (weights, gradients and the two moments, with those of biases), "indices" (the column of each survivor,
        where each row begins), "activations" (inputs of all layers, for the backward pass, and the last outputs),
        "held" (all three), "moved".
    """
    values = indices = activations = moved = outputs = 0
    for number, (name, (rows, columns)) in enumerate(shapes.items()):
        kept = left[name] if sparse else rows * columns
        index = INDEX_BYTES * (kept + rows + 1) if sparse else 0
        inputs, outputs = (NUMBER_BYTES * batch * units for units in (columns, rows))
        weights, biases = NUMBER_BYTES * kept, NUMBER_BYTES * rows
        values, indices, activations = values + 4 * (weights + biases), indices + index, activations + inputs
        moved += 9 * (weights + biases) + 2 * (index + inputs + outputs)
        if number:
            moved += weights + index + outputs + inputs
    held = {"values": values, "indices": indices, "activations": activations + outputs}
    return held | {"held": sum(held.values()), "moved": moved}


def sparse_from(density: ArrayLike, times: ArrayLike) -> float:
    """The share of weights left below which sparse products are the faster ones.

    It is where their speed comes to that of dense products for the last time on the way from dense to sparse,
    interpolated between two levels, linearly in the logarithms of both.

    Args:
        density: [L] share of weights left, falling.
        times: [L] how many times as fast sparse products are.

    Returns:
        NaN if they are not faster at the last level, or a level is missing; the first density if they are faster at
        all.
    """
    density, ahead = np.asarray(density, dtype=np.float64), np.log(np.asarray(times, dtype=np.float64))
    if np.isnan(ahead).any():
        return math.nan
    slower = np.flatnonzero(ahead <= 0)
    if not slower.size:
        return float(density[0])
    if (last := int(slower[-1])) == len(ahead) - 1:
        return math.nan
    share = ahead[last] / (ahead[last] - ahead[last + 1])
    return float(density[last] * (density[last + 1] / density[last]) ** share)


def settled(steps: Sequence[int], apart: np.ndarray, masks: int = 5) -> float:
    """When a mask has settled: the first step whose mask differs little from each of the masks drawn before it.

    You et al. (2020) draw an early-bird ticket there; their code has five masks, an epoch apart, and `SETTLED`.

    Args:
        steps: [S] when masks were drawn.
        apart: [S, S] `masks.distance` between them.
        masks: how many are compared, the newest among them.

    Returns:
        The step; NaN if there is none.
    """
    ready = (i for i in range(masks - 1, len(steps)) if (apart[i, i - masks + 1 : i] <= SETTLED).all())
    return float(next((steps[i] for i in ready), math.nan))


@frozen
class Packed(Recipe):
    """The bytes of a ticket kept as its mask, the signs of its start and a seed, compressed by xz.

    The mask has one bit a weight, layer by layer; the signs one bit a survivor. A seed and the signs give the start
    again where only signs matter (Zhou et al. 2019); biases start the same from the seed.

    The record's values are numbers of bytes: of `mask`, `signs`, `seed`, `kept` (all three, compressed together), `raw`
    (the same before compression) and `dense`: all weights and biases in float32.

    Attributes:
        training: of which data and network.
        weights: the start.
        mask: what is cut.
    """

    stored: ClassVar[bool] = True

    training: Training
    weights: Weights
    mask: Mask

    @model_validator(mode="after")
    def _seeded(self):
        if self.training.seed >= 256**SEED_BYTES:
            raise ValueError(f"a seed is kept in {SEED_BYTES} bytes: take one below 2**{8 * SEED_BYTES}")
        return self

    def fitting(self) -> list[tuple[Weights | Mask, bool]]:
        return [(self.weights, False), (self.mask, True)]

    def compute(self, world: World) -> Result:
        state, mask = (part.tensors(world, self.training) for part in (self.weights, self.mask))
        bits = b"".join(np.packbits(kept.numpy()).tobytes() for kept in mask.values())
        positive = np.concatenate([(state[name][kept] > 0).numpy() for name, kept in mask.items()])
        signs, seed = np.packbits(positive).tobytes(), self.training.seed.to_bytes(SEED_BYTES, "little")
        parts = {"mask": bits, "signs": signs, "seed": seed, "kept": bits + signs + seed}
        compressed = {name: len(lzma.compress(part, preset=9)) for name, part in parts.items()} | {"seed": SEED_BYTES}
        entries = models.table(world.network(self.training)).values()
        dense = sum(state[entry.name].numel() * 4 for entry in entries if not entry.buffer)
        return compressed | {"raw": len(parts["kept"]), "dense": dense}, {}


class _Csr(nn.Module):
    """A linear layer whose weights are a CSR matrix."""

    def __init__(self, layer: nn.Linear, kept: torch.Tensor):
        super().__init__()
        self.weight, self.bias = (layer.weight.detach() * kept).to_sparse_csr(), layer.bias.detach()

    def forward(self, x):
        y = torch.addmm(self.bias[:, None], self.weight, x.reshape(-1, x.shape[-1]).t()).t()
        return y if x.ndim == 2 else y.reshape(*x.shape[:-1], -1)


def _linear(network: nn.Module, name: str) -> nn.Linear:
    """The layer of a weight: one that does what `_Csr` does, which a subclass need not."""
    layer = network.get_submodule(name.rpartition(".")[0])
    if not isinstance(layer, nn.Linear) or type(layer) is not nn.Linear or layer.bias is None:
        raise WorthError(f"{name} is no fully connected layer with biases: measure a LeNet")
    return layer


def in_csr(network: nn.Module, mask: dict[str, torch.Tensor]) -> nn.Module:
    """A copy of a network, for inference, whose linear layers multiply their survivors alone. The weights of those that
    were there before are no numbers, nor are outputs if they are still called.

    Raises:
        WorthError: if a masked layer is no `nn.Linear`: PyTorch has no such product for convolutions.
    """
    sparse = models.evaluating(copy.deepcopy(network))
    for name, kept in mask.items():
        layer = _linear(sparse, name)
        with warnings.catch_warnings():  # PyTorch calls the format a beta, once a process
            warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta state")
            product = _Csr(layer, kept)
        for place in [place for place, each in sparse.named_modules(remove_duplicate=False) if each is layer]:
            sparse.set_submodule(place, product)
        layer.weight.data.fill_(torch.nan)
    return sparse


@frozen
class Speed(Recipe):
    """Seconds of inference of a network on one core of a CPU: multiplied in full, and with its survivors in CSR.

    Both are timed in turn, so that a machine that slows down slows both. Weights are a draw of the network's own: their
    values do not matter. The record says on what it was made; asking again gives the same numbers.

    The record's array `seconds` is [batches, 2 (dense, CSR), repeats]; the value `kernels` names the processor's
    instructions that PyTorch uses.

    Attributes:
        training: of which data and network; fully connected ones only.
        mask: what is cut.
        batches: numbers of images at once.
        repeats: how often each is timed; take the least, for other programs only add to it.
    """

    stored: ClassVar[bool] = True

    training: Training
    mask: Mask
    batches: tuple[Annotated[int, Field(ge=1)], ...] = (1, 60, 1000)
    repeats: Annotated[int, Field(ge=1)] = 15

    def check(self, world: World, training=None) -> None:
        super().check(world, self.training)
        network = world.network(self.training)
        for name in models.prunable(network):
            _linear(network, name)
        rehearse("the speed", world, self.training, _multiplied)

    def compute(self, world: World) -> Result:
        mask, given = self.mask.tensors(world, self.training), world.dataset(self.training).train[0][:1].cpu()
        numbers = given.is_floating_point()  # else what stands for something, such as ids
        one = torch.rand(given.shape, generator=torch.Generator().manual_seed(0)) if numbers else given
        network = models.evaluating(world.network(self.training))
        for name, kept in mask.items():
            network.get_parameter(name).data.mul_(kept)
        seconds = np.zeros((len(self.batches), 2, self.repeats))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                both = network, in_csr(network, mask)
                _same(*both, one)
                for i, batch in enumerate(self.batches):
                    x = (torch.ones_like(given) if numbers else given).expand(batch, *given.shape[1:]).contiguous()
                    calls = max(1, round(0.003 / _seconds(network, x, 3)))
                    for repeat in range(self.repeats):
                        for kind, module in enumerate(both):
                            seconds[i, kind, repeat] = _seconds(module, x, calls)
        finally:
            torch.set_num_threads(threads)
        return {"kernels": torch.backends.cpu.get_cpu_capability()}, {"seconds": seconds}


def _same(network: nn.Module, sparse: nn.Module, x: torch.Tensor) -> None:
    """Refuses a network in CSR of which some layer was not replaced where it is called."""
    if (sparse(x).isnan() & ~network(x).isnan()).any():
        raise WorthError("a layer is called from a plain list or shares its weight: only others are sparse")


def _multiplied(module: nn.Module, state: State, examples: Pair) -> None:
    with torch.inference_mode():
        _same(module, in_csr(module, masks.dense(state, models.prunable(module))), examples[0].cpu())


def _seconds(module: nn.Module, x: torch.Tensor, calls: int) -> float:
    """Seconds of a forward pass, the mean of several."""
    module(x)
    began = time.perf_counter()
    for _ in range(calls):
        module(x)
    return (time.perf_counter() - began) / calls
