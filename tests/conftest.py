"""What several test modules share: the chapters executed at the quick profile, and the book built from them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: test processes side by side must not share cores

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Fewer examples for a fast suite, and no deadline: on a busy machine it fails tests that are right.
settings.register_profile("lottery", max_examples=50, deadline=None)
settings.load_profile("lottery")


def pytest_collection_modifyitems(items):
    """The file that takes longest comes first, so that no process waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_pages.py")


def unavailable(reason):
    """Skips a test for want of a tool; on a CI server, where the tool must be there, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def quick_chapters(tmp_path_factory):
    """Folder of all chapters executed at the quick profile; executed only if something they come from is newer."""
    folder = ROOT / "_build" / "quick" / "chapters"
    sources = [path for kind in ("*.py", "*.yml", "*.html") for path in (ROOT / "lottery").rglob(kind)]
    sources += (ROOT / "notebooks").glob("*.ipynb")
    made = [folder / notebook.name for notebook in (ROOT / "notebooks").glob("*.ipynb")]
    newest = max(path.stat().st_mtime for path in sources)
    if not made or not all(path.exists() and path.stat().st_mtime >= newest for path in made):
        environment = {**os.environ, "LOTTERY_STORE": str(tmp_path_factory.mktemp("store"))}
        command = [sys.executable, "-m", "lottery", "run", "all", "--profile", "quick"]
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="session")
def quick_book(quick_chapters):
    """Folder of the built pages of the book with the quick chapters, for the web."""
    from lottery.book.build import build

    return build(ROOT, profile="quick").parent


@pytest.fixture(scope="session")
def scripts():
    """`node_modules` with the scripts that pages take from another host."""
    from lottery.book.build import install_scripts

    if shutil.which("npm") is None and not (ROOT / "_build" / "npm" / "node_modules").is_dir():
        unavailable("npm was not found: it fetches the scripts that the book's pages take from a CDN")
    return install_scripts(ROOT)


@pytest.fixture(scope="session")
def quick_book_offline(quick_chapters, scripts):
    """As `quick_book`, for reading without a network."""
    from lottery.book.build import build

    return build(ROOT, profile="quick", offline=True).parent
