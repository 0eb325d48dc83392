"""Measures how fast the scheduler hands out work: many recipes that only sleep, in chains, to many workers.

    python benchmarks/scheduler.py [--recipes 10000] [--chain 20] [--workers 64] [--seconds 0.1]

Ideal is the time that the sleeping takes if no worker ever waits. The workers are threads of this process, so nothing
is measured but planning and scheduling: no process is begun, no file written.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

from lottery.engine.compute import Report
from lottery.engine.execute import Study, plan
from lottery.engine.store import Store
from lottery.recipes import Recipe, frozen


@frozen
class Sleep(Recipe):
    """Comes after another one and takes its time."""

    stored: ClassVar[bool] = True

    number: int
    after: Recipe | None = None


class Threads:
    """A pool whose workers sleep."""

    def __init__(self, places: int, seconds: float):
        self.places, self.seconds, self.threads = places, seconds, ThreadPoolExecutor(places)

    def submit(self, work):
        return self.threads.submit(self._sleep)

    def _sleep(self) -> Report:
        time.sleep(self.seconds)
        return Report()

    def stop(self, by):
        """Nothing to stop: they sleep for a moment only."""


def chains(recipes: int, length: int) -> list[Sleep]:
    """Recipes in chains of a length; the last one may be shorter."""
    made: list[Sleep] = []
    for number in range(recipes):
        made.append(Sleep(number, made[-1] if number % length else None))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", type=int, default=10_000)
    parser.add_argument("--chain", type=int, default=20)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.1)
    given = parser.parse_args()
    recipes = chains(given.recipes, given.chain)
    with tempfile.TemporaryDirectory() as folder:
        store, began = Store(folder), time.perf_counter()
        tasks = plan(recipes, store)
        planned = time.perf_counter()
        Study(tasks, store).run(Threads(given.workers, given.seconds))
        ran, used = time.perf_counter() - planned, time.process_time()
    ideal = given.seconds * max(given.chain, given.recipes / given.workers)
    result = {
        **vars(given),
        "plan_seconds": round(planned - began, 2),
        "run_seconds": round(ran, 2),
        "recipes_a_second": round(given.recipes / ran),
        "share_of_ideal": round(ideal / ran, 3),
        "cpu_seconds": round(used, 2),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
