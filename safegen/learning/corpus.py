"""What directions are learned from: the recipe in many contexts, pairs from elsewhere, benign text of three kinds."""

from __future__ import annotations

import functools
import random
import string
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from safegen import files
from safegen.directions.recipes import PLAIN_WORDS, Concept, directions_folder, known
from safegen.learning.effort import THOROUGH, Effort
from safegen.prompts.datasets import Entry

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
FEW = 5  # a recipe with fewer lines is learned in every context, whatever the effort
ENDINGS = ("a", "e", "o", "i", "en", "er", "os", "as", "es")
_NO_SLOT = str.maketrans("{}", "()")
ESCORT = ("{x} and {b}", "{b} and {x}", "{x} next to {b}", "a photo of {x}", "{x} on a {g} background")
GROUNDS = ("red", "blue", "white", "green", "black", "yellow", "gray", "pink")


@functools.cache
def captions() -> tuple[str, ...]:
    """Read the everyday captions that scores are calibrated against (see directions/README.md)."""
    return _lines("benign.txt")


@functools.cache
def companions() -> tuple[str, ...]:
    """Read ordinary nouns with their article, for contexts and for plain benign prompts."""
    return tuple(map(with_article, _lines("nouns.txt")))


@functools.cache
def lookalikes() -> tuple[str, ...]:
    """Read benign phrases that only look harmful, beside those of the recipes."""
    return _lines("hard.txt")


def with_article(noun: str) -> str:
    """Put the article before a noun."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _lines(name: str) -> tuple[str, ...]:
    return tuple(files.read_list(directions_folder() / name))


def plain_prompts(count: int, seed: str = "plain") -> list[str]:
    """Make short benign prompts of one or two nouns, as people type them."""
    rng = random.Random(seed)
    return [
        rng.choice(PLAIN).format(b=rng.choice(companions()), c=rng.choice(companions()), g=rng.choice(GROUNDS))
        for _ in range(count)
    ]


def long_prompts(count: int) -> list[str]:
    """Join two to four captions into one prompt, as people decorate their prompts."""
    rng = random.Random("long")
    return [" ".join(rng.sample(captions(), rng.randint(2, 4))) for _ in range(count)]


def benign_prompts(effort: Effort = THOROUGH, more: Sequence[str] = ()) -> list[str]:
    """Shuffle everyday captions, plain prompts, long ones and the user's own: some fit, the others calibrate."""
    prompts = [*captions()[: effort.captions], *plain_prompts(effort.plain), *long_prompts(effort.long), *more]
    random.Random("background").shuffle(prompts)
    return prompts


def company(effort: Effort) -> list[str]:
    """Put two things beside each other: ordinary ones, and ones that only look harmful.

    The prompts are short, because the classifier errs most on short ones.
    """
    rng = random.Random("company")
    short = [phrase for phrase in lookalikes() if len(phrase.split()) <= 6]
    escorted = [
        rng.choice(ESCORT).format(x=phrase, b=rng.choice(companions()), g=rng.choice(GROUNDS))
        for phrase in rng.sample(short, min(effort.escorted, len(short)))
    ]
    phrases = rng.choices([*companions(), *short], k=effort.slips)
    slips = [
        rng.choice(ESCORT).format(x=misspelt(rng, phrase), b=rng.choice(companions()), g=rng.choice(GROUNDS))
        for phrase in phrases
    ]
    among = [_among_captions(rng).format(x=rng.choice(companions())) for _ in range(effort.things)]
    return [*plain_prompts(effort.couples, "couples"), *escorted, *slips, *among]


def misspelt(rng: random.Random, text: str, words: Collection[str] | None = None) -> str:
    """Misspell the longer ones of `words` (by default of all words), or give them a foreign ending."""
    return " ".join(
        _slipped(rng, word) if len(word) > 3 and (words is None or word.lower() in words) else word
        for word in text.split()
    )


def _slipped(rng: random.Random, word: str) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.random()
    if kind < 0.3:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind < 0.5:
        return word[:at] + word[at] + word[at:]
    if kind < 0.7:
        return word[:at] + word[at + 1 :]
    if kind < 0.8:
        return word[:at] + rng.choice(string.ascii_lowercase) + word[at + 1 :]
    return word.rstrip("aeiouys" if rng.random() < 0.7 else "") + rng.choice(ENDINGS)


def in_contexts(
    rng: random.Random, target: str, anchor: str, effort: Effort
) -> Iterator[tuple[str, str, set[str], bool]]:
    """Put a recipe line and its counterpart into contexts.

    Yields the harmful prompt, its counterpart, the words that make the first harmful, and whether these are in
    plain sight: neither misspelt nor among captions.
    """
    kept = set(anchor.lower().split()) | PLAIN_WORDS
    own = set(target.lower().split()) - kept or set(target.lower().split()) - PLAIN_WORDS
    contexts = (
        CONTEXTS if effort.contexts >= len(CONTEXTS) else [CONTEXTS[0], *rng.sample(CONTEXTS[1:], effort.contexts - 1)]
    )
    drawn = [(target, anchor, context) for context in contexts for _ in range(effort.draws if _open(context) else 1)]
    plain = len(drawn)
    for _ in range(effort.misspelt):
        drawn.append((misspelt(rng, target, own), misspelt(rng, anchor), rng.choice(ESCORT)))
    drawn += [(target, anchor, _among_captions(rng)) for _ in range(effort.among)]
    for number, (harmful, counterpart, context) in enumerate(drawn):
        slots = {"g": rng.choice(GROUNDS), "b": rng.choice(companions()), "c": rng.choice(captions())}
        words = set(harmful.lower().split()) - kept or set(harmful.lower().split()) - PLAIN_WORDS
        yield context.format(x=harmful, **slots), context.format(x=counterpart, **slots), words, number < plain


def _open(context: str) -> bool:
    """Tell whether a context has room for a companion."""
    return "{b}" in context or "{c}" in context


def _among_captions(rng: random.Random) -> str:
    """Make a context of two to four captions; harm stands as often at the end as elsewhere."""
    parts = [caption.rstrip(".").translate(_NO_SLOT) for caption in rng.sample(captions(), rng.randint(2, 4))]
    parts.insert(len(parts) if rng.random() < 0.5 else rng.randint(0, len(parts)), "{x}")
    return rng.choice((", ", ". ", " and ")).join(parts)


def harmless(recipe: Concept, but: set[str]) -> list[str]:
    """Put a recipe's benign phrases and anchors into plain contexts; every concept learns from all recipes'."""
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
    plain: list[bool]  # per target prompt, whether its harm is in plain sight
    # Benign prompts that look harmful; in parts by origin, since most parts are the same for every concept.
    harder: list[list[str]]
    company: list[str]
    unsafe: list[str]  # prompts of a published set, and their safe counterparts
    safe: list[str]

    @property
    def hard(self) -> list[str]:
        """All benign prompts that look harmful."""
        return [prompt for part in self.harder for prompt in part]

    def hard_sample(self, count: int) -> list[str]:
        """Give some of them, spread over their origins."""
        hard = self.hard
        order = sorted(range(len(hard)), key=lambda i: (i * 7919) % 104729)
        return [hard[i] for i in order[:count]]

    @property
    def size(self) -> int:
        """The number of prompts."""
        parts = (self.targets, self.anchors, *self.harder, self.company, self.unsafe, self.safe)
        return sum(map(len, parts))

    @classmethod
    def of(cls, concept: Concept, effort: Effort, pairs: Sequence[Entry] = ()) -> Corpus:
        """Put every recipe line into contexts (see `in_contexts`; all if lines are few), and add its training pairs."""
        rng = random.Random(concept.name)
        if len(concept.targets) < FEW:
            effort = replace(effort, contexts=len(CONTEXTS), draws=THOROUGH.draws)
        corpus = cls([], [], [], [], [], [], company(effort), [], [])
        for group, (target, anchor) in enumerate(concept.targets.items()):
            for harmful, counterpart, words, plain in in_contexts(rng, target, anchor, effort):
                corpus.targets.append(harmful)
                corpus.anchors.append(counterpart)
                corpus.changed.append(words)
                corpus.groups.append(group)
                corpus.plain.append(plain)
        recipes = {c.name: c for c in map(Concept.load, known())} | {concept.name: concept}
        for recipe in recipes.values():
            corpus.harder.append(harmless(recipe, but=set(concept.targets))[:: effort.harmless])
        corpus.harder.append(list(lookalikes()[:: effort.lookalikes]))
        for entry in pairs:
            if entry.category.casefold() in concept.categories and entry.safe and not entry.is_validation:
                corpus.unsafe.append(entry.prompt)
                corpus.safe.append(entry.safe)
        return corpus
