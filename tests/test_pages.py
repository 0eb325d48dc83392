"""The built book in headless Chromium: online (with npm's copies of the CDN's files) and offline."""

import json
import re
import shutil
import threading
from collections import defaultdict
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from conftest import ROOT, unavailable

from lottery.book.build import CDN, cdn_files

WIDTHS = (1280, 390)
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


def test_internal_links_and_anchors_hold(quick_book):
    every = {path: Page(path) for path in quick_book.rglob("*.html") if "_static" not in path.parts}
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


def test_every_image_says_what_it_shows(quick_book):
    for name, page in pages(quick_book).items():
        for image in page.images:
            alt = (image.get("alt") or "").strip()
            assert alt and not re.search(r"[0-9a-f]{20}", alt), f"{name}: {image.get('src', '')[:80]} has alt {alt!r}"


def test_pages_are_small(quick_book):
    sizes = {path.name: path.stat().st_size for path in quick_book.glob("book/**/*.html")}
    assert max(sizes.values()) < 1.5e6, sizes


def test_only_declared_files_are_taken_from_elsewhere(quick_book, quick_book_offline):
    allowed = set(cdn_files(ROOT))
    for name, page in pages(quick_book).items():
        assert {url for url in page.loaded if "//" in url} <= allowed, name
    for name, page in pages(quick_book_offline).items():
        assert not [url for url in page.loaded if "//" in url], name


def test_chapters_offer_colab(quick_book):
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    repository = config["repository"]["url"].removeprefix("https://github.com/")
    chapters = [name for name in pages(quick_book) if "/chapters/" in name]
    assert chapters
    for name in chapters:
        notebook = name.removesuffix(".html") + ".ipynb"
        wanted = (
            f"https://colab.research.google.com/github/{repository}/blob/{config['repository']['branch']}/{notebook}"
        )
        assert wanted in Page(quick_book / name).links


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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """Serves folders over local http: folder -> address."""
    servers = []

    def start(folder):
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Reader:
    """Opens pages and notes everything that goes wrong. Declared CDN files come from `scripts`, if given."""

    def __init__(self, browser, base, scripts=None):
        self.base, self.wrong, self.where = base, defaultdict(list), ""
        self.declared = {url: scripts / path for url, path in cdn_files(ROOT).items()} if scripts else {}
        self.context = browser.new_context()
        self.context.route("**/*", self._answer)
        self.page = self.context.new_page()
        self.page.set_default_timeout(90_000)
        self.page.on("pageerror", lambda error: self._note(f"page error: {error}"))
        self.page.on("console", lambda said: self._note(f"console: {said.text}") if said.type == "error" else None)
        self.page.on("requestfailed", self._failed)

    def _note(self, what):
        self.wrong[self.where].append(what)

    def _failed(self, asked):
        if asked.failure != "net::ERR_ABORTED":  # cancelled, because the next page was opened
            self._note(f"failed: {asked.url}: {asked.failure}")

    def _answer(self, route):
        url = route.request.url
        folder, _, file = url.rpartition("/")
        if url.startswith((self.base + "/", "data:", "blob:")):
            route.continue_()
        elif self.declared.get(url):
            route.fulfill(path=self.declared[url])
        elif folder + "/" in self.declared and file.endswith(".woff2"):
            route.fulfill(path=self.declared[folder + "/"] / file, headers={"Access-Control-Allow-Origin": "*"})
        else:
            self._note(f"another host: {url}")
            route.abort()

    def open(self, name, width=1280):
        self.where = f"{name} at {width}"
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.goto(f"{self.base}/{name}", wait_until="networkidle")
        return self.page


def too_wide(page):
    """What sticks out to the right, if the page as a whole does; things inside a box that scrolls do not count."""
    return page.evaluate("""() => {
        const width = window.innerWidth;
        if (document.documentElement.scrollWidth <= width) return [];
        const scrolls = e => e && (getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
        const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1);
        return ['the page', ...out.filter(e => !scrolls(e.parentElement)).map(e => e.outerHTML.slice(0, 99))];
    }""")


def test_pages_open_cleanly_at_two_widths(browser, serve, quick_book, scripts):
    reader = Reader(browser, serve(quick_book), scripts)
    pictures = ROOT / "_build" / "quick" / "screenshots"
    shutil.rmtree(pictures, ignore_errors=True)
    for name, content in pages(quick_book).items():
        for width in WIDTHS:
            page = reader.open(name, width)
            picture = pictures / f"{name.replace('/', '_').removesuffix('.html')}-{width}.png"
            page.screenshot(path=picture, full_page="/api" not in name)
            assert not too_wide(page), f"{name} is wider than {width} px: {too_wide(page)}"
        assert page.evaluate("[...document.images].filter(i => !i.alt.trim()).map(i => i.src.slice(0, 80))") == [], name
        assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, f"{name}: a formula is wrong"
        assert content.images or "/chapters/" not in name, f"{name} shows no figure"
    assert not reader.wrong, dict(reader.wrong)


@pytest.mark.parametrize("how", ["http", "file"])
def test_offline_pages_ask_nobody(browser, serve, quick_book_offline, how):
    reader = Reader(browser, serve(quick_book_offline) if how == "http" else quick_book_offline.as_uri())
    explorers = 0
    for name in pages(quick_book_offline):
        page = reader.open(name)
        explorers += page.locator(".jupyter-widgets.widget-stack, .jupyter-widgets .noUi-handle").count()
    assert explorers, "no widget appeared on any page"
    assert not reader.wrong, dict(reader.wrong)


def test_explorers_answer_to_every_control(browser, serve, quick_book, scripts):
    reader = Reader(browser, serve(quick_book), scripts)
    chapters = [name for name in pages(quick_book) if "/chapters/" in name]
    for name in chapters:
        page = reader.open(name)
        page.wait_for_selector(".jupyter-widgets img")
        assert page.locator(".live-only").evaluate_all("all => all.filter(e => e.checkVisibility()).length") == 0
        controls = 0
        for handle in page.locator(".jupyter-widgets .noUi-handle:visible").all():
            at, last = (float(handle.get_attribute(f"aria-value{end}")) for end in ("now", "max"))
            key = "ArrowLeft" if at == last else "ArrowRight"
            changed(page, name, f"slider {handle.get_attribute('aria-label')}", lambda h=handle, k=key: h.press(k))
            controls += 1
        for group in page.locator(".widget-toggle-buttons:visible").all():
            other = group.locator("button:not(.mod-active)").first
            changed(page, name, f"button {other.text_content()}", other.click)
            pressed = group.locator("button").evaluate_all("all => all.map(b => b.getAttribute('aria-pressed'))")
            assert sorted(pressed)[::-1] == ["true"] + ["false"] * (len(pressed) - 1), f"{name}: {pressed}"
            controls += 1
        for select in page.locator(".jupyter-widgets select:visible").all():
            other = 1 if select.evaluate("s => s.selectedIndex") == 0 else 0
            changed(page, name, "selection", lambda s=select, i=other: s.select_option(index=i))
            controls += 1
        assert controls, f"{name}: no control"
    assert not reader.wrong, dict(reader.wrong)


def test_the_scoreboard_is_filtered_and_fits_a_telephone(browser, serve, quick_book, scripts):
    reader = Reader(browser, serve(quick_book), scripts)
    page = reader.open("book/scoreboard.html", 390)
    rows = page.locator("table.scoreboard tbody tr")
    page.select_option(".scoreboard-filters [name=work]", "zhou2019")
    shown = page.locator("table.scoreboard tbody tr:not([hidden])")
    assert 0 < shown.count() < rows.count()
    assert set(shown.evaluate_all("all => all.map(row => row.dataset.work)")) == {"zhou2019"}
    assert page.locator(".scoreboard-filters output").text_content().startswith(f"{shown.count()} of {rows.count()} ")
    box = shown.first.locator(".badge").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    assert not reader.wrong, dict(reader.wrong)


def changed(page, name, control, act):
    """Acts on a control, and expects that other frames are seen afterwards."""
    before = page.evaluate(SHOWN)
    act()
    try:
        other = f"before => JSON.stringify(({SHOWN})()) !== JSON.stringify(before)"
        page.wait_for_function(other, arg=before, timeout=20_000)
    except Exception as error:
        raise AssertionError(f"{name}: {control} changed nothing; still {before}") from error
