"""The book's YAML files: what they say, and what is wrong with them in words that name the file and the entry."""

import copy
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from .. import LotteryError

_Entry = TypeVar("_Entry", bound=BaseModel)


CLAIMS = Path(__file__).with_name("claims.yml")
"""The rules, which `claims` reads."""


class EntryError(LotteryError):
    """A file of the book that cannot be read, or an entry that is not allowed."""


_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # with libyaml, ten times as fast


class _Loader(_FASTEST):
    """A loader that refuses a name which is given twice, of which others take the last; 010 is ten, and 1:30 a text."""

    yaml_implicit_resolvers: ClassVar[dict] = {
        first: [(tag, found) for tag, found in those if tag != "tag:yaml.org,2002:int"]
        for first, those in _FASTEST.yaml_implicit_resolvers.items()
    }

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        return int(node.value.replace("_", ""))

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9][0-9_]*$"), list("-+0123456789"))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read(path: Path) -> Any:
    """What a YAML file says, as plain values.

    Raises:
        EntryError: if it is none.
    """
    try:
        return copy.deepcopy(_parsed(path.read_text(encoding="utf-8")))
    except RecursionError:
        raise EntryError(f"{path} cannot be read: its lists stand too deep in each other") from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise EntryError(f"{path} cannot be read: {error or type(error).__name__}") from None


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    return yaml.load(text, _Loader)


def table(path: Path) -> dict[str, Any]:
    """What a YAML file says that has names and entries, by name.

    Raises:
        EntryError: if it is none.
    """
    found = read(path)
    if not isinstance(found or {}, dict):
        raise EntryError(f"{path} must have names and entries, `name: …`")
    return {str(name): entry for name, entry in (found or {}).items()}


def checked(kind: type[_Entry], entries: Mapping[str, Any], where: str = "") -> tuple[dict[str, _Entry], list[str]]:
    """The entries that are allowed, by name, and what is wrong with the others, one line each.

    Args:
        kind: what each of them is.
        entries: as read.
        where: they stand in the file; by default, at its top.
    """
    out, problems = {}, []
    for name, entry in entries.items():
        try:
            out[name] = kind.model_validate(entry)
        except ValidationError as error:
            for one in error.errors():
                at = ".".join(filter(None, map(str, (where, name, *one["loc"]))))
                problems.append(f"{at}: {one['msg'].removeprefix('Value error, ')}")
    return out, problems


def listed(path: Path, problems: list[str]) -> str:
    """What is wrong with a file, as one message."""
    return f"{path}:\n" + "\n".join(f"  {problem}" for problem in problems)
