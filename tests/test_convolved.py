"""Convolutional tickets beside their controls, as a chapter shows them."""

from types import SimpleNamespace

import numpy as np

from lottery.book import convolved

LEFT = {"Conv-2": ["100", "50", "25"]}
RECORDS = {
    "Conv-2": {
        "ticket": [[["dense 0", "half 0", "quarter 0"]], [["dense 1", "half 1", "quarter 1"]]],
        "random mask": [[[None, "a", None], [None, "b", None]], [[None, "c", None], [None, "d", None]]],
    }
}


def test_levels_with_a_control_are_those_at_which_all_networks_have_it():
    more = {"Conv-4": {"random mask": [[[None, "a", "b"]]]}}
    assert convolved.with_controls(more, "random mask", [1, 2]) == [1, 2]
    assert convolved.with_controls(RECORDS | more, "random mask", [1, 2]) == [1]
    assert convolved.with_controls(RECORDS | more, "random mask", [2]) == []


def test_the_table_keeps_draws_of_a_replicate_together():
    tables = []
    chapter = SimpleNamespace(show_runs=lambda *table: tables.append(table))
    convolved.show_runs(chapter, RECORDS, LEFT, 1)
    shown = {"Conv-2, dense": [["dense 0"], ["dense 1"]], "ticket, 50 %": [["half 0"], ["half 1"]]}
    assert tables == [("weights left", shown | {"random mask, 50 %": [["a", "b"], ["c", "d"]]})]


def test_curves_are_of_all_draws_that_were_run():
    options = convolved.curves(RECORDS, LEFT, [1, 2])
    assert list(options) == ["Conv-2, 50 %", "Conv-2, 25 %"]
    assert options["Conv-2, 50 %"]["random mask"] == ["a", "b", "c", "d"]
    assert options["Conv-2, 25 %"] == {
        "dense": ["dense 0", "dense 1"],
        "ticket": ["quarter 0", "quarter 1"],
        "random mask": [],
    }


def test_conv_6_has_more_weights_than_are_said_and_so_less_is_left_of_what_is_drawn():
    told = convolved.conv_6()
    assert told["conv_6_size"] == "2.26 million, 1.1 million of them in convolutions"
    assert (told["as_drawn"], told["as_said"]) == ("26.6, 15.3, 10.6 %", "28.5, 16.8, 11.9 %")


def test_gains_are_told_of_the_second_half_of_the_levels():
    accuracy = np.array([[0.5, 0.6, 0.7, 0.4], [0.3, 0.6, 0.7, 0.5], [0.4, 0.6, 0.7, 0.45]])
    said = "30.00 pp [5.16, 54.84] with 25 %, 5.00 pp [−32.26, 42.26] with 12 %"
    assert convolved.sparse_gains(accuracy, ["100", "50", "25", "12"]) == said


def test_a_replicate_is_left_out_only_where_others_stay():
    density, stop = np.array([1, 0.5, 0.25]), np.array([[30.0, 20, 10], [30, 20, 10]])
    accuracy = np.array([[0.5, 0.6, 0.5], [0.5, 0.8, 0.5]])
    words = convolved.left_out("Conv-2", density, stop, accuracy, accuracy)
    assert words == "With each replicate left out in turn the gain of Conv-2 is 20.00 pp (10.00 to 30.00)."
    assert convolved.left_out("Conv-2", density, stop[:1], accuracy[:1], accuracy[:1]) == ""


def test_the_fastest_ticket_is_named_where_the_rule_leaves_it_out():
    stop = np.array([[3000, 1600, 1400], [3000, 1600, 1400]])
    more = ["100", "26.5", "13.7"], np.array([[0.5, 0.5, 0.49], [0.5, 0.5, 0.47]]), 200
    words = convolved.swiftest(stop, 1, *more)
    assert words.startswith("The ticket with 13.7 % of the weights is faster still, at step 1,400")
    assert "in the mean (2.00 pp [" in words and words.endswith("; with it the grid would allow 2.67 times.")
    assert convolved.swiftest(stop, 2, *more) == "No ticket is faster."


def test_how_fast_a_ticket_can_be_between_evaluations():
    told = convolved.speed(np.array([[3000.0, 1600.0], [3000.0, 1600.0]]), 1, 200)
    assert told == {"grid": "200", "speed": "1.88 times", "speed_most": "2.29 times"}
