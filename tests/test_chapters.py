"""The strict runner, the gates and the command line; notebooks are executed by a real kernel through papermill."""

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch
import yaml

from lottery import LotteryError
from lottery.__main__ import main
from lottery.book import claims, gates, pages, parameters, planning, runner
from lottery.book.chapter import Chapter
from lottery.engine import settings as settings_of
from lottery.engine.store import Store

ROOT = Path(__file__).resolve().parent.parent
SMALL = {"steps": 50, "levels": 3, "replicates": 2, "validation": 20}
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
FIRST, SECOND = "01_winning_tickets", "02_structure_or_initialisation"


def settings(store, **more):
    return settings_of.made(store=store, executor="inline", **more)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Both chapters executed small, sharing one store: their folder and the store's."""
    folder, store = tmp_path_factory.mktemp("chapters"), tmp_path_factory.mktemp("store")
    for name in (FIRST, SECOND):
        given = SMALL | (
            {f"{kind}_every": 2 for kind in ("reinit", "random", "one_shot", "shuffled")} | {"live_at": "1"}
            if name == SECOND
            else {}
        )
        runner.run(name, "quick", given, folder=folder, settings=settings(store), show=False)
    return folder, store


STAND_IN = {"model": "resnet-8", "batch": 32, "early_step": 5, "matching_step": 20, "search": 1, "path_half": 2}
STAND_IN |= {"examples": 64, "test_examples": 50, "evaluations": 5}
CONV = {"conv_replicates": 1, "conv_data": "digits", "conv_steps": 50, "conv_evaluations": 5, "batch": 10}


@pytest.mark.parametrize(
    ("name", "given", "judged"),
    [
        (
            "03_are_tickets_alike",
            {"model": "lenet-30-20", "compare_every": 2, "controls_every": 2, "orders_levels": 1, "halves_levels": 1},
            "A-C1 A-C2 A-C5",
        ),
        (
            "04_do_signs_carry_the_ticket",
            {"model": "lenet-30-20", "altered_every": 2, "criteria_level": 1, "supermask_every": 2, "rate_levels": 2},
            "A-C4 D2-C1 D2-C2 D2-C3 D5-C1",
        ),
        (
            "05_patterns_in_kernels",
            {"batch": 10, "evaluations": 5, "compare_every": 3, "controls_every": 3, "permutations": 9},
            "A-C3 Q4-P6",
        ),
        ("06_what_the_mask_conveys", STAND_IN | {"batch": 8, "levels": 2, "late_step": 40}, "B-C1 B-C2 B-C10"),
        (
            "07_how_sgd_finds_the_way_back",
            STAND_IN
            | {"model": "lenet-12-6", "level": 1, "doublings": 1, "tune_step": 40, "tune_levels": 1, "ticket_every": 3},
            "B-C3 B-C8 D1-C1 D1-C2",
        ),
        (
            "08_why_not_one_shot",
            {
                "model": "lenet-30-20",
                "evaluations": 5,
                "every": 2,
                "search_steps": 5,
                "one_shot_every": 1,
                "adaptive_levels": 2,
                "lanczos_steps": 20,
                "probes": 1,
                "examples": 200,
            },
            "B-C4 B-C5 B-C6 B-C9",
        ),
        (
            "09_what_retraining_is_for",
            {"model": "lenet-12-6", "evaluations": 5, "rewind_step": 10, "batch": 32},
            "B-C7 D5-C2 D6-C1",
        ),
        (
            "10_convolutional_tickets",
            {
                "batch": 10,
                "levels": 1,
                "replicates": 1,
                "conv_6": False,
                "evaluations": 5,
                "reinit_every": 1,
                "random_every": 1,
                "dropout_replicates": 1,
                "dropout_steps": 1,
                "precision": "bf16",
                "layout": "channels_last",
            },
            "C-C6 C-C4b",
        ),
        (
            "11_deeper_networks",
            {
                "batch": 16,
                "vgg_batch": 16,
                "vgg": True,
                "vgg_width": 4,
                "vgg_steps": 50,
                "levels": 1,
                "vgg_levels": 1,
                "replicates": 1,
                "evaluations": 3,
                "reinit_every": 1,
                "rewind_step": 20,
                "warmup": 20,
                "vgg_rewind_step": 20,
                "vgg_warmup": 20,
            },
            "C-C7 C-C8",
        ),
        (
            "12_anatomy_of_a_ticket",
            {"model": "lenet-30-20", "continued_levels": 2, "continued_every": 2, "noise_between": False},
            "C-C9 C-C11 C-C12",
        ),
        ("13_capacity", {"widths": "9 27"}, "C-C10"),
        (
            "14_do_tickets_transfer",
            CONV
            | {"model": "lenet-30-20", "moved_at": "2 3", "dead_pixels": True, "optimiser_replicates": 1}
            | {"conv_other": "digits", "conv_levels": 1, "conv_together": 3},
            "D4-C1 Q1-P1 Q1-P5 Q1-P6",
        ),
        (
            "15_losing_tickets",
            CONV | {"model": "lenet-30-20", "hidden_rate": 0.4, "output_rate": 0.3, "flipped": True, "random_masks": 2},
            "Q2-P1 Q2-P6 Q2-P7 Q2-P8",
        ),
        (
            "16_networks_that_work_untrained",
            {"model": "lenet-30-20", "shares_kept": "10 50", "score_steps": 10, "narrower": "lenet-9"}
            | {
                "conv_replicates": 2,
                "conv_data": "digits",
                "conv_batch": 20,
                "conv_steps": 10,
                "conv_narrower": "8 16",
            },
            "D2-C3b D3-C1 D3-C3 Q3-P2",
        ),
        (
            "17_what_marks_a_ticket",
            {"model": "lenet-30-20", "hidden_rate": 0.4, "output_rate": 0.3, "flipped": "50 100"},
            "Q4-P1 Q4-P4",
        ),
        (
            "18_what_a_ticket_is_worth",
            CONV
            | {
                "model": "lenet-30-20",
                "measured_every": 2,
                "cheap_levels": 2,
                "conv_levels": 1,
                "conv_keep": 0.81,
                "masks_every": 10,
            },
            "Q5-P1 Q5-P5 Q5-P7",
        ),
        ("18_what_a_ticket_is_worth", {"model": "lenet-30-20", "measured_every": 2}, "Q5-P1 Q5-P5 Q5-P7"),
    ],
)
def test_other_chapters(name, given, judged, tmp_path):
    path = runner.run(name, "quick", SMALL | given, folder=tmp_path, settings=settings(tmp_path / "store"), show=False)
    assert gates.check_executed(path) == []
    verdicts = read(path).metadata.lottery["verdicts"]
    assert set(judged.split()) <= set(verdicts) == {c for c, rule in claims.load().items() if rule.chapter == name}
    assert {verdict["scale"] for verdict in verdicts.values()} == {"stand-in"}
    assert "widths of Conv-2" not in str([verdict["unmet"] for verdict in verdicts.values()])  # three were run


def read(path):
    return nbformat.read(path, as_version=4)


def test_the_code_that_the_first_page_shows_is_a_script_of_its_own():
    cells = nbformat.read(ROOT / "notebooks" / "00_a_ticket_from_scratch.ipynb", as_version=4).cells
    until = next(i for i, cell in enumerate(cells) if "study" in cell.metadata.get("tags", ()))
    code = [cell for cell in cells[:until] if cell.cell_type == "code"]
    shown = [cell.source for cell in code if not {"remove-input", "hide-input"} & {*cell.metadata.get("tags", ())}]
    assert "lottery" not in "".join(shown)
    parameters, *plain = shown
    bare, threads = {"__name__": "__main__"}, torch.get_num_threads()
    try:
        exec("\n\n".join([parameters, "steps, levels = 60, 2", *plain]), bare)
    finally:
        torch.set_num_threads(threads)
    assert len(bare["ticket"]) == len(bare["control"]) == 3 and min(bare["ticket"]) > 0.3
    assert bare["left"][0] == 1 and bare["left"] == sorted(bare["left"], reverse=True)


def test_executed_chapters_pass_the_gates(executed):
    for name in (FIRST, SECOND):
        assert gates.check_executed(executed[0] / f"{name}.ipynb") == []


def test_chapters_share_their_tickets(executed):
    first, second = (set(read(executed[0] / f"{name}.ipynb").metadata.lottery["keys"]) for name in (FIRST, SECOND))
    assert first and first < second
    told = read(executed[0] / f"{SECOND}.ipynb").metadata.lottery["values"]
    assert all("pp" in told[name] for name in ("beyond-live", "live-gain")) and "not run" not in told["beyond-live"]


def test_provenance_says_what_made_the_page(executed):
    notebook = read(executed[0] / f"{FIRST}.ipynb")
    made, shown = notebook.metadata.lottery, code(notebook)[-1].outputs[-1]["data"]["text/html"]
    at = made["git"]["commit"] if made["git"] else "main"  # an archive has no commits
    leads = [f"blob/{at}/notebooks/{FIRST}.ipynb", f"blob/{at}/lottery/book/claims.yml", "tree/main/book/results"]
    for path in leads + ([f"commit/{at}"] if made["git"] else []):
        assert f'href="{REPOSITORY}/{path}"' in shown
    assert made["parameters"]["steps"] == 50 and made["profile"] == "quick"
    judged = {claim: (verdict["scale"], verdict["label"]) for claim, verdict in made["verdicts"].items()}
    asked = ("C-C1", "C-C1b", "C-C2", "C-C2b", "C-C2c", "C-C2d")
    assert judged == dict.fromkeys(asked, ("stand-in", "not measured"))
    assert made["versions"]["torch"] and made["values"]["replicates"] == "2"


def test_no_path_of_this_machine_and_no_progress_bar_in_a_page(executed):
    for name in (FIRST, SECOND):
        text = (executed[0] / f"{name}.ipynb").read_text()
        assert str(ROOT) not in text and str(executed[1]) not in text and "step/s" not in text


def test_claim_cards_are_filled_in_at_the_top(executed):
    notebook = read(executed[0] / f"{FIRST}.ipynb")
    shown = [output.get("data", {}).get("text/html", "") for output in code(notebook)[0].outputs]
    card = next(text for text in shown if "claim-card" in text)
    assert "not judged yet" not in card and "levels: 3 of 7" in card  # what so small a study does not have
    assert any("8 training runs" in str(output) for cell in code(notebook) for output in cell.outputs)


def test_executing_again_computes_nothing_and_gives_the_same_numbers(executed, tmp_path):
    own = settings(executed[1], read_only=True)
    again = runner.run(FIRST, "quick", SMALL, folder=tmp_path, settings=own, show=False)
    old = read(executed[0] / f"{FIRST}.ipynb").metadata.lottery
    assert {k: old[k] for k in ("values", "verdicts", "keys")} == {
        k: read(again).metadata.lottery[k] for k in ("values", "verdicts", "keys")
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stepz": 5}, "there is no parameter 'stepz'"),
        ({"steps": "2.5"}, "steps = '2.5': must be a whole number from 50"),
        ({"steps": 2.5}, "must be a whole number"),
        ({"steps": 10}, "from 50 to 1000000"),
        ({"steps": True}, "must be a whole number"),
        ({"data": "imagenet"}, "must be one of digits, mnist, fashion-mnist"),
        ({"fresh_order": "yes"}, "must be true or false"),
        ({"learning_rate": "nan"}, "must be a number"),
    ],
)
def test_wrong_parameters_are_refused_before_a_kernel_starts(given, said, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "_papermill", lambda *a: pytest.fail("a kernel was started"))
    with pytest.raises(parameters.ParameterError) as error:
        runner.run(FIRST, "quick", given, folder=tmp_path)
    assert said in str(error.value) and "replicates: int" in str(error.value)  # and it lists what is allowed


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("14_do_tickets_transfer", {"moved_at": "8"}, "from 1 to 7"),
        ("14_do_tickets_transfer", {"moved_at": "7 3"}, "whole numbers that rise"),
        ("14_do_tickets_transfer", {"model": "conv-2"}, "must be a LeNet"),
        ("15_losing_tickets", {"levels": 6}, "take more levels"),
        ("15_losing_tickets", {"output_rate": 0.0}, "take more levels"),
        ("15_losing_tickets", {"random_masks": 1}, "at least 2"),
        ("16_networks_that_work_untrained", {"shares_kept": "10 90"}, "50 must be in all"),
        ("16_networks_that_work_untrained", {"model": "conv-2"}, "must be a LeNet"),
        ("17_what_marks_a_ticket", {"levels": 6}, "take more levels"),
        ("17_what_marks_a_ticket", {"model": "conv-2"}, "must be a LeNet"),
        ("18_what_a_ticket_is_worth", {"cheap_steps": 20}, "must be 0, or at least 50"),
        ("18_what_a_ticket_is_worth", {"model": "conv-2"}, "of a LeNet"),
        ("18_what_a_ticket_is_worth", {"measured_every": 20}, "at most the 15 levels"),
    ],
)
def test_parameters_that_cannot_be_together_are_refused_before_training(name, given, said):
    with pytest.raises(parameters.ParameterError, match=said):
        _ = planning.Part(name, "quick", given).recipes


def test_texts_are_read_in_the_parameters_type():
    declared = parameters.parameters_of(planning.source(FIRST))
    given = {"steps": "700", "learning_rate": "1e-3", "fresh_order": "false"}
    assert parameters.check_parameters(declared, given) == {"steps": 700, "learning_rate": 0.001, "fresh_order": False}


def test_plain_papermill_refuses_in_the_same_words(tmp_path):
    command = [
        sys.executable,
        "-m",
        "papermill",
        "--no-progress-bar",
        "--cwd",
        str(ROOT),
        str(ROOT / "notebooks" / f"{FIRST}.ipynb"),
        str(tmp_path / "out.ipynb"),
        *["-p", "stepz", "60", "-p", "steps", "10"],
    ]
    environment = os.environ | {"LOTTERY_STORE": str(tmp_path / "store")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "no parameter 'stepz'" in done.stderr and "steps = 10: must be" in done.stderr
    assert not (tmp_path / "store").exists()  # nothing was computed


def _broken(monkeypatch, tmp_path, cell):
    """A project folder whose first chapter has an extra cell before its end."""
    root = tmp_path / "project"
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    path = root / "notebooks" / f"{FIRST}.ipynb"
    notebook = read(path)
    notebook.cells.insert(len(notebook.cells) - 2, nbformat.v4.new_code_cell(cell))
    nbformat.write(notebook, path)
    monkeypatch.setenv("LOTTERY_ROOT", str(root))
    return root


@pytest.mark.parametrize(
    ("cell", "said"), [("1 / 0", "ZeroDivisionError"), ("import os; os._exit(9)", "the kernel died")]
)
def test_a_chapter_that_fails_leaves_the_finished_one_in_place(cell, said, executed, tmp_path, monkeypatch):
    root = _broken(monkeypatch, tmp_path, cell)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / f"{FIRST}.ipynb").write_text("the finished one")
    with pytest.raises(parameters.ChapterError, match=said):
        runner.run(FIRST, "quick", SMALL, folder=folder, settings=settings(executed[1]), show=False)
    assert (folder / f"{FIRST}.ipynb").read_text() == "the finished one"
    assert (root / "_build" / "failed" / f"{FIRST}.ipynb").exists()


TOGETHER = """
import time
from pathlib import Path

Path(f"{mine}.there").touch()
until = time.monotonic() + 120
while not Path(f"{other}.there").exists():
    assert time.monotonic() < until, "the other chapter does not run"
    time.sleep(0.05)
"""


def test_two_chapters_are_executed_at_a_time_from_one_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LOTTERY_ROOT", str(tmp_path))
    (tmp_path / "notebooks").mkdir()
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    tasks = []
    for mine, other in (("a", "b"), ("b", "a")):
        cells = [nbformat.v4.new_code_cell(f"mine, other = {mine!r}, {other!r}" + TOGETHER)]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
        nbformat.write(notebook, tmp_path / "notebooks" / f"{mine}.ipynb")
        (scratch := tmp_path / f"scratch-{mine}").mkdir()
        own = settings_of.made(store=scratch / "store", progress=scratch / "state.json")
        out = scratch / "out.ipynb"
        tasks.append(lambda alone, mine=mine, out=out, own=own: (alone, runner._papermill(mine, {}, out, own, alone)))
    both = runner.run_beside(tasks, settings_of.made(executor="processes", jobs=2))
    assert list(both) == [(False, None), (False, None)]
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.there",
        "b.there",
        "notebooks",
        "scratch-a",
        "scratch-b",
    }


# Gates: each is shown a notebook that it must refuse.


def output(kind, data=None, **more):
    return nbformat.v4.new_output(kind, data, **more) if data else nbformat.v4.new_output(kind, **more)


def spoilt(executed, tmp_path, spoil):
    notebook = read(executed[0] / f"{FIRST}.ipynb")
    spoil(notebook)
    path = tmp_path / f"{FIRST}.ipynb"
    nbformat.write(notebook, path)
    return gates.check_executed(path)


def models(notebook):
    return notebook.metadata.widgets[pages.STATE]["state"]


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda n: code(n)[3].update(execution_count=None), "did not run once each in order"),
        (lambda n: code(n)[3].outputs.append(output("error", ename="E", evalue="", traceback=[])), "error"),
        (lambda n: code(n)[-1].update(outputs=[]), "did not reach Chapter.finish()"),
        (lambda n: n.metadata.lottery.update(source_sha256="0"), "stale"),
        (lambda n: code(n)[3].outputs.append(output("display_data", {"image/png": "AA=="})), "bare image"),
        (lambda n: code(n)[3].outputs.append(output("display_data", {"text/html": "<img src=''>"})), "alternative"),
        (lambda n: models(n).update(x={"model_name": "OutputModel", "state": {}}), "Output"),
        (lambda n: models(n).update(x={"model_name": "ButtonModel", "state": {}}), "button"),
    ],
)
def test_gates_refuse(executed, tmp_path, spoil, said):
    assert any(said in problem for problem in spoilt(executed, tmp_path, spoil))


def test_source_notebooks_pass_the_gates():
    assert [problem for name in planning.names() for problem in gates.check_source(name)] == []


def test_a_typed_number_in_prose_is_found():
    cells = [
        nbformat.v4.new_code_cell("chapter.figure(x)"),
        nbformat.v4.new_markdown_cell("It gains 0.3 pp, or 12 %."),
        nbformat.v4.new_markdown_cell("With {glue:text}`left` % of the weights."),
    ]
    assert len(gates.typed_numbers(nbformat.v4.new_notebook(cells=cells))) == 2


# The command line.


def test_command_line_says_what_is_wrong(capsys):
    assert main(["run", "01_winning_tikets"]) == 1
    assert f"did you mean {FIRST!r}?" in capsys.readouterr().err
    assert main(["run", FIRST, "--profile", "huge"]) == 1
    assert "quick, standard, paper" in capsys.readouterr().err
    for more in ([], ["--profile", "quick"]):
        assert main(["run", FIRST, "-p", "levels=5", *more]) == 1
        assert "two words: -p levels 5, not -p levels=5" in capsys.readouterr().err
    assert main(["parameters", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{FIRST}:\n")
    assert main(["power", "C-C1x"]) == 1
    assert "no claim 'C-C1x' (did you mean 'C-C1'?)" in capsys.readouterr().err
    assert main(["power", "c-c1"]) == 1
    assert "no claim 'c-c1' (did you mean 'C-C1'?)" in capsys.readouterr().err
    assert main(["run", FIRST, "--publish"]) == 1
    assert "not published" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["run", FIRST], ["book"]])
def test_a_mistyped_profile_is_refused_and_leaves_nothing_behind(command, tmp_path, monkeypatch, capsys):
    root = _broken(monkeypatch, tmp_path, "pass")
    before = sorted(root.rglob("*"))
    assert main([*command, "--profile", "qick"]) == 1
    assert "no profile 'qick' (did you mean 'quick'?); profiles: quick" in capsys.readouterr().err
    assert sorted(root.rglob("*")) == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--published", "1"], "--published executes all"),
        (["--published", "--all"], "--published executes all"),
        (["--published", "-p", "levels", "7"], "--published executes all"),
        (["--published", "--profile", "quick"], "--published executes all"),
        (["--published", "--publish"], "--published executes all"),
        (["--published", "--export", "all.lotx"], "--published executes all"),
        (["--published", "--store", "results"], "--published executes all"),
        (["--all", "1"], "name chapters, or give --all, not both"),
        (["all", "1"], "name chapters, or give --all, not both"),
    ],
)
def test_what_does_not_go_together_starts_nothing(given, said, monkeypatch, capsys):
    for name in ("_run", "_run_published"):
        monkeypatch.setattr(f"lottery.__main__.{name}", lambda *_: pytest.fail("something was started"))
    assert main(["run", *given]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("run 1 -p levels 5 -p steps 9 -p levels 6", "-p levels is given 2 times"),
        ("run 1 --profile quick --profile=paper", "--profile is given 2 times"),
        ("store ls --store one --store other", "--store is given 2 times"),
    ],
)
def test_what_can_be_one_thing_alone_is_given_once(given, said, monkeypatch, capsys):
    for name in ("_run", "_open"):
        monkeypatch.setattr(f"lottery.__main__.{name}", lambda *_: pytest.fail("something was started"))
    assert main(given.split()) == 2
    assert said in capsys.readouterr().err


def test_a_chapter_that_is_named_twice_is_executed_once(monkeypatch):
    asked = []
    monkeypatch.setattr("lottery.__main__._run", lambda names, profile, *_: asked.append((names, profile)))
    assert main(["run", "1", "13", "01", FIRST]) == 0
    assert asked == [([FIRST, "13_capacity"], "quick")]


def test_command_line_looks_into_a_store(executed, tmp_path, capsys):
    store = ["--store", str(executed[1])]
    assert main(["store", "ls", *store]) == 0
    head, *lines, total = capsys.readouterr().out.splitlines()
    key = lines[0].split()[0]
    assert head.startswith("key  ") and total == f"{len(lines)} records in {executed[1]}"
    assert {line.index("digits ") for line in lines if "digits " in line} == {head.index("training")}
    assert main(["store", "show", key, *store]) == 0
    assert '"recipe"' in capsys.readouterr().out
    assert main(["store", "verify", *store]) == 0
    assert main(["store", "export", str(tmp_path / "all.lotx"), *store]) == 0
    assert main(["store", "import", str(tmp_path / "all.lotx"), "--store", str(tmp_path / "other")]) == 0
    assert main(["store", "verify", "--store", str(tmp_path / "other")]) == 0
    assert main(["store", "show", "zz", *store]) == 1


def test_no_line_of_a_list_of_commands_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ([], ["store"]):
        assert main([*group, "--help"]) == 0
        lines = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
        assert len(lines) > 5 and [line for line in lines if not line.endswith(".") or line.endswith("..")] == []


def test_while_recipes_are_computed_chapters_and_tenths_are_said(tmp_path):
    store, said = {"old"}, []
    keys = {"a": ["old"], "b": ["old", *"0123"], "c": [*"0123456789"]}

    def computed(upto, lines):
        store.update("0123456789"[:upto])
        until = time.monotonic() + 20
        while len(said) < lines and time.monotonic() < until:
            time.sleep(0.02)

    with runner.told(keys, store, said.append):
        computed(0, 1)
        computed(5, 3)
        store.update("0123456789")
    assert said == [
        "computing 10 recipes",
        "b: computed, 2 of 3 chapters",
        "5 of 10 recipes computed",
        "c: computed, 3 of 3 chapters",
        "10 of 10 recipes computed",
    ]
    with runner.told(keys, store, said.append):
        pass
    assert len(said) == 5  # nothing is left to say
    for quiet, more in ((60, []), (0, ["1 of 20 recipes computed"])):
        left = {"old"}
        said.clear()
        with runner.told({"a": list(map(str, range(20)))}, left, said.append, quiet):
            left.add("3")
        assert said == ["computing 20 recipes", *more]


def test_an_export_is_named_as_it_was_given(executed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "run", lambda name, *given, **more: executed[0] / f"{name}.ipynb")
    given = [word for name, value in SMALL.items() for word in ("-p", name, str(value))]
    target = tmp_path / "carry" / "all.lotx"
    assert main(["run", FIRST, *given, "--store", str(executed[1]), "--export", str(target)]) == 0
    assert f"records: {target}\n" in capsys.readouterr().out


def test_a_recipe_that_fails_keeps_no_chapter_from_being_executed_that_does_without(executed, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr("lottery.__main__._compute", lambda *given: LotteryError("one run failed"))
    monkeypatch.setattr(runner, "run", lambda name, *given, **more: ran.append(name) or executed[0] / f"{name}.ipynb")
    given = [word for name, value in SMALL.items() for word in ("-p", name, str(value))]
    assert main(["run", FIRST, "13_capacity", *given, "--store", str(executed[1])]) == 1
    assert ran == [FIRST] and "one run failed" in capsys.readouterr().err


def test_chapters_that_fail_keep_no_other_from_being_executed_and_are_named_at_the_end(executed, monkeypatch, capsys):
    wrong = f"{FIRST} did not run to its end: NameError: name 'x' is not defined"

    def run(name, *given, **more):
        if name == FIRST:
            raise parameters.ChapterError(f"{wrong}\nand more; what was executed is in …")
        return executed[0] / f"{name}.ipynb"

    monkeypatch.setattr("lottery.__main__._compute", lambda *given: None)
    monkeypatch.setattr(runner, "run", run)
    given = [word for name, value in SMALL.items() for word in ("-p", name, str(value))]
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert main(["run", FIRST, "13_capacity", *given, "--store", str(executed[1])]) == 1
    said = capsys.readouterr()
    planned, executing = said.out.splitlines()[:2], said.out.splitlines()[-2:]
    assert planned[0] == f"{FIRST} (1 of 2): planned, 0 recipes to compute"
    assert planned[1].startswith("13_capacity (2 of 2): planned, ")
    assert executing[0] == f"{FIRST} (1 of 2): failed" and executing[1].startswith("13_capacity (2 of 2): executed, ")
    first, why, alone, last = said.err.splitlines()
    assert first.startswith("error: 1 of 2 chapters failed; the others are executed") and why == wrong
    assert alone.endswith(f" -m lottery run {FIRST} --profile quick {' '.join(given)}")
    assert Path(alone.split(" -m ")[0].rpartition(": ")[2]).samefile(sys.executable) and "please report it" in last
    assert main(["run", FIRST, *given, "--store", str(executed[1])]) == 1
    assert "and more; what was executed is in …" in capsys.readouterr().err


def test_publishing_and_executing_again_from_records(executed, tmp_path, monkeypatch, capsys):
    """What a chapter published elsewhere rests on is enough to execute it again, and a changed number is noticed."""
    root = _broken(monkeypatch, tmp_path, "pass")
    shutil.copytree(executed[0], root / "book" / "chapters")
    monkeypatch.delenv("LOTTERY_ROOT")  # the sources are the real ones
    places = {name: root / "book" / "chapters" / f"{name}.ipynb" for name in (FIRST, SECOND)}
    monkeypatch.setattr(runner, "published", lambda: places)
    monkeypatch.setattr(runner, "results_files", lambda: sorted((root / "book" / "results").glob("*.lotx")))
    monkeypatch.setattr(runner, "results_folder", lambda: root / "book" / "results")
    for name in (FIRST, SECOND):
        [written] = runner.publish_records(name, Store(executed[1]))
        with zipfile.ZipFile(written) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:  # the same, compressed otherwise
            for part, data in parts.items():
                archive.writestr(part, data)
        before = written.read_bytes()
        runner.publish_records(name, Store(executed[1]))
        assert written.read_bytes() == before
    said: list[str] = []
    assert runner.run_published(tmp_path / "again", say=said.append) == ([], {})
    assert said == [
        "taking in the records of 2 published chapters",
        f"{FIRST} (1 of 2): executed, 0 numbers not as published",
        f"{SECOND} (2 of 2): executed, 0 numbers not as published",
    ]
    path = root / "book" / "chapters" / f"{FIRST}.ipynb"
    notebook = read(path)
    notebook.metadata.lottery["keys"] = []  # as if it rested on others now
    nbformat.write(notebook, path)
    assert gates.check_records({SECOND: places[SECOND]}, [root / "book" / "results" / f"{SECOND}.lotx"])
    runner.publish_records(FIRST, Store(tmp_path / "new"))
    assert gates.check_records(places, runner.results_files()) == []
    notebook.metadata.lottery["values"]["dense-stop"] = "1"
    nbformat.write(notebook, path)
    (root / "book" / "results" / f"{SECOND}.lotx").unlink()
    assert main(["run", "--published"]) == 1  # one fails, the other is executed and compared all the same
    said_now = capsys.readouterr()
    assert (
        f"{SECOND} (2 of 2): failed" in said_now.out and f"{FIRST} (1 of 2): executed, 1 number not as" in said_now.out
    )
    assert "dense-stop was '1'" in said_now.err and "error: 1 of 2 chapters failed; the others are" in said_now.err
    assert "not among the committed records" in said_now.err and "`make published`" in said_now.err


def test_numbers_are_the_same_to_nine_digits_whatever_holds_them():
    old = {"interval": [0.1, 2.0, None], "measured": 2.398221558575121, "text": "2.40 times", "n": 6}
    assert runner.same(old, old | {"measured": 2.398221558575124, "n": 6.0})
    assert runner.same("52.90727924687059", "52.90727924687055") and runner.same(None, None)
    for name, value in (("measured", 2.3982216), ("text", "2.41 times"), ("n", None), ("interval", [0.1, 2.0])):
        assert not runner.same(old, old | {name: value})
    assert not runner.same(old, {"n": 6}) and not runner.same("1", None) and not runner.same("0.1 %", "0.2 %")


def test_a_chapter_whose_records_are_missing_is_an_error(tmp_path):
    own = settings(tmp_path / "empty", read_only=True)
    with pytest.raises(LotteryError, match="not among the committed records"):
        runner.run(FIRST, "quick", SMALL, folder=tmp_path, settings=own, show=False)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: an archive has what it has")
def test_what_is_published_is_not_ignored_by_git():
    published = [path for folder in ("chapters", "results") for path in (ROOT / "book" / folder).iterdir()]
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *map(str, published)], cwd=ROOT, capture_output=True)
    assert ignored.stdout == b"" and ignored.returncode == 1  # 1: none is; 128: git failed


def test_costs_are_those_of_all_results_without_what_rounds_to_nothing():
    cpu, gpu = "AMD EPYC, 1 thread", "NVIDIA H100"
    made = [("Run", cpu, 3600), ("EdgePopup", cpu, 7200), ("EdgePopup", gpu, 600), ("Pruned", "Xeon, 1 thread", 1)]
    used = {
        n: SimpleNamespace(recipe={"type": k}, made={"device": d, "seconds": s}) for n, (k, d, s) in enumerate(made)
    }
    said = "1 training run and 3 other results, 3.0 hours of AMD EPYC, 1 thread and 10.0 minutes of NVIDIA H100"
    assert Chapter._cost(SimpleNamespace(used=used)) == f"{said}, shared by several runs, each counted in full"
    assert Chapter._cost(SimpleNamespace(used={0: used[3]})).endswith("1 other result, 0.0 minutes of Xeon, 1 thread")


def test_a_chapter_that_cannot_be_written_is_reported_as_one_that_failed(executed, tmp_path):
    (tmp_path / f"{FIRST}.ipynb").mkdir()
    own = settings(executed[1])
    failed = runner.attempt(FIRST, "quick", SMALL, folder=tmp_path, settings=own, show=False)
    assert isinstance(failed, LotteryError) and f"{FIRST}.ipynb" in str(failed)


def test_files_that_a_system_hides_among_the_books_are_none(tmp_path):
    for name in ("01_one.ipynb", "._01_one.ipynb"):
        (tmp_path / name).touch()
    assert planning.visible(tmp_path, "*.ipynb") == [tmp_path / "01_one.ipynb"]


def test_parameters_that_are_no_values_are_refused_in_words():
    cell = nbformat.v4.new_code_cell("steps: int = 2 * 400  # steps", metadata={"tags": ["parameters"]})
    with pytest.raises(parameters.ChapterError, match="not plain values"):
        parameters.parameters_of(nbformat.v4.new_notebook(cells=[cell]))
