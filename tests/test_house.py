"""How the library is built: doors that open one way, no module in another's drawers, short functions and chapters."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "lottery"
MODULES = {
    ".".join(("lottery", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in PACKAGE.rglob("*.py")
}
ROOMS = ("science", "engine", "book")  # each may look into itself and into those before it


def tree(module):
    return ast.parse(MODULES[module].read_text(), str(MODULES[module]))


def room(module):
    inside = module.split(".")[1:2]
    return inside[0] if inside and inside[0] in ROOMS else "science"


def imports(module):
    """(module imported from, name, line) of every import of this package, wherever in the file."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "", node.lineno) for alias in node.names if alias.name.startswith("lottery"))
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            source = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            if source.split(".")[0] == "lottery":
                yield from ((source, alias.name, node.lineno) for alias in node.names)


def wrong_doors(module):
    for source, name, line in imports(module):
        target = f"lottery.{name}" if source == "lottery" else source
        if ROOMS.index(room(target)) > ROOMS.index(room(module)):
            yield f"{module}:{line} imports {source} {name}"


def private(name):
    return name.startswith("_") and not name.endswith("__")


def drawers(module):
    """Private names of other modules of this package that a module uses."""
    bound = {}
    for source, name, line in imports(module):
        if private(name):
            yield f"{module}:{line} imports {name} from {source}"
        bound[name] = f"{source}.{name}"
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom):
            bound |= {alias.asname: bound.get(alias.name, "") for alias in node.names if alias.asname}
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and private(node.attr):
            if bound.get(node.value.id) in MODULES:
                yield f"{module}:{node.lineno} uses {node.value.id}.{node.attr}"


COMMANDS = "lottery.__main__"  # the command line stands at the front door and asks in every room


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {COMMANDS}))
def test_imports_point_one_way(module):
    assert list(wrong_doors(module)) == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_uses_what_another_keeps_to_itself(module):
    assert list(drawers(module)) == []


def test_what_these_tests_look_for_is_found(monkeypatch, tmp_path):
    """They would otherwise pass for a package that they cannot read."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from ..book import chapter\nfrom .. import masks\nfrom ..recipes import _plain\nmasks._cut()\n")
    monkeypatch.setitem(MODULES, "lottery.engine.wrong", wrong)
    assert [at.split()[0] for at in wrong_doors("lottery.engine.wrong")] == ["lottery.engine.wrong:1"]
    assert [at.split()[-1] for at in drawers("lottery.engine.wrong")] == ["lottery.recipes", "masks._cut"]


def test_messages_of_science_and_engine_say_no_option_of_a_command_alone():
    """A script may meet them, which has no options."""
    said = [
        f"{module}:{node.lineno} {node.value}"
        for module in MODULES.keys() - {COMMANDS}
        if room(module) != "book"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and re.search(r"(?<![\w-])--[a-z]", str(node.value))
    ]
    assert [line for line in said if "on the command line" not in line] == [] and said


def test_importing_the_package_or_the_command_line_brings_nothing_heavy():
    """`import lottery` says the version and defines the error; what a command needs is imported by that command."""
    heavy = ("matplotlib", "IPython", "scipy", "pandas", "torch", "sklearn", "papermill")
    for name in ("lottery", "lottery.__main__"):
        program = f"import sys, {name}; print(*(set({heavy}) & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_a_wrong_name_is_refused_before_anything_heavy_is_imported():
    """Torch, scipy and pandas take seconds, on a busy machine ten."""
    wrong = ["run 99_none", "run 1 -p levls 5", "run 1 --profile qick", "parameters 99", "list 99", "power C-C0"]
    wrong += [
        "book --profile qick",
        "run --published 1",
        "run --all 1",
        "run 1 --publish",
        "study --budget 0 --export out",
    ]
    program = (
        f"import sys; from lottery.__main__ import main; codes = [main(one.split()) for one in {wrong}]\n"
        "print(*codes, *({'torch', 'scipy', 'pandas', 'matplotlib', 'papermill'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.stdout.split() == ["1"] * len(wrong), done.stdout + done.stderr
    assert done.stderr.count("error: ") == len(wrong) and done.stderr.count("did you mean") == 4


def test_importing_the_engine_brings_nothing_of_the_book():
    program = "import sys, lottery.engine.execute; print(*({'matplotlib', 'IPython', 'pandas'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


def test_what_is_drawn_from_the_global_generator_is_drawn_by_one_thread_alone():
    """By `seeds.apart`, which holds the lock."""
    forking = {module for module, path in MODULES.items() if "fork_rng" in path.read_text()}
    assert forking == {"lottery.seeds"}


def test_functions_of_the_engine_have_few_branches():
    options = ["--select", "C901", "--config", "lint.mccabe.max-complexity = 12", "--output-format", "concise"]
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", *options, str(PACKAGE / "engine")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_functions_of_the_engine_fit_on_a_screen():
    long = [
        f"{module}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for module in MODULES
        if room(module) == "engine"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno >= 60
    ]
    assert long == []


NOTEBOOKS = sorted((PACKAGE.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_code_of_a_chapter_is_short(path):
    """Without its parameters and empty lines; what is longer belongs into the book's room or into the science."""
    code = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    code = [cell for cell in code if "parameters" not in cell["metadata"].get("tags", [])]
    assert sum(bool(line.strip()) for cell in code for line in "".join(cell["source"]).splitlines()) <= 110
