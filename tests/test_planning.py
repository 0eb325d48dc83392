"""What chapters will compute, known before it is computed; and what cannot be, refused in words."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from lottery.book import planning

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
