"""Measures the engine beside the ordinary training loop, in one run on one machine, and prints a table.

    python benchmarks/run.py [--repeats 7] [--steps 400] [--networks lenet-300-100 …] [--density 0.21] [--json FILE]
                             [--by-density] [--markdown FILE]

LeNet-300-100 on MNIST, Conv-2 and ResNet-20 on CIFAR-10 as in the papers' protocols, masked, on one CPU thread; where
there is a GPU, there too, alone and several as one batch. What is compared is measured in turn (A B A B …), so that a
machine that slows down slows both. On the CPU every side works in a process of its own, because the engine's processes
keep freed memory warm (`lottery.engine.train.tune_process`) and the ordinary loop's should not profit.

The ordinary loop is what a tutorial would teach: torchvision's data set with its transforms for each sample, a
`DataLoader`, `torch.nn.utils.prune`, which multiplies masks in the forward pass, an optimiser of `torch.optim` as it
comes. Nothing in it is slowed down on purpose: no `.item()` a step, no logging. Data are read where `LOTTERY_DATA` has
them; else random pixels of their shape, which cost the same. Beside both, for convolutions on the CPU, stands a bare
step of PyTorch, the same batch again and again without data, augmentation or mask, as it comes and through
`torch.compile`. `--markdown` writes the table that the book's page on speed shows; `--by-density` measures LeNet alone
at several densities.
"""

import argparse
import contextlib
import dataclasses
import functools
import itertools
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune

from lottery import __version__, data, masks, models, recipes, tickets
from lottery.engine import execute, store, train
from lottery.engine.settings import cores

VALIDATION, LENET = 5000, "lenet-300-100"
SETTINGS = {
    LENET: dict(data="mnist", batch=60, optimiser="adam", lr=1.2e-3),
    "conv-2": dict(data="cifar10", batch=60, optimiser="adam", lr=2e-4),
    "resnet-20": dict(
        data="cifar10", batch=128, optimiser="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, augment=True
    ),
}
DENSITIES = (1, 0.51, 0.21, 0.05, 0.015)  # of `--by-density`
SLOWER = {LENET: 1, "conv-2": 20, "resnet-20": 40}  # so many steps fewer are measured
STATISTICS = {"mnist": ((0.1307,), (0.3081,)), "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))}
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def torchvision_class(name):
    """torchvision's class, which a CPU build of torch beside a CUDA build of torchvision can only import with help."""
    return {"mnist": data._torchvision_datasets().MNIST, "cifar10": data._torchvision_datasets().CIFAR10}[name]


@functools.cache
def raw(name):
    """Images as bytes [N, C, H, W] with labels, to train on and to test on, and what they are."""
    if (data.folder() / {"mnist": "MNIST", "cifar10": "cifar-10-batches-py"}[name]).is_dir():
        return *data._raw(name)[:2], {"mnist": "MNIST", "cifar10": "CIFAR-10"}[name]
    draw = np.random.default_rng(0)

    def random_pixels(count):
        images = torch.from_numpy(draw.integers(0, 256, (count, *SHAPES[name]), dtype=np.uint8))
        return images, torch.from_numpy(draw.integers(0, 10, count))

    return random_pixels(60_000 if name == "mnist" else 50_000), random_pixels(10_000), f"random pixels for {name}"


def start(network, density):
    """Initial weights, and a random mask with the same share of each layer: no pixel loses all its connections."""
    shape = SHAPES[SETTINGS[network]["data"]]
    weights = models.initial_weights(network, shape, 10, seed=0)
    dense = masks.dense(weights, models.prunable(models.build(network, shape, 10)))
    cut = masks.prune(dense, {name: weights[name].abs() for name in dense}, dict.fromkeys(dense, 1 - density))
    return weights, masks.shuffle(cut, np.random.default_rng(0))


# --- the ordinary loop ------------------------------------------------------------------------------------------------


def ordinary_network(network, density, device):
    weights, mask = start(network, density)
    module = models.build(network, SHAPES[SETTINGS[network]["data"]], 10)
    module.load_state_dict(weights)
    for name, kept in mask.items():
        prune.custom_from_mask(module.get_submodule(name.removesuffix(".weight")), "weight", kept)
    return module.to(device)


def vision_dataset(name, part, augment=False):
    """torchvision's own class over images that are already read; each sample goes through its transforms."""
    kind = torchvision_class(name)
    from torchvision import transforms

    images, labels = raw(name)[part]
    images, labels = (images[VALIDATION:], labels[VALIDATION:]) if part == 0 else (images, labels)
    dataset = kind.__new__(kind)
    dataset.data, dataset.targets = (
        (images[:, 0], labels)
        if name == "mnist"
        else (images.permute(0, 2, 3, 1).contiguous().numpy(), labels.tolist())
    )
    moves = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()] if augment else []
    dataset.target_transform = None
    dataset.transform = transforms.Compose([*moves, transforms.ToTensor(), transforms.Normalize(*STATISTICS[name])])
    return dataset


def optimiser_of(network, model, **more):
    given = SETTINGS[network]
    if given["optimiser"] == "adam":
        return torch.optim.Adam(model.parameters(), given["lr"], **more)
    return torch.optim.SGD(
        model.parameters(), given["lr"], given["momentum"], weight_decay=given["weight_decay"], **more
    )


@functools.cache
def ordinary_training(network, loader_workers, density, device):
    """The ordinary loop as an endless iterator: each `next` is one step."""
    model, given = ordinary_network(network, density, device), SETTINGS[network]
    optimiser = optimiser_of(network, model)
    several = {"persistent_workers": True, "multiprocessing_context": "fork"} if loader_workers else {}
    loader = torch.utils.data.DataLoader(
        vision_dataset(given["data"], 0, given.get("augment", False)),
        given["batch"],
        shuffle=True,
        drop_last=True,
        num_workers=loader_workers,
        pin_memory=device != "cpu",
        **several,
    )

    def steps():
        while True:
            for x, y in loader:
                x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
                optimiser.zero_grad()
                loss = cross_entropy(model(x), y)
                loss.backward()
                optimiser.step()
                yield

    return steps()


def warm_up(steps):
    return max(2, steps // 4)


def ordinary_step(network, loader_workers, steps, density, device="cpu"):
    """Milliseconds for a step of the ordinary loop."""
    loop = ordinary_training(network, loader_workers, density, device)
    for _ in itertools.islice(loop, warm_up(steps)):
        pass
    synchronise(device)
    began = time.perf_counter()
    for _ in itertools.islice(loop, steps):
        pass
    synchronise(device)
    return 1000 * (time.perf_counter() - began) / steps


def synchronise(device):
    if device != "cpu":
        torch.cuda.synchronize()


@functools.cache
def ordinary_evaluation(density):
    return ordinary_network(LENET, density, "cpu").eval(), torch.utils.data.DataLoader(vision_dataset("mnist", 1), 1000)


def ordinary_evaluate(density):
    """Milliseconds for loss and accuracy of the test set in the ordinary way."""
    model, loader = ordinary_evaluation(density)
    began, loss, correct = time.perf_counter(), 0.0, 0
    with torch.no_grad():
        for x, y in loader:
            logits = model(x)
            loss += cross_entropy(logits, y, reduction="sum").item()
            correct += (logits.argmax(1) == y).sum().item()
    return 1000 * (time.perf_counter() - began)


# --- the engine -------------------------------------------------------------------------------------------------------


@functools.cache
def resident(name, device):
    """The data set; few examples to evaluate on, because training is what is measured."""
    registered = data.register(f"benchmark_{name}", *raw(name)[:2])
    return data.load(registered, VALIDATION, device=device)


class Measured(Exception):
    """Ends a training that has been measured, before it evaluates."""


def engine_step(network, steps, density, together=1, device="cpu", precision="float32"):
    """Milliseconds of `lottery.engine.train.train` for a step of each of the networks that train together."""
    dataset, (weights, mask) = resident(SETTINGS[network]["data"], device), start(network, density)
    few = {part: tuple(tensor[:200] for tensor in getattr(dataset, part)) for part in ("validation", "test")}
    warm, times, ask = warm_up(steps), {}, train.Batches.__getitem__
    layout = "channels_first" if network == LENET else "channels_last"
    total = warm + steps + 1
    training = recipes.Training(
        **{**SETTINGS[network], "data": dataset.name},
        model=network,
        steps=total,
        validation=VALIDATION,
        evaluate=((total, total),),
        precision=precision,
        layout=layout,
    )

    def timed(batches, step):
        if step in (warm, warm + steps):
            synchronise(device)
            times[step] = time.perf_counter()
        if step == warm + steps:
            raise Measured
        return ask(batches, step)

    train.Batches.__getitem__ = timed
    try:
        train.train(
            training, dataclasses.replace(dataset, **few), [train.Start(weights, mask, (i,)) for i in range(together)]
        )
    except Measured:
        return 1000 * (times[warm + steps] - times[warm]) / steps / together
    finally:
        train.Batches.__getitem__ = ask


@functools.cache
def bare_training(network, compiled):
    """A step on a resident batch in the engine's layout, optimiser fused: what PyTorch itself takes."""
    given = SETTINGS[network]
    model = models.build(network, SHAPES[given["data"]], 10).to(memory_format=torch.channels_last)
    x = torch.randn(given["batch"], *SHAPES[given["data"]]).contiguous(memory_format=torch.channels_last)
    y = torch.arange(given["batch"]) % 10
    optimiser = optimiser_of(network, model, fused=True)
    forward = torch.compile(model) if compiled else model

    def step():
        optimiser.zero_grad()
        cross_entropy(forward(x), y).backward()
        optimiser.step()

    return step


def bare_step(network, steps, compiled=False):
    """Milliseconds for a bare step."""
    step = bare_training(network, compiled)
    for _ in range(warm_up(steps)):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return 1000 * (time.perf_counter() - began) / steps


def engine_evaluate(density):
    """Milliseconds for loss and accuracy of the test set with resident tensors."""
    dataset = resident("mnist", "cpu")
    model = models.build(LENET, dataset.shape, dataset.classes).eval()
    model.load_state_dict(masks.apply(*start(LENET, density)))
    began = time.perf_counter()
    with torch.no_grad():
        train.evaluate(model, *dataset.test)
    return 1000 * (time.perf_counter() - began)


def study_steps(jobs, steps, runs=4):
    """Steps a second of a whole study of independent runs through `lottery.engine.execute`, everything included."""
    given = SETTINGS[LENET]
    if raw("mnist")[2] != "MNIST":
        given = given | {"data": data.register("benchmark", *raw("mnist")[:2])}
    training = recipes.Training(**given, model=LENET, steps=steps, validation=VALIDATION, evaluate=((steps, steps),))
    study = [tickets.dense(training, replicate) for replicate in range(runs)]
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        execute.execute(study, store.Store(folder), executor="processes", jobs=jobs, show=False)
        return runs * steps / (time.perf_counter() - began)


# --- measuring in turn ------------------------------------------------------------------------------------------------


def serve(connection, tuned):
    """A process that measures what it is asked for until nobody listens any more."""
    torch.set_num_threads(1)
    if tuned:
        train.tune_process()
    with contextlib.suppress(EOFError):
        while True:
            function, arguments = connection.recv()
            connection.send(globals()[function](*arguments))


class Side:
    """One process that measures."""

    def __init__(self, tuned):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=serve, args=(other, tuned))
        self.process.start()
        other.close()

    def ask(self, function, *arguments):
        self.connection.send((function, arguments))
        return self.connection

    def stop(self):
        self.connection.close()
        self.process.join()


def in_turn(rows, repeats):
    """Measures every row once, then again: `repeats` times each, after one turn that does not count."""
    values = {name: [] for name in rows}
    for turn in range(repeats + 1):
        for name, measure in rows.items():
            value = measure()
            if turn:
                values[name].append(value)
            if sys.stderr.isatty():
                print(f"\r{turn}/{repeats} {name:60.60}", end="\r", file=sys.stderr, flush=True)
    return values


def compare(title, unit, rows, repeats, better=max):
    """A block of the table; the ratio is to its first row and above 1 where the row is better."""
    values = in_turn(rows, repeats)
    base = statistics.median(next(iter(values.values())))
    block = []
    for name, seen in values.items():
        median = statistics.median(seen)
        block.append(
            {
                "block": title,
                "unit": unit,
                "name": name,
                "n": len(seen),
                "median": median,
                "min": min(seen),
                "max": max(seen),
                "ratio": median / base if better is max else base / median,
                "values": seen,
            }
        )
    return block


def machine(density):
    """What the figures depend on; nothing that names the machine."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    many = cores()
    return {
        "device": f"{cpu}, {many} cores" + (f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "load before": round(os.getloadavg()[0], 2),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, lottery {__version__}",
        "data": ", ".join(raw(name)[2] for name in SHAPES),
        "density": density,
    }


def on_gpu(repeats, steps, density, networks):
    """Each network alone and several as one batch, beside the ordinary loop."""
    table = []
    for network in networks:
        few = max(20, steps // 4)
        rows = {"ordinary loop, 8 loader processes": functools.partial(ordinary_step, network, 8, few, density, "cuda")}
        ways = [
            ("float32", 1),
            ("float32", 8),
            *([("float32", 64)] if network == LENET else [("tf32", 1), ("bf16", 1)]),
        ]
        for precision, count in ways:
            name = f"engine, {precision}, {count} network{'s' * (count > 1)}"
            rows[name] = functools.partial(engine_step, network, few, density, count, "cuda", precision)
        table += compare(f"{network}, on the GPU", "ms a step of a network", rows, repeats, min)
    return table


def measure(repeats, steps, density, study, networks):
    """All blocks of the table."""
    plain, tuned, second = Side(tuned=False), Side(tuned=True), Side(tuned=True)
    table = []

    def one(side, function, *arguments):
        return lambda: side.ask(function, *arguments).recv()

    def both():
        asked = [side.ask("engine_step", LENET, 3 * steps, density) for side in (tuned, second)]
        return 1 / sum(1 / answer.recv() for answer in asked)

    try:
        for network in networks:
            few = max(3, steps // SLOWER[network])
            rows = {
                "ordinary loop": one(plain, "ordinary_step", network, 0, few, density),
                "ordinary loop, 2 loader processes beside it": one(plain, "ordinary_step", network, 2, few, density),
                "engine": one(tuned, "engine_step", network, few, density),
                "engine, bf16": one(tuned, "engine_step", network, few, density, 1, "cpu", "bf16"),
                "engine, 4 networks as one batch": one(tuned, "engine_step", network, max(3, few // 4), density, 4),
            }
            if network != LENET:
                rows["bare step"] = one(tuned, "bare_step", network, few)
                if shutil.which("c++"):
                    rows["bare step, torch.compile"] = one(tuned, "bare_step", network, few, True)
            table += compare(f"{network}, one thread", "ms a step of a network", rows, repeats, min)
        if LENET in networks:
            table += compare(
                "evaluation of 10,000 images of MNIST, one thread",
                "ms",
                {
                    "ordinary loop": one(plain, "ordinary_evaluate", density),
                    "engine": one(tuned, "engine_evaluate", density),
                },
                repeats,
                better=min,
            )
            table += compare(
                f"{LENET} in several processes",
                "ms a step",
                {
                    "one process": one(tuned, "engine_step", LENET, 3 * steps, density),
                    "two processes, both together": both,
                },
                repeats,
                min,
            )
    finally:
        for side in (plain, tuned, second):
            side.stop()
    if study and LENET in networks:
        table += compare(
            f"a study of 4 runs of {LENET}, all included",
            "steps/s",
            {
                "one process": lambda: study_steps(1, study),
                "two processes": lambda: study_steps(2, study),
            },
            max(3, repeats // 2),
        )
    return table


def by_density(repeats, steps):
    """LeNet on one thread at several densities: a block each."""
    plain, tuned = Side(tuned=False), Side(tuned=True)
    table = []
    try:
        for density in DENSITIES:
            rows = {
                "ordinary loop": lambda density=density: plain.ask("ordinary_step", LENET, 0, steps, density).recv(),
                "engine": lambda density=density: tuned.ask("engine_step", LENET, steps, density).recv(),
            }
            table += compare(f"{LENET}, {100 * density:g} % of weights", "ms a step of a network", rows, repeats, min)
    finally:
        for side in (plain, tuned):
            side.stop()
    return table


def show(about, table):
    """The table as text."""
    lines = [f"{name}: {value}" for name, value in about.items()]
    for title, rows in itertools.groupby(table, key=lambda row: row["block"]):
        lines += ["", f"{title:52}{'n':>3}{'median':>10}{'min – max':>20}  {'ratio':>6}"]
        for row in rows:
            spread = f"{row['min']:.4g} – {row['max']:.4g}"
            figures = f"{row['n']:3}{row['median']:10.4g}{spread:>20}  {row['ratio']:6.2f}  {row['unit']}"
            lines.append(f"  {row['name']:50}{figures}")
    return "\n".join(lines)


def markdown(about, table):
    """The table for a page of the book."""
    counts = sorted({row["n"] for row in table})
    left = "" if about["density"] is None else f"{100 * about['density']:g} % of weights left; "
    lines = [
        f"*{about['device']}; {about['versions']}; {about['data']}; {left}"
        f"each measured {' or '.join(map(str, counts))} times*"
    ]
    for title, rows in itertools.groupby(table, key=lambda row: row["block"]):
        rows = list(rows)
        lines += ["", f"| {title} | {rows[0]['unit']} | smallest – largest | times the first |", "| --- " * 4 + "|"]
        for row in rows:
            lines.append(
                f"| {row['name']} | {row['median']:.4g} | {row['min']:.4g} – {row['max']:.4g} | {row['ratio']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each row (7)")
    parser.add_argument("--steps", type=int, default=400, help="steps of LeNet a measurement (400)")
    parser.add_argument("--networks", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), help="which (all)")
    parser.add_argument("--density", type=float, default=0.21, help="fraction of weights left (0.21)")
    parser.add_argument("--by-density", action="store_true", help=f"{LENET} on a CPU at {DENSITIES}, and nothing else")
    parser.add_argument("--study", type=int, default=10_000, help="steps of each run of the study, 0: none (10000)")
    parser.add_argument("--on", choices=["cpu", "gpu"], help="measure there alone (both)")
    parser.add_argument("--json", type=Path, help="also write the figures, every single one, to this file")
    parser.add_argument("--markdown", type=Path, help="also write the table as Markdown to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = machine(None if options.by_density else options.density)
    given = (options.repeats, options.steps, options.density)
    if options.by_density:
        table = by_density(options.repeats, options.steps)
    else:
        table = [] if options.on == "gpu" else measure(*given, options.study, options.networks)
    if not options.by_density and torch.cuda.is_available() and options.on != "cpu":
        table += on_gpu(*given, options.networks)
    print(show(about, table))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "table": table}, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(markdown(about, table))


if __name__ == "__main__":
    main()
