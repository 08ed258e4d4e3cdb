"""What can go wrong, as one tree.

    SafegenError                 1
    |- UsageError                2   the command line or a setting is wrong
    |  |- UnknownConcept
    |  |  `- UnknownAttribute
    |  |- PromptError                a prompt or a prompt file cannot be used
    |  |- PictureError               a picture to draw from cannot be used
    |  `- FieldError                 a field of a request to the server cannot be used
    |- ModelError                1   a model is missing, foreign or incomplete
    |  `- OutOfMemory
    |- DirectionError            1   a direction file is missing, corrupt or for another encoder
    |- ReaderError               1   the prompt reader is missing or damaged
    |- GuardError                1   the guard could not do its work: no image (fail closed)
    |  |- NotFinite                  NaN or infinite latents or pixels: no image
    |  |- Unread                     text that nothing at work can read
    |  `- Refused                    the one refusal: minors in a sexual context
    |- OutputError               1   a picture or a record could not be written
    `- Unavailable               1   the server cannot answer now
       |- Busy                       its queue is full
       `- OutOfTime                  a request took longer than it may

Every error says what was wrong, with the value, and carries a hint on what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class SafegenError(Exception):
    """Base of the tree; `code` names the error for programs, `exit_code` ends the command.

    `details` are further lines for people: every bad line of a file, every setting that differs.
    """

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, hint: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.hint, self.details = hint, tuple(details)


class UsageError(SafegenError):
    """A flag, a setting or an argument that cannot be used."""

    code = "usage"
    exit_code = 2


class UnknownConcept(UsageError):
    """A concept that has no recipe."""

    code = "unknown_concept"
    what = "concept"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
        guess = f"Did you mean {close[0]!r}? " if close else ""
        super().__init__(f"unknown {self.what} {name!r}", f"{guess}Known: {', '.join(known)}.")


class UnknownAttribute(UnknownConcept):
    """An attribute of people that has no recipe."""

    code = "unknown_attribute"
    what = "attribute"


class PromptError(UsageError):
    """A prompt, or a file of prompts, that cannot be read."""

    code = "prompt"


class PictureError(UsageError):
    """A picture, or a mask, that cannot be drawn from."""

    code = "picture"


class FieldError(UsageError):
    """A field of a request that cannot be used; `param` names it."""

    code = "invalid_value"

    def __init__(self, param: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.param = param


class ModelError(SafegenError):
    """A model that cannot be loaded or guarded."""

    code = "model"


class OutOfMemory(ModelError):
    """A picture that does not fit into the device's memory, even alone."""

    code = "out_of_memory"


class DirectionError(SafegenError):
    """Directions that are missing, cannot be trusted, or are too poor to use."""

    code = "direction"


class ReaderError(SafegenError):
    """A prompt reader that is missing, damaged or foreign."""

    code = "reader"


class GuardError(SafegenError):
    """The guard could not finish its work, so there is no picture."""

    code = "guard"


class NotFinite(GuardError):
    """Latents or pixels that are not finite; never saved as a black image."""

    code = "not_finite"


class Unread(GuardError):
    """Text in letters or a language that nothing at work can read."""

    code = "unread"


class Refused(GuardError):
    """Minors in a sexual context: refused outright, never sanitized."""

    code = "refused"


class OutputError(SafegenError):
    """A file of a run that cannot be written or read, or is of another version."""

    code = "output"


class Unavailable(SafegenError):
    """A server that cannot answer now."""

    code = "unavailable"


class Busy(Unavailable):
    """A queue that is full; `seconds` is when to ask again."""

    code = "queue_full"

    def __init__(self, message: str, hint: str, seconds: int) -> None:
        super().__init__(message, hint)
        self.seconds = seconds


class OutOfTime(Unavailable):
    """A request that took longer than the server allows."""

    code = "timeout"
