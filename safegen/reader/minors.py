"""Words for somebody under age: the one refusal goes by them, and no repair may bring one into a prompt."""

from __future__ import annotations

import re

from safegen.reader.forms import spellings

_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
# Ages of minors, in figures and in words; not the last word of *thirty-two*.
_AGES = "".join(rf"(?<!{tens}[ -])" for tens in _TENS) + (
    r"(?:[1-9]|1[0-7]|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen"
    r"|seventeen)"
)
_MINOR = re.compile(
    r"\b(child(ren)?|kids?|kiddies?|toddlers?|infants?|newborns?|bab(y|ies)|minors?|underaged?|preteens?|pre-?teens?|tweens?"
    r"|teen(s|age|aged|ager|agers)?|adolescents?|juveniles?|preschoolers?|lolis?|lolitas?|shotas?"
    r"|school ?(girl|boy|child|kid)s?|school ?children|(little|young|small|tiny) (girl|boy)s?"
    rf"|{_AGES}\s*-?\s*(?:years?\s*-?\s*olds?|yo|y/o)"
    r"|(?:first|second|third|fourth|fifth|sixth|seventh|eighth) graders?"
    rf"|jailbait|(girl|boy)s? aged {_AGES})\b"
)


def names_minor(text: str) -> bool:
    """Tell whether the text speaks of somebody under age."""
    return any(_MINOR.search(form) for form in spellings(" ".join(text.split())))


def brings_minor(new: str, old: str) -> bool:
    """Tell whether a text speaks of somebody under age, and the one that it was made of does not.

    Words that were apart can meet where others go, so that somebody grown up becomes somebody who is not.
    """
    return names_minor(new) and not names_minor(old)
