"""What must hold before a chapter is published: `python -m lottery verify`, and tests.

Each gate returns what is wrong, one line each. The numbers themselves are compared by `python -m lottery run
--published`; the built pages (links, foreign requests, overflow) by the tests.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from .. import LotteryError
from ..engine import archive
from ..engine.disk import StoreError
from . import build, claims, entries, findings, launch, pages, parameters, planning, runner, text
from .chapter import as_written
from .parameters import ChapterError

SOURCE_BYTES, EXECUTED_BYTES = 100_000, 2_500_000
RECORDS_BYTES = 192 * 2**20  # LeNet with controls six to twenty times, ResNet-20, Conv-2 six times


def verify() -> list[str]:
    """All gates over the source notebooks and the published chapters."""
    found = []
    for name in planning.names():
        found += [f"notebooks/{name}.ipynb: {problem}" for problem in check_source(name)]
    published = runner.published()
    for name, path in published.items():
        found += [f"book/chapters/{name}.ipynb: {problem}" for problem in check_executed(path)]
        found += [f"book/chapters/{name}.ipynb: {problem}" for problem in check_published(name, path)]
    found += check_entries() + check_contents(published) + check_pages(planning.book())
    found += check_records(published, runner.results_files())
    found += [f"no published chapter for notebooks/{name}.ipynb" for name in planning.names() if name not in published]
    size = sum(path.stat().st_size for path in runner.results_files())
    if size > RECORDS_BYTES:
        found.append(f"book/results: {size / 2**20:.1f} MiB of records, more than {RECORDS_BYTES // 2**20}")
    return found


def check_entries() -> list[str]:
    """Every chapter that the book's YAML files name is there."""
    named = {"findings.yml": list(findings.load()), "claims.yml": [rule.chapter for rule in claims.load().values()]}
    for profile in planning.PROFILES:
        path = planning.PLACE / f"{profile}.yml"
        named[f"profiles/{path.name}"] = [name for name in entries.table(path) if name != "common"]
    return [
        f"lottery/book/{file}: no chapter {name!r}"
        for file, chapters in named.items()
        for name in dict.fromkeys(chapters)
        if name not in planning.names()
    ]


def check_contents(chapters: Iterable[str]) -> list[str]:
    """Every published chapter is in the table of contents, so in the book."""
    there = build.contents(planning.book())
    return [
        f"book/chapters/{name}.ipynb: not in _toc.yml, so no page of the book: add `- file: book/chapters/{name}`"
        for name in chapters
        if name not in there
    ]


def check_pages(root: Path) -> list[str]:
    """The pages beside the chapters: their findings are of these numbers, and they show values that there are."""
    chapters, found = pages.executed(root / "book" / "chapters"), []
    for path in sorted((root / "book").rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        wrong = pages.unglued(text, chapters) or pages.stale(text, chapters)
        found += [f"{path.relative_to(root).as_posix()}: {problem}" for problem in wrong]
    return found


def check_records(chapters: Mapping[str, Path], files: Iterable[Path]) -> list[str]:
    """All that published chapters rest on is in the committed records, and these are whole."""
    there, found = set[str](), list[str]()
    for file in files:
        try:
            with archive.Archive(file) as opened:
                there |= {record.key for record, _, _ in opened.records()}
                found += opened.problems
        except StoreError as error:
            found.append(str(error))
    for name, path in chapters.items():
        if lacking := set(runner.rests_on(path)) - there:
            found.append(f"book/chapters/{name}.ipynb: {len(lacking)} of its records are not in book/results")
    return found


def check_source(name: str) -> list[str]:
    """A source notebook: no outputs, one parameters cell, all typed and explained, small."""
    path = planning.book() / "notebooks" / f"{name}.ipynb"
    notebook = planning.source(name)
    found = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and (cell.outputs or cell.execution_count is not None):
            found.append(f"cell {number} has outputs or an execution count")
        if not cell.get("id"):
            found.append(f"cell {number} has no id")
    try:
        planning.check_name(name)
        parameters.parameters_of(notebook)
    except (LotteryError, ValueError, SyntaxError) as error:
        found.append(str(error))
    if path.stat().st_size > SOURCE_BYTES:
        found.append(f"{path.stat().st_size:,} bytes, more than {SOURCE_BYTES:,}")
    found += typed_numbers(notebook)
    return found


_NUMBER = re.compile(r"(?<![\w`{])\d+(?:[.,]\d+)?\s?(?:%|pp\b)")


def typed_numbers(notebook) -> list[str]:
    """Results typed by hand: per cents and points in the prose between the first figure and the verdict.

    Numbers there come by glue. Claim, method and parameters may quote the paper's.
    """
    found, results = [], False
    for cell in notebook.cells:
        if cell.cell_type == "code":
            results = results or "chapter.figure(" in cell.source
            continue
        if "## Verdict" in cell.source:
            break
        if results:
            text = re.sub(r"\{[\w:]+\}`[^`]*`(\s?%)?|```.*?```", "", cell.source, flags=re.S)
            found += [f"a number typed into prose: {match.group()!r}" for match in _NUMBER.finditer(text)]
    return found


def check_executed(path: Path) -> list[str]:
    """An executed chapter: complete, made from the present source, accessible, small."""
    notebook = planning.read(path)
    found = runner.incomplete(notebook)
    made = notebook.metadata.get("lottery", {})
    if made.get("chapter") != path.stem:
        found.append("its provenance is missing or of another chapter")
    elif made["source_sha256"] != runner.code_hash(planning.source(path.stem)):
        found.append("stale: the code of its source notebook has changed since it was executed")
    else:
        found += _not_its_source(notebook, planning.source(path.stem))
    if made.get("outputs_sha256") != runner.outputs_hash(notebook):
        found.append("its outputs are not those that it was published with: publish it again")
    if path.stat().st_size > EXECUTED_BYTES:
        found.append(f"{path.stat().st_size:,} bytes, more than {EXECUTED_BYTES:,}")
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data or "image/svg+xml" in data:
                found.append(f"cell {number} shows a bare image: use Chapter.figure, which takes alternative text")
            found += [f"cell {number}: {problem}" for problem in _images(data.get("text/html", ""))]
    return found + check_widgets(notebook)


def _not_its_source(notebook, source) -> list[str]:
    """Cells of a page that are not those of its source notebook; Papermill adds one, with the parameters."""
    shown = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    kinds = [[(cell.cell_type, cell.source) for cell in cells] for cells in (shown, source.cells)]
    if len(kinds[0]) != len(kinds[1]):
        return [f"it has {len(kinds[0])} cells, its source notebook {len(kinds[1])}: publish it again"]
    other = [str(number) for number, (one, two) in enumerate(zip(*kinds, strict=True)) if one != two]
    return [f"not as in its source notebook: cell {', '.join(other)}; publish it again"] if other else []


def _images(text: str) -> list[str]:
    tags = re.findall(r"<img\b[^>]*>", text)
    return ["an image without alternative text" for tag in tags if not re.search(r'\balt="[^"]+"', tag)]


def check_widgets(notebook) -> list[str]:
    """Widgets that also work on a page without a kernel: no Output, no button that does nothing, no dead link."""
    models = notebook.metadata.get("widgets", {}).get(pages.STATE, {}).get("state", {})
    found = []
    for model in models.values():
        state, kind = model["state"], model["model_name"]
        if kind == "OutputModel":
            found.append("an Output widget: it stays empty on the page")
        if kind == "PlayModel":
            found.append("a Play widget")
        if kind == "ButtonModel" and not _live_only(model, models):
            found.append(f"the button {state.get('description')!r} does nothing on the page: make it live-only")
        if kind == "HTMLModel":
            found += _images(state.get("value", ""))
        if kind in ("LinkModel", "DirectionalLinkModel"):
            for end in ("source", "target"):
                if state[end][0].removeprefix("IPY_MODEL_") not in models:
                    found.append(f"the {end} of a link does not exist")
    return found


def _live_only(model, models) -> bool:
    if "live-only" in model["state"].get("_dom_classes", ()):
        return True
    mine = {f"IPY_MODEL_{key}" for key, other in models.items() if other is model}
    holders = [other for other in models.values() if mine & set(other["state"].get("children", ()))]
    return bool(holders) and all(_live_only(holder, models) for holder in holders)


def check_published(name: str, path: Path) -> list[str]:
    """A published chapter: not quick, all its claims judged by their rules, its findings those of findings.yml."""
    notebook = planning.read(path)
    made = notebook.metadata.get("lottery", {})
    found = []
    if made.get("profile") == "quick":
        found.append("executed at the quick profile")
    if unglued := launch.unglued(notebook):
        found.append(f"its texts show values that it does not glue: {', '.join(unglued)}")
    known, verdicts = claims.load(), made.get("verdicts", {})
    for rule in (rule for rule in known.values() if rule.chapter == name):
        if lacking := [one for one in text.names(rule.note) if one not in made.get("values", {})]:
            found.append(f"the note of {rule.id} names values that are not glued: {', '.join(lacking)}")
    lacking = [claim for claim, rule in known.items() if rule.chapter == name and claim not in verdicts]
    found += [f"{claim}: not judged yet: publish the chapter again" for claim in lacking]
    for claim, verdict in verdicts.items():
        if claim not in known:
            found.append(f"its claim {claim} is not in claims.yml")
        elif not isinstance(verdict, dict) or verdict["outcome"] not in claims.OUTCOMES:
            found.append(f"{claim}: no such verdict: {verdict!r}")
        elif verdict.get("rule") != known[claim].hash:
            found.append(f"{claim}: judged by another rule than that of claims.yml: publish the chapter again")
    return found + (check_findings(name, made) or _check_shown(name, notebook))


def _check_shown(name: str, notebook) -> list[str]:
    """The page says what findings.yml says: it was executed after its sentences were written."""
    entry = findings.load().get(name)
    if entry is None:
        return []
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    page = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    written = as_written(page)
    if all(sentence in written for sentence in entry.filled(notebook.metadata["lottery"]["values"])):
        return []
    return ["its page does not show the sentences of findings.yml: publish the chapter again"]


def check_findings(name: str, made: dict) -> list[str]:
    """A chapter that judges claims says what it found, in sentences written for these very numbers and verdicts."""
    entry, verdicts = findings.load().get(name), made.get("verdicts", {})
    if entry is None:
        return ["findings.yml does not say what it found"] if verdicts else []
    try:
        hash_ = entry.hash(made["values"], {claim: verdict["label"] for claim, verdict in verdicts.items()})
    except ChapterError as error:
        return [str(error)]
    if hash_ == entry.written_for:
        return []
    return [f"its findings are of other numbers: read them again, then set written_for: {hash_}"]
