"""What a notebook can be given: the typed lines of its parameters cell, and values in their types."""

import ast
import contextlib
import difflib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .. import LotteryError


def meant(given: str, known: Iterable[str]) -> str:
    """Words that suggest the one of the known names that is nearest to another, in any case; "" if none is near."""
    lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(given[:60].lower(), lower, 1)
    return f" (did you mean {lower[near[0]]!r}?)" if near else ""


_LENET = re.compile(r"lenet-(\d{1,6})(-\d{1,6})*")


class ParameterError(LotteryError):
    """Parameters that a chapter does not take, or that cannot be together; nothing was computed."""


class ChapterError(LotteryError):
    """A chapter that is missing, did not run to the end, or is not what it claims to be."""


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

    def __str__(self) -> str:
        return f"{self.name}: {self.kind.__name__} = {self.default!r}  # {self.help}"

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        within = (
            f" from {_figure(self.low)} to {_figure(self.high)}"
            if self.low is not None and self.high is not None
            else ""
        )
        return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[self.kind] + within

    def coerce(self, value):
        """The value in the parameter's type; texts (from a command line) are read.

        Raises:
            ParameterError: if it has another type or is out of range.
        """
        read = self._read(value)
        inside = True
        if isinstance(read, int | float) and not isinstance(read, bool):
            low, high = (-math.inf if self.low is None else self.low), (math.inf if self.high is None else self.high)
            inside = math.isfinite(read) and low <= read <= high
        if type(read) is not self.kind or not inside or (self.choices and read not in self.choices):
            raise ParameterError(f"{self.name} = {_short(value)}: must be {self.allowed}")
        return read

    def _read(self, value) -> object:
        with contextlib.suppress(ValueError, OverflowError):  # then it is refused as it is
            if isinstance(value, str) and self.kind is bool:
                return {"true": True, "false": False}.get(value.strip().lower(), value)
            if isinstance(value, str) and self.kind is not str:
                return self.kind(value.strip())
            if type(value) is int and self.kind is float:
                return float(value)
            if type(value) is int and abs(value) > 2**63:  # no machine's number
                return None
        return value


def _figure(number: float) -> str:
    """A bound as it can be given: a million in full, a millionth as a power."""
    return f"{number:.0f}" if abs(number) < 1e15 and number == int(number) else f"{number:g}"


def _short(value) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number too large"
    return text if len(text) <= 60 else f"{text[:57]}…"


_RANGE = re.compile(r"\[\s*([-+.\deE]+)\s*,\s*([-+.\deE]+)\s*\]\s*$")
_CHOICE = re.compile(r"\{([^}]*)\}\s*$")
_KINDS = {"int": int, "float": float, "bool": bool, "str": str}


def read_parameters(source: str) -> dict[str, Parameter]:
    """The parameters that a parameters cell declares.

    Raises:
        ChapterError: if a line is anything but `name: type = default  # help`, or a default is not allowed.
    """
    found, lines = {}, source.splitlines()
    for node in ast.parse(source).body:
        line = lines[(node.end_lineno or node.lineno) - 1]
        comment = line.partition("#")[2].strip()
        if not isinstance(node, ast.AnnAssign) or node.value is None or not comment:
            raise ChapterError(f"not a parameter in the form `name: type = default  # help`: {line}")
        kind = _KINDS.get(ast.unparse(node.annotation))
        if kind is None:
            raise ChapterError(f"a parameter is of type {', '.join(_KINDS)}: {line}")
        name, default = ast.unparse(node.target), ast.literal_eval(node.value)
        limits, choices = _RANGE.search(comment), _CHOICE.search(comment)
        low, high = map(float, limits.groups()) if limits else (None, None)
        options = tuple(part.strip() for part in choices.group(1).split(",")) if choices else ()
        found[name] = Parameter(name, kind, default, comment, low, high, options)
        try:
            found[name].coerce(default)
        except ParameterError as error:
            raise ChapterError(f"a default that is not allowed: {error}") from None
    return found


def check_parameters(declared: Mapping[str, Parameter], given: Mapping[str, object]) -> dict[str, object]:
    """The given values in their types.

    Raises:
        ParameterError: naming all that is wrong, and what is allowed.
    """
    wrong, values = [], {}
    for name, value in given.items():
        if name not in declared:
            wrong.append(f"there is no parameter {_short(name)}{meant(str(name), declared)}")
            continue
        try:
            values[name] = declared[name].coerce(value)
        except ParameterError as error:
            wrong.append(str(error))
    if wrong:
        allowed = "\n".join(f"  {parameter}" for parameter in declared.values())
        raise ParameterError("; ".join(wrong) + f"\nParameters of this chapter:\n{allowed}")
    return values


def parameters_of(notebook) -> dict[str, Parameter]:
    """The parameters of a notebook, from its one cell with the tag `parameters`.

    Raises:
        ChapterError: if there is not exactly one, or as `read_parameters`.
    """
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    if len(cells) != 1:
        raise ChapterError(f"a notebook has exactly one cell with the tag `parameters`, not {len(cells)}")
    try:
        return read_parameters(cells[0].source)
    except (SyntaxError, ValueError) as error:
        raise ChapterError(f"its parameters are not plain values: {error}") from None


INJECTED = "# Parameters"
"""First line of the cell that papermill puts after the parameters cell."""


def injected(values: Mapping[str, object]) -> str:
    """The cell that papermill would put after the parameters cell to set these values."""
    return "\n".join([INJECTED, *(f"{name} = {value!r}" for name, value in values.items())])


def of_cells(sources: list[str], namespace: Mapping[str, object]) -> dict[str, object]:
    """The parameters that a notebook runs with, as its executed cells have set them.

    Args:
        sources: of the code cells executed so far; a parameters cell is among them, and perhaps what papermill put
            after it.
        namespace: where they were executed.

    Raises:
        ChapterError: if the parameters cell was not executed.
        ParameterError: for unknown, mistyped or out-of-range parameters.
    """
    declared, given = {}, []
    for source in filter(str.strip, sources):
        with contextlib.suppress(ChapterError, SyntaxError, ValueError):
            declared = read_parameters(source) or declared
        if source.lstrip().startswith(INJECTED):
            assigned = [t for n in ast.parse(source).body if isinstance(n, ast.Assign) for t in n.targets]
            given += [target.id for target in assigned if isinstance(target, ast.Name)]
    if not declared:
        raise ChapterError("run the parameters cell before this one")
    return check_parameters(declared, {name: namespace[name] for name in dict.fromkeys([*declared, *given])})


def rising(name: str, text: str, low: int, high: int, least: int = 1) -> list[int]:
    """The whole numbers in a text parameter, which must rise.

    Args:
        name, text: of the parameter.
        low, high: what the numbers may be.
        least: how many there are at least.

    Raises:
        ParameterError: if the text is anything else.
    """
    parts = text.split()
    numbers = [int(part) for part in parts if part.isdecimal() and len(part) < 10]
    inside = all(low <= number <= high for number in numbers)
    if len(numbers) < max(least, len(parts)) or numbers != sorted(set(numbers)) or not inside:
        raise ParameterError(
            f"{name} = {_short(text)}: must be {least} or more whole numbers that rise, from {low} to {high}"
        )
    return numbers


def narrower(text: str, model: str) -> list[str]:
    """The LeNets in the parameter "narrower", which must be narrower than a LeNet and stand with the narrowest first.

    Args:
        text: of the parameter.
        model: the LeNet.

    Raises:
        ParameterError: if the text is anything else.
    """
    parts = text.split()
    widths = [int(found[1]) if (found := _LENET.fullmatch(part)) else 0 for part in (*parts, model)]
    if 0 in widths or widths != sorted(set(widths)):
        raise ParameterError(
            f"narrower = {_short(text)}: must be LeNets whose first hidden layers are narrower than that of {model}, "
            "the narrowest first, such as lenet-100-33; or nothing"
        )
    return parts
