"""The published chapters pass the gates."""

import shutil

import nbformat
import pytest

from lottery.__main__ import main
from lottery.book import claims, findings, gates, planning, runner
from lottery.book.chapter import as_written
from lottery.engine.disk import StoreError
from lottery.engine.store import Store

pytestmark = pytest.mark.skipif(not runner.published(), reason="no chapter is published yet")


def test_they_pass_the_gates():
    """That their records give the same numbers again is the business of `run --published`, a step of its own in CI."""
    assert gates.verify() == []


def test_a_page_that_was_executed_before_its_findings_were_written_is_noticed(tmp_path):
    name, path = next((name, path) for name, path in runner.published().items() if name in findings.load())
    notebook = nbformat.read(path, as_version=4)
    [first, *_] = findings.load()[name].filled(notebook.metadata["lottery"]["values"])
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", {}):
                output.data["text/html"] = as_written(output.data["text/html"]).replace(first, "")
    nbformat.write(notebook, tmp_path / path.name)
    assert gates.check_published(name, tmp_path / path.name) == [
        "its page does not show the sentences of findings.yml: publish the chapter again"
    ]


def test_a_chapter_whose_records_are_not_committed_is_noticed():
    published, files = runner.published(), runner.results_files()
    [name] = [name for name in published if name.startswith("06")]
    assert gates.check_records({name: published[name]}, files) == []
    [problem] = gates.check_records({name: published[name]}, [file for file in files if file.stem != name])
    assert problem.startswith(f"book/chapters/{name}.ipynb: ") and problem.endswith("records are not in book/results")


def test_records_that_a_store_lacks_are_not_taken_from_what_was_committed(tmp_path, monkeypatch):
    [name] = [name for name in runner.published() if name.startswith("01")]
    committed = shutil.copytree(runner.results_folder(), tmp_path / "results")
    monkeypatch.setattr(runner, "results_folder", lambda: committed)
    before = {file: file.read_bytes() for file in committed.iterdir()}
    with pytest.raises(StoreError):
        runner.publish_records(name, Store(tmp_path / "empty"))
    assert {file: file.read_bytes() for file in committed.iterdir()} == before


def test_power_prints_a_command_that_is_taken_or_says_that_none_is(capsys):
    """The replicates that a published open claim needs, where the chapter takes so many and where it does not."""
    printed = []
    for name, rule in claims.load().items():
        if rule.chapter in runner.published():
            main(["power", name])
            printed.append(capsys.readouterr().out.splitlines()[-1])
    taken = [line.partition("  #")[0].split() for line in printed if line.startswith("python -m lottery run")]
    assert taken and any("more than the chapter takes" in line for line in printed)
    for *_, chapter, _, profile, _, parameter, number in taken:
        assert planning.Part(chapter, profile, {parameter: number}).parameters[parameter] == int(number)
