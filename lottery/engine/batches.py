"""Which examples a step sees and how they are augmented: functions of (seed, order, step) alone.

Data are resident tensors and a batch is an index, so resuming a training needs no state of its loader.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from .. import seeds
from ..recipes import Training
from .errors import TrainingError

AHEAD = 32  # steps whose augmentation is drawn, and carried to the device, at a time


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random horizontal flip and random crop after zero padding by 4 pixels, on the images' own device.

    Args:
        x: images [N, C, H, W].
        generator: on the CPU, so that draws do not depend on the device.

    Returns:
        New images of the same shape.
    """
    return moved(x, _draws(len(x), generator).to(x.device))


def _draws(n: int, generator: torch.Generator) -> torch.Tensor:
    """Shift down, shift to the right and flip of n images: whole numbers [3, n]."""
    shifts = torch.randint(0, 9, (2, n), generator=generator)
    return torch.cat([shifts, torch.randint(0, 2, (1, n), generator=generator, dtype=torch.bool)])


def moved(x: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Images [N, C, H, W], shifted and flipped as drawn [3, N]."""
    n, _, height, width = x.shape
    flip = draws[2].bool()
    rows = draws[0, :, None] + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(n, -1)
    columns = draws[1, :, None] + torch.where(flip[:, None], width - 1 - columns, columns)
    padded = nn.functional.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)
    one = torch.arange(n, device=x.device)
    return padded[one[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


class Batches:
    """The batches of R runs.

    Args:
        training: whose seed, batch and augmentation count.
        orders: the indices of each run's stream.
        examples: how many there are to choose from; what is left of an epoch after whole batches is left out.
        device: of what is returned.

    Raises:
        TrainingError: if there are fewer examples than a batch takes.
    """

    def __init__(self, training: Training, orders: Sequence[tuple[int, ...]], examples: int, device):
        self.seed, self.orders, self.batch, self.examples = training.seed, orders, training.batch, examples
        self.per_epoch, self.device, self.epoch = examples // training.batch, device, -1
        self.augment, self.first = training.augment, None
        if not self.per_epoch:
            raise TrainingError(f"a batch of {self.batch} is larger than the {examples} training examples")

    def __getitem__(self, step: int) -> torch.Tensor:
        """Indices [R, B] of the training examples of a step."""
        epoch, place = divmod(step, self.per_epoch)
        if epoch != self.epoch:
            streams = (seeds.generator(self.seed, seeds.ORDER, *order, epoch) for order in self.orders)
            permutations = np.stack([stream.permutation(self.examples) for stream in streams])
            self.permutations, self.epoch = torch.from_numpy(permutations).to(self.device), epoch
        return self.permutations[:, place * self.batch : (place + 1) * self.batch]

    def augmentation(self, step: int) -> torch.Tensor | None:
        """What `augment` draws for the images of a step, run after run, [3, R B]; None without augmentation."""
        if not self.augment:
            return None
        first, place = step - step % AHEAD, step % AHEAD
        if first != self.first:
            self.drawn = torch.stack([self._drawn(first + i) for i in range(AHEAD)]).to(self.device)
            self.first = first
        return self.drawn[place]

    def _drawn(self, step: int) -> torch.Tensor:
        streams = (
            torch.Generator().manual_seed(seeds.integer(self.seed, seeds.AUGMENT, *order, step))
            for order in self.orders
        )
        return torch.cat([_draws(self.batch, stream) for stream in streams], 1)
