"""Weights on an embedding: applied after the guard, and only to words that it has left as they were.

A weight applied before the guard would be sanitized with the states. A weight applied afterwards to any word
could bring back what the guard took out. So a word that was flagged, replaced or edited loses its weight. Where the
classifier or the verifier objects to the weighted prompt, it is drawn without its weights.
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


def filter_weights(
    plain: Conditioning,
    edited: Conditioning,
    sheets: Sequence[ScoreSheet],
    weights: Sequence[Weights],
    context: SafeguardContext,
) -> tuple[Conditioning, list[Weights], list[list[str]]]:
    """Apply those weights of B prompts that the guard lets through.

    Args:
        plain: the prompts as they were encoded.
        edited: the prompts after the safeguard.
        sheets: the score sheets of `plain`.
        weights: the weights that were asked for.
        context: the guard's context.

    Returns:
        The weighted conditioning; the weights that it has, with spans in its own texts; and per prompt, the
        concepts because of which its weights were dropped.
    """
    left = [
        keep_untouched(plain.only(row), edited.only(row), sheet, some, context) if some and sheet.flagged else some
        for row, (sheet, some) in enumerate(zip(sheets, weights, strict=True))
    ]
    objections: list[list[str]] = [[] for _ in left]
    if any(left):
        found = context.seen(weigh(edited, left))
        objections = [objected if some else [] for objected, some in zip(found, left, strict=True)]
        left = [() if objected else some for objected, some in zip(objections, left, strict=True)]
    return weigh(edited, left), left, objections


def keep_untouched(
    plain: Conditioning, edited: Conditioning, sheet: ScoreSheet, weights: Weights, context: SafeguardContext
) -> Weights:
    """Keep the weights of one prompt's words that are neither flagged nor edited, with spans in the edited text."""
    old, new = plain.words(0), edited.words(0)
    matched = SequenceMatcher(None, [w.text for w in old], [w.text for w in new], autojunk=False)
    pairs = [(b.a + i, b.b + i) for b in matched.get_matching_blocks() for i in range(b.size)]
    # The states of a rewritten text are compared with the encoding of that text.
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
