"""The landscape: barriers, spectra and prunable ratios against closed forms; each of its recipes executed, small."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from lottery import curvature, landscape, masks, models, movement, tickets
from lottery import recipes as r
from lottery.curvature import Adaptive, Prunable, Spectrum
from lottery.engine.execute import ExecutionError, execute, world
from lottery.engine.store import Store
from lottery.landscape import LandscapeError, Path, Perturbed, Plane
from lottery.movement import Moved, Started, Survivors
from lottery.recipes import Continued, Dense, Initial, Masked, RecipeError, Rewound, Run, Thinned


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small tensors gain nothing from threads, which on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Well(nn.Module):
    """A network of one weight w whose loss at label 0 is f(w)."""

    def __init__(self, f):
        super().__init__()
        self.f, self.w = f, nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def forward(self, x):
        logit = -torch.log(torch.expm1(self.f(self.w)))
        return torch.cat([logit, torch.zeros_like(logit)]).expand(len(x), 2)


DATA = (torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


def at(w):
    return {"w": torch.tensor([w], dtype=torch.float64)}


def along(f, *points, alphas=11):
    return landscape.error_along_path(Well(f), [at(p) for p in points], DATA, DATA, alphas=alphas)


def digits(name="lenet-6-5", examples=60, seed=0, dtype=torch.float64):
    """A module, a state with a mask of half its weights, and random data."""
    module = models.build(name, (1, 8, 8), 10, seed).to(dtype)
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(examples, 1, 8, 8, generator=draw, dtype=dtype)
    data = (inputs, torch.randint(0, 10, (examples,), generator=draw))
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    if "norm.running_mean" in state:
        state = landscape.reestimated(module, state, inputs)
    dense = masks.dense(state, models.prunable(module))
    mask = masks.prune(dense, masks.magnitude_scores(state, dense), dict.fromkeys(dense, 0.5), "global")
    return module, masks.apply(state, mask), mask, data


# Paths and barriers.


def test_the_barrier_of_a_convex_quadratic_with_equal_ends_is_zero():
    values = along(lambda w: 0.3 + w**2, -1.0, 1.0)["averaged/train_loss"]
    np.testing.assert_allclose(values, 0.3 + np.linspace(-1, 1, 11) ** 2, rtol=1e-12)
    assert landscape.error_barrier(values) == pytest.approx([0], abs=1e-12)


def test_the_barrier_of_a_quadratic_with_unequal_ends_is_half_their_difference():
    values = along(lambda w: 0.3 + w**2, 0.5, 2.0)["averaged/test_loss"]
    assert landscape.error_barrier(values) == pytest.approx([(2**2 - 0.5**2) / 2])


def test_the_barrier_of_a_double_well_is_its_height():
    values = along(lambda w: 0.2 + (w**2 - 1) ** 2, -1.0, 1.0)["averaged/train_loss"]
    assert landscape.error_barrier(values) == pytest.approx([1.0])


def test_the_midpoint_can_be_better_than_both_ends_and_must_exist():
    assert landscape.midpoint_barrier(np.array([0.2, 0.1, 0.4])) == pytest.approx(-0.2)
    for points in (1, 2, 4):
        with pytest.raises(landscape.LandscapeError, match="no midpoint"):
            landscape.midpoint_barrier(np.zeros(points))
    with pytest.raises(landscape.LandscapeError, match=r"shape \(3, 3\)"):
        landscape.midpoint_barrier(np.zeros((3, 3)))


def test_a_path_rises_above_the_line_between_its_ends_and_not_above_the_lower_one():
    position = np.array([0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(landscape.above_chord([0.1, 0.2, 0.3, 0.4, 0.5], position), 0, atol=1e-12)
    np.testing.assert_allclose(landscape.above_chord([0.1, 0.2, 0.2, 0.6, 0.5], position), [0, -0.1, 0.2], atol=1e-12)


@pytest.mark.parametrize(("count", "alphas"), [(11, 4), (7, 1), (7, 0), (1, None), (0, None), (3, 5)])
def test_values_that_are_no_whole_segments_have_no_barrier(count, alphas):
    with pytest.raises(LandscapeError, match="are no segments"):
        landscape.error_barrier(np.zeros(count), alphas)


def test_a_path_of_three_solutions_has_a_barrier_for_each_segment():
    found = along(lambda w: 0.2 + (w**2 - 1) ** 2, -1.0, 1.0, 1.0, alphas=5)
    np.testing.assert_allclose(found["position"], np.arange(9) / 4)
    np.testing.assert_allclose(landscape.error_barrier(found["averaged/train_loss"], 5), [1, 0], atol=1e-12)


@pytest.mark.parametrize("name", ["lenet-6-5", "resnet-8"])
def test_the_ends_of_a_path_are_exactly_the_ends(name):
    module, one, mask, data = digits(name, dtype=torch.float32)
    other = {key: tensor * 1.5 if tensor.is_floating_point() else tensor for key, tensor in one.items()}
    path = landscape.error_along_path(module, [one, other], data, data, mask=mask, alphas=3)
    for end, state in ((0, one), (-1, other)):
        expected = landscape.Evaluator(module, data, data)(state)
        assert {key: values[end] for key, values in path.items() if key != "position"} == expected
        mixed = landscape.combine([one, other], [1.0, 0.0] if end == 0 else [0.0, 1.0])
        assert all(torch.equal(mixed[key], state[key]) for key in state)


def test_without_normalisation_both_statistics_are_the_same():
    module, state, _, data = digits()
    found = landscape.Evaluator(module, data, data)(state)
    assert all(found[f"averaged/{key}"] == found[f"re-estimated/{key}"] for key in landscape.MEASURES)


def test_bad_solutions_are_refused():
    module, state, mask, data = digits()
    outside = {**state, "fc1.weight": torch.ones_like(state["fc1.weight"])}
    with pytest.raises(LandscapeError, match="not nested in the path's"):
        landscape.error_along_path(module, [state, outside], data, data, mask=mask)
    with pytest.raises(LandscapeError, match="different architectures"):
        landscape.combine([state, digits("lenet-6")[1]], [0.5, 0.5])
    broken = {**state, "fc1.weight": state["fc1.weight"] * math.nan}
    for refused in (
        lambda: landscape.combine([state, broken], [0.5, 0.5]),
        lambda: curvature.Hessian(module, broken, mask, data),
        lambda: curvature.measured_ratio(module, broken, mask, masks.magnitude_scores(state, mask), data, 0.1),
    ):
        with pytest.raises(LandscapeError, match=r"fc1\.weight is not finite"):
            refused()
    with pytest.raises(LandscapeError, match="at least two"):
        landscape.error_along_path(module, [state], data, data)
    with pytest.raises(LandscapeError, match="no statistics"):
        landscape.Evaluator(module, data, data, ["guessed"])
    with pytest.raises(LandscapeError, match="sum to 1"):
        landscape.combine([state, state], [0.5, 0.6])


# Statistics of normalisation.


def test_reestimated_statistics_are_those_of_the_data():
    module = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5), nn.BatchNorm1d(2), nn.Linear(2, 2))
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) + 1
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    found = landscape.reestimated(module, before, x, batch=200)
    hidden = module[0](x).detach()
    torch.testing.assert_close(found["2.running_mean"], hidden.mean(0))
    torch.testing.assert_close(found["2.running_var"], hidden.var(0))
    assert all(torch.equal(tensor, before[key]) for key, tensor in module.state_dict().items())
    assert all(torch.equal(found[key], before[key]) for key in before if "running" not in key)


def normalised():
    """Two normalised layers, a state with statistics that fit nothing, and inputs."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    return module, {k: t.clone() for k, t in module.state_dict().items()}, torch.randn(60, 5, dtype=torch.float64)


def test_reestimated_statistics_are_those_that_training_there_converges_to():
    """A network trained at the point without moving: its exponential averages go to the re-estimated ones."""
    module, state, x = normalised()
    found = landscape.reestimated(module, state, x, batch=60)
    with torch.no_grad():
        for _ in range(300):
            module.train()(x)
    for key in found:
        if "running" in key:
            torch.testing.assert_close(found[key], module.state_dict()[key], rtol=1e-9, atol=1e-9)


def test_reestimation_takes_full_batches_and_few_examples():
    module, state, x = normalised()
    first = landscape.reestimated(module, state, x[:40], batch=40)
    for other in (landscape.reestimated(module, state, x, batch=40), landscape.reestimated(module, state, x[:40])):
        assert all(torch.equal(first[key], other[key]) for key in first)


class Twice(nn.Module):
    """Normalised twice: by one layer, or by two that share their statistics."""

    def __init__(self, one: bool):
        super().__init__()
        self.into, self.norm, self.again = nn.Linear(5, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4)
        self.double()  # which parts what is shared
        self.again.running_mean, self.again.running_var = self.norm.running_mean, self.norm.running_var
        if one:
            self.again = self.norm

    def forward(self, x):
        return self.again(3 + torch.relu(self.norm(self.into(x))))


@pytest.mark.parametrize("one", [True, False], ids=["one layer", "two layers"])
def test_statistics_of_two_uses_are_averages_over_both(one):
    torch.manual_seed(0)
    module, x = Twice(one), torch.randn(60, 5, dtype=torch.float64)
    found = landscape.reestimated(module, dict(module.state_dict()), x, batch=20)
    seen = []
    with torch.no_grad():
        for part in x.split(20):
            hidden = module.into(part)
            own = torch.relu((hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt())
            seen += [hidden, 3 + own]
    torch.testing.assert_close(found["norm.running_mean"], torch.stack([h.mean(0) for h in seen]).mean(0))
    torch.testing.assert_close(found["norm.running_var"], torch.stack([h.var(0) for h in seen]).mean(0))
    assert all(torch.equal(found[f"again.running_{key}"], found[f"norm.running_{key}"]) for key in ("mean", "var"))


# Planes and perturbations.


def test_a_plane_keeps_distances_and_gives_its_solutions_back():
    draw = np.random.default_rng(0)
    points = [{"a": torch.from_numpy(draw.normal(size=(4, 3)))} for _ in range(3)]
    where = landscape.plane(points, ["a"])
    for i in range(3):
        for j in range(3):
            apart = (points[i]["a"] - points[j]["a"]).norm().item()
            assert np.linalg.norm(where[i] - where[j]) == pytest.approx(apart, abs=1e-12)
        back = landscape.combine(points, landscape.plane_coefficients(where, *where[i]))
        torch.testing.assert_close(back["a"], points[i]["a"])
    with pytest.raises(LandscapeError, match="one line"):
        landscape.plane([points[0], points[1], landscape.combine(points[:2], [0.7, 0.3])], ["a"])


def test_the_surface_on_a_plane_is_that_of_its_states():
    module, one, _, data = digits()
    points = [one, digits(seed=1)[1], digits(seed=2)[1]]
    names = list(models.prunable(module))
    where, measure = landscape.plane(points, names), landscape.Evaluator(module, data, data)
    found = landscape.on_plane(measure, points, names, where[:, 0], [0.0])["averaged/train_loss"]
    ends = [measure(point)["averaged/train_loss"] for point in points[:2]]
    assert found.shape == (1, 3) and found[0, :2] == pytest.approx(ends)


def test_a_perturbation_has_its_length_and_stays_in_the_mask():
    _, state, mask, _ = digits()
    moved = landscape.perturb(state, mask, 0.7, np.random.default_rng(0))
    assert landscape.distance(state, moved, mask) == pytest.approx(0.7)
    assert all((moved[name][~kept] == 0).all() for name, kept in mask.items())
    assert all(torch.equal(moved[name], state[name]) for name in state if name not in mask)
    other = landscape.perturb(state, mask, 0.7, np.random.default_rng(1))
    assert landscape.distance(moved, other, mask) == pytest.approx(0.7 * math.sqrt(2), rel=0.15)
    with pytest.raises(LandscapeError, match="leads nowhere"):
        landscape.shift(state, {"fc1.weight": torch.zeros_like(state["fc1.weight"])}, 1.0)


# The Hessian.


def dense_hessian(module, state, mask, data):
    names, live = list(mask), torch.cat([kept.flatten() for kept in mask.values()])

    def loss(vector):
        full = torch.zeros(len(live), dtype=vector.dtype).masked_scatter(live, vector)
        parts = dict(zip(names, full.split([mask[n].numel() for n in names]), strict=True))
        weights = {**state, **{n: part.view(mask[n].shape) for n, part in parts.items()}}
        return nn.functional.cross_entropy(torch.func.functional_call(module.eval(), weights, (data[0],)), data[1])

    start = torch.cat([state[name][kept] for name, kept in mask.items()])
    return torch.autograd.functional.hessian(loss, start), torch.autograd.functional.jacobian(loss, start)


@pytest.fixture(scope="module")
def small():
    module, state, mask, data = digits("lenet-4-3", examples=70)
    exact, slope = dense_hessian(module, state, mask, data)
    return module, state, mask, data, exact, slope


@pytest.mark.parametrize("chunk, keep", [(70, True), (32, True), (32, False)])
def test_hessian_products_are_those_of_the_dense_matrix(small, chunk, keep):
    module, state, mask, data, exact, slope = small
    product = curvature.Hessian(module, state, mask, data, chunk, keep)
    assert product.size == len(exact) == sum(masks.count(mask).values())
    vector = torch.randn(product.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(product(vector), exact @ vector)
    torch.testing.assert_close(product(vector), exact @ vector)  # the graph is still there
    torch.testing.assert_close(product.gradient(), slope)
    assert product.loss == pytest.approx(landscape.Evaluator(module, data, data)(state)["averaged/train_loss"])


def test_hessian_products_of_a_normalised_network_hold_its_statistics_fixed():
    module, state, mask, data = digits("resnet-8", examples=8)
    few = {name: torch.arange(kept.numel()).view(kept.shape) < 3 for name, kept in list(mask.items())[3:6]}
    exact, _ = dense_hessian(module, state, few, data)
    # The dense Hessian is taken with all other weights of these layers at zero.
    product = curvature.Hessian(module, masks.apply(state, few), few, data, chunk=3, keep=False)
    columns = torch.stack([product(unit) for unit in torch.eye(product.size, dtype=torch.float64)])
    torch.testing.assert_close(columns, exact)


class Odd(nn.Module):
    """Networks of inputs [N, 6] that are no plain chains; `kind` says what is odd about them."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.a, self.b, self.head = kind, nn.Linear(6, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        if kind == "tied":
            self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4)
            self.c.weight = self.b.weight
        if kind == "unused":
            self.aux = nn.Linear(4, 3)
        if kind == "frozen":
            self.b.requires_grad_(False)
        if kind == "attention":
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        if kind == "lstm":
            self.lstm = nn.LSTM(4, 4, batch_first=True)
        if kind == "weight norm":
            nn.utils.parametrizations.weight_norm(self.b)
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))
        self.register_buffer("scale", torch.full((4,), 1.5), persistent=False)

    def forward(self, x):
        h = torch.tanh(self.a(x))
        if self.kind in ("attention", "sdpa", "lstm"):
            h = h[:, None] * torch.arange(1.0, 4.0, dtype=h.dtype)[:, None]
            if self.kind == "attention":
                h = self.attention(h, h, h, attn_mask=self.mask, need_weights=False)[0]
            elif self.kind == "sdpa":
                h = nn.functional.scaled_dot_product_attention(h, self.b(h), h, attn_mask=self.mask)
            else:
                h = self.lstm(h)[0]
            h = h.mean(1)
        h = torch.tanh(self.b(h)) * self.scale
        return self.head(torch.tanh(self.c(h)) if self.kind == "tied" else h)


ODD = ["tied", "unused", "frozen", "attention", "sdpa", "lstm", "weight norm"]


def odd(kind, seed=0):
    """A network, a state with a mask of most of its weights, the weights' names and random data, in float64."""
    torch.manual_seed(seed)
    module = Odd(kind).double()
    draw = torch.Generator().manual_seed(1)
    data = torch.randn(20, 6, generator=draw, dtype=torch.float64), torch.randint(0, 2, (20,), generator=draw)
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    names = [name for name, parameter in module.named_parameters() if parameter.ndim > 1]
    mask = {name: torch.rand(state[name].shape, generator=draw) < 0.8 for name in names}
    models.load(module, masks.apply(state, mask))  # under all names of what is tied
    return module, {key: tensor.clone() for key, tensor in module.state_dict().items()}, mask, data


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", ODD)
def test_hessian_products_of_any_network_are_differences_of_gradients(kind, keep):
    module, state, mask, data = odd(kind)
    product = curvature.Hessian(module, state, mask, data, 7, keep)
    assert product.size == sum(int(kept.sum()) for kept in mask.values())
    vector = torch.randn(product.size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction, ends = dict(zip(product.names, product.expand(vector), strict=True)), []
    for sign in (1, -1):
        moved = {name: tensor + sign * 1e-5 * direction[name] if name in direction else tensor
                 for name, tensor in state.items()}  # fmt: skip
        ends.append(curvature.Hessian(module, moved, mask, data, keep=False).gradient())
    torch.testing.assert_close(product(vector), (ends[0] - ends[1]) / 2e-5, rtol=1e-5, atol=1e-8)
    if kind == "unused":
        place = torch.cat([torch.full((count,), name == "aux.weight") for name, count in masks.count(mask).items()])
        assert not product(vector)[place].any() and product(vector)[~place].any()


@pytest.mark.parametrize("kind", ODD)
def test_paths_and_planes_of_any_network_pass_through_their_solutions(kind):
    module, one, mask, data = odd(kind)
    states = [one, *(odd(kind, seed)[1] for seed in (1, 2))]
    found = landscape.error_along_path(module, states, data, data, alphas=3)
    for place, state in zip((0, 2, 4), states, strict=True):
        models.load(module, state)
        expected = nn.functional.cross_entropy(module.eval()(data[0]), data[1]).item()
        assert found["averaged/train_loss"][place] == pytest.approx(expected, rel=1e-9)
    middle = landscape.combine(states, [0.7, 0.6, -0.3])
    assert torch.equal(middle["mask"], one["mask"]) and "scale" not in middle
    if kind == "tied":
        assert torch.equal(middle["b.weight"], middle["c.weight"])
    where = landscape.plane(states, list(mask))
    surface = landscape.on_plane(landscape.Evaluator(module, data, data), states, list(mask), where[:2, 0], [0.0])
    np.testing.assert_allclose(surface["averaged/train_loss"][0], found["averaged/train_loss"][[0, 2]], rtol=1e-6)


def test_an_infinite_parameter_and_any_nan_are_divergence_and_an_infinite_buffer_is_not():
    module, state, *_ = odd("attention")
    landscape.check_finite(state, module)
    for name, value in (("a.weight", math.inf), ("a.bias", math.nan), ("mask", math.nan)):
        broken = {**state, name: torch.full_like(state[name], value)}
        with pytest.raises(LandscapeError, match=f"{name} is not finite"):
            landscape.check_finite(broken, module)
        with pytest.raises(LandscapeError, match=f"{name} is not finite"):
            landscape.combine([state, broken], [0.5, 0.5])


@pytest.mark.parametrize("free", [10**4, 10**5])
def test_a_hessian_that_memory_does_not_hold_is_computed_in_smaller_chunks(small, monkeypatch, free):
    module, state, mask, data, exact, _ = small
    monkeypatch.setattr(curvature, "free_memory", lambda device: free)
    with pytest.warns(curvature.FewerAtOnce, match="goes on with fewer") as warned:
        product = curvature.Hessian(module, state, mask, data, 70, keep=None)
    assert len(warned) == 1 and product.graphs is None and product.chunk < 70
    vector = torch.randn(product.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(product(vector), exact @ vector)


@pytest.mark.parametrize("keep", [True, False])
def test_a_hessian_that_runs_out_of_memory_goes_on_in_smaller_chunks(small, monkeypatch, keep):
    module, state, mask, data, exact, _ = small
    whole = curvature.Hessian._loss

    def full(self, inputs, labels):
        if len(labels) > 20:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return whole(self, inputs, labels)

    monkeypatch.setattr(curvature.Hessian, "_loss", full)
    with pytest.warns(curvature.FewerAtOnce) as warned:
        product = curvature.Hessian(module, state, mask, data, 70, keep)
    assert len(warned) == 1 and product.chunk == 18
    vector = torch.randn(product.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(product(vector), exact @ vector)
    monkeypatch.setattr(curvature.Hessian, "_loss", lambda self, *part: full(self, torch.zeros(21), torch.zeros(21)))
    with pytest.raises(LandscapeError, match="one example at a time"), pytest.warns(curvature.FewerAtOnce):
        curvature.Hessian(module, state, mask, data, 70, keep)


def test_what_is_no_matter_of_memory_is_not_tried_again(small):
    module, state, mask, (inputs, labels), *_ = small
    with pytest.raises(IndexError, match="out of bounds"):
        curvature.Hessian(module, state, mask, (inputs, labels + 10), 70)
    with pytest.raises(LandscapeError, match="no parameter of this network"):
        curvature.Hessian(module, state, {**mask, "other": mask["fc1.weight"]}, (inputs, labels))


def test_compact_vectors_and_tensors_are_inverse(small):
    module, state, mask, data, *_ = small
    product = curvature.Hessian(module, state, mask, data)
    vector = torch.arange(1.0, product.size + 1, dtype=torch.float64)
    assert torch.equal(product.compact(dict(zip(mask, product.expand(vector), strict=True))), vector)
    assert torch.equal(product.compact({}), torch.zeros_like(vector))


def test_lanczos_over_the_whole_space_finds_the_whole_spectrum(small):
    exact = small[4]
    start = torch.randn(len(exact), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    diagonal, off, basis = curvature.lanczos(lambda v: exact @ v, start, 10**6)
    torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-10, rtol=0)
    found, expected = curvature._ritz(diagonal, off)[0], torch.linalg.eigvalsh(exact).numpy()
    if len(found) == len(expected):
        np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose([found[0], found[-1]], [expected[0], expected[-1]], atol=1e-9)


def test_top_eigenvalues_and_vectors_are_those_of_eigh(small):
    module, state, mask, data, exact, _ = small
    product = curvature.Hessian(module, state, mask, data)
    start = torch.randn(product.size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    values, vectors = curvature.top_eigenvalues(product, start, k=5, tolerance=1e-8)
    expected, basis = torch.linalg.eigh(exact)
    np.testing.assert_allclose(values, expected.flip(0)[:5], rtol=1e-6)
    assert abs((vectors[0] @ basis[:, -1]).item()) == pytest.approx(1, abs=1e-6)
    assert curvature.curvature(product, 3 * vectors[0]) == pytest.approx(values[0])
    with pytest.raises(LandscapeError, match="not converged after 6 steps"):
        curvature.top_eigenvalues(product, start, k=5, tolerance=1e-12, steps=6)
    with pytest.raises(LandscapeError, match="product 1 of Lanczos is not finite"):
        curvature.top_eigenvalues(lambda vector: vector * math.nan, start)


@pytest.mark.parametrize("gap", [3e-4, 1e-3, 2e-3])
def test_no_eigenvalue_is_passed_over_where_two_are_close(gap):
    """Residuals of the k found so far are small before the second of a close pair is seen."""
    values = np.sort(
        np.concatenate([0.8 ** np.arange(12), 0.8 ** np.arange(12) * (1 - gap), np.linspace(0, 0.02, 300)])
    )
    for seed in range(4):
        draw = np.random.default_rng(seed)
        basis = torch.from_numpy(np.linalg.qr(draw.standard_normal((len(values), len(values))))[0])
        matrix = basis * torch.from_numpy(values) @ basis.T
        start = torch.from_numpy(draw.standard_normal(len(values)))
        found, _ = curvature.top_eigenvalues(lambda v, matrix=matrix: matrix @ v, start, k=10)
        np.testing.assert_allclose(found, values[::-1][:10], atol=2e-3 * values[-1])


def test_a_direction_of_no_length_has_no_curvature():
    with pytest.raises(LandscapeError, match="a direction of length 0 has no curvature"):
        curvature.curvature(lambda v: v, torch.zeros(3))


def test_a_loss_that_is_no_number_allows_no_ratio():
    class Broken(nn.Linear):
        def forward(self, x):
            return super().forward(x) * math.nan

    module = Broken(4, 3)
    state, data = module.state_dict(), (torch.ones(6, 4), torch.arange(6) % 3)
    mask = masks.dense(state, ["weight"])
    with pytest.raises(LandscapeError, match="the training loss of this network is not finite"):
        curvature.measured_ratio(module, state, mask, {"weight": state["weight"].abs()}, data, 0.1)


def test_barriers_are_of_one_path():
    for measured in (landscape.error_barrier, landscape.midpoint_barrier):
        with pytest.raises(LandscapeError):
            measured([[0.1, 0.5, 0.1], [0.2, 0.2, 0.4]])
    with pytest.raises(LandscapeError, match=r"expected one number a point of a path, \[S\]"):
        landscape.error_barrier([[0.1, 0.5, 0.1]])
    with pytest.raises(LandscapeError, match="from 0 to 1: give segments alone"):
        landscape.above_chord([0.1, 0.5, 0.1], [0, 1, 2])


def test_a_parameter_called_a_variance_is_combined_like_any_other():
    states = [{"log_running_var": torch.tensor([value])} for value in (-2.0, -1.0)]
    assert landscape.combine(states, [1, 0])["log_running_var"] == -2
    assert landscape.combine(states, [0.5, 0.5])["log_running_var"] == -1.5
    outside = landscape.combine([{"running_var": torch.tensor([value])} for value in (1.0, 0.1)], [-1, 2])
    assert outside["running_var"] == 0


def test_a_path_between_tickets_of_two_replicates_is_refused_before_anything_is_trained(tmp_path):
    training = r.training(data="digits", model="lenet-8", steps=20, batch=50, optimiser="adam", lr=3e-3, validation=200)
    one, other = (tickets.imp(training, replicate, 1, 0.3)[1] for replicate in (0, 1))
    store = Store(tmp_path / "store")
    with pytest.raises(LandscapeError, match=r"none that the mask of its point 2 was pruned from.*mask=recipes.Dense"):
        execute([landscape.path(one, other, alphas=3)], store, executor="inline", show=False)
    assert store.keys() == []
    execute([landscape.path(one, other, alphas=3, mask=Dense())], store, executor="inline", show=False)


def test_lanczos_stops_where_the_space_is_exhausted():
    matrix = torch.diag(torch.tensor([3.0, 3.0, 1.0, 0.0], dtype=torch.float64))
    diagonal, off, _ = curvature.lanczos(lambda v: matrix @ v, torch.ones(4, dtype=torch.float64), 4)
    assert len(diagonal) == 3 and off[-1] == 0
    np.testing.assert_allclose(curvature._ritz(diagonal, off)[0], [0, 1, 3], atol=1e-12)


def test_quadrature_has_the_exact_moments_of_each_probe(small):
    exact = small[4]
    steps, probes = 6, torch.randn(3, len(exact), dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    nodes, weights = curvature.spectral_measure(lambda v: exact @ v, probes, steps)
    for row, probe in enumerate(probes / probes.norm(dim=1, keepdim=True)):
        power = probe.clone()
        for degree in range(2 * steps):
            moment = (weights[row] * nodes[row] ** degree).sum()
            assert moment == pytest.approx((probe @ power).item(), rel=1e-7, abs=1e-9), degree
            power = exact @ power


@pytest.fixture(scope="module")
def flat():
    """A trained network of some 800 weights with its Hessian, whose spectrum reaches down to 0, as a matrix."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 1, 6, 6, generator=draw, dtype=torch.float64)
    data = inputs, (inputs.flatten(1) @ torch.randn(36, 10, generator=draw, dtype=torch.float64)).argmax(1)
    module = models.build("lenet-16-8", (1, 6, 6), 10, 0).double()
    dense = masks.dense(module.state_dict(), models.prunable(module))
    start = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    _, state = curvature.lowest_loss(module, start, dense, data, 0.0, steps=300, lr=0.01)
    product = curvature.Hessian(module, state, dense, data, 200)
    exact = torch.stack([product(unit) for unit in torch.eye(product.size, dtype=torch.float64)])
    return product, (exact + exact.T) / 2, product.compact(state).square().numpy()


def solved(product, right, scale):
    """(I + scale H)⁻¹ right by conjugate gradients."""
    solution, residual = torch.zeros_like(right), right.clone()
    direction, square = residual.clone(), residual @ residual
    for _ in range(20 * len(right)):
        if square <= 1e-16 * (right @ right):
            break
        image = direction + scale * product(direction)
        step = square / (direction @ image)
        solution, residual = solution + step * direction, residual - step * image
        square, before = residual @ residual, square
        direction = residual + square / before * direction
    return solution


def test_quadrature_gives_the_trace_that_conjugate_gradients_give(flat):
    """Two ways to tr (I + cH)⁻¹, the free directions of a predicted ratio, from the same probe."""
    _, exact, _ = flat
    shift = max(0.0, -torch.linalg.eigvalsh(exact)[0].item())
    positive = exact + shift * torch.eye(len(exact), dtype=torch.float64)
    probe = torch.randint(0, 2, (len(exact),), generator=torch.Generator().manual_seed(4)).double() * 2 - 1
    nodes, weights = curvature.spectral_measure(lambda v: positive @ v, probe[None], 500)
    for scale in (1e2, 1e4):
        direct = (probe @ solved(lambda v: positive @ v, probe, scale)).item()
        found = curvature.free_directions(nodes, weights, len(exact), scale, 0.5)
        assert found == pytest.approx(direct, rel=1e-4)


def test_ratios_predicted_from_500_steps_are_those_of_the_whole_spectrum(flat):
    _, exact, squares = flat
    values = torch.linalg.eigvalsh(exact).numpy()
    probes = torch.randint(0, 2, (8, len(exact)), generator=torch.Generator().manual_seed(5)).double() * 2 - 1
    nodes, weights = curvature.spectral_measure(lambda v: exact @ v, probes, 500)
    for law in ("exact", "width"):
        for order in ("magnitude", "random"):
            wanted = curvature.predicted_ratio(values, np.ones(len(values)), squares, 0.01, order, law)
            found = curvature.predicted_ratio(nodes, weights, squares, 0.01, order, law)
            assert 0 < wanted < 1 and found == pytest.approx(wanted, abs=0.03), (law, order)


def test_the_measure_is_one_in_all_and_its_mean_the_trace(small):
    exact = small[4]
    basis = torch.eye(len(exact), dtype=torch.float64)  # all of a basis as probes: no chance left
    nodes, weights = curvature.spectral_measure(lambda v: exact @ v, basis, 20)
    assert weights.sum(1) == pytest.approx(1, abs=1e-6)
    assert (nodes * weights).sum() == pytest.approx(exact.trace().item(), rel=1e-6)


# How much can be pruned at once.


def test_bisection_finds_the_last_that_holds():
    for last in range(8):
        asked = []
        assert curvature.largest(lambda k, last=last, asked=asked: asked.append(k) or k <= last, 7) == last
        assert len(asked) <= 3 and 0 not in asked


def half_point(size, spectrum, distance, epsilon, nearest, draw, tries=12):
    """The codimension at which half of the random affine subspaces meet the ellipsoid, by bisection.

    The lowest ½ xᵀHx over {x: Ax = b} is ½ bᵀ(A H⁻¹ Aᵀ)⁻¹ b. With `nearest` the subspace itself is at the distance;
    else a point is that the subspace goes through whatever its direction.
    """

    def meets(codimension):
        count = 0
        for _ in range(tries):
            rows = torch.linalg.qr(torch.from_numpy(draw.normal(size=(size, codimension))))[0].T
            offset = torch.from_numpy(draw.normal(size=codimension if nearest else size))
            offset *= distance / offset.norm()
            offset = offset if nearest else rows @ offset
            scaled = rows / torch.from_numpy(np.sqrt(spectrum))
            count += (offset @ torch.linalg.solve(scaled @ scaled.T, offset) / 2 <= epsilon).item()
        return count >= tries / 2

    return curvature.largest(meets, size - 1)


@pytest.mark.parametrize("scale", [0.05, 0.1, 0.2])
def test_the_exact_law_holds_on_random_quadratics(scale):
    """Random directions stand for pruned axes: wherever half of the subspaces meet the ellipsoid, the law says so."""
    draw, size, epsilon = np.random.default_rng(0), 300, 1.0
    spectrum = np.exp(draw.normal(0, 2, size))
    squares = np.full(size, 4 * scale**2)
    predicted = size * curvature.predicted_ratio(spectrum, np.ones(size), squares, epsilon, "random")
    distance = np.sqrt(squares[0] * round(predicted))
    assert 20 < predicted < size - 5
    assert half_point(size, spectrum, distance, epsilon, True, draw) == pytest.approx(predicted, abs=15)


@pytest.mark.parametrize("distance", [3, 6, 12])
def test_the_width_law_holds_for_a_point_chosen_before_the_subspace(distance):
    """Gordon's bound, and the same sharpened: R² (1 − α) in place of R²."""
    draw, size, epsilon = np.random.default_rng(1), 300, 1.0
    spectrum = np.exp(draw.normal(0, 1.5, size))

    def crossing(law):
        def meets(k):
            squared = distance**2 * (1 - k / size if law == "exact" else 1)
            return k <= curvature.free_directions(spectrum, np.ones(size), size, squared, epsilon)

        return curvature.largest(meets, size)

    found = half_point(size, spectrum, distance, epsilon, False, draw)
    assert found == pytest.approx(crossing("exact"), abs=8)
    assert crossing("width") - 5 <= found <= 1.4 * crossing("width")


@pytest.mark.parametrize("law", ["exact", "width"])
def test_predicted_ratios_solve_the_equation(law):
    draw, size, epsilon = np.random.default_rng(1), 500, 0.05
    spectrum, squares = np.exp(draw.normal(-2, 2, size)), draw.normal(size=size) ** 2
    for order, ordered in (("magnitude", np.sort(squares)), ("random", np.full(size, squares.mean()))):
        count = round(size * curvature.predicted_ratio(spectrum, np.ones(size), squares, epsilon, order, law))
        length = np.concatenate([[0], np.cumsum(ordered)])

        def room(k, length=length):
            squared = length[k] * ((size - k) / k if law == "exact" else 1)
            return (2 * epsilon / (2 * epsilon + spectrum * squared)).sum() - k

        assert 0 < count < size and room(count) >= 0 > room(count + 1)


def test_prediction_with_one_curvature_has_a_closed_form():
    """Equal h and w² = 1. Width: α = 2ε/(2ε + hαD), so hDα² + 2εα − 2ε = 0. Exact: every way of pruning costs the same
    loss hαD/2, so α = 2ε/hD."""
    size, h, epsilon = 10**5, 1e-3, 0.1
    expected = (-2 * epsilon + math.sqrt(4 * epsilon**2 + 8 * epsilon * h * size)) / (2 * h * size)
    found = curvature.predicted_ratio(np.array([h]), np.ones(1), np.ones(size), epsilon, "random", "width")
    assert found == pytest.approx(expected, abs=2 / size)
    found = curvature.predicted_ratio(np.array([h]), np.ones(1), np.ones(size), epsilon, "random")
    assert found == pytest.approx(2 * epsilon / (h * size), abs=2 / size)


def test_flat_directions_are_free_and_magnitude_prunes_no_less_than_random():
    squares = np.random.default_rng(2).normal(size=300) ** 2
    for law in ("exact", "width"):
        assert curvature.predicted_ratio(np.array([0.0, -1.0]), np.ones(2), squares, 0.1, law=law) == 1
        some = [
            curvature.predicted_ratio(np.array([0.1, 5.0]), np.ones(2), squares, 0.1, order, law)
            for order in ("magnitude", "random")
        ]
        assert some[0] > some[1]
    with pytest.raises(LandscapeError, match="order"):
        curvature.predicted_ratio(np.ones(1), np.ones(1), squares, 0.1, "smallest")


def test_the_measured_ratio_is_the_last_inside_and_retraining_widens_it():
    module, state, mask, data = digits("lenet-20", dtype=torch.float32)
    _, state = curvature.lowest_loss(module, state, mask, data, -1, steps=60, lr=0.01)
    scores = masks.magnitude_scores(state, mask)
    base = curvature.lowest_loss(module, state, mask, data, math.inf)[0]
    ratio = curvature.measured_ratio(module, state, mask, scores, data, 0.02)

    def rise(ratio):
        pruned = masks.prune(mask, scores, dict.fromkeys(mask, ratio), "global")
        return curvature.lowest_loss(module, state, pruned, data, -1)[0] - base

    assert 0 < ratio < 0.9 and rise(ratio) <= 0.02 < rise(round(ratio + 0.01, 2))
    assert curvature.measured_ratio(module, state, mask, scores, data, 0.02, steps=30, resolution=20) > ratio


def test_the_search_for_a_low_loss_stays_in_the_subspace():
    module, state, mask, data = digits("resnet-8", examples=20, dtype=torch.float32)
    pruned = masks.prune(mask, masks.magnitude_scores(state, mask), dict.fromkeys(mask, 0.5), "global")
    before, cut = curvature.lowest_loss(module, state, pruned, data, -1)
    loss, found = curvature.lowest_loss(module, state, pruned, data, before - 0.01, steps=20, chunk=7)
    assert loss <= before - 0.01
    assert all((found[name][~kept] == 0).all() for name, kept in pruned.items())
    assert all(torch.equal(found[key], cut[key]) for key in found if key not in pruned)
    assert landscape.Evaluator(module, data, data)(found)["averaged/train_loss"] == pytest.approx(loss, abs=1e-5)


# Recipes.


def training(model="resnet-8", **changes):
    base = dict(
        data="digits",
        model=model,
        steps=12,
        batch=32,
        optimiser="sgd",
        lr=0.05,
        momentum=0.9,
        milestones=(8,),
        validation=200,
        evaluate=((12, 12),),
    )
    return r.training(**{**base, **changes})


def run(recipes, store, **more):
    return execute(recipes, store, **{"executor": "inline", "show": False, **more})


@pytest.fixture(scope="module", params=["resnet-8", "lenet-16"])
def chain(request, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("landscape") / "store")
    runs = tickets.imp(training(request.param), 0, 2, 0.2, scope="global", rewind_step=4, fresh_order=True)
    run(runs, store)
    return runs, store


def test_paths_between_levels_are_recorded_with_both_statistics(chain):
    runs, store = chain
    one, three = run([landscape.path(*runs[:2], alphas=3), landscape.path(*runs, alphas=3)], store)
    assert one.arrays["position"].tolist() == [0, 0.5, 1] and three.arrays["position"].tolist() == [0, 0.5, 1, 1.5, 2]
    accuracy = store.read(runs[1].key).values["test_accuracy_end"]
    assert one.arrays["averaged/test_error"][-1] == pytest.approx(1 - accuracy, abs=1e-9)
    np.testing.assert_array_equal(one.arrays["re-estimated/train_loss"], three.arrays["re-estimated/train_loss"][:3])
    assert len(three.values["barrier/averaged/test_error"]) == len(three.values["distance"]) == 2
    assert three.values["ends/averaged/test_loss"] == three.arrays["averaged/test_loss"][::2].tolist()
    same = np.array_equal(one.arrays["averaged/test_loss"], one.arrays["re-estimated/test_loss"])
    assert same == runs[0].training.model.startswith("lenet")


def test_a_chain_has_whole_paths_to_neighbours_and_to_its_last_level_and_middles_elsewhere():
    runs = tickets.imp(training(), 0, 3, 0.5, scope="global")
    successive, dense = (landscape.level_paths(runs, since, alphas=11) for since in (False, True))
    assert [path.points for path in successive] == [(a.end, b.end) for a, b in itertools.pairwise(runs)]
    assert [path.points for path in dense] == [(runs[0].end, run.end) for run in runs[1:]]
    assert [path.alphas for path in successive] == [11, 11, 11] and [path.alphas for path in dense] == [11, 3, 11]
    assert dense[0].key == successive[0].key == landscape.path(*runs[:2], alphas=11).key


def test_a_sampled_path_is_that_of_the_first_examples(chain):
    runs, store = chain
    [found] = run([landscape.path(*runs[:2], alphas=3, examples=300, test_examples=200)], store)
    module, dataset = landscape.scene(world(store), runs[0].training)
    train, test = (r.first(pair, n) for pair, n in ((dataset.train, 300), (dataset.test, 200)))
    ends = [store.state(run_.key, 12) for run_ in runs[:2]]
    for place, alpha in enumerate((0, 0.5, 1)):
        expected = landscape.Evaluator(module, train, test, batch=300)(landscape.combine(ends, [1 - alpha, alpha]))
        for name, value in expected.items():  # statistics and loss from one pass: the variance by n, not by n − 1
            close = 2e-3 if name == "re-estimated/train_loss" else 1e-5
            assert found.arrays[name][place] == pytest.approx(value, rel=close), (name, alpha)


def test_statistics_of_a_sample_that_is_no_single_batch_are_averages_over_batches(chain, monkeypatch):
    runs, store = chain
    monkeypatch.setattr(landscape, "SINGLE", 100)
    recipe = landscape.path(*runs[:2], alphas=2, examples=1000)
    measure = landscape.evaluator(world(store), recipe)
    module, dataset = landscape.scene(world(store), recipe.training)
    state = store.state(runs[0].key, 12)
    assert measure(state) == landscape.Evaluator(module, r.first(dataset.train, 1000), dataset.test)(state)


def test_precision_and_layout_change_a_sampled_path_by_rounding_alone(chain):
    runs, store = chain
    last = replace(runs[0].training, layout="channels_last")
    given = {"examples": 300, "test_examples": 200}
    plain = landscape.path(*runs[:2], alphas=2, **given)
    others = [replace(plain, training=last), replace(plain, precision="bf16"), replace(plain, training=last)]
    expected, *found = (
        landscape.evaluator(world(store), one)(store.state(runs[1].key, 12)) for one in (plain, *others)
    )
    for values, close in zip(found, (1e-4, 0.03, 1e-4), strict=True):
        assert values == pytest.approx(expected, rel=close, abs=0.02)
    assert (found[1] != expected) and found[0] == found[2]


def test_fields_at_their_defaults_change_neither_key_nor_layout(chain):
    runs, store = chain
    plain = landscape.path(*runs[:2])
    assert plain.json().keys() == {"type", "version", "training", "points", "mask"}
    assert landscape.path(*runs[:2], examples=10).json()["examples"] == 10
    last = replace(runs[0].training, layout="channels_last")
    measured = [landscape.evaluator(world(store), replace(plain, training=t)) for t in (last, runs[0].training)]
    state = store.state(runs[0].key, 12)
    assert measured[0](state) == measured[1](state)


def test_a_solution_is_measured_once_for_several_paths(chain, monkeypatch):
    runs, store = chain
    measured = []

    class Counted(landscape.Evaluator):
        def __call__(self, state):
            measured.append(state)
            return super().__call__(state)

    monkeypatch.setattr(landscape, "Evaluator", Counted)
    sample = {"alphas": 3, "examples": 50, "test_examples": 40}
    for points in (runs[:2], runs[1:], runs[::2]):
        landscape.path(*points, mask=Dense(), **sample).compute(world(store))
    assert len(measured) == 3 + 2 + 1
    landscape.path(*runs[:2], alphas=2, examples=51, test_examples=40).compute(world(store))
    assert len(measured) == 8  # on other examples it is another number


def test_a_pruning_projection_ends_in_the_pruned_network(chain):
    runs, store = chain
    [found] = run([landscape.projection(runs[0], runs[1].mask, alphas=2)], store)
    assert found.values["ends/averaged/train_loss"][0] == pytest.approx(
        store.read(runs[0].key).values["train_loss_end"], rel=1e-4
    )
    left = Masked(runs[0].end, runs[1].mask).tensors(world(store), runs[0].training)
    kept = runs[1].mask.tensors(world(store), runs[0].training)
    assert all((left[name][~k] == 0).all() for name, k in kept.items())


def test_a_path_whose_mask_cuts_a_solution_is_refused(chain):
    runs, store = chain
    with pytest.raises(LandscapeError, match="not nested in the path's"):  # as numbers tell
        run([landscape.path(*runs[:2], mask=runs[1].mask)], store)
    shuffled = r.Shuffled(runs[1].mask, 0)
    with pytest.raises(LandscapeError, match="is none that the mask of its point 1 was pruned from"):  # as recipes tell
        run([landscape.path(runs[1], runs[2], mask=shuffled)], store)
    with pytest.raises(ExecutionError, match="not nested in the path's"):  # as only masks tell
        run([landscape.path(*(tickets.shuffled(runs[2], draw) for draw in (0, 1)), mask=shuffled)], store)


@pytest.mark.parametrize("model", ["vgg-19-8", "alone"])
def test_one_example_is_refused_where_normalisation_needs_more(model, tmp_path):
    models.register("alone", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10)))
    where, runs = world(Store(tmp_path)), [tickets.dense(training(model), replicate) for replicate in range(3)]
    triangle = Plane(runs[0].training, tuple(one.end for one in runs), runs[0].mask, examples=1)
    for recipe in (landscape.path(*runs, examples=1), triangle):
        with pytest.raises(LandscapeError, match="one training example: give examples=2 or more"):
            recipe.check(where)
        replace(recipe, examples=2).check(where)
    wider = [tickets.dense(training("resnet-8"), replicate) for replicate in (0, 1)]
    landscape.path(*wider, examples=1).check(where)  # of four values a channel, where it ends


def test_a_plane_is_recorded(chain):
    runs, store = chain
    recipe = Plane(runs[0].training, tuple(run_.end for run_ in runs), Dense(), resolution=2)
    [found] = run([recipe], store)
    assert found.arrays["averaged/test_error"].shape == (2, 2) and found.arrays["points"].shape == (3, 2)
    assert found.arrays["x"][0] < found.arrays["points"][:, 0].min()


def test_spectrum_and_prunable_ratio_are_recorded(chain):
    runs, store = chain
    towards = (Masked(runs[1].end, runs[2].mask), Masked(runs[1].end, Thinned(runs[1].mask, 0.2, 0, scope="global")))
    recipe = Spectrum(runs[1], steps=8, probes=2, top=1, epsilons=(0.01, 0.1), towards=towards, examples=64, chunk=40)
    search = [Prunable(runs[1], 0.05, order, steps=2, examples=64) for order in ("magnitude", "random")]
    found, by_magnitude, at_random = run([recipe, *search], store)
    assert found.values["size"] == sum(store.read(runs[1].key).values["weights_left"].values())
    assert found.arrays["top"][0] == pytest.approx(found.arrays["nodes"].max(), rel=0.05)
    predicted = found.values["predicted"]
    for law in ("exact", "width"):
        by_size, by_chance = (predicted[f"{law}/{order}"] for order in ("magnitude", "random"))
        assert by_size[0] <= by_size[1] and by_chance <= by_size
    assert found.values["distance"][0] < found.values["distance"][1] and len(found.values["curvature"]) == 2
    for record in (by_magnitude, at_random):
        assert 0 <= record.values["zero_shot_ratio"] <= record.values["ratio"] < 1


def test_starts_are_perturbed_by_the_distance_between_pruned_rewind_points(chain):
    runs, store = chain
    other = Thinned(runs[1].mask, 0.2, 0, scope="global")
    state, mask = (part.tensors(world(store), runs[1].training) for part in (runs[1].weights, runs[1].mask))
    pruned = Masked(runs[2].weights, runs[2].mask).tensors(world(store), runs[1].training)
    length = landscape.distance(state, pruned, mask)
    for through in (None, other):
        moved = tickets.from_perturbed_start(runs, 1, 0, 2.0, through)
        assert moved.start == 4 and moved.order == runs[2].order
        start = moved.weights.tensors(world(store), runs[1].training)
        assert landscape.distance(state, start, mask) == pytest.approx(2 * length, rel=1e-5)
    [record, _] = run([moved, landscape.path(runs[1], moved, alphas=3)], store)
    assert record.arrays["history/step"][0] == 4


def test_a_thinned_mask_is_nested_random_and_exact(chain):
    runs, store = chain
    before = runs[1].mask.tensors(world(store), runs[1].training)
    one, other = (Thinned(runs[1].mask, 0.25, 0, draw).tensors(world(store), runs[1].training) for draw in (0, 1))
    assert all(not (one[n] & ~kept).any() and not torch.equal(one[n], other[n]) for n, kept in before.items())
    assert masks.count(one) == masks.count(other) == {n: c - round(0.25 * c) for n, c in masks.count(before).items()}


def test_instability_trains_twice_from_the_same_weights(chain):
    runs, store = chain
    pair = tickets.siblings(runs[0], 4)
    records = run([*pair, landscape.path(*pair, alphas=3)], store)
    assert pair[0].weights == pair[1].weights == Rewound(runs[0], 4) and pair[0].order != pair[1].order
    assert records[2].values["distance"][0] > 0 and records[0].arrays["history/step"][0] == 4
    assert [run_.weights for run_ in tickets.siblings(runs[1])] == [runs[1].weights] * 2


@pytest.mark.parametrize("kind", tickets.RETRAINING)
def test_each_way_of_retraining_starts_where_it_says(chain, kind):
    runs, store = chain
    found = tickets.retrained(runs[0].training, 0, 2, 0.2, kind, scope="global", step=4, fresh_order=True)
    run(found, store)
    if kind == "none":
        cut, values = (store.state(found[i].key, 12) for i in (2, 0))
        kept = found[2].mask.tensors(world(store), found[2].training)
        assert found[2].start == 12 and store.read(found[2].key).arrays["history/step"].tolist() == [12]
        assert all(torch.equal(cut[name], values[name] * kept.get(name, 1)) for name in cut)
        assert run([Survivors(found[2])], store)[0].values["below"] == 0
        return
    start = found[2].weights.tensors(world(store), found[2].training)
    expected = store.state(runs[0].key, 4) if kind == "weights" else store.state(found[1].key, 12)
    assert all(torch.equal(start[name], expected[name]) for name in expected)
    assert found[2].start == 4 and store.read(found[2].key).arrays["history/step"].tolist() == [4, 12]
    rates = [found[2].training.learning_rate(step) for step in range(4, 12)]
    assert rates == pytest.approx([0.005] * 8 if kind == "fine-tuning" else [0.05] * 4 + [0.005] * 4)
    assert (found == runs) == (kind == "weights")
    if kind == "fine-tuning":
        moved = tickets.transplanted(found, 4)
        assert [m.mask for m in moved] == [f.mask for f in found[1:]] and moved[1].weights == Rewound(found[0], 4)
        assert moved[1].training == runs[0].training
        run(moved[1:], store)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_survivors_are_above_the_threshold_until_they_are_retrained(chain, scope):
    runs, store = chain
    ticket = tickets.imp(runs[0].training, 0, 1, 0.2, scope=scope, rewind_step=4)[1]
    _, found = run([ticket, Survivors(ticket)], store)
    size, old = found.values["weights_left"], store.state(ticket.mask.run.key, 12)
    mask, new = ticket.mask.tensors(world(store), ticket.training), store.state(ticket.key, 12)
    threshold = found.values["threshold"]
    assert (len(set(threshold.values())) == 1) == (scope == "global")
    assert all(old[name][kept].abs().min() >= threshold[name] for name, kept in mask.items())
    small = sum(int((new[name][kept].abs() <= threshold[name]).sum()) for name, kept in mask.items())
    assert found.values["below"] == small / size
    assert all(found.arrays[f"histogram/{name}"].sum() == size for name in ("pruned", "retrained"))


def test_measures_of_movement_on_weights_that_can_be_counted():
    start, end = torch.tensor([-2.0, -1.0, 0.2, 1.0, 1.4]), torch.tensor([-3.0, 0.5, 0.2, 2.0, 1.0])
    distance, grown, positive, dip = movement.moves(start, end)
    assert [distance, grown, positive] == pytest.approx([(1 + 1.5 + 0 + 1 + 0.4) / 5, 2 / 5, 3 / 5])
    assert dip == pytest.approx((1 / 1) / (3 / 2))  # one within a half, three in twice that width
    gauss = torch.from_numpy(np.random.default_rng(0).standard_normal(200000))
    assert movement.moves(gauss, gauss)[3] == pytest.approx(1.58, abs=0.02)
    assert np.isnan(movement.moves(start[:0], end[:0])).all()


def test_where_survivors_started_needs_no_trained_weights(chain):
    runs, store = chain
    [found] = run([Started(runs[2])], store)
    assert all(step != runs[2].training.steps for _, step in Started(runs[2]).reads())
    mask, start = (part.tensors(world(store), runs[2].training) for part in (runs[2].mask, runs[2].weights))
    kept = [start[name][kept] / start[name].std() for name, kept in mask.items()]
    expected = [[(w > 0).double().mean(), movement.moves(w, w)[-1]] for w in kept]
    np.testing.assert_allclose(found.arrays["summary"], expected)
    assert found.values["layers"] == list(mask) and 0 < found.values["density"] < 1


def test_movements_of_a_ticket_are_those_of_its_weights(chain):
    runs, store = chain
    [found] = run([Moved(runs[2], runs[0])], store)
    mask = runs[2].mask.tensors(world(store), runs[2].training)
    start, end, alone = (
        weights.tensors(world(store), runs[0].training) for weights in (runs[0].weights, runs[0].end, runs[2].end)
    )
    begun = runs[2].weights.tensors(world(store), runs[0].training)
    for i, (name, kept) in enumerate(mask.items()):
        unit = start[name].std()
        for group, (a, b) in enumerate(
            [
                (begun[name][kept], alone[name][kept]),
                (start[name][kept], end[name][kept]),
                (start[name][~kept], end[name][~kept]),
            ]
        ):
            np.testing.assert_allclose(found.arrays["summary"][i, group], movement.moves(a / unit, b / unit), rtol=1e-6)
            for kind in ("starts", "moves", "growth"):
                assert found.arrays[f"{kind}/{name}"][group].sum() == len(a)
        # Dealt out at random, movements keep their mean over both groups.
        sizes = np.array([kept.sum(), (~kept).sum()])
        both = [(found.arrays[part][i, -2:, 0] * sizes).sum() for part in ("summary", "chance")]
        assert both[0] == pytest.approx(both[1], rel=1e-5)
    assert found.values["layers"] == list(mask) and found.values["weights_left"] == masks.count(mask)


@pytest.mark.parametrize(("planted", "low", "high"), [("noise", 0.95, 1.05), ("start", 1.2, 2)])
def test_movements_dealt_out_change_nothing_if_they_had_nothing_to_do_with_starts(planted, low, high, tmp_path):
    store, dense = Store(tmp_path / "store"), tickets.dense(training("lenet-300"), 0)
    start = dense.weights.tensors(world(store), dense.training)
    stream = np.random.default_rng(0)
    noise = {name: torch.from_numpy(stream.standard_normal(t.shape)) * t.std() for name, t in start.items()}
    moved = noise if planted == "noise" else start
    end = {name: (t + moved[name]).float() if "weight" in name else t for name, t in start.items()}
    store.save(dense.key, dense.json(), {}, {}, {}, {dense.training.steps: end})
    once = tickets.one_shot(dense.training, 0, 7, 0.2)
    [found] = run([Moved(tickets.untrained(once), dense)], store)
    ratios = [found.arrays[name][0, -2, 0] / found.arrays[name][0, -1, 0] for name in ("summary", "chance")]
    assert ratios[1] > 1.2 and low < ratios[0] / ratios[1] < high


def test_an_adaptive_chain_prunes_what_the_loss_allows(chain):
    runs, store = chain
    found = tickets.adaptive_imp(runs[0].training, 0, 1, 0.2, rewind_step=4, examples=100)
    run(found, store)
    ratio = store.read(found[1].mask.key).values["ratio"]
    assert 0 < ratio < 1 and store.read(found[1].key).values["density"] == pytest.approx(1 - ratio, abs=1e-3)
    whole = Dense().tensors(world(store), runs[0].training)
    assert store.read(found[1].mask.key).values["shapes"].keys() == whole.keys()


def test_scans_are_computed_by_worker_processes_and_never_twice(tmp_path):
    store = Store(tmp_path / "store")
    runs = tickets.imp(training("lenet-16"), 0, 1, 0.2)
    study = [*runs, landscape.path(*runs, alphas=3), Prunable(runs[0], 0.05, steps=0)]
    [*_, path, _] = run(study, store, executor="processes", jobs=1)
    assert run(study, store)[2].made == path.made
    inline = run(study, Store(tmp_path / "inline"))[2]
    for name in path.arrays:
        np.testing.assert_array_equal(path.arrays[name], inline.arrays[name])


def test_what_scans_read_is_asked_for():
    runs = tickets.imp(training(), 0, 2, 0.2, rewind_step=4)
    path = landscape.path(runs[1], runs[2])
    assert path.mask == runs[1].mask
    assert {(recipe.key, step) for recipe, step in path.reads()} == {
        (runs[1].key, 12),
        (runs[2].key, 12),
        (runs[1].mask.key, None),
    }
    assert (runs[1], 12) in Spectrum(runs[1]).reads() and (runs[1], 12) in Adaptive(runs[1], 0.1).reads()
    moved = tickets.from_perturbed_start(runs, 1, 0)
    assert (runs[0], 4) in moved.reads() and (runs[2].mask, None) in moved.reads()
    assert Continued(runs[0], 4).reads() == [(runs[0], 12)]


def test_scans_that_cannot_be_are_refused():
    dense = tickets.dense(training(), 0)
    with pytest.raises(RecipeError, match="two points"):
        Path(dense.training, (dense.end,), Dense())
    with pytest.raises(RecipeError, match="cut by magnitude"):
        Survivors(dense)
    with pytest.raises(RecipeError, match="beyond"):
        Continued(dense, 13)
    with pytest.raises(RecipeError):
        Perturbed(Initial(0), Dense(), Initial(1), 0, multiple=0)
    with pytest.raises(RecipeError, match="known: weights, learning rate, fine-tuning, none"):
        tickets.retrained(training(), 0, 1, 0.2, "rest")


KEYS = {  # the first digits, pinned for ever like those of tests/test_recipes.py
    "path": "c41cf37a782d8f99",
    "spectrum": "bc3384f2c84ede80",
    "perturbed": "a9c25552f3852d9f",
    "fine-tuning": "e014f2bbde06bf85",
    "adaptive": "53326ecd9a59189b",
    "prunable": "27d712864c0d41da",
    "survivors": "175f4fe8a88348d9",
    "moved": "2718225dbb0fff92",
    "thinned": "5c57690d7a5219a6",
}


def pinned():
    chain = tickets.imp(training(), 0, 2, 0.2, rewind_step=4)
    return {
        "path": landscape.path(chain[0], chain[1]),
        "spectrum": Spectrum(chain[1], epsilons=(0.1,)),
        "perturbed": tickets.from_perturbed_start(chain, 1, 0),
        "fine-tuning": tickets.retrained(training(), 0, 2, 0.2, "fine-tuning", step=4)[2],
        "adaptive": Adaptive(chain[0], 0.1),
        "prunable": Prunable(chain[0], 0.1),
        "survivors": Survivors(chain[1]),
        "moved": Moved(chain[1], chain[0]),
        "thinned": Run(training(), Initial(0), Thinned(Dense(), 0.2, 0)),
    }


@pytest.mark.parametrize("name", KEYS)
def test_keys_never_change(name):
    assert pinned()[name].key.startswith(KEYS[name])


def test_three_networks_on_a_line_span_no_plane_in_either_precision():
    draw = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        a, b = ({"w": torch.randn(1000, generator=draw, dtype=dtype)} for _ in range(2))
        with pytest.raises(landscape.LandscapeError, match="one line"):
            landscape.plane([a, b, landscape.combine([a, b], [0.7, 0.3])], ["w"])
