"""Which network and which code a result was computed with.

A network of the user's is known by a name, and a name can be given twice. Its fingerprint says what it is: layers and
tensors, what comes out of it on a few examples under fixed weights, the settings that its layers hold, its source, and
the functions, classes and constants that this names. Numbers are compared up to rounding, since machines round
otherwise; texts are compared as they are.
"""

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from .. import LotteryError, models, seeds
from ..data import Dataset
from ..recipes import Recipe, Scaling, Training, closure, defined, inside
from . import sources
from .disk import FOLDER
from .precision import undisturbed
from .sources import bare, normal
from .store import Store
from .world import ExecutionError, dataset_of

EXAMPLES, NUMBERS = 4, 8  # of the data that a network is probed with, and of each output that are kept
MORE = 64  # examples, for networks that fail on so few or under drawn weights
FEW = 3  # numbers of each tensor that are kept
GOLDEN = (5**0.5 - 1) / 2  # multiples of which fill an interval evenly
TOLERANCE = 1e-3  # relative; what the same network computes on other machines differs by far less
NOISE = 1e-6  # what is smaller in a tensor may be rounding alone, as the mean of what was centred before

# Networks.


def network(training: Training) -> dict:
    """The fingerprint of the network of a training: short texts and some numbers that survive JSON.

    Raises:
        ExecutionError: if the network cannot be built and evaluated, or another one comes out each time.
    """
    factory = models.registered().get(training.model)
    return _network(training.model, factory, training.data, training.validation, training.scaling)


@functools.lru_cache(maxsize=64)
@undisturbed()
def _network(name: str, factory, data: str, validation: int, scaling: Scaling) -> dict:
    dataset = dataset_of(Training(data, name, 1, 1, "sgd", 1.0, validation=validation, scaling=scaling))
    few, many = dataset.validation[0][:EXAMPLES].cpu(), dataset.train[0][:MORE].cpu()
    try:
        if len(few) == 1 and any(
            isinstance(layer, tuple(models.BY_DIMENSION))
            for layer in models.build(name, dataset.shape, dataset.classes).modules()
        ):
            few = many[:EXAMPLES]  # batch normalisation does not train on one
        try:
            found, again = _twice(name, factory, dataset, few)
            if not any(found["probe"][1:]):
                raise FloatingPointError("outputs that are no numbers, or none but zero, say nothing")
        except Exception:  # covariances, orders, scales: what not every number can stand for
            found, again = _twice(name, factory, dataset, many, drawn=False)
    except LotteryError:
        raise
    except Exception as error:
        raise ExecutionError(
            f"the network {name} fails on {len(many)} examples of {data}: {type(error).__name__}: {error}"
        ) from error
    if not _alike(found.get("buffers", []), again.get("buffers", []), True):
        del found["buffers"]  # what was never filled, say: of use to nobody, and to be compared with nothing
    if difference(found, again):
        raise ExecutionError(
            f"the network {name} comes out otherwise each time: it must draw with torch's default generator alone "
            "(torch.rand, torch.nn.init), or no run of it could be repeated"
        )
    return found


def _twice(name: str, factory, dataset: Dataset, x: torch.Tensor, drawn: bool = True) -> tuple[dict, dict]:
    """The fingerprints of a network that is built twice; the first one's settings are those that no pass changes."""
    with _Factorised() as factorised:
        one = models.build(name, dataset.shape, dataset.classes)
    fresh, before = _settings(one), _behind(one, factory)
    other = models.build(name, dataset.shape, dataset.classes)
    found, again = (_described(module) | _probed(module, x, factory is not None, drawn) for module in (one, other))
    if not factorised.seen:
        found["signed"] = again["signed"] = True
    used, after = _settings(other), _behind(other, factory)
    if settings := {key: _short(_said(held)) for key, held in fresh.items() if repr(held) == repr(used.get(key))}:
        found["settings"] = settings  # but for what building a network or a pass changes: counters, notes
    if behind := {key: text for key, text in before.items() if text == after.get(key)}:
        found["behind"] = behind
    if source := _source(one, factory):
        found["source"] = source
    return found, again


def _described(module: nn.Module) -> dict:
    tensors = models.tensors(module).items()
    table = [f"{name} {tensor.dtype} {list(tensor.shape)} {tensor.requires_grad}" for name, tensor in tensors]
    layers = re.sub(r" at 0x[0-9a-f]+", "", repr(module))  # functions are shown with their address
    return {"layers": _short(layers), "tensors": _short("\n".join(table))}


def _probed(module: nn.Module, x: torch.Tensor, own: bool, drawn: bool) -> dict:
    """The numbers of a fingerprint; of the user's own networks, initial weights and buffers after a step, too."""
    initial = [_few(parameter) for parameter in module.parameters()] if own else []
    found: dict[str, list] = {"probe": _probe(module, x, drawn)}
    return found | ({"initial": initial, "buffers": [_few(buffer) for buffer in module.buffers()]} if own else {})


class _Factorised(TorchDispatchMode):
    """Notes whether singular vectors and the like are computed, whose signs are any machine's own."""

    def __init__(self):
        super().__init__()
        self.seen = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen = self.seen or re.search("linalg|svd|qr|eig", str(func)) is not None
        return func(*args, **(kwargs or {}))


def _few(tensor: torch.Tensor) -> list[float]:
    """The first numbers of a tensor, and mean sizes of all: alike, and by their places, which tells other orders; and
    so with signs."""
    real = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
    numbers = real.to_dense().double().flatten()
    places = torch.arange(len(numbers), dtype=torch.float64, device=numbers.device) * GOLDEN % 1
    sums = (numbers.abs().sum(), (numbers.abs() * places).sum(), (numbers * places).sum())
    return _rounded([*numbers[:FEW], *(one / max(1, len(numbers)) for one in sums)])


def _rounded(numbers: Iterable) -> list[float]:
    return [float(f"{value:.6g}") if np.isfinite(value := float(number)) else 0.0 for number in numbers]


def _probe(module: nn.Module, x: torch.Tensor, drawn: bool) -> list[float]:
    """Size of the initial weights; outputs in evaluation and in training, and size of the gradient, under weights that
    are drawn here, or as they are, but for zeros."""
    numbers = [sum(parameter.detach().double().abs().sum() for parameter in module.parameters())]
    with seeds.apart(), torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            stream = np.random.Generator(np.random.PCG64(int(_short(name), 16)))
            fan_in = max(1, parameter[:1].numel()) if parameter.ndim else 1
            draw = stream.standard_normal(tuple(parameter.shape), dtype=np.float32) / np.sqrt(fan_in)
            draw = torch.from_numpy(np.asarray(draw, dtype=np.float32))
            if drawn:
                parameter.copy_(draw)
            elif parameter.requires_grad and parameter.is_floating_point() and not parameter.any():
                parameter.add_(0.01 * draw.abs().to(parameter))  # a layer that starts at zero hides what is before it
        for training in (False, True):
            torch.manual_seed(0)
            module.train(training)
            with torch.enable_grad():
                output = module(x.clone())
            numbers += [*output.detach().flatten()[:NUMBERS].double(), output.detach().double().abs().sum()]
        with torch.enable_grad():
            output.float().square().mean().backward()
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        numbers.append(sum(gradient.double().abs().sum() for gradient in gradients))
    return _rounded(numbers)


def _settings(module: nn.Module) -> dict[str, list]:
    """What decides and may not show on a few examples: numbers, texts and truth values that the user's own layers hold,
    that stand in their classes, or that functions of these read from outside; by name, in the order of layers."""
    usual, found, kinds = vars(nn.Module()), {}, {}
    for layer in module.modules():
        if theirs := [kind for kind in type(layer).__mro__ if _theirs(kind)]:
            kinds |= dict.fromkeys(theirs)
            for key, value in vars(layer).items():
                if key not in usual:
                    found.setdefault(f"{type(layer).__name__}.{key}", []).append(_called(value))
    for kind in kinds:
        outside = [(key, value) for key, value, _ in sources.read_outside(kind)]
        for key, value in [*vars(kind).items(), *outside]:
            if not key.startswith("__"):
                found.setdefault(f"{kind.__name__}.{key}", []).append(value)
    return {key: values for key, values in found.items() if _setting(values)}


def _called(value, depth: int = 3):
    """A function that a layer holds, in what tells it from others: name, code, what it is given and what it encloses;
    other values as they are."""
    if isinstance(value, functools.partial):
        given = [*value.args, *(f"{key}=" for key in value.keywords), *value.keywords.values()]
        return ["partial", _called(value.func, depth), *(_enclosed(one, depth) for one in given)]
    if not isinstance(value, types.FunctionType | types.BuiltinFunctionType):
        return value
    if not _theirs(value) or isinstance(value, types.BuiltinFunctionType):
        return [f"{value.__module__}.{value.__qualname__}"]
    try:
        code = _short(_text(value))
    except (OSError, TypeError, SyntaxError):
        return value  # of which nothing can be said, as in a worker process
    if value.__name__ == "<lambda>":  # a statement may have several
        inside = value.__code__
        code = [code, *inside.co_names, *(one for one in inside.co_consts if isinstance(one, float | str))]
    cells = [cell.cell_contents for cell in value.__closure__ or () if cell != types.CellType()]
    return [value.__qualname__, code, *(_enclosed(one, depth) for one in cells)]


def _enclosed(value, depth: int):
    """What a function encloses or is given, if it is plain or another function; else its class alone."""
    value = _called(value, depth - 1) if depth else value
    return value if _setting(value) or isinstance(value, types.FunctionType) else type(value).__name__


def _setting(value) -> bool:
    """Whether a value is plain, or holds such alone; texts that name a device or a file are of one machine alone."""
    value = _opened(value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str | int) and _setting(one) for key, one in value.items())
    if isinstance(value, tuple | list):
        return all(map(_setting, value))
    if isinstance(value, str):
        return re.match(r"(cpu|cuda|mps)\b|.*[/\\]", value, re.DOTALL) is None
    return value is None or isinstance(value, int | float | np.bool_ | np.number)


def _opened(value):
    """What a namespace or a dataclass holds, by name; other values as they are."""
    held = isinstance(value, types.SimpleNamespace) or (dataclasses.is_dataclass(value) and not isinstance(value, type))
    return vars(value) if held and hasattr(value, "__dict__") else value


def _said(value) -> str:
    """A setting as a text that is the same on all machines."""
    value = _opened(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {_said(one)}' for key, one in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_said, value))}]"
    value = value.item() if isinstance(value, np.generic) else value
    return f"{value:.6g}" if isinstance(value, float) else repr(value)


def _theirs(thing) -> bool:
    """Whether a class or function is the user's own."""
    return (getattr(thing, "__module__", "") or "").split(".")[0] not in ("torch", "lottery", "builtins", "typing")


def _kinds(module: nn.Module, factory) -> set:
    """The classes of a network's layers and the function that makes it, as far as they are the user's own."""
    while isinstance(factory, functools.partial):
        factory = factory.func
    made = {factory} if factory is not None else set()
    return {kind for kind in {type(layer) for layer in module.modules()} | made if _theirs(kind)}


def _source(module: nn.Module, factory) -> str | None:
    """A hash of the source of the user's own layers and factory; None if any has none."""
    try:
        texts = sorted(map(_text, _kinds(module, factory)))
    except (OSError, TypeError, SyntaxError):
        return None
    return _short("\n".join(texts)) if texts else None


def _behind(module: nn.Module, factory) -> dict[str, str]:
    """Hashes of the functions, classes and constants that the user's own layers and factory name, by name.

    What the closure of the factory holds is left out: it shows in the network, or in the settings of its layers.
    """
    parts: dict[str, set[str]] = {}
    for kind in _kinds(module, factory):
        if not (isinstance(kind, type | types.FunctionType) and sources.theirs(kind.__module__)):
            continue  # an installed package's: it names more of that than can be read
        left_out = {kind.__qualname__, *(() if isinstance(kind, type) else kind.__code__.co_freevars)}
        for name, text in sources.behind_now(kind).items():
            if name not in left_out and (said := _telling(text)):
                parts.setdefault(name, set()).add(said)
    return {name: _short("\n".join(sorted(texts))) for name, texts in sorted(parts.items())}


def _telling(text: str) -> str | None:
    """A source as it is, a value up to rounding; None for one that is of this machine alone."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return _said(value) if _setting(value) else None


def _text(kind) -> str:
    """The source of a class or function; of a lambda without the statement that it stands in."""
    source = inspect.getsource(kind)
    if kind.__name__ != "<lambda>":
        return normal(source)
    return "\n".join(
        ast.dump(node) for node in ast.walk(ast.parse(textwrap.dedent(source))) if isinstance(node, ast.Lambda)
    )


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _close(one: list[float], other: list[float]) -> bool:
    if len(one) != len(other):
        return False
    a, b = np.array(one), np.array(other)
    if not (a[1:].any() and b[1:].any()):  # of an earlier version, which probed with nothing else
        return np.allclose(a[0], b[0], TOLERANCE)
    outputs = np.allclose(a[1:-1], b[1:-1], TOLERANCE, TOLERANCE * np.abs(a[1:-1]).max(initial=0.0))
    return outputs and np.allclose(a[[0, -1]], b[[0, -1]], TOLERANCE)


def _alike(one: list[list[float]], other: list[list[float]], signed: bool) -> bool:
    """Whether tensors begin alike, up to rounding beside the largest number of each, as far as both are told; without
    signs alike in size, for those of singular vectors are any machine's own."""

    def near(a: list[float], b: list[float]) -> bool:
        told = min(len(a), len(b)) - (not signed and len(a) == len(b))  # the last is a sum with signs
        one, other = (np.array(numbers[:told]) for numbers in (a, b))
        one, other = (one, other) if signed else (np.abs(one), np.abs(other))
        return np.allclose(one, other, TOLERANCE, NOISE + TOLERANCE * max(map(abs, a)))

    return len(one) == len(other) and all(map(near, one, other))


def difference(one: dict, other: dict) -> str | None:
    """What tells two networks apart, in words; None if they are the same as far as both fingerprints say."""
    for part, words in (("layers", "other layers"), ("tensors", "other parameters or buffers")):
        if part in one and part in other and one[part] != other[part]:
            return words
    if "probe" in one and "probe" in other and not _close(one["probe"], other["probe"]):
        return "other outputs, initial weights or gradients on the same examples"
    for part, words in (("initial", "other initial weights"), ("buffers", "other buffers after a step of training")):
        if part in one and part in other and not _alike(one[part], other[part], "signed" in one and "signed" in other):
            return words
    for part, words in (("settings", "another value of "), ("behind", "another code or value of ")):
        known, now = (found.get(part, {}) for found in (one, other))
        if changed := [key for key in known if now.get(key, known[key]) != known[key]]:
            return words + changed[0]
    if "source" in one and "source" in other and one["source"] != other["source"]:
        return "another source"
    return None


def same_network(training: Training, known: dict | None, what: str) -> None:
    """Refuses to go on with a result of another network of the same name.

    Args:
        training: of which network.
        known: the fingerprint that came with the result; older results have none and pass.
        what: the result, in words.

    Raises:
        ExecutionError: saying what tells the networks apart and what to do.
    """
    if known and (why := difference(known, network(training))):
        raise ExecutionError(
            f"{what} was computed with another network that had the name {training.model!r} ({why}): register the "
            f"present one under a name of its own, or compute in another store {FOLDER}"
        )


Given = Sequence[tuple[Training, dict]]
"""Networks of the user's, each by a training of it, with its fingerprint where the study is coordinated."""


def given(recipes: Iterable[Recipe]) -> Given:
    """The networks of the user's that recipes are computed with."""
    own, found = models.registered(), {}
    for part in inside(recipes) if own else ():
        if isinstance(part, Training) and part.model in own:
            found[part.model, part.data, part.validation, part.scaling] = part
    return [(training, network(training)) for training in found.values()]


def same_as_given(networks: Given) -> None:
    """Refuses to compute where another network is built than where the study is coordinated.

    Raises:
        ExecutionError: saying what tells them apart and what to do.
    """
    for training, known in networks:
        if why := difference(known, network(training)):
            raise ExecutionError(
                f"a worker process builds another network {training.model!r} than the script did ({why}), and nothing "
                f"was computed with it: its factory reads what the script has changed, such as a constant of a module, "
                f"and workers import modules anew. Register functools.partial(factory, …) with that value, or use "
                f"executor 'inline'"
            )


def check_networks(recipes: Iterable[Recipe], store: Store) -> None:
    """Refuses recipes some of whose records, or records they rest on, are of other networks of the same names, or were
    computed by recipe classes of the user's whose code has changed since.

    Networks of the papers are left to `changed_code`, so that a book is read without its data.

    Raises:
        ExecutionError: naming the network or class and what to do.
    """
    if (classes := _own_classes()) or models.registered():
        for recipe in closure(recipes):
            check_record(recipe, store, classes)


def check_record(recipe: Recipe, store: Store, classes: dict[str, type[Recipe]] | None = None) -> None:
    """Refuses the record of one recipe as `check_networks` those of all; there may be none.

    Args:
        recipe, store: of the record.
        classes: the user's own, by name, where they are known already.

    Raises:
        ExecutionError: naming the network or class and what to do.
    """
    training, classes = getattr(recipe, "training", None), _own_classes() if classes is None else classes
    training = training if isinstance(training, Training) and training.model in models.registered() else None
    own = classes and _own(recipe.json(), classes)
    if not (training or own) or (record := store.read(recipe.key)) is None:
        return
    what = f"the {type(recipe).__name__.lower()} {recipe.key[:12]} in {store.root}"
    if training:
        same_network(training, record.made.get("network"), what)
    if own and (changed := changed_own(record.recipe, record.made, classes)):
        raise ExecutionError(
            f"{what} was computed with other code of a recipe class of yours ({', '.join(changed)}): raise its "
            f"`version` where results have changed, or compute in another store {FOLDER}"
        )


# Code.


def code(recipe: dict) -> str:
    """A hash of the code that computes a recipe: its classes' modules and, of runs, the engine that trains, with all
    modules of this package that they import; without comments, docstrings and layout.

    Args:
        recipe: its canonical JSON.

    Raises:
        ExecutionError: if one of its classes is not known here.
    """
    return _code(frozenset(_types(recipe)))


def own_code(recipe: dict, classes: dict[str, type[Recipe]] | None = None) -> str | None:
    """A hash of the code of the user's own classes in a recipe; None if it has none, or one whose source is not known.

    Args:
        recipe: its canonical JSON.
        classes: the user's own, by name, where they are known already.
    """
    texts = {name: _own_source(kind) for name, kind in _own(recipe, classes).items()}
    if not texts or None in texts.values():
        return None
    return _short("\n".join(f"{name} {text}" for name, text in texts.items()))


def own_parts(recipe: dict, classes: dict[str, type[Recipe]] | None = None) -> dict[str, str]:
    """Hashes of the code that the user's own classes in a recipe compute with, by the names of its parts.

    Args:
        recipe, classes: as of `own_code`.
    """
    parts: dict[str, set[str]] = {}
    for kind in _own(recipe, classes).values():
        for part, text in sources.behind(kind).items():
            parts.setdefault(part, set()).add(text)
    return {part: _short("\n".join(sorted(texts))) for part, texts in sorted(parts.items())}


def changed_own(recipe: dict, made: dict, classes: dict[str, type[Recipe]] | None = None) -> list[str]:
    """The names of what has changed in the code of the user's own classes since a record was made.

    Of records that say less, the first with the bodies of the classes alone, as much is compared as they say.

    Args:
        recipe, made: of the record.
        classes: as of `own_code`.
    """
    if (known := made.get("own_parts")) is not None:
        parts = own_parts(recipe, classes)
        return [name for name in parts if known.get(name, parts[name]) != parts[name]]
    if "own" in made and (code := own_code(recipe, classes)) and code != made["own"]:
        return list(_own(recipe, classes))
    return []


def _own(recipe: dict, classes: dict[str, type[Recipe]] | None) -> dict[str, type[Recipe]]:
    """The user's own classes in a recipe, by name, sorted; the arguments are as of `own_code`."""
    known = _own_classes() if classes is None else classes
    return {name: known[name] for name in sorted(known.keys() & set(_types(recipe)))}


@functools.cache
def _own_source(kind: type) -> str | None:
    """The source of a class of the user's, as all versions of Python write it; of its functions where it is from a
    notebook; None where there is none."""
    try:
        texts = [inspect.getsource(kind)]
    except (OSError, TypeError):
        try:
            texts = [inspect.getsource(part) for part in vars(kind).values() if inspect.isfunction(part)]
        except (OSError, TypeError):
            return None
    try:
        return "\n".join(ast.unparse(bare(one)) for one in texts) or None
    except SyntaxError:
        return None


def _own_classes() -> dict[str, type[Recipe]]:
    """The recipe classes that are defined outside this package, by name; all of this package's have other names.

    Raises:
        RecipeError: if one has not, and could be taken for a class of a module that was not imported yet.
    """
    package = __name__.split(".")[0]
    own = {name: kind for name, kind in _classes().items() if kind.__module__.split(".")[0] != package}
    if own:
        known_recipes()
    return own


def _types(value) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        yield from (name for part in value.values() for name in _types(part))
    elif isinstance(value, list | tuple):
        yield from (name for part in value for name in _types(part))


@functools.cache
def _code(names: frozenset[str]) -> str:
    return _short("\n".join(f"{name} {text}" for name, text in sorted(_texts(names).items())))


def modules(recipe: dict) -> set[str]:
    """The modules of this package whose code computes a recipe, and classes of the user's."""
    return set(_texts(frozenset(_types(recipe))))


def forget() -> None:
    """Drops what is remembered of code that has been read, and of networks: a factory may read what has changed."""
    _code.cache_clear()
    _network.cache_clear()
    _own_source.cache_clear()
    sources.forget()


def _texts(names: frozenset[str]) -> dict[str, str]:
    found = known_recipes()
    if missing := sorted(names - set(found)):
        raise ExecutionError(f"no recipe class {missing[0]!r} is known here: import the module that defines it")
    texts: dict[str, str] = {}
    for name in names:
        module = found[name].__module__
        if module.split(".")[0] == __name__.split(".")[0]:
            _gather(module, texts)
        else:
            texts[name] = _class_source(found[name])
    if "Run" in names:
        _gather(f"{__package__}.digest", texts)
    return texts


def _class_source(kind: type) -> str:
    try:
        return normal(inspect.getsource(kind))
    except (OSError, TypeError, SyntaxError):
        return kind.__qualname__


def known_recipes() -> dict[str, type[Recipe]]:
    """All recipe classes that are imported here, by name; those of this package's science are."""
    for path in sorted(Path(inspect.getfile(Recipe)).parent.glob("*.py")):
        if not path.stem.startswith("_"):
            importlib.import_module(f"{Recipe.__module__.rpartition('.')[0]}.{path.stem}")
    return _classes()


def _classes() -> dict[str, type[Recipe]]:
    found: dict[str, type[Recipe]] = {}
    for kind in defined():
        if "__dataclass_fields__" in vars(kind):  # not what `frozen` has refused
            found.setdefault(kind.__name__, kind)
    return found


def _gather(module: str, texts: dict[str, str]) -> None:
    """Adds the source of a module of this package, and of those that it imports."""
    if module not in texts:
        texts[module], imported = module_source(module)
        for name in imported:
            _gather(name, texts)


@functools.cache
def module_source(name: str) -> tuple[str, frozenset[str]]:
    """The source of a module of this package, normalised, and the modules of it that it imports."""
    source = Path(str(_spec(name).origin)).read_text(encoding="utf-8")
    return normal(source), frozenset(_imports(ast.parse(source), name))


def _spec(name: str) -> ModuleSpec:
    spec = importlib.util.find_spec(name)
    if spec is None:
        raise ExecutionError(f"there is no module {name} here: install the package anew")
    return spec


def _imports(tree: ast.Module, module: str) -> Iterator[str]:
    """The modules of this package that a module of it imports; packages themselves hold no code that computes."""
    package = module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1])
            base = f"{base}.{node.module}" if node.module else base
            for name in (f"{base}.{alias.name}" for alias in node.names):
                found = name if _spec(base).submodule_search_locations else base
                spec = importlib.util.find_spec(found)
                if spec is not None and not spec.submodule_search_locations:
                    yield found
