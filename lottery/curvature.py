"""The curvature of the training loss at a solution, and how much of the solution may be pruned at once.

States, masks and data are those of `lottery.landscape`. The coordinates are the surviving weights alone, the loss is
that of the training set in evaluation mode without augmentation. Lanczos is our own because a whole study needs its
three uses (extreme eigenvalues, quadrature, early stopping at a loose tolerance) on tensors of any device; it is tested
against a dense eigendecomposition.
"""

import contextlib
import functools
import itertools
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
import torch
from pydantic import Field
from scipy.linalg import eigh_tridiagonal
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from . import masks, models, recipes, seeds
from .data import Pair
from .landscape import LandscapeError, check_finite, scene
from .masks import Mask
from .models import FewerAtOnce, State, out_of_memory
from .recipes import Recipe, Result, Run, Weights, World, first, frozen, on_device, trained

TRIES = 3  # directions in which products are compared, until one agrees: kinks may lie in the way


@contextlib.contextmanager
def twice_differentiable(module: nn.Module):
    """Attention and recurrent layers computed by those of their kernels that can be differentiated twice."""
    recurrent = any(isinstance(layer, nn.RNNBase) for layer in module.modules())
    places = (torch.backends.mkldnn, torch.backends.cudnn) if recurrent else ()
    before = [place.enabled for place in places]
    try:
        for place in places:
            place.enabled = False  # pyright: ignore[reportAttributeAccessIssue]  # torch sets it on import
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        for place, enabled in zip(places, before, strict=True):
            place.enabled = enabled  # pyright: ignore[reportAttributeAccessIssue]


def _normed(dim: int, lengths: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Weight norm, in operations of which each can be differentiated twice."""
    return directions * (lengths / torch.norm_except_dim(directions, 2, dim))


def _named(module: nn.Module, names) -> dict[str, nn.Parameter]:
    """The parameters of these names, each once, whatever their layers call them: a shared weight is one weight.

    Raises:
        LandscapeError: if a name is not that of a parameter.
    """
    known, found = dict(module.named_parameters(remove_duplicate=False)), {}
    for name in names:
        if name not in known:
            raise LandscapeError(f"the mask has {name}, which is no parameter of this network")
        if not any(known[name] is parameter for parameter in found.values()):
            found[name] = known[name]
    return found


class Hessian:
    """The Hessian of the training loss in the surviving weights, as products with compact vectors.

    Only weights that the mask keeps are coordinates, so pruned ones add no eigenvalue 0; biases and normalisation
    parameters are held fixed; the module is in evaluation mode. A weight that layers share is one coordinate, frozen
    weights are coordinates like others, and weights that the outputs do not depend on have no curvature.

    Where memory does not suffice for `chunk` examples, they are halved until it does, with one warning.

    Args:
        module: the architecture.
        state: where the Hessian is taken; in float64 all is computed in float64.
        mask: the coordinates.
        data: inputs and labels, without augmentation.
        chunk: examples whose gradient is differentiated together.
        keep: keep each chunk's gradient graph for all products: faster, and memory linear in the data. Without it a
            graph is built at each product and memory is linear in the chunk. None: if half of what is free holds them.

    Attributes:
        size: the number of coordinates.
        loss: the training loss at the state.

    Raises:
        LandscapeError: if the state is not finite (a diverged run), or one example is too many for the memory.
    """

    def __init__(
        self, module: nn.Module, state: State, mask: Mask, data: Pair, chunk: int = 1000, keep: bool | None = True
    ):
        check_finite(state, module)
        reference = state[next(iter(mask))]
        self.module = models.own_copy(module).to(reference.device)
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.is_floating_point():  # Module.to would make complex ones real
                tensor.data = tensor.data.to(reference.dtype)
            elif tensor.is_complex():
                tensor.data = tensor.data.to(reference.dtype.to_complex())
        models.load(self.module, state)
        models.still(self.module)
        for layer in self.module.modules():
            if isinstance(layer, nn.utils.parametrizations._WeightNorm):  # torch's own has another second derivative
                layer.forward = functools.partial(_normed, layer.dim)  # pyright: ignore[reportAttributeAccessIssue]  # other names
        self.module.requires_grad_(False)
        parameters = _named(self.module, mask)
        self.weights = [parameter.requires_grad_() for parameter in parameters.values()]
        self.names, self.kept = list(parameters), [mask[name].to(reference.device) for name in parameters]
        self.counts = [int(kept.sum()) for kept in self.kept]
        self.size, self.device, self.dtype = sum(self.counts), reference.device, reference.dtype
        inputs, labels = data
        self.inputs, self.labels = inputs.to(self.dtype) if inputs.is_floating_point() else inputs, labels
        self.examples, self.chunk = len(labels), min(chunk, len(labels))
        self.graphs, self.halved = None, False
        if not keep:
            need, free = self._try(self._bytes), free_memory(self.device) / 2
            keep = keep is None and need * self.examples <= free
            while not keep and self.chunk > 1 and need * self.chunk > free:
                self._halve()
        if keep:
            graphs = self._try(lambda: [self._graph(*part) for part in self.chunks])
            self.graphs = [gradients for gradients, _ in graphs]
            self.loss = sum(loss for _, loss in graphs)
        else:
            with torch.no_grad():
                self.loss = self._try(lambda: sum(self._loss(*part).item() for part in self.chunks))

    @property
    def chunks(self) -> list[Pair]:
        return list(zip(self.inputs.split(self.chunk), self.labels.split(self.chunk), strict=True))

    def _bytes(self) -> int:
        """What the gradient graph of one example takes of memory: twice what it keeps, for what comes and goes; 0 where
        that is not known."""
        kept: dict[int, int] = {}

        def count(tensor):
            if tensor.layout == torch.strided and tensor.data_ptr() not in own:
                kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        own = {tensor.data_ptr() for tensor in (*self.module.parameters(), *self.module.buffers())}
        two = min(2, self.examples)
        try:
            with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
                self._graph(self.inputs[:two], self.labels[:two])
        except RuntimeError as error:  # torch.func takes no such hooks
            if out_of_memory(error):
                raise
        return 2 * sum(kept.values()) // two

    def _halve(self) -> None:
        if self.chunk == 1:
            raise LandscapeError(
                "the Hessian does not fit into memory with one example at a time (`chunk`): free some memory, or take "
                "a smaller network"
            )
        if not self.halved:
            warnings.warn(
                f"the Hessian does not fit into memory with {self.chunk} examples at once: it goes on with fewer",
                FewerAtOnce,
                stacklevel=2,
            )
        self.halved, self.graphs, self.chunk = True, None, (self.chunk + 1) // 2

    def _try(self, work: Callable):
        """What the work gives, in chunks that fit into memory."""
        while True:
            try:
                return work()
            except (MemoryError, RuntimeError) as error:  # of which torch.OutOfMemoryError is one
                if not out_of_memory(error):
                    raise
            # Outside of the clause, for the error holds the frames, and these the tensors.
            self._halve()

    def _loss(self, inputs, labels):
        with twice_differentiable(self.module):
            return cross_entropy(self.module(inputs), labels, reduction="sum") / self.examples

    def _graph(self, inputs, labels):
        loss = self._loss(inputs, labels)
        if not loss.requires_grad:  # the outputs depend on none of the weights
            return [torch.zeros_like(weight) for weight in self.weights], loss.item()
        return torch.autograd.grad(loss, self.weights, create_graph=True, materialize_grads=True), loss.item()

    def compact(self, direction: State) -> torch.Tensor:
        """A direction's surviving coordinates as one vector; tensors that it lacks count as zero."""
        parts = [
            direction[name].to(self.device, self.dtype)[kept]
            if name in direction
            else torch.zeros(count, dtype=self.dtype, device=self.device)
            for name, kept, count in zip(self.names, self.kept, self.counts, strict=True)
        ]
        return torch.cat(parts)

    def expand(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """A compact vector as tensors of the weights' shapes, zero where masked."""
        parts = vector.to(self.device, self.dtype).split(self.counts)
        return [
            torch.zeros(kept.shape, dtype=self.dtype, device=self.device).masked_scatter_(kept, part)
            for kept, part in zip(self.kept, parts, strict=True)
        ]

    def gradient(self) -> torch.Tensor:
        """The gradient of the training loss, compact."""
        total = self.weights[0].new_zeros(())
        for part in self.graphs or (self._graph(*chunk)[0] for chunk in self.chunks):
            total = total + torch.cat([g.detach()[kept] for g, kept in zip(part, self.kept, strict=True)])
        return total

    def __call__(self, vector: torch.Tensor) -> torch.Tensor:
        """The product with a compact vector [size]."""
        return self._try(lambda: self._product(vector))

    def _product(self, vector: torch.Tensor) -> torch.Tensor:
        outputs, sums = self.expand(vector), [torch.zeros_like(weight) for weight in self.weights]
        for place, chunk in enumerate(self.chunks):
            gradients = self.graphs[place] if self.graphs else self._graph(*chunk)[0]
            through = [(g, v) for g, v in zip(gradients, outputs, strict=True) if g.requires_grad]
            if not through:  # a loss that is linear in the weights
                continue
            products = torch.autograd.grad(
                [g for g, _ in through],
                self.weights,
                [v for _, v in through],
                retain_graph=self.graphs is not None,
                materialize_grads=True,
            )
            sums = products if place == 0 else [s + p for s, p in zip(sums, products, strict=True)]
        return torch.cat([part[kept] for part, kept in zip(sums, self.kept, strict=True)])


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device: of a processor's memory what the system, a container and the shell leave."""
    if device.type == "cuda":
        return (
            torch.cuda.mem_get_info(device)[0]
            + torch.cuda.memory_reserved(device)
            - torch.cuda.memory_allocated(device)
        )
    limits = []
    with contextlib.suppress(OSError, ValueError):
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        limits.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # not on every system

        soft = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        if soft != resource.RLIM_INFINITY:
            limits.append(soft - pages * resource.getpagesize())
    return max(0, min(limits, default=4 * 2**30))


def lanczos(product: Callable, start: torch.Tensor, steps: int, stop: Callable | None = None):
    """Lanczos tridiagonalisation with full re-orthogonalisation (twice is enough).

    Args:
        product: a symmetric matrix, as the function that multiplies it with a vector.
        start: the first vector, of any length but 0.
        steps: how many; fewer are done if the space is exhausted.
        stop: called with the diagonals after each step; ends the iteration by returning True.

    Raises:
        LandscapeError: if a product is not finite.

    Returns:
        The diagonal [m], the off-diagonal [m] (its last entry leads out of the space; 0 if exhausted), both float64
        arrays, and the orthonormal basis [m, n].
    """
    steps = min(steps, len(start))
    basis = start.new_empty(0, len(start))
    diagonal, off, vector = [], [], start / start.norm()
    exhausted = 50 * torch.finfo(start.dtype).eps
    for step in range(steps):
        if step == len(basis):  # it grows, since the iteration often ends long before `steps`
            basis = _grown(basis, min(steps, max(16, 2 * step)))
        basis[step] = vector
        image = product(vector)
        diagonal.append(float(image.double() @ vector.double()))
        known = basis[: step + 1]
        for _ in range(2):
            image = image - known.T @ (known @ image)
        off.append(float(image.norm()))
        if not math.isfinite(off[-1]):
            raise LandscapeError(f"product {step + 1} of Lanczos is not finite: the matrix has no eigenvalues")
        if off[-1] <= exhausted * max(map(abs, diagonal + off)) or step + 1 == len(start):
            off[-1] = 0.0
        if not off[-1] or (stop and stop(np.array(diagonal), np.array(off))):
            break
        vector = image / off[-1]
    return np.array(diagonal), np.array(off), basis[: len(diagonal)]


def _grown(basis: torch.Tensor, rows: int) -> torch.Tensor:
    try:
        larger = basis.new_empty(rows, basis.shape[1])
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        gigabytes = rows * basis.shape[1] * basis.element_size() / 1e9
        raise LandscapeError(
            f"{rows} vectors of Lanczos take {gigabytes:.1f} GB, which is not free: take fewer `steps`"
        ) from None
    larger[: len(basis)] = basis
    return larger


def _ritz(diagonal: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues, ascending, and eigenvectors of the tridiagonal matrix."""
    return cast(tuple[np.ndarray, np.ndarray], eigh_tridiagonal(diagonal, off[:-1]))


def top_eigenvalues(
    product: Callable, start: torch.Tensor, k: int = 10, tolerance: float = 1e-3, steps: int = 300
) -> tuple[np.ndarray, torch.Tensor]:
    """The k largest eigenvalues, descending, and their eigenvectors [k, n].

    From one start vector a multiple eigenvalue is found once. Small residuals say that these are eigenvalues, not that
    no larger one is missing: of two close ones the second comes late. So half as many steps again are made, until
    the k have stayed as they were; where `steps` or the space leave no room for it, they are taken as they are.

    Args:
        product, start, steps: as of `lanczos`.
        k: how many (fewer if the space is smaller).
        tolerance: of each eigenvalue's residual, relative to the largest, and of what may change.

    Raises:
        LandscapeError: if they have not converged after `steps`.
    """
    converged: list[tuple[np.ndarray, np.ndarray]] = []  # the tridiagonal matrix when the k had converged first

    def residual(diagonal, off):
        values, vectors = _ritz(diagonal, off)
        return np.abs(off[-1] * vectors[-1, -k:]).max() / max(np.abs(values).max(), 1e-300)

    def moved(diagonal, off):
        now, before = (_ritz(*matrix)[0][::-1][:k] for matrix in ((diagonal, off), converged[0]))
        return np.abs(now - before).max() > tolerance * np.abs(now).max()

    def stop(diagonal, off):
        made = len(diagonal)
        if made < k + 5 or made % 5 or residual(diagonal, off) >= tolerance:
            return False
        if not converged or moved(diagonal, off):
            converged[:] = [(diagonal, off)]
        return made >= 1.5 * len(converged[0][0])

    diagonal, off, basis = lanczos(product, start, steps, stop)
    if residual(diagonal, off) >= tolerance:
        raise LandscapeError(f"the {k} largest eigenvalues have not converged after {len(diagonal)} steps of Lanczos")
    if converged and not moved(diagonal, off):
        diagonal, off = converged[0]
    values, vectors = _ritz(diagonal, off)
    top = torch.from_numpy(vectors[:, ::-1][:, :k].copy()).to(basis)
    return values[::-1][:k].copy(), top.T @ basis[: len(diagonal)]


def spectral_measure(product: Callable, starts: torch.Tensor, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Stochastic Lanczos quadrature: the spectrum as seen from each start vector.

    For a unit vector v, Σ w f(node) = vᵀ f(H) v exactly for every polynomial f of degree below 2·steps (Golub & Meurant
    2010, Theorem 6.2); averaged over random v it estimates tr f(H) / n (Ghorbani et al. 2019).

    Args:
        product: as of `lanczos`.
        starts: probe vectors [P, n].
        steps: of Lanczos.

    Returns:
        Nodes and weights, [P, steps] each; the weights of a probe sum to 1 (padded with weight 0).
    """
    nodes, weights = np.zeros((2, len(starts), steps))
    for row, start in enumerate(starts):
        values, vectors = _ritz(*lanczos(product, start, steps)[:2])
        nodes[row, : len(values)], weights[row, : len(values)] = values, vectors[0] ** 2
    return nodes, weights


def curvature(product: Callable, direction: torch.Tensor) -> float:
    """uᵀHu for the unit vector u along the direction.

    Raises:
        LandscapeError: if it has no length.
    """
    if not direction.norm() > 0:
        raise LandscapeError(
            "a direction of length 0 has no curvature: both ends are the same in the surviving weights"
        )
    unit = direction / direction.norm()
    return float(unit.double() @ product(unit).double())


# How much can be pruned at once.


def largest(holds: Callable[[int], bool], upper: int) -> int:
    """The largest whole number from 0 to `upper` for which a property holds that is lost once and for all (bisection).

    It is taken to hold at 0.
    """
    low, high = 0, upper + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def free_directions(nodes: np.ndarray, weights: np.ndarray, size: int, squared: float, epsilon: float) -> float:
    """Σ r²/(R² + r²) over a spectrum of `size` eigenvalues, with r² = 2ε/h; `squared` is R², h ≤ 0 counts as 1."""
    curved = np.clip(nodes, 0, None) * squared
    return float(size * (weights * (2 * epsilon / (2 * epsilon + curved))).sum() / weights.sum())


def predicted_ratio(
    nodes: np.ndarray,
    weights: np.ndarray,
    squares: np.ndarray,
    epsilon: float,
    order: str = "magnitude",
    law: str = "exact",
) -> float:
    r"""The largest ratio of the survivors that can go at once, from the spectrum of the Hessian.

    At a minimum w of the loss with Hessian eigenvalues :math:`h_i`, the states whose loss is at most ε higher form an
    ellipsoid with semi-axes :math:`r_i = \sqrt{2 \epsilon / h_i}`, since :math:`h_i r_i^2 / 2 = \epsilon`. Pruning α of
    the D survivors leaves an affine subspace of codimension :math:`\alpha D`, whose point nearest to w is the pruned w,
    at the distance R with :math:`R^2` the sum of the squares of the pruned weights. Does it meet the ellipsoid?

    *Law "width"* (Larsen et al. 2022 and, as recalled, Paul et al. 2023). Gordon's theorem ("escape through a mesh"): a
    random linear subspace through a point meets a set with high probability iff its codimension is below the squared
    Gaussian width of the set projected onto the unit sphere about that point. From the distance R, a semi-axis is seen
    under an angle of sine :math:`r_i / \sqrt{R^2 + r_i^2}`; the squared width is nearly the sum of their squares:

    .. math:: \alpha D = \sum_i \frac{r_i^2}{R(\alpha)^2 + r_i^2} .

    The theorem wants the point chosen before the subspace. The pruned w is not: it is the *nearest* point, so for it
    this is too generous at small α.

    *Law "exact"* (our derivation). With A the αD orthonormal rows that are pruned and b = Aw, the lowest loss inside
    the subspace is :math:`\tfrac{1}{2} b^\top (A H^{-1} A^\top)^{-1} b`. If the rows are random relative to the
    eigenvectors, it tends to :math:`\tfrac{1}{2} R^2 s` with s the mean eigenvalue of :math:`(A H^{-1} A^\top)^{-1}`.
    Free compression of :math:`H^{-1}` by the ratio α gives s: with :math:`t = (1 - \alpha) / (\alpha s)` it solves
    :math:`\alpha D = \sum_i 1 / (1 + t h_i)`. At the threshold :math:`s = 2 \epsilon / R^2`, hence

    .. math:: \alpha D = \sum_i \frac{r_i^2}{R(\alpha)^2 (1 - \alpha) / \alpha + r_i^2} .

    For random pruning :math:`R^2 (1 - \alpha) / \alpha = (1 - \alpha) \lVert w \rVert^2`, and this is the first law
    with the origin, which every subspace of weights contains, as the point, sharpened by the factor 1 − α. Directions
    that are flat or curve down have an infinite semi-axis and count as 1: no cap is needed.

    Args:
        nodes, weights: the spectrum; all eigenvalues with equal weights, or what `spectral_measure` gives.
        squares: squares of the D surviving weights.
        epsilon: ε, in nats.
        order: which go first, "magnitude" (:math:`R^2` is the sum of the k smallest squares) or "random" (k/D of the
            sum of all).
        law: "exact" or "width".

    Returns:
        α in [0, 1], a multiple of 1/D: where the equation's two sides cross (by bisection; with law "exact" and order
        "magnitude" there could be more crossings than one).
    """
    size = len(squares)
    if order not in ("magnitude", "random") or law not in ("exact", "width"):
        raise LandscapeError(
            f"order must be 'magnitude' or 'random' and law 'exact' or 'width', not {order!r} and {law!r}"
        )
    ordered = np.sort(np.asarray(squares, dtype=float)) if order == "magnitude" else np.full(size, np.mean(squares))
    length = np.concatenate([[0.0], np.cumsum(ordered)])

    def meets(k: int) -> bool:
        squared = length[k] * ((size - k) / k if law == "exact" else 1)
        return k <= free_directions(nodes, weights, size, squared, epsilon)

    return largest(meets, size) / size


def lowest_loss(
    module: nn.Module,
    state: State,
    mask: Mask,
    data: Pair,
    target: float,
    steps: int = 0,
    lr: float = 1e-3,
    chunk: int = 1000,
) -> tuple[float, State]:
    """The lowest loss that full-batch Adam finds inside a mask's subspace, from the projection of the state onto it.

    Evaluation mode, and only the mask's weights move: the function whose Hessian `Hessian` is.

    Args:
        module, state, mask, data: as of `Hessian`.
        target: the search ends where the loss is no higher.
        steps: of Adam at most; 0 gives the loss right after pruning.
        lr: Adam's learning rate.
        chunk: examples at a time, or fewer where memory ends.

    Returns:
        The loss and where it is found.
    """
    return models.fitting(functools.partial(_lowest_loss, module, state, mask, data, target, steps, lr), chunk)


def _lowest_loss(
    module: nn.Module, state: State, mask: Mask, data: Pair, target: float, steps: int, lr: float, chunk: int
) -> tuple[float, State]:
    module = models.own_copy(module)
    models.load(module, masks.apply(state, mask))
    models.still(module).requires_grad_(False)
    parameters = _named(module, mask)
    weights = [parameter.requires_grad_() for parameter in parameters.values()]
    optimiser = torch.optim.Adam(weights, lr)
    chunks = list(zip(*(part.split(chunk) for part in data), strict=True))
    best, at = math.inf, state
    for step in range(steps + 1):
        optimiser.zero_grad()
        total = 0.0
        for x, y in chunks:
            with twice_differentiable(module):  # as in `Hessian`; recurrent layers of cuDNN refuse evaluation mode
                loss = cross_entropy(module(x), y, reduction="sum") / len(data[1])
                if step < steps and loss.requires_grad:
                    loss.backward()
            total += loss.item()
        if total < best:
            best, at = total, {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
        if best <= target or step == steps:
            break
        for name, weight in parameters.items():
            if weight.grad is not None:  # else the outputs do not depend on it
                weight.grad *= mask[name]
        optimiser.step()
    return best, at


def measured_ratio(
    module: nn.Module,
    state: State,
    mask: Mask,
    scores: State,
    data: Pair,
    epsilon: float,
    *,
    steps: int = 0,
    lr: float = 1e-3,
    chunk: int = 1000,
    resolution: int = 100,
) -> float:
    """The largest ratio of the survivors that can go with the loss at most ε above the state's, by bisection.

    Args:
        module, state, mask, data, steps, lr, chunk: as of `lowest_loss`; without steps it is the largest ratio that
            needs no retraining, the rule of an adaptive schedule.
        scores: the lowest go first, over all layers; a ratio that would empty a layer is too large.
        epsilon: ε, in nats.
        resolution: ratios are multiples of 1/resolution.
    """
    check_finite(state, module)
    target = lowest_loss(module, state, mask, data, math.inf, chunk=chunk)[0] + epsilon
    if not math.isfinite(target):
        raise LandscapeError("the training loss of this network is not finite, so no ratio can be measured")

    def inside(k: int) -> bool:
        try:
            pruned = masks.prune(mask, scores, dict.fromkeys(mask, k / resolution), "global")
        except masks.MaskError:
            return False
        return lowest_loss(module, state, pruned, data, target, steps, lr, chunk)[0] <= target

    return largest(inside, resolution - 1) / resolution


# The recipes that name these measurements.


@frozen
class Adaptive(recipes.Mask):
    """A run's mask after the largest round of global pruning that needs no retraining.

    Attributes:
        run: the trained run.
        epsilon: by how much the training loss may rise, in nats.
        examples: training examples that it is measured on; 0: all.
    """

    stored: ClassVar[bool] = True

    run: Run
    epsilon: recipes.Positive
    examples: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        return [*self.run.end.reads(), *self.run.mask.needed()]

    def check(self, world: World, training=None) -> None:
        super().check(world, training)
        recipes.rehearse("the loss of a pruned copy", world, self.run.training, _searched)

    def compute(self, world: World) -> Result:
        module, dataset = scene(world, self.run.training)
        state, mask = trained(world, self.run, world.device)
        scores = masks.magnitude_scores(state, mask)
        ratio = measured_ratio(module, state, mask, scores, first(dataset.train, self.examples), self.epsilon)
        values, arrays = masks.to_record(masks.prune(mask, scores, dict.fromkeys(mask, ratio), "global"))
        return values | {"ratio": ratio}, arrays


def _searched(module: nn.Module, state: State, examples: Pair) -> None:
    check_finite(state, module)
    recipes.check_still(module, state, examples)
    lowest_loss(module, state, masks.dense(state, models.prunable(module)), examples, 0.0, 1)


def _rehearsed(module: nn.Module, state: State, examples: Pair) -> None:
    """A product with the Hessian is a difference of gradients; in float64, if the network computes in it, else in
    float32, where rounding and kinks allow to tell less.

    PyTorch says nothing where an operation has a gradient and no second derivative (`once_differentiable`).
    """
    recipes.check_still(module, state, examples)
    mask = masks.dense(state, models.prunable(module))
    there, lengths, close = Hessian(module, state, mask, examples), (1e-3, 3e-4, 1e-4), 0.1
    there(torch.ones(there.size))
    double = {name: t.double() if t.is_floating_point() else t for name, t in state.items()}
    with contextlib.suppress(RuntimeError):
        there, state, lengths, close = Hessian(module, double, mask, examples), double, (1e-5,), 1e-2

    def agrees(seed: int, length: float) -> bool:
        direction = torch.randn(there.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = dict(zip(there.names, there.expand(length * direction / direction.norm()), strict=True))
        gradients = []
        for sign in (1, -1):
            at = {name: tensor + sign * step[name] if name in step else tensor for name, tensor in state.items()}
            gradients.append(Hessian(module, at, mask, examples).gradient())
        unit = direction.norm() / (2 * length)
        wanted = (gradients[0] - gradients[1]) * unit
        rounding = 4 * torch.finfo(wanted.dtype).eps * float(gradients[0].abs().max() * unit)
        return torch.allclose(there(direction), wanted, close, close * float(wanted.abs().max()) + rounding)

    if not any(itertools.starmap(agrees, itertools.product(range(TRIES), lengths))):
        raise LandscapeError(
            "products with the Hessian are not what gradients change by: some operation of this network has no right "
            "second derivative; take one that PyTorch differentiates twice"
        )


LONG = 300  # steps of Lanczos after which the largest eigenvalues need no search of their own


@frozen
class Spectrum(Recipe):
    """The Hessian's spectrum in a run's surviving weights, the ratio it predicts, curvatures along directions.

    Attributes:
        run: its final weights are where the Hessian is taken, within its mask.
        steps, probes: of stochastic Lanczos quadrature. A predicted ratio hangs on the spectrum near 0, where half of
            its weight lies: 80 steps do not resolve it, 500 do.
        top: largest eigenvalues wanted.
        epsilons: rises of the training loss, in nats, for which the largest prunable ratio is predicted.
        towards: the curvature is measured along the lines from the run's final weights to these.
        examples: training examples used, the first ones; 0: all.
        chunk: examples differentiated together, at most: where memory does not hold them, fewer. The gradient graphs of
            several chunks are not kept.
    """

    stored: ClassVar[bool] = True

    run: Run
    steps: Annotated[int, Field(ge=2)] = 80
    probes: Annotated[int, Field(ge=1)] = 2
    top: Annotated[int, Field(ge=1)] = 10
    epsilons: tuple[recipes.Positive, ...] = ()
    towards: tuple[Weights, ...] = ()
    examples: Annotated[int, Field(ge=0)] = 0
    chunk: Annotated[int, Field(ge=1)] = 10000

    def fitting(self) -> list[tuple[Weights | recipes.Mask, bool]]:
        return [(target, False) for target in self.towards]

    def reads(self):
        return [*self.run.end.reads(), *self.run.mask.needed(), *(r for w in self.towards for r in w.needed())]

    def check(self, world: World, training=None) -> None:
        super().check(world, training)
        recipes.rehearse("the curvature", world, self.run.training, _rehearsed)

    def compute(self, world: World) -> Result:
        training = self.run.training
        module, dataset = scene(world, training)
        state, mask = trained(world, self.run, world.device)
        examples = first(dataset.train, self.examples)
        single = len(examples[1]) <= self.chunk
        product = Hessian(module, state, mask, examples, self.chunk, keep=None if single else False)
        stream = seeds.generator(training.seed, seeds.PROBE, *self.run.order)
        signs = stream.integers(0, 2, (self.probes, product.size), dtype=np.int8) * 2.0 - 1
        starts = torch.from_numpy(signs).to(world.device, product.dtype)
        nodes, weights = spectral_measure(product, starts, self.steps)
        if self.steps >= LONG:  # by then the first probe has found them
            top = np.sort(nodes[0][weights[0] > 0])[::-1][: self.top]
        else:
            top, _ = top_eigenvalues(product, starts[0], min(self.top, product.size))
        squares = product.compact(state).double().square().cpu().numpy()
        values = {
            "size": product.size,
            "loss": product.loss,
            "gradient": float(product.gradient().norm()),
            "trace": float(product.size * (nodes * weights).sum() / len(nodes)),
            "norm": float(np.sqrt(squares.sum())),
            "predicted": {
                f"{law}/{order}": [
                    predicted_ratio(nodes, weights, squares, epsilon, order, law) for epsilon in self.epsilons
                ]
                for law in ("exact", "width")
                for order in ("magnitude", "random")
            },
        }
        values["curvature"], values["distance"] = [], []
        for target in self.towards:
            there = on_device(target.tensors(world, training), world.device)
            masks.check_shapes(mask, mask, there)
            direction = product.compact({name: there[name] - state[name] for name in mask})
            values["curvature"].append(curvature(product, direction))
            values["distance"].append(float(direction.norm()))
        return values, {"top": top, "nodes": nodes, "weights": weights}


@frozen
class Prunable(Recipe):
    """The largest ratio of a run's survivors that can go at once with the training loss at most ε higher, measured.

    Attributes:
        run: the trained run.
        epsilon: ε, in nats.
        order: what goes first over all layers, the smallest weights or any.
        steps, lr: of the search for a low loss inside the pruned subspace, see `lottery.lowest_loss`. What is
            found is a lower bound: a longer search can only find more.
        examples: training examples used, the first ones; 0: all.
        replicate, draw: the stream of a random order.
    """

    stored: ClassVar[bool] = True

    run: Run
    epsilon: recipes.Positive
    order: Literal["magnitude", "random"] = "magnitude"
    steps: Annotated[int, Field(ge=0)] = 400
    lr: recipes.Positive = 3e-3
    examples: Annotated[int, Field(ge=0)] = 0
    replicate: Annotated[int, Field(ge=0)] = 0
    draw: Annotated[int, Field(ge=0)] = 0

    def reads(self):
        return [*self.run.end.reads(), *self.run.mask.needed()]

    def check(self, world: World, training=None) -> None:
        super().check(world, training)
        recipes.rehearse("the loss of a pruned copy", world, self.run.training, _searched)

    def compute(self, world: World) -> Result:
        training = self.run.training
        module, dataset = scene(world, training)
        state, mask = trained(world, self.run, world.device)
        stream = seeds.generator(training.seed, seeds.THIN, self.replicate, self.draw)
        random = self.order == "random"
        scores = masks.random_scores(mask, stream) if random else masks.magnitude_scores(state, mask)
        given = (module, state, mask, scores, first(dataset.train, self.examples), self.epsilon)
        reached = measured_ratio(*given, steps=self.steps, lr=self.lr)
        return {"ratio": reached, "zero_shot_ratio": measured_ratio(*given)}, {}
