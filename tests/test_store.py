"""The store: whole records or none, damage found and named, full disks, kills, races, journeys in parts."""

import json
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from lottery import recipes as r
from lottery import tickets
from lottery.engine import store as module
from lottery.engine.execute import ExecutionError, execute
from lottery.engine.store import DamagedRecord, Store, StoreError

ROOT = Path(__file__).resolve().parent.parent
KEY = "ab" * 32


def study(levels=2, **changes):
    base = dict(data="digits", model="lenet-8", steps=120, batch=50, optimiser="adam", lr=3e-3, validation=200)
    return tickets.imp(r.training(**{**base, **changes}), 0, levels, 0.2)


def run(recipes, store, **more):
    return execute(recipes, store, executor="inline", show=False, **more)


def put(store, key=KEY, value=1.0, size=10, states=None):
    store.save(key, {"type": "Test"}, {"value": value}, {"a": np.arange(size)}, {"seconds": 1}, states)


def same(one, other):
    """Whether two lists of records agree in everything but how they were made."""
    return all(
        a.key == b.key
        and a.recipe == b.recipe
        and a.values == b.values
        and a.arrays.keys() == b.arrays.keys()
        and all(np.array_equal(a.arrays[name], b.arrays[name], equal_nan=True) for name in a.arrays)
        for a, b in zip(one, other, strict=True)
    )


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A store with a finished study: three runs, two masks. Only copied, never changed."""
    store = Store(tmp_path_factory.mktemp("finished") / "store")
    run(study(), store)
    return store


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished.root, tmp_path / "copy")
    return Store(tmp_path / "copy")


# Records.


def test_a_record_comes_back_as_it_was_saved(store):
    put(store, states={5: {"w": torch.arange(3.0)}})
    record = store.read(KEY)
    assert (record.key, record.recipe) == (KEY, {"type": "Test"})
    assert (record.values, record.made) == ({"value": 1.0}, {"seconds": 1})
    np.testing.assert_array_equal(record.arrays["a"], np.arange(10))
    assert torch.equal(store.state(KEY, 5)["w"], torch.arange(3.0)) and store.states(KEY) == {5}


def test_what_is_not_there_is_none(store):
    assert store.read(KEY) is None and store.state(KEY, 0) is None and store.keys() == [] and KEY not in store
    assert not store.root.exists()


def test_a_record_is_never_overwritten_but_states_are_added(store):
    put(store, value=1.0)
    put(store, value=2.0, states={7: {"w": torch.ones(2)}})
    assert store.read(KEY).values["value"] == 1.0 and store.states(KEY) == {7}


def test_strange_numbers_survive(store):
    store.save(KEY, {}, {"loss": float("inf"), "none": None}, {"empty": np.zeros((0, 3)), "scalar": np.array(2.5)}, {})
    record = store.read(KEY)
    assert record.values == {"loss": float("inf"), "none": None}
    assert record.arrays["empty"].shape == (0, 3) and record.arrays["scalar"] == 2.5


def test_a_file_in_place_of_the_store_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        Store(tmp_path / "file")


def test_a_store_of_a_later_version_is_an_error(store):
    put(store)
    (store.root / "format").write_text("99\n")
    with pytest.raises(StoreError, match="later version"):
        Store(store.root)


# Damage.


def garble(path):
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("file", ["record.json", "arrays.safetensors"])
@pytest.mark.parametrize("harm", ["garble", "cut", "empty", "remove", "list"])
def test_a_damaged_record_is_set_aside_with_a_warning_that_names_it(store, file, harm):
    put(store)
    path = store._record(KEY) / file
    if harm == "garble":
        garble(path)
    elif harm == "remove":
        path.unlink()
    else:
        path.write_bytes({"cut": path.read_bytes()[:-5], "empty": b"", "list": b"[1]"}[harm])
    with pytest.warns(DamagedRecord, match=f"{KEY} is damaged .*will be computed again"):
        assert store.read(KEY) is None
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert store.read(KEY) is None and store.keys() == []


def test_a_record_under_another_key_is_damaged(store):
    put(store)
    other = "cd" * 32
    store._record(other).parent.mkdir(parents=True)
    store._record(KEY).rename(store._record(other))
    with pytest.warns(DamagedRecord, match=other):
        assert store.read(other) is None


def test_a_damaged_record_is_computed_again_and_the_same(copy, finished):
    chain = study()
    garble(copy._record(chain[1].key) / "record.json")
    with pytest.warns(DamagedRecord, match=chain[1].key):
        again = run(chain, copy)
    assert same(again, [finished.read(run_.key) for run_ in chain]) and copy.verify() == []


def test_damaged_weights_are_computed_again_when_they_are_needed(copy, finished):
    chain = study()
    garble(next(copy._record(chain[1].key).glob("weights-120-*")))
    shutil.rmtree(copy._record(chain[2].mask.key))
    with pytest.warns(DamagedRecord, match=f"weights of {chain[1].key} at step 120"):
        run([chain[2].mask], copy)
    assert same([copy.read(chain[2].mask.key)], [finished.read(chain[2].mask.key)])
    state, before = (where.state(chain[1].key, 120) for where in (copy, finished))
    assert all(torch.equal(state[name], before[name]) for name in before)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 1000])
def test_a_damaged_checkpoint_makes_the_run_start_over(store, finished, content):
    put(store)  # makes the folders
    dense = study()[0]
    (store.root / "partial" / f"{dense.key}.safetensors").write_bytes(content)
    with pytest.warns(DamagedRecord, match=f"checkpoint {dense.key}.* is damaged: the run starts over"):
        records = run([dense], store)
    assert same(records, [finished.read(dense.key)])
    assert not list((store.root / "partial").iterdir())


def test_verify_finds_all_damage_and_names_it(copy):
    chain = study()
    garble(copy._record(chain[0].key) / "arrays.safetensors")
    garble(next(copy._record(chain[2].key).glob("weights-*")))
    found = copy.verify()
    assert len(found) == 2 and all(any(run_.key in line for line in found) for run_ in (chain[0], chain[2]))
    assert copy.verify() == []


def test_a_record_that_appears_while_it_is_asked_for_is_no_damage(store, monkeypatch):
    exists = Path.exists

    def late(path):
        answer = exists(path)
        if path == store._record(KEY) and not answer:
            put(store)  # another process finishes just now
        return answer

    monkeypatch.setattr(Path, "exists", late)
    assert store.read(KEY) is None
    assert store.read(KEY).values == {"value": 1.0}


# Kills and full disks.

WRITER = """
import os, random, signal, sys, time
from pathlib import Path
import numpy as np, torch
from lottery.engine.store import Store

store, draw = Store(sys.argv[1]), random.Random(0)
for round in range(40):
    child = os.fork()
    if child == 0:
        for i in range(10**6):
            key = f"{round:02x}{i:062x}"
            weights = {"w": torch.full((20000,), float(i))}
            store.save(key, {"i": i}, {"i": i}, {"a": np.full(5000, i)}, {}, {0: weights})
            store.checkpoint(f"{round:02x}{0:062x}").save(weights)
    while not any(Path(sys.argv[1]).glob(f"records/{round:02x}/[!.]*")):
        time.sleep(0.001)
    time.sleep(draw.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_kill_9_at_any_moment_leaves_whole_records_and_checkpoints_only(store):
    subprocess.run([sys.executable, "-c", WRITER, str(store.root)], cwd=ROOT, check=True)
    keys = store.keys()
    assert len({key[:2] for key in keys}) == 40
    assert store.verify() == []
    for key in keys:
        record, i = store.read(key), int(key[2:], 16)
        assert record.values == {"i": i} and (record.arrays["a"] == i).all() and len(record.arrays["a"]) == 5000
        assert (store.state(key, 0)["w"] == i).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for checkpoint in (store.root / "partial").glob("[!.]*"):
            assert len(store.checkpoint(checkpoint.stem).load()["w"]) == 20000
    store.gc()
    assert store.keys() == keys and store.verify() == [] and not list(store.root.glob("**/.*"))


def test_gc_removes_what_a_killed_writer_left(store):
    put(store)
    abandoned = store._record(KEY).with_name(f".{KEY}.0123")  # what every kill in mid-write leaves
    abandoned.mkdir()
    for name in ("weights-0-0123.safetensors", ".weights-0-0123.safetensors.4567", "arrays.safetensors"):
        (abandoned / name).write_bytes(b"1234")
    assert store.gc(dry_run=True) == store.gc() == 12
    assert store.keys() == [KEY] and store.verify() == [] and not list(store.root.glob("**/.*"))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 kB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "none", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_is_a_clear_error_and_leaves_the_store_as_it_was(small_disk):
    store = Store(small_disk / "store")
    put(store)
    for size in (80_000, 10**6):  # fails in the middle of a file, and at once
        with pytest.raises(StoreError, match=r"no space left for the store .*gc.*finished runs are kept"):
            put(store, "cd" * 32, size=size, states={0: {"w": torch.zeros(5000)}})
    with pytest.raises(StoreError, match="no space left"):
        store.checkpoint(KEY).save({"w": torch.zeros(10**6)})
    assert store.keys() == [KEY] and store.verify() == []
    assert not list(store.root.glob("records/*/.*")) and not list((store.root / "partial").iterdir())


def test_a_study_that_met_a_full_disk_goes_on_when_there_is_space_again(small_disk, finished):
    store, chain = Store(small_disk / "store"), study()
    put(store)
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    os.truncate(filler, filler.stat().st_size - 8 * 4096)  # space for a run, not for the study
    with pytest.raises(ExecutionError, match="no space left for the store"):
        run(chain, store)
    assert chain[0].key in store and chain[2].key not in store and store.verify() == []
    filler.unlink()
    assert same(run(chain, store), [finished.read(run_.key) for run_ in chain])


def test_a_store_that_cannot_be_written_can_be_read(small_disk, finished):
    shutil.copytree(finished.root, small_disk / "store")
    store, chain = Store(small_disk / "store"), study()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    assert same(run(chain, store), [finished.read(run_.key) for run_ in chain])
    assert store.verify() == []
    with pytest.raises(StoreError, match="cannot be written"):
        put(store)
    with pytest.raises(ExecutionError, match=r"StoreError: the store .* cannot be written"):
        run(study(3), store)


def test_damage_in_a_store_that_cannot_be_written_is_a_clear_error(small_disk, finished):
    shutil.copytree(finished.root, small_disk / "store")
    store = Store(small_disk / "store")
    garble(store._record(study()[0].key) / "record.json")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError, match="cannot be written"):
        store.read(study()[0].key)


# Two at once.

RACER = """
import os, sys, time
from pathlib import Path
from lottery import recipes as r, tickets
from lottery.engine import train as engine
from lottery.engine.execute import execute
from lottery.engine.store import Store

folder, train = Path(sys.argv[1]), engine.train

def counted(*args, **kwargs):
    with open(folder / "trained", "a") as file:
        file.write("1\\n")
    return train(*args, **kwargs)

engine.train = counted
training = r.training(data="digits", model="lenet-8", steps=1500, batch=50, optimiser="adam", lr=3e-3, validation=200)
(folder / f"ready-{os.getpid()}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.002)
records = execute(tickets.imp(training, 0, 2, 0.2), Store(folder / "store"), executor="inline", show=False)
print([record.values["test_loss_end"] for record in records])
"""


def test_two_processes_that_want_the_same_runs_compute_each_once(tmp_path):
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, tmp_path], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [racer.communicate()[0] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0] and said[0] == said[1] != ""
    assert (tmp_path / "trained").read_text().split() == ["1"] * 3
    assert Store(tmp_path / "store").verify() == []


# Upkeep and journeys.


def test_gc_keeps_records_and_what_it_is_told_to_keep(copy):
    chain, keys = study(), copy.keys()
    before = sum(path.stat().st_size for path in copy.root.glob("**/weights-*"))
    kept = next(copy._record(chain[1].key).glob("weights-*")).stat().st_size
    assert copy.gc(keep=[chain[1].key]) == before - kept
    assert copy.keys() == keys and copy.states(chain[1].key) == {120} and copy.states(chain[0].key) == set()


def test_after_gc_a_longer_study_completes_and_equals_one_that_kept_all(copy, finished, tmp_path):
    copy.gc()
    longer = run(study(4), copy)
    assert same(longer, run(study(4), Store(tmp_path / "fresh")))
    assert same(longer[:3], [finished.read(run_.key) for run_ in study()])


def test_gc_drops_checkpoints_of_finished_runs_only(copy):
    done, open_ = study()[0].key, "ef" * 32
    for checkpoint in (copy.checkpoint(done), copy.checkpoint(done, open_), copy.checkpoint(open_)):
        checkpoint.save({"w": torch.zeros(3)})
    copy.gc()
    assert [path.stem for path in (copy.root / "partial").iterdir()] == [open_]


def test_runs_that_train_together_have_a_checkpoint_of_their_own(store):
    keys = "a" * 64, "b" * 64, "c" * 64
    paths = {
        store.checkpoint(*together).path
        for together in (keys[:1], keys[1:2], keys[:2], keys[:3], (keys[0], keys[2]), (keys[0], keys[2], keys[1]))
    }
    assert len(paths) == 6


def test_a_study_travels_in_one_file(finished, store, tmp_path):
    files = finished.export(finished.keys(), tmp_path / "study.lotx")
    assert files == [tmp_path / "study.lotx"]
    assert sorted(store.import_(files)) == finished.keys() and store.verify() == []
    assert same([store.read(key) for key in finished.keys()], [finished.read(key) for key in finished.keys()])
    assert run(study(), store)  # everything is found; nothing has weights, nothing is computed
    assert not any(store.states(key) for key in store.keys())


def test_a_large_study_travels_in_parts_of_bounded_size(store, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PART_BYTES", 20_000)
    noise = np.random.default_rng(0)
    for i in range(12):
        store.save(f"{i:064x}", {}, {}, {"a": noise.integers(0, 255, 6000, dtype=np.uint8)}, {})
    files = store.export(store.keys(), tmp_path / "study.lotx")
    assert [file.name for file in files] == [f"study-{i:02d}.lotx" for i in range(len(files))] and len(files) >= 4
    assert all(file.stat().st_size <= 20_000 for file in files)
    home = Store(tmp_path / "home")
    assert len(home.import_(reversed(files))) == 12 and home.keys() == store.keys()


def test_parts_are_at_most_15_mebibytes():
    assert module.PART_BYTES == 15 * 2**20


def test_an_export_is_the_same_every_time(finished, tmp_path):
    one, other = (finished.export(finished.keys(), tmp_path / name)[0].read_bytes() for name in ("a.lotx", "b.lotx"))
    assert one == other


def test_what_is_there_already_is_left_alone(finished, copy, tmp_path):
    assert copy.import_(finished.export(finished.keys(), tmp_path / "study.lotx")) == []


def test_an_export_of_so_many_files_takes_records_in_the_order_given(store, tmp_path, monkeypatch):
    keys = [letter * 64 for letter in "dacb"]
    noise = np.random.default_rng(0)
    for key in keys:
        store.save(key, {}, {}, {"a": noise.integers(0, 255, 6000, dtype=np.uint8)}, {})
    monkeypatch.setattr(module, "PART_BYTES", 10_000)
    files = store.export(keys, tmp_path / "study.lotx", files=3)
    assert [path.name for path in files] == ["study-00.lotx", "study-01.lotx", "study-02.lotx"]
    assert Store(tmp_path / "other").import_(files) == keys[:3]


def test_exporting_what_is_not_there_is_an_error(finished, tmp_path):
    with pytest.raises(StoreError, match=f"no record {KEY}"):
        finished.export([KEY], tmp_path / "study.lotx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["value", "array", "name", "path", "missing"])
def test_a_tampered_export_is_refused(store, tmp_path, change):
    put(store)
    source, target = store.export([KEY], tmp_path / "study.lotx")[0], tmp_path / "tampered.lotx"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if change == "value" and name.endswith("json"):
                content = json.dumps(json.loads(content) | {"values": {"value": 0.99}}).encode()
            if change == "array" and name.endswith("safetensors"):
                content = content[:-1] + b"\x07"
            if change == "missing" and name.endswith("safetensors"):
                continue
            new.writestr({"name": name.replace("ab", "cd"), "path": f"../../{name}"}.get(change, name), content)
    home = Store(tmp_path / "home")
    with pytest.raises(StoreError, match=r"tampered.lotx is damaged at record"):
        home.import_([target])
    assert home.keys() == []


@pytest.mark.parametrize("content", [b"", b"not a zip archive"])
def test_what_is_no_export_is_refused(store, tmp_path, content):
    (tmp_path / "other.lotx").write_bytes(content)
    with pytest.raises(StoreError, match=r"other.lotx is not an export"):
        store.import_([tmp_path / "other.lotx"])


def test_an_export_cut_short_is_refused(finished, store, tmp_path):
    source = finished.export(finished.keys(), tmp_path / "study.lotx")[0]
    source.write_bytes(source.read_bytes()[:-100])
    with pytest.raises(StoreError, match="is not an export"):
        store.import_([source])
