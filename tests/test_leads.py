"""Leads over random masks, and parameters that hold several numbers."""

import numpy as np
import pytest

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


def test_a_row_of_numbers_is_read():
    assert parameters.rising("at", " 3 7  11", 1, 11) == [3, 7, 11]


@pytest.mark.parametrize("text", ["", "x", "7 3", "3 3", "0 3", "3 12", "1.5", "-1", "3, 7", "9" * 30])
def test_other_rows_are_refused(text):
    with pytest.raises(parameters.ParameterError, match="whole numbers that rise, from 1 to 11"):
        parameters.rising("at", text, 1, 11)


def test_too_few_are_refused():
    with pytest.raises(parameters.ParameterError, match="2 or more"):
        parameters.rising("widths", "25", 2, 1000, least=2)
