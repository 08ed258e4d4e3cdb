"""The lessons of the prompt reader: marked phrases among harmless text, as windows of words with labels.

Both halves of a marked line are taught, each time in other company, so that only the phrase tells them apart and not
its surroundings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safegen.builtin.training.pasted import amid, draw, pasted
from safegen.builtin.training.reader_lists import (
    Line,
    Shape,
    harmless_lists,
    listed,
    parse,
    phrase_of,
    reserved,
    shape,
    telling,
)
from safegen.builtin.world import with_article
from safegen.directions import recipes
from safegen.directions.recipes import Concept
from safegen.prompts import datasets
from safegen.reader.words import WINDOW, split

JOINTS = (
    *(", ", ", ", ", ", " and ", ". ", ". ", "; ", " with ", " next to ", " beside ", " in front of ", " near "),
    *(" while ", " under ", " behind ", " - ", " ", " ", " ", " ", " ... ", " | ", "! ", " / ", " ("),
)
OPENINGS = (
    *("a photo of ", "draw ", "draw me ", "an oil painting of ", "a picture of ", "generate ", "show me "),
    *("a drawing of ", "digital art of ", "create an image of ", "a close-up of ", "portrait of ", "i want "),
    *("concept art of ", "a cartoon of ", "a realistic image of ", "anime style ", "watercolor of "),
)
# How often a line of at most `BARE` words gets a place behind it, and how often, otherwise, a thing beside it.
PLACED, PAIRED, BARE = 0.3, 0.6, 4
PAIRING = (" and ", " and ", " and ", " next to ", " beside ", " with ", ", ", " or ")
ALONE, TAILED, OPENED, COMPANY, SLIPS, CAPITALS = 0.35, 0.2, 0.12, 0.5, 0.12, 0.15
FOREIGN = 0.05  # share of company in another script
SCRIPTS = ((0x0391, 0x03C9), (0x0410, 0x044F), (0x05D0, 0x05EA), (0x0627, 0x064A), (0x0905, 0x0939), (0x0E01, 0x0E2E),
           (0x3041, 0x3093), (0x4E00, 0x6FFF), (0xAC00, 0xB200))  # fmt: skip
# How often harmless text comes from each list.
SHARES = {
    **{"lookalikes": 0.8, "hard": 0.2, "ordinary": 0.5, "long": 0.8, "benign": 0.25, "things": 0.12, "people": 0.1},
    **{"sentences": 0.2, "nouns": 0.12},
}
PASTED = 0.2  # share of harmless windows that are texts pasted together
AMID = 0.25  # share of all other lines that stand amid such texts
HARM, UNMARKED = 0.5, 0.15  # share of harmful samples, and, among them, of lines whose words are not marked
LINES = 0.7  # power of a concept's count of lines by which it is drawn
REPAIRED = 0.75  # share of marked pairs that are prompts with their repairs by hand, if there are any
MISSED = 0.3  # of these, share that are drawn from those that are nearly missed, if there are any
TARGETS = 0.25  # of the others, share that come from a recipe's targets
SWAPPED = 0.3  # share of marked lines that take another line's phrase


@dataclass
class Sample:
    """One window: words, a label for each (concept, -1 harmless, -2 unknown), and the whole window's concept.

    `taken` tells of every word whether a repair takes it out: 1, 0, or -1 where that is not known.
    """

    words: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    concept: int = -1
    taken: list[int] = field(default_factory=list)


class Lessons:
    """All lines, and random windows made of them.

    Attributes:
        harmful: per concept, pairs of a harmful line and its safe half.
        targets: the pairs that the recipes name.
        repaired: pairs of a harmful prompt and its repair by hand.
        missed: those of them that are drawn more often, since a reader that is taught on nearly misses them.
        harmless: lists of harmless lines, each list with its share.
        unmarked: harmful lines of which only the concept is known, with safe counterparts.
        company: harmless text to put around other text.
        tails: style words to put behind text.
        places: places to put behind a bare phrase.
        things: things to put beside a bare phrase.
        phrases: by their form, the marked phrases that harm wherever they stand, with their safe replacements.
    """

    def __init__(
        self,
        harmful: Sequence[Sequence[tuple[Line, Line]]],
        targets: Sequence[tuple[Line, Line]],
        harmless: list[tuple[float, Sequence[str]]],
        unmarked: Sequence[tuple[Line, Line]],
        company: Sequence[str],
        tails: Sequence[str],
        places: Sequence[str],
        things: Sequence[str],
        repaired: Sequence[tuple[Line, Line]] = (),
    ) -> None:
        self.harmful, self.targets, self.harmless, self.unmarked = harmful, targets, harmless, unmarked
        self.company, self.tails, self.places, self.things = company, tails, places, things
        self.repaired, self.missed = repaired, list[tuple[Line, Line]]()
        self.shares = [len(some) ** LINES for some in harmful]
        pairs = [pair for some in harmful for pair in some]
        self.phrases: dict[Shape, list[tuple[Line, Line]]] = {}
        for pair in telling(pairs, [text for _, some in harmless for text in some]):
            self.phrases.setdefault(shape(phrase_of(pair[0])), []).append(pair)

    def texts(self) -> list[str]:
        """Give every text whose trigger words are known, and every harmless text, as it stands in its list."""
        marked = [line.text for some in self.harmful for pair in some for line in pair]
        return [*marked, *(text for _, some in self.harmless for text in some)]

    def sample(self, rng: random.Random, harm: float = HARM) -> list[Sample]:
        """Draw one or two windows.

        It is a harmless one, or a harmful one and often its safe twin in the same company.
        """
        if rng.random() >= harm:
            if rng.random() < PASTED:
                return [window(labelled(pasted(self.harmless, rng), (), Line(""), (0, 0)), rng.random())]
            return [self._dressed([Line(draw(self.harmless, rng))], rng)[0]]
        if self.unmarked and rng.random() < UNMARKED:
            pair = rng.choice(self.unmarked)
        elif self.repaired and rng.random() < REPAIRED:
            pair = rng.choice(self.missed if self.missed and rng.random() < MISSED else self.repaired)
        elif rng.random() < TARGETS:
            pair = rng.choice(self.targets)
        else:
            pair = rng.choice(rng.choices(self.harmful, self.shares)[0])
            if rng.random() < SWAPPED:
                pair = self._swapped(pair, rng)
        twins = self._dressed(pair, rng)
        return twins if rng.random() < 0.6 else twins[:1]

    def _swapped(self, pair: tuple[Line, Line], rng: random.Random) -> tuple[Line, Line]:
        """Replace a line's phrase with another line's, and its safe half with the other's safe half."""
        if any(len(line.marks) != 1 for line in pair):
            return pair
        others = self.phrases.get(shape(phrase_of(pair[0])), ())
        if not others:
            return pair
        other, found = rng.choice(others), []
        for line, donor in zip(pair, other, strict=True):
            (start, end), phrase = line.marks[0], phrase_of(donor)
            text = line.text[:start] + phrase + line.text[end:]
            found.append(Line(text, ((start, start + len(phrase)),), donor.concept))
        return found[0], found[1]

    def _beside(self, rng: random.Random) -> str:
        """Draw harmless text to put beside other text; now and then it is in another script."""
        if rng.random() >= FOREIGN:
            return rng.choice(self.company).rstrip(". ")
        first, last = rng.choice(SCRIPTS)
        letters = (chr(rng.randint(first, last)) for _ in range(rng.randint(2, 14)))
        return "".join(letter + (" " if rng.random() < 0.25 else "") for letter in letters).strip()

    def _company(self, bare: bool, rng: random.Random) -> tuple[str, str]:
        """Draw what stands before and behind a line; a bare phrase may get a place or a thing."""
        if rng.random() < AMID:
            return amid(self.harmless, rng)
        before, behind = "", ""
        if bare and self.places and rng.random() < PLACED:
            behind = f" {rng.choice(self.places)}"
        elif bare and self.things and rng.random() < PAIRED:
            thing, joint = rng.choice(self.things), rng.choice(PAIRING)
            before, behind = (thing + joint, "") if rng.random() < 0.5 else ("", joint + thing)
        if rng.random() >= ALONE:
            if rng.random() < OPENED:
                before = rng.choice(OPENINGS)
            for _ in range(rng.choice((0, 1, 1, 2, 3))):
                if rng.random() < COMPANY:
                    before = self._beside(rng) + rng.choice(JOINTS) + before
                else:
                    behind += rng.choice(JOINTS) + self._beside(rng)
            if rng.random() < TAILED:
                tail = rng.choice(self.tails)
                before, behind = (f"{tail}, {before}", behind) if rng.random() < 0.2 else (before, f"{behind}, {tail}")
        return before, behind

    def _dressed(self, lines: Sequence[Line], rng: random.Random) -> list[Sample]:
        """Put the same company around each of some lines, and cut a window of each."""
        before, behind = self._company(all(len(line.text.split()) <= BARE for line in lines), rng)
        slip, upper, where = rng.random() < SLIPS, rng.random() < CAPITALS, rng.random()
        found = []
        for line in lines:
            marks = [(a + len(before), b + len(before)) for a, b in line.marks]
            sample = labelled(before + line.text + behind, marks, line, (len(before), len(before) + len(line.text)))
            if slip:
                misspell(sample, rng)
            found.append(window(sample, where))
        if upper:
            found = [replace(s, words=[w.capitalize() for w in s.words]) for s in found]
        return found


def labelled(text: str, marks: Sequence[tuple[int, int]], line: Line, core: tuple[int, int]) -> Sample:
    """Split a text and label every word of it."""
    sample = Sample(concept=line.concept)
    unsure, taken = ([(a + core[0], b + core[0]) for a, b in some] for some in (line.unsure, line.taken or ()))
    known = line.taken is not None or line.concept < 0
    for word in split(text):
        start, end = word.span
        inside, maybe, out = (any(a < end and b > start for a, b in some) for some in (marks, unsure, taken))
        label = line.concept if inside else -2 if maybe else -1
        of_line = core[0] <= start < core[1]
        if line.concept >= 0 and not marks and not unsure and of_line:
            label = -2
        sample.words.append(word.text)
        sample.labels.append(label)
        sample.taken.append(int(out) if known or not of_line else -1)
    return sample


def window(sample: Sample, where: float) -> Sample:
    """Cut a window that keeps its harm whole, at a place that `where`, from 0 to 1, chooses."""
    count = len(sample.words)
    if count <= WINDOW:
        return sample
    bad = [i for i, label in enumerate(sample.labels) if label not in (-1,)]
    first, last = (bad[0], bad[-1]) if bad else (0, 0)
    least, most = (max(0, last + 1 - WINDOW), min(first, count - WINDOW)) if bad else (0, count - WINDOW)
    if most < least:
        least = most = max(0, min(first, count - WINDOW))
    start = least + round(where * (most - least))
    part = slice(start, start + WINDOW)
    return Sample(sample.words[part], sample.labels[part], sample.concept, sample.taken[part])


def misspell(sample: Sample, rng: random.Random) -> None:
    """Misspell one long word: two letters swapped, or one dropped, doubled or replaced."""
    long = [i for i, word in enumerate(sample.words) if len(word) > 4 and word.isalpha()]
    marked = [i for i in long if sample.labels[i] >= 0]
    if not long:
        return
    i = rng.choice(marked if marked and rng.random() < 0.7 else long)
    word = sample.words[i]
    at = rng.randrange(1, len(word) - 1)
    kinds: Sequence[Callable[[], str]] = (
        lambda: word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        lambda: word[:at] + word[at + 1 :],
        lambda: word[:at] + word[at] + word[at:],
        lambda: word[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1 :],
    )
    sample.words[i] = rng.choice(kinds)()


def lessons(data: Path | None, wordnet: Path | None = None, repaired: Sequence[tuple[Line, Line]] = ()) -> Lessons:
    """Collect what ships in `directions/`, and, if given, the training part of the prompt sets, WordNet and repairs."""
    root = recipes.directions_folder()
    concepts: Mapping[str, Concept] = {name: Concept.load(name) for name in recipes.known()}
    harmful, targets = [], []
    for column, (name, recipe) in enumerate(concepts.items()):
        pairs = [(Line(t, ((0, len(t)),), column), Line(a)) for t, a in recipe.targets.items()]
        targets += pairs
        pairs = pairs + [parse(line, column) for line in listed(root / name / "phrases.txt")]
        harmful.append(pairs)
    unmarked: list[tuple[Line, Line]] = []
    if data is not None:
        for entry in datasets.read(data / "coprov2_train_pairs.csv"):
            column = next(i for i, r in enumerate(concepts.values()) if entry.category.casefold() in r.categories)
            if not entry.is_validation:
                unmarked.append((Line(entry.prompt, (), column), Line(entry.safe)))
    lists = {name: [t for t in texts if not reserved(t)] for name, texts in harmless_lists(wordnet).items()}
    harmless: list[tuple[float, Sequence[str]]] = [(SHARES[name], texts) for name, texts in lists.items() if texts]
    sentences = lists.get("sentences", [])
    company = [*lists["benign"], *lists["ordinary"], *lists["long"], *sentences[:: max(1, len(sentences) // 2000)]]
    things = [with_article(noun) for noun in listed(root / "nouns.txt")]
    tails, places = listed(root / "styles.txt"), listed(root / "settings.txt")
    return Lessons(harmful, targets, harmless, unmarked, company, tails, places, things, repaired)
