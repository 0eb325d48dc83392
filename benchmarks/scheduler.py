"""Measures how fast the coordinator hands out work: many recipes that only sleep, in chains, to many workers.

    python benchmarks/scheduler.py [--recipes 10000] [--chain 20] [--workers 64] [--seconds 1] [--deaths 0]
    python benchmarks/scheduler.py --records 100000 [--recipes 1000]

Ideal is the time that the sleeping takes if no worker ever waits. The workers are threads of this process, so nothing
is measured but planning and scheduling: no process is begun. With `--deaths`, that share of sleeps is broken off by the
death of its worker, somewhere; each tenth of a sleep is a checkpoint from which it goes on.

With `--records`, what is measured is how long a plan takes of recipes that a store of so many records holds.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from lottery.engine.compute import Report
from lottery.engine.execute import Study, plan
from lottery.engine.store import Store
from lottery.engine.workers import WorkerDied
from lottery.recipes import Recipe, frozen

TENTHS = 10


@frozen
class Sleep(Recipe):
    """Comes after another one and takes its time."""

    stored: ClassVar[bool] = True

    number: int
    after: Recipe | None = None


class Threads:
    """A pool whose workers sleep.

    Attributes:
        slept: seconds, of all together.
        tenths: key → tenths of its sleep, those that were repeated included.
    """

    def __init__(self, places: int, seconds: float, deaths: float, folder: Path):
        self.places, self.seconds, self.deaths, self.folder = places, seconds, deaths, folder
        self.threads, self.lock, self.draw = ThreadPoolExecutor(places), threading.Lock(), random.Random(0)
        self.slept, self.died, self.ended = 0.0, 0, Counter[str]()
        self.tenths, self.saved = Counter[str](), Counter[str]()

    def submit(self, work):
        return self.threads.submit(self._sleep, work.recipes[0].key)

    def _sleep(self, key: str) -> Report:
        began = time.perf_counter()
        with self.lock:
            dies = self.draw.randrange(TENTHS) if self.draw.random() < self.deaths else None
        if not self.deaths:
            time.sleep(self.seconds)
        for tenth in range(self.saved[key], TENTHS if self.deaths else 0):
            time.sleep(self.seconds / TENTHS)
            self.tenths[key] += 1
            if dies is not None and tenth >= dies:  # before what it did is saved
                with self.lock:
                    self.died, self.slept = self.died + 1, self.slept + time.perf_counter() - began
                raise WorkerDied("killed by the benchmark")
            self.saved[key] = tenth + 1
            (self.folder / f"{key}.safetensors").write_text(str(tenth))
        with self.lock:
            self.ended[key] += 1
            self.slept += time.perf_counter() - began
        return Report()

    def stop(self, by):
        """Nothing to stop: they sleep for a moment only."""


def chains(recipes: int, length: int) -> list[Sleep]:
    """Recipes in chains of a length; the last one may be shorter."""
    made: list[Sleep] = []
    for number in range(recipes):
        made.append(Sleep(number, made[-1] if number % length else None))
    return made


def scheduled(recipes: list[Sleep], chain: int, workers: int, seconds: float, deaths: float) -> dict:
    """What the coordinator takes for them."""
    with tempfile.TemporaryDirectory() as folder:
        store, began = Store(folder), time.perf_counter()
        tasks = plan(recipes, store)
        (store.root / "partial").mkdir(exist_ok=True)
        pool, planned = Threads(workers, seconds, deaths, store.root / "partial"), time.perf_counter()
        before = time.process_time()
        Study(tasks, store).run(pool)
        ran, used = time.perf_counter() - planned, time.process_time() - before
    ideal = seconds * max(chain, len(recipes) / workers)
    return {
        "plan_seconds": round(planned - began, 2),
        "run_seconds": round(ran, 2),
        "recipes_a_second": round(len(recipes) / ran),
        "share_of_ideal": round(ideal / ran, 3),
        "share_of_time_that_workers_wait": round(1 - pool.slept / (workers * ran), 3),
        "cpu_seconds": round(used, 2),
        "deaths": pool.died,
        "lost": sum(recipe.key not in pool.ended for recipe in recipes),
        "done_twice": sum(times > 1 for times in pool.ended.values()),
        "checkpoints_repeated_a_death": round(
            (sum(pool.tenths.values()) - TENTHS * len(recipes)) / pool.died if pool.died else 0.0, 2
        ),
    }


def opened(recipes: list[Sleep], records: int) -> dict:
    """How long a plan of recipes takes that a store of so many records holds.

    The other records are links to the files of one: a plan sees their names alone.
    """
    with tempfile.TemporaryDirectory() as folder:
        store, draw = Store(folder), random.Random(0)
        for recipe in recipes:
            store.save(recipe.key, recipe.json(), {}, {}, {})
        one = next((store.root / "records").glob("*/*"))
        for _ in range(records - len(recipes)):
            key = f"{draw.getrandbits(256):064x}"
            place = store.root / "records" / key[:2] / key
            place.mkdir(parents=True)
            for file in one.iterdir():
                os.link(file, place / file.name)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            assert not plan(recipes, Store(folder))
            times.append(round(time.perf_counter() - began, 2))
        return {"records": len(store.keys()), "plan_seconds": sorted(times)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", type=int)
    parser.add_argument("--chain", type=int, default=20)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--deaths", type=float, default=0.0, help="share of sleeps in which the worker dies")
    parser.add_argument("--records", type=int, default=0, help="of a store that is opened, instead")
    given = parser.parse_args()
    given.recipes = given.recipes or (1000 if given.records else 10_000)
    recipes = chains(given.recipes, given.chain)
    measured = (
        opened(recipes, given.records)
        if given.records
        else scheduled(recipes, given.chain, given.workers, given.seconds, given.deaths)
    )
    machine = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "python": platform.python_version()}
    print(json.dumps({"given": vars(given), "measured": measured, **machine}, indent=1))


if __name__ == "__main__":
    main()
