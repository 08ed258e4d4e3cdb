"""The settings of a batch: everything that a picture, a record or a file name depends on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_args

from safegen.errors import OutputError, UsageError
from safegen.families import sizes
from safegen.files import as_path
from safegen.guard.preparation import OnFlag
from safegen.models import adapters, schedulers
from safegen.models.options import PLACES, DrawOptions, LoadOptions, part_of
from safegen.pictures.metadata import DEFAULT, Kept, parse_kept
from safegen.safeguards.options import GuardOptions

AUTO = 0  # as the batch size: find what fits


@dataclass(frozen=True)
class BatchSettings:
    """The settings of a run; rows of a prompt file may override some of them.

    Attributes:
        load: how to load the model; where it runs is not part of the run's settings.
        guard: what to guard against, and how.
        draw: how to draw; a seed of None gives each row a seed made from its id.
        on_flag: what to do with a flagged prompt.
        images: pictures of every prompt.
        batch_size: pictures denoised together; 0 until it has been found.
        redact: keep hashes in place of texts.
        record: what pictures say of themselves; the manifest says everything, or under `redact` everything but texts.

    Raises:
        UsageError: a value cannot be used.
    """

    load: LoadOptions = field(default_factory=LoadOptions)
    guard: GuardOptions = field(default_factory=GuardOptions)
    draw: DrawOptions = field(default_factory=DrawOptions)
    on_flag: OnFlag = "sanitize"
    images: int = 1
    batch_size: int = AUTO
    redact: bool = False
    record: Kept = DEFAULT

    def __post_init__(self) -> None:
        if self.on_flag not in get_args(OnFlag):
            raise UsageError(f"--on-flag {self.on_flag!r} is not known", f"One of: {', '.join(get_args(OnFlag))}.")
        schedulers.check(self.load.scheduler)
        parse_kept(self.record)
        if self.draw.image is not None:
            raise UsageError("a picture to draw from belongs to a row", "Name it in the row's field `image`.")
        if self.draw.size is not None:
            sizes.check(*self.draw.size)
        # Paths are made absolute, because the run may be finished from another folder.
        files = [tuple(map(adapters.whole, some)) for some in (self.load.embeddings, self.load.loras)]
        denoiser = str(as_path(self.load.denoiser).absolute()) if self.load.denoiser else None
        object.__setattr__(self, "load", replace(self.load, embeddings=files[0], loras=files[1], denoiser=denoiser))
        folder, concepts = self.guard.folder, tuple(sorted(set(self.guard.concepts)))
        object.__setattr__(
            self, "guard", replace(self.guard, concepts=concepts, folder=folder.absolute() if folder else None)
        )

    @classmethod
    def of(cls, **values: Any) -> BatchSettings:
        """Make settings from the fields of their parts."""
        parts = {"load": LoadOptions, "guard": GuardOptions, "draw": DrawOptions}
        own = part_of(cls, values)
        for name, kind in parts.items():
            own.setdefault(name, kind(**part_of(kind, values)))
        return cls(**own)

    def as_json(self) -> dict[str, Any]:
        """Give the settings for the side file as one flat mapping.

        Under `redact` it has no text that is drawn from.
        """
        values: dict[str, Any] = {}
        for part in (self.load, self.guard, self.draw):
            values |= asdict(part)
        values |= {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("load", "guard", "draw")}
        for name in (*PLACES, "image", "mask", "image_strength"):  # rows alone have pictures
            del values[name]
        values["directions"] = str(values.pop("folder") or "")
        if self.redact:
            values["negative"] = hash_text(self.draw.negative)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> BatchSettings:
        """Read what `as_json` wrote.

        Raises:
            OutputError: the fields are not those of this version.
        """
        if not isinstance(values, dict) or set(values) != set(cls().as_json()):
            raise OutputError("the run's settings are of another version of safegen", "Resume it with that version.")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        directions = values.pop("directions")
        return cls.of(**values, folder=Path(directions) if directions else None)


def hash_text(text: str) -> str:
    """Hash a text for `--redact`; an empty text stays empty."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if text else ""
