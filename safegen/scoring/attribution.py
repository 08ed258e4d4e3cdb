"""Attribution: how far the classifier falls without each word, and the fewest words that have to go.

States after a harmful word look harmful, too, because encoders mix their positions; so a word's token score
is only a correlation. Taking the word out of the text and encoding again is an intervention; SAFREE
(Yoon et al. 2024, arXiv 2410.12761) and SafeGuider find trigger words in this way. All variants of a prompt go
through the encoder in one batch, and without pads, which the classifier does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from safegen.reader.editing import without

if TYPE_CHECKING:
    from torch import Tensor

    from safegen.conditioning import Conditioning
    from safegen.scoring.scorer import Scorer
    from safegen.scoring.scores import ScoreSheet

Encode = Callable[[Sequence[str]], "Conditioning"]
MOST = 6  # the most words in a set of trigger words
SHORT = 3  # letters; longer words that are repeated are taken out everywhere at once
LEAST = 0.5  # how far the classifier falls, in benign standard deviations, without a word that is part of the cause
CLEARED = 0.98  # a classifier is cleared below the value that this share of benign prompts stays under


@dataclass(frozen=True)
class TriggerWords:
    """The words that make a prompt harmful under one concept."""

    concept: str
    words: tuple[int, ...]  # indices into the sheet's words, in reading order
    clears: bool  # without them the classifier is below its line


def with_causes(sheet: ScoreSheet, names: Sequence[str], scorer: Scorer, encode: Encode) -> ScoreSheet:
    """Add every word's causes under the named concepts, in benign standard deviations, to its other causes."""
    if not sheet.words or not names:
        return sheet
    falls = _falls(sheet, scorer, encode)
    columns = [scorer.names.index(name) for name in names]
    words = [
        replace(word, causes={**word.causes, **{n: float(row[c]) for n, c in zip(names, columns, strict=True)}})
        for word, row in zip(sheet.words, falls.tolist(), strict=True)
    ]
    return replace(sheet, words=tuple(words))


def trigger_words(sheet: ScoreSheet, concept: str, scorer: Scorer, encode: Encode) -> TriggerWords:
    """Find the fewest words, taken in the order of their causes, without which the concept's classifier is cleared.

    Where no such set clears it, words are taken out one by one, each time the one without which the rest is lowest:
    of two harmful words, taking out only one may not lower the classifier.
    """
    if not sheet.words:
        return TriggerWords(concept, (), False)
    column, alike = scorer.names.index(concept), repetitions(sheet)
    falls = _falls(sheet, scorer, encode)[:, column]
    order = [i for i in falls.argsort(descending=True).tolist() if falls[i] >= LEAST and i == alike[i][0]][:MOST]
    sets = [sorted(i for first in order[: n + 1] for i in alike[first]) for n in range(len(order))]
    if sets:
        closed = scorer.below(encode([rest_of(sheet, chosen) for chosen in sets]), CLEARED)[:, column].tolist()
        if True in closed:
            return TriggerWords(concept, tuple(sets[closed.index(True)]), clears=True)
    found = _one_by_one(sheet, concept, alike[int(falls.argmax())], scorer, encode)
    return found if found.clears or not sets else TriggerWords(concept, tuple(sets[-1]), clears=False)


def _one_by_one(sheet: ScoreSheet, concept: str, first: Sequence[int], scorer: Scorer, encode: Encode) -> TriggerWords:
    """Take out the first words, then others until the classifier is cleared; give none if `MOST` do not clear it."""
    column, alike, chosen = scorer.names.index(concept), repetitions(sheet), list(first)
    for _ in range(MOST - 1):
        left = [i for i in range(len(sheet.words)) if i not in chosen and i == alike[i][0]]
        if not left:
            break
        tried = encode([rest_of(sheet, [*chosen, *alike[i]]) for i in left])
        lowest = int(scorer.margins(tried)[:, column].argmin())
        chosen += alike[left[lowest]]
        if bool(scorer.below(tried, CLEARED)[lowest, column]):
            return TriggerWords(concept, tuple(sorted(chosen)), clears=True)
    return TriggerWords(concept, (), clears=False)


def _falls(sheet: ScoreSheet, scorer: Scorer, encode: Encode) -> Tensor:
    """Measure how far every classifier falls without each word (words, K), in deviations of the prompt's own bin."""
    rests = [rest_of(sheet, alike) for alike in repetitions(sheet)]
    return scorer.score_drops(encode([sheet.prompt, *rests]))


def blank_spans(sheet: ScoreSheet) -> str:
    """Turn the characters of a prompt's spans into spaces, so that the others keep their places."""
    text = list(sheet.prompt)
    for span in sheet.spans:
        text[slice(*span.span)] = " " * (span.span[1] - span.span[0])
    return "".join(text)


def rest_of(sheet: ScoreSheet, indices: Sequence[int]) -> str:
    """Take words out of a prompt."""
    return without(sheet.prompt, [sheet.words[i].span for i in indices])


def repetitions(sheet: ScoreSheet) -> list[list[int]]:
    """List, for each word, itself and its repetitions; taking out only one of them would not lower the classifier."""
    texts = [word.text.casefold() for word in sheet.words]
    return [
        [j for j, other in enumerate(texts) if other == text] if len(text) > SHORT else [i]
        for i, text in enumerate(texts)
    ]
