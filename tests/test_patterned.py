"""Patterns of signs in kernels, as a chapter shows them."""

from types import SimpleNamespace

import numpy as np
import pytest
from ipywidgets.embed import dependency_state

from lottery import kernels
from lottery.book import patterned
from lottery.engine import settings

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
    patterned.show_kinds(chapter, beyond, alike, "Words.")
    [(header, [row], words)] = tables
    assert len(header) == len(row) and words == "Words."
    assert row[0] == "tickets" and row[1].startswith("2.0 [0.0, ") and row[2].startswith("0.60 [") and row[3] == "0.030"


def test_chance_is_a_half_for_tickets_themselves(chapter, tables):
    apart = {"tickets": np.array([[0.1, 0.2], [0.3, 0.2]]), "random mask": np.array([[0.2, 0.2], [0.4, 0.2]])}
    patterned.show_apart(chapter, apart, "21 %")
    [(_, rows, words)] = tables
    assert rows[0] == ["tickets", "0.200 (0.100 to 0.300)", "0.200 (0.200 to 0.200)", "0.50"]
    assert rows[1][3] == "0.75" and words.startswith("21 % left, 2 pairs")


def test_the_explorer_has_the_five_sparsest_levels():
    counts = {level: np.ones((2, 2, PATTERNS), int) for level in range(6)}
    left = [f"{share} %" for share in (90, 80, 70, 60, 50, 40)]
    with settings.made(draw=False).active():
        made = [patterned.explorer(counts, ["conv1", "conv2"], left, "Words.", (1, level)) for level in (0, 2)]
    state = str(dependency_state(made[0]))
    assert "90 %" not in state and all(share in state for share in left[1:]) and "Words." in state
    shown = [[control.options[control.index] for control in one.children[0].children] for one in made]
    assert shown == [["conv2", "40 %"], ["conv2", "70 %"]]


def test_every_null_is_counted():
    frequent = np.ones(PATTERNS, int)
    frequent[5] = 10_000
    words = patterned.by_null(frequent, 2)
    assert [part.split()[0] for part in words.split(", ")] == list(kernels.NULLS[1:])
    assert all(int(part.split()[1]) for part in words.split(", "))


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
