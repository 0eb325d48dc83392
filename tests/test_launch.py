"""Notebooks as readers get them run from nothing: no clone, the library from its wheel, records from the release."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import ROOT

from lottery.book import launch, planning, runner
from lottery.engine import settings

BIBLIOGRAPHY = ROOT / "book" / "references.bib"


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """Address of a folder with what a release holds: the wheel, built of this tree, and the records."""
    source, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("release")
    shutil.copytree(ROOT / "lottery", source / "lottery", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True)
    assert (folder / launch.wheel()).is_file()
    for path in (ROOT / "book" / "results").glob("*.lotx"):
        (folder / path.name).symlink_to(path)
    return folder.as_uri()


@pytest.fixture
def python(tmp_path):
    """A bare environment's Python. What the library needs stands for the package index; the library is not there."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    index = tmp_path / "index"
    index.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if "lottery" not in path.name and path.suffix != ".pth":
            (index / path.name).symlink_to(path)
    [packages] = (tmp_path / "bare").glob("lib/python*/site-packages")
    (packages / "index.pth").write_text(f"{index}\n", encoding="utf-8")
    program = tmp_path / "bare" / "bin" / "python"
    lacks = subprocess.run([program, "-c", "import lottery"], cwd=tmp_path, capture_output=True, check=False, env={})
    assert lacks.returncode
    return program


def offered(name, release, **quick):
    """A published chapter as its page offers it, with some other values for `quick`."""
    executed = nbformat.read(ROOT / "book" / "chapters" / f"{name}.ipynb", as_version=4)
    quick = planning.profile_parameters(name, "quick") | quick
    exports = sorted((ROOT / "book" / "results").glob("*.lotx"))
    records = launch.holders(executed.metadata["lottery"]["keys"], exports)
    cited = dict.fromkeys(re.findall(r"^@\w+\{(\w+),", BIBLIOGRAPHY.read_text(encoding="utf-8"), re.M), "One (2020)")
    made = launch.notebook(executed, release, quick, records, cited, "https://pages.example")
    nbformat.validate(made)
    return executed, made


@pytest.mark.parametrize(
    ("name", "published"),
    [("00_a_ticket_from_scratch", False), ("16_networks_that_work_untrained", True)],
    ids=["quick", "published"],
)
def test_a_downloaded_notebook_runs_from_nothing(tmp_path, release, python, name, published):
    executed, notebook = offered(name, release, steps=50, levels=2)
    first = notebook.cells[0]
    assert "PUBLISHED = False" in first.source
    first.source = first.source.replace("PUBLISHED = False", f"PUBLISHED = {published}")
    folder = tmp_path / "reader"
    folder.mkdir()
    nbformat.write(notebook, folder / "in.ipynb")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    done = subprocess.run(
        [python, "-m", "papermill", "in.ipynb", "out.ipynb", "-k", "python3", "--no-progress-bar"],
        cwd=folder,
        env={**kept, "HOME": str(tmp_path), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    out = nbformat.read(folder / "out.ipynb", as_version=4)
    said = "".join(output.get("text", "") for output in out.cells[0].outputs)
    assert re.search(r"[1-9]\d* new records in .*reader/results; training on (the CPU|a GPU)\.", said), said
    ending, before = runner.ending(out), executed.metadata["lottery"]
    if published:  # from the records: the data set is not even there
        assert all(runner.same(ending[part], before[part]) for part in ("values", "verdicts"))
    else:
        assert (ending["parameters"]["steps"], ending["parameters"]["levels"]) == (50, 2)


def test_without_a_network_a_chapter_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LOTTERY_STORE", str(tmp_path / "results"))
    monkeypatch.setenv(settings.VARIABLE, "")  # put back afterwards
    launch.prepare((tmp_path / "nowhere").as_uri(), ["01_winning_tickets.lotx"])
    said = capsys.readouterr().out
    assert "01_winning_tickets.lotx could not be fetched from file://" in said and "0 new records" in said
    assert settings.current().store == tmp_path / "results"


@pytest.mark.parametrize("name", planning.names())
def test_texts_are_plain_markdown(name):
    """No role or directive of MyST is left, and every number and work is there."""
    executed, notebook = offered(name, "https://releases.example")
    assert len(notebook.cells) == len(executed.cells) + 2 - sum("injected" in str(c.metadata) for c in executed.cells)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\{[\w:-]+\}`|^(:::|```)\{|\]\(\w+\.ipynb\)", cell.source, re.M), cell.source


def test_roles_become_words():
    text = (
        "{cite:t}`a2019` has {glue:text}`gain:.1f` % and {glue:text}`left:s` in {term}`masks <mask>` of a "
        "{term}`level`, see {cite:p}`a2019,b2020` and "
        "{doc}`chapter 11 <11_deeper>` or [it](11_deeper.ipynb)."
        "\n\n:::{dropdown} Title\n:open: yes\none\n\ntwo\n:::\nend"
    )
    found = launch.plain(
        text, {"gain": "0.26", "left": "'3.6 %'"}, {"a2019": "A (2019)", "b2020": "B (2020)"}, "https://p"
    )
    assert found == (
        "A (2019) has 0.3 % and 3.6 % in masks of a level, see (A (2019); B (2020)) and "
        "[chapter 11](https://p/11_deeper.html) or [it](https://p/11_deeper.html).\n\n**Title**\n\none\n\ntwo\n\nend"
    )


def test_references_to_other_pages_become_their_words():
    assert launch.plain("see {ref}`names of the\ncontrols <names-of-controls>`.", {}, {}, "") == (
        "see names of the\ncontrols."
    )


def test_works_are_named_as_texts_name_them():
    def work(year, *names):
        persons = [SimpleNamespace(prelast_names=name.split()[:-1], last_names=name.split()[-1:]) for name in names]
        return SimpleNamespace(persons={"author": persons}, fields={"year": year})

    works = {
        "a": work("2019", "Frankle", "Carbin"),
        "b": work("2020", "Frankle", "Dziugaite", "Roy", "Carbin"),
        "c": work("2020", "Su", "others"),
        "d": work("2023", "van Gogh"),
    }
    named = ["Frankle & Carbin (2019)", "Frankle et al. (2020)", "Su et al. (2020)", "van Gogh (2023)"]
    assert list(launch.cited(works).values()) == named
