"""Tickets that were moved between two data sets, as a chapter shows them."""

from types import SimpleNamespace

import numpy as np
import torch
from ipywidgets.embed import dependency_state

from lottery import masks
from lottery.book import leads, moved

NAMES, LEFT = ["MNIST", "clothes"], ["51.0 %", "21.0 %"]
NOISE = np.array([-0.001, 0.0, 0.001])


def accuracy(**means):
    """Kind → [3, 2] accuracies with these means at the two levels."""
    found = {"native": (0.96, 0.95), "moved": (0.96, 0.93), "random": (0.92, 0.91), "degrees": (0.92, 0.92)}
    found |= {"mask alone": (0.91, 0.92), "random, fresh": (0.90, 0.90)} | means
    return {kind: np.array(pair) + (NOISE if kind != "random" else 0 * NOISE)[:, None] for kind, pair in found.items()}


def records(found):
    """The same as records: kind → [3][2]."""

    def record(share):
        values = {"early_stop_test_accuracy": share, "early_stop_step": 100 * share, "train_accuracy_end": share}
        arrays = {"history/step": np.arange(5), "history/test_accuracy": np.linspace(0.1, share, 5)}
        return SimpleNamespace(values=values, arrays=arrays)

    return {kind: [[record(share) for share in row] for row in rows] for kind, rows in found.items()}


def mask(*kept):
    """The record of a mask of [2, 4] first weights."""
    values, arrays = masks.to_record({"fc1.weight": torch.tensor(kept, dtype=torch.bool)})
    return SimpleNamespace(values=values, arrays=arrays)


def test_a_share_is_of_one_level_and_has_no_interval_where_there_may_be_no_lead():
    found = accuracy()
    assert moved.recovered(found, 0).startswith("100 % ") and moved.recovered(found, 1).startswith("50 % ")
    assert moved.recovered(found, 1, "degrees").startswith("25 % ")
    assert moved.recovered(found, 1, "degrees", "moved").startswith("50 % ")
    unsure = found | {"moved": found["random"] + 0.001 + 4 * NOISE[:, None]}
    assert moved.recovered(unsure, 1, "degrees", "moved") == "no clear lead"
    assert moved.recovered(found | {"native": found["random"] - 0.01}, 0) == "a deficit"
    assert moved.recovered(found | {"native": found["random"] - 0.001 + 4 * NOISE[:, None]}, 0) == "no clear lead"


def test_a_share_of_one_replicate_is_told_without_an_interval():
    rows = {"random": np.array([[0.90]]), "native": np.array([[0.96]]), "moved": np.array([[0.93]])}
    assert moved.recovered(rows, 0) == "50 %, n = 1"


def test_a_share_that_may_be_nearly_anything_is_not_told():
    """Its interval spans a thousand points, though replicates lie within five hundred."""
    found = {"native": [0.9034, 0.9099, 0.9032, 0.9018, 0.9088], "moved": [0.9062, 0.9034, 0.9092, 0.9085, 0.905]}
    rows = {kind: np.array(values)[:, None] for kind, values in (found | {"random": [0.9] * 5}).items()}
    assert moved.recovered(rows, 0) == "lead too small"


def test_parts_are_compared_at_every_size_replicate_by_replicate(chapter):
    layers = {"upper layers": (0.95, 0.94), "first layer": (0.93, 0.92)}
    there, back = accuracy(**layers), accuracy(**layers, degrees=(0.92, 0.90))
    told = moved.differences(there, back, [0.51, 0.21], LEFT)
    assert told["beyond_there"] == "51.0 %: 4.00 pp (all the same); 21.0 %: 1.00 pp (all the same)"
    assert told["counts_back"].startswith("51.0 %: 0.00 pp [") and "; 21.0 %: −1.00 pp [" in told["counts_back"]
    assert told["layers_back"].count("2.00 pp") == 2 and told["beyond_mean"].startswith("1.00 pp")  # of 21.0 % alone
    assert len(told) == 2 * 4 + 1
    moved.show_parts(chapter, {"there": there, "back": back}, LEFT)
    [(header, rows, _)] = chapter.tables
    assert len(rows) == 4 and {len(row) for row in rows} == {len(header)}
    assert rows[3][:2] == ["back", "21.0 %"]
    for column, name in enumerate(("beyond_back", "counts_back", "layers_back", "alone_back"), 2):
        assert told[name].endswith(f"21.0 %: {rows[3][column]}")


def test_what_is_glued_is_of_the_level_judged():
    there, back = records(accuracy()), records(accuracy(moved=(0.9, 0.9)))
    told = moved.told(there, back, 1)
    assert told["shared_there"] == moved.recovered(accuracy(), 1) and told["shared_back"].startswith("−25 % [")
    assert told["lead_there"].startswith("2.00 pp [") and told["lead_back"].startswith("−1.00 pp [")
    assert told["degrees_there"] == moved.recovered(accuracy(), 1, "degrees")
    assert told["native_there_stop"] == "95" and told["random_back_fitted"] == "91.00 %"
    assert moved.told(there, back, 0)["native_there_stop"] == "96"


def test_shares_are_told_at_every_size():
    upper = {"upper layers": (0.95, 0.92)}
    there, back = accuracy(**upper), accuracy(moved=(0.9, 0.9), **upper)
    found = moved.at_sizes(there, back, LEFT)
    assert set(found) == {"whole_there", "whole_back"}
    for name, of in (("whole_there", there), ("whole_back", back)):
        shares = [moved.recovered(of, i).removesuffix(", n = 3") for i in range(2)]
        assert found[name] == f"51.0 %: {shares[0]}; 21.0 %: {shares[1]}"
    assert found["whole_back"].startswith("51.0 %: −")


def test_a_table_has_a_row_for_every_level_and_kind():
    rows = moved.rows("there", accuracy(), LEFT)
    assert len(rows) == 2 * 6 and [row[1] for row in rows[::6]] == LEFT
    assert rows[7][:3] == ["there", "21.0 %", "moved"] and rows[7][3].startswith("93.00 %")
    assert rows[7][4].startswith("50 % ") and rows[8][4] == rows[11][4] == ""  # random masks lead nothing


def test_the_matrix_has_native_tickets_on_its_diagonal(chapter):
    there, back = (leads.leads(found) for found in (accuracy(), accuracy(native=(0.99, 0.98), moved=(0.9, 0.9))))
    moved.show_matrix(chapter, NAMES, there, back, LEFT)
    [(figure, more)] = chapter.figures
    assert more["headline"] and "3 replicates" in more["caption"]
    said = figure.get_label()
    for words in ("MNIST → MNIST: 7.00", "MNIST → clothes: 2.00", "clothes → MNIST: −1.00", "clothes → clothes: 4.00"):
        assert f"21.0 % of the weights left, {words} [" in said
    assert len(figure.axes) == 2


def test_what_degrees_explain_is_told_for_each_way_and_level(chapter):
    moved.show_degrees(chapter, {"there": accuracy(), "back": accuracy(moved=(0.9, 0.9))}, LEFT)
    [(header, rows, _)] = chapter.tables
    assert [row[:2] for row in rows] == [[way, left] for way in ("there", "back") for left in LEFT]
    assert [row[2].partition(" [")[0] for row in rows] == ["4.00 pp", "2.00 pp", "−2.00 pp", "−1.00 pp"]
    assert rows[0][3].startswith("0 %") and rows[0][4].startswith("0 %")
    assert rows[1][3].startswith("25 %") and rows[1][4].startswith("50 %")
    assert rows[3][4] == "a deficit" and {len(row) for row in rows} == {len(header)}


def test_weights_from_inputs_that_are_always_zero_are_counted(chapter):
    def unlit(*dark):
        return SimpleNamespace(values={"inputs": 4, "unlit": sum(dark)}, arrays={"unlit": np.array(dark, np.uint8)})

    lost, kept, most = mask([0, 0, 1, 1], [0, 0, 1, 0]), mask([1, 1, 0, 0], [1, 0, 1, 0]), mask([1] * 4, [1, 1, 1, 0])
    found = {"MNIST": [[kept, lost], [kept, lost]], "clothes": [[most, kept], [most, kept]]}
    dark = {"MNIST": unlit(1, 1, 0, 0), "clothes": unlit(0, 0, 0, 0)}
    moved.show_unlit(chapter, dark, found, LEFT)
    [(header, rows, _)] = chapter.tables
    assert [row[:4] for row in rows] == [
        ["MNIST", "2 of 4", "51.0 %", "68.8 %"],
        ["MNIST", "2 of 4", "21.0 %", "43.8 %"],
        ["clothes", "none", "–", "–"],
    ]
    kept = [[cell.partition(" (")[0] for cell in row[4:]] for row in rows[:2]]
    assert kept == [["75.0 %", "100.0 %"], ["0.0 %", "75.0 %"]]
    assert rows[2][4:] == ["–", "–"] and {len(row) for row in rows} == {len(header)}
    assert moved.counted(dark) == "MNIST: 2 of 4; clothes: 0 of 4" and moved.counted({}) == "not counted"
    told = moved.spent(dark, found, LEFT)
    assert told["unlit_random"] == "50.0 %"
    assert told["unlit_native"] == "51.0 %: 75.0 % (all the same); 21.0 %: 0.0 % (all the same)"
    assert told["unlit_moved"].startswith("51.0 %: 57.1 %") and "21.0 %: 75.0 %" in told["unlit_moved"]
    assert set(moved.spent({"clothes": dark["clothes"]}, found, LEFT).values()) == {"none"}
    assert (
        set(moved.spent({}, found, LEFT).values()) == {"not counted"}
        and moved.spent({}, found, LEFT).keys() == told.keys()
    )
    explorer = texts(moved.pictures(found, accuracy(), LEFT, 1))
    assert sum("% right" in text for text in explorer) == 2 * 2
    assert any("Found on MNIST, 21.0 % left; after training on clothes 92.9 % right" in text for text in explorer)


def test_the_pictures_are_those_of_the_masks_that_they_name(monkeypatch):
    found = {name: [[mask([i, n, 0, 0], [1, 1, 1, 1]) for n in range(2)]] for i, name in enumerate(NAMES)}
    monkeypatch.setattr(moved.explorers, "first_layers", lambda shown, *_: shown)
    shown = moved.pictures(found, accuracy(), LEFT, 1)
    for n, left in enumerate(LEFT):
        assert shown[left]["moved"][0] is found["MNIST"][0][n] and shown[left]["native"][0] is found["clothes"][0][n]


def test_the_explorer_has_a_frame_for_every_source_target_and_level():
    ways = accuracy(), accuracy(native=(0.99, 0.98))
    ahead = [leads.leads(found, {"mask alone": "random, fresh"}) for found in ways]
    shown = texts(moved.explorer(NAMES, [records(found) for found in ways], ahead, LEFT, 1))
    shown = [text for text in shown if "<img" in text]
    assert len(shown) == 2 * 2 * 2 * 2
    over = "21.0 %, lead. Lead in test accuracy over a random mask in points: native"
    for words in (
        f"Found on MNIST, trained on MNIST, {over} 7.00.",
        f"Found on MNIST, trained on clothes, {over} 4.00, m",
    ):
        assert sum(words in text for text in shown) == 1


def test_frames_are_of_the_way_and_level_that_they_name(monkeypatch):
    ways = accuracy(), accuracy(native=(0.99, 0.98), moved=(0.89, 0.88), random=(0.82, 0.81))
    monkeypatch.setattr(moved.leads, "drawn", lambda now: now)
    monkeypatch.setattr(moved.figures, "training_curves", lambda curves: curves)
    monkeypatch.setattr(moved.figures, "html_image", lambda figure, *_: figure)
    monkeypatch.setattr(moved.explorers, "frames", lambda frames, *_: frames)
    shown = moved.explorer(NAMES, [records(found) for found in ways], [leads.leads(found) for found in ways], LEFT, 1)
    kinds = {False: ["native", "moved", "random"], True: ["native", "random"]}
    for (source, target, left, view), found in shown.items():
        of, i = ways[NAMES.index(source if source != target else NAMES[1 - NAMES.index(target)])], LEFT.index(left)
        if view == "training":
            assert list(found) == kinds[source == target]
            assert all((values[:, -1] == of[kind][:, i]).all() for kind, (_, values) in found.items())
        else:
            assert all((values == leads.leads(of)[kind][:, i]).all() for kind, values in found.items())


def texts(explorer):
    state = dependency_state([explorer])
    return [one["state"]["value"] for one in state.values() if one["model_name"] == "HTMLModel"]


def test_conv_2_is_told_of_by_its_leads_and_by_how_far_it_was_trained():
    found = {kind: records({kind: rows[:, :1]})[kind] for kind, rows in accuracy().items() if "fresh" not in kind}
    told = moved.of_conv(found)
    assert told["conv_native_lead"].startswith("4.00 pp [") and told["conv_moved_lead"].startswith("4.00 pp [")
    assert told["conv_fitted"].startswith("native: 96.0 %; moved: 96.0 %; random: 92.0 %")
    assert set(moved.of_conv({}).values()) == {"not run"} and set(moved.of_conv({})) == set(told)


def test_what_a_moved_ticket_lacks_is_told_at_both_ends():
    early = {"there": {"moved": np.array([[0.9, 0.8]] * 2), "native": np.array([[0.95, 0.83]] * 2)}}
    ends = {
        way: {kind: rows + 0.01 * (kind == "native") for kind, rows in kinds.items()} for way, kinds in early.items()
    }
    told = moved.behind(early, ends, "there", "to SGD", 1)
    assert told["there_most_end"].startswith("−6.00 pp") and told["across"] == told["across_end"] == "not run"
    told = moved.behind(early, ends, "there", "there", 1)
    assert told["across"].startswith("−3.00 pp") and told["across_end"].startswith("−4.00 pp")
