"""Other starts and other masks of a ticket, as a chapter shows them."""

from types import SimpleNamespace

import numpy as np

from lottery.book import carried


def test_each_kind_of_start_is_seen_beside_the_dense_network_and_the_ticket():
    found = {"ticket": [[["dense 0", "t 0"]], [["dense 1", "t 1"]]]}
    found["new magnitudes, signs kept"] = [[[None, "k 0"], [None, "again 0"]], [[None, "k 1"], [None, "again 1"]]]
    found["signs transferred"] = [[[None, "m 0"]], [[None, "m 1"]]]
    both = {"dense": ["dense 0", "dense 1"], "ticket": ["t 0", "t 1"]}
    assert carried.curves(found, 1) == {
        "new magnitudes": both | {"new magnitudes, signs kept": ["k 0", "k 1"]},
        "reshuffled": both,
        "one constant": both,
        "signs transferred": both | {"signs transferred": ["m 0", "m 1"]},
    }


def test_what_keeping_trained_values_changes():
    row = [SimpleNamespace(values={"early_stop_test_accuracy": accuracy}) for accuracy in (0.8, 0.9)]
    ticket = np.array([[0.8, 0.87], [0.8, 0.88], [0.1, 0.1]])
    share = {"weights rewound": np.array([[0.2], [0.3], [0.9]]), "weights kept": np.array([[0.4], [0.4]])}
    found = carried.kept([row, row], ticket, share, 1)
    assert found["flip_excess"].startswith("15.0 pp") and found["kept_gain"].startswith("2.50 pp")
    nothing = dict.fromkeys(found, "not known: that level was not reached")
    assert carried.kept([], ticket, share, 1) == carried.kept([row[:1]], ticket, share, 1) == nothing


def test_how_far_one_start_is_ahead_of_another():
    accuracy = {"ticket": np.array([[0.5, 0.9], [0.5, 0.92]]), "constant": np.array([[0.5, 0.89], [0.5, 0.9]])}
    assert carried.ahead(accuracy, "ticket", "constant", 1).startswith("1.50 pp")


def test_criteria_are_shown_the_best_first():
    shown = []
    chapter = SimpleNamespace(figure=lambda figure, caption: shown.append((figure, caption)))
    accuracy = {"random": np.array([0.9, 0.92]), "ends large": np.array([0.97, 0.98])}
    carried.show_criteria(chapter, accuracy, "21.0 %")
    [(figure, caption)] = shown
    assert "21.0 % of the weights left" in caption
    said = figure.get_label()
    assert 0 < said.index("ends large") < said.index("random")
    carried.show_criteria(chapter, {}, "21.0 %")
    assert len(shown) == 1


def test_flips_are_told_of_all_and_of_each_layer():
    shares = ((0.1, {"fc1": 0.2, "output": 0.0}), (0.3, {"fc1": 0.4, "output": 0.1}))
    records = [SimpleNamespace(values={"flipped": share, "layers": layers}) for share, layers in shares]
    told = carried.flipped(records)
    assert told["flipped_layers"] == "30.0 %, 5.0 %" and round(told["flipped_now"], 9) == 20
