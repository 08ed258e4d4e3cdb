"""The grammar of a prompt, read off its small words: noun phrases, forms of verbs, prepositions and links.

Prompts are fragments more often than sentences, so there is no tree: a prompt is a row of chunks, and what a chunk is
to its neighbours is told by their kinds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from safegen.reader import english
from safegen.reader.grammar import WORDS

# Kinds of chunks: things and beings, and what joins them.
NOUN, PRONOUN, REFLEXIVE, PLACE = "noun", "pronoun", "reflexive", "place"
LINK, AND, ADVERB, WHERE, SIGN = "link", "and", "adverb", "where", "sign"
DOING, DONE, DOES, DO, TO_DO = "doing", "done", "does", "do", "to do"  # a verb by its form: he is, was, he does, ...
VERBS = frozenset({DOING, DONE, DOES, DO, TO_DO})
_DETERMINER, _HELPING = "determiner", "helping"  # only within a chunk: before a noun, and before another verb
_CLOSED = {
    _DETERMINER: "a an the his her their its my your our two three four five six seven eight nine ten some many "
    "several few both no any this that these those each every all another other dozens",
    PRONOUN: "i you he she it we they him them me us someone somebody anyone anybody everyone everybody nobody",
    REFLEXIVE: "himself herself itself themselves oneself yourself myself",
    AND: "and or but",
    LINK: "while where when as because so until if though although who whom whose which why whether unless",
    _HELPING: "is are was were be been being am get gets got getting has have had having about must should would could",
    PLACE: "above across after against along alongside amid amidst among amongst around aboard at atop before behind "
    "below beneath beside besides between beyond by down during for from in inside into like near next of off on onto "
    "opposite out outside over past since through throughout to toward towards under underneath up upon via with "
    "within without",
    ADVERB: "not never just then also still alive alight ablaze aflame afire asleep awake aloud together apart away "
    "back home too very open shut",
    WHERE: "abroad ashore backstage downstairs everywhere here indoors nearby offstage onstage outdoors overhead "
    "underground underwater upstairs",
}
_KINDS = {word: kind for kind, words in _CLOSED.items() for word in words.split()}
HELPERS = frozenset(word for word, kind in _KINDS.items() if kind == _HELPING)
_SUBJECTS = frozenset({"he", "she", "it", "who", "which", "that"})
_CALLED = frozenset({"branded", "called", "declared", "deemed", "labeled", "labelled", "named"})  # as what, comes next
_MODALS = frozenset({"could", "must", "should", "would"})
_ONLY_SUBJECTS = frozenset({"i", "he", "she", "we", "they"})  # behind a noun, they begin a clause about it
# Behind these and somebody stands, as a bare verb, what they are made to do or seen to do.
_CAUSES = "had has have having let lets letting made make makes making watch watches watching"
CAUSING = frozenset(_CAUSES.split())
_PARTICLES = frozenset({"down", "off", "up"})  # behind a verb of no movement, these have no noun of their own
_STRANDED = frozenset({"at", "on", "upon"})  # with these a verb goes on that has lost its noun: *spat on by a crowd*
# Two words that are a preposition together.
_PAIRS = frozenset({("all", "over"), ("because", "of"), ("front", "of"), ("top", "of")})
# Forms in *-ing* that are said before a noun more often than behind one.
_COMPOUNDS = """
boxing changing cooking dining dressing drinking fishing hunting knitting living parking racing riding rocking
running sailing sewing shopping skating sleeping swimming training waiting walking washing writing
"""
COMPOUNDS = frozenset(_COMPOUNDS.split())
_DESCRIBING = ("y", "ful", "ous", "ic", "al", "ish")  # how words end that describe a noun
_IN_LY = "ally assembly belly butterfly dolly family homely italy jelly lily"


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

    kind, head = kinds[first], reach(first, ADVERB, _HELPING)
    if head < len(words) and kinds[head] in VERBS:
        last = head
        while last + 1 < len(words) and (kinds[last + 1] == ADVERB or _is_particle(words, kinds, last + 1)):
            last += 1
        return Chunk(kinds[head], first, last, head)
    if kind in (_DETERMINER, NOUN):
        last = max(reach(reach(first, _DETERMINER), NOUN), first + 1) - 1
        return Chunk(NOUN, first, last, last)
    if kind == PLACE:
        return Chunk(PLACE, first, reach(first, PLACE) - 1, first)
    return Chunk(DOES if kind == _HELPING else kind, first, first, first)


def _is_particle(words: Sequence[str], kinds: Sequence[str], at: int) -> bool:
    """Tell whether a word belongs to the verb before it, and has no noun of its own."""
    alone = at + 1 == len(kinds) or kinds[at + 1] in (SIGN, PLACE, WHERE, LINK, AND, *VERBS)
    alone = alone and words[at + 1 : at + 2] != ["of"]
    stranded = words[at] in _STRANDED and words[at + 1 : at + 2] not in (["top"], ["front"])
    if kinds[at] != PLACE or words[at] in _STRANDED:
        return kinds[at] == PLACE and alone and stranded
    phrasal = words[at] in _PARTICLES and kinds[at - 1] in VERBS and not english.moves(words[at - 1])
    return words[at] in WORDS["particle"] and (alone or (phrasal and kinds[at + 1] in (_DETERMINER, NOUN, PRONOUN)))


def _kind(words: Sequence[str], at: int, before: Sequence[str]) -> str:
    """Tell what a word is, from itself, the kinds of the words before it, and the next word."""
    word, then = words[at], words[at + 1] if at + 1 < len(words) else ","
    last, previous = (before[-1], words[at - 1]) if before else (SIGN, ",")
    mutual = (word, then) == ("each", "other") or (previous, word) == ("each", "other")
    purpose = english.is_form(then, "") and (not english.is_noun_first(then) or _is_aim(words, at + 2))
    begins = last == _DETERMINER or (last == SIGN and not english.is_form(then, "ing"))
    cases = (
        (word == "," and list(before[-2:]) == [_DETERMINER, NOUN] and _is_listed(previous, then), NOUN),
        (not word[0].isalnum(), NOUN if word in "-'\u2019" and last in (NOUN, _DETERMINER) else SIGN),
        (previous == "-" and last == NOUN, NOUN),
        (mutual, REFLEXIVE),
        ((previous, word) == ("nothing", "on"), NOUN),
        ((word, then) in _PAIRS, PLACE),
        (word == "her" and (not then[0].isalnum() or _KINDS.get(then) in (PLACE, LINK, AND)), PRONOUN),
        (last == NOUN and word in _ONLY_SUBJECTS, LINK),
        (word == "that" and last in (NOUN, *VERBS), LINK),
        (word == "as" and then not in _SUBJECTS and _KINDS.get(then) != PRONOUN and not _begins(words, at + 1), PLACE),
        (word in ("after", "till") and (then in _SUBJECTS or then in _ONLY_SUBJECTS), LINK),
        (word == "to" and purpose, _HELPING),
        (word == "about" and then != "to", PLACE),
        (word == "having" and last in (NOUN, PRONOUN), DOING),
        (_KINDS.get(word) == ADVERB and last == _DETERMINER, NOUN),
        (word in _KINDS, _KINDS.get(word, "")),
        (last in VERBS and english.is_adjective(word) and (not then[0].isalnum() or then in _KINDS), ADVERB),
        (_is_adverb(word), NOUN if begins else ADVERB),
    )
    return next((kind for holds, kind in cases if holds), "") or _verb(words, at, before) or NOUN


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) > 4 and word not in _IN_LY.split() and not english.is_form(word, "")


def _verb(words: Sequence[str], at: int, before: Sequence[str]) -> str:
    """Tell which form of a verb a word is here; nothing where it is none."""
    word, then = words[at], words[at + 1] if at + 1 < len(words) else ","
    said = next((i for i in range(at - 1, -1, -1) if before[i] != ADVERB), -1)
    last, subject = (before[said], words[said]) if said >= 0 else (SIGN, "")
    aims, ends = _is_aim(words, at + 1), not then[0].isalnum() and then != "-"
    single = english.is_form(word, "s") and said > 0 and before[said - 1] == _DETERMINER
    acted = english.is_form(word, "ing") or (single and not english.is_plural(subject))
    painting = acted and english.is_person(subject) and not ends and then not in _KINDS
    noun = english.is_noun_first(word) and not painting
    goes_on = ends or _KINDS.get(then) in (PLACE, LINK, AND, ADVERB) or then.endswith("ly")
    bare = english.is_adjective(then) and (at + 2 == len(words) or words[at + 2] in _KINDS)  # tied nude
    named = last == NOUN and (english.is_being(subject) or english.is_plural(subject))
    plain = last == NOUN and word not in COMPOUNDS and not subject.endswith(_DESCRIBING)
    acting = named or plain or last in (PRONOUN, _HELPING, AND)
    behind = last == PLACE and subject in WORDS["particle"] and list(before[-2:-1]) in ([DONE], [DOING])
    named_or_described = english.is_being(word) or english.is_adjective(word)
    relative = last == LINK and subject in _SUBJECTS and not named_or_described
    caused = last in (NOUN, PRONOUN, REFLEXIVE) and _cause(words, before) and (aims or goes_on)
    does = aims or (not noun and (_KINDS.get(then) == PLACE or english.is_being(subject)) and not ends)
    both = english.is_being(word) and not english.is_being(subject)
    does = does and (aims or not (both or _is_open(words, before)))
    ing = english.is_form(word, "ing") or (word.endswith("ing") and len(word) > 6 and last == NOUN)
    one = (last == NOUN or subject in _SUBJECTS) and not english.is_plural(subject)
    many = relative or subject in ("they", "we", "you") or (last == NOUN and english.is_plural(subject))
    ed = english.is_form(word, "ed") or (word.endswith("ed") and len(word) > 4 and named)
    called = named and word in _CALLED
    done = ed and (last == _HELPING or goes_on or called or (named and bare) or (aims and last == NOUN))
    cases = (
        (last == _DETERMINER or subject.endswith("'s") or _is_quoted(words[:at], before), ""),
        (last == NOUN and not aims and _leads(words, at - 1, before), ""),
        (last == _HELPING and subject == "to" and english.is_form(word, ""), TO_DO),
        (last == _HELPING and subject in _MODALS and english.is_form(word, ""), DO),
        (ing and behind, DOING),
        (ing, DOING if at and (aims or (not noun and (acting or goes_on))) else ""),
        (done, DONE if not noun or last == _HELPING or named else ""),
        (english.is_form(word, "s") and one, DOES if does or subject in _SUBJECTS else ""),
        (english.is_form(word, "") and caused, DO),
        (english.is_form(word, "") and many, DO if aims or relative or (not noun and not ends) else ""),
    )
    return next((kind for holds, kind in cases if holds), "")


def _cause(words: Sequence[str], before: Sequence[str]) -> bool:
    """Tell whether the last noun is somebody who is made or seen to do something."""
    named = itertools.takewhile(lambda kind: kind in (_DETERMINER, NOUN, PRONOUN, REFLEXIVE), reversed(before))
    verb = len(before) - 1 - len(list(named))
    return verb >= 0 and words[verb] in CAUSING


def _is_open(words: Sequence[str], before: Sequence[str]) -> bool:
    """Tell whether a noun is to come: behind a verb or a preposition there is only a single one, and no article."""
    phrase = list(itertools.takewhile(lambda kind: kind == NOUN, reversed(before)))
    alone = bool(phrase) and not english.is_plural(words[len(before) - 1])
    return (
        alone
        and before[len(before) - len(phrase) - 1 :][:1] in ([PLACE], *([verb] for verb in VERBS))
        and len(phrase) < len(before)
    )


def _leads(words: Sequence[str], at: int, before: Sequence[str]) -> bool:
    """Tell whether an adjective begins a noun, so that the noun is to come: *a cruel drawing*."""
    first = at == 0 or before[at - 1] not in (NOUN, ADVERB)
    return first and (english.is_adjective(words[at]) or _describes(words[at])) and not english.is_being(words[at])


def _is_quoted(words: Sequence[str], before: Sequence[str]) -> bool:
    """Tell whether words within a noun are said by it: *a no owls sign*."""
    phrase = list(
        itertools.takewhile(lambda pair: pair[1] in (_DETERMINER, NOUN), zip(words[::-1], before[::-1], strict=True))
    )
    return any(pair == ("no", _DETERMINER) for pair in phrase[:-1])


def _begins(words: Sequence[str], at: int) -> bool:
    """Tell whether a clause begins here: somebody, and what they do."""
    phrase = list(itertools.takewhile(lambda word: _KINDS.get(word, _DETERMINER) == _DETERMINER, words[at : at + 5]))
    pairs = ((noun, word) for noun, word in itertools.pairwise(phrase) if english.is_being(noun))
    return any(english.is_form(word, "" if english.is_plural(noun) else "s") for noun, word in pairs)


def _describes(word: str) -> bool:
    """Tell whether a word describes a noun, and is none."""
    described = english.is_form(word, "ed") or english.is_form(word, "ing") or word.endswith(_DESCRIBING)
    return described and not (english.is_being(word) or english.is_thing(word))


def _is_listed(one: str, other: str) -> bool:
    """Tell whether two words with a comma between them may describe the same noun: *a small, painted chair*."""
    shaped = (english.is_form(one, "ed") or english.is_form(one, "ing")) and not english.is_noun_first(one)
    return (shaped or english.is_adjective(one)) and (english.is_adjective(other) or _describes(other))


def _is_aim(words: Sequence[str], at: int) -> bool:
    """Tell whether what a deed is done to begins here."""
    if at >= len(words) or words[at] in _ONLY_SUBJECTS:
        return False
    return _KINDS.get(words[at]) in (_DETERMINER, PRONOUN, REFLEXIVE)
