"""Whether records are what the present code computes."""

import contextlib
import functools
import json
import random
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .. import LotteryError
from ..recipes import Recipe
from .execute import choose, execute
from .identity import changed_own, code, known_recipes
from .stopping import OutOfTime
from .store import Record, Store
from .world import ExecutionError


def changed_code(store: Store) -> list[Record]:
    """The records in a store that code computed which has since changed; records that do not say are left out."""
    changed = []
    for record in map(store.read, store.keys()):
        if record is None or (known := record.made.get("code")) is None:
            continue
        with contextlib.suppress(ExecutionError):  # of a class of the user's that is not imported here
            if code(record.recipe) != known or changed_own(record.recipe, record.made):
                changed.append(record)
    return changed


def recipe_of(key: str, store: Store) -> Recipe:
    """The recipe with a key, from the records of it and of what it refers to.

    Raises:
        ExecutionError: if one of them is missing, or its class is unknown or has changed.
    """
    known = known_recipes()

    def made(value) -> Any:
        if isinstance(value, dict) and "type" in value:
            if value["type"] not in known:
                raise ExecutionError(f"no recipe class {value['type']!r} is known here: import its module")
            given = {name: made(part) for name, part in value.items() if name not in ("type", "version")}
            return known[value["type"]](**given)
        if isinstance(value, list):
            return tuple(made(part) for part in value)
        return found(value) if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else value

    @functools.cache
    def found(key: str) -> Recipe:
        record = store.read(key)
        if record is None:
            raise ExecutionError(f"there is no record {key[:12]} in {store.root}")
        recipe = made(record.recipe)
        if recipe.key != key:
            raise ExecutionError(f"the recipe of record {key[:12]} has another key now: its class has changed")
        return recipe

    return found(key)


@dataclass(frozen=True)
class Rebuilt:
    """A record beside what came out when its recipe was computed again.

    Attributes:
        key, type: of the recipe.
        differs: names of the values and arrays that are not the same bit for bit, sorted; () if all are.
        made: how the record that was there had come about.
        failed: why it could not be computed again; None if it could.
    """

    key: str
    type: str
    differs: tuple[str, ...]
    made: dict
    failed: str | None = None


def rebuild(
    store: Store, sample: int = 3, seed: int = 0, *, keys: Iterable[str] | None = None, device: str = "cpu"
) -> Iterator[Rebuilt]:
    """Computes some records again, beside the store, and compares bit for bit.

    What a recipe reads is taken from the store where it is there, else it is computed again too: a ticket whose
    predecessors' weights were dropped takes as long as its whole chain. Another kind of processor or version of torch
    rounds otherwise, so `Rebuilt.made` says where a record comes from.

    Args:
        store: only read.
        sample: how many, drawn at random.
        seed: of the draw.
        keys: of which records; by default all.
        device: where to compute.

    Raises:
        ExecutionError: if this machine has no such device.
    """
    choose("inline", device=device)
    among = sorted(store.keys() if keys is None else keys)
    chosen = random.Random(seed).sample(among, min(sample, len(among)))
    return (_rebuilt(key, store, device) for key in chosen)


def _rebuilt(key: str, store: Store, device: str) -> Rebuilt:
    old = store.read(key)
    if old is None:
        return Rebuilt(key, "?", (), {}, "it was damaged and is set aside, or is gone: the next run computes it again")
    try:
        recipe = recipe_of(key, store)
        with tempfile.TemporaryDirectory() as folder:
            beside = Store(folder)
            _supply(recipe, store, beside)
            [new] = execute([recipe], beside, executor="inline", device=device, show=False)
    except OutOfTime:
        raise
    except LotteryError as error:
        return Rebuilt(key, old.recipe["type"], (), old.made, str(error))
    return Rebuilt(key, old.recipe["type"], tuple(sorted(_differing(old, new))), old.made)


def _supply(recipe: Recipe, store: Store, beside: Store) -> None:
    """Copies what computing a recipe reads."""
    for read, step in recipe.reads():
        record = store.read(read.key)
        state = None if step is None else store.state(read.key, step)
        if record is None or (step is not None and state is None):
            _supply(read, store, beside)
        else:
            states = {} if state is None or step is None else {step: state}
            beside.save(read.key, record.recipe, record.values, record.arrays, record.made, states)


def _differing(old: Record, new: Record) -> set[str]:
    values = {name for name in old.values.keys() | new.values.keys() if _text(old, name) != _text(new, name)}
    arrays = old.arrays.keys() ^ new.arrays.keys()
    for name in old.arrays.keys() & new.arrays.keys():
        one, other = old.arrays[name], new.arrays[name]
        if (one.dtype, one.shape) != (other.dtype, other.shape) or one.tobytes() != other.tobytes():
            arrays.add(name)
    return values | arrays


def _text(record: Record, name: str) -> str | None:
    return json.dumps(record.values[name], sort_keys=True) if name in record.values else None
