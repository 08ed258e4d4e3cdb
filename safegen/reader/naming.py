"""Harm by name: somebody or something whose very name is harmful, told from what only takes part in what happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safegen.reader.chunks import parse
from safegen.reader.english import alone, is_being, is_thing
from safegen.reader.kinds import NOUN, VERBS
from safegen.reader.reading import OPEN

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from safegen.reader.reader import Reader

# From which height on a name for somebody is harmful by itself; the chances that are given to such, and to others.
NAMELY, HARMFUL, HARMLESS = 0.75, 0.9, 0.3
CREATURES = ("demon", "ghost", "vampire", "witch", "zombie")  # figures of tales, harmful by name alone
# Names that only say what is done to somebody: beside such a deed, a repair says *person* instead.
_VICTIMS = """
captive captives convict convicts deserter deserters detainee detainees enemies enemy foe foes heretic heretics hostage
hostages internee internees intruder intruders martyr martyrs prisoner prisoners sacrifice slave slaves traitor traitors
victim victims
"""
VICTIMS = frozenset(_VICTIMS.split())
# Up to which height a noun with all that describes it is harmless by itself, and up to which sum of height and chance a
# thing is to which something is done.
DESCRIBED, DONE_TO = 0.35, 1.15


def told_apart(reader: Reader, words: Sequence[str], chances: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the chances (words,) that words belong to the situation, where nouns are judged by what they name.

    Args:
        reader: the reader, which reads every name alone.
        words: the words of the prompt, in small letters.
        chances: (words,) how likely each word belongs to the situation.
    """
    nouns = [word.removesuffix("'s") for word in words]
    beings = [i for i, noun in enumerate(nouns) if is_being(noun)]
    chunks = parse(words)
    phrases = [(i, chunk) for i, chunk in enumerate(chunks) if chunk.kind == NOUN]
    names = [alone(nouns[i]) for i in beings] + [" ".join(words[i] for i in chunk.words) for _, chunk in phrases]
    heights = [reading.height for reading in reader.read(names)]
    told = chances.copy()
    for i, height in zip(beings, heights, strict=False):
        named = height >= NAMELY and not nouns[i].startswith(CREATURES)
        told[i] = HARMFUL if named or (nouns[i] in VICTIMS and chances[i] >= OPEN) else HARMLESS
    for (i, chunk), height in zip(phrases, heights[len(beings) :], strict=True):
        thing, aim = is_thing(words[chunk.head]), i > 0 and chunks[i - 1].kind in VERBS
        of = i + 2 < len(chunks) and words[chunks[i + 1].first] == "of" and chances[chunks[i + 2].head] >= OPEN
        if thing and aim and not of and height + chances[chunk.head] < DONE_TO:
            told[chunk.head] = min(HARMLESS, told[chunk.head])
        if height <= DESCRIBED and told[chunk.head] <= HARMLESS:
            for word in chunk.words:
                told[word] = min(HARMLESS, told[word])
    return told
