"""The engine against an independent plain loop, stacked against single, resumed against uninterrupted."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lottery import data, masks, models, seeds
from lottery import recipes as r
from lottery.engine import chain, sparse
from lottery.engine import train as engine
from lottery.engine.batches import Batches, augment
from lottery.engine.digest import digest
from lottery.engine.network import Single, build
from lottery.engine.stopping import OutOfTime
from lottery.engine.train import Start, TrainingError, evaluate, train

ADAM = dict(optimiser="adam", lr=3e-3)
SGD = dict(optimiser="sgd", lr=0.05, momentum=0.9, weight_decay=1e-2)
BOTH = pytest.mark.parametrize("rule", [ADAM, SGD], ids=["adam", "sgd"])


@pytest.fixture(autouse=True)
def one_thread():
    """Bit-for-bit equality holds for one thread, which is how `execute` trains."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(rule=ADAM, **changes):
    base = dict(data="digits", model="lenet-12", steps=60, batch=50, validation=200, scaling="unit")
    return r.training(**{**base, "evaluate": ((60, 20),), **rule, **changes})


def dataset(training):
    return data.load(training.data, training.validation, training.scaling)


def start(training, replicate=0, density=0.4, **more):
    """Initial weights of a replicate under a random mask of this density (1 trains densely)."""
    shape = dataset(training).shape
    weights = models.initial_weights(training.model, shape, 10, seeds.integer(0, seeds.INITIAL, replicate, 0))
    mask = masks.dense(weights, models.prunable(models.build(training.model, shape, 10)))
    if density < 1:
        draw = torch.Generator().manual_seed(replicate)
        mask = {name: torch.rand(kept.shape, generator=draw) < density for name, kept in mask.items()}
    return Start(weights, mask, (replicate,), **more)


def one(training, begun, **more):
    return train(training, dataset(training), [begun], **more)[0]


def assert_same(one, other):
    """Bit for bit."""
    assert one.states.keys() == other.states.keys()
    for step in one.states:
        assert all(torch.equal(one.states[step][name], other.states[step][name]) for name in one.states[step])
    for column in one.history:
        np.testing.assert_array_equal(one.history[column], other.history[column])
    assert (one.train_loss, one.train_accuracy) == (other.train_loss, other.train_accuracy)


def assert_close(one, other, tolerance=2e-4):
    for step in one.states:
        for name, tensor in one.states[step].items():
            torch.testing.assert_close(tensor, other.states[step][name], rtol=tolerance, atol=tolerance)
    for column in ("validation_loss", "test_loss", "train_loss"):
        np.testing.assert_allclose(one.history[column], other.history[column], rtol=1e-3, atol=1e-3)


# The mask alone freezes.


@BOTH
def test_pruned_weights_are_exactly_zero_after_every_step(rule):
    training = recipe(rule, steps=25)
    begun = start(training)
    states = one(training, begun, keep=range(26)).states
    assert len(states) == 26
    for state in states.values():
        assert not any(state[name][~kept].any() for name, kept in begun.mask.items())


@BOTH
def test_every_weight_that_is_left_moves_whatever_its_sign(rule):
    training = recipe(rule, scaling="standardise")  # then no input is zero and all first-layer weights have a gradient
    begun = start(training)
    before, kept = begun.weights["fc1.weight"], begun.mask["fc1.weight"]
    moved = one(training, begun).states[60]["fc1.weight"] != before
    alive = (moved & kept).any(1, keepdim=True)  # a unit that ReLU never lets through learns nothing
    for sign in (1, -1):
        those = kept & alive & (before.sign() == sign)
        assert those.sum() > 100 and moved[those].all()


@BOTH
@pytest.mark.parametrize("change", [{}, dict(milestones=(20, 40)), dict(warmup=10)], ids=["plain", "drops", "warmup"])
def test_weights_equal_those_of_a_plain_loop_that_masks_in_the_forward_pass(rule, change):
    training = recipe(rule, **change)
    begun = start(training)
    mine = one(training, begun).states[60]

    x, y = dataset(training).train
    weights = {name: tensor.clone().requires_grad_() for name, tensor in begun.weights.items()}
    for name, kept in begun.mask.items():
        weights[name].data[~kept] = 0.0
    optimiser = (
        torch.optim.Adam(weights.values(), rule["lr"])
        if rule is ADAM
        else torch.optim.SGD(weights.values(), rule["lr"], momentum=0.9, weight_decay=1e-2)
    )
    epoch = len(x) // 50
    for step in range(60):
        rate = rule["lr"] * 0.1 ** sum(step >= m for m in training.milestones)
        optimiser.param_groups[0]["lr"] = rate * (min(1, (step + 1) / 10) if training.warmup else 1)
        stream = np.random.SeedSequence([0, 2, 2, 0, step // epoch])  # seed, purpose, two indices: replicate, epoch
        order = np.random.Generator(np.random.PCG64(stream)).permutation(len(x))
        batch = order[step % epoch * 50 :][:50]
        masked = {name: w * begun.mask[name] if name in begun.mask else w for name, w in weights.items()}
        hidden = torch.relu(x[batch].flatten(1) @ masked["fc1.weight"].T + masked["fc1.bias"])
        loss = cross_entropy(hidden @ masked["output.weight"].T + masked["output.bias"], y[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    for name, tensor in weights.items():
        kept = begun.mask.get(name, torch.ones_like(tensor, dtype=torch.bool))
        torch.testing.assert_close(mine[name][kept], tensor[kept], rtol=1e-4, atol=1e-5)


def test_a_mask_that_empties_a_layer_trains_and_is_recorded():
    training = recipe()
    begun = start(training)
    begun.mask["fc1.weight"][:] = False
    run = r.Run(training, r.Initial(0), r.Dense())
    values, arrays = digest(run, begun, one(training, begun), begun.mask)
    assert values["weights_left"] == {"fc1.weight": 0, "output.weight": int(begun.mask["output.weight"].sum())}
    assert arrays["reach/fc1.weight"] == 0 and not arrays["histogram/fc1.weight"].any()


def test_the_starting_weights_and_masks_are_only_read():
    training = recipe()
    begun = start(training)
    before = [{name: t.clone() for name, t in part.items()} for part in (begun.weights, begun.mask)]
    one(training, begun, keep=[0])
    for part, copy in zip((begun.weights, begun.mask), before, strict=True):
        assert all(torch.equal(part[name], copy[name]) for name in copy)


def test_kept_states_share_no_memory():
    states = one(recipe(), start(recipe()), keep=[0, 30]).states
    states[0]["fc1.weight"].fill_(9)
    assert not (states[30]["fc1.weight"] == 9).any() and not (states[60]["fc1.weight"] == 9).any()


# Evaluation.


@pytest.mark.parametrize("batch", [1, 7, 10, 1000])
def test_evaluation_sees_each_example_exactly_once(batch):
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])
    loss, accuracy = evaluate(lambda index: logits[index], torch.arange(10), labels, batch)
    assert loss[0] == pytest.approx(cross_entropy(logits, labels).item())
    assert accuracy[0] == (logits.argmax(1) == labels).double().mean().item()


def test_recorded_accuracy_is_that_of_the_state_kept_at_the_same_step():
    training = recipe()
    outcome = one(training, start(training), keep=[0, 20, 40])
    module = models.build(training.model, (1, 8, 8), 10)
    x, y = dataset(training).test
    for row, step in enumerate((0, 20, 40, 60)):
        module.load_state_dict(outcome.states[step])
        assert outcome.history["step"][row] == step
        assert outcome.history["test_accuracy"][row] == pytest.approx((module(x).argmax(1) == y).double().mean().item())


def test_the_recorded_training_loss_is_the_mean_over_the_batches_since_the_row_before():
    every = one(recipe(evaluate=((60, 1),)), start(recipe())).history["train_loss"]
    coarse = one(recipe(), start(recipe())).history["train_loss"]
    np.testing.assert_allclose(coarse[1:], every[1:].reshape(3, 20).mean(1), rtol=1e-5)
    assert np.isnan(coarse[0])


def test_the_test_set_chooses_nothing():
    training = recipe()
    honest = dataset(training)
    lying = dataclasses.replace(honest, test=(honest.test[0], (honest.test[1] + 1) % 10))
    one_, other = (train(training, given, [start(training)])[0] for given in (honest, lying))
    assert all(torch.equal(one_.states[60][name], other.states[60][name]) for name in one_.states[60])
    np.testing.assert_array_equal(one_.history["validation_loss"], other.history["validation_loss"])
    assert (one_.history["test_accuracy"] != other.history["test_accuracy"]).any()


# Independent streams.


def test_each_epoch_sees_each_training_example_at_most_once_in_a_new_order():
    batches = engine.Batches(recipe(), [(0,)], 1200, "cpu")
    first, second = (torch.cat([batches[step][0] for step in range(at, at + 24)]) for at in (0, 24))
    assert len(first.unique()) == len(second.unique()) == 1200 and not torch.equal(first, second)


def test_an_incomplete_batch_is_left_out():
    batches = engine.Batches(recipe(batch=500), [(0,)], 1200, "cpu")
    assert len(torch.cat([batches[0][0], batches[1][0]]).unique()) == 1000 and len(batches[2][0]) == 500


def test_batches_are_a_function_of_seed_order_and_step_alone():
    def at(step, order=(0,), seed=0):
        return engine.Batches(recipe(seed=seed), [order], 1200, "cpu")[step][0]

    walked = engine.Batches(recipe(), [(0,)], 1200, "cpu")
    for step in range(50):
        last = walked[step][0]
    assert torch.equal(at(49), last)
    others = [at(0, (1,)), at(0, (0, 1)), at(0, (0, 0)), at(0, seed=1)]
    assert not any(torch.equal(at(0), other) for other in others)


def test_streams_do_not_collide_as_multiplied_seeds_do():
    drawn = {
        seeds.integer(seed, purpose, *indices)
        for seed in (0, 1, 2, 789, 1578)
        for purpose in range(6)
        for indices in ((), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0))
    }
    assert len(drawn) == 5 * 6 * 7


def test_streams_are_those_of_numpys_seed_sequence():
    expected = np.random.Generator(np.random.PCG64(np.random.SeedSequence([3, seeds.MASK, 2, 5, 1]))).random(4)
    np.testing.assert_array_equal(seeds.generator(3, seeds.MASK, 5, 1).random(4), expected)


def test_neither_torchs_nor_numpys_global_generator_has_a_say():
    training = recipe(augment=True)
    outcomes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        outcomes.append(one(training, start(training)))
    assert_same(*outcomes)


# Stacked equals single.


@BOTH
def test_stacked_lenets_equal_single_ones(rule):
    training = recipe(rule)
    starts = [start(training, replicate, density) for replicate, density in ((0, 0.4), (1, 0.9), (2, 0.1))]
    stacked = train(training, dataset(training), starts, keep=[0, 20])
    for begun, together in zip(starts, stacked, strict=True):
        assert_close(one(training, begun, keep=[0, 20]), together)


@BOTH
def test_stacked_convolutions_equal_single_ones(rule):
    training = recipe({**rule, "lr": rule["lr"] / 5}, model="conv-2", steps=6, batch=20, evaluate=((6, 3),))
    starts = [start(training, replicate) for replicate in range(2)]
    stacked = train(training, dataset(training), starts)
    for begun, together in zip(starts, stacked, strict=True):
        assert_close(one(training, begun), together)


def test_stacked_equals_single_with_augmentation():
    training = recipe(SGD, augment=True)
    starts = [start(training, replicate) for replicate in range(2)]
    for begun, together in zip(starts, train(training, dataset(training), starts), strict=True):
        assert_close(one(training, begun), together)


class Normalised(nn.Module):
    """A user's own network, with buffers."""

    def __init__(self, shape, classes):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes)
        )

    def forward(self, x):
        return self.inner(x)


class Filters(nn.Module):
    """A user's own small convolutional network."""

    def __init__(self, shape, classes):
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64, classes),
        )

    def forward(self, x):
        return self.inner(x)


def test_stacked_equals_single_with_batch_normalisation():
    models.register("normalised", Normalised)
    training = recipe(SGD, model="normalised", steps=20)
    starts = [start(training, replicate) for replicate in range(2)]
    for begun, together in zip(starts, train(training, dataset(training), starts), strict=True):
        alone = one(training, begun)
        assert_close(alone, together)
        assert alone.states[20]["inner.2.num_batches_tracked"] == 20


# Precision and layout in memory.


def test_a_training_in_bfloat16_rounds_its_products_and_nothing_else(sparse_layers):
    training = recipe(precision="bf16")
    begun = start(training)
    network = build(training, dataset(training), [begun])
    assert not any(isinstance(module, sparse.SparseLinear) for module in network.module.modules())
    x, y = (part[:50] for part in dataset(training).train)
    module = models.build(training.model, (1, 8, 8), 10)
    module.load_state_dict(masks.apply(begun.weights, begun.mask))
    hidden = torch.relu(rounded(x.flatten(1)) @ rounded(module.fc1.weight).T + module.fc1.bias)
    logits = rounded(hidden) @ rounded(module.output.weight).T + module.output.bias
    loss = network.losses(x, y)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, cross_entropy(logits, y), rtol=4e-3, atol=0)
    outcome = one(training, begun, keep=[20])
    assert all(tensor.dtype == torch.float32 for tensor in outcome.states[60].values())
    assert not any(outcome.states[60][name][~kept].any() for name, kept in begun.mask.items())


def rounded(tensor):
    return tensor.bfloat16().float()


@pytest.mark.parametrize("model", ["lenet-12", "conv-2", "resnet-8"])
def test_in_bfloat16_networks_learn_the_same_alone_and_stacked_and_are_judged_in_float32(model):
    training = recipe(SGD, model=model, precision="bf16", steps=8, batch=20, lr=0.01, evaluate=((8, 8),), augment=True)
    starts = [start(training, replicate) for replicate in range(2)]
    stacked = train(training, dataset(training), starts)
    for begun, together in zip(starts, stacked, strict=True):
        alone, whole = one(training, begun), one(dataclasses.replace(training, precision="float32"), begun)
        assert any(not torch.equal(alone.states[8][name], whole.states[8][name]) for name in whole.states[8])
        first, *ends = (
            torch.cat([state[name].flatten() for name in masks.dense(state, begun.mask)])
            for state in (masks.apply(begun.weights, begun.mask), *(o.states[8] for o in (whole, alone, together)))
        )
        far = [((end - ends[0]).norm() / (ends[0] - first).norm()).item() for end in ends]
        assert max(far) < 0.25  # normalisation, in bfloat16 too where a network trains alone, loses most
        module = models.build(model, (1, 8, 8), 10).eval()
        module.load_state_dict(alone.states[8])
        with torch.no_grad():
            assert alone.history["test_loss"][-1] == evaluate(module, *dataset(training).test)[0][0]


def test_tf32_is_refused_where_there_is_none():
    training = recipe(precision="tf32")
    with pytest.raises(TrainingError, match="'tf32' is one of NVIDIA GPUs"):
        one(training, start(training))


@pytest.mark.parametrize("model", ["conv-2", "resnet-8"])
@BOTH
def test_layout_in_memory_changes_rounding_alone(rule, model):
    training = recipe({**rule, "lr": rule["lr"] / 5}, model=model, steps=6, batch=20, evaluate=((6, 3),), augment=True)
    begun = start(training)
    last = dataclasses.replace(training, layout="channels_last")
    network = network_of(last, begun)
    filters = [p for p in network.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    assert filters and all(p.is_contiguous(memory_format=torch.channels_last) for p in filters)
    outcome = one(last, begun)
    assert all(tensor.is_contiguous() for tensor in outcome.states[6].values())
    assert_close(outcome, one(training, begun))


# Multiplying the survivors alone changes nothing.


@pytest.fixture
def sparse_layers(monkeypatch):
    """Makes every masked linear layer sparse, however small or dense."""
    for way in (sparse, chain):
        monkeypatch.setattr(way, "WEIGHTS", 1)
        monkeypatch.setattr(way, "DENSITY", 0.9)


@BOTH
def test_sparse_layers_equal_masked_dense_ones(rule, monkeypatch, sparse_layers):
    training = recipe(rule, model="conv-2", steps=20)
    begun = start(training)
    few = one(training, begun, keep=[0])
    assert any(isinstance(m, sparse.SparseLinear) for m in network_of(training, begun).modules())
    monkeypatch.setattr(sparse, "DENSITY", 0.0)
    whole = one(training, begun, keep=[0])
    assert_close(few, whole)
    assert all(torch.equal(few.states[0][name], whole.states[0][name]) for name in whole.states[0])


def network_of(training, begun):
    return build(training, dataset(training), [begun]).module


def test_gradients_of_a_sparse_layer_are_those_of_the_dense_one(sparse_layers):
    layer, x = nn.Linear(7, 5), torch.randn(4, 7, requires_grad=True)
    mask = torch.rand(5, 7, generator=torch.Generator().manual_seed(3)) < 0.4
    small = sparse.SparseLinear(layer, mask)
    small(x).square().sum().backward()
    into_x, x.grad = x.grad, None
    nn.functional.linear(x, layer.weight * mask, layer.bias).square().sum().backward()
    torch.testing.assert_close(into_x, x.grad)
    torch.testing.assert_close(small.survivors.grad, layer.weight.grad[mask])
    torch.testing.assert_close(small.bias.grad, layer.bias.grad)


def test_only_large_layers_with_few_survivors_are_made_sparse():
    large, few = nn.Linear(784, 300), torch.rand(300, 784, generator=torch.Generator().manual_seed(0)) < 0.05
    assert sparse.pays(large, few) == torch.backends.mkl.is_available()
    assert not sparse.pays(large, torch.ones(300, 784, dtype=torch.bool))
    assert not sparse.pays(nn.Linear(100, 50), few[:50, :100]) and not sparse.pays(nn.Conv2d(3, 5, 3), few)


# LeNets by hand.


def with_dead_parts(begun):
    """The start under a mask in which two inputs and a hidden unit have lost all connections, and a unit all inputs."""
    mask = {name: kept.clone() for name, kept in begun.mask.items()}
    mask["fc1.weight"][:, [20, 30]] = False
    mask["fc1.weight"][[3, 5]] = False
    mask["fc2.weight"][:, 3] = False
    return dataclasses.replace(begun, mask=mask)


def batch_of_chain(begun):
    names = ["fc1", "fc2", "output"]
    made = chain.Chain(names, begun.weights, begun.mask)
    x, y = (part[:50] for part in dataset(recipe()).train)
    return made, x.flatten(1), y


@pytest.mark.parametrize("density", [1, 0.4, 0.05])
@pytest.mark.parametrize("few", [False, True], ids=["masked", "sparse"])
def test_gradients_by_hand_are_those_of_autograd(density, few, monkeypatch, request):
    if few:
        request.getfixturevalue("sparse_layers")
    begun = with_dead_parts(start(recipe(model="lenet-12-8"), density=density))
    made, x, y = batch_of_chain(begun)
    kinds = {type(layer) for layer in made.layers.values()}
    assert kinds == ({chain.Dense} if not few else {chain.Few} if density < 1 else {chain.Few, chain.Dense})
    made.backward(x, 1 - y.clamp(max=1))  # what an earlier batch wrote down is gone
    loss = made.backward(x, y)
    module = models.build("lenet-12-8", (1, 8, 8), 10)
    module.load_state_dict(masks.apply(begun.weights, begun.mask))
    wanted = cross_entropy(module(x), y)
    wanted.backward()
    torch.testing.assert_close(loss, wanted)
    torch.testing.assert_close(made.forward(x), module(x))
    for tensor in made.parameters.values():
        tensor.copy_(tensor.grad)  # `snapshot` then says where each gradient belongs
    for name, got in made.snapshot().items():
        gradient = module.get_parameter(name).grad
        torch.testing.assert_close(got, gradient * begun.mask[name] if name in begun.mask else gradient)


@pytest.mark.parametrize(
    "rule",
    [ADAM, ADAM | dict(weight_decay=1e-2), ADAM | dict(adam_epsilon=1e-2), SGD],
    ids=["adam", "decaying", "epsilon", "momentum, decaying"],
)
@pytest.mark.parametrize("few", [False, True], ids=["masked", "sparse"])
def test_lenets_by_hand_learn_what_the_plain_module_learns(rule, few, monkeypatch, request):
    if few:
        request.getfixturevalue("sparse_layers")
    training = recipe(rule, model="lenet-12-8", steps=300, augment=True)
    begun = with_dead_parts(start(training))
    mine = one(training, begun, keep=[0, 150])
    monkeypatch.setattr(chain, "fits", lambda *_: False)
    monkeypatch.setattr(sparse, "pays", lambda *_: False)
    plain = one(training, begun, keep=[0, 150])
    (assert_close if few else assert_same)(mine, plain)
    assert all(torch.equal(mine.states[0][name], plain.states[0][name]) for name in plain.states[0])
    assert list(mine.states[150]) == list(plain.states[150])
    assert not any(mine.states[300][name][~kept].any() for name, kept in begun.mask.items())


def test_adam_has_the_epsilon_of_the_recipe():
    training = recipe(steps=1, evaluate=((1, 1),))
    begun = start(training)
    moved = {}
    for epsilon in (1e-8, 1.0):  # the first step is lr · g / (|g| + ε)
        states = one(dataclasses.replace(training, adam_epsilon=epsilon), begun, keep=[0]).states
        moved[epsilon] = (states[1]["fc1.weight"] - states[0]["fc1.weight"]).abs().max().item()
    assert moved[1e-8] == pytest.approx(3e-3, rel=1e-3) and moved[1.0] < 1e-3
    with pytest.raises(r.RecipeError, match="adam_epsilon is a setting of Adam"):
        recipe(SGD, adam_epsilon=1e-7)


def test_starting_weights_beyond_a_reach_are_drawn_anew():
    whole, cut = recipe(model="lenet-300-100"), recipe(model="lenet-300-100", cut_start=2.0)
    world = SimpleNamespace(
        dataset=dataset, network=lambda training: models.build(training.model, dataset(training).shape, 10)
    )
    drawn, other = (r.Initial(0).tensors(world, training) for training in (whole, cut))
    for name in models.prunable(world.network(whole)):
        reach = 2 * drawn[name].square().mean().sqrt()
        far = drawn[name].abs() > reach
        assert 0.03 < far.float().mean() < 0.06 and not (other[name].abs() > reach).any()
        assert torch.equal(other[name][~far], drawn[name][~far])  # the others stay
        assert other[name][far].unique().numel() == far.sum()
    assert all(torch.equal(drawn[name], other[name]) for name in drawn if name.endswith("bias"))
    new = []
    for draw in (0, 1):  # each has a stream of its own for what is drawn anew
        drawn, other = (r.Initial(0, draw).tensors(world, training)["fc1.weight"] for training in (whole, cut))
        new.append((other / drawn.square().mean().sqrt())[other != drawn][:100])
    assert not torch.isclose(*new, rtol=1e-3).any()
    with pytest.raises(r.RecipeError, match="cut_start must be 0 or at least 1"):
        recipe(cut_start=0.5)


def frozen(module):
    module.fc1.weight.requires_grad_(False)


def shared(module):
    module.fc3.weight = module.fc2.weight


def hooked(module):
    module.fc2.register_forward_hook(lambda layer, given, made: 2 * made)


def replaced(module):
    module.fc2 = nn.Sequential(module.fc2, nn.ReLU())


def unbiased(module):
    module.output = nn.Linear(12, 10, bias=False)


def parametrised(module):
    nn.utils.parametrizations.weight_norm(module.fc1)


@pytest.mark.parametrize("change", [frozen, shared, hooked, replaced, unbiased, parametrised])
def test_a_lenet_that_was_changed_trains_as_the_module_that_it_is(change):
    def factory(shape, classes):
        module = models.LeNet(shape, classes, (12, 12, 12))
        change(module)
        return module

    models.register(f"changed-{change.__name__}", factory)
    training = recipe(model=f"changed-{change.__name__}")
    begun = start(training)
    unchanged, cpu = models.LeNet((1, 8, 8), 10), torch.device("cpu")
    assert chain.fits(unchanged, training, cpu)
    assert not chain.fits(unchanged, dataclasses.replace(training, precision="bf16"), cpu)
    assert isinstance(build(training, dataset(training), [begun]), Single)


def test_a_lenet_that_a_factory_has_made_is_checked_like_any_network_of_the_users():
    def factory(shape, classes, change=lambda module: None, hidden=(12, 12)):
        module = models.LeNet(shape, classes, hidden)
        change(module)
        return module

    def silenced(module):
        module.fc1.weight.register_hook(torch.zeros_like)

    def shared_memory(module):
        module.fc1.weight.data = module.fc2.weight.data = torch.randn(12, 64)

    for change, said in ((silenced, "hook on its gradient"), (shared_memory, "in the same memory")):
        models.register(change.__name__, lambda *of, change=change: factory(*of, change))
        with pytest.raises(models.ModelError, match=said):
            models.build(change.__name__, (1, 8, 8), 10)

    def twice(module):
        module.hidden = ["fc1", "fc1"]
        nn.init.eye_(module.fc1.weight)

    models.register("one-layer-twice", lambda shape, classes: factory((64,), classes, twice, (64, 64)))
    models.register("no-hidden-layer", lambda *of: factory(*of, hidden=()))
    for name in ("one-layer-twice", "no-hidden-layer"):
        training = recipe(model=name, steps=20)
        begun = start(training, density=1)
        module, given = models.build(name, dataset(training).shape, 10), dataset(training)
        module.load_state_dict(begun.weights)
        optimiser, batches = torch.optim.Adam(module.parameters(), 3e-3), Batches(training, [(0,)], 1200, "cpu")
        for step in range(20):
            optimiser.zero_grad()
            cross_entropy(module(given.train[0][batches[step][0]]), given.train[1][batches[step][0]]).backward()
            optimiser.step()
        for key, tensor in one(training, begun).states[20].items():
            torch.testing.assert_close(tensor, module.state_dict()[key])


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_what_the_caller_works_in_does_not_matter(density):
    training = recipe(steps=20)
    begun = start(training, density=density)
    expected = one(training, begun)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(one(training, begun), expected)


# Augmentation.


def test_augmentation_shifts_by_at_most_four_pixels_and_flips_half_of_the_images():
    x = torch.zeros(2000, 1, 9, 9)
    x[:, 0, 4, 4] = 1.0
    place = augment(x, torch.Generator().manual_seed(0)).flatten(1).argmax(1)
    assert sorted(place.unique().tolist()) == list(range(81))  # from corner to corner
    ramp = torch.arange(8.0).expand(2000, 1, 8, 8) + 1
    rising = augment(ramp, torch.Generator().manual_seed(0))[:, 0].diff(dim=2).flatten(1)
    flipped = (rising == -1).any(1) & ~(rising == 1).any(1)
    assert abs(flipped.float().mean() - 0.5) < 0.05


def test_augmentation_depends_on_its_generator_alone():
    x = torch.randn(5, 3, 8, 8)
    draws = [augment(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


# Dropout.


class Dropping(nn.Module):
    """A user's own network that draws random numbers."""

    def __init__(self, shape, classes):
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes))

    def forward(self, x):
        return self.inner(x)


def test_dropout_is_drawn_from_the_runs_own_stream():
    models.register("dropping", Dropping)
    training = recipe(model="dropping")
    outcomes, before = [], torch.get_rng_state()
    for _ in range(2):
        outcomes.append(one(training, start(training)))
    assert_same(*outcomes)
    assert torch.equal(torch.get_rng_state(), before)
    other = one(training, dataclasses.replace(start(training), order=(1,)))
    assert not torch.equal(outcomes[0].states[60]["inner.1.weight"], other.states[60]["inner.1.weight"])


def test_networks_with_dropout_are_not_stacked():
    models.register("dropping", Dropping)
    training = recipe(model="dropping")
    with pytest.raises(TrainingError, match="random numbers in training: such networks train one by one"):
        train(training, dataset(training), [start(training, 0), start(training, 1)])


# Interrupted and resumed.


class Interrupt(Exception):
    pass


class Memory:
    """A checkpoint in memory."""

    def __init__(self, tensors=None):
        self.tensors, self.saves = tensors, 0

    def load(self):
        return self.tensors

    def save(self, tensors):
        self.tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        self.saves += 1


def interrupted(training, starts, keep=(), at=250):
    """The checkpoint of a training that ended without warning soon after step `at`."""
    checkpoint = Memory()

    def progress(steps, done=[0]):  # noqa: B006
        done[0] += steps
        if done[0] > at:
            raise Interrupt

    with pytest.raises(Interrupt):
        train(training, dataset(training), starts, keep, checkpoint, 0.0, progress)
    assert checkpoint.saves
    return checkpoint


def interrupted_course(training, given, starts, at):
    """What a training would save after the step `at`."""
    course = engine.Course(training, given, starts, [])
    with torch.random.fork_rng(devices=[]):
        course.begin(None)
        while course.step < at:
            course.advance()
    return {name: tensor.clone() for name, tensor in course.tensors().items()}


LONG = dict(steps=450, evaluate=((450, 33),))


@BOTH
@pytest.mark.parametrize(
    "more",
    [
        {},
        dict(augment=True),
        dict(model="dropping"),
        dict(model="normalised"),
        dict(precision="bf16"),
        dict(model="few-filters", layout="channels_last"),
    ],
    ids=["plain", "augmented", "dropout", "normalised", "bf16", "channels_last"],
)
def test_resumed_equals_uninterrupted_bit_for_bit(rule, more):
    models.register("dropping", Dropping)
    models.register("normalised", Normalised)
    models.register("few-filters", Filters)
    training = recipe(rule, **LONG, **more)
    starts = [start(training)]
    checkpoint = interrupted(training, starts, keep=[0, 150, 400])
    resumed = train(training, dataset(training), starts, [0, 150, 400], checkpoint)[0]
    assert_same(resumed, one(training, starts[0], keep=[0, 150, 400]))


@pytest.mark.parametrize("together", [1, 2])
def test_a_training_stops_at_its_deadline_and_goes_on_as_if_it_had_not(together, monkeypatch):
    training, clock = recipe(SGD, **LONG), iter(range(1000))
    starts, checkpoint = [start(training, replicate) for replicate in range(together)], Memory()
    monkeypatch.setattr(engine.stopping, "due", lambda deadline: next(clock) >= deadline)
    for step in (137, 274):  # once a step; the second time on from the first
        with pytest.raises(OutOfTime, match=f"at step {step} of 450"):
            train(training, dataset(training), starts, [0, 100], checkpoint, deadline=step + (step > 137))
    monkeypatch.undo()
    resumed = train(training, dataset(training), starts, [0, 100], checkpoint)
    for one_, other in zip(resumed, train(training, dataset(training), starts, [0, 100]), strict=True):
        assert_same(one_, other)


def test_a_checkpoint_of_another_mask_or_start_under_the_same_key_is_not_gone_on_from():
    training = recipe(**LONG)
    begun, other = start(training), start(training, replicate=1)
    checkpoint, expected = interrupted(training, [begun]), one(training, begun)
    for changed in (dataclasses.replace(begun, mask=other.mask), dataclasses.replace(begun, weights=other.weights)):
        assert_same(one(training, changed, checkpoint=checkpoint), one(training, changed))
    assert_same(one(training, begun, checkpoint=checkpoint), expected)
    del checkpoint.tensors["begun"]  # as those had that were saved before this was known
    assert_same(one(training, begun, checkpoint=checkpoint), expected)


def test_checkpoints_know_parameters_by_name_and_are_only_read():
    training = recipe(**LONG)
    begun = start(training)
    checkpoint, expected = interrupted(training, [begun]), one(training, begun)
    saved = {name: tensor.clone() for name, tensor in checkpoint.tensors.items()}
    checkpoint.tensors = dict(reversed(checkpoint.tensors.items()))
    for _ in range(2):
        assert_same(one(training, begun, checkpoint=checkpoint), expected)
    for name, tensor in saved.items():
        torch.testing.assert_close(checkpoint.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)
    odd = next(name for name in saved if name.startswith("optimiser/exp_avg/"))
    checkpoint.tensors[odd] = checkpoint.tensors[odd].flatten()[1:]  # of another shape: not of this training
    assert_same(one(training, begun, checkpoint=checkpoint), expected)


def test_resumed_equals_uninterrupted_with_sparse_layers(sparse_layers):
    training = recipe(**LONG)
    begun = start(training)
    assert_same(one(training, begun, checkpoint=interrupted(training, [begun])), one(training, begun))


def test_a_checkpoint_of_other_shapes_makes_a_training_begin_again(sparse_layers, monkeypatch):
    """As after an update of the library that makes other layers sparse."""
    training = recipe(**LONG)
    begun = start(training)
    checkpoint = interrupted(training, [begun])
    monkeypatch.setattr(chain, "DENSITY", 0.0)
    assert_same(one(training, begun, checkpoint=checkpoint), one(training, begun))


def test_resumed_equals_uninterrupted_for_stacked_networks():
    training = recipe(SGD, **LONG)
    starts = [start(training, replicate) for replicate in range(2)]
    resumed = train(training, dataset(training), starts, checkpoint=interrupted(training, starts))
    for one_, other in zip(resumed, train(training, dataset(training), starts), strict=True):
        assert_same(one_, other)


def test_a_resumed_training_does_not_begin_again(monkeypatch):
    training, seen = recipe(**LONG), []
    checkpoint = interrupted(training, [start(training)])
    ask = engine.Batches.__getitem__
    monkeypatch.setattr(engine.Batches, "__getitem__", lambda self, step: (seen.append(step), ask(self, step))[1])
    one(training, start(training), checkpoint=checkpoint)
    assert seen[0] == 200 and len(seen) == 250


def test_an_earlier_state_that_nobody_kept_makes_a_training_begin_again():
    training = recipe(**LONG)
    checkpoint = interrupted(training, [start(training)], keep=[])
    resumed = one(training, start(training), keep=[100], checkpoint=checkpoint)
    assert_same(resumed, one(training, start(training), keep=[100]))


def test_progress_adds_up_to_all_steps():
    training, told = recipe(**LONG), []
    one(training, start(training), progress=told.append)
    assert sum(told) == 450
    checkpoint, told = interrupted(training, [start(training)]), []
    one(training, start(training), checkpoint=checkpoint, progress=told.append)
    assert sum(told) == 450


def test_a_rewound_training_goes_on_in_schedule_and_data_order():
    training = recipe(optimiser="sgd", lr=0.05, milestones=(40,))
    whole = one(training, start(training, density=1.0), keep=[30]).states
    rest = one(training, dataclasses.replace(start(training, density=1.0), weights=whole[30], step=30)).states
    assert all(torch.equal(whole[60][name], rest[60][name]) for name in whole[60])  # plain SGD has no other state


# Errors.


def test_a_diverged_training_is_an_error_that_names_step_and_rate():
    training = recipe(optimiser="sgd", lr=1e30)
    with pytest.raises(TrainingError, match=r"not finite at step \d+: lower the learning rate"):
        one(training, start(training))


def test_test_examples_without_an_answer_are_an_error_and_no_right_answers():
    logits = torch.tensor([[torch.nan, torch.nan], [torch.nan, 0.0], [1.0, 0.0], [0.0, -torch.inf]])
    loss, right = models.evaluate(lambda x: x, logits, torch.zeros(4, dtype=torch.int64))
    assert np.isnan(loss) and right == 0.5
    training = recipe()
    examples = data.load(training.data, training.validation, training.scaling)
    x, y = examples.test
    odd = dataclasses.replace(examples, test=(x.index_fill(0, torch.tensor([3]), torch.nan), y))
    with pytest.raises(TrainingError, match="the test loss is not finite at step 0"):
        train(training, odd, [start(training)])


def test_a_batch_larger_than_the_data_is_an_error():
    with pytest.raises(TrainingError, match="larger than the 1200 training examples"):
        one(recipe(batch=1201), start(recipe()))


def test_weights_of_another_network_are_an_error():
    with pytest.raises(TrainingError, match="not those of a conv-2"):
        one(recipe(model="conv-2"), start(recipe()))


def test_a_mask_for_a_bias_is_an_error():
    begun = start(recipe())
    with pytest.raises(TrainingError, match=r"fc1.bias.*not prunable"):
        one(recipe(), dataclasses.replace(begun, mask={"fc1.bias": begun.weights["fc1.bias"] == 0}))


def test_a_mask_of_another_shape_is_an_error():
    with pytest.raises(TrainingError, match=r"output.weight has another shape"):
        one(recipe(), dataclasses.replace(start(recipe()), mask={"output.weight": torch.ones(3, 3, dtype=torch.bool)}))


@pytest.mark.parametrize("odd", [dict(step=5), dict(mask={})], ids=["step", "layers"])
def test_networks_that_do_not_fit_together_are_an_error(odd):
    training = recipe()
    with pytest.raises(TrainingError, match="same step and mask the same layers"):
        train(training, dataset(training), [start(training), dataclasses.replace(start(training, 1), **odd)])
