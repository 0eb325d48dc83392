"""Figures: what is drawn is what was given, in the house style, with alternative text."""

import base64
import io
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from lottery import kernels, stats
from lottery.book import figures

calm = settings(deadline=None)  # a busy machine is no failure
LEVELS = np.arange(20)
DENSITY = (265200 * 0.8**LEVELS + 1000 * 0.9**LEVELS) / 266200
STEPS = np.arange(0, 5001, 100)


def accuracies(replicates=3, columns=20, seed=0):
    return np.random.default_rng(seed).uniform(0.9, 0.99, (replicates, columns))


def test_a_series_against_density():
    values = accuracies()
    sparse = accuracies(seed=1)
    sparse[:, 1::2] = np.nan
    figure = figures.against_density({"ticket": (DENSITY, values), "reinit": (DENSITY, sparse)}, "accuracy (%)", "T")
    ax = figure.axes[0]
    ticket, dense, reinit = ax.get_lines()
    np.testing.assert_allclose(ticket.get_xdata(), DENSITY)
    np.testing.assert_allclose(ticket.get_ydata(), 100 * values.mean(axis=0))
    np.testing.assert_allclose(dense.get_ydata(), 100 * values[:, 0].mean())
    assert len(reinit.get_xdata()) == 10  # levels that nobody ran leave no point
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(100 * values.min()) and band.max() == pytest.approx(100 * values.max())
    assert ax.get_xscale() == "log" and ax.get_xlim()[0] > ax.get_xlim()[1]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["100", "1.5", "51.3", "21.1", "7.0", "3.6"]
    assert {text.get_text() for text in ax.texts} == {"ticket", "reinit", "dense"}
    assert ax.get_xlabel() == "weights left (%)" and ax.get_ylabel() == "accuracy (%)"


def test_a_single_replicate_has_no_band_and_counts_are_not_scaled():
    figure = figures.against_density({"t": (DENSITY[:3], [[9000, 7000, 5000]])}, "iteration", percent=False, logy=True)
    assert not figure.axes[0].collections and figure.axes[0].get_yscale() == "log"
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == [9000, 7000, 5000]
    figure.draw_without_rendering()


def test_one_level_alone_can_be_drawn():
    figures.against_density({"dense": ([1.0], [[0.9], [0.8]])}, "accuracy (%)").draw_without_rendering()


@pytest.mark.parametrize(
    ("density", "values", "message"),
    [
        ([1, 0.5], [[1, 2, 3]], "expected x"),
        ([1, 0.5], [1, 2], "expected x"),
        ([100, 50], [[1, 2]], "shares in"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(density, values, message):
    with pytest.raises(ValueError, match=message):
        figures.against_density({"ticket": (density, values)}, "y")


def test_a_treatment_keeps_its_colour_whatever_its_place():
    series = {"ticket": (DENSITY, accuracies()), "random mask": (DENSITY, accuracies())}
    one = figures.against_density(series, "y", dense_line=False).axes[0].get_lines()
    two = figures.against_density(dict(reversed(series.items())), "y", dense_line=False).axes[0].get_lines()
    assert [line.get_color() for line in one] == [line.get_color() for line in reversed(two)]
    assert one[0].get_color() != one[1].get_color()


def test_no_two_series_share_a_colour():
    series = {label: (DENSITY, accuracies()) for label in ("rewound to 0", "rewound to 40", "reinitialised")}
    colours = [line.get_color() for line in figures.against_density(series, "y", dense_line=False).axes[0].get_lines()]
    assert colours[2] == figures.PALETTE[1] and len(set(colours)) == 3


def test_lines_bands_and_ground_keep_their_colours_in_a_small_palette():
    names = ("tickets", "start signs", "pruned once", "random mask", "reinitialised", "null")
    series = {name: (DENSITY, accuracies() - i / 20) for i, name in enumerate(names)}
    figure, raw = figures.against_density(series, "y"), io.BytesIO()
    for _ in range(2):  # the first time the layout settles
        raw.seek(0)
        figure.savefig(raw, format="png", dpi=200)
    drawn = np.asarray(Image.open(raw).convert("RGB")).astype(int)
    data = re.search('base64,([^"]+)', figures.html_image(figure, sharp=2))[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    for line in figure.axes[0].get_lines():
        colour = np.round(255 * np.array(to_rgb(line.get_color()))).astype(int)
        at = (drawn == colour).all(axis=-1)
        assert at.any() and np.abs(shown[at] - colour).max() <= 8
    off = np.abs(shown - drawn).max(axis=-1)
    assert off.mean() < 3 and off[(drawn == 255).all(axis=-1)].max() <= 1


def test_a_line_without_a_name_leads_to_no_label():
    named, nameless = (figures.training_curves({name: ([0, 1], [[0.5, 0.6]])}).axes[0].texts for name in ("a", ""))
    assert [text.get_text() for text in named] == ["a"] and not nameless


def test_training_curves_leave_out_the_steep_start_unless_told_otherwise():
    curve = np.minimum(0.98, 0.1 + STEPS / 500)[None].repeat(2, axis=0)
    series = {"100 %": (STEPS, curve), "21.1 %": (STEPS, curve - 0.01)}
    ax = figures.training_curves(series, ordered=True).axes[0]
    assert ax.get_ylim()[0] > 90 and [line.get_ydata()[-1] for line in ax.get_lines()] == pytest.approx([98, 97])
    assert figures.training_curves(series, ylim=(94, 99)).axes[0].get_ylim() == (94, 99)


def test_a_few_values_can_have_dots_and_a_few_densities_ticks():
    series = {"flipped": ([0, 50, 100], np.ones((2, 3))), "level": ([0, 50, 100], np.zeros((2, 3)))}
    flipped, level = figures.training_curves(series, dotted=["flipped"]).axes[0].get_lines()
    assert flipped.get_marker() == "o" and level.get_marker() in ("", "None")
    density = np.array([0.1, 0.5, 0.7, 0.9])
    for every, count in ((False, 3), (True, 4)):
        ax = figures.against_density({"a": (density, np.ones((2, 4)))}, "accuracy (%)", every=every).axes[0]
        assert len(ax.get_xticks()) == count


def test_the_mask_image_counts_connections_of_every_pixel():
    mask = np.zeros((5, 6), dtype=bool)
    mask[:3, 1] = True
    mask[4, 5] = True
    image = figures.input_mask_image(mask, (2, 3)).axes[0].get_images()[0].get_array()
    assert image.tolist() == [[0, 3, 0], [0, 0, 1]]
    colour = figures.input_mask_image(mask, (2, 1, 3)).axes[0].get_images()[0].get_array()
    assert colour.tolist() == [[0, 3, 1]]  # channels are added up
    over = figures.input_mask_image(mask, (2, 3), chance=True).axes[0].get_images()[0]
    np.testing.assert_allclose(over.get_array(), [[0, 4.5, 0], [0, 0, 1.5]])  # of two thirds of a connection a pixel
    assert over.get_clim() == (0, 2)  # of all masks
    with pytest.raises(ValueError, match="does not fit"):
        figures.input_mask_image(mask, (2, 2))


def test_sign_matrices_show_both_and_where_shared_signs_agree():
    one, other = np.array([[1, -1, 0], [0, 1, 1]]), np.array([[1, 1, 1], [0, 0, 1]])
    drawn = [ax.images[0].get_array() for ax in figures.sign_matrices(one, other).axes]
    assert [image.tolist() for image in drawn] == [one.tolist(), other.tolist(), [[1, -1, 0], [0, 0, 1]]]
    assert "share 3 connections, 67 % of them with equal signs" in figures.sign_matrices(one, other).get_label()
    with pytest.raises(ValueError, match="one shape"):
        figures.sign_matrices(one, other[:1])


def test_tiles_show_patterns_in_rows():
    edge, row = np.array([[1, 0, -1]] * 3), np.array([[0] * 3, [1] * 3, [0] * 3])
    axes = figures.sign_tiles({"null a": ([edge, row], ["3×", "2×"]), "null b": ([row], ["1×"])}).axes
    assert [[image.get_array().tolist() for image in ax.images] for ax in axes] == [
        [edge.tolist(), row.tolist()],
        [row.tolist()],
    ]
    assert [ax.get_title() or ax.get_title(loc="left") for ax in axes] == ["null a", "null b"]
    assert {"3×", "2×", "+", "−"} == {text.get_text() for text in axes[0].texts}
    for wrong in ({}, {"a": ([edge], [])}, {"a": ([], [])}):
        with pytest.raises(ValueError, match="pattern"):
            figures.sign_tiles(wrong)


def test_the_histogram_counts_every_weight_even_outliers():
    rng = np.random.default_rng(0)
    initial, final = rng.normal(0, 0.1, 500), np.append(rng.normal(0, 0.2, 499), 50.0)
    limit, ax = figures.weight_limit(initial, final), Figure().subplots()
    figures.draw_histogram(ax, initial, final, limit)
    assert sum(bar.get_height() for bar in ax.containers[0]) == 500
    assert ax.get_xlim()[1] == pytest.approx(limit) and limit < 2
    with pytest.raises(ValueError, match="before training"):
        figures.draw_histogram(ax, initial, final[1:], limit)


def test_an_empty_layer_is_drawn_empty():
    figure, nothing = Figure(), np.empty(0)
    figures.draw_histogram(figure.subplots(), nothing, nothing, figures.weight_limit(nothing, nothing))
    figure.draw_without_rendering()


def test_ordering_shows_ours_and_the_papers():
    entries = [("a", stats.summary([1, 2, 3]), 2.5), ("b", stats.summary([4]), None)]
    ax = figures.ordering(entries, "pp").axes[0]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    diamonds = [line.get_xdata() for line in ax.get_lines() if line.get_marker() == "D"]
    assert len(diamonds) == 1 and diamonds[0][0] == 2.5
    with pytest.raises(ValueError):
        figures.ordering([], "pp")


def test_a_matrix_writes_means_with_intervals_and_frames_the_diagonal():
    def cells(*means):
        return [[stats.summary([mean - 0.1, mean + 0.1]) for mean in row] for row in means]

    panels = {"21 %": cells((1, -0.5), (0, 2)), "4 %": cells((1, 1), (1, 1)), "2 %": [[stats.summary([1.0])] * 2] * 2}
    figure = figures.matrix(panels, ["a", "b"], "found on", "trained on", "Lead (pp)")
    first, second, third, empty = figure.axes
    assert [ax.get_title("left") for ax in (first, second, third)] == list(panels) and not empty.get_visible()
    shown = {text.get_position(): text.get_text() for text in first.texts}
    assert shown[1, 0].split("\n")[0] == "−0.50" and shown[1, 1] == "2.00\n[0.73, 3.27]"
    assert third.texts[0].get_text() == "1.00"  # of one replicate
    assert [patch.get_x() + 0.47 for patch in first.patches] == pytest.approx([0, 1])
    light = [figures._luminance(np.array(row[:3])) for row in first.images[0].get_array().reshape(-1, 4)]
    assert np.argsort(light).tolist() == np.argsort([-1, 0.5, 0, -2]).tolist()  # darker is more, in grey as well
    for text, level in zip(first.texts, light, strict=True):
        ground = {"black": 0.0, "white": 1.0}[text.get_color()]
        assert (max(ground, level) + 0.05) / (min(ground, level) + 0.05) >= 4.5
    shades = [ax.images[0].get_array() for ax in (first, second)]
    np.testing.assert_array_equal(shades[0][0, 0], shades[1][0, 0])  # one scale for all
    assert "21 %, a → b: −0.50 [−1.77, 0.77]" in figure.get_label()
    assert figures.html_image(figures.matrix({"all equal": cells((0, 0), (0, 0))}, ["a", "b"], "y", "x"))
    with pytest.raises(ValueError, match="3 rows of 3"):
        figures.matrix(panels, ["a", "b", "c"], "found on", "trained on")


def test_an_html_image_is_a_small_png_with_escaped_alternative_text():
    figure = figures.against_density({"ticket": (DENSITY, accuracies())}, "accuracy (%)")
    text = figures.html_image(figure, 'accuracy <98 % & "more"', width=350)
    assert 'alt="accuracy &lt;98 % &amp; &quot;more&quot;"' in text and 'width="350" height="200"' in text
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", text)[1])))
    assert picture.format == "PNG" and picture.size == (700, 400) and len(text) < 30_000
    sharp = figures.html_image(figure, "twice as fine", sharp=2)
    assert 'width="700" height="400"' in sharp and len(sharp) < 80_000
    picture = Image.open(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", sharp)[1])))
    assert picture.size == (1400, 800)
    with pytest.raises(ValueError, match="alternative text"):
        figures.html_image(Figure(), " ")


@calm
@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=13))
def test_labels_keep_their_order_and_their_distance(heights):
    got = figures._spread(heights, 0.075)
    assert all(-1e-9 <= h <= 1 + 1e-9 for h in got)
    ordered = np.array(got)[np.argsort(heights, kind="stable")]
    assert (np.diff(ordered) >= 0.075 - 1e-9).all()


def test_labels_are_dark_enough_to_read():
    def luminance(rgb):
        rgb = np.array(rgb)
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    for colour in [*figures.PALETTE, figures.INK, *matplotlib.colormaps["viridis"](np.linspace(0, 0.8, 5))]:
        assert 1.05 / (luminance(figures._dark(colour)) + 0.05) >= 4.5


def test_nothing_touches_global_state():
    before = dict(matplotlib.rcParams)
    figure = figures.input_mask_image(np.ones((3, 4), dtype=bool), (2, 2))
    assert isinstance(figure, Figure) and dict(matplotlib.rcParams) == before


def test_a_spectrum_is_sorted_and_marked():
    found = {"dense": (np.array([[2.0, -1.0, 0.5], [2.0, 0.0, 0.5]]), np.full((2, 3), 1 / 3))}
    figure = figures.sorted_spectrum(found, {"measured": 0.25})
    ax, strip = figure.axes
    [curve], [mark] = ax.get_lines(), strip.get_lines()
    np.testing.assert_allclose(curve.get_xdata(), 100 * np.arange(3, 7) / 6)  # a third lies below the axis
    assert curve.get_ydata().tolist() == [0.5, 0.5, 2, 2] and mark.get_xdata() == [25]
    assert [text.get_text() for text in strip.texts] == ["measured: 25.0 %"]
    low, high = ax.get_xlim()
    assert low < 24 and high == 101 and strip.get_xlim() == (low, high)  # from before the smallest mark on
    assert figure.get_label() == "Eigenvalues from the flattest direction to the sharpest, 2; measured 25.0 %."
    flat = np.zeros(3), np.ones(3)
    assert len(figures.sorted_spectrum({"flat": flat, **found}).axes[0].lines) == len(found)
    nothing = figures.sorted_spectrum({"flat": flat})
    assert not nothing.axes[0].lines and nothing.get_label()  # what an explorer shows needs words


def test_magnitudes_before_and_after_retraining():
    edges, before, after = np.linspace(0, 1, 6), np.array([0, 0, 5, 3, 0]), np.array([2, 1, 3, 2, 0])
    figure = figures.magnitudes({"weights": (edges, before, after, 0.4), "none": (edges, before, before, 0.4)})
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["weights", "none"]
    assert [patch.get_data().values.tolist() for patch in figure.axes[0].patches] == [before.tolist(), after.tolist()]
    assert figure.axes[1].get_lines()[0].get_xdata() == [0.4, 0.4]
    assert 0.8 <= figure.axes[0].get_xlim()[1] <= 1
    figure.draw_without_rendering()


def test_networks_of_several_sizes_against_the_number_of_weights():
    series = {"25-8": (np.array([2000, 1000]), [[0.0, -1], [0, 1]]), "300-100": (np.array([9e4, 1e3]), [[0, 2]])}
    figure = figures.against_count(series, "gain (pp)", level=0, highlight="25-8")
    *lines, dashed = figure.axes[0].get_lines()
    assert [line.get_ydata().tolist() for line in lines] == [[0, 2], [0, 0]]  # what stands out is drawn last
    assert lines[1].get_color() == figures.PALETTE[0] != lines[0].get_color() and dashed.get_ydata() == [0, 0]
    left, right = figure.axes[0].get_xlim()
    assert left > right
    figure.draw_without_rendering()
    with pytest.raises(ValueError, match="no series '100'"):
        figures.against_count(series, "gain (pp)", highlight="100")


def test_densities_have_area_one_however_many_are_counted():
    edges, many, few = np.array([1.0, 2, 4, 8]), np.array([500, 300, 200]), np.array([0, 1, 1])
    for logx in (False, True):
        figure = figures.densities({"layer": {"all": (edges, many), "survivors": (edges, few)}}, "weight", logx=logx)
        widths = np.diff(np.log(edges) if logx else edges)
        for patch in figure.axes[0].patches:
            assert (patch.get_data().values * widths).sum() == pytest.approx(1)
        assert figure.axes[0].get_xscale() == ("log" if logx else "linear")
        figure.draw_without_rendering()
    with pytest.raises(ValueError, match="nothing counted"):
        figures.densities({"layer": {"all": (edges, 0 * many)}}, "weight")


def test_paths_have_a_panel_for_each_way_of_measuring():
    line = (np.linspace(0, 1, 3), np.array([[0.1, 0.9, 0.1], [0.1, 0.5, 0.1]]))
    figure = figures.paths(
        {"averaged": {"to 0": line}, "re-estimated": {"to 0": line}},
        "test error (%)",
        ends=("dense", "50 %"),
        ylims=[(0, 90), (0, 80)],
    )
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == pytest.approx([10, 70, 10])
    assert [ax.get_ylim() for ax in figure.axes] == [(0, 90), (0, 80)]
    assert figure.axes[1].get_xlabel().endswith("from dense to 50 %")
    figure.draw_without_rendering()


def test_barriers_against_excess_errors():
    dots = {"to 0": (np.array([[0.0, 0.02]]), np.array([[-0.01, 0.8]]))}
    figure = figures.barriers({"averaged": dots})
    line, matching = figure.axes[0].get_lines()
    assert line.get_xdata().tolist() == [0, 2] and line.get_ydata().tolist() == [-1, 80]
    assert matching.get_xdata() == [0.5, 0.5]
    corners = [area.get_paths()[0].get_extents().extents.tolist() for area in figure.axes[0].collections]
    assert [(right, top) for _, _, right, top in corners] == [(0.5, 1), (2.25, 130)]  # 0.5 ε beyond the last mark
    assert [(left, bottom) for left, bottom, _, _ in corners] == [(-0.5, -1.5), (0.5, 1)]
    with pytest.raises(ValueError, match="2 excess errors and 1 barriers"):
        figures.barriers({"averaged": {"to 0": (np.zeros(2), np.zeros(1))}})
    figure.draw_without_rendering()


def test_pairs_that_a_claim_is_not_about_are_grey():
    dots = {"to 0": (np.array([0.0, 0.02]), np.array([0.0, 0.8])), "late": (np.array([0.1]), np.array([0.0]))}
    figure = figures.barriers({"averaged": dots}, judged={"to 0": [False, True], "late": [False]})
    grey, coloured, late, _ = figure.axes[0].get_lines()
    assert grey.get_xdata().tolist() == [0] and coloured.get_xdata().tolist() == [2]
    assert grey.get_color() == late.get_color() != coloured.get_color() == figures.PALETTE[0]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["to 0", "late"]


def test_one_subspace_of_the_drawing_cuts_the_ellipse_and_the_other_misses_it():
    figure = figures.subspaces()
    [ax], [ellipse] = figure.axes, figure.axes[0].patches
    along, zero = np.linspace(-6, 6, 999), np.zeros(999)
    inside = ellipse.get_patch_transform().inverted()

    def cut(x, y):  # a circle of radius 1 in the ellipse's own coordinates
        return bool((np.hypot(*inside.transform(np.column_stack([x, y])).T) < 1).any())

    assert cut(zero, along) and not cut(along, zero)  # first weight zero, second weight zero
    _, _, solution, pruned, found = ax.get_lines()
    assert [cut(*line.get_data()) for line in (solution, pruned, found)] == [True, False, True]
    assert "misses it" in figure.get_label()
    figure.draw_without_rendering()


def test_a_papers_value_is_a_labelled_line_in_its_panel():
    line = (np.linspace(0, 1, 3), np.array([[0.1, 0.9, 0.1]]))
    figure = figures.paths({"averaged": {"to 0": line}, "re-estimated": {"to 0": line}}, "test error (%)")
    assert figures.paper_line(figure, 75, "paper: about 75", panel=1) is figure
    assert len(figure.axes[0].get_lines()) == 1
    assert figure.axes[1].get_lines()[-1].get_ydata() == [75, 75]
    assert [text.get_text() for text in figure.legends[-1].get_texts()] == ["paper: about 75"]
    assert figures.INK == figure.axes[1].get_lines()[-1].get_color()  # the colour of no series
    figure.draw_without_rendering()


def test_a_figure_says_what_it_shows_and_an_image_takes_that():
    figure = figures.against_density(
        {"ticket": (np.array([1.0, 0.5]), np.array([[0.9, 0.98125], [0.9, 0.98125]]))}, "accuracy (%)", "LeNet"
    )
    said = "LeNet: accuracy (%) against weights left (%); at the right end ticket 98.12, dense 90."
    assert figure.get_label() == said
    assert figures.paper_line(figure, 97, "paper").get_label() == f"{said} Line at 97: paper."
    assert f'alt="{said} Line at 97: paper."' in figures.html_image(figure)
    assert 'alt="other words"' in figures.html_image(figure, "other words")
    both = [("a", stats.summary([-1234.5]), None), ("b", stats.summary([0.5]), 0.25)]
    assert figures.ordering(both, "gain").get_label() == "gain: a −1,234; b 0.5 (paper 0.25)."
    drawn = figures.barriers({"averaged": {"to 0": (np.zeros(2), np.array([0.1, 0.3]))}})
    assert drawn.get_label().endswith("in percentage points: averaged: to 0 20.")


def test_barriers_against_a_step_have_room():
    series = {"dense": (np.array([0, 10]), np.array([[0.02, -0.001]]))}
    assert figures.barrier_curves(series, "step").axes[0].get_ylim() == (-1, 2.5)
    high = {"dense": (np.array([0, 10]), np.array([[0.5, -0.1]]))}
    np.testing.assert_allclose(figures.barrier_curves(high, "step").axes[0].get_ylim(), (-10.5, 52.5))
    folded = figures.barrier_curves(series, "step", symlog=True)
    assert folded.axes[0].get_yscale() == "symlog" and folded.axes[0].get_ylim() == (-1, 2.5)
    folded.draw_without_rendering()
    dotted = figures.barrier_curves(series, "step", every=True).axes[0]
    assert [line.get_marker() for line in dotted.get_lines()] == ["o"] and dotted.get_xticks().tolist() == [0, 10]


def test_the_papers_numbers_and_lines_of_reference():
    figure = figures.against_density(
        {"ticket": (DENSITY, accuracies())},
        "accuracy (%)",
        dense_line=False,
        lines={"even": 0.95},
        paper=[(0.211, 0.96)],
    )
    _, even, paper = figure.axes[0].get_lines()
    np.testing.assert_allclose(even.get_ydata(), 95)
    assert (paper.get_xdata(), paper.get_ydata()) == ([0.211], [96])
    assert {"even", "paper"} <= {text.get_text() for text in figure.axes[0].texts}
    band = figures.against_count({"wide": (np.array([10, 100]), accuracies(columns=2))}, "gain", paper=(20, 50))
    assert "paper" in {text.get_text() for text in band.axes[0].texts}
    dots = figures.ordering([("a", stats.summary([0.5, 1.5]), None)], "ratio", line=1).axes[0]
    assert any(set(line.get_xdata()) == {1} for line in dots.get_lines())
    assert [(text.get_text(), text.get_position()[0]) for text in dots.texts] == [("1", 1)]  # and says what it is


def test_the_most_enriched_patterns_are_drawn_and_spelt():
    counts = np.zeros(kernels.PATTERNS, int)
    edge, others = np.array([[1, 0, -1]] * 3), np.random.default_rng(0).integers(-1, 2, (400, 3, 3))
    numbers = {tuple(pattern.ravel()): n for n, pattern in enumerate(kernels.patterns())}
    for pattern in [*others, *[edge] * 50]:
        counts[numbers[tuple(pattern.ravel())]] += 1
    figure = figures.enriched_tiles(counts, 2)
    said = figure.get_label()
    assert [ax.get_title(loc="left") or ax.get_title() for ax in figure.axes] == [
        "count: places and signs by chance",
        "support: signs by chance",
        "balance: which are positive by chance",
    ]
    first = kernels.enrichment(counts, "balance").top(1)
    assert f"balance {kernels.spelt(first.pattern[0])} {first.count[0] / first.expected[0]:.1f}×" in said
    assert first.count[0] >= 50


def test_a_series_that_was_measured_nowhere_is_left_out_and_nothing_at_all_is_said():
    there, nowhere = ([1, 0.5], [[0.9, 0.8]]), ([1, 0.5], [[np.nan, np.nan]])
    drawn = figures.against_density({"ticket": there, "gone": nowhere}, "accuracy (%)")
    assert "gone" not in {text.get_text() for text in drawn.axes[0].texts}
    for figure in (
        figures.against_density({"gone": nowhere}, "accuracy (%)"),
        figures.against_count({"gone": nowhere}, "accuracy (%)"),
        figures.training_curves({"gone": nowhere}, "step", "accuracy (%)"),
    ):
        assert [text.get_text() for text in figure.axes[0].texts] == ["not measured"]
        assert figure.get_label() == "Not measured."
    figure = figures.against_density({"ticket": there, "gone": nowhere}, "accuracy (%)", dense_line=False)
    assert figure.get_label().endswith("at the right end ticket 80.")
