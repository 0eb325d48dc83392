"""What a chapter found, in sentences that are written for one execution and tied to its numbers.

`findings.yml` has for each chapter the sentences, in which `{name}` or `{name:.1f}` is a value that the chapter glued,
`{name:no n}` an interval without the number of its replicates, and the hash of the values and verdicts that they were
written for. Where an execution has other values, the sentences are not shown: the chapter then says only what its
checks gave.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from . import entries, text
from .parameters import ChapterError

FILE = Path(__file__).with_name("findings.yml")


class Findings(BaseModel):
    """The entry of a chapter.

    Attributes:
        sentences: three to six of them.
        written_for: `values_hash` of the values that the sentences name and of the chapter's verdicts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sentences: Annotated[tuple[str, ...], Field(min_length=1, max_length=6)]
    written_for: str = ""

    def names(self) -> list[str]:
        """The values that the sentences name, each once, in order."""
        return list(dict.fromkeys(name for sentence in self.sentences for name in text.names(sentence)))

    def hash(self, values: Mapping[str, object], labels: Mapping[str, str]) -> str:
        """16 hexadecimal digits that change with any value that a sentence names and with any verdict.

        Args:
            values: what the chapter glued.
            labels: claim → label of its verdict.

        Raises:
            ChapterError: if a sentence names a value that there is not.
        """
        if lacking := [name for name in self.names() if name not in values]:
            raise ChapterError(f"findings.yml names values that the chapter does not glue: {', '.join(lacking)}")
        said = {name: str(values[name]) for name in self.names()} | {f"verdict of {c}": v for c, v in labels.items()}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def filled(self, values: Mapping[str, object]) -> list[str]:
        """The sentences with their values, numbers formatted as the sentences say."""
        return [text.filled(sentence, values) for sentence in self.sentences]


@functools.cache
def load(path: Path = FILE) -> dict[str, Findings]:
    """Chapter → its findings.

    Args:
        path: a file in the form of `findings.yml` of this package, which is the default.

    Raises:
        EntryError: naming the file, and each entry that is none, by its chapter.
    """
    found, problems = entries.checked(Findings, entries.table(path))
    if problems:
        raise entries.EntryError(entries.listed(path, problems))
    return found
