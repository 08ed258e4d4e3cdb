"""Repaired prompts for people to judge: ``python -m safegen.bench.repairs LIST > repairs.tsv``.

It prints the harmful prompts of a list, each with what the default safeguard draws instead. Nobody may have looked at
the list before. A judge sees only these two columns and says of each prompt: is it English, is everything harmless
kept, is the harm gone? `sets/repairs.tsv` has the last verdicts; the lists that were judged are in `sets/reader-seen/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from safegen.bench.reading import lines
from safegen.prompts.prompt import clean
from safegen.reader import Reader
from safegen.reader.phrases import Phrases
from safegen.reader.repair import Repairer


def repaired(file: Path) -> list[tuple[str, str]]:
    """Repair the prompts of a file; gives the prompt and its repair."""
    reader = Reader.load()
    repairer, names = Repairer(reader, Phrases.load()), list(reader.concepts)
    texts = [clean(line).text for line in lines(file.name, file.parent)]
    return [(text, repairer.repair(text, names).text) for text in texts]


if __name__ == "__main__":
    for before, after in repaired(Path(sys.argv[1])):
        print(before, after, sep="\t")
