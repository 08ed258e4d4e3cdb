"""Lessons for the reader's third head: verbs, nouns and adjectives, as Link Grammar parses text.

A repair has to know the part of speech that it replaces: *clubs* is a verb in one prompt and a noun in another.
Link Grammar (Sleator and Temperley 1991; Debian's `link-grammar`, if installed) tells them apart in sentences that
it can parse whole, and only those are taught.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from safegen.builtin.training.reader_texts import JOINTS, Sample, window
from safegen.reader import grammar
from safegen.reader.words import split

SETTINGS = ("graphics=0", "limit=200", "verbosity=1", "constituents=3", "spell=0", "timeout=2")
LEAST, MOST = 3, 26  # words of a text that is parsed
TEXTS = 60_000  # texts to parse, at most; a thousand take about a second
JOINED = 0.4  # share of samples that are two texts
FINITE = 0.5  # share of texts drawn only from those with a finite verb, since such verbs look like nouns
UNKNOWN = -1  # the label of a word whose part of speech is not known
_TOKEN = re.compile(r"\((?:[A-Z]+)?|\)|[^\s()]+")
_TAG = re.compile(r"(.+?)(?:\{[^}]*\})?(?:\.([a-z]+)(?:-[a-z]+)?)?$")
_KINDS = {**dict.fromkeys("nsl", "noun"), **dict.fromkeys(("v", "w", "q", "g"), "verb"), "a": "adjective"}


def parsed(texts: Sequence[str], rng: random.Random) -> list[Sample]:
    """Parse texts; give those that parse whole.

    Every word of theirs has a tag, an index into `grammar.TAGS`. Without a parser the list is empty.
    """
    parser = shutil.which("link-parser")
    if parser is None:
        return []
    fit = [text for text in dict.fromkeys(texts) if LEAST <= len(text.split()) <= MOST and text[0].isalnum()]
    some = rng.sample(fit, min(TEXTS, len(fit)))
    lines = "\n".join([*(f"!{setting}" for setting in SETTINGS), *some, ""])
    found = subprocess.run([parser, "en"], input=lines, capture_output=True, text=True, check=True).stdout  # noqa: S603
    trees = (line for line in found.splitlines() if line.startswith("("))
    return list(matched(some, trees))


def matched(texts: Sequence[str], trees: Iterator[str]) -> Iterator[Sample]:
    """Yield a sample for each text that has a whole parse.

    Some texts have no tree, so a tree finds its text by its letters.
    """
    waiting = {letters(text): text for text in texts}
    for tree in trees:
        if "{" in tree.replace("{?}", "").replace("{!}", ""):  # a word was left out
            continue
        leaves = [_TAG.fullmatch(token) for token in _TOKEN.findall(tree) if token[0] not in "()"]
        pairs = [(match[1], _KINDS.get(match[2] or "", "other")) for match in leaves if match]
        text = waiting.get(letters("".join(word for word, _ in pairs)))
        if text is not None:
            yield tags_of(text, pairs)


def letters(text: str) -> str:
    """Reduce a text to what a parser keeps: no spaces, no signs, no capitals."""
    return "".join(letter for letter in text.lower() if letter.isalnum())


def tags_of(text: str, pairs: Sequence[tuple[str, str]]) -> Sample:
    """Lay a parser's words over the reader's, letter by letter."""
    kinds = [grammar.TAGS.index(kind) for word, kind in pairs for _ in letters(word)]
    sample, at = Sample(), 0
    for word in split(text):
        count = len(letters(word.text))
        sample.words.append(word.text)
        sample.labels.append(kinds[at] if count and at < len(kinds) else UNKNOWN)
        at += count
    other, verb, _, adjective = range(len(grammar.TAGS))
    # A noun without an article at the start of a prompt is often parsed as an imperative.
    if sample.labels[0] == verb and not grammar.acts(sample.words[0]):
        sample.labels[0] = UNKNOWN
    for i in range(1, len(sample.labels) - 1):
        led = sample.words[i - 1].lower() in grammar.DETERMINERS and sample.labels[i + 1] != other
        if sample.labels[i] == verb and led:  # a ruined mill
            sample.labels[i] = adjective
    return sample


class Parses:
    """Parsed texts, and windows drawn from them."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.finite = [sample for sample in samples if any(map(finite, sample.words, sample.labels))] or samples

    def __len__(self) -> int:
        return len(self.samples)

    def sample(self, rng: random.Random) -> Sample:
        """Draw a window of one parsed text, or of two."""
        one = self.text(rng)
        if rng.random() < JOINED:
            two, sign = self.text(rng), [word.text for word in split(rng.choice(JOINTS[:6]))]
            one = Sample([*one.words, *sign, *two.words], [*one.labels, *[UNKNOWN] * len(sign), *two.labels])
        return window(one, rng.random())

    def text(self, rng: random.Random) -> Sample:
        """Draw one whole text."""
        return rng.choice(self.finite if rng.random() < FINITE else self.samples)


def finite(word: str, label: int) -> bool:
    """Tell whether a word is a verb whose ending does not show that it is one."""
    small = grammar.WORDS["link"] | {"be", "been", "has", "have"}
    return label == grammar.TAGS.index("verb") and not grammar.acts(word) and word.lower() not in small
