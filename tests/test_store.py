"""The store: whole records or none, damage found, named and healed, full disks, kills, races, locks, upkeep."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from support import KEY, OTHER, garble, key_of, put, recipe, run, same

from lottery import recipes as r
from lottery import tickets
from lottery.engine import disk, locks
from lottery.engine import train as engine
from lottery.engine.execute import ExecutionError, plan
from lottery.engine.records import sha
from lottery.engine.store import DamagedRecord, Store, StoreError
from lottery.recipes import canonical

ROOT = Path(__file__).resolve().parent.parent


def study(levels=2, **changes):
    base = dict(data="digits", model="lenet-8", steps=120, batch=50, optimiser="adam", lr=3e-3, validation=200)
    return tickets.imp(r.training(**{**base, **changes}), 0, levels, 0.2)


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
    assert (record.key, record.recipe) == (KEY, recipe(0))
    assert (record.values, record.made) == ({"value": 1.0}, {"seconds": 1})
    np.testing.assert_array_equal(record.arrays["a"], np.arange(10))
    assert torch.equal(store.state(KEY, 5)["w"], torch.arange(3.0)) and store.states(KEY) == {5}


def test_what_is_not_there_is_none(store):
    assert store.read(KEY) is None and store.state(KEY, 0) is None and store.keys() == [] and KEY not in store
    assert not store.root.exists()


def test_a_record_is_never_overwritten_but_states_are_added(store):
    put(store, made={"first": 1})
    put(store, made={"second": 2}, states={7: {"w": torch.ones(2)}})
    assert store.read(KEY).made == {"first": 1} and store.states(KEY) == {7}


def test_strange_numbers_survive(store):
    values = {"loss": float("inf"), "none": None, 10: "ten", 9: "nine"}
    store.save(KEY, recipe(0), values, {"empty": np.zeros((0, 3)), "scalar": np.array(2.5)}, {})
    record = store.read(KEY)
    assert record.values == {"loss": float("inf"), "none": None, "10": "ten", "9": "nine"}
    assert record.arrays["empty"].shape == (0, 3) and record.arrays["scalar"] == 2.5


def test_a_file_in_place_of_the_store_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file, not a folder"):
        Store(tmp_path / "file")
    (tmp_path / "partial").write_text("")
    with pytest.raises(StoreError, match="partial; mend that"):
        put(Store(tmp_path))


def test_a_store_stays_where_it_is_when_the_process_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("results")
    put(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.keys() == [KEY]


def test_a_store_of_a_later_version_is_an_error(store):
    put(store)
    (store.root / "format").write_text("99\n")
    with pytest.raises(StoreError, match="later version"):
        Store(store.root)


# Damage.


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
    store._record(OTHER).parent.mkdir(parents=True)
    store._record(KEY).rename(store._record(OTHER))
    with pytest.warns(DamagedRecord, match=f"{OTHER} is damaged .its content belongs to another recipe"):
        assert store.read(OTHER) is None


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


def unusual(store, harm):
    """Gives the record of KEY a right checksum, and other content than this version writes."""
    place, small, body = (
        store._record(KEY),
        b"other arrays",
        {"key": KEY, "recipe": recipe(0), "values": {}, "made": {}},
    )
    body = {**body, "arrays": sha(small if harm == "arrays" else (place / "arrays.safetensors").read_bytes())}
    body |= {"values": [1]} if harm == "values" else {}
    body |= {"recipe": {"type": "Other"}} if harm == "recipe" else {}
    text = json.dumps({**body, "sha256": sha(canonical(body))}).encode()
    if harm == "arrays":
        (place / "arrays.safetensors").write_bytes(small)
    if harm == "deep":
        text = b"[" * 200_000
    if harm == "number":
        text = b'{"sha256": ' + b"9" * 5000 + b"}"
    (place / "record.json").write_bytes(text)


@pytest.mark.parametrize("harm", ["arrays", "values", "recipe", "deep", "number"])
def test_one_unusual_record_hides_no_other(store, tmp_path, harm):
    put(store)
    put(store, 1)
    unusual(store, harm)
    found = store.verify()
    assert len(found) == 1 and KEY in found[0] and store.keys() == [OTHER] and store.verify() == []


def test_what_takes_the_place_of_a_record_is_set_aside(store):
    put(store)
    shutil.rmtree(store._record(KEY))
    store._record(KEY).write_bytes(b"a file")
    (store._record(OTHER) / "record.json").mkdir(parents=True)
    assert len(store.verify()) == 2 and store.keys() == []
    put(store, states={3: {"w": torch.ones(2)}})
    assert store.verify() == [] and store.keys() == [KEY]
    (weights,) = store._record(KEY).glob("weights-*")
    weights.unlink()
    for folder in (weights, store.checkpoint(KEY).path):
        folder.mkdir()
    assert len(store.verify()) == 2 and store.verify() == [] and store.states(KEY) == set()


def test_a_checkpoint_is_saved_whoever_cleared_its_folder_away_but_not_beside_a_store_that_is_gone(store):
    put(store)
    shutil.rmtree(store.root / "partial")
    checkpoint = store.checkpoint(KEY)
    checkpoint.save({"w": torch.ones(2)})
    assert torch.equal(checkpoint.load()["w"], torch.ones(2))
    shutil.rmtree(store.root)
    with pytest.raises(StoreError, match="cannot be reached"):
        checkpoint.save({"w": torch.ones(2)})
    assert not store.root.exists()


def test_verify_goes_on_where_nothing_can_be_set_aside(store):
    for number in range(3):
        put(store, number)
    for number in range(2):
        garble(store._record(key_of(number)) / "record.json")
    (store.root / "damaged").write_bytes(b"in the way")
    found = store.verify()
    assert len(found) == 2 and all(any(key_of(i) in line for line in found) for i in range(2))


@pytest.mark.parametrize(
    "part", [{"values": {"x": object()}}, {"arrays": {"x": np.array([None])}}, {"made": {(1, 2): 3}}, {"recipe": {}}]
)
def test_what_would_not_come_back_is_not_saved(store, part):
    good = {"key": KEY, "recipe": recipe(0), "values": {}, "arrays": {}, "made": {}}
    with pytest.raises(StoreError, match=f"the record {KEY} cannot be kept"):
        store.save(**{**good, **part})
    assert store.keys() == []


@pytest.mark.parametrize("content", [b"q\n", b"", b"1\x00", b"-1", b"9" * 100, "²".encode()])
def test_a_damaged_mark_of_the_format_is_a_clear_error(store, content):
    put(store)
    (store.root / "format").write_bytes(content)
    with pytest.raises(StoreError, match="format is damaged: it should hold the number 1; delete it"):
        Store(store.root)
    (store.root / "format").unlink()
    assert Store(store.root).keys() == [KEY]


def test_a_store_that_is_not_there_is_not_sound(tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path):
        store = Store(folder)
        for asked in (store.verify, store.gc, lambda store=store: store.export([], tmp_path / "x.lotx")):
            with pytest.raises(StoreError, match=f"there is no store at {folder}"):
                asked()
        with pytest.raises(StoreError, match="there is no store at"):
            Store(folder, existing=True)
    assert not list(tmp_path.iterdir())


def test_a_damaged_mask_is_computed_again_though_only_its_run_is_asked_for(copy, finished):
    chain = study()
    mask = chain[1].mask
    garble(copy._record(mask.key) / "arrays.safetensors")
    with pytest.warns(DamagedRecord, match=mask.key):
        run(chain, copy)
    assert same([copy.read(mask.key)], [finished.read(mask.key)]) and copy.lost() == set()


def test_what_verify_set_aside_is_computed_again_by_the_next_run(copy, finished):
    copy.gc()
    chain = study()
    garble(copy._record(chain[2].mask.key) / "record.json")
    assert len(copy.verify()) == 1 and copy.lost() == {chain[2].mask.key}
    assert [line[:12] for line in copy.gaps()] == [chain[2].mask.key[:12]]
    assert list(plan([chain[2]], copy)) == [chain[1].key, chain[2].mask.key]
    run([chain[2]], copy)
    assert same(map(copy.read, copy.keys()), map(finished.read, finished.keys()))
    assert copy.lost() == set() and copy.gaps() == [] and plan(chain, copy) == {}


def test_what_was_never_there_is_not_asked_for(finished, store, tmp_path):
    ticket = study()[2]
    store.import_(finished.export([ticket.key], tmp_path / "ticket.lotx"))
    assert plan([ticket], store) == {} and len(store.gaps()) == 2


def test_weights_of_another_execution_are_refused(copy, finished):
    dense = study()[0]
    record, state = finished.read(dense.key), finished.state(dense.key, 120)
    whole = dense.key, record.recipe, record.values, record.arrays
    copy.gc()
    other = {name: -tensor for name, tensor in state.items()}
    with pytest.raises(StoreError, match=r"are not those of its record .*torch .* continue in a store of its own"):
        copy.save(*whole, {"torch": "0"}, {120: other})
    with pytest.raises(
        StoreError, match=r"they with torch 0 on .*, 3 stacked.* stack as then \(stack=1\), or continue"
    ):
        copy.save(*whole, {"torch": "0", "stacked": 3}, {120: other})
    assert copy.states(dense.key) == set()
    copy.save(*whole, {"torch": "0"}, {120: state, 60: other})  # the end agrees, so the way there does
    assert copy.states(dense.key) == {60, 120} and same([copy.read(dense.key)], [record])


@pytest.mark.parametrize("change", ["values", "signs", "nothing"])
def test_records_without_a_checksum_of_their_weights_are_compared_by_values_and_signs(copy, finished, change):
    dense = study()[0]
    record, state = finished.read(dense.key), finished.state(dense.key, 120)
    shutil.rmtree(copy._record(dense.key))
    copy.save(dense.key, record.recipe, record.values, record.arrays, record.made)  # as version 0.1 wrote it
    assert copy.read(dense.key).states == {}
    arrays, values = dict(record.arrays), dict(record.values)
    if change == "values":
        values["test_loss_end"] += 1e-9
    if change == "signs":
        arrays["signs/fc1.weight"] = arrays["signs/fc1.weight"] ^ 1
    save = dense.key, record.recipe, values, arrays, {}, {120: state}
    if change == "nothing":
        copy.save(*save)
    else:
        with pytest.raises(StoreError, match=r"\d\d\.\d\d% of their signs agree"):
            copy.save(*save)
    assert copy.states(dense.key) == ({120} if change == "nothing" else set())


def test_weights_under_another_run_are_damaged(store):
    for number in range(2):
        put(store, number, states={5: {"w": torch.full((3,), float(number))}})
    mine = next(store._record(KEY).glob("weights-*"))
    theirs = next(store._record(OTHER).glob("weights-*"))
    mine.unlink()
    shutil.copy(theirs, store._record(KEY))
    with pytest.warns(DamagedRecord, match=f"weights of {KEY} at step 5 are damaged .they belong to another run"):
        assert store.state(KEY, 5) is None


def test_a_record_that_appears_while_it_is_asked_for_is_no_damage(store, monkeypatch):
    exists = Path.exists

    def late(path):
        answer = exists(path)
        if path == store._record(KEY) and not answer:
            monkeypatch.setattr(Path, "exists", exists)
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
from lottery.engine.records import sha
from lottery.recipes import canonical
from lottery.engine.store import Store

store, draw = Store(sys.argv[1]), random.Random(0)
for round in range(40):
    child = os.fork()
    if child == 0:
        for i in range(10**6):
            recipe = {"round": round, "i": i}
            key = sha(canonical(recipe))
            weights = {"w": torch.full((20000,), float(i))}
            store.save(key, recipe, {"i": i}, {"a": np.full(5000, i)}, {}, {0: weights})
            store.checkpoint(f"{round:064x}").save(weights)
    while not (Path(sys.argv[1]) / f"partial/{round:064x}.safetensors").exists():
        time.sleep(0.001)
    time.sleep(draw.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_kill_9_at_any_moment_leaves_whole_records_and_checkpoints_only(store):
    subprocess.run([sys.executable, "-c", WRITER, str(store.root)], cwd=ROOT, check=True)
    keys = store.keys()
    assert len({store.read(key).recipe["round"] for key in keys}) == 40
    assert store.verify() == []
    for key in keys:
        record, i = store.read(key), store.read(key).recipe["i"]
        assert record.values == {"i": i} and (record.arrays["a"] == i).all() and len(record.arrays["a"]) == 5000
        assert (store.state(key, 0)["w"] == i).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for checkpoint in (store.root / "partial").glob("[!.]*"):
            assert len(store.checkpoint(checkpoint.stem).load()["w"]) == 20000
    store.gc()
    assert store.keys() == keys and store.verify() == [] and not list(store.root.glob("**/.*"))


def left_behind(path, pid=2**22 + 1, age=0.0):
    """A temporary beside `path` as a writer leaves it that was killed: by default a number that no process can have."""
    path = path.with_name(f".{path.name}~{disk.HOST}~{pid}~0123abcd")
    path.write_bytes(b"1234")
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_gc_removes_what_a_killed_writer_left_and_spares_what_is_being_written(store):
    put(store, states={0: {"w": torch.ones(1)}})
    weights = next(store._record(KEY).glob("weights-*")).stat().st_size
    gone = store._record(KEY).with_name(f".{KEY}~{disk.HOST}~{2**22 + 1}~0123abcd")
    gone.mkdir()
    for name in ("weights-0-0123.safetensors", ".weights-0-0123.safetensors.4567", "arrays.safetensors"):
        (gone / name).write_bytes(b"1234")
    checkpoint, aside = store.checkpoint(OTHER).path, store.root / "damaged" / f"{KEY}-0123"
    aside.mkdir(parents=True)
    left_behind(aside / "weights-2-0123.safetensors")  # of a record that was set aside while it was written
    for path in (store.root / "format", store._record(KEY) / "weights-1-0123.safetensors", checkpoint):
        left_behind(path)
    left_behind(store.checkpoint(KEY).path, os.getpid(), age=7200)  # another process has the number by now
    writing = left_behind(checkpoint, os.getpid())
    elsewhere = checkpoint.with_name(f".{checkpoint.name}~another-host~1~0123abcd")
    released = checkpoint.with_name(f".{checkpoint.name}.{32 * 'a'}")  # as version 0.1 named them
    for path in (elsewhere, released):
        path.write_bytes(b"1234")
    assert store.gc(dry_run=True) == store.gc() == weights + 8 * 4
    assert set(store.root.glob("**/.*")) == {writing, elsewhere, released}
    os.utime(elsewhere, (0, 0))
    os.utime(released, (0, 0))
    assert store.gc() == 8 and store.keys() == [KEY] and store.verify() == []


def test_foreign_files_break_nothing_and_stay(store, tmp_path):
    put(store, states={0: {"w": torch.ones(1)}})
    record = store._record(KEY)
    folders = [store.root, record.parent.parent, record.parent, record, *map(store.root.joinpath, ("partial", "locks"))]
    foreign = [folder / name for folder in folders for name in (".DS_Store", "record.json~", "._x", "notes", ".swp")]
    foreign += [record / "weights-x-1.safetensors", record.parent / "notes of mine", record.parent / KEY[::-1]]
    for path in foreign:
        path.write_bytes(b"mine")
    (record.parent.parent / "not a key").mkdir()
    assert store.keys() == [KEY] and store.verify() == [] and store.states(KEY) == {0}
    assert store.export(store.keys(), tmp_path / "study.lotx") and store.gc() > 0
    assert all(path.read_bytes() == b"mine" for path in foreign)


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
            put(store, 1, size=size, states={0: {"w": torch.zeros(5000)}})
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
    with pytest.raises(StoreError, match=r"the store .* cannot be written"):
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
training = r.training(data="digits", model="lenet-8", steps=600, batch=50, optimiser="adam", lr=3e-3, validation=200)
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


# Locks.

HOLDER = """
import sys, time
from lottery.engine.store import Store
with Store(sys.argv[1]).lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(store):
    """Another process that holds the lock of KEY."""
    command = [sys.executable, "-c", HOLDER, str(store.root), KEY]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_lock_is_awaited_aloud_and_freed_by_death(store, holder, monkeypatch, capsys):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    threading.Timer(1.0, holder.kill).start()
    with store.lock(KEY):
        said = capsys.readouterr().err
    assert re.fullmatch(rf"waiting for the lock .*{KEY}.lock, held by process {holder.pid} on .* since 20.*\n", said)
    with store.lock(KEY):
        assert capsys.readouterr().err == ""


def test_a_lock_of_a_machine_that_is_gone_is_named_with_a_way_out(store, holder, monkeypatch, capsys):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    path = store.root / "locks" / f"{KEY}.lock"
    path.write_text("4242 node17 2026-01-01T00:00:00+00:00\n")
    threading.Timer(1.0, path.unlink).start()
    with store.lock(KEY):
        said = capsys.readouterr().err
    assert (
        f"process 4242 on node17 since 2026-01-01T00:00:00+00:00 (should node17 be gone for good, delete {path})"
        in said
    )


def test_gc_refuses_to_run_beside_who_computes_and_says_who(store, holder):
    put(store, states={0: {"w": torch.ones(1)}})
    with pytest.raises(StoreError, match=f"is in use by process {holder.pid} on .* since .*: run this again"):
        store.gc()
    assert store.states(KEY) == {0} and store.gc(dry_run=True) > 0
    holder.kill()
    holder.wait()
    assert store.gc() > 0 and store.states(KEY) == set()


def test_gc_beside_a_study_takes_nothing_from_it(store, finished, monkeypatch):
    train, refused = engine.train, []

    def beside(*args, **kwargs):
        with pytest.raises(StoreError, match="in use"):
            store.gc()
        refused.append(True)
        return train(*args, **kwargs)

    monkeypatch.setattr(engine, "train", beside)
    assert same(run(study(), store), [finished.read(run_.key) for run_ in study()]) and len(refused) == 3
    assert store.gc() > 0


@pytest.mark.parametrize("code", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_named_with_a_way_out(store, monkeypatch, code):
    def flock(descriptor, operation):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(
        StoreError, match=rf"the file system of the store {store.root} .*has no locks .*Store\(.*--store.*export"
    ):
        with store.lock(KEY):
            pass


# Upkeep.


def test_gc_keeps_records(copy):
    keys = copy.keys()
    weights = sum(path.stat().st_size for path in copy.root.glob("**/weights-*"))
    assert copy.gc() == weights > 0
    assert copy.keys() == keys and not any(copy.states(key) for key in keys)


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


@pytest.mark.parametrize("key", ["", ".", "..", "../..", "ab"])
def test_what_is_no_key_has_no_record_and_moves_nothing(store, key):
    put(store)
    assert store.read(key) is None and store.state(key, 0) is None
    assert store.keys() == [KEY] and not (store.root / "damaged").exists()
