"""Sign distances on planted cases with known answers, against plain sets, and what must hold for any network."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lottery import masks, models, signs
from lottery.signs import SignsError

LENET = {"fc1": (300, 784), "fc2": (100, 300), "output": (10, 100)}
CONV = {"conv1": (8, 3, 3, 3), "conv2": (12, 8, 3, 3), "fc1": (16, 12 * 4), "output": (10, 16)}
WIDE = {"fc1": (6, 400), "fc2": (5, 6 * 40), "output": (4, 5 * 20)}  # so wide that no two assignments tie
SMALL = {"fc1": (7, 60), "fc2": (5, 7), "output": (4, 5)}
MATCHINGS = ("layers", "both")


def expected_distance(p: float, q: float | None = None, signed: bool = True) -> float:
    """The distance of unmatched independent layers with densities p and q (by default p), signs at random.

    With signs 1 − p/(4 − p), without 1 − p/(2 − p), for p = q and units of many connections.
    """
    q = p if q is None else q
    shared = p * q / 2 if signed else p * q
    return 1 - shared / (p + q - shared)


def draw(shapes, density, seed=0):
    """Independent ternary layers with signs at random."""
    generator = np.random.default_rng(seed)
    return {
        name: torch.from_numpy(((generator.random(shape) < density) * generator.choice([-1, 1], shape)).astype(np.int8))
        for name, shape in shapes.items()
    }


def shuffle_units(net, seed=1):
    """The same network with hidden units in random order."""
    generator = np.random.default_rng(seed)
    return signs.rearranged(net, {name: generator.permutation(len(net[name])) for name in list(net)[:-1]})


def values(by_layer):
    return list(by_layer.values())


# Signs of networks.


def test_ternary_signs_of_a_masked_network():
    weights = {"w": torch.tensor([[0.5, -2.0, 3.0]]), "b": torch.ones(1)}
    mask = {"w": torch.tensor([[True, True, False]])}
    found = signs.ternary(weights, mask)
    assert found["w"].tolist() == [[1, -1, 0]] and found["w"].dtype == torch.int8 and list(found) == ["w"]


@pytest.mark.parametrize("which", ["signs", "start_signs"])
def test_signs_of_a_record_come_back(which):
    net = draw(CONV, 0.3)
    bits = {f"{which}/{name}": np.packbits(layer[layer != 0].numpy() > 0) for name, layer in net.items()}
    found = signs.decode(bits, {name: layer != 0 for name, layer in net.items()}, which)
    assert all(torch.equal(found[name], layer) for name, layer in net.items())


# Planted cases.


@pytest.mark.parametrize("matching", MATCHINGS)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("shapes", [LENET, CONV])
def test_a_permuted_copy_has_distance_0_in_every_layer(shapes, signed, matching):
    net = draw(shapes, 0.2)
    copy = shuffle_units(net)
    found = signs.compare(net, copy, signed, matching)
    assert values(found.distance) == [0.0] * len(shapes) and found.network == 0
    assert values(found.overlap) == [1.0] * len(shapes) == values(found.agreement)
    assert min(values(signs.distances(net, copy))[:2]) > 0.8


def test_flattened_channels_move_as_blocks_and_the_function_stays():
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in CONV.items()}

    def network(w, x):
        x = torch.relu(torch.nn.functional.conv2d(x, w["conv1"]))
        x = torch.relu(torch.nn.functional.conv2d(x, w["conv2"])).flatten(1)
        return torch.relu(x @ w["fc1"].T) @ w["output"].T

    x = torch.randn(5, 3, 6, 6, generator=generator)
    moved = shuffle_units(weights)
    assert not torch.equal(moved["fc1"], weights["fc1"])
    torch.testing.assert_close(network(moved, x), network(weights, x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("signed, expected, null", [(True, 0.61, 0.907), (False, 0.46, 0.83)])
def test_planted_with_connections_moved_and_signs_flipped(signed, expected, null):
    """A copy, permuted, 30 % of the connections moved to empty places and 20 % of the signs flipped, at density 0.2.

    Of n connections 0.7 n are shared, 0.56 n with their signs: distances 1 − 0.7/1.3 and 1 − 0.56/1.44.
    """
    net, generator, noisy = draw(LENET, 0.2), np.random.default_rng(5), {}
    for name, layer in net.items():
        flip = torch.from_numpy(np.where(generator.random(layer.shape) < 0.2, -1, 1).astype(np.int8))
        moved = layer * flip
        kept, empty = (places.flatten().nonzero().flatten().numpy() for places in (layer != 0, layer == 0))
        count = round(0.3 * len(kept))
        old, new = (torch.from_numpy(generator.permutation(places)[:count]) for places in (kept, empty))
        moved.view(-1)[new], moved.view(-1)[old] = moved.view(-1)[old], 0
        noisy[name] = moved
    found = signs.compare(net, shuffle_units(noisy), signed)
    assert values(found.distance) == pytest.approx([expected] * 3, abs=0.02)
    assert found.overlap == signs.overlap(net, noisy)  # the planted matching was found
    assert signs.compare(net, draw(LENET, 0.2, seed=7), signed).distance["fc1"] == pytest.approx(null, abs=0.01)


def test_a_distance_by_hand():
    a = {"w": torch.tensor([[1, -1, 0, 1], [0, 0, 0, 1]], dtype=torch.int8)}
    b = {"w": torch.tensor([[1, 1, 0, 0], [0, 0, 0, 1]], dtype=torch.int8)}
    # First unit: 1 of 4 signed elements shared; 2 of 3 places. Second: all.
    assert signs.distances(a, b) == {"w": pytest.approx(3 / 4 / 2)}
    assert signs.distances(a, b, signed=False) == {"w": pytest.approx(1 / 3 / 2)}
    assert signs.overlap(a, b) == {"w": pytest.approx(3 / 4)}
    assert signs.agreement(a, b) == {"w": pytest.approx(2 / 3)} and signs.flips(a, b) == {"w": pytest.approx(1 / 3)}
    assert (signs.shared_connections(a, b), signs.shared_connections(a, b, signed=False)) == (2, 3)


def test_units_without_connections_are_alike_and_unlike_all_others():
    a = {"w": torch.tensor([[1, 1], [0, 0]], dtype=torch.int8)}
    assert signs.distances(a, a) == {"w": 0.0}
    assert signs.distances(a, {"w": a["w"].flip(0)}) == {"w": 1.0}


def test_agreement_is_not_a_number_where_nothing_is_shared():
    a, b = ({"w": torch.tensor([row], dtype=torch.int8)} for row in ([1, 0], [0, 1]))
    assert np.isnan(signs.agreement(a, b)["w"])


# Against plain sets.


def set_distance(a, b, signed):
    """Matched distances with Python sets, all assignments tried: for few units."""
    layers, before = {}, None
    for name in a:
        block = b[name].shape[1] // len(before or [0])
        columns = [unit * block + i for unit in before or [0] for i in range(block)]
        other = b[name][:, columns]
        one, other = (
            [{(i, int(v) if signed else 1) for i, v in enumerate(row) if v} for row in net.flatten(1)]
            for net in (a[name], other)
        )
        cost = [[1 - len(j & k) / len(j | k) if j | k else 0 for k in other] for j in one]
        last = name == list(a)[-1]
        orders = [tuple(range(len(one)))] if last else itertools.permutations(range(len(one)))
        before = min(orders, key=lambda order, cost=cost: sum(cost[j][k] for j, k in enumerate(order)))
        layers[name] = sum(cost[j][k] for j, k in enumerate(before)) / len(one)
    return layers


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("density", [0.2, 0.6])
def test_matched_distances_are_those_of_plain_sets(signed, density):
    a, b = draw(WIDE, density, 2), draw(WIDE, density, 3)
    assert signs.compare(a, b, signed).distance == pytest.approx(set_distance(a, b, signed), abs=1e-6)


# What holds for any two networks.

pairs = st.tuples(st.integers(0, 2**32), st.sampled_from([SMALL, CONV]), st.floats(0.3, 0.9), st.floats(0.3, 0.9))


def made(pair):
    seed, shapes, p, q = pair
    return draw(shapes, p, seed), draw(shapes, q, seed + 1)


@settings(max_examples=15, derandomize=True, deadline=None)
@given(pairs, st.booleans(), st.sampled_from([None, *MATCHINGS]))
def test_distances_are_shares_and_symmetric(pair, signed, matching):
    a, b = made(pair)
    there, back = signs.compare(a, b, signed, matching), signs.compare(b, a, signed, matching)
    assert all(0 <= value <= 1 for value in values(there.distance) + values(there.overlap))
    first = "fc1" if "fc2" in a else "conv1"
    if matching == "both":  # a local optimum, which need not be the same from both sides
        return
    assert there.distance[first] == pytest.approx(back.distance[first], abs=1e-6)
    if matching is None:
        assert there.distance == pytest.approx(back.distance) and there.agreement == pytest.approx(back.agreement)


@settings(max_examples=15, derandomize=True, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_matched_distances_are_symmetric_and_do_not_see_the_order_of_units(seed, signed):
    a, b = draw(WIDE, 0.4, seed), draw(WIDE, 0.4, seed + 1)
    there = signs.compare(a, b, signed)
    for again in (
        signs.compare(b, a, signed),
        signs.compare(a, shuffle_units(b), signed),
        signs.compare(shuffle_units(a, 2), b, signed),
    ):
        assert again.distance == pytest.approx(there.distance, abs=1e-6)
        assert again.overlap == pytest.approx(there.overlap) and again.agreement == pytest.approx(there.agreement)


@settings(max_examples=12, derandomize=True, deadline=None)
@given(pairs, st.booleans())
def test_unmatched_distances_change_with_one_order_but_not_with_the_same_in_both(pair, signed):
    a, b = made(pair)
    moved = signs.distances(shuffle_units(a), shuffle_units(b), signed)
    assert moved == pytest.approx(signs.distances(a, b, signed), abs=1e-6)


@settings(max_examples=12, derandomize=True, deadline=None)
@given(pairs, st.booleans())
def test_the_second_matching_shares_no_fewer_connections_than_the_first(pair, signed):
    a, b = made(pair)
    plain, first, second = (
        signs.shared_connections(a, signs.rearranged(b, order), signed)
        for order in ({}, signs.match(a, b, signed), signs.match_both(a, b, signed))
    )
    assert second >= first
    assert all(sorted(order) == list(range(len(a[name]))) for name, order in signs.match_both(a, b).items())
    assert plain <= min(sum(int((net[name] != 0).sum()) for name in a) for net in (a, b))


@pytest.mark.parametrize("signed", [True, False])
def test_matching_lowers_the_distance_of_unrelated_networks(signed):
    a, b = draw(LENET, 0.2, 8), draw(LENET, 0.2, 9)
    unmatched, matched = (signs.compare(a, b, signed, way).distance for way in (None, "layers"))
    assert all(unmatched[name] - matched[name] > 0.03 for name in ("fc1", "fc2"))


# What cannot be compared.


@pytest.mark.parametrize(
    "function",
    [signs.distances, signs.match, signs.match_both, signs.overlap, signs.agreement, signs.flips, signs.compare],
)
def test_networks_that_cannot_be_compared_are_refused(function):
    a = draw(SMALL, 0.5)
    with pytest.raises(SignsError, match="differ in layers or shapes"):
        function(a, draw({**SMALL, "fc1": (7, 61)}, 0.5))
    with pytest.raises(SignsError, match="differ in layers or shapes"):
        function(a, {name: a[name] for name in ("fc1", "fc2")})
    with pytest.raises(SignsError, match="layer fc2 has no connection left"):
        function(a, {**a, "fc2": torch.zeros_like(a["fc2"])})


def test_layers_that_do_not_follow_one_another_are_refused():
    a = draw({"fc1": (7, 60), "fc2": (5, 10)}, 0.5)
    with pytest.raises(SignsError, match="the 10 inputs of fc2 are not those of the 7 units"):
        signs.compare(a, a)


def test_an_unknown_matching_is_refused():
    a = draw(SMALL, 0.5)
    with pytest.raises(SignsError, match="no matching 'greedy'"):
        signs.compare(a, a, matching="greedy")


# Chance.


@pytest.mark.parametrize("density", [0.512, 0.21, 0.134])
@pytest.mark.parametrize("signed", [True, False])
def test_unmatched_networks_are_as_far_apart_as_the_closed_form_says(density, signed):
    shapes = {"fc1": (300, 784), "fc2": (300, 784), "output": (100, 784)}
    found = signs.compare(draw(shapes, density, 1), draw(shapes, density, 2), signed, matching=None)
    assert values(found.distance) == pytest.approx([expected_distance(density, signed=signed)] * 3, abs=0.005)
    assert found.agreement["fc1"] == pytest.approx(0.5, abs=0.03)


def test_the_closed_forms():
    p = 0.21
    assert expected_distance(p) == pytest.approx(1 - p / (4 - p))
    assert expected_distance(p, signed=False) == pytest.approx(1 - p / (2 - p))
    assert expected_distance(0.3, 0.6, signed=False) == pytest.approx(1 - 0.18 / 0.72)


@pytest.mark.parametrize(
    "density, unsigned, signed",
    [
        (0.512, (0.612, 0.591), (0.816, 0.800)),
        (0.21, (0.831, 0.806), (0.907, 0.889)),
        (0.134, (0.874, 0.850), (0.926, 0.907)),
        (0.035, (0.916, 0.878), (0.940, 0.913)),
    ],
)
def test_the_matched_null_of_lenet(density, unsigned, signed):
    """Independent ternary masks; the figures were simulated before this library was written."""
    a, b = draw(LENET, density, 3), draw(LENET, density, 4)
    for expected, way in ((unsigned, False), (signed, True)):
        assert values(signs.compare(a, b, way).distance)[:2] == pytest.approx(expected, abs=0.006)


degrees = st.tuples(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 12), st.floats(0, 1), st.integers(0, 5))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(degrees)
def test_every_row_and_column_keeps_its_counts(case):
    seed, rows, columns, density, rounds = case
    net, generator = draw({"w": (rows, columns)}, density, seed), np.random.default_rng(seed)
    mask = {"w": net["w"] != 0}
    other = signs.degree_preserving(mask, generator, rounds)
    assert other["w"].dtype == torch.bool and torch.equal(mask["w"], net["w"] != 0)
    assert all(torch.equal(other["w"].sum(axis), mask["w"].sum(axis)) for axis in (0, 1))
    ternary = signs.degree_preserving(net, generator, rounds)["w"]
    for sign in (-1, 0, 1):
        assert all(torch.equal((ternary == sign).sum(axis), (net["w"] == sign).sum(axis)) for axis in (0, 1))


@pytest.mark.parametrize("shapes", [LENET, CONV])
def test_degree_preserving_masks_are_others_each_time_and_convolutions_keep_their_places(shapes):
    mask, generator = {name: layer != 0 for name, layer in draw(shapes, 0.2).items()}, np.random.default_rng(0)
    one, other = (signs.degree_preserving(mask, generator) for _ in range(2))
    for name, kept in mask.items():
        assert not torch.equal(one[name], kept) and not torch.equal(one[name], other[name])
        assert torch.equal(one[name].sum(0), kept.sum(0))
        assert torch.equal(one[name].flatten(1).sum(1), kept.flatten(1).sum(1))


def test_trades_draw_all_masks_with_the_same_degrees_alike():
    """3 × 3 with all degrees 1 has six masks, the permutations."""
    generator, start = np.random.default_rng(0), {"w": torch.eye(3, dtype=torch.bool)}
    found = [tuple(signs.degree_preserving(start, generator)["w"].int().argmax(1).tolist()) for _ in range(1200)]
    counts = [found.count(order) for order in itertools.permutations(range(3))]
    assert sum(counts) == 1200 and max(abs(n - 200) for n in counts) < 4 * 13


def test_the_default_number_of_rounds_forgets_the_start():
    layer = draw(LENET, 0.2)["fc1"] != 0
    held = signs.mixing(layer, np.random.default_rng(0), rounds=60)
    assert held[0] == 1 and len(held) == 61
    plateau = held[40:].mean()
    assert plateau == pytest.approx(0.2, abs=0.01) and np.abs(held[30:] - plateau).max() < 0.01
    assert held[1] > 0.5 and abs(held[15] - plateau) < 0.02


@pytest.mark.parametrize("shapes", [LENET, CONV])
def test_scattered_signs_keep_their_numbers_on_the_mask_they_are_given(shapes):
    net, generator = draw(shapes, 0.2), np.random.default_rng(0)
    mask = masks.shuffle({name: layer != 0 for name, layer in net.items()}, generator)
    for places in (net, mask):
        found = signs.scattered(net, places, generator)
        for name, layer in net.items():
            assert torch.equal(found[name] != 0, places[name] != 0) and found[name].sum() == layer.sum()
            assert not torch.equal(found[name], layer)


def test_signs_that_do_not_fit_the_mask_are_refused():
    net = draw(SMALL, 0.5)
    with pytest.raises(SignsError, match="do not fit"):
        signs.scattered(net, draw(SMALL, 0.9), np.random.default_rng(0))


def test_the_null_of_a_pair_has_their_degrees_and_nothing_in_common():
    """The two share the degrees of their columns: more overlap than chance, and their null knows it."""
    generator = np.random.default_rng(0)
    live, shapes = np.repeat([0.02, 0.5], 100), {"fc1": (40, 200), "output": (5, 40)}
    a, b = (draw(shapes, 0.5, seed) for seed in (1, 2))
    for net in (a, b):  # full layers, thinned column by column
        net["fc1"] = draw(shapes, 1)["fc1"] * torch.from_numpy(generator.random((40, 200)) < live)
    found = signs.compare(a, b, signed=False)
    pairs = signs.null_pairs(a, b, generator, draws=5)
    null = [signs.compare(*pair, signed=False).distance["fc1"] for pair in pairs]
    blind = draw(shapes, 0.26, 3), draw(shapes, 0.26, 4)
    assert len(null) == 5 and np.mean(null) == pytest.approx(found.distance["fc1"], abs=0.02)
    assert signs.compare(*blind, signed=False).distance["fc1"] > np.mean(null) + 0.1


# Chains: networks whose hidden units may stand in any order.


class Residual(nn.Module):
    """A perceptron whose third layer reads the second with the first added to it."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x):
        h = torch.relu(self.a(x))
        return self.head(h + torch.relu(self.b(h)))


class Backwards(nn.Module):
    """A chain whose layers are registered in another order than data flow."""

    def __init__(self, twice=False, unused=False):
        super().__init__()
        self.head, self.b, self.a = nn.Linear(4, 3), nn.Linear(5, 4), nn.Linear(6, 5)
        self.norm, self.twice, self.c = nn.LayerNorm(5), twice, nn.Linear(4, 4) if twice or unused else None

    def forward(self, x):
        h = torch.relu(self.b(torch.relu(self.norm(self.a(x)))))
        return self.head(self.c(self.c(h)) if self.twice else h)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.mix, self.head = nn.Linear(6, 4), nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        h = self.a(x)[:, None].expand(-1, 3, -1)
        return self.head(self.mix(h, h, h)[0].mean(1))


VECTORS, IMAGES = torch.randn(4, 6), torch.randn(4, 3, 8, 8)


@pytest.mark.parametrize(
    "module, inputs",
    [(Backwards(), VECTORS), *((name, IMAGES) for name in ("lenet-9-7", "conv-2", "conv-4-dropout", "vgg-19-4"))],
)
def test_the_units_of_a_chain_may_stand_in_any_order(module, inputs):
    module = (models.build(module, (3, 8, 8), 10) if isinstance(module, str) else module).double().eval()
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    found = signs.chain(module, inputs.float())
    assert sorted(found.layers) == sorted(models.prunable(module)) and found.layers[-1].rpartition(".")[0] in (
        "head",
        "output",
    )
    generator = np.random.default_rng(0)
    with torch.no_grad():
        before = module(inputs.double())
        moved = found.rearranged(state, {name: generator.permutation(len(state[name])) for name in found.layers[:-1]})
        assert set(moved) == set(state) and not all(torch.equal(moved[key], state[key]) for key in state)
        assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())  # only read
        module.load_state_dict(moved)
        torch.testing.assert_close(module(inputs.double()), before)


@pytest.mark.parametrize(
    "module, inputs, said",
    [
        (Residual(), VECTORS, r"those of a\.weight changes the outputs"),
        (Backwards(twice=True), VECTORS, r"c\.weight is used 2 times"),
        (Backwards(unused=True), VECTORS, r"c\.weight is used 0 times"),
        (Attention(), VECTORS, r"mix\.in_proj_weight is no layer of a chain"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(96, 3)), IMAGES,
         r"those of 0\.weight changes"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(144, 3)), IMAGES,
         r"those of 0\.weight changes"),
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 3), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(192, 3)), IMAGES,
         r"0\.weight is that of a transposed convolution"),
        (nn.Sequential(nn.ConvTranspose2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 3)), IMAGES[:, :1],
         r"0\.weight is that of a transposed convolution"),  # of one row, in whose only order nothing changes
        ("resnet-8", IMAGES, r"those of conv\.weight changes the outputs"),
    ],
)  # fmt: skip
def test_what_is_no_chain_is_refused_with_the_layer(module, inputs, said):
    module = models.build(module, (3, 8, 8), 10) if isinstance(module, str) else module
    with pytest.raises(SignsError, match=f"hidden units cannot be matched: .*{said}"):
        signs.chain(module, inputs)


def test_shared_weights_are_no_chain():
    module = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 3))
    module[2].weight = module[0].weight
    with pytest.raises(SignsError, match=r"0\.weight is shared with 2\.weight"):
        signs.chain(module, VECTORS)


def test_matching_weights_brings_shuffled_units_back():
    draw = torch.Generator().manual_seed(0)
    net = {name: torch.randn(shape, generator=draw) for name, shape in CONV.items()}
    order = signs.match_weights(net, shuffle_units(net))
    back = signs.rearranged(shuffle_units(net), order)
    assert all(torch.equal(back[name], net[name]) for name in net)
    with pytest.raises(SignsError, match="only like networks"):
        signs.match_weights(net, {"fc1": net["fc1"]})


def test_matching_weights_is_no_worse_than_any_order_of_a_small_network():
    draw = torch.Generator().manual_seed(1)
    a, b = ({"fc1": torch.randn(4, 6, generator=draw), "output": torch.randn(3, 4, generator=draw)} for _ in range(2))

    def product(order):
        moved = signs.rearranged(b, {"fc1": np.array(order)})
        return sum(float((a[name] * moved[name]).sum()) for name in a)

    best = max(product(order) for order in itertools.permutations(range(4)))
    assert product(signs.match_weights(a, b)["fc1"]) == pytest.approx(best)  # one hidden layer: the optimum


def test_matching_weights_ends_where_nothing_is_gained_below_zero(monkeypatch):
    calls, assign = [], signs._assign
    monkeypatch.setattr(signs, "_assign", lambda gain: calls.append(gain) or assign(gain))
    net = {"fc1": torch.ones(4, 6), "output": torch.ones(3, 4)}
    signs.match_weights(net, {name: -layer for name, layer in net.items()})
    assert len(calls) == 2  # one hidden layer: the second round gains nothing


# What the hybrids of two networks take from the second.


def test_replaced_weights_are_those_whose_signs_differ_or_others_as_far():
    draw = torch.Generator().manual_seed(0)
    one, other = (torch.randn(60, 50, generator=draw) * (torch.rand(60, 50, generator=draw) < 0.6) for _ in range(2))
    generator = np.random.default_rng(0)
    treated = signs.replaced(one, other, "signs differ", generator)
    assert torch.equal(treated, one.sign() * other.sign() == -1)
    length = (one - other)[treated].double().square().sum().item()
    free = signs.replaced(one, other, "anywhere", generator)
    assert (one - other)[free].double().square().sum().item() == pytest.approx(length, rel=0.01)
    near = signs.replaced(one, one + 0.5 * (other - one) * (one * other > 0), "signs agree", generator)
    assert not near.any()  # no sign differs, so there is nowhere to go
    agree = signs.replaced(one, other, "signs agree", generator)
    assert (one * other)[agree].min() > 0 and (one - other)[agree].double().square().sum() < length
    assert agree.sum() == (one * other > 0).sum()  # all of them do not reach as far


@pytest.mark.parametrize("compared", [signs.agreement, signs.flips, signs.distances, signs.compare])
def test_weights_are_not_taken_for_signs(compared):
    weights = {"layer": torch.tensor([[0.5, -0.2], [0.1, 0.0]])}
    with pytest.raises(SignsError, match=r"layer layer has other values than −1, 0 and 1: give signs, ternary"):
        compared(weights, {"layer": 1.1 * weights["layer"]})
    compared({"layer": weights["layer"].sign()}, {"layer": weights["layer"].sign()})


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.float16])
@pytest.mark.parametrize("compared", [signs.agreement, signs.flips, signs.distances, signs.compare])
def test_integers_are_signs_where_they_are_ternary(compared, dtype):
    found, fine = torch.tensor([[3, 2], [1, 1]], dtype=dtype), torch.tensor([[1, 0], [1, 1]], dtype=dtype)
    for one, other in ((found, fine), (fine, found)):
        with pytest.raises(SignsError, match=r"layer layer has other values than −1, 0 and 1: give signs, ternary"):
            compared({"layer": one}, {"layer": other})
    compared({"layer": fine}, {"layer": fine})
