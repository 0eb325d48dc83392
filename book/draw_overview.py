"""Draws `book/_static/overview.png`, the figure of the front page and of the read-me, from the committed records.

    python book/draw_overview.py

The numbers that it draws stand in the file, too (a PNG text chunk, "numbers"), so that a test can hold them against
the records. The paper's values are those that Frankle & Carbin (2019, Section 2) state in words; their curves are
pictures.
"""

import io
import json
import sys
import tempfile
import warnings
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lottery.book import figures, planning, runner, tidy
from lottery.engine import archive
from lottery.engine.store import Store

TARGET = Path(__file__).parent / "_static" / "overview.png"
CHAPTER = "02_structure_or_initialisation"
SHOWN = ("ticket", "reinitialised", "random mask")
PAPER = {"ticket": {0.211: 0.62, 0.036: 1.0}, "reinitialised": {0.211: 0.62 * 2.51}}
"""Iterations over the dense network's, by weights left: 38 % earlier; as slow again; 2.51 times the ticket's."""


def numbers() -> dict:
    """What is drawn: weights left [L] and, of each treatment, iterations [R, L] over the dense network's mean; those of
    the whole training, too.

    NaN (null in JSON) where nothing was run.
    """
    published = nbformat.read(runner.published()[CHAPTER], as_version=4).metadata["lottery"]
    study = planning.study_of(CHAPTER, published["parameters"])["networks"]
    with tempfile.TemporaryDirectory() as scratch:
        store = Store(scratch)
        keys = set(published["keys"])
        store.import_(path for path in runner.results_files() if keys.intersection(archive.keys(path)))
        records = tidy.mapped(study, lambda recipe: store.read(recipe.key))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")  # levels at which a treatment was not run
        stops = {name: np.nanmean(tidy.column(records[name], "early_stop_step"), axis=1) for name in SHOWN}
    density = tidy.column(records["ticket"], "density")[0, 0]
    dense = stops["ticket"][:, 0].mean()
    whole = published["parameters"]["steps"] / dense
    return {"density": density, "dense": dense, "whole": whole} | {name: stop / dense for name, stop in stops.items()}


def rounded(found: dict) -> dict:
    """As plain values of four digits."""

    def plain(value):
        return [plain(one) for one in value] if np.ndim(value) else None if np.isnan(value) else float(f"{value:.4g}")

    return {name: plain(value) for name, value in found.items()}


def draw(found: dict):
    """The figure."""
    series = {name: (found["density"], found[name]) for name in SHOWN}
    figure = figures.against_density(
        series, "iterations to the smallest\nvalidation loss, dense network = 1", percent=False, logy=True
    )
    figure.set_size_inches(7.5, 3.94)
    axes = figure.axes[0]
    axes.set_ylim(0.5, 13)
    axes.axhline(found["whole"], color=figures.INK, linewidth=0.8, linestyle=":")
    axes.text(0.99, found["whole"], "end of training", ha="right", va="bottom", transform=axes.get_yaxis_transform())
    axes.set_yticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
    for name, color in (("ticket", figures.PALETTE[0]), ("reinitialised", figures.PALETTE[1])):
        look = {"markersize": 10, "markerfacecolor": "white", "markeredgewidth": 2.2, "color": color, "zorder": 6}
        axes.plot(list(PAPER[name]), list(PAPER[name].values()), "D", linestyle="none", **look)
    axes.plot([], [], "D", color=figures.INK, markerfacecolor="white", markeredgewidth=2.2, label="the paper")
    axes.legend(*[[one[-1]] for one in axes.get_legend_handles_labels()], loc="upper left", frameon=False, borderpad=0)
    return figure


def main() -> int:
    """Writes the picture."""
    found = numbers()
    raw, text = io.BytesIO(), PngInfo()
    draw(found).savefig(raw, format="png", dpi=200)
    text.add_text("numbers", json.dumps(rounded(found)))
    Image.open(raw).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(TARGET, optimize=True, pnginfo=text)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
