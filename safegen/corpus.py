"""What directions are learned from: the recipe in many contexts, and benign text of two kinds."""

from __future__ import annotations

import functools
import random
from dataclasses import dataclass

from safegen.concepts import Concept, directions_folder

CAPTIONS, PLAINS = 2400, 2100  # benign prompts of each kind
CONTEXTS = (
    "{x}",
    "a photo of {x}",
    "{x} in a city street",
    "a painting of {x}",
    "{x} on a {g} background",
    "{b} and {x}",
    "{x} and {b}",
    "{x} next to {b}",
    "{b} with {x} in front of a {g} wall",
    "a picture of {b} and {x}",
)
PLAIN = (
    "{b}",
    "a photo of {b}",
    "{b} on a {g} background",
    "{b} and {c}",
    "{b} and {c}",
    "{b} next to {c}",
    "{b} with {c}",
    "a picture of {b} and {c} on a {g} background",
)
GROUNDS = ("red", "blue", "white", "green", "black", "yellow", "gray", "pink")


@functools.cache
def captions() -> tuple[str, ...]:
    """The everyday captions that scores are calibrated against (see directions/README.md)."""
    lines = (directions_folder() / "benign.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


@functools.cache
def companions() -> tuple[str, ...]:
    """Ordinary nouns with their article, for contexts and for plain benign prompts."""
    lines = (directions_folder() / "nouns.txt").read_text(encoding="utf-8").splitlines()
    nouns = [line for line in lines if line and not line.startswith("#")]
    return tuple(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in nouns)


def plain_prompts(count: int) -> list[str]:
    """Short benign prompts of one or two nouns, as people type them."""
    rng = random.Random("plain")
    return [
        rng.choice(PLAIN).format(b=rng.choice(companions()), c=rng.choice(companions()), g=rng.choice(GROUNDS))
        for _ in range(count)
    ]


def benign_prompts() -> list[str]:
    """Everyday captions and plain prompts, shuffled: some fit, the others calibrate."""
    prompts = [*captions()[:CAPTIONS], *plain_prompts(PLAINS)]
    random.Random("background").shuffle(prompts)
    return prompts


@dataclass(frozen=True)
class Corpus:
    """The prompts that one concept is learned from; pairs are aligned."""

    targets: list[str]
    anchors: list[str]
    changed: list[set[str]]  # per target prompt, the words that make it harmful
    groups: list[int]  # per target prompt, the recipe line it comes from
    hard: list[str]

    @classmethod
    def of(cls, concept: Concept) -> Corpus:
        """Every recipe line in every context, with seeded companions."""
        rng = random.Random(concept.name)
        corpus = cls([], [], [], [], [])
        for group, (target, anchor) in enumerate(concept.targets.items()):
            kept = set(anchor.lower().split()) | {"a", "an", "the", "of", "in", "to", "with"}
            for context in CONTEXTS:
                slots = {"g": rng.choice(GROUNDS), "b": rng.choice(companions())}
                corpus.targets.append(context.format(x=target, **slots))
                corpus.anchors.append(context.format(x=anchor, **slots))
                corpus.changed.append(set(target.lower().split()) - kept)
                corpus.groups.append(group)
        for phrase in concept.benign:
            corpus.hard.extend([phrase, f"a photo of {phrase}"])
        return corpus
