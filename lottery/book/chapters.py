"""What a notebook uses: typed parameters, claim cards, execution of recipes, verdicts, provenance.

A notebook opens a `Chapter`, which draws its claim cards; checks its parameters; executes recipes; and closes with
verdicts and provenance. `lottery.book.runner` executes notebooks.
"""

import ast
import base64
import contextlib
import csv
import html
import io
import os
import platform
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from .. import LotteryError, __version__, recipes
from ..engine import execute
from ..engine.store import Record, Store
from . import claims, figures

ROOT = Path(os.environ.get("LOTTERY_ROOT") or Path(__file__).resolve().parents[2])
PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "ipywidgets", "papermill", "jupyter-book")


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


def parameters_of(notebook) -> dict[str, Parameter]:
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", ())]
    if len(cells) != 1:
        raise ChapterError(f"a notebook has exactly one cell with the tag `parameters`, not {len(cells)}")
    return read_parameters(cells[0].source)


# What a notebook uses.


def _show(data: str, plain: str = "", display_id: str | None = None, update: bool = False, **meta) -> None:
    from IPython.display import publish_display_data

    transient = {"display_id": display_id} if display_id else {}
    bundle = {"text/html": data, "text/plain": plain or re.sub(r"<[^>]+>|\s+", " ", data).strip()[:500]}
    publish_display_data(bundle, metadata=meta, transient=transient, update=update)


class Chapter:
    """An open chapter: draws its claim cards now and fills them in when it has judged.

    Args:
        name: of the notebook, without suffix; it judges the claims whose rules name it.
        claim_ids: some of these; any other is an error.
    """

    def __init__(self, name: str, claim_ids: Sequence[str] = ()):
        self.name, self.began = name, time.perf_counter()
        self.rules = {claim: rule for claim, rule in claims.load().items() if rule.chapter == name}
        if unknown := [claim for claim in claim_ids if claim not in self.rules]:
            raise ChapterError(f"no claim {', '.join(unknown)} of {name} in book/claims.yml")
        self.verdicts: dict[str, claims.Verdict] = {}
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
        `LOTTERY_SCHEDULER`, `LOTTERY_STACK`, `LOTTERY_DEADLINE`. With `LOTTERY_READ_ONLY` a recipe that is not in the
        store is an error.
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
            stack=int(env["LOTTERY_STACK"]) if env.get("LOTTERY_STACK") else None,
            deadline=time.monotonic() + float(env["LOTTERY_DEADLINE"]) - time.time()
            if env.get("LOTTERY_DEADLINE")
            else None,
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
        _show(
            f'<table class="numbers"><caption>{html.escape(caption)}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table>"
        )

    def table(self, filename: str, header: Sequence[str], rows: Iterable[Sequence]) -> None:
        """A link that downloads the numbers behind a figure as CSV, without a server."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        data = base64.b64encode(text.getvalue().encode()).decode()
        _show(
            f'<p class="download"><a download="{filename}" href="data:text/csv;base64,{data}">'
            f"Download the numbers ({filename})</a></p>",
            f"numbers: {filename}",
        )

    def judge(self, measured: Mapping[str, object], context: Mapping[str, object]) -> None:
        """Applies the rules of `book/claims.yml`, fills in the claim cards, and shows every check."""
        for claim, rule in self.rules.items():
            verdict = claims.judge(rule, measured, context)
            self.verdicts[claim] = verdict
            central = next(check for check in verdict.checks if check.central)
            ours = "–" if verdict.scale == claims.STAND_IN else central.text  # a stand-in has no number to show
            self.glue(**{f"{claim}-verdict": verdict.label, f"{claim}-ours": ours, f"{claim}-paper": central.paper})
        _show(self._cards(), display_id=f"{self.name}-cards", update=True)
        _show("".join(self._checks(claim) for claim in self.rules))

    def finish(self) -> None:
        """Shows where the numbers come from; the last call of every notebook, and the mark that it ran to the end."""
        rows = {
            "Cost": self._cost(),
            "Results": f"{len(self.used)} records, "
            f"from {self._made(min, 'finished')} to {self._made(max, 'finished')} (UTC)",
        }
        computed = {
            name: sorted({record.made[name] for record in self.used.values()})
            for name in ("torch", "numpy", "python", "lottery")
        }
        rows["Computed with"] = ", ".join(f"{name} {' and '.join(found)}" for name, found in computed.items())
        rows["This page"] = ", ".join(f"{name} {version}" for name, version in versions().items())
        rows["Parameters"] = ", ".join(f"{name} = {value}" for name, value in self.parameters.items())
        rows["Keys"] = (
            f"{', '.join(key[:12] for key in list(self.used)[:3])}, … (all in this notebook's metadata; "
            "<code>python -m lottery store show KEY</code> prints one)"
        )
        body = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows.items())
        end = {
            "keys": list(self.used),
            "values": self.values,
            "verdicts": {
                claim: verdict.json() | {"rule": self.rules[claim].hash} for claim, verdict in self.verdicts.items()
            },
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

    def _card(self, claim: str, rule: claims.Rule) -> str:
        verdict = self.verdicts.get(claim)
        label = verdict.label if verdict else "not judged yet: run the notebook to its end"
        kind = label.replace(" ", "-") if verdict else claims.STAND_IN
        text = (
            f'<div class="claim-card"><div class="claim-head"><span class="claim-id">{claim}</span> '
            f'<span class="badge verdict-{kind}">{label}</span></div>'
            f'<p class="claim-text"><strong>{html.escape(rule.title)}.</strong> {html.escape(rule.claim)} '
            f"<cite>{html.escape(rule.source)}</cite></p>"
        )
        if verdict:
            rows = "".join(
                f"<tr><td>{html.escape(check.says)}</td><td>{html.escape(check.text)}</td>"
                f"<td>{check.outcome}</td><td>{html.escape(check.paper) or '–'}</td></tr>"
                for check in verdict.checks
            )
            text += (
                '<table class="claim-numbers"><thead><tr><th></th><th>ours</th><th></th><th>the paper</th></tr></thead>'
                f"<tbody>{rows}</tbody></table>"
            )
            notes = [self._cost(), verdict.protocol]
            if any(change.known for change in rule.revised):
                notes.append("rule revised after a first look")
            if verdict.scale != claims.STAND_IN and verdict.needed:
                notes.append(f"{verdict.needed} replicates would decide what is open")
            text += "".join(f'<p class="claim-cost">{html.escape(note)}.</p>' for note in notes if note)
        return text + "</div>"

    def _checks(self, claim: str) -> str:
        verdict = self.verdicts[claim]
        rows = "".join(
            f"<tr><td>{html.escape(c.says)}</td><td>{html.escape(c.bound)}</td><td>{html.escape(c.text)}</td>"
            f"<td>{c.outcome}</td></tr>"
            for c in verdict.checks
        )
        note = f"<p>{html.escape(verdict.protocol)}.</p>" if verdict.protocol else ""
        return (
            f'<p><strong>{claim}: {verdict.label}</strong></p>{note}<table class="claim-checks"><thead><tr>'
            "<th>Check, fixed beforehand</th><th>threshold</th><th>measured</th><th></th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


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


def early_validation(records) -> np.ndarray:
    """Validation accuracy of nested records at early stop, as an array of the same shape; NaN where there is none."""

    def one(record):
        if isinstance(record, list):
            return [one(part) for part in record]
        if record is None:
            return np.nan
        return record.arrays["history/validation_accuracy"][record.arrays["history/validation_loss"].argmin()]

    return np.array(one(list(records)), dtype=np.float64)


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
    found = {"python": platform.python_version(), "lottery": __version__}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
