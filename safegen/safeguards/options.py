"""Options of the guard: what to guard against and how, as one value that every caller hands on whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from safegen.errors import UsageError
from safegen.files import as_path
from safegen.safeguards import DEFAULT, REGISTRY

OnUnread = Literal["refuse", "draw"]


MAX_STRENGTH = 1.5


@dataclass(frozen=True)
class GuardOptions:
    """The options of the guard: what to guard against, and how.

    Attributes:
        concepts: the active concepts; all standard ones when empty.
        strength: from 0, which changes nothing, to 1.5; 1 is the default, and for `localise` the strongest.
        safeguard: the name of the method.
        folder: the folder of the user's own concepts, which has one folder for each.
        unread: what to do with text that the reader cannot read and no directions can judge: `refuse` or `draw`.
        safe: concepts that a latent direction keeps out of every picture, whatever its text says.
        enhance: whether words such as "without weapons" switch on the latent direction that keeps the concept out.
        guarded: whether there is a guard at all.

    Raises:
        UsageError: the strength is out of range, or the safeguard or `unread` is not known.
    """

    concepts: tuple[str, ...] = ()
    strength: float = 1.0
    safeguard: str = DEFAULT
    folder: Path | None = None
    unread: OnUnread = "refuse"
    safe: tuple[str, ...] = ()
    enhance: bool = True
    guarded: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.concepts, str):
            raise UsageError(f"concepts are a list of names, not {self.concepts!r}", 'As in concepts=("violence",).')
        object.__setattr__(self, "concepts", tuple(dict.fromkeys(self.concepts)))
        object.__setattr__(self, "safe", tuple(dict.fromkeys(self.safe)))
        object.__setattr__(self, "folder", as_path(self.folder) if self.folder else None)
        check_strength(self.strength)
        if self.safeguard not in REGISTRY:
            raise UsageError(f"unknown safeguard {self.safeguard!r}", f"Known: {', '.join(REGISTRY)}.")
        if self.unread not in get_args(OnUnread):
            raise UsageError(f"unread {self.unread!r} is not known", f"One of: {', '.join(get_args(OnUnread))}.")


def check_strength(strength: float) -> float:
    """Check that the strength is in range, and give it back.

    Raises:
        UsageError: it is out of range, or not a number.
    """
    if not 0 <= strength <= MAX_STRENGTH:
        raise UsageError(f"strength {strength} is outside 0 to {MAX_STRENGTH}", "1 is the default.")
    return strength
