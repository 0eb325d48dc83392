"""A progress bar for studies that leaves no trace in a notebook.

In a terminal and in a notebook this is tqdm on the standard error stream; a notebook's cell is cleared at the end. A
file that takes this stream gets none.
Where the settings name a file, as the chapter runner sets it for its kernel, the state goes there as JSON instead, and
the runner draws the bar in its own terminal.
"""

import json
import os
import sys

from tqdm.std import tqdm

from . import settings


def started(total: int, unit: str, **more) -> tqdm:
    """A bar as this library draws it."""
    return tqdm(total=total, unit=unit, unit_scale=True, leave=False, **more)


def _in_notebook() -> bool:
    return "ipykernel" in sys.modules


class Bar:
    """Runs and scans done, steps a second, time left.

    A scan (a path, a spectrum, …) has no steps. Where all runs are there and only scans are left to do, the bar and the
    time left are theirs.

    Args:
        runs: how many there are.
        steps: of all of them together.
        visible: False shows nothing; nor is anything shown where nobody looks.
        scans: how many there are beside the runs.
    """

    def __init__(self, runs: int, steps: int, visible: bool = True, scans: int = 0):
        self.runs, self.scans, self.unit = runs, scans, "step" if steps else "scan"
        self.steps, self.at = steps or scans, 0
        self.file = settings.current().progress
        watched = sys.stderr.isatty() or _in_notebook()
        shown = visible and watched and not self.file and self.steps > 0
        self.bar = started(self.steps, self.unit, file=sys.stderr) if shown else None
        self.update(0, 0)

    def update(self, done: int, at: int, scanned: int = 0) -> None:
        """Shows `done` runs, `at` steps (of all runs together) and `scanned` scans."""
        self.at = min(at if self.unit == "step" else scanned, self.steps)
        said = ", ".join(
            f"{name} {count}/{all_of}"
            for name, count, all_of in (("runs", done, self.runs), ("scans", scanned, self.scans))
            if all_of
        )
        if self.file:
            state = {"said": said, "unit": self.unit, "total": self.steps, "at": self.at}
            temporary = self.file.with_name(f"{self.file.name}.{os.getpid()}.new")
            temporary.write_text(json.dumps(state))
            temporary.replace(self.file)
        elif self.bar is not None:
            self.bar.set_description_str(said, refresh=False)
            self.bar.n = self.at
            self.bar.refresh()

    def close(self) -> None:
        """Removes the bar."""
        if self.bar is not None:
            self.bar.close()
            if _in_notebook():
                from IPython.display import clear_output

                clear_output()
