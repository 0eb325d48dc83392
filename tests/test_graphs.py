"""The graph of a step, on a CPU with what stands in for CUDA: a capture computes nothing, a replay does the step."""

import contextlib
import types

import pytest
import torch
from test_train import ADAM, SGD, assert_close, dataset, one, recipe, start  # beside this file

from lottery.engine import graphs
from lottery.engine.train import train


class FakeGraph:
    def __init__(self, replay):
        self.replay = replay


@pytest.fixture
def faked(monkeypatch):
    """Makes trainings on the CPU take graphs; what a replay does beyond the step itself is to be put into `spoil`."""
    found = types.SimpleNamespace(owner=None, captures=0, replays=0, spoil=lambda: None, fail=None)
    real = graphs.Replayed.__init__

    def remembered(self, *given):
        real(self, *given)
        found.owner = self

    def replay():
        found.replays += 1
        with torch.enable_grad():
            found.owner.step(*found.owner.given)
            found.spoil()

    @contextlib.contextmanager
    def graph(made, stream):
        found.captures += 1
        owner = found.owner
        slots = [slot for slots in owner.optimiser.state.values() for slot in slots.values() if slot is not None]
        changed = [*owner.tensors, *slots]
        before = [tensor.detach().clone() for tensor in changed]
        yield
        with torch.no_grad():
            graphs._copy(before, changed)
        if found.fail:
            raise found.fail

    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(
        graphs,
        "cuda",
        types.SimpleNamespace(
            Stream=lambda: stream,
            current_stream=lambda: stream,
            stream=lambda given: contextlib.nullcontext(),
            CUDAGraph=lambda: FakeGraph(replay),
            graph=graph,
        ),
    )
    monkeypatch.setattr(graphs.Replayed, "__init__", remembered)
    monkeypatch.setattr(graphs, "worth", lambda device: True)
    return found


@pytest.mark.parametrize("rule", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("change", [dict(milestones=(20, 40)), dict(warmup=10, augment=True)], ids=["drops", "warmup"])
def test_a_training_by_graph_is_the_training_without(faked, rule, together, change, monkeypatch):
    training = recipe(rule, **change)
    starts = [start(training, replicate) for replicate in range(together)]
    outcomes = train(training, dataset(training), starts, keep=[20, 40])
    assert (faked.captures, faked.replays) == (1, 60 - graphs.WARM)
    monkeypatch.setattr(graphs, "worth", lambda device: False)
    for begun, outcome in zip(starts, outcomes, strict=True):
        assert_close(outcome, one(training, begun, keep=[20, 40]))


@pytest.mark.parametrize("rule", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("fault", ["skips its inputs", "forgets the mask", "cannot be captured"])
def test_a_graph_that_does_something_else_is_not_used(faked, rule, fault, monkeypatch):
    training = recipe(rule)
    if fault == "cannot be captured":
        faked.fail = RuntimeError("operation not permitted when stream is capturing")
    elif fault == "forgets the mask":

        def spoil():
            with torch.no_grad():
                faked.owner.tensors[0][0] += 1e-2

        faked.spoil = spoil
    else:
        monkeypatch.setattr(graphs.Replayed, "_give", lambda self, given: None)
        faked.spoil = lambda: faked.owner.step(*(None if t is None else t.flip(0) * 0 for t in faked.owner.given))
    words = "not permitted" if faked.fail else "differs from an ordinary one"
    with pytest.warns(graphs.NotCaptured, match=words):
        outcome = one(training, start(training))
    assert faked.captures == 1 and faked.replays == (0 if faked.fail else 1)
    monkeypatch.setattr(graphs, "worth", lambda device: False)
    assert_close(outcome, one(training, start(training)))


def test_networks_with_dropout_take_no_graph(faked):
    training = recipe(model="conv-2-dropout", steps=8, batch=20)
    one(training, start(training))
    assert faked.owner is None
