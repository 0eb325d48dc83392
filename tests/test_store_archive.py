"""Exports: the same bytes every time, in parts, held to their manifests, and never more or less than was packed."""

import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support import KEY, OTHER, garble, key_of, put, recipe, same

from lottery.engine import archive, disk
from lottery.engine.records import sha
from lottery.engine.store import DamagedRecord, Store, StoreError
from lottery.recipes import canonical

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def home(tmp_path):
    return Store(tmp_path / "home")


def fill(store, count, size=6000):
    """So many records that cannot be packed smaller; returns their keys in the order made."""
    noise = np.random.default_rng(0)
    for i in range(count):
        arrays = {"a": noise.integers(0, 255, size, dtype=np.uint8)}
        store.save(key_of(i), recipe(i), {}, arrays, {})
    return [key_of(i) for i in range(count)]


def rewritten(source, target, change):
    """A copy of an export with other entries: `change` gets and gives a dict of name → bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in change({name: old.read(name) for name in old.namelist()}).items():
            new.writestr(name, content)
    return target


def first_version(entries):
    """Entries as version 0.1 wrote them: without a manifest."""
    return {name: content for name, content in entries.items() if name != archive.MANIFEST}


def test_records_travel_without_their_weights(store, home, tmp_path):
    keys = fill(store, 5)
    files = store.export(keys, tmp_path / "study.lotx")
    assert files == [tmp_path / "study.lotx"]
    assert sorted(home.import_(files)) == store.keys() == sorted(keys) and home.verify() == []
    assert same(map(home.read, keys), map(store.read, keys))
    assert home.import_(files) == []  # what is there already is left alone


def test_an_export_is_the_same_every_time(store, tmp_path):
    keys = fill(store, 3)
    one, other = (store.export(keys, tmp_path / name)[0].read_bytes() for name in ("a.lotx", "b.lotx"))
    assert one == other


def test_a_large_study_travels_in_parts_of_bounded_size(store, home, tmp_path):
    fill(store, 12)
    files = store.export(store.keys(), tmp_path / "study.lotx", part_bytes=20_000)
    assert [file.name for file in files] == [f"study-{i:02d}.lotx" for i in range(len(files))] and len(files) >= 4
    assert all(file.stat().st_size <= 20_000 for file in files)
    assert len(home.import_(reversed(files))) == 12 and home.keys() == store.keys()


def test_a_cut_part_is_named_and_written_anew_by_the_next_export(store, home, tmp_path):
    fill(store, 12)
    files = store.export(store.keys(), tmp_path / "study.lotx", part_bytes=20_000)
    files[1].write_bytes(files[1].read_bytes()[:5_000])
    assert archive.parts(tmp_path / "study.lotx") == files
    assert store.export(store.keys(), tmp_path / "study.lotx", part_bytes=20_000) == files
    assert len(home.import_(files)) == 12
    alone = tmp_path / "other-01.lotx"
    alone.write_bytes(b"cut")
    assert archive.parts(tmp_path / "other.lotx") == []


def test_an_export_of_so_many_files_takes_records_in_the_order_given(store, home, tmp_path):
    keys = fill(store, 4)[::-1]
    files = store.export(keys, tmp_path / "study.lotx", part_bytes=10_000, files=3)
    assert [path.name for path in files] == ["study-00.lotx", "study-01.lotx", "study-02.lotx"]
    assert home.import_(files) == keys[:3]


# What is there already.


def test_an_export_replaces_the_parts_of_its_name_and_no_other_file(store, tmp_path):
    keys, folder = fill(store, 6), tmp_path / "carry"
    many = store.export(keys, folder / "study.lotx", part_bytes=10_000)
    others = [folder / name for name in ("study-of-last-year.lotx", "study-x.lotx", "studys.lotx", "study.lotx.bak")]
    for path in others:
        path.write_bytes(b"mine")
    hidden = folder / f".study-00.lotx~{disk.HOST}~{2**22 + 1}~0123abcd"  # what an export leaves that was killed
    hidden.write_bytes(b"")
    assert len(many) > 1 and store.export(keys, folder / "study.lotx") == [folder / "study.lotx"]
    assert sorted(folder.iterdir()) == sorted([folder / "study.lotx", *others])
    assert store.export(keys, folder / "study.lotx", part_bytes=10_000) == many
    assert sorted(folder.iterdir()) == sorted([*many, *others])


@pytest.mark.parametrize("stem", ["**", "a[1]", "[!s]?", "long" * 40], ids=["stars", "brackets", "not", "long"])
def test_a_name_of_an_export_is_no_pattern(store, tmp_path, stem):
    keys, folder = fill(store, 6), tmp_path / "carry"
    many, (one,) = (store.export(keys, folder / f"{stem}.lotx", part_bytes=size) for size in (10_000, 10_000_000))
    hidden = folder / f".{many[0].name[:100]}~{disk.HOST}~{2**22 + 1}~0123abcd"
    hidden.write_bytes(b"")
    assert len(many) > 1 and store.export(keys, one) == [one] == list(folder.iterdir())


@pytest.mark.parametrize("version", [1, 2])
def test_an_export_leaves_other_exports_and_folders_of_such_names_alone(store, tmp_path, version):
    keys = fill(store, 3)
    (other,) = store.export(keys[:1], tmp_path / "study-2025.lotx")
    if version == 1:
        rewritten(other, tmp_path / "older", first_version).rename(other)
    (tmp_path / "study-04.lotx").mkdir()
    (tmp_path / "study-04.lotx" / "thesis.tex").write_text("...")
    before = other.read_bytes()
    (one,) = store.export(keys, tmp_path / "study.lotx")
    assert archive.parts(one) == [one] and other.read_bytes() == before
    assert (tmp_path / "study-04.lotx" / "thesis.tex").exists()


def test_an_export_in_parts_writes_over_no_other_export(store, tmp_path):
    keys = fill(store, 3)
    (other,) = store.export(keys[:1], tmp_path / "study-01.lotx")
    before = other.read_bytes()
    with pytest.raises(StoreError, match=r"study-01.lotx is there already, and is no part of .*study.lotx"):
        store.export(keys, tmp_path / "study.lotx", part_bytes=10_000)
    assert list(tmp_path.glob("*.lotx")) == [other] and other.read_bytes() == before


def test_parts_of_the_first_version_are_those_numbered_without_a_gap(store, tmp_path):
    keys = fill(store, 4)
    for path in store.export(keys, tmp_path / "study.lotx", part_bytes=10_000):
        rewritten(path, tmp_path / "older", first_version).rename(path)
    (tmp_path / "study-01.lotx").rename(tmp_path / "study-17.lotx")
    assert archive.parts(tmp_path / "study.lotx") == []
    (tmp_path / "study-17.lotx").rename(tmp_path / "study-01.lotx")
    assert len(archive.parts(tmp_path / "study.lotx")) == 4
    assert store.export(keys, tmp_path / "study.lotx") == [tmp_path / "study.lotx"] == list(tmp_path.glob("*.lotx"))


def test_an_export_of_nothing_removes_nothing(store, tmp_path):
    put(store)
    (file,) = store.export([KEY], tmp_path / "study.lotx")
    before = file.read_bytes()
    assert store.export([], tmp_path / "study.lotx") == [] and file.read_bytes() == before


@pytest.mark.parametrize("there", [os.mkdir, os.mkfifo])
def test_an_export_takes_the_place_of_no_folder_or_device(store, tmp_path, there):
    put(store)
    there(tmp_path / "study.lotx")
    with pytest.raises(StoreError, match=r"study.lotx is there already, and is no file"):
        store.export([KEY], tmp_path / "study.lotx")
    assert [path.name for path in tmp_path.glob("study*")] == ["study.lotx"] and not (tmp_path / "study.lotx").is_file()


@pytest.mark.parametrize("part", [1, 2, 3])
def test_an_export_that_fails_leaves_the_old_one(store, home, tmp_path, monkeypatch, part):
    keys = fill(store, 3)
    old = store.export(keys, tmp_path / "study.lotx")
    write, left = disk.write, part

    def full(path, data, flush=True):
        nonlocal left
        left -= 1
        if not left:
            raise OSError(28, "No space left on device")
        write(path, data, flush)

    monkeypatch.setattr(disk, "write", full)
    with pytest.raises(StoreError, match="no space left for the export"):
        store.export(keys, tmp_path / "study.lotx", part_bytes=8_000)
    monkeypatch.undo()
    assert len(home.import_(old)) == 3 and [*tmp_path.glob("*.lotx"), *tmp_path.glob(".*")] == old


def test_what_cannot_be_exported_is_named_all_of_it(store, tmp_path):
    keys = fill(store, 4)
    (old,) = store.export(keys, tmp_path / "study.lotx")
    before = old.read_bytes()
    both = "(?s)" + ".*".join(f"no record {key}" for key in sorted(keys[:2]))
    for key in keys[:2]:
        garble(store._record(key) / "record.json")
    with (
        pytest.warns(DamagedRecord),
        pytest.raises(StoreError, match=both),
    ):
        store.export(keys, old)
    assert old.read_bytes() == before


# Imports of what was changed.


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("change", ["value", "array", "name", "path", "missing", "missing record"])
def test_a_tampered_export_is_refused(store, home, tmp_path, change, version):
    put(store)

    def tamper(entries):
        entries, new = first_version(entries) if version == 1 else entries, {}
        for name, content in entries.items():
            if change == "value" and name.endswith("record.json"):
                content = json.dumps(json.loads(content) | {"values": {"value": 0.99}}).encode()
            if change == "array" and name.endswith("safetensors"):
                content = content[:-1] + b"\x07"
            if change == "missing" and name.endswith("safetensors"):
                continue
            if change == "missing record" and name.endswith("record.json"):
                continue
            if name != archive.MANIFEST:
                name = {"name": name.replace(KEY, OTHER), "path": f"../../{name}"}.get(change, name)
            new[name] = content
        return new

    target = rewritten(store.export([KEY], tmp_path / "study.lotx")[0], tmp_path / "tampered.lotx", tamper)
    with pytest.raises(StoreError, match=r"tampered.lotx is damaged at record"):
        home.import_([target])
    assert home.keys() == [] and home.verify() == []


def test_a_record_whose_content_is_another_recipe_s_is_refused(store, home, tmp_path):
    put(store)

    def exchanged(entries):
        name = f"{KEY}/record.json"
        body = json.loads(entries[name]) | {"recipe": recipe(7)}
        del body["sha256"]
        text = json.dumps(body | {"sha256": sha(canonical(body))}).encode()
        return first_version(entries) | {name: text}

    target = rewritten(store.export([KEY], tmp_path / "study.lotx")[0], tmp_path / "other.lotx", exchanged)
    with pytest.raises(StoreError, match="belongs to another recipe"):
        home.import_([target])
    assert home.keys() == []


@pytest.mark.parametrize("version", [1, 2])
def test_one_bad_record_hides_no_other_and_all_are_named(store, home, tmp_path, version):
    keys = fill(store, 5)

    def harmed(entries):
        entries = first_version(entries) if version == 1 else entries
        deep = {f"{keys[0]}/record.json": b"[" * 200_000, f"{keys[3]}/arrays.safetensors": b""}
        return entries | deep

    target = rewritten(store.export(keys, tmp_path / "study.lotx")[0], tmp_path / "harmed.lotx", harmed)
    with pytest.raises(StoreError, match=rf"(?s)record ({keys[0]}|{keys[3]}).*record ({keys[0]}|{keys[3]}).*3 new"):
        home.import_([tmp_path / "nowhere.lotx", target])
    assert home.keys() == sorted({*keys} - {keys[0], keys[3]}) and home.verify() == []


def test_a_record_less_than_the_manifest_says_is_named(store, home, tmp_path):
    keys = fill(store, 3)

    def less(entries):
        return {name: content for name, content in entries.items() if not name.startswith(keys[1])}

    target = rewritten(store.export(keys, tmp_path / "study.lotx")[0], tmp_path / "less.lotx", less)
    with pytest.raises(StoreError, match=f"less.lotx is damaged at record {keys[1]}: the manifest names it among 3"):
        home.import_([target])
    assert home.keys() == sorted({*keys} - {keys[1]})


def test_a_missing_part_is_named_and_the_others_are_taken_in(store, home, tmp_path):
    fill(store, 4)
    files = store.export(store.keys(), tmp_path / "study.lotx", part_bytes=10_000)
    with pytest.raises(StoreError, match=r"part 2 of 4 is missing, which belongs to .*study-00.lotx.*study-03.lotx"):
        home.import_([files[0], files[2], files[3]])
    assert len(home.keys()) == 3
    assert len(home.import_(files)) == 1


def test_parts_of_two_exports_are_not_taken_for_one(store, home, tmp_path):
    keys = fill(store, 4)
    one = store.export(keys, tmp_path / "one.lotx", part_bytes=10_000)
    other = store.export(keys[1:], tmp_path / "other.lotx", part_bytes=10_000)
    with pytest.raises(StoreError, match=r"(?s)part 1 of 3 is missing.*other-01"):
        home.import_([*one, *other[1:]])


def test_what_unpacks_to_far_more_is_refused_before_it_is_unpacked(home, tmp_path, monkeypatch):
    bomb = tmp_path / "bomb.lotx"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{KEY}/arrays.safetensors", bytes(2**24))
    monkeypatch.setattr(archive, "FLOOR", 2**21)
    monkeypatch.setattr(zipfile.ZipExtFile, "read", None)  # would be called for any content
    with pytest.raises(StoreError, match="would unpack to 16,777,216 bytes, more than 2,097,152"):
        home.import_([bomb])


def test_a_directory_that_understates_a_size_unpacks_no_more_than_it_says(store, home, tmp_path):
    put(store)
    lying = rewritten(
        store.export([KEY], tmp_path / "study.lotx")[0],
        tmp_path / "lying.lotx",
        lambda entries: first_version(entries) | {f"{KEY}/arrays.safetensors": bytes(10**6)},
    )
    content = lying.read_bytes()
    assert content.count((10**6).to_bytes(4, "little")) == 2
    lying.write_bytes(content.replace((10**6).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    with pytest.raises(StoreError, match=f"lying.lotx is damaged at record {KEY}"):
        home.import_([lying])


def test_entries_that_repeat_or_are_packed_otherwise_are_refused(store, home, tmp_path):
    put(store)
    (source,) = store.export([KEY], tmp_path / "study.lotx")
    with zipfile.ZipFile(source) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    for name, how, twice in (("twice", zipfile.ZIP_STORED, True), ("lzma", zipfile.ZIP_LZMA, False)):
        with zipfile.ZipFile(tmp_path / f"{name}.lotx", "w", how) as new, pytest.MonkeyPatch.context() as patch:
            patch.setattr("warnings.warn", lambda *_, **__: None)
            for entry, content in [*entries.items(), *(entries.items() if twice else ())]:
                new.writestr(entry, content)
        with pytest.raises(StoreError, match="no export repeats or packs entries so"):
            home.import_([tmp_path / f"{name}.lotx"])


@pytest.mark.parametrize("change", ["later", "garbled", "form", "list"])
def test_a_manifest_that_is_not_this_version_s_is_refused(store, home, tmp_path, change):
    put(store)

    def changed(entries):
        body = json.loads(entries[archive.MANIFEST])
        body |= {"later": {"format": 99}, "garbled": {"part": 2}, "form": {"part": 0}, "list": {}}[change]
        if change == "form":
            del body["sha256"]
            body["sha256"] = sha(canonical(body))
        return entries | {archive.MANIFEST: json.dumps([body] if change == "list" else body).encode()}

    target = rewritten(store.export([KEY], tmp_path / "study.lotx")[0], tmp_path / "changed.lotx", changed)
    with pytest.raises(StoreError, match="later version" if change == "later" else "is damaged at its manifest"):
        home.import_([target])


@pytest.mark.parametrize("content", [b"", b"not a zip archive", b"PK\5\6" + bytes(18)])
def test_what_is_no_export_is_refused(home, tmp_path, content):
    (tmp_path / "other.lotx").write_bytes(content)
    with pytest.raises(StoreError, match=r"other.lotx is (not an export|an empty zip archive)"):
        home.import_([tmp_path / "other.lotx"])


def test_a_file_that_is_missing_a_folder_and_a_cut_one_are_told_apart(store, home, tmp_path):
    fill(store, 2, size=40)
    [whole] = store.export(store.keys(), tmp_path / "study.lotx")
    (cut := tmp_path / "cut.lotx").write_bytes(whole.read_bytes()[:-50])
    with pytest.raises(StoreError) as caught:
        home.import_([tmp_path / "nofile.lotx", tmp_path, cut])
    missing, folder, half, *_ = str(caught.value).splitlines()
    assert missing == f"there is no file {tmp_path}/nofile.lotx"
    assert folder == f"{tmp_path} is a folder: name the .lotx files in it"
    assert half.startswith(f"{cut} is not an export of a store, or it was cut off: ")


def test_every_bit_flip_and_cut_of_an_export_is_found_or_changes_nothing(store, tmp_path):
    fill(store, 2, size=40)
    (source,) = store.export(store.keys(), tmp_path / "study.lotx")
    whole, draw, harmed = source.read_bytes(), np.random.default_rng(0), tmp_path / "harmed.lotx"
    for number in range(150):
        at = int(draw.integers(len(whole)))
        if number % 3:
            content = bytearray(whole)
            content[at] ^= 1 << int(draw.integers(8))
        else:
            content = whole[:at]
        harmed.write_bytes(content)
        home = Store(tmp_path / f"home-{number}")
        try:
            complete = len(home.import_([harmed])) == 2
        except StoreError as error:
            assert "harmed.lotx" in str(error)
        else:
            assert complete, f"byte {at}: a record less, without a word"
        assert same(map(home.read, home.keys()), map(store.read, home.keys()))


# What earlier versions wrote.


@pytest.mark.parametrize("source", sorted((ROOT / "book" / "results").glob("*.lotx")), ids=lambda path: path.stem[:2])
def test_committed_records_are_sound(source):
    with archive.Archive(source) as file:
        found = [record.key for record, *_ in file.records()]
    assert file.problems == [] and len(found) == len(file.keys) > 0 and archive.missing([file]) == []
    assert all(re.fullmatch("[0-9a-f]{64}", key) for key in found)


@pytest.mark.parametrize("content", [b"\\documentclass{article}", b"PK\x03\x04 cut"])
def test_an_export_takes_the_name_of_no_other_file(store, tmp_path, content):
    put(store)
    (other := tmp_path / "thesis.tex").write_bytes(content)
    with pytest.raises(StoreError, match=r"thesis.tex is there already, and is no export: export to another name"):
        archive.check_target(other)
    with pytest.raises(StoreError, match="is no export"):
        store.export([KEY], other)
    assert other.read_bytes() == content
    other.write_bytes(b"")
    assert store.export([KEY], other) == [other]  # an empty one, as mktemp makes, holds nothing


def test_an_export_takes_the_name_of_no_part_of_another(store, tmp_path):
    keys = fill(store, 6)
    first, *_ = store.export(keys, tmp_path / "study.lotx", part_bytes=10_000)
    before = first.read_bytes()
    with pytest.raises(StoreError, match=r"study-00.lotx is there already, and is a part of another export"):
        store.export(keys[:1], first)
    assert first.read_bytes() == before
