"""Execution: the same records whoever computes, whatever dies on the way, and errors before anything is computed."""

import contextlib
import dataclasses
import functools
import io
import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import types
import urllib.error
import urllib.request
import weakref
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import worker_networks  # beside this file, which pytest puts on the path; worker processes inherit it
from torch import nn

from lottery import (
    LotteryError,
    curvature,
    data,
    landscape,
    marks,
    masks,
    models,
    movement,
    seeds,
    signs,
    tickets,
    worth,
)
from lottery import recipes as r
from lottery.controls import AtStart, Complement, DegreePreserving, Early, EdgePopup, Rescaled, Spliced, Unlit
from lottery.engine import compute as computing
from lottery.engine import execute as module
from lottery.engine import plan as planner
from lottery.engine import progress, settings, stopping, workers
from lottery.engine import train as engine
from lottery.engine.compute import fitting
from lottery.engine.execute import ExecutionError, FewerAtOnce, execute, plan, world
from lottery.engine.plan import registered, rooted
from lottery.engine.store import Store
from lottery.marks import Beginning
from lottery.recipes import Dense, Initial, Pruned, Rewound, Signed

ROOT = Path(__file__).resolve().parent.parent


def training(**changes):
    base = dict(data="digits", model="lenet-8", steps=120, batch=50, optimiser="adam", lr=3e-3, validation=200)
    return r.training(**{**base, **changes})


def run(recipes, store, executor="inline", **more):
    return execute(recipes, store, executor=executor, show=False, **more)


def assert_same(ours, theirs):
    """Records agree in all but how they were made; arrays bit for bit."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one.key, one.recipe, one.values) == (other.key, other.recipe, other.values)
        assert one.arrays.keys() == other.arrays.keys()
        for name in one.arrays:
            np.testing.assert_array_equal(one.arrays[name], other.arrays[name])


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


# The same whoever computes. The network is one whose process is killed (SIGKILL) in its first run, in mid-run.


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory):
    """Two chains, with their records as computed inline and nothing killed."""
    models.register("killed", worker_networks.Killed)
    slow = training(model="killed", steps=300)
    chains = [run_ for replicate in range(2) for run_ in tickets.imp(slow, replicate, 1, 0.2, rewind_step=20)]
    study = [*chains, chains[1].mask, tickets.random_sparse(chains[1], 0), tickets.reinitialised(chains[3], 1)]
    folder = tmp_path_factory.mktemp("inline")
    (folder / "killed").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOTTERY_TEST_KILLED", str(folder / "killed"))
        return study, run(study, Store(folder / "store"))


@pytest.fixture
def killed_study(never_killed, tmp_path, monkeypatch):
    """As `never_killed`; the next process that trains it is killed."""
    monkeypatch.setenv("LOTTERY_SETTINGS", '{"checkpoint_seconds": 0}')
    monkeypatch.setenv("LOTTERY_TEST_KILLED", str(tmp_path / "killed"))
    return never_killed


def test_a_pool_whose_worker_is_killed_gives_what_one_process_gives(killed_study, store, tmp_path):
    study, expected = killed_study
    assert_same(run(study, store, "processes", jobs=2), expected)
    assert (tmp_path / "killed").exists() and store.verify() == []


def test_a_run_that_always_kills_its_worker_fails_alone(store):
    models.register("deadly", worker_networks.Deadly)
    sound = [tickets.dense(training(steps=800), replicate) for replicate in range(2)]
    words = r"1 of 3 recipes .* \(deadly on digits, .*its worker died 3 times .* it was ended by SIGKILL, as a system"
    with pytest.raises(ExecutionError, match=words):
        run([tickets.dense(training(model="deadly"), 0), *sound], store, "processes", jobs=2)
    assert all(record is not None for record in map(store.read, (run_.key for run_ in sound)))


def test_a_running_dask_cluster_whose_worker_is_killed_gives_what_one_process_gives(killed_study, store, tmp_path):
    distributed = pytest.importorskip("distributed")
    study, expected = killed_study
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        assert_same(run(study, store, None, scheduler=cluster.scheduler_address), expected)
    assert (tmp_path / "killed").exists() and store.verify() == []


UNGUARDED = """
import sys
from lottery import data, recipes as r, tickets
from lottery.engine.execute import execute
from lottery.engine.store import Store

with open(sys.argv[1] + "/started", "a") as file:
    file.write("1")
import torch
images = torch.arange(640.0).view(80, 8) % 7
name = data.register("own", (images, torch.arange(80) % 2), (images, torch.arange(80) % 2))
training = r.training(data=name, model="lenet-8", steps=50, batch=20, optimiser="adam", lr=3e-3, validation=10)
chain = tickets.imp(training, 0, 1, 0.2)
records = execute(chain, Store(sys.argv[1] + "/store"), executor=sys.argv[2], jobs=1, show=False)
print(len(records), records[1].values["density"])
"""


@pytest.mark.parametrize("executor", ["processes", "dask"])
def test_a_script_without_a_main_guard_runs_once_also_on_data_of_its_own(executor, tmp_path):
    if executor == "dask":
        pytest.importorskip("distributed")
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, script, tmp_path, executor],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "0.8"]
    assert (tmp_path / "started").read_text() == "1"


KILLED = """
import os, signal, sys
from lottery import recipes as r, tickets
from lottery.engine import train as engine
from lottery.engine.execute import execute
from lottery.engine.store import Store

ask = engine.Batches.__getitem__

def until(self, step):
    if step == 337:
        os.kill(os.getpid(), signal.SIGKILL)
    return ask(self, step)

engine.Batches.__getitem__ = until
training = r.training(data="digits", model="lenet-8", steps=500, batch=50, optimiser="adam", lr=3e-3, validation=200)
execute(tickets.imp(training, 0, 1, 0.2, rewind_step=50), Store(sys.argv[1]), executor="inline", show=False)
"""


def test_a_study_killed_by_signal_9_goes_on_from_its_checkpoint_bit_for_bit(store, tmp_path, monkeypatch):
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, store.root],
        cwd=ROOT,
        check=False,
        env={**os.environ, "LOTTERY_SETTINGS": '{"checkpoint_seconds": 0}'},
    )
    assert killed.returncode == -signal.SIGKILL and store.keys() == []
    monkeypatch.setattr("lottery.engine.check.trial", lambda *given: None)  # which has steps of its own
    steps, ask = [], engine.Batches.__getitem__
    monkeypatch.setattr(engine.Batches, "__getitem__", lambda self, step: (steps.append(step), ask(self, step))[1])
    chain, fresh = tickets.imp(training(steps=500), 0, 1, 0.2, rewind_step=50), Store(tmp_path / "fresh")
    resumed = run(chain, store)
    assert steps[0] == 300 and len(steps) == 200 + 450
    assert_same(resumed, run(chain, fresh))
    for run_ in chain:
        for step in fresh.states(run_.key):
            ours, theirs = store.state(run_.key, step), fresh.state(run_.key, step)
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_stacked_runs_have_the_records_of_single_ones_to_rounding(store, tmp_path):
    chains = [run_ for replicate in range(3) for run_ in tickets.imp(training(), replicate, 1, 0.2, rewind_step=20)]
    stacked, single = run(chains, store, stack=8), run(chains, Store(tmp_path / "single"))
    assert {record.made["stacked"] for record in stacked} == {3}
    assert {record.made["stacked"] for record in single} == {1}
    for one, other in zip(stacked, single, strict=True):
        assert (one.key, one.values["weights_left"]) == (other.key, other.values["weights_left"])
        for name in ("history/validation_loss", "history/test_loss"):
            np.testing.assert_allclose(one.arrays[name], other.arrays[name], rtol=1e-2, atol=1e-3)


def test_a_run_does_not_depend_on_what_else_is_in_the_study(store, tmp_path):
    wanted = tickets.reinitialised(tickets.imp(training(), 1, 1, 0.2)[1], 1)
    alone = run([wanted], store)
    crowd = [
        *tickets.imp(training(), 0, 1, 0.2),
        tickets.random_sparse(tickets.imp(training(), 1, 1, 0.2)[1], 1),
        wanted,
    ]
    assert_same(run(crowd, Store(tmp_path / "crowd"))[-1:], alone)


def test_the_number_of_threads_that_the_user_set_does_not_matter_and_stays(store, tmp_path):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        data.forget()
        two = run([tickets.dense(training(), 0)], store)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        data.forget()
        assert_same(run([tickets.dense(training(), 0)], Store(tmp_path / "one")), two)
    finally:
        torch.set_num_threads(before)


# Until a deadline.


def stops_at_its_deadline(store, seconds, **more):
    """Whether it does, and then begins nothing; returns what is saved of trainings."""
    long = training(steps=200_000, evaluate=((200_000, 100_000),))
    study = [run_ for k in range(2) for run_ in tickets.imp(long, k, 1, 0.2)]
    began = time.monotonic()
    for deadline in (began + seconds, began - 1):
        with pytest.raises(stopping.OutOfTime, match=r"time is up: 6 of 6 recipes are left"):
            execute(study, store, show=False, deadline=deadline, **more)
    return list((store.root / "partial").glob("*.safetensors"))


@pytest.mark.parametrize("stack", [1, 2])
def test_a_study_stops_at_its_deadline(store, monkeypatch, stack):
    clock, ask = [time.monotonic()], engine.Batches.__getitem__  # goes on with the steps alone

    def counted(self, step):
        clock[0] += 1
        return ask(self, step)

    monkeypatch.setattr(engine.Batches, "__getitem__", counted)
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    assert len(stops_at_its_deadline(store, 400, executor="inline", stack=stack)) == 1


def test_a_pool_stops_at_its_deadline(store):
    stops_at_its_deadline(store, 4, executor="processes", jobs=2)


# How many at once.


def test_a_batch_of_runs_that_does_not_fit_into_memory_is_halved_until_it_does(store, tmp_path, monkeypatch):
    study, sizes, train = [tickets.dense(training(), replicate) for replicate in range(7)], [], engine.train

    def small(training, dataset, starts, *more, **named):
        sizes.append(len(starts))
        if len(starts) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return train(training, dataset, starts, *more, **named)

    monkeypatch.setattr(engine, "train", small)
    with pytest.warns(FewerAtOnce) as said:
        records = run(study, store, stack=7)
    assert sizes == [7, 3, *[1] * 7]
    assert [str(warning.message) for warning in said] == [
        f"{count} runs of lenet-8 with batches of 50 do not fit into the memory of cpu together: going on with {half} "
        "at a time"
        for count, half in ((7, 3), (3, 1))
    ]
    monkeypatch.undo()
    assert_same(records, run(study, Store(tmp_path / "single")))


def test_one_run_that_does_not_fit_into_memory_is_an_error(store, monkeypatch):
    def never(*given, **named):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(engine, "train", never)
    with pytest.raises(ExecutionError, match=r"1 of 1 recipes .*OutOfMemoryError: CUDA out of memory"):
        run([tickets.dense(training(), 0)], store, stack=4)


def test_the_tensors_of_a_batch_that_did_not_fit_are_given_up_before_the_next_begins(store, monkeypatch):
    train, held = engine.train, []

    def small(training, dataset, starts, *more, **named):
        if len(starts) > 1:
            large = torch.zeros(3)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError(f"CUDA out of memory {large.sum()}")
        assert held[0]() is None
        return train(training, dataset, starts, *more, **named)

    monkeypatch.setattr(engine, "train", small)
    with pytest.warns(FewerAtOnce):
        run([tickets.dense(training(lr=2e-3), replicate) for replicate in range(2)], store, stack=2)


def test_more_runs_fit_into_more_memory_and_fewer_of_larger_networks():
    counts = [fitting(training(), 2**power) for power in (10, 32, 33, 35)]
    assert counts[0] == 1 < counts[1] < counts[2] < counts[3]
    assert all(count & (count - 1) == 0 for count in counts)
    assert fitting(training(model="conv-2"), 2**35) < counts[3]


def test_batches_are_of_runs_of_one_kind_at_one_depth(store):
    study = [run_ for replicate in range(5) for run_ in tickets.imp(training(), replicate, 1, 0.2)]
    tasks = plan([*study, tickets.dense(training(steps=60), 0)], store)

    def sizes(*given):
        return sorted(
            len(batch) for batch in module.batches(tasks.values(), *given) if isinstance(batch[0].recipe, r.Run)
        )

    assert sizes(1) == [1] * 11
    assert sizes(3) == [1, 2, 2, 3, 3]
    assert sizes(None) == [1, 5, 5]
    assert sizes(None, 2) == [1, 2, 2, 3, 3]
    for batch in module.batches(tasks.values(), None):
        assert len({(type(task.recipe), task.depth) for task in batch}) == 1


@pytest.mark.parametrize("faster, sizes", [(True, [4, 1]), (False, [1] * 5)])
def test_a_worker_with_a_gpu_trains_as_many_together_as_fit_if_that_is_faster(store, monkeypatch, faster, sizes):
    monkeypatch.setattr(computing, "pays", lambda training, device, count: faster)
    monkeypatch.setattr(computing, "fitting", lambda training, free: 4)
    monkeypatch.setattr(computing, "free_memory", lambda device: 0)
    together = computing._Together({tickets.dense(training(), k): set() for k in range(5)}, store, "cuda", None, None)
    seen = []
    monkeypatch.setattr(together, "_train", lambda runs: seen.append(len(runs)))
    together.compute(None)
    assert seen == sizes


def test_whether_a_batch_is_faster_is_measured_with_as_many_as_it_has(monkeypatch):
    clock, cost = [0.0], {64: 63.0, 4: 3.0, 1: 1.0}

    def slow(training, dataset, starts):
        clock[0] += 5.0 + training.steps * cost[len(starts)]  # what comes before the first step does not count

    monkeypatch.setattr(engine, "train", slow)
    monkeypatch.setattr(computing.time, "perf_counter", lambda: clock[0])
    computing._faster.cache_clear()
    assert computing.pays(training(), "cpu", 4) and computing.pays(training(), "cpu", 64)
    cost[64] = 65.0
    assert computing.pays(training(lr=0.1), "cpu", 64)  # found out before
    assert not computing.pays(training(batch=51), "cpu", 64)
    computing._faster.cache_clear()


def test_a_real_measurement_can_be_made():
    computing._faster.cache_clear()
    assert computing.pays(training(), "cpu", 2) in (True, False)
    computing._faster.cache_clear()


@pytest.mark.parametrize("optimiser, copies", [("adam", 7), ("sgd", 6)])
def test_memory_of_a_linear_network_by_hand(optimiser, copies):
    models.register("linear", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    wanted = training(model="linear", optimiser=optimiser, batch=30)
    inputs = 4 * 64  # all that the backward pass keeps of an example
    assert engine.memory(wanted, module.dataset_of(wanted)) == (copies * 4 * 650 + 30 * inputs, 3 * inputs)


def test_networks_with_dropout_are_never_stacked(store, trained):
    study = [tickets.dense(training(model="conv-2-dropout", steps=2), replicate) for replicate in range(2)]
    run(study, store, stack=2)
    assert trained == [1, 1]


# Nothing is computed twice.


@pytest.fixture
def trained(monkeypatch):
    """A list that grows by the number of networks whenever some are trained."""
    calls, train = [], engine.train

    def counted(training, dataset, starts, *more, **named):
        calls.append(len(starts))
        return train(training, dataset, starts, *more, **named)

    monkeypatch.setattr(engine, "train", counted)
    return calls


def test_what_is_in_the_store_is_not_computed_again(store, trained):
    chain = tickets.imp(training(), 0, 2, 0.2)
    first = run(chain, store)
    assert sum(trained) == 3
    assert_same(run(chain, store), first)
    assert sum(trained) == 3


def test_a_longer_study_computes_only_what_is_new(store, trained):
    run(tickets.imp(training(), 0, 2, 0.2), store)
    trained.clear()
    run(tickets.imp(training(), 0, 3, 0.2), store)
    assert sum(trained) == 1


def test_a_shared_run_is_computed_once(store, trained):
    ticket = tickets.imp(training(), 0, 1, 0.2)[1]
    run([ticket, ticket, tickets.reinitialised(ticket, 0), tickets.random_sparse(ticket, 0)], store)
    assert sum(trained) == 4


def test_a_run_is_computed_again_only_for_weights_that_were_dropped(store, trained):
    chain = tickets.imp(training(), 0, 1, 0.2)
    run(chain, store)
    store.gc()
    trained.clear()
    run([chain[0], tickets.reinitialised(chain[1], 0)], store)
    assert sum(trained) == 1
    run(tickets.imp(training(), 0, 1, 0.3), store)
    assert sum(trained) == 3  # the dense run for its weights, and the new ticket


def test_weights_of_records_that_were_made_elsewhere_are_warned_of_before_they_are_trained(store, monkeypatch):
    """On another device weights mostly come out otherwise, and `Store.save` refuses them only after the training."""
    run(tickets.imp(training(), 0, 1, 0.2), store)
    store.gc()
    monkeypatch.setattr(computing, "_processor", lambda: "another processor")
    run([tickets.dense(training(), 0)], store)  # no weights are needed
    with pytest.warns(
        computing.MadeElsewhere, match=r"of 1 run are needed .* on .*; here: torch .* on another processor"
    ):
        run(tickets.imp(training(), 0, 1, 0.3), store)


def test_a_study_that_asks_for_an_earlier_state_of_an_interrupted_run_gets_it(store, tmp_path, monkeypatch):
    dense, ticket = tickets.imp(training(steps=500), 0, 1, 0.2, rewind_step=50)
    ask = engine.Batches.__getitem__

    def until(self, step):
        if step == 337:
            raise SystemExit  # no error of the run, which would be reported
        return ask(self, step)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setenv("LOTTERY_SETTINGS", '{"checkpoint_seconds": 0}')
        patch.setattr(engine.Batches, "__getitem__", until)
        run([dense], store)  # its checkpoint at 300 has no state of step 50
    assert store.keys() == [] and store.checkpoint(dense.key).load() is not None
    assert_same(run([dense, ticket], store), run([dense, ticket], Store(tmp_path / "fresh")))


def test_a_plan_lists_what_comes_first_before_its_readers(store):
    tasks = plan(tickets.imp(training(), 0, 3, 0.2, rewind_step=20), store)
    assert len(tasks) == 7 and not store.root.exists()
    keys = list(tasks)
    assert all(keys.index(first) < keys.index(key) for key, task in tasks.items() for first in task.after)
    assert next(iter(tasks.values())).keep == {20, 120} and next(iter(tasks.values())).ahead == 300


def test_a_batch_of_a_long_chain_is_sent_and_read():
    [*_, last] = tickets.imp(training(), 0, sys.getrecursionlimit() // 2, 0.001)
    _, work = pickle.loads(workers.packed(workers.Work([last], [{3}], Path("store"), "cpu")))
    assert work.recipes == [last] and work.recipes[0].mask.run.order == (0,)


# What recipes mean.


def test_a_chain_of_which_the_end_is_asked_for_may_be_longer_than_python_has_frames(store):
    levels = sys.getrecursionlimit() // 2
    [*_, last] = tickets.imp(training(), 0, levels, 0.001)
    tasks = plan([last], store)
    assert [task.depth for task in tasks.values()] == list(range(2 * levels + 1))
    assert all(task.keep == {training().steps} for task in tasks.values() if task.recipe != last and task.steps)


def test_a_ticket_starts_from_the_very_initial_weights(store):
    chain = tickets.imp(training(), 0, 3, 0.2)
    run(chain, store)
    initial = Initial(0).tensors(world(store), training())
    for run_ in chain:
        begun = run_.weights.tensors(world(store), training())
        assert all(torch.equal(begun[name], initial[name]) for name in initial)


def test_a_mask_cuts_the_smallest_final_weights_of_its_run(store):
    dense, ticket = tickets.imp(training(), 0, 1, 0.3)
    run([ticket], store)
    final, mask = store.state(dense.key, 120), masks.from_record(store.read(ticket.mask.key))
    for name, kept in mask.items():
        assert final[name][~kept].abs().max() <= final[name][kept].abs().min()
        assert int((~kept).sum()) == round(0.3 * kept.numel())


def test_a_reinitialised_ticket_has_its_mask_but_other_weights(store):
    ticket = tickets.imp(training(), 0, 1, 0.2)[1]
    own = ticket.weights.tensors(world(store), training())
    drawn = [tickets.reinitialised(ticket, 0, draw).weights.tensors(world(store), training()) for draw in (1, 2)]
    assert tickets.reinitialised(ticket, 0).mask == ticket.mask
    for one, other in ((own, drawn[0]), (own, drawn[1]), (drawn[0], drawn[1])):
        assert (one["fc1.weight"] != other["fc1.weight"]).all()


def test_a_random_mask_keeps_the_tickets_counts_but_differs_from_draw_to_draw(store):
    ticket = tickets.imp(training(), 0, 1, 0.2)[1]
    run([ticket.mask], store)
    own, *drawn = (
        recipe.tensors(world(store), training())
        for recipe in (ticket.mask, *(tickets.random_sparse(ticket, 0, draw).mask for draw in (1, 2)))
    )
    assert all(masks.count(mask) == masks.count(own) for mask in drawn)
    for one, other in ((own, drawn[0]), (own, drawn[1]), (drawn[0], drawn[1])):
        assert all(not torch.equal(one[name], other[name]) for name in one)


def test_a_shuffled_mask_keeps_the_tickets_own_weights(store):
    ticket = tickets.imp(training(), 0, 1, 0.2)[1]
    assert tickets.shuffled(ticket, 0).weights == ticket.weights and tickets.shuffled(ticket, 0).mask != ticket.mask


def test_sign_preserving_reinitialisation_keeps_exactly_the_signs(store):
    signed = Signed(Initial(0, 1), Initial(0)).tensors(world(store), training())
    magnitudes, signs = (Initial(0, draw).tensors(world(store), training()) for draw in (1, 0))
    for name in ("fc1.weight", "output.weight"):
        assert torch.equal(signed[name].sign(), signs[name].sign())
        assert torch.equal(signed[name].abs(), magnitudes[name].abs())
        assert not torch.equal(signed[name], signs[name])
    assert torch.equal(signed["fc1.bias"], magnitudes["fc1.bias"])


def test_replicates_differ_in_weights_and_in_order(store):
    one, other = run([tickets.dense(training(), replicate) for replicate in range(2)], store)
    assert not np.array_equal(one.arrays["signs/fc1.weight"], other.arrays["signs/fc1.weight"])
    mixed = run([dataclasses.replace(tickets.dense(training(), 0), order=(1,))], store)[
        0
    ]  # the start of 0, the order of 1
    assert len({record.values["test_loss_end"] for record in (one, other, mixed)}) == 3


def test_a_record_holds_what_its_history_says(store):
    record = run([tickets.imp(training(), 0, 1, 0.2)[1]], store)[0]
    history, values = {k.removeprefix("history/"): a for k, a in record.arrays.items()}, record.values
    assert history["step"].tolist() == list(range(121))
    best = history["validation_loss"].argmin()
    assert values["early_stop_step"] == history["step"][best]
    assert values["early_stop_test_accuracy"] == history["test_accuracy"][best]
    assert values["test_accuracy_end"] == history["test_accuracy"][-1]
    assert values["density"] == pytest.approx(0.8, abs=1e-3) and sum(values["weights_left"].values()) == 474
    assert record.arrays["histogram/fc1.weight"].sum(1).tolist() == [values["weights_left"]["fc1.weight"]] * 2
    assert {"lottery", "torch", "device", "seconds"} <= record.made.keys()


def test_signs_in_a_record_are_those_of_the_final_weights(store):
    dense = tickets.dense(training(), 0)
    record = run([dense], store)[0]
    final = store.state(dense.key, 120)["fc1.weight"].flatten()
    np.testing.assert_array_equal(np.unpackbits(record.arrays["signs/fc1.weight"], count=len(final)), final > 0)


# One's own network and data.


class Own(nn.Module):
    """Some user's network."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first = nn.Conv1d(1, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.last = nn.Linear(4, classes)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x[:, None]))).mean(2))


def own_study():
    models.register("own-network", lambda shape, classes: Own(shape, classes))
    x = torch.randn(300, 12, generator=torch.Generator().manual_seed(0))
    y = (x[:, :6].sum(1) > x[:, 6:].sum(1)).long()
    name = data.register("own_data", (x[:200], y[:200]), (x[200:], y[200:]))
    return tickets.imp(training(data=name, model="own-network", validation=50, batch=30), 0, 2, 0.2, rewind_step=10)


def test_ones_own_network_and_data_work(store):
    records = run(own_study(), store)
    assert [round(record.values["density"], 2) for record in records] == [1.0, 0.8, 0.65]


def test_a_network_that_workers_cannot_import_is_an_error_for_other_executors(store, monkeypatch):
    monkeypatch.setattr(models, "_registered", {})
    study = own_study()
    with pytest.raises(ExecutionError, match="its factory\\) in a module"):
        run(study, store, "processes", jobs=2)
    assert not store.root.exists()


def test_by_default_such_a_network_is_computed_here(store, monkeypatch):
    monkeypatch.setattr(models, "_registered", {})
    assert len(execute(own_study()[:1], store, jobs=2, show=False)) == 1


def in_main(kind):
    """As if a class or function stood in the script."""
    kind.__module__, kind.__qualname__ = "__main__", kind.__name__
    return kind


def test_what_stands_in_the_script_or_in_a_function_is_computed_here(monkeypatch):
    @r.frozen
    class OwnStart(r.Weights):
        replicate: int

    class InScript(Own):
        def make(self, shape, classes):
            return Own(shape, classes)

    one = r.Run(training(), OwnStart(0), Dense())
    assert rooted([one], {}) == rooted([Pruned(one, 0.5)], {}) == "the recipe class OwnStart"
    assert rooted([tickets.dense(training(), 0)], {"own": functools.partial(Own)}) is None
    in_main(InScript)
    monkeypatch.setattr(sys.modules["__main__"], "InScript", InScript, raising=False)
    instance = InScript((12,), 2)
    for factory in (InScript, functools.partial(InScript, classes=2), instance.make, instance):
        assert rooted([tickets.dense(training(), 0)], {"own": factory}) == "the registered network own"


def test_workers_are_handed_the_data_and_networks_of_measurements_alone(monkeypatch):
    monkeypatch.setattr(models, "_registered", {})
    own = own_study()[0].training
    for recipe in (AtStart(own, Initial(0), 0.5), Unlit(own), tickets.dense(own, 0)):
        sets, networks = registered([recipe])
        assert (list(sets), list(networks)) == ([own.data], [own.model])
    assert registered([tickets.dense(training(), 0)]) == ({}, {})


# Errors.


def test_an_error_in_one_run_leaves_the_others_computed(store):
    models.register("hopeless", worker_networks.Hopeless)
    study = [run_ for replicate in range(6) for run_ in tickets.imp(training(model="hopeless"), replicate, 1, 0.2)]
    hopeless = [
        bool(torch.isnan(Initial(replicate).tensors(world(store), study[0].training)["fc1.weight"]).any())
        for replicate in range(6)
    ]
    assert 0 < sum(hopeless) < 6
    with pytest.raises(ExecutionError, match=f"^{3 * sum(hopeless)} of 18 recipes .*Diverged: the loss is not"):
        run(study, store)
    assert [run_.key in store for run_ in study[1::2]] == [not lost for lost in hopeless]


def test_one_run_that_diverges_does_not_take_its_batch_with_it(store):
    models.register("hopeless", worker_networks.Hopeless)
    study = [tickets.dense(training(model="hopeless"), replicate) for replicate in range(6)]
    with pytest.raises(ExecutionError, match="of 6 recipes could not"):
        run(study, store, stack=8)
    assert 0 < sum(run_.key in store for run_ in study) < 6


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(model="vgg-7"), "no network 'vgg-7'; known"),
        (dict(data="imagenet"), "no data set 'imagenet'; known"),
        (dict(validation=1400), "validation must be from 1 to 1399"),
        (dict(batch=1201), "a batch of 1201 is larger than the 1200 training examples"),
        (dict(precision="tf32"), "precision 'tf32' is one of NVIDIA GPUs"),
    ],
)
def test_recipes_that_cannot_be_are_refused_before_anything_is_computed(store, wrong, words):
    fine = tickets.dense(training(), 0)
    with pytest.raises(LotteryError, match=words):
        run([fine, *tickets.imp(training(**wrong), 0, 1, 0.2)], store)
    assert not store.root.exists()


def test_fractions_that_do_not_fit_the_network_are_refused_before_anything_is_computed(store):
    with pytest.raises(LotteryError, match=r"no fraction for layer 'output.weight'"):
        run(tickets.imp(training(), 0, 1, {"fc": 0.2}), store)
    assert not store.root.exists()


@pytest.mark.parametrize("make", [tickets.imp, lambda *given: [tickets.random_sparse(tickets.imp(*given)[-1], 0)]])
def test_chains_that_would_empty_a_layer_are_refused_before_anything_is_computed(store, make):
    """The output layer has 80 weights: 90 % of them gone leave 8, then 1, then none (of 1, round(0.9) goes)."""
    run_ = make(training(steps=1), 0, 2, 0.9)
    assert module.check(run_) is None
    with pytest.raises(ExecutionError, match=r"pruning 90% of the 1 weights that output.weight of lenet-8 has left"):
        run(make(training(steps=1), 0, 3, 0.9), store)
    assert not store.root.exists()


def test_global_pruning_with_two_fractions_is_refused_before_anything_is_computed(store):
    with pytest.raises(ExecutionError, match="global pruning ranks all layers together: give one fraction"):
        run(tickets.imp(training(), 0, 1, {"fc": 0.2, "output": 0.1}, scope="global"), store)
    assert not store.root.exists()


def test_a_network_without_layers_to_prune_is_refused_before_anything_is_computed(store):
    models.register("bare", worker_networks.Bare)
    with pytest.raises(LotteryError, match=r"bare.* has no"):
        run([tickets.dense(training(model="bare"), 0)], store)
    assert not store.root.exists()


def test_augmentation_of_what_is_no_image_is_refused_before_anything_is_computed(store):
    own = own_study()[0].training
    with pytest.raises(LotteryError, match="no images"):
        run([tickets.dense(dataclasses.replace(own, augment=True), 0)], store)
    assert not store.root.exists()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (dict(executor="threads"), "no executor 'threads'; known: inline, processes, dask"),
        (dict(executor="processes", jobs=0), "jobs must be at least 1, not 0"),
        (dict(executor="processes", jobs="2"), "jobs must be at least 1, not '2'"),
        (dict(stack=0), "stack must be at least 1, not 0"),
        (dict(executor="inline", scheduler="tcp://127.0.0.1:1"), "goes with executor 'dask'"),
        (dict(executor="inline", device="tpu"), "no device 'tpu': take cpu, cuda"),
        (dict(device="cuda:999"), r"'cuda:999' was asked for, but torch finds (no GPU|cuda:0.*) here: use another"),
    ],
)
def test_wrong_ways_to_execute_are_refused_before_anything_is_computed(store, wrong, words):
    with pytest.raises(ExecutionError, match=words):
        execute([tickets.dense(training(), 0)], store, show=False, **wrong)
    assert not store.root.exists()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (tickets.dense(training(), 0), r"not a Run: write execute\(\[run\], …\)"),
        ([[tickets.dense(training(), 0)]], "a list in it is none"),
        ([Initial(0)], "Initial is no recipe with a record"),
        (None, "not a NoneType"),
    ],
    ids=["a recipe", "nested", "no record", "nothing"],
)
def test_what_is_no_list_of_recipes_is_refused_in_words(store, wrong, words):
    with pytest.raises(ExecutionError, match=words):
        run(wrong, store)


def test_a_folder_is_a_store_and_torch_s_device_a_device(tmp_path):
    asked = [tickets.dense(training(steps=1), 0)]
    [record] = run(asked, str(tmp_path / "kept"), device=torch.device("cpu"))
    assert Store(tmp_path / "kept").keys() == [record.key] and run(asked, tmp_path / "kept")[0].key == record.key


def test_weights_that_nobody_kept_are_an_error_that_names_run_and_step(store):
    dense = tickets.dense(training(), 0)
    with pytest.raises(ExecutionError, match=f"run {dense.key[:12]} at step 20 are not kept"):
        Rewound(dense, 20).tensors(world(store), training())


def test_a_mask_that_is_not_there_is_an_error_that_names_it(store):
    mask = Pruned(tickets.dense(training(), 0), 0.2)
    with pytest.raises(ExecutionError, match=f"the Pruned {mask.key[:12]} is not in the store"):
        mask.tensors(world(store), training())


def test_a_network_that_cannot_travel_stops_only_the_studies_that_use_it(store):
    models.register("local", lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    base = dict(data="digits", steps=5, batch=20, optimiser="adam", lr=0.01, validation=200)
    other = tickets.dense(r.training(model="lenet-5", **base), 0)
    assert execute([other], store, executor="processes", jobs=1, show=False)[0].key == other.key
    with pytest.raises(ExecutionError, match="cannot be sent to other processes"):
        execute([tickets.dense(r.training(model="local", **base), 0)], store, executor="processes", show=False)


def test_the_bar_counts_scans_and_takes_their_time_where_no_run_is_left(tmp_path, monkeypatch):
    state = tmp_path / "state.json"
    monkeypatch.setenv(settings.VARIABLE, settings.made(progress=state).model_dump_json())
    bar = progress.Bar(2, 200, scans=4)
    bar.update(1, 150, 3)
    assert json.loads(state.read_text()) == {"said": "runs 1/2, scans 3/4", "unit": "step", "total": 200, "at": 150}
    bar = progress.Bar(0, 0, scans=4)
    bar.update(0, 0, 3)
    assert json.loads(state.read_text()) == {"said": "scans 3/4", "unit": "scan", "total": 4, "at": 3}


@pytest.mark.parametrize(("terminal", "notebook", "drawn"), [(0, 0, False), (1, 0, True), (0, 1, True)])
def test_the_bar_is_drawn_where_somebody_looks(terminal, notebook, drawn, monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    stream = io.StringIO()
    stream.isatty = lambda: bool(terminal)
    monkeypatch.setattr(sys, "stderr", stream)
    progress.Bar(2, 200).close()
    assert bool(stream.getvalue()) == drawn


def test_a_study_tells_the_bar_of_its_runs_and_scans(store, monkeypatch):
    told = []
    monkeypatch.setattr(progress.Bar, "update", lambda self, *given: told.append(given))
    chain = tickets.imp(training(), 0, 1, 0.5, scope="global")
    run([landscape.path(*chain, alphas=3), *chain], store)
    assert told[-1] == (2, 2 * training().steps, 1)


# What is kept of a run that fails, and of one that is interrupted.


def test_runs_that_diverge_leave_no_network_behind(store, monkeypatch):
    alive: list[weakref.ref] = []

    class Watched(worker_networks.Hopeless):
        def __init__(self, shape, classes):
            super().__init__(shape, classes)
            self.fc1.weight.data.fill_(float("nan"))
            alive.append(weakref.ref(self))

    counts, train = [], engine.train

    def counted(*given, **named):
        counts.append(sum(reference() is not None for reference in alive))
        return train(*given, **named)

    monkeypatch.setattr(engine, "train", counted)
    monkeypatch.setattr(models, "_registered", {"watched": Watched})
    monkeypatch.setattr(module, "check", lambda recipes, device: None)  # which tries networks out, and refuses this one
    with pytest.raises(ExecutionError, match="6 of 6 recipes"):
        run([tickets.dense(training(model="watched"), replicate) for replicate in range(6)], store)
    assert len(counts) == 6 and max(counts) == counts[0]


def test_an_interrupted_run_records_the_seconds_of_all_its_sessions(store, monkeypatch):
    steps, dense = iter(range(1000)), tickets.dense(training(steps=300), 0)
    with monkeypatch.context() as patch:
        patch.setattr(stopping, "due", lambda deadline=None: next(steps) > 150)
        with pytest.raises(stopping.OutOfTime):
            run([dense], store)
    checkpoint = store.checkpoint(dense.key)
    saved = checkpoint.load()
    assert 0 < float(saved["seconds"]) < 1000
    checkpoint.save(saved | {"seconds": saved["seconds"] + 5000})
    assert 5000 < run([dense], store)[0].made["seconds"] < 6000


def test_an_error_in_a_users_network_names_run_network_and_place(store):
    models.register("odd", worker_networks.Odd)
    dense = tickets.dense(training(model="odd"), 0)
    words = (
        rf"Run {dense.key[:12]} \(odd on digits, 120 steps\): .*KeyError: 'pe' \(in forward, worker_networks.py, line"
    )
    with pytest.raises(ExecutionError, match=words) as caught:
        run([dense], store)
    assert "Traceback" in caught.value.__notes__[0]


# Workers that die, and that are busy.


class Dying:
    """A pool whose workers die; before it they save a checkpoint as often as is said."""

    places = 1

    def __init__(self, store, progress):
        self.store, self.progress, self.deaths = store, progress, 0

    def submit(self, work):
        future = Future()
        self.deaths += 1
        if self.progress:
            self.progress -= 1
            self.store.checkpoint(work.recipes[0].key).save({"at": torch.tensor([self.deaths])})
        future.set_exception(workers.WorkerDied("it was ended by SIGKILL"))
        return future


def test_only_deaths_without_progress_count(store):
    dense = tickets.dense(training(), 0)
    for further in (0, 5):
        pool = Dying(store, further)
        with store.in_use(), pytest.raises(ExecutionError) as caught:
            module.Study(plan([dense], store), store).run(pool)
        assert pool.deaths == further + 3
        assert f"Run {dense.key[:12]} (lenet-8 on digits, 120 steps), at about step 0" in str(caught.value)
        assert "its worker died 3 times without getting further; the last time it was ended by SIGKILL" in str(
            caught.value
        )


def test_a_worker_that_cannot_import_a_network_says_so(monkeypatch):
    vanishing = types.ModuleType("vanishing")
    monkeypatch.setitem(sys.modules, "vanishing", vanishing)
    factory = vanishing.factory = types.FunctionType((lambda shape, classes: None).__code__, {}, "factory")
    factory.__module__, factory.__qualname__ = "vanishing", "factory"
    with workers.Processes(1, ({}, {"gone": factory})) as pool:
        error = pool.submit(workers.Work([], [], Path(), "cpu")).exception(timeout=300)
    assert isinstance(error, ExecutionError)
    assert "cannot read what it is sent: ModuleNotFoundError: No module named 'vanishing'" in str(error)


def test_a_worker_that_builds_another_network_than_the_script_computes_nothing(store, monkeypatch):
    monkeypatch.setattr(worker_networks, "RATE", 0.45)
    monkeypatch.setattr(models, "_registered", {"rare": worker_networks.rare})
    asked = tickets.imp(training(model="rare"), 0, 1, 0.5)
    with pytest.raises(ExecutionError, match=r"'rare' than the script did \(another value of Rare.rate\).*partial"):
        execute(asked, store, executor="processes", jobs=1, show=False)
    assert not store.keys() and not list(store.root.glob("partial/*.safetensors"))
    models.register("rare", functools.partial(worker_networks.Rare, rate=0.45))
    execute(asked[:1], store, executor="processes", jobs=1, show=False)


def test_a_run_that_somebody_else_computes_is_left_for_later(store, tmp_path):
    first, second = (tickets.dense(training(), replicate) for replicate in range(2))
    done = []
    study = threading.Thread(target=lambda: done.extend(run([first, second], store)))
    with store.lock(first.key):
        study.start()
        while second.key not in store:
            time.sleep(0.05)
        assert first.key not in store and not done
    study.join(60)
    assert [record.key for record in done] == [first.key, second.key]


class Noisy(nn.Module):
    """It draws whenever it trains."""

    def __init__(self, shape, classes):
        super().__init__()
        self.first, self.last = nn.Linear(64, 16), nn.Linear(16, classes)

    def forward(self, x):
        return self.last(nn.functional.dropout(torch.relu(self.first(x.flatten(1))), 0.5, self.training))


@pytest.fixture
def drawing(tmp_path, monkeypatch):
    """Runs of networks that draw, and their records as one thread computes them."""
    monkeypatch.setitem(models._registered, "noisy", Noisy)
    study = [tickets.dense(training(model="noisy", steps=40), replicate) for replicate in range(4)]
    return study, run(study, Store(tmp_path / "alone"))


def test_studies_in_threads_give_what_one_after_the_other_gives(store, drawing):
    study, expected = drawing
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: run([one], store)[0], study))
    assert_same(found, expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dask_workers_with_several_threads_compute_one_by_one(store, drawing, monkeypatch):
    distributed = pytest.importorskip("distributed")
    study, expected = drawing
    places, counted = [], workers.Dask.places.fget
    monkeypatch.setattr(workers.Dask, "places", property(lambda self: places.append(counted(self)) or 4))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None, silence_logs="CRITICAL"
    ) as cluster:
        assert_same(run(study, store, None, scheduler=cluster.scheduler_address), expected)
    assert set(places) == {1}


def test_who_waits_for_a_thread_that_computes_keeps_its_deadline(store):
    done = []
    late = threading.Thread(
        target=lambda: done.append(computing.compute([tickets.dense(training(), 0)], [set()], store, deadline=0.0))
    )
    with seeds.alone:
        late.start()
        late.join(60)
    assert done == [computing.Report(left={tickets.dense(training(), 0).key})]


@contextlib.contextmanager
def set_to(change, value, before):
    change(value)
    try:
        yield
    finally:
        change(before)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "products": lambda: set_to(torch.set_float32_matmul_precision, "medium", "highest"),
    "type": lambda: set_to(torch.set_default_dtype, torch.float64, torch.float32),
    "device": lambda: torch.device("meta"),
}


def surroundings():
    default = torch.get_default_dtype(), torch.get_default_device()
    return *default, torch.is_autocast_enabled("cpu"), torch.backends.mkldnn.matmul.fp32_precision


@pytest.mark.parametrize("around", SURROUNDINGS.values(), ids=SURROUNDINGS.keys())
def test_what_execute_is_called_in_changes_no_number_and_stays(store, tmp_path, drawing, around):
    [run_, *_], [expected, *_] = drawing
    measured = Beginning(run_.training, Initial(0), Dense())
    plain = run([measured], Store(tmp_path / "plain"))
    with around():
        before = surroundings()
        found = run([run_, measured], store)
        assert surroundings() == before
    assert_same(found, [expected, *plain])


def test_a_clock_that_was_set_back_does_not_prolong_the_time(monkeypatch):
    deadlines = []
    monkeypatch.setattr(workers, "compute", lambda *given, deadline, **more: deadlines.append(deadline))
    for sent in (time.time() + 3600, time.time() - 5):
        workers.Work([], [], Path(), "cpu", seconds=10.0, sent=sent).compute()
    now = time.monotonic()
    assert now + 9 < deadlines[0] <= now + 10 and now + 4 < deadlines[1] < now + 5.5


STOPPED = """
import sys
from lottery import LotteryError, recipes as r, tickets
from lottery.engine import stopping
from lottery.engine.execute import execute
from lottery.engine.store import Store

training = r.training(data="digits", model="lenet-8", steps=10**6, batch=50, optimiser="adam", lr=3e-3, validation=200)
study = [tickets.dense(training, replicate) for replicate in range(3)]
try:
    execute(study, Store(sys.argv[1]), executor=sys.argv[2], jobs=2, show=False)
except stopping.Stopped as error:
    print(error)
    raise SystemExit(error.status)
"""


@pytest.mark.parametrize(
    "executor, signal_",
    [
        ("inline", signal.SIGINT),
        ("processes", signal.SIGTERM),
        ("processes", signal.SIGINT),
        ("dask", signal.SIGINT),
    ],
)
def test_a_signal_saves_what_is_trained_and_ends_in_one_line(store, executor, signal_):
    if executor == "dask":
        pytest.importorskip("distributed")
    study = subprocess.Popen(
        [sys.executable, "-c", STOPPED, store.root, executor],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOTTERY_SETTINGS": '{"checkpoint_seconds": 0}'},
    )
    partial = store.root / "partial"
    while len(list(partial.glob("*.safetensors"))) < (1 if executor == "inline" else 2):
        assert study.poll() is None, study.stderr.read()
        time.sleep(0.1)
    os.killpg(study.pid, signal_)
    out, err = study.communicate(timeout=120)
    assert out == f"stopped by {signal_.name}: 3 of 3 recipes are left, and those begun are saved\n"
    assert (study.returncode, err) == (128 + signal_, "")


def _an_error_logged() -> None:
    logging.getLogger("distributed.worker").error("Failed to communicate with scheduler during heartbeat.")


def test_an_own_cluster_logs_nothing_beside_what_a_study_says(capfd):
    """A heartbeat that is under way as the cluster closes fails, now and then, and is logged with its traceback."""
    pytest.importorskip("distributed")
    with workers.Dask(1, None, ({}, {})) as pool:
        pool.client.run(_an_error_logged)
        pool.client.run_on_scheduler(_an_error_logged)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("address", ["foo", "tcp://127.0.0.1:one", "xyz://127.0.0.1:1", "tcp://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_named(address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "ANSWER_SECONDS", 1, raising=False)
    began = time.monotonic()
    with pytest.raises(ExecutionError, match=f"no Dask scheduler answers at {address}: ."):
        workers.Dask(1, address, ({}, {})).__enter__()
    assert time.monotonic() - began < 9


def test_a_cluster_on_this_machine_lets_in_its_user_alone():
    distributed = pytest.importorskip("distributed")
    from distributed.security import Security

    with workers.Dask(1, None, ({}, {})) as pool:
        address = pool.client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        others = [Security.temporary(), None]
        for security, scheme in zip(others, ("tls", "tcp"), strict=True):
            with pytest.raises((OSError, TimeoutError)):
                distributed.Client(address.replace("tls", scheme), security=security, timeout=5)
        port = pool.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.http_server.port)
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10)


def test_starts_and_masks_of_networks_of_other_shapes_are_refused_before_anything_is_trained(tmp_path):
    """Also where data alone are of another size."""
    row = r.Training("digits", "lenet-20", 3, 50, "adam", 1e-3, validation=200)
    dense, ticket = tickets.imp(row, 0, 1, 0.5)
    wide, store = dataclasses.replace(row, model="lenet-30"), Store(tmp_path)
    for start, mask, words in (
        (
            dense.end,
            r.Dense(),
            r"the weights of lenet-20 on digits do not fit lenet-30 on digits: fc1\.weight is \[20, 64\]",
        ),
        (r.Initial(0), ticket.mask, "the mask of lenet-20 on digits does not fit lenet-30"),
    ):
        with pytest.raises(LotteryError, match=words):
            execute([r.Run(wide, start, mask)], store, executor="inline", show=False)
    assert not store.keys()


NARROW, WIDE = (
    r.Training(name, model, 3, 50, "adam", 1e-3, validation=200)
    for name, model in (("digits", "lenet-20"), ("digits", "lenet-30"))
)
CHAIN, OTHER, GREY = (
    tickets.imp(row, 0, 1, 0.5) for row in (NARROW, WIDE, dataclasses.replace(NARROW, model="conv-2"))
)
(DENSE, TICKET), (OTHERS, CUT) = CHAIN, OTHER


def of_other_shapes() -> dict[str, r.Recipe]:
    """Recipes that have weights or masks of a network of other shapes somewhere inside."""

    def start(weights, mask=None):
        return r.Run(NARROW, weights, mask or Dense())

    own = Initial(0)
    return {
        "signed": start(Signed(own, OTHERS.end)),
        "masked": start(r.Masked(own, CUT.mask)),
        "noisy": start(r.Noisy(Rewound(OTHERS, 1), 0.1, 0)),
        "hybrid": start(signs.Hybrid(DENSE.end, OTHERS.end)),
        "aligned": start(signs.Aligned(DENSE.end, OTHERS.end)),
        "spliced": start(own, Spliced(TICKET.mask, CUT.mask, ("fc1.weight",))),
        "rescaled": start(Rescaled(own, TICKET.mask, OTHERS.end, CUT.mask), TICKET.mask),
        "perturbed": start(landscape.Perturbed(own, Dense(), OTHERS.end, 0)),
        "from within": start(Rewound(r.Run(NARROW, Signed(own, OTHERS.end), Dense()), 0)),
        "early": start(own, Early(OTHERS, 2, 0.5)),
        "edge-popup": start(own, EdgePopup(WIDE, Initial(0), 0.5, 10)),
        "edge-popup's weights": EdgePopup(NARROW, OTHERS.end, 0.5, 10),
        "at start": start(own, AtStart(WIDE, own, 0.5)),
        "adaptive": start(own, curvature.Adaptive(OTHERS, 0.1)),
        "beginning": marks.Beginning(NARROW, OTHERS.end, TICKET.mask),
        "packed": worth.Packed(NARROW, OTHERS.end, TICKET.mask),
        "packed mask": worth.Packed(NARROW, own, r.Shuffled(CUT.mask, 0)),
        "speed": worth.Speed(NARROW, CUT.mask),
        "moved": movement.Moved(CUT, DENSE),
        "flipped": signs.Flipped(DENSE, OTHERS.end),
        "spectrum": curvature.Spectrum(DENSE, towards=(OTHERS.end,)),
        "path": landscape.Path(NARROW, (DENSE.end, TICKET.end), CUT.mask),
    }


@pytest.mark.parametrize("kind", of_other_shapes())
def test_what_a_recipe_is_made_of_must_be_of_its_network(kind):
    with pytest.raises(ExecutionError, match=r"do(es)? not fit .*fc1\.weight is \["):
        module.check([of_other_shapes()[kind]])


def test_one_name_of_a_network_on_data_of_other_shapes_is_another_network():
    """PyTorch would repeat the weights for a single channel for all three."""
    (x, y), (a, b), _ = data._raw("digits")
    name = data.register("in_colour", (x.repeat(1, 3, 1, 1), y), (a.repeat(1, 3, 1, 1), b))
    own, (grey, ticket) = Initial(0), tickets.imp(dataclasses.replace(NARROW, model="resnet-8"), 0, 1, 0.5)
    colour = dataclasses.replace(grey.training, data=name)
    for weights in (
        Signed(own, grey.end),
        r.Masked(own, ticket.mask),
        signs.Hybrid(own, grey.end),
        Signed(r.Constant(own), grey.end),
    ):
        with pytest.raises(ExecutionError, match=r"resnet-8 on digits do(es)? not .* conv\.weight is \[16, 1, 3, 3\]"):
            module.check([r.Run(colour, weights, Dense())])


def test_recipes_of_ones_own_may_make_other_shapes_fit():
    @r.frozen
    class Doubled(r.Weights):
        weights: r.Weights

        def fitting(self):
            return []

    @r.frozen
    class Twice(r.Weights):
        weights: r.Weights

    module.check([r.Run(WIDE, Doubled(DENSE.end), Dense())])
    with pytest.raises(ExecutionError, match="the weights of lenet-20 on digits do not fit lenet-30"):
        module.check([r.Run(WIDE, Twice(DENSE.end), Dense())])


def test_what_is_taken_of_prunable_weights_alone_needs_no_more_of_the_same():
    """Signs of a network without biases, say, in one that has some."""
    for name, bias in (("signs-biased", True), ("signs-bare", False)):
        models.register(
            name, lambda shape, classes, bias=bias: nn.Sequential(nn.Flatten(), nn.Linear(64, classes, bias=bias))
        )
    biased, bare = (
        tickets.dense(dataclasses.replace(NARROW, model=name), 0) for name in ("signs-biased", "signs-bare")
    )
    module.check([r.Run(biased.training, Signed(Initial(0), bare.end), Dense())])
    with pytest.raises(ExecutionError, match="the weights of signs-bare on digits do not fit signs-biased"):
        module.check([r.Run(biased.training, Signed(bare.end, Initial(0)), Dense())])


@pytest.mark.parametrize("kind", ["path", "plane", "projection"])
def test_paths_whose_mask_cannot_hold_a_point_are_refused_before_anything_is_trained(kind):
    sparse = landscape.Plane(NARROW, (TICKET.end, DENSE.end, Rewound(DENSE, 2)), TICKET.mask)
    part = r.Masked(DENSE.end, TICKET.mask)
    found = {
        "path": landscape.path(TICKET, DENSE),
        "plane": sparse,
        "projection": landscape.Path(NARROW, (part, DENSE.end), TICKET.mask),
    }
    with pytest.raises(landscape.LandscapeError, match=r"mask that keeps 740 weights, and its point 2 has 1480"):
        module.check([found[kind]])
    module.check([landscape.path(DENSE, TICKET), landscape.Path(NARROW, (part, TICKET.end), TICKET.mask)])


def test_fractions_of_early_masks_are_checked_as_others_are():
    for fraction, scope, words in (
        ((("fc", 0.5), ("output", 0.25)), "global", "global pruning ranks all layers together"),
        (0.9999, "layer", r"pruning 100% of the 1280 weights that fc1\.weight"),
    ):
        with pytest.raises(ExecutionError, match=words):
            module.check([Early(DENSE, 2, fraction, scope)])
    module.check([Early(DENSE, 2, 0.0), Early(DENSE, 2, 0.99, "global")])  # as ever


def test_chains_whose_levels_hold_the_last_one_twice_are_compared_at_once():
    row = r.Training("digits", "lenet-20", 3, 50, "adam", 1e-3, validation=200)
    long, again = (tickets.retrained(row, 0, 300, 0.01, "learning rate") for _ in range(2))
    began = time.process_time()
    assert long[-1] == again[-1] and hash(long[-1]) == hash(again[-1]) and long[-1] != long[-2]
    assert len(r.closure(long)) == 601 and time.process_time() - began < 20


def test_masks_fit_networks_that_differ_in_what_is_not_pruned():
    """And derived masks and continued runs of other shapes are refused as those that they are made from."""

    def build(bias):
        return lambda shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, 30, bias=bias), nn.Linear(30, classes))

    for name, bias in (("with-a-bias", True), ("without-a-bias", False)):
        models.register(name, build(bias))
    row = r.Training("digits", "with-a-bias", 3, 50, "adam", 1e-3, validation=200)
    dense, ticket = tickets.imp(row, 0, 1, 0.5)
    bare, wide = (dataclasses.replace(row, model=model) for model in ("without-a-bias", "lenet-20"))
    module.check([r.Run(bare, Initial(0), ticket.mask)])
    for run in (r.Run(bare, dense.end, r.Dense()), r.Run(wide, r.Continued(dense, 1), r.Dense())):
        with pytest.raises(ExecutionError, match="the weights of with-a-bias on digits do not fit"):
            module.check([run])
    for mask in (
        r.Shuffled(ticket.mask, 0),
        Complement(ticket.mask, 0),
        DegreePreserving(r.Shuffled(ticket.mask, 0), 0),
    ):
        with pytest.raises(ExecutionError, match="the mask of with-a-bias on digits does not fit"):
            module.check([r.Run(wide, Initial(0), mask)])


def test_what_trains_is_checked_as_a_training_and_what_looks_at_one_is_not():
    large = training(batch=5000)
    with pytest.raises(ExecutionError, match="a batch of 5000 is larger"):
        module.check([EdgePopup(large, Initial(0), 0.5, 10, 0.1)])
    module.check([AtStart(large, Initial(0), 0.5)])
    module.check([Unlit(dataclasses.replace(training(), precision="tf32"))])  # of a GPU: looked at on a CPU, too


def test_counts_go_through_masks_that_have_those_of_another():
    chain = tickets.imp(training(steps=1), 0, 2, 0.9)
    derived = DegreePreserving(chain[-1].mask, 0)  # keeps one weight of the output layer
    with pytest.raises(ExecutionError, match=r"pruning 90% of the 1 weights"):
        module.check([r.Run(chain[0].training, Initial(0), r.Thinned(derived, 0.9, 0))])


def test_what_a_field_of_a_recipe_holds_is_looked_into():
    @dataclasses.dataclass(frozen=True)
    class Scale:
        by: object

    found = set(planner._kinds({"scales": (Scale([1.5]), tickets.dense(training(), 0))}))
    assert found == {dict, tuple, Scale, list, float}


def cluster(threads, address="tcp://elsewhere:1"):
    """A Dask cluster that says its workers so."""
    pool = workers.Dask(1, address, ({}, {}))
    pool.client, pool.died = types.SimpleNamespace(nthreads=threads), KeyError
    return pool


def gone():
    raise OSError("Timed out")


def test_a_cluster_without_workers_is_waited_for_aloud_and_an_own_one_given_up(monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE", 0.0)
    monkeypatch.setattr(workers, "GONE", 0.0)
    pool = cluster(dict)
    with pytest.warns(workers.NoWorkers, match="at tcp://elsewhere:1 has no worker"):
        pool.watch()
    pool.watch()  # it is said once
    with pytest.raises(workers.PoolGone, match="all workers of the Dask cluster have died"):
        cluster(dict, None).watch()
    monkeypatch.undo()
    cluster(lambda: {"one": 1}, None).watch()


def test_a_scheduler_that_dies_is_no_end_of_time():
    with pytest.raises(workers.PoolGone, match="scheduler at tcp://elsewhere:1 is gone"):
        cluster(gone).watch()
    pool, theirs = cluster(dict), Future()
    theirs.cancel()
    pool.executor = types.SimpleNamespace(submit=lambda *given: theirs)
    pool.registered = pickle.dumps(({}, {}))
    ours = pool.submit(types.SimpleNamespace(recipes=[], recipe=None))
    assert isinstance(ours.exception(), workers.PoolGone)
