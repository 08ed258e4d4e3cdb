"""The kind of each word of a prompt, told by its form and its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from safegen.reader import english
from safegen.reader.grammar import WORDS
from safegen.reader.kinds import (
    ADVERB,
    AND,
    CALLED,
    CAUSING,
    COMPOUNDS,
    DESCRIBING,
    DETERMINER,
    DO,
    DOES,
    DOING,
    DONE,
    HELPING,
    KINDS,
    LINK,
    MODALS,
    NOT_ADVERBS,
    NOUN,
    ONLY_SUBJECTS,
    PAIRS,
    PLACE,
    PRONOUN,
    REFLEXIVE,
    SIGN,
    SUBJECTS,
    TO_DO,
    VERBS,
)


def kind_of(words: Sequence[str], at: int, before: Sequence[str]) -> str:
    """Tell what a word is, from itself, the kinds of the words before it, and the next word."""
    word, then = words[at], words[at + 1] if at + 1 < len(words) else ","
    last, previous = (before[-1], words[at - 1]) if before else (SIGN, ",")
    mutual = (word, then) == ("each", "other") or (previous, word) == ("each", "other")
    purpose = english.is_form(then, "") and (not english.is_noun_first(then) or _is_aim(words, at + 2))
    begins = last == DETERMINER or (last == SIGN and not english.is_form(then, "ing"))
    cases = (
        (_is_compound_adverb(words, at, before), ADVERB),
        (word == "," and list(before[-2:]) == [DETERMINER, NOUN] and _is_listed(previous, then), NOUN),
        (not word[0].isalnum(), NOUN if word in "-'\u2019" and last in (NOUN, DETERMINER) else SIGN),
        (previous == "-" and last == NOUN, NOUN),
        (mutual, REFLEXIVE),
        ((previous, word) == ("nothing", "on"), NOUN),
        ((word, then) in PAIRS, PLACE),
        (word == "her" and (not then[0].isalnum() or KINDS.get(then) in (PLACE, LINK, AND)), PRONOUN),
        (last == NOUN and word in ONLY_SUBJECTS, LINK),
        (word == "that" and last in (NOUN, *VERBS), LINK),
        (word == "as" and then not in SUBJECTS and KINDS.get(then) != PRONOUN and not _begins(words, at + 1), PLACE),
        (word in ("after", "till") and (then in SUBJECTS or then in ONLY_SUBJECTS), LINK),
        (word == "to" and purpose, HELPING),
        (word == "about" and then != "to", PLACE),
        (word == "having" and last in (NOUN, PRONOUN), DOING),
        (KINDS.get(word) == ADVERB and last == DETERMINER, NOUN),
        (word in KINDS, KINDS.get(word, "")),
        (last in VERBS and english.is_adjective(word) and (not then[0].isalnum() or then in KINDS), ADVERB),
        (_is_adverb(word), NOUN if begins else ADVERB),
    )
    return next((kind for holds, kind in cases if holds), "") or _verb(words, at, before) or NOUN


def _is_compound_adverb(words: Sequence[str], at: int, before: Sequence[str]) -> bool:
    """Tell whether a word or sign is part of a compound that says how somebody does something: *stands half-awake*.

    A dash between two parts of a prompt looks the same, so the word before it may not be a small word, a being, a
    plural or a verb.
    """
    hyphen = next((i for i in (at - 1, at, at + 1) if words[i : i + 1] == ["-"]), 0)
    if hyphen < 2 or hyphen + 1 >= len(words) or "-" in (words[hyphen - 2], *words[hyphen + 2 : hyphen + 3]):
        return False
    one, other = words[hyphen - 1], words[hyphen + 1]
    then, further = (words[i] if i < len(words) else "," for i in (hyphen + 2, hyphen + 3))
    shaped = other.endswith("ed") and len(other) > 4 and not english.is_noun_first(other)
    described = KINDS.get(other, ADVERB) == ADVERB and (other in KINDS or english.is_adjective(other) or shaped)
    apart = one in KINDS or english.is_being(one) or english.is_plural(one) or english.is_form(one, "s")
    ends = (not then[0].isalnum() and not (then == "," and _is_listed(other, further))) or then in KINDS
    return described and not apart and ends and before[hyphen - 2] in (*VERBS, ADVERB)


def _is_adverb(word: str) -> bool:
    return word.endswith("ly") and len(word) > 4 and word not in NOT_ADVERBS and not english.is_form(word, "")


def _verb(words: Sequence[str], at: int, before: Sequence[str]) -> str:
    """Tell which form of a verb a word is here; nothing where it is none."""
    word, then = words[at], words[at + 1] if at + 1 < len(words) else ","
    said = next((i for i in range(at - 1, -1, -1) if before[i] != ADVERB), -1)
    last, subject = (before[said], words[said]) if said >= 0 else (SIGN, "")
    aims, ends = _is_aim(words, at + 1), not then[0].isalnum() and then != "-"
    single = english.is_form(word, "s") and said > 0 and before[said - 1] == DETERMINER
    acted = english.is_form(word, "ing") or (single and not english.is_plural(subject))
    painting = acted and english.is_person(subject) and not ends and then not in KINDS
    noun = english.is_noun_first(word) and not painting
    goes_on = ends or KINDS.get(then) in (PLACE, LINK, AND, ADVERB) or then.endswith("ly")
    bare = english.is_adjective(then) and (at + 2 == len(words) or words[at + 2] in KINDS)  # tied nude
    named = last == NOUN and (english.is_being(subject) or english.is_plural(subject))
    plain = last == NOUN and word not in COMPOUNDS and not subject.endswith(DESCRIBING)
    acting = named or plain or last in (PRONOUN, HELPING, AND)
    behind = last == PLACE and subject in WORDS["particle"] and list(before[-2:-1]) in ([DONE], [DOING])
    named_or_described = english.is_being(word) or english.is_adjective(word)
    relative = last == LINK and subject in SUBJECTS and not named_or_described
    caused = last in (NOUN, PRONOUN, REFLEXIVE) and _cause(words, before) and (aims or goes_on)
    does = aims or (not noun and (KINDS.get(then) == PLACE or english.is_being(subject)) and not ends)
    both = english.is_being(word) and not english.is_being(subject)
    does = does and (aims or not (both or _is_open(words, before)))
    ing = english.is_form(word, "ing") or (word.endswith("ing") and len(word) > 6 and last == NOUN)
    one = (last == NOUN or subject in SUBJECTS) and not english.is_plural(subject)
    many = relative or subject in ("they", "we", "you") or (last == NOUN and english.is_plural(subject))
    ed = english.is_form(word, "ed") or (word.endswith("ed") and len(word) > 4 and named)
    called = named and word in CALLED
    done = ed and (last == HELPING or goes_on or called or (named and bare) or (aims and last == NOUN))
    cases = (
        (last == DETERMINER or subject.endswith("'s") or _is_quoted(words[:at], before), ""),
        (last == NOUN and not aims and _leads(words, at - 1, before), ""),
        (last == HELPING and subject == "to" and english.is_form(word, ""), TO_DO),
        (last == HELPING and subject in MODALS and english.is_form(word, ""), DO),
        (ing and behind, DOING),
        (ing, DOING if at and (aims or (not noun and (acting or goes_on))) else ""),
        (done, DONE if not noun or last == HELPING or named else ""),
        (english.is_form(word, "s") and one, DOES if does or subject in SUBJECTS else ""),
        (english.is_form(word, "") and caused, DO),
        (english.is_form(word, "") and many, DO if aims or relative or (not noun and not ends) else ""),
    )
    return next((kind for holds, kind in cases if holds), "")


def _cause(words: Sequence[str], before: Sequence[str]) -> bool:
    """Tell whether the last noun is somebody who is made or seen to do something."""
    named = itertools.takewhile(lambda kind: kind in (DETERMINER, NOUN, PRONOUN, REFLEXIVE), reversed(before))
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
        itertools.takewhile(lambda pair: pair[1] in (DETERMINER, NOUN), zip(words[::-1], before[::-1], strict=True))
    )
    return any(pair == ("no", DETERMINER) for pair in phrase[:-1])


def _begins(words: Sequence[str], at: int) -> bool:
    """Tell whether a clause begins here: somebody, and what they do."""
    phrase = list(itertools.takewhile(lambda word: KINDS.get(word, DETERMINER) == DETERMINER, words[at : at + 5]))
    pairs = ((noun, word) for noun, word in itertools.pairwise(phrase) if english.is_being(noun))
    return any(english.is_form(word, "" if english.is_plural(noun) else "s") for noun, word in pairs)


def _describes(word: str) -> bool:
    """Tell whether a word describes a noun, and is none."""
    described = english.is_form(word, "ed") or english.is_form(word, "ing") or word.endswith(DESCRIBING)
    return described and not (english.is_being(word) or english.is_thing(word))


def _is_listed(one: str, other: str) -> bool:
    """Tell whether two words with a comma between them may describe the same noun: *a small, painted chair*."""
    shaped = (english.is_form(one, "ed") or english.is_form(one, "ing")) and not english.is_noun_first(one)
    return (shaped or english.is_adjective(one)) and (english.is_adjective(other) or _describes(other))


def _is_aim(words: Sequence[str], at: int) -> bool:
    """Tell whether what a deed is done to begins here."""
    if at >= len(words) or words[at] in ONLY_SUBJECTS:
        return False
    return KINDS.get(words[at]) in (DETERMINER, PRONOUN, REFLEXIVE)
