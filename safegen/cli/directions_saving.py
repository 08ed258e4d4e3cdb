"""Saving what was learned for one denoiser: all that is of use, even where something else is not."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.errors import DirectionError

if TYPE_CHECKING:
    from safegen.directions.kinds import Kind, Learned


def save_useful(kind: Kind, learned: Iterable[tuple[str, Learned, Path]]) -> None:
    """Save every file as soon as it is learned, if it is of use; given what it is, its value, and its folder.

    Raises:
        DirectionError: one is of no use; the others are saved.
    """
    from safegen.cli import console

    poor = None
    for what, found, target in learned:
        console.say(f"{what}, {found.figures()}")
        try:
            kind.check_ready(found, what)
        except DirectionError as error:
            poor = error
            continue
        path = target / found.file_name
        found.save(path)
        console.show_path(path)
    if poor is not None:
        raise poor
