"""The folder that pictures are added to one by one, if need be by several commands at once.

What is there stays as it is. A number is never used twice, not even after its picture was deleted, and lines
are added to the manifest whole.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from safegen.batch.manifest import PICTURES, line_of
from safegen.batch.store import visit
from safegen.errors import OutputError
from safegen.files import append_line, as_path, check_writable
from safegen.pictures import metadata

if TYPE_CHECKING:
    from PIL import Image

    from safegen.pictures.metadata import Kept
    from safegen.records import Record

LOCK = ".generate.lock"  # held while a picture is saved
NUMBERED = re.compile(r"(\d{4,})-.*\.png")
RECORDED = re.compile(rb'"file_name": *"(\d{4,})-')


class PictureFolder:
    """A folder to add to; made by `open_picture_folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.last = 0  # the highest number in use
        with contextlib.suppress(FileNotFoundError), (folder / PICTURES).open("rb") as manifest:
            self.last = max((int(found[1]) for line in manifest for found in RECORDED.finditer(line)), default=0)

    def add(self, picture: Image.Image, record: Record, kept: Kept) -> tuple[Path, dict[str, Any]]:
        """Save a picture under the next number, and its record; gives its path and its line of the manifest.

        Raises:
            OutputError: one of them cannot be written; then neither stays.
        """
        manifest = self.folder / PICTURES
        with FileLock(self.folder / LOCK):
            names = map(NUMBERED.fullmatch, (path.name for path in self.folder.iterdir()))
            self.last = max([self.last, *(int(found[1]) for found in names if found)]) + 1
            path = self.folder / f"{self.last:04d}-{record.id[:8]}-{record.seed}.png"
            metadata.save_picture(picture, path, record.as_json(), kept)
            line = record.adding(file_name=path.name).as_json()
            try:
                append_line(manifest, line_of(line))
            except BaseException as error:
                path.unlink(missing_ok=True)  # a picture without its record must not stay
                if isinstance(error, OSError):
                    raise OutputError(f"cannot write {manifest}: {error.strerror}", "Choose another --out.") from error
                raise
        return path, line


@contextlib.contextmanager
def open_picture_folder(folder: Path) -> Iterator[PictureFolder]:
    """Make a folder if need be, and add to it; while the context lasts, no batch begins there.

    Raises:
        OutputError: it cannot be written, or a batch is at work there.
        UsageError: it is the folder of a batch.
    """
    folder = as_path(folder)
    check_writable(folder)
    with visit(folder):
        yield PictureFolder(folder)
