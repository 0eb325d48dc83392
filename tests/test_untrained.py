"""Networks that were never trained, as a chapter shows them."""

import numpy as np

from lottery.book import untrained

SHARES = [0.1, 0.5, 0.9]
ACCURACY = {
    "constants": np.array([[0.6, 0.9, 0.7], [0.6, 0.8, 0.7]]),
    "normal": np.array([[np.nan, 0.5, np.nan], [np.nan, 0.6, np.nan]]),
}


def test_all_kinds_are_told_and_those_of_more_than_one_share_drawn(chapter):
    untrained.show(chapter, ACCURACY, SHARES, {"trained ticket": 0.98})
    [(figure, alt, words, more)] = chapter.figures
    assert alt.endswith("With half of them: constants 85.0 %, normal 55.0 %; trained ticket 98.0 %.")
    assert "Mean of 2 replicates" in words and more == {"headline": True}
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert "constants" in labels and "normal" not in labels and "trained ticket" in labels


def test_one_share_alone_is_drawn(chapter):
    half = {name: rows[:, 1:2] for name, rows in ACCURACY.items()}
    untrained.show(chapter, half, SHARES[1:2], {"trained ticket": 0.98})
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
