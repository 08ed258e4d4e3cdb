"""What fixes a batch: every setting that a picture, a record or a file name depends on."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast, get_args

from safegen import safeguards
from safegen.errors import OutputError, UsageError
from safegen.families import sizes
from safegen.files import home
from safegen.guard import OnUnread
from safegen.models import schedulers
from safegen.prompts.prompt import clean_negative
from safegen.records import DEFAULT, Kept, checked

OnFlag = Literal["sanitize", "skip", "warn"]
AUTO = 0  # the batch size that says: find it


@dataclass(frozen=True)
class Options:
    """The settings of a run; rows of a prompt file may set some of them for themselves.

    Attributes:
        seed: first seed of every row; None gives each row one of its own, made from its id.
        size: width and height in pixels; None is the model's own.
        batch_size: pictures denoised together; 0 until it has been found.
        directions: the folder of the user's own concepts; empty for none.
        embeddings: whole paths of textual inversions.
        loras: whole paths of LoRAs, each with its scale.
        record: what pictures say of themselves; the manifest says all, or under `redact` all but texts.
    """

    model: str = "embedded"
    dtype: str = "auto"
    revision: str | None = None
    variant: str | None = None
    quantize: str | None = None
    scheduler: str | None = None
    concepts: tuple[str, ...] = ()
    strength: float = 1.0
    safeguard: str = safeguards.DEFAULT
    guarded: bool = True
    unread: OnUnread = "refuse"
    on_flag: OnFlag = "sanitize"
    images: int = 1
    seed: int | None = None
    steps: int | None = None
    guidance: float | None = None
    size: tuple[int, int] | None = None
    negative: str = ""
    batch_size: int = AUTO
    directions: str = ""
    embeddings: tuple[str, ...] = ()
    loras: tuple[str, ...] = ()
    redact: bool = False
    record: Kept = DEFAULT

    def __post_init__(self) -> None:
        if self.on_flag not in get_args(OnFlag):
            raise UsageError(f"--on-flag {self.on_flag!r} is not known", f"One of: {', '.join(get_args(OnFlag))}.")
        schedulers.check(self.scheduler)
        checked(self.record)
        object.__setattr__(self, "negative", clean_negative(self.negative))
        for name in ("model", "directions"):
            object.__setattr__(self, name, home(getattr(self, name)))
        for name in ("embeddings", "loras"):
            object.__setattr__(self, name, tuple(map(home, getattr(self, name))))
        if self.size is not None:
            sizes.check(*self.size)

    def as_json(self) -> dict[str, Any]:
        """The options for the side file; under `redact` without any text that is drawn from."""
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}
        return values | ({"negative": hashed(self.negative)} if self.redact else {})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Options:
        """What `as_json` wrote.

        Raises:
            OutputError: the fields are not those of this version.
        """
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise OutputError("the run's settings are of another version of safegen", "Resume it with that version.")
        tuples = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        return cls(**cast("dict[str, Any]", tuples))


def hashed(text: str) -> str:
    """What is kept of a text under `--redact`."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if text else ""
