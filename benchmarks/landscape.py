"""Measures curvature and paths of LeNet-300-100 with 10,000 examples on one thread, and prints a table; or a point of
a path of ResNet-20 beside a step of its training.

    python benchmarks/landscape.py [--repeats 7] [--density 0.2] [--json FILE]
    python benchmarks/landscape.py --resnet [--repeats 7] [--json FILE]

A Hessian-vector product in all 266,200 weights is measured beside the plain double backward that a tutorial would
teach (loss, gradient with graph, gradient of its product with the vector: all built anew at each product), in turn
(A B A B …), so that a machine that slows down slows both. Then the ten largest eigenvalues (tolerance 1e-3), 100 steps
of Lanczos and a path of 11 points with the errors and losses of 10,000 training and 10,000 test examples, all of a
ticket. Examples are MNIST's where `LOTTERY_DATA` has it, else random pixels of its shape with labels of a random linear
rule, which cost the same; the network is trained for 300 steps.
"""

import argparse
import copy
import functools
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from lottery import curvature, data, landscape, masks, models, recipes
from lottery.engine import train

EXAMPLES, VALIDATION = 10_000, 5000


def dataset():
    """The data set and how it is called in the table."""
    if (data.folder() / "MNIST" / "raw").is_dir():
        return data.load("mnist", VALIDATION), "MNIST"
    draw = np.random.default_rng(0)
    rule = draw.standard_normal((784, 10))

    def part(count):
        pixels = draw.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
        labels = ((pixels.reshape(count, 784) - 127.5) @ rule).argmax(1)
        return torch.from_numpy(pixels), torch.from_numpy(labels)

    name = data.register("benchmark", part(20_000), part(10_000))
    return data.load(name, VALIDATION), "random pixels of MNIST's shape"


def solution(dataset, density, order):
    """A network after 300 steps, and its mask at a density, cut by magnitude at the start of the training."""
    training = recipes.Training(
        data=dataset.name,
        model="lenet-300-100",
        steps=300,
        batch=60,
        optimiser="adam",
        lr=1.2e-3,
        validation=VALIDATION,
        evaluate=((300, 300),),
    )
    weights = models.initial_weights("lenet-300-100", dataset.shape, dataset.classes, seed=0)
    mask = masks.dense(weights, models.prunable(models.build("lenet-300-100", dataset.shape, dataset.classes)))
    if density < 1:
        mask = masks.prune(mask, masks.magnitude_scores(weights, mask), dict.fromkeys(mask, 1 - density))
    [outcome] = train.train(training, dataset, [train.Start(weights, mask, (order,))])
    return outcome.states[300], mask


def plain(module, state, names, examples):
    """The plain double backward: a function of a list of tensors."""
    module.load_state_dict(state)
    weights = [parameter for name, parameter in module.named_parameters() if name in names]

    def product(vectors):
        loss = cross_entropy(module(examples[0]), examples[1])
        gradients = torch.autograd.grad(loss, weights, create_graph=True)
        inner = sum((gradient * vector).sum() for gradient, vector in zip(gradients, vectors, strict=True))
        return torch.autograd.grad(inner, weights)

    return product


def seconds(work):
    """Of the processor, not of the clock: what else runs on the machine counts little."""
    began = time.process_time()
    work()
    return time.process_time() - began


def in_turn(rows, repeats):
    """Measures every row once, then again: `repeats` times each, after one turn that does not count."""
    values = {name: [] for name in rows}
    for turn in range(repeats + 1):
        for name, work in rows.items():
            value = seconds(work)
            if turn:
                values[name].append(value)
    return values


def measure(repeats, density):
    """About the machine, and row → seconds."""
    found, name = dataset()
    examples, test = tuple(part[:EXAMPLES] for part in found.train), tuple(part[:EXAMPLES] for part in found.test)
    module = models.build("lenet-300-100", found.shape, found.classes)
    state, everything = solution(found, 1, 0)
    ours = curvature.Hessian(module, state, everything, examples, chunk=EXAMPLES)
    pieces = curvature.Hessian(module, state, everything, examples, chunk=1000)
    anew = curvature.Hessian(module, state, everything, examples, chunk=1000, keep=False)
    theirs = plain(module, state, everything, examples)
    vector = torch.randn(ours.size, generator=torch.Generator().manual_seed(0))
    vectors = ours.expand(vector)
    exact = torch.cat([part.flatten() for part in theirs(vectors)])
    assert torch.allclose(ours(vector), exact, rtol=1e-3, atol=1e-6 * float(exact.abs().max()) + 1e-7)
    values = in_turn(
        {
            "product, plain double backward": lambda: theirs(vectors),
            "product, graph kept": lambda: ours(vector),
            "product, graphs of 10 chunks kept": lambda: pieces(vector),
            "product, 10 chunks, nothing kept": lambda: anew(vector),
        },
        repeats,
    )
    (ticket, mask), (other, _) = solution(found, density, 0), solution(found, density, 1)
    live = curvature.Hessian(module, ticket, mask, examples, chunk=EXAMPLES)
    start = torch.randn(live.size, generator=torch.Generator().manual_seed(0))
    values |= in_turn(
        {
            "10 largest eigenvalues": lambda: curvature.top_eigenvalues(live, start, 10),
            "100 steps of Lanczos": lambda: curvature.lanczos(live, start, 100),
            "path of 11 points": lambda: landscape.error_along_path(
                module, [ticket, other], examples, test, mask=mask, statistics=["averaged"]
            ),
        },
        max(3, repeats // 2),
    )
    about = {
        "device": f"{processor()}, 1 thread",
        "load before": round(os.getloadavg()[0], 2),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}",
        "data": name,
        "weights": f"{ours.size}, ticket {live.size}",
    }
    return about, values


def measure_resnet(repeats):
    """About the machine, and row → seconds, of ResNet-20 on inputs of CIFAR-10's shape."""
    draw = torch.Generator().manual_seed(0)
    inputs, labels = torch.randn(4950, 3, 32, 32, generator=draw), torch.randint(0, 10, (4950,), generator=draw)
    train, test = (inputs, labels), (inputs[:1000], labels[:1000])
    sample, few = (inputs[:2000], labels[:2000]), (inputs[2000:4000], labels[2000:4000])
    rows, state = {}, models.initial_weights("resnet-20", (3, 32, 32), 10, seed=0)
    module = models.build("resnet-20", (3, 32, 32), 10)
    whole = landscape.Evaluator(module, train, test)
    rows["a point, all images"] = lambda: whole(state)
    for layout, precision in (("channels_first", "float32"), ("channels_last", "float32"), ("channels_last", "bf16")):
        measured = landscape.Evaluator(module, sample, few, single=True, precision=precision, layout=layout)
        rows[f"a point, 2,000 + 2,000, {layout}, {precision}"] = functools.partial(measured, state)
        rows[f"a training step, {layout}, {precision}"] = step_of(module, train, layout, precision)
    values = in_turn(rows, repeats)
    values["a point, all images"] = [10 * value for value in values["a point, all images"]]
    return {"device": f"{processor()}, 1 thread", "load before": round(os.getloadavg()[0], 2)}, values


def step_of(module, train, layout, precision):
    form = getattr(torch, layout) if layout == "channels_last" else torch.contiguous_format
    module = copy.deepcopy(module).train().to(memory_format=form)
    optimiser = torch.optim.SGD(module.parameters(), 0.01, 0.9, fused=True)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
            logits = module(train[0][:128].contiguous(memory_format=form))
        optimiser.zero_grad()
        cross_entropy(logits.float(), train[1][:128]).backward()
        optimiser.step()

    return step


def processor():
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()


def show(about, values):
    """The table as text; the ratio is to the plain double backward of the same run."""
    base = statistics.median(next(iter(values.values())))
    lines = [f"{name}: {value}" for name, value in about.items()]
    lines += ["", f"{'seconds':48}{'n':>3}{'median':>9}{'min – max':>18}{'ratio':>8}"]
    for name, seen in values.items():
        median, spread = statistics.median(seen), f"{min(seen):.3f} – {max(seen):.3f}"
        lines.append(f"{name:48}{len(seen):3}{median:9.3f}{spread:>18}{median / base:8.2f}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each product (7)")
    parser.add_argument("--density", type=float, default=0.2, help="fraction of weights left in the ticket (0.2)")
    parser.add_argument("--json", type=Path, help="also write the figures, every single one, to this file")
    parser.add_argument("--resnet", action="store_true", help="a point of a path of ResNet-20 beside a training step")
    options = parser.parse_args()
    train.tune_process(1)
    about, values = measure_resnet(options.repeats) if options.resnet else measure(options.repeats, options.density)
    print(show(about, values))
    if options.json:
        options.json.write_text(json.dumps({"about": about, "seconds": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
