"""Tickets of deeper networks, as a chapter tells of them."""

from types import SimpleNamespace

import numpy as np

from lottery import stats
from lottery.book import claims, deeper
from lottery.engine.records import Record

ACCURACY = {
    "ticket": {"high": np.array([[0.9, 0.8], [0.92, 0.82]]), "low": np.array([[0.9, 0.7], [0.9, 0.7]])},
    "rewound": {"high": np.array([[0.9, 0.85], [0.92, 0.89]])},
    "reinitialised": {"high": np.array([[np.nan, 0.7], [np.nan, 0.82]])},
}
DENSITY = {"ticket": {"high": np.array([[1, 0.214], [1, 0.214]])}}


def test_the_last_level_in_words():
    labels = {"usual": ("ticket", "high"), "low rate": ("ticket", "low")}
    assert deeper.sparsest(ACCURACY, DENSITY, labels) == "With 21.4 % of the weights, usual: 81.0 %; low rate: 70.0 %."
    lacking = {"ticket": ACCURACY["ticket"] | {"low": np.array([[0.7, np.nan]])}}
    words = "With 100 % of the weights, low rate: 70.0 %."
    assert deeper.sparsest(lacking, DENSITY, {"low rate": ("ticket", "low")}) == words


def test_what_was_run_and_what_rewinding_gives():
    plan = {"steps": 3000, "batch": 64, "levels": 1, "rewind_step": 100, "said": {"high": "rate 0.1", "low": "0.01"}}
    plan |= {"least": 0.11, "high_rate": 0.1, "low_rate": 0.01, "warm_rate": 0.03, "replicates": 3}
    told = deeper.told(plan, ACCURACY, DENSITY, [1])
    assert told["training"] == "3,000 iterations, batches of 64, rate 0.1, 0.01"
    assert told["pruning"] == "1 round" and told["replicates"] == "3" and told["reinit_at"] == "level 1"
    assert told["rewind_at"] == "step 100 (3.33 % of training)"
    assert told["rates"] == "0.1 high, 0.01 low, 0.03 with warm-up"
    assert told["rewinding"] == "5.00 and 7.00 pp with 21.4 % of the weights"
    assert told["dense"] == "91.0 % (rate 0.1), 90.0 % (0.01)" and told["scope"] == "not run"
    both = ACCURACY["ticket"] | {"warm": np.array([[0.9, 0.8], [0.9, 0.9]])}
    apart = ACCURACY | {"ticket": both, "layer-wise": {"warm": np.array([[0.9, 0.81], [0.9, 0.93]])}}
    assert deeper.told(plan, apart, DENSITY, [1])["scope"] == "−3.00 and −1.00 pp with 21.4 %"
    assert told["gaps"] == "5.0 (21.4 %)" and told["mean_of"] == "21.4 %"
    assert deeper.told(plan | {"least": 0.3}, ACCURACY, DENSITY, [1])["mean_of"] == "no size"
    alone = deeper.told(plan, {name: runs for name, runs in ACCURACY.items() if name != "rewound"}, DENSITY, [1])
    assert alone["rewind_at"] == alone["rewinding"] == "not run"


def test_how_far_training_went():
    def run(end, early, learned, density):
        history = {"history/step": np.array([0, 20, 30]), "history/test_accuracy": np.array([0.1, early, end])}
        values = {"test_accuracy_end": end, "train_accuracy_end": learned, "density": density}
        return Record("", {}, values, history, {})

    dense, ticket, fresh = run(0.8, 0.7, 0.9, 1.0), run(0.81, 0.75, 0.95, 0.2), run(0.78, 0.65, 0.85, 0.2)
    behind = run(0.79, 0.75, 0.95, 0.2)
    records = {
        "ticket": {"high": [[[dense, ticket]], [[dense, behind]]], "low": [[[dense, ticket]], [[dense, ticket]]]},
        "reinitialised": {setting: [[[None, fresh]], [[None, fresh]]] for setting in ("high", "low")},
    }
    tables = []
    chapter = SimpleNamespace(show_table=lambda header, rows, caption: tables.append((header, rows, caption)))
    deeper.show_unfinished(chapter, "Net", records, {"steps": 30, "said": {"high": "rate 0.1", "low": "0.01"}})
    [(header, rows, caption)] = tables
    assert rows == [
        ["rate 0.1", "80.0 %", "1 of 2", "95.0 %", "85.0 %", "10.0 pp", "2.0 pp"],
        ["0.01", "80.0 %", "2 of 2", "95.0 %", "85.0 %", "10.0 pp", "3.0 pp"],
    ]
    assert len(header) == 7 and "with 20.0 % of the weights" in caption


def test_what_is_told_of_several_networks():
    told = {
        name: {"pruning": f"{n} rounds", "reinit_at": "level 1", "dense": "9 %", "mean_of": "2 %"}
        for n, name in enumerate("AB", 1)
    }
    assert deeper.together(told, 0.2, 3) == {
        "pruning": "20 %; A: 1 rounds; B: 2 rounds",
        "reinit_at": "3 a ticket; A: level 1; B: level 1",
        "dense": "A: 9 %; B: 9 %",
        "mean_of": "A: 2 %; B: 2 %",
        "first_dense": "A: 9 %",
        "first_mean_of": "A: 2 %",
        "draws": "3 reinitialisations",
    }
    rules = {"C-C8": claims.load()["C-C8"]}
    measured = {"global_minus_layer_pp": stats.summary([1.0, 3.0])}
    assert deeper.differences(rules, measured) == {"global_minus_layer_pp_told": "1.00 and 3.00 pp"}
    assert deeper.differences(rules, {}) == {"global_minus_layer_pp_told": "not measured"}


def test_leads_at_one_size_are_dots_and_at_several_lines():
    density, nan = np.array([1.0, 0.5, 0.25]), np.nan
    one, two = np.array([[nan, nan, 1.0], [nan, nan, 3.0]]), np.array([[nan, 1.0, 1.0], [nan, 3.0, 3.0]])
    figure, words = deeper.leads("Net", {"high": (density, one), "low": (density, one + 2)})
    assert "Means and both values; with 25.0 % of the weights, high: 2.0 pp; low: 4.0 pp." in words
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["high", "low"]
    assert figure.axes[0].get_xlim()[0] <= 0
    figure, _ = deeper.leads("Net", {"high": (density, two), "low": (density, two + 2)})
    assert figure.axes[0].get_xlabel() == "weights left (%)"
