"""Chapters: typed parameters, what a notebook shows, and the strict runner around papermill.

A notebook opens a `Chapter`, which draws its claim cards; checks its parameters; executes recipes; and closes with
verdicts and provenance. `run` executes notebooks, refuses wrong parameters before a kernel starts, and puts a finished
notebook in its place only if every cell ran to the end.
"""

import ast
import base64
import contextlib
import csv
import hashlib
import html
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import nbformat
import numpy as np
import yaml

from . import LotteryError, execute, figures, progress, recipes, stats
from .store import Record, Store

ROOT = Path(os.environ.get("LOTTERY_ROOT") or Path(__file__).resolve().parent.parent)
PROFILES = ("quick", "standard", "paper")
SCHEMA = 1
PACKAGES = ("lottery", "torch", "numpy", "scipy", "matplotlib", "ipywidgets", "papermill", "jupyter-book")


class ParameterError(LotteryError):
    """Parameters that a chapter does not take; nothing was executed."""


class ChapterError(LotteryError):
    """A chapter that is missing, did not run to the end, or is not what it claims to be."""


# Parameters.


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell: `name: type = default  # help [low, high]` or `# help {a, b}`."""

    name: str
    kind: type
    default: object
    help: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        within = f" from {self.low:g} to {self.high:g}" if self.low is not None else ""
        return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[self.kind] + within

    def coerce(self, value):
        """The value in the parameter's type; texts (from a command line) are read.

        Raises:
            ValueError: if it has another type or is out of range.
        """
        if isinstance(value, str) and self.kind is not str:
            text = value.strip()
            if self.kind is bool:
                value = {"true": True, "false": False}.get(text.lower(), text)
            else:
                with contextlib.suppress(ValueError):
                    value = int(text) if self.kind is int else float(text)
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        inside = self.low is None or (isinstance(value, int | float) and self.low <= value <= self.high)
        if type(value) is not self.kind or not inside or (self.choices and value not in self.choices):
            raise ValueError(f"{self.name} = {value!r}: must be {self.allowed}")
        return value


_RANGE = re.compile(r"\[\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\]\s*$")
_CHOICE = re.compile(r"\{([^}]*)\}\s*$")
_KINDS = {"int": int, "float": float, "bool": bool, "str": str}


def read_parameters(source: str) -> dict[str, Parameter]:
    """The parameters that a parameters cell declares.

    Raises:
        ChapterError: if a line is anything but `name: type = default  # help`.
    """
    found, lines = {}, source.splitlines()
    for node in ast.parse(source).body:
        line = lines[node.end_lineno - 1]
        comment = line.partition("#")[2].strip()
        if not isinstance(node, ast.AnnAssign) or node.value is None or not comment:
            raise ChapterError(f"not a parameter in the form `name: type = default  # help`: {line}")
        kind = _KINDS.get(ast.unparse(node.annotation))
        if kind is None:
            raise ChapterError(f"a parameter is of type {', '.join(_KINDS)}: {line}")
        name, default = node.target.id, ast.literal_eval(node.value)
        limits, choices = _RANGE.search(comment), _CHOICE.search(comment)
        low, high = map(float, limits.groups()) if limits else (None, None)
        options = tuple(part.strip() for part in choices.group(1).split(",")) if choices else ()
        found[name] = Parameter(name, kind, default, comment, low, high, options)
        found[name].coerce(default)
    return found


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, object]:
    """The given values in their types.

    Raises:
        ParameterError: naming all that is wrong, and what is allowed.
    """
    wrong, values = [], {}
    for name, value in given.items():
        if name not in declared:
            wrong.append(f"there is no parameter {name!r}")
            continue
        try:
            values[name] = declared[name].coerce(value)
        except ValueError as error:
            wrong.append(str(error))
    if wrong:
        allowed = "\n".join(f"  {p.name}: {p.kind.__name__} = {p.default!r}  # {p.help}" for p in declared.values())
        raise ParameterError("; ".join(wrong) + f"\nParameters of this chapter:\n{allowed}")
    return values


def _parameters_of(notebook) -> dict[str, Parameter]:
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    if len(cells) != 1:
        raise ChapterError(f"a notebook has exactly one cell with the tag `parameters`, not {len(cells)}")
    return read_parameters(cells[0].source)


# What a notebook uses.


def claims() -> dict[str, dict]:
    """The claims and their rules, from `book/claims.yml`."""
    return yaml.safe_load((ROOT / "book" / "claims.yml").read_text(encoding="utf-8"))


def _show(data: str, plain: str = "", display_id: str | None = None, update: bool = False, **meta) -> None:
    from IPython.display import publish_display_data

    transient = {"display_id": display_id} if display_id else {}
    bundle = {"text/html": data, "text/plain": plain or re.sub(r"<[^>]+>|\s+", " ", data).strip()[:500]}
    publish_display_data(bundle, metadata=meta, transient=transient, update=update)


class Chapter:
    """An open chapter: draws its claim cards now and fills them in when it has judged.

    Args:
        name: of the notebook, without suffix.
        claim_ids: the claims that the chapter judges, keys of `book/claims.yml`.
    """

    def __init__(self, name: str, claim_ids: Sequence[str]):
        self.name, self.began = name, time.perf_counter()
        known = claims()
        if unknown := [c for c in claim_ids if c not in known]:
            raise ChapterError(f"no claim {', '.join(unknown)} in book/claims.yml")
        self.rules = {claim: known[claim] for claim in claim_ids}
        self.verdicts: dict[str, stats.Verdict] = {}
        self.used: dict[str, Record] = {}
        self.values: dict[str, object] = {}
        self.parameters: dict[str, object] = {}
        _show(self._cards(), display_id=f"{name}-cards")

    # Parameters and results.

    @property
    def store(self) -> Store:
        """Where results are kept: `LOTTERY_STORE`, else the folder `results` of the project."""
        return Store(os.environ.get("LOTTERY_STORE") or ROOT / "results")

    def check(self, namespace: dict) -> None:
        """Checks the parameters that papermill or a reader has set, as the runner does before it starts a kernel.

        Args:
            namespace: the notebook's `globals()`.

        Raises:
            ParameterError: for unknown, mistyped or out-of-range parameters.
        """
        sources = [source for source in namespace.get("In", []) if source.strip()]
        declared = {}
        for source in sources:
            with contextlib.suppress(ChapterError, SyntaxError, ValueError):
                declared = read_parameters(source) or declared
        if not declared:
            raise ChapterError("run the parameters cell before this one")
        given = dict.fromkeys(declared)
        for source in sources:
            if source.lstrip().startswith("# Parameters"):  # what papermill injects
                given |= {t.id: None for n in ast.parse(source).body if isinstance(n, ast.Assign) for t in n.targets}
        self.parameters = check_parameters(declared, {name: namespace[name] for name in given})
        namespace.update(self.parameters)

    def execute(self, wanted):
        """Records of recipes, in the same nesting of lists (or None where there is none); computes what is not there.

        Where and by whom is set from outside: `LOTTERY_STORE`, `LOTTERY_EXECUTOR`, `LOTTERY_JOBS`, `LOTTERY_DEVICE`,
        `LOTTERY_SCHEDULER`. With `LOTTERY_READ_ONLY` a recipe that is not in the store is an error.
        """
        flat, store, env = list(_leaves(wanted)), self.store, os.environ
        if env.get("LOTTERY_READ_ONLY") and (missing := execute.plan(flat, store)):
            raise ChapterError(f"{len(missing)} recipes of {self.name} are not among the committed records: publish it")
        records = execute.execute(
            flat,
            store,
            executor=env.get("LOTTERY_EXECUTOR"),
            jobs=int(env["LOTTERY_JOBS"]) if env.get("LOTTERY_JOBS") else None,
            device=env.get("LOTTERY_DEVICE", "cpu"),
            scheduler=env.get("LOTTERY_SCHEDULER"),
        )
        found = {recipe.key: record for recipe, record in zip(flat, records, strict=True)}
        for recipe in recipes.closure(flat):
            self.used[recipe.key] = found.get(recipe.key) or store.read(recipe.key)
        return _mapped(wanted, lambda recipe: found[recipe.key])

    # Output.

    def figure(self, figure, alt: str, caption: str, width: int | None = None) -> None:
        """Shows a figure with alternative text and a caption."""
        picture = figures.html_image(figure, alt, width)
        _show(f'<figure class="lottery-figure">{picture}<figcaption>{html.escape(caption)}</figcaption></figure>', alt)

    def glue(self, **values) -> None:
        """Makes numbers and texts available to prose: `` {glue:text}`name` `` (also from other pages)."""
        from IPython.display import publish_display_data

        for name, value in values.items():
            key = name.replace("_", "-")
            plain = value if isinstance(value, str) else repr(value.item() if hasattr(value, "item") else value)
            self.values[key] = plain
            prefix = "application/papermill.record/"
            mark = {"scrapbook": {"name": key, "mime_prefix": prefix}}
            publish_display_data({prefix + "text/plain": plain}, metadata=mark)

    def rows(self, header: Sequence[str], rows: Sequence[Sequence], caption: str) -> None:
        """Shows a table of texts."""
        head = "".join(f"<th>{html.escape(str(text))}</th>" for text in header)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(text))}</td>" for text in row) + "</tr>" for row in rows)
        _show(f'<table class="numbers"><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
              f"<tbody>{body}</tbody></table>")  # fmt: skip

    def table(self, filename: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
        """A link that downloads the numbers behind a figure as CSV, without a server."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        data = base64.b64encode(text.getvalue().encode()).decode()
        _show(f'<p class="download"><a download="{filename}" href="data:text/csv;base64,{data}">'
              f"Download the numbers ({filename})</a></p>", f"numbers: {filename}")  # fmt: skip

    def judge(self, measured: Mapping[str, object], context: Mapping[str, object]) -> None:
        """Applies the rules of `book/claims.yml`, fills in the claim cards, and shows every check."""
        for claim, rule in self.rules.items():
            verdict = stats.verdict(rule, measured, context)
            self.verdicts[claim] = verdict
            first = verdict.checks[0]
            self.glue(**{f"{claim}-verdict": verdict.label, f"{claim}-ours": first.text, f"{claim}-paper": first.paper})
        _show(self._cards(), display_id=f"{self.name}-cards", update=True)
        _show("".join(self._checks(claim) for claim in self.rules))

    def finish(self) -> None:
        """Shows where the numbers come from; the last call of every notebook, and the mark that it ran to the end."""
        rows = {"Cost": self._cost(), "Results": f"{len(self.used)} records, "
                f"from {self._made(min, 'finished')} to {self._made(max, 'finished')} (UTC)"}  # fmt: skip
        computed = {name: sorted({record.made[name] for record in self.used.values()})
                    for name in ("torch", "numpy", "python", "lottery")}  # fmt: skip
        rows["Computed with"] = ", ".join(f"{name} {' and '.join(found)}" for name, found in computed.items())
        rows["This page"] = ", ".join(f"{name} {version}" for name, version in versions().items())
        rows["Parameters"] = ", ".join(f"{name} = {value}" for name, value in self.parameters.items())
        rows["Keys"] = (f"{', '.join(key[:12] for key in list(self.used)[:3])}, … (all in this notebook's metadata; "
                        "<code>python -m lottery store show KEY</code> prints one)")  # fmt: skip
        body = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows.items())
        end = {
            "keys": list(self.used),
            "values": self.values,
            "verdicts": {claim: verdict.label for claim, verdict in self.verdicts.items()},
            "parameters": self.parameters,
        }
        _show(f'<table class="provenance">{body}</table>', "end of the chapter", lottery=end)

    def _made(self, pick, name: str) -> str:
        return pick((record.made[name] for record in self.used.values()), default="")

    def _cost(self) -> str:
        runs = [record for record in self.used.values() if record.recipe["type"] == "Run"]
        hours = sum(record.made["seconds"] for record in runs) / 3600
        devices = sorted({record.made["device"] for record in runs})
        spent = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
        return f"{len(runs)} training runs, {spent} of {' and '.join(devices)}"

    def _cards(self) -> str:
        return "".join(self._card(claim, rule) for claim, rule in self.rules.items())

    def _card(self, claim: str, rule: Mapping) -> str:
        verdict = self.verdicts.get(claim)
        label = verdict.label if verdict else "not judged yet: run the notebook to its end"
        kind = {stats.NOT_TESTED: "not-tested"}.get(label, label.replace(" ", "-")) if verdict else "not-tested"
        text = (f'<div class="claim-card"><div class="claim-head"><span class="claim-id">{claim}</span> '
                f'<span class="badge verdict-{kind}">{label}</span></div>'
                f'<p class="claim-text"><strong>{html.escape(rule["title"])}.</strong> {html.escape(rule["claim"])} '
                f'<cite>{html.escape(rule["source"])}</cite></p>')  # fmt: skip
        if verdict:
            rows = "".join(
                f"<tr><td>{html.escape(check.says)}</td><td>{html.escape(check.text)}</td>"
                f"<td>{html.escape(check.paper) or '–'}</td></tr>"
                for check in verdict.checks
            )
            text += ('<table class="claim-numbers"><thead><tr><th></th><th>ours</th><th>the paper</th></tr></thead>'
                     f"<tbody>{rows}</tbody></table>")  # fmt: skip
            scale = f" Not at the claim's scale: {html.escape('; '.join(verdict.unmet))}." if verdict.unmet else ""
            text += f'<p class="claim-cost">{html.escape(self._cost())}.{scale}</p>'
        return text + "</div>"

    def _checks(self, claim: str) -> str:
        verdict = self.verdicts[claim]
        words = {True: "holds", False: "does not hold", None: "not measured"}
        rows = "".join(
            f"<tr><td>{html.escape(c.says)}</td><td>{html.escape(c.bound)}</td><td>{html.escape(c.text)}</td>"
            f"<td>{words[c.holds]}{' (borderline)' if c.borderline else ''}</td></tr>"
            for c in verdict.checks
        )
        unmet = f"<p>Not at the claim's scale: {html.escape('; '.join(verdict.unmet))}.</p>" if verdict.unmet else ""
        return (f'<p><strong>{claim}: {verdict.label}</strong></p>{unmet}<table class="claim-checks"><thead><tr>'
                "<th>Check, fixed beforehand</th><th>threshold</th><th>measured</th><th></th></tr></thead>"
                f"<tbody>{rows}</tbody></table>")  # fmt: skip


def _leaves(nested):
    if isinstance(nested, list | tuple):
        for part in nested:
            yield from _leaves(part)
    elif nested is not None:
        yield nested


def _mapped(nested, function):
    if isinstance(nested, list | tuple):
        return [_mapped(part, function) for part in nested]
    return None if nested is None else function(nested)


def column(records, name: str) -> np.ndarray:
    """A value of nested records as an array of the same shape; NaN where there is none."""
    return np.array(_filled(records, name), dtype=np.float64)


def _filled(records, name: str):
    if isinstance(records, list):
        return [_filled(part, name) for part in records]
    return np.nan if records is None else records.values[name]


def curves(records: Sequence[Record], name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of the histories of several runs: steps [S] and values [R, S]; all share one grid."""
    return records[0].arrays["history/step"], np.stack([record.arrays[f"history/{name}"] for record in records])


def surviving_weights(record: Record) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Surviving weights of each layer before and after training, from the histograms that a run's record keeps.

    Returns:
        Two dicts layer → [n]; each weight lies in its right bin of 81, spread evenly within it.
    """
    sides = ({}, {})
    for name, counts in record.arrays.items():
        if name.startswith("histogram/"):
            layer = name.removeprefix("histogram/").removesuffix(".weight")
            reach = record.arrays["reach/" + name.removeprefix("histogram/")].item()
            width = 2 * reach / counts.shape[1]
            for side, row in zip(sides, counts, strict=True):
                left = np.repeat(-reach + width * np.arange(len(row)), row)
                within = np.concatenate([(np.arange(n) + 0.5) / n for n in row if n])
                side[layer] = left + width * within
    return sides


def versions() -> dict[str, str]:
    """Versions of what made a page."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


# The runner.


def names() -> list[str]:
    """All chapters, in order."""
    return sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def source(name: str):
    """The source notebook of a chapter.

    Raises:
        ChapterError: if there is none, naming those that are.
    """
    path = ROOT / "notebooks" / f"{name}.ipynb"
    if not path.exists():
        raise ChapterError(f"no chapter {name!r}; chapters: {', '.join(names())}")
    return nbformat.read(path, as_version=4)


def code_hash(notebook) -> str:
    """SHA-256 over the code cells of a notebook; what papermill injects is left out."""
    cells = [c.source for c in notebook.cells
             if c.cell_type == "code" and "injected-parameters" not in c.metadata.get("tags", ())]  # fmt: skip
    return hashlib.sha256("\0".join(cells).encode()).hexdigest()


def profile_parameters(name: str, profile: str) -> dict[str, object]:
    """What a profile sets for a chapter: the entries of `common` that the chapter has, then its own.

    Raises:
        ChapterError: if there is no such profile.
    """
    path = ROOT / "notebooks" / "profiles" / f"{profile}.yml"
    if not path.exists():
        raise ChapterError(f"no profile {profile!r}; profiles: {', '.join(PROFILES)}")
    table = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    declared = _parameters_of(source(name))
    return {k: v for k, v in table.get("common", {}).items() if k in declared} | (table.get(name) or {})


def output_folder(profile: str, publish: bool = False) -> Path:
    """Where executed chapters go: the published ones into `book/chapters`, others under `_build`."""
    return ROOT / "book" / "chapters" if publish else ROOT / "_build" / profile / "chapters"


def run(name: str, profile: str = "quick", given: Mapping[str, object] | None = None, *, folder: Path | None = None,
        settings: Mapping[str, str] | None = None, show: bool = True) -> Path:  # fmt: skip
    """Executes a chapter with papermill.

    Args:
        name: of the chapter.
        profile: "quick", "standard" or "paper": the values of its parameters.
        given: parameters that differ from the profile; texts are read in the parameter's type.
        folder: where the executed notebook goes; by default `output_folder(profile)`.
        settings: environment of the kernel, e.g. {"LOTTERY_JOBS": "2"}.
        show: a progress bar in the terminal.

    Returns:
        Path of the executed notebook.

    Raises:
        ParameterError: before a kernel starts, if a parameter is unknown, mistyped or out of range.
        ChapterError: if a cell failed or did not run. What was executed so far is kept under `_build/failed`; what
            was in the notebook's place stays.
    """
    notebook = source(name)
    declared = _parameters_of(notebook)
    values = check_parameters(declared, profile_parameters(name, profile) | dict(given or {}))
    folder = Path(folder or output_folder(profile))
    folder.mkdir(parents=True, exist_ok=True)
    began, started = time.perf_counter(), datetime.now(UTC)
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / f"{name}.ipynb"
        failure = _papermill(name, values, target, Path(scratch) / "progress.json", settings or {}, show)
        problems = [failure] if failure else []
        if target.exists():
            executed = nbformat.read(target, as_version=4)
            problems += [p for p in incomplete(executed) if not failure]
            if problems:
                failed = ROOT / "_build" / "failed" / f"{name}.ipynb"
                failed.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(target, failed)
                problems.append(f"what was executed is in {failed.relative_to(ROOT)}")
        if problems:
            raise ChapterError(f"{name} did not run to its end: " + "; ".join(problems))
        _tidy(executed)
        executed.metadata["lottery"] = {
            "schema": SCHEMA,
            "chapter": name,
            "profile": profile,
            "source_sha256": code_hash(notebook),
            "git": _git_state(),
            "versions": versions(),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - began, 1),
            **ending(executed),
        }
        place = folder / f"{name}.ipynb"
        temporary = place.with_name(f".{place.name}.new")
        nbformat.write(executed, temporary)
        os.replace(temporary, place)
    return place


def _papermill(name, values, target, state, settings, show) -> str | None:
    """Executes; returns what went wrong, if anything did."""
    import papermill
    from jupyter_client import AsyncKernelManager
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from traitlets import Unicode

    class LocalKernel(AsyncKernelManager):
        """A kernel behind files that only this user can read, instead of open ports of the machine."""

        transport = Unicode("ipc" if os.name == "posix" else "tcp")

    environment = {progress.VARIABLE: str(state), "LOTTERY_ROOT": str(ROOT), **settings}
    before = {key: os.environ.get(key) for key in environment}
    os.environ.update(environment)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(name, state, stop, show), daemon=True)
    watcher.start()
    try:
        papermill.execute_notebook(
            os.path.relpath(ROOT / "notebooks" / f"{name}.ipynb"), target, parameters=values, cwd=ROOT,
            kernel_name="python3", progress_bar=False, kernel_manager_class=LocalKernel,
        )  # fmt: skip
    except papermill.PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (DeadKernelError, CellTimeoutError) as error:
        return f"the kernel died ({error}): was there enough memory?"
    finally:
        stop.set()
        watcher.join()
        for key, value in before.items():
            os.environ.pop(key, None) if value is None else os.environ.__setitem__(key, value)
    return None


def _watch(name: str, state: Path, stop: threading.Event, show: bool) -> None:
    """Draws in this terminal the bar of the study that runs in the kernel."""
    if not show or not sys.stderr.isatty():
        return
    bar = None
    while not stop.wait(0.5):
        try:
            now = json.loads(state.read_text())
        except (OSError, ValueError):
            continue
        if bar is None or bar.total != now["steps"]:
            if bar is not None:
                bar.close()
            bar = progress.tqdm(total=now["steps"], unit="step", unit_scale=True, leave=False)
        bar.set_description_str(f"{name}: runs {now['done']}/{now['runs']}", refresh=False)
        bar.n = now["at"]
        bar.refresh()
    if bar is not None:
        bar.close()


def _tidy(notebook) -> None:
    """Removes what differs from run to run without meaning: error streams, papermill's times and paths."""
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not (o.output_type == "stream" and o.name == "stderr")]


def _git_state() -> dict:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = bool(git("status", "--porcelain", "--untracked-files=no"))
        return {"commit": git("rev-parse", "HEAD"), "changed": changed}
    except (OSError, subprocess.CalledProcessError):
        return {}


def incomplete(notebook) -> list[str]:
    """What shows that a notebook did not run to its end; papermill's own metadata does not tell.

    A dead kernel and a timeout leave cells that never ran but are called completed there.
    """
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    counts = [cell.execution_count for cell in code if cell.source.strip()]
    if counts != list(range(1, len(counts) + 1)):
        found.append(f"cells did not run once each in order (execution counts {counts})")
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        found.append("a cell ended with an error")
    if any("papermill-error-cell-tag" in cell.metadata.get("tags", ()) for cell in notebook.cells):
        found.append("papermill marked an error")
    if not ending(notebook):
        found.append("its last cell did not reach Chapter.finish()")
    return found


def ending(notebook) -> dict:
    """What `Chapter.finish` left (keys of the records, glued values, verdicts, parameters); empty if not reached."""
    for cell in reversed(notebook.cells):
        if cell.cell_type == "code":
            for output in cell.outputs:
                if "lottery" in output.get("metadata", {}):
                    return dict(output.metadata["lottery"])
            return {}
    return {}


# Publishing.


def published() -> dict[str, Path]:
    """The published chapters."""
    return {path.stem: path for path in sorted((ROOT / "book" / "chapters").glob("*.ipynb"))}


def results_folder() -> Path:
    """Where the committed records behind the published chapters lie."""
    return ROOT / "book" / "results"


def results_files() -> list[Path]:
    """The committed records."""
    return sorted(results_folder().glob("*.lotx"))


def publish_records(name: str, store: Store) -> list[Path]:
    """Writes the records that a published chapter rests on and no other one has into `book/results`."""
    folder = results_folder()
    for old in folder.glob(f"{name}*.lotx"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        others = set(Store(scratch).import_(results_files()))
    keys = nbformat.read(published()[name], as_version=4).metadata["lottery"]["keys"]
    return store.export([key for key in keys if key not in others], folder / f"{name}.lotx")


def run_published(folder: Path, show: bool = True) -> list[str]:
    """Executes the published chapters again from the committed records: no training, no data set, no GPU.

    Returns:
        What differs from the published numbers, one line each; empty if nothing does.
    """
    differences = []
    with tempfile.TemporaryDirectory() as scratch:
        Store(scratch).import_(results_files())
        settings = {"LOTTERY_STORE": scratch, "LOTTERY_READ_ONLY": "1"}
        for name, path in published().items():
            old = nbformat.read(path, as_version=4).metadata["lottery"]
            new = run(name, old["profile"], old["parameters"], folder=folder, settings=settings, show=show)
            again = nbformat.read(new, as_version=4).metadata["lottery"]
            for part in ("values", "verdicts"):
                for key in sorted(set(old[part]) | set(again[part])):
                    if old[part].get(key) != again[part].get(key):
                        differences.append(f"{name}: {key} was {old[part].get(key)!r}, is {again[part].get(key)!r}")
    return differences
