"""A progress bar for studies that leaves no trace in a notebook.

In a terminal and in a notebook this is tqdm on the standard error stream; a notebook's cell is cleared at the end.
Where `LOTTERY_PROGRESS` names a file, as the chapter runner sets it for its kernel, the state goes there as JSON
instead, and the runner draws the bar in its own terminal.
"""

import json
import os
import sys
from pathlib import Path

from tqdm.std import tqdm

VARIABLE = "LOTTERY_PROGRESS"


class Bar:
    """Runs done, steps a second, time left.

    Args:
        runs: how many there are.
        steps: of all of them together.
        visible: False shows nothing.
    """

    def __init__(self, runs: int, steps: int, visible: bool = True):
        self.runs, self.steps, self.done, self.at = runs, steps, 0, 0
        self.file = os.environ.get(VARIABLE)
        shown = visible and not self.file and runs > 0
        self.bar = tqdm(total=steps, unit="step", unit_scale=True, leave=False, file=sys.stderr) if shown else None
        self.update(0, 0)

    def update(self, done: int, at: int) -> None:
        """Shows `done` runs and `at` steps (of all runs together)."""
        self.done, self.at = done, min(at, self.steps)
        if self.file:
            state = {"runs": self.runs, "steps": self.steps, "done": self.done, "at": self.at}
            temporary = Path(f"{self.file}.new")
            temporary.write_text(json.dumps(state))
            temporary.replace(self.file)
        elif self.bar is not None:
            self.bar.set_description_str(f"runs {done}/{self.runs}", refresh=False)
            self.bar.n = self.at
            self.bar.refresh()

    def close(self) -> None:
        """Removes the bar."""
        if self.bar is not None:
            self.bar.close()
            if "ipykernel" in sys.modules:
                from IPython.display import clear_output

                clear_output()
