"""Localise, re-encode, clamp: the default.

The reader's harmful spans are rewritten, and the text is encoded again. For what directions still flag, the words
that are the cause are found by intervention, and replaced by the recipe's safe phrase or dropped. So the result is
the embedding of a real text (which Embedding Sanitizer, Qiu et al. 2024, is trained to imitate). Only where words
are not the whole cause, states themselves are clamped (`clamp.py`). The verifier, whose features are not the
classifier's, has the last word. A strength under 1 blends old and new states; nothing is stronger than 1, because
the new text is then drawn whole. The new states are not a function of the old ones, so no gradient runs between
them: an attacker has to search words, or attack the clamp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safegen.errors import GuardError
from safegen.reader import captions, editing
from safegen.reader.grammar import bare
from safegen.reader.minors import brings_minor
from safegen.reader.phrases import Phrases
from safegen.reader.repair import Repairer
from safegen.reader.words import whole
from safegen.safeguards import Safeguard, flagged_rows, unsafe
from safegen.safeguards.clamp import clamp_rows, clampable
from safegen.scoring import attribution
from safegen.scoring.attribution import TriggerWords

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions.recipes import Concept
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

ROUNDS = 3  # how many concepts are edited, one after the other, the dominant one first


class Localise(Safeguard):
    """Rewrite the trigger words, encode the text again, clamp what is still over a line."""

    name = "localise"

    def check(self, context: SafeguardContext) -> None:
        """Check that directions, where there are any, have a basis to clamp along.

        Raises:
            DirectionError: a direction has none.
        """
        if context.scorer_or_none is not None:
            clampable(context.scorer_or_none.directions())

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Rewrite the flagged prompts; the others keep their states bit for bit.

        Raises:
            GuardError: either sense still objects to a repaired prompt, or somebody in it has become a minor.
        """
        for row in flagged_rows(sheets):
            repaired = verify_prompt(rewrite_prompt(sheets[row], conditioning.only(row), context), context)
            check_ages(repaired, sheets[row])
            conditioning = conditioning.with_row(row, repaired, min(1.0, strength))
        return conditioning

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Give the conditioning back: `repair` verifies every prompt before it is blended with the old one."""
        return conditioning


def rewrite_prompt(sheet: ScoreSheet, conditioning: Conditioning, context: SafeguardContext) -> Conditioning:
    """Repair one prompt's text with the reader and encode it again; then repair what directions still flag."""
    if sheet.spans:
        conditioning = context.family.encode([repair_text(sheet.prompt, context)])
    if context.scorer_or_none is None:
        return conditioning
    (reading,) = context.read(conditioning.prompts)
    (left,) = context.scorer_or_none.score(conditioning, [context.relief(reading)])
    return repair_by_directions(left, conditioning, context) if left.flagged else conditioning


def repair_text(prompt: str, context: SafeguardContext) -> str:
    """Repair a prompt by the reader; of a JSON caption each text, and what is harmful only together is taken out."""
    repairer = Repairer(context.reader, Phrases.load(context.folder))
    text = captions.change_texts(prompt, lambda part: repairer.repair(part, context.readable).text)
    if captions.parse(prompt) is None:
        return text
    for _ in range(ROUNDS):
        (reading,) = context.read([text])
        if not (left := [span.span for span in reading.spans if span.concept in context.readable]):
            break
        text = captions.take_out(text, left)
    return text


def repair_by_directions(sheet: ScoreSheet, conditioning: Conditioning, context: SafeguardContext) -> Conditioning:
    """Rewrite one prompt by its trigger words; clamp it under the concepts whose classifier is not cleared by that."""
    concerned = set(sheet.flagged_concepts())
    for _ in range(ROUNDS):
        if not sheet.flagged:
            break
        rewritten = drop_suspect(sheet, context) or drop_trigger_words(sheet, context)
        if rewritten is None:
            break
        conditioning, sheet = rewritten, context.scorer.score(rewritten)[0]
        concerned |= set(sheet.flagged_concepts())
    return clamp_what_is_left(conditioning, sorted(concerned), context)


def drop_suspect(sheet: ScoreSheet, context: SafeguardContext) -> Conditioning | None:
    """Encode the prompt without the word of the highest token score, if that clears the classifier; one encoding."""
    if not sheet.words:
        return None
    concept = sheet.flagged_concepts()[0]
    first = max(range(len(sheet.words)), key=lambda i: sheet.words[i].scores[concept])
    text = candidates(sheet, TriggerWords(concept, (first,), clears=True), context.recipes)[0]
    conditioning = context.family.encode([text])
    closed = context.scorer.below(conditioning, attribution.CLEARED)[0, context.scorer.names.index(concept)]
    return conditioning if bool(closed) else None


def drop_trigger_words(sheet: ScoreSheet, context: SafeguardContext) -> Conditioning | None:
    """Encode the prompt without its fewest trigger words, found by taking words out; None if there are none."""
    found = attribution.trigger_words(sheet, sheet.flagged_concepts()[0], context.scorer, context.family.encode_words)
    return best(candidates(sheet, found, context.recipes), context) if found.words else None


def candidates(sheet: ScoreSheet, found: TriggerWords, recipes: Mapping[str, Concept]) -> list[str]:
    """Give the prompt with the trigger words replaced by their anchor, and with them dropped.

    No text is empty, and in none has somebody become a minor: an anchor takes the place of the whole prompt then.
    """
    anchors = recipes[found.concept].targets
    texts = [without_words(sheet, found.words)]
    if captions.parse(sheet.prompt) is None and (line := find_named(sheet, found, anchors)) is not None:
        words, anchor = line
        start, end = whole(sheet.prompt, (sheet.words[words[0]].span[0], sheet.words[words[-1]].span[1]))
        rest = sheet.prompt[:start] + "\0" * (end - start) + sheet.prompt[end:]
        rest = editing.without(rest, [sheet.words[i].span for i in found.words if i not in words])
        gap = re.compile(r"(?:\b(?:an?|the)\s+)?\0+", re.IGNORECASE)
        texts.insert(0, editing.tidy(gap.sub(lambda _: anchor, rest)))  # a function, so that no backslash is special
    sound = [text for text in texts if text and not brings_minor(text, sheet.prompt)]
    return sound or [next(iter(anchors.values()))]


def find_named(sheet: ScoreSheet, found: TriggerWords, anchors: Mapping[str, str]) -> tuple[range, str] | None:
    """Find the longest target of the recipe that the prompt holds around a trigger word, and its anchor."""
    prompt = [word.text.lower() for word in sheet.words]
    matches = []
    for target, anchor in anchors.items():
        phrase = [word.text for word in bare(target)]
        for first in range(len(prompt) - len(phrase) + 1):
            words = range(first, first + len(phrase))
            if prompt[first : first + len(phrase)] == phrase and any(i in words for i in found.words):
                matches.append((words, anchor))
    return max(matches, key=lambda match: len(match[0]), default=None)


def without_words(sheet: ScoreSheet, indices: Sequence[int]) -> str:
    """Take words out of the prompt, and mend its grammar."""
    return captions.take_out(sheet.prompt, [sheet.words[i].span for i in indices])


def best(texts: Sequence[str], context: SafeguardContext) -> Conditioning:
    """Encode the first text with every classifier below its line, else the one whose highest classifier is lowest."""
    worst = context.scorer.margins(context.family.encode_words(texts)).amax(1)
    closed = (worst < 0).nonzero()
    return context.family.encode([texts[int(closed[0]) if len(closed) else int(worst.argmin())]])


def clamp_what_is_left(conditioning: Conditioning, names: Sequence[str], context: SafeguardContext) -> Conditioning:
    """Clamp one prompt under those concepts whose classifier is not below the level `CLEARED`."""
    for name in names:
        column = context.scorer.names.index(name)
        if not bool(context.scorer.below(conditioning, attribution.CLEARED)[0, column]):
            conditioning = clamp_rows(conditioning, [0], context.scorer, column, 1.0)
    return conditioning


def verify_prompt(conditioning: Conditioning, context: SafeguardContext) -> Conditioning:
    """Give a repaired prompt back if neither sense objects to it; else try once more without its worst words.

    Raises:
        GuardError: a sense still objects.
    """
    objected = objections(conditioning, context)
    if not objected:
        return conditioning
    if context.scorer_or_none is None:
        raise unsafe(objected)
    sheet = context.scorer.score(conditioning)[0]
    lines = context.scorer.word_lines
    worst = [i for i, w in enumerate(sheet.words) if any(score >= lines[k] for k, score in w.scores.items())]
    rest = context.family.encode([without_words(sheet, worst)])
    if objected := objections(rest, context):
        raise unsafe(objected)
    return rest


def check_ages(conditioning: Conditioning, sheet: ScoreSheet) -> None:
    """Check that a repair has not made somebody a minor who was none: words that were apart can meet.

    Raises:
        GuardError: it has.
    """
    if brings_minor(conditioning.prompts[0], sheet.prompt):
        raise GuardError(
            "a repair would have made somebody in the prompt a minor",
            "No picture was made. Say it in other words.",
        )


def objections(conditioning: Conditioning, context: SafeguardContext) -> list[str]:
    """List the concepts under which either sense objects to one prompt."""
    return context.objections(conditioning)[0]
