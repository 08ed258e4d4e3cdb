"""Changes of a phrase of a prompt, each of which keeps as much of the rest as possible.

From the least to the most that is lost: an adjective is dropped; a verb is replaced by a harmless one in the same
form, and keeps its object; a noun phrase is replaced, or dropped with its preposition; a verb is replaced together
with its object, or with the rest of its clause.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from safegen.reader import grammar, standins
from safegen.reader.syntax import ADJECTIVE, NOUN, PREPOSITIONS, Run, Syntax

GIVING = ("to", "near", "beside")  # after what somebody shows, holds or carries
ODD = 0.5  # the cost of a change that may read oddly: a person carried like a thing, or a thing greeted
HAVING = frozenset({"have", "has", "having", "had", "make", "makes", "making", "made"})
# Words that belong to a replaced verb, and would be left hanging: *reads a book into his coat*.
HANGING = frozenset({"into", "onto", "to", "through", "off", "from", "at", "for", "of", "out", "down", "up"})


@dataclass(frozen=True)
class Change:
    """A change of a text: the characters, their replacement, and the cost of its possible oddness."""

    span: tuple[int, int]
    new: str
    odd: float = 0.0


def changes(text: str, syntax: Syntax, worst: int, inside: Run) -> Iterator[Change]:
    """Give the changes of a span, from its first to its last word; `worst` is its most harmful word."""
    for change in _all(text, syntax, worst, inside):
        if change.new != text[slice(*change.span)]:
            yield change


def _all(text: str, syntax: Syntax, worst: int, inside: Run) -> Iterator[Change]:
    verb = syntax.verb_of(worst)
    how = syntax.text(worst - 1).endswith("ly")  # as in "completely bare"
    if syntax.is_(worst, ADJECTIVE) or how:
        yield from _adjective(text, syntax, worst)
    if syntax.is_(worst, NOUN, ADJECTIVE) and not how and not syntax.is_verb(worst):
        yield from _noun(text, syntax, syntax.noun_phrase(worst))
    if verb is not None and (verb == worst or verb >= inside[0] - 3):
        yield from _verb(text, syntax, syntax.verb(verb), max(worst, inside[1]))


def _adjective(text: str, syntax: Syntax, at: int) -> Iterator[Change]:
    """Leave an adjective out, or put another in its place."""
    span = syntax.span((at, at))
    if syntax.is_(at + 1, NOUN, ADJECTIVE):
        yield Change((span[0], syntax.words[at + 1].span[0]), "")
    for word in standins.QUALITIES:
        yield Change(span, word)


def _noun(text: str, syntax: Syntax, run: Run) -> Iterator[Change]:
    """Put another thing in a thing's place, or leave it out with what leads to it."""
    span = syntax.span(run)
    # What somebody has or makes is often not a thing: having sex, making love.
    odd = 2 * ODD if syntax.text(run[0] - 1) in HAVING else 0.0
    for noun in standins.nouns(text[slice(*span)], mass=not syntax.led(run[0])):
        yield Change(span, noun, odd)
    if syntax.text(run[0] - 1) in PREPOSITIONS | {"and"}:
        yield Change((syntax.words[run[0] - 1].span[0], span[1]), "")


def _verb(text: str, syntax: Syntax, verb: Run, last: int) -> Iterator[Change]:
    """Put another verb in the place of a verb: alone, with its object, or with the rest of its clause."""
    old, found = syntax.text(verb[0]), syntax.object_of(verb)
    if found is None:
        odd = 2 * ODD if hangs(syntax, verb[1] + 1) else 0.0
        for new in standins.verbs(old, standins.INTRANSITIVE):
            yield Change(syntax.span(verb), new, odd)
        if syntax.text(verb[1] + 1) in HANGING - {"of", "for", "to"}:
            for new in standins.verbs(old, standins.LOOKING):
                yield Change(syntax.span(verb), new)
    else:
        yield from _given(text, syntax, verb, found)
    passive = found is None and standins.form(old) == standins.PAST
    over = syntax.text(verb[1] + 1) in PREPOSITIONS and not passive
    if found is not None or passive or over:
        for table, odd in ((standins.TRANSITIVE, 0.0), (standins.GREETING, ODD), (standins.CARRYING, ODD)):
            for new in standins.verbs(old, table):
                yield Change(syntax.span((verb[0], verb[1] + over)), new, odd)
    ends = {verb[1], found[1] if found else verb[1], last, syntax.clause_end(max(last, verb[1]))}
    for end in sorted(ends):
        odd = 2 * ODD if hangs(syntax, end + 1) else 0.0
        for new in standins.verbs(old, standins.PREDICATES):
            yield Change(syntax.span((verb[0], end)), new, odd)


def hangs(syntax: Syntax, at: int) -> bool:
    """Tell whether the words from a place on belong to the verb before: a direction, or a part of somebody's body."""
    owned = syntax.text(at) in PREPOSITIONS and syntax.text(at + 1) in grammar.WORDS["owner"]
    return owned or syntax.text(at) in HANGING or syntax.is_(at, ADJECTIVE, NOUN)


def _given(text: str, syntax: Syntax, verb: Run, found: Run) -> Iterator[Change]:
    """Turn things thrown at people into things shown to them: *hurls a pane at* to *shows a pane to* a clerk."""
    behind = found[1] + 1
    if syntax.text(behind) in PREPOSITIONS - {"of"}:
        thing = text[slice(*syntax.span(found))]
        for new in standins.verbs(syntax.text(verb[0]), standins.CARRYING):
            for word in GIVING:
                yield Change(syntax.span((verb[0], behind)), f"{new} {thing} {word}", ODD)
