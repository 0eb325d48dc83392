"""Exports: records in zip files (`.lotx`), each with a manifest that says what belongs in it.

A part holds `manifest.json` first, then `<key>/record.json` and `<key>/arrays.safetensors` of each record. Files that
the first version wrote have no manifest, and are read as well.
"""

import contextlib
import io
import itertools
import json
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

import safetensors.numpy

from ..recipes import canonical
from . import disk
from .disk import StoreError
from .records import ARRAYS, BROKEN, KEY, RECORD, Damaged, Record, decode, sha

FORMAT = 2
PART_BYTES = 50_000_000  # from here on GitHub warns of a file's size
LEVEL = 4  # of zlib: bits of masks are nearly random, so 9 takes ten times as long for files 2 % smaller
MANIFEST = "manifest.json"
FLOOR, RATIO = 2**28, 100  # what a file may unpack to: 256 MiB, or more if it is large itself
# What reading raises for files that are damaged or no zip archives.
UNREADABLE = (*BROKEN, zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError)


def parts(target: Path) -> list[Path]:
    """The files of an export that are there: study.lotx, and study-00.lotx, study-01.lotx, … that say so.

    Parts of the first version say nothing: they are several, numbered from 00 without a gap. A file that cannot be read
    is the part that its number says where others are there. All others are exports of their own that happen to have
    such a name, or other files.
    """
    name = re.compile(re.escape(target.stem) + r"-(\d{2,})" + re.escape(target.suffix))
    told: dict[int, dict | None] = {}
    damaged = set()
    for path in target.parent.glob("*"):
        mark = name.fullmatch(path.name)
        if mark and path == _part(target, int(mark[1])) and path.is_file():
            try:
                with Archive(path) as file:
                    told[int(mark[1])] = file.manifest
            except StoreError:
                damaged.add(int(mark[1]))
    silent = next(n for n in itertools.count() if told.get(n, {}) is not None)
    whole = {n: said["parts"] for n, said in told.items() if said and said["part"] == n + 1 and said["parts"] > 1}
    found = {*whole, *(n for n in damaged if n < max(whole.values(), default=0))}
    found |= set(range(silent if silent > 1 else 0))
    return [*([target] if target.is_file() else []), *(_part(target, n) for n in sorted(found))]


def _part(target: Path, number: int) -> Path:
    return target.with_name(f"{target.stem}-{number:02d}{target.suffix}")


def keys(path: Path) -> list[str]:
    """The keys of the records that an exported file holds; the file is listed, not read."""
    with zipfile.ZipFile(path) as archive:
        return [name.partition("/")[0] for name in archive.namelist() if name.endswith(f"/{RECORD}")]


def contents(file: Path | IO[bytes]) -> dict[str, tuple[int, int]]:
    """Checksum and size of everything in an exported file, however it was compressed."""
    with zipfile.ZipFile(file) as archive:
        return {entry.filename: (entry.CRC, entry.file_size) for entry in archive.infolist()}


def set_aside(target: Path) -> list[Path]:
    """Renames what an export of this name left that cannot be opened any more, such as a file that was cut off.

    Files that are no zip archives from their first bytes on are somebody else's, and left.

    Returns:
        The new names.
    """
    aside = []
    for path in parts(target):
        with contextlib.suppress(OSError), path.open("rb") as file:
            if file.read(2) != b"PK":
                continue
            try:
                Archive(path).file.close()
            except StoreError:
                aside.append(path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S')}.damaged"))
                path.rename(aside[-1])
    return aside


def check_target(target: Path, files: int | None = None) -> None:
    """Refuses a name that an export cannot take: a folder or a device has it or the name of a part, or another file
    that of a part.

    Args:
        target: see `Store.export`.
        files: it will have so many at most; without that, names of a hundred are looked at.

    Raises:
        StoreError: saying so.
    """
    with disk.explained(f"the export {target}"):
        _check_names(target, [target, *(_part(target, number) for number in range(min(files or 100, 100)))])


def _check_names(target: Path, names: Iterable[Path]) -> None:
    _check_old(target)
    old = parts(target)
    for name in names:
        if name.exists() and not name.is_file():
            raise StoreError(f"{name} is there already, and is no file: export to another name")
        if name != target and name.exists() and name not in old:
            raise StoreError(f"{name} is there already, and is no part of {target}: export to another name or folder")


def _check_old(target: Path) -> None:
    """Refuses the name of a file that is no export, or a part of one."""
    if not target.is_file() or not target.stat().st_size:
        return
    try:
        with Archive(target) as file:
            said = file.manifest or {}
    except StoreError:
        raise StoreError(f"{target} is there already, and is no export: export to another name") from None
    if said.get("parts", 1) > 1:
        raise StoreError(f"{target} is there already, and is a part of another export: export to another name")


def pack(
    keys: Iterable[str],
    read: Callable[[str], tuple[bytes, bytes]],
    target: Path,
    part_bytes: int = PART_BYTES,
    files: int | None = None,
) -> list[Path]:
    """Writes an export: all new parts beside their places, then into them; parts that an older one had more go last.

    Args:
        keys: of the records, in order.
        read: gives the two files of a record.
        target, part_bytes, files: see `Store.export`.

    Returns:
        The files written; none, and nothing is changed, if there are no records.
    """
    plan: list[dict[str, dict[str, str]]] = []
    size = part_bytes
    for key in keys:
        both = dict(zip((RECORD, ARRAYS), read(key), strict=True))
        packed = sum(len(zlib.compress(data, LEVEL)) for data in both.values()) + 900  # names twice, checksums
        if size + packed > part_bytes:
            if len(plan) == files:
                break
            plan.append({})
            size = 1000  # the manifest's frame
        plan[-1][key] = {name: sha(data) for name, data in both.items()}
        size += packed
    if not plan:
        return []
    names = [_part(target, number) for number in range(len(plan))] if len(plan) > 1 else [target]
    new = [disk.temporary(name) for name in names]
    with disk.explained(f"the export {target}"):
        _check_names(target, names)
        old = parts(target)
        disk.make(target.parent)
        try:
            for path, data in zip(new, _zipped(plan, read), strict=True):
                disk.write(path, data)
            for path, name in zip(new, names, strict=True):
                disk.move(path, name)
        finally:
            for path in new:
                disk.remove(path)
        hidden = [path for path in target.parent.iterdir() if path.name.startswith(f".{target.stem[:100]}")]
        left = [path for path in hidden if path.is_file() and disk.abandoned(path)]
        for path in [*set(old) - set(names), *left]:
            disk.remove(path)
    return names


def _zipped(plan: Sequence[dict], read: Callable[[str], tuple[bytes, bytes]]) -> Iterator[bytes]:
    whole = sha(canonical(plan))
    for number, records in enumerate(plan, 1):
        manifest = {"format": FORMAT, "export": whole, "part": number, "parts": len(plan), "records": records}
        manifest["sha256"] = sha(canonical(manifest))
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as file:

            def add(name, data, file=file):  # a fixed date, so that the same records give the same file
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
                file.writestr(entry, data, zipfile.ZIP_DEFLATED, LEVEL)

            add(MANIFEST, json.dumps(manifest).encode())
            for key in records:
                for name, data in zip((RECORD, ARRAYS), read(key), strict=True):
                    add(f"{key}/{name}", data)
        yield buffer.getvalue()


def check_sources(sources: Iterable[Path]) -> None:
    """Refuses names of which none is a file that is there.

    Raises:
        StoreError: naming all of them.
    """
    named = list(sources)
    if other := [source for source in named if source.exists() and not (source.is_file() or source.is_dir())]:
        raise StoreError(f"{other[0]} is no file of a disk (a device, a pipe or a socket): name an exported file")
    if named and all(source.is_dir() or not source.exists() for source in named):
        raise StoreError("\n".join(map(_absent, named)))


def _absent(source: Path) -> str:
    if source.is_dir():
        return f"{source} is a folder: name the .lotx files in it"
    return f"there is no file {source}" + ", nor one that fits this pattern" * any(map(str(source).count, "*?["))


def _opened(source: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(source)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise StoreError(_absent(source)) from error
    except UNREADABLE as error:
        raise StoreError(f"{source} is not an export of a store, or it was cut off: {error}") from error


class Archive:
    """An exported file, opened for reading; sizes, names and manifest are checked before anything is unpacked.

    Raises:
        StoreError: if it is no export, is damaged as a whole, or was made by a later version.
    """

    def __init__(self, source: Path):
        self.source, self.problems = source, []
        self.file = _opened(source)
        try:
            entries = self.file.infolist()
            self.names = {entry.filename: entry for entry in entries}
            unpacked, limit = sum(entry.file_size for entry in entries), max(FLOOR, RATIO * source.stat().st_size)
            if unpacked > limit:
                raise StoreError(f"{source} would unpack to {unpacked:,} bytes, more than {limit:,}: it is no export")
            if not entries:
                raise StoreError(f"{source} is an empty zip archive: export it again")
            if len(self.names) < len(entries) or any(entry.compress_type not in (0, 8) for entry in entries):
                raise StoreError(f"{source} is not an export of a store: no export repeats or packs entries so")
            self.manifest = self._manifest()
            self._inventory()
        except UNREADABLE as error:
            self.file.close()
            raise StoreError(f"{source} is damaged at its manifest ({error}): export it again") from error
        except BaseException:
            self.file.close()
            raise

    def _read(self, name: str) -> bytes:
        with self.file.open(self.names[name]) as file:  # the directory may lie: no more is read than it says
            return file.read(self.names[name].file_size + 1)

    def _manifest(self) -> dict | None:
        if MANIFEST not in self.names:
            return None
        manifest = json.loads(self._read(MANIFEST))
        if manifest["format"] > FORMAT:
            raise StoreError(f"{self.source} was made by a later version of lottery: update this one")
        claimed = manifest.pop("sha256")
        if sha(canonical(manifest)) != claimed:
            raise ValueError("it does not fit its checksum")
        if not 1 <= manifest["part"] <= manifest["parts"] <= 10_000 or not isinstance(manifest["records"], dict):
            raise ValueError("it has another form than this version's")
        return manifest

    def _inventory(self) -> None:
        """Finds the keys of the records, and what is missing of them or does not belong here."""
        here: dict[str, set[str]] = {}
        for name in self.names.keys() - {MANIFEST}:
            key, _, file = name.rpartition("/")
            if not KEY.fullmatch(key) or file not in (RECORD, ARRAYS):
                self.problems.append(f"{self.source} is damaged at record {key}: {name!r} is no name of an export's")
            else:
                here.setdefault(key, set()).add(file)
        told = set(self.manifest["records"] if self.manifest else here)
        for key in sorted({key for key, files in here.items() if len(files) < 2} | told ^ here.keys()):
            why = f"the manifest names it among {len(told)}, and it is not whole here" if key in told else "unasked for"
            self.problems.append(f"{self.source} is damaged at record {key}: {why}; export it again")
            here.pop(key, None)
        self.keys = [key for key in dict.fromkeys(name.rpartition("/")[0] for name in self.names) if key in here]

    def records(self, keys: Collection[str] | None = None) -> Iterator[tuple[Record, bytes, bytes]]:
        """The sound records, or those of them with these keys, and their two files; `problems` names the others."""
        for key in self.keys if keys is None else [key for key in self.keys if key in keys]:
            try:
                text, small = (self._read(f"{key}/{name}") for name in (RECORD, ARRAYS))
                told = self.manifest and self.manifest["records"][key]
                if told and told != {RECORD: sha(text), ARRAYS: sha(small)}:
                    raise Damaged("it is not what the manifest says")
                record = decode(key, text, small)
            except UNREADABLE as error:
                self.problems.append(f"{self.source} is damaged at record {key} ({error}): export it again")
            else:
                yield record, text, small

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_) -> None:
        self.file.close()


def held(path: Path) -> list[str]:
    """The keys of the sound records that an exported file should hold.

    Raises:
        StoreError: if it cannot be read.
    """
    with Archive(path) as file:
        return file.keys


def differing(path: Path, keys: Collection[str], read: Callable[[str], Record | None]) -> list[str]:
    """Which records of an exported file hold other numbers than those read elsewhere, however they were made.

    Args:
        path: the file.
        keys: of the records to compare, as far as both have them.
        read: gives the other one.

    Raises:
        StoreError: if the file, or one of these records in it, is damaged.
    """
    with Archive(path) as file:
        pairs = [(record, read(record.key)) for record, *_ in file.records(keys)]
        if file.problems:
            raise StoreError("\n".join(file.problems))
    return [one.key for one, other in pairs if other is not None and _numbers(one) != _numbers(other)]


def _numbers(record: Record) -> tuple[bytes, str]:
    return canonical(record.values), sha(safetensors.numpy.save(record.arrays))


def missing(archives: Iterable[Archive]) -> list[str]:
    """The parts that exports in several parts lack, a line each."""
    there: dict[tuple[str, int], dict[int, Path]] = {}
    for archive in archives:
        if archive.manifest:
            whole = archive.manifest["export"], archive.manifest["parts"]
            there.setdefault(whole, {})[archive.manifest["part"]] = archive.source
    return [
        f"part {part} of {count} is missing, which belongs to {', '.join(map(str, found.values()))}"
        for (_, count), found in there.items()
        for part in range(1, count + 1)
        if part not in found
    ]
