"""Explorers: the state that a published page keeps must be enough to work without a kernel."""

import re
from types import SimpleNamespace

import ipywidgets as widgets
import nbformat
import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state
from nbclient import NotebookClient

from lottery import masks, signs
from lottery.book import explorers
from lottery.engine.store import Store

AXES = [("mask", ["ticket", "random"]), ("level", [f"{i} %" for i in range(9)])]


def image(text):
    return f'<img alt="{text}" src="data:image/png;base64,">'


def grid():
    return {(a, b): image(f"{a} at {b}") for a in AXES[0][1] for b in AXES[1][1]}


def check_static(state):
    """The gates for widgets on a published page (field notes, B3.4)."""
    models = {key: (entry["model_name"], entry["state"]) for key, entry in state.items()}
    names = [name for name, _ in models.values()]
    assert not {"OutputModel", "PlayModel"} & set(names) and "LinkModel" in names
    for name, entry in models.values():
        if name == "LinkModel":
            for end in ("source", "target"):
                reference, attribute = entry[end]
                target = models[reference.removeprefix("IPY_MODEL_")][1]
                assert attribute in target or attribute == "index", (attribute, target)
        if name == "ButtonModel":
            assert "live-only" in entry["_dom_classes"]
        if name == "HTMLModel":
            assert all(re.search(r'alt="[^"]+"', tag) for tag in re.findall("<img[^>]*>", entry["value"]))
    return models


def test_frames_nest_one_stack_an_axis_and_show_the_headline_first():
    explorer = explorers.frames(grid(), AXES, caption="What is < seen", start=("random", "3 %"))
    models = check_static(dependency_state([explorer], drop_defaults=False))
    stacks = [state for name, state in models.values() if name == "StackModel"]
    assert sorted(len(stack["children"]) for stack in stacks) == [2, 9, 9]
    assert sorted(stack["selected_index"] for stack in stacks) == [1, 3, 3]
    assert sum(name == "LinkModel" for name, _ in models.values()) == 3
    bar, outer = explorer.children[:2]
    assert isinstance(bar.children[0], widgets.ToggleButtons) and isinstance(bar.children[1], widgets.SelectionSlider)
    assert [control.value for control in bar.children] == ["random", "3 %"]
    assert "random at 3 %" in outer.children[1].children[3].value
    assert [control.description for control in bar.children] == ["mask", "level"]
    assert any("What is &lt; seen" in child.value for child in explorer.children if isinstance(child, widgets.HTML))
    assert "static-only" in explorer.children[-1]._dom_classes


def test_one_axis_takes_bare_options():
    explorer = explorers.frames({"a": image("A"), "b": image("B")}, [("which", ["a", "b"])], start="b")
    assert explorer.children[1].selected_index == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop(("random", "4 %")), r"no frame for mask = random, level = 4 % \(1 missing\)"),
        (lambda f: f.update({("other", "4 %"): ""}), "no control reaches"),
        (lambda f: f.update({("random", "4 %"): "<img src='x'>"}), "level = 4 % has an image without alternative"),
        (lambda f: f.update({("random", "4 %"): '<img alt="" src="x">'}), "without alternative"),
    ],
)
def test_incomplete_frames_are_refused(change, message):
    frames = grid()
    change(frames)
    with pytest.raises(ValueError, match=message):
        explorers.frames(frames, AXES)


@pytest.mark.parametrize("controls", [[], [("a", [])]])
def test_bad_controls_are_refused(controls):
    with pytest.raises(ValueError):
        explorers.frames({"x": ""}, controls)
    with pytest.raises(ValueError, match="cannot start"):
        explorers.frames({"x": ""}, [("a", ["x"])], start="y")


def level(density, seed=0, replicates=3):
    rng = np.random.default_rng(seed)
    mask = rng.random((300, 784)) < density
    weights = {"fc1": rng.normal(0, 0.1, int(235200 * density)), "fc2": rng.normal(0, 0.1, int(30000 * density))}
    return {
        "density": density,
        "steps": np.arange(0, 50001, 100),
        "image_shape": (28, 28),
        "first_layer_mask": mask,
        "test_accuracy": rng.normal(0.975, 0.002, (replicates, 501)),
        "initial": weights,
        "final": {name: 1.5 * values for name, values in weights.items()},
    }


def test_the_ticket_explorer_has_one_small_frame_a_level():
    explorer = explorers.ticket_explorer([level(1.0), level(0.2)], start=1)
    check_static(dependency_state([explorer], drop_defaults=False))
    slider, stack = explorer.children[0].children[0], explorer.children[1]
    assert list(slider.options) == ["100 %", "20.0 %"] and slider.value == "20.0 %"
    assert len(stack.children) == 2 and all(len(frame.value) <= 30_000 for frame in stack.children)
    assert len({frame.value for frame in stack.children}) == 2
    assert "20.0 % of the weights left" in stack.children[1].value


def test_too_many_levels_are_refused():
    with pytest.raises(ValueError, match="1 to 25"):
        explorers.ticket_explorer([level(1.0)] * 26)


def test_what_is_written_alike_is_shown_once():
    explorer = explorers.ticket_explorer([level(1.0), level(0.01), level(0.0099)], start=2)
    slider, stack = explorer.children[0].children[0], explorer.children[1]
    assert list(slider.options) == ["100 %", "1.0 %"] and slider.value == "1.0 %" and len(stack.children) == 2
    explorer = explorers.frames({"a": image("A"), "b": image("B")}, [("which", ["a", "b", "a"])])
    assert len(explorer.children[1].children) == 2


def test_live_runs_with_the_values_of_its_controls_and_says_that_it_runs():
    seen = []

    def train(density, seed):
        seen.append((density, seed, press.disabled, press.description))
        return "<p>done</p>"

    density, seed = widgets.FloatSlider(0.2), widgets.IntSlider(3)
    box = explorers.live(train, "Train", density=density, seed=seed)
    press, result = box.children[-2:]
    press.click()
    assert seen == [(0.2, 3, True, "Running …")]
    assert (press.disabled, press.description, result.value) == (False, "Train", "<p>done</p>")
    assert all("live-only" in widget._dom_classes for widget in (box, *box.children))


@pytest.mark.parametrize("callback", [lambda: 1 / 0, lambda: None])
def test_live_shows_an_error_as_a_message(callback):
    box = explorers.live(callback)
    press, result = box.children
    press.click()
    assert "That did not work" in result.value and "Error" in result.value and not press.disabled


NOTEBOOK = """
import ipywidgets as widgets
from IPython.display import display
from lottery.book import explorers
image = '<img alt="level {}" src="data:image/png;base64,">'
display(explorers.frames({str(i): image.format(i) for i in range(9)}, [("level", [str(i) for i in range(9)])]))
display(explorers.live(lambda seed: "", seed=widgets.IntSlider()))
"""


def test_an_executed_notebook_keeps_what_the_page_needs():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(NOTEBOOK)])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    state = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    models = check_static(state)
    assert [len(s["children"]) for name, s in models.values() if name == "StackModel"] == [9]
    views = [o.data.get("application/vnd.jupyter.widget-view+json") for o in notebook.cells[0].outputs if "data" in o]
    assert [view["model_id"] in state for view in views] == [True, True]


def record(density=1.0, seed=0):
    rng, steps = np.random.default_rng(seed), np.arange(0, 300, 100)
    histories = {f"history/{name}": rng.uniform(0.5, 0.9, 3) for name in ("test_accuracy", "validation_loss")}
    weights = {"histogram/fc1.weight": np.array([[0, 3, 1], [2, 0, 2]]), "reach/fc1.weight": np.array(1.5)}
    return SimpleNamespace(values={"density": density}, arrays={"history/step": steps, **histories, **weights})


def test_tickets_of_records():
    mask = masks.to_record({"fc1.weight": torch.tensor([[True, False, True, True]])})
    cut = SimpleNamespace(values=mask[0], arrays=mask[1])
    chains = [[record(1.0, r), record(0.75, r + 5)] for r in range(2)]
    dense, ticket = explorers.ticket_levels(chains, [cut])
    assert (dense["density"], ticket["density"], ticket["image_shape"]) == (1.0, 0.75, (2, 2))
    assert dense["first_layer_mask"].all() and ticket["first_layer_mask"].sum() == 3
    assert ticket["test_accuracy"].shape == (2, 3)
    np.testing.assert_array_equal(ticket["test_accuracy"][1], chains[1][1].arrays["history/test_accuracy"])


def test_first_layers_of_masks_that_are_compared():
    values, arrays = masks.to_record({"fc1.weight": torch.eye(9, dtype=torch.bool)})
    record = SimpleNamespace(values=values, arrays=arrays)
    found = {
        share: dict.fromkeys(("constants", "normal"), (record, "found on A; 87 % right")) for share in ("10 %", "50 %")
    }
    explorer = explorers.first_layers(found, "weights kept", "Masks.", ("50 %", "normal"))
    state = dependency_state([explorer])
    check_static(state)
    shown = [one["state"]["value"] for one in state.values() if one["model_name"] == "HTMLModel"]
    assert sum("% right" in text and "<img" in text for text in shown) == 4
    assert any("weights kept 50 %, a pixel keeps: constants 1.00, normal 1.00." in text for text in shown)


def test_networks_are_matched_before_their_signs_are_shown(tmp_path, monkeypatch):
    """The same network with its units in another order agrees everywhere, and another one does not."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"fc1": (6, 8), "output": (4, 6)}
    a, other = ({n: torch.randint(0, 2, of, generator=draw) * 2 - 1 for n, of in shapes.items()} for _ in range(2))
    networks = {"a": a, "turned": signs.rearranged(a, {"fc1": np.array([3, 1, 0, 5, 4, 2])}), "other": other}
    monkeypatch.setattr(signs, "signs_of", lambda _world, run: networks[run])
    pairs = {kind: [SimpleNamespace(a="a", b=kind)] for kind in ("turned", "other")} | {"none": []}
    box = explorers.matched(pairs, Store(tmp_path), "Signs.")
    state = dependency_state([box])
    check_static(state)
    shown = [text for one in state.values() if "<img" in (text := str(one["state"].get("value", "")))]
    assert len(shown) == 2 and "share 24 connections, 100 % of them" in shown[0] and " 100 %" not in shown[1]


def test_learning_curves_of_what_is_compared():
    options = {"21 %": {"ticket": [record(), record(seed=1)]}, "4 %": {"ticket": [record(seed=2)]}}
    box = explorers.learning_curves(options, "weights left", "All of them.", "4 %")
    state = dependency_state([box])
    check_static(state)
    shown = [one["state"]["value"] for one in state.values() if one["model_name"] == "HTMLModel"]
    last = options["4 %"]["ticket"][0].arrays["history/test_accuracy"][-1]
    assert any(f"weights left 4 %; at the end ticket {last:.4f}" in text for text in shown)


def test_connections_at_the_border_are_compared_with_those_of_all_pixels():
    kept = np.zeros((2, 64), dtype=bool)
    kept[:, :8] = True  # the first row of 8 x 8 pixels, 8 of the 28 at the border
    assert explorers.border(kept) == 16 / 28 / (16 / 64)
    assert explorers.border(np.ones((2, 3 * 14 * 14), dtype=bool)) == 1


def test_the_first_layer_of_a_network_of_colour_images_has_a_form():
    assert [explorers.form(inputs) for inputs in (64, 784, 3072)] == [(8, 8), (28, 28), (3, 32, 32)]
