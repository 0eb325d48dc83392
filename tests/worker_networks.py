"""Networks that worker processes import in tests: one whose worker is killed once, one that cannot be trained."""

import os
import signal
from pathlib import Path

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


class Deadly(Killed):
    """Kills whatever process trains it, always: as one that needs more memory than there is."""

    def forward(self, x):
        if self.training:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)
