"""Score sheets of text: the reader's findings, alone or joined with the scores of directions on an encoder's states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from safegen.reader.grammar import LEADING
from safegen.reader.reader import Reader
from safegen.reader.reading import SHARE
from safegen.scoring.attribution import blank_spans, repetitions, rest_of
from safegen.scoring.scores import DIRECTIONS, READER, ConceptScore, ScoreSheet, SpanScore, WordScore

if TYPE_CHECKING:
    from safegen.reader.reading import Reading

Causes = Literal["none", "flagged", "all"]
CANDIDATES = 8  # how many words of a prompt get causes, the highest first
FALL = 0.3  # the factor of a concept's fall without a word, beside the word's own score


def sheet_of(reader: Reader, reading: Reading, names: Sequence[str]) -> ScoreSheet:
    """Make a sheet of a reading under the named concepts; those that the reader does not know are left out."""
    columns = {name: reader.concepts.index(name) for name in names if name in reader.concepts}
    scores = reading.scores
    highest = scores.max(0, initial=0.0)
    shares = reader.percentiles(highest[None], of_prompts=True)[0].tolist()
    highest = highest.tolist()
    concepts = {
        name: ConceptScore(
            score=highest[c] * float(reader.deviation[c]) + float(reader.mean[c]),
            z=highest[c],
            percentile=shares[c],
            threshold=float(reader.lines[c]),
        )
        for name, c in columns.items()
    }
    spans = tuple(
        SpanScore(reading.text[slice(*s.span)], s.span, s.concept, s.score)
        for s in reading.spans
        if s.concept in columns
    )
    words: list[WordScore] = []
    below = reader.percentiles(scores).tolist()
    for word, values, percents in zip(reading.words, scores.tolist(), below, strict=True):
        if words and words[-1].span == word.span:  # another word of a pictograph's name
            last = words[-1]
            own = {name: max(values[c], last.scores[name]) for name, c in columns.items()}
            percentiles = {name: max(percents[c], last.percentiles[name]) for name, c in columns.items()}
            words[-1] = replace(last, scores=own, percentiles=percentiles)
        elif word.spoken:
            carried = _carried(word.text, word.span, spans)
            own = {name: values[c] for name, c in columns.items()}
            percentiles = {name: percents[c] for name, c in columns.items()}
            words.append(WordScore(word.text, word.span, own, percentiles, carried))
    return ScoreSheet(
        reading.text,
        concepts,
        tuple(words),
        spans=spans,
        senses=(READER,),
        unread=tuple(word.text for word in reading.unread),
        legible=reading.legible,
        judged=reading.legible,
    )


def read_sheets(
    reader: Reader, readings: Sequence[Reading], names: Sequence[str], causes: Causes = "none"
) -> list[ScoreSheet]:
    """Make sheets of readings, with the causes of words under no concept, the flagged ones, or all."""
    sheets = [sheet_of(reader, reading, names) for reading in readings]
    if causes != "none":
        sheets = with_causes(reader, complete_spans(reader, sheets), every=causes == "all")
    return sheets


def with_causes(reader: Reader, sheets: Sequence[ScoreSheet], every: bool = False) -> list[ScoreSheet]:
    """Find how much each of a prompt's highest words is the cause under each concept.

    A cause has two parts: how far the word's score is above half of the prompt's, and a share of how far the prompt's
    score falls without the word, taken out wherever it stands. The fall alone misleads: without its subject, a
    sentence says less of anything.

    Args:
        reader: the reader that made the sheets.
        sheets: the prompts' sheets.
        every: whether to do so under all concepts, also for prompts below every line.
    """
    asked = [(row, word) for row, sheet in enumerate(sheets) for word in _highest(sheet, every)]
    alike = [repetitions(sheet) for sheet in sheets]
    rests = reader.read([rest_of(sheets[row], alike[row][word]) for row, word in asked])
    found: list[dict[int, dict[str, float]]] = [{} for _ in sheets]
    nothing: list[dict[str, float]] = []
    for (row, word), rest in zip(asked, rests, strict=True):
        after = rest.scores.max(0) if len(rest.scores) else reader.lines * 0
        known = sheets[row].concepts
        names = [n for n, c in known.items() if n in reader.concepts and (every or c.flagged)]
        said = sheets[row].words[word].scores
        found[row][word] = {
            n: max(0.0, said[n] - SHARE * known[n].z) + FALL * (known[n].z - float(after[reader.concepts.index(n)]))
            for n in names
        }
    for causes in found:  # words far below the highest are no cause
        none = dict.fromkeys(next(iter(causes.values()), {}), 0.0)
        nothing.append(none)
    return [
        replace(sheet, words=tuple(replace(w, causes=causes.get(i, none)) for i, w in enumerate(sheet.words)))
        if causes
        else sheet
        for sheet, causes, none in zip(sheets, found, nothing, strict=True)
    ]


def complete_spans(reader: Reader, sheets: Sequence[ScoreSheet], rounds: int = 2) -> list[ScoreSheet]:
    """Add spans to flagged prompts that are over a line only once the known ones are gone, for some rounds."""
    done = list(sheets)
    for _ in range(rounds):
        rows = [i for i, sheet in enumerate(done) if sheet.spans]
        rests = [blank_spans(done[row]) for row in rows]
        more = False
        for row, reading in zip(rows, reader.read(rests), strict=True):
            sheet = done[row]
            fresh = [s for s in reading.spans if s.concept in sheet.concepts]
            if fresh:
                more = True
                added = [SpanScore(sheet.prompt[slice(*s.span)], s.span, s.concept, s.score) for s in fresh]
                spans = tuple(sorted([*sheet.spans, *added], key=lambda s: s.span))
                words = tuple(replace(w, flagged=_carried(w.text, w.span, spans)) for w in sheet.words)
                done[row] = replace(sheet, words=words, spans=spans)
        if not more:
            break
    return done


def join_senses(read: ScoreSheet, seen: ScoreSheet) -> ScoreSheet:
    """Join the sheets of both senses: the worse verdict under every concept, and the encoder's words.

    Args:
        read: the reader's sheet.
        seen: the sheet of an encoder's directions, or, where it has none, of its words without scores.
    """
    concepts = dict(seen.concepts)
    for name, score in read.concepts.items():
        if name not in concepts or score.margin >= concepts[name].margin:
            concepts[name] = score
    order = [*read.concepts, *(name for name in concepts if name not in read.concepts)]
    return replace(
        seen,
        concepts={name: concepts[name] for name in order},
        words=tuple(_together(word, read, concepts) for word in seen.words),
        spans=read.spans,
        senses=(READER, DIRECTIONS) if seen.concepts else (READER,),
        unread=read.unread,
        legible=read.legible,
        judged=read.legible or set(read.concepts) <= set(seen.concepts),
    )


def _together(word: WordScore, read: ScoreSheet, concepts: Mapping[str, ConceptScore]) -> WordScore:
    """Give an encoder's word the reader's scores, or those of directions where their verdict is the worse one."""
    same = [w for w in read.words if _meet(w.span, word.span)]
    scores, percentiles = dict(word.scores), dict(word.percentiles)
    for name, score in read.concepts.items():
        if concepts[name] is score or name not in scores:
            scores[name] = max((w.scores[name] for w in same), default=0.0)
            percentiles[name] = max((w.percentiles[name] for w in same), default=0.0)
    carried = [name for w in same for name in w.flagged] + list(word.flagged)
    causes = {name: value for w in same for name, value in w.causes.items()} | dict(word.causes)
    return replace(word, scores=scores, percentiles=percentiles, flagged=tuple(dict.fromkeys(carried)), causes=causes)


def _carried(text: str, place: tuple[int, int], spans: Sequence[SpanScore]) -> tuple[str, ...]:
    """Name the concepts that a word carries: those of the spans that it is in, unless it is a small word."""
    return () if text.lower() in LEADING else tuple(dict.fromkeys(s.concept for s in spans if _meet(s.span, place)))


def _highest(sheet: ScoreSheet, every: bool) -> list[int]:
    names = [n for n, c in sheet.concepts.items() if every or c.flagged]
    if not names or not sheet.words:
        return []
    heights = [max(w.scores.get(n, 0.0) for n in names) for w in sheet.words]
    order = sorted(range(len(heights)), key=lambda i: -heights[i])
    least = -float("inf") if every else SHARE * heights[order[0]]
    return [i for i in order[:CANDIDATES] if heights[i] >= least or sheet.words[i].flagged]


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and one[1] > other[0]
