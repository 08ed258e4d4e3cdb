"""The reader's English: who can act, and the forms of verbs, from WordNet 3.0.

``python -m safegen.builtin.training.english`` writes `safegen/reader/english.json`, with which a repair reads the
grammar of a prompt (`safegen/reader/chunks.py`). ``SAFEGEN_WORDNET`` names the folder of WordNet. Words that the reader
does not know are left out, and so are insults.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from safegen.files import write_atomically
from safegen.reader.english import FILE, regular_forms

ANIMAL, PERSON = "05", "18"  # lexicographers' files
PARTS = {"1": "noun", "2": "verb", "3": "adjective", "5": "adjective"}  # of speech, as in keys of senses
INSULT = re.compile(r"offensive|disparag|derogat|slur|contempt")  # in what WordNet says of a word
SHARE, SURE = 0.35, 2  # a form of a verb is a noun first if it was met so for that share of its verb, and twice more


def english(folder: Path, known: Collection[str]) -> dict[str, str]:
    """Read who can act, verbs, their irregular forms, and nouns that look like forms of a verb.

    Args:
        folder: the folder with WordNet's ``index.noun`` and the like.
        known: the words worth having.
    """
    counts = _counts(folder)
    nouns, verbs = dict(_first_files(folder, "noun")), dict(_first_files(folder, "verb"))

    def is_adjective_first(noun: str) -> bool:
        return counts["adjective", noun] > counts["noun", noun]

    irregular = [line.split()[:2] for line in _lines(folder / "verb.exc")]
    kept = sorted(verb for verb in verbs if verb in known or not set(regular_forms(verb).values()).isdisjoint(known))
    forms = {form: verb for verb in kept for form in regular_forms(verb).values()} | dict(irregular)
    return {
        "people": _sorted(noun for noun in known if nouns.get(noun) == PERSON and not is_adjective_first(noun)),
        "animals": _sorted(noun for noun in known if nouns.get(noun) == ANIMAL and not is_adjective_first(noun)),
        "verbs": " ".join(kept),
        "irregular": " ".join(f"{form} {verb}" for form, verb in irregular if verb in kept and "_" not in form),
        "nouns": _sorted(
            [verb for verb in kept if counts["noun", verb] > counts["verb", verb]]
            + [noun for noun in nouns if noun in forms and _is_noun_first(counts, noun, forms[noun])]
            + [noun for noun in nouns if noun.endswith("ing") and noun in known and noun not in forms]
        ),
    }


def _sorted(words: Iterable[str]) -> str:
    return " ".join(sorted(words))


def _first_files(folder: Path, part: str) -> Iterator[tuple[str, str]]:
    """Yield every single word of a part of speech, with the file of its commonest sense; no names, and no insults."""
    lines = {line[:8]: line for line in _lines(folder / f"data.{part}")}
    for line in _lines(folder / f"index.{part}"):
        word, _, senses, *rest = line.split()
        sense = lines[rest[-int(senses)]]
        if word.isalpha() and " @i " not in sense and not (part == "noun" and INSULT.search(sense)):
            yield word, sense[9:11]


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
