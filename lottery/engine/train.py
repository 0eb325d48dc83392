"""The engine: trains one masked network, or several at once that share everything but weights, mask and data order.

Data are resident tensors and a batch is an index. Masks act on the starting weights once and on every gradient, so a
pruned weight is exactly zero after every step (also under momentum, weight decay and Adam), which equals masking in
the forward pass at a fraction of its cost; large linear layers with few survivors multiply those alone
(`sparse`). One network runs as the plain module; several run as one module under `torch.vmap` over stacked
parameters, which pays on a GPU (on a CPU use one process a run).

On a GPU steps run as a CUDA graph (`graphs`). A training says in which precision its products are computed;
weights, optimiser and all that is recorded are float32.
"""

import contextlib
import ctypes
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from .. import LotteryError, masks, models, seeds
from ..data import Dataset
from ..models import State, evaluate
from ..recipes import Training
from . import graphs, sparse
from .sparse import SparseLinear

TOGETHER = 2**31  # bytes that networks which train together may take to evaluate a batch
COLUMNS = ("step", "train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")


class TrainingError(LotteryError):
    """A training that cannot be done or that diverged."""


class OutOfTime(LotteryError):
    """The time given is up; what was begun is saved and goes on when it is asked for again."""


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


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of one training.

    Attributes:
        history: column → array over the recorded grid (`COLUMNS`); losses are mean cross-entropies in nats, accuracies
            fractions, `train_loss` the mean over the batches since the row before.
        states: step → state dict, for the steps asked for and the last.
        train_loss, train_accuracy: of the final weights on the training set, without augmentation.
    """

    history: dict[str, np.ndarray]
    states: dict[int, State]
    train_loss: float
    train_accuracy: float


class Checkpoint(Protocol):
    """Where an interrupted training goes on from; `lottery.engine.store` has one on disk."""

    def load(self) -> State | None:
        """The last saved tensors, or None."""

    def save(self, tensors: State) -> None:
        """Keeps the tensors in place of what was saved before."""


def tune_process(threads: int = 1) -> None:
    """Sets this process up for training on a CPU: `threads` threads, and freed memory kept warm.

    glibc gives large freed blocks back to the kernel and faults them in again at every step; raising two thresholds
    (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD) ends that.
    """
    torch.set_num_threads(threads)
    if os.name == "posix":
        try:
            libc = ctypes.CDLL("libc.so.6")
        except OSError:
            return  # another C library
        libc.mallopt(-1, 1_000_000_000)
        libc.mallopt(-3, 1_000_000_000)


def check_precision(precision: str, device: str | torch.device) -> None:
    """Refuses a precision that a device does not have.

    Raises:
        TrainingError: saying which devices have it.
    """
    kind = torch.device(device).type
    if precision == "tf32" and (kind != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)):
        raise TrainingError(
            "precision 'tf32' is one of NVIDIA GPUs of compute capability 8.0 or more: take such a "
            "device, or 'float32' or 'bf16'"
        )
    if precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise TrainingError(f"{torch.cuda.get_device_name(device)} does not compute in bfloat16: take 'float32'")


@contextlib.contextmanager
def multiplying(precision: str, device: torch.device):
    """Products of float32 on a GPU are done in TF32 if the precision is "tf32", else to the full 24 bits.

    PyTorch itself lets convolutions use TF32 unless told otherwise.
    """
    if device.type != "cuda":
        yield
        return
    places = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def memory(training: Training, shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    """What each of several networks that train together takes on its device; estimates from above.

    Args:
        training: of which model, batch and optimiser count.
        shape, classes: of the data.

    Returns:
        Bytes for training (weights, gradients, mask and optimiser, and what the backward pass keeps of a batch), and
        bytes an example for evaluation.
    """
    module, kept = models.build(training.model, shape, classes), []

    def count(tensor):
        if tensor.shape[:1] == (2,):
            kept.append(tensor.numel() * tensor.element_size() // 2)
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        module(torch.zeros(2, *shape))
    weights = sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())
    copies = 7 if training.optimiser == "adam" else 6
    return copies * weights + training.batch * sum(kept), 3 * max(kept, default=1)


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random horizontal flip and random crop after zero padding by 4 pixels, on the images' own device.

    Args:
        x: images [N, C, H, W].
        generator: on the CPU, so that draws do not depend on the device.

    Returns:
        New images of the same shape.
    """
    return _moved(x, _draws(len(x), generator).to(x.device))


def _draws(n: int, generator: torch.Generator) -> torch.Tensor:
    """Shift down, shift to the right and flip of n images: whole numbers [3, n]."""
    shifts = torch.randint(0, 9, (2, n), generator=generator)
    return torch.cat([shifts, torch.randint(0, 2, (1, n), generator=generator, dtype=torch.bool)])


def _moved(x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    n, _, height, width = x.shape
    flip = draws[2].bool()
    rows = draws[0, :, None] + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(n, -1)
    columns = draws[1, :, None] + torch.where(flip[:, None], width - 1 - columns, columns)
    padded = nn.functional.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    one = torch.arange(n, device=x.device)
    return padded[one[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


class _Batches:
    """The batches of R runs: a function of (seed, order, step) alone, so resuming needs no state."""

    def __init__(self, training: Training, orders: Sequence[tuple[int, ...]], examples: int, device):
        self.seed, self.orders, self.batch, self.examples = training.seed, orders, training.batch, examples
        self.per_epoch, self.device, self.epoch = examples // training.batch, device, -1
        if not self.per_epoch:
            raise TrainingError(f"a batch of {self.batch} is larger than the {examples} training examples")

    def __getitem__(self, step: int) -> torch.Tensor:
        """Indices [R, B] of the training examples of a step."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            streams = (seeds.generator(self.seed, seeds.ORDER, *order, epoch) for order in self.orders)
            permutations = np.stack([stream.permutation(self.examples) for stream in streams])
            self.permutations, self.epoch = torch.from_numpy(permutations).to(self.device), epoch
        return self.permutations[:, place * self.batch : (place + 1) * self.batch]

    def augmentation(self, step: int) -> torch.Tensor:
        """What `augment` draws for the images of a step, run after run: [3, R B]."""
        streams = (
            torch.Generator().manual_seed(seeds.integer(self.seed, seeds.AUGMENT, *order, step))
            for order in self.orders
        )
        return torch.cat([_draws(self.batch, stream) for stream in streams], 1).to(self.device, non_blocking=True)


def draws(module: nn.Module) -> bool:
    """Whether a network draws random numbers in training: then it trains alone, from its own stream."""
    return any(isinstance(layer, nn.modules.dropout._DropoutNd) for layer in module.modules())


class _Network:
    """One network, or R stacked ones, behind one interface; tensors of R networks have a leading axis R."""

    def __init__(self, training: Training, dataset: Dataset, starts: Sequence[Start], device):
        self.module = models.build(training.model, dataset.shape, dataset.classes).to(device)
        self.stacked, self.device = len(starts) > 1, torch.device(device)
        self.casts = training.precision == "bf16"
        last = training.layout == "channels_last" and not self.stacked
        self.layout = torch.channels_last if last else torch.contiguous_format
        self.buffers = {name for name, _ in self.module.named_buffers()}
        known = set(models.prunable(self.module))
        for start in starts:
            if set(start.weights) != set(self.module.state_dict()):
                raise TrainingError(f"the starting weights are not those of a {training.model}")
            if unknown := set(start.mask) - known:
                raise TrainingError(f"a mask for {sorted(unknown)}, which are not prunable weights of {training.model}")
            for name, kept in start.mask.items():
                if kept.shape != start.weights[name].shape:
                    raise TrainingError(f"the mask of {name} has another shape than the weights")
        masked = [masks.apply(start.weights, start.mask) for start in starts]
        self.draws = draws(self.module)
        if self.stacked and self.draws:
            raise TrainingError("networks with dropout train one by one: stacked, they would draw from one stream")
        self.module.load_state_dict(masked[0])
        self.sparse: dict[str, SparseLinear] = {}
        for name, kept in starts[0].mask.items():
            place = name.rpartition(".")[0]
            if place and not self.stacked and not self.casts and sparse.pays(self.module.get_submodule(place), kept):
                self.sparse[name] = SparseLinear(self.module.get_submodule(place), kept)
                self.module.set_submodule(place, self.sparse[name])
        if self.stacked:
            stack = {name: torch.stack([state[name] for state in masked]).to(device) for name in masked[0]}
            self.parameters = {n: stack[n].requires_grad_() for n, _ in self.module.named_parameters()}
            self.state = {name: stack[name] for name in self.buffers} | self.parameters
        else:
            self.parameters = dict(self.module.named_parameters())
            self.state = self.parameters | dict(self.module.named_buffers())
            for tensor in self.state.values():
                tensor.data = self.laid(tensor.data)
        self.masked, self.mask = [], []
        for name in (name for name in starts[0].mask if name not in self.sparse):
            kept = torch.stack([start.mask[name] for start in starts]).to(device)
            if not kept.all():
                self.masked.append(self.parameters[name])
                self.mask.append(self.laid((kept if self.stacked else kept[0]).float()))

    def laid(self, tensor: torch.Tensor) -> torch.Tensor:
        """The tensor in the memory layout that images and their filters have here."""
        return tensor.contiguous(memory_format=self.layout) if tensor.ndim == 4 and not self.stacked else tensor

    def forward(self, x: torch.Tensor, shared: bool = False) -> torch.Tensor:
        """Logits of a batch; of shape [R, B, classes] when stacked, where `shared` gives all networks the same x."""
        if not self.stacked:
            return self.module(self.laid(x))

        def one(state, x):
            return torch.func.functional_call(self.module, state, (x,))

        return torch.vmap(one, in_dims=(0, None if shared else 0), randomness="different")(self.state, x)

    def losses(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of a training batch, in the precision of the training; of shape [R] when stacked."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.casts, cache_enabled=False):
            logits = self.forward(x)
        logits = logits.float() if self.casts else logits
        if not self.stacked:
            return cross_entropy(logits, target)
        return cross_entropy(logits.transpose(1, 2), target, reduction="none").mean(1)

    def snapshot(self, index: int) -> State:
        """A full copy of one network's state dict."""
        copy = {}
        for name in self.module.state_dict():
            tensor = self.state[name].detach()
            tensor = (tensor[index] if self.stacked else tensor).cpu()
            copy[name] = tensor.clone(memory_format=torch.contiguous_format)
            if name in self.sparse:
                copy[name] = self.sparse[name].whole(copy[name])
        return copy


def train(
    training: Training,
    dataset: Dataset,
    starts: Sequence[Start],
    keep: Iterable[int] = (),
    checkpoint: Checkpoint | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Callable[[int], None] | None = None,
    deadline: float | None = None,
) -> list[Outcome]:
    """Trains the networks from their starts to `training.steps`.

    On a CPU, two executions agree bit for bit, interrupted or not; stacked and single execution agree to rounding.

    Args:
        training: the hyperparameters.
        dataset: resident on the device where training is to happen.
        starts: one or more, all at the same step; the starting weights are never changed.
        keep: steps whose states are kept beside the last.
        checkpoint: where to go on from after an interruption, and where to save every `checkpoint_seconds`.
        progress: called with the number of steps done (of each network) since its last call; those of an interrupted
            training are in the first.
        deadline: the time (`time.time()`) at which to save to the checkpoint and stop.

    Returns:
        One outcome for each start.

    Raises:
        OutOfTime: at the deadline.
        TrainingError: if starts do not fit the network or each other, a loss is not finite, or the device does not have
            the precision.
    """
    first, last = starts[0].step, training.steps
    if any(start.step != first or set(start.mask) != set(starts[0].mask) for start in starts):
        raise TrainingError("networks that train together must start at the same step and mask the same layers")
    keep = {step for step in keep if first <= step <= last} | {last}
    device = dataset.train[0].device
    check_precision(training.precision, device)
    network = _Network(training, dataset, starts, device)
    x, y = dataset.train
    batches = _Batches(training, [start.order for start in starts], len(y), device)
    parameters = list(network.parameters.values())
    if training.optimiser == "adam":
        optimiser = torch.optim.Adam(parameters, training.lr, weight_decay=training.weight_decay, fused=True)
    else:
        optimiser = torch.optim.SGD(
            parameters, training.lr, training.momentum, weight_decay=training.weight_decay, fused=True
        )
    together = len(starts) * memory(training, dataset.shape, dataset.classes)[1] if network.stacked else 1
    at_once = max(1, min(1000, TOGETHER // together))
    grid = set(training.grid(first))
    rows: list[np.ndarray] = []
    states: list[dict[int, State]] = [{} for _ in starts]
    train_loss = torch.zeros(len(starts), dtype=torch.float64, device=device)
    step, since = first, 0

    def advance(index, draws):
        """One step, all of it on the device."""
        inputs, target = x[index], y[index]
        if draws is not None:
            images = inputs.flatten(0, 1) if network.stacked else inputs
            images = _moved(images, draws)
            inputs = images.view(inputs.shape) if network.stacked else images
        with multiplying(training.precision, device):
            losses = network.losses(inputs, target)
            optimiser.zero_grad(set_to_none=True)
            losses.sum().backward()
        if network.masked:
            torch._foreach_mul_([weight.grad for weight in network.masked], network.mask)
        optimiser.step()
        train_loss.add_(losses.detach())

    def record():
        nonlocal since
        network.module.eval()
        with torch.no_grad(), multiplying("float32", device):
            columns = [
                np.full(len(starts), step),
                (train_loss / since).cpu().numpy() if since else np.nan * np.ones(len(starts)),
            ]
            for part in (dataset.validation, dataset.test):
                columns += evaluate(lambda inputs: network.forward(inputs, shared=True), *part, at_once)
        network.module.train()
        rows.append(np.stack(columns, 1))
        if not np.isfinite(rows[-1][:, 2]).all():
            raise TrainingError(f"the loss is not finite at step {step}: lower the learning rate ({training.lr})")
        train_loss.zero_()
        since = 0

    def keep_states():
        for index, kept in enumerate(states):
            kept[step] = network.snapshot(index)

    saved = checkpoint.load() if checkpoint else None
    if saved is not None:  # a study that has since come to ask for an earlier state starts over
        passed = {step for step in keep if step <= int(saved["at"][0])}
        fits = all(saved[f"network/{name}"].shape == tensor.shape for name, tensor in network.state.items())
        fits = fits and all(any(key.startswith(f"kept/0/{step}/") for key in saved) for step in passed)
        saved = saved if fits else None
    network.module.train()
    if saved is None:
        record()
        if step in keep:
            keep_states()
    else:
        step, since, rows, states = _restore(saved, network, optimiser, train_loss)
    told, saved_at = first, time.monotonic()
    act, rate = advance, None
    if graphs.worth(device) and not network.draws:  # a graph reads its learning rate from a tensor
        act = graphs.Replayed(advance, optimiser, [*network.state.values(), train_loss])
        rate = torch.zeros((), device=device)
        for group in optimiser.param_groups:
            group["lr"] = rate
    while step < last:
        if deadline is not None and time.time() >= deadline:
            if checkpoint and step > first:
                checkpoint.save(_frozen(step, since, rows, states, network, optimiser, train_loss))
            raise OutOfTime(f"time is up at step {step} of {last}")
        if rate is not None:
            rate.fill_(training.learning_rate(step))
        else:
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate(step)
        index = batches[step] if network.stacked else batches[step][0]
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], enabled=network.draws):
            if network.draws:  # dropout, like the batches, is a function of (seed, order, step)
                torch.manual_seed(seeds.integer(training.seed, seeds.DROPOUT, *starts[0].order, step))
            act(index, batches.augmentation(step) if training.augment else None)
        step, since = step + 1, since + 1
        if step in grid:
            record()
        if step in keep:
            keep_states()
        if step % 100 == 0 or step == last:
            if progress:
                progress(step - told)
                told = step
            if checkpoint and step < last and time.monotonic() - saved_at > checkpoint_seconds:
                checkpoint.save(_frozen(step, since, rows, states, network, optimiser, train_loss))
                saved_at = time.monotonic()
    network.module.eval()
    with torch.no_grad(), multiplying("float32", device):
        final = evaluate(lambda inputs: network.forward(inputs, shared=True), x, y, at_once)
    table = np.stack(rows, 2)
    return [
        Outcome(dict(zip(COLUMNS, table[i], strict=True)), states[i], float(final[0][i]), float(final[1][i]))
        for i in range(len(starts))
    ]


def _frozen(step, since, rows, states, network, optimiser, train_loss) -> State:
    """Everything that a training needs to go on, as tensors."""
    tensors = {"at": torch.tensor([step, since]), "rows": torch.from_numpy(np.stack(rows)), "train_loss": train_loss}
    tensors |= {f"network/{name}": tensor.detach() for name, tensor in network.state.items()}
    for index, slots in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{slot}": value for slot, value in slots.items() if value is not None}
    for index, kept in enumerate(states):
        for at, state in kept.items():
            tensors |= {f"kept/{index}/{at}/{name}": tensor for name, tensor in state.items()}
    return tensors


def _restore(saved: State, network: _Network, optimiser, train_loss):
    step, since = saved["at"].tolist()
    parameters = list(network.parameters.values())
    with torch.no_grad():
        for name, tensor in network.state.items():
            tensor.copy_(saved[f"network/{name}"])
    train_loss.copy_(saved["train_loss"])
    slots: dict[int, dict[str, torch.Tensor]] = {}
    states: list[dict[int, State]] = [{} for _ in range(len(saved["train_loss"]))]
    for key, tensor in saved.items():
        kind, *path = key.split("/")
        if kind == "optimiser":
            place = parameters[int(path[0])]  # whose layout in memory an optimiser's tensors share
            same = tensor.shape == place.shape
            slots.setdefault(int(path[0]), {})[path[1]] = torch.empty_like(place).copy_(tensor) if same else tensor
        elif kind == "kept":
            states[int(path[0])].setdefault(int(path[1]), {})["/".join(path[2:])] = tensor
    if slots:
        optimiser.load_state_dict({"state": slots, "param_groups": optimiser.state_dict()["param_groups"]})
    return step, since, list(saved["rows"].numpy()), states
