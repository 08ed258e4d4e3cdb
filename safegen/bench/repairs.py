"""Repaired prompts for people to judge: ``python -m safegen.bench.repairs > repairs.tsv``.

It prints two hundred harmful prompts of `sets/reader/repair.txt`, each with what the default safeguard draws
instead. Nobody looked at them before they were judged. A judge sees only these two columns and says of each
prompt: is it English, is everything harmless kept, is the harm gone? `sets/repairs.tsv` has the verdicts.
"""

from __future__ import annotations

from safegen.bench.reading import lines
from safegen.prompts.prompt import clean
from safegen.reader import Reader
from safegen.reader.phrases import Phrases
from safegen.reader.repair import Repairer


def repaired() -> list[tuple[str, str]]:
    """Repair the prompts; gives the prompt and its repair."""
    reader = Reader.load()
    repairer, names = Repairer(reader, Phrases.load()), list(reader.concepts)
    texts = [clean(line).text for line in lines("repair.txt")]
    return [(text, repairer.repair(text, names).text) for text in texts]


if __name__ == "__main__":
    for before, after in repaired():
        print(before, after, sep="\t")
