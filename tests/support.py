"""What several test modules share."""

import numpy as np
import torch

from lottery import recipes, tickets
from lottery.engine.execute import execute
from lottery.engine.records import sha
from lottery.engine.store import Store
from lottery.recipes import canonical

LENET = recipes.training(
    data="digits", model="lenet-30-20", steps=60, batch=50, optimiser="adam", lr=5e-3, validation=200, scaling="unit"
)
"""A training of seconds."""


def run(found, store, **more):
    """Records of recipes, computed here if the store lacks them."""
    return execute(found, store, executor="inline", show=False, **more)


def chain_in(folder, levels, rate):
    """A chain of tickets of `LENET` and the store in which it has been run."""
    store = Store(folder)
    runs = tickets.imp(LENET, 0, levels, rate)
    run(runs, store)
    return runs, store


def normalised(shape, classes):
    """A network with batch normalisation."""
    inputs = torch.Size(shape).numel()
    layers = torch.nn.Linear(inputs, 16), torch.nn.BatchNorm1d(16), torch.nn.ReLU(), torch.nn.Linear(16, classes)
    return torch.nn.Sequential(torch.nn.Flatten(), *layers)


def recipe(number):
    """A recipe of no use; its key is `key_of(number)`."""
    return {"type": "Test", "number": number}


def key_of(number):
    """The key of `recipe(number)`."""
    return sha(canonical(recipe(number)))


KEY, OTHER = key_of(0), key_of(1)


def put(store, number=0, value=1.0, size=10, states=None, made=None):
    """Saves a record of `recipe(number)`."""
    arrays = {"a": np.arange(size)}
    store.save(key_of(number), recipe(number), {"value": value}, arrays, made or {"seconds": 1}, states)


def same(one, other):
    """Whether two lists of records agree in everything but how they were made."""
    return all(
        a.key == b.key
        and a.recipe == b.recipe
        and a.values == b.values
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[name], b.arrays[name], equal_nan=True) for name in a.arrays)
        for a, b in zip(one, other, strict=True)
    )


def garble(path):
    """Flips a bit in the middle of a file."""
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
