"""What a ticket is worth: ledger, bytes, speed."""

import dataclasses

import numpy as np
import pytest
import torch
from support import LENET as T
from support import chain_in, run

from lottery import LotteryError, models
from lottery.engine.check import check
from lottery.engine.execute import world
from lottery.recipes import Dense, Initial, RecipeError
from lottery.worth import (
    SEED_BYTES,
    UNRUN,
    Ledger,
    Packed,
    Speed,
    WorthError,
    footprint,
    in_csr,
    settled,
    sparse_from,
)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """A chain of two levels of 80 %, and its store."""
    return chain_in(tmp_path_factory.mktemp("store"), 2, 0.8)


def record(recipe, store):
    return run([recipe], store)[0]


def test_a_ledger_by_hand():
    ledger = Ledger(np.array([1, 0.5, 0.2]), np.array([[40, 30, 20], [60, 50, 30]]), steps=100, unit=2)
    assert (ledger.level, ledger.dense, ledger.search) == (2, 200, pytest.approx(340))
    np.testing.assert_allclose(ledger.each, [[80, 120], [8, 12]])
    np.testing.assert_allclose(ledger.short, [2 * (40 + 15 + 4), 2 * (60 + 25 + 6)])
    lines = ledger.lines(10, points=3)
    np.testing.assert_allclose(lines["dense each time"][1], [[0, 400, 800], [0, 600, 1200]])
    np.testing.assert_allclose(lines["search, then ticket"][1], [[340, 380, 420], [340, 400, 460]])
    assert lines["dense each time"][0].tolist() == [0, 5, 10]


def test_lines_of_a_ledger_cross_at_break_even():
    ledger = Ledger(np.array([1, 0.21]), np.array([[50, 40]]), steps=100)
    even = ledger.search / ledger.saved[0]
    (_, dense), (_, ticket) = ledger.lines(even).values()
    assert dense[0, -1] == pytest.approx(ticket[0, -1]) and dense[0, -2] < ticket[0, -2]


def test_what_each_training_takes_is_its_steps_times_what_they_take():
    ledger = Ledger(np.array([1, 0.5, 0.2]), np.array([[40, 30, 20], [60, 50, 30]]), steps=100, unit=2)
    spent = ledger.spent(ledger.unit * ledger.density, np.array([[40, 30, 10], [60, 50, np.nan]]))
    assert spent["dense, to the last step"].tolist() == [200, 200]
    np.testing.assert_allclose(spent["search, weights rewound"], ledger.search)
    assert all(spent[name] is spent["search, weights rewound"] for name in UNRUN)
    np.testing.assert_allclose([spent["dense, to early stop"], spent["ticket, to early stop"]], ledger.each)
    np.testing.assert_allclose(spent["ticket, to the dense network's loss"], [4, np.nan])
    hours = ledger.spent([[1, 2, 3], [4, 5, 6]], ledger.stop)  # which differ by replicate
    assert hours["search, weights rewound"].tolist() == [600, 1500]
    assert hours["ticket, to early stop"].tolist() == [60, 180]


def test_bytes_of_a_training_step_by_hand():
    shapes, left = {"fc1.weight": (3, 4), "output.weight": (2, 3)}, {"fc1.weight": 5, "output.weight": 1}
    dense = footprint(shapes, left, batch=10)
    assert (dense["values"], dense["indices"], dense["activations"]) == (4 * 4 * (12 + 3 + 6 + 2), 0, 40 * (4 + 3 + 2))
    products = 40 * (2 * (4 + 3) + 3 * (3 + 2)) + 4 * 6  # the first layer's inputs have no gradient
    assert dense["moved"] == 9 * 4 * (12 + 3 + 6 + 2) + products
    sparse = footprint(shapes, left, batch=10, sparse=True)
    assert (sparse["values"], sparse["indices"]) == (4 * 4 * (5 + 3 + 1 + 2), 8 * (5 + 4 + 1 + 3))
    assert sparse["held"] == sparse["values"] + sparse["indices"] + dense["activations"]
    indices = 2 * 8 * (5 + 4) + 3 * 8 * (1 + 3)
    assert sparse["moved"] == 9 * 4 * (5 + 3 + 1 + 2) + products - 4 * 6 + 4 * 1 + indices


def test_sparse_products_win_from_where_they_cross_for_the_last_time():
    assert sparse_from([0.5, 0.2, 0.05], [0.5, 0.5, 2]) == pytest.approx(0.1)  # halfway in both logarithms
    assert sparse_from([0.5, 0.2, 0.05], [2, 0.5, 2]) == pytest.approx(0.1)
    assert sparse_from([0.5, 0.2, 0.05], [0.5, 1, 2]) == pytest.approx(0.2)
    assert sparse_from([0.5, 0.2], [1.5, 2]) == 0.5
    assert np.isnan(sparse_from([0.5, 0.2, 0.05], [0.5, 1.5, 1]))
    assert np.isnan([sparse_from([1, 0.5], times) for times in ([np.nan, 1.2], [0.5, np.nan], [2, np.nan])]).all()


def test_a_mask_has_settled_where_it_differs_little_from_all_that_are_compared():
    place = np.array([0, 0.3, 0.37, 0.43, 0.45])
    apart = np.abs(place[:, None] - place)
    assert settled([1, 2, 3, 4, 5], apart, masks=2) == 3
    assert settled([1, 2, 3, 4, 5], apart, masks=3) == 5  # step 4 is 0.13 from step 2
    assert np.isnan(settled([1, 2, 3, 4, 5], apart)) and np.isnan(settled([], apart))


def test_a_packed_ticket_has_a_bit_a_weight_and_a_bit_a_survivor(chain):
    runs, store = chain
    values = record(Packed(T, runs[2].weights, runs[2].mask), store).values
    left = sum(record(runs[2], store).values["weights_left"].values())
    shapes = [64 * 30, 30 * 20, 20 * 10]
    assert values["raw"] == sum(-(-n // 8) for n in shapes) + -(-left // 8) + SEED_BYTES
    assert values["dense"] == 4 * (sum(shapes) + 60)
    assert values["seed"] == SEED_BYTES and 0 < values["signs"] < values["kept"] < values["dense"]


def test_sparser_tickets_take_fewer_bytes(chain):
    runs, store = chain
    kept = [record(Packed(T, run.weights, run.mask), store).values["kept"] for run in runs[1:]]
    assert kept[1] < kept[0]


def test_a_network_in_csr_computes_the_same(chain):
    runs, store = chain
    here = world(store)
    mask = runs[2].mask.tensors(here, T)
    network = here.network(T)
    for name, kept in mask.items():
        network.get_parameter(name).data.mul_(kept)
    x = torch.rand(7, *here.dataset(T).shape)
    with torch.inference_mode():
        torch.testing.assert_close(in_csr(network, mask)(x), network(x))


def test_a_linear_layer_in_csr_takes_inputs_of_any_dimensions():
    network = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(30, 3))
    mask = {name: network.get_parameter(name).detach() > 0 for name in ("0.weight", "3.weight")}
    for name, kept in mask.items():
        network.get_parameter(name).data.mul_(kept)
    with torch.inference_mode():
        for x in (torch.rand(4, 5, 8), torch.rand(1, 5, 8)):
            torch.testing.assert_close(in_csr(network, mask)(x), network(x))


def test_what_reads_the_weight_of_a_layer_is_not_timed_and_refused_before_it_is_pruned():
    class Reading(torch.nn.Module):
        def __init__(self, shape, classes):
            super().__init__()
            self.layer = torch.nn.Linear(64, classes)

        def forward(self, x):
            return torch.nn.functional.linear(x.flatten(1), self.layer.weight.flip(0), self.layer.bias)

    models.register("reading", Reading)
    training = dataclasses.replace(T, model="reading")
    with pytest.raises(LotteryError, match="the speed of network 'reading' fails"):
        check([Speed(training, Dense())])


def test_a_seed_of_more_than_its_bytes_is_not_packed():
    Packed(dataclasses.replace(T, seed=2**64 - 1), Initial(0), Dense())
    with pytest.raises(RecipeError, match=r"kept in 8 bytes: take one below 2\*\*64"):
        Packed(dataclasses.replace(T, seed=2**64), Initial(0), Dense())


def test_convolutions_have_no_sparse_product():
    network = models.build("conv-2", (1, 8, 8), 10)
    with pytest.raises(WorthError, match="no fully connected layer"):
        in_csr(network, {"conv1.weight": torch.ones_like(network.conv1.weight, dtype=torch.bool)})


def test_speed_is_measured_once_and_kept(chain):
    runs, store = chain
    recipe = Speed(T, runs[2].mask, batches=(1, 20), repeats=3)
    threads = torch.get_num_threads()
    first = record(recipe, store)
    assert first.arrays["seconds"].shape == (2, 2, 3) and (first.arrays["seconds"] > 0).all()
    assert first.values["kernels"] and torch.get_num_threads() == threads
    np.testing.assert_array_equal(record(recipe, store).arrays["seconds"], first.arrays["seconds"])
