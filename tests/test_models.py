"""Networks: the papers' sizes, initial weights that depend on the seed alone, names that are refused."""

import copy
import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from lottery import curvature, data, masks, models, recipes
from lottery.engine import train
from lottery.models import ModelError


def own(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape).numel(), classes))


def sizes(name, shape):
    return {key: tuple(w.shape) for key, w in models.initial_weights(name, shape, 10, 0).items() if w.ndim > 1}


def test_sizes_by_kind_are_those_of_the_papers_table():
    found = models.sizes(models.build("lenet-300-100", (1, 28, 28), 10))
    assert found == {"fc": 784 * 300 + 300 * 100, "output": 1000}


def test_lenet_has_the_papers_layers():
    found = sizes("lenet-300-100", (1, 28, 28))
    assert found == {"fc1.weight": (300, 784), "fc2.weight": (100, 300), "output.weight": (10, 100)}
    assert sum(a * b for a, b in found.values()) == 266_200


@pytest.mark.parametrize("name, weights", [("conv-2", 4_300_992), ("conv-4", 2_425_024), ("conv-6", 2_261_184)])
def test_conv_networks_have_the_papers_number_of_weights(name, weights):
    found = models.initial_weights(name, (3, 32, 32), 10, 0)
    assert sum(w.numel() for key, w in found.items() if key.endswith("weight")) == weights


def test_a_narrow_conv_network_has_the_papers_proportions():
    wide, narrow = (sizes(name, (3, 32, 32)) for name in ("conv-4", "conv-4-16"))
    ends = {"conv1.weight", "output.weight"}  # one side of these does not change
    assert all(a[0] == 4 * b[0] and a[1] == 4 * b[1] for a, b in ((wide[n], narrow[n]) for n in wide.keys() - ends))
    assert narrow["conv1.weight"] == (16, 3, 3, 3) and narrow["output.weight"] == (10, 64)
    assert sizes("conv-4-64", (3, 32, 32)) == wide


@pytest.mark.parametrize(
    "name, shape",
    [
        ("lenet-20", (1, 8, 8)),
        ("lenet-5-4-3", (7,)),
        ("conv-2", (3, 32, 32)),
        ("conv-4", (1, 28, 28)),
        ("conv-6", (1, 8, 8)),
        ("conv-2-dropout", (1, 8, 8)),
        ("conv-2-8", (1, 8, 8)),
        ("vgg-19", (1, 8, 8)),
        ("resnet-18", (1, 8, 8)),
    ],
)
def test_a_network_maps_a_batch_to_logits(name, shape):
    assert models.build(name, shape, 10)(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_rectifying_after_pooling_changes_no_bit(layout):
    """Conv rectifies what pooling leaves, a quarter; the paper's order gives the same logits and gradients."""
    x = torch.randn(20, 3, 16, 16, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=layout)
    ends = []
    for textbook in (False, True):
        net = models.build("conv-4", (3, 16, 16), 10, seed=1).to(memory_format=layout)
        if textbook:
            y = x
            for i in range(1, 5):
                y = torch.relu(getattr(net, f"conv{i}")(y))
                y = nn.functional.max_pool2d(y, 2) if i % 2 == 0 else y
            logits = net.output(torch.relu(net.fc2(torch.relu(net.fc1(y.flatten(1))))))
        else:
            logits = net(x)
        nn.functional.cross_entropy(logits, torch.arange(20) % 10).backward()
        ends.append([logits, *(parameter.grad for parameter in net.parameters())])
    assert all(map(torch.equal, *ends))


def test_initial_weights_are_glorot_normal_and_biases_zero():
    state = models.initial_weights("lenet-300-100", (1, 28, 28), 10, 0)
    assert state["fc1.weight"].std().item() == pytest.approx((2 / (784 + 300)) ** 0.5, rel=0.01)
    assert not any(state[key].any() for key in state if key.endswith("bias"))


def test_initial_weights_depend_on_the_seed_alone():
    torch.manual_seed(1)
    one = models.initial_weights("lenet-20", (1, 8, 8), 10, seed=7)
    torch.manual_seed(2)
    same = models.initial_weights("lenet-20", (1, 8, 8), 10, seed=7)
    other = models.initial_weights("lenet-20", (1, 8, 8), 10, seed=8)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one["fc1.weight"], other["fc1.weight"])


def test_building_a_network_leaves_torchs_generator_as_it_was():
    before = torch.get_rng_state()
    models.build("lenet-20", (1, 8, 8), 10, seed=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_biases_and_normalisation_are_never_prunable():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2), nn.Linear(2, 2))
    assert models.prunable(module) == {"0.weight": "conv", "3.weight": "fc", "4.weight": "output"}


def test_the_output_layer_is_known_as_such():
    kinds = models.prunable(models.build("conv-2", (1, 8, 8), 10))
    assert list(kinds) == ["conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "output.weight"]
    assert list(kinds.values()) == ["conv", "conv", "fc", "fc", "output"]


def test_a_frozen_head_makes_no_hidden_layer_the_output():
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, 10).requires_grad_(False))
    assert models.prunable(module) == {"1.weight": "fc"}
    module[1].requires_grad_(False), module[3].requires_grad_(True)
    assert models.prunable(module) == {"3.weight": "output"}


def test_images_too_small_for_the_poolings_are_an_error():
    with pytest.raises(ModelError, match="4×4 are too small for 3 poolings"):
        models.build("conv-6", (1, 4, 4), 10)


@pytest.mark.parametrize(
    "name",
    [
        "lenet",
        "lenet-0",
        "lenet-a",
        "conv-3",
        "conv",
        "conv-dropout",
        "conv-2-dropout-2",
        "conv-2-0",
        "conv-2-8-8",
        "vgg",
        "vgg-16",
        "vgg-19-0",
        "vgg-19-8-8",
        "",
    ],
)
def test_unknown_names_are_refused_with_those_that_are_known(name):
    with pytest.raises(ModelError, match=r"known: lenet-300-100 .*conv-6.*register"):
        models.build(name, (1, 8, 8), 10)


def test_a_registered_network_is_built_by_its_name():
    models.register("own", own)
    assert models.build("own", (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_the_papers_names_cannot_be_taken():
    with pytest.raises(ModelError, match="papers' networks"):
        models.register("conv-4", own)


# Residual networks.


@pytest.mark.parametrize(
    "name, shape, weights, parameters",
    [
        ("resnet-8", (1, 8, 8), 77_072, 77_754),
        ("resnet-20", (3, 32, 32), 270_896, 272_474),
        ("resnet-20-glorot", (3, 32, 32), 270_896, 272_474),
    ],
)
def test_residual_networks_have_the_papers_number_of_weights(name, shape, weights, parameters):
    module = models.build(name, shape, 10)
    kinds = models.prunable(module)
    assert sum(module.state_dict()[key].numel() for key in kinds) == weights
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert kinds["output.weight"] == "output" and not any("norm" in key for key in kinds)
    assert len([key for key in kinds if "shortcut" not in key]) == int(name.split("-")[1])
    assert module(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    "name, weights, left_out",
    [
        ("resnet-20-glorot", 270_896, {"blocks.*.shortcut.*": 2_560, "output": 640}),
        ("vgg-19", 20_024_000, {"output": 5_120}),
    ],
)
def test_deep_networks_are_pruned_globally_over_the_weights_that_the_paper_names(name, weights, left_out):
    module = models.build(name, (3, 32, 32), 10)
    state, kinds = module.state_dict(), models.prunable(module)
    rates = masks.rates({"conv": 0.2, **dict.fromkeys(left_out, 0.0)}, kinds)
    dense = masks.dense(state, kinds)
    pruned = masks.prune(dense, masks.magnitude_scores(state, dense), rates, "global")
    whole = [key for key in kinds if rates[key] == 0]
    assert sum(masks.count(dense).values()) == weights
    assert sum(dense[key].numel() for key in whole) == sum(left_out.values())
    assert all(pruned[key].all() for key in whole)
    assert sum(masks.count(pruned).values()) == weights - round(0.2 * (weights - sum(left_out.values())))


def test_a_narrow_vgg_keeps_its_proportions():
    narrow, full = (
        {
            name: weights.numel()
            for name, weights in models.build(model, (3, 32, 32), 10).named_parameters()
            if weights.ndim == 4
        }
        for model in ("vgg-19-8", "vgg-19")
    )
    assert [full[name] // narrow[name] for name in full] == [8] + 15 * [64]


def test_vgg_pools_small_images_only_as_often_as_they_can_be():
    pools = [
        sum(isinstance(layer, nn.MaxPool2d) for layer in models.build("vgg-19", (3, size, size), 10).features)
        for size in (32, 16, 8, 4)
    ]
    assert pools == [4, 4, 3, 2]


def test_initial_weights_drawn_in_several_threads_are_those_of_one():
    def drawn(number):
        return models.initial_weights("lenet-60-30", (1, 8, 8), 10, number % 4)

    alone = [drawn(number) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(drawn, range(100)))
    assert all(torch.equal(w, alone[n % 4][key]) for n, state in enumerate(found) for key, w in state.items())


def test_dropout_leaves_initial_weights_as_they_are_and_acts_in_training_only():
    plain, dropping = (models.build(name, (1, 8, 8), 10, seed=3) for name in ("conv-2", "conv-2-dropout"))
    assert all(torch.equal(tensor, dropping.state_dict()[key]) for key, tensor in plain.state_dict().items())
    x = torch.rand(5, 1, 8, 8)
    assert not torch.equal(dropping(x), dropping(x))
    assert torch.equal(dropping.eval()(x), plain(x))


def test_residual_networks_are_drawn_as_each_paper_does():
    kaiming, glorot = (models.initial_weights(name, (3, 32, 32), 10, 0) for name in ("resnet-20", "resnet-20-glorot"))
    name = "blocks.8.conv2.weight"  # 64 to 64 channels
    assert kaiming[name].std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert glorot[name].std().item() == pytest.approx((1 / (64 * 9)) ** 0.5, rel=0.02)
    assert kaiming["norm.weight"].unique().numel() == 16 and (glorot["norm.weight"] == 1).all()
    assert not kaiming["output.bias"].any() and not glorot["output.bias"].any()


@pytest.mark.parametrize("name", ["resnet-19", "resnet-2", "resnet", "resnet-20-he"])
def test_residual_networks_of_other_depths_are_unknown(name):
    with pytest.raises(ModelError, match="no network"):
        models.build(name, (3, 32, 32), 10)


def test_residual_networks_take_images():
    with pytest.raises(ModelError, match="takes images"):
        models.build("resnet-8", (64,), 10)


@pytest.fixture
def exact():
    """One thread and double precision, so that another order of summation is no excuse."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["lenet-20", "conv-2", "resnet-8", "vgg-19-8"])
def test_stacked_networks_train_as_single_ones(exact, name):
    """Weights, running statistics and their counts, with masks that differ and images augmented in each its own way."""
    dataset = data.load("digits", 200)
    doubles = {
        part: (getattr(dataset, part)[0][:64].double(), getattr(dataset, part)[1][:64])
        for part in ("train", "validation", "test")
    }
    dataset = dataclasses.replace(dataset, **doubles)
    steps = recipes.training(
        data="digits",
        model=name,
        steps=2,
        batch=16,
        optimiser="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        augment=True,
        validation=200,
        evaluate=((2, 1),),
    )
    states = [models.initial_weights(name, dataset.shape, 10, seed) for seed in (0, 1)]
    dense = masks.dense(states[0], models.prunable(models.build(name, dataset.shape, 10)))
    cut = masks.prune(dense, masks.magnitude_scores(states[1], dense), dict.fromkeys(dense, 0.5), "global")
    starts = [train.Start(states[0], dense, (0,)), train.Start(states[1], cut, (1,))]
    for stacked, start in zip(train.train(steps, dataset, starts), starts, strict=True):
        [single] = train.train(steps, dataset, [start])
        for key, tensor in single.states[2].items():
            torch.testing.assert_close(stacked.states[2][key], tensor, rtol=1e-6, atol=1e-9, msg=key)
            assert not key.endswith("num_batches_tracked") or stacked.states[2][key] == 2
        for column, values in single.history.items():
            np.testing.assert_allclose(stacked.history[column], values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "factory, said",
    [
        (3, "not int: lambda shape, classes"),
        (torch.nn.Linear(20, 2), "not Linear: lambda shape, classes"),
        (lambda shape: torch.nn.Linear(20, 2), "with these too many positional arguments"),
        (torch.nn.Flatten(), "not Flatten"),
    ],
)
def test_what_is_no_factory_is_refused_where_it_is_registered(factory, said):
    with pytest.raises(models.ModelError, match=f"'no_factory': a factory is called with the shape .*{said}"):
        models.register("no_factory", factory)
    assert "no_factory" not in models.registered()


@pytest.mark.parametrize("name", [3, None, "", " ", "a\nb"])
def test_the_name_of_a_network_is_a_text(name):
    with pytest.raises(models.ModelError, match="the name of a network must be a text"):
        models.register(name, torch.nn.Linear)
    assert name not in models.registered()


def test_a_factory_that_fails_is_an_error_that_says_how_it_was_called(monkeypatch):
    monkeypatch.setattr(models, "_registered", {})
    models.register("linear_class", torch.nn.Linear)
    for ask in (models.build, models.same_object):
        with pytest.raises(
            models.ModelError, match=r"network 'linear_class' failed: TypeError: .*here \(20,\) and 2\)"
        ):
            ask("linear_class", (20,), 2)


def short_of_memory(most: int):
    """A hook for networks that cannot take so many examples."""

    def hook(_, given):
        if len(given[0]) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 524288000 bytes")

    return hook


@pytest.mark.parametrize("what", ["evaluated", "differentiated", "searched"])
def test_what_does_not_fit_into_memory_is_computed_of_fewer_examples_at_once(what):
    net = models.build("lenet-12-6", (1, 8, 8), 10)
    x, y = torch.randn(50, 1, 8, 8), torch.arange(50) % 10
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    mask = masks.dense(state, models.prunable(net))

    def computed(module):
        if what == "evaluated":
            with torch.no_grad():
                return torch.tensor(np.array(models.evaluate(module, x, y)))
        if what == "differentiated":
            found = models.gradients(module, state, {name: state[name] for name in mask}, x, y)
            return torch.cat([gradient.flatten() for gradient in found.values()])
        return torch.tensor(curvature.lowest_loss(module, state, mask, (x, y), 0.0, 3)[0])

    whole = computed(copy.deepcopy(net))
    net.register_forward_pre_hook(short_of_memory(10))
    with pytest.warns(models.FewerAtOnce):
        assert torch.allclose(computed(net), whole, 1e-5, 1e-7)
    net.register_forward_pre_hook(short_of_memory(0))
    with pytest.raises(RuntimeError, match="can't allocate"), pytest.warns(models.FewerAtOnce):
        computed(net)
