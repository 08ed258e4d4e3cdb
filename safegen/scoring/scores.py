"""The score sheet: everything that was found in one prompt, as a value."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from safegen.prompts.prompt import lay_out
from safegen.reader import captions

if TYPE_CHECKING:
    from safegen.prompts.emphasis import Weight

SCHEMA = "safegen.score/2"
READER, DIRECTIONS = "reader", "directions"  # the two senses


@dataclass(frozen=True)
class ConceptScore:
    """One concept's verdict on one prompt; `z` and `threshold` are benign standard deviations."""

    score: float  # the classifier's log-odds, uncalibrated
    z: float
    percentile: float  # share of benign prompts of like length with a lower score, in percent
    threshold: float

    @property
    def margin(self) -> float:
        """The distance over the line; negative below it."""
        return self.z - self.threshold

    @property
    def share(self) -> float:
        """The score as a share of the threshold."""
        return self.z / self.threshold

    @property
    def flagged(self) -> bool:
        return self.z >= self.threshold


@dataclass(frozen=True)
class WordScore:
    """One word and its scores under every concept, in benign standard deviations.

    Attributes:
        scores: the token scores, from the word's own states.
        percentiles: the share of benign positions of its class with a lower score, in percent.
        causes: how much the word is the cause, for the concepts that were asked about: from its own score, and from
            how far the concept falls when the word is taken out.
        intensity: the safeguard's own score of the word, from 0 to 1, if it has one.
        weight: the weight that the prompt's marks ask for.
        window: the number of the encoder's window that reads the word, in a prompt longer than one.
    """

    text: str
    span: tuple[int, int]
    scores: Mapping[str, float]
    percentiles: Mapping[str, float]
    flagged: tuple[str, ...] = ()  # the flagged concepts that this word carries
    causes: Mapping[str, float] = field(default_factory=dict)
    intensity: float | None = None
    weight: float = 1.0
    window: int = 0


@dataclass(frozen=True)
class SpanScore:
    """A run of words that carries harm under one concept; `score` is that of its worst word."""

    text: str
    span: tuple[int, int]
    concept: str
    score: float


@dataclass(frozen=True)
class ScoreSheet:
    """The score sheet of one prompt.

    Attributes:
        prompt: the text.
        concepts: the verdict under every concept.
        words: the words of the text.
        tokens: the tokens, unmerged, special ones included; none where no encoder was used.
        truncated: the text that the encoder did not see.
        spans: the spans that the reader found harmful.
        senses: the senses that were used: `reader`, `directions` or both.
        unread: the words that the reader cannot read.
        legible: whether the reader could read enough to judge the text.
        judged: whether the text is judged under every concept: by the reader, or by directions.
    """

    prompt: str
    concepts: Mapping[str, ConceptScore]
    words: tuple[WordScore, ...]
    tokens: tuple[WordScore, ...] = ()
    truncated: str = ""
    spans: tuple[SpanScore, ...] = ()
    senses: tuple[str, ...] = (DIRECTIONS,)
    unread: tuple[str, ...] = ()
    legible: bool = True
    judged: bool = True

    @property
    def flagged(self) -> bool:
        return any(c.flagged for c in self.concepts.values())

    @property
    def windows(self) -> int:
        """The number of the encoder's windows that the prompt's words fill."""
        return 1 + max((w.window for w in self.words), default=0)

    def key_of(self, span: tuple[int, int]) -> str:
        """Name the key of a JSON caption under which a span stands; empty in any other prompt."""
        caption = captions.parse(self.prompt)
        return caption.path(span) if caption is not None else ""

    def flagged_concepts(self) -> list[str]:
        """List the concepts over their threshold, the farthest over first."""
        over = {k: c.margin for k, c in self.concepts.items() if c.flagged}
        return sorted(over, key=lambda k: -over[k])

    def open_gates(self) -> list[str]:
        """Do what `flagged_concepts` does; the name it had in 0.1."""
        warnings.warn("open_gates() is flagged_concepts() now", DeprecationWarning, stacklevel=2)
        return self.flagged_concepts()

    def with_weights(self, weights: Sequence[Weight]) -> ScoreSheet:
        """Add to every word the weight that was asked for, or the first of several."""
        if not weights:
            return self
        words = (
            replace(word, weight=next((w.value for w in weights if w.meets(word.span)), 1.0)) for word in self.words
        )
        return replace(self, words=tuple(words))

    def only(self, names: Collection[str]) -> ScoreSheet:
        """Keep what was found under some concepts."""

        def keep(word: WordScore) -> WordScore:
            scores, percentiles, causes = (
                {k: v for k, v in values.items() if k in names}
                for values in (word.scores, word.percentiles, word.causes)
            )
            flagged = tuple(name for name in word.flagged if name in names)
            return replace(word, scores=scores, percentiles=percentiles, causes=causes, flagged=flagged)

        return replace(
            self,
            concepts={name: score for name, score in self.concepts.items() if name in names},
            words=tuple(map(keep, self.words)),
            spans=tuple(span for span in self.spans if span.concept in names),
        )

    @staticmethod
    def merged(sheets: Sequence[ScoreSheet], gaps: Sequence[str]) -> ScoreSheet:
        """Merge the sheets of a prompt's windows into one: a prompt is as harmful as its worst window.

        Args:
            sheets: the sheets, in the order of the windows.
            gaps: the texts between the windows.
        """
        if len(sheets) == 1:
            return sheets[0]
        whole, starts = lay_out([sheet.prompt for sheet in sheets], gaps)
        moved = [sheet._moved(start, window) for window, (sheet, start) in enumerate(zip(sheets, starts, strict=True))]
        return replace(
            moved[0],
            prompt=whole,
            concepts={
                name: max((sheet.concepts[name] for sheet in sheets), key=lambda score: score.margin)
                for name in sheets[0].concepts
            },
            words=tuple(word for sheet in moved for word in sheet.words),
            tokens=tuple(token for sheet in moved for token in sheet.tokens),
            truncated=" ".join(sheet.truncated for sheet in moved if sheet.truncated),
            spans=tuple(span for sheet in moved for span in sheet.spans),
            unread=tuple(word for sheet in moved for word in sheet.unread),
            legible=all(sheet.legible for sheet in moved),
            judged=all(sheet.judged for sheet in moved),
        )

    def _moved(self, start: int, window: int) -> ScoreSheet:
        """Shift the spans of a window, so that they count from the beginning of the prompt."""

        def shift(word: WordScore) -> WordScore:
            return replace(word, span=(word.span[0] + start, word.span[1] + start), window=window)

        words, tokens = (tuple(map(shift, scores)) for scores in (self.words, self.tokens))
        spans = tuple(replace(s, span=(s.span[0] + start, s.span[1] + start)) for s in self.spans)
        return replace(self, words=words, tokens=tokens, spans=spans)

    def as_json(self, identity: str, tokens: bool = False) -> dict[str, Any]:
        """Give the sheet in the schema ``safegen.score/2``; `causes` only where they were computed."""
        return {
            "schema": SCHEMA,
            "id": identity,
            "prompt": self.prompt,
            "flagged": self.flagged,
            "concepts": {
                name: {
                    "score": round(c.score, 4),
                    "z": round(c.z, 3),
                    "percentile": round(c.percentile, 2),
                    "threshold": round(c.threshold, 3),
                    "margin": round(c.margin, 3),
                    "flagged": c.flagged,
                }
                for name, c in self.concepts.items()
            },
            "words": [self._word_as_json(word) for word in self.words],
            **({"tokens": [self._word_as_json(token) for token in self.tokens]} if tokens else {}),
            "truncated": self.truncated,
            "spans": [
                {"text": s.text, "span": list(s.span), "concept": s.concept, "score": round(s.score, 3)}
                | ({"key": key} if (key := self.key_of(s.span)) else {})
                for s in self.spans
            ],
            "senses": list(self.senses),
            "unread": list(self.unread),
            "judged": self.judged,
        }

    def _word_as_json(self, word: WordScore) -> dict[str, Any]:
        return (
            {
                "text": word.text,
                "span": list(word.span),
                "scores": _rounded(word.scores),
                "percentiles": _rounded(word.percentiles, 1),
                "flagged": list(word.flagged),
            }
            | ({"causes": _rounded(word.causes)} if word.causes else {})
            | ({"intensity": round(word.intensity, 3)} if word.intensity is not None else {})
            | ({"weight": word.weight} if word.weight != 1 else {})
            | ({"window": word.window} if self.windows > 1 else {})
            | ({"key": key} if (key := self.key_of(word.span)) else {})
        )


def _rounded(scores: Mapping[str, float], digits: int = 3) -> dict[str, float]:
    return {k: round(v, digits) for k, v in scores.items()}
