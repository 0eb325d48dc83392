"""Kernels that are forked with the chapters' imports done."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from lottery.book import forked

pytestmark = pytest.mark.skipif(not forked.POSSIBLE, reason="kernels are forked on Linux")

FORKS = """
import os, sys, time
from lottery.book import forked
kernel = forked.Kernel(sys.argv[1], dict(os.environ), ".")
print(kernel.pid, flush=True)
time.sleep(600)
"""


def connection(folder):
    """A kernel's connection file."""
    manager = KernelManager(connection_file=str(folder / "kernel.json"), transport="ipc")
    manager.write_connection_file()
    return manager


def test_a_forked_kernel_has_the_imports_done_and_its_own_environment(tmp_path):
    manager = connection(tmp_path)
    kernel = forked.Kernel(manager.connection_file, {**os.environ, "OWN": "its own"}, str(tmp_path))
    client = BlockingKernelClient(connection_file=manager.connection_file)  # the manager, which has none, holds it dead
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=120)
        said = []
        text = "import sys, os; print('torch' in sys.modules, os.environ['OWN'], os.getcwd())"
        client.execute_interactive(text, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", "")))
        assert "".join(said) == f"True its own {tmp_path}\n"
        assert kernel.poll() is None
        kernel.kill()
        assert kernel.wait(60) == -signal.SIGKILL == kernel.poll()
        assert "OWN" not in os.environ
    finally:
        client.stop_channels()
        kernel.kill()


def test_a_forked_kernel_ends_with_whoever_asked_for_it(tmp_path):
    arguments = [sys.executable, "-c", FORKS, connection(tmp_path).connection_file]
    asks = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        kernel = Path("/proc", asks.stdout.readline().strip())
        assert kernel.is_dir()
        asks.kill()
        until = time.monotonic() + 60
        while kernel.is_dir() and "\nState:\tZ" not in (kernel / "status").read_text():
            assert time.monotonic() < until, "the kernel runs on"
            time.sleep(0.1)
    finally:
        asks.kill()
        asks.communicate()


def test_the_imports_of_a_kernel_are_silent():
    """As an environment is made, and in the process that kernels are forked from."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYDEVD")}
    done = subprocess.run(
        [sys.executable, "-c", "from lottery.book import forked; forked.import_all()"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
