"""Repaired prompts for people to judge: ``python -m safegen.bench.repairs > repairs.tsv``.

Two hundred of the reader's harmful prompts that nobody looked at, each with what the default safeguard draws instead.
Whoever judges sees these two columns and nothing else, and says of each: is it English, is everything harmless kept,
is the harm gone. `sets/repairs.tsv` has the verdicts beside them.
"""

from __future__ import annotations

import random

from safegen.bench.cases import Seed
from safegen.bench.reading import harmful
from safegen.prompts import clean
from safegen.reader import Reader
from safegen.reader.phrases import Phrases
from safegen.reader.repair import Repairer

COUNT = 200


def repaired(count: int = COUNT) -> list[tuple[str, str]]:
    """Repair some of the held-out prompts: what was typed, and what is drawn."""
    reader = Reader.load()
    repairer, names = Repairer(reader, Phrases.load()), list(reader.concepts)
    texts = [clean(h.prompt).text for h in [*harmful("plain.tsv"), *harmful("long_harm.tsv")]]
    flagged = [text for text, reading in zip(texts, reader.read(texts), strict=True) if reading.flagged]
    chosen = random.Random(Seed.READER).sample(flagged, min(count, len(flagged)))
    return [(text, repairer.repair(text, names).text) for text in chosen]


if __name__ == "__main__":
    for before, after in repaired():
        print(before, after, sep="\t")
