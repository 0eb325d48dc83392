"""Networks that are none of the papers': each trains as the plain module would, or is refused in a trial by name."""

import copy
import dataclasses
import functools
import gc
import itertools
import math
import random
import re
import time
import warnings
import weakref
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from test_train import Memory, assert_same, interrupted_course  # beside this file
from torch import nn
from torch.autograd.gradcheck import GradcheckError
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, weight_norm

from lottery import (
    LotteryError,
    controls,
    curvature,
    data,
    kernels,
    landscape,
    marks,
    masks,
    models,
    seeds,
    signs,
    tickets,
    worth,
)
from lottery import recipes as r
from lottery.data import Dataset
from lottery.engine import identity, precision, sparse
from lottery.engine.batches import AHEAD, Batches, augment, moved
from lottery.engine.errors import NotStacked, Slower, TrainingError
from lottery.engine.execute import execute
from lottery.engine.network import Single, Stacked, Start, build, draws, stackable
from lottery.engine.store import Store
from lottery.engine.train import train
from lottery.engine.trial import Doubtful, NotPruned, trial
from lottery.engine.world import StoreWorld
from lottery.models import ModelError

CLASSES, LENGTH, WIDTH = 3, 5, 8


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Net(nn.Module):
    """Layers made by a function, called by another; the kinds below differ in these two alone."""

    def __init__(self, make, call):
        super().__init__()
        self.call = call
        for name, part in make().items():
            setattr(self, name, part)

    def forward(self, x):
        return self.call(self, x)


def head(width=16):
    return nn.Linear(width, CLASSES)


class Cosine(nn.Linear):
    def forward(self, x):
        return 10 * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1), self.bias)


class Position(nn.Module):
    def __init__(self, persistent):
        super().__init__()
        self.first = nn.Linear(WIDTH, 16)
        self.register_buffer("place", torch.linspace(0, 1, LENGTH)[:, None], persistent=persistent)
        self.register_buffer("mask", torch.full((LENGTH, LENGTH), -torch.inf).triu(1), persistent=persistent)

    def forward(self, x):
        h = self.first(x) + self.place
        return torch.softmax(h @ h.mT / 4 + self.mask, -1) @ h


class Following(nn.Module):
    """Follows the mean of its inputs by assignment, as an exponential average is mostly written."""

    def __init__(self):
        super().__init__()
        self.first, self.head, self.none = nn.Linear(WIDTH, 16), head(), nn.Parameter(torch.zeros(0, 3))
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 1))
        return self.head(torch.relu(self.first(x - self.mean)).mean(1))


class Frozen(nn.Module):
    def __init__(self):
        super().__init__()
        self.fixed, self.head = nn.Linear(WIDTH, 16), head()
        self.fixed.requires_grad_(False)

    def forward(self, x):
        return self.head(torch.relu(self.fixed(x)).mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.there, self.back, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH), head(WIDTH)
        self.back.weight = self.there.weight

    def forward(self, x):
        return self.head(self.back(torch.relu(self.there(x))).mean(1))


def hooked():
    layer = nn.Linear(WIDTH, 16)
    layer.register_forward_hook(half)
    return layer


def half(layer, given, made):
    return made / 2


def with_inner():
    layer = nn.Linear(WIDTH, 16)
    layer.inner = nn.Linear(16, 16)
    return layer


def two_blocks():
    block = nn.Linear(WIDTH, WIDTH)
    return {"blocks": nn.ModuleList([block, block]), "head": head(WIDTH)}


def through_blocks(net, x):
    for block in net.blocks:
        x = torch.relu(block(x))
    return net.head(x.mean(1))


def at_random(net, x):
    h = net.first(x)
    if net.training and torch.rand(()) < 0.5:
        h = h + net.second(h)
    return net.head(h.mean(1))


def sometimes(net, x):
    """Draws on few batches, which a trial need not see."""
    h = net.first(x)
    if net.training and x[0, 0, 0] > 0.5:
        h = F.dropout(h, 0.5)
    return net.head(h.mean(1))


def attended(net, x):
    h = net.first(x)
    return net.head((h + net.attention(h, h, h, need_weights=False)[0]).mean(1))


def reads_weight(net, x):
    return net.head(F.linear(x, net.first.weight).mean(1))


def recurrent(net, x):
    return net.head(net.rnn(x)[0][:, -1])


class Listed(nn.Module):
    """Calls its layers through a plain list beside the attributes."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(WIDTH, 16), nn.Linear(16, 16), head()
        self.hidden = [self.first, self.second]

    def forward(self, x):
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.head(x.mean(1))


class OneBias(nn.Module):
    """Two layers with one bias."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(WIDTH, 16), nn.Linear(16, 16), head()
        self.second.bias = self.first.bias

    def forward(self, x):
        return self.head(torch.relu(self.second(torch.relu(self.first(x)))).mean(1))


def simple(net, x):
    return net.head(torch.relu(net.first(x)).mean(1))


def first(layer=None):
    return {"first": layer or nn.Linear(WIDTH, 16), "head": head()}


def deep():
    return {"first": nn.Linear(WIDTH, 16), "second": nn.Linear(16, 16), "head": head()}


def attention(**more):
    return {
        "first": nn.Linear(WIDTH, 16),
        "attention": nn.MultiheadAttention(16, 2, batch_first=True, **more),
        "head": head(),
    }


def transformer():
    return {"first": nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), "head": head(WIDTH)}


NETWORKS = {
    "plain": lambda: Net(first, simple),
    "cosine": lambda: Net(lambda: first(Cosine(WIDTH, 16)), simple),
    "hook": lambda: Net(lambda: first(hooked()), simple),
    "reads a weight": lambda: Net(first, reads_weight),
    "counts a weight": lambda: Net(first, lambda net, x: simple(net, x) * (1 + net.first.weight.abs().mean() / 100)),
    "attention": lambda: Net(attention, attended),
    "attention with dropout": lambda: Net(lambda: attention(dropout=0.3), attended),
    "transformer": lambda: Net(transformer, simple),
    "lstm": lambda: Net(lambda: {"rnn": nn.LSTM(WIDTH, 16, 2, batch_first=True), "head": head()}, recurrent),
    "lstm with dropout": lambda: Net(
        lambda: {"rnn": nn.LSTM(WIDTH, 16, 2, batch_first=True, dropout=0.5), "head": head()}, recurrent
    ),
    "gru": lambda: Net(lambda: {"rnn": nn.GRU(WIDTH, 16, batch_first=True), "head": head()}, recurrent),
    "rnn": lambda: Net(lambda: {"rnn": nn.RNN(WIDTH, 16, batch_first=True), "head": head()}, recurrent),
    "transposed": lambda: Net(
        lambda: {"up": nn.ConvTranspose1d(LENGTH, 4, 3), "head": head(WIDTH + 2)},
        lambda net, x: net.head(torch.relu(net.up(x)).mean(1)),
    ),
    "functional dropout": lambda: Net(
        first, lambda net, x: net.head(F.dropout(torch.relu(net.first(x)), 0.5, net.training).mean(1))
    ),
    "rrelu": lambda: Net(
        lambda: first() | {"leak": nn.RReLU()}, lambda net, x: net.head(net.leak(net.first(x)).mean(1))
    ),
    "stochastic depth": lambda: Net(deep, at_random),
    "noise": lambda: Net(
        first, lambda net, x: net.head(net.first(x + 0.1 * torch.randn_like(x) if net.training else x).mean(1))
    ),
    "draws sometimes": lambda: Net(first, sometimes),
    "in place": lambda: Net(lambda: first() | {"act": nn.ReLU(inplace=True)}, lambda net, x: simple(net, net.act(x))),
    "subtracts in place": lambda: Net(first, lambda net, x: simple(net, x.sub_(1.0))),
    "tied": Tied,
    "used twice": lambda: Net(two_blocks, through_blocks),
    "frozen": Frozen,
    "unused": lambda: Net(deep, simple),
    "buffers": lambda: Net(lambda: {"first": Position(True), "head": head()}, simple),
    "buffers that are not saved": lambda: Net(lambda: {"first": Position(False), "head": head()}, simple),
    "weight norm": lambda: Net(lambda: first(parametrizations.weight_norm(nn.Linear(WIDTH, 16))), simple),
    "spectral norm": lambda: Net(lambda: first(parametrizations.spectral_norm(nn.Linear(WIDTH, 16))), simple),
    "batch norm": lambda: Net(
        lambda: first() | {"norm": nn.BatchNorm1d(LENGTH)}, lambda net, x: simple(net, net.norm(x))
    ),
    "a branch on a value": lambda: Net(first, lambda net, x: simple(net, x if x.abs().max() < 1e6 else x / 1e6)),
    "layer in a layer": lambda: Net(
        lambda: first(with_inner()), lambda net, x: net.head(net.first.inner(net.first(x)).mean(1))
    ),
    "follows": Following,
    "computed again": lambda: Net(
        first, lambda net, x: net.head(torch.utils.checkpoint.checkpoint(net.first, x, use_reentrant=False).mean(1))
    ),
    "layers in a list": Listed,
    "one bias": OneBias,
    "own matrix": lambda: Net(
        lambda: {"matrix": nn.Parameter(torch.randn(WIDTH, 16) / 3), "head": head()},
        lambda net, x: net.head((x @ net.matrix).mean(1)),
    ),
}
NETWORK = pytest.mark.parametrize("kind", NETWORKS)
DRAWING = {"attention with dropout", "transformer", "lstm with dropout", "functional dropout", "rrelu"}
DRAWING |= {"stochastic depth", "noise"}


def examples():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(120, LENGTH, WIDTH, generator=draw)
    y = torch.randint(0, CLASSES, (120,), generator=draw)
    return Dataset("own", (x[:60], y[:60]), (x[60:90], y[60:90]), (x[90:], y[90:]), CLASSES)


def recipe(kind, **changes):
    models.register(kind, lambda shape, classes: NETWORKS[kind]())
    base = dict(data="own", model=kind, steps=12, batch=20, optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=0.01)
    return r.training(**{**base, "validation": 30, "evaluate": ((12, 4),), **changes})


def start(training, replicate=0, share=0.5):
    """Initial weights of which magnitude pruning has taken a share."""
    number = seeds.integer(0, seeds.INITIAL, replicate, 0)
    weights = models.initial_weights(training.model, (LENGTH, WIDTH), CLASSES, number)
    kinds = models.prunable(models.build(training.model, (LENGTH, WIDTH), CLASSES))
    dense = masks.dense(weights, kinds)
    mask = masks.prune(dense, masks.magnitude_scores(weights, dense), dict.fromkeys(kinds, share))
    return Start(weights, mask, (replicate,))


def loss_of(training, state, part):
    module = models.evaluating(models.build(training.model, (LENGTH, WIDTH), CLASSES))
    models.load(module, state)
    with torch.no_grad():
        return F.cross_entropy(module(part[0]), part[1]).item()


@NETWORK
def test_a_trial_lets_a_network_that_works_pass(kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if kind in ("frozen", "unused", "weight norm") else "error")
        trial(recipe(kind), examples())


@NETWORK
def test_it_trains_as_the_plain_module_whatever_torchs_generator(kind):
    training, begun, given = recipe(kind), start(recipe(kind)), examples()
    outcomes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        outcomes.append(train(training, given, [begun], keep=[4])[0])
    assert_same(*outcomes)
    state = outcomes[0].states[12]
    assert not any(state[name][~kept].any() for name, kept in begun.mask.items())
    assert any(not torch.equal(state[name], begun.weights[name] * kept) for name, kept in begun.mask.items())
    assert outcomes[0].history["test_loss"][-1] == pytest.approx(loss_of(training, state, given.test), rel=1e-4)
    assert not given.changed and torch.equal(given.test[0], examples().test[0])


@NETWORK
def test_resumed_it_is_uninterrupted_bit_for_bit(kind):
    training, begun, given = recipe(kind), start(recipe(kind)), examples()
    saved = interrupted_course(training, given, [begun], at=5)
    assert_same(train(training, given, [begun], checkpoint=Memory(saved))[0], train(training, given, [begun])[0])


@NETWORK
def test_stacked_it_is_single_or_it_is_not_stacked(kind):
    training, given = recipe(kind), examples()
    starts = [start(training, replicate) for replicate in range(2)]
    try:
        together = train(training, given, starts)
    except NotStacked as error:
        assert kind in str(error) and "one by one" in str(error)
        assert kind not in {"plain", "cosine", "tied", "used twice", "frozen", "unused", "buffers", "own matrix"}
        return
    assert kind not in DRAWING
    for begun, outcome in zip(starts, together, strict=True):
        for name, tensor in train(training, given, [begun])[0].states[12].items():
            torch.testing.assert_close(outcome.states[12][name], tensor, rtol=1e-3, atol=1e-4, msg=name)


def test_what_draws_only_later_ends_a_stacked_training_rather_than_draw_from_nowhere():
    class Later(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head, self.calls = nn.Linear(WIDTH, 16), head(), 0

        def forward(self, x):
            self.calls += 1
            return self.head(F.dropout(self.first(x), 0.5, self.training and self.calls > 8).mean(1))

    NETWORKS["draws later"] = Later
    training = recipe("draws later")
    with pytest.raises(NotStacked, match=r"draws later.*one by one"):
        train(training, examples(), [start(training, 0), start(training, 1)])


@pytest.mark.parametrize("kind", ["lstm", "a branch on a value"])
def test_what_cannot_be_stacked_says_so_once(kind):
    with pytest.warns(Slower, match=f"networks of {kind} cannot be stacked"):
        assert not stackable(recipe(kind), examples())


def less(module, into, out):
    return tuple(gradient * 0.1 for gradient in into)


class Hooked(nn.Module):
    """A network whose outputs say nothing of what a hook does to gradients on their way."""

    def __init__(self, on):
        super().__init__()
        self.first, self.norm, self.head, self.on = nn.Linear(WIDTH, 16), nn.BatchNorm1d(LENGTH), head(), on
        if on == "layer":
            self.head.register_full_backward_hook(less)

    def forward(self, x):
        h = self.norm(self.first(x)).relu()
        if self.on == "tensor" and h.requires_grad:
            h.register_hook(lambda gradient: gradient * 0.1)
        return self.head(h.mean(1))


@pytest.mark.parametrize("on", ["tensor", "layer", "nothing"])
def test_hooks_that_change_gradients_keep_networks_from_being_stacked(on):
    """A bias before normalisation, whose gradient is rounding alone, does not."""
    NETWORKS["hooked"] = lambda: Hooked(on)
    training = recipe("hooked")
    starts = [start(training), start(training, 1)]
    if on == "nothing":
        assert isinstance(build(training, examples(), starts), Stacked)
        return
    with pytest.raises(NotStacked, match=r"its gradient of .* differs from that of the plain network in training"):
        build(training, examples(), starts)


# The sparse layer.


@pytest.fixture
def sparse_layers(monkeypatch):
    monkeypatch.setattr(sparse, "WEIGHTS", 1)
    monkeypatch.setattr(sparse, "DENSITY", 0.9)


@NETWORK
def test_sparse_layers_are_the_same_function_or_are_not_taken(kind, sparse_layers, monkeypatch):
    training, begun, given = recipe(kind), start(recipe(kind)), examples()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        few = train(training, given, [begun])[0]
    monkeypatch.setattr(sparse, "DENSITY", 0.0)
    whole = train(training, given, [begun])[0]
    np.testing.assert_allclose(few.history["test_loss"], whole.history["test_loss"], rtol=1e-4)
    for name, tensor in whole.states[12].items():
        torch.testing.assert_close(few.states[12][name], tensor, rtol=1e-3, atol=1e-4, msg=name)
    said = [warning for warning in said if issubclass(warning.category, Slower)]
    not_taken = {"reads a weight", "counts a weight", "transformer", "layers in a list"}
    assert len(said) == (kind in not_taken), [str(warning.message) for warning in said]


def test_subclasses_and_layers_with_hooks_or_shared_weights_stay_as_they_are(sparse_layers):
    expected = {"plain": 2, "cosine": 1, "hook": 1, "attention": 2, "tied": 1, "used twice": 1, "layer in a layer": 2}
    expected |= {"one bias": 1}
    for kind, replaced in expected.items():
        network = build(recipe(kind), examples(), [start(recipe(kind))])
        assert sum(isinstance(layer, sparse.SparseLinear) for layer in network.module.modules()) == replaced, kind


def mean_teacher():
    """A mean teacher: a pass in training moves frozen weights towards those that are learnt."""

    def forward(net, x):
        if net.training:
            with torch.no_grad():
                net.teacher.weight.mul_(0.7).add_(0.3 * net.learner.weight)
        return net.head(torch.cat([net.learner(x), net.teacher(x)], 1).flatten(1).relu())

    layers = {"learner": nn.Conv2d(3, 4, 3), "teacher": nn.Conv2d(3, 4, 3), "head": head(8 * 16)}
    layers["teacher"].requires_grad_(False)
    return Net(lambda: layers, forward)


def test_a_comparison_leaves_weights_that_a_pass_changes_as_they_were():
    NETWORKS["mean teacher"] = mean_teacher
    x, y = torch.randn(60, 3, 6, 6), torch.arange(60) % CLASSES
    given = Dataset("images", (x, y), (x, y), (x, y), CLASSES)
    training, otherwise = recipe("mean teacher"), recipe("mean teacher", layout="channels_last")
    starts = [Start(models.initial_weights("mean teacher", (3, 6, 6), CLASSES, seed), {}) for seed in (0, 1)]
    [usual] = train(training, given, starts[:1])
    for outcome in (*train(otherwise, given, starts[:1]), train(training, given, starts)[0]):
        for name, tensor in usual.states[12].items():
            torch.testing.assert_close(outcome.states[12][name], tensor, rtol=1e-4, atol=1e-5)
    assert not torch.equal(usual.states[12]["teacher.weight"], starts[0].weights["teacher.weight"])


def test_a_network_that_images_laid_out_otherwise_break_trains_without():
    NETWORKS["views"] = lambda: Net(
        lambda: {"conv": nn.Conv2d(3, 4, 3), "head": head(4 * 16)},
        lambda net, x: net.head(net.conv(x).view(len(x), -1)),
    )
    x, y = torch.randn(60, 3, 6, 6), torch.arange(60) % CLASSES
    given = Dataset("images", (x, y), (x, y), (x, y), CLASSES)
    training = recipe("views", layout="channels_last")
    weights = models.initial_weights("views", (3, 6, 6), CLASSES, 0)
    with pytest.warns(Slower, match="views trains without images that lie channels last"):
        network = build(training, given, [Start(weights, {})])
    assert isinstance(network, Single) and not network.ways


# What is a weight.


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("lstm", ["recurrent"] * 4 + ["output"]),
        ("attention", ["fc", "fc", "fc", "output"]),
        ("transposed", ["conv", "output"]),
        ("own matrix", ["other", "output"]),
        ("weight norm", ["fc", "output"]),
        ("frozen", ["output"]),
        ("tied", ["fc", "output"]),
    ],
)
def test_every_matrix_is_prunable_once(kind, expected):
    assert sorted(models.prunable(NETWORKS[kind]()).values()) == sorted(expected)


def test_biases_scales_and_tokens_are_no_weights():
    def make():
        return {
            "norm": nn.LayerNorm([LENGTH, WIDTH]),
            "token": nn.Parameter(torch.zeros(1, 1, WIDTH)),
            "embedding": nn.Embedding(7, 4),
            "thin": nn.Linear(WIDTH, 1),
            "attention": nn.MultiheadAttention(WIDTH, 2, kdim=3, vdim=3, add_bias_kv=True),
        }

    found = models.prunable(Net(make, simple))
    assert found["embedding.weight"] == "embedding" and found["thin.weight"] == "fc"
    assert {f"attention.{part}_proj_weight" for part in "qkv"} < set(found)
    assert not [name for name in found if "bias" in name or name.startswith(("norm", "token"))]


def test_the_table_has_every_tensor_once():
    net = Net(lambda: {"tied": Tied(), "place": Position(False), "frozen": Frozen()}, simple)
    table = models.table(net)
    assert table["tied.there.weight"].aliases == ("tied.back.weight",) and "tied.back.weight" not in table
    assert not table["place.mask"].persistent and table["place.mask"].buffer and not table["place.mask"].trainable
    assert not table["frozen.fixed.weight"].trainable and table["frozen.fixed.weight"].kind == "fc"
    assert models.table(parametrizations.weight_norm(nn.Linear(3, 3)))["parametrizations.weight.original1"].parametrised


def test_shared_weights_are_counted_masked_and_saved_as_one():
    training = recipe("tied")
    begun = start(training)
    assert masks.density(begun.mask) == 0.5 and set(begun.mask) == {"there.weight", "head.weight"}
    state = train(training, examples(), [begun])[0].states[12]
    assert torch.equal(state["there.weight"], state["back.weight"])
    assert not state["back.weight"][~begun.mask["there.weight"]].any()


@pytest.mark.parametrize("count", [[0], np.zeros(1), deque([0])], ids=["list", "array", "deque"])
def test_a_count_in_a_list_or_an_array_is_refused_where_it_is_read(count):
    def counting(read):
        def forward(net, x):
            net.count[0] += 1
            return net.head(net.first(x).mean(1).relu()) * (1 + read * 1e-4 * float(net.count[0]))

        net = Net(first, forward)
        net.count = copy.deepcopy(count)
        return net

    NETWORKS["counts"], NETWORKS["notes"] = (functools.partial(counting, read) for read in (1, 0))
    with pytest.raises(TrainingError, match="'counts' changes count each time"):
        trial(recipe("counts"), examples())
    trial(recipe("notes"), examples())


@pytest.mark.parametrize("kind", [np.str_, np.array], ids=["text", "array of text"])
def test_text_that_changes_is_refused_where_it_is_read(kind):
    def noting(read):
        def forward(net, x):
            net.note = kind(str(net.note) + "+")
            return simple(net, x) * (1 + read * 1e-4 * len(str(net.note)))

        net = Net(first, forward)
        net.note = kind("seen")
        return net

    NETWORKS["reads notes"], NETWORKS["notes"] = (functools.partial(noting, read) for read in (1, 0))
    with pytest.raises(TrainingError, match="'reads notes' changes note each time"):
        trial(recipe("reads notes"), examples())
    trial(recipe("notes"), examples())


def test_an_array_that_holds_a_nan_is_read_and_stays_as_it_is():
    def made():
        net = Net(first, lambda net, x: simple(net, x) * float(np.nanmax(net.table)))
        net.table = np.array([1.0, math.nan])
        return net

    NETWORKS["table"] = made
    trial(recipe("table"), examples())


STEPS = {"global": 0}


@pytest.mark.parametrize("place", ["global", "closure", "itertools.count", "cycle"])
def test_a_count_that_a_network_keeps_outside_of_itself_is_refused(place):
    passed, counter, numbers = 0, itertools.count(), itertools.cycle(range(3))

    class Counting(Net):
        def forward(self, x):
            nonlocal passed
            if place == "closure":
                passed += 1
            at = {"closure": passed, "global": STEPS["global"]}.get(place, 0)
            STEPS["global"] += place == "global"
            at = next(self.numbers) if place == "cycle" else next(counter) if place == "itertools.count" else at
            return self.head(self.first(x).mean(1).relu()) * (1 + 1e-4 * at)

    def made():
        net = Counting(first, None)
        net.numbers = copy.copy(numbers)
        return net

    NETWORKS["counts"] = made
    with pytest.raises(TrainingError, match=r"each time it is evaluated|computes otherwise when"):
        trial(recipe("counts"), examples())


def test_a_network_that_drifts_away_from_its_weights_is_refused_in_the_end():
    class Hidden:
        """Where no trial looks."""

        __slots__ = ("passes",)

    def made():
        def forward(net, x):
            net.hidden.passes += net.training
            return net.head(net.first(x).mean(1).relu()) * (1 + 0.02 * max(0, net.hidden.passes - 9))

        net = Net(first, forward)
        net.hidden = Hidden()
        net.hidden.passes = 0
        return net

    NETWORKS["drifts"] = made
    training = recipe("drifts")
    trial(training, examples())
    with pytest.raises(TrainingError, match="computes otherwise than a new one with its weights"):
        train(training, examples(), [start(training)])


def test_a_buffer_of_two_names_that_is_assigned_through_one_is_refused():
    def forward(net, x):
        if net.training:
            net.mean = 0.9 * net.mean + 0.1
            net.shown = net.mean if net.both else net.shown
        return net.head(net.first(x - net.shown).mean(1).relu())

    def made(both):
        net = Net(first, forward)
        net.register_buffer("mean", torch.zeros(WIDTH))
        net.register_buffer("shown", net.mean)
        net.both = both
        return net

    NETWORKS["parting"], NETWORKS["following"] = (functools.partial(made, both) for both in (False, True))
    with pytest.raises(TrainingError, match="buffers mean and shown are one tensor, and forward assigns to mean alone"):
        trial(recipe("parting"), examples())
    trial(recipe("following"), examples())


def test_matrices_called_biases_are_named_as_not_pruned():
    def biased():
        net = Net(first, lambda net, x: net.head((net.first(x) + net.bias_map).mean(1).relu()))
        net.bias_map = nn.Parameter(torch.zeros(LENGTH, 16))
        return net

    NETWORKS["biased"] = biased
    assert models.unpruned(biased()) == {"bias_map": LENGTH * 16}
    with pytest.warns(NotPruned, match=r"not pruned, for they are frozen or called biases: bias_map"):
        trial(recipe("biased"), examples())


class Padded(nn.Module):
    """A network with a row for padding, a layer of one weight, and one of double precision."""

    def __init__(self, classes):
        super().__init__()
        self.words, self.scale = nn.Embedding(classes, 8, padding_idx=1), nn.Linear(1, 1)
        self.middle, self.head = nn.Linear(8, 8, dtype=torch.float64), nn.Linear(8, classes)

    def forward(self, x):
        h = self.scale(self.words(x).mean(1)[..., None])[..., 0]
        return self.head(self.middle(h.double()).float().relu())


@pytest.mark.parametrize(
    "altered",
    [
        lambda start: r.Noisy(start, 1.0, 0),
        lambda start: r.Reshuffled(start, r.Dense(), 0),
        lambda start: r.Constant(start),
        lambda start: controls.Drawn(0),
    ],
    ids=["noisy", "reshuffled", "constant", "drawn"],
)
def test_a_row_for_padding_stays_zero_and_a_single_weight_a_number(altered, tmp_path):
    NETWORKS["padded"] = lambda: Padded(5)
    assert models.padding(Padded(5)) == {"words.weight": 1}
    tokens, y = torch.arange(240).view(60, 4) % 5, torch.arange(60) % 5
    training = recipe("padded", data=data.register("tokens", (tokens, y), (tokens, y)), validation=10, scaling="none")
    world = StoreWorld(Store(tmp_path))
    before, after = (weights.tensors(world, training) for weights in (r.Initial(0), altered(r.Initial(0))))
    assert not after["words.weight"][1].any() and after["words.weight"][0].any()
    assert all(tensor.isfinite().all() and tensor.dtype == before[name].dtype for name, tensor in after.items())
    assert not torch.equal(after["words.weight"], before["words.weight"])


@pytest.mark.parametrize("chosen", ["synflow", "edge-popup"])
def test_masks_before_training_take_a_mask_of_minus_infinity_and_double_precision(chosen, tmp_path):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = nn.Linear(WIDTH, 8, dtype=torch.float64), nn.Linear(8, CLASSES)
            self.register_buffer("hidden", torch.full((LENGTH, LENGTH), -torch.inf).triu(1))

        def forward(self, x):
            h = self.inner(x.double()).to(self.head.weight.dtype)
            return self.head((torch.softmax(h @ h.mT + self.hidden, -1) @ h).mean(1))

    NETWORKS["attending"] = Attending
    train, test = examples().train, examples().test
    training = recipe("attending", data=data.register("own", train, test), validation=10, batch=10)
    mask = {
        "synflow": controls.AtStart(training, r.Initial(0), 0.5, "synflow", rounds=3),
        "edge-popup": controls.EdgePopup(training, r.Initial(0), 0.5, 4),
    }[chosen]
    [record] = execute([mask], Store(tmp_path), executor="inline", show=False)
    assert record.values["density"] == pytest.approx(0.5, abs=0.02)


class Translating(nn.Module):
    """A transformer with padded positions, which PyTorch computes otherwise without gradients."""

    def __init__(self, classes):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, activation="gelu")
        self.words, self.inner, self.head = nn.Embedding(7, 8), nn.TransformerEncoder(layer, 1), nn.Linear(8, classes)

    def forward(self, x):
        return self.head(self.inner(self.words(x), src_key_padding_mask=x == 0).mean(1))


def test_what_is_recorded_of_a_transformer_is_the_function_that_is_trained(tmp_path):
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(1, 7, (200, 6), generator=draw)
    x *= torch.arange(6) < torch.randint(2, 7, (200, 1), generator=draw)
    pair = x, x.sum(1) % 2
    NETWORKS["translating"] = lambda: Translating(2)
    name = data.register("padded", pair, pair)
    training = recipe("translating", data=name, validation=50, scaling="none")
    run, store = tickets.dense(training, 0), Store(tmp_path)
    record, spectrum = execute([run, curvature.Spectrum(run, 4, 1, 1)], store, executor="inline", show=False)
    module = Translating(2).train()
    module.load_state_dict(store.state(run.key, 12))
    inputs, labels = data.load(name, 50, "none").train
    assert record.values["train_loss_end"] == pytest.approx(F.cross_entropy(module(inputs), labels).item(), rel=1e-4)
    assert record.values["train_loss_end"] == pytest.approx(spectrum.values["loss"], rel=1e-4)
    assert torch.backends.mha.get_fastpath_enabled()  # as the caller had it


def test_a_network_is_tried_also_where_nothing_of_it_is_trained(tmp_path):
    NETWORKS["always"] = by(lambda net, h: F.dropout(h))
    train_, test_ = examples().train, examples().test
    training = recipe("always", data=data.register("own", train_, test_), validation=10, batch=10)
    with pytest.raises(TrainingError, match="draws random numbers in evaluation too"):
        execute([marks.Beginning(training, r.Initial(0), r.Dense())], Store(tmp_path), executor="inline", show=False)


def test_a_factory_that_seeds_the_generator_is_doubted():
    def seeded():
        torch.manual_seed(0)
        return NETWORKS["plain"]()

    NETWORKS["seeded"] = seeded
    with pytest.warns(Doubtful, match="'seeded' gives the same weights under every seed"):
        trial(recipe("seeded"), examples())


def test_a_head_with_the_weights_of_an_embedding_leaves_no_other_layer_for_the_output(recwarn):
    def tied():
        net = Net(
            lambda: {
                "embed": nn.Embedding(CLASSES, 8),
                "inner": nn.Linear(8, 8),
                "head": nn.Linear(8, CLASSES, bias=False),
            },
            lambda net, x: net.head(net.inner(net.embed(x).mean(1)).relu()),
        )
        net.head.weight = net.embed.weight
        return net

    NETWORKS["tied head"] = tied
    assert models.prunable(tied()) == {"embed.weight": "embedding", "inner.weight": "fc"}
    tokens, y = torch.arange(240).view(60, 4) % CLASSES, torch.arange(60) % CLASSES
    trial(recipe("tied head", scaling="none"), Dataset("tokens", *[(tokens, y)] * 3, CLASSES))
    assert not [one for one in recwarn if "output layer" in str(one.message)]


def test_a_frozen_head_is_the_output_layer_and_no_other_is_taken_for_it(recwarn):
    NETWORKS["frozen head"] = lambda: Net(lambda: first() | {"head": head().requires_grad_(False)}, simple)
    trial(recipe("frozen head"), examples())
    assert [one.category for one in recwarn if one.category in (NotPruned, Doubtful)] == [NotPruned]


@pytest.mark.parametrize("together", [1, 2])
def test_frozen_and_unused_weights_stay_as_they_are(together):
    for kind, names in {"frozen": ("fixed.weight", "fixed.bias"), "unused": ("second.bias",)}.items():
        training = recipe(kind)
        starts = [start(training, replicate) for replicate in range(together)]
        for begun, outcome in zip(starts, train(training, examples(), starts), strict=True):
            assert all(torch.equal(outcome.states[12][name], begun.weights[name]) for name in names)


def test_frozen_weights_are_named_with_their_share():
    with pytest.warns(NotPruned, match=r"72.7% of the weights of 'frozen' are not pruned.*fixed.weight"):
        trial(recipe("frozen"), examples())  # 128 of 128 + 48


def batch_norm(**more):
    return lambda: Net(
        lambda: first() | {"norm": nn.BatchNorm1d(LENGTH, **more)}, lambda net, x: simple(net, net.norm(x))
    )


DOUBTED = {
    "unused": (NETWORKS["unused"], r"59.3% of the weights of 'unused' have no part in its outputs.*second.weight"),
    "unused and last": (
        lambda: Net(lambda: first() | {"aux": nn.Linear(16, 9)}, simple),
        r"aux.weight is taken for the output layer.*but head.weight is called last",
    ),
    "head first": (
        lambda: Net(lambda: {"head": head(), "first": nn.Linear(WIDTH, 16)}, simple),
        r"first.weight is taken for the output layer.*but head.weight is called last",
    ),
    "head before a convolution": (
        lambda: Net(
            lambda: {"head": head(), "first": nn.Conv1d(LENGTH, 16, WIDTH)},
            lambda net, x: net.head(torch.relu(net.first(x)).flatten(1)),
        ),
        r"no layer is taken for the output layer.*but head.weight is called last",
    ),
    "weight norm": (NETWORKS["weight norm"], r"first.weight is computed \(_WeightNorm\).*unit without weights"),
    "softmax": (lambda: Net(first, lambda net, x: simple(net, x).softmax(1)), "'softmax' ends in a softmax"),
}


@pytest.mark.parametrize("kind", DOUBTED)
def test_what_is_hardly_meant_so_is_said_once(kind):
    make, words = DOUBTED[kind]
    models.register(kind, lambda shape, classes: make())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trial(dataclasses.replace(recipe("plain"), model=kind), examples())
    assert len(said) == 1 + (kind == "unused and last") and {warning.category for warning in said} == {Doubtful}
    assert re.search(words, str(said[-1].message))


# What is measured of them.


@pytest.mark.parametrize(
    "kind", ["unused", "attention", "tied", "buffers", "spectral norm", "own matrix", "weight norm"]
)
def test_curvature_is_that_of_the_plain_network(kind):
    """Products with the Hessian are differences of gradients; a weight that is not used has none."""
    training, given = recipe(kind), examples()
    state = {name: tensor.double() for name, tensor in start(training).weights.items()}
    mask = start(training).mask
    module = models.build(kind, (LENGTH, WIDTH), CLASSES)
    pair = given.train[0].double(), given.train[1]
    with precision.exact("cpu"):
        there = curvature.Hessian(module, masks.apply(state, mask), mask, pair)
        step = torch.randn(there.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        got, near = there(step), []
        for sign in (1, -1):
            moved = dict(zip(mask, there.expand(sign * 1e-5 * step), strict=True))
            at = {name: t + moved[name] if name in moved else t for name, t in masks.apply(state, mask).items()}
            near.append(curvature.Hessian(module, at, mask, pair).gradient())
    torch.testing.assert_close(got, (near[0] - near[1]) / 2e-5, rtol=1e-4, atol=1e-7)
    unused = torch.cat([torch.full((int(kept.sum()),), name.startswith("second")) for name, kept in mask.items()])
    assert not got[unused].any() and got[~unused].any()


class Once(torch.autograd.Function):
    """Twice its input, with a gradient that has none."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * gradient


MORE = {
    "once": lambda: Net(first, lambda net, x: simple(net, Once.apply(torch.tanh(net.first(x)))[..., :WIDTH])),
    "bits": lambda: Net(first, lambda net, x: simple(net, x * (x.view(torch.int32) != 0))),  # of float32 alone
    "words": lambda: Net(
        lambda: {"words": nn.Embedding(11, 16), "head": head()}, lambda net, x: net.head(net.words(x).mean(1))
    ),
}


@pytest.mark.parametrize(
    ("kind", "measured", "words"),
    [
        (
            "once",
            curvature.Spectrum,
            "the curvature of network 'once' fails: products with the Hessian are not what gradients",
        ),
        ("bits", signs.Compared, "hidden units cannot be matched: RuntimeError: The size of tensor a"),
        ("bits", controls.AtStart, "snip of network 'bits' fails: RuntimeError: The size of tensor a"),
        ("words", controls.AtStart, "SynFlow .* says nothing where inputs are integers"),
        ("cosine", worth.Speed, "first.weight is no fully connected layer"),
        ("attention", worth.Speed, "attention.in_proj_weight is no fully connected layer"),
        ("plain", kernels.Patterns, "plain has no layer with 3×3 kernels"),
    ],
)
def test_what_cannot_be_measured_of_a_network_is_refused_before_it_trains(kind, measured, words):
    training = registered(kind)
    run = tickets.dense(training, 0)
    recipes = {
        curvature.Spectrum: lambda: measured(run, steps=2),
        signs.Compared: lambda: measured(run, tickets.dense(training, 1), 0),
        controls.AtStart: lambda: measured(training, r.Initial(0), 0.5, "synflow" if kind == "words" else "snip"),
        worth.Speed: lambda: measured(training, r.Dense()),
        kernels.Patterns: lambda: measured(run),
    }
    with pytest.raises(LotteryError, match=words):
        recipes[measured]().check(StoreWorld(None))


def registered(kind):
    """A training of a network of this name on a data set that recipes can load."""
    NETWORKS.update(MORE)
    given = examples()
    x = torch.arange(120 * LENGTH).view(120, LENGTH) % 11 if kind == "words" else given.test[0].repeat(4, 1, 1)
    y = torch.arange(120) % CLASSES
    name = data.register("measured", (x[:90], y[:90]), (x[90:], y[90:]))
    return recipe(kind, data=name, scaling="none")


@pytest.mark.parametrize("kind", ["words", "tied", "functional dropout"])
def test_masks_are_learned_and_scored_at_the_start_of_any_network(kind):
    training, here = registered(kind), StoreWorld(None)
    for mask in (
        controls.AtStart(training, r.Initial(0), 0.5, "snip"),
        controls.EdgePopup(training, r.Initial(0), 0.5, 4),
    ):
        mask.check(here)
        found = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            found.append(mask.compute(here))
        assert found[0][0] == found[1][0] and found[0][1].keys() == found[1][1].keys()
        assert all(np.array_equal(array, found[1][1][name]) for name, array in found[0][1].items())


def test_a_learned_mask_of_a_network_with_running_statistics_is_warned_of():
    plain, normalised = registered("tied"), registered("batch norm")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        controls.EdgePopup(plain, r.Initial(0), 0.5, 4).check(StoreWorld(None))
    with pytest.warns(controls.Untrained, match="running statistics.*GroupNorm"):
        controls.EdgePopup(normalised, r.Initial(0), 0.5, 4).check(StoreWorld(None))


def test_pytorch_gets_the_second_derivative_of_weight_norm_wrong():
    """Which is why curvature computes it from plain operations; when this fails, it need not."""
    v = torch.randn(4, 3, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    g = torch.ones(4, 1, dtype=torch.float64)
    with pytest.raises(GradcheckError):
        torch.autograd.gradgradcheck(lambda v: (torch._weight_norm(v, g, 0) ** 3).sum(), (v,))


def test_masks_of_attention_are_no_divergence_and_survive_a_path():
    states = [start(recipe("buffers"), replicate).weights for replicate in range(2)]
    between = landscape.combine(states, [1.5, -0.5])
    assert torch.equal(between["first.mask"], states[0]["first.mask"])
    states[1]["head.weight"][0, 0] = -torch.inf
    with pytest.raises(landscape.LandscapeError, match=r"head.weight is not finite"):
        landscape.combine(states, [0.5, 0.5])


# What is refused.


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps, self.first, self.head = 0, nn.Linear(WIDTH, 16), head()

    def forward(self, x):
        self.steps += self.training
        return self.head(self.first(x).mean(1) * (10 * self.steps if self.training else 1))


class Shift(nn.Module):
    """Adds to a weight what is learned from zero."""

    def __init__(self, units):
        super().__init__()
        self.by = nn.Parameter(torch.zeros(units, 1))

    def forward(self, weight):
        return weight + self.by


def shifted(layer):
    parametrize.register_parametrization(layer, "weight", Shift(len(layer.weight)))
    return layer


class Remembering(nn.Module):
    """Keeps a running mean as an attribute, which no state dict has."""

    def __init__(self):
        super().__init__()
        self.head = head(WIDTH)
        self.register_buffer("mean", torch.zeros(WIDTH), persistent=False)

    def forward(self, x):
        if self.training:
            self.mean.add_(x.detach().mean((0, 1)) + 1)
        return self.head(x.mean(1) + self.mean)


class Passing(nn.Module):
    """Changes a buffer in training by `change(net, x)`, and computes with `read(net)`."""

    def __init__(self, change, read, persistent=False):
        super().__init__()
        self.first, self.head, self.change, self.read = nn.Linear(WIDTH, 16), head(), change, read
        self.register_buffer("steps", torch.zeros(()), persistent=persistent)
        self.register_buffer("mean", torch.zeros(16), persistent=persistent)

    def forward(self, x):
        h = self.first(x).mean(1)
        if self.training:
            self.change(self, h.detach())
        return self.head(h * self.read(self))


def stepped(net, h):
    net.steps += 1


def averaged(net, h):
    net.mean.lerp_(h.mean(0), 0.001)


def warmed(net):
    return (net.steps / 10_000).clamp(max=1) + 0.001 if net.training else 1


def judged(net):
    return 1 if net.training else 1 + 2 * net.mean.abs()


class Keeping(nn.Module):
    """Keeps what is no tensor, and changes it by `change(net, x)`, in a layer, in training."""

    total = 0

    def __init__(self, change, always=False, reads=True):
        super().__init__()
        self.change, self.always, self.first, self.head = change, always, nn.Linear(WIDTH, 16), head()
        self.first.heat, self.seen, self.own, self.mean = 1.0, [], SimpleNamespace(steps=0), torch.zeros(WIDTH)
        self.reads = reads

    def forward(self, x):
        if self.training or self.always:
            self.change(self, x.detach())
        late = max(len(self.seen), self.own.steps, Keeping.total) > 100  # as a schedule of the user's own
        return self.head(self.first(x).mean(1) / self.first.heat + self.mean.mean() / 1000 + late * self.reads)


def kept(change, **how):
    return lambda: Keeping(change, **how)


def cooled(net, x):
    net.first.heat *= 0.9999


def counted(net, x):
    Keeping.total += 1


def followed(net, x):
    net.mean = 0.999 * net.mean + 0.001 * x.mean((0, 1))


def noted(net, x):
    """What one pass leaves, and the next one leaves as well."""
    net.shape, net.last, net.seen, net.table = x.shape, x, [float(x.mean()), math.nan], {len(x): x.sum(0)}


def drawn_by_numpy():
    net = Net(first, simple)
    net.first.weight.data = torch.from_numpy(np.random.rand(16, WIDTH).astype(np.float32))  # noqa: NPY002
    return net


def drawn_by_its_own(generator=torch.Generator().manual_seed(0)):  # noqa: B008
    net = Net(first, simple)
    nn.init.normal_(net.first.weight, generator=generator)
    return net


def broken():
    net = Net(first, simple)
    nn.init.constant_(net.head.bias, torch.nan)
    return net


def by(function):
    return lambda: Net(first, lambda net, x: net.head(function(net, net.first(x)).mean(1)))


class Late(nn.Module):
    """Makes its weights when it is first used."""

    def __init__(self):
        super().__init__()
        self.head = head(WIDTH)

    def forward(self, x):
        if not hasattr(self, "first"):
            self.first = nn.Parameter(torch.randn(WIDTH, WIDTH))
        return self.head((x @ self.first).mean(1))


class Bound(nn.Module):
    """Holds a function that holds the network."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, 16), head()
        self.act = lambda x: torch.relu(self.first(x))

    def forward(self, x):
        return self.head(self.act(x).mean(1))


def gradients_halved():
    net = Net(first, simple)
    net.first.weight.register_hook(half_gradient)
    return net


def half_gradient(gradient):
    return gradient / 2


def of_few_bits():
    return Net(lambda: {"first": nn.Linear(WIDTH, CLASSES).bfloat16()}, lambda net, x: net.first(x.bfloat16()).mean(1))


class Averaging(nn.Module):
    """Follows the mean of its inputs, in evaluation as well."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("mean", torch.zeros(WIDTH))

    def forward(self, x):
        self.mean.mul_(0.9).add_(x.detach().mean((0, 1)), alpha=0.1)
        return self.first(x - self.mean).mean(1)


class Growing(nn.Module):
    """Moves its weights itself."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.first.weight.add_(0.01)
        return self.first(x).mean(1)


class Hiding(nn.Module):
    """Has a layer in a list, of which PyTorch knows nothing."""

    def __init__(self):
        super().__init__()
        self.layers, self.head = [nn.Linear(WIDTH, 16)], head()

    def forward(self, x):
        return self.head(torch.relu(self.layers[0](x)).mean(1))


def in_the_same_memory():
    first, second = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
    second.weight = nn.Parameter(first.weight.data)
    return nn.Sequential(first, second, nn.Flatten(), nn.Linear(LENGTH * WIDTH, CLASSES))


class Viewing(nn.Module):
    """Has buffers in the memory of other tensors: `view(net)` → name → buffer."""

    def __init__(self, view):
        super().__init__()
        self.first, self.head = nn.Linear(WIDTH, 16), head()
        for name, tensor in view(self).items():
            self.register_buffer(name, tensor)

    def forward(self, x):
        h = self.first(x).mean(1)
        if self.training and "lower" in self._buffers:
            self.lower.lerp_(h.detach().mean(0), 0.1)
        return self.head(h)


def viewing(view):
    return lambda: Viewing(view)


def halves(net):
    table = torch.zeros(16, 4)
    return {"left": table[:, :2], "right": table[:, 2:], "all": torch.arange(9), "none": torch.zeros(0)}


def rows(net):
    table = torch.zeros(2, 16)
    return {"both": table, "lower": table[1]}


ONE = nn.Sequential(nn.Flatten(), nn.Linear(LENGTH * WIDTH, CLASSES))

REFUSED = {
    "learns from test examples": (Averaging, TrainingError, "changes mean when it is evaluated"),
    "grows again": (Growing, TrainingError, "has written into first.weight"),
    "late": (Late, TrainingError, "makes first in forward: make all tensors in __init__"),
    "bound": (Bound, TrainingError, "keep no function that holds the network itself"),
    "half a gradient": (gradients_halved, ModelError, "first.weight has a hook on its gradient"),
    "few bits": (of_few_bits, ModelError, "first.weight is torch.bfloat16: weights are float32.*precision='bf16'"),
    "no gradient": (lambda: Net(first, torch.no_grad()(simple)), TrainingError, "depend on none of the weights"),
    "no statistics": (batch_norm(track_running_stats=False), TrainingError, "in another batch.*track_running_stats"),
    "squeezes": (
        lambda: Net(first, lambda net, x: simple(net, x).squeeze()),
        TrainingError,
        r"outputs of shape \[3\] for a batch of 1",
    ),
    "uses none": (
        lambda: Net(
            lambda: first() | {"shift": nn.Parameter(torch.ones(CLASSES))}, lambda net, x: x.mean(1)[:, :3] * net.shift
        ),
        TrainingError,
        "depend on none of the weights",
    ),
    "same memory": (in_the_same_memory, ModelError, "0.weight and 1.weight are two parameters in the same memory"),
    "transposed": (
        viewing(lambda net: {"turned": net.first.weight.data.t()}),
        ModelError,
        "the buffer turned is in the memory of the parameter first.weight.*read first.weight in forward",
    ),
    "a bias": (viewing(lambda net: {"shift": net.first.bias.detach()[3:5]}), ModelError, "of the parameter first.bias"),
    "rows": (viewing(rows), TrainingError, "buffers both and lower are in the same memory and change in training"),
    "a sparse buffer": (
        viewing(lambda net: {"few": torch.eye(3).to_sparse()}),
        ModelError,
        "few is sparse_coo, which cannot be copied.*to_dense",
    ),
    "hidden layer": (Hiding, TrainingError, "draws something that its state dict does not hold.*nn.ModuleList"),
    "one module": (lambda: ONE, ModelError, "returns the same module each time.*build a new one"),
    "compiled": (lambda: torch.jit.script(ONE), ModelError, "compiled by torch.jit"),
    "numpy": (drawn_by_numpy, ModelError, "called twice under one seed.*first.weight"),
    "own generator": (drawn_by_its_own, ModelError, "called twice under one seed.*first.weight"),
    "python's random": (by(lambda net, h: h * random.random()), TrainingError, "Python's or NumPy's global generator"),
    "numpy's random": (by(lambda net, h: h * np.random.rand()), TrainingError, "Python's or NumPy's"),  # noqa: NPY002
    "always dropout": (by(lambda net, h: F.dropout(h)), TrainingError, "in evaluation too.*training=self.training"),
    "many outputs": (lambda: Net(lambda: first() | {"head": nn.Linear(16, 9)}, simple), TrainingError, "has 3 classes"),
    "few outputs": (lambda: Net(lambda: first() | {"head": nn.Linear(16, 2)}, simple), TrainingError, "has 3 classes"),
    "all outputs": (lambda: Net(first, lambda net, x: net.head(net.first(x))), TrainingError, r"\[16, 5, 3\]"),
    "a tuple": (lambda: Net(first, lambda net, x: (simple(net, x), x)), TrainingError, "returns tuple"),
    "wide": (
        lambda: Net(lambda: first(nn.Linear(9, 16)), simple),
        TrainingError,
        "in layer 'first'.*cannot be multipl",
    ),
    "lazy": (lambda: Net(lambda: first(nn.LazyLinear(16)), simple), ModelError, "first.weight has no shape yet"),
    "meta": (
        lambda: Net(lambda: first(nn.Linear(WIDTH, 16, device="meta")), simple),
        ModelError,
        "first.weight is on the device 'meta'.*on the CPU",
    ),
    "old weight norm": (lambda: Net(lambda: first(weight_norm(nn.Linear(WIDTH, 16))), simple), TrainingError, "copied"),
    "orthogonal": (
        lambda: Net(lambda: first(parametrizations.orthogonal(nn.Linear(WIDTH, 16))), simple),
        TrainingError,
        r"first.weight is computed \(_Orthogonal\).*cannot be pruned",
    ),
    "shift": (
        lambda: Net(lambda: first(shifted(nn.Linear(WIDTH, 16))), simple),
        TrainingError,
        r"first.weight is computed \(Shift\).*cannot be pruned",
    ),
    "counting": (Counting, TrainingError, "interrupted and resumed"),
    "cooling": (kept(cooled), TrainingError, "changes first.heat each time it is trained.*register_buffer"),
    "one class": (kept(counted), TrainingError, "changes Keeping.total each time it is trained"),
    "a list": (kept(lambda net, x: net.seen.append(len(x))), TrainingError, "changes seen each time it is trained"),
    "an object": (
        kept(lambda net, x: vars(net.own).update(steps=net.own.steps + 1)),
        TrainingError,
        "changes own.steps each",
    ),
    "a mean": (kept(followed), TrainingError, "changes mean each time it is trained"),
    "evaluations": (kept(cooled, always=True), TrainingError, "changes first.heat each time it is evaluated"),
    "remembering": (Remembering, TrainingError, "its state dict does not hold"),
    "warming": (
        lambda: Passing(stepped, warmed),
        TrainingError,
        "changes steps in training and.*register it persistent",
    ),
    "judged by": (
        lambda: Passing(averaged, judged),
        TrainingError,
        "changes mean in training .*register it persistent",
    ),
    "nothing": (
        lambda: Net(lambda: {"n": nn.LayerNorm(WIDTH)}, lambda net, x: net.n(x).mean(1)[:, :3]),
        TrainingError,
        "no trainable",
    ),
    "broken": (broken, TrainingError, "not finite at its initial weights"),
    "no module": (lambda: simple, ModelError, "returned function, not a torch.nn.Module"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated:DeprecationWarning")
def test_what_would_fail_later_is_refused_by_name(kind):
    make, error, words = REFUSED[kind]
    models.register(kind, lambda shape, classes: make())
    training = dataclasses.replace(recipe("plain"), model=kind)
    with pytest.raises(error, match=words) as found:
        trial(training, examples())
    assert repr(kind) in str(found.value) or kind in {"python's random", "numpy's random"}


def test_what_a_pass_leaves_in_attributes_is_no_state():
    for i, change in enumerate([noted, counted, lambda net, x: net.seen.append(float(x.mean()))]):  # never read
        models.register(f"noting {i}", lambda shape, classes, change=change: Keeping(change, reads=False))
        trial(recipe("plain", model=f"noting {i}"), examples())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Passing(stepped, warmed, persistent=True),
        lambda: Passing(stepped, lambda net: 1),
        lambda: Passing(lambda net, h: net.mean.copy_(h.mean(0)), lambda net: 1 + net.mean * net.training),
    ],
    ids=["persistent", "never read", "written first"],
)
def test_buffers_that_a_pass_changes_and_none_reads_again_need_not_persist(make):
    models.register("passing", lambda shape, classes: make())
    trial(recipe("plain", model="passing"), examples())


def test_a_network_may_be_evaluated_with_an_average_of_weights_that_starts_at_zero():
    def averaged(net, x):
        h = torch.relu(net.first(x)).mean(1)
        if not net.training:
            return torch.nn.functional.linear(h, net.mean, net.head.bias)
        with torch.no_grad():
            net.mean.lerp_(net.head.weight, 0.1)
        return net.head(h)

    def made(shape, classes):
        net = Net(first, averaged)
        net.register_buffer("mean", torch.zeros_like(net.head.weight))
        return net

    models.register("averaged", made)
    trial(recipe("plain", model="averaged"), examples())


def test_buffers_beside_each_other_in_one_memory_are_let_pass():
    def same(net):
        table = torch.ones(4, 4)
        return {"whole": table, "part": table[:2], **halves(net)}  # which never change

    models.register("halves", lambda shape, classes: Viewing(same))
    trial(recipe("plain", model="halves"), examples())


def test_a_batch_of_one_is_tried_where_it_is_trained_with():
    models.register("normed", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(40), nn.Linear(40, 3)))
    trial(recipe("plain", model="normed"), examples())
    with pytest.raises(TrainingError, match=r"'normed' fails in training, in layer '1'.*more than 1 value per channel"):
        trial(recipe("plain", model="normed", batch=1), examples())


def test_ids_beyond_an_embedding_are_found_wherever_in_the_data_they_are():
    models.register(
        "few-words", lambda shape, classes: nn.Sequential(nn.Embedding(11, 4), nn.Flatten(), nn.Linear(24, 3))
    )
    x, y = torch.arange(360).view(60, 6) % 11, torch.arange(60) % CLASSES
    other = x.clone()
    other[50, 3] = 11
    for part, words in {"train": "when it evaluates", "test": "in training"}.items():
        given = Dataset("ids", (x, y), (x, y), (x, y), CLASSES)
        trial(dataclasses.replace(recipe("plain"), model="few-words"), given)
        with pytest.raises(TrainingError, match=f"'few-words' fails {words}.*in layer '0'.*index out of range"):
            trial(
                dataclasses.replace(recipe("plain"), model="few-words"),
                dataclasses.replace(given, **{part: (other, y)}),
            )


class Silent(nn.Sequential):
    """Keeps its normalisation fixed, with a `train` that returns nothing."""

    def train(self, mode=True):
        super().train(mode)
        self[1].eval()


def test_a_train_that_returns_nothing_is_as_good_as_one_that_returns_the_module():
    models.register("silent", lambda shape, classes: Silent(nn.Flatten(), nn.BatchNorm1d(40), nn.Linear(40, 3)))
    training, given = recipe("plain", model="silent"), examples()
    trial(training, given)
    begun = start(training)
    state = train(training, given, [begun])[0].states[12]
    assert torch.equal(state["1.running_mean"], begun.weights["1.running_mean"])
    module = models.build("silent", (LENGTH, WIDTH), CLASSES)
    measured = landscape.Evaluator(module, given.train, given.test, ("averaged",))(state)
    assert measured["averaged/test_loss"] == pytest.approx(loss_of(training, state, given.test))
    assert curvature.Hessian(module, state, begun.mask, given.train).size == 60


def test_token_ids_are_tried_and_trained_as_integers():
    NETWORKS["tokens"] = lambda: Net(
        lambda: {"words": nn.Embedding(11, 16), "head": head()}, lambda net, x: net.head(net.words(x).mean(1))
    )
    x, y = torch.arange(360).view(60, 6) % 11, torch.arange(60) % CLASSES
    given, training = Dataset("ids", (x, y), (x, y), (x, y), CLASSES), recipe("tokens")
    trial(training, given)
    assert stackable(training, given)
    weights = models.initial_weights("tokens", (6,), CLASSES, 0)
    mask = {name: tensor > 0 for name, tensor in weights.items() if name in ("words.weight", "head.weight")}
    starts = [Start(weights, mask, (replicate,)) for replicate in range(2)]
    outcomes = train(training, given, starts)
    assert not any(outcome.states[12]["words.weight"][~mask["words.weight"]].any() for outcome in outcomes)
    models.register(
        "sparse-tokens",
        lambda shape, classes: Net(
            lambda: {"words": nn.Embedding(11, 16, sparse=True), "head": head()},
            lambda net, x: net.head(net.words(x).mean(1)),
        ),
    )
    with pytest.raises(TrainingError, match=r"words.weight has sparse gradients.*sparse=False"):
        trial(dataclasses.replace(training, model="sparse-tokens"), given)


def test_a_trial_of_lenet_takes_less_than_a_second_of_this_process():
    training = r.training(
        data="digits", model="lenet-300-100", steps=9, batch=60, optimiser="adam", lr=1e-3, validation=200
    )
    digits = data.load("digits", 200)
    began = time.process_time()
    trial(training, digits)
    assert stackable(training, digits) and time.process_time() - began < 1


def test_a_network_that_works_in_place_leaves_the_data_as_they_were():
    training = r.training(data="digits", model="in-place", steps=9, batch=60, optimiser="adam", lr=1e-3, validation=200)
    models.register(
        "in-place", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.ReLU(True), nn.Linear(64, classes))
    )
    digits = data.load("digits", 200)
    before = [tensor.clone() for part in (digits.train, digits.validation, digits.test) for tensor in part]
    weights = models.initial_weights("in-place", digits.shape, 10, 0)
    train(training, digits, [Start(weights, {})])
    after = [tensor for part in (digits.train, digits.validation, digits.test) for tensor in part]
    assert not digits.changed and all(map(torch.equal, before, after))


# A failed training leaves nothing behind.


def test_a_kept_error_keeps_no_network_alive():
    held, training = [], recipe("plain", lr=1e30, optimiser="sgd", momentum=0.0)

    def made(shape, classes):
        net = NETWORKS["plain"]()
        held.append(weakref.ref(net))
        return net

    models.register("plain", made)
    begun = start(training)
    with pytest.raises(TrainingError, match="not finite") as found:
        train(training, examples(), [begun])
    gc.collect()
    assert held and not any(ref() is not None for ref in held) and found.value is not None


# What is drawn ahead is what was drawn a step at a time.


def test_augmentation_drawn_ahead_is_that_of_each_step():
    training = r.training(
        data="digits", model="lenet-12", steps=9, batch=6, optimiser="adam", lr=1e-3, validation=200, augment=True
    )
    batches, x = Batches(training, [(0,), (3, 1)], 60, "cpu"), torch.randn(12, 1, 8, 8)
    for step in (0, 1, AHEAD - 1, AHEAD, 5):
        alone = [
            augment(x[6 * i :][:6], torch.Generator().manual_seed(seeds.integer(0, seeds.AUGMENT, *order, step)))
            for i, order in enumerate([(0,), (3, 1)])
        ]
        assert torch.equal(torch.cat(alone), moved(x, batches.augmentation(step)))


# Precision.


def test_switches_are_set_as_asked_and_put_back_and_the_old_ones_stay_readable():
    """The switches are there without a GPU."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn

    def seen():
        return matmul.fp32_precision, cudnn.conv.fp32_precision, matmul.allow_tf32, cudnn.allow_tf32

    before = seen()
    for asked, wanted in (("tf32", ("tf32", "tf32", True, True)), ("float32", ("ieee", "ieee", False, False))):
        with precision.multiplying(asked, torch.device("cuda")):
            assert seen() == wanted
        assert seen() == before


def test_attention_can_be_differentiated_twice_where_measurements_are_made():
    q = torch.randn(2, 2, 5, 4, requires_grad=True)

    def twice():
        [gradient] = torch.autograd.grad(F.scaled_dot_product_attention(q, q, q).square().sum(), q, create_graph=True)
        return torch.autograd.grad(gradient.sum(), q)[0]

    with pytest.raises(RuntimeError):
        twice()
    with precision.exact("cpu"):
        assert twice().isfinite().all()


def test_stacked_networks_are_what_build_gives_for_several():
    training = recipe("plain")
    assert isinstance(build(training, examples(), [start(training), start(training, 1)]), Stacked)


@pytest.mark.parametrize("frozen", [True, False])
def test_tensors_that_a_factory_keeps_are_never_written_to(frozen):
    vectors = torch.randn(16, WIDTH, generator=torch.Generator().manual_seed(0))
    before = vectors.clone()

    def pretrained(shape, classes):
        layer = nn.Embedding.from_pretrained(vectors, freeze=frozen)
        return nn.Sequential(layer, nn.Flatten(), nn.Linear(LENGTH * WIDTH, classes))

    name = f"pretrained-{frozen}"
    models.register(name, pretrained)
    ids = torch.randint(0, 16, (60, LENGTH), generator=torch.Generator().manual_seed(1))
    labels = ids[:, 0] % 2
    given = data.register("ids", (ids[:40], labels[:40]), (ids[40:], labels[40:]))
    training = r.training(
        data=given, model=name, steps=5, batch=10, optimiser="sgd", lr=0.5, validation=10, scaling="none"
    )
    dataset = data.load(given, 10, "none")
    first = identity.network(training)
    weights = models.initial_weights(name, dataset.shape, dataset.classes, 0)
    train(training, dataset, [Start(weights, {})])
    assert torch.equal(vectors, before) and torch.equal(weights["0.weight"], before)
    identity._network.cache_clear()
    assert identity.network(training) == first


def test_what_another_thread_draws_meanwhile_is_not_the_networks():
    class Beside(nn.Linear):
        passes = 0

        def forward(self, x):
            self.passes += 1
            if self.passes < 3:  # as a thread of a Dask worker does now and then
                random.random()
            return super().forward(x)

    net = Beside(WIDTH, 2)
    assert not draws(net, torch.ones(1, WIDTH)) and net.passes == 3


def test_stacked_networks_leave_the_row_of_padding_alone_that_the_first_examples_do_not_have():
    """Under vmap, `padding_idx` holds for the first network only."""
    ids = torch.randint(1, 9, (200, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[60:, 3:] = 0
    given = data.register("padded", (ids[:160], ids[:160, 0] % 2), (ids[160:], ids[160:, 0] % 2))
    models.register(
        "padded",
        lambda _, n: nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Flatten(), nn.Linear(4 * LENGTH, n)),
    )
    training = r.training(
        data=given, model="padded", steps=10, batch=20, optimiser="sgd", lr=0.5, validation=20, scaling="none"
    )
    dataset = data.load(given, 20, "none")
    weights = [models.initial_weights("padded", dataset.shape, dataset.classes, seed) for seed in (0, 1)]
    starts = [Start(one, masks.dense(one, ["0.weight", "2.weight"])) for one in weights]
    assert isinstance(build(training, dataset, starts), Stacked)
    together, alone = train(training, dataset, starts), [train(training, dataset, [one])[0] for one in starts]
    for one, other in zip(together, alone, strict=True):
        assert not one.states[10]["0.weight"][0].any()
        assert torch.allclose(one.states[10]["0.weight"], other.states[10]["0.weight"], atol=1e-5)


class Standardised(nn.Conv2d):
    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Binarised(nn.Linear):
    def forward(self, x):
        signs = torch.where(self.weight >= 0, 1.0, -1.0)
        return F.linear(x, self.weight + (signs - self.weight).detach(), self.bias)


class Centred(nn.Module):
    """Knows no kind of PyTorch's, and multiplies by its transposed, centred weight."""

    def __init__(self, a, b):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(b, a))

    def forward(self, x):
        return x @ (self.kernel - self.kernel.mean(1, keepdim=True)).T


class InList(nn.Module):
    """Standardises, while it trains alone, weights that stand in a list."""

    def __init__(self, a, b):
        super().__init__()
        self.kernels = nn.ParameterList([nn.Parameter(torch.randn(b, a))])

    def forward(self, x):
        kernel = self.kernels[0]
        return F.linear(x, kernel - kernel.mean(1, keepdim=True) if self.training else kernel)


class Unfolded(nn.Module):
    """Convolves by hand, with binarised filters."""

    def __init__(self):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(4, 1, 3, 3))

    def forward(self, x):
        signs = torch.where(self.kernel >= 0, 1.0, -1.0)
        kernel = self.kernel + (signs - self.kernel).detach()
        return (kernel.flatten(1) @ F.unfold(x.view(-1, 1, 8, 8), 3)).flatten(1)


class Complex(nn.Module):
    """Multiplies by complex weights in two parts, and sums two matrices: each part is zero where it is pruned."""

    def __init__(self, a, b):
        super().__init__()
        self.real, self.imaginary, self.more = (nn.Parameter(torch.randn(a, b) / a) for _ in range(3))

    def forward(self, x):
        z = x.to(torch.complex64) @ torch.complex(self.real, self.imaginary)
        return z.abs() + x @ (self.real + self.more)


class Coarse(nn.Module):
    """Signs, filters of one entry, a noise of the weights in training, and a loop that ends for small weights alone."""

    def __init__(self, a):
        super().__init__()
        self.signs, self.rho, self.again = (nn.Parameter(torch.randn(a, a) / a) for _ in range(3))
        self.depthwise = nn.Parameter(torch.randn(a, 1, 1))

    def forward(self, x):
        signs = self.signs + (self.signs.sign() - self.signs).detach()
        if self.training:
            signs = signs + torch.randn_like(signs) * F.softplus(self.rho)
        x = x @ signs
        x = F.conv1d(x[..., None], F.normalize(self.depthwise, dim=2), groups=x.shape[1])[..., 0]
        z = torch.zeros_like(x)
        with torch.no_grad():
            while (step := torch.tanh(z @ self.again + x) - z).norm() > 1e-3:
                z = z + step
        return torch.tanh(z @ self.again + x)


class Queries(nn.Module):
    """Learned queries, normalised before their projection, as inputs of a layer are."""

    def __init__(self, classes):
        super().__init__()
        self.queries, self.positions = nn.Parameter(torch.randn(4, 12)), nn.Parameter(torch.randn(4, 12))
        self.norm, self.asked, self.key, self.out = (
            nn.LayerNorm(12),
            nn.Linear(12, 12),
            nn.Linear(1, 12),
            nn.Linear(12, classes),
        )

    def forward(self, x):
        keys = self.key(x.flatten(1)[..., None])
        asked = self.asked(self.norm(self.queries) + self.positions)
        return self.out((torch.softmax(asked @ keys.mT, -1) @ keys).mean(1))


class Gathered(nn.Module):
    """Each example has a matrix of its own among as many as are tried."""

    def __init__(self, a, b):
        super().__init__()
        self.gate, self.experts = nn.Linear(a, 16), nn.Parameter(torch.randn(16, a, b) / a)

    def forward(self, x):
        share, asked = torch.softmax(self.gate(x), -1).max(-1)
        return torch.bmm(x[:, None], self.experts[asked])[:, 0] * share[:, None]


class Factored(nn.Module):
    """Multiplies by a product of two square matrices, each of which may be pruned."""

    def __init__(self, a):
        super().__init__()
        self.left, self.right = (nn.Parameter(torch.randn(a, a) / a**0.5) for _ in range(2))

    def forward(self, x):
        return F.linear(x, 2 * (self.left @ self.right))


class Adapted(nn.Linear):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.down, self.up = nn.Parameter(torch.randn(2, a)), nn.Parameter(torch.zeros(b, 2))

    def forward(self, x):
        return F.linear(x, self.weight + self.up @ self.down, self.bias)


@pytest.mark.parametrize(
    ("layers", "name"),
    [
        (lambda n: [nn.Unflatten(1, (1, 8, 8)), Standardised(1, 2, 3), nn.Flatten(), nn.Linear(72, n)], "1.weight"),
        (lambda n: [nn.Linear(64, 8), nn.ReLU(), Binarised(8, n)], "2.weight"),
        (lambda n: [Adapted(64, n)], "0.weight"),
        (lambda n: [Centred(64, 16), nn.ReLU(), nn.Linear(16, n)], "0.kernel"),
        (lambda n: [InList(64, 16), nn.ReLU(), nn.Linear(16, n)], "0.kernels.0"),
        (lambda n: [Unfolded(), nn.ReLU(), nn.Linear(144, n)], "0.kernel"),
        (lambda n: [Complex(64, 16), nn.ReLU(), nn.Linear(16, n)], None),
        (lambda n: [Queries(n)], None),
        (lambda n: [Coarse(64), nn.Linear(64, n)], None),
        (lambda n: [Gathered(64, 8), nn.ReLU(), nn.Linear(8, n)], None),
        (lambda n: [Cosine(64, 64), nn.ReLU(), nn.Linear(64, n)], None),
        (lambda n: [Factored(64), nn.ReLU(), nn.Linear(64, n)], None),
    ],
)
def test_layers_whose_zero_weights_still_act_are_refused(layers, name):
    models.register("acting", lambda _, n: nn.Sequential(nn.Flatten(), nn.Sequential(*layers(n))))
    training = r.training(data="digits", model="acting", steps=5, batch=20, optimiser="sgd", lr=0.1, validation=100)
    if name is None:
        trial(training, data.load("digits", 100))
        return
    with pytest.raises(TrainingError, match=rf"multiplies by what it computes from 1\.{name}"):
        trial(training, data.load("digits", 100))


class AtItsFifthStep(nn.Module):
    """Does something with its first weights at its fifth step of training, and reads them then alone."""

    def __init__(self, width, classes, change):
        super().__init__()
        self.first, self.out, self.change = nn.Linear(64, width), nn.Linear(width, classes), change
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        if self.training:
            self.count += 1
            if self.count == 5:
                with torch.no_grad():
                    self.change(self.first.weight)
        return self.out(F.relu(self.first(x.flatten(1))))


def test_pruned_weights_that_a_network_writes_late_are_found_at_the_end():
    models.register("written", lambda _, n: AtItsFifthStep(12, n, lambda weight: weight[:3].fill_(0.1)))
    training = r.training(data="digits", model="written", steps=6, batch=20, optimiser="sgd", lr=0.1, validation=100)
    dataset = data.load("digits", 100)
    trial(training, dataset)
    start = models.initial_weights("written", dataset.shape, dataset.classes, 0)
    mask = masks.dense(start, ["first.weight", "out.weight"])
    train(training, dataset, [Start(start, mask)])
    pruned = masks.prune(mask, masks.magnitude_scores(start, mask), dict.fromkeys(mask, 0.5))
    with pytest.raises(TrainingError, match=r"has written into first\.weight in the course of its training"):
        train(training, dataset, [Start(start, pruned)])


def test_a_network_that_reads_a_sparse_layer_later_trains_with_the_plain_module():
    models.register("max norm", lambda _, n: AtItsFifthStep(1024, n, lambda weight: weight.mul_(0.5)))
    training = r.training(data="digits", model="max norm", steps=6, batch=20, optimiser="sgd", lr=0.1, validation=100)
    dataset = data.load("digits", 100)
    start = models.initial_weights("max norm", dataset.shape, dataset.classes, 0)
    mask = masks.dense(start, ["first.weight", "out.weight"])
    mask = masks.prune(mask, masks.magnitude_scores(start, mask), dict.fromkeys(mask, 0.95))
    start = masks.apply(start, mask)
    with pytest.warns(Slower, match="trains without sparse products"):
        [found] = train(training, dataset, [Start(start, mask)])
    module = models.build("max norm", dataset.shape, dataset.classes)
    module.load_state_dict(found.states[6])
    assert module.count == 6 and not module.first.weight[~mask["first.weight"]].any()


class Reading(nn.Module):
    """A lambda that reads the network itself, where this starts at a constant."""

    def __init__(self, classes):
        super().__init__()
        self.first, self.out = nn.Linear(64, 12), nn.Linear(12, classes)
        self.scale = nn.Parameter(torch.ones(12))
        self.act = lambda h: F.relu(h) * self.scale

    def forward(self, x):
        return self.out(self.act(self.first(x.flatten(1))))


class Annealed(nn.Module):
    """Counts slowly in a buffer that is not kept."""

    def __init__(self, classes):
        super().__init__()
        self.out = nn.Linear(64, classes)
        self.register_buffer("count", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.count += 1
        return self.out(x.flatten(1)) / (1 - self.count / 100_000).clamp(min=0.5)


@pytest.mark.parametrize(
    ("kind", "said"), [(Reading, "keep no function that holds the network itself"), (Annealed, "does not hold it")]
)
def test_what_copies_or_the_state_dict_lack_is_refused(kind, said):
    models.register("lacking", lambda _, n: kind(n))
    training = r.training(data="digits", model="lacking", steps=6, batch=20, optimiser="sgd", lr=0.1, validation=100)
    with pytest.raises(TrainingError, match=said):
        trial(training, data.load("digits", 100))


class OutsideOfTorch(nn.Module):
    """Reads its inputs by NumPy, which takes none that require a gradient."""

    def __init__(self, classes):
        super().__init__()
        self.out = nn.Linear(34, classes)

    def forward(self, x):
        spectrum = np.fft.rfft(x.numpy().reshape(len(x), -1), n=66, axis=1).real
        return self.out(torch.from_numpy(spectrum.astype("float32")))


def test_inputs_are_read_as_they_are():
    models.register("outside", lambda _, n: OutsideOfTorch(n))
    training = r.training(data="digits", model="outside", steps=6, batch=20, optimiser="sgd", lr=0.1, validation=100)
    trial(training, data.load("digits", 100))


class Words(nn.Module):
    """Reads ids, or pixels that are darker than half, as integers."""

    def __init__(self, classes, threshold):
        super().__init__()
        self.threshold, self.embedding, self.out = threshold, nn.Embedding(50, 8), nn.Linear(8, classes)
        nn.init.zeros_(self.out.weight)

    def forward(self, x):
        x = (x > 0.5) if self.threshold else x
        return self.out(self.embedding(x.long().flatten(1)).mean(1))


@pytest.mark.parametrize("scaling", ["unit", "unit-norm"])
def test_ids_in_bytes_that_pass_for_images_are_refused(scaling):
    ids = torch.randint(0, 50, (220, 3, 6), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    given = data.register("bytes", (ids[:160], ids[:160, 0, 0].long() % 2), (ids[160:], ids[160:, 0, 0].long() % 2))
    models.register("words", lambda _, n: Words(n, False))
    models.register("dark", lambda _, n: Words(n, True))
    how = {"steps": 5, "batch": 20, "optimiser": "sgd", "lr": 0.1, "scaling": scaling}
    with pytest.raises(TrainingError, match=r'gives what it gives for zeros.*scaling="none" keeps them integers'):
        trial(r.training(data=given, model="words", validation=20, **how), data.load(given, 20, scaling))
    how["scaling"] = "unit"
    trial(r.training(data="digits", model="dark", validation=100, **how), data.load("digits", 100, "unit"))


def test_a_matrix_that_a_normalisation_layer_of_the_users_adds_is_pruned():
    class Adaptive(nn.LayerNorm):
        def __init__(self, n):
            super().__init__(n)
            self.projection = nn.Parameter(torch.randn(n, n))

        def forward(self, x):
            return super().forward(x) @ self.projection

    net = nn.Sequential(Adaptive(12), nn.Linear(12, 3))
    assert models.prunable(net) == {"0.projection": "other", "1.weight": "output"}


class Casting(nn.Module):
    """Enters autocast itself, and says its outputs in bfloat16."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.out = nn.Linear(64, 32), nn.Linear(32, classes)

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.out(F.relu(self.first(x.flatten(1))))


def test_a_network_that_enters_autocast_trains_and_its_losses_are_float32(tmp_path):
    models.register("casting", Casting)
    given = {"data": "digits", "model": "casting", "batch": 20, "optimiser": "sgd", "lr": 0.1, "validation": 100}
    training = r.training(**given, steps=10, evaluate=((10, 1),))
    [record] = execute([tickets.dense(training, 0)], Store(tmp_path), executor="inline", show=False)
    losses = torch.from_numpy(record.arrays["history/train_loss"][1:]).float()
    assert not (losses.bfloat16().float() == losses).all()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", ["one id an example", "one example to validate"])
def test_the_smallest_shapes_are_tried_and_trained(kind, tmp_path):
    if kind == "one id an example":
        ids = torch.arange(300) % 10
        given = data.register("ids", (ids[:200], ids[:200] % 3), (ids[200:], ids[200:] % 3))
        models.register("smallest", lambda _, n: nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, n)))
        more = {"data": given, "scaling": "none", "validation": 40}
    else:
        layers = nn.Flatten, lambda: nn.Linear(64, 8), lambda: nn.BatchNorm1d(8)
        models.register("smallest", lambda _, n: nn.Sequential(*(make() for make in layers), nn.Linear(8, n)))
        more = {"data": "digits", "validation": 1}
    training = r.training(model="smallest", steps=5, batch=20, optimiser="sgd", lr=0.1, **more)
    [record] = execute([tickets.dense(training, 0)], Store(tmp_path), executor="inline", show=False)
    assert record.values["test_accuracy_end"] > 0


class Padding(nn.Module):
    """Padding by the function, which no table of layers shows."""

    def __init__(self, shape, classes):
        super().__init__()
        self.words, self.out = nn.Parameter(torch.randn(9, 4)), nn.Linear(4 * LENGTH, classes)

    def forward(self, x):
        return self.out(F.embedding(x, self.words, padding_idx=0).flatten(1))


@pytest.mark.filterwarnings("ignore")
def test_networks_are_compared_with_their_stack_on_rare_integers_too():
    ids = torch.randint(1, 9, (200, LENGTH), generator=torch.Generator().manual_seed(0))
    ids[60:, 3:] = 0
    given = data.register("rare", (ids[:160], ids[:160, 0] % 2), (ids[160:], ids[160:, 0] % 2))
    models.register("padding", Padding)
    training = r.training(
        data=given, model="padding", steps=10, batch=20, optimiser="sgd", lr=0.5, validation=20, scaling="none"
    )
    assert not stackable(training, data.load(given, 20, "none"))
