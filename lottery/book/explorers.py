"""Explorers: widgets that work with a kernel and, on a published page, without one.

Without a kernel no Python runs, so everything that can be seen is drawn beforehand: one HTML frame for every
combination of options, in nested ``Stack``s that the controls drive by ``jslink``. Nothing here uses ``interact``,
``Output`` or ``Play``, which look alive on a static page and are not. What needs a kernel carries the class
``live-only``, and is hidden where none is connected; notes of the class ``static-only`` are hidden where one is.
"""

import html
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from .. import landscape, masks, recipes, signs, tickets
from ..engine import execute
from ..engine.store import Record, Store
from . import figures, text, tidy

MOST_LEVELS = 25
FRAME_BYTES = 30_000
_MOST_BUTTONS = 7
_NOTE = (
    "<style>.live-only.jupyter-widgets-disconnected{display:none!important}"
    ".static-only:not(.jupyter-widgets-disconnected){display:none!important}"
    ".lottery-controls .widget-toggle-buttons>div{display:flex;flex-wrap:wrap;gap:2px}</style>"
    "<small>These figures were drawn when the notebook ran; moving a control shows another of them.</small>"
)


def frames(
    frames: Mapping[Any, str],
    controls: Sequence[tuple[str, Sequence[str]]],
    caption: str = "",
    start: Sequence[str] | str | None = None,
) -> widgets.Widget:
    """An explorer over pre-rendered frames, one control an axis.

    Args:
        frames: combination of options -> HTML; a tuple with one option a control, or the bare option if there is one
            control. Images carry alternative text.
        controls: (name, options) of every axis. Up to seven options become buttons, more a slider. Options that are
            written alike (levels that differ by less than is shown) are one.
        caption: text below the figure that says what is seen, without any click (plain text).
        start: the combination shown first, the claim's headline; by default the first option of each control.

    Raises:
        ValueError: if there is no control, a control has no options, a combination is missing or superfluous,
            ``start`` is no combination, or an image lacks alternative text.
    """
    controls = [(name, list(dict.fromkeys(options))) for name, options in controls]
    for name, options in controls:
        if not options:
            raise ValueError(f"control {name!r} needs options")
    if not controls:
        raise ValueError("an explorer needs a control")
    given = {key if isinstance(key, tuple) else (key,): value for key, value in frames.items()}
    wanted = list(itertools.product(*(options for _, options in controls)))
    first = wanted[0] if start is None else (start,) if isinstance(start, str) else tuple(start)
    if missing := [key for key in wanted if key not in given]:
        raise ValueError(f"no frame for {_words(controls, missing[0])} ({len(missing)} missing)")
    if extra := set(given) - set(wanted):
        raise ValueError(f"frames that no control reaches: {sorted(map(str, extra))}")
    if first not in given:
        raise ValueError(f"cannot start at {first}: no such frame")
    for key in wanted:
        if any(not re.search(r"""\salt=(["'])\s*[^\s"']""", tag) for tag in re.findall(r"<img\b[^>]*>", given[key])):
            raise ValueError(f"the frame for {_words(controls, key)} has an image without alternative text")

    handles = [_control(name, options, value) for (name, options), value in zip(controls, first, strict=True)]

    def nest(chosen: tuple[str, ...]) -> widgets.Widget:
        if len(chosen) == len(controls):
            return widgets.HTML(given[chosen])
        axis = len(chosen)
        options = list(controls[axis][1])
        stack = widgets.Stack([nest((*chosen, option)) for option in options], selected_index=handles[axis].index)
        widgets.jslink((handles[axis], "index"), (stack, "selected_index"))
        return stack

    bar = widgets.VBox(handles)
    bar.add_class("lottery-controls")
    parts = [bar, nest(())]
    if caption:
        parts.append(widgets.HTML(f"<p style='margin:0'>{html.escape(caption)}</p>"))
    note = widgets.HTML(_NOTE)
    note.add_class("static-only")
    return widgets.VBox([*parts, note])


def paths(
    walked: Mapping[tuple[str, ...], Sequence[Record]],
    controls: Sequence[tuple[str, Sequence[str]]],
    ends: Callable[[tuple[str, ...]], tuple[str, str]],
    caption: str,
    start: Sequence[str],
) -> widgets.Widget:
    """Test error on straight lines between networks, a panel for each kind of statistics, on the same axes throughout.

    Args:
        walked: combination of options -> records of whole paths, one a replicate.
        controls, caption, start: as in :func:`frames`.
        ends: of a combination of options, the names of both ends.
    """
    errors = {
        key: {way: np.stack([path.arrays[f"{way}/test_error"] for path in found]) for way in landscape.STATISTICS}
        for key, found in walked.items()
    }
    tops = [max(lines[way].max() for lines in errors.values()) for way in landscape.STATISTICS]
    pictures = {}
    for key, lines in errors.items():
        position = walked[key][0].arrays["position"]
        panels = {f"{way} statistics": {"on the line": (position, values)} for way, values in lines.items()}
        means = {way: 100 * values.mean(axis=0) for way, values in lines.items()}
        said = (f"{way}: ends {m[0]:.1f} and {m[-1]:.1f} %, highest {m.max():.1f} %" for way, m in means.items())
        pictures[key] = (
            figures.paths(panels, "test error (%)", ends=ends(key), ylims=[(0, 108 * top or 1) for top in tops]),
            f"Test error on the line; {_words(controls, key)}. {'; '.join(said)}.",
        )
    return drawn(pictures, controls, caption, start)


def drawn(
    pictures: Mapping[tuple[str, ...], Figure | tuple[Figure, str]],
    controls: Sequence[tuple[str, Sequence[str]]],
    caption: str = "",
    start: Sequence[str] | None = None,
) -> widgets.Widget:
    """An explorer over figures: combination of options -> figure, or figure and its alternative text.

    By default a figure is told in its own words; all else is as in :func:`frames`.
    """
    pairs = {key: one if isinstance(one, tuple) else (one, "") for key, one in pictures.items()}
    made = {key: figures.html_image(figure, alt, dpi=80) for key, (figure, alt) in pairs.items()}
    return frames(made, controls, caption, start)


def ticket_explorer(levels: Sequence[Mapping[str, Any]], caption: str = "", start: int = 0) -> widgets.Widget:
    """Drag the level of pruning: test accuracy beside the dense network's, mask of the first layer, weights.

    Args:
        levels: the dense network first, then one mapping a level, at most ``MOST_LEVELS``; of levels whose densities
            are written alike, the first is shown:
            ``density``: share of weights left, in (0, 1].
            ``steps``: [S] iterations at which the test set was evaluated.
            ``test_accuracy``: [R, S] shares, one row a replicate.
            ``first_layer_mask``: [units, inputs] boolean, of one replicate.
            ``image_shape``: (H, W) or (C, H, W) of the inputs.
            ``initial``, ``final``: layer -> [n] its surviving weights before and after training, of the same replicate.
        caption: as in :func:`frames`.
        start: index of the level shown first.

    Raises:
        ValueError: if there are no levels, or too many.
    """
    if not 0 < len(levels) <= MOST_LEVELS:
        raise ValueError(f"expected 1 to {MOST_LEVELS} levels, got {len(levels)}")
    names = [f"{figures.percent(level['density'])} %" for level in levels]
    limit = figures.weight_limit(*(w for level in levels for key in ("initial", "final") for w in level[key].values()))
    means = np.concatenate([_late(level["steps"], level["test_accuracy"]) for level in levels])
    margin = 0.06 * np.ptp(means) or 0.01
    ylim = (100 * (means.min() - margin), 100 * (means.max() + margin))
    drawn = {}
    for name, level in zip(names, levels, strict=True):
        if name in drawn:
            continue
        figure, alt = _ticket_figure(name, level, levels[0], ylim, limit), _ticket_alt(name, level)
        for dpi, colours in ((90, 64), (80, 48), (70, 48)):  # curves of pure noise need the last
            drawn[name] = figures.html_image(figure, alt, width=630, dpi=dpi, colours=colours)
            if len(drawn[name]) <= FRAME_BYTES:
                break
    return frames(drawn, [("weights left", names)], caption, names[start])


def first_layers(
    found: Mapping[str, Mapping[str, tuple[Record, str]]], name: str, caption: str, start: tuple[str, str]
) -> widgets.Widget:
    """How many connections each pixel keeps to the first layer against a random mask, for masks that are compared.

    The caption says what pixels at the border, a seventh of the image on each side, keep in the masks shown first.

    Args:
        found: option of the control -> kind of mask -> its record and a title, which names share and data.
        name: of the control.
        caption: as in :func:`frames`.
        start: option and kind shown first.
    """
    pictures, kept = {}, {}
    for option, kinds in found.items():
        for kind, (record, title) in kinds.items():
            mask = masks.first_layer(record)
            alt = f"Connections that each pixel keeps, times a random mask's: {title}".replace("\n", " ")
            pictures[option, kind] = figures.input_mask_image(mask, form(mask.shape[1]), title, chance=True), alt
            kept[option, kind] = border(mask)
    told = ", ".join(f"{kind} {text.number(kept[start[0], kind])}" for kind in found[start[0]])
    words = f"{caption} Connections are divided by what a pixel keeps in a random mask of that size: 1 is chance, red "
    words += f"more. At the border of the image, {name} {start[0]}, a pixel keeps: {told}."
    return drawn(pictures, [(name, list(found)), ("mask", list(found[start[0]]))], words, start)


def learning_curves(
    options: Mapping[str, Mapping[str, Sequence[Record]]], name: str, caption: str = "", start: str = ""
) -> widgets.Widget:
    """Test accuracy and validation loss in the course of training, for networks that are compared.

    Args:
        options: option of the control -> label -> records of its networks: their mean and range are seen. Labels
            without records are left out.
        name: of the control.
        caption: as in :func:`frames`.
        start: the option shown first.
    """
    pictures = {}
    for option, networks in options.items():
        for value, axis in (("test_accuracy", "test accuracy (%)"), ("validation_loss", "validation loss")):
            curves = {label: tidy.curves(records, value) for label, records in networks.items() if records}
            ends = ", ".join(f"{label} {values[:, -1].mean():.4f}" for label, (_, values) in curves.items())
            figure = figures.training_curves(curves, ylabel=axis, percent=value == "test_accuracy")
            pictures[option, axis] = figure, f"{axis} in the course of training, {name} {option}; at the end {ends}"
    controls = [(name, list(options)), ("curve", ["test accuracy (%)", "validation loss"])]
    return drawn(pictures, controls, caption, (start or next(iter(options)), "test accuracy (%)"))


def matched(pairs: Mapping[str, Sequence[signs.Compared]], store: Store, caption: str = "") -> widgets.Widget:
    """The output layers of two networks, the second with its units in the order that matches the first's.

    Args:
        pairs: kind of pair -> comparisons, of which the first is shown; kinds without one are left out.
        store: where the weights of both networks are.
        caption: as in :func:`frames`.
    """
    pictures, world = {}, execute.world(store)
    for kind, (pair, *_) in ((kind, some) for kind, some in pairs.items() if some):
        one, other = (signs.signs_of(world, run) for run in (pair.a, pair.b))
        both = one, signs.rearranged(other, signs.match(one, other))
        pictures[(kind,)] = figures.sign_matrices(*(list(layers.values())[-1].numpy() for layers in both))
    return drawn(pictures, [("pair", [kind for (kind,) in pictures])], caption)


def ticket_levels(chains: Sequence[Sequence[Record]], cut: Sequence[Record]) -> list[dict[str, Any]]:
    """What `ticket_explorer` shows of the tickets of several replicates.

    Args:
        chains: records of the runs, one row a replicate, the dense network first.
        cut: records of the masks of the first replicate, from level 1 on; its weights and masks are shown.
    """
    first = [masks.first_layer(record) for record in cut]
    first = [np.ones_like(first[0]), *first]
    levels = []
    for level, mask in enumerate(first[:MOST_LEVELS]):
        steps, accuracy = tidy.curves([chain[level] for chain in chains], "test_accuracy")
        before, after = tidy.surviving_weights(chains[0][level])
        shown = {"density": chains[0][level].values["density"], "steps": steps, "test_accuracy": accuracy}
        shown |= {"first_layer_mask": mask, "image_shape": form(mask.shape[1]), "initial": before, "final": after}
        levels.append(shown)
    return levels


def border(mask: np.ndarray) -> float:
    """Connections that a pixel keeps within a seventh of the image from its border, times those of all pixels.

    Args:
        mask: [units, inputs] of the first layer.
    """
    counts = mask.sum(axis=0).reshape(form(mask.shape[1]))
    width = max(1, counts.shape[-1] // 7)
    inside = counts[..., width:-width, width:-width]
    return float((counts.sum() - inside.sum()) / (counts.size - inside.size) / counts.mean())


def form(inputs: int) -> tuple[int, ...]:
    """(H, W) of a square image with so many inputs, or (3, H, W) of one in colour."""
    side = math.isqrt(inputs)
    return (side, side) if side * side == inputs else (3, *2 * (math.isqrt(inputs // 3),))


def new_ticket(store: Store) -> widgets.Widget:
    """Controls that train a new ticket on the digits and draw it beside its dense network."""

    def train(seed: int, rounds: int) -> str:
        small = {"data": "digits", "model": "lenet-300-100", "steps": 400, "batch": 60, "validation": 200, "seed": seed}
        training = recipes.training(
            **small, optimiser="adam", lr=0.006, scaling="unit-norm", evaluate=tickets.early_grid(400)
        )
        chain = tickets.imp(training, 0, rounds, {"fc": 0.2, "output": 0.1})
        records = execute.execute(chain, store, jobs=1, show=False)
        left = f"{figures.percent(records[-1].values['density'])} % left"
        curves = {
            label: tidy.curves([record], "test_accuracy")
            for label, record in (("dense", records[0]), (left, records[-1]))
        }
        return figures.html_image(
            figures.training_curves(curves), "test accuracy of a new ticket and its dense network"
        )

    return live(
        train,
        "Train a new ticket on the digits",
        seed=widgets.IntSlider(1, 0, 99, description="seed"),
        rounds=widgets.IntSlider(4, 1, 8, description="rounds"),
    )


def live(callback: Callable[..., str], button: str = "Train a new ticket", **controls: Any) -> widgets.Widget:
    """Controls that compute something new; hidden where no kernel is connected.

    While ``callback`` runs the button is disabled and says so. Its result appears below; an exception appears there
    as a message, not as a traceback.

    Args:
        callback: called with the value of every control by name; returns HTML.
        button: what the button says.
        **controls: widgets with a ``value``, such as sliders.
    """
    press = widgets.Button(description=button, button_style="primary", layout=widgets.Layout(width="auto"))
    result = widgets.HTML("")

    def run(_press: widgets.Button) -> None:
        press.disabled, press.description = True, "Running …"
        try:
            shown = callback(**{name: control.value for name, control in controls.items()})
            if not isinstance(shown, str):
                raise TypeError(f"expected HTML as text, got {type(shown).__name__}")
            result.value = shown
        except Exception as error:
            text = html.escape(f"{type(error).__name__}: {error}")
            result.value = f'<p role="alert"><strong>That did not work.</strong> {text}</p>'
        finally:
            press.disabled, press.description = False, button

    press.on_click(run)
    box = widgets.VBox([*controls.values(), press, result])
    for widget in (*controls.values(), press, result, box):
        widget.add_class("live-only")
    return box


def _words(controls: Sequence[tuple[str, Sequence[str]]], key: Sequence[str]) -> str:
    return ", ".join(f"{name} = {option}" for (name, _), option in zip(controls, key, strict=True))


def _control(name: str, options: Sequence[str], value: str) -> widgets.ToggleButtons | widgets.SelectionSlider:
    common = {"options": list(options), "value": value, "description": name, "tooltip": name}
    if len(options) <= _MOST_BUTTONS:
        return widgets.ToggleButtons(
            **common, style={"button_width": "auto", "description_width": "auto"}, layout=widgets.Layout(width="auto")
        )
    layout = widgets.Layout(width="100%", max_width="36rem")
    return widgets.SelectionSlider(**common, style={"description_width": "auto"}, layout=layout)


def _late(steps: Any, accuracy: Any) -> np.ndarray:
    """Mean accuracies after the steep start, the first tenth of training."""
    steps = np.asarray(steps)
    return np.nanmean(np.asarray(accuracy, dtype=np.float64)[:, steps >= 0.1 * steps.max()], axis=0)


@mpl.rc_context(figures.STYLE)
def _ticket_figure(name: str, level: Mapping, dense: Mapping, ylim: tuple[float, float], limit: float) -> Figure:
    figure = Figure(figsize=(7, 6.6), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False)[:, 0]
    curve, (mask, weights) = top.subplots(), bottom.subplots(1, 2)
    curves = {"dense": _thinned(dense)}
    if level is not dense:
        curves[f"ticket, {name}"] = _thinned(level)
    figures.training_curves(curves, ylim=ylim, ax=curve)
    figures.input_mask_image(level["first_layer_mask"], level["image_shape"], ax=mask)
    mask.set_title("First layer, by pixel", weight="normal")
    before, after = (np.concatenate([np.ravel(w) for w in level[key].values()]) for key in ("initial", "final"))
    figures.draw_histogram(weights, before, after, limit)
    weights.set_title(f"{before.size:,} weights", weight="normal")
    weights.legend(frameon=False, fontsize=10, handlelength=1, loc="upper right", borderaxespad=0, labelspacing=0.2)
    weights.set_ylim(0, 1.25 * weights.get_ylim()[1])
    return figure


def _thinned(level: Mapping, most: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Every k-th point of a curve, so that the frame stays small; the last is always among them."""
    keep = np.arange(len(level["steps"]))[:: -max(1, -(-len(level["steps"]) // most))][::-1]
    return np.asarray(level["steps"])[keep], np.asarray(level["test_accuracy"])[:, keep]


def _ticket_alt(name: str, level: Mapping) -> str:
    mask = np.asarray(level["first_layer_mask"]).astype(bool)
    bare = np.count_nonzero(~mask.any(axis=0))
    last = 100 * float(np.nanmean(np.asarray(level["test_accuracy"])[:, -1]))
    return (
        f"{name} of the weights left. Test accuracy at the end of training {last:.2f} %. The first layer keeps "
        f"{mask.sum():,} of {mask.size:,} connections; {bare} of {mask.shape[1]} pixels have none. "
        f"Histogram of the {sum(np.size(w) for w in level['final'].values()):,} surviving weights."
    )
