"""Attempts at a repair: what a text becomes where other words, or none, take a phrase's place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from safegen.reader import grammar, minors

PAUSES, ENDS = ",;:", ".!?"  # signs within a sentence, and behind one
TWICE = re.compile(r"\b(\w+)\W+\1\b", re.IGNORECASE)


@dataclass(frozen=True)
class Attempt:
    """A text that a prompt may become: the old phrase, the new one, its place, and the log-likelihood."""

    text: str
    old: str
    new: str
    at: int
    likelihood: float


def sound(attempt: Attempt, old: str) -> bool:
    """Tell whether a text is left, which is another one.

    No word is said twice in a row that was not before, no deed has taken the place of somebody at the beginning, and
    nobody has become a minor.
    """
    begins = attempt.text[: attempt.at].rstrip()[-1:] in ("", ",", ".", ";")
    deed = begins and bool(attempt.new) and _ends_ing(attempt.new) and not _ends_ing(attempt.old)
    ends = re.search(r"[.;:!?]", attempt.new) or (
        re.search(r"\ban?\s*$", attempt.text[: attempt.at], re.IGNORECASE) and grammar.form_of(attempt.new)[1]
    )
    return (
        bool(attempt.text)
        and attempt.text != old
        and not deed
        and not ends
        and not stutters(attempt.text, old)
        and not minors.brings_minor(attempt.text, old)
    )


def stutters(new: str, old: str) -> bool:
    """Tell whether a text says a word twice in a row, and the one that it was made of does not."""
    said = {match.group().lower() for match in TWICE.finditer(old)}
    return any(match.group().lower() not in said for match in TWICE.finditer(new))


def _ends_ing(phrase: str) -> bool:
    return phrase.split(maxsplit=1)[0].lower().endswith("ing")


def fit_in(text: str, place: tuple[int, int], new: str, likelihood: float) -> Attempt:
    """Put words, or nothing, in a place of a text, with the article, the spaces and the capital that belong there."""
    (start, end), before, behind = place, text[: place[0]], text[place[1] :]
    old = text[start:end]
    if not new:
        before, joint, behind = _closed(before, behind)
        before, start = before + joint, len(before + joint)
    if (old[:1].isupper() or not before) and text[:1].isupper():
        new, behind = new[:1].upper() + new[1:], behind if new else behind[:1].upper() + behind[1:]
    if text.isupper():
        new = new.upper()
    fitted = grammar.join(before, new, behind)
    return Attempt(fitted, old, new, min(start, len(fitted)), likelihood)


def _closed(before: str, behind: str) -> tuple[str, str, str]:
    """Close a gap: of two signs one stays, the one that ends a sentence, and none at the beginning; with the joint."""
    apart = before[-1:] == " " or behind[:1] == " "
    before, behind = before.rstrip(" "), behind.lstrip(" ")
    if before.endswith(tuple(PAUSES)):
        before = before.rstrip(PAUSES + " ")
    if not before or before.endswith(tuple(ENDS)):
        behind = behind.lstrip(PAUSES + ENDS + " ")
    spaced = apart and before and behind and before[-1] not in "([" and behind[0] not in f"{PAUSES}{ENDS})]"
    return before, " " if spaced else "", behind
