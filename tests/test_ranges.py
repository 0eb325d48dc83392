"""What a chapter's ranges promise: at their ends and inside, it runs to its end or is refused before it trains.

Planning is tried often, since it costs little. Whole chapters are executed here, without a kernel: a few of them
always, all with `LOTTERY_NIGHTLY=1`.
"""

import contextlib
import io
import math
import os
import random
import warnings

import pytest
import torch

from lottery import models, tickets
from lottery.book import parameters, planning
from lottery.engine import check, settings
from lottery.engine.check import ExecutionError
from lottery.engine.store import Store
from lottery.recipes import training

NIGHTLY = bool(os.environ.get("LOTTERY_NIGHTLY"))
SETS = 40 if NIGHTLY else 2
"""Random parameter sets that each chapter plans."""

TINY = {
    "model": "lenet-12-6",
    "widths": "9 27",
    "steps": 50,
    "vgg_steps": 50,
    "batch": 20,
    "levels": 2,
    "evaluations": 5,
    "replicates": 1,
    "conv_4": False,
    "conv_6": False,
    "permutations": 9,
    "early_step": 5,
    "matching_step": 20,
    "late_step": 40,
    "rewind_step": 10,
    "vgg_rewind_step": 10,
    "tune_step": 25,
    "tune_levels": 1,
    "level": 1,
    "search": 1,
    "doublings": 1,
    "path_half": 2,
    "lanczos_steps": 10,
    "probes": 1,
    "examples": 64,
    "search_steps": 2,
    "adaptive_levels": 1,
    "reinit_every": 1,
    "random_every": 1,
    "one_shot_every": 1,
    "compare_every": 1,
    "criteria_level": 1,
    "criteria_replicates": 1,
    "rate_levels": 1,
    "noise_replicates": 1,
    "continued_levels": 1,
}
"""A study of each chapter in seconds."""

OF_CHAPTERS = {
    "03_are_tickets_alike": {"replicates": 2},
    "05_patterns_in_kernels": {"model": "conv-2", "replicates": 2},
}

SIZES = {
    *("steps", "vgg_steps", "replicates", "levels", "vgg_levels", "depth", "evaluations", "permutations", "draws"),
    *("reinit_draws", "random_draws", "lanczos_steps", "probes", "search_steps", "path_half", "doublings", "search"),
    *("between", "dropout_steps", "adaptive_levels", "tune_levels", "continued_levels", "continued_steps", "halves"),
}
"""At their high ends these make a study large, and nothing else: it is planned there, and executed at the low ends."""


def drawn(parameter, rng):
    """A value in the parameter's range, often an end; None where it has none. Data are those that need no download."""
    if parameter.name == "data":
        return "digits"
    if parameter.choices:
        return rng.choice(parameter.choices)
    if parameter.kind is bool:
        return rng.random() < 0.5
    if parameter.low is None:
        return None
    low, high = parameter.low, parameter.high
    if (end := rng.random()) < 0.25:
        value = low if end < 0.15 else high
    elif low > 0 or parameter.kind is int:
        value = math.exp(rng.uniform(math.log(max(low, 1e-6 if parameter.kind is float else 1)), math.log(high)))
    else:
        value = rng.uniform(low, high)
    return parameter.kind(min(max(round(value) if parameter.kind is int else value, low), high))


def declared(name):
    return parameters.parameters_of(planning.source(name))


def ends(name):
    """Parameter sets with one parameter at an end of its range."""
    return [
        {parameter.name: parameter.kind(end)}
        for parameter in declared(name).values()
        if parameter.low is not None
        for end in (parameter.low, parameter.high)
    ]


def inside(name, number, seed=0):
    """Parameter sets with one or many parameters at random."""
    rng, known = random.Random(f"{name} {seed}"), list(declared(name).values())
    for _ in range(number):
        some = rng.sample(known, min(rng.choice([1, 2, 4, len(known)]), len(known)))
        yield {one.name: value for one in some if (value := drawn(one, rng)) is not None}


def tiny(name, **more):
    known = declared(name)
    return {key: value for key, value in TINY.items() if key in known} | OF_CHAPTERS.get(name, {}) | more


def executed(name, given, store):
    """Executes a chapter's cells in this process; nothing is drawn.

    Returns:
        The words of a refusal before training, or None.
    """
    part = planning.Part(name, "quick", given)
    try:
        part.check(Store(store))
    except parameters.ParameterError as error:
        return str(error)
    sources = []
    for cell in planning.source(name).cells:
        if cell.cell_type == "code":
            sources.append(cell.source)
            if "parameters" in cell.metadata.get("tags", ()):
                sources.append(parameters.injected(part.parameters))
    namespace = {"__name__": "__main__"}
    own = settings.made(store=store, executor="inline")
    with own.active(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for number, text in enumerate(sources):
            namespace["In"] = sources[: number + 1]
            exec(compile(text, f"{name}, cell {number}", "exec"), namespace)
    return None


@pytest.fixture(autouse=True)
def quiet():
    """Means of nothing are what these studies consist of; and one thread, as in the workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


PLANNED = [name for name in planning.names() if not name.startswith("00")]  # that one trains before it plans


@pytest.mark.parametrize("name", PLANNED)
def test_any_allowed_parameters_are_planned_or_refused_in_words(name, tmp_path, monkeypatch):
    if not NIGHTLY:
        monkeypatch.setattr(check, "_tried", lambda *of: None)  # a trial of each network is a second
    sets = [*ends(name), *inside(name, SETS)]
    for given in sets if NIGHTLY else random.Random(name).sample(sets, 4):
        with contextlib.suppress(parameters.ParameterError):
            planning.Part(name, "quick", given).check(Store(tmp_path / "store"))


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("01_winning_tickets", {"hidden_rate": 0.0, "output_rate": 0.1, "levels": 30}, "removes none"),
        ("06_what_the_mask_conveys", {"fraction": 0.9, "levels": 4}, "some layer empty"),
        ("13_capacity", {"widths": "9 wide"}, "whole numbers"),
        ("13_capacity", {"widths": "9 99999"}, "too large"),
        ("01_winning_tickets", {"model": "lenet-" + 5000 * "9"}, "too large"),
        ("09_what_retraining_is_for", {"model": "resnet-1000002"}, "too large"),
        ("13_capacity", {"widths": "9 27", "levels": 6, "hidden_rate": 0.9, "replicates": 1}, "layer empty"),
    ],
)
def test_what_would_die_late_is_refused_before_training(name, given, said, tmp_path):
    assert said in executed(name, tiny(name) | given, tmp_path / "store")


@pytest.mark.parametrize("how", [{"device": "cuda:999"}, {"executor": "inline", "scheduler": "tcp://127.0.0.1:1"}])
def test_by_whom_a_chapter_cannot_be_computed_is_refused_before_its_kernel_starts(how, tmp_path):
    part = planning.Part("01_winning_tickets", "quick", tiny("01_winning_tickets"))
    with pytest.raises(parameters.ParameterError, match=r"01_winning_tickets.*(cuda:999|goes with executor 'dask')"):
        part.check(Store(tmp_path), settings.made(**how))


def test_a_round_that_removes_nothing_is_refused():
    run = tickets.imp(training(**SMALL), 0, 1, {"fc": 0.0, "output": 0.001})
    with pytest.raises(ExecutionError, match="removes none"):
        check.check(run)


SMALL = {
    "data": "digits",
    "model": "lenet-12-6",
    "steps": 5,
    "batch": 20,
    "optimiser": "adam",
    "lr": 1e-3,
    "validation": 200,
}


def test_layers_that_are_pruned_together_are_counted_together():
    """lenet-12-6 has 64 · 12 + 12 · 6 + 6 · 10 = 900 weights in three layers; 90 % of them gone leave 90, then 9."""
    made = training(**SMALL)
    counted = check._Counts().of(tickets.imp(made, 0, 1, 0.9, scope="global")[1].mask, made)
    assert list(counted.values()) == [90] and len(models.prunable(models.build("lenet-12-6", (64,), 10))) == 3
    with pytest.raises(ExecutionError, match=r"90 weights that the 3 layers of lenet-12-6 have together left"):
        check.check(tickets.imp(made, 0, 2, 0.9, scope="global"))


EXECUTED = [
    ("01_winning_tickets", {"learning_rate": 1e-6, "levels": 1}),
    ("02_structure_or_initialisation", {"levels": 2, "reinit_every": 2, "random_every": 2}),
    ("12_anatomy_of_a_ticket", {"learning_rate": 1.0, "levels": 1}),
]


@pytest.mark.parametrize(("name", "given"), EXECUTED)
def test_a_chapter_at_an_end_of_its_ranges_runs_to_its_end(name, given, tmp_path):
    assert executed(name, tiny(name) | given, tmp_path / "store") is None


@pytest.mark.skipif(not NIGHTLY, reason="hours: set LOTTERY_NIGHTLY=1")
@pytest.mark.parametrize("name", planning.names())
def test_every_chapter_runs_to_its_end_or_is_refused_before_it_trains(name, tmp_path):
    known = declared(name)
    sets = [given for given in ends(name) for key in given if given[key] == known[key].low or key not in SIZES]
    rng = random.Random(name)
    sets += [
        {key: value for key, value in given.items() if key not in SIZES and rng.random() < 0.5}
        for given in inside(name, 20, seed=1)
    ]
    for given in sets:
        executed(name, tiny(name) | given, tmp_path / "store")
