"""The quantities of the claims, on studies whose answers are known."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from lottery import quantities, stats

LEVELS = np.arange(20)
DENSITY = (265200 * 0.8**LEVELS + 1000 * 0.9**LEVELS) / 266200
CLAIMS = yaml.safe_load((Path(__file__).parents[1] / "book" / "claims.yml").read_text(encoding="utf-8"))
REPLICATES = np.array([-0.001, 0.0, 0.001])[:, None]  # added to accuracies: cancels in differences


def per_level(function):
    return np.array([function(d) for d in DENSITY]) + np.zeros((3, 1))


def paper():
    """A study with the paper's numbers: stop falls to -38 % at level 7, is back at level 15; +0.35 pp at level 9."""
    stop = np.interp(LEVELS, [0, 7, 15, 19], [10000, 6200, 10000, 14000]) + np.zeros((3, 1))
    gain = np.interp(LEVELS, [0, 9, 15, 19], [0, 0.0035, 0.0, -0.01])
    return stop, 0.98 + gain + REPLICATES


def test_tickets_of_the_paper():
    stop, accuracy = paper()
    got = quantities.ticket_quantities(DENSITY, stop, accuracy, accuracy + 0.001)
    assert got["early_stop_change_21"].mean == pytest.approx(-0.38) and got["early_stop_trend_to_21"] == -1
    assert got["early_stop_change_4"].mean == pytest.approx(0)
    assert got["gain_max_pp"] == pytest.approx(0.35) == got["gain_max_pp_end"]
    assert got["gain_min_pp"] == pytest.approx(0.35 / 9) == got["gain_min_pp_end"]


def test_reinitialised_networks_of_the_paper():
    stop, accuracy = paper()
    draws = np.array([-1000.0, 0, 1000])[None, :, None]
    reinit_stop = 2.51 * stop[:, None] + draws
    reinit_stop[:, :, 1::2] = np.where(LEVELS[1::2] == 7, reinit_stop[:, :, 1::2], np.nan)
    reinit_stop[:, :2, 4] = np.nan  # one draw is enough
    got = quantities.reinit_quantities(DENSITY, stop, accuracy, reinit_stop, accuracy[:, None] - 0.005)
    assert got["reinit_slowdown_21"].mean == pytest.approx(2.51) and got["reinit_slowdown_21"].n == 3
    assert got["reinit_loss_pp_21"].mean == pytest.approx(0.5)
    assert got["reinit_slowdown_min"] == pytest.approx(2.51)


def test_the_order_of_structures():
    _, accuracy = paper()
    got = quantities.structure_quantities(DENSITY, accuracy, accuracy - 0.002, accuracy[:, None] - [[[0.003]]])
    assert got["ticket_minus_reinit_pp"].mean == pytest.approx(0.2)
    assert got["reinit_minus_random_pp"].mean == pytest.approx(0.1) and got["ordering_share"] == 1
    assert quantities.structure_quantities(DENSITY, accuracy, accuracy, accuracy - 1)["ordering_share"] == 0


def test_one_shot_loses_earlier():
    iterative = 0.98 + per_level(lambda d: 0.01 * np.log(d / 0.035) * (d < 0.9)) + REPLICATES
    oneshot = 0.98 + per_level(lambda d: 0.01 * np.log(d / 0.050) * (d < 0.9)) + REPLICATES
    oneshot[:, [0, 2, 4]] = np.nan
    got = quantities.oneshot_quantities(DENSITY, iterative, oneshot)
    assert got["break_even_ratio"] == pytest.approx(0.050 / 0.035)  # exact: gains are linear in log density
    assert got["iterative_minus_oneshot_pp"].mean == pytest.approx(np.log(0.050 / 0.035))


def test_all_quantities_of_the_rules_are_computed_and_judged():
    stop, accuracy = paper()
    got = (
        quantities.ticket_quantities(DENSITY, stop, accuracy, accuracy)
        | quantities.reinit_quantities(DENSITY, stop, accuracy, 2.51 * stop, accuracy - 0.005)
        | quantities.structure_quantities(DENSITY, accuracy, accuracy - 0.005, accuracy - 0.006)
        | quantities.oneshot_quantities(DENSITY, accuracy, accuracy - per_level(lambda d: 0.001 * (d < 1)))
    )
    asked = {check["quantity"] for rule in CLAIMS.values() for check in rule["checks"]}
    assert asked - set(got) == {"conv_reinit_minus_random_pp"} and set(got) <= asked
    context = {"data": "mnist", "model": "lenet-300-100", "protocol": "the paper's", "steps": 50000, "replicates": 5,
               "levels": 19, "reinit_draws": 1, "random_draws": 1}  # fmt: skip
    labels = {claim: stats.verdict(rule, got, context).label for claim, rule in CLAIMS.items()}
    assert labels == dict.fromkeys(CLAIMS, "reproduced") | {"C-C4": "in part"}


def test_a_study_with_few_levels_leaves_out_what_it_cannot_say():
    stop, accuracy = (values[:, :4] for values in paper())
    density = DENSITY[:4]
    assert quantities.ticket_quantities(density, stop, accuracy, accuracy) == {}
    assert set(quantities.reinit_quantities(density, stop, accuracy, stop, accuracy)) == {"reinit_slowdown_min"}
    assert quantities.structure_quantities(density, accuracy, accuracy, accuracy) == {}
    assert set(quantities.oneshot_quantities(density, accuracy, accuracy)) == {"break_even_ratio"}
    nothing = np.full_like(accuracy, np.nan)
    assert quantities.oneshot_quantities(density, accuracy, nothing) == {}
    assert quantities.reinit_quantities(density, stop, accuracy, nothing, nothing) == {}
