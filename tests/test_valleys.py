"""Barriers between networks, as chapters show them."""

from types import SimpleNamespace

import numpy as np
import pytest
from ipywidgets.embed import dependency_state

from lottery import landscape
from lottery.book import valleys
from lottery.engine import settings

NAMES = ["step 0", "step 80"]


@pytest.fixture(autouse=True)
def in_words_alone():
    """Pictures are told and not drawn."""
    with settings.made(draw=False).active():
        yield


def path(middle):
    """A record of a whole path whose test error is this in the middle and zero at its ends."""
    errors = np.array([0, middle / 2, middle, middle / 2, 0])
    return SimpleNamespace(
        arrays={"position": np.linspace(0, 1, 5)} | {f"{way}/test_error": errors for way in landscape.STATISTICS}
    )


def controls(explorer):
    """Name of each control → its options, the one shown first in front."""
    handles = explorer.children[0].children
    return {one.description: (one.options[one.index], one.options) for one in handles}


def test_the_headline_judges_the_third_level_on_up_to_the_matching_point():
    shown, barriers = [], np.zeros((3, 2, 5)) + np.array([0.1, 0.2, 0.3])[:, None, None]
    chapter = SimpleNamespace(figure=lambda *figure, **more: shown.append((*figure, more)))
    names = ["step 0", "step 80", "step 160"]
    excess = barriers / 100 + np.arange(5) / 100
    of = {way: barriers + 0.5 * i for i, way in enumerate(landscape.STATISTICS)}
    valleys.show_barriers(chapter, excess, of, names, 1, 0.0123)
    [(figure, more)] = shown
    assert more["headline"] and "ε = 1.23 points" in more["caption"]
    marks = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    grey = [len(line.get_xdata()) for line in marks if line.get_color() == "#b3b3b3"]
    assert grey == [6, 6, 10] and sum(len(line.get_xdata()) for line in marks) == excess.size
    means = [", ".join(f"{name} {10 * t + first}" for t, name in enumerate(names)) for first in (10, 60)]
    panels = [f"{way} statistics: {mean}" for way, mean in zip(of, means, strict=True)]
    assert "percentage points: " + "; ".join(panels) + "." in figure.get_label()
    assert max(marks[-1].get_xdata()) == pytest.approx(4.3)  # the last rewind point and level


def test_paths_between_levels_end_with_that_from_the_dense_network():
    successive = [[[path(0.1 * (t + 1) + 0.01 * level) for level in range(2)]] for t in range(2)]
    dense = [[[path(0.5), path(0.6 + 0.1 * t)]] for t in range(2)]
    explorer = valleys.between_levels(successive, dense, NAMES, ["100", "50", "25"], 1)
    found, state = controls(explorer), str(dependency_state(explorer))
    assert found["rewound to"] == ("step 0", tuple(NAMES))
    assert found["path"] == ("dense – 50 %", ("dense – 50 %", "50 % – 25 %", "dense – 25 %"))
    for highest in ("10.0", "11.0", "20.0", "21.0", "60.0", "70.0"):
        assert f"highest {highest} %" in state
    assert "highest 50.0 %" not in state


def test_paths_to_twins_are_of_whole_replicates_alone():
    short = SimpleNamespace(arrays={})  # without a path: it must not be read
    two = range(2)
    moved = [[[[path(0.1 + 0.2 * t + 0.04 * k + 0.02 * m), short] for m in two] for k in two] for t in two]
    explorer = valleys.to_twins(moved, NAMES, ("at random", "by a mask"), [0.5, 1.0], 1)
    assert controls(explorer)["length"] == ("1", ("0.5", "1"))
    state = str(dependency_state(explorer))
    for top in (10, 12, 14, 16, 30, 32, 34, 36):
        assert state.count(f"highest {top}.0 %") == 2  # both statistics
    assert "rewound to = step 80, moved = at random, length = 1. averaged: ends 0.0 and 0.0 %, highest 32.0 %" in state


def test_the_other_order_is_told_from_the_first_rewind_point():
    barriers = {
        "averaged": np.array([[[0.1, 0.3]], [[0.9, 0.9]]]),
        "re-estimated": np.array([[[0.02, 0.02]], [[1, 1]]]),
    }
    words = "In the variant in which every level sees the same batches, the barrier from step 0 is 20.0"
    assert valleys.other_order(barriers, 1, True).startswith(words + " pp averaged and 2.0 pp re-estimated")
    assert (
        valleys.other_order({}, 0, False)
        == "We did not run the variant in which every level sees batches in a new order."
    )


def test_the_matching_point_is_a_share_of_training():
    told = valleys.in_words({"matching_step": 2000, "steps": 30_000, "path_half": 5, "search": 2})
    assert told.pop("early_share") == "3.3 % of training"  # 1,000 of 30,000
    assert told == {"alphas": 11, "matching_step": "2,000", "matching_share": "6.67 %"}


def test_networks_halfway_are_shown_beside_the_two_ends():
    shown, ends = [], np.array([0.3, 0.35, 0.4, 0.35, 0.2])
    rows = {f"{way}/test_error": ends + 0.1 * i for i, way in enumerate(landscape.STATISTICS)}
    walked = SimpleNamespace(arrays=rows | {"position": np.linspace(0, 1, 5)})
    own = {"test_examples": 5000}
    chapter = SimpleNamespace(figure=lambda *figure, **more: shown.append((*figure, more)), parameters=own)
    valleys.show_transplants(chapter, [[walked, walked], [walked, walked]], [0.5, 0.25])
    [(figure, more)] = shown
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == 2}
    drawn = sorted(round(float(values[0]), 6) for values in lines.values())
    assert drawn == [50, 60, 70, 80] and "the first 5,000 test images" in more["caption"]


def test_twins_are_told_of_at_the_ticket_whose_start_is_moved():
    """Also where sparser tickets have twins, too."""
    tickets = {"averaged": np.array([[[0.1, 0.2, 0.3]], [[0.01, 0.02, 0.03]], [[9, 9, 9]]])}
    told = valleys.twins_in_words({way: np.array([[0.5], [0]]) for way in landscape.STATISTICS}, tickets, [2, 3, 4], 3)
    assert {name: float(words.split()[0]) for name, words in told.items()} == {
        "twins_0_first": 10,
        "twins_0_moved": 20,
        "twins_1_first": 1,
        "twins_1_moved": 2,
        "dense_zero": 50,
        "dense_zero_reestimated": 50,
    }


def test_displaced_starts_are_told_of_at_the_unit_and_by_their_highest_whole_path():
    apart = np.zeros((2, 2, 3, 3))
    apart[0, 1, 2], apart[1, 0, 0] = [0.111, 0.222, 0.999], [0.3, 0.1, 0.888]
    told = valleys.moved_in_words(apart, 2, 2)
    assert told == {"zero_mask": "11.1, 22.2, 99.9", "path_replicates": "2 replicates", "whole_highest": "30.0"}


def test_masks_found_without_rewinding_are_compared_with_tickets_of_as_many_weights():
    tickets = np.zeros((2, 2, 4)) + np.array([0.8, 0.9])[:, None, None]
    rows = {name: np.full((2, 2), value) for name, value in {"found": 0.7, "start": 0.2, "again": 0.85}.items()}
    told = valleys.accuracies_in_words(tickets, 1, rows)
    assert [told[f"{name}_accuracy"].split()[0] for name in rows] == ["70.0", "20.0", "85.0"]
    assert told["mask_lead"].startswith("5.00") and told["zero_lead"].startswith("−10.00")
    deeper = {name: np.full((2, 4), 0.5) for name in rows}  # than the tickets are
    assert not any(digit in valleys.accuracies_in_words(tickets, 1, deeper)["mask_lead"] for digit in "0123456789")


def test_stability_is_told_with_the_other_statistics_too():
    averaged = {"averaged": np.array([[0.5, 0.5], [0.05, 0.05], [0.01, 0.01]])}
    dense = averaged | {"re-estimated": np.array([[0.2, 0.2], [0.01, 0.01], [0, 0]])}
    tickets = {way: np.array([[[0.3], [0.0]], [[0.0], [0.0]]]) for way in landscape.STATISTICS}
    excess, error = np.zeros((2, 2, 1)), np.full(2, 0.05)
    told = valleys.reestimated_in_words([0, 5, 10], dense, [0, 2], tickets, excess, error, 100)
    assert told["dense_early_reestimated"].startswith("0.50 times") and told["stable_bound"] == "2.0"
    assert told["share_reestimated"] == "−3 and −5"  # 5 % against 2, and against 0
    assert told["parted_at"] == "0, 5 and 10" and told["rewound_to"] == "0 and 2"
