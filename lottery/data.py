"""Data sets as tensors: loaded once, split once, normalised once, resident on the device.

A batch is then an index into a tensor; there is no `DataLoader` and no image library in the training loop.
"""

import contextlib
import hashlib
import numbers
import os
import pickle
from collections.abc import Iterable, Sized
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch

from . import LotteryError, seeds

NAMES = ("digits", "mnist", "fashion-mnist", "mnist-rgb", "fashion-mnist-rgb", "cifar10", "cifar100")
"""Those that end in "-rgb" are the published grey images in the form of CIFAR-10's, [3, 32, 32]: with two pixels of
zeros on each side, and repeated in three channels."""
FORMS = {"digits": ((1, 8, 8), 10), "cifar100": ((3, 32, 32), 100)}
FORMS |= dict.fromkeys(("mnist", "fashion-mnist"), ((1, 28, 28), 10))
FORMS |= dict.fromkeys(("mnist-rgb", "fashion-mnist-rgb", "cifar10"), ((3, 32, 32), 10))
"""Name → what `describe` says of it, known without its files."""
SCALINGS = ("standardise", "unit", "unit-norm", "none")

FINE = 100  # steps of float32 that a standard deviation must have, lest it drown in rounding
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)

# md5 of the unpacked idx files; torchvision itself checks only that they exist.
_IDX_MD5 = {
    "MNIST": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "FashionMNIST": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}

Pair = tuple[torch.Tensor, torch.Tensor]


class DataError(LotteryError):
    """A data set that is unknown, missing, damaged or of the wrong form."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set on one device.

    Attributes:
        name: as in a recipe.
        train, validation, test: pairs of inputs [N, ...] (float32; int64 where `load` says so) and labels [N] (int64).
        classes: the number of classes.
    """

    name: str
    train: Pair
    validation: Pair
    test: Pair
    classes: int
    _as_made: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self):
        object.__setattr__(self, "_as_made", self._versions())

    def __reduce__(self):  # copies are new tensors, never written to
        return Dataset, (self.name, self.train, self.validation, self.test, self.classes)

    def _versions(self) -> tuple[int, ...]:
        """How often each tensor, or one it shares memory with, was written to; PyTorch counts it for autograd."""
        tensors = (*self.train, *self.validation, *self.test)
        return tuple(0 if tensor.is_inference() else tensor._version for tensor in tensors)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, e.g. (1, 28, 28)."""
        return tuple(self.train[0].shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """What a network gets: float32, or int64."""
        return self.train[0].dtype

    @property
    def changed(self) -> bool:
        """Whether a tensor has been written to since this value was made; see `intact`."""
        return self._versions() != self._as_made

    def intact(self, network: str = "") -> None:
        """Makes sure that no tensor has been written to since this value was made; costs microseconds.

        What PyTorch does not count stays unseen: writing through `tensor.data` or a NumPy array of the same memory.

        Args:
            network: which network used the data, for the message.

        Raises:
            DataError: if one has, which is the work of a network whose first operation works in place.
        """
        if self.changed:
            who = repr(network) if network else "that used it"
            raise DataError(
                f"the network {who} wrote into the data set {self.name}: its first operation "
                "works in place (nn.ReLU(inplace=True), x.sub_(mean), x += 1). Nothing computed with it can be kept. "
                "Let this operation make a new tensor (inplace=False, x - mean), or start forward with x = x.clone()"
            )


_registered: dict[str, tuple[Pair, Pair]] = {}


def register(name: str, train, test) -> str:
    """Makes a data set of your own usable in recipes.

    What is taken in is a copy on the CPU, so later changes to yours do not matter. Examples whose labels do not follow
    each other as if shuffled, such as class after class, are mixed, always in the same way: some measurements look at
    the first examples alone, or at one batch after another.

    Args:
        name: a short name.
        train, test: pairs (inputs [N, ...], labels [N]) of tensors, arrays or lists, or anything with a `.tensors`
            attribute that holds such a pair (`torch.utils.data.TensorDataset`), or another
            `torch.utils.data.Dataset` of pairs of a tensor and a label. Of the latter each example is taken once, so
            a random transform of it is drawn once. Inputs are integers or floats, in both parts the same dtype, and
            images have channels first, [N, C, H, W]; see `load` for what becomes of them.
            Labels are integers from 0 to classes − 1, and the training part has all of them.

    Returns:
        The name to put into a recipe: yours with a hash of the content, so that results of other data are
        never mistaken for results of these.

    Raises:
        DataError: for anything else, with the part and what to do.
    """
    if not isinstance(name, str) or not name.isidentifier() or name in NAMES:
        raise DataError(f"{name!r} cannot name a data set: take an identifier other than {', '.join(NAMES)}")
    pairs = _pair(f"{name}, train", train), _pair(f"{name}, test", test)
    (inputs, labels), (test_inputs, test_labels) = pairs
    if inputs.shape[1:] != test_inputs.shape[1:]:
        shapes = f"{list(inputs.shape[1:])} and {list(test_inputs.shape[1:])}"
        raise DataError(f"{name}: train and test inputs have other shapes: {shapes}")
    if inputs.dtype != test_inputs.dtype:
        raise DataError(
            f"{name}: train inputs are {inputs.dtype}, test inputs {test_inputs.dtype}: one dtype for both, "
            "or they would be scaled in different ways"
        )
    present = labels.unique()
    if len(present) == 1:
        raise DataError(f"{name}, train: every label is {present.item()}: with one class there is nothing to learn")
    if present[-1] >= len(present):
        missing = sorted(set(range(len(present) + 5)) - set(present.tolist()))
        missing = [label for label in missing if label < present[-1]]
        more = " …" if present[-1] + 1 - len(present) > len(missing) else ""
        raise DataError(
            f"{name}, train: labels go up to {present[-1].item()}, but no example is of class "
            f"{', '.join(map(str, missing))}{more}: number the {len(present)} classes from 0 to {len(present) - 1}, "
            "e.g. torch.unique(labels, return_inverse=True)[1] of the labels of both parts together"
        )
    if test_labels.max() > present[-1]:
        raise DataError(f"{name}: the test set has a class that the training set lacks: {test_labels.max().item()}")
    digest = hashlib.sha256()
    for tensor in (*pairs[0], *pairs[1]):
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode() + tensor.view(torch.uint8).numpy().tobytes())
    full = f"{name}@{digest.hexdigest()[:12]}"
    _registered[full] = pairs
    return full


def _pair(where: str, given) -> Pair:
    """Inputs and labels as `register` was given them, checked, as tensors of our own on the CPU."""
    if isinstance(given, torch.utils.data.Dataset) and not _plain(given):
        try:
            examples = range(len(cast(Sized, given)))  # torch leaves it to subclasses to have a length
            given = torch.utils.data.default_collate([given[index] for index in examples])
        except Exception as error:
            raise DataError(
                f"{where}: the examples of {type(given).__name__} cannot be stacked ({error}): each must be a tensor "
                "(of the same shape for all; images through a transform such as ToTensor) and an integer label"
            ) from error
    given = getattr(given, "tensors", given)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DataError(
            f"{where}: expected (inputs, labels), a TensorDataset of both, or another torch.utils.data.Dataset of "
            f"pairs, not {type(given).__name__}{f' of {len(given)}' if isinstance(given, tuple | list) else ''}"
        )
    inputs, labels = _tensor(f"{where}: inputs", given[0]), _tensor(f"{where}: labels", given[1])
    _check_inputs(where, inputs)
    _check_labels(where, labels, len(inputs))
    return inputs, labels.long()


def _plain(given: torch.utils.data.Dataset) -> bool:
    """Whether the examples of a data set are its tensors as they are: a subclass may transform them."""
    getter = getattr(type(given), "__getitem__", None)
    return hasattr(given, "tensors") and getter is torch.utils.data.TensorDataset.__getitem__


def _tensor(what: str, value) -> torch.Tensor:
    """A contiguous copy on the CPU."""
    if np.ma.is_masked(value):
        raise DataError(f"{what}: {np.ma.count_masked(value):,} values are masked: leave out or fill them (.filled)")
    try:
        if isinstance(value, tuple | list) and len(value) and all(isinstance(part, torch.Tensor) for part in value):
            value = torch.stack(tuple(value))
        if not isinstance(value, torch.Tensor):
            array = np.asarray(value)
            value = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))
        if value.layout != torch.strided or value.is_quantized:
            raise TypeError("sparse or quantised")
        return value.detach().cpu().as_subclass(torch.Tensor).clone(memory_format=torch.contiguous_format)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{what} cannot be made a dense tensor of numbers ({error})") from error


def _check_inputs(where: str, inputs: torch.Tensor) -> None:
    if inputs.dtype not in _FLOATS + _INTEGERS:
        raise DataError(
            f"{where}: inputs are {inputs.dtype}: give floats (inputs.float()), pixels as uint8, ids as int64; "
            "complex numbers as two channels (torch.view_as_real)"
        )
    if inputs.ndim == 0 or inputs.numel() == 0:
        raise DataError(f"{where}: inputs of shape {list(inputs.shape)} are no examples: expected [N, ...] with N > 0")
    bad = (~torch.isfinite(inputs)).sum().item()
    if bad:
        raise DataError(f"{where}: {bad:,} of {inputs.numel():,} input values are not finite: leave out or fill them")
    if inputs.ndim == 4:
        _, height, width, channels = inputs.shape
        # Feature maps [N, 512, 4, 4] and signals [N, 64, 500, 1] pass: images have longer sides, and of similar length.
        if channels in (1, 3, 4) and min(height, width) > 4 and max(height, width) <= 3 * min(height, width):
            raise DataError(
                f"{where}: inputs of shape {list(inputs.shape)} look like images with channels last, and would be read "
                f"as {height} channels of {width}×{channels} pixels: give [N, C, H, W], inputs.permute(0, 3, 1, 2)"
            )


def _check_labels(where: str, labels: torch.Tensor, examples: int) -> None:
    if labels.ndim == 2 and len(labels) == examples:
        remedy = "labels[:, 0]" if labels.shape[1] == 1 else "labels.argmax(1), if they are one-hot"
        raise DataError(f"{where}: labels of shape {list(labels.shape)}: one class for each example, [N]: {remedy}")
    if labels.shape != (examples,):
        raise DataError(f"{where}: {examples} inputs but labels of shape {tuple(labels.shape)}: expected [N] for both")
    if labels.dtype in _FLOATS:
        whole = (labels == labels.round()).all()
        remedy = (
            "labels.long() if they are classes" if whole else "these are no classes, and regression is not supported"
        )
        raise DataError(f"{where}: labels must be integers, not {labels.dtype}: {remedy}")
    if labels.dtype not in (*_INTEGERS, torch.bool):
        raise DataError(f"{where}: labels must be integers, not {labels.dtype}: give them as int64")
    if labels.min() < 0:
        raise DataError(
            f"{where}: labels must be integers from 0 on, not {labels.min().item()}: leave such examples out"
        )


def registered() -> dict[str, tuple[Pair, Pair]]:
    """What `register` took in, to hand to worker processes."""
    return dict(_registered)


def adopt(sets: dict[str, tuple[Pair, Pair]]) -> None:
    """Takes over the registered data sets of another process."""
    _registered.update(sets)


def check(name: str, validation: int | None = None, scaling: str | None = None) -> None:
    """Refuses what `load` would refuse; what is left out is not looked at.

    With a name alone nothing is read; else files are read once for a process.

    Raises:
        DataError: as `load` does.
    """
    if name not in NAMES and name not in _registered:
        known = ", ".join((*NAMES, *_registered))
        raise DataError(f"no data set {name!r}; known: {known}; your own: lottery.data.register(name, train, test)")
    if scaling is not None and scaling not in SCALINGS:
        raise DataError(f"no scaling {scaling!r}; known: {', '.join(SCALINGS)}")
    if validation is None and scaling in (None, "none"):
        return
    inputs = _raw(name)[0][0]
    if validation is not None and not (
        isinstance(validation, numbers.Integral) and validation in range(1, len(inputs))
    ):
        raise DataError(f"{name}: validation must be from 1 to {len(inputs) - 1} of {len(inputs)} training examples")
    if scaling in (None, "none"):
        return
    # Bytes with two axes may be flat images or ids; bytes with three or more, and other integers with four, are images.
    if not inputs.is_floating_point() and inputs.ndim <= (2 if inputs.dtype == torch.uint8 else 3):
        raise DataError(
            f"{name}: inputs of dtype {inputs.dtype} and shape {list(inputs.shape)} would be changed by "
            f'scaling={scaling!r} as if they were pixels. Token ids or categories: scaling="none" keeps them integers, '
            "for an embedding. Quantities: register them as floats (inputs.float()). Images: as [N, C, H, W]"
        )
    if scaling == "unit-norm" and inputs.ndim < 2:
        raise DataError(f"{name}: scaling='unit-norm' needs inputs [N, ...], not single numbers [N]")
    if scaling == "unit-norm" and inputs[0].numel() == 1:
        raise DataError(f"{name}: scaling='unit-norm' leaves of a single number its sign alone: use another scaling")


def describe(name: str) -> tuple[tuple[int, ...], int]:
    """The shape of one input and the number of classes; nothing is scaled, and files are read once for a process.

    Raises:
        DataError: for an unknown name, or a missing or damaged file.
    """
    (inputs, _), _, classes = _raw(name)
    return tuple(inputs.shape[1:]), classes


def forget() -> None:
    """Drops what `load` and `describe` keep in memory; data sets of your own stay registered."""
    _resident.cache_clear()
    _published.cache_clear()


def folder() -> Path:
    """Where downloaded data sets lie: `LOTTERY_DATA`, else a per-user cache."""
    if os.environ.get("LOTTERY_DATA"):
        return Path(os.environ["LOTTERY_DATA"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lottery-data"


_declared: list[torch.library.Library] = []  # schemas live as long as these objects


def declare_torchvision_operators() -> None:
    """Lets torchvision's Python parts (data sets) import beside a torch of another build.

    A CPU build of torch beside a CUDA build of torchvision cannot load torchvision's compiled operators and
    fails at import with "operator torchvision::nms does not exist". Declaring the two schemas first is enough.
    """
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)


def _torchvision_datasets():
    try:
        import torchvision.datasets
    except RuntimeError:  # operator torchvision::nms does not exist
        import sys

        for module in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[module]
        declare_torchvision_operators()
        import torchvision.datasets
    return torchvision.datasets


def _refuse_another_folder(what: str, root: Path, files: Iterable[Path]) -> None:
    """Refuses to download into what `LOTTERY_DATA` names if that is no folder, or the files lie near it.

    Raises:
        DataError: saying which folder to name instead.
    """
    if not os.environ.get("LOTTERY_DATA"):
        return
    root, there = root.absolute(), root.is_dir()
    near = [*root.parents[:2], *_folders(root if there else root.parent)]
    wanted = [path.absolute().relative_to(root) for path in files]
    for other in near:
        if all(os.path.exists(other / path) for path in wanted):
            raise DataError(
                f"{what} is not in {root}, which LOTTERY_DATA names, but in {other}: set LOTTERY_DATA to it"
            )
    if not there:
        raise DataError(
            f"{what}: LOTTERY_DATA names {root}, and there is no such folder. Set it to the folder that holds "
            f"{wanted[0]}; or make this folder, or unset LOTTERY_DATA, and the files are downloaded"
        )


def _folders(root: Path) -> list[Path]:
    """The folders in a folder; none where it cannot be read."""
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []


def _download(kind, root: Path, files: Iterable[Path]) -> None:
    """As torchvision does it; folders that were made for nothing are removed."""
    made = [folder for folder in {folder for path in files for folder in path.parents} if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Not constructed: MNIST's constructor would be content with a MNIST/processed that nobody checks.
        download = object.__new__(kind)
        download.root = str(root)
        download.download()
    except Exception:
        for folder in sorted(made, key=lambda folder: len(folder.parts), reverse=True):
            with contextlib.suppress(OSError):  # it holds something, or was not made
                folder.rmdir()
        raise


def _contents(what: str, kind, root: Path, files: dict[Path, str]) -> list[bytes]:
    """What is in these files: read once, so what is used is what was checked. Downloaded if any is missing."""
    if missing := [path for path in files if not path.exists()]:
        _refuse_another_folder(what, root, files)
        try:
            _download(kind, root, files)
        except Exception as error:
            raise DataError(
                f"{what} is not complete in {root} (missing: {', '.join(str(p.relative_to(root)) for p in missing)}) "
                f"and could not be downloaded ({error}). Put its files there or set LOTTERY_DATA to the folder that "
                "holds them"
            ) from error
    contents = []
    for path, md5 in files.items():
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise DataError(f"{what}: {path} cannot be read ({error.strerror})") from error
        if hashlib.md5(contents[-1]).hexdigest() != md5:
            raise DataError(
                f"{path} is damaged (its md5 is not {md5}): delete it and put the published file there, "
                "or let it be downloaded"
            )
    return contents


def _idx(content: bytes, header: int, *shape: int) -> torch.Tensor:
    """The bytes of an idx file whose md5 is known, and so its header too."""
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(-1, *shape)


def _cifar(contents: list[bytes]) -> Pair:
    batches = [pickle.loads(content, encoding="latin1") for content in contents]
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = np.concatenate([batch.get("labels", batch.get("fine_labels")) for batch in batches])
    return torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64))


def _digits_file() -> Path:
    """Where scikit-learn keeps what its `load_digits` reads.

    To import that function takes a second, in every process that trains; the place is scikit-learn's own affair, and a
    test compares what is read with what the function gives.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataError("the digits are a file of scikit-learn, which is not installed: pip install scikit-learn")
    return Path(spec.origin).with_name("datasets") / "data" / "digits.csv.gz"


@lru_cache(maxsize=2)
def _published(name: str, root: Path) -> tuple[Pair, Pair, int]:
    if name == "digits":
        rows = np.loadtxt(_digits_file(), delimiter=",")  # 64 pixels from 0 to 16 and the digit
        images = torch.from_numpy(np.round(rows[:, :-1] * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
        labels = torch.from_numpy(rows[:, -1].astype(np.int64))
        order = torch.from_numpy(np.random.Generator(np.random.PCG64(0)).permutation(len(labels)))
        train, test = order[:1400], order[1400:]
        return (images[train], labels[train]), (images[test], labels[test]), 10
    datasets = _torchvision_datasets()
    if (grey := name.removesuffix("-rgb")) in ("mnist", "fashion-mnist"):
        kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[grey]
        files = {root / kind.__name__ / "raw" / file: md5 for file, md5 in _IDX_MD5[kind.__name__].items()}
        images, labels, test_images, test_labels = _contents(grey, kind, root, files)
        parts = _idx(images, 16, 1, 28, 28), _idx(test_images, 16, 1, 28, 28)
        if grey != name:
            parts = [torch.nn.functional.pad(part, (2, 2, 2, 2)).repeat(1, 3, 1, 1) for part in parts]
        return (parts[0], _idx(labels, 8).long()), (parts[1], _idx(test_labels, 8).long()), 10
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    files = {root / kind.base_folder / file: md5 for file, md5 in kind.train_list + kind.test_list}
    contents = _contents(name, kind, root, files)
    *train, test = contents
    return _cifar(train), _cifar([test]), 10 if name == "cifar10" else 100


def _raw(name: str) -> tuple[Pair, Pair, int]:
    """Training and test pair as published, images as uint8 [N, C, H, W], and the number of classes."""
    check(name)
    if name in _registered:
        train, test = _registered[name]
        return train, test, int(train[1].max()) + 1
    return _published(name, folder())


def _scaled(name: str, parts: dict[str, torch.Tensor], scaling: str) -> dict[str, torch.Tensor]:
    """The inputs of all parts, in memory of their own, scaled by what the training part says; see `load`."""
    kind = parts["train"].dtype
    if scaling == "none" and not kind.is_floating_point:
        return {part: x.to(torch.int64, copy=True) for part, x in parts.items()}
    if kind == torch.uint8:
        parts = {part: x.float() / 255 for part, x in parts.items()}
    else:  # float32 only in the end: seconds since 1970, not yet centred, have steps of 128 there
        parts = {part: x.double() for part, x in parts.items()}
    deviation = torch.ones(())
    if scaling == "standardise":
        train = parts["train"]
        grey = kind == torch.uint8 and train.ndim == 3  # images without an axis of channels: one for all
        axes = [axis for axis in range(train.ndim) if axis != 1 or grey]
        low, high = train.amin(axes, keepdim=True), train.amax(axes, keepdim=True)
        mean = torch.where(high > low, train.mean(axes, keepdim=True), low)
        deviation = torch.where(high > low, train.std(axes, keepdim=True), 1.0)  # not 0 to the last bit, if constant
        parts = {part: (x - mean) / deviation for part, x in parts.items()}
    elif scaling == "unit-norm":
        parts = {
            part: torch.nn.functional.normalize(x.flatten(1), dim=1).view_as(x).contiguous()
            for part, x in parts.items()
        }
    if kind not in (torch.uint8, torch.float16, torch.bfloat16, torch.float32):
        _check_steps(name, parts["train"], scaling)
    parts = {part: x.float() for part, x in parts.items()}
    if kind != torch.uint8 and not all(x.isfinite().all() for x in (deviation, *parts.values())):
        raise DataError(f"{name}: scaling={scaling!r} leaves values that float32 cannot hold: register smaller numbers")
    return parts


def _check_steps(name: str, train: torch.Tensor, scaling: str) -> None:
    """Refuses features whose differences from example to example float64 holds and float32 does not."""
    features = [[axis for axis in range(train.ndim) if axis != kept] for kept in range(1, train.ndim)]
    for axes in [*features, [0]]:  # along each axis, and at each place
        _check_steps_of(name, train.std(axes), train.abs().amax(axes), scaling)


def _check_steps_of(name: str, deviation: torch.Tensor, most: torch.Tensor, scaling: str) -> None:
    steps, fine = (most * torch.finfo(kind).eps for kind in (torch.float32, torch.float64))
    if (lost := (fine * FINE < deviation) & (deviation < steps * FINE)).any():
        first = int(lost.flatten().nonzero()[0])
        what = "subtract" if scaling == "standardise" else "use scaling='standardise', or subtract"
        raise DataError(
            f"{name}: scaling={scaling!r} leaves numbers up to {most.flatten()[first]:.3g} with a standard deviation "
            f"of {deviation.flatten()[first]:.3g} (feature {first}), between which float32, of steps of "
            f"{steps.flatten()[first]:.3g} there, hardly tells: {what} an offset"
        )


def load(name: str, validation: int, scaling: str = "standardise", device: str = "cpu") -> Dataset:
    """Loads a data set and splits off the validation examples.

    The tensors are shared by all who load the same: read them, do not write to them. Those that were written to are
    not given out again (`Dataset.intact` tells whose work it was).
    Kept in memory are the published images of the last two data sets, as bytes (55 MB for MNIST, 215 MB for MNIST in
    three channels, 184 MB for CIFAR-10), and the last four results, as float32 (220, 860 and 737 MB), on the device.

    Args:
        name: one of `NAMES`, or what `register` returned.
        validation: how many training examples, drawn once and the same for every run, become the validation set.
            The test set is never used to choose anything.
        scaling: what becomes of the inputs.
            "standardise" gives each channel or feature (axis 1; grey images [N, H, W] have one channel) mean 0 and
            standard deviation 1 over the training part; a constant one becomes 0. Done in float64 for inputs other
            than bytes.
            "unit" divides bytes by 255 and leaves other values.
            "unit-norm" scales each example to Euclidean length 1, as the public code of Frankle & Carbin (2019) does.
            "none" leaves the values: integers of any kind, bytes too, stay integers (int64), as an embedding wants
            them. Under the others integers must be images: uint8 [N, H, W] or any integers [N, C, H, W].
        device: where the tensors are kept.

    Returns:
        Inputs in float32, or int64 for integers under "none".

    Raises:
        DataError: for an unknown name or scaling, a missing or damaged file (named), a validation set that
            leaves nothing to train on, or integers under a scaling that is not for them.
    """
    check(name, validation or 0, str(scaling))
    wanted = (name, validation, scaling, str(device), folder())
    if _resident(*wanted).changed:
        _resident.cache_clear()
    return _resident(*wanted)


def _mixed(labels: torch.Tensor) -> bool:
    """Whether labels follow each other as if shuffled: the first examples, or a batch of them, are then a fair sample.

    By how often a label differs from the one before, against what chance gives, within six standard deviations; and
    classes that stand one after the other are not mixed, however rare some are.
    """
    shares = labels.unique(return_counts=True)[1].double() / len(labels)
    expected = 1 - float((shares**2).sum())
    changes = float((labels[1:] != labels[:-1]).double().mean()) if len(labels) > 1 else expected
    if 1 < len(shares) < len(labels) and (labels[1:] != labels[:-1]).sum() == len(shares) - 1:
        return False
    return abs(changes - expected) <= 6 * (max(expected * (1 - expected), 1e-12) / max(len(labels) - 1, 1)) ** 0.5


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # inference tensors have no versions
def _resident(name: str, validation: int, scaling: str, device: str, root: Path) -> Dataset:
    (inputs, labels), (test_inputs, test_labels), classes = _raw(name)
    order = torch.from_numpy(seeds.generator(0, seeds.SPLIT).permutation(len(inputs)))
    kept, held = order[validation:], order[:validation].sort().values
    if name in NAMES or _mixed(labels):  # as published, or as good as shuffled
        kept = kept.sort().values
    if name not in NAMES and not _mixed(test_labels):
        mixed = torch.from_numpy(seeds.generator(0, seeds.SPLIT, 1).permutation(len(test_labels)))
        test_inputs, test_labels = test_inputs[mixed], test_labels[mixed]
    with seeds.alone:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the last bit of a mean hangs on their number; all processes shall have the same
        try:
            parts = _scaled(name, {"train": inputs[kept], "validation": inputs[held], "test": test_inputs}, scaling)
        finally:
            torch.set_num_threads(threads)
    targets = {"train": labels[kept], "validation": labels[held], "test": test_labels.clone()}
    pairs = {part: (parts[part].to(device), targets[part].to(device)) for part in parts}
    return Dataset(name=name, classes=classes, **pairs)
