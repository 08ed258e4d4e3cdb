"""Lessons in English for the reader: sound text, and text with a break.

A repair replaces one phrase with another. Sound text is text as somebody wrote it. Broken text has a foreign phrase
in place of one of its own, or has words lost, doubled or exchanged, as in bad repairs. The words at the break are
marked, and the reader learns to find them (after ELECTRA, Clark et al. 2020, which learns to find words that another
model has replaced).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from safegen.builtin.training.reader_lists import Line
from safegen.builtin.training.reader_parses import Parses
from safegen.builtin.training.reader_texts import CAPITALS, JOINTS, Lessons, Sample, window
from safegen.reader import grammar, standins
from safegen.reader.syntax import VERB, Syntax
from safegen.reader.words import split

SOUND = 0.4  # share of text that is left as it was
MARKED = 0.6  # share of lines whose phrases are known
BESIDE = 1  # words on either side that belong to a break
CROWDED = 0.6  # share of samples with other text around them
# For every form, forms that do not fit in its place.
UNLIKE = {
    standins.BASE: (standins.THIRD, standins.ING),
    standins.THIRD: (standins.BASE, standins.ING),
    standins.ING: (standins.BASE, standins.THIRD),
    standins.PAST: (standins.BASE, standins.THIRD),
}
SMALL = grammar.LEADING | grammar.DETERMINERS
REWORDED = 0.25  # share of samples in which a stand-in takes a verb's place, fitting or not
SHIFTED, LOST = 0.4, 0.15  # shares of ways to break a phrase; the rest puts in a phrase of another form


class Grammar:
    """Sound and broken windows, made from lessons and, if there is any, from parsed text."""

    def __init__(self, taught: Lessons, parses: Parses) -> None:
        self.parses = parses
        self.lines = [line for concept in taught.harmful for pair in concept for line in pair if line.marks]
        # A line that is marked as a whole has nothing around it that a phrase could fit into.
        self.lines = [line for line in self.lines if line.marks[0] != (0, len(line.text))]
        self.phrases = [line.text[slice(*line.marks[0])] for line in self.lines if line.concept < 0]
        self.by_form: dict[grammar.Form, list[str]] = {}
        for phrase in self.phrases:
            self.by_form.setdefault(grammar.form_of(phrase), []).append(phrase)
        self.texts = [text for _, some in taught.harmless for text in some if len(text.split()) > 3]
        self.company = taught.company

    def sample(self, rng: random.Random) -> Sample:
        """Draw one window; its labels are 1 at a break, 0 elsewhere."""
        line = rng.choice(self.lines) if rng.random() < MARKED else Line(rng.choice(self.texts))
        text, breaks = line.text, list[tuple[int, int]]()
        if self.parses and rng.random() < REWORDED:
            text, breaks = reworded(self.parses.text(rng), rng)
        elif rng.random() >= SOUND:
            if line.marks and rng.random() < 0.75:
                text, breaks = self.misfit(line, rng)
            else:
                text, breaks = slip(text, rng)
        if rng.random() < CROWDED:
            other, joint = rng.choice(self.company).rstrip(". "), rng.choice(JOINTS[:6])
            if rng.random() < 0.5:
                text = text + joint + other
            else:
                shift = len(other + joint)
                text, breaks = other + joint + text, [(a + shift, b + shift) for a, b in breaks]
        found = labelled(text, breaks)
        found = window(found, rng.random())
        if rng.random() < CAPITALS:
            found = Sample([w.capitalize() for w in found.words], found.labels, -1)
        return found

    def misfit(self, line: Line, rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
        """Replace a line's own phrase, or a place that covers part of it, with a foreign phrase or with nothing."""
        start, end = line.marks[0]
        own, way = line.text[start:end], rng.random()
        if way < SHIFTED:
            start, end = shifted(line.text, (start, end), rng)
            phrase = rng.choice(self.by_form.get(grammar.form_of(own), self.phrases)) if rng.random() < 0.7 else own
        elif way < SHIFTED + LOST:
            phrase = ""
        else:  # a phrase of the same form might be odd there, but would still be English
            phrase = next(p for p in iter(lambda: rng.choice(self.phrases), None) if not same_form(p, own))
        if phrase == line.text[start:end]:
            return line.text, []
        text = line.text[:start] + phrase + line.text[end:]
        if phrase and rng.random() < 0.8:
            text = grammar.fix_articles(text, start)
        return text, [(start, max(start + len(phrase), start + 1))]


def reworded(sample: Sample, rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """Replace a parsed text's verb with a stand-in: one that fits, or one of another kind or form."""
    text = " ".join(sample.words)
    syntax = Syntax(split(text), sample.labels)
    verbs = [i for i in range(len(syntax.words)) if syntax.is_(i, VERB) and syntax.is_verb(i)]
    if len(syntax.words) != len(sample.words) or not verbs:
        return text, []
    verb = syntax.verb(rng.choice(verbs))
    start, end = syntax.span(verb)
    form = standins.form(syntax.text(verb[0]))
    takes = syntax.object_of(verb) is not None or form == standins.PAST
    tables = (standins.INTRANSITIVE, standins.TRANSITIVE)
    fits = rng.random() < 0.5
    other = rng.random() < 0.5  # a stand-in of another kind, else in another form
    which = form if fits or other else rng.choice(UNLIKE[form])
    new = rng.choice(tables[takes if fits or not other else not takes])[which]
    return text[:start] + new + text[end:], [] if fits else [(start, start + len(new))]


def same_form(one: str, other: str) -> bool:
    """Tell whether two phrases begin as the same kind of phrase, whatever their number."""
    return grammar.form_of(one)[0] == grammar.form_of(other)[0]


def shifted(text: str, place: tuple[int, int], rng: random.Random) -> tuple[int, int]:
    """Move one end of a place by a word or two."""
    words = [word.span for word in split(text)]
    first = next(i for i, span in enumerate(words) if span[1] > place[0])
    last = max(i for i, span in enumerate(words) if span[0] < place[1])
    move = rng.choice((-2, -1, -1, 1, 1, 2))
    if rng.random() < 0.5:
        first = min(max(0, first + move), last)
    else:
        last = max(min(len(words) - 1, last + move), first)
    return words[first][0], words[last][1]


def slip(text: str, rng: random.Random) -> tuple[str, list[tuple[int, int]]]:
    """Lose, double or swap words of a text, or insert an article; small words are preferred."""
    words = [word.span for word in split(text) if word.spoken]
    if len(words) < 3:
        return text, []
    small = [i for i, (a, b) in enumerate(words[:-1]) if text[a:b].lower() in SMALL]
    at = rng.choice(small) if small and rng.random() < 0.6 else rng.randrange(len(words) - 1)
    (a, b), (c, d) = words[at], words[at + 1]
    kind = rng.choice(("lost", "lost", "doubled", "exchanged", "article", "hanging"))
    if kind == "lost":
        return text[:a] + text[c:], [(a, a + d - c)]
    if kind == "doubled":
        return f"{text[:b]} {text[a:b]}{text[b:]}", [(a, b + 1 + b - a)]
    if kind == "exchanged":
        return text[:a] + text[c:d] + text[b:c] + text[a:b] + text[d:], [(a, d)]
    if kind == "article":
        article = rng.choice(("a ", "the ", "her ", "an "))
        return text[:c] + article + text[c:], [(c, c + len(article) + d - c)]
    return text[:b] + text[d:], [(a, b)]  # the next word is lost


def labelled(text: str, breaks: Sequence[tuple[int, int]]) -> Sample:
    """Split a text and mark the words of its breaks and those beside them."""
    sample = Sample()
    for word in split(text):
        sample.words.append(word.text)
        sample.labels.append(int(any(a < word.span[1] and b > word.span[0] for a, b in breaks)))
    broken = [i for i, label in enumerate(sample.labels) if label]
    for i in broken[:1] + broken[-1:]:
        for j in range(max(0, i - BESIDE), min(len(sample.labels), i + BESIDE + 1)):
            sample.labels[j] = 1
    return sample
