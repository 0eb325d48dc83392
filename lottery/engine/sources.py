"""The source of what a recipe class of the user's computes with.

It is that of the class and of its bases, and of the functions, classes and constants which these name, and so on, as
far as they are the user's: installed packages are left out. Of a constant it is what is assigned to it, so that its
value may come out of a file or be rounded otherwise; where assignments have no source (notebooks), it is the value, if
that is plain.
"""

import ast
import dis
import functools
import importlib.util
import inspect
import symtable
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

Place = tuple[dict, dict]  # where a name is looked up: what a closure holds, what its module holds
Use = tuple[str, type | FunctionType | None, Place]  # a name, and the class or function it stands for; None: a constant
NOT_THEIRS = {"lottery", "torch", "numpy"} | sys.stdlib_module_names


def normal(source: str) -> str:
    """Source as a text in which comments, docstrings and layout are left out."""
    return ast.dump(bare(source))


def bare(source: str) -> ast.Module:
    """The tree of a source without docstrings."""
    tree = ast.parse(textwrap.dedent(source))
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


@functools.cache
def behind(kind: type) -> dict[str, str]:
    """Name → source of all that a class computes with; what has no source is left out."""
    return behind_now(kind)


def behind_now(kind: type | FunctionType) -> dict[str, str]:
    """The same of a class or a function, read anew: values may have changed."""
    top, seen = kind.__module__.partition(".")[0], {}
    texts: dict[str, set[str]] = {}
    left: list[Use] = [(kind.__qualname__, kind, ({}, {}))]
    while left:
        name, thing, place = left.pop()
        known = (name, id(_holder(name, place))) if thing is None else id(thing)
        if known not in seen:
            seen[known] = thing, place  # kept, so that nothing else has their identity
            text, uses = _read(name, thing, place, top)
            texts.setdefault(name, set()).update([text] if text else [])
            left += uses
    return {name: "\n".join(sorted(found)) for name, found in texts.items() if found}


def forget() -> None:
    """Drops what has been read."""
    behind.cache_clear()
    _tree.cache_clear()


def _read(name: str, thing: type | FunctionType | None, place: Place, top: str) -> tuple[str | None, list[Use]]:
    """The source of a class, a function or a constant (None) of that name, and what of the user's it names."""
    uses: list[Use] = []
    if isinstance(thing, type):
        text = _source(thing) or _of_parts(thing)
        uses += [(base.__qualname__, base, ({}, {})) for base in thing.__mro__[1:] if theirs(base.__module__, top)]
        place = _place(thing)
    elif thing is not None:
        text, place = _source(thing), (_closed(thing), thing.__globals__)
    elif name in place[0]:
        return _plain(place[0][name]), []
    else:
        text, imported = _assigned(name, place[1])
        uses += [(first, None, ({}, there)) for first, there in imported if theirs(there["__name__"], top)]
        if not (text or imported):
            value = place[1].get(name)
            text = _source(value) if isinstance(value, FunctionType) else _plain(value)
    return text, uses + [use for chain in _chains(text or "") if (use := _found(chain, place, top))]


def _holder(name: str, place: Place) -> dict:
    closed, module = place
    return closed if name in closed else module


def theirs(module: str | None, top: str = "") -> bool:
    """Whether a module is the user's: of the package `top`, or neither installed nor of Python itself."""
    first = (module or "builtins").partition(".")[0]
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return first == top or not (first in NOT_THEIRS or installed)


def _functions(kind: type) -> Iterator[FunctionType]:
    """The functions that stand in the body of a class, without those that decorators have added."""
    for part in vars(kind).values():
        for inner in ("__func__", "fget", "func"):  # class methods, properties, cached ones
            part = getattr(part, inner, part)
        part = inspect.unwrap(part) if callable(part) else part
        if isinstance(part, FunctionType) and part.__globals__.get("__name__") == kind.__module__:
            yield part


def read_outside(kind: type) -> Iterator[tuple[str, Any, dict | CellType]]:
    """What functions in the body of a class read under a bare name from their module or closure: the name, the value,
    and the module's dict or the closure's cell that holds it."""
    for function in _functions(kind):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        places = {"LOAD_GLOBAL": function.__globals__, "LOAD_DEREF": dict(cells)}
        closed, left = _closed(function), [function.__code__]
        while left:
            code = left.pop()
            left += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
            for at in dis.get_instructions(code):
                if at.argval not in (place := places.get(at.opname, {})):
                    continue
                if place is function.__globals__:
                    yield at.argval, place[at.argval], place
                elif at.argval in closed:
                    yield at.argval, closed[at.argval], place[at.argval]


def _of_parts(kind: type) -> str | None:
    """What is known of a class without a source of its own, as in notebooks: its functions and plain values."""
    values = ((name, _plain(value)) for name, value in vars(kind).items() if not name.startswith("__"))
    texts = [_source(part) for part in _functions(kind)] + [f"{name} = {text}" for name, text in values if text]
    return "\n".join(filter(None, texts)) or None


def _place(kind: type) -> Place:
    closed, module = {}, vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
    for part in _functions(kind):
        closed, module = closed | _closed(part), part.__globals__
    return closed, module


def _closed(function: FunctionType) -> dict:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return found


def _source(thing: type | FunctionType) -> str | None:
    """As all versions of Python write it."""
    try:
        return ast.unparse(bare(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        return None


def _chains(text: str) -> Iterator[tuple[str, ...]]:
    """What a source names and does not define: name, or name and attributes of it."""
    tables, names = [symtable.symtable(text, "own", "exec")], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        of_all = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (of_all or s.is_global())}
    for node in ast.walk(ast.parse(text)):
        chain: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and inner.id in names:
            yield inner.id, *chain


def _found(chain: tuple[str, ...], place: Place, top: str) -> Use | None:
    """The class, function or constant that a chain of names stands for; None if it is not the user's."""
    name, *more = chain
    holder = _holder(name, place)
    while isinstance(value := holder.get(name), ModuleType):
        if not more or not theirs(value.__name__, top):
            return None
        name, *more = more
        holder, place = vars(value), ({}, vars(value))
    if name not in holder:
        return None
    inner = inspect.unwrap(value) if callable(value) else value
    if isinstance(inner, type) or (isinstance(inner, FunctionType) and inner.__name__ != "<lambda>"):
        return (inner.__qualname__, inner, ({}, {})) if theirs(inner.__module__, top) else None
    return name, None, place


@functools.cache
def _tree(file: str) -> ast.Module | None:
    try:
        return ast.parse(Path(file).read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None


def _assigned(name: str, module: dict) -> tuple[str | None, list[tuple[str, dict]]]:
    """What a module assigns to a name, as a text, and what it imports as this name: its first name, and its module."""
    tree, texts, others = _tree(module.get("__file__") or ""), [], []
    for node in _outside(tree) if tree else ():
        if isinstance(node, ast.ImportFrom):
            there = _imported(node, module)
            for alias in node.names:
                first = name if alias.name == "*" else alias.name
                if first in there and name == (alias.asname or first):
                    others.append((first, there))
        elif name in _bound(node):
            texts.append(ast.unparse(getattr(node, "iter", node)))
    return "\n".join(texts) or None, others


def _imported(node: ast.ImportFrom, module: dict) -> dict:
    """What is in the module that is imported from; {} if that is not known."""
    try:
        source = importlib.util.resolve_name("." * node.level + (node.module or ""), module.get("__package__") or "")
    except ImportError:
        return {}
    return vars(sys.modules[source]) if source in sys.modules else {}


def _outside(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module that are in no function and no class."""
    for node in ast.iter_child_nodes(tree):
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield from _outside(node)


def _bound(node: ast.AST) -> Iterator[str]:
    """The names that a node assigns to, also to a part of."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    if isinstance(node, ast.comprehension):
        return
    aims = [getattr(node, "target", None), getattr(node, "optional_vars", None), *getattr(node, "targets", [])]
    while aims:
        aim = aims.pop()
        while isinstance(aim, ast.Attribute | ast.Subscript | ast.Starred):
            aim = aim.value
        aims += aim.elts if isinstance(aim, ast.Tuple | ast.List) else []
        if isinstance(aim, ast.Name):
            yield aim.id


def _plain(value) -> str | None:
    """A number, a text or a collection of them as a text; None for all else."""
    if value is None or isinstance(value, int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, dict):
        value = [*value.items()]
    if not isinstance(value, tuple | list | set | frozenset):
        return None
    parts = [_plain(part) for part in value]
    texts = [part for part in parts if part is not None]
    return f"({', '.join(sorted(texts) if isinstance(value, set | frozenset) else texts)})" if texts == parts else None
