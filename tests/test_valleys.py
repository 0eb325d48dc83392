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
    told = valleys.in_words({"matching_step": 2000, "steps": 30_000, "path_half": 5})
    assert told == {"alphas": 11, "matching_step": "2,000", "matching_share": "6.67 %"}
