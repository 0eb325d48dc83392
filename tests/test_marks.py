"""Marks of tickets, and how well they tell networks that match."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ipywidgets.embed import dependency_state

from lottery import marks, masks
from lottery import recipes as r
from lottery.book import marked, quantities
from lottery.engine.execute import execute, world
from lottery.engine.store import Store

T = r.training(data="digits", model="lenet-30-20", steps=60, batch=50, optimiser="adam", lr=5e-3, validation=200)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """The records of one replicate, and the study that they are of."""
    study = marks.of_replicate(T, 0, 2, 0.4, [1.0], 100, examples=200, test_examples=100)
    flat = [x for part in study.values() for x in leaves(part)]
    records = execute(flat, Store(tmp_path_factory.mktemp("store")), executor="inline", show=False)
    return study, dict(zip((x.key for x in flat), records, strict=True))


def leaves(part):
    return [x for one in part.values() for x in leaves(one)] if isinstance(part, dict) else [part]


def test_every_mark_is_measured_of_every_network(found):
    study, records = found
    got = [marks.marks_of({name: records[x.key] for name, x in one.items()}) for one in study["marks"].values()]
    assert list(study["marks"]) == list(study["networks"]) and len(got) == 8
    assert all(list(one) == list(marks.MARKS) and np.isfinite(list(one.values())).all() for one in got)
    ticket, reinitialised = got[1], got[list(study["networks"]).index("reinitialised")]
    assert ticket["sign agreement"] > 0.7 > reinitialised["sign agreement"]
    assert ticket["signed distance"] < reinitialised["signed distance"]
    assert ticket["unsigned distance"] == pytest.approx(reinitialised["unsigned distance"])  # a mask's size alone


def test_the_beginning_is_that_of_the_surviving_weights(tmp_path):
    store, start = Store(tmp_path), r.Initial(0)
    mask = r.Shuffled(r.Pruned(r.Run(T, start, r.Dense(), (0,)), 0.5), 0)
    run = marks.Beginning(T, start, mask, 200)
    got = execute([run], store, executor="inline", show=False)[0].values
    here = world(store)
    module, kept, state = here.network(T), mask.tensors(here, T), start.tensors(here, T)
    module.load_state_dict(masks.apply(state, kept))
    inputs, labels = here.dataset(T).train
    loss = torch.nn.functional.cross_entropy(module(inputs[:200]), labels[:200])
    weights = dict(module.named_parameters())
    gradients = torch.cat([torch.autograd.grad(loss, weights[n], retain_graph=True)[0][k] for n, k in kept.items()])
    assert got["gradient"] == pytest.approx(float(gradients.norm()), rel=1e-4)
    assert got["size"] == pytest.approx(1, abs=0.1)  # a random mask keeps weights of all sizes


MATCHING = np.array([[True, True, False, False]] * 3)
ACCURACY = np.where(MATCHING, 0.9, 0.8) + np.array([0, 0.02, 0, 0.02])


def networks(**values):
    """Three replicates of two levels, a matching network and another at each."""
    rows = {name: np.zeros((3, 4)) for name in marks.MARKS} | {"density": np.full((3, 4), 0.5)}
    rows |= {name.replace("_", " "): np.asarray(row) + np.zeros((3, 4)) for name, row in values.items()}
    return marks.Networks(list("abcd"), np.array([1, 2, 1, 2]), ACCURACY, np.full((3, 1), 0.9), rows)


def one_level(found):
    """The same networks, all of one level."""
    return dataclasses.replace(found, level=np.ones(len(found.level), dtype=int))


def means(got):
    return {name: getattr(value, "mean", value) for name, value in got.items()}


def test_separation_is_computed_group_by_group():
    mark = np.array([[1, 11, 2, 12]] * 3)  # each level tells by one, levels differ by ten
    assert marks.separation(mark, MATCHING, [1, 2, 1, 2]) == 1
    assert marks.separation(mark, MATCHING) == 0.75
    assert np.isnan(marks.separation(mark, MATCHING, [1, 1, 2, 2]))


def test_a_level_of_tickets_alone_counts_no_more_than_it_has_to_say():
    mark = np.array([[0.1, 0.2, 0.8, 0.9, 0.5]] * 3)
    matching = np.array([[True, True, False, False, True]] * 3)
    matching[0, 4], mark[0, 4] = False, 0.1  # one ticket of level 1, which alone would make an area of 0
    found = marks.Networks(
        list("abcde"), np.array([2, 2, 2, 2, 1]), matching * 1.0, np.ones((3, 1)), {"signed distance": mark}
    )
    assert marks.separation(mark, matching, found.level) == 0.5
    assert marks.separation(mark, matching, found.level, least=4) == found.area("signed distance", 0.0).mean == 1
    assert marks.rank_correlation(mark, -mark) == pytest.approx(-1)


def test_what_matches_is_no_more_than_the_tolerance_less_accurate():
    assert (networks().matching(0.0) == MATCHING).all()
    assert networks().matching(0.1).all()


def test_regressions_see_the_other_replicates_alone():
    told = marks.predicted([np.where(MATCHING, 1.0, 0.0)], MATCHING)
    assert (told[MATCHING] > 0).all() and (told[~MATCHING] < 0).all()
    odd = np.where(MATCHING, 1.0, 0.0)
    odd[0] = 1 - odd[0]  # as the other replicates have it, this one is the wrong way round
    assert (marks.predicted([odd], MATCHING)[0] < 0).tolist() == MATCHING[0].tolist()
    assert np.isnan(marks.predicted([odd], np.ones((3, 4), dtype=bool))).all()


def test_odds_are_compared_within_the_replicate_that_a_model_has_not_seen():
    matching = np.array([[True] * (n + 1) + [False] * (7 - n) for n in range(6)])
    odds = -marks.predicted([np.zeros(matching.shape)], matching)  # knows nothing but how many of the others match
    assert marks.separation(odds, matching) < 0.4
    assert marks.separations(odds, matching).tolist() == [0.5] * 6


def test_marks_are_judged_in_the_direction_that_the_works_expect():
    good = {"signed_distance": [0.1, 0.2, 0.8, 0.9], "unsigned_distance": 0.5, "error_barrier": [0.9, 0.9, 0.1, 0.1]}
    good = one_level(networks(**good))
    assert means(quantities.mark_quantities(good, 0.0)) == pytest.approx(
        {"mark_signed_auc": 1, "mark_sign_gain_auc": 0.5, "mark_barrier_auc": 0}
        | dict.fromkeys(("marks_gain_auc", "marks_over_kind_auc", "marks_without_gradient_auc"), 0.5)
    )
    named = dataclasses.replace(good, names=["ticket 1", "one-shot", "random", "degrees"])  # the kind tells as much
    got = means(quantities.mark_quantities(named, 0.0))
    assert (got["marks_gain_auc"], got["marks_over_kind_auc"]) == (0.5, 0)
    assert named.area_of_kind(0.0).mean == 1 and named.others().names == ["random", "degrees"]
    assert named.areas_apart("signed distance", 0.0) == 1 and np.isnan(named.others().areas_apart("density", 0.0))
    told = networks(gradient_at_the_start=[0.9, 0.8, 0.1, 0.2])
    got = means(quantities.mark_quantities(told, 0.0))
    assert (got["marks_gain_auc"], got["marks_without_gradient_auc"]) == (0.5, 0)
    agree = one_level(networks(sign_agreement=[0.9, 0.8, 0.2, 0.1]))
    assert agree.area("sign agreement", 0.0).mean == 1
    assert next(iter(marked.areas(agree, 0.0))) == "sign agreement"


def test_pairs_are_compared_at_equal_distances():
    signs, barrier, distance = (
        np.array([0.1, 0.2, 0.3, 0.4]),
        np.array([1.0, 5.0, 4.0, 5.0]),
        np.array([1, 2, 1.04, 3.0]),
    )
    assert marks.matched_difference(signs, barrier, distance) == pytest.approx(3)
    assert np.isnan(marks.matched_difference(signs, barrier, 10.0 ** np.arange(4)))
    one, other, far = (np.stack([x] * 3) for x in (signs, barrier / 100, distance))
    left, more = np.array([0.1, 0.11, 0.12]), np.array([0.3, 0.31, 0.32])
    got = means(quantities.basin_quantities(one, other, far, left, more))
    assert got["sign_barrier_matched_pp"] == pytest.approx(3) and got["sign_swap_excess_pp"] == pytest.approx(20)
    assert -1 <= got["sign_barrier_partial"] <= 1
    rows = np.random.default_rng(0).random((4, 3, 20))
    both = [rows[0] + 5 * rows[3], rows[1] + 5 * rows[3], rows[2]]  # the overlap of masks is all that goes with both
    assert (
        quantities.beyond_masks(*both, rows[2]).mean > 0.8 and abs(quantities.beyond_masks(*both, rows[3]).mean) < 0.4
    )


def test_dots_are_of_the_networks_that_their_label_names(monkeypatch):
    monkeypatch.setattr(marked.explorers, "drawn", lambda drawn, *_: drawn)
    shown = marked.explorer(networks(signed_distance=[0.1, 0.2, 0.8, 0.9]), 0.0, ["signed distance"])
    figure, _ = shown["signed distance", "test accuracy (%)"]
    dots = {line.get_label(): line.get_xydata()[:2].ravel().tolist() for line in figure.axes[0].get_lines()}
    assert dots == {
        "matching": pytest.approx([0.1, 90, 0.2, 92]),
        "not matching": pytest.approx([0.8, 80, 0.9, 82]),
    }


def test_the_explorer_has_a_frame_for_every_two_marks():
    explorer = marked.explorer(networks(signed_distance=[0.1, 0.2, 0.8, 0.9]), 0.0, ("signed distance", "density"))
    state = dependency_state([explorer])
    shown = [one["state"]["value"] for one in state.values() if one["model_name"] == "HTMLModel"]
    assert sum("rank correlation" in text for text in shown) == 2 * 3


class Shown:
    """A chapter that keeps what it is given."""

    def __init__(self):
        self.tables, self.figures, self.glued, self.offered = [], [], {}, {}

    def figure(self, figure, alt, caption, headline=False):
        self.figures.append((figure, caption))

    def offer_csv(self, name, table):
        self.offered[name] = table

    def show_table(self, header, rows, caption):
        self.tables.append(rows)

    def glue(self, **values):
        self.glued |= values


def test_the_caption_of_the_marks_tells_of_the_bars_that_are_drawn():
    chapter = Shown()
    marked.show(chapter, networks(signed_distance=[0.1, 0.2, 0.8, 0.9]), 0.0)
    assert chapter.glued["small_end_lead"] == "not run"
    [(figure, caption)] = chapter.figures
    bars = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 2 and line.get_alpha()]
    assert bars and not np.isfinite([line.get_xdata() for line in bars]).any()  # no mark has one for each replicate
    assert "thin" not in caption and "95 % intervals over 3 replicates" in caption


def test_the_table_of_marks_has_areas_across_and_within_densities_in_the_direction_of_a_ticket():
    chapter, apart = Shown(), [1.1, 0.1, 1.2, 0.2]  # each level tells by a tenth, levels differ by one
    once = networks(signed_distance=apart, sign_agreement=apart, density=[0.8, 0.2, 0.8, 0.2])
    two = {name: np.tile(values, 2) for name, values in once.marks.items()}  # so that a level has four
    names = ["random", "small at the end", *"cdefgh"]
    marked.show(chapter, marks.Networks(names, np.tile(once.level, 2), np.tile(ACCURACY, 2), once.dense, two), 0.0)
    rows = {row[0]: firsts(row[1:]) for row in chapter.tables[0]}  # none is a ticket or pruned once: all are others
    assert rows["signed distance"] == ["1.00", "1.00", "−1.00", "0.75", "−0.80", "less"]
    assert rows["sign agreement"] == ["0.00", "0.00", "−1.00", "0.25", "−0.80", "more"]
    assert (rows["density"][3], rows["density"][-1]) == ("0.50", "more")
    lead = 100 * (ACCURACY[:, 1] - ACCURACY[:, 0]).mean()
    assert firsts([chapter.glued["small_end_lead"]]) == [f"{lead:.2f} pp".replace("-", "−")]
    csv = chapter.offered["marks.csv"]
    assert (csv["matching"] == np.tile(MATCHING, 2).ravel()).all()
    assert (csv["accuracy"] == np.tile(ACCURACY, 2).ravel()).all()


def test_the_table_of_marks_has_their_areas_among_networks_that_were_not_cut():
    chapter, right, wrong = Shown(), [1.1, 0.1, 1.2, 0.2], [1.2, 0.2, 1.1, 0.1]  # wrong: those that were cut
    names, once = ["ticket 1", "one-shot", "ticket 2", "ticket 3", *"cdefghij"], networks(density=[0.8, 0.2, 0.8, 0.2])
    rows = np.concatenate([wrong, right, right]) + np.zeros((len(ACCURACY), 1))
    of = {"signed distance": rows, "error barrier": rows, "density": np.tile(once.marks["density"], 3)}
    marked.show(chapter, marks.Networks(names, np.tile(once.level, 3), np.tile(ACCURACY, 3), once.dense, of), 0.0)
    found = {row[0]: firsts(row[1:3]) for row in chapter.tables[0]}
    assert found["signed distance"] == ["0.67", "1.00"]  # of nine pairs a level four are in order and four ties
    assert chapter.glued["others_areas"] == "1.00 and 1.00"


class Path:
    """The record of a path, of signs and of a run: test errors at three points, and what else is read beside them."""

    def __init__(self, *errors):
        pair = np.full((2, 1, 3, 2), 0.25)  # three measures; the mean over layers
        self.arrays = {"re-estimated/test_error": np.array(errors), "pair": pair}
        self.values = {"distance": [10.0], "early_stop_test_accuracy": 0.97}


def firsts(texts):
    """The means in texts of intervals."""
    return [text.split(" [")[0].replace(" (all the same)", "") for text in texts]


def test_a_barrier_is_shown_beside_the_errors_that_it_is_made_of():
    ends = {"whole": (0.02, 0.20, 0.04), "signs differ": (0.02, 0.05, 0.22), "anywhere": (0.02, 0.04, 0.10)}
    one = {"exchanged": {name: Path(*errors) for name, errors in ends.items()}}
    one["pairs"] = {("ticket", "reinitialised"): {"signs": Path()}}
    found, chapter = [one] * 3, Shown()
    left = marked.exchanged(chapter, found)
    assert [rows.mean() for rows in left.values()] == pytest.approx([0.17, -0.07, -0.02])
    assert firsts(row[2] for row in chapter.tables[0]) == ["4.00 %", "22.00 %", "10.00 %"]
    assert firsts(row[3] for row in chapter.tables[0]) == ["18.00 pp", "3.00 pp", "2.00 pp"]
    assert list(chapter.glued) == ["whole", "swap_signs", "gone", "mixture_error", "halfway_above"]
    assert firsts(chapter.glued.values()) == ["17.00 pp", "75 %", "24.00 pp", "22.00 %", "3.00 pp"]


@pytest.mark.parametrize("shares", [[100], [50, 100]])
def test_flipped_signs_have_a_curve_where_several_shares_were_run(shares):
    path, twin = Path(0.02, 0.05, 0.02), Path(0.02, 0.03, 0.02)
    row = {"turned": {0.0: twin} | dict.fromkeys(shares, path)}
    row["networks"] = {"reinitialised": SimpleNamespace(values={"early_stop_test_accuracy": 0.96})}
    row["from the ticket"] = {share: {"signs": one, "path": one} for share, one in row["turned"].items()}
    chapter = Shown()
    shown = marked.flipped(chapter, [row] * 2, shares)
    assert (shown is not None) == (len(shares) > 1) and len(chapter.tables[0]) == 1 + len(shares)
    told = ["75 to 75 %", ", ".join(f"3 with {share} %" for share in shares), "1.00 pp"]
    assert chapter.glued.pop("turned_accuracies") == "from 97.00 to 97.00 %"
    assert firsts([chapter.glued.pop("twin_signs"), chapter.glued.pop("twin_barrier")]) == ["75.0 %", "1.00 pp"]
    assert firsts(chapter.glued.values()) == told
