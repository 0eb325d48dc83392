"""Data sets: counts, splits, scalings, names that carry their content, and errors that say what to do."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from lottery import data
from lottery.data import DataError

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("train", "validation", "test")


def rows(part):
    """One hash for each example of a part, to compare sets of examples."""
    return [hashlib.md5(x.numpy().tobytes()).hexdigest() for x in part[0]]


def mnist_or_skip():
    given = os.environ.get("LOTTERY_DATA")
    if not (data.folder() / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        if given and os.environ.get("CI") == "true":
            pytest.fail(f"LOTTERY_DATA is {given}, but MNIST is not there")
        pytest.skip("MNIST is not at hand: set LOTTERY_DATA to the folder that holds it")


# Digits.


def test_digits_have_their_1797_examples_in_three_parts():
    digits = data.load("digits", 200)
    assert [len(getattr(digits, part)[1]) for part in PARTS] == [1200, 200, 397]
    assert digits.shape == (1, 8, 8) and digits.classes == 10


def test_the_three_parts_share_no_example():
    digits = data.load("digits", 200, "unit")
    seen = [row for part in PARTS for row in rows(getattr(digits, part))]
    # scikit-learn's digits hold no image twice, so equal images would be one example in two parts
    assert len(set(seen)) == len(seen) == 1797


def test_tensors_are_float32_and_labels_int64():
    digits = data.load("digits", 200)
    assert all(getattr(digits, part)[0].dtype == torch.float32 for part in PARTS)
    assert all(getattr(digits, part)[1].dtype == torch.int64 for part in PARTS)


def test_every_class_is_in_every_part():
    digits = data.load("digits", 200)
    assert all(set(getattr(digits, part)[1].tolist()) == set(range(10)) for part in PARTS)


def test_a_larger_validation_set_contains_a_smaller_one():
    small, large = (set(rows(data.load("digits", n, "unit").validation)) for n in (100, 200))
    assert small < large


# Scalings.


def test_unit_leaves_pixels_between_0_and_1():
    pixels = data.load("digits", 200, "unit").train[0]
    assert pixels.min() == 0 and pixels.max() == 1


def test_standardise_uses_the_training_part_alone():
    unit, standard = data.load("digits", 200, "unit"), data.load("digits", 200, "standardise")
    mean, deviation = unit.train[0].mean(), unit.train[0].std()
    for part in PARTS:
        torch.testing.assert_close(getattr(standard, part)[0], (getattr(unit, part)[0] - mean) / deviation)


def test_unit_norm_gives_each_image_length_1():
    lengths = data.load("digits", 200, "unit-norm").test[0].flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones(397))


@pytest.mark.parametrize("scaling", ["standardise", "unit-norm"])
def test_not_a_bit_of_the_data_hangs_on_the_number_of_threads(scaling):
    before, loaded = torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        data.load.cache_clear()
        loaded.append(data.load("digits", 200, scaling).train[0])
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)
    assert torch.equal(loaded[0], loaded[1]) and torch.equal(loaded[0], loaded[2])


def test_a_constant_feature_is_no_division_by_zero():
    x = torch.tensor([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0], [4.0, 5.0]])
    name = data.register("constant", (x, torch.tensor([0, 1, 0, 1])), (x, torch.tensor([0, 1, 0, 1])))
    assert torch.isfinite(data.load(name, 1).train[0]).all()


# One's own data.


def some(n=20, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=draw), torch.arange(n) % 2


def test_the_name_of_ones_own_data_is_that_of_their_content():
    (x, y), test = some(), some(seed=1)
    name = data.register("mine", (x, y), test)
    changed = x.clone()
    changed[7, 1] += 1e-6
    assert data.register("mine", (x.clone(), y), test) == name
    assert data.register("mine", (changed, y), test) != name
    assert data.register("mine", (x, 1 - y), test) != name
    assert data.register("mine", (x, y), some(seed=2)) != name
    assert data.register("mine", (x.double(), y), test) != name


def test_what_was_registered_is_safe_from_later_changes():
    (x, y), test = some(), some(seed=1)
    name = data.register("aliased", (x, y), test)
    before = data.load(name, 5, "unit").train[0].clone()
    data.load.cache_clear()
    x.zero_()
    assert torch.equal(data.load(name, 5, "unit").train[0], before)


def test_tensor_data_sets_and_arrays_are_the_same_as_pairs_of_tensors():
    (x, y), (tx, ty) = some(), some(seed=1)
    name = data.register("forms", (x, y), (tx, ty))
    assert data.register("forms", TensorDataset(x, y), TensorDataset(tx, ty)) == name
    assert data.register("forms", (x.numpy(), y.numpy()), (tx.numpy(), ty.numpy())) == name


def test_bytes_are_scaled_like_images():
    x = torch.arange(0, 256, dtype=torch.uint8).view(64, 1, 2, 2)
    name = data.register("bytes", (x, torch.arange(64) % 2), (x, torch.arange(64) % 2))
    assert data.load(name, 1, "unit").test[0].max() == 1


@pytest.mark.parametrize(
    "train, words",
    [
        ((torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64)), "3 inputs but labels of shape"),
        ((torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)), "0 inputs"),
        ((torch.zeros(2, 2), torch.zeros(2)), "labels must be integers"),
        ((torch.zeros(2, 2), torch.tensor([0, -1])), "labels must be integers"),
        ((torch.tensor([[float("nan"), 0.0]]), torch.tensor([0])), "not finite"),
        ((torch.zeros(2, 5), torch.tensor([0, 1])), "other shapes"),
        ((torch.zeros(2, 3), torch.tensor([0, 0])), "a class that the training set lacks"),
    ],
)
def test_data_of_the_wrong_form_are_refused(train, words):
    with pytest.raises(DataError, match=words):
        data.register("wrong", train, some())


@pytest.mark.parametrize("name", ["mnist", "two words", ""])
def test_names_that_cannot_be_given(name):
    with pytest.raises(DataError, match="cannot name a data set"):
        data.register(name, some(), some())


# Errors.


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(DataError, match=r"no data set 'imagenet'; known: digits, mnist.*register"):
        data.load("imagenet", 10)


def test_an_unknown_scaling_is_refused():
    with pytest.raises(DataError, match="known: standardise, unit, unit-norm"):
        data.load("digits", 10, "loud")


@pytest.mark.parametrize("validation", [0, 1400])
def test_a_validation_set_must_leave_something_on_both_sides(validation):
    with pytest.raises(DataError, match="from 1 to 1399 of 1400"):
        data.load("digits", validation)


def test_missing_data_without_a_network_name_folder_and_variable(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path / "empty"))
    with pytest.raises(DataError) as caught:
        data.load("mnist", 5000)
    said = str(caught.value)
    assert str(tmp_path / "empty") in said and "LOTTERY_DATA" in said and "train-images-idx3-ubyte" in said


def test_a_damaged_file_is_an_error_that_names_it(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in data._IDX_MD5["MNIST"]:
        (raw / file).write_bytes(b"\0\0\x08\x01")
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is damaged .*delete it"):
        data.load("mnist", 5000)


def test_the_folder_is_that_of_the_variable_or_a_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.delenv("LOTTERY_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.folder() == tmp_path / "cache" / "lottery-data"


# Through torchvision.


def test_mnist_as_the_paper_splits_it():
    mnist_or_skip()
    mnist = data.load("mnist", 5000, "unit")
    assert [len(getattr(mnist, part)[1]) for part in PARTS] == [55_000, 5_000, 10_000]
    assert mnist.shape == (1, 28, 28) and mnist.classes == 10
    assert np.bincount(mnist.test[1].numpy()).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    data.load.cache_clear()


def test_torchvisions_data_sets_import_beside_a_torch_of_another_build():
    script = """
import torch

def cannot(path):  # what happens when the compiled operators want another libtorch
    raise OSError("undefined symbol")

torch.ops.load_library = cannot
from lottery import data
print(data._torchvision_datasets().MNIST.__name__)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "MNIST", done.stderr


def test_declaring_the_operators_where_they_exist_is_harmless():
    data._torchvision_datasets()
    data.declare_torchvision_operators()
    assert torch.ops.torchvision.nms
