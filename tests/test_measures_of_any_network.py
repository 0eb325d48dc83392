"""What is measured of users' own networks is right, or refused with a reason; cases that independent testers found."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from lottery import (
    LotteryError,
    controls,
    curvature,
    data,
    landscape,
    marks,
    masks,
    models,
    movement,
    recipes,
    signs,
    tickets,
    worth,
)
from lottery.controls import AtStart, Complement, DegreePreserving, Drawn, EdgePopup
from lottery.engine import execute
from lottery.engine.errors import TrainingError
from lottery.engine.store import Store
from lottery.recipes import Dense, Initial, Run

SHAPE, CLASSES = (1, 8, 8), 10


def training(factory, name="measured", **more):
    models.register(name, factory)
    given = dict(data="digits", model=name, steps=30, batch=50, optimiser="adam", lr=3e-3, validation=200)
    return recipes.training(**given | more)


def runs(of, count=2):
    return [Run(of, Initial(replicate), Dense(), (replicate,)) for replicate in range(count)]


def computed(wanted, folder):
    store = Store(folder)
    return store, execute.execute(wanted, store, executor="inline", show=False)


def network(*between):
    """A small convolutional network with these layers after its convolution."""
    return nn.Sequential(nn.Conv2d(1, 6, 3), *between, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, CLASSES))


class OwnRate(nn.BatchNorm2d):
    def forward(self, x):
        given = self.running_mean, self.running_var, self.weight, self.bias, self.training
        return F.batch_norm(x, *given, 0.1, self.eps)


class OwnMomentum(nn.BatchNorm2d):
    def forward(self, x):
        given = self.running_mean, self.running_var, self.weight, self.bias, self.training
        return F.batch_norm(x, *given, self.momentum, self.eps)


class OwnStatistics(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(6, 1, 1))

    def forward(self, x):
        if self.training:
            self.mean.lerp_(x.detach().mean((0, 2, 3))[:, None, None], 0.1)
        return x - self.mean


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        (lambda: OwnRate(6), "at a rate of its own"),
        (OwnStatistics, "mean changes in training"),
        (lambda: nn.utils.parametrizations.spectral_norm(nn.Conv2d(6, 6, 1)), "changes in training"),
    ],
)
def test_statistics_that_cannot_be_known_between_networks_are_refused_before_training(layer, said, tmp_path):
    of = training(lambda shape, classes: network(layer()))
    with pytest.raises(recipes.RecipeError, match=said):
        computed([landscape.path(*runs(of), alphas=3)], tmp_path)
    assert not Store(tmp_path).keys()


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d,
        lambda n: nn.BatchNorm2d(n, momentum=None),
        OwnMomentum,
        lambda n: nn.InstanceNorm2d(n, track_running_stats=True),
    ],
    ids=["batch", "cumulative", "own forward", "instance"],
)
def test_re_estimated_statistics_are_those_of_the_data(layer, tmp_path):
    of = training(lambda shape, classes: network(layer(6)))
    a, b = runs(of)
    store, (record,) = computed([landscape.path(a, b, alphas=3)], tmp_path)
    dataset = execute.world(store).dataset(of)
    state = landscape.combine([store.state(run.key, 30) for run in (a, b)], [0.5, 0.5])
    module = models.evaluating(models.build(of.model, SHAPE, CLASSES))
    models.load(module, state)
    with torch.no_grad():
        batches = module[0](dataset.train[0][:1000]).split(500)
        parts = (0, 2, 3)
        instance = isinstance(module[1], nn.InstanceNorm2d)
        variances = [x.var((2, 3)).mean(0) if instance else x.transpose(0, 1).flatten(1).var(1) for x in batches]
        module[1].running_mean.copy_(torch.stack([x.mean(parts) for x in batches]).mean(0))
        module[1].running_var.copy_(torch.stack(variances).mean(0))
        loss = F.cross_entropy(module(dataset.test[0]), dataset.test[1])
    assert record.arrays["re-estimated/test_loss"][1] == pytest.approx(float(loss), rel=1e-4)
    assert record.arrays["averaged/test_loss"][1] != pytest.approx(float(loss), rel=1e-2)


class Held(nn.Module):
    """Its normalisation is held in evaluation, with statistics from elsewhere."""

    def __init__(self):
        super().__init__()
        self.inner = network(nn.BatchNorm2d(6))
        self.inner[1].running_mean.fill_(1.0)
        self.inner[1].running_var.fill_(4.0)

    def train(self, mode=True):
        super().train(mode)
        self.inner[1].eval()
        return self

    def forward(self, x):
        return self.inner(x)


def test_statistics_that_training_does_not_move_are_not_re_estimated(tmp_path):
    a, b = runs(training(lambda shape, classes: Held()))
    _, (one, other, path) = computed([a, b, landscape.path(a, b, alphas=3)], tmp_path)
    for kind in ("averaged", "re-estimated"):
        ends = path.arrays[f"{kind}/test_loss"][[0, -1]]
        np.testing.assert_allclose(ends, [run.values["test_loss_end"] for run in (one, other)], rtol=1e-5)


class Strided(nn.Module):
    """Its weights do not lie in memory row by row."""

    def __init__(self):
        super().__init__()
        self.inner = network(nn.Conv2d(6, 6, 3, padding=1)).to(memory_format=torch.channels_last)
        self.matrix = nn.Parameter(torch.randn(CLASSES, CLASSES).t())

    def forward(self, x):
        return self.inner(x) @ self.matrix


def test_weights_in_any_order_in_memory_are_trained_and_measured(tmp_path):
    of = training(lambda shape, classes: Strided(), steps=4)
    dense, ticket = tickets.imp(of, 0, 1, 0.5)
    flipped = Run(of, signs.FlippedSigns(Initial(0), ticket.mask, 0.5, 0), ticket.mask)
    complement = Run(of, Initial(0), controls.Complement(ticket.mask, 0))
    _, found = computed([dense, ticket, flipped, complement, landscape.path(dense, ticket, alphas=3)], tmp_path)
    assert [record.values["density"] for record in found[:4]] == pytest.approx([1, 0.5, 0.5, 0.5], abs=0.05)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_computed_where_gradients_are_switched_off(mode, tmp_path):
    (run,) = runs(training(lambda shape, classes: network(), steps=4), 1)
    with mode():
        _, (here, _) = computed([run, curvature.Spectrum(run, 4, 1, 2)], tmp_path / "here")
    _, (there,) = computed([run], tmp_path / "there")
    assert here.values == there.values


class Permuted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.randperm(64))
        self.layer = nn.Linear(64, CLASSES)

    def forward(self, x):
        return self.layer(x.flatten(1)[:, self.order])


def test_states_that_differ_in_integers_have_ends_and_nothing_between(tmp_path):
    a, b = ({"order": torch.randperm(9, generator=torch.Generator().manual_seed(seed))} for seed in (0, 1))
    assert torch.equal(landscape.combine([a, b], [0, 1])["order"], b["order"])
    with pytest.raises(landscape.LandscapeError, match="differ in order"):
        landscape.combine([a, b], [0.5, 0.5])
    counted = [{"bn.num_batches_tracked": torch.tensor(count)} for count in (3, 4)]
    assert landscape.combine(counted, [0.5, 0.5])["bn.num_batches_tracked"] == 3
    of = training(lambda shape, classes: Permuted())
    with pytest.raises(LotteryError, match="order holds integers that the network draws"):
        computed([landscape.path(*runs(of), alphas=3)], tmp_path)
    assert not Store(tmp_path).keys()
    computed([landscape.path(*runs(of), alphas=2)], tmp_path)  # the ends alone


def test_a_path_between_networks_of_two_kinds_is_refused(tmp_path):
    one, other = training(lambda s, c: network(), "one kind"), training(lambda s, c: network(nn.Tanh()), "another kind")
    for wrong in (other, dataclasses.replace(one, scaling="unit")):
        with pytest.raises(landscape.LandscapeError, match="would be measured as"):
            computed([landscape.path(runs(one)[0], runs(wrong)[1], alphas=3)], tmp_path)


def test_survivors_that_are_zero_have_no_sign(tmp_path):
    def factory(shape, classes):
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, classes))
        nn.init.zeros_(module[1].weight)  # of pixels that are always black they stay so
        return module

    [run] = runs(training(factory, scaling="unit"), 1)
    store, _ = computed([run], tmp_path)
    state, world = store.state(run.key, 30), execute.world(store)
    found = signs.signs_of(world, run)
    assert (state["1.weight"] == 0).any()
    for name, layer in signs.ternary(state, run.mask.tensors(world, run.training)).items():
        assert torch.equal(found[name], layer), name


class ZeroBranch(nn.Module):
    """A residual branch that starts at zero, as many do."""

    def __init__(self):
        super().__init__()
        self.into, self.branch, self.head = nn.Linear(64, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)
        nn.init.zeros_(self.branch.weight)

    def forward(self, x):
        x = torch.relu(self.into(x.flatten(1)))
        return self.head(x + self.branch(x))


def test_layers_that_start_at_zero_have_no_signs_to_flip(tmp_path):
    [run] = runs(training(lambda shape, classes: ZeroBranch()), 1)
    _, (record,) = computed([signs.Flipped(run, run.weights)], tmp_path)
    assert set(record.values["layers"]) == {"into.weight", "head.weight"}
    sizes = {"into.weight": 64 * 12, "head.weight": 12 * CLASSES}
    mean = sum(record.values["layers"][name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert record.values["flipped"] == pytest.approx(mean)


@pytest.mark.parametrize("criterion", ["snip", "synflow"])
def test_scores_that_are_all_zero_choose_no_mask(criterion, tmp_path):
    def factory(shape, classes):
        module = network()
        nn.init.zeros_(module[-1].weight)
        return module

    with pytest.raises(execute.ExecutionError, match="cannot choose between them"):
        computed([AtStart(training(factory), Initial(0), 0.8, criterion)], tmp_path)
    with pytest.raises(execute.ExecutionError, match="none: keep more"):
        computed([AtStart(training(lambda s, c: network(), "all"), Initial(0), 1e-9, criterion)], tmp_path)


@pytest.mark.filterwarnings("ignore:.*a unit without weights is not a number:lottery.engine.trial.Doubtful")
def test_degrees_of_grouped_convolutions_are_not_traded(tmp_path):
    for given in (lambda layer: layer, parametrizations.weight_norm):
        of = training(lambda shape, classes, given=given: network(given(nn.Conv2d(6, 6, 3, padding=1, groups=2))))
        ticket = tickets.imp(of, 0, 1, 0.5)[1]
        with pytest.raises(LotteryError, match="grouped convolution"):
            computed([Run(of, Initial(0), DegreePreserving(ticket.mask, 0))], tmp_path)


def test_drawn_weights_have_no_bias_whatever_it_is_called(tmp_path):
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(8, 5, batch_first=True), nn.Linear(5, CLASSES)

        def forward(self, x):
            return self.head(self.rnn(x.squeeze(1))[0][:, -1])

    state = Drawn(0).tensors(execute.world(Store(tmp_path)), training(lambda shape, classes: Rows()))
    assert not any(tensor.any() for name, tensor in state.items() if "bias" in name)
    assert all(tensor.any() for name, tensor in state.items() if "weight" in name)


def test_a_layer_at_two_places_is_sparse_at_both():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(64, 64), nn.Linear(64, CLASSES)
            self.second = self.first

        def forward(self, x):
            return self.head(torch.relu(self.second(torch.relu(self.first(x)))))

    module, x = Twice(), torch.randn(5, 64)
    mask = {"first.weight": torch.rand(64, 64) < 0.3}
    with torch.no_grad():
        found = worth.in_csr(module, mask)(x)
        module.first.weight.mul_(mask["first.weight"])
        torch.testing.assert_close(found, module(x))


def test_the_speed_of_layers_in_a_plain_list_is_refused(tmp_path):
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(64, 30), nn.Linear(30, CLASSES)
            self.hidden = [self.first]

        def forward(self, x):
            return self.head(torch.relu(self.hidden[0](x.flatten(1))))

    of = training(lambda shape, classes: Listed())
    with pytest.raises(LotteryError, match="from a plain list"):
        computed([worth.Speed(of, recipes.Thinned(Dense(), 0.5, 0), (1,), 1)], tmp_path)


def test_shared_weights_are_packed_once_and_buffers_not(tmp_path):
    def factory(shape, classes):
        module = network(nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.Conv2d(6, 6, 1))
        module[3].weight = module[2].weight
        return module

    of = training(factory)
    _, [record] = computed([worth.Packed(of, Initial(0), Dense())], tmp_path)
    assert record.values["dense"] == 4 * sum(p.numel() for p in models.build(of.model, SHAPE, CLASSES).parameters())


def test_survivors_are_those_of_layers_that_were_ranked_by_magnitude(tmp_path):
    of = training(lambda shape, classes: network())
    chain = tickets.imp(of, 0, 1, {"conv": 0.0, "output": 0.5}, scope="global")
    store, [record] = computed([movement.Survivors(chain[1])], tmp_path)
    world = execute.world(store)
    old, new = (store.state(run.key, 30)["3.weight"].abs() for run in chain)
    kept = chain[1].mask.tensors(world, of)["3.weight"]
    below = (new[kept] <= old[~kept].max()).sum() / sum(masks.count(chain[1].mask.tensors(world, of)).values())
    assert record.values["below"] == pytest.approx(float(below)) and record.values["threshold"]["0.weight"] == 0
    random = recipes.Pruned(chain[0], 0.5, criterion="random")
    with pytest.raises(ValueError, match="by magnitude"):
        movement.Survivors(Run(of, Initial(0), random))


def test_movement_is_measured_from_each_networks_own_start(tmp_path):
    of = training(lambda shape, classes: network())
    other = dataclasses.replace(of, seed=1)
    ticket, dense = Run(other, Initial(0), Dense()), Run(of, Initial(0), Dense())
    store, [record] = computed([movement.Moved(ticket, dense)], tmp_path)
    world = execute.world(store)
    start, unit = (Initial(0).tensors(world, one)["0.weight"] for one in (other, of))
    moved = ((store.state(ticket.key, 30)["0.weight"] - start) / unit.std()).abs().mean()
    assert record.arrays["summary"][0, 0, 0] == pytest.approx(float(moved), rel=1e-4)


class Merged(nn.Linear):
    """A low-rank change beside frozen weights, merged into them for evaluation as loralib does."""

    def __init__(self, into, out):
        super().__init__(into, out)
        self.weight.requires_grad_(False)
        self.merged = False
        self.down, self.up = nn.Parameter(torch.randn(4, into) / into**0.5), nn.Parameter(torch.zeros(out, 4))

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down).data
            self.merged = not mode
        return self

    def forward(self, x):
        return F.linear(x, self.weight, self.bias) + (0 if self.merged else x @ self.down.T @ self.up.T)


def rotary(shape, classes):
    class Rotary(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.out = nn.Linear(64, 16), nn.Linear(16, classes)
            self.register_buffer("turn", torch.polar(torch.ones(8), torch.linspace(0, 3, 8)), persistent=False)

        def forward(self, x):
            pairs = torch.view_as_complex(self.inner(x.flatten(1)).unflatten(1, (8, 2)))
            return self.out(torch.relu(torch.view_as_real(pairs * self.turn).flatten(1)))

    return Rotary()


@pytest.mark.filterwarnings("ignore::lottery.engine.trial.NotPruned")
def test_the_ends_of_a_path_are_the_runs_of_a_network_that_merges_its_weights_for_evaluation(tmp_path):
    of = training(lambda s, c: nn.Sequential(nn.Flatten(), Merged(64, 32), nn.ReLU(), Merged(32, c)))
    _, (a, b, path) = computed([*runs(of), landscape.path(*runs(of), alphas=3)], tmp_path)
    ends = [record.values["test_loss_end"] for record in (a, b)]
    assert path.arrays["averaged/test_loss"][[0, -1]] == pytest.approx(ends, rel=1e-4)


class Checkpointed(nn.Module):
    """Computes its first layers anew in the backward pass."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.first, self.last, self.reentrant = nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(8, 3), reentrant

    def forward(self, x):
        if self.reentrant is None:
            return self.last(self.first(x))
        return self.last(checkpoint(self.first, x.requires_grad_(), use_reentrant=self.reentrant))


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_through_checkpoints_are_those_under_the_same_weights(reentrant):
    state = {name: torch.randn_like(tensor) for name, tensor in Checkpointed().state_dict().items()}
    weights = {name: state[name] for name in ("first.0.weight", "last.weight")}
    x, y = torch.randn(5, 6), torch.tensor([0, 1, 2, 0, 1])
    plain, found = (models.gradients(Checkpointed(how), state, weights, x.clone(), y) for how in (None, reentrant))
    assert all(torch.equal(found[name], gradient) for name, gradient in plain.items()) and plain["last.weight"].any()


class Named(nn.Module):
    """Its forward pass names float32, and makes a tensor without a name."""

    def __init__(self, classes=3):
        super().__init__()
        self.first, self.last = nn.Linear(12, 8), nn.Linear(8, classes)

    def forward(self, x):
        chosen = F.one_hot((x.flatten(1)[:, :3] > 0).long(), 4).float().flatten(1)
        return self.last(torch.relu(self.first(chosen) + torch.zeros(8)))


def test_what_is_computed_in_float64_may_name_float32(tmp_path):
    assert signs.chain(Named(), torch.randn(6, 5)).layers == ("first.weight", "last.weight")
    of = training(lambda s, c: Named(c))
    for criterion in ("snip", "synflow"):
        _, [mask] = computed([AtStart(of, Initial(0), 0.5, criterion, rounds=2)], tmp_path / criterion)
        assert sum(int(kept.sum()) for kept in mask.arrays.values()) > 0


@pytest.mark.filterwarnings("ignore::lottery.engine.trial.NotPruned")
def test_gradients_are_those_of_weights_that_are_merged_for_evaluation(tmp_path):
    class Never(Merged):
        """The same without merging."""

        def train(self, mode=True):
            return nn.Module.train(self, mode)

    found = []
    for name, layer in (("merging", Merged), ("never", Never)):
        of = training(
            lambda s, c, layer=layer: nn.Sequential(nn.Flatten(), layer(64, 32), nn.ReLU(), layer(32, c)), name
        )
        [run] = runs(of, 1)
        start = recipes.Rewound(run, 30)
        wanted = [
            curvature.Spectrum(run, 5, 1, 1),
            marks.Beginning(of, start, Dense()),
            AtStart(of, start, 0.5),
        ]
        _, (spectrum, beginning, mask) = computed(wanted, tmp_path / name)
        found.append((spectrum.values["loss"], spectrum.arrays, beginning.values["gradient"], mask.arrays))
    (loss, curved, gradient, kept), (loss_, curved_, gradient_, kept_) = found
    assert loss == pytest.approx(loss_, rel=1e-4) and gradient == pytest.approx(gradient_, rel=1e-4) and gradient > 0
    for name, values in curved.items():
        np.testing.assert_allclose(values, curved_[name], rtol=1e-2, atol=1e-4)
    assert all(np.array_equal(values, kept_[name]) for name, values in kept.items())


def test_curvature_is_that_of_the_network_with_its_complex_buffers(tmp_path):
    [run] = runs(training(rotary), 1)
    _, (record, spectrum) = computed([run, curvature.Spectrum(run, 5, 1, 1)], tmp_path)
    assert spectrum.values["loss"] == pytest.approx(record.values["train_loss_end"], rel=1e-4)


class Unfilled(nn.Module):
    """A buffer that nothing fills, and complex frequencies that are drawn."""

    def __init__(self, filled, classes):
        super().__init__()
        self.out = nn.Linear(20, classes)
        self.register_buffer("frequencies", torch.randn(64, 10, dtype=torch.complex64) / 8)
        self.register_buffer("unset", torch.full((3,), 1.0 if filled else torch.nan))

    def forward(self, x):
        phases = torch.exp(1j * (x.flatten(1).to(self.frequencies.dtype) @ self.frequencies).real)
        return self.out(torch.view_as_real(phases).flatten(1))


def test_complex_buffers_lie_between_and_unfilled_ones_are_refused_before_training(tmp_path):
    for filled in (True, False):
        pair = runs(training(lambda _, n, filled=filled: Unfilled(filled, n), f"filled {filled}"), 2)
        measures = [landscape.path(*pair, alphas=3), curvature.Prunable(pair[0], 0.1, steps=1)]
        if filled:
            _, (path, _) = computed(measures, tmp_path / "filled")
            assert all(np.isfinite(values).all() for values in path.arrays.values())
            continue
        for measure in measures:
            with pytest.raises(LotteryError, match=r"unset is not finite.*a buffer that nothing fills"):
                computed([measure], tmp_path)
    assert not Store(tmp_path).keys()


def test_what_a_run_starts_and_ends_with_is_cut_by_its_mask(tmp_path):
    of = training(lambda shape, classes: network())
    last = tickets.retrained(of, 0, 1, 0.6, "none")[-1]
    one = tickets.imp(of, 0, 1, 0.7)[1]
    wanted = [last, one, landscape.path(runs(of, 1)[0], last, alphas=3)]
    start = landscape.Path(of, (recipes.Rewound(one, 0), one.end), one.mask, 3)
    _, (record, ticket, path, from_start) = computed([*wanted, start], tmp_path)
    assert path.arrays["averaged/test_loss"][-1] == pytest.approx(record.values["test_loss_end"], rel=1e-4)
    assert path.values["distance"][0] > 0
    assert from_start.arrays["averaged/test_loss"][0] == pytest.approx(ticket.arrays["history/test_loss"][0], rel=1e-4)


def test_signs_turned_against_a_ticket_start_where_it_starts():
    ticket = tickets.imp(training(lambda shape, classes: network()), 0, 1, 0.5, rewind_step=20)[1]
    assert {run.start for run in controls.turned(ticket, 0).values()} == {20}


class OwnNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(1, channels, 1, 1)), nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x):
        x = x - x.mean(1, keepdim=True)
        return x / (x.square().mean(1, keepdim=True) + 1e-6).sqrt() * self.weight + self.bias


def test_scales_of_a_normalisation_of_ones_own_are_no_weights():
    assert list(models.prunable(network(OwnNorm(6)))) == ["0.weight", "4.weight"]
    assert list(models.prunable(nn.Sequential(nn.Linear(5, 1)))) == ["0.weight"]  # a layer's matrix may be a vector


class Annealed(nn.Module):
    """State that is no tensor."""

    def __init__(self):
        super().__init__()
        self.layer, self.temperature = nn.Linear(64, CLASSES), 1.0

    def forward(self, x):
        if self.training:
            self.temperature = max(0.05, self.temperature * 0.99)
        return self.layer(x.flatten(1)) / self.temperature


class OwnGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.stream = nn.Linear(64, CLASSES), np.random.default_rng(0)

    def forward(self, x):
        noise = torch.from_numpy(self.stream.standard_normal((len(x), CLASSES)).astype(np.float32))
        return self.layer(x.flatten(1)) + (0.1 * noise if self.training else 0)


@pytest.mark.parametrize("kind", [Annealed, OwnGenerator])
def test_networks_that_keep_something_elsewhere_are_refused_before_training(kind, tmp_path):
    of = training(lambda shape, classes: kind(), optimiser="sgd", lr=0.1)
    with pytest.raises(TrainingError, match=r"asked again|state dict does not hold"):
        computed(runs(of, 1), tmp_path)


def test_parameters_that_overlap_in_memory_are_refused():
    def factory(shape, classes):
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, classes))
        module[2].weight = nn.Parameter(module[1].weight[2 : 2 + classes])
        return module

    models.register("overlapping", factory)
    with pytest.raises(models.ModelError, match="in the same memory"):
        models.build("overlapping", SHAPE, CLASSES)


@recipes.frozen
class Given(recipes.Mask):
    """Masks as users may write them."""

    kind: str

    def tensors(self, world, training):
        kept = {name: torch.rand(m.shape, generator=torch.Generator().manual_seed(0)) > 0.5 for name, m in
                recipes.Dense().tensors(world, training).items()}  # fmt: skip
        if self.kind == "none":
            return {}
        if self.kind == "some layers":
            return dict(list(kept.items())[:1])
        return {name: m.to(getattr(torch, self.kind)) for name, m in kept.items()}


@pytest.mark.parametrize(
    ("kind", "said"),
    [("int64", "is torch.int64"), ("float32", "is torch.float32"), ("some layers", "lacks"), ("none", "has no layers")],
)
def test_masks_that_are_not_of_truth_values_or_not_of_all_layers_are_refused(kind, said, tmp_path):
    of = training(lambda shape, classes: network())
    with pytest.raises(execute.ExecutionError, match=said):
        computed([Run(of, Initial(0), Given(kind))], tmp_path)


def test_what_can_only_fail_is_refused_before_anything_is_trained(tmp_path):
    of = training(lambda shape, classes: network(nn.Conv2d(6, 6, 3, padding=1, groups=2)))
    dense, ticket = tickets.imp(of, 0, 1, 0.5)
    late = tickets.imp(of, 0, 1, 0.5, rewind_step=20)[1]
    for make in (
        lambda: controls.Early(dense, 31, 0.5),
        lambda: dataclasses.replace(late, training=dataclasses.replace(of, steps=10, evaluate=((10, 5),))),
        lambda: Run(of, Initial(0), Dense(), (-1,)),
    ):
        with pytest.raises(recipes.RecipeError):
            make()
    wanted = {
        "grouped convolution": Run(of, Initial(0), DegreePreserving(ticket.mask, 0)),
        "no layers fc1.weight": Run(of, Initial(0), controls.Spliced(ticket.mask, ticket.mask, ("fc1.weight",))),
        "fraction": Run(of, Initial(0), controls.Early(dense, 30, (("fc", 0.5),))),
        "no recipe with a record": ticket.weights,
    }
    for said, recipe in wanted.items():
        with pytest.raises(LotteryError, match=said):
            computed([recipe], tmp_path)
        assert not Store(tmp_path).keys()


@pytest.mark.parametrize("all_at_zero", [False, True])
def test_layers_that_start_at_zero_are_left_out_of_what_is_relative_to_the_start(all_at_zero, tmp_path, monkeypatch):
    def build(shape, classes):
        network = models.LeNet(shape, classes, (8,))
        for layer in (network.fc1, network.output)[0 if all_at_zero else 1 :]:
            torch.nn.init.zeros_(layer.weight)
        return network

    monkeypatch.setattr(models, "_registered", {})
    models.register("from zero", build)
    training = recipes.training(
        data="digits", model="from zero", steps=4, batch=50, optimiser="adam", lr=3e-3, validation=200
    )
    dense = Run(training, Initial(0), Dense(), (0,))
    asked = [marks.Beginning(training, Initial(0), Dense()), movement.Started(dense), movement.Moved(dense, dense)]
    if all_at_zero:
        for recipe in asked[:2]:
            with pytest.raises(LotteryError, match=r"start (at 0|equal)"):
                recipe.compute(execute.world(Store(tmp_path)))
        return
    beginning, started, moved = execute.execute(asked, Store(tmp_path), executor="inline", show=False)
    assert beginning.values["size"] == 1
    assert started.values["layers"] == moved.values["layers"] == ["fc1.weight"]
    assert np.isfinite(started.arrays["summary"]).all() and np.isfinite(moved.arrays["summary"][:, :2]).all()


# Public functions refuse what the recipes refuse, and measure the function that is trained.


def at_rest():
    """A power iteration that has converged to the last bit: a pass changes nothing."""
    layer = nn.Conv2d(6, 6, 1)
    layer.weight.data = torch.diag(torch.tensor([1, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3]))[..., None, None]
    return parametrizations.spectral_norm(layer)


class Kept(nn.BatchNorm2d):
    """Batch normalisation that writes the same into a buffer whenever it is asked."""

    def __init__(self):
        super().__init__(6)
        self.register_buffer("scale", torch.ones(6))

    def forward(self, x):
        self.scale.copy_(torch.ones(6))
        return super().forward(x) * self.scale[:, None, None]


class Shown(nn.BatchNorm2d):
    """Batch normalisation that shows its weights, the very tensor, as a buffer."""

    def __init__(self):
        super().__init__(6)
        self.register_buffer("scale", torch.ones(6))

    def forward(self, x):
        self.scale = self.weight.detach()
        return super().forward(x)


@pytest.mark.parametrize("layer", [Kept, Shown])
def test_a_buffer_that_is_written_but_follows_nothing_is_left_alone(layer):
    module, pair = network(layer()), (torch.randn(20, *SHAPE), torch.arange(20) % CLASSES)
    evaluate = landscape.Evaluator(module, pair, pair)
    assert evaluate(module.state_dict())
    landscape.check_statistics(module, pair[0])
    assert torch.equal(module.get_buffer("1.scale"), torch.ones(6)) and torch.equal(module[1].weight, torch.ones(6))


@pytest.mark.parametrize(
    "layer",
    [OwnStatistics, lambda: parametrizations.spectral_norm(nn.Conv2d(6, 6, 1)), at_rest],
    ids=["own", "spectral", "at rest"],
)
def test_functions_of_states_refuse_statistics_that_cannot_be_known_between_them(layer):
    module = network(layer())
    state, pair = module.state_dict(), (torch.randn(20, *SHAPE), torch.arange(20) % CLASSES)
    with pytest.raises(landscape.LandscapeError, match="changes in training"):
        landscape.error_along_path(module, [state, state], pair, pair, alphas=2, statistics=("averaged",))
    for refused in (
        lambda: landscape.Evaluator(module, pair, pair),
        lambda: landscape.reestimated(module, state, pair[0]),
    ):
        with pytest.raises(landscape.LandscapeError, match="changes in training"):
            refused()
    assert landscape.Evaluator(module, pair, pair, ("averaged",))(state)


class Twice(nn.Module):
    """One normalisation of two things."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        return self.norm(x) + self.norm(3 * x + 1)


@pytest.mark.parametrize("layer", [Twice, lambda: nn.InstanceNorm2d(6, track_running_stats=True)], ids=["twice", "own"])
def test_the_training_loss_of_a_sampled_path_is_that_of_evaluation(layer, tmp_path):
    of = training(lambda shape, classes: network(layer()))
    a, b = runs(of)
    store, (record,) = computed([landscape.path(a, b, alphas=2, examples=200)], tmp_path)
    x, y = (part[:200] for part in execute.world(store).dataset(of).train)
    module = models.build(of.model, SHAPE, CLASSES)
    module.load_state_dict(store.state(a.key, 30))
    module.train()
    norm, seen = next(one for one in module.modules() if isinstance(one, nn.modules.batchnorm._NormBase)), []
    norm.reset_running_stats()
    norm.register_forward_pre_hook(
        lambda one, _: [seen.append(one), setattr(one, "momentum", 1 / len(seen))][:0] or None
    )
    with torch.no_grad():
        module(x)
        wanted = F.cross_entropy(module.eval()(x), y)
    assert record.arrays["re-estimated/train_loss"][0] == pytest.approx(float(wanted), rel=1e-4)


class Padded(nn.Module):
    """A transformer that ignores padding, and a pooling that does not."""

    def __init__(self, shape, classes):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True)
        self.encoder, self.out = nn.TransformerEncoder(layer, 1), nn.Linear(8, classes)

    def forward(self, x):
        x = x.flatten(1).view(len(x), 8, 8)
        return self.out(self.encoder(x, src_key_padding_mask=(x == 0).all(-1)).mean(1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_padded_transformer_is_measured_as_it_is_trained():
    module = Padded(SHAPE, CLASSES).eval()
    x, y = torch.randn(20, *SHAPE), torch.arange(20) % CLASSES
    x[:, :, 5:] = 0
    found = landscape.Evaluator(module, (x, y), (x, y))(module.state_dict())
    wanted = F.cross_entropy(module(x), y).item()  # with gradients: the path of training
    assert found["averaged/test_loss"] == pytest.approx(wanted, rel=1e-5)
    with torch.no_grad():
        assert F.cross_entropy(module(x), y).item() != pytest.approx(wanted, rel=1e-5)


# Drawn weights, padding, lengths.


@pytest.mark.filterwarnings("ignore:.*a unit without weights is not a number")
def test_weights_are_not_drawn_for_what_others_are_computed_from(tmp_path):
    of = training(
        lambda shape, classes: nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(64, classes)))
    )
    with pytest.raises(LotteryError, match="is not the weight itself"):
        computed([Run(of, Drawn(0), Dense(), (0,))], tmp_path)
    assert not Store(tmp_path).keys()


def test_a_perturbed_start_leaves_the_row_of_padding_alone(tmp_path):
    x = torch.randint(1, 9, (300, 5), generator=torch.Generator().manual_seed(0))
    given = data.register("words", (x[:200], x[:200, 0] % 3), (x[200:], x[200:, 0] % 3))

    def make(shape, classes):
        return nn.Sequential(nn.Embedding(10, 4, padding_idx=0), nn.Flatten(), nn.Linear(20, classes))

    of = training(make, "words", data=given, scaling="none", validation=40, steps=5, batch=20)
    start, other = Initial(0), Initial(1)
    moved = landscape.Perturbed(start, Dense(), other, 0)
    store, _ = computed([Run(of, moved, Dense(), (0,))], tmp_path)
    world = execute.world(store)
    state, before, to = (one.tensors(world, of) for one in (moved, start, other))
    assert not state["0.weight"][0].any()
    mask = masks.dense(before, models.prunable(world.network(of)))
    assert landscape.distance(state, before, mask) == pytest.approx(landscape.distance(before, to, mask), rel=1e-5)
    half = tickets.imp(of, 0, 1, 0.5)[1]  # 20 of 36 that can act: known before it is trained
    with pytest.raises(LotteryError, match="keeps 20 of 36 weights"):
        computed([dataclasses.replace(half, mask=Complement(half.mask, 0))], tmp_path / "complement")
    assert not Store(tmp_path / "complement").keys()


def test_a_changed_start_of_tied_weights_is_changed_under_all_their_names(tmp_path):
    def make(shape, classes):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, classes))
        net[3].weight = net[1].weight
        return net

    of, (one, other) = training(make, "tied", steps=1, lr=1e-9), (Initial(0), Initial(1))
    changed = [
        landscape.Perturbed(one, Dense(), other, 0),
        signs.FlippedSigns(one, Dense(), 0.5, 0),
        signs.Hybrid(one, other),
    ]
    trained = [Run(of, start, Dense(), (1,)) for start in changed]
    store, _ = computed(trained, tmp_path)
    for start, run in zip(changed, trained, strict=True):
        wanted, state = start.tensors(execute.world(store), of)["1.weight"], store.state(run.key, 1)
        assert all(torch.allclose(state[name], wanted, atol=1e-6) for name in ("1.weight", "3.weight"))


def test_layers_that_start_equal_but_for_rounding_are_left_out(tmp_path):
    def make(shape, classes):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
        nn.init.constant_(net[3].weight, 0.1)
        return net

    chain = tickets.imp(training(make), 0, 1, 0.2)
    _, records = computed([*chain, movement.Moved(chain[1], chain[0])], tmp_path)
    assert records[2].values["layers"] == ["1.weight"]


def test_lit_inputs_are_those_of_the_layer_that_sees_them(tmp_path):
    class Reversed(nn.Module):
        def __init__(self, shape, classes):
            super().__init__()
            self.second, self.first, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, classes)

        def forward(self, x):
            return self.out(F.relu(self.second(F.relu(self.first(x.flatten(1))))))

    [ticket] = tickets.imp(training(Reversed), 0, 1, 0.2)[1:]
    with pytest.raises(LotteryError, match=r"second\.weight does not see the inputs"):
        computed([controls.random_lit(ticket, 0)], tmp_path)
    assert not Store(tmp_path).keys()


# Early: in the precision and layout of what is measured, and with the integers that networks hold.


class Viewed(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6 * 36, classes)

    def forward(self, x):
        return self.out(F.relu(self.conv(x)).view(len(x), -1))


@pytest.mark.parametrize("kind", ["path", "popup"])
def test_what_cannot_be_measured_in_the_layout_of_training_is_refused_before_it(kind, tmp_path):
    x = torch.randn(300, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    given = data.register("colours", (x[:200], torch.arange(200) % 3), (x[200:], torch.arange(100) % 3))
    of = training(Viewed, data=given, layout="channels_last", scaling="none", validation=40)
    a, b = runs(of)
    what = landscape.path(a, b, alphas=3, examples=50) if kind == "path" else controls.EdgePopup(of, a.weights, 0.5, 5)
    with pytest.warns(UserWarning), pytest.raises(LotteryError, match=r"fails: .*view"):
        computed([a, b, what], tmp_path)
    assert not Store(tmp_path).keys()


def test_networks_that_differentiate_in_their_forward_pass_have_paths(tmp_path):
    class Energy(nn.Module):
        def __init__(self, shape, classes):
            super().__init__()
            self.energy, self.out = nn.Linear(64, 1), nn.Linear(64, classes)

        def forward(self, x):
            with torch.enable_grad():
                x = x.flatten(1).detach().requires_grad_()
                (gradient,) = torch.autograd.grad(torch.tanh(self.energy(x)).sum(), x, create_graph=True)
            return self.out(x + gradient)

    _, (record,) = computed([landscape.path(*runs(training(Energy)), alphas=3)], tmp_path)
    assert np.isfinite(record.arrays["averaged/test_loss"]).all()


class Mixed(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.out = nn.Linear(64, classes)
        self.register_buffer("order", torch.randperm(64))

    def forward(self, x):
        return self.out(x.flatten(1)[:, self.order])


class Counting(Mixed):
    def __init__(self, shape, classes):
        super().__init__(shape, classes)
        self.order = torch.arange(64)
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        self.count += self.training
        return super().forward(x)


def test_networks_that_differ_in_integers_have_no_path_and_are_not_trained_for_one(tmp_path):
    drawn, counted = runs(training(Mixed, "mixed")), runs(training(Counting, "counting"))
    early = landscape.Path(counted[0].training, (recipes.Rewound(counted[0], 5), counted[0].end), Dense(), 3)
    for what, said in ((landscape.path(*drawn), "the network draws"), (early, "change in training")):
        with pytest.raises(LotteryError, match=said):
            computed([what], tmp_path)
    assert not Store(tmp_path).keys()
    computed([landscape.path(*counted, alphas=3)], tmp_path)  # both have counted as far


def test_a_layer_that_starts_at_zero_has_losing_tickets(tmp_path):
    def make(shape, classes):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
        nn.init.zeros_(net[3].weight)
        return net

    found = controls.losing(training(make, steps=20), 0, 2, 0.4)
    _, records = computed(list(found.values()), tmp_path)
    assert len(records) == len(found)


def test_an_operation_without_a_second_derivative_is_found_in_float32_too(tmp_path):
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.x = x.detach()
            return x**3

        @staticmethod
        def backward(ctx, gradient):
            return gradient * 3 * ctx.x**2

    class Net(nn.Module):
        def __init__(self, cube):
            super().__init__()
            self.first, self.out, self.cube = nn.Linear(64, 8), nn.Linear(8, CLASSES), cube

        def forward(self, x):
            return self.out(self.cube(self.first(x.flatten(1).float())))

    own, plain = (
        training(lambda *_, f=f: Net(f), name) for name, f in (("own", Cube.apply), ("plain", lambda x: x**3))
    )
    with pytest.raises(LotteryError, match="no right second derivative"):
        computed([curvature.Spectrum(tickets.dense(own, 0), 4, 1, 1)], tmp_path)
    assert not Store(tmp_path).keys()
    computed([curvature.Spectrum(tickets.dense(plain, 0), 4, 1, 1)], tmp_path)


# Pure functions, and what networks switch themselves.


class InPlace(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.out = nn.Linear(64, classes)

    def forward(self, x):
        x -= 0.5
        return self.out(x.flatten(1))


def test_pure_functions_leave_the_data_of_a_network_that_changes_its_inputs_alone():
    module, pair = InPlace(SHAPE, CLASSES), (torch.randn(20, *SHAPE), torch.arange(20) % CLASSES)
    before, state = pair[0].clone(), module.state_dict()
    wanted = F.cross_entropy(module(pair[0].clone()), pair[1]).item()
    for _ in range(2):
        assert landscape.Evaluator(module, pair, pair)(state)["averaged/test_loss"] == pytest.approx(wanted)
    mask = masks.dense(state, models.prunable(module))
    hessian = curvature.Hessian(module, state, mask, pair, keep=False)
    direction = torch.ones(hessian.size)
    assert torch.equal(hessian(direction), hessian(direction)) and torch.equal(pair[0], before)


class Switched(nn.Module):
    """Drops by a flag of its own, or differentiates in training alone."""

    def __init__(self, kind, classes):
        super().__init__()
        self.first, self.out, self.kind, self.active = nn.Linear(64, 8), nn.Linear(8, classes), kind, True

    def train(self, mode=True):
        self.active = mode
        return super().train(mode)

    def forward(self, x):
        with torch.set_grad_enabled(torch.is_grad_enabled() and (self.training or self.kind != "gradients")):
            x = F.relu(self.first(x.flatten(1)))
        return self.out(F.dropout(x, 0.5, self.active) if self.kind == "flag" else x)


@pytest.mark.parametrize(("kind", "said"), [("flag", "otherwise than after eval"), ("gradients", "in training alone")])
@pytest.mark.filterwarnings("ignore")
def test_networks_of_which_no_gradient_can_be_measured_are_refused_before_training(kind, said, tmp_path):
    of = training(lambda shape, classes: Switched(kind, classes), kind)
    [run] = runs(of, 1)
    measures = [
        curvature.Spectrum(run, 4, 1, 1),
        marks.Beginning(of, run.weights, Dense()),
        AtStart(of, run.weights, 0.5),
        curvature.Prunable(run, 0.1, steps=1),
        recipes.Run(of, recipes.Rewound(run, 0), curvature.Adaptive(run, 0.1), run.order),
    ]
    for measure in measures:
        with pytest.raises(LotteryError, match=said):
            computed([run, measure], tmp_path)
    assert not Store(tmp_path).keys()


class Gated(nn.Module):
    """Weights of a noise that is there in training alone, a mean of weights, a gradient inside, and a count."""

    def __init__(self, classes):
        super().__init__()
        self.gate, self.noise = nn.Parameter(torch.randn(64, 8) / 8), nn.Parameter(torch.randn(64, 8) / 8)
        self.energy, self.latents, self.out = nn.Linear(8, 1), nn.Parameter(torch.randn(4, 8)), nn.Linear(8, classes)
        self.register_buffer("count", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        h = x.flatten(1) @ self.gate + self.latents.sum(0)
        if self.training:
            self.count += 1
            h = h + torch.randn_like(h) * F.softplus(x.flatten(1) @ self.noise)
        force = torch.func.vmap(torch.func.grad(lambda v: torch.tanh(self.energy(v)).sum()))
        return self.out(h + force(h))


def test_noise_that_is_there_in_training_alone_and_gradients_inside_are_measured(tmp_path):
    of = training(lambda shape, classes: Gated(classes), "gated")
    chain = tickets.imp(of, 0, 1, 0.5)
    wanted = [
        curvature.Spectrum(chain[1], 4, 1, 1),
        curvature.Prunable(chain[0], 0.1, steps=1),
        marks.Beginning(of, chain[0].weights, Dense()),
        EdgePopup(of, chain[0].end, 0.5, 3),
        landscape.projection(chain[0], chain[1].mask, alphas=3),
    ]
    _, found = computed(wanted, tmp_path)
    assert all(found)
    fine = tickets.retrained(of, 0, 1, 0.5, "fine-tuning", step=10)
    with pytest.raises(LotteryError, match="count holds integers that change in training"):
        computed([landscape.path(*fine, alphas=3)], tmp_path / "not")
    assert not Store(tmp_path / "not").keys()


@pytest.mark.parametrize("kind", ["shuffled", "complement", "snip"])
def test_paths_to_masks_that_cannot_nest_are_refused_before_training(kind, tmp_path):
    of = training(lambda s, c: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, c)), "nested")
    ticket = tickets.imp(of, 0, 2, 0.5)[2]
    other = {
        "shuffled": lambda: tickets.shuffled(ticket, 0),
        "complement": lambda: dataclasses.replace(ticket, mask=Complement(ticket.mask, 0)),
        "snip": lambda: recipes.Run(of, recipes.Initial(0), AtStart(of, recipes.Initial(0), 0.25), (0,)),
    }
    with pytest.raises(LotteryError, match="is none that the mask of its point 2 was pruned from"):
        computed([landscape.path(ticket, other[kind](), alphas=3)], tmp_path)
    assert not Store(tmp_path).keys()


def test_a_layer_that_its_start_would_empty_is_refused_before_training(tmp_path):
    of = training(lambda s, c: nn.Sequential(nn.Flatten(), Small(64, 20), nn.ReLU(), nn.Linear(20, c)), "emptied")
    with pytest.raises(LotteryError, match=r"leave layer 1\.weight empty"):
        computed(tickets.imp(of, 0, 1, 0.9, scope="global", criterion="large_init"), tmp_path)
    assert not Store(tmp_path).keys()


class Small(nn.Linear):
    def reset_parameters(self):
        nn.init.normal_(self.weight, std=1e-6)
        nn.init.zeros_(self.bias)


class Noisy(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x) * self.training)


def test_statistics_of_a_layer_that_draws_are_the_same_each_time():
    module, pair = network(Noisy(6)), (torch.randn(200, *SHAPE), torch.arange(200) % CLASSES)
    first, again = (landscape.Evaluator(module, pair, pair)(module.state_dict()) for _ in range(2))
    assert first == again


def test_integers_are_timed_as_the_integers_that_they_are_and_one_an_example_may_be_unlit(tmp_path):
    ids = torch.arange(300) % 10
    given = data.register("ids", (ids[:200], ids[:200] % 3), (ids[200:], ids[200:] % 3))
    of = training(
        lambda _, n: nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, n)),
        "ids",
        data=given,
        scaling="none",
        validation=40,
    )
    _, (unlit,) = computed([controls.Unlit(of)], tmp_path)
    assert unlit.values["inputs"] == 1


def test_a_factory_without_a_hash_is_refused_when_it_is_registered():
    @dataclasses.dataclass
    class Make:
        width: int

        def __call__(self, shape, classes):
            return nn.Linear(64, classes)

    with pytest.raises(models.ModelError, match="cannot be told from others"):
        models.register("unhashable", Make(3))
