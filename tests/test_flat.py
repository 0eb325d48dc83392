"""How flat the loss is along pruning, as a chapter shows it."""

from types import SimpleNamespace

import numpy as np
from ipywidgets.embed import dependency_state

from lottery.book import flat
from lottery.engine import settings


def test_spectra_have_the_shares_of_their_own_level():
    arrays = {"nodes": np.geomspace(1e-4, 10, 30), "weights": np.full(30, 1 / 30), "top": np.array([10.0])}
    rows = [[SimpleNamespace(arrays=arrays)] * 2] * 2
    with settings.made(draw=False).active():
        explorer = flat.spectra(rows, {"exact law": np.array([0.31, 0.62])}, ["100", "26.2"], 1)
    [control] = explorer.children[0].children
    assert control.options == ("100 %", "26.2 %") and control.index == 1
    state = str(dependency_state(explorer))
    assert "exact law 31" in state and "exact law 62" in state


def test_a_parabola_rises_as_far_as_the_loss_does():
    losses = np.array([1.0, 1.5, 3.0])
    paths = {"random": [[None, SimpleNamespace(arrays={"averaged/train_loss": losses})]] * 2}
    curved, length = {"random": np.array([[0, 4.0], [0, 4.0]])}, {"random": np.array([[0, 1.0], [0, 1.0]])}
    assert flat.along(paths, curved, length, 1) == {"rise_random": "2", "parabola_random": "2"}
