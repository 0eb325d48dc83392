"""What the record of a training run holds."""

from collections.abc import Iterable

import numpy as np

from .. import masks
from ..recipes import Result, Run
from .network import Start
from .train import Outcome


def digest(run: Run, start: Start, outcome: Outcome, names: Iterable[str]) -> Result:
    """The values and small arrays of a run's record.

    Args:
        run: what was trained.
        start, outcome: from where, and what came of it.
        names: of the prunable weights.
    """
    history = outcome.history
    best = int(np.argmin(history["validation_loss"]))
    values = {
        "density": masks.density(start.mask),
        "weights_left": masks.count(start.mask),
        # The iteration of minimum validation loss, found afterwards (Frankle & Carbin 2019, Section 2).
        "early_stop_step": int(history["step"][best]),
        "early_stop_test_accuracy": float(history["test_accuracy"][best]),
        "train_accuracy_end": outcome.train_accuracy,
        "train_loss_end": outcome.train_loss,
    }
    for column in ("validation_loss", "validation_accuracy", "test_loss", "test_accuracy"):
        values[f"{column}_end"] = float(history[column][-1])
    arrays = {f"history/{column}": array for column, array in history.items()}
    final = outcome.states[run.training.steps]
    for name in names:
        before, after = (state[name][start.mask[name]].numpy() for state in (start.weights, final))
        arrays[f"signs/{name}"] = np.packbits(after > 0)
        if not after.all():
            arrays[f"zeros/{name}"] = np.packbits(after == 0)
        if run.start:
            arrays[f"start_signs/{name}"] = np.packbits(before > 0)
        reach = max(np.abs(values).max(initial=0.0) for values in (before, after))
        edges = np.linspace(-reach, reach, 82, dtype=np.float64)
        arrays[f"histogram/{name}"] = np.stack([np.histogram(w, edges)[0] for w in (before, after)]).astype(np.int32)
        arrays[f"reach/{name}"] = np.array(reach, dtype=np.float64)
    return values, arrays
