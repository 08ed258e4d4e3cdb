"""English words by what they can be: those who can act, other nouns, and the forms of verbs.

`english.json` has been made from WordNet 3.0 by `safegen/builtin/training/english.py`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("english.json")
# What WordNet files elsewhere, or under a commoner sense: machines and toys that act in pictures, and groups.
_MORE = """
android another builder captive child children clan climber commuter cyborg dishwasher doll duo enemies enemy ex exes
fan folk golem handmaid human hunchback mascot men mob model moderator nymph officer other others pair people police
puppet rival robot runaway scarecrow scavenger skinhead snowman somebody someone statue stripper teddy teen teens trio
woman women youth youths
"""
_ANIMALS = "crane donkey geese mice mole oxen ram robin seal stag swallow turkey turtle"
# What describes people more often than it names them.
_DESCRIBING = "adult female gay lesbian light male nude trans"
_GROUPS = """
army audience band battalion brigade bunch cast cavalry choir committee congregation couple crew crowd family flock
gang group herd horde host infantry militia mob orchestra pack patrol posse queue regiment squad staff team tribe troop
troupe
"""
GROUPS = frozenset(_GROUPS.split())
# How words for people end that are in no list, behind at least `STEM` letters; and words that end so and name nobody.
_PERSONS = "man men woman women ists mate mates bullies goer goers jacker jackers"
PERSONS, STEM = tuple(_PERSONS.split()), 3
LONG = 6  # so many letters a word for somebody has with which any other ends that names somebody
_NOBODY = """
abdomen acumen albumen animate approximate bitumen blacklist caiman cayman checklist checkmate climate cyclamen doberman
dolmen estimate fist foramen gist guesstimate heist hoist intimate joist legitimate list mist overestimate penultimate
playlist primate regimen shortlist specimen stalemate stamen sublimate talisman twist ultimate underestimate waist wrist
"""
NOBODY = frozenset(_NOBODY.split())
HISSING = ("s", "x", "z", "ch", "sh", "o")  # how words end that take *-es*
PLURALS = frozenset({"people", "men", "women", "children", "police", "mice", "geese", "oxen", "folk"})


def regular_forms(verb: str) -> dict[str, str]:
    """Form a verb as most verbs are formed: its *-s*, *-ing* and *-ed*; doubled letters count as irregular."""
    soft = len(verb) > 1 and verb.endswith("y") and verb[-2] not in "aeiou"
    hissing = verb.endswith(HISSING)
    stem = verb[:-1] if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) else verb
    return {
        "s": verb[:-1] + "ies" if soft else verb + ("es" if hissing else "s"),
        "ing": stem + "ing",
        "ed": verb[:-1] + "ied" if soft else verb + "d" if verb.endswith("e") else verb + "ed",
    }


@functools.cache
def _lists() -> Mapping[str, frozenset[str]]:
    words = {name: text.split() for name, text in json.loads(FILE.read_text(encoding="utf-8")).items()}
    forms = [regular_forms(verb) for verb in words["verbs"]]
    moves = set(words["moves"])
    moving = {form for verb in moves for form in regular_forms(verb).values()}
    moving |= {
        form for form, verb in zip(words["irregular"][::2], words["irregular"][1::2], strict=True) if verb in moves
    }
    irregular = words["irregular"][::2]
    found = {ending: {form[ending] for form in forms} for ending in ("s", "ing", "ed")}
    found["ing"] |= {form for form in irregular if form.endswith("ing")}
    found["ed"] |= {form for form in irregular if not form.endswith("ing")}
    found |= {"": set(words["verbs"]), "nouns": set(words["nouns"])}
    found |= {name: set(words[name]) for name in ("bodies", "buildings", "clothes", "holders", "things")}
    found |= {"adjectives": {*words["adjectives"], *_DESCRIBING.split()}, "moves": moves | moving}
    found |= {"people": {*words["people"], *_MORE.split(), *GROUPS}, "animals": {*words["animals"], *_ANIMALS.split()}}
    return {name: frozenset(some) for name, some in found.items()}


def is_form(word: str, ending: str) -> bool:
    """Tell whether a word can be a verb's form in *s*, *ing* or *ed*, or the verb itself (``""``)."""
    return word in _lists()[ending]


def moves(word: str) -> bool:
    """Tell whether a form of a verb says first of all how somebody moves."""
    return word in _lists()["moves"]


def is_noun_first(word: str) -> bool:
    """Tell whether a form of a verb is more often a noun."""
    return any(single in _lists()["nouns"] for single in singulars(word))


def is_person(noun: str) -> bool:
    """Tell whether a noun names somebody, or a group of people, one or more of them."""
    noun = noun.lstrip("0123456789")  # *1girl*
    people, singles = _lists()["people"], singulars(noun)
    return any(word in people for word in singles) or (_ends_as_person(noun) and NOBODY.isdisjoint(singles))


def _ends_as_person(noun: str) -> bool:
    """Tell whether a noun is made of another word and one for somebody, as *snowman* is; *exists* is a verb."""
    if any(is_form(noun, form) for form in ("", "s", "ed")) or is_adjective(noun) or _is_in("things", noun):
        return False
    ends = (one[i:] for one in singulars(noun) for i in range(STEM, len(one) - LONG + 1))
    return any(noun.endswith(end) and len(noun) >= len(end) + STEM for end in PERSONS) or any(
        end in _lists()["people"] for end in ends
    )


def is_being(noun: str) -> bool:
    """Tell whether a noun names somebody or an animal, one or more of them."""
    animals = _lists()["animals"]
    return is_person(noun) or any(word in animals for word in singulars(noun))


def is_body(noun: str) -> bool:
    """Tell whether a noun names a part of a body."""
    return _is_in("bodies", noun)


def is_worn(noun: str) -> bool:
    """Tell whether a noun may name something to wear."""
    return _is_in("clothes", noun)


def is_thing(noun: str) -> bool:
    """Tell whether a noun names a thing or a place: nobody, no part of a body, and nothing that cannot be seen."""
    return _is_in("things", noun) and not is_being(noun)


def is_adjective(word: str) -> bool:
    """Tell whether a word is more often an adjective than a noun, and no form of a verb."""
    return word in _lists()["adjectives"]


def is_building(noun: str) -> bool:
    """Tell whether a noun names a building, a memorial or a barrier: nobody stands on it."""
    return _is_in("buildings", noun)


def holds(noun: str) -> bool:
    """Tell whether a noun names a thing in which, or on which, other things are, and nobody stands."""
    return _is_in("holders", noun)


def _is_in(name: str, noun: str) -> bool:
    return any(word in _lists()[name] for word in singulars(noun))


def alone(noun: str) -> str:
    """Say a noun alone as one says it: one of them, with its article."""
    single = next((word for word in reversed(singulars(noun)) if is_being(word)), noun)
    return single if is_plural(single) else f"a {single}"


def is_plural(noun: str) -> bool:
    """Tell whether a noun looks plural."""
    return (
        noun in PLURALS or noun.endswith(("men", "women")) or (noun.endswith("s") and not noun.endswith(("ss", "us")))
    )


def singulars(noun: str) -> tuple[str, ...]:
    """Give what a noun may be the plural of, and the noun itself."""
    ways = [noun]
    for plural, single in (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("men", "man"), ("es", ""), ("s", "")):
        stem = noun.removesuffix(plural)
        if noun.endswith(plural) and len(stem) > 1 and (plural != "es" or stem.endswith(HISSING)):
            ways.append(stem + single)
    return tuple(ways)
