"""Patterns of signs in kernels, as a chapter shows them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state

from lottery import kernels, masks, signs
from lottery.book import patterned
from lottery.engine import settings
from lottery.engine.store import Record

PATTERNS = 3**9


@pytest.fixture
def tables():
    return []


@pytest.fixture
def chapter(tables):
    """A chapter that notes its tables."""
    return SimpleNamespace(show_table=lambda *table: tables.append(table))


def test_kinds_that_were_correlated_are_shown(chapter, tables):
    alike = {"tickets": np.array([[0.9, 0.5, 0.01], [0.9, 0.7, 0.03]])}
    beyond = {"tickets": np.array([1.0, 3.0]), "one-shot": np.array([0.0, 0.0])}
    patterned.show_kinds(chapter, beyond, {"tickets": 7, "one-shot": 5}, alike, "Words.")
    [(header, [row], words)] = tables
    assert len(header) == len(row) and words == "Words."
    assert row[0] == "tickets" and row[1].startswith("2.0 [0.0, ") and row[2] == "7"
    assert row[3].startswith("0.60 [") and row[4] == "0.030"


def test_chance_is_a_half_for_tickets_themselves(chapter, tables):
    apart = {"tickets": np.array([[0.1, 0.2], [0.3, 0.2]]), "random mask": np.array([[0.2, 0.2], [0.4, 0.2]])}
    patterned.show_apart(chapter, apart, "21 %")
    [(_, rows, words)] = tables
    assert rows[0] == ["tickets", "0.200 (0.100 to 0.300)", "0.200 (0.200 to 0.200)", "0.50", "0.50"]
    assert rows[1][3:] == ["0.75", "0.50"] and words.startswith("21 % left, 2 pairs")


def test_tickets_are_compared_in_each_layer_with_signs_and_without(chapter, tables, monkeypatch):
    offered = {}
    monkeypatch.setattr(chapter, "offer_csv", lambda name, table: offered.update({name: table}), raising=False)

    def pairs(*rows):  # of one pair: distances of two layers with signs, then without
        arrays = np.full((2, 2, len(signs.MEASURES), 2), np.nan)
        place = signs.MATCHED.index("layers"), signs.MEASURES.index("distance")
        arrays[(slice(None), *place)] = rows
        return Record("", {}, {"layers": ["conv1.weight", "fc1.weight"]}, {"pair": arrays}, {})

    found = {"tickets": [pairs((0.125, 0.5), (0.2, 0.3))], "one-shot": [pairs((0.25, 0.375), (0.2, 0.4))]}
    told = patterned.show_layers(chapter, found)
    assert told.pop("one_shot_conv1") == "1.00" and told.pop("one_shot_fc1") == "0.00"
    assert told == {"one_shot_conv1_unsigned": "0.50", "one_shot_fc1_unsigned": "1.00"}
    [(header, rows, _)] = tables
    assert header == ["layer", "signs", "one-shot"]
    both = [["conv1", "with", "1.00"], ["fc1", "with", "0.00"]]
    assert rows == [*both, ["conv1", "without", "0.50"], ["fc1", "without", "1.00"]]
    table = offered["pairs_by_kind.csv"].set_index(["kind", "signs", "pair", "layer"])["distance"]
    assert (
        len(table) == 8 and table["one-shot", "without", 0, "fc1"] == 0.4 and table["tickets", "with", 0, "fc1"] == 0.5
    )
    kept = {"fc1.weight": torch.ones(2, 4, dtype=torch.bool), "conv1.weight": torch.ones(6, 1, 1, 1, dtype=torch.bool)}
    kept["conv1.weight"][2:] = False  # six units, two weights; the other layer has two and eight
    told = patterned.show_layers(chapter, found, mask=Record("", {}, *masks.to_record(kept), {}))
    assert [row[0] for row in tables[1][1][2:5]] == ["mean, layers alike", "mean, by units", "mean, by weights"]
    assert (told["share_conv1"], told["share_fc1"]) == ("20.0 %", "80.0 %")
    means = [told[f"one_shot_{name}"] for name in ("alike", "units", "weights")]
    assert means == ["0.50", "1.00", "0.00"] and told["one_shot_weights_unsigned"] == "1.00"
    judged = [told[f"kinds_auc_{name}"].split(",")[0] for name in ("alike", "units", "weights")]
    assert judged == means and told["kinds_auc_sign_gain_weights"].startswith("−1.00")


def test_how_alike_other_kinds_are_is_told():
    arrays = np.full((2, 2, len(signs.MEASURES), 2), np.nan)
    place = signs.MATCHED.index("layers")
    arrays[0, place, signs.MEASURES.index("agreement")] = 0.6, 0.8
    arrays[:, place, signs.MEASURES.index("distance")] = 0.5, 0.7
    pair = Record("", {}, {"layers": ["fc1.weight", "output.weight"]}, {"pair": arrays}, {})
    told = patterned.alike({"one-shot": [pair]}, [pair])
    assert told == {"agreement_one_shot": "70.0", "same_start": "0.600"}
    assert patterned.alike({}, []) == {"same_start": "not run"}


def test_kernels_counted_together_show_what_one_network_hides():
    rare = np.full((6, PATTERNS), 3)
    rare[:, int("222111000", 3)] = 12  # a row of each sign, an empty one between
    assert patterned.together(rare[:1], 2) == 0 and patterned.together(rare, 2) == 1
    assert patterned.together(rare, 10_000) == 0  # each layer has its part


def test_likeness_is_that_of_dense_networks_of_other_replicates():
    ranks = np.arange(PATTERNS)

    def of(*networks):  # in the second layer at the second level; elsewhere all patterns are as frequent
        rows = np.stack(networks)
        return {1: np.ones((2, 2, PATTERNS)), 2: np.stack([np.ones_like(rows), rows], axis=1)}

    counts = {"tickets": of(ranks, ranks), "dense, pruned once": of(ranks, ranks[::-1])}
    found = patterned.correlated(counts, 0, 9, "tickets", 2, 1)
    assert found[:, 0].tolist() == pytest.approx([-1, 1])


def test_a_replicate_passes_where_all_layers_do():
    p = np.array([[0.001, 0.001, 0.5], [0.005, 0.02, 0.001]])  # two layers, three replicates
    rows = np.stack([np.full(p.shape, 0.1), np.full(p.shape, 0.2), p], axis=-1)
    found = patterned.ranked({"tickets": rows[1], "dense, pruned once": rows[0]}, {"ticket": rows})
    assert found["ticket_pass"] == "1 of 3" and found["ticket_p"] == 0.02 and found["random_mask_rho"] == "not run"
    assert found["ticket_rho"].startswith("0.20")


def test_neighbours_by_chance_are_of_the_layer():
    counts = np.zeros((1, 2, PATTERNS), int)
    counts[0, 1, [0, PATTERNS - 1]] = 4  # all negative, all positive: nothing is left to chance
    assert patterned.share_by_chance(counts, 1) == "100 %" and patterned.share_by_chance(None, 1) == "not run"


def test_the_explorer_has_the_five_sparsest_levels():
    counts = {level: np.ones((2, 2, PATTERNS), int) for level in range(6)}
    left = [f"{share} %" for share in (90, 80, 70, 60, 50, 40)]
    with settings.made(draw=False).active():
        made = [patterned.explorer(counts, ["conv1", "conv2"], left, "Words.", (1, level)) for level in (0, 2)]
    state = str(dependency_state(made[0]))
    assert "90 %" not in state and all(share in state for share in left[1:]) and "Words." in state
    shown = [[control.options[control.index] for control in one.children[0].children] for one in made]
    assert shown == [["conv2", "40 %"], ["conv2", "70 %"]]


def test_tiles_are_of_the_layer_and_level_that_they_name(monkeypatch):
    monkeypatch.setattr(patterned.figures, "enriched_tiles", lambda counts: counts.tolist())
    monkeypatch.setattr(patterned.explorers, "drawn", lambda tiles, *_: tiles)
    counts = {level: np.array([[[level], [level + 10]], [[100], [200]]]) for level in range(1, 4)}
    tiles = patterned.explorer(counts, ["conv1", "conv2"], ["90 %", "80 %", "70 %"], "Words.", (1, 2))
    assert tiles["conv1", "80 %"] == [102] and tiles["conv2", "80 %"] == [212] and tiles["conv2", "70 %"] == [213]


def test_every_null_is_counted():
    counts = np.full(PATTERNS, 3)
    counts[((kernels.patterns().reshape(-1, 9) != 0) == [True] * 3 + [False] * 6).all(axis=1)] = 60  # by their places
    counts[[int(pattern, 3) for pattern in ("111111222", "111111000")]] = 0
    counts[[int(pattern, 3) for pattern in ("222222111", "000000111", "222111000")]] = 300
    assert patterned.by_null(counts, 2) == "count 5, support 2, balance 1"


def test_what_is_glued_is_of_the_level_and_of_the_last():
    at = np.array([1, 0.5, 0.2])
    beyond = {"dense, pruned once": (at, np.array([[1.0, 2, 3], [1, 4, 5]]))}
    agree = {"dense, pruned once": (at, np.array([[0.5, 0.6, 0.7]])), "null balance": (at, np.array([[0.5, 0.5, 0.5]]))}
    assert patterned.told(beyond, agree, 1) == {
        "dense_beyond": "3.0 (2.0 to 4.0)",
        "dense_last": "4.0 (3.0 to 5.0)",
        "dense_agree": 60.0,
        "null_balance_agree": 50.0,
    }


def test_networks_are_held_against_the_dense_one_of_their_replicate():
    def records(early, end):
        return [
            Record("", {}, {"early_stop_test_accuracy": a, "test_accuracy_end": b}, {}, {})
            for a, b in zip(early, end, strict=True)
        ]

    dense = records([0.6, 0.7], [0.65, 0.75])
    networks = {"tickets": records([0.61, 0.71], [0.63, 0.73]), "one-shot": records([0.63, 0.73], [0.66, 0.76])}
    told = patterned.gains({kind: [[None, record] for record in some] for kind, some in networks.items()}, dense, 1)
    assert {name: value.partition(" ")[0] for name, value in told.items()} == {
        "tickets_gain": "1.00",
        "tickets_gain_end": "−2.00",
        "one_shot_gain": "3.00",
        "one_shot_gain_end": "1.00",
        "one_shot_ahead": "2.00",
    }
