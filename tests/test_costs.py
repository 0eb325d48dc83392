"""Tables and the figure of what tickets cost and save."""

from types import SimpleNamespace

import numpy as np
import pytest

from lottery.book import costs
from lottery.worth import UNRUN, Ledger

DENSITY, NONE = np.array([1, 0.5, 0.2]), np.nan
STOP = np.array([[40.0, 30, 20], [60, 50, 30]])
LEDGER = Ledger(DENSITY, STOP, steps=100, unit=2)
SAME = np.array([[40.0, 30, 10], [60, 40, NONE]])
SHAPES = {"fc1.weight": (3, 4), "output.weight": (2, 3)}
RUNS = [SimpleNamespace(values={"weights_left": {"fc1.weight": a, "output.weight": b}}) for a, b in ((12, 6), (6, 3))]


def test_what_did_not_come_about_in_every_replicate_is_said_so():
    assert costs.reached([3200, 3560]) == "3,380 (3,200 to 3,560)"
    assert costs.reached([0.1, NONE, 0.2], 100, "%", 1) == "15.0 % (10.0 to 20.0), in 2 of 3"
    assert costs.reached([NONE, NONE]) == "never" and costs.reached([7, 7, NONE]) == "7, in 2 of 3"


def test_the_ledger_as_a_table():
    memory = costs.footprints([*RUNS, RUNS[1]], SHAPES, 10)
    header, rows, _ = costs.spent(LEDGER, SAME, np.full((2, 3), 0.5), memory)
    table = {row[0]: row[1:] for row in rows}
    assert {len(row) for row in rows} == {len(header)}
    assert table["dense, to the last step"][:2] == ["200.00", "0.5000"]
    assert table["search, weights rewound"][:2] == ["340.00", "1.5000"]
    assert {tuple(table[name][:2]) for name in UNRUN} == {("340.00", "not run")}
    assert table["ticket, to early stop"][0].startswith("10.00")
    assert table["ticket, to the dense network's loss"] == ["reached in 1 of 2"] * 4
    never = {row[0]: row[1:] for row in costs.spent(LEDGER, NONE * SAME, np.full((2, 3), 0.5), memory)[1]}
    assert never["ticket, to the dense network's loss"] == ["not reached"] * 4


def test_what_tickets_save_at_each_level():
    header, rows, _ = costs.saved(LEDGER, SAME, [0, 1, 2])
    assert {len(row) for row in rows} == {len(header)}
    dense, half, fifth = rows
    assert dense == ["100 %", "50 (40 to 60)", "50 (40 to 60)", "", ""]
    assert half[:3] == ["50.0 %", "40 (30 to 50)", "35 (30 to 40)"]
    assert half[3].split()[0] == f"{150 / 30:.1f}" and half[4].split()[0] == f"{150 / (50 - 17.5):.1f}"
    assert fifth[2] == "10, in 1 of 2" and fifth[3].split()[0] == f"{170 / 45:.1f}" and fifth[4] == "–"
    assert costs.repaid(LEDGER, "none").endswith("n = 2") and costs.repaid(Ledger(DENSITY, SAME, 100), "none") == "none"


def test_where_sparse_steps_cost_as_much_only_those_not_taken_are_saved():
    told = costs.in_steps(LEDGER, "none")
    assert told["search_trainings"] == "3" and told["repaid_steps"].startswith(
        "no saving is shown: a ticket saves 25 of 100 steps ["
    )
    alike = Ledger(DENSITY, np.array([[40.0, 30, 20], [60, 50, 39]]), 100)
    assert costs.in_steps(alike, "none")["repaid_steps"].startswith("it is repaid after 15 reuses [")  # 300 / 20.5
    assert costs.in_steps(Ledger(DENSITY, STOP[:, ::-1], 100), "none")["repaid_steps"] == "none"


def test_rivals_that_cost_one_training_or_none():
    lenet = {"ticket": np.array([0.98, 0.98]), "one-shot": np.array([0.979, 0.977])}
    conv = {"ticket": [0.7, 0.71], "one-shot": [0.7, 0.69], "SynFlow": [0.65, 0.665], "random": [0.55, 0.56]}
    ends = {"LeNet": {kind: np.array([0.98, 0.99]) - at for at, kind in enumerate(("ticket", "early"))}}
    told = costs.rivals({"LeNet": lenet, "Conv-2": {kind: np.array(of) for kind, of in conv.items()}}, ends)
    assert told["early_loss_end"].startswith("100.00 pp")
    assert told["one_shot_loss_pp"].startswith("0.20 pp") and told["conv_one_shot_loss_pp"].startswith("1.00 pp")
    assert told["conv_one_shot_recovered"].startswith("93 %") and told["conv_SynFlow_recovered"].startswith("68 %")
    alone = costs.rivals({"LeNet": lenet}, {"LeNet": lenet})
    assert set(alone) == set(told) and alone["conv_one_shot_loss_pp"] == alone["early_loss_end"] == "not run"


def test_a_search_is_repaid_by_how_far_it_and_its_reuses_go():
    header, rows, _ = costs.paid({"repaid-whole": 5.3, "repaid": "42.8 reuses", "sooner": "4.9 reuses"})
    assert [len(row) for row in rows] == 2 * [len(header)]
    assert rows[0][1:] == ["5.3 reuses", "42.8 reuses"] and rows[1][1:] == ["–", "4.9 reuses"]


def test_bytes_as_tables():
    sizes = {"mask": [[2000]], "signs": [[1000]], "kept": [[3000]], "dense": [[60000]]}
    _, rows, caption = costs.kept([0.5], {name: np.array(values) for name, values in sizes.items()})
    assert rows == [["50.0 %", "2,000", "1,000", "3,000", "5.00 %"]] and "60,000 bytes" in caption
    memory = costs.footprints(RUNS, SHAPES, 1000)
    header, rows, caption = costs.in_training(DENSITY, memory, [0, 1], 1000)
    assert {len(row) for row in rows} == {len(header)} and "36 kB" in caption
    assert rows[0][:4] == ["100 %", "0", "0", "36"] and float(rows[0][4][:-2]) > 100


def test_speed_is_told_at_both_ends_and_where_it_crosses():
    times = {1: np.array([[0.1, 0.5, 0.9], [0.1, 0.5, 0.9]]), 1000: np.array([[0.5, 1.0, 2.0], [0.5, 0.5, 0.9]])}
    _, rows, _ = costs.faster(np.array([0.5, 0.2, 0.05]), times)
    assert rows[0] == ["1", "0.10 times (0.10 to 0.10)", "0.90 times (0.90 to 0.90)", "never"]
    assert rows[1][0] == "1,000" and rows[1][3] == "20.0 %, in 1 of 2"


def test_masks_that_settle_are_drawn_and_told():
    place = np.array([0, 0.3, 0.35, 0.38, 0.5, 0.6])  # four masks, one-shot pruning's, the ticket's
    apart = np.abs(place[:, None] - place)[None]
    assert costs.settles([5, 10, 15, 20], apart, 2) == "iteration 15"
    assert costs.settles([5, 10, 15, 20], apart, 4) == "no iteration"
    assert costs.settles([5, 10, 15, 20], apart).startswith("no iteration, for too few")
    figure, caption = costs.settling([5, 10, 15, 20], apart, 0.2)
    [ax] = figure.axes
    before, once, ticket, bound = (np.asarray(line.get_ydata()) for line in ax.get_lines())
    np.testing.assert_allclose(before, [30, 5, 3])
    np.testing.assert_allclose(once, [50, 20, 15, 12])
    np.testing.assert_allclose(ticket, [60, 30, 25, 22])
    assert bound.tolist() == pytest.approx([10, 10]) and "Random ones would in 32.0 %" in caption


def test_cheap_masks_are_told_beside_random_ones_of_their_network():
    kinds = {"ticket": [0.98, 0.97], "one-shot": [0.97, 0.96], "early": [0.96, 0.96], "random": [0.95, 0.95]}
    lenet = {kind: np.array(values) for kind, values in kinds.items()}
    accuracy = {"LeNet": lenet, "Conv-2": {kind: values - 0.2 for kind, values in lenet.items()}}
    before = costs.trainings(accuracy, {"LeNet": 7, "Conv-2": 11})
    assert {kind: values.tolist() for kind, values in before["Conv-2"].items()} == {
        "ticket": [11, 11],
        "one-shot": [1, 1],
        "early": [0.1, 0.1],
        "random": [0, 0],
    }
    ends = {net: {kind: values + 0.01 for kind, values in of.items()} for net, of in accuracy.items()}
    header, rows, _ = costs.cheaper(accuracy, ends, before)
    assert {len(row) for row in rows} == {len(header)} and len(rows) == 8
    table = {row[0]: row[1:] for row in rows}
    assert table["ticket"][0].startswith("7.0") and table["Conv-2, ticket"][0].startswith("11.0")
    assert table["ticket"][3].startswith("2.50 pp") and table["Conv-2, random"][3] == ""
    assert table["ticket"][1].startswith("97.50 %") and table["ticket"][2].startswith("98.50 %")
    frame = costs.cheaper_frame(accuracy, before)
    assert list(frame) == ["network", "mask", "replicate", "trainings_before", "test_accuracy_early_stop"]
    [row] = frame[(frame.network == "Conv-2") & (frame["mask"] == "early") & (frame.replicate == 1)].values.tolist()
    assert row[3:] == [0.1, pytest.approx(0.76)] and len(frame) == 16
