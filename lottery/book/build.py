"""Builds the book: published chapters, or chapters executed at another profile; for the web, or for reading offline.

Building only renders. Chapters are executed before, by papermill (``python -m lottery run``). Where things lie:

=====================  =====================================  =========================
book                   chapters it shows                      pages
=====================  =====================================  =========================
published              ``book/chapters/``                     ``_build/html``
profile P              ``_build/P/chapters/``                 ``_build/P/_build/html``
=====================  =====================================  =========================

Pages for reading offline are a copy of these, in ``offline/html`` beside ``html``.
"""

import os
import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

from .. import LotteryError
from . import planning

CDN = re.compile(r"https://cdn\.jsdelivr\.net/npm/((?:@[^/@]+/)?[^/@]+)@([^/@]+)/(.*)")
"""Address of a file of an npm package at an exact version; the groups are package, version and path."""

LICENCES = (
    "@jupyter-widgets/schema/LICENSE",
    "@fortawesome/fontawesome-free/LICENSE.txt",
)
"""Licence texts inside the installed packages; that of require.js, which ships none, lies in ``book/vendor``."""


class BookError(LotteryError):
    """The book cannot be built; the message says what is missing or wrong."""


def build(root, profile=None, strict=True):
    """Renders the book with Jupyter Book.

    Args:
        root: the repository's root folder, which holds ``_config.yml``.
        profile: ``None`` for the published chapters, else the profile whose executed chapters are shown.
        strict: any warning is a failure, unresolved references included.

    Returns:
        Path of the built ``index.html``.

    Raises:
        ChapterError: there is no such profile.
        BookError: a chapter is missing, or Jupyter Book reported warnings or errors.
    """
    if profile is not None:
        planning.check_profile(profile)
    root = Path(root).resolve()
    chapters = root / "book" / "chapters" if profile is None else root / "_build" / profile / "chapters"
    _check_chapters(root, chapters, profile)
    output = root if profile is None else root / "_build" / profile
    source = root if profile is None else _stage(root, chapters, output / "source")
    pages = output / "_build" / "html"
    shutil.rmtree(pages / "_modules", ignore_errors=True)  # Sphinx keeps a listing that is newer than its module
    _jupyter_book(root, source, output, strict)
    return pages / "index.html"


def for_offline(root, index):
    """Copies built pages, with all scripts from npm instead of a CDN: the copy asks no other host for anything.

    Args:
        root: the repository's root folder.
        index: of `build`.

    Returns:
        Path of the copied ``index.html``.

    Raises:
        BookError: npm is missing or failed.
    """
    pages, offline = index.parent, index.parent.parent / "offline"
    new = offline.with_name(".offline.new")
    target = new / "html"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(pages, target)
    _copy_scripts(root, target / "_static" / "vendor")
    places = {address: f"vendor/{path}" for address, path in cdn_files(root).items()}
    for path in target.rglob("*.html"):
        static = f"{os.path.relpath(target, path.parent)}/_static/"
        text = path.read_text(encoding="utf-8")
        for address, place in places.items():
            text = text.replace(f'src="{address}"', f'src="{static}{place}"')
            text = text.replace(f'data-base="{address}"', f'data-base="{place}"')
        path.write_text(text, encoding="utf-8")
    shutil.rmtree(offline, ignore_errors=True)
    new.rename(offline)
    return offline / "html" / "index.html"


def print_pdf(root, index):
    """Prints built pages as one PDF with Chromium, in the order of the table of contents; folded code stays folded.

    Args:
        root: the repository's root folder.
        index: of `for_offline`.

    Returns:
        Path of the PDF, beside the pages.

    Raises:
        BookError: Chromium is not there, or it failed.
    """
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise BookError("no Chromium was found (chromium, chromium-browser, google-chrome): it prints the pages")
    toc = (Path(root) / "_toc.yml").read_text(encoding="utf-8")
    whole, pdf = index.with_name("print.html"), index.with_name("lottery-tickets-reproduced.pdf")
    pages = [f"{name}.html" for name in re.findall(r"^(?:root| *- file): (\S+)$", toc, re.M)]
    whole.write_text(_one_page(index.parent, pages), encoding="utf-8")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
    command += ["--virtual-time-budget=120000", f"--print-to-pdf={pdf}", whole.as_uri()]
    try:
        _call(command, index.parent, "Chromium could not print the book")
    finally:
        whole.unlink()
    if not pdf.is_file():
        raise BookError("Chromium printed nothing")
    return pdf


def _one_page(folder, pages):
    """The articles of several pages below one another, as HTML for a file in `folder`."""
    parsed = {page: BeautifulSoup((folder / page).read_text(encoding="utf-8"), "html.parser") for page in pages}
    articles = []
    for page, soup in parsed.items():
        article = soup.select("article.bd-article")[0]
        for script in article.select("script"):
            script.decompose()
        _rebase(article, page)
        articles.append(f'<div class="printed-page">{article}</div>')
    fullest = max(parsed, key=lambda page: len(parsed[page].select("head script")))  # with widgets, for one
    head = parsed[fullest].select("head")[0]
    _rebase(head, fullest)
    return f'<!DOCTYPE html><html lang="en" data-theme="light">{head}<body>{"".join(articles)}</body></html>'


def _rebase(element, page):
    """Makes a page's relative addresses relative to the folder of all pages."""
    for tag in element.find_all(True):
        for name in ("href", "src"):
            address = tag.get(name)
            if address and not re.match(r"[a-z]+:|#|//", address):
                tag[name] = posixpath.normpath(posixpath.join(posixpath.dirname(page), address))


def cdn_files(root):
    """The files that pages of the online book may take from another host.

    Returns:
        dict from address to path below ``node_modules``. An address that ends with ``/`` is a folder of icon fonts.
    """
    text = (Path(root) / "_config.yml").read_text(encoding="utf-8")
    found = {}
    for address in re.findall(r"https://cdn\.jsdelivr\.net/npm/[^\s\"':,}]+", text):
        if match := CDN.fullmatch(address):
            found[address] = f"{match[1]}/{match[3]}"
    return found


def install_scripts(root):
    """Installs the scripts of ``book/vendor/package-lock.json`` from npm, once per lock file.

    Returns:
        Path of ``node_modules``, below ``_build``.

    Raises:
        BookError: npm is not there, or it failed.
    """
    vendor, home = Path(root) / "book" / "vendor", Path(root) / "_build" / "npm"
    lock = (vendor / "package-lock.json").read_bytes()
    done = home / "installed-lock.json"
    if done.exists() and done.read_bytes() == lock:
        return home / "node_modules"
    npm = shutil.which("npm")
    if npm is None:
        raise BookError("npm (part of Node.js) was not found; it is needed once, to fetch the book's scripts")
    home.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(vendor / name, home / name)
    _call([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], home, "npm could not install the book's scripts")
    done.write_bytes(lock)
    return home / "node_modules"


def contents(root):
    """The chapters that ``_toc.yml`` names, in its order: those of the book."""
    try:
        left = [yaml.safe_load((Path(root) / "_toc.yml").read_text(encoding="utf-8"))]
    except yaml.YAMLError as error:
        raise BookError(f"_toc.yml cannot be read: {error}") from None
    found = []
    while left:
        one = left.pop()
        if isinstance(one, dict):
            found += re.findall(r"^book/chapters/([\w-]+)$", str(one.get("file", "")))
            left += reversed([value for value in one.values() if isinstance(value, dict | list)])
        elif isinstance(one, list):
            left += reversed(one)
    return found


def _check_chapters(root, chapters, profile):
    """Raises a BookError that names the command if a chapter of ``_toc.yml`` has not been executed."""
    missing = [name for name in contents(root) if not (chapters / f"{name}.ipynb").is_file()]
    if missing:
        command = f"python -m lottery run --all --profile {profile or 'paper --publish'}"
        raise BookError(f"no executed chapter {', '.join(missing)} in {chapters}; make it with: {command}")


def _stage(root, chapters, stage):
    """Copies configuration, prose, what it includes, and the chapters wanted into an empty folder; returns it."""
    shutil.rmtree(stage, ignore_errors=True)
    left_out = shutil.ignore_patterns("chapters", "results", "vendor", ".*")
    shutil.copytree(root / "book", stage / "book", ignore=left_out)
    shutil.copytree(chapters, stage / "book" / "chapters", ignore=shutil.ignore_patterns(".*"))
    for name in ("_config.yml", "_toc.yml", "benchmarks/log.md"):
        (stage / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, stage / name)
    return stage


def _copy_scripts(root, target):
    """Copies the declared files, the fonts of declared folders and the licence texts to ``target``."""
    modules = install_scripts(root)
    paths = [modules / path for path in cdn_files(root).values()] + [modules / path for path in LICENCES]
    for path in paths:
        for file in sorted(path.glob("*.woff2")) if path.is_dir() else [path]:
            place = target / file.relative_to(modules)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    shutil.copy(root / "book" / "vendor" / "LICENSE-requirejs.txt", target / "requirejs" / "LICENSE.txt")


_PROGRAM = """
import functools
import jupyter_book.sphinx
from jupyter_book.cli.main import main
from lottery.engine.settings import cores
jupyter_book.sphinx.build_sphinx = functools.partial(jupyter_book.sphinx.build_sphinx, jobs=cores())
main()
"""
"""Jupyter Book as it is, but with a process a core: its command has no option for what Sphinx can do."""


def _jupyter_book(root, source, output, strict):
    command = [sys.executable, "-c", _PROGRAM, "build", str(source)]
    command += ["--path-output", str(output), "--all"] + (["-W", "-n", "--keep-going"] if strict else [])
    _call(command, root, "Jupyter Book could not build the book")


def _call(command, folder, problem):
    """Runs a command in ``folder`` with the library importable; a failure becomes a BookError with its warnings."""
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stderr.strip() or done.stdout).splitlines()
        raise BookError("\n".join([f"{problem} (exit code {done.returncode}):", *said[-60:]]))
