"""The lottery on the front page: its numbers against the library's, under Node, and the page itself in Chromium."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import ROOT, unavailable
from sklearn.datasets import load_digits

from lottery import data, masks, seeds
from lottery.engine import train
from lottery.recipes import Training

STATIC = ROOT / "book" / "_static"
LAYERS = ("fc1.weight", "fc2.weight", "output.weight")
HIDDEN = (64, 60, 30, 10)


@pytest.fixture(scope="module")
def node():
    """Runs JavaScript with the core as C and the parts of the digits as P; returns what it hands to `say`."""
    program = shutil.which("node")
    if program is None:
        unavailable("node was not found: the tests compute with the page's own code in it")
    head = f"""
        const C = require({json.dumps(str(STATIC / "lottery.js"))});
        const P = C.unpack(require({json.dumps(str(STATIC / "lottery-digits.js"))}));
        const plain = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
        const say = (value) => process.stdout.write(JSON.stringify(value, plain));
        // The weights of a layer in place, pruned ones zero.
        const whole = ({{ inputs, outputs, places, weights }}) => {{
          const all = new Float64Array(inputs * outputs);
          places.forEach((place, k) => {{ all[place] = weights.values[k]; }});
          return all;
        }};
    """

    def run(body):
        done = subprocess.run([program, "-"], input=head + body, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def shaped(layers):
    """Flat layers as tensors [outputs, inputs]."""
    pairs = zip(layers, pairwise(HIDDEN), strict=True)
    return [torch.tensor(layer, dtype=torch.float64).view(outputs, inputs) for layer, (inputs, outputs) in pairs]


# The digits.


def test_the_packed_digits_are_written_by_their_script():
    spec = importlib.util.spec_from_file_location("pack_digits", ROOT / "book" / "pack_digits.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (STATIC / "lottery-digits.js").read_text(encoding="ascii") == module.script()


def test_the_page_reads_the_librarys_digits(node):
    """The same examples in the same parts and order, and the same numbers go into the network."""
    found = node("say(P);")
    dataset = data.load("digits", 200)
    images = Counter()
    for part in ("train", "validation", "test"):
        inputs, labels = getattr(dataset, part)
        assert found[part]["labels"] == labels.tolist()
        assert found[part]["count"] == len(labels)
        pixels = np.reshape(found[part]["pixels"], (64, found[part]["width"]))[:, : len(labels)].T
        np.testing.assert_allclose(pixels, inputs.flatten(1).numpy(), rtol=0, atol=1e-6)
        sixteenths = np.rint((pixels - pixels.min()) / np.ptp(pixels) * 16).astype(int)
        images.update(map(tuple, np.column_stack([sixteenths, labels])))
    bunch = load_digits()
    assert images == Counter(map(tuple, np.column_stack([bunch.data.astype(int), bunch.target])))


def test_the_page_is_small_and_asks_nobody():
    script, digits = (STATIC / "lottery.js").read_bytes(), (STATIC / "lottery-digits.js").read_bytes()
    assert len(script) <= 40_000
    assert len(digits) <= 80_000
    asks = re.compile(rb"https?:|fetch\(|XMLHttpRequest|import\(|sendBeacon|WebSocket|Math\.random")
    for text in (script, digits.split(b"rows:")[0], (STATIC / "lottery.css").read_bytes()):
        assert not asks.search(text)


# The numbers.


def sfc32(seed, purpose, index):
    """Doty-Humphrey's generator once more, from its definition."""
    a, b, c, counter, word = seed, purpose, index, 1, 2**32
    for i in range(10**9):
        out = (a + b + counter) % word
        counter += 1
        a, b, c = b ^ (b >> 9), (c + (c << 3)) % word, (((c << 21) | (c >> 11)) + out) % word
        if i >= 20:
            yield (out + 0.5) / word


def test_random_numbers_are_sfc32(node):
    streams = [(1, 0, 0), (0, 0, 0), (4294967295, 1, 19), (7, 2, 5)]
    found = node(f"say({json.dumps(streams)}.map(s => {{const r = C.stream(...s); return [r(), r(), r(), r()];}}));")
    for name, numbers in zip(streams, found, strict=True):
        assert numbers == [number for number, _ in zip(sfc32(*name), range(4), strict=False)]
    normal, order = node("""
        const r = C.stream(3, 0, 0);
        say([Array.from({ length: 20000 }, () => C.normal(r)), C.permutation(1200, C.stream(3, 1, 0))]);
    """)
    assert scipy.stats.kstest(normal, "norm").pvalue > 0.001
    assert sorted(order) == list(range(1200)) != order


@pytest.mark.parametrize("rounds", [0, 3])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_training_agrees_with_the_library(node, monkeypatch, seed, rounds):
    """Twenty steps of the library's engine from the page's weights and mask, on the page's batches."""
    page = node(f"""
        const start = C.initial(C.stream({seed}, 0, 0));
        let mask = C.dense(start), one;
        for (let round = 0; round <= {rounds}; round++) {{
          if (round) mask = C.prune(mask, one.net, 0.5);
          one = new C.Training(P, start, mask, {seed});
          one.losses = Array.from({{ length: 20 }}, () => one.step());
        }}
        say({{ start: start.map(({{ weights }}) => weights), mask, losses: one.losses, steps: one.steps,
          accuracy: one.accuracy, weights: one.net.map(whole), bias: one.net.map(({{ bias }}) => bias.values),
          order: C.permutation(P.train.count, C.stream({seed}, 1, 0)), adam: C.ADAM, batch: C.BATCH }});
    """)
    assert (page["adam"]["beta1"], page["adam"]["beta2"], page["adam"]["epsilon"]) == (0.9, 0.999, 1e-8)
    dataset = data.load("digits", 200)
    training = Training(
        data="digits",
        model="lenet-60-30",
        steps=20,
        batch=page["batch"],
        optimiser="adam",
        lr=page["adam"]["rate"],
        validation=200,
        evaluate=((20, 1),),
    )
    weights = {name: layer.float() for name, layer in zip(LAYERS, shaped(page["start"]), strict=True)}
    biases = {name.replace("weight", "bias"): torch.zeros(len(layer)) for name, layer in weights.items()}
    mask = {name: layer.bool() for name, layer in zip(LAYERS, shaped(page["mask"]), strict=True)}
    assert (masks.density(mask) == 1) == (rounds == 0)

    class PagesOrder:
        def permutation(self, n):
            return np.array(page["order"])

    def generator(seed, purpose, *indices):
        assert (purpose, indices) == (seeds.ORDER, (0, 0))  # the first epoch's order, and nothing else, is drawn
        return PagesOrder()

    monkeypatch.setattr(seeds, "generator", generator)
    [ours] = train.train(training, dataset, [train.Start(weights | biases, mask)])
    np.testing.assert_allclose(page["losses"], ours.history["train_loss"][1:], rtol=0, atol=1e-4)
    assert page["losses"][-1] < 0.7 * page["losses"][0]  # something was learned
    for at, share in zip(page["steps"], page["accuracy"], strict=True):
        assert share == pytest.approx(ours.history["test_accuracy"][at], abs=1.5 / len(dataset.test[1]))
    for name, layer, bias in zip(LAYERS, shaped(page["weights"]), page["bias"], strict=True):
        np.testing.assert_allclose(layer, ours.states[20][name], rtol=0, atol=1e-4)
        np.testing.assert_allclose(bias, ours.states[20][name.replace("weight", "bias")], rtol=0, atol=1e-4)
        assert not layer[~mask[name]].any()


@pytest.mark.parametrize("rate", [0.5, 0.45])
def test_masks_are_exactly_the_librarys(node, rate):
    """Every mask of a draw from the weights that were trained before it, with short trainings."""
    levels = node(f"""
        const levels = [];
        for (const _ of C.draw(P, {{ seed: 5, rate: {rate}, steps: 20 }}, levels));
        say(levels.map(({{ masks, left, density, trainings }}) => ({{ masks, left, density,
          trained: (trainings.ticket || trainings.dense).net.map(whole), names: Object.keys(trainings) }})));
    """)
    fraction = {"fc1.weight": rate, "fc2.weight": rate, "output.weight": rate / 2}
    assert [level["names"] for level in levels] == [["dense"], *[["ticket", "fresh", "random"]] * 5]
    for before, level in pairwise(levels):
        mask = {name: m.bool() for name, m in zip(LAYERS, shaped(before["masks"]["ticket"]), strict=True)}
        trained = dict(zip(LAYERS, shaped(before["trained"]), strict=True))
        wanted = masks.prune(mask, masks.magnitude_scores(trained, mask), fraction)
        for which in ("ticket", "random"):
            found = {name: m.bool() for name, m in zip(LAYERS, shaped(level["masks"][which]), strict=True)}
            assert masks.count(found) == masks.count(wanted)
            assert all(torch.equal(found[name], wanted[name]) for name in LAYERS) == (which == "ticket")
        assert level["left"] == sum(masks.count(wanted).values())
        assert level["density"] == pytest.approx(masks.density(wanted))


def test_ties_are_broken_as_in_the_library(node):
    """Half of five and of seven weights, most of one size: the first in memory go, halves are rounded to even."""
    values = {"layer": torch.tensor([[0.5, -0.5, 0.5, 0.5, -0.5, 0.1, 0.5]], dtype=torch.float64)}
    for kept in ([1, 1, 1, 1, 1, 0, 0], [1] * 7):
        mask = {"layer": torch.tensor([kept]).bool()}
        wanted = masks.prune(mask, masks.magnitude_scores(values, mask), {"layer": 0.5})
        places = [i for i, k in enumerate(kept) if k]
        net = [{"places": places, "weights": {"values": [float(values["layer"][0, i]) for i in places]}}]
        # Alone, a layer is the output layer: twice the rate.
        found = node(f"say(C.prune([Uint8Array.from({kept})], {json.dumps(net)}, 1));")
        assert found == wanted["layer"].int().tolist()


# The words.


def test_the_sign_test_is_scipys(node):
    pairs = [(0, 0), (1, 0), (5, 5), (3, 9), (9, 3), (60, 17), (200, 190), (0, 397)]
    for (one, other), p in zip(pairs, node(f"say({json.dumps(pairs)}.map(p => C.signTest(...p)));"), strict=True):
        exact = scipy.stats.binomtest(one, one + other).pvalue if one + other else 1.0
        assert p == pytest.approx(exact, rel=1e-9), (one, other)


@pytest.mark.parametrize(
    ("ticket", "fresh", "random", "headline"),
    [
        (90, 60, 30, "The ticket beats both controls in this draw."),
        (30, 60, 90, "The ticket loses this draw."),
        (60, 60, 60, "This draw is too close to call."),
        (60, 90, 30, "The ticket beats a random mask; the ticket loses to fresh weights."),
        (60, 59, 30, "The ticket beats a random mask; it is too close to call beside fresh weights."),
        (60, 90, 61, "The ticket loses to fresh weights; it is too close to call beside a random mask."),
    ],
)
def test_the_words_follow_the_numbers(node, ticket, fresh, random, headline):
    """Made-up networks that read the first so many of a hundred digits, at the last of two levels."""
    said = node(f"""
        const one = (n) => ({{ right: Uint8Array.from({{ length: 100 }}, (_, i) => (i < n ? 1 : 0)), atStop: n / 100,
          accuracy: [0.1, n / 100], stop: 5, at: 10, reached: n >= 90 ? 5 : null }});
        const mask = [new Uint8Array(3840).fill(1)];
        say(C.verdict([
          {{ left: 5940, density: 1, trainings: {{ dense: one(95) }} }},
          {{ left: 594, density: 0.1, masks: {{ ticket: mask, random: mask }},
            trainings: {{ ticket: one({ticket}), fresh: one({fresh}), random: one({random}) }} }},
        ]));
    """)
    assert said["headline"] == headline
    text = " ".join([said["lead"], *said["sentences"]]).replace("\u00a0", " ")
    assert f"594 of 5,940 weights left (10.0 %), the ticket reads {ticket}.0 % of 100 test digits" in text
    assert f"worth {'−' if fresh < random else '+'}{abs(fresh - random)}.0 points" in text
    assert f"worth {'−' if ticket < fresh else '+'}{abs(ticket - fresh)}.0 points" in text
    assert f"keeps up with the dense one: the ticket {'10.0 %' if ticket == 90 else 'none'}, fresh weights" in text
    assert [row["reached"] for row in said["rows"]] == [5 if n >= 90 else None for n in (ticket, fresh, random, 95)]


def test_a_draw_is_a_function_of_seed_and_rate(node):
    runs = node("""
        const tell = (seed, rate) => {
          const levels = [];
          for (const _ of C.draw(P, { seed, rate, steps: 20 }, levels));
          return levels.map(({ trainings }) => Object.values(trainings).map(({ accuracy }) => accuracy));
        };
        say([[1, 0.5], [1, 0.5], [2, 0.5], [1, 0.4]].map((one) => tell(...one)));
    """)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert runs[0][0] == runs[3][0]  # the dense network knows no pruning rate
    assert runs[0][1:] != runs[3][1:]


# The page.


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page of the book's theme with nothing but the lottery, embedded as the book embeds it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("html")
    (source / "book").mkdir()
    shutil.copy(ROOT / "book" / "lottery.html", source / "book")
    (source / "book" / "intro.md").write_text("# Page\n\n## Lottery\n\n```{raw} html\n:file: lottery.html\n```\n")
    (source / "conf.py").write_text(
        "extensions = ['myst_parser']\nhtml_theme = 'sphinx_book_theme'\nroot_doc = 'book/intro'\n"
        f"html_static_path = [{str(STATIC)!r}]\nhtml_context = {{'default_mode': 'auto'}}\n"
    )
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source), str(target)]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return target / "book" / "intro.html"


@pytest.fixture(scope="module")
def chromium():
    try:
        from playwright import sync_api as playwright
    except ImportError:
        unavailable("playwright is not installed: the tests open the lottery with it")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        unavailable("no Chromium was found: the tests open the lottery in it")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def opened(chromium, page_file):
    """Opens the page from disk; in the end nothing may have gone wrong, and nobody else have been asked."""
    contexts, wrong = [], []

    def look(**options):
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: wrong.append(f"page error: {error}"))
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:")) or wrong.append(f"asked: {request.url}"),
        )
        page.goto(page_file.as_uri())
        return page

    yield look
    for context in contexts:
        context.close()
    assert not wrong


def focused(page):
    """What has the keyboard's focus, and whether that can be seen."""
    return page.evaluate("""() => {
        const e = document.activeElement, style = getComputedStyle(e);
        return [e.id || e.className || e.getAttribute('aria-label'), style.outlineStyle !== 'none'
            && parseFloat(style.outlineWidth) >= 2];
    }""")


def seconds_allowed():
    """Fifteen seconds, on a machine that has a core for us."""
    return 15 * max(1.0, os.getloadavg()[0] / os.cpu_count())


def contrast(page, selector):
    """Contrast of an element's text with the ground of the lottery (WCAG 2.2, relative luminance)."""
    colours = page.evaluate(
        """selector => [getComputedStyle(document.querySelector(selector)).color,
                        getComputedStyle(document.querySelector('.lottery')).backgroundColor]""",
        selector,
    )
    lights = []
    for colour in colours:
        channels = np.array([float(x) for x in re.findall(r"[\d.]+", colour)[:3]]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_reader_draws_a_ticket_by_keyboard(opened, width, theme):
    page = opened(viewport={"width": width, "height": 900}, color_scheme=theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    assert page.locator(".lottery .digit").count() == 10
    left = page.locator("#lottery-left")
    assert "Leaves 248 of 5,940 weights" in left.inner_text()

    page.focus("#lottery-seed")
    page.keyboard.press("Control+A")
    page.keyboard.type("3")
    page.keyboard.press("Tab")
    assert focused(page) == ["lottery-rate", True]
    page.keyboard.press("ArrowRight")
    assert page.locator(".lottery output").inner_text() == "55 %"
    assert "Leaves 248" not in left.inner_text()
    page.keyboard.press("Tab")
    assert focused(page) == ["go", True]
    allowed, began = seconds_allowed(), time.monotonic()
    page.keyboard.press("Enter")
    page.wait_for_selector(".lottery .rounds button:nth-child(2)")
    assert re.fullmatch("Round [1-5] of 5", page.locator(".lottery .headline").inner_text())  # it goes on meanwhile
    assert page.locator(".lottery .go").inner_text() == "Stop"
    page.wait_for_selector(".lottery .words table")
    assert time.monotonic() - began < allowed

    status = page.locator(".lottery [role=status]").inner_text()
    assert re.search(r"draw|beats|loses", status)
    assert re.search(r"of 5,940 weights left \([\d.]+\s%\), the ticket reads [\d.]+\s%", status)
    assert "Seed 3, 55 % a round: 16 networks, 6,400 training steps" in page.locator(".lottery .account").inner_text()
    assert page.locator(".lottery .words tbody tr").count() == 4
    assert page.locator(".lottery progress").evaluate("e => e.value") == 1
    assert page.locator(".lottery .curves .line").count() == 4

    # The rounds: every one by keyboard, and its curves appear.
    rounds = page.locator(".lottery .rounds button")
    assert rounds.count() == 6
    page.keyboard.press("Tab")
    assert focused(page)[0] == "next"
    headings = []
    for i in range(6):
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert focused(page)[1]
        assert [one.get_attribute("aria-pressed") for one in rounds.all()] == [str(i == k).lower() for k in range(6)]
        headings.append(page.locator(".lottery .learned").inner_text())
    assert len(set(headings)) == 6

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.locator(".lottery svg text").evaluate_all(
            """all => all.filter(e => e.getBoundingClientRect().right
                > e.closest('.lottery').getBoundingClientRect().right).map(e => e.textContent)"""
        )
        == []
    )
    for selector in (".note", ".headline", ".what", ".key.ticket", ".key.fresh", ".key.random", "thead th"):
        assert contrast(page, f".lottery {selector}") >= 4.5, selector
    folder = ROOT / "_build" / "lottery"
    folder.mkdir(parents=True, exist_ok=True)
    page.locator("#lottery-in-the-browser").screenshot(path=folder / f"{theme}-{width}.png")


@pytest.mark.browser
@pytest.mark.slow
def test_a_draw_can_be_stopped_and_the_next_counts(opened):
    """Also without motion: pictures then change with the rounds alone."""
    page = opened(reduced_motion="reduce")
    go = page.locator(".lottery .go")
    page.fill("#lottery-seed", "-1")
    go.click()
    assert not page.locator(".lottery .running").is_visible()  # the browser says what is wrong with the seed
    page.fill("#lottery-seed", "4294967295")
    go.click()
    page.wait_for_selector(".lottery .rounds button")
    go.click()
    assert page.locator(".lottery .headline").inner_text() == "Stopped"
    before = page.locator(".lottery .curves").inner_html()
    page.wait_for_timeout(300)
    assert page.locator(".lottery .curves").inner_html() == before

    page.evaluate("""() => {
        window.pictures = 0;
        new MutationObserver(() => window.pictures++).observe(document.querySelector('.curves'), {childList: true});
    }""")
    go.click()
    page.wait_for_selector(".lottery .words table")
    assert "One draw is an anecdote" in page.locator(".lottery .again").inner_text()
    assert 6 <= page.evaluate("window.pictures") <= 14
    page.click(".lottery .next")
    assert page.input_value("#lottery-seed") == "0"
    page.wait_for_selector(".lottery .words table")
    assert "Your 2 draws at this rate" in page.locator(".lottery .again").inner_text()
    assert page.locator(".lottery .summary .faint").count() == 3
