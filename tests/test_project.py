"""The project's own files agree: requirements, lock, environment, README; and they hold no traces of a machine."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import lottery
from lottery.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]


def requirements(lines):
    """The ranges by normalised name."""
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


DEPENDENCIES = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def lock_lines():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def locked():
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lock_lines())}


def project_files():
    """The files that git has or would take in."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def test_environment_has_the_ranges_of_pyproject():
    [pip] = [entry["pip"] for entry in ENVIRONMENT if isinstance(entry, dict)]
    assert pip[-1] == "-e ."
    assert requirements(pip[:-1]) == DEPENDENCIES


def test_environment_python_is_supported():
    [python] = [entry for entry in ENVIRONMENT if isinstance(entry, str) and entry.startswith("python=")]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python.split("=")[1])


def test_lock_is_exact_and_names_no_source():
    for line in lock_lines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line), line
    names = [line.split("==")[0].lower() for line in lock_lines()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("part", ["dependencies", *EXTRAS])
def test_lock_satisfies_pyproject(part):
    for name, requirement in (EXTRAS.get(part) or DEPENDENCIES).items():
        assert name in locked(), f"{name} is not in requirements.lock"
        assert requirement.specifier.contains(locked()[name]), f"{name} {locked()[name]} is outside {requirement}"


def test_pre_commit_runs_the_locked_ruff():
    hooks = [h for r in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"] for h in r["hooks"]]
    pinned = {h["id"]: h["additional_dependencies"] for h in hooks if h["id"].startswith("ruff")}
    ruff = [f"ruff=={locked()['ruff']}"]
    assert pinned == {"ruff": ruff, "ruff-format": ruff}


def imported(folder):
    """Top-level names that the Python files of a folder import, wherever in the file."""
    names = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.split(".")[0])
    own = {"lottery", folder, *(path.stem for path in (ROOT / folder).rglob("*.py"))}
    return names - set(sys.stdlib_module_names) - own


@pytest.mark.parametrize(("folder", "extras"), [("lottery", ["cluster"]), ("tests", [*EXTRAS]), ("benchmarks", [])])
def test_every_import_is_declared(folder, extras):
    declared = {*DEPENDENCIES, *(name for extra in extras for name in EXTRAS[extra])}
    distributions = importlib.metadata.packages_distributions()
    for name in imported(folder):
        sources = {canonicalize_name(d) for d in distributions.get(name, [name])}
        # The extra `dask[distributed]` brings the distribution `distributed`.
        assert sources & declared or name == "distributed", f"{folder}/ imports {name}, declared nowhere"


def test_every_dependency_is_used():
    """jupyter-book is the one that is called as a program."""
    distributions = importlib.metadata.packages_distributions()
    notebooks = " ".join(path.read_text() for path in (ROOT / "notebooks").glob("*.ipynb"))
    in_notebooks = set(re.findall(r'"(?:import|from) (\w+)', notebooks))
    used = {canonicalize_name(d) for name in imported("lottery") | in_notebooks for d in distributions.get(name, [])}
    assert {*DEPENDENCIES} - used <= {"jupyter-book"}


def test_citation_archive_and_package_tell_the_same():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (lottery.__version__, PROJECT["license"])
    zenodo = json.loads((ROOT / ".zenodo.json").read_text())
    assert {name: zenodo[name] for name in ("title", "version", "license", "keywords")} == {
        name: citation[name] for name in ("title", "version", "license", "keywords")
    }
    assert [one["name"] for one in zenodo["creators"]] == [one["name"] for one in citation["authors"]]


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_what_exists(path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    flow = yaml.load(path.read_text(), yaml.BaseLoader)  # BaseLoader, since "on" is a truth value elsewhere
    assert {"name", "on", "permissions", "jobs"} <= flow.keys()
    for job in flow["jobs"].values():
        assert job["runs-on"] and int(job["timeout-minutes"]) <= 90
        needs = job.get("needs", [])
        assert {needs} if isinstance(needs, str) else set(needs) <= flow["jobs"].keys()
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v0"))
            script = step.get("run", "")
            subprocess.run(["bash", "-n"], input=script, text=True, check=True)
            assert set(re.findall(r"\bmake ([a-z]+)", script)) <= targets
            for command in re.findall(r"python -m lottery ([\w -]+)", script):
                main([*command.split(), "--help"])
            for program in re.findall(r"^\S*/\S+", script):
                assert program.startswith(".venv/") or os.access(ROOT / program, os.X_OK), program


def test_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", (ROOT / "README.md").read_text())) <= targets


@pytest.mark.slow
def test_an_installed_package_holds_its_claims_profiles_and_templates(tmp_path):
    """From a copy, since setuptools builds in the source folder; used from a folder that is no checkout."""
    source, target = tmp_path / "[2026] thesis", tmp_path / "installed"
    shutil.copytree(ROOT / "lottery", source / "lottery", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    program = (
        "import lottery, pathlib; from lottery.book import chapter, claims; from lottery.engine import settings"
        "; assert pathlib.Path(lottery.__file__).is_relative_to(pathlib.Path('installed').resolve())"
        "; chapter.Chapter('01_winning_tickets'); assert len(claims.load()) > 30 and settings.project() is None"
        "; assert settings.default_store() == pathlib.Path('results').absolute()"
        "; book = pathlib.Path('installed/lottery/book')"
        "; assert pathlib.Path('installed/lottery/py.typed').is_file()"
        "; assert all((book / p).is_file() for p in ('study.yml', 'profiles/paper.yml', 'templates/cards.html'))"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LOTTERY_")} | {"PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_readme_example_runs(tmp_path):
    [example] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(example)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "example.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    densities = [float(line.split()[0]) for line in done.stdout.splitlines()]
    assert densities[0] == 1 and densities == sorted(densities, reverse=True)


def test_no_file_tells_of_a_machine():
    """Neither where this checkout, its interpreter or a home folder lie, nor where a package was fetched from."""
    places = {str(ROOT), str(Path.home()), sys.prefix, sys.base_prefix} - {"/", "/usr", "/usr/local"}
    trace = re.compile(
        "|".join(rf"(?<![\w.~-]){re.escape(place)}(?=[/\s\"'`]|$)" for place in sorted(places))
        + r"|(?<![\w.])/(?:home|Users)/[a-z]\w*/|\"resolved\": \"http"
    )
    for path in project_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found = trace.search(text)
        assert not found, f"{path.relative_to(ROOT)} holds {found[0]!r}"


def test_ruff_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_readme_links_lead_somewhere():
    targets = re.findall(r"\]\(([^)#]+)", (ROOT / "README.md").read_text())
    assert [t for t in targets if "://" not in t and not (ROOT / t).exists()] == []


def test_the_glossary_explains_every_abbreviation_of_the_chapters():
    glossary = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    names = {"MNIST", "CIFAR", "VGG", "GPU", "NNSTD"}  # of data, networks, machines, and another's measure
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        prose = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
        prose = re.sub(r"```.*?```|\{[\w:]+\}`[^`]*`|`[^`]*`|\([^)]*\.ipynb\)|\$[^$]*\$", "", prose, flags=re.S)
        missing = {word for word in re.findall(r"\b[A-Z]{2,}\b", prose) if word not in names and word not in glossary}
        assert not missing, f"{path.name}: {missing}"
