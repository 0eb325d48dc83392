"""The published chapters pass the gates."""

import functools
import shlex
import shutil

import nbformat
import pytest

from lottery import data
from lottery.__main__ import main
from lottery.book import build, claims, findings, gates, launch, parameters, planning, runner
from lottery.book.chapter import as_written
from lottery.engine import archive
from lottery.engine.disk import StoreError
from lottery.engine.store import Store

pytestmark = pytest.mark.skipif(not runner.published(), reason="no chapter is published yet")


def test_they_pass_the_gates():
    """That their records give the same numbers again is the business of `run --published`, a step of its own in CI."""
    assert gates.verify() == []


def test_a_study_is_planned_where_there_are_no_data_sets(monkeypatch, tmp_path):
    """Also that of a chapter which looks at its network's layers first; else `run --published` would take the data."""
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path))
    data.forget()
    made = nbformat.read(runner.published()["12_anatomy_of_a_ticket"], as_version=4).metadata["lottery"]
    part = planning.Part(made["chapter"], made["profile"], made["parameters"])
    assert sorted(part.keys) == sorted(made["keys"])


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


def test_a_claim_that_its_chapter_has_not_judged_is_noticed(monkeypatch):
    known = claims.load()
    monkeypatch.setattr(claims, "load", lambda: known | {"C-C1q": known["C-C1"].model_copy(update={"id": "C-C1q"})})
    name, said = known["C-C1"].chapter, "C-C1q: not judged yet: publish the chapter again"
    assert said in gates.check_published(name, runner.published()[name])


def test_a_chapter_that_shows_a_value_that_it_does_not_glue_is_noticed(tmp_path):
    name, path = next(iter(runner.published().items()))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(1, nbformat.v4.new_markdown_cell("It gained {glue:text}`mistyped-gain:.1f` %."))
    nbformat.write(notebook, tmp_path / path.name)
    assert gates.check_published(name, tmp_path / path.name) == [
        "its texts show values that it does not glue: mistyped-gain"
    ]
    with pytest.raises(parameters.ChapterError, match=f"{name}: .*mistyped-gain"):
        launch.notebook(notebook, "", {}, [], {}, "")


def test_a_page_that_shows_a_value_that_a_chapter_does_not_glue_is_noticed(tmp_path):
    name, path = next(iter(runner.published().items()))
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    shutil.copy(path, tmp_path / "book" / "chapters")
    (tmp_path / "book" / "page.md").write_text(
        f"{{glue:text}}`chapters/{name}.ipynb::gap:s` {{glue:text}}`chapters/{name}.ipynb::gapp:s`"
    )
    assert gates.check_pages(tmp_path) == [
        f"book/page.md: it shows gapp, which the published chapter {name} does not glue"
    ]


def test_a_chapter_that_the_table_of_contents_does_not_name_is_noticed():
    [problem] = gates.check_contents([*runner.published(), "99_example"])
    assert problem.startswith("book/chapters/99_example.ipynb: not in _toc.yml")


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


def test_what_another_chapter_has_committed_is_taken_in_and_not_computed_again(tmp_path, monkeypatch):
    """A store that trained a shared ticket anew, on another processor, would give the two chapters other numbers."""
    name, other = "08_why_not_one_shot", "09_what_retraining_is_for"
    committed = tmp_path / "results"
    committed.mkdir()
    for one in (name, other):
        shutil.copy(runner.results_folder() / f"{one}.lotx", committed)
    monkeypatch.setattr(runner, "results_folder", lambda: committed)
    here = runner.published()
    keys = runner.rests_on(here[name])
    shared = set(keys).intersection(archive.keys(committed / f"{other}.lotx"))
    store = Store(tmp_path / "store")
    runner.take_committed([name], keys, store)
    assert shared and all(key in store for key in shared) and not all(key in store for key in keys)
    runner.take_committed([name], keys, store)  # nothing differs

    anew = Store(tmp_path / "anew")
    [key] = [key for key in sorted(shared) if store.read(key).values][:1]
    record = store.read(key)
    anew.save(key, record.recipe, record.values | {"another": 1.0}, record.arrays, made=record.made)
    with pytest.raises(
        StoreError, match=rf"1 record .* came out otherwise in .*: {key} \({other}.lotx\)\nPublish from"
    ):
        runner.take_committed([name], keys, anew)
    monkeypatch.setattr(runner, "published", lambda: {one: path for one, path in here.items() if one in (name, other)})
    runner.take_committed([name, other], keys, anew)  # both files are written anew
    with pytest.raises(StoreError, match="1 record that other chapters rest on, too"):  # its own file, but not it alone
        runner.take_committed([other], runner.rests_on(here[other]), anew)

    damaged = anew._record(key) / "record.json"
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.warns(UserWarning, match=key):
        runner.take_committed([name], keys, anew)
    assert anew.read(key).values == record.values
    file = committed / f"{other}.lotx"
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(StoreError, match=f"{other}.lotx"):
        runner.take_committed([name], keys, anew)


def test_an_export_in_parts_is_taken_in_as_one(tmp_path, monkeypatch):
    name, other = "08_why_not_one_shot", "09_what_retraining_is_for"
    whole, committed = Store(tmp_path / "whole"), tmp_path / "results"
    whole.import_([runner.results_folder() / f"{other}.lotx"])
    assert len(whole.export(whole.keys(), committed / f"{other}.lotx", part_bytes=1_500_000)) > 1
    monkeypatch.setattr(runner, "results_folder", lambda: committed)
    keys = runner.rests_on(runner.published()[name])
    runner.take_committed([name], keys, store := Store(tmp_path / "store"))
    assert set(store.keys()) == set(whole.keys()) & set(keys)  # and nothing else


def test_all_claims_are_listed_with_what_came_out(capsys):
    assert main(["list"]) == 0
    said, rules = capsys.readouterr().out.splitlines(), claims.load()
    listed = {line.split()[0]: line for line in said if line.startswith("  ")}
    listed.pop("claim"), listed.pop('"reconstructed"')  # the head, and words below
    chapters = [f"{name}:" for name in planning.names()]
    assert said[0].split()[0] == "claim" and [line for line in said if line in chapters] == chapters
    assert all(rule.title.startswith(listed[name][said[0].index("title") :]) for name, rule in rules.items())
    assert listed.keys() == rules.keys() and all(rule.title in listed[name] for name, rule in rules.items())
    for path in runner.published().values():
        for name, verdict in nbformat.read(path, as_version=4).metadata["lottery"]["verdicts"].items():
            assert verdict["label"] in listed[name] and verdict["scale"] in listed[name]
    assert main(["list", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        said[0],
        said[said.index("01_winning_tickets:")],
        listed["C-C1"],
    ]


@pytest.mark.parametrize("count, said", [(1, "1 problem: not all"), (2, "2 problems: not all"), (0, "all gates are")])
def test_verify_counts_what_is_wrong(count, said, monkeypatch, capsys):
    monkeypatch.setattr(gates, "verify", lambda: ["wrong"] * count)
    assert main(["verify"]) == bool(count)
    written = capsys.readouterr()
    assert said in (written.err if count else written.out) and written.err.count("wrong\n") == count


def test_power_prints_a_command_that_is_taken_or_says_that_none_is(capsys):
    """Of every open claim: the published study with more replicates, and nothing else, where the chapter takes them."""
    printed, taken = [], 0
    published = {one: nbformat.read(path, as_version=4).metadata for one, path in runner.published().items()}

    @functools.cache
    def known(chapter, profile):
        return len(planning.Part(chapter, profile, published[chapter]["lottery"]["parameters"]).keys)

    for name, rule in claims.load().items():
        if rule.chapter in published:
            assert main(["power", name]) == 0
            printed += (said := capsys.readouterr().out.splitlines())
            if not said[-1].startswith("python -m lottery run"):
                continue
            taken += 1
            words = shlex.split(said[-1])
            part = planning.Part(words[4], words[6], dict(zip(words[8::3], words[9::3], strict=True)))
            old = published[rule.chapter]["lottery"]["parameters"]
            declared = parameters.parameters_of(planning.source(rule.chapter))
            now = {key: one.default for key, one in declared.items()} | part.parameters
            changed = [key for key, value in old.items() if now[key] != value]
            assert changed and all(key.endswith("replicates") for key in changed), name
            assert len(part.keys) > known(part.chapter, part.profile), name
    assert taken and any("that the chapter takes" in line for line in printed)


@pytest.mark.parametrize("harm", ["one byte", "cut off"])
def test_damaged_records_are_noticed(harm, tmp_path):
    file = min(runner.results_files(), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    if harm == "one byte":
        data[len(data) // 2] ^= 1
    (tmp_path / file.name).write_bytes(data if harm == "one byte" else data[: len(data) // 2])
    [problem] = gates.check_records({}, [tmp_path / file.name])
    assert file.name in problem and gates.check_records({}, [file]) == []


def edited(tmp_path, change):
    """A copy of a published page with a change."""
    path = runner.published()["13_capacity"]
    notebook = nbformat.read(path, as_version=4)
    change(notebook.cells)
    nbformat.write(notebook, tmp_path / path.name)
    return gates.check_executed(tmp_path / path.name)


def other_output(cells):
    shown = next(
        output for cell in cells for output in cell.get("outputs", ()) if "text/html" in output.get("data", {})
    )
    shown.data["text/html"] += "<p>Tickets always win.</p>"


def test_a_page_that_somebody_has_edited_is_noticed(tmp_path):
    assert edited(tmp_path, lambda cells: None) == []
    changed = ("cells[0].source", "cells[-1].source")
    for number, _ in zip((0, -1), changed, strict=True):
        [problem] = edited(tmp_path, lambda cells, number=number: cells[number].update(source="Tickets always win."))
        assert "not as in its source notebook: cell" in problem
    assert any("cells, its source notebook" in problem for problem in edited(tmp_path, lambda cells: cells.pop()))
    [problem] = edited(tmp_path, other_output)
    assert "its outputs are not those" in problem


def test_a_chapter_in_a_comment_of_the_contents_is_none(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n- chapters:\n  - file: book/chapters/01_one\n"
        "#  - file: book/chapters/02_two\n    sections:\n    - file: book/chapters/03_three\n  - file: book/methods\n"
    )
    assert build.contents(tmp_path) == ["01_one", "03_three"]


def test_a_note_whose_values_nobody_glues_is_noticed(monkeypatch):
    name, rules = "13_capacity", claims.load()
    path = runner.published()[name]
    rule = next(rule for rule in rules.values() if rule.chapter == name)
    monkeypatch.setattr(claims, "load", lambda: rules | {rule.id: rule.model_copy(update={"note": "It is {nowhere}."})})
    assert f"the note of {rule.id} names values that are not glued: nowhere" in gates.check_published(name, path)


def test_outcomes_by_an_earlier_rule_are_not_told_as_todays(monkeypatch, capsys):
    monkeypatch.setattr(claims.Rule, "hash", property(lambda rule: "another"))
    assert main(["power", "C-C10"]) == 1
    assert "no published verdict by its present rule" in capsys.readouterr().err
    assert main(["list", "13"]) == 0
    assert "by an earlier rule" in capsys.readouterr().out


def test_a_notebook_that_is_cut_off_is_named(tmp_path):
    path = runner.published()["13_capacity"]
    for text in (path.read_text(encoding="utf-8")[:5000], "", "[]", "{}"):
        (tmp_path / "cut.ipynb").write_text(text, encoding="utf-8")
        with pytest.raises(parameters.ChapterError, match=r"cut\.ipynb is no whole notebook"):
            planning.read(tmp_path / "cut.ipynb")


def test_nothing_is_published_beside_committed_records_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "99_cut.lotx").write_bytes(b"PK and no more")
    files = runner.results_files
    monkeypatch.setattr(runner, "results_files", lambda: [*files(), tmp_path / "99_cut.lotx"])
    with pytest.raises(StoreError, match="99_cut"):
        runner.take_committed([], [], Store(tmp_path / "store"))
