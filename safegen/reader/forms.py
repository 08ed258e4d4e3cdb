"""The forms in which a text can be read: as it stands, and with its disguises undone.

All letters are folded to plain ones, and the place of each in the text is kept. What is not an English word then is
tried as a word in disguise: spaced out, hyphenated, with digits or signs for letters, or with a letter doubled,
swapped, dropped or replaced. So are two English words with a hyphen between them that together are a harmful one.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import lru_cache

from safegen.reader import english
from safegen.reader.grammar import DETERMINERS, LEADING, WORDS, agree
from safegen.reader.words import PICTOGRAPHS, Word, split

# Letters of other scripts that look like Latin ones.
_LOOKALIKES = dict(
    zip(
        "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u043a\u043c\u0442\u043d\u0432\u0433\u0501\u051b\u051d"
        "\u03b1\u03b2\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7\u0131\u0251\u0261\u0269\u1d0f\u1d00\u1d07\u1d1b\u0280\u0274",
        "aeopcyxijskmthbrdqwabeiknoptuxiagioaetrn",
        strict=True,
    )
)
_FIGURES = str.maketrans("0134578@$!|+\u20ac\u00a3", "oieastbasilteL".lower())
_SIGNS = "@$!|+\u20ac\u00a3"
_LEET = re.compile(rf"[^\W_]*[\d{re.escape(_SIGNS)}][\w{re.escape(_SIGNS)}]*")
_SPACED = re.compile(r"(?<![^\W_])(?:[^\W_][\s.\-_*]+){2,}[^\W_](?![^\W_])")
_BROKEN = re.compile(r"(?:[^\W_]+[\-.*_\u00b7\u2010-\u2015])+[^\W_]+")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
MIXED = 0.5  # share of a word's letters from which on folding it to Latin makes sense


def fold(text: str) -> tuple[str, list[int]]:
    """Fold a text to plain lower-case letters; give it with the place of every letter in the text.

    Invisible characters and accents are removed. Look-alikes become Latin in a word that has Latin letters, or that
    has only look-alikes. Pictographs become their names.
    """
    if text.isascii() and text.isprintable():
        return text.lower(), list(range(len(text)))
    letters, places = [], []
    for place, character in enumerate(text):
        for letter in _plain(character):
            letters.append(letter)
            places.append(place)
    plain = "".join(letters)
    for match in re.finditer(r"[^\W\d_]+", plain):
        word = match.group()
        latin = sum(c in _LETTERS for c in word)
        if not word.isascii() and (latin or all(c in _LOOKALIKES for c in word)):
            letters[match.start() : match.end()] = [_LOOKALIKES.get(c, c) for c in word]
    return "".join(letters), places


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    kind = unicodedata.category(character)
    if character.isspace() or kind in ("Zl", "Zp"):
        return " "
    if kind[0] == "C":
        return ""
    if kind == "So":
        name = unicodedata.name(character, "").lower().replace("hocho", "kitchen knife")
        return f" {re.sub('[^a-z ]', ' ', name)} " if name else " "
    parts = unicodedata.normalize("NFKD", character).casefold()
    return "".join(c for c in parts if unicodedata.category(c)[0] != "M")


def spell_pictographs(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Put their names, as English has them, in the place of the pictographs in some spans; joined ones are one."""
    for match in reversed(list(PICTOGRAPHS.finditer(text))):
        if any(start < match.end() and end > match.start() for start, end in spans):
            before, behind = text[: match.start()], text[match.end() :]
            text = f"{before}{_spelled(match.group()[0], before)}{' ' if behind[:1].isalnum() else ''}{behind}"
    return text


def _spelled(pictograph: str, before: str) -> str:
    """Name a pictograph so that it can stand behind a text."""
    name = " ".join(_plain(pictograph).split()).removesuffix(" face")
    last = before.rstrip().rpartition(" ")[2].lower()
    gap = " " if before[-1:].isalnum() else ""
    if last in DETERMINERS | WORDS["count"] or last.isdigit() or english.is_adjective(last):
        return gap + name
    joint = "and " if last[-1:].isalnum() and last not in LEADING else ""
    return gap + joint + agree(f"a {name}")


def folded(words: Sequence[Word]) -> list[Word]:
    """Spell words as the reader reads them, with plain apostrophes."""
    return [Word(fold(word.text)[0].replace("\u2019", "'") or word.text, word.span) for word in words]


def spellings(text: str) -> set[str]:
    """Give the folded text, also with spaced letters joined, and each of both with figures read as letters."""
    lower = fold(text)[0]
    joined = _SPACED.sub(lambda m: re.sub(r"[\s.\-_*]+", "", m.group()), lower)
    return {form for base in (lower, joined) for form in (base, base.translate(_FIGURES))}


class Undoing:
    """A finder of words in disguise.

    Args:
        known: every word that is no disguise.
        sought: words that carry harm; misspelt words are compared with these.
    """

    def __init__(self, known: Collection[str], sought: Collection[str]) -> None:
        self.known, self.sought = known, sought
        self._single = {_once(word): word for word in sought}
        self._respelled = lru_cache(maxsize=1 << 14)(self._spelled)

    def words(self, text: str) -> list[Word] | None:
        """Split a folded text into words with disguises undone; None where there are no disguises."""
        found: list[Word] = []
        for pattern, undo in ((_SPACED, self._joined), (_BROKEN, self._closed), (_LEET, self._lettered)):
            for match in pattern.finditer(text):
                if (plain := undo(match.group())) and not any(_meet(match.span(), w.span) for w in found):
                    found.append(Word(plain, match.span()))
        words = split(text)
        for word in words:
            if not (word.text.isalpha() and word.text.isascii() and len(word.text) > 3) or word.text in self.known:
                continue
            if other := self._respelled(word.text):
                found.append(Word(other, word.span))
        if not found:
            return None
        rest = [word for word in words if not any(_meet(word.span, w.span) for w in found)]
        return sorted([*rest, *found], key=lambda word: word.span)

    def _joined(self, text: str) -> str:
        whole = re.sub(r"[\s.\-_*]+", "", text).translate(_FIGURES)
        # An article before the word is spaced like its letters.
        tried = [whole, whole[1:]] if whole[0] in "ai" else [whole]
        return next((w for w in tried if w in self.known), "") or next(filter(None, map(self._respelled, tried)), "")

    def _closed(self, text: str) -> str:
        parts = re.split(r"[\-.*_\u00b7\u2010-\u2015]", text)
        whole = "".join(parts)
        plain = all(part in self.known for part in parts)  # as in "a well-lit room", and in "a pick-pocket"
        hidden = not plain or (whole in self.sought and len(parts) == 1 + text.count("-"))
        return whole if hidden and whole in self.known else ""

    def _lettered(self, text: str) -> str:
        whole = text.translate(_FIGURES)
        if not any(c in _LETTERS for c in text) or not whole.isalpha():
            return ""
        return whole if whole in self.known else self._respelled(whole)

    def _spelled(self, word: str) -> str:
        single = _once(word)
        if (doubled := self._single.get(single, word)) != word:
            return doubled
        for other in (single, *_halved(word)):
            if other in self.known and other != word:
                return other
        return next((other for other in _slips(word) if other in self.sought), "") if len(word) > 4 else ""


def _once(word: str) -> str:
    """Write each run of a letter once."""
    return "".join(letter for letter, _ in itertools.groupby(word))


def _halved(word: str) -> Sequence[str]:
    """Leave out one letter of each pair, and shorten longer runs to two."""
    pairs = [i for i in range(len(word) - 1) if word[i] == word[i + 1]]
    short = re.sub(r"(.)\1{2,}", r"\1\1", word)
    return [*(word[:i] + word[i + 1 :] for i in pairs), *([short] if short != word else [])]


def _slips(word: str) -> list[str]:
    """Undo one slip in every way: letters swapped, extra, wrong or missing; the first letter counts as right."""
    cuts = range(1, len(word) + 1)
    swapped = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(1, len(word) - 1)]
    dropped = [word[:i] + word[i + 1 :] for i in range(1, len(word))]
    wrong = [word[:i] + c + word[i + 1 :] for i in range(1, len(word)) for c in _LETTERS]
    missing = [word[:i] + c + word[i:] for i in cuts for c in _LETTERS]
    return [*swapped, *dropped, *wrong, *missing]


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and one[1] > other[0]
