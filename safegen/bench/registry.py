"""The suites of the bench by name; modules of this package add them with `@suite`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import safegen.bench
from safegen.bench.cells import Cells
from safegen.bench.results import Result, Tick

if TYPE_CHECKING:
    from safegen.bench.provenance import PromptSets
    from safegen.bench.report import Album
    from safegen.builtin.judge import Judge
    from safegen.generator import Generator


@dataclass(frozen=True)
class Bench:
    """What every suite is given.

    Attributes:
        generator: the embedded model behind its guard.
        judge: tells what the model's pictures show.
        album: keeps pictures for the report's page.
        prompts: the files of prompts that suites asked for.
        quick: whether a tenth of the work is enough.
        tick: told of finished pieces of work.
        cells: the parts of the suite that are kept one by one, if it takes long.
    """

    generator: Generator
    judge: Judge
    album: Album
    prompts: PromptSets
    quick: bool
    tick: Tick
    cells: Cells = field(default_factory=Cells)

    def pick(self, quick: int, whole: int) -> int:
        """Choose the amount of work."""
        return quick if self.quick else whole


Run = Callable[[Bench], Sequence[Result]]


@dataclass(frozen=True)
class Suite:
    """One suite.

    Attributes:
        name: its name on the command line.
        run: the function that measures; the first line of its docstring says what.
        order: its place among the others; the quick and the basic ones come first.
        needs: what it cannot run without: `data`, `sets` or `font`; or `name`, to be asked for by name.
        takes: what it uses if it is there.
        quick: whether it is part of a quick look.
        total: how many ticks there will be, if that is known.
    """

    name: str
    run: Run
    order: int
    needs: str = ""
    takes: str = ""
    quick: bool = False
    total: Callable[[bool, PromptSets], int] | None = None

    @property
    def title(self) -> str:
        """What the suite measures, in one line."""
        return (self.run.__doc__ or "").strip().splitlines()[0].rstrip(".")


_SUITES: dict[str, Suite] = {}


def suite(
    name: str,
    order: int,
    *,
    needs: str = "",
    takes: str = "",
    quick: bool = False,
    total: Callable[[bool, PromptSets], int] | None = None,
) -> Callable[[Run], Run]:
    """Add a suite to the bench; for the arguments see `Suite`."""

    def add(run: Run) -> Run:
        _SUITES[name] = Suite(name, run, order, needs, takes, quick, total)
        return run

    return add


def suites() -> Mapping[str, Suite]:
    """Give every suite of this package by name, in order."""
    for module in pkgutil.iter_modules(safegen.bench.__path__):
        importlib.import_module(f"safegen.bench.{module.name}")
    return {suite.name: suite for suite in sorted(_SUITES.values(), key=lambda suite: suite.order)}
