"""Keys and records that earlier versions wrote are those of this one; see `golden_recipes`, which wrote the files."""

import json
from dataclasses import fields, is_dataclass

import golden_recipes  # beside this file, which pytest puts on the path
import numpy as np
import pytest

from lottery.engine.execute import execute, plan
from lottery.engine.store import Store
from lottery.recipes import Altered, Counted, Mask, Recipe, Round, Weights, closure
from lottery.worth import Speed

RECIPES, COMPUTED = golden_recipes.golden()
KEYS = json.loads(golden_recipes.KEYS.read_text())
HASHES = json.loads(golden_recipes.HASHES.read_text())


def computed_recipes():
    return [RECIPES[label] for label in sorted(COMPUTED)]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A store with the records that an earlier version exported."""
    store = Store(tmp_path_factory.mktemp("imported"))
    assert sorted(store.import_([golden_recipes.EXPORT])) == sorted(HASHES)
    return store


@pytest.fixture(scope="module")
def recomputed(tmp_path_factory):
    """A store with the same records, computed by this version, here."""
    store = Store(tmp_path_factory.mktemp("recomputed"))
    execute(computed_recipes(), store, executor="inline", show=False)
    return store


def parts(value):
    """The recipes that a recipe is made of, itself included."""
    if isinstance(value, Recipe):
        yield value
    if is_dataclass(value):
        value = tuple(getattr(value, field.name) for field in fields(value))
    if isinstance(value, tuple):
        for item in value:
            yield from parts(item)


def classes(kind):
    """A class and all that derive from it."""
    return {kind}.union(*map(classes, kind.__subclasses__()))


def leaves(value):
    """The numbers and texts in the values of a record, each with the way to it."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {(name, *way): leaf for name, item in items for way, leaf in leaves(item).items()}
    return {(): value}


def differ(old, new):
    """By how much arrays of one shape differ, relative to the first; packed bits are compared bit by bit."""
    if old.dtype == np.uint8:
        old, new = np.unpackbits(old), np.unpackbits(new)
    same = (old == new) | (np.isnan(old) & np.isnan(new))
    return np.abs(old[~same].astype(float) - new[~same]).sum() / max(np.abs(old[np.isfinite(old)]).sum(), 1e-9)


def test_keys_are_those_of_earlier_versions():
    assert {label: recipe.key for label, recipe in RECIPES.items()} == KEYS


def test_every_class_of_recipes_is_in_a_golden_record():
    """A new one is added to `golden_recipes.golden`; then `python tests/golden_recipes.py` adds its record.

    `Speed` is none: it times the machine that it runs on, and no two of its records are the same.
    """
    ours = {kind for kind in classes(Recipe) if kind.__module__.startswith("lottery.")}
    assert ours - {Recipe, Weights, Altered, Mask, Counted, Round, Speed} == {
        type(part) for recipe in computed_recipes() for part in parts(recipe)
    }


def test_records_of_earlier_versions_are_read(imported):
    assert {key: golden_recipes.hashes(imported.read(key)) for key in imported.keys()} == HASHES


def test_records_of_earlier_versions_are_of_the_recipes_with_their_keys(imported):
    stored = [recipe for recipe in closure(computed_recipes()) if recipe.stored]
    assert {recipe.key for recipe in stored} == set(HASHES)
    for recipe in stored:
        assert imported.read(recipe.key).recipe == json.loads(json.dumps(recipe.json())), recipe


def test_nothing_that_was_imported_is_computed_again(imported):
    assert plan(computed_recipes(), imported) == {}


def test_recomputed_records_are_the_same_bit_for_bit(imported, recomputed):
    then, now = (store.read(RECIPES["dense"].key).made for store in (imported, recomputed))
    for name in ("torch", "device"):
        if then[name] != now[name]:
            pytest.skip(
                f"the records were made with {name} {then[name]}, this is {now[name]}: products round otherwise"
            )
    assert {key: golden_recipes.hashes(recomputed.read(key)) for key in recomputed.keys()} == HASHES


def test_recomputed_records_are_the_same_up_to_rounding(imported, recomputed):
    """Wherever it runs: with other vector instructions floats differ by up to 3e-6, one histogram by 6e-4."""
    for key in HASHES:
        old, new = imported.read(key), recomputed.read(key)
        values, again = leaves(old.values), leaves(new.values)
        assert again.keys() == values.keys(), key
        for way, value in values.items():
            close = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-3, nan_ok=True)
            assert again[way] == close, (key, way)
        assert {name for name in new.arrays if not name.startswith("zeros/")} == old.arrays.keys(), key
        for name, array in old.arrays.items():
            again = new.arrays[name]
            assert (again.dtype, again.shape) == (array.dtype, array.shape), (key, name)
            assert differ(array, again) < 1e-3, (key, name)
