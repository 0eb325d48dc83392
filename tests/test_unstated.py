"""What hangs on settings that a paper does not state, as chapters show it."""

from types import SimpleNamespace

import numpy as np
import pytest

from lottery import recipes
from lottery.book import claims, protocols, unstated

NOISE = np.array([-0.001, 0.0, 0.001])
OTHER = list(protocols.UNSTATED)


@pytest.fixture
def tables():
    return []


@pytest.fixture
def chapter(tables):
    """A chapter that notes its tables."""
    return SimpleNamespace(show_table=lambda *table: tables.append(table), rules=claims.load())


def runs(dense, ticket, step):
    """[3][dense, ticket] records; `ticket` is what it gains, `step` its iteration, the dense network's is 1000."""

    def record(share, at):
        values = {"early_stop_test_accuracy": share, "test_accuracy_end": share - 0.01, "early_stop_step": at}
        return SimpleNamespace(values=values)

    return [[record(dense + e, 1000 + 9000 * e), record(dense + ticket + 3 * e, step - 9000 * e)] for e in NOISE]


def starts(first, dip, output, positive):
    """Records of `movement.Started` of three layers; the noise is a tenth of a hundredth."""
    values = np.array([[0.5, first], [0.5 + positive, dip], [0.4, output]])
    return [SimpleNamespace(arrays={"summary": values + e}) for e in NOISE]


def test_every_setting_is_another_training_and_none_is_that_of_this_book():
    given = recipes.training(
        data="mnist", model="lenet-300-100", steps=10, batch=60, optimiser="adam", lr=0.001, scaling="unit-norm"
    )
    made = unstated.varied(given, 2, lambda of, r: (of, r))
    assert list(made) == OTHER and all([r for _, r in of] == [0, 1] for of in made.values())
    assert len({of.key for [(of, _), _] in made.values()} | {given.key}) == len(OTHER) + 1
    assert made["images in [0, 1]"][0][0].scaling == "unit" and unstated.varied(given, 0, max) == {}


def test_gains_are_paired_with_the_dense_network_of_the_setting(chapter, tables):
    varied = {words: runs(0.97, 0.005 if words == OTHER[1] else 0.002, 800) for words in OTHER}
    told = unstated.show_speed(chapter, runs(0.98, 0.001, 900) + runs(0.5, 0.3, 1), varied, "21.0")
    [[header, rows, _]] = tables
    assert header[-2:] == ["gain at early stopping", "gain at the end"] and [row[0] for row in rows[1:]] == OTHER
    assert [row[4][:7] for row in rows] == ["0.10 pp", "0.20 pp", "0.50 pp", "0.20 pp", "0.20 pp"]
    assert told["as_here"].startswith("10 % [") and told["varied_sooner"].startswith(f"{OTHER[0]}: 20 % [")
    assert told["gain_here"] == rows[0][4] and told["gain_end_standardise"] == rows[2][5] == rows[2][4]
    assert told["gain_more_standardise"] == "0.40 pp (all the same)" and "gain_more_here" not in told


def test_starts_are_held_against_the_rule_setting_by_setting(chapter, tables):
    here = np.stack([record.arrays["summary"] for record in starts(1.5, 1.2, 0.5, 0.06)])
    varied = {words: starts(1.5, 0.8, 0.5, 0.06) for words in OTHER} | {OTHER[1]: starts(1.0, 0.8, 0.5, 0.0)}
    told = unstated.show_starts(chapter, np.concatenate([here, here + 1]), varied, ["first", "second", "output"])
    [[header, rows, words]] = tables
    assert len(header) == len(rows[0]) == 7 and words.endswith("3 replicates.")
    assert [row[-1] for row in rows] == ["disagrees", "agrees", "agrees in part", "agrees", "agrees"]
    assert told["dip_here"].startswith("1.20 [") and told["dip_standardise"].startswith("0.80 [")
    assert told["first_dip_standardise"].startswith("1.00 [") and told["positive_here"].startswith("6.0 pp [")
    assert told["outcome_standardise"] == "agrees in part" and told["outcomes_else"].count("agrees") == 2


def test_what_was_not_varied_is_not_shown(chapter, tables):
    told = unstated.show_speed(chapter, runs(0.98, 0.001, 900), {}, "21.0")
    told |= unstated.show_starts(chapter, np.ones((3, 3, 2)), {}, ["first", "second", "output"])
    assert set(told.values()) == {"not run"} and tables == []
