"""What a ticket is worth: ledger, bytes, speed."""

import numpy as np
import pytest
import torch
from support import LENET as T
from support import chain_in, run

from lottery import models
from lottery.engine.execute import world
from lottery.worth import SEED_BYTES, Ledger, Packed, Speed, WorthError, in_csr


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
