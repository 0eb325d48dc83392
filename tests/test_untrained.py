"""Networks that were never trained, as a chapter shows them."""

from types import SimpleNamespace

import numpy as np

from lottery.book import untrained

SHARES = [0.1, 0.5, 0.9]
ACCURACY = {
    "constants": np.array([[0.6, 0.9, 0.7], [0.6, 0.8, 0.7]]),
    "normal": np.array([[np.nan, 0.5, np.nan], [np.nan, 0.6, np.nan]]),
}


def record(accuracy, validation=0.0):
    arrays = {"history/test_accuracy": np.array([accuracy]), "history/validation_accuracy": np.array([validation])}
    return SimpleNamespace(values={"density": 0.8, "early_stop_test_accuracy": accuracy}, arrays=arrays)


def test_all_kinds_are_told_and_those_of_more_than_one_share_drawn(chapter):
    untrained.show(chapter, ACCURACY, SHARES, {"trained ticket, 21.1 %": 0.98})
    [(figure, alt, words, more)] = chapter.figures
    assert alt.endswith("With half of them: constants 85.0 %, normal 55.0 %; trained ticket, 21.1 %: 98.0 %.")
    assert "Mean of 2 replicates" in words and more == {"headline": True}
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert "constants" in labels and "normal" not in labels and "trained ticket, 21.1 %" in labels


def test_the_caption_explains_what_is_drawn(chapter):
    untrained.show(chapter, ACCURACY, SHARES, {"trained ticket, 21.1 %": 0.98})
    untrained.show(chapter, ACCURACY | {"normal": ACCURACY["constants"]}, SHARES, {"a ticket": 0.98, "Zhou": 0.95})
    one, both = (words for _, _, words, _ in chapter.figures)
    assert "learned (constants)," in one and "Zhou" not in one
    assert "learned (constants; normal weights)," in both and "second dashed line" in both
    assert len(chapter.figures[0][0].axes[0].get_xticks()) == 3


def test_the_best_share_is_picked_by_validation():
    row = [record(0.6, 0.8), record(0.9, 0.5), record(0.7, 0.7)]
    assert untrained.best([row, row], ["10 %", "50 %", "90 %"]) == "60.00 % (all the same) with 10 %"


def test_what_was_published_is_of_mnist():
    assert untrained.lines(0.211, np.array([0.9, 0.98]), "digits") == {"trained ticket, 21.1 %": 0.94}
    assert list(untrained.lines(0.211, np.array([0.9]), "mnist"))[1:] == ["Zhou et al.: 95.3 %"]


def test_what_claims_rest_on_is_offered():
    offered = {}
    page = SimpleNamespace(offer_csv=lambda name, table: offered.update({name: table}))
    untrained.offer_conv(page, {}, [], {})
    assert not offered
    untrained.offer_conv(page, ACCURACY, SHARES, {"narrow": np.array([0.2, 0.3])})
    table = offered["untrained_networks.csv"]
    assert len(table) == 6 + 2 + 2  # normal weights at one share
    assert table.iloc[-1].to_list() == ["narrow", "constants", 1, 0.5, 0.3]

    untrained.offer_tickets(page, [[record(0.4, 0.2), record(0.6, 0.3)]], [[record(0.9), record(0.95)]])
    table = offered["untrained_tickets.csv"]
    assert table.iloc[1].to_list() == [0, 1, 0.8, 0.6, 0.3, 0.95]


def test_one_share_alone_is_drawn(chapter):
    half = {name: rows[:, 1:2] for name, rows in ACCURACY.items()}
    untrained.show(chapter, half, SHARES[1:2], {"trained ticket, 21.1 %": 0.98})
    assert "normal" in [text.get_text() for text in chapter.figures[0][0].axes[0].texts]


def test_a_picture_says_share_data_and_accuracy(monkeypatch):
    monkeypatch.setattr(untrained.explorers, "first_layers", lambda shown, *_: shown)
    shown = untrained.pictures({"constants": ["a", "b", "c"]}, ACCURACY, ["10 %", "50 %", "90 %"], "MNIST")
    assert shown["50 %"]["constants"] == ("b", "constants, 50 % kept;\nuntrained, on MNIST 90.0 % right")
    assert [one["constants"][0] for one in shown.values()] == ["a", "b", "c"]


def test_a_table_has_a_column_for_every_share(chapter):
    untrained.show_kinds(chapter, ACCURACY, [10, 50, 90], "Words.")
    [(header, rows, caption)] = chapter.tables
    assert header == ["mask, weights", "10 %", "50 %", "90 %"] and caption == "Words."
    assert [row[0] for row in rows] == ["constants", "normal"]
    assert rows[0][1] == "60.0 (all the same)" and rows[0][2].startswith("85.0 [") and rows[0][2].endswith(", 100.0]")
    assert rows[1][1] == rows[1][3] == "not run"
