"""Networks as the loop sees them: one, or several stacked, each under its mask, behind one interface.

Masks act on the starting weights once and on every gradient, so a pruned weight is exactly zero after every step (also
under momentum, weight decay and Adam), which equals masking in the forward pass at a fraction of its cost. One LeNet on
a CPU is a chain of products by hand (`chain`). Any other network that is alone runs as the plain module, in which large
linear layers with few survivors multiply those alone (`sparse`) and images may lie channels last; several run as one
module under `torch.vmap` over stacked parameters, which pays on a GPU (on a CPU use one process a run). Whatever is not
the plain module is compared with it on a few examples before it trains.
"""

import contextlib
import copy
import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.adam import adam

from .. import masks, models, seeds
from ..data import Dataset
from ..models import State
from ..recipes import Training
from ..seeds import seed
from . import chain, sparse
from .batches import moved
from .errors import Drawing, NotStacked, Slower, TrainingError, in_a_line
from .precision import multiplying, undisturbed
from .sparse import SparseLinear

EXAMPLES = 16  # on which a faster network is compared with the plain one
MORE = 48  # examples beside these, where inputs are integers
ROUNDING = (
    1e-5  # of the largest gradient: what is smaller, as that of a bias before normalisation, may be rounding alone
)


@dataclass(frozen=True, eq=False)
class Start:
    """Where one network starts.

    Attributes:
        weights: a full state dict; only read.
        mask: what survives; empty trains densely.
        order: the indices of the stream that batches are drawn from.
        step: the position in schedule and data order.
    """

    weights: State
    mask: masks.Mask
    order: tuple[int, ...] = (0,)
    step: int = 0


class Network:
    """What a single network and a stack of them have in common.

    Attributes:
        module: the architecture; the weights of a stack are not in it.
        parameters: name → what an optimiser is to move.
        state: name → every tensor that training changes, `parameters` and buffers; shared ones once.
        masked: parameters that have pruned weights, each with where its weights survive, as numbers.
        count: how many networks it is.
        ways: what is done in another way than the plain module does it, in words.
        seeded: whether steps are to draw from the run's own stream: for all but the papers' networks without dropout.
        drawing: whether the network was seen to draw random numbers in training.
    """

    count = 1
    ways: Sequence[str] = ()

    def __init__(self, training: Training, module: nn.Module, device: torch.device):
        self.module, self.device = module.to(device), device
        self.entries = models.table(module)
        self.first = models.first_names(module)
        self.bfloat16 = training.precision == "bf16"
        self.seeded, self.drawing = seeded(module), False
        self.parameters: State = {}
        self.state: State = {}
        self.masked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def trainable(self) -> State:
        return {name: tensor for name, tensor in self.state.items() if self.entries[name].trainable}

    def watch(self, name: str, kept: torch.Tensor) -> None:
        """From now on the gradients of a parameter are masked, if the mask `kept` prunes any of it."""
        if not kept.all():
            self.masked.append((self.parameters[name], kept.float()))

    def mask_gradients(self) -> None:
        """Makes the gradients of pruned weights zero; a weight that the loss does not depend on has none."""
        pairs = [(weight.grad, kept) for weight, kept in self.masked if weight.grad is not None]
        if pairs:
            torch._foreach_mul_(*zip(*pairs, strict=True))  # pyright: ignore[reportPrivateImportUsage]  # one kernel for all

    def settle(self) -> None:
        """Puts what a pass has assigned to buffers (`self.mean = …`) into the tensors that are saved."""

    def batch(self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, draws: torch.Tensor | None):
        """Inputs and labels of the examples [R, B], augmented as drawn."""
        raise NotImplementedError

    def backward(self, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropies of a training batch; `parameters` have its gradients then, masked."""
        losses = self.losses(inputs, target)
        for parameter in self.parameters.values():
            parameter.grad = None
        losses.sum().backward()
        self.settle()
        self.mask_gradients()
        return losses.detach()

    def move(self, optimiser: torch.optim.Optimizer) -> None:
        """A step of the optimiser, which has `parameters`."""
        optimiser.step()

    def losses(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropies of a training batch."""
        raise NotImplementedError

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of a training batch, in the precision of the training."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False):
            logits = self.forward(x)
        return models.wide(logits)

    def forward(self, x: torch.Tensor, shared: bool = False) -> torch.Tensor:
        """Logits of a batch: [B, classes] of one network, [R, B, classes] of R stacked ones."""
        raise NotImplementedError

    def whole(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor with an entry for each of a parameter, in the parameter's own shape."""
        return tensor

    def snapshot(self, index: int) -> State:
        """A full copy of one network's state dict."""
        raise NotImplementedError


class Single(Network):
    """One network as a module of its own.

    Args:
        training: its layout in memory and precision count.
        module: freshly built; taken over.
        start: where it starts.
        device: where it is to be.
        plain: leave out what makes it faster.
    """

    def __init__(self, training: Training, module: nn.Module, start: Start, device: torch.device, plain: bool = False):
        super().__init__(training, module, device)
        models.load(module, masks.apply(start.weights, start.mask))
        last = training.layout == "channels_last" and not plain
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.sparse = {} if plain or self.bfloat16 else self._replace(start.mask)
        self.ways = [f"{name} as a sparse matrix" for name in self.sparse]
        self.ways += ["images that lie channels last"] * last
        self.state = models.tensors(module)
        for tensor in self.state.values():
            tensor.data = self._laid(tensor.data)
        self.parameters = self.trainable()
        for name, kept in start.mask.items():
            if name not in self.sparse:
                self.watch(name, self._laid(kept.to(device)))

    def settle(self) -> None:
        """Puts what a pass has assigned to buffers (`self.mean = …`) into the tensors that are saved.

        Raises:
            TrainingError: if it has assigned to a parameter, or to one name of a buffer that has two.
        """
        if models.ours(self.module):
            return
        for name, parameter in self.module.named_parameters():
            if parameter is not self.state.get(name):
                raise TrainingError(f"it makes {name} anew in forward, which no optimiser knows: make it in __init__")
        buffers = dict(self.module.named_buffers(remove_duplicate=False))
        for name, buffer in buffers.items():
            known = self.state[self.first[name]]
            if buffer is not known:
                names = (self.first[name], *self.entries[self.first[name]].aliases)
                if parted := next((other for other in names if buffers[other] is not buffer), None):
                    raise TrainingError(
                        f"its buffers {name} and {parted} are one tensor, and forward assigns to {name} alone, which "
                        f"parts them: register a tensor for each (clone), or change it in place (copy_)"
                    )
                known.copy_(buffer.detach())
                owner, _, own = name.rpartition(".")
                setattr(self.module.get_submodule(owner), own, known)

    def _replace(self, mask: masks.Mask) -> dict[str, SparseLinear]:
        """Puts sparse layers in the place of dense ones, which hold no numbers from then on: whatever still computes
        with them, as through a plain list, gives none and is found out when outputs are compared."""
        layers = {}
        for name, kept in mask.items():
            place = name.rpartition(".")[0]
            dense = self.module.get_submodule(place)
            if place and sparse.pays(dense, kept) and self._alone(place, dense):
                layers[name] = SparseLinear(dense, kept, contiguous=not models.ours(self.module))
                self.module.set_submodule(place, layers[name])
                for tensor in dense.parameters():
                    tensor.data.fill_(torch.nan)
        return layers

    def _alone(self, place: str, layer: nn.Module) -> bool:
        """Whether no other layer has a parameter of this one."""
        return not any(self.entries[self.first[f"{place}.{own}"]].aliases for own, _ in layer.named_parameters())

    def _laid(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor in the memory layout that images and their filters have here."""
        return tensor.contiguous(memory_format=self.layout) if tensor.ndim == 4 else tensor

    def batch(self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, draws: torch.Tensor | None):
        """Inputs and labels of the examples [1, B], augmented as drawn."""
        inputs = x[index[0]]
        return inputs if draws is None else moved(inputs, draws), y[index[0]]

    def forward(self, x: torch.Tensor, shared: bool = False) -> torch.Tensor:
        if shared and self.device.type == "cuda" and self.layout is torch.channels_last:
            # 10,000 images of CIFAR-10 through a ResNet-20 to the full 24 bits: 58 ms on an H200, channels last 150
            first = {name: tensor.contiguous() for name, tensor in self.state.items() if tensor.ndim == 4}
            return torch.func.functional_call(self.module, first, (x,))
        return self.module(self._laid(x))

    def losses(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of a training batch."""
        return cross_entropy(self.logits(x), target)

    def whole(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor with an entry for each of a parameter, in the parameter's own shape: zero where that is pruned."""
        return self.sparse[name].whole(tensor) if name in self.sparse else tensor

    def snapshot(self, index: int) -> State:
        """A full copy of the network's state dict."""
        state = {}
        for name in self.module.state_dict():
            tensor = self.state[self.first[name]].detach().cpu().clone(memory_format=torch.contiguous_format)
            state[name] = self.whole(name, tensor)
        return state


class Chained(Network):
    """One of the papers' LeNets on a CPU, forward and back by hand (`chain`).

    Args:
        training: its precision counts.
        module: freshly built; taken over, its weights unused.
        start: where it starts.
        device: a CPU.
    """

    ways = ("products by hand",)

    def __init__(self, training: Training, module: models.LeNet, start: Start, device: torch.device):
        super().__init__(training, module, device)
        self.chain = chain.Chain(chain.names(module), start.weights, start.mask)
        self.parameters = self.state = self.chain.parameters

    def batch(self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, draws: torch.Tensor | None):
        """Inputs and labels of the examples [1, B], augmented as drawn."""
        inputs = x.index_select(0, index[0])
        return inputs if draws is None else moved(inputs, draws), y.index_select(0, index[0])

    def forward(self, x: torch.Tensor, shared: bool = False) -> torch.Tensor:
        """Logits [B, classes] of a batch."""
        return self.chain.forward(x.flatten(1))

    def backward(self, inputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of a training batch; the gradients of what survives are written down."""
        return self.chain.backward(inputs.flatten(1), target)

    def move(self, optimiser: torch.optim.Optimizer) -> None:
        """A step of the optimiser; Adam without what surrounds it in `torch.optim`, which takes longer than it does."""
        moving, group = list(self.parameters.values()), optimiser.param_groups[0]
        slots = [optimiser.state[tensor] for tensor in moving]
        if not isinstance(optimiser, torch.optim.Adam) or not all(slots):  # its first step makes them
            optimiser.step()
            return
        means, squares, steps = ([slot[name] for slot in slots] for name in ("exp_avg", "exp_avg_sq", "step"))
        gradients = [tensor.grad for tensor in moving if tensor.grad is not None]
        given = {name: group[name] for name in ("amsgrad", "lr", "weight_decay", "eps", "maximize")}
        beta1, beta2 = group["betas"]
        adam(moving, gradients, means, squares, [], steps, fused=True, beta1=beta1, beta2=beta2, **given)

    def snapshot(self, index: int) -> State:
        """A full copy of the network's state dict."""
        return self.chain.snapshot()


class Stacked(Network):
    """R networks as one module over stacked tensors, each with a leading axis R.

    Args:
        training: its precision counts.
        module: freshly built; taken over, its weights unused.
        starts: where they start.
        device: where they are to be.
    """

    def __init__(self, training: Training, module: nn.Module, starts: Sequence[Start], device: torch.device):
        super().__init__(training, module, device)
        self.count = len(starts)
        states = [masks.apply(start.weights, start.mask) for start in starts]
        self.state = {
            name: torch.stack([state.get(name, tensor.detach()).to(device) for state in states])  # not all persist
            for name, tensor in models.tensors(module).items()
        }
        self.parameters = {name: tensor.requires_grad_() for name, tensor in self.trainable().items()}
        self.also = self._other_places()
        for name in starts[0].mask:
            self.watch(name, torch.stack([start.mask[name] for start in starts]).to(device))
        for name, row in models.padding(module).items():  # which vmap would train in all networks but the first
            if name in self.parameters:
                kept = torch.ones_like(self.parameters[name], dtype=torch.bool)
                kept[:, row] = False
                self.watch(name, kept)

    def _other_places(self) -> dict[str, str]:
        """Other names of shared tensors, each in a layer of its own; a layer that is itself used twice is one place."""
        also = {}
        for name, entry in self.entries.items():
            places = {id(self.module.get_submodule(name.rpartition(".")[0]))}
            for alias in entry.aliases:
                layer = id(self.module.get_submodule(alias.rpartition(".")[0]))
                if layer not in places:
                    also[alias] = name
                    places.add(layer)
        return also

    def batch(self, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor, draws: torch.Tensor | None):
        """Inputs and labels of the examples [R, B], augmented as drawn."""
        inputs = x[index]
        if draws is not None:
            inputs = moved(inputs.flatten(0, 1), draws).view(inputs.shape)
        return inputs, y[index]

    def forward(self, x: torch.Tensor, shared: bool = False) -> torch.Tensor:
        """Logits [R, B, classes] of batches [R, B, ...], or of one batch for all networks."""

        def one(state, x):
            state = state | {alias: state[name] for alias, name in self.also.items()}
            return torch.func.functional_call(self.module, state, (x,), tie_weights=False)

        return torch.vmap(one, in_dims=(0, None if shared else 0))(self.state, x)

    def losses(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of a training batch for each network, [R]."""
        return cross_entropy(self.logits(x).transpose(1, 2), target, reduction="none").mean(1)

    def snapshot(self, index: int) -> State:
        """A full copy of one network's state dict."""
        return {
            name: self.state[self.first[name]][index].detach().cpu().clone(memory_format=torch.contiguous_format)
            for name in self.module.state_dict()
        }


def sample(x: torch.Tensor) -> torch.Tensor:
    """Which examples networks are tried on: the first; of integers, such as ids, also those with the largest and
    smallest at each place."""
    index = torch.arange(min(EXAMPLES, len(x)), device=x.device)
    if x.is_floating_point():
        return index
    flat = x.reshape(len(x), -1)
    ends = torch.stack([flat.amax(1).argmax(), flat.amin(1).argmin(), *flat.argmax(0), *flat.argmin(0)])
    return torch.cat([index, ends[:MORE]]).unique()


def build(training: Training, dataset: Dataset, starts: Sequence[Start], plainly: bool = False) -> Network:
    """The networks of a training on the data's device: the fastest way that does what the plain module does.

    Args:
        training, dataset: what they are trained with.
        starts: of each.
        plainly: the first of them as a plain module.

    Raises:
        TrainingError: if the starts do not fit the network.
        NotStacked: if there are several, and they cannot be stacked.
    """
    x, _ = dataset.train
    device, few = x.device, x[sample(x)]

    module = models.build(training.model, dataset.shape, dataset.classes)
    _check(training, module, starts)

    def plain(place: int) -> Single:
        return Single(training, copy.deepcopy(module), starts[place], device, plain=True)

    drawing = seeded(module) and draws(copy.deepcopy(module).to(device), few)
    if plainly:
        network = plain(0)
    elif len(starts) > 1:
        if drawing:
            raise Drawing(
                f"{training.model} draws random numbers in training: such networks train one by one (stacked, they "
                f"would draw from one stream)"
            )
        network = _stacked(training, copy.deepcopy(module), starts, device, plain, few)
    else:
        network = _single(training, copy.deepcopy(module), starts[0], device, plain, few)
    network.drawing = drawing
    return network


def _stacked(training, module, starts, device, plain, few) -> Stacked:
    try:
        network = Stacked(training, module, starts, device)
        why = _difference(network, {place: plain(place) for place in (0, len(starts) - 1)}, few)
        if not why:
            if network.bfloat16:  # in which some layers take no stack
                _rehearse(network, few)
            return network
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever vmap and a network of the user's have to say to each other
        why = in_a_line(error)
    raise NotStacked(f"networks of {training.model} cannot be stacked and train one by one: {why}")


def _single(training, module, start, device, plain, few) -> Network:
    if chain.fits(module, training, device):
        network = Chained(training, module, start, device)
    else:
        network = Single(training, module, start, device)
    if not network.ways:
        return network
    try:
        why = _difference(network, {0: plain(0)}, few)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # as a network that reads the weight of a layer which is now sparse
        why = in_a_line(error)
    if not why:
        return network
    ways = " and ".join(network.ways)
    warnings.warn(f"{training.model} trains without {ways}: {why}", Slower, stacklevel=4)
    return plain(0)


@undisturbed()
def stackable(training: Training, dataset: Dataset) -> bool:
    """Whether networks of a training can be stacked; if not, and not because they draw, a warning says why."""
    module = models.build(training.model, dataset.shape, dataset.classes)
    weights = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    start = Start(weights, masks.dense(weights, models.prunable(module)))
    try:
        build(training, dataset, [start, start])
    except NotStacked as error:
        if not isinstance(error, Drawing):
            warnings.warn(str(error), Slower, stacklevel=2)
        return False
    return True


def _check(training: Training, module: nn.Module, starts: Sequence[Start]) -> None:
    names, known = set(module.state_dict()), set(models.prunable(module))
    for start in starts:
        if set(start.weights) != names:
            raise TrainingError(f"the starting weights are not those of a {training.model}")
        if unknown := set(start.mask) - known:
            raise TrainingError(f"a mask for {sorted(unknown)}, which are not prunable weights of {training.model}")
        for name, kept in start.mask.items():
            if kept.shape != start.weights[name].shape:
                raise TrainingError(f"the mask of {name} has another shape than the weights")
            if kept.dtype != torch.bool:
                raise TrainingError(f"the mask of {name} is {kept.dtype}: True where a weight survives (.bool())")
        if start.mask and (missing := known - set(start.mask)):
            raise TrainingError(f"the mask of {training.model} lacks {sorted(missing)}: all True where nothing is cut")


@torch.no_grad()
def _difference(network: Network, plain: dict[int, Network], x: torch.Tensor) -> str | None:
    """What tells a network's outputs from those of the plain ones at these places; None if rounding does.

    Evaluated and in training, there with gradients, which hooks may change; the networks are left as they were. The
    papers' networks are compared evaluated alone: what they draw in training depends on how their tensors lie.
    """
    for training in (False, True)[: 1 if models.ours(network.module) and network.seeded else 2]:
        together = _tried(
            network, x if not training or network.count == 1 else x.expand(network.count, *x.shape), training
        )
        for place, one in plain.items():
            alone = _tried(one, x, training)
            noise = ROUNDING * max(map(_size, alone.gradients.values()), default=0.0)
            for what, found, wanted, least in (
                ("its outputs differ from those", together.outputs, alone.outputs, 0.0),
                ("its buffer {} differs from that", together.buffers, alone.buffers, 0.0),
                ("it changes {} by other amounts than that", together.moved, alone.moved, 0.0),
                ("its gradient of {} differs from that", together.gradients, alone.gradients, noise),
            ):
                if wanted.keys() != found.keys():
                    return (
                        f"{what.format(*(wanted.keys() ^ found.keys()))} of the plain network"
                        + " in training" * training
                    )
                for name, tensor in wanted.items():
                    got = found[name][place] if network.count > 1 else found[name]
                    close = max(1e-3 * _size(tensor), least)
                    if got.shape != tensor.shape or not torch.allclose(got, tensor, 1e-3, close, equal_nan=True):
                        return f"{what.format(name)} of the plain network" + " in training" * training
    return None


def _size(tensor: torch.Tensor) -> float:
    """The largest number of a tensor that is finite, without its sign."""
    return tensor.nan_to_num(0.0, 0.0, 0.0).abs().max().item() if tensor.numel() else 0.0


def _rehearse(network: Stacked, x: torch.Tensor) -> None:
    """A pass forward and back in the precision of the training; the network is left as it was."""
    with _put_back(network):
        network.module.train()
        logits = network.logits(x.expand(network.count, *x.shape).clone())
        torch.autograd.grad(logits.sum(), list(network.parameters.values()), allow_unused=True)


@contextlib.contextmanager
def _put_back(network: Network) -> Iterator[State]:
    """The weights and buffers of a network, which are put back in the end: a pass may change both."""
    before = {name: tensor.detach().clone() for name, tensor in network.state.items()}
    yield before
    with torch.no_grad():
        for name, tensor in before.items():
            network.state[name].copy_(tensor)


@dataclass
class _Pass:
    """What a pass gives: outputs, under the name "", buffers after it, by how much it changed which weights, and
    gradients of those that survive."""

    outputs: State
    buffers: State
    moved: State
    gradients: State


def _tried(network: Network, x: torch.Tensor, training: bool) -> _Pass:
    """A pass of a network, which is left as it was; gradients are those of a network of the user's in training."""
    differentiated = training and not models.ours(network.module)
    with _put_back(network) as before:
        network.module.train(training)
        with seeds.apart(x.device), multiplying("float32", x.device), torch.set_grad_enabled(differentiated):
            seed(0, x.device)
            outputs = network.forward(x.clone(), shared=not training).float()
            gradients = _gradients(network, outputs) if outputs.requires_grad else {}
        network.settle()
        buffers, moved = {}, {}
        for name, tensor in before.items():
            now = network.state[name].detach()
            if network.entries[name].buffer:
                buffers[name] = now.float().clone()
            elif not torch.equal(now, tensor):
                moved[name] = network.whole(name, now.float() - tensor.float())
    return _Pass({"": outputs.detach()}, buffers, moved, gradients)


def _gradients(network: Network, outputs: torch.Tensor) -> State:
    """Gradients of a sum in which each output of a network has a weight of its own; zero where it has no part."""
    each = outputs[0] if network.count > 1 else outputs
    weights = torch.linspace(-1, 1, each.numel(), device=outputs.device).view(each.shape)
    parameters = list(network.parameters.values())
    found = torch.autograd.grad((outputs * weights).sum(), parameters, allow_unused=True, materialize_grads=True)
    kept = {id(parameter): survive for parameter, survive in network.masked}
    masked = (g * kept.get(id(p), 1) for p, g in zip(parameters, found, strict=True))
    return {name: network.whole(name, gradient) for name, gradient in zip(network.parameters, masked, strict=True)}


def seeded(module: nn.Module) -> bool:
    """Whether steps are to draw from the run's own stream: of the papers' networks those with dropout, of others all,
    whatever they were seen to draw."""
    return not models.ours(module) or any(isinstance(layer, nn.Dropout) for layer in module.modules())


def draws(module: nn.Module, x: torch.Tensor, training: bool = True) -> bool:
    """Whether a network was seen to draw random numbers on a batch.

    Args:
        module: on the device of the batch; its buffers may change.
        x: a batch.
        training: of the module, during the pass.

    Raises:
        TrainingError: if it draws from Python's or NumPy's global generator, which no recipe seeds.
    """

    def states():
        device = [torch.cuda.get_rng_state(x.device)] if x.device.type == "cuda" else []
        return [torch.get_rng_state(), *device]

    def others():
        numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
        return random.getstate(), numpy["key"].tobytes(), numpy["pos"]

    module.train(training)
    for _ in range(5):  # threads that are not ours, such as those of a Dask worker, may draw from them meanwhile
        other = others()
        with torch.no_grad(), seeds.apart(x.device):
            before = states()
            module(x.clone())
            drew = not all(map(torch.equal, before, states()))
        if other == others():
            return drew
    raise TrainingError(
        f"{type(module).__name__} draws from Python's or NumPy's global generator, so no training of it could be "
        f"repeated: let it draw with torch (torch.rand, torch.nn.functional.dropout)"
    )


def memory(training: Training, dataset: Dataset) -> tuple[int, int]:
    """What each of several networks that train together takes on its device; estimates from above.

    Args:
        training: of which model, batch and optimiser count.
        dataset: of whose inputs two are tried, repeated.

    Returns:
        Bytes for training (weights, gradients, mask and optimiser, and what the backward pass keeps of a batch), and
        bytes an example for evaluation.
    """
    module = models.build(training.model, dataset.shape, dataset.classes)
    two = dataset.train[0][:2].cpu()
    few, twice = (_kept(module, two.repeat(times, *[1] * len(dataset.shape))) for times in (4, 8))
    kept = [(large - small) // 8 for small, large in zip(few, twice, strict=False)]
    weights = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    copies = 7 if training.optimiser == "adam" else 6
    return copies * weights + training.batch * sum(kept), 3 * max(kept, default=1)


def _kept(module: nn.Module, x: torch.Tensor) -> list[int]:
    """Bytes of each tensor that a forward pass keeps for the backward pass."""
    kept: list[int] = []

    def count(tensor):
        kept.append(tensor.numel() * tensor.element_size())
        return tensor

    with seeds.apart(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        module(x)
    return kept
