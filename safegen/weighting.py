"""Weights on an embedding: after the guard, and only on what it has left as it was.

A weight that came first would be part of what is sanitized; one that came after, on any word, would bring
back what was taken out. So a word that was flagged, replaced or edited has no weight any more, and where
gate or check object to the weighted prompt, it is drawn without its weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

from safegen.conditioning import reference, spelled, worded
from safegen.prompts.emphasis import Weight

if TYPE_CHECKING:
    from safegen.conditioning import Conditioning, Word
    from safegen.safeguards import Tools
    from safegen.scoring.scores import ScoreSheet

Weights = tuple[Weight, ...]


def weighted(conditioning: Conditioning, weights: Sequence[Weights]) -> Conditioning:
    """Every word's states multiplied by its weight, in all worded channels; pooled vectors have no words.

    Args:
        conditioning: B prompts.
        weights: of each; the same conditioning comes back where there are none.
    """
    if not any(weights):
        return conditioning
    states = {}
    for name, channel in worded(conditioning).items():
        states[name] = channel.states.clone()
        for row, some in enumerate(weights):
            for i, token in enumerate(channel.tokens[row]):
                value = next((w.value for w in some if token.span and _meet(w.span, token.span)), 1.0)
                if value != 1:
                    states[name][row, i] *= value
    return conditioning.with_states(states)


def shown(sheet: ScoreSheet, weights: Weights) -> ScoreSheet:
    """The sheet with what was asked for every word; of a word with several weights the first."""
    if not weights:
        return sheet
    words = [
        replace(word, weight=next((w.value for w in weights if _meet(w.span, word.span)), 1.0)) for word in sheet.words
    ]
    return replace(sheet, words=tuple(words))


def guarded(
    plain: Conditioning, edited: Conditioning, sheets: Sequence[ScoreSheet], weights: Sequence[Weights], tools: Tools
) -> tuple[Conditioning, list[Weights], list[list[str]]]:
    """What the guard lets through of the weights of B prompts.

    Args:
        plain: as they were encoded.
        edited: after the safeguard.
        sheets: of `plain`.
        weights: as they were asked for.
        tools: those of the guard.

    Returns:
        The weighted conditioning; the weights that it has, counted in its own texts; per prompt, the concepts
        under which its weights were objected to, and dropped.
    """
    left = [
        kept(plain.only(row), edited.only(row), sheet, some, tools) if some and sheet.flagged else some
        for row, (sheet, some) in enumerate(zip(sheets, weights, strict=True))
    ]
    objections: list[list[str]] = [[] for _ in left]
    if any(left):
        found = tools.seen(weighted(edited, left))
        objections = [objected if some else [] for objected, some in zip(found, left, strict=True)]
        left = [() if objected else some for objected, some in zip(objections, left, strict=True)]
    return weighted(edited, left), left, objections


def kept(plain: Conditioning, edited: Conditioning, sheet: ScoreSheet, weights: Weights, tools: Tools) -> Weights:
    """The weights of one flagged prompt's words that are neither flagged nor edited, counted in the edited text."""
    old, new = reference(plain, 0).words(0), reference(edited, 0).words(0)
    matched = SequenceMatcher(None, [w.text for w in old], [w.text for w in new], autojunk=False)
    pairs = [(b.a + i, b.b + i) for b in matched.get_matching_blocks() for i in range(b.size)]
    # Of a text that was rewritten, the words' states are judged by its own encoding.
    fresh = plain if edited.prompts == plain.prompts else tools.family.encode(edited.prompts)
    found = []
    for i, j in pairs:
        if sheet.words[i].flagged or not _untouched(fresh, edited, new[j]):
            continue
        shift = new[j].span[0] - old[i].span[0]
        found += [_within(w, old[i].span).moved(shift) for w in weights if _meet(w.span, old[i].span)]
    return tuple(found)


def _untouched(fresh: Conditioning, edited: Conditioning, word: Word) -> bool:
    """Whether a word's states are the encoder's own, bit for bit, in every channel."""
    return all(
        bool((edited.channels[name].states[0, places] == fresh.channels[name].states[0, places]).all())
        for name, places in spelled(edited, 0, word).items()
    )


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and one[1] > other[0]


def _within(weight: Weight, span: tuple[int, int]) -> Weight:
    return Weight((max(weight.span[0], span[0]), min(weight.span[1], span[1])), weight.value)
