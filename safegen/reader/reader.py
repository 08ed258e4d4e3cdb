"""The reader: it scores the harm of every word and span of a text under every concept, without a diffusion model.

A prompt is as harmful as its worst span. Scores are in standard deviations over the words of benign text. Each line
is set so that only the share of benign prompts given in `reader.json` is flagged.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safegen.reader import lexicon
from safegen.reader.forms import Undoing, fold
from safegen.reader.grammar import LEADING, TAGS
from safegen.reader.model import WEIGHTS, Network
from safegen.reader.reading import NEAR, Reading, Span, runs
from safegen.reader.words import WINDOW, Word, split, whole, windows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.phrases import Phrase

NAMED = 0.88  # share of a line from which on a recipe's target counts as over it
LANGUAGE = 0.34  # share of words foreign to English from which on a text counts as unread
SMALL = 0.8  # share of its score that an article, a preposition or a link keeps
ROUNDS = 3  # how often spans are looked for, each time in what the last ones leave


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
        self._remembered: tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]] | None = None
        known = {word for word in self.network.vocabulary if len(word) > 2 and word.isalpha() and word.isascii()}
        self.sought = sought = lexicon.harmful_words()
        self.foreign = lexicon.foreign_words()
        self.undoing = Undoing(known | sought | lexicon.harmless_words(), sought)

    @classmethod
    @functools.cache
    def load(cls) -> Reader:
        """Load the shipped reader, once per process."""
        return cls()

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
        """Read prompts; those with words in disguise are read in both forms, and the worse one counts."""
        import numpy as np

        folds = [fold(text) for text in texts]
        plain = [split(fold) for fold, _ in folds]
        undone = [self.undoing.words(fold) for fold, _ in folds]
        extra = [(row, words) for row, words in enumerate(undone) if words is not None]
        scored = self.scores([*plain, *(words for _, words in extra)])
        scores, others = scored[: len(texts)], scored[len(texts) :]
        for (row, words), other in zip(extra, others, strict=True):
            for word, values in zip(words, other, strict=True):
                for i, own in enumerate(plain[row]):
                    if own.span[0] < word.span[1] and own.span[1] > word.span[0]:
                        scores[row][i] = np.maximum(scores[row][i], values)
        for words, values in zip(plain, scores, strict=True):
            self._hold_named(words, values)
        return [
            self._reading(text, places, words, values)
            for text, (_, places), words, values in zip(texts, folds, plain, scores, strict=True)
        ]

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
        return Reading(text, own, scores, spans, unread, legible, height, self.concepts)

    def _spans(self, words: Sequence[Word], scores: NDArray[np.float32]) -> tuple[Span, ...]:
        found = []
        for column, concept in enumerate(self.concepts):
            over = scores[:, column]
            for first, last in runs(over.tolist(), float(self.lines[column])):
                end = last
                while end > first and (not words[end].spoken or words[end].text.lower() in LEADING):
                    end -= 1
                start = next((i for i in range(first, end) if words[i].spoken), first)
                span = (words[start].span[0], words[end].span[1])
                found.append(Span(concept, span, float(over[first : last + 1].max())))
        return tuple(sorted(found, key=lambda span: (span.span, -span.score)))

    def nearest(self, asked: Sequence[tuple[str, Sequence[Phrase]]], count: int) -> list[list[Phrase]]:
        """Find the phrases nearest in meaning to each text, the nearest first.

        Args:
            asked: texts, each with the phrases to choose from.
            count: how many phrases to find for each.
        """
        import numpy as np

        if self._remembered is None:
            self._remembered = self.network.remembered()
        known, axes = self._remembered
        fresh = list(dict.fromkeys(p.harmful for _, some in asked for p in some if p.harmful not in known))
        meanings = self.meanings([*(text for text, _ in asked), *fresh]) @ axes
        known.update(zip(fresh, meanings[len(asked) :], strict=True))
        found = []
        for meaning, (_, some) in zip(meanings, asked, strict=False):
            near = np.stack([known[p.harmful] for p in some]) @ meaning if some else np.zeros(0)
            found.append([some[i] for i in np.argsort(-near, kind="stable")[:count]])
        return found

    def tags(self, words: Sequence[Word]) -> list[int]:
        """Tell each word's part of speech, an index into `grammar.TAGS`."""
        import numpy as np

        cut = windows(len(words))
        odds = np.zeros((len(words), len(TAGS)), np.float32)
        for (start, end), some in zip(
            cut, self.network.tags([[w.text for w in words[a:b]] for a, b in cut]), strict=True
        ):
            odds[start:end] += some
        return [int(tag) for tag in odds.argmax(1)]

    def strangeness(self, texts: Sequence[tuple[str, tuple[int, int]]]) -> list[float]:
        """Tell how likely it is that the words at a place of a text, and those beside it, do not fit together.

        Args:
            texts: texts, each with the span of the place.

        Returns:
            for each text, the mean chance of its words, from 0 to 1.
        """
        import numpy as np

        cut, places = [], []
        for text, place in texts:
            words = split(fold(text)[0])
            near = [i for i, w in enumerate(words) if w.span[1] >= place[0] - 1 and w.span[0] <= place[1] + 1]
            first, last = (near[0], near[-1]) if near else (0, 0)
            start = max(0, min(first - (WINDOW - (last - first)) // 2, len(words) - WINDOW))
            cut.append([word.text for word in words[start : start + WINDOW]])
            places.append(slice(first - start, last + 1 - start))
        odds = self.network.breaks(cut)
        chances = [1 / (1 + np.exp(-some[place])) for some, place in zip(odds, places, strict=True)]
        return [float(some.mean()) if len(some) else 0.0 for some in chances]

    def meanings(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Give the meanings of texts as vectors (N, D); only their angles count, not their lengths."""
        return self.network.meanings([[word.text for word in split(fold(text)[0])] for text in texts])

    def percentiles(self, scores: NDArray[np.float32], *, of_prompts: bool = False) -> NDArray[np.float32]:
        """Give the share (N, K) of benign words, or of benign prompts, with a lower score, in percent."""
        import numpy as np

        table = self.prompt_quantiles if of_prompts else self.word_quantiles
        below = [np.searchsorted(row, values, side="right") for row, values in zip(table, scores.T, strict=True)]
        percent: NDArray[np.float32] = (np.stack(below, 1) * (100.0 / table.shape[1])).astype(np.float32)
        return percent


def _placed(word: Word, places: Sequence[int], text: str) -> Word:
    start, end = whole(text, (places[word.span[0]], places[word.span[1] - 1] + 1))
    return Word(text[start:end], (start, end))
