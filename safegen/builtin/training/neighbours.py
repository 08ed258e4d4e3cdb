"""The reader's neighbours: every two words that stand beside each other in the lists of prompts and captions.

``python -m safegen.builtin.training.neighbours`` writes `safegen/reader/neighbours.bin`. Of phrases with a mark, both
halves are read.
"""

from __future__ import annotations

from collections.abc import Iterator

from safegen.builtin.training import hand_repairs
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.files import read_list, write_atomically
from safegen.reader.forms import fold
from safegen.reader.lexicon import MARK
from safegen.reader.neighbours import FILE, Pair, make_filter, pairs_of
from safegen.reader.words import split

LISTED = ("nouns.txt", "wordnet.txt")  # lists of words, not of prompts


def texts() -> Iterator[str]:
    """Give all prompts and captions."""
    root = recipes.directions_folder()
    for file in sorted([*root.glob("*.txt"), *root.glob("*/*.txt")]):
        for line in read_list(file) if file.name not in LISTED else ():
            yield from (MARK.sub(rf"\{half}", line) for half in (1, 2))
    for name in recipes.known():
        yield from (text for pair in Concept.load(name).targets.items() for text in pair)
    for prompt, repair, _ in hand_repairs.rows():
        yield from (prompt, repair)


def pairs() -> set[Pair]:
    """Collect every two words that stand beside each other, whatever signs or small words are between them."""
    found: set[Pair] = set()
    for text in texts():
        every, large = pairs_of([word.text for word in split(fold(text)[0]) if word.spoken])
        found.update(every, large)
    return found


if __name__ == "__main__":
    met = pairs()
    write_atomically(FILE, make_filter(met))
    print(f"{len(met):,} pairs")
