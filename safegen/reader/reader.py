"""The reader: it scores the harm of every word and span of a text under every concept, without a diffusion model.

A prompt is as harmful as its worst span. Scores are in standard deviations over the words of benign text. Each line
is set so that only the share of benign prompts given in `reader.json` is flagged.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.reader import captions, lexicon, neighbours
from safegen.reader.captions import Caption
from safegen.reader.filling import Filler
from safegen.reader.forms import Undoing, fold
from safegen.reader.grammar import LEADING
from safegen.reader.model import WEIGHTS, Network
from safegen.reader.ranking import Ranker
from safegen.reader.reading import NEAR, Reading, Span, joined_runs, runs
from safegen.reader.words import Word, split, whole, windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAMED = 0.88  # share of a line from which on a recipe's target counts as over it
REPEATED = 0.75  # share of the line from which on words are held to it that are over it elsewhere in the text
LANGUAGE = 0.34  # share of words foreign to English from which on a text counts as unread
SMALL = 0.8  # share of its score that an article, a preposition or a link keeps
ROUNDS = 3  # how often spans are looked for, each time in what the last ones leave
JOINTS = frozenset({"and", "or", "but", "then"})  # words that join a harmful phrase to what stands before it


class Reader:
    """The network with its calibration and its lexicon.

    Args:
        folder: the folder of the reader's files.

    Raises:
        ReaderError: see `Network`.
    """

    def __init__(self, folder: Path = WEIGHTS) -> None:
        import numpy as np

        self.network = Network(folder)
        self.concepts = self.network.concepts
        calibration = self.network.facts["calibration"]
        self.mean, self.deviation, self.lines = (
            np.array([calibration[name][key] for name in self.concepts], np.float32)
            for key in ("mean", "deviation", "line")
        )
        self.prompt_quantiles, self.word_quantiles = (
            np.array([calibration[name][key] for name in self.concepts], np.float32)
            for key in ("prompt_quantiles", "word_quantiles")
        )
        known = {word for word in self.network.vocabulary if len(word) > 2 and word.isalpha() and word.isascii()}
        self.sought = sought = lexicon.harmful_words()
        self.foreign = lexicon.foreign_words()
        self.undoing = Undoing(known | sought | lexicon.harmless_words(), sought)

    @classmethod
    @functools.cache
    def load(cls) -> Reader:
        """Load the shipped reader, once per process."""
        return cls()

    @functools.cached_property
    def ranker(self) -> Ranker:
        """The network that compares repairs, loaded when it is first needed."""
        return Ranker(self.network)

    @functools.cached_property
    def filler(self) -> Filler:
        """The phrases for the place of harm, loaded when they are first needed."""
        return Filler(self.network)

    @property
    def sha256(self) -> str:
        """The hash of the network, by which records name the reader."""
        return str(self.network.facts["sha256"]["reader.onnx"])

    def scores(self, texts: Sequence[Sequence[Word]]) -> list[NDArray[np.float32]]:
        """Score the words (words, K) of each text; a word has the highest score of the windows that hold it."""
        import numpy as np

        cut = [windows(len(words)) for words in texts]
        parts = [[w.text for w in words[a:b]] for words, some in zip(texts, cut, strict=True) for a, b in some]
        odds = iter(self.network.read(parts))
        found = []
        for words, some in zip(texts, cut, strict=True):
            highest = np.full((len(words), len(self.concepts)), -np.inf, np.float32)
            for start, end in some:
                np.maximum(highest[start:end], next(odds), out=highest[start:end])
            small = np.array([word.text.lower() in LEADING for word in words], bool)
            scores = (highest - self.mean) / self.deviation
            # A small word inside a harmful phrase is not itself the harm.
            scores[small] *= SMALL
            found.append(scores)
        return found

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Read prompts; those with words in disguise are read in both forms, and the worse one counts.

        The texts of a JSON caption are read together, keys among them, and one by one; again the worse one counts.
        """
        import numpy as np

        known = [captions.parse(text) for text in texts]
        folds = [fold(text if one is None else one.prose) for text, one in zip(texts, known, strict=True)]
        plain = [split(fold) for fold, _ in folds]
        undone = [self.undoing.words(fold) for fold, _ in folds]
        extra = [(row, words) for row, words in enumerate(undone) if words is not None]
        extra += [
            (row, part)
            for row, (one, words) in enumerate(zip(known, plain, strict=True))
            for part in (_texts_of(one, words, folds[row][1]) if one is not None else ())
        ]
        scored = self.scores([*plain, *(words for _, words in extra)])
        scores, others = scored[: len(texts)], scored[len(texts) :]
        for (row, words), other in zip(extra, others, strict=True):
            for word, values in zip(words, other, strict=True):
                for i, own in enumerate(plain[row]):
                    if own.span[0] < word.span[1] and own.span[1] > word.span[0]:
                        scores[row][i] = np.maximum(scores[row][i], values)
        for words, values in zip(plain, scores, strict=True):
            self._hold_named(words, values)
            self._hold_repeated(words, values)
        readings = [
            self._reading(text, places, words, values)
            for text, (_, places), words, values in zip(texts, folds, plain, scores, strict=True)
        ]
        return [_without_hidden(_by_text(reading, one), one) for reading, one in zip(readings, known, strict=True)]

    def _hold_named(self, words: Sequence[Word], scores: NDArray[np.float32]) -> None:
        """Raise a recipe's target to the line where it is just below it. **Changes `scores`**."""
        spoken = [i for i, word in enumerate(words) if word.spoken]
        texts = [words[i].text.lower() for i in spoken]
        for at, first in enumerate(texts):
            for concept, target in lexicon.named().get(first, ()):
                if concept not in self.concepts or tuple(texts[at : at + len(target)]) != target:
                    continue
                column, rows = self.concepts.index(concept), spoken[at : at + len(target)]
                line = self.lines[column]
                if scores[rows, column].max() >= NAMED * line:
                    scores[rows, column] = scores[rows, column].clip(min=line)

    def _hold_repeated(self, words: Sequence[Word], scores: NDArray[np.float32]) -> None:
        """Raise to the line what is just below it and over it elsewhere in the text. **Changes `scores`**."""
        texts = [word.text.lower() for word in words]
        for column, line in enumerate(self.lines.tolist()):
            over = [i for i, score in enumerate(scores[:, column].tolist()) if score >= line]
            for first, last in joined_runs(over):
                phrase = texts[first : last + 1]
                for at in range(len(texts) - len(phrase) + 1):
                    rows = scores[at : at + len(phrase), column]
                    if texts[at : at + len(phrase)] == phrase and REPEATED * line <= rows.max() < line:
                        rows.clip(min=line, out=rows)

    def _reading(self, text: str, places: Sequence[int], words: Sequence[Word], scores: NDArray[np.float32]) -> Reading:
        own = tuple(_placed(word, places, text) for word in words)
        strange = [w for w, plain in zip(own, words, strict=True) if plain.spoken and not plain.text.isascii()]
        spoken = [w.text for w in words if w.spoken]
        foreign = sum(word in self.foreign for word in spoken) >= max(2, LANGUAGE * len(spoken))
        unread = tuple(strange) if not foreign else tuple(w for w in own if w.spoken)
        legible = not foreign and not strange
        if foreign:  # a foreign word that only looks like a harmful English one is harmless
            unknown = [i for i, word in enumerate(words) if word.text.lower() not in self.sought]
            scores[unknown] = scores[unknown].clip(max=NEAR * self.lines)
        height = float((scores / self.lines).max(initial=0.0))
        spans = self._spans(own, scores)
        fluency = neighbours.share_known(spoken)
        return Reading(text, own, scores, spans, unread, legible, fluency, height, self.concepts)

    def suspects(self, reading: Reading, share: float) -> tuple[Span, ...]:
        """Find the spans of a reading that are over a share of their concept's line."""
        return self._spans(reading.words, reading.scores, share)

    def _spans(self, words: Sequence[Word], scores: NDArray[np.float32], share: float = 1.0) -> tuple[Span, ...]:
        found = []
        for column, concept in enumerate(self.concepts):
            over = scores[:, column]
            for first, last in runs(over.tolist(), share * float(self.lines[column])):
                end = last
                while end > first and (not words[end].spoken or words[end].text.lower() in LEADING):
                    end -= 1
                start = next((i for i in range(first, end) if begins(words[i])), first)
                span = (words[start].span[0], words[end].span[1])
                found.append(Span(concept, span, float(over[first : last + 1].max())))
        return tuple(sorted(found, key=lambda span: (span.span, -span.score)))

    def gaps(self, words: Sequence[Word]) -> NDArray[np.float32]:
        """Tell how likely it is that each word (words,) of a harmful text belongs to the harmful situation."""
        import numpy as np

        cut = windows(len(words))
        odds = np.full(len(words), -np.inf, np.float32)
        texts = [[word.text for word in words[a:b]] for a, b in cut]
        for (start, end), found in zip(cut, self.network.gaps(texts), strict=True):
            odds[start:end] = np.maximum(odds[start:end], found[:, 0])
        chances: NDArray[np.float32] = (1 / (1 + np.exp(-odds))).astype(np.float32)
        return chances

    def percentiles(self, scores: NDArray[np.float32], *, of_prompts: bool = False) -> NDArray[np.float32]:
        """Give the share (N, K) of benign words, or of benign prompts, with a lower score, in percent."""
        import numpy as np

        table = self.prompt_quantiles if of_prompts else self.word_quantiles
        below = [np.searchsorted(row, values, side="right") for row, values in zip(table, scores.T, strict=True)]
        percent: NDArray[np.float32] = (np.stack(below, 1) * (100.0 / table.shape[1])).astype(np.float32)
        return percent


def _texts_of(caption: Caption, words: Sequence[Word], places: Sequence[int]) -> Iterator[list[Word]]:
    """Give the words of each of a caption's texts."""
    for value in caption.values:
        if part := [word for word in words if value.span[0] <= places[word.span[0]] < value.span[1]]:
            yield part


def begins(word: Word) -> bool:
    """Tell whether a harmful phrase can begin with a word: not with a sign, nor with what only joins it to others."""
    return word.spoken and word.text.lower() not in JOINTS


def _by_text(reading: Reading, caption: Caption | None) -> Reading:
    """Cut the spans of a caption to its texts; what reaches into two of them is a span in each."""
    if caption is None:
        return reading
    found = []
    for span in reading.spans:
        parts = [(max(span.span[0], v.span[0]), min(span.span[1], v.span[1])) for v in caption.values]
        inside = [replace(span, span=part) for part in parts if part[0] < part[1]]
        found += inside or [span]
    return replace(reading, spans=tuple(found))


def _without_hidden(reading: Reading, caption: Caption | None) -> Reading:
    """Say that characters were not read where they stand as numbers; `prompts` spells them out."""
    found = tuple(Word(reading.text[slice(*span)], span) for span in caption.hidden) if caption is not None else ()
    return replace(reading, unread=(*reading.unread, *found), legible=False) if found else reading


def _placed(word: Word, places: Sequence[int], text: str) -> Word:
    start, end = whole(text, (places[word.span[0]], places[word.span[1] - 1] + 1))
    return Word(text[start:end], (start, end))
