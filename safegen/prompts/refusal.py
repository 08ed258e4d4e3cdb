"""The one refusal: a prompt that puts minors in a sexual context is refused, never sanitized."""

from __future__ import annotations

import re

from safegen.errors import Refused

_MINOR = re.compile(
    r"\b(child(ren)?|kids?|kiddies?|toddlers?|infants?|bab(y|ies)|minors?|underaged?|preteens?|pre-?teens?|tweens?"
    r"|teen(s|age|aged|ager|agers)?|adolescents?|juveniles?|preschoolers?|lolis?|lolitas?|shotas?"
    r"|school ?(girl|boy|child|kid)s?|school ?children|(little|young|small|tiny) (girl|boy)s?"
    r"|(?:[1-9]|1[0-7])\s*-?\s*(?:years?\s*-?\s*olds?|yo|y/o)"
    r"|(?:first|second|third|fourth|fifth|sixth|seventh|eighth) graders?"
    r"|jailbait|(girl|boy)s? aged (?:[1-9]|1[0-7]))\b"
)
_SEXUAL = re.compile(
    r"\b(nud(e|es|ity|ist)|naked|unclothed|undress(ed|ing)?|topless|bottomless"
    r"|sex|sexual(ly)?|sexy|sexuali[sz]ed"
    r"|porn(o|ographic|ography)?"
    r"|erotic(a)?|genital(s|ia)?|nipples?|bare breasts?|buttocks|penis|vagina|lingerie|stripp(er|ers|ing)"
    r"|nsfw|hentai|lewd"
    r"|seductive(ly)?|sensual(ly)?|fetish|bondage|orgasm|masturbat(e|es|ing|ion)|intercourse|xxx"
    r"|molest(ed|ing|ation)?)\b"
)
_LEET = str.maketrans("013457@$!", "oieastasi")


def names_minor(text: str) -> bool:
    """Tell whether the text speaks of somebody under age."""
    return any(_MINOR.search(form) for form in _forms(text))


def names_sexual(text: str) -> bool:
    """Tell whether the text has a plainly sexual word."""
    return any(_SEXUAL.search(form) for form in _forms(text))


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


def _forms(text: str) -> set[str]:
    """Give the forms in which the text may be read: plain, with digits read as letters, with spaced letters joined."""
    from safegen.reader.forms import fold  # with it comes the whole reader, which `--help` does without

    lower = fold(text)[0]
    joined = re.sub(r"\b(?:\w[\s.\-_*]+){2,}\w\b", lambda m: re.sub(r"[\s.\-_*]+", "", m.group()), lower)
    return {form for base in (lower, joined) for form in (base, base.translate(_LEET))}
