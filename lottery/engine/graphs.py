"""A training step on a GPU as a CUDA graph: hundreds of small kernels behind one launch.

A step of a small network takes a GPU less time than Python takes to ask for it. A graph records the kernels of one step
and launches them all together from then on. It is believed only after its first step agrees with an ordinary one from
the same state; otherwise, and where nothing can be captured, training goes on step by step, with a warning.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import cuda

WARM = 5  # ordinary steps before the capture, in which libraries set themselves up and the optimiser makes its tensors


class NotCaptured(UserWarning):
    """A training on a GPU goes on without a CUDA graph, slower and otherwise the same."""


def worth(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


class Replayed:
    """A step that becomes a graph after some calls.

    Args:
        step: a function of tensors, always of the same shapes, that changes others in place and never waits for the
            device. Python code in it, the choice of a learning rate for one, is recorded with the values of one call.
        optimiser: which `step` advances.
        tensors: what `step` changes beside the optimiser's own tensors.
    """

    def __init__(self, step: Callable[..., None], optimiser: torch.optim.Optimizer, tensors: Sequence[torch.Tensor]):
        self.step, self.optimiser, self.tensors = step, optimiser, tensors
        self.calls, self.graph, self.given = 0, None, ()
        self.stream = cuda.Stream()

    def __call__(self, *given: torch.Tensor | None) -> None:
        if self.graph is not None:
            self._give(given)
            self.graph.replay()
            return
        self.calls += 1
        if self.calls == WARM + 1:
            self._capture(given)
        elif self.calls <= WARM:
            self._aside(given)
        else:
            self.step(*given)

    def _give(self, given) -> None:
        for place, tensor in zip(self.given, given, strict=True):
            if tensor is not None:
                place.copy_(tensor, non_blocking=True)

    def _aside(self, given) -> None:
        """An ordinary step on the stream that captures."""
        self.stream.wait_stream(cuda.current_stream())
        with cuda.stream(self.stream):
            self.step(*given)
        cuda.current_stream().wait_stream(self.stream)

    @torch.no_grad()
    def _capture(self, given) -> None:
        """One step, done in the ordinary way and, from the same state, as a graph; the graph stays if both agree."""
        slots = [t for slots in self.optimiser.state.values() for t in slots.values() if isinstance(t, torch.Tensor)]
        changed = [*self.tensors, *slots]
        before = [tensor.clone() for tensor in changed]
        with torch.enable_grad():
            self._aside(given)
        wanted = [tensor.clone() for tensor in changed]
        _copy(before, changed)
        graph, why = cuda.CUDAGraph(), "its first step differs from an ordinary one"
        try:
            self.given = tuple(None if tensor is None else tensor.clone() for tensor in given)
            for group in self.optimiser.param_groups:
                group["capturable"] = True
            with torch.enable_grad(), cuda.graph(graph, stream=self.stream):
                self.step(*self.given)
            graph.replay()
            if all(map(_agree, changed, wanted, before)):
                self.graph = graph
                return
        except RuntimeError as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            for group in self.optimiser.param_groups:
                group["capturable"] = False
        self.given = ()
        _copy(wanted, changed)
        warnings.warn(f"training goes on without a CUDA graph: {why}", NotCaptured, stacklevel=3)


def _copy(values: Sequence[torch.Tensor], places: Sequence[torch.Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


def _agree(got: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether a tensor changed as it should, but for the rounding of sums in another order."""
    if not wanted.is_floating_point():
        return torch.equal(got, wanted)
    off, moved = (got - wanted).norm(), (wanted - before).norm()
    return bool(off <= 0.05 * moved + 1e-5 * wanted.norm())
