"""What several test modules share: the published book as built."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: test processes side by side must not share cores

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Fewer examples for a fast suite, and no deadline: on a busy machine it fails tests that are right.
settings.register_profile("lottery", max_examples=50, deadline=None)
settings.load_profile("lottery")


LONGEST = (
    "test_chapters.py",
    "test_pages.py",
    "test_execute.py",
    "test_study.py",
    "test_launch.py",
    "test_any_network.py",
    "test_landscape.py",
    "test_ranges.py",
)


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no process waits for one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def unavailable(reason):
    """Skips a test for want of a tool; on a CI server, where the tool must be there, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def published_book():
    """Folder of the built pages of the published book, for the web."""
    from lottery.book.build import build

    return build(ROOT).parent


@pytest.fixture(scope="session")
def scripts():
    """`node_modules` with the scripts that pages take from another host."""
    from lottery.book.build import install_scripts

    if shutil.which("npm") is None and not (ROOT / "_build" / "npm" / "node_modules").is_dir():
        unavailable("npm was not found: it fetches the scripts that the book's pages take from a CDN")
    return install_scripts(ROOT)


@pytest.fixture(scope="session")
def published_offline(published_book, scripts):
    """As `published_book`, for reading without a network."""
    from lottery.book.build import for_offline

    return for_offline(ROOT, published_book / "index.html").parent
