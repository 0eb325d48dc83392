"""What has to be computed, in which order, what of it together, and what workers must be handed for it.

A plan is a list of tasks, one a recipe that the store lacks. Tasks are gathered into batches once, here: runs that
differ only in weights, mask and seeds and stand at the same depth of the graph, so that none rests on another.
"""

import pickle
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass

from .. import data, models
from ..recipes import Recipe, Run, Training, closure
from .network import stackable
from .store import Store
from .world import dataset_of


@dataclass(eq=False)
class Task:
    """One recipe to be computed.

    Attributes:
        recipe: what.
        keep: steps whose dense weights others need.
        after: keys of the tasks that come first.
        ahead: steps to train on the longest way from here to the end of the study.
        depth: tasks that come first on the longest way from the beginning to here.
    """

    recipe: Recipe
    keep: set[int] = field(default_factory=set)
    after: set[str] = field(default_factory=set)
    ahead: int = 0
    depth: int = 0

    @property
    def steps(self) -> int:
        return self.recipe.training.steps - self.recipe.start if isinstance(self.recipe, Run) else 0


def plan(recipes: Iterable[Recipe], store: Store) -> dict[str, Task]:
    """What has to be computed so that each recipe has a record: key → task, what comes first before its readers.

    A run that has a record is computed again only if a recipe without one needs dense weights that were dropped. What
    was set aside as damaged is computed again, asked for or only rested on.
    """
    recipes = list(recipes)
    tasks: dict[str, Task] = {}
    known: dict[tuple[str, int | None], bool] = {}

    def lacking(recipe: Recipe, step: int | None) -> bool:
        if (recipe.key, step) not in known:
            gone = store.read(recipe.key) is None
            known[recipe.key, step] = gone or (step is not None and store.state(recipe.key, step) is None)
        return known[recipe.key, step]

    whole = closure(recipes)
    for recipe in whole:
        lacking(recipe, None)  # reading sets aside what is damaged
    lost = store.lost()
    for recipe in closure([*recipes, *(recipe for recipe in whole if recipe.key in lost)], lacking):
        task = tasks[recipe.key] = Task(recipe)
        for read, step in recipe.reads():
            if lacking(read, step):
                before = tasks[read.key]
                task.after.add(read.key)
                task.depth = max(task.depth, before.depth + 1)
                if step is not None:
                    before.keep.add(step)
    for task in reversed(tasks.values()):
        for key in task.after:
            tasks[key].ahead = max(tasks[key].ahead, task.ahead + task.steps)
    return tasks


# What is computed together.


def batches(tasks: Iterable[Task], stack: int | None = 1, places: int = 1) -> list[list[Task]]:
    """The tasks as batches, each in one piece for one worker; whoever computes it may split it further.

    Args:
        tasks: what comes first before its readers.
        stack: the largest number of runs in a batch; None shares all that can be together out among the workers.
        places: how many workers there are.
    """
    kinds: dict[tuple | str, list[Task]] = {}
    for task in tasks:
        run = task.recipe
        together = (run.training, run.start, task.depth) if stack != 1 and isinstance(run, Run) else run.key
        kinds.setdefault(together, []).append(task)
    alone: dict[Training, bool] = {}
    return [part for group in kinds.values() for part in _parts(group, stack, places, alone)]


def _parts(group: list[Task], stack: int | None, places: int, alone: dict[Training, bool]) -> Iterator[list[Task]]:
    size = 1
    if len(group) > 1 and isinstance(run := group[0].recipe, Run):
        training = run.training
        if training not in alone:
            alone[training] = not stackable(training, dataset_of(training))
        if not alone[training]:
            size = stack or -(-len(group) // places)
    for first in range(0, len(group), size):
        yield group[first : first + size]


# What workers must be handed.


def registered(recipes: Iterable[Recipe]) -> tuple[dict, dict]:
    """The user's own data sets and networks that the recipes use."""
    trainings = {recipe for recipe in _within(recipes) if isinstance(recipe, Training)}
    sets, networks = data.registered(), models.registered()
    return (
        {name: sets[name] for name in sorted({training.data for training in trainings} & set(sets))},
        {name: networks[name] for name in sorted({training.model for training in trainings} & set(networks))},
    )


def _within(recipes: Iterable[Recipe]) -> list[Recipe]:
    """These recipes and all that they are made of and rest on, each once."""
    found: dict[str, Recipe] = {}
    left = closure(recipes)
    while left:
        recipe = left.pop()
        if recipe.key not in found:
            found[recipe.key] = recipe
            left += recipe.parts()
    return list(found.values())


def rooted(recipes: Sequence[Recipe], networks: dict) -> str | None:
    """What keeps other processes from computing these recipes, in words; None if nothing does."""
    whole = _within(recipes)
    for kind in {type(recipe): None for recipe in whole}:
        if _stays(kind):
            return f"the recipe class {kind.__name__}"
    held = (value for recipe in whole for value in vars(recipe).values())
    for kind in dict.fromkeys(kind for value in held for kind in _kinds(value)):
        if _stays(kind):
            return f"the class {kind.__name__} of a field"
    return next((f"the registered network {name}" for name, factory in networks.items() if _stays(factory)), None)


def _kinds(value) -> Iterator[type]:
    """The types of a value in a recipe and of what it holds, but for recipes, which are walked themselves."""
    if isinstance(value, Recipe):
        return
    yield type(value)
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    inside = (getattr(value, one.name) for one in fields(value)) if is_dataclass(value) else inside
    for one in inside:
        yield from _kinds(one)


def _stays(thing) -> bool:
    """Whether other processes cannot import a thing: it cannot be pickled, or something in it is of the script."""
    try:
        return b"__main__" in pickle.dumps(thing)
    except Exception:
        return True
