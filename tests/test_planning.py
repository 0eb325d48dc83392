"""What chapters will compute, known before it is computed; and what cannot be, refused in words."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from lottery.book import gates, planning
from lottery.book.entries import EntryError
from lottery.book.parameters import ChapterError

ROOT = Path(__file__).resolve().parent.parent
FIRST = "01_winning_tickets"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with chapter 1 alone, and what changes its cells: `project(change, name)`; change is given the cells."""

    def make(change=lambda cells: None, name=FIRST):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        notebook = nbformat.read(ROOT / "notebooks" / f"{FIRST}.ipynb", as_version=4)
        change(notebook.cells)
        nbformat.write(notebook, tmp_path / "notebooks" / f"{name}.ipynb")
        monkeypatch.setenv("LOTTERY_ROOT", str(tmp_path))
        return tmp_path

    shutil.copy(ROOT / "_config.yml", tmp_path)
    return make


def test_planning_is_silent_and_leaves_stdout_to_the_threads_beside_it(project, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "seen", seen, raising=False)
    said = "import sys\nprint('planned', file=sys.stdout)\nsys.seen.append(sys.stdout)"
    project(lambda cells: cells.insert(0, nbformat.v4.new_code_cell(said)))
    assert planning.Part(FIRST, "quick").recipes
    assert [one is sys.stdout for one in seen] == [True] and capsys.readouterr().out == ""


def test_a_copy_that_still_opens_the_chapter_that_it_was_copied_from_is_refused(project):
    project(name="99_example")
    with pytest.raises(ChapterError, match=rf'99_example\.ipynb opens Chapter\("{FIRST}"\): write .*"99_example"'):
        _ = planning.Part("99_example", "quick").recipes
    assert any(f'opens Chapter("{FIRST}")' in problem for problem in gates.check_source("99_example"))


@pytest.mark.parametrize(
    "text, said",
    [
        (f"{FIRST}: {{levls: 3}}", rf"quick\.yml, {FIRST}: there is no parameter 'levls'"),
        (f"{FIRST}: 3", rf"quick\.yml, {FIRST}: must have parameters and values"),
        ("common: [levels]", r"quick\.yml, common: must have parameters"),
        ("common: {levels: 300}", rf"quick\.yml, {FIRST}: levels = 300: must be"),
        ("common: {", r"quick\.yml cannot be read"),
    ],
)
def test_a_profile_that_sets_what_cannot_be_is_named(tmp_path, monkeypatch, text, said):
    (tmp_path / "quick.yml").write_text(text)
    monkeypatch.setattr(planning, "PLACE", tmp_path)
    with pytest.raises(EntryError, match=said):
        _ = planning.Part(FIRST, "quick", {"steps": 60}).parameters


def test_chapters_that_only_the_books_files_name_are_noticed(project):
    assert gates.check_entries() == []
    project()
    found = gates.check_entries()
    assert not any(FIRST in problem for problem in found)
    for file in ("findings.yml", "claims.yml", "profiles/quick.yml"):
        assert f"lottery/book/{file}: no chapter '06_what_the_mask_conveys'" in found
