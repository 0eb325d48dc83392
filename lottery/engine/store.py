"""The results of recipes on disk, by content hash::

    STORE/records/ab/<key>/record.json              recipe, values, how it was made, checksums
                          /arrays.safetensors       histories, packed masks and signs: small
                          /weights-<step>-<sha>.safetensors   dense weights: dropped by `gc`, never exported
    STORE/partial/<key>.safetensors                 checkpoint of a run in progress
                 /<key>.steps                       how far it is, for whoever shows it
    STORE/locks/<key>.lock                          held by whoever computes it
    STORE/locks/in-use                              shared by all who compute; `gc` takes it alone
    STORE/damaged/                                  what failed its check, set aside

A record is written beside its place and renamed into it, so a reader sees all of it or nothing; the folder may be
shared between machines. A record's key is the hash of its recipe, and is checked whenever it is read. Names that are
not the store's own are neither read nor removed.
"""

import contextlib
import errno
import functools
import hashlib
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np
import safetensors.torch

from ..models import State
from . import archive, disk, locks
from .disk import StoreError
from .records import (
    ARRAYS,
    BROKEN,
    KEY,
    RECORD,
    Damaged,
    Record,
    agreement,
    decode,
    encode,
    fingerprint,
    references,
    sha,
)

__all__ = ["FORMAT", "Checkpoint", "DamagedRecord", "Record", "Store", "StoreError"]

FORMAT = 1
WEIGHTS = re.compile(r"weights-(\d{1,18})-([0-9a-f]{16})\.safetensors")
PARTIAL = re.compile(r"([0-9a-f]{64})(-[0-9a-f]{16})?\.(safetensors|steps)")
ASIDE = re.compile(r"([0-9a-f]{64})-[0-9a-f]{8}")


class DamagedRecord(UserWarning):
    """A record, weights or a checkpoint failed its check and was set aside."""


def _explained(method):
    """A method of the store whose errors of the file system say what to do."""

    @functools.wraps(method)
    def wrapper(self, *args, **kwargs):
        with disk.explained(f"the store {self.root}"):
            return method(self, *args, **kwargs)

    return wrapper


def _listed(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


class Store:
    """A folder of records.

    Args:
        root: the folder; made when first written to.
        existing: whether it must be there already.

    Raises:
        StoreError: if it is a file, was written by a later version of this package, or is not there and must be.
    """

    def __init__(self, root: str | os.PathLike = "results", existing: bool = False):
        self.root = Path(root).absolute()  # wherever the process goes
        with disk.explained(f"the store {self.root}"):
            if self.root.exists() and not self.root.is_dir():
                raise StoreError(f"{self.root} is a file, not a folder: name another folder for the store")
            mark = self.root / "format"
            text = mark.read_bytes().strip() if mark.exists() else b"1"
        if not text.isdigit() or len(text) > 9:
            raise StoreError(
                f"{mark} is damaged: it should hold the number {FORMAT}; delete it, and it is written anew"
            )
        if int(text) > FORMAT:
            raise StoreError(f"the store {self.root} was written by a later version of lottery: update this one")
        if existing:
            self._must_exist()

    def _must_exist(self) -> None:
        if not (self.root / "records").is_dir():
            raise StoreError(
                f"there is no store at {self.root}: name its folder {disk.FOLDER}, or compute something first"
            )

    # Where things lie.

    def _record(self, key: str) -> Path:
        return self.root / "records" / key[:2] / key

    def _prepare(self) -> None:
        for name in ("records", "partial", "locks"):
            disk.make(self.root / name)
        if not (self.root / "format").exists():
            disk.replace(self.root / "format", f"{FORMAT}\n".encode())

    # Records.

    @_explained
    def keys(self) -> list[str]:
        """The keys of all records, sorted."""
        shards = [name for name in _listed(self.root / "records") if len(name) == 2]
        names = (name for shard in shards for name in _listed(self.root / "records" / shard) if name[:2] == shard)
        return [name for name in names if KEY.fullmatch(name)]

    @_explained
    def __contains__(self, key: str) -> bool:
        return (self._record(key) / RECORD).exists()

    @_explained
    def save(
        self,
        key: str,
        recipe: dict,
        values: dict,
        arrays: dict[str, np.ndarray],
        made: dict,
        states: dict[int, State] | None = None,
    ) -> None:
        """Writes a record, or adds states to one that is there, if they are its own.

        Args:
            key, recipe, values, arrays, made: see `Record`; values must survive JSON.
            states: step → dense weights.

        Raises:
            StoreError: if the key is not the recipe's, a part cannot be kept, the states are those of another execution
                than the record that is there, or the disk is full or cannot be written; the store is as it was.
        """
        states = states or {}
        marks = {str(step): fingerprint(state) for step, state in states.items()}
        record = Record(key, recipe, values, arrays, made, marks)
        text, small = encode(record)
        self._prepare()
        there = self.read(key)
        place = self._record(key)
        if there is None:
            new = self._stage(key, text, small, states)
            self._settle(new, place)
            disk.sync(place.parent)
            return
        if states and (agree := agreement(there, record)) < 1:
            stacked = there.made.get("stacked", 1)
            again = f"stack as then (stack={stacked}), or " if stacked != made.get("stacked", 1) else ""
            raise StoreError(
                f"the weights of {key[:12]}, computed again, are not those of its record ({agree:.2%} of their signs "
                f"agree): it was made with {_origin(there.made)}, they with {_origin(made)}. Both are right but do not "
                f"belong together, so the record stays as it is: {again}continue in a store of its own "
                f"{disk.FOLDER}"
            )
        for step, state in states.items():
            self._save_state(place, step, state)

    def _stage(self, key: str, text: bytes, small: bytes, states: dict[int, State], flush: bool = True) -> Path:
        """Writes a record beside its place."""
        place = self._record(key)
        disk.make(place.parent)
        new = disk.temporary(place)
        os.mkdir(new)
        try:
            for step, state in states.items():
                self._save_state(new, step, state)
            disk.write(new / ARRAYS, small, flush)
            disk.write(new / RECORD, text, flush)
            if flush:
                disk.sync(new)
        except BaseException:
            disk.remove(new)
            raise
        return new

    def _settle(self, new: Path, place: Path) -> bool:
        """Moves a record into its place; false if somebody finished the same recipe first."""
        try:
            os.rename(new, place)
            return True
        except OSError as error:
            disk.remove(new)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise

    @_explained
    def read(self, key: str) -> Record | None:
        """The record of a recipe, checked; None if there is none.

        A damaged record is moved to `damaged/` with a `DamagedRecord` warning, so that it is computed again.
        """
        place = self._record(key)
        if not KEY.fullmatch(key):  # the place of "" is the folder of all records
            return None
        if not place.exists():  # asked first: a record comes into its place whole, so from here on a gap is damage
            return None
        try:
            return decode(key, (place / RECORD).read_bytes(), (place / ARRAYS).read_bytes())
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            if not place.exists():
                return None
            why = f"{Path(error.filename).name} is missing"
        except Damaged as error:
            why = str(error)
        self._set_aside(place, key, f"the record {key} is damaged ({why})")
        return None

    def _set_aside(self, path: Path, name: str, what: str) -> None:
        """Moves what is damaged to `damaged/` and says so; does nothing if another process did so first."""
        aside = self.root / "damaged" / f"{name}-{os.urandom(4).hex()}"
        with disk.explained(f"{what}, and the store {self.root}"):
            disk.make(aside.parent)
            try:
                disk.move(path, aside)
            except FileNotFoundError:
                return
        warnings.warn(f"{what}: moved to {aside}, will be computed again", DamagedRecord, stacklevel=4)

    @_explained
    def lost(self) -> set[str]:
        """The keys of records that were set aside as damaged and have not been computed again."""
        marks = map(ASIDE.fullmatch, _listed(self.root / "damaged"))
        return {mark[1] for mark in marks if mark and mark[1] not in self}

    # Dense weights; the checksum is part of the file's name.

    def _weights(self, folder: Path) -> list[tuple[int, str, Path]]:
        found = ((WEIGHTS.fullmatch(name), folder / name) for name in _listed(folder))
        return [(int(mark[1]), mark[2], path) for mark, path in found if mark]

    def _save_state(self, folder: Path, step: int, state: State) -> None:
        if step not in {there for there, *_ in self._weights(folder)}:
            data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})
            disk.replace(folder / f"weights-{step}-{sha(data)[:16]}.safetensors", data)

    @_explained
    def states(self, key: str) -> set[int]:
        """The steps at which dense weights of a run are kept."""
        return {step for step, *_ in self._weights(self._record(key))}

    @_explained
    def state(self, key: str, step: int) -> State | None:
        """The dense weights of a run at a step, checked; None if they are not kept (any more)."""
        record = self.read(key)
        if record is None:
            return None
        for at, mark, path in self._weights(self._record(key)):
            if at == step:
                try:
                    data = path.read_bytes()
                    if sha(data)[:16] != mark:
                        raise Damaged("they do not fit their checksum")
                    state = safetensors.torch.load(data)
                    if fingerprint(state) != record.states.get(str(step), fingerprint(state)):
                        raise Damaged("they belong to another run")
                    return state
                except FileNotFoundError:
                    continue
                except (*BROKEN, IsADirectoryError) as error:
                    what = f"weights of {key} at step {step} are damaged ({error})"
                    self._set_aside(path, f"{key}-{path.name}", what)
        return None

    # Work in progress.

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Whoever computes holds this, with others: `gc` waits for no one and refuses to run beside them."""
        with disk.explained(f"the store {self.root}"):
            self._prepare()
        with locks.hold(self.root / "locks" / "in-use", shared=True):
            yield

    @contextlib.contextmanager
    def lock(self, key: str, wait: bool = True) -> Iterator[None]:
        """A lock that whoever computes the recipe holds; the system frees it when its holder dies.

        Raises:
            Busy: if somebody else holds it and `wait` is false.
        """
        with self.in_use(), locks.hold(self.root / "locks" / f"{key}.lock", wait=wait):
            yield

    def checkpoint(self, key: str, *more: str) -> "Checkpoint":
        """The checkpoint of a run in progress, or of several that train together in this order."""
        together = f"-{sha(' '.join((key, *more)).encode())[:16]}" if more else ""
        return Checkpoint(self, self.root / "partial" / f"{key}{together}.safetensors")

    def checkpoints(self, key: str) -> list[Path]:
        """The files of the checkpoints of a run, alone and as the first of several."""
        return sorted((self.root / "partial").glob(f"{key}*.safetensors"))

    def steps(self, key: str) -> Path:
        """Where whoever computes a batch writes how many of its steps are done; `key` is of its first recipe."""
        return self.root / "partial" / f"{key}.steps"

    # Upkeep.

    def verify(self) -> list[str]:
        """Checks every record, all weights and checkpoints, and goes on past what is damaged, which is set aside.

        Returns:
            What was found, one line each.

        Raises:
            StoreError: if there is no store.
        """
        self._must_exist()
        found = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DamagedRecord)
            for key in self.keys():
                try:
                    if self.read(key):
                        for step in sorted(self.states(key)):
                            self.state(key, step)
                except StoreError as error:
                    found.append(str(error))
            for name in _listed(self.root / "partial"):
                if (mark := PARTIAL.fullmatch(name)) and mark[3] == "safetensors":
                    try:
                        Checkpoint(self, self.root / "partial" / name).load()
                    except StoreError as error:
                        found.append(str(error))
        return [str(warning.message) for warning in caught if warning.category is DamagedRecord] + found

    def gaps(self) -> list[str]:
        """Which chains are broken: what records rest on and is not here, a line each. They can be read all the same."""
        readers: dict[str, list[str]] = {}
        for key in self.keys():
            record = self.read(key)
            for other in set(references(record.recipe)) if record else ():
                readers.setdefault(other, []).append(key)
        return [
            f"{key[:12]} is not here, on which {those[0][:12]} rests"
            + f", and {len(those) - 1} more" * (len(those) > 1)
            for key, those in sorted(readers.items())
            if key not in self
        ]

    @_explained
    def gc(self, dry_run: bool = False) -> int:
        """Drops dense weights, checkpoints of finished runs and abandoned files.

        Records stay, and what was dropped can be computed again. Only names of the store's own making are removed.

        Returns:
            The number of bytes freed.

        Raises:
            StoreError: if somebody computes in the store; it says who. Or if something cannot be removed.
        """
        self._must_exist()
        partial = self.root / "partial"
        if not dry_run:
            self._prepare()
        alone = contextlib.nullcontext() if dry_run else locks.hold(self.root / "locks" / "in-use", wait=False)
        with alone:
            keys = self.keys()
            victims = [path for key in keys for *_, path in self._weights(self._record(key))]
            for name in _listed(partial):
                if (mark := PARTIAL.fullmatch(name)) and (mark[1] in self or mark[3] == "steps"):
                    victims.append(partial / name)
            shards = self.root.glob("records/??")
            damaged = self.root.glob("damaged/*/")  # records that were set aside while somebody wrote to them
            for folder in [self.root, partial, *shards, *damaged, *map(self._record, keys)]:
                victims += [path for name in _listed(folder) if disk.abandoned(path := folder / name)]
            files = [file for path in victims for file in (path.iterdir() if path.is_dir() else [path])]
            freed = sum(file.lstat().st_size for file in files)
            if not dry_run:
                for path in victims:
                    disk.remove(path)
                if left := [path for path in victims if path.exists()]:
                    raise StoreError(
                        f"{len(left)} of {len(victims)} files and folders could not be removed, such as {left[0]}: "
                        "look at their permissions, and call it again"
                    )
        return freed

    @_explained
    def export(
        self,
        keys: Iterable[str],
        target: str | os.PathLike,
        files: int | None = None,
        part_bytes: int = archive.PART_BYTES,
    ) -> list[Path]:
        """Packs records (without dense weights) into files, with a manifest.

        What an older export of the same name left is removed when the new one is on disk, and an export of nothing
        leaves it alone.

        Args:
            keys: of the records.
            target: "study.lotx" gives study.lotx, or study-00.lotx, study-01.lotx, … if one file is not enough.
            files: at most so many, which take the records in the order given and leave out what does not fit.
            part_bytes: what a file holds at most.

        Returns:
            The files written: zip archives with one folder a record.

        Raises:
            StoreError: if there is no store; if records are missing or damaged: all of them are named.
        """
        self._must_exist()
        asked = list(dict.fromkeys(keys) if files else sorted(set(keys)))
        if lost := [key for key in asked if self.read(key) is None]:
            raise StoreError("\n".join(f"there is no record {key} in {self.root} to export" for key in lost))

        def read(key: str) -> tuple[bytes, bytes]:
            place = self._record(key)
            return (place / RECORD).read_bytes(), (place / ARRAYS).read_bytes()

        return archive.pack(asked, read, Path(target), part_bytes, files)

    @_explained
    def import_(self, sources: Iterable[str | os.PathLike], keys: Collection[str] | None = None) -> list[str]:
        """Takes in exported files; records that are there already are left alone. Returns the keys that are new.

        Args:
            sources: the files; of an export in several parts all of them.
            keys: of the records to take in; by default all.

        Raises:
            StoreError: if no file is there, before anything is written; if one is not there or is not an export, a
                record in it is damaged, or a part is missing: all of it is named, and what is sound is taken in.
        """
        archive.check_sources(sources := [Path(source) for source in sources])
        self._prepare()
        new, problems, archives = [], [], []
        for source in sources:
            try:
                archives.append(archive.Archive(source))
            except StoreError as error:
                problems.append(str(error))
                continue
            staged = {}
            try:
                with archives[-1] as file:
                    for record, text, small in file.records(keys):
                        if self.read(record.key) is None:
                            staged[record.key] = self._stage(record.key, text, small, {}, flush=False)
                os.sync()  # all at once: flushing each by itself takes ten times as long
                new += [key for key, path in staged.items() if self._settle(path, self._record(key))]
            finally:
                for path in staged.values():
                    disk.remove(path)
            problems += file.problems
        for folder in {self._record(key).parent for key in new}:
            disk.sync(folder)
        problems += archive.missing(archives)
        if problems:
            raise StoreError("\n".join([*problems, f"{len(new)} new records were taken in"]))
        return new


def _origin(made: dict) -> str:
    how = f"torch {made.get('torch', '?')} on {made.get('device', 'an unknown machine')}"
    return f"{how}, {made['stacked']} stacked" if made.get("stacked", 1) > 1 else how


class Checkpoint:
    """The last saved state of a run in progress: one file, replaced atomically."""

    def __init__(self, store: Store, path: Path):
        self.store, self.root, self.path = store, store.root, path

    @_explained
    def load(self) -> State | None:
        """The saved tensors; None if there are none or they are damaged (then the run starts over)."""
        try:
            data = self.path.read_bytes()
            if hashlib.sha256(data[32:]).digest() != data[:32]:
                raise Damaged("it does not fit its checksum")
            return safetensors.torch.load(data[32:])
        except FileNotFoundError:
            return None
        except (*BROKEN, IsADirectoryError) as error:
            what = f"the checkpoint {self.path.name} is damaged: the run starts over ({error})"
            self.store._set_aside(self.path, self.path.name, what)
            return None

    @_explained
    def save(self, tensors: State) -> None:
        """Keeps the tensors; a kill at any moment leaves the old or the new file whole."""
        data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        if (self.root / "records").is_dir():  # else the disk is gone, and nothing is to be made in its place
            disk.make(self.path.parent)
        disk.replace(self.path, hashlib.sha256(data).digest() + data)

    @_explained
    def drop(self) -> None:
        """Removes it."""
        self.path.unlink(missing_ok=True)
