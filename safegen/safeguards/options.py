"""What to guard against and how, as one value that every door hands on whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from safegen.errors import UsageError
from safegen.files import located
from safegen.safeguards import DEFAULT, REGISTRY

OnUnread = Literal["refuse", "draw"]


MAX_STRENGTH = 1.5


@dataclass(frozen=True)
class GuardOptions:
    """What to guard against, and how.

    Attributes:
        concepts: the active ones; all standard ones when empty.
        strength: 0 leaves everything as it is, 1 is the default, up to 1.5; `localise` has nothing stronger than 1.
        safeguard: name of the method.
        folder: the user's own concepts, one folder each.
        unread: what becomes of text that the reader cannot read and no directions can judge: `refuse` or `draw`.
        guarded: whether there is a guard at all.

    Raises:
        UsageError: a strength outside its range, an unknown safeguard or `unread`.
    """

    concepts: tuple[str, ...] = ()
    strength: float = 1.0
    safeguard: str = DEFAULT
    folder: Path | None = None
    unread: OnUnread = "refuse"
    guarded: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", tuple(dict.fromkeys(self.concepts)))
        object.__setattr__(self, "folder", located(self.folder) if self.folder else None)
        check_strength(self.strength)
        if self.safeguard not in REGISTRY:
            raise UsageError(f"unknown safeguard {self.safeguard!r}", f"Known: {', '.join(REGISTRY)}.")
        if self.unread not in get_args(OnUnread):
            raise UsageError(f"unread {self.unread!r} is not known", f"One of: {', '.join(get_args(OnUnread))}.")


def check_strength(strength: float) -> float:
    """Give the strength back if it is in range.

    Raises:
        UsageError: it is not, or is no number.
    """
    if not 0 <= strength <= MAX_STRENGTH:
        raise UsageError(f"strength {strength} is outside 0 to {MAX_STRENGTH}", "1 is the default.")
    return strength
