"""Numbers as a page shows them."""

import numpy as np
import pytest

from lottery import data, models, stats
from lottery.book import chapter, protocols, text


def test_intervals():
    accuracy = stats.summary([0.977, 0.978, 0.979])
    assert text.format_interval(accuracy, 100, "%", 2) == "97.80 % [97.55, 98.05], n = 3"
    assert text.format_interval(stats.summary([-0.31]), 100, "%", 0) == "−31 %, n = 1"
    assert text.format_interval(-0.0001, 1, "pp", 2) == "0.00 pp"
    assert text.format_interval(12345.6, digits=0) == "12,346"
    assert text.format_interval(stats.summary([1.88] * 3), unit="times") == "1.88 times (all the same), n = 3"
    assert text.interval([1.88] * 3) == "1.88 (all the same)" and text.interval([1.88]) == "1.88"
    assert text.interval([0.977, 0.978, 0.979], 100, "%") == "97.80 % [97.55, 98.05]"


def test_no_interval_leaves_what_is_possible():
    assert text.interval([0.9990, 0.9999], 100, "%") == "99.95 % [99.37, 100.00]"
    assert text.interval([0.0, 0.1], 100, "%", 0) == "5 % [0, 69]"
    assert text.interval([-0.5, -0.9], 100, "pp", 0) == "−70 pp [−100, 100]"
    assert text.interval([0, 0, 2], digits=1, within=(0, np.inf)) == "0.7 [0.0, 3.5]"
    assert text.interval([0, 0, 2], digits=1) == "0.7 [−2.2, 3.5]"
    assert text.interval([1.0], 100, "%") == "100.00 %"


def test_extremes():
    assert text.extremes([0.9, 0.95], 100, "%", 1) == "92.5 % (90.0 to 95.0)"
    assert text.extremes([-1.0]) == text.extremes(-1.0) == "−1.00"


def test_points_and_what_is_said_of_each():
    assert text.points([0.07, 0.121]) == "9.6 (7.0 to 12.1)"
    assert text.each({"Conv-2": "3 pp", "Conv-4": "2 pp"}) == "Conv-2: 3 pp; Conv-4: 2 pp"
    gaps = {"averaged": np.array([0.01, 0.03]), "re-estimated": np.array([0.002])}
    assert text.above_middle(gaps) == {
        "whole_paths": "2",
        "typical_averaged": "2.0",
        "above_averaged": "3.0",
        "typical_reestimated": "0.2",
        "above_reestimated": "0.2",
    }
    none = text.above_middle({"averaged": np.array([])})
    assert none == {"whole_paths": "0", "typical_averaged": "–", "above_averaged": "–"}


def test_counts():
    assert [text.count(n, "replicate") for n in (0, 1, 2000)] == ["0 replicates", "1 replicate", "2,000 replicates"]
    assert [text.listed("level", at) for at in ([], [9], [1, 3])] == ["no level", "level 9", "levels 1, 3"]


def test_what_was_not_run_has_no_interval():
    assert text.interval([0.5, float("nan")], 100, "%") == "not run"


def test_a_long_table_is_folded():
    table = chapter.templates.get_template("table.html")
    short, long = (table.render(header=["n"], rows=[[str(i)] for i in range(n)], caption="Counts.") for n in (12, 13))
    assert "<details" not in short and short.endswith("</table></div><figcaption>Counts.</figcaption></figure>")
    assert (
        long.startswith('<details class="long-table"><summary>Counts. (13 rows)</summary>') and long.count("<td>") == 13
    )


def test_words_are_set_for_a_page_and_read_back_as_they_were_written():
    words = "signs that it *ended* with lose 0.52 pp [0.35, 0.69], n = 5 & 3 % < 9 ponies"
    page = "signs that it <em>ended</em> with lose 0.52\u00a0pp [0.35,\u00a00.69], n\u00a0=\u00a05 &amp; "
    page += "3\u00a0% &lt;\u00a09 ponies"
    assert chapter.typeset(words) == page and chapter.as_written(page) == words


@pytest.mark.parametrize(
    "words, lead",
    [
        ("Tickets learn *faster*. By 14 %.", "Tickets learn <em>faster</em>."),
        ("It is open: 0.5 against 0.6.", "It is open:"),
        (
            "By 0.52 pp, say Renda et al. (2020), it loses. So it is.",
            "By 0.52\u00a0pp, say Renda et al. (2020), it loses.",
        ),
        ("A long " + "way " * 40 + "to the end.", None),
    ],
)
def test_a_short_lead_of_a_paragraph_is_set_in_bold_and_read_back(words, lead):
    page = chapter.led(words)
    assert chapter.as_written(page) == words
    assert page.startswith(f'<span class="lead">{lead}</span>') if lead else page == chapter.typeset(words)


def test_of_two_replicates_both_values_are_told():
    assert text.of_two(stats.summary([0.5, -0.25]), 100, "pp", 1) == "−25.0 and 50.0 pp"
    three = stats.summary([1.0, 2.0, 3.0])
    assert text.of_two(three) == text.format_interval(three) and text.of_two(0.5, unit="pp") == "0.50 pp"


def test_a_half_is_rounded_up_however_it_was_computed():
    below = np.mean([0.1, 0.15]) - 1e-17 - 2**-56
    assert {text.number(value) for value in (0.125, below, 100 * 0.00125)} == {"0.13"}
    assert text.number(0.00125, 100) == text.number(0.125) == "0.13" and text.number(-0.125) == "−0.13"
    assert text.number(0.12499) == "0.12" and text.number(float("inf")) == "inf"


def test_layers_of_a_lenet_in_words():
    said = text.fully_connected([(300, 784), (100, 300), (10, 100)])
    assert said == "784 inputs, hidden layers of 300 and 100 units, 10 outputs, 266,200 weights"
    assert text.fully_connected([[5, 4], [2, 5]]) == "4 inputs, a hidden layer of 5 units, 2 outputs, 30 weights"
    assert text.fully_connected([[2, 4]]) == "4 inputs, 2 outputs, 8 weights"
    assert "hidden layers of 30, 20 and 10 units" in text.fully_connected([[30, 4], [20, 30], [10, 20], [2, 10]])


def test_what_a_lenet_was_trained_with_in_words():
    given = {"model": "lenet-300-100", "data": "mnist", "learning_rate": 0.0012, "batch": 60, "hidden_rate": 0.2}
    given |= {"output_rate": 0.1, "validation": 5000, "steps": 50_000, "fresh_order": False}
    told = protocols.lenet_in_words(given)
    assert told["order"] == "the same at every level" and told["images"] == "MNIST"
    words = "LeNet-300-100 on MNIST; Adam 0.0012; 60; 20 % and 10 %; Gaussian Glorot; 5,000 for validation; 50,000 "
    assert told["protocol"] == words + "iterations"
    assert protocols.lenet_in_words(given | {"fresh_order": True})["order"] == "drawn anew at every level"


def test_networks_and_data_have_names_in_words():
    names = {
        "lenet-300-100": "LeNet-300-100",
        "conv-2": "Conv-2",
        "conv-4-dropout": "Conv-4 with dropout",
        "resnet-8-glorot": "ResNet-8",
        "vgg-19": "VGG-19",
        "vgg-19-8": "narrow VGG-19",
        "vgg-19-64": "VGG-19",  # the paper's width
        "conv-2-8": "narrow Conv-2",
        "conv-2-64": "Conv-2",
    }
    assert {name: protocols.network(name) for name in names} == names
    assert all(models.build(name, (3, 8, 8), 10) for name in names)  # there are such networks
    assert protocols.network("my-own-net") == "my-own-net"
    given = {"model": "resnet-20", "data": "cifar10", "augment": True, "decay": True, "optimiser": "sgd", "batch": 128}
    given |= {"steps": 3120, "learning_rate": 0.1, "replicates": 3, "fraction": 0.36, "levels": 5, "fresh_order": True}
    said = "ResNet-20 on CIFAR-10, random flips and crops: 3,120 steps of SGD at rate 0.1, batches of 128"
    assert protocols.in_words(given)["protocol"] == f"{said}; the rate falls twice"


def test_every_data_set_has_a_name_in_prose():
    assert set(protocols.DATA) == set(data.NAMES)


def test_words_are_joined_with_and():
    assert text.enumerated(["40.1", "16.2", "6.6"], " %") == "40.1, 16.2 and 6.6 %"
    assert text.enumerated(["3"], " %") == "3 %" and text.enumerated([], " %") == ""


def test_what_was_never_measured_is_not_run():
    nothing, some, few = np.empty(0), np.array([20.0, 40.0]), np.array([20.0, np.nan])
    assert text.interval(nothing) == text.interval(few) == text.sooner(nothing, nothing) == "not run"
    assert text.sooner(some, few) == text.sooner(few, some) == "not run" != text.sooner(some, some)


def test_differences_are_told_at_the_sizes_that_all_replicates_have():
    values = np.array([[0.01, np.nan, 0.02], [0.01, 0.03, 0.02]])
    assert text.by_size(["100", "50", "25"], values) == "100 %: 1.00 pp (all the same); 25 %: 2.00 pp (all the same)"
    assert text.by_size(["50"], values[:, 1:2]) == "not run"
