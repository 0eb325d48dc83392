"""Data sets as tensors: loaded once, split once, normalised once, resident on the device.

A batch is then an index into a tensor; there is no `DataLoader` and no image library in the training loop.
"""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from . import LotteryError, seeds

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")
SCALINGS = ("standardise", "unit", "unit-norm")

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
        train, validation, test: pairs of inputs [N, ...] (float32) and labels [N] (int64).
        classes: the number of classes.
    """

    name: str
    train: Pair
    validation: Pair
    test: Pair
    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, e.g. (1, 28, 28)."""
        return tuple(self.train[0].shape[1:])


_registered: dict[str, tuple[Pair, Pair]] = {}


def register(name: str, train, test) -> str:
    """Makes a data set of your own usable in recipes.

    Args:
        name: a short name.
        train, test: pairs (inputs [N, ...], labels [N]) of tensors or arrays, or anything with a `.tensors`
            attribute that holds such a pair (`torch.utils.data.TensorDataset`).

    Returns:
        The name to put into a recipe: yours with a hash of the content, so that results of other data are
        never mistaken for results of these.

    Raises:
        DataError: if lengths differ, inputs are not finite, or labels are not 0 … classes − 1.
    """
    if not name.isidentifier() or name in NAMES:
        raise DataError(f"{name!r} cannot name a data set: take an identifier other than {', '.join(NAMES)}")
    pairs, digest = [], hashlib.sha256()
    for part, pair in (("train", train), ("test", test)):
        inputs, labels = getattr(pair, "tensors", pair)
        inputs, labels = torch.as_tensor(inputs), torch.as_tensor(labels)
        if len(inputs) != len(labels) or labels.ndim != 1 or len(inputs) == 0:
            raise DataError(f"{name}, {part}: {len(inputs)} inputs but labels of shape {tuple(labels.shape)}")
        if labels.is_floating_point() or labels.min() < 0:
            raise DataError(f"{name}, {part}: labels must be integers from 0 on")
        if not torch.isfinite(inputs.float()).all():
            raise DataError(f"{name}, {part}: inputs that are not finite")
        # Copies: the name says which content it is, so what the caller does with theirs later must not reach ours.
        inputs, labels = inputs.clone().contiguous(), labels.long().clone()
        for tensor in (inputs, labels):
            digest.update(str((tensor.dtype, tuple(tensor.shape))).encode() + tensor.cpu().numpy().tobytes())
        pairs.append((inputs, labels))
    if pairs[0][0].shape[1:] != pairs[1][0].shape[1:]:
        raise DataError(f"{name}: train and test inputs have other shapes")
    if pairs[1][1].max() > pairs[0][1].max():
        raise DataError(f"{name}: the test set has a class that the training set lacks")
    full = f"{name}@{digest.hexdigest()[:12]}"
    _registered[full] = (pairs[0], pairs[1])
    return full


def registered() -> dict[str, tuple[Pair, Pair]]:
    """What `register` took in, to hand to worker processes."""
    return dict(_registered)


def adopt(sets: dict[str, tuple[Pair, Pair]]) -> None:
    """Takes over the registered data sets of another process."""
    _registered.update(sets)


def check(name: str) -> None:
    """Refuses a name that no data set has.

    Raises:
        DataError: with the known names.
    """
    if name not in NAMES and name not in _registered:
        known = ", ".join((*NAMES, *_registered))
        raise DataError(f"no data set {name!r}; known: {known}; your own: lottery.data.register(name, train, test)")


def folder() -> Path:
    """Where downloaded data sets lie: `LOTTERY_DATA`, else a per-user cache."""
    if os.environ.get("LOTTERY_DATA"):
        return Path(os.environ["LOTTERY_DATA"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lottery-data"


def declare_torchvision_operators() -> None:
    """Lets torchvision's Python parts (data sets) import beside a torch of another build.

    A CPU build of torch beside a CUDA build of torchvision cannot load torchvision's compiled operators and
    fails at import with "operator torchvision::nms does not exist". Declaring the two schemas first is enough.
    """
    if not hasattr(torch.ops.torchvision, "nms"):
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        declare_torchvision_operators.keep = library  # the schemas live as long as this object


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


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path} is damaged ({why}): delete it and put the published file there, or let it be downloaded")


def _verify(files: dict[Path, str]) -> None:
    for path, md5 in files.items():
        if hashlib.md5(path.read_bytes()).hexdigest() != md5:
            raise _damaged(path, f"its md5 is not {md5}")


def _fetch(construct, what: str, files: dict[Path, str], root: Path):
    """torchvision's data set; downloaded if files are missing, refused if one is damaged."""
    missing = [path for path in files if not path.exists()]
    if missing:
        try:
            root.mkdir(parents=True, exist_ok=True)
            construct(download=True)
        except Exception as error:
            raise DataError(
                f"{what} is not complete in {root} (missing: {', '.join(p.name for p in missing)}) and could not be "
                f"downloaded ({error}). Put its files there or set LOTTERY_DATA to the folder that holds them"
            ) from error
    _verify({path: md5 for path, md5 in files.items() if path.exists()})
    return construct(download=False)


def _raw(name: str) -> tuple[Pair, Pair, int]:
    """Training and test pair as published, images as uint8 [N, C, H, W], and the number of classes."""
    if name in _registered:
        train, test = _registered[name]
        return train, test, int(train[1].max()) + 1
    if name == "digits":
        from sklearn.datasets import load_digits

        bunch = load_digits()
        images = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
        labels = torch.from_numpy(bunch.target.astype(np.int64))
        order = torch.from_numpy(np.random.Generator(np.random.PCG64(0)).permutation(len(labels)))
        train, test = order[:1400], order[1400:]
        return (images[train], labels[train]), (images[test], labels[test]), 10
    datasets, root = _torchvision_datasets(), folder()
    if name in ("mnist", "fashion-mnist"):
        kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
        files = {root / kind.__name__ / "raw" / file: md5 for file, md5 in _IDX_MD5[kind.__name__].items()}
        classes = 10
    else:
        kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
        base = root / kind.base_folder
        files = {base / file: md5 for file, md5 in kind.train_list + kind.test_list}
        files[base / kind.meta["filename"]] = kind.meta["md5"]
        classes = 10 if name == "cifar10" else 100
    pairs = []
    for is_train in (True, False):
        part = _fetch(lambda download, t=is_train: kind(root, train=t, download=download), name, files, root)
        images = torch.as_tensor(part.data)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        pairs.append((images.contiguous(), torch.as_tensor(part.targets, dtype=torch.int64)))
    return pairs[0], pairs[1], classes


def _scaled(parts: dict[str, torch.Tensor], scaling: str) -> dict[str, torch.Tensor]:
    """The inputs of all parts as float32, scaled by what the training part says; see `load`."""
    parts = {part: x / 255 if x.dtype == torch.uint8 else x.float() for part, x in parts.items()}
    if scaling == "standardise":
        axes = [axis for axis in range(parts["train"].ndim) if axis != 1]
        mean = parts["train"].mean(axes, keepdim=True)
        deviation = parts["train"].std(axes, keepdim=True)
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return {part: (x - mean) / deviation for part, x in parts.items()}
    if scaling == "unit-norm":
        return {
            part: torch.nn.functional.normalize(x.flatten(1), dim=1).view_as(x).contiguous()
            for part, x in parts.items()
        }
    return parts


@lru_cache(maxsize=2)
def load(name: str, validation: int, scaling: str = "standardise", device: str = "cpu") -> Dataset:
    """Loads a data set and splits off the validation examples.

    Args:
        name: one of `NAMES`, or what `register` returned.
        validation: how many training examples, drawn once and the same for every run, become the validation set.
            The test set is never used to choose anything.
        scaling: "unit" leaves pixels in [0, 1]; "standardise" gives each channel (or feature) mean 0 and standard
            deviation 1 over the training part; "unit-norm" scales each example to Euclidean length 1, as the public
            code of Frankle & Carbin (2019) does.
        device: where the tensors are kept.

    Raises:
        DataError: for an unknown name or scaling, a missing or damaged file (named), or a validation set that
            leaves nothing to train on.
    """
    check(name)
    if scaling not in SCALINGS:
        raise DataError(f"no scaling {scaling!r}; known: {', '.join(SCALINGS)}")
    (inputs, labels), (test_inputs, test_labels), classes = _raw(name)
    if not 0 < validation < len(inputs):
        raise DataError(f"{name}: validation must be from 1 to {len(inputs) - 1} of {len(inputs)} training examples")

    order = torch.from_numpy(seeds.generator(0, seeds.SPLIT).permutation(len(inputs)))
    kept, held = order[validation:].sort().values, order[:validation].sort().values
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the last bit of a mean hangs on the number of threads; all processes shall have the same
    try:
        parts = _scaled({"train": inputs[kept], "validation": inputs[held], "test": test_inputs}, scaling)
    finally:
        torch.set_num_threads(threads)
    targets = {"train": labels[kept], "validation": labels[held], "test": test_labels}
    pairs = {part: (parts[part].to(device), targets[part].to(device)) for part in parts}
    return Dataset(name=name, classes=classes, **pairs)
