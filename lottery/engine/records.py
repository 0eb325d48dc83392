"""What a record is, and when it is sound: its checksums fit, and its key is the hash of its recipe."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import safetensors.numpy
import torch
from safetensors import SafetensorError

from ..models import State
from ..recipes import canonical
from .disk import StoreError

RECORD, ARRAYS = "record.json", "arrays.safetensors"  # the two files of a record
KEY = re.compile(r"[0-9a-f]{64}")
BROKEN = (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError, SafetensorError)


@dataclass(frozen=True, eq=False)
class Record:
    """What the store knows of one recipe.

    Attributes:
        key: of the recipe.
        recipe: its canonical JSON.
        values: numbers and short texts.
        arrays: name → array.
        made: versions, device, seconds: how it came about.
        states: step, as text → checksum of the dense weights there, as first computed.
    """

    key: str
    recipe: dict
    values: dict
    arrays: dict[str, np.ndarray]
    made: dict
    states: dict[str, str] = field(default_factory=dict)


class Damaged(ValueError):
    """Bytes that are no sound record."""


def sha(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(state: State) -> str:
    """A checksum of dense weights: of names, types, shapes and bits."""
    whole = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


def encode(record: Record) -> tuple[bytes, bytes]:
    """The two files of a record.

    Raises:
        StoreError: if what it holds would not come back: no JSON, an array of objects, another recipe's key.
    """
    try:
        small = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in record.arrays.items()})
        body = {"key": record.key, "recipe": record.recipe, "values": record.values, "made": record.made}
        body = json.loads(
            json.dumps(body | {"arrays": sha(small)} | ({"states": record.states} if record.states else {}))
        )
        body["sha256"] = sha(canonical(body))
        text = json.dumps(body, indent=1).encode()
        decode(record.key, text, small)
    except BROKEN as error:
        raise StoreError(f"the record {record.key} cannot be kept: {error}") from error
    return text, small


def decode(key: str, text: bytes, small: bytes) -> Record:
    """The record that two files hold.

    Raises:
        Damaged: saying what is wrong with them.
    """
    try:
        body = json.loads(text)
        claimed = body.pop("sha256")
        if sha(canonical(body)) != claimed:
            raise Damaged(f"{RECORD} does not fit its checksum")
        if sha(small) != body["arrays"]:
            raise Damaged(f"{ARRAYS} does not fit its checksum")
        recipe, values, made, states = (body.get(part, {}) for part in ("recipe", "values", "made", "states"))
        if not all(isinstance(part, dict) for part in (recipe, values, made, states)):
            raise Damaged(f"{RECORD} has another form than this version's: was it written by a later one?")
        if not key == body["key"] == sha(canonical(recipe)):
            raise Damaged("its content belongs to another recipe")
        return Record(key, recipe, values, safetensors.numpy.load(small), made, states)
    except Damaged:
        raise
    except BROKEN as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error


def references(value) -> Iterator[str]:
    """The keys that a recipe's JSON refers to."""
    if isinstance(value, str):
        if KEY.fullmatch(value):
            yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from references(part)


def agreement(one: Record, other: Record) -> float:
    """1 if two records of a run say the same of it, else the share of the signs of its weights that agree, below 1."""
    known = one.states.keys() & other.states.keys()
    if known:
        same = all(one.states[step] == other.states[step] for step in known)
    else:
        values = one.values.keys() & other.values.keys()
        same = canonical({k: one.values[k] for k in values}) == canonical({k: other.values[k] for k in values})
    names = [name for name in one.arrays.keys() & other.arrays.keys() if name.startswith("signs/")]
    pairs = [(one.arrays[name], other.arrays[name]) for name in names]
    if any(a.shape != b.shape for a, b in pairs):
        return 0.0
    bits = 8 * sum(a.size for a, _ in pairs)
    differing = sum(int(np.bitwise_count(a ^ b).sum()) for a, b in pairs)
    if same and (known or not differing):
        return 1.0
    return min(1 - differing / bits if bits else 0.0, 1 - 1e-6)
