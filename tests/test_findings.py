"""What a chapter found: sentences that are tied to their numbers."""

import pytest

from lottery.book import findings
from lottery.book.parameters import ChapterError

ENTRY = findings.Findings(sentences=("It lost {loss:.1f} pp of {accuracy}.", "So it is {verdict-word}."))
VALUES = {"loss": "0.123", "accuracy": "97.4 %", "verdict-word": "open", "other": "1"}


def test_numbers_stand_in_their_places_in_the_form_asked_for():
    assert ENTRY.filled(VALUES) == ["It lost 0.1 pp of 97.4 %.", "So it is open."]
    once = findings.Findings(sentences=("It lost {a}, then {a:no n}.",))
    assert once.filled({"a": "1 pp [0, 2], n = 12"}) == ["It lost 1 pp [0, 2], n = 12, then 1 pp [0, 2]."]
    assert once.names() == ["a"]


def test_the_hash_changes_with_a_named_value_and_with_a_verdict_and_with_nothing_else():
    first = ENTRY.hash(VALUES, {"C-C1": "open"})
    assert ENTRY.hash(VALUES | {"other": "2"}, {"C-C1": "open"}) == first
    assert ENTRY.hash(VALUES | {"loss": "0.124"}, {"C-C1": "open"}) != first
    assert ENTRY.hash(VALUES, {"C-C1": "agrees"}) != first


def test_a_value_that_the_chapter_does_not_glue_is_named():
    with pytest.raises(ChapterError, match="verdict-word"):
        ENTRY.hash({"loss": "1", "accuracy": "1"}, {})
