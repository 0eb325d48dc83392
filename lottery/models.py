"""The papers' networks as ordinary modules, and `register` for your own.

Every network draws its initial weights when it is constructed, so `initial_weights` works for any module. What its
tensors are (weights that may be pruned, shared or frozen ones, buffers) stands in one place, `table`.
"""

import contextlib
import copy
import functools
import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from . import LotteryError, seeds

State = dict[str, torch.Tensor]
Factory = Callable[[tuple[int, ...], int], nn.Module]

_registered: dict[str, Factory] = {}
NO_MEMORY = re.compile("can't allocate memory|(not enough|out of) memory", re.IGNORECASE)
_CALLED = "a factory is called with the shape of one input, a tuple, and the number of classes"


class ModelError(LotteryError):
    """A network that is unknown or does not fit the data."""


def _glorot(module: nn.Module) -> None:
    """Gaussian Glorot weights and zero biases (Frankle & Carbin 2019, Figure 2)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _kaiming(module: nn.Module) -> None:
    """Gaussian Kaiming weights (fan in), zero biases, normalisation scales uniform in [0, 1)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight)


class LeNet(nn.Module):
    """Fully connected network with ReLU; LeNet-300-100 has hidden layers of 300 and 100 units (LeCun et al. 1998).

    Args:
        shape: of one input; flattened.
        classes: units of the output layer.
        hidden: units of the hidden layers.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, hidden: tuple[int, ...] = (300, 100)):
        super().__init__()
        sizes = (torch.Size(shape).numel(), *hidden)
        self.hidden = [f"fc{i}" for i in range(1, len(sizes))]
        for name, fan_in, fan_out in zip(self.hidden, sizes, sizes[1:], strict=False):
            setattr(self, name, nn.Linear(fan_in, fan_out))
        self.output = nn.Linear(sizes[-1], classes)
        _glorot(self)

    def forward(self, x):
        x = x.flatten(1)
        for name in self.hidden:
            x = torch.relu(getattr(self, name)(x))
        return self.output(x)


class Conv(nn.Module):
    """Conv-2, -4, -6: pairs of 3×3 convolutions (64, 128, 256 channels), each pair followed by 2×2 max-pooling, then
    fully connected layers of 256, 256 and `classes` units (Frankle & Carbin 2019, Figure 2; scaled-down VGG).

    Args:
        shape: (channels, height, width) of one input; height and width at least 2 to the number of pairs.
        classes: units of the output layer.
        depth: 2, 4 or 6 convolutions.
        dropout: share of the units of the two hidden fully connected layers that a training step switches off; the
            paper's dropout runs have 0.5 (Section 3; it does not say in which layers).
        width: channels of the first pair, 64 in the paper; the other hidden layers have the same multiples of it.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int, dropout: float = 0.0, width: int = 64):
        super().__init__()
        channels, rows, columns = shape
        self.depth, self.drop = depth, nn.Dropout(dropout) if dropout else nn.Identity()
        for i in range(1, depth + 1):
            out = width * 2 ** ((i - 1) // 2)
            setattr(self, f"conv{i}", nn.Conv2d(channels, out, 3, padding=1))
            channels = out
        features = channels * (rows >> depth // 2) * (columns >> depth // 2)
        if features == 0:
            raise ModelError(f"images of {rows}×{columns} are too small for {depth // 2} poolings")
        self.fc1, self.fc2 = nn.Linear(features, 4 * width), nn.Linear(4 * width, 4 * width)
        self.output = nn.Linear(4 * width, classes)
        _glorot(self)

    def forward(self, x):
        for i in range(1, self.depth + 1):
            x = getattr(self, f"conv{i}")(x)
            x = torch.relu(nn.functional.max_pool2d(x, 2) if i % 2 == 0 else x)  # the same bits as before it
        x = self.drop(torch.relu(self.fc1(x.flatten(1))))
        return self.output(self.drop(torch.relu(self.fc2(x))))


class VGG(nn.Module):
    """VGG-19 for small images: normalised 3×3 convolutions of 64, 64, 128, 128, 4 × 256, 4 × 512, 4 × 512 channels, 2×2
    max-pooling after all but the last group, global average pooling, a linear layer; Gaussian Glorot weights
    (Frankle & Carbin 2019, Figure 2; Simonyan & Zisserman 2015 without their fully connected layers).

    Args:
        shape: (channels, height, width) of one input; poolings that would empty the image are left out, so 8×8 pixels
            are pooled three times.
        classes: units of the output layer.
        width: channels of the first group, 64 in the paper; the other groups have the same multiples of it.
    """

    def __init__(self, shape: tuple[int, ...], classes: int, width: int = 64):
        super().__init__()
        if len(shape) != 3:
            raise ModelError(f"VGG-19 takes images, not inputs of shape {tuple(shape)}")
        channels, layers = shape[0], []
        for group, (n, times) in enumerate([(2, 1), (2, 2), (4, 4), (4, 8), (4, 8)]):
            out = times * width
            for _ in range(n):
                layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
                channels = out
            if group < 4 and min(shape[1:]) >> group + 1:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.output = nn.Linear(channels, classes)
        _glorot(self)

    def forward(self, x):
        return self.output(self.features(x).mean((2, 3)))


class _Block(nn.Module):
    """Two normalised 3×3 convolutions beside a shortcut, which is a normalised 1×1 convolution where shapes change."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.norm2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """The residual network for small images: a 3×3 convolution, stages of residual blocks of which all but the first
    halve the image, global average pooling, a linear layer (He et al. 2016).

    Of depth 6n + 2: three stages of n blocks with 16, 32 and 64 channels. ResNet-20 is the network of Paul et al.
    (2023) on CIFAR-10 and, in Frankle & Carbin (2019), what they call ResNet-18; ResNet-8 (77,072 weights) is small
    enough for the digits. Of depth 18: four stages of two blocks with 64, 128, 256 and 512 channels, He et al.'s
    ResNet-18 with the first layer that small images ask for.

    Args:
        shape: (channels, height, width) of one input.
        classes: units of the output layer.
        depth: 8, 14, 20, …, or 18.
        init: "kaiming": Gaussian Kaiming weights, normalisation scales uniform in [0, 1) (Frankle et al. 2020 and
            Paul et al.'s code); "glorot": Gaussian Glorot weights, scales 1 (Frankle & Carbin 2019).
    """

    def __init__(self, shape: tuple[int, ...], classes: int, depth: int = 20, init: str = "kaiming"):
        super().__init__()
        if not _residual_depth(depth) or len(shape) != 3:
            raise ModelError(
                f"a residual network has depth 8, 14, 20, … or 18 and takes images, not depth {depth} and "
                f"inputs of shape {tuple(shape)}"
            )
        widths, n = ((64, 128, 256, 512), 2) if depth == 18 else ((16, 32, 64), depth // 6)
        channels = widths[0]
        self.conv, self.norm = nn.Conv2d(shape[0], channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        blocks = []
        for out in widths:
            for i in range(n):
                blocks.append(_Block(channels, out, 2 if i == 0 and out > widths[0] else 1))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Linear(channels, classes)
        if init == "glorot":
            _glorot(self)
        else:
            _kaiming(self)

    def forward(self, x):
        x = self.blocks(torch.relu(self.norm(self.conv(x))))
        return self.output(x.mean((2, 3)))


def _residual_depth(depth: int) -> bool:
    return depth == 18 or (depth % 6 == 2 and depth > 2)


def _factory(name: str) -> Factory | None:
    kind, *numbers = name.split("-")
    if kind == "lenet" and numbers and all(n.isdigit() and int(n) > 0 for n in numbers):
        return lambda shape, classes: LeNet(shape, classes, tuple(map(int, numbers)))
    if kind == "conv" and numbers[:1] in (["2"], ["4"], ["6"]):
        depth, more = int(numbers[0]), numbers[1:]
        if more in ([], ["dropout"]):
            return lambda shape, classes: Conv(shape, classes, depth, 0.5 if more else 0.0)
        if len(more) == 1 and more[0].isdigit() and int(more[0]):
            return lambda shape, classes: Conv(shape, classes, depth, width=int(more[0]))
    if kind == "vgg" and numbers[:1] == ["19"] and len(numbers) <= 2 and all(n.isdigit() and int(n) for n in numbers):
        return lambda shape, classes: VGG(shape, classes, *map(int, numbers[1:]))
    if kind == "resnet" and numbers[1:] in ([], ["glorot"]) and numbers and numbers[0].isdigit():
        depth, init = int(numbers[0]), "glorot" if numbers[1:] else "kaiming"
        return (lambda shape, classes: ResNet(shape, classes, depth, init)) if _residual_depth(depth) else None
    return _registered.get(name)


def register(name: str, factory: Factory) -> None:
    """Makes a network of your own usable in recipes.

    Args:
        name: used in recipes and so in the keys of results: give a changed network a new name.
        factory: `factory(shape, classes)` returns a freshly initialised `torch.nn.Module` that maps a batch of inputs
            `[N, *shape]` to logits [N, classes] and draws its initial weights with torch's default generator. Use a
            function or class of an importable module where worker processes or a cluster compute, and hand it what the
            script sets, by `functools.partial`: they import the module anew.

    Raises:
        ModelError: if the name is no text or one of the papers' networks, or the factory cannot be called like that.
    """
    if not isinstance(name, str) or not name.isprintable() or not name.strip():
        raise ModelError(f"{name!r}: the name of a network must be a text, in one line")
    if isinstance(factory, nn.Module) or not callable(factory):
        raise ModelError(f"{name!r}: {_CALLED}, not {type(factory).__name__}: lambda shape, classes: …")
    try:
        hash(factory)
    except TypeError:
        raise ModelError(
            f"{name!r}: its factory cannot be told from others ({type(factory).__name__} has no hash, as dataclasses "
            "have none): give a function, or @dataclass(frozen=True)"
        ) from None
    try:
        inspect.signature(factory).bind((1,), 2)
    except TypeError as error:
        raise ModelError(f"{name!r}: {_CALLED}; with these {error}") from None
    except ValueError:  # what is written in C may have no signature
        pass
    if name not in _registered and _factory(name):
        raise ModelError(f"{name!r} is the name of one of the papers' networks: choose another")
    _registered[name] = factory


def registered() -> dict[str, Factory]:
    """What `register` took in, to hand to worker processes."""
    return dict(_registered)


def adopt(factories: dict[str, Factory]) -> None:
    """Takes over the registered networks of another process."""
    _registered.update(factories)


def factory_of(name: str) -> Factory:
    """What makes a network, one of the papers' or one that was registered.

    Raises:
        ModelError: if no network has the name, with the known ones.
    """
    factory = _factory(name)
    if factory is None:
        known = ", ".join(
            [
                "lenet-300-100 (any widths)",
                "conv-2",
                "conv-4",
                "conv-6 (-dropout; -8: narrow)",
                "vgg-19 (-8: narrow)",
                "resnet-20 (8, 14, 20, … or 18; -glorot)",
                *_registered,
            ]
        )
        raise ModelError(f"no network {name!r}; known: {known}; your own: lottery.models.register(name, factory)")
    return factory


def build(name: str, shape: tuple[int, ...], classes: int, seed: int = 0) -> nn.Module:
    """Constructs a network with initial weights drawn under `seed`; torch's global generator is left as it was.

    A registered network is a copy of what its factory returned, so that tensors which the factory keeps (pretrained
    vectors) are never written to, its parameters lie in memory row by row (channels first), and it is handed a copy of
    each batch, so that one which works in place changes no data set.

    Raises:
        ModelError: if there is no such network or the input does not fit it, or if it has tensors that `table` refuses.
    """
    factory = factory_of(name)
    with seeds.apart():
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed the GPUs too
        module = _made(name, factory, shape, classes)
    if name in _registered:
        if not isinstance(module, nn.Module):
            raise ModelError(f"the factory of network {name!r} returned {type(module).__name__}, not a torch.nn.Module")
        if any(isinstance(layer, torch.jit.ScriptModule) for layer in module.modules()):
            raise ModelError(f"network {name!r} is compiled by torch.jit: register the module that it was made from")
        _check_tensors(name, module)
        with contextlib.suppress(Exception):  # what cannot be copied is refused before it trains
            module = copy.deepcopy(module)
        for parameter in module.parameters():
            parameter.data = parameter.data.contiguous()
        module.register_forward_pre_hook(_copied)
    return module


def _made(name: str, factory: Factory, shape: tuple[int, ...], classes: int) -> nn.Module:
    try:
        return factory(shape, classes)
    except Exception as error:
        if name not in _registered or isinstance(error, LotteryError):
            raise
        raise ModelError(
            f"the factory of network {name!r} failed: {type(error).__name__}: {error} ({_CALLED}; here "
            f"{tuple(shape)} and {classes})"
        ) from error


def same_object(name: str, shape: tuple[int, ...], classes: int) -> bool:
    """Whether a network's factory returns one and the same module each time, and so draws no weights of its own."""
    factory = factory_of(name)
    with seeds.apart():
        return _made(name, factory, shape, classes) is _made(name, factory, shape, classes)


def ours(module: nn.Module) -> bool:
    """Whether a module is one of the papers' networks as they stand here, of which all is known.

    What a factory of the user's has returned is not, whatever its class: it may have been changed.
    """
    return type(module) in (LeNet, Conv, VGG, ResNet) and _copied not in module._forward_pre_hooks.values()


def own_copy(module: nn.Module) -> nn.Module:
    """A copy that leaves alone what it is given: a network may change its inputs in place."""
    copied = copy.deepcopy(module)
    if not ours(copied) and _copied not in copied._forward_pre_hooks.values():
        copied.register_forward_pre_hook(_copied)
    return copied


def _copied(module: nn.Module, inputs: tuple) -> tuple:
    return tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in inputs)


def _check_tensors(name: str, module: nn.Module) -> None:
    for key, parameter in module.named_parameters():
        if parameter.requires_grad and parameter.dtype not in (torch.float32, torch.float64):
            raise ModelError(
                f"network {name!r}: {key} is {parameter.dtype}: weights are float32 here (.float()); a training of "
                f"precision='bf16' multiplies in bfloat16"
            )
        if parameter._backward_hooks or parameter._post_accumulate_grad_hooks:
            raise ModelError(
                f"network {name!r}: {key} has a hook on its gradient, which copies of a network lose: change what the "
                f"layer computes instead"
            )
    for key, tensor in tensors(module).items():
        if nn.parameter.is_lazy(tensor):
            raise ModelError(
                f"network {name!r}: {key} has no shape yet (a lazy layer): pass one batch of zeros through the "
                f"network in its factory, or use the layer that is not lazy"
            )
        if tensor.is_meta:
            raise ModelError(
                f"network {name!r}: {key} is on the device 'meta', where tensors have no numbers: let the factory "
                f"build the network on the CPU"
            )
        if tensor.layout != torch.strided:
            raise ModelError(
                f"network {name!r}: {key} is {str(tensor.layout).removeprefix('torch.')}, which cannot be copied and "
                f"saved as other tensors are: register it dense (.to_dense()), and make it sparse in forward"
            )
    parameters = {key for key, _ in module.named_parameters()}
    for first, second in overlapping(module):
        if first in parameters and second in parameters:
            raise ModelError(
                f"network {name!r}: {first} and {second} are two parameters in the same memory, which cannot be pruned "
                f"as two: let the layers share one (second.weight = first.weight), or clone it"
            )
        if first in parameters:
            raise ModelError(
                f"network {name!r}: the buffer {second} is in the memory of the parameter {first}, and copies of "
                f"the network would keep it as it was while that is trained: read {first} in forward, or clone it"
            )
    if odd := sorted(set(module.state_dict()) - first_names(module).keys()):
        raise ModelError(f"network {name!r}: {', '.join(odd)} of its state dict is no parameter or buffer")


def overlapping(module: nn.Module) -> list[tuple[str, str]]:
    """Pairs of a network's parameters and buffers that have numbers in the same memory, parameters first.

    Several names of one tensor are no pair.
    """
    there: dict[int, list[tuple[str, torch.Tensor, int, int]]] = {}
    found = []
    for key, tensor in tensors(module).items():
        if not tensor.numel() or tensor.is_meta or tensor.layout != torch.strided:
            continue
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        begin = tensor.data_ptr()
        end = begin + (1 + sum((size - 1) * step for size, step in steps)) * tensor.element_size()
        others = there.setdefault(tensor.untyped_storage().data_ptr(), [])
        near = [(name, other) for name, other, low, high in others if low < end and begin < high]
        found += [(name, key) for name, other in near if _meet(other, tensor)]
        others.append((key, tensor, begin, end))
    return found


def _meet(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one storage, whose spans overlap, share a number: the halves of rows, say, do not."""
    if one.element_size() != other.element_size():
        return True
    places = []
    for tensor in (one, other):
        at = torch.zeros((), dtype=torch.int64)
        for size, step in zip(tensor.shape, tensor.stride(), strict=True):
            at = at[..., None] + torch.arange(size) * step
        places.append(at.flatten() + tensor.storage_offset())
    return bool(torch.isin(*places).any())


def initial_weights(name: str, shape: tuple[int, ...], classes: int, seed: int) -> State:
    """The initial state dict (parameters and buffers) of a network under `seed`."""
    return {key: tensor.detach().clone() for key, tensor in build(name, shape, classes, seed).state_dict().items()}


# What the tensors of a network are.

BY_DIMENSION = [getattr(nn, f"{kind}{n}d") for kind in ("BatchNorm", "InstanceNorm") for n in (1, 2, 3)]
NORMALISATION = (*BY_DIMENSION, nn.SyncBatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *TRANSPOSED)


@dataclass(frozen=True)
class Entry:
    """One tensor of a network.

    Attributes:
        name: its first name, the one that `named_parameters` gives it.
        aliases: its other names where layers share it; a state dict has them all.
        shape: its shape.
        kind: of a weight, trained or not (see `prunable`), else None.
        trainable: a parameter that asks for a gradient.
        buffer: a buffer and no parameter.
        persistent: part of the state dict.
        parametrised: what a layer's weight is computed from (weight norm, spectral norm).
    """

    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str | None
    trainable: bool
    buffer: bool
    persistent: bool
    parametrised: bool


def table(module: nn.Module) -> dict[str, Entry]:
    """Every parameter and buffer of a network, once: first name → what it is, in order of registration."""
    persistent, names = set(module.state_dict()), {}
    for given in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        for name, tensor in given:
            names.setdefault(id(tensor), (tensor, []))[1].append(name)
    entries = {}
    for tensor, (name, *aliases) in names.values():
        parameter = isinstance(tensor, nn.Parameter)
        owner, own, parametrised = place(module, name)
        trainable = parameter and tensor.requires_grad
        kind = _kind(module.get_submodule(owner), own, tensor, parametrised) if parameter else None
        entries[name] = Entry(
            name, tuple(aliases), tuple(tensor.shape), kind, trainable, not parameter, name in persistent, parametrised
        )
    return entries


def tensors(module: nn.Module) -> State:
    """The parameters and buffers of a network themselves, each once, by their first names; parameters come first."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def first_names(module: nn.Module) -> dict[str, str]:
    """Every name of a network's parameters and buffers → the first name of the same tensor."""
    return {name: entry.name for entry in table(module).values() for name in (entry.name, *entry.aliases)}


def place(module: nn.Module, name: str) -> tuple[str, str, bool]:
    """Where a tensor is: its layer, its own name there, and whether what the layer calls so is computed from it."""
    owner, _, own = name.rpartition(".")
    parametrised = isinstance(module.get_submodule(owner), parametrize.ParametrizationList)
    if parametrised:
        owner, _, own = f".{owner}".rpartition(".parametrizations.")
    return owner.removeprefix("."), own, parametrised


def _kind(layer: nn.Module, own: str, tensor: torch.Tensor, parametrised: bool) -> str | None:
    """The kind of a layer's parameter called `own`; None for what is no weight."""
    if tensor.ndim < 2 or not tensor.numel() or own.startswith("bias"):
        return None
    if isinstance(layer, NORMALISATION) and own == "weight":
        return None
    known = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, *CONVOLUTIONS)
    weight = own == "weight" and not parametrised and isinstance(layer, known)
    recurrent = isinstance(layer, nn.RNNBase | nn.RNNCellBase)
    if tensor.numel() == max(tensor.shape) and not (weight or recurrent):
        return None  # a scale, a token, the lengths of weight norm: a vector in the shape of a matrix
    if isinstance(layer, CONVOLUTIONS):
        return "conv"
    if isinstance(layer, nn.Linear | nn.MultiheadAttention):
        return "fc"
    if recurrent:
        return "recurrent"
    return "embedding" if isinstance(layer, nn.Embedding | nn.EmbeddingBag) else "other"


def evaluating(module: nn.Module) -> nn.Module:
    """The module, in evaluation: a `train` of the user's own may return nothing."""
    module.eval()
    return module


@contextlib.contextmanager
def one_function():
    """Transformers compute what they do in training: the path that PyTorch keeps for inference gives another number at
    padded positions, so that losses would be of another function than is trained."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def wide(logits: torch.Tensor) -> torch.Tensor:
    """Logits of half a precision as float32, in which losses are computed; others as they are."""
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def still(module: nn.Module) -> nn.Module:
    """The module with the flags of evaluation, for gradients: a `train` of the user's own is not asked for evaluation,
    for weights that it merges or caches then have none."""
    module.train()
    for layer in module.modules():
        layer.training = False
    return module


def load(module: nn.Module, state: State) -> None:
    """Fills a module with a full state dict; where layers share a tensor, its first name decides."""
    first, training = first_names(module), module.training
    module.train()  # a module may have merged or cached weights for evaluation
    module.load_state_dict({name: state[first.get(name, name)] for name in state})
    module.train(training)


def once(module: nn.Module, state: State) -> State:
    """A state without the other names of shared tensors, as `torch.func.functional_call` takes it."""
    first = first_names(module)
    return {name: tensor for name, tensor in state.items() if first.get(name, name) == name}


def normalisation(module: nn.Module) -> list[str]:
    """Names in the state dict of what normalisation layers hold: scale, shift and running statistics."""
    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, NORMALISATION)]
    return [f"{name}.{key}" if name else key for name, layer in layers for key in layer.state_dict()]


def prunable(module: nn.Module) -> dict[str, str]:
    """The weights that may be pruned, in order of registration, each with its kind.

    These are all trainable parameters of two or more dimensions, each counted once however many layers share it:
    matrices and filters, recurrent weights, embeddings, what weight norm and spectral norm compute a weight from, and a
    module's own. Biases, normalisation parameters and what is a vector in the shape of a matrix are never pruned; nor
    are frozen weights, which `unpruned` names. The kind is "conv", "fc" (attention too), "recurrent", "embedding",
    "other" or "output" (the last linear or convolutional layer, if it is linear and its weights are not another kind's,
    as those of a head tied to an embedding): Frankle & Carbin prune the output layer at half the rate of the others.
    Where that layer is frozen there is none.

    Returns:
        Parameter name → kind.
    """
    known = table(module)
    kinds = {name: entry.kind for name, entry in known.items() if entry.kind}
    first = {alias: name for name in kinds for alias in known[name].aliases}
    uses: dict[str, str | None] = {**kinds}  # by every name: a head may share the weights of an embedding
    for alias, name in first.items():
        owner, own, parametrised = place(module, alias)
        uses[alias] = _kind(module.get_submodule(owner), own, module.get_parameter(name), parametrised)
    named = module.named_parameters(remove_duplicate=False)
    if layers := [name for name, _ in named if uses.get(name) in ("conv", "fc")]:
        last = first.get(layers[-1], layers[-1])
        if kinds[last] == "fc":
            kinds[last] = "output"
    return {name: kind for name, kind in kinds.items() if known[name].trainable}


def sizes(module: nn.Module) -> dict[str, int]:
    """How many weights of each kind may be pruned: the kinds of `prunable` → number."""
    weights, found = dict(module.named_parameters()), {}
    for name, kind in prunable(module).items():
        found[kind] = found.get(kind, 0) + weights[name].numel()
    return found


def unpruned(module: nn.Module) -> dict[str, int]:
    """The weights that `prunable` leaves out because they are frozen, or matrices called biases: name → number."""
    found = {}
    for name, parameter in module.named_parameters():
        matrix = parameter.numel() > max(parameter.shape, default=0) and name.rpartition(".")[2].startswith("bias")
        if parameter.ndim > 1 and (matrix or not parameter.requires_grad):
            found[name] = parameter.numel()
    return found


def padding(module: nn.Module) -> dict[str, int]:
    """The weights of embeddings that have a row for padding, which is zero and is not trained: name → row."""
    first, found = first_names(module), {}
    for place, layer in module.named_modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.padding_idx is not None:
            name = f"{place}.weight".removeprefix(".")
            found[first.get(name, name)] = layer.padding_idx
    return found


class FewerAtOnce(UserWarning):
    """What does not fit into memory goes on with fewer runs or examples at once; results are the same."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory has ended, of a GPU or of the machine."""
    return isinstance(error, MemoryError) or NO_MEMORY.search(str(error)) is not None


def fitting(work: Callable[[int], Any], at_once: int) -> Any:
    """What a computation gives with as many examples at once as fit into memory, and at most so many.

    Where memory ends it begins anew with half of them.
    """
    while True:
        try:
            return work(at_once)
        except (MemoryError, RuntimeError) as error:  # of which torch.OutOfMemoryError is one
            if at_once == 1 or not out_of_memory(error):
                raise
        # Outside of the clause, for the error holds the frames, and these the tensors.
        at_once = (at_once + 1) // 2
        warnings.warn(f"memory ends: it goes on with {at_once} examples at once", FewerAtOnce, stacklevel=2)


def evaluate(forward: Callable, inputs: torch.Tensor, labels: torch.Tensor, batch: int = 1000):
    """Mean cross-entropy and accuracy, each example seen exactly once; logits that are no numbers are no answer.

    Args:
        forward: maps inputs [N, ...] to logits [N, classes], or to [R, N, classes] for R stacked networks.
        inputs, labels: [N, ...] and [N].
        batch: examples at a time, or fewer where memory ends.

    Returns:
        Two float64 arrays of shape [R] (R = 1 for a single network).
    """
    return fitting(functools.partial(_evaluated, forward, inputs, labels), batch)


def _evaluated(forward: Callable, inputs: torch.Tensor, labels: torch.Tensor, batch: int):
    loss = correct = torch.zeros((), dtype=torch.float64, device=inputs.device)
    for x, y in zip(inputs.split(batch), labels.split(batch), strict=True):
        logits = forward(x)
        logits = logits[None] if logits.ndim == 2 else logits
        target = y.expand(len(logits), -1)
        losses = cross_entropy(logits.transpose(1, 2), target, reduction="none")
        loss = loss + losses.double().sum(1)
        correct = correct + ((logits.argmax(2) == target) & ~losses.isnan()).double().sum(1)
    return (loss / len(labels)).cpu().numpy(), (correct / len(labels)).cpu().numpy()


def gradients(module: nn.Module, state: State, weights: State, inputs: torch.Tensor, labels: torch.Tensor) -> State:
    """Gradients of the mean cross-entropy in some weights, without dropout; zero where the outputs do not hang on them.

    Args:
        module: the architecture, to be used up.
        state: all its tensors.
        weights: those of the state in which to differentiate, by name.
        inputs, labels: [N, ...] and [N]; as many at once as fit into memory.
    """
    module, weights = still(module), {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
    now, free = {**state, **weights}, list(weights.values())

    def summed(at_once: int) -> list[torch.Tensor]:
        total = [torch.zeros_like(weight) for weight in free]
        for x, y in zip(inputs.split(at_once), labels.split(at_once), strict=True):
            share = len(y) / len(labels)
            _, found = slopes(module, now, free, lambda of, x=x, y=y, share=share: cross_entropy(of(x), y) * share)
            total = [one + more for one, more in zip(total, found, strict=True)]
        return total

    return dict(zip(weights, fitting(summed, len(labels)), strict=True))


def slopes(
    module: nn.Module, state: State, free: Sequence[torch.Tensor], loss: Callable[[nn.Module], torch.Tensor]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A loss of a module under the tensors of a state, and its gradients in some of them; zero where it does not hang
    on them.

    Args:
        module: the architecture.
        state: all its tensors.
        free: leaves that require gradients, of which the state is made.
        loss: module → a number.
    """

    def both(module: nn.Module) -> torch.Tensor:
        value = loss(module)
        if value.requires_grad:
            value.backward()  # `autograd.grad` cannot go through a reentrant checkpoint
        return value.detach()

    for leaf in free:
        leaf.grad = None
    value = functional_call(_Inside(module, both), {f"module.{key}": t for key, t in once(module, state).items()}, ())
    return value, [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in free]


class _Inside(nn.Module):
    """Does something with a module while `functional_call` has other tensors in it. So a backward pass there finds the
    same ones: activation checkpoints compute anew in it."""

    def __init__(self, module: nn.Module, does: Callable[[nn.Module], torch.Tensor]):
        super().__init__()
        self.module, self.does = module, does

    def forward(self) -> torch.Tensor:
        return self.does(self.module)


class Double(TorchFunctionMode):
    """Lets a network that was made float64 compute in it throughout: what its forward names float32, or makes without a
    name, is float64 here."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        widened: Any = torch.Tensor.double if func is torch.Tensor.float else func
        args = [torch.float64 if one is torch.float32 else one for one in args]
        named = {key: torch.float64 if one is torch.float32 else one for key, one in (kwargs or {}).items()}
        result = widened(*args, **named)
        single = isinstance(result, torch.Tensor) and result.dtype is torch.float32
        return result.double() if single else result
