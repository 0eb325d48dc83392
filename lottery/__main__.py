"""The command line: `python -m lottery run | study | book | verify | store | list | parameters | power`."""

import contextlib
import functools
import itertools
import json
import os
import shlex
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import click

from . import LotteryError, __version__


class _Command(click.Command):
    """A command that refuses what is given twice and can be one thing alone, of which click takes the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        several = [one for one in order if isinstance(one, click.Option) and not (one.multiple or one.is_flag)]
        said = [one.opts[0] for one in several] + [f"-p {name}" for name, _ in given.get("given") or ()]
        if twice := [option for option, times in Counter(said).items() if times > 1]:
            raise click.UsageError(f"{twice[0]} is given {Counter(said)[twice[0]]} times: give it once", ctx)
        return super().parse_args(ctx, args)


class _Group(click.Group):
    command_class, group_class = _Command, type


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, message="%(version)s")
def cli() -> None:
    """Lottery tickets, reproduced."""


class _PathType(click.Path):
    """A path, with the home folder for `~`: shells leave that of --store=~/results as it is."""

    def convert(self, value, param, ctx) -> Path:
        path = Path(str(super().convert(value, param, ctx)))
        try:
            str(path).encode()
        except UnicodeError:
            self.fail(f"{os.fsencode(path)!r} is no text in UTF-8: take another name", param, ctx)
        return path.expanduser()


PATH = _PathType(path_type=Path)

STORE = click.option(
    "--store",
    type=PATH,
    help="Folder of results (default: $LOTTERY_STORE, else results of the book, else of this folder).",
)


def computing(command):
    """The options that say where results are kept and by whom they are computed."""
    stacked = "Runs trained as one batch (default: on a GPU as many as its memory should hold, on a CPU 1)."
    for option in (
        click.option("--stack", type=int, metavar="N", help=stacked),
        click.option("--device", help="cpu (default) or cuda."),
        click.option("--scheduler", metavar="ADDRESS", help="Of a running Dask cluster."),
        click.option("--jobs", type=int, help="Processes or local workers (default: one a core)."),
        click.option("--executor", help="inline, processes or dask."),
        STORE,
    ):
        command = option(command)
    return command


def _settings(store: Path | None, **given):
    from .engine import settings

    return settings.made(store=store and store.absolute(), **given)


@cli.command()
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
@click.option("--all", "every", is_flag=True, help="Every chapter.")
@click.option(
    "--published",
    is_flag=True,
    help="Execute the published chapters again from their committed records and compare the numbers.",
)
@click.option("--profile", help="quick (default), standard or paper.")
@click.option("-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="Set a parameter.")
@click.option("--publish", is_flag=True, help="Put chapters and records into book/.")
@click.option("--export", type=PATH, metavar="FILE.lotx", help="Also pack the records.")
@computing
def run(chapters, every, published, profile, given, publish, export, **how) -> None:
    """Execute chapters with papermill."""
    from .book import planning

    if published:
        if chapters or every or profile is not None or given or publish or export or how["store"]:
            raise LotteryError(
                "--published executes all published chapters as they were published, from their committed records: "
                "it goes with no chapter, --all, --profile, -p, --publish, --export or --store"
            )
        _run_published(_settings(**how))
        return
    every = every or "all" in chapters
    if every and set(chapters) - {"all"}:
        raise LotteryError("name chapters, or give --all, not both")
    names = planning.names() if every else list(dict.fromkeys(planning.named(one) for one in chapters))
    profile = "quick" if profile is None else profile
    if not names:
        raise LotteryError(f"name a chapter, or --all, or --published; chapters: {', '.join(planning.names())}")
    if publish and profile == "quick":
        raise LotteryError("quick chapters are not published: take --profile standard or paper")
    _run(names, profile, dict(given), publish, export, _settings(**how))


def _run(names, profile, given, publish, export, settings) -> None:
    from .book import planning

    parts = [planning.Part(name, profile, given) for name in names]
    for part in parts:
        _ = part.parameters  # before imports that take seconds, and folders that are called like a profile

    from .book import runner
    from .engine import archive
    from .engine.store import Store

    if export:
        archive.check_target(export)
    store, folder = Store(settings.store), runner.output_folder(profile, publish)
    runner.check_writable(folder, *([runner.results_folder()] if publish else []), *([export.parent] if export else []))
    places = {part.chapter: f" ({at} of {len(parts)})" * (len(parts) > 1) for at, part in enumerate(parts, 1)}
    keys_of: dict[str, list[str]] = {}
    for part in parts:  # all of them are checked before the first is executed
        part.check(store, settings)
        keys_of[part.chapter] = own = part.keys
        if len(parts) > 1:
            lacking = _count(sum(key not in store for key in own), "recipe")
            click.echo(f"{part.chapter}{places[part.chapter]}: planned, {lacking} to compute")
    keys = list(dict.fromkeys(key for one in keys_of.values() for key in one))
    if publish:
        runner.take_committed(names, keys, store)
    try:
        error = _compute(parts, keys_of, store, settings)
        failed: dict[str, LotteryError] = {}
        if error:
            failed = {name: error for name, own in keys_of.items() if not all(key in store for key in own)}
        names = [name for name in names if name not in failed]
        more = {"folder": folder, "settings": settings}
        tasks = [functools.partial(runner.attempt, name, profile, given, **more) for name in names]
        for name, place in zip(names, runner.run_beside(tasks, settings), strict=True):
            if isinstance(place, LotteryError):
                failed[name] = place
                click.echo(f"{name}{places[name]}: failed")
                continue
            click.echo(f"{name}{places[name]}: executed, {os.path.relpath(place)}")
        if publish and (done := [name for name in names if name not in failed]):
            if failed:  # their files stay, and the others must fit them
                runner.take_committed(done, [key for name in done for key in keys_of[name]], store)
            for name in done:
                for path in runner.publish_records(name, store):
                    click.echo(f"{name}: {os.path.relpath(path)}")
        if failed and len(parts) == 1:
            raise failed[parts[0].chapter]
        if failed:
            raise _failed(failed, len(parts), "make book", {part.chapter: part.command for part in parts})
        if error:
            raise error
    finally:
        if export and (there := [key for key in keys if key in store]):
            if len(there) < len(keys):  # broken off: what the file had stays in it
                there = list(dict.fromkeys([*there, *_carried(store, export)]))
            for path in store.export(there, export):
                click.echo(f"records: {path}")


def _failed(failed, count: int, target: str, alone=None) -> LotteryError:
    """Of several chapters those that failed, each with the first line that says why, and what to do.

    Args:
        failed: chapter → its error.
        count: how many were to be executed.
        target: what builds the pages when none fails.
        alone: chapter → the command that runs it alone, if there is one.
    """
    others = "; the others are executed" * (len(failed) < count)
    said = [f"{len(failed)} of {count} chapters failed{others} (`{target}` builds the pages when none fails)"]
    for name in sorted(failed):
        why = str(failed[name]).strip().partition("\n")[0]
        said.append(why if why.startswith(name) else f"{name}: {why}")
        said += [f"  to run it alone: {_typed(alone[name])}"] if alone else []
    return LotteryError("\n".join([*said, "a chapter that you have not changed should not fail: please report it"]))


def _typed(command: str) -> str:
    """A command as it runs from here, whether the environment is activated or not."""
    here = shlex.quote(os.path.relpath(sys.executable))
    return command if "VIRTUAL_ENV" in os.environ else command.replace("python", here, 1)


def _compute(parts, keys_of, store, settings):
    """Computes what all chapters need at once, so that no core waits for the last run of each; what failed, if any.

    How far it is, a bar says in a terminal, and lines elsewhere.
    """
    from .book import runner
    from .book.chapter import compute
    from .engine.world import ExecutionError

    bar = sys.stderr.isatty()
    try:
        with settings.active(), contextlib.nullcontext() if bar else runner.told(keys_of, store, click.echo):
            compute([recipe for part in parts for recipe in part.recipes], settings, bar)
    except ExecutionError as error:
        return error


def _run_published(settings) -> None:
    from .book import runner

    differences, failed = runner.run_published(runner.output_folder("published"), settings=settings, say=click.echo)
    for line in differences:
        click.echo(line, err=True)
    count = len(runner.published())
    if failed:
        raise _failed(failed, count, "make published")
    if differences:
        raise LotteryError(f"not as published: {_count(len(differences), 'number')}")
    click.echo(f"{_count(count, 'published chapter')} executed again: every number is the same")


def _count(number: int, noun: str) -> str:
    from .book import text

    return text.count(number, noun)


@cli.command(epilog="Exit status: 0 all is computed; 75 time is up; 1 a part failed; 130 or 143 stopped by a signal.")
@click.option("--budget", type=float, required=True, metavar="MINUTES", help="For everything, start-up included.")
@click.option("--export", type=PATH, required=True, metavar="FOLDER", help="For the records.")
@click.option("--files", type=click.IntRange(1), metavar="N", help="Export at most so many files (default: all).")
@click.option("--part", type=click.FloatRange(0.1), default=15, metavar="MIB", help="Size of an exported file (15).")
@click.option("--plan", type=PATH, metavar="FILE.yml", help="Chapters in order (default: ours).")
@computing
@click.pass_obj
def study(began, budget, export, files, part, plan, **how) -> int:
    """Compute what chapters need within a time budget.

    In order of value. The records are packed into study.lotx in the folder of --export or, if that would be too large,
    study-00.lotx, study-01.lotx and so on.
    """
    if not 0 < budget < float("inf"):
        raise LotteryError(f"the budget must be more than 0 minutes, not {budget:g}")
    if not 0.1 <= part <= 2**20:
        raise LotteryError(f"the size of an exported file must be from 0.1 to {2**20} MiB, not {part:g}")

    from .book import runner
    from .book import study as module
    from .engine import archive
    from .engine.store import Store

    settings, parts = _settings(**how), module.read_plan(plan)
    target = export / "study.lotx"
    if files is not None and (there := len(archive.parts(target))) > files:
        raise LotteryError(
            f"{export} holds an earlier export in {there} files, and --files {files} would leave out what is in them: "
            f"take --files {there} or more, or another folder"
        )
    for path in archive.set_aside(target):
        _tell(f"{path}: an earlier export, damaged, and set aside under this name")
    archive.check_target(target, files)
    runner.check_writable(export, settings.store)
    carried = _carried(Store(settings.store), target)

    def pack(store, keys) -> None:
        keys = list(dict.fromkeys([*keys, *_carried(store, target)]))  # another study may have exported meanwhile
        packed = 0
        for path in store.export(keys, target, files, int(part * 2**20)):
            packed += len(archive.keys(path))
            _tell(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
        if packed < len(keys):
            left, room = _count(len(keys) - packed, "record"), _count(files or 0, "file")
            _tell(f"{left} of {len(keys)}, the last of the plan, left out: there is no room in {room}")

    if carried:
        _tell(f"{_count(len(carried), 'record')} from {export}")
    return module.run(parts, budget, settings, pack, _tell, began, carried)


def _tell(line: str) -> None:
    """Writes a line, and goes on where nobody reads it any more: `study | head`, a terminal that is gone."""
    try:
        click.echo(line)
        sys.stdout.flush()
    except UnicodeError:
        _tell(line.encode("ascii", "backslashreplace").decode())
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # to the end


def _carried(store, target: Path) -> list[str]:
    """Takes in what an earlier call has exported, as far as it is whole: one that was killed leaves some parts."""
    from .engine import archive
    from .engine.disk import StoreError

    try:
        store.import_(parts := archive.parts(target))
    except StoreError as error:
        for line in str(error).splitlines():
            _tell(f"of the earlier export: {line}")
    return [key for path in parts for key in archive.keys(path) if key in store]


@cli.command("list")
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
def list_claims(chapters) -> None:
    """List chapters, their claims and what came out."""
    from .book import planning

    names = [planning.named(one) for one in chapters] or planning.names()

    from .book import claims

    rules = claims.load()
    click.echo(f"  {'claim':7} {'outcome, scale':24} title")
    for name in names:
        click.echo(f"{name}:")
        verdicts = _published(name).get("verdicts", {})
        for rule in (rule for rule in rules.values() if rule.chapter == name):
            said = verdicts.get(rule.id)
            outcome = "not published"
            if isinstance(said, dict):
                earlier = ["by an earlier rule"] if said.get("rule") != rule.hash else []
                outcome = ", ".join(dict.fromkeys((said["label"], said["scale"], *earlier)))
            click.echo(f"  {rule.id:7} {outcome:24} {rule.title}")
    click.echo("\n" + LEGEND)


LEGEND = """\
outcome: agrees, agrees in part, disagrees or open, by a written rule; of claims that we had to reconstruct it is
  "reconstructed" instead of "agrees", of questions of our own "supported"
scale: the paper's; reduced, less of something; or a stand-in, which tests nothing"""


def _published(chapter: str) -> dict:
    """What a published chapter says of itself; nothing of one that is not published."""
    from .book import planning

    path = planning.published().get(chapter)
    return planning.read(path).metadata.get("lottery", {}) if path else {}


@cli.command("parameters")
@click.argument("chapters", nargs=-1, metavar="[CHAPTER]...")
def show_parameters(chapters) -> None:
    """List what chapters can be given."""
    from .book import planning

    failed = []
    for name in [planning.named(one) for one in chapters] or planning.names():
        try:
            known = planning.declared(name)
        except planning.ChapterError as error:
            failed.append(str(error))
            continue
        click.echo(f"{name}:")
        for parameter in known.values():
            click.echo(f"  {parameter}")
    if failed:
        raise LotteryError("\n".join(failed))


@cli.command()
@click.option("--profile", help="Show the chapters executed at this profile instead of the published ones.")
@click.option("--offline", is_flag=True, help="Pages that ask no other host for anything (needs npm).")
@click.option("--pdf", is_flag=True, help="Print the offline pages as one PDF, too (needs npm and Chromium).")
def book(profile, offline, pdf) -> None:
    """Build the pages."""
    from .book import planning

    if profile is not None:
        planning.check_profile(profile)  # before imports that take seconds

    from .book import build

    click.echo("building the pages")
    index = build.build(planning.book(), profile=profile)
    if offline or pdf:
        index = build.for_offline(planning.book(), index)
    click.echo(f"open {os.path.relpath(index)}")
    if pdf:
        click.echo(f"printed {os.path.relpath(build.print_pdf(planning.book(), index))}")


@cli.command()
def verify() -> None:
    """Check the gates that published chapters must pass."""
    from .book import gates

    problems = gates.verify()
    for line in problems:
        click.echo(line, err=True)
    if problems:
        raise LotteryError(f"{_count(len(problems), 'problem')}: not all gates are passed")
    click.echo("all gates are passed")


@cli.command()
@click.argument("claim")
def power(claim) -> None:
    """Say how many replicates an open claim needs.

    So many decide what is open of a published claim in four of five studies, if means and spread stay as they are.
    Prints the command that computes them, too.
    """
    from .book import entries, parameters

    known = entries.table(entries.CLAIMS)["claims"]
    if claim not in known:
        near = parameters.meant(claim, known) or ": `python -m lottery list` names them"
        raise LotteryError(f"no claim {claim[:60]!r}{near}")

    from .book import claims
    from .book.power import power

    rule = claims.load()[claim]
    made = _published(rule.chapter)
    said = made.get("verdicts", {}).get(claim)
    if not isinstance(said, dict) or said.get("rule") != rule.hash:
        raise LotteryError(
            f"{claim} has no published verdict by its present rule: publish {rule.chapter or 'it'} again"
        )
    found = power(rule, made)
    for line in found.checks:
        click.echo(line)
    if not found.checks:
        click.echo(f"{claim}: no check is open")
    elif found.part is not None:
        named = " and ".join(f"“{says}”" for says in found.decided)
        decided = "what is open" if len(found.decided) == len(found.checks) else named
        click.echo(f"This would decide {decided}; it takes the data sets, and a GPU or hours:")
        click.echo(found.part.command)


@cli.group()
def store() -> None:
    """Look into and look after a store of results."""


def _open(folder: Path | None):
    from .engine import settings
    from .engine.store import Store

    return Store(folder or settings.default_store(), existing=True)


@store.command("ls")
@STORE
def list_records(store) -> None:
    """List the records, one a line."""
    opened, count = _open(store), 0
    click.echo(f"{'key':12}  {'recipe':9}  {'weights':13}  training, and what else there is")
    for key in opened.keys():
        if (record := opened.read(key)) is None:
            continue
        count += 1
        accuracy, density = (record.values.get(name) for name in ("test_accuracy_end", "density"))
        training = record.recipe.get("training")  # a recipe of the user's may call otherwise so
        told = (
            [str(training[name]) for name in ("data", "model", "steps") if name in training]
            if isinstance(training, dict)
            else []
        )
        what = f"{' '.join(told)} steps" if len(told) == 3 else ""
        left = f"{100 * density:6.2f} % left" if isinstance(density, int | float) else ""
        reached = f"  test accuracy {accuracy:.4f}" if isinstance(accuracy, int | float) else ""
        dense = f"  dense weights at {sorted(opened.states(key))}" if opened.states(key) else ""
        click.echo(f"{key[:12]}  {record.recipe.get('type', '?')!s:9}  {left:13}  {what}{reached}{dense}")
    click.echo(f"{_count(count, 'record')} in {opened.root}")


@store.command()
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@STORE
def show(keys, store) -> None:
    """Print records; the first digits of a key are enough."""
    opened = _open(store)
    for key in _find(opened, keys):
        record = opened.read(key)
        if record is None:
            raise LotteryError(f"record {key[:12]} was damaged and is set aside: the next run computes it again")
        arrays = {name: list(array.shape) for name, array in record.arrays.items()}
        shown = {"key": key, "recipe": record.recipe, "values": record.values, "made": record.made, "arrays": arrays}
        click.echo(json.dumps(shown, indent=1))


@store.command("verify")
@STORE
def verify_store(store) -> None:
    """Check every checksum; what is damaged is set aside. Says also what has been computed by other code."""
    from .engine.rebuild import changed_code

    opened = _open(store)
    found = opened.verify()
    click.echo("\n".join(found) if found else f"{_count(len(opened.keys()), 'record')}, sound")
    if changed := changed_code(opened):
        kinds = Counter(record.recipe["type"] for record in changed)
        said = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        click.echo(
            f"computed by code that has changed since: {said}; their keys stand for the same recipes, and "
            "`store rebuild --sample N` says whether the same numbers come out"
        )
    if lost := sorted(opened.lost()):
        rest = "\n".join(line for line in opened.gaps() if line[:12] in {key[:12] for key in lost})
        click.echo(f"set aside and not computed again yet: {', '.join(key[:12] for key in lost)}\n{rest}".rstrip())
    if found or lost:
        raise LotteryError("damaged records were set aside; the next run computes them again")


@store.command()
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--sample", type=click.IntRange(1), default=3, help="How many, drawn at random (default: 3).")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of the draw.")
@click.option("--device", default="cpu", help="cpu (default) or cuda.")
@STORE
def rebuild(keys, sample, seed, device, store) -> None:
    """Compute some records anew and compare bit for bit.

    They are computed beside the store. Exit status 1 where they differ or fail.
    """
    from .engine import rebuild as again

    opened = _open(store)
    among = _asked(opened, keys)
    differ = fail = 0
    for one in again.rebuild(opened, len(among) if keys else sample, seed, keys=among, device=device):
        differ, fail = differ + bool(one.differs), fail + bool(one.failed)
        where = f"made with torch {one.made.get('torch', '?')} on {one.made.get('device', '?')}"
        said = one.failed or (f"differs in {', '.join(one.differs)}; {where}" if one.differs else "the same")
        click.echo(f"{one.key[:12]}  {one.type}: {said}")
    problems = [f"{fail} could not be computed, and say nothing of the code"] if fail else []
    if differ:
        problems.append(
            f"{differ} did not come out the same: another kind of processor or version of torch rounds otherwise; "
            "if these are the same, the code or the store is at fault"
        )
    if problems:
        raise LotteryError("; ".join(problems))


@store.command()
@click.option("--dry-run", is_flag=True, help="Only say how much.")
@STORE
def gc(dry_run, store) -> None:
    """Drop dense weights, and files that nobody needs any more.

    These are checkpoints of finished runs, and files of commands that were killed.
    """
    click.echo(f"{_open(store).gc(dry_run=dry_run) / 1e6:,.1f} MB {'would be ' * dry_run}freed")


@store.command()
@click.argument("file", type=PATH, metavar="FILE.lotx")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@STORE
def export(file, keys, store) -> None:
    """Pack records, by default all, without dense weights."""
    opened = _open(store)
    for path in opened.export(_asked(opened, keys), file):
        click.echo(f"{path}: {path.stat().st_size / 1e6:,.2f} MB")


@store.command("import")
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE.lotx...")
@STORE
def import_(files, store) -> None:
    """Take in exported records."""
    from .engine import settings
    from .engine.store import Store

    click.echo(_count(len(Store(store or settings.default_store()).import_(files)), "new record"))


def _asked(store, prefixes) -> list[str]:
    """The keys that are named, by default all, of which there must be one."""
    if found := _find(store, prefixes) if prefixes else store.keys():
        return found
    raise LotteryError(f"the store {store.root} has no records")


def _find(store, prefixes) -> list[str]:
    found = []
    for prefix in prefixes:
        fitting = [key for key in store.keys() if key.startswith(prefix)]
        if len(fitting) != 1:
            raise LotteryError(f"{prefix!r} begins the keys of {_count(len(fitting), 'record')}, not of one")
        found += fitting
    return found


def main(arguments: list[str] | None = None, began: float | None = None) -> int:
    """Runs a command; errors that the user can mend are one message and exit status 1.

    Args:
        arguments: by default those of the process.
        began: `time.monotonic()` at the start of the process, from which budgets count.

    Returns:
        The exit status; 128 and the number of the signal, if one stopped the command.
    """
    from .engine.stopping import Stopped

    os.environ["MPLBACKEND"] = "agg"  # no window is opened here; notebooks' kernels set their own
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w", encoding="utf-8") for stream in (sys.stdout, sys.stderr))
    try:
        _refuse_equals(sys.argv[1:] if arguments is None else arguments)
        return cli.main(arguments, prog_name="python -m lottery", standalone_mode=False, obj=began) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Stopped as error:
        click.echo(f"{error}; the same command goes on from there", err=True)
        return error.status
    except LotteryError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: finished runs are in the store; the same command goes on from there", err=True)
        return 130


def _refuse_equals(arguments: list[str]) -> None:
    """Refuses `-p levels=5`, of which click would take the next word for the value."""
    for option, given in itertools.pairwise(arguments):
        name, equals, value = given.partition("=")
        if option == "-p" and equals and name.isidentifier():
            raise LotteryError(f"a parameter is set with two words: -p {name} {value or 'VALUE'}, not -p {given}")


def _process_began() -> float:
    """When this process was started, by `time.monotonic()`: imports count, too."""
    with contextlib.suppress(OSError, AttributeError, ValueError, IndexError):
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # proc(5): starttime
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.monotonic() - age
    return time.monotonic() - time.process_time()


def _warned(message, category, *_, **__) -> str:
    """A warning in one line, without the line of code that gives it."""
    return f"{category.__name__}: {message}\n"


if __name__ == "__main__":
    warnings.formatwarning = _warned
    sys.exit(main(began=_process_began()))
