"""Pictures to draw from, as values that options, rows and requests carry: known by their hash, decoded when drawn."""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from safegen.errors import PictureError, UsageError
from safegen.files import as_path, readable
from safegen.pictures.decoding import MOST_BYTES, decode_mask, decode_picture, open_picture

if TYPE_CHECKING:
    from PIL import Image

Given: TypeAlias = "InputPicture | str | Path | bytes | Image.Image"
REDRAWN, FILLED = 0.6, 1.0  # how much of a picture is drawn anew by default: of all of it, and of what a mask shows


@dataclass(frozen=True)
class InputPicture:
    """A picture or a mask that was decoded once, so that it can be; two are equal if their files have the same bytes.

    Attributes:
        sha256: the hash of its file.
        size: width and height in pixels, upright.
        name: the name of its file, without the folder.
        path: the place of the file; it is read again when it is drawn from.
        content: the bytes of the file, where there is no path.
    """

    sha256: str
    size: tuple[int, int]
    name: str = field(compare=False)
    path: Path | None = field(default=None, compare=False, repr=False)
    content: bytes = field(default=b"", compare=False, repr=False)

    @classmethod
    def of(cls, given: Given, name: str = "picture", *, mask: bool = False) -> InputPicture:
        """Make one from a path, from the bytes of a file, or from a picture of Pillow's.

        Args:
            given: see above.
            name: the name of a picture without a path.
            mask: whether it is a mask, which has to leave something to draw.

        Raises:
            PictureError: it cannot be read, or drawn from; see `decoding`.
        """
        if isinstance(given, InputPicture):
            return given
        if isinstance(given, (str, Path)):
            path = as_path(given)
            return cls(*_examine_file(path, _stamp(path), mask), readable(path.name), path.absolute())
        content = given if isinstance(given, bytes) else _encode(given)
        name = readable(name)
        return cls(*_examine(content, name, mask), name, None, content)

    def decode(self) -> Image.Image:
        """Give the picture, see `decode_picture`; raises as `read` and that do."""
        return decode_picture(self.read(), self.name)

    def decode_mask(self) -> Image.Image:
        """Give the mask, see `decoding.decode_mask`; raises as `read` and that do."""
        return decode_mask(self.read(), self.name)

    def read(self) -> bytes:
        """Read the file once more.

        Raises:
            PictureError: it is gone, or another one than it was.
        """
        content = self.content if self.path is None else _read_file(self.path)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise PictureError(f"{self.name} has changed since it was checked", "Start again.")
        return content

    def as_json(self) -> dict[str, Any]:
        """Say for a record which picture it was, and not where it lies."""
        return {"name": self.name, "sha256": self.sha256, "size": list(self.size)}


@dataclass(frozen=True)
class Beginning:
    """What is drawn from: a picture, perhaps with a mask of what is drawn anew.

    Attributes:
        image: the picture.
        mask: of the same size.
        strength: how much of the picture is drawn anew, more than 0 and up to 1; None is the usual share.

    Raises:
        PictureError: the sizes differ.
        UsageError: the strength is out of range.
    """

    image: InputPicture
    mask: InputPicture | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.strength is not None and not 0 < self.strength <= 1:
            raise UsageError(
                f"an image strength of {self.strength:g} is out of range",
                "From more than 0, which keeps nearly all of the picture, to 1, which draws all of it anew.",
            )
        if self.mask is not None and self.mask.size != self.image.size:
            own, other = ("{}x{}".format(*one.size) for one in (self.mask, self.image))
            raise PictureError(
                f"the mask {self.mask.name} is {own}, and {self.image.name} is {other}", "Make them the same size."
            )

    @property
    def share(self) -> float:
        """How much is drawn anew."""
        return self.strength if self.strength is not None else REDRAWN if self.mask is None else FILLED

    def as_json(self, strength: float | None) -> dict[str, Any]:
        """Say for a record what was drawn from; `strength` is None where the model has none."""
        mask = {} if self.mask is None else {"mask": self.mask.as_json()}
        return {"image": self.image.as_json(), **mask, **({} if strength is None else {"strength": strength})}


def rename_inputs(begun: Mapping[str, Any], rename: Callable[[str], str]) -> dict[str, Any]:
    """Give other names to the pictures in what `Beginning.as_json` says; a picture with an empty one has none."""
    found: dict[str, Any] = {}
    for what, facts in begun.items():
        found[what] = facts
        if isinstance(facts, Mapping):
            rest = {key: value for key, value in facts.items() if key != "name"}
            found[what] = {**({"name": name} if (name := rename(facts.get("name", ""))) else {}), **rest}
    return found


def _stamp(path: Path) -> tuple[int, int]:
    """Give what changes when a file does."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error.strerror) from error
    return found.st_mtime_ns, found.st_size


def _read_file(path: Path) -> bytes:
    if not path.is_file():  # a device or a pipe may never end
        raise _unreadable(path, "it is no file")
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror) from error
    if len(content) > MOST_BYTES:
        raise PictureError(f"{readable(path.name)} is larger than {MOST_BYTES // 2**20} MiB", "Make it smaller.")
    return content


@functools.lru_cache(maxsize=4096)
def _examine_file(path: Path, stamp: tuple[int, int], mask: bool) -> tuple[str, tuple[int, int]]:
    """Examine a file once, as long as it stays the same: a batch reads its rows three times."""
    return _examine(_read_file(path), readable(path.name), mask)


def _examine(content: bytes, name: str, mask: bool) -> tuple[str, tuple[int, int]]:
    picture = (decode_mask if mask else open_picture)(content, name)
    return hashlib.sha256(content).hexdigest(), picture.size


def _encode(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    whole = picture if picture.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else picture.convert("RGB")
    whole.save(buffer, "PNG")
    return buffer.getvalue()


def _unreadable(path: Path, why: str | None) -> PictureError:
    return PictureError(f"cannot read the picture {readable(path.name)}: {why}", "Check the path.")
