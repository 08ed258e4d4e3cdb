"""Harmless English from WordNet: sentences of every kind, and nouns that no list of ours would have.

A reader that knows only prompts takes everything unknown to it for harm. WordNet 3.0 (Princeton, free to use with its
notice; Debian's package ``wordnet-base``) is as far from prompts as English gets. It is read if it is installed.
`directions/wordnet.txt` lists, by synset and number, what is harmful or was not looked at; that is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from safegen.builtin.world import with_article

EXAMPLE = re.compile(r'"([^"]+)"')
FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
LONGEST = 30  # words of a sentence, at most
NAMES = ("15", "18")  # lexicographers' files of places and people; their nouns are mostly names


def harmless(folder: Path, left_out: frozenset[str]) -> tuple[list[str], list[str]]:
    """Read harmless sentences, and harmless nouns with an article.

    Args:
        folder: the folder with WordNet's ``data.noun`` and the like.
        left_out: keys of entries that are not harmless, as `entries` gives them.
    """
    sentences, nouns = [], []
    for key, text in entries(folder):
        if key in left_out:
            continue
        if key.endswith("w"):
            nouns.append(with_article(text))
        else:
            sentences.append(text)
    return sentences, nouns


def entries(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every sentence and every noun with its key: part of speech, synset, and a number or ``w``."""
    for letter, part in FILES.items():
        for line in (folder / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):  # the licence
                continue
            head, _, gloss = line.partition(" | ")
            synset, kind, _, _, word, *_ = head.split()
            for number, sentence in enumerate(EXAMPLE.findall(gloss)):
                if 2 <= len(sentence.split()) <= LONGEST:
                    yield f"{letter}{synset}.{number}", sentence
            if part == "noun" and kind not in NAMES and not word[0].isupper():
                yield f"n{synset}.w", word.replace("_", " ")
