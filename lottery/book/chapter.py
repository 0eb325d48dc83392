"""What a notebook uses: its claim cards, parameters, records, figures, verdicts and provenance.

A notebook opens a `Chapter`, which draws its claim cards; checks its parameters; names its recipes in the cell with the
tag `study`; executes them; and closes with verdicts and provenance. `lottery.book.runner` executes notebooks.
"""

import ast
import base64
import contextlib
import html
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jinja2
import pandas as pd
import yaml
from jinja2.filters import do_mark_safe

from .. import __version__, recipes
from ..engine import execute, settings
from ..engine.plan import plan
from ..engine.store import Record, Store
from ..stats import Summary
from . import claims, figures, findings, parameters, protocols, text, tidy
from .parameters import ChapterError, ParameterError

PACKAGES = ("torch", "numpy", "scipy", "matplotlib", "ipywidgets", "papermill", "jupyter-book")

RUNS = {
    "early_stop_step": ("early-stopping iteration", 1, "", 0),
    "early_stop_test_accuracy": ("test accuracy there", 100, "%"),
    "test_accuracy_end": ("test accuracy at the end", 100, "%"),
    "train_accuracy_end": ("training accuracy at the end", 100, "%"),
}
"""Values of runs that tables show → their words, factor, unit and digits."""

templates = jinja2.Environment(
    loader=jinja2.PackageLoader("lottery.book"), autoescape=True, keep_trailing_newline=False
)
"""Of what chapters show, and in `pages` of what pages say of all chapters."""


_TIGHT = re.compile(
    r"(?<=\bn) = (?=\d)|(?<=\d) (?=(?:%|pp|times|ε)(?!\w))|(?<=[≥≤<>±]) (?=[−\d])|(?<=\d,) (?=[−\d.,]+\])"
)


def typeset(words: str) -> str:
    """Plain words as HTML: emphasised between asterisks, no break before a unit, in ``n = 5``, ``≥ 2``, ``[1, 2]``."""
    words = _TIGHT.sub(lambda match: match[0].replace(" ", "\u00a0"), words)
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(words, quote=False))


_LEAD = re.compile(r"(.{,120}?(?<!\bal)[.:?])(?=\s|$)(.*)", re.DOTALL)


def led(words: str) -> str:
    """A paragraph as `typeset` sets it, with what it begins with in bold, if that is short: up to a stop or a colon."""
    lead = _LEAD.match(words)
    return f'<span class="lead">{typeset(lead[1])}</span>{typeset(lead[2])}' if lead else typeset(words)


def as_written(page: str) -> str:
    """HTML in which the words that `typeset` and `led` have set stand as they were written."""
    page = re.sub(r'<span class="lead">(.*?)</span>', r"\1", page, flags=re.DOTALL)
    return html.unescape(re.sub("</?em>", "*", page)).replace("\u00a0", " ")


templates.filters["typeset"] = lambda words: do_mark_safe(typeset(words))
templates.filters["led"] = lambda words: do_mark_safe(led(words))


def versions() -> dict[str, str]:
    """Versions of what made a page."""
    found = {"python": platform.python_version(), "lottery": __version__}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_state() -> dict[str, Any]:
    """The commit of the checkout that the book lies in, and whether it was changed since; empty outside of one."""
    root = settings.project()

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        ours = (".", ":!book/chapters", ":!book/results")
        changed = root and git("status", "--porcelain", "--untracked-files=no", "--", *ours)
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(changed)} if root else {}
    except (OSError, subprocess.CalledProcessError):
        return {}


def repository() -> str:
    """Where the book's sources are kept, as `_config.yml` says; "" without the book."""
    root = settings.project()
    if root is None or not (config := root / "_config.yml").is_file():
        return ""
    return yaml.safe_load(config.read_text(encoding="utf-8"))["repository"]["url"]


class Chapter:
    """An open chapter: draws its claim cards now and fills them in when it has judged.

    Outside of a notebook nothing is drawn.

    Args:
        name: of the notebook, without suffix; it judges the claims whose rules name it.
        claim_ids: some of these; any other is an error.

    Attributes:
        used: key → record of all that the chapter rests on so far.
        parameters: as checked.
    """

    def __init__(self, name: str, claim_ids: Sequence[str] = ()):
        self.name = name
        self.rules = {claim: rule for claim, rule in claims.load().items() if rule.chapter == name}
        if unknown := [claim for claim in claim_ids if claim not in self.rules]:
            raise ChapterError(f"no claim {', '.join(unknown)} of {name} in claims.yml")
        self.verdicts: dict[str, claims.Verdict] = {}
        self.shorter = ""
        self.used: dict[str, Record] = {}
        self.values: dict[str, object] = {}
        self.parameters: dict[str, object] = {}
        self.settings = settings.current()
        self._draw_found(update=False)
        self._place("headline", "", update=False)
        self._draw_cards(update=False)

    # Parameters and results.

    @property
    def store(self) -> Store:
        """Where results are kept."""
        return Store(self.settings.store)

    def check(self, namespace: dict) -> None:
        """Checks the parameters that papermill or a reader has set, as the runner does before it starts a kernel.

        Args:
            namespace: the notebook's `globals()`.

        Raises:
            ParameterError: for unknown, mistyped or out-of-range parameters.
        """
        self.parameters = parameters.of_cells(namespace.get("In", []), namespace)
        namespace.update(self.parameters)

    def require(self, holds: object, otherwise: str) -> None:
        """Refuses parameters that are allowed one by one and cannot be together; called where recipes are formed.

        Raises:
            ParameterError: with these words, unless it holds.
        """
        if not holds:
            raise ParameterError(otherwise)

    def training(self, **more) -> recipes.Training:
        """The training that the parameters describe, and more or other ones; see `protocols.training`."""
        return protocols.training(self.parameters, **more)

    def protocol(self, name: str, *, whole: bool = True, **wanted) -> str:
        """The name of a protocol if the parameters are those wanted, else "changed"; shortened if not the whole ran."""
        found = protocols.named(name, self.parameters, wanted)
        self.shorter = self.shorter or protocols.shorter(self.parameters, wanted)
        return found if whole else protocols.shortened(found)

    def execute(self, study):
        """Records of recipes, in the same nesting of lists and dicts; computes what is not in the store.

        Where and by whom stands in `lottery.engine.settings`.

        Raises:
            ChapterError: if the settings forbid to compute, and something is missing.
        """
        flat, store, own = list(tidy.leaves(study)), self.store, self.settings
        if own.read_only and (missing := plan(flat, store)):
            lacking = text.count(len(missing), "recipe")
            raise ChapterError(f"{lacking} of {self.name} not among the committed records: publish it")
        done = compute(flat, own)
        found = {recipe.key: record for recipe, record in zip(flat, done, strict=True)}
        for recipe in recipes.closure(flat):
            record = found.get(recipe.key) or store.read(recipe.key)
            if record is None:
                raise ChapterError(
                    f"record {recipe.key[:12]} is gone from {store.root}: run again, it is computed anew"
                )
            self.used[recipe.key] = record
        return tidy.mapped(study, lambda recipe: found[recipe.key])

    # Output.

    def figure(self, figure, alt: str = "", caption: str = "", headline: bool = False) -> None:
        """Shows a figure with alternative text, by default its own words, and a caption.

        Args:
            figure, alt, caption: of `figures.html_image`.
            headline: it carries the chapter's claim, and is shown at the top of the page instead of here.
        """
        picture = figures.html_image(figure, alt, sharp=2)
        if headline:
            self._place("headline", _rendered("figure", picture=picture, caption=caption), update=True)
        else:
            self._show("figure", alt, picture=picture, caption=caption)

    def glue(self, **values) -> None:
        """Makes numbers and texts available to prose: `` {glue:text}`name` `` (also from other pages)."""
        for name, value in values.items():
            key = name.replace("_", "-")
            plain = value if isinstance(value, str) else repr(value.item() if hasattr(value, "item") else value)
            self.values[key] = plain
            if isinstance(value, str):
                plain = _quoted(plain)
            prefix = "application/papermill.record/"
            mark = {"scrapbook": {"name": key, "mime_prefix": prefix}}
            _publish({prefix + "text/plain": plain}, metadata=mark)

    def show_table(self, header: Sequence[str], rows: Sequence[Sequence], caption: str) -> None:
        """Shows a table of texts; one of more than twelve rows is folded."""
        self._show("table", header=header, rows=rows, caption=caption)

    def show_runs(self, header: str, groups: Mapping[str, Sequence]) -> None:
        """Shows a table of how fast runs learned and how accurate they became: means with intervals.

        Args:
            header: of the first column.
            groups: what stands in the first column → records, one a replicate, or a list of its draws, or None.
        """
        rows = []
        for label, runs in groups.items():
            values = {name: tidy.column(runs, name).reshape(len(runs), -1).mean(axis=1) for name in RUNS}
            rows.append([label, *(text.interval(values[name], *form) for name, (_, *form) in RUNS.items())])
        replicates = text.count(max(map(len, groups.values())), "replicate")
        caption = f"{replicates}; means with 95 % intervals, cut at 0 and 100 %."
        self.show_table([header, *(words for words, *_ in RUNS.values())], rows, caption)

    def offer_runs(self, filename: str, records, *names: str) -> None:
        """A link as :meth:`offer_csv` gives it, to what :func:`tidy.runs` makes of nested records of runs."""
        self.offer_csv(filename, tidy.runs(records, *names))

    def offer_csv(self, filename: str, table: pd.DataFrame) -> None:
        """A link that downloads the numbers behind a figure as CSV, without a server; see `tidy.frame`."""
        text = table.to_csv(index=False, lineterminator="\n")
        data = base64.b64encode(text.encode()).decode()
        self._show("download", f"numbers: {filename}", filename=filename, data=data)

    def judge(self, measured: Mapping[str, Summary | float], **context) -> None:
        """Applies the rules of `claims.yml`, fills in the claim cards, and shows every check.

        What was measured is glued as text under the quantity's name.

        Args:
            measured: quantity → value.
            context: what the study is, beside its parameters.
        """
        less = {"shorter": self.shorter, "conv_shorter": protocols.conv_shorter(self.parameters)}
        context = self.parameters | less | context
        for claim, rule in self.rules.items():
            verdict = claims.judge(rule, measured, context)
            self.verdicts[claim] = verdict
            ours = "–" if verdict.scale == claims.STAND_IN else verdict.central.text  # a stand-in shows no number
            self.glue(**{f"{claim}-ours": ours})
        checks = [check for verdict in self.verdicts.values() for check in verdict.checks]
        self.glue(**{check.quantity: check.text for check in checks})  # once, though two claims may ask for it
        self._draw_cards(update=True)
        self._show("checks", rules=self.rules, verdicts=self.verdicts, stand_in=claims.STAND_IN)

    def finish(self) -> None:
        """Shows where the numbers come from; the last call of every notebook, and the mark that it ran to the end."""
        self._draw_found(update=True)
        self._draw_cards(update=True)  # with notes, whose values may be glued after the verdict
        made = [record.made for record in self.used.values()]
        finished = [one.get("finished", "?") for one in made]
        with_ = {name: sorted({one.get(name, "?") for one in made}) for name in ("torch", "numpy", "python", "lottery")}
        rows = {
            "Cost": self._cost(),
            "Results": f"{len(made)} records, from {min(finished, default='')} to {max(finished, default='')} (UTC)",
            "Computed with": ", ".join(f"{name} {' and '.join(found)}" for name, found in with_.items()),
            "This page": ", ".join(f"{name} {version}" for name, version in versions().items()),
            "Parameters": ", ".join(f"{name} = {value}" for name, value in self.parameters.items()),
        }
        end = {
            "keys": list(self.used),
            "values": self.values,
            "verdicts": {
                claim: verdict.json() | {"rule": self.rules[claim].hash} for claim, verdict in self.verdicts.items()
            },
            "parameters": self.parameters,
            "cost": self._cost(),
        }
        from_ = {"repository": repository(), "git": git_state(), "name": self.name}
        self._show("provenance", "end of the chapter", {"lottery": end}, rows=rows, keys=list(self.used), **from_)

    # Drawing.

    def _show(self, template: str, plain: str = "", metadata: dict | None = None, **values) -> None:
        text = _rendered(template, **values)
        _publish({"text/html": text, "text/plain": plain or _plain(text)}, metadata=metadata or {})

    def _draw_found(self, update: bool) -> None:
        entry = findings.load().get(self.name)
        labels = {claim: verdict.label for claim, verdict in self.verdicts.items()}
        sentences = []
        if update and entry and set(entry.names()) <= set(self.values):  # the gates tell what is not glued
            fits = entry.hash(self.values, labels) == entry.written_for
            sentences = entry.filled(self.values) if fits else []
        text = _rendered("found", sentences=sentences, verdicts=self.verdicts, rules=self.rules)
        self._place("found", text if self.rules or sentences else "", update)

    def _place(self, name: str, text: str, update: bool) -> None:
        """What stands at the top of the page, shown when the chapter is opened and filled in later."""
        bundle = {"text/html": text or "<span></span>", "text/plain": _plain(text)}
        _publish(bundle, transient={"display_id": f"{self.name}-{name}"}, update=update)

    def _draw_cards(self, update: bool) -> None:
        values = {"rules": self.rules, "verdicts": self.verdicts, "stand_in": claims.STAND_IN, "cost": self._cost()}
        values["notes"] = {claim: rule.noted(self.values) for claim, rule in self.rules.items()}
        self._place("cards", _rendered("cards", **values), update)

    def _cost(self) -> str:
        runs = sum(record.recipe["type"] == "Run" for record in self.used.values())
        spent: dict[str, float] = {}
        for record in self.used.values():
            device = record.made.get("device", "an unknown machine")
            spent[device] = spent.get(device, 0.0) + record.made.get("seconds", 0.0) / 3600
        words = (
            f"{f'{hours:.1f} hours' if hours >= 1 else f'{60 * hours:.1f} minutes'} of {device}"
            + ("" if re.search(r", \d+ threads?$", device) else ", shared by several runs, each counted in full")
            for device, hours in sorted(spent.items())
            if hours > 0.001 or hours == max(spent.values())
        )
        what = f"{text.count(runs, 'training run')} and {text.count(len(self.used) - runs, 'other result')}"
        return f"{what}, {' and '.join(words)}"


def compute(flat: Sequence[recipes.Recipe], by: settings.Settings, show: bool = True) -> list[Record]:
    """Records of recipes, computed where the store lacks them, as the settings say; with or without a progress bar."""
    how = by.model_dump(include={"executor", "jobs", "device", "scheduler", "stack", "deadline"})
    return execute.execute(flat, Store(by.store), show=show, **how)


def _rendered(template: str, **values) -> str:
    return templates.get_template(f"{template}.html").render(**values).strip()


def _plain(text: str) -> str:
    return re.sub(r"<[^>]+>|\s+", " ", text).strip()[:500]


def _quoted(words: str) -> str:
    """Quoted if MyST-NB, which reads what is glued as a literal, would make something else of it, as of ``5,460``."""
    try:
        return words if str(ast.literal_eval(words)) == words else repr(words)
    except (SyntaxError, ValueError):
        return words


def _publish(bundle: dict, **more) -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.display import publish_display_data

    if InteractiveShell.initialized():
        publish_display_data(bundle, **more)
