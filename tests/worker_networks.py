"""Networks that worker processes import in tests: one whose worker is killed once, some that cannot be trained."""

import os
import signal
from pathlib import Path

import torch
from torch import nn

from lottery.models import LeNet


class Killed(LeNet):
    """A small LeNet whose process gets SIGKILL at its 250th batch, unless the file LOTTERY_TEST_KILLED exists."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes, (8,))
        self.batches = 0

    def forward(self, x):
        self.batches += self.training
        mark = Path(os.environ["LOTTERY_TEST_KILLED"])
        if self.batches == 250 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class Hopeless(LeNet):
    """A small LeNet that for about half of the seeds starts with weights that are no numbers."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes, (8,))
        if self.fc1.weight[0, 0] > 0:
            self.fc1.weight.data.fill_(float("nan"))


class Deadly(LeNet):
    """Kills whatever process trains it for 50 batches, always: as one that needs more memory than there is."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes, (8,))
        self.batches = 0

    def forward(self, x):
        self.batches += self.training
        if self.batches == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)


class Odd(LeNet):
    """A small LeNet that fails in training at its 100th batch, as code that nobody tried does."""

    def __init__(self, shape, classes):
        super().__init__(shape, classes, (8,))
        self.batches = 0

    def forward(self, x):
        self.batches += self.training
        return super().forward(x if self.batches != 100 else {}["pe"])


class Bare(nn.Module):
    """Learns nothing but a bias for each class."""

    def __init__(self, shape, classes):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, x):
        return self.bias.expand(len(x), -1)


RATE = 0.1


class Rare(LeNet):
    """A small LeNet whose inputs are left out in some passes."""

    def __init__(self, shape, classes, rate):
        super().__init__(shape, classes, (8,))
        self.rate = rate

    def forward(self, x):
        return super().forward(0 * x if self.training and torch.rand(()) < self.rate else x)


def rare(shape, classes):
    return Rare(shape, classes, RATE)
