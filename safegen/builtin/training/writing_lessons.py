"""What the writer of repairs learns from: repairs by hand, repairs that a strict reader found right, and transplants.

A transplant is a harmless text in which harmful phrases of other prompts take the place of some words; to repair it is
to write these again. It teaches what phrases harm and which words fit a place, at no cost.
"""

from __future__ import annotations

import random
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from safegen.builtin.training.filling import read_words
from safegen.builtin.training.hand_repairs import changes, rows
from safegen.builtin.training.ranking import VERDICTS, WRITTEN
from safegen.builtin.training.reader_lists import Shape, harmless_lists, listed, shape
from safegen.reader import Reader
from safegen.reader.forms import folded
from safegen.reader.groups import groups
from safegen.reader.minors import names_minor
from safegen.reader.words import Word, split
from safegen.reader.writing import BEGIN, CLOSE, DONE, LONGEST, SIGNS, Stage

# Words that may mean somebody under age; those of the prompt may be said again.
_YOUNG = """
boy boys classmate classmates daughter daughters girl girls grandchild grandchildren granddaughter grandson grandsons
nephew nephews niece nieces pupil pupils schoolmates son sons youngest youngster youngsters
"""
YOUNG = frozenset(_YOUNG.split())
# Groups of people whose names tell of things more often.
OF_THINGS = frozenset({"black", "white", "old", "young", "thin", "tall", "short", "rich"})
CALM = 0.8  # the highest score of a word that ships, as a share of the line
SEEN = 2  # how often a word stands in what people wrote before the writer may use it
HELD = 50  # one prompt in this many is kept apart
# Share of transplants in the beginning and at the end, and the share of the training after which the latter is reached.
TRANSPLANTS, LEAST, ALONE = 0.5, 0.15, 0.8
TEXTS = "ordinary", "long", "benign", "lookalikes"  # lists of harmless texts in which phrases are transplanted, too
CHECKED = 0.15  # share of repairs that readers found right
TWO = 0.3  # share of transplants at two places
RUNS = (1, 1, 2, 2, 3, 3, 4, 5)  # words of a text that are taken out for a transplant, one of these by chance
WIDEST = 7  # words of a phrase that is transplanted
STOCK, ROWS, WORDS = 432, 80, 1_800  # lessons that are sorted by length; the most lessons and words of a batch
_PLAIN = re.compile(r"[A-Z]?[a-z0-9]+(?:['-][A-Za-z0-9]+)*|I|[A-Z]+|[,.;:!?&]")  # no half quotes, no *wELCOME*
NEW = re.compile(r"[^\s,.;:!?]+|[,.;:!?]")  # words and signs of what an edit puts in


@dataclass(frozen=True)
class Edited:
    """A prompt as words, and its edits: the first and the last word that go, and the words that come."""

    words: list[str]
    edits: list[tuple[int, int, list[str]]]


@dataclass(frozen=True)
class Lesson:
    """The words of a prompt, what the writer is to say, and the stage in which it says each (but the first)."""

    words: list[str]
    said: list[int]
    stages: list[int]


def edited(old: str, new: str) -> Edited | None:
    """Compare a prompt with its repair; where words only come, the word before them goes and comes again."""
    before, after = read_words(old), read_words(new)
    olds, news = [word.text for word in before], [word.text for word in after]
    if not (olds and news):
        return None
    edits: list[tuple[int, int, list[str]]] = []
    for start, end, into, until in changes(olds, news):
        if start == end:  # words only came
            back = int(min(start, into) > 0)
            gone, came = (start - back, end + 1 - back), (into - back, until + 1 - back)
        else:
            gone, came = (start, end), (into, until)
        phrase = _phrase(new, after[slice(*came)])
        if came[0] == 0 or (old[:1].isupper() and old[before[gone[0]].span[0]].isupper()):
            phrase = _uncapped(phrase)  # its capital comes back where it is put in
        first, words = gone[0], NEW.findall(phrase)
        if edits and edits[-1][1] == first - 1:  # two that meet are one
            first, _, earlier = edits.pop()
            words = earlier + words
        edits.append((first, gone[1] - 1, words))
    return Edited([word.text for word in folded(split(old))], edits) if edits else None


def _phrase(text: str, words: Sequence[Word]) -> str:
    """Cut out the text of some words, in lower case where all of it is in capitals."""
    phrase = " ".join(text[words[0].span[0] : words[-1].span[1]].split()) if words else ""
    return phrase.lower() if text.isupper() else phrase


def _uncapped(phrase: str) -> str:
    first = phrase.split(maxsplit=1)[0] if phrase else ""
    loud = first == "I" or (len(first) > 1 and first.isupper())
    return phrase if loud else phrase[:1].lower() + phrase[1:]


def lesson_of(found: Edited, index: dict[str, int]) -> Lesson | None:
    """Spell edits as the writer says them; None where it has no word for something, or where they are too long.

    Args:
        found: the edits.
        index: the number of every word that the writer may use.
    """
    listed_, known = SIGNS + len(index), {word: at for at, word in reversed(list(enumerate(found.words)))}
    said, stages = [BEGIN], []
    for first, last, words in found.edits:
        numbers = [index[w] if w in index else listed_ + known.get(w.lower(), -listed_) for w in words]
        if min(numbers, default=1) <= 0:
            return None
        said += [listed_ + first, listed_ + last, *numbers, CLOSE]
        stages += [Stage.FIRST.value, Stage.LAST.value, *[Stage.NEW.value] * (len(numbers) + 1)]
    said.append(DONE)
    stages.append(Stage.FIRST.value)
    return Lesson(found.words, said, stages) if len(said) <= LONGEST else None


def usable(words: Sequence[str]) -> list[str]:
    """Keep the words that the writer may use: plain, calm when they stand alone, for no minor and no group of people.

    A prompt must not become one of some people because another prompt was.
    """
    readings = Reader.load().read(words)
    return [
        word
        for word, reading in zip(words, readings, strict=True)
        if reading.height < CALM and _PLAIN.fullmatch(word) and not _is_barred(word.lower())
    ]


def _is_barred(word: str) -> bool:
    stem = word.removesuffix("'s")
    return word in groups() - OF_THINGS or stem in YOUNG or names_minor(stem)


def is_held(prompt: str) -> bool:
    """Tell whether a prompt is kept out of training."""
    return zlib.crc32(prompt.encode()) % HELD == 0


class Lessons:
    """All that the writer learns from.

    Attributes:
        words: that it may use.
        held: lessons that are kept apart.
    """

    def __init__(self, words: Sequence[str] | None = None) -> None:
        hand = [(old, found) for old, new, _ in rows() if old != new and (found := edited(old, new))]
        taught = [found for old, found in hand if not is_held(old)]
        counts = Counter(word for _, found in hand for *_, words_ in found.edits for word in words_)
        self.words = list(words) if words else usable(sorted(w for w, count in counts.items() if count >= SEEN))
        self._index = {word: SIGNS + at for at, word in enumerate(self.words)}
        right = (line.split("\t") for file in (VERDICTS, WRITTEN) for line in listed(file))
        checked = (edited(old, new) for old, new, marks in right if marks == "yyy" and not is_held(old))
        self.hand, self.checked = self._lessons(taught), self._lessons(found for found in checked if found)
        self.held = self._lessons(found for old, found in hand if is_held(old))
        lists = harmless_lists(None)
        safe = [*(new for old, new, _ in rows() if not is_held(old)), *(text for name in TEXTS for text in lists[name])]
        self._safe, self._known = [[word.text for word in split(text)] for text in safe], frozenset(self.words)
        self._harms: dict[Shape, list[list[str]]] = defaultdict(list)
        for found in taught:
            for first, last, _ in found.edits:
                phrase = found.words[first : last + 1]
                if len(phrase) <= WIDEST:
                    self._harms[shape(" ".join(phrase))].append(phrase)

    def batches(self, phase: Callable[[], float], seed: int) -> Iterator[list[Lesson]]:
        """Give batches of lessons of like length, without an end.

        Args:
            phase: gives the share of the training that is done.
            seed: of all chance.
        """
        rng = random.Random(seed)
        while True:
            share = TRANSPLANTS - (TRANSPLANTS - LEAST) * min(1.0, phase() / ALONE)
            stock = sorted((self._any(rng, share) for _ in range(STOCK)), key=lambda lesson: len(lesson.words))
            found = list(cut(stock))
            rng.shuffle(found)
            yield from found

    def _any(self, rng: random.Random, share: float) -> Lesson:
        dice = rng.random()
        if dice < share:
            return self._transplant(rng)
        return rng.choice(self.checked if dice < share + CHECKED and self.checked else self.hand)

    def _transplant(self, rng: random.Random) -> Lesson:
        while True:
            words = rng.choice(self._safe)
            whole: list[str] = []
            edits, done = [], 0
            for at, size in _runs(len(words), rng):
                run = words[at : at + size]
                pool = self._harms.get(shape(" ".join(run)))
                if at < done or not pool or not set(run) <= self._known or not (run[0].isalnum() and run[-1].isalnum()):
                    continue
                phrase = rng.choice(pool)
                whole += words[done:at]
                edits.append((len(whole), len(whole) + len(phrase) - 1, run))
                whole += phrase
                done = at + size + 1
                whole += words[at + size : done]
            lesson = lesson_of(Edited(_spelled((*whole, *words[done:])), edits), self._index)
            if edits and lesson is not None:
                return lesson

    def _lessons(self, found: Iterator[Edited] | Sequence[Edited]) -> list[Lesson]:
        return [lesson for some in found if (lesson := lesson_of(some, self._index))]


def _spelled(words: Sequence[str]) -> list[str]:
    """Spell words as the reader reads them."""
    return [word.text for word in folded([Word(word, (0, 0)) for word in words])]


def _runs(count: int, rng: random.Random) -> list[tuple[int, int]]:
    """Choose runs of words at which phrases are transplanted: where each begins, and how many words it has."""
    sizes = [rng.choice(RUNS) for _ in range(1 + (rng.random() < TWO))]
    return sorted((rng.randrange(count - size + 1), size) for size in sizes if size + 3 <= count)


def cut(lessons: Sequence[Lesson]) -> Iterator[list[Lesson]]:
    """Cut lessons that are sorted by length into batches."""
    some: list[Lesson] = []
    for lesson in lessons:
        some.append(lesson)
        if len(some) == ROWS or len(some) * len(lesson.words) >= WORDS:
            yield some
            some = []
    if some:
        yield some
