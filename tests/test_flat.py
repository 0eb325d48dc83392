"""How flat the loss is along pruning, as a chapter shows it."""

from types import SimpleNamespace

import numpy as np
import pytest
from ipywidgets.embed import dependency_state

from lottery.book import flat
from lottery.engine import settings


def spectrum(top):
    """A record of a spectrum with this largest eigenvalue."""
    nodes, weights = np.geomspace(1e-4, top, 30), np.full(30, 1 / 30)
    return SimpleNamespace(arrays={"nodes": nodes, "weights": weights, "top": np.array([top, top / 2])})


def test_spectra_have_the_shares_of_their_own_level():
    rows = [[spectrum(10.0), spectrum(20.0)], [spectrum(40.0), spectrum(30.0)]]
    with settings.made(draw=False).active():
        explorer = flat.spectra(rows, {"exact law": np.array([0.31, 0.62])}, ["100", "26.2"], 1)
    [control] = explorer.children[0].children
    assert control.options == ("100 %", "26.2 %") and control.index == 1
    state = str(dependency_state(explorer))
    assert "sharpest, 10; exact law 31" in state and "sharpest, 20; exact law 62" in state


def test_spectra_are_on_the_axis_of_the_largest_of_all(monkeypatch):
    monkeypatch.setattr(flat.explorers, "drawn", lambda frames, *_, **__: frames)
    frames = flat.spectra([[spectrum(10.0), spectrum(20.0)], [spectrum(40.0), spectrum(30.0)]], {}, ["100", "26.2"], 1)
    assert [figure.axes[0].get_ylim() for figure in frames.values()] == [pytest.approx((4e-5, 120))] * 2


def test_a_parabola_rises_as_far_as_the_loss_does():
    def path(rise):
        return SimpleNamespace(arrays={"averaged/train_loss": np.array([1.0, 1.5, 1 + rise])})

    paths = {"random": [[path(9), path(11), path(8)], [path(9), path(15), path(8)]]}
    curved, length = {"random": np.array([[7, 1, 5], [7, 3, 5]])}, {"random": np.array([[7, 2, 6], [7, 4, 6]])}
    assert flat.along(paths, curved, length, 1) == {"rise_random": "13", "parabola_random": "13"}


def test_how_far_pruning_at_once_falls_behind_is_told_by_size():
    density, row = np.array([1, 0.5, 0.2, 0.1]), np.zeros((2, 1))
    rounds, validated = row + [0.98, 0.98, 0.98, 0.98], row + [0.98, 0.98, 0.98, 0.97]
    once = row + [np.nan, 0.98, 0.975, 0.96]
    told = flat.at_once(density, rounds, once, validated, 0.11)
    assert told["once_left"] == "20.0 %" and told["once_behind"].startswith("0.50 pp")  # 10 % does not match
    assert told["once_denser"].startswith("50.0 %: 0.00 pp") and "20" not in told["once_denser"]
    assert told["once_near_left"] == "10.0 %" and told["once_near_excess"].startswith("4.00 ε")
    assert set(flat.at_once(density, rounds, once * np.nan, validated, 0.11).values()) == {"not run"}
