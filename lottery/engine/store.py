"""The results of recipes on disk, by content hash::

    STORE/records/ab/<key>/record.json              recipe, values, how it was made, checksums
                          /arrays.safetensors       histories, packed masks and signs: small
                          /weights-<step>-<sha>.safetensors   dense weights: dropped by `gc`, never exported
    STORE/partial/<key>.safetensors                 checkpoint of a run in progress
    STORE/locks/<key>.lock                          held by whoever computes it
    STORE/damaged/                                  what failed its checksum, set aside

A record is written beside its place and renamed into it, so a reader sees all of it or nothing; the folder may be
shared between machines.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
import safetensors.torch
from filelock import FileLock

from .. import LotteryError
from ..models import State

FORMAT = 1
PART_BYTES = 15 * 2**20


class StoreError(LotteryError):
    """The store could not do what was asked; what it held before is still valid."""


class DamagedRecord(UserWarning):
    """A record failed its checksum and was set aside."""


@dataclass(frozen=True, eq=False)
class Record:
    """What the store knows of one recipe.

    Attributes:
        key: of the recipe.
        recipe: its canonical JSON.
        values: numbers and short texts.
        arrays: name → array.
        made: versions, device, seconds: how it came about.
    """

    key: str
    recipe: dict
    values: dict
    arrays: dict[str, np.ndarray]
    made: dict


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _canonical(value) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True).encode()


@contextlib.contextmanager
def _clear_errors(root: Path) -> Iterator[None]:
    """Turns a full disk or a read-only folder into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"no space left for the store {root}: free some (`python -m lottery store gc`) and run "
                "again; finished runs are kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise StoreError(f"the store {root} cannot be written: {error.strerror}") from error
        raise


def _write(path: Path, data: bytes) -> None:
    """Writes and flushes to disk; an incomplete file is removed."""
    try:
        with open(path, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _replace(path: Path, data: bytes) -> None:
    """Atomically puts a file with this content at `path`."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    _write(temporary, data)
    os.replace(temporary, path)


class Store:
    """A folder of records.

    Args:
        root: the folder; made when first written to.

    Raises:
        StoreError: if it is a file, or was written by a later version of this package.
    """

    def __init__(self, root: str | os.PathLike = "results"):
        self.root = Path(root)
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file, not a folder: name another folder for the store")
        mark = self.root / "format"
        if mark.exists() and int(mark.read_text()) > FORMAT:
            raise StoreError(f"the store {self.root} was written by a later version of lottery: update this one")

    # Where things lie.

    def _record(self, key: str) -> Path:
        return self.root / "records" / key[:2] / key

    def _prepare(self) -> None:
        for name in ("records", "partial", "locks"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        if not (self.root / "format").exists():
            _replace(self.root / "format", f"{FORMAT}\n".encode())

    # Records.

    def keys(self) -> list[str]:
        """The keys of all records, sorted."""
        return sorted(path.name for path in self.root.glob("records/??/*") if not path.name.startswith("."))

    def __contains__(self, key: str) -> bool:
        return (self._record(key) / "record.json").exists()

    def save(
        self,
        key: str,
        recipe: dict,
        values: dict,
        arrays: dict[str, np.ndarray],
        made: dict,
        states: dict[int, State] | None = None,
    ) -> None:
        """Writes a record, or adds states to one that is there.

        Args:
            key, recipe, values, arrays, made: see `Record`; values must survive JSON.
            states: step → dense weights.

        Raises:
            StoreError: if the disk is full or cannot be written; the store is as it was.
        """
        with _clear_errors(self.root):
            self._prepare()
            place = self._record(key)
            if key in self:
                for step, state in (states or {}).items():
                    self._save_state(place, step, state)
                return
            place.parent.mkdir(exist_ok=True)
            temporary = place.with_name(f".{key}.{uuid.uuid4().hex}")
            temporary.mkdir()
            try:
                for step, state in (states or {}).items():
                    self._save_state(temporary, step, state)
                small = safetensors.numpy.save({name: np.ascontiguousarray(a) for name, a in arrays.items()})
                _write(temporary / "arrays.safetensors", small)
                body = {"key": key, "recipe": recipe, "values": values, "made": made, "arrays": _sha(small)}
                body["sha256"] = _sha(_canonical(body))
                _write(temporary / "record.json", json.dumps(body, indent=1).encode())
                try:
                    os.rename(temporary, place)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise  # otherwise somebody finished the same recipe first
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def read(self, key: str) -> Record | None:
        """The record of a recipe, checked; None if there is none.

        A damaged record is moved to `damaged/` with a `DamagedRecord` warning, so that it is computed again.
        """
        place = self._record(key)
        if not place.exists():  # asked first: a record comes into its place whole, so from here on a gap is damage
            return None
        try:
            body = json.loads((place / "record.json").read_bytes())
            small = (place / "arrays.safetensors").read_bytes()
            if _sha(_canonical({k: v for k, v in body.items() if k != "sha256"})) != body["sha256"]:
                raise ValueError("record.json does not fit its checksum")
            if _sha(small) != body["arrays"] or body["key"] != key:
                raise ValueError("arrays.safetensors does not fit its checksum")
            return Record(key, body["recipe"], body["values"], safetensors.numpy.load(small), body["made"])
        except FileNotFoundError as error:
            if not place.exists():
                return None
            why = f"{Path(error.filename).name} is missing"
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # also broken JSON
            why = str(error)
        if aside := self._set_aside(place, key):
            warnings.warn(
                f"the record {key} is damaged ({why}): moved to {aside}, will be computed again",
                DamagedRecord,
                stacklevel=2,
            )
        return None

    def _set_aside(self, path: Path, name: str) -> Path | None:
        """Moves what is damaged to `damaged/`; None if another process did so first."""
        aside = self.root / "damaged" / f"{name}-{uuid.uuid4().hex[:8]}"
        with _clear_errors(self.root):
            aside.parent.mkdir(exist_ok=True)
            try:
                os.rename(path, aside)
            except FileNotFoundError:
                return None
        return aside

    # Dense weights; the checksum is part of the file's name.

    def _save_state(self, folder: Path, step: int, state: State) -> None:
        if any(folder.glob(f"weights-{step}-*.safetensors")):
            return
        data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in state.items()})
        _replace(folder / f"weights-{step}-{_sha(data)[:16]}.safetensors", data)

    def states(self, key: str) -> set[int]:
        """The steps at which dense weights of a run are kept."""
        return {int(path.name.split("-")[1]) for path in self._record(key).glob("weights-*.safetensors")}

    def state(self, key: str, step: int) -> State | None:
        """The dense weights of a run at a step, checked; None if they are not kept (any more)."""
        for path in self._record(key).glob(f"weights-{step}-*.safetensors"):
            data = path.read_bytes()
            if _sha(data)[:16] == path.stem.split("-")[2]:
                return safetensors.torch.load(data)
            if aside := self._set_aside(path, f"{key}-{path.name}"):
                warnings.warn(
                    f"weights of {key} at step {step} are damaged: moved to {aside}, will be computed again",
                    DamagedRecord,
                    stacklevel=2,
                )
        return None

    # Work in progress.

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """A lock that whoever computes the recipe holds; the system frees it when its holder dies."""
        lock = FileLock(self.root / "locks" / f"{key}.lock")
        with _clear_errors(self.root):
            self._prepare()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def checkpoint(self, *keys: str) -> "Checkpoint":
        """The checkpoint of a run in progress, or of several that train together in this order."""
        together = f"-{_sha(' '.join(keys).encode())[:16]}" if len(keys) > 1 else ""
        return Checkpoint(self.root / "partial" / f"{keys[0]}{together}.safetensors", self.root)

    # Upkeep.

    def verify(self) -> list[str]:
        """Checks every checksum; damaged records and weights are set aside. Returns what was found, one line each."""
        found = []
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DamagedRecord)
            for key in self.keys():
                self.read(key)
                for step in sorted(self.states(key)):
                    self.state(key, step)
        found += [str(warning.message) for warning in caught]
        return found

    def gc(self, keep: Iterable[str] = (), dry_run: bool = False) -> int:
        """Drops dense weights (but those of the runs in `keep`), checkpoints of finished runs and abandoned files.

        Records stay, and what was dropped can be computed again. Do not call it while something computes.

        Returns:
            The number of bytes freed.
        """
        keep = set(keep)
        victims = {
            path for path in self.root.glob("records/??/*/weights-*.safetensors") if path.parent.name not in keep
        }
        victims |= {path for path in self.root.glob("partial/*.*") if path.name[:64] in self}
        for abandoned in ("records/??/.*/*", "records/??/*/.*", "partial/.*"):
            victims |= set(self.root.glob(abandoned))
        freed = sum(path.stat().st_size for path in victims)
        if not dry_run:
            for path in victims:
                path.unlink()
            for folder in self.root.glob("records/??/.*"):
                folder.rmdir()
        return freed

    def export(self, keys: Iterable[str], target: str | os.PathLike, files: int | None = None) -> list[Path]:
        """Packs records (without dense weights) into files of at most 15 MiB.

        Args:
            keys: of the records; unknown ones are an error.
            target: "study.lotx" gives study.lotx, or study-00.lotx, study-01.lotx, … if one file is not enough.
            files: at most so many, which take the records in the order given and leave out what does not fit.

        Returns:
            The files written: zip archives with one folder a record.
        """
        target, parts, size = Path(target), [[]], 0
        for key in dict.fromkeys(keys) if files else sorted(set(keys)):
            if self.read(key) is None:
                raise StoreError(f"there is no record {key} in {self.root} to export")
            both = [self._record(key) / name for name in ("record.json", "arrays.safetensors")]
            packed = sum(_deflated(path) for path in both)
            if size + packed > PART_BYTES and parts[-1]:
                if len(parts) == files:
                    break
                parts.append([])
                size = 0
            parts[-1] += both
            size += packed
        names = (
            [target]
            if len(parts) == 1
            else [target.with_name(f"{target.stem}-{i:02d}{target.suffix}") for i in range(len(parts))]
        )
        with _clear_errors(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            for name, paths in zip(names, parts, strict=True):
                temporary = name.with_name(f".{name.name}.{uuid.uuid4().hex}")
                try:
                    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                        for path in paths:  # a fixed date, so that the same records give the same file
                            entry = zipfile.ZipInfo(f"{path.parent.name}/{path.name}", (1980, 1, 1, 0, 0, 0))
                            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
                    os.replace(temporary, name)
                finally:
                    temporary.unlink(missing_ok=True)
        return names

    def import_(self, sources: Iterable[str | os.PathLike]) -> list[str]:
        """Takes in exported files; records that are there already are left alone. Returns the keys that are new.

        Raises:
            StoreError: if a file is not an export or a record in it is damaged; records before it are kept.
        """
        new = []
        for source in map(Path, sources):
            try:
                archive = zipfile.ZipFile(source)
            except (OSError, zipfile.BadZipFile) as error:
                raise StoreError(f"{source} is not an export of a store: {error}") from error
            with archive, _clear_errors(self.root):
                self._prepare()
                for entry in (name for name in archive.namelist() if name.endswith("/record.json")):
                    key = entry.removesuffix("/record.json")
                    try:
                        body, small = json.loads(archive.read(entry)), archive.read(f"{key}/arrays.safetensors")
                        checked = {k: v for k, v in body.items() if k != "sha256"}
                        sound = _sha(_canonical(checked)) == body["sha256"] and _sha(small) == body["arrays"]
                        sound = sound and body["key"] == key and len(key) == 64 and set(key) <= set("0123456789abcdef")
                    except (KeyError, ValueError, zipfile.BadZipFile, OSError, zlib.error):
                        sound = False
                    if not sound:
                        raise StoreError(f"{source} is damaged at record {key}: export it again")
                    if key not in self:
                        self.save(key, body["recipe"], body["values"], safetensors.numpy.load(small), body["made"])
                        new.append(key)
        return new


class Checkpoint:
    """The last saved state of a run in progress: one file, replaced atomically."""

    def __init__(self, path: Path, root: Path):
        self.path, self.root = path, root

    def load(self) -> State | None:
        """The saved tensors; None if there are none or they are damaged (then the run starts over)."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        if _sha(data[32:]) != data[:32].hex():
            warnings.warn(
                f"the checkpoint {self.path.name} is damaged: the run starts over", DamagedRecord, stacklevel=2
            )
            return None
        return safetensors.torch.load(data[32:])

    def save(self, tensors: State) -> None:
        """Keeps the tensors; a kill at any moment leaves the old or the new file whole."""
        data = safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})
        with _clear_errors(self.root):
            _replace(self.path, hashlib.sha256(data).digest() + data)

    def drop(self) -> None:
        """Removes it."""
        self.path.unlink(missing_ok=True)


def _deflated(path: Path) -> int:
    return len(zlib.compress(path.read_bytes(), 9)) + 300
