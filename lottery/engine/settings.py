"""Where results are kept and by whom they are computed: one value, from the command line into a notebook's kernel.

`LOTTERY_STORE`, `LOTTERY_DATA` and `LOTTERY_ROOT` are for people to set; `LOTTERY_SETTINGS` is how a command hands its
settings to the kernels and workers that it starts.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from .. import LotteryError

VARIABLE = "LOTTERY_SETTINGS"


class SettingsError(LotteryError):
    """Settings that cannot be."""


def project() -> Path | None:
    """The folder of the book: `LOTTERY_ROOT`, else the checkout that this package lies in; None if it lies in none."""
    if given := os.environ.get("LOTTERY_ROOT"):
        return Path(given).expanduser().absolute()
    checkout = Path(__file__).resolve().parents[2]
    return checkout if (checkout / "notebooks").is_dir() and (checkout / "_toc.yml").is_file() else None


def default_store() -> Path:
    """`LOTTERY_STORE`, else the folder `results` of the book, else that of the current directory."""
    return Path(os.environ.get("LOTTERY_STORE") or (project() or Path()) / "results").expanduser().absolute()


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Settings(BaseModel):
    """How recipes are computed; see `lottery.engine.execute.execute` for what the fields mean there.

    Attributes:
        store: folder of results.
        executor: "inline", "processes" or "dask"; None chooses.
        jobs: processes or local workers; None: one a core.
        device: "cpu" or "cuda".
        scheduler: address of a running Dask cluster.
        stack: runs trained as one batch; None chooses.
        deadline: `time.monotonic()` from which nothing is begun any more, on this machine.
        read_only: a recipe that is not in the store is an error.
        checkpoint_seconds: how often a training is saved.
        draw: figures are drawn; without, pages have their words and numbers alone.
        progress: file that takes the state of the progress bar, as JSON; None draws the bar.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path = Field(default_factory=default_store)
    executor: Literal["inline", "processes", "dask"] | None = None
    jobs: PositiveInt | None = None
    device: str = "cpu"
    scheduler: str | None = None
    stack: PositiveInt | None = None
    deadline: float | None = None
    read_only: bool = False
    checkpoint_seconds: float = Field(60.0, ge=0)
    draw: bool = True
    progress: Path | None = None

    def but(self, **changed) -> "Settings":
        """These settings with some changed, checked again.

        Raises:
            SettingsError: naming what cannot be.
        """
        return made(**{**self.model_dump(), **changed})

    @contextlib.contextmanager
    def active(self) -> Iterator["Settings"]:
        """Makes these the settings of this process and of those that it starts meanwhile."""
        before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = self.model_dump_json()
        try:
            yield self
        finally:
            os.environ.pop(VARIABLE, None) if before is None else os.environ.__setitem__(VARIABLE, before)


def made(**given) -> Settings:
    """Settings of these values; None leaves a default.

    Raises:
        SettingsError: naming what cannot be.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise SettingsError(f"these settings cannot be: {said}") from None


def current() -> Settings:
    """The settings that a command handed to this process, else the defaults.

    Raises:
        SettingsError: if `LOTTERY_SETTINGS` is not what a command of this version hands over.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return made()
    try:
        return Settings.model_validate_json(text)
    except ValidationError as error:
        raise SettingsError(f"{VARIABLE} is set by commands, not by hand: {error.errors()[0]['msg']}") from None
