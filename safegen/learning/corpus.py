"""What directions are learned from: the recipe in many contexts, pairs from elsewhere, benign text of three kinds."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from safegen.concepts import Concept, directions_folder, known, load
from safegen.promptsets import Entry

CAPTIONS, PLAINS, LONGS = 2400, 2100, 1500  # benign prompts of each kind
COUPLES, ESCORTED = 4000, 3000  # more of the plain kind; phrases of hard.txt beside something
SPARED = 4  # of the benign prompts for the standard concepts, one's own concept takes every fourth
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
    "{c} {x}",
    "{c} {b} and {x}",
    "{x}, {c}",
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
DRAWS = 5  # of every context that needs a companion, with others each time
ESCORT = ("{x} and {b}", "{b} and {x}", "{x} next to {b}", "a photo of {x}", "{x} on a {g} background")
GROUNDS = ("red", "blue", "white", "green", "black", "yellow", "gray", "pink")


@functools.cache
def captions() -> tuple[str, ...]:
    """The everyday captions that scores are calibrated against (see directions/README.md)."""
    return _lines("benign.txt")


@functools.cache
def companions() -> tuple[str, ...]:
    """Ordinary nouns with their article, for contexts and for plain benign prompts."""
    return tuple(f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}" for noun in _lines("nouns.txt"))


@functools.cache
def lookalikes() -> tuple[str, ...]:
    """Benign phrases that only look harmful, beside those of the recipes."""
    return _lines("hard.txt")


def _lines(name: str) -> tuple[str, ...]:
    lines = (directions_folder() / name).read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


def plain_prompts(count: int, seed: str = "plain") -> list[str]:
    """Short benign prompts of one or two nouns, as people type them."""
    rng = random.Random(seed)
    return [
        rng.choice(PLAIN).format(b=rng.choice(companions()), c=rng.choice(companions()), g=rng.choice(GROUNDS))
        for _ in range(count)
    ]


def long_prompts(count: int) -> list[str]:
    """Two to four captions in one, as people decorate their prompts."""
    rng = random.Random("long")
    return [" ".join(rng.sample(captions(), rng.randint(2, 4))) for _ in range(count)]


def benign_prompts(more: Sequence[str] = ()) -> list[str]:
    """Everyday captions, plain prompts, long ones and the user's own, shuffled: some fit, the others calibrate."""
    prompts = [*captions()[:CAPTIONS], *plain_prompts(PLAINS), *long_prompts(LONGS), *more]
    random.Random("background").shuffle(prompts)
    return prompts


def company() -> list[str]:
    """Two things beside each other: ordinary ones, and ones that only look harmful; short, as gates err most there."""
    rng = random.Random("company")
    short = [phrase for phrase in lookalikes() if len(phrase.split()) <= 6]
    escorted = [
        rng.choice(ESCORT).format(x=phrase, b=rng.choice(companions()), g=rng.choice(GROUNDS))
        for phrase in rng.sample(short, min(ESCORTED, len(short)))
    ]
    return [*plain_prompts(COUPLES, "couples"), *escorted]


def harmless(recipe: Concept, but: set[str]) -> list[str]:
    """A recipe's benign phrases and anchors in plain contexts; every concept learns from all recipes'."""
    rng = random.Random(f"harmless {recipe.name}")
    prompts = [form for phrase in recipe.benign for form in (phrase, f"a photo of {phrase}")]
    for anchor in dict.fromkeys(recipe.targets.values()):
        contexts = ("{x}", *rng.sample(CONTEXTS[1:10], 2))
        slots = {"g": rng.choice(GROUNDS), "b": rng.choice(companions())}
        prompts += [context.format(x=anchor, **slots) for context in contexts if anchor not in but]
    return prompts


@dataclass(frozen=True)
class Corpus:
    """The prompts that one concept is learned from; targets and anchors are aligned."""

    targets: list[str]
    anchors: list[str]
    changed: list[set[str]]  # per target prompt, the words that make it harmful
    groups: list[int]  # per target prompt, the recipe line it comes from
    harder: list[
        list[str]
    ]  # benign, but looks harmful; by where it comes from, since most of it is the same for every concept
    company: list[str]
    unsafe: list[str]  # prompts of a published set, and their safe counterparts
    safe: list[str]

    @property
    def hard(self) -> list[str]:
        """What is benign but looks harmful, as one."""
        return [prompt for part in self.harder for prompt in part]

    @classmethod
    def of(cls, concept: Concept, pairs: Sequence[Entry] = ()) -> Corpus:
        """Every recipe line in every context, with seeded companions; and the concept's training pairs."""
        rng = random.Random(concept.name)
        share = 1 if concept.name in known() else SPARED
        corpus = cls([], [], [], [], [], company()[::share], [], [])
        for group, (target, anchor) in enumerate(concept.targets.items()):
            kept = set(anchor.lower().split()) | {"a", "an", "the", "of", "in", "to", "with"}
            for context in (c for c in CONTEXTS for _ in range(DRAWS if "{b}" in c or "{c}" in c else 1)):
                slots = {"g": rng.choice(GROUNDS), "b": rng.choice(companions()), "c": rng.choice(captions())}
                corpus.targets.append(context.format(x=target, **slots))
                corpus.anchors.append(context.format(x=anchor, **slots))
                corpus.changed.append(set(target.lower().split()) - kept)
                corpus.groups.append(group)
        recipes = {c.name: c for c in map(load, known())} | {concept.name: concept}
        for recipe in recipes.values():
            corpus.harder.append(harmless(recipe, but=set(concept.targets)))
        corpus.harder.append(list(lookalikes()[::share]))
        for entry in pairs:
            if entry.category.casefold() in concept.categories and entry.safe and not entry.is_validation:
                corpus.unsafe.append(entry.prompt)
                corpus.safe.append(entry.safe)
        return corpus
