"""On a GPU: the same as on the CPU to rounding, with graphs and stacks and every precision. Skipped without one."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from test_train import ADAM, SGD, interrupted, recipe, start  # beside this file

from lottery import curvature, data, landscape, marks, models, movement, tickets
from lottery import recipes as r
from lottery.engine import errors, execute, graphs, precision, train
from lottery.engine.store import Store
from lottery.engine.world import world

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")]
KINDS = pytest.mark.parametrize(
    "model, rule", [("lenet-300-100", ADAM), ("conv-2", ADAM), ("resnet-8", SGD)], ids=["lenet", "conv", "resnet"]
)


def on(device, training, starts, **more):
    dataset = data.load(training.data, training.validation, training.scaling, device)
    return train.train(training, dataset, starts, **more)


def short(model, rule, **more):
    return recipe({**rule, "lr": rule["lr"] / 5}, model=model, steps=12, batch=40, evaluate=((12, 4),), **more)


def assert_near(one, other, begun, share):
    """The two ends lie close together, measured by how far training went."""
    ends = [torch.cat([state.states[12][name].flatten() for name in begun.mask]) for state in (one, other)]
    first = torch.cat([(begun.weights[name] * kept).flatten() for name, kept in begun.mask.items()])
    assert (ends[0] - ends[1]).norm() < share * (ends[0] - first).norm()
    assert all(not one.states[12][name][~kept].any() for name, kept in begun.mask.items())


@KINDS
@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("layout", ["channels_first", "channels_last"])
def test_a_training_is_the_one_on_the_cpu_to_rounding_and_takes_a_graph(model, rule, together, layout):
    training = short(model, rule, augment=model != "conv-2", layout=layout)
    starts = [start(training, replicate) for replicate in range(together)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", graphs.NotCaptured)
        outcomes = on("cuda", training, starts)
    share = (
        0.1 if model == "resnet-8" else 0.02
    )  # on a CPU, too, alone and stacked differ by 0.04: a unit switches over
    for begun, outcome, other in zip(starts, outcomes, on("cpu", training, starts), strict=True):
        assert_near(outcome, other, begun, share)


@KINDS
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_every_precision_trains_alone_and_stacked(model, rule, precision):
    training = short(model, rule)
    starts = [start(training, replicate) for replicate in range(2)]
    rounded = dataclasses.replace(training, precision=precision)
    for begun, other in zip(starts, on("cpu", training, starts), strict=True):
        assert_near(on("cuda", rounded, [begun])[0], other, begun, 0.3)
    if (model, precision) == ("resnet-8", "bf16"):
        with pytest.raises(errors.NotStacked):  # PyTorch has no batch normalisation of stacked bfloat16 on a GPU
            on("cuda", rounded, starts)
        return
    for begun, one, other in zip(starts, on("cuda", rounded, starts), on("cpu", training, starts), strict=True):
        assert_near(one, other, begun, 0.3)


@KINDS
def test_with_and_without_a_graph_is_the_same_to_rounding(model, rule, monkeypatch):
    training = short(model, rule, milestones=(6, 9), warmup=3)
    begun = start(training)
    graphed = on("cuda", training, [begun])[0]
    monkeypatch.setattr(graphs, "worth", lambda device: False)
    assert_near(graphed, on("cuda", training, [begun])[0], begun, 0.02)


def test_resumed_is_uninterrupted_to_rounding():
    training = recipe(ADAM, steps=450, evaluate=((450, 50),))
    starts = [start(training, replicate) for replicate in range(2)]
    whole = on("cuda", training, starts)
    checkpoint = interrupted(training, starts)
    for one, other in zip(on("cuda", training, starts, checkpoint=checkpoint), whole, strict=True):
        assert abs(one.history["test_loss"][-1] - other.history["test_loss"][-1]) < 0.02


def test_a_study_trains_its_replicates_as_one_batch(tmp_path):
    training = r.training(
        data="digits", model="lenet-300-100", steps=100, batch=50, optimiser="adam", lr=1e-3, validation=200
    )
    study = [tickets.dense(training, replicate) for replicate in range(6)]
    records = execute.execute(study, Store(tmp_path), device="cuda", show=False)
    assert {record.made["stacked"] for record in records} == {6}


@pytest.mark.parametrize("model, batch", [("lenet-2000-2000", 40), ("resnet-20", 500)])
@pytest.mark.parametrize("rule", [ADAM, SGD], ids=["adam", "sgd"])
def test_a_batch_of_runs_takes_no_more_memory_than_was_estimated(model, batch, rule, monkeypatch):
    """Hundreds of MiB, of weights or of what the backward pass keeps, beside which what libraries take is small."""
    monkeypatch.setattr(train, "TOGETHER", 2**26)
    training = dataclasses.replace(short(model, rule), batch=batch)
    starts = [start(training, replicate) for replicate in range(8)]
    a_run, _ = train.memory(training, data.load(training.data, training.validation, training.scaling))
    assert 8 * a_run > 4 * train.TOGETHER
    on("cuda", training, starts[:2])  # libraries take what they need once
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    on("cuda", training, starts)
    taken = torch.cuda.max_memory_allocated() - before
    assert 2 * a_run < taken < 8 * a_run + train.TOGETHER


def test_after_a_capture_that_fails_training_goes_on_and_the_next_one_is_captured(monkeypatch):
    training, act = short("lenet-300-100", ADAM), train.Course._act
    begun = start(training)

    def waits(self, *given):
        act(self, *given)
        if torch.cuda.is_current_stream_capturing():
            self.train_loss.sum().item()  # which waits for the device, and no capture may

    monkeypatch.setattr(train.Course, "_act", waits)
    with pytest.warns(graphs.NotCaptured):
        stepwise = on("cuda", training, [begun])[0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error", graphs.NotCaptured)
        graphed = on("cuda", training, [begun])[0]
    assert_near(stepwise, graphed, begun, 0.02)
    assert (torch.ones(2**20, device="cuda") * 3).sum().item() == 3 * 2**20


def test_what_is_measured_is_computed_to_the_full_24_bits():
    module, draw = models.build("conv-2", (3, 32, 32), 10).eval(), torch.Generator().manual_seed(0)
    x = torch.randn(100, 3, 32, 32, generator=draw)
    with torch.no_grad(), precision.exact("cuda"):
        far = (module.cuda()(x.cuda()).cpu() - module.cpu()(x)).abs().max()
    assert far < 1e-4


def numbers(value, name=""):
    """Place → number of nested values."""
    if isinstance(value, dict | list | tuple):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        return {place: number for key, part in inside for place, number in numbers(part, f"{name}/{key}").items()}
    return {name: value} if isinstance(value, int | float) else {}


@pytest.mark.parametrize("model, rule", [("lenet-30", ADAM), ("resnet-8", SGD)], ids=["lenet", "resnet"])
def test_what_is_measured_of_networks_is_what_the_cpu_measures(model, rule, tmp_path):
    """Paths, a plane, spectra, the search for a low loss and marks, all on the same weights."""
    training, store = short(model, rule), Store(tmp_path)
    dense, ticket = tickets.imp(training, 0, 1, 0.5, scope="global")
    near = r.Masked(dense.end, r.Pruned(dense, 0.2, "global"))
    measured = {
        "path": (landscape.path(dense, ticket, alphas=3), 1e-3),
        "projection": (landscape.Path(training, (dense.end, near), dense.mask, 3), 1e-3),
        "spectrum": (curvature.Spectrum(dense, 6, 2, towards=(near,), examples=64), 1e-2),
        "prunable": (curvature.Prunable(dense, 0.05, "magnitude", 5, 0.01, 64, 0, 0), 2e-2),
        "survivors": (movement.Survivors(ticket, 20), 1e-3),
        "beginning": (marks.Beginning(training, ticket.weights, ticket.mask, 64), 1e-3),
    }
    execute.execute([measure for measure, _ in measured.values()], store, executor="inline", show=False)
    for name, (measure, share) in measured.items():
        found = []
        for device in ("cpu", "cuda"):
            with precision.exact(device):
                values, arrays = measure.compute(world(store, device))
            found.append({**numbers(values), **arrays})
        assert found[0].keys() == found[1].keys()
        for part in found[0]:
            wanted, got = (np.asarray(one[part], dtype=float) for one in found)
            off = np.abs(got - wanted).max(initial=0.0)
            assert off <= share * max(1e-6, np.abs(wanted).max(initial=0.0)), f"{name}: {part} is off by {off}"


def test_diverging_runs_leave_no_memory_taken():
    training, taken = short("lenet-300-100", {**SGD, "lr": 1e30}), []
    for replicate in range(4):
        with pytest.raises(train.TrainingError, match="not finite") as kept:
            on("cuda", training, [start(training, replicate)])
        taken.append((torch.cuda.memory_allocated(), kept)[0])
    assert taken[-1] <= taken[0] + 2**20


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="torch finds one GPU")
def test_the_second_gpu_is_the_one_that_is_used():
    training = short("lenet-300-100", ADAM)
    before = torch.cuda.memory_allocated(0)
    outcome = on("cuda:1", training, [start(training)])[0]
    assert torch.cuda.memory_allocated(0) == before
    assert_near(outcome, on("cpu", training, [start(training)])[0], start(training), 0.02)
