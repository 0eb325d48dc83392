"""Pages that show all chapters together, filled in from the executed chapters whenever the book is built.

A Sphinx extension with two MyST directives. ``{from-chapters} NAME`` puts one of these in its place:

- ``outcomes``: a bar for each scale, how many claims agree, agree in part, are open, disagree;
- ``scoreboard``: every claim with its verdict, and filters; of every work a table of all checks;
- ``rules``: the rule of every claim, as `claims.yml` has it, what it rests on, and what rests on it;
- ``provenance``: of every chapter its commit, versions, time, cost and records.

``{findings} HASH`` shows its content where the book has the published chapters. The hash is that of the glued values
that the content names: it was written for these, and a build in which they differ says so. The extension also gives
every page a description and the book a picture for links, shows the first frame of an explorer until a script has drawn
it, writes formulae as MathML, which needs no script, puts the ledger of claims beside the pages, and makes of the
notebooks that pages offer such that run from nothing (`lottery.book.launch`).
"""

import hashlib
import html
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from docutils import nodes
from docutils.utils.math import MathError, latex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from .. import stats
from . import claims, launch, planning
from .chapter import templates

LEDGER = "claims.json"
PICTURE = "_static/overview.png"
_GLUED = re.compile(r"\{glue:text\}`([^`:]+)::([^`:]+)[^`]*`")
_MISREAD = re.compile(r"(frac|sqrt|[\^_])\s*\d\d")
_log = logging.getLogger(__name__)


def executed(folder: Path) -> dict[str, dict[str, Any]]:
    """What executed chapters say of themselves (`lottery.book.runner.run`), and their titles, by name.

    Args:
        folder: of executed notebooks.
    """
    out = {}
    for path in planning.visible(folder, "*.ipynb"):
        notebook = planning.read(path)
        heading = next((cell.source for cell in notebook.cells if cell.source.startswith("# ")), f"# {path.stem}")
        out[path.stem] = notebook.metadata.get("lottery", {}) | {"title": heading.splitlines()[0][2:].strip()}
    return out


def ledger(chapters: Mapping[str, Mapping[str, Any]]) -> dict:
    """The ledger of all claims, from executed chapters; what older rules have judged is not in it."""
    judged = []
    for made in chapters.values():
        verdicts = {name: one for name, one in made.get("verdicts", {}).items() if isinstance(one, Mapping)}
        judged.append({"verdicts": verdicts, "keys": made.get("keys", [])})
    return claims.ledger(claims.collect(judged))


WAITING = (
    "<p><small>The first frame. If its controls never come, scripts from cdn.jsdelivr.net are blocked here.</small></p>"
)
"""Below the picture that stands for an explorer until it is drawn."""
STATE = "application/vnd.jupyter.widget-state+json"
"""Where a notebook keeps the states of its widgets."""

RECONSTRUCTION, QUESTION = "reconstruction", "question"
PLACES = {
    claims.PAPER: "at the paper's scale",
    claims.REDUCED: "at reduced scale",
    RECONSTRUCTION: "reconstructions, of ideas whose experiments are not known to us",
    claims.STAND_IN: "stand-ins, which test no claim",
    claims.NOT_MEASURED: "not measured",
    QUESTION: "questions of our own, some after a published idea, which are no claims of a work",
}
"""Where a claim is counted, as tallies and filters of the scoreboard have it."""
MAIN = ("C-C1", "C-C1b", "C-C2", "C-C2b", "C-C2d", "C-C3", "C-C3b", "C-C4", "C-C5", "C-C9b", "C-C12")
MAIN += ("B-C1", "B-C2", "A-C1", "A-C4")
"""The works' claims that the front page has in a table: the main ones, as we see them."""
_SAID = (claims.AGREES, claims.IN_PART, claims.OPEN, claims.DISAGREES)
_SAID += tuple(form.format(word) for word in ("reconstructed", "supported") for form in ("{}", "{} in part", "not {}"))
BADGES = (*_SAID, claims.STAND_IN, claims.NOT_MEASURED)
"""All that a badge can say, in the order of a legend."""


def place(kind: str, verdict: claims.Verdict | None) -> tuple[str, str]:
    """Where a claim of a kind is counted, one of `PLACES`, and its badge.

    Questions of ours are counted apart, whatever came out; so are reconstructions that were judged, for there is no
    work that they could agree with.
    """
    badge = verdict.label if verdict else claims.NOT_MEASURED
    if kind == "probe":
        return QUESTION, badge
    if verdict is None or badge in (claims.STAND_IN, claims.NOT_MEASURED):
        return badge, badge
    return RECONSTRUCTION if kind == RECONSTRUCTION else verdict.scale, badge


def tally(ledger: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Place -> badge -> how many claims and questions have it; see `place`."""
    rows: dict[str, dict[str, int]] = {where: {} for where in PLACES}
    for one in ledger["claims"].values():
        where, badge = place(one["kind"], claims.read(one["verdict"]) if one["verdict"] else None)
        rows[where][badge] = rows[where].get(badge, 0) + 1
    return {where: {badge: row[badge] for badge in BADGES if badge in row} for where, row in rows.items()}


def judged(ledger: Mapping[str, Any]) -> dict[str, claims.Verdict]:
    """Claim -> its verdict, of those that a chapter has judged."""
    return {name: claims.read(one["verdict"]) for name, one in ledger["claims"].items() if one["verdict"]}


@dataclass
class Weight:
    """How firm the outcomes are that are counted at a place.

    Attributes:
        agree, disagree: how many do.
        corrected: those that agree with every Holm's p below 0.05.
        together: those that do by a correction over the checks of all works and questions.
        refuted: those that disagree with Holm's p of their central check below 0.05.
        borderline: those that less than four of five equal studies would decide as they are.
        open: how many are.
        against: how many of the open ones have means against them.
        cannot: how many of them cannot agree any more, since one of their checks fails.
        stated, within: how many numbers the works state, and how many of these our intervals contain.
    """

    agree: int = 0
    disagree: int = 0
    corrected: list[str] = field(default_factory=list)
    together: list[str] = field(default_factory=list)
    refuted: list[str] = field(default_factory=list)
    borderline: list[str] = field(default_factory=list)
    open: int = 0
    against: int = 0
    cannot: int = 0
    stated: int = 0
    within: int = 0

    def add(self, name: str, verdict: claims.Verdict, together: bool) -> None:
        """Counts a claim; `together` says whether all its checks pass the correction over everything."""
        covers = [check.covers for check in verdict.checks if check.covers is not None]
        self.stated, self.within = self.stated + len(covers), self.within + sum(covers)
        if verdict.again < 0.8:
            self.borderline.append(name)
        if verdict.outcome == claims.AGREES:
            self.agree += 1
            if all(check.holm < 0.05 for check in verdict.checks):
                self.corrected.append(name)
            if together:
                self.together.append(name)
        elif verdict.outcome == claims.DISAGREES:
            self.disagree += 1
            if verdict.central.holm < 0.05:
                self.refuted.append(name)
        elif verdict.outcome == claims.OPEN and verdict.scale != claims.STAND_IN:
            self.cannot += verdict.failing > 0
            if verdict.label == claims.OPEN:  # and not "not measured"
                self.open += 1
                self.against += verdict.against == "the claim"


def weighed(ledger: Mapping[str, Any]) -> dict[str, Weight]:
    """Place -> how firm the outcomes there are; stand-ins have none."""
    verdicts = judged(ledger)
    counted = [(name, check) for name, one in verdicts.items() for check in one.checks if np.isfinite(check.holm)]
    raised: dict[str, list[float]] = {}
    for (name, _), p in zip(counted, stats.holm([check.p for _, check in counted]), strict=True):
        raised.setdefault(name, []).append(p)
    rows = {where: Weight() for where in PLACES if where != claims.STAND_IN}
    for name, verdict in verdicts.items():
        if row := rows.get(place(ledger["claims"][name]["kind"], verdict)[0]):
            found = raised.get(name, [])
            row.add(name, verdict, len(found) == len(verdict.checks) and max(found) < 0.05)
    return rows


def values_hash(text: str, chapters: Mapping[str, Mapping[str, Any]]) -> str:
    """12 digits of the SHA-256 over the values of other pages that a text glues in.

    Args:
        text: MyST in which the role `glue:text` names them, as ``chapters/NAME.ipynb::KEY:s``.
        chapters: of :func:`executed`.

    Raises:
        KeyError: for a chapter that is not there.
    """
    found = {f"{path}::{key}": chapters[Path(path).stem]["values"].get(key) for path, key in _GLUED.findall(text)}
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:12]


def stale(text: str, chapters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with the findings on a page, one line each: the numbers that they were written for have changed.

    Args:
        text: the page, as MyST.
        chapters: of :func:`executed`.
    """
    found = []
    for written, body in re.findall(r"^```\{findings\} (\w+)\n(.*?)^```$", text, re.M | re.S):
        if missing := sorted({Path(path).stem for path, _ in _GLUED.findall(body)} - set(chapters)):
            found.append(f"its findings are of chapters that are not there: {', '.join(missing)}")
        elif (now := values_hash(body, chapters)) != written:
            found.append(f"its findings are of other numbers: read them again, then name {now}")
    return found


def unglued(text: str, chapters: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The values of chapters that a page shows and that there are not, one line each.

    Args:
        text: the page, as MyST.
        chapters: of :func:`executed`.
    """
    shown = dict.fromkeys((Path(path).stem, key) for path, key in _GLUED.findall(text))
    lacking = [(name, key) for name, key in shown if key not in chapters.get(name, {}).get("values", {})]
    return [f"it shows {key}, which the published chapter {name} does not glue" for name, key in lacking]


class _FromBook(SphinxDirective):
    def chapters(self) -> dict[str, dict[str, Any]]:
        folder = Path(self.env.srcdir) / "book" / "chapters"
        for path in folder.glob("*.ipynb"):
            self.env.note_dependency(str(path))
        return executed(folder)


class Findings(_FromBook):
    """``{findings} HASH``; see the module."""

    has_content = True
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        chapters, text = self.chapters(), "\n".join(self.content)
        if any(made.get("profile") == "quick" for made in chapters.values()):
            text = (
                "*This copy of the book shows chapters executed at the profile `quick`: stand-ins, which test no "
                "claim. What we found stands in the published book, which `python -m lottery book` builds here in a "
                "minute or two.*"
            )
        elif (now := values_hash(text, chapters)) != self.arguments[0]:
            where = (self.env.docname, self.lineno)
            _log.warning(
                "the findings were written for other values: read them again, then name %s", now, location=where
            )
        return self.parse_text_to_nodes(text)


class FromChapters(_FromBook):
    """``{from-chapters} NAME``; see the module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        draw = {"outcomes": self.outcomes, "scoreboard": self.scoreboard, "rules": self.rules}
        draw |= {"provenance": self.provenance, "main": self.main}
        if name not in draw:
            raise self.error(f"from-chapters has {', '.join(draw)}, not {name!r}")
        return list(draw[name](self.chapters()))

    def outcomes(self, chapters) -> Iterable[nodes.Node]:
        book = ledger(chapters)
        rows, weights = tally(book), weighed(book)
        total = sum(sum(row.values()) for where, row in rows.items() if where != QUESTION)
        yield self._html("outcomes.html", rows=rows, total=total, words=PLACES, weights=weights)

    def main(self, chapters) -> Iterable[nodes.Node]:
        rules, book = claims.load(), ledger(chapters)
        verdicts, tallies, weights = judged(book), tally(book), weighed(book)
        rows = [(rules[name], one := verdicts.get(name), place(rules[name].kind, one)[1]) for name in MAIN]
        counts = {where: (tallies[where], weights[where]) for where in (claims.PAPER, claims.REDUCED)}
        yield self._html("main.html", rows=rows, counts=counts, words=PLACES)

    def scoreboard(self, chapters) -> Iterable[nodes.Node]:
        book, rules, works = ledger(chapters), claims.load(), claims.works()
        verdicts = judged(book)
        counted = {name: place(rule.kind, verdicts.get(name)) for name, rule in rules.items()}
        wheres, labels = ({one[i] for one in counted.values()} for i in (0, 1))
        choices = {
            "work": {key: work.name if work.cite else "our own questions" for key, work in works.items()},
            "scale": {where: words.partition(",")[0] for where, words in PLACES.items() if where in wheres},
            "outcome": {badge: badge for badge in BADGES if badge in labels},
        }
        names = {key: work.name if work.cite else "Questions of our own" for key, work in works.items()}
        own = {key: [rule for rule in rules.values() if rule.work == key] for key in works}
        index = {names[key]: [(rule, counted[rule.id][1]) for rule in those] for key, those in own.items()}
        yield self._html("index.html", works=index)
        yield self._html("filters.html", choices=choices)
        for key, work in works.items():
            notes = {rule.id: rule.noted(chapters.get(rule.chapter, {}).get("values", {})) for rule in own[key]}
            entries = [
                (rule, verdicts.get(rule.id), self._chapter(rule.chapter), *counted[rule.id], notes[rule.id])
                for rule in own[key]
            ]
            said = (
                f"{{cite:t}}`{work.cite}`; read: {work.read}."
                if work.cite
                else "Questions of our own: no claims of a work."
            )
            body = [*self.parse_text_to_nodes(said), self._html("claims.html", entries=entries)]
            tested = [(rule, verdict) for rule, verdict, *_ in entries if verdict and verdict.scale != claims.STAND_IN]
            if rows := [(rule, check) for rule, verdict in tested for check in verdict.checks]:
                body.append(self._html("checks.html", rows=rows))
            yield self._section(names[key], key, body)

    def rules(self, chapters) -> Iterable[nodes.Node]:
        titles = {name: made["title"] for name, made in chapters.items()}
        by_chapter: dict[str, list[claims.Rule]] = {}
        needed_by: dict[str, list[str]] = {}
        for rule in claims.load().values():
            by_chapter.setdefault(rule.chapter, []).append(rule)
            for other in rule.rests_on:
                needed_by.setdefault(other, []).append(rule.id)
        yield self._changes(chapters)
        for name, own in sorted(by_chapter.items()):
            shown = [(rule, _bounds(rule)) for rule in own]
            body = self._html("rules.html", rules=shown, needed_by=needed_by)
            yield self._section(_numbered(name, titles.get(name)), f"rules-{name}", [body])

    def _changes(self, chapters) -> nodes.raw:
        """How many rules were changed, and which claims came out otherwise before."""
        rules, verdicts = claims.load(), judged(ledger(chapters))
        now = {name: place(rule.kind, verdicts.get(name))[1] for name, rule in rules.items()}
        changed = [rule for rule in rules.values() if rule.revised]
        known = [rule for rule in changed if any(change.known for change in rule.revised)]
        compared = [(rule, rule.earlier(now[rule.id]), now[rule.id]) for rule in known]
        others = [one for one in compared if one[1]]
        return self._html("changes.html", rules=rules, changed=changed, known=known, others=others)

    def provenance(self, chapters) -> Iterable[nodes.Node]:
        for name, made in chapters.items():
            body = self._html("provenance.html", name=name, made=made, chapter=self._chapter(name))
            yield self._section(_numbered(name, made["title"]), f"provenance-{name}", [body])

    def _chapter(self, name: str) -> str:
        """Address of a chapter relative to this page, "" if the book has none."""
        return f"chapters/{name}.html" if f"book/chapters/{name}" in self.env.found_docs else ""

    def _section(self, title: str, name: str, body: list[nodes.Node]) -> nodes.section:
        section = nodes.section("", nodes.title(title, title), *body, ids=[nodes.make_id(name)], names=[name])
        self.state.document.note_explicit_target(section)
        return section

    def _html(self, template: str, **values) -> nodes.raw:
        repository = self.config.html_theme_options.get("repository_url", "")
        text = templates.get_template(f"pages/{template}").render(repository=repository, claims=claims, **values)
        return nodes.raw("", text, format="html")


def _bounds(rule: claims.Rule) -> list[tuple[claims.CheckRule, str]]:
    """The checks of a rule with their bounds in words."""
    return [(check, one.bound) for check, one in zip(rule.checks, claims.judge(rule, {}, {}).checks, strict=True)]


def _numbered(name: str, title: str | None) -> str:
    number = int(name.partition("_")[0])
    return f"{number}. {title or name.partition('_')[2].replace('_', ' ').capitalize()}"


def still(state: Mapping[str, Any], model: str) -> str:
    """What a widget shows first, as HTML: the frame that its stacks of frames have selected; "" if it has none.

    Args:
        state: id -> model, as a notebook keeps the states of its widgets.
        model: id of the widget.
    """
    one = state.get(model.removeprefix("IPY_MODEL_"), {"model_name": "", "state": {}})
    values, children = one["state"], one["state"].get("children", [])
    if one["model_name"] == "HTMLModel":
        return values["value"] if "<img" in values["value"] else ""
    if one["model_name"] == "StackModel":
        children = children[values["selected_index"] :][:1]
    return next(filter(None, (still(state, child) for child in children)), "")


def _stills(app: Sphinx, page: str, _template: str, context: dict, _doctree: nodes.document | None) -> None:
    """Puts the first frame of every explorer before it, for as long as no script has drawn the explorer."""
    path = Path(app.srcdir) / f"{page}.ipynb"
    if not path.is_file() or "widget-view+json" not in context.get("body", ""):
        return
    widgets = nbformat.read(path, as_version=4).metadata.get("widgets", {})
    state = widgets.get(STATE, {}).get("state", {})
    view = re.compile(r'<script type="application/vnd\.jupyter\.widget-view\+json">\s*\{[^<]*?"model_id": "(\w+)"')

    def before(match: re.Match) -> str:
        frame = still(state, match[1])
        return f'<div class="still">{frame}{WAITING}</div>{match[0]}' if frame else match[0]

    context["body"] = view.sub(before, context["body"])


def _describe(app: Sphinx, page: str, _template: str, context: dict, doctree: nodes.document | None) -> None:
    """A description for search engines, and what a link to the page shows elsewhere."""
    if doctree is None:
        return
    first = next((p for p in doctree.findall(nodes.paragraph) if len(p.astext()) > 100), None)
    text = " ".join(first.astext().split()) if first is not None else app.config.html_title
    text = text if len(text) <= 200 else text[:200].rpartition(" ")[0] + " …"
    base = app.config.html_baseurl.rstrip("/") + "/"
    tags = {"og:title": re.sub("<[^>]+>", "", html.unescape(context.get("title", ""))), "og:description": text}
    tags |= {"og:type": "article", "og:url": f"{base}{page}.html", "og:image": base + PICTURE}
    lines = [f'<meta name="description" content="{html.escape(text)}" />']
    lines += ['<meta name="twitter:card" content="summary_large_image" />']
    lines += [f'<meta property="{name}" content="{html.escape(content)}" />' for name, content in tags.items()]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


_EXPANDED = (  # annotations that autodoc writes out, and what stands in the source
    (re.compile(r"_Buffer \| _SupportsArray.*?_NestedSequence\[complex \| bytes \| str\]"), "ArrayLike"),
    (re.compile(r"Annotated\[([\w.]+), FieldInfo\([^()]*\[[^\]]*\]\)\]"), r"\1"),
)


def _shorten(_app, _what, _name, _object, _options, signature: str | None, returns: str | None):
    """Signatures as their authors wrote them."""
    parts = [signature, returns]
    for pattern, short in _EXPANDED:
        parts = [part and pattern.sub(short, part) for part in parts]
    return tuple(parts)


def _write_ledger(app: Sphinx, failure: Exception | None) -> None:
    if failure is None and app.builder.format == "html":
        source, made = Path(app.srcdir) / "book", Path(app.outdir) / "book"
        text = json.dumps(ledger(executed(source / "chapters")), indent=1, ensure_ascii=False)
        (made / LEDGER).write_text(text + "\n", encoding="utf-8")
        shutil.copy(source / claims.SCHEMA, made)


def _launch_buttons(app: Sphinx, _page: str, _template: str, context: dict, _doctree: nodes.document | None) -> None:
    """Points the theme's buttons at the branch with the notebooks that run from nothing."""
    shown = app.config.html_theme_options.get("repository_branch", "")
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []) if group.get("label") == "launch-buttons" else []:
            button["url"] = re.sub(rf"/{re.escape(shown)}([/?])", rf"/{launch.BRANCH}\1", button["url"], count=1)


def _write_notebooks(app: Sphinx, failure: Exception | None) -> None:
    """The notebooks of this build's chapters; what an earlier build made of chapters that are gone is removed."""
    if failure is not None or app.builder.format != "html":
        return
    source, offered = Path(app.srcdir) / "book", Path(app.outdir) / "_sources" / "book" / "chapters"
    release = launch.release(app.config.html_theme_options.get("repository_url", ""))
    cited: Any = app.env.domains["cite"]
    cited = launch.cited(cited.bibdata.data.entries)
    (Path(app.outdir) / "_sources" / "requirements.txt").write_text(f"{release}/{launch.wheel()}\n")  # for Binder
    exports = planning.visible(source / "results", "*.lotx")
    names = sorted(Path(page).name for page in app.env.found_docs if page.startswith("book/chapters/"))
    for path in [*offered.glob("*.ipynb"), *(Path(app.outdir) / "book" / "chapters").glob("*.html")]:
        if path.stem not in names:
            path.unlink()
    for name in names:
        executed = nbformat.read(source / "chapters" / f"{name}.ipynb", as_version=4)
        quick = planning.profile_parameters(name, "quick", executed)
        records = launch.holders(executed.metadata["lottery"]["keys"], exports)
        pages = f"{app.config.html_baseurl.rstrip('/')}/book/chapters"
        nbformat.write(launch.notebook(executed, release, quick, records, cited, pages), offered / f"{name}.ipynb")


_SILENT = ("sphinx_jupyterbook_latex", "sphinx_multitoc_numbering")
"""Jupyter Book's extensions that do not say whether pages can be read in several processes: they keep nothing of a page
while it is read. One makes nodes for LaTeX, the other numbers chapters when all have been read."""


def mathml(tex: str, block: bool = False) -> str:
    """A formula as MathML, which browsers set without a script.

    Raises:
        MathError: where docutils cannot read it, or would read something else than TeX does.
    """
    if _MISREAD.search(tex):
        raise MathError("of two digits after a command TeX takes the first, and docutils both: write braces")
    made = latex2mathml.tex2mathml(tex, as_block=block)
    return f'<div class="formula">{made}</div>' if block else made


def _formula(translator, node: nodes.math | nodes.math_block) -> None:
    tex = node.astext()
    try:
        made = mathml(tex, isinstance(node, nodes.math_block))
    except MathError as error:
        _log.warning("%s: $%s$", error, tex, location=node)
        made = f"<code>{html.escape(tex)}</code>"
    translator.body.append(made)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    for name in _SILENT:
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True
    app.add_directive("from-chapters", FromChapters)
    app.add_directive("findings", Findings)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))
    app.connect("autodoc-process-signature", _shorten)
    app.connect("html-page-context", _describe)
    app.connect("html-page-context", _stills)
    app.connect("html-page-context", _launch_buttons, priority=900)  # after the theme has made them
    app.connect("build-finished", _write_ledger)
    app.connect("build-finished", _write_notebooks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
