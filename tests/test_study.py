"""A study within a time budget: it stops inside, goes on, and what it exports is all that the chapters need."""

import time

import pytest
import yaml

from lottery import LotteryError
from lottery.__main__ import main
from lottery.book import chapters, runner, study
from lottery.book.study import Part
from lottery.engine import execute
from lottery.engine import train as engine
from lottery.engine.store import Store

SMALL = {"model": "lenet-20", "steps": 60, "levels": 2, "replicates": 2}
PARTS = [
    {"chapter": "01_winning_tickets", "profile": "quick", "given": SMALL | {"steps": 600, "levels": 1}},
    {
        "chapter": "03_are_tickets_alike",
        "profile": "quick",
        "given": SMALL | {"compare_every": 2, "controls_every": 2, "orders_levels": 1, "halves_levels": 1},
    },
    {
        "chapter": "08_why_not_one_shot",
        "profile": "quick",
        "given": SMALL
        | {
            "every": 2,
            "search_steps": 5,
            "one_shot_every": 1,
            "adaptive_levels": 1,
            "lanczos_steps": 10,
            "probes": 1,
            "examples": 200,
        },
    },
]


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.yml"
    path.write_text(yaml.safe_dump(PARTS))
    return path


def command(tmp_path, plan, minutes):
    """The command's exit status."""
    return main(
        [
            "study",
            "--budget",
            str(minutes),
            "--plan",
            str(plan),
            "--store",
            str(tmp_path / "store"),
            "--export",
            str(tmp_path / "export"),
            "--executor",
            "inline",
        ]
    )


def test_a_rehearsed_study_stops_inside_its_budget_goes_on_and_comes_home(tmp_path, plan, capsys, monkeypatch):
    steps, ask, pause, began = [], engine._Batches.__getitem__, [5], time.time()
    clock = [began]  # goes on with the steps alone: the test says the same on a slow machine

    def counted(self, step):
        steps.append(step)
        clock[0] += pause[0]
        return ask(self, step)

    monkeypatch.setattr(engine._Batches, "__getitem__", counted)
    monkeypatch.setattr(time, "time", lambda: clock[0])
    status = command(tmp_path, plan, 10)
    said, store = capsys.readouterr().out, Store(tmp_path / "store")
    assert status == 0 and 480 <= clock[0] - began < 600
    assert "time is up" in said and "0 of 3 parts are complete; the same command goes on" in said
    assert list((store.root / "partial").glob("*.safetensors"))

    pause[0] = 0
    assert command(tmp_path, plan, 10) == 0
    assert "3 of 3 parts are complete\n" in capsys.readouterr().out
    runs = [record.recipe for record in map(store.read, store.keys()) if record.recipe["type"] == "Run"]
    assert len(steps) == sum(run["training"]["steps"] - run["weights"].get("step", 0) for run in runs)

    files = sorted((tmp_path / "export").iterdir())
    assert len(files) <= 8 and all(path.stat().st_size <= 15 * 2**20 for path in files)
    home = Store(tmp_path / "home")
    assert sorted(home.import_(files)) == store.keys() and not any(home.states(key) for key in home.keys())
    settings = {"LOTTERY_STORE": str(home.root), "LOTTERY_READ_ONLY": "1"}  # whatever is missing is an error
    assert study.run(study.read_plan(plan), 10, settings, tmp_path / "again", print), capsys.readouterr().out


def test_the_plan_of_the_study_names_chapters_and_parameters_that_there_are():
    parts = study.read_plan()
    assert {part.chapter for part in parts} == set(runner.names())
    assert parts[0].parameters()["model"] == "resnet-20"


@pytest.mark.parametrize("name", runner.names())
def test_every_chapter_says_at_every_profile_what_it_needs_before_it_draws(name, monkeypatch):
    def stop(self, wanted):
        raise InterruptedError

    monkeypatch.setattr(chapters.Chapter, "execute", stop)
    for profile in runner.PROFILES:
        keys = []
        with pytest.raises(InterruptedError):
            study.compute(Part(name, profile), keys)
        assert len(set(keys)) > 1


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("chapter: 01_winning_tickets", "a plan is a list"),
        ("- {chapter: 01_winning_tickets, levels: 3}", "a plan is a list"),
        ("- {chapter: 99_nothing}", "no chapter '99_nothing'"),
        ("- {chapter: 01_winning_tickets, profile: huge}", "no profile 'huge'"),
        ("- {chapter: 01_winning_tickets, given: {level: 3}}", "there is no parameter 'level'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, wrong, words):
    (tmp_path / "plan.yml").write_text(wrong)
    with pytest.raises(LotteryError, match=words):
        study.read_plan(tmp_path / "plan.yml")


def test_a_budget_of_nothing_is_refused(tmp_path, plan, capsys):
    assert command(tmp_path, plan, 0) == 1
    assert "the budget must be more than 0 minutes" in capsys.readouterr().err


def test_what_computes_beyond_the_deadline_is_broken_off(tmp_path, monkeypatch):
    """As a spectrum that takes minutes."""
    part, begun = Part(**PARTS[2]), []

    def endless(recipe, store, device):
        begun.append(recipe)
        until = time.monotonic() + 90
        while time.monotonic() < until:
            time.sleep(0.01)

    monkeypatch.setattr(execute, "_compute_result", endless)
    said, began = [], time.time()
    settings = {"LOTTERY_STORE": str(tmp_path / "store"), "LOTTERY_EXECUTOR": "inline"}
    assert not study.run([part, part], 0.1, settings, tmp_path / "export", said.append)
    assert time.time() - began < 60 and len(said) >= 2 and "time is up" in said[0]
    assert len(begun) == 1  # nothing new is begun after the deadline


def test_a_part_that_fails_does_not_keep_the_others_from_being_computed(tmp_path, monkeypatch):
    def broken(self, wanted):
        if self.name.startswith("08"):
            raise ZeroDivisionError("nothing")
        return execute_(self, wanted)

    execute_ = chapters.Chapter.execute
    monkeypatch.setattr(chapters.Chapter, "execute", broken)
    said = []
    settings = {"LOTTERY_STORE": str(tmp_path / "store"), "LOTTERY_EXECUTOR": "inline"}
    parts = [Part(**PARTS[2]), Part("01_winning_tickets", "quick", SMALL)]
    assert not study.run(parts, 5, settings, tmp_path / "export", said.append)
    assert "failed: ZeroDivisionError: nothing" in said[0] and "complete" in said[1]
    assert said[2] == "1 of 2 parts are complete; the same command goes on" and len(said) == 4
