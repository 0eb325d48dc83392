"""The graph of a step, on a CPU: a recorder of operations stands in for CUDA's; like it, it repeats no Python code."""

import types

import pytest
import torch
from test_train import ADAM, SGD, assert_close, dataset, one, recipe, start  # beside this file
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lottery.engine import graphs
from lottery.engine.train import train


class Recorder(TorchDispatchMode):
    """Notes every operation with the very tensors that it read and wrote."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, function, kinds, given=(), named=None):
        named = named or {}
        made = function(*given, **named)
        self.operations.append((function, given, named, made))
        return made

    @torch.no_grad()
    def replay(self):
        for function, given, named, made in self.operations:
            again = tree_leaves(function(*given, **named))
            for place, value in zip(tree_leaves(made), again, strict=True):
                if isinstance(place, torch.Tensor) and place is not value and place.data_ptr() != value.data_ptr():
                    place.copy_(value)


class Recording:
    """As `graphs.Capture`; `spoil` is what a replay does beyond the step, `fail` what a capture ends with."""

    def __init__(self, device):
        self.captures, self.replays, self.spoil, self.fail = 0, 0, lambda given: None, None

    def aside(self, step, given):
        step(*given)

    def __call__(self, step, given):
        self.captures += 1
        before = [tensor.detach().clone() for tensor in self.changed()]
        with Recorder() as recorder:
            step(*given)
        with torch.no_grad():  # a capture does not do the step
            graphs._copy(before, self.changed())
        if self.fail:
            raise self.fail

        def replay():
            self.replays += 1
            recorder.replay()
            with torch.enable_grad():
                self.spoil(given)

        return replay

    def changed(self):
        slots = self.owner.optimiser.state.values()
        return [*self.owner.tensors, *(t for held in slots for t in held.values() if isinstance(t, torch.Tensor))]


@pytest.fixture
def recorded(monkeypatch):
    """Makes trainings on the CPU take graphs; the graph of the last one is at `.graph`."""
    found, real = types.SimpleNamespace(graph=None, change=lambda graph: None), graphs.Replayed.__init__

    def remembered(self, *given):
        real(self, *given)
        found.graph = self.capture
        found.graph.owner = self
        found.change(found.graph)

    monkeypatch.setattr(graphs, "Capture", Recording)
    monkeypatch.setattr(graphs.Replayed, "__init__", remembered)
    monkeypatch.setattr(graphs, "worth", lambda device: True)
    return found


@pytest.mark.parametrize("rule", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("together", [1, 2])
@pytest.mark.parametrize("change", [dict(milestones=(20, 40)), dict(warmup=10, augment=True)], ids=["drops", "warmup"])
def test_a_training_by_graph_is_the_training_without(recorded, rule, together, change, monkeypatch):
    training = recipe(rule, **change)
    starts = [start(training, replicate) for replicate in range(together)]
    outcomes = train(training, dataset(training), starts, keep=[20, 40])
    assert (recorded.graph.captures, recorded.graph.replays) == (1, 60 - graphs.WARM)
    monkeypatch.setattr(graphs, "worth", lambda device: False)
    for begun, outcome in zip(starts, outcomes, strict=True):
        assert_close(outcome, one(training, begun, keep=[20, 40]))


@pytest.mark.parametrize("rule", [ADAM, SGD], ids=["adam", "sgd"])
@pytest.mark.parametrize("fault", ["other inputs", "forgets the mask", "cannot be captured"])
def test_a_graph_that_does_something_else_is_not_used(recorded, rule, fault, monkeypatch):
    def change(graph):
        if fault == "cannot be captured":
            graph.fail = RuntimeError("operation not permitted when stream is capturing")
        elif fault == "forgets the mask":
            graph.spoil = lambda given: graph.owner.tensors[0].data[0].add_(1e-2)
        else:
            graph.spoil = lambda given: graph.owner.step(given[0].flip(1) * 0, None)

    recorded.change, training = change, recipe(rule)
    words = "not permitted" if fault == "cannot be captured" else "differs from an ordinary one"
    with pytest.warns(graphs.NotCaptured, match=words):
        outcome = one(training, start(training))
    assert recorded.graph.captures == 1 and recorded.graph.replays == (0 if recorded.graph.fail else 1)
    monkeypatch.setattr(graphs, "worth", lambda device: False)
    assert_close(outcome, one(training, start(training)))


def test_a_capture_that_runs_out_of_memory_says_so_and_is_not_taken_for_one_that_cannot_be(recorded):
    recorded.change = lambda graph: setattr(graph, "fail", torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        one(recipe(), start(recipe()))


def test_networks_with_dropout_take_no_graph(recorded):
    training = recipe(model="conv-2-dropout", steps=8, batch=20)
    one(training, start(training))
    assert recorded.graph is None


def test_what_ends_a_failed_capture_is_still_there():
    """Private, for want of anything public."""
    assert callable(torch._C._cuda_endAllocateToPool)
