"""`store verify`, `store rebuild` and their sisters, as a user calls them."""

import dataclasses

import pytest
from torch import nn

from lottery import models, recipes, tickets
from lottery.__main__ import main
from lottery.engine.execute import execute
from lottery.engine.store import DamagedRecord, Store

TRAINING = recipes.training(
    data="digits", model="lenet-10", steps=6, batch=50, optimiser="adam", lr=1e-3, validation=200, evaluate=((6, 6),)
)


@pytest.fixture
def store(tmp_path):
    kept = Store(tmp_path / "results")
    execute([tickets.dense(TRAINING, 0)], kept, executor="inline", show=False)
    return kept


def changed(store, **more):
    """The store's only record with other contents, which its checksums fit."""
    [key] = store.keys()
    old = store.read(key)
    other = Store(store.root.with_name("changed"))
    made = {**old.made, **more.pop("made", {})}
    other.save(key, old.recipe, {**old.values, **more}, old.arrays, made)
    return other


def test_a_sound_record_comes_out_the_same(store, capsys):
    assert main(["store", "rebuild", "--sample", "1", "--store", str(store.root)]) == 0
    assert "Run: the same" in capsys.readouterr().out
    assert main(["store", "verify", "--store", str(store.root)]) == 0
    assert capsys.readouterr().out == "1 record, sound\n"


def test_a_record_that_another_command_has_set_aside_is_missed(store, capsys):
    [key] = store.keys()
    for path in store.root.glob(f"records/*/{key}*/arrays*"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(DamagedRecord):
        assert store.read(key) is None
    assert main(["store", "verify", "--store", str(store.root)]) == 1
    said = capsys.readouterr()
    assert f"set aside and not computed again yet: {key[:12]}" in said.out and "set aside" in said.err


def test_a_record_of_a_network_that_is_not_known_here_hides_no_other(store, capsys, monkeypatch):
    monkeypatch.setattr(models, "_registered", {})
    models.register("a-stranger", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))
    execute([tickets.dense(dataclasses.replace(TRAINING, model="a-stranger"), 0)], store, executor="inline", show=False)
    monkeypatch.setattr(models, "_registered", {})
    assert main(["store", "rebuild", "--sample", "2", "--store", str(store.root)]) == 1
    said = capsys.readouterr()
    assert "Run: the same" in said.out and "a-stranger" in said.out
    assert "1 could not be computed" in said.err and "come out" not in said.err


def test_a_record_that_is_not_what_its_recipe_gives_is_named(store, capsys):
    other = changed(store, test_accuracy_end=0.5)
    [key] = other.keys()
    assert main(["store", "rebuild", key[:8], "--store", str(other.root)]) == 1
    said = capsys.readouterr()
    assert "differs in test_accuracy_end; made with torch" in said.out and "1 did not come out the same" in said.err


def test_records_of_changed_code_are_counted(store, capsys):
    other = changed(store, made={"code": "0" * 16})
    assert main(["store", "verify", "--store", str(other.root)]) == 0
    assert "computed by code that has changed since: 1 Run; " in capsys.readouterr().out


def test_a_device_that_is_not_there_is_said_before_anything_is_computed(store, capsys):
    assert main(["store", "rebuild", "--device", "cuda:999", "--store", str(store.root)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: device 'cuda:999' was asked for")


@pytest.mark.parametrize("command", [["ls"], ["show", "aa"], ["verify"], ["rebuild"], ["gc"], ["export", "x.lotx"]])
def test_a_folder_that_is_no_store_is_named(command, tmp_path, capsys):
    assert main(["store", *command, "--store", str(tmp_path)]) == 1
    assert (
        f'there is no store at {tmp_path}: name its folder (in Python Store("FOLDER"), on the '
        in capsys.readouterr().err
    )


def test_files_that_are_not_there_are_an_error_and_make_no_store(tmp_path, capsys):
    names = [f"{tmp_path}/nothing.lotx", f"{tmp_path}/no*.lotx"]
    assert main(["store", "import", *names, "--store", str(tmp_path / "new")]) == 1
    said = [f"there is no file {names[0]}", f"there is no file {names[1]}, nor one that fits this pattern"]
    assert capsys.readouterr().err == f"error: {said[0]}\n{said[1]}\n" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["rebuild"], ["export", "x.lotx"]])
def test_a_store_without_records_is_an_error_where_some_are_asked_for(command, tmp_path, capsys):
    (tmp_path / "records").mkdir()
    assert main(["store", *command, "--store", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"error: the store {tmp_path} has no records\n"
