"""What a chapter found: sentences that are tied to their numbers."""

import re
import textwrap
from pathlib import Path

import pytest

from lottery.book import findings
from lottery.book.entries import EntryError
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


@pytest.mark.parametrize(
    "text, said",
    [
        ("01_one: {sentences: []}", r"findings\.yml:\n  01_one\.sentences: .*at least 1"),
        ("01_one: {sentences: [It is.], writen_for: a}\n02_two: ", r"  01_one\.writen_for: .*\n  02_two: .*dictionary"),
        ("- 01_one", r"findings\.yml must have names and entries"),
        ("01_one: {", r"findings\.yml cannot be read"),
    ],
)
def test_an_entry_that_is_none_is_named_with_its_file_and_chapter(tmp_path, text, said):
    (tmp_path / "findings.yml").write_text(text)
    with pytest.raises(EntryError, match=said):
        findings.load(tmp_path / "findings.yml")


def test_without_entries_there_are_no_findings(tmp_path):
    (tmp_path / "findings.yml").write_text("# none yet\n")
    assert findings.load(tmp_path / "findings.yml") == {} != findings.load()


def test_the_example_of_contributing_is_an_entry(tmp_path):
    text = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```yaml\n( +99_example:\n.*?)```", text, re.S)
    (tmp_path / "findings.yml").write_text(textwrap.dedent(example))
    [(name, entry)] = findings.load(tmp_path / "findings.yml").items()
    assert name == "99_example" and entry.names() == ["size-ratio", "dense-difference", "evens"]
