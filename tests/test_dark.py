"""Weights on inputs that are always zero, as a chapter counts them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import LENET

from lottery import controls, masks, recipes
from lottery.book import dark
from lottery.engine.store import Record


def unlit(*bits):
    return Record("", {}, {"inputs": len(bits), "unlit": sum(bits)}, {"unlit": np.array(bits, dtype=np.uint8)}, {})


def mask(*rows):
    kept = {
        "fc1.weight": torch.tensor(rows, dtype=torch.bool),
        "fc2.weight": torch.ones(1, len(rows), dtype=torch.bool),
    }
    return Record("", {}, *masks.to_record(kept), {})


def test_the_share_is_that_of_the_first_layers_weights():
    first, second = mask([1, 1, 0, 0], [1, 0, 0, 1]), mask([0, 0, 1, 1], [0, 0, 0, 0])
    np.testing.assert_allclose(
        dark.shares(unlit(1, 0, 0, 1), [[first, second], [second, first]]), [[3 / 4, 1 / 2], [1 / 2, 3 / 4]]
    )


def test_what_was_counted_is_told_by_size_and_what_was_not_is_said():
    chain = [SimpleNamespace(mask=SimpleNamespace(key=key)) for key in ("dense", "a", "b")]
    used = {"a": mask([1, 1, 0, 0], [1, 0, 0, 1]), "b": mask([0, 0, 1, 1], [0, 0, 0, 0])}
    told = dark.told([unlit(1, 0, 0, 0), unlit(1, 0, 0, 1)], [chain], used, {"50 %": 1, "25 %": 2})
    assert (told["unlit"], told["unlit_random"], told["seldom_random"]) == ("1 of 4", "25.0 %", "50.0 %")
    assert (told["unlit_ticket"], told["seldom_ticket"]) == ("50.00 %", "75.00 %")
    assert set(dark.told([], [chain], {}, {"50 %": 1}).values()) == {"not counted"}


def test_tickets_of_all_sizes_stand_in_a_table_above_a_random_mask():
    chain = [SimpleNamespace(mask=SimpleNamespace(key=key)) for key in ("dense", "a", "b")]
    tables = []
    used = {"a": mask([1, 1, 0, 0], [1, 0, 0, 1]), "b": mask([0, 0, 1, 1], [0, 0, 0, 0])}
    chapter = SimpleNamespace(used=used, show_table=lambda *table: tables.append(table))
    both, sizes = [unlit(1, 0, 0, 0), unlit(1, 0, 0, 1)], {"50 %": 1, "25 %": 2}
    assert dark.show(chapter, both, [chain], sizes) == dark.told(both, [chain], used, sizes)
    [(header, rows, _)] = tables
    assert header[1:] == ["never lit (1 of 4)", "seldom lit (2 of 4)"]
    assert rows == [
        ["ticket, 50 %", "50.00 %", "75.00 %"],
        ["ticket, 25 %", "0.00 %", "50.00 %"],
        ["random mask, any size", "25.0 %", "50.0 %"],
    ]
    assert set(dark.show(chapter, [], [chain], sizes).values()) == {"not counted"} and len(tables) == 1


def test_random_masks_on_live_pixels_stand_beside_their_tickets():
    chain = [recipes.Run(LENET, recipes.Initial(0), recipes.Dense(), (0, level)) for level in range(3)]
    [[dense, first, second]] = dark.random_masks(chain, 4, [2])
    assert dense is first is None
    mask = controls.LitPreserving(recipes.Dense(), 4, 1)
    assert second == replace(chain[2], weights=recipes.Initial(4, 1), mask=mask)


def test_what_live_pixels_are_worth_is_told_by_size():
    rows = {"reinitialised": 0.97, "random mask": 0.95, "random, live": 0.96}
    accuracy = {kind: np.array([[value] * 3, [value + 0.001] * 3]) for kind, value in rows.items()}
    told = dark.of_live(accuracy, [1, 2], ["100", "50.0", "25.0"])
    assert told["live_at"] == "50.0, 25.0 % left"
    assert told["beyond_live"].startswith("50.0 %: 1.00 pp") and "25.0 %: 1.00 pp" in told["live_gain"]
    assert set(dark.of_live(accuracy, [], []).values()) == {"not run"} and set(told) == set(dark.of_live({}, [], []))


@pytest.mark.parametrize("seldom", [0.0, 0.4])
def test_inputs_that_seldom_are_lit_count_where_that_is_asked(seldom):
    training = recipes.training(data="digits", model="lenet-4", steps=1, batch=1, optimiser="adam", lr=0.1)
    images = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    world = SimpleNamespace(dataset=lambda of: SimpleNamespace(train=(images, None)))
    values, arrays = controls.Unlit(training, seldom).compute(world)
    assert arrays["unlit"].tolist() == [1, int(seldom > 1 / 3), 0] and values["unlit"] == arrays["unlit"].sum()


def test_where_controls_may_not_have_finished_is_told_by_size():
    kinds = ("ticket", "reinitialised", "random mask", "random, live", "one-shot")
    accuracy = {kind: np.full((3, 3), 0.9 - 0.01 * i) for i, kind in enumerate(kinds)}
    stop = {kind: np.array([[100.0, 200, 300 + i]] * 3) for i, kind in enumerate(kinds)}
    told = dark.unfinished(accuracy, stop, ["100", "20", "4"], {20: 1, 4: 2}, [2])
    assert (told["random_stop_20"], told["random_stop_4"], told["live_stop_4"]) == ("200", "302", "303")
    assert told["beyond_live_4"].startswith("2.00 pp")
    assert told["once_lead"].startswith("4 %: 4.00 pp") and told["once_lead"].endswith("(one-shot tickets at step 304)")
