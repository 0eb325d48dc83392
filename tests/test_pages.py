"""The published book as built: its files, and every page in headless Chromium, opened once, offline, from the disk."""

import json
import re
import shutil
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from conftest import ROOT, unavailable
from docutils.utils.math import MathError

from lottery.book import launch
from lottery.book.build import CDN, cdn_files
from lottery.book.pages import _write_notebooks, mathml

SIZES = [(1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")]
SHOWN = "() => [...document.querySelectorAll('.jupyter-widgets img')].filter(i => i.checkVisibility()).map(i => i.alt)"


# The pages as files.


class Page(HTMLParser):
    """What a page offers (anchors) and asks for (links, images, scripts)."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.images, self.loaded = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors.update(attrs[key] for key in ("id", "name") if attrs.get(key))
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)
        if tag == "script" and attrs.get("src"):
            self.loaded.append(attrs["src"])
        if tag == "link" and attrs.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(attrs["href"])


def pages(folder):
    """The pages of the book (not of the code listings, nor search), by path relative to the folder."""
    found = sorted(folder.glob("book/**/*.html"))
    assert len(found) >= 7, f"only {len(found)} pages in {folder}"
    return {path.relative_to(folder).as_posix(): Page(path) for path in found}


def test_internal_links_and_anchors_hold(published_book):
    every = {path: Page(path) for path in published_book.rglob("*.html") if "_static" not in path.parts}
    broken = []
    for path, page in every.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append(f"{path.name}: {link} (no such file)")
            elif parts.fragment and target in every and unquote(parts.fragment) not in every[target].anchors:
                broken.append(f"{path.name}: {link} (no such anchor)")
    assert not broken, "\n".join(broken)


def test_every_image_says_what_it_shows(published_book):
    for name, page in pages(published_book).items():
        for image in page.images:
            alt = (image.get("alt") or "").strip()
            assert alt and not re.search(r"[0-9a-f]{20}", alt), f"{name}: {image.get('src', '')[:80]} has alt {alt!r}"


def test_pages_are_small(published_book):
    sizes = {path.name: path.stat().st_size for path in published_book.glob("book/**/*.html")}
    assert max(sizes.values()) < 1.5e6, sizes


def test_only_declared_files_are_taken_from_elsewhere(published_book, published_offline):
    allowed = set(cdn_files(ROOT))
    for name, page in pages(published_book).items():
        assert {url for url in page.loaded if "//" in url} <= allowed, name
    for name, page in pages(published_offline).items():
        assert not [url for url in page.loaded if "//" in url], name
        assert all((published_offline / name).parent.joinpath(urlsplit(url).path).is_file() for url in page.loaded), (
            name
        )


def test_chapters_offer_notebooks_that_run_from_nothing(published_book):
    """On the branch that Colab and Binder open and for download; the page itself does not show the first cell."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    repository = config["repository"]["url"].removeprefix("https://github.com/")
    chapters = [name for name in pages(published_book) if "/chapters/" in name]
    assert chapters
    for name in chapters:
        notebook, page = name.removesuffix(".html") + ".ipynb", Page(published_book / name)
        colab = f"https://colab.research.google.com/github/{repository}/blob/{launch.BRANCH}/{notebook}"
        binder = f"https://mybinder.org/v2/gh/{repository}/{launch.BRANCH}?urlpath=lab/tree/{notebook}"
        assert {colab, binder, f"../../_sources/{notebook}"} <= {*page.links}
        offered = nbformat.read(published_book / "_sources" / notebook, as_version=4)
        assert "launch.prepare(RELEASE" in offered.cells[0].source
        assert "launch.prepare" not in (published_book / name).read_text(encoding="utf-8")
    needed = (published_book / "_sources" / "requirements.txt").read_text(encoding="utf-8")
    assert needed == f"{launch.release(config['repository']['url'])}/{launch.wheel()}\n"


def test_the_rules_begin_with_every_claim_that_had_another_outcome(published_book):
    board, rules = ((published_book / "book" / f"{name}.html").read_text("utf-8") for name in ("scoreboard", "rules"))
    before = re.findall(r'<tr id="([^"]+)"(?:(?!</tr>).)*; before: ', board, re.DOTALL)
    listed = re.findall(r'<td><a href="#([^"]+)">', rules.partition("</table>")[0])
    assert before and sorted(listed) == sorted(before)


def test_what_an_earlier_build_made_of_a_chapter_that_is_gone_is_removed(tmp_path):
    name, out = "00_a_ticket_from_scratch", tmp_path / "html"
    for folder, suffix in ((out / "_sources" / "book" / "chapters", ".ipynb"), (out / "book" / "chapters", ".html")):
        folder.mkdir(parents=True)
        for chapter in (name, "99_gone"):
            (folder / f"{chapter}{suffix}").write_text("of the earlier build")
    app = SimpleNamespace(srcdir=ROOT, outdir=out, builder=SimpleNamespace(format="html"))
    app.config = SimpleNamespace(html_theme_options={}, html_baseurl="https://pages.example")
    entries = SimpleNamespace(data=SimpleNamespace(entries={}))
    app.env = SimpleNamespace(
        found_docs={f"book/chapters/{name}", "book/rules"}, domains={"cite": SimpleNamespace(bibdata=entries)}
    )
    _write_notebooks(app, None)
    assert {path.stem for path in out.rglob("chapters/*")} == {name}
    offered = nbformat.read(out / "_sources" / "book" / "chapters" / f"{name}.ipynb", as_version=4)
    assert "launch.prepare(RELEASE" in offered.cells[0].source


def test_formulae_are_mathml():
    assert mathml(r"\frac{1}{2} h_i") == mathml(r"\frac{1} {2}h_{i}") and "<mfrac>" in mathml(r"\frac{1}{2}")
    assert 'class="formula"' in mathml("h", block=True)
    wrong = {r"\frac12 h": "braces", "h^10": "braces", r"\nonsense": "nonsense", r"\frac{1}": "missing"}
    for tex, said in wrong.items():
        with pytest.raises(MathError, match=said):
            mathml(tex)


def test_script_versions_agree_and_the_lock_names_no_registry():
    vendor = ROOT / "book" / "vendor"
    wanted = json.loads((vendor / "package.json").read_text(encoding="utf-8"))["dependencies"]
    lock = json.loads((vendor / "package-lock.json").read_text(encoding="utf-8"))
    assert {match[1]: match[2] for match in map(CDN.fullmatch, cdn_files(ROOT))} == wanted
    assert lock["packages"][""]["dependencies"] == wanted
    for name, package in lock["packages"].items():
        assert "resolved" not in package, name
        assert not name or package["integrity"].startswith("sha512-"), name
    assert "http" not in json.dumps(lock)


# The pages in a browser.


@pytest.fixture(scope="module")
def browser():
    try:
        from playwright import sync_api as playwright
    except ImportError:
        unavailable("playwright is not installed: the tests open the built pages with it")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        unavailable("no Chromium was found: the tests open the built pages in it")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=quiet)
        yield chromium
        chromium.close()


class Seen:
    """What was seen of a page: `wrong` went wrong, the other lists name what should not be so."""

    def __init__(self):
        self.wrong, self.wide, self.axe, self.blurred, self.dead, self.controls = [], [], [], [], [], 0
        self.explorers, self.formulas, self.first_figure, self.live = 0, 0, None, 0


def listen(page, seen):
    """Notes into `seen()` what goes wrong on a page."""
    page.set_default_timeout(90_000)
    page.on("pageerror", lambda error: seen().wrong.append(f"page error: {error}"))
    page.on("console", lambda said: said.type == "error" and seen().wrong.append(f"console: {said.text}"))
    # What is cancelled because the next page is opened did not fail.
    page.on("requestfailed", lambda r: "ABORTED" in r.failure or seen().wrong.append(f"failed: {r.url}: {r.failure}"))


@pytest.fixture(scope="module")
def seen(browser, published_offline, scripts):
    """Every page, opened once: name -> what was seen of it at two widths, light and dark, by keyboard."""
    axe = (scripts / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
    context, every, now = browser.new_context(), {}, Seen()
    page = context.new_page()
    listen(page, lambda: now)
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or now.wrong.append(f"asked: {r.url}"))
    pictures = ROOT / "_build" / "screenshots"
    shutil.rmtree(pictures, ignore_errors=True)
    for name in pages(published_offline):
        every[name] = now = Seen()
        show(page, *SIZES[0])
        page.goto((published_offline / name).as_uri(), wait_until="load")
        views = page.locator("script[type='application/vnd.jupyter.widget-view+json']")
        now.explorers = views.count()
        if now.explorers:
            page.wait_for_selector(".jupyter-widgets img")
        empty = "all => all.filter(e => e.checkVisibility() && !e.getBoundingClientRect().width).length"
        now.formulas = page.locator("math").evaluate_all(empty)
        now.live = page.locator(".live-only").evaluate_all("all => all.filter(e => e.checkVisibility()).length")
        figures = page.locator("figure.lottery-figure img")
        now.first_figure = figures.first.bounding_box()["y"] if figures.count() else None
        now.blurred = page.evaluate(BLURRED)
        page.evaluate(axe)
        listed = "/api" in name  # lists of thousands of entries, which autodoc makes alike
        for width, theme in SIZES:
            if listed and theme == "dark":
                continue
            show(page, width, theme)
            now.wide += [f"{width}: {what}" for what in page.evaluate(TOO_WIDE)]
            if not listed:
                page.screenshot(path=pictures / f"{name.replace('/', '_').removesuffix('.html')}-{width}-{theme}.png")
            if width == 1280 and not listed:
                now.axe += page.evaluate(AXE, ["color-contrast"] if theme == "dark" else None)
        show(page, *SIZES[0])
        use(page, now)
        if listed:
            page.evaluate(SHORTEN)
            now.axe += page.evaluate(AXE, None)
    context.close()
    return every


def show(page, width, theme):
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    if page.url != "about:blank":
        page.wait_for_function("theme => document.documentElement.dataset.theme === theme", arg=theme)


TOO_WIDE = """() => {  // What sticks out to the right, if the page as a whole does; not what a box that scrolls holds.
    const width = window.innerWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const scrolls = e => e && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
    const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1);
    return ['the page', ...out.filter(e => !scrolls(e.parentElement)).map(e => e.outerHTML.slice(0, 99))];
}"""

# Two pixels of a picture for one of the page. Explorers have dozens of frames: at one pixel, or the page is too heavy.
BLURRED = """() => [...document.querySelectorAll('article img')].filter(
    i => i.checkVisibility() && !i.closest('.jupyter-widgets') && !/svg/.test(i.src.slice(0, 99) + i.src.slice(-3))
        && i.naturalWidth < 1.95 * i.clientWidth).map(i => `${i.alt}: ${i.naturalWidth} on ${i.clientWidth}`)"""

# Leaves of a list what opens each part: of a whole one axe takes half a minute.
SHORTEN = """() => document.querySelectorAll('article.bd-article section > dl:not(:first-of-type)')
    .forEach(entry => entry.remove())"""

# In the article, but for the bibliography, whose roles docutils gives. Style sheets are not fetched again (`preload`):
# from the disk that is refused.
AXE = """async rules => (await axe.run(
    {include: ['article.bd-article'], exclude: ['.citation-list']},
    {resultTypes: ['violations'], preload: false, ...(rules ? {runOnly: rules} : {})},
)).violations.map(v => `${v.id} (${v.nodes.length}): ${v.nodes[0].html.slice(0, 200)}`)"""


def use(page, seen):
    """Moves every control of the explorers by keyboard, and notes those after which the same frames are seen."""
    from playwright.sync_api import TimeoutError as Late

    def changes(control, element, key):
        before = page.evaluate(SHOWN)
        element.focus()
        page.keyboard.press(key)
        seen.controls += 1
        try:
            other = f"before => JSON.stringify(({SHOWN})()) !== JSON.stringify(before)"
            page.wait_for_function(other, arg=before, timeout=20_000)
        except Late as error:
            seen.dead.append(f"{control}: {error}")

    for handle in page.locator(".jupyter-widgets .noUi-handle:visible").all():
        at, last = (float(handle.get_attribute(f"aria-value{end}")) for end in ("now", "max"))
        changes(f"slider {handle.get_attribute('aria-label')}", handle, "ArrowLeft" if at == last else "ArrowRight")
    for group in page.locator(".widget-toggle-buttons:visible").all():
        if group.locator("button").count() == 1:  # says what is shown, and chooses nothing
            continue
        other = group.locator("button:not(.mod-active)").first
        changes(f"button {other.text_content()}", other, "Enter")
        pressed = group.locator("button").evaluate_all("all => all.map(b => b.getAttribute('aria-pressed'))")
        if sorted(pressed)[::-1] != ["true"] + ["false"] * (len(pressed) - 1):
            seen.dead.append(f"buttons say that they are pressed: {pressed}")
    for select in page.locator(".jupyter-widgets select:visible").all():
        last = select.evaluate("s => s.selectedIndex === s.options.length - 1")
        changes("selection", select, "ArrowUp" if last else "ArrowDown")


def none(seen, what):
    assert not {name: found for name, page in seen.items() if (found := getattr(page, what))}


def test_offline_pages_open_cleanly_and_ask_nobody(seen):
    none(seen, "wrong")
    none(seen, "formulas")


def test_no_page_is_wider_than_its_window(seen):
    none(seen, "wide")


def test_axe_finds_nothing_of_ours(seen):
    none(seen, "axe")


def test_explorers_answer_to_every_key(seen):
    none(seen, "dead")
    none(seen, "live")  # nothing is shown that needs a kernel
    assert not [name for name, page in seen.items() if page.explorers and not page.controls]
    assert sum(bool(page.explorers) for page in seen.values()) >= 10


def test_figures_are_sharp_and_come_soon(seen):
    none(seen, "blurred")
    first = {name: page.first_figure for name, page in seen.items() if "/chapters/" in name and "/00_" not in name}
    assert first and not {name: at for name, at in first.items() if at is None or at > 1600}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def test_the_online_book_takes_its_scripts_from_the_cdn(browser, published_book, scripts):
    """A chapter over http, with npm's copies of the CDN's files: the widget bundle finds its parts and its fonts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=published_book))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base, declared, now = f"http://127.0.0.1:{server.server_port}", cdn_files(ROOT), Seen()

    def answer(route):
        folder, _, file = route.request.url.rpartition("/")
        if route.request.url.startswith((base + "/", "data:", "blob:")):
            route.continue_()
        elif route.request.url in declared:
            route.fulfill(path=scripts / declared[route.request.url])
        elif folder + "/" in declared and file.endswith(".woff2"):
            path = scripts / declared[folder + "/"] / file
            route.fulfill(path=path, headers={"Access-Control-Allow-Origin": "*"})
        else:
            now.wrong.append(f"another host: {route.request.url}")
            route.abort()

    context = browser.new_context()
    context.route("**/*", answer)
    page = context.new_page()
    listen(page, lambda: now)
    page.goto(f"{base}/book/chapters/01_winning_tickets.html", wait_until="networkidle")
    page.wait_for_selector(".jupyter-widgets img")
    context.close()
    server.shutdown()
    server.server_close()
    assert not now.wrong


def test_the_scoreboard_is_filtered_by_keyboard_and_fits_a_telephone(browser, published_offline):
    context = browser.new_context(viewport={"width": 390, "height": 900})
    page = context.new_page()
    page.goto((published_offline / "book" / "scoreboard.html").as_uri())
    rows = page.locator("table.scoreboard tbody tr")
    for name, value in (("work", "frankle2019"), ("scale", "paper"), ("outcome", "open")):
        select = page.locator(f".scoreboard-filters [name={name}]")
        at = select.evaluate("(s, value) => [...s.options].findIndex(o => o.value === value)", value)
        select.focus()
        for _ in range(at):
            page.keyboard.press("ArrowDown")
        shown = page.locator("table.scoreboard tbody tr:not([hidden])")
        assert 0 < shown.count() < rows.count()
        assert set(shown.evaluate_all(f"all => all.map(row => row.dataset.{name})")) == {value}
    assert page.locator(".scoreboard-filters output").text_content().startswith(f"{shown.count()} of {rows.count()} ")
    box = shown.first.locator(".badge").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    context.close()
