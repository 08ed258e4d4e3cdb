"""``safegen gallery``: a folder of pictures as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safegen.cli.paths import path


def gallery(
    folder: Annotated[Path, typer.Argument(parser=path, help="A folder that safegen batch or generate wrote to.")],
) -> None:
    """Write gallery.html: the pictures, their prompts with harmful words marked, and filters."""
    from safegen.batch import gallery as page
    from safegen.cli import console

    if gone := page.prune(folder):
        console.say(f"{gone} pictures are gone; their records are in {page.REMOVED} now")
    console.show_path(page.write(folder))
