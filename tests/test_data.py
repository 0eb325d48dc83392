"""Data sets: counts, splits, scalings, names that carry their content, and errors that say what to do."""

import copy
import dataclasses
import gzip
import hashlib
import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Subset, TensorDataset

from lottery import data, seeds
from lottery.data import DataError

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("train", "validation", "test")


def rows(part):
    """One hash for each example of a part, to compare sets of examples."""
    return [hashlib.md5(x.numpy().tobytes()).hexdigest() for x in part[0]]


def at_hand_or_skip(file):
    given = os.environ.get("LOTTERY_DATA")
    if not (data.folder() / file).exists():
        if given and os.environ.get("CI") == "true":
            pytest.fail(f"LOTTERY_DATA is {given}, but {file} is not there")
        pytest.skip(f"{file} is not at hand: set LOTTERY_DATA to the folder that holds it")


def standardised(pixels, train):
    """Bytes as every stored result has seen them: in float32 throughout, sums by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pixels, train = pixels / 255, train / 255
    axes = [0, *range(2, train.ndim)]
    result = (pixels - train.mean(axes, keepdim=True)) / train.std(axes, keepdim=True)
    torch.set_num_threads(threads)
    return result


# Digits.


def test_digits_have_their_1797_examples_in_three_parts():
    digits = data.load("digits", 200)
    assert [len(getattr(digits, part)[1]) for part in PARTS] == [1200, 200, 397]
    assert digits.shape == (1, 8, 8) and digits.classes == 10


def test_the_three_parts_are_scikit_learns_digits_and_share_no_example():
    digits, bunch = data.load("digits", 200, "unit"), load_digits()
    seen = [row for part in PARTS for row in rows(getattr(digits, part))]
    # scikit-learn's digits hold no image twice, so equal images would be one example in two parts
    assert len(set(seen)) == len(seen) == 1797
    labels = [label for part in PARTS for label in getattr(digits, part)[1].tolist()]
    theirs = torch.from_numpy(np.round(bunch.images * (255 / 16)).astype(np.uint8)).float()[:, None] / 255
    assert dict(zip(seen, labels, strict=True)) == dict(zip(rows((theirs,)), bunch.target.tolist(), strict=True))


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
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            data.forget()
            loaded.append(data.load("digits", 200, scaling).train[0])
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert loaded[0] is not loaded[1]
    assert torch.equal(loaded[0], loaded[1]) and torch.equal(loaded[0], loaded[2])


def test_grey_images_have_one_channel_with_and_without_its_axis():
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(0, 60, (300, 8, 8), dtype=torch.uint8, generator=draw)
    x[:, 2] += 150
    y = torch.randint(0, 2, (300,), generator=draw)
    plain, channels = (
        data.load(data.register("grey", (z, y), (z[:50], y[:50])), 100).train[0] for z in (x, x[:, None])
    )
    assert torch.equal(plain, channels[:, 0]) and plain[:, 2].mean() > 1


def test_examples_in_the_order_of_their_classes_are_mixed_and_others_left():
    draw = torch.Generator().manual_seed(0)
    x, y = torch.arange(900.0)[:, None], torch.randint(0, 3, (900,), generator=draw)
    given = data.load(data.register("mixed", (x, y), (x[:300], y[:300])), 100, "unit")
    assert torch.equal(given.train[0], given.train[0].sort(0).values) and torch.equal(given.test[0], x[:300])
    for labels in (y.sort().values, torch.arange(900) % 3):  # class after class, and each in its turn
        name = data.register("in_order", (x, labels), (x[:300], torch.arange(300) % 3))
        found, again = data.load(name, 100, "unit"), data.load(name, 100, "unit")
        assert (found.train[1][:60].bincount(minlength=3) > 8).all() and torch.equal(found.train[0], again.train[0])
        assert not torch.equal(found.test[0], x[:300]) and torch.equal(found.test[0].sort(0).values, x[:300])
        assert torch.equal(labels[found.train[0][:, 0].long()], found.train[1])
        assert sorted([*found.train[0][:, 0].tolist(), *found.validation[0][:, 0].tolist()]) == list(range(900))


@pytest.mark.parametrize(("count", "rare"), [(1040, 10), (30, 15)])
def test_classes_that_stand_one_after_the_other_are_mixed_however_few_or_rare(count, rare):
    labels = (torch.arange(count) >= count - rare).long()
    name = data.register("in_order", (torch.arange(count)[:, None], labels), (torch.arange(count)[:, None], labels))
    given = data.load(name, 1, "none")
    assert all(part[1][: count // 2].unique().tolist() == [0, 1] for part in (given.train, given.test))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 7)])
def test_bytes_are_standardised_bit_for_bit_as_in_stored_results(shape):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randint(0, 256, (301, *shape), dtype=torch.uint8, generator=draw), torch.arange(301) % 2
    name = data.register("pixels", (x, y), (x[:50], y[:50]))
    whole = data.load(name, 100, "none")  # int64, so the same examples as bytes
    train = whole.train[0].to(torch.uint8)
    for part in PARTS:
        bytes_of_part = getattr(whole, part)[0].to(torch.uint8)
        assert torch.equal(getattr(data.load(name, 100), part)[0], standardised(bytes_of_part, train))


@pytest.mark.parametrize("features", [1, 2])
def test_what_is_constant_in_training_becomes_0(features):
    x, y = torch.full((5, features), 0.1, dtype=torch.float64), torch.arange(5) % 2
    assert features > 1 or x[:3].std(0).item() > 0  # by rounding
    x[:, 1:] = torch.arange(5.0)[:, None]
    constant = data.load(data.register("constant", (x, y), (x + 1, y)), 2)
    assert (constant.train[0][:, 0] == 0).all() and (constant.train[0][:, 1:] != 0).any() == (features > 1)
    torch.testing.assert_close(constant.test[0][:, 0], torch.ones(5))


@pytest.mark.parametrize("scaling", ["none", "unit", "unit-norm"])
def test_differences_that_float32_does_not_hold_are_refused_where_they_stay(scaling):
    seconds = torch.full((120, 2), 1.7e9, dtype=torch.float64)
    seconds[:, 0] += torch.arange(120)
    constant = torch.full((120, 1), 0.3, dtype=torch.float64)
    constant[::2] = 0.1 + 0.2  # but for rounding
    labels = torch.arange(120) % 2
    for inputs, refused in ((seconds, True), (torch.cat([constant, constant + 1], 1), False), (seconds.float(), False)):
        name = data.register("own", (inputs, labels), (inputs, labels))
        with pytest.raises(DataError, match=r"between which float32.* hardly tells") if refused else nullcontext():
            data.load(name, 20, scaling)


def test_the_length_of_a_single_number_is_refused():
    inputs, labels = torch.rand(40, 1), torch.arange(40) % 2
    name = data.register("own", (inputs, labels), (inputs, labels))
    with pytest.raises(DataError, match="leaves of a single number its sign alone"):
        data.load(name, 10, "unit-norm")


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_large_offsets_keep_their_small_differences(dtype):
    seconds = 1_700_000_000 + 60 * torch.arange(1200)
    x = torch.stack([seconds, seconds + 7, seconds + 11, seconds + 13], 1).view(1200, 1, 2, 2).to(dtype)
    y = torch.arange(1200) % 2
    column = data.load(data.register("stamps", (x[:1000], y[:1000]), (x[1000:], y[1000:])), 200).train[0][:, 0, 0, 0]
    assert len(column.unique()) == 800 and column.dtype == torch.float32


def test_none_leaves_integers_integers_and_values_alone():
    y = torch.arange(20) % 2
    for x in (torch.arange(80).view(20, 4), torch.arange(80, dtype=torch.uint8).view(20, 4), torch.arange(20)):
        ids = data.load(data.register("ids", (x, y), (x, y)), 5, "none")
        assert ids.dtype == ids.validation[0].dtype == torch.int64
        assert torch.equal(ids.test[0], x.long())
    x = 100 + torch.randn(20, 4, dtype=torch.float64)
    floats = data.load(data.register("floats", (x, y), (x, y)), 5, "none")
    assert floats.dtype == torch.float32
    assert torch.equal(floats.test[0], x.float())


@pytest.mark.parametrize("scaling", ["standardise", "unit", "unit-norm"])
@pytest.mark.parametrize(
    "dtype, shape",
    [(torch.uint8, (12,)), (torch.uint8, ()), (torch.int64, (12,)), (torch.int32, (3, 4)), (torch.int16, ())],
)
def test_ids_are_not_scaled_like_pixels(dtype, shape, scaling):
    ids, y = torch.ones(20, *shape, dtype=dtype), torch.arange(20) % 2
    name = data.register("tokens", (ids, y), (ids, y))
    with pytest.raises(DataError, match=r'tokens@.*scaling="none"'):
        data.load(name, 5, scaling)


def test_values_beyond_float32_are_refused():
    x, y = torch.randn(20, 2, dtype=torch.float64), torch.arange(20) % 2
    large, huge = (data.register("large", (x * size, y), (x * size, y)) for size in (1e60, 1e200))
    assert data.load(large, 5).train[0].std() > 0.5
    for name, scaling in ((large, "unit"), (large, "none"), (huge, "standardise")):
        with pytest.raises(DataError, match="float32 cannot hold"):
            data.load(name, 5, scaling)


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
    assert data.register("mine", (x.double(), y), (test[0].double(), test[1])) != name
    assert data.register("mine", (x[..., None], y), (test[0][..., None], test[1])) != name


def test_what_was_registered_is_safe_from_later_changes():
    (x, y), test = some(), some(seed=1)
    name = data.register("aliased", (x, y), test)
    before = data.load(name, 5, "unit").train[0].clone()
    data.forget()
    x.zero_()
    assert torch.equal(data.load(name, 5, "unit").train[0], before)


def test_tensor_data_sets_and_arrays_are_the_same_as_pairs_of_tensors():
    (x, y), (tx, ty) = some(), some(seed=1)
    name = data.register("forms", (x, y), (tx, ty))
    assert data.register("forms", TensorDataset(x, y), TensorDataset(tx, ty)) == name
    assert data.register("forms", (x.numpy(), y.numpy()), (tx.numpy(), ty.numpy())) == name
    assert data.register("forms", [list(x), y.tolist()], Subset(TensorDataset(tx, ty), range(20))) == name
    awkward = torch.stack([x, x], 2)[:, :, 1].requires_grad_(), y.to(torch.int16)  # strided, followed by autograd
    assert data.register("forms", awkward, (tx.flip(0).numpy()[::-1].astype(">f4"), ty > 0)) == name
    assert not data.registered()[name][0][0].requires_grad


def test_bytes_are_scaled_like_images():
    x = torch.arange(0, 256, dtype=torch.uint8).view(64, 1, 2, 2)
    name = data.register("bytes", (x, torch.arange(64) % 2), (x, torch.arange(64) % 2))
    assert data.load(name, 1, "unit").test[0].max() == 1


class Shifted(TensorDataset):
    """Examples that are not its tensors as they are."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x + 3, y


def test_what_a_tensor_data_set_of_the_users_own_class_does_to_its_examples_counts():
    (x, y), test = some(), some(seed=1)
    assert data.register("shifted", Shifted(x, y), test) == data.register("shifted", (x + 3, y), test)


LABELS = torch.tensor([0, 1, 0, 1])
WRONG = {
    "masked": ((np.ma.masked_greater(np.eye(4), 0.5), LABELS), r"inputs: 4 values are masked.*\.filled"),
    "labels missing": ((torch.zeros(4, 3), LABELS[:3]), "4 inputs but labels of shape"),
    "no examples": ((torch.zeros(0, 3), LABELS[:0]), "no examples"),
    "no features": ((torch.zeros(4, 0), LABELS), "no examples"),
    "a number": ((1.0, 1), "no examples"),
    "regression": ((torch.zeros(4, 3), LABELS / 3), "regression is not supported"),
    "whole floats": ((torch.zeros(4, 3), LABELS.double()), r"not torch.float64: labels.long\(\)"),
    "complex labels": ((torch.zeros(4, 3), LABELS.cfloat()), "labels must be integers"),
    "a column": ((torch.zeros(4, 3), LABELS[:, None]), r"shape \[4, 1\].*labels\[:, 0\]"),
    "one-hot": ((torch.zeros(4, 3), torch.eye(4)), r"shape \[4, 4\].*argmax\(1\)"),
    "negative": ((torch.zeros(4, 3), LABELS - 1), "from 0 on, not -1"),
    "words": ((torch.zeros(4, 3), ["cat", "dog", "cat", "dog"]), "wrong, train: labels cannot be made"),
    "one class": ((torch.zeros(4, 3), LABELS * 0), "one class"),
    "a gap": ((torch.zeros(4, 3), LABELS * 7), "of class 1, 2, 3, 4, 5, 6: number the 2 classes from 0 to 1"),
    "a wide gap": ((torch.zeros(4, 3), LABELS * 10**12), "of class 1, 2, 3, 4, 5, 6 …: number"),
    "counted from 1": ((torch.zeros(4, 3), LABELS + 1), "of class 0: number"),
    "not finite": ((torch.tensor([[float("nan"), 0, 1]] * 4), LABELS), "4 of 12 input values are not finite"),
    "complex": ((torch.zeros(4, 3, dtype=torch.complex64), LABELS), "view_as_real"),
    "boolean": ((torch.zeros(4, 3, dtype=torch.bool), LABELS), r"inputs.float\(\)"),
    "objects": ((np.array([[None] * 3] * 4), LABELS), "inputs cannot be made a dense tensor"),
    "ragged": (([[1.0, 2.0], [3.0]], [0, 1]), "inputs cannot be made a dense tensor"),
    "sparse": ((torch.zeros(4, 3).to_sparse(), LABELS), "sparse"),
    "nowhere": ((torch.zeros(4, 3, device="meta"), LABELS), "inputs cannot be made a dense tensor"),
    "another shape": ((torch.zeros(4, 5), LABELS), r"other shapes: \[5\] and \[3\]"),
    "another dtype": ((torch.zeros(4, 3).double(), LABELS), "one dtype for both"),
    "channels last": ((torch.zeros(4, 28, 28, 1), LABELS), r"channels last.*permute\(0, 3, 1, 2\)"),
    "colours last": ((torch.zeros(4, 48, 64, 3), LABELS), r"48 channels of 64×3 pixels"),
    "three tensors": (TensorDataset(torch.zeros(4, 3), LABELS, LABELS), "not tuple of 3"),
    "a loader": (DataLoader(TensorDataset(torch.zeros(4, 3), LABELS)), "not DataLoader"),
    "unequal examples": (Subset([(torch.zeros(3), 0), (torch.zeros(4), 1)], [0, 1]), "Subset cannot be stacked"),
}


@pytest.mark.parametrize("train, words", WRONG.values(), ids=WRONG.keys())
def test_data_of_the_wrong_form_are_refused(train, words):
    with pytest.raises(DataError, match=words):
        data.register("wrong", train, some())


def test_classes_that_only_the_test_set_has_are_refused():
    x, y = some()
    with pytest.raises(DataError, match="a class that the training set lacks: 2"):
        data.register("wrong", (x, y), (x, 2 * y))


@pytest.mark.parametrize("shape", [(512, 1, 1), (512, 4, 4), (4, 4, 4), (64, 500, 1), (3, 32, 32), (28, 28), (100, 3)])
def test_inputs_that_are_no_images_with_channels_last_are_taken(shape):
    given = torch.zeros(4, *shape), LABELS
    assert data.load(data.register("shapes", given, given), 1).shape == shape


@pytest.mark.parametrize("name", ["mnist", "two words", "", 7])
def test_names_that_cannot_be_given(name):
    with pytest.raises(DataError, match="cannot name a data set"):
        data.register(name, some(), some())


# What is handed out.


@pytest.mark.parametrize("scaling", ["standardise", "unit", "unit-norm", "none"])
@pytest.mark.parametrize("part", PARTS)
def test_a_network_that_writes_into_its_inputs_is_found_and_harms_nobody_else(part, scaling):
    x, y = some(60)
    name = data.register("handed_out", (x, y), (x, y))
    before = data.load(name, 20, scaling)
    right = getattr(before, part)[0].clone()
    before.intact()
    with torch.inference_mode():
        getattr(before, part)[0][:10].relu_()
    assert not torch.equal(getattr(before, part)[0], right)
    with pytest.raises(DataError, match=r"network 'conv' wrote into the data set handed_out@.*in place"):
        before.intact("conv")
    after = data.load(name, 20, scaling)
    after.intact()
    assert torch.equal(getattr(after, part)[0], right)


def test_labels_are_watched_too():
    digits = data.load("digits", 200)
    digits.test[1].add_(1)
    with pytest.raises(DataError, match="that used it wrote into the data set digits"):
        digits.intact()
    assert data.load("digits", 200).test[1].max() == 9


def test_writing_to_ids_does_not_reach_what_was_registered():
    x, y = torch.arange(40).view(20, 2), torch.arange(20) % 2
    name = data.register("ids_written_to", (x, y), (x, y))
    data.load(name, 5, "none").test[0].add_(1)
    assert torch.equal(data.load(name, 5, "none").test[0], x)


def test_a_view_of_a_data_set_is_watched_like_it():
    digits = data.load("digits", 200)
    part = dataclasses.replace(digits, train=tuple(tensor[::2] for tensor in digits.train))
    digits.train[0][1].sub_(1)
    assert part.changed and digits.changed and not data.load("digits", 200).changed


def test_reading_leaves_a_data_set_intact():
    with torch.inference_mode():
        data.forget()
        digits = data.load("digits", 200)
        torch.relu(digits.test[0][:10]) + digits.train[0][torch.arange(10)].relu_()
    digits.intact()
    copy.deepcopy(digits).intact()
    digits.test[0].relu_()
    with pytest.raises(DataError):
        digits.intact()


def test_the_shape_is_learnt_without_scaling_and_three_splits_are_scaled_three_times(monkeypatch):
    data.forget()
    scaled, calls = data._scaled, []
    monkeypatch.setattr(data, "_scaled", lambda *given: calls.append(given) or scaled(*given))
    assert data.describe("digits") == ((1, 8, 8), 10) == data.FORMS["digits"]
    data.check("digits", 200, "unit")
    assert not calls
    for _ in range(3):
        for validation in (100, 200, 300):
            data.load("digits", validation=validation, scaling="standardise")
            data.load("digits", validation, device="cpu")
    assert len(calls) == 3


def test_check_says_what_load_would_say():
    x, y = some()
    ids = data.register("checked", (x.long(), y), (x.long(), y))
    for wrong in (("imagenet",), ("digits", 0), ("digits", 200, "loud"), (ids, 5, "unit")):
        with pytest.raises(DataError):
            data.check(*wrong)
    data.check("mnist")  # a name alone: nothing is read
    data.check(ids, 5, "none")


# Errors.


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(DataError, match=r"no data set 'imagenet'; known: digits, mnist.*register"):
        data.load("imagenet", 10)


def test_an_unknown_scaling_is_refused():
    with pytest.raises(DataError, match="known: standardise, unit, unit-norm, none"):
        data.load("digits", 10, "loud")


@pytest.mark.parametrize("validation", [0, 1400, None, 2.5, 5.0])
def test_a_validation_set_must_leave_something_on_both_sides(validation):
    with pytest.raises(DataError, match="from 1 to 1399 of 1400"):
        data.load("digits", validation)


@pytest.fixture
def no_network(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)


@pytest.mark.parametrize(
    "name, file",
    [("mnist", "train-images-idx3-ubyte"), ("mnist-rgb", "train-images-idx3-ubyte"), ("cifar10", "data_batch_1")],
)
def test_missing_data_without_a_network_name_folder_and_variable(name, file, tmp_path, monkeypatch, no_network):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path / "empty"))
    for ask in (data.describe, lambda name: data.load(name, 5000)):
        with pytest.raises(DataError) as caught:
            ask(name)
        said = str(caught.value)
        assert str(tmp_path / "empty") in said and "LOTTERY_DATA" in said and file in said
    assert list((tmp_path / "empty").iterdir()) == []  # nothing is left of it
    monkeypatch.delenv("LOTTERY_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="could not be downloaded"):
        data.describe(name)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_folder_that_is_not_there_is_neither_made_nor_filled(name, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_download", lambda *of: pytest.fail("it was downloaded"))
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path / "mistyped"))
    with pytest.raises(DataError, match=r"LOTTERY_DATA names .*mistyped, and there is no such folder\. Set it to"):
        data.describe(name)
    assert not (tmp_path / "mistyped").exists()


@pytest.fixture
def small_mnist(tmp_path, monkeypatch):
    """A folder with an MNIST of 6 + 4 examples, whose md5 sums count as the published ones; its raw files' folder."""
    raw, draw, sums = tmp_path / "MNIST" / "raw", np.random.default_rng(0), {}
    raw.mkdir(parents=True)
    for part, examples in (("train", 6), ("t10k", 4)):
        images, labels = draw.integers(0, 256, (examples, 28, 28), dtype=np.uint8), np.arange(examples, dtype=np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = b"".join(number.to_bytes(4, "big") for number in (0x800 + array.ndim, *array.shape))
            (raw / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())
    for path in raw.iterdir():
        sums[path.name] = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(data._IDX_MD5, "MNIST", {file: sums[file] for file in data._IDX_MD5["MNIST"]})
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path))
    return raw


@pytest.mark.parametrize("wrong", ["", "deep", "deep/data/MNIST", "deep/data/MNIST/raw", "deep/dato"])
def test_files_near_the_folder_that_was_named_are_found_and_nothing_is_downloaded(wrong, small_mnist, monkeypatch):
    top = small_mnist.parent.parent
    (top / "deep" / "data").mkdir(parents=True)
    (top / "MNIST").rename(top / "deep" / "data" / "MNIST")
    monkeypatch.setattr(data, "_download", lambda *of: pytest.fail("it was downloaded"))
    monkeypatch.setenv("LOTTERY_DATA", str(top / wrong))
    if wrong:
        with pytest.raises(DataError, match=r"but in .*/deep/data: set LOTTERY_DATA to it"):
            data.describe("mnist")
    else:  # two folders away
        with pytest.raises(pytest.fail.Exception, match="downloaded"):
            data.describe("mnist")


def test_mnist_is_read_as_torchvision_reads_it(small_mnist):
    mnist = data.load("mnist", 2, "none")
    published = data._torchvision_datasets().MNIST(small_mnist.parent.parent, train=False)
    assert torch.equal(mnist.test[0][:, 0], published.data.long()) and torch.equal(mnist.test[1], published.targets)
    assert sorted([*mnist.train[1].tolist(), *mnist.validation[1].tolist()]) == list(range(6))


def test_grey_images_for_networks_that_take_cifar(small_mnist):
    (images, labels), (test_images, test_labels), _ = data._raw("mnist")
    (wide, wide_labels), (test_wide, test_wide_labels), classes = data._raw("mnist-rgb")
    assert data.describe("mnist-rgb") == ((3, 32, 32), 10) == data.FORMS["mnist-rgb"] and classes == 10
    for old, new in ((images, wide), (test_images, test_wide)):
        expected = torch.zeros(len(old), 3, 32, 32, dtype=torch.uint8)
        expected[:, :, 2:30, 2:30] = old
        assert new.dtype == torch.uint8 and torch.equal(new, expected)
    assert torch.equal(labels, wide_labels) and torch.equal(test_labels, test_wide_labels)


@pytest.mark.parametrize("scaling", data.SCALINGS)
def test_grey_images_in_three_channels_are_split_and_scaled_like_any_others(small_mnist, scaling):
    rgb, grey = data.load("mnist-rgb", 2, scaling), data.load("mnist", 2, scaling)
    for part in PARTS:
        (images, labels), (old, old_labels) = getattr(rgb, part), getattr(grey, part)
        assert images.shape[1:] == (3, 32, 32) and torch.equal(labels, old_labels) and images.dtype == old.dtype
        assert torch.equal(images, images[:, :1].expand_as(images))  # all channels are the same
        assert scaling not in ("unit", "none") or torch.equal(images[:, :1, 2:-2, 2:-2], old)
    x = rgb.train[0].double()
    if scaling == "standardise":
        assert x.mean((0, 2, 3)).abs().max() < 1e-6 and (x.std((0, 2, 3)) - 1).abs().max() < 1e-5
    if scaling == "unit-norm":
        assert torch.allclose(x.flatten(1).norm(dim=1), torch.ones(len(x), dtype=torch.float64), atol=1e-6)


def test_what_is_read_is_what_was_checked(small_mnist, no_network):
    processed = small_mnist.parent / "processed"
    processed.mkdir()
    for file in ("training.pt", "test.pt"):
        torch.save((torch.zeros(4, 28, 28, dtype=torch.uint8), torch.full((4,), 9)), processed / file)
    assert data.load("mnist", 2).test[1].tolist() == [0, 1, 2, 3]
    data.forget()
    (small_mnist / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"not complete .*t10k-labels"):
        data.load("mnist", 2)


def test_packed_files_are_unpacked(small_mnist, no_network, monkeypatch):
    packed = []
    for path in sorted(small_mnist.iterdir()):
        content = gzip.compress(path.read_bytes(), mtime=0)
        packed.append((f"{path.name}.gz", hashlib.md5(content).hexdigest()))
        (small_mnist / packed[-1][0]).write_bytes(content)
        path.unlink()
    monkeypatch.setattr(data._torchvision_datasets().MNIST, "resources", packed)
    assert data.load("mnist", 2).test[1].tolist() == [0, 1, 2, 3]


def test_a_damaged_file_is_an_error_that_names_it(small_mnist):
    images = small_mnist / "train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[100] ^= 1
    images.write_bytes(content)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte is damaged .*delete it"):
        data.load("mnist", 2)


def test_files_are_read_once_for_shape_and_splits(small_mnist, monkeypatch):
    data.load("mnist", 2)
    for path in small_mnist.iterdir():
        path.unlink()
    assert data.describe("mnist") == ((1, 28, 28), 10) == data.FORMS["mnist"]
    assert set(data.FORMS) == set(data.NAMES)
    assert len(data.load("mnist", 3).train[1]) == 3


def test_cifar_is_read_from_its_batches_in_order(tmp_path, monkeypatch):
    kind, draw = data._torchvision_datasets().CIFAR100, np.random.default_rng(0)
    (tmp_path / kind.base_folder).mkdir()
    batches, sums = [], []
    for file, examples in (("train", 5), ("more", 3), ("test", 4)):
        pixels = draw.integers(0, 256, (examples, 3072), dtype=np.uint8)
        content = pickle.dumps({"data": pixels, "fine_labels": [*range(len(sums), len(sums) + examples)]})
        (tmp_path / kind.base_folder / file).write_bytes(content)
        batches.append(torch.from_numpy(pixels).view(-1, 3, 32, 32).long())
        sums.append([file, hashlib.md5(content).hexdigest()])
    monkeypatch.setattr(kind, "train_list", sums[:2])
    monkeypatch.setattr(kind, "test_list", sums[2:])
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path))
    (images, labels), (test_images, test_labels), classes = data._raw("cifar100")
    assert torch.equal(images, torch.cat(batches[:2])) and torch.equal(test_images, batches[2]) and classes == 100
    assert labels.tolist() == [0, 1, 2, 3, 4, 1, 2, 3] and test_labels.tolist() == [2, 3, 4, 5]


def test_the_folder_is_that_of_the_variable_or_a_cache_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path))
    assert data.folder() == tmp_path
    monkeypatch.delenv("LOTTERY_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data.folder() == tmp_path / "cache" / "lottery-data"


# Through torchvision.


def test_mnist_as_the_paper_splits_it():
    at_hand_or_skip("MNIST/raw/train-images-idx3-ubyte")
    mnist = data.load("mnist", 5000, "unit")
    assert [len(getattr(mnist, part)[1]) for part in PARTS] == [55_000, 5_000, 10_000]
    assert mnist.shape == (1, 28, 28) and mnist.classes == 10
    assert np.bincount(mnist.test[1].numpy()).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    data.forget()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, kind, file",
    [
        ("mnist", "MNIST", "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion-mnist", "FashionMNIST", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("cifar10", "CIFAR10", "cifar-10-batches-py/data_batch_1"),
    ],
)
def test_published_data_are_bit_for_bit_those_of_stored_results(name, kind, file):
    at_hand_or_skip(file)
    parts = []
    for train in (True, False):
        part = getattr(data._torchvision_datasets(), kind)(data.folder(), train=train)
        images = torch.as_tensor(part.data)
        parts.append(images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous())
    order = torch.from_numpy(seeds.generator(0, seeds.SPLIT).permutation(len(parts[0])))
    kept = parts[0][order[5000:].sort().values]
    loaded = data.load(name, 5000)
    assert torch.equal(loaded.train[0], standardised(kept, kept))
    assert torch.equal(loaded.test[0], standardised(parts[1], kept))
    assert loaded.test[1].tolist() == torch.as_tensor(part.targets).tolist()
    data.forget()


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


def test_offsets_are_seen_along_every_axis():
    draw = torch.Generator().manual_seed(0)
    times = 1.7e9 + torch.randint(1, 60, (300, 8), generator=draw).double().cumsum(1)
    x, y = torch.stack([times, torch.randn(300, 8, generator=draw).double()], 2), torch.arange(300) % 2
    for scaling in ("standardise", "unit", "none"):
        with pytest.raises(DataError, match="subtract"):
            data.load(data.register("times", (x, y), (x[:50], y[:50])), 50, scaling)
