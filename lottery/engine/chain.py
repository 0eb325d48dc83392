"""LeNet without autograd: linear layers with ReLU between them, forward and back by hand, for one network on a CPU.

A step of LeNet-300-100 takes a processor less than a millisecond of arithmetic, and what surrounds it counts. The
products and their order are autograd's, to the bit. Only a layer under a mask with few survivors multiplies those
alone, by CSR matrices over the very tensors that an optimiser moves and reads gradients from: nothing is copied, and
what is pruned costs nothing. Other layers mask their gradient.

Below a quarter of the weights that is faster: on one core a surviving weight costs some 12 ns a step of 60 examples,
forward and gradient, and one of a dense layer 3. The threshold is fixed and not measured where it runs, because the two
ways round differently and two executions are to agree bit for bit.
"""

from typing import TypeGuard

import torch
from torch import nn

from .. import masks, models
from ..recipes import Training
from . import graphs, sparse

DENSITY = 0.25  # a layer multiplies its survivors alone below this share of weights
WEIGHTS = 2**12  # and from this size on


def fits(module: nn.Module, training: Training, device: torch.device) -> TypeGuard[models.LeNet]:
    """Whether a network trains this way: a LeNet in float32 on a CPU, just as `lottery.models` has it.

    Any other module, and a LeNet that a factory of the user's has made, may do more in its forward pass than its layers
    say.
    """
    if not isinstance(module, models.LeNet) or not models.ours(module) or sparse.altered(module):
        return False
    # A graph has gradients of its own.
    return training.precision == "float32" and device.type == "cpu" and not graphs.worth(device)


def names(module: models.LeNet) -> list[str]:
    """The linear layers of a LeNet, in order."""
    return [*module.hidden, "output"]


def _moving(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A copy of a tensor, for an optimiser to move, and its gradient."""
    moving = values.detach().clone()
    moving.grad = torch.zeros_like(moving)
    return moving, moving.grad


class Dense:
    """A linear layer.

    Args:
        weight, bias: where it starts, [units, inputs] and [units]; only read.
        mask: what survives of `weight`, boolean.

    Attributes:
        weight, bias: what an optimiser is to move; each has a gradient, which `backward` writes.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor):
        self.weight, self.into_weight = _moving(weight * mask)
        self.bias, self.into_bias = _moving(bias)
        self.mask = None if mask.all() else mask.float()

    @staticmethod
    def laid(x: torch.Tensor) -> torch.Tensor:
        """A batch as it is to lie for this layer: example after example."""
        return x.contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs] to [N, units]."""
        return torch.addmm(self.bias, x, self.weight.t())

    def backward(self, x: torch.Tensor, gradient: torch.Tensor) -> None:
        """Writes down the gradient of the weights and biases, from that of the outputs [N, units]."""
        torch.mm(gradient.t(), x, out=self.into_weight)
        if self.mask is not None:
            self.into_weight.mul_(self.mask)
        torch.sum(gradient, 0, out=self.into_bias)

    def into_inputs(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of the inputs [N, inputs], from that of the outputs."""
        return torch.mm(gradient, self.weight)

    def whole(self) -> torch.Tensor:
        """The weights [units, inputs], a copy."""
        return self.weight.clone()


class Few:
    """A linear layer that multiplies its surviving weights alone; what passes through it lies unit after unit.

    Args:
        weight, bias, mask: as of `Dense`.

    Attributes:
        weight: the survivors alone, in row-major order.
        bias: as of `Dense`.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, mask: torch.Tensor):
        self.weight, gradient = _moving(weight[mask])
        self.bias, self.into_bias = _moving(bias)
        self.mask = mask
        rows, columns = mask.nonzero(as_tuple=True)
        self.order, self.turned = torch.argsort(columns, stable=True), torch.empty(len(rows))
        self.matrix = sparse.csr(rows, columns, self.weight, mask.shape)
        self.into_matrix = sparse.csr(rows, columns, gradient, mask.shape)
        self.transposed = sparse.csr(columns[self.order], rows[self.order], self.turned, mask.shape[::-1])

    @staticmethod
    def laid(x: torch.Tensor) -> torch.Tensor:
        """A batch as it is to lie for this layer: unit after unit."""
        return x.t().contiguous().t()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs] to [N, units]."""
        return (self.matrix @ x.t()).add_(self.bias[:, None]).t()

    def backward(self, x: torch.Tensor, gradient: torch.Tensor) -> None:
        """Writes down the gradient of the survivors and biases, from that of the outputs [N, units]."""
        torch.sparse.sampled_addmm(self.into_matrix, gradient.t(), x, beta=0.0, out=self.into_matrix)
        torch.sum(gradient, 0, out=self.into_bias)

    def into_inputs(self, gradient: torch.Tensor) -> torch.Tensor:
        """The gradient of the inputs [N, inputs], from that of the outputs."""
        torch.index_select(self.weight, 0, self.order, out=self.turned)
        return (self.transposed @ gradient.t()).t()

    def whole(self) -> torch.Tensor:
        """The weights [units, inputs], a copy, with zeros where they are pruned."""
        return sparse.spread(self.weight, self.mask)


class Chain:
    """The linear layers of a LeNet, the last of which makes the logits.

    Args:
        names: of the layers, in order.
        weights: a state dict with their weights and biases; only read.
        mask: what survives of them.

    Attributes:
        parameters: name in the state dict → what an optimiser is to move, with its gradient.
    """

    def __init__(self, names: list[str], weights: models.State, mask: masks.Mask):
        self.layers: dict[str, Dense | Few] = {}
        self.parameters: models.State = {}
        for name in names:
            weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
            kept = mask.get(f"{name}.weight", torch.ones_like(weight, dtype=torch.bool))
            layer = self.layers[name] = (Few if sparse.few(kept, WEIGHTS, DENSITY) else Dense)(weight, bias, kept)
            self.parameters |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
        self.first, self.last = self.layers[names[0]], self.layers[names[-1]]
        self.minus_one = -torch.eye(len(self.last.bias))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [N, classes] of inputs [N, features]."""
        return self.last.forward(self.hidden(x)[-1])

    def hidden(self, x: torch.Tensor) -> list[torch.Tensor]:
        """What each layer is given, [N, features]."""
        found: list[torch.Tensor] = []
        for layer in self.layers.values():
            found.append(layer.laid(x))
            if layer is not self.last:
                x = layer.forward(found[-1]).relu_()
        return found

    def backward(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of a batch; its gradient is in those of `parameters` then."""
        given = self.hidden(x)
        logarithm = self.last.forward(given[-1]).log_softmax(1)
        loss = nn.functional.nll_loss(logarithm, target)
        gradient = (self.minus_one / len(target)).index_select(0, target)
        gradient = torch.ops.aten._log_softmax_backward_data(gradient, logarithm, 1, torch.float32)
        for layer, x in zip(reversed(self.layers.values()), reversed(given), strict=True):
            gradient = layer.laid(gradient)
            layer.backward(x, gradient)
            if layer is not self.first:  # back through the layer and the ReLU before it
                gradient = torch.ops.aten.threshold_backward(layer.into_inputs(gradient), x, 0)
        return loss

    def snapshot(self) -> models.State:
        """A state dict, a copy."""
        state = {}
        for name, layer in self.layers.items():
            state |= {f"{name}.weight": layer.whole(), f"{name}.bias": layer.bias.clone()}
        return state
