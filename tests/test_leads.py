"""Leads over random masks, and parameters that hold several numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from lottery import stats
from lottery.book import leads, parameters

ACCURACY = {"ticket": np.array([0.98, 0.97]), "mask": np.array([0.96, 0.96]), "random": np.array([0.95, 0.96])}


def test_leads_are_differences_within_replicates():
    ahead = leads.leads(ACCURACY)
    assert list(ahead) == ["ticket", "mask"]
    np.testing.assert_allclose(ahead["ticket"], [3, 1])
    assert leads.words(ahead) == "Lead in test accuracy over a random mask in points: ticket 2.00, mask 0.50."


def test_a_kind_can_be_compared_with_one_of_its_own():
    ahead = leads.leads(ACCURACY, {"ticket": "mask"})
    np.testing.assert_allclose(ahead["ticket"], [2, 1])
    assert set(ahead) == {"ticket"}


def test_tables_end_with_what_has_no_lead():
    rows = leads.rows(leads.leads(ACCURACY), (ACCURACY, 100, "%", 1))
    assert [row[0] for row in rows] == ["ticket", "mask", "random"]
    assert rows[0][1].startswith("97.5 %") and rows[0][2].startswith("2.00 pp") and rows[2][2] == ""


def test_a_loss_is_a_lead_with_its_interval_turned():
    loss = stats.summary([0.1, 0.2, 0.6])
    turned = leads.of_loss(loss)
    assert turned == stats.Summary(3, -loss.mean, -0.6, -0.1, -loss.ci_high, -loss.ci_low)
    assert leads.of_loss(0.3) == -0.3


def test_how_far_training_went_is_told_by_kind():
    runs = [
        SimpleNamespace(values={"early_stop_step": s, "train_accuracy_end": a}) for s, a in ((900, 0.99), (1900, 1))
    ]
    told = leads.learned({"random": runs, "ticket": [runs[:1]]})
    assert told == {
        "random_stop": "1,400",
        "random_fitted": "99.50 %",
        "ticket_stop": "900",
        "ticket_fitted": "99.00 %",
    }


def test_a_row_of_numbers_is_read():
    assert parameters.rising("at", " 3 7  11", 1, 11) == [3, 7, 11]
    assert parameters.rising("at", "", 1, 11, least=0) == []
    with pytest.raises(parameters.ParameterError, match="0 or more"):
        parameters.rising("at", "12", 1, 11, least=0)


def test_narrower_networks_are_narrower_and_rise():
    assert parameters.narrower(" lenet-10-3  lenet-100-33", "lenet-300-100") == ["lenet-10-3", "lenet-100-33"]
    assert parameters.narrower("", "lenet-300-100") == []
    for other in ("x", "lenet-x", "conv-2", "lenet-300-10", "lenet-400-100", "lenet-100 lenet-10", "lenet-10 lenet-10"):
        with pytest.raises(parameters.ParameterError, match=r"narrower = .* narrower than that of lenet-300-100"):
            parameters.narrower(other, "lenet-300-100")


@pytest.mark.parametrize("text", ["", "x", "7 3", "3 3", "0 3", "3 12", "1.5", "-1", "3, 7", "9" * 30])
def test_other_rows_are_refused(text):
    with pytest.raises(parameters.ParameterError, match="whole numbers that rise, from 1 to 11"):
        parameters.rising("at", text, 1, 11)


def test_too_few_are_refused():
    with pytest.raises(parameters.ParameterError, match="2 or more"):
        parameters.rising("widths", "25", 2, 1000, least=2)
