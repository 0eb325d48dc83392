"""Measures sign distances and their null beside plain implementations on Python sets, and prints a table.

    python benchmarks/signs.py [--repeats 5] [--density 0.2] [--json FILE]

Two unrelated tickets of LeNet-300-100 (28×28 inputs) and of Conv-6 (32×32×3 inputs, 2.26 M weights), every layer at
one density, one thread. The set-based distance does what Liu et al. (2020) publish: each unit is a set, each pair of
units an intersection and a union; the assignment is SciPy's in both. The set-based null swaps the ends of two
connections at a time until each connection was swapped ten times on average, as networks are usually randomised. What
is compared is measured in turn (A B A B …), so that a machine that slows down slows both.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from lottery import models, signs

SHAPES = {"lenet-300-100": (1, 28, 28), "conv-6": (3, 32, 32)}
SWAPS = 10  # for each connection
SLOW = 20.0  # seconds: what takes longer is measured once


def ticket(model, density, seed):
    """Random signs on a random mask."""
    network, draw = models.build(model, SHAPES[model], 10), np.random.default_rng(seed)
    state = network.state_dict()
    mask = {n: torch.from_numpy(draw.random(tuple(state[n].shape)) < density) for n in models.prunable(network)}
    return signs.ternary({n: torch.from_numpy(draw.standard_normal(tuple(k.shape))) for n, k in mask.items()}, mask)


# --- plain sets -------------------------------------------------------------------------------------------------------


def units(layer):
    """Each unit as the set of its signed incoming connections."""
    return [{(i, sign) for i, sign in enumerate(row) if sign} for row in layer.flatten(1).tolist()]


def moved(unit_sets, order, block):
    """The same with inputs under new numbers: unit order[j] is now j, and each unit has a block of inputs."""
    place = np.argsort(order)
    return [{(place[i // block] * block + i % block, sign) for i, sign in unit} for unit in unit_sets]


def distance(one, other):
    union = len(one | other)
    return 1 - len(one & other) / union if union else 0.0


def set_distance(a, b):
    """The signed matched distance of each layer."""
    result, order = {}, None
    for name in a:
        one, other = units(a[name]), units(b[name])
        if order is not None:
            block = a[name][0].numel() // len(order)
            other = moved(other, order, block)
        if name == list(a)[-1]:
            result[name] = float(np.mean([distance(j, k) for j, k in zip(one, other, strict=True)]))
        else:
            cost = np.array([[distance(j, k) for k in other] for j in one])
            rows, order = linear_sum_assignment(cost)
            result[name] = float(cost[rows, order].mean())
    return result


def set_null(mask, seed):
    """Degree-preserving masks by swapping the ends of two connections at a time."""
    draw, result = np.random.default_rng(seed), {}
    for name, layer in mask.items():
        edges = [tuple(edge) for edge in layer.flatten(1).nonzero().tolist()]
        present = set(edges)
        for i, j in draw.integers(0, len(edges), (SWAPS * len(edges) // 2, 2)).tolist():
            (a, b), (c, d) = edges[i], edges[j]
            if (a, d) not in present and (c, b) not in present:
                present -= {(a, b), (c, d)}
                present |= {(a, d), (c, b)}
                edges[i], edges[j] = (a, d), (c, b)
        rows = torch.zeros(layer.flatten(1).shape, dtype=torch.bool)
        rows[tuple(torch.tensor(edges).T)] = True
        result[name] = rows.view(layer.shape)
    return result


# --- measuring --------------------------------------------------------------------------------------------------------


def agree(a, b):
    """Stops if the two implementations disagree: then speeds mean nothing."""
    for name, plain in set_distance(a, b).items():
        np.testing.assert_allclose(signs.compare(a, b).distance[name], plain, atol=1e-5)


def measure(repeats, density):
    """Rows: what, how, n, median, min, max in seconds."""
    agree(*(ticket("lenet-300-100", density, seed) for seed in (3, 4)))
    work = {}
    for model in SHAPES:
        a, b = (ticket(model, density, seed) for seed in (1, 2))
        mask = {name: layer != 0 for name, layer in a.items()}
        work |= {
            (f"{model}: signed matched distance", "lottery.signs"): lambda a=a, b=b: signs.compare(a, b).distance,
            (f"{model}: signed matched distance", "sets"): lambda a=a, b=b: set_distance(a, b),
            (f"{model}: matched by both sides", "lottery.signs"): lambda a=a, b=b: signs.match_both(a, b),
            (f"{model}: degree-preserving null, a draw", "lottery.signs"): lambda mask=mask: signs.degree_preserving(
                mask, np.random.default_rng(0)
            ),
            (f"{model}: degree-preserving null, a draw", "sets"): lambda mask=mask: set_null(mask, 0),
        }
    times = {key: [] for key in work}
    for _ in range(repeats):
        for key, function in work.items():
            if times[key] and times[key][0] > SLOW:
                continue
            began = time.perf_counter()
            function()
            times[key].append(time.perf_counter() - began)
    return [
        dict(what=what, how=how, n=len(t), median=statistics.median(t), min=min(t), max=max(t), seconds=t)
        for (what, how), t in times.items()
    ]


def show(about, table):
    """The table as text."""
    lines = [
        *(f"{name}: {value}" for name, value in about.items()),
        "",
        f"{'':48}{'':14}{'n':>3}{'median ms':>12}{'min – max':>22}",
    ]
    for row in table:
        spread = f"{1000 * row['min']:.1f} – {1000 * row['max']:.1f}"
        lines.append(f"{row['what']:48}{row['how']:14}{row['n']:3}{1000 * row['median']:12.1f}{spread:>22}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each row (5)")
    parser.add_argument("--density", type=float, default=0.2, help="fraction of weights left (0.2)")
    parser.add_argument("--json", type=Path, help="also write the figures, every single one, to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "density": options.density,
    }
    table = measure(options.repeats, options.density)
    print(show(about, table))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
