"""A training step on a GPU as a CUDA graph: hundreds of small kernels behind one launch.

A step of a small network takes a GPU less time than Python takes to ask for it. A graph records the kernels of one step
and launches them all together from then on. It is believed only after its first step agrees with an ordinary one from
the same state; otherwise, and where nothing can be captured, training goes on step by step, with a warning.
"""

import contextlib
import functools
import gc
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import cuda

from .errors import Slower

WARM = 5  # ordinary steps before the capture, in which libraries set themselves up and the optimiser makes its tensors

Step = Callable[..., None]


class NotCaptured(Slower):
    """A training on a GPU goes on without a CUDA graph, slower and otherwise the same."""


def worth(device: torch.device) -> bool:
    """Whether steps on this device can be captured."""
    return device.type == "cuda"


class Stepwise:
    """A step with the learning rate of its turn.

    Args:
        step: the step itself, a function of tensors.
        optimiser: which it advances.
    """

    def __init__(self, step: Step, optimiser: torch.optim.Optimizer):
        self.step, self.optimiser = step, optimiser

    def __call__(self, rate: float, *given: torch.Tensor | None) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.step(*given)


class Replayed:
    """A step that becomes a graph after some calls.

    Args:
        step: a function of tensors, always of the same shapes, that changes others in place and never waits for the
            device. Python code in it is recorded with the values of one call, so the learning rate is a tensor.
        optimiser: which `step` advances.
        tensors: what `step` changes beside the optimiser's own tensors.
        device: where all of this lies.
    """

    def __init__(
        self, step: Step, optimiser: torch.optim.Optimizer, tensors: Sequence[torch.Tensor], device: torch.device
    ):
        self.step, self.optimiser, self.tensors = step, optimiser, tensors
        self.calls, self.replay, self.given = 0, None, ()
        self.capture = Capture(device)
        self.rate = torch.zeros((), device=device)
        for group in optimiser.param_groups:
            group["lr"] = self.rate

    def __call__(self, rate: float, *given: torch.Tensor | None) -> None:
        self.rate.fill_(rate)
        if self.replay is not None:
            for place, tensor in zip(self.given, given, strict=True):
                if place is not None and tensor is not None:
                    place.copy_(tensor, non_blocking=True)
            self.replay()
            return
        self.calls += 1
        if self.calls == WARM + 1:
            self._begin(given)
        elif self.calls <= WARM:
            self.capture.aside(self.step, given)
        else:
            self.step(*given)

    @torch.no_grad()
    def _begin(self, given) -> None:
        """One step, done in the ordinary way and, from the same state, as a graph; the graph stays if both agree.

        The two states are kept in the host's memory: the device's is what decides how many networks fit.
        """
        slots = [t for slots in self.optimiser.state.values() for t in slots.values() if isinstance(t, torch.Tensor)]
        changed = [*self.tensors, *slots]
        before = [tensor.cpu().clone() for tensor in changed]
        with torch.enable_grad():
            self.capture.aside(self.step, given)
        wanted = [tensor.cpu().clone() for tensor in changed]
        _copy(before, changed)
        self.optimiser.zero_grad(set_to_none=True)  # the graph has gradients of its own
        self.given = tuple(None if tensor is None else tensor.clone() for tensor in given)
        why = "its first step differs from an ordinary one"
        for group in self.optimiser.param_groups:
            group["capturable"] = True
        try:
            with torch.enable_grad():
                replay = self.capture(self.step, self.given)
            replay()
            if all(map(_agree, changed, wanted, before)):
                self.replay = replay
                return
        except torch.OutOfMemoryError:
            raise  # fewer networks at a time is the remedy, not another way
        except RuntimeError as error:
            why = f"{type(error).__name__}: {error}"
        finally:
            for group in self.optimiser.param_groups:
                group["capturable"] = False
        self.given = ()
        self.optimiser.zero_grad(set_to_none=True)
        _copy(wanted, changed)
        warnings.warn(f"training goes on without a CUDA graph: {why}", NotCaptured, stacklevel=3)


class Capture:
    """What CUDA does for `Replayed`, on a stream beside the device's own.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device):
        self.device, self.stream = device, _stream(device)

    def aside(self, step: Step, given) -> None:
        """An ordinary step on the stream that captures."""
        self.stream.wait_stream(cuda.current_stream(self.device))
        with cuda.stream(self.stream):
            step(*given)
        cuda.current_stream(self.device).wait_stream(self.stream)

    def __call__(self, step: Step, given) -> Callable[[], None]:
        """Records a step, without doing it, as a function that does it on these very tensors.

        Raises:
            RuntimeError: if it cannot be captured; the device then goes on as before.
        """
        graph, pool = cuda.CUDAGraph(), cuda.graph_pool_handle()
        cuda.synchronize(self.device)
        gc.collect()
        cuda.empty_cache()  # what steps took is no use to a graph, which has its own memory
        with cuda.stream(self.stream):
            graph.capture_begin(pool=pool)
            try:
                step(*given)
            except BaseException:
                with contextlib.suppress(RuntimeError):  # what went wrong first is what counts
                    self._end(graph, pool)
                raise
            self._end(graph, pool)
        return graph.replay

    def _end(self, graph, pool) -> None:
        """Ends a capture.

        `capture_end` raises for an invalid capture before it gives the allocator back, so that later tensors would go
        on into the graph's memory; PyTorch has no public way to end that (test_gpu.py notices if this one changes).
        """
        try:
            graph.capture_end()
        except RuntimeError:
            torch._C._cuda_endAllocateToPool(self.device.index or 0, pool)
            raise


@functools.cache
def _stream(device: torch.device) -> cuda.Stream:
    """One for all captures: libraries keep some 64 MiB for every stream that they have worked on."""
    return cuda.Stream(device)


def _copy(values: Sequence[torch.Tensor], places: Sequence[torch.Tensor]) -> None:
    for place, value in zip(places, values, strict=True):
        place.copy_(value)


def _agree(got: torch.Tensor, wanted: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether a tensor changed as it should, but for the rounding of sums in another order."""
    got = got.cpu()
    if not wanted.is_floating_point():
        return torch.equal(got, wanted)
    off, moved = (got - wanted).norm(), (wanted - before).norm()
    return bool(off <= 0.05 * moved + 1e-5 * wanted.norm())
