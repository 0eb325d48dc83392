"""What chapters will compute, known before it is computed; and what cannot be, refused in words."""

import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from lottery.__main__ import main
from lottery.book import gates, planning, study
from lottery.book.entries import EntryError
from lottery.book.parameters import ChapterError, ParameterError
from lottery.engine import settings
from lottery.engine.store import Store

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


@pytest.mark.parametrize("given", ["7", "07", "07_how", "07_how_sgd_finds_the_way_back"])
def test_the_number_of_a_chapter_is_enough(given):
    assert planning.named(given) == "07_how_sgd_finds_the_way_back"


@pytest.mark.parametrize(
    "given, said",
    [
        ("01_winning_ticket_", r"did you mean '01_winning_tickets'\?"),
        (
            "77",
            "no chapter '77'; chapters: 00_a_ticket_from_scratch to 18_what_a_ticket_is_worth, the number is enough",
        ),
        ("", "no chapter ''"),
        ("0", None),
        ("1", None),
        ("1_", "no chapter '1_'"),
    ],
)
def test_a_chapter_that_there_is_not_is_refused_with_the_one_that_may_be_meant(given, said):
    if said is None:
        assert planning.named(given).startswith(f"0{given}_")
        return
    with pytest.raises(ChapterError, match=said) as caught:
        planning.named(given)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("command", ["run 1", "run --all", "run --published", "parameters", "verify", "book"])
def test_a_wrong_folder_of_the_book_is_named(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOTTERY_ROOT", str(tmp_path / "mistyped"))
    assert main(command.split()) == 1
    assert f"LOTTERY_ROOT names {tmp_path}/mistyped, which holds no notebooks/" in capsys.readouterr().err


def test_a_start_that_several_chapters_have_is_refused(project, monkeypatch):
    project()
    project(name="01_winning_again")
    with pytest.raises(ChapterError, match="several chapters begin with '01': 01_winning_again, 01_winning_tickets"):
        planning.named("01")


def test_a_parameter_and_a_profile_that_may_be_meant_are_suggested():
    with pytest.raises(ChapterError, match=r"did you mean 'standard'\?"):
        _ = planning.Part(FIRST, "standart").parameters
    with pytest.raises(ParameterError, match=rf"^{FIRST}: there is no parameter 'levls' \(did you mean 'levels'\?\)"):
        _ = planning.Part(FIRST, "quick", {"levls": 5}).parameters


def test_a_network_that_a_chapter_does_not_take_is_refused_in_a_few_words(tmp_path):
    part = planning.Part(FIRST, "quick", {"model": "resnet-20", "levels": 1, "replicates": 1})
    with pytest.raises(
        ParameterError, match=r"model = 'resnet-20', where this chapter takes: network: lenet-"
    ) as caught:
        part.check(Store(tmp_path))
    assert "'fc' fits no layer; kinds: conv, output; names: " in str(caught.value) and len(str(caught.value)) < 500


def test_a_notebook_that_is_no_chapter_is_named_and_stops_no_other(project, capsys):
    root = project()
    nbformat.write(nbformat.v4.new_notebook(), root / "notebooks" / "Untitled.ipynb")
    assert main(["parameters"]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{FIRST}:\n  data") and "notebooks/Untitled.ipynb: a notebook has exactly" in said.err
    told, own = [], settings.made(store=root / "store", executor="inline")
    small = {"model": "lenet-12-6", "steps": 50, "levels": 1, "replicates": 1}
    parts = [planning.Part("Untitled"), planning.Part(FIRST, "quick", small)]
    assert study.run(parts, 5, own, lambda *_: None, told.append) == 1
    assert "failed, nothing of it was computed: notebooks/Untitled.ipynb" in told[0] and "complete" in told[1]
