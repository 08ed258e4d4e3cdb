"""Localise, re-encode, clamp: the default.

The words that cause a flag are found by intervention and replaced in the text by what the recipe
names as safe in their place, or dropped, and the text is encoded again: the edit lands on a real text
embedding (what Embedding Sanitizer, Qiu et al. 2024, is trained to imitate). Only where words cannot
carry the blame, or not all of it, are states themselves clamped (`clamp.py`). A head with other
features than the gate's has the last word. A strength under 1 blends old and new states; there is
nothing stronger than 1, for the new text is drawn whole. Its states are no function of the old ones,
so no gradient runs from one to the other: whoever attacks this searches words, or attacks the clamp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from safegen.reader import editing
from safegen.reader.phrases import Phrases
from safegen.reader.repair import Repairer
from safegen.reader.words import whole
from safegen.safeguards import Safeguard, flagged_rows, unsafe
from safegen.safeguards.clamp import clampable, clamped
from safegen.scoring import attribution
from safegen.scoring.attribution import TriggerWords

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning
    from safegen.directions.recipes import Concept
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet

ROUNDS = 3  # concepts edited one after the other, the dominant one first


class Localise(Safeguard):
    """Rewrite the words that are the cause, encode the text again, clamp what is left."""

    name = "localise"

    def check(self, context: SafeguardContext) -> None:
        """Raises:
        DirectionError: a concept's file holds nothing to clamp along.
        """
        if context.directions is not None:
            clampable(context.directions.directions())

    def repair(
        self, conditioning: Conditioning, sheets: Sequence[ScoreSheet], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Repair the prompts with an open gate; the rest keep their states bit for bit.

        Raises:
            GuardError: the check still objects to a repaired prompt.
        """
        for row in flagged_rows(sheets):
            repaired = verified(rewritten(sheets[row], conditioning.only(row), context), context)
            conditioning = conditioning.with_row(row, repaired, min(1.0, strength))
        return conditioning

    def verify(
        self, conditioning: Conditioning, rows: Sequence[int], context: SafeguardContext, strength: float
    ) -> Conditioning:
        """Leave it as it is: every prompt was verified as it was rewritten, before it was blended with the old one."""
        return conditioning


def rewritten(sheet: ScoreSheet, conditioning: Conditioning, context: SafeguardContext) -> Conditioning:
    """One prompt whose text the reader has repaired, encoded again; then what directions still object to."""
    if sheet.spans:
        repaired = Repairer(context.reader, Phrases.load(context.folder)).repair(sheet.prompt, context.readable)
        conditioning = context.family.encode([repaired.text])
    if context.directions is None:
        return conditioning
    (reading,) = context.read(conditioning.prompts)
    (left,) = context.directions.score(conditioning, [context.calm(reading)])
    return repair(left, conditioning, context) if left.flagged else conditioning


def repair(sheet: ScoreSheet, conditioning: Conditioning, context: SafeguardContext) -> Conditioning:
    """One prompt rewritten and encoded again; clamped under the concepts that this has not closed."""
    concerned = set(sheet.flagged_concepts())
    for _ in range(ROUNDS):
        if not sheet.flagged:
            break
        rewritten = suspected(sheet, context) or searched(sheet, context)
        if rewritten is None:
            break
        conditioning, sheet = rewritten, context.scorer.score(rewritten)[0]
        concerned |= set(sheet.flagged_concepts())
    return lowered(conditioning, sorted(concerned), context)


def suspected(sheet: ScoreSheet, context: SafeguardContext) -> Conditioning | None:
    """The prompt without the word of the highest own score, if that closes the gate; one encoding."""
    if not sheet.words:
        return None
    concept = sheet.flagged_concepts()[0]
    first = max(range(len(sheet.words)), key=lambda i: sheet.words[i].scores[concept])
    text = candidates(sheet, TriggerWords(concept, (first,), clears=True), context.recipes)[0]
    conditioning = context.family.encode([text])
    closed = context.scorer.below(conditioning, attribution.CLEARED)[0, context.scorer.names.index(concept)]
    return conditioning if bool(closed) else None


def searched(sheet: ScoreSheet, context: SafeguardContext) -> Conditioning | None:
    """The prompt without the fewest words that close the gate, found by taking each out; None if there are none."""
    found = attribution.trigger_words(sheet, sheet.flagged_concepts()[0], context.scorer, context.family.encode_words)
    return best(candidates(sheet, found, context.recipes), context) if found.words else None


def candidates(sheet: ScoreSheet, found: TriggerWords, recipes: Mapping[str, Concept]) -> list[str]:
    """The prompt with the culprits replaced by their anchor, and with them dropped; never empty."""
    anchors = recipes[found.concept].targets
    dropped = without_words(sheet, found.words)
    texts = [dropped or next(iter(anchors.values()))]
    if (line := named(sheet, found, anchors)) is not None:
        words, anchor = line
        start, end = whole(sheet.prompt, (sheet.words[words[0]].span[0], sheet.words[words[-1]].span[1]))
        rest = sheet.prompt[:start] + "\0" * (end - start) + sheet.prompt[end:]
        rest = editing.without(rest, [sheet.words[i].span for i in found.words if i not in words])
        gap = re.compile(r"(?:\b(?:an?|the)\s+)?\0+", re.IGNORECASE)
        texts.insert(0, editing.tidy(gap.sub(lambda _: anchor, rest)))  # an anchor is no template
    return texts


def named(sheet: ScoreSheet, found: TriggerWords, anchors: Mapping[str, str]) -> tuple[range, str] | None:
    """The longest harmful phrase of the recipe that the prompt holds around a culprit, and its anchor."""
    prompt = [word.text.lower() for word in sheet.words]
    matches = []
    for target, anchor in anchors.items():
        phrase = re.sub(r"^(?:an?|the)\s+", "", target.lower()).split()
        for first in range(len(prompt) - len(phrase) + 1):
            words = range(first, first + len(phrase))
            if prompt[first : first + len(phrase)] == phrase and any(i in words for i in found.words):
                matches.append((words, anchor))
    return max(matches, key=lambda match: len(match[0]), default=None)


def without_words(sheet: ScoreSheet, indices: Sequence[int]) -> str:
    """The prompt without some of its words, in tidy grammar."""
    return editing.tidy(editing.without(sheet.prompt, [sheet.words[i].span for i in indices]))


def best(texts: Sequence[str], context: SafeguardContext) -> Conditioning:
    """The first text that closes every gate, else the one whose highest gate is lowest."""
    worst = context.scorer.margins(context.family.encode_words(texts)).amax(1)
    closed = (worst < 0).nonzero()
    return context.family.encode([texts[int(closed[0]) if len(closed) else int(worst.argmin())]])


def lowered(conditioning: Conditioning, names: Sequence[str], context: SafeguardContext) -> Conditioning:
    """One prompt clamped under those concepts whose gate is not below the closing level."""
    for name in names:
        column = context.scorer.names.index(name)
        if not bool(context.scorer.below(conditioning, attribution.CLEARED)[0, column]):
            conditioning = clamped(conditioning, [0], context.scorer, column, 1.0)
    return conditioning


def verified(conditioning: Conditioning, context: SafeguardContext) -> Conditioning:
    """One repaired prompt if gate and check have nothing against it; once more without its worst words.

    Raises:
        GuardError: one of them still objects.
    """
    objected = objections(conditioning, context)
    if not objected:
        return conditioning
    if context.directions is None:
        raise unsafe(objected)
    sheet = context.scorer.score(conditioning)[0]
    lines = context.scorer.word_lines
    worst = [i for i, w in enumerate(sheet.words) if any(score >= lines[k] for k, score in w.scores.items())]
    rest = context.family.encode([without_words(sheet, worst)])
    if objected := objections(rest, context):
        raise unsafe(objected)
    return rest


def objections(conditioning: Conditioning, context: SafeguardContext) -> list[str]:
    """The concepts under which either sense objects to one prompt."""
    return context.objections(conditioning)[0]
