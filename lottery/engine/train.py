"""The training loop: from starting weights and masks to histories and final weights.

`batches` says which examples a step sees, `network` how one network or several stacked ones compute its losses,
`graphs` how a GPU repeats a step, `precision` how products are rounded.
"""

import contextlib
import ctypes
import hashlib
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from .. import models, seeds
from ..data import Dataset
from ..models import State, evaluate
from ..recipes import Training
from . import graphs, stopping
from .batches import Batches
from .errors import Diverged, NotStacked, TrainingError, empty_frames
from .network import EXAMPLES, Network, Slower, Start, build, memory
from .precision import check_precision, multiplying
from .sparse import WeightRead

TOGETHER = 2**31  # bytes that networks which train together may take to evaluate a batch
COLUMNS = ("step", "train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")


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
    with contextlib.suppress(OSError):  # another C library
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-1, 1_000_000_000)
        libc.mallopt(-3, 1_000_000_000)


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
    Threads of one process train one after the other.

    Args:
        training: the hyperparameters.
        dataset: resident on the device where training is to happen.
        starts: one or more, all at the same step; the starting weights are never changed.
        keep: steps whose states are kept beside the last.
        checkpoint: where to go on from after an interruption, and where to save every `checkpoint_seconds`.
        progress: called with the number of steps done (of each network) since its last call; those of an interrupted
            training are in the first.
        deadline: the time (`time.monotonic()`) at which to save to the checkpoint and stop.

    Returns:
        One outcome for each start.

    Raises:
        OutOfTime: at the deadline, or when a signal asked to stop; see `lottery.engine.stopping`.
        TrainingError: if starts do not fit the network or each other, a loss is not finite, or the device does not have
            the precision.
    """
    given = (training, dataset, starts, keep, checkpoint, checkpoint_seconds, progress, deadline)
    try:
        with seeds.alone:
            try:
                return _train(*given)
            except WeightRead as error:  # in a pass that is not like the first one
                empty_frames(error)
                warnings.warn(f"{training.model} trains without sparse products: {error}", Slower, stacklevel=2)
            return _train(*given, plainly=True)
    except Exception as error:
        empty_frames(error)
        if len(starts) > 1 and isinstance(error, RuntimeError) and "vmap" in str(error):
            raise NotStacked(
                f"networks of {training.model} cannot be stacked, train them one by one: {error}"
            ) from None
        raise
    finally:
        del starts, dataset, given


def _train(
    training, dataset, starts, keep, checkpoint, checkpoint_seconds, progress, deadline, plainly=False
) -> list[Outcome]:
    device, last = dataset.train[0].device, training.steps
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            torch.autocast(device.type, enabled=False, cache_enabled=False)
        )  # whatever the caller works in
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        course = Course(training, dataset, starts, keep, plainly)
        if course.network.seeded:
            stack.enter_context(seeds.apart(device))
        course.begin(checkpoint.load() if checkpoint and not plainly else None)
        told, saved_at = course.first, time.monotonic()
        while course.step < last:
            if stopping.due(deadline):
                if checkpoint and course.step > course.first:
                    checkpoint.save(course.tensors())
                raise stopping.error(f"saved at step {course.step} of {last}")
            course.advance()
            if course.step % 100 == 0 or course.step == last:
                if progress:
                    progress(course.step - told)
                    told = course.step
                if checkpoint and course.step < last and time.monotonic() - saved_at > checkpoint_seconds:
                    checkpoint.save(course.tensors())
                    saved_at = time.monotonic()
        return course.outcomes()


class Course:
    """A training under way.

    Args:
        training, dataset, starts, keep: as of `train`.
        plainly: with the plain module, and no faster way.

    Attributes:
        step: steps done, of the schedule's.
        first: the step that it started from.
        network: what is trained.
    """

    def __init__(
        self, training: Training, dataset: Dataset, starts: Sequence[Start], keep: Iterable[int], plainly: bool = False
    ):
        self.training, self.dataset, self.first = training, dataset, starts[0].step
        self.begun, self.masks = _fingerprint(starts), [start.mask for start in starts]
        if any(start.step != self.first or set(start.mask) != set(starts[0].mask) for start in starts):
            raise TrainingError("networks that train together must start at the same step and mask the same layers")
        self.device = dataset.train[0].device
        check_precision(training.precision, self.device)
        self.network: Network = build(training, dataset, starts, plainly)
        self.orders = [start.order for start in starts]
        self.batches = Batches(training, self.orders, len(dataset.train[1]), self.device)
        self.keep = {step for step in keep if self.first <= step <= training.steps} | {training.steps}
        self.grid = set(training.grid(self.first))
        self.optimiser = _optimiser(training, list(self.network.parameters.values()))
        self.step, self.since = self.first, 0
        self.rows: list[np.ndarray] = []
        self.states: list[dict[int, State]] = [{} for _ in starts]
        self.train_loss = torch.zeros(len(starts), dtype=torch.float64, device=self.device)
        together = len(starts) * memory(training, dataset)[1] if len(starts) > 1 else 1
        self.at_once = max(1, min(1000, TOGETHER // together))

    def begin(self, saved: State | None) -> None:
        """Goes on from the saved tensors, or from the start if there are none or they are not those of this training:
        other weights or masks under the same key, or a study that has since come to ask for an earlier state, start
        over."""
        self.network.module.train()
        if saved is not None and self._fits(saved):
            self._restore(saved)
        else:
            self._record()
            self._keep_states()
        if graphs.worth(self.device) and not self.network.drawing:
            changed = [*self.network.state.values(), self.train_loss]
            self.act = graphs.Replayed(self._act, self.optimiser, changed, self.device)
        else:
            self.act = graphs.Stepwise(self._act, self.optimiser)

    def advance(self) -> None:
        """One step, and what is recorded or kept after it."""
        step, training = self.step, self.training
        if self.network.seeded:  # what a network draws is, like the batches, a function of (seed, order, step)
            seeds.seed(seeds.integer(training.seed, seeds.DROPOUT, *self.orders[0], step), self.device)
        self.act(training.learning_rate(step), self.batches[step], self.batches.augmentation(step))
        self.step, self.since = step + 1, self.since + 1
        if self.step in self.grid:
            self._record()
        self._keep_states()

    def _act(self, index: torch.Tensor, draws: torch.Tensor | None) -> None:
        """One step, all of it on the device."""
        inputs, target = self.network.batch(*self.dataset.train, index, draws)
        with multiplying(self.training.precision, self.device):
            losses = self.network.backward(inputs, target)
        if self.network.seeded:
            _complete(self.optimiser)
        self.network.move(self.optimiser)
        self.train_loss.add_(losses)

    def _evaluated(self, part: tuple[torch.Tensor, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
        """Losses and accuracies [R] on a part of the data."""
        self.network.module.eval()
        with torch.no_grad(), multiplying("float32", self.device):
            result = evaluate(lambda inputs: self.network.forward(inputs, shared=True), *part, self.at_once)
        self.network.module.train()
        return result

    def _record(self) -> None:
        count = len(self.states)
        losses = (self.train_loss / self.since).cpu().numpy() if self.since else np.full(count, np.nan)
        columns = [np.full(count, self.step), losses]
        columns += [*self._evaluated(self.dataset.validation), *self._evaluated(self.dataset.test)]
        self.rows.append(np.stack(columns, 1))
        validated, tested = np.isfinite(columns[2]), np.isfinite(columns[4])
        if not (finite := validated & tested).all():
            what = (
                f"lower the learning rate ({self.training.lr})"
                if self.step > self.first
                else f"{self.training.model} gives outputs that are not finite with the weights that it starts from"
            )
            part = "test loss" if validated.all() else "loss"
            raise Diverged(
                f"the {part} is not finite at step {self.step}: {what}",
                np.flatnonzero(~finite).tolist(),
            )
        self.train_loss.zero_()
        self.since = 0

    def _keep_states(self) -> None:
        if self.step in self.keep:
            for index, kept in enumerate(self.states):
                kept[self.step] = self.network.snapshot(index)

    def outcomes(self) -> list[Outcome]:
        """What came of it, when all steps are done."""
        losses, accuracies = self._evaluated(self.dataset.train)
        self.dataset.intact(self.training.model)
        if not models.ours(self.network.module):
            self._computes_as_saved()
            self._pruned_stay_zero()
        table = np.stack(self.rows, 2)
        return [
            Outcome(dict(zip(COLUMNS, columns, strict=True)), states, float(loss), float(accuracy))
            for columns, states, loss, accuracy in zip(table, self.states, losses, accuracies, strict=True)
        ]

    def _computes_as_saved(self) -> None:
        """A new network with the weights that are kept gives the logits that were recorded."""
        x, name = self.dataset.test[0][:EXAMPLES], self.training.model
        fresh = models.build(name, self.dataset.shape, self.dataset.classes)
        models.load(fresh, self.states[0][self.step])
        self.network.module.eval()
        try:
            with torch.no_grad(), multiplying("float32", self.device):
                there = models.evaluating(fresh.to(self.device))(x)
                here = self.network.forward(x, shared=True)
        except torch.OutOfMemoryError:  # a check is no reason to lose what is trained
            return
        finally:
            self.network.module.train()
        here = here[0] if here.ndim > there.ndim else here
        most = there.nan_to_num(0, 0, 0).abs().max().item()
        alike = torch.isclose(here, there, 1e-3, 1e-3 * most, equal_nan=True).all(1)
        if alike.float().mean() < 0.5:  # a sum that is rounded otherwise may cross a step, of a sign say, of some
            raise TrainingError(
                f"network {name!r}, trained, computes otherwise than a new one with its weights: something that its "
                f"state dict does not hold changes from step to step, so nothing of this training is kept. Keep it as "
                f"a persistent buffer (self.register_buffer('count', torch.zeros(())))"
            )

    def _pruned_stay_zero(self) -> None:
        for masks, kept in zip(self.masks, self.states, strict=True):
            for name, mask in masks.items():
                if kept[self.step][name][~mask.cpu()].any():
                    raise TrainingError(
                        f"network {self.training.model!r} has written into {name} in the course of its training, and "
                        f"pruned weights are not zero: nothing of it is kept; leave the change of weights to the "
                        f"optimiser"
                    )

    def tensors(self) -> State:
        """Everything that the training needs to go on."""
        found = {"at": torch.tensor([self.step, self.since]), "rows": torch.from_numpy(np.stack(self.rows))}
        found |= {"train_loss": self.train_loss, "begun": self.begun}
        found |= {f"network/{name}": tensor.detach() for name, tensor in self.network.state.items()}
        for name, parameter in self.network.parameters.items():
            slots = self.optimiser.state.get(parameter, {})
            found |= {f"optimiser/{slot}/{name}": value for slot, value in slots.items() if value is not None}
        for index, kept in enumerate(self.states):
            for at, state in kept.items():
                found |= {f"kept/{index}/{at}/{name}": tensor for name, tensor in state.items()}
        return found

    def _fits(self, saved: State) -> bool:
        """Whether saved tensors are those of this training and hold the states that it has passed and is to keep."""
        if not torch.equal(saved.get("begun", torch.zeros(0, dtype=torch.uint8)), self.begun):
            return False
        if not {"at", "rows", "train_loss"} <= saved.keys() or saved["train_loss"].shape != self.train_loss.shape:
            return False
        wanted = {f"network/{name}": tensor.shape for name, tensor in self.network.state.items()}
        if {key: tensor.shape for key, tensor in saved.items() if key.startswith("network/")} != wanted:
            return False
        for key, tensor in saved.items():
            kind, _, rest = key.partition("/")
            if kind == "optimiser" and tensor.ndim and tensor.shape != wanted.get(f"network/{rest.partition('/')[2]}"):
                return False
        passed = {step for step in self.keep if step <= int(saved["at"][0])}
        return all(any(key.startswith(f"kept/0/{step}/") for key in saved) for step in passed)

    def _restore(self, saved: State) -> None:
        self.step, self.since = saved["at"].tolist()
        self.rows = list(saved["rows"].numpy())
        with torch.no_grad():
            for name, tensor in self.network.state.items():
                tensor.copy_(saved[f"network/{name}"])
        self.train_loss.copy_(saved["train_loss"])
        places = {name: (index, tensor) for index, (name, tensor) in enumerate(self.network.parameters.items())}
        slots: dict[int, dict[str, torch.Tensor]] = {}
        for key, tensor in saved.items():
            kind, _, rest = key.partition("/")
            if kind == "optimiser":
                slot, _, name = rest.partition("/")
                index, place = places[name]  # whose layout in memory an optimiser's tensors share
                same = tensor.shape == place.shape
                slots.setdefault(index, {})[slot] = torch.empty_like(place).copy_(tensor) if same else tensor.clone()
            elif kind == "kept":
                which, step, name = rest.split("/", 2)
                self.states[int(which)].setdefault(int(step), {})[name] = tensor
        if slots:
            self.optimiser.load_state_dict(
                {"state": slots, "param_groups": self.optimiser.state_dict()["param_groups"]}
            )


def _fingerprint(starts: Sequence[Start]) -> torch.Tensor:
    """A hash of weights, masks and streams that networks start with, as bytes."""
    known = hashlib.sha256()
    for start in starts:
        known.update(repr((start.order, start.step)).encode())
        for tensors in (start.weights, start.mask):
            for name, tensor in sorted(tensors.items()):
                known.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                known.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return torch.tensor(list(known.digest()), dtype=torch.uint8)


def _complete(optimiser: torch.optim.Optimizer) -> None:
    """Gives a momentum of zero to parameters that get their first gradient later than others, as where layers are
    skipped at random: PyTorch's fused SGD expects all or none to have one."""
    having = [slots for slots in optimiser.state.values() if slots.get("momentum_buffer") is not None]
    if not having:
        return
    for parameter in optimiser.param_groups[0]["params"]:
        if parameter.grad is not None and optimiser.state[parameter].get("momentum_buffer") is None:
            optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


def _optimiser(training: Training, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
    if training.optimiser == "adam":
        return torch.optim.Adam(
            parameters, training.lr, eps=training.adam_epsilon, weight_decay=training.weight_decay, fused=True
        )
    return torch.optim.SGD(parameters, training.lr, training.momentum, weight_decay=training.weight_decay, fused=True)
