"""Measures the engine beside the ordinary training loop, in one run on one machine, and prints a table.

    python benchmarks/run.py [--repeats 7] [--steps 400] [--density 0.21] [--json FILE]

LeNet-300-100 on MNIST, batch 60, Adam, masked, one CPU thread a process. What is compared is measured in turn
(A B A B …), so that a machine that slows down slows both. Every side works in a process of its own, because the
engine's processes keep freed memory warm (`lottery.train.tune_process`) and the ordinary loop's should not profit.

The ordinary loop is what a tutorial would teach: `torchvision.datasets.MNIST` with `ToTensor` and `Normalize` for each
sample, a `DataLoader`, masks multiplied in the forward pass, `torch.optim.Adam` as it comes. Nothing in it is slowed
down on purpose: no `.item()` a step, no logging. MNIST itself is read where `LOTTERY_DATA` has it; else random pixels
of its shape, which cost the same.
"""

import argparse
import contextlib
import functools
import itertools
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, linear

from lottery import __version__, data, execute, masks, models, recipes, store, train

BATCH, LR, VALIDATION, WARM = 60, 1.2e-3, 5000, 100
MEAN, DEVIATION = (0.1307,), (0.3081,)


def torchvision_mnist():
    """torchvision's class, which a CPU build of torch beside a CUDA build of torchvision can only import with help."""
    return data._torchvision_datasets().MNIST


@functools.cache
def raw():
    """MNIST as bytes: (images [60000, 1, 28, 28], labels), the same of the 10,000 test images, and the data's name."""
    if (data.folder() / "MNIST" / "raw").is_dir():
        parts = [torchvision_mnist()(data.folder(), train=part, download=False) for part in (True, False)]
        return *((part.data[:, None], part.targets) for part in parts), "MNIST"
    draw = np.random.default_rng(0)

    def random_pixels(count):
        images = torch.from_numpy(draw.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8))
        return images, torch.from_numpy(draw.integers(0, 10, count))

    return random_pixels(60_000), random_pixels(10_000), "random pixels of MNIST's shape"


def random_mask(weights, density):
    """The same count in each layer, at random: no input pixel loses all its connections."""
    dense = masks.dense(weights, models.prunable(models.build("lenet-300-100", (1, 28, 28), 10)))
    cut = masks.prune(dense, {name: weights[name].abs() for name in dense}, dict.fromkeys(dense, 1 - density))
    return masks.shuffle(cut, np.random.default_rng(0))


def start_weights():
    return models.initial_weights("lenet-300-100", (1, 28, 28), 10, seed=0)


# --- the ordinary loop ------------------------------------------------------------------------------------------------


class MaskedLinear(nn.Linear):
    """A linear layer that multiplies its mask onto the weight whenever it is used."""

    def mask_with(self, mask):
        self.register_buffer("mask", mask.float())

    def forward(self, x):
        return linear(x, self.weight * self.mask, self.bias)


class MaskedLeNet(nn.Module):
    def __init__(self, density):
        super().__init__()
        self.fc1, self.fc2, self.output = MaskedLinear(784, 300), MaskedLinear(300, 100), MaskedLinear(100, 10)
        self.load_state_dict(start_weights())
        for name, mask in random_mask(start_weights(), density).items():
            self.get_submodule(name.removesuffix(".weight")).mask_with(mask)

    def forward(self, x):
        return self.output(torch.relu(self.fc2(torch.relu(self.fc1(x.flatten(1))))))


def vision_dataset(part):
    """torchvision's own MNIST class over images that are already read; each sample goes through its transforms."""
    mnist = torchvision_mnist()
    from torchvision import transforms

    images, labels = raw()[part]
    images, labels = (images[VALIDATION:], labels[VALIDATION:]) if part == 0 else (images, labels)
    dataset = mnist.__new__(mnist)
    dataset.data, dataset.targets, dataset.target_transform = images[:, 0], labels, None
    dataset.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)])
    return dataset


@functools.cache
def ordinary_training(loader_workers, density):
    """The ordinary loop as an endless iterator: each `next` is one step."""
    model = MaskedLeNet(density)
    optimiser = torch.optim.Adam(model.parameters(), lr=LR)
    several = {"persistent_workers": True, "multiprocessing_context": "fork"} if loader_workers else {}
    loader = torch.utils.data.DataLoader(
        vision_dataset(0), BATCH, shuffle=True, drop_last=True, num_workers=loader_workers, **several
    )

    def steps():
        while True:
            for x, y in loader:
                optimiser.zero_grad()
                loss = cross_entropy(model(x), y)
                loss.backward()
                optimiser.step()
                yield

    return steps()


def ordinary_steps(loader_workers, steps, density):
    """Steps a second of the ordinary loop."""
    loop = ordinary_training(loader_workers, density)
    for _ in itertools.islice(loop, WARM):
        pass
    began = time.perf_counter()
    for _ in itertools.islice(loop, steps):
        pass
    return steps / (time.perf_counter() - began)


@functools.cache
def ordinary_evaluation(density):
    return MaskedLeNet(density).eval(), torch.utils.data.DataLoader(vision_dataset(1), 1000)


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
def resident(device):
    (images, labels), test, _ = raw()
    name = data.register("benchmark", train=(images, labels), test=test)
    return data.load(name, VALIDATION, device=device)


def engine_steps(steps, density, networks=1, device="cpu"):
    """Steps a second of `lottery.train.train`, summed over the networks that train together.

    `progress` is called every 100 steps; what lies between the first call and the last but one are steps alone,
    without the set-up and the evaluations at both ends.
    """
    dataset, weights = resident(device), start_weights()
    calls = []

    def progress(done):
        if device == "cuda":
            torch.cuda.synchronize()
        calls.append((time.perf_counter(), done))

    total = WARM + steps + 100
    training = recipes.Training(data=dataset.name, model="lenet-300-100", steps=total, batch=BATCH, optimiser="adam",
                                lr=LR, validation=VALIDATION, evaluate=((total, total),))  # fmt: skip
    mask = random_mask(weights, density)
    train.train(training, dataset, [train.Start(weights, mask, (i,)) for i in range(networks)], progress=progress)
    inside = calls[1:-1]
    return networks * sum(done for _, done in inside) / (inside[-1][0] - calls[0][0])


def engine_evaluate(density):
    """Milliseconds for loss and accuracy of the test set with resident tensors."""
    dataset = resident("cpu")
    model = models.build("lenet-300-100", dataset.shape, dataset.classes).eval()
    model.load_state_dict(masks.apply(start_weights(), random_mask(start_weights(), density)))
    began = time.perf_counter()
    with torch.no_grad():
        train.evaluate(model, *dataset.test)
    return 1000 * (time.perf_counter() - began)


def study_steps(jobs, steps, runs=4):
    """Steps a second of a whole study of independent runs through `lottery.execute`, everything included."""
    (images, labels), test, name = raw()
    name = "mnist" if name == "MNIST" else data.register("benchmark", train=(images, labels), test=test)
    training = recipes.Training(data=name, model="lenet-300-100", steps=steps, batch=BATCH, optimiser="adam", lr=LR,
                                validation=VALIDATION, evaluate=((steps, steps),))  # fmt: skip
    study = [recipes.dense(training, replicate) for replicate in range(runs)]
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
        block.append({"block": title, "unit": unit, "name": name, "n": len(seen), "median": median, "min": min(seen),
                      "max": max(seen), "ratio": median / base if better is max else base / median,
                      "values": seen})  # fmt: skip
    return block


def machine(density):
    """What the figures depend on; nothing that names the machine."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "device": f"{cpu}, {cores} cores" + (f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
        "load before": round(os.getloadavg()[0], 2),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}, lottery {__version__}",
        "data": raw()[2],
        "density": density,
    }


def measure(repeats, steps, density, study):
    """All blocks of the table."""
    plain, tuned, second = Side(tuned=False), Side(tuned=True), Side(tuned=True)

    def one(side, function, *arguments):
        return lambda: side.ask(function, *arguments).recv()

    def both():
        asked = [side.ask("engine_steps", 3 * steps, density) for side in (tuned, second)]
        return sum(answer.recv() for answer in asked)

    try:
        table = compare("training, one thread", "steps/s", {
            "ordinary loop": one(plain, "ordinary_steps", 0, steps, density),
            "ordinary loop, 2 loader processes beside it": one(plain, "ordinary_steps", 2, steps, density),
            "engine": one(tuned, "engine_steps", steps, density),
        }, repeats)  # fmt: skip
        table += compare("evaluation of 10,000 images, one thread", "ms", {
            "ordinary loop": one(plain, "ordinary_evaluate", density),
            "engine": one(tuned, "engine_evaluate", density),
        }, repeats, better=min)  # fmt: skip
        table += compare("engine in several processes, one thread each", "steps/s", {
            "one process": one(tuned, "engine_steps", 3 * steps, density),
            "two processes, both together": both,
        }, repeats)  # fmt: skip
    finally:
        for side in (plain, tuned, second):
            side.stop()
    if study:
        table += compare("a study of 4 runs, all included", "steps/s", {
            "one process": lambda: study_steps(1, study),
            "two processes": lambda: study_steps(2, study),
        }, max(3, repeats // 2))  # fmt: skip
    if torch.cuda.is_available():
        table += compare("engine on the GPU, all networks together", "steps/s", {
            f"{count} network{'s' * (count > 1)}": functools.partial(engine_steps, steps, density, count, "cuda")
            for count in (1, 8, 32)
        }, repeats)  # fmt: skip
    return table


def show(about, table):
    """The table as text."""
    lines = [f"{name}: {value}" for name, value in about.items()]
    for title, rows in itertools.groupby(table, key=lambda row: row["block"]):
        lines += ["", f"{title:52}{'n':>3}{'median':>10}{'min – max':>20}  {'ratio':>6}"]
        for row in rows:
            spread = f"{row['min']:.1f} – {row['max']:.1f}"
            figures = f"{row['n']:3}{row['median']:10.1f}{spread:>20}  {row['ratio']:6.2f}  {row['unit']}"
            lines.append(f"  {row['name']:50}{figures}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each row (7)")
    parser.add_argument("--steps", type=int, default=400, help="steps a measurement, a multiple of 100 (400)")
    parser.add_argument("--density", type=float, default=0.21, help="fraction of weights left (0.21)")
    parser.add_argument("--study", type=int, default=10_000, help="steps of each run of the study, 0: none (10000)")
    parser.add_argument("--json", type=Path, help="also write the figures, every single one, to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    about = machine(options.density)
    table = measure(options.repeats, options.steps, options.density, options.study)
    print(show(about, table))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
