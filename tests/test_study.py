"""A study within a time budget: it stops inside, goes on, and what it exports is all that the chapters need."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from lottery import LotteryError, data
from lottery.__main__ import main
from lottery.book import planning, study
from lottery.book.planning import Part
from lottery.engine import check as checking
from lottery.engine import compute, settings, stopping
from lottery.engine import train as engine
from lottery.engine.plan import plan as missing
from lottery.engine.store import Store

ROOT = Path(__file__).resolve().parent.parent
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
    steps, ask, pause, began = [], engine.Batches.__getitem__, [5], time.monotonic()
    clock = [began]  # goes on with the steps alone: the test says the same on a slow machine

    def counted(self, step):
        steps.append(step)
        clock[0] += pause[0]
        return ask(self, step)

    monkeypatch.setattr(engine.Batches, "__getitem__", counted)
    monkeypatch.setattr(checking, "trial", lambda *_: None)  # its steps are none of the study's
    monkeypatch.setattr(stopping.time, "monotonic", lambda: clock[0])
    status = command(tmp_path, plan, 10)
    said, store = capsys.readouterr().out, Store(tmp_path / "store")
    assert status == study.GOES_ON and 480 <= clock[0] - began < 600
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
    assert [missing(part.recipes, home) for part in study.read_plan(plan)] == [{}, {}, {}]


def test_the_plan_of_the_study_names_chapters_and_parameters_that_there_are():
    parts = study.read_plan()
    assert {part.chapter for part in parts} == set(planning.names())
    assert parts[0].parameters["model"] == "resnet-20"


def test_a_plan_calls_chapters_by_number_too(tmp_path):
    (tmp_path / "plan.yml").write_text('[{chapter: 7}, {chapter: "07"}, {chapter: 07_how}]')
    assert [part.chapter for part in study.read_plan(tmp_path / "plan.yml")] == [planning.named("7")] * 3


def test_the_plan_that_readme_shows_is_one(tmp_path):
    [shown] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "plan.yml").write_text(shown)
    assert len(study.read_plan(tmp_path / "plan.yml")) == 2


@pytest.mark.parametrize("name", planning.names())
def test_every_chapter_says_at_every_profile_what_it_needs_before_anything_is_computed(name):
    parts = [Part(name, profile) for profile in planning.PROFILES]
    if name == "00_a_ticket_from_scratch":  # it trains before its study, the digits and its own steps at every profile
        assert all(part.parameters == parts[0].parameters for part in parts)
        assert len(set(Part(name, "quick", {"steps": 50}).keys)) > 20
    else:
        sizes = [len(set(part.keys)) for part in parts]
        assert min(sizes) > 30 and max(sizes) > min(sizes)


@pytest.mark.parametrize(
    "wrong, words",
    [
        ("", "a plan is a list"),
        ("[]", "a plan is a list"),
        ("chapter: 01_winning_tickets", "a plan is a list"),
        ("- {chapter: 01_winning_tickets, levels: 3}", "a plan is a list"),
        ("- {chapter: 01_winning_tickets, given: 3}", r"plan\.yml: a plan is a list .*; entry 1 is .*'given': 3"),
        ("- {chapter: [1]}", r"plan\.yml: a plan is a list .*; entry 1 is"),
        ("- {chapter: 01_winning_tickets}\n- {chapter: 99_nothing}", r"plan\.yml, entry 2: no chapter '99_nothing'"),
        ("- {chapter: 01_winning_tickets, profile: huge}", "no profile 'huge'"),
        ("- {chapter: 01_winning_tickets, given: {level: 3}}", "there is no parameter 'level'"),
        (
            "- {chapter: 1, given: {levels: 3, steps: 50, levels: 4}}",
            r"plan\.yml cannot be read: levels is given twice",
        ),
    ],
)
def test_a_plan_that_cannot_be_is_refused(tmp_path, wrong, words):
    (tmp_path / "plan.yml").write_text(wrong)
    with pytest.raises(LotteryError, match=words):
        study.read_plan(tmp_path / "plan.yml")


def test_numbers_of_a_plan_are_read_as_they_stand(tmp_path):
    (tmp_path / "plan.yml").write_text("- {chapter: 010, given: {conv_4: false, replicates: 2}}")
    assert [part.chapter for part in study.read_plan(tmp_path / "plan.yml")] == ["10_convolutional_tickets"]
    (tmp_path / "plan.yml").write_text("- {chapter: 1, given: {levels: 1:30}}")
    with pytest.raises(LotteryError, match="levels"):
        study.read_plan(tmp_path / "plan.yml")


def test_a_plan_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "plan.yml").write_bytes(b"\xff\xfe")
    with pytest.raises(LotteryError, match=r"plan\.yml cannot be read"):
        study.read_plan(tmp_path / "plan.yml")


@pytest.mark.parametrize("size", ["inf", "nan"])
def test_a_size_of_files_that_is_none_is_refused_before_anything_is_computed(tmp_path, size, capsys):
    given = ["study", "--budget", "1", "--export", str(tmp_path / "out"), "--part", size]
    assert main(given) == 1
    assert "must be from 0.1 to" in capsys.readouterr().err


def test_another_file_under_the_name_of_a_part_is_refused_before_anything_is_computed(tmp_path, plan, capsys):
    (other := tmp_path / "export" / "study-01.lotx").parent.mkdir()
    other.write_bytes(b"")
    assert command(tmp_path, plan, 1) == 1
    said = f"error: {other} is there already, and is no part of {other.with_name('study.lotx')}: export to another name"
    assert capsys.readouterr().err.startswith(said) and not (tmp_path / "store").exists()


def test_a_budget_of_nothing_is_refused(tmp_path, plan, capsys):
    assert command(tmp_path, plan, 0) == 1
    assert "the budget must be more than 0 minutes" in capsys.readouterr().err


def packed(store, keys):
    packed.keys = keys


def test_what_computes_beyond_the_deadline_is_broken_off(tmp_path, monkeypatch):
    """As a spectrum that takes minutes."""
    part, begun, left, now, passed = Part(**PARTS[2]), [], [], time.monotonic, [0.0]

    def endless(recipes, store, device):
        begun.append(recipes)
        left.append(signal.getitimer(signal.ITIMER_REAL)[0])
        passed[0] += left[0]  # the test does not wait for the deadline
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        until = now() + 90
        while now() < until:
            time.sleep(0.01)

    monkeypatch.setattr(compute, "_results", endless)
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now() + passed[0])
    said, began = [], now()
    own = settings.made(store=tmp_path / "store", executor="inline")
    assert study.run([part, part], 5, own, packed, said.append) == study.GOES_ON
    assert now() - began < 60 and "time is up" in said[0]
    assert len(begun) == 1 and 0 < left[0] < 300  # nothing new is begun after the deadline, for which a timer was set


def test_breaking_off_is_not_lost_in_a_callback_of_the_collector():
    """Python drops exceptions there, as in finalisers."""

    def slow(phase, info):
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass

    gc.callbacks.append(slow)
    began = time.monotonic()
    try:
        with pytest.raises(stopping.OutOfTime), stopping.in_order(began + 0.1):
            gc.collect()
            gc.callbacks.remove(slow)
            time.sleep(20)
    finally:
        if slow in gc.callbacks:
            gc.callbacks.remove(slow)
    assert 0.3 < time.monotonic() - began < 10


def test_a_part_that_fails_does_not_keep_the_others_from_being_computed(tmp_path, monkeypatch):
    def broken(recipes, by):
        if any(recipe.__class__.__name__ == "Spectrum" for recipe in recipes):
            raise ZeroDivisionError("nothing")
        return computed(recipes, by)

    computed = study.compute
    monkeypatch.setattr(study, "compute", broken)
    said = []
    own = settings.made(store=tmp_path / "store", executor="inline")
    parts = [Part(**PARTS[2]), Part("01_winning_tickets", "quick", SMALL)]
    assert study.run(parts, 5, own, packed, said.append) == 1
    assert "failed: ZeroDivisionError: nothing" in said[0] and "complete" in said[1]
    assert said[2] == "1 of 2 parts are complete, 1 failed" and len(packed.keys) >= 10


def test_the_same_command_goes_on_where_parts_are_left_though_others_failed(tmp_path, monkeypatch):
    planning_takes(8, monkeypatch)
    said, own = [], settings.made(store=tmp_path / "store", executor="inline")
    parts = [Part("01_winning_tickets", "quick", SMALL | {"model": name}) for name in ("no-such-network", "lenet-20")]
    assert study.run(parts, 0.1, own, pytest.fail, said.append) == 1
    assert "0 of 2 parts are complete, 1 failed; the same command goes on" in said


def test_a_part_that_cannot_be_planned_is_said_at_once(tmp_path):
    said = []
    own = settings.made(store=tmp_path / "store", executor="inline")
    small = SMALL | {"levels": 1}
    parts = [Part("01_winning_tickets", "quick", given) for given in (small | {"model": "no-such-network"}, small)]
    assert study.run(parts, 5, own, packed, said.append) == 1
    assert "'no-such-network'" in said[0] and said[1].startswith("01_winning_tickets, quick (part 2): complete")
    assert said[0].startswith("01_winning_tickets, quick (part 1): failed, nothing of it was computed")


def planning_takes(seconds, monkeypatch):
    """Lets the planning of a part take so long; returns the parts that were planned."""
    planned, passed, now, check = [], [0.0], time.monotonic, Part.check

    def slow(part, *given):
        planned.append(part.given["steps"])
        passed[0] += seconds
        return check(part, *given)

    monkeypatch.setattr(Part, "check", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed[0])
    return planned


def test_planning_does_not_use_up_the_budget(tmp_path, monkeypatch):
    """What is planned in a tenth of it is computed; then each part is planned when its turn comes."""
    planned, said = planning_takes(30, monkeypatch), []
    own = settings.made(store=tmp_path / "store", executor="inline")
    parts = [Part("01_winning_tickets", "quick", SMALL | {"steps": 50 + n, "levels": 1}) for n in range(6)]
    compute = study.compute
    monkeypatch.setattr(study, "compute", lambda *given: planned.append("computed") or compute(*given))
    assert study.run(parts, 10, own, packed, said.append) == 0  # 9 minutes until the deadline
    assert planned == [50, 51, "computed", "computed", 52, "computed", 53, "computed", 54, "computed", 55, "computed"]
    assert said[-1] == "6 of 6 parts are complete"


def test_planning_that_meets_the_end_says_so_and_that_nothing_was_exported(tmp_path, monkeypatch):
    planning_takes(0, monkeypatch)
    monkeypatch.setattr(Part, "check", lambda *given: time.sleep(30))
    said, own = [], settings.made(store=tmp_path / "store", executor="inline")
    assert study.run([Part("01_winning_tickets", "quick")], 0.05, own, pytest.fail, said.append) == study.GOES_ON
    assert said == [
        "planning 01_winning_tickets, quick: time is up: nothing of it was computed",
        "0 of 1 parts are complete; the same command goes on",
        "nothing was exported: there is no record yet",
    ]


def test_data_that_are_missing_are_said_once_and_first(tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTERY_DATA", str(tmp_path / "mistyped"))
    data.forget()
    small = {"chapter": "01_winning_tickets", "profile": "quick", "given": SMALL | {"levels": 1}}
    others = [{**small, "given": {**small["given"], "data": "mnist", "steps": 50 + n}} for n in range(3)]
    hidden = {"chapter": "14_do_tickets_transfer", "profile": "quick", "given": {**small["given"], "other": "mnist"}}
    hidden["given"]["moved_at"] = "1"
    said, own = [], settings.made(store=tmp_path / "store", executor="inline")
    parts = [Part(**one) for one in (small, *others, hidden)]
    assert study.run(parts, 5, own, packed, said.append) == 1
    assert said[0].startswith("data: failed, 3 parts of 5 cannot do without: mnist: LOTTERY_DATA names")
    assert said[1] == "14_do_tickets_transfer, quick: failed, nothing of it was computed: for want of data, as above"
    assert said[2].startswith("01_winning_tickets, quick (part 1): complete")
    assert said[3] == "1 of 5 parts are complete, 4 failed"
    assert len(said) == 4 and not (tmp_path / "mistyped").exists()


def test_data_of_what_is_complete_are_not_looked_for(tmp_path, monkeypatch):
    part, said = Part("01_winning_tickets", "quick", SMALL | {"levels": 1}), []
    own = settings.made(store=tmp_path / "store", executor="inline")
    assert study.run([part], 5, own, packed, said.append) == 0
    monkeypatch.setattr(data, "describe", lambda name: pytest.fail(f"{name} was read, or downloaded"))
    assert list(study._without_data([part], Store(own.store), time.monotonic() + 60)) == []
    assert list(study._without_data([part], Store(tmp_path / "empty"), time.monotonic())) == []


def test_time_that_is_up_while_data_are_looked_for_is_said(tmp_path, monkeypatch):
    def late(recipes, store):
        raise stopping.error("planning")

    monkeypatch.setattr(study, "plan", late)
    said, own = [], settings.made(store=tmp_path / "store", executor="inline")
    assert study.run([Part("01_winning_tickets", "quick", SMALL)], 5, own, pytest.fail, said.append) == study.GOES_ON
    assert said[0] == "looking for data: time is up: nothing of it was computed"


def test_a_budget_does_not_follow_a_clock_that_is_set_back(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    said, began = [], time.monotonic()
    own = settings.made(store=tmp_path / "store", executor="inline")
    long = PARTS[0] | {"given": PARTS[0]["given"] | {"steps": 100_000}}  # minutes on any processor
    assert study.run([Part(**long)], 0.02, own, packed, said.append, began) == study.GOES_ON
    assert time.monotonic() - began < 30


def test_time_that_is_over_deletes_no_earlier_export(tmp_path, plan, capsys):
    """And what another study left beside it stays, too."""
    (tmp_path / "small.yml").write_text(yaml.safe_dump([{**PARTS[0], "given": SMALL | {"levels": 1, "steps": 50}}]))
    assert command(tmp_path, tmp_path / "small.yml", 5) == 0
    first = tmp_path / "export" / "study.lotx"
    other = tmp_path / "export" / "study-of-last-year.lotx"
    other.write_bytes(b"")
    before = set(Store(tmp_path / "one").import_([first]))
    (tmp_path / "store").rename(tmp_path / "gone")  # another machine
    assert command(tmp_path, plan, 0.0001) == study.GOES_ON
    assert other.exists() and before <= set(Store(tmp_path / "two").import_([first])) and before


@pytest.mark.parametrize(("number", "executor"), [("SIGINT", "inline"), ("SIGHUP", "processes")])
def test_a_signal_saves_exports_and_tells(number, executor, tmp_path):
    part = {"chapter": "01_winning_tickets", "profile": "quick", "given": SMALL | {"steps": 200_000}}
    (tmp_path / "plan.yml").write_text(yaml.safe_dump([{**part, "given": SMALL | {"steps": 50, "levels": 1}}, part]))
    arguments = ["study", "--budget", "30", "--plan", "plan.yml", "--export", "export", "--store", "store"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lottery", *arguments, "--executor", executor, "--jobs", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "LOTTERY_ROOT": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "complete" in process.stdout.readline()
        store, until = tmp_path / "store", time.monotonic() + 120
        seen = {"inline": "locks/*", "processes": "partial/*.steps"}[executor]
        first = len(list(store.glob("locks/*"))) if executor == "inline" else 0
        while time.monotonic() < until and len(list(store.glob(seen))) == first:  # then the next part trains
            time.sleep(0.2)
        time.sleep(1)
        process.send_signal(signal.Signals[number])
        said, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.Signals[number], errors
    assert f"stopped by {number}" in said and "Traceback" not in errors
    assert (
        list((tmp_path / "store" / "partial").glob("*.safetensors")) and (tmp_path / "export" / "study.lotx").exists()
    )


TINY = {
    "chapter": "13_capacity",
    "profile": "quick",
    "given": {"widths": "3 9", "steps": 50, "levels": 1, "replicates": 1},
}


def started(tmp_path, redirected="", **more):
    """A study of three small parts in a shell, which hands it its streams."""
    parts = [TINY | {"given": TINY["given"] | {"seed": seed}} for seed in (0, 1, 2)]
    (tmp_path / "plan.yml").write_text(yaml.safe_dump(parts))
    command = (
        f"exec {sys.executable} -m lottery study --budget 5 --plan plan.yml --export 日本 --store s --executor inline"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LOTTERY_ROOT": str(ROOT), "PYTHONIOENCODING": "latin-1"}
    return subprocess.Popen(["bash", "-c", command + redirected], cwd=tmp_path, env=environment, **more)


def test_a_study_whose_reader_is_gone_goes_on_and_exports(tmp_path):
    with started(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()  # as `head -1` does
        assert process.wait(120) == 0, process.stderr.read()
    assert len(Store(tmp_path / "two").import_([tmp_path / "日本" / "study.lotx"])) == len(Store(tmp_path / "s").keys())


def test_a_study_without_streams_computes_and_exports(tmp_path):
    assert started(tmp_path, " >&- 2>&-").wait(120) == 0
    assert (tmp_path / "日本" / "study.lotx").exists()


@pytest.mark.parametrize("harm", ["a part is gone", "cut off"])
def test_what_a_killed_export_has_left_keeps_no_study_from_going_on(harm, tmp_path, capsys):
    (tmp_path / "plan.yml").write_text(yaml.safe_dump([TINY]))
    assert command(tmp_path, tmp_path / "plan.yml", 5) == 0
    store, export = Store(tmp_path / "store"), tmp_path / "export"
    if harm == "a part is gone":
        (export / "study.lotx").unlink()
        parts = store.export(store.keys(), export / "study.lotx", part_bytes=6000)
        assert len(parts) > 2
        parts[1].unlink()
    else:
        whole = (export / "study.lotx").read_bytes()
        (export / "study.lotx").write_bytes(whole[: len(whole) // 2])
    assert command(tmp_path, tmp_path / "plan.yml", 5) == 0
    assert {"a part is gone": "is missing", "cut off": "set aside"}[harm] in capsys.readouterr().out
    there = list(export.glob("study*.lotx"))
    assert set(Store(tmp_path / "two").import_(there)) == set(store.keys())
    assert len(list(export.glob("*.damaged"))) == (harm == "cut off")


def test_a_budget_of_centuries_is_taken(tmp_path):
    (tmp_path / "plan.yml").write_text(yaml.safe_dump([TINY]))
    assert command(tmp_path, tmp_path / "plan.yml", 1e9) == 0


@pytest.mark.parametrize("text", ["- !!timestamp abc", "- !!bool abc", "[" * 5000])
def test_a_plan_that_yaml_stumbles_over_is_refused(text, tmp_path, capsys):
    (tmp_path / "plan.yml").write_text(text)
    assert command(tmp_path, tmp_path / "plan.yml", 5) == 1
    assert "plan.yml cannot be read" in capsys.readouterr().err


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["store", "ls", "--store=~/none"]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err
    monkeypatch.setenv("LOTTERY_STORE", "~/results")
    assert settings.default_store() == tmp_path / "results"


def test_a_pipe_is_no_export(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.lotx")
    assert main(["store", "import", str(tmp_path / "pipe.lotx"), "--store", str(tmp_path / "store")]) == 1
    assert "is no file of a disk" in capsys.readouterr().err


def test_an_export_keeps_what_another_study_has_put_there(tmp_path, capsys):
    """Two studies with stores of their own and one folder; and one that may write fewer files than are there."""
    for seed in (0, 1):
        (tmp_path / "plan.yml").write_text(yaml.safe_dump([TINY | {"given": TINY["given"] | {"seed": seed}}]))
        arguments = [
            "--export",
            str(tmp_path / "export"),
            "--store",
            str(tmp_path / f"store{seed}"),
            "--executor",
            "inline",
        ]
        assert main(["study", "--budget", "5", "--plan", str(tmp_path / "plan.yml"), *arguments]) == 0
    both = {key for seed in (0, 1) for key in Store(tmp_path / f"store{seed}").keys()}
    [file] = (tmp_path / "export").glob("*.lotx")
    assert set(Store(tmp_path / "all").import_([file])) == both
    file.unlink()
    Store(tmp_path / "all").export(both, file, part_bytes=6000)
    assert main(["study", "--budget", "5", "--plan", str(tmp_path / "plan.yml"), *arguments, "--files", "1"]) == 1
    assert "would leave out" in capsys.readouterr().err
