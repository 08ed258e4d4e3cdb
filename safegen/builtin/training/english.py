"""The reader's English: who can act, what else nouns name, and the forms of verbs, from WordNet 3.0.

``python -m safegen.builtin.training.english`` writes `safegen/reader/english.json`, with which a repair reads the
grammar of a prompt (`safegen/reader/tagging.py`). ``SAFEGEN_WORDNET`` names the folder of WordNet. Words that the
reader does not know are left out, and so are insults.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from safegen.files import write_atomically
from safegen.reader.english import FILE, regular_forms

ANIMAL, FOOD, PERSON, MOTION = "05", "13", "18", "38"  # lexicographers' files
ANIMALS = frozenset({"animal", "biological_group", "organism"})
EATEN = frozenset({"animal_material", "food"})  # what animals are filed under first that people eat or wear
# What nouns can be, as WordNet names it: something that does not live, something worn, something too high to stand on,
# something that holds others or shows them, and what has room for somebody.
LIVING = frozenset({"body_part", "causal_agent", "living_thing", "process"})
WORN = frozenset({"armor", "clothing", "disguise", "footwear", "headdress", "jewelry", "spectacles"})
BUILT = frozenset({"barrier", "building", "memorial", "mercantile_establishment"})
_HOLDING = "appliance baked_goods container electronic_equipment machine protective_covering reflector sheet"
HOLDING = frozenset(_HOLDING.split())
_ROOMY = """
adornment area body_of_water bathtub clothing cloth_covering conveyance creation establishment facility fodder furniture
geological_formation land location room structure surface way
"""
ROOMY = frozenset(_ROOMY.split())
SENSES = 4  # how many of a noun's senses are looked at, where any of them is enough that it is no body, or has room
Senses = Sequence[frozenset[str]]  # of a noun, the commonest first: what WordNet names above each
PARTS = {"1": "noun", "2": "verb", "3": "adjective", "5": "adjective"}  # of speech, as in keys of senses
# In what WordNet says of an insult.
INSULT = re.compile(r"offensive|disparag|derogat|slur|contempt|obnoxious|despi|annoying")
SHARE, SURE = 0.35, 2  # a form of a verb is a noun first if it was met so for that share of its verb, and twice more


def english(folder: Path, known: Collection[str]) -> dict[str, str]:
    """Read who can act, what else nouns name, verbs, their irregular forms, and nouns that look like forms of a verb.

    Args:
        folder: the folder with WordNet's ``index.noun`` and the like.
        known: the words worth having.
    """
    counts = _counts(folder)
    nouns, verbs = dict(_first_files(folder, "noun")), dict(_first_files(folder, "verb"))
    kinds = {noun: senses for noun, senses in _kinds(folder) if noun in known}

    def is_adjective_first(noun: str) -> bool:
        return counts["adjective", noun] > counts["noun", noun]

    def is_adjective(word: str) -> bool:
        return word in known and word not in forms and counts["adjective", word] >= counts["noun", word]

    irregular = [line.split()[:2] for line in _lines(folder / "verb.exc")]
    kept = sorted(verb for verb in verbs if verb in known or not set(regular_forms(verb).values()).isdisjoint(known))
    forms = {form: verb for verb in kept for form in regular_forms(verb).values()} | dict(irregular)
    return {
        "people": _sorted(noun for noun in known if nouns.get(noun) == PERSON and not is_adjective_first(noun)),
        "animals": _sorted(
            noun for noun in kinds if not is_adjective_first(noun) and _is_animal(kinds[noun], nouns.get(noun))
        ),
        **_named(kinds, nouns),
        "adjectives": _sorted(word for word in _words(folder, "adj") if is_adjective(word)),
        "verbs": " ".join(kept),
        "moves": " ".join(verb for verb in kept if verbs[verb] == MOTION),
        "irregular": " ".join(f"{form} {verb}" for form, verb in irregular if verb in kept and "_" not in form),
        "nouns": _sorted(
            [verb for verb in kept if counts["noun", verb] > counts["verb", verb]]
            + [noun for noun in nouns if noun in forms and _is_noun_first(counts, noun, forms[noun])]
            + [noun for noun in nouns if noun.endswith("ing") and noun in known and noun not in forms]
        ),
    }


def _named(kinds: Mapping[str, Senses], files: Mapping[str, str]) -> dict[str, str]:
    """Sort nouns, given what their senses are, by what else they name than people and animals."""

    def is_any(noun: str, some: Collection[str]) -> bool:
        return any(not sense.isdisjoint(some) for sense in kinds[noun][:SENSES])

    bodies = {noun for noun, (first, *_) in kinds.items() if "body_part" in first and not is_any(noun, {"artifact"})}
    things = {noun for noun, (first, *_) in kinds.items() if "physical_entity" in first and LIVING.isdisjoint(first)}
    holders = {noun for noun in kinds if files.get(noun) == FOOD or is_any(noun, HOLDING)}
    return {
        "bodies": _sorted(bodies),
        "clothes": _sorted(noun for noun, senses in kinds.items() if not WORN.isdisjoint(frozenset().union(*senses))),
        "things": _sorted(things - bodies),
        "buildings": _sorted(noun for noun in kinds if is_any(noun, BUILT) and "location" not in kinds[noun][0]),
        "holders": _sorted(noun for noun in holders if not is_any(noun, ROOMY)),
    }


def _is_animal(senses: Senses, file: str | None) -> bool:
    """Tell whether a noun names an animal before all, or its meat or skin and then the animal."""
    first, *more = senses
    eaten = not EATEN.isdisjoint(first) and any("animal" in sense for sense in more[:2])
    return eaten or (file == ANIMAL and not ANIMALS.isdisjoint(first))


def _sorted(words: Iterable[str]) -> str:
    return " ".join(sorted(words))


def _words(folder: Path, part: str) -> Iterator[str]:
    """Yield every single word of a part of speech."""
    return (word for line in _lines(folder / f"index.{part}") if (word := line.split()[0]).isalpha())


def _first_files(folder: Path, part: str) -> Iterator[tuple[str, str]]:
    """Yield every single word of a part of speech, with the file of its commonest sense; no names, and no insults."""
    lines = {line[:8]: line for line in _lines(folder / f"data.{part}")}
    for line in _lines(folder / f"index.{part}"):
        word, _, senses, *rest = line.split()
        sense = lines[rest[-int(senses)]]
        if word.isalpha() and " @i " not in sense and not (part == "noun" and INSULT.search(sense)):
            yield word, sense[9:11]


def _kinds(folder: Path) -> Iterator[tuple[str, Senses]]:
    """Yield every single noun with what its commonest senses are: all that WordNet names above each of them."""
    names, above = {}, {}
    for line in _lines(folder / "data.noun"):
        sense, _, _, count, *rest = line.split(" | ")[0].split()
        names[sense] = rest[0].lower()
        pointers = rest[2 * int(count, 16) + 1 :]
        above[sense] = [to for sign, to in zip(pointers[::4], pointers[1::4], strict=False) if sign in ("@", "@i")]

    @functools.cache
    def kinds(sense: str) -> frozenset[str]:
        return frozenset({names[sense]}).union(*map(kinds, above[sense]))

    for line in _lines(folder / "index.noun"):
        word, _, senses, *rest = line.split()
        if word.isalpha():
            yield word, [kinds(sense) for sense in rest[-int(senses) :]]


def _counts(folder: Path) -> Mapping[tuple[str, str], int]:
    """Count how often each word was met as each part of speech."""
    found: Counter[tuple[str, str]] = Counter()
    for line in _lines(folder / "cntlist.rev"):
        key, _, count = line.split()
        word, _, sense = key.partition("%")
        found[PARTS.get(sense[0], ""), word] += int(count)
    return found


def _is_noun_first(counts: Mapping[tuple[str, str], int], noun: str, verb: str) -> bool:
    return counts["noun", noun] >= SHARE * counts["verb", verb] + SURE


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


if __name__ == "__main__":
    from safegen.reader import lexicon
    from safegen.reader.model import WEIGHTS

    pieces = json.loads((WEIGHTS / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = set(pieces) | lexicon.harmful_words() | lexicon.harmless_words()
    found = english(Path(os.environ["SAFEGEN_WORDNET"]), words)
    write_atomically(FILE, json.dumps(found, indent=0).encode())
