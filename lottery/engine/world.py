"""What recipes are computed in: the data and networks of a training, and what a store holds."""

from dataclasses import replace

import torch
from torch import nn

from .. import LotteryError, data, models
from ..models import State
from ..recipes import Recipe, Run, Training
from .store import Record, Store


class ExecutionError(LotteryError):
    """Some recipes could not be computed; those that could are in the store."""


def dataset_of(training: Training, device: str = "cpu") -> data.Dataset:
    """The data that a training is given: the whole of it, or its part of the training examples."""
    dataset = data.load(training.data, training.validation, training.scaling, device)
    first, every = training.part
    return replace(dataset, train=tuple(tensor[first::every] for tensor in dataset.train)) if every > 1 else dataset


def network_of(training: Training) -> nn.Module:
    """A fresh network of a training, on the CPU; for published data it takes no files."""
    shape, classes = data.FORMS.get(training.data) or data.describe(training.data)
    return models.build(training.model, shape, classes)


class StoreWorld:
    """`lottery.recipes.World` over a store; without one it has data and networks alone."""

    def __init__(self, store: Store | None, device: str = "cpu"):
        self.store, self.device = store, device

    def dataset(self, training: Training) -> data.Dataset:
        return dataset_of(training, self.device)

    def network(self, training: Training) -> nn.Module:
        return network_of(training)

    def record(self, recipe: Recipe) -> Record:
        record = self.store.read(recipe.key) if self.store else None
        if record is None:
            raise ExecutionError(f"the {type(recipe).__name__} {recipe.key[:12]} is not in the store")
        return record

    def state(self, run: Run, step: int) -> State:
        state = self.store.state(run.key, step) if self.store else None
        if state is None:
            raise ExecutionError(f"the weights of run {run.key[:12]} at step {step} are not kept")
        return state


def world(store: Store, device: str = "cpu") -> StoreWorld:
    """What recipes are computed in, over a store."""
    return StoreWorld(store, device)


class EmptyWorld(StoreWorld):
    """A world whose data sets, those of `lottery.data.FORMS`, have no examples: starts and masks need no files."""

    def dataset(self, training: Training) -> data.Dataset:
        shape, classes = data.FORMS[training.data]
        none = torch.empty(0, *shape), torch.empty(0, dtype=torch.int64)
        return data.Dataset(training.data, none, none, none, classes)
