"""The grammar of a prompt, read off its small words: noun phrases, forms of verbs, prepositions and links.

Prompts are fragments more often than sentences, so there is no tree: a prompt is a row of chunks, and what a chunk is
to its neighbours is told by their kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from safegen.reader import english
from safegen.reader.grammar import WORDS

# Kinds of chunks.
NOUN, PRONOUN, REFLEXIVE, PLACE, LINK, AND, ADVERB, SIGN = (
    "noun",
    "pronoun",
    "reflexive",
    "place",
    "link",
    "and",
    "adverb",
    "sign",
)
DOING, DONE, DOES, DO, TO_DO = "doing", "done", "does", "do", "to do"  # a verb by its form: he is, was, he does, ...
VERBS = frozenset({DOING, DONE, DOES, DO, TO_DO})
# Only within a chunk: a word that begins a noun's chunk, and a verb that helps another.
_DETERMINER, _HELPING = "determiner", "helping"

_DETERMINERS = WORDS["article"] | WORDS["owner"] | WORDS["count"]
_DETERMINERS |= frozenset("no any this that these those each every all another other eight nine ten dozens".split())
_PLACES = """
above across against along alongside amid amidst among amongst around aboard at atop before behind below beneath beside
besides between beyond by down during for from in inside into like near next of off on onto opposite out outside over
past since through throughout to toward towards under underneath until up upon via with within without
"""
PLACES = frozenset(_PLACES.split())
LINKS = frozenset("while where when as because so after until if though although who whom whose which".split())
_PRONOUNS = frozenset("i you he she it we they him them me us someone somebody".split())
_REFLEXIVE = frozenset("himself herself itself themselves oneself yourself myself".split())
_SUBJECTS = frozenset("he she it who which that".split())
HELPERS = frozenset("is are was were be been being am get gets got getting has have had having about".split())
_ADVERBS = frozenset("not never just then also still alive together apart away back home too very so open shut".split())
# Forms in -ing that are said before a noun more often than behind one.
_COMPOUNDS = frozenset(
    "boxing changing cooking dining dressing drinking fishing hunting knitting living parking racing reading riding rocking "
    "running sailing sewing shopping skating sleeping swimming training waiting walking washing writing".split()
)
_DESCRIBING = ("y", "ful", "ous", "ic", "al", "ish")  # how words end that describe a noun
_PARTICLES = WORDS["particle"]
_IN_LY = frozenset("family fly butterfly lily belly bully jelly assembly ally reply supply italy dolly homely".split())


@dataclass(frozen=True)
class Chunk:
    """A chunk of a prompt.

    Attributes:
        kind: one of the kinds above.
        first: its first word.
        last: its last word.
        head: the noun, the verb, or the first word.
    """

    kind: str
    first: int
    last: int
    head: int

    @property
    def words(self) -> range:
        return range(self.first, self.last + 1)


def parse(words: Sequence[str]) -> list[Chunk]:
    """Cut the words of a prompt, all in small letters, into chunks."""
    kinds: list[str] = []
    for at in range(len(words)):
        kinds.append(_kind(words, at, kinds))
    chunks: list[Chunk] = []
    at = 0
    while at < len(words):
        chunk = _chunk(words, kinds, at)
        chunks.append(chunk)
        at = chunk.last + 1
    return chunks


def _chunk(words: Sequence[str], kinds: Sequence[str], first: int) -> Chunk:
    """Take the longest chunk that begins with a word."""

    def reach(at: int, *some: str) -> int:
        while at < len(words) and kinds[at] in some:
            at += 1
        return at

    kind = kinds[first]
    begins = reach(first, ADVERB, _HELPING)
    if begins < len(words) and kinds[begins] in VERBS:
        last = begins
        while last + 1 < len(words) and (
            kinds[last + 1] == ADVERB or (words[last + 1] in _PARTICLES and kinds[last + 1] == PLACE)
        ):
            if words[last + 1] in _PARTICLES and not _stands_alone(kinds, last + 1):
                break
            last += 1
        return Chunk(kinds[begins], first, last, begins)
    if kind in (_HELPING, ADVERB):
        return Chunk(DOES if kind == _HELPING else ADVERB, first, first, first)
    if kind in (_DETERMINER, NOUN):
        begins = first
        while begins < len(words) and kinds[begins] == _DETERMINER:
            begins += 1
        end = max(reach(begins, NOUN), first + 1)
        return Chunk(NOUN, first, end - 1, end - 1)
    if kind == PLACE:
        end = first + 1
        while end < len(words) and kinds[end] == PLACE:
            end += 1
        return Chunk(PLACE, first, end - 1, first)
    return Chunk(kind, first, first, first)


def _stands_alone(kinds: Sequence[str], at: int) -> bool:
    """Tell whether a particle has no noun of its own: a sign, a preposition or nothing is behind it."""
    return at + 1 == len(kinds) or kinds[at + 1] in (SIGN, PLACE, AND)


def _kind(words: Sequence[str], at: int, before: Sequence[str]) -> str:
    """Tell what a word is, from itself, the kinds of the words before it, and the next word."""
    word, then = words[at], words[at + 1] if at + 1 < len(words) else ","
    last = before[-1] if before else SIGN
    if not word[0].isalnum():
        return NOUN if word in "-'\u2019" and last == NOUN else SIGN
    if at and words[at - 1] == "-" and last == NOUN:
        return NOUN
    if word in _REFLEXIVE or (word, then) == ("each", "other") or (at and words[at - 1 : at + 1] == ["each", "other"]):
        return REFLEXIVE
    if word in _PRONOUNS or (word == "her" and not _is_nominal(then)):
        return PRONOUN
    if word == "that" and last == NOUN:
        return LINK
    if word in _DETERMINERS and (word, then) != ("all", "over"):
        return _DETERMINER
    if word in ("and", "or", "but"):
        return AND
    if word == "because" and then == "of":
        return PLACE
    if word in LINKS:
        return LINK if word != "as" or then in _SUBJECTS or then in _PRONOUNS else PLACE
    if word == "to" and english.is_form(then, "") and (not english.is_noun_first(then) or _aims(words, at + 2)):
        return _HELPING
    if word in HELPERS and (word != "about" or then == "to"):
        return DOING if word == "having" and last in (NOUN, PRONOUN) else _HELPING
    if word in PLACES or (word in ("front", "top") and then == "of") or (word, then) == ("all", "over"):
        return PLACE
    if word in _ADVERBS or (word.endswith("ly") and len(word) > 4 and word not in _IN_LY):
        return NOUN if last == _DETERMINER or (last == SIGN and not english.is_form(then, "ing")) else ADVERB
    return _verb(words, at, before, then) or NOUN


def _verb(words: Sequence[str], at: int, before: Sequence[str], then: str) -> str:
    """Tell which form of a verb a word is here; nothing where it is none."""
    word = words[at]
    steps = [kind for kind in before if kind != ADVERB]
    last = steps[-1] if steps else SIGN
    if last == _DETERMINER:
        return ""
    aims = _aims(words, at + 1)
    ends = not then[0].isalnum() and then != "-"
    goes_on = ends or then in PLACES or then in LINKS or then in ("and", "or", "to") or then.endswith("ly")
    if last == _HELPING and words[at - 1] == "to" and english.is_form(word, ""):
        return TO_DO
    if english.is_form(word, "ing") or (word.endswith("ing") and len(word) > 6 and last == NOUN):
        if english.is_noun_first(word) and not aims:
            return ""
        acts = last in (PRONOUN, _HELPING, AND) or (last == NOUN and _acts(words[at - 1]))
        acts = acts or (last == NOUN and word not in _COMPOUNDS and not words[at - 1].endswith(_DESCRIBING))
        return DOING if at and (acts or aims or goes_on) else ""
    if english.is_form(word, "ed") and (last == _HELPING or goes_on or (aims and last == NOUN)):
        return "" if english.is_noun_first(word) and last != _HELPING else DONE
    subject = words[at - 1] if at else ""
    if english.is_form(word, "s") and (last == NOUN or subject in _SUBJECTS) and not english.is_plural(subject):
        plain = not english.is_noun_first(word) and (then in PLACES or english.is_being(subject)) and not ends
        return DOES if aims or plain or subject in _SUBJECTS else ""
    if english.is_form(word, "") and (subject in ("they", "we", "you") or (last == NOUN and english.is_plural(subject))):
        return DO if aims or (not english.is_noun_first(word) and not ends) else ""
    return ""


def _aims(words: Sequence[str], at: int) -> bool:
    """Tell whether what a deed is done to begins here."""
    return at < len(words) and (
        words[at] in _DETERMINERS or words[at] in _PRONOUNS or words[at] in _REFLEXIVE or words[at] == "her"
    )


def _acts(noun: str) -> bool:
    return english.is_being(noun) or english.is_plural(noun)


def _is_nominal(word: str) -> bool:
    return word[0].isalnum() and word not in PLACES and word not in LINKS and word not in ("and", "or")
