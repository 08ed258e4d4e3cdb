"""Weights on an embedding: after the guard, and only on what it has left as it was.

A weight that came first would be part of what is sanitized; one that came after, on any word, would bring
back what was taken out. So a word that was flagged, replaced or edited has no weight any more, and where
classifier or verifier object to the weighted prompt, it is drawn without its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from safegen.families.weights import weigh

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning, Word
    from safegen.families.weights import Weights
    from safegen.safeguards import SafeguardContext
    from safegen.scoring.scores import ScoreSheet


def guarded(
    plain: Conditioning,
    edited: Conditioning,
    sheets: Sequence[ScoreSheet],
    weights: Sequence[Weights],
    context: SafeguardContext,
) -> tuple[Conditioning, list[Weights], list[list[str]]]:
    """Give what the guard lets through of the weights of B prompts.

    Args:
        plain: as they were encoded.
        edited: after the safeguard.
        sheets: of `plain`.
        weights: as they were asked for.
        context: those of the guard.

    Returns:
        The weighted conditioning; the weights that it has, counted in its own texts; per prompt, the concepts
        under which its weights were objected to, and dropped.
    """
    left = [
        surviving(plain.only(row), edited.only(row), sheet, some, context) if some and sheet.flagged else some
        for row, (sheet, some) in enumerate(zip(sheets, weights, strict=True))
    ]
    objections: list[list[str]] = [[] for _ in left]
    if any(left):
        found = context.seen(weigh(edited, left))
        objections = [objected if some else [] for objected, some in zip(found, left, strict=True)]
        left = [() if objected else some for objected, some in zip(objections, left, strict=True)]
    return weigh(edited, left), left, objections


def surviving(
    plain: Conditioning, edited: Conditioning, sheet: ScoreSheet, weights: Weights, context: SafeguardContext
) -> Weights:
    """Keep the weights of words that are neither flagged nor edited in one prompt, counted in the edited text."""
    old, new = plain.words(0), edited.words(0)
    matched = SequenceMatcher(None, [w.text for w in old], [w.text for w in new], autojunk=False)
    pairs = [(b.a + i, b.b + i) for b in matched.get_matching_blocks() for i in range(b.size)]
    # Of a text that was rewritten, the words' states are judged by its own encoding.
    fresh = plain if edited.prompts == plain.prompts else context.family.encode(edited.prompts)
    found = []
    for i, j in pairs:
        if sheet.words[i].flagged or not _untouched(fresh, edited, new[j]):
            continue
        shift = new[j].span[0] - old[i].span[0]
        found += [w.within(old[i].span).moved(shift) for w in weights if w.meets(old[i].span)]
    return tuple(found)


def _untouched(fresh: Conditioning, edited: Conditioning, word: Word) -> bool:
    """Tell whether a word's states are the encoder's own, bit for bit, in every channel."""
    return all(
        bool((edited.channels[name].states[0, places] == fresh.channels[name].states[0, places]).all())
        for name, places in edited.tokens_of(0, word).items()
    )
