"""The store against disks and deaths: every call of `os` that changes a file is recorded, fails, or is the last one."""

import contextlib
import errno
import functools
import itertools
import os
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support import KEY, OTHER, key_of, put

from lottery.engine import archive, disk
from lottery.engine.store import Store, StoreError

NIGHTLY = bool(os.environ.get("LOTTERY_NIGHTLY"))


class Killed(BaseException):
    """The process is dead: whatever it still tries to change stays as it is."""


class Layer:
    """Stands between the store and the functions of `os` that change files below a folder.

    Nothing is flushed in truth, which is what makes thousands of steps fast; what would have been is in `log`.

    Attributes:
        log: what was done: (function, path, …).
        fail: is called before each with the number of calls so far, and may raise.
    """

    def __init__(self, root, patch):
        self.root, self.log, self.files, self.calls = f"{root}/", [], {}, itertools.count()
        self.fail = lambda number: None
        for name in ("open", "write", "fsync", "mkdir", "rename", "unlink", "rmdir", "sync"):
            patch.setattr(os, name, functools.partial(self._call, name, getattr(os, name)))

    def _call(self, name, real, *args, **kwargs):
        path = self.files.get(args[0], "") if name in ("write", "fsync") else os.fspath(args[0]) if args else self.root
        if not isinstance(path, str) or not f"{path}/".startswith(self.root) or "dir_fd" in kwargs:
            return real(*args, **kwargs)
        self.fail(next(self.calls))
        more = {"write": lambda: (bytes(args[1]),), "rename": lambda: (os.fspath(args[1]),)}.get(name, tuple)()
        known = name == "open" and os.path.exists(path)
        done = None if name in ("fsync", "sync") else real(*args, **kwargs)
        if name == "open":
            self.files[done] = path
        if not known:
            self.log.append((name, path, *more))
        return done

    def note(self, *what):
        """Notes in the log what has been promised from here on."""
        self.log.append(("promised", *what))


class Node:
    """A file or folder: what is seen now, and what would be left of it if the power went."""

    def __init__(self, empty):
        self.now = self.kept = empty

    def sync(self, deep=False):
        self.kept = self.now.copy() if isinstance(self.now, dict) else self.now
        if deep and isinstance(self.now, dict):
            for node in self.now.values():
                node.sync(deep)


def replayed(log, root):
    """The tree that calls have made, and what was promised."""
    top, promised = Node({}), []

    def at(path):
        node = top
        for part in Path(path).relative_to(root).parts:
            node = node.now[part]
        return node

    for name, path, *more in log:
        if name == "promised":
            promised.append((path, *more))
            continue
        if name in ("sync", "fsync"):
            (top if name == "sync" else at(path)).sync(deep=name == "sync")
            continue
        if name == "write":
            at(path).now += more[0]
            continue
        folder, base = at(Path(path).parent), Path(path).name
        names = dict(folder.now)
        if name in ("open", "mkdir"):
            names[base] = Node(b"" if name == "open" else {})
        else:
            node = names.pop(base)
        folder.now = names
        if name == "rename":
            other = at(Path(more[0]).parent)
            other.now = {**other.now, Path(more[0]).name: node}
    return top, promised


def left(node, path, names, content):
    """Writes what a power cut leaves: `names` and `content` choose of each node what is seen or what is kept."""
    if isinstance(node.now, dict):
        path.mkdir()
        for name, inside in names(node).items():
            left(inside, path / name, names, content)
    else:
        path.write_bytes(content(node))


LEAVES = {
    "nothing that was not flushed": (lambda node: node.kept, lambda node: node.kept),
    "names, and of files what was flushed": (lambda node: node.now, lambda node: node.kept),
    "names, and half of what was not flushed": (
        lambda node: node.now,
        lambda node: node.now[: max(len(node.kept), len(node.now) // 2)],
    ),
}


def weights(value):
    return {"w": torch.full((30,), float(value))}


def work(root, note=lambda *what: None):
    """All that writes: records, weights, checkpoints, an export in parts over an older one, an import, gc."""
    store, home, carry = Store(root / "store"), Store(root / "home"), root / "carry" / "study.lotx"
    put(store, 0, size=500, states={3: weights(0)})
    note("record", "store", 0)
    for step in (1, 2):
        store.checkpoint(OTHER).save(weights(step))
        note("checkpoint", step)
    put(store, 1, size=500)
    note("record", "store", 1)
    put(store, 0, size=500, states={5: weights(0)})
    note("weights", 5)
    store.export([KEY], carry)
    note("export", 1)
    files = store.export([KEY, OTHER], carry, part_bytes=1)
    note("export", 2)
    home.import_(files)
    note("record", "home", 0)
    note("record", "home", 1)
    note("dropped")
    store.checkpoint(OTHER).drop()
    store.gc()


def check_sound(root, promised):
    """A store that can be opened has what was promised, all of it sound."""
    for name in ("store", "home"):
        store = Store(root / name)
        if (root / name / "records").is_dir():
            assert store.verify() == []
        for number in range(2):
            record = store.read(key_of(number))
            assert record is not None or ("record", name, number) not in promised
            assert record is None or (record.arrays["a"] == np.arange(500)).all()
    store, dropped = Store(root / "store"), ("dropped",) in promised
    steps = [step for kind, step, *_ in (p for p in promised if p[0] == "checkpoint")]
    found = store.checkpoint(OTHER).load()
    assert dropped or not steps or found["w"][0] >= steps[-1]
    assert dropped or ("weights", 5) not in promised or store.state(KEY, 5) is not None
    exported = set()
    for path in (root / "carry").glob("*.lotx") if (root / "carry").is_dir() else ():
        with archive.Archive(path) as file:
            exported |= {record.key for record, *_ in file.records()}
            assert not file.problems
    exports = [count for kind, count, *_ in (p for p in promised if p[0] == "export")]
    assert len(exported) >= max(exports, default=0)


def test_the_store_opens_sound_from_every_prefix_of_its_writes(tmp_path, monkeypatch):
    root = tmp_path / "disk"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        layer = Layer(root, patch)
        work(root, layer.note)
    assert len(layer.log) > 100
    for end, (how, choices) in itertools.product(range(len(layer.log) + 1), LEAVES.items()):
        top, promised = replayed(layer.log[:end], root)
        place = tmp_path / f"{end}"
        left(top, place, *choices)
        try:
            check_sound(place, promised)
        except BaseException as error:
            error.add_note(f"power cut after call {end}, {layer.log[max(0, end - 3) : end]}; left: {how}")
            raise
        shutil.rmtree(place)


@pytest.mark.parametrize("how", ["full", "broken", "killed"])
def test_a_failure_at_any_call_leaves_the_store_sound_and_the_work_can_be_done_again(tmp_path, monkeypatch, how):
    def fails(at, number):
        if how == "killed" and number >= at:
            raise Killed
        if number == at:
            code = errno.ENOSPC if how == "full" else errno.EIO
            raise OSError(code, os.strerror(code))

    layer = Layer(tmp_path, monkeypatch)
    work(tmp_path / "whole")
    calls = next(layer.calls)
    assert calls > 100
    for at in range(0, calls, 1 if NIGHTLY or how == "broken" else 5):
        root, promised, layer.calls = tmp_path / f"{at}", [], itertools.count()
        layer.fail = functools.partial(fails, at)
        with contextlib.suppress(Killed, StoreError):  # no other error may come of it
            work(root, lambda *what, promised=promised: promised.append(what))
        layer.fail = lambda number: None
        check_sound(root, promised)
        work(root)
        check_sound(root, [])
        shutil.rmtree(root)


class Life(RuleBasedStateMachine):
    """Two processes' views of one store, and a store at home; any of them may be killed at any call."""

    numbers = st.integers(0, 5)
    views = st.integers(0, 1)

    def __init__(self):
        super().__init__()
        self.patch, self.root = pytest.MonkeyPatch(), Path(tempfile.mkdtemp())
        self.process = 2**23  # no number that the system gives
        self.patch.setattr(os, "getpid", lambda: self.process)
        self.patch.setattr(disk, "alive", lambda number: number == self.process)
        self.layer = Layer(self.root, self.patch)
        self.carry = self.root / "carry" / "study.lotx"
        self.sure = {"store": set(), "home": set()}  # what was promised
        self.maybe = {"store": set(), "home": set()}  # what a killed process may have finished
        self.exported = set()

    def teardown(self):
        self.patch.undo()
        shutil.rmtree(self.root)

    def store(self, name="store"):
        return Store(self.root / name)

    def attempt(self, act, kill):
        """Does it, or is killed at a call of it; true if it was done."""

        def fail(number):
            if kill is not None and number >= kill:
                raise Killed

        self.layer.calls, self.layer.fail = itertools.count(), fail
        try:
            act()
            return True
        except Killed:
            self.process += 1
            return False
        finally:
            self.layer.fail = lambda number: None

    kills = st.one_of(st.none(), st.integers(0, 60))

    @rule(view=views, number=numbers, dense=st.booleans(), kill=kills)
    def save(self, view, number, dense, kill):
        states = {1: weights(number)} if dense else None
        done = self.attempt(lambda: put(self.store(), number, states=states), kill)
        (self.sure if done else self.maybe)["store"].add(number)
        assert not (done and dense) or 1 in self.store().states(key_of(number))

    @rule(number=numbers, value=st.integers(1, 9), kill=kills)
    def checkpoint(self, number, value, kill):
        checkpoint = self.store().checkpoint(key_of(number))
        before = checkpoint.load()
        done = self.attempt(lambda: put(self.store(), number) or checkpoint.save(weights(value)), kill)
        (self.sure if done else self.maybe)["store"].add(number)
        after = checkpoint.load()
        assert not done or (after["w"] == value).all()
        assert after is None or after["w"][0] in (value, *(before["w"][:1] if before else ()))

    @precondition(lambda self: self.sure["store"])
    @rule(kill=kills)
    def gc(self, kill):
        with self.store().in_use(), pytest.raises(StoreError, match="in use"):
            self.store().gc()
        if self.attempt(self.store().gc, kill):
            assert not list((self.root / "store").glob("**/.*"))
            assert not any(map(self.store().states, self.store().keys()))

    @precondition(lambda self: self.sure["store"])
    @rule(part_bytes=st.sampled_from([1, 10**6]), kill=kills)
    def export(self, part_bytes, kill):
        keys = [key_of(number) for number in self.sure["store"]]
        if self.attempt(lambda: self.store().export(keys, self.carry, part_bytes=part_bytes), kill):
            self.exported = set(self.sure["store"])
            assert not list(self.carry.parent.glob(".*"))

    @precondition(lambda self: self.exported)
    @rule(name=st.sampled_from(["store", "home"]), kill=kills)
    def import_(self, name, kill):
        parts = archive.parts(self.carry)

        def act():
            with contextlib.suppress(StoreError):  # parts of two exports, where the second one was killed
                self.store(name).import_(parts)

        done = self.attempt(act, kill)
        (self.sure if done and self.exported <= self.there(parts) else self.maybe)[name].update(self.exported)
        self.maybe[name] |= self.there(parts)

    def there(self, parts):
        """The numbers of the records in the files of an export."""
        found = set()
        for path in parts:
            with archive.Archive(path) as file:
                found |= {record.recipe["number"] for record, *_ in file.records()}
                assert not file.problems
        return found

    @precondition(lambda self: self.sure["store"])
    @rule(data=st.data())
    def damage(self, data):
        number = data.draw(st.sampled_from(sorted(self.sure["store"])))
        path = self.store()._record(key_of(number)) / data.draw(st.sampled_from(["record.json", "arrays.safetensors"]))
        path.write_bytes(path.read_bytes()[:-3])
        found = self.store().verify()
        assert len(found) == 1 and key_of(number) in found[0] and key_of(number) in self.store().lost()
        for known in (self.sure, self.maybe):
            known["store"].discard(number)

    @invariant()
    def all_that_was_promised_is_there_and_sound(self):
        for name in ("store", "home"):
            store = self.store(name)
            there = {number for number in range(6) if store.read(key_of(number))}
            assert self.sure[name] <= there <= self.sure[name] | self.maybe[name]
            assert sorted(map(key_of, there)) == store.keys()
            if (self.root / name / "records").is_dir():
                assert store.verify() == []


Life.TestCase.settings = settings(
    max_examples=100 if NIGHTLY else 10,
    stateful_step_count=100 if NIGHTLY else 30,
    suppress_health_check=list(HealthCheck),
    deadline=None,
)
TestLife = Life.TestCase


@pytest.mark.parametrize("target", ["record.json", "arrays.safetensors", "weights-3-*", "partial", "format"])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path, target):
    draw, whole = np.random.default_rng(0), tmp_path / "whole"
    put(Store(whole), states={3: weights(0)})
    Store(whole).checkpoint(OTHER).save(weights(1))
    for number in range(1000 if NIGHTLY else 60):
        place = tmp_path / f"{number}"
        shutil.copytree(whole, place)
        folder = {"partial": place / "partial", "format": place}.get(target, Store(whole)._record(KEY))
        folder = place / folder.relative_to(whole) if folder.is_relative_to(whole) else folder
        (path,) = folder.glob({"partial": "*.safetensors"}.get(target, target))
        content = bytearray(path.read_bytes())
        content[int(draw.integers(len(content)))] ^= 1 << int(draw.integers(8))
        path.write_bytes(content)
        try:
            found = Store(place).verify()
        except StoreError as error:
            found = [str(error)]
            assert (target == "format" and path.name in found[0]) or "later version" in found[0]
        if not found:  # white space: what the file says is the same
            assert target in ("record.json", "format")
            assert Store(place).read(KEY).values == {"value": 1.0}
        assert len(found) <= 1
        shutil.rmtree(place)


def test_what_cannot_be_removed_is_not_said_to_be_freed(tmp_path, monkeypatch):
    put(store := Store(tmp_path))
    left = disk.temporary(store.root / "left")
    left.write_bytes(b"x")
    monkeypatch.setattr(disk, "remove", lambda path: None)
    monkeypatch.setattr(disk, "abandoned", lambda path: path == left)
    with pytest.raises(StoreError, match=r"1 of 1 files and folders could not be removed, such as .*left"):
        store.gc()
