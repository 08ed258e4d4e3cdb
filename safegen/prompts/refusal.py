"""The one refusal: a prompt that puts minors in a sexual context is refused, never sanitized."""

from __future__ import annotations

import re

from safegen.errors import Refused

_SEXUAL = re.compile(
    r"\b(nud(e|es|ity|ist)|naked|unclothed|undress(ed|ing)?|topless|bottomless"
    r"|sex|sexual(ly)?|sexy|sexuali[sz]ed"
    r"|porn(o|ographic|ography)?"
    r"|erotic(a)?|genital(s|ia)?|nipples?|bare breasts?|buttocks|penis|vagina|lingerie|stripp(er|ers|ing)"
    r"|nsfw|hentai|lewd"
    r"|seductive(ly)?|sensual(ly)?|fetish|bondage|orgasm|masturbat(e|es|ing|ion)|intercourse|xxx"
    r"|molest(ed|ing|ation)?)\b"
)


def names_minor(text: str) -> bool:
    """Tell whether the text speaks of somebody under age."""
    from safegen.reader import minors  # with it comes the whole reader, which `--help` does without

    return minors.names_minor(text)


def names_sexual(text: str) -> bool:
    """Tell whether the text has a plainly sexual word."""
    from safegen.reader.forms import spellings

    return any(_SEXUAL.search(form) for form in spellings(text))


def check(text: str, *, sexual: bool = False) -> None:
    """Refuse minors in a sexual context.

    Args:
        text: the cleaned prompt.
        sexual: whether the prompt is flagged under the sexual concept.

    Raises:
        Refused: the prompt is refused; the message does not quote it.
    """
    if names_minor(text) and (sexual or names_sexual(text)):
        raise Refused(
            "refused: the prompt puts minors in a sexual context",
            "This is the one thing that safegen never repairs. Nothing was drawn or stored.",
        )
