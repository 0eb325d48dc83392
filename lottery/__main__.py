"""The command line: `python -m lottery run | study | book | verify | store`."""

import argparse
import json
import os
import sys
from pathlib import Path

from . import LotteryError, __version__


def _run(arguments) -> None:
    from .book import chapters, runner
    from .engine.store import Store

    if arguments.published:
        differences = runner.run_published(runner.output_folder("published"))
        for line in differences:
            print(line, file=sys.stderr)
        if differences:
            raise LotteryError(f"{len(differences)} numbers differ from the published ones")
        print(f"{len(runner.published())} published chapters executed again: every number is the same")
        return
    names = runner.names() if arguments.all or arguments.chapters == ["all"] else arguments.chapters
    if not names:
        raise LotteryError(f"name a chapter, or --all, or --published; chapters: {', '.join(runner.names())}")
    if arguments.publish and arguments.profile == "quick":
        raise LotteryError("quick chapters are not published: take --profile standard or paper")
    given = dict(arguments.p)
    for name in names:  # all of them are checked before the first is executed
        declared = chapters.parameters_of(runner.source(name))
        chapters.check_parameters(declared, runner.profile_parameters(name, arguments.profile) | given)
    settings = _settings(arguments)
    root = settings["LOTTERY_STORE"]
    folder = runner.output_folder(arguments.profile, arguments.publish)
    keys: list[str] = []
    for name in names:
        place = runner.run(name, arguments.profile, given, folder=folder, settings=settings)
        print(f"{name}: {os.path.relpath(place)}")
        keys += runner.ending(runner.nbformat.read(place, as_version=4))["keys"]
        if arguments.publish:
            for path in runner.publish_records(name, Store(root)):
                print(f"{name}: {os.path.relpath(path)}")
    if arguments.export:
        for path in Store(root).export(keys, arguments.export):
            print(f"records: {os.path.relpath(path)}")


def _settings(arguments) -> dict[str, str]:
    """Where a chapter's recipes are kept, and by whom they are computed."""
    from .book import chapters

    root = Path(arguments.store or os.environ.get("LOTTERY_STORE") or chapters.ROOT / "results").absolute()
    given = {option: getattr(arguments, option) for option in ("executor", "jobs", "device", "scheduler", "stack")}
    options = {f"LOTTERY_{option.upper()}": str(value) for option, value in given.items() if value is not None}
    return {"LOTTERY_STORE": str(root), **options}


def _study(arguments) -> None:
    from .book import study

    if arguments.budget <= 0:
        raise LotteryError(f"the budget must be more than 0 minutes, not {arguments.budget:g}")
    plan = study.read_plan(arguments.plan)
    study.run(plan, arguments.budget, _settings(arguments), arguments.export, lambda line: print(line, flush=True))


def _parameters(arguments) -> None:
    from .book import chapters, runner

    for name in arguments.chapters or runner.names():
        print(f"{name}:")
        for parameter in chapters.parameters_of(runner.source(name)).values():
            print(f"  {parameter.name}: {parameter.kind.__name__} = {parameter.default!r}  # {parameter.help}")


def _book(arguments) -> None:
    from .book import build, chapters

    index = build.build(chapters.ROOT, profile=arguments.profile, offline=arguments.offline)
    print(f"open {os.path.relpath(index)}")


def _verify(arguments) -> None:
    from .book import gates

    problems = gates.verify()
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        raise LotteryError(f"{len(problems)} gates are not passed")
    print("all gates are passed")


def _store(arguments) -> None:
    from .engine.store import Store

    store = Store(arguments.store or os.environ.get("LOTTERY_STORE") or "results")
    act, rest = arguments.action, arguments.items
    if act == "ls":
        for key in store.keys():
            record = store.read(key)
            if record is None:
                continue
            accuracy = record.values.get("test_accuracy_end")
            training = record.recipe.get("training", {})
            what = f"{training['data']} {training['model']} {training['steps']} steps" if training else ""
            left = f"{100 * record.values['density']:6.2f} % left" if "density" in record.values else ""
            reached = f"  test accuracy {accuracy:.4f}" if accuracy is not None else ""
            dense = f"  dense weights at {sorted(store.states(key))}" if store.states(key) else ""
            print(f"{key[:12]}  {record.recipe['type']:8}{left}  {what}{reached}{dense}")
    elif act == "show":
        for key in _find(store, rest):
            record = store.read(key)
            shown = {
                "key": key,
                "recipe": record.recipe,
                "values": record.values,
                "made": record.made,
                "arrays": {name: list(array.shape) for name, array in record.arrays.items()},
            }
            print(json.dumps(shown, indent=1))
    elif act == "verify":
        found = store.verify()
        print("\n".join(found) if found else f"{len(store.keys())} records, all sound")
        if found:
            raise LotteryError("damaged records were set aside; the next run computes them again")
    elif act == "gc":
        print(f"{store.gc(dry_run=arguments.dry_run) / 1e6:,.1f} MB {'would be ' * arguments.dry_run}freed")
    elif act == "export":
        if not rest:
            raise LotteryError("name the file: python -m lottery store export FILE.lotx [KEY …]")
        keys = _find(store, rest[1:]) if rest[1:] else store.keys()
        for path in store.export(keys, rest[0]):
            print(f"{path}: {path.stat().st_size / 1e6:,.2f} MB")
    elif act == "import":
        if not rest:
            raise LotteryError("name the files: python -m lottery store import FILE.lotx …")
        print(f"{len(store.import_(rest))} new records")


def _find(store, prefixes) -> list[str]:
    if not prefixes:
        raise LotteryError("name a key, or its first digits (python -m lottery store ls)")
    found = []
    for prefix in prefixes:
        fitting = [key for key in store.keys() if key.startswith(prefix)]
        if len(fitting) != 1:
            raise LotteryError(f"{len(fitting)} records have a key that begins with {prefix!r}")
        found += fitting
    return found


def parser() -> argparse.ArgumentParser:
    """The command line's arguments."""
    top = argparse.ArgumentParser(prog="python -m lottery", description="Lottery tickets, reproduced.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="execute chapters with papermill")
    run.add_argument("chapters", nargs="*", metavar="CHAPTER", help="names of notebooks, without suffix")
    run.add_argument("--all", action="store_true", help="every chapter")
    again = "execute the published chapters again from their committed records and compare the numbers"
    run.add_argument("--published", action="store_true", help=again)
    run.add_argument("--profile", default="quick", help="quick (default), standard or paper")
    run.add_argument("-p", nargs=2, action="append", metavar=("NAME", "VALUE"), default=[], help="set a parameter")
    run.add_argument("--publish", action="store_true", help="put chapters and records into book/")
    run.add_argument("--export", metavar="FILE.lotx", help="also pack the records, to carry them elsewhere")
    run.set_defaults(function=_run)

    study = commands.add_parser("study", help="compute chapters' recipes in order of value within a time budget")
    study.add_argument("--budget", type=float, required=True, metavar="MINUTES", help="for everything")
    study.add_argument("--export", type=Path, required=True, metavar="FOLDER", help="for the records: 8 files at most")
    study.add_argument("--plan", type=Path, metavar="FILE.yml", help="chapters in order (default: notebooks/study.yml)")
    study.set_defaults(function=_study)

    for command in (run, study):
        command.add_argument("--store", help="folder of results (default: $LOTTERY_STORE, else results)")
        command.add_argument("--executor", help="inline, processes or dask")
        command.add_argument("--jobs", type=int, help="processes or local workers (default: one a core)")
        command.add_argument("--scheduler", metavar="ADDRESS", help="of a running Dask cluster")
        command.add_argument("--device", help="cpu (default) or cuda")
        stacked = "runs trained as one batch (default: on a GPU as many as its memory should hold, on a CPU 1)"
        command.add_argument("--stack", type=int, metavar="N", help=stacked)

    parameters = commands.add_parser("parameters", help="list what chapters can be given")
    parameters.add_argument("chapters", nargs="*", metavar="CHAPTER")
    parameters.set_defaults(function=_parameters)

    book = commands.add_parser("book", help="build the pages")
    book.add_argument("--profile", help="show the chapters executed at this profile instead of the published ones")
    book.add_argument("--offline", action="store_true", help="pages that ask no other host for anything (needs npm)")
    book.set_defaults(function=_book)

    verify = commands.add_parser("verify", help="the gates that published chapters must pass")
    verify.set_defaults(function=_verify)

    store = commands.add_parser("store", help="look into and look after a store of results")
    store.add_argument("action", choices=["ls", "show", "verify", "gc", "export", "import"])
    store.add_argument("items", nargs="*", metavar="KEY or FILE")
    store.add_argument("--store", help="folder of results (default: $LOTTERY_STORE, else results)")
    store.add_argument("--dry-run", action="store_true", help="gc: only say how much")
    store.set_defaults(function=_store)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; errors that the user can mend are one message and exit status 1."""
    parsed = parser().parse_args(arguments)
    try:
        parsed.function(parsed)
    except LotteryError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: finished runs are in the store; the same command goes on from there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
