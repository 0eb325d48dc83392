"""What several test modules share: the published book as built."""

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: test processes side by side must not share cores

import pytest
import torch
from hypothesis import settings

from lottery.engine.settings import cores

ROOT = Path(__file__).resolve().parent.parent
MEMORY = "/dev/shm"


def roomy(folder):
    """Whether temporary files can be there: it has 4 GiB left, and programs in it can be run."""
    return (
        os.access(folder, os.W_OK)
        and shutil.disk_usage(folder).free >= 4 * 2**30
        and not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0)
    )


# A disk takes minutes to write through, and then to delete, what all tests write.
if not {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & os.environ.keys() and roomy(MEMORY):
    os.environ["TMPDIR"] = tempfile.tempdir = MEMORY

# Fewer examples for a fast suite, and no deadline: on a busy machine it fails tests that are right.
settings.register_profile("lottery", max_examples=50, deadline=None)
settings.load_profile("lottery")


LONGEST = (
    "test_pages.py",
    "test_chapters.py",
    "test_execute.py",
    "test_study.py",
    "test_launch.py",
    "test_browser_lottery.py",
    "test_train.py",
    "test_store.py",
    "test_landscape.py",
    "test_ranges.py",
    "test_data.py",
    "test_project.py",
    "test_any_network.py",
    "test_store_disk.py",
)


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that no process waits for one at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def pytest_runtest_setup():
    """Networks that tests draw without a seed are the same in whatever order, and process, the tests run."""
    torch.manual_seed(0)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers():
    """With `-n auto` one test process more than cores: some tests wait, for other processes or a browser."""
    return 1 + cores()


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


@pytest.fixture
def chapter():
    """What a chapter was told to show."""
    shown = SimpleNamespace(tables=[], figures=[])
    shown.show_table = lambda *table: shown.tables.append(table)
    shown.figure = lambda *figure, **more: shown.figures.append((*figure, more))
    return shown
