"""Networks that were chosen to lose: whether they are cut off or quiet, what rescaling gives back, what chance did."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import LENET as T
from support import chain_in, run

from lottery import controls, masks
from lottery import recipes as r
from lottery.book import losing, text
from lottery.engine.execute import world
from lottery.engine.world import EmptyWorld

ROW = np.array([0.0, 0.001, 0.002])


def record(accuracy, validation=(0.5,)):
    arrays = {"history/validation_loss": -np.array(validation), "history/validation_accuracy": np.array(validation)}
    return SimpleNamespace(values={"early_stop_test_accuracy": accuracy, "test_accuracy_end": accuracy}, arrays=arrays)


def records(*accuracies):
    return [record(accuracy) for accuracy in accuracies]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Networks that may lose, and the store with their masks."""
    runs, store = chain_in(tmp_path_factory.mktemp("store"), 3, 0.4)
    kinds = controls.losing(T, 0, 3, 0.4)
    assert kinds["ticket"] == runs[3]
    run([kinds[kind].mask for kind in ("one-shot", "small at the end", "small at the start")], store)
    return kinds, store


def test_starts_and_masks_are_the_same_where_no_data_are(made, monkeypatch):
    kinds, store = made
    monkeypatch.setenv("LOTTERY_DATA", "/nonexistent")
    for one in kinds.values():
        for part in (one.weights, one.mask):
            empty, whole = (part.tensors(where(store), T) for where in (EmptyWorld, world))
            assert empty.keys() == whole.keys() and all(torch.equal(empty[name], whole[name]) for name in empty)
    mnist = dataclasses.replace(T, data="mnist")
    assert r.Initial(0).tensors(EmptyWorld(None), mnist)["fc1.weight"].shape == (30, 28 * 28)


def test_the_size_of_a_start_is_that_of_its_surviving_weights(made):
    kinds, store = made
    names = ("random", "ticket", "small at the start", "small at the start, rescaled")
    rows = {row[0]: row[1:] for row in losing.signal({n: [kinds[n]] for n in names}, EmptyWorld(store), "random")}
    assert tuple(rows) == names and {len(row) + 1 for row in rows.values()} == {len(losing.SIGNAL) + 1}
    start, mask = (part.tensors(world(store), T) for part in (kinds["ticket"].weights, kinds["ticket"].mask))
    sizes = [start[name][kept].square().mean().sqrt().item() for name, kept in mask.items()]
    assert rows["ticket"][3] == ", ".join(f"{size:.4f}" for size in sizes) == rows["small at the start, rescaled"][3]
    assert rows["ticket"][2] == f"{min(int(kept.sum()) for kept in mask.values()):,}"
    assert rows["random"][4] == "100.0 %" and float(rows["small at the start"][4].split()[0]) < 10
    assert losing.signal({}, EmptyWorld(store), "random") == []


def test_without_a_ticket_small_weights_are_rescaled_to_a_random_mask(made):
    kinds, store = made
    got = controls.losing_without_ticket(T, 0, 3, 0.4)
    assert all(got[name] == kinds[name] for name in ("small at the end", "another random"))
    rows = losing.signal({name: [one] for name, one in got.items()}, EmptyWorld(store), "another random")
    sizes = {name: size for name, *_, size in rows}
    assert sizes["small at the end, rescaled"] == sizes["another random"] == "100.0 %" != sizes["small at the end"]
    assert got["small at the end, rescaled"].mask == got["small at the end"].mask
    assert got["small at the start"] == kinds["small at the start"] and len(got) == 5


def test_replicates_have_a_range_of_units_and_the_smallest_of_their_layers(made):
    kinds, store = made
    runs = [kinds["dense"], kinds["small at the start"]]
    (_, without, outgoing, fewest, *_), (_, *ticket) = losing.signal({"a": runs, "b": runs[1:]}, EmptyWorld(store), "b")
    units = [masks.cut_off(one.mask.tensors(EmptyWorld(store), T)) for one in runs]
    assert [without, outgoing] == [text.extremes(row, digits=1) for row in np.transpose(units)]
    assert units[0] != units[1] and fewest == ticket[2]


def test_sizes_are_told_of_what_ends_small_then_of_what_starts_small(made):
    kinds, store = made
    names, page = ("random", "small at the end", "small at the start"), Page()
    page.store, page.show_table = store, lambda header, rows, words: page.shown.append(rows)
    conv = {"another random": [kinds["random"]], "small at the end": [kinds["small at the start"]]}
    told = losing.show_signal(page, {name: [kinds[name]] for name in names}, conv)
    [rows] = page.shown
    assert [row[0] for row in rows[3:]] == ["Conv-2: random", "Conv-2: small at the end"]
    assert told == [rows[1][-1], rows[2][-1], rows[2][-1]] and told[0] != told[1]
    assert losing.show_signal(page, {"random": [kinds["random"]]}, {}) == ["not run"] * 3


def test_what_rescaling_gives_back_is_a_share_of_what_was_lost():
    kinds = {"a": 0.94 + ROW, "a, rescaled": 0.955 + ROW, "b": 0.97 + ROW, "b, rescaled": 0.96 + ROW}
    rows = losing.regained({"random": 0.96 + ROW, **kinds}, "a", "b")
    assert rows[0] == ["a", "1.50 pp (all the same), n = 3", "75 % (all the same), n = 3"]
    assert rows[1] == ["b", "−1.00 pp (all the same), n = 3", "no clear loss"]  # what loses nothing gets no share of it


def test_what_was_not_run_is_not_measured():
    found = dict.fromkeys(("random", "complement", "small at the end", "small at the end, rescaled"), 0.9 + ROW)
    found |= {"ticket": 0.95 + ROW, "reinitialised": 0.92 + ROW}
    nothing = {"turned": {}, "drawn": [[], [], []], "drawn again": [[], [], []], "conv": {}}
    assert set(losing.measured(found, nothing)) == {"complement_loss_pp", "losing_rescaled_recovered"}
    starts = {share: records(*(0.95 - 0.02 * share + ROW)) for share in (0.1, 0.5, 1.0)}
    more = {"turned": {**starts, "opposed": records(*(0.91 + ROW))}}
    more["drawn"] = [[record(0.9, [0.8]), record(0.9, [0.7])]] * 3
    more["drawn again"] = [records(0.90, 0.88)] * 3
    more["conv"] = {"small at the end": records(0.5, 0.5), "another random": records(0.6, 0.6)}
    more["conv"]["small at the end, rescaled"] = records(0.575, 0.575)
    more["conv"]["small at the start"] = records(0.58, 0.58)
    got = {
        name: value if isinstance(value, float) else value.mean for name, value in losing.measured(found, more).items()
    }
    assert got["flipped_loss_pp"] == pytest.approx(-1) and got["flipped_trend"] == pytest.approx(-1)
    assert got["adversarial_start_loss_pp"] == pytest.approx(1) and got["worst_mask_loss_pp"] == pytest.approx(
        (2 + 0) / 2
    )
    assert got["conv_small_final_loss_pp"] == pytest.approx(10)
    assert got["conv_rescaled_recovered"] == pytest.approx(0.75)
    assert got["conv_small_init_loss_pp"] == pytest.approx(2)


def test_leads_over_the_share_of_flipped_signs_stand_beside_what_has_none():
    ahead = {0: np.array([2.0, 3.0]), 1.0: np.array([0.5, 0.7]), 0.5: np.array([-1.0, 0.0])}
    figure = losing.against_share(ahead, {"reinitialised": np.array([1.0, 2.0])})
    flipped, reinitialised, random = figure.axes[0].get_lines()
    assert flipped.get_xdata().tolist() == [0, 50, 100] and flipped.get_ydata().tolist() == [2.5, -0.5, 0.6]
    assert reinitialised.get_ydata().tolist() == [1.5] * 3 and random.get_ydata().tolist() == [0] * 3
    assert [line.get_marker() for line in (flipped, random)] == ["o", ""]  # what was run at these shares
    low, high = figure.axes[0].get_ylim()
    assert low < -1 and high > 3  # all replicates are within


class Page:
    """A chapter that keeps what it is shown."""

    def __init__(self):
        self.shown = []

    def figure(self, figure, alt="", caption=""):
        self.shown.append((figure, alt or figure.get_label(), caption))


def test_what_questions_are_judged_by_is_offered():
    offered = {}
    page = SimpleNamespace(offer_csv=lambda name, table: offered.update({name: table}))
    shares = {"early_stop_test_accuracy": "accuracy"}
    losing.offer(page, {"turned": {}, "drawn": [[], []], "drawn again": [[], []], "conv": {}}, shares)
    assert not offered
    drawn = [[record(0.9, [v]) for v in row] for row in ((0.8, 0.7, 0.9), (0.6, 0.5, 0.4))]
    again = [records(0.9, 0.8, 0.7), records(0.5, 0.5, 0.8)]
    turned = {0.5: records(0.7, 0.8), "opposed": records(0.6, 0.5)}
    conv = {"random": records(0.3), "small": records(0.1)}
    losing.offer(page, {"turned": turned, "drawn": drawn, "drawn again": again, "conv": conv}, shares)
    signs, twice, conv = (offered[f"losing_{name}.csv"] for name in ("signs", "masks", "conv"))
    assert signs.to_dict("list") == {
        "signs_flipped": [0.5, 0.5, "opposed", "opposed"],
        "replicate": [0, 1, 0, 1],
        "accuracy": [0.7, 0.8, 0.6, 0.5],
    }
    assert list(twice) == ["replicate", "mask", "validation_accuracy_first", "accuracy_first", "accuracy_again"]
    assert twice.loc[5].to_list() == [1, 2, 0.4, 0.9, 0.8] and len(twice) == 6
    assert conv.accuracy.to_list() == [0.3, 0.1] and conv.sub_network.to_list() == ["random", "small"]


def test_a_turn_of_the_curve_is_told_in_numbers():
    page, found = Page(), {"ticket": 0.95 + ROW, "reinitialised": 0.93 + ROW, "random": 0.92 + ROW}
    turned = {0.5: records(*(0.925 + ROW)), 1.0: records(*(0.94 + ROW)), "opposed": records(*(0.9 + ROW))}
    told = losing.show_turned(page, found, {"reinitialised": 0.9 + ROW}, turned, "21 % left")
    means = {name: words.split(" pp")[0] for name, words in told.items()}
    late = {"turned_back_end": "1.50", "flipped_end": "4.00", "opposed_end": "0.00", "half_fresh": "−0.50"}
    assert means == {"turned_half": "0.50", "turned_all": "2.00", "turned_back": "1.50"} | late
    [(figure, alt, caption)] = page.shown
    assert len(figure.axes[0].get_lines()[0].get_xdata()) == 3 and "3 replicates" in caption and alt
    assert set(losing.show_turned(page, found, {}, {}, "").values()) == {"not run"} and len(page.shown) == 1


def test_curves_are_seen_by_the_share_that_is_flipped():
    options = losing.by_share({"ticket": [1]}, {0.1: [2], "opposed": [3]})
    assert options == {
        "0 %": {"ticket": [1]},
        "10 %": {"ticket": [1], "signs flipped": [2]},
        "opposed": {"ticket": [1], "signs flipped": [3]},
    }


def test_masks_are_ranked_within_their_replicate():
    first = np.array([[0.1, 0.2, 0.3], [0.9, 0.7, 0.8]])
    assert losing.alike(first, [[1, 2, 3], [6, 4, 5]]).mean == pytest.approx(1)  # 0 if starts were mixed
    assert losing.alike(first, [[1, 2, 3], [4, 6, 5]]).mean == pytest.approx(0)
    assert math.isnan(losing.alike(first[:, :2], first[:, :2]).mean)


def test_the_worst_mask_of_each_replicate_stands_out():
    drawn = [[record(0.9, [v]) for v in row] for row in ((0.8, 0.7, 0.9), (0.6, 0.5, 0.4))]
    again = [records(0.9, 0.8, 0.7), records(0.5, 0.5, 0.8)]
    page = Page()
    told = losing.show_twice(page, drawn, again)
    [(figure, alt, caption)] = page.shown
    others, worst = figure.axes[0].get_lines()
    np.testing.assert_allclose(worst.get_xdata(), [-10, -10])
    np.testing.assert_allclose(worst.get_ydata(), [0, 20], atol=1e-9)
    assert len(others.get_xdata()) == 4 and told["alike_validation"] in alt and caption.startswith("3 random masks")
    assert told["alike_test"].startswith("–")  # test accuracies of the first training are all equal
    assert set(losing.show_twice(page, [[], []], [[], []]).values()) == {"not run"} and len(page.shown) == 1


def test_what_rescaling_gave_is_told_of_both_networks(chapter):
    found = {"random": ROW + 0.9, "small at the end": ROW + 0.8, "small at the start": ROW + 0.7}
    found |= {f"small at the {when}, rescaled": ROW + 0.85 for when in ("end", "start")}
    told = losing.show_regained(chapter, found, {})
    assert told["gain_end"].startswith("5.00 pp") and told["gain_start"].startswith("15.00 pp")
    assert told["share_end"].startswith("50 %") and told["gain_conv_end"] == told["share_conv_start"] == "not run"
    conv = {name: records(*values) for name, values in found.items() if name != "random"}
    conv |= {"another random": records(*found["random"]), "small at the start": records(*(ROW + 0.75))}
    told = losing.show_regained(chapter, found, conv)
    assert told["gain_conv_end"].startswith("5.00 pp") and told["gain_conv_start"].startswith("10.00 pp")
