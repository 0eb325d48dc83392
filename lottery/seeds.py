"""Independent random streams: every draw is a function of (seed, purpose, indices) alone.

Networks draw from torch's global generator, of which a process has one: whoever seeds it and draws is alone meanwhile.
"""

import contextlib
import threading
from collections.abc import Iterator

import numpy as np
import torch

# The purposes are part of every result: never renumber them, only add.
SPLIT, INITIAL, ORDER, MASK, AUGMENT, DROPOUT = range(6)
THIN, PERTURB, PROBE = range(6, 9)
VALUES, SCORES = 9, 10
NULL = 11
NOISE = 12
FLIP = 13
CONTROL, LEARNED = 14, 15
CUT = 16


def sequence(seed: int, purpose: int, *indices: int) -> np.random.SeedSequence:
    """The seed sequence of one draw, e.g. `sequence(seed, ORDER, replicate, epoch)`.

    `numpy.random.SeedSequence` hashes the whole tuple, so neighbouring seeds and replicates do not collide
    as they do under `seed * (replicate + 1)`.

    Raises:
        ValueError: if one of the numbers is negative.
    """
    # The length goes in because SeedSequence pads with zeros: [s, p] and [s, p, 0] would be one stream.
    return np.random.SeedSequence([seed, purpose, len(indices), *indices])


def generator(seed: int, purpose: int, *indices: int) -> np.random.Generator:
    """A NumPy generator on that stream."""
    return np.random.Generator(np.random.PCG64(sequence(seed, purpose, *indices)))


def integer(seed: int, purpose: int, *indices: int) -> int:
    """A 63-bit integer from that stream, for `torch.manual_seed`."""
    return int(sequence(seed, purpose, *indices).generate_state(1, np.uint64)[0] >> 1)


alone = threading.RLock()
"""Held by a thread that computes: generators, numbers of threads and precisions are settings of the whole process."""


@contextlib.contextmanager
def apart(*devices: torch.device) -> Iterator[None]:
    """Lets this thread alone draw from torch's global generators, which are then put back as they were.

    Args:
        devices: whose generators are used beside that of the CPU; those that are no GPUs have none.
    """
    with alone, torch.random.fork_rng(devices=[device for device in devices if device.type == "cuda"]):
        yield


def seed(number: int, device: torch.device) -> None:
    """Seeds torch's global generators that a network on a device draws from."""
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(number)
